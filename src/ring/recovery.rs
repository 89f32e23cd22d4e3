//! From a directory to a ring, in the best way left. See [`super`] for the argument; this is its order of work.
//!
//! It reads all slot headers, then the newest slot of each lane, and decides nothing by a file's age or name. It
//! deletes and truncates nothing; what it does not understand is set aside under a note. The only thing written is
//! the root page, so that a clean shutdown counts once.

use std::collections::BTreeMap;

use super::batch::Press;
use super::core::{Closing, Life, Ring, SKIP_COMMITS, SKIP_SEQS, slot_cap};
use super::format::{Bad, Counters, FrameKind, RootPage, SlotHeader, SlotKind, flags};
use super::identity::family;
use super::reader::Reading;
use super::sessions::{Sessions, session_key, torn_key};
use super::slots::{Lane, SlotMeta, Slots};
use super::state::{Put, Store, ring_owner};
use super::topics::{Topic, Topics, id_of_key};
use super::walk::{Seen, SlotContent, Walker};
use super::writer::Writer;
use super::*;
use crate::limits::{MAX_LANES, MAX_SLOT, MIN_SLOT, PAGE, TARGET_SLOTS};
use crate::topic::TopicPart;

/// After an unclean end writing goes on at the next such boundary: data next to an interrupted write can die.
const RESUME_AT: u32 = 64 * 1024;
/// How often the slots are looked at again because one of them was only in the cache.
const SETTLE_TRIES: u32 = 4;

/// A slot that belongs to this ring.
#[derive(Debug)]
struct Found {
    meta: SlotMeta,
    lane: LaneId,
    header: Option<SlotHeader>,
}

/// What the directory holds, before any of it is believed.
#[derive(Default)]
struct Survey {
    found: Vec<Found>,
    existing: Vec<SlotId>,
    free: Vec<SlotId>,
    /// Files that do not have their full length.
    short: Vec<SlotId>,
    root: Option<RootPage>,
    slot_bytes: u32,
    notes: Vec<String>,
}

impl Survey {
    /// Each slot names the one that its lane was in before. What stands between them was opened in vain, and given up
    /// by the process that opened it or by a recovery.
    fn drop_unchained(&mut self) {
        let mut before = [u64::MAX; MAX_LANES];
        let mut chained = Vec::new();
        for f in std::mem::take(&mut self.found).into_iter().rev() {
            let before = &mut before[f.lane.index()];
            if f.meta.generation > *before {
                self.free.push(f.meta.id);
                continue;
            }
            *before = f.header.as_ref().map_or(*before, |h| h.prev.generation);
            chained.push(f);
        }
        chained.reverse();
        self.found = chained;
    }
}

impl Ring {
    /// Reads whatever is on the disk and makes a ring of it, in the best way left; blocking calls on `disk`.
    /// Fails only when the disk cannot be used at all (the node then goes on in memory).
    pub fn recover(disk: &mut dyn Disk, options: Options) -> Result<(Ring, Report), DiskError> {
        let (mut ring, report) = Self::load(disk, options, true)?;
        let (at, page) = ring.root_page(false);
        // A hint: a ring without it recovers as well, only slower.
        let made = if disk.write(FileId::Root, at, &page).is_err() {
            disk.create(FileId::Root, ROOT_BYTES).and_then(|()| disk.write(FileId::Root, at, &page))
        } else {
            Ok(())
        };
        let _ = made.and_then(|()| disk.sync(FileId::Root));
        Ok((ring, report))
    }

    /// A stopped ring, to be read: nothing is written, now or by `poll`.
    pub fn open_read_only(disk: &mut dyn Disk, options: Options) -> Result<(Ring, Report), DiskError> {
        let (mut ring, report) = Self::load(disk, options, false)?;
        ring.discard_writes();
        Ok((ring, report))
    }

    fn load(disk: &mut dyn Disk, options: Options, write: bool) -> Result<(Ring, Report), DiskError> {
        let mut survey = survey(disk, &options)?;
        let mut report = Report::default();
        // Also after a clean shutdown: the page that says so may be older than the newest process. What only the cache
        // had shows itself by a slot that is not what it was.
        for _ in 0..if write { SETTLE_TRIES } else { 0 } {
            if settle_files(disk, &survey.found, &mut report) {
                break;
            }
            survey = self::survey(disk, &options)?;
        }
        report.notes.append(&mut survey.notes);
        let mut ring = Ring::empty(options, &survey)?;
        let clean = survey.root.is_some_and(|r| r.clean);
        let Some(newest) = survey.found.last() else {
            report.fresh = true;
            if write {
                ring.begin_new();
            }
            return Ok((ring, report));
        };
        let binding = newest.header.as_ref().map(|h| h.binding);
        ring.id = newest.meta.ring;
        let mut replay = Replay::new(&mut ring, &mut report);
        replay.read(disk, &survey);
        let ends = replay.run();
        replay.finish(&survey, &ends, clean);
        report.cloned = binding.is_some_and(|b| b != ring.options.binding);
        if write {
            let ids = survey.found.iter().map(|f| f.meta.ring).collect();
            let sessions = survey.found.iter().filter_map(|f| f.header.as_ref()).map(|h| h.session);
            ring.adopt(survey.root, ids, sessions, &mut report);
        } else {
            ring.visit();
        }
        Ok((ring, report))
    }

    fn empty(options: Options, survey: &Survey) -> Result<Ring, DiskError> {
        let zstd = |e: std::io::Error| DiskError {
            kind: DiskErrorKind::Io,
            op: "create",
            file: "compressor".into(),
            detail: e.to_string(),
        };
        let target = (options.max_bytes.saturating_sub(ROOT_BYTES)) / TARGET_SLOTS;
        let fresh = target.clamp(MIN_SLOT, MAX_SLOT) / PAGE as u64 * PAGE as u64;
        let slot_bytes = if survey.slot_bytes == 0 { fresh as u32 } else { survey.slot_bytes };
        let lanes = options.lanes.iter().take(MAX_LANES).enumerate();
        let lanes: Vec<Lane> = lanes.map(|(i, l)| Lane::new(LaneId(i as u8), l.reserve, i as u64 + 1)).collect();
        let slots = Slots {
            slot_bytes,
            cap: slot_cap(options.max_bytes, slot_bytes),
            room: usize::MAX,
            existing: survey.existing.clone(),
            free: survey.free.clone(),
            short: survey.short.clone(),
            quarantine: Vec::new(),
            next_generation: 1,
        };
        Ok(Ring {
            id: RingId::default(),
            boot: 1,
            session: 1,
            topics: Topics::default(),
            state: Store::new(slot_bytes as usize / 4),
            stamp: lanes.len() as u64 + 1,
            lanes,
            slots,
            press: Press::new().map_err(zstd)?,
            writer: Writer::default(),
            reading: Reading::new().map_err(zstd)?,
            queue: Default::default(),
            queue_weight: 0,
            next_seq: 0,
            last_commit: 0,
            next_commit: 1,
            prev_counts: Vec::new(),
            next_flags: flags::SESSION_START,
            ticket: 0,
            settled: 0,
            beside: 0,
            in_group: false,
            group_lane: None,
            closing: Closing::No,
            life: Life::default(),
            sessions: Sessions::default(),
            options,
        })
    }
}

// ---------------------------------------------------------------------------------------------- survey

/// The pages of the root file that were ever written, each with the byte where it begins; None for one that is damaged.
pub(super) fn root_pages(disk: &mut dyn Disk) -> Option<Vec<(u64, Option<RootPage>)>> {
    let mut buf = vec![0; ROOT_BYTES as usize];
    let n = disk.read(FileId::Root, 0, &mut buf).ok()?;
    let pages = buf[..n].chunks(PAGE).zip([0, PAGE as u64]).filter(|(page, _)| page.iter().any(|b| *b != 0));
    Some(pages.map(|(page, at)| (at, RootPage::parse(page))).collect())
}

pub(super) fn read_root(disk: &mut dyn Disk) -> Option<RootPage> {
    root_pages(disk)?.into_iter().filter_map(|(_, page)| page).max_by_key(|p| p.serial)
}

fn survey(disk: &mut dyn Disk, options: &Options) -> Result<Survey, DiskError> {
    let mut files = disk.list()?;
    files.sort_unstable();
    let mut survey = Survey { root: read_root(disk), ..Survey::default() };
    survey.existing = files.iter().map(|f| f.0).collect();
    let lengths = files.clone();
    let mut good: Vec<SlotHeader> = Vec::new();
    let mut lost: Vec<(SlotId, u64)> = Vec::new();
    for (slot, len) in files {
        let mut walker = Walker::new(disk, slot);
        match walker.slot_header() {
            Ok(header) => {
                if u64::from(header.slot_bytes) > len {
                    survey.notes.push(format!("{}: shorter than its header says", FileId::Slot(slot)));
                }
                good.push(header);
            }
            Err(bad @ (Bad::Version(_) | Bad::Place)) => {
                survey.notes.push(format!("{}: {bad}; set aside", FileId::Slot(slot)));
            }
            Err(_) => lost.push((slot, len)),
        }
    }
    let newest = good.iter().max_by_key(|h| h.generation);
    survey.slot_bytes = newest.map_or(0, |h| h.slot_bytes);
    let family = newest.map(|h| family(disk, h.ring, &good)).unwrap_or_default();
    for header in good {
        let own = family.contains(&header.ring) || header.binding == options.binding;
        let kind = header.kind == SlotKind::Lane && (header.lane.0 as usize) < options.lanes.len();
        if own && kind && header.slot_bytes == survey.slot_bytes {
            survey.found.push(Found { meta: meta_of(&header), lane: header.lane, header: Some(header) });
        } else {
            survey.notes.push(format!("{}: belongs to another ring; set aside", FileId::Slot(header.slot)));
        }
    }
    for (slot, len) in lost {
        headerless(disk, slot, len, &mut survey);
    }
    survey.found.sort_by_key(|f| f.meta.generation);
    survey.drop_unchained();
    // A creation that failed half-way.
    let whole = u64::from(survey.slot_bytes);
    survey.short.extend(lengths.iter().filter(|f| f.1 < whole).map(|f| f.0));
    Ok(survey)
}

fn meta_of(header: &SlotHeader) -> SlotMeta {
    SlotMeta {
        id: header.slot,
        generation: header.generation,
        ring: header.ring,
        first: LanePos { seq: header.first_seq, ordinal: header.lanes[header.lane.index()].admitted },
        last_commit: header.last_commit,
        end: header.slot_bytes,
        starts: header.starts.clone().into(),
        starts_complete: header.starts_complete,
        sound: true,
    }
}

/// A slot whose header cannot be read is read at its frames' highest generation.
fn headerless(disk: &mut dyn Disk, slot: SlotId, len: u64, survey: &mut Survey) {
    let file = FileId::Slot(slot);
    let len = len.min(MAX_SLOT) as u32;
    let mut walker = Walker::new(disk, slot);
    if walker.is_blank() {
        survey.free.push(slot);
        return;
    }
    let Some((ring, generation)) = walker.newest_generation(len) else {
        survey.notes.push(format!("{file}: holds nothing readable; used again"));
        survey.free.push(slot);
        return;
    };
    let content = walker.frames(ring, generation, len);
    let first = content.frames.iter().find(|s| s.header.kind == FrameKind::Snapshot || s.header.records > 0);
    let Some(header) = first.map(|s| &s.header) else {
        survey.free.push(slot);
        return;
    };
    let known = survey.found.iter().any(|f| f.meta.ring == ring);
    if !known && !survey.found.is_empty() {
        survey.notes.push(format!("{file}: belongs to another ring; set aside"));
        return;
    }
    survey.notes.push(format!("{file}: its header is damaged; read by its frames"));
    if survey.slot_bytes == 0 {
        survey.slot_bytes = len;
    }
    let meta = SlotMeta {
        id: slot,
        generation,
        ring,
        first: LanePos { seq: header.first_seq, ordinal: header.first_ordinal() },
        last_commit: if header.kind == FrameKind::Snapshot { header.commit } else { header.prev_commit },
        end: len,
        starts: Box::default(),
        starts_complete: false,
        sound: false,
    };
    survey.found.push(Found { meta, lane: header.lane, header: None });
}

/// After a crash of the process the page cache may hold what the device never got: the slots that could hold the newest
/// commits of each lane are synced and dropped from the cache before they are believed. False when one of them is not
/// what it seemed to be.
fn settle_files(disk: &mut dyn Disk, found: &[Found], report: &mut Report) -> bool {
    let mut same = true;
    for at in 0..MAX_LANES {
        let mut newest: Option<u64> = None;
        for f in found.iter().rev().filter(|f| f.lane.index() == at) {
            let file = FileId::Slot(f.meta.id);
            // After a failed sync the cache shows what the device never got: then above all it must not be believed.
            for done in [disk.sync(file), disk.drop_cache(file)] {
                if let Err(error) = done {
                    report.notes.push(format!("before recovery: {error}"));
                }
            }
            let header = Walker::new(disk, f.meta.id).slot_header().ok();
            same &= header.map(|h| h.generation) == f.header.as_ref().map(|h| h.generation);
            // A slot that was opened in vain is opened again elsewhere, at the same commit.
            if newest.is_some_and(|last| f.meta.last_commit < last) {
                break;
            }
            newest.get_or_insert(f.meta.last_commit);
        }
    }
    same
}

// ---------------------------------------------------------------------------------------------- replay

/// Where each lane's newest slot ends, by slot.
type Ends = BTreeMap<SlotId, SlotContent>;

/// The commits of one slot that are later than the snapshot.
struct Scanned {
    /// Its place among the slots found.
    found: usize,
    /// It has no commit at all.
    empty: bool,
    frames: Vec<Seen>,
}

struct Replay<'a> {
    ring: &'a mut Ring,
    report: &'a mut Report,
    /// Entries of the base snapshot, and the commit that it contains.
    base: Vec<Put>,
    base_commit: u64,
    base_session: u32,
    base_lanes: [Counters; MAX_LANES],
    frames: Vec<Seen>,
    ends: Ends,
    /// Opened in vain: what they were opened for stands in the slot before.
    abandoned: Vec<SlotId>,
    /// Their snapshots are damaged.
    unsound: Vec<SlotId>,
}

impl<'a> Replay<'a> {
    fn new(ring: &'a mut Ring, report: &'a mut Report) -> Self {
        Self {
            ring,
            report,
            base: Vec::new(),
            base_commit: 0,
            base_session: 0,
            base_lanes: Default::default(),
            frames: Vec::new(),
            ends: BTreeMap::new(),
            abandoned: Vec::new(),
            unsound: Vec::new(),
        }
    }

    /// Finds the newest good snapshot and reads every frame since.
    fn read(&mut self, disk: &mut dyn Disk, survey: &Survey) {
        let bytes = self.ring.slots.slot_bytes;
        let mut from = 0;
        for (i, f) in survey.found.iter().enumerate().rev() {
            let snapshot = Walker::new(disk, f.meta.id).snapshot(f.meta.ring, f.meta.generation);
            if let Some((header, puts)) = snapshot {
                (from, self.base, self.base_commit, self.base_lanes) = (i, puts, header.commit, header.lanes);
                self.base_session = header.session;
                break;
            }
            let file = FileId::Slot(f.meta.id);
            self.report.notes.push(format!("{file}: its snapshot is damaged; the one before it is used"));
            self.unsound.push(f.meta.id);
        }
        let mut read: Vec<Scanned> = Vec::new();
        for (i, f) in survey.found.iter().enumerate() {
            // Another lane's slot may be older than the snapshot and still hold later commits: its newest, and those
            // that were followed by another one since.
            let next = survey.found[i + 1..].iter().find(|n| n.lane == f.lane);
            if i < from && next.is_some_and(|n| n.meta.last_commit <= self.base_commit) {
                continue;
            }
            let mut content = Walker::new(disk, f.meta.id).frames(f.meta.ring, f.meta.generation, bytes);
            if content.unreadable > 0 {
                let (file, pages) = (FileId::Slot(f.meta.id), content.unreadable);
                self.report.notes.push(format!("{file}: the device does not give {pages} of its pages"));
            }
            // The frames that the snapshot contains are not played again, but the numbers that they took are taken.
            let contained = content.frames.iter().filter(|s| s.is_commit() && s.header.commit <= self.base_commit);
            let contained = contained.map(|s| (s.header.end_seq(), s.header.commit));
            if let (Some((end, commit)), Some(lane)) = (contained.max(), self.ring.lanes.get_mut(f.lane.index())) {
                lane.end.seq = lane.end.seq.max(end);
                lane.newest_commit = lane.newest_commit.max(commit);
            }
            let empty = !content.frames.iter().any(Seen::is_commit);
            let later = content.frames.drain(..).filter(|s| s.is_commit() && s.header.commit > self.base_commit);
            read.push(Scanned { found: i, empty, frames: later.collect() });
            self.ends.insert(f.meta.id, content);
        }
        self.choose(survey, &mut read);
        self.frames = read.into_iter().flat_map(|s| s.frames).collect();
        self.frames.sort_by_key(|s| (s.header.commit, std::cmp::Reverse(s.header.generation)));
        self.frames.dedup_by_key(|s| s.header.commit);
    }

    /// After a failed write a lane's frames are written again, in a slot of their own. The later slot is the one that
    /// counts, as it does for a reader, unless it has nothing: then it might as well not have been opened.
    fn choose(&mut self, survey: &Survey, read: &mut [Scanned]) {
        for lane in 0..MAX_LANES {
            let of_lane = |s: &Scanned| survey.found[s.found].lane.index() == lane;
            let mut slots: Vec<&mut Scanned> = read.iter_mut().filter(|s| of_lane(s)).collect();
            while let Some(last) = slots.pop() {
                let meta = &survey.found[last.found].meta;
                let given_up = |s: &Seen| s.header.commit > meta.last_commit;
                if last.empty && slots.iter().any(|s| s.frames.iter().any(given_up)) {
                    self.abandoned.push(meta.id);
                    self.ends.remove(&meta.id);
                    continue;
                }
                slots.iter_mut().for_each(|s| s.frames.retain(|f| !given_up(f)));
            }
        }
    }

    /// Takes away what an earlier recovery gave up: whatever stands between a frame and the one it follows.
    fn drop_dead(&mut self) {
        let mut keep = vec![false; self.frames.len()];
        let mut limit = u64::MAX;
        for (i, seen) in self.frames.iter().enumerate().rev() {
            if seen.header.commit <= limit {
                keep[i] = true;
                limit = seen.header.prev_commit;
            }
        }
        let mut keep = keep.into_iter();
        self.frames.retain(|_| keep.next().unwrap_or(true));
    }

    /// Plays the frames over the snapshot. Gives back where the slots end.
    fn run(&mut self) -> Ends {
        self.drop_dead();
        for put in std::mem::take(&mut self.base) {
            self.ring.apply(put);
        }
        self.ring.restore_own();
        let frames = std::mem::take(&mut self.frames);
        let mut synced: BTreeMap<u32, u64> = BTreeMap::new();
        for seen in &frames {
            let through = synced.entry(seen.header.session).or_default();
            *through = seen.header.synced_through.max(*through);
            // What earlier recoveries gave up stands behind where it is missing.
            seen.state.iter().flatten().for_each(|put| self.ring.sessions.restore(put));
        }
        let newest = frames.last().map_or(0, |s| s.header.session);
        let mut last: (u64, u32, [Counters; MAX_LANES]) = (self.base_commit, self.base_session, self.base_lanes);
        for seen in frames {
            let h = &seen.header;
            let through = synced.get(&h.session).copied().unwrap_or(0);
            if h.prev_commit > last.0 {
                self.hole(&last.2, &seen, through > last.0);
            }
            // What a later session stands upon was synced before that session began.
            let unsynced = h.session == newest && through < h.commit;
            let whole = seen.whole() && !(unsynced && self.lacks_topic(&seen));
            let torn = !whole && (unsynced || self.ring.sessions.torn.contains(&h.commit));
            last = (h.commit, h.session, h.lanes);
            self.take(seen, torn);
        }
        let ring = &mut self.ring;
        ring.last_commit = last.0;
        ring.writer.synced_through = last.0;
        for lane in &mut ring.lanes {
            let (found, counters) = (lane.counters, last.2[lane.id.index()]);
            let base = self.base_lanes[lane.id.index()];
            lane.counters = Counters {
                admitted: counters.admitted,
                evicted: counters.evicted,
                expired: counters.expired,
                // What was found now may have been found before, and is then in the newest frame's counters.
                corrupt: counters.corrupt.max(base.corrupt + found.corrupt),
                lost_unsynced: counters.lost_unsynced.max(base.lost_unsynced + found.lost_unsynced),
            };
        }
        ring.session = last.1.max(1);
        let through = synced.get(&last.1).copied().unwrap_or(last.0);
        ring.sessions.ended.retain(|e| e.0 != last.1);
        ring.sessions.ended.push((last.1, last.0, through));
        ring.sessions.ended.sort_unstable();
        std::mem::take(&mut self.ends)
    }

    /// Whether the frame has records of a topic that was made in a commit which is lost: then they are lost as well.
    fn lacks_topic(&self, seen: &Seen) -> bool {
        let made = seen.state.iter().flatten().filter(|p| p.owner == ring_owner()).filter_map(|p| id_of_key(&p.key));
        let made: Vec<_> = made.collect();
        let topics = &self.ring.topics;
        let known = |run: &super::format::Run| run.part.topic.0 < topics.next_id || made.contains(&run.part.topic);
        !seen.runs.iter().all(known)
    }

    /// Commits are missing before `seen`. The cumulative counters say how many records they had.
    fn hole(&mut self, before: &[Counters; MAX_LANES], seen: &Seen, synced: bool) {
        let h = &seen.header;
        for (at, before) in before.iter().enumerate() {
            let own = if h.lane.index() == at { u64::from(h.records) } else { 0 };
            let lost = h.lanes[at].admitted.saturating_sub(own).saturating_sub(before.admitted);
            if lost == 0 || at >= self.ring.lanes.len() {
                continue;
            }
            self.lose(LaneId(at as u8), before.admitted, lost, synced);
            let told = seen.prev.iter().filter(|p| p.lane.index() == at);
            if told.clone().map(|p| u64::from(p.count)).sum::<u64>() == lost {
                let ends: Vec<_> = told.map(|p| (p.part, p.first_offset + u64::from(p.count))).collect();
                ends.into_iter().for_each(|(part, end)| self.ring.topics.durable(part, end));
            } else {
                self.ring.skip_offsets(LaneId(at as u8), lost);
            }
        }
    }

    /// Counts records that are missing from the ordinal `from` on.
    fn lose(&mut self, lane: LaneId, from: u64, lost: u64, synced: bool) {
        let to = from + lost;
        let known = self.ring.sessions.lost_of(lane, from, to);
        let (corrupt, unsynced) = if synced { (lost - known, known) } else { (0, lost) };
        let counters = &mut self.ring.lanes[lane.index()].counters;
        counters.corrupt += corrupt;
        counters.lost_unsynced += unsynced;
        self.report.corrupt_records += corrupt;
        self.report.lost_unsynced += unsynced;
        if !synced {
            self.report.tail_unknown = true;
            self.ring.sessions.note_lost(lane, from, to);
        }
    }

    /// A slot that was opened when more was durable than the frames tell: what is missing was there.
    fn believe_headers(&mut self, survey: &Survey) {
        for header in survey.found.iter().filter_map(|f| f.header.as_ref()) {
            self.ring.last_commit = self.ring.last_commit.max(header.last_commit);
            for at in 0..self.ring.lanes.len() {
                let lane = LaneId(at as u8);
                let counters = &mut self.ring.lanes[at].counters;
                counters.evicted = counters.evicted.max(header.lanes[at].evicted);
                let have = counters.admitted;
                let missing = header.lanes[at].admitted.saturating_sub(have);
                if missing == 0 {
                    continue;
                }
                self.lose(lane, have, missing, true);
                self.ring.lanes[at].counters.admitted += missing;
                let starts = header.starts.iter().filter(|_| header.lane == lane);
                starts.for_each(|(part, next)| self.ring.topics.durable(*part, *next));
                if header.lane != lane || !header.starts_complete {
                    self.ring.skip_offsets(lane, missing);
                }
            }
        }
    }

    /// One frame that stands where it should.
    fn take(&mut self, seen: Seen, torn: bool) {
        let h = &seen.header;
        let records = u64::from(h.records);
        let lane = h.lane.index();
        if let Some(lane) = self.ring.lanes.get_mut(lane) {
            lane.end = LanePos { seq: h.end_seq().max(lane.end.seq), ordinal: h.end_ordinal() };
            lane.newest_commit = h.commit;
            if torn {
                lane.counters.lost_unsynced += records;
                self.report.lost_unsynced += records;
                self.report.tail_unknown = true;
                self.ring.sessions.note_lost(h.lane, h.first_ordinal(), h.end_ordinal());
            } else if !seen.payload_ok {
                lane.counters.corrupt += records;
                self.report.corrupt_records += records;
            }
        }
        self.ring.boot = self.ring.boot.max(h.boot);
        self.ring.next_seq = self.ring.next_seq.max(h.end_seq());
        // The entries first: a topic may be made in the frame that has its first records.
        match seen.state {
            _ if torn => _ = self.ring.sessions.torn.insert(h.commit),
            Some(puts) => puts.into_iter().for_each(|put| self.ring.apply(put)),
            None => self.report.notes.push(format!("the state entries of commit {} are damaged and lost", h.commit)),
        }
        for run in &seen.runs {
            if !torn {
                self.ring.topics.next_id = self.ring.topics.next_id.max(run.part.topic.0.saturating_add(1));
            }
            self.ring.topics.restore(run.part, run.end_offset());
        }
        if seen.runs.is_empty() && records > 0 {
            self.ring.skip_offsets(h.lane, records);
        }
    }

    /// The slot table, the numbers to go on with, the place to go on at.
    fn finish(&mut self, survey: &Survey, ends: &Ends, hint: bool) {
        self.believe_headers(survey);
        let clean = hint && survey.root.is_some_and(|r| r.commit == self.ring.last_commit);
        self.report.clean_shutdown = clean;
        let ring = &mut *self.ring;
        ring.restore_own();
        for f in &survey.found {
            ring.slots.next_generation = ring.slots.next_generation.max(f.meta.generation + 1);
            ring.next_seq = ring.next_seq.max(f.meta.first.seq);
            if self.abandoned.contains(&f.meta.id) {
                ring.slots.free.push(f.meta.id);
            } else if let Some(lane) = ring.lanes.get_mut(f.lane.index()) {
                let sound = f.meta.sound && !self.unsound.contains(&f.meta.id);
                lane.slots.push_back(SlotMeta { sound, ..f.meta.clone() });
            }
        }
        for lane in &mut ring.lanes {
            if let Some(last) = lane.slots.back() {
                lane.end.seq = lane.end.seq.max(last.first.seq);
                let content = ends.get(&last.id);
                let end = content.map_or(last.end, |c| c.end);
                let at = if clean { end } else { end.next_multiple_of(RESUME_AT) };
                let header = survey.found.iter().find(|f| f.meta.id == last.id).and_then(|f| f.header.as_ref());
                // Nothing more goes into a slot that recovery might not find again, or of a newer program that this one
                // may read and not add to.
                let ours = header.is_some_and(|h| h.read_only == 0) && !ring.slots.short.contains(&last.id);
                lane.write_at = (ours && at < ring.slots.slot_bytes).then_some(at);
                self.report.tail_unknown |= content.is_some_and(|c| c.damaged_headers > 0) && !clean;
            }
            lane.end.ordinal = lane.counters.admitted;
            ring.next_seq = ring.next_seq.max(lane.end.seq);
            lane.durable = lane.end;
            // What was evicted stays evicted, also where its slot was never written over.
            let headers = survey.found.iter().filter_map(|f| f.header.as_ref());
            let oldest = headers.map(|h| h.oldest[lane.id.index()]).max().unwrap_or(0);
            for at in (1..lane.slots.len()).rev() {
                // Where a header is lost, the first frame that can be read need not be the first one.
                let next = lane.slots[at].first;
                lane.slots[at - 1].first = lane.slots[at - 1].first.min(next);
            }
            while lane.slots.len() > 1 && lane.slot_end(0).ordinal <= oldest {
                ring.slots.free.extend(lane.slots.pop_front().map(|gone| gone.id));
            }
            lane.refresh_oldest();
        }
        ring.next_commit = ring.last_commit + if clean { 1 } else { SKIP_COMMITS };
        if clean {
            return;
        }
        ring.next_seq += SKIP_SEQS;
        ring.topics.skip_reserved();
        if let Some((session, last, through)) = ring.sessions.ended.last().copied() {
            let mut value = Vec::new();
            super::wire::append(&mut value, &(last, through));
            ring.put_fact(&session_key(session), &value);
        }
        for commit in ring.sessions.torn.clone() {
            ring.put_fact(&torn_key(commit), &[]);
        }
        if ring.sessions.has_lost() {
            let lanes = &ring.lanes;
            let lost = ring.sessions.encode_lost(|lane| lanes.get(lane as usize).map_or(0, |l| l.oldest.ordinal));
            ring.put_fact(b"u", &lost);
        }
    }
}

impl Ring {
    /// What recovery found to be so. It is true whether or not it is written: the next snapshot has it even if the
    /// frame that carries it is never seen again.
    fn put_fact(&mut self, key: &[u8], value: &[u8]) {
        self.state.restore(Put { owner: ring_owner(), key: key.into(), value: Some(value.into()) });
        self.put_own(key, Some(value));
    }

    fn apply(&mut self, put: Put) {
        if put.owner == ring_owner()
            && let Some(id) = id_of_key(&put.key)
        {
            match put.value.as_deref() {
                Some(bytes) => {
                    if let Some(mut topic) = Topic::decode(id, bytes) {
                        for (i, part) in topic.parts.iter_mut().enumerate() {
                            let id = TopicPart { topic: id, partition: i as u8 };
                            let known = self.topics.part(id).map_or(0, |p| p.info.next);
                            part.info.next = part.info.next.max(known);
                            part.info.durable_end = part.info.next;
                        }
                        self.topics.insert(topic);
                    }
                }
                None => _ = self.topics.remove(id),
            }
        }
        self.state.restore(put);
    }

    /// What the ring keeps as entries of its own, apart from topics.
    fn restore_own(&mut self) {
        let own = ring_owner();
        if let Some(next) = self.state.newest(&own, b"n").and_then(|v| v.try_into().ok()) {
            self.topics.next_id = self.topics.next_id.max(u16::from_le_bytes(next));
        }
        if let Some(life) = self.state.newest(&own, b"l").and_then(|v| postcard::from_bytes(v).ok()) {
            self.life = life;
        }
        for (key, value) in self.state.all(&own) {
            self.sessions.restore_entry(key, value);
        }
        self.sessions.ended.sort_unstable();
    }

    /// Records of a lane are lost and nobody knows of which topics: their offsets are not used twice.
    fn skip_offsets(&mut self, lane: LaneId, records: u64) {
        for topic in self.topics.iter_mut().filter(|t| t.lane == lane) {
            for part in &mut topic.parts {
                part.info.next += records;
                part.info.durable_end = part.info.next;
            }
        }
    }
}
