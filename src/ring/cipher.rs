//! The cipher of frames, and the keys for it: XChaCha20-Poly1305 as in draft-irtf-cfrg-xchacha.
//!
//! ChaCha20-Poly1305 comes from the crate that TLS uses. What the X adds, a nonce so long that it may be drawn at
//! random, is one call of HChaCha20, which stands here. Keys and nonces are passed in: the node draws nonces from the
//! kernel, a simulation from its seed.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use ring_crypto::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, UnboundKey};
use ring_crypto::digest::{Context, SHA256};

/// Bytes of a key.
pub const KEY: usize = 32;
/// Bytes of a nonce.
pub const NONCE: usize = 24;
/// Bytes behind an encrypted section that prove it.
pub const TAG: usize = 16;

/// What the hash that gives a key its id begins with: no other use of the key hashes the same.
const ID_DOMAIN: &[u8] = b"headwater ring key id\0";
const HOW: &str = "make one with `head -c 32 /dev/urandom | base64 > FILE` or `openssl rand -hex 32 > FILE`";
/// With the equals signs at the end or without.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(base64::engine::DecodePaddingMode::Indifferent),
);

/// A key. Never printed; its id is no secret and stands in headers in clear.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    id: u32,
    bytes: [u8; KEY],
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "key {:08x}", self.id)
    }
}

/// Why a text is no key, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a key is 32 bytes, as 64 hexadecimal digits or in base64; this is {0}; {HOW}")]
pub struct NoKey(String);

impl Key {
    pub fn new(bytes: [u8; KEY]) -> Self {
        let mut hash = Context::new(&SHA256);
        hash.update(ID_DOMAIN);
        hash.update(&bytes);
        let mut id = [0; 4];
        id.copy_from_slice(&hash.finish().as_ref()[..4]);
        // 0 says that there is none.
        Self { id: u32::from_le_bytes(id).max(1), bytes }
    }

    /// As a person writes it down: 64 hexadecimal digits, or base64. The text is in no message.
    pub fn parse(text: &str) -> Result<Self, NoKey> {
        let text = text.trim();
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit());
        // 43 or 44 characters may be base64 that happens to look like digits; other lengths cannot be a key in base64.
        if digits && !matches!(text.len(), 43 | 44) {
            let mut bytes = [0; KEY];
            if text.len() != 2 * KEY {
                return Err(NoKey(format!("{} hexadecimal digits", text.len())));
            }
            for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
                *byte = pair.iter().fold(0, |n, digit| n << 4 | (*digit as char).to_digit(16).unwrap_or(0) as u8);
            }
            return Ok(Self::new(bytes));
        }
        match BASE64.decode(text) {
            Ok(bytes) => match bytes.try_into() {
                Ok(bytes) => Ok(Self::new(bytes)),
                Err(other) => Err(NoKey(format!("{} bytes in base64", Vec::len(&other)))),
            },
            Err(_) => Err(NoKey(format!("{} characters that are neither", text.chars().count()))),
        }
    }

    /// What tells it from others: never 0.
    pub fn id(&self) -> u32 {
        self.id
    }
}

/// Draws a nonce. No two of a key may ever be the same.
pub type Nonces = dyn Fn() -> [u8; NONCE] + Send + Sync;

/// What a ring is read with and, where it is encrypted, written with. Without any, all that is written is clear.
#[derive(Clone, Default)]
pub struct Keys(Option<Arc<Ring>>);

struct Ring {
    /// The first one is written with, where there are nonces.
    keys: Vec<Key>,
    nonces: Option<Box<Nonces>>,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().flat_map(|ring| &ring.keys)).finish()
    }
}

impl Keys {
    /// Frames are written under `key`; those under `old` can be read.
    pub fn writing(key: Key, old: Vec<Key>, nonces: Box<Nonces>) -> Self {
        let mut keys = old;
        keys.insert(0, key);
        Self(Some(Arc::new(Ring { keys, nonces: Some(nonces) })))
    }

    /// Frames under these can be read; what is written is clear.
    pub fn reading(keys: Vec<Key>) -> Self {
        Self(Some(Arc::new(Ring { keys, nonces: None })))
    }

    /// The id of the key that is written under; 0: in clear.
    pub fn current(&self) -> u32 {
        self.0.as_ref().filter(|ring| ring.nonces.is_some()).and_then(|ring| ring.keys.first()).map_or(0, Key::id)
    }

    /// Whether what was written under this id can be read; 0: in clear.
    pub fn has(&self, id: u32) -> bool {
        id == 0 || self.get(id).is_some()
    }

    fn get(&self, id: u32) -> Option<&Key> {
        self.0.as_ref()?.keys.iter().find(|key| key.id == id)
    }

    /// For what was written under this id with this nonce; None: the key is not here.
    pub fn lock(&self, id: u32, nonce: [u8; NONCE]) -> Option<Lock> {
        self.get(id).map(|key| Lock::new(key, nonce))
    }

    /// For a new frame: under a nonce that was never used; None: it is to be clear.
    pub fn fresh(&self) -> Option<Lock> {
        let ring = self.0.as_ref()?;
        let (nonces, key) = (ring.nonces.as_ref()?, ring.keys.first()?);
        let mut nonce = nonces();
        // Its lowest bit at the end is the state section's.
        nonce[NONCE - 1] &= !1;
        Some(Lock::new(key, nonce))
    }
}

/// Which section of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Payload = 0,
    State = 1,
}

/// One frame's key.
pub struct Lock {
    key: LessSafeKey,
    pub nonce: [u8; NONCE],
}

impl Lock {
    fn new(key: &Key, nonce: [u8; NONCE]) -> Self {
        let mut first = [0; 16];
        first.copy_from_slice(&nonce[..16]);
        let subkey = UnboundKey::new(&CHACHA20_POLY1305, &hchacha20(&key.bytes, first));
        Self { key: LessSafeKey::new(subkey.expect("a key of 32 bytes")), nonce }
    }

    fn nonce(&self, part: Part) -> ring_crypto::aead::Nonce {
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&self.nonce[16..]);
        nonce[11] ^= part as u8;
        ring_crypto::aead::Nonce::assume_unique_for_key(nonce)
    }

    /// Encrypts a section in place; its tag goes where its last [`TAG`] bytes are.
    pub fn seal(&self, part: Part, bound: &[u8], section: &mut [u8]) {
        let at = section.len() - TAG;
        let (text, tag) = section.split_at_mut(at);
        let sealed = self.key.seal_in_place_separate_tag(self.nonce(part), Aad::from(bound), text);
        tag.copy_from_slice(sealed.expect("a section is far below what one nonce may encrypt").as_ref());
    }

    /// Decrypts a section with its tag in place; None: it, or what it is bound to, is not what was written.
    pub fn open<'a>(&self, part: Part, bound: &[u8], section: &'a mut [u8]) -> Option<&'a [u8]> {
        self.key.open_in_place(self.nonce(part), Aad::from(bound), section).ok().map(|text| &*text)
    }
}

/// The key for the rest of a long nonce, of the key and its first 16 bytes.
fn hchacha20(key: &[u8; KEY], nonce: [u8; 16]) -> [u8; KEY] {
    fn quarter(s: &mut [u32; 16], [a, b, c, d]: [usize; 4]) {
        for (left, right) in [(16, 12), (8, 7)] {
            s[a] = s[a].wrapping_add(s[b]);
            s[d] = (s[d] ^ s[a]).rotate_left(left);
            s[c] = s[c].wrapping_add(s[d]);
            s[b] = (s[b] ^ s[c]).rotate_left(right);
        }
    }
    let mut s = [0u32; 16];
    let words = b"expand 32-byte k".chunks_exact(4).chain(key.chunks_exact(4)).chain(nonce.chunks_exact(4));
    for (s, word) in s.iter_mut().zip(words) {
        *s = word.iter().rev().fold(0, |n, byte| n << 8 | u32::from(*byte));
    }
    for _ in 0..10 {
        (0..4).for_each(|i| quarter(&mut s, [i, 4 + i, 8 + i, 12 + i]));
        (0..4).for_each(|i| quarter(&mut s, [i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4]));
    }
    let mut out = [0; KEY];
    for (out, word) in out.chunks_exact_mut(4).zip(s[..4].iter().chain(&s[12..])) {
        out.copy_from_slice(&word.to_le_bytes());
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hex<const N: usize>(text: &str) -> [u8; N] {
        let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        digits.chunks(2).map(byte).collect::<Vec<_>>().try_into().unwrap()
    }

    #[test]
    fn hchacha20_gives_what_the_draft_says() {
        // draft-irtf-cfrg-xchacha-03, 2.2.1.
        let key = hex("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f");
        let nonce = hex("000000090000004a0000000031415927");
        let subkey = hex("82413b4227b27bfed30e42508a877d73a0f9e4d58a74a853c12ec41326d3ecdc");
        assert_eq!(hchacha20(&key, nonce), subkey);
    }

    #[test]
    fn the_whole_cipher_gives_what_the_draft_says() {
        // draft-irtf-cfrg-xchacha-03, A.3.1.
        let key = Key::new(hex("808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f"));
        let lock = Lock::new(&key, hex("404142434445464748494a4b4c4d4e4f5051525354555657"));
        let bound: [u8; 12] = hex("50515253c0c1c2c3c4c5c6c7");
        let text = b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, \
                     sunscreen would be it.";
        let sealed: [u8; 114 + TAG] = hex("bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb
             731c7f1b0b4aa6440bf3a82f4eda7e39ae64c6708c54c216cb96b72e1213b4522f8c9ba40db5d945b11b69b982c1bb9e3f3fac2b
             c369488f76b2383565d3fff921f9664c97637da9768812f615c68b13b52e c0875924c1c7987947deafd8780acf49");
        let mut section = [0; 114 + TAG];
        section[..114].copy_from_slice(text);
        lock.seal(Part::Payload, &bound, &mut section);
        assert_eq!(section, sealed);
        assert_eq!(lock.open(Part::Payload, &bound, &mut section), Some(&text[..]));
    }

    #[test]
    fn a_key_is_read_in_both_ways_and_its_id_tells_it_from_others() {
        let hex = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
        let base64 = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
        let key = Key::parse(hex).unwrap();
        for same in [&hex.to_uppercase(), base64, base64.trim_end_matches('='), &format!("  {base64}\n")] {
            assert_eq!(Key::parse(same).unwrap(), key, "{same}");
        }
        assert_ne!(key.id(), Key::new([7; KEY]).id());
        assert_eq!(format!("{key:?}"), format!("key {:08x}", key.id()));
    }

    #[test]
    fn what_is_no_key_is_refused_with_what_to_do_and_without_what_it_was() {
        for (text, what) in [
            ("", "0 bytes in base64"),
            ("0123456789abcdef", "16 hexadecimal digits"),
            (&"a".repeat(63), "63 hexadecimal digits"),
            (&"00".repeat(33), "66 hexadecimal digits"),
            ("c2VjcmV0IHdvcmQ=", "11 bytes in base64"),
            ("a secret word", "13 characters that are neither"),
        ] {
            let said = Key::parse(text).unwrap_err().to_string();
            assert!(said.contains(what) && said.contains("/dev/urandom"), "{said}");
            assert!(text.is_empty() || !said.contains(text), "{said}");
        }
    }

    #[test]
    fn a_nonce_serves_two_sections_and_no_section_serves_as_the_other() {
        let keys = Keys::writing(Key::new([1; KEY]), Vec::new(), Box::new(|| [0xff; NONCE]));
        let lock = keys.fresh().unwrap();
        assert_eq!(lock.nonce[NONCE - 1], 0xfe);
        let (mut a, mut b) = ([0; 40], [0; 40]);
        lock.seal(Part::Payload, b"", &mut a);
        lock.seal(Part::State, b"", &mut b);
        assert!(a[..24] != b[..24] && lock.open(Part::State, b"", &mut a.clone()).is_none());
        assert_eq!(lock.open(Part::State, b"", &mut b), Some(&[0; 24][..]));
    }

    proptest! {
        #[test]
        fn what_is_sealed_is_opened_and_any_bit_that_changed_is_found(
            key: [u8; KEY],
            nonce: [u8; NONCE],
            text in proptest::collection::vec(any::<u8>(), 0..600),
            bound in proptest::collection::vec(any::<u8>(), 1..600),
            flip: proptest::sample::Index,
        ) {
            let (key, part) = (Key::new(key), if nonce[0] & 1 == 0 { Part::Payload } else { Part::State });
            let lock = Lock::new(&key, nonce);
            let mut sealed = text.clone();
            sealed.resize(text.len() + TAG, 0);
            lock.seal(part, &bound, &mut sealed);
            let mut opened = sealed.clone();
            prop_assert_eq!(lock.open(part, &bound, &mut opened), Some(&text[..]));
            // One bit of the section, its tag, what it is bound to, or the nonce.
            let bit = flip.index((sealed.len() + bound.len() + NONCE) * 8);
            let (mut all, at) = ([&sealed[..], &bound[..], &nonce[..]].concat(), bit / 8);
            all[at] ^= 1 << (bit % 8);
            let (sealed, rest) = all.split_at_mut(sealed.len());
            let (bound, nonce) = rest.split_at(bound.len());
            let lock = Lock::new(&key, nonce.try_into().unwrap());
            prop_assert_eq!(lock.open(part, bound, sealed), None);
        }
    }
}
