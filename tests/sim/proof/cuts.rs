//! A crash at every disk call of long random workloads, and at every call of the recoveries after it.
//!
//! At each call the machine may stop before it or half-way, with the page cache or without: each is an image, on which
//! the ring is recovered and held against the [`Book`]. Recoveries are cut at each of their own calls and made again, to
//! the same end (one recovery of three); some rings are used a little and cut once more. `HEADWATER_CRASH_STATES=n` explores
//! n states, told apart by what is on the disk; a failure says with which seed and call it comes again alone.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use headwater::backoff::Rng;
use headwater::lane::LaneId;
use headwater::record::RecordRef;
use headwater::ring::{LanePos, Options, ReadStep, Ring, execute};
use headwater::time::{BootTime, Span};
use headwater::topic::TopicPart;

use crate::ground::boot_id;
use crate::model::{Check, Violation, ensure, hash_of};
use crate::proof::book::{Book, Found, Shelf};
use crate::proof::cow::{CowDisk, Cut, Luck, Recorder, Trick};
use crate::proof::work::{Judge, Work, recover};
use crate::{env, run_one};

/// Every image's hash, of all workloads.
struct Seen {
    shards: Vec<Mutex<HashSet<u64>>>,
    count: AtomicU64,
    target: u64,
    failed: AtomicBool,
}

impl Seen {
    fn new(target: u64) -> Self {
        let shards = (0..64).map(|_| Mutex::default()).collect();
        Self { shards, count: AtomicU64::new(0), target, failed: AtomicBool::new(false) }
    }

    fn insert(&self, hash: u64) {
        let new = self.shards[hash as usize % 64].lock().expect("no panic holds it").insert(hash);
        self.count.fetch_add(u64::from(new), Ordering::Relaxed);
    }

    fn is_enough(&self) -> bool {
        self.count.load(Ordering::Relaxed) >= self.target || self.failed.load(Ordering::Relaxed)
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    workloads: u64,
    unfinished: u64,
    /// Disk calls at which the machine was stopped.
    calls: u64,
    /// Images that were recovered and checked.
    states: u64,
    recoveries_cut: u64,
    recovery_calls: u64,
    used_on: u64,
    records_read: u64,
    slots_begun: u64,
    slots_removed: u64,
    crashes: u64,
    closes: u64,
    evicted: u64,
}

impl Tally {
    fn add(&mut self, o: &Tally) {
        self.workloads += o.workloads;
        self.unfinished += o.unfinished;
        self.calls += o.calls;
        self.states += o.states;
        self.recoveries_cut += o.recoveries_cut;
        self.recovery_calls += o.recovery_calls;
        self.used_on += o.used_on;
        self.records_read += o.records_read;
        self.slots_begun += o.slots_begun;
        self.slots_removed += o.slots_removed;
        self.crashes += o.crashes;
        self.closes += o.closes;
        self.evicted += o.evicted;
    }
}

/// An image, and whether the power went.
type Image = (CowDisk, bool);

/// What a machine that stops here may leave.
fn images(cut: &Cut, rng: &mut Rng) -> Vec<Image> {
    let mut all = Vec::new();
    const ALL: [Luck; 6] = [Luck::Nothing, Luck::Everything, Luck::Pages, Luck::Mixed, Luck::Pages, Luck::Mixed];
    for (disk, lucks) in [(Some(&cut.before), &ALL[..]), (cut.half.as_ref(), &ALL[1..4])] {
        let Some(disk) = disk else { continue };
        all.push((disk.clone(), false));
        if disk.is_settled() {
            continue;
        }
        for luck in lucks {
            let mut image = disk.clone();
            image.power_cut(*luck, rng);
            all.push((image, true));
        }
    }
    all
}

struct Examiner<'a> {
    seed: u64,
    seen: &'a Seen,
    tally: Tally,
    /// Images of this workload, each with what was settled then.
    checked: HashSet<(u64, u64)>,
    only: Option<u64>,
}

impl Judge for Examiner<'_> {
    fn judge(&mut self, book: &mut Book, options: &Options, cut: Cut) -> Check {
        let call = self.tally.calls;
        self.tally.calls += 1;
        if self.only.is_some_and(|only| only != call) || self.seen.is_enough() {
            return Ok(());
        }
        // Each image has its luck from its place, so that it can be had again alone.
        let luck = self.seed.wrapping_mul(0x9e37_79b9) ^ call << 32;
        for (n, image) in images(&cut, &mut Rng::new(luck)).into_iter().enumerate() {
            self.image(book, options, image, luck ^ (n as u64 + 1) << 24).map_err(|Violation(what)| {
                Violation(format!("{what}\n  call {call}, {}, image {n}\n  HEADWATER_CRASH_CALL={call}", cut.did))
            })?;
        }
        Ok(())
    }
}

impl Examiner<'_> {
    /// False when it was checked before.
    fn is_new(&mut self, book: &Book, image: &CowDisk) -> bool {
        let hash = image.hash();
        let new = self.checked.insert((hash, book.settled()));
        if new {
            self.tally.states += 1;
            self.seen.insert(hash);
        }
        new
    }

    fn image(&mut self, book: &mut Book, options: &Options, (image, power): Image, luck: u64) -> Check {
        let rng = &mut Rng::new(luck);
        if !self.is_new(book, &image) {
            return Ok(());
        }
        let mut options = options.clone();
        if power {
            options.boot_id = boot_id(rng);
        }
        let settled = image.is_settled();
        let mut disk = Recorder::new(image, rng.next_u64(), true);
        let (mut ring, report) = recover(&mut disk, &options)?;
        let cuts = std::mem::take(&mut disk.cuts);
        let full = rng.below(48) == 0;
        let mut shelf = Shelf { ring: &mut ring, disk: &mut disk, now: BootTime(0), writes: Vec::new() };
        let found = book.check(&mut shelf, &report, full, rng)?;
        let writes = shelf.writes;
        if rng.below(3) == 0 {
            self.tally.recoveries_cut += 1;
            for (n, cut) in cuts.iter().enumerate() {
                self.recovery(book, &options, cut, (&found, settled), luck ^ (n as u64 + 1) << 8)
                    .map_err(|Violation(what)| Violation(format!("{what}\n  recovery cut at {}", cut.did)))?;
            }
        }
        let rng = &mut Rng::new(luck ^ 0xff);
        if rng.below(24) == 0 && !book.topics.is_empty() {
            self.tally.used_on += 1;
            disk.cuts.clear();
            let used = Used::on(&mut ring, &mut disk, book, writes, rng)?;
            used.check(disk, &options, (book, &found), rng).map_err(|Violation(what)| {
                Violation(format!("{what}\n  after records were added to what came back"))
            })?;
        }
        Ok(())
    }

    /// A recovery that is cut and made again comes to the same end.
    fn recovery(
        &mut self,
        book: &mut Book,
        options: &Options,
        cut: &Cut,
        (found, settled): (&Found, bool),
        luck: u64,
    ) -> Check {
        self.tally.recovery_calls += 1;
        for (n, (image, power)) in images(cut, &mut Rng::new(luck)).into_iter().enumerate() {
            let rng = &mut Rng::new(luck ^ (n as u64 + 1));
            if !self.is_new(book, &image) {
                continue;
            }
            let mut options = options.clone();
            if power {
                options.boot_id = boot_id(rng);
            }
            let mut disk = Recorder::new(image, 0, false);
            let (mut ring, report) = recover(&mut disk, &options)?;
            let mut shelf = Shelf { ring: &mut ring, disk: &mut disk, now: BootTime(0), writes: Vec::new() };
            let again = book.check(&mut shelf, &report, false, rng)?;
            // A power cut may take what only the cache had; else nothing is different.
            ensure!(again == *found || power && !settled, "recovered again: {again:?}, was {found:?}");
        }
        Ok(())
    }
}

/// A recovered ring that was used a little more.
struct Used {
    lane: LaneId,
    from: LanePos,
    part: TopicPart,
    given: Vec<(u64, u64)>,
    cuts: Vec<Cut>,
}

impl Used {
    /// Appends a few records and waits until they are durable.
    fn on(
        ring: &mut Ring,
        disk: &mut Recorder,
        book: &Book,
        writes: Vec<headwater::ring::Command>,
        rng: &mut Rng,
    ) -> Check<Self> {
        let topic = &book.topics[rng.below(book.topics.len() as u64) as usize];
        let lane = LaneId(topic.lane as u8);
        let id = ring.open_topic(&topic.name, lane, topic.partitions);
        let id = id.map_err(|e| Violation(format!("topic refused: {e}")))?;
        let part = TopicPart { topic: id, partition: 0 };
        let (mut now, from) = (BootTime(1_000_000), ring.lane_end(lane));
        let mut given = Vec::new();
        for n in 0..1 + rng.below(4) {
            let value = format!("record {n} after the crash").into_bytes();
            let record = RecordRef::of(&value);
            let done = ring.append(now, part, &record).map_err(|e| Violation(format!("append: {e}")))?;
            given.push((done.offset, hash_of(&record)));
        }
        let mut queue: std::collections::VecDeque<_> = writes.into();
        for _ in 0..100 {
            while let Some(command) = ring.poll(now) {
                queue.push_back(command);
            }
            while let Some(command) = queue.pop_front() {
                let done = execute(command, disk);
                ring.complete(now, done);
            }
            if ring.settled() == ring.last_ticket() {
                let cuts = std::mem::take(&mut disk.cuts);
                return Ok(Self { lane, from, part, given, cuts });
            }
            now = now + Span::from_millis(500);
        }
        Err(Violation(format!("nothing becomes durable: {:?}", ring.health())))
    }

    /// Nothing of it is lost with the power, and half-way through as much is there as is said to be.
    fn check(self, end: Recorder, options: &Options, known: (&Book, &Found), rng: &mut Rng) -> Check {
        let mut last = end.disk;
        last.power_cut(Luck::Nothing, rng);
        self.holds(last, options, known, true, rng)?;
        let some = rng.below(self.cuts.len() as u64) as usize;
        for (image, _) in images(&self.cuts[some], rng) {
            self.holds(image, options, known, false, rng)?;
        }
        Ok(())
    }

    /// `all`: it was acknowledged. Else nothing of this process need be there, and where its first frame is not, what the
    /// one before had left may be judged otherwise.
    fn holds(
        &self,
        image: CowDisk,
        options: &Options,
        (book, found): (&Book, &Found),
        all: bool,
        rng: &mut Rng,
    ) -> Check {
        let mut disk = Recorder::new(image, 0, false);
        let options = Options { boot_id: boot_id(rng), ..options.clone() };
        let (mut ring, _) = recover(&mut disk, &options)?;
        let stats = ring.stats();
        for (at, lane) in stats.lanes.iter().enumerate() {
            let more = if at == self.lane.index() { self.given.len() as u64 } else { 0 };
            let least = found.admitted[at] + if all { more } else { 0 };
            let before = if all { found.admitted[at] } else { book.lanes[at].recs.len() as u64 };
            let most = before + more;
            ensure!((least..=most).contains(&lane.admitted), "lane {at}: {lane:?}, expected {least} to {most}");
            ensure!(lane.corrupt == 0, "lane {at}: {lane:?}");
        }
        let mut shelf = Shelf { ring: &mut ring, disk: &mut disk, now: BootTime(0), writes: Vec::new() };
        let mut reader = shelf.ring.lane_reader(self.lane, self.from);
        let mut shown = 0;
        loop {
            match shelf.step(&mut reader)? {
                ReadStep::Frame(frame) => {
                    for e in frame.entries_from(reader.pos.seq) {
                        let n = (e.ordinal - self.from.ordinal) as usize;
                        let same = self.given.get(n).is_some_and(|g| *g == (e.offset, hash_of(&e.record)));
                        let same = same && e.part == self.part || !all && book.has_given(&e);
                        ensure!(same, "#{}: {:?} offset {} is another", e.ordinal, e.part, e.offset);
                        shown += 1;
                    }
                    reader.pos = frame.end();
                }
                ReadStep::Gap(gap) => ensure!(!all, "{gap:?} where records were acknowledged"),
                ReadStep::End | ReadStep::Wait => break,
            }
        }
        ensure!(!all || shown == self.given.len(), "{shown} of {} are there", self.given.len());
        Ok(())
    }
}

/// Laps, crashes and calls that a workload has at least.
const LEAST_CALLS: u64 = 400;
const LEAST_SLOTS: u64 = 40;

fn workload(seed: u64, seen: &Seen, trick: Trick) -> Check<Tally> {
    let only = env("HEADWATER_CRASH_CALL");
    let judge = Examiner { seed, seen, tally: Tally::default(), checked: HashSet::new(), only };
    let mut work = Work::new(seed, trick, judge, true)?;
    for step in 0.. {
        if work.begun >= LEAST_SLOTS && work.judge.tally.calls >= LEAST_CALLS {
            break;
        }
        ensure!(step < 100_000, "a workload does not come to its end");
        if seen.is_enough() {
            break;
        }
        work.step()?;
    }
    work.finish()?;
    let mut tally = work.judge.tally;
    tally.workloads = u64::from(!seen.is_enough());
    tally.unfinished = u64::from(seen.is_enough());
    tally.records_read = work.book.read;
    (tally.slots_begun, tally.slots_removed) = (work.begun, work.removed);
    (tally.crashes, tally.closes, tally.evicted) = (work.crashes, work.closes, work.evictions);
    Ok(tally)
}

/// Workloads on all cores until there were enough states. A failing one is returned with its seed.
fn explore(target: u64, first: u64, most: u64, trick: Trick) -> Result<(Tally, u64), (u64, String)> {
    let (seen, next) = (Seen::new(target), AtomicU64::new(first));
    let (sum, failed) = (Mutex::new(Tally::default()), Mutex::new(None::<(u64, String)>));
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first.saturating_add(most) || seen.is_enough() {
                        return;
                    }
                    match run_one(seed, &|seed| workload(seed, &seen, trick)) {
                        Ok(tally) => sum.lock().expect("no panic holds it").add(&tally),
                        Err(Violation(what)) => {
                            seen.failed.store(true, Ordering::Relaxed);
                            failed.lock().expect("no panic holds it").get_or_insert((seed, what));
                        }
                    }
                }
            });
        }
    });
    match failed.into_inner().expect("no panic holds it") {
        Some(failure) => Err(failure),
        None => Ok((sum.into_inner().expect("no panic holds it"), seen.count.into_inner())),
    }
}

#[test]
fn nothing_acknowledged_is_lost_at_any_cut() {
    let target = env("HEADWATER_CRASH_STATES").unwrap_or(100_000);
    let began = Instant::now();
    let one = env("HEADWATER_CRASH_SEED");
    let first = one.or(env("HEADWATER_CRASH_FIRST")).unwrap_or(0);
    let most = one.map_or(u64::MAX, |_| 1);
    let (tally, distinct) = explore(target, first, most, Trick::None).unwrap_or_else(|(seed, what)| {
        panic!("seed {seed}: {what} HEADWATER_CRASH_SEED={seed} cargo test --test sim nothing_acknowledged_is_lost")
    });
    let took = began.elapsed().as_secs_f64();
    println!("{distinct} distinct states in {took:.0} s: {tally:#?}");
    if one.is_none() {
        assert!(distinct >= target, "only {distinct} distinct states");
    }
}

#[test]
fn every_bug_planted_under_the_cuts_is_found() {
    for trick in [Trick::SyncLeftOut, Trick::WriteBehindSync, Trick::EntryNotSynced, Trick::SectorLeftOut] {
        match explore(u64::MAX, 0, 50, trick) {
            Err((seed, what)) => println!("{trick:?}: found by seed {seed}: {what:.300}"),
            Ok(_) => panic!("{trick:?} was not found in 50 workloads"),
        }
    }
}
