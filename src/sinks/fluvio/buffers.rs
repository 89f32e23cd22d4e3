//! The bytes of batches: at most one that fills and one that is sealed for each partition.

use super::encode::Records;
use crate::forward::Place;
use crate::limits::FRAME_RAW_TARGET;
use crate::pipeline::When;

/// Buffers kept for reuse.
const SPARE: usize = 2;

/// When the first and the last record of a batch were admitted: its oldest and its newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    pub first: When,
    pub last: When,
}

#[derive(Debug)]
struct Filled {
    batch: u64,
    records: Records,
    extent: Extent,
}

#[derive(Debug, Default)]
struct Pair {
    open: Option<Filled>,
    sealed: Option<Filled>,
}

#[derive(Debug, Default)]
pub struct Buffers {
    pairs: Vec<Pair>,
    spare: Vec<Records>,
}

impl Buffers {
    /// Puts one output where `forward` wants it.
    pub fn push(&mut self, place: Place, when: When, at_ms: i64, key: Option<&[u8]>, value: &[u8]) {
        let ix = place.target.0 as usize;
        if ix >= self.pairs.len() {
            self.pairs.resize_with(ix + 1, Pair::default);
        }
        let pair = &mut self.pairs[ix];
        if place.index == 0 {
            let mut records = self.spare.pop().unwrap_or_default();
            records.begin();
            let filled = Filled { batch: place.batch, records, extent: Extent { first: when, last: when } };
            pair.sealed = pair.open.replace(filled).or(pair.sealed.take());
        }
        if let Some(Filled { batch, records, extent }) = &mut pair.open {
            debug_assert_eq!(*batch, place.batch);
            extent.last = when;
            records.push(place.index, at_ms - place.base_ms, key, value);
        }
    }

    /// The bytes of a batch that is to be sent.
    pub fn take(&mut self, target: usize, batch: u64) -> Option<(Records, Extent)> {
        let pair = self.pairs.get_mut(target)?;
        let sealed = pair.sealed.as_ref().is_some_and(|filled| filled.batch == batch);
        let slot = if sealed { &mut pair.sealed } else { &mut pair.open };
        slot.take_if(|filled| filled.batch == batch).map(|filled| (filled.records, filled.extent))
    }

    pub fn discard(&mut self, target: usize) {
        if let Some(pair) = self.pairs.get_mut(target) {
            let pair = std::mem::take(pair);
            for filled in pair.open.into_iter().chain(pair.sealed) {
                self.give_back(filled.records);
            }
        }
    }

    pub fn give_back(&mut self, records: Records) {
        if self.spare.len() < SPARE {
            self.spare.push(records);
        }
    }

    /// Nothing waits: memory that a backlog needed does not stay.
    pub fn rest(&mut self) {
        for records in &mut self.spare {
            records.shrink(FRAME_RAW_TARGET);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forward::TargetIx;
    use crate::time::BootTime;

    fn when(at: i64) -> When {
        When { boot: 1, at: BootTime(at) }
    }

    fn place(batch: u64, index: u32) -> Place {
        Place { target: TargetIx(3), batch, index, base_ms: 0 }
    }

    #[test]
    fn a_batch_that_begins_seals_the_one_before_it() {
        let mut buffers = Buffers::default();
        buffers.push(place(7, 0), when(1), 0, None, b"a");
        buffers.push(place(7, 1), when(2), 0, None, b"b");
        buffers.push(place(8, 0), when(3), 0, None, b"c");
        assert!(buffers.take(3, 9).is_none());
        let (records, extent) = buffers.take(3, 7).unwrap();
        assert!(!records.is_empty());
        assert_eq!(extent, Extent { first: when(1), last: when(2) });
        assert_eq!(buffers.take(3, 8).unwrap().1, Extent { first: when(3), last: when(3) });
        assert!(buffers.take(3, 8).is_none());
    }

    #[test]
    fn a_discarded_target_holds_nothing() {
        let mut buffers = Buffers::default();
        buffers.push(place(7, 0), when(1), 0, None, b"a");
        buffers.discard(3);
        assert!(buffers.take(3, 7).is_none());
    }
}
