//! The ring alone, driven from one seed: appends, state, readers, sinks with cursors, a writer and a reader that
//! take their time, and faults at any moment. [`Model`] says whether what comes back is right.

use headwater::backoff::Rng;
use headwater::lane::LaneId;
use headwater::limits::MIN_RING;
use headwater::name::Name;
use headwater::record::{AttrBuf, Flags, Origin, RecordRef};
use headwater::ring::{
    AppendError, GapReason, LaneOptions, LanePos, LaneReader, Op, Options, Owner, OwnerKind, ReadStep, Ring, RingId,
};
use headwater::time::{BootTime, ClockSync, Span, WallTime};
use headwater::topic::{TopicId, TopicName, TopicPart};

use crate::disk::{Crash, SimDisk};
use crate::fault::Tape;
use crate::ground::{GivenFree, Ground, MAX_COMMANDS, Turns, any_crash, boot_id, disk_fault};
use crate::keys::keys;
use crate::model::{Check, Counts, Model, StateKey, Violation, ensure};
use crate::planted::Plant;
use crate::threads::Threads;
use crate::updates::Updates;

/// What the seeds of a run have met, added up.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    pub tape: Tape,
    pub ops: u64,
    pub appended: u64,
    pub recoveries: u64,
    pub gaps: Counts,
    pub slots_reused: u64,
    pub busy: u64,
    pub too_large: u64,
    pub tails_unknown: u64,
    pub delivered: u64,
    pub filtered: u64,
    pub refused: u64,
    /// Copies and losses that sinks announced.
    pub announced: u64,
    /// Records that sinks were told of as lost: of which topic, and of none.
    pub told: Counts,
    pub told_of_none: Counts,
    pub expired: u64,
    /// Topics that went to another lane.
    pub moves: u64,
    /// Programs on trial that were taken back, and that were confirmed.
    pub rolled_back: u64,
    pub confirmed: u64,
    /// Streams that were split off and absorbed, and the most of one sink and lane at once.
    pub splits: u64,
    pub absorbed: u64,
    pub most_streams: u64,
    /// Of the seed that had least.
    pub least_ops: u64,
    pub least_faults: u64,
}

impl Coverage {
    pub fn add(&mut self, o: &Coverage) {
        self.tape.add(&o.tape);
        self.ops += o.ops;
        self.appended += o.appended;
        self.recoveries += o.recoveries;
        self.gaps.add(&o.gaps);
        self.told.add(&o.told);
        self.told_of_none.add(&o.told_of_none);
        self.expired += o.expired;
        self.slots_reused += o.slots_reused;
        self.busy += o.busy;
        self.too_large += o.too_large;
        self.tails_unknown += o.tails_unknown;
        self.delivered += o.delivered;
        self.filtered += o.filtered;
        self.refused += o.refused;
        self.announced += o.announced;
        self.moves += o.moves;
        self.rolled_back += o.rolled_back;
        self.confirmed += o.confirmed;
        self.splits += o.splits;
        self.absorbed += o.absorbed;
        self.most_streams = self.most_streams.max(o.most_streams);
        let least = |mine: &mut u64, theirs: u64| *mine = if *mine == 0 { theirs } else { theirs.min(*mine) };
        least(&mut self.least_ops, o.least_ops);
        least(&mut self.least_faults, o.least_faults);
    }
}

/// A sink of the model kind: reads lanes in order, keeps its cursor in the ring.
struct SimSink {
    owner: Owner,
    readers: Vec<Option<LaneReader>>,
    pos: Vec<LanePos>,
    counts: Vec<Counts>,
    /// Per lane and ordinal: whether this sink ever delivered it or met it in a gap.
    accounted: Vec<Vec<bool>>,
}

struct SimTopic {
    id: TopicId,
    name: TopicName,
    lane: usize,
    partitions: u8,
    /// Lanes that it was in before.
    before: Vec<usize>,
    /// Settled: the newest move is durable.
    moved: Option<u64>,
}

pub struct World {
    rng: Rng,
    plant: Plant,
    threads: Threads,
    ring: Option<Ring>,
    seed: u64,
    options: Options,
    now: BootTime,
    ring_id: RingId,
    boot: u32,
    model: Model,
    topics: Vec<SimTopic>,
    sinks: Vec<SimSink>,
    given_free: GivenFree,
    next_id: u64,
    /// Bytes per append and how often someone waits: differs from seed to seed.
    big: u64,
    hurry: u64,
    updates: Updates,
    trace: bool,
    pub cover: Coverage,
}

/// Says what happens when one seed is run again with HEADWATER_TRACE=1.
macro_rules! trace {
    ($world:expr, $($arg:tt)+) => {
        if $world.trace { eprintln!("[{}] {}", $world.cover.ops, format!($($arg)+)); }
    };
}

const MIN_OPS: u64 = 2_000;
const MIN_FAULTS: u64 = 20;

/// Runs one seed to its end.
pub fn run(seed: u64, plant: Plant) -> Check<Coverage> {
    let mut world = World::new(seed, plant)?;
    while world.cover.ops < MIN_OPS || world.threads.disk.tape.total() < MIN_FAULTS {
        ensure!(world.cover.ops < 20 * MIN_OPS, "faults are too rare: {:?}", world.threads.disk.tape);
        world.step()?;
    }
    world.finish()?;
    world.cover.tape.add(&world.threads.disk.tape);
    world.cover.least_ops = world.cover.ops;
    world.cover.least_faults = world.threads.disk.tape.total();
    world.cover.gaps = world.model.gaps_seen;
    world.cover.slots_reused = world.threads.slots_begun;
    (world.cover.rolled_back, world.cover.confirmed) = (world.updates.rolled_back, world.updates.confirmed);
    Ok(world.cover)
}

impl World {
    fn new(seed: u64, plant: Plant) -> Check<Self> {
        let mut rng = Rng::new(seed);
        let mut disk = SimDisk::new(rng.next_u64());
        disk.lie = plant.lie();
        let lanes = 1 + rng.below(3) as usize;
        let names = ["urgent", "normal", "bulk"];
        let options = Options {
            max_bytes: MIN_RING + rng.below(3) * 300_000,
            lanes: (0..lanes)
                .map(|i| LaneOptions { name: name(names[i]), reserve: if i == 0 { 10 } else { 0 } })
                .collect(),
            linger: Span::from_millis(100 + rng.below(1_000) as i64),
            binding: [7; 16],
            boot_id: boot_id(&mut rng),
            seed: rng.next_u64(),
            keys: keys(seed, 0),
            formats: Default::default(),
        };
        let mut world = World {
            seed,
            plant,
            threads: Threads::new(disk, plant),
            ring: None,
            options,
            now: BootTime(1_000_000),
            ring_id: RingId(0),
            boot: 0,
            model: Model::new(lanes),
            topics: Vec::new(),
            sinks: Vec::new(),
            given_free: GivenFree::default(),
            next_id: 0,
            big: [0, 5, 30, 60][rng.below(4) as usize],
            hurry: [2, 10, 40][rng.below(3) as usize],
            updates: Updates::new(seed),
            trace: std::env::var_os("HEADWATER_TRACE").is_some(),
            cover: Coverage::default(),
            rng,
        };
        for i in 0..1 + world.rng.below(2) {
            let owner = Owner { kind: OwnerKind::Sink, name: name(&format!("sink{i}")) };
            world.sinks.push(SimSink {
                owner,
                readers: vec![None; lanes],
                pos: vec![LanePos::default(); lanes],
                counts: vec![Counts::default(); lanes],
                accounted: vec![Vec::new(); lanes],
            });
        }
        world.recover()?;
        for _ in 0..1 + world.rng.below(4) {
            world.open_topic()?;
        }
        Ok(world)
    }

    /// What the ring stands on, and the ring.
    fn ground(&mut self) -> (Ground<'_>, &mut Ring) {
        let Self { threads, model, rng, now, ring, .. } = self;
        (Ground { threads, model, rng, now: *now }, ring.as_mut().expect("the ring is open between crashes"))
    }

    fn ring(&mut self) -> &mut Ring {
        self.ring.as_mut().expect("the ring is open between crashes")
    }

    // ------------------------------------------------------------------------------------ one step

    fn step(&mut self) -> Check {
        self.cover.ops += 1;
        match self.rng.below(100) {
            0..50 => {
                for _ in 0..1 + self.rng.below(4) {
                    self.append()?;
                }
            }
            50..58 => self.put_state()?,
            58..61 => self.group()?,
            61..80 => self.sink_step()?,
            80..86 => self.read_partition()?,
            86..92 => self.wait(),
            92..95 => self.fault()?,
            95 => self.odd_job()?,
            _ => self.store_cursor()?,
        }
        self.pump()?;
        self.check_bounds()
    }

    fn append(&mut self) -> Check {
        let t = self.rng.below(self.topics.len() as u64) as usize;
        let (id, partitions) = (self.topics[t].id, self.topics[t].partitions);
        let part = TopicPart { topic: id, partition: self.rng.below(u64::from(partitions)) as u8 };
        self.append_to(t, part)?;
        if self.rng.below(100) < self.hurry {
            let by = self.now + Span::from_millis(self.rng.below(20) as i64);
            self.ring().hurry(by);
        }
        Ok(())
    }

    fn append_to(&mut self, topic: usize, part: TopicPart) -> Check<bool> {
        let mut value = Vec::new();
        let mut key = Vec::new();
        let mut attrs = AttrBuf::default();
        self.next_id += 1;
        let record = make_record(&mut self.rng, (self.next_id, self.big, self.now), &mut value, &mut key, &mut attrs);
        let (now, ring_id, boot) = (self.now, self.ring_id, self.boot);
        let want = self.ring().topic(part.topic).and_then(|t| t.partitions.get(part.partition as usize).copied());
        match self.ring().append(now, part, &record) {
            Ok(done) => {
                ensure!(done.part == part, "appended to {part:?}, answered {:?}", done.part);
                ensure!(
                    want.is_some_and(|w| w.next == done.offset),
                    "{part:?}: next offset was {want:?}, given {}",
                    done.offset
                );
                self.cover.appended += 1;
                let lane = self.topics[topic].lane;
                trace!(self, "append {part:?} {} bytes: {done:?}", record.len());
                self.model.append(lane, done.ticket.0, part, done.offset, &record, 0, ring_id, boot)?;
                Ok(true)
            }
            Err(AppendError::Busy) => {
                self.cover.busy += 1;
                Ok(false)
            }
            Err(AppendError::TooLarge { bytes, limit }) => {
                ensure!(bytes == record.len() && bytes > limit, "{} bytes refused: {bytes} > {limit}", record.len());
                ensure!(limit >= 32 * 1024, "the limit of {limit} is too small for this ring");
                self.cover.too_large += 1;
                Ok(false)
            }
            Err(AppendError::NoTopic(id)) => Err(Violation(format!("topic {id:?} is open, append says it is not"))),
        }
    }

    fn put_state(&mut self) -> Check {
        let who = self.rng.below(3);
        let owner = source(who);
        let key = vec![b'k', self.rng.below(8) as u8];
        let value = match self.rng.below(8) {
            0 => None,
            1 => Some(vec![self.rng.next_u64() as u8; self.rng.below(600) as usize]),
            _ => Some(self.rng.next_u64().to_le_bytes().to_vec()),
        };
        self.put(owner, (who as u8, key), value.as_deref())
    }

    fn put(&mut self, owner: Owner, key: StateKey, value: Option<&[u8]>) -> Check {
        let now = self.now;
        let ticket = self.ring().put_state(now, &owner, &key.1, value);
        let ticket = ticket.map_err(|e| Violation(format!("state of {owner:?} refused: {e}")))?;
        trace!(self, "put {key:?}: {ticket:?}");
        self.model.put_state(key.clone(), value, ticket.0)?;
        ensure!(self.ring().state(&owner, &key.1) == value, "state {key:?} is not what was just put");
        Ok(())
    }

    /// Records of one lane and a checkpoint that share their fate.
    fn group(&mut self) -> Check {
        let now = self.now;
        if self.ring().begin_group(now, 8 * 1024).is_err() {
            self.cover.busy += 1;
            return Ok(());
        }
        let t = self.rng.below(self.topics.len() as u64) as usize;
        let part = TopicPart { topic: self.topics[t].id, partition: 0 };
        let keep_big = std::mem::replace(&mut self.big, 0);
        let mut bytes = 0;
        self.model.begin_group();
        for _ in 0..1 + self.rng.below(20) {
            if bytes > 6_000 {
                break;
            }
            bytes += 300;
            let before = self.next_id;
            if !self.append_small(t, part)? {
                return Err(Violation(format!("record {before} refused inside a group")));
            }
        }
        let checkpoint = self.next_id.to_le_bytes();
        self.put(source(0), (0, b"checkpoint".to_vec()), Some(&checkpoint))?;
        self.model.end_group();
        self.big = keep_big;
        self.ring().end_group(now);
        Ok(())
    }

    /// As `append_to`, never larger than a group may take.
    fn append_small(&mut self, topic: usize, part: TopicPart) -> Check<bool> {
        self.next_id += 1;
        let value = format!("line {} of a file, some way in", self.next_id).into_bytes();
        let record = RecordRef { admitted: self.now, ..RecordRef::of(&value) };
        let (now, ring_id, boot, lane) = (self.now, self.ring_id, self.boot, self.topics[topic].lane);
        match self.ring().append(now, part, &record) {
            Ok(done) => {
                self.cover.appended += 1;
                trace!(self, "append in group {part:?}: {done:?}");
                self.model.append(lane, done.ticket.0, part, done.offset, &record, 0, ring_id, boot)?;
                Ok(true)
            }
            Err(_) => Ok(false),
        }
    }

    fn open_topic(&mut self) -> Check {
        let n = self.topics.len();
        let lane = self.rng.below(self.options.lanes.len() as u64) as usize;
        let partitions = 1 + self.rng.below(3) as u8;
        let topic = TopicName::new(&format!("topic-{n}")).expect("a good name");
        let id = self.ring().open_topic(&topic, LaneId(lane as u8), partitions);
        let id = id.map_err(|e| Violation(format!("topic refused: {e}")))?;
        ensure!(self.topics.iter().all(|t| t.id != id), "topic number {id:?} was given twice");
        self.topics.push(SimTopic { id, name: topic, lane, partitions, before: Vec::new(), moved: None });
        Ok(())
    }

    /// A topic goes to another lane, as after a change of the config.
    fn move_topic(&mut self) {
        let t = self.rng.below(self.topics.len() as u64) as usize;
        let lane = self.rng.below(self.options.lanes.len() as u64) as usize;
        let (id, was) = (self.topics[t].id, self.topics[t].lane);
        if lane != was && self.ring().move_topic(id, LaneId(lane as u8)) {
            let ticket = self.ring().last_ticket();
            trace!(self, "topic {id:?} moves from lane {was} to {lane}: {ticket:?}");
            self.cover.moves += 1;
            let topic = &mut self.topics[t];
            topic.before.push(was);
            (topic.lane, topic.moved) = (lane, Some(ticket.0));
        }
    }

    fn wait(&mut self) {
        let span = match self.rng.below(4) {
            0 => 1_000_000,
            1 => 100_000,
            _ => 5_000,
        };
        self.now = self.now + Span(1 + self.rng.below(span) as i64);
        if self.rng.below(3) == 0
            && let Some(at) = self.ring().next_timeout()
        {
            self.now = self.now.max(at);
        }
    }

    fn odd_job(&mut self) -> Check {
        let now = self.now;
        if let Some(ring) = &mut self.ring {
            self.updates.turn(ring);
        }
        match self.rng.below(5) {
            0 if self.topics.len() < 12 => self.open_topic()?,
            3 if self.options.lanes.len() > 1 && !self.topics.is_empty() => self.move_topic(),
            1 => {
                let offset = 1_700_000_000_000_000 + self.rng.below(1_000_000) as i64;
                self.ring().set_clock(now, ClockSync { offset, trusted: true });
            }
            2 => {
                let (max, linger) = (self.options.max_bytes, Span::from_millis(self.rng.below(2_000) as i64));
                self.options.linger = linger;
                self.ring().set_limits(max, linger);
            }
            _ => self.clean_restart()?,
        }
        Ok(())
    }

    // ------------------------------------------------------------------------------------ readers

    fn sink_step(&mut self) -> Check {
        let s = self.rng.below(self.sinks.len() as u64) as usize;
        let lane = self.rng.below(self.options.lanes.len() as u64) as usize;
        for _ in 0..1 + self.rng.below(3) {
            if !self.sink_read(s, lane)? {
                break;
            }
        }
        Ok(())
    }

    /// One step of one sink in one lane; false when there is nothing to read now.
    fn sink_read(&mut self, s: usize, lane: usize) -> Check<bool> {
        let partial = self.rng.below(4) == 0;
        let ring = self.ring.as_mut().expect("open");
        let sink = &mut self.sinks[s];
        let mut reader = match sink.readers[lane].take() {
            Some(reader) => reader,
            None => ring.lane_reader(LaneId(lane as u8), sink.pos[lane]),
        };
        let before = reader.pos;
        let step = ring.read_lane(&mut reader);
        let more = match step {
            ReadStep::Frame(frame) => {
                ensure!(reader.pos == before, "read_lane moved the reader without a gap");
                let mut pos = before;
                for entry in frame.entries_from(before.seq) {
                    pos = self.model.shown(lane, pos, &entry, frame.ring_id(), frame.boot())?;
                    sink.deliver(lane, entry.ordinal);
                    if partial && entry.ordinal % 7 == 3 {
                        break;
                    }
                }
                ensure!(pos.ordinal > before.ordinal, "lane {lane}: a frame without records at {before:?}");
                if !partial {
                    ensure!(
                        pos.ordinal == frame.end().ordinal,
                        "lane {lane}: frame ends at {:?}, not {pos:?}",
                        frame.end()
                    );
                    pos = frame.end();
                }
                reader.pos = pos;
                true
            }
            ReadStep::Gap(gap) => {
                let oldest = ring.stats().lanes[lane].oldest.ordinal;
                self.model.gap(&gap, before, reader.pos, oldest)?;
                sink.gap(lane, &gap, self.plant);
                true
            }
            ReadStep::Wait | ReadStep::End => {
                ensure!(reader.pos == before, "read_lane moved the reader without a gap");
                false
            }
        };
        sink.pos[lane] = reader.pos;
        sink.readers[lane] = (self.rng.below(20) != 0).then_some(reader);
        self.check_sink(s, lane)?;
        Ok(more)
    }

    /// Promise 2 for one sink and lane: what it passed is what it counted, and it passed nothing unseen.
    fn check_sink(&self, s: usize, lane: usize) -> Check {
        let sink = &self.sinks[s];
        let (passed, counts) = (sink.pos[lane].ordinal, sink.counts[lane]);
        ensure!(
            passed == counts.total(),
            "{}: lane {lane}: passed {passed} records, counted {counts:?}",
            sink.owner.name
        );
        Ok(())
    }

    fn store_cursor(&mut self) -> Check {
        let s = self.rng.below(self.sinks.len() as u64) as usize;
        let mut cursor: Vec<(LanePos, Counts)> =
            self.sinks[s].pos.iter().copied().zip(self.sinks[s].counts.iter().copied()).collect();
        if self.plant == Plant::CursorStoredEarly {
            // As if everything that can be read had been sent already.
            for (lane, (pos, counts)) in cursor.iter_mut().enumerate() {
                let durable = self.ring.as_ref().expect("open").stats().lanes[lane].durable;
                if durable.ordinal > pos.ordinal {
                    counts.read += durable.ordinal - pos.ordinal;
                    *pos = durable;
                }
            }
        }
        let bytes = encode_cursor(&cursor);
        let owner = self.sinks[s].owner.clone();
        self.put(owner, (100 + s as u8, b"cursor".to_vec()), Some(&bytes))?;
        self.set_floors();
        Ok(())
    }

    /// Slots below the slowest durable cursor may be reused.
    fn set_floors(&mut self) {
        for lane in 0..self.options.lanes.len() {
            let lowest = (0..self.sinks.len())
                .map(|s| {
                    let key = (100 + s as u8, b"cursor".to_vec());
                    let stored = match self.plant {
                        Plant::FloorFromUnsyncedCursor => self.model.state(&key),
                        _ => self.model.durable_state(&key),
                    };
                    stored.map_or(LanePos::default(), |bytes| decode_cursor(bytes)[lane].0)
                })
                .min();
            self.ring().set_floor(LaneId(lane as u8), lowest);
        }
    }

    fn read_partition(&mut self) -> Check {
        let t = self.rng.below(self.topics.len() as u64) as usize;
        let (id, partitions) = (self.topics[t].id, self.topics[t].partitions);
        let part = TopicPart { topic: id, partition: self.rng.below(u64::from(partitions)) as u8 };
        let Some(info) = self.ring().topic(id) else {
            return Err(Violation(format!("topic {id:?} vanished")));
        };
        let p = info.partitions[part.partition as usize];
        ensure!(p.earliest <= p.durable_end && p.durable_end <= p.next, "{part:?}: {p:?}");
        let from = p.earliest.saturating_sub(2) + self.rng.below(p.next - p.earliest + 4);
        let mut reader = self.ring().part_reader(part, from);
        for _ in 0..3 {
            let oldest: Vec<u64> = self.ring().stats().lanes.iter().map(|l| l.oldest.ordinal).collect();
            let before = reader.offset;
            match self.ring.as_mut().expect("open").read_part(&mut reader) {
                ReadStep::Frame(frame) => {
                    ensure!(reader.offset == before, "read_part moved the reader without a gap");
                    let mut offset = before;
                    for entry in frame.entries_of(part, before) {
                        self.model.shown_part(frame.lane().index(), part, offset, &entry)?;
                        offset += 1;
                    }
                    ensure!(offset > before, "{part:?}: a frame without records at offset {before}");
                    reader.offset = offset;
                }
                ReadStep::Gap(_) => {
                    ensure!(reader.offset > before, "{part:?}: a gap that the reader does not pass");
                    self.model.part_gap(part, before, reader.offset, &oldest)?;
                }
                ReadStep::End => {
                    ensure!(reader.offset == before, "read_part moved the reader without a gap");
                    ensure!(
                        before >= p.durable_end,
                        "{part:?}: end at offset {before}, durable end is {}",
                        p.durable_end
                    );
                    break;
                }
                ReadStep::Wait => {
                    self.pump_reader()?;
                }
            }
        }
        Ok(())
    }

    // ------------------------------------------------------------------------------------ the disk threads

    /// Lets the disk threads get on by some random amount, and gives the ring what they finished.
    fn pump(&mut self) -> Check {
        self.poll()?;
        self.threads.run_some(&mut self.rng);
        self.now = self.now + Span(self.rng.below(2_000) as i64);
        for _ in 0..self.rng.below(4) {
            self.deliver_one()?;
        }
        self.mind_the_disk()
    }

    fn settle(&mut self) -> Check {
        let settled = match self.plant {
            Plant::AcknowledgedEarly => self.ring().last_ticket(),
            _ => self.ring().settled(),
        };
        ensure!(settled <= self.ring().last_ticket(), "settled {settled:?} was never given");
        ensure!(settled.0 >= self.model.settled(), "settled went back to {settled:?}");
        if settled.0 > self.model.settled() {
            trace!(self, "settled {settled:?}");
            self.model.settle(settled.0)?;
            for topic in &mut self.topics {
                topic.moved = topic.moved.filter(|ticket| *ticket > settled.0);
            }
        }
        Ok(())
    }

    fn pump_reader(&mut self) -> Check {
        let (mut ground, ring) = self.ground();
        ground.read_on(ring)?;
        self.mind_the_disk()
    }

    // ------------------------------------------------------------------------------------ faults

    fn fault(&mut self) -> Check {
        let pick = self.rng.below(30);
        match disk_fault(&mut self.ground().0, pick) {
            Some(crash) => self.crash(crash),
            None => Ok(()),
        }
    }

    /// Everything that lived in the process (and, with the power, in the kernel) is gone.
    fn forget_process(&mut self, crash: Crash) {
        self.model.perhaps_copied(self.threads.unheard_copies());
        let extents = self.threads.crash(crash);
        self.model.crash(extents);
        if crash == Crash::Power {
            self.options.boot_id = boot_id(&mut self.rng);
            self.now = BootTime(self.rng.below(30_000_000) as i64);
        }
    }

    /// Brings the ring back and holds it against the model.
    fn recover(&mut self) -> Check {
        self.cover.recoveries += 1;
        self.options.keys = keys(self.seed, self.cover.recoveries);
        self.options.formats = self.updates.next(self.plant);
        let Self { threads, model, rng, now, options, .. } = self;
        let mut ground = Ground { threads, model, rng, now: *now };
        let (ring, report) = ground.recover(options, self.cover.recoveries > 1)?;
        self.ring = Some(ring);
        trace!(self, "recovered: {report:?} {:?}", self.ring.as_ref().map(Ring::stats));
        self.check_recovery(report.tail_unknown)
    }

    fn check_recovery(&mut self, tail_unknown: bool) -> Check {
        self.cover.tails_unknown += u64::from(tail_unknown);
        let first = self.cover.recoveries == 1;
        let (id, boot) = (self.ring().id(), self.ring().boot());
        ensure!(first || id == self.ring_id, "the ring id changed: {:?}, now {id:?}", self.ring_id);
        (self.ring_id, self.boot) = (id, boot);
        let stats = self.ring().stats();
        ensure!(stats.lanes.len() == self.options.lanes.len(), "{} lanes after recovery", stats.lanes.len());
        let owners: Vec<_> = self.sinks.iter().map(|sink| sink.owner.clone()).collect();
        let owner = |n: u8| if n >= 100 { owners[n as usize - 100].clone() } else { source(n.into()) };
        let (mut ground, ring) = self.ground();
        let newest_state = if first { 0 } else { ground.audit_states(ring, owner)? };
        ground.audit_lanes(ring, newest_state)?;
        self.topics_came_back()?;
        self.sinks_came_back()?;
        self.set_floors();
        self.given_free = GivenFree::new(&self.ring().stats());
        self.model.groups_whole()
    }

    fn topics_came_back(&mut self) -> Check {
        for t in 0..self.topics.len() {
            let topic = &self.topics[t];
            let (name, lane, partitions) = (topic.name.clone(), topic.lane, topic.partitions);
            let had = self.ring().topic_id(name.as_str());
            let id = self.ring().open_topic(&name, LaneId(lane as u8), partitions);
            let id = id.map_err(|e| Violation(format!("topic {name} refused after recovery: {e}")))?;
            ensure!(had.is_none_or(|h| h == id), "topic {name} was {had:?} and opens as {id:?}");
            if id != self.topics[t].id {
                ensure!(had.is_none(), "topic {name} was {:?}, is {id:?}", self.topics[t].id);
                let lost = self.model.forget_topic(self.topics[t].id);
                ensure!(lost, "topic {name} lost its number {:?} with durable records in it", self.topics[t].id);
                self.topics[t].id = id;
            }
            let info = self.ring().topic(id).ok_or_else(|| Violation(format!("topic {name} is open and unknown")))?;
            let (unsure, now) = (self.topics[t].moved.take().is_some() || self.model.any_tainted(), info.lane.index());
            let known = now == lane || unsure && self.topics[t].before.contains(&now);
            ensure!(known, "topic {name} of lane {lane} moved to lane {now}: {:?} before", self.topics[t].before);
            self.topics[t].lane = now;
            for (p, have) in info.partitions.iter().enumerate() {
                let part = TopicPart { topic: id, partition: p as u8 };
                let last = self.model.last_firm_offset(part);
                ensure!(
                    last.is_none_or(|l| have.next > l),
                    "{part:?}: offset {last:?} is in use, next is {}",
                    have.next
                );
            }
        }
        Ok(())
    }

    fn sinks_came_back(&mut self) -> Check {
        for s in 0..self.sinks.len() {
            let key = (100 + s as u8, b"cursor".to_vec());
            let lanes = self.options.lanes.len();
            let cursor = match self.model.state(&key) {
                Some(bytes) => decode_cursor(bytes),
                None => vec![(LanePos::default(), Counts::default()); lanes],
            };
            let sink = &mut self.sinks[s];
            for (lane, (pos, counts)) in cursor.into_iter().enumerate() {
                let unseen =
                    (0..pos.ordinal).find(|o| !sink.accounted[lane].get(*o as usize).copied().unwrap_or(false));
                ensure!(
                    unseen.is_none(),
                    "{}: lane {lane}: the cursor is at {pos:?}, but #{unseen:?} was neither delivered nor announced",
                    sink.owner.name
                );
                sink.pos[lane] = pos;
                sink.counts[lane] = counts;
                sink.readers[lane] = None;
                let admitted = self.model.given(lane);
                sink.accounted[lane].truncate(admitted.max(pos.ordinal) as usize);
            }
        }
        Ok(())
    }

    fn audit_all(&mut self) -> Check {
        for lane in 0..self.options.lanes.len() {
            let (mut ground, ring) = self.ground();
            ground.audit(ring, lane, 0)?;
        }
        Ok(())
    }

    // ------------------------------------------------------------------------------------ good order

    fn clean_restart(&mut self) -> Check {
        self.settle_all()?;
        let now = self.now;
        let ticket = self.ring().close(now);
        self.wait_closed(ticket)?;
        self.ring = None;
        let crash = any_crash(&mut self.rng);
        self.forget_process(crash);
        self.recover()
    }

    /// The end of the run: all settles, every sink and every partition reads to its end, the sums are right.
    fn finish(&mut self) -> Check {
        self.settle_all()?;
        self.settle_all()?;
        for s in 0..self.sinks.len() {
            for lane in 0..self.options.lanes.len() {
                let mut guard = 0u32;
                while self.sinks[s].pos[lane].ordinal < self.model.given(lane) {
                    guard += 1;
                    ensure!(guard < 100_000, "sink {s} does not come to the end of lane {lane}");
                    if !self.sink_read(s, lane)? {
                        self.pump_reader()?;
                    }
                }
            }
        }
        self.audit_all()?;
        self.check_bounds()?;
        let crash = any_crash(&mut self.rng);
        self.crash(crash)?;
        self.audit_all()?;
        Ok(())
    }

    /// Promise 4, and stats that agree with each other.
    fn check_bounds(&mut self) -> Check {
        let bytes = self.threads.disk.bytes();
        ensure!(bytes <= self.options.max_bytes, "{bytes} bytes on disk of {} allowed", self.options.max_bytes);
        self.check_evictions()
    }

    /// What was given free without being counted as evicted lies below every cursor that would survive a crash.
    fn check_evictions(&mut self) -> Check {
        let stats = self.ring().stats();
        let Self { model, sinks, given_free, .. } = self;
        given_free.check(&stats, |lane| {
            let passed = (0..sinks.len()).map(|s| {
                let stored = model.durable_state(&(100 + s as u8, b"cursor".to_vec()));
                stored.map_or(0, |bytes| decode_cursor(bytes)[lane].0.ordinal)
            });
            passed.min().unwrap_or(0)
        })
    }
}

impl Turns for World {
    fn threads(&mut self) -> &mut Threads {
        &mut self.threads
    }

    fn ring_now(&mut self) -> &Ring {
        self.ring()
    }

    fn poll(&mut self) -> Check {
        let now = self.now;
        for _ in 0..MAX_COMMANDS {
            let Some(command) = self.ring().poll(now) else { return Ok(()) };
            trace!(self, "command {} {}", command.token, describe(&command.op));
            self.threads.give(command, &mut self.rng);
            self.threads.take_begun().into_iter().for_each(|file| self.model.overwrite(file));
        }
        Err(Violation("poll does not come to an end".into()))
    }

    fn deliver_one(&mut self) -> Check {
        let now = self.now;
        if let Some(done) = self.threads.finished(&mut self.rng) {
            trace!(self, "done {} {:?}", done.token, done.result);
            self.ring().complete(now, done);
            self.ground().0.taint_failed_reads();
            self.model.landed(self.threads.take_landed());
            self.model.copied(self.threads.take_copied());
            return self.settle();
        }
        Ok(())
    }

    fn crash(&mut self, crash: Crash) -> Check {
        trace!(
            self,
            "{crash:?} crash, settled {} of {:?}",
            self.model.settled(),
            self.ring.as_ref().map(Ring::last_ticket)
        );
        self.ring = None;
        self.forget_process(crash);
        self.recover()
    }

    fn sleep(&mut self) {
        let next = self.ring().next_timeout();
        self.now = next.unwrap_or(self.now).max(self.now + Span::from_millis(20));
    }
}

impl SimSink {
    fn mark(&mut self, lane: usize, ordinal: u64) {
        let seen = &mut self.accounted[lane];
        if seen.len() <= ordinal as usize {
            seen.resize(ordinal as usize + 1, false);
        }
        seen[ordinal as usize] = true;
    }

    fn deliver(&mut self, lane: usize, ordinal: u64) {
        self.counts[lane].read += 1;
        self.mark(lane, ordinal);
    }

    fn gap(&mut self, lane: usize, gap: &headwater::ring::Gap, plant: Plant) {
        if plant == Plant::GapNotCounted && gap.reason == GapReason::Evicted {
            return;
        }
        self.counts[lane].gap(gap.reason, gap.count());
        for ordinal in gap.from.ordinal..gap.to.ordinal {
            self.mark(lane, ordinal);
        }
    }
}

/// A record of every shape, with its number in front so that no two are equal; of 100, `big` are some kilobytes.
pub fn make_record<'a>(
    rng: &mut Rng,
    (id, big, now): (u64, u64, BootTime),
    value: &'a mut Vec<u8>,
    key: &'a mut Vec<u8>,
    attrs: &'a mut AttrBuf,
) -> RecordRef<'a> {
    let len = match rng.below(1000) {
        _ if rng.below(100) < big => 500 + rng.below(14_000),
        0..3 => 30_000 + rng.below(40_000),
        3..10 => rng.below(9),
        _ => 20 + rng.below(150),
    };
    value.extend_from_slice(format!("{{\"n\":{id},\"v\":\"").as_bytes());
    while (value.len() as u64) < len {
        if len > 200 {
            value.extend_from_slice(&rng.next_u64().to_le_bytes());
        } else {
            value.extend_from_slice(b"21.5 degrees ");
        }
    }
    let with_key = rng.below(3) == 0;
    if with_key {
        key.extend_from_slice(format!("pump-{}", rng.below(50)).as_bytes());
    }
    for _ in 0..rng.below(6).saturating_sub(3) {
        assert!(attrs.push("kind", &rng.next_u64().to_le_bytes()[..rng.below(8) as usize]));
    }
    RecordRef {
        key: with_key.then_some(&key[..]),
        value,
        admitted: now,
        event_time: (rng.below(4) == 0).then(|| WallTime(rng.next_u64() as i64 >> 8)),
        flags: Flags(rng.below(64) as u16),
        attrs: attrs.as_attrs(),
        origin: (rng.below(10) == 0).then(|| Origin {
            producer_id: rng.next_u64() as i64,
            producer_epoch: rng.next_u64() as i16,
            first_sequence: rng.next_u64() as i32,
        }),
    }
}

pub fn describe(op: &Op) -> String {
    match op {
        Op::Write { file, at, data, sync } => format!("write {file:?} {at}+{} sync {sync}", data.len()),
        Op::Read { slot, at, len, .. } => format!("read {slot:?} {at}+{len}"),
        other => format!("{other:?}"),
    }
}

pub fn name(s: &str) -> Name {
    Name::new(s).expect("a good name")
}

pub fn source(n: u64) -> Owner {
    Owner { kind: OwnerKind::Source, name: name(&format!("source{n}")) }
}

fn encode_cursor(cursor: &[(LanePos, Counts)]) -> Vec<u8> {
    let numbers = cursor.iter().flat_map(|(p, c)| [p.seq, p.ordinal, c.read, c.evicted, c.corrupt, c.lost]);
    numbers.flat_map(u64::to_le_bytes).collect()
}

fn decode_cursor(bytes: &[u8]) -> Vec<(LanePos, Counts)> {
    let numbers: Vec<u64> =
        bytes.chunks_exact(8).map(|c| u64::from_le_bytes(c.try_into().expect("eight bytes"))).collect();
    let one = |n: &[u64]| {
        (LanePos { seq: n[0], ordinal: n[1] }, Counts { read: n[2], evicted: n[3], corrupt: n[4], lost: n[5] })
    };
    numbers.chunks_exact(6).map(one).collect()
}
