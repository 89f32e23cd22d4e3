//! What the stored entries of a stream say: where its records went, and by which ids their batches are known there.
//!
//! For who compares what an upstream has with what was sent (`headwater audit`). It changes nothing, and claims no more than
//! what is stored: of a stream that was absorbed nothing is.

use super::identity::Identity;
use super::state::{self, LaneState, Position, TopicState};
use super::{LaneId, Stream};
use crate::name::Name;

/// Lives of a ring in one partition that are looked for: backups that were put back.
const MAX_LIVES: u32 = 32;

/// Whose stream it is.
#[derive(Clone, Debug)]
pub struct Whose {
    pub ring: u128,
    /// Ids that the ring had on other machines, each with the first seq after it.
    pub former: Vec<(u128, u64)>,
    pub sink: Name,
    pub lane: LaneId,
    pub stream: Stream,
}

/// An id in batch headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    pub id: i64,
    /// Numbers from here on are another machine's.
    pub below: u64,
    /// What is sent now has it; an older one may have been used by another life of the ring too.
    pub newest: bool,
}

/// The last acknowledged batch of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Last {
    pub base: i64,
    /// The offset after it.
    pub end: i64,
    pub number: u64,
}

pub struct Known {
    of: Whose,
    lane: LaneState,
    topics: Vec<(String, TopicState)>,
}

impl Known {
    /// `stored`: the state entries of the sink.
    pub fn new(of: Whose, stored: &[(Vec<u8>, Vec<u8>)]) -> Self {
        let (lane, stream) = (of.lane, of.stream.number);
        let key = state::lane_key(lane, stream);
        let of_lane = stored.iter().find(|(k, _)| *k == key).and_then(|(_, value)| LaneState::decode(value));
        let topic = |(key, value): &(Vec<u8>, Vec<u8>)| {
            let name = state::topic_of_key(lane, stream, key)?.to_owned();
            Some((name, TopicState::decode(value)?))
        };
        Self { lane: of_lane.unwrap_or_default(), topics: stored.iter().filter_map(topic).collect(), of }
    }

    fn topic(&self, topic: &str) -> Option<&TopicState> {
        self.topics.iter().find(|(name, _)| name == topic).map(|(_, state)| state)
    }

    fn position(&self, topic: &str, partition: u32) -> Option<&Position> {
        self.topic(topic)?.positions.iter().find(|position| position.partition == partition)
    }

    /// Where a record of this upstream topic was sent, or will be; None: that was not decided yet.
    pub fn partition(&self, topic: &str, key: Option<&[u8]>, seq: u64) -> Option<u32> {
        let (placement, _) = self.topic(topic)?.placement_at(seq);
        placement.is_known().then(|| placement.of(key, seq))
    }

    pub fn last(&self, topic: &str, partition: u32) -> Option<Last> {
        let last = self.position(topic, partition)?.last?;
        Some(Last { base: last.base, end: last.base.saturating_add(i64::from(last.count)), number: last.number })
    }

    /// The upstream rebuilds batches there: no id survives.
    pub fn is_opaque(&self, topic: &str, partition: u32) -> bool {
        self.position(topic, partition).is_some_and(|position| position.opaque)
    }

    /// Whether backups of this ring were put back, and sent there as well.
    pub fn has_lives(&self, topic: &str, partition: u32) -> bool {
        self.lane.incarnation > 0 || self.position(topic, partition).is_some_and(|position| position.lives > 0)
    }

    /// Every id under which this stream was sent there.
    pub fn marks(&self, topic: &str, partition: u32) -> Vec<Mark> {
        let lives = self.position(topic, partition).map_or(0, |position| position.lives);
        let newest = self.lane.incarnation.saturating_add(lives);
        let rings = [(self.of.ring, u64::MAX)].into_iter().chain(self.of.former.iter().copied());
        let mut marks = Vec::new();
        for (ring, below) in rings {
            for incarnation in newest.saturating_sub(MAX_LIVES)..=newest {
                let (sink, lane, stream) = (self.of.sink.as_str(), self.of.lane, self.of.stream);
                let identity = Identity { sink, lane, stream, incarnation, topic, partition };
                marks.push(Mark { id: identity.producer_id(ring), below, newest: incarnation == newest });
            }
        }
        marks
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forward::placing::Placement;

    fn whose(former: Vec<(u128, u64)>) -> Whose {
        let stream = Stream { number: 0, start: 0, unstarted: false };
        Whose { ring: 7, former, sink: Name::new("hq").unwrap(), lane: LaneId(1), stream }
    }

    #[test]
    fn the_ids_of_all_lives_and_rings_are_known_and_the_newest_is_told() {
        let position = Position { partition: 2, lives: 1, ..Position::default() };
        let topic = TopicState {
            version: state::VERSION,
            placement: Placement(3),
            positions: vec![position],
            ..Default::default()
        };
        let stored = vec![(state::topic_key(LaneId(1), 0, "pump"), topic.encode())];
        let known = Known::new(whose(vec![(6, 100)]), &stored);
        let marks = known.marks("pump", 2);
        assert_eq!(
            marks.iter().map(|m| (m.below, m.newest)).collect::<Vec<_>>(),
            [(u64::MAX, false), (u64::MAX, true), (100, false), (100, true)]
        );
        assert_eq!(known.marks("pump", 0).len(), 2, "no other life was met there");
        assert!(known.has_lives("pump", 2) && !known.has_lives("pump", 0));
    }

    #[test]
    fn a_record_is_looked_for_where_it_was_sent_whatever_the_count_is_now() {
        let topic = TopicState {
            version: state::VERSION,
            placement: Placement(3),
            switch: Some((2000, Placement(5))),
            past: vec![(1000, Placement(2))],
            ..Default::default()
        };
        let stored = vec![(state::topic_key(LaneId(1), 0, "pump"), topic.encode())];
        let known = Known::new(whose(Vec::new()), &stored);
        for (seq, n) in [(600, 2), (1100, 3), (2600, 5)] {
            assert_eq!(known.partition("pump", None, seq), Some(Placement(n).of(None, seq)), "{seq}");
        }
        assert_eq!(known.partition("other", None, 1), None);
    }
}
