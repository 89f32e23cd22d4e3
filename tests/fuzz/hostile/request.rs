//! Requests as a client may send them to the endpoint: honest ones of every kind, which must be read as they were meant; bent
//! ones; and frames of whatever bytes. What must hold: none panics, and none holds more memory than a few times its bytes.

use std::sync::OnceLock;
use std::time::Duration;

use headwater::codec::Reader;
use headwater::endpoint::keys::{self, sc};
use headwater::endpoint::request::{
    ConsumerFilter, CreateTopic, Fetch, FetchOffsets, FetchPart, List, Produce, StreamFetch, read_delete,
    read_delete_consumer, read_fetch_consumers, read_object, read_update_consumer, read_update_offsets,
    version_is_read,
};
use headwater::endpoint::wire::{Budget, SMALL_FRAME, read_frame};
use headwater::forward::turn::{Ask, Kept, PRODUCERS, Turn};
use headwater::limits::{MAX_PARTITIONS, MAX_TOPICS};

use super::{Input, bend, held};

/// What a request takes decoded is at most so many times its bytes: a string of none takes two on the wire and 16 here.
const TIMES: usize = 8;
/// And of one that may be large, in all: a list of every partition that a node can have.
const LARGE: usize = MAX_TOPICS * (40 + MAX_PARTITIONS * 24);

pub fn request(data: &[u8]) {
    let mut input = Input(data);
    let mode = input.byte();
    if mode & 3 == 0 {
        return frames(input.0);
    }
    let mut body = Vec::new();
    let honest = make(&mut body, &mut input);
    honest(&body);
    if bend(&mut body, &mut input) {
        all(&body);
    }
}

/// What the endpoint does with bytes on a connection, up to the first that it closes the connection for.
fn frames(bytes: &[u8]) {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_time().build().expect("a runtime")
    });
    let budget = Budget::of_requests();
    let mut stream = bytes;
    loop {
        let before = stream.len();
        let taking = || runtime.block_on(read_frame(&mut stream, &budget, Duration::MAX));
        // A vector that grows, twice over, and what the runtime needs for a timer.
        let Ok(Some(frame)) = held::within(4 * before + 4096, "taking a frame", taking) else { break };
        assert!(stream.len() < before, "a frame of no bytes");
        let (key, version) = (frame.header.key, frame.header.version);
        for port in [true, false] {
            if version_is_read(port, key, version) {
                decode(port, key, version, frame.body());
            }
        }
        if frame.oversize {
            let _ = Produce::read_beginning(frame.body());
        }
    }
}

/// As the port does with a request of this key.
fn decode(sc: bool, key: u16, version: i16, body: &[u8]) {
    let bounded = |what, work: &dyn Fn()| held::within(bound(body.len()), what, work);
    match (sc, key) {
        (true, sc::LIST) => bounded("a list", &|| {
            let _ = read_object(body).map(|(_, inner)| List::read(inner));
        }),
        (true, sc::CREATE) => bounded("a create", &|| {
            let _ =
                read_object(body).map(|(_, inner)| (Reader::new(inner).str("name").is_ok(), CreateTopic::read(inner)));
        }),
        (true, sc::DELETE) => bounded("a delete", &|| {
            let _ = read_object(body).map(|(_, inner)| read_delete(inner));
        }),
        (true, _) => {
            let _ = read_object(body);
        }
        (false, keys::PRODUCE) => {
            bounded("a produce", &|| drop(Produce::read(body)));
            bounded("the beginning of a produce", &|| {
                let _ = Produce::read_beginning(body);
            });
        }
        (false, keys::FETCH) => bounded("a fetch", &|| drop(Fetch::read(body))),
        (false, keys::FETCH_OFFSETS) => bounded("a fetch of offsets", &|| drop(FetchOffsets::read(body, version))),
        (false, keys::STREAM_FETCH) => bounded("a stream", &|| drop(StreamFetch::read(body, version))),
        (false, keys::UPDATE_OFFSETS) => bounded("an update", &|| drop(read_update_offsets(body))),
        (false, keys::UPDATE_CONSUMER_OFFSET) => drop(read_update_consumer(body)),
        (false, keys::DELETE_CONSUMER_OFFSET) => drop(read_delete_consumer(body)),
        (false, keys::FETCH_CONSUMER_OFFSETS) => drop(read_fetch_consumers(body, version)),
        (false, PRODUCERS) => turns(body),
        (false, _) => {}
    }
}

fn bound(len: usize) -> usize {
    (TIMES * len).min(LARGE.max(TIMES * SMALL_FRAME))
}

/// Every decoder on the same bytes, in every version that reads them in a way of its own.
fn all(body: &[u8]) {
    for key in [sc::LIST, sc::CREATE, sc::DELETE, sc::WATCH, sc::UPDATE] {
        decode(true, key, keys::SC_VERSION, body);
    }
    let spu = [keys::PRODUCE, keys::FETCH, keys::FETCH_OFFSETS, keys::STREAM_FETCH, keys::UPDATE_OFFSETS];
    let consumers =
        [keys::UPDATE_CONSUMER_OFFSET, keys::DELETE_CONSUMER_OFFSET, keys::FETCH_CONSUMER_OFFSETS, PRODUCERS];
    for key in spu.into_iter().chain(consumers) {
        for version in [18, 22, 23, 24, 25] {
            decode(false, key, version, body);
        }
    }
    let _ = (CreateTopic::read(body), read_delete(body));
    held::within(bound(body.len()), "a list", || drop(List::read(body)));
}

/// What nodes say to each other: what is read is what was written.
fn turns(body: &[u8]) {
    let mut again = Vec::new();
    if let Some(ask) = Ask::read(body) {
        ask.write(&mut again);
        assert_eq!(again, body, "a question is another when it is written again");
    }
    again.clear();
    if let Some(kept) = Kept::read(body) {
        kept.write(&mut again);
        assert_eq!(Kept::read(&again), Some(kept));
    }
    if let Some(turn) = std::str::from_utf8(body).ok().and_then(Turn::of_text) {
        assert_eq!(Turn::of_text(&turn.to_text()), Some(turn));
    }
}

// ------------------------------------------------------------------------------------------------ honest ones

type Check = Box<dyn Fn(&[u8])>;

fn string(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as i16).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn i32s(out: &mut Vec<u8>, values: &[i32]) {
    values.iter().for_each(|value| out.extend_from_slice(&value.to_be_bytes()));
}

fn optional(out: &mut Vec<u8>, text: Option<&str>) {
    out.push(u8::from(text.is_some()));
    text.into_iter().for_each(|text| string(out, text));
}

/// Writes a request; gives what must be read from it.
fn make(out: &mut Vec<u8>, input: &mut Input<'_>) -> Check {
    match input.below(8) {
        0 => produce(out, input),
        1 => fetch(out, input),
        2 => offsets(out, input),
        3 => stream(out, input),
        4 => updates(out, input),
        5 => consumers(out, input),
        6 => objects(out, input),
        _ => between_nodes(out, input),
    }
}

/// A partition, and what is sent to it.
type Part = (u32, Vec<u8>);

fn topics(input: &mut Input<'_>) -> Vec<(String, Vec<Part>)> {
    let topic = |input: &mut Input<'_>| {
        let name = input.word();
        let parts = input.below(4);
        (name, (0..parts).map(|_| (u32::from(input.byte()), input.some(40).to_vec())).collect())
    };
    (0..input.below(4)).map(|_| topic(input)).collect()
}

fn produce(out: &mut Vec<u8>, input: &mut Input<'_>) -> Check {
    let turn = input.flag().then(|| Turn(input.flag().then(|| input.number() as u64)));
    let (smartmodules, topics) = (input.flag(), topics(input));
    optional(out, turn.map(Turn::to_text).as_deref());
    out.extend_from_slice(&1_i16.to_be_bytes());
    i32s(out, &[1500, topics.len() as i32]);
    for (name, parts) in &topics {
        string(out, name);
        i32s(out, &[parts.len() as i32]);
        for (partition, records) in parts {
            i32s(out, &[*partition as i32, records.len() as i32]);
            out.extend_from_slice(records);
        }
    }
    i32s(out, &[smartmodules.into()]);
    Box::new(move |body| {
        let read = Produce::read(body).expect("a produce");
        assert_eq!((read.turn, read.smartmodules, read.topics.len()), (turn, smartmodules, topics.len()));
        for ((name, parts), (read_name, read_parts)) in topics.iter().zip(&read.topics) {
            assert_eq!((name.as_str(), parts.len()), (*read_name, read_parts.len()));
            for ((partition, records), read) in parts.iter().zip(read_parts) {
                let mut set = read.records;
                let bytes = set.bytes(set.remaining(), "all").expect("what remains");
                assert_eq!((*partition, records.as_slice()), (read.partition, bytes));
            }
        }
        if let Some((name, parts)) = topics.first()
            && let Some((partition, _)) = parts.first()
        {
            assert_eq!(Produce::read_beginning(body), Ok((name.as_str(), *partition)));
        }
    })
}

fn fetch(out: &mut Vec<u8>, input: &mut Input<'_>) -> Check {
    let (max_bytes, offset, topics) = (input.number() as i32, input.number(), topics(input));
    i32s(out, &[500, 1, max_bytes]);
    out.push(0);
    i32s(out, &[topics.len() as i32]);
    for (name, parts) in &topics {
        string(out, name);
        i32s(out, &[parts.len() as i32]);
        for (partition, _) in parts {
            i32s(out, &[*partition as i32, -1]);
            out.extend_from_slice(&offset.to_be_bytes());
            out.extend_from_slice(&(-1_i64).to_be_bytes());
            i32s(out, &[max_bytes]);
        }
    }
    i32s(out, &[1]);
    string(out, "forgotten");
    i32s(out, &[2, 0, 1]);
    Box::new(move |body| {
        let part = |(partition, _): &Part| FetchPart { partition: *partition, offset };
        let expected = topics.iter().map(|(name, parts)| (name.as_str(), parts.iter().map(part).collect()));
        assert_eq!(Fetch::read(body), Ok(Fetch { max_bytes, topics: expected.collect() }));
    })
}

fn offsets(out: &mut Vec<u8>, input: &mut Input<'_>) -> Check {
    let (version, topics) = (if input.flag() { 23 } else { 25 }, topics(input));
    i32s(out, &[topics.len() as i32]);
    for (name, parts) in &topics {
        string(out, name);
        i32s(out, &[parts.len() as i32]);
        parts.iter().for_each(|(partition, _)| i32s(out, &[*partition as i32]));
    }
    if version == 23 {
        optional(out, Some("consumer"));
    }
    Box::new(move |body| {
        let parts = |parts: &[Part]| parts.iter().map(|(partition, _)| *partition).collect();
        let expected = topics.iter().map(|(name, of)| (name.as_str(), parts(of)));
        assert_eq!(FetchOffsets::read(body, version), Ok(FetchOffsets { topics: expected.collect() }));
    })
}

fn stream(out: &mut Vec<u8>, input: &mut Input<'_>) -> Check {
    let version = [18, 22, 23, 25][usize::from(input.below(4))];
    let (topic, partition, offset) = (input.word(), u32::from(input.byte()), input.number());
    let (max_bytes, smartmodules, consumer) = (input.number() as i32, input.flag(), input.word());
    string(out, &topic);
    i32s(out, &[partition as i32]);
    out.extend_from_slice(&offset.to_be_bytes());
    i32s(out, &[max_bytes]);
    out.push(1);
    if version == 18 {
        i32s(out, &[0]);
        out.extend_from_slice(&[0, 0]);
    }
    i32s(out, &[smartmodules.into()]);
    let consumer = (version >= 23 && !smartmodules).then_some(consumer);
    if version >= 23 {
        optional(out, consumer.as_deref());
    }
    Box::new(move |body| {
        let (topic, consumer) = (topic.as_str(), consumer.as_deref());
        let expected = StreamFetch { topic, partition, offset, max_bytes, smartmodules, consumer };
        assert_eq!(StreamFetch::read(body, version), Ok(expected));
    })
}

fn updates(out: &mut Vec<u8>, input: &mut Input<'_>) -> Check {
    let updates: Vec<_> = (0..input.below(6)).map(|_| (input.number(), u32::from(input.byte()))).collect();
    let put = |out: &mut Vec<u8>, (offset, session): (i64, u32)| {
        out.extend_from_slice(&offset.to_be_bytes());
        out.extend_from_slice(&session.to_be_bytes());
    };
    if let [update] = updates[..] {
        put(out, update);
        return Box::new(move |body| assert_eq!(read_update_consumer(body), Ok(update)));
    }
    i32s(out, &[updates.len() as i32]);
    updates.iter().for_each(|update| put(out, *update));
    Box::new(move |body| assert_eq!(read_update_offsets(body).as_ref(), Ok(&updates)))
}

fn consumers(out: &mut Vec<u8>, input: &mut Input<'_>) -> Check {
    let (topic, partition, consumer) = (input.word(), u32::from(input.byte()), input.word());
    if input.flag() {
        string(out, &topic);
        i32s(out, &[partition as i32]);
        string(out, &consumer);
        return Box::new(move |body| {
            let expected =
                ConsumerFilter { part: Some((topic.as_str(), partition)), consumer: Some(consumer.as_str()) };
            assert_eq!(read_delete_consumer(body), Ok(expected));
        });
    }
    let (by_part, by_consumer) = (input.flag(), input.flag());
    out.extend_from_slice(&[1, by_part.into()]);
    if by_part {
        string(out, &topic);
        i32s(out, &[partition as i32]);
    }
    optional(out, by_consumer.then_some(consumer.as_str()));
    Box::new(move |body| {
        let (topic, consumer) = (topic.as_str(), consumer.as_str());
        let (part, consumer) = (by_part.then_some((topic, partition)), by_consumer.then_some(consumer));
        assert_eq!(read_fetch_consumers(body, 25), Ok(ConsumerFilter { part, consumer }));
    })
}

fn objects(out: &mut Vec<u8>, input: &mut Input<'_>) -> Check {
    let (name, force, names) = (input.word(), input.flag(), input.below(4));
    let names: Vec<_> = (0..names).map(|_| input.word()).collect();
    let (kind, partitions, mut inner) = (input.below(3), input.number() as u32, Vec::new());
    match kind {
        0 => {
            string(&mut inner, &name);
            // No time, computed, one replica, no racks; no policy, no sizes; any compression; deduplication.
            inner.extend_from_slice(&[force.into(), 0, 1]);
            i32s(&mut inner, &[partitions as i32, 1]);
            inner.extend_from_slice(&[0, 0, 0, 0, 1]);
        }
        1 => {
            string(&mut inner, &name);
            inner.push(force.into());
        }
        _ => {
            i32s(&mut inner, &[names.len() as i32]);
            names.iter().for_each(|name| string(&mut inner, name));
            inner.extend_from_slice(&[0, force.into()]);
        }
    }
    string(out, "Topic");
    i32s(out, &[inner.len() as i32]);
    out.extend_from_slice(&inner);
    Box::new(move |body| {
        let (label, inner) = read_object(body).expect("an object");
        assert_eq!(label, "Topic");
        let name = name.as_str();
        match kind {
            0 => {
                let computed = Some((partitions, 1));
                let expected = CreateTopic { name, dry_run: force, computed, deduplication: true, retention: false };
                assert_eq!(CreateTopic::read(inner), Ok(expected));
            }
            1 => assert_eq!(read_delete(inner), Ok((name, force))),
            _ => {
                let names = names.iter().map(String::as_str).collect();
                assert_eq!(List::read(inner), Ok(List { names, system: force }));
            }
        }
    })
}

fn between_nodes(out: &mut Vec<u8>, input: &mut Input<'_>) -> Check {
    match input.below(3) {
        0 => {
            let (topic, partition, producer_id) = (input.word(), u32::from(input.byte()), input.number());
            let ring = (input.below(2) == 1).then(|| input.number() as u128);
            Ask { topic: &topic, partition, producer_id, ring }.write(out);
            Box::new(move |body| {
                assert_eq!(Ask::read(body), Some(Ask { topic: &topic, partition, producer_id, ring }));
                turns(body);
            })
        }
        1 => {
            // Any status, of which four are known.
            out.push(input.byte() % 5);
            out.extend_from_slice(&input.number().to_be_bytes());
            out.extend_from_slice(&input.number().to_be_bytes());
            out.extend_from_slice(&(input.number() as i32).to_be_bytes());
            out.extend_from_slice(&input.number().to_be_bytes());
            Box::new(|body| {
                assert_eq!(Kept::read(body).is_some(), body[0] < 4);
                turns(body);
            })
        }
        _ => {
            let turn = Turn(input.flag().then(|| input.number() as u64));
            out.extend_from_slice(turn.to_text().as_bytes());
            Box::new(move |body| {
                assert_eq!(std::str::from_utf8(body).ok().and_then(Turn::of_text), Some(turn));
                turns(body);
            })
        }
    }
}

/// Frames of the largest size, made of nothing but the smallest items of a list: what takes the most memory for its bytes.
pub fn crowds() {
    for (key, port, body) in crowded() {
        decode(port, key, 25, &body);
    }
}

fn crowded() -> Vec<(u16, bool, Vec<u8>)> {
    use headwater::limits::MAX_WIRE_FRAME;
    let list = |head: &[u8], items: usize, item: &[u8]| {
        let mut out = head.to_vec();
        i32s(&mut out, &[items as i32]);
        out.extend_from_slice(&item.repeat(items));
        out
    };
    // Topics without a name and without partitions.
    let produce_head = [0, 0, 1, 0, 0, 0, 0];
    let mut many_parts = list(&produce_head, 1, &[0, 0]);
    many_parts = list(&many_parts, MAX_WIRE_FRAME / 8 - 8, &[0; 8]);
    let mut many_names = vec![0; 0];
    string(&mut many_names, "Topic");
    let names = list(&[], SMALL_FRAME / 2 - 16, &[0, 0]);
    i32s(&mut many_names, &[names.len() as i32 + 2]);
    many_names.extend_from_slice(&names);
    many_names.extend_from_slice(&[0, 0]);
    vec![
        (keys::PRODUCE, false, list(&produce_head, MAX_WIRE_FRAME / 6 - 8, &[0; 6])),
        (keys::PRODUCE, false, many_parts),
        (keys::FETCH, false, list(&[0; 13], SMALL_FRAME / 6 - 8, &[0; 6])),
        (keys::FETCH_OFFSETS, false, list(&[], SMALL_FRAME / 6 - 8, &[0; 6])),
        (keys::UPDATE_OFFSETS, false, list(&[], SMALL_FRAME / 12 - 8, &[0; 12])),
        (sc::LIST, true, many_names),
    ]
}
