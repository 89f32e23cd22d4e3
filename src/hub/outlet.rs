//! A sink's handle.

use std::sync::Arc;

use super::PartState;
use crate::lane::LaneId;
use crate::name::Name;
use crate::ring::{Frame, Gap, LanePos, RingId};
use crate::time::{ClockSync, Now};
use crate::topic::{TopicId, TopicName};

/// What comes next in a lane.
#[derive(Clone, Debug)]
pub enum Step {
    /// Records from the reader's position on: `frame.entries_from(reader_pos.seq)`.
    Frame(Arc<Frame>),
    /// Already counted for this sink when `advance` passes it.
    Gap(Gap),
    /// Nothing durable yet beyond the position.
    End,
}

/// What a person asked of the sink, or the node of everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SinkOrder {
    Run,
    /// Keep the connection closed, send nothing.
    Pause,
    /// Send what waits now, lingering for nothing.
    Flush,
    /// The node shuts down: finish the request in flight within a second or drop it, then return.
    Stop,
}

/// What became of records between two cursor positions. All of it in ring records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub delivered: u64,
    pub filtered: u64,
    pub refused: u64,
}

pub struct Outlet {
    _todo: (),
}

impl Outlet {
    pub fn name(&self) -> &Name {
        todo!()
    }
    pub fn now(&self) -> Now {
        todo!()
    }
    pub fn ring_id(&self) -> RingId {
        todo!()
    }
    pub fn lanes(&self) -> Vec<LaneId> {
        todo!()
    }
    /// Whether the sink's `topics` / `exclude` take this topic.
    pub fn wants(&self, _topic: TopicId) -> bool {
        todo!()
    }
    pub fn topic_name(&self, _topic: TopicId) -> Option<TopicName> {
        todo!()
    }
    pub fn clock(&self, _boot: u32) -> Option<ClockSync> {
        todo!()
    }
    /// The cursor: everything of the lane below it is accounted for.
    pub fn cursor(&self, _lane: LaneId) -> LanePos {
        todo!()
    }
    /// What stands at `pos`; waits for the disk, not for new records.
    pub async fn read(&mut self, _lane: LaneId, _pos: LanePos) -> Step {
        todo!()
    }
    /// Returns when something durable stands at or beyond `pos`, or an order changed.
    pub async fn wait(&mut self, _lane: LaneId, _pos: LanePos) {
        todo!()
    }
    /// Moves the cursor to `to`: `tally` says what became of the records passed (gaps met by `read` below `to` are
    /// added by the hub itself). `state` is stored atomically with it.
    pub fn advance(&mut self, _lane: LaneId, _to: LanePos, _tally: Tally, _state: &[(&[u8], Option<&[u8]>)]) {
        todo!()
    }
    pub fn state(&self, _key: &[u8]) -> Option<Vec<u8>> {
        todo!()
    }
    /// Records of the lane that are durable and beyond the cursor.
    pub fn pending(&self, _lane: LaneId) -> u64 {
        todo!()
    }
    pub fn order(&self) -> SinkOrder {
        todo!()
    }
    /// Returns when the order changes.
    pub async fn order_changed(&mut self) -> SinkOrder {
        todo!()
    }
    pub fn count(&self, _counter: &'static str, _n: u64) {
        todo!()
    }
    pub fn gauge(&self, _name: &'static str, _value: u64) {
        todo!()
    }
    pub fn report(&self, _state: PartState) {
        todo!()
    }
}
