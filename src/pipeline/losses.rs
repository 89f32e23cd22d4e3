//! Losses on their way into `headwater-gaps`: counted, not told yet.
//!
//! A loss is counted when a sink's cursor passes it, and told by a record of `headwater-gaps` in the very frame that has the
//! account: after any crash both are there or neither. Until then it waits here, joined with what lies next to it.
//!
//! The record is one line of JSON:
//!
//! ```json
//! {"sink":"hq","lane":"normal","topic":"pump","partition":0,"from":120,"to":220,"count":100,"reason":"evicted",
//!  "first_time":"2026-11-24T04:05:06.000007Z","last_time":"2026-11-24T06:00:00.000000Z"}
//! ```
//!
//! - `sink`, `lane`: who will never get the records, and where they were.
//! - `topic`: null where nobody can tell of which topic the records were.
//! - `partition`, `from`, `to`: the offsets, `to` not among them; null where `topic` is, or where the losses of several
//!   partitions had to be joined.
//! - `count`: how many records; with offsets `to - from`, less where others between them were sent (`expired` only).
//! - `reason`: `evicted`, `expired`, `corrupt`, `lost_unsynced`, as the sink's account counts them.
//! - `first_time`, `last_time`: when they were admitted, RFC 3339 in UTC; exact for `expired`, else bounds: the sink had got
//!   a record of `first_time` before them, and what is left begins at `last_time`. Null where nothing is known, or the clock
//!   of that boot was not trusted: then `first_boot_us`, `last_boot_us` (microseconds of the boot clock) and `first_boot`,
//!   `last_boot` (which boot, as the ring counts them) stand there beside.
//!
//! The sum of `count` over all records of a sink, topic and reason is what the account counts, at every moment and after
//! any crash. Losses of `headwater-gaps` itself are counted and never told: each would make another.
//! The topic is in the first lane, as all that begin with `headwater-` are unless the config says otherwise: the reserve of that
//! lane (a tenth of the ring) is what a flood of other records cannot take from it.

use serde::Serialize;

use super::ahead::When;
use crate::envelope::rfc3339;
use crate::limits::{FRAME_RAW_MOST, MAX_LANES};
use crate::ring::{GapReason, Ring};
use crate::topic::TopicId;

/// The topic of the records.
pub const GAPS_TOPIC: &str = "headwater-gaps";
/// Losses of one sink that wait apart; beyond, those of a topic's partitions are joined, then those of topics.
pub(super) const MAX_LOSSES: usize = 120;
/// What the longest record takes in a frame: three names of 63 bytes, numbers, times.
const RECORD_BYTES: usize = 640;
const _: () = assert!((MAX_LOSSES + 4 * MAX_LANES) * RECORD_BYTES <= FRAME_RAW_MOST);

/// Records that a sink will never get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Loss {
    pub topic: Option<TopicId>,
    /// Partition and offsets, the last one not among them.
    pub range: Option<(u8, u64, u64)>,
    pub count: u64,
    pub reason: GapReason,
    pub first: Option<When>,
    pub last: Option<When>,
}

/// Of one sink in one lane.
#[derive(Clone, Debug, Default)]
pub(super) struct Losses(Vec<Loss>);

impl Losses {
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Loss> {
        self.0.iter()
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Adds a loss; `room`: how many may be here. False: it has lost its topic.
    pub fn add(&mut self, mut loss: Loss, room: usize) -> bool {
        let next_to = |known: &&mut Loss| match (known.range, loss.range) {
            (Some((partition, _, to)), Some((other, from, _))) => {
                known.topic == loss.topic && partition == other && to == from
            }
            (None, None) => known.topic == loss.topic,
            _ => false,
        };
        let same = |known: &&mut Loss| known.reason == loss.reason;
        if let Some(known) = self.0.iter_mut().rev().filter(same).find(next_to) {
            known.join(&loss, true);
            return true;
        }
        // One place for each reason is always left.
        if self.0.len() < room || loss.topic.is_none() {
            self.0.push(loss);
            return true;
        }
        if let Some(known) = self.0.iter_mut().filter(same).find(|known| known.topic == loss.topic) {
            known.join(&loss, false);
            return true;
        }
        (loss.topic, loss.range) = (None, None);
        self.add(loss, room);
        false
    }
}

impl Loss {
    fn join(&mut self, next: &Loss, contiguous: bool) {
        self.count += next.count;
        self.last = next.last;
        self.range = match (self.range, next.range) {
            (Some((partition, from, _)), Some((_, _, to))) if contiguous => Some((partition, from, to)),
            _ => None,
        };
    }

    /// The record's value; None: it is not told.
    pub fn record(&self, ring: &Ring, sink: &str, lane: &str) -> Option<Vec<u8>> {
        let info = self.topic.and_then(|topic| ring.topic(topic));
        let topic = info.as_ref().map(|info| info.name.as_str());
        if topic == Some(GAPS_TOPIC) {
            return None;
        }
        let trusted = |when: When| ring.clock(when.boot).filter(|clock| clock.trusted).map(|clock| clock.wall(when.at));
        let told = |when: Option<When>| when.and_then(trusted).and_then(rfc3339);
        let untold = |when: Option<When>| when.filter(|when| trusted(*when).is_none());
        let (first, last) = (untold(self.first), untold(self.last));
        let range = self.range.filter(|_| topic.is_some());
        let record = Record {
            sink,
            lane,
            topic,
            partition: range.map(|(partition, ..)| partition),
            from: range.map(|(_, from, _)| from),
            to: range.map(|(.., to)| to),
            count: self.count,
            reason: self.reason,
            first_time: told(self.first),
            last_time: told(self.last),
            first_boot: first.map(|when| when.boot),
            first_boot_us: first.map(|when| when.at.0),
            last_boot: last.map(|when| when.boot),
            last_boot_us: last.map(|when| when.at.0),
        };
        // Names and numbers always serialize.
        serde_json::to_vec(&record).ok()
    }
}

#[derive(Serialize)]
struct Record<'a> {
    sink: &'a str,
    lane: &'a str,
    topic: Option<&'a str>,
    partition: Option<u8>,
    from: Option<u64>,
    to: Option<u64>,
    count: u64,
    reason: GapReason,
    first_time: Option<String>,
    last_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_boot: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_boot_us: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_boot: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_boot_us: Option<i64>,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const REASONS: [GapReason; 4] =
        [GapReason::Evicted, GapReason::Expired, GapReason::Corrupt, GapReason::LostUnsynced];

    fn loss(topic: u16, partition: u8, from: u64, to: u64, reason: GapReason) -> Loss {
        let range = Some((partition, from, to));
        Loss { topic: Some(TopicId(topic)), range, count: to - from, reason, first: None, last: None }
    }

    proptest! {
        #[test]
        fn no_record_is_forgotten_however_many_losses_are_joined(
            given in proptest::collection::vec((0..40u16, 0..3u8, 1..9u64, 0..4usize, any::<bool>()), 0..300),
            room in 1..20usize,
        ) {
            let mut losses = Losses::default();
            let mut ends: BTreeMap<(u16, u8), u64> = BTreeMap::new();
            // Topic (None where it was lost) and reason -> records.
            let mut counted: BTreeMap<(Option<u16>, usize), u64> = BTreeMap::new();
            for (topic, partition, count, reason, gap) in given {
                let next = ends.entry((topic, partition)).or_default();
                let from = *next + u64::from(gap);
                *next = from + count;
                let named = losses.add(loss(topic, partition, from, from + count, REASONS[reason]), room);
                *counted.entry((named.then_some(topic), reason)).or_default() += count;
                prop_assert!(losses.len() <= room + REASONS.len());
            }
            for loss in losses.0 {
                let reason = REASONS.iter().position(|r| *r == loss.reason).unwrap();
                *counted.entry((loss.topic.map(|t| t.0), reason)).or_default() -= loss.count;
                if let Some((_, from, to)) = loss.range {
                    prop_assert_eq!(loss.count, to - from);
                }
            }
            prop_assert!(counted.values().all(|left| *left == 0), "{:?}", counted);
        }
    }

    #[test]
    fn what_lies_next_to_each_other_becomes_one() {
        let mut losses = Losses::default();
        for at in 0..10 {
            assert!(losses.add(loss(1, 0, at * 10, at * 10 + 10, GapReason::Evicted), 8));
            assert!(losses.add(loss(2, 1, at * 20, at * 20 + 10, GapReason::Evicted), 8), "room for all but the last");
        }
        let all = losses.0;
        assert_eq!(all[0], loss(1, 0, 0, 100, GapReason::Evicted));
        assert_eq!(all.iter().filter(|l| l.topic == Some(TopicId(2))).map(|l| l.count).sum::<u64>(), 100);
        assert_eq!(all.len(), 8);
    }

    #[test]
    fn reasons_are_never_mixed() {
        let mut losses = Losses::default();
        losses.add(loss(1, 0, 0, 10, GapReason::Evicted), 8);
        losses.add(loss(1, 0, 10, 20, GapReason::Corrupt), 8);
        assert_eq!(losses.len(), 2);
    }
}
