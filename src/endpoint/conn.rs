//! One connection: requests in order, answers whole, everything it started ends with it.
//!
//! A peer that does nothing costs a connection, so everything that it owes has a deadline (see [`Patience`]): its TLS
//! handshake, its first request, the rest of a request that has begun, taking an answer. After that it may be silent for
//! as long as it likes; one whose host is gone is found by keepalive.
//!
//! Answers to streams and watches are made a few at a time, however many of them there are: those of a peer that takes
//! nothing wait as places in a queue, not as bytes. Those with records have shares of what all connections have together, until
//! they are sent: many readers that take nothing cost memory no more than a few, and others wait until they are dropped.

use std::cell::Cell;
use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, Notify, Semaphore, SemaphorePermit};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::access::Client;
use super::sc::Sc;
use super::spu::Spu;
use super::wire::{Header, read_frame};
use super::{Port, Shared};
use crate::codec::Malformed;
use crate::hub::{Store, counters};

/// How long a peer is waited for.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For its TLS handshake.
    pub handshake: Duration,
    /// For its first request: clients greet at once.
    pub first: Duration,
    /// For the rest of a request that has begun.
    pub request: Duration,
    /// For taking an answer, all of it.
    pub answer: Duration,
    /// For a topic that takes nothing, by a large request: with all connections but one in its way, and two of the largest
    /// at a time, the last one still gets its turn within what it has for a request.
    pub room: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        let [handshake, first, request, answer, room] = [10, 30, 60, 60, 1].map(Duration::from_secs);
        Self { handshake, first, request, answer, room }
    }
}

/// Answers of one connection's streams and watches that are in memory together.
const ANSWERS: usize = 2;
/// What is read ahead of a request.
const READ_AHEAD: usize = 8 * 1024;

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
pub enum Close {
    #[error("{0}")]
    Malformed(String),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("{0}")]
    Handshake(String),
    #[error("the node shuts down")]
    Stopping,
}

impl From<Malformed> for Close {
    fn from(error: Malformed) -> Self {
        Close::Malformed(error.to_string())
    }
}

impl Close {
    /// A request that is not understood; there is no answer that its sender could read.
    pub fn unread(header: Header, oversize: bool) -> Self {
        let why = if oversize { "is too large" } else { "is not read by this node" };
        Close::Malformed(format!("request {} version {} {why}", header.key, header.version))
    }
}

/// The way back to a client, shared by everything that answers it.
pub struct Peer {
    writer: Mutex<Box<dyn AsyncWrite + Unpin>>,
    within: Duration,
    broken: Cell<bool>,
    slow: Cell<bool>,
    wake: Notify,
    turns: Semaphore,
    store: Store,
}

impl Peer {
    fn new(writer: Box<dyn AsyncWrite + Unpin>, within: Duration, store: Store) -> Self {
        Self {
            writer: Mutex::new(writer),
            within,
            broken: Cell::new(false),
            slow: Cell::new(false),
            wake: Notify::new(),
            turns: Semaphore::new(ANSWERS),
            store,
        }
    }

    /// Why nothing more can be sent.
    fn end(&self) -> io::ErrorKind {
        if self.slow.get() { io::ErrorKind::TimedOut } else { io::ErrorKind::BrokenPipe }
    }

    /// Held while an answer that nobody waits for is made and sent.
    pub async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        // Never closed.
        self.turns.acquire().await.ok()
    }

    /// Writes one whole answer. After a failure the stream may stand in the middle of a frame, so nothing is sent any
    /// more and the connection ends.
    pub async fn send(&self, answer: Vec<u8>) -> Result<(), Close> {
        let mut writer = self.writer.lock().await;
        if self.broken.get() {
            return Err(io::Error::from(self.end()).into());
        }
        // Broken until proven whole: this future may be dropped half-way.
        self.broken.set(true);
        let whole = async {
            writer.write_all(&answer).await?;
            // TLS keeps what the socket did not take.
            writer.flush().await
        };
        let written = timeout(self.within, whole).await;
        match written.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(()) => {
                self.broken.set(false);
                self.store.count(counters::SENT_BYTES, answer.len() as u64);
                Ok(())
            }
            Err(error) => {
                if error.kind() == io::ErrorKind::TimedOut {
                    self.slow.set(true);
                }
                self.wake.notify_one();
                Err(error.into())
            }
        }
    }
}

enum Side {
    Sc(Sc),
    Spu(Spu),
}

/// Counts a connection while it lives.
struct Open<'s>(&'s Shared);

impl<'s> Open<'s> {
    fn new(shared: &'s Shared) -> Self {
        shared.connections.set(shared.connections.get() + 1);
        shared.say_connections();
        Self(shared)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.connections.set(self.0.connections.get() - 1);
        self.0.say_connections();
    }
}

/// Serves a client until it leaves, breaks the protocol, or the node shuts down.
pub async fn serve(stream: TcpStream, port: Port, shared: Rc<Shared>) {
    let _open = Open::new(&shared);
    shared.store.count(counters::CONNECTS, 1);
    let Ok(from) = stream.peer_addr() else { return };
    let from = from.ip().to_canonical();
    let ended = match open(stream, from, port, &shared).await {
        Err(error) => Err(error),
        Ok((mut read, peer, mut side)) => requests(&mut read, &mut side, &peer, &shared).await,
    };
    let Err(close) = ended else { return };
    tracing::debug!(%from, "endpoint: connection closed: {close}");
    match close {
        Close::Stopping => {}
        Close::Io(error) if error.kind() == io::ErrorKind::TimedOut => shared.store.count(counters::TIMED_OUT, 1),
        Close::Io(error) if error.kind() != io::ErrorKind::InvalidData => {}
        Close::Handshake(why) => {
            shared.store.count(counters::HANDSHAKES_FAILED, 1);
            shared.refused(format!("{from} {why}"));
        }
        Close::Io(_) | Close::Malformed(_) => {
            shared.store.count(counters::MALFORMED, 1);
            shared.refused(format!("{from} sent {close}"));
        }
    }
}

type Reading = BufReader<Box<dyn AsyncRead + Unpin>>;

async fn open(
    stream: TcpStream,
    from: IpAddr,
    port: Port,
    shared: &Rc<Shared>,
) -> Result<(Reading, Rc<Peer>, Side), Close> {
    stream.set_nodelay(true)?;
    keep_alive(&stream);
    let reached = stream.local_addr()?;
    let (read, write, name): (Box<dyn AsyncRead + Unpin>, Box<dyn AsyncWrite + Unpin>, _) = match &shared.tls {
        None => {
            let (read, write) = stream.into_split();
            (Box::new(read), Box::new(write), None)
        }
        Some(tls) => {
            let accepted = tls.accept(stream, shared.patience.handshake, shared.store.now()).await;
            let (stream, name) = accepted.map_err(Close::Handshake)?;
            let (read, write) = tokio::io::split(stream);
            (Box::new(read), Box::new(write), name)
        }
    };
    let client = Rc::new(Client::new(from, name, &shared.allow));
    let peer = Rc::new(Peer::new(write, shared.patience.answer, shared.store.clone()));
    let (to, shared) = (Rc::clone(&peer), Rc::clone(shared));
    let side = match port {
        Port::Sc => Side::Sc(Sc { spu: shared.spu_address(reached), shared, peer: to, client }),
        Port::Spu => Side::Spu(Spu::new(shared, to, client)),
    };
    Ok((BufReader::with_capacity(READ_AHEAD, read), peer, side))
}

/// A client whose host lost its power must not hold one of the few connections for ever. Where the option cannot be
/// set the connection works all the same.
fn keep_alive(stream: &TcpStream) {
    use rustix::net::sockopt;
    let _ = sockopt::set_socket_keepalive(stream, true);
    let _ = sockopt::set_tcp_keepidle(stream, Duration::from_secs(60));
    let _ = sockopt::set_tcp_keepintvl(stream, Duration::from_secs(15));
    let _ = sockopt::set_tcp_keepcnt(stream, 4);
}

async fn requests(read: &mut Reading, side: &mut Side, peer: &Peer, shared: &Shared) -> Result<(), Close> {
    // Dropped on return, which ends its tasks.
    let mut tasks = JoinSet::new();
    let mut greeted = false;
    loop {
        while tasks.try_join_next().is_some() {}
        let next = async {
            if let Side::Spu(spu) = &*side {
                spu.place().await;
            }
            read_frame(read, &shared.requests, shared.patience.request).await
        };
        let frame = tokio::select! {
            frame = next => frame?,
            () = peer.wake.notified() => return Err(io::Error::from(peer.end()).into()),
            () = sleep(shared.patience.first), if !greeted => return Err(io::Error::from(io::ErrorKind::TimedOut).into()),
            () = shared.store.stopping() => return Err(Close::Stopping),
        };
        greeted = true;
        let Some(frame) = frame else { return Ok(()) };
        let handled = async {
            match side {
                Side::Sc(sc) => sc.handle(frame, &mut tasks).await,
                Side::Spu(spu) => spu.handle(frame, &mut tasks).await,
            }
        };
        tokio::select! {
            done = handled => done?,
            () = shared.store.stopping() => return Err(Close::Stopping),
        }
    }
}
