//! From a section as it is stored to its raw bytes: checked, decrypted, decompressed, with buffers that are used again.

use super::cipher::{Keys, Part};
use super::format::{Bad, Codec, FrameHeader, without_checksums};

/// A buffer grown beyond this by one large record is not kept.
const KEPT_BYTES: usize = 160 * 1024;

type Zstd = zstd::bulk::Decompressor<'static>;

#[derive(Default)]
pub struct Unpack {
    decrypt: Decrypt,
    zstd: Option<Zstd>,
}

#[derive(Default)]
struct Decrypt {
    keys: Keys,
    /// Header and directory, as a section is bound to them.
    bound: Vec<u8>,
    plain: Vec<u8>,
}

impl Unpack {
    pub fn new(keys: Keys) -> Self {
        Self { decrypt: Decrypt { keys, ..Decrypt::default() }, zstd: None }
    }

    /// As `new`, and nothing is left to be made later.
    pub fn ready(keys: Keys) -> Result<Self, std::io::Error> {
        Ok(Self { zstd: Some(Zstd::new()?), ..Self::new(keys) })
    }

    pub fn keys(&self) -> &Keys {
        &self.decrypt.keys
    }

    /// A section without its cipher, still compressed. `bytes`: the frame's, from its header on.
    pub fn decrypt<'a>(&'a mut self, header: &FrameHeader, bytes: &'a [u8], part: Part) -> Result<&'a [u8], Bad> {
        self.decrypt.section(header, bytes, part)
    }

    /// The raw bytes of a section.
    pub fn section(&mut self, header: &FrameHeader, bytes: &[u8], part: Part, raw: &mut Vec<u8>) -> Result<(), Bad> {
        let (codec, raw_len) = match part {
            Part::Payload => (header.codec, header.raw_len),
            Part::State => (header.state_codec, header.state_raw),
        };
        let stored = self.decrypt.section(header, bytes, part)?;
        inflate(&mut self.zstd, codec, stored, raw_len as usize, raw)
    }

    /// Decompresses a section whose raw length a trusted header bounds.
    pub fn inflate(&mut self, codec: Codec, stored: &[u8], raw_len: usize, raw: &mut Vec<u8>) -> Result<(), Bad> {
        inflate(&mut self.zstd, codec, stored, raw_len, raw)
    }
}

impl Decrypt {
    fn section<'a>(&'a mut self, header: &FrameHeader, bytes: &'a [u8], part: Part) -> Result<&'a [u8], Bad> {
        let (range, crc) = match part {
            Part::Payload => (header.payload_at()..header.state_at(), header.payload_crc),
            Part::State => (header.state_at()..header.used(), header.state_crc),
        };
        let stored = bytes.get(range).ok_or(Bad::Crc)?;
        if crc32c::crc32c_append(header.crc_seed(), stored) != crc {
            return Err(Bad::Crc);
        }
        if header.key_id() == 0 {
            return Ok(stored);
        }
        let lock = self.keys.lock(header.key_id, header.nonce).ok_or(Bad::Key(header.key_id))?;
        if stored.is_empty() {
            return Ok(stored);
        }
        self.bound.clear();
        self.bound.extend_from_slice(&bytes[..header.payload_at()]);
        without_checksums(&mut self.bound);
        self.plain.clear();
        if self.plain.capacity() > KEPT_BYTES {
            self.plain = Vec::new();
        }
        self.plain.extend_from_slice(stored);
        lock.open(part, &self.bound, &mut self.plain).ok_or(Bad::Tag)
    }
}

fn zstd(made: &mut Option<Zstd>) -> Result<&mut Zstd, Bad> {
    if made.is_none() {
        *made = Zstd::new().ok();
    }
    made.as_mut().ok_or(Bad::Field)
}

fn inflate(made: &mut Option<Zstd>, codec: Codec, stored: &[u8], raw_len: usize, raw: &mut Vec<u8>) -> Result<(), Bad> {
    raw.clear();
    match codec {
        Codec::Raw => raw.extend_from_slice(stored),
        Codec::Zstd => {
            raw.reserve(raw_len);
            zstd(made)?.decompress_to_buffer(stored, raw).map_err(|_| Bad::Field)?;
        }
    }
    if raw.len() == raw_len { Ok(()) } else { Err(Bad::Field) }
}
