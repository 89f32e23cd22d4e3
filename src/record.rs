//! The record: what a source takes in and a sink sends out, borrowed from whoever holds its bytes.
//!
//! The record path copies bytes once, into the batch that becomes a frame; everything before and after works on a
//! [`RecordRef`]. Attributes travel packed in one byte slice ([`Attrs`]), built in a reusable [`AttrBuf`].

use serde::{Deserialize, Serialize};

use crate::limits::MAX_ATTRS;
use crate::time::{BootTime, WallTime};

/// What is known about a record beside its bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Flags(pub u16);

impl Flags {
    /// The wall clock was not trusted when the record was admitted.
    pub const CLOCK_UNTRUSTED: Flags = Flags(1);
    /// The value was longer than the source's limit and was cut.
    pub const TRUNCATED: Flags = Flags(1 << 1);
    /// The source could not parse it and kept the bytes as they came.
    pub const UNPARSED: Flags = Flags(1 << 2);
    /// An MQTT retained message.
    pub const RETAINED: Flags = Flags(1 << 3);
    /// The source sent it again and it could not be told from a new one.
    pub const REDELIVERED: Flags = Flags(1 << 4);
    /// A newer record of the same topic makes this one worthless while it waits (`headwater-status`).
    pub const SUPERSEDED_BY_NEWER: Flags = Flags(1 << 5);

    /// Names of the flags that concern whoever reads a record, as envelopes and `tail --json` show them. The clock's trust
    /// stands there by itself.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        const NAMED: [(Flags, &str); 4] = [
            (Flags::TRUNCATED, "truncated"),
            (Flags::UNPARSED, "unparsed"),
            (Flags::RETAINED, "retained"),
            (Flags::REDELIVERED, "redelivered"),
        ];
        NAMED.into_iter().filter(move |(flag, _)| self.has(*flag)).map(|(_, name)| name)
    }

    pub const fn has(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }
    #[must_use]
    pub const fn with(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }
}

/// The producer fields of the Fluvio batch a record came in: what a marker is made of (see `forward`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Origin {
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub first_sequence: i32,
}

/// A record borrowed from the bytes of a source, a frame or a peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordRef<'a> {
    pub key: Option<&'a [u8]>,
    pub value: &'a [u8],
    /// Boot-clock time of admission. A source leaves it at zero; the pipeline sets it.
    pub admitted: BootTime,
    /// When it happened, if the source knows.
    pub event_time: Option<WallTime>,
    pub flags: Flags,
    pub attrs: Attrs<'a>,
    pub origin: Option<Origin>,
}

impl<'a> RecordRef<'a> {
    pub fn of(value: &'a [u8]) -> Self {
        Self { value, ..Self::default() }
    }

    /// Key, value and attributes together: what `max_record` bounds.
    pub fn len(&self) -> usize {
        self.key.map_or(0, <[u8]>::len) + self.value.len() + self.attrs.packed().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn to_owned(&self) -> Record {
        Record {
            key: self.key.map(<[u8]>::to_vec),
            value: self.value.to_vec(),
            admitted: self.admitted,
            event_time: self.event_time,
            flags: self.flags,
            attrs: AttrBuf { packed: self.attrs.0.to_vec(), count: self.attrs.iter().count() },
            origin: self.origin,
        }
    }
}

/// A record with bytes of its own, for tests, rules that rewrite and tools.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    pub key: Option<Vec<u8>>,
    pub value: Vec<u8>,
    pub admitted: BootTime,
    pub event_time: Option<WallTime>,
    pub flags: Flags,
    pub attrs: AttrBuf,
    pub origin: Option<Origin>,
}

impl Record {
    pub fn as_ref(&self) -> RecordRef<'_> {
        RecordRef {
            key: self.key.as_deref(),
            value: &self.value,
            admitted: self.admitted,
            event_time: self.event_time,
            flags: self.flags,
            attrs: self.attrs.as_attrs(),
            origin: self.origin,
        }
    }
}

/// Attributes packed back to back: `u8` name length, name (UTF-8), `u16` little-endian value length, value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attrs<'a>(&'a [u8]);

/// Packed attributes that do not parse, or are too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed attributes")]
pub struct BadAttrs;

impl<'a> Attrs<'a> {
    /// Checks bytes read from a disk or a peer.
    pub fn parse(packed: &'a [u8]) -> Result<Self, BadAttrs> {
        let mut rest = packed;
        let mut count = 0;
        while !rest.is_empty() {
            let (_, after) = split_one(rest).ok_or(BadAttrs)?;
            rest = after;
            count += 1;
        }
        if count > MAX_ATTRS { Err(BadAttrs) } else { Ok(Self(packed)) }
    }

    /// The packed form, as it is stored.
    pub fn packed(self) -> &'a [u8] {
        self.0
    }

    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(self) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let (pair, after) = split_one(rest)?;
            rest = after;
            Some(pair)
        })
    }

    pub fn get(self, name: &str) -> Option<&'a [u8]> {
        self.iter().find(|(n, _)| *n == name).map(|(_, v)| v)
    }
}

type Pair<'a> = (&'a str, &'a [u8]);

fn split_one(bytes: &[u8]) -> Option<(Pair<'_>, &[u8])> {
    let (&name_len, rest) = bytes.split_first()?;
    let (name, rest) = rest.split_at_checked(name_len as usize)?;
    let (len, rest) = rest.split_first_chunk::<2>()?;
    let (value, rest) = rest.split_at_checked(u16::from_le_bytes(*len) as usize)?;
    Some(((std::str::from_utf8(name).ok()?, value), rest))
}

/// Attributes under construction; cleared and reused from record to record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AttrBuf {
    packed: Vec<u8>,
    count: usize,
}

impl AttrBuf {
    pub fn clear(&mut self) {
        self.packed.clear();
        self.count = 0;
    }

    /// Adds one; false, and nothing added, when the limits (`MAX_ATTRS`, 255 bytes of name, 65,535 of value) are met.
    #[must_use]
    pub fn push(&mut self, name: &str, value: &[u8]) -> bool {
        let (Ok(name_len), Ok(value_len)) = (u8::try_from(name.len()), u16::try_from(value.len())) else {
            return false;
        };
        if self.count == MAX_ATTRS {
            return false;
        }
        self.packed.push(name_len);
        self.packed.extend_from_slice(name.as_bytes());
        self.packed.extend_from_slice(&value_len.to_le_bytes());
        self.packed.extend_from_slice(value);
        self.count += 1;
        true
    }

    pub fn as_attrs(&self) -> Attrs<'_> {
        Attrs(&self.packed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn attributes_come_back_as_they_were_pushed(
            pairs in prop::collection::vec(("[a-z.0-9]{1,20}", prop::collection::vec(any::<u8>(), 0..50)), 0..MAX_ATTRS)
        ) {
            let mut buf = AttrBuf::default();
            for (name, value) in &pairs {
                prop_assert!(buf.push(name, value));
            }
            let parsed = Attrs::parse(buf.as_attrs().packed()).unwrap();
            let back: Vec<_> = parsed.iter().map(|(n, v)| (n.to_owned(), v.to_vec())).collect();
            prop_assert_eq!(back, pairs);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(attrs) = Attrs::parse(&bytes) {
                prop_assert!(attrs.iter().count() <= MAX_ATTRS);
            }
        }
    }

    #[test]
    fn the_seventeenth_attribute_is_refused() {
        let mut buf = AttrBuf::default();
        for _ in 0..MAX_ATTRS {
            assert!(buf.push("a", b"1"));
        }
        assert!(!buf.push("a", b"1"));
    }
}
