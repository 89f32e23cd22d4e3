//! Under which ids this ring is known upstream.
//!
//! The id in a batch's header is made of the ring, the sink, the lane, the stream, the incarnation and the upstream partition. A ring
//! that came from another machine has a new id of its own; its older frames are sent under the one that they were
//! written under, and what was sent before the move is still ours.

use super::machine::Forward;
use super::marker::producer_id;
use super::{LaneId, Marker, Stream, TopicIx};

/// What a producer id is made of beside the ring.
pub(super) struct Identity<'a> {
    pub sink: &'a str,
    pub lane: LaneId,
    pub stream: Stream,
    pub incarnation: u32,
    pub topic: &'a str,
    pub partition: u32,
}

impl Identity<'_> {
    pub fn producer_id(&self, ring: u128) -> i64 {
        producer_id(ring, self)
    }
}

/// What is recognised as ours in one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mine {
    pub id: i64,
    /// Ids under which this ring was sent before it got its own (it came from another machine), each up to the seq at
    /// which that ended: above it the other machine may go on with records that are not ours.
    pub former: Vec<(i64, u64)>,
}

impl Mine {
    pub fn has(&self, marker: Marker) -> bool {
        marker.id == self.id || self.former.iter().any(|(id, below)| marker.id == *id && marker.number < *below)
    }
}

impl Forward {
    pub(super) fn identity(&self, topic: TopicIx, partition: u32, lives: u32) -> Identity<'_> {
        Identity {
            sink: self.options.sink.as_str(),
            lane: self.options.lane,
            stream: self.options.stream,
            incarnation: self.lane.incarnation.saturating_add(lives),
            topic: self.topic_name(topic),
            partition,
        }
    }

    pub(super) fn mine(&self, topic: TopicIx, partition: u32, lives: u32) -> Mine {
        let identity = self.identity(topic, partition, lives);
        let former = self.options.former.iter().map(|(ring, below)| (identity.producer_id(*ring), *below));
        Mine { id: identity.producer_id(self.options.ring_id), former: former.collect() }
    }
}
