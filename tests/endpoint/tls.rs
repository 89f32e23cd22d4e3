//! TLS of the endpoint between real nodes: who is let in, as whom, and what is said of those who are not.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;

use headwater::endpoint::Patience;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};

use super::certs::{Authority, Good};
use super::node::{Node, config, eventually, free_port};
use super::server::{Client, Server, plan, string};

/// A node whose endpoint speaks TLS with the certificate `server` of the authority.
struct Upstream {
    node: Node,
    authority: Authority,
    sc: u16,
}

impl Upstream {
    /// `more` belongs to the `tls` table, `tables` follow it.
    fn start(server: Good, more: &str, tables: &str) -> Self {
        let (sc, spu, authority) = (free_port(), free_port(), Authority::new());
        authority.issue("server", server);
        let path = |name| authority.path(name).display().to_string();
        let (cert, key, ca) = (path("server.pem"), path("server.key"), path("ca.pem"));
        let endpoint = format!(
            "[endpoint]\nsc_listen = \"127.0.0.1:{sc}\"\nspu_listen = \"127.0.0.1:{spu}\"\n\
             tls = {{ cert = \"{cert}\", key = {{ file = \"{key}\" }}, client_ca = \"{ca}\"{more} }}\n{tables}"
        );
        let mut node = Node::new(&config("upstream", &endpoint));
        node.start();
        node.says("endpoint", "up", "over TLS");
        Self { node, authority, sc }
    }

    fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.sc))
    }

    /// What a sink's config says to come here, `tls` being what is in its table.
    fn sink(&self, tls: &str) -> String {
        let tls = if tls.is_empty() { String::new() } else { format!("tls = {{ {tls} }}\n") };
        format!(
            "[sinks.hq]\ntype = \"fluvio\"\nendpoint = [\"127.0.0.1:{}\"]\ntopics = [\"*\"]\n\
             exclude = [\"headwater-*\"]\nretry_min = \"100ms\"\nretry_max = \"1s\"\ngrace = \"100ms\"\n{tls}",
            self.sc
        )
    }
}

/// The inside of a sink's `tls`.
fn with(authority: &Authority, name: &str, ca: &Authority) -> String {
    let path = |of: &Authority, name: &str| of.path(name).display().to_string();
    format!(
        "ca = \"{}\", cert = \"{}\", key = {{ file = \"{}\" }}",
        path(ca, "ca.pem"),
        path(authority, &format!("{name}.pem")),
        path(authority, &format!("{name}.key"))
    )
}

/// A client that trusts `ca`, with the certificate in `own`, for a server of this name. Nothing is sent before its first
/// request.
fn client(to: SocketAddr, ca: &Path, own: Option<(&Path, &Path)>, name: &str) -> Client {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let builder = builder.with_root_certificates(roots);
    let config = match own {
        None => builder.with_no_client_auth(),
        Some((cert, key)) => {
            let cert = CertificateDer::from_pem_file(cert).unwrap();
            builder.with_client_auth_cert(vec![cert], PrivateKeyDer::from_pem_file(key).unwrap()).unwrap()
        }
    };
    let session = rustls::ClientConnection::new(Arc::new(config), ServerName::try_from(name.to_owned()).unwrap());
    let session = session.unwrap();
    Client::over(to, |socket: TcpStream| Box::new(rustls::StreamOwned::new(session, socket)))
}

/// ApiVersions; whether it is let in or not.
const GREETING: [u8; 20] = [0, 0, 0, 16, 0, 18, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];

#[test]
fn a_node_forwards_to_a_node_over_tls_what_its_certificate_allows() {
    let tables = "[[endpoint.allow]]\nwho = \"press-7\"\nproduce = [\"notes\"]\nadmin = true\n";
    let up = Upstream::start(Good::Days(365), "", tables);
    up.authority.issue("press-7", Good::Days(365));
    let mut edge = Node::started(&up.sink(&with(&up.authority, "press-7", &up.authority)));
    edge.send("notes", &["one", "two", "three"]);
    assert_eq!(up.node.tail("notes", 3), ["one", "two", "three"]);
    // After a restart it finds where it was, although it may not read.
    edge.says("hq", "up", "");
    edge.stop();
    edge.start();
    edge.send("notes", &["four"]);
    assert_eq!(up.node.tail("notes", 4), ["one", "two", "three", "four"]);
    eventually("the last answer", || (edge.sink("hq").delivered == 4).then_some(()));
    assert_eq!((edge.sink("hq").duplicated, edge.sink("hq").maybe_duplicated), (0, 0));
    // There each record is known by the ring and the seq that it has here.
    let ring = edge.status().ring.id;
    let told = up.node.run(&["tail", "notes", "--from-beginning", "-n", "4", "--json"]).ok();
    let origins: Vec<serde_json::Value> =
        told.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["origin"].clone()).collect();
    assert!(origins.iter().all(|origin| origin["ring"] == ring.as_str()), "{ring}: {told}");
    let seqs: Vec<_> = origins.iter().map(|origin| origin["seq"].as_u64().unwrap()).collect();
    assert!(seqs[0] <= seqs[2] && seqs[2] < seqs[3], "{seqs:?}");

    edge.send("secret", &["no"]);
    eventually("the edge to say what it may not", || {
        let words = "press-7 (127.0.0.1) may not make topic secret here";
        edge.run(&["status"]).ok().contains(words).then_some(())
    });
    let part = up.node.says("endpoint", "up", "last refused: press-7 (127.0.0.1) may not make secret");
    assert!(part.counters["denied"] > 0, "{part:?}");
    assert!(up.node.run(&["status"]).ok().contains("; denied "));
    // It is kept until it is allowed, which ends the connections that there are.
    let text = std::fs::read_to_string(up.node.config_path()).unwrap();
    up.node.write_config(&text.replace("produce = [\"notes\"]", "produce = [\"notes\", \"secret\"]"));
    assert!(up.node.run(&["reload"]).ok().contains("changed endpoint"));
    assert_eq!(up.node.tail("secret", 1), ["no"]);

    // A client is shown what it may use, and nothing else.
    up.node.send("hidden", &["x"]);
    let own = (up.authority.path("press-7.pem"), up.authority.path("press-7.key"));
    let ca = up.authority.path("ca.pem");
    let mut client = client(up.address(), &ca, Some((own.0.as_path(), own.1.as_path())), "127.0.0.1");
    let mut watch = string("Topic");
    watch.extend([0, 0, 0, 9]);
    watch.extend([0; 9]);
    client.request(1004, 19, 1, &watch);
    let shown = String::from_utf8_lossy(&client.answer(1)).into_owned();
    assert!(shown.contains("notes") && shown.contains("secret") && !shown.contains("hidden"), "{shown}");
}

#[test]
fn who_is_turned_away_is_told_and_shown_with_the_reason() {
    let up = Upstream::start(Good::Days(365), "", "");
    let stranger = Authority::new();
    stranger.issue("stranger", Good::Days(365));
    up.authority.issue("late", Good::Once);
    up.authority.issue("fine", Good::Days(365));
    let ca = up.authority.path("ca.pem");
    let own = |of: &Authority, name: &str| (of.path(&format!("{name}.pem")), of.path(&format!("{name}.key")));
    let greet = |ca: &Path, own: Option<&(_, _)>, name: &str| {
        let own: Option<&(std::path::PathBuf, std::path::PathBuf)> = own;
        let mut client = client(up.address(), ca, own.map(|(cert, key)| (cert.as_path(), key.as_path())), name);
        client.send_raw(&GREETING).is_ok() && client.whole_frame().is_some()
    };
    let refused = |words: &str| drop(up.node.says("endpoint", "up", &format!("last refused: 127.0.0.1 {words}")));

    assert!(greet(&ca, Some(&own(&up.authority, "fine")), "localhost"));
    assert!(!greet(&ca, None, "localhost"));
    refused("brings no client certificate");
    assert!(!greet(&ca, Some(&own(&stranger, "stranger")), "localhost"));
    refused("brings a client certificate that no authority in `client_ca` has signed");
    assert!(!greet(&ca, Some(&own(&up.authority, "late")), "localhost"));
    refused("brings a client certificate that has expired");
    assert!(!greet(&stranger.path("ca.pem"), Some(&own(&up.authority, "fine")), "localhost"));
    refused("does not know the authority of this node's certificate");
    assert!(!greet(&ca, Some(&own(&up.authority, "fine")), "elsewhere.example"));
    refused("refuses this node's certificate");
    let mut plain = Client::connect(up.address());
    plain.send_raw(&GREETING).unwrap();
    refused("does not speak TLS");
    assert!(up.node.log().contains("does not speak TLS"), "{}", up.node.log());
    assert!(up.node.run(&["status"]).ok().contains("handshakes failed 6"));

    // And sinks say it.
    let sinks = [
        ("plain", String::new(), "wants TLS"),
        ("nameless", format!("ca = \"{}\"", ca.display()), "it wants a client certificate"),
        ("late", with(&up.authority, "late", &up.authority), "it is expired"),
    ];
    let config: String =
        sinks.iter().map(|(name, tls, _)| up.sink(tls).replace("sinks.hq", &format!("sinks.{name}"))).collect();
    let edge = Node::started(&config);
    edge.send("notes", &["x"]);
    for (name, _, words) in sinks {
        edge.says(name, "down", words);
    }
}

#[test]
fn a_client_without_a_certificate_has_what_a_star_has() {
    let tables = "[[endpoint.allow]]\nwho = \"*\"\nconsume = [\"news\"]\n";
    let up = Upstream::start(Good::Days(365), ", require_client_cert = false", tables);
    up.node.send("news", &["x"]);
    up.node.send("other", &["x"]);
    let mut client = client(up.address(), &up.authority.path("ca.pem"), None, "localhost");
    let mut watch = string("Topic");
    watch.extend([0, 0, 0, 9]);
    watch.extend([0; 9]);
    client.request(1004, 19, 1, &watch);
    let shown = String::from_utf8_lossy(&client.answer(1)).into_owned();
    assert!(shown.contains("news") && !shown.contains("other"), "{shown}");
}

#[test]
fn a_certificate_is_read_again_when_it_changes_and_a_bad_one_leaves_the_old() {
    let up = Upstream::start(Good::Days(365), "", "");
    up.authority.issue("press-7", Good::Days(365));
    let tls = with(&up.authority, "press-7", &up.authority);
    let edge = Node::started(&up.sink(&tls));
    edge.send("notes", &["one"]);
    assert_eq!(up.node.tail("notes", 1), ["one"]);
    // Only looked at: nobody tells the node.
    let cert = up.authority.path("server.pem");
    let good = std::fs::read(&cert).unwrap();
    std::fs::write(&cert, "half a file").unwrap();
    up.node.says("endpoint", "warn", "server.pem holds no certificate in PEM form");
    std::fs::write(&cert, good).unwrap();
    // Told: at once. This one has another key, and has expired.
    up.authority.issue("server", Good::Once);
    assert!(up.node.run(&["reload"]).ok().contains("nothing changed"));
    let page = up.node.run(&["status"]).ok();
    assert!(page.contains("2020-12-31"), "{page}");
    assert!(page.contains("EXPIRED") || page.contains("the clock is not trusted"), "{page}");
    // Connections go on; a new one sees what it is.
    edge.send("notes", &["two"]);
    assert_eq!(up.node.tail("notes", 2), ["one", "two"]);
    let late = Node::started(&up.sink(&tls));
    late.send("notes", &["x"]);
    late.says("hq", "down", "certificate expired");
}

#[test]
fn an_endpoint_without_its_certificate_is_down_and_says_which_file() {
    let (authority, sc, spu) = (Authority::new(), free_port(), free_port());
    authority.issue("server", Good::Days(365));
    let path = |name| authority.path(name).display().to_string();
    let (cert, key) = (path("late.pem"), path("server.key"));
    let endpoint = format!(
        "[endpoint]\nsc_listen = \"127.0.0.1:{sc}\"\nspu_listen = \"127.0.0.1:{spu}\"\n\
         tls = {{ cert = \"{cert}\", key = {{ file = \"{key}\" }} }}\n"
    );
    let mut node = Node::new(&config("edge", &endpoint));
    node.start();
    node.says("endpoint", "down", &format!("cannot read {cert}"));
    std::fs::copy(path("server.pem"), &cert).unwrap();
    node.run(&["reload"]).ok();
    node.says("endpoint", "up", "over TLS; certificate until");
}

#[test]
fn a_handshake_that_does_not_come_is_given_up_and_others_are_served() {
    let authority = Authority::new();
    authority.issue("server", Good::Days(365));
    let mut config = super::server::config(64);
    config.tls = Some(headwater::config::model::ServerTls {
        cert: authority.path("server.pem"),
        key: headwater::config::model::SecretPlace::File(authority.path("server.key")),
        client_ca: None,
        require_client_cert: true,
    });
    let patience = Patience { handshake: std::time::Duration::from_secs(1), ..Patience::default() };
    let server = Server::waiting(config, plan, patience);
    let mut silent = Client::connect(server.sc);
    // The silent one does not stand in the way of who comes behind it.
    let mut other = client(server.sc, &authority.path("ca.pem"), None, "localhost");
    other.request(18, 2, 1, &[0; 6]);
    assert!(!other.answer(1).is_empty());
    assert!(silent.is_closed());
}
