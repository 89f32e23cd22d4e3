//! The machine: topics and targets, the cursor, the window.

use std::collections::VecDeque;

use super::placing::Placement;
use super::state::{self, LaneState, TopicState};
use super::target::{Phase, Target};
use super::{Input, Note, Options, Output, Placing, Pos, Query, Tally, TargetIx, TopicIx};
use crate::backoff::Backoff;
use crate::limits::{MAX_UPSTREAM_PARTITIONS, MAX_UPSTREAM_TOPICS};
use crate::time::BootTime;

/// Whether a stored change must be durable before it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sync {
    Done,
    Wanted,
    Asked,
}

/// One upstream topic.
#[derive(Clone, Debug)]
pub(super) struct Topic {
    pub name: String,
    /// As stored; `positions` holds only partitions that have no target yet.
    pub state: TopicState,
    /// What metadata told last comes to this, if it is not in use yet.
    pub pending: Option<Placement>,
    /// It has not the one partition that records are to go to.
    pub nowhere: bool,
    pub sync: Sync,
    /// Made by this process: nothing can be on its way to a partition of it that has no target yet.
    pub fresh: bool,
    pub dirty: bool,
    pub targets: Vec<TargetIx>,
}

/// Sends one stream of a lane to the partitions of an upstream. See the module's essay.
#[derive(Debug)]
pub struct Forward {
    pub(super) options: Options,
    pub(super) lane: LaneState,
    pub(super) lane_sync: Sync,
    pub(super) topics: Vec<Topic>,
    pub(super) targets: Vec<Target>,
    /// Everything below it is accounted for; what became of it, since the machine was made.
    pub(super) cursor: Pos,
    pub(super) cursor_tally: Tally,
    /// Where to read next; what became of everything below it.
    pub(super) read: Pos,
    pub(super) cum: Tally,
    /// Records below it were read before.
    pub(super) reread_below: u64,
    /// One past the newest durable record.
    pub(super) ring_end: u64,
    /// The same when the machine was made: what is below it may have been sent by a process before.
    pub(super) born_end: u64,
    pub(super) held: usize,
    pub(super) next_batch: u64,
    /// Bytes of a batch, for all targets.
    pub(super) batch_limit: usize,
    /// Idle targets send what they have, although more would fit.
    pub(super) push: bool,
    pub(super) work: VecDeque<Output>,
    /// Outputs that the upstream refuses for good, at or above the cursor.
    pub(super) poison: Vec<(TargetIx, u64)>,
    pub(super) dirty_cursor: bool,
    pub(super) syncing: bool,
}

impl Forward {
    /// `cursor` is where the sink's lane stands, `ring_end` one past the lane's newest durable record, `stored` the sink's
    /// state entries.
    pub fn new(
        options: Options,
        cursor: Pos,
        ring_end: u64,
        stored: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>,
    ) -> Self {
        let mut forward = Self {
            lane: LaneState { version: state::VERSION, ..LaneState::default() },
            lane_sync: Sync::Done,
            topics: Vec::new(),
            targets: Vec::new(),
            cursor,
            cursor_tally: Tally::default(),
            read: cursor,
            cum: Tally::default(),
            reread_below: 0,
            ring_end,
            born_end: ring_end,
            held: 0,
            next_batch: 0,
            batch_limit: options.max_batch,
            push: false,
            work: VecDeque::new(),
            poison: Vec::new(),
            dirty_cursor: false,
            syncing: false,
            options,
        };
        let mut topics = Vec::new();
        for (key, value) in stored {
            let (lane, stream) = (forward.options.lane, forward.options.stream.number);
            if key == state::lane_key(lane, stream) {
                forward.lane = LaneState::decode(&value).unwrap_or(forward.lane);
            } else if let Some(name) = state::topic_of_key(lane, stream, &key)
                && let Some(topic) = TopicState::decode(&value)
            {
                topics.push((name.to_owned(), topic));
            }
        }
        for (name, topic) in topics.into_iter().take(MAX_UPSTREAM_TOPICS) {
            forward.restore(name, topic);
        }
        forward.restore_refused();
        forward.rewind();
        forward
    }

    fn restore(&mut self, name: String, mut stored: TopicState) {
        let lowered = stored.lower_bounds(self.born_end);
        let resends: Vec<u32> =
            stored.positions.iter().filter(|p| p.resend_below.is_some()).map(|p| p.partition).collect();
        let ix = self.add_topic(name, stored);
        let topic = &mut self.topics[ix.0 as usize];
        (topic.sync, topic.dirty) = (if lowered { Sync::Wanted } else { Sync::Done }, lowered);
        // An unfinished resend is read from where it stopped, so its target must be known before reading begins.
        for partition in resends {
            self.target(ix, partition);
        }
    }

    fn add_topic(&mut self, name: String, state: TopicState) -> TopicIx {
        let ix = TopicIx(self.topics.len() as u16);
        self.topics.push(Topic {
            name,
            state,
            pending: None,
            nowhere: false,
            sync: Sync::Done,
            fresh: false,
            dirty: false,
            targets: Vec::new(),
        });
        ix
    }

    // ---- topics and targets ----

    /// The upstream topic of this name; None when there are too many.
    pub fn topic(&mut self, name: &str) -> Option<TopicIx> {
        if let Some(at) = self.topics.iter().position(|t| t.name == name) {
            return Some(TopicIx(at as u16));
        }
        if self.topics.len() >= MAX_UPSTREAM_TOPICS {
            return None;
        }
        let state = TopicState { version: state::VERSION, ..TopicState::default() };
        Some(self.add_topic(name.to_owned(), state))
    }

    pub fn topic_name(&self, topic: TopicIx) -> &str {
        &self.topics[topic.0 as usize].name
    }

    /// Every upstream topic that is known.
    pub fn topics(&self) -> impl Iterator<Item = (TopicIx, &str)> {
        self.topics.iter().enumerate().map(|(i, t)| (TopicIx(i as u16), t.name.as_str()))
    }

    /// Topic and partition of a target.
    pub fn target_name(&self, target: TargetIx) -> (TopicIx, &str, u32) {
        let t = &self.targets[target.0 as usize];
        (t.topic, self.topic_name(t.topic), t.partition)
    }

    /// The partition a record belongs to.
    pub fn place(&mut self, topic: TopicIx, key: Option<&[u8]>, seq: u64) -> Placing {
        let t = &self.topics[topic.0 as usize];
        let (placement, first_use) = t.state.placement_at(seq);
        // It is durable before its first use: else a crash would look for the record where it was not sent.
        if t.nowhere || !placement.is_known() || (first_use && t.sync != Sync::Done) {
            self.push = true;
            return Placing::Wait;
        }
        let partition = placement.of(key, seq);
        self.target(topic, partition).map_or(Placing::TooMany, Placing::Target)
    }

    pub(super) fn target(&mut self, topic: TopicIx, partition: u32) -> Option<TargetIx> {
        let t = &self.topics[topic.0 as usize];
        if let Some(ix) = t.targets.iter().find(|ix| self.targets[ix.0 as usize].partition == partition) {
            return Some(*ix);
        }
        if self.targets.len() >= MAX_UPSTREAM_PARTITIONS {
            return None;
        }
        let ix = TargetIx(self.targets.len() as u16);
        let unsent = self.options.stream.unstarted;
        let fresh = t.fresh || unsent;
        let positions = &mut self.topics[topic.0 as usize].state.positions;
        let at = positions.iter().position(|p| p.partition == partition);
        let position = at.map(|at| positions.swap_remove(at)).unwrap_or_default();
        let mine = self.mine(topic, partition, position.lives);
        let next = position.last.map_or(0, |s| s.number + 1).max(self.options.stream.start);
        let own_below = self.own_below(&position);
        let (base, cap) = self.options.retry;
        self.targets.push(Target {
            topic,
            partition,
            phase: Phase::Closed,
            mine,
            next,
            taken: next,
            last: position.last,
            resend_below: position.resend_below,
            opaque: position.opaque,
            proven: position.proven,
            unanswered: 0,
            expected: None,
            doubt: !fresh,
            unsent,
            count: None,
            out_of_turn: false,
            compare: None,
            shared: position.shared,
            seen_uncommitted: false,
            suspect_until: None,
            sent_below: self.born_end,
            own_below,
            lives: position.lives,
            unsure_below: position.unsure_below,
            open: None,
            inflight: None,
            limit: self.options.max_batch,
            backoff: Backoff::new(base, cap, self.options.seed ^ u64::from(ix.0)),
        });
        self.topics[topic.0 as usize].targets.push(ix);
        Some(ix)
    }

    // ---- time and output ----

    /// When `poll` has something to say although no input comes before.
    pub fn next_timeout(&self) -> Option<BootTime> {
        self.targets.iter().filter_map(Target::until).min()
    }

    pub fn poll(&mut self, now: BootTime) -> Option<Output> {
        if let Some(output) = self.work.pop_front() {
            return Some(output);
        }
        self.wake(now);
        let read = self.read.seq;
        self.give_up_compares(|t| read >= t.sent_below);
        self.settle_topics();
        if self.push {
            for i in 0..self.targets.len() {
                if matches!(self.targets[i].phase, Phase::Ready) && self.targets[i].open.is_some() {
                    self.send(TargetIx(i as u16));
                }
            }
        }
        self.work.pop_front().or_else(|| self.advance())
    }

    fn wake(&mut self, now: BootTime) {
        for i in 0..self.targets.len() {
            if self.targets[i].until().is_some_and(|until| now >= until) {
                self.timeout(TargetIx(i as u16));
            }
        }
    }

    // ---- losing and finding ----

    pub(super) fn dirty(&mut self, ix: TargetIx) {
        let topic = self.targets[ix.0 as usize].topic;
        self.topics[topic.0 as usize].dirty = true;
        self.dirty_cursor = true;
    }

    pub(super) fn note(&mut self, note: Note) {
        self.work.push_back(Output::Note(note));
    }

    pub(super) fn ask(&mut self, target: TargetIx, query: Query) {
        self.work.push_back(Output::Ask { target, query });
    }

    /// Forgets a target's batches and reads them again.
    pub(super) fn discard(&mut self, ix: TargetIx) {
        let t = &mut self.targets[ix.0 as usize];
        let held = t.held();
        let compared = t.compare.take().is_some();
        t.doubt |= compared;
        let had = compared || !t.is_idle();
        t.drop_batches();
        self.held -= held;
        if had {
            self.work.push_back(Output::Discard { target: ix });
            self.rewind();
        }
    }

    pub(super) fn release(&mut self, bytes: usize) {
        self.held -= bytes;
    }

    /// Reads again from the cursor, or from where the oldest unfinished resend stands.
    pub(super) fn rewind(&mut self) {
        self.reread_below = self.reread_below.max(self.read.seq);
        (self.read, self.cum) = (self.cursor, self.cursor_tally);
        for t in self.targets.iter().filter(|t| t.resend_below.is_some()) {
            if t.next < self.read.seq {
                self.read = Pos { seq: t.next, ordinal: 0 };
            }
        }
        self.dirty_cursor = true;
    }

    pub fn handle(&mut self, now: BootTime, input: Input) {
        match input {
            Input::Partitions { topic, count, fresh } => self.partitions(topic, count, fresh),
            Input::Up { target, counts } => self.up(now, target, counts),
            Input::Down { target } => self.down(target),
            Input::Sent { target, result } => match result {
                Ok(base) => self.acknowledged(now, target, base),
                Err(reject) => self.rejected(now, target, reject),
            },
            Input::Offsets { target, result } => self.offsets(now, target, result),
            Input::Header { target, result } => self.header(now, target, result),
            Input::Producer { target, result } => self.counted(now, target, result),
            Input::Contents { target, result } => self.contents(now, target, result),
            Input::Synced => self.synced(),
        }
    }

    fn partitions(&mut self, ix: TopicIx, count: u32, fresh: bool) {
        let topic = &mut self.topics[ix.0 as usize];
        // Told again while its count becomes durable, it is still the topic that was made here.
        topic.fresh |= fresh;
        let newest = topic.state.switch.map_or(topic.state.placement, |(_, next)| next);
        let next = self.options.spread.over(count);
        topic.nowhere = count > 0 && next.is_none();
        topic.pending = next.filter(|next| *next != newest);
        if fresh {
            for ix in topic.targets.clone() {
                self.targets[ix.0 as usize].doubt = false;
            }
        }
    }

    fn synced(&mut self) {
        self.syncing = false;
        for topic in self.topics.iter_mut().filter(|t| t.sync == Sync::Asked) {
            topic.sync = Sync::Done;
        }
        if self.lane_sync == Sync::Asked {
            self.lane_sync = Sync::Done;
        }
        self.dirty_cursor = true;
    }
}
