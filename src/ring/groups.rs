//! Groups: what is in one frame or not there at all.

use super::core::Ring;
use super::format::MAX_STATE_RAW;
use super::types::AppendError;
use crate::limits::{FRAME_RAW_MOST, FRAME_RAW_TARGET};
use crate::time::BootTime;
use crate::topic::{TopicId, TopicPart};

impl Ring {
    /// Until [`Ring::end_group`] no frame is sealed: what is appended to a lane and the state entries put meanwhile
    /// share one frame, so that after a crash all of it is there or nothing (a checkpoint and its lines, a packet id
    /// and its message, a produced batch). The caller adds at most `bytes` (`FRAME_RAW_TARGET`, or one larger
    /// record); appends inside a group are never `Busy`.
    pub fn begin_group(&mut self, now: BootTime, bytes: usize) -> Result<(), AppendError> {
        if self.busy(bytes) {
            return Err(AppendError::Busy);
        }
        for at in 0..self.lanes.len() {
            let batch = &self.lanes[at].batch;
            if batch.records > 0 && batch.raw.len() + bytes > FRAME_RAW_MOST {
                self.seal(now, at);
            }
        }
        self.in_group = true;
        self.group_lane = None;
        Ok(())
    }

    /// For a group whose state entries come before its records: they go into the frame of this topic's lane, unless the group has
    /// records in one. Those that it has in other lanes may be there after a crash without it.
    pub fn group_beside(&mut self, now: BootTime, topic: TopicId) {
        let lane = self.topics.part_mut(TopicPart { topic, partition: 0 }).map(|(lane, _)| lane.index());
        if let Some(lane) = lane.filter(|_| self.in_group && self.group_lane.is_none()) {
            let batch = &self.lanes[lane].batch;
            // Nothing is to be sealed between an entry and its record.
            if batch.is_crowded() || batch.state_bytes > MAX_STATE_RAW / 2 {
                self.seal(now, lane);
            }
            self.group_lane = Some(lane);
            self.gather_state(now, lane);
        }
    }

    /// Ends the group; seals what became large enough meanwhile.
    pub fn end_group(&mut self, now: BootTime) {
        self.in_group = false;
        for at in 0..self.lanes.len() {
            let batch = &self.lanes[at].batch;
            if batch.raw.len() >= FRAME_RAW_TARGET || batch.state_bytes >= FRAME_RAW_TARGET {
                self.seal(now, at);
            }
        }
    }

    /// Makes sure that the next state entry goes beside the records of this lane.
    pub(super) fn gather_state(&mut self, now: BootTime, lane: usize) {
        let other = self.lanes.iter().position(|l| !l.batch.state.is_empty()).filter(|at| *at != lane);
        if let Some(other) = other {
            self.seal(now, other);
        }
    }
}
