//! `headwater ring verify`: every slot, every frame, every record of a ring, read and checked. Nothing is written, not
//! even by a ring that would recover: what is found can be looked at again. Where a node writes meanwhile, `live` does.
//!
//! The ring is opened to be read, which says what recovery would believe: which slots are its own, which commits it
//! gave up. Then each lane is walked in order, oldest slot first. Ordinals are dense, so that records that are not
//! met are counted exactly and, by the next frame's counts of the commit before it, told to their topics.
//!
//! Two severities. **Damage**: something that was durable, or that guards it, does not hold. **Note**: what a power
//! cut leaves behind, or files that are not ours; nothing that was acknowledged is touched.

use std::collections::BTreeSet;

use super::core::Ring;
use super::format::{Bad, FIRST_FRAME, FRAME_HEADER, FrameHeader, FrameKind, RootPage, Run, SlotHeader, SlotKind};
pub use super::found::{Counts, Finding, HeaderState, Severity, SlotCheck, Verification};
use super::journal::JournalTrail;
use super::live;
use super::recovery::{read_root, root_pages};
use super::slots::SlotMeta;
pub(super) use super::trail::{Lost, TornCopy, Trail};
use super::walk::{Cursor, Met, Seen, Walker};
use super::*;
use crate::topic::TopicPart;

/// Findings that are listed; those beyond are counted.
const MAX_FINDINGS: usize = 1000;

pub(super) const STEPPED_OVER: &str =
    "the node steps over it: nothing to do, but a card that shows more of these wants replacing";
const NOTHING: &str = "nothing to do";
pub(super) const MISSING: &str = "frames are missing";

/// Reads everything and says what holds. `progress` gets the slots done and all slots; `pause` is asked whether a node
/// may be writing meanwhile, and then waits a moment: what looks damaged is looked at again. Of frames under a key that is
/// not in `keys` the checksums are looked at alone.
pub fn verify(
    disk: &mut dyn Disk,
    keys: &Keys,
    pause: &mut dyn FnMut() -> bool,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Verification, DiskError> {
    let mut files = disk.list()?;
    files.sort_unstable();
    // What a node has written when it says so here is found by all that is read later.
    let root = read_root(disk, Formats::default());
    let looked = live::look_again(disk, keys, pause)?;
    let mut check = Check::new(disk, looked, root);
    check.root(disk);
    let all = files.len();
    let mut done = 0;
    let lanes: Vec<Vec<SlotMeta>> = check.ring.lanes.iter().map(|l| l.log.slots.iter().cloned().collect()).collect();
    let journal: Vec<SlotMeta> = check.ring.journal.slots.iter().cloned().collect();
    let own: Vec<SlotId> = lanes.iter().flatten().chain(&journal).map(|m| m.id).collect();
    let mut walked = Vec::new();
    // What one lane's writer passed by says nothing of another lane; the journal has something of each.
    let (hasty, mut anywhere) = (check.hasty, check.hasty);
    for (lane, slots) in lanes.iter().enumerate() {
        let mut trail = Trail::default();
        check.hasty = hasty;
        for (i, meta) in slots.iter().enumerate() {
            let bytes = files.iter().find(|f| f.0 == meta.id).map_or(0, |f| f.1);
            check.settled_slot(disk, pause, &mut trail, (LaneId(lane as u8), meta), slots.get(i + 1), bytes);
            done += 1;
            progress(done, all);
        }
        check.untold(&mut trail);
        walked.push(trail.ordinal.unwrap_or_else(|| check.ring.lanes[lane].dense().ordinal));
        check.tail(trail);
        anywhere |= check.hasty;
    }
    check.hasty = anywhere;
    let mut trail = JournalTrail::default();
    for (i, meta) in journal.iter().enumerate() {
        let bytes = files.iter().find(|f| f.0 == meta.id).map_or(0, |f| f.1);
        check.settled_journal(disk, pause, &mut trail, meta, journal.get(i + 1), &walked, bytes);
        done += 1;
        progress(done, all);
    }
    check.journal_end(trail, &walked);
    for (slot, bytes) in files.into_iter().filter(|f| !own.contains(&f.0)) {
        check.settled_other(disk, pause, slot, bytes);
        done += 1;
        progress(done, all);
    }
    Ok(check.finish())
}

pub(super) struct Check {
    pub(super) ring: Ring,
    pub(super) out: Verification,
    /// The last commit that the root page knows as durable.
    root_commit: u64,
    pub(super) newest_commit: u64,
    /// A node writes meanwhile.
    pub(super) live: bool,
    /// It does so faster than this reads.
    pub(super) hasty: bool,
    /// The last commit that a good snapshot contains, and where.
    snapshot: Option<(u64, SlotId)>,
}

impl Check {
    fn new(disk: &mut dyn Disk, looked: live::Looked, root: Option<RootPage>) -> Self {
        let live::Looked { ring, report, live, hasty } = looked;
        let newest = ring.own_slots().max_by_key(|s| s.generation);
        let id = newest.map(|s| s.ring);
        let root_commit = root.filter(|r| Some(r.ring) == id).map_or(0, |r| r.commit);
        let mut slots: Vec<_> = ring.own_slots().collect();
        slots.sort_unstable_by_key(|s| std::cmp::Reverse(s.generation));
        let snapshot = slots.iter().find_map(|s| {
            let (header, _) = Walker::new(disk, s.id, ring.options.reads()).snapshot(s.ring, s.generation)?;
            Some((header.commit, s.id))
        });
        let hex = id.map_or(String::new(), |id| format!("{:032x}", id.0));
        let keys = report.keys.iter().map(super::stat::key_stat).collect();
        let out = Verification { ring: hex, keys, recovery: report.notes, ..Verification::default() };
        Self { ring, out, root_commit, newest_commit: 0, live, hasty, snapshot }
    }

    fn finding(&mut self, severity: Severity, place: (FileId, u64), what: String, meaning: String, advice: &str) {
        self.out.damaged |= severity == Severity::Damage;
        if self.out.findings.len() >= MAX_FINDINGS {
            self.out.findings_left_out += 1;
            return;
        }
        let (file, at) = (place.0.to_string(), place.1);
        self.out.findings.push(Finding { severity, file, at, what, meaning, advice: advice.into() });
    }

    pub(super) fn damage(&mut self, place: (FileId, u64), what: &str, meaning: String, advice: &str) {
        self.finding(Severity::Damage, place, what.into(), meaning, advice);
    }

    pub(super) fn note(&mut self, place: (FileId, u64), what: &str, meaning: &str) {
        self.finding(Severity::Note, place, what.into(), meaning.into(), NOTHING);
    }

    /// The counts of the slot being checked.
    pub(super) fn counts(&mut self) -> &mut Counts {
        let at = self.out.slots.len() - 1;
        &mut self.out.slots[at].counts
    }

    fn root(&mut self, disk: &mut dyn Disk) {
        let bad = match root_pages(disk, self.ring.options.formats) {
            Some(pages) => pages.into_iter().filter(|(_, page)| page.is_none()).map(|(at, _)| at).collect(),
            None if self.out.ring.is_empty() => Vec::new(),
            None => vec![0],
        };
        for at in bad {
            let what = "a page of the root file cannot be read";
            self.note((FileId::Root, at), what, "it is a hint beside the slots, written again at the next start");
        }
    }

    // ---- one slot ----

    /// Puts a slot on the list.
    fn listed(
        &mut self,
        slot: SlotId,
        bytes: u64,
        own: Option<(Option<LaneId>, &SlotMeta)>,
        header: Result<SlotHeader, Bad>,
    ) -> HeaderState {
        let state = match &header {
            Ok(_) if own.is_some() => HeaderState::Ok,
            Ok(_) | Err(Bad::Version(_) | Bad::Place) => HeaderState::Foreign,
            Err(_) => HeaderState::Damaged,
        };
        let header = header.ok();
        let told = header.as_ref().filter(|h| h.kind == SlotKind::Lane).map(|h| h.lane);
        let lane = own.map_or(told, |(lane, _)| lane);
        let kind = header.as_ref().map(|h| match h.kind {
            SlotKind::Lane => "lane",
            SlotKind::Journal => "journal",
        });
        self.out.slots.push(SlotCheck {
            file: FileId::Slot(slot).to_string(),
            bytes,
            header: state,
            kind: kind.or(own.map(|(lane, _)| if lane.is_some() { "lane" } else { "journal" })),
            lane: lane.map(|lane| lane.0),
            generation: own.map(|(_, m)| m.generation).or(header.as_ref().map(|h| h.generation)),
            first_seq: own.map(|(_, m)| m.first.seq).or(header.as_ref().map(|h| h.first_seq)),
            counts: Counts::default(),
        });
        state
    }

    /// Puts one of the ring's own slots on the list: a lane's, or without a lane the journal's.
    pub(super) fn listed_own(&mut self, meta: &SlotMeta, lane: Option<LaneId>, bytes: u64, walker: &mut Walker) {
        if self.listed(meta.id, bytes, Some((lane, meta)), walker.slot_header()) == HeaderState::Damaged {
            let (place, what) = ((FileId::Slot(meta.id), 0), "the slot's header is damaged");
            let meaning = "the slot is read by what its frames say of themselves; no record is lost by this";
            // A slot was being begun over this one: its header names a generation that comes next.
            let next = meta.generation + 1..=self.ring.slots.next_generation;
            let begun_over = walker.torn_generation().is_some_and(|torn| next.contains(&torn));
            match !begun_over && self.was_synced(meta, walker) {
                true => self.damage(place, what, meaning.into(), STEPPED_OVER),
                false => {
                    self.note(place, "the slot's header was torn when the power was cut, or damaged since", meaning)
                }
            }
        }
    }

    /// Whether the first commit in a slot, and so the slot's header and snapshot, may have been synced by the process that
    /// began it.
    fn was_synced(&self, meta: &SlotMeta, walker: &mut Walker) -> bool {
        let content = walker.frames(meta.ring, meta.generation, self.ring.slots.slot_bytes);
        let own = content.frames.iter().map(|seen| &seen.header).filter(|h| h.is_commit());
        own.min_by_key(|h| h.commit).is_some_and(|first| self.ring.sessions.synced(first.session, first.commit))
    }

    pub(super) fn own_slot(
        &mut self,
        disk: &mut dyn Disk,
        trail: &mut Trail,
        own: (LaneId, &SlotMeta),
        next: Option<&SlotMeta>,
        bytes: u64,
    ) {
        let meta = own.1;
        let file = FileId::Slot(meta.id);
        let mut walker = Walker::new(disk, meta.id, self.ring.options.reads());
        self.listed_own(meta, Some(own.0), bytes, &mut walker);
        trail.ordinal.get_or_insert(meta.first.ordinal);
        let mut cursor = Cursor::new(meta.ring, meta.generation, self.ring.slots.slot_bytes);
        let mut snapshot = SnapshotCheck::default();
        while let Some(met) = walker.next(&mut cursor) {
            match met {
                Met::Damaged(at) if !snapshot.done => {
                    self.counts().damaged_headers += 1;
                    snapshot.damaged.get_or_insert(at.into());
                }
                Met::Damaged(at) => {
                    self.counts().damaged_headers += 1;
                    trail.suspects.push((file, at.into()));
                }
                Met::Frame(seen) if seen.header.kind == FrameKind::Snapshot => {
                    self.snapshot_part(&seen, &mut snapshot);
                }
                Met::Frame(seen) => {
                    snapshot.done = true;
                    let decodes = walker.decodes(&seen.header);
                    self.frame(trail, file, &seen, next, decodes);
                }
            }
        }
        self.snapshot_end(meta, &mut walker, &snapshot);
        self.unreadable(file, walker.unreadable());
    }

    /// Says so if the snapshot that a slot begins with does not hold.
    pub(super) fn snapshot_end(&mut self, meta: &SlotMeta, walker: &mut Walker, snapshot: &SnapshotCheck) {
        if snapshot.whole() {
            return;
        }
        let place = (FileId::Slot(meta.id), snapshot.damaged.unwrap_or(FIRST_FRAME.into()));
        let what = "the snapshot at the beginning of the slot";
        if !self.was_synced(meta, walker) {
            let meaning = "recovery begins at the one before, as it did before this slot was begun";
            return self.note(place, &format!("{what} was torn when the power was cut, or damaged since"), meaning);
        }
        let meaning = match self.snapshot {
            Some((_, slot)) => {
                format!("recovery begins at the snapshot of {} instead; nothing is lost", FileId::Slot(slot))
            }
            None => {
                "there is no other: cursors and checkpoints are lost as far as later frames do not have them".into()
            }
        };
        self.damage(place, &format!("{what} is damaged"), meaning, STEPPED_OVER);
    }

    pub(super) fn unreadable(&mut self, file: FileId, pages: &BTreeSet<u64>) {
        let Some(first) = pages.first() else { return };
        let bytes = pages.len() as u64 * crate::limits::PAGE as u64;
        self.counts().unreadable_bytes = bytes;
        let what = format!("the device does not give {bytes} bytes from here on");
        let advice = "copy the directory to another medium and replace this one";
        self.damage((file, *first), &what, "what stood there is lost; its records are listed apart".into(), advice);
    }

    /// A slot that the ring does not count among its own.
    pub(super) fn other_slot(&mut self, disk: &mut dyn Disk, slot: SlotId, bytes: u64) {
        let file = FileId::Slot(slot);
        let mut walker = Walker::new(disk, slot, self.ring.options.reads());
        let header = walker.slot_header();
        match self.listed(slot, bytes, None, header.clone()) {
            // A node has opened it since.
            HeaderState::Foreign if header.as_ref().is_ok_and(|header| self.is_newer(header)) => {
                let at = self.out.slots.len() - 1;
                self.out.slots[at].header = HeaderState::Ok;
            }
            HeaderState::Foreign => {
                let what = "the slot belongs to another ring, or to a later format, or is shorter than it should be";
                let meaning = "the node sets it aside, neither reads nor writes it, and counts it against the cap";
                let advice = "move the file away if nobody wants it";
                self.finding(Severity::Note, (file, 0), what.into(), meaning.into(), advice);
            }
            HeaderState::Damaged if walker.is_blank() => {
                let at = self.out.slots.len() - 1;
                self.out.slots[at].header = HeaderState::Blank;
            }
            _ => {
                let meaning = "it is used again; had it records, they are listed apart as missing".into();
                self.damage((file, 0), "the slot's header is damaged and no frame is with it", meaning, STEPPED_OVER);
            }
        }
        if let Ok(header) = header {
            let end = bytes.min(header.slot_bytes.into()) as u32;
            let mut cursor = Cursor::new(header.ring, header.generation, end);
            while let Some(met) = walker.next(&mut cursor) {
                let counts = self.counts();
                match met {
                    Met::Damaged(_) => counts.damaged_headers += 1,
                    Met::Frame(seen) if seen.whole() && walker.decodes(&seen.header) => {
                        counts.good(&seen);
                        counts.records += if seen.header.is_stub() { 0 } else { u64::from(seen.header.records) };
                    }
                    Met::Frame(_) => counts.bad_payloads += 1,
                }
            }
        }
        self.unreadable(file, walker.unreadable());
    }

    // ---- one frame ----

    pub(super) fn snapshot_part(&mut self, seen: &Seen, snapshot: &mut SnapshotCheck) {
        snapshot.parts = seen.header.parts;
        snapshot.good += u8::from(seen.state.is_some());
        snapshot.done |= seen.header.part + 1 >= seen.header.parts;
        if seen.state.is_some() {
            self.counts().good(seen);
        } else {
            self.counts().damaged_states += 1;
            snapshot.damaged.get_or_insert(place_of_state(&seen.header));
        }
    }

    fn frame(&mut self, trail: &mut Trail, file: FileId, seen: &Seen, next: Option<&SlotMeta>, decodes: bool) {
        let h = &seen.header;
        let rewritten = h.records > 0 && next.is_some_and(|n| h.first_seq >= n.first.seq);
        if rewritten || h.kind != FrameKind::Copy && self.is_dead(h) {
            self.counts().given_up += 1;
            return;
        }
        let good = seen.payload_ok && decodes;
        if !good && self.is_torn_copy(file, h) {
            return;
        }
        self.newest_commit = self.newest_commit.max(h.commit);
        let here = |at: usize| (file, u64::from(h.at) + at as u64);
        self.state_of(file, seen);
        if h.records == 0 {
            // What is before it in its lane may stand in the journal yet: it tells nothing of that.
            self.counts().good(seen);
            trail.end = Some(here(h.frame_len as usize));
            return;
        }
        if let Some(lost) = trail.untold.take() {
            self.lost(lost, Some(seen));
        }
        self.torn_copy(trail, h.first_ordinal());
        self.hole(trail, file, seen);
        // What a copy has that one before it had is there once.
        let records = h.end_ordinal() - h.first_ordinal().max(trail.ordinal.unwrap_or(0)).min(h.end_ordinal());
        if good {
            let counts = self.counts();
            *(if h.is_stub() { &mut counts.records_passed } else { &mut counts.records }) += records;
            self.counts().good(seen);
        } else {
            self.counts().bad_payloads += 1;
            let (at, what) = match (seen.payload_ok, seen.runs.is_empty()) {
                (true, _) if h.key_id() != 0 => {
                    (h.payload_at(), "a frame's checksum holds and its records do not decrypt, or not to records")
                }
                (true, _) => (h.payload_at(), "a frame's checksum holds and its records do not decode"),
                (false, false) => (h.payload_at(), "a frame's records are damaged"),
                (false, true) => (FRAME_HEADER, "a frame's directory is damaged"),
            };
            let (file, at) = here(at);
            let slot = self.out.slots.len() - 1;
            let lost = Lost { file, at, what: what.into(), records, commit: h.commit, synced: true, slot };
            let of = |r: &Run| (r.part, r.first_offset, r.end_offset());
            let parts: Vec<_> = seen.runs.iter().map(of).collect();
            if h.kind == FrameKind::Copy {
                trail.torn = Some(TornCopy { lost, parts, first: h.first_ordinal(), end: h.end_ordinal() });
                trail.end = Some(here(h.frame_len as usize));
                return;
            }
            match parts.is_empty() && records > 0 {
                true => trail.untold = Some(lost),
                false => self.tell(lost, &parts),
            }
        }
        trail.ordinal = trail.ordinal.max(Some(h.end_ordinal()));
        (trail.commit, trail.session) = (h.commit, h.session);
        trail.end = Some(here(h.frame_len as usize));
        trail.suspects.clear();
    }

    /// What comes behind a copy that does not hold begins at `first`.
    fn torn_copy(&mut self, trail: &mut Trail, first: u64) {
        let Some(TornCopy { lost, parts, first: from, end }) = trail.torn.take() else { return };
        if first <= from {
            return self.note((lost.file, lost.at), "a copy of records of the journal is damaged", "it was made again");
        }
        self.tell(lost, &parts);
        trail.ordinal = trail.ordinal.max(Some(end));
    }

    pub(super) fn state_of(&mut self, file: FileId, seen: &Seen) {
        let h = &seen.header;
        if seen.state.is_none() {
            self.counts().damaged_states += 1;
            let meaning = match self.snapshot {
                Some((commit, slot)) if commit >= h.commit => {
                    format!("the snapshot of {} has them: nothing is lost", FileId::Slot(slot))
                }
                _ => "recovery goes on with the older values: a source or sink repeats what came after".into(),
            };
            self.damage((file, place_of_state(h)), "a frame's state entries are damaged", meaning, STEPPED_OVER);
        }
    }

    /// What should stand between the frame before and this one, and does not.
    fn hole(&mut self, trail: &mut Trail, file: FileId, seen: &Seen) {
        let h = &seen.header;
        let records = h.first_ordinal().saturating_sub(trail.ordinal.unwrap_or(0));
        let found = !trail.suspects.is_empty();
        let place = trail.suspects.first().copied().or(trail.end).unwrap_or((file, FIRST_FRAME.into()));
        if records == 0 && found && trail.session == h.session {
            let meaning = "it had no records; its state entries are lost where no later frame has them".into();
            self.damage(place, "a frame's header is damaged", meaning, STEPPED_OVER);
        } else if records == 0 && found {
            self.note(place, "a frame was torn when the power was cut", "it was never acknowledged");
        } else if records > 0 {
            let what = if found { "a frame's header is damaged" } else { MISSING };
            let (from, to) = (trail.ordinal.unwrap_or(0), h.first_ordinal());
            let synced = self.ring.sessions.reason(h.lane, from, to).0 == GapReason::Corrupt;
            let slot = self.out.slots.iter().rposition(|s| s.file == place.0.to_string()).unwrap_or(0);
            let (file, at, commit) = (place.0, place.1, h.prev_commit);
            self.lost(Lost { file, at, what: what.into(), records, commit, synced, slot }, Some(seen));
        }
    }

    /// Tells a loss to its topics where the frame after it can.
    fn lost(&mut self, lost: Lost, next: Option<&Seen>) {
        let mut parts = Vec::new();
        if let Some(next) = next.filter(|n| n.header.prev_commit == lost.commit) {
            let of_lane = next.prev.iter().filter(|p| p.lane == next.header.lane);
            parts.extend(of_lane.map(|p| (p.part, p.first_offset, p.first_offset + u64::from(p.count))));
        }
        if parts.iter().map(|(_, from, to)| to - from).sum::<u64>() != lost.records {
            parts.clear();
        }
        self.tell(lost, &parts);
    }

    pub(super) fn tell(&mut self, lost: Lost, parts: &[(TopicPart, u64, u64)]) {
        let place = (lost.file, lost.at);
        let what = match parts {
            [] => format!("{} records, of topics that cannot be told, are lost", lost.records),
            _ => {
                let named: Vec<_> = parts.iter().map(|(p, from, to)| self.named(*p, *from, *to)).collect();
                format!("{} are lost", named.join(", "))
            }
        };
        if self.hasty && lost.what == MISSING {
            let meaning = format!("{what}, or were written meanwhile: the node writes faster than this reads");
            self.finding(
                Severity::Note,
                place,
                lost.what,
                meaning,
                "verify when less comes in, or with the node stopped",
            );
        } else if lost.synced {
            self.out.slots[lost.slot].counts.records_lost += lost.records;
            self.damage(place, &lost.what, format!("{what}; the node counts them as corrupt"), STEPPED_OVER);
        } else {
            let meaning = format!("{what}; they were never acknowledged and the node counts them as lost unsynced");
            self.note(place, &lost.what, &meaning);
        }
    }

    fn named(&self, part: TopicPart, from: u64, to: u64) -> String {
        match self.ring.topic(part.topic) {
            Some(t) if t.partitions.len() > 1 => {
                format!("records {from}..{to} of topic {} partition {}", t.name, part.partition)
            }
            Some(t) => format!("records {from}..{to} of topic {}", t.name),
            None => format!("records {from}..{to} of a topic that was removed (number {})", part.topic.0),
        }
    }

    // ---- the ends ----

    /// Nothing comes behind to tell more.
    fn untold(&mut self, trail: &mut Trail) {
        if let Some(lost) = trail.untold.take() {
            self.lost(lost, None);
        }
        self.torn_copy(trail, u64::MAX);
    }

    /// A lane's end: damage there cannot be told from what was never written, unless the root page knows better.
    fn tail(&mut self, trail: Trail) {
        let newest = self.root_commit > trail.commit;
        let later = self.ring.sessions.ended.last().is_some_and(|e| e.0 > trail.session);
        for place in trail.suspects {
            match later && !newest {
                true => self.note(place, "a frame was torn when the power was cut", "it was never acknowledged"),
                false => self.unknown_tail(place, newest),
            }
        }
    }

    pub(super) fn root_is_newer(&self) -> bool {
        self.root_commit > self.newest_commit
    }

    pub(super) fn unknown_tail(&mut self, place: (FileId, u64), newest: bool) {
        if newest {
            let meaning = "it may be the newest durable commit; what it held is lost".into();
            self.damage(place, "the header of a log's last frame is damaged", meaning, STEPPED_OVER);
        } else {
            let meaning = "a commit that a power cut tore, or damage to the newest one: the two cannot be told apart";
            self.note(place, "the tail of a log is unknown", meaning);
        }
    }

    fn finish(mut self) -> Verification {
        if self.root_is_newer() && self.out.rewritten == 0 {
            let meaning = format!(
                "the newest found is {}: what came after it is lost; its count is not known",
                self.newest_commit
            );
            let what = format!("commit {} was durable and is not there", self.root_commit);
            self.damage((FileId::Root, 0), &what, meaning, STEPPED_OVER);
        }
        let mut out = self.out;
        out.slots.iter().for_each(|s| out.totals.add(&s.counts));
        out.slots.sort_by(|a, b| a.file.cmp(&b.file));
        out.findings.sort_by(|a, b| (&a.file, a.at).cmp(&(&b.file, b.at)));
        out
    }
}

/// The parts of a slot's snapshot that were met.
#[derive(Default)]
pub(super) struct SnapshotCheck {
    parts: u8,
    good: u8,
    /// What comes now is no part of it.
    pub done: bool,
    /// Where the first of it that does not hold stands.
    pub damaged: Option<u64>,
}

impl SnapshotCheck {
    fn whole(&self) -> bool {
        self.parts > 0 && self.good == self.parts
    }
}

fn place_of_state(header: &FrameHeader) -> u64 {
    u64::from(header.at) + header.state_at() as u64
}
