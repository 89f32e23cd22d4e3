//! The account of one sink in one lane: promise 2, kept in one state entry, atomic with the cursor.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::ring::{Gap, GapReason, LanePos, LaneStats, Ticket};

/// Gaps that a sink has met and not yet passed: as many holes as a reader can meet while one batch is on its way.
const MAX_OPEN_GAPS: usize = 1024;
/// Stored cursors that are not durable yet; a newer one then replaces the last.
const MAX_UNSETTLED: usize = 8;

/// What is stored: postcard, under the key `cursor/<lane>` of the sink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Where the sink was first configured.
    pub start: LanePos,
    /// Everything below is accounted for.
    pub cursor: LanePos,
    pub delivered: u64,
    pub filtered: u64,
    pub refused: u64,
    pub evicted: u64,
    pub expired: u64,
    pub corrupt: u64,
    pub lost_unsynced: u64,
    pub released: u64,
}

/// What became of records between two cursor positions, in ring records; gaps are added by the book itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub delivered: u64,
    pub filtered: u64,
    pub refused: u64,
    pub expired: u64,
    pub released: u64,
}

impl Tally {
    pub fn total(self) -> u64 {
        self.delivered + self.filtered + self.refused + self.expired + self.released
    }
}

impl Account {
    pub fn new(start: LanePos) -> Self {
        Self { start, cursor: start, ..Self::default() }
    }

    /// Everything that has been accounted for, by the identity of promise 2.
    pub fn settled(&self) -> u64 {
        self.delivered
            + self.filtered
            + self.refused
            + self.evicted
            + self.expired
            + self.corrupt
            + self.lost_unsynced
            + self.released
    }

    /// What holds at every moment: the records between start and cursor are all accounted for.
    pub fn balances(&self) -> bool {
        self.cursor.ordinal - self.start.ordinal == self.settled()
    }
}

/// A gap ahead of the cursor, in ordinals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Hole {
    from: u64,
    to: u64,
    reason: GapReason,
}

/// The live account: the stored one and the gaps ahead of the cursor.
#[derive(Clone, Debug, Default)]
pub(super) struct Book {
    pub account: Account,
    /// In order, without overlaps.
    gaps: VecDeque<Hole>,
    /// Changed since it was last given to the ring.
    pub dirty: bool,
    /// What a crash goes back to: the ring must keep everything from here on, or records that were delivered would be
    /// met again as evicted.
    floor: LanePos,
    unsettled: VecDeque<(Ticket, LanePos)>,
}

impl Book {
    pub fn new(account: Account) -> Self {
        let floor = account.cursor;
        Self { account, gaps: VecDeque::new(), dirty: true, floor, unsettled: VecDeque::new() }
    }

    /// The account was given to the ring under this ticket.
    pub fn stored(&mut self, ticket: Ticket) {
        if self.unsettled.len() == MAX_UNSETTLED {
            self.unsettled.pop_back();
        }
        self.unsettled.push_back((ticket, self.account.cursor));
        self.dirty = false;
    }

    /// The lowest place that this sink may still ask for, after any crash.
    pub fn floor(&mut self, settled: Ticket) -> LanePos {
        while let Some((_, at)) = self.unsettled.front().filter(|(ticket, _)| *ticket <= settled) {
            self.floor = *at;
            self.unsettled.pop_front();
        }
        self.floor
    }

    /// The reader met a gap. A sink that goes back to its cursor meets it again: it is noted once, as it was met last.
    pub fn met(&mut self, gap: &Gap) {
        let (from, to) = (gap.from.ordinal, gap.to.ordinal);
        self.forget(from, to);
        if from >= to || self.gaps.len() >= MAX_OPEN_GAPS {
            return;
        }
        self.dirty = true;
        let at = self.gaps.partition_point(|known| known.to <= from);
        self.gaps.insert(at, Hole { from, to, reason: gap.reason });
    }

    /// Whether the record is in a gap that this sink has met. It stays there even if it could be read again: later
    /// records were sent since, and their markers say that everything before them is there.
    pub fn missed(&self, ordinal: u64) -> bool {
        self.gaps.iter().any(|hole| hole.from <= ordinal && ordinal < hole.to)
    }

    /// The gaps ahead of the cursor, as they are stored; None: there are none.
    pub fn encode_gaps(&self) -> Option<Vec<u8>> {
        let gaps: Vec<_> = self.gaps.iter().map(|hole| (hole.from, hole.to, hole.reason)).collect();
        // Numbers and a unit variant always encode.
        (!gaps.is_empty()).then(|| postcard::to_allocvec(&gaps).unwrap_or_default())
    }

    pub fn restore_gaps(&mut self, stored: &[u8]) {
        let gaps: Vec<(u64, u64, GapReason)> = postcard::from_bytes(stored).unwrap_or_default();
        let ahead = gaps.into_iter().filter(|(_, to, _)| *to > self.account.cursor.ordinal);
        self.gaps = ahead.map(|(from, to, reason)| Hole { from, to, reason }).collect();
    }

    /// Gaps ahead of the cursor: ordinals and reason.
    pub fn gaps(&self) -> impl Iterator<Item = (u64, u64, GapReason)> {
        self.gaps.iter().map(|hole| (hole.from, hole.to, hole.reason))
    }

    /// Cuts `[from, to)` out of the gaps.
    fn forget(&mut self, from: u64, to: u64) {
        let around = |hole: &Hole| {
            let before = Hole { to: hole.to.min(from), ..*hole };
            let after = Hole { from: hole.from.max(to), ..*hole };
            [before, after].into_iter().filter(|hole| hole.from < hole.to)
        };
        self.gaps = self.gaps.iter().flat_map(around).collect();
    }

    /// Moves the cursor to `to`. Records passed that neither `tally` nor a gap explains would break the identity: they
    /// are a bug of the caller, found in tests by the assertion and in the field counted as released.
    pub fn advance(&mut self, to: LanePos, tally: Tally) {
        let account = &mut self.account;
        if to.ordinal < account.cursor.ordinal {
            return;
        }
        let passed = to.ordinal - account.cursor.ordinal;
        let mut explained = tally.total();
        while let Some(gap) = self.gaps.front().filter(|gap| gap.from < to.ordinal) {
            let from = gap.from.max(account.cursor.ordinal);
            let count = gap.to.min(to.ordinal).saturating_sub(from);
            *slot(account, gap.reason) += count;
            explained += count;
            if gap.to > to.ordinal {
                break;
            }
            self.gaps.pop_front();
        }
        debug_assert_eq!(passed, explained, "cursor moved over {passed} records, {explained} explained: {tally:?}");
        account.delivered += tally.delivered;
        account.filtered += tally.filtered;
        account.refused += tally.refused;
        account.expired += tally.expired;
        account.released += tally.released + passed.saturating_sub(explained);
        account.cursor = to;
        self.dirty = true;
    }

    /// The account as a person may see it now: what was evicted before the sink came to it is shown at once.
    pub fn as_of(&self, lane: &LaneStats) -> (Account, u64) {
        let mut account = self.account;
        let gone = lane.oldest.ordinal.saturating_sub(account.cursor.ordinal);
        account.evicted += gone;
        account.cursor.ordinal += gone;
        (account, lane.durable.ordinal.saturating_sub(account.cursor.ordinal))
    }
}

fn slot(account: &mut Account, reason: GapReason) -> &mut u64 {
    match reason {
        GapReason::Evicted => &mut account.evicted,
        GapReason::Expired => &mut account.expired,
        GapReason::Corrupt => &mut account.corrupt,
        GapReason::LostUnsynced => &mut account.lost_unsynced,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lane::LaneId;

    fn pos(n: u64) -> LanePos {
        LanePos { seq: n, ordinal: n }
    }

    fn gap(from: u64, to: u64, reason: GapReason) -> Gap {
        Gap { lane: LaneId(0), from: pos(from), to: pos(to), reason, parts: vec![] }
    }

    #[test]
    fn a_gap_is_counted_once_however_often_it_is_met() {
        let mut book = Book::new(Account::new(pos(10)));
        for _ in 0..3 {
            book.met(&gap(12, 20, GapReason::Evicted));
        }
        book.advance(pos(25), Tally { delivered: 4, filtered: 3, ..Tally::default() });
        assert_eq!((book.account.evicted, book.account.delivered), (8, 4));
        assert!(book.account.balances());
    }

    #[test]
    fn a_cursor_inside_a_gap_counts_the_part_it_passed() {
        let mut book = Book::new(Account::new(pos(0)));
        book.met(&gap(0, 10, GapReason::Corrupt));
        book.advance(pos(4), Tally::default());
        assert_eq!(book.account.corrupt, 4);
        book.advance(pos(12), Tally { delivered: 2, ..Tally::default() });
        assert_eq!(book.account.corrupt, 10);
        assert!(book.account.balances());
    }

    #[test]
    fn a_gap_that_was_met_stays_one_also_after_a_restart() {
        let mut book = Book::new(Account::new(pos(0)));
        book.met(&gap(10, 20, GapReason::Corrupt));
        book.met(&gap(18, 30, GapReason::Evicted));
        let stored = book.encode_gaps().unwrap();
        let mut book = Book::new(Account::new(pos(0)));
        book.restore_gaps(&stored);
        assert!(book.missed(10) && book.missed(29) && !book.missed(9) && !book.missed(30));
        book.advance(pos(40), Tally { delivered: 20, ..Tally::default() });
        assert_eq!((book.account.corrupt, book.account.evicted), (8, 12));
        assert!(book.account.balances() && book.encode_gaps().is_none());
    }

    #[test]
    fn what_was_evicted_ahead_of_a_sleeping_sink_is_shown_and_balances() {
        let book = Book::new(Account::new(pos(5)));
        let lane = LaneStats { oldest: pos(9), durable: pos(30), ..LaneStats::default() };
        let (account, pending) = book.as_of(&lane);
        assert_eq!((account.evicted, pending), (4, 21));
        assert_eq!(30 - account.start.ordinal, account.settled() + pending);
    }

    #[test]
    fn the_floor_follows_the_durable_cursor_and_never_the_live_one() {
        let mut book = Book::new(Account::new(pos(5)));
        book.advance(pos(9), Tally { delivered: 4, ..Tally::default() });
        assert_eq!(book.floor(Ticket(100)), pos(5), "not stored yet");
        book.stored(Ticket(101));
        assert_eq!(book.floor(Ticket(100)), pos(5), "not durable yet");
        assert_eq!(book.floor(Ticket(101)), pos(9));
    }

    #[test]
    fn the_account_survives_its_encoding() {
        let account = Account { delivered: 7, ..Account::new(pos(3)) };
        let bytes = postcard::to_allocvec(&account).unwrap();
        assert_eq!(postcard::from_bytes::<Account>(&bytes).unwrap(), account);
    }
}
