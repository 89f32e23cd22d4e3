//! A sink's handle.

use std::rc::Rc;
use std::sync::Arc;

use super::core::{Core, Lever};
use super::{Part, PartKind, PartState, Tally};
use crate::lane::LaneId;
use crate::name::Name;
use crate::pipeline::{Account, Fate, Heads, Note, Refusal, SinkId, SinkPlan, Stream, StreamId, Unread, Waits, When};
use crate::ring::{Entry, Frame, Gap, LanePos, ReadStep, RingId};
use crate::rules::Told;
use crate::time::{Ages, ClockSync, Now, Span};
use crate::topic::{TopicId, TopicName};

/// What comes next in a lane.
#[derive(Clone, Debug)]
pub enum Step {
    /// Records from the position on: `frame.entries_from(pos.seq)`; then go on at `frame.end()`. Both only up to
    /// [`Outlet::end`], where the stream ends.
    Frame(Arc<Frame>),
    /// Go on at `gap.to`, once [`Outlet::persist`] has returned: what is behind a gap must not be sent before the gap is
    /// durable. Counted for this sink when `advance` passes it.
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
    /// Said once by `order_changed`: connect and send what waits now, lingering for nothing. `order` stays `Run`.
    Flush,
    /// The sink ends: finish the request in flight within a second or drop it, then return.
    Stop,
}

#[derive(Clone)]
pub struct Outlet {
    core: Rc<Core>,
    id: SinkId,
    name: Name,
    part: Rc<Part>,
    lever: Rc<Lever>,
}

impl Outlet {
    pub(super) fn new(core: &Rc<Core>, plan: SinkPlan) -> (Self, Rc<Lever>) {
        let name = plan.name.clone();
        let part = core.part(PartKind::Sink, name.as_str());
        let id = core.pipeline.borrow_mut().add_sink(plan);
        let lever = Rc::new(Lever::new(name.clone(), id));
        let mut levers = core.levers.borrow_mut();
        levers.retain(|known| known.name != name);
        levers.push(lever.clone());
        drop(levers);
        core.kick.notify_one();
        (Self { core: core.clone(), id, name, part, lever: lever.clone() }, lever)
    }

    pub fn name(&self) -> &Name {
        &self.name
    }

    pub fn now(&self) -> Now {
        self.core.now()
    }

    pub fn ring_id(&self) -> RingId {
        self.core.pipeline.borrow().ring().id()
    }

    /// Its ids on other machines, each with the first seq after it.
    pub fn former_rings(&self) -> Vec<(u128, u64)> {
        let pipeline = self.core.pipeline.borrow();
        pipeline.ring().former().into_iter().map(|(id, seq)| (id.0, seq)).collect()
    }

    /// Records below this seq were perhaps sent although no state entry says so: some were lost to damage.
    pub fn forgotten_below(&self) -> u64 {
        self.core.pipeline.borrow().ring().forgotten_below()
    }

    /// The most important first.
    pub fn lanes(&self) -> Vec<LaneId> {
        self.core.pipeline.borrow().ring().lane_order()
    }

    /// Whether the sink's `topics` / `exclude` take this topic.
    pub fn wants(&self, topic: TopicId) -> bool {
        self.core.pipeline.borrow().wants(self.id, topic)
    }

    /// Whether the record is to be sent: its topic is wanted, and it is not one that a newer one has made worthless
    /// (heartbeats). What is not taken counts as `filtered`.
    pub fn takes(&self, entry: &Entry<'_>) -> bool {
        let pipeline = self.core.pipeline.borrow();
        pipeline.wants(self.id, entry.part.topic) && !pipeline.is_superseded(entry)
    }

    /// Whether the record, written in `boot`, is older than its topic's `max_age`; counts as `expired`.
    pub fn is_expired(&self, entry: &Entry<'_>, boot: u32) -> bool {
        self.core.pipeline.borrow().is_expired(|| self.core.now(), entry, boot)
    }

    /// Whether the record is in a gap that the sink has met, and stays there; or the sink has it from another ring.
    pub fn is_missed(&self, lane: LaneId, ordinal: u64) -> bool {
        self.core.pipeline.borrow().is_missed(self.id, lane, ordinal)
    }

    /// None: the topic was removed; its records count as `released`.
    pub fn topic_name(&self, topic: TopicId) -> Option<TopicName> {
        self.core.pipeline.borrow().topic_name(topic).cloned()
    }

    /// The number of this boot.
    pub fn boot(&self) -> u32 {
        self.core.pipeline.borrow().ring().boot()
    }

    /// How old what was written in a boot is now.
    pub fn ages(&self, boot: u32) -> Ages {
        self.core.pipeline.borrow().ages(self.core.now(), boot)
    }

    pub fn clock(&self, boot: u32) -> Option<ClockSync> {
        self.core.pipeline.borrow().ring().clock(boot)
    }

    /// The cursor: everything of the stream below it is accounted for.
    pub fn cursor(&self, of: impl Into<StreamId>) -> LanePos {
        self.core.pipeline.borrow().cursor(self.id, of)
    }

    /// The ranges in which the lane is sent, the oldest first.
    pub fn streams(&self, lane: LaneId) -> Vec<Stream> {
        self.core.pipeline.borrow().streams(self.id, lane)
    }

    /// Which of the older ones is to be sent next.
    pub fn older_stream(&self, lane: LaneId) -> Option<Stream> {
        self.core.pipeline.borrow().older_stream(self.id, lane)
    }

    /// Makes what comes from now on a stream of its own if at least `least` records wait in the newest one; to be followed
    /// by `persist`.
    pub fn split(&mut self, lane: LaneId, least: u64) -> bool {
        let now = self.core.now().boot;
        self.core.pipeline.borrow_mut().split(now, self.id, lane, least)
    }

    /// The stream has nothing left to send; false: it has, or is the newest. `gone`: keys of its state.
    pub fn absorb(&mut self, of: impl Into<StreamId>, gone: Vec<Vec<u8>>) -> bool {
        let absorbed = self.core.pipeline.borrow_mut().absorb(self.id, of, gone);
        if absorbed {
            self.core.moved.notify_waiters();
        }
        absorbed
    }

    pub fn account(&self, lane: LaneId) -> Account {
        self.core.pipeline.borrow().account(self.id, lane)
    }

    /// What stands at `pos`; waits for the disk, not for new records. [`Step::End`] also while what a topic left in another
    /// lane is to be finished first.
    pub async fn read(&mut self, of: impl Into<StreamId>, pos: LanePos) -> Step {
        let of = of.into();
        loop {
            let moved = self.core.moved.notified();
            tokio::pin!(moved);
            moved.as_mut().enable();
            let step = self.core.pipeline.borrow_mut().read(self.id, of, pos);
            match step {
                ReadStep::Frame(frame) => return Step::Frame(frame),
                ReadStep::Gap(gap) => return Step::Gap(gap),
                ReadStep::End => return Step::End,
                ReadStep::Wait => {
                    self.core.kick.notify_one();
                    moved.await;
                }
            }
        }
    }

    /// Returns when something stands at or beyond `pos`. (An order that changes meanwhile: `order_changed`.)
    pub async fn wait(&mut self, lane: LaneId, pos: LanePos) {
        let core = &self.core;
        core.until(|| core.pipeline.borrow().ring().lane_durable(lane).ordinal > pos.ordinal).await;
    }

    /// How long the record has waited that waits longest.
    pub async fn longest_wait(&self, heads: &mut Heads) -> Waits {
        loop {
            let moved = self.core.moved.notified();
            tokio::pin!(moved);
            moved.as_mut().enable();
            let waits = self.core.pipeline.borrow_mut().longest_wait(self.core.now(), self.id, heads);
            match waits {
                Ok(waits) => return waits,
                Err(Unread) => {
                    self.core.kick.notify_one();
                    moved.await;
                }
            }
        }
    }

    /// Tells an alarm, and keeps `state` of it under `key`; false: not now.
    pub fn alarm(&self, record: &[u8], key: &[u8], state: Option<&[u8]>) -> bool {
        let now = self.core.now();
        let told = self.core.pipeline.borrow_mut().alarm(now, self.id, record, key, state);
        self.core.hurry(Span::default());
        told
    }

    /// Whether something stands at or beyond `pos` that may be read now.
    pub fn has_more(&self, of: impl Into<StreamId>, pos: LanePos) -> bool {
        self.core.pipeline.borrow().has_more(self.id, of, pos)
    }

    /// As `wait` for several streams at once.
    pub async fn wait_any(&self, places: &[(StreamId, LanePos)]) {
        let core = &self.core;
        core.until(|| {
            let pipeline = core.pipeline.borrow();
            places.iter().any(|(of, pos)| pipeline.has_more(self.id, *of, *pos))
        })
        .await;
    }

    /// What becomes of a record that was read and written in `boot`, as `advance` will count it once the cursor passes it;
    /// `stop`: the cursor may come to rest before it. A record that is read again is noted again, and all after it.
    pub fn note(&self, of: impl Into<StreamId>, entry: &Entry<'_>, boot: u32, fate: Fate, stop: bool) {
        let when = When { boot, at: entry.record.admitted };
        let note = Note { ordinal: entry.ordinal, part: entry.part, offset: entry.offset, when, fate, stop };
        self.core.pipeline.borrow_mut().note(self.id, of, &note);
    }

    /// The upstream refuses for good a record that was noted as refused: it becomes a dead letter once the cursor passes it.
    pub fn refuse(&self, of: impl Into<StreamId>, entry: &Entry<'_>, boot: u32, refusal: &Refusal<'_>) {
        self.core.pipeline.borrow_mut().refuse(self.core.now(), self.id, of, entry, boot, refusal);
    }

    /// Whether the record at `ordinal` may be read: there is room for a dead letter. Else when the cursor has moved on, or
    /// what waits is stored ([`Outlet::has_letters`], `persist`).
    pub fn has_letter_room(&self, of: impl Into<StreamId>, ordinal: u64) -> bool {
        self.core.pipeline.borrow_mut().has_letter_room(self.id, of, ordinal)
    }

    /// Whether dead letters of passed records wait for the disk.
    pub fn has_letters(&self) -> bool {
        self.core.pipeline.borrow().has_letters(self.id)
    }

    /// Moves the cursor to `to`: `tally` says what became of the records passed (gaps met by `read` below `to` are
    /// added by the pipeline). `state` is stored atomically with it; `bytes` were sent for it.
    pub fn advance(
        &mut self,
        of: impl Into<StreamId>,
        to: LanePos,
        tally: Tally,
        bytes: u64,
        state: &[(&[u8], Option<&[u8]>)],
    ) {
        let now = self.core.now();
        self.core.pipeline.borrow_mut().advance(now.boot, self.id, of, to, tally, bytes, state);
        self.core.moved.notify_waiters();
        self.core.kick.notify_one();
    }

    pub fn state(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.core.pipeline.borrow().sink_state(self.id, key)
    }

    /// All state entries of this sink, in key order.
    pub fn states(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        self.core.pipeline.borrow().sink_states(self.id)
    }

    /// Returns when everything given to `advance` is durable.
    pub async fn persist(&self) {
        let now = self.core.now().boot;
        let ticket = self.core.pipeline.borrow_mut().store_cursors(now);
        self.core.hurry(Span::default());
        self.core.wait_settled(ticket).await;
    }

    /// Where the stream ends; the newest one ends past the newest durable record.
    pub fn end(&self, of: impl Into<StreamId>) -> LanePos {
        self.core.pipeline.borrow().end(self.id, of)
    }

    /// Whether nothing will ever stand at `pos` or beyond it: the stream ends there.
    pub fn is_at_end(&self, of: impl Into<StreamId>, pos: LanePos) -> bool {
        self.core.pipeline.borrow().is_at_end(self.id, of, pos)
    }

    /// The node's id and labels, for templates.
    pub fn site(&self) -> (String, std::collections::BTreeMap<String, String>) {
        let pipeline = self.core.pipeline.borrow();
        let (node, labels) = pipeline.site();
        (node.to_owned(), labels.clone())
    }

    /// Records of the lane that are durable and beyond the cursors.
    pub fn pending(&self, lane: LaneId) -> u64 {
        let pipeline = self.core.pipeline.borrow();
        let end = pipeline.ring().lane_durable(lane);
        let pending = |of: Stream| of.to.unwrap_or(end).ordinal.saturating_sub(of.cursor.ordinal);
        pipeline.streams(self.id, lane).into_iter().map(pending).sum()
    }

    pub fn order(&self) -> SinkOrder {
        self.lever.order()
    }

    /// Returns when an order is given.
    pub async fn order_changed(&mut self) -> SinkOrder {
        self.lever.changed().await
    }

    /// As `order_changed`, not borrowing the outlet: for waiting beside a read.
    pub fn lever(&self) -> Rc<Lever> {
        self.lever.clone()
    }

    /// The lane of this name, or the last one.
    pub fn lane_named(&self, name: &Name) -> LaneId {
        self.core.pipeline.borrow().ring().lane_named(name)
    }

    /// So many records were acknowledged together: the newest and the oldest of them this long after their admission; None:
    /// nobody knows.
    pub fn fresh(&self, ages: Option<(Span, Span)>, records: u64) {
        self.part.fresh(ages, records);
    }

    pub fn count(&self, counter: &'static str, n: u64) {
        self.part.count(counter, n);
    }

    pub fn gauge(&self, name: &'static str, value: u64) {
        self.part.gauge(name, value);
    }

    /// What the sink's rules did since it was last told.
    pub fn tell_rules<'a>(&self, told: impl Iterator<Item = (&'a Name, Told)>) {
        self.part.tell_rules(told);
    }

    pub fn report(&self, state: PartState) {
        self.part.report(self.core.now(), state);
    }
}
