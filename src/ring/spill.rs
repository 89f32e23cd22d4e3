//! RAM-first: what nobody waits for stays in memory while every sink takes it from there.
//!
//! A batch is sealed as ever. If nobody waits for it (no state entry is in it, no source asked to be told) its frame
//! stays in the queue, and readers see it at once. When every sink has passed it, it is dropped, and a **stub** is all
//! that is kept: of each lane the counts, offsets and last seq of what was dropped. The queue is **lifted**, stubs first,
//! as soon as anything in it is waited for: then all of it is written, in order. A stub becomes a frame that has a
//! directory and no payload, so that offsets, ordinals and every count go on as if its records were there, and a reader
//! meets a gap that says why they are not.
//!
//! The queue is lifted when
//! - a frame with state entries comes (a checkpoint, cursors, a topic), or one that somebody waits for;
//! - more than [`HELD_MOST`] bytes are held: the sinks are behind;
//! - the ring is told that it is RAM-first no more (a sink is down), or is closed;
//! - more seqs or commit numbers were given than an unclean start skips, less a margin: none is ever used twice.
//!
//! Offsets that are shown before they are durable are reserved: a topic's entry has floors, and its records are shown early
//! only below those that are durable.
//!
//! **A crash** loses what is held and no sink has. Of what was dropped since the last lift nothing remains: not in the
//! counts of the lane, nor in those of the sinks, whose cursors are never durable before what they passed. A stub may be
//! durable and the cursors behind it not: a sink that finds itself before a stub has had those records, since only what
//! every known sink has passed is dropped.

use std::sync::Arc;

use super::batch::{Sealed, Stamp};
use super::core::{Closing, Ring, SKIP_COMMITS, SKIP_SEQS};
use super::format::{FrameKind, MAX_RUNS, PrevCount, Run, flags};
use super::frame::Frame;
use super::*;
use crate::limits::{MAX_LANES, MAX_UNSYNCED_BYTES};
use crate::time::BootTime;
use crate::topic::TopicPart;

/// Bytes that are held in memory before they are written after all.
const HELD_MOST: usize = MAX_UNSYNCED_BYTES / 4;
/// Offsets of a partition that are reserved at a time.
const RESERVE: u64 = 1 << 20;

/// What was dropped of one lane.
#[derive(Debug, Default)]
struct Stub {
    records: u64,
    first_ordinal: u64,
    end_seq: u64,
    first_ticket: u64,
    /// Its partitions; places in the payload are 0.
    runs: Vec<Run>,
}

#[derive(Debug, Default)]
pub(super) struct Spill {
    /// What nobody waits for is held.
    on: bool,
    /// The queue is being written, until it is empty.
    lifting: bool,
    /// Some topic is short of reserved offsets.
    scarce: bool,
    /// Somebody waits for everything up to this ticket.
    wanted: u64,
    /// Below it an earlier process may have given seqs that were shown and are not here.
    shown_before: u64,
    /// How often records were shown before they were durable.
    shown: u64,
    /// The next seq when the queue was empty last.
    written_seq: u64,
    /// And the next commit.
    written_commit: u64,
    stubs: [Stub; MAX_LANES],
    /// Commit numbers of what was dropped: the one before the first, and the last.
    commits: Option<(u64, u64)>,
    /// What the commit before the first had.
    prev: Vec<PrevCount>,
}

impl Spill {
    /// The oldest ticket of what was dropped and is not yet told.
    pub fn first_ticket(&self) -> Option<Ticket> {
        self.stubs.iter().filter(|s| s.records > 0).map(|s| Ticket(s.first_ticket)).min()
    }

    fn has_stubs(&self) -> bool {
        self.commits.is_some()
    }
}

impl Ring {
    /// Whether what nobody waits for stays in memory: while every sink takes it at once.
    pub fn set_ram_first(&mut self, on: bool) {
        if self.spill.on == on {
            return;
        }
        self.spill.on = on;
        self.spill.lifting = true;
        (self.spill.written_seq, self.spill.written_commit) = (self.next_seq, self.next_commit);
        self.spill.scarce = on;
    }

    /// Whether it is so now.
    pub fn is_ram_first(&self) -> bool {
        self.spill.on
    }

    /// Whether what is given goes to the disk soon: it is not held, as far as can be seen now.
    pub fn is_writing(&self) -> bool {
        !self.spill.on || self.spill.lifting
    }

    /// Grows when records are shown that are not durable yet.
    pub fn times_shown(&self) -> u64 {
        self.spill.shown
    }

    /// Bytes that are held in memory and not on their way to the disk.
    pub fn held_bytes(&self) -> usize {
        if self.is_held() { self.queue_weight } else { 0 }
    }

    /// At a start: where records were shown before they were durable, all that was ever given stands below the next seq.
    pub(super) fn note_shown_before(&mut self) {
        let reserves = self.topics.iter().flat_map(|t| &t.parts).any(|p| p.floor > 0);
        self.spill.shown_before = if reserves { self.next_seq } else { 0 };
    }

    /// The place one past the newest record of a lane that readers see, or may have seen before a crash: nothing that was
    /// ever sent has a seq at or above it.
    pub fn lane_shown(&self, lane: LaneId) -> LanePos {
        let shown = self.lane_durable(lane);
        LanePos { seq: shown.seq.max(self.spill.shown_before), ..shown }
    }

    /// Somebody waits until everything up to this ticket is durable.
    pub fn want(&mut self, ticket: Ticket) {
        self.spill.wanted = self.spill.wanted.max(ticket.0);
        let held = self.queue.iter().map(|s| s.first_ticket).chain(self.spill.first_ticket());
        self.spill.lifting |= held.into_iter().any(|first| first <= ticket);
    }

    /// The lowest place that any sink stands at in a lane; None: what is there is to be kept.
    pub fn set_passed(&mut self, lane: LaneId, passed: Option<LanePos>) {
        if let Some(lane) = self.lanes.get_mut(lane.index()) {
            lane.passed = passed;
        }
    }

    // ---- holding ----

    /// Something is to be written now.
    pub(super) fn is_waiting(&self) -> bool {
        (!self.queue.is_empty() || self.spill.has_stubs()) && !self.is_held()
    }

    /// The queue waits in memory.
    pub(super) fn is_held(&self) -> bool {
        let s = &self.spill;
        s.on && !s.lifting && self.closing == Closing::No && (!self.queue.is_empty() || s.has_stubs())
    }

    /// A frame was sealed: shown at once if it may be held, else all that is held goes to the disk with it.
    pub(super) fn hold_or_lift(&mut self, at: usize, sealed: &Sealed) {
        if !self.spill.on {
            return;
        }
        let waited = sealed.first_ticket.0 <= self.spill.wanted || sealed.hurried;
        let plain = sealed.state.is_empty() && sealed.header.flags == 0;
        let seqs = self.next_seq.saturating_sub(self.spill.written_seq);
        let commits = self.next_commit.saturating_sub(self.spill.written_commit);
        let reserved = |r: &Run| self.topics.part(r.part).is_some_and(|p| r.end_offset() <= p.floor);
        let early = !waited && plain && sealed.frame.as_ref().is_some_and(|f| f.runs.iter().all(reserved));
        self.spill.lifting |= !early || seqs > SKIP_SEQS / 2 || commits > SKIP_COMMITS / 2;
        let Some(frame) = &sealed.frame else { return };
        if early && self.lanes[at].shown.ordinal == frame.first().ordinal {
            self.lanes[at].shown = frame.end();
            self.spill.shown += 1;
            frame.runs.iter().for_each(|r| self.topics.show(r.part, r.end_offset()));
        }
        let scarce = |r: &Run| self.topics.part(r.part).is_some_and(|p| r.end_offset() + RESERVE / 2 > p.reserved);
        // Not here: what it puts would overtake this frame.
        self.spill.scarce |= frame.runs.iter().any(scarce);
    }

    /// Reserves offsets of all topics that are short of them.
    pub(super) fn reserve_offsets(&mut self) {
        // Behind the frame that says that all is over nothing comes.
        if self.closing != Closing::No || !std::mem::take(&mut self.spill.scarce) {
            return;
        }
        for id in self.topic_ids() {
            let Some(topic) = self.topics.get_mut(id) else { continue };
            let short = topic.parts.iter().any(|p| p.info.next + RESERVE / 2 > p.reserved);
            topic.parts.iter_mut().filter(|_| short).for_each(|p| p.reserved = p.info.next + RESERVE);
            if short {
                self.store_topic(id);
            }
        }
    }

    /// Drops from the front of the queue what every sink has passed. The disk is idle: all before it is durable.
    pub(super) fn drop_passed(&mut self) {
        if !self.is_held() {
            return;
        }
        while let Some(front) = self.queue.front() {
            let Some(frame) = front.frame.as_ref() else { return self.spill.lifting = true };
            let at = frame.lane.index();
            let passed = self.lanes[at].passed.is_some_and(|p| p.ordinal >= frame.end().ordinal);
            if !passed {
                break;
            }
            if !self.spill.stubs[at].takes(frame) {
                return self.spill.lifting = true;
            }
            let Some(mut sealed) = self.queue.pop_front() else { return };
            self.queue_weight -= sealed.weight;
            let header = &sealed.header;
            match &mut self.spill.commits {
                Some((_, last)) => *last = header.commit,
                None => {
                    self.spill.commits = Some((header.prev_commit, header.commit));
                    self.spill.prev = std::mem::take(&mut sealed.prev);
                }
            }
            if let Some(frame) = sealed.frame.take() {
                self.spill.stubs[at].add(&frame, sealed.first_ticket);
                self.press.recycle_frame(frame);
            }
            self.press.recycle(sealed);
        }
        if self.queue_weight > HELD_MOST {
            self.spill.lifting = true;
        }
    }

    /// Puts what was dropped in front of the queue, in frames without payload; their numbers are the last of those that
    /// were dropped.
    pub(super) fn tell_dropped(&mut self, now: BootTime) {
        let Some((before, last)) = self.spill.commits.take() else { return };
        let mut prev = std::mem::take(&mut self.spill.prev);
        let mut admitted = [0; MAX_LANES];
        self.lanes.iter().for_each(|l| admitted[l.id.index()] = l.durable.ordinal);
        let count = self.spill.stubs.iter().filter(|s| s.records > 0).count() as u64;
        let (mut commit, mut prev_commit) = (last + 1 - count, before);
        let mut told = Vec::new();
        for at in 0..self.lanes.len() {
            let stub = std::mem::take(&mut self.spill.stubs[at]);
            if stub.records == 0 {
                continue;
            }
            admitted[at] += stub.records;
            let (first_seq, flags) = (stub.end_seq - stub.records, flags::PASSED);
            let (version, ring, boot, session) = (self.writes, self.id, self.boot, self.session);
            let stamp = Stamp { version, ring, boot, session, commit, prev_commit, first_seq, now, flags, admitted };
            let mut header = stamp.header(FrameKind::Lane, LaneId(at as u8));
            header.records = stub.records as u32;
            let mut frame = Frame { runs: stub.runs, ..Frame::default() };
            frame.describe(&header);
            let counts = frame.runs.iter().map(|r| r.prev_count(LaneId(at as u8))).collect();
            let prev = std::mem::replace(&mut prev, counts);
            let (state, buf, first_ticket) = (Vec::new(), self.press.buf(), Ticket(stub.first_ticket));
            let frame = Some(Arc::new(frame));
            let mut sealed = Sealed { header, frame, state, buf, prev, first_ticket, hurried: false, weight: 0 };
            self.press.encode(&mut sealed);
            (prev_commit, commit) = (commit, commit + 1);
            told.push(sealed);
        }
        for sealed in told.into_iter().rev() {
            self.queue_weight += sealed.weight;
            self.queue.push_front(sealed);
        }
    }

    /// A commit is durable: when nothing waits any more, what comes next may be held.
    pub(super) fn lifted(&mut self) {
        if self.queue.is_empty() && !self.spill.has_stubs() {
            self.spill.lifting = false;
            (self.spill.written_seq, self.spill.written_commit) = (self.next_seq, self.next_commit);
        }
    }

    // ---- reading ----

    /// What is sealed and not durable: on its way to the disk, or held.
    fn held_frames(&self) -> impl Iterator<Item = &Sealed> {
        self.writer.under_way().iter().chain(&self.queue)
    }

    /// What of a lane stands at `ordinal`, which is shown and not durable: a frame, or up to where it was dropped.
    pub(super) fn held_at(&self, lane: LaneId, ordinal: u64) -> Result<Arc<Frame>, (LanePos, Vec<GapPart>)> {
        let stub = &self.spill.stubs[lane.index()];
        if stub.records > 0 && ordinal < stub.first_ordinal + stub.records {
            let end = LanePos { seq: stub.end_seq, ordinal: stub.first_ordinal + stub.records };
            return Err((end, parts_of(&stub.runs, ordinal == stub.first_ordinal)));
        }
        let here = |s: &&Sealed| s.frame.as_ref().is_some_and(|f| f.lane == lane && ordinal < f.end().ordinal);
        match self.held_frames().find(here).and_then(|s| Some((s, s.frame.as_ref()?))) {
            Some((s, frame)) if s.header.is_stub() => {
                Err((frame.end(), parts_of(&frame.runs, ordinal == frame.first.ordinal)))
            }
            Some((_, frame)) => Ok(frame.clone()),
            // There is no such place; a reader is not to stand still.
            None => Err((self.lanes[lane.index()].shown, Vec::new())),
        }
    }

    /// The same of a partition: a frame, or one past the last offset that was dropped.
    pub(super) fn held_of(&self, part: TopicPart, offset: u64) -> Result<Arc<Frame>, u64> {
        let holds = |r: &&Run| r.part == part && r.first_offset <= offset && offset < r.end_offset();
        if let Some(run) = self.spill.stubs.iter().flat_map(|s| &s.runs).find(holds) {
            return Err(run.end_offset());
        }
        for sealed in self.held_frames() {
            let found = sealed.frame.as_ref().and_then(|f| Some((f, f.runs.iter().find(holds)?)));
            match found {
                Some((_, run)) if sealed.header.is_stub() => return Err(run.end_offset()),
                Some((frame, _)) => return Ok(frame.clone()),
                None => {}
            }
        }
        // There is no such place; a reader is not to stand still.
        Err(self.topics.part(part).map_or(offset + 1, |p| p.info.durable_end.max(offset + 1)))
    }
}

impl Stub {
    /// Whether one more frame can be told with it.
    fn takes(&self, frame: &Frame) -> bool {
        let new = frame.runs.iter().filter(|run| self.runs.iter().all(|known| known.part != run.part)).count();
        let follows = |run: &Run| {
            let known = self.runs.iter().find(|known| known.part == run.part);
            known.is_none_or(|known| known.end_offset() == run.first_offset)
        };
        let records = self.records + u64::from(frame.records);
        records <= u64::from(u32::MAX) && self.runs.len() + new <= MAX_RUNS && frame.runs.iter().all(follows)
    }

    fn add(&mut self, frame: &Frame, ticket: Ticket) {
        if self.records == 0 {
            (self.first_ordinal, self.first_ticket) = (frame.first.ordinal, ticket.0);
        }
        self.records += u64::from(frame.records);
        self.end_seq = frame.end().seq;
        for run in &frame.runs {
            match self.runs.iter_mut().find(|known| known.part == run.part) {
                Some(known) => known.count += run.count,
                None => self.runs.push(Run { start: 0, end: 0, ..*run }),
            }
        }
        // Their seqs say only how many there are.
        let mut seq = self.end_seq - self.records;
        for run in &mut self.runs {
            run.first_seq = seq;
            seq += u64::from(run.count);
        }
    }
}

/// All records of a stub's directory. From within it nobody can tell: its runs are sums of many frames'.
pub(super) fn parts_of(runs: &[Run], whole: bool) -> Vec<GapPart> {
    let runs = if whole { runs } else { &[] };
    let part = |r: &Run| GapPart { part: r.part, from_offset: r.first_offset, to_offset: r.end_offset() };
    runs.iter().map(part).collect()
}

#[cfg(test)]
mod tests;
