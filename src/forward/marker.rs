//! The marker: what a batch of ours is recognised by in an upstream partition.
//!
//! ```text
//! producer_id     i64   XXH3-64 of the postcard tuple (ring id, sink, lane, incarnation, upstream topic, partition); never -1
//! producer_epoch  i16   bits 32..48 of the seq of the batch's last ring record
//! first_sequence  i32   bits  0..32 of it
//! ```
//!
//! 48 bits of seq last for 8,900 years at 1,000 records a second. -1 is what batches without a producer carry. The
//! incarnation stands where a stream's number will: both only have to make ids differ.

use twox_hash::XxHash3_64;

use crate::lane::LaneId;
use crate::record::Origin;

/// Identifies (ring, sink, lane, incarnation, upstream partition) in batch headers.
pub fn producer_id(ring: u128, sink: &str, lane: LaneId, incarnation: u32, topic: &str, partition: u32) -> i64 {
    let tuple = (ring, sink, lane.0, incarnation, topic, partition);
    // A tuple of numbers and strings always encodes; an empty input would still give a valid, if shared, id.
    let bytes = postcard::to_allocvec(&tuple).unwrap_or_default();
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
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_marker_comes_back_from_its_header_fields(id: i64, number in 0..1u64 << 48) {
            let marker = Marker { id, number };
            prop_assert_eq!(Marker::of_origin(marker.to_origin()), marker);
        }
    }

    #[test]
    fn every_part_of_the_tuple_changes_the_id() {
        let base = producer_id(7, "hq", LaneId(1), 0, "pump", 0);
        let others = [
            producer_id(8, "hq", LaneId(1), 0, "pump", 0),
            producer_id(7, "hr", LaneId(1), 0, "pump", 0),
            producer_id(7, "hq", LaneId(2), 0, "pump", 0),
            producer_id(7, "hq", LaneId(1), 1, "pump", 0),
            producer_id(7, "hq", LaneId(1), 0, "pumq", 0),
            producer_id(7, "hq", LaneId(1), 0, "pump", 1),
        ];
        assert!(others.iter().all(|o| *o != base && *o != -1), "{base} {others:?}");
    }

    /// Ids live in upstream logs for ever: a change of hash or tuple would send everything again.
    #[test]
    fn the_id_of_a_known_tuple_never_changes() {
        assert_eq!(producer_id(1, "hq", LaneId(1), 0, "pump", 0), 7_569_461_110_154_295_843);
    }
}
