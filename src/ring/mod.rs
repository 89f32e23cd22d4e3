//! The ring: a bounded, checksummed on-disk log that survives power cuts. (Format essay: to be written here.)

use std::sync::Arc;

use crate::lane::LaneId;
use crate::name::Name;
use crate::record::RecordRef;
use crate::time::{BootTime, ClockSync, Span};
use crate::topic::{TopicId, TopicName, TopicPart};

// ---------------------------------------------------------------------------------------------- disk

/// A slot file's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SlotId(pub u16);

/// A file of the data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FileId {
    /// `root`: two pages, an untrusted hint.
    Root,
    /// `slot-NNNN`.
    Slot(SlotId),
}

/// What kind of failure, so that the ring can decide what to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskErrorKind {
    /// ENOSPC, EDQUOT.
    NoSpace,
    /// EROFS, EACCES, EPERM.
    ReadOnly,
    /// The file or directory is not there.
    NotFound,
    /// EIO and everything else.
    Io,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{op} {file}: {detail}")]
pub struct DiskError {
    pub kind: DiskErrorKind,
    /// `"write"`, `"sync"`, `"read"`, `"create"`, `"list"`, `"remove"`.
    pub op: &'static str,
    pub file: String,
    pub detail: String,
}

/// The device under the ring: files in one directory. Implemented by `node::disk::FileDisk` (real files),
/// [`MemDisk`] (memory mode) and the simulation's crashing disk. Calls block; the node runs them on its disk threads.
pub trait Disk: Send {
    /// Slot files that exist, with their length in bytes.
    fn list(&mut self) -> Result<Vec<(SlotId, u64)>, DiskError>;
    /// Makes (or empties) a file of `bytes`, its blocks allocated; file and directory are synced on return.
    fn create(&mut self, file: FileId, bytes: u64) -> Result<(), DiskError>;
    /// Reads up to `buf.len()` bytes at `at`; fewer only at the end of the file. Retries interrupted and short calls.
    fn read(&mut self, file: FileId, at: u64, buf: &mut [u8]) -> Result<usize, DiskError>;
    /// Writes all of `data` at `at` (inside the file). Retries interrupted and short calls.
    fn write(&mut self, file: FileId, at: u64, data: &[u8]) -> Result<(), DiskError>;
    /// fdatasync.
    fn sync(&mut self, file: FileId) -> Result<(), DiskError>;
    /// Forgets cached pages, so that the next read comes from the device (POSIX_FADV_DONTNEED).
    fn drop_cache(&mut self, file: FileId) -> Result<(), DiskError>;
    /// Unlinks; the directory is synced on return.
    fn remove(&mut self, file: FileId) -> Result<(), DiskError>;
}

// ---------------------------------------------------------------------------------------------- commands

/// What the ring wants done. Writes go to the writer thread in order, reads to the reader thread.
/// Every command is answered by one [`Completion`] with its token, in any order between the two threads.
#[derive(Debug)]
pub struct Command {
    pub token: u64,
    pub op: Op,
}

#[derive(Debug)]
pub enum Op {
    /// Create a slot file (`Disk::create`).
    Create { slot: SlotId, bytes: u64 },
    /// Write, then fdatasync when `sync`.
    Write { file: FileId, at: u64, data: Vec<u8>, sync: bool },
    /// Unlink a slot, to lower the cap.
    Remove { slot: SlotId },
    /// Read exactly `len` bytes (fewer at the end of the file) into `buf`, which is resized.
    Read { slot: SlotId, at: u64, len: u32, buf: Vec<u8> },
}

impl Op {
    pub fn is_read(&self) -> bool {
        matches!(self, Op::Read { .. })
    }
}

/// The outcome of one command. `buf` hands a Write's or Read's buffer back (filled by a Read).
#[derive(Debug)]
pub struct Completion {
    pub token: u64,
    pub result: Result<(), DiskError>,
    pub buf: Vec<u8>,
}

/// Runs one command against a disk: the body of both disk threads, and of synchronous tools.
pub fn execute(_command: Command, _disk: &mut dyn Disk) -> Completion {
    todo!()
}

// ---------------------------------------------------------------------------------------------- options

#[derive(Clone, Debug)]
pub struct Options {
    /// Cap on the bytes of all files of the ring, as the file system counts them.
    pub max_bytes: u64,
    pub lanes: Vec<LaneOptions>,
    /// How long a record that nobody waits for may wait for company.
    pub linger: Span,
    /// Hash of what ties the data directory to this machine (machine-id, board serial).
    pub binding: [u8; 16],
    /// The kernel's boot_id: boot times of another boot are not comparable.
    pub boot_id: [u8; 16],
    /// Used for a new ring id.
    pub seed: u64,
}

#[derive(Clone, Debug)]
pub struct LaneOptions {
    pub name: Name,
    /// Percent of the slots that other lanes cannot evict.
    pub reserve: u8,
}

/// Random identity of a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct RingId(pub u128);

// ---------------------------------------------------------------------------------------------- positions

/// A place in a lane: the seq of the next record to read, and how many records of this lane are below it.
/// The ordinal makes counts exact although seqs are shared by all lanes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct LanePos {
    pub seq: u64,
    pub ordinal: u64,
}

/// Grows by one with every record and state entry given to the ring in this process; see [`Ring::settled`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// Where a record went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    pub ticket: Ticket,
    pub part: TopicPart,
    pub offset: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Too many bytes wait for the writer: wait until some are durable, then offer again.
    #[error("the disk is behind: too many bytes wait to be written")]
    Busy,
    #[error("record of {bytes} bytes is larger than the {limit} that fit this ring")]
    TooLarge { bytes: usize, limit: usize },
    #[error("no topic with number {0:?}")]
    NoTopic(TopicId),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    #[error("the node already has {0} topics, the most it can hold")]
    TooMany(usize),
    #[error("topic `{name}` exists with {have} partitions")]
    Partitions { name: TopicName, have: u8 },
}

/// One topic, as the ring's table has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicInfo {
    pub id: TopicId,
    pub name: TopicName,
    pub lane: LaneId,
    /// Per partition: the first offset that can still be read, and the next one to be given.
    pub partitions: Vec<PartitionInfo>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartitionInfo {
    pub earliest: u64,
    /// One past the newest durable record: what the endpoint shows as the log end.
    pub durable_end: u64,
    /// The offset the next append gets.
    pub next: u64,
}

// ---------------------------------------------------------------------------------------------- state

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[repr(u8)]
pub enum OwnerKind {
    Ring = 0,
    Node = 1,
    Source = 2,
    Rule = 3,
    Sink = 4,
    Endpoint = 5,
}

/// Whose state entry.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner {
    pub kind: OwnerKind,
    pub name: Name,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    #[error("state of {owner:?} is full ({entries} entries, {bytes} bytes)")]
    Full { owner: Owner, entries: usize, bytes: usize },
}

// ---------------------------------------------------------------------------------------------- reading

/// Why records will never arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GapReason {
    Evicted,
    Expired,
    Corrupt,
    LostUnsynced,
}

/// A counted range of one lane that cannot be read any more: `[from, to)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    pub lane: LaneId,
    pub from: LanePos,
    pub to: LanePos,
    pub reason: GapReason,
    /// Records per partition where the ring can tell; else empty.
    pub parts: Vec<GapPart>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GapPart {
    pub part: TopicPart,
    pub from_offset: u64,
    pub to_offset: u64,
}

impl Gap {
    /// Records of the lane inside the gap.
    pub fn count(&self) -> u64 {
        self.to.ordinal - self.from.ordinal
    }
}

/// A place from which one lane is read in order (sinks).
#[derive(Clone, Debug)]
pub struct LaneReader {
    pub lane: LaneId,
    pub pos: LanePos,
    // private: physical hint (slot, generation, offset) of the next frame
}

/// A place from which one partition is read in order (endpoint, `tail`).
#[derive(Clone, Debug)]
pub struct PartReader {
    pub part: TopicPart,
    pub offset: u64,
    // private: physical hint
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

/// A decompressed frame, shared by all its readers.
#[derive(Debug)]
pub struct Frame {
    _todo: (),
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
        todo!()
    }
    pub fn lane(&self) -> LaneId {
        todo!()
    }
    /// Number of the boot in which it was written: the key of its [`ClockSync`].
    pub fn boot(&self) -> u32 {
        todo!()
    }
    /// The first record's place.
    pub fn first(&self) -> LanePos {
        todo!()
    }
    /// One past the last record's place.
    pub fn end(&self) -> LanePos {
        todo!()
    }
    /// Bytes that it keeps in memory.
    pub fn memory(&self) -> usize {
        todo!()
    }
    /// Records with `seq` or more, in order.
    pub fn entries_from(&self, _seq: u64) -> impl Iterator<Item = Entry<'_>> {
        std::iter::empty()
    }
    /// Records of one partition with `offset` or more, in order.
    pub fn entries_of(&self, _part: TopicPart, _offset: u64) -> impl Iterator<Item = Entry<'_>> {
        std::iter::empty()
    }
}

// ---------------------------------------------------------------------------------------------- the ring

/// What recovery found, for the status, the log and `ring verify`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Nothing was there: a new ring.
    pub fresh: bool,
    /// The directory came from another machine: a new ring id was taken.
    pub cloned: bool,
    pub clean_shutdown: bool,
    pub corrupt_records: u64,
    pub lost_unsynced: u64,
    /// Damage at the very last unsealed commit, which cannot be told from a commit that never was.
    pub tail_unknown: bool,
    /// In plain words, one finding a line.
    pub notes: Vec<String>,
}

/// How the ring is doing, for the status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Health {
    #[default]
    Good,
    /// Works around trouble: what, in plain words.
    Degraded(String),
    /// Writes fail for good: the node should change to memory mode.
    Failed(String),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub max_bytes: u64,
    pub slot_bytes: u64,
    pub slots: u32,
    /// Slots that hold records some sink has not passed.
    pub slots_pending: u32,
    /// Over the ring's life.
    pub logical_bytes: u64,
    pub stored_bytes: u64,
    pub padded_bytes: u64,
    pub synced_bytes: u64,
    pub commits: u64,
    /// In this process.
    pub syncs: u64,
    pub failed_syncs: u64,
    pub unsynced_bytes: u64,
    pub state_entries: u32,
    pub lanes: Vec<LaneStats>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaneStats {
    /// Records ever given a seq in this lane (= the next ordinal).
    pub admitted: u64,
    pub evicted: u64,
    pub expired: u64,
    pub corrupt: u64,
    pub lost_unsynced: u64,
    /// The oldest record that can be read.
    pub oldest: LanePos,
    /// One past the newest durable record.
    pub durable: LanePos,
}

/// The ring. No threads, no clock: `append` and friends change it, [`Ring::poll`] says what the disk must do,
/// [`Ring::complete`] takes what the disk did.
pub struct Ring {
    _todo: (),
}

impl Ring {
    /// Reads whatever is on the disk and makes a ring of it, in the best way left; blocking calls on `disk`.
    /// Fails only when the disk cannot be used at all (the node then goes on in memory).
    pub fn recover(_disk: &mut dyn Disk, _options: Options) -> Result<(Ring, Report), DiskError> {
        todo!()
    }

    pub fn id(&self) -> RingId {
        todo!()
    }
    /// Number of this boot.
    pub fn boot(&self) -> u32 {
        todo!()
    }

    // ---- topics ----

    /// The topic of this name, made (durable with the next commit) if it is not there.
    pub fn open_topic(&mut self, _name: &TopicName, _lane: LaneId, _partitions: u8) -> Result<TopicId, TopicError> {
        todo!()
    }
    pub fn remove_topic(&mut self, _id: TopicId) {
        todo!()
    }
    pub fn topic(&self, _id: TopicId) -> Option<TopicInfo> {
        todo!()
    }
    pub fn topic_id(&self, _name: &str) -> Option<TopicId> {
        todo!()
    }
    pub fn topic_ids(&self) -> Vec<TopicId> {
        todo!()
    }

    // ---- writing ----

    /// Adds one record to the batch of its lane. Never blocks, never allocates in the steady state.
    pub fn append(
        &mut self,
        _now: BootTime,
        _part: TopicPart,
        _record: &RecordRef<'_>,
    ) -> Result<Appended, AppendError> {
        todo!()
    }
    /// Until [`Ring::end_group`] no frame is sealed: what is appended to a lane and the state entries put meanwhile
    /// share one frame, so that after a crash all of it is there or nothing (a checkpoint and its lines, a packet id
    /// and its message, a produced batch). The caller adds at most `bytes` (`FRAME_RAW_TARGET`, or one larger
    /// record); appends inside a group are never `Busy`.
    pub fn begin_group(&mut self, _now: BootTime, _bytes: usize) -> Result<(), AppendError> {
        todo!()
    }
    /// Ends the group; seals what became large enough meanwhile.
    pub fn end_group(&mut self, _now: BootTime) {
        todo!()
    }
    /// False when too many bytes wait for the writer (`limits::MAX_UNSYNCED_BYTES`). After a true, one record with
    /// all that rules make of it, or one group, may be appended without `Busy`.
    pub fn has_room(&self) -> bool {
        todo!()
    }
    /// The largest record, or group, of this ring in bytes.
    pub fn max_record(&self) -> usize {
        todo!()
    }
    /// Sets (or with None removes) a state entry, atomic with the records beside it and never durable before
    /// records that were appended earlier.
    pub fn put_state(
        &mut self,
        _now: BootTime,
        _owner: &Owner,
        _key: &[u8],
        _value: Option<&[u8]>,
    ) -> Result<Ticket, StateError> {
        todo!()
    }
    /// The newest value, durable or not.
    pub fn state(&self, _owner: &Owner, _key: &[u8]) -> Option<&[u8]> {
        todo!()
    }
    /// All entries of an owner, in key order.
    pub fn states(&self, _owner: &Owner) -> Vec<(Vec<u8>, Vec<u8>)> {
        todo!()
    }
    /// All owners of a kind that have entries (removed sinks keep theirs).
    pub fn owners(&self, _kind: OwnerKind) -> Vec<Owner> {
        todo!()
    }
    /// The ticket of the newest record or state entry given to the ring.
    pub fn last_ticket(&self) -> Ticket {
        todo!()
    }
    /// Everything up to this ticket is durable.
    pub fn settled(&self) -> Ticket {
        todo!()
    }
    /// What is in the batches now must be handed to the disk by `by`.
    pub fn hurry(&mut self, _by: BootTime) {
        todo!()
    }
    /// Seals everything and marks the shutdown as clean; durable when `settled` reaches the ticket returned.
    pub fn close(&mut self, _now: BootTime) -> Ticket {
        todo!()
    }

    // ---- the disk ----

    pub fn poll(&mut self, _now: BootTime) -> Option<Command> {
        todo!()
    }
    /// When `poll` has something to say although nothing happens before (a batch's linger).
    pub fn next_timeout(&self) -> Option<BootTime> {
        todo!()
    }
    pub fn complete(&mut self, _now: BootTime, _completion: Completion) {
        todo!()
    }

    // ---- reading ----

    /// A reader of a lane from `pos` (clamped to what there is or was).
    pub fn lane_reader(&self, _lane: LaneId, _pos: LanePos) -> LaneReader {
        todo!()
    }
    /// One past the newest durable record of a lane.
    pub fn lane_durable(&self, _lane: LaneId) -> LanePos {
        todo!()
    }
    /// One past the newest durable record of a partition; None when the topic is gone.
    pub fn durable_end(&self, _part: TopicPart) -> Option<u64> {
        todo!()
    }
    /// The place one past the newest record that has a seq: where a new sink begins.
    pub fn lane_end(&self, _lane: LaneId) -> LanePos {
        todo!()
    }
    /// A frame in which `reader.pos` lies, a gap, or why not. The caller moves `reader.pos` to the frame's end
    /// (or part-way) when it has used it.
    pub fn read_lane(&mut self, _reader: &mut LaneReader) -> ReadStep {
        todo!()
    }
    pub fn part_reader(&self, _part: TopicPart, _offset: u64) -> PartReader {
        todo!()
    }
    /// As `read_lane`; frames without records of the partition are stepped over.
    pub fn read_part(&mut self, _reader: &mut PartReader) -> ReadStep {
        todo!()
    }
    /// How far the slowest sink of a lane is: slots below may be reused without counting an eviction.
    pub fn set_floor(&mut self, _lane: LaneId, _floor: Option<u64>) {
        todo!()
    }

    // ---- time, status ----

    /// What the clocks say now: kept as a state entry of this boot (written when trust or the offset changes).
    pub fn set_clock(&mut self, _now: BootTime, _sync: ClockSync) {
        todo!()
    }
    /// How to turn the boot times of a frame into wall time; None for a boot that never knew.
    pub fn clock(&self, _boot: u32) -> Option<ClockSync> {
        todo!()
    }
    /// Changes the cap or the linger while running.
    pub fn set_limits(&mut self, _max_bytes: u64, _linger: Span) {
        todo!()
    }
    pub fn health(&self) -> Health {
        todo!()
    }
    pub fn stats(&self) -> Stats {
        todo!()
    }
}

/// A disk in memory: memory mode, and tests. `bytes` bounds what it will hold.
#[derive(Debug, Default)]
pub struct MemDisk {
    _todo: (),
}

impl MemDisk {
    pub fn new(_bytes: u64) -> Self {
        Self { _todo: () }
    }
}
