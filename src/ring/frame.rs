//! A frame in memory: the raw payload of one commit and the directory over it, shared by all its readers.
//!
//! The frame that a batch was sealed into and the frame that is read back from the disk are the same thing here, so
//! live data and backlog take one path. Records are decoded borrowed, one by one, without allocation.

use super::cipher::Part;
use super::format::{Bad, FrameHeader, PrevCount, Run, parse_directory};
use super::unpack::Unpack;
use super::wire::take_record;
use super::{LanePos, RingId};
use crate::lane::LaneId;
use crate::record::RecordRef;
use crate::time::BootTime;
use crate::topic::TopicPart;

/// A decompressed frame.
#[derive(Debug, Default)]
pub struct Frame {
    pub(super) ring: RingId,
    pub(super) lane: LaneId,
    pub(super) boot: u32,
    pub(super) commit: u64,
    pub(super) first: LanePos,
    pub(super) records: u32,
    /// One past its last seq: between the records of a copy stand those of other lanes.
    pub(super) end_seq: u64,
    pub(super) base: BootTime,
    pub(super) runs: Vec<Run>,
    pub(super) raw: Vec<u8>,
}

impl Clone for Frame {
    fn clone(&self) -> Self {
        let mut frame = Frame::default();
        frame.clone_from(self);
        frame
    }

    /// Into the buffers that are there.
    fn clone_from(&mut self, from: &Self) {
        let (mut runs, mut raw) = (std::mem::take(&mut self.runs), std::mem::take(&mut self.raw));
        runs.clone_from(&from.runs);
        raw.clone_from(&from.raw);
        *self = Frame {
            ring: from.ring,
            lane: from.lane,
            boot: from.boot,
            commit: from.commit,
            first: from.first,
            records: from.records,
            end_seq: from.end_seq,
            base: from.base,
            runs,
            raw,
        };
    }
}

/// One record of a frame.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    pub seq: u64,
    /// Its place in its lane.
    pub ordinal: u64,
    pub part: TopicPart,
    pub offset: u64,
    pub record: RecordRef<'a>,
}

impl Frame {
    pub fn ring_id(&self) -> RingId {
        self.ring
    }
    pub fn lane(&self) -> LaneId {
        self.lane
    }
    /// Number of the boot in which it was written: the key of its [`crate::time::ClockSync`].
    pub fn boot(&self) -> u32 {
        self.boot
    }
    /// The first record's place.
    pub fn first(&self) -> LanePos {
        self.first
    }
    /// One past the last record's place.
    pub fn end(&self) -> LanePos {
        LanePos { seq: self.end_seq, ordinal: self.first.ordinal + u64::from(self.records) }
    }
    /// Bytes that it keeps in memory.
    pub fn memory(&self) -> usize {
        self.raw.capacity() + self.runs.capacity() * size_of::<Run>() + size_of::<Frame>()
    }
    /// Bytes of its records as they are stored, uncompressed.
    pub fn raw_len(&self) -> usize {
        self.raw.len()
    }
    /// Partitions that have records here, with their first offset and count.
    pub fn parts(&self) -> impl Iterator<Item = (TopicPart, u64, u32)> {
        self.runs.iter().map(|r| (r.part, r.first_offset, r.count))
    }
    /// Records with `seq` or more, in order.
    pub fn entries_from(&self, seq: u64) -> impl Iterator<Item = Entry<'_>> {
        let from = self.runs.partition_point(|r| r.first_seq + u64::from(r.count) <= seq);
        self.entries(from, None).skip_while(move |e| e.seq < seq)
    }
    /// Records of one partition with `offset` or more, in order.
    pub fn entries_of(&self, part: TopicPart, offset: u64) -> impl Iterator<Item = Entry<'_>> {
        self.entries(0, Some(part)).skip_while(move |e| e.offset < offset)
    }
    /// Records from the run `from` on, of one partition or of all.
    fn entries(&self, from: usize, only: Option<TopicPart>) -> Entries<'_> {
        let before: u64 = self.runs[..from].iter().map(|r| u64::from(r.count)).sum();
        let ordinal = self.first.ordinal + before;
        Entries { frame: self, runs: &self.runs[from..], only, ordinal, rest: &[], index: 0, left: 0, run: None }
    }
    /// The run of a partition that holds `offset`, or the first one past it.
    pub(super) fn run_at(&self, part: TopicPart, offset: u64) -> Option<&Run> {
        self.runs.iter().find(|r| r.part == part && r.end_offset() > offset)
    }

    /// Fills `self` from the bytes of a frame whose header was parsed; reuses its buffers. [`Bad::Key`]: it holds as far as
    /// can be told without the key, and `self` is what its directory says, without its records.
    pub(super) fn decode(&mut self, header: &FrameHeader, bytes: &[u8], unpack: &mut Unpack) -> Result<(), Bad> {
        let mut prev: Vec<PrevCount> = Vec::new();
        parse_directory(header, bytes, &mut self.runs, &mut prev).ok_or(Bad::Crc)?;
        self.raw.clear();
        self.describe(header);
        unpack.section(header, bytes, Part::Payload, &mut self.raw)?;
        if self.decodes() { Ok(()) } else { Err(Bad::Field) }
    }

    pub(super) fn describe(&mut self, header: &FrameHeader) {
        self.ring = header.ring;
        self.lane = header.lane;
        self.boot = header.boot;
        self.commit = header.commit;
        self.first = LanePos { seq: header.first_seq, ordinal: header.first_ordinal() };
        self.records = header.records;
        self.end_seq = header.end_seq();
        self.base = BootTime(header.first_time);
    }

    /// Whether every run holds exactly the records that it says.
    fn decodes(&self) -> bool {
        self.runs.iter().all(|run| {
            let Some(mut rest) = self.raw.get(run.start as usize..run.end as usize) else { return false };
            for _ in 0..run.count {
                match take_record(rest, self.base) {
                    Some((_, after)) => rest = after,
                    None => return false,
                }
            }
            rest.is_empty()
        })
    }
}

struct Entries<'a> {
    frame: &'a Frame,
    runs: &'a [Run],
    only: Option<TopicPart>,
    /// Of the next record.
    ordinal: u64,
    run: Option<&'a Run>,
    rest: &'a [u8],
    index: u32,
    left: u32,
}

impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        while self.left == 0 {
            let (run, after) = self.runs.split_first()?;
            if self.only.is_some_and(|part| part != run.part) {
                (self.runs, self.ordinal) = (after, self.ordinal + u64::from(run.count));
                continue;
            }
            self.rest = self.frame.raw.get(run.start as usize..run.end as usize)?;
            (self.run, self.runs, self.index, self.left) = (Some(run), after, 0, run.count);
        }
        let run = self.run?;
        let (record, rest) = take_record(self.rest, self.frame.base)?;
        let n = u64::from(self.index);
        self.rest = rest;
        self.index += 1;
        self.left -= 1;
        let ordinal = self.ordinal;
        self.ordinal += 1;
        Some(Entry { seq: run.first_seq + n, ordinal, part: run.part, offset: run.first_offset + n, record })
    }
}
