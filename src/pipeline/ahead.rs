//! What a sink has made of records that its cursor has not passed yet.
//!
//! Records are noted one by one as they are read, in order; whatever is noted again after a loss replaces what was noted
//! from there on. Nothing is kept of a single record: they are summed up by partition, from one place where the cursor may
//! come to rest to the next. Such places are where a batch begins, so there are no more sums than batches times
//! partitions; beyond [`MAX_CELLS`] of them neighbours are joined, and a cursor that stops in between leaves what it
//! passed without a topic.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::{Counts, Tally};
use crate::time::BootTime;
use crate::topic::TopicPart;

/// Sums of one partition that are kept apart.
const MAX_CELLS: usize = 4096;

/// What became of a record that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Delivered,
    Filtered,
    Refused,
    Expired,
    Released,
}

/// A time of the boot clock, and in which boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct When {
    pub boot: u32,
    pub at: BootTime,
}

/// One record, as it is noted.
#[derive(Clone, Copy, Debug)]
pub struct Note {
    pub ordinal: u64,
    pub part: TopicPart,
    pub offset: u64,
    /// When it was admitted.
    pub when: When,
    pub fate: Fate,
    /// The cursor may come to rest before it.
    pub stop: bool,
}

/// Records of one partition that have expired: the first offset, one past the last, and the times of both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Expired {
    pub from: u64,
    pub to: u64,
    pub first: When,
    pub last: When,
}

/// Records of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cell {
    pub part: TopicPart,
    pub tally: Tally,
    /// One past the last offset.
    pub next: u64,
    /// Where they begin and end; there are `tally.expired` of them.
    pub expired: Option<Expired>,
}

/// The records between two places where the cursor may come to rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub from: u64,
    pub to: u64,
    pub cells: Vec<Cell>,
    /// When its last record was admitted.
    pub seen: When,
}

impl Cell {
    fn new(part: TopicPart) -> Self {
        Self { part, tally: Tally::default(), next: 0, expired: None }
    }

    fn add(&mut self, note: &Note) {
        match note.fate {
            Fate::Delivered => self.tally.delivered += 1,
            Fate::Filtered => self.tally.filtered += 1,
            Fate::Refused => self.tally.refused += 1,
            Fate::Released => self.tally.released += 1,
            Fate::Expired => {
                self.tally.expired += 1;
                let (from, first) = self.expired.map_or((note.offset, note.when), |e| (e.from, e.first));
                self.expired = Some(Expired { from, to: note.offset + 1, first, last: note.when });
            }
        }
        self.next = self.next.max(note.offset + 1);
    }

    /// What counts for the topic: released records have none.
    pub fn counts(&self) -> Counts {
        let Tally { delivered, filtered, refused, expired, .. } = self.tally;
        Counts { delivered, filtered, refused, expired, ..Counts::default() }
    }
}

/// Everything noted ahead of the cursor.
#[derive(Clone, Debug, Default)]
pub(super) struct Ahead {
    segments: VecDeque<Segment>,
    cells: usize,
}

impl Ahead {
    pub fn note(&mut self, note: &Note) {
        if self.segments.back().is_some_and(|last| note.ordinal < last.to) {
            self.cut(note.ordinal);
        }
        let follows = self.segments.back().is_some_and(|last| last.to == note.ordinal);
        if !follows || note.stop && self.cells < MAX_CELLS {
            let (from, cells) = (note.ordinal, Vec::new());
            self.segments.push_back(Segment { from, to: from, cells, seen: note.when });
        }
        let Some(segment) = self.segments.back_mut() else { return };
        segment.to = note.ordinal + 1;
        segment.seen = note.when;
        // The records of a frame stand together by partition.
        let at = segment.cells.iter().rposition(|cell| cell.part == note.part);
        let at = at.unwrap_or_else(|| {
            segment.cells.push(Cell::new(note.part));
            self.cells += 1;
            segment.cells.len() - 1
        });
        segment.cells[at].add(note);
    }

    /// From this ordinal on nothing is known: it is read again. What it cuts in two is not known either.
    pub fn cut(&mut self, ordinal: u64) {
        while let Some(last) = self.segments.back().filter(|last| last.to > ordinal) {
            self.cells -= last.cells.len();
            self.segments.pop_back();
        }
    }

    /// The next records below `to`, if all of them are.
    pub fn pass(&mut self, to: u64) -> Option<Segment> {
        let next = self.segments.front().filter(|next| next.to <= to)?;
        self.cells -= next.cells.len();
        self.segments.pop_front()
    }

    /// What began below `to` and was not passed as a whole is of no use any more.
    pub fn drop_below(&mut self, to: u64) {
        while let Some(next) = self.segments.front().filter(|next| next.from < to) {
            self.cells -= next.cells.len();
            self.segments.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::topic::TopicId;

    fn note(ordinal: u64, topic: u16, fate: Fate, stop: bool) -> Note {
        let part = TopicPart { topic: TopicId(topic), partition: 0 };
        let when = When { boot: 1, at: BootTime(ordinal as i64) };
        Note { ordinal, part, offset: ordinal, when, fate, stop }
    }

    const FATES: [Fate; 5] = [Fate::Delivered, Fate::Filtered, Fate::Refused, Fate::Expired, Fate::Released];

    fn sum(segments: &[Segment], topic: u16) -> Tally {
        let cells = segments.iter().flat_map(|s| &s.cells).filter(|c| c.part.topic.0 == topic);
        cells.fold(Tally::default(), |sum, cell| sum.plus(cell.tally))
    }

    proptest! {
        #[test]
        fn what_is_passed_is_what_was_noted_last_wherever_the_cursor_may_rest(
            records in proptest::collection::vec((0..3u16, 0..5usize, any::<bool>()), 1..120),
            back in 0..120usize,
            rest in 0..120usize,
        ) {
            let mut ahead = Ahead::default();
            let back = back.min(records.len());
            for (at, (topic, _, _)) in records[..back].iter().enumerate() {
                ahead.note(&note(at as u64, *topic, Fate::Refused, at % 5 == 0));
            }
            // Something was lost: all of it is read again and becomes something else.
            for (at, (topic, fate, stop)) in records.iter().enumerate() {
                ahead.note(&note(at as u64, *topic, FATES[*fate], *stop || at == rest));
            }
            let rest = rest.min(records.len());
            let passed: Vec<_> = std::iter::from_fn(|| ahead.pass(rest as u64)).collect();
            prop_assert_eq!(passed.last().map_or(0, |s| s.to), rest as u64);
            for topic in 0..3 {
                let mut true_sum = Tally::default();
                for (_, fate, _) in records[..rest].iter().filter(|r| r.0 == topic) {
                    match FATES[*fate] {
                        Fate::Delivered => true_sum.delivered += 1,
                        Fate::Filtered => true_sum.filtered += 1,
                        Fate::Refused => true_sum.refused += 1,
                        Fate::Expired => true_sum.expired += 1,
                        Fate::Released => true_sum.released += 1,
                    }
                }
                prop_assert_eq!(sum(&passed, topic), true_sum);
            }
            ahead.drop_below(u64::MAX);
            prop_assert_eq!((ahead.cells, ahead.segments.len()), (0, 0));
        }
    }

    #[test]
    fn sums_are_bounded_however_often_the_cursor_may_rest() {
        let mut ahead = Ahead::default();
        for at in 0..3 * MAX_CELLS as u64 {
            ahead.note(&note(at, (at % 7) as u16, Fate::Delivered, true));
        }
        assert!(ahead.cells <= MAX_CELLS + 7, "{}", ahead.cells);
        let all = std::iter::from_fn(|| ahead.pass(u64::MAX)).flat_map(|s| s.cells).map(|c| c.tally.delivered);
        assert_eq!(all.sum::<u64>(), 3 * MAX_CELLS as u64);
    }

    #[test]
    fn a_place_in_the_middle_of_a_sum_leaves_it_unknown() {
        let mut ahead = Ahead::default();
        (0..10).for_each(|at| ahead.note(&note(at, 1, Fate::Delivered, at == 0)));
        assert_eq!(ahead.pass(5), None);
        ahead.drop_below(5);
        assert_eq!(ahead.pass(10), None);
    }
}
