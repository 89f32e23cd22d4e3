//! The ring of a stopped node, read without writing a byte: `tail --data-dir`, `demo`.
//!
//! Recovery itself writes nothing; of the commands that the ring then has, only reads are carried out.

use std::ops::ControlFlow;
use std::path::Path;

use super::disk::FileDisk;
use super::{identity, plan};
use crate::ring::{DiskError, Entry, Gap, LaneOptions, Options, ReadStep, Report, Ring, TopicInfo, execute};
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
        let (ring, report) = Ring::recover(&mut disk, options)?;
        Ok(Self { ring, disk, report })
    }

    pub fn topics(&self) -> Vec<TopicInfo> {
        self.ring.topic_ids().into_iter().filter_map(|id| self.ring.topic(id)).collect()
    }

    pub fn topic(&self, name: &str) -> Option<TopicInfo> {
        self.ring.topic_id(name).and_then(|id| self.ring.topic(id))
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
            if command.op.is_read() {
                let completion = execute(command, &mut self.disk);
                self.ring.complete(BootTime::default(), completion);
                any = true;
            }
        }
        any
    }
}
