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
