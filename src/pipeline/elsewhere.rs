//! Records of a lane that a sink has from another ring, or gets from there.
//!
//! A node whose disk fails goes on in memory, and comes back with what it has (see `node::carry`). Then there are records
//! in the disk's lanes that some sink has already: what it had passed in memory when another sink had not, and what the
//! disk turned out to hold although memory had taken it over. Each such stretch is noted for the sink, in one state entry
//! a lane, together with what became of it: the sink steps over it, and its account counts it when its cursor passes.
//! Ordinals are never given twice, so a stretch means the same records for ever.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::streams::cursor_key;
use super::{Account, Tally};
use crate::lane::LaneId;
use crate::ring::{Owner, Ring};
use crate::time::BootTime;

/// Ordinals `[from, to)` of a lane. What was neither delivered nor filtered counts as released: it went on elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stretch {
    pub from: u64,
    pub to: u64,
    pub delivered: u64,
    pub filtered: u64,
}

impl Stretch {
    /// Takes off what lies below `to`; what became of it.
    fn pass(&mut self, to: u64) -> Tally {
        let count = self.to.min(to).saturating_sub(self.from);
        let delivered = count.min(self.delivered);
        let filtered = (count - delivered).min(self.filtered);
        self.from += count;
        self.delivered -= delivered;
        self.filtered -= filtered;
        Tally { delivered, filtered, released: count - delivered - filtered, ..Tally::default() }
    }
}

/// Of one sink in one lane, or of a stream of it: the stretches ahead of its cursor, in order, without overlaps.
#[derive(Clone, Debug, Default)]
pub(super) struct Elsewhere {
    ahead: VecDeque<Stretch>,
    /// The ring has an entry of it.
    stored: bool,
}

impl Elsewhere {
    pub fn decode(stored: &[u8], cursor: u64) -> Self {
        let mut all = Self { ahead: postcard::from_bytes(stored).unwrap_or_default(), stored: true };
        all.pass(cursor);
        all
    }

    pub fn is_empty(&self) -> bool {
        self.ahead.is_empty()
    }

    /// True once, when the ring has an entry of it.
    pub fn take_stored(&mut self) -> bool {
        std::mem::take(&mut self.stored)
    }

    /// As it is stored; None: there is nothing ahead.
    pub fn encode(&self) -> Option<Vec<u8>> {
        // Numbers always encode.
        (!self.ahead.is_empty()).then(|| postcard::to_allocvec(&self.ahead).unwrap_or_default())
    }

    pub fn ahead(&self) -> impl Iterator<Item = Stretch> {
        self.ahead.iter().copied()
    }

    /// Takes off what lies from `at` on.
    pub fn split_off(&mut self, at: u64) -> Self {
        let split = self.ahead.partition_point(|s| s.from < at);
        let mut ahead = self.ahead.split_off(split);
        if let Some(last) = self.ahead.back_mut().filter(|last| last.to > at) {
            let mut rest = *last;
            let Tally { delivered, filtered, .. } = rest.pass(at);
            *last = Stretch { to: at, delivered, filtered, ..*last };
            ahead.push_front(rest);
        }
        Self { ahead, stored: self.stored }
    }

    /// What lies behind this stream is its own now.
    pub fn append(&mut self, mut next: Self) {
        self.ahead.append(&mut next.ahead);
        self.stored |= next.stored;
    }

    pub fn has(&self, ordinal: u64) -> bool {
        self.ahead.iter().any(|s| s.from <= ordinal && ordinal < s.to)
    }

    /// The cursor passes `to`: what became of the records here that it passed.
    pub fn pass(&mut self, to: u64) -> Tally {
        let mut sum = Tally::default();
        while let Some(first) = self.ahead.front_mut().filter(|s| s.from < to) {
            let Tally { delivered, filtered, released, .. } = first.pass(to);
            sum.delivered += delivered;
            sum.filtered += filtered;
            sum.released += released;
            if first.from < first.to {
                break;
            }
            self.ahead.pop_front();
        }
        sum
    }

    /// The parts of `[from, to)` that are not here.
    pub fn outside(&self, from: u64, to: u64) -> Vec<(u64, u64)> {
        let mut parts = Vec::new();
        let mut at = from;
        for s in self.ahead.iter().filter(|s| s.to > from && s.from < to) {
            parts.push((at, s.from));
            at = at.max(s.to);
        }
        parts.push((at, to));
        parts.retain(|(from, to)| from < to);
        parts
    }

    /// In place of what was noted from its beginning on.
    fn add(&mut self, stretch: Stretch) {
        self.ahead.retain(|s| s.from < stretch.from);
        if let Some(last) = self.ahead.back_mut() {
            last.to = last.to.min(stretch.from);
        }
        match self.ahead.back_mut().filter(|last| last.to == stretch.from) {
            Some(last) => {
                last.to = stretch.to;
                last.delivered += stretch.delivered;
                last.filtered += stretch.filtered;
            }
            None => self.ahead.push_back(stretch),
        }
    }
}

/// The state key of a sink's stretches in one lane.
pub(super) fn elsewhere_key(lane: LaneId) -> [u8; 11] {
    let mut key = *b"elsewhere/0";
    key[10] += lane.0;
    key
}

/// Notes in `ring` that a sink is not to get a stretch, in place of all that was noted from its beginning on; false when its
/// state has no room. To be put beside the stretch's records, or when they are durable: a stretch without them would stand for
/// others.
pub fn note_elsewhere(ring: &mut Ring, now: BootTime, owner: &Owner, lane: LaneId, stretch: Stretch) -> bool {
    let key = elsewhere_key(lane);
    let account = ring.state(owner, &cursor_key(lane)).and_then(|bytes| postcard::from_bytes::<Account>(bytes).ok());
    let cursor = account.map_or(0, |account| account.cursor.ordinal);
    let mut all = ring.state(owner, &key).map(|stored| Elsewhere::decode(stored, cursor)).unwrap_or_default();
    all.add(stretch);
    ring.put_state(now, owner, &key, all.encode().as_deref()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stretch(from: u64, to: u64, delivered: u64, filtered: u64) -> Stretch {
        Stretch { from, to, delivered, filtered }
    }

    #[test]
    fn each_record_of_a_stretch_is_counted_once_wherever_the_cursor_stops() {
        for stop in 0..=20 {
            let mut all = Elsewhere::default();
            all.add(stretch(5, 9, 3, 1));
            all.add(stretch(9, 12, 0, 0));
            all.add(stretch(15, 16, 1, 0));
            let first = all.pass(stop);
            // A restart in between: what is stored may be older than the cursor.
            let mut again = Elsewhere::decode(&all.encode().unwrap_or_default(), stop);
            let rest = again.pass(u64::MAX);
            assert_eq!(first.delivered + rest.delivered, 4, "{stop}");
            assert_eq!(first.filtered + rest.filtered, 1, "{stop}");
            assert_eq!(first.released + rest.released, 3, "{stop}");
        }
    }

    #[test]
    fn a_stretch_that_is_cut_keeps_its_counts() {
        for at in 4..=13 {
            let mut all = Elsewhere::default();
            all.add(stretch(5, 12, 3, 2));
            let mut rest = all.split_off(at);
            let (below, above) = (all.pass(u64::MAX), rest.pass(u64::MAX));
            assert_eq!(below.total() + above.total(), 7, "{at}");
            assert_eq!(below.total(), at.clamp(5, 12) - 5, "{at}");
            assert_eq!((below.delivered + above.delivered, below.filtered + above.filtered), (3, 2), "{at}");
        }
    }

    #[test]
    fn a_gap_has_only_what_is_in_no_stretch() {
        let mut all = Elsewhere::default();
        all.add(stretch(5, 9, 0, 0));
        all.add(stretch(12, 14, 0, 0));
        assert_eq!(all.outside(0, 20), [(0, 5), (9, 12), (14, 20)]);
        assert_eq!(all.outside(5, 9), []);
        assert_eq!(all.outside(6, 13), [(9, 12)]);
        assert!(all.has(5) && all.has(13) && !all.has(9) && !all.has(14));
    }
}
