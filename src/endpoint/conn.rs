//! One connection: requests in order, answers whole, everything it started ends with it.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::{Mutex, Notify};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::sc::Sc;
use super::spu::Spu;
use super::wire::{Header, Malformed, read_frame};
use super::{Port, Shared};
use crate::hub::counters;

/// A peer that takes nothing for this long is gone.
const WRITE_DEADLINE: Duration = Duration::from_secs(60);
/// What is read ahead of a request.
const READ_AHEAD: usize = 8 * 1024;

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
pub enum Close {
    #[error("{0}")]
    Malformed(String),
    #[error(transparent)]
    Io(#[from] io::Error),
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
    writer: Mutex<OwnedWriteHalf>,
    broken: Cell<bool>,
    wake: Notify,
    sent: Cell<u64>,
}

impl Peer {
    fn new(writer: OwnedWriteHalf) -> Self {
        Self { writer: Mutex::new(writer), broken: Cell::new(false), wake: Notify::new(), sent: Cell::new(0) }
    }

    /// Writes one whole answer. After a failure the stream may stand in the middle of a frame, so nothing is sent any
    /// more and the connection ends.
    pub async fn send(&self, answer: Vec<u8>) -> Result<(), Close> {
        let mut writer = self.writer.lock().await;
        if self.broken.get() {
            return Err(io::Error::from(io::ErrorKind::BrokenPipe).into());
        }
        // Broken until proven whole: this future may be dropped half-way.
        self.broken.set(true);
        let written = timeout(WRITE_DEADLINE, writer.write_all(&answer)).await;
        match written.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(()) => {
                self.broken.set(false);
                self.sent.set(self.sent.get() + answer.len() as u64);
                Ok(())
            }
            Err(error) => {
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

/// Serves a client until it leaves, breaks the protocol, or the node shuts down.
pub async fn serve(stream: TcpStream, port: Port, shared: Rc<Shared>) {
    shared.store.count(counters::CONNECTS, 1);
    let from = stream.peer_addr();
    let peer;
    let ended = match prepare(stream, port, &shared) {
        Err(error) => Err(error.into()),
        Ok((mut read, to, mut side)) => {
            peer = to;
            let ended = requests(&mut read, &mut side, &peer, &shared).await;
            shared.store.count(counters::SENT_BYTES, peer.sent.get());
            ended
        }
    };
    match ended {
        Ok(()) | Err(Close::Stopping) => {}
        Err(Close::Io(error)) if error.kind() != io::ErrorKind::InvalidData => {
            tracing::debug!(?from, "endpoint: connection ended: {error}");
        }
        Err(error) => {
            shared.store.count(counters::MALFORMED, 1);
            tracing::debug!(?from, "endpoint: connection closed: {error}");
        }
    }
}

type Prepared = (BufReader<tokio::net::tcp::OwnedReadHalf>, Rc<Peer>, Side);

fn prepare(stream: TcpStream, port: Port, shared: &Rc<Shared>) -> io::Result<Prepared> {
    stream.set_nodelay(true)?;
    keep_alive(&stream);
    let reached = stream.local_addr()?;
    let (read, write) = stream.into_split();
    let peer = Rc::new(Peer::new(write));
    let side = match port {
        Port::Sc => {
            Side::Sc(Sc { spu: shared.spu_address(reached), shared: Rc::clone(shared), peer: Rc::clone(&peer) })
        }
        Port::Spu => Side::Spu(Spu::new(Rc::clone(shared), Rc::clone(&peer))),
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

async fn requests(
    read: &mut BufReader<tokio::net::tcp::OwnedReadHalf>,
    side: &mut Side,
    peer: &Peer,
    shared: &Shared,
) -> Result<(), Close> {
    // Dropped on return, which ends its tasks.
    let mut tasks = JoinSet::new();
    loop {
        while tasks.try_join_next().is_some() {}
        let frame = tokio::select! {
            frame = read_frame(read, &shared.budget) => frame?,
            () = peer.wake.notified() => return Err(io::Error::from(io::ErrorKind::BrokenPipe).into()),
            () = shared.store.stopping() => return Err(Close::Stopping),
        };
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
