//! The ring of a stopped node, read without writing a byte: `tail --data-dir`, `demo`.
//!
//! The ring is opened to be read: it writes nothing while it looks for its records, not even the root page, and asks for
//! nothing but reads afterwards. So it may belong to somebody else, or stand on a card that is mounted read-only.

use std::ops::ControlFlow;
use std::path::Path;

use super::disk::FileDisk;
use super::{identity, plan};
use crate::ring::{DiskError, Entry, Gap, LaneOptions, Options, Owner, ReadStep, Report, Ring, TopicInfo, execute};
use crate::time::{BootTime, ClockSync, Span};
use crate::topic::TopicPart;

pub struct StoppedRing {
    ring: Ring,
    disk: FileDisk,
    pub report: Report,
}

impl StoppedRing {
    pub fn open(dir: &Path) -> Result<Self, DiskError> {
        let mut disk = FileDisk::new(dir, 0);
        let options = Options {
            max_bytes: u64::MAX,
            lanes: plan::lanes().into_iter().map(|name| LaneOptions { name, reserve: 0 }).collect(),
            linger: Span::from_secs(1),
            binding: identity::binding(),
            boot_id: identity::boot_id(),
            seed: 0,
        };
        let (ring, report) = Ring::open_read_only(&mut disk, options)?;
        Ok(Self { ring, disk, report })
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

    use super::*;
    use crate::lane::LaneId;
    use crate::limits::MIN_RING;
    use crate::record::RecordRef;
    use crate::ring::drive;
    use crate::topic::TopicName;

    /// A node that was killed: its root page does not say that all is well.
    fn killed(dir: &Path) {
        let mut disk = FileDisk::new(dir, 0);
        let lanes = plan::lanes().into_iter().map(|name| LaneOptions { name, reserve: 0 }).collect();
        let (binding, boot_id) = (identity::binding(), identity::boot_id());
        let linger = Span::from_secs(1);
        let options = Options { max_bytes: MIN_RING, lanes, linger, binding, boot_id, seed: 3 };
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
        let mut ring = StoppedRing::open(dir.path()).unwrap();
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
}
