//! TLS of a sink: whom it trusts, who it is itself, and the handshake.
//!
//! The files are looked at with each connect, and once a minute beside a connection that stays (their times, sizes and
//! numbers; they are read where those changed). What is new and sound is used from then on: the connection is made anew
//! between two requests ([`Keeper::is_renewed`]). What is not sound (a key that does not belong to its certificate, because
//! one of two files was replaced) is shown, and what was used before stays in use until it is.
//!
//! A certificate that is not valid now is this machine's fault as often as the certificate's: where the clock is not set,
//! the clock is named.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{AlertDescription, CertificateError, ClientConfig, Error};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

use super::conn::plain;
use super::trouble::{Trouble, host_of};
use crate::certificate::Certificate;
use crate::config::model::TlsConfig;
use crate::envelope::rfc3339;
use crate::sinks::metered::Metered;
use crate::time::{Now, Span, WallTime};

/// Where systems keep the certificates they trust.
const SYSTEM_CA: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];
/// How often the files of a connection that stays are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// So long before a certificate ends it is told.
const WARN_BEFORE: Span = Span::from_secs(30 * 86_400);

/// What tells that a file is not the one that was read.
type Stamp = Option<(i64, i64, u64, u64)>;

/// What a sink has of its TLS files, and what its connections told.
#[derive(Debug)]
pub struct Keeper {
    config: TlsConfig,
    every: Duration,
    /// Whether this node's clock is set.
    trusted: Cell<bool>,
    used: RefCell<Used>,
}

#[derive(Debug, Default)]
struct Used {
    stamps: Vec<Stamp>,
    looked: Option<Instant>,
    client: Option<Arc<ClientConfig>>,
    /// Grows with each new `client`.
    generation: u64,
    /// What is wrong with the files as they are.
    trouble: Option<String>,
    /// When our certificate and the peer's end.
    own: Option<WallTime>,
    peer: Option<(String, WallTime)>,
}

impl Keeper {
    pub fn new(config: &TlsConfig) -> Rc<Self> {
        Self::looking_every(config, LOOK_EVERY)
    }

    pub fn looking_every(config: &TlsConfig, every: Duration) -> Rc<Self> {
        let (config, trusted) = (config.clone(), Cell::new(false));
        Rc::new(Self { config, every, trusted, used: RefCell::default() })
    }

    /// Whether this node's clock is set: asked when a certificate is not valid by it.
    pub fn note_clock(&self, trusted: bool) {
        self.trusted.set(trusted);
    }

    /// What connections are made with now; an error where there never was anything sound.
    fn client(&self) -> Result<Arc<ClientConfig>, String> {
        let mut used = self.used.borrow_mut();
        used.looked = Some(Instant::now());
        // Before they are read: a file that is replaced meanwhile is read again.
        let stamps = self.stamps();
        if used.trouble.is_some() || used.client.is_none() || used.stamps != stamps {
            match client(&self.config) {
                Ok((client, own)) => {
                    (used.client, used.trouble, used.stamps) = (Some(Arc::new(client)), None, stamps);
                    used.own = own.map(|own| own.until);
                    used.generation += 1;
                }
                Err(why) => used.trouble = Some(why),
            }
        }
        used.client.clone().ok_or_else(|| used.trouble.clone().unwrap_or_default())
    }

    fn stamps(&self) -> Vec<Stamp> {
        let key = self.config.key_file.as_deref();
        let files = [ca_file(&self.config), self.config.cert.as_deref(), key];
        let stamp = |path: Option<&Path>| {
            let of = std::fs::metadata(path?).ok()?;
            Some((of.mtime(), of.mtime_nsec(), of.size(), of.ino()))
        };
        files.into_iter().map(stamp).collect()
    }

    /// Which files connections are made with now.
    pub fn generation(&self) -> u64 {
        self.used.borrow().generation
    }

    /// Whether a connection that was made with the files of `generation` is to be made anew. Looks at them now and then.
    pub fn is_renewed(&self, generation: u64) -> bool {
        let looked = self.used.borrow().looked;
        if looked.is_none_or(|at| at.elapsed() >= self.every) {
            // What is wrong with them stands in `used`.
            let _ = self.client();
        }
        self.generation() > generation
    }

    /// How long until [`Keeper::is_renewed`] looks again.
    pub fn look_every(&self) -> Duration {
        self.every
    }

    /// When our certificate and the peer's end, in seconds since 1970.
    pub fn ends(&self) -> [(&'static str, Option<u64>); 2] {
        let used = self.used.borrow();
        let secs = |at: WallTime| u64::try_from(at.0 / 1_000_000).unwrap_or(0);
        let peer = used.peer.as_ref().map(|(_, at)| secs(*at));
        [("tls_client_not_after", used.own.map(secs)), ("tls_server_not_after", peer)]
    }

    /// What a person should know although connections are made.
    pub fn warning(&self, now: Now) -> Option<String> {
        let used = self.used.borrow();
        if let Some(why) = used.trouble.as_ref().filter(|_| used.client.is_some()) {
            return Some(format!("{why}; what was read before stays in use"));
        }
        let own = self.config.cert.as_ref().zip(used.own);
        let own = own.map(|(path, at)| (format!("the client certificate {}", path.display()), at));
        let peer = used.peer.as_ref().map(|(address, at)| (format!("the certificate of {address}"), *at));
        // Without a clock nobody knows how long that is.
        let soon = |at: WallTime| now.trusted && at.0 - now.wall.0 <= WARN_BEFORE.0;
        let (whose, at) = [own, peer].into_iter().flatten().filter(|(_, at)| soon(*at)).min_by_key(|(_, at)| at.0)?;
        let days = (at.0 - now.wall.0).div_euclid(86_400_000_000);
        Some(match days {
            ..0 => format!("{whose} expired on {}", shown(at)),
            0 => format!("{whose} expires today, on {}", shown(at)),
            1 => format!("{whose} expires on {}, in 1 day", shown(at)),
            days => format!("{whose} expires on {}, in {days} days", shown(at)),
        })
    }

    /// The handshake over a connection that is there.
    pub async fn start(
        &self,
        address: &str,
        tcp: Metered<TcpStream>,
        after: Duration,
    ) -> Result<tokio_rustls::client::TlsStream<Metered<TcpStream>>, Trouble> {
        let bad = |reason: String| Trouble::Tls { address: address.into(), reason };
        let client = self.client().map_err(bad)?;
        let host = self.config.server_name.as_deref().unwrap_or_else(|| host_of(address)).to_owned();
        let name = ServerName::try_from(host.clone());
        let name =
            name.map_err(|_| bad(format!("`{host}` cannot be the name in a certificate: set tls.server_name")))?;
        let stream = match timeout(after, TlsConnector::from(client).connect(name, tcp)).await {
            Err(_) => return Err(Trouble::Silent { address: address.into(), after, known: false }),
            Ok(Ok(stream)) => stream,
            Ok(Err(e)) if e.to_string().contains("corrupt message") || e.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(Trouble::NoTls { address: address.into() });
            }
            Ok(Err(e)) => return Err(bad(self.refusal(&e).unwrap_or_else(|| plain(&e)))),
        };
        let peer = stream.get_ref().1.peer_certificates().and_then(|chain| Certificate::read(chain.first()?));
        if let Some(peer) = peer {
            self.met(address, peer.until);
        }
        Ok(stream)
    }

    /// A peer showed a certificate that ends then. Of several peers the one is told that ends first.
    fn met(&self, address: &str, ends: WallTime) {
        let mut used = self.used.borrow_mut();
        if used.peer.as_ref().is_none_or(|(known, at)| known == address || ends < *at) {
            used.peer = Some((address.to_owned(), ends));
        }
    }

    /// What TLS says about a connection that it ended, in words; None: it was not TLS.
    pub fn refusal(&self, error: &io::Error) -> Option<String> {
        let error = error.get_ref()?.downcast_ref::<Error>()?;
        Some(match error {
            Error::InvalidCertificate(why) => self.invalid(why).unwrap_or_else(|| error.to_string().to_lowercase()),
            Error::AlertReceived(alert) => self.alert(*alert),
            _ => error.to_string().to_lowercase(),
        })
    }

    /// What is wrong with the peer's certificate.
    fn invalid(&self, why: &CertificateError) -> Option<String> {
        let trusted = self.trusted.get();
        Some(match why {
            CertificateError::ExpiredContext { time, not_after } if trusted => {
                format!("its certificate expired on {}; our clock says {}", date(*not_after), date(*time))
            }
            CertificateError::ExpiredContext { time, not_after } => format!(
                "this node's clock says {} and is not set; the certificate expired on {}",
                date(*time),
                date(*not_after)
            ),
            CertificateError::NotValidYetContext { time, not_before } if trusted => {
                format!("its certificate is valid from {} only; our clock says {}", date(*not_before), date(*time))
            }
            CertificateError::NotValidYetContext { time, not_before } => format!(
                "this node's clock says {} and is not set; the certificate is valid from {}",
                date(*time),
                date(*not_before)
            ),
            CertificateError::NotValidForNameContext { expected, presented } => format!(
                "its certificate is for {}, not for {}: is it the right host? else set tls.server_name",
                names(presented),
                expected.to_str()
            ),
            CertificateError::UnknownIssuer => format!(
                "its certificate is signed by nobody in {}: set tls.ca to the file of the authority that signed it",
                ca_file(&self.config).map_or_else(|| "tls.ca".into(), |path| path.display().to_string())
            ),
            CertificateError::BadSignature => format!(
                "its certificate is not signed by the authority of that name in {}: is that file an older one's?",
                ca_file(&self.config).map_or_else(|| "tls.ca".into(), |path| path.display().to_string())
            ),
            CertificateError::Revoked => "its certificate was revoked".into(),
            // An authority's own certificate, as `openssl req -x509` makes it.
            other if format!("{other:?}").contains("CaUsedAsEndEntity") => {
                "its certificate is an authority's (CA:TRUE) and not a server's: it needs one that the authority signed"
                    .into()
            }
            _ => return None,
        })
    }

    /// What the peer does not like; most often that is about us.
    fn alert(&self, alert: AlertDescription) -> String {
        let what = match alert {
            AlertDescription::CertificateRequired => "none was sent",
            AlertDescription::CertificateExpired => "it is expired",
            AlertDescription::CertificateRevoked => "it was revoked",
            AlertDescription::UnknownCA => "it does not know the authority that signed it",
            AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::DecryptError
            | AlertDescription::AccessDenied
            | AlertDescription::HandshakeFailure => "",
            other => return format!("it ended the handshake: {other:?}"),
        };
        match &self.config.cert {
            None => "it wants a client certificate: set tls.cert and tls.key".into(),
            Some(cert) if what.is_empty() => format!("it refuses our certificate {} ({alert:?})", cert.display()),
            Some(cert) => format!("it refuses our certificate {}: {what}", cert.display()),
        }
    }
}

/// As a certificate has it: to the second.
fn shown(at: WallTime) -> String {
    let whole = WallTime(at.0.div_euclid(1_000_000) * 1_000_000);
    rfc3339(whole).unwrap_or_default().replace(".000000Z", "Z")
}

fn date(at: UnixTime) -> String {
    shown(WallTime(i64::try_from(at.as_secs()).unwrap_or(i64::MAX).saturating_mul(1_000_000)))
}

/// `DnsName("a")` as a person writes it.
fn names(presented: &[String]) -> String {
    let plain = |name: &String| match name.split_once('(') {
        Some((_, inside)) => inside.trim_matches([')', '"']).to_owned(),
        None => name.clone(),
    };
    match presented {
        [] => "no name at all".into(),
        names => names.iter().map(plain).collect::<Vec<_>>().join(", "),
    }
}

/// What connections are made with, and when our certificate is valid.
fn client(tls: &TlsConfig) -> Result<(ClientConfig, Option<Certificate>), String> {
    let mut roots = rustls::RootCertStore::empty();
    let path = ca_file(tls).ok_or("no system CA bundle found: set tls.ca")?;
    for cert in certificates(path)? {
        // One odd certificate in a system's bundle must not cost the rest.
        let _ = roots.add(cert);
    }
    if roots.is_empty() {
        return Err(format!("{} holds no certificate that can be an authority's", path.display()));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_root_certificates(roots);
    let (Some(cert), Some(key)) = (&tls.cert, &tls.key) else {
        return Ok((builder.with_no_client_auth(), None));
    };
    let chain = certificates(cert)?;
    let own = chain.first().and_then(|cert| Certificate::read(cert));
    let (key_name, key) = match &tls.key_file {
        Some(path) => (path.display().to_string(), PrivateKeyDer::from_pem_file(path)),
        None => ("tls.key".into(), PrivateKeyDer::from_pem_slice(key.0.as_bytes())),
    };
    let key = key.map_err(|error| match error {
        pem::Error::Io(error) => format!("cannot read {key_name}: {}", plain(&error)),
        // What it says may show some of the key.
        _ => format!("{key_name} holds no private key in PEM form"),
    })?;
    let client = builder.with_client_auth_cert(chain, key).map_err(|error| match error {
        Error::InconsistentKeys(_) => {
            format!("the key {key_name} does not belong to the certificate {}", cert.display())
        }
        error => format!("the certificate {} and the key {key_name} cannot be used: {error}", cert.display()),
    })?;
    Ok((client, own))
}

fn ca_file(tls: &TlsConfig) -> Option<&Path> {
    let system = || SYSTEM_CA.iter().map(Path::new).find(|path| path.exists());
    tls.ca.as_deref().or_else(system)
}

/// All certificates of a file; at least one.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let none = || format!("{} holds no certificate in PEM form", path.display());
    let unread = |error: pem::Error| match error {
        pem::Error::Io(error) => format!("cannot read {}: {}", path.display(), plain(&error)),
        error => format!("{}: {error}", none()),
    };
    let read: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).map_err(unread)?.collect();
    read.map_err(unread).and_then(|certs| if certs.is_empty() { Err(none()) } else { Ok(certs) })
}

#[cfg(test)]
pub mod tests;
