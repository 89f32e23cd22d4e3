//! The slot header: a slot's first page, identity and where its lane stood when it was opened.

use std::ops::Range;

use super::*;
use crate::lane::LaneId;
use crate::limits::{MAX_SLOT, MIN_SLOT};

mod slot_field {
    use super::Range;
    pub const MAGIC: Range<usize> = 0..4;
    pub const VERSION: Range<usize> = 4..6;
    pub const KIND: usize = 6;
    pub const LANE: usize = 7;
    pub const COMPAT: Range<usize> = 8..12;
    pub const READ_ONLY: Range<usize> = 12..16;
    pub const INCOMPAT: Range<usize> = 16..20;
    pub const SLOT_BYTES: Range<usize> = 20..24;
    pub const RING: Range<usize> = 24..40;
    pub const BINDING: Range<usize> = 40..56;
    pub const SLOT: Range<usize> = 56..58;
    pub const STARTS_LEN: Range<usize> = 58..60;
    pub const STARTS_COMPLETE: usize = 60;
    pub const GENERATION: Range<usize> = 64..72;
    pub const FIRST_SEQ: Range<usize> = 72..80;
    pub const LAST_COMMIT: Range<usize> = 80..88;
    pub const BOOT: Range<usize> = 88..92;
    pub const SESSION: Range<usize> = 92..96;
    pub const OPENED_AT: Range<usize> = 96..104;
    pub const PREV_SLOT: Range<usize> = 104..106;
    pub const PREV_END: Range<usize> = 108..112;
    pub const PREV_GENERATION: Range<usize> = 112..120;
    pub const UNCOPIED: Range<usize> = 120..128;
    pub const LANES: Range<usize> = 128..448;
    pub const OLDEST: Range<usize> = 448..512;
    pub const STARTS: Range<usize> = 512..4064;
    /// In an encrypted slot, instead of the last of the starts.
    pub const KEY_ID: Range<usize> = 4052..4056;
    pub const FORMER: Range<usize> = 4064..4080;
    pub const FORMER_END: Range<usize> = 4080..4088;
    pub const OLDEST_BOOT: Range<usize> = 4088..4092;
    pub const CRC: Range<usize> = 4092..4096;
}

const SLOT_MAGIC: [u8; 4] = *b"HWsl";

/// The `incompat` flag of a slot whose frames are encrypted.
const ENCRYPTED: u32 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum SlotKind {
    Lane = 1,
    Journal = 2,
}

/// Where the slot before it in the same lane ends, as known when this one was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PrevSlot {
    pub slot: u16,
    /// 0: there was none.
    pub generation: u64,
    pub end: u32,
}

/// A slot's first page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotHeader {
    /// Of the format, here and in all of its frames.
    pub version: u8,
    pub kind: SlotKind,
    pub lane: LaneId,
    pub compat: u32,
    pub read_only: u32,
    /// Of the key that its frames are encrypted under; 0: they are in clear.
    pub key_id: u32,
    pub slot_bytes: u32,
    pub ring: RingId,
    pub binding: [u8; 16],
    pub slot: SlotId,
    pub generation: u64,
    /// The next seq when it was opened.
    pub first_seq: u64,
    /// The last durable commit when it was opened; its snapshot contains everything up to it.
    pub last_commit: u64,
    pub boot: u32,
    pub session: u32,
    pub opened_at: i64,
    pub prev: PrevSlot,
    /// Records of the lane that stood in the journal alone when it was opened: its first record's ordinal is that much
    /// below the lane's `admitted`.
    pub uncopied: u64,
    /// As they were when it was opened: `admitted` is the first ordinal of each lane.
    pub lanes: [Counters; MAX_LANES],
    /// The ordinal of the oldest record that each lane still had.
    pub oldest: [u64; MAX_LANES],
    /// Next offsets of the lane's partitions when it was opened.
    pub starts: Vec<(TopicPart, u64)>,
    /// False: more partitions than fit; the snapshot has them all.
    pub starts_complete: bool,
    /// The oldest boot of what stood in the journal alone when it was opened, and may come into it; 0: nothing did.
    pub oldest_boot: u32,
    /// The ring's id before its newest change of machine, and the first seq that was given after it.
    pub former: Option<(RingId, u64)>,
}

impl SlotHeader {
    pub fn emit(&self, out: &mut [u8]) {
        use slot_field::*;
        let out = &mut out[..PAGE];
        out.fill(0);
        set(out, MAGIC, SLOT_MAGIC);
        set(out, VERSION, u16::from(self.version).to_le_bytes());
        out[KIND] = self.kind as u8;
        out[LANE] = self.lane.0;
        set(out, COMPAT, self.compat.to_le_bytes());
        set(out, READ_ONLY, self.read_only.to_le_bytes());
        set(out, INCOMPAT, if self.key_id == 0 { 0 } else { ENCRYPTED }.to_le_bytes());
        set(out, SLOT_BYTES, self.slot_bytes.to_le_bytes());
        set(out, RING, self.ring.0.to_le_bytes());
        set(out, BINDING, self.binding);
        set(out, SLOT, self.slot.0.to_le_bytes());
        let starts = &self.starts[..self.starts.len().min(most_starts(self.key_id != 0))];
        set(out, STARTS_LEN, (starts.len() as u16).to_le_bytes());
        out[STARTS_COMPLETE] = u8::from(self.starts_complete && starts.len() == self.starts.len());
        set(out, GENERATION, self.generation.to_le_bytes());
        set(out, FIRST_SEQ, self.first_seq.to_le_bytes());
        set(out, LAST_COMMIT, self.last_commit.to_le_bytes());
        set(out, BOOT, self.boot.to_le_bytes());
        set(out, SESSION, self.session.to_le_bytes());
        set(out, OPENED_AT, self.opened_at.to_le_bytes());
        set(out, PREV_SLOT, self.prev.slot.to_le_bytes());
        set(out, PREV_END, self.prev.end.to_le_bytes());
        set(out, PREV_GENERATION, self.prev.generation.to_le_bytes());
        set(out, UNCOPIED, self.uncopied.to_le_bytes());
        emit_counters(&mut out[LANES], &self.lanes);
        for (chunk, oldest) in out[OLDEST].chunks_exact_mut(8).zip(self.oldest) {
            set(chunk, 0..8, oldest.to_le_bytes());
        }
        for (chunk, (part, offset)) in out[STARTS].chunks_exact_mut(START).zip(starts) {
            emit_part(chunk, *part);
            set(chunk, 4..12, offset.to_le_bytes());
        }
        if self.key_id != 0 {
            set(out, KEY_ID, self.key_id.to_le_bytes());
        }
        if let Some((ring, end)) = self.former {
            set(out, FORMER, ring.0.to_le_bytes());
            set(out, FORMER_END, end.to_le_bytes());
        }
        set(out, OLDEST_BOOT, self.oldest_boot.to_le_bytes());
        let crc = crc32c::crc32c(&out[..CRC.start]);
        set(out, CRC, crc.to_le_bytes());
    }

    /// The generation that a header names which does not hold; None: it is none at all.
    pub fn torn_generation(b: &[u8]) -> Option<u64> {
        use slot_field::*;
        (b.len() >= PAGE && b[MAGIC] == SLOT_MAGIC).then(|| u64_at(b, GENERATION))
    }

    /// Reads the first page of `slot`.
    pub fn parse(b: &[u8], slot: SlotId, formats: Formats) -> Result<SlotHeader, Bad> {
        use slot_field::*;
        let b = b.get(..PAGE).ok_or(Bad::Magic)?;
        if b[MAGIC] != SLOT_MAGIC {
            return Err(Bad::Magic);
        }
        if crc32c::crc32c(&b[..CRC.start]) != u32_at(b, CRC) {
            return Err(Bad::Crc);
        }
        let (version, incompat) = (u16_at(b, VERSION), u32_at(b, INCOMPAT));
        if incompat & !ENCRYPTED != 0 {
            return Err(Bad::Version(version));
        }
        let version = formats.known(version)?;
        if u16_at(b, SLOT) != slot.0 {
            return Err(Bad::Place);
        }
        let header = Self::fields(b, (slot, version), incompat & ENCRYPTED != 0)?;
        let bytes = u64::from(header.slot_bytes);
        let in_range = (MIN_SLOT..=MAX_SLOT).contains(&bytes)
            && bytes.is_multiple_of(PAGE as u64)
            && (header.lane.0 as usize) < MAX_LANES
            && (header.key_id == 0) == (incompat & ENCRYPTED == 0)
            && header.uncopied <= header.lanes[header.lane.index()].admitted
            && header.has_numbers();
        if in_range { Ok(header) } else { Err(Bad::Field) }
    }

    fn has_numbers(&self) -> bool {
        let former = self.former.map_or(0, |f| f.1);
        let own = [self.generation, self.first_seq, self.last_commit, self.prev.generation, self.uncopied, former];
        own.iter().chain(&self.oldest).chain(self.starts.iter().map(|s| &s.1)).all(|n| *n <= MAX_NUMBER)
            && are_numbers(&self.lanes, MAX_NUMBER)
            && self.boot.max(self.session).max(self.oldest_boot) <= MAX_SESSION
    }

    fn fields(b: &[u8], (slot, version): (SlotId, u8), encrypted: bool) -> Result<SlotHeader, Bad> {
        use slot_field::*;
        let starts_len = u16_at(b, STARTS_LEN) as usize;
        if starts_len > most_starts(encrypted) {
            return Err(Bad::Field);
        }
        let mut oldest = [0; MAX_LANES];
        for (chunk, out) in b[OLDEST].chunks_exact(8).zip(&mut oldest) {
            *out = u64_at(chunk, 0..8);
        }
        let starts = b[STARTS].chunks_exact(START).take(starts_len);
        Ok(SlotHeader {
            version,
            kind: match b[KIND] {
                1 => SlotKind::Lane,
                2 => SlotKind::Journal,
                _ => return Err(Bad::Field),
            },
            lane: LaneId(b[LANE]),
            compat: u32_at(b, COMPAT),
            read_only: u32_at(b, READ_ONLY),
            key_id: if encrypted { u32_at(b, KEY_ID) } else { 0 },
            slot_bytes: u32_at(b, SLOT_BYTES),
            ring: RingId(u128_at(b, RING)),
            binding: array(b, BINDING),
            slot,
            generation: u64_at(b, GENERATION),
            first_seq: u64_at(b, FIRST_SEQ),
            last_commit: u64_at(b, LAST_COMMIT),
            boot: u32_at(b, BOOT),
            session: u32_at(b, SESSION),
            opened_at: i64_at(b, OPENED_AT),
            prev: PrevSlot {
                slot: u16_at(b, PREV_SLOT),
                generation: u64_at(b, PREV_GENERATION),
                end: u32_at(b, PREV_END),
            },
            uncopied: u64_at(b, UNCOPIED),
            lanes: parse_counters(&b[LANES]),
            oldest,
            starts: starts.map(|c| (parse_part(c), u64_at(c, 4..12))).collect(),
            starts_complete: b[STARTS_COMPLETE] == 1,
            oldest_boot: u32_at(b, OLDEST_BOOT),
            former: Some((RingId(u128_at(b, FORMER)), u64_at(b, FORMER_END))).filter(|f| f.0 != RingId::default()),
        })
    }
}

/// Partition starts that a header has room for.
pub fn most_starts(encrypted: bool) -> usize {
    if encrypted { MAX_STARTS - 1 } else { MAX_STARTS }
}
