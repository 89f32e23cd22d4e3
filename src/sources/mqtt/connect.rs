//! From an address to a session: TCP, TLS where wanted, CONNECT and its answer, all within a deadline.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use rumqttc::tokio_rustls::TlsConnector;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::faults::{self, Fault};
use super::frames::{Framer, length};
use super::packets::{Accepted, Encoder, Hello, Packet, Version, decode};
use crate::config::model::{MqttSource, TlsConfig};

/// For the network, for TLS and for the broker's answer, each.
const PATIENCE: Duration = Duration::from_secs(10);
/// A CONNACK is shorter by far.
const MAX_CONNACK: usize = 64 * 1024;

/// A byte stream to a broker.
pub trait Wire: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Wire for T {}

/// A broker that let us in.
pub struct Connected {
    pub wire: Box<dyn Wire>,
    /// With whatever came after the answer.
    pub framer: Framer,
    pub accepted: Accepted,
}

pub fn version(config: &MqttSource) -> Version {
    if config.version5 { Version::V5 } else { Version::V311 }
}

pub async fn connect(config: &MqttSource, window: u16) -> Result<Connected, Fault> {
    let address = format!("{}:{}", config.host, config.port);
    let tcp = match timeout(PATIENCE, TcpStream::connect((config.host.as_str(), config.port))).await {
        Ok(Ok(tcp)) => tcp,
        Ok(Err(e)) => return Err(faults::unreachable(&address, &e)),
        Err(_) => return Err(faults::unreachable(&address, &io::Error::new(io::ErrorKind::TimedOut, "timed out"))),
    };
    // An acknowledgement must not wait for company. Where the option is missing, it is only slower.
    let _ = tcp.set_nodelay(true);
    let wire: Box<dyn Wire> = match &config.tls {
        None => Box::new(tcp),
        Some(tls) => {
            let connector = TlsConnector::from(Arc::new(tls_config(tls)?));
            let name = tls.server_name.as_deref().unwrap_or(&config.host).to_owned();
            let name = ServerName::try_from(name.clone()).map_err(|_| {
                Fault::WrongPeer(format!("`{name}` cannot be a TLS server name; set `tls.server_name`"))
            })?;
            match timeout(PATIENCE, connector.connect(name, tcp)).await {
                Ok(Ok(stream)) => Box::new(stream),
                Ok(Err(e)) => return Err(faults::tls(&address, &e)),
                Err(_) => return Err(faults::silent(&address, config.port, true)),
            }
        }
    };
    timeout(PATIENCE, greet(config, window, wire, &address))
        .await
        .unwrap_or_else(|_| Err(faults::silent(&address, config.port, config.tls.is_some())))
}

async fn greet(config: &MqttSource, window: u16, mut wire: Box<dyn Wire>, address: &str) -> Result<Connected, Fault> {
    let version = version(config);
    let hello = Hello {
        client_id: &config.client_id,
        username: config.username.as_deref(),
        password: config.password.as_ref().map(|p| p.0.as_str()),
        keep_alive: u16::try_from(config.keep_alive.to_std().as_secs()).unwrap_or(u16::MAX),
        window,
        session_expiry: u32::try_from(config.session_expiry.to_std().as_secs()).unwrap_or(u32::MAX),
    };
    let mut out = BytesMut::new();
    Encoder { version }.connect(&hello, &mut out);
    let hung_up = || faults::hung_up(address, config.port, config.tls.is_some());
    wire.write_all(&out).await.map_err(|_| hung_up())?;
    wire.flush().await.map_err(|_| hung_up())?;
    let mut framer = Framer::new(config.max_packet);
    loop {
        let first = framer.peek();
        // Whatever is no CONNACK of a sane length comes from somebody else.
        let strange = first.first().is_some_and(|byte| *byte != 0x20)
            || !matches!(length(first), Ok(None | Some((_, 2..MAX_CONNACK))));
        if strange && (first.len() >= 4 || first[0] != 0x20) {
            return Err(faults::wrong_peer(address, first));
        }
        match framer.next() {
            Ok(Some(chunk)) => match decode(version, chunk) {
                Ok(Packet::Accepted(accepted)) => return Ok(Connected { wire, framer, accepted }),
                Ok(Packet::Refused(why)) => return Err(Fault::Refused(format!("{address}: {why}"))),
                Ok(other) => return Err(Fault::Broken(format!("{address} answered CONNECT with {other:?}"))),
                Err(e) => return Err(Fault::Broken(format!("{address} answered CONNECT with nonsense: {e}"))),
            },
            Ok(None) => match wire.read_buf(framer.space()).await {
                Ok(0) | Err(_) => return Err(hung_up()),
                Ok(_) => {}
            },
            Err(_) => return Err(faults::wrong_peer(address, framer.peek())),
        }
    }
}

/// Made anew for every connection: the files may have been put right since.
fn tls_config(tls: &TlsConfig) -> Result<ClientConfig, Fault> {
    let own = |e: rustls::Error| Fault::Own(format!("TLS: {e}; look at `tls.cert` and `tls.key`"));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(own)?
        .with_root_certificates(roots(tls.ca.as_deref())?);
    match (&tls.cert, &tls.key) {
        (Some(cert), Some(key)) => {
            let key = PrivateKeyDer::from_pem_slice(key.0.as_bytes())
                .map_err(|e| Fault::Own(format!("`tls.key` holds no private key in PEM form: {e}")))?;
            builder.with_client_auth_cert(certificates(cert)?, key).map_err(own)
        }
        _ => Ok(builder.with_no_client_auth()),
    }
}

/// Whom we trust: `tls.ca`, else what the system trusts.
fn roots(ca: Option<&Path>) -> Result<RootCertStore, Fault> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(path) => {
            for cert in certificates(path)? {
                roots.add(cert).map_err(|e| Fault::Own(format!("certificate in {}: {e}", path.display())))?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        return Err(Fault::Own("no certificate to trust: install ca-certificates, or set `tls.ca`".into()));
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let bad = |e: &dyn std::fmt::Display| Fault::Own(format!("certificates in {}: {e}", path.display()));
    let certs: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).map_err(|e| bad(&e))?.collect();
    let certs = certs.map_err(|e| bad(&e))?;
    if certs.is_empty() { Err(bad(&"none in PEM form")) } else { Ok(certs) }
}
