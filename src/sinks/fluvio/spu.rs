//! One SPU: a task that connects, sends requests as they come and hands their answers back.
//!
//! Requests of different partitions are in flight together; each partition has one at most of each stream of a lane, so the
//! channel's bound is never met. A request that is not answered in time ends the connection: what was asked on it is void, and what was
//! sent may or may not land (see `forward`). On a slow line what is in flight comes one behind the other: each answer gives
//! those that still wait their time again, and so does what the line takes of them, within [`LONGEST`]. A connection without work is closed after a while, so that a quiet node
//! holds none and a dead one is not found only when it is needed.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::mpsc;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::conn::{Line, Link, plain, read_frame};
use super::tls::Keeper;
use super::trouble::Trouble;
use super::wire::{FETCH, PRODUCE, SPU_VERSION};
use crate::config::model::FluvioSink;
use crate::forward::turn::PRODUCERS;
use crate::sinks::underway::Underway;

/// Answers to what a sink asks are small; batches never come back, only their headers.
const MAX_ANSWER: usize = 256 * 1024;
/// A connection with nothing to do is closed after this; over a link on demand after the second.
const IDLE: Duration = Duration::from_secs(600);
const IDLE_ON_DEMAND: Duration = Duration::from_secs(5);
/// While others are answered, or it is on its way, a request is waited for so many times as long: it is behind them, or forgotten.
const LONGEST: u32 = 10;
/// So often in that time the line is looked at.
const LOOKS: u32 = 8;

/// A request: its correlation id and its bytes.
pub struct Request {
    pub correlation: i32,
    pub frame: Vec<u8>,
}

/// What an SPU's task tells.
#[derive(Debug)]
pub enum SpuEvent {
    /// `counts`: it is a node, and keeps count of what it has of whom.
    Up {
        counts: bool,
    },
    /// None: closed because it was idle.
    Down(Option<Trouble>),
    Answer {
        correlation: i32,
        body: Vec<u8>,
    },
}

/// Runs one connection to its end, which is told.
pub async fn run(
    address: String,
    sink: FluvioSink,
    line: Line,
    requests: mpsc::Receiver<Request>,
    tell: impl AsyncFn(SpuEvent),
) {
    let end = match open(&address, &sink, &line).await {
        Ok(link) => {
            tell(SpuEvent::Up { counts: link.speaks(PRODUCERS).is_some() }).await;
            let idle = if line.way.is_some_and(|way| way.is_on_demand()) { IDLE_ON_DEMAND } else { IDLE };
            let after = sink.request_timeout.to_std();
            converse(link, (after, idle), line.tls.as_deref(), requests, &tell).await
        }
        Err(trouble) => Some(trouble),
    };
    tell(SpuEvent::Down(end)).await;
}

/// Connects, and makes sure that it is an SPU that speaks what we do.
pub(super) async fn open(address: &str, sink: &FluvioSink, line: &Line) -> Result<Link, Trouble> {
    let link = Link::open(address, sink, line).await?;
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
    (after, idle): (Duration, Duration),
    tls: Option<&Keeper>,
    mut requests: mpsc::Receiver<Request>,
    tell: &impl AsyncFn(SpuEvent),
) -> Option<Trouble> {
    let Link { address, stream, underway, .. } = link;
    let broken = |e: std::io::Error| Some(Trouble::Broken { address: address.clone(), reason: plain(&e) });
    let (read, mut write) = tokio::io::split(stream);
    // One frame is read at a time, and reading it is never given up half-way: the loop below drops and re-makes the
    // future only between frames.
    let mut read = BufReader::with_capacity(4096, read);
    let mut deadlines: BTreeMap<i32, Deadline> = BTreeMap::new();
    let mut progress = Progress { underway, last: 0 };
    let mut quiet_since = Instant::now();
    let files = tls.map(|tls| (tls, tls.generation()));
    let mut renewed = false;
    loop {
        if renewed && deadlines.is_empty() {
            // Between two requests: what waits is sent on the next connection, by the new certificate.
            return None;
        }
        let deadline = deadlines.values().map(|deadline| deadline.at).min();
        let wake = deadline.unwrap_or(quiet_since + idle);
        tokio::select! {
            () = renewal(files), if !renewed => renewed = true,
            request = requests.recv(), if !renewed => {
                let request = request?;
                match put(&mut write, &request.frame, after).await {
                    Ok(Ok(())) => {}
                    Ok(Err(e)) => return broken(e),
                    Err(_) => return Some(Trouble::Unanswered { address, after }),
                }
                // Its time begins when it is on its way: on a slow line it takes long to get there.
                progress.begin();
                deadlines.insert(request.correlation, Deadline::new(after));
                // Answers of the others could not be taken meanwhile.
                deadlines.values_mut().for_each(|deadline| deadline.at = deadline.at.max(Instant::now() + after / 2));
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
                    deadlines.values_mut().for_each(|deadline| deadline.again(after));
                    tell(SpuEvent::Answer { correlation, body }).await;
                }
            }
            () = sleep(after / LOOKS), if progress.last > 0 && !deadlines.is_empty() => if progress.is_made() {
                deadlines.values_mut().for_each(|deadline| deadline.again(after));
            },
            () = sleep_until(wake) => {
                // Nothing was asked for long: closed without trouble.
                deadline?;
                return Some(Trouble::Unanswered { address, after });
            }
        }
    }
}

/// Until when a request is waited for.
struct Deadline {
    at: Instant,
    last: Instant,
}

impl Deadline {
    fn new(after: Duration) -> Self {
        Self { at: Instant::now() + after, last: Instant::now() + after * LONGEST }
    }

    /// The line works.
    fn again(&mut self, after: Duration) {
        self.at = self.at.max(self.last.min(Instant::now() + after));
    }
}

/// What the line takes of what was written.
struct Progress {
    underway: Option<Underway>,
    /// Bytes that were on their way when it was last looked at.
    last: usize,
}

impl Progress {
    /// More was written.
    fn begin(&mut self) {
        self.last = self.underway.as_ref().and_then(Underway::bytes).unwrap_or(0);
    }

    /// Whether fewer are on their way than before.
    fn is_made(&mut self) -> bool {
        let before = self.last;
        self.begin();
        self.last < before
    }
}

/// Writes a frame; `after` is for each step forward. The outer error: it does not get any further.
async fn put(write: &mut (impl AsyncWrite + Unpin), frame: &[u8], after: Duration) -> Result<io::Result<()>, Elapsed> {
    let mut rest = frame;
    while !rest.is_empty() {
        match timeout(after, write.write(rest)).await? {
            Ok(0) => return Ok(Err(io::ErrorKind::WriteZero.into())),
            Ok(written) => rest = &rest[written..],
            Err(error) => return Ok(Err(error)),
        }
    }
    // What TLS holds of it.
    timeout(after, write.flush()).await
}

/// Returns when the files of TLS are others than those of `generation`.
async fn renewal(files: Option<(&Keeper, u64)>) {
    let Some((tls, generation)) = files else { return std::future::pending().await };
    while !tls.is_renewed(generation) {
        sleep(tls.look_every()).await;
    }
}

/// Whether bytes came (true) or the end did; takes nothing.
async fn ready(read: &mut BufReader<impl AsyncRead + Unpin>) -> std::io::Result<bool> {
    Ok(!read.fill_buf().await?.is_empty())
}
