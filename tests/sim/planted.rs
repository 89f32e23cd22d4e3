//! Bugs planted on purpose. A checker that does not find them proves nothing when it finds nothing.
//!
//! Each is planted at a boundary of the ring or the pipeline (the disk, the disk threads, a sink), never in the
//! product's own code.

use crate::disk::Lie;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Plant {
    #[default]
    None,
    /// The disk.
    Disk(Lie),
    /// A source is acknowledged when its record was taken, not when it is durable.
    AcknowledgedEarly,
    /// A sink stores its cursor past what it delivered.
    CursorStoredEarly,
    /// A sink passes an eviction without counting it.
    GapNotCounted,
    /// Slots are given free by a cursor that is not durable.
    FloorFromUnsyncedCursor,
    /// The writer thread does not keep the order of its commands.
    WritesReordered,
}

impl Plant {
    pub fn lie(self) -> Lie {
        match self {
            Plant::Disk(lie) => lie,
            _ => Lie::None,
        }
    }
}
