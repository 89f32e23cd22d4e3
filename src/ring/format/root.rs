//! The root page: an untrusted hint beside the slots.

use std::ops::Range;

use super::*;

mod root_field {
    use super::Range;
    pub const MAGIC: Range<usize> = 0..4;
    pub const VERSION: Range<usize> = 4..6;
    pub const CLEAN: usize = 6;
    pub const SLOT_BYTES: Range<usize> = 8..12;
    pub const SERIAL: Range<usize> = 16..24;
    pub const RING: Range<usize> = 24..40;
    pub const GENERATION: Range<usize> = 40..48;
    pub const COMMIT: Range<usize> = 48..56;
    pub const SLOT: Range<usize> = 56..58;
    pub const SESSION: Range<usize> = 60..64;
    pub const CRC: Range<usize> = 4092..4096;
}

const ROOT_MAGIC: [u8; 4] = *b"HWrt";

/// The hint beside the slots. Two pages, written in turn; the higher serial counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RootPage {
    pub version: u8,
    pub serial: u64,
    pub ring: RingId,
    pub slot_bytes: u32,
    /// The newest slot and its generation when this was written.
    pub slot: SlotId,
    pub generation: u64,
    /// The last commit when this was written.
    pub commit: u64,
    /// The newest process that opened the ring for writing.
    pub session: u32,
    /// Nothing was written after `commit`, and all of it was synced before this page.
    pub clean: bool,
}

impl RootPage {
    pub fn emit(&self, out: &mut [u8]) {
        use root_field::*;
        let out = &mut out[..PAGE];
        out.fill(0);
        set(out, MAGIC, ROOT_MAGIC);
        set(out, VERSION, u16::from(self.version).to_le_bytes());
        out[CLEAN] = u8::from(self.clean);
        set(out, SLOT_BYTES, self.slot_bytes.to_le_bytes());
        set(out, SERIAL, self.serial.to_le_bytes());
        set(out, RING, self.ring.0.to_le_bytes());
        set(out, GENERATION, self.generation.to_le_bytes());
        set(out, COMMIT, self.commit.to_le_bytes());
        set(out, SLOT, self.slot.0.to_le_bytes());
        set(out, SESSION, self.session.to_le_bytes());
        let crc = crc32c::crc32c(&out[..CRC.start]);
        set(out, CRC, crc.to_le_bytes());
    }

    pub fn parse(b: &[u8], formats: Formats) -> Option<RootPage> {
        use root_field::*;
        let b = b.get(..PAGE)?;
        let version = formats.known(u16_at(b, VERSION)).ok()?;
        let good = b[MAGIC] == ROOT_MAGIC
            && crc32c::crc32c(&b[..CRC.start]) == u32_at(b, CRC)
            && [SERIAL, GENERATION, COMMIT].into_iter().all(|number| u64_at(b, number) <= MAX_NUMBER)
            && u32_at(b, SESSION) <= MAX_SESSION;
        good.then(|| RootPage {
            version,
            serial: u64_at(b, SERIAL),
            ring: RingId(u128_at(b, RING)),
            slot_bytes: u32_at(b, SLOT_BYTES),
            slot: SlotId(u16_at(b, SLOT)),
            generation: u64_at(b, GENERATION),
            commit: u64_at(b, COMMIT),
            session: u32_at(b, SESSION),
            clean: b[CLEAN] == 1,
        })
    }
}
