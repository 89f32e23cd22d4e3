//! TLS of both ports: the certificate, when it is read again, and how long it is good for.
//!
//! The files are looked at every few seconds (a stat each) and read when one of them is another than before, and at a
//! reload in any case. What cannot be used changes nothing: connections go on with the certificate that there is, and
//! the status says so. A connection keeps the certificate that it began with; sessions are not resumed, so that a client
//! whose certificate has expired since is not let in on its old one.
//!
//! A handshake runs in its connection's task. What it costs the loop is one signature: about 1 ms of a small ARM core
//! with an ECDSA key, some 10 ms with RSA 2048.

use std::cell::RefCell;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{AlertDescription, CertificateError};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::certificate::Certificate;
use crate::config::model::{SecretPlace, ServerTls};
use crate::envelope::rfc3339;
use crate::time::{Now, Span, WallTime};

/// A certificate that ends within this time is warned about.
const SOON: Span = Span::from_secs(30 * 86_400);

/// What tells one version of a file from another; None: it cannot be looked at.
type Stamp = Option<(u64, i64, i64, i64, i64, u64)>;

#[derive(Clone)]
struct Current {
    acceptor: TlsAcceptor,
    from: WallTime,
    until: WallTime,
}

pub struct Tls {
    config: ServerTls,
    current: RefCell<Current>,
    stamps: RefCell<Vec<Stamp>>,
    /// Why the files that are there now are not used.
    trouble: RefCell<Option<String>>,
}

impl Tls {
    pub fn load(config: &ServerTls) -> Result<Self, String> {
        // Before they are read: what changes meanwhile is seen at the next look.
        let stamps = stamps(config);
        let current = read(config)?;
        Ok(Self {
            config: config.clone(),
            current: RefCell::new(current),
            stamps: RefCell::new(stamps),
            trouble: RefCell::default(),
        })
    }

    /// Reads the files again if one of them changed, or `anyway`.
    pub fn look(&self, anyway: bool) {
        let stamps = stamps(&self.config);
        if self.stamps.replace(stamps.clone()) == stamps && !anyway {
            return;
        }
        let trouble = match read(&self.config) {
            Ok(current) => {
                self.current.replace(current);
                None
            }
            Err(why) => Some(why),
        };
        self.trouble.replace(trouble);
    }

    /// The handshake, and the client's name; or what is wrong, as it goes on behind the client's address.
    pub async fn accept(
        &self,
        stream: TcpStream,
        within: Duration,
        now: Now,
    ) -> Result<(TlsStream<TcpStream>, Option<String>), String> {
        let acceptor = self.current.borrow().acceptor.clone();
        let stream = match timeout(within, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(why(&error, now)),
            Err(_) => return Err(format!("did not finish its TLS handshake within {} s", within.as_secs_f32())),
        };
        let presented = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let name = presented.and_then(|der| Certificate::read(der)?.name().map(str::to_owned));
        Ok((stream, name))
    }

    /// What the status says of the certificate, and whether a person should look.
    pub fn condition(&self, now: Now) -> (String, bool) {
        let (mut text, mut ill) = {
            let current = self.current.borrow();
            condition(current.from, current.until, &self.config.cert, now)
        };
        if let Some(why) = &*self.trouble.borrow() {
            text = format!("{text}; what is in the files of `tls` now is not used: {why}");
            ill = true;
        }
        (text, ill)
    }

    /// When the certificate ends, in seconds since 1970.
    pub fn until(&self) -> u64 {
        u64::try_from(self.current.borrow().until.0 / 1_000_000).unwrap_or(0)
    }
}

fn condition(from: WallTime, until: WallTime, cert: &Path, now: Now) -> (String, bool) {
    let (cert, last) = (cert.display(), day(until));
    if !now.trusted {
        let unknown = "whether it is valid now is not known, the clock is not trusted";
        (format!("certificate until {last} ({unknown})"), false)
    } else if now.wall > until {
        (format!("the certificate EXPIRED on {last}: clients refuse it; renew {cert}"), true)
    } else if now.wall < from {
        (format!("the certificate is valid only from {}: clients refuse it", day(from)), true)
    } else if until - now.wall < SOON {
        let days = (until - now.wall).0 / Span::from_secs(86_400).0;
        (format!("the certificate ends in {days} days ({last}); renew {cert}"), true)
    } else {
        (format!("certificate until {last}"), false)
    }
}

fn day(time: WallTime) -> String {
    let day = rfc3339(time).and_then(|text| text.get(..10).map(str::to_owned));
    day.unwrap_or_else(|| "?".into())
}

fn stamps(config: &ServerTls) -> Vec<Stamp> {
    let key = match &config.key {
        SecretPlace::File(path) => Some(path),
        SecretPlace::Held(_) => None,
    };
    let stamp = |path: &Path| {
        let meta = std::fs::metadata(path).ok()?;
        Some((meta.ino(), meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec(), meta.size()))
    };
    [Some(&config.cert), key, config.client_ca.as_ref()].into_iter().flatten().map(|path| stamp(path)).collect()
}

fn read(config: &ServerTls) -> Result<Current, String> {
    let chain = certificates(&config.cert)?;
    let own = chain.first().ok_or_else(|| format!("{} holds no certificate", config.cert.display()))?;
    let unreadable = || format!("{} holds a certificate that is none", config.cert.display());
    let Certificate { from, until, .. } = Certificate::read(own).ok_or_else(unreadable)?;
    let key = match &config.key {
        SecretPlace::File(path) => PrivateKeyDer::from_pem_file(path).map_err(|e| unread(path, "private key", e))?,
        SecretPlace::Held(secret) => {
            PrivateKeyDer::from_pem_slice(secret.0.as_bytes()).map_err(|e| format!("`tls.key`: {e}"))?
        }
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?;
    let builder = match &config.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let bad = |why: String| format!("{}: {why}", path.display());
            let mut roots = rustls::RootCertStore::empty();
            for cert in certificates(path)? {
                roots.add(cert).map_err(|e| bad(e.to_string()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = if config.require_client_cert { verifier } else { verifier.allow_unauthenticated() };
            builder.with_client_cert_verifier(verifier.build().map_err(|e| bad(e.to_string()))?)
        }
    };
    let mut server = builder.with_single_cert(chain, key).map_err(|e| match e {
        rustls::Error::InconsistentKeys(_) => format!("the key is not that of {}", config.cert.display()),
        e => format!("{} and its key: {e}", config.cert.display()),
    })?;
    server.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    server.send_tls13_tickets = 0;
    Ok(Current { acceptor: TlsAcceptor::from(Arc::new(server)), from, until })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let failed = |e| unread(path, "certificate", e);
    let chain: Vec<_> =
        CertificateDer::pem_file_iter(path).map_err(failed)?.collect::<Result<_, _>>().map_err(failed)?;
    if chain.is_empty() { Err(unread(path, "certificate", pem::Error::NoItemsFound)) } else { Ok(chain) }
}

fn unread(path: &Path, what: &str, error: pem::Error) -> String {
    match error {
        pem::Error::Io(error) => {
            let text = error.to_string();
            format!("cannot read {}: {}", path.display(), text.split(" (os error").next().unwrap_or_default())
        }
        pem::Error::NoItemsFound => format!("{} holds no {what} in PEM form", path.display()),
        error => format!("{} holds no {what} in PEM form: {error}", path.display()),
    }
}

/// Why a handshake failed, in words that say who has to do what.
fn why(error: &io::Error, now: Now) -> String {
    use rustls::Error as E;
    let clock = if now.trusted { "" } else { " (by this node's clock, which is not trusted)" };
    match error.get_ref().and_then(|e| e.downcast_ref::<E>()) {
        None if error.kind() == io::ErrorKind::UnexpectedEof => "hung up during its TLS handshake".into(),
        None => format!("broke off its TLS handshake: {error}"),
        Some(E::InvalidMessage(_)) => "does not speak TLS: a client without `tls`?".into(),
        Some(E::NoCertificatesPresented) => "brings no client certificate".into(),
        Some(E::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. })) => {
            format!("brings a client certificate that has expired{clock}")
        }
        Some(E::InvalidCertificate(CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. })) => {
            format!("brings a client certificate that is not valid yet{clock}")
        }
        // An authority of the same name and another key gives the second one.
        Some(E::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature)) => {
            "brings a client certificate that no authority in `client_ca` has signed".into()
        }
        Some(E::InvalidCertificate(other)) => format!("brings a client certificate that is no good: {other}"),
        Some(E::AlertReceived(AlertDescription::UnknownCA)) => {
            "does not know the authority of this node's certificate".into()
        }
        Some(E::AlertReceived(AlertDescription::CertificateExpired)) => {
            "says that this node's certificate has expired".into()
        }
        Some(E::AlertReceived(AlertDescription::BadCertificate | AlertDescription::CertificateUnknown)) => {
            "refuses this node's certificate; does it have the name that the client connects to?".into()
        }
        Some(other) => format!("failed its TLS handshake: {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::BootTime;

    #[test]
    fn what_is_said_of_a_certificate_follows_the_clock_and_whether_it_is_trusted() {
        let day = |n: i64| WallTime(n * 86_400_000_000);
        let said = |wall, trusted| {
            condition(day(20_000), day(20_400), Path::new("a.pem"), Now { boot: BootTime(0), wall, trusted })
        };
        assert_eq!(said(day(20_100), true), ("certificate until 2025-11-08".into(), false));
        let soon = said(WallTime(day(20_388).0 - 1), true);
        assert_eq!(soon, ("the certificate ends in 12 days (2025-11-08); renew a.pem".into(), true));
        let over = said(day(20_401), true);
        assert_eq!(over, ("the certificate EXPIRED on 2025-11-08: clients refuse it; renew a.pem".into(), true));
        assert!(said(day(19_999), true).0.contains("valid only from 2024-10-04"));
        for wall in [day(0), day(20_100), day(20_401)] {
            let (text, ill) = said(wall, false);
            assert!(text.contains("the clock is not trusted") && !ill, "{text}");
        }
    }
}
