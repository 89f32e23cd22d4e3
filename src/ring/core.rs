//! The ring itself: what is given to it, what it answers, and which part does what.
//!
//! `batch` makes frames, `writer` places them and takes what the disk did, `slots` knows the files, `reader` finds
//! records again, `recovery` builds all of this from a directory. This file holds them together and never does I/O.

use std::collections::VecDeque;

use super::batch::{Press, Sealed, Stamp};
use super::budget::Budget;
use super::format::{Counters, FrameHeader, FrameKind, MAX_RAW, MAX_STATE_RAW, PrevCount, flags};
use super::reader::Reading;
use super::sessions::Sessions;
use super::slots::{Lane, Log, Slots};
use super::spill::Spill;
use super::state::{self, Put, Store};
use super::topics::{self, Topics};
use super::wire::MAX_OVERHEAD;
use super::writer::Writer;
use super::*;
use crate::limits::{FRAME_RAW_TARGET, MAX_LANES, MAX_RECORD, MAX_UNSYNCED_BYTES};
use crate::record::RecordRef;
use crate::time::{BootTime, ClockSync};
use crate::topic::{TopicId, TopicName, TopicPart};

/// Seqs skipped after an unclean end: numbers that a device may have seen and lost are never used for others.
pub(super) const SKIP_SEQS: u64 = 1 << 20;
/// Commit numbers skipped then.
pub(super) const SKIP_COMMITS: u64 = 1 << 12;

/// The ring. No threads, no clock: `append` and friends change it, [`Ring::poll`] says what the disk must do,
/// [`Ring::complete`] takes what the disk did.
pub struct Ring {
    pub(super) options: Options,
    /// The version of the format that slots are begun in.
    pub(super) writes: u8,
    pub(super) id: RingId,
    pub(super) boot: u32,
    pub(super) session: u32,
    pub(super) topics: Topics,
    pub(super) state: Store,
    pub(super) lanes: Vec<Lane>,
    pub(super) journal: Log,
    /// What is sealed goes to its lane, however small it is.
    pub(super) to_lanes: bool,
    pub(super) slots: Slots,
    pub(super) press: Press,
    pub(super) writer: Writer,
    pub(super) reading: Reading,
    pub(super) queue: VecDeque<Sealed>,
    pub(super) queue_weight: usize,
    pub(super) next_seq: u64,
    /// The number of the newest sealed commit.
    pub(super) last_commit: u64,
    pub(super) next_commit: u64,
    pub(super) prev_counts: Vec<PrevCount>,
    pub(super) next_flags: u16,
    pub(super) ticket: u64,
    pub(super) settled: u64,
    pub(super) stamp: u64,
    /// The lane that the newest record went to: state entries go beside it.
    pub(super) beside: usize,
    pub(super) in_group: bool,
    /// Where the first record of the group went: its state entries share that frame.
    pub(super) group_lane: Option<usize>,
    pub(super) closing: Closing,
    pub(super) life: Life,
    pub(super) budget: Budget,
    pub(super) sessions: Sessions,
    /// Entries for which their owner or the ring had no room.
    pub(super) state_refused: u64,
    pub(super) spill: Spill,
}

/// The key of [`Life`] among the ring's own entries.
pub(super) const LIFE_KEY: &[u8] = b"l";

/// Bytes over the ring's life.
#[derive(Clone, Copy, Debug, Default, serde::Serialize, serde::Deserialize)]
pub(super) struct Life {
    pub logical: u64,
    pub stored: u64,
    pub padded: u64,
    pub synced: u64,
}

impl Life {
    /// A frame is on the device.
    pub fn add(&mut self, header: &FrameHeader) {
        self.logical += u64::from(header.raw_len);
        self.stored += u64::from(header.stored_len + header.state_stored);
        self.padded += u64::from(header.frame_len) - header.used() as u64;
        self.synced += u64::from(header.frame_len);
    }

    /// A copy is on the device: its records were counted when they were new.
    pub fn add_copy(&mut self, header: &FrameHeader) {
        let logical = self.logical;
        self.add(header);
        self.logical = logical;
    }

    pub fn add_all(&mut self, other: &Life) {
        self.logical += other.logical;
        self.stored += other.stored;
        self.padded += other.padded;
        self.synced += other.synced;
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut value = Vec::new();
        super::wire::append(&mut value, self);
        value
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Closing {
    #[default]
    No,
    /// The frame that says so is sealed; its ticket.
    Sealed(u64),
    /// It is durable; the root page is being written.
    Root(u64),
    Done,
}

impl Ring {
    pub fn id(&self) -> RingId {
        self.id
    }
    /// Number of this boot.
    pub fn boot(&self) -> u32 {
        self.boot
    }

    /// The kernel's name for it.
    pub fn boot_id(&self) -> [u8; 16] {
        self.options.boot_id
    }

    /// What all slots together may take on the device.
    pub fn max_bytes(&self) -> u64 {
        self.options.max_bytes
    }

    /// The largest record, or group, of this ring in bytes.
    pub fn max_record(&self) -> usize {
        MAX_RECORD.min(self.slots.slot_bytes as usize / 4)
    }

    /// Raw bytes that no frame exceeds: what a header may say, and what fits a slot beside a full snapshot. Only a
    /// group of very many tiny records comes near, by what each takes beside its bytes; it is then sealed in two.
    fn max_raw(&self) -> usize {
        MAX_RAW.min(self.slots.slot_bytes as usize / 8 * 3)
    }

    // ---- topics ----

    /// The topic of this name, made (durable with the next commit) if it is not there.
    pub fn open_topic(&mut self, name: &TopicName, lane: LaneId, partitions: u8) -> Result<TopicId, TopicError> {
        let lane = LaneId(lane.0.min(self.lanes.len() as u8 - 1));
        let (id, store) = self.topics.open(name, lane, partitions)?;
        if store {
            self.store_topic(id);
        }
        Ok(id)
    }

    pub(super) fn store_topic(&mut self, id: TopicId) {
        let mut value = Vec::new();
        if let Some(topic) = self.topics.get(id) {
            topic.encode(&mut value);
            // In front of the topic's first record: a record whose topic is not known would be lost to its offsets.
            let lane = topic.lane.index();
            self.beside_lane(lane);
            self.put_own(&topics::key(id), Some(&value));
            self.put_own(b"n", Some(&self.topics.next_id.to_le_bytes()));
        }
    }

    /// The next state entries go in front of this lane's next record.
    pub(super) fn beside_lane(&mut self, lane: usize) {
        if !self.in_group {
            self.gather_state(self.writer.now, lane);
            self.beside = lane;
        }
    }

    pub fn remove_topic(&mut self, id: TopicId) {
        if self.topics.remove(id) {
            self.forget_moves(id);
            self.put_own(&topics::key(id), None);
        }
    }
    pub fn topic(&self, id: TopicId) -> Option<TopicInfo> {
        self.topics.get(id).map(|t| t.info())
    }
    pub fn topic_id(&self, name: &str) -> Option<TopicId> {
        self.topics.find(name).map(|t| t.id)
    }
    pub fn topic_ids(&self) -> Vec<TopicId> {
        self.topics.iter().map(|t| t.id).collect()
    }
    /// One past the newest offset of a partition that readers see.
    pub fn durable_end(&self, part: TopicPart) -> Option<u64> {
        self.topics.part(part).map(|p| p.info.durable_end)
    }

    // ---- writing ----

    /// Bytes that wait for the writer.
    pub(super) fn unsynced(&self) -> usize {
        let batches: usize = self.lanes.iter().map(|l| l.batch.raw.len() + l.batch.state_bytes).sum();
        batches + self.queue_weight + self.writer.weight()
    }

    /// False when too many bytes wait for the writer (`limits::MAX_UNSYNCED_BYTES`). After a true, one record with
    /// all that rules make of it, or one group, may be appended without `Busy`.
    pub fn has_room(&self) -> bool {
        self.unsynced() <= MAX_UNSYNCED_BYTES / 2
    }

    /// Adds one record to the batch of its lane. Never blocks, never allocates in the steady state.
    pub fn append(&mut self, now: BootTime, part: TopicPart, record: &RecordRef<'_>) -> Result<Appended, AppendError> {
        let (bytes, limit, most) = (record.len(), self.max_record(), self.max_raw());
        if bytes > limit {
            return Err(AppendError::TooLarge { bytes, limit });
        }
        let Some((lane, _)) = self.topics.part_mut(part) else { return Err(AppendError::NoTopic(part.topic)) };
        let at = lane.index();
        if !self.in_group && self.busy(bytes) {
            return Err(AppendError::Busy);
        }
        if self.in_group && self.group_lane.is_none() {
            self.group_lane = Some(at);
            self.gather_state(now, at);
        }
        let Some((_, slot)) = self.topics.part_mut(part) else { return Err(AppendError::NoTopic(part.topic)) };
        let batch = &self.lanes[at].batch;
        let full = batch.records > 0 && batch.raw.len() + bytes > FRAME_RAW_TARGET;
        let beyond = batch.records > 0 && batch.raw.len() + bytes + MAX_OVERHEAD > most;
        let seal = (full && !self.in_group) || beyond || !batch.takes(slot);
        if seal {
            self.seal(now, at);
        }
        let Some((_, slot)) = self.topics.part_mut(part) else { return Err(AppendError::NoTopic(part.topic)) };
        let offset = slot.info.next;
        self.ticket += 1;
        let lane = &mut self.lanes[at];
        if lane.batch.is_empty() {
            lane.batch.begin(now, Ticket(self.ticket), now + self.options.linger);
        }
        lane.batch.push(part, slot, record);
        self.beside = at;
        if lane.batch.raw.len() >= FRAME_RAW_TARGET && !self.in_group {
            self.seal(now, at);
        }
        Ok(Appended { ticket: Ticket(self.ticket), part, offset })
    }

    pub(super) fn busy(&self, bytes: usize) -> bool {
        let waiting = self.unsynced();
        waiting > 0 && waiting + bytes > MAX_UNSYNCED_BYTES
    }

    /// Sets (or with None removes) a state entry, atomic with the records beside it and never durable before
    /// records that were appended earlier.
    pub fn put_state(
        &mut self,
        now: BootTime,
        owner: &Owner,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Result<Ticket, StateError> {
        if value.is_none() && self.state.newest(owner, key).is_none() {
            return Ok(self.last_ticket());
        }
        let put = self.state.put(owner, key, value).inspect_err(|_| self.state_refused += u64::from(stands(owner)))?;
        Ok(self.add_state(now + self.options.linger, now, put))
    }

    /// An entry of the ring itself; rides with whatever is committed next.
    pub(super) fn put_own(&mut self, key: &[u8], value: Option<&[u8]>) {
        if let Ok(put) = self.state.put(&state::ring_owner(), key, value) {
            let deadline = self.lanes[self.state_home()].batch.deadline;
            self.add_state(deadline.unwrap_or(self.writer.now + self.options.linger), self.writer.now, put);
        }
    }

    /// The lane whose batch takes the next state entry. Not more than one batch holds entries: of two that did, each
    /// could have entries that are newer than the other's records and entries, and no order to seal them in would be
    /// right.
    fn state_home(&self) -> usize {
        let holds = self.lanes.iter().position(|l| !l.batch.state.is_empty());
        holds.or(self.group_lane.filter(|_| self.in_group)).unwrap_or(self.beside)
    }

    fn add_state(&mut self, deadline: BootTime, now: BootTime, put: Put) -> Ticket {
        self.ticket += 1;
        let home = self.state_home();
        if self.lanes[home].batch.state_bytes + put.weight() > MAX_STATE_RAW {
            self.seal(now, home);
        }
        let home = self.state_home();
        let batch = &mut self.lanes[home].batch;
        if batch.is_empty() {
            batch.begin(now, Ticket(self.ticket), deadline);
        }
        if let Some(old) = batch.put(put) {
            self.state.superseded(&old);
        }
        if batch.state_bytes >= FRAME_RAW_TARGET && !self.in_group {
            self.seal(now, home);
        }
        Ticket(self.ticket)
    }

    /// The newest value, durable or not.
    pub fn state(&self, owner: &Owner, key: &[u8]) -> Option<&[u8]> {
        self.state.newest(owner, key)
    }
    /// All entries of an owner, in key order.
    pub fn states(&self, owner: &Owner) -> Vec<(Vec<u8>, Vec<u8>)> {
        self.state.all(owner).map(|(k, v)| (k.to_vec(), v.to_vec())).collect()
    }
    /// Bytes of all owners' entries together, at most.
    pub fn states_limit(&self) -> usize {
        self.state.limit()
    }
    /// How many they are, and their bytes.
    pub fn weigh_states(&self, owner: &Owner) -> (usize, usize) {
        self.state.weigh(owner)
    }
    /// Bytes of all entries of owners of a kind.
    pub fn weigh_kind(&self, kind: OwnerKind) -> usize {
        self.state.weigh_kind(kind)
    }
    /// The same as the disk has them.
    pub fn durable_states(&self, owner: &Owner) -> Vec<(Vec<u8>, Vec<u8>)> {
        let own = self.state.durable().filter(|(of, ..)| *of == owner);
        own.map(|(_, key, value)| (key.to_vec(), value.to_vec())).collect()
    }
    /// All owners of a kind that have entries (removed sinks keep theirs).
    pub fn owners(&self, kind: OwnerKind) -> Vec<Owner> {
        self.state.owners(kind).cloned().collect()
    }
    /// The ticket of the newest record or state entry given to the ring.
    pub fn last_ticket(&self) -> Ticket {
        Ticket(self.ticket)
    }
    /// Everything up to this ticket is durable.
    pub fn settled(&self) -> Ticket {
        Ticket(self.settled)
    }
    /// What is in the batches now must be handed to the disk by `by`.
    pub fn hurry(&mut self, by: BootTime) {
        for lane in &mut self.lanes {
            if let Some(deadline) = &mut lane.batch.deadline {
                *deadline = by.min(*deadline);
                lane.batch.hurried = true;
            }
        }
        self.want(Ticket(self.ticket));
    }

    /// Nothing that is given later becomes durable before what was given until now, whatever the lanes.
    pub fn seal_all(&mut self) {
        for at in 0..self.lanes.len() {
            self.seal(self.writer.now, at);
        }
    }

    /// Seals everything and marks the shutdown as clean; durable when `settled` reaches the ticket returned.
    pub fn close(&mut self, now: BootTime) -> Ticket {
        self.in_group = false;
        self.writer.now = self.writer.now.max(now);
        self.seal_all();
        // The frame that says so holds nothing else and so begins a commit of its own: all others are synced by then.
        self.store_life();
        self.next_flags |= flags::CLEAN;
        self.seal(now, self.beside);
        self.closing = Closing::Sealed(self.ticket);
        Ticket(self.ticket)
    }

    fn store_life(&mut self) {
        self.put_own(LIFE_KEY, Some(&self.life.encode()));
    }

    /// Turns a lane's batch into a frame. Lanes that hold earlier records go first when it carries state entries: an
    /// entry is never durable before records that were appended earlier.
    pub(super) fn seal(&mut self, now: BootTime, at: usize) {
        if !self.lanes[at].batch.state.is_empty() {
            for other in 0..self.lanes.len() {
                if other != at && self.lanes[other].batch.records > 0 {
                    self.seal_one(now, other);
                }
            }
        }
        self.seal_one(now, at);
    }

    fn seal_one(&mut self, now: BootTime, at: usize) {
        if self.lanes[at].batch.is_empty() {
            return;
        }
        let records = u64::from(self.lanes[at].batch.records);
        let lane = &mut self.lanes[at];
        lane.counters.admitted += records;
        let first_seq = self.next_seq;
        if records > 0 {
            lane.end = LanePos { seq: first_seq + records, ordinal: lane.counters.admitted };
        }
        let mut admitted = [0; MAX_LANES];
        self.lanes.iter().for_each(|l| admitted[l.id.index()] = l.counters.admitted);
        let (boot, session, flags) = (self.boot, self.session, std::mem::take(&mut self.next_flags));
        let (prev_commit, commit) = (self.last_commit, self.next_commit);
        (self.last_commit, self.next_commit) = (commit, commit + 1);
        let (ring, version) = (self.id, self.writes);
        let stamp = Stamp { version, ring, boot, session, commit, prev_commit, first_seq, now, flags, admitted };
        self.stamp += 1;
        let lane = &mut self.lanes[at];
        let mut sealed = self.press.seal(&mut lane.batch, lane.id, &stamp, &self.prev_counts, self.stamp);
        self.next_seq += records;
        let id = lane.id;
        if self.goes_to_journal(&sealed.header) {
            sealed.header.kind = FrameKind::Journal;
        }
        self.prev_counts.clear();
        if let Some(frame) = &sealed.frame {
            self.prev_counts.extend(frame.runs.iter().map(|r| r.prev_count(id)));
        }
        self.hold_or_lift(at, &sealed);
        self.queue_weight += sealed.weight;
        self.queue.push_back(sealed);
    }

    // ---- reading ----

    /// The place one past the newest record that has a seq: where a new sink begins.
    pub fn lane_end(&self, lane: LaneId) -> LanePos {
        self.lanes.get(lane.0 as usize).map_or(LanePos::default(), |l| l.end)
    }
    /// The place one past the newest record that readers see: a durable one, or in RAM-first mode one that is sealed.
    pub fn lane_durable(&self, lane: LaneId) -> LanePos {
        self.lanes.get(lane.0 as usize).map_or(LanePos::default(), |l| l.shown)
    }
    /// The place one past the newest durable record: what is shown beyond it is in memory alone.
    pub fn lane_written(&self, lane: LaneId) -> LanePos {
        self.lanes.get(lane.0 as usize).map_or(LanePos::default(), |l| l.durable)
    }
    /// How far the slowest sink of a lane is: slots below may be reused without counting an eviction.
    pub fn set_floor(&mut self, lane: LaneId, floor: Option<LanePos>) {
        if let Some(lane) = self.lanes.get_mut(lane.0 as usize) {
            lane.floor = floor;
        }
    }

    // ---- time, status ----

    /// What the clocks say now: kept as a state entry of this boot (written when trust or the offset changes).
    pub fn set_clock(&mut self, now: BootTime, sync: ClockSync) {
        // The two clocks are read one after the other and slewed; a second is far below what a log needs.
        const SLACK: u64 = 1_000_000;
        self.writer.now = self.writer.now.max(now);
        let same = |old: ClockSync| old.trusted == sync.trusted && old.offset.abs_diff(sync.offset) < SLACK;
        if self.clock(self.boot).is_some_and(same) {
            return;
        }
        let mut value = Vec::new();
        super::wire::append(&mut value, &sync);
        self.put_own(&clock_key(self.boot), Some(&value));
    }
    /// How to turn the boot times of a frame into wall time; None for a boot that never knew.
    pub fn clock(&self, boot: u32) -> Option<ClockSync> {
        postcard::from_bytes(self.state.newest(&state::ring_owner(), &clock_key(boot))?).ok()
    }
    /// Bytes that may be written in a day: beyond it records that nobody waits for wait longer, up to five minutes.
    pub fn set_write_budget(&mut self, now: BootTime, per_day: Option<u64>) {
        self.budget.set(now, per_day);
    }

    /// Whether records wait longer because of the write budget.
    pub fn is_over_budget(&self) -> bool {
        self.budget.is_overdrawn()
    }

    /// The program is confirmed: the next slot is begun in its newest version of the format.
    pub fn confirm(&mut self) {
        self.options.formats.on_trial = false;
        self.writes = self.options.formats.newest;
    }

    /// The program is on trial: the one before can read what is written.
    pub fn is_on_trial(&self) -> bool {
        self.options.formats.on_trial
    }

    /// Changes the cap or the linger while running.
    pub fn set_limits(&mut self, max_bytes: u64, linger: Span) {
        self.options.max_bytes = max_bytes;
        self.options.linger = linger;
        self.slots.cap = slot_cap(max_bytes, self.slots.slot_bytes);
        self.slots.room = usize::MAX;
    }
    pub fn health(&self) -> Health {
        match self.writer.health() {
            Health::Good => self.reading.trouble().map_or(Health::Good, Health::Degraded),
            other => other,
        }
    }

    /// Slots of a lane with records at or above an ordinal: what a sink that stands there keeps from being used again.
    pub fn slots_from(&self, lane: LaneId, ordinal: u64) -> u32 {
        let Some(lane) = self.lanes.get(lane.index()) else { return 0 };
        (0..lane.log.slots.len()).filter(|at| lane.slot_end(*at).ordinal > ordinal).count() as u32
    }

    pub fn stats(&self) -> Stats {
        let pending = |l: &Lane| self.slots_from(l.id, l.floor.map_or(l.durable.ordinal, |f| f.ordinal));
        let lane = |l: &Lane| LaneStats {
            admitted: l.counters.admitted,
            evicted: l.counters.evicted,
            corrupt: l.counters.corrupt,
            lost_unsynced: l.counters.lost_unsynced,
            oldest: l.oldest,
            durable: l.durable,
            shown: l.shown,
        };
        Stats {
            format: self.writes,
            on_trial: self.is_on_trial(),
            max_bytes: self.options.max_bytes,
            slot_bytes: self.slots.slot_bytes.into(),
            slots: self.slots.existing.len() as u32,
            slots_pending: self.lanes.iter().map(pending).sum(),
            state_refused: self.state_refused,
            logical_bytes: self.life.logical,
            stored_bytes: self.life.stored,
            padded_bytes: self.life.padded,
            synced_bytes: self.life.synced,
            commits: self.last_commit,
            syncs: self.writer.syncs,
            failed_syncs: self.writer.failed_syncs,
            unsynced_bytes: self.unsynced() as u64,
            held_bytes: self.is_ram_first().then(|| self.held_bytes() as u64),
            state_entries: self.state.entries() as u32,
            lanes: self.lanes.iter().map(lane).collect(),
        }
    }

    /// The counters of all lanes as a header has them.
    pub(super) fn counters(&self) -> [Counters; MAX_LANES] {
        let mut all = [Counters::default(); MAX_LANES];
        self.lanes.iter().for_each(|l| all[l.id.index()] = l.counters);
        all
    }
}

pub(super) fn clock_key(boot: u32) -> [u8; 5] {
    let [a, b, c, d] = boot.to_le_bytes();
    [b'c', a, b, c, d]
}

/// Slots of `slot_bytes` that fit the cap beside the root.
pub(super) fn slot_cap(max_bytes: u64, slot_bytes: u32) -> usize {
    let fit = max_bytes.saturating_sub(ROOT_BYTES) / u64::from(slot_bytes.max(1));
    fit.clamp(4, u64::from(u16::MAX)) as usize
}

/// Whether its entries say where something stands that would begin again without them.
fn stands(owner: &Owner) -> bool {
    matches!(owner.kind, OwnerKind::Source | OwnerKind::Rule | OwnerKind::Sink)
}
