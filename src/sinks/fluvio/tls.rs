//! TLS of a connection: whom the sink trusts, who it is itself, and the handshake.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::conn::plain;
use super::trouble::{Trouble, host_of};
use crate::config::model::TlsConfig;

/// Where systems keep the certificates they trust.
const SYSTEM_CA: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// The handshake over a connection that is there.
pub async fn start(
    address: &str,
    tls: &TlsConfig,
    tcp: TcpStream,
    after: Duration,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, Trouble> {
    let bad = |reason: String| Trouble::Tls { address: address.into(), reason };
    let config = tls_config(tls).map_err(bad)?;
    let name = tls.server_name.as_deref().unwrap_or_else(|| host_of(address)).to_owned();
    let name = ServerName::try_from(name).map_err(|e| bad(e.to_string()))?;
    match timeout(after, TlsConnector::from(Arc::new(config)).connect(name, tcp)).await {
        Err(_) => Err(Trouble::Silent { address: address.into(), after }),
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(e)) if e.to_string().contains("corrupt message") || e.kind() == io::ErrorKind::UnexpectedEof => {
            Err(Trouble::NoTls { address: address.into() })
        }
        Ok(Err(e)) => Err(bad(plain(&e))),
    }
}

fn tls_config(tls: &TlsConfig) -> Result<rustls::ClientConfig, String> {
    let mut roots = rustls::RootCertStore::empty();
    for cert in ca_certificates(tls)? {
        // One odd certificate in a system's bundle must not cost the rest.
        let _ = roots.add(cert);
    }
    if roots.is_empty() {
        return Err("no usable CA certificate: set tls.ca".into());
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_root_certificates(roots);
    let (Some(cert), Some(key)) = (&tls.cert, &tls.key) else {
        return Ok(builder.with_no_client_auth());
    };
    let named = |e| unread(cert, e);
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(cert).map_err(named)?.collect();
    let key = PrivateKeyDer::from_pem_slice(key.0.as_bytes()).map_err(|e| format!("tls.key: {e}"))?;
    builder.with_client_auth_cert(chain.map_err(named)?, key).map_err(|e| format!("client certificate: {e}"))
}

fn unread(path: &std::path::Path, error: rustls::pki_types::pem::Error) -> String {
    match error {
        rustls::pki_types::pem::Error::Io(error) => format!("cannot read {}: {}", path.display(), plain(&error)),
        error => format!("{} holds no certificate in PEM form: {error}", path.display()),
    }
}

fn ca_certificates(tls: &TlsConfig) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = |path: &std::path::Path| -> Result<Vec<_>, String> {
        let certs = CertificateDer::pem_file_iter(path).map_err(|e| unread(path, e))?;
        certs.collect::<Result<_, _>>().map_err(|e| unread(path, e))
    };
    match &tls.ca {
        Some(path) => read(path),
        None => {
            let found = SYSTEM_CA.iter().map(std::path::Path::new).find(|p| p.exists());
            read(found.ok_or("no system CA bundle found: set tls.ca")?)
        }
    }
}
