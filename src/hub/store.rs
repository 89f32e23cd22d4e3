//! The handle of those who speak of topics and offsets: the endpoint, the control socket's `send` and `tail`.

use std::rc::Rc;
use std::sync::Arc;

use super::core::Core;
use super::{Admitted, OfferError, Part, PartKind, PartState};
use crate::limits::MAX_CONNECTIONS;
use crate::name::Name;
use crate::pipeline::Pipeline;
use crate::record::RecordRef;
use crate::ring::{Frame, Owner, OwnerKind, ReadStep, Ticket, TopicError, TopicInfo};
use crate::time::{ClockSync, Now, Span};
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

/// What the endpoint keeps as state entries, each under an owner with room of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// Offsets of consumers.
    Consumers,
    /// The newest batches of producers.
    Producers,
}

impl Kept {
    /// Owner kind `Endpoint`, and this name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Consumers => "endpoint",
            Self::Producers => "producers",
        }
    }
}

/// Puts what stands in the frame of a batch.
pub struct Beside<'a> {
    pipeline: &'a mut Pipeline,
    owner: &'a Owner,
    now: Now,
}

impl Beside<'_> {
    pub fn state(&self, key: &[u8]) -> Option<&[u8]> {
        self.pipeline.ring().state(self.owner, key)
    }

    /// Where there is no room the key has no entry: an old one would not be true any more.
    pub fn put(&mut self, key: &[u8], value: &[u8]) {
        if self.pipeline.put_state(self.now.boot, self.owner, key, Some(value)).is_err() {
            // A removal takes no room.
            let _ = self.pipeline.put_state(self.now.boot, self.owner, key, None);
        }
    }
}

#[derive(Clone)]
pub struct Store {
    core: Rc<Core>,
    consumers: Owner,
    producers: Owner,
}

impl Store {
    pub(super) fn new(core: &Rc<Core>) -> Self {
        // Constants of lower-case letters are always names.
        let owner = |kept: Kept| Owner {
            kind: OwnerKind::Endpoint,
            name: Name::new(kept.name()).unwrap_or_else(|_| unreachable!()),
        };
        Self { core: core.clone(), consumers: owner(Kept::Consumers), producers: owner(Kept::Producers) }
    }

    pub fn now(&self) -> Now {
        self.core.now()
    }

    pub fn topics(&self) -> Vec<TopicInfo> {
        let pipeline = self.core.pipeline.borrow();
        let ring = pipeline.ring();
        ring.topic_ids().into_iter().filter_map(|id| ring.topic(id)).collect()
    }

    pub fn topic(&self, name: &str) -> Option<TopicInfo> {
        let pipeline = self.core.pipeline.borrow();
        pipeline.ring().topic_id(name).and_then(|id| pipeline.ring().topic(id))
    }

    /// The topic's number, made if it is not there (durable with the next commit).
    pub fn open_topic(&self, name: &TopicName) -> Result<TopicId, TopicError> {
        let id = self.core.pipeline.borrow_mut().open_topic(name, None)?;
        self.core.moved.notify_waiters();
        self.core.kick.notify_one();
        Ok(id)
    }

    /// Makes a topic, durable on return.
    pub async fn create_topic(&self, name: &TopicName, partitions: u8) -> Result<TopicId, TopicError> {
        let (id, ticket) = {
            let mut pipeline = self.core.pipeline.borrow_mut();
            let id = pipeline.open_topic(name, Some(partitions))?;
            (id, pipeline.ring().last_ticket())
        };
        self.settle(ticket).await;
        Ok(id)
    }

    /// Removes a topic and its records, durable on return. Offsets of a topic made anew begin at 0.
    pub async fn delete_topic(&self, id: TopicId) {
        let ticket = {
            let mut pipeline = self.core.pipeline.borrow_mut();
            pipeline.remove_topic(id);
            pipeline.ring().last_ticket()
        };
        self.settle(ticket).await;
    }

    async fn settle(&self, ticket: Ticket) {
        self.core.moved.notify_waiters();
        self.core.hurry(Span::default());
        self.core.wait_settled(ticket).await;
    }

    pub fn topics_generation(&self) -> u64 {
        self.core.pipeline.borrow().topics_generation()
    }

    /// Returns when a topic is made or removed after `generation`; gives the new generation.
    pub async fn topics_changed(&self, generation: u64) -> u64 {
        self.core.until(|| self.topics_generation() != generation).await;
        self.topics_generation()
    }

    /// Offers one record to a partition through the topic's rules.
    pub fn offer(&self, part: TopicPart, record: &RecordRef<'_>) -> Result<Admitted, OfferError> {
        let now = self.core.now();
        let admitted = self.core.pipeline.borrow_mut().offer_plain(now, part, record);
        self.core.kick.notify_one();
        admitted
    }

    /// A batch of records of `bytes` (see [`RecordRef::len`]) that lands as one frame, in order, through the topic's
    /// rules; the last one's ticket is settled when all are durable. `beside` is told of what was taken in, and puts
    /// producers' entries into the same frame.
    pub fn offer_batch<'a>(
        &self,
        part: TopicPart,
        records: &mut dyn Iterator<Item = RecordRef<'a>>,
        bytes: usize,
        beside: &mut dyn FnMut(&[Admitted], &mut Beside<'_>),
    ) -> Result<Vec<Admitted>, OfferError> {
        let now = self.core.now();
        let mut put = |pipeline: &mut Pipeline, admitted: &[Admitted]| {
            beside(admitted, &mut Beside { pipeline, owner: &self.producers, now });
        };
        let admitted = self.core.pipeline.borrow_mut().offer_batch(now, part, records, bytes, &mut put);
        self.core.kick.notify_one();
        admitted
    }

    /// The largest record, or batch, that the ring takes, in bytes.
    pub fn max_record(&self) -> usize {
        self.core.pipeline.borrow().ring().max_record()
    }

    /// Returns once a record of this topic finds room, or the node stops.
    pub async fn room(&self, topic: TopicId) {
        tokio::select! {
            () = self.core.room(|pipeline| pipeline.is_held(topic)) => {}
            () = self.core.stop.wait() => {}
        }
    }

    /// Why a record of this topic finds no room until something is done about it; None where it finds some, or will soon.
    pub fn why_held(&self, topic: TopicId) -> Option<String> {
        self.core.pipeline.borrow().why_held(topic)
    }

    /// Returns once a record of this topic finds no room until a sink, or a person, makes some.
    pub async fn held(&self, topic: TopicId) {
        self.core.until(|| self.core.pipeline.borrow().is_held(topic)).await;
    }

    pub fn hurry(&self, within: Span) {
        self.core.hurry(within);
    }

    pub fn settled(&self) -> Ticket {
        self.core.settled()
    }

    pub async fn wait_settled(&self, ticket: Ticket) {
        self.core.wait_settled(ticket).await;
    }

    /// What stands at `offset`; waits for the disk, not for new records. Reading ascending offsets is cheap: the places
    /// of the newest readers are remembered.
    pub async fn read(&self, part: TopicPart, offset: u64) -> PartStep {
        let mut reader = self.take_reader(part, offset);
        let step = loop {
            let moved = self.core.moved.notified();
            tokio::pin!(moved);
            moved.as_mut().enable();
            let step = self.core.pipeline.borrow_mut().read_part(&mut reader);
            match step {
                ReadStep::Frame(frame) => break PartStep::Frame(frame),
                ReadStep::Gap(_) => break PartStep::Gone { resume: reader.offset },
                ReadStep::End => break PartStep::End,
                ReadStep::Wait => {
                    self.core.kick.notify_one();
                    moved.await;
                }
            }
        };
        let mut readers = self.core.part_readers.borrow_mut();
        if readers.len() >= MAX_CONNECTIONS {
            readers.remove(0);
        }
        readers.push(reader);
        step
    }

    /// The remembered reader nearest below `offset`, moved there; else a new one.
    fn take_reader(&self, part: TopicPart, offset: u64) -> crate::ring::PartReader {
        let mut readers = self.core.part_readers.borrow_mut();
        let candidates = readers.iter().enumerate().filter(|(_, r)| r.part == part && r.offset <= offset);
        match candidates.max_by_key(|(_, r)| r.offset).map(|(index, _)| index) {
            Some(index) => {
                let mut reader = readers.remove(index);
                reader.offset = offset;
                reader
            }
            None => self.core.pipeline.borrow().ring().part_reader(part, offset),
        }
    }

    /// Returns when the partition's durable end is beyond `offset`, or the topic is gone.
    pub async fn wait_beyond(&self, part: TopicPart, offset: u64) {
        let beyond = || {
            let pipeline = self.core.pipeline.borrow();
            pipeline.ring().durable_end(part).is_none_or(|end| end > offset)
        };
        self.core.until(beyond).await;
    }

    pub fn clock(&self, boot: u32) -> Option<ClockSync> {
        self.core.pipeline.borrow().ring().clock(boot)
    }

    fn owner(&self, kept: Kept) -> &Owner {
        match kept {
            Kept::Consumers => &self.consumers,
            Kept::Producers => &self.producers,
        }
    }

    pub fn state(&self, kept: Kept, key: &[u8]) -> Option<Vec<u8>> {
        let pipeline = self.core.pipeline.borrow();
        pipeline.ring().state(self.owner(kept), key).map(<[u8]>::to_vec)
    }

    pub fn put_state(&self, kept: Kept, key: &[u8], value: Option<&[u8]>) -> Option<Ticket> {
        let now = self.core.now();
        let ticket = self.core.pipeline.borrow_mut().put_state(now.boot, self.owner(kept), key, value).ok();
        self.core.kick.notify_one();
        ticket
    }

    /// All entries, in key order.
    pub fn states(&self, kept: Kept) -> Vec<(Vec<u8>, Vec<u8>)> {
        self.core.pipeline.borrow().ring().states(self.owner(kept))
    }

    /// How many entries, their bytes, and what all owners together may have.
    pub fn weigh(&self, kept: Kept) -> (usize, usize, usize) {
        let pipeline = self.core.pipeline.borrow();
        let (entries, bytes) = pipeline.ring().weigh_states(self.owner(kept));
        (entries, bytes, pipeline.ring().states_limit())
    }

    /// The newest ticket that was given.
    pub fn last_ticket(&self) -> Ticket {
        self.core.pipeline.borrow().ring().last_ticket()
    }

    /// The endpoint's part of the board; not there before the endpoint says something.
    fn part(&self) -> Rc<Part> {
        self.core.part(PartKind::Endpoint, "endpoint")
    }

    pub fn count(&self, counter: &'static str, n: u64) {
        self.part().count(counter, n);
    }

    pub fn gauge(&self, name: &'static str, value: u64) {
        self.part().gauge(name, value);
    }

    pub fn report(&self, state: PartState) {
        self.part().report(self.core.now(), state);
    }

    pub fn is_stopping(&self) -> bool {
        self.core.stop.is_set()
    }

    pub async fn stopping(&self) {
        self.core.stop.wait().await;
    }
}
