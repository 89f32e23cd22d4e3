//! One connection: connect, TLS, handshake, frames; each with a deadline of its own.
//!
//! The official client has no deadline on the handshake and leaves keepalive at two hours. Here a connection is up only
//! after the peer has answered ApiVersions, and a half-open one is found by keepalive.
//!
//! A handshake that fails is looked into, so that the status can name what really listens there: the first bytes of the
//! answer, and, when the peer just hung up, one MQTT CONNECT and one TLS handshake on connections of their own. Not so at
//! an address that was right before: there a bad line costs one connection for each try.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use fluvio_protocol::link::versions::ApiVersionsResponse;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::error::Elapsed;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::tls::Keeper;
use super::trouble::{NO_DNS, REFUSED, Trouble, UNKNOWN_HOST, guess, host_of};
use super::wire;
use crate::config::model::FluvioSink;
use crate::hub::Way;
use crate::limits::MAX_WIRE_FRAME;
use crate::sinks::metered::{self, Metered};
use crate::sinks::underway::Underway;

const KEEPALIVE_IDLE: Duration = Duration::from_secs(120);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(15);
const KEEPALIVE_PROBES: u32 = 4;
/// Bytes that TLS holds before they are taken by the kernel.
const TLS_BUFFER: usize = 16 * 1024;
/// How long a second look at a peer that hung up may take.
const LOOK: Duration = Duration::from_secs(2);

pub trait Io: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Io for T {}

/// What connections are made with.
#[derive(Clone, Default)]
pub struct Line {
    /// The link to go over; None: uncounted.
    pub way: Option<Rc<Way>>,
    /// Without `way`: what to go out from; None: by any way.
    pub interface: Option<String>,
    /// None: without TLS.
    pub tls: Option<Rc<Keeper>>,
    /// Addresses that have answered as they should.
    pub known: Rc<RefCell<BTreeSet<String>>>,
}

impl Line {
    pub fn knows(&self, address: &str) -> bool {
        self.known.borrow().contains(address)
    }

    fn interface(&self) -> Option<String> {
        self.way.as_ref().map_or_else(|| self.interface.clone(), |way| way.interface())
    }
}

/// A peer that has answered the handshake.
pub struct Link {
    pub address: String,
    pub stream: Box<dyn Io>,
    /// What of it is on its way; None where that cannot be known.
    pub underway: Option<Underway>,
    pub versions: ApiVersionsResponse,
}

impl Link {
    /// Connects by what `line` says.
    pub async fn open(address: &str, sink: &FluvioSink, line: &Line) -> Result<Self, Trouble> {
        let known = line.knows(address);
        let link = Self::greet(address, sink, line, known).await;
        if link.is_ok() && !known {
            line.known.borrow_mut().insert(address.to_owned());
        }
        link.map_err(|trouble| if known { trouble.of_known() } else { trouble })
    }

    async fn greet(address: &str, sink: &FluvioSink, line: &Line, known: bool) -> Result<Self, Trouble> {
        let after = sink.connect_timeout.to_std();
        let (tcp, underway) = tcp(address, line, after).await?;
        let tls = line.tls.as_deref();
        let mut stream: Box<dyn Io> = match tls {
            None => Box::new(tcp),
            Some(tls) => {
                let mut stream = tls.start(address, tcp, after).await?;
                // What a flush may wait for on a slow line.
                stream.get_mut().1.set_buffer_limit(Some(TLS_BUFFER));
                Box::new(stream)
            }
        };
        let versions = match timeout(after, handshake(&mut stream)).await {
            Err(_) => return Err(Trouble::Silent { address: address.into(), after, known }),
            Ok(Ok(versions)) => versions,
            Ok(Err(Stranger::HungUp)) if known => return Err(Trouble::HungUp { address: address.into() }),
            Ok(Err(stranger)) => match tls.zip(stranger.error()).and_then(|(tls, error)| tls.refusal(error)) {
                // With TLS 1.3 the peer looks at our certificate when we take the handshake for done.
                Some(reason) => return Err(Trouble::Tls { address: address.into(), reason }),
                None => return Err(name_stranger(address, stranger, line, after).await),
            },
        };
        Ok(Self { address: address.into(), stream, underway, versions })
    }

    /// The newest version of an API that the peer speaks; None when it does not have it.
    pub fn speaks(&self, key: u16) -> Option<i16> {
        self.versions.api_keys.iter().find(|k| k.api_key as u16 == key).map(|k| k.max_version)
    }
}

/// What a handshake met that is not Fluvio.
enum Stranger {
    Bytes(Vec<u8>),
    HungUp,
    Io(io::Error),
}

impl Stranger {
    fn error(&self) -> Option<&io::Error> {
        if let Self::Io(error) = self { Some(error) } else { None }
    }
}

/// A connection, and what of it is on its way.
async fn tcp(address: &str, line: &Line, after: Duration) -> Result<(Metered<TcpStream>, Option<Underway>), Trouble> {
    let failed = |e: io::Error| Trouble::Connect { address: address.into(), reason: plain(&e) };
    let stream = match timeout(after, metered::connect(address, line.interface())).await {
        Err(_) => return Err(Trouble::ConnectTimeout { address: address.into(), after }),
        Ok(stream) => stream.map_err(failed)?,
    };
    // Best effort: a kernel without an option still connects.
    let _ = stream.set_nodelay(true);
    let _ = rustix::net::sockopt::set_socket_keepalive(&stream, true);
    let _ = rustix::net::sockopt::set_tcp_keepidle(&stream, KEEPALIVE_IDLE);
    let _ = rustix::net::sockopt::set_tcp_keepintvl(&stream, KEEPALIVE_EVERY);
    let _ = rustix::net::sockopt::set_tcp_keepcnt(&stream, KEEPALIVE_PROBES);
    let underway = Underway::of(&stream).ok();
    Ok((Metered::new(stream, line.way.clone()), underway))
}

/// An error in words, without the "(os error 111)".
pub fn plain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => REFUSED.into(),
        io::ErrorKind::ConnectionReset => "connection reset".into(),
        io::ErrorKind::UnexpectedEof => "the peer hung up".into(),
        _ => {
            if let Some(rustls::Error::AlertReceived(alert)) = error.get_ref().and_then(|e| e.downcast_ref()) {
                return refused(*alert);
            }
            let text = error.to_string();
            // The resolver's words, which no kind of error tells apart.
            if text.contains("Temporary failure in name resolution") {
                return NO_DNS.into();
            } else if text.starts_with("failed to lookup address") {
                return UNKNOWN_HOST.into();
            }
            text.split(" (os error").next().unwrap_or_default().to_lowercase()
        }
    }
}

/// What the other side of TLS says no to; with TLS 1.3 it does so only after our side is done.
fn refused(alert: rustls::AlertDescription) -> String {
    use rustls::AlertDescription as A;
    match alert {
        A::CertificateRequired => "it wants a client certificate: set tls.cert and tls.key".into(),
        A::CertificateExpired => "it says that our client certificate has expired (or is not valid yet)".into(),
        A::UnknownCA => "it does not know the authority of our client certificate".into(),
        A::BadCertificate | A::UnsupportedCertificate | A::CertificateUnknown | A::CertificateRevoked => {
            format!("it refuses our client certificate ({alert:?})")
        }
        other => format!("it ended TLS with {other:?}"),
    }
}

/// Writes one whole frame. TLS keeps what the socket did not take until it is told to flush: a request that is written
/// and not flushed may never leave.
pub async fn send(stream: &mut (impl AsyncWrite + Unpin), frame: &[u8]) -> io::Result<()> {
    stream.write_all(frame).await?;
    stream.flush().await
}

async fn handshake(stream: &mut Box<dyn Io>) -> Result<ApiVersionsResponse, Stranger> {
    let request = wire::api_versions(1).map_err(Stranger::Io)?;
    send(stream, &request).await.map_err(Stranger::Io)?;
    let mut head = [0; 4];
    let mut have = 0;
    while have < head.len() {
        match stream.read(&mut head[have..]).await {
            Ok(0) if have == 0 => return Err(Stranger::HungUp),
            Ok(0) => return Err(Stranger::Bytes(head[..have].to_vec())),
            Ok(n) => have += n,
            Err(e) if e.kind() == io::ErrorKind::ConnectionReset && have == 0 => return Err(Stranger::HungUp),
            Err(e) => return Err(Stranger::Io(e)),
        }
    }
    // An SC or SPU lists a dozen APIs; anything longer is something else's idea of these four bytes.
    let len = i32::from_be_bytes(head);
    if !(8..64 * 1024).contains(&len) {
        return Err(Stranger::Bytes(head.to_vec()));
    }
    let mut body = vec![0; len as usize];
    stream.read_exact(&mut body).await.map_err(Stranger::Io)?;
    wire::read_api_versions(&body[4..]).map_err(|_| Stranger::Bytes(head.to_vec()))
}

async fn name_stranger(address: &str, stranger: Stranger, line: &Line, after: Duration) -> Trouble {
    let address = address.to_owned();
    match stranger {
        Stranger::Bytes(bytes) => match guess(&bytes) {
            Some("TLS") => Trouble::WantsTls { address },
            Some(what) => Trouble::OtherProtocol { address, what },
            None => Trouble::OtherProtocol { address, what: "something else" },
        },
        Stranger::HungUp => match timeout(LOOK, is_mqtt(&address, line, after)).await {
            Ok(true) => Trouble::OtherProtocol { address, what: "MQTT" },
            _ if timeout(LOOK, is_tls(&address, line, after)).await == Ok(true) => Trouble::WantsTls { address },
            _ => Trouble::HungUp { address },
        },
        Stranger::Io(e) => Trouble::Broken { address, reason: plain(&e) },
    }
}

/// Whether an MQTT CONNECT is answered with a CONNACK.
async fn is_mqtt(address: &str, line: &Line, after: Duration) -> bool {
    let Ok((mut stream, _)) = tcp(address, line, after).await else { return false };
    let connect = b"\x10\x14\x00\x04MQTT\x04\x02\x00\x0a\x00\x08hw-probe";
    let mut answer = [0; 2];
    stream.write_all(connect).await.is_ok()
        && stream.read_exact(&mut answer).await.is_ok()
        && guess(&answer) == Some("MQTT")
}

/// Whether a TLS handshake is answered with one: with a certificate, or with an alert.
async fn is_tls(address: &str, line: &Line, after: Duration) -> bool {
    let Ok((stream, _)) = tcp(address, line, after).await else { return false };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let Ok(builder) = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()
    else {
        return false;
    };
    // Nobody is trusted, so that nothing can be said to whoever it is.
    let config = builder.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
    let Ok(name) = ServerName::try_from(host_of(address).to_owned()) else { return false };
    match TlsConnector::from(Arc::new(config)).connect(name, stream).await {
        Ok(_) => true,
        Err(error) => {
            let why = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
            matches!(why, Some(rustls::Error::InvalidCertificate(_) | rustls::Error::AlertReceived(_)))
        }
    }
}

/// One frame: its correlation id and the rest. The length is checked before anything is allocated for it.
pub async fn read_frame(stream: &mut (impl AsyncRead + Unpin), most: usize) -> io::Result<(i32, Vec<u8>)> {
    let mut head = [0; 8];
    stream.read_exact(&mut head).await?;
    let (correlation, len) = lengths(head, most)?;
    let mut body = vec![0; len];
    stream.read_exact(&mut body).await?;
    Ok((correlation, body))
}

/// The same where bytes may be few and far between: `after` is for each step forward. The outer error: nothing came.
pub async fn read_frame_slowly(
    stream: &mut (impl AsyncRead + Unpin),
    most: usize,
    after: Duration,
) -> Result<io::Result<(i32, Vec<u8>)>, Elapsed> {
    let mut head = [0; 8];
    if let Err(error) = fill(stream, &mut head, after).await? {
        return Ok(Err(error));
    }
    let (correlation, len) = match lengths(head, most) {
        Ok(lengths) => lengths,
        Err(error) => return Ok(Err(error)),
    };
    let mut body = vec![0; len];
    let filled = fill(stream, &mut body, after).await?;
    Ok(filled.map(|()| (correlation, body)))
}

async fn fill(
    stream: &mut (impl AsyncRead + Unpin),
    mut rest: &mut [u8],
    after: Duration,
) -> Result<io::Result<()>, Elapsed> {
    while !rest.is_empty() {
        match timeout(after, stream.read(rest)).await? {
            Ok(0) => return Ok(Err(io::ErrorKind::UnexpectedEof.into())),
            Ok(n) => rest = &mut rest[n..],
            Err(error) => return Ok(Err(error)),
        }
    }
    Ok(Ok(()))
}

/// The correlation id of a frame, and how much of it follows.
fn lengths([a, b, c, d, w, x, y, z]: [u8; 8], most: usize) -> io::Result<(i32, usize)> {
    debug_assert!(most <= MAX_WIRE_FRAME);
    let len = i32::from_be_bytes([a, b, c, d]);
    if len < 4 || len as usize > most {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a frame of {len} bytes; {most} are allowed")));
    }
    Ok((i32::from_be_bytes([w, x, y, z]), len as usize - 4))
}
