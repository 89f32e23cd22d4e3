//! Who may send next: how the bytes are shared between lanes, and in a lane between what is new and what has waited.
//!
//! Each has a debt: the bytes that were sent of it, divided by its weight. Whoever has less than another one that wants to send
//! as well is owed something, and the other one leaves it the line. So of those that want to send at least one may, none is left
//! out for good, and while all of them want to, no one is ahead of its share by more than a batch.
//!
//! What is not used goes to the others at once, and is not saved up: who comes back after a while begins with the debt of
//! those that sent meanwhile. So what is new, where it is less than its share, never waits for what is old.
//!
//! Without weights the lanes leave each other nothing: whoever drives asks them in their order. A lane's newest stream has all
//! of the lane's share unless it is told otherwise, and then the older ones have what it leaves.
//!
//! Bytes are counted when they are sent; a batch that fills meanwhile goes as well. So over a connection the shares are off by
//! two batches for each partition, and not by more however long it lasts.

use crate::lane::LaneId;
use crate::limits::MAX_LANES;

/// A share is so many parts of these.
pub const WHOLE: u16 = 1000;

/// Debts are counted in these parts of a byte, so that nothing is lost by dividing.
const PARTS: u64 = 1 << 16;

/// Those that send or could.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanting(u32);

const _: () = assert!(2 * MAX_LANES <= 32);

impl Wanting {
    /// A lane's newest stream, or its older ones.
    pub fn add(&mut self, lane: LaneId, newest: bool) {
        self.0 |= 1 << (2 * lane.index() + usize::from(newest)).min(31);
    }

    fn has(self, lane: usize, newest: usize) -> bool {
        self.0 & 1 << (2 * lane + newest) != 0
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Account {
    debt: u64,
    wants: bool,
}

/// Accounts among which something is shared.
#[derive(Clone, Copy, Debug)]
struct Level<const N: usize> {
    accounts: [Account; N],
    /// With what debt one begins that did not want to send.
    floor: u64,
}

impl<const N: usize> Default for Level<N> {
    fn default() -> Self {
        Self { accounts: [Account::default(); N], floor: 0 }
    }
}

impl<const N: usize> Level<N> {
    fn look(&mut self, wants: impl Fn(usize) -> bool) {
        let still = self.accounts.iter().enumerate().filter(|(i, account)| account.wants && wants(*i));
        let floor = still.map(|(_, account)| account.debt).min();
        self.floor = self.floor.max(floor.unwrap_or_default());
        for (i, account) in self.accounts.iter_mut().enumerate() {
            if wants(i) && !account.wants {
                account.debt = account.debt.max(self.floor);
            }
            account.wants = wants(i);
        }
    }

    fn sent(&mut self, i: usize, bytes: u64, weight: u64) {
        let account = &mut self.accounts[i];
        account.debt = account.debt.saturating_add(bytes.saturating_mul(PARTS) / weight.max(1));
    }

    fn gives_way(&self, i: usize) -> bool {
        self.accounts.iter().any(|other| other.wants && other.debt < self.accounts[i].debt)
    }
}

/// See the module's essay.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// Of each lane, where there are any.
    weights: Option<[u32; MAX_LANES]>,
    /// What of a lane's bytes is for its newest stream.
    live: u16,
    lanes: Level<MAX_LANES>,
    /// Of each lane: its older streams, its newest one.
    streams: [Level<2>; MAX_LANES],
}

impl Schedule {
    /// `live`: parts of [`WHOLE`]. `weights`: lanes that are not named have 1; none: the lanes go in their order.
    pub fn new(live: u16, weights: &[(LaneId, u32)]) -> Self {
        debug_assert!((1..=WHOLE).contains(&live) && weights.iter().all(|(_, weight)| *weight > 0));
        let mut all = [1; MAX_LANES];
        for (lane, weight) in weights {
            all.iter_mut().skip(lane.index()).take(1).for_each(|known| *known = *weight);
        }
        let weights = (!weights.is_empty()).then_some(all);
        Self { weights, live, lanes: Level::default(), streams: [Level::default(); MAX_LANES] }
    }

    /// Whether lanes leave each other the line.
    pub fn has_weights(&self) -> bool {
        self.weights.is_some()
    }

    /// Who wants to send now. To be told before [`Self::gives_way`] is asked, whenever it may have changed.
    pub fn look(&mut self, wanting: Wanting) {
        self.lanes.look(|lane| wanting.has(lane, 0) || wanting.has(lane, 1));
        for (lane, streams) in self.streams.iter_mut().enumerate() {
            streams.look(|newest| wanting.has(lane, newest));
        }
    }

    /// Whether a lane's newest stream, or its older ones, leave the line to another that wants to send.
    pub fn gives_way(&self, lane: LaneId, newest: bool) -> bool {
        let Some(streams) = self.streams.get(lane.index()) else { return false };
        let in_lane = match self.live {
            WHOLE => !newest && streams.accounts[1].wants,
            _ => streams.gives_way(usize::from(newest)),
        };
        in_lane || self.weights.is_some() && self.lanes.gives_way(lane.index())
    }

    /// So much was sent.
    pub fn sent(&mut self, lane: LaneId, newest: bool, bytes: u64) {
        let at = lane.index().min(MAX_LANES - 1);
        let share = if newest { self.live } else { WHOLE - self.live };
        self.streams[at].sent(usize::from(newest), bytes, u64::from(share));
        self.lanes.sent(at, bytes, self.weights.map_or(1, |weights| u64::from(weights[at])));
    }

    /// The lane was split: what was its newest stream is one of the older ones now.
    pub fn split(&mut self, lane: LaneId) {
        self.streams.iter_mut().skip(lane.index()).take(1).for_each(|streams| *streams = Level::default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The largest batch.
    const MOST: u64 = 1000;

    /// Lines that always or sometimes want to send, each with its bytes sent.
    struct Lines {
        schedule: Schedule,
        lines: Vec<(LaneId, bool)>,
        sent: Vec<u64>,
    }

    impl Lines {
        fn lanes(weights: &[u32]) -> Self {
            let weights: Vec<_> = weights.iter().enumerate().map(|(i, w)| (LaneId(i as u8), *w)).collect();
            let lines: Vec<_> = weights.iter().map(|(lane, _)| (*lane, true)).collect();
            Self { schedule: Schedule::new(WHOLE, &weights), sent: vec![0; lines.len()], lines }
        }

        fn streams(live: u16) -> Self {
            let lines = vec![(LaneId(0), false), (LaneId(0), true)];
            Self { schedule: Schedule::new(live, &[]), sent: vec![0; 2], lines }
        }

        /// Those that want to send and may; of them `pick` sends a batch. None: nobody may.
        fn step(&mut self, wants: impl Fn(usize) -> bool, pick: usize, bytes: u64) -> Option<usize> {
            let mut wanting = Wanting::default();
            let want = self.lines.iter().enumerate().filter(|(i, _)| wants(*i));
            want.for_each(|(_, (lane, newest))| wanting.add(*lane, *newest));
            self.schedule.look(wanting);
            let may = |i: &usize| wants(*i) && !self.schedule.gives_way(self.lines[*i].0, self.lines[*i].1);
            let may: Vec<_> = (0..self.lines.len()).filter(may).collect();
            let i = *may.get(pick % may.len().max(1))?;
            self.schedule.sent(self.lines[i].0, self.lines[i].1, bytes);
            self.sent[i] += bytes;
            Some(i)
        }
    }

    fn batches() -> impl Strategy<Value = Vec<(usize, u64)>> {
        proptest::collection::vec((0..8usize, 1..=MOST), 1..400)
    }

    proptest! {
        #[test]
        fn what_always_wants_to_send_gets_its_share_to_within_a_batch(
            weights in proptest::collection::vec(1..20u32, 2..6),
            batches in batches(),
        ) {
            let mut lines = Lines::lanes(&weights);
            let sum: u64 = weights.iter().map(|w| u64::from(*w)).sum();
            for (pick, bytes) in batches {
                prop_assert!(lines.step(|_| true, pick, bytes).is_some(), "nobody may send");
                let total: u64 = lines.sent.iter().sum();
                for (sent, weight) in lines.sent.iter().zip(&weights) {
                    let ideal = total * u64::from(*weight) / sum;
                    prop_assert!(*sent <= ideal + MOST + 1, "{sent} of {total}, its share is {ideal}");
                    // Each of the others is ahead by a batch at most.
                    let behind = MOST * (weights.len() as u64 - 1) + 1;
                    prop_assert!(sent + behind >= ideal, "{sent} of {total}, its share is {ideal}");
                }
            }
        }

        #[test]
        fn what_is_new_and_what_has_waited_get_their_shares_to_within_a_batch(live in 1..WHOLE, batches in batches()) {
            let mut lines = Lines::streams(live);
            for (pick, bytes) in batches {
                prop_assert!(lines.step(|_| true, pick, bytes).is_some());
                let total: u64 = lines.sent.iter().sum();
                let ideal = total * u64::from(live) / u64::from(WHOLE);
                prop_assert!(lines.sent[1].abs_diff(ideal) <= MOST + 1, "{:?}, {ideal}", lines.sent);
            }
        }

        #[test]
        fn whoever_wants_to_send_does_and_somebody_always_may(
            weights in proptest::collection::vec(1..20u32, 2..6),
            turns in proptest::collection::vec((any::<u8>(), 0..8usize, 1..=MOST), 1..400),
        ) {
            let mut lines = Lines::lanes(&weights);
            let sum: u64 = weights.iter().map(|w| u64::from(*w)).sum();
            let mut waits = vec![0; weights.len()];
            for (wants, pick, bytes) in turns {
                let wants = |i: usize| wants & 1 << i != 0;
                let anyone = (0..weights.len()).any(wants);
                let sender = lines.step(wants, pick, bytes);
                prop_assert_eq!(sender.is_some(), anyone, "the line is idle although somebody wants to send");
                for (i, waited) in waits.iter_mut().enumerate() {
                    *waited = if !wants(i) || sender == Some(i) { 0 } else { *waited + bytes };
                    // What it is behind, and a batch of each of the others.
                    let most = (MOST + 1) * sum / u64::from(weights[i]) + 2 * MOST * weights.len() as u64;
                    prop_assert!(*waited <= most, "{waited} bytes were sent while {i} waited");
                }
            }
        }

        #[test]
        fn what_comes_back_has_saved_nothing_up(live in 1..WHOLE, alone in batches(), together in batches()) {
            let mut lines = Lines::streams(live);
            for (_, bytes) in alone {
                prop_assert_eq!(lines.step(|i| i == 0, 0, bytes), Some(0));
            }
            lines.sent = vec![0; 2];
            for (at, (pick, bytes)) in together.into_iter().enumerate() {
                // It is what the wait was for: it goes as soon as it is there.
                let sender = lines.step(|_| true, if at == 0 { 1 } else { pick }, bytes);
                prop_assert!(at > 0 || sender == Some(1));
                let total: u64 = lines.sent.iter().sum();
                let ideal = total * u64::from(live) / u64::from(WHOLE);
                prop_assert!(lines.sent[1].abs_diff(ideal) <= 2 * MOST, "{:?}, {ideal}", lines.sent);
            }
        }

        #[test]
        fn without_weights_no_lane_leaves_another_the_line_and_what_is_new_goes_first(
            turns in proptest::collection::vec((any::<u8>(), 1..=MOST), 1..100),
        ) {
            let mut schedule = Schedule::new(WHOLE, &[]);
            let lines: Vec<_> = (0..8).map(|i| (LaneId(i / 2), i % 2 == 1)).collect();
            for (wants, bytes) in turns {
                let mut wanting = Wanting::default();
                let wants = |i: usize| wants & 1 << i != 0;
                (0..8).filter(|i| wants(*i)).for_each(|i| wanting.add(lines[i].0, lines[i].1));
                schedule.look(wanting);
                for (i, (lane, newest)) in lines.iter().enumerate().filter(|(i, _)| wants(*i)) {
                    prop_assert_eq!(schedule.gives_way(*lane, *newest), !newest && wants(i + 1));
                    schedule.sent(*lane, *newest, bytes);
                }
            }
        }
    }

    #[test]
    fn lanes_share_first_and_then_each_its_streams() {
        let (urgent, bulk) = (LaneId(0), LaneId(2));
        let lines = vec![(urgent, false), (urgent, true), (bulk, false), (bulk, true)];
        let schedule = Schedule::new(750, &[(urgent, 3), (bulk, 1)]);
        let mut lines = Lines { schedule, sent: vec![0; lines.len()], lines };
        for _ in 0..1600 {
            assert!(lines.step(|_| true, 0, 10).is_some());
        }
        assert_eq!(lines.sent, [3000, 9000, 1000, 3000]);
        // A lane of which nothing waits: the other has everything, and a lane that is not named has a weight of 1.
        lines.lines.push((LaneId(1), true));
        lines.sent = vec![0; 5];
        for _ in 0..400 {
            assert!(lines.step(|i| i > 1, 0, 10).is_some());
        }
        assert_eq!((lines.sent[0], lines.sent[1]), (0, 0));
        assert!(lines.sent[4].abs_diff(2000) <= 10, "{:?}", lines.sent);
    }
}
