//! What is kept of a producer that is another node, as a state entry: its newest batch in a partition, and whose it is.
//!
//! Key: topic, a zero byte, partition (u8), producer id. Value: number (u64), base offset (i64), records (u32), wall time in
//! microseconds (u64), and the id of the ring that its records come from (u128) where the producer has told it. All
//! big-endian, so that of two values of a producer the greater one is the newer one.

use super::{Kept, Store};
use crate::forward::turn::Newest;

/// The entry of one producer in one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Producer {
    pub newest: Newest,
    /// When it was heard of, in microseconds of wall time.
    pub at: u64,
    /// With the number of a batch, its last record's seq, it names the record for ever.
    pub ring: Option<u128>,
}

impl Producer {
    pub fn key(topic: &str, partition: u8, id: i64) -> Vec<u8> {
        let mut key = topic.as_bytes().to_vec();
        key.extend_from_slice(&[0, partition]);
        key.extend_from_slice(&id.to_be_bytes());
        key
    }

    pub fn write(&self) -> Vec<u8> {
        let mut value = self.newest.number.to_be_bytes().to_vec();
        value.extend_from_slice(&self.newest.base.to_be_bytes());
        value.extend_from_slice(&self.newest.count.to_be_bytes());
        value.extend_from_slice(&self.at.to_be_bytes());
        value.extend(self.ring.iter().flat_map(|ring| ring.to_be_bytes()));
        value
    }

    pub fn read(value: &[u8]) -> Option<Self> {
        let (number, rest) = value.split_first_chunk()?;
        let (base, rest) = rest.split_first_chunk()?;
        let (count, rest) = rest.split_first_chunk()?;
        let (at, rest) = rest.split_first_chunk()?;
        let newest = Newest {
            number: u64::from_be_bytes(*number),
            base: i64::from_be_bytes(*base),
            count: u32::from_be_bytes(*count),
        };
        let ring = if rest.is_empty() { None } else { Some(u128::from_be_bytes(rest.try_into().ok()?)) };
        Some(Self { newest, at: u64::from_be_bytes(*at), ring })
    }

    /// Durable or not.
    pub fn of(store: &Store, topic: &str, partition: u8, id: i64) -> Option<Self> {
        Self::read(&store.state(Kept::Producers, &Self::key(topic, partition, id))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn of_two_values_the_greater_one_is_newer(a: u64, b: u64, base: i64, count: u32, at: u64, ring: Option<u128>) {
            let of = |number| Producer { newest: Newest { number, base, count }, at, ring };
            prop_assert_eq!(a.cmp(&b), of(a).write().cmp(&of(b).write()));
            prop_assert_eq!(Producer::read(&of(a).write()), Some(of(a)));
        }

        #[test]
        fn values_of_no_meaning_are_none(bytes in prop::collection::vec(any::<u8>(), 0..50)) {
            prop_assert_eq!(Producer::read(&bytes).is_some(), bytes.len() == 28 || bytes.len() == 44);
        }
    }
}
