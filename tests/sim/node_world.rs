//! A whole node, driven from one seed: sources, rules, the ring on a disk that fails, one or two sinks with the real
//! `forward` machines, links that flap, upstreams that lose things, a wall clock that jumps.
//!
//! [`crate::model::Model`] holds the ring to its word, [`crate::ledger::Ledger`] the sinks: after every step what was
//! acknowledged is durable, every account is exact, and nothing is upstream that should not be. At the end everything
//! heals, and what is not in an announced gap is upstream once and in order.

use std::collections::BTreeSet;

use headwater::backoff::Rng;
use headwater::lane::LaneId;
use headwater::limits::MIN_RING;
use headwater::name::Name;
use headwater::pipeline::{Account, Pipeline, Plan, RulePlan, SinkPlan, SourcePlan, TopicPlan};
use headwater::record::RecordRef;
use headwater::ring::{Health, LaneOptions, Options, Owner, OwnerKind, ROOT_BYTES, ReadStep, Report, Ring, Ticket};
use headwater::rules::filter::{Condition, Needle};
use headwater::rules::{Rule, RuleSpec};
use headwater::time::{BootTime, Now, Span, WallTime};
use headwater::topic::{TopicId, TopicPart, TopicSet};

use crate::disk::{Crash, SimDisk};
use crate::fault::{Fault, Tape};
use crate::ground::{GivenFree, Ground, MAX_COMMANDS, Turns, any_crash, boot_id, disk_fault};
use crate::keys::keys;
use crate::ledger::{COPY, DEAD, Dead, GAPS, Id, LOCAL, Ledger, SinkLedger};
use crate::model::{Check, Counts, Model, Violation, ensure};
use crate::node_sink::{Ctx, NodeSink, Profile, shares_of};
use crate::node_sources::{Bus, Lines, source_owner};
use crate::planted::Plant;
use crate::ring_world::Coverage;
use crate::threads::Threads;
use crate::upstream::{Makes, Nature, SPUS, Upstream};

const MIN_OPS: u64 = 2_000;
const MIN_FAULTS: u64 = 20;

pub struct World {
    pub rng: Rng,
    pub plant: Plant,
    pub threads: Threads,
    pipeline: Option<Pipeline>,
    seed: u64,
    pub options: Options,
    plan: Plan,
    pub model: Model,
    pub ledger: Ledger,
    /// Local topics in the order of [`LOCAL`].
    pub topics: Vec<TopicId>,
    /// And the lane that each is in.
    pub lanes: [usize; LOCAL.len()],
    /// Topics whose entry was destroyed with their name.
    pub forgotten: Vec<TopicId>,
    pub buses: Vec<Bus>,
    pub lines: Lines,
    pub sinks: Vec<NodeSink>,
    owners: Vec<Owner>,
    given_free: GivenFree,
    /// Faults of links, upstreams and clocks.
    tape: Tape,
    gaps: Counts,
    /// Time outside, which knows nothing of boots.
    time: i64,
    boot_began: i64,
    wall_offset: i64,
    trusted: bool,
    /// Bytes that the disk may hold at most.
    bound: u64,
    pub next_tag: u64,
    pub big: u64,
    /// Of a hundred steps so many are faults.
    trouble: u64,
    /// Its card goes from machine to machine. What it holds then is announced as maybe doubled, which hides what else
    /// doubles it: so few worlds do.
    moves: bool,
    /// Its upstreams rebuild batches.
    rebuilt: bool,
    /// Nothing happens to its disk until the end, its links are soon there again, and one lane alone writes where it sends: what
    /// is in doubt is what was sent last, and it is compared often.
    calm: bool,
    trace: bool,
    /// Records of losses that were looked for in memory.
    told_looked_for: BTreeSet<(TopicPart, u64)>,
    pub cover: Coverage,
}

macro_rules! trace {
    ($world:expr, $($arg:tt)+) => {
        if $world.trace { eprintln!("[{}] {}", $world.cover.ops, format!($($arg)+)); }
    };
}

/// Runs one seed to its end.
pub fn run(seed: u64, plant: Plant) -> Check<Coverage> {
    let mut world = World::new(seed, plant)?;
    while world.cover.ops < MIN_OPS || world.faults() < MIN_FAULTS {
        ensure!(world.cover.ops < 20 * MIN_OPS, "faults are too rare: {:?}", world.tape);
        world.step()?;
    }
    world.finish()?;
    let faults = world.faults();
    world.cover.tape.add(&world.threads.disk.tape);
    world.cover.tape.add(&world.tape);
    world.cover.least_ops = world.cover.ops;
    world.cover.least_faults = faults;
    world.cover.gaps = world.gaps;
    world.cover.slots_reused = world.threads.slots_begun;
    for told in world.ledger.told.values().flatten() {
        let of = if told.topic.is_some() { &mut world.cover.told } else { &mut world.cover.told_of_none };
        of.gap(told.reason, told.count);
    }
    for sink in &world.sinks {
        let [delivered, filtered, refused, _, expired, ..] = sink.book.counts();
        world.cover.expired += expired;
        world.cover.delivered += delivered;
        world.cover.filtered += filtered;
        world.cover.refused += refused;
        let said = sink.book.announced;
        world.cover.splits += sink.splits.split;
        world.cover.absorbed += sink.splits.absorbed;
        world.cover.most_streams = world.cover.most_streams.max(sink.splits.most);
        world.cover.announced += said.duplicated + said.maybe + said.losses;
    }
    Ok(world.cover)
}

/// Where a local topic begins.
fn first_lane(local: usize, lanes: usize) -> usize {
    match local {
        0 => 0,
        2 => 1 % lanes,
        _ => lanes - 1,
    }
}

pub fn name(s: &str) -> Name {
    Name::new(s).expect("a good name")
}

impl World {
    fn new(seed: u64, plant: Plant) -> Check<Self> {
        let mut rng = Rng::new(seed ^ 0x6e6f_6465);
        let mut disk = SimDisk::new(rng.next_u64());
        disk.lie = plant.lie();
        let calm = seed % 8 == 3;
        let lanes = if calm { 1 } else { 1 + rng.below(3) as usize };
        let lane = |i: usize| LaneOptions {
            name: name(["urgent", "normal", "bulk"][i]),
            reserve: if i == 0 { 10 } else { 0 },
        };
        let options = Options {
            max_bytes: MIN_RING + rng.below(3) * 300_000,
            lanes: (0..lanes).map(lane).collect(),
            linger: Span::from_millis(100 + rng.below(1_000) as i64),
            binding: [7; 16],
            boot_id: boot_id(&mut rng),
            seed: rng.next_u64(),
            keys: keys(seed, 0),
            formats: Default::default(),
        };
        let buses = (0..2).map(|n| Bus {
            id: headwater::pipeline::SourceId(n),
            inflight: Default::default(),
            again: 0,
            acked: Vec::new(),
        });
        let mut world = World {
            seed,
            plant,
            threads: Threads::new(disk, plant),
            pipeline: None,
            plan: Plan::default(),
            model: Model::new(lanes),
            ledger: Ledger::default(),
            topics: vec![Self::no_topic(); LOCAL.len()],
            lanes: [0, 1, 2, 3, 4].map(|local| first_lane(local, lanes)),
            forgotten: Vec::new(),
            buses: buses.collect(),
            lines: Lines { id: headwater::pipeline::SourceId(2), next: 0, spots: Default::default() },
            sinks: Vec::new(),
            owners: Vec::new(),
            given_free: GivenFree::default(),
            tape: Tape::default(),
            gaps: Counts::default(),
            time: 1_000_000_000,
            boot_began: 1_000_000_000 - 1 - rng.below(30_000_000) as i64,
            wall_offset: 0,
            trusted: false,
            bound: options.max_bytes,
            next_tag: 0,
            big: [0, 3, 20, 60][rng.below(4) as usize],
            trouble: 2 + rng.below(3),
            moves: rng.below(6) == 0,
            rebuilt: seed % 4 == 3 || plant.is_of_comparing(),
            calm,
            trace: std::env::var_os("HEADWATER_TRACE").is_some(),
            told_looked_for: BTreeSet::new(),
            cover: Coverage::default(),
            options,
            rng,
        };
        world.plan = world.make_plan();
        world.recover()?;
        world.add_sink()?;
        Ok(world)
    }

    fn make_plan(&self) -> Plan {
        let topic = |local: usize| {
            let lane = self.lanes[local];
            // What a link that is down for long makes worthless.
            let max_age = (local == 4).then_some(Span::from_secs(20));
            (Self::topic_name(local), TopicPlan { lane, partitions: 1, pause: false, max_age })
        };
        let contains = |text: &[u8]| Condition::Contains(Needle::new(text));
        let only = |local: usize| TopicSet { include: vec![LOCAL[local].into()], exclude: vec![] };
        let dropped = RuleSpec::Filter(Condition::Not(Box::new(contains(b" drop"))));
        let copied = RuleSpec::Filter(contains(b" copy"));
        let rule = |name: &str, spec| Rule::new(Name::new(name).unwrap(), spec);
        Plan {
            node: "sim".into(),
            lanes: self.options.lanes.iter().map(|l| l.name.clone()).collect(),
            topics: (0..LOCAL.len()).map(topic).collect(),
            rules: vec![
                RulePlan { topics: only(1), into: None, rule: rule("dropped", dropped) },
                RulePlan { topics: only(0), into: Some(Self::topic_name(COPY as usize)), rule: rule("copied", copied) },
            ],
            ..Plan::default()
        }
    }

    pub fn pipeline(&mut self) -> &mut Pipeline {
        self.pipeline.as_mut().expect("the node runs between crashes")
    }

    pub fn now(&self) -> Now {
        let boot = BootTime(self.time - self.boot_began);
        Now { boot, wall: WallTime(boot.0 + self.wall_offset), trusted: self.trusted }
    }

    fn faults(&self) -> u64 {
        // What an upstream does every day, or follows from something else, is not counted.
        let everyday = [
            Fault::OtherWriter,
            Fault::NotLeader,
            Fault::RequestLost,
            Fault::AnswerLost,
            Fault::LandedLate,
            Fault::LeftOut,
            Fault::OtherWroteOurs,
            Fault::CloneWrote,
        ];
        let everyday: u64 = everyday.iter().map(|f| self.tape.count(*f)).sum();
        self.threads.disk.tape.total() + self.tape.total() - everyday
    }

    /// A sink with what it borrows.
    fn sink<R>(&mut self, s: usize, work: impl FnOnce(&mut NodeSink, &mut Ctx<'_>) -> R) -> R {
        let (now, time, plant, trace) = (self.now(), self.time, self.plant, self.trace);
        let Self { pipeline, model, ledger, owners, rng, tape, gaps, sinks, .. } = self;
        let pipeline = pipeline.as_mut().expect("the node runs between crashes");
        let mut ctx = Ctx { pipeline, model, ledger, owners, rng, tape, gaps, now, time, plant, trace };
        work(&mut sinks[s], &mut ctx)
    }

    pub fn note_states(&mut self, before: Ticket) -> Check {
        self.note_appended(before, 0)
    }

    pub fn note_appended(&mut self, before: Ticket, appended: u64) -> Check {
        if self.sinks.is_empty() {
            return Ok(());
        }
        self.sink(0, |_, ctx| ctx.note_states(before, appended))
    }

    fn add_sink(&mut self) -> Check {
        let n = self.sinks.len();
        let lanes = self.options.lanes.len();
        let excluded = (self.rng.below(2) == 0).then_some(2);
        let book = SinkLedger::new(&format!("sink{n}"), excluded, lanes);
        let counts = !self.rebuilt && self.rng.below(3) == 0;
        let nature = Nature {
            counts,
            rejects: [0, 12, 30][self.rng.below(3) as usize],
            most: (self.rng.below(4) == 0).then_some(8),
            others: [0, 0, 9][self.rng.below(3) as usize],
            lag: if counts { 0 } else { [0, 15][self.rng.below(2) as usize] },
            ..Nature::default()
        };
        let rebuilds = self.rebuilt || !counts && self.rng.below(16) == 0;
        let nature = if rebuilds { self.rebuilding(nature) } else { nature };
        let profile = Profile {
            max_batch: [1_500, 6_000, 30_000][self.rng.below(3) as usize],
            search_max: if self.rng.below(8) == 0 { 1024 } else { 1 << 20 },
            resend: self.rng.below(4) != 0,
            overdue: self.rng.below(6) == 0,
            newest_first: [None, None, Some(1), Some(20)][self.rng.below(4) as usize].filter(|_| !self.calm),
            live: [1000, 1000, 800, 100][self.rng.below(4) as usize],
            weights: (self.rng.below(3) == 0).then(|| [0; 3].map(|_| 1 + self.rng.below(8) as u32)),
            // What is planted into the comparing is to be met.
            only_writer: self.rng.below(3) != 0 || self.plant.is_of_comparing(),
            committed: self.rng.below(5) != 0,
        };
        trace!(self, "sink{n}: excluded {excluded:?} {nature:?} {profile:?}");
        self.sinks.push(NodeSink::new(n, book, profile, Upstream::new(nature)));
        self.owners.push(Owner { kind: OwnerKind::Sink, name: name(&format!("sink{n}")) });
        self.open_sink(n)
    }

    /// An upstream one topic of which rebuilds batches.
    fn rebuilding(&mut self, nature: Nature) -> Nature {
        let echoes = self.rng.below(3) == 0;
        Nature {
            makes: [Makes::Anew, Makes::Filtered, Makes::Deduplicated][self.rng.below(3) as usize],
            alike: [0, 0, 3, 40][self.rng.below(4) as usize],
            echoes,
            // Only what was sent and not answered is compared.
            cuts: [0, 6, 30][self.rng.below(3) as usize],
            others: if echoes { [9, 60][self.rng.below(2) as usize] } else { nature.others },
            ..nature
        }
    }

    fn open_sink(&mut self, s: usize) -> Check {
        let exclude = self.sinks[s].book.excluded.map(|local| LOCAL[local as usize].to_owned());
        let topics = TopicSet { include: vec!["*".into()], exclude: exclude.into_iter().collect() };
        let plan = SinkPlan { name: self.owners[s].name.clone(), topics };
        let before = self.pipeline().ring().last_ticket();
        let id = self.pipeline().add_sink(plan);
        self.sinks[s].id = id;
        self.note_states(before)?;
        for lane in 0..self.options.lanes.len() {
            let account = self.pipeline().account(id, LaneId(lane as u8));
            trace!(self, "sink{s} lane {lane}: {account:?}");
            let gaps = self.pipeline().gaps(id, LaneId(lane as u8));
            let pipeline = self.pipeline.as_ref().expect("the node runs between crashes");
            let shares = shares_of(pipeline, id, LaneId(lane as u8));
            let streams = pipeline.streams(id, LaneId(lane as u8));
            let book = &mut self.sinks[s].book;
            book.recovered(lane, &account, &streams, &gaps, &self.model)?;
            book.compare_shares(lane, &account, &shares)?;
        }
        self.sink(s, |sink, ctx| sink.begin(ctx));
        Ok(())
    }

    // ------------------------------------------------------------------------------------ one step

    fn step(&mut self) -> Check {
        self.cover.ops += 1;
        match self.rng.below(100) {
            0..38 => self.source_step()?,
            38..84 => self.sink_step()?,
            84..95 => self.wait(),
            95 => self.odd_job()?,
            _ if self.rng.below(4) < self.trouble => self.fault()?,
            _ => {}
        }
        self.pump()?;
        self.check()
    }

    fn sink_step(&mut self) -> Check {
        for s in 0..self.sinks.len() {
            self.sink(s, NodeSink::turn)?;
        }
        Ok(())
    }

    fn wait(&mut self) {
        let span = match self.rng.below(5) {
            0 => 2_000_000,
            1 | 2 if self.calm => 4_000_000,
            1 => 200_000,
            _ => 10_000,
        };
        self.time += 1 + self.rng.below(span) as i64;
    }

    fn odd_job(&mut self) -> Check {
        match self.rng.below(6) {
            0 => self.clean_restart(),
            1 if self.sinks.len() < 2 => self.add_sink(),
            2 => {
                self.trusted = self.rng.below(3) != 0;
                Ok(())
            }
            3 => {
                self.tape.hit(Fault::ClockJumped);
                self.wall_offset = match self.rng.below(3) {
                    0 => 0, // 1970
                    1 => 1_700_000_000_000_000 + self.rng.below(1 << 40) as i64,
                    _ => self.wall_offset + self.rng.below(20_000_000) as i64 - 10_000_000,
                };
                Ok(())
            }
            _ => {
                let linger = Span::from_millis(self.rng.below(2_000) as i64);
                let max = MIN_RING + self.rng.below(3) * 300_000;
                (self.options.max_bytes, self.options.linger) = (max, linger);
                self.bound = self.bound.max(max);
                self.pipeline().ring_mut().set_limits(max, linger);
                Ok(())
            }
        }
    }

    // ------------------------------------------------------------------------------------ the disk threads

    fn ground(&mut self) -> Ground<'_> {
        let now = self.now().boot;
        let Self { threads, model, rng, .. } = self;
        Ground { threads, model, rng, now }
    }

    /// Lets the disk threads get on by some random amount, and gives the ring what they finished.
    fn pump(&mut self) -> Check {
        self.poll()?;
        self.threads.run_some(&mut self.rng);
        self.time += self.rng.below(2_000) as i64;
        for _ in 0..self.rng.below(4) {
            self.deliver_one()?;
        }
        self.mind_the_disk()
    }

    fn settle(&mut self) -> Check {
        let (settled, last) = (self.pipeline().ring().settled(), self.pipeline().ring().last_ticket());
        ensure!(settled <= last, "settled {settled:?} was never given");
        if settled.0 > self.model.settled() {
            self.model.settle(settled.0)?;
        }
        let told = if self.plant == Plant::AcknowledgedEarly { last } else { settled };
        self.acknowledge(told);
        self.read_told(false)?;
        if self.plant == Plant::FloorFromUnsyncedCursor {
            for lane in 0..self.options.lanes.len() {
                let lane = LaneId(lane as u8);
                let ids: Vec<_> = self.sinks.iter().map(|s| s.id).collect();
                let floor = ids.into_iter().map(|id| self.pipeline().cursor(id, lane)).min();
                self.pipeline().ring_mut().set_floor(lane, floor);
            }
        }
        Ok(())
    }

    // ------------------------------------------------------------------------------------ faults

    fn fault(&mut self) -> Check {
        match if self.calm { 30 + self.rng.below(30) } else { self.rng.below(60) } {
            pick @ 0..30 => match disk_fault(&mut self.ground(), pick) {
                Some(crash) => self.crash(crash),
                None => Ok(()),
            },
            pick => {
                let s = self.rng.below(self.sinks.len() as u64) as usize;
                self.link_fault(s, pick - 30)
            }
        }
    }

    fn link_fault(&mut self, s: usize, pick: u64) -> Check {
        let time = self.time;
        let long = self.rng.below(3) == 0;
        let most = if self.calm {
            300_000
        } else if long {
            60_000_000
        } else {
            3_000_000
        };
        let until = time + 100_000 + self.rng.below(most) as i64;
        match pick {
            0..8 => {
                let spu = self.rng.below(SPUS as u64) as i32;
                if self.sinks[s].is_up(spu) {
                    self.tape.hit(Fault::LinkReset);
                    self.sink(s, |sink, ctx| sink.lose(spu, ctx))?;
                }
            }
            8..13 => {
                self.tape.hit(Fault::LinkDown);
                self.sinks[s].link_down = until;
                self.lose_all(s)?;
            }
            13..16 => {
                self.tape.hit(Fault::ScAway);
                self.sinks[s].upstream.sc_away = until;
            }
            16..19 => {
                self.tape.hit(Fault::ScStale);
                self.sinks[s].upstream.go_stale(until);
            }
            19..23 => self.sinks[s].upstream.move_leader(&mut self.rng, &mut self.tape),
            23..25 => _ = self.sinks[s].upstream.grow(&mut self.rng, &mut self.tape),
            25..28 => {
                // A restarted SPU: its connections die with it, and what hung in it.
                self.lose_all(s)?;
                self.sinks[s].upstream.drop_limbo();
                self.sinks[s].upstream.lose(self.time, &mut self.rng, &mut self.tape);
            }
            28 => self.sinks[s].upstream.trim(&mut self.rng, &mut self.tape),
            _ => {}
        }
        Ok(())
    }

    fn lose_all(&mut self, s: usize) -> Check {
        for spu in 0..SPUS {
            self.sink(s, |sink, ctx| sink.lose(spu, ctx))?;
        }
        Ok(())
    }

    /// Everything that lived in the process (and, with the power, in the kernel) is gone.
    fn forget_process(&mut self, crash: Crash) {
        self.model.perhaps_copied(self.threads.unheard_copies());
        let extents = self.threads.crash(crash);
        self.model.crash(extents);
        let (time, rng, tape) = (self.time, &mut self.rng, &mut self.tape);
        self.sinks.iter_mut().for_each(|sink| sink.crash(time, rng, tape));
        self.unacknowledged();
        if crash == Crash::Power {
            self.options.boot_id = boot_id(&mut self.rng);
            self.time += self.rng.below(10_000_000) as i64;
            self.boot_began = self.time - self.rng.below(30_000_000) as i64;
            (self.wall_offset, self.trusted) = (0, false);
        }
    }

    // ------------------------------------------------------------------------------------ recovery

    /// Brings the node back and holds it against model and ledger.
    fn recover(&mut self) -> Check {
        self.cover.recoveries += 1;
        self.options.keys = keys(self.seed, self.cover.recoveries);
        let (options, first) = (self.options.clone(), self.cover.recoveries == 1);
        let (mut ring, report) = self.ground().recover(&options, !first)?;
        trace!(self, "recovered: {report:?} {:?}", ring.stats());
        self.cover.tails_unknown += u64::from(report.tail_unknown);
        self.check_ring(&mut ring, first)?;
        self.begin_process(ring, report)?;
        self.losses_came_back()?;
        for s in 0..self.sinks.len() {
            self.open_sink(s)?;
        }
        self.check_told()?;
        self.check_letters()?;
        self.tell_again()?;
        self.sources_came_back()?;
        self.given_free = GivenFree::new(&self.pipeline().ring().stats());
        self.model.groups_whole()
    }

    fn check_ring(&mut self, ring: &mut Ring, first: bool) -> Check {
        let owners = self.owners.clone();
        let owner = |n: u8| if n >= 100 { owners[n as usize - 100].clone() } else { source_owner(n.into()) };
        let mut ground = self.ground();
        let newest_state = if first { 0 } else { ground.audit_states(ring, owner)? };
        ground.audit_lanes(ring, newest_state)
    }

    fn begin_process(&mut self, ring: Ring, report: Report) -> Check {
        let before: Vec<_> = LOCAL.iter().map(|name| ring.topic_id(name)).collect();
        if self.rng.below(8) == 0 {
            // The config puts a topic into another lane.
            let local = self.rng.below(LOCAL.len() as u64) as usize;
            self.lanes[local] = self.rng.below(self.options.lanes.len() as u64) as usize;
            self.plan = self.make_plan();
        }
        self.pipeline = Some(Pipeline::new(ring, report, false, self.plan.clone()));
        for local in 0..LOCAL.len() {
            let id = self.pipeline().open_topic(&Self::topic_name(local), None);
            let id = id.map_err(|e| Violation(format!("topic {} refused: {e}", LOCAL[local])))?;
            let old = std::mem::replace(&mut self.topics[local], id);
            // One that moved too often of late stays where it is.
            let lane = self.pipeline().ring().topic(id).map_or(0, |info| info.lane.index());
            self.lanes[local] = lane;
            if id != old && old != Self::no_topic() {
                ensure!(before[local].is_none(), "topic {} was {old:?}, is {id:?}", LOCAL[local]);
                let lost = self.model.forget_topic(old);
                ensure!(lost, "topic {} lost its number {old:?} with durable records in it", LOCAL[local]);
                self.forgotten.push(old);
            }
        }
        for n in 0..3 {
            let plan = SourcePlan { name: source_owner(n).name, key: None, value: Default::default() };
            self.pipeline().add_source(plan);
        }
        Ok(())
    }

    // ------------------------------------------------------------------------------------ what the node itself records

    /// Reads the records of losses and the dead letters that are durable now; `patient`: also those that are not in memory any
    /// more.
    fn read_told(&mut self, patient: bool) -> Check {
        let unread: Vec<_> = self.ledger.told.iter().filter(|(_, told)| told.is_none()).map(|(at, _)| *at).collect();
        for at in unread {
            if let Some(value) = self.read_own(at, patient)? {
                self.ledger.told.insert(at, Some(parsed(at, &value)?));
            }
        }
        let unread: Vec<_> = self.ledger.letters.iter().filter(|(_, told)| told.is_none()).map(|(at, _)| *at).collect();
        for at in unread {
            if let Some(value) = self.read_own(at, patient)? {
                self.ledger.letters.insert(at, Some(parsed(at, &value)?));
            }
        }
        Ok(())
    }

    fn read_own(&mut self, (part, offset): (TopicPart, u64), patient: bool) -> Check<Option<Vec<u8>>> {
        // Asked for anew with each completion, the windows of a slot would push each other out for ever.
        if !patient && !self.told_looked_for.insert((part, offset)) {
            return Ok(None);
        }
        for _ in 0..if patient { 200 } else { 1 } {
            let ring = self.pipeline().ring_mut();
            let mut reader = ring.part_reader(part, offset);
            match ring.read_part(&mut reader) {
                ReadStep::Frame(frame) => {
                    let entry = frame.entries_of(part, offset).next().filter(|entry| entry.offset == offset);
                    let value = entry.map(|entry| entry.record.value.to_vec());
                    ensure!(value.is_some(), "{part:?} offset {offset} is not where it was looked for");
                    return Ok(value);
                }
                ReadStep::Wait if patient => {
                    self.poll()?;
                    self.threads.run_all();
                    while !self.threads.idle() {
                        self.deliver_one()?;
                    }
                    self.time += 20_000;
                }
                _ => break,
            }
        }
        Ok(None)
    }

    /// After a crash: records that never came to be told nothing.
    fn losses_came_back(&mut self) -> Check {
        let model = &self.model;
        let has = |local, (part, offset): (TopicPart, u64)| model.has(part, offset, Id { local, tag: offset }.pack());
        self.ledger.told.retain(|at, _| has(GAPS, *at));
        self.ledger.letters.retain(|at, _| has(DEAD, *at));
        let parts = self.ledger.told.keys().chain(self.ledger.letters.keys()).map(|(part, _)| *part);
        for part in parts.collect::<BTreeSet<TopicPart>>() {
            if !self.forgotten.contains(&part.topic)
                && self.pipeline.as_ref().expect("it runs").ring().topic(part.topic).is_none()
            {
                let lost = self.model.forget_topic(part.topic);
                ensure!(lost, "one of the node's topics lost its number with durable records in it");
                self.forgotten.push(part.topic);
            }
        }
        for (s, sink) in self.sinks.iter_mut().enumerate() {
            sink.book.nameless |= !self.forgotten.is_empty() || self.model.state_was_destroyed(100 + s as u8);
        }
        self.read_told(true)
    }

    /// What is counted as refused has a letter, in the same breath.
    fn check_letters(&mut self) -> Check {
        let unread = self.ledger.letters.values().any(Option::is_none);
        let snapshot = self.pipeline().snapshot();
        for (book, sink) in snapshot.sinks.iter().zip(&self.sinks) {
            let letters = self.ledger.letters.values().flatten().filter(|letter| letter.sink == sink.book.name);
            let letters: Vec<Dead> = letters.cloned().collect();
            sink.book.compare_letters(book.refused, &book.dead_letters, &letters, unread)?;
        }
        Ok(())
    }

    /// What is counted as lost was told, in the same breath.
    fn check_told(&mut self) -> Check {
        let unread = self.ledger.told.values().any(Option::is_none);
        let pipeline = self.pipeline.as_ref().expect("the node runs between crashes");
        for sink in &self.sinks {
            let lanes = 0..self.options.lanes.len() as u8;
            let shares: Vec<_> = lanes.map(|lane| shares_of(pipeline, sink.id, LaneId(lane))).collect();
            let told = self.ledger.told.values().flatten().filter(|told| told.sink == sink.book.name);
            sink.book.compare_told(&shares, &told.cloned().collect::<Vec<_>>(), unread)?;
        }
        Ok(())
    }

    /// Planted: the newest record of a loss, or the newest dead letter, is given again.
    fn tell_again(&mut self) -> Check {
        let newest = match self.plant {
            Plant::LossToldAgain => {
                let newest = self.ledger.told.iter().next_back().and_then(|(at, told)| Some((at.0, told.clone()?)));
                newest.map(|(part, told)| (part, GAPS, serde_json::to_vec(&told)))
            }
            Plant::LetterGivenAgain => {
                let newest = self.ledger.letters.iter().next_back().and_then(|(at, dead)| Some((at.0, dead.clone()?)));
                newest.map(|(part, dead)| (part, DEAD, serde_json::to_vec(&dead)))
            }
            _ => None,
        };
        let Some((part, local, Ok(value))) = newest else { return Ok(()) };
        let (now, lane) = (self.now(), 0);
        let before = self.pipeline().ring().last_ticket();
        let Ok(admitted) = self.pipeline().offer_plain(now, part, &RecordRef::of(&value)) else { return Ok(()) };
        self.note_appended(before, 1)?;
        let Some(place) = admitted.first else { return Ok(()) };
        let (ring, boot) = (self.pipeline().ring().id(), self.pipeline().ring().boot());
        let tag = Id { local, tag: place.offset }.pack();
        self.model.append(lane, place.ticket.0, part, place.offset, None, tag, ring, boot)?;
        if local == GAPS {
            self.ledger.told.insert((part, place.offset), None);
        } else {
            self.ledger.letters.insert((part, place.offset), None);
        }
        Ok(())
    }

    /// Planted: what the topics have of the accounts is not on the disk when the node comes back.
    fn lose_shares(&mut self) -> Check {
        // Nothing becomes durable any more: to wait for it would end in this crash again.
        let failed = matches!(self.pipeline().ring().health(), Health::Failed(_));
        if self.plant != Plant::SharesNotStored || failed || self.threads.disk.dead().is_some() {
            return Ok(());
        }
        let now = self.now().boot;
        for (s, owner) in self.owners.clone().into_iter().enumerate() {
            for (key, _) in self.pipeline().ring().states(&owner).into_iter().filter(|(key, _)| key[0] == b'p') {
                let ticket = self.pipeline().put_state(now, &owner, &key, None);
                let ticket = ticket.map_err(|e| Violation(format!("a removal was refused: {e}")))?;
                self.model.put_state((100 + s as u8, key), None, ticket.0)?;
            }
        }
        self.settle_all()
    }

    // ------------------------------------------------------------------------------------ good order

    fn clean_restart(&mut self) -> Check {
        self.settle_all()?;
        let now = self.now();
        let before = self.pipeline().ring().last_ticket();
        let ticket = self.pipeline().close(now);
        self.note_appended(before, 1)?;
        self.wait_closed(ticket)?;
        self.pipeline = None;
        let crash = any_crash(&mut self.rng);
        self.forget_process(crash);
        self.recover()
    }

    /// The end of the run: everything heals, everything is delivered, the sums are right.
    fn finish(&mut self) -> Check {
        self.settle_all()?;
        if self.calm {
            // Most of it is sent only now.
            for _ in 0..20_000 {
                self.drain_on()?;
            }
        }
        self.heal();
        self.drain()?;
        self.settle_up()?;
        let crash = any_crash(&mut self.rng);
        self.crash(crash)?;
        self.settle_all()?;
        self.heal();
        self.drain()?;
        self.settle_up()
    }

    fn heal(&mut self) {
        for sink in &mut self.sinks {
            sink.link_down = 0;
            sink.upstream.heal();
        }
    }

    fn drain(&mut self) -> Check {
        for _ in 0..30_000 {
            let pipeline = self.pipeline.as_ref().expect("the node runs");
            if self.sinks.iter().all(|sink| sink.is_drained(pipeline)) {
                return Ok(());
            }
            self.drain_on()?;
        }
        let pipeline = self.pipeline.as_ref().expect("the node runs");
        let stuck: Vec<_> = self.sinks.iter().map(|sink| sink.describe(pipeline)).collect();
        let lanes = pipeline.ring().stats().lanes;
        Err(Violation(format!("the sinks do not come to an end: {} {lanes:?}", stuck.join(" ; "))))
    }

    fn drain_on(&mut self) -> Check {
        self.sink_step()?;
        self.poll()?;
        self.threads.run_all();
        while !self.threads.idle() {
            self.deliver_one()?;
        }
        self.mind_the_disk()?;
        self.time += 5_000 + self.rng.below(20_000) as i64;
        self.check()
    }

    fn settle_up(&mut self) -> Check {
        let now = self.now().boot;
        let before = self.pipeline().ring().last_ticket();
        self.pipeline().store_cursors(now);
        self.note_states(before)?;
        self.settle_all()?;
        self.read_told(true)?;
        self.check_told()?;
        let oldest: Vec<u64> = self.pipeline().ring().stats().lanes.iter().map(|l| l.oldest.ordinal).collect();
        for (s, sink) in self.sinks.iter().enumerate() {
            // What it had stored of its upstream may be destroyed: then it cannot see that something is lost there.
            let mut promised = sink.promised();
            promised.resend &= !self.model.state_was_destroyed(100 + s as u8);
            sink.book.settle_up(&self.model, &self.ledger, &sink.upstream, &oldest, promised)?;
        }
        Ok(())
    }

    // ------------------------------------------------------------------------------------ what always holds

    fn check(&mut self) -> Check {
        let bytes = self.threads.disk.bytes();
        ensure!(bytes <= self.bound, "{bytes} bytes on disk of {} allowed", self.bound);
        let stats = self.pipeline().ring().stats();
        let coming = ROOT_BYTES + u64::from(stats.slots) * stats.slot_bytes;
        if bytes.max(coming) <= self.options.max_bytes {
            // A lowered cap is reached slot by slot, and a file may be on its way that the former one allowed.
            self.bound = self.options.max_bytes;
        }
        let Self { model, sinks, given_free, .. } = self;
        given_free.check(&stats, |lane| {
            let key = format!("cursor/{lane}").into_bytes();
            let stored = (0..sinks.len()).map(|s| {
                let stored = model.durable_state(&(100 + s as u8, key.clone()));
                stored
                    .and_then(|bytes| postcard::from_bytes::<Account>(bytes).ok())
                    .map_or(u64::MAX, |a| a.cursor.ordinal)
            });
            stored.min().unwrap_or(u64::MAX)
        })?;
        if self.cover.ops.is_multiple_of(16) { self.check_status() } else { Ok(()) }
    }

    /// Promise 2 as a person sees it.
    fn check_status(&mut self) -> Check {
        let snapshot = self.pipeline().snapshot();
        for (book, sink) in snapshot.sinks.iter().zip(&self.sinks) {
            let b = book;
            let parts = [
                b.delivered,
                b.filtered,
                b.refused,
                b.pending,
                b.evicted,
                b.expired,
                b.corrupt,
                b.lost_unsynced,
                b.released,
            ];
            ensure!(b.admitted == parts.iter().sum::<u64>(), "{}: the status does not add up: {b:?}", b.name);
            let of_topics = b.topics.iter().fold(b.unattributed, |sum, topic| sum.plus(topic.counts));
            let of_topics = of_topics.named().map(|(_, n)| n);
            let pending = b.topics.iter().map(|topic| topic.pending).sum::<u64>() + b.pending_unattributed;
            ensure!(
                of_topics == [parts[0], parts[1], parts[2], parts[4], parts[5], parts[6], parts[7], parts[8]]
                    && pending == b.pending,
                "{}: the topics do not add up: {b:?}",
                b.name
            );
            let [delivered, filtered, refused, ..] = sink.book.counts();
            ensure!(
                (b.delivered, b.filtered, b.refused) == (delivered, filtered, refused),
                "{}: the status says {b:?}, true is {:?}",
                b.name,
                sink.book.counts()
            );
        }
        Ok(())
    }
}

/// What one of the node's own records says.
fn parsed<T: serde::de::DeserializeOwned>(at: (TopicPart, u64), value: &[u8]) -> Check<T> {
    let parsed = serde_json::from_slice(value);
    parsed.map_err(|e| Violation(format!("{at:?} says nothing: {e}: {:.300}", String::from_utf8_lossy(value))))
}

impl Turns for World {
    fn threads(&mut self) -> &mut Threads {
        &mut self.threads
    }

    fn ring_now(&mut self) -> &Ring {
        self.pipeline().ring()
    }

    fn poll(&mut self) -> Check {
        let now = self.now();
        for _ in 0..MAX_COMMANDS {
            let before = self.pipeline().ring().last_ticket();
            let command = self.pipeline().poll(now);
            self.note_states(before)?;
            let Some(command) = command else { return Ok(()) };
            trace!(self, "command {} {}", command.token, crate::ring_world::describe(&command.op));
            self.threads.give(command, &mut self.rng);
            self.threads.take_begun().into_iter().for_each(|file| self.model.overwrite(file));
        }
        Err(Violation("poll does not come to an end".into()))
    }

    fn deliver_one(&mut self) -> Check {
        let now = self.now();
        let Some(done) = self.threads.finished(&mut self.rng) else { return Ok(()) };
        trace!(self, "done {} {:?}", done.token, done.result);
        self.pipeline().complete(now, done);
        self.ground().taint_failed_reads();
        let landed = self.threads.take_landed();
        self.model.landed(landed);
        self.model.copied(self.threads.take_copied());
        self.settle()
    }

    fn crash(&mut self, crash: Crash) -> Check {
        self.lose_shares()?;
        trace!(self, "{crash:?} crash, settled {}", self.model.settled());
        self.pipeline = None;
        self.forget_process(crash);
        let moved = self.moves && self.rng.below(8) == 0;
        if moved {
            self.options.binding[0] += 1;
            self.tape.hit(Fault::CardMoved);
            trace!(self, "the card is in another machine");
        }
        self.recover()?;
        if moved && self.rng.below(2) == 0 {
            // While hardly anything stands under the new id.
            self.threads.disk.light_fuse(self.rng.below(12) as u32, Crash::Power);
        }
        Ok(())
    }

    fn sleep(&mut self) {
        let next = self.pipeline().ring().next_timeout().unwrap_or_default().0 + self.boot_began;
        self.time = next.max(self.time + 20_000);
    }
}
