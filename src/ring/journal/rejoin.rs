//! The way back: which records stood in the journal alone when the power went, and what of them is still there.
//!
//! A snapshot says what stood in the journal alone when it was made (`j`). Since then a lane's own slots may have gone on:
//! the newest good copy, or a frame with new records, says how far. Everything below is in the lane's slots, whatever the
//! journal shows of it, or evicted with them; everything above is in the journal, or lost.

use std::collections::BTreeMap;

use super::super::core::Ring;
use super::super::format::{Counters, FrameHeader, FrameKind, Run, SlotHeader};
use super::super::recovery::{Found, Survey};
use super::super::sessions::Sessions;
use super::super::slots::{Ends, SlotMeta};
use super::super::state::{Put, ring_owner};
use super::super::walk::{Seen, Walker};
use super::super::*;
use super::{JOURNAL, Stretch, TAILS_KEY};
use crate::limits::MAX_LANES;
use crate::time::BootTime;

/// A frame of the journal that has records, or a copy, whose payload is good.
#[derive(Clone, Copy, Debug)]
struct Spot {
    slot: SlotId,
    generation: u64,
    at: u32,
    len: u32,
    lane: LaneId,
    first: u64,
    end: u64,
    first_seq: u64,
    commit: u64,
    session: u32,
}

#[derive(Default)]
pub struct Rejoin {
    /// What stood in the journal alone, as the base snapshot has it.
    base: Vec<Stretch>,
    /// Of each lane, one past what stands in its own slots, as far as is known.
    dense: [u64; MAX_LANES],
    /// In order of lane and ordinal once they are judged.
    copies: Vec<Spot>,
    journal: Vec<Spot>,
    /// Of the slots of the journal, what in them is wanted.
    ends: BTreeMap<SlotId, Ends>,
}

impl Rejoin {
    /// Takes what the base snapshot says out of its entries.
    pub fn new(puts: &mut Vec<Put>, admitted: &[Counters; MAX_LANES]) -> Self {
        let mut base: Vec<Stretch> = Vec::new();
        let mut keep = |put: &Put| {
            let tails = put.owner == ring_owner() && *put.key == *TAILS_KEY;
            if let Some(value) = put.value.as_deref().filter(|_| tails) {
                base = postcard::from_bytes(value).unwrap_or_default();
            }
            !tails
        };
        puts.retain(|put| keep(put));
        base.retain(|(lane, from, _, to)| usize::from(*lane) < MAX_LANES && from < to);
        let mut dense = admitted.map(|c| c.admitted);
        for (lane, from, ..) in &base {
            let dense = &mut dense[usize::from(*lane)];
            *dense = (*dense).min(*from);
        }
        Self { base, dense, ..Self::default() }
    }

    /// Whether an older slot of the journal may hold what is wanted; `next`: the header of the one after it.
    pub fn wants(&self, next: Option<&SlotHeader>) -> bool {
        next.is_none_or(|next| self.dense.iter().zip(&next.lanes).any(|(dense, lane)| *dense < lane.admitted))
    }

    /// What stands in a slot.
    pub fn note(&mut self, log: usize, frames: &[Seen]) {
        for h in frames.iter().filter(|s| s.payload_ok && s.header.records > 0).map(|s| &s.header) {
            let spot = Spot {
                slot: h.slot,
                generation: h.generation,
                at: h.at,
                len: h.frame_len,
                lane: h.lane,
                first: h.first_ordinal(),
                end: h.end_ordinal(),
                first_seq: h.first_seq,
                commit: h.commit,
                session: h.session,
            };
            match h.kind {
                FrameKind::Copy => self.copies.push(spot),
                FrameKind::Journal if log == JOURNAL => self.journal.push(spot),
                _ => {}
            }
        }
    }

    /// What stands in slots that were opened in vain, or was written again in the next slot of its log, is not there.
    pub fn settle(&mut self, survey: &Survey, abandoned: &[SlotId]) {
        let slots: Vec<&Found> = survey.found.iter().filter(|f| !abandoned.contains(&f.meta.id)).collect();
        let next = |spot: &Spot| -> Option<Option<&SlotMeta>> {
            let at = slots.iter().position(|f| f.meta.id == spot.slot && f.meta.generation == spot.generation)?;
            Some(slots[at + 1..].iter().find(|f| f.log == slots[at].log).map(|f| &f.meta))
        };
        self.copies.retain(|c| next(c).is_some_and(|n| n.is_none_or(|n| c.first_seq < n.first.seq)));
        self.journal.retain(|j| next(j).is_some_and(|n| n.is_none_or(|n| j.commit <= n.last_commit)));
    }

    /// How far the lanes' own slots go, before any commit is judged. A frame with new records stands behind all copies.
    pub fn judge(&mut self, sessions: &Sessions, frames: &[Seen]) {
        self.copies.retain(|c| sessions.lost_of(c.lane, c.first, c.end) == 0);
        self.copies.sort_unstable_by_key(|c| (c.lane, c.first, c.end));
        let own = frames.iter().map(|s| &s.header).filter(|h| h.kind == FrameKind::Lane);
        let ends = own.map(|h| (h.lane, h.first_ordinal())).chain(self.copies.iter().map(|c| (c.lane, c.end)));
        for (lane, end) in ends {
            let dense = &mut self.dense[lane.index()];
            *dense = end.max(*dense);
        }
    }

    /// A frame with new records counts.
    pub fn passed(&mut self, header: &FrameHeader) {
        if header.kind == FrameKind::Lane {
            let dense = &mut self.dense[header.lane.index()];
            *dense = header.end_ordinal().max(*dense);
        }
    }

    /// What of these ordinals is in no copy.
    pub fn uncopied(&self, lane: LaneId, from: u64, to: u64) -> Vec<(u64, u64)> {
        without(from, to, self.copies.iter().filter(|c| c.lane == lane).map(|c| (c.first, c.end)))
    }

    /// Builds the lanes' tails of what the journal still has. Gives back what the base snapshot knew there and what is not
    /// to be found: lanes and ordinals. `begins`: where a lane's own slots begin. What the journal has from before that was
    /// copied to a slot that is evicted, be it that its header, written over, tells nothing yet.
    pub fn rebuild(
        &mut self,
        disk: &mut dyn Disk,
        ring: &mut Ring,
        begins: impl Fn(LaneId) -> u64,
    ) -> Vec<(LaneId, u64, u64)> {
        let mut spots = std::mem::take(&mut self.journal);
        spots.retain(|s| {
            let lost = || ring.sessions.lost_of(s.lane, s.first, s.end) > 0;
            !ring.sessions.dead(s.session, s.commit) && !lost()
        });
        spots.sort_by_key(|s| (s.lane, s.first, std::cmp::Reverse(s.generation)));
        let (spots, spent): (Vec<_>, Vec<_>) = spots.into_iter().partition(|s| s.first >= self.dense[s.lane.index()]);
        let (mut found, mut missing): (Vec<(LaneId, u64, u64)>, Vec<_>) = Default::default();
        let mut rest = &spots[..];
        while let Some(slot) = rest.first().map(|s| s.slot) {
            let (here, after) = rest.split_at(rest.iter().position(|s| s.slot != slot).unwrap_or(rest.len()));
            let mut walker = Walker::new(disk, slot, ring.options.reads());
            for spot in here {
                let behind = found.last().is_none_or(|(lane, _, end)| *lane != spot.lane || spot.first >= *end);
                let Some(lane) = ring.lanes.get_mut(spot.lane.index()).filter(|_| behind) else { continue };
                let Some((header, frame)) = read(&mut walker, spot) else {
                    // It was good a moment ago. What the base snapshot knows of is looked for below.
                    let known = |b: &&Stretch| b.0 == spot.lane.0 && b.1 <= spot.first && spot.first < b.3;
                    missing.extend(self.base.iter().all(|b| !known(&b)).then_some((spot.lane, spot.first, spot.end)));
                    continue;
                };
                lane.tail.push(&frame, BootTime(header.last_time));
                let end = &mut self.ends.entry(spot.slot).or_default()[spot.lane.index()];
                *end = spot.end.max(*end);
                found.push((spot.lane, spot.first, spot.end));
            }
            rest = after;
        }
        for &(lane, from, _, to) in &self.base {
            let lane = LaneId(lane);
            let evicted = spent.iter().filter(|s| s.lane == lane).map(|s| (s.first, s.end.min(begins(lane))));
            let found = found.iter().filter(|f| f.0 == lane).map(|f| (f.1, f.2));
            let there = evicted.filter(|(first, end)| first < end).chain(found);
            let gone =
                self.uncopied(lane, from, to).into_iter().flat_map(|(from, to)| without(from, to, there.clone()));
            missing.extend(gone.map(|(from, to)| (lane, from, to)));
        }
        missing
    }

    /// What is wanted of a slot of the journal.
    pub fn ends_of(&self, slot: SlotId) -> Ends {
        self.ends.get(&slot).copied().unwrap_or_default()
    }

    /// The newest copy of each lane, with its runs: what was durable when it was made.
    pub fn newest(&self, disk: &mut dyn Disk, reads: Reads<'_>) -> Vec<(FrameHeader, Vec<Run>)> {
        let mut newest: BTreeMap<LaneId, Spot> = BTreeMap::new();
        for copy in &self.copies {
            let spot = newest.entry(copy.lane).or_insert(*copy);
            *spot = if copy.end > spot.end { *copy } else { *spot };
        }
        let read = |spot: &Spot| read(&mut Walker::new(disk, spot.slot, reads), spot);
        newest.values().filter_map(read).map(|(header, frame)| (header, frame.runs)).collect()
    }
}

/// A range without others that stand in order.
fn without(mut from: u64, to: u64, others: impl Iterator<Item = (u64, u64)>) -> Vec<(u64, u64)> {
    let mut rest = Vec::new();
    for (first, end) in others.filter(|(first, _)| *first < to) {
        rest.extend((first > from).then_some((from, first)));
        from = from.max(end);
    }
    rest.extend((from < to).then_some((from, to)));
    rest
}

fn read(walker: &mut Walker<'_>, spot: &Spot) -> Option<(FrameHeader, Frame)> {
    let (header, frame) = walker.frame_at(spot.at, spot.len)?;
    (header.generation == spot.generation && header.commit == spot.commit).then_some((header, frame))
}
