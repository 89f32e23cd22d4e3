//! The second half of recovery: the commits later than the newest snapshot are played again, in their order, and what is
//! missing between them is counted and given a reason.
//!
//! Memory: the directories and the state sections of these commits, as they are stored, so no more than the slots have
//! that are read; sections are decoded one at a time.

use std::collections::{BTreeMap, BTreeSet};

use super::core::{Life, Ring, SKIP_COMMITS, SKIP_SEQS};
use super::facts::Findings;
use super::format::{Counters, FrameKind, SlotKind, flags};
use super::journal::{JOURNAL, LOGS, Rejoin, log_of};
use super::recovery::{RESUME_AT, Survey};
use super::sessions::Held;
use super::slots::SlotMeta;
use super::state::Put;
use super::unpack::Unpack;
use super::walk::{Seen, SlotContent, Walker};
use super::*;
use crate::limits::MAX_LANES;
use crate::topic::TopicId;

/// Where each lane's newest slot ends, by slot.
pub(super) type Ends = BTreeMap<SlotId, SlotContent>;

/// The commits of one slot that are later than the snapshot.
struct Scanned {
    /// Its place among the slots found.
    found: usize,
    /// Its newest commit, in the snapshot or not; None: it has no commit at all.
    newest: Option<u64>,
    frames: Vec<Seen>,
}

pub(super) struct Replay<'a> {
    ring: &'a mut Ring,
    report: &'a mut Report,
    /// Entries of the base snapshot, and the commit that it contains.
    base: Vec<Put>,
    base_commit: u64,
    base_session: u32,
    base_lanes: [Counters; MAX_LANES],
    frames: Vec<Seen>,
    ends: Ends,
    /// Commits, from and to, whose state entries are lost although they were synced.
    forgotten: Vec<(u64, u64)>,
    /// Opened in vain: what they were opened for stands in the slot before.
    abandoned: Vec<SlotId>,
    /// What an earlier recovery found was lost since, and found again.
    again: bool,
    /// Logs that go on from an older slot than their newest.
    went_back: [bool; LOGS],
    rejoin: Rejoin,
    /// Copies that were made since the snapshot.
    copies: Life,
    /// Topics that are in another lane than their entries say.
    moved: BTreeSet<TopicId>,
    /// Their snapshots are damaged.
    unsound: Vec<SlotId>,
    /// The boots in which the frames of a slot were written, of those slots of which every page was read.
    boots: BTreeMap<SlotId, BTreeSet<u32>>,
    unpack: Unpack,
    /// A key that is not here and that what was read is encrypted under.
    pub locked: Option<u32>,
}

impl<'a> Replay<'a> {
    pub fn new(ring: &'a mut Ring, report: &'a mut Report) -> Self {
        Self {
            ring,
            report,
            base: Vec::new(),
            base_commit: 0,
            base_session: 0,
            base_lanes: Default::default(),
            frames: Vec::new(),
            ends: BTreeMap::new(),
            forgotten: Vec::new(),
            abandoned: Vec::new(),
            again: false,
            went_back: [false; LOGS],
            rejoin: Rejoin::default(),
            copies: Life::default(),
            moved: BTreeSet::new(),
            unsound: Vec::new(),
            boots: BTreeMap::new(),
            unpack: Unpack::default(),
            locked: None,
        }
    }

    /// Finds the newest good snapshot and reads every frame since.
    pub fn read(&mut self, disk: &mut dyn Disk, survey: &Survey) {
        let (bytes, keys) = (self.ring.slots.slot_bytes, self.ring.options.keys.clone());
        let reads = (&keys, self.ring.options.formats);
        self.went_back = survey.dead_ends;
        let mut from = 0;
        for (i, f) in survey.found.iter().enumerate().rev() {
            let snapshot = Walker::new(disk, f.meta.id, reads).snapshot(f.meta.ring, f.meta.generation);
            if let Some((header, puts)) = snapshot {
                (from, self.base, self.base_commit, self.base_lanes) = (i, puts, header.commit, header.lanes);
                self.base_session = header.session;
                self.rejoin = Rejoin::new(&mut self.base, &self.base_lanes);
                break;
            }
            let file = FileId::Slot(f.meta.id);
            self.report.notes.push(format!("{file}: its snapshot is damaged; the one before it is used"));
            self.unsound.push(f.meta.id);
        }
        let mut read: Vec<Scanned> = Vec::new();
        // Lanes of which all that is older is in the snapshot.
        let mut bounded = [false; LOGS];
        for (i, f) in survey.found.iter().enumerate().rev() {
            // Another lane's slot may be older than the snapshot and still hold later commits: its newest, and those
            // that were followed by another one since. One that was opened in vain bounds nothing.
            let bounded = &mut bounded[f.log];
            let next = survey.found[i + 1..].iter().find(|n| n.log == f.log);
            let wanted = f.log == JOURNAL && self.rejoin.wants(next.and_then(|n| n.header.as_ref()));
            if i < from && *bounded && !wanted {
                continue;
            }
            let mut content = Walker::new(disk, f.meta.id, reads).frames(f.meta.ring, f.meta.generation, bytes);
            self.locked = self.locked.or(content.locked);
            if content.unreadable > 0 {
                let (file, pages) = (FileId::Slot(f.meta.id), content.unreadable);
                self.report.notes.push(format!("{file}: the device does not give {pages} of its pages"));
            }
            if content.unreadable == 0 && content.damaged_headers == 0 {
                self.boots.insert(f.meta.id, content.frames.iter().map(|s| s.header.boot).collect());
            }
            // The frames that the snapshot contains are not played again, but the numbers that they took are taken.
            let contained = content.frames.iter().filter(|s| s.is_commit() && s.header.commit <= self.base_commit);
            for h in contained.map(|s| &s.header) {
                if let Some(lane) = self.ring.lanes.get_mut(h.lane.index()) {
                    lane.end.seq = lane.end.seq.max(h.end_seq());
                }
                let log = self.ring.log_mut(f.log);
                log.newest_commit = log.newest_commit.max(h.commit);
            }
            self.rejoin.note(f.log, &content.frames);
            let copies = content.frames.iter().filter(|s| s.header.kind == FrameKind::Copy);
            let since = copies.filter(|s| s.header.commit > self.base_commit);
            since.for_each(|s| self.copies.add_copy(&s.header));
            let newest = content.newest_commit();
            // Of two slots begun at the commit of the snapshot, the older may hold copies that it does not know of.
            *bounded |= newest.is_some() && f.meta.last_commit <= self.base_commit && i <= from;
            let later = content.frames.drain(..).filter(|s| s.is_commit() && s.header.commit > self.base_commit);
            read.push(Scanned { found: i, newest, frames: later.collect() });
            self.ends.insert(f.meta.id, content);
        }
        read.reverse();
        self.choose(survey, &mut read);
        self.rejoin.settle(survey, &self.abandoned);
        self.frames = read.into_iter().flat_map(|s| s.frames).collect();
        self.frames.sort_by_key(|s| (s.header.commit, std::cmp::Reverse(s.header.generation)));
        self.frames.dedup_by_key(|s| s.header.commit);
    }

    /// After a failed write a lane's frames are written again, in a slot of their own. The later slot is the one that
    /// counts, as it does for a reader, unless it has nothing: then it might as well not have been opened.
    fn choose(&mut self, survey: &Survey, read: &mut [Scanned]) {
        for log in 0..LOGS {
            let of_log = |s: &Scanned| survey.found[s.found].log == log;
            let mut slots: Vec<&mut Scanned> = read.iter_mut().filter(|s| of_log(s)).collect();
            while let Some(last) = slots.pop() {
                let meta = &survey.found[last.found].meta;
                let given_up = |s: &Seen| s.header.commit > meta.last_commit;
                if last.newest.is_none() && slots.iter().any(|s| s.newest > Some(meta.last_commit)) {
                    self.abandoned.push(meta.id);
                    self.went_back[log] = true;
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
    pub fn run(&mut self, disk: &mut dyn Disk, survey: &Survey) -> Ends {
        self.drop_dead();
        for put in std::mem::take(&mut self.base) {
            self.ring.apply(put);
        }
        self.ring.restore_own();
        self.ring.life.add_all(&self.copies);
        let frames = std::mem::take(&mut self.frames);
        let mut synced: BTreeMap<u32, u64> = BTreeMap::new();
        for seen in &frames {
            let through = synced.entry(seen.header.session).or_default();
            *through = seen.header.synced_through.max(*through);
            // What earlier recoveries gave up stands behind where it is missing.
            let sessions = &mut self.ring.sessions;
            seen.state.iter().for_each(|state| _ = state.puts(&mut self.unpack, |put| sessions.restore(&put)));
        }
        self.rejoin.judge(&self.ring.sessions, &frames);
        let newest = self.newest_session(&frames, &synced);
        let untold = self.untold(&frames);
        self.again = !untold.is_empty();
        let mut broken = false;
        let mut last: (u64, u32, [Counters; MAX_LANES]) = (self.base_commit, self.base_session, self.base_lanes);
        for seen in frames {
            let h = &seen.header;
            let through = synced.get(&h.session).copied().unwrap_or(0);
            if h.prev_commit > last.0 {
                self.hole(&last.2, &seen, through > last.0);
                self.forgotten.extend((through > last.0).then_some((last.0 + 1, h.prev_commit)));
            }
            // What a later session stands upon was synced before that session began. Of what was not, whatever follows
            // lost state entries is given up with them: a topic or a sink's beginning may have been there.
            let untold = untold.get(&h.session);
            let again = untold.is_some_and(|(_, lost)| h.records == 0 || lost[h.lane.index()]);
            let unsynced = (h.session >= newest || again) && through < h.commit;
            let missing = h.session > newest || h.prev_commit > last.0.max(through);
            broken &= h.session == last.1;
            broken |= unsynced && (missing || !seen.whole() && h.state_raw > 0);
            let torn = unsynced && (broken || !seen.whole()) || self.ring.sessions.torn.contains_key(&h.commit);
            last = (h.commit, h.session, h.lanes);
            self.take(seen, torn);
        }
        for (session, commit) in untold.iter().map(|(s, u)| (*s, u.0)).chain([(last.1, last.0)]) {
            let through = synced.get(&session).copied().unwrap_or(commit);
            let ended = &mut self.ring.sessions.ended;
            ended.retain(|e| e.0 != session);
            ended.push((session, commit, through));
        }
        self.ring.sessions.ended.sort_unstable();
        self.rebuild_tails(disk, survey);
        self.take_numbers(&last);
        std::mem::take(&mut self.ends)
    }

    /// What stands in the journal alone comes back into memory; what of it is not there was durable.
    fn rebuild_tails(&mut self, disk: &mut dyn Disk, survey: &Survey) {
        let kept = survey.found.iter().filter(|f| !self.abandoned.contains(&f.meta.id));
        let own = |lane: LaneId| kept.clone().filter(move |f| f.log == lane.index()).map(|f| f.meta.first.ordinal);
        for (lane, from, to) in self.rejoin.rebuild(disk, self.ring, |lane| own(lane).min().unwrap_or(0)) {
            // What the snapshot knew may be evicted since: its copy stood in the slot that was begun anew.
            let from = from.max(survey.oldest(lane));
            self.lose(lane, from, to.saturating_sub(from), true);
        }
    }

    /// Of the last commit that is there: its number, session and counters.
    fn take_numbers(&mut self, last: &(u64, u32, [Counters; MAX_LANES])) {
        let ring = &mut self.ring;
        ring.last_commit = last.0;
        ring.writer.synced_through = last.0;
        for lane in &mut ring.lanes {
            let (found, counters) = (lane.counters, last.2[lane.id.index()]);
            let base = self.base_lanes[lane.id.index()];
            lane.counters = Counters {
                // What stands in the journal was admitted, whatever a later frame says.
                admitted: lane.tail.end().map_or(0, |end| end.ordinal).max(counters.admitted),
                evicted: counters.evicted,
                expired: counters.expired,
                // What was found now may have been found before, and is then in the newest frame's counters.
                corrupt: counters.corrupt.max(base.corrupt + found.corrupt),
                lost_unsynced: counters.lost_unsynced.max(base.lost_unsynced + found.lost_unsynced),
            };
        }
        ring.session = last.1.max(1);
    }

    /// The newest process that got as far as writing what its recovery found. Of a later one nothing counts: the next
    /// recovery judges as that one did, from the same evidence.
    fn newest_session(&self, frames: &[Seen], synced: &BTreeMap<u32, u64>) -> u32 {
        let stands = |s: &&Seen| {
            let h = &s.header;
            let begins = h.flags & flags::SESSION_START != 0 && s.whole();
            begins || synced.get(&h.session).is_some_and(|through| *through >= h.commit)
        };
        frames.iter().rev().find(stands).map_or(self.base_session, |s| s.header.session.max(self.base_session))
    }

    /// Processes of which nobody tells any more what a recovery found at their end, since its first frame is damaged:
    /// their last commit, and in which lanes records were given up, as the counters of all later frames have it. Where
    /// none were, what is broken now became so later and is no reason to give up what was found good then.
    fn untold(&self, frames: &[Seen]) -> BTreeMap<u32, (u64, [bool; MAX_LANES])> {
        let mut untold = BTreeMap::new();
        let mut last: (u64, u32, &[Counters; MAX_LANES]) = (self.base_commit, self.base_session, &self.base_lanes);
        for h in frames.iter().map(|s| &s.header) {
            // After a clean end there is nothing to tell, and no number is skipped.
            let unclean = h.session > last.1 && h.commit - last.0 >= SKIP_COMMITS;
            if unclean && self.ring.sessions.ended.iter().all(|e| e.0 != last.1) {
                let lost = |at: usize| h.lanes[at].lost_unsynced > last.2[at].lost_unsynced;
                // The frame that said it names at least the last commit that it stands upon.
                let first = h.flags & flags::SESSION_START != 0;
                let end = if first { h.prev_commit.max(last.0) } else { last.0 };
                untold.insert(last.1, (end, std::array::from_fn(lost)));
            }
            last = (h.commit, h.session, &h.lanes);
        }
        untold
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
        // What a copy has is not lost.
        for (from, to) in self.rejoin.uncopied(lane, from, from + lost) {
            self.lose_all(lane, from, to, synced);
        }
    }

    fn lose_all(&mut self, lane: LaneId, from: u64, to: u64, synced: bool) {
        let lost = to - from;
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
    /// And so does a copy, of what the journal has no more.
    fn believe_headers(&mut self, disk: &mut dyn Disk, survey: &Survey) {
        for header in survey.found.iter().filter_map(|f| f.header.as_ref()) {
            self.believe_commit(header.last_commit);
            header.starts.iter().for_each(|(part, _)| self.ring.topics.taken(part.topic));
            for at in 0..self.ring.lanes.len() {
                let lane = LaneId(at as u8);
                let missing = self.believe_counters(lane, &header.lanes[at]);
                if missing == 0 {
                    continue;
                }
                let own = header.lane == lane && header.kind == SlotKind::Lane;
                let starts = header.starts.iter().filter(|_| own);
                starts.for_each(|(part, next)| self.ring.topics.durable(*part, *next));
                if !own || !header.starts_complete || header.uncopied > 0 {
                    self.ring.skip_offsets(lane, missing);
                }
            }
        }
        for (copy, runs) in self.rejoin.newest(disk, self.ring.options.reads()) {
            self.believe_commit(copy.commit);
            runs.iter().for_each(|run| self.ring.topics.taken(run.part.topic));
            for at in 0..self.ring.lanes.len() {
                let missing = self.believe_counters(LaneId(at as u8), &copy.lanes[at]);
                if missing > 0 {
                    self.ring.skip_offsets(LaneId(at as u8), missing);
                }
            }
            if let Some(lane) = self.ring.lanes.get_mut(copy.lane.index()) {
                lane.end.seq = lane.end.seq.max(copy.end_seq());
                runs.iter().for_each(|run| self.ring.topics.durable(run.part, run.end_offset()));
            }
        }
    }

    fn believe_commit(&mut self, commit: u64) {
        if commit > self.ring.last_commit {
            self.forgotten.push((self.ring.last_commit + 1, commit));
            self.ring.last_commit = commit;
        }
    }

    /// Gives back how many records were durable of which no frame tells.
    fn believe_counters(&mut self, lane: LaneId, told: &Counters) -> u64 {
        let counters = &mut self.ring.lanes[lane.index()].counters;
        counters.evicted = counters.evicted.max(told.evicted);
        let have = counters.admitted;
        let missing = told.admitted.saturating_sub(have);
        if missing > 0 {
            self.lose(lane, have, missing, true);
            self.ring.lanes[lane.index()].counters.admitted += missing;
        }
        missing
    }

    /// One frame that stands where it should.
    fn take(&mut self, seen: Seen, torn: bool) {
        let h = &seen.header;
        let records = u64::from(h.records);
        let lane = h.lane.index();
        // What a copy has is not lost with the journal's frame.
        let (mut first, end) = (h.first_ordinal(), h.end_ordinal());
        let lost = torn || !seen.payload_ok;
        if lost && h.kind == FrameKind::Journal && self.rejoin.uncopied(h.lane, first, end).is_empty() {
            first = end;
        }
        if let Some(lane) = self.ring.lanes.get_mut(lane) {
            lane.end = LanePos { seq: h.end_seq().max(lane.end.seq), ordinal: h.end_ordinal() };
            if torn {
                lane.counters.lost_unsynced += end - first;
                self.report.lost_unsynced += end - first;
                self.report.tail_unknown = true;
                self.ring.sessions.note_lost(h.lane, first, end);
            } else if !seen.payload_ok {
                // One that a recovery found missing, and of which a sector shows itself now, stays what it was called.
                let known = self.ring.sessions.lost_of(h.lane, first, end);
                lane.counters.lost_unsynced += known;
                lane.counters.corrupt += end - first - known;
                self.report.lost_unsynced += known;
                self.report.corrupt_records += end - first - known;
            }
        }
        self.ring.log_mut(log_of(h)).newest_commit = h.commit;
        if !torn {
            self.rejoin.passed(h);
        }
        self.ring.boot = self.ring.boot.max(h.boot);
        self.ring.next_seq = self.ring.next_seq.max(h.end_seq());
        self.ring.life.add(h);
        // The entries first: a topic may be made in the frame that has its first records.
        match seen.state {
            _ if torn => _ = self.ring.sessions.torn.insert(h.commit, h.generation),
            Some(state) => _ = state.puts(&mut self.unpack, |put| self.ring.apply(put)),
            None => {
                self.report.notes.push(format!("the state entries of commit {} are damaged and lost", h.commit));
                self.forgotten.push((h.commit, h.commit));
            }
        }
        // Of a torn commit too: it may have been acknowledged before it was torn.
        let named = seen.runs.iter().map(|r| r.part).chain(seen.prev.iter().map(|p| p.part));
        named.for_each(|part| self.ring.topics.taken(part.topic));
        for run in &seen.runs {
            if !torn && self.ring.found_moved(run, h) {
                self.moved.insert(run.part.topic);
            }
            self.ring.topics.restore(run.part, run.end_offset());
        }
        if seen.runs.is_empty() && records > 0 {
            self.ring.skip_offsets(h.lane, records);
        }
    }

    /// What the slots may hold: the ones that were read by what is in them, a lane's others by when they were begun
    /// and when the next was. A lane's newest may hold what did not show itself now.
    fn held(&self, survey: &Survey) -> Held {
        let mut held = Held { unknown: survey.hidden, first_commit: u64::MAX, ..Held::default() };
        for (i, f) in survey.found.iter().enumerate() {
            held.generations.insert(f.meta.generation);
            held.first_commit = held.first_commit.min(f.meta.last_commit);
            let Some(header) = &f.header else {
                held.unknown = true;
                continue;
            };
            let later = survey.found[i + 1..].iter().filter(|n| n.log == f.log);
            let next = later.filter(|n| !self.abandoned.contains(&n.meta.id)).find_map(|n| n.header.as_ref());
            held.sessions.push((header.session, next.map_or(u32::MAX, |n| n.session)));
            match self.boots.get(&f.meta.id) {
                Some(boots) => held.boots.extend(boots.iter().map(|b| (*b, *b))),
                None => {
                    let oldest = if header.oldest_boot == 0 { header.boot } else { header.oldest_boot };
                    held.boots.push((oldest.min(header.boot), next.map_or(u32::MAX, |n| n.boot)));
                }
            }
        }
        held
    }

    /// Logs whose newest slot was given up for what could be read of it now. A later recovery may see more of it: it must
    /// find a slot that names the one before, and that before anything stands upon this.
    pub fn went_back(&self) -> Vec<usize> {
        (0..LOGS).filter(|log| self.went_back[*log]).collect()
    }

    /// The slot table, the numbers to go on with, the place to go on at. Gives back what goes on to the next recovery.
    pub fn finish(&mut self, disk: &mut dyn Disk, survey: &Survey, ends: &Ends, hint: bool) -> Findings {
        self.believe_headers(disk, survey);
        let clean = hint && survey.root.is_some_and(|r| r.commit == self.ring.last_commit);
        self.report.clean_shutdown = clean;
        let (held, went_back) = (self.held(survey), self.went_back());
        let ring = &mut *self.ring;
        ring.beside = went_back.first().copied().filter(|log| *log != JOURNAL).unwrap_or(ring.beside);
        ring.restore_own();
        ring.forget(&held);
        // Used again first, the oldest first: what says that a slot was given up may stand in any other of those free.
        let given_up = std::mem::take(&mut ring.slots.free);
        ring.slots.next_generation = ring.slots.next_generation.max(survey.newest_generation + 1);
        for f in &survey.found {
            ring.next_seq = ring.next_seq.max(f.meta.first.seq);
            if self.abandoned.contains(&f.meta.id) {
                ring.slots.free.push(f.meta.id);
            } else {
                let sound = f.meta.sound && !self.unsound.contains(&f.meta.id);
                let ends = self.rejoin.ends_of(f.meta.id);
                ring.log_mut(f.log).slots.push_back(SlotMeta { sound, ends, ..f.meta.clone() });
            }
        }
        ring.next_seq = ring.lanes.iter().map(|l| l.end.seq).fold(ring.next_seq, u64::max);
        self.go_on(survey, ends, clean);
        let ring = &mut *self.ring;
        for lane in &mut ring.lanes {
            if lane.log.slots.is_empty() && lane.tail.is_empty() && lane.counters.admitted > 0 {
                // All of it is evicted, and nothing is left to say up to where: its next record has a higher seq.
                lane.end.seq = ring.next_seq;
            }
            if let Some(last) = lane.log.slots.back() {
                lane.end.seq = lane.end.seq.max(last.first.seq);
            }
            lane.end.ordinal = lane.counters.admitted;
            ring.next_seq = ring.next_seq.max(lane.end.seq);
            (lane.durable, lane.shown) = (lane.end, lane.end);
            // What was evicted stays evicted, also where its slot was never written over.
            let oldest = survey.oldest(lane.id);
            let dense = lane.dense();
            if let Some(last) = lane.log.slots.back_mut().filter(|last| last.first.ordinal > dense.ordinal) {
                // Its header is lost: what stood in the journal alone when it was opened comes into it.
                last.first = dense;
            }
            for at in (1..lane.log.slots.len()).rev() {
                // Where a header is lost, the first frame that can be read need not be the first one; a snapshot knows no seq.
                let next = lane.log.slots[at].first;
                let first = &mut lane.log.slots[at - 1].first;
                *first = std::cmp::min_by_key(*first, next, |pos| pos.ordinal);
            }
            while lane.log.slots.len() > 1 && lane.slot_end(0).ordinal <= oldest {
                ring.slots.free.extend(lane.log.slots.pop_front().map(|gone| gone.id));
            }
            lane.refresh_oldest();
        }
        ring.slots.free.extend(given_up);
        ring.writer.synced_through = ring.writer.synced_through.max(ring.last_commit);
        if !clean {
            ring.next_seq += SKIP_SEQS;
        }
        ring.next_commit = ring.last_commit + if clean { 1 } else { SKIP_COMMITS };
        Findings {
            clean,
            untold: !clean || self.again,
            forgotten: std::mem::take(&mut self.forgotten),
            moved: std::mem::take(&mut self.moved),
        }
    }

    /// Where each log's next frame goes.
    fn go_on(&mut self, survey: &Survey, ends: &Ends, clean: bool) {
        let ring = &mut *self.ring;
        for at in 0..LOGS {
            let Some((id, generation, end)) =
                ring.log(at).slots.back().map(|last| (last.id, last.generation, last.end))
            else {
                continue;
            };
            let content = ends.get(&id);
            let end = content.map_or(end, |c| c.end);
            let next = if clean { end } else { end.next_multiple_of(RESUME_AT) };
            let header = survey.found.iter().find(|f| f.meta.id == id).and_then(|f| f.header.as_ref());
            // Nothing more goes into a slot that recovery might not find again, that stands under a former id, or of a
            // newer program that this one may read and not add to, or is encrypted otherwise than what comes now; nor into
            // one that another was begun over: without its header what it is would be told by the newer frames.
            let key = ring.options.keys.current();
            let ours = header.is_some_and(|h| h.read_only == 0 && h.ring == ring.id && h.key_id == key);
            let ours = ours && !content.is_some_and(|c| c.begun_over);
            let ours = ours && !ring.slots.short.contains(&id) && !self.went_back[at] && next < ring.slots.slot_bytes;
            let log = ring.log_mut(at);
            (log.reach, log.write_at) = ((generation, end), ours.then_some(next));
            self.report.tail_unknown |= content.is_some_and(|c| c.damaged_headers > 0) && !clean;
        }
    }
}
