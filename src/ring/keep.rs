//! Topics that rather wait than push out what no sink has read yet (`on_full = "pause"`).
//!
//! A slot with unread records of such a topic is evicted only when there is no other. Before it comes to that, the ring
//! says that it is full for them: whoever brings their records waits until sinks have passed some slots. A few slots are
//! left then, for the records of all other topics and for the cursors whose progress makes room.

use super::core::Ring;
use super::slots::Lane;
use crate::topic::TopicId;

impl Ring {
    /// Whether the unread records of a topic are kept when the ring is full.
    pub fn set_keep(&mut self, id: TopicId, keep: bool) {
        if let Some(topic) = self.topics.get_mut(id) {
            topic.keep = keep;
        }
    }

    /// Nothing more of this topic is to be appended: it would push out what is to be kept.
    pub fn is_full_for(&self, id: TopicId) -> bool {
        self.topics.get(id).is_some_and(|t| t.keep) && self.is_full()
    }

    /// No more room than must be left for others, and nothing that may be pushed out.
    pub fn is_full(&self) -> bool {
        if !self.topics.iter().any(|t| t.keep) {
            return false;
        }
        let most = self.slots.cap.min(self.slots.room);
        let spare = (self.lanes.len() + 1).min(most / 4);
        let new = most.saturating_sub(self.slots.existing.len());
        let passed: usize = self.lanes.iter().map(spent).sum();
        // Of a lane's slots the newest is being written, and the one before it may have the snapshot to fall back to.
        let total: usize = self.lanes.iter().map(|l| l.log.slots.len()).sum();
        let above = |l: &Lane| l.log.slots.len() * 100 > usize::from(l.reserve) * total;
        let evictable = |l: &Lane| spent(l) + 2 < l.log.slots.len() && above(l) && !self.slot_keeps(l, spent(l));
        // Where sinks have everything there is nothing to wait for.
        let keeps = |l: &Lane| (spent(l)..l.log.slots.len()).any(|at| self.slot_keeps(l, at));
        self.lanes.iter().any(keeps)
            && self.slots.free.len() + new + passed <= spare
            && !self.lanes.iter().any(evictable)
    }

    /// Notes which lanes' oldest slots are evicted last.
    pub(super) fn mark_kept(&mut self) {
        for at in 0..self.lanes.len() {
            self.lanes[at].kept = self.slot_keeps(&self.lanes[at], 0);
        }
    }

    /// Whether a slot holds unread records of a topic that keeps them. Without sinks nothing waits to be read.
    fn slot_keeps(&self, lane: &Lane, at: usize) -> bool {
        let (Some(slot), next) = (lane.log.slots.get(at), lane.log.slots.get(at + 1)) else { return false };
        if lane.floor.is_none_or(|floor| floor.ordinal >= lane.slot_end(at).ordinal) {
            return false;
        }
        let here = |t: &&super::topics::Topic| t.lane == lane.id || t.moves.iter().any(|m| m.from == lane.id);
        self.topics.iter().filter(|t| t.keep).filter(here).any(|topic| {
            topic.parts.iter().enumerate().any(|(partition, part)| {
                let id = crate::topic::TopicPart { topic: topic.id, partition: partition as u8 };
                let end = next.map_or(Some(part.durable), |next| next.start_of(id));
                let end = if topic.lane == lane.id { end } else { end.filter(|end| *end > 0) };
                // What is not known may be there.
                slot.start_of(id).zip(end).is_none_or(|(from, to)| from < to)
            })
        })
    }
}

/// Slots that every sink has passed, from the oldest on.
fn spent(lane: &Lane) -> usize {
    let passed = |at: &usize| lane.floor.is_some_and(|floor| floor.ordinal >= lane.slot_end(*at).ordinal);
    (0..lane.log.slots.len().saturating_sub(1)).take_while(passed).count()
}
