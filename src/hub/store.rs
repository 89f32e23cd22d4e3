//! The handle of those who speak of topics and offsets: the endpoint, the control socket's `send` and `tail`.

use std::sync::Arc;

use super::{Admitted, OfferError, PartState};
use crate::record::RecordRef;
use crate::ring::{Frame, Ticket, TopicError, TopicInfo};
use crate::time::Now;
use crate::topic::{TopicId, TopicName, TopicPart};

/// What stands at an offset.
#[derive(Clone, Debug)]
pub enum PartStep {
    /// `frame.entries_of(part, offset)` begins at the offset asked for.
    Frame(Arc<Frame>),
    /// The offset asked for is gone; reading can go on at `resume`.
    Gone { resume: u64 },
    /// Nothing durable there yet.
    End,
}

#[derive(Clone)]
pub struct Store {
    _todo: std::rc::Rc<()>,
}

impl Store {
    pub fn now(&self) -> Now {
        todo!()
    }
    pub fn topics(&self) -> Vec<TopicInfo> {
        todo!()
    }
    pub fn topic(&self, _name: &str) -> Option<TopicInfo> {
        todo!()
    }
    /// Makes a topic, durable on return.
    pub async fn create_topic(&self, _name: &TopicName, _partitions: u8) -> Result<TopicId, TopicError> {
        todo!()
    }
    /// Removes a topic and its records, durable on return. Offsets of a topic made anew begin at 0.
    pub async fn delete_topic(&self, _id: TopicId) {
        todo!()
    }
    /// Returns when a topic is made or removed after `generation`; gives the new generation.
    pub async fn topics_changed(&self, _generation: u64) -> u64 {
        todo!()
    }
    /// Offers one record to a partition through the topic's rules.
    pub fn offer(&self, _part: TopicPart, _record: &RecordRef<'_>) -> Result<Admitted, OfferError> {
        todo!()
    }
    /// A batch of records that must land as one frame, in order, through the topic's rules; `last` is settled when
    /// all are durable.
    pub fn offer_batch<'a>(
        &self,
        _part: TopicPart,
        _records: &mut dyn Iterator<Item = RecordRef<'a>>,
    ) -> Result<Vec<Admitted>, OfferError> {
        todo!()
    }
    pub async fn room(&self) {
        todo!()
    }
    pub fn hurry(&self, _within: crate::time::Span) {
        todo!()
    }
    pub fn settled(&self) -> Ticket {
        todo!()
    }
    pub async fn wait_settled(&self, _ticket: Ticket) {
        todo!()
    }
    /// What stands at `offset`; waits for the disk, not for new records. Reading ascending offsets is cheap.
    pub async fn read(&self, _part: TopicPart, _offset: u64) -> PartStep {
        todo!()
    }
    /// Returns when the partition's durable end is beyond `offset`, or the topic is gone.
    pub async fn wait_beyond(&self, _part: TopicPart, _offset: u64) {
        todo!()
    }
    pub fn clock(&self, _boot: u32) -> Option<crate::time::ClockSync> {
        todo!()
    }
    /// State entries of owner kind `Endpoint` (consumer offsets, producers).
    pub fn state(&self, _key: &[u8]) -> Option<Vec<u8>> {
        todo!()
    }
    pub fn put_state(&self, _key: &[u8], _value: Option<&[u8]>) -> Option<Ticket> {
        todo!()
    }
    pub fn count(&self, _counter: &'static str, _n: u64) {
        todo!()
    }
    pub fn report(&self, _state: PartState) {
        todo!()
    }
    pub fn is_stopping(&self) -> bool {
        todo!()
    }
    pub async fn stopping(&self) {
        todo!()
    }
}
