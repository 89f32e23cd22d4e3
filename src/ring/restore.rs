//! What a recovery reads becomes the ring's: entries, topics, numbers that are taken.

use super::core::{LIFE_KEY, Ring};
use super::lanes::id_of_moves_key;
use super::state::{Put, ring_owner};
use super::topics::{Topic, id_of_key};
use super::*;
use crate::topic::TopicPart;

impl Ring {
    pub(super) fn apply(&mut self, put: Put) {
        if put.owner == ring_owner() && *put.key == *LIFE_KEY {
            self.life = put.value.as_deref().and_then(|v| postcard::from_bytes(v).ok()).unwrap_or(self.life);
        }
        if put.owner == ring_owner()
            && let Some(id) = id_of_key(&put.key)
        {
            match put.value.as_deref() {
                Some(bytes) => {
                    if let Some(mut topic) = Topic::decode(id, bytes) {
                        for (i, part) in topic.parts.iter_mut().enumerate() {
                            let id = TopicPart { topic: id, partition: i as u8 };
                            let known = self.topics.part(id).map_or(0, |p| p.info.next);
                            part.stands_at(part.info.next.max(known));
                        }
                        if let Some(known) = self.topics.get_mut(id) {
                            topic.moves = std::mem::take(&mut known.moves);
                        }
                        self.topics.insert(topic);
                    }
                }
                None => _ = self.topics.remove(id),
            }
        }
        if put.owner == ring_owner()
            && let Some(id) = id_of_moves_key(&put.key)
        {
            self.restore_moves(id, put.value.as_deref());
        }
        self.state.restore(put);
    }

    /// What the ring keeps as entries of its own, apart from topics.
    pub(super) fn restore_own(&mut self) {
        let own = ring_owner();
        if let Some(next) = self.state.newest(&own, b"n").and_then(|v| v.try_into().ok()) {
            self.topics.next_id = self.topics.next_id.max(u16::from_le_bytes(next));
        }
        let mut moves = Vec::new();
        for (key, value) in self.state.all(&own) {
            self.sessions.restore_entry(key, value);
            moves.extend(id_of_moves_key(key).map(|id| (id, value.to_vec())));
        }
        moves.into_iter().for_each(|(id, value)| self.restore_moves(id, Some(&value)));
        self.sessions.ended.sort_unstable();
    }

    /// Records of a lane are lost and nobody knows of which topics: their offsets are not used twice.
    pub(super) fn skip_offsets(&mut self, lane: LaneId, records: u64) {
        for topic in self.topics.iter_mut().filter(|t| t.lane == lane) {
            for part in &mut topic.parts {
                part.stands_at(part.info.next + records);
            }
        }
    }
}
