//! Listening: what `syslog` and `socket` share. Doors (UDP, TCP, Unix), who may come in, and how many at once.
//!
//! Each door opens, and is tried again, for itself: a port that is taken does not keep the others shut. While the disk
//! is behind nothing is read: TCP and Unix peers wait, UDP fills the kernel's buffer, and what the kernel then drops
//! is read from `/proc/net/udp` and counted as `lost_before_source`.
//!
//! Nothing here can be acknowledged to a peer: these protocols have no such word.

use std::cell::{Cell, RefCell};
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpStream, UdpSocket, UnixDatagram, UnixListener, UnixStream};
use tokio::task::JoinSet;

use super::{Inlet, SourceError};
use crate::backoff::Backoff;
use crate::config::model::{IpNet, Listen};
use crate::framing::{Framer, Framing};
use crate::hub::{PartState, counters};
use crate::record::AttrBuf;
use crate::time::{BootTime, Span};

/// What the kernel may hold of datagrams while the node is busy.
const RECEIVE_BUFFER: usize = 4 * 1024 * 1024;
/// Read at once from a connection.
const BLOCK: usize = 16 * 1024;
/// Datagrams, or lines of one connection, taken before others have their turn.
const TURN: usize = 128;
/// How often the kernel is asked what it dropped.
const DROPS_EVERY: Duration = Duration::from_secs(10);
const RETRY: (Span, Span) = (Span::from_secs(1), Span::from_secs(60));
/// Another peer that is kept out is told of after this.
const TELL_EVERY: Span = Span::from_secs(60);

/// Makes records of messages.
pub(super) trait Taker: 'static {
    /// One message or line; false: the node stops.
    async fn take(&self, bytes: &[u8], truncated: bool, peer: &Peer, attrs: &mut AttrBuf) -> bool;
}

/// Who sent it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Peer {
    Ip(IpAddr),
    Local,
}

/// What all doors of a source share.
pub(super) struct Service<T> {
    pub intake: Inlet,
    pub taker: T,
    pub allow: Vec<IpNet>,
    pub framing: Framing,
    /// Whether a Unix door takes datagrams rather than connections.
    pub unix_datagrams: bool,
    pub max: usize,
    pub max_connections: usize,
    connections: Cell<usize>,
    /// The last peer that `allow` kept out and was told of, and when.
    kept_out: Cell<Option<(IpAddr, BootTime)>>,
    doors: RefCell<Vec<(String, Door)>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Door {
    Opening,
    Open,
    Shut { why: String, retry: Span },
}

impl<T: Taker> Service<T> {
    pub fn new(intake: Inlet, taker: T, framing: Framing, max: usize) -> Self {
        Self {
            intake,
            taker,
            allow: Vec::new(),
            framing,
            unix_datagrams: false,
            max,
            max_connections: crate::limits::MAX_CONNECTIONS,
            connections: Cell::new(0),
            kept_out: Cell::new(None),
            doors: RefCell::default(),
        }
    }

    /// Serves all doors until the node stops.
    pub async fn serve(self, listen: &[Listen]) -> Result<(), SourceError> {
        let service = Rc::new(self);
        let mut tasks = JoinSet::new();
        for (index, door) in listen.iter().enumerate() {
            service.doors.borrow_mut().push((address_of(door), Door::Opening));
            tasks.spawn_local(keep_open(service.clone(), index, door.clone()));
        }
        service.intake.stopping().await;
        // Dropping the set ends every door and connection.
        Ok(())
    }

    fn set_door(&self, index: usize, door: Door) {
        self.doors.borrow_mut()[index].1 = door;
        self.report();
    }

    fn report(&self) {
        let state = state_of(&self.doors.borrow());
        self.intake.report(match (state, self.kept_out.get()) {
            (PartState::Up { what }, Some((ip, _))) => PartState::up(format!("{what}; `allow` keeps {ip} out")),
            (state, _) => state,
        });
    }

    fn allows(&self, ip: IpAddr) -> bool {
        self.allow.is_empty() || self.allow.iter().any(|net| net.contains(ip))
    }

    /// Counts it, and says now and then who it was: a device that somebody waits for, or one that should be quiet.
    fn keep_out(&self, ip: IpAddr) {
        self.intake.count(counters::TURNED_AWAY, 1);
        let now = self.intake.now().boot;
        if self.kept_out.get().is_none_or(|(last, at)| last != ip && now - at >= TELL_EVERY) {
            self.kept_out.set(Some((ip, now)));
            self.report();
        }
    }
}

fn address_of(listen: &Listen) -> String {
    match listen {
        Listen::Udp(address) => format!("udp://{address}"),
        Listen::Tcp(address) => format!("tcp://{address}"),
        Listen::Unix(path) => format!("unix://{}", path.display()),
    }
}

/// All doors in one sentence: down when none is open, a warning when some are not.
fn state_of(doors: &[(String, Door)]) -> PartState {
    let open: Vec<&str> = doors.iter().filter(|(_, d)| *d == Door::Open).map(|(a, _)| a.as_str()).collect();
    let mut shut = doors.iter().filter_map(|(_, door)| match door {
        Door::Shut { why, retry } => Some((why, *retry)),
        Door::Opening | Door::Open => None,
    });
    match shut.next() {
        Some((why, retry)) if open.is_empty() => PartState::down(why.clone(), Some(retry)),
        Some((why, _)) => PartState::warn(format!("{why}; listening on {}", open.join(", "))),
        None if open.is_empty() => PartState::Starting,
        None => PartState::up(format!("listening on {}", open.join(", "))),
    }
}

async fn keep_open<T: Taker>(service: Rc<Service<T>>, index: usize, listen: Listen) {
    let seed = service.intake.now().boot.0 as u64 ^ index as u64;
    let mut backoff = Backoff::new(RETRY.0, RETRY.1, seed);
    loop {
        let error = match listen_once(&service, index, &listen).await {
            Ok(()) => return,
            Err(e) => e,
        };
        let retry = backoff.next_wait();
        service.set_door(index, Door::Shut { why: error.to_string(), retry });
        tokio::time::sleep(retry.to_std()).await;
    }
}

async fn listen_once<T: Taker>(service: &Rc<Service<T>>, index: usize, listen: &Listen) -> Result<(), SourceError> {
    let failed = |e: std::io::Error| listen_error(listen, &e);
    match listen {
        Listen::Udp(address) => {
            let socket = UdpSocket::bind(address).await.map_err(failed)?;
            enlarge(&socket);
            service.set_door(index, Door::Open);
            datagrams(service, &Datagrams::Udp(socket)).await.map_err(failed)
        }
        Listen::Tcp(address) => {
            let listener = TcpListener::bind(address).await.map_err(failed)?;
            service.set_door(index, Door::Open);
            accept(service, &Listener::Tcp(listener)).await.map_err(failed)
        }
        Listen::Unix(path) if service.unix_datagrams => {
            let (socket, _file) = bind_unix(path, 0o666, |p| UnixDatagram::bind(p)).map_err(failed)?;
            service.set_door(index, Door::Open);
            datagrams(service, &Datagrams::Unix(socket)).await.map_err(failed)
        }
        Listen::Unix(path) => {
            let (listener, _file) = bind_unix(path, 0o660, |p| UnixListener::bind(p)).map_err(failed)?;
            service.set_door(index, Door::Open);
            accept(service, &Listener::Unix(listener)).await.map_err(failed)
        }
    }
}

/// Says which address, why, and what to do about it.
pub(super) fn listen_error(listen: &Listen, error: &std::io::Error) -> SourceError {
    let port = match listen {
        Listen::Udp(address) | Listen::Tcp(address) => Some(address.port()),
        Listen::Unix(_) => None,
    };
    let reason = match (error.kind(), port) {
        (ErrorKind::AddrInUse, Some(port)) => {
            format!("port {port} is taken by another program: `ss -lntup` shows which; stop it or choose another port")
        }
        (ErrorKind::AddrInUse, None) => "another program listens there: stop it or choose another path".into(),
        (ErrorKind::PermissionDenied, Some(port)) if port < 1024 => format!(
            "no permission: port {port} is below 1024 and needs CAP_NET_BIND_SERVICE (in the service's unit: AmbientCapabilities=CAP_NET_BIND_SERVICE); or choose a higher port"
        ),
        (ErrorKind::PermissionDenied, _) => "no permission: let the node's user write to the directory".into(),
        (ErrorKind::AddrNotAvailable, _) => "this machine has no such address (yet)".into(),
        (ErrorKind::NotFound, None) => "the directory does not exist: create it".into(),
        _ => error.to_string(),
    };
    SourceError::Listen { address: address_of(listen), reason }
}

/// The name of a Unix socket, removed with it: who connects afterwards is told that there is nobody. A file that took
/// its place is left alone.
struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    id: Option<(u64, u64)>,
}

impl SocketFile {
    fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), id: Self::id_at(path) }
    }

    fn id_at(path: &Path) -> Option<(u64, u64)> {
        std::fs::symlink_metadata(path).ok().map(|meta| (meta.dev(), meta.ino()))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.id.is_some() && Self::id_at(&self.path) == self.id {
            // Nothing to be done where it cannot be removed: the next start takes it over.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// A socket file that nobody answers on is what an earlier run left; one that answers is somebody's.
fn bind_unix<S>(
    path: &PathBuf,
    mode: u32,
    bind: impl Fn(&PathBuf) -> std::io::Result<S>,
) -> std::io::Result<(S, SocketFile)> {
    let socket = match bind(path) {
        Err(e) if e.kind() == ErrorKind::AddrInUse && is_stale(path) => {
            std::fs::remove_file(path)?;
            bind(path)?
        }
        other => other?,
    };
    let file = SocketFile::new(path);
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    Ok((socket, file))
}

fn is_stale(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket());
    let refused = |e: std::io::Error| e.kind() == ErrorKind::ConnectionRefused;
    let stream = std::os::unix::net::UnixStream::connect(path).err().is_some_and(refused);
    let datagram = std::os::unix::net::UnixDatagram::unbound().and_then(|s| s.connect(path)).err().is_some_and(refused);
    is_socket && stream && datagram
}

/// As much buffer as the kernel grants: the rights for more than `rmem_max` may be there or not.
fn enlarge(socket: &UdpSocket) {
    if sockopt::set_socket_recv_buffer_size_force(socket.as_fd(), RECEIVE_BUFFER).is_err() {
        let _granted = sockopt::set_socket_recv_buffer_size(socket.as_fd(), RECEIVE_BUFFER);
    }
}

// ---------------------------------------------------------------------------------------------- datagrams

enum Datagrams {
    Udp(UdpSocket),
    Unix(UnixDatagram),
}

impl Datagrams {
    async fn readable(&self) -> std::io::Result<()> {
        match self {
            Self::Udp(socket) => socket.readable().await,
            Self::Unix(socket) => socket.readable().await,
        }
    }

    fn try_receive(&self, buf: &mut [u8]) -> std::io::Result<(usize, Peer)> {
        match self {
            Self::Udp(socket) => socket.try_recv_from(buf).map(|(n, from)| (n, Peer::Ip(from.ip().to_canonical()))),
            Self::Unix(socket) => socket.try_recv(buf).map(|n| (n, Peer::Local)),
        }
    }
}

async fn datagrams<T: Taker>(service: &Service<T>, socket: &Datagrams) -> std::io::Result<()> {
    // One byte more than the limit tells a datagram of the limit from a longer one, which the kernel cuts.
    let mut buf = vec![0; service.max.min(u16::MAX.into()) + 1];
    let mut attrs = AttrBuf::default();
    let mut drops = Drops::new(socket);
    let mut ask = tokio::time::interval(DROPS_EVERY);
    loop {
        tokio::select! {
            ready = socket.readable() => ready?,
            _ = ask.tick() => {
                drops.count(&service.intake);
                continue;
            }
        }
        for _ in 0..TURN {
            let (n, peer) = match socket.try_receive(&mut buf) {
                Ok(got) => got,
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                // An ICMP answer to something that was never sent; nothing is wrong with the socket.
                Err(e) if e.kind() == ErrorKind::ConnectionRefused => continue,
                Err(e) => return Err(e),
            };
            if !admit_datagram(service, &buf[..n], peer, &mut attrs).await {
                return Ok(());
            }
        }
        tokio::task::yield_now().await;
    }
}

async fn admit_datagram<T: Taker>(service: &Service<T>, bytes: &[u8], peer: Peer, attrs: &mut AttrBuf) -> bool {
    if let Peer::Ip(ip) = peer
        && !service.allows(ip)
    {
        service.keep_out(ip);
        return true;
    }
    let truncated = bytes.len() > service.max.min(u16::MAX.into());
    let mut rest = &bytes[..bytes.len() - usize::from(truncated)];
    if service.framing == Framing::Syslog {
        // A datagram is one message, whatever stands in it.
        while let [before @ .., b'\n' | b'\r' | 0] = rest {
            rest = before;
        }
        return rest.is_empty() || service.taker.take(rest, truncated, &peer, attrs).await;
    }
    while !rest.is_empty() {
        let (line, after) = match memchr::memchr(b'\n', rest) {
            Some(at) => (&rest[..at], &rest[at + 1..]),
            None => (rest, &rest[rest.len()..]),
        };
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if !service.taker.take(line, truncated && after.is_empty(), &peer, attrs).await {
            return false;
        }
        rest = after;
    }
    true
}

/// What the kernel says it dropped of one socket.
struct Drops {
    inode: Option<u64>,
    seen: u64,
}

impl Drops {
    fn new(socket: &Datagrams) -> Self {
        let inode = match socket {
            Datagrams::Udp(socket) => rustix::fs::fstat(socket).ok().map(|stat| stat.st_ino),
            Datagrams::Unix(_) => None,
        };
        Self { inode, seen: 0 }
    }

    fn count(&mut self, intake: &Inlet) {
        let Some(inode) = self.inode else { return };
        let tables = ["/proc/net/udp", "/proc/net/udp6"];
        let drops = tables.iter().find_map(|table| drops_in(&std::fs::read_to_string(table).ok()?, inode));
        if let Some(drops) = drops.filter(|drops| *drops > self.seen) {
            intake.count(counters::LOST_BEFORE_SOURCE, drops - self.seen);
            self.seen = drops;
        }
    }
}

/// The last column of the line whose tenth is the socket's inode.
fn drops_in(table: &str, inode: u64) -> Option<u64> {
    table.lines().skip(1).find_map(|line| {
        let mut columns = line.split_ascii_whitespace();
        (columns.nth(9)?.parse() == Ok(inode)).then(|| columns.next_back()?.parse().ok())?
    })
}

// ---------------------------------------------------------------------------------------------- connections

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Listener {
    async fn accept(&self) -> std::io::Result<(Stream, Peer)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, from): (TcpStream, SocketAddr) = listener.accept().await?;
                keep_alive(&stream);
                Ok((Stream::Tcp(stream), Peer::Ip(from.ip().to_canonical())))
            }
            Self::Unix(listener) => Ok((Stream::Unix(listener.accept().await?.0), Peer::Local)),
        }
    }
}

/// A peer that lost its power must not hold one of the few connections for ever.
fn keep_alive(stream: &TcpStream) {
    let _best_effort = sockopt::set_socket_keepalive(stream, true)
        .and_then(|()| sockopt::set_tcp_keepidle(stream, Duration::from_secs(60)))
        .and_then(|()| sockopt::set_tcp_keepintvl(stream, Duration::from_secs(20)))
        .and_then(|()| sockopt::set_tcp_keepcnt(stream, 3));
}

async fn accept<T: Taker>(service: &Rc<Service<T>>, listener: &Listener) -> std::io::Result<()> {
    let mut tasks = JoinSet::new();
    loop {
        let (stream, peer) = tokio::select! {
            next = listener.accept() => match next {
                Ok(next) => next,
                // The peer was gone before it was greeted, or files ran out for a moment: the door stays open.
                Err(e) if e.kind() == ErrorKind::ConnectionAborted => continue,
                Err(e) if matches!(e.raw_os_error(), Some(EMFILE | ENFILE)) => {
                    service.intake.count(counters::TURNED_AWAY, 1);
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
                Err(e) => return Err(e),
            },
            Some(_) = tasks.join_next() => continue,
        };
        if let Peer::Ip(ip) = peer
            && !service.allows(ip)
        {
            service.keep_out(ip);
            continue;
        }
        if service.connections.get() >= service.max_connections {
            service.intake.count(counters::TURNED_AWAY, 1);
            continue;
        }
        service.intake.count(counters::CONNECTS, 1);
        tasks.spawn_local(converse(Guest::new(service.clone()), stream, peer));
    }
}

const EMFILE: i32 = rustix::io::Errno::MFILE.raw_os_error();
const ENFILE: i32 = rustix::io::Errno::NFILE.raw_os_error();

/// Counts a connection while it lives.
struct Guest<T>(Rc<Service<T>>);

impl<T> Guest<T> {
    fn new(service: Rc<Service<T>>) -> Self {
        service.connections.set(service.connections.get() + 1);
        service.intake.gauge("connections", service.connections.get() as u64);
        Self(service)
    }
}

impl<T> Drop for Guest<T> {
    fn drop(&mut self) {
        self.0.connections.set(self.0.connections.get() - 1);
        self.0.intake.gauge("connections", self.0.connections.get() as u64);
    }
}

/// Reads frames until the peer ends; an error ends the conversation as an end does, since whole frames were taken.
async fn converse<T: Taker>(guest: Guest<T>, stream: Stream, peer: Peer) {
    let service = &*guest.0;
    let mut framer = Framer::new(service.framing, service.max, BLOCK);
    let mut attrs = AttrBuf::default();
    let mut turn = 0;
    loop {
        while let Some(frame) = framer.next_frame() {
            if !admit_frame(service, frame.bytes, frame.truncated, &peer, &mut attrs).await {
                return;
            }
            turn += 1;
            if turn % TURN == 0 {
                tokio::task::yield_now().await;
            }
        }
        match read_some(&mut framer, &stream).await {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
    }
    if let Some(frame) = framer.flush() {
        admit_frame(service, frame.bytes, frame.truncated, &peer, &mut attrs).await;
    }
}

async fn admit_frame<T: Taker>(
    service: &Service<T>,
    bytes: &[u8],
    cut: bool,
    peer: &Peer,
    attrs: &mut AttrBuf,
) -> bool {
    // A newline after an octet-counted message, or a keep-alive: not a message.
    let nothing = bytes.is_empty() && service.framing == Framing::Syslog;
    nothing || service.taker.take(bytes, cut, peer, attrs).await
}

async fn read_some(framer: &mut Framer, stream: &Stream) -> std::io::Result<usize> {
    loop {
        match stream {
            Stream::Tcp(stream) => stream.readable().await?,
            Stream::Unix(stream) => stream.readable().await?,
        }
        match framer.fill(&mut TryRead(|buf: &mut [u8]| match stream {
            Stream::Tcp(stream) => stream.try_read(buf),
            Stream::Unix(stream) => stream.try_read(buf),
        })) {
            Err(e) if e.kind() == ErrorKind::WouldBlock => {}
            other => return other,
        }
    }
}

/// A byte source of whatever reads without waiting; "nothing there yet" comes back as an error.
pub(super) struct TryRead<F>(pub F);

impl<F> embedded_io::ErrorType for TryRead<F> {
    type Error = std::io::Error;
}

impl<F: FnMut(&mut [u8]) -> std::io::Result<usize>> embedded_io::Read for TryRead<F> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        (self.0)(buf)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn udp(port: u16) -> Listen {
        Listen::Udp(SocketAddr::from(([0, 0, 0, 0], port)))
    }

    #[test]
    fn a_taken_port_and_a_missing_permission_say_what_to_do() {
        let taken = listen_error(&udp(5514), &std::io::Error::from(ErrorKind::AddrInUse)).to_string();
        assert_eq!(
            taken,
            "listen on udp://0.0.0.0:5514: port 5514 is taken by another program: `ss -lntup` shows which; stop it or \
             choose another port"
        );
        let denied = listen_error(&udp(514), &std::io::Error::from(ErrorKind::PermissionDenied)).to_string();
        assert_eq!(
            denied,
            "listen on udp://0.0.0.0:514: no permission: port 514 is below 1024 and needs CAP_NET_BIND_SERVICE (in the \
             service's unit: AmbientCapabilities=CAP_NET_BIND_SERVICE); or choose a higher port"
        );
    }

    #[test]
    fn one_shut_door_is_a_warning_and_all_shut_are_down() {
        let shut = || Door::Shut { why: "taken".into(), retry: Span::from_secs(2) };
        let doors = |a: Door, b: Door| vec![("udp://a".to_owned(), a), ("tcp://b".to_owned(), b)];
        assert_eq!(state_of(&doors(Door::Open, Door::Open)), PartState::up("listening on udp://a, tcp://b"));
        assert_eq!(state_of(&doors(shut(), Door::Open)), PartState::warn("taken; listening on tcp://b"));
        assert_eq!(state_of(&doors(shut(), shut())), PartState::down("taken", Some(Span::from_secs(2))));
        assert_eq!(state_of(&doors(Door::Opening, Door::Opening)), PartState::Starting);
    }

    #[test]
    fn the_kernels_drops_are_read_by_inode() {
        let table = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n\
             2: 00000000:1582 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4711 2 0000000000000000 7\n\
             3: 00000000:1583 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4712 2 0000000000000000 0\n";
        assert_eq!(drops_in(table, 4711), Some(7));
        assert_eq!(drops_in(table, 4712), Some(0));
        assert_eq!(drops_in(table, 1), None);
    }

    #[test]
    fn a_socket_file_that_an_earlier_run_left_is_taken_over_and_a_living_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.sock");
        let bind = |p: &PathBuf| std::os::unix::net::UnixListener::bind(p);
        let (first, file) = bind_unix(&path, 0o600, bind).unwrap();
        assert_eq!(bind_unix(&path, 0o600, bind).map(drop).unwrap_err().kind(), ErrorKind::AddrInUse);
        drop(first);
        // As after a crash: nobody removed it.
        std::mem::forget(file);
        bind_unix(&path, 0o600, bind).unwrap();
    }

    #[test]
    fn a_socket_file_goes_with_its_socket_unless_another_took_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.sock");
        let bind = |p: &PathBuf| std::os::unix::net::UnixListener::bind(p);
        drop(bind_unix(&path, 0o600, bind).unwrap());
        assert!(!path.exists());
        let ours = bind_unix(&path, 0o600, bind).unwrap();
        std::fs::rename(&path, dir.path().join("moved")).unwrap();
        let _theirs = bind(&path).unwrap();
        drop(ours);
        assert!(path.exists());
    }
}
