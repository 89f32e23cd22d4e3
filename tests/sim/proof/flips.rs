//! Every bit of a populated slot flipped, one at a time; pages zeroed; garbage written anywhere.
//!
//! What a flip may take is learnt from the ring itself, by what is gone when the whole page is zeroed: a flip inside the
//! page takes that or less, one frame at most, and says so. `HEADWATER_FLIPS=n` flips n bits of each of two slots, `all`
//! every one.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use headwater::backoff::Rng;
use headwater::lane::LaneId;
use headwater::limits::{MIN_SLOT, PAGE};
use headwater::record::{AttrBuf, Record};
use headwater::ring::{Disk, FileId, GapReason, LaneOptions, LanePos, Options, ROOT_BYTES, ReadStep, Ring, drive};
use headwater::time::{BootTime, Span};
use headwater::topic::{TopicName, TopicPart};

use crate::env;
use crate::keys::keys;
use crate::model::{Check, StateKey, Violation, ensure};
use crate::proof::book::Shelf;
use crate::proof::cow::{CowDisk, Luck, Recorder, Trick, garbage};
use crate::proof::work::recover;
use crate::ring_world::{make_record, name, source};
use crate::run_one;

type Lost = Vec<(usize, Range<u64>)>;

/// A disk, and all that it holds.
struct Base {
    disk: CowDisk,
    options: Options,
    given: HashMap<(TopicPart, u64), Record>,
    /// Per lane and ordinal.
    entries: Vec<Vec<(LanePos, TopicPart, u64)>>,
    frames: Frames,
    states: BTreeMap<StateKey, Vec<Vec<u8>>>,
}

/// What stands on the disk, by the frames' headers.
#[derive(Default)]
struct Frames {
    /// Per lane, the ordinals of each commit with records, and of each copy.
    commits: [Vec<Range<u64>>; 2],
    copies: [Vec<Range<u64>>; 2],
    /// Of each process, the place of its first frame, and per lane the first ordinal after it.
    begins: Vec<(FileId, u64, [u64; 2])>,
}

/// What an image of it holds.
#[derive(Debug, Default)]
struct Seen {
    lost: Lost,
    tail_unknown: bool,
    /// Nothing need be left of the very last commit.
    silent: bool,
}

/// A ring of one process after another that writes until a slot of its first lane is full.
struct Builder {
    rng: Rng,
    ring: Ring,
    disk: Recorder,
    now: BootTime,
    options: Options,
    parts: Vec<TopicPart>,
    given: HashMap<(TopicPart, u64), Record>,
    states: BTreeMap<StateKey, Vec<Vec<u8>>>,
    next_id: u64,
}

impl Builder {
    fn new(seed: u64) -> Check<Self> {
        let lane = |i: u32| LaneOptions { name: name(&format!("lane{i}")), reserve: 0 };
        let options = Options {
            max_bytes: 16 * MIN_SLOT + ROOT_BYTES,
            lanes: (0..2).map(lane).collect(),
            linger: Span::from_millis(100),
            binding: [7; 16],
            boot_id: [1; 16],
            seed,
            keys: keys(seed, 0),
            formats: Default::default(),
        };
        let mut disk = Recorder::new(CowDisk::new(Trick::None), seed, true);
        let (mut ring, _) = recover(&mut disk, &options)?;
        let mut parts = Vec::new();
        for (topic, lane) in [("a", 0), ("b", 0), ("c", 1)] {
            let topic = TopicName::new(topic).expect("a good name");
            let id = ring.open_topic(&topic, LaneId(lane), 1).map_err(|e| Violation(e.to_string()))?;
            parts.push(TopicPart { topic: id, partition: 0 });
        }
        let rng = Rng::new(seed);
        let (now, given, states) = (BootTime(1), HashMap::new(), BTreeMap::new());
        Ok(Self { rng, ring, disk, now, options, parts, given, states, next_id: 0 })
    }

    /// Some records, now and then a state entry, all durable in one commit.
    fn commit(&mut self) -> Check {
        // The second lane writes seldom.
        let only = if self.rng.below(12) == 0 { 2..3 } else { 0..2 };
        for _ in 0..1 + self.rng.below(30) {
            let part = self.parts[only.start + self.rng.below(only.len() as u64) as usize];
            let (mut value, mut key, mut attrs) = (Vec::new(), Vec::new(), AttrBuf::default());
            self.next_id += 1;
            let shape = (self.next_id, 5, self.now);
            let record = make_record(&mut self.rng, shape, &mut value, &mut key, &mut attrs);
            if record.len() > 20_000 {
                continue;
            }
            let done = self.ring.append(self.now, part, &record).map_err(|e| Violation(e.to_string()))?;
            self.given.insert((part, done.offset), record.to_owned());
        }
        if self.rng.below(3) == 0 {
            let key = (self.rng.below(2) as u8, vec![b'k', self.rng.below(4) as u8]);
            let value = self.next_id.to_le_bytes().to_vec();
            let put = self.ring.put_state(self.now, &source(key.0.into()), &key.1, Some(&value));
            put.map_err(|e| Violation(e.to_string()))?;
            self.states.entry(key).or_default().push(value);
        }
        self.now = self.now + Span::from_millis(200);
        for _ in 0..20 {
            drive(&mut self.ring, &mut self.disk, self.now);
        }
        ensure!(self.ring.settled() == self.ring.last_ticket(), "a commit does not become durable");
        Ok(())
    }

    fn crash(&mut self) -> Check {
        self.ring = recover(&mut self.disk, &self.options)?.0;
        Ok(())
    }
}

/// The disk when a slot of many is as full as it gets, and a while after; the file concerned.
fn bases(seed: u64) -> Check<(FileId, Base, Base)> {
    let mut builder = Builder::new(seed)?;
    let mut last: Option<(FileId, CowDisk)> = None;
    let mut begun = 0;
    for n in 1..10_000 {
        builder.disk.cuts.clear();
        if n % 37 == 0 {
            builder.crash()?;
        }
        builder.commit()?;
        let creates = builder.disk.cuts.iter().find(|c| c.did.op == "create" && c.did.file != FileId::Root);
        begun += u32::from(creates.is_some());
        if begun >= 6
            && let Some(creates) = creates
            && let Some((file, _)) = &last
        {
            let (file, full) = (*file, creates.before.clone());
            builder.commit()?;
            let newest = Base::new(full, &builder)?;
            let older = Base::new(builder.disk.disk.clone(), &builder)?;
            return Ok((file, newest, older));
        }
        let written = builder.disk.cuts.iter().rfind(|c| c.did.op == "write" && c.did.file != FileId::Root);
        if let Some(cut) = written {
            last = Some((cut.did.file, cut.before.clone()));
        }
    }
    Err(Violation("no slot is ever full".into()))
}

/// The frames on a disk whose slots were each written once.
fn frames_of(disk: &mut CowDisk) -> Frames {
    const SESSION_START: u8 = 2;
    let mut frames = Frames::default();
    for (slot, bytes) in disk.list().expect("a disk that works") {
        let (file, mut all) = (FileId::Slot(slot), vec![0; bytes as usize]);
        disk.read(file, 0, &mut all).expect("a disk that works");
        for (at, page) in all.chunks(PAGE).enumerate().filter(|(_, page)| page.starts_with(b"HWfr")) {
            let number = |at: usize, n: usize| page[at..at + n].iter().rev().fold(0u64, |n, b| n << 8 | u64::from(*b));
            let (lane, records) = (usize::from(page[10]), number(96, 4));
            let ends = [184, 184 + 40].map(|admitted| number(admitted, 8));
            if page[5] != 5 && page[6] & SESSION_START != 0 {
                let own = |l: usize| if l == lane { records } else { 0 };
                frames.begins.push((file, at as u64, [ends[0] - own(0), ends[1] - own(1)]));
            }
            match page[5] {
                1 | 4 if records > 0 => frames.commits[lane].push(ends[lane] - records..ends[lane]),
                5 => frames.copies[lane].push(number(80, 8)..number(80, 8) + records),
                _ => {}
            }
        }
    }
    frames
}

impl Base {
    fn new(mut disk: CowDisk, builder: &Builder) -> Check<Self> {
        // The root page of a new slot is not synced.
        disk.power_cut(Luck::Everything, &mut Rng::new(0));
        let (options, given, states) = (builder.options.clone(), builder.given.clone(), builder.states.clone());
        let frames = frames_of(&mut disk);
        let mut base = Self { disk, options, given, entries: Vec::new(), frames, states };
        let mut disk = Recorder::new(base.disk.clone(), 0, false);
        let (mut ring, _) = recover(&mut disk, &base.options)?;
        for (key, versions) in &mut base.states {
            let value = ring.state(&source(key.0.into()), &key.1);
            versions.truncate(versions.iter().position(|v| Some(v.as_slice()) == value).map_or(0, |at| at + 1));
        }
        for lane in 0..2 {
            let mut entries = Vec::new();
            let mut shelf = Shelf { ring: &mut ring, disk: &mut disk, now: BootTime(0), writes: Vec::new() };
            let mut reader = shelf.ring.lane_reader(LaneId(lane), LanePos::default());
            while let ReadStep::Frame(frame) = shelf.step(&mut reader)? {
                for e in frame.entries_from(0) {
                    let pos = LanePos { seq: e.seq, ordinal: e.ordinal };
                    entries.push((pos, e.part, e.offset));
                    let same = base.given.get(&(e.part, e.offset)).is_some_and(|g| g.as_ref() == e.record);
                    ensure!(same, "#{} is not what was given", e.ordinal);
                }
                reader.pos = frame.end();
            }
            base.entries.push(entries);
        }
        Ok(base)
    }

    /// Recovers an image and reads it, in the lanes and ordinals of `about` or as a whole: nothing wrong is shown, what is
    /// missing is announced, and the sums are right. `silent`: where nothing is left of the very last commit, not even what
    /// resembles a header, none can tell that it ever was.
    fn look(&self, image: CowDisk, about: Option<&Lost>, silent: bool) -> Check<Seen> {
        let mut disk = Recorder::new(image, 0, false);
        let (mut ring, report) = recover(&mut disk, &self.options)?;
        ensure!(!report.fresh && !report.cloned, "what was there is taken for nothing: {report:?}");
        let mut seen = Seen { lost: Vec::new(), tail_unknown: report.tail_unknown, silent };
        let stats = ring.stats();
        self.states_hold(&ring, report.tail_unknown || silent)?;
        let (mut corrupt, mut unsynced) = (0, 0);
        for (at, lane) in stats.lanes.iter().enumerate() {
            let all = self.entries[at].len() as u64;
            // As if the last commits had never been: how many of them, the bytes that are gone must tell.
            let last = self.frames.commits[at].iter().any(|f| f.start == lane.admitted);
            let fine = lane.admitted == all || (report.tail_unknown || silent) && last;
            ensure!(fine, "lane {at}: {} admitted of {all}: {report:?}", lane.admitted);
            ensure!(lane.evicted == 0, "lane {at}: {} evicted", lane.evicted);
            if lane.admitted < all {
                seen.lost.push((at, lane.admitted..all));
            }
            corrupt += lane.corrupt;
            unsynced += lane.lost_unsynced;
        }
        let mut met = (0, 0);
        for at in 0..2 {
            let range = match about {
                None => 0..u64::MAX,
                Some(about) => match about.iter().find(|(lane, _)| *lane == at) {
                    Some((_, range)) => range.start.saturating_sub(1)..range.end + 1,
                    None => continue,
                },
            };
            let mut shelf = Shelf { ring: &mut ring, disk: &mut disk, now: BootTime(0), writes: Vec::new() };
            let (c, u) = self.read(&mut shelf, at, range, &mut seen)?;
            met = (met.0 + c, met.1 + u);
        }
        // Recovery does not walk what is sealed: whoever reads meets its damage and counts it.
        ensure!(
            corrupt <= met.0 && unsynced == met.1,
            "{corrupt} corrupt and {unsynced} lost are counted, {met:?} met"
        );
        Ok(seen)
    }

    fn read(&self, shelf: &mut Shelf<'_>, at: usize, range: Range<u64>, seen: &mut Seen) -> Check<(u64, u64)> {
        let entries = &self.entries[at];
        let start = entries.get(range.start as usize).map_or(LanePos::default(), |e| e.0);
        let end = shelf.ring.lane_durable(LaneId(at as u8)).ordinal;
        let mut reader = shelf.ring.lane_reader(LaneId(at as u8), start);
        let (mut corrupt, mut unsynced) = (0, 0);
        while reader.pos.ordinal < range.end.min(end) {
            let before = reader.pos;
            match shelf.step(&mut reader)? {
                ReadStep::Frame(frame) => {
                    let mut ordinal = before.ordinal;
                    for e in frame.entries_from(before.seq) {
                        let pos = LanePos { seq: e.seq, ordinal };
                        let same = entries.get(ordinal as usize) == Some(&(pos, e.part, e.offset));
                        ensure!(same && e.ordinal == ordinal, "lane {at}: #{ordinal} is shown as {e:?}");
                        let same = self.given.get(&(e.part, e.offset)).is_some_and(|g| g.as_ref() == e.record);
                        ensure!(same, "lane {at}: #{ordinal} has other bytes");
                        ordinal += 1;
                    }
                    ensure!(ordinal == frame.end().ordinal && ordinal > before.ordinal, "lane {at}: short of records");
                    reader.pos = frame.end();
                }
                ReadStep::Gap(gap) => {
                    let range = before.ordinal..reader.pos.ordinal;
                    ensure!(gap.from == before && gap.to == reader.pos && !range.is_empty(), "lane {at}: {gap:?}");
                    let n = range.end - range.start;
                    let told: u64 = gap.parts.iter().map(|p| p.to_offset - p.from_offset).sum();
                    ensure!(gap.parts.is_empty() || told == n, "lane {at}: {gap:?} says {told} by partition");
                    match gap.reason {
                        GapReason::Corrupt => corrupt += n,
                        // Without a header and its first frames, a lane's first slot seems to begin later.
                        GapReason::Evicted if seen.silent => corrupt += n,
                        GapReason::LostUnsynced if seen.tail_unknown => unsynced += n,
                        _ => return Err(Violation(format!("lane {at}: {gap:?}"))),
                    }
                    seen.lost.push((at, range));
                }
                step => return Err(Violation(format!("lane {at}: {step:?} at {before:?}, the lane ends at #{end}"))),
            }
        }
        Ok((corrupt, unsynced))
    }

    /// Entries are what they were, or their loss is announced; never what was never put.
    fn states_hold(&self, ring: &Ring, tail_unknown: bool) -> Check {
        let announced = tail_unknown || ring.forgotten_below() > 0;
        for (key, versions) in &self.states {
            let value = ring.state(&source(key.0.into()), &key.1);
            let newest = value == versions.last().map(Vec::as_slice);
            let older = value.is_none_or(|value| versions.iter().any(|v| v == value));
            ensure!(newest || announced && older, "state {key:?} is {value:?} of {versions:?}; announced: {announced}");
        }
        Ok(())
    }

    /// What is gone is one frame of one lane, whole.
    fn one_frame(&self, lost: &Lost) -> Check {
        let Some((at, _)) = lost.first() else { return Ok(()) };
        let all = |f: &Range<u64>| lost.iter().all(|(lane, r)| lane == at && f.start <= r.start && r.end <= f.end);
        ensure!(
            self.frames.commits[*at].iter().chain(&self.frames.copies[*at]).any(all),
            "more than one frame is gone: {lost:?}"
        );
        Ok(())
    }

    /// What is gone when each page of a file is zeroed.
    fn pages(&self, file: FileId) -> Check<Vec<Lost>> {
        let zeroed = |page: u64| {
            let mut image = self.disk.clone();
            image.change(file, page * PAGE as u64, |bytes| bytes.fill(0));
            Ok(self.look(image, None, true)?.lost)
        };
        (0..MIN_SLOT / PAGE as u64).map(zeroed).collect()
    }
}

fn within(lost: &Lost, most: &[&Lost]) -> bool {
    lost.iter().all(|(at, range)| {
        range.clone().all(|o| most.iter().flat_map(|m| m.iter()).any(|(lane, r)| lane == at && r.contains(&o)))
    })
}

#[derive(Debug, Default)]
struct Count {
    tried: AtomicU64,
    read_whole: AtomicU64,
    lost_a_frame: AtomicU64,
    tail_unknown: AtomicU64,
}

impl Count {
    fn add(&self, seen: &Seen, whole: bool) {
        self.tried.fetch_add(1, Ordering::Relaxed);
        self.read_whole.fetch_add(u64::from(whole), Ordering::Relaxed);
        self.lost_a_frame.fetch_add(u64::from(!seen.lost.is_empty()), Ordering::Relaxed);
        self.tail_unknown.fetch_add(u64::from(seen.tail_unknown), Ordering::Relaxed);
    }
}

/// Runs the numbers below `n` on all cores.
pub fn on_all_cores(n: u64, run: impl Fn(u64) -> Check + Sync) {
    const STRETCH: u64 = 64;
    let (next, failed) = (AtomicU64::new(0), Mutex::new(None::<String>));
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let from = next.fetch_add(STRETCH, Ordering::Relaxed);
                    if from >= n || failed.lock().expect("no panic holds it").is_some() {
                        return;
                    }
                    for i in from..(from + STRETCH).min(n) {
                        if let Err(Violation(what)) = run_one(i, &run) {
                            failed.lock().expect("no panic holds it").get_or_insert(what);
                        }
                    }
                }
            });
        }
    });
    if let Some(what) = failed.into_inner().expect("no panic holds it") {
        panic!("{what}");
    }
}

const BITS: u64 = MIN_SLOT * 8;

/// How many bits of a slot are flipped.
fn flips() -> u64 {
    match std::env::var("HEADWATER_FLIPS").as_deref() {
        Ok("all") => BITS,
        _ => env("HEADWATER_FLIPS").unwrap_or(8_000).min(BITS),
    }
}

/// Flips `n` bits of a file, spread evenly and begun by chance.
fn flip(base: &Base, file: FileId, n: u64, what: &str) {
    let began = Instant::now();
    let pages = base.pages(file).unwrap_or_else(|Violation(e)| panic!("{what}, a page zeroed: {e}"));
    let count = Count::default();
    on_all_cores(n, |i| {
        // A stride that has no factor in common with the number of bits meets each once.
        let bit = if n == BITS { i } else { i * 1_299_709 % BITS };
        let page = bit / 8 / PAGE as u64;
        let mut image = base.disk.clone();
        image.change(file, page * PAGE as u64, |bytes| bytes[bit as usize / 8 % PAGE] ^= 1 << (bit % 8));
        let most = &pages[page as usize];
        let whole = most.is_empty() && i % 16 == 0 || i % 64 == 0;
        let seen = base.look(image, (!whole).then_some(most), false).and_then(|seen| {
            base.one_frame(&seen.lost)?;
            ensure!(within(&seen.lost, &[most]), "gone are {:?}, with the whole page {most:?}", seen.lost);
            Ok(seen)
        });
        let seen = seen.map_err(|Violation(e)| Violation(format!("{what}, bit {bit} of {file}: {e}")))?;
        count.add(&seen, whole);
        Ok(())
    });
    println!("{what}, {file}: {count:?} in {:.1} s", began.elapsed().as_secs_f64());
}

const SEED: u64 = 1;

#[test]
fn a_flipped_bit_takes_one_frame_at_most_and_says_so() {
    let (file, newest, older) = bases(SEED).unwrap_or_else(|Violation(e)| panic!("{e}"));
    flip(&newest, file, flips(), "the newest slot");
    flip(&older, file, flips(), "a sealed slot");
    for slot in 0..6 {
        let other = FileId::Slot(headwater::ring::SlotId(slot));
        if other != file {
            flip(&older, other, (flips() / 16).max(400), "another slot");
        }
    }
}

#[test]
fn garbage_takes_no_more_than_what_it_covers() {
    let (file, newest, older) = bases(SEED + 1).unwrap_or_else(|Violation(e)| panic!("{e}"));
    for (base, what) in [(&newest, "the newest slot"), (&older, "a sealed slot")] {
        let pages = base.pages(file).unwrap_or_else(|Violation(e)| panic!("{what}, a page zeroed: {e}"));
        let count = Count::default();
        on_all_cores(env("HEADWATER_GARBAGE").unwrap_or(2_000), |seed| {
            let mut rng = Rng::new(seed);
            let sectors = 1 << rng.below(8);
            let from = rng.below(MIN_SLOT / 512 - sectors) * 512;
            let mut image = base.disk.clone();
            let touched = from / PAGE as u64..=(from + sectors * 512 - 1) / PAGE as u64;
            for page in touched.clone() {
                let begin = page * PAGE as u64;
                let span = from.max(begin) - begin..(from + sectors * 512 - begin).min(PAGE as u64);
                image
                    .change(file, begin, |bytes| garbage(&mut bytes[span.start as usize..span.end as usize], &mut rng));
            }
            let mut most: Vec<&Lost> = touched.clone().map(|page| &pages[page as usize]).collect();
            // Of a process whose first frame is gone nothing stands that no later one saw.
            let begun = base.frames.begins.iter().filter(|(f, page, _)| *f == file && touched.contains(page));
            let since: Vec<Lost> =
                begun.map(|(_, _, from)| vec![(0, from[0]..u64::MAX), (1, from[1]..u64::MAX)]).collect();
            most.extend(&since);
            let place = |Violation(e)| Violation(format!("{what}, seed {seed}, {sectors} sectors at {from}: {e}"));
            let seen = base.look(image, None, true).map_err(place)?;
            let fine = within(&seen.lost, &most);
            count.add(&seen, true);
            if fine { Ok(()) } else { Err(place(Violation(format!("gone are {:?}, of {most:?}", seen.lost)))) }
        });
        println!("{what}: {count:?}");
    }
}
