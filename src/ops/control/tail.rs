//! `tail`: a topic's records as they are, or as they become durable.

use std::collections::BTreeMap;
use std::io;

use tokio::io::AsyncWriteExt;

use super::Conn;
use super::protocol::{Answer, Blob, From, Sender, Tail, TailRecord, encode_into};
use crate::forward::Marker;
use crate::hub::{PartStep, Producer, Store};
use crate::ops::Ops;
use crate::record::Flags;
use crate::ring::{Entry, Frame, TopicInfo};
use crate::topic::{self, TopicName, TopicPart};

/// Bytes of answers gathered before they are written.
const WRITE_AT: usize = 64 * 1024;

pub(super) async fn tail(conn: &mut Conn, ops: &Ops, ask: &Tail) -> io::Result<()> {
    let store = &ops.store;
    let (found, from) = match store.topic(&ask.topic) {
        Some(found) => (found, ask.from),
        None => match absent(store, ask) {
            Err(why) => return conn.answer(&Answer::Failed(why)).await,
            Ok(note) => {
                conn.answer(&Answer::Note(note)).await?;
                match appears(conn, store, &ask.topic).await? {
                    // All of its records came after the question.
                    Some(found) => (found, From::Beginning),
                    None => return Ok(()),
                }
            }
        },
    };
    let Some(place) = found.partitions.get(usize::from(ask.partition)) else {
        let why = format!("topic `{}` has partitions 0 to {}", ask.topic, found.partitions.len().saturating_sub(1));
        return conn.answer(&Answer::Failed(why)).await;
    };
    let mut offset = match from {
        From::Beginning => place.earliest,
        From::Last(n) => place.durable_end.saturating_sub(n).max(place.earliest),
        From::End => place.durable_end,
    };
    let part = TopicPart { topic: found.id, partition: ask.partition };
    let mut left = ask.count.unwrap_or(u64::MAX);
    while left > 0 {
        match store.read(part, offset).await {
            PartStep::Frame(frame) => {
                let (next, count) = write_frame(conn, store, &frame, (&ask.topic, part), offset, left).await?;
                left -= count;
                offset = next.max(offset + 1);
            }
            PartStep::Gone { resume } => {
                conn.answer(&Answer::Gone { from: offset, to: resume }).await?;
                offset = resume.max(offset + 1);
            }
            PartStep::End if !ask.follow => break,
            PartStep::End => tokio::select! {
                () = store.wait_beyond(part, offset) => {
                    if store.topic(&ask.topic).is_none_or(|topic| topic.id != part.topic) {
                        let why = format!("topic `{}` was removed", ask.topic);
                        return conn.answer(&Answer::Failed(why)).await;
                    }
                }
                _ = conn.lines.next() => return Ok(()), // the client is gone, or talks out of turn
                () = store.stopping() => {
                    return conn.answer(&Answer::Failed("the node is shutting down".into())).await;
                }
            },
        }
    }
    conn.answer(&Answer::Done(String::new())).await
}

/// What to say of a topic that is not there. Err: it will not come either, or is not waited for.
fn absent(store: &Store, ask: &Tail) -> Result<String, String> {
    let name = TopicName::new(&ask.topic).map_err(|error| error.to_string())?;
    let known = topic::known(store.topics().iter().map(|t| &t.name), &ask.topic);
    if name.is_reserved() && !topic::OWN_TOPICS.contains(&name.as_str()) {
        let own = topic::OWN_TOPICS.join(", ");
        return Err(format!("no topic `{name}`; a node's own are {own}"));
    }
    if !ask.follow {
        return Err(format!("no topic `{name}` (there are: {known}); a topic begins with its first record"));
    }
    Ok(format!("no topic `{name}` yet (there are: {known}); waiting for its first record"))
}

/// Waits for a topic; None: nobody waits any more.
async fn appears(conn: &mut Conn, store: &Store, name: &str) -> io::Result<Option<TopicInfo>> {
    let mut generation = store.topics_generation();
    loop {
        if let Some(found) = store.topic(name) {
            return Ok(Some(found));
        }
        tokio::select! {
            now = store.topics_changed(generation) => generation = now,
            _ = conn.lines.next() => return Ok(None), // the client is gone, or talks out of turn
            () = store.stopping() => {
                conn.answer(&Answer::Failed("the node is shutting down".into())).await?;
                return Ok(None);
            }
        }
    }
}

/// Writes the frame's records; gives the next offset and how many there were.
async fn write_frame(
    conn: &mut Conn,
    store: &Store,
    frame: &Frame,
    (topic, part): (&str, TopicPart),
    offset: u64,
    most: u64,
) -> io::Result<(u64, u64)> {
    let clock = store.clock(frame.boot());
    let (mut out, mut next, mut count) = (Vec::new(), offset, 0);
    for entry in frame.entries_of(part, offset) {
        if count == most {
            break;
        }
        let wall = clock.map(|clock| clock.wall(entry.record.admitted).0);
        let mut record = tail_record(&entry, wall, clock.is_some_and(|c| c.trusted));
        if let Some(sender) = &mut record.origin {
            let kept = Producer::of(store, topic, part.partition, sender.producer_id);
            sender.ring = kept.and_then(|kept| kept.ring).map(|ring| format!("{ring:032x}"));
        }
        encode_into(&mut out, &Answer::Record(record));
        (next, count) = (entry.offset + 1, count + 1);
        if out.len() >= WRITE_AT {
            conn.out.write_all(&out).await?;
            out.clear();
        }
    }
    conn.out.write_all(&out).await?;
    // A frame of small records may hold thousands: the loop's other tasks get their turn.
    tokio::task::yield_now().await;
    Ok((next, count))
}

/// A record as `tail` shows it; whose ring it came from is not known here.
pub fn tail_record(entry: &Entry<'_>, wall: Option<i64>, clock_trusted: bool) -> TailRecord {
    let record = &entry.record;
    let attrs: BTreeMap<_, _> = record.attrs.iter().map(|(name, value)| (name.to_owned(), Blob::of(value))).collect();
    TailRecord {
        partition: entry.part.partition,
        offset: entry.offset,
        time_us: wall,
        clock_trusted: clock_trusted && !record.flags.has(Flags::CLOCK_UNTRUSTED),
        event_time_us: record.event_time.map(|t| t.0),
        key: record.key.map(Blob::of),
        value: Blob::of(record.value),
        flags: record.flags.names().map(str::to_owned).collect(),
        attrs,
        origin: record.origin.map(|origin| Sender {
            ring: None,
            producer_id: origin.producer_id,
            seq: Marker::of_origin(origin).number,
        }),
    }
}
