//! Answers as an upstream may send them to a sink: those of a real SPU's shape, with batches of any numbers in them, bent, and
//! whatever bytes. What must hold: none panics, none makes the node hold more than its bound.

use headwater::codec::batch::{self, HEADER, Served};
use headwater::record::RecordRef;
use headwater::sinks::fluvio::answers::{
    SC_VERSION, batch_len, parse_header, read, read_api_versions, read_fetched, read_header, read_offsets,
    read_produced, read_producer, reject, whole_batches,
};
use headwater::sinks::fluvio::contents;

use super::{Input, bend, held};

const TOPIC: &str = "t1";
/// What an answer takes decoded, in times of its bytes: the official types, strings and vectors of vectors that grow.
const TIMES: usize = 64;
/// What comparing takes: what a slice may unpack to, growing, and the largest buffers of a codec.
const COMPARING: usize = 32 * 1024 * 1024;

pub fn answer(data: &[u8]) {
    let mut input = Input(data);
    let mode = input.byte();
    let (at, from) = (input.number(), input.number());
    let to = from.saturating_add(i64::from(input.byte()));
    if mode & 3 == 0 {
        return all(input.0, at, from..to);
    }
    if mode & 3 == 1 {
        let mut body = small(&mut input);
        all(&body, at, from..to);
        bend(&mut body, &mut input);
        return all(&body, at, from..to);
    }
    let log = log(&mut input);
    compare(&log, from..to);
    let mut body = fetched(&log);
    let came = read_fetched(&body, TOPIC, 0, at);
    assert!(matches!(came, Ok(Ok(bytes)) if bytes == log), "a slice is read as it came: {came:?}");
    if bend(&mut body, &mut input) {
        all(&body, at, from..to);
    }
}

/// Every reader of answers on the same bytes.
fn all(body: &[u8], at: i64, range: std::ops::Range<i64>) {
    held::within(TIMES * (body.len() + 64), "an answer", || {
        drop(read_header(body, TOPIC, 0, at));
        drop(read_api_versions(body));
        // The one number of an SC's lists that an official decoder may come to grief with.
        drop(read::<Option<std::time::Duration>>(body, SC_VERSION));
        if let Ok(Ok(base)) = read_produced(body, TOPIC, 0) {
            counts_on(base);
        }
        if let Ok(Ok((start, end))) = read_offsets(body, TOPIC, 0) {
            counts_on(start);
            counts_on(end);
        }
        if let Ok(Ok((newest, log_end))) = read_producer(body) {
            newest.into_iter().for_each(|newest| counts_on(newest.base));
            counts_on(log_end);
        }
        if let Ok(Err(code)) = read_fetched(body, TOPIC, 0, at) {
            let _ = reject(&code);
        }
    });
    if let Ok(Ok(slice)) = read_fetched(body, TOPIC, 0, at) {
        compare(slice, range.clone());
    }
    compare(body, range);
}

/// A number that `forward` may add to and take from.
fn counts_on(offset: i64) {
    let room = 1 << 33;
    assert!(offset.checked_add(room).and(offset.checked_sub(room)).is_some(), "offset {offset}");
}

/// What is done with a slice of the log.
fn compare(slice: &[u8], range: std::ops::Range<i64>) {
    if let Some(header) = parse_header(slice) {
        assert!(header.base >= 0 && header.end() > header.base && header.end() < i64::MAX, "{header:?}");
    }
    let mut used = 0;
    let cut = whole_batches(slice, &mut |header, bytes| {
        assert_eq!((parse_header(bytes), batch_len(bytes)), (Some(header), Some(bytes.len())));
        used += bytes.len();
    });
    assert!(used <= slice.len() && cut.is_none_or(|len| used + len > slice.len()));
    for envelope in [false, true] {
        let found = held::within(COMPARING, "comparing", || contents::read(slice, range.start, range.end, envelope));
        let Some(found) = found else { continue };
        let asked = range.end.saturating_sub(range.start).max(0);
        assert_eq!(found.len() as i64, asked, "other records than were asked for");
    }
}

/// Batches as a node serves them, and some that are forged under right checksums.
fn log(input: &mut Input<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    let mut next = input.number().max(0) as u64;
    for _ in 0..input.below(4) {
        let values: Vec<_> = (0..1 + input.below(3)).map(|_| input.some(24)).collect();
        let records = values.iter().enumerate().map(|(i, value)| Served {
            offset: next.wrapping_add(i as u64) & i64::MAX as u64,
            time_ms: 5,
            record: RecordRef::of(value),
        });
        let begun = out.len();
        batch::encode(records, &mut out, |_, _| true);
        next = next.wrapping_add(values.len() as u64);
        if input.flag() {
            forge(&mut out[begun..], input);
        }
    }
    out
}

fn forge(batch: &mut [u8], input: &mut Input<'_>) {
    let at = [0, 8, 16, 21, 23, 27, 35, 43, 51, 57][usize::from(input.below(10))];
    let new = input.number();
    if at == 0 {
        batch[..8].copy_from_slice(&new.to_be_bytes());
    } else {
        batch[at..at + 4].copy_from_slice(&(new as i32).to_be_bytes());
    }
    if batch.len() >= HEADER {
        let crc = crc32c::crc32c(&batch[21..]);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
    }
}

/// Answers of the other kinds: to a produce, to a question for offsets, to one for a producer, a greeting.
fn small(input: &mut Input<'_>) -> Vec<u8> {
    let (kind, code, a, b) = (input.below(4), i16::from(input.byte() / 200), input.number(), input.number());
    let mut out = Vec::new();
    if kind < 2 {
        out.extend_from_slice(&[0, 0, 0, 1, 0, 2]);
        out.extend_from_slice(TOPIC.as_bytes());
        out.extend_from_slice(&[0, 0, 0, 1]);
    }
    match kind {
        0 => {
            out.extend_from_slice(&[0; 4]);
            out.extend_from_slice(&code.to_be_bytes());
            out.extend_from_slice(&a.to_be_bytes());
            out.extend_from_slice(&[0; 16]);
        }
        1 => {
            out.extend_from_slice(&code.to_be_bytes());
            out.extend_from_slice(&[0; 4]);
            out.extend_from_slice(&a.to_be_bytes());
            out.extend_from_slice(&b.to_be_bytes());
        }
        2 => {
            out.push(input.byte() % 5);
            out.extend_from_slice(&a.to_be_bytes());
            out.extend_from_slice(&b.to_be_bytes());
            out.extend_from_slice(&[0, 0, 0, 7]);
            out.extend_from_slice(&a.to_be_bytes());
        }
        _ => {
            let keys = input.below(6);
            out.extend_from_slice(&code.to_be_bytes());
            out.extend_from_slice(&i32::from(keys).to_be_bytes());
            (0..keys).for_each(|key| out.extend_from_slice(&[0, key, 0, 0, 0, 25]));
            out.extend_from_slice(&[0, 2, b'0', b'1']);
        }
    }
    out
}

/// The answer to a fetch of one partition.
fn fetched(log: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    // Throttle; no error; session; one topic.
    out.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    out.extend_from_slice(&(TOPIC.len() as i16).to_be_bytes());
    out.extend_from_slice(TOPIC.as_bytes());
    // One partition: its number, no error, high watermark, next filter, log start, nothing aborted.
    out.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    out.extend_from_slice(&[0; 24]);
    out.push(0);
    out.extend_from_slice(&(log.len() as i32).to_be_bytes());
    out.extend_from_slice(log);
    out
}
