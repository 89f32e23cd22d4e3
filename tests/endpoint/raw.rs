//! What stands in a partition, read without any official client's consumer: its offsets, its records by one-shot
//! fetches, a stream frame by frame.

use std::net::SocketAddr;
use std::time::Duration;

use fluvio_protocol::Decoder;
use fluvio_protocol::record::{Batch, Record};

use super::produce::fetch_body;
use super::server::{Client, string};

/// Key (None: there is none) and value.
pub type Pair = (Option<Vec<u8>>, Vec<u8>);
/// The same at its offset.
pub type At = (i64, Option<Vec<u8>>, Vec<u8>);

const FETCH_BYTES: i32 = 1 << 20;
const OFFSET_EVICTED: u16 = 71;

/// Takes big-endian fields off an answer.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, n: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(n);
        self.0 = rest;
        taken
    }

    fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.take(2).try_into().unwrap())
    }

    fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.take(4).try_into().unwrap())
    }

    fn i64(&mut self) -> i64 {
        i64::from_be_bytes(self.take(8).try_into().unwrap())
    }

    fn string(&mut self) -> &'a [u8] {
        let len = self.u16();
        self.take(usize::from(len))
    }

    /// What is the same in the answers of a fetch and of a stream.
    fn partition(&mut self) -> Result<&'a [u8], Refused> {
        self.u32();
        match self.u16() {
            0 => {}
            2 => return Err(Refused::Words(String::from_utf8_lossy(self.string()).into_owned())),
            OFFSET_EVICTED => return Err(Refused::Evicted { offset: self.i64(), next: self.i64() }),
            code => return Err(Refused::Words(format!("code {code}"))),
        }
        self.take(8 + 8 + 8 + 1);
        let len = self.u32();
        Ok(self.take(len as usize))
    }
}

/// An error in an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    Evicted { offset: i64, next: i64 },
    Words(String),
}

/// The records of the whole batches that a set begins with; each batch is dense and its checksum right.
pub fn records_of(mut set: &[u8]) -> Vec<At> {
    let mut out = Vec::new();
    while let Some(len) = set.get(8..12).map(|len| u32::from_be_bytes(len.try_into().unwrap()) as usize + 12) {
        if set.len() < len {
            break;
        }
        let batch = Batch::<Vec<Record>>::decode_from(&mut set, 25).expect("a batch");
        assert!(batch.validate_decoding(), "the checksum of a batch");
        assert_eq!(batch.records().len() as i32, batch.header.last_offset_delta + 1, "a dense batch");
        for (at, record) in (batch.base_offset..).zip(batch.records()) {
            out.push((at, record.key.as_ref().map(|k| k.to_vec()), record.value.to_vec()));
        }
    }
    out
}

/// One fetch from `offset` on.
pub fn fetch(spu: SocketAddr, topic: &str, offset: i64) -> Result<Vec<At>, Refused> {
    let mut client = Client::connect(spu);
    client.request(1, 25, 1, &fetch_body(topic, 0, offset, FETCH_BYTES));
    let answer = client.answer(1);
    let mut fields = Fields(&answer);
    fields.take(4 + 2 + 4 + 4);
    assert_eq!(fields.string(), topic.as_bytes());
    fields.take(4);
    Ok(records_of(fields.partition()?))
}

/// All that is in partition 0, from its earliest on.
pub fn stored(spu: SocketAddr, topic: &str) -> Vec<At> {
    let (mut next, end) = offsets(spu, topic);
    let mut out = Vec::new();
    while next < end {
        let mut records = fetch(spu, topic, next).expect("records");
        // The first batch may begin before the offset.
        records.retain(|r| r.0 >= next);
        next = records.last().expect("a fetch below the end gives something").0 + 1;
        out.extend(records);
    }
    out
}

/// The earliest offset of partition 0, and the end.
pub fn offsets(spu: SocketAddr, topic: &str) -> (i64, i64) {
    let mut client = Client::connect(spu);
    let one = 1i32.to_be_bytes();
    client.request(1002, 25, 1, &[&one[..], &string(topic), &one, &[0; 4]].concat());
    let answer = client.answer(1);
    let mut fields = Fields(&answer);
    fields.take(4);
    assert_eq!(fields.string(), topic.as_bytes());
    fields.take(4 + 2 + 4);
    (fields.i64(), fields.i64())
}

/// A consumer's stream, an answer at a time.
pub struct RawStream {
    client: Client,
    id: u32,
}

impl RawStream {
    pub fn open(spu: SocketAddr, topic: &str, offset: i64) -> Self {
        let mut client = Client::connect(spu);
        let max_bytes = 1_048_890i32.to_be_bytes();
        let body = [&string(topic)[..], &[0; 4], &offset.to_be_bytes(), &max_bytes, &[0; 6]].concat();
        client.request(1003, 25, 1, &body);
        Self { client, id: 0 }
    }

    /// The next answer; None when there is none for a while.
    pub fn answer(&mut self, patience: Duration) -> Option<Result<Vec<At>, Refused>> {
        let answer = self.client.answer_within(1, patience)?;
        let mut fields = Fields(&answer);
        fields.string();
        self.id = fields.u32();
        Some(fields.partition().map(records_of))
    }

    /// Says where to go on.
    pub fn go_on(&mut self, offset: i64) {
        let body = [&1i32.to_be_bytes()[..], &offset.to_be_bytes(), &self.id.to_be_bytes()].concat();
        self.client.request(1005, 25, 2, &body);
        self.client.answer(2);
    }
}
