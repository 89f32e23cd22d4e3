//! Finding records again: by place in a lane (sinks), by offset in a partition (endpoint, `tail`).
//!
//! Memory is looked through first; else the slots are walked frame by frame, header and directory only, until the
//! frame is met. Ordinals are dense, so whatever a walk does not meet is a gap and its size is known. A reader never
//! sees a frame that is not durable, and never one that recovery gave up.

use std::cmp::Ordering;
use std::sync::Arc;

pub use super::cache::Reading;

use super::cache::Peek;
use super::format::{FIRST_FRAME, FRAME_HEADER, FrameHeader, FrameKind, PrevCount, Run, parse_directory};
use super::frame::Frame;
use super::slots::Lane;
use super::*;
use crate::limits::PAGE;
use crate::time::WallTime;
use crate::topic::TopicPart;

/// Where a walk stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    slot: SlotId,
    generation: u64,
    at: u32,
    /// The last commit that was met.
    commit: u64,
}

/// A place from which one lane is read in order (sinks).
#[derive(Clone, Debug)]
pub struct LaneReader {
    pub lane: LaneId,
    pub pos: LanePos,
    place: Option<Place>,
    /// The ordinal for which `place` was right.
    placed: u64,
}

/// A place from which one partition is read in order (endpoint, `tail`).
#[derive(Clone, Debug)]
pub struct PartReader {
    pub part: TopicPart,
    pub offset: u64,
    place: Option<Place>,
    /// The offset for which `place` was right.
    placed: u64,
    missing: Missing,
}

/// What was found to be missing on the way from the last frame with something of the partition to a reader's place.
#[derive(Clone, Copy, Debug, Default)]
struct Missing {
    /// One past the ordinals that were walked over; None: no frame was met.
    met: Option<u64>,
    /// Some of it was durable.
    corrupt: bool,
    /// The way began at the lane's oldest slot, which does not say that it has the reader's offset.
    early: bool,
}

/// What a reader meets next. Only durable records are ever shown.
#[derive(Clone, Debug)]
pub enum ReadStep {
    /// A frame that holds the reader's position; use [`Frame::entries_from`] / filter by part, then move the reader.
    Frame(Arc<Frame>),
    /// Records that will never arrive; the reader has already been moved past them.
    Gap(Gap),
    /// The frame is being read from the disk; ask again after the next completion.
    Wait,
    /// Nothing durable beyond the position yet.
    End,
}

enum Scan {
    Wait,
    /// A good header stands at the place.
    Frame(Box<FrameHeader>),
    /// Nothing more in the lane.
    End,
}

enum Load {
    Wait,
    Bad(Vec<Run>),
    /// A directory alone: its records were never written.
    Passed(Vec<Run>),
    Frame(Arc<Frame>),
}

impl Place {
    fn slot_start(lane: &Lane, index: usize) -> Place {
        let slot = &lane.log.slots[index];
        Place { slot: slot.id, generation: slot.generation, at: FIRST_FRAME, commit: slot.last_commit }
    }

    /// Still there, and not before the slot of generation `least`.
    fn is_in(&self, lane: &Lane, least: u64) -> bool {
        self.generation >= least && lane.log.slot_index(self.slot, self.generation).is_some()
    }

    fn pass(&mut self, header: &FrameHeader) {
        self.at += header.frame_len;
        self.commit = header.commit;
    }
}

impl Ring {
    /// A reader of a lane from `pos` (clamped to what there is or was).
    pub fn lane_reader(&self, lane: LaneId, pos: LanePos) -> LaneReader {
        let end = self.lane_end(lane);
        let pos = if pos.ordinal > end.ordinal { end } else { pos };
        LaneReader { lane, pos, place: None, placed: 0 }
    }

    /// A place at or before the first record with this seq or a higher one, not further from it than a slot.
    pub fn seek(&self, lane: LaneId, seq: u64) -> LanePos {
        let slots = self.lanes.get(lane.0 as usize).map(|l| &l.log.slots);
        let before = slots.and_then(|s| s.get(s.partition_point(|s| s.first.seq <= seq).checked_sub(1)?));
        LanePos { seq, ordinal: before.map_or(0, |s| s.first.ordinal) }
    }

    /// A place in a lane below which no record was admitted at `time` or later, not further from the first that was than
    /// a slot, as far as the clocks of its boots were trusted: where one was not, nothing behind it is skipped.
    pub fn seek_time(&self, lane: LaneId, time: WallTime) -> LanePos {
        let Some(lane) = self.lanes.get(lane.0 as usize) else { return LanePos::default() };
        let before = |slot: &&super::slots::SlotMeta| {
            let opened = slot.opened.and_then(|(boot, at)| Some(self.clock(boot).filter(|c| c.trusted)?.wall(at)));
            opened.is_some_and(|opened| opened <= time)
        };
        let last = lane.log.slots.iter().take_while(before).last();
        last.map_or(lane.oldest, |slot| slot.first.max(lane.oldest))
    }

    pub fn part_reader(&self, part: TopicPart, offset: u64) -> PartReader {
        PartReader { part, offset, place: None, placed: 0, missing: Missing::default() }
    }

    pub(super) fn complete_read(&mut self, completion: Completion) {
        self.reading.set_now(self.writer.now);
        self.reading.complete(completion);
    }

    /// The oldest slot changed: what its header lists is what can still be read.
    pub(super) fn refresh_earliest(&mut self, lane: LaneId) {
        let mut stale = vec![lane];
        while let Some(lane) = stale.pop() {
            let Some(Lane { log: super::slots::Log { slots, .. }, oldest, tail, .. }) = self.lanes.get(lane.index())
            else {
                continue;
            };
            let (front, oldest) = (slots.front(), oldest.ordinal);
            // A topic that came from this lane: when nothing of it is left here, the next lane's oldest slot counts.
            for topic in self.topics.iter_mut().filter(|t| t.first_lane() == lane && !t.moves.is_empty()) {
                while let Some(gone) = topic.moves.first().filter(|m| m.from == lane && m.end <= oldest).cloned() {
                    for (part, end) in topic.parts.iter_mut().zip(&gone.offsets) {
                        part.info.earliest = part.info.earliest.max(*end).min(part.durable);
                    }
                    topic.moves.remove(0);
                    stale.push(topic.first_lane());
                }
            }
            let Some(front) = front else {
                for topic in self.topics.iter_mut().filter(|t| t.first_lane() == lane && t.moves.is_empty()) {
                    for (partition, part) in topic.parts.iter_mut().enumerate() {
                        let id = TopicPart { topic: topic.id, partition: partition as u8 };
                        part.info.earliest = tail.first_of(id).unwrap_or(part.durable);
                    }
                }
                continue;
            };
            for (part, offset) in &front.starts {
                let Some(topic) = self.topics.get_mut(part.topic).filter(|t| t.first_lane() == lane) else { continue };
                let moved = topic.moves.first().and_then(|m| m.offsets.get(part.partition as usize)).copied();
                if let Some(p) = topic.parts.get_mut(part.partition as usize) {
                    let most = moved.unwrap_or(p.durable).min(p.durable);
                    p.info.earliest = p.info.earliest.max((*offset).min(most)).min(p.durable);
                }
            }
        }
    }

    /// A frame in which `reader.pos` lies, a gap, or why not. The caller moves `reader.pos` to the frame's end
    /// (or part-way) when it has used it.
    pub fn read_lane(&mut self, reader: &mut LaneReader) -> ReadStep {
        let Some(lane) = self.lanes.get(reader.lane.0 as usize) else { return ReadStep::End };
        if reader.pos.ordinal >= lane.shown.ordinal {
            return ReadStep::End;
        }
        if reader.pos.ordinal >= lane.durable.ordinal {
            return match self.held_at(reader.lane, reader.pos.ordinal) {
                Ok(frame) => ReadStep::Frame(frame),
                Err((to, parts)) => lane_gap(reader, to, GapReason::Passed, parts),
            };
        }
        if reader.pos.ordinal < lane.oldest.ordinal {
            let to = lane.oldest;
            return lane_gap(reader, to, GapReason::Evicted, Vec::new());
        }
        if let Some(frame) = self.reading.of_lane(reader.lane, reader.pos.ordinal) {
            return ReadStep::Frame(frame.clone());
        }
        if let Some(frame) = lane.tail.at(reader.pos.ordinal) {
            return ReadStep::Frame(frame.clone());
        }
        if reader.pos.ordinal >= lane.dense().ordinal {
            let to = lane.tail.next(reader.pos.ordinal).unwrap_or(lane.durable);
            return self.hole(reader, to, Vec::new());
        }
        let Some(index) = lane.slot_of(reader.pos.ordinal) else { return ReadStep::End };
        let start = Place::slot_start(lane, index);
        // A walk over a hole may stand far beyond it already; it must not begin again with every wait.
        let usable = |p: &Place| p.is_in(lane, start.generation) && reader.placed <= reader.pos.ordinal;
        let place = reader.place.filter(usable).unwrap_or(start);
        self.walk_lane(reader, place)
    }

    fn walk_lane(&mut self, reader: &mut LaneReader, mut place: Place) -> ReadStep {
        let at = reader.lane.index();
        let mut torn: Option<(LanePos, Vec<GapPart>)> = None;
        loop {
            let header = match self.scan(at, &mut place) {
                Scan::Frame(header) => header,
                Scan::Wait => {
                    (reader.place, reader.placed) = (Some(place), reader.pos.ordinal);
                    return ReadStep::Wait;
                }
                Scan::End => {
                    let dense = self.lanes[at].dense();
                    let (to, parts) = torn.filter(|t| t.0.ordinal <= dense.ordinal).unwrap_or((dense, Vec::new()));
                    return self.hole(reader, to, parts);
                }
            };
            let first = LanePos { seq: header.first_seq, ordinal: header.first_ordinal() };
            if header.records == 0 || header.end_ordinal() <= reader.pos.ordinal {
                place.pass(&header);
                continue;
            }
            (reader.place, reader.placed) = (Some(place), reader.pos.ordinal);
            if first.ordinal > reader.pos.ordinal {
                if let Some((to, parts)) = torn.filter(|t| t.0.ordinal <= first.ordinal) {
                    return self.hole(reader, to, parts);
                }
                let parts = self.lost_parts(&header, &place, first.ordinal - reader.pos.ordinal);
                return self.hole(reader, first, parts);
            }
            match self.fetch(&header, &place) {
                Load::Wait => return ReadStep::Wait,
                Load::Frame(frame) => return ReadStep::Frame(frame),
                Load::Bad(runs) => {
                    let to = LanePos { seq: header.end_seq(), ordinal: header.end_ordinal() };
                    let parts = gap_parts(&runs, reader.pos.ordinal - first.ordinal);
                    if header.kind == FrameKind::Copy {
                        // It was perhaps torn, and made again behind.
                        torn = Some((to, parts));
                        place.pass(&header);
                        continue;
                    }
                    // A frame that was never synced was given up by recovery, header and all.
                    return lane_gap(reader, to, GapReason::Corrupt, parts);
                }
                Load::Passed(runs) => {
                    let to = LanePos { seq: header.end_seq(), ordinal: header.end_ordinal() };
                    let parts = super::spill::parts_of(&runs, reader.pos.ordinal == first.ordinal);
                    return lane_gap(reader, to, GapReason::Passed, parts);
                }
            }
        }
    }

    /// Nothing stands between the reader and `to`: its beginning that has one reason.
    fn hole(&self, reader: &mut LaneReader, to: LanePos, parts: Vec<GapPart>) -> ReadStep {
        let from = reader.pos;
        let (reason, end) = self.sessions.reason(reader.lane, from.ordinal, to.ordinal);
        if end == to.ordinal {
            return lane_gap(reader, to, reason, parts);
        }
        // The next record's seq is at least this much higher; which one it is stands in its frame only. Not above what
        // comes after it, where a reader's own seq was too high.
        let most = to.seq.saturating_sub(to.ordinal - end);
        let part = LanePos { seq: (from.seq + (end - from.ordinal)).min(most), ordinal: end };
        lane_gap(reader, part, reason, Vec::new())
    }

    /// As `read_lane`; frames without records of the partition are stepped over. The gap's `parts` say which offsets
    /// are gone.
    pub fn read_part(&mut self, reader: &mut PartReader) -> ReadStep {
        let Some(part) = self.topics.part(reader.part) else { return ReadStep::End };
        let info = part.info;
        if reader.offset >= info.durable_end {
            return ReadStep::End;
        }
        let Some(topic) = self.topics.get(reader.part.topic) else { return ReadStep::End };
        if reader.offset >= part.durable {
            let lane = topic.lane;
            return match self.held_of(reader.part, reader.offset) {
                Ok(frame) => ReadStep::Frame(frame),
                Err(to) => self.part_gap(reader, lane, to, GapReason::Passed),
            };
        }
        let (lane, moved) = topic.lane_of(reader.part.partition, reader.offset);
        let until = moved.map_or(u64::MAX, |m| m.end);
        if reader.offset < info.earliest {
            return self.part_gap(reader, lane, info.earliest, GapReason::Evicted);
        }
        if let Some(frame) = self.reading.of_part(reader.part, reader.offset) {
            return ReadStep::Frame(frame.clone());
        }
        let lane = &self.lanes[lane.index()];
        let tailed = lane.tail.of_part(reader.part, reader.offset);
        if let Some((frame, _)) = tailed.filter(|(_, run)| run.first_offset <= reader.offset) {
            return ReadStep::Frame(frame.clone());
        }
        // A slot that was begun after the topic had left has nothing of it, whether it lists it or not.
        let before = |s: &super::slots::SlotMeta| {
            s.first.ordinal < until && s.start_of(reader.part).is_some_and(|o| o <= reader.offset)
        };
        let known = lane.log.slots.iter().rposition(before);
        let Some(index) = known.or((!lane.log.slots.is_empty()).then_some(0)) else {
            // Of a lane that the topic left: all that was there is evicted. Else it stood in the journal, and is lost.
            let left = moved.and_then(|m| m.offsets.get(reader.part.partition as usize)).copied();
            let next = tailed.map_or(part.durable, |(_, run)| run.first_offset);
            let to = left.unwrap_or(part.durable).min(next).min(part.durable);
            reader.missing = Missing { met: Some(lane.oldest.ordinal), ..Missing::default() };
            let reason = if left == Some(to) { GapReason::Evicted } else { self.why_at_end(reader, lane.id, until) };
            return self.part_gap(reader, lane.id, to, reason);
        };
        let start = Place::slot_start(lane, index);
        let usable = |p: &Place| p.is_in(lane, start.generation) && reader.placed <= reader.offset;
        let place = reader.place.filter(usable).unwrap_or_else(|| {
            let slot = &lane.log.slots[index];
            let early = known.is_none() && slot.first.ordinal > 0;
            // A slot that lost its header may have lost what it began with.
            let corrupt = early && slot.opened.is_none();
            reader.missing = Missing { met: Some(slot.first.ordinal), corrupt, early };
            start
        });
        self.walk_part(reader, place)
    }

    fn walk_part(&mut self, reader: &mut PartReader, mut place: Place) -> ReadStep {
        let Some((topic, end)) = self.topics.get(reader.part.topic).zip(self.topics.part(reader.part)) else {
            return ReadStep::End;
        };
        let end = end.durable;
        let (lane, moved) = topic.lane_of(reader.part.partition, reader.offset);
        let until = moved.map_or(u64::MAX, |m| m.end);
        let end = moved.and_then(|m| m.offsets.get(reader.part.partition as usize).copied()).unwrap_or(end).min(end);
        let next = self.lanes[lane.index()].tail.of_part(reader.part, reader.offset).map(|(_, run)| run.first_offset);
        let end = next.map_or(end, |next| next.min(end));
        let (mut runs, mut prev) = (Vec::new(), Vec::new());
        loop {
            let header = match self.scan(lane.index(), &mut place) {
                Scan::Frame(header) => header,
                Scan::Wait => {
                    (reader.place, reader.placed) = (Some(place), reader.offset);
                    return ReadStep::Wait;
                }
                Scan::End => return self.part_gap(reader, lane, end, self.why_at_end(reader, lane, until)),
            };
            (reader.place, reader.placed) = (Some(place), reader.offset);
            match self.directory(&header, &place, &mut runs, &mut prev) {
                Some(true) => {}
                // As if it were not there: a copy may stand once more behind it.
                Some(false) => {
                    place.pass(&header);
                    continue;
                }
                None => return ReadStep::Wait,
            }
            if header.records == 0 {
                place.pass(&header);
                continue;
            }
            let met = reader.missing.met.unwrap_or(header.first_ordinal());
            reader.missing.corrupt |= self.was_durable(lane, met, header.first_ordinal().min(until));
            // What was missing before a record that the reader has passed is not what it misses now.
            let passed = runs.iter().any(|r| r.part == reader.part && r.end_offset() <= reader.offset);
            reader.missing.corrupt &= !passed;
            reader.missing.early &= !passed;
            let run = runs.iter().find(|r| r.part == reader.part && r.end_offset() > reader.offset).copied();
            let Some(run) = run else {
                reader.missing.met = Some(met.max(header.end_ordinal()));
                place.pass(&header);
                continue;
            };
            if run.first_offset >= end {
                // The topic came back to this lane: what is missing was lost before it left.
                return self.part_gap(reader, lane, end, reader.missing.why());
            }
            if run.first_offset > reader.offset {
                return self.part_gap(reader, lane, run.first_offset, reader.missing.why());
            }
            return match self.fetch(&header, &place) {
                Load::Wait => ReadStep::Wait,
                Load::Frame(frame) => ReadStep::Frame(frame),
                Load::Bad(_) if header.kind == FrameKind::Copy => {
                    place.pass(&header);
                    continue;
                }
                Load::Bad(_) => self.part_gap(reader, lane, run.end_offset(), GapReason::Corrupt),
                Load::Passed(_) => self.part_gap(reader, lane, run.end_offset(), GapReason::Passed),
            };
        }
    }

    /// Moves `place` to the next good header; over damage page by page, and on to the next slot.
    fn scan(&mut self, at: usize, place: &mut Place) -> Scan {
        loop {
            let lane = &self.lanes[at];
            let Some(index) = lane.log.slot_index(place.slot, place.generation) else { return Scan::Wait };
            let (slot, next) = (&lane.log.slots[index], lane.log.slots.get(index + 1));
            let end = match slot.generation.cmp(&lane.log.reach.0) {
                Ordering::Less => slot.end.min(self.slots.slot_bytes),
                Ordering::Equal => lane.log.reach.1,
                Ordering::Greater => return Scan::End,
            };
            let onward = next.is_some().then(|| Place::slot_start(lane, index + 1));
            let (ring, next_seq) = (slot.ring, next.map(|n| n.first.seq));
            if place.at + FRAME_HEADER as u32 > end {
                match onward {
                    Some(next) => *place = next,
                    None => return Scan::End,
                }
                continue;
            }
            let durable = lane.durable.ordinal;
            let bytes = self.slots.slot_bytes;
            let header = match self.reading.peek(place.slot, place.generation, place.at, FRAME_HEADER as u32, bytes) {
                Peek::Wait => return Scan::Wait,
                Peek::Unreadable => None,
                Peek::At(w, from) => {
                    FrameHeader::parse(self.reading.bytes(w, from), place.slot, place.at, self.options.formats).ok()
                }
            };
            let good = header.filter(|h| {
                let own = h.generation == place.generation && h.ring == ring && h.commit >= place.commit;
                own && !self.sessions.dead_frame(h)
            });
            let Some(header) = good else {
                place.at += PAGE as u32;
                continue;
            };
            if header.records > 0 && next_seq.is_some_and(|next| header.first_seq >= next) {
                // Given up here after a failed sync, and written again where the lane goes on.
                place.at = end;
                continue;
            }
            if header.end_ordinal() > durable && header.records > 0 {
                return Scan::End;
            }
            return Scan::Frame(Box::new(header));
        }
    }

    /// The directory of the frame at `place`: Some(false) when it is damaged, None when it must be read first.
    fn directory(
        &mut self,
        header: &FrameHeader,
        place: &Place,
        runs: &mut Vec<Run>,
        prev: &mut Vec<PrevCount>,
    ) -> Option<bool> {
        let len = header.payload_at() as u32;
        match self.reading.peek(place.slot, place.generation, place.at, len, self.slots.slot_bytes) {
            Peek::Wait => None,
            Peek::Unreadable => Some(false),
            Peek::At(w, from) => Some(parse_directory(header, self.reading.bytes(w, from), runs, prev).is_some()),
        }
    }

    fn fetch(&mut self, header: &FrameHeader, place: &Place) -> Load {
        let (slot, generation, at, len) = (place.slot, place.generation, place.at, header.frame_len);
        let (w, from) = match self.reading.peek(slot, generation, at, len, self.slots.slot_bytes) {
            Peek::Wait => return Load::Wait,
            Peek::Unreadable => return Load::Bad(Vec::new()),
            Peek::At(w, from) => (w, from),
        };
        if header.is_stub() {
            let (mut runs, mut prev) = (Vec::new(), Vec::new());
            let good = parse_directory(header, self.reading.bytes(w, from), &mut runs, &mut prev).is_some();
            return if good { Load::Passed(runs) } else { Load::Bad(runs) };
        }
        let mut arc = self.press.frame();
        let former = if header.kind == FrameKind::Copy { self.former() } else { Vec::new() };
        if let Some(frame) = Arc::get_mut(&mut arc)
            && self.reading.decode(header, w, from, frame)
        {
            if header.kind == FrameKind::Copy {
                frame.ring = former_of(&former, header);
            }
            self.reading.keep(arc.clone(), &mut self.press);
            return Load::Frame(arc);
        }
        let (mut runs, mut prev) = (Vec::new(), Vec::new());
        let _ = parse_directory(header, self.reading.bytes(w, from), &mut runs, &mut prev);
        Load::Bad(runs)
    }

    /// Which offsets a hole before this frame took, where the frame can tell: when it was the one commit before.
    fn lost_parts(&mut self, header: &FrameHeader, place: &Place, count: u64) -> Vec<GapPart> {
        let (mut runs, mut prev) = (Vec::new(), Vec::new());
        if self.directory(header, place, &mut runs, &mut prev) != Some(true) {
            return Vec::new();
        }
        let of_lane = |p: &&PrevCount| p.lane == header.lane;
        if prev.iter().filter(of_lane).map(|p| u64::from(p.count)).sum::<u64>() != count {
            return Vec::new();
        }
        let part = |p: &PrevCount| GapPart {
            part: p.part,
            from_offset: p.first_offset,
            to_offset: p.first_offset + u64::from(p.count),
        };
        prev.iter().filter(of_lane).map(part).collect()
    }

    /// Whether any of these ordinals, of which nothing is there, is not known to have been lost before it was synced.
    fn was_durable(&self, lane: LaneId, mut from: u64, to: u64) -> bool {
        while from < to {
            let (reason, end) = self.sessions.reason(lane, from, to);
            if reason == GapReason::Corrupt {
                return true;
            }
            from = end;
        }
        false
    }

    /// Why nothing of the partition is there from the reader's place to the lane's tail, or to the ordinal where the topic
    /// left the lane.
    fn why_at_end(&self, reader: &PartReader, lane: LaneId, until: u64) -> GapReason {
        let tail = &self.lanes[lane.index()].tail;
        let next = tail.of_part(reader.part, reader.offset).map(|(frame, _)| frame.first.ordinal);
        let until = next.unwrap_or(self.lanes[lane.index()].durable.ordinal).min(until);
        let mut missing = reader.missing;
        let mut met = missing.met.unwrap_or(0);
        for (first, end) in tail.stretches() {
            missing.corrupt |= self.was_durable(lane, met, first.ordinal.min(until));
            met = met.max(end);
        }
        missing.corrupt |= self.was_durable(lane, met, until);
        missing.why()
    }

    fn part_gap(&self, reader: &mut PartReader, lane: LaneId, to: u64, reason: GapReason) -> ReadStep {
        let pos = self.lanes[lane.index()].oldest;
        let part = GapPart { part: reader.part, from_offset: reader.offset, to_offset: to };
        reader.offset = to;
        ReadStep::Gap(Gap { lane, from: pos, to: pos, reason, parts: vec![part] })
    }
}

impl Missing {
    /// Offsets of which there never was a durable record are those that a crash took from memory: where every ordinal of
    /// the lane is accounted for, they were given or reserved and not written.
    fn why(self) -> GapReason {
        match self {
            Self { corrupt: true, .. } => GapReason::Corrupt,
            Self { early: true, .. } => GapReason::Evicted,
            _ => GapReason::LostUnsynced,
        }
    }
}

/// The ring id under which the records of a copy were given: those of a former one may be copied under a new one.
fn former_of(former: &[(RingId, u64)], header: &FrameHeader) -> RingId {
    former.iter().find(|(_, end)| header.first_seq < *end).map_or(header.ring, |(id, _)| *id)
}

/// The records of a frame without its first ones, by partition.
fn gap_parts(runs: &[Run], mut skip: u64) -> Vec<GapPart> {
    let mut parts = Vec::new();
    for run in runs {
        let passed = skip.min(u64::from(run.count));
        skip -= passed;
        if passed < u64::from(run.count) {
            let (from_offset, to_offset) = (run.first_offset + passed, run.end_offset());
            parts.push(GapPart { part: run.part, from_offset, to_offset });
        }
    }
    parts
}

fn lane_gap(reader: &mut LaneReader, to: LanePos, reason: GapReason, parts: Vec<GapPart>) -> ReadStep {
    let from = reader.pos;
    reader.pos = to;
    ReadStep::Gap(Gap { lane: reader.lane, from, to, reason, parts })
}
