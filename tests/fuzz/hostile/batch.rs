//! Batches as a producer may make them: whole ones, with lengths, counts and sums that lie, packed by any codec, cut,
//! bent, and bombs. What must hold: none panics, none unpacks to more than is allowed, a whole one gives its records back,
//! and so does what the endpoint makes of them for its consumers.

use std::io::Write as _;

use headwater::codec::Reader;
use headwater::codec::batch::{self, Batch, BatchError, HEADER, MAX_BATCH, NO_TIME, Served};
use headwater::record::{Origin, RecordRef};
use headwater::time::WallTime;

use super::{Input, bend, held};

/// What unpacking takes beside twice its limit. Half of it is lz4's: two buffers of the block size that a header names (8 MiB
/// of the legacy format), which are asked for whole and touched as far as blocks fill them.
const UNPACKING: usize = 17 * 1024 * 1024;
/// Of the other codecs, and of what takes nothing but an error's text.
const ELSEWHERE: usize = 256 * 1024;
const LZ4: u8 = 3;

/// Something that a producer sends.
#[derive(Clone, Debug, PartialEq)]
struct Sent {
    key: Option<Vec<u8>>,
    value: Vec<u8>,
    delta: i64,
}

/// What came of it.
type Came = (Sent, Option<WallTime>, Option<Origin>);

/// A batch under construction, all of whose numbers can be other than they should.
#[derive(Debug)]
struct Made {
    bytes: Vec<u8>,
    records: Vec<Sent>,
    first_timestamp: i64,
    origin: Option<Origin>,
    kind: u8,
    /// Nothing in it lies.
    honest: bool,
    raw: usize,
}

pub fn batch(data: &[u8]) {
    let mut input = Input(data);
    let mode = input.byte();
    if mode & 3 == 0 {
        return set(input.0, mode & 4 != 0);
    }
    let made = make(&mut input);
    whole(&made, &made.bytes);
    // Two in a row come apart where the first ends.
    let mut twice = made.bytes.clone();
    twice.extend_from_slice(&made.bytes);
    let mut reader = Reader::new(&twice);
    if made.honest {
        Batch::take(&mut reader).expect("a whole batch");
        assert_eq!(reader.remaining(), made.bytes.len(), "a batch is taken whole and no more");
    }
    if mode & 8 != 0 {
        let mut bent = made.bytes.clone();
        bend(&mut bent, &mut input);
        set(&bent, mode & 4 != 0);
    }
}

/// A record set of bytes as they are; `sealed`: with the right checksum and length where there is room for them.
fn set(bytes: &[u8], sealed: bool) {
    let mut bytes = bytes.to_vec();
    if sealed && bytes.len() >= HEADER {
        let len = (bytes.len() - 12) as i32;
        bytes[8..12].copy_from_slice(&len.to_be_bytes());
        bytes[16] = 2;
        seal(&mut bytes);
    }
    let mut reader = Reader::new(&bytes);
    while reader.remaining() > 0 {
        let before = reader.remaining();
        let Ok(batch) = held::within(ELSEWHERE, "taking a batch", || Batch::take(&mut reader)) else { break };
        assert!(reader.remaining() < before, "a batch of no bytes");
        let _ = read(&batch, MAX_BATCH - HEADER, true);
    }
}

/// Unpacks, checks and reads.
fn read(batch: &Batch<'_>, limit: usize, lz4: bool) -> Result<Vec<Came>, BatchError> {
    let most = 3 * limit + if lz4 { UNPACKING } else { ELSEWHERE };
    let unpacked = held::within(most, "unpacking", || batch.unpack_within(limit))?;
    assert!(unpacked.len() <= limit, "{} bytes unpacked; {limit} are allowed", unpacked.len());
    let contents = held::within(0, "checking", || batch.check(&unpacked))?;
    let mut sums = (0, 0, 0);
    let mut records = Vec::with_capacity(contents.count.min(1 << 16));
    for record in batch.records(&unpacked) {
        sums = (sums.0 + 1, sums.1 + record.len(), sums.2.max(record.len()));
        let sent = Sent { key: record.key.map(<[u8]>::to_vec), value: record.value.to_vec(), delta: 0 };
        records.push((sent, record.event_time, record.origin));
    }
    assert_eq!(sums, (contents.count, contents.bytes, contents.largest), "other records than were checked");
    served(&records);
    Ok(records)
}

/// A batch that was made: if it is honest it comes back, unless it is too large; if not it is an error or something else.
fn whole(made: &Made, bytes: &[u8]) {
    let taken = held::within(ELSEWHERE, "taking a batch", || Batch::take(&mut Reader::new(bytes)));
    let batch = match taken {
        Ok(batch) => batch,
        Err(error) => {
            assert!(!made.honest, "a whole batch is refused: {error}");
            return;
        }
    };
    for limit in [MAX_BATCH - HEADER, 1000] {
        let found = read(&batch, limit, made.kind == LZ4 || !made.honest);
        if !made.honest {
            continue;
        }
        if made.raw > limit {
            assert_eq!(found.err(), Some(BatchError::TooLarge), "{} bytes of kind {}", made.raw, made.kind);
            continue;
        }
        let found = found.unwrap_or_else(|error| panic!("a whole batch of kind {} is refused: {error}", made.kind));
        let as_sent = |sent: &Sent| (Sent { delta: 0, ..sent.clone() }, time(made, sent), made.origin);
        assert!(
            found.into_iter().eq(made.records.iter().map(as_sent)),
            "other records come out of a batch of kind {}",
            made.kind
        );
    }
}

fn time(made: &Made, sent: &Sent) -> Option<WallTime> {
    let ms = i128::from(made.first_timestamp) + i128::from(sent.delta);
    let us = ms.clamp(i64::MIN.into(), i64::MAX.into()) * 1000;
    let us = us.clamp(i64::MIN.into(), i64::MAX.into()) as i64;
    (made.first_timestamp > NO_TIME && us >= 0).then_some(WallTime(us))
}

/// Records that were taken are served: within the bound, and the same.
fn served(records: &[Came]) {
    let base = 1 << 40;
    let all = records.iter().zip(base..).map(|((sent, time, origin), offset)| Served {
        offset,
        time_ms: time.map_or(NO_TIME, |t| t.0.div_euclid(1000).max(NO_TIME)),
        record: RecordRef { key: sent.key.as_deref(), value: &sent.value, origin: *origin, ..RecordRef::default() },
    });
    let (mut out, mut runs) = (Vec::new(), Vec::new());
    batch::encode(all.clone(), &mut out, |_, run| {
        runs.push(run);
        true
    });
    let mut all = all.peekable();
    for (i, run) in runs.iter().enumerate() {
        let bytes = &out[run.at..runs.get(i + 1).map_or(out.len(), |next| next.at)];
        assert!(bytes.len() <= MAX_BATCH, "a batch of {} bytes is served", bytes.len());
        let mut reader = Reader::new(bytes);
        let batch = Batch::take(&mut reader).expect("our own batch");
        assert_eq!(reader.remaining(), 0);
        let unpacked = batch.unpack().expect("it is not packed");
        let count = batch.check(&unpacked).expect("our own records").count;
        assert!(count > 0, "a batch without records is served");
        for record in batch.records(&unpacked) {
            let sent = all.next().expect("as many as were served");
            let time_ms = record.event_time.map_or(NO_TIME, |t| t.0.div_euclid(1000));
            assert_eq!(
                (record.key, record.value, record.origin),
                (sent.record.key, sent.record.value, sent.record.origin)
            );
            assert_eq!(time_ms, sent.time_ms.min(i64::MAX / 1000), "another time is served");
        }
        assert_eq!(run.end, all.peek().map_or(base + records.len() as u64, |next| next.offset));
    }
    assert!(all.next().is_none(), "records were left out");
}

// ------------------------------------------------------------------------------------------------ making one

fn make(input: &mut Input<'_>) -> Made {
    let first_timestamp = if input.flag() { NO_TIME } else { input.number() };
    let count = input.below(8);
    let records: Vec<_> = (0..count).map(|_| record(input)).collect();
    let mut raw = (records.len() as i32).to_be_bytes().to_vec();
    records.iter().enumerate().for_each(|(i, sent)| put_record(&mut raw, i as i64, sent));
    let mut honest = true;
    if input.byte() >= 200 {
        honest &= !bend(&mut raw, input);
    }
    let kind = match input.byte() {
        n @ 0..250 => n % 5,
        n => n % 8,
    };
    honest &= kind < 5;
    let mut packed = pack(kind, &raw);
    if input.byte() >= 200 {
        honest &= !bend(&mut packed, input);
    }
    let origin = input.flag().then(|| Origin {
        producer_id: input.number(),
        producer_epoch: input.number() as i16,
        first_sequence: input.number() as i32,
    });
    let origin = origin.filter(|origin| origin.producer_id != -1);
    let mut bytes = header(input, &packed, records.len(), (first_timestamp, origin), kind);
    if input.byte() >= 200 {
        honest = false;
        let (at, new) = ([8, 16, 17, 21, 23, 27][usize::from(input.below(6))], input.number() as i32);
        bytes[at..at + 4].copy_from_slice(&new.to_be_bytes());
        if input.flag() {
            seal(&mut bytes);
        }
    }
    Made { bytes, records, first_timestamp, origin, kind, honest, raw: raw.len() }
}

fn record(input: &mut Input<'_>) -> Sent {
    let key = input.flag().then(|| input.some(40).to_vec());
    let value = match input.byte() % 8 {
        // Packs to nothing.
        0 => vec![input.byte(); if input.byte() == 255 { input.u16() * 40 } else { input.u16() >> input.below(12) }],
        1 => input.some(20).repeat(usize::from(input.byte())),
        _ => input.some(64).to_vec(),
    };
    let delta = if input.flag() { input.number() } else { i64::from(input.byte()) };
    Sent { key, value, delta }
}

fn put_record(out: &mut Vec<u8>, index: i64, sent: &Sent) {
    let mut body = vec![0];
    put_varint(&mut body, sent.delta);
    put_varint(&mut body, index);
    body.push(u8::from(sent.key.is_some()));
    if let Some(key) = &sent.key {
        put_varint(&mut body, key.len() as i64);
        body.extend_from_slice(key);
    }
    put_varint(&mut body, sent.value.len() as i64);
    body.extend_from_slice(&sent.value);
    put_varint(&mut body, 0);
    put_varint(out, body.len() as i64);
    out.extend_from_slice(&body);
}

fn put_varint(out: &mut Vec<u8>, value: i64) {
    let mut raw = ((value << 1) ^ (value >> 63)) as u64;
    while raw >= 0x80 {
        out.push(raw as u8 | 0x80);
        raw >>= 7;
    }
    out.push(raw as u8);
}

/// By the crates that producers use.
fn pack(kind: u8, raw: &[u8]) -> Vec<u8> {
    let packed = "a vector takes everything";
    match kind {
        1 => {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gzip.write_all(raw).expect(packed);
            gzip.finish().expect(packed)
        }
        2 => {
            let mut snappy = snap::write::FrameEncoder::new(Vec::new());
            snappy.write_all(raw).expect(packed);
            snappy.into_inner().expect(packed)
        }
        3 => {
            let mut lz4 = lz4_flex::frame::FrameEncoder::new(Vec::new());
            lz4.write_all(raw).expect(packed);
            lz4.finish().expect(packed)
        }
        4 => zstd::stream::encode_all(raw, 1).expect(packed),
        _ => raw.to_vec(),
    }
}

fn header(
    input: &mut Input<'_>,
    packed: &[u8],
    count: usize,
    (first_timestamp, origin): (i64, Option<Origin>),
    kind: u8,
) -> Vec<u8> {
    let none = Origin { producer_id: -1, producer_epoch: -1, first_sequence: -1 };
    let origin = origin.unwrap_or(none);
    // A producer's numbers, which mean nothing here.
    let (base, epoch, max) = (input.number(), input.byte().into(), input.number());
    let mut out = Vec::new();
    out.extend_from_slice(&base.to_be_bytes());
    out.extend_from_slice(&((HEADER - 12 + packed.len()) as i32).to_be_bytes());
    out.extend_from_slice(&i32::to_be_bytes(epoch));
    out.push(2);
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&i16::from(kind).to_be_bytes());
    out.extend_from_slice(&(count as i32 - 1).to_be_bytes());
    out.extend_from_slice(&first_timestamp.to_be_bytes());
    out.extend_from_slice(&max.to_be_bytes());
    out.extend_from_slice(&origin.producer_id.to_be_bytes());
    out.extend_from_slice(&origin.producer_epoch.to_be_bytes());
    out.extend_from_slice(&origin.first_sequence.to_be_bytes());
    out.extend_from_slice(packed);
    seal(&mut out);
    out
}

fn seal(bytes: &mut [u8]) {
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
}

/// Batches that unpack to far more than is allowed, of every codec.
pub fn bombs() {
    for kind in 1..5 {
        let packed = pack(kind, &vec![0; 64 * MAX_BATCH]);
        let bytes = header(&mut Input(&[]), &packed, 1, (NO_TIME, None), kind);
        let batch = Batch::take(&mut Reader::new(&bytes)).expect("a batch");
        assert_eq!(read(&batch, MAX_BATCH - HEADER, kind == LZ4).err(), Some(BatchError::TooLarge), "kind {kind}");
    }
}
