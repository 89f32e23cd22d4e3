//! The `tls` table of sources and sinks.

use rustls::pki_types::ServerName;

use super::model::TlsConfig;
use super::reader::Reader;

/// Reads `tls` if it is there. Files other than the key are opened when the part connects: a certificate that is
/// renewed is seen at the next connect, one that is missing is shown and waited for.
pub fn tls(parent: &Reader<'_>) -> Option<TlsConfig> {
    let r = parent.opt_section("tls")?;
    let tls = TlsConfig {
        ca: r.opt_path("ca"),
        cert: r.opt_path("cert"),
        key: r.secret("key"),
        key_file: r.secret_file("key"),
        server_name: r.opt_text("server_name", "host", |s| match ServerName::try_from(s) {
            Ok(_) => Ok(s.to_owned()),
            Err(_) => Err(format!("`{s}` cannot be the name in a certificate; write a host name or an IP address")),
        }),
    };
    if tls.cert.is_some() != r.has("key") {
        r.wrong(if tls.cert.is_some() { "cert" } else { "key" }, "`cert` and `key` belong together; give both or none");
    }
    for (key, path) in [("ca", &tls.ca), ("cert", &tls.cert)] {
        if let Some(path) = path.as_ref().filter(|path| !path.exists()) {
            r.warn(key, format!("there is no {} now: what needs it stays down until there is", path.display()));
        }
    }
    Some(tls)
}
