//! A source's handle.

use std::rc::Rc;

use super::core::{Core, Stop};
use super::{Admitted, OfferError, Part, PartKind, PartState, counters};
use crate::name::Name;
use crate::pipeline::{SourceId, SourcePlan};
use crate::record::RecordRef;
use crate::ring::{StateError, Ticket, TopicError};
use crate::time::{Now, Span};
use crate::topic::{TopicId, TopicName, TopicPart};

/// Cheap to clone. All calls are synchronous unless `async`; none blocks the loop.
#[derive(Clone)]
pub struct Intake {
    core: Rc<Core>,
    id: SourceId,
    name: Name,
    part: Rc<Part>,
    ack_memory: bool,
    stop: Stop,
}

/// See [`Intake::group`].
pub struct Group<'a> {
    core: &'a Core,
}

impl Drop for Group<'_> {
    fn drop(&mut self) {
        self.core.group.set(None);
        let now = self.core.now();
        self.core.pipeline.borrow_mut().end_group(now);
        self.core.kick.notify_one();
    }
}

impl Intake {
    pub(super) fn new(core: &Rc<Core>, plan: SourcePlan, ack_memory: bool, stop: Stop) -> Self {
        let name = plan.name.clone();
        let part = core.part(PartKind::Source, name.as_str());
        let id = core.pipeline.borrow_mut().add_source(plan);
        Self { core: core.clone(), id, name, part, ack_memory, stop }
    }

    pub fn name(&self) -> &Name {
        &self.name
    }

    /// The clocks, as of now.
    pub fn now(&self) -> Now {
        self.core.now()
    }

    /// Tells this boot of the machine from others, whichever ring is in use: part of the kernel's own name for it.
    pub fn boot_mark(&self) -> u32 {
        let [a, b, c, d, ..] = self.core.pipeline.borrow().ring().boot_id();
        u32::from_le_bytes([a, b, c, d])
    }

    /// The topic's number, the topic made if it is not there.
    pub fn topic(&self, name: &TopicName) -> Result<TopicId, TopicError> {
        let id = self.core.pipeline.borrow_mut().open_topic(name, None)?;
        self.core.pipeline.borrow_mut().note_feeds(self.id, id);
        self.core.moved.notify_waiters();
        Ok(id)
    }

    /// Sets admission time and clock flag, renders the source's key template, wraps the value if the source's mode is
    /// `envelope`, runs the topic's rules, appends. The record's bytes are only borrowed for the call. Events that the
    /// rules drop are counted `filtered`; one too large for the ring is the caller's to cut or to count.
    pub fn offer(&self, topic: TopicId, record: &RecordRef<'_>) -> Result<Admitted, OfferError> {
        let group = self.core.group.get();
        let now = group.unwrap_or_else(|| self.core.now());
        let part = TopicPart { topic, partition: 0 };
        let admitted = self.core.pipeline.borrow_mut().offer(now, self.id, part, record);
        if let Ok(Admitted { first: None, .. }) = &admitted {
            self.part.count(counters::FILTERED, 1);
        }
        // What was taken in may be kept by a rule only, which waits for its time. A group kicks at its end.
        if admitted.is_ok() && group.is_none() {
            self.core.kick.notify_one();
        }
        admitted
    }

    /// As `offer`, waiting while the disk is behind. None: too large.
    pub async fn offer_wait(&self, topic: TopicId, record: &RecordRef<'_>) -> Option<Admitted> {
        loop {
            match self.offer(topic, record) {
                Ok(admitted) => return Some(admitted),
                Err(OfferError::TooLarge { .. }) => return None,
                Err(OfferError::Busy) => self.room().await,
            }
        }
    }

    /// Until the guard is dropped, what is offered and the state entries put share one frame per lane: after a crash
    /// all of it is there or nothing, so a checkpoint never trails the lines that it covers. Adds at most `bytes`
    /// (32 KiB, or one larger record); offers inside a group are never `Busy`. Not to be held across an await.
    pub fn group(&self, bytes: usize) -> Result<Group<'_>, OfferError> {
        let now = self.core.now();
        let mut pipeline = self.core.pipeline.borrow_mut();
        if pipeline.is_source_held(self.id) {
            return Err(OfferError::Busy);
        }
        pipeline.begin_group(now, bytes)?;
        drop(pipeline);
        self.core.group.set(Some(now));
        Ok(Group { core: &self.core })
    }

    /// Key, value and attributes of the largest record that the ring takes now (memory mode may take less).
    pub fn max_record(&self) -> usize {
        self.core.pipeline.borrow().ring().max_record()
    }

    /// Returns once `offer` has room again.
    pub async fn room(&self) {
        self.core.room(|pipeline| pipeline.is_source_held(self.id)).await;
    }

    /// Sets or removes a state entry of this source: durable together with (never before) everything offered before.
    pub fn put_state(&self, key: &[u8], value: Option<&[u8]>) -> Result<Ticket, StateError> {
        let now = self.core.now();
        let mut pipeline = self.core.pipeline.borrow_mut();
        let owner = pipeline.source_owner(self.id).clone();
        let ticket = pipeline.put_state(now.boot, &owner, key, value)?;
        self.core.kick.notify_one();
        Ok(ticket)
    }

    pub fn state(&self, key: &[u8]) -> Option<Vec<u8>> {
        let pipeline = self.core.pipeline.borrow();
        pipeline.ring().state(pipeline.source_owner(self.id), key).map(<[u8]>::to_vec)
    }

    /// All entries of this source, in key order.
    pub fn states(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let pipeline = self.core.pipeline.borrow();
        pipeline.ring().states(pipeline.source_owner(self.id))
    }

    /// The peer can send nothing more before it is acknowledged: commit at once (`within` = the most it may wait).
    pub fn hurry(&self, within: Span) {
        self.core.hurry(within);
    }

    /// The peer waits until this may be acknowledged.
    pub fn want(&self, ticket: Ticket) {
        if !self.ack_memory {
            self.core.want(ticket);
        }
    }

    /// Everything up to this ticket may be acknowledged (durable, or at once when the source has `ack = "memory"`).
    pub fn settled(&self) -> Ticket {
        let pipeline = self.core.pipeline.borrow();
        if self.ack_memory { pipeline.ring().last_ticket() } else { pipeline.ring().settled() }
    }

    /// Returns when `settled() >= ticket`.
    pub async fn wait_settled(&self, ticket: Ticket) {
        self.want(ticket);
        self.core.until(|| self.settled() >= ticket).await;
    }

    /// Adds to a counter of this source; shown in status and metrics under its name (see [`super::counters`]).
    pub fn count(&self, counter: &'static str, n: u64) {
        self.part.count(counter, n);
    }

    /// Sets a gauge of this source.
    pub fn gauge(&self, name: &'static str, value: u64) {
        self.part.gauge(name, value);
    }

    /// Says how the source is; a change is logged and kept as an event.
    pub fn report(&self, state: PartState) {
        self.part.report(self.core.now(), state);
    }

    /// Whether the node shuts down (or the source is being replaced): offer nothing more.
    pub fn is_stopping(&self) -> bool {
        self.stop.is_set() || self.core.stop.is_set()
    }

    /// Returns when `is_stopping` becomes true.
    pub async fn stopping(&self) {
        tokio::select! {
            () = self.stop.wait() => {}
            () = self.core.stop.wait() => {}
        }
    }
}
