//! Which slot files there are, what each holds, and which one is written over next.
//!
//! A lane's slots stand in order of generation; the last may be open for writing. The table lives in memory only and is
//! rebuilt from the slot headers: there is no index on the disk that could disagree with the data.

use std::collections::VecDeque;

use super::format::Counters;
use super::journal::Tail;
use super::{LanePos, RingId, SlotId, batch::Batch};
use crate::lane::LaneId;
use crate::limits::MAX_LANES;
use crate::name::Name;
use crate::time::BootTime;
use crate::topic::TopicPart;

/// One slot that holds frames of a lane.
#[derive(Clone, Debug)]
pub struct SlotMeta {
    pub id: SlotId,
    pub generation: u64,
    /// Of the format; all of its frames are of it.
    pub version: u8,
    pub ring: RingId,
    /// Where its lane stood when it was opened.
    pub first: LanePos,
    /// When that was, and in which boot; None: its header is lost.
    pub opened: Option<(u32, BootTime)>,
    /// The last commit before it.
    pub last_commit: u64,
    /// One past its last frame, as far as is known; the slot's size otherwise.
    pub end: u32,
    /// Next offsets of the lane's partitions when it was opened: a hint, may be thinned out or cut.
    pub starts: Box<[(TopicPart, u64)]>,
    /// Whether a partition that is not in `starts` did not exist then.
    pub starts_complete: bool,
    /// False when recovery found its snapshot damaged.
    pub sound: bool,
    /// Of a slot of the journal: one past the last ordinal of each lane that stands in it.
    pub ends: Ends,
}

/// For each lane, one past the last ordinal in a slot of the journal; 0: it has none there.
pub type Ends = [u64; MAX_LANES];

impl SlotMeta {
    /// The next offset of a partition when it was opened; None: not known.
    pub fn start_of(&self, part: TopicPart) -> Option<u64> {
        let listed = self.starts.iter().find(|(p, _)| *p == part).map(|(_, offset)| *offset);
        listed.or(self.starts_complete.then_some(0))
    }
}

/// One priority class: its batch, its counters, its slots.
#[derive(Debug)]
pub struct Lane {
    pub id: LaneId,
    /// As the table of lanes has it.
    pub name: Option<Name>,
    /// Its place in the options, 0 the most important; [`u8::MAX`]: it is not in them, and evicted first.
    pub rank: u8,
    pub batch: Batch,
    /// Percent of the slots that other lanes cannot evict.
    pub reserve: u8,
    pub counters: Counters,
    /// One past the newest record that has a seq.
    pub end: LanePos,
    pub durable: LanePos,
    /// One past the newest record that readers see: a durable one, in RAM-first mode one that is sealed.
    pub shown: LanePos,
    /// The oldest record that can be read.
    pub oldest: LanePos,
    pub floor: Option<LanePos>,
    /// The lowest place that any sink stands at now; None: nothing is to be dropped.
    pub passed: Option<LanePos>,
    /// Its oldest slot holds unread records that are not to be pushed out while there is another.
    pub kept: bool,
    pub log: Log,
    /// Its newest durable records as far as they stand in the journal alone.
    pub tail: Tail,
}

/// A sequence of slots to which frames are added at the end.
#[derive(Debug, Default)]
pub struct Log {
    /// Its newest commit on the disk.
    pub newest_commit: u64,
    pub slots: VecDeque<SlotMeta>,
    /// The next frame's place in the last slot; None: a new slot must be opened first.
    pub write_at: Option<u32>,
    /// The generation and the byte up to which it is durable: nobody walks beyond, where a frame may yet come.
    pub reach: (u64, u32),
}

impl Log {
    pub fn slot_index(&self, id: SlotId, generation: u64) -> Option<usize> {
        // Two may say that they are of one generation: a file of another ring that was put beside.
        let first = self.slots.partition_point(|s| s.generation < generation);
        let same = self.slots.range(first..).take_while(|s| s.generation == generation);
        same.zip(first..).find(|(s, _)| s.id == id).map(|(_, at)| at)
    }

    /// The newest commit that stands in the oldest slot.
    fn first_slot_commit(&self) -> u64 {
        self.slots.get(1).map_or(self.newest_commit, |next| next.last_commit)
    }
}

impl Lane {
    pub fn new(id: LaneId, stamp: u64) -> Self {
        Self {
            id,
            name: None,
            rank: u8::MAX,
            batch: Batch::new(stamp),
            reserve: 0,
            counters: Counters::default(),
            end: LanePos::default(),
            durable: LanePos::default(),
            shown: LanePos::default(),
            oldest: LanePos::default(),
            floor: None,
            passed: None,
            kept: false,
            log: Log::default(),
            tail: Tail::default(),
        }
    }

    /// The slot in which the record of this ordinal would stand.
    pub fn slot_of(&self, ordinal: u64) -> Option<usize> {
        self.log.slots.partition_point(|s| s.first.ordinal <= ordinal).checked_sub(1)
    }

    /// One past what stands in its own slots: what is durable above it stands in the journal.
    pub fn dense(&self) -> LanePos {
        self.tail.first().unwrap_or(self.durable)
    }

    /// Where the slot at `index` ends in the lane: where the next one begins.
    pub fn slot_end(&self, index: usize) -> LanePos {
        self.log.slots.get(index + 1).map_or_else(|| self.dense(), |next| next.first)
    }

    pub fn refresh_oldest(&mut self) {
        let oldest = self.log.slots.front().map_or_else(|| self.dense(), |s| s.first);
        self.oldest = self.oldest.max(oldest);
    }
}

/// The files.
#[derive(Debug, Default)]
pub struct Slots {
    pub slot_bytes: u32,
    /// Slots that the cap allows.
    pub cap: usize,
    /// Below `cap` when the file system had no room for more.
    pub room: usize,
    /// All that exist, sorted.
    pub existing: Vec<SlotId>,
    /// Exist and hold nothing that is wanted.
    pub free: Vec<SlotId>,
    /// Exist and are too short: a creation that failed half-way must be made again before they are written to.
    pub short: Vec<SlotId>,
    /// Failed a write in this process; the newest last.
    pub quarantine: Vec<SlotId>,
    pub next_generation: u64,
}

/// Where the next generation is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Picked {
    pub slot: SlotId,
    pub create: bool,
}

impl Slots {
    /// Another slot may be created.
    fn new_slot(&self) -> Option<SlotId> {
        if self.existing.len() >= self.cap.min(self.room) {
            return None;
        }
        // The first number that is not taken; slots are few and this is once per slot's life.
        (0..u16::MAX).map(SlotId).find(|id| self.existing.binary_search(id).is_err())
    }

    /// A slot to write over: a free one, a new one, one that every sink has passed, or else the oldest of the lowest
    /// lane above its reserve, whose records are then counted as evicted; those of a lane that keeps its own last. Where all that is left failed a write, the one
    /// that did so first.
    pub fn pick(&mut self, lanes: &mut [Lane], journal: &Log) -> Option<Picked> {
        // A file whose creation failed is tried again as long as there is to be one more.
        let fits = self.existing.len() <= self.cap.min(self.room);
        if let Some(at) = self.free.iter().rposition(|s| fits || !self.short.contains(s)) {
            let slot = self.free.remove(at);
            return Some(Picked { slot, create: self.short.contains(&slot) });
        }
        if let Some(slot) = self.new_slot() {
            return Some(Picked { slot, create: true });
        }
        while let Some(slot) = self.take_oldest(lanes, journal) {
            if !self.quarantine.contains(&slot) {
                return Some(Picked { slot, create: self.short.contains(&slot) });
            }
        }
        // Better one that failed a while ago than none.
        let unused = |slot: &SlotId| !is_used(*slot, lanes, journal);
        let slot = self.quarantine.remove(self.quarantine.iter().position(unused)?);
        Some(Picked { slot, create: self.short.contains(&slot) })
    }

    /// Takes the slot whose records matter least out of its lane.
    ///
    /// The two newest snapshots stay: a bad one sends recovery to the other. And so does what came after them, since
    /// state entries may stand nowhere else until the next snapshot is durable.
    pub fn take_oldest(&mut self, lanes: &mut [Lane], journal: &Log) -> Option<SlotId> {
        let (newest, before) = newest_snapshots(lanes, journal)?;
        let slot = Self::take_before(lanes, before.0, before.1);
        slot.or_else(|| Self::take_before(lanes, before.0, newest.1))
    }

    /// Whether the oldest slot of the journal is needed neither for its snapshot nor for what came after the one before.
    pub fn may_reuse(&self, lanes: &[Lane], journal: &Log) -> bool {
        let Some((_, before)) = newest_snapshots(lanes, journal) else { return false };
        journal.slots.front().is_some_and(|s| s.generation < before.0) && journal.first_slot_commit() <= before.1
    }

    /// Takes one that is older than a generation and holds no later commits.
    fn take_before(lanes: &mut [Lane], generation: u64, commit: u64) -> Option<SlotId> {
        let total: usize = lanes.iter().map(|l| l.log.slots.len()).sum();
        let free = |l: &&Lane| l.log.first_slot_commit() <= commit;
        let front = |l: &Lane| l.log.slots.front().filter(|s| s.generation < generation).map(|s| s.generation);
        let may = |l: &Lane| Some(l).filter(free).and_then(front);
        let passed = |l: &&Lane| l.floor.is_some_and(|f| f.ordinal >= l.slot_end(0).ordinal);
        let spent = lanes.iter().filter(|l| may(l).is_some()).filter(passed).min_by_key(|l| may(l)).map(|l| l.id);
        let above = |l: &&Lane| l.log.slots.len() * 100 > usize::from(l.reserve) * total;
        let all = || lanes.iter().filter(|l| may(l).is_some());
        let held = || all().filter(|l| !l.kept);
        let lowest = || held().filter(above).max_by_key(|l| (l.rank, l.id)).map(|l| l.id);
        let any = || held().max_by_key(|l| (l.rank, l.id)).map(|l| l.id);
        let kept = || all().max_by_key(|l| (l.rank, l.id)).map(|l| l.id);
        let lane = spent.or_else(lowest).or_else(any).or_else(kept)?;
        let lane = lanes.iter_mut().find(|l| l.id == lane)?;
        let (from, to) = (lane.log.slots.front()?.first, lane.slot_end(0));
        let unread = lane.floor.map_or(from.ordinal, |f| f.ordinal.clamp(from.ordinal, to.ordinal));
        lane.counters.evicted += to.ordinal - unread;
        let gone = lane.log.slots.pop_front()?;
        if lane.log.slots.is_empty() {
            // It was open for writing: the lane's next frame needs another.
            lane.log.write_at = None;
        }
        lane.refresh_oldest();
        Some(gone.id)
    }

    pub fn created(&mut self, slot: SlotId) {
        if let Err(at) = self.existing.binary_search(&slot) {
            self.existing.insert(at, slot);
        }
    }

    /// A creation failed: something may be there or not, and it counts until it is removed or made.
    pub fn half_made(&mut self, slot: SlotId) {
        if !self.short.contains(&slot) {
            self.short.push(slot);
        }
        if !self.free.contains(&slot) {
            self.free.push(slot);
        }
    }

    pub fn removed(&mut self, slot: SlotId) {
        self.short.retain(|s| *s != slot);
        self.quarantine.retain(|s| *s != slot);
        if let Ok(at) = self.existing.binary_search(&slot) {
            self.existing.remove(at);
        }
    }

    /// A write to this slot failed: it is not written again soon. Not more than a quarter is kept back.
    pub fn quarantine(&mut self, slot: SlotId, lanes: &[Lane], journal: &Log) {
        self.quarantine.retain(|s| *s != slot);
        self.quarantine.push(slot);
        if self.quarantine.len() > (self.cap / 4).max(1) {
            let back = self.quarantine.remove(0);
            if !is_used(back, lanes, journal) && !self.free.contains(&back) {
                self.free.push(back);
            }
        }
    }
}

/// Generation and last commit of the two newest snapshots, the newest first.
fn newest_snapshots(lanes: &[Lane], journal: &Log) -> Option<((u64, u64), (u64, u64))> {
    let slots = lanes.iter().flat_map(|l| &l.log.slots).chain(&journal.slots);
    let mut sound: Vec<(u64, u64)> = slots.filter(|s| s.sound).map(|s| (s.generation, s.last_commit)).collect();
    sound.sort_unstable();
    Some((sound.last().copied()?, sound.iter().rev().nth(1).copied()?))
}

fn is_used(slot: SlotId, lanes: &[Lane], journal: &Log) -> bool {
    lanes.iter().flat_map(|l| &l.log.slots).chain(&journal.slots).any(|s| s.id == slot)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_every_slot_has_failed_the_one_that_did_so_first_is_tried_again() {
        let mut slots = Slots { cap: 16, room: 3, ..Slots::default() };
        let mut lanes = Vec::new();
        for id in [SlotId(0), SlotId(1), SlotId(2)] {
            slots.created(id);
        }
        for id in [SlotId(1), SlotId(0), SlotId(2)] {
            slots.quarantine(id, &lanes, &Log::default());
        }
        slots.removed(SlotId(1));
        slots.created(SlotId(1));
        let picked = [(); 3].map(|()| slots.pick(&mut lanes, &Log::default()));
        let again = |id| Some(Picked { slot: SlotId(id), create: false });
        assert_eq!(picked, [again(0), again(2), None]);
    }
}
