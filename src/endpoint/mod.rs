//! The endpoint: a small Fluvio SC and SPU, on two ports, for unmodified Fluvio clients and for other nodes.
//!
//! It promises what a cluster of one SPU does: topics are created, listed and deleted; an acknowledged produce is
//! durable; consumers read from the beginning, the end or an offset, live; consumer offsets are kept; a one-shot
//! fetch answers as a real SPU does, to the byte where a resume depends on it. Its differences are chosen:
//!
//! - Batches are served whole, dense and below 1 MiB. (A real SPU cuts a slice in the middle of a batch, and the
//!   official consumer loses the rest of it.)
//! - Records pass the topic's rules before they are stored. A produce answers with the first offset stored, or the
//!   log end when the rules dropped all.
//! - No SmartModules, mirrors, replicas, or schema ids: refused in words.
//! - The ring's bound holds for every topic. A client that makes one with a retention time or a partition size is refused; a
//!   node's sink, whose config says it for clusters, is not. Segment sizes and the compression type are taken and not kept.
//!
//! ```text
//! conn     one connection ── wire: frames in, bounded ── request: their fields
//!   tls    its handshake      access: who it is, what it may do
//!   sc     topics, watches            answer: frames out
//!   spu    fetch, offsets             [codec]: record batches in and out
//!   stream one consumer's stream      read:   slices of a partition
//!   produce records in                producers: what nodes have sent here
//! ```
//!
//! Nothing a peer sends panics or allocates without a bound: see [`wire`] for frames and [`crate::codec`] for what is in
//! them; the fuzz targets `request` and `batch` try. Without TLS it listens on loopback unless the config says `insecure`;
//! with TLS, clients have names where an authority for them is configured, and `allow` says what each may do.
//!
//! Official clients expect the name `headwater-5001.DOMAIN` of the SPU where they expect DOMAIN of the SC, so the
//! certificate needs both (or a wildcard); a node's sink expects the host that it connects to, on both ports.

mod access;
mod answer;
mod conn;
pub mod keys;
mod offsets;
mod produce;
mod producers;
mod read;
pub mod request;
mod sc;
mod spu;
mod stream;
mod tls;
pub mod wire;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use self::access::{Client, Deed, shown};
pub use self::conn::Patience;
use self::tls::Tls;
use crate::config::model::{Allow, EndpointConfig};
use crate::hub::{PartState, Store, counters};
use crate::record::Origin;
use crate::ring::Ticket;
use crate::time::{BootTime, Span};
use crate::topic::TopicPart;

/// Markers remembered until they are durable; past it the memory begins anew, at the worst merging two repeats.
const MAX_ORIGINS: usize = 4096;
/// After a failed accept (out of files, mostly) the next try waits this long; so does a client beyond the limit, in case
/// another one is just leaving.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// How often the files of `tls` are looked at, and the state is told anew.
const LOOK: Duration = Duration::from_secs(10);
/// What was refused is shown this long.
const REFUSED_FOR: Span = Span::from_secs(3600);

/// Why the endpoint does not listen. The supervisor shows it and tries again.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    #[error(
        "cannot listen on {address}: the port is taken (by a Fluvio cluster, or another node?); free it, or set \
         `endpoint.{key}` to another port"
    )]
    Taken { key: &'static str, address: SocketAddr },
    #[error(
        "cannot listen on {address}: no permission; ports below 1024 need CAP_NET_BIND_SERVICE, or set \
         `endpoint.{key}` to a higher one"
    )]
    Permission { key: &'static str, address: SocketAddr },
    #[error("cannot listen on {address}: this machine has no such address (yet); see `endpoint.{key}`")]
    NoAddress { key: &'static str, address: SocketAddr },
    #[error("cannot listen on {address}: {error} (`endpoint.{key}`)")]
    Other { key: &'static str, address: SocketAddr, error: io::Error },
    #[error("`endpoint.tls`: {0}")]
    Tls(String),
}

/// Which of the two a connection came to: their request keys collide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Port {
    Sc,
    Spu,
}

/// What all connections share.
struct Shared {
    store: Store,
    requests: wire::Budget,
    answers: wire::Budget,
    /// What the config says clients are told.
    advertise: Option<String>,
    spu: SocketAddr,
    origins: RefCell<HashMap<TopicPart, (Origin, Ticket)>>,
    patience: Patience,
    tls: Option<Tls>,
    allow: Vec<Allow>,
    /// Where it listens.
    what: String,
    /// Open ones, of both ports.
    connections: Cell<u64>,
    /// What was turned away last, and when.
    refused: RefCell<Option<(String, BootTime)>>,
}

impl Shared {
    /// Whether a client may; if not, it is counted and shown.
    fn allows(&self, client: &Client, deed: Deed, topic: &str) -> bool {
        let may = client.may(deed, topic);
        if !may {
            self.store.count(counters::DENIED, 1);
            self.refused(format!("{client} may not {deed} {}", shown(topic)));
        }
        may
    }

    fn refused(&self, what: String) {
        self.refused.replace(Some((what, self.store.now().boot)));
        self.say();
    }

    /// Tells the board how the endpoint is. Peers can make this happen: the board bounds how often it is logged.
    fn say(&self) {
        let now = self.store.now();
        let (mut what, mut ill) = (self.what.clone(), false);
        if let Some(tls) = &self.tls {
            let (certificate, is_ill) = tls.condition(now);
            (what, ill) =
                (if is_ill { format!("{certificate}; {what}") } else { format!("{what}; {certificate}") }, is_ill);
            self.store.gauge("certificate_until_seconds", tls.until());
        }
        let recent = |(_, at): &&(String, BootTime)| now.boot - *at < REFUSED_FOR;
        if let Some((last, _)) = self.refused.borrow().as_ref().filter(recent) {
            what = format!("{what}; last refused: {last}");
        }
        self.store.report(if ill { PartState::warn(what) } else { PartState::up(what) });
        self.say_connections();
    }

    fn say_connections(&self) {
        self.store.gauge("connections", self.connections.get());
    }

    /// Looks at the files of `tls`, now and then or when told to.
    async fn look(&self, again: &Notify) {
        loop {
            let told = tokio::select! {
                () = sleep(LOOK) => false,
                () = again.notified() => true,
            };
            if let Some(tls) = &self.tls {
                tls.look(told);
            }
            self.say();
        }
    }

    /// What a client that reached the SC at `reached` is told: the config's word, else the address it already uses.
    fn spu_address(&self, reached: SocketAddr) -> (String, u16) {
        if let Some(advertise) = &self.advertise {
            return match advertise.rsplit_once(':').map(|(host, port)| (host, port.parse())) {
                // A bare IPv6 address has colons as well.
                Some((host, Ok(port))) if !host.contains(':') || host.starts_with('[') => (host.to_owned(), port),
                _ => (advertise.clone(), self.spu.port()),
            };
        }
        let ip = if self.spu.ip().is_unspecified() { reached.ip() } else { self.spu.ip() }.to_canonical();
        let host = if ip.is_ipv6() { format!("[{ip}]") } else { ip.to_string() };
        (host, self.spu.port())
    }

    /// The ticket of a batch with the same marker that is still on its way to the disk.
    fn same_origin_unsettled(&self, part: TopicPart, origin: Origin) -> Option<Ticket> {
        let known = self.origins.borrow().get(&part).copied();
        known.filter(|(o, t)| *o == origin && *t > self.store.settled()).map(|(_, t)| t)
    }

    fn remember_origin(&self, part: TopicPart, origin: Origin, ticket: Ticket) {
        let mut origins = self.origins.borrow_mut();
        if origins.len() >= MAX_ORIGINS {
            origins.clear();
        }
        origins.insert(part, (origin, ticket));
    }
}

/// Listens and serves until the node stops. `again`: the files that the config names are to be read again.
pub async fn run(config: &EndpointConfig, store: Store, again: Rc<Notify>) -> Result<(), EndpointError> {
    let mut bound = Bound::bind(config).await?;
    bound.again = again;
    bound.serve(store).await;
    Ok(())
}

/// Both ports, listening.
pub struct Bound {
    sc: TcpListener,
    spu: TcpListener,
    sc_addr: SocketAddr,
    spu_addr: SocketAddr,
    advertise: Option<String>,
    max_connections: usize,
    tls: Option<Tls>,
    allow: Vec<Allow>,
    again: Rc<Notify>,
    pub patience: Patience,
}

impl Bound {
    pub async fn bind(config: &EndpointConfig) -> Result<Self, EndpointError> {
        let tls = config.tls.as_ref().map(Tls::load).transpose().map_err(EndpointError::Tls)?;
        let (sc, sc_addr) = listen("sc_listen", config.sc_listen).await?;
        let (spu, spu_addr) = listen("spu_listen", config.spu_listen).await?;
        Ok(Self {
            sc,
            spu,
            sc_addr,
            spu_addr,
            advertise: config.advertise.clone(),
            max_connections: config.max_connections.clamp(1, crate::limits::MAX_CONNECTIONS),
            tls,
            allow: config.allow.clone(),
            again: Rc::default(),
            patience: Patience::default(),
        })
    }

    /// Where the SC listens: what a client is pointed at.
    pub fn sc_addr(&self) -> SocketAddr {
        self.sc_addr
    }

    pub fn spu_addr(&self) -> SocketAddr {
        self.spu_addr
    }

    /// Serves until the node stops. Runs inside a `LocalSet`.
    pub async fn serve(self, store: Store) {
        let over = if self.tls.is_some() { ", over TLS" } else { "" };
        let shared = Rc::new(Shared {
            store,
            requests: wire::Budget::of_requests(),
            answers: wire::Budget::of_answers(),
            advertise: self.advertise,
            spu: self.spu_addr,
            origins: RefCell::default(),
            patience: self.patience,
            tls: self.tls,
            allow: self.allow,
            what: format!("SC on {}, SPU on {}{over}", self.sc_addr, self.spu_addr),
            connections: Cell::default(),
            refused: RefCell::default(),
        });
        shared.say();
        tokio::select! {
            () = accept(&self.sc, Port::Sc, &shared, self.max_connections) => {}
            () = accept(&self.spu, Port::Spu, &shared, self.max_connections) => {}
            () = shared.look(&self.again) => {}
            () = shared.store.stopping() => {}
        }
    }
}

async fn listen(key: &'static str, address: SocketAddr) -> Result<(TcpListener, SocketAddr), EndpointError> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::AddrInUse => EndpointError::Taken { key, address },
        io::ErrorKind::PermissionDenied => EndpointError::Permission { key, address },
        io::ErrorKind::AddrNotAvailable => EndpointError::NoAddress { key, address },
        _ => EndpointError::Other { key, address, error },
    };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

/// Takes connections until dropped; those beyond the limit are closed at once, so that the others keep working.
async fn accept(listener: &TcpListener, port: Port, shared: &Rc<Shared>, max: usize) {
    // Dropped with this future, which ends every connection.
    let mut connections: JoinSet<()> = JoinSet::new();
    loop {
        let stream: TcpStream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!("endpoint: accept on {:?} failed: {error}", listener.local_addr());
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        while connections.try_join_next().is_some() {}
        if connections.len() >= max && timeout(ACCEPT_PAUSE, connections.join_next()).await.is_err() {
            shared.store.count(counters::TURNED_AWAY, 1);
            continue;
        }
        connections.spawn_local(conn::serve(stream, port, Rc::clone(shared)));
    }
}
