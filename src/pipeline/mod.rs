//! The pipeline: pure composition of rules, ring and sink books. (To be written; the types below are its face.)

use crate::name::Name;
use crate::ring::{Health, LanePos, Report, RingId, Stats, TopicInfo};

/// Everything countable, for status, metrics and heartbeat.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub ring_id: RingId,
    pub boot: u32,
    pub ring: Stats,
    pub health: Health,
    pub recovery: Report,
    /// True in memory mode.
    pub memory_mode: bool,
    pub topics: Vec<TopicInfo>,
    pub lanes: Vec<Name>,
    pub sinks: Vec<SinkBook>,
}

/// The account of one sink: promise 2, per lane summed up. In ring records from where the sink was first configured:
/// `admitted = delivered + filtered + refused + pending + evicted + expired + corrupt + lost_unsynced + released`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkBook {
    pub name: Name,
    /// False: it left the config, its cursor is kept until `sink forget`.
    pub configured: bool,
    pub paused: bool,
    pub cursor: LanePos,
    pub admitted: u64,
    pub delivered: u64,
    pub filtered: u64,
    pub refused: u64,
    pub pending: u64,
    pub evicted: u64,
    pub expired: u64,
    pub corrupt: u64,
    pub lost_unsynced: u64,
    pub released: u64,
}
