//! Bytes in: the frames of one connection.
//!
//! Requests are taken apart by [`crate::codec`].
//!
//! A frame is `i32` length, then `u16` key, `i16` version, `i32` correlation, the client id and the body, big-endian.
//! Its length is bounded by its key (only a produce is ever large); what is longer is read away in small pieces, its
//! first [`KEPT_OF_OVERSIZE`] bytes kept, so that the peer gets an answer that names its topic instead of a closed
//! connection that it would try again for ever. Large bodies of all connections share one [`Budget`],
//! and so do answers with records.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use super::keys;
use crate::codec::batch::MAX_BATCH;
use crate::codec::{Malformed, Reader};
use crate::limits::MAX_WIRE_FRAME;

/// The largest body of a request that is not a produce.
pub const SMALL_FRAME: usize = 64 * 1024;
/// The largest frame that is read away to answer it with an error; beyond it the connection is closed.
const MAX_OVERSIZE: usize = 64 * 1024 * 1024;
/// What is kept of a frame that is too large.
const KEPT_OF_OVERSIZE: usize = 4 * 1024;
/// The large frames of all connections together.
const REQUESTS: usize = 2 * MAX_WIRE_FRAME;
/// The answers with records of all connections together.
const ANSWERS: usize = 16 * MAX_BATCH;

const _: () = assert!(REQUESTS.is_multiple_of(1024) && ANSWERS.is_multiple_of(1024));

/// The fixed part of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub key: u16,
    pub version: i16,
    pub correlation: i32,
    /// Another node asks, by the name that its sink gives itself.
    pub node: bool,
}

/// One request as it came.
pub struct Frame<'b> {
    pub header: Header,
    body: Vec<u8>,
    body_at: usize,
    /// Only the beginning of the body is here: the request is too large for its kind.
    pub oversize: bool,
    share: Option<SemaphorePermit<'b>>,
}

impl Frame<'_> {
    pub fn body(&self) -> &[u8] {
        self.body.get(self.body_at..).unwrap_or_default()
    }

    /// Whether others may wait for what it takes of the budget.
    pub fn has_share(&self) -> bool {
        self.share.is_some()
    }
}

/// What all connections share.
pub struct Budget(Semaphore);

impl Budget {
    pub fn of_requests() -> Self {
        Self(Semaphore::new(REQUESTS / 1024))
    }

    pub fn of_answers() -> Self {
        Self(Semaphore::new(ANSWERS / 1024))
    }

    pub async fn share(&self, bytes: usize) -> Option<SemaphorePermit<'_>> {
        let kib = u32::try_from(bytes.div_ceil(1024)).ok()?;
        // Never closed, so the only answer is a permit.
        self.0.acquire_many(kib).await.ok()
    }
}

/// Reads the next frame; None at a clean end of the stream. One that has begun must be complete `within` this time: it
/// may hold a share of the budget.
pub async fn read_frame<'b, S>(stream: &mut S, budget: &'b Budget, within: Duration) -> io::Result<Option<Frame<'b>>>
where
    S: AsyncRead + Unpin,
{
    let mut start = [0; 4];
    if stream.read(&mut start[..1]).await? == 0 {
        return Ok(None);
    }
    timeout(within, read_started(stream, budget, start))
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "a request began and did not end in time"))?
        .map(Some)
}

async fn read_started<'b, S>(stream: &mut S, budget: &'b Budget, mut start: [u8; 4]) -> io::Result<Frame<'b>>
where
    S: AsyncRead + Unpin,
{
    stream.read_exact(&mut start[1..]).await?;
    let len = i32::from_be_bytes(start);
    let len = usize::try_from(len).ok().filter(|n| (10..=MAX_OVERSIZE).contains(n)).ok_or_else(|| {
        bad_frame(format!("a frame of {len} bytes; is the peer a Fluvio client, and does it speak without TLS?"))
    })?;
    let key = stream.read_u16().await?;
    let limit = if key == keys::PRODUCE || key == keys::STREAM_FETCH { MAX_WIRE_FRAME } else { SMALL_FRAME };
    let rest = len - 2;
    let oversize = len > limit;
    let keep = if oversize { KEPT_OF_OVERSIZE.min(rest) } else { rest };
    let share = if keep > SMALL_FRAME { budget.share(keep).await } else { None };
    // Grows with what arrives: a peer that only promises bytes costs nothing.
    let mut body = Vec::new();
    if (&mut *stream).take(keep as u64).read_to_end(&mut body).await? < keep {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if oversize {
        let left = (rest - keep) as u64;
        if tokio::io::copy(&mut (&mut *stream).take(left), &mut tokio::io::sink()).await? < left {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let mut reader = Reader::new(&body);
    let header = read_header(key, &mut reader).map_err(|e| bad_frame(e.to_string()))?;
    let body_at = body.len() - reader.remaining();
    Ok(Frame { header, body, body_at, oversize, share })
}

fn read_header(key: u16, reader: &mut Reader<'_>) -> Result<Header, Malformed> {
    let version = reader.i16("version")?;
    let correlation = reader.i32("correlation id")?;
    let node = reader.str("client id")? == keys::NODE;
    Ok(Header { key, version, correlation, node })
}

fn bad_frame(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame_bytes(key: u16, body: &[u8]) -> Vec<u8> {
        let mut inner = key.to_be_bytes().to_vec();
        inner.extend_from_slice(&25i16.to_be_bytes());
        inner.extend_from_slice(&7i32.to_be_bytes());
        inner.extend_from_slice(b"\x00\x02id");
        inner.extend_from_slice(body);
        let mut out = (inner.len() as i32).to_be_bytes().to_vec();
        out.extend_from_slice(&inner);
        out
    }

    async fn read_all(bytes: &[u8]) -> Vec<(Header, usize, bool)> {
        let budget = Budget::of_requests();
        let mut stream = bytes;
        let mut out = Vec::new();
        while let Ok(Some(frame)) = read_frame(&mut stream, &budget, Duration::MAX).await {
            out.push((frame.header, frame.body().len(), frame.oversize));
        }
        out
    }

    #[tokio::test(flavor = "current_thread")]
    async fn frames_come_apart_where_they_end() {
        let mut bytes = frame_bytes(keys::FETCH_OFFSETS, b"abc");
        bytes.extend(frame_bytes(keys::PRODUCE, &vec![0; 1_000_000]));
        let header = |key| Header { key, version: 25, correlation: 7, node: false };
        assert_eq!(
            read_all(&bytes).await,
            [(header(keys::FETCH_OFFSETS), 3, false), (header(keys::PRODUCE), 1_000_000, false)]
        );
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_frame_too_large_for_its_kind_keeps_its_beginning_and_the_next_is_read() {
        let mut bytes = frame_bytes(keys::FETCH, &vec![0; SMALL_FRAME]);
        bytes.extend(frame_bytes(keys::PRODUCE, &vec![0; MAX_WIRE_FRAME]));
        bytes.extend(frame_bytes(keys::FETCH, b"x"));
        let seen = read_all(&bytes).await;
        assert_eq!(seen.iter().map(|s| s.2).collect::<Vec<_>>(), [true, true, false]);
        assert!(seen[..2].iter().all(|s| s.1 <= KEPT_OF_OVERSIZE));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_length_that_cannot_be_is_refused() {
        for len in [0i32, -1, 9, i32::MAX] {
            let budget = Budget::of_requests();
            let mut bytes = len.to_be_bytes().to_vec();
            bytes.extend([0; 64]);
            assert!(read_frame(&mut &bytes[..], &budget, Duration::MAX).await.is_err(), "{len}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            runtime.block_on(read_all(&bytes));
            let mut reader = Reader::new(&bytes);
            while reader.varint("v").is_ok() && reader.str("s").is_ok() && reader.count(3, "c").is_ok() {}
        }
    }
}
