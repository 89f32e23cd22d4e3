//! A source's handle.

use super::{Admitted, OfferError, PartState};
use crate::name::Name;
use crate::record::RecordRef;
use crate::ring::{StateError, Ticket, TopicError};
use crate::time::Now;
use crate::topic::{TopicId, TopicName};

/// Cheap to clone. All calls are synchronous unless `async`; none blocks the loop.
#[derive(Clone)]
pub struct Intake {
    _todo: std::rc::Rc<()>,
}

/// See [`Intake::group`].
pub struct Group<'a> {
    _intake: &'a Intake,
}

impl Drop for Group<'_> {
    fn drop(&mut self) {
        todo!() // Ring::end_group
    }
}

impl Intake {
    pub fn name(&self) -> &Name {
        todo!()
    }
    /// The clocks, as of now.
    pub fn now(&self) -> Now {
        todo!()
    }
    /// The topic's number, the topic made if it is not there.
    pub fn topic(&self, _name: &TopicName) -> Result<TopicId, TopicError> {
        todo!()
    }
    /// Sets admission time and clock flag, renders the source's key template, wraps the value if the source's mode is `envelope`,
    /// runs the topic's rules, appends. The record's bytes are only borrowed for the call.
    pub fn offer(&self, _topic: TopicId, _record: &RecordRef<'_>) -> Result<Admitted, OfferError> {
        todo!()
    }
    /// As `offer`, waiting while the disk is behind. None: refused as too large (already counted).
    pub async fn offer_wait(&self, _topic: TopicId, _record: &RecordRef<'_>) -> Option<Admitted> {
        todo!()
    }
    /// Until the guard is dropped, what is offered and the state entries put share one frame per lane: after a crash
    /// all of it is there or nothing, so a checkpoint never trails the lines that it covers. Adds at most `bytes`
    /// (32 KiB, or one larger record); offers inside a group are never `Busy`. Not to be held across an await.
    pub fn group(&self, _bytes: usize) -> Result<Group<'_>, OfferError> {
        todo!()
    }
    /// Returns once `offer` has room again.
    pub async fn room(&self) {
        todo!()
    }
    /// Sets or removes a state entry of this source: durable together with (never before) everything offered before.
    pub fn put_state(&self, _key: &[u8], _value: Option<&[u8]>) -> Result<Ticket, StateError> {
        todo!()
    }
    pub fn state(&self, _key: &[u8]) -> Option<Vec<u8>> {
        todo!()
    }
    /// All entries of this source, in key order.
    pub fn states(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        todo!()
    }
    /// The peer can send nothing more before it is acknowledged: commit at once (`within` = the most it may wait).
    pub fn hurry(&self, _within: crate::time::Span) {
        todo!()
    }
    /// Everything up to this ticket may be acknowledged (durable, or at once when the source has `ack = "memory"`).
    pub fn settled(&self) -> Ticket {
        todo!()
    }
    /// Returns when `settled() >= ticket`.
    pub async fn wait_settled(&self, _ticket: Ticket) {
        todo!()
    }
    /// Adds to a counter of this source; shown in status and metrics under its name (see [`super::counters`]).
    pub fn count(&self, _counter: &'static str, _n: u64) {
        todo!()
    }
    /// Sets a gauge of this source.
    pub fn gauge(&self, _name: &'static str, _value: u64) {
        todo!()
    }
    /// Says how the source is; a change is logged and kept as an event.
    pub fn report(&self, _state: PartState) {
        todo!()
    }
    /// Whether the node shuts down (or the source is being replaced): offer nothing more.
    pub fn is_stopping(&self) -> bool {
        todo!()
    }
    /// Returns when `is_stopping` becomes true.
    pub async fn stopping(&self) {
        todo!()
    }
}
