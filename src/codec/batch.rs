//! Batches: what a producer sends taken apart, what a consumer gets put together.
//!
//! ```text
//!  at  bytes
//!   0  8   base offset          a producer's number means nothing; the server's is the first record's offset
//!   8  4   length               of everything from byte 12 on
//!  12  4   leader epoch         -1
//!  16  1   magic                2
//!  17  4   CRC32C               over everything from byte 21 on
//!  21  2   attributes           bits 0-2 compression, bit 4 a schema id (4 bytes) stands before the records
//!  23  4   last offset delta    records - 1
//!  27  8   first timestamp      milliseconds since 1970, -1 = none
//!  35  8   max timestamp
//!  43  8   producer id          ┐
//!  51  2   producer epoch       │ kept and given back untouched: a record's origin
//!  53  4   first sequence       ┘
//!  57  ..  i32 record count and the records, compressed together
//! ```
//!
//! A record is a varint length, `i8` attributes, varint time delta, varint offset delta, the key (one byte 0, or 1
//! and varint length and bytes), the value (varint length and bytes), and a varint header count.
//!
//! Served batches are not compressed: consumers of a node are mostly local, and on the wire to an upstream the sink
//! compresses on its own. They are dense, whole, and below [`MAX_BATCH`].

use std::borrow::Cow;
use std::io::Read;

use super::{Malformed, Reader};
use crate::record::{Origin, RecordRef};
use crate::time::WallTime;

/// Bytes before the length counts.
const PREAMBLE: usize = 12;
/// Preamble and header: where the record count stands.
pub const HEADER: usize = 57;
/// A batch, header and all, is smaller than this, compressed or not: what a consumer's default `max_bytes` takes
/// whole.
pub const MAX_BATCH: usize = 1024 * 1024;
/// What the time deltas of one batch may span: the official varint writer keeps about 31 bits.
const MAX_DELTA_MS: i64 = i32::MAX as i64 / 2;
/// A record without a time.
pub const NO_TIME: i64 = -1;

/// Why a produced batch is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("batch checksum does not match")]
    Checksum,
    #[error("compression: {0}")]
    Compression(String),
    #[error("a batch holds at most {MAX_BATCH} bytes, decompressed")]
    TooLarge,
    #[error("batches with a schema id are not kept by this node")]
    Schema,
}

/// What a checked batch holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contents {
    pub count: usize,
    /// Keys and values together.
    pub bytes: usize,
    /// Of the largest record.
    pub largest: usize,
}

/// A produced batch, its header checked, its records still packed.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    attributes: i16,
    pub last_offset_delta: i32,
    pub first_timestamp: i64,
    pub origin: Option<Origin>,
    packed: &'a [u8],
}

impl<'a> Batch<'a> {
    /// Takes the next batch off a record set; checks its bounds and its checksum.
    pub fn take(set: &mut Reader<'a>) -> Result<Self, BatchError> {
        set.i64("base offset")?;
        let len = usize::try_from(set.i32("batch length")?).map_err(|_| Malformed("batch length"))?;
        if len < HEADER - PREAMBLE + 4 {
            return Err(Malformed("batch length").into());
        }
        let mut body = Reader::new(set.bytes(len, "batch length")?);
        body.i32("leader epoch")?;
        if body.u8("magic")? != 2 {
            return Err(Malformed("batch magic").into());
        }
        let crc = body.u32("checksum")?;
        let mut fields = body;
        if crc32c::crc32c(body.bytes(body.remaining(), "batch")?) != crc {
            return Err(BatchError::Checksum);
        }
        let attributes = fields.i16("attributes")?;
        if attributes & 0x10 != 0 {
            return Err(BatchError::Schema);
        }
        let last_offset_delta = fields.i32("last offset delta")?;
        let first_timestamp = fields.i64("first timestamp")?;
        fields.i64("max timestamp")?;
        let producer_id = fields.i64("producer id")?;
        let producer_epoch = fields.i16("producer epoch")?;
        let first_sequence = fields.i32("first sequence")?;
        let origin = (producer_id != -1).then_some(Origin { producer_id, producer_epoch, first_sequence });
        let packed = fields.bytes(fields.remaining(), "records")?;
        Ok(Self { attributes, last_offset_delta, first_timestamp, origin, packed })
    }

    /// Decompresses, within [`MAX_BATCH`].
    pub fn unpack(&self) -> Result<Cow<'a, [u8]>, BatchError> {
        self.unpack_within(MAX_BATCH - HEADER)
    }

    pub fn unpack_within(&self, limit: usize) -> Result<Cow<'a, [u8]>, BatchError> {
        let out = match self.attributes & 0x07 {
            0 => Cow::Borrowed(self.packed),
            1 => Cow::Owned(read_bounded(flate2::read::GzDecoder::new(self.packed), limit)?),
            2 => Cow::Owned(read_bounded(snap::read::FrameDecoder::new(self.packed), limit)?),
            3 => Cow::Owned(read_bounded(lz4_flex::frame::FrameDecoder::new(self.packed), limit)?),
            4 => {
                let decoder = zstd::stream::read::Decoder::new(self.packed)
                    .and_then(|mut d| {
                        // What the format asks every decoder to take; a few bytes must not get 128 MiB.
                        d.window_log_max(23)?;
                        Ok(d)
                    })
                    .map_err(|e| BatchError::Compression(e.to_string()))?;
                Cow::Owned(read_bounded(decoder, limit)?)
            }
            other => return Err(BatchError::Compression(format!("unknown kind {other}"))),
        };
        if out.len() > limit { Err(BatchError::TooLarge) } else { Ok(out) }
    }

    /// Checks the records of the unpacked bytes: as many as the header says, with nothing left over. Only then may
    /// [`Batch::records`] be used. Two passes instead of a list: a list of tiny records takes twenty times their bytes.
    pub fn check(&self, unpacked: &[u8]) -> Result<Contents, BatchError> {
        let mut reader = Reader::new(unpacked);
        // The smallest record takes seven bytes.
        let count = reader.count(7, "record count")?;
        if i64::from(self.last_offset_delta) + 1 != count as i64 {
            return Err(Malformed("record count").into());
        }
        let mut contents = Contents { count, bytes: 0, largest: 0 };
        for _ in 0..count {
            let len = read_record(&mut reader, self.first_timestamp)?.len();
            contents.bytes += len;
            contents.largest = contents.largest.max(len);
        }
        reader.end("records")?;
        Ok(contents)
    }

    /// The records of bytes that passed [`Batch::check`]; of others, those before the first that is malformed.
    pub fn records<'u>(&self, unpacked: &'u [u8]) -> impl Iterator<Item = RecordRef<'u>> + use<'u> {
        let (first_timestamp, origin) = (self.first_timestamp, self.origin);
        let mut reader = Reader::new(unpacked);
        let count = reader.count(7, "record count").unwrap_or(0);
        (0..count).map_while(move |_| {
            let record = read_record(&mut reader, first_timestamp).ok()?;
            Some(RecordRef { origin, ..record })
        })
    }
}

fn read_bounded(source: impl Read, limit: usize) -> Result<Vec<u8>, BatchError> {
    let mut out = Vec::new();
    source.take(limit as u64 + 1).read_to_end(&mut out).map_err(|e| BatchError::Compression(e.to_string()))?;
    if out.len() > limit { Err(BatchError::TooLarge) } else { Ok(out) }
}

/// A record as it is packed in a batch; its times and its place are relative to the batch's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packed<'a> {
    /// Milliseconds after the batch's first.
    pub time_delta: i64,
    pub offset_delta: i64,
    pub key: Option<&'a [u8]>,
    pub value: &'a [u8],
}

impl<'a> Packed<'a> {
    pub fn read(set: &mut Reader<'a>) -> Result<Self, Malformed> {
        let len = usize::try_from(set.varint("record length")?).map_err(|_| Malformed("record length"))?;
        let mut reader = Reader::new(set.bytes(len, "record length")?);
        reader.u8("record attributes")?;
        let time_delta = reader.varint("time delta")?;
        let offset_delta = reader.varint("offset delta")?;
        let key = if reader.flag("key")? { Some(sized(&mut reader, "key")?) } else { None };
        let value = sized(&mut reader, "value")?;
        reader.varint("record headers")?;
        reader.end("record")?;
        Ok(Self { time_delta, offset_delta, key, value })
    }

    pub fn put(&self, out: &mut Vec<u8>) {
        let len = 3
            + varint_len(self.time_delta)
            + varint_len(self.offset_delta)
            + self.key.map_or(0, |k| varint_len(k.len() as i64) + k.len())
            + varint_len(self.value.len() as i64)
            + self.value.len();
        put_varint(len as i64, out);
        out.push(0);
        put_varint(self.time_delta, out);
        put_varint(self.offset_delta, out);
        match self.key {
            None => out.push(0),
            Some(key) => {
                out.push(1);
                put_varint(key.len() as i64, out);
                out.extend_from_slice(key);
            }
        }
        put_varint(self.value.len() as i64, out);
        out.extend_from_slice(self.value);
        put_varint(0, out);
    }
}

fn read_record<'a>(set: &mut Reader<'a>, first_timestamp: i64) -> Result<RecordRef<'a>, Malformed> {
    let Packed { time_delta, key, value, .. } = Packed::read(set)?;
    let event_time = (first_timestamp > NO_TIME)
        .then(|| WallTime(first_timestamp.saturating_add(time_delta).saturating_mul(1000)))
        .filter(|t| t.0 >= 0);
    Ok(RecordRef { key, value, event_time, ..RecordRef::default() })
}

/// A varint length and as many bytes.
pub fn sized<'a>(reader: &mut Reader<'a>, what: &'static str) -> Result<&'a [u8], Malformed> {
    let len = usize::try_from(reader.varint(what)?).map_err(|_| Malformed(what))?;
    reader.bytes(len, what)
}

/// A record as it is served: its offset, and its time in milliseconds ([`NO_TIME`] = none).
#[derive(Clone, Copy, Debug)]
pub struct Served<'a> {
    pub offset: u64,
    pub time_ms: i64,
    pub record: RecordRef<'a>,
}

/// A batch that was just put at the end of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Where it begins in the output.
    pub at: usize,
    /// One past its last offset.
    pub end: u64,
}

/// A batch under construction.
struct Open<'a> {
    at: usize,
    first: Served<'a>,
    last: Served<'a>,
    max_time: i64,
}

/// Appends records as batches: each a run of consecutive offsets and one origin, within the limits of size and time.
/// `done` is told of every batch once it is whole; it may cut it off again, and says whether to go on.
///
/// Records without an origin may be cut anywhere. A run with one is what a producer sent in one batch, so it is
/// within the limits already, unless rules made its records larger.
pub fn encode<'a>(
    records: impl Iterator<Item = Served<'a>>,
    out: &mut Vec<u8>,
    mut done: impl FnMut(&mut Vec<u8>, Run) -> bool,
) {
    let mut open: Option<Open<'a>> = None;
    for next in records {
        if let Some(run) = open.take_if(|run| !run.takes(out.len(), &next)) {
            let run = run.close(out);
            if !done(out, run) {
                return;
            }
        }
        let run = open.get_or_insert_with(|| Open::begin(next, out));
        encode_record(&next, &run.first, out);
        run.last = next;
        run.max_time = run.max_time.max(next.time_ms);
    }
    if let Some(run) = open {
        let run = run.close(out);
        done(out, run);
    }
}

impl<'a> Open<'a> {
    fn begin(first: Served<'a>, out: &mut Vec<u8>) -> Self {
        let at = out.len();
        out.resize(at + HEADER + 4, 0);
        Self { at, first, last: first, max_time: NO_TIME }
    }

    fn takes(&self, end: usize, next: &Served<'_>) -> bool {
        self.last.offset + 1 == next.offset
            && self.last.record.origin == next.record.origin
            && end - self.at + bound(&next.record) <= MAX_BATCH
            && (self.first.time_ms == NO_TIME) == (next.time_ms == NO_TIME)
            && next.time_ms.saturating_sub(self.first.time_ms).saturating_abs() <= MAX_DELTA_MS
    }

    fn close(self, out: &mut [u8]) -> Run {
        let none = Origin { producer_id: -1, producer_epoch: -1, first_sequence: -1 };
        let origin = self.first.record.origin.unwrap_or(none);
        let last_delta = (self.last.offset - self.first.offset) as i32;
        let batch = &mut out[self.at..];
        let len = (batch.len() - PREAMBLE) as i32;
        let mut put = |at: usize, bytes: &[u8]| batch[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &(self.first.offset as i64).to_be_bytes());
        put(8, &len.to_be_bytes());
        put(12, &(-1i32).to_be_bytes());
        put(16, &[2]);
        put(21, &0i16.to_be_bytes());
        put(23, &last_delta.to_be_bytes());
        put(27, &self.first.time_ms.to_be_bytes());
        put(35, &self.max_time.to_be_bytes());
        put(43, &origin.producer_id.to_be_bytes());
        put(51, &origin.producer_epoch.to_be_bytes());
        put(53, &origin.first_sequence.to_be_bytes());
        put(HEADER, &(last_delta + 1).to_be_bytes());
        let crc = crc32c::crc32c(&batch[21..]);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
        Run { at: self.at, end: self.last.offset + 1 }
    }
}

/// More than what a record takes in a batch.
fn bound(record: &RecordRef<'_>) -> usize {
    record.key.map_or(0, <[u8]>::len) + record.value.len() + 2 + 6 * 5
}

fn encode_record(served: &Served<'_>, first: &Served<'_>, out: &mut Vec<u8>) {
    let packed = Packed {
        time_delta: served.time_ms.saturating_sub(first.time_ms),
        offset_delta: (served.offset - first.offset) as i64,
        key: served.record.key,
        value: served.record.value,
    };
    packed.put(out);
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

fn varint_len(value: i64) -> usize {
    (64 - (zigzag(value) | 1).leading_zeros() as usize).div_ceil(7)
}

fn put_varint(value: i64, out: &mut Vec<u8>) {
    let mut raw = zigzag(value);
    while raw >= 0x80 {
        out.push(raw as u8 | 0x80);
        raw >>= 7;
    }
    out.push(raw as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use fluvio_protocol::record::{Batch as Official, Record as OfficialRecord, RecordData};
    use fluvio_protocol::{Decoder, Encoder};
    use proptest::prelude::*;

    type Pair = (Option<Vec<u8>>, Vec<u8>);

    fn pairs(max: usize) -> impl Strategy<Value = Vec<Pair>> {
        prop::collection::vec(
            (prop::option::of(prop::collection::vec(any::<u8>(), 0..20)), prop::collection::vec(any::<u8>(), 0..200)),
            1..max,
        )
    }

    fn official(records: &[Pair]) -> Official {
        let mut batch = Official::default();
        for (key, value) in records {
            let mut record = OfficialRecord::new(RecordData::from(value.clone()));
            record.key = key.clone().map(RecordData::from);
            batch.add_record(record);
        }
        batch.header.first_timestamp = 1_700_000_000_000;
        batch.header.max_time_stamp = 1_700_000_000_000;
        batch.header.producer_id = 77;
        batch.header.producer_epoch = 3;
        batch.header.first_sequence = 9;
        batch
    }

    fn serve(records: &[Pair]) -> Vec<Served<'_>> {
        let origin = Some(Origin { producer_id: 77, producer_epoch: 3, first_sequence: 9 });
        records
            .iter()
            .enumerate()
            .map(|(i, (key, value))| Served {
                offset: i as u64,
                time_ms: 1_700_000_000_000,
                record: RecordRef { key: key.as_deref(), value, origin, ..RecordRef::default() },
            })
            .collect()
    }

    type Read = Vec<(Option<Vec<u8>>, Vec<u8>, Option<WallTime>)>;

    fn read(bytes: &[u8]) -> Result<Read, BatchError> {
        let mut reader = Reader::new(bytes);
        let batch = Batch::take(&mut reader)?;
        let unpacked = batch.unpack()?;
        let contents = batch.check(&unpacked)?;
        let records: Vec<_> = batch.records(&unpacked).collect();
        assert_eq!(records.len(), contents.count);
        assert_eq!(records.iter().map(RecordRef::len).sum::<usize>(), contents.bytes);
        Ok(records.iter().map(|r| (r.key.map(<[u8]>::to_vec), r.value.to_vec(), r.event_time)).collect())
    }

    proptest! {
        #[test]
        fn a_served_batch_is_what_the_official_encoder_writes(records in pairs(40)) {
            let mut ours = Vec::new();
            encode(serve(&records).into_iter(), &mut ours, |_, _| true);
            let theirs = official(&records).as_bytes(25).unwrap();
            prop_assert_eq!(&ours[..], &theirs[..]);
            let back = Official::<Vec<OfficialRecord>>::decode_from(&mut &ours[..], 25).unwrap();
            prop_assert!(back.validate_decoding());
        }

        #[test]
        fn a_produced_batch_of_any_compression_comes_apart(records in pairs(40), kind in 0i8..5) {
            let mut batch = official(&records);
            batch.header.set_compression(fluvio::Compression::try_from(kind).unwrap());
            let raw: Official<fluvio_protocol::record::RawRecords> = batch.try_into().unwrap();
            let bytes = raw.as_bytes(25).unwrap();
            let back = read(&bytes).unwrap();
            let expected: Vec<_> =
                records.into_iter().map(|(k, v)| (k, v, Some(WallTime(1_700_000_000_000_000)))).collect();
            prop_assert_eq!(back, expected);
        }

        #[test]
        fn a_flipped_byte_never_panics_and_never_passes_for_another_batch(
            records in pairs(10), at in any::<prop::sample::Index>(), bit in 0u8..8, kind in 0i8..5
        ) {
            let mut batch = official(&records);
            batch.header.set_compression(fluvio::Compression::try_from(kind).unwrap());
            let raw: Official<fluvio_protocol::record::RawRecords> = batch.try_into().unwrap();
            let mut bytes = raw.as_bytes(25).unwrap().to_vec();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            // Base offset and leader epoch are the server's to set; everything else is under the checksum or is it.
            if at >= 16 {
                prop_assert!(read(&bytes).is_err());
            } else {
                let _ = read(&bytes);
            }
        }

        #[test]
        fn arbitrary_bytes_under_a_right_checksum_never_panic(
            mut tail in prop::collection::vec(any::<u8>(), 40..400), kind in 0u8..8
        ) {
            tail[0] = 0;
            tail[1] = kind;
            let mut bytes = vec![0; 8];
            bytes.extend((tail.len() as i32 + 9).to_be_bytes());
            bytes.extend((-1i32).to_be_bytes());
            bytes.push(2);
            bytes.extend(crc32c::crc32c(&tail).to_be_bytes());
            bytes.extend(&tail);
            let _ = read(&bytes);
        }
    }

    #[test]
    fn a_decompression_bomb_is_too_large() {
        for kind in 1..5i8 {
            let mut batch = official(&[(None, vec![0; 8 * MAX_BATCH])]);
            batch.header.set_compression(fluvio::Compression::try_from(kind).unwrap());
            let raw: Official<fluvio_protocol::record::RawRecords> = batch.try_into().unwrap();
            assert_eq!(read(&raw.as_bytes(25).unwrap()), Err(BatchError::TooLarge), "kind {kind}");
        }
    }

    fn plain(offset: u64, time_ms: i64, value: &[u8], origin: Option<Origin>) -> Served<'_> {
        Served { offset, time_ms, record: RecordRef { origin, ..RecordRef::of(value) } }
    }

    fn lengths(records: &[Served<'_>]) -> Vec<usize> {
        let (mut bytes, mut out) = (Vec::new(), Vec::new());
        let mut from = records.first().map_or(0, |r| r.offset);
        encode(records.iter().copied(), &mut bytes, |bytes, run| {
            let set = &bytes[run.at..];
            assert!(set.len() <= MAX_BATCH);
            let batch = Batch::take(&mut Reader::new(set)).unwrap();
            out.push(batch.check(&batch.unpack().unwrap()).unwrap().count);
            from = run.end;
            true
        });
        assert_eq!(records.last().map_or(0, |r| r.offset + 1), from);
        out
    }

    #[test]
    fn a_run_ends_where_the_origin_the_offsets_or_the_time_break() {
        let a = Some(Origin { producer_id: 1, producer_epoch: 0, first_sequence: 1 });
        let b = Some(Origin { producer_id: 1, producer_epoch: 0, first_sequence: 2 });
        assert_eq!(
            lengths(&[plain(0, 0, b"", None), plain(1, 0, b"", a), plain(2, 0, b"", a), plain(3, 0, b"", b)]),
            [1, 2, 1]
        );
        assert_eq!(lengths(&[plain(0, 0, b"", None), plain(2, 0, b"", None)]), [1, 1]);
        assert_eq!(lengths(&[plain(0, 0, b"", None), plain(1, 1 << 33, b"", None)]), [1, 1]);
        assert_eq!(lengths(&[plain(0, NO_TIME, b"", None), plain(1, 5, b"", None)]), [1, 1]);
        assert_eq!(lengths(&[]), [0usize; 0]);
    }

    #[test]
    fn served_batches_stay_below_their_bound() {
        let value = vec![7; 300 * 1024];
        let records: Vec<_> = (0..10).map(|i| plain(i, 0, &value, None)).collect();
        assert_eq!(lengths(&records), [3, 3, 3, 1]);
    }
}
