//! Lanes: priority classes. A topic is in exactly one; lanes order eviction and sending.

use serde::{Deserialize, Serialize};

use crate::limits::MAX_LANES;

/// A lane's number in its ring; 0 is sent first and evicted last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LaneId(pub u8);

impl LaneId {
    pub fn index(self) -> usize {
        debug_assert!((self.0 as usize) < MAX_LANES);
        self.0 as usize
    }
}

/// Names of the lanes that exist unless the config says otherwise.
pub const DEFAULT_LANES: [&str; 3] = ["urgent", "normal", "bulk"];
/// What lanes keep for themselves unless the config says otherwise.
pub const DEFAULT_RESERVE: [(&str, &str); 1] = [("urgent", "10%")];
/// The lane of a topic that names none.
pub const DEFAULT_LANE: &str = "normal";
