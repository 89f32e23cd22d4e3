//! The two disk threads, as the simulation has them: each runs its commands in order, each takes its time, and what
//! they finished reaches the ring in any order between the two.

use std::collections::{BTreeSet, VecDeque};

use headwater::backoff::Rng;
use headwater::ring::{Command, Completion, FileId, Op, execute};
use headwater::topic::{TopicId, TopicPart};

use crate::disk::{Crash, SimDisk};
use crate::model::Extent;
use crate::planted::Plant;

/// Records that stood in the journal, written once more to their lane.
pub struct Copied {
    pub extent: Extent,
    /// Of each partition, offsets from and to.
    pub parts: Vec<(TopicPart, u64, u64)>,
}

/// What a copy holds, by its directory; None: the bytes are no copy.
fn runs_of_copy(frame: &[u8]) -> Option<Vec<(TopicPart, u64, u64)>> {
    let number = |at: usize, n: usize| frame[at..at + n].iter().rev().fold(0u64, |sum, b| sum << 8 | u64::from(*b));
    let is_copy = frame.starts_with(b"HWfr") && frame[5] == 5;
    let run = |at: usize| {
        let part = TopicPart { topic: TopicId(number(at, 2) as u16), partition: frame[at + 2] };
        let first = number(at + 16, 8);
        (part, first, first + number(at + 4, 4))
    };
    is_copy.then(|| (0..number(42, 2) as usize).map(|i| run(512 + 32 * i)).collect())
}

pub struct Threads {
    pub disk: SimDisk,
    plant: Plant,
    writer: VecDeque<Command>,
    reader: VecDeque<Command>,
    written: VecDeque<Completion>,
    read: VecDeque<Completion>,
    /// Writes whose completion the ring has not seen, and those that it has seen since `take_landed`.
    under_way: VecDeque<(u64, Extent)>,
    landed: Vec<Extent>,
    /// Copies on their way, with what they hold, and those that landed since `take_copied`.
    copies: Vec<(u64, Copied)>,
    copied: Vec<Copied>,
    /// Files whose beginning could not be written: what follows there is not known to be anybody's.
    headless: BTreeSet<FileId>,
    /// Turns for which the writer does nothing.
    pub stalled: u32,
    /// Something other than a plain read error happened: the ring may have had to make do with less.
    pub squeezed: bool,
    /// First writes into a slot, new or reused.
    pub slots_begun: u64,
    /// Which, since `take_begun`.
    begun: Vec<FileId>,
}

impl Threads {
    pub fn new(disk: SimDisk, plant: Plant) -> Self {
        Self {
            disk,
            plant,
            writer: VecDeque::new(),
            reader: VecDeque::new(),
            written: VecDeque::new(),
            read: VecDeque::new(),
            under_way: VecDeque::new(),
            landed: Vec::new(),
            copies: Vec::new(),
            copied: Vec::new(),
            headless: BTreeSet::new(),
            stalled: 0,
            squeezed: false,
            slots_begun: 0,
            begun: Vec::new(),
        }
    }

    pub fn give(&mut self, command: Command, rng: &mut Rng) {
        match &command.op {
            Op::Read { .. } => return self.reader.push_back(command),
            Op::Write { file, at, data, .. } => {
                let extent = Extent { file: *file, from: *at, to: at + data.len() as u64, tainted: false };
                self.under_way.push_back((command.token, extent));
                self.copies.extend(runs_of_copy(data).map(|parts| (command.token, Copied { extent, parts })));
                if *at == 0 && *file != FileId::Root {
                    self.begun.push(*file);
                }
            }
            Op::Remove { slot } => self.begun.push(FileId::Slot(*slot)),
            Op::Create { .. } => {}
        }
        if self.plant == Plant::WritesReordered && !self.writer.is_empty() && rng.below(2) == 0 {
            self.writer.push_front(command);
        } else {
            self.writer.push_back(command);
        }
    }

    /// Some turns of both threads.
    pub fn run_some(&mut self, rng: &mut Rng) {
        self.stalled = self.stalled.saturating_sub(1);
        if self.stalled == 0 && rng.below(2) == 0 {
            for _ in 0..1 + rng.below(4) {
                self.run_writer();
            }
        }
        if rng.below(2) == 0 {
            for _ in 0..1 + rng.below(4) {
                self.run_reader();
            }
        }
    }

    pub fn run_writer(&mut self) {
        if self.disk.dead().is_none()
            && let Some(command) = self.writer.pop_front()
        {
            self.slots_begun += u64::from(matches!(&command.op, Op::Write { at: 0, file: FileId::Slot(_), .. }));
            let done = execute(command, &mut self.disk);
            if self.disk.dead().is_none() {
                self.squeezed |= done.result.is_err();
                self.written.push_back(done);
            }
        }
    }

    pub fn run_reader(&mut self) {
        if self.disk.dead().is_none()
            && let Some(command) = self.reader.pop_front()
        {
            let done = execute(command, &mut self.disk);
            if self.disk.dead().is_none() {
                self.read.push_back(done);
            }
        }
    }

    pub fn run_all(&mut self) {
        while !self.writer.is_empty() && self.disk.dead().is_none() {
            self.run_writer();
        }
        while !self.reader.is_empty() && self.disk.dead().is_none() {
            self.run_reader();
        }
    }

    /// The next thing that one of the threads finished.
    pub fn finished(&mut self, rng: &mut Rng) -> Option<Completion> {
        let from_writer = match (self.written.is_empty(), self.read.is_empty()) {
            (true, true) => return None,
            (false, false) => rng.below(2) == 0,
            (nothing_written, _) => !nothing_written,
        };
        if !from_writer {
            return self.read.pop_front();
        }
        let done = self.written.pop_front()?;
        if let Some(i) = self.under_way.iter().position(|(token, _)| *token == done.token) {
            let (_, extent) = self.under_way.remove(i)?;
            match (extent.from, &done.result) {
                (0, Ok(_)) => drop(self.headless.remove(&extent.file)),
                (0, Err(_)) => drop(self.headless.insert(extent.file)),
                _ => {}
            }
            self.landed.push(extent);
        }
        if let Some(i) = self.copies.iter().position(|(token, _)| *token == done.token) {
            let (_, copied) = self.copies.remove(i);
            let stands = done.result.is_ok() && !self.headless.contains(&copied.extent.file);
            self.copied.extend(stands.then_some(copied));
        }
        Some(done)
    }

    pub fn finished_read(&mut self) -> Option<Completion> {
        self.read.pop_front()
    }

    pub fn is_reading(&self) -> bool {
        !self.reader.is_empty() || !self.read.is_empty()
    }

    pub fn idle(&self) -> bool {
        self.writer.is_empty() && self.reader.is_empty() && self.written.is_empty() && self.read.is_empty()
    }

    /// Where the writes went that the ring has learned of since the last call.
    pub fn take_landed(&mut self) -> Vec<Extent> {
        std::mem::take(&mut self.landed)
    }

    /// The copies that the ring has learned of since the last call.
    pub fn take_copied(&mut self) -> Vec<Copied> {
        std::mem::take(&mut self.copied)
    }

    /// Copies of which the ring has not learned whether they landed; after a crash it may find them.
    pub fn unheard_copies(&self) -> impl Iterator<Item = &Copied> {
        self.copies.iter().map(|(_, copied)| copied).chain(&self.copied)
    }

    /// Bytes of the device were destroyed: of writes that the ring has not learned of as well.
    pub fn taint(&mut self, file: FileId, from: u64, to: u64) {
        let unknown = self.under_way.iter_mut().map(|(_, extent)| extent).chain(&mut self.landed);
        let copies = self.copies.iter_mut().map(|(_, copied)| copied).chain(&mut self.copied);
        let unknown = unknown.chain(copies.map(|copied| &mut copied.extent));
        unknown.for_each(|extent| extent.taint(file, from, to));
    }

    /// Slots that the ring began to write over, or to remove, since the last call.
    pub fn take_begun(&mut self) -> Vec<FileId> {
        std::mem::take(&mut self.begun)
    }

    /// The process, and perhaps the power, is gone. Returns where the writes went whose outcome nobody settled.
    pub fn crash(&mut self, crash: Crash) -> Vec<Extent> {
        self.disk.crash(crash);
        self.writer.clear();
        self.reader.clear();
        self.written.clear();
        self.read.clear();
        self.copies.clear();
        self.copied.clear();
        self.headless.clear();
        self.stalled = 0;
        let mut extents = self.take_landed();
        extents.extend(self.under_way.drain(..).map(|(_, extent)| extent));
        extents
    }
}
