//! A node whose disk fails and comes back, again and again: the moves of `node::carry` between a ring on a disk and one in
//! memory, under sinks that read at their own pace.
//!
//! One of the sinks sends lanes in several streams. What is checked: every record that was taken, durable or not, is sent to each sink once, whatever the disk had kept of
//! writes and syncs that failed, and wherever a return to it broke off; and each sink's account adds up at every step.

use std::cell::Cell;
use std::collections::BTreeMap;

use headwater::backoff::Rng;
use headwater::lane::LaneId;
use headwater::limits::MIN_RING;
use headwater::name::Name;
use headwater::node::carry::{Left, Target, leave, over};
use headwater::pipeline::{OfferError, Pipeline, Plan, SinkId, SinkPlan, Stream, Tally, TopicPlan};
use headwater::record::RecordRef;
use headwater::ring::{
    Disk, DiskError, DiskErrorKind, FileId, LaneOptions, MemDisk, Options, ReadStep, Ring, SlotId, execute,
};
use headwater::time::{BootTime, Now, Span, WallTime};
use headwater::topic::{TopicName, TopicPart, TopicSet};

use crate::model::{Check, ensure};
use crate::run_each;

const LANES: [&str; 2] = ["urgent", "normal"];
const SINKS: [&str; 3] = ["a", "b", "c"];
const TOPICS: [&str; 3] = ["t0", "t1", "t2"];

/// How a failing disk fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fails {
    /// Nothing arrives.
    Writes,
    /// Everything arrives, and that is not known.
    Syncs,
    /// The first half of each write arrives.
    Halves,
}

/// A disk that fails after so many calls, until it is mended.
struct BadDisk {
    disk: MemDisk,
    fails: Option<(Fails, u32)>,
}

impl BadDisk {
    fn failing(&mut self) -> Option<Fails> {
        let (how, left) = self.fails.as_mut()?;
        *left = left.saturating_sub(1);
        (*left == 0).then_some(*how)
    }
}

fn eio(op: &'static str, file: FileId) -> DiskError {
    DiskError { kind: DiskErrorKind::Io, op, file: file.to_string(), detail: "Input/output error".into() }
}

impl Disk for BadDisk {
    fn list(&mut self) -> Result<Vec<(SlotId, u64)>, DiskError> {
        self.disk.list()
    }
    fn create(&mut self, file: FileId, bytes: u64) -> Result<(), DiskError> {
        if self.failing().is_some() {
            return Err(eio("create", file));
        }
        self.disk.create(file, bytes)
    }
    fn read(&mut self, file: FileId, at: u64, buf: &mut [u8]) -> Result<usize, DiskError> {
        self.disk.read(file, at, buf)
    }
    fn write(&mut self, file: FileId, at: u64, data: &[u8]) -> Result<(), DiskError> {
        match self.failing() {
            Some(Fails::Writes) => Err(eio("write", file)),
            Some(Fails::Halves) => {
                self.disk.write(file, at, &data[..data.len() / 2 / 512 * 512])?;
                Err(eio("write", file))
            }
            Some(Fails::Syncs) | None => self.disk.write(file, at, data),
        }
    }
    fn sync(&mut self, file: FileId) -> Result<(), DiskError> {
        if self.failing().is_some() {
            return Err(eio("sync", file));
        }
        self.disk.sync(file)
    }
    fn drop_cache(&mut self, file: FileId) -> Result<(), DiskError> {
        self.disk.drop_cache(file)
    }
    fn remove(&mut self, file: FileId) -> Result<(), DiskError> {
        self.disk.remove(file)
    }
}

/// What the seeds met, so that a test that meets nothing is not believed.
#[derive(Clone, Copy, Debug, Default)]
struct Met {
    moves: u64,
    taken: u64,
    void: u64,
    carried: u64,
    broken_off: u64,
    stepped_over: u64,
    restarts: u64,
    ahead: u64,
    splits: u64,
    /// A return was made with lanes that were split.
    split_returns: u64,
}

struct World {
    rng: Rng,
    now: Cell<i64>,
    disk: BadDisk,
    memory: Option<(MemDisk, Left)>,
    pipeline: Pipeline,
    sinks: Vec<SinkId>,
    /// By sink, how often each record was sent.
    sent: Vec<BTreeMap<u64, u32>>,
    given: BTreeMap<u64, String>,
    met: Met,
}

fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

fn options(max_bytes: u64, seed: u64) -> Options {
    let lanes = LANES.iter().map(|lane| LaneOptions { name: name(lane), reserve: 0 }).collect();
    Options {
        max_bytes,
        lanes,
        linger: Span::from_millis(50),
        binding: [1; 16],
        boot_id: [2; 16],
        seed,
        keys: Default::default(),
        formats: Default::default(),
    }
}

fn pipeline_on(disk: &mut dyn Disk, memory: bool, seed: u64) -> Pipeline {
    // Slots of 1 MiB and 256 KiB: memory cannot take all that the disk does.
    let options = options(if memory { 16 * MIN_RING } else { 64 << 20 }, seed);
    let (ring, report) = Ring::recover(disk, options).expect("it can be read");
    pipeline_of(ring, report, memory)
}

fn pipeline_of(ring: Ring, report: headwater::ring::Report, memory: bool) -> Pipeline {
    let topic = |(n, topic): (usize, &&str)| {
        let plan = TopicPlan { lane: n % 2, partitions: 1 + n as u8 % 2, pause: false, max_age: None };
        (TopicName::new(topic).expect("a name"), plan)
    };
    let plan = Plan {
        node: "n".into(),
        lanes: LANES.iter().map(|lane| name(lane)).collect(),
        topics: TOPICS.iter().enumerate().map(topic).collect(),
        default_lane: 1,
        ram_first: true,
        ..Plan::default()
    };
    Pipeline::new(ring, report, memory, plan)
}

fn add_sinks(pipeline: &mut Pipeline) -> Vec<SinkId> {
    let add = |sink: &&str| {
        // One of them leaves a topic out.
        let exclude = if *sink == "c" { vec!["t1".to_owned()] } else { vec![] };
        let topics = TopicSet { include: vec!["*".to_owned()], exclude };
        pipeline.add_sink(SinkPlan { name: name(sink), topics })
    };
    SINKS.iter().map(add).collect()
}

impl World {
    fn new(seed: u64) -> Self {
        let mut disk = BadDisk { disk: MemDisk::new(u64::MAX), fails: None };
        let mut pipeline = pipeline_on(&mut disk, false, seed + 1);
        let sinks = add_sinks(&mut pipeline);
        Self {
            rng: Rng::new(seed),
            now: Cell::new(1_000_000),
            disk,
            memory: None,
            pipeline,
            sinks,
            sent: vec![BTreeMap::new(); SINKS.len()],
            given: BTreeMap::new(),
            met: Met::default(),
        }
    }

    fn now(&self) -> Now {
        Now { boot: BootTime(self.now.get()), wall: WallTime(self.now.get() + 1_000_000), trusted: true }
    }

    fn drive(&mut self) {
        let now = self.now();
        let (disk, memory): (&mut dyn Disk, _) = (&mut self.disk, &mut self.memory);
        let disk = memory.as_mut().map_or(disk, |(memory, _)| memory);
        while let Some(command) = self.pipeline.poll(now) {
            let done = execute(command, disk);
            self.pipeline.complete(now, done);
        }
    }

    fn give(&mut self) {
        let n = self.given.len() as u64;
        let topic = TOPICS[self.rng.below(3) as usize];
        let size = match self.rng.below(40) {
            0 => 70_000,
            1..8 => 5_000,
            _ => 8 + self.rng.below(200) as usize,
        };
        let mut value = vec![0; size.max(8)];
        value.iter_mut().for_each(|byte| *byte = self.rng.next_u64() as u8);
        value[..8].copy_from_slice(&n.to_le_bytes());
        let now = self.now();
        let id = self.pipeline.open_topic(&TopicName::new(topic).expect("a name"), None).expect("room");
        let partitions = self.pipeline.ring().topic(id).map_or(1, |info| info.partitions.len() as u64);
        let part = TopicPart { topic: id, partition: self.rng.below(partitions) as u8 };
        match self.pipeline.offer_plain(now, part, &RecordRef::of(&value)) {
            Ok(_) => _ = self.given.insert(n, topic.to_owned()),
            Err(OfferError::Busy | OfferError::TooLarge { .. }) => {}
        }
    }

    /// A sink takes a frame of a lane, of its newest stream if that has any; false at the end of all.
    fn send(&mut self, at: usize, lane: LaneId) -> Check<bool> {
        for stream in self.pipeline.streams(self.sinks[at], lane).iter().rev() {
            if self.send_stream(at, stream)? {
                return Ok(true);
            }
            if self.pipeline.absorb(self.sinks[at], stream, vec![]) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn send_stream(&mut self, at: usize, stream: &Stream) -> Check<bool> {
        let (id, now, lane) = (self.sinks[at], self.now(), stream.lane);
        let (pos, stream_end) = (self.pipeline.cursor(id, stream), self.pipeline.end(id, stream));
        let (to, tally) = loop {
            match self.pipeline.read(id, stream, pos) {
                ReadStep::End => return Ok(false),
                ReadStep::Wait => self.drive(),
                ReadStep::Gap(gap) => break (gap.to, Tally::default()),
                ReadStep::Frame(frame) => {
                    let (mut tally, mut end) = (Tally::default(), frame.end());
                    if end.ordinal > stream_end.ordinal {
                        end = stream_end;
                    }
                    let last = end.ordinal;
                    // Now and then it stops within a frame.
                    let stop = if self.rng.below(4) == 0 { 1 + self.rng.below(5) } else { u64::MAX };
                    for (n, entry) in frame.entries_from(pos.seq).take_while(|e| e.ordinal < last).enumerate() {
                        if n as u64 == stop {
                            end = headwater::ring::LanePos { seq: entry.seq, ordinal: entry.ordinal };
                            break;
                        }
                        if self.pipeline.is_missed(id, lane, entry.ordinal) {
                            self.met.stepped_over += 1;
                        } else if self.pipeline.wants(id, entry.part.topic) {
                            let n = u64::from_le_bytes(entry.record.value[..8].try_into().expect("8 bytes"));
                            *self.sent[at].entry(n).or_default() += 1;
                            tally.delivered += 1;
                        } else {
                            tally.filtered += 1;
                        }
                    }
                    break (end, tally);
                }
            }
        };
        self.pipeline.advance(now.boot, id, stream, to, tally, 0, &[(b"place", Some(&to.seq.to_le_bytes()))]);
        let account = self.pipeline.account(id, lane);
        let streams = self.pipeline.streams(id, lane);
        ensure!(streams.len() > 1 || account.balances(), "sink {at} in {lane:?}: {account:?}");
        Ok(true)
    }

    fn books_add_up(&self) -> Check<()> {
        for s in self.pipeline.snapshot().sinks {
            let gone = s.evicted + s.expired + s.corrupt + s.lost_unsynced + s.released;
            ensure!(s.admitted == s.delivered + s.filtered + s.refused + s.pending + gone, "{s:?}");
        }
        Ok(())
    }

    fn some_use(&mut self) -> Check<()> {
        for _ in 0..self.rng.below(60) {
            self.now.set(self.now.get() + 1 + self.rng.below(100_000) as i64);
            if self.rng.below(12) == 0 {
                let (now, lane) = (self.now().boot, LaneId(self.rng.below(2) as u8));
                self.met.splits += u64::from(self.pipeline.split(now, self.sinks[1], lane, 3));
            }
            match self.rng.below(5) {
                4 => {
                    let online = self.rng.below(4) != 0;
                    self.pipeline.set_online(online);
                }
                0..2 => self.give(),
                2 => {
                    let (sink, lane) = (self.rng.below(3) as usize, LaneId(self.rng.below(2) as u8));
                    // Some are slow, in some phases.
                    if sink == 0 || self.rng.below(2 * sink as u64) == 0 {
                        self.send(sink, lane)?;
                    }
                }
                _ => self.drive(),
            }
        }
        self.books_add_up()
    }

    /// The disk fails, and the node goes on in memory.
    fn fail(&mut self) -> Check<()> {
        let how = [Fails::Writes, Fails::Syncs, Fails::Halves][self.rng.below(3) as usize];
        self.disk.fails = Some((how, 1 + self.rng.below(6) as u32));
        let mut tries = 0;
        while !self.pipeline.ring().has_failed() {
            tries += 1;
            ensure!(tries < 10_000, "it does not notice");
            self.now.set(self.now.get() + 20_000);
            self.give();
            self.drive();
        }
        self.some_use()?;
        let mut memory = MemDisk::new(16 * MIN_RING);
        let seed = self.rng.next_u64();
        let (mut ring, report) = Ring::recover(&mut memory, options(16 * MIN_RING, seed)).expect("memory");
        let clock = || BootTime(self.now.replace(self.now.get() + 1_000));
        let mut to = Target { ring: &mut ring, disk: &mut memory, now: &clock, pause: &|| {} };
        let ahead = |sink: &SinkId| {
            let lanes = [LaneId(0), LaneId(1)];
            let ahead =
                |lane| self.pipeline.cursor(*sink, lane).ordinal > self.pipeline.ring().lane_written(lane).ordinal;
            lanes.into_iter().any(ahead)
        };
        self.met.ahead += self.sinks.iter().filter(|sink| ahead(sink)).count() as u64;
        let left = leave(&mut self.pipeline, &mut to, &SINKS.map(name));
        let split = |lane| self.pipeline.streams(self.sinks[1], LaneId(lane)).len() > 1;
        self.met.split_returns += u64::from((0..2).any(split));
        self.met.taken += left.taken;
        self.met.moves += 1;
        self.pipeline = pipeline_of(ring, report, true);
        self.sinks = add_sinks(&mut self.pipeline);
        self.memory = Some((memory, left));
        Ok(())
    }

    fn close(&mut self) -> Check<()> {
        let ticket = self.pipeline.close(self.now());
        let mut tries = 0;
        while self.pipeline.ring().settled() < ticket {
            self.now.set(self.now.get() + 100_000);
            self.drive();
            tries += 1;
            ensure!(tries < 1000, "it does not close");
        }
        Ok(())
    }

    /// The disk can be used again, or breaks on the way back.
    fn come_back(&mut self) -> Check<bool> {
        self.close()?;
        let breaks = self.rng.below(3) == 0;
        self.disk.fails = breaks.then(|| (Fails::Syncs, 1 + self.rng.below(30) as u32));
        let seed = self.rng.next_u64();
        let recovered = Ring::recover(&mut self.disk, options(64 << 20, seed));
        let (mut memory, mut left) = self.memory.take().expect("in memory");
        let returned = recovered.map_err(|e| e.to_string()).and_then(|(mut ring, report)| {
            let clock = || BootTime(self.now.replace(self.now.get() + 10_000));
            let mut to = Target { ring: &mut ring, disk: &mut self.disk, now: &clock, pause: &|| {} };
            let carried = over(&mut self.pipeline, &mut memory, &mut left, &mut to, &SINKS.map(name))?;
            assert!(carried.refused == 0, "{carried:?}");
            Ok((ring, report, carried))
        });
        let (ring, report, back) = match returned {
            Ok((ring, report, carried)) => {
                self.met.void += carried.void;
                self.met.carried += carried.records;
                self.disk.fails = None;
                (ring, report, true)
            }
            Err(_) => {
                self.met.broken_off += 1;
                let (ring, report) = Ring::recover(&mut memory, options(16 * MIN_RING, seed)).expect("memory");
                self.memory = Some((memory, left));
                (ring, report, false)
            }
        };
        self.pipeline = pipeline_of(ring, report, !back);
        self.sinks = add_sinks(&mut self.pipeline);
        self.books_add_up()?;
        Ok(back)
    }

    /// The process ends well and another begins.
    fn restart(&mut self) -> Check<()> {
        self.close()?;
        let seed = self.rng.next_u64();
        self.pipeline = pipeline_on(&mut self.disk, false, seed);
        self.sinks = add_sinks(&mut self.pipeline);
        self.met.restarts += 1;
        Ok(())
    }
}

fn run(seed: u64) -> Check<Met> {
    let mut world = World::new(seed);
    for _ in 0..2 + world.rng.below(5) {
        world.some_use()?;
        if world.rng.below(3) == 0 {
            world.restart()?;
            world.some_use()?;
        }
        world.fail()?;
        loop {
            world.some_use()?;
            if world.come_back()? {
                break;
            }
        }
    }
    // Everything becomes durable and is sent.
    for _ in 0..200 {
        world.now.set(world.now.get() + 100_000);
        world.drive();
        for (sink, lane) in (0..SINKS.len()).flat_map(|sink| (0..2).map(move |lane| (sink, LaneId(lane)))) {
            while world.send(sink, lane)? {}
        }
    }
    world.books_add_up()?;
    for (at, sent) in world.sent.iter().enumerate() {
        for (n, topic) in &world.given {
            let wanted = u32::from(!(SINKS[at] == "c" && topic == "t1"));
            let times = sent.get(n).copied().unwrap_or(0);
            ensure!(times == wanted, "sink {} got record {n} of {topic} {times} times", SINKS[at]);
        }
    }
    Ok(world.met)
}

#[test]
fn a_record_is_sent_once_to_each_sink_however_often_the_disk_fails_and_comes_back() {
    let mut sum = Met::default();
    let one = run_each("moves", 300, run, |met| {
        sum.moves += met.moves;
        sum.taken += met.taken;
        sum.void += met.void;
        sum.carried += met.carried;
        sum.broken_off += met.broken_off;
        sum.stepped_over += met.stepped_over;
        sum.restarts += met.restarts;
        sum.ahead += met.ahead;
        sum.splits += met.splits;
        sum.split_returns += met.split_returns;
    });
    println!("{sum:?}");
    let Met { moves, taken, void, carried, broken_off, stepped_over, restarts, ahead, splits, split_returns } = sum;
    let all = [moves, taken, void, carried, broken_off, stepped_over, restarts, ahead, splits, split_returns];
    assert!(one || all.iter().all(|n| *n > 0), "{sum:?}");
}
