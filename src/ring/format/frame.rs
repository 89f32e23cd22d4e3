//! The frame header: 512 bytes, trusted once its checksum holds.

use std::ops::Range;

use super::super::cipher::{NONCE as NONCE_BYTES, TAG};
use super::*;
use crate::lane::LaneId;
use crate::limits::MAX_SLOT;

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    /// Records of one lane, perhaps state entries.
    Lane = 1,
    /// State entries alone.
    Meta = 2,
    /// A part of the snapshot that begins a lane slot; repeats the number of the last commit it contains.
    Snapshot = 3,
    /// A small commit, with or without records, in a journal slot.
    Journal = 4,
    /// Records of one lane that are durable in the journal: no commit of its own. Repeats the number of the last one.
    Copy = 5,
}

/// How the bytes of a section are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Codec {
    Raw = 0,
    Zstd = 1,
}

/// Bits of a frame's `flags`. Others are written as zero and ignored when read: what must not be ignored is an
/// `incompat` bit of the slot.
pub mod flags {
    /// Everything before it was sealed and nothing after it was written by that process.
    pub const CLEAN: u16 = 1;
    /// The first frame that a process wrote.
    pub const SESSION_START: u16 = 1 << 1;
    /// A part of a snapshot in a journal slot: what the slot is where its header is lost.
    pub const IN_JOURNAL: u16 = 1 << 2;
    /// Its records were never written, because every sink had them from memory: a directory without payload.
    pub const PASSED: u16 = 1 << 3;
}

/// The value of `cipher` of a frame that is encrypted; 0: it is in clear.
pub const XCHACHA20_POLY1305: u8 = 1;

mod frame_field {
    use super::Range;
    pub const MAGIC: Range<usize> = 0..4;
    pub const VERSION: usize = 4;
    pub const KIND: usize = 5;
    pub const FLAGS: Range<usize> = 6..8;
    pub const CODEC: usize = 8;
    pub const CIPHER: usize = 9;
    pub const LANE: usize = 10;
    pub const STATE_CODEC: usize = 11;
    pub const KEY_ID: Range<usize> = 12..16;
    pub const RING: Range<usize> = 16..32;
    pub const GENERATION: Range<usize> = 32..40;
    pub const SLOT: Range<usize> = 40..42;
    pub const RUNS: Range<usize> = 42..44;
    pub const PREV_COUNTS: Range<usize> = 44..46;
    pub const PART: usize = 46;
    pub const PARTS: usize = 47;
    pub const AT: Range<usize> = 48..52;
    pub const FRAME_LEN: Range<usize> = 52..56;
    pub const COMMIT: Range<usize> = 56..64;
    pub const PREV_COMMIT: Range<usize> = 64..72;
    pub const SYNCED_THROUGH: Range<usize> = 72..80;
    pub const COPY_FIRST: Range<usize> = 80..88;
    pub const FIRST_SEQ: Range<usize> = 88..96;
    pub const RECORDS: Range<usize> = 96..100;
    pub const BOOT: Range<usize> = 100..104;
    pub const SESSION: Range<usize> = 104..108;
    pub const RAW_LEN: Range<usize> = 108..112;
    pub const STORED_LEN: Range<usize> = 112..116;
    pub const STATE_RAW: Range<usize> = 116..120;
    pub const STATE_STORED: Range<usize> = 120..124;
    /// All of them but the header's own.
    pub const CRCS: Range<usize> = 124..136;
    pub const DIRECTORY_CRC: Range<usize> = 124..128;
    pub const PAYLOAD_CRC: Range<usize> = 128..132;
    pub const STATE_CRC: Range<usize> = 132..136;
    pub const SEALED_AT: Range<usize> = 136..144;
    pub const FIRST_TIME: Range<usize> = 144..152;
    pub const LAST_TIME: Range<usize> = 152..160;
    pub const NONCE: Range<usize> = 160..184;
    pub const LANES: Range<usize> = 184..504;
    pub const COPY_SPAN: Range<usize> = 504..508;
    pub const CRC: Range<usize> = 508..512;
}

const FRAME_MAGIC: [u8; 4] = *b"HWfr";

/// A frame's header; see [`super`] for what each field is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// Of the format: its slot's.
    pub version: u8,
    pub kind: FrameKind,
    pub flags: u16,
    pub codec: Codec,
    pub cipher: u8,
    pub lane: LaneId,
    pub state_codec: Codec,
    pub key_id: u32,
    pub ring: RingId,
    pub generation: u64,
    pub slot: SlotId,
    pub runs: u16,
    pub prev_counts: u16,
    pub part: u8,
    pub parts: u8,
    pub at: u32,
    pub frame_len: u32,
    pub commit: u64,
    pub prev_commit: u64,
    pub synced_through: u64,
    /// Of a copy: the ordinal of its first record; else 0.
    pub copy_first: u64,
    pub first_seq: u64,
    pub records: u32,
    pub boot: u32,
    pub session: u32,
    pub raw_len: u32,
    pub stored_len: u32,
    pub state_raw: u32,
    pub state_stored: u32,
    pub directory_crc: u32,
    pub payload_crc: u32,
    pub state_crc: u32,
    pub sealed_at: i64,
    pub first_time: i64,
    pub last_time: i64,
    pub nonce: [u8; NONCE_BYTES],
    pub lanes: [Counters; MAX_LANES],
    /// Of a copy: seqs from its first record to one past its last, those of other lanes among them; else 0.
    pub copy_span: u32,
}

impl FrameHeader {
    /// Where the directory (runs, then counts of the previous commit) ends and the payload begins.
    pub fn payload_at(&self) -> usize {
        FRAME_HEADER + self.runs as usize * RUN + self.prev_counts as usize * PREV_COUNT
    }
    pub fn state_at(&self) -> usize {
        self.payload_at() + self.stored_len as usize
    }
    pub fn used(&self) -> usize {
        self.state_at() + self.state_stored as usize
    }
    /// Of the key that it is encrypted under; 0: it is in clear.
    pub fn key_id(&self) -> u32 {
        if self.cipher == 0 { 0 } else { self.key_id }
    }
    /// One past the last record's seq.
    pub fn end_seq(&self) -> u64 {
        let span = if self.kind == FrameKind::Copy { self.copy_span } else { self.records };
        self.first_seq + u64::from(span)
    }
    /// One past the last record's ordinal.
    pub fn end_ordinal(&self) -> u64 {
        match self.kind {
            FrameKind::Copy => self.copy_first + u64::from(self.records),
            _ => self.lanes[self.lane.index()].admitted,
        }
    }
    pub fn first_ordinal(&self) -> u64 {
        self.end_ordinal() - u64::from(self.records)
    }
    /// Whether it is a commit, and not a repetition of what others brought.
    pub fn is_commit(&self) -> bool {
        !matches!(self.kind, FrameKind::Snapshot | FrameKind::Copy)
    }
    /// Whether its records were never written.
    pub fn is_stub(&self) -> bool {
        self.flags & flags::PASSED != 0 && self.raw_len == 0
    }
    pub fn crc_seed(&self) -> u32 {
        crc32c::crc32c_append(seed(self.ring, self.slot, self.generation), &self.commit.to_le_bytes())
    }

    pub fn emit(&self, out: &mut [u8]) {
        use frame_field::*;
        debug_assert!(self.in_range(2), "what is written is read back: {self:?}");
        let out = &mut out[..FRAME_HEADER];
        out.fill(0);
        set(out, MAGIC, FRAME_MAGIC);
        out[VERSION] = self.version;
        out[KIND] = self.kind as u8;
        set(out, FLAGS, self.flags.to_le_bytes());
        out[CODEC] = self.codec as u8;
        out[CIPHER] = self.cipher;
        out[LANE] = self.lane.0;
        out[STATE_CODEC] = self.state_codec as u8;
        set(out, KEY_ID, self.key_id.to_le_bytes());
        set(out, RING, self.ring.0.to_le_bytes());
        set(out, GENERATION, self.generation.to_le_bytes());
        set(out, SLOT, self.slot.0.to_le_bytes());
        set(out, RUNS, self.runs.to_le_bytes());
        set(out, PREV_COUNTS, self.prev_counts.to_le_bytes());
        out[PART] = self.part;
        out[PARTS] = self.parts;
        set(out, AT, self.at.to_le_bytes());
        set(out, FRAME_LEN, self.frame_len.to_le_bytes());
        set(out, COMMIT, self.commit.to_le_bytes());
        set(out, PREV_COMMIT, self.prev_commit.to_le_bytes());
        set(out, SYNCED_THROUGH, self.synced_through.to_le_bytes());
        set(out, COPY_FIRST, self.copy_first.to_le_bytes());
        set(out, FIRST_SEQ, self.first_seq.to_le_bytes());
        set(out, RECORDS, self.records.to_le_bytes());
        set(out, BOOT, self.boot.to_le_bytes());
        set(out, SESSION, self.session.to_le_bytes());
        set(out, RAW_LEN, self.raw_len.to_le_bytes());
        set(out, STORED_LEN, self.stored_len.to_le_bytes());
        set(out, STATE_RAW, self.state_raw.to_le_bytes());
        set(out, STATE_STORED, self.state_stored.to_le_bytes());
        set(out, DIRECTORY_CRC, self.directory_crc.to_le_bytes());
        set(out, PAYLOAD_CRC, self.payload_crc.to_le_bytes());
        set(out, STATE_CRC, self.state_crc.to_le_bytes());
        set(out, SEALED_AT, self.sealed_at.to_le_bytes());
        set(out, FIRST_TIME, self.first_time.to_le_bytes());
        set(out, LAST_TIME, self.last_time.to_le_bytes());
        set(out, NONCE, self.nonce);
        emit_counters(&mut out[LANES], &self.lanes);
        set(out, COPY_SPAN, self.copy_span.to_le_bytes());
        let crc = crc32c::crc32c_append(seed(self.ring, self.slot, self.generation), &out[..CRC.start]);
        set(out, CRC, crc.to_le_bytes());
    }

    /// Reads a header that should stand at `at` of `slot`. Trusted afterwards: every length in it is in range.
    pub fn parse(b: &[u8], slot: SlotId, at: u32, formats: Formats) -> Result<FrameHeader, Bad> {
        use frame_field::*;
        let b = b.get(..FRAME_HEADER).ok_or(Bad::Magic)?;
        if b[MAGIC] != FRAME_MAGIC {
            return Err(Bad::Magic);
        }
        let ring = RingId(u128_at(b, RING));
        let (found, generation) = (SlotId(u16_at(b, SLOT)), u64_at(b, GENERATION));
        if crc32c::crc32c_append(seed(ring, found, generation), &b[..CRC.start]) != u32_at(b, CRC) {
            return Err(Bad::Crc);
        }
        formats.known(b[VERSION].into())?;
        if found != slot || u32_at(b, AT) != at {
            return Err(Bad::Place);
        }
        let header = Self::fields(b, ring, generation, slot)?;
        if header.in_range(1) { Ok(header) } else { Err(Bad::Field) }
    }

    fn fields(b: &[u8], ring: RingId, generation: u64, slot: SlotId) -> Result<FrameHeader, Bad> {
        use frame_field::*;
        Ok(FrameHeader {
            version: b[VERSION],
            kind: frame_kind(b[KIND])?,
            flags: u16_at(b, FLAGS),
            codec: codec(b[CODEC])?,
            cipher: b[CIPHER],
            lane: LaneId(b[LANE]),
            state_codec: codec(b[STATE_CODEC])?,
            key_id: u32_at(b, KEY_ID),
            ring,
            generation,
            slot,
            runs: u16_at(b, RUNS),
            prev_counts: u16_at(b, PREV_COUNTS),
            part: b[PART],
            parts: b[PARTS],
            at: u32_at(b, AT),
            frame_len: u32_at(b, FRAME_LEN),
            commit: u64_at(b, COMMIT),
            prev_commit: u64_at(b, PREV_COMMIT),
            synced_through: u64_at(b, SYNCED_THROUGH),
            copy_first: u64_at(b, COPY_FIRST),
            first_seq: u64_at(b, FIRST_SEQ),
            records: u32_at(b, RECORDS),
            boot: u32_at(b, BOOT),
            session: u32_at(b, SESSION),
            raw_len: u32_at(b, RAW_LEN),
            stored_len: u32_at(b, STORED_LEN),
            state_raw: u32_at(b, STATE_RAW),
            state_stored: u32_at(b, STATE_STORED),
            directory_crc: u32_at(b, DIRECTORY_CRC),
            payload_crc: u32_at(b, PAYLOAD_CRC),
            state_crc: u32_at(b, STATE_CRC),
            sealed_at: i64_at(b, SEALED_AT),
            first_time: i64_at(b, FIRST_TIME),
            last_time: i64_at(b, LAST_TIME),
            nonce: array(b, NONCE),
            lanes: parse_counters(&b[LANES]),
            copy_span: u32_at(b, COPY_SPAN),
        })
    }

    /// The numbers are at most `times` what a reader takes.
    fn in_range(&self, times: u32) -> bool {
        let lengths = [self.stored_len, self.state_stored, self.frame_len].iter().all(|l| u64::from(*l) <= MAX_SLOT);
        lengths
            && (self.lane.0 as usize) < MAX_LANES
            && self.runs as usize <= MAX_RUNS
            && self.prev_counts as usize <= MAX_RUNS
            && self.raw_len as usize <= MAX_RAW
            && self.state_raw as usize <= MAX_STATE_RAW
            && self.frame_len as usize == pages(self.used())
            && u64::from(self.at) + u64::from(self.frame_len) <= MAX_SLOT
            && self.has_numbers(times)
            && u64::from(self.records) <= self.end_ordinal()
            && self.end_ordinal() <= self.lanes[self.lane.index()].admitted
            && (self.kind != FrameKind::Copy || self.records > 0 && self.records <= self.copy_span)
            && (self.records == 0) == (self.runs == 0)
            && self.prev_commit <= self.commit
            && self.is_clear_or_sealed()
    }

    /// A section of raw bytes has its tag behind it, and one of none is not there.
    fn is_clear_or_sealed(&self) -> bool {
        let sealed = |raw: u32, stored: u32| if raw == 0 { stored == 0 } else { stored as usize > TAG };
        match self.cipher {
            0 => true,
            XCHACHA20_POLY1305 => {
                self.key_id != 0
                    && self.nonce[NONCE_BYTES - 1] & 1 == 0
                    && self.raw_len + self.state_raw > 0
                    && sealed(self.raw_len, self.stored_len)
                    && sealed(self.state_raw, self.state_stored)
            }
            _ => false,
        }
    }
}

/// Makes of a header, and what stands behind it, what encrypted sections are bound to: all of it but its checksums, which
/// are of what is encrypted.
pub fn without_checksums(bytes: &mut [u8]) {
    bytes[frame_field::CRCS].fill(0);
    bytes[frame_field::CRC].fill(0);
}

impl FrameHeader {
    fn has_numbers(&self, times: u32) -> bool {
        let most = MAX_NUMBER * u64::from(times);
        let own = [self.generation, self.commit, self.synced_through, self.copy_first, self.first_seq];
        let sessions = self.boot.max(self.session) <= MAX_SESSION * times;
        own.iter().all(|n| *n <= most) && are_numbers(&self.lanes, most) && sessions
    }
}

fn frame_kind(b: u8) -> Result<FrameKind, Bad> {
    Ok(match b {
        1 => FrameKind::Lane,
        2 => FrameKind::Meta,
        3 => FrameKind::Snapshot,
        4 => FrameKind::Journal,
        5 => FrameKind::Copy,
        _ => return Err(Bad::Field),
    })
}

fn codec(b: u8) -> Result<Codec, Bad> {
    match b {
        0 => Ok(Codec::Raw),
        1 => Ok(Codec::Zstd),
        _ => Err(Bad::Field),
    }
}

impl FrameHeader {
    /// Whether a damaged header is probably one of this slot and generation.
    pub fn resembles(b: &[u8], ring: RingId, slot: SlotId, generation: u64) -> bool {
        use frame_field::*;
        b.len() >= FRAME_HEADER && {
            let fields = [
                b[MAGIC] == FRAME_MAGIC,
                u128_at(b, RING) == ring.0,
                u16_at(b, SLOT) == slot.0,
                u64_at(b, GENERATION) == generation,
            ];
            fields.iter().filter(|f| **f).count() >= 3
        }
    }
}
