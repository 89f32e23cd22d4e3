//! What is stored with the cursor of a stream: one entry per upstream topic, and one for all of it.
//!
//! ```text
//! key "t" lane "/" upstream topic         ->  postcard of TopicState, of stream 0
//! key "t" lane "." stream upstream topic  ->  the same, of another stream
//! key "l" lane                            ->  postcard of LaneState, of stream 0
//! key "l" lane stream                     ->  the same, of another stream
//! ```
//!
//! `lane` is one byte, `stream` are four, little-endian. An entry that does not decode (a newer version wrote it) is treated as
//! absent: markers upstream are then another life's.

use serde::{Deserialize, Serialize};

use super::placing::Placement;
use crate::lane::LaneId;

/// Partitions of one upstream topic. Behind it stand `own_below` and `lives` of each position, and behind these `shared`:
/// earlier versions neither wrote them nor look there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TopicState {
    /// Format of this entry.
    pub version: u8,
    /// Where records go; not known before the topic was ever seen.
    pub placement: Placement,
    /// Records from this seq on go there.
    pub switch: Option<(u64, Placement)>,
    /// Records below these seqs went there, oldest first: where they are looked for when they are lost.
    pub past: Vec<(u64, Placement)>,
    pub positions: Vec<Position>,
}

/// How far one partition is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    pub partition: u32,
    /// The last acknowledged batch.
    pub last: Option<Stored>,
    /// Everything above `last.number` and below this seq is being sent again, although the cursor is beyond.
    pub resend_below: Option<u64>,
    /// The upstream rebuilds batches.
    pub opaque: bool,
    /// A marker of ours was read back.
    pub proven: bool,
    /// Records below this seq were perhaps sent, by this process or one before it, and nothing can tell.
    pub unsure_below: u64,
    /// A marker of ours at or above this seq is not this life's doing; [`ALL`]: every one is.
    #[serde(skip)]
    pub own_below: u64,
    /// How many lives of this ring were met there: incarnations beyond the stream's.
    #[serde(skip)]
    pub lives: u32,
    /// Where markers do not survive: the log has grown by what was not sent just then.
    #[serde(skip)]
    pub shared: bool,
}

/// While this life sends to a partition; and of one that an earlier version stored.
pub(super) const ALL: u64 = u64::MAX;

/// One acknowledged batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stored {
    pub base: i64,
    pub count: u32,
    pub number: u64,
}

/// What a whole stream has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LaneState {
    pub version: u8,
    /// What an earlier version made of another life, for all partitions at once: now each counts its own.
    pub incarnation: u32,
    /// Records below this seq were perhaps sent by an earlier one.
    pub unsure_below: u64,
    /// Topic, partition and seq of what the upstream refused for good, at or above the cursor.
    pub refused: Vec<(String, u32, u64)>,
}

pub(super) const VERSION: u8 = 2;

impl TopicState {
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (mut state, rest): (Self, _) = postcard::take_from_bytes(bytes).ok()?;
        let (more, rest): (Vec<([u8; 8], u32)>, _) = postcard::take_from_bytes(rest).unwrap_or_default();
        let shared: Vec<bool> = postcard::from_bytes(rest).unwrap_or_default();
        let none = std::iter::repeat((ALL.to_le_bytes(), 0));
        for (position, (below, lives)) in state.positions.iter_mut().zip(more.into_iter().chain(none)) {
            (position.own_below, position.lives) = (u64::from_le_bytes(below), lives);
        }
        state.positions.iter_mut().zip(shared).for_each(|(position, shared)| position.shared = shared);
        Some(state).filter(|s| s.version == VERSION)
    }

    /// What a process begins with whose ring ends at `end`: what is there by then every life has, what comes may be given again
    /// by another. True: that was not known yet, and the next process has to know; it may be the first to reach the upstream.
    pub fn lower_bounds(&mut self, end: u64) -> bool {
        let higher = self.positions.iter_mut().filter(|position| position.own_below > end);
        higher.map(|position| position.own_below = end).count() > 0
    }

    /// Where the record of this seq goes, and whether that is what is in use: what is past needs no more than to be remembered.
    pub fn placement_at(&self, seq: u64) -> (Placement, bool) {
        if let Some((_, then)) = self.past.iter().find(|(until, _)| seq < *until) {
            return (*then, false);
        }
        match self.switch {
            Some((from, next)) if seq >= from => (next, true),
            // What is below a switch was durable long ago.
            switch => (self.placement, switch.is_none()),
        }
    }

    pub fn encode(&self) -> Vec<u8> {
        // As long whatever the bound is: an entry that was taken once is not refused for want of room when it is lifted.
        let more = self.positions.iter().map(|position| (position.own_below.to_le_bytes(), position.lives));
        let more: Vec<_> = more.collect();
        let shared: Vec<_> = self.positions.iter().map(|position| position.shared).collect();
        [encode(self), encode(&more), encode(&shared)].concat()
    }
}

impl LaneState {
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        postcard::from_bytes(bytes).ok().filter(|s: &Self| s.version == VERSION)
    }
}

pub(super) fn encode<T: Serialize>(state: &T) -> Vec<u8> {
    // Plain numbers and vectors: there is nothing here that postcard cannot encode.
    postcard::to_allocvec(state).unwrap_or_default()
}

/// What the keys of a stream's topics begin with.
fn prefix(lane: LaneId, stream: u32) -> Vec<u8> {
    let mut key = vec![b't', lane.0];
    match stream {
        0 => key.push(b'/'),
        _ => {
            key.push(b'.');
            key.extend_from_slice(&stream.to_le_bytes());
        }
    }
    key
}

pub(super) fn topic_key(lane: LaneId, stream: u32, topic: &str) -> Vec<u8> {
    let mut key = prefix(lane, stream);
    key.extend_from_slice(topic.as_bytes());
    key
}

/// The upstream topic of a stored key of this stream.
pub(super) fn topic_of_key(lane: LaneId, stream: u32, key: &[u8]) -> Option<&str> {
    std::str::from_utf8(key.strip_prefix(&prefix(lane, stream)[..])?).ok()
}

pub(super) fn lane_key(lane: LaneId, stream: u32) -> Vec<u8> {
    let mut key = vec![b'l', lane.0];
    if stream > 0 {
        key.extend_from_slice(&stream.to_le_bytes());
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_of_another_version_is_as_good_as_none() {
        let state = TopicState { version: VERSION + 1, placement: Placement(3), ..TopicState::default() };
        assert_eq!(TopicState::decode(&state.encode()), None);
        assert_eq!(TopicState::decode(b"\xff\xff\xff"), None);
    }

    #[test]
    fn an_entry_of_before_lives_were_told_apart_is_read_and_reads_what_is_written_now() {
        let position = |partition, own_below, lives| Position { partition, own_below, lives, ..Position::default() };
        let mut positions = vec![position(0, 7, 2), position(3, ALL, 0)];
        positions[1].shared = true;
        let state = TopicState { version: VERSION, placement: Placement(4), positions, ..TopicState::default() };
        let written = state.encode();
        assert_eq!(TopicState::decode(&written), Some(state.clone()));
        let before_shared = TopicState::decode(&written[..written.len() - 3]).unwrap();
        assert_eq!(before_shared.positions, [position(0, 7, 2), position(3, ALL, 0)]);
        let old = TopicState::decode(&encode(&state)).unwrap();
        assert_eq!(old.positions, [position(0, ALL, 0), position(3, ALL, 0)]);
        let by_the_old: TopicState = postcard::from_bytes(&state.encode()).unwrap();
        assert_eq!(by_the_old.positions, [position(0, 0, 0), position(3, 0, 0)]);
    }

    #[test]
    fn a_topic_is_read_back_from_its_key_in_its_stream_only() {
        for stream in [0, 1, 0x2f, 300] {
            let key = topic_key(LaneId(1), stream, "pump");
            assert_eq!(topic_of_key(LaneId(1), stream, &key), Some("pump"));
            assert_eq!(topic_of_key(LaneId(0), stream, &key), None);
            assert_eq!(topic_of_key(LaneId(1), stream + 1, &key), None);
            assert!(stream == 0 || topic_of_key(LaneId(1), 0, &key).is_none());
        }
    }
}
