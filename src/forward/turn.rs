//! How nodes that send to nodes speak of what has arrived.
//!
//! A node that is an upstream keeps the number of each producer's newest batch, durable with the batch itself (see the
//! endpoint's `producers`). Who sends to it asks for that number when it connects, instead of searching the log, and says with each
//! batch behind which one it comes. A batch that comes out of turn is not taken: nothing has to be waited for that may
//! still land from an older connection, because it cannot.
//!
//! - The upstream tells that it does so by an api key of its own, [`PRODUCERS`], in its answer to ApiVersions; other clients than
//!   nodes are not told.
//! - [`Ask`] and [`Kept`] are that key's request and answer.
//! - The turn travels as the transactional id of a produce request, which an SPU ignores: `headwater-after:` and the number,
//!   or nothing behind the colon for a producer's first batch.
//! - A batch out of turn is answered with error `Other`, [`OUT_OF_TURN`]; the newest one, sent again, with its first offset.
//!
//! Numbers are those of [`super::Marker`]. All integers are big-endian:
//!
//! ```text
//! Ask    topic (i16 length, bytes), partition i32, producer id i64, ring id u128 (or nothing)
//! Kept   status u8 (0 nothing kept, 1 kept, 2 no such partition, 3 not allowed), number u64, base offset i64, records i32, log end i64
//! ```

/// The api key.
pub const PRODUCERS: u16 = 0x4857;
pub const PRODUCERS_VERSION: i16 = 1;
/// The error text of a batch that did not come in turn.
pub const OUT_OF_TURN: &str = "headwater: not the batch that is next";

const AFTER: &str = "headwater-after:";
const KEPT: usize = 1 + 8 + 8 + 4 + 8;

/// Behind which batch of its producer a batch comes; None: it is the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn(pub Option<u64>);

impl Turn {
    pub fn to_text(self) -> String {
        self.0.map_or_else(|| AFTER.to_owned(), |number| format!("{AFTER}{number}"))
    }

    pub fn of_text(text: &str) -> Option<Self> {
        match text.strip_prefix(AFTER)? {
            "" => Some(Self(None)),
            number => number.parse().ok().map(|number| Self(Some(number))),
        }
    }
}

/// The newest batch of a producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Newest {
    pub number: u64,
    pub base: i64,
    pub count: u32,
}

/// What a partition has of one producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask<'a> {
    pub topic: &'a str,
    pub partition: u32,
    pub producer_id: i64,
    /// The ring that the producer's records come from.
    pub ring: Option<u128>,
}

impl<'a> Ask<'a> {
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&(self.topic.len() as i16).to_be_bytes());
        out.extend_from_slice(self.topic.as_bytes());
        out.extend_from_slice(&self.partition.to_be_bytes());
        out.extend_from_slice(&self.producer_id.to_be_bytes());
        out.extend(self.ring.iter().flat_map(|ring| ring.to_be_bytes()));
    }

    pub fn read(bytes: &'a [u8]) -> Option<Self> {
        let (len, rest) = bytes.split_first_chunk()?;
        let (topic, rest) = rest.split_at_checked(usize::try_from(i16::from_be_bytes(*len)).ok()?)?;
        let (partition, rest) = rest.split_first_chunk()?;
        let (producer_id, ring) = rest.split_first_chunk()?;
        Some(Self {
            topic: std::str::from_utf8(topic).ok()?,
            partition: u32::from_be_bytes(*partition),
            producer_id: i64::from_be_bytes(*producer_id),
            ring: if ring.is_empty() { None } else { Some(u128::from_be_bytes(ring.try_into().ok()?)) },
        })
    }
}

/// The answer to [`Ask`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// Durable, and where the partition ends. None: nothing is kept of the producer, whatever the log has.
    Has {
        newest: Option<Newest>,
        log_end: i64,
    },
    NoPartition,
    NotAllowed,
}

impl Kept {
    pub fn write(&self, out: &mut Vec<u8>) {
        let (status, newest, log_end) = match *self {
            Self::Has { newest, log_end } => (u8::from(newest.is_some()), newest, log_end),
            Self::NoPartition => (2, None, 0),
            Self::NotAllowed => (3, None, 0),
        };
        let newest = newest.unwrap_or(Newest { number: 0, base: 0, count: 0 });
        out.push(status);
        out.extend_from_slice(&newest.number.to_be_bytes());
        out.extend_from_slice(&newest.base.to_be_bytes());
        out.extend_from_slice(&newest.count.to_be_bytes());
        out.extend_from_slice(&log_end.to_be_bytes());
    }

    pub fn read(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; KEPT] = bytes.try_into().ok()?;
        let (status, rest) = bytes.split_first()?;
        let (number, rest) = rest.split_first_chunk()?;
        let (base, rest) = rest.split_first_chunk()?;
        let (count, log_end) = rest.split_first_chunk()?;
        let newest = Newest {
            number: u64::from_be_bytes(*number),
            base: i64::from_be_bytes(*base),
            count: u32::from_be_bytes(*count),
        };
        let log_end = i64::from_be_bytes(log_end.try_into().ok()?);
        Some(match status {
            0 => Self::Has { newest: None, log_end },
            1 => Self::Has { newest: Some(newest), log_end },
            2 => Self::NoPartition,
            3 => Self::NotAllowed,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn newest() -> impl Strategy<Value = Newest> {
        (any::<u64>(), any::<i64>(), any::<u32>()).prop_map(|(number, base, count)| Newest { number, base, count })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            topic in "[a-z0-9-]{0,63}", partition: u32, producer_id: i64, newest in prop::option::of(newest()), log_end: i64,
            after: Option<u64>, ring: Option<u128>,
        ) {
            let (mut asked, mut kept) = (Vec::new(), Vec::new());
            let ask = Ask { topic: &topic, partition, producer_id, ring };
            ask.write(&mut asked);
            prop_assert_eq!(Ask::read(&asked), Some(ask));
            for answer in [Kept::Has { newest, log_end }, Kept::NoPartition, Kept::NotAllowed] {
                kept.clear();
                answer.write(&mut kept);
                prop_assert_eq!(Kept::read(&kept), Some(answer));
            }
            prop_assert_eq!(Turn::of_text(&Turn(after).to_text()), Some(Turn(after)));
        }

        #[test]
        fn bytes_of_no_meaning_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..80), text in ".{0,30}") {
            let _ = (Ask::read(&bytes), Kept::read(&bytes));
            prop_assert!(Turn::of_text(&text).is_none() || text.starts_with(AFTER));
        }
    }
}
