//! The ring: a bounded, checksummed on-disk log that survives power cuts. (Format essay: to be written here.)

mod batch;
mod cache;
mod core;
mod disk;
mod drive;
mod format;
mod frame;
mod identity;
mod memdisk;
mod reader;
mod recovery;
mod slots;
pub mod stat;
mod state;
mod topics;
mod types;
pub mod verify;
mod walk;
mod wire;
mod writer;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod verify_tests;

pub use self::core::Ring;
pub use disk::*;
pub use drive::drive;
pub use frame::{Entry, Frame};
pub use memdisk::MemDisk;
pub use reader::{LaneReader, PartReader, ReadStep};
pub use types::*;

use crate::lane::LaneId;
use crate::limits::PAGE;
use crate::time::Span;

/// Bytes of the `root` file: two pages.
pub const ROOT_BYTES: u64 = 2 * PAGE as u64;
