//! The journal's part of `verify`: what of it is wanted is the lanes' tails; the rest is spent, and damage to it costs
//! nothing.

use super::super::format::FrameHeader;
use super::super::slots::SlotMeta;
use super::super::verify::{Check, Lost, MISSING, STEPPED_OVER, SnapshotCheck};
use super::super::walk::{Cursor, Met, Seen, Walker};
use super::super::*;
use crate::topic::TopicPart;

const SPENT: &str = "what it held stands in its lane's own slots: nothing is lost";

/// A frame of the journal whose records do not hold.
#[derive(Clone)]
struct Bad {
    place: (FileId, u64),
    slot: usize,
    lane: LaneId,
    from: u64,
    to: u64,
    parts: Vec<(TopicPart, u64, u64)>,
}

/// What was met in the journal.
#[derive(Clone, Default)]
pub struct JournalTrail {
    session: u32,
    suspects: Vec<(FileId, u64)>,
    bad: Vec<Bad>,
    /// Where the last frame ended, and in which of the slots listed.
    end: Option<((FileId, u64), usize)>,
}

impl Check {
    /// A slot of the journal. `walked`: for each lane, one past what stands in its own slots.
    pub fn journal_slot(
        &mut self,
        disk: &mut dyn Disk,
        trail: &mut JournalTrail,
        meta: &SlotMeta,
        next: Option<&SlotMeta>,
        walked: &[u64],
        bytes: u64,
    ) {
        let file = FileId::Slot(meta.id);
        let mut walker = Walker::new(disk, meta.id, self.ring.options.reads());
        self.listed_own(meta, None, bytes, &mut walker);
        let mut cursor = Cursor::new(meta.ring, meta.generation, self.ring.slots.slot_bytes);
        let mut snapshot = SnapshotCheck::default();
        while let Some(met) = walker.next(&mut cursor) {
            match met {
                Met::Damaged(at) => {
                    self.counts().damaged_headers += 1;
                    match snapshot.done {
                        true => trail.suspects.push((file, at.into())),
                        false => {
                            snapshot.damaged.get_or_insert(at.into());
                        }
                    }
                }
                Met::Frame(seen) if !seen.is_commit() => self.snapshot_part(&seen, &mut snapshot),
                Met::Frame(seen) => {
                    snapshot.done = true;
                    let good = seen.payload_ok && walker.decodes(&seen.header);
                    self.journal_frame(trail, file, &seen, next, walked, good);
                }
            }
        }
        self.snapshot_end(meta, &mut walker, &snapshot);
        self.unreadable(file, walker.unreadable());
    }

    fn journal_frame(
        &mut self,
        trail: &mut JournalTrail,
        file: FileId,
        seen: &Seen,
        next: Option<&SlotMeta>,
        walked: &[u64],
        good: bool,
    ) {
        let h = &seen.header;
        let again = next.is_some_and(|next| h.commit > next.last_commit);
        if again || self.is_dead(h) {
            self.counts().given_up += 1;
            return;
        }
        self.newest_commit = self.newest_commit.max(h.commit);
        let slot = self.out.slots.len() - 1;
        for place in std::mem::take(&mut trail.suspects) {
            if trail.session == h.session {
                let meaning = "its records, if they are not listed apart, are in their lane's own slots; its state \
                               entries are lost where no later frame has them";
                self.damage(place, "a frame's header is damaged", meaning.into(), STEPPED_OVER);
            } else {
                self.note(place, "a frame was torn when the power was cut", "it was never acknowledged");
            }
        }
        self.state_of(file, seen);
        let wanted = h.end_ordinal() > walked.get(h.lane.index()).copied().unwrap_or(0);
        if good {
            self.counts().records += if wanted { u64::from(h.records) } else { 0 };
            self.counts().good(seen);
        } else {
            self.counts().bad_payloads += 1;
            let place = (file, u64::from(h.at) + h.payload_at() as u64);
            let parts = seen.runs.iter().map(|r| (r.part, r.first_offset, r.end_offset())).collect();
            let (lane, from, to) = (h.lane, h.first_ordinal(), h.end_ordinal());
            match wanted {
                true => trail.bad.push(Bad { place, slot, lane, from, to, parts }),
                false => self.note(place, "a frame's records are damaged", SPENT),
            }
        }
        trail.session = h.session;
        trail.end = Some(((file, u64::from(h.at) + u64::from(h.frame_len)), slot));
    }

    /// What is missing of the lanes' tails. `walked` as above.
    pub fn journal_end(&mut self, mut trail: JournalTrail, walked: &[u64]) {
        // What a tail is says a snapshot, which cannot be read for want of its key.
        let unknown = self.out.keys.iter().any(|key| !key.given);
        for at in (0..self.ring.lanes.len()).filter(|_| !unknown) {
            let lane = &self.ring.lanes[at];
            let (id, end) = (lane.id, lane.durable.ordinal);
            let mut from = walked.get(at).copied().unwrap_or(0);
            let stretches = lane.tail.stretches().into_iter().map(|(first, to)| (first.ordinal, to));
            let known: Vec<_> = stretches.chain([(end, end)]).collect();
            for (first, to) in known {
                if first > from {
                    self.journal_hole(&trail, id, from, first);
                }
                from = from.max(to);
            }
        }
        let newest = self.root_is_newer();
        for place in std::mem::take(&mut trail.suspects) {
            self.unknown_tail(place, newest);
        }
    }

    fn journal_hole(&mut self, trail: &JournalTrail, lane: LaneId, mut from: u64, to: u64) {
        while from < to {
            let (reason, end) = self.ring.sessions.reason(lane, from, to);
            let synced = reason == GapReason::Corrupt;
            let bad = trail.bad.iter().find(|b| b.lane == lane && b.from <= from && from < b.to);
            let end = bad.map_or(end, |b| end.min(b.to));
            let (what, place, slot, parts) = match bad {
                Some(bad) => ("a frame's records are damaged", bad.place, bad.slot, &bad.parts[..]),
                None => {
                    let (place, slot) = trail.end.unwrap_or(((FileId::Root, 0), 0));
                    (MISSING, place, slot, &[][..])
                }
            };
            let whole = parts.iter().map(|(_, from, to)| to - from).sum::<u64>() == end - from;
            let lost = Lost::new(place, what, end - from, synced, slot);
            self.tell(lost, if whole { parts } else { &[] });
            from = end;
        }
    }

    /// A copy that does not hold, of records that the journal still has.
    pub fn is_torn_copy(&mut self, file: FileId, h: &FrameHeader) -> bool {
        let dense = self.ring.lanes.get(h.lane.index()).map_or(0, |l| l.dense().ordinal);
        let torn = h.kind == super::FrameKind::Copy && h.first_ordinal() >= dense;
        if torn {
            self.counts().bad_payloads += 1;
            let place = (file, u64::from(h.at) + h.payload_at() as u64);
            self.note(place, "a copy of records of the journal is damaged", "the journal has them");
        }
        torn
    }
}
