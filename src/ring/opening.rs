//! A slot's beginning: which file it goes to, its header, and the snapshot of all durable state entries behind it.

use super::batch::Stamp;
use super::core::{LIFE_KEY, Ring};
use super::format::{FrameKind, PrevSlot, SlotHeader, SlotKind, flags, most_starts};
use super::journal::{JOURNAL, TAILS_KEY};
use super::slots::{Picked, SlotMeta};
use super::state::{append_entry, ring_owner};
use super::writer::Part;
use super::*;
use crate::codec::resize_with_zeros;
use crate::limits::{MAX_LANES, PAGE};
use crate::time::BootTime;
use crate::topic::TopicPart;

/// State bytes in one frame of a snapshot.
const SNAPSHOT_PART: usize = 56 * 1024;

impl Ring {
    /// Takes a slot for a lane and writes its header and snapshot; false when there is none to take.
    pub(super) fn open_slot(&mut self, now: BootTime, at: usize, len: u32) -> bool {
        if self.writer.room_again.is_some_and(|at| at <= now) {
            self.writer.room_again = None;
            self.slots.room = usize::MAX;
        }
        self.mark_kept();
        let picked = match at {
            JOURNAL => self.pick_for_journal(),
            _ => self.slots.pick(&mut self.lanes, &self.journal),
        };
        // Also where none was found: slots that may not be written to were given up on the way.
        for lane in 0..self.lanes.len() {
            self.refresh_earliest(LaneId(lane as u8));
        }
        let Some(Picked { slot, create }) = picked else {
            self.fail("no slot to write to: too few of the ring's files can be used".into());
            return false;
        };
        if create {
            self.slots.created(slot);
            let bytes = self.slots.slot_bytes.into();
            self.writer.push(Part::Create(slot), Op::Create { slot, bytes });
        }
        let generation = self.slots.next_generation;
        self.slots.next_generation += 1;
        let log = self.log_mut(at);
        let prev = log.slots.back().map_or(PrevSlot::default(), |last| PrevSlot {
            slot: last.id.0,
            generation: last.generation,
            end: log.write_at.unwrap_or(last.end),
        });
        if let Some(last) = log.slots.back_mut() {
            last.end = prev.end;
        }
        let (first, mut starts) = self.stands(at);
        let most = most_starts(self.options.keys.current() != 0);
        let starts_complete = starts.len() <= most && at != JOURNAL;
        starts.truncate(most);
        let meta = SlotMeta {
            id: slot,
            generation,
            version: self.writes,
            ring: self.id,
            first,
            opened: Some((self.boot, now)),
            last_commit: self.writer.synced_through,
            end: self.slots.slot_bytes,
            starts: starts.into(),
            starts_complete,
            sound: true,
            ends: Default::default(),
        };
        let data = self.slot_beginning(now, at, &meta, prev);
        let end = data.len() as u32;
        debug_assert!(end + len <= self.slots.slot_bytes);
        self.log_mut(at).slots.push_back(meta);
        for lane in 0..self.lanes.len() {
            self.lanes[lane].refresh_oldest();
            self.refresh_earliest(LaneId(lane as u8));
        }
        self.log_mut(at).write_at = Some(end);
        self.reading.forget_slot(slot);
        self.writer.group.opened = Some(at);
        self.life.synced += data.len() as u64;
        self.budget.spend(now, data.len() as u64);
        self.writer.push(Part::Header, Op::Write { file: FileId::Slot(slot), at: 0, data, sync: false });
        true
    }

    /// Where a log's next slot begins, and the next offsets of its lane's partitions there. The journal's own begins behind
    /// all that is durable.
    fn stands(&self, at: usize) -> (LanePos, Vec<(TopicPart, u64)>) {
        let Some(lane) = self.lanes.get(at) else {
            let seq = self.lanes.iter().map(|l| l.durable.seq).max().unwrap_or(0);
            return (LanePos { seq, ordinal: 0 }, Vec::new());
        };
        let starts = self.topics.starts(lane.id, lane.dense().ordinal);
        // What stands in the journal comes into this slot, or one after it.
        (lane.dense(), starts.map(|(part, next)| (part, lane.tail.first_of(part).unwrap_or(next))).collect())
    }

    /// The header page and the snapshot of a new slot.
    fn slot_beginning(&mut self, now: BootTime, at: usize, meta: &SlotMeta, prev: PrevSlot) -> Vec<u8> {
        let mut lanes = self.counters();
        let mut admitted = [0; MAX_LANES];
        let mut oldest = [0; MAX_LANES];
        for lane in &self.lanes {
            lanes[lane.id.index()].admitted = lane.durable.ordinal;
            admitted[lane.id.index()] = lane.durable.ordinal;
            oldest[lane.id.index()] = lane.oldest.ordinal;
        }
        let (kind, lane, uncopied, flags) = match self.lanes.get(at) {
            Some(lane) => (SlotKind::Lane, lane.id, lane.durable.ordinal - lane.dense().ordinal, 0),
            None => (SlotKind::Journal, LaneId(0), 0, flags::IN_JOURNAL),
        };
        let header = SlotHeader {
            version: meta.version,
            kind,
            lane,
            compat: 0,
            read_only: 0,
            key_id: self.options.keys.current(),
            slot_bytes: self.slots.slot_bytes,
            ring: self.id,
            binding: self.options.binding,
            slot: meta.id,
            generation: meta.generation,
            first_seq: meta.first.seq,
            last_commit: meta.last_commit,
            boot: self.boot,
            session: self.session,
            opened_at: now.0,
            prev,
            uncopied,
            lanes,
            oldest,
            starts: meta.starts.to_vec(),
            starts_complete: meta.starts_complete,
            oldest_boot: self.lanes.get(at).map_or(0, |lane| lane.tail.oldest_boot()),
            former: self.former().pop(),
        };
        let mut data = self.press.buf();
        data.clear();
        resize_with_zeros(&mut data, PAGE);
        header.emit(&mut data);
        let (section, cuts) = self.snapshot();
        let mut from = 0;
        for (part, to) in cuts.iter().enumerate() {
            let commit = meta.last_commit;
            let (boot, session, ring) = (self.boot, self.session, self.id);
            let first_seq = meta.first.seq;
            let (version, prev_commit) = (meta.version, commit);
            let stamp = Stamp { version, ring, boot, session, commit, prev_commit, first_seq, now, flags, admitted };
            let mut header = stamp.header(FrameKind::Snapshot, lane);
            (header.part, header.parts) = (part as u8, cuts.len() as u8);
            (header.slot, header.generation, header.at) = (meta.id, meta.generation, data.len() as u32);
            header.synced_through = self.writer.synced_through;
            header.lanes = lanes;
            let mut buf = self.press.buf();
            self.press.encode_section(&mut header, &section[from..*to], &mut buf);
            self.press.place(&mut header, &mut buf);
            data.extend_from_slice(&buf);
            self.press.recycle_buf(buf);
            from = *to;
        }
        data
    }

    /// All durable state entries, encoded, and where the parts end. Topics come with their durable next offsets, and the
    /// bytes of the ring's life are those of now.
    fn snapshot(&self) -> (Vec<u8>, Vec<usize>) {
        let (mut out, mut cuts, mut value) = (Vec::new(), Vec::new(), Vec::new());
        let own = ring_owner();
        append_entry(&mut out, &own, LIFE_KEY, Some(&self.life.encode()));
        let tails = self.tails();
        if !tails.is_empty() {
            super::wire::append(&mut value, &tails);
            append_entry(&mut out, &own, TAILS_KEY, Some(&value));
        }
        let mut from = 0;
        for (owner, key, bytes) in
            self.state.durable().filter(|(o, key, _)| **o != own || *key != LIFE_KEY && *key != TAILS_KEY)
        {
            let topic = (*owner == own).then(|| super::topics::id_of_key(key)).flatten();
            let start = out.len();
            match topic.and_then(|id| self.topics.get(id)) {
                Some(topic) => {
                    value.clear();
                    topic.encode_durable(&mut value);
                    append_entry(&mut out, owner, key, Some(&value));
                }
                None => append_entry(&mut out, owner, key, Some(bytes)),
            }
            if out.len() - from > SNAPSHOT_PART && start > from {
                cuts.push(start);
                from = start;
            }
        }
        cuts.push(out.len());
        (out, cuts)
    }
}
