//! The writing side: sealed frames get their places, go to the disk as one commit, and become durable together.
//!
//! One commit is under way at a time; the next fills meanwhile. Frames are placed only when the disk is idle, so
//! everything earlier is durable then: a snapshot can be made of the durable state alone, and a commit that failed is
//! simply placed again, in another slot, with the same numbers. A frame that carries state entries begins its commit,
//! because any part of a commit may survive a crash without the rest, and an entry must not survive records before it.

use std::collections::VecDeque;

use super::batch::Sealed;
use super::core::Closing;
use super::format::{FIRST_FRAME, FrameHeader, FrameKind, RootPage, flags};
use super::journal::log_of;
use super::slots::Lane;
use super::*;
use crate::limits::{MAX_LANES, PAGE};
use crate::time::{BootTime, Span};

/// Bytes of one commit; the rest waits for the next.
const MAX_COMMIT_BYTES: usize = 512 * 1024;
const FIRST_BACKOFF: Span = Span::from_millis(100);
const MAX_BACKOFF: Span = Span::from_secs(30);
/// How long the ring stays smaller after the file system had no room for a slot, before it asks again.
const ROOM_AGAIN: Span = Span::from_secs(15);
/// Failures in a row after which the ring says that it cannot write.
const FAILED_AFTER: u32 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Create(SlotId),
    Header,
    Frame(usize),
    Copy,
    Root,
    Remove(SlotId),
}

/// One commit under way.
#[derive(Debug, Default)]
pub(super) struct Group {
    /// Token of the first command.
    base: u64,
    parts: Vec<Part>,
    outstanding: usize,
    frames: Vec<Sealed>,
    pub(super) copies: Vec<FrameHeader>,
    pub(super) bytes: usize,
    weight: usize,
    /// The log for which a slot was opened.
    pub(super) opened: Option<usize>,
    error: Option<(Part, DiskError)>,
}

#[derive(Debug, Default)]
pub struct Writer {
    /// The newest time that was passed in.
    pub now: BootTime,
    pub next_token: u64,
    outbox: VecDeque<Command>,
    pub(super) group: Group,
    pub synced_through: u64,
    pub root_serial: u64,
    backoff_until: Option<BootTime>,
    failures: u32,
    pub syncs: u64,
    pub failed_syncs: u64,
    trouble: Option<String>,
    no_space: Option<String>,
    /// When to ask the file system again for room.
    pub(super) room_again: Option<BootTime>,
    read_only: bool,
    /// Through this commit there was no slot to give up although the cap was lowered.
    none_to_drop: Option<u64>,
}

impl Writer {
    pub fn weight(&self) -> usize {
        self.group.weight
    }

    fn active(&self) -> bool {
        self.group.outstanding > 0
    }

    pub(super) fn push(&mut self, part: Part, op: Op) {
        if self.group.parts.is_empty() {
            self.group.base = self.next_token;
        }
        self.group.parts.push(part);
        self.group.outstanding += 1;
        self.outbox.push_back(Command { token: self.next_token, op });
        self.next_token += 1;
    }

    /// The last write to each file syncs it.
    fn mark_syncs(&mut self) {
        // One for each lane and for its slot of before, at most.
        let mut seen: heapless::Vec<FileId, { 2 * MAX_LANES }> = heapless::Vec::new();
        for command in self.outbox.iter_mut().rev() {
            if let Op::Write { file, sync, .. } = &mut command.op
                && *file != FileId::Root
                && !seen.contains(file)
            {
                *sync = true;
                // One that finds no room is synced more often than it need be.
                let _ = seen.push(*file);
            }
        }
    }

    /// Several commits in a row failed: nothing that is given now becomes durable soon.
    pub fn has_failed(&self) -> bool {
        self.trouble.is_some() && self.failures >= FAILED_AFTER
    }

    /// The commit that is on its way to the disk.
    pub fn under_way(&self) -> &[Sealed] {
        &self.group.frames
    }

    pub fn health(&self) -> Health {
        match (&self.trouble, &self.no_space) {
            (Some(what), _) if self.has_failed() => Health::Failed(what.clone()),
            (Some(what), _) | (None, Some(what)) => Health::Degraded(what.clone()),
            (None, None) => Health::Good,
        }
    }
}

impl Ring {
    pub fn poll(&mut self, now: BootTime) -> Option<Command> {
        self.writer.now = self.writer.now.max(now);
        self.reading.set_now(self.writer.now);
        if let Some(read) = self.reading.next_command() {
            return Some(read);
        }
        if !self.writer.active() && !self.in_group && !self.writer.read_only {
            self.start(now);
        }
        self.writer.outbox.pop_front()
    }

    /// When `poll` has something to say although nothing happens before (a batch's linger).
    pub fn next_timeout(&self) -> Option<BootTime> {
        if self.reading.has_command() || !self.writer.outbox.is_empty() {
            return Some(self.writer.now);
        }
        let reads = self.reading.next_try();
        if self.writer.active() || self.writer.read_only {
            return reads;
        }
        let waiting = self.is_waiting() || self.copies_due() || self.root_is_due() || self.is_over_cap();
        let now = waiting.then_some(self.writer.now);
        let due = self.lanes.iter().filter_map(|l| self.due(l)).chain(now).min();
        let writes = due.map(|due| self.writer.backoff_until.map_or(due, |until| until.max(due)));
        writes.into_iter().chain(reads).min()
    }

    /// When a lane's batch is to be written.
    fn due(&self, lane: &Lane) -> Option<BootTime> {
        let batch = &lane.batch;
        let due = batch.deadline?;
        Some(if batch.hurried { due } else { self.budget.stretch(batch.since, due) })
    }

    /// Begins the next commit, if something is due.
    fn start(&mut self, now: BootTime) {
        if self.writer.backoff_until.is_some_and(|until| now < until) {
            return;
        }
        self.writer.backoff_until = None;
        self.reserve_offsets();
        for at in 0..self.lanes.len() {
            if self.due(&self.lanes[at]).is_some_and(|due| due <= now) {
                self.seal(now, at);
            }
        }
        let group = &mut self.writer.group;
        group.parts.clear();
        (group.bytes, group.opened, group.error) = (0, None, None);
        self.drop_passed();
        if !self.is_held() {
            self.tell_dropped(now);
        }
        if !self.is_waiting() && !self.copies_due() {
            if self.root_is_due() {
                self.write_root(true);
            } else if self.is_over_cap() {
                self.drop_slot();
            }
            return;
        }
        self.place_copies(now);
        while self.is_waiting() && self.place_next(now) {}
        if self.writer.group.opened.is_some() && self.writer.group.bytes > 0 {
            self.write_root(false);
        }
        self.writer.mark_syncs();
    }

    /// Puts the next sealed frame into the commit; false when it must wait for another one.
    fn place_next(&mut self, now: BootTime) -> bool {
        let Some(front) = self.queue.front() else { return false };
        let at = log_of(&front.header);
        // What is new in a lane's own slots stands behind all that was there before, its tail included.
        let alone = front.header.kind != FrameKind::Lane;
        let follows = alone || self.lanes[at].tail.is_empty() && !self.writer.group.journals(front.header.lane);
        let late = !front.state.is_empty() && !self.writer.group.frames.is_empty();
        if !follows || late {
            return false;
        }
        let len = self.recast_front(at);
        if !self.make_room(now, at, len) {
            return false;
        }
        // Where another slot was opened. That has room for any frame.
        let len = self.recast_front(at);
        let Some(((id, generation), write_at)) = self.next_place(at) else { return false };
        let Some(mut sealed) = self.queue.pop_front() else { return false };
        let counters = self.counters();
        let header = &mut sealed.header;
        (header.slot, header.generation, header.at) = (id, generation, write_at);
        header.synced_through = self.writer.synced_through;
        for (mine, now) in header.lanes.iter_mut().zip(counters) {
            *mine = super::format::Counters { admitted: mine.admitted, ..now };
        }
        let mut data = std::mem::take(&mut sealed.buf);
        self.press.place(header, &mut data);
        let file = FileId::Slot(id);
        self.log_mut(at).write_at = Some(write_at + len);
        self.queue_weight -= sealed.weight;
        let group = &mut self.writer.group;
        group.bytes += len as usize;
        group.weight += sealed.weight;
        group.frames.push(sealed);
        let part = Part::Frame(self.writer.group.frames.len() - 1);
        self.writer.push(part, Op::Write { file, at: write_at.into(), data, sync: false });
        true
    }

    /// Has the next sealed frame be of the version of its log's slot; its length.
    fn recast_front(&mut self, at: usize) -> u32 {
        let version = self.version_at(at);
        let Some(front) = self.queue.front_mut() else { return 0 };
        self.queue_weight -= front.weight;
        self.press.recast(front, version);
        self.queue_weight += front.weight;
        front.header.frame_len
    }

    /// The version of the format that a log's next frame is in, unless it is the first of another slot.
    pub(super) fn version_at(&self, at: usize) -> u8 {
        let log = self.log(at);
        log.slots.back().filter(|_| log.write_at.is_some()).map_or(self.writes, |slot| slot.version)
    }

    /// Whether a frame goes into this commit; for one that fits no more in its log's slot, another is opened.
    pub(super) fn make_room(&mut self, now: BootTime, at: usize, len: u32) -> bool {
        let fits = self.log(at).write_at.is_some_and(|w| w + len <= self.slots.slot_bytes);
        let group = &self.writer.group;
        if group.bytes > 0 && (!fits || group.bytes + len as usize > MAX_COMMIT_BYTES) {
            return false;
        }
        fits || self.open_slot(now, at, len)
    }

    /// The slot and its generation, and the byte where a log's next frame goes.
    pub(super) fn next_place(&self, at: usize) -> Option<((SlotId, u64), u32)> {
        let log = self.log(at);
        log.slots.back().map(|slot| (slot.id, slot.generation)).zip(log.write_at)
    }

    // ---- the root page ----

    fn root_is_due(&self) -> bool {
        matches!(self.closing, Closing::Root(_)) && self.lanes.iter().all(|l| l.batch.is_empty())
    }

    /// The next root page and where it goes.
    pub(super) fn root_page(&mut self, clean: bool) -> (u64, Vec<u8>) {
        let newest = self.own_slots().max_by_key(|s| s.generation);
        let (slot, generation) = newest.map_or((SlotId(0), 0), |s| (s.id, s.generation));
        self.writer.root_serial += 1;
        let page = RootPage {
            version: self.writes,
            serial: self.writer.root_serial,
            ring: self.id,
            slot_bytes: self.slots.slot_bytes,
            slot,
            generation,
            commit: self.writer.synced_through,
            session: self.session,
            clean,
        };
        let mut data = self.press.buf();
        data.clear();
        crate::codec::resize_with_zeros(&mut data, PAGE);
        page.emit(&mut data);
        ((self.writer.root_serial % 2) * PAGE as u64, data)
    }

    fn write_root(&mut self, clean: bool) {
        let (at, data) = self.root_page(clean);
        self.writer.push(Part::Root, Op::Write { file: FileId::Root, at, data, sync: clean });
    }

    // ---- the cap ----

    fn is_over_cap(&self) -> bool {
        let most = self.slots.cap.min(self.slots.room).max(4);
        let tried = self.writer.none_to_drop == Some(self.writer.synced_through);
        !tried && self.slots.existing.len() > most && (!self.slots.free.is_empty() || self.slots_in_use() > 4)
    }

    fn slots_in_use(&self) -> usize {
        self.own_slots().count()
    }

    /// Unlinks one slot, because the cap was lowered.
    fn drop_slot(&mut self) {
        self.mark_kept();
        let slot = self.slots.free.pop().or_else(|| self.slots.take_oldest(&mut self.lanes, &self.journal));
        if let Some(slot) = slot {
            for lane in 0..self.lanes.len() {
                self.refresh_earliest(LaneId(lane as u8));
            }
            self.reading.forget_slot(slot);
            self.writer.push(Part::Remove(slot), Op::Remove { slot });
        } else {
            self.writer.none_to_drop = Some(self.writer.synced_through);
        }
    }

    // ---- what the disk did ----

    pub fn complete(&mut self, now: BootTime, completion: Completion) {
        self.writer.now = self.writer.now.max(now);
        let Completion { token, result, buf } = completion;
        let group = &mut self.writer.group;
        // Tokens of reads are far above all of these, and stay so where a place has 32 bits.
        let place = token.checked_sub(group.base).and_then(|i| usize::try_from(i).ok());
        let part = place.and_then(|i| group.parts.get(i).copied());
        let Some(part) = part.filter(|_| group.outstanding > 0) else {
            return self.complete_read(Completion { token, result, buf });
        };
        match part {
            Part::Frame(i) => group.frames[i].buf = buf,
            _ => self.press.recycle_buf(buf),
        }
        match (part, result) {
            (_, Ok(())) | (Part::Root, Err(_)) => {}
            (Part::Remove(slot), Err(error)) if error.kind == DiskErrorKind::NotFound => self.slots.removed(slot),
            (part, Err(error)) => _ = group.error.get_or_insert((part, error)),
        }
        group.outstanding -= 1;
        if group.outstanding == 0 {
            match group.error.take() {
                None => self.committed(),
                Some((part, error)) => self.broke(part, error),
            }
        }
    }

    /// The whole commit is on the device.
    fn committed(&mut self) {
        let mut frames = std::mem::take(&mut self.writer.group.frames);
        while let Some(part) = self.writer.group.parts.pop() {
            match part {
                Part::Remove(slot) => self.slots.removed(slot),
                Part::Create(slot) => {
                    self.slots.short.retain(|s| *s != slot);
                    self.writer.no_space = None;
                }
                Part::Root if frames.is_empty() && self.writer.group.copies.is_empty() => {
                    if let Closing::Root(_) = self.closing {
                        self.closing = Closing::Done;
                    }
                }
                _ => {}
            }
        }
        let mut copies = std::mem::take(&mut self.writer.group.copies);
        self.copied(&mut copies);
        self.writer.group.copies = copies;
        for mut sealed in frames.drain(..) {
            self.writer.synced_through = self.writer.synced_through.max(sealed.header.commit);
            let log = self.log_mut(log_of(&sealed.header));
            log.newest_commit = sealed.header.commit;
            log.reach = (sealed.header.generation, sealed.header.at + sealed.header.frame_len);
            for put in &sealed.state {
                self.state.settle(put);
                self.settle_topic(put);
            }
            self.life.add(&sealed.header);
            self.budget.spend(self.writer.now, sealed.header.frame_len.into());
            if sealed.header.flags & flags::CLEAN != 0
                && let Closing::Sealed(ticket) = self.closing
            {
                self.closing = Closing::Root(ticket);
            }
            self.reading.written(sealed.header.slot, sealed.header.generation, sealed.header.at);
            if let Some(frame) = sealed.frame.take() {
                let lane = &mut self.lanes[frame.lane.index()];
                lane.durable = frame.end();
                lane.shown = lane.shown.max(lane.durable);
                for run in &frame.runs {
                    self.topics.durable(run.part, run.end_offset());
                }
                if sealed.header.kind == FrameKind::Journal {
                    lane.tail.push(&frame, BootTime(sealed.header.last_time));
                    self.note_journaled(&sealed.header);
                }
                if !sealed.header.is_stub() {
                    self.reading.keep(frame, &mut self.press);
                }
            }
            self.press.recycle(sealed);
        }
        self.trim_journal();
        let group = &mut self.writer.group;
        if group.bytes > 0 {
            self.writer.syncs += 1;
            self.writer.failures = 0;
            self.writer.trouble = None;
        }
        group.frames = frames;
        (group.weight, group.bytes) = (0, 0);
        self.lifted();
        self.settle();
    }

    /// Everything before the oldest ticket that still waits is settled.
    fn settle(&mut self) {
        let queued = self.queue.iter().map(|s| s.first_ticket);
        let batched = self.lanes.iter().filter(|l| !l.batch.is_empty()).map(|l| l.batch.first_ticket);
        let closing = match self.closing {
            Closing::Sealed(t) | Closing::Root(t) => Some(Ticket(t)),
            Closing::No | Closing::Done => None,
        };
        let waiting = queued.chain(batched).chain(closing).chain(self.spill.first_ticket()).min();
        self.settled = self.settled.max(waiting.map_or(self.ticket, |t| t.0 - 1));
    }

    /// Something of the commit failed: its frames wait again, its slots are not written to any more. Never the same
    /// pages again: after a failed sync the kernel calls them clean, and a second sync would lie.
    fn broke(&mut self, part: Part, error: DiskError) {
        let mut frames = std::mem::take(&mut self.writer.group.frames);
        (self.writer.group.weight, self.writer.group.bytes) = (0, 0);
        self.writer.group.parts.clear();
        let copies = std::mem::take(&mut self.writer.group.copies);
        self.writer.failed_syncs += 1;
        if let Part::Remove(_) = part {
            // The slot stays where it is, unused; the cap is tried again when something else changes.
            self.slots.room = self.slots.existing.len();
            return self.fail(error.to_string());
        }
        // The first of each log's: whatever stands before it is durable.
        for header in copies.iter().chain(frames.iter().map(|f| &f.header)) {
            let at = log_of(header);
            if self.writer.group.opened != Some(at) && self.log_mut(at).write_at.take().is_some() {
                if let Some(last) = self.log_mut(at).slots.back_mut() {
                    last.end = header.at;
                }
                self.slots.quarantine(header.slot, &self.lanes, &self.journal);
            }
        }
        for mut sealed in frames.drain(..).rev() {
            // What is encrypted is bound to its place, and its nonce is used.
            if self.press.encrypts() || sealed.buf.len() != sealed.header.frame_len as usize {
                self.press.encode(&mut sealed);
            }
            self.queue_weight += sealed.weight;
            self.queue.push_front(sealed);
        }
        self.writer.group.frames = frames;
        let opened = self.writer.group.opened.take();
        if let Some(at) = opened {
            let log = self.log_mut(at);
            log.write_at = None;
            if let Some(meta) = log.slots.pop_back() {
                match part {
                    Part::Create(slot) => self.slots.half_made(slot),
                    _ => self.slots.quarantine(meta.id, &self.lanes, &self.journal),
                }
            }
        }
        if matches!(part, Part::Create(_)) && error.kind == DiskErrorKind::NoSpace && self.slots_in_use() > 2 {
            self.slots.room = self.slots.existing.len() - 1;
            let held = self.slots.room as u64 * u64::from(self.slots.slot_bytes) / 1024;
            self.writer.no_space = Some(format!("{error}; the ring stays at {held} KiB and evicts sooner"));
            self.writer.room_again = Some(self.writer.now + ROOM_AGAIN);
            return;
        }
        self.fail(error.to_string());
    }

    /// For a ring that is only read.
    pub(super) fn discard_writes(&mut self) {
        self.writer.read_only = true;
        self.reading.be_impatient();
    }

    pub(super) fn fail(&mut self, what: String) {
        let writer = &mut self.writer;
        writer.failures = writer.failures.saturating_add(1);
        writer.trouble = Some(what);
        let wait = FIRST_BACKOFF.0.saturating_mul(1 << writer.failures.saturating_sub(1).min(12));
        writer.backoff_until = Some(writer.now + Span(wait.min(MAX_BACKOFF.0)));
    }
}

impl Group {
    /// It holds new records of a lane that go to the journal.
    fn journals(&self, lane: LaneId) -> bool {
        self.frames.iter().any(|s| s.header.lane == lane && s.header.kind == FrameKind::Journal)
    }
}

const _: () = assert!(FIRST_FRAME as usize == PAGE);
