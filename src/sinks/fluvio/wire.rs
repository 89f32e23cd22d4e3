//! Requests as bytes, answers as values.
//!
//! ```text
//! request   i32 length │ u16 api key, i16 version, i32 correlation, string client id │ body
//! answer    i32 length │ i32 correlation │ body
//! ```
//!
//! What carries records is written and read here by hand: a batch is encoded once, into the request itself, and the 61
//! bytes of a header are no record set that an official decoder would take. The rest goes through the official wire
//! crates. Their decoders trust lengths, so frames are capped before they are read.

use std::io;

use fluvio_protocol::api::Request;
use fluvio_protocol::link::ErrorCode;
use fluvio_protocol::link::versions::{ApiVersionsRequest, ApiVersionsResponse};
use fluvio_protocol::{Decoder, Encoder};
use fluvio_spu_schema::produce::ProduceResponse;
use fluvio_spu_schema::server::fetch_offset::{FetchOffsetsRequest, FetchOffsetsResponse};

use super::encode::{self, CompressError, Records};
use crate::config::model::Compression;
use crate::forward::turn::{Ask, Kept, Newest, OUT_OF_TURN, PRODUCERS, PRODUCERS_VERSION};
use crate::forward::{Batch, Header, Reject};
use crate::record::Origin;

/// The version of the SPU's messages that we speak, and of the SC's.
pub const SPU_VERSION: i16 = 25;
pub const SC_VERSION: i16 = 19;
pub const PRODUCE: u16 = 0;
pub const FETCH: u16 = 1;
pub const FETCH_OFFSETS: u16 = 1002;
pub const WATCH: u16 = 1004;
pub const CREATE: u16 = 1001;
pub const DELETE: u16 = 1002;

/// How every client names itself.
pub const CLIENT_ID: &str = "headwater";

/// Exactly a batch header and the first four bytes after it: what a fetch is cut to.
const HEADER_BYTES: i32 = 61;

fn begin(key: u16, version: i16, correlation: i32) -> Vec<u8> {
    let mut out = vec![0; 4];
    out.extend_from_slice(&key.to_be_bytes());
    out.extend_from_slice(&version.to_be_bytes());
    out.extend_from_slice(&correlation.to_be_bytes());
    string(&mut out, CLIENT_ID);
    out
}

fn end(mut out: Vec<u8>) -> Vec<u8> {
    let len = (out.len() - 4) as i32;
    out[..4].copy_from_slice(&len.to_be_bytes());
    out
}

fn string(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as i16).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn i32s(out: &mut Vec<u8>, values: &[i32]) {
    for value in values {
        out.extend_from_slice(&value.to_be_bytes());
    }
}

/// Any request of the official crates.
pub fn request(key: u16, version: i16, correlation: i32, body: &impl Encoder) -> io::Result<Vec<u8>> {
    let mut out = begin(key, version, correlation);
    body.encode(&mut out, version)?;
    Ok(end(out))
}

pub fn api_versions(correlation: i32) -> io::Result<Vec<u8>> {
    let body = ApiVersionsRequest {
        client_version: env!("CARGO_PKG_VERSION").into(),
        client_os: std::env::consts::OS.into(),
        client_arch: std::env::consts::ARCH.into(),
    };
    request(ApiVersionsRequest::API_KEY, ApiVersionsRequest::DEFAULT_API_VERSION, correlation, &body)
}

/// One batch for one partition. `committed`: answered when every replica has it.
pub struct Produce<'a> {
    pub topic: &'a str,
    pub partition: u32,
    pub committed: bool,
    pub timeout_ms: i32,
    pub compression: Compression,
}

impl Produce<'_> {
    pub fn encode(&self, correlation: i32, batch: &Batch, records: &mut Records) -> Result<Vec<u8>, CompressError> {
        let mut out = begin(PRODUCE, SPU_VERSION, correlation);
        // For an upstream that keeps count, as a transactional id; acks -1 waits for the high watermark, 1 for the leader.
        out.push(u8::from(batch.turn.is_some()));
        if let Some(turn) = batch.turn {
            string(&mut out, &turn.to_text());
        }
        out.extend_from_slice(&if self.committed { -1_i16 } else { 1 }.to_be_bytes());
        i32s(&mut out, &[self.timeout_ms, 1]);
        string(&mut out, self.topic);
        i32s(&mut out, &[1, self.partition as i32]);
        let at = out.len();
        i32s(&mut out, &[0]);
        encode::batch(&mut out, batch, records, self.compression)?;
        let len = (out.len() - at - 4) as i32;
        out[at..at + 4].copy_from_slice(&len.to_be_bytes());
        // No SmartModules.
        i32s(&mut out, &[0]);
        Ok(end(out))
    }
}

/// The first offset and the high watermark of a partition.
pub fn offsets(correlation: i32, topic: &str, partition: u32) -> io::Result<Vec<u8>> {
    request(FETCH_OFFSETS, SPU_VERSION, correlation, &FetchOffsetsRequest::new(topic.into(), partition))
}

/// The header of the batch that holds `at`, replicated or not.
pub fn header(correlation: i32, topic: &str, partition: u32, at: i64) -> Vec<u8> {
    fetch(correlation, topic, partition, at, HEADER_BYTES)
}

/// So many bytes of the log from the batch on that holds `at`, replicated or not; the last batch may be cut.
pub fn fetch(correlation: i32, topic: &str, partition: u32, at: i64, most: i32) -> Vec<u8> {
    let mut out = begin(FETCH, SPU_VERSION, correlation);
    i32s(&mut out, &[500, 1, most]);
    // ReadUncommitted.
    out.push(0);
    i32s(&mut out, &[1]);
    string(&mut out, topic);
    i32s(&mut out, &[1, partition as i32, -1]);
    out.extend_from_slice(&at.to_be_bytes());
    out.extend_from_slice(&(-1_i64).to_be_bytes());
    i32s(&mut out, &[most, 0]);
    end(out)
}

/// What an upstream that is a node has of a producer.
pub fn producer(correlation: i32, topic: &str, partition: u32, producer_id: i64, ring: u128) -> Vec<u8> {
    let mut out = begin(PRODUCERS, PRODUCERS_VERSION, correlation);
    Ask { topic, partition, producer_id, ring: Some(ring) }.write(&mut out);
    end(out)
}

/// A peer's answer that is not one.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    #[error("answer cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    #[error("answer speaks of another partition")]
    OtherPartition,
}

/// An error code inside an answer.
pub type Coded<T> = Result<T, ErrorCode>;

pub fn read<T: Decoder>(mut body: &[u8], version: i16) -> Result<T, Malformed> {
    Ok(T::decode_from(&mut body, version)?)
}

pub fn read_api_versions(body: &[u8]) -> Result<ApiVersionsResponse, Malformed> {
    read(body, ApiVersionsRequest::DEFAULT_API_VERSION)
}

pub fn read_produced(body: &[u8], topic: &str, partition: u32) -> Result<Coded<i64>, Malformed> {
    let response: ProduceResponse = read(body, SPU_VERSION)?;
    let part = response.find_partition_response(topic, partition).ok_or(Malformed::OtherPartition)?;
    Ok(coded(part.error_code.clone(), part.base_offset))
}

pub fn read_offsets(body: &[u8], topic: &str, partition: u32) -> Result<Coded<(i64, i64)>, Malformed> {
    let response: FetchOffsetsResponse = read(body, SPU_VERSION)?;
    let mut parts = response.topics.into_iter().filter(|t| t.name == topic).flat_map(|t| t.partitions);
    let part = parts.find(|p| p.partition_index == partition).ok_or(Malformed::OtherPartition)?;
    Ok(coded(part.error_code, (part.start_offset, part.last_stable_offset)))
}

fn coded<T>(code: ErrorCode, value: T) -> Coded<T> {
    if code.is_ok() { Ok(value) } else { Err(code) }
}

/// The newest batch that is kept of the producer, and the log's end.
pub fn read_producer(body: &[u8]) -> Result<Coded<(Option<Newest>, i64)>, Malformed> {
    match Kept::read(body).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))? {
        Kept::Has { newest, log_end } => Ok(Ok((newest, log_end))),
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
    let src = &mut &body[..];
    let get = |src: &mut &[u8]| -> io::Result<i32> { i32::decode_from(src, SPU_VERSION) };
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
    let records = src.get(..len.max(0) as usize).ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
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

/// The header that bytes of a log begin with.
pub fn parse_header(bytes: &[u8]) -> Option<Header> {
    let field = |at: usize| bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map(i32::from_be_bytes);
    let long = |at: usize| bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map(i64::from_be_bytes);
    let epoch = bytes.get(51..53)?.try_into().ok().map(i16::from_be_bytes)?;
    let origin = Origin { producer_id: long(43)?, producer_epoch: epoch, first_sequence: field(53)? };
    let last_delta = u32::try_from(field(23)?).ok()?;
    Some(Header { base: long(0)?, count: last_delta + 1, origin })
}

/// How long the batch is that bytes of a log begin with.
pub fn batch_len(bytes: &[u8]) -> Option<usize> {
    let len = i32::from_be_bytes(bytes.get(8..12)?.try_into().ok()?);
    usize::try_from(len).ok().map(|len| len.saturating_add(12))
}

#[cfg(test)]
mod tests {
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
    fn header_requests_are_the_bytes_that_a_real_spu_answered() {
        let (sent, _) = frames(Capture::FetchHeaderWalk);
        for (at, captured) in [0, 1, 1249, 2497].into_iter().zip(&sent) {
            let mut ours = header(7, "edge", 1, at);
            // The capture's client called itself "probe".
            ours.splice(12..14 + CLIENT_ID.len(), [0, 5].into_iter().chain(*b"probe"));
            let len = (ours.len() - 4) as i32;
            ours[..4].copy_from_slice(&len.to_be_bytes());
            let partition = ours.len();
            assert_eq!(partition, captured.len() + 4);
            let mut expected = captured.clone();
            expected.splice(0..0, (captured.len() as i32).to_be_bytes());
            // Partition 0 in the capture.
            let at_partition = 4 + 8 + 7 + 12 + 1 + 4 + 6 + 4;
            expected[at_partition..at_partition + 4].copy_from_slice(&1_i32.to_be_bytes());
            assert_eq!(ours, expected);
        }
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
    fn a_produce_request_is_the_bytes_that_a_real_spu_took() {
        let (sent, answers) = frames(Capture::ProduceNone);
        let captured = &sent[1];
        let mut records = Records::default();
        records.begin();
        for i in 0..20 {
            records.push(i, 0, None, format!("value-{}", i + 1).as_bytes());
        }
        let none = Origin { producer_id: -1, producer_epoch: -1, first_sequence: -1 };
        let ms = 0x01a2_0a55_3906;
        let batch = Batch {
            id: 1,
            marker: none,
            count: 20,
            records: 20,
            bytes: 0,
            base_ms: ms,
            max_ms: ms,
            last_seq: 1,
            turn: None,
        };
        let produce =
            Produce { topic: "t1", partition: 0, committed: false, timeout_ms: 1500, compression: Compression::None };
        let mut ours = produce.encode(1, &batch, &mut records).unwrap().split_off(4);
        // Another client id.
        ours.splice(8..10 + CLIENT_ID.len(), [0, 10].into_iter().chain(*b"FLUVIO_CLI"));
        assert_eq!(&ours, captured);
        assert_eq!(read_produced(body(&answers[1]), "t1", 0).unwrap().unwrap(), 0);
        assert!(matches!(read_produced(body(&answers[1]), "t2", 0), Err(Malformed::OtherPartition)));
    }

    #[test]
    fn offsets_are_asked_for_and_read_as_the_official_client_does() {
        let (sent, answers) = frames(Capture::ConsumeFrom95);
        let mut ours = offsets(1, "t1", 0).unwrap().split_off(4);
        ours.splice(8..10 + CLIENT_ID.len(), [0, 10].into_iter().chain(*b"FLUVIO_CLI"));
        assert_eq!(ours, sent[1]);
        assert_eq!(read_offsets(body(&answers[1]), "t1", 0).unwrap().unwrap(), (0, 100));
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
}
