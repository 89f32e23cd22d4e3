//! A workload from one seed: a ring of sixteen small slots in long random use, its disk calls one by one, and a
//! [`Judge`] that is asked at each of them.

use std::collections::VecDeque;

use headwater::backoff::Rng;
use headwater::lane::LaneId;
use headwater::limits::{FRAME_RAW_MOST, MAX_UNSYNCED_BYTES, MIN_SLOT};
use headwater::record::AttrBuf;
use headwater::ring::{
    AppendError, Command, Completion, FileId, Health, LaneOptions, LanePos, Op, Options, ROOT_BYTES, Report, Ring,
    execute,
};
use headwater::time::{BootTime, ClockSync, Span};
use headwater::topic::{TopicName, TopicPart};

use crate::ground::boot_id;
use crate::keys::keys;
use crate::model::{Check, Violation, ensure};
use crate::proof::book::{Book, Found, Shelf, Topic};
use crate::proof::cow::{CowDisk, Cut, Luck, Recorder, Trick};
use crate::ring_world::{make_record, name, source};

/// Asked wherever the machine might have stopped.
pub trait Judge {
    fn judge(&mut self, book: &mut Book, options: &Options, cut: Cut) -> Check;
}

/// Judges nothing.
impl Judge for () {
    fn judge(&mut self, _: &mut Book, _: &Options, _: Cut) -> Check {
        Ok(())
    }
}

pub struct Work<J> {
    pub rng: Rng,
    pub book: Book,
    ring: Option<Ring>,
    pub disk: Recorder,
    pub options: Options,
    pub now: BootTime,
    pub judge: J,
    queue: VecDeque<Command>,
    done: VecDeque<Completion>,
    floors: Vec<Option<LanePos>>,
    next_id: u64,
    big: u64,
    /// The machine stops and comes back now and then.
    pub restarts: bool,
    /// First writes into a slot, new or reused.
    pub begun: u64,
    pub crashes: u64,
    pub closes: u64,
    pub removed: u64,
    pub evictions: u64,
}

/// Polls of one turn; more would be work without a bound.
const MOST_COMMANDS: usize = 10_000;

impl<J: Judge> Work<J> {
    pub fn new(seed: u64, trick: Trick, judge: J, record: bool) -> Check<Self> {
        let mut rng = Rng::new(seed ^ 0x9007);
        let lanes = 1 + rng.below(3) as usize;
        let options = Options {
            max_bytes: 16 * MIN_SLOT + ROOT_BYTES,
            lanes: (0..lanes)
                .map(|i| LaneOptions { name: name(&format!("lane{i}")), reserve: if i == 0 { 10 } else { 0 } })
                .collect(),
            linger: Span::from_millis(100 + rng.below(1_000) as i64),
            binding: [7; 16],
            boot_id: boot_id(&mut rng),
            seed: rng.next_u64(),
            keys: keys(seed, 0),
            formats: Default::default(),
        };
        let mut work = Self {
            book: Book::new(lanes),
            ring: None,
            disk: Recorder::new(CowDisk::new(trick), rng.next_u64(), record),
            options,
            now: BootTime(1_000_000),
            judge,
            queue: VecDeque::new(),
            done: VecDeque::new(),
            floors: vec![None; lanes],
            next_id: 0,
            big: 0,
            restarts: true,
            begun: 0,
            crashes: 0,
            closes: 0,
            removed: 0,
            evictions: 0,
            rng,
        };
        work.recover()?;
        for _ in 0..1 + work.rng.below(4) {
            work.open_topic()?;
        }
        Ok(work)
    }

    pub fn ring(&mut self) -> &mut Ring {
        self.ring.as_mut().expect("the ring is open between crashes")
    }

    pub fn has_failed(&mut self) -> bool {
        matches!(self.ring().health(), Health::Failed(_))
    }

    fn slots(&self) -> u64 {
        ((self.options.max_bytes - ROOT_BYTES) / MIN_SLOT).max(4)
    }

    // ---- one step ----

    pub fn step(&mut self) -> Check {
        match self.rng.below(100) {
            0..45 => {
                for _ in 0..1 + self.rng.below(3) {
                    self.append()?;
                }
            }
            45..53 => self.burst()?,
            53..61 => self.put_state()?,
            61..66 => self.group()?,
            66..78 => {
                let by = self.now + Span::from_millis(self.rng.below(20) as i64);
                self.ring().hurry(by);
            }
            78..86 => self.wait(),
            86..88 => self.move_floor(),
            88..96 => self.read()?,
            96..98 => self.odd_job()?,
            98 => self.big = [0, 10, 60][self.rng.below(3) as usize],
            _ if !self.restarts => {}
            _ if self.rng.below(3) > 0 => self.crash()?,
            _ => self.close()?,
        }
        self.pump()
    }

    fn append(&mut self) -> Check {
        let topic = &self.book.topics[self.rng.below(self.book.topics.len() as u64) as usize];
        let (lane, id, partitions) = (topic.lane, topic.id, topic.partitions);
        let part = TopicPart { topic: id, partition: self.rng.below(u64::from(partitions)) as u8 };
        self.append_to(lane, part, self.big).map(|_| ())
    }

    /// False when the ring has no room for it now.
    fn append_to(&mut self, lane: usize, part: TopicPart, big: u64) -> Check<bool> {
        let (mut value, mut key, mut attrs) = (Vec::new(), Vec::new(), AttrBuf::default());
        self.next_id += 1;
        let now = self.now;
        let record = make_record(&mut self.rng, (self.next_id, big, now), &mut value, &mut key, &mut attrs);
        let ring = self.ring.as_mut().expect("the ring is open between crashes");
        match ring.append(now, part, &record) {
            Ok(done) => {
                let boot = ring.boot();
                self.book.append(lane, part, (done.ticket.0, done.offset), boot, &record)?;
                Ok(true)
            }
            Err(AppendError::Busy) => Ok(false),
            Err(AppendError::TooLarge { bytes, limit }) => {
                ensure!(bytes > limit && bytes == record.len(), "{bytes} bytes refused, the limit is {limit}");
                Ok(true)
            }
            Err(AppendError::NoTopic(id)) => Err(Violation(format!("topic {id:?} is open, append says it is not"))),
        }
    }

    /// Until the ring has no room, large records: that is how laps come about.
    fn burst(&mut self) -> Check {
        let topic = &self.book.topics[self.rng.below(self.book.topics.len() as u64) as usize];
        let (lane, part) = (topic.lane, TopicPart { topic: topic.id, partition: 0 });
        for _ in 0..self.rng.below(120) {
            if !self.append_to(lane, part, 80)? {
                break;
            }
        }
        Ok(())
    }

    fn put_state(&mut self) -> Check {
        // Entries are never refused for want of room: whoever puts them waits for what was put before, as all do.
        if self.ring().stats().unsynced_bytes as usize > MAX_UNSYNCED_BYTES {
            return Ok(());
        }
        let who = self.rng.below(3) as u8;
        let key = vec![b'k', self.rng.below(8) as u8];
        let value = match self.rng.below(8) {
            0 => None,
            n => {
                self.next_id += 1;
                let mut value = self.next_id.to_le_bytes().to_vec();
                value.resize(8 + if n == 1 { self.rng.below(2_000) as usize } else { 0 }, 7);
                Some(value)
            }
        };
        self.put(who, key, value.as_deref())
    }

    fn put(&mut self, who: u8, key: Vec<u8>, value: Option<&[u8]>) -> Check {
        let now = self.now;
        let ticket = self.ring().put_state(now, &source(who.into()), &key, value);
        let ticket = ticket.map_err(|e| Violation(format!("state refused: {e}")))?;
        self.book.put((who, key), value, ticket.0);
        Ok(())
    }

    fn group(&mut self) -> Check {
        let now = self.now;
        if self.ring().begin_group(now, 16 * 1024).is_err() {
            return Ok(());
        }
        let topic = &self.book.topics[self.rng.below(self.book.topics.len() as u64) as usize];
        let (lane, part) = (topic.lane, TopicPart { topic: topic.id, partition: 0 });
        self.book.begin_group();
        for n in 0..1 + self.rng.below(20) {
            let value = format!("line {n} of a file, some way in; record {}", self.next_id).into_bytes();
            let record = headwater::record::RecordRef { admitted: now, ..headwater::record::RecordRef::of(&value) };
            let ring = self.ring();
            let done = ring.append(now, part, &record).map_err(|e| Violation(format!("refused in a group: {e}")))?;
            let boot = ring.boot();
            self.next_id += 1;
            self.book.append(lane, part, (done.ticket.0, done.offset), boot, &record)?;
        }
        for key in 0..1 + self.rng.below(2) as u8 {
            self.next_id += 1;
            let checkpoint = self.next_id.to_le_bytes();
            self.put(0, vec![b'c', key], Some(&checkpoint))?;
        }
        self.book.end_group();
        self.ring().end_group(now);
        Ok(())
    }

    fn wait(&mut self) {
        let span = [1_500_000, 100_000, 5_000][self.rng.below(3) as usize];
        self.now = self.now + Span(1 + self.rng.below(span) as i64);
    }

    /// Sinks have passed some of what is durable in a lane, or there is none any more.
    fn move_floor(&mut self) {
        let lane = self.rng.below(self.floors.len() as u64) as usize;
        let id = LaneId(lane as u8);
        let durable = self.ring().lane_durable(id);
        let before = self.floors[lane].map_or(0, |f| f.ordinal);
        let ordinal = before + self.rng.below(durable.ordinal.saturating_sub(before) + 1);
        let floor = (self.rng.below(8) > 0).then_some(LanePos { seq: durable.seq, ordinal });
        self.floors[lane] = floor;
        self.ring().set_floor(id, floor);
    }

    /// A reader somewhere in the lane: what runs shows durable records only.
    fn read(&mut self) -> Check {
        let lane = self.rng.below(self.floors.len() as u64) as usize;
        let fails = self.disk.fault.as_ref().is_some_and(|f| f.calls.start <= self.disk.calls + 100);
        let ring = self.ring.as_mut().expect("the ring is open between crashes");
        let mut shelf = Shelf { ring, disk: &mut self.disk, now: self.now, writes: Vec::new() };
        let settled = self.book.lanes[lane].settled;
        self.book.may_misread = fails;
        self.book.read_some(&mut shelf, lane, settled, &mut self.rng)?;
        self.book.may_misread = false;
        let writes = shelf.writes;
        writes.into_iter().for_each(|w| self.give(w));
        self.bounds()
    }

    fn odd_job(&mut self) -> Check {
        let now = self.now;
        match self.rng.below(4) {
            0 if self.book.topics.len() < 10 => self.open_topic()?,
            1 => {
                let offset = 1_700_000_000_000_000 + self.rng.below(1 << 40) as i64;
                self.ring().set_clock(now, ClockSync { offset, trusted: true });
            }
            2 => self.ring().seal_all(),
            _ => {
                self.options.max_bytes = (12 + self.rng.below(7)) * MIN_SLOT + ROOT_BYTES;
                let (max, linger) = (self.options.max_bytes, self.options.linger);
                self.ring().set_limits(max, linger);
            }
        }
        Ok(())
    }

    fn open_topic(&mut self) -> Check {
        let n = self.book.topics.len();
        let lane = self.rng.below(self.options.lanes.len() as u64) as usize;
        let partitions = 1 + self.rng.below(3) as u8;
        let name = TopicName::new(&format!("topic-{n}")).expect("a good name");
        let id = self.ring().open_topic(&name, LaneId(lane as u8), partitions);
        let id = id.map_err(|e| Violation(format!("topic refused: {e}")))?;
        ensure!(self.book.topics.iter().all(|t| t.id != id), "topic number {id:?} was given twice");
        self.book.topics.push(Topic { id, name, lane, partitions });
        Ok(())
    }

    // ---- the disk ----

    fn give(&mut self, command: Command) {
        let first = matches!(&command.op, Op::Write { file: FileId::Slot(_), at: 0, .. });
        self.begun += u64::from(first);
        self.removed += u64::from(matches!(command.op, Op::Remove { .. }));
        self.queue.push_back(command);
    }

    fn poll(&mut self) -> Check {
        let now = self.now;
        for _ in 0..MOST_COMMANDS {
            // A commit that begins may have taken a slot away: that must be known before its calls are judged.
            let Some(command) = self.ring().poll(now) else { return self.bounds() };
            if command.op.is_read() {
                let done = execute(command, &mut self.disk);
                self.ring().complete(now, done);
            } else {
                self.give(command);
            }
        }
        Err(Violation("poll does not come to an end".into()))
    }

    /// The next command of the writer, and a judgement at each of its calls.
    fn run_one(&mut self) -> Check<bool> {
        let Some(command) = self.queue.pop_front() else { return Ok(false) };
        let done = execute(command, &mut self.disk);
        self.done.push_back(done);
        self.judge_cuts()?;
        Ok(true)
    }

    fn judge_cuts(&mut self) -> Check {
        for cut in std::mem::take(&mut self.disk.cuts) {
            self.judge.judge(&mut self.book, &self.options, cut)?;
        }
        Ok(())
    }

    fn deliver(&mut self) -> Check<bool> {
        let now = self.now;
        let Some(done) = self.done.pop_front() else { return Ok(false) };
        self.ring().complete(now, done);
        let settled = self.ring().settled().0;
        self.book.settle(settled)?;
        Ok(true)
    }

    fn pump(&mut self) -> Check {
        self.poll()?;
        for _ in 0..self.rng.below(4) {
            self.run_one()?;
        }
        self.now = self.now + Span(self.rng.below(2_000) as i64);
        for _ in 0..self.rng.below(6) {
            self.deliver()?;
        }
        self.poll()
    }

    fn bounds(&mut self) -> Check {
        let (stats, slots) = (self.ring().stats(), self.slots());
        let healthy = self.disk.failed == 0;
        self.evictions = stats.lanes.iter().map(|l| l.evicted).sum();
        // A batch weighs twice what it did once it is sealed: its records, and the frame that is written. All lanes may be
        // sealed at once, just below the limit.
        let sealing = stats.lanes.len() * FRAME_RAW_MOST;
        ensure!(
            stats.unsynced_bytes as usize <= MAX_UNSYNCED_BYTES + sealing + 128 * 1024,
            "{} bytes wait for the disk",
            stats.unsynced_bytes
        );
        let most = self.options.max_bytes.max(u64::from(stats.slots) * MIN_SLOT + ROOT_BYTES);
        ensure!(self.disk.disk.bytes() <= most, "{} bytes on disk of {most}", self.disk.disk.bytes());
        self.book.running(&stats, &self.floors, if healthy { slots } else { 0 })
    }

    // ---- ends and beginnings ----

    /// Everything given becomes durable.
    pub fn settle_all(&mut self) -> Check {
        for _ in 0..2_000 {
            self.poll()?;
            while self.run_one()? {}
            while self.deliver()? {}
            if self.ring().settled() == self.ring().last_ticket() {
                return Ok(());
            }
            let next = self.ring().next_timeout();
            self.now = next.unwrap_or(self.now).max(self.now + Span::from_millis(10));
        }
        let health = self.ring().health();
        Err(Violation(format!("what was given does not become durable: {health:?}")))
    }

    fn close(&mut self) -> Check {
        let now = self.now;
        self.ring().close(now);
        self.settle_all()?;
        self.closes += 1;
        let report = self.restart()?;
        ensure!(report.clean_shutdown, "a clean end is not seen: {report:?}");
        for (at, lane) in self.book.lanes.iter().enumerate() {
            ensure!(lane.settled == lane.recs.len() as u64, "lane {at}: less after a clean end");
        }
        Ok(())
    }

    pub fn crash(&mut self) -> Check {
        self.crashes += 1;
        self.restart().map(|_| ())
    }

    /// The process ends, or the power with it, and the ring comes back.
    fn restart(&mut self) -> Check<Report> {
        self.ring = None;
        self.queue.clear();
        self.done.clear();
        self.floors.fill(None);
        if self.rng.below(2) == 0 {
            let luck = [Luck::Nothing, Luck::Everything, Luck::Pages, Luck::Mixed][self.rng.below(4) as usize];
            self.disk.disk.power_cut(luck, &mut self.rng);
            self.options.boot_id = boot_id(&mut self.rng);
            self.now = BootTime(self.rng.below(30_000_000) as i64);
        }
        self.recover()
    }

    fn recover(&mut self) -> Check<Report> {
        let (mut ring, report) = recover(&mut self.disk, &self.options)?;
        self.judge_cuts()?;
        let mut shelf = Shelf { ring: &mut ring, disk: &mut self.disk, now: self.now, writes: Vec::new() };
        let found: Found = self.book.check(&mut shelf, &report, true, &mut self.rng)?;
        let writes = shelf.writes;
        self.book.adopt(&ring, &found);
        writes.into_iter().for_each(|w| self.give(w));
        self.ring = Some(ring);
        self.topics_come_back()?;
        Ok(report)
    }

    /// A topic of which nothing was durable is made again.
    fn topics_come_back(&mut self) -> Check {
        for at in 0..self.book.topics.len() {
            let topic = &self.book.topics[at];
            let (name, lane, partitions, id) = (topic.name.clone(), topic.lane, topic.partitions, topic.id);
            let had = self.ring().topic_id(name.as_str());
            let now = self.ring().open_topic(&name, LaneId(lane as u8), partitions);
            let now = now.map_err(|e| Violation(format!("topic {name} refused after recovery: {e}")))?;
            ensure!(had.is_none_or(|h| h == now), "topic {name} was {had:?} and opens as {now:?}");
            ensure!(had.is_none() || now == id, "topic {name} was {id:?} and comes back as {now:?}");
            self.book.topics[at].id = now;
        }
        Ok(())
    }

    /// All settles; the ring comes back once more and holds all of it.
    pub fn finish(&mut self) -> Check {
        self.settle_all()?;
        self.crash()?;
        self.settle_all()
    }
}

pub fn recover(disk: &mut Recorder, options: &Options) -> Check<(Ring, Report)> {
    Ring::recover(disk, options.clone()).map_err(|e| Violation(format!("recovery fails on a disk that works: {e}")))
}
