//! Requests as bytes; [`super::answers`] as values.
//!
//! ```text
//! request   i32 length │ u16 api key, i16 version, i32 correlation, string client id │ body
//! answer    i32 length │ i32 correlation │ body
//! ```
//!
//! What carries records is written here by hand: a batch is encoded once, into the request itself. The rest goes through
//! the official wire crates.

use std::io;

use fluvio_protocol::Encoder;
use fluvio_protocol::api::Request;
use fluvio_protocol::link::versions::ApiVersionsRequest;
use fluvio_spu_schema::server::fetch_offset::FetchOffsetsRequest;

pub use super::answers::{
    Coded, HEADER_BYTES, Malformed, SC_VERSION, SPU_VERSION, batch_len, parse_header, read, read_api_versions,
    read_fetched, read_header, read_offsets, read_produced, read_producer, reject,
};
use super::encode::{self, CompressError, Records};
use crate::config::model::Compression;
use crate::forward::Batch;
use crate::forward::turn::{Ask, PRODUCERS, PRODUCERS_VERSION};

pub const PRODUCE: u16 = 0;
pub const FETCH: u16 = 1;
pub const FETCH_OFFSETS: u16 = 1002;
pub const WATCH: u16 = 1004;
pub const CREATE: u16 = 1001;
pub const DELETE: u16 = 1002;

/// How every client names itself.
pub const CLIENT_ID: &str = "headwater";

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
    fetch(correlation, topic, partition, at, HEADER_BYTES as i32)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Origin;
    use crate::sinks::fluvio::captures::{Capture, frames};

    /// The answer with this correlation id, without it.
    fn body(frame: &[u8]) -> &[u8] {
        &frame[4..]
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
}
