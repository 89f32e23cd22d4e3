//! The words of the ring's face: options, positions, errors, gaps, reports.

use super::cipher::Keys;
use super::format::Formats;
use crate::lane::LaneId;
use crate::name::Name;
use crate::time::Span;
use crate::topic::{TopicId, TopicName, TopicPart};

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
    /// What frames are encrypted with, and read with.
    pub keys: Keys,
    pub formats: Formats,
}

impl Options {
    /// What slots are read with.
    pub(super) fn reads(&self) -> Reads<'_> {
        (&self.keys, self.formats)
    }
}

pub(super) type Reads<'a> = (&'a Keys, Formats);

#[derive(Clone, Debug)]
pub struct LaneOptions {
    pub name: Name,
    /// Percent of the slots that other lanes cannot evict.
    pub reserve: u8,
}

/// Random identity of a ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct RingId(pub u128);

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
    /// One past the newest record that readers see, which is durable, or in RAM-first mode sealed: what the endpoint
    /// shows as the log end.
    pub durable_end: u64,
    /// The offset the next append gets.
    pub next: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
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
    #[error("the ring has no room for more state of `{}` ({entries} entries, {bytes} bytes; 64 KiB each, all together a quarter of a slot)", owner.name)]
    Full { owner: Owner, entries: usize, bytes: usize },
}

/// Why records will never arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GapReason {
    Evicted,
    Expired,
    Corrupt,
    LostUnsynced,
    /// Every sink had it from memory, in RAM-first mode: it was never written.
    Passed,
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

/// What recovery found, for the status, the log and `ring verify`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Nothing was there: a new ring.
    pub fresh: bool,
    /// The directory came from another machine: a new ring id was taken.
    pub cloned: bool,
    pub clean_shutdown: bool,
    /// There are slots that are neither read nor written: another ring's, a later program's, or ones that cannot be read.
    pub set_aside: bool,
    pub corrupt_records: u64,
    pub lost_unsynced: u64,
    /// Damage at the very last unsealed commit, which cannot be told from a commit that never was.
    pub tail_unknown: bool,
    /// The keys that slots of the ring are encrypted under.
    pub keys: Vec<KeyUse>,
    /// In plain words, one finding a line.
    pub notes: Vec<String>,
}

/// A key that slots are encrypted under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyUse {
    pub id: u32,
    pub slots: u32,
    /// It was given: what they hold can be read.
    pub given: bool,
}

impl Report {
    /// The first key that is wanted and was not given.
    pub fn locked(&self) -> Option<u32> {
        self.keys.iter().find(|key| !key.given).map(|key| key.id)
    }
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
    /// The version of the format that slots are begun in.
    pub format: u8,
    /// The program is on trial: that is the version of the program before.
    pub on_trial: bool,
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
    /// In RAM-first mode: bytes of those that are held in memory for the sinks; None: what comes is written.
    pub held_bytes: Option<u64>,
    pub state_entries: u32,
    /// Entries that were refused in this process, because their owner or the ring had no room for them.
    pub state_refused: u64,
    pub lanes: Vec<LaneStats>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaneStats {
    /// Records ever given a seq in this lane (= the next ordinal).
    pub admitted: u64,
    pub evicted: u64,
    pub corrupt: u64,
    pub lost_unsynced: u64,
    /// The oldest record that can be read.
    pub oldest: LanePos,
    /// One past the newest durable record.
    pub durable: LanePos,
    /// One past the newest that readers see: beyond `durable` in RAM-first mode alone.
    pub shown: LanePos,
}
