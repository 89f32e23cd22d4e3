//! Reading what an SPU has stored: headers and slices of its log, one question at a time. For who compares; a sink itself
//! never takes a batch back.
//!
//! A slice is cut at the byte that was asked for, mostly in the middle of a batch: the one who reads drops the rest and asks
//! again from its base. The deadline is for each step forward, not for the whole of an answer: a slice over a slow line takes
//! as long as it takes.

use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::time::timeout;

pub use super::answers::whole_batches;
use super::conn::{Line, Link, plain, send};
use super::spu;
use super::trouble::Trouble;
use super::wire::{self, Coded, Malformed};
use crate::config::model::FluvioSink;
use crate::forward::Header;
use crate::limits::MAX_WIRE_FRAME;

/// An answer beside its records.
const AROUND: usize = 1024;
/// The most that a slice may be.
pub const MAX_SLICE: usize = MAX_WIRE_FRAME - AROUND;

pub struct Reading {
    link: Link,
    after: Duration,
    correlation: i32,
}

impl Reading {
    pub async fn open(address: &str, sink: &FluvioSink, line: &Line) -> Result<Self, Trouble> {
        let link = spu::open(address, sink, line).await?;
        Ok(Self { link, after: sink.request_timeout.to_std(), correlation: 1 })
    }

    fn broken(&self, reason: String) -> Trouble {
        Trouble::Broken { address: self.link.address.clone(), reason }
    }

    fn unanswered(&self) -> Trouble {
        Trouble::Unanswered { address: self.link.address.clone(), after: self.after }
    }

    fn number(&mut self) -> i32 {
        self.correlation = self.correlation.wrapping_add(1);
        self.correlation
    }

    async fn ask(&mut self, request: &[u8]) -> Result<Vec<u8>, Trouble> {
        let sent = timeout(self.after, send(&mut self.link.stream, request)).await;
        sent.map_err(|_| self.unanswered())?.map_err(|e| self.broken(plain(&e)))?;
        let mut head = [0; 8];
        let came = timeout(self.after, self.link.stream.read_exact(&mut head)).await;
        came.map_err(|_| self.unanswered())?.map_err(|e| self.broken(plain(&e)))?;
        let [a, b, c, d, w, x, y, z] = head;
        let len = usize::try_from(i32::from_be_bytes([a, b, c, d])).unwrap_or(0);
        if !(4..=MAX_WIRE_FRAME).contains(&len) || i32::from_be_bytes([w, x, y, z]) != self.correlation {
            return Err(self.broken(format!("an answer of {len} bytes to another question")));
        }
        let mut body = vec![0; len - 4];
        let mut have = 0;
        while have < body.len() {
            let came = timeout(self.after, self.link.stream.read(&mut body[have..])).await;
            match came.map_err(|_| self.unanswered())?.map_err(|e| self.broken(plain(&e)))? {
                0 => return Err(Trouble::Closed { address: self.link.address.clone() }),
                n => have += n,
            }
        }
        Ok(body)
    }

    fn told<T>(&self, what: &str, answer: Result<Coded<T>, Malformed>) -> Result<T, Trouble> {
        let answer = answer.map_err(|e| self.broken(format!("{what}: {e}")))?;
        answer.map_err(|code| self.broken(format!("{what}: {code}")))
    }

    /// The first offset and the high watermark.
    pub async fn offsets(&mut self, topic: &str, partition: u32) -> Result<(i64, i64), Trouble> {
        let request = wire::offsets(self.number(), topic, partition).map_err(|e| self.broken(plain(&e)))?;
        let body = self.ask(&request).await?;
        self.told(&format!("offsets of {topic}, partition {partition}"), wire::read_offsets(&body, topic, partition))
    }

    /// The header of the batch that holds `at`, and how long the batch is; None past the log end.
    pub async fn header(&mut self, topic: &str, partition: u32, at: i64) -> Result<Option<(Header, usize)>, Trouble> {
        let request = wire::header(self.number(), topic, partition, at);
        let body = self.ask(&request).await?;
        let bytes = self.told(&what(topic, partition, at), wire::read_fetched(&body, topic, partition, at))?;
        Ok(wire::parse_header(bytes).zip(wire::batch_len(bytes)))
    }

    /// `most` bytes of the log from the batch on that holds `at`.
    pub async fn slice(&mut self, topic: &str, partition: u32, at: i64, most: usize) -> Result<Vec<u8>, Trouble> {
        let most = most.min(MAX_SLICE) as i32;
        let request = wire::fetch(self.number(), topic, partition, at, most);
        let body = self.ask(&request).await?;
        let bytes = self.told(&what(topic, partition, at), wire::read_fetched(&body, topic, partition, at))?;
        Ok(bytes.to_vec())
    }
}

fn what(topic: &str, partition: u32, at: i64) -> String {
    format!("fetch of {topic}, partition {partition}, offset {at}")
}
