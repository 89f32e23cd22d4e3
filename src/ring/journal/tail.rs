//! The tail of a lane: its newest durable records as far as they stand in the journal alone.
//!
//! They are few (64 KiB and what one commit adds), and all of them are in memory: readers are served from here, and the
//! copies are made of it, without a read. A **chunk** is what one copy holds: consecutive ordinals of one boot, under one
//! ring id. There is one, and the next where it is full; more where a recovery found something missing in between.

use std::collections::VecDeque;
use std::sync::Arc;

use super::super::format::{MAX_RUNS, Run};
use super::super::frame::Frame;
use super::super::wire::{append_record, take_record};
use super::super::{LanePos, format::FrameHeader};
use crate::limits::FRAME_RAW_TARGET;
use crate::time::BootTime;
use crate::topic::TopicPart;

/// The records of one copy.
#[derive(Clone, Debug)]
pub struct Chunk {
    pub frame: Arc<Frame>,
    /// Admission of its newest record.
    pub last: BootTime,
}

/// What of a lane stands in the journal alone, in order.
#[derive(Debug, Default)]
pub struct Tail {
    chunks: VecDeque<Chunk>,
    /// One that was copied: its buffers are used again.
    spare: Option<Arc<Frame>>,
}

impl Tail {
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Where it begins.
    pub fn first(&self) -> Option<LanePos> {
        self.chunks.front().map(|c| c.frame.first())
    }

    /// Where its newest record ends.
    pub fn end(&self) -> Option<LanePos> {
        self.chunks.back().map(|c| c.frame.end())
    }

    /// The oldest boot in which records of it were admitted; 0: there are none.
    pub fn oldest_boot(&self) -> u32 {
        self.chunks.iter().map(|c| c.frame.boot).min().unwrap_or(0)
    }

    /// Its oldest chunk.
    pub fn front(&self) -> Option<&Chunk> {
        self.chunks.front()
    }

    /// A chunk is complete: what comes next goes into another.
    pub fn is_ripe(&self) -> bool {
        self.chunks.len() > 1 || self.chunks.front().is_some_and(|c| c.frame.raw.len() >= FRAME_RAW_TARGET)
    }

    /// Stretches of consecutive ordinals: the first place and one past the last ordinal.
    pub fn stretches(&self) -> Vec<(LanePos, u64)> {
        let mut all: Vec<(LanePos, u64)> = Vec::new();
        for frame in self.chunks.iter().map(|c| &c.frame) {
            match all.last_mut().filter(|(_, end)| *end == frame.first.ordinal) {
                Some((_, end)) => *end = frame.end().ordinal,
                None => all.push((frame.first, frame.end().ordinal)),
            }
        }
        all
    }

    /// What holds a record.
    pub fn at(&self, ordinal: u64) -> Option<&Arc<Frame>> {
        let frame = &self.chunks.iter().find(|c| c.frame.end().ordinal > ordinal)?.frame;
        (frame.first.ordinal <= ordinal).then_some(frame)
    }

    /// The first place at or above an ordinal that is not there.
    pub fn next(&self, ordinal: u64) -> Option<LanePos> {
        self.chunks.iter().map(|c| c.frame.first).find(|first| first.ordinal >= ordinal)
    }

    /// What holds the record of a partition with this offset or, where it has none, the next one above.
    pub fn of_part(&self, part: TopicPart, offset: u64) -> Option<(&Arc<Frame>, &Run)> {
        self.chunks.iter().find_map(|c| c.frame.run_at(part, offset).map(|run| (&c.frame, run)))
    }

    /// The first offset of a partition.
    pub fn first_of(&self, part: TopicPart) -> Option<u64> {
        self.of_part(part, 0).map(|(_, run)| run.first_offset)
    }

    /// Everything below this ordinal is copied.
    pub fn drop_below(&mut self, ordinal: u64) {
        while self.chunks.front().is_some_and(|c| c.frame.end().ordinal <= ordinal) {
            let gone = self.chunks.pop_front().map(|c| c.frame);
            self.spare = gone.filter(|f| Arc::strong_count(f) == 1).or(self.spare.take());
        }
    }

    /// Adds the records of a frame of the journal.
    pub fn push(&mut self, frame: &Frame, last: BootTime) {
        if let Some(chunk) = self.chunks.back_mut().filter(|c| takes(&c.frame, frame)) {
            // Where a reader holds it, the reader keeps what it has.
            let frame_of = Arc::make_mut(&mut chunk.frame);
            if add(frame_of, frame).is_some() {
                chunk.last = chunk.last.max(last);
                return;
            }
        }
        let mut arc = self.spare.take().unwrap_or_default();
        match Arc::get_mut(&mut arc) {
            Some(to) => to.clone_from(frame),
            None => arc = Arc::new(frame.clone()),
        }
        self.chunks.push_back(Chunk { frame: arc, last });
    }
}

fn takes(to: &Frame, frame: &Frame) -> bool {
    let end = to.end();
    to.boot == frame.boot
        && to.ring == frame.ring
        && end.ordinal == frame.first.ordinal
        && end.seq <= frame.first.seq
        && u32::try_from(frame.end_seq - to.first.seq).is_ok()
        && to.raw.len() + frame.raw.len() <= FRAME_RAW_TARGET
        && to.runs.len() + frame.runs.len() <= MAX_RUNS
        && frame.runs.iter().all(|run| follows(to, run))
}

/// A partition's offsets are consecutive in a chunk: what it has in another lane stands between what is in this one.
fn follows(to: &Frame, run: &Run) -> bool {
    let before = to.runs.iter().rfind(|old| old.part == run.part);
    before.is_none_or(|old| old.end_offset() == run.first_offset)
}

/// None, and nothing is changed: its records cannot be told apart.
fn add(to: &mut Frame, frame: &Frame) -> Option<()> {
    let from = to.raw.len();
    let want = from + frame.raw.len();
    if want > to.raw.capacity() {
        to.raw.reserve_exact((2 * want).min(FRAME_RAW_TARGET).max(want) - from);
    }
    if to.base == frame.base {
        to.raw.extend_from_slice(&frame.raw);
    } else {
        // Times are relative to the first one, and records are written anew.
        let mut rest = &frame.raw[..];
        while !rest.is_empty() {
            let Some((record, after)) = take_record(rest, frame.base) else {
                to.raw.truncate(from);
                return None;
            };
            append_record(&mut to.raw, to.base, &record);
            rest = after;
        }
    }
    if to.base == frame.base {
        frame.runs.iter().for_each(|run| join(to, *run, (run.start + from as u32, run.end + from as u32)));
    } else {
        let mut start = from;
        for run in &frame.runs {
            let mut end = start;
            for _ in 0..run.count {
                end = to.raw.len() - take_record(&to.raw[end..], to.base).map_or(0, |(_, rest)| rest.len());
            }
            join(to, *run, (start as u32, end as u32));
            start = end;
        }
    }
    to.records += frame.records;
    to.end_seq = frame.end_seq;
    Some(())
}

/// Adds a run whose bytes stand there already.
fn join(to: &mut Frame, run: Run, (start, end): (u32, u32)) {
    let follows = |last: &&mut Run| {
        last.part == run.part
            && last.first_seq + u64::from(last.count) == run.first_seq
            && last.end_offset() == run.first_offset
    };
    match to.runs.last_mut().filter(follows) {
        Some(last) => (last.count, last.end) = (last.count + run.count, end),
        None => to.runs.push(Run { start, end, ..run }),
    }
}

impl Chunk {
    /// The fields of its copy's header that are its own.
    pub fn describe(&self, header: &mut FrameHeader) {
        let frame = &self.frame;
        header.boot = frame.boot;
        (header.first_seq, header.records) = (frame.first.seq, frame.records);
        header.copy_first = frame.first.ordinal;
        header.copy_span = (frame.end_seq - frame.first.seq) as u32;
        (header.first_time, header.last_time) = (frame.base.0, self.last.0);
    }
}
