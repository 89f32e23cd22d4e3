//! One record as it lies in a frame's payload: a postcard struct whose time is relative to the frame's first.
//!
//! The same shape holds every field a record has; absent ones cost a zero byte, which the compressor takes away.

use serde::{Deserialize, Serialize};

use crate::record::{Attrs, Flags, Origin, RecordRef};
use crate::time::{BootTime, WallTime};

#[derive(Serialize, Deserialize)]
struct Wire<'a> {
    flags: u16,
    /// Microseconds since the frame's base time.
    time: i64,
    #[serde(borrow, with = "serde_bytes")]
    key: Option<&'a [u8]>,
    #[serde(borrow, with = "serde_bytes")]
    value: &'a [u8],
    event_time: Option<i64>,
    #[serde(borrow, with = "serde_bytes")]
    attrs: &'a [u8],
    origin: Option<(i64, i16, i32)>,
}

/// More bytes than a record of no key, no value and no attributes ever takes.
pub const MAX_OVERHEAD: usize = 64;

/// A postcard flavour that appends to a vector; the crate's own goes byte by byte through an iterator.
struct Append<'a>(&'a mut Vec<u8>);

impl postcard::ser_flavors::Flavor for Append<'_> {
    type Output = ();
    fn try_extend(&mut self, data: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(data);
        Ok(())
    }
    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }
    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

/// Appends anything in postcard. Serialising plain structs into memory does not fail.
pub fn append<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    let done = postcard::serialize_with_flavor(value, Append(out));
    debug_assert!(done.is_ok());
}

/// Appends one record.
pub fn append_record(out: &mut Vec<u8>, base: BootTime, r: &RecordRef<'_>) {
    let wire = Wire {
        flags: r.flags.0,
        time: r.admitted.0.wrapping_sub(base.0),
        key: r.key,
        value: r.value,
        event_time: r.event_time.map(|t| t.0),
        attrs: r.attrs.packed(),
        origin: r.origin.map(|o| (o.producer_id, o.producer_epoch, o.first_sequence)),
    };
    append(out, &wire);
}

/// Takes one record off the front; None when the bytes are not one.
pub fn take_record(bytes: &[u8], base: BootTime) -> Option<(RecordRef<'_>, &[u8])> {
    take_plain(bytes, base).or_else(|| take_any(bytes, base))
}

/// The same of the shape that nearly all records have: a value, perhaps a key and an event time. Every sink reads every
/// record, and the general way costs three times as much. None: it is of another shape, or is none.
fn take_plain(bytes: &[u8], base: BootTime) -> Option<(RecordRef<'_>, &[u8])> {
    let (flags, rest) = bytes.split_first().filter(|(flags, _)| **flags < 0x80)?;
    let (time, rest) = take_varint(rest)?;
    let (key, rest) = match rest.split_first()? {
        (0, rest) => (None, rest),
        (1, rest) => take_bytes(rest).map(|(key, rest)| (Some(key), rest))?,
        _ => return None,
    };
    let (value, rest) = take_bytes(rest)?;
    let (event_time, rest) = match rest.split_first()? {
        (0, rest) => (None, rest),
        (1, rest) => take_varint(rest).map(|(time, rest)| (Some(WallTime(unzigzag(time))), rest))?,
        _ => return None,
    };
    // No attributes, and no origin.
    let rest = rest.strip_prefix(&[0, 0])?;
    let (attrs, origin, flags) = (Attrs::default(), None, Flags((*flags).into()));
    let admitted = BootTime(base.0.wrapping_add(unzigzag(time)));
    Some((RecordRef { key, value, admitted, event_time, flags, attrs, origin }, rest))
}

/// One of at most nine bytes: those of ten are numbers that no record has.
fn take_varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let len = 1 + bytes.iter().take(9).position(|byte| *byte < 0x80)?;
    let (number, rest) = bytes.split_at(len);
    Some((number.iter().rev().fold(0, |sum, byte| sum << 7 | u64::from(byte & 0x7f)), rest))
}

fn take_bytes(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = take_varint(bytes)?;
    rest.split_at_checked(usize::try_from(len).ok()?)
}

fn unzigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

fn take_any(bytes: &[u8], base: BootTime) -> Option<(RecordRef<'_>, &[u8])> {
    let (wire, rest) = postcard::take_from_bytes::<Wire<'_>>(bytes).ok()?;
    let record = RecordRef {
        key: wire.key,
        value: wire.value,
        admitted: BootTime(base.0.wrapping_add(wire.time)),
        event_time: wire.event_time.map(WallTime),
        flags: Flags(wire.flags),
        attrs: Attrs::parse(wire.attrs).ok()?,
        origin: wire.origin.map(|(producer_id, producer_epoch, first_sequence)| Origin {
            producer_id,
            producer_epoch,
            first_sequence,
        }),
    };
    Some((record, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn same(bytes: &[u8], base: i64) -> Result<(), TestCaseError> {
        if let Some(plain) = take_plain(bytes, BootTime(base)) {
            prop_assert_eq!(Some(plain), take_any(bytes, BootTime(base)));
        }
        Ok(())
    }

    fn bytes(most: usize) -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(any::<u8>(), 0..most)
    }

    proptest! {
        #[test]
        fn what_the_short_way_takes_is_what_the_general_one_takes(
            all in bytes(40), flags in 0..0x200u16, times in any::<(i64, i64, Option<i64>)>(),
            key in proptest::option::of(bytes(200)), value in bytes(300), behind in bytes(4), flip in any::<(usize, u8)>(),
        ) {
            same(&all, times.0)?;
            let record = RecordRef {
                key: key.as_deref(),
                admitted: BootTime(times.1),
                event_time: times.2.map(WallTime),
                flags: Flags(flags),
                ..RecordRef::of(&value)
            };
            let mut out = Vec::new();
            append_record(&mut out, BootTime(times.0), &record);
            out.extend_from_slice(&behind);
            prop_assert_eq!(take_record(&out, BootTime(times.0)), Some((record, &behind[..])));
            same(&out, times.0)?;
            let at = flip.0 % out.len();
            out[at] ^= flip.1;
            same(&out, times.0)?;
        }
    }
}
