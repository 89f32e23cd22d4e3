//! What answers at the other end, and is not what was meant.

use crate::golden::{Normal, golden};
use crate::mosquitto::Mosquitto;
use crate::stand::{Node, Site, free_port, status};

fn sink(endpoint: &str, more: &str) -> String {
    format!("[sinks.hq]\ntype = \"fluvio\"\nendpoint = [\"{endpoint}\"]\ntopics = [\"notes\"]\n{more}")
}

fn broker(port: u16, more: &str) -> String {
    format!(
        "[sources.broker]\ntype = \"mqtt\"\nurl = \"mqtt://127.0.0.1:{port}\"\n\
         subscribe = [{{ filter = \"pump/#\", topic = \"notes\" }}]\n{more}"
    )
}

/// A second node as upstream: its SC and SPU ports.
struct Upstream {
    node: Node,
    sc: u16,
    spu: u16,
}

fn upstream(more: &str) -> Upstream {
    let (sc, spu) = (free_port(), free_port());
    let endpoint = format!(
        "[endpoint]\nsc_listen = \"127.0.0.1:{sc}\"\nspu_listen = \"127.0.0.1:{spu}\"\n{}",
        more.replace("{spu}", &spu.to_string())
    );
    let node = Site::new(&endpoint).start();
    node.page_with(&["endpoint up"]);
    Upstream { node, sc, spu }
}

impl Upstream {
    fn normal(&self, site: &Site) -> Normal {
        site.normal().port(self.sc, "9003").port(self.spu, "9010")
    }
}

#[test]
fn an_mqtt_broker_as_upstream_is_named() {
    let mosquitto = Mosquitto::start();
    let node = Site::new(&sink(&format!("127.0.0.1:{}", mosquitto.port), "")).start();
    let page = node.page_with(&["speaks MQTT, not Fluvio; an SC usually listens on 9003"]);
    golden("sink-meets-mqtt", &status(&page, &node.site.normal().port(mosquitto.port, "1883")));
}

#[test]
fn an_spu_that_advertises_localhost_is_named_with_the_way_out() {
    let nobody = free_port();
    let up = upstream(&format!("advertise = \"localhost:{nobody}\"\n"));
    let node = Site::new(&sink(&format!("127.0.0.1:{}", up.sc), "")).start();
    node.send("notes", "hello");
    let page = node.page_with(&["the SC answers but its SPU advertises localhost"]);
    golden("spu-advertises-localhost", &status(&page, &up.normal(&node.site).port(nobody, "9010")));
}

#[test]
fn an_spu_that_advertises_a_name_nobody_knows_here_is_named() {
    let up = upstream("advertise = \"spu-0.invalid:9010\"\n");
    let node = Site::new(&sink(&format!("127.0.0.1:{}", up.sc), "")).start();
    node.send("notes", "hello");
    let page = node.page_with(&["the SC answers but its SPU advertises spu-0.invalid:9010"]);
    golden("spu-advertises-unknown-name", &status(&page, &up.normal(&node.site)));
}

#[test]
fn an_address_that_leads_to_an_spu_is_named() {
    let up = upstream("");
    let node = Site::new(&sink(&format!("127.0.0.1:{}", up.spu), "")).start();
    let page = node.page_with(&["is an SPU"]);
    golden("sink-meets-spu", &status(&page, &up.normal(&node.site)));
}

#[test]
fn tls_where_there_is_none_is_told() {
    let up = upstream("");
    let node = Site::new(&sink(&format!("127.0.0.1:{}", up.sc), "tls = {}\n")).start();
    let page = node.page_with(&["DOWN"]);
    golden("sink-tls-to-plain", &status(&page, &up.normal(&node.site)));
}

#[test]
fn a_port_that_wants_tls_is_told_to_sink_and_source_without() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let made = std::process::Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"])
        .args(["-keyout", &path("key.pem"), "-out", &path("cert.pem")])
        .output()
        .expect("openssl is installed by scripts/test.sh");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let tls = Mosquitto::start_with(&format!(
        "allow_anonymous true\ncertfile {}\nkeyfile {}\n",
        path("cert.pem"),
        path("key.pem")
    ));
    let parts = format!("{}{}", sink(&format!("127.0.0.1:{}", tls.port), ""), broker(tls.port, ""));
    let node = Site::new(&parts).start();
    let page = node.page_with(&["hq DOWN", "broker DOWN"]);
    golden("plain-to-tls", &status(&page, &node.site.normal().port(tls.port, "8883")));
}

#[test]
fn a_name_that_nobody_knows_and_a_port_nobody_listens_on_are_told_apart() {
    let nobody = free_port();
    let node = Site::new(&format!(
        "{}{}",
        sink("sc.invalid:9003", ""),
        sink(&format!("127.0.0.1:{nobody}"), "").replace("sinks.hq", "sinks.lab")
    ))
    .start();
    let page = node.page_with(&["hq DOWN", "lab DOWN"]);
    golden("sink-unreachable", &status(&page, &node.site.normal().port(nobody, "9003")));
}

#[test]
fn a_topic_that_is_missing_upstream_is_named() {
    let up = upstream("");
    let node = Site::new(&sink(&format!("127.0.0.1:{}", up.sc), "create_topics = false\n")).start();
    node.send("notes", "hello");
    let page = node.page_with(&["does not exist upstream"]);
    golden("upstream-topic-missing", &status(&page, &up.normal(&node.site)));
    up.node.send("notes", "made");
    node.page_with(&["hq up", "nothing waiting"]);
}

#[test]
fn two_nodes_with_one_client_id_suspect_a_cloned_card() {
    let mosquitto = Mosquitto::start();
    let nodes = [1, 2].map(|_| Site::new(&broker(mosquitto.port, "")).start());
    let page = nodes[0].page_with(&["in use elsewhere: a cloned card?"]);
    golden("client-id-in-use", &status(&page, &nodes[0].site.normal().port(mosquitto.port, "1883")));
}

#[test]
fn a_wrong_password_at_the_broker_is_told() {
    let mosquitto = Mosquitto::start_with("allow_anonymous false\n");
    let site = Site::new(&broker(mosquitto.port, "username = \"pump\"\npassword = { file = \"password\" }\n"));
    std::fs::write(site.path("password"), "wrong\n").unwrap();
    let node = site.start();
    let page = node.page_with(&["broker DOWN"]);
    golden("broker-password", &status(&page, &node.site.normal().port(mosquitto.port, "1883")));
}

#[test]
fn a_source_that_meets_no_broker_is_told_what_it_met() {
    let up = upstream("");
    let nobody = free_port();
    let mosquitto = Mosquitto::start();
    let sources = [
        broker(up.sc, "").replace("sources.broker", "sources.a-fluvio"),
        broker(nobody, "").replace("sources.broker", "sources.b-nobody"),
        broker(1883, "").replace("127.0.0.1", "broker.invalid").replace("sources.broker", "sources.c-unknown"),
        broker(mosquitto.port, "").replace("mqtt://", "mqtts://").replace("sources.broker", "sources.d-plain"),
    ];
    let node = Site::new(&sources.concat()).start();
    let page = node.page_with(&["a-fluvio DOWN", "b-nobody DOWN", "c-unknown DOWN", "d-plain DOWN"]);
    golden(
        "source-meets-no-broker",
        &status(&page, &up.normal(&node.site).port(nobody, "1883").port(mosquitto.port, "1884")),
    );
}
