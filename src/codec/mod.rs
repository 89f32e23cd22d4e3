//! Fluvio's encoding, read without trusting it: a reader of fields, and [`batch`] for record batches.
//!
//! The published decoders of the wire crates trust what the peer says: a varint may shift past 64 bits, a record's
//! length becomes a capacity, a batch length below 45 underflows, a duration overflows. With `panic = "abort"` each
//! of them would end the node, so requests are taken apart here, field by field, and only answers are put together
//! with the official types.

pub mod batch;

/// Bytes that are not what the protocol says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed {0}")]
pub struct Malformed(pub &'static str);

/// Takes fields off a byte slice.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    pub fn bytes(&mut self, n: usize, what: &'static str) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(n).ok_or(Malformed(what))?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(Malformed(what))?;
        self.rest = rest;
        Ok(*taken)
    }

    pub fn u8(&mut self, what: &'static str) -> Result<u8, Malformed> {
        Ok(self.array::<1>(what)?[0])
    }

    pub fn flag(&mut self, what: &'static str) -> Result<bool, Malformed> {
        match self.u8(what)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed(what)),
        }
    }

    pub fn i16(&mut self, what: &'static str) -> Result<i16, Malformed> {
        Ok(i16::from_be_bytes(self.array(what)?))
    }

    pub fn i32(&mut self, what: &'static str) -> Result<i32, Malformed> {
        Ok(i32::from_be_bytes(self.array(what)?))
    }

    pub fn u32(&mut self, what: &'static str) -> Result<u32, Malformed> {
        Ok(u32::from_be_bytes(self.array(what)?))
    }

    pub fn i64(&mut self, what: &'static str) -> Result<i64, Malformed> {
        Ok(i64::from_be_bytes(self.array(what)?))
    }

    /// `i16` length and UTF-8; a length of zero or less is the empty string, as the official decoder has it.
    pub fn str(&mut self, what: &'static str) -> Result<&'a str, Malformed> {
        let len = self.i16(what)?;
        let bytes = self.bytes(usize::try_from(len).unwrap_or(0), what)?;
        std::str::from_utf8(bytes).map_err(|_| Malformed(what))
    }

    pub fn opt_str(&mut self, what: &'static str) -> Result<Option<&'a str>, Malformed> {
        if self.flag(what)? { self.str(what).map(Some) } else { Ok(None) }
    }

    /// The `i32` count of a vector whose items take at least `min_item` bytes each: never more than can be there.
    pub fn count(&mut self, min_item: usize, what: &'static str) -> Result<usize, Malformed> {
        let count = usize::try_from(self.i32(what)?).unwrap_or(0);
        if count.checked_mul(min_item).is_none_or(|n| n > self.rest.len()) {
            return Err(Malformed(what));
        }
        Ok(count)
    }

    /// The same of a vector that may have at most so many items: they take more memory than they took on the wire.
    pub fn count_within(&mut self, most: usize, min_item: usize, what: &'static str) -> Result<usize, Malformed> {
        self.count(min_item, what).and_then(|count| if count > most { Err(Malformed(what)) } else { Ok(count) })
    }

    /// Zigzag varint of at most ten bytes.
    pub fn varint(&mut self, what: &'static str) -> Result<i64, Malformed> {
        let mut raw: u64 = 0;
        for i in 0..10 {
            let byte = self.u8(what)?;
            raw |= u64::from(byte & 0x7f) << (7 * i);
            if byte & 0x80 == 0 {
                return Ok((raw >> 1) as i64 ^ -((raw & 1) as i64));
            }
        }
        Err(Malformed(what))
    }

    /// Nothing may be left over.
    pub fn end(self, what: &'static str) -> Result<(), Malformed> {
        if self.rest.is_empty() { Ok(()) } else { Err(Malformed(what)) }
    }
}

/// Makes it so long, with zeros behind what there was, or cuts it off: as `resize`, which fills byte by byte where a build is
/// for size.
pub fn resize_with_zeros(buf: &mut Vec<u8>, len: usize) {
    const ZEROS: [u8; 1024] = [0; 1024];
    buf.truncate(len);
    buf.reserve(len - buf.len());
    while buf.len() < len {
        let more = (len - buf.len()).min(ZEROS.len());
        buf.extend_from_slice(&ZEROS[..more]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn zeros_are_filled_in_as_resize_does(mut before in prop::collection::vec(any::<u8>(), 0..3000), len in 0usize..5000) {
            let mut other = before.clone();
            other.resize(len, 0);
            resize_with_zeros(&mut before, len);
            prop_assert_eq!(before, other);
        }

        #[test]
        fn varints_read_what_the_official_encoder_wrote(value in i64::from(i32::MIN / 2)..i64::from(i32::MAX / 2)) {
            let mut bytes = Vec::new();
            fluvio_protocol::EncoderVarInt::encode_varint(&value, &mut bytes).unwrap();
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(reader.varint("v").unwrap(), value);
            prop_assert_eq!(reader.remaining(), 0);
        }
    }
}
