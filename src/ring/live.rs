//! Looking at a ring to which a node writes meanwhile.
//!
//! A frame is whole or not there yet, and is never changed before its slot is written over; that shows in the slot's
//! header, whose generation is written before anything else. So what was found damaged is not damage where the header
//! has another generation now. And of the process that writes nothing is given up, whatever the look at the ring made of a
//! commit that was under way, and of those that came later.

use std::collections::BTreeMap;

use super::core::Ring;
use super::format::{FrameHeader, SlotHeader};
use super::journal::JournalTrail;
use super::slots::SlotMeta;
use super::stat::look;
use super::verify::{Check, Trail};
use super::walk::Walker;
use super::*;

/// How often the same is looked at again.
const TRIES: u32 = 8;

/// The generation of a slot as it is now; None where its header cannot be read.
pub(super) fn generation(disk: &mut dyn Disk, slot: SlotId, formats: Formats) -> Option<u64> {
    Walker::new(disk, slot, (&Keys::default(), formats)).slot_header().ok().map(|header| header.generation)
}

impl Ring {
    /// Whether records of this gap stood in a slot that was written over since this ring was opened.
    pub fn overwritten(&self, disk: &mut dyn Disk, gap: &Gap) -> bool {
        let Some(lane) = self.lanes.get(gap.lane.index()) else { return false };
        let holds = |at: usize| {
            let first = lane.log.slots[at].first.ordinal;
            first < gap.to.ordinal && lane.slot_end(at).ordinal > gap.from.ordinal
        };
        let mut slots = lane.log.slots.iter().enumerate().filter(|(at, _)| holds(*at)).map(|(_, slot)| slot);
        slots.any(|slot| generation(disk, slot.id, self.options.formats).is_some_and(|now| now != slot.generation))
    }
}

/// What a look at a ring gives.
pub(super) struct Looked {
    pub ring: Ring,
    pub report: Report,
    /// A node writes meanwhile.
    pub live: bool,
    /// It writes faster than this reads: each look saw something else.
    pub hasty: bool,
}

/// Opens a ring to look at it; again where a node may have been in the middle of a commit, or opened slots meanwhile.
pub(super) fn look_again(
    disk: &mut dyn Disk,
    keys: &Keys,
    pause: &mut dyn FnMut() -> bool,
) -> Result<Looked, DiskError> {
    let (live, mut tries) = (pause(), 1..TRIES);
    let mut former = None;
    loop {
        let before = if live { generations(disk)? } else { BTreeMap::new() };
        let seen = look(disk, keys);
        let passed = match &seen {
            Ok((ring, _)) if live => has_passed_over(ring, &before, &generations(disk)?),
            _ => false,
        };
        let good = seen.as_ref().is_ok_and(|(_, report)| !report.in_doubt()) && !passed;
        if good || tries.next().is_none() || !pause() {
            return seen.map(|(ring, report)| {
                let hasty = live && !good && (passed || former.is_some_and(|former| former != report.doubts()));
                Looked { ring, report, live, hasty }
            });
        }
        former = seen.ok().map(|(_, report)| report.doubts());
    }
}

fn generations(disk: &mut dyn Disk) -> Result<BTreeMap<SlotId, u64>, DiskError> {
    let slots = disk.list()?.into_iter().map(|(slot, _)| slot);
    Ok(slots.filter_map(|slot| Some((slot, generation(disk, slot, Formats::default())?))).collect())
}

/// A slot was begun anew after its header was read, and the next one before its own was: there is a hole between them.
fn has_passed_over(ring: &Ring, before: &BTreeMap<SlotId, u64>, after: &BTreeMap<SlotId, u64>) -> bool {
    let own: BTreeMap<SlotId, u64> = ring.own_slots().map(|slot| (slot.id, slot.generation)).collect();
    let newest = own.values().max().copied().unwrap_or(0);
    after.iter().any(|(slot, now)| before.get(slot) != Some(now) && *now < newest && own.get(slot) != Some(now))
}

impl Report {
    /// Something is missing, or a commit was under way.
    pub fn in_doubt(&self) -> bool {
        self.tail_unknown || self.corrupt_records + self.lost_unsynced > 0 || !self.notes.is_empty()
    }

    /// What is missing of it: what is damaged is so at the next look as well.
    fn doubts(&self) -> (u64, u64) {
        (self.corrupt_records, self.lost_unsynced)
    }
}

/// What a slot's check may be taken back to.
struct Mark {
    slots: usize,
    findings: usize,
    left_out: u64,
    damaged: bool,
    /// A slot may be told what is missing in the one before.
    lost: Vec<u64>,
}

impl Check {
    fn mark(&self) -> Mark {
        let out = &self.out;
        Mark {
            slots: out.slots.len(),
            findings: out.findings.len(),
            left_out: out.findings_left_out,
            damaged: out.damaged,
            lost: out.slots.iter().map(|slot| slot.counts.records_lost).collect(),
        }
    }

    fn take_back(&mut self, mark: &Mark) {
        self.out.slots.truncate(mark.slots);
        self.out.slots.iter_mut().zip(&mark.lost).for_each(|(slot, lost)| slot.counts.records_lost = *lost);
        self.out.findings.truncate(mark.findings);
        (self.out.findings_left_out, self.out.damaged) = (mark.left_out, mark.damaged);
    }

    fn found_since(&self, mark: &Mark) -> bool {
        self.out.findings.len() > mark.findings || self.out.findings_left_out > mark.left_out
    }

    /// A commit that a recovery gave up.
    pub(super) fn is_dead(&self, h: &FrameHeader) -> bool {
        let sessions = &self.ring.sessions;
        // To the look it seems to have ended where the look came to its end.
        let writes = self.live && sessions.ended.last().is_none_or(|ended| h.session >= ended.0);
        !writes && sessions.dead(h.session, h.commit)
    }

    /// A slot of this ring that was opened after the ring was looked at.
    pub(super) fn is_newer(&self, header: &SlotHeader) -> bool {
        let newest = self.ring.own_slots().max_by_key(|slot| slot.generation);
        newest.is_some_and(|newest| newest.ring == header.ring && newest.generation < header.generation)
    }

    /// Looks at a slot, and again while something is found that a node may be in the middle of. True: it was written over
    /// meanwhile, and all is as it was before.
    fn settled<T: Clone>(
        &mut self,
        disk: &mut dyn Disk,
        pause: &mut dyn FnMut() -> bool,
        own: Option<&SlotMeta>,
        trail: &mut T,
        look: &mut dyn FnMut(&mut Self, &mut dyn Disk, &mut T),
    ) -> bool {
        let (mark, before, mut tries) = (self.mark(), trail.clone(), 1..TRIES);
        loop {
            look(self, disk, trail);
            let formats = self.ring.options.formats;
            let now = own.and_then(|meta| generation(disk, meta.id, formats));
            if own.is_some_and(|meta| now.is_some_and(|now| now != meta.generation)) {
                self.take_back(&mark);
                self.out.rewritten += 1;
                *trail = before;
                return true;
            }
            if !self.found_since(&mark) || tries.next().is_none() || !pause() {
                return false;
            }
            self.take_back(&mark);
            *trail = before.clone();
        }
    }

    /// A slot among the ring's own; one that was written over meanwhile is looked at as what it is now.
    pub(super) fn settled_slot(
        &mut self,
        disk: &mut dyn Disk,
        pause: &mut dyn FnMut() -> bool,
        trail: &mut Trail,
        own: (LaneId, &SlotMeta),
        next: Option<&SlotMeta>,
        bytes: u64,
    ) {
        let rewritten = self.settled(disk, pause, Some(own.1), trail, &mut |check, disk, trail| {
            check.own_slot(disk, trail, own, next, bytes);
        });
        if rewritten {
            // What stood in it is gone, and no hole before the next. Without the newest, all that was seen is.
            *trail = Trail::default();
            self.hasty |= next.is_none();
            self.settled_other(disk, pause, own.1.id, bytes);
        }
    }

    /// The same for a slot of the journal.
    #[allow(clippy::too_many_arguments)] // What `settled_slot` takes, and how far the lanes go.
    pub(super) fn settled_journal(
        &mut self,
        disk: &mut dyn Disk,
        pause: &mut dyn FnMut() -> bool,
        trail: &mut JournalTrail,
        meta: &SlotMeta,
        next: Option<&SlotMeta>,
        walked: &[u64],
        bytes: u64,
    ) {
        let rewritten = self.settled(disk, pause, Some(meta), trail, &mut |check, disk, trail| {
            check.journal_slot(disk, trail, meta, next, walked, bytes);
        });
        if rewritten {
            // What waited in it for its lane stands there now, behind what was seen of that.
            self.hasty = true;
            self.settled_other(disk, pause, meta.id, bytes);
        }
    }

    /// A slot that was not among the ring's own when the ring was looked at.
    pub(super) fn settled_other(
        &mut self,
        disk: &mut dyn Disk,
        pause: &mut dyn FnMut() -> bool,
        slot: SlotId,
        bytes: u64,
    ) {
        self.settled(disk, pause, None, &mut (), &mut |check, disk, ()| check.other_slot(disk, slot, bytes));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex, MutexGuard};

    use super::super::stat::stat;
    use super::super::verify::verify;
    use super::*;
    use crate::backoff::Rng;
    use crate::limits::MIN_RING;
    use crate::name::Name;
    use crate::record::RecordRef;
    use crate::time::{BootTime, Span};
    use crate::topic::{TopicName, TopicPart};

    struct Node {
        ring: Ring,
        disk: MemDisk,
        /// One in each lane.
        parts: [TopicPart; 2],
        rng: Rng,
    }

    impl Node {
        fn fill(&mut self) {
            // Much for a slot of its own, or little for the journal, of which copies are made later.
            let (part, records) = match self.rng.next_u64() % 3 {
                0 => (self.parts[0], 32),
                1 => (self.parts[0], 1),
                _ => (self.parts[1], 2),
            };
            for _ in 0..records {
                let value: Vec<u8> = (0..128).flat_map(|_| self.rng.next_u64().to_le_bytes()).collect();
                // A ring that is busy takes it the next time.
                let _ = self.ring.append(BootTime(1), part, &RecordRef::of(&value));
            }
            self.ring.hurry(BootTime(1));
        }

        /// One step of a commit.
        fn step(&mut self) {
            if let Some(command) = self.ring.poll(BootTime(1)) {
                self.ring.complete(BootTime(1), execute(command, &mut self.disk));
            } else {
                self.fill();
            }
        }
    }

    /// A disk to which a node writes: every `every`th read is preceded by some steps of it.
    #[derive(Clone)]
    struct Shared {
        node: Arc<Mutex<Node>>,
        every: u64,
        steps: u64,
        reads: u64,
    }

    impl Shared {
        fn new(seed: u64, every: u64, steps: u64) -> Self {
            let lanes = ["normal", "low"].map(|name| LaneOptions { name: Name::new(name).unwrap(), reserve: 0 }).into();
            let (binding, boot_id, linger) = ([1; 16], [2; 16], Span::from_secs(1));
            let options = Options {
                max_bytes: MIN_RING,
                lanes,
                linger,
                binding,
                boot_id,
                seed,
                keys: Default::default(),
                formats: Default::default(),
            };
            let mut disk = MemDisk::new(MIN_RING);
            let (mut ring, _) = Ring::recover(&mut disk, options).unwrap();
            let parts = [("load", LaneId(0)), ("little", LaneId(1))].map(|(name, lane)| {
                let topic = ring.open_topic(&TopicName::new(name).unwrap(), lane, 1).unwrap();
                TopicPart { topic, partition: 0 }
            });
            let mut node = Node { ring, disk, parts, rng: Rng::new(seed) };
            while node.ring.stats().lanes[0].oldest.ordinal == 0 {
                node.step(); // until it is written over
            }
            Self { node: Arc::new(Mutex::new(node)), every, steps, reads: 0 }
        }

        fn node(&self) -> MutexGuard<'_, Node> {
            self.node.lock().unwrap()
        }

        fn goes_on(&self) {
            (0..self.steps).for_each(|_| self.node().step());
        }

        /// What was under way is over; or, of a node that is slow or has much to do, something else is under way.
        fn rest(&self, seed: u64) -> bool {
            if seed.is_multiple_of(2) {
                let node = &mut *self.node();
                drive(&mut node.ring, &mut node.disk, BootTime(1));
            } else {
                self.goes_on();
            }
            true
        }
    }

    impl Disk for Shared {
        fn list(&mut self) -> Result<Vec<(SlotId, u64)>, DiskError> {
            self.node().disk.list()
        }
        fn read(&mut self, file: FileId, at: u64, buf: &mut [u8]) -> Result<usize, DiskError> {
            self.reads += 1;
            if self.reads.is_multiple_of(self.every) {
                self.goes_on();
            }
            self.node().disk.read(file, at, buf)
        }
        fn create(&mut self, file: FileId, _: u64) -> Result<(), DiskError> {
            panic!("create {file}");
        }
        fn write(&mut self, file: FileId, _: u64, _: &[u8]) -> Result<(), DiskError> {
            panic!("write {file}");
        }
        fn sync(&mut self, file: FileId) -> Result<(), DiskError> {
            panic!("sync {file}");
        }
        fn drop_cache(&mut self, file: FileId) -> Result<(), DiskError> {
            panic!("drop cache {file}");
        }
        fn remove(&mut self, file: FileId) -> Result<(), DiskError> {
            panic!("remove {file}");
        }
    }

    #[test]
    fn what_a_node_writes_meanwhile_is_never_called_damage() {
        let mut rewritten = 0;
        for seed in 0..400 {
            let (every, steps) = (1 + seed % 7, 1 + seed % 5);
            let mut disk = Shared::new(seed, every, steps);
            let other = disk.clone();
            let found = verify(&mut disk, &Keys::default(), &mut || other.rest(seed), &mut |_, _| {}).unwrap();
            assert!(found.is_good(), "seed {seed}: {:#?}", found.findings);
            // Nor is a hole spoken of, but by one who reads more slowly than is written.
            assert!(found.findings.is_empty() || steps > every, "seed {seed}: {:#?}", found.findings);
            rewritten += found.rewritten;
            stat(&mut disk, &Keys::default(), &mut || other.rest(seed)).unwrap();
        }
        assert!(rewritten > 0, "slots were written over under the eyes of it");
    }

    #[test]
    fn damage_beside_a_node_that_writes_is_still_found() {
        let mut disk = Shared::new(3, 1000, 1);
        let slot = {
            let node = &mut *disk.node();
            let meta = node.ring.lanes[0].log.slots[4].clone();
            // In the middle of it: of frames that are not written again.
            let bytes = node.disk.file_mut(FileId::Slot(meta.id)).unwrap();
            bytes[128 * 1024..160 * 1024].fill(0x55);
            meta.id
        };
        let other = disk.clone();
        let found = verify(&mut disk, &Keys::default(), &mut || other.rest(0), &mut |_, _| {}).unwrap();
        assert!(!found.is_good());
        assert!(found.findings.iter().all(|finding| finding.file == FileId::Slot(slot).to_string()), "{found:#?}");
    }
}
