//! From a directory to a ring, in the best way left. See [`super`] for the argument; this is its order of work.
//!
//! It reads all slot headers, then the newest slot of each lane, and decides nothing by a file's age or name. It
//! deletes and truncates nothing; what it does not understand is set aside under a note. The only thing written is
//! the root page, so that a clean shutdown counts once.

use super::batch::Press;
use super::core::{Closing, Life, Ring, slot_cap};
use super::format::{Bad, Formats, FrameHeader, FrameKind, RootPage, SlotHeader, SlotKind, flags};
use super::identity::{family, former_in, moves_in};
use super::journal::{JOURNAL, LOGS};
use super::reader::Reading;
use super::replay::Replay;
use super::sessions::Sessions;
use super::slots::{Lane, Log, SlotMeta, Slots};
use super::spill::Spill;
use super::state::Store;
use super::topics::Topics;
use super::types::Reads;
use super::walk::Walker;
use super::writer::Writer;
use super::*;
use crate::limits::{MAX_LANES, MAX_SLOT, MIN_SLOT, PAGE, TARGET_SLOTS};
use crate::time::BootTime;

/// After an unclean end writing goes on at the next such boundary: data next to an interrupted write can die.
pub(super) const RESUME_AT: u32 = 64 * 1024;
/// How often the slots are looked at again because one of them was only in the cache.
const SETTLE_TRIES: u32 = 4;

/// A slot that belongs to this ring.
#[derive(Debug)]
pub(super) struct Found {
    pub meta: SlotMeta,
    /// The log that it is of: its lane's number, or [`JOURNAL`].
    pub log: usize,
    /// None: it is damaged, and the slot is read by its frames.
    pub header: Option<SlotHeader>,
}

/// What the directory holds, before any of it is believed.
#[derive(Default)]
pub(super) struct Survey {
    pub found: Vec<Found>,
    pub existing: Vec<SlotId>,
    pub free: Vec<SlotId>,
    /// Files that do not have their full length.
    pub short: Vec<SlotId>,
    pub root: Option<RootPage>,
    pub slot_bytes: u32,
    /// The highest generation that was met, also in what is free: none is given twice.
    pub newest_generation: u64,
    /// There are slots of which nobody knows now what they hold.
    pub hidden: bool,
    /// Logs of which a slot was given up for what could be read of it now, and by no other slot's name.
    pub dead_ends: [bool; LOGS],
    pub keys: Vec<KeyUse>,
    pub notes: Vec<String>,
}

impl Survey {
    /// Records of the lane below this ordinal were evicted, as any slot header has it.
    pub(super) fn oldest(&self, lane: LaneId) -> u64 {
        let headers = self.found.iter().filter_map(|f| f.header.as_ref());
        headers.map(|h| h.oldest[lane.index()]).max().unwrap_or(0)
    }

    /// A slot of this ring is encrypted under this key; 0: it is not.
    fn uses(&mut self, id: u32, keys: &Keys) {
        match self.keys.iter_mut().find(|key| key.id == id) {
            Some(key) => key.slots += 1,
            None if id == 0 => {}
            None => self.keys.push(KeyUse { id, slots: 1, given: keys.has(id) }),
        }
    }

    /// Each slot names the one that its log was in before. What stands between them was opened in vain, and given up
    /// by the process that opened it or by a recovery.
    fn drop_unchained(&mut self) {
        let mut before = [u64::MAX; LOGS];
        let mut chained = Vec::new();
        for f in std::mem::take(&mut self.found).into_iter().rev() {
            let before = &mut before[f.log];
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

    /// The same where the header that would say so is gone, the slot's own or that of the one after it: the lane went
    /// on in the slot before.
    fn drop_dead_ends(&mut self, disk: &mut dyn Disk, formats: Formats) {
        let mut kept: Vec<Found> = Vec::new();
        let mut rest = std::mem::take(&mut self.found).into_iter();
        while let Some(f) = rest.next() {
            let next = rest.as_slice().iter().find(|n| n.log == f.log);
            let doubtful = f.header.is_none() || next.is_some_and(|n| n.header.is_none());
            let before = kept.iter().rfind(|k| k.log == f.log).filter(|_| doubtful);
            let went_on = before.is_some_and(|before| {
                let newest = newest_commit(disk, &before.meta, self.slot_bytes, formats);
                newest > newest_commit(disk, &f.meta, self.slot_bytes, formats).max(Some(f.meta.last_commit))
            });
            if went_on {
                self.free.push(f.meta.id);
                self.dead_ends[f.log] = true;
            } else {
                kept.push(f);
            }
        }
        self.found = kept;
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
            if settle_files(disk, &survey.found, options.formats, &mut report) {
                break;
            }
            survey = self::survey(disk, &options)?;
        }
        report.notes.append(&mut survey.notes);
        report.set_aside = survey.hidden;
        report.keys = std::mem::take(&mut survey.keys);
        // What cannot be read for want of a key is not damaged: nobody may count it as lost, or write over it.
        if let Some(id) = report.locked().filter(|_| write) {
            return Err(locked(id));
        }
        let mut ring = Ring::empty(options, &survey)?;
        let clean = survey.root.is_some_and(|r| r.clean);
        let Some(newest) = survey.found.last() else {
            report.fresh = true;
            if write {
                ring.begin_new();
            }
            ring.name_lanes(write, &mut report);
            return Ok((ring, report));
        };
        let binding = newest.header.as_ref().map(|h| h.binding);
        ring.id = newest.meta.ring;
        let mut replay = Replay::new(&mut ring, &mut report);
        replay.read(disk, &survey);
        if let Some(id) = replay.locked.filter(|_| write) {
            return Err(locked(id));
        }
        let ends = replay.run(disk, &survey);
        let went_back = replay.went_back();
        let found = replay.finish(disk, &survey, &ends, clean);
        report.cloned = binding.is_some_and(|b| b != ring.options.binding);
        if write {
            let ids = survey.found.iter().map(|f| f.meta.ring).collect();
            let headers = || survey.found.iter().filter_map(|f| f.header.as_ref());
            let moved = moves_in(ring.id, headers());
            ring.adopt(survey.root, ids, moved, headers().map(|h| h.session), &mut report);
            // What was found is the first frame of this process: nothing of it stands without that.
            ring.to_lanes = went_back.iter().any(|log| *log != JOURNAL);
            ring.tell(found);
            ring.name_lanes(true, &mut report);
            ring.seal_all();
            went_back.into_iter().for_each(|log| ring.begin_slot(log));
            ring.to_lanes = false;
        } else {
            ring.visit();
            ring.heed(found.clean);
            ring.name_lanes(false, &mut report);
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
        let slot_bytes = if survey.slot_bytes == 0 { fresh_slot_bytes(&options) } else { survey.slot_bytes };
        // All that a frame can name; those that are not used go when the names are known.
        let lanes: Vec<Lane> = (0..MAX_LANES).map(|i| Lane::new(LaneId(i as u8), i as u64 + 1)).collect();
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
        // In order of generation.
        let writes = options.formats.writes(survey.found.last().map(|f| f.meta.version));
        Ok(Ring {
            writes,
            id: RingId::default(),
            boot: 1,
            session: 1,
            topics: Topics::default(),
            state: Store::new(slot_bytes as usize / 4),
            stamp: lanes.len() as u64 + 1,
            lanes,
            journal: Log::default(),
            to_lanes: false,
            slots,
            press: Press::new(options.keys.clone()).map_err(zstd)?,
            writer: Writer::default(),
            reading: Reading::new(options.keys.clone()).map_err(zstd)?,
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
            budget: Default::default(),
            sessions: Sessions::default(),
            state_refused: 0,
            spill: Spill::default(),
            options,
        })
    }
}

/// The ring cannot be gone on with.
fn locked(id: u32) -> DiskError {
    let (kind, detail) = (DiskErrorKind::Locked(id), format!("encrypted under key {id:08x}, which is not here"));
    DiskError { kind, op: "read", file: "the ring".into(), detail }
}

/// Of a new ring's slots.
fn fresh_slot_bytes(options: &Options) -> u32 {
    let target = (options.max_bytes.saturating_sub(ROOT_BYTES)) / TARGET_SLOTS;
    (target.clamp(MIN_SLOT, MAX_SLOT) / PAGE as u64 * PAGE as u64) as u32
}

// ---------------------------------------------------------------------------------------------- survey

/// The pages of the root file that were ever written, each with the byte where it begins; None for one that is damaged.
pub(super) fn root_pages(disk: &mut dyn Disk, formats: Formats) -> Option<Vec<(u64, Option<RootPage>)>> {
    let mut buf = vec![0; ROOT_BYTES as usize];
    let n = disk.read(FileId::Root, 0, &mut buf).ok()?;
    let pages = buf[..n].chunks(PAGE).zip([0, PAGE as u64]).filter(|(page, _)| page.iter().any(|b| *b != 0));
    Some(pages.map(|(page, at)| (at, RootPage::parse(page, formats))).collect())
}

pub(super) fn read_root(disk: &mut dyn Disk, formats: Formats) -> Option<RootPage> {
    root_pages(disk, formats)?.into_iter().filter_map(|(_, page)| page).max_by_key(|p| p.serial)
}

fn survey(disk: &mut dyn Disk, options: &Options) -> Result<Survey, DiskError> {
    let mut files = disk.list()?;
    files.sort_unstable();
    let mut survey = Survey { root: read_root(disk, options.formats), ..Survey::default() };
    survey.existing = files.iter().map(|f| f.0).collect();
    let lengths = files.clone();
    let mut good: Vec<SlotHeader> = Vec::new();
    let mut lost: Vec<(SlotId, u64)> = Vec::new();
    for (slot, len) in files {
        let mut walker = Walker::new(disk, slot, options.reads());
        match walker.slot_header() {
            Ok(header) => {
                if u64::from(header.slot_bytes) > len {
                    survey.notes.push(format!("{}: shorter than its header says", FileId::Slot(slot)));
                }
                good.push(header);
            }
            Err(bad @ (Bad::Version(_) | Bad::Place)) => {
                survey.hidden = true;
                survey.notes.push(format!("{}: {bad}; set aside", FileId::Slot(slot)));
            }
            Err(_) => lost.push((slot, len)),
        }
    }
    let newest = good.iter().max_by_key(|h| h.generation);
    survey.slot_bytes = newest.map_or(0, |h| h.slot_bytes);
    let family = newest.map(|h| family(disk, options.reads(), h.ring, &good)).unwrap_or_default();
    for header in good {
        survey.newest_generation = survey.newest_generation.max(header.generation);
        let own = family.contains(&header.ring) || header.binding == options.binding;
        if own && header.slot_bytes == survey.slot_bytes {
            survey.uses(header.key_id, &options.keys);
            let log = if header.kind == SlotKind::Journal { JOURNAL } else { header.lane.index() };
            survey.found.push(Found { meta: meta_of(&header), log, header: Some(header) });
        } else {
            survey.hidden = true;
            survey.notes.push(format!("{}: belongs to another ring; set aside", FileId::Slot(header.slot)));
        }
    }
    let mut unreadable: Vec<SlotId> = Vec::new();
    for (slot, len) in lost {
        if !headerless(disk, options.reads(), (slot, len), &family, &mut survey) {
            survey.notes.push(format!("{}: cannot be read; set aside", FileId::Slot(slot)));
            unreadable.push(slot);
        }
    }
    survey.hidden |= !unreadable.is_empty();
    if survey.slot_bytes == 0 && !survey.found.is_empty() {
        survey.slot_bytes = slot_bytes_without_header(survey.root.as_ref(), &lengths, options);
    }
    if survey.found.is_empty() && !unreadable.is_empty() {
        // What cannot be read now may hold everything: not the moment to begin anew over it.
        return Err(DiskError {
            kind: DiskErrorKind::Io,
            op: "read",
            file: FileId::Slot(unreadable[0]).to_string(),
            detail: format!("none of {} slots can be read", unreadable.len()),
        });
    }
    survey.found.sort_by_key(|f| f.meta.generation);
    survey.drop_unchained();
    survey.drop_dead_ends(disk, options.formats);
    // A creation that failed half-way.
    let whole = u64::from(survey.slot_bytes);
    survey.short.extend(lengths.iter().filter(|f| f.1 < whole).map(|f| f.0));
    Ok(survey)
}

/// The root or the files tell how large slots are, unless the files' creation was torn as well.
fn slot_bytes_without_header(root: Option<&RootPage>, files: &[(SlotId, u64)], options: &Options) -> u32 {
    let whole = |bytes: &u64| (MIN_SLOT..=MAX_SLOT).contains(bytes) && bytes.is_multiple_of(PAGE as u64);
    let root = root.map(|root| u64::from(root.slot_bytes));
    let longest = files.iter().map(|(_, len)| *len).max();
    let told = root.filter(whole).or(longest.filter(whole));
    told.map_or_else(|| fresh_slot_bytes(options), |bytes| bytes as u32)
}

fn meta_of(header: &SlotHeader) -> SlotMeta {
    let ordinal = match header.kind {
        SlotKind::Lane => header.lanes[header.lane.index()].admitted - header.uncopied,
        SlotKind::Journal => 0,
    };
    SlotMeta {
        id: header.slot,
        generation: header.generation,
        version: header.version,
        ring: header.ring,
        first: LanePos { seq: header.first_seq, ordinal },
        opened: Some((header.boot, BootTime(header.opened_at))),
        last_commit: header.last_commit,
        end: header.slot_bytes,
        starts: header.starts.clone().into(),
        starts_complete: header.starts_complete,
        sound: true,
        ends: Default::default(),
    }
}

/// A slot whose header cannot be read is read at its frames' highest generation. False when the device does not tell
/// what it holds. `family`: ids under which slots of this ring may stand.
fn headerless(
    disk: &mut dyn Disk,
    reads: Reads<'_>,
    (slot, len): (SlotId, u64),
    family: &[RingId],
    survey: &mut Survey,
) -> bool {
    let file = FileId::Slot(slot);
    let len = len.min(MAX_SLOT) as u32;
    let mut walker = Walker::new(disk, slot, reads);
    let Some((ring, generation)) = walker.newest_generation(len) else {
        if !walker.unreadable().is_empty() {
            return false;
        }
        if !walker.is_blank() {
            survey.notes.push(format!("{file}: holds nothing readable; used again"));
        }
        survey.free.push(slot);
        return true;
    };
    survey.newest_generation = survey.newest_generation.max(generation);
    let content = walker.frames(ring, generation, len);
    // What stands in a lane's snapshot may come behind it as a copy.
    let tells = |h: &FrameHeader| matches!(h.kind, FrameKind::Snapshot | FrameKind::Journal) || h.records > 0;
    let told = content.frames.iter().filter(|s| tells(&s.header));
    let first = told.min_by_key(|s| s.header.first_ordinal());
    let Some(header) = first.map(|s| &s.header) else {
        survey.free.push(slot);
        return true;
    };
    let journal = |h: &FrameHeader| h.kind == FrameKind::Journal || h.flags & flags::IN_JOURNAL != 0;
    let log = if content.frames.iter().any(|s| journal(&s.header)) { JOURNAL } else { header.lane.index() };
    let here = |id: &RingId| survey.found.iter().any(|f| f.meta.ring == *id);
    // The only slot under a new id: its own snapshot names the ones before.
    let mut follows = || walker.snapshot(ring, generation).is_some_and(|(_, puts)| former_in(puts).iter().any(here));
    let known = family.contains(&ring) || here(&ring) || follows();
    if !known && !survey.found.is_empty() {
        survey.notes.push(format!("{file}: belongs to another ring; set aside"));
        return true;
    }
    survey.notes.push(format!("{file}: its header is damaged; read by its frames"));
    survey.uses(header.key_id(), reads.0);
    let meta = SlotMeta {
        id: slot,
        generation,
        version: header.version,
        ring,
        first: LanePos { seq: header.first_seq, ordinal: if log == JOURNAL { 0 } else { header.first_ordinal() } },
        opened: None,
        last_commit: if header.kind == FrameKind::Snapshot { header.commit } else { header.prev_commit },
        end: len,
        starts: Box::default(),
        starts_complete: false,
        sound: false,
        ends: Default::default(),
    };
    survey.found.push(Found { meta, log, header: None });
    true
}

fn newest_commit(disk: &mut dyn Disk, slot: &SlotMeta, slot_bytes: u32, formats: Formats) -> Option<u64> {
    let mut walker = Walker::new(disk, slot.id, (&Keys::default(), formats));
    walker.frames(slot.ring, slot.generation, slot_bytes).newest_commit()
}

/// After a crash of the process the page cache may hold what the device never got: the slots that could hold the newest
/// commits of each lane are synced and dropped from the cache before they are believed. False when one of them is not
/// what it seemed to be.
fn settle_files(disk: &mut dyn Disk, found: &[Found], formats: Formats, report: &mut Report) -> bool {
    let mut same = true;
    for at in 0..LOGS {
        let mut newest: Option<u64> = None;
        for f in found.iter().rev().filter(|f| f.log == at) {
            let file = FileId::Slot(f.meta.id);
            // After a failed sync the cache shows what the device never got: then above all it must not be believed.
            for done in [disk.sync(file), disk.drop_cache(file)] {
                if let Err(error) = done {
                    report.notes.push(format!("before recovery: {error}"));
                }
            }
            let header = Walker::new(disk, f.meta.id, (&Keys::default(), formats)).slot_header().ok();
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
