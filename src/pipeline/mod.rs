//! The pipeline: pure composition of rules, ring and sink accounts.
//!
//! A source's event goes in by [`Pipeline::offer`]: key and envelope, the rules of its topic, the ring. A sink reads by
//! [`Pipeline::read`] and says by [`Pipeline::advance`] what became of what it read; its account and cursor are one state
//! entry a lane, whose format `streams` has: a lane may be sent in several ranges, each with a cursor. The cursor rides on frames that are written anyway; only where nothing else is written does it get a frame of
//! its own, every 30 s or 8 MiB, because a cursor that is too old costs a longer resume (or, where a sink has no markers,
//! the same lines again) and never a record.
//!
//! What a sink makes of each record it also notes ([`Pipeline::note`]), so that its account divides among topics (`shares`), and
//! every loss that the account counts is told by a record of `headwater-gaps` in the same frame (`losses`), and every record that
//! an upstream refuses becomes one of `headwater-dead-letters` (`letters`). How long what it has not had waits can be asked
//! (`waiting`), and where that is too long a record of `headwater-alarms` says so (`alarms`).
//!
//! Nothing here waits, reads a clock or touches a disk: the node (or the simulation) takes the disk's commands from
//! [`Pipeline::poll`] and brings completions back by [`Pipeline::complete`].

mod ahead;
mod alarms;
mod book;
mod elsewhere;
mod letters;
mod losses;
mod offer;
mod past;
mod route;
mod rules;
mod shares;
mod sinks;
mod snapshot;
mod streams;
#[cfg(test)]
mod tests;
mod waiting;

use std::collections::BTreeMap;

pub use ahead::{Fate, Note, When};
pub use alarms::ALARMS_TOPIC;
use book::Within;
pub use book::{Account, Tally};
pub use elsewhere::{Stretch, note_elsewhere};
pub use letters::{DEAD_LETTERS_TOPIC, DeadLetters, Refusal};
pub use losses::GAPS_TOPIC;
pub use route::Failure;
use route::Route;
pub use rules::Stopped;
pub use shares::Counts;
pub use sinks::{SinkStates, note_sink};
pub use snapshot::{SinkBook, Snapshot, StreamBook, TopicBook};
use streams::Streams;
pub use streams::{MAX_STREAMS, Stream, StreamId, stored_streams};
pub use waiting::{Heads, Unread, Waits};

use crate::envelope::ValueMode;
use crate::lane::LaneId;
use crate::name::Name;
use crate::record::{Flags, RecordRef};
use crate::ring::{
    Appended, Command, Completion, GapReason, Health, LanePos, Owner, OwnerKind, PartReader, ReadStep, Report, Ring,
    RingId, StateError, Stats, Ticket, TopicError, TopicInfo,
};
use crate::rules::{Clock, Rule, Told};
use crate::template::Template;
use crate::time::{BootTime, ClockSync, Now, Span};
use crate::topic::{TopicId, TopicName, TopicPart, TopicSet};

/// A moved cursor that nothing else carries gets a frame of its own after this long,
const CURSOR_EVERY: Span = Span::from_secs(30);
/// or after this much was sent.
const CURSOR_BYTES: u64 = 8 * 1024 * 1024;
/// A moved cursor rides along with data at most this often.
const CURSOR_RIDE: Span = Span::from_secs(1);
/// In RAM-first mode a cursor brings what is held to the disk: then it waits this many times as long for a frame of its own,
const RAM_FIRST_TIMES: u32 = 10;
/// and this long for one that comes anyway.
const RAM_FIRST_RIDE: Span = Span::from_secs(30);
/// What a stored [`Account`] is filled up to: it is longer only when most of its counts are above 2^32.
const ACCOUNT_LEAST: usize = 96;
/// The wall clock is noted again when it moved against the boot clock by more than this.
const CLOCK_STEP: i64 = 50_000;

/// What the pipeline needs to know of the configuration.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    pub node: String,
    pub labels: BTreeMap<String, String>,
    /// The most important first.
    pub lanes: Vec<Name>,
    /// Topics with settings of their own; others get the default lane and one partition, the node's own the first lane.
    pub topics: BTreeMap<TopicName, TopicPlan>,
    /// As an index of `lanes`.
    pub default_lane: usize,
    /// While every sink takes what there is, what nobody waits for stays in memory.
    pub ram_first: bool,
    pub rules: Vec<RulePlan>,
    /// What rules are timed by.
    pub clock: Option<Clock>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicPlan {
    /// As an index of the plan's `lanes`.
    pub lane: usize,
    pub partitions: u8,
    /// When the ring is full its sources wait, rather than push out what is not read yet.
    pub pause: bool,
    /// Records that are older are not sent any more, where their age is known.
    pub max_age: Option<Span>,
}

/// A rule that stands before the ring.
#[derive(Clone, Debug)]
pub struct RulePlan {
    pub topics: TopicSet,
    pub into: Option<TopicName>,
    pub rule: Rule,
}

/// What a source puts around its events.
#[derive(Clone, Debug)]
pub struct SourcePlan {
    pub name: Name,
    pub key: Option<Template>,
    pub value: ValueMode,
}

/// A sink as the pipeline knows it.
#[derive(Clone, Debug)]
pub struct SinkPlan {
    pub name: Name,
    pub topics: TopicSet,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceId(pub usize);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SinkId(pub usize);

/// What became of one offered event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// Settled when the event may be acknowledged.
    pub ticket: Ticket,
    /// The place of its first output; None when the rules dropped it.
    pub first: Option<Appended>,
    /// Rules that failed on it (it passed them unchanged).
    pub rule_errors: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OfferError {
    /// Nothing was taken: offer again when there is room.
    #[error("the disk is behind, or the ring is full of what must be kept")]
    Busy,
    /// The source counts it as refused and goes on (and may acknowledge it).
    #[error("record of {bytes} bytes is larger than the {limit} that fit this ring")]
    TooLarge { bytes: usize, limit: usize },
}

struct Source {
    owner: Owner,
    plan: SourcePlan,
    /// Topics that it has asked for.
    topics: Vec<TopicId>,
}

struct Sink {
    owner: Owner,
    topics: TopicSet,
    configured: bool,
    lanes: Vec<Streams>,
    /// State that goes to the ring together with the cursor it belongs to.
    state: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    /// Dead letters that go there with it: their records are passed.
    letters: Vec<letters::Letter>,
    allowance: letters::Allowance,
}

pub struct Pipeline {
    ring: Ring,
    plan: Plan,
    routes: Vec<Option<Route>>,
    sources: Vec<Source>,
    sinks: Vec<Sink>,
    recovery: Report,
    memory_mode: bool,
    /// Grows when a topic is made or removed.
    topics_generation: u64,
    rule_errors: u64,
    /// For who listens: see [`Pipeline::listen`].
    failures: Option<Vec<Failure>>,
    /// What rules had done before their chains were made anew.
    done: Vec<(Name, Told)>,
    /// Some rule keeps something.
    rules_keep: bool,
    /// What rules keep is theirs: see [`Pipeline::settle_rules`].
    rules_settled: bool,
    /// Rules are fired not before this.
    rules_again: BootTime,
    /// Some rule looks back; the one that is being shown the past, and when that goes on.
    rules_look_back: bool,
    looking: Option<past::Looking>,
    past_again: Option<BootTime>,
    past_shown: bool,
    closed: bool,
    rule_letters: letters::Allowance,
    /// Records that a rule failed on and that have no letter.
    rule_letters_left_out: u64,
    clock: Option<ClockSync>,
    in_group: bool,
    cursors_put: BootTime,
    cursor_bytes: u64,
    /// The ring knows sinks that are not here: they left the config.
    strangers: bool,
    online: bool,
    /// See [`Pipeline::own_records`].
    own_records: Vec<Appended>,
    key: Vec<u8>,
    value: Vec<u8>,
}

impl Pipeline {
    pub fn new(ring: Ring, recovery: Report, memory_mode: bool, plan: Plan) -> Self {
        let mut pipeline = Self {
            ring,
            plan,
            routes: Vec::new(),
            sources: Vec::new(),
            sinks: Vec::new(),
            recovery,
            memory_mode,
            topics_generation: 1,
            rule_errors: 0,
            failures: None,
            done: Vec::new(),
            rules_keep: false,
            rules_settled: false,
            rules_again: BootTime::default(),
            rules_look_back: false,
            looking: None,
            past_again: None,
            past_shown: false,
            closed: false,
            rule_letters: letters::Allowance::default(),
            rule_letters_left_out: 0,
            clock: None,
            in_group: false,
            cursors_put: BootTime::default(),
            cursor_bytes: 0,
            strangers: false,
            online: false,
            own_records: Vec::new(),
            key: Vec::new(),
            value: Vec::new(),
        };
        pipeline.compile_routes();
        pipeline
    }

    pub fn ring(&self) -> &Ring {
        &self.ring
    }

    pub fn ring_mut(&mut self) -> &mut Ring {
        &mut self.ring
    }

    /// A new configuration, between two records. Sinks and sources are added and removed by their own calls.
    pub fn replan(&mut self, plan: Plan) {
        self.plan = plan;
        self.set_online(self.online);
        self.compile_routes();
    }

    fn compile_routes(&mut self) {
        self.keep_tallies();
        (self.rules_keep, self.rules_settled) = (Self::rules_keep(&self.plan), false);
        // Whoever was being shown something is gone.
        self.looking = None;
        self.rules_look_back = self.plan.rules.iter().any(|plan| plan.rule.spec.look_back().is_some());
        self.past_again = self.rules_look_back.then(BootTime::default);
        for topic in self.plan.topics.keys().cloned().collect::<Vec<_>>() {
            // A full table is said by the source that needs the topic.
            let _ = self.open_in_ring(&topic, None);
        }
        for id in self.ring.topic_ids() {
            self.place_topic(id);
            self.compile_route(id);
        }
        self.place_keepers();
        self.note_moves();
    }

    /// The lane that the plan has for a topic.
    fn lane_of(&self, name: &TopicName) -> LaneId {
        let usual = if name.is_reserved() { 0 } else { self.plan.default_lane };
        let rank = self.plan.topics.get(name).map_or(usual, |plan| plan.lane);
        self.plan.lanes.get(rank).map_or(LaneId::default(), |lane| self.ring.lane_named(lane))
    }

    /// Moves a topic to the lane that the plan has for it.
    fn place_topic(&mut self, id: TopicId) {
        let Some(info) = self.ring.topic(id) else { return };
        // One that has moved too often of late stays for now: the next start tries again.
        let _ = self.ring.move_topic(id, self.lane_of(&info.name));
        self.ring.set_keep(id, self.plan.topics.get(&info.name).is_some_and(|plan| plan.pause));
    }

    fn compile_route(&mut self, id: TopicId) {
        let Some(info) = self.ring.topic(id) else { return };
        let mut opened = Vec::new();
        let plan = self.plan.clone();
        let mut route = Route::compile(&plan, &info.name, |into| {
            let known = self.ring.topic_id(into.as_str());
            let id = known.or_else(|| self.open_in_ring(into, None).ok())?;
            opened.push(id);
            Some(id)
        });
        route.max_age = plan.topics.get(&info.name).and_then(|topic| topic.max_age);
        let index = id.0 as usize;
        if self.routes.len() <= index {
            self.routes.resize_with(index + 1, || None);
        }
        self.routes[index] = Some(route);
        for into in opened {
            if self.routes.get(into.0 as usize).is_none_or(Option::is_none) {
                self.compile_route(into);
            }
        }
    }

    fn open_in_ring(&mut self, name: &TopicName, partitions: Option<u8>) -> Result<TopicId, TopicError> {
        let planned = self.plan.topics.get(name).map_or(1, |plan| plan.partitions);
        if let Some(id) = self.ring.topic_id(name.as_str()) {
            return Ok(id);
        }
        self.topics_generation += 1;
        let lane = self.lane_of(name);
        let id = self.ring.open_topic(name, lane, partitions.unwrap_or(planned))?;
        self.place_topic(id);
        Ok(id)
    }

    // ---- topics ----

    /// The topic's number; the topic is made if it is not there, with `partitions` or what the plan says.
    pub fn open_topic(&mut self, name: &TopicName, partitions: Option<u8>) -> Result<TopicId, TopicError> {
        let id = self.open_in_ring(name, partitions)?;
        if self.routes.get(id.0 as usize).is_none_or(Option::is_none) {
            self.compile_route(id);
            self.place_keepers();
        }
        Ok(id)
    }

    pub fn remove_topic(&mut self, id: TopicId) {
        self.ring.remove_topic(id);
        self.forget_shares(id);
        self.forget_route(id);
        self.topics_generation += 1;
    }

    /// Lanes of the ring, those among them that left the plan.
    pub fn lanes(&self) -> usize {
        self.ring.lane_count()
    }

    pub fn topics_generation(&self) -> u64 {
        self.topics_generation
    }

    // ---- sources ----

    pub fn add_source(&mut self, plan: SourcePlan) -> SourceId {
        let owner = Owner { kind: OwnerKind::Source, name: plan.name.clone() };
        match self.sources.iter().position(|source| source.plan.name == plan.name) {
            Some(index) => {
                self.sources[index].plan = plan;
                self.sources[index].topics.clear();
                SourceId(index)
            }
            None => {
                self.sources.push(Source { owner, plan, topics: Vec::new() });
                SourceId(self.sources.len() - 1)
            }
        }
    }

    pub fn source_owner(&self, id: SourceId) -> &Owner {
        &self.sources[id.0].owner
    }

    /// The source brings records of this topic.
    pub fn note_feeds(&mut self, id: SourceId, topic: TopicId) {
        let topics = &mut self.sources[id.0].topics;
        if !topics.contains(&topic) {
            topics.push(topic);
        }
    }

    /// Whether the source is to wait until sinks have made room, because of a topic that it feeds.
    pub fn is_source_held(&self, id: SourceId) -> bool {
        self.sources[id.0].topics.iter().any(|topic| self.is_held(*topic))
    }

    /// Whether there are sinks and each of them takes what there is at once: then, if the plan says so, what nobody waits
    /// for stays in memory.
    pub fn set_online(&mut self, online: bool) {
        self.online = online;
        self.ring.set_ram_first(online && self.plan.ram_first && !self.memory_mode);
        self.move_floor();
    }

    /// Notes how wall time follows from boot time, when that has changed.
    pub fn note_clock(&mut self, now: Now) {
        let sync = ClockSync::of(now);
        let changed = self.clock.is_none_or(|known| {
            known.trusted != sync.trusted || known.offset.abs_diff(sync.offset) > CLOCK_STEP.unsigned_abs()
        });
        if changed {
            self.clock = Some(sync);
            self.ring.set_clock(now.boot, sync);
        }
    }

    // ---- the disk ----

    pub fn poll(&mut self, now: Now) -> Option<Command> {
        if self.cursor_timeout().is_some_and(|at| at <= now.boot) {
            self.put_cursors(now.boot);
        }
        self.look_back(now);
        self.fire_rules(now);
        self.ring.poll(now.boot)
    }

    pub fn next_timeout(&self) -> Option<BootTime> {
        [self.ring.next_timeout(), self.cursor_timeout(), self.rules_due(), self.past_due()].into_iter().flatten().min()
    }

    fn cursor_timeout(&self) -> Option<BootTime> {
        let dirty = self.sinks.iter().any(Sink::is_dirty);
        dirty.then_some(self.cursors_put + Span(CURSOR_EVERY.0 * i64::from(self.cursor_patience())))
    }

    fn cursor_patience(&self) -> u32 {
        if self.ring.is_ram_first() { RAM_FIRST_TIMES } else { 1 }
    }

    pub fn complete(&mut self, now: Now, completion: Completion) {
        let settled = self.ring.settled();
        self.ring.complete(now.boot, completion);
        if self.ring.settled() != settled {
            self.move_floor();
        }
    }

    /// Seals everything with the newest cursors; the shutdown is clean once the ticket is settled.
    pub fn close(&mut self, now: Now) -> Ticket {
        self.note_clock(now);
        self.put_cursors(now.boot);
        // What rules wait for comes with the next start.
        self.closed = true;
        self.ring.close(now.boot)
    }

    pub fn read_part(&mut self, reader: &mut PartReader) -> ReadStep {
        self.ring.read_part(reader)
    }

    pub fn put_state(
        &mut self,
        now: BootTime,
        owner: &Owner,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Result<Ticket, StateError> {
        self.ring.put_state(now, owner, key, value)
    }
}
