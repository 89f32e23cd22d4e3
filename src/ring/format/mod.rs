//! The bytes of headers: slot header, frame header, run directory, root page.
//!
//! Each has a `field` module that names its byte ranges once, a `parse` that checks before it trusts, and an `emit`.
//! Everything is little-endian. What the fields mean is told in [`super`]; this file knows only where they are.
//! It never allocates more than a checked header allows and never panics on arbitrary bytes.

mod directory;
mod frame;
mod root;
mod slot;
mod version;

use std::ops::Range;

pub use directory::{PrevCount, Run, parse_directory};
pub use frame::{Codec, FrameHeader, FrameKind, XCHACHA20_POLY1305, flags, without_checksums};
pub use root::RootPage;
pub use slot::{PrevSlot, SlotHeader, SlotKind, most_starts};
pub use version::{Formats, NEWEST, OLDEST};

use super::{RingId, SlotId};
use crate::limits::{MAX_LANES, MAX_RECORD, MAX_STATE_OWNER_BYTES, PAGE};
use crate::topic::{TopicId, TopicPart};

/// Bytes of a frame header.
pub const FRAME_HEADER: usize = 512;
/// Bytes of one run in the directory.
pub const RUN: usize = 32;
/// Bytes of one count of the previous commit.
pub const PREV_COUNT: usize = 16;
/// Bytes of one partition start in a slot header.
pub const START: usize = 12;
/// Partition starts that fit a slot header.
pub const MAX_STARTS: usize = 296;
/// Partitions in one frame: a batch is sealed before it has more.
pub const MAX_RUNS: usize = 256;
/// The first frame of a slot is here.
pub const FIRST_FRAME: u32 = PAGE as u32;
/// More raw bytes than any frame has: one largest record with its overhead, or a group.
pub const MAX_RAW: usize = MAX_RECORD + 64 * 1024 + 1024;
/// More state bytes than any frame has.
pub const MAX_STATE_RAW: usize = 2 * MAX_STATE_OWNER_BYTES + 64 * 1024;

/// No ring comes near: 142 years of a million records a second. A number beyond it is a field error, so that what is read
/// from a disk can be added to without overflowing, whoever wrote it under a right checksum. A ring that goes on from there
/// may write up to twice as much.
pub const MAX_NUMBER: u64 = 1 << 52;
/// The same for sessions and boots.
pub const MAX_SESSION: u32 = 1 << 29;

/// Rounds up to a whole page.
pub const fn pages(bytes: usize) -> usize {
    bytes.div_ceil(PAGE) * PAGE
}

/// Why bytes are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Bad {
    #[error("no magic")]
    Magic,
    #[error("format version {0}, and this program reads {OLDEST} to {NEWEST}")]
    Version(u16),
    #[error("checksum mismatch")]
    Crc,
    #[error("field out of range")]
    Field,
    #[error("belongs to another slot, generation or place")]
    Place,
    /// Its checksum holds.
    #[error("encrypted under key {0:08x}, which is not here")]
    Key(u32),
    #[error("encrypted, and not what was written under this key")]
    Tag,
}

fn u16_at(b: &[u8], r: Range<usize>) -> u16 {
    u16::from_le_bytes(array(b, r))
}
fn u32_at(b: &[u8], r: Range<usize>) -> u32 {
    u32::from_le_bytes(array(b, r))
}
fn u64_at(b: &[u8], r: Range<usize>) -> u64 {
    u64::from_le_bytes(array(b, r))
}
fn i64_at(b: &[u8], r: Range<usize>) -> i64 {
    i64::from_le_bytes(array(b, r))
}
fn u128_at(b: &[u8], r: Range<usize>) -> u128 {
    u128::from_le_bytes(array(b, r))
}
/// The ranges are constants of the `field` modules and the callers have checked the length.
fn array<const N: usize>(b: &[u8], r: Range<usize>) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&b[r]);
    out
}
fn set<const N: usize>(b: &mut [u8], r: Range<usize>, v: [u8; N]) {
    b[r].copy_from_slice(&v);
}

/// What seeds the checksums of a frame's parts, so that stale or misplaced bytes never validate.
pub fn seed(ring: RingId, slot: SlotId, generation: u64) -> u32 {
    let mut s = [0u8; 26];
    set(&mut s, 0..16, ring.0.to_le_bytes());
    set(&mut s, 16..18, slot.0.to_le_bytes());
    set(&mut s, 18..26, generation.to_le_bytes());
    crc32c::crc32c(&s)
}

/// Cumulative counters of one lane over the ring's life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Records ever given a seq, those of this frame included.
    pub admitted: u64,
    pub evicted: u64,
    pub expired: u64,
    pub corrupt: u64,
    pub lost_unsynced: u64,
}

const COUNTERS: usize = 40;

fn emit_counters(out: &mut [u8], lanes: &[Counters; MAX_LANES]) {
    for (chunk, c) in out.chunks_exact_mut(COUNTERS).zip(lanes) {
        set(chunk, 0..8, c.admitted.to_le_bytes());
        set(chunk, 8..16, c.evicted.to_le_bytes());
        set(chunk, 16..24, c.expired.to_le_bytes());
        set(chunk, 24..32, c.corrupt.to_le_bytes());
        set(chunk, 32..40, c.lost_unsynced.to_le_bytes());
    }
}

fn parse_counters(bytes: &[u8]) -> [Counters; MAX_LANES] {
    let mut lanes = [Counters::default(); MAX_LANES];
    for (chunk, c) in bytes.chunks_exact(COUNTERS).zip(&mut lanes) {
        *c = Counters {
            admitted: u64_at(chunk, 0..8),
            evicted: u64_at(chunk, 8..16),
            expired: u64_at(chunk, 16..24),
            corrupt: u64_at(chunk, 24..32),
            lost_unsynced: u64_at(chunk, 32..40),
        };
    }
    lanes
}

fn are_numbers(counters: &[Counters; MAX_LANES], most: u64) -> bool {
    let all = |c: &Counters| [c.admitted, c.evicted, c.expired, c.corrupt, c.lost_unsynced];
    counters.iter().flat_map(all).all(|n| n <= most)
}

fn emit_part(out: &mut [u8], part: TopicPart) {
    set(out, 0..2, part.topic.0.to_le_bytes());
    out[2] = part.partition;
}

fn parse_part(b: &[u8]) -> TopicPart {
    TopicPart { topic: TopicId(u16_at(b, 0..2)), partition: b[2] }
}
