//! The ring of a stopped node, read without writing a byte: `tail --data-dir`, `ring export`, `demo`.
//!
//! The ring is opened to be read: it writes nothing while it looks for its records, not even the root page, and asks for
//! nothing but reads afterwards. So it may belong to somebody else, or stand on a card that is mounted read-only.
//!
//! A node may run meanwhile. What it has written by the time the ring is opened is read; what it writes over before it
//! was read is told as evicted. Opened in the middle of a commit the ring looks damaged: it is opened again then, and
//! what is found is synced before it counts, because a node shows durable records only.

use std::fs::File;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use super::disk::FileDisk;
use super::identity;
use super::identity::LockError;
use crate::lane::LaneId;
use crate::pipeline::{Account, Stream, stored_streams};
use crate::ring::{
    Disk as _, DiskError, DiskErrorKind, Entry, FileId, Frame, Gap, GapReason, Keys, LanePos, LaneReader, LaneStats,
    Options, Owner, ReadStep, Report, Ring, RingId, TopicInfo, execute,
};
use crate::time::{BootTime, ClockSync, Span, WallTime};
use crate::topic::TopicPart;

/// How often a ring is looked at again that seems to be damaged while a node writes to it, and after how long: a commit
/// under way is over by then.
const TRIES: u32 = 8;
const AGAIN_AFTER: Duration = Duration::from_millis(50);

pub struct StoppedRing {
    ring: Ring,
    disk: FileDisk,
    pub report: Report,
    /// Where the last scan was ended: the next one mostly goes on there, and a slot is long.
    near: Option<LaneReader>,
}

/// What a scan of a lane meets.
pub enum Met<'a> {
    /// With it what is known of the wall clock in the boot that its time belongs to.
    Record(&'a Frame, Option<ClockSync>, Entry<'a>),
    Gap(Gap),
}

/// The process that owns the directory, where one is alive.
pub fn owner(dir: &Path) -> Option<String> {
    match identity::probe(dir) {
        Err(LockError::Owned { pid, .. }) => Some(pid),
        _ => None,
    }
}

/// Whether a node is alive that may be in the middle of something; it is over when this returns.
pub fn pause(dir: &Path) -> bool {
    let lives = owner(dir).is_some();
    if lives {
        std::thread::sleep(AGAIN_AFTER);
    }
    lives
}

/// What another process wrote is on the device afterwards. A file that cannot be synced is read all the same.
fn sync_slots(dir: &Path, disk: &mut FileDisk) -> Result<(), DiskError> {
    for (slot, _) in disk.list()? {
        let file = File::open(dir.join(FileId::Slot(slot).to_string()));
        let _ = file.and_then(|file| file.sync_data());
    }
    Ok(())
}

impl StoppedRing {
    /// Where a key is wanted that is not among `keys`: an error that names it.
    pub fn open(dir: &Path, keys: &Keys) -> Result<Self, DiskError> {
        let mut disk = FileDisk::new(dir, 0);
        let mut tries = 1..TRIES;
        let (ring, report) = loop {
            let seen = Ring::open_read_only(&mut disk, Self::options(keys));
            if seen.as_ref().is_ok_and(|(_, report)| !report.in_doubt()) || tries.next().is_none() || !pause(dir) {
                break seen?;
            }
        };
        if let Some(id) = report.locked() {
            let detail = format!("encrypted under key {id:08x}: name the file that has it with --key-file");
            let file = dir.display().to_string();
            return Err(DiskError { kind: DiskErrorKind::Locked(id), op: "read", file, detail });
        }
        if owner(dir).is_some() {
            sync_slots(dir, &mut disk)?;
        }
        Ok(Self { ring, disk, report, near: None })
    }

    fn options(keys: &Keys) -> Options {
        Options {
            max_bytes: u64::MAX,
            lanes: Vec::new(),
            linger: Span::from_secs(1),
            binding: identity::binding(),
            boot_id: identity::boot_id(),
            seed: 0,
            keys: keys.clone(),
            formats: Default::default(),
        }
    }

    pub fn id(&self) -> RingId {
        self.ring.id()
    }

    /// What the lanes are called, in order of their numbers.
    pub fn lane_names(&self) -> Vec<String> {
        let names = (0..self.ring.lane_count() as u8).map(|lane| self.ring.lane_name(LaneId(lane)));
        names.map(|name| name.map_or_else(String::new, |name| name.to_string())).collect()
    }

    /// The lanes, in order of their numbers.
    pub fn lanes(&self) -> Vec<LaneStats> {
        self.ring.stats().lanes
    }

    pub fn topics(&self) -> Vec<TopicInfo> {
        self.ring.topic_ids().into_iter().filter_map(|id| self.ring.topic(id)).collect()
    }

    pub fn topic(&self, name: &str) -> Option<TopicInfo> {
        self.ring.topic_id(name).and_then(|id| self.ring.topic(id))
    }

    /// All state entries of an owner, in key order.
    pub fn states(&self, owner: &Owner) -> Vec<(Vec<u8>, Vec<u8>)> {
        self.ring.states(owner)
    }

    /// Its ids on other machines, each with the first seq after it.
    pub fn former(&self) -> Vec<(u128, u64)> {
        self.ring.former().into_iter().map(|(id, seq)| (id.0, seq)).collect()
    }

    /// The streams of a sink in every lane that knows it, the oldest of each first, with their accounts.
    pub fn sink_streams(&self, sink: &Owner) -> Vec<(Stream, Account)> {
        let lanes = (0..self.ring.lane_count() as u8).map(LaneId);
        lanes.filter_map(|lane| stored_streams(&self.ring, sink, lane)).flatten().collect()
    }

    /// Visits the records of one partition from `offset` on until the visitor breaks or there are no more; gives the
    /// gaps on the way. The visitor gets what is known of the wall clock in the boot that the record's times belong to.
    pub fn read(
        &mut self,
        part: TopicPart,
        offset: u64,
        mut visit: impl FnMut(Option<ClockSync>, &Entry<'_>) -> ControlFlow<()>,
    ) -> Vec<Gap> {
        let mut reader = self.ring.part_reader(part, offset);
        let mut gaps = Vec::new();
        loop {
            match self.ring.read_part(&mut reader) {
                ReadStep::Frame(frame) => {
                    let clock = self.ring.clock(frame.boot());
                    for entry in frame.entries_of(part, reader.offset) {
                        reader.offset = entry.offset + 1;
                        if visit(clock, &entry).is_break() {
                            return gaps;
                        }
                    }
                }
                ReadStep::Gap(gap) => gaps.push(gap),
                ReadStep::End => return gaps,
                ReadStep::Wait => {
                    if !self.read_commands() {
                        return gaps;
                    }
                }
            }
        }
    }

    /// A seq below which no record of the lane was admitted at this time or later.
    pub fn seek_time(&self, lane: LaneId, time: WallTime) -> u64 {
        self.ring.seek_time(lane, time).seq
    }

    /// Visits the records of a lane, from the first with this seq or a higher one on, and the gaps between them, until
    /// the visitor breaks.
    pub fn scan(
        &mut self,
        lane: LaneId,
        seq: u64,
        visit: &mut dyn FnMut(Met<'_>) -> std::io::Result<ControlFlow<()>>,
    ) -> std::io::Result<()> {
        let oldest = self.lanes().get(lane.index()).map_or(LanePos::default(), |lane| lane.oldest);
        let at = oldest.max(self.ring.seek(lane, seq));
        let is_near = |near: &LaneReader| near.lane == lane && near.pos.seq <= seq && near.pos.ordinal >= at.ordinal;
        let near = self.near.take().filter(is_near);
        let mut reader = near.unwrap_or_else(|| self.ring.lane_reader(lane, at));
        loop {
            match self.ring.read_lane(&mut reader) {
                ReadStep::Frame(frame) => {
                    let clock = self.ring.clock(frame.boot());
                    // It begins with the slot that has the seq, not with the seq.
                    for entry in frame.entries_from(reader.pos.seq.max(seq)) {
                        if visit(Met::Record(&frame, clock, entry))?.is_break() {
                            reader.pos.seq = frame.first().seq;
                            self.near = Some(reader);
                            return Ok(());
                        }
                    }
                    reader.pos = frame.end();
                }
                ReadStep::Gap(mut gap) => {
                    if gap.reason == GapReason::Corrupt && self.ring.overwritten(&mut self.disk, &gap) {
                        gap.reason = GapReason::Evicted;
                    }
                    if visit(Met::Gap(gap))?.is_break() {
                        return Ok(());
                    }
                }
                ReadStep::End => return Ok(()),
                ReadStep::Wait => {
                    if !self.read_commands() {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Carries out the reads that the ring asks for; false when it asked for none.
    fn read_commands(&mut self) -> bool {
        let mut any = false;
        while let Some(command) = self.ring.poll(BootTime::default()) {
            debug_assert!(command.op.is_read());
            let completion = execute(command, &mut self.disk);
            self.ring.complete(BootTime::default(), completion);
            any = true;
        }
        any
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs::File;
    use std::time::SystemTime;

    use super::super::plan;
    use super::*;
    use crate::lane::LaneId;
    use crate::limits::MIN_RING;
    use crate::record::RecordRef;
    use crate::ring::{LaneOptions, drive};
    use crate::topic::TopicName;

    /// A node that was killed: its root page does not say that all is well.
    fn killed(dir: &Path) {
        let mut disk = FileDisk::new(dir, 0);
        let lanes = plan::lanes().into_iter().map(|name| LaneOptions { name, reserve: 0 }).collect();
        let (binding, boot_id) = (identity::binding(), identity::boot_id());
        let linger = Span::from_secs(1);
        let options = Options {
            max_bytes: MIN_RING,
            lanes,
            linger,
            binding,
            boot_id,
            seed: 3,
            keys: Default::default(),
            formats: Default::default(),
        };
        let (mut ring, _) = Ring::recover(&mut disk, options).unwrap();
        let topic = ring.open_topic(&TopicName::new("pump").unwrap(), LaneId(0), 1).unwrap();
        let now = BootTime(1);
        for i in 0..100u8 {
            let part = TopicPart { topic, partition: 0 };
            ring.append(now, part, &RecordRef::of(&[i; 1000])).unwrap();
            ring.hurry(now);
            drive(&mut ring, &mut disk, now);
        }
    }

    type Look = BTreeMap<String, (SystemTime, Vec<u8>)>;

    fn look(dir: &Path) -> (SystemTime, Look) {
        let files = std::fs::read_dir(dir).unwrap().map(|entry| {
            let path = entry.unwrap().path();
            let modified = path.metadata().unwrap().modified().unwrap();
            (path.display().to_string(), (modified, std::fs::read(&path).unwrap()))
        });
        (dir.metadata().unwrap().modified().unwrap(), files.collect())
    }

    #[test]
    fn reading_a_stopped_ring_changes_no_byte_and_no_time_of_its_directory() {
        let dir = tempfile::tempdir().unwrap();
        killed(dir.path());
        // Long ago, so that a write in this very moment would show.
        for entry in std::fs::read_dir(dir.path()).unwrap() {
            File::open(entry.unwrap().path()).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        }
        File::open(dir.path()).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        let before = look(dir.path());
        let mut ring = StoppedRing::open(dir.path(), &Keys::default()).unwrap();
        assert!(!ring.report.clean_shutdown);
        let topic = ring.topic("pump").unwrap();
        let mut read = Vec::new();
        let gaps = ring.read(TopicPart { topic: topic.id, partition: 0 }, 0, |_, entry| {
            read.push(entry.record.value[0]);
            ControlFlow::Continue(())
        });
        drop(ring);
        assert_eq!((read, gaps), ((0..100).collect(), vec![]));
        assert!(before == look(dir.path()), "something was written");
    }

    #[test]
    fn a_scan_begins_with_the_seq_that_was_asked_for_wherever_the_last_one_ended() {
        let dir = tempfile::tempdir().unwrap();
        killed(dir.path());
        let mut ring = StoppedRing::open(dir.path(), &Keys::default()).unwrap();
        let mut scan = |from: u64, to: u64| {
            let mut seqs = Vec::new();
            let done = ring.scan(LaneId(0), from, &mut |met| {
                let Met::Record(_, _, entry) = met else { panic!("a gap") };
                Ok(if entry.seq < to {
                    seqs.push(entry.seq);
                    ControlFlow::Continue(())
                } else {
                    ControlFlow::Break(())
                })
            });
            done.unwrap();
            seqs
        };
        let all = scan(0, u64::MAX);
        assert_eq!(all.len(), 100);
        for (from, to) in [(10, 20), (15, 60), (60, 61), (3, 99), (99, 1000), (0, 5), (40, 41)] {
            let (from, to) = (all[0] + from, all[0] + to);
            let expected: Vec<_> = all.iter().copied().filter(|seq| (from..to).contains(seq)).collect();
            assert_eq!(scan(from, to), expected, "{from} to {to}");
        }
    }
}
