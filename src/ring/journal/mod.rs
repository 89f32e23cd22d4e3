//! The journal: slots of no lane, for commits so small that in a lane's own slots they would waste most of a page.
//!
//! A commit of little more than a record takes a page of 4 KiB: a day of one a second is 340 MiB. So it goes to the
//! journal, is durable and acknowledged there, and its records stay in memory besides (the lane's `tail`). When a frame's
//! worth of a lane is together, or half the journal is full, they are written once more, densely, to the lane's own slot:
//! a **copy**. What is copied is spent in the journal, and the journal's slots go round. Durable trickles cost writes,
//! not room.
//!
//! A copy is no commit. It brings nothing new, and is made when the disk is idle, of records that are all durable: it is
//! there or not, and nothing else depends on it, so it is never lost, given up or counted. Only two things must hold. A
//! journal slot is used again when everything in it is in durable copies. And what stands in a lane's own slots is one
//! sequence: a copy is placed when the one before it is durable, a frame with new records when all of the lane's tail
//! is. Then whatever stands behind a copy proves it, and where nothing does, the journal still has what it repeats.

use super::Ring;
use super::batch::Stamp;
use super::format::{FrameHeader, FrameKind, flags};
use super::slots::{Log, Picked};
use super::writer::Part;
use super::*;
use crate::limits::MAX_LANES;
use crate::time::BootTime;

mod rejoin;
mod tail;
mod verify;

#[cfg(test)]
mod tests;

pub(super) use rejoin::Rejoin;
pub use tail::Tail;
pub(super) use verify::JournalTrail;

/// The journal's number among the logs; below it those of the lanes.
pub const JOURNAL: usize = MAX_LANES;
pub const LOGS: usize = MAX_LANES + 1;

/// What is larger, raw or as it is stored, goes to its lane at once: there it takes no more than twice the room that it
/// would take in a copy.
const MOST_BYTES: u32 = 8 * 1024;
/// Slots of the journal; the third is opened when two are full, and everything is copied then.
const SLOTS: usize = 4;
/// In a small ring.
const FEW_SLOTS: usize = 3;
const SMALL_RING: usize = 32;
/// A ring of fewer slots has no journal: the lanes and the snapshots to fall back to need them.
const LEAST_RING: usize = 12;

/// The ring's entry with what of each lane stood in the journal alone: only in snapshots.
pub(super) const TAILS_KEY: &[u8] = b"j";

/// The number of the log that a frame goes to.
pub fn log_of(header: &FrameHeader) -> usize {
    if header.kind == FrameKind::Journal { JOURNAL } else { header.lane.index() }
}

/// A stretch of a tail as it is stored: lane, first ordinal, first seq, one past the last ordinal.
pub(super) type Stretch = (u8, u64, u64, u64);

impl Ring {
    pub(super) fn log(&self, at: usize) -> &Log {
        if at == JOURNAL { &self.journal } else { &self.lanes[at].log }
    }

    pub(super) fn log_mut(&mut self, at: usize) -> &mut Log {
        if at == JOURNAL { &mut self.journal } else { &mut self.lanes[at].log }
    }

    /// All slots in use, in no order.
    pub(super) fn own_slots(&self) -> impl Iterator<Item = &super::slots::SlotMeta> {
        self.lanes.iter().flat_map(|l| &l.log.slots).chain(&self.journal.slots)
    }

    /// Slots that the journal may have.
    fn journal_most(&self) -> usize {
        match self.slots.cap.min(self.slots.room) {
            few if few < LEAST_RING => 0,
            few if few < SMALL_RING => FEW_SLOTS,
            _ => SLOTS,
        }
    }

    /// Whether a sealed frame goes to the journal. It stays there, also where it is written again after a failure.
    pub(super) fn goes_to_journal(&self, header: &FrameHeader) -> bool {
        let small = header.raw_len + header.state_raw <= MOST_BYTES && header.frame_len <= MOST_BYTES;
        small && !self.to_lanes && self.journal_most() > 0
    }

    /// What a snapshot says of the tails.
    pub(super) fn tails(&self) -> Vec<Stretch> {
        let of = |l: &super::slots::Lane| {
            let lane = l.id.0;
            l.tail.stretches().into_iter().map(move |(first, end)| (lane, first.ordinal, first.seq, end))
        };
        self.lanes.iter().flat_map(of).collect()
    }

    // ---- copies ----

    /// Whether the oldest chunk of a lane is to be copied now.
    fn is_copy_due(&self, at: usize) -> bool {
        let lane = &self.lanes[at];
        let awaited = || {
            let front = self.queue.front().filter(|_| self.is_waiting()).map(|s| &s.header);
            front.is_some_and(|h| h.kind == FrameKind::Lane && h.lane == lane.id)
        };
        // Before its first frame a process has no number of its own to give a copy, but where that frame waits for it.
        let begun = || self.queue.front().is_none_or(|s| s.header.flags & flags::SESSION_START == 0);
        let due = || begun() && (lane.tail.is_ripe() || self.is_journal_half_full());
        !lane.tail.is_empty() && (awaited() || due())
    }

    /// Two full slots wait for copies, beside the one that is being written; or there is to be no journal any more.
    fn is_journal_half_full(&self) -> bool {
        // Slots are used again in their order: behind one that waits all do.
        let waiting = self.journal.slots.iter().skip_while(|slot| self.is_spent(&slot.ends)).count();
        waiting > 2 || self.journal_most() == 0
    }

    pub(super) fn copies_due(&self) -> bool {
        (0..self.lanes.len()).any(|at| self.is_copy_due(at))
    }

    /// Puts a copy of each lane that needs one into the commit.
    pub(super) fn place_copies(&mut self, now: BootTime) {
        for at in 0..self.lanes.len() {
            if self.is_copy_due(at) {
                self.place_copy(now, at);
            }
        }
    }

    fn place_copy(&mut self, now: BootTime, at: usize) {
        let Some(chunk) = self.lanes[at].tail.front().cloned() else { return };
        let through = self.writer.synced_through;
        let mut admitted = [0; MAX_LANES];
        self.lanes.iter().for_each(|l| admitted[l.id.index()] = l.durable.ordinal);
        let stamp = Stamp {
            version: self.writes,
            ring: self.id,
            boot: self.boot,
            session: self.session,
            commit: through,
            prev_commit: through,
            first_seq: chunk.frame.first().seq,
            now,
            flags: 0,
            admitted,
        };
        let mut header = stamp.header(FrameKind::Copy, self.lanes[at].id);
        chunk.describe(&mut header);
        let mut buf = self.press.buf();
        header.version = self.version_at(at);
        self.press.encode_copy(&mut header, &chunk.frame, &mut buf);
        if !self.make_room(now, at, header.frame_len) {
            return self.press.recycle_buf(buf);
        }
        let Some((slot, write_at)) = self.next_place(at) else { return self.press.recycle_buf(buf) };
        if header.version != self.version_at(at) {
            // Another slot was opened.
            header.version = self.version_at(at);
            self.press.encode_copy(&mut header, &chunk.frame, &mut buf);
        }
        (header.slot, header.generation, header.at) = (slot.0, slot.1, write_at);
        header.synced_through = through;
        let counters = self.counters();
        for (mine, now) in header.lanes.iter_mut().zip(counters) {
            *mine = super::format::Counters { admitted: mine.admitted, ..now };
        }
        self.press.place(&mut header, &mut buf);
        let len = header.frame_len;
        self.log_mut(at).write_at = Some(write_at + len);
        let group = &mut self.writer.group;
        group.bytes += len as usize;
        group.copies.push(header);
        let (file, sync) = (FileId::Slot(slot.0), false);
        self.writer.push(Part::Copy, Op::Write { file, at: write_at.into(), data: buf, sync });
    }

    /// The copies of a commit are durable.
    pub(super) fn copied(&mut self, copies: &mut Vec<FrameHeader>) {
        for header in copies.drain(..) {
            let at = header.lane.index();
            self.life.add_copy(&header);
            self.budget.spend(self.writer.now, header.frame_len.into());
            self.reading.written(header.slot, header.generation, header.at);
            self.lanes[at].log.reach = (header.generation, header.at + header.frame_len);
            self.lanes[at].tail.drop_below(header.end_ordinal());
        }
    }

    // ---- its slots ----

    /// Everything up to these ordinals is in the lanes' own slots.
    fn is_spent(&self, ends: &[u64]) -> bool {
        self.lanes.iter().zip(ends).all(|(lane, end)| lane.dense().ordinal >= *end)
    }

    /// Whether the journal's oldest slot may be used again.
    fn may_reuse(&self) -> bool {
        let log = &self.journal;
        // The one that is written to stays, unless there is to be no journal.
        let least = if self.journal_most() == 0 { 0 } else { 1 };
        let Some(front) = log.slots.front().filter(|_| log.slots.len() > least) else { return false };
        self.is_spent(&front.ends) && self.slots.may_reuse(&self.lanes, log)
    }

    /// A slot for the journal: its own oldest where that is spent, else one of the pool; None: there is none.
    pub(super) fn pick_for_journal(&mut self) -> Option<Picked> {
        if self.journal.slots.len() >= self.journal_most() && self.may_reuse() {
            let slot = self.journal.slots.pop_front()?.id;
            if !self.slots.quarantine.contains(&slot) {
                return Some(Picked { slot, create: self.slots.short.contains(&slot) });
            }
        }
        self.slots.pick(&mut self.lanes, &self.journal)
    }

    /// Slots that the journal has beyond what it may have go back to the pool.
    pub(super) fn trim_journal(&mut self) {
        while self.journal.slots.len() > self.journal_most() && self.may_reuse() {
            let Some(slot) = self.journal.slots.pop_front().map(|s| s.id) else { return };
            if self.journal.slots.is_empty() {
                self.journal.write_at = None;
            }
            self.reading.forget_slot(slot);
            if !self.slots.quarantine.contains(&slot) {
                self.slots.free.push(slot);
            }
        }
    }

    /// Notes that a slot of the journal holds records of a lane up to this ordinal.
    pub(super) fn note_journaled(&mut self, header: &FrameHeader) {
        if let Some(slot) = self.journal.slots.iter_mut().rfind(|s| s.generation == header.generation) {
            let end = &mut slot.ends[header.lane.index()];
            *end = header.end_ordinal().max(*end);
        }
    }
}
