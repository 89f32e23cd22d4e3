//! Checksums put right after a change, so that what is wrong gets past them: written after the tables in `src/ring/mod.rs`
//! and not by the ring's own code, which would be wrong in the same way on both sides.

pub const PAGE: usize = 4096;
pub const FRAME_HEADER: usize = 512;

fn number(bytes: &[u8], at: usize, len: usize) -> u64 {
    bytes[at..at + len].iter().rev().fold(0, |n, byte| n << 8 | u64::from(*byte))
}

pub fn put(bytes: &mut [u8], at: usize, value: u64, len: usize) {
    bytes[at..at + len].copy_from_slice(&value.to_le_bytes()[..len]);
}

/// The fields of a frame header that say where its parts are.
pub struct Parts {
    pub directory: std::ops::Range<usize>,
    pub payload: std::ops::Range<usize>,
    pub state: std::ops::Range<usize>,
}

impl Parts {
    /// None where they are not inside of `frame`.
    pub fn of(frame: &[u8]) -> Option<Parts> {
        if frame.len() < FRAME_HEADER || frame[..4] != *b"HWfr" {
            return None;
        }
        let directory = 32 * number(frame, 42, 2) as usize + 16 * number(frame, 44, 2) as usize;
        let directory = FRAME_HEADER..FRAME_HEADER + directory;
        // Two lengths of 32 bits are more than an address has on some boards.
        let payload = directory.end..directory.end.checked_add(number(frame, 112, 4) as usize)?;
        let state = payload.end..payload.end.checked_add(number(frame, 120, 4) as usize)?;
        (state.end <= frame.len()).then_some(Parts { directory, payload, state })
    }
}

fn header_seed(frame: &[u8]) -> u32 {
    let mut seed = [0; 26];
    seed[..16].copy_from_slice(&frame[16..32]);
    seed[16..18].copy_from_slice(&frame[40..42]);
    seed[18..].copy_from_slice(&frame[32..40]);
    crc32c::crc32c(&seed)
}

/// What a frame's checksums should be: of directory, payload, state section. That of the header comes after.
fn sums(frame: &[u8], parts: &Parts) -> [u32; 3] {
    let seed = crc32c::crc32c_append(header_seed(frame), &frame[56..64]);
    [&parts.directory, &parts.payload, &parts.state].map(|part| crc32c::crc32c_append(seed, &frame[part.clone()]))
}

/// Puts the checksums of the frame that begins at `frame[0]` right, as far as its lengths allow.
pub fn frame(frame: &mut [u8]) {
    if frame.len() < FRAME_HEADER {
        return;
    }
    if let Some(parts) = Parts::of(frame) {
        for (at, sum) in [124, 128, 132].into_iter().zip(sums(frame, &parts)) {
            put(frame, at, sum.into(), 4);
        }
    }
    let sum = crc32c::crc32c_append(header_seed(frame), &frame[..508]);
    put(frame, 508, sum.into(), 4);
}

/// Whether header, directory and payload are as their checksums say: nothing else may be read.
pub fn is_sound(frame: &[u8]) -> bool {
    let Some(parts) = Parts::of(frame) else { return false };
    let sum = crc32c::crc32c_append(header_seed(frame), &frame[..508]);
    let [directory, payload, _] = sums(frame, &parts);
    number(frame, 508, 4) == u64::from(sum)
        && number(frame, 124, 4) == u64::from(directory)
        && number(frame, 128, 4) == u64::from(payload)
}

/// The first seq and the number of records of a frame.
pub fn seqs(frame: &[u8]) -> (u64, u64) {
    (number(frame, 88, 8), number(frame, 96, 4))
}

/// Puts the checksum of a slot header or root page right.
pub fn page(page: &mut [u8]) {
    if page.len() >= PAGE {
        let sum = crc32c::crc32c(&page[..PAGE - 4]);
        put(page, PAGE - 4, sum.into(), 4);
    }
}

/// Where frames begin in a slot's bytes, believed or not: each with its whole header, also where the file was cut.
pub fn frames(slot: &[u8]) -> Vec<usize> {
    let headers = (slot.len() + 1).saturating_sub(FRAME_HEADER);
    (PAGE..headers).step_by(PAGE).filter(|at| slot[*at..].starts_with(b"HWfr")).collect()
}
