//! Certificates of every kind that can be wrong, against a server of rustls.

use std::path::PathBuf;

use rcgen::{BasicConstraints, Certificate, CertificateParams, DnType, IsCa, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::config::model::{FluvioSink, Secret};
use crate::node::testing::block_on;
use crate::sinks::fluvio::conn::{Line, Link};
use crate::sinks::fluvio::testing::sink;
use crate::time::BootTime;

/// An authority.
pub struct Authority {
    certificate: Certificate,
    key: KeyPair,
}

/// A certificate and its key, in PEM form.
pub struct Pair {
    pub cert: String,
    pub key: String,
    der: (CertificateDer<'static>, Vec<u8>),
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self { certificate: params.self_signed(&key).unwrap(), key }
    }

    pub fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// For as long as anybody tests.
    pub fn signs(&self, name: &str) -> Pair {
        self.signs_for(name, 2000, 4000)
    }

    /// Valid between these years.
    fn signs_for(&self, name: &str, from: i32, to: i32) -> Pair {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(to, 1, 1));
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.certificate, &self.key).unwrap();
        Pair { cert: cert.pem(), key: key.serialize_pem(), der: (cert.der().clone(), key.serialize_der()) }
    }

    /// What a server with this certificate does; `clients`: whose certificates it demands.
    pub fn server(pair: &Pair, clients: Option<&Self>) -> TlsAcceptor {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone());
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = rustls::RootCertStore::empty();
                roots.add(authority.certificate.der().clone()).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let (cert, key) = (pair.der.0.clone(), PrivateKeyDer::try_from(pair.der.1.clone()).unwrap());
        TlsAcceptor::from(Arc::new(builder.with_single_cert(vec![cert], key).unwrap()))
    }
}

impl Pair {
    pub fn der(&self) -> Vec<u8> {
        self.der.0.to_vec()
    }
}

/// A directory with the files of a client.
pub struct Files {
    dir: tempfile::TempDir,
    pub config: TlsConfig,
}

impl Files {
    pub fn new(ca: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ca_file = dir.path().join("ca.pem");
        std::fs::write(&ca_file, ca).unwrap();
        let config = TlsConfig {
            ca: Some(ca_file),
            cert: None,
            key: None,
            key_file: None,
            server_name: Some("localhost".into()),
        };
        Self { dir, config }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// As who renews certificates does it: another file under the same name.
    pub fn put(&self, name: &str, text: &str) {
        std::fs::write(self.path("new"), text).unwrap();
        std::fs::rename(self.path("new"), self.path(name)).unwrap();
    }

    pub fn with(mut self, pair: &Pair) -> Self {
        self.put("cert.pem", &pair.cert);
        self.put("key.pem", &pair.key);
        self.config.cert = Some(self.path("cert.pem"));
        self.config.key = Some(Secret(pair.key.clone()));
        self.config.key_file = Some(self.path("key.pem"));
        self
    }
}

/// What the connection to such a server ends with.
async fn met(acceptor: TlsAcceptor, files: &Files) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = tokio::task::spawn_local(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        // A handshake that fails is what is looked for.
        if let Ok(mut stream) = acceptor.accept(tcp).await {
            let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
        }
    });
    let sink = FluvioSink { connect_timeout: Span::from_secs(30), ..sink(&address) };
    let keeper = Keeper::new(&files.config);
    keeper.note_clock(true);
    let met = Link::open(&address, &sink, &Line { tls: Some(keeper.clone()), ..Line::default() }).await;
    server.abort();
    let words = met.err().expect("nobody speaks Fluvio there").to_string();
    words.replace(&address, "PEER").replace(&files.dir.path().display().to_string(), "DIR")
}

#[test]
fn each_thing_that_is_wrong_with_the_peers_certificate_has_its_words() {
    block_on(async {
        let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
        let files = Files::new(&ours.pem());
        let says = async |pair: &Pair| met(Authority::server(pair, None), &files).await;
        let words = says(&ours.signs("sc.example")).await;
        let name = "TLS with PEER: its certificate is for sc.example, not for localhost: is it the right host? else set \
                    tls.server_name";
        assert_eq!(words, name);
        let words = says(&theirs.signs("localhost")).await;
        let issuer = "TLS with PEER: its certificate is signed by nobody in DIR/ca.pem: set tls.ca to the file of the \
                      authority that signed it";
        assert_eq!(words, issuer);
        let words = says(&Authority::new("ours").signs("localhost")).await;
        let signature = "TLS with PEER: its certificate is not signed by the authority of that name in DIR/ca.pem: is that \
                         file an older one's?";
        assert_eq!(words, signature);
        let words = says(&ours.signs_for("localhost", 2000, 2001)).await;
        assert!(words.starts_with("TLS with PEER: its certificate expired on 2001-01-01T00:00:00Z; our clock says "));
        let words = says(&ours.signs_for("localhost", 3000, 4000)).await;
        let not_yet = "TLS with PEER: its certificate is valid from 3000-01-01T00:00:00Z only; our clock says ";
        assert!(words.starts_with(not_yet), "{words}");
    });
}

#[test]
fn a_clock_that_is_not_set_is_blamed_for_what_is_not_valid_yet() {
    let keeper = Keeper::new(&Files::new("").config);
    let at = |secs| UnixTime::since_unix_epoch(Duration::from_secs(secs));
    let (time, not_before) = (at(77), at(1_700_000_000));
    let why = CertificateError::NotValidYetContext { time, not_before };
    let error = io::Error::other(Error::InvalidCertificate(why));
    assert_eq!(
        keeper.refusal(&error).unwrap(),
        "this node's clock says 1970-01-01T00:01:17Z and is not set; the certificate is valid from 2023-11-14T22:13:20Z"
    );
}

#[test]
fn a_peer_that_wants_a_certificate_and_one_that_refuses_ours_are_told_apart() {
    block_on(async {
        let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
        let server = Authority::server(&ours.signs("localhost"), Some(&ours));
        let words = met(server.clone(), &Files::new(&ours.pem())).await;
        assert_eq!(words, "TLS with PEER: it wants a client certificate: set tls.cert and tls.key");
        let words = met(server.clone(), &Files::new(&ours.pem()).with(&ours.signs_for("edge", 2000, 2001))).await;
        assert_eq!(words, "TLS with PEER: it refuses our certificate DIR/cert.pem: it is expired");
        let words = met(server, &Files::new(&ours.pem()).with(&theirs.signs("edge"))).await;
        assert!(words.starts_with("TLS with PEER: it refuses our certificate DIR/cert.pem"), "{words}");
    });
}

#[test]
fn each_thing_that_is_wrong_with_our_files_is_named_with_the_file() {
    let authority = Authority::new("ours");
    let (one, other) = (authority.signs("edge"), authority.signs("edge"));
    let says = |change: &dyn Fn(&Files)| {
        let files = Files::new(&authority.pem()).with(&one);
        change(&files);
        let why = Keeper::new(&files.config).client().expect_err("it cannot be used");
        why.replace(&files.dir.path().display().to_string(), "DIR")
    };
    let removes = |name: &'static str| move |files: &Files| std::fs::remove_file(files.path(name)).unwrap();
    let puts = |name: &'static str, text: &str| {
        let text = text.to_owned();
        move |files: &Files| files.put(name, &text)
    };
    assert_eq!(says(&removes("ca.pem")), "cannot read DIR/ca.pem: no such file or directory");
    assert_eq!(says(&puts("ca.pem", "no PEM")), "DIR/ca.pem holds no certificate in PEM form");
    assert_eq!(says(&removes("cert.pem")), "cannot read DIR/cert.pem: no such file or directory");
    assert_eq!(says(&puts("cert.pem", &one.key)), "DIR/cert.pem holds no certificate in PEM form");
    assert_eq!(says(&removes("key.pem")), "cannot read DIR/key.pem: no such file or directory");
    assert_eq!(says(&puts("key.pem", &one.cert)), "DIR/key.pem holds no private key in PEM form");
    let mismatch = "the key DIR/key.pem does not belong to the certificate DIR/cert.pem";
    assert_eq!(says(&puts("key.pem", &other.key)), mismatch);
}

#[test]
fn a_half_renewed_pair_is_shown_and_the_old_one_stays_in_use_until_both_are_there() {
    let authority = Authority::new("ours");
    let (old, new) = (authority.signs("edge"), authority.signs("edge"));
    let files = Files::new(&authority.pem()).with(&old);
    let keeper = Keeper::looking_every(&files.config, Duration::ZERO);
    let now = Now { boot: BootTime(0), wall: WallTime(1_700_000_000_000_000), trusted: true };
    let first = keeper.client().unwrap();
    let generation = keeper.generation();
    assert!(!keeper.is_renewed(generation) && keeper.warning(now).is_none());
    files.put("cert.pem", &new.cert);
    assert!(!keeper.is_renewed(generation));
    assert!(Arc::ptr_eq(&first, &keeper.client().unwrap()));
    let warning = keeper.warning(now).unwrap();
    assert!(
        warning.contains("does not belong to the certificate")
            && warning.ends_with("what was read before stays in use")
    );
    files.put("key.pem", &new.key);
    assert!(keeper.is_renewed(generation) && !keeper.is_renewed(keeper.generation()));
    assert!(!Arc::ptr_eq(&first, &keeper.client().unwrap()) && keeper.warning(now).is_none());
}

#[test]
fn a_certificate_that_ends_within_thirty_days_is_told_where_the_clock_is_set() {
    let authority = Authority::new("ours");
    let files = Files::new(&authority.pem()).with(&authority.signs_for("edge", 2020, 2030));
    let keeper = Keeper::new(&files.config);
    keeper.client().unwrap();
    let ends = 1_893_456_000;
    assert_eq!(keeper.ends(), [("tls_client_not_after", Some(ends)), ("tls_server_not_after", None)]);
    let before = |days: i64, trusted| {
        let now = Now { boot: BootTime(0), wall: WallTime((ends as i64 - days * 86_400) * 1_000_000), trusted };
        let words = keeper.warning(now)?;
        Some(words.replace(&files.dir.path().display().to_string(), "DIR"))
    };
    let says = |rest: &str| Some(format!("the client certificate DIR/cert.pem {rest}"));
    assert_eq!((before(31, true), before(3, false)), (None, None));
    assert_eq!(before(30, true), says("expires on 2030-01-01T00:00:00Z, in 30 days"));
    assert_eq!(before(0, true), says("expires today, on 2030-01-01T00:00:00Z"));
    assert_eq!(before(-1, true), says("expired on 2030-01-01T00:00:00Z"));
    keeper.met("spu:9010", WallTime(ends as i64 * 1_000_000 - 1_000_000));
    let told = before(10, true).unwrap();
    assert_eq!(told, "the certificate of spu:9010 expires on 2029-12-31T23:59:59Z, in 9 days");
}
