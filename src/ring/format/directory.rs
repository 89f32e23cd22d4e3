//! A frame's directory: one run per partition, and what the previous commit held.

use super::*;
use crate::lane::LaneId;

/// Consecutive records of one partition in a frame; a frame has one run per partition, a copy one for each
/// stretch of consecutive seqs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    pub part: TopicPart,
    pub count: u32,
    pub first_seq: u64,
    pub first_offset: u64,
    /// Its bytes in the raw payload.
    pub start: u32,
    pub end: u32,
}

impl Run {
    pub fn end_offset(&self) -> u64 {
        self.first_offset + u64::from(self.count)
    }
    /// As the next commit has it.
    pub fn prev_count(&self, lane: LaneId) -> PrevCount {
        PrevCount { part: self.part, lane, count: self.count, first_offset: self.first_offset }
    }
    pub fn emit(&self, out: &mut [u8]) {
        emit_part(out, self.part);
        out[3] = 0;
        set(out, 4..8, self.count.to_le_bytes());
        set(out, 8..16, self.first_seq.to_le_bytes());
        set(out, 16..24, self.first_offset.to_le_bytes());
        set(out, 24..28, self.start.to_le_bytes());
        set(out, 28..32, self.end.to_le_bytes());
    }
    fn parse(b: &[u8]) -> Run {
        Run {
            part: parse_part(b),
            count: u32_at(b, 4..8),
            first_seq: u64_at(b, 8..16),
            first_offset: u64_at(b, 16..24),
            start: u32_at(b, 24..28),
            end: u32_at(b, 28..32),
        }
    }
}

/// What the previous commit held of one partition, so that its loss can be told to the topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrevCount {
    pub part: TopicPart,
    pub lane: LaneId,
    pub count: u32,
    pub first_offset: u64,
}

impl PrevCount {
    pub fn emit(&self, out: &mut [u8]) {
        emit_part(out, self.part);
        out[3] = self.lane.0;
        set(out, 4..8, self.count.to_le_bytes());
        set(out, 8..16, self.first_offset.to_le_bytes());
    }
    fn parse(b: &[u8]) -> PrevCount {
        PrevCount { part: parse_part(b), lane: LaneId(b[3]), count: u32_at(b, 4..8), first_offset: u64_at(b, 8..16) }
    }
}

/// The checked directory of the frame that begins at `frame[0]`; None, and nothing in `runs` and `prev`, when its checksum
/// or its sense is wrong.
pub fn parse_directory(
    header: &FrameHeader,
    frame: &[u8],
    runs: &mut Vec<Run>,
    prev: &mut Vec<PrevCount>,
) -> Option<()> {
    let parsed = parse(header, frame, runs, prev);
    if parsed.is_none() {
        runs.clear();
        prev.clear();
    }
    parsed
}

fn parse(header: &FrameHeader, frame: &[u8], runs: &mut Vec<Run>, prev: &mut Vec<PrevCount>) -> Option<()> {
    runs.clear();
    prev.clear();
    let directory = frame.get(FRAME_HEADER..header.payload_at())?;
    if crc32c::crc32c_append(header.crc_seed(), directory) != header.directory_crc {
        return None;
    }
    let (run_bytes, prev_bytes) = directory.split_at(header.runs as usize * RUN);
    runs.extend(run_bytes.chunks_exact(RUN).map(Run::parse));
    prev.extend(prev_bytes.chunks_exact(PREV_COUNT).map(PrevCount::parse));
    let (mut seq, mut byte, mut records) = (header.first_seq, 0u32, 0u32);
    for (at, run) in runs.iter().enumerate() {
        // Between the records of a copy stand those of other lanes.
        let next = run.first_seq == seq || header.kind == FrameKind::Copy && run.first_seq > seq && byte > 0;
        let fits = next && run.start == byte && run.end >= run.start && run.count > 0;
        let rises = |before: &Run| before.part != run.part || before.end_offset() <= run.first_offset;
        if !fits || run.first_offset > MAX_NUMBER || !runs[..at].iter().all(rises) {
            return None;
        }
        seq = run.first_seq.checked_add(run.count.into())?;
        records = records.checked_add(run.count)?;
        byte = run.end;
    }
    let known = prev.iter().all(|p| p.first_offset <= MAX_NUMBER);
    (known && seq == header.end_seq() && records == header.records && byte == header.raw_len).then_some(())
}
