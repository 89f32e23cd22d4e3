//! What a node that is an upstream keeps of the nodes that send to it: the newest batch of each producer and partition.
//!
//! It is a state entry in the frame of the batch itself, so both are durable or neither. A batch that says behind which one it
//! comes (see [`crate::forward::turn`]) is taken only if that is the newest: what was lost on the way is not stepped over, what
//! comes from an older connection is not stored twice. The newest batch, sent again, is answered with its first offset.
//!
//! Key: topic, a zero byte, partition (u8), producer id. Value: number (u64), base offset (i64), records (u32), wall time in
//! microseconds (u64). All big-endian, so that of two values of a producer the greater one is the newer one.
//!
//! There are 1,000 at most, and a quarter of what a small ring has for all state. For a new one the quarter that was heard of longest ago is forgotten: such
//! a producer looks for its marker in the log when it comes back, as with a cluster. A batch for which there is no room
//! leaves no entry at all: an old one would be wrong.
//!
//! Who may produce to a topic can give any producer id, also that of another node, which then takes what it has not sent for
//! sent: writers of one topic trust each other, here as in a cluster.

use crate::forward::Marker;
use crate::forward::turn::{Newest, Turn};
use crate::hub::{Beside, Kept, Store};
use crate::record::Origin;
use crate::time::Now;

/// Producers that are kept; more might meet the ring's limit.
const MOST: usize = 1000;
/// At 63 bytes of topic an entry has 100 bytes: what a quarter gives free is enough for a topic with a longer name.
const MOST_BYTES: usize = 60 * 1024;

/// What is to become of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is the next one, or nobody counts.
    Take,
    /// It is the newest one.
    Repeat(Newest),
    OutOfTurn,
}

fn key(topic: &str, partition: u8, producer_id: i64) -> Vec<u8> {
    let mut key = topic.as_bytes().to_vec();
    key.extend_from_slice(&[0, partition]);
    key.extend_from_slice(&producer_id.to_be_bytes());
    key
}

fn value(newest: Newest, at: u64) -> [u8; 28] {
    let mut value = [0; 28];
    value[..8].copy_from_slice(&newest.number.to_be_bytes());
    value[8..16].copy_from_slice(&newest.base.to_be_bytes());
    value[16..20].copy_from_slice(&newest.count.to_be_bytes());
    value[20..].copy_from_slice(&at.to_be_bytes());
    value
}

fn split(value: &[u8]) -> Option<(Newest, u64)> {
    let (number, rest) = value.split_first_chunk()?;
    let (base, rest) = rest.split_first_chunk()?;
    let (count, at) = rest.split_first_chunk()?;
    let newest = Newest {
        number: u64::from_be_bytes(*number),
        base: i64::from_be_bytes(*base),
        count: u32::from_be_bytes(*count),
    };
    Some((newest, u64::from_be_bytes(at.try_into().ok()?)))
}

/// The newest batch of a producer, durable or not.
pub fn newest(store: &Store, topic: &str, partition: u8, producer_id: i64) -> Option<Newest> {
    let value = store.state(Kept::Producers, &key(topic, partition, producer_id))?;
    split(&value).map(|(newest, _)| newest)
}

/// Whether a batch is to be taken.
pub fn judge(newest: Option<Newest>, origin: Origin, turn: Option<Turn>) -> Verdict {
    let Some(turn) = turn else { return Verdict::Take };
    let number = Marker::of_origin(origin).number;
    match newest {
        Some(newest) if newest.number == number => Verdict::Repeat(newest),
        newest if newest.map(|newest| newest.number) == turn.0 => Verdict::Take,
        _ => Verdict::OutOfTurn,
    }
}

/// The entry beside a batch: of one that counts always, of another one only where the entry would else be wrong.
pub fn put(
    beside: &mut Beside<'_>,
    now: Now,
    (topic, partition): (&str, u8),
    (origin, turn): (Origin, Option<Turn>),
    (base, count): (i64, u32),
) {
    let key = key(topic, partition, origin.producer_id);
    let known = beside.state(&key).and_then(split);
    let number = Marker::of_origin(origin).number;
    if turn.is_some() || known.is_some_and(|(known, _)| known.number < number) {
        let at = u64::try_from(now.wall.0).unwrap_or(0);
        beside.put(&key, &value(Newest { number, base, count }, at));
    }
}

/// Room for one more producer.
pub fn make_room(store: &Store) {
    let (entries, bytes, all) = store.weigh(Kept::Producers);
    // Where there is little for all, sinks and sources need it more.
    if entries < MOST && bytes < MOST_BYTES.min(all / 4) {
        return;
    }
    let all = store.states(Kept::Producers);
    let mut by_age: Vec<_> = all.iter().map(|(key, value)| (split(value).map_or(0, |(_, at)| at), key)).collect();
    by_age.sort_unstable();
    for (_, key) in by_age.iter().take(all.len() / 4 + 1) {
        store.put_state(Kept::Producers, key, None);
    }
}

/// Removes what a topic's producers left: made anew, it has nothing of theirs.
pub fn forget_topic(store: &Store, topic: &str) {
    for (key, _) in store.states(Kept::Producers) {
        if key.strip_prefix(topic.as_bytes()).is_some_and(|rest| rest.first() == Some(&0)) {
            store.put_state(Kept::Producers, &key, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn origin(number: u64) -> Origin {
        Marker { id: 7, number }.to_origin()
    }

    proptest! {
        #[test]
        fn of_two_values_the_greater_one_is_newer(a in any::<u64>(), b in any::<u64>(), base: i64, count: u32, s in any::<u64>()) {
            let of = |number| value(Newest { number, base, count }, s);
            prop_assert_eq!(a.cmp(&b), of(a).cmp(&of(b)));
            prop_assert_eq!(split(&of(a)), Some((Newest { number: a, base, count }, s)));
        }

        #[test]
        fn values_of_no_meaning_are_none(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(split(&bytes).is_some(), bytes.len() == 28);
        }
    }

    #[test]
    fn a_batch_is_taken_behind_the_newest_one_and_nowhere_else() {
        let newest = |number| Some(Newest { number, base: 40, count: 3 });
        let turn = |after| Some(Turn(after));
        assert_eq!(judge(None, origin(9), turn(None)), Verdict::Take);
        assert_eq!(judge(newest(5), origin(9), turn(Some(5))), Verdict::Take);
        assert_eq!(judge(newest(9), origin(9), turn(Some(5))), Verdict::Repeat(newest(9).unwrap()));
        for (kept, after) in [(None, Some(5)), (newest(5), None), (newest(7), Some(5)), (newest(12), Some(5))] {
            assert_eq!(judge(kept, origin(9), turn(after)), Verdict::OutOfTurn, "{kept:?} {after:?}");
        }
        // Who says nothing of turns finds its markers in the log.
        assert_eq!(judge(newest(12), origin(9), None), Verdict::Take);
    }
}
