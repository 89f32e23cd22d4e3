//! What a node that is an upstream keeps of the nodes that send to it: the newest batch of each producer and partition.
//!
//! It is a state entry in the frame of the batch itself, so both are durable or neither. A batch that says behind which one it
//! comes (see [`crate::forward::turn`]) is taken only if that is the newest: what was lost on the way is not stepped over, what
//! comes from an older connection is not stored twice. The newest batch, sent again, is answered with its first offset.
//!
//! The entry ([`Producer`]) also keeps whose batches they are: a node says its ring's id when it asks what has arrived, and the
//! records themselves carry the number, so (ring id, seq) of what another node sent is known here (`headwater tail --json`).
//!
//! There are 1,000 at most, and a quarter of what a small ring has for all state. For a new one the quarter that was heard of longest ago is forgotten: such
//! a producer looks for its marker in the log when it comes back, as with a cluster. A batch for which there is no room
//! leaves no entry at all: an old one would be wrong.
//!
//! Who may produce to a topic can give any producer id, also that of another node, which then takes what it has not sent for
//! sent: writers of one topic trust each other, here as in a cluster.

use crate::forward::Marker;
use crate::forward::turn::{Newest, Turn};
use crate::hub::{Beside, Kept, Producer, Store};
use crate::record::Origin;
use crate::time::Now;

/// Producers that are kept; more might meet the ring's limit.
const MOST: usize = 1000;
/// At 63 bytes of topic an entry has 100 bytes: what a quarter gives free is enough for a topic with a longer name.
const MOST_BYTES: usize = 60 * 1024;

/// What a batch says of who sent it.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    pub origin: Origin,
    /// Behind which batch it comes, if its producer counts.
    pub turn: Option<Turn>,
    /// The ring that it comes from, if its producer has told.
    pub ring: Option<u128>,
}

/// What is to become of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is the next one, or nobody counts.
    Take,
    /// It is the newest one.
    Repeat(Newest),
    OutOfTurn,
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
    Sent { origin, turn, ring }: Sent,
    (base, count): (i64, u32),
) {
    let key = Producer::key(topic, partition, origin.producer_id);
    let known = beside.state(&key).and_then(Producer::read);
    let number = Marker::of_origin(origin).number;
    if turn.is_some() || known.is_some_and(|known| known.newest.number < number) {
        let at = u64::try_from(now.wall.0).unwrap_or(0);
        let ring = ring.or(known.and_then(|known| known.ring));
        beside.put(&key, &Producer { newest: Newest { number, base, count }, at, ring }.write());
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
    let mut by_age: Vec<_> =
        all.iter().map(|(key, value)| (Producer::read(value).map_or(0, |kept| kept.at), key)).collect();
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

    fn origin(number: u64) -> Origin {
        Marker { id: 7, number }.to_origin()
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
