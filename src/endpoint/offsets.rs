//! Consumer offsets: how far a named consumer has come in a partition, kept as state entries of the endpoint.
//!
//! Key: `o`, topic id (u16), partition (u8), the consumer's name. Value: offset (i64), then the wall time of the
//! change in seconds (u64). All little-endian. The ring bounds them: 64 KiB and 4,096 entries for the endpoint.

use fluvio_protocol::link::ErrorCode;
use fluvio_spu_schema::server::consumer_offset::ConsumerOffset;

use super::request::ConsumerFilter;
use crate::hub::{Kept, Store};
use crate::ring::Ticket;
use crate::topic::{TopicId, TopicPart};

const TAG: u8 = b'o';
/// Bytes of a consumer's name.
const MAX_CONSUMER: usize = 255;

fn key(part: TopicPart, consumer: &str) -> Vec<u8> {
    let mut key = vec![TAG];
    key.extend_from_slice(&part.topic.0.to_le_bytes());
    key.push(part.partition);
    key.extend_from_slice(consumer.as_bytes());
    key
}

fn split_key(key: &[u8]) -> Option<(TopicPart, &str)> {
    let (&[TAG, low, high, partition], consumer) = key.split_first_chunk::<4>()? else { return None };
    let part = TopicPart { topic: TopicId(u16::from_le_bytes([low, high])), partition };
    Some((part, std::str::from_utf8(consumer).ok()?))
}

fn value(offset: i64, seconds: u64) -> [u8; 16] {
    let mut value = [0; 16];
    value[..8].copy_from_slice(&offset.to_le_bytes());
    value[8..].copy_from_slice(&seconds.to_le_bytes());
    value
}

fn split_value(value: &[u8]) -> Option<(i64, u64)> {
    let (offset, seconds) = value.split_first_chunk::<8>()?;
    Some((i64::from_le_bytes(*offset), u64::from_le_bytes(seconds.try_into().ok()?)))
}

/// Why a consumer cannot have this name. Asked when its stream begins, which holds the name for as long as it lives.
pub fn refusal(consumer: &str) -> Option<ErrorCode> {
    (consumer.len() > MAX_CONSUMER)
        .then(|| ErrorCode::Other(format!("a consumer's name has at most {MAX_CONSUMER} bytes")))
}

/// Stores an offset; durable when the ticket is settled.
pub fn put(store: &Store, part: TopicPart, consumer: &str, offset: i64) -> Result<Ticket, ErrorCode> {
    let seconds = u64::try_from(store.now().wall.0 / 1_000_000).unwrap_or(0);
    store.put_state(Kept::Consumers, &key(part, consumer), Some(&value(offset, seconds))).ok_or_else(|| {
        ErrorCode::Other("the node keeps no more consumer offsets: delete those of consumers that are gone".into())
    })
}

pub fn delete(store: &Store, filter: &ConsumerFilter<'_>) -> Result<Option<Ticket>, ErrorCode> {
    let Some((part, consumer)) = filter.part.and_then(|(t, p)| find(store, t, p)).zip(filter.consumer) else {
        return Err(ErrorCode::TopicNotFound);
    };
    Ok(store.put_state(Kept::Consumers, &key(part, consumer), None))
}

/// The offsets that pass the filter, of topics that exist.
pub fn list(store: &Store, filter: &ConsumerFilter<'_>) -> Vec<ConsumerOffset> {
    let topics = store.topics();
    let mut out = Vec::new();
    for (key, value) in store.states(Kept::Consumers) {
        let Some(((part, consumer), (offset, seconds))) = split_key(&key).zip(split_value(&value)) else { continue };
        let Some(topic) = topics.iter().find(|t| t.id == part.topic) else { continue };
        let asked = (topic.name.as_str(), u32::from(part.partition));
        if filter.part.is_none_or(|p| p == asked) && filter.consumer.is_none_or(|c| c == consumer) {
            out.push(ConsumerOffset::new(consumer, asked, offset, seconds));
        }
    }
    out
}

/// Removes what a topic's consumers left.
pub fn forget_topic(store: &Store, topic: TopicId) {
    for (key, _) in store.states(Kept::Consumers) {
        if split_key(&key).is_some_and(|(part, _)| part.topic == topic) {
            store.put_state(Kept::Consumers, &key, None);
        }
    }
}

/// A partition by name.
pub fn find(store: &Store, topic: &str, partition: u32) -> Option<TopicPart> {
    let info = store.topic(topic)?;
    let number = u8::try_from(partition).ok()?;
    (usize::from(number) < info.partitions.len()).then_some(TopicPart { topic: info.id, partition: number })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn keys_and_values_come_back(
            topic in any::<u16>(), partition in any::<u8>(), consumer in "[a-z0-9]{0,40}", offset in any::<i64>(), s in any::<u64>()
        ) {
            let part = TopicPart { topic: TopicId(topic), partition };
            let key = key(part, &consumer);
            prop_assert_eq!(split_key(&key), Some((part, consumer.as_str())));
            prop_assert_eq!(split_value(&value(offset, s)), Some((offset, s)));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = (split_key(&bytes), split_value(&bytes));
        }
    }
}
