//! What every part says about itself.

use serde::{Deserialize, Serialize};

/// Counter names that more than one part uses, so that they read the same everywhere.
pub mod counters {
    /// Events taken from the peer.
    pub const RECEIVED: &str = "received";
    /// Bytes taken from the peer.
    pub const RECEIVED_BYTES: &str = "received_bytes";
    /// Events that the rules dropped.
    pub const FILTERED: &str = "filtered";
    /// Events larger than the ring takes.
    pub const REFUSED: &str = "refused";
    /// Input that did not parse; kept raw where that makes sense.
    pub const MALFORMED: &str = "malformed";
    /// Values cut at the source's limit.
    pub const TRUNCATED: &str = "truncated";
    /// Repeats that the source itself sent and that could not be told from new events.
    pub const REDELIVERED: &str = "redelivered";
    /// Repeats recognised and dropped.
    pub const REPEATS_DROPPED: &str = "repeats_dropped";
    /// What the peer says it lost before it reached the source.
    pub const LOST_BEFORE_SOURCE: &str = "lost_before_source";
    /// Peers turned away by an `allow` list or a limit.
    pub const TURNED_AWAY: &str = "turned_away";
    pub const CONNECTS: &str = "connects";
    pub const SENT_BYTES: &str = "sent_bytes";
    pub const SENT_BATCHES: &str = "sent_batches";
    pub const DUPLICATED: &str = "duplicated";
    pub const MAYBE_DUPLICATED: &str = "maybe_duplicated";
}

/// How a part is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum PartState {
    Starting,
    /// Works; `what` says with what ("connected to 10.0.0.5:1883").
    Up {
        what: String,
    },
    /// Works around something that a person should know.
    Warn {
        what: String,
    },
    /// Does not work: what failed, where, what to do; tried again in `retry_in_ms` if it heals itself.
    Down {
        what: String,
        retry_in_ms: Option<u64>,
    },
    Paused,
}

/// Counters, gauges, states and the newest events of all parts.
#[derive(Default)]
pub struct Board {
    _todo: (),
}
