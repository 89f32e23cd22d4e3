//! One SPU: a task that connects, sends requests as they come and hands their answers back.
//!
//! Requests of different partitions are in flight together; each partition has one at most, so the channel's bound is
//! never met. A request that is not answered in time ends the connection: what was asked on it is void, and what was
//! sent may or may not land (see `forward`). A connection without work is closed after a while, so that a quiet node
//! holds none and a dead one is not found only when it is needed.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use super::conn::{Link, plain, read_frame, send};
use super::trouble::Trouble;
use super::wire::{FETCH, PRODUCE, SPU_VERSION};
use crate::config::model::FluvioSink;

/// Answers to what a sink asks are small; batches never come back, only their headers.
const MAX_ANSWER: usize = 256 * 1024;
/// A connection with nothing to do is closed after this.
const IDLE: Duration = Duration::from_secs(600);

/// A request: its correlation id and its bytes.
pub struct Request {
    pub correlation: i32,
    pub frame: Vec<u8>,
}

/// What an SPU's task tells.
#[derive(Debug)]
pub enum SpuEvent {
    Up,
    /// None: closed because it was idle.
    Down(Option<Trouble>),
    Answer {
        correlation: i32,
        body: Vec<u8>,
    },
}

/// Runs one connection to its end, which is told.
pub async fn run(address: String, sink: FluvioSink, requests: mpsc::Receiver<Request>, tell: impl AsyncFn(SpuEvent)) {
    let end = match open(&address, &sink).await {
        Ok(link) => {
            tell(SpuEvent::Up).await;
            converse(link, sink.request_timeout.to_std(), requests, &tell).await
        }
        Err(trouble) => Some(trouble),
    };
    tell(SpuEvent::Down(end)).await;
}

async fn open(address: &str, sink: &FluvioSink) -> Result<Link, Trouble> {
    let link = Link::open(address, sink).await?;
    let address = link.address.clone();
    match (link.speaks(PRODUCE), link.speaks(FETCH)) {
        (Some(produce), Some(fetch)) if produce.min(fetch) < SPU_VERSION => {
            Err(Trouble::TooOld { address, ours: SPU_VERSION, theirs: produce.min(fetch) })
        }
        (Some(_), Some(_)) => Ok(link),
        _ => Err(Trouble::IsSc { address }),
    }
}

async fn converse(
    link: Link,
    after: Duration,
    mut requests: mpsc::Receiver<Request>,
    tell: &impl AsyncFn(SpuEvent),
) -> Option<Trouble> {
    let Link { address, stream, .. } = link;
    let broken = |e: std::io::Error| Some(Trouble::Broken { address: address.clone(), reason: plain(&e) });
    let (read, mut write) = tokio::io::split(stream);
    // One frame is read at a time, and reading it is never given up half-way: the loop below drops and re-makes the
    // future only between frames.
    let mut read = BufReader::with_capacity(4096, read);
    let mut deadlines: BTreeMap<i32, Instant> = BTreeMap::new();
    let mut quiet_since = Instant::now();
    loop {
        let deadline = deadlines.values().min().copied();
        let wake = deadline.unwrap_or(quiet_since + IDLE);
        tokio::select! {
            request = requests.recv() => {
                let request = request?;
                deadlines.insert(request.correlation, Instant::now() + after);
                match timeout(after, send(&mut write, &request.frame)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(e)) => return broken(e),
                    Err(_) => return Some(Trouble::Unanswered { address, after }),
                }
            }
            ready = ready(&mut read) => {
                match ready {
                    Ok(true) => {}
                    Ok(false) => return Some(Trouble::Closed { address }),
                    Err(e) => return broken(e),
                }
                // The first bytes are here; the rest of the frame has the same deadline as an answer.
                let (correlation, body) = match timeout(after, read_frame(&mut read, MAX_ANSWER)).await {
                    Ok(Ok(frame)) => frame,
                    Ok(Err(e)) => return broken(e),
                    Err(_) => return Some(Trouble::Unanswered { address, after }),
                };
                quiet_since = Instant::now();
                if deadlines.remove(&correlation).is_some() {
                    tell(SpuEvent::Answer { correlation, body }).await;
                }
            }
            () = sleep_until(wake) => {
                // Nothing was asked for long: closed without trouble.
                deadline?;
                return Some(Trouble::Unanswered { address, after });
            }
        }
    }
}

/// Whether bytes came (true) or the end did; takes nothing.
async fn ready(read: &mut BufReader<impl AsyncRead + Unpin>) -> std::io::Result<bool> {
    Ok(!read.fill_buf().await?.is_empty())
}
