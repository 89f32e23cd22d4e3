//! A connection over a link: bound to its interface, counted, and no faster than its rate.
//!
//! What is counted is what carriers count, as far as it can be known from here: the bytes of the stream (below TLS) and the
//! packets that carry them. Headers and acknowledgements are reckoned from the amounts; what the kernel sends twice, and
//! name lookups, are not seen.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::time::{Sleep, sleep};

use crate::hub::Way;

/// Bytes of a packet's IPv4 and TCP headers with time stamps.
const HEADERS: u64 = 52;
/// Bytes of the stream in a full packet.
const SEGMENT: u64 = 1400;
/// SYN, SYN-ACK, ACK and what ends a connection: each way.
const HANDSHAKE: u64 = 2 * 60 + 2 * HEADERS;

thread_local! {
    static CAME: Cell<u64> = const { Cell::new(0) };
}

/// Bytes that came over all connections of this thread so far, whatever they were for: for who has no link to count them.
pub fn came() -> u64 {
    CAME.get()
}

/// Connects to `HOST:PORT` from `interface`, if there is to be a certain one.
pub async fn connect(address: &str, interface: Option<String>) -> io::Result<TcpStream> {
    let Some(interface) = interface else { return TcpStream::connect(address).await };
    let mut last = io::Error::new(io::ErrorKind::InvalidInput, "the name has no address");
    for address in lookup_host(address).await? {
        match connect_from(address, &interface).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn connect_from(address: SocketAddr, interface: &str) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.bind_device(Some(interface.as_bytes())).map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => {
            let text = format!("not allowed to use interface {interface}: this kernel wants CAP_NET_RAW for it");
            io::Error::new(error.kind(), text)
        }
        _ if error.raw_os_error() == Some(NO_DEVICE) => {
            io::Error::new(error.kind(), format!("there is no interface {interface} now"))
        }
        _ => error,
    })?;
    socket.connect(address).await
}

/// ENODEV
const NO_DEVICE: i32 = 19;

/// A stream over a link; without one it is the stream.
pub struct Metered<S> {
    stream: S,
    way: Option<Rc<Way>>,
    /// Until the rate has room again.
    wait: Option<Pin<Box<Sleep>>>,
    /// Bytes since the last full packet was reckoned, out and in.
    rest: (u64, u64),
}

impl<S> Metered<S> {
    pub fn new(stream: S, way: Option<Rc<Way>>) -> Self {
        if let Some(way) = &way {
            way.spend(HANDSHAKE, HANDSHAKE);
        }
        Self { stream, way, wait: None, rest: (0, 0) }
    }

    fn count(&mut self, out: u64, into: u64) {
        let Some(way) = &self.way else { return };
        // A packet for each write at least, and an acknowledgement for every second one.
        let packets = |bytes: u64, rest: &mut u64| {
            *rest += bytes;
            let full = *rest / SEGMENT;
            *rest %= SEGMENT;
            full + u64::from(bytes > 0 && full == 0)
        };
        let (sent, taken) = (packets(out, &mut self.rest.0), packets(into, &mut self.rest.1));
        let headers = |own: u64, theirs: u64| HEADERS * (own + theirs.div_ceil(2));
        way.spend(out + headers(sent, taken), into + headers(taken, sent));
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = out.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, out))?;
        let came = (out.filled().len() - before) as u64;
        CAME.set(CAME.get() + came);
        self.count(0, came);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            if let Some(wait) = &mut self.wait {
                ready!(wait.as_mut().poll(context));
                self.wait = None;
            }
            let granted = match self.way.as_ref().map_or(Ok(bytes.len()), |way| way.pace(bytes.len())) {
                Ok(granted) => granted,
                Err(wait) => {
                    self.wait = Some(Box::pin(sleep(wait.to_std())));
                    continue;
                }
            };
            let written = Pin::new(&mut self.stream).poll_write(context, &bytes[..granted]);
            let taken = match &written {
                Poll::Ready(Ok(taken)) => *taken,
                _ => 0,
            };
            if let Some(way) = self.way.as_ref().filter(|_| taken < granted) {
                way.give_back(granted - taken);
            }
            self.count(taken as u64, 0);
            return written;
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
