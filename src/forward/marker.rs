//! The marker: what a batch of ours is recognised by in an upstream partition.
//!
//! ```text
//! producer_id     i64   XXH3-64 of the postcard tuple (ring id, sink, lane, incarnation, upstream topic, partition), behind it
//!                       (stream, its first seq) unless the stream is 0; never -1
//! producer_epoch  i16   bits 32..48 of the seq of the batch's last ring record
//! first_sequence  i32   bits  0..32 of it
//! ```
//!
//! 48 bits of seq last for 8,900 years at 1,000 records a second. -1 is what batches without a producer carry.

use twox_hash::XxHash3_64;

use super::identity::Identity;
use crate::record::Origin;

/// Identifies (ring, sink, lane, stream, incarnation, upstream partition) in batch headers.
pub(super) fn producer_id(ring: u128, of: &Identity<'_>) -> i64 {
    let tuple = (ring, of.sink, of.lane.0, of.incarnation, of.topic, of.partition);
    // A tuple of numbers and strings always encodes; an empty input would still give a valid, if shared, id.
    let mut bytes = postcard::to_allocvec(&tuple).unwrap_or_default();
    if of.stream.number > 0 {
        // No tuple without it encodes to this: it says itself how long it is.
        bytes.extend(postcard::to_allocvec(&(of.stream.number, of.stream.start)).unwrap_or_default());
    }
    match XxHash3_64::oneshot(&bytes) as i64 {
        -1 => -2,
        id => id,
    }
}

/// One batch's marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marker {
    pub id: i64,
    /// Seq of the last ring record in the batch; 48 bits.
    pub number: u64,
}

impl Marker {
    pub fn to_origin(self) -> Origin {
        Origin {
            producer_id: self.id,
            producer_epoch: (self.number >> 32) as u16 as i16,
            first_sequence: self.number as u32 as i32,
        }
    }

    pub fn of_origin(origin: Origin) -> Self {
        let high = u64::from(origin.producer_epoch as u16);
        Self { id: origin.producer_id, number: high << 32 | u64::from(origin.first_sequence as u32) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forward::Stream;
    use crate::lane::LaneId;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_marker_comes_back_from_its_header_fields(id: i64, number in 0..1u64 << 48) {
            let marker = Marker { id, number };
            prop_assert_eq!(Marker::of_origin(marker.to_origin()), marker);
        }
    }

    fn of<'a>(
        sink: &'a str,
        lane: u8,
        incarnation: u32,
        topic: &'a str,
        partition: u32,
        stream: (u32, u64),
    ) -> Identity<'a> {
        let stream = Stream { number: stream.0, start: stream.1, unstarted: false };
        Identity { sink, lane: LaneId(lane), stream, incarnation, topic, partition }
    }

    #[test]
    fn every_part_of_the_tuple_changes_the_id() {
        let base = producer_id(7, &of("hq", 1, 0, "pump", 0, (0, 5)));
        let others = [
            producer_id(8, &of("hq", 1, 0, "pump", 0, (0, 5))),
            producer_id(7, &of("hr", 1, 0, "pump", 0, (0, 5))),
            producer_id(7, &of("hq", 2, 0, "pump", 0, (0, 5))),
            producer_id(7, &of("hq", 1, 1, "pump", 0, (0, 5))),
            producer_id(7, &of("hq", 1, 0, "pumq", 0, (0, 5))),
            producer_id(7, &of("hq", 1, 0, "pump", 1, (0, 5))),
            producer_id(7, &of("hq", 1, 0, "pump", 0, (1, 5))),
            producer_id(7, &of("hq", 1, 0, "pump", 0, (2, 5))),
            producer_id(7, &of("hq", 1, 0, "pump", 0, (1, 6))),
        ];
        assert!(others.iter().all(|o| *o != base && *o != -1), "{base} {others:?}");
        assert!((0..others.len()).all(|i| !others[..i].contains(&others[i])), "{others:?}");
    }

    /// Ids live in upstream logs for ever: a change of hash or tuple would send everything again.
    #[test]
    fn the_id_of_a_known_tuple_never_changes() {
        assert_eq!(producer_id(1, &of("hq", 1, 0, "pump", 0, (0, 9))), 7_569_461_110_154_295_843);
    }
}
