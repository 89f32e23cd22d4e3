//! How far `verify` has followed a lane, and what it has met there that is not told yet.

use super::FileId;
use crate::topic::TopicPart;

/// Records of a lane that are not there.
#[derive(Clone)]
pub(super) struct Lost {
    pub file: FileId,
    pub at: u64,
    pub what: String,
    pub records: u64,
    pub commit: u64,
    pub synced: bool,
    pub slot: usize,
}

impl Lost {
    pub fn new((file, at): (FileId, u64), what: &str, records: u64, synced: bool, slot: usize) -> Self {
        Self { file, at, what: what.into(), records, commit: 0, synced, slot }
    }
}

#[derive(Clone)]
pub(super) struct TornCopy {
    pub lost: Lost,
    pub parts: Vec<(TopicPart, u64, u64)>,
    pub first: u64,
    pub end: u64,
}

/// How far a lane was followed.
#[derive(Clone, Default)]
pub(super) struct Trail {
    /// The next record's ordinal.
    pub ordinal: Option<u64>,
    pub commit: u64,
    pub session: u32,
    /// Where the last frame ended.
    pub end: Option<(FileId, u64)>,
    /// Damaged headers since then.
    pub suspects: Vec<(FileId, u64)>,
    /// Records of the last frame, when its own directory cannot tell whose they were.
    pub untold: Option<Lost>,
    /// A copy that does not hold: perhaps it was torn, and made again behind.
    pub torn: Option<TornCopy>,
}
