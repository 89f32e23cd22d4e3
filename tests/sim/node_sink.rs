//! A sink as the simulation has it: the real machines of `forward`, one or two for each lane, driven as the Fluvio sink drives
//! them, over connections that stall, break and come back, to a model of an upstream.
//!
//! What is the real driver's (feeding, carrying out, connecting, visiting) is here line by line, without sockets; what
//! is the network's may happen in any order and may not happen at all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use headwater::backoff::Rng;
use headwater::forward::{
    self, Forward, Input, Note, Offer, OnLoss, Options, Output, Place, Placing, Pos, Reject, Schedule, Spread,
    TargetIx, Took, TopicIx, Unsent, WHOLE, Wanting,
};
use headwater::lane::LaneId;
use headwater::name::Name;
use headwater::pipeline::{
    self, Counts as Shared, DEAD_LETTERS_TOPIC, Fate, Pipeline, Refusal, SinkId, Stream, StreamId, Tally, When,
};
use headwater::ring::{Appended, Entry, Frame, LanePos, Owner, ReadStep, Ticket};
use headwater::time::{ClockSync, Now, Span};

use crate::fault::{Fault, Tape};
use crate::ledger::{DEAD, GAPS, Id, Ledger, Out, Promised, SinkLedger, UPSTREAM, local_of, outputs};
use crate::model::{Check, Counts, Model, StateKey, Violation, ensure};
use crate::planted::Plant;
use crate::upstream::{Answer, Asked, Leaders, Part, SPUS, Upstream, one_in};

/// How long a request may take to land after its connection died, as the sinks are told.
pub const GRACE: i64 = 2_000_000;
/// A request that is not answered in time ends its connection.
const TIMEOUT: i64 = 3_000_000;
/// Visits to the SC are at least this far apart.
const VISIT_EVERY: i64 = 1_000_000;
/// What a record costs in a batch beside its bytes.
const OVERHEAD: usize = 12;
/// Outputs of a machine in one turn; more would be work without a bound.
const MAX_OUTPUTS: u32 = 20_000;

/// What a sink borrows of its world for one turn.
pub struct Ctx<'a> {
    pub pipeline: &'a mut Pipeline,
    pub model: &'a mut Model,
    pub ledger: &'a mut Ledger,
    pub owners: &'a [Owner],
    pub rng: &'a mut Rng,
    pub tape: &'a mut Tape,
    pub gaps: &'a mut Counts,
    pub now: Now,
    /// Of the world outside, that knows nothing of boots.
    pub time: i64,
    pub plant: Plant,
    pub trace: bool,
}

macro_rules! trace {
    ($ctx:expr, $($arg:tt)+) => {
        if $ctx.trace { eprintln!("    {}", format!($($arg)+)); }
    };
}

impl Ctx<'_> {
    /// The pipeline may have stored cursors since `before`; the newest `appended` tickets are records.
    pub fn note_states(&mut self, before: Ticket, appended: u64) -> Check {
        let ring = self.pipeline.ring();
        let upper = ring.last_ticket().0 - appended;
        if upper <= before.0 {
            return Ok(());
        }
        let mut changed: Vec<(StateKey, Option<Vec<u8>>)> = Vec::new();
        for (s, owner) in self.owners.iter().enumerate() {
            let sink = 100 + s as u8;
            for (key, value) in ring.states(owner) {
                let key = (sink, key);
                if self.model.state(&key) != Some(&value) {
                    changed.push((key, Some(value)));
                }
            }
            let keys = self.model.state_keys().into_iter().filter(|key| key.0 == sink);
            let gone = keys.filter(|key| self.model.state(key).is_some() && ring.state(owner, &key.1).is_none());
            changed.extend(gone.map(|key| (key, None)));
        }
        let first = upper + 1 - (changed.len() as u64).min(upper - before.0);
        self.model.begin_group();
        let told: Vec<_> = ring_records(self.pipeline, before);
        for (lane, a) in told {
            let ring = self.pipeline.ring();
            let dead = self.pipeline.topic_name(a.part.topic).is_some_and(|name| name.as_str() == DEAD_LETTERS_TOPIC);
            let local = if dead { DEAD } else { GAPS };
            let (id, boot, tag) = (ring.id(), ring.boot(), Id { local, tag: a.offset }.pack());
            self.model.append(lane, a.ticket.0, a.part, a.offset, None, tag, id, boot)?;
            if dead {
                self.ledger.letters.entry((a.part, a.offset)).or_default();
            } else {
                self.ledger.told.entry((a.part, a.offset)).or_default();
            }
        }
        for (ticket, (key, value)) in (first..).zip(changed) {
            self.model.put_state(key, value.as_deref(), ticket)?;
        }
        self.model.end_group();
        Ok(())
    }
}

/// The records of losses and the dead letters that were given since `before`, and their lane.
fn ring_records(pipeline: &Pipeline, before: Ticket) -> Vec<(usize, Appended)> {
    let lane = |a: &Appended| pipeline.ring().topic(a.part.topic).map_or(0, |info| info.lane.index());
    pipeline.own_records().iter().filter(|a| a.ticket > before).map(|a| (lane(a), *a)).collect()
}

/// A stream by its place in `feeds`, and a partition of it.
type At = (usize, TargetIx);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Conn {
    Closed { retry_at: i64 },
    Opening { done_at: i64 },
    Up,
}

#[derive(Clone, Debug)]
enum What {
    Request(Asked),
    Answer(Answer),
}

/// A message under way.
#[derive(Clone, Debug)]
struct Wire {
    at: At,
    part: Part,
    spu: i32,
    deadline: i64,
    due: i64,
    what: What,
}

struct Feed {
    lane: LaneId,
    of: StreamId,
    number: u32,
    /// The lane's newest stream.
    newest: bool,
    ended: bool,
    /// No stream is left for it.
    over: bool,
    forward: Forward,
    buffers: BTreeMap<(TargetIx, u64), Vec<Out>>,
    frame: Option<Arc<Frame>>,
    /// Bytes of the largest record with all its outputs: alone it may be more than the window.
    largest: usize,
    /// Targets that were asked what stands there, and when; as long as that is not known.
    looking: BTreeMap<TargetIx, i64>,
    /// Planted: gaps that the pipeline was not told of.
    untold: Vec<(u64, u64)>,
    /// Planted: outputs that were torn off their batch.
    torn: BTreeMap<TargetIx, Out>,
    /// Planted: where reading had got before something was lost.
    furthest: Pos,
}

/// How a sink is configured, and how bad its network may be.
#[derive(Clone, Copy, Debug)]
pub struct Profile {
    pub max_batch: usize,
    pub search_max: usize,
    pub resend: bool,
    /// Requests may land after the grace period.
    pub overdue: bool,
    /// What waits when the link comes back is worth a split from so many records on.
    pub newest_first: Option<u64>,
    /// Of a lane's bytes what is new has so many thousandths.
    pub live: u16,
    /// By lane; none: the lanes go in their order.
    pub weights: Option<[u32; 3]>,
    /// It is told that nobody else writes to its partitions.
    pub only_writer: bool,
    /// A batch counts only when it is replicated.
    pub committed: bool,
}

/// What became of streams.
#[derive(Clone, Copy, Debug, Default)]
pub struct Splits {
    pub split: u64,
    pub absorbed: u64,
    /// The most of one lane at once.
    pub most: u64,
}

pub struct NodeSink {
    pub id: SinkId,
    profile: Profile,
    pub book: SinkLedger,
    pub upstream: Upstream,
    /// No connection can be made until then.
    pub link_down: i64,
    feeds: Vec<Feed>,
    stuck: Vec<bool>,
    opens: BTreeSet<At>,
    on: BTreeMap<At, i32>,
    conns: Vec<Conn>,
    wire: Vec<Wire>,
    meta: Leaders,
    made: BTreeSet<usize>,
    visiting: Option<i64>,
    visit_wanted: bool,
    visit_at: i64,
    /// The driver waits for the disk; the machine to be told, if one asked.
    persisting: Option<(Option<usize>, Ticket)>,
    /// Planted: the base offset that was acknowledged last.
    acked: BTreeMap<At, i64>,
    /// The first connection after a time without one was made.
    came_back: bool,
    schedule: Schedule,
    pub splits: Splits,
}

enum Fed {
    More,
    End,
    Full,
    Letters,
    Needs(TopicIx),
    Wait,
}

enum Offered {
    Taken(Took),
    Missed,
    Full,
    Needs(TopicIx),
}

impl NodeSink {
    pub fn new(number: usize, book: SinkLedger, profile: Profile, upstream: Upstream) -> Self {
        Self {
            id: SinkId(number),
            profile,
            book,
            upstream,
            link_down: 0,
            feeds: Vec::new(),
            stuck: Vec::new(),
            opens: BTreeSet::new(),
            on: BTreeMap::new(),
            conns: vec![Conn::Closed { retry_at: 0 }; SPUS as usize],
            wire: Vec::new(),
            meta: Leaders::new(),
            made: BTreeSet::new(),
            visiting: None,
            visit_wanted: true,
            visit_at: 0,
            persisting: None,
            acked: BTreeMap::new(),
            came_back: false,
            schedule: Schedule::new(WHOLE, &[]),
            splits: Splits::default(),
        }
    }

    pub fn promised(&self) -> Promised {
        Promised { resend: self.profile.resend, committed: self.profile.committed }
    }

    /// A process begins: everything but the upstream is new.
    pub fn begin(&mut self, ctx: &mut Ctx<'_>) {
        if ctx.rng.below(16) == 0 {
            // The config says otherwise now.
            self.profile.newest_first = self.profile.newest_first.map_or(Some(5), |_| None);
        }
        let lanes = (0..ctx.pipeline.lanes() as u8).map(LaneId);
        let weights =
            self.profile.weights.into_iter().flat_map(|weights| lanes.clone().zip(weights)).collect::<Vec<_>>();
        self.schedule = Schedule::new(self.profile.live, &weights);
        (self.feeds, self.stuck) = Default::default();
        for lane in lanes.clone() {
            let newest = *ctx.pipeline.streams(self.id, lane).last().expect("a stream");
            self.push_feed(&newest, ctx);
        }
        lanes.for_each(|lane| self.arrange(lane, ctx));
        self.came_back = false;
        (self.opens, self.on, self.meta, self.made) = Default::default();
        self.conns.fill(Conn::Closed { retry_at: 0 });
        (self.visiting, self.visit_wanted, self.visit_at, self.persisting) = (None, true, 0, None);
        self.acked.clear();
    }

    fn push_feed(&mut self, stream: &Stream, ctx: &mut Ctx<'_>) {
        self.feeds.push(self.feed_of(ctx, stream));
        self.stuck.push(false);
    }

    /// Gives a lane's streams their feeds: its newest one, and the newest of the older ones.
    fn arrange(&mut self, lane: LaneId, ctx: &mut Ctx<'_>) {
        let mut streams = ctx.pipeline.streams(self.id, lane);
        self.splits.most = self.splits.most.max(streams.len() as u64);
        let slot = |feeds: &[Feed], newest| feeds.iter().position(|f| f.lane == lane && f.newest == newest);
        let of_newest = streams.pop().zip(slot(&self.feeds, true));
        if let Some((stream, i)) = of_newest.filter(|(stream, i)| self.feeds[*i].number != stream.number) {
            self.replace(i, &stream, ctx);
        }
        match (ctx.pipeline.older_stream(self.id, lane), slot(&self.feeds, false)) {
            (Some(stream), None) => self.push_feed(&stream, ctx),
            (Some(stream), Some(i)) if self.feeds[i].over || self.feeds[i].number != stream.number => {
                self.replace(i, &stream, ctx);
            }
            (None, Some(i)) => {
                self.let_go(i);
                self.feeds[i].over = true;
            }
            _ => {}
        }
    }

    fn replace(&mut self, i: usize, stream: &Stream, ctx: &mut Ctx<'_>) {
        self.let_go(i);
        self.feeds[i] = self.feed_of(ctx, stream);
        self.stuck[i] = false;
    }

    fn let_go(&mut self, i: usize) {
        self.opens.retain(|at| at.0 != i);
        self.on.retain(|at, _| at.0 != i);
        self.wire.retain(|wire| wire.at.0 != i);
        self.acked.retain(|at, _| at.0 != i);
    }

    /// The upstream can be reached again: what comes from now on goes first, where much waits.
    fn split(&mut self, ctx: &mut Ctx<'_>) -> Check {
        let Some(least) = self.profile.newest_first else { return Ok(()) };
        let mut split = Vec::new();
        for lane in (0..ctx.pipeline.lanes() as u8).map(LaneId) {
            let before = ctx.pipeline.ring().last_ticket();
            if ctx.pipeline.split(ctx.now.boot, self.id, lane, least) {
                trace!(ctx, "{} {lane:?}: split: {:?}", self.book.name, ctx.pipeline.streams(self.id, lane));
                split.push(lane);
            }
            ctx.note_states(before, 0)?;
        }
        self.splits.split += split.len() as u64;
        if split.is_empty() {
            return Ok(());
        }
        for lane in split {
            self.schedule.split(lane);
            self.arrange(lane, ctx);
        }
        self.persist(None, ctx)
    }

    /// An older stream that has nothing left to send is absorbed by the next one; one that must wait gives its place to another.
    fn make_way(&mut self, i: usize, ctx: &mut Ctx<'_>) {
        let feed = &self.feeds[i];
        if feed.newest || feed.over || !feed.forward.is_settled() {
            return;
        }
        let (lane, of) = (feed.lane, feed.of);
        let through = feed.forward.cursor().ordinal >= ctx.pipeline.end(self.id, of).ordinal;
        let absorbed = through && ctx.pipeline.absorb(self.id, of, feed.forward.keys());
        if absorbed {
            trace!(
                ctx,
                "{} {lane:?}: absorbed {}: {:?}",
                self.book.name,
                feed.number,
                ctx.pipeline.streams(self.id, lane)
            );
            self.splits.absorbed += 1;
        }
        if absorbed || feed.ended {
            self.arrange(lane, ctx);
        }
    }

    /// The streams that are sent, in the order of their turns.
    fn turns(&self) -> Vec<usize> {
        let mut turns: Vec<usize> = (0..self.feeds.len()).filter(|i| !self.feeds[*i].over).collect();
        turns.sort_by_key(|i| (!self.feeds[*i].newest, self.feeds[*i].lane));
        turns
    }

    /// Takes note of who sends or could, for `gives_way`.
    fn look(&mut self, ctx: &Ctx<'_>) {
        let mut wanting = Wanting::default();
        for (feed, stuck) in self.feeds.iter().zip(&self.stuck) {
            let Pos { seq, ordinal } = feed.forward.read_pos();
            let could = || !stuck && ctx.pipeline.has_more(self.id, feed.of, LanePos { seq, ordinal });
            if !feed.over && (!feed.ended && feed.forward.held() > 0 || could()) {
                wanting.add(feed.lane, feed.newest);
            }
        }
        self.schedule.look(wanting);
    }

    /// It leaves the line to another that is owed something.
    fn gives_way(&self, i: usize) -> bool {
        let feed = &self.feeds[i];
        feed.over || self.schedule.gives_way(feed.lane, feed.newest)
    }

    fn feed_of(&self, ctx: &mut Ctx<'_>, stream: &Stream) -> Feed {
        let (lane, of) = (stream.lane, StreamId::from(stream));
        let grace = if ctx.plant == Plant::NoGrace { 0 } else { GRACE };
        let options = Options {
            ring_id: ctx.pipeline.ring().id().0,
            former: ctx.pipeline.ring().former().into_iter().map(|(id, seq)| (id.0, seq)).collect(),
            forgotten_below: ctx.pipeline.ring().forgotten_below(),
            sink: Name::new(&self.book.name).expect("a good name"),
            lane,
            max_batch: self.profile.max_batch,
            // As a configuration may have it: another one after each start.
            spread: match ctx.rng.below(8) {
                0 => Spread::of_node("sim"),
                1 => Spread::One(0),
                _ => Spread::Records,
            },
            window: 2 * self.profile.max_batch,
            grace: Span(grace),
            retry: (Span::from_millis(100), Span::from_secs(2)),
            search_max: self.profile.search_max,
            on_loss: if self.profile.resend { OnLoss::Resend } else { OnLoss::Continue },
            stream: match ctx.plant {
                Plant::OneIdentity => forward::Stream { start: stream.from.seq, ..forward::Stream::default() },
                _ => forward::Stream { number: stream.number, start: stream.from.seq, unstarted: stream.unstarted },
            },
            only_writer: self.profile.only_writer,
            committed: self.profile.committed,
            seed: ctx.rng.next_u64(),
        };
        let end = ctx.pipeline.end(self.id, of);
        let cursor = Pos { seq: stream.cursor.seq, ordinal: stream.cursor.ordinal };
        Feed {
            lane,
            of,
            number: stream.number,
            newest: stream.to.is_none(),
            ended: false,
            over: false,
            forward: Forward::new(options, cursor, end.seq, ctx.pipeline.sink_states(self.id)),
            buffers: BTreeMap::new(),
            frame: None,
            looking: BTreeMap::new(),
            largest: 0,
            untold: Vec::new(),
            torn: BTreeMap::new(),
            furthest: cursor,
        }
    }

    /// The process is gone; what was in flight may land.
    pub fn crash(&mut self, time: i64, rng: &mut Rng, tape: &mut Tape) {
        for spu in 0..SPUS {
            self.drop_wire(spu, time, rng, tape);
        }
        self.feeds.clear();
    }

    // ------------------------------------------------------------------------------------ a turn

    /// One round of the driver and of the network around it.
    pub fn turn(&mut self, ctx: &mut Ctx<'_>) -> Check {
        self.network(ctx)?;
        if let Some((i, ticket)) = self.persisting {
            // The driver waits for the disk and hears nothing meanwhile.
            if ctx.pipeline.ring().settled() < ticket && ctx.plant != Plant::SyncedEarly {
                return Ok(());
            }
            self.persisting = None;
            if let Some(i) = i {
                self.feeds[i].forward.handle(ctx.now.boot, Input::Synced);
            }
        }
        self.deadlines(ctx)?;
        for _ in 0..1 + ctx.rng.below(4) {
            self.hear(ctx)?;
        }
        if self.came_back {
            for i in self.turns() {
                self.carry_out(i, ctx)?;
                if self.persisting.is_some() {
                    return Ok(());
                }
            }
            self.came_back = false;
            self.split(ctx)?;
            if self.persisting.is_some() {
                return Ok(());
            }
        }
        for i in self.turns() {
            if self.feeds[i].forward.next_timeout().is_some_and(|at| at <= ctx.now.boot) {
                self.stuck[i] = false;
            }
            self.carry_out(i, ctx)?;
            if self.persisting.is_none() {
                self.feed(i, ctx)?;
            }
            if self.persisting.is_none() {
                self.carry_out(i, ctx)?;
            }
            if self.persisting.is_some() {
                return Ok(());
            }
            self.make_way(i, ctx);
        }
        self.connect(ctx);
        self.visit(ctx);
        Ok(())
    }

    /// Requests reach their SPUs.
    fn network(&mut self, ctx: &mut Ctx<'_>) -> Check {
        self.upstream.land_late(ctx.time, ctx.tape);
        for _ in 0..1 + ctx.rng.below(4) {
            let due = |w: &Wire| w.due <= ctx.time && matches!(w.what, What::Request(_));
            let ready: Vec<usize> = (0..self.wire.len()).filter(|i| due(&self.wire[*i])).collect();
            let Some(index) = ready.get(ctx.rng.below(ready.len() as u64) as usize) else { return Ok(()) };
            let Wire { spu, ref what, .. } = self.wire[*index];
            if matches!(what, What::Request(Asked::Send { .. })) && one_in(ctx.rng, self.upstream.nature.cuts) {
                self.lose(spu, ctx)?;
                continue;
            }
            let mut wire = self.wire.swap_remove(*index);
            if let What::Request(asked) = wire.what {
                let answer = self.upstream.answer(wire.spu, wire.part, asked, ctx.rng, ctx.tape);
                wire.what = What::Answer(answer);
                wire.due = ctx.time + ctx.rng.below(3_000) as i64;
                self.wire.push(wire);
            }
        }
        Ok(())
    }

    /// One answer arrives.
    fn hear(&mut self, ctx: &mut Ctx<'_>) -> Check {
        let due = |w: &Wire| w.due <= ctx.time && matches!(w.what, What::Answer(_));
        let ready: Vec<usize> = (0..self.wire.len()).filter(|i| due(&self.wire[*i])).collect();
        let Some(index) = ready.get(ctx.rng.below(ready.len() as u64) as usize) else { return Ok(()) };
        let Wire { spu, ref what, .. } = self.wire[*index];
        if matches!(what, What::Answer(Answer::Sent(Ok(_)))) && one_in(ctx.rng, self.upstream.nature.cuts) {
            return self.lose(spu, ctx);
        }
        let Wire { at, what, .. } = self.wire.swap_remove(*index);
        let What::Answer(mut answer) = what else { return Ok(()) };
        self.bend_answer(at, &mut answer, ctx.plant);
        let target = at.1;
        trace!(ctx, "{} lane {} {target:?}: {answer:?}", self.book.name, at.0);
        if let Answer::Offsets(Ok(_)) = answer {
            self.feeds[at.0].looking.insert(target, ctx.time);
        }
        let input = match answer {
            Answer::Sent(result) => Input::Sent { target, result },
            Answer::Offsets(result) => Input::Offsets { target, result },
            Answer::Header(result) => Input::Header { target, result },
            Answer::Producer(result) => Input::Producer { target, result },
            Answer::Contents(result) => Input::Contents { target, result },
        };
        let feed = &mut self.feeds[at.0];
        feed.forward.handle(ctx.now.boot, input);
        // A look that is not over has seen nothing yet: what is missing may still land.
        if feed.forward.takes(target)
            && let Some(when) = feed.looking.remove(&target)
        {
            let (_, name, partition) = feed.forward.target_name(target);
            self.upstream.looked.insert((feed.lane.index(), feed.number, (upstream_of(name), partition)), when);
        }
        self.stuck[at.0] = false;
        Ok(())
    }

    /// Planted: an answer that is not what was said.
    fn bend_answer(&mut self, at: At, answer: &mut Answer, plant: Plant) {
        let last = self.acked.get(&at).copied();
        if let Answer::Sent(Ok(base)) = answer {
            self.acked.insert(at, *base);
        }
        match (plant, &mut *answer) {
            (Plant::RejectTakenForWritten, Answer::Sent(result @ Err(Reject::Retry | Reject::Stale)))
            | (Plant::UncommittedTakenForWritten, Answer::Sent(result @ Err(Reject::Unknown))) => {
                *result = Ok(last.map_or(0, |base| base + 1_000));
            }
            (Plant::ContentsNotCompared, Answer::Contents(Ok(Some(there)))) => there.fill(0),
            (Plant::ComparedInPart, Answer::Contents(Ok(Some(there)))) => there.truncate(1),
            // What stands behind the batch that was acknowledged last is not looked at.
            (Plant::SearchLeftOut, Answer::Header(Ok(header))) => {
                *header = header.filter(|h| last.is_some_and(|last| h.base <= last));
            }
            _ => {}
        }
    }

    fn deadlines(&mut self, ctx: &mut Ctx<'_>) -> Check {
        let late: BTreeSet<i32> = self.wire.iter().filter(|w| w.deadline < ctx.time).map(|w| w.spu).collect();
        for spu in late {
            self.lose(spu, ctx)?;
        }
        Ok(())
    }

    // ------------------------------------------------------------------------------------ feeding

    fn feed(&mut self, i: usize, ctx: &mut Ctx<'_>) -> Check {
        for _ in 0..1 + ctx.rng.below(3) {
            self.look(ctx);
            if self.stuck[i] || self.gives_way(i) {
                return Ok(());
            }
            match self.feed_once(i, ctx)? {
                Fed::More => {}
                Fed::End | Fed::Wait => return Ok(()),
                Fed::Letters if ctx.pipeline.has_letters(self.id) => return self.persist(None, ctx),
                Fed::Full | Fed::Letters => self.stuck[i] = true,
                Fed::Needs(topic) => {
                    self.stuck[i] = true;
                    self.tell_partitions(i, topic, ctx.now);
                }
            }
        }
        Ok(())
    }

    fn feed_once(&mut self, i: usize, ctx: &mut Ctx<'_>) -> Check<Fed> {
        let end = ctx.pipeline.end(self.id, self.feeds[i].of);
        let Feed { forward, furthest, ended, .. } = &mut self.feeds[i];
        forward.set_ring_end(end.seq);
        *ended = false;
        if ctx.plant == Plant::NotRewound {
            forward.skip(*furthest);
        }
        let Pos { seq, ordinal } = self.feeds[i].forward.read_pos();
        let pos = LanePos { seq, ordinal };
        let inside = ordinal < end.ordinal;
        let holds = |f: &Arc<Frame>| inside && f.first().seq <= seq && seq < f.end().seq;
        let frame = match self.feeds[i].frame.take().filter(holds) {
            Some(frame) => frame,
            None => match self.read(i, pos, ctx)? {
                ReadStep::Frame(frame) => frame,
                ReadStep::Gap(gap) => {
                    let to = Pos { seq: gap.to.seq, ordinal: gap.to.ordinal };
                    self.feeds[i].forward.skip(to);
                    self.persist(None, ctx)?;
                    return Ok(Fed::Wait);
                }
                ReadStep::Wait => return Ok(Fed::Wait),
                ReadStep::End => {
                    let feed = &mut self.feeds[i];
                    if ctx.pipeline.is_at_end(self.id, feed.of, pos) {
                        feed.forward.skip(Pos { seq: end.seq, ordinal: end.ordinal });
                    }
                    feed.ended = true;
                    feed.forward.caught_up();
                    return Ok(Fed::End);
                }
            },
        };
        let fed = self.offer_frame(i, &frame, (seq, end.ordinal), ctx)?;
        if !matches!(fed, Fed::End) {
            self.feeds[i].frame = Some(frame);
            return Ok(fed);
        }
        let end = if frame.end().ordinal <= end.ordinal { frame.end() } else { end };
        self.feeds[i].forward.skip(Pos { seq: end.seq, ordinal: end.ordinal });
        Ok(Fed::More)
    }

    /// Reads what stands at `pos`, and holds it against the model.
    fn read(&mut self, i: usize, pos: LanePos, ctx: &mut Ctx<'_>) -> Check<ReadStep> {
        let (lane, of) = (self.feeds[i].lane, self.feeds[i].of);
        let at = lane.index();
        let hidden = ctx.plant == Plant::GapNotCounted;
        // A resend asks by seq alone.
        let resend = pos.seq < ctx.pipeline.cursor(self.id, of).seq;
        let step = if hidden {
            let mut reader = ctx.pipeline.ring().lane_reader(lane, pos);
            ctx.pipeline.ring_mut().read_lane(&mut reader)
        } else {
            ctx.pipeline.read(self.id, of, pos)
        };
        match &step {
            ReadStep::Frame(frame) => {
                let mut from = None;
                let mut next = pos;
                for entry in frame.entries_from(pos.seq) {
                    if from.is_none() && resend {
                        next = LanePos { seq: entry.seq, ordinal: entry.ordinal };
                    }
                    from.get_or_insert(entry.ordinal);
                    next = ctx.model.shown(at, next, &entry, frame.ring_id(), frame.boot())?;
                    let local = ctx.pipeline.topic_name(entry.part.topic).and_then(|n| local_of(n.as_str()));
                    let local = local.filter(|local| !matches!(*local, GAPS | DEAD));
                    if let Some(id) = local.and_then(|local| Id::of_value(local, entry.record.value)) {
                        ctx.ledger.shown(id, at, entry.ordinal);
                    }
                }
            }
            ReadStep::Gap(gap) => {
                let oldest = ctx.pipeline.ring().stats().lanes[at].oldest.ordinal;
                trace!(ctx, "{} lane {at}: {:?} gap {:?}..{:?}", self.book.name, gap.reason, gap.from, gap.to);
                ctx.model.gap(gap, gap.from, gap.to, oldest)?;
                ensure!(pos == gap.from || resend, "asked at {pos:?}, told of {gap:?}");
                let cursor = ctx.pipeline.cursor(self.id, of).ordinal;
                let from = gap.from.ordinal.max(cursor);
                self.book.missed(at, from, gap.to.ordinal, gap.reason);
                ctx.gaps.gap(gap.reason, gap.to.ordinal.saturating_sub(from));
                if hidden {
                    self.feeds[i].untold.push((gap.to.ordinal, gap.count()));
                }
            }
            ReadStep::Wait | ReadStep::End => {}
        }
        Ok(step)
    }

    fn offer_frame(&mut self, i: usize, frame: &Frame, (from, end): (u64, u64), ctx: &mut Ctx<'_>) -> Check<Fed> {
        let clock = ctx.pipeline.ring().clock(frame.boot());
        let ring = frame.ring_id().0;
        for entry in frame.entries_from(from).take_while(|entry| entry.ordinal < end) {
            if !ctx.pipeline.has_letter_room(self.id, self.feeds[i].of, entry.ordinal) {
                self.feeds[i].forward.caught_up();
                return Ok(Fed::Letters);
            }
            match self.offer_one(i, &entry, ring, frame.boot(), clock, ctx)? {
                Offered::Taken(took) => {
                    self.note_record(i, &entry, frame.boot(), took, ctx);
                    if took.unsent == Some(Unsent::Refused) {
                        let refusal = Refusal { reason: "too large", upstream: None, ring: frame.ring_id() };
                        ctx.pipeline.refuse(ctx.now, self.id, self.feeds[i].of, &entry, frame.boot(), &refusal);
                    }
                }
                Offered::Missed => {}
                Offered::Full => return Ok(Fed::Full),
                Offered::Needs(topic) => return Ok(Fed::Needs(topic)),
            }
        }
        Ok(Fed::End)
    }

    fn offer_one(
        &mut self,
        i: usize,
        entry: &Entry<'_>,
        ring: u128,
        boot: u32,
        clock: Option<ClockSync>,
        ctx: &mut Ctx<'_>,
    ) -> Check<Offered> {
        let missed = ctx.pipeline.is_missed(self.id, self.feeds[i].lane, entry.ordinal);
        let expired = !missed && ctx.pipeline.is_expired(|| ctx.now, entry, boot);
        self.book.expired(self.feeds[i].lane.index(), entry.ordinal, expired);
        if !expired {
            return self.offer(i, entry, ring, clock, ctx);
        }
        let (at, why) = (Pos { seq: entry.seq, ordinal: entry.ordinal }, Unsent::Expired);
        let begins = self.feeds[i].forward.pass(at, why);
        Ok(Offered::Taken(Took { unsent: Some(why), begins }))
    }

    fn offer(
        &mut self,
        i: usize,
        entry: &Entry<'_>,
        ring: u128,
        clock: Option<ClockSync>,
        ctx: &mut Ctx<'_>,
    ) -> Check<Offered> {
        let feed = &mut self.feeds[i];
        let at = Pos { seq: entry.seq, ordinal: entry.ordinal };
        feed.furthest = feed.furthest.max(at);
        if ctx.pipeline.is_missed(self.id, feed.lane, entry.ordinal) {
            feed.forward.skip(Pos { seq: at.seq + 1, ordinal: at.ordinal + 1 });
            return Ok(Offered::Missed);
        }
        let mut pass = |why| {
            let begins = feed.forward.pass(at, why);
            Ok(Offered::Taken(Took { unsent: Some(why), begins }))
        };
        let local = ctx.pipeline.topic_name(entry.part.topic).and_then(|name| local_of(name.as_str()));
        let Some(local) = local else {
            // No topic is ever removed here: what said its name was destroyed.
            ensure!(ctx.model.any_tainted(), "{}: a record of no topic at {at:?}", self.book.name);
            self.book.released(feed.lane.index(), entry.ordinal);
            return pass(Unsent::Released);
        };
        if !ctx.pipeline.wants(self.id, entry.part.topic) {
            return pass(Unsent::Filtered);
        }
        let time = entry.record.event_time.or_else(|| clock.map(|c| c.wall(entry.record.admitted)));
        let at_ms = time.map_or(-1, |t| t.0.div_euclid(1000).max(-1));
        let Some(id) = Id::of_value(local, entry.record.value) else {
            return Err(Violation(format!("a value without a number at {at:?}")));
        };
        let hash = hash_of(entry.record.key, entry.record.value);
        let (mut outs, mut items) = (Vec::new(), Vec::new());
        for (number, key, n) in outputs(id) {
            let topic = feed.forward.topic(UPSTREAM[number]).expect("few topics");
            match feed.forward.place(topic, key.as_ref().map(|k| k.as_slice()), at.seq) {
                Placing::Target(target) => {
                    let (out, bytes) = (Out { id, n, hash }, entry.record.value.len() + OVERHEAD);
                    let compares = feed.forward.compares(target) && ctx.plant != Plant::ContentsNotCompared;
                    let content = if compares { self.upstream.nature.content(number, &out) } else { 0 };
                    outs.push(forward::Out { target, bytes, at_ms, content });
                    items.push(out);
                }
                Placing::Wait => return Ok(Offered::Needs(topic)),
                Placing::TooMany => return Err(Violation("too many partitions".into())),
            }
        }
        let buffers = &mut feed.buffers;
        let mut wrong = None;
        let mut put = |n: usize, place: Place| {
            let buffer = buffers.entry((place.target, place.batch)).or_default();
            if buffer.len() != place.index as usize || i32::try_from(at_ms - place.base_ms).is_err() {
                wrong = Some(format!("{place:?} at {at_ms} ms, {} are in the batch", buffer.len()));
            }
            buffer.push(items[n]);
        };
        let offer = feed.forward.offer(at, ring, &outs, &mut put);
        ensure!(wrong.is_none(), "{}: an output belongs nowhere: {wrong:?}", self.book.name);
        let held: usize = feed.forward.held();
        feed.largest = feed.largest.max(outs.iter().map(|o| o.bytes).sum());
        ensure!(
            held <= (2 * self.profile.max_batch).max(feed.largest),
            "{}: {held} bytes held in a window of {}",
            self.book.name,
            2 * self.profile.max_batch
        );
        Ok(match offer {
            Offer::Taken(took) => Offered::Taken(took),
            Offer::Full => Offered::Full,
        })
    }

    /// Tells the pipeline what became of a record.
    fn note_record(&self, i: usize, entry: &Entry<'_>, boot: u32, took: Took, ctx: &mut Ctx<'_>) {
        let fate = match took.unsent {
            None => Fate::Delivered,
            Some(Unsent::Filtered) => Fate::Filtered,
            Some(Unsent::Refused) => Fate::Refused,
            Some(Unsent::Expired) => Fate::Expired,
            Some(Unsent::Released) => Fate::Released,
        };
        let Entry { ordinal, part, offset, .. } = *entry;
        let when = When { boot, at: entry.record.admitted };
        let note = pipeline::Note { ordinal, part, offset, when, fate, stop: took.begins };
        if ctx.plant == Plant::NoteLeftOut && ordinal % 64 == 7 {
            return;
        }
        ctx.pipeline.note(self.id, self.feeds[i].of, &note);
    }

    // ------------------------------------------------------------------------------------ carrying out

    fn carry_out(&mut self, i: usize, ctx: &mut Ctx<'_>) -> Check {
        for _ in 0..MAX_OUTPUTS {
            let Some(output) = self.feeds[i].forward.poll(ctx.now.boot) else { return Ok(()) };
            self.stuck[i] = false;
            match output {
                Output::Open { target } => _ = self.opens.insert((i, target)),
                Output::Refresh { topic } => {
                    let name = self.feeds[i].forward.topic_name(topic);
                    self.meta.remove(&upstream_of(name));
                    self.visit_wanted = true;
                }
                Output::Ask { target, query } => self.request((i, target), Asked::Query(query), ctx)?,
                Output::Send { target, batch } => self.send((i, target), &batch, ctx)?,
                Output::Discard { target } => {
                    self.feeds[i].buffers.retain(|(t, _), _| *t != target);
                    self.feeds[i].torn.remove(&target);
                }
                Output::Advance { to, tally, state, sync } => {
                    self.advance(i, to, tally, state, ctx)?;
                    if sync {
                        return self.persist(Some(i), ctx);
                    }
                }
                Output::Note(note) => {
                    trace!(ctx, "{} lane {i}: {note:?}", self.book.name);
                    self.note(note);
                }
            }
        }
        Err(Violation(format!("{}: the machine of lane {i} does not come to rest", self.book.name)))
    }

    fn persist(&mut self, asked: Option<usize>, ctx: &mut Ctx<'_>) -> Check {
        let before = ctx.pipeline.ring().last_ticket();
        let ticket = ctx.pipeline.store_cursors(ctx.now.boot);
        ctx.note_states(before, 0)?;
        ctx.pipeline.ring_mut().hurry(ctx.now.boot);
        self.persisting = Some((asked, ticket));
        Ok(())
    }

    fn note(&mut self, note: Note) {
        let said = &mut self.book.announced;
        match note {
            Note::Duplicated { count, .. } => said.duplicated += count,
            // Ring records; each has at most two outputs in one partition.
            Note::MaybeDuplicated { count, .. } => said.maybe += 2 * count,
            Note::UpstreamLoss { .. } => said.losses += 1,
            Note::Refused { .. } => said.refused += 1,
            Note::AnotherLife { .. } => said.other_lives += 1,
            Note::MarkersLost { .. } => {}
        }
    }

    fn advance(
        &mut self,
        i: usize,
        to: Pos,
        tally: forward::Tally,
        state: Vec<(Vec<u8>, Vec<u8>)>,
        ctx: &mut Ctx<'_>,
    ) -> Check {
        let (lane, of) = (self.feeds[i].lane, self.feeds[i].of);
        let mut to = LanePos { seq: to.seq, ordinal: to.ordinal };
        let forward::Tally { delivered, filtered, refused, expired, released } = tally;
        let mut tally = Tally { delivered, filtered, refused, expired, released };
        self.bend_advance(i, &mut to, &mut tally, ctx);
        let mut entries: Vec<_> = state.iter().map(|(k, v)| (k.as_slice(), Some(v.as_slice()))).collect();
        if ctx.plant == Plant::StateLeftOut {
            entries.clear();
        }
        let before = ctx.pipeline.ring().last_ticket();
        let from = ctx.pipeline.cursor(self.id, of);
        ctx.pipeline.advance(ctx.now.boot, self.id, of, to, tally, ctx.rng.below(100_000), &entries);
        ctx.note_states(before, 0)?;
        trace!(ctx, "{} lane {i}: cursor {from:?} -> {to:?} {tally:?}", self.book.name);
        let account = ctx.pipeline.account(self.id, lane);
        let (i, streams) = (lane.index(), ctx.pipeline.streams(self.id, lane));
        self.book.advanced(i, &account, &streams, ctx.model, ctx.ledger, &self.upstream)?;
        self.book.compare_shares(i, &account, &shares_of(ctx.pipeline, self.id, lane))
    }

    /// Planted: a cursor or a count that is not what the machine said.
    fn bend_advance(&mut self, i: usize, to: &mut LanePos, tally: &mut Tally, ctx: &mut Ctx<'_>) {
        let untold: u64 = self.feeds[i].untold.extract_if(.., |(at, _)| *at <= to.ordinal).map(|g| g.1).sum();
        tally.filtered += untold;
        match ctx.plant {
            Plant::CountSkipped => {
                tally.filtered += tally.delivered.min(1);
                tally.delivered -= tally.delivered.min(1);
            }
            Plant::CursorBeforeAnswer => {
                let read = self.feeds[i].forward.read_pos();
                if read.ordinal > to.ordinal {
                    tally.delivered += read.ordinal - to.ordinal;
                    *to = LanePos { seq: read.seq, ordinal: read.ordinal };
                }
            }
            _ => {}
        }
    }

    fn request(&mut self, at: At, asked: Asked, ctx: &mut Ctx<'_>) -> Check {
        let Some(spu) = self.on.get(&at).copied() else { return Ok(()) };
        let twice = self.wire.iter().any(|w| w.at == at);
        ensure!(!twice, "{}: two requests at once for lane {} {:?}", self.book.name, at.0, at.1);
        let mut due = ctx.time + ctx.rng.below(5_000) as i64;
        if matches!(asked, Asked::Send { .. }) && ctx.rng.below(60) == 0 && self.upstream.nature.rejects > 0 {
            due = ctx.time + ctx.rng.below(2 * TIMEOUT as u64) as i64;
            ctx.tape.hit(Fault::RequestStalled);
        }
        let (_, name, partition) = self.feeds[at.0].forward.target_name(at.1);
        let part = (upstream_of(name), partition);
        trace!(ctx, "{} lane {} {:?} {part:?} at {spu}: {asked:?}", self.book.name, at.0, at.1);
        self.wire.push(Wire { at, part, spu, deadline: ctx.time + TIMEOUT, due, what: What::Request(asked) });
        Ok(())
    }

    fn send(&mut self, at: At, batch: &forward::Batch, ctx: &mut Ctx<'_>) -> Check {
        let feed = &mut self.feeds[at.0];
        let Some(mut outs) = feed.buffers.remove(&(at.1, batch.id)) else {
            return Err(Violation(format!("{}: a batch without bytes: {batch:?}", self.book.name)));
        };
        ensure!(outs.len() == batch.count as usize, "{}: {} outputs in {batch:?}", self.book.name, outs.len());
        if ctx.plant == Plant::BatchStraddles && outs.len() > 1 {
            // The batch's last output goes with the next one.
            let kept = outs.pop().and_then(|last| feed.torn.insert(at.1, last));
            outs.splice(0..0, kept);
        }
        let (lane, newest) = (feed.lane, feed.newest);
        self.schedule.sent(lane, newest, batch.bytes as u64);
        self.request(at, Asked::Send { origin: batch.marker, turn: batch.turn, outs }, ctx)
    }

    // ------------------------------------------------------------------------------------ connections

    fn connect(&mut self, ctx: &mut Ctx<'_>) {
        for spu in 0..SPUS {
            if let Conn::Opening { done_at } = self.conns[spu as usize]
                && done_at <= ctx.time
            {
                self.conns[spu as usize] = match ctx.time < self.link_down {
                    true => {
                        self.visit_wanted = true;
                        Conn::Closed { retry_at: ctx.time + 100_000 + ctx.rng.below(1_000_000) as i64 }
                    }
                    false => {
                        self.came_back |= !self.conns.contains(&Conn::Up);
                        Conn::Up
                    }
                };
            }
        }
        if self.came_back {
            return;
        }
        for at in self.opens.clone() {
            let (_, name, partition) = self.feeds[at.0].forward.target_name(at.1);
            let leader = self.meta.get(&upstream_of(name)).and_then(|l| l.get(partition as usize)).copied();
            let Some(spu) = leader else {
                self.visit_wanted = true;
                continue;
            };
            match self.conns[spu as usize] {
                Conn::Up => {
                    self.opens.remove(&at);
                    self.on.insert(at, spu);
                    let counts = self.upstream.nature.counts;
                    let part = (upstream_of(name), partition);
                    if !self.upstream.clones.contains_key(&part) {
                        let ids = self.ids_of_clones(at, ctx);
                        self.upstream.clones.insert(part, ids);
                    }
                    self.feeds[at.0].forward.handle(ctx.now.boot, Input::Up { target: at.1, counts });
                    self.stuck[at.0] = false;
                }
                Conn::Closed { retry_at } if retry_at <= ctx.time => {
                    let done_at = ctx.time + ctx.rng.below(50_000) as i64;
                    self.conns[spu as usize] = Conn::Opening { done_at };
                }
                Conn::Closed { .. } | Conn::Opening { .. } => {}
            }
        }
    }

    /// What batches of this stream would be signed with if the ring had another id.
    fn ids_of_clones(&self, at: At, ctx: &Ctx<'_>) -> Vec<i64> {
        let Feed { lane, number, forward, .. } = &self.feeds[at.0];
        let (_, topic, partition) = forward.target_name(at.1);
        let whose = |ring| forward::Whose {
            ring,
            former: Vec::new(),
            sink: Name::new(&self.book.name).expect("a good name"),
            lane: *lane,
            stream: forward::Stream { number: *number, start: 0, unstarted: false },
        };
        let own = ctx.pipeline.ring().id().0;
        let marks = |ring| forward::Known::new(whose(ring), &[]).marks(topic, partition);
        [own ^ 1, own.wrapping_add(1 << 64)].into_iter().flat_map(marks).map(|mark| mark.id).collect()
    }

    /// A connection is lost, and with it what was asked on it.
    pub fn lose(&mut self, spu: i32, ctx: &mut Ctx<'_>) -> Check {
        let members = self.drop_wire(spu, ctx.time, ctx.rng, ctx.tape);
        self.conns[spu as usize] = Conn::Closed { retry_at: ctx.time + 100_000 + ctx.rng.below(500_000) as i64 };
        self.visit_wanted = true;
        for at in members {
            self.on.remove(&at);
            self.feeds[at.0].forward.handle(ctx.now.boot, Input::Down { target: at.1 });
            self.stuck[at.0] = false;
        }
        Ok(())
    }

    fn drop_wire(&mut self, spu: i32, time: i64, rng: &mut Rng, tape: &mut Tape) -> Vec<At> {
        let (gone, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut self.wire).into_iter().partition(|w| w.spu == spu);
        self.wire = kept;
        for wire in gone {
            if let What::Request(Asked::Send { outs, .. }) = &wire.what {
                self.upstream.unheard(wire.part, outs);
            }
            match wire.what {
                What::Request(Asked::Send { origin, turn, outs }) if rng.below(2) == 0 => {
                    let overdue = self.profile.overdue && rng.below(3) == 0;
                    let at = time + if overdue { GRACE + 10 * GRACE } else { rng.below(GRACE as u64) as i64 };
                    self.upstream.strand(at, (wire.part, spu), (origin, turn), outs, overdue);
                }
                What::Request(Asked::Send { .. }) => tape.hit(Fault::RequestLost),
                What::Answer(Answer::Sent(_)) => tape.hit(Fault::AnswerLost),
                _ => {}
            }
        }
        self.on.iter().filter(|(_, on)| **on == spu).map(|(at, _)| *at).collect()
    }

    // ------------------------------------------------------------------------------------ the SC

    fn visit(&mut self, ctx: &mut Ctx<'_>) {
        match self.visiting {
            Some(done_at) if done_at <= ctx.time => self.visited(ctx),
            None if self.visit_wanted && ctx.time >= self.visit_at => {
                self.visiting = Some(ctx.time + ctx.rng.below(100_000) as i64);
                self.visit_wanted = false;
            }
            _ => {}
        }
    }

    fn visited(&mut self, ctx: &mut Ctx<'_>) {
        self.visiting = None;
        self.visit_at = ctx.time + VISIT_EVERY;
        if ctx.time < self.link_down.max(self.upstream.sc_away) {
            self.visit_wanted = true;
            return;
        }
        let names = self.feeds.iter().flat_map(|f| f.forward.topics().map(|(_, name)| upstream_of(name)));
        let wanted: BTreeSet<usize> = names.collect();
        let (meta, made) = self.upstream.visit(&wanted, ctx.time, ctx.rng);
        // What is not there yet is asked for again.
        self.visit_wanted |= wanted.iter().any(|topic| !meta.contains_key(topic));
        self.meta = meta;
        self.made.extend(made);
        for i in 0..self.feeds.len() {
            let topics: Vec<TopicIx> = self.feeds[i].forward.topics().map(|(ix, _)| ix).collect();
            for topic in topics {
                if self.meta.contains_key(&upstream_of(self.feeds[i].forward.topic_name(topic))) {
                    self.tell_partitions(i, topic, ctx.now);
                }
            }
        }
    }

    fn tell_partitions(&mut self, i: usize, topic: TopicIx, now: Now) {
        let alone = self.feeds.iter().filter(|feed| !feed.over).count() == 1;
        let forward = &mut self.feeds[i].forward;
        let name = upstream_of(forward.topic_name(topic));
        match self.meta.get(&name).map(|l| l.len() as u32).filter(|n| *n > 0) {
            Some(count) => {
                let fresh = self.made.remove(&name) && alone;
                forward.handle(now.boot, Input::Partitions { topic, count, fresh });
                self.stuck[i] = false;
            }
            None => self.visit_wanted = true,
        }
    }

    // ------------------------------------------------------------------------------------ the end

    fn is_through(&self, f: &Feed, pipeline: &Pipeline) -> bool {
        let durable = pipeline.ring().lane_durable(f.lane);
        let one = f.over || pipeline.streams(self.id, f.lane).len() == 1;
        let at_end = one && pipeline.cursor(self.id, f.lane).ordinal >= durable.ordinal;
        f.over || at_end && f.forward.read_pos().ordinal >= durable.ordinal && f.forward.held() == 0
    }

    /// Nothing waits and nothing is under way.
    pub fn is_drained(&self, pipeline: &Pipeline) -> bool {
        let idle = self.wire.is_empty() && !self.upstream.has_limbo() && self.persisting.is_none();
        idle && self.feeds.iter().all(|f| self.is_through(f, pipeline))
    }

    /// What is not drained, for messages.
    pub fn describe(&self, pipeline: &Pipeline) -> String {
        let feeds = self.feeds.iter().filter(|f| !self.is_through(f, pipeline));
        let feeds: Vec<_> = feeds
            .map(|f| format!("{:?} {}: read {:?} of {:?}", f.lane, f.number, f.forward.read_pos(), f.forward))
            .collect();
        let Self { conns, wire, opens, stuck, meta, persisting, .. } = self;
        let limbo = self.upstream.has_limbo();
        format!(
            "{} {conns:?} {wire:?} opens {opens:?} stuck {stuck:?} meta {meta:?} {persisting:?} limbo {limbo} {feeds:?}",
            self.book.name
        )
    }

    /// How many connections could be lost.
    pub fn is_up(&self, spu: i32) -> bool {
        self.conns[spu as usize] == Conn::Up
    }
}

pub fn hash_of(key: Option<&[u8]>, value: &[u8]) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut h = DefaultHasher::new();
    (key, value).hash(&mut h);
    h.finish()
}

/// How an account divides among the topics that still have names.
pub fn shares_of(pipeline: &Pipeline, sink: SinkId, lane: LaneId) -> Vec<(u8, Shared)> {
    let local = |topic| pipeline.topic_name(topic).and_then(|name| local_of(name.as_str()));
    pipeline.shares(sink, lane).filter_map(|(topic, counts)| Some((local(topic)?, counts))).collect()
}

fn upstream_of(name: &str) -> usize {
    UPSTREAM.iter().position(|u| *u == name).expect("a topic of the simulation")
}
