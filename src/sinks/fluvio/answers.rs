//! Answers as values: what an upstream says, read from its bytes.
//!
//! Frames are capped before they come here. What carries records is read by hand: the 61 bytes of a header are no record
//! set that an official decoder would take. The rest goes through the official wire crates, which take a length only for how
//! often to go on reading, but for what [`Careful`] keeps from them.

use std::io;

use bytes::Buf;
use fluvio_protocol::link::ErrorCode;
use fluvio_protocol::link::versions::{ApiVersionsRequest, ApiVersionsResponse};
use fluvio_protocol::{Decoder, Encoder, api::Request};
use fluvio_spu_schema::produce::ProduceResponse;
use fluvio_spu_schema::server::fetch_offset::FetchOffsetsResponse;

use crate::codec::{self, Reader};
use crate::forward::turn::{Kept, Newest, OUT_OF_TURN};
use crate::forward::{Header, Reject};
use crate::record::Origin;

/// The version of the SPU's messages that we speak, and of the SC's.
pub const SPU_VERSION: i16 = 25;
pub const SC_VERSION: i16 = 19;

/// Exactly a batch header and the first four bytes after it: what a fetch is cut to.
pub const HEADER_BYTES: usize = 61;

/// A peer's answer that is not one.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    #[error("answer cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    #[error("answer speaks of another partition")]
    OtherPartition,
    #[error("answer has the offset {0}, which no log has")]
    NoOffset(i64),
}

/// No log is longer. Whoever counts on from an upstream's offset stays far from an overflow.
const LAST_OFFSET: i64 = i64::MAX >> 1;

/// -1 is how a server says that there is none.
fn offset(offset: i64) -> Result<i64, Malformed> {
    if (-1..=LAST_OFFSET).contains(&offset) { Ok(offset) } else { Err(Malformed::NoOffset(offset)) }
}

/// An error code inside an answer.
pub type Coded<T> = Result<T, ErrorCode>;

pub fn read<T: Decoder>(body: &[u8], version: i16) -> Result<T, Malformed> {
    Ok(T::decode_from(&mut Careful(body), version)?)
}

/// Bytes for the official decoders, without the two places where they believe what they read and panic:
///
/// - A duration is made of any seconds and nanoseconds, and overflows. No answer has numbers that large: they are read as a
///   little less.
/// - The error of a SmartModule brings the record along, whose length becomes a capacity. It is looked at before: where it
///   does not hold what it says, the answer ends.
struct Careful<'a>(&'a [u8]);

/// The error code whose text is followed by a record.
const WITH_A_RECORD: i16 = 6004;

impl Buf for Careful<'_> {
    fn remaining(&self) -> usize {
        self.0.len()
    }

    fn chunk(&self) -> &[u8] {
        self.0
    }

    fn advance(&mut self, n: usize) {
        self.0.advance(n);
    }

    fn get_u64(&mut self) -> u64 {
        // A u32 of nanoseconds is less than five seconds.
        self.0.get_u64().min(u64::MAX - 5)
    }

    fn get_i16(&mut self) -> i16 {
        let value = self.0.get_i16();
        if value == WITH_A_RECORD && step_over_record(&mut Reader::new(self.0)).is_err() {
            self.0 = &[];
        }
        value
    }
}

/// Hint, offset, kind; key and value of the record.
fn step_over_record(r: &mut Reader<'_>) -> Result<(), codec::Malformed> {
    r.str("hint")?;
    r.i64("offset")?;
    r.u8("kind")?;
    for there in [r.flag("key")?, true] {
        if there {
            let len = r.varint("record length")?;
            r.bytes(usize::try_from(len).map_err(|_| codec::Malformed("record length"))?, "record length")?;
        }
    }
    Ok(())
}

pub fn read_api_versions(body: &[u8]) -> Result<ApiVersionsResponse, Malformed> {
    read(body, ApiVersionsRequest::DEFAULT_API_VERSION)
}

pub fn read_produced(body: &[u8], topic: &str, partition: u32) -> Result<Coded<i64>, Malformed> {
    let response: ProduceResponse = read(body, SPU_VERSION)?;
    let part = response.find_partition_response(topic, partition).ok_or(Malformed::OtherPartition)?;
    Ok(coded(part.error_code.clone(), offset(part.base_offset)?))
}

pub fn read_offsets(body: &[u8], topic: &str, partition: u32) -> Result<Coded<(i64, i64)>, Malformed> {
    let response: FetchOffsetsResponse = read(body, SPU_VERSION)?;
    let mut parts = response.topics.into_iter().filter(|t| t.name == topic).flat_map(|t| t.partitions);
    let part = parts.find(|p| p.partition_index == partition).ok_or(Malformed::OtherPartition)?;
    Ok(coded(part.error_code, (offset(part.start_offset)?, offset(part.last_stable_offset)?)))
}

fn coded<T>(code: ErrorCode, value: T) -> Coded<T> {
    if code.is_ok() { Ok(value) } else { Err(code) }
}

/// The newest batch that is kept of the producer, and the log's end.
pub fn read_producer(body: &[u8]) -> Result<Coded<(Option<Newest>, i64)>, Malformed> {
    match Kept::read(body).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))? {
        Kept::Has { newest, log_end } => {
            newest.map_or(Ok(0), |newest| offset(newest.base))?;
            Ok(Ok((newest, offset(log_end)?)))
        }
        Kept::NoPartition => Ok(Err(ErrorCode::NotLeaderForPartition)),
        Kept::NotAllowed => Ok(Err(ErrorCode::PermissionDenied)),
    }
}

/// What an error code means for what was asked.
pub fn reject(code: &ErrorCode) -> Reject {
    match code {
        ErrorCode::Other(text) if text == OUT_OF_TURN => Reject::OutOfTurn,
        other => Reject::of_code(number(other)),
    }
}

/// The number of an error code: what its encoding begins with.
fn number(code: &ErrorCode) -> i16 {
    let mut bytes = Vec::new();
    match code.encode(&mut bytes, SPU_VERSION) {
        Ok(()) => bytes.first_chunk().map_or(-1, |b| i16::from_be_bytes(*b)),
        Err(_) => -1,
    }
}

/// None past the log end.
pub fn read_header(body: &[u8], topic: &str, partition: u32, at: i64) -> Result<Coded<Option<Header>>, Malformed> {
    Ok(read_fetched(body, topic, partition, at)?.map(parse_header))
}

/// Nothing past the log end.
pub fn read_fetched<'a>(body: &'a [u8], topic: &str, partition: u32, at: i64) -> Result<Coded<&'a [u8]>, Malformed> {
    let src = &mut Careful(body);
    let get = |src: &mut Careful<'_>| -> io::Result<i32> { i32::decode_from(src, SPU_VERSION) };
    let _throttle = get(src)?;
    let error = ErrorCode::decode_from(src, SPU_VERSION)?;
    if error.is_error() {
        return Ok(Err(error));
    }
    let (_session, topics) = (get(src)?, get(src)?);
    if topics != 1 || String::decode_from(src, SPU_VERSION)? != topic {
        return Err(Malformed::OtherPartition);
    }
    if get(src)? != 1 || u32::decode_from(src, SPU_VERSION)? != partition {
        return Err(Malformed::OtherPartition);
    }
    let error = ErrorCode::decode_from(src, SPU_VERSION)?;
    let high_watermark = i64::decode_from(src, SPU_VERSION)?;
    if error.is_error() {
        return Ok(past_the_end(error, at, high_watermark));
    }
    let (_next_filter, _log_start) = (i64::decode_from(src, SPU_VERSION)?, i64::decode_from(src, SPU_VERSION)?);
    let _aborted = Option::<Vec<(i64, i64)>>::None;
    if u8::decode_from(src, SPU_VERSION)? != 0 {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "aborted transactions").into());
    }
    let len = get(src)?;
    let records = src.0.get(..len.max(0) as usize).ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
    Ok(Ok(records))
}

/// A real SPU answers an offset beyond the log end with code 2 and a text, an endpoint of ours with nothing.
fn past_the_end<'a>(error: ErrorCode, at: i64, high_watermark: i64) -> Coded<&'a [u8]> {
    match error {
        ErrorCode::Other(text) if text.contains("is greater than leo") => Ok(&[]),
        ErrorCode::OffsetOutOfRange if at >= high_watermark && high_watermark > 0 => Ok(&[]),
        other => Err(other),
    }
}

/// The header that bytes of a log begin with; None: they are too few, or have an offset or a count that no batch has.
pub fn parse_header(bytes: &[u8]) -> Option<Header> {
    let field = |at: usize| bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map(i32::from_be_bytes);
    let long = |at: usize| bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map(i64::from_be_bytes);
    let epoch = bytes.get(51..53)?.try_into().ok().map(i16::from_be_bytes)?;
    let origin = Origin { producer_id: long(43)?, producer_epoch: epoch, first_sequence: field(53)? };
    let last_delta = u32::try_from(field(23)?).ok()?;
    let base = long(0).filter(|base| (0..=LAST_OFFSET).contains(base))?;
    Some(Header { base, count: last_delta + 1, origin })
}

/// How long the batch is that bytes of a log begin with; None: shorter than its own header.
pub fn batch_len(bytes: &[u8]) -> Option<usize> {
    let len = i32::from_be_bytes(bytes.get(8..12)?.try_into().ok()?);
    usize::try_from(len).ok().map(|len| len.saturating_add(12)).filter(|len| *len >= HEADER_BYTES)
}

/// Gives the whole batches that a slice begins with; how long the one is that was cut, as far as it can be told.
pub fn whole_batches(bytes: &[u8], give: &mut dyn FnMut(Header, &[u8])) -> Option<usize> {
    let mut rest = bytes;
    loop {
        let (header, len) = parse_header(rest).zip(batch_len(rest))?;
        let Some((batch, more)) = rest.split_at_checked(len) else { return Some(len) };
        give(header, batch);
        rest = more;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use fluvio_protocol::link::smartmodule::SmartModuleTransformRuntimeError;

    use super::*;
    use crate::sinks::fluvio::captures::{Capture, frames};

    /// The answer with this correlation id, without it.
    fn body(frame: &[u8]) -> &[u8] {
        &frame[4..]
    }

    fn marker() -> Origin {
        Origin { producer_id: 0x1122_3344_5566_7788, producer_epoch: 0x0102, first_sequence: 0x0304_0506 }
    }

    #[test]
    fn headers_of_a_real_spu_are_read() {
        let (_, answers) = frames(Capture::FetchHeaderWalk);
        let walk: Vec<_> = [0, 1, 1249, 2497]
            .into_iter()
            .zip(&answers)
            .map(|(at, frame)| read_header(body(frame), "edge", 0, at).unwrap().unwrap().unwrap())
            .map(|h| (h.base, h.count))
            .collect();
        assert_eq!(walk, [(0, 1), (1, 1248), (1249, 1248), (2497, 1248)]);
    }

    #[test]
    fn a_marker_that_a_real_spu_stored_comes_back_and_past_the_end_is_none() {
        let (_, answers) = frames(Capture::FetchOneShot);
        let found = read_header(body(&answers[2]), "t1", 0, 113).unwrap().unwrap().unwrap();
        assert_eq!(found, Header { base: 108, count: 20, origin: marker() });
        assert_eq!(read_header(body(&answers[3]), "t1", 0, 200).unwrap().unwrap(), None);
    }

    #[test]
    fn no_answer_panics_however_it_is_cut_or_bent() {
        let (_, mut answers) = frames(Capture::FetchOneShot);
        answers.extend(frames(Capture::ProduceNone).1);
        let mut rng = crate::backoff::Rng::new(7);
        for frame in &answers {
            for cut in 0..frame.len().min(200) {
                let mut bent = frame[..cut].to_vec();
                if let Some(byte) = bent.get_mut(rng.below(cut as u64) as usize) {
                    *byte ^= 1 << rng.below(8);
                }
                let _ = read_header(&bent, "t1", 0, 5);
                let _ = read_produced(&bent, "t1", 0);
                let _ = read_offsets(&bent, "t1", 0);
                let _ = read_api_versions(&bent);
            }
        }
    }

    #[test]
    fn a_slice_of_a_real_spu_gives_its_whole_batches_wherever_it_is_cut() {
        let (_, answers) = frames(Capture::FetchOneShot);
        let log = read_fetched(&answers[1][4..], "t1", 0, 0).unwrap().unwrap();
        let ends = |bytes: &[u8]| {
            let mut ends = Vec::new();
            let cut = whole_batches(bytes, &mut |header, batch| ends.push((header.end(), batch.len())));
            (ends, cut)
        };
        let (all, _) = ends(log);
        assert!(!all.is_empty());
        for cut in 0..log.len() {
            let (some, missing) = ends(&log[..cut]);
            let have: usize = some.iter().map(|(_, len)| len).sum();
            assert_eq!(some, all[..some.len()]);
            if let Some(len) = missing {
                assert!(have + len > cut, "the next one takes {len} bytes");
            }
        }
    }

    #[test]
    fn offsets_that_no_log_has_are_refused_before_anybody_counts_on_from_them() {
        let (_, answers) = frames(Capture::FetchOneShot);
        let mut log = read_fetched(body(&answers[1]), "t1", 0, 0).unwrap().unwrap().to_vec();
        for (base, there) in [(0, true), (LAST_OFFSET, true), (LAST_OFFSET + 1, false), (-1, false), (i64::MIN, false)]
        {
            log[..8].copy_from_slice(&base.to_be_bytes());
            assert_eq!(parse_header(&log).is_some(), there, "{base}");
        }
        for log_end in [i64::MIN, -2, LAST_OFFSET + 1, i64::MAX] {
            let mut told = Vec::new();
            Kept::Has { newest: None, log_end }.write(&mut told);
            assert!(matches!(read_producer(&told), Err(Malformed::NoOffset(n)) if n == log_end));
        }
    }

    #[test]
    fn a_duration_beyond_all_durations_is_no_panic() {
        let longest = read::<Option<Duration>>(&[[1].as_slice(), &[0xff; 12]].concat(), SC_VERSION).unwrap();
        assert!(longest.is_some_and(|d| d > Duration::from_secs(u64::MAX - 5)));
        assert_eq!(read::<Duration>(&[0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 1], SC_VERSION).unwrap(), Duration::new(7, 1));
        assert!(read::<Duration>(&[0xff; 11], SC_VERSION).is_err());
    }

    #[test]
    fn the_record_beside_an_error_is_as_long_as_what_is_there_or_the_answer_is_refused() {
        let record = SmartModuleTransformRuntimeError {
            hint: "h".into(),
            record_key: Some("key".into()),
            record_value: "value".into(),
            ..Default::default()
        };
        let code = ErrorCode::SmartModuleRuntimeError(Box::new(record));
        let mut whole = Vec::new();
        code.encode(&mut whole, SPU_VERSION).unwrap();
        assert_eq!(read::<ErrorCode>(&whole, SPU_VERSION).unwrap(), code);
        let value_at = whole.len() - 6;
        for len in [&[1][..], &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01], &[0xff; 12], &[12]] {
            let bent = [&whole[..value_at], len, b"value"].concat();
            assert!(read::<ErrorCode>(&bent, SPU_VERSION).is_err(), "{len:?}");
        }
    }

    #[test]
    fn a_batch_is_no_shorter_than_its_header() {
        let mut log = vec![0; 200];
        for (len, there) in [(0, false), (48, false), (49, true), (1000, true), (-1, false)] {
            log[8..12].copy_from_slice(&i32::to_be_bytes(len));
            assert_eq!(batch_len(&log).is_some(), there, "{len}");
        }
    }
}
