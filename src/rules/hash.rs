//! `hash`: personal data replaced by a name that tells nothing and is always the same, so that records of one person or
//! device can still be joined: in fields of a JSON object, the key or the whole value.
//!
//! With a secret it is HMAC-SHA-256 (RFC 2104): whoever has not got the secret cannot find the text by trying, and nodes
//! that share it agree. Without one it is plain SHA-256, which hides only what nobody could guess: never a phone
//! number. What is hashed is the text: a string without its quotes and escapes, a number's digits as they stand, so that
//! `"42"` and `42` are one. A hash may be cut: of n bytes, two texts are likely to share one once there are 2^(4n) of them.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring_crypto::{digest, hmac};

use super::Answer;
use super::failed::Failed;
use super::replace::Target;
use crate::record::RecordRef;

/// Bytes of a whole SHA-256.
pub const WHOLE: usize = 32;
/// The fewest bytes that still tell some millions of texts apart.
pub const FEWEST: usize = 8;
/// A secret shorter than this could be found by trying.
pub const MIN_SECRET: usize = 16;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    #[default]
    Hex,
    /// The alphabet for URLs and file names, without padding (RFC 4648, section 5).
    Base64,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    #[error("`secret` has {0} bytes; at least {MIN_SECRET}, from a random source, keep it from being guessed")]
    Secret(usize),
    #[error("`length` is {FEWEST} to {WHOLE} bytes of the hash")]
    Length,
}

/// A checked rule. Its `Debug` does not show the secret.
#[derive(Clone)]
pub struct Hashing {
    target: Target,
    secret: Option<Vec<u8>>,
    /// The same, prepared.
    key: Option<hmac::Key>,
    length: usize,
    encoding: Encoding,
}

impl PartialEq for Hashing {
    fn eq(&self, other: &Self) -> bool {
        let of = |h: &Self| (h.length, h.encoding);
        self.target == other.target && self.secret == other.secret && of(self) == of(other)
    }
}

impl std::fmt::Debug for Hashing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let keyed = self.secret.is_some();
        write!(f, "Hashing {{ {:?}, keyed: {keyed}, {} bytes, {:?} }}", self.target, self.length, self.encoding)
    }
}

impl Hashing {
    /// `length` is how many bytes of the hash are kept.
    pub fn new(target: Target, secret: Option<Vec<u8>>, length: usize, encoding: Encoding) -> Result<Self, HashError> {
        if let Some(short) = secret.as_ref().map(Vec::len).filter(|len| *len < MIN_SECRET) {
            return Err(HashError::Secret(short));
        }
        if !(FEWEST..=WHOLE).contains(&length) {
            return Err(HashError::Length);
        }
        let key = secret.as_ref().map(|secret| hmac::Key::new(hmac::HMAC_SHA256, secret));
        Ok(Self { target, secret, key, length, encoding })
    }

    /// Writes the new value to `out`.
    pub fn rewrite(&self, record: &RecordRef<'_>, out: &mut Vec<u8>) -> Result<Answer, Failed> {
        if self.target.value {
            out.clear();
            self.write(record.value, out);
            return Ok(Answer::Value);
        }
        let Some(fields) = self.target.fields() else { return Ok(Answer::Pass) };
        let mut with = |plain: &[u8], out: &mut Vec<u8>| {
            out.push(b'"');
            self.write(plain, out);
            out.push(b'"');
        };
        let changed = fields.replace(record.value, &mut with, out)?;
        Ok(Answer::rewritten(changed))
    }

    /// Writes the new key to `out`, which `Answer::Value` stands for.
    pub fn rewrite_key(&self, record: &RecordRef<'_>, out: &mut Vec<u8>) -> Answer {
        let Some(key) = record.key.filter(|_| self.target.key) else { return Answer::Pass };
        out.clear();
        self.write(key, out);
        Answer::Value
    }

    fn write(&self, plain: &[u8], out: &mut Vec<u8>) {
        let mut bytes = [0; WHOLE];
        match &self.key {
            Some(key) => bytes.copy_from_slice(hmac::sign(key, plain).as_ref()),
            None => bytes.copy_from_slice(digest::digest(&digest::SHA256, plain).as_ref()),
        }
        let kept = &bytes[..self.length];
        match self.encoding {
            Encoding::Hex => {
                let digit = |nibble: u8| b"0123456789abcdef"[usize::from(nibble)];
                kept.iter().for_each(|b| out.extend_from_slice(&[digit(b >> 4), digit(b & 15)]));
            }
            Encoding::Base64 => out.extend_from_slice(URL_SAFE_NO_PAD.encode(kept).as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::Path;

    fn hash(secret: Option<&[u8]>, length: usize, encoding: Encoding, plain: &[u8]) -> String {
        let target = Target::new(&[], false, true).unwrap();
        let rule = Hashing::new(target, secret.map(<[u8]>::to_vec), length, encoding).unwrap();
        let mut out = b"left over".to_vec();
        assert_eq!(rule.rewrite(&RecordRef::of(plain), &mut out), Ok(Answer::Value));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn keyed_hashes_are_those_of_rfc_4231() {
        assert_eq!(
            hash(Some(&[0x0b; 20]), WHOLE, Encoding::Hex, b"Hi There"),
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"
        );
        // Test case 6: a key longer than a block.
        assert_eq!(
            hash(Some(&[0xaa; 131]), WHOLE, Encoding::Hex, b"Test Using Larger Than Block-Size Key - Hash Key First"),
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"
        );
    }

    #[test]
    fn plain_hashes_are_those_of_fips_180_and_can_be_cut() {
        assert_eq!(
            hash(None, WHOLE, Encoding::Hex, b"abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(hash(None, 8, Encoding::Hex, b"abc"), "ba7816bf8f01cfea");
        assert_eq!(hash(None, 8, Encoding::Base64, b"abc"), "ungWv48Bz-o");
    }

    #[test]
    fn the_text_is_hashed_however_it_is_written() {
        let paths = [Path::parse("a").unwrap()];
        let rule = Hashing::new(Target::new(&paths, true, false).unwrap(), None, 8, Encoding::Hex).unwrap();
        let mut out = Vec::new();
        for value in [r#"{"a":"abc"}"#, r#"{"a":"\u0061bc"}"#] {
            assert_eq!(rule.rewrite(&RecordRef::of(value.as_bytes()), &mut out), Ok(Answer::Value));
            assert_eq!(out, br#"{"a":"ba7816bf8f01cfea"}"#);
        }
        let mut hashed = |value: &[u8]| {
            rule.rewrite(&RecordRef::of(value), &mut out).unwrap();
            out.clone()
        };
        assert_eq!(hashed(br#"{"a":"42"}"#), hashed(br#"{"a":42}"#));
        assert_ne!(hashed(br#"{"a":"42"}"#), hashed(br#"{"a":43}"#));
        let record = RecordRef { key: Some(b"abc"), ..RecordRef::of(b"{}") };
        assert_eq!(rule.rewrite_key(&record, &mut out), Answer::Value);
        assert_eq!(out, b"ba7816bf8f01cfea");
        assert_eq!(rule.rewrite(&record, &mut out), Ok(Answer::Pass));
    }

    #[test]
    fn the_secret_is_neither_short_nor_shown() {
        let make = |secret: &[u8], length| {
            Hashing::new(Target::new(&[], true, false).unwrap(), Some(secret.to_vec()), length, Encoding::Hex)
        };
        assert_eq!(make(b"short", WHOLE), Err(HashError::Secret(5)));
        assert_eq!(make(&[b's'; 16], 7), Err(HashError::Length));
        assert_eq!(make(&[b's'; 16], 33), Err(HashError::Length));
        let rule = make(b"secret-secret-secret", WHOLE).unwrap();
        assert!(!format!("{rule:?}").contains("secret-") && !format!("{rule:?}").contains("115"), "{rule:?}");
        assert_ne!(rule, make(b"secret-secret-Secret", WHOLE).unwrap());
    }
}
