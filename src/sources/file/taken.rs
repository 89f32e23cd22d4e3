//! How lines of a file become records: where they begin, what is known of them, how they are counted.

use std::path::Path;

use super::super::Inlet;
use super::checkpoint::Checkpoint;
use crate::framing::{Frame, Framer};
use crate::hub::counters;
use crate::record::{AttrBuf, Flags, RecordRef};
use crate::topic::TopicId;

/// Begins to cut lines where the checkpoint stands.
pub fn restart(framer: &mut Framer, point: &Checkpoint) {
    framer.restart(point.offset, point.skip());
    framer.expect_holes(point.holes_until());
}

pub fn set_attrs(attrs: &mut AttrBuf, path: &Path) {
    attrs.clear();
    let path = path.as_os_str().as_encoded_bytes();
    let _fits = attrs.push("file.path", &path[..path.len().min(1024)]);
}

/// What one group took, counted once for all its lines.
#[derive(Default)]
pub struct Taken {
    pub lines: u64,
    pub bytes: u64,
    cut: u64,
    again: u64,
}

impl Taken {
    pub fn offer(&mut self, intake: &Inlet, topic: TopicId, attrs: &AttrBuf, line: &Frame<'_>, again: bool) {
        let mut flags = if line.truncated { Flags::TRUNCATED } else { Flags::default() };
        if again {
            flags = flags.with(Flags::REDELIVERED);
        }
        let record = RecordRef { value: line.bytes, flags, attrs: attrs.as_attrs(), ..RecordRef::default() };
        // Never busy inside a group; one that is too large for this ring is counted by the intake.
        let _too_large = intake.offer(topic, &record);
        self.lines += 1;
        self.bytes += line.bytes.len() as u64;
        self.cut += u64::from(line.truncated);
        self.again += u64::from(again);
    }

    pub fn count(&self, intake: &Inlet) {
        intake.count(counters::RECEIVED, self.lines);
        intake.count(counters::RECEIVED_BYTES, self.bytes);
        if self.cut > 0 {
            intake.count(counters::TRUNCATED, self.cut);
        }
        if self.again > 0 {
            intake.count(counters::REDELIVERED, self.again);
        }
    }
}
