//! A second node as the upstream, behind a link; and what arrives there.

use fluvio::{Fluvio, FluvioClusterConfig, RecordKey};

use super::link::Link;
use super::node::{Node, config, eventually, free_port, patience};
use super::rings::{assert_same, records};

/// A node with an endpoint, and the link that leads to it.
pub struct Upstream {
    pub node: Node,
    pub link: Link,
    /// The SC as the edge reaches it.
    pub sc: u16,
    /// The SC itself.
    pub direct: u16,
}

impl Upstream {
    pub fn start() -> Self {
        Self::start_with(|config| config)
    }

    /// With changes to its config.
    pub fn start_with(change: impl Fn(String) -> String) -> Self {
        Self::start_behind(|spu| spu, change)
    }

    /// With something before its SPU's port: what gives the port that leads there.
    pub fn start_behind(before: impl Fn(u16) -> u16, change: impl Fn(String) -> String) -> Self {
        let (sc, spu, link) = (free_port(), free_port(), Link::default());
        let advertised = link.carry(before(spu));
        let endpoint = format!(
            "[endpoint]\nsc_listen = \"127.0.0.1:{sc}\"\nspu_listen = \"127.0.0.1:{spu}\"\n\
             advertise = \"127.0.0.1:{advertised}\"\n"
        );
        let mut node = Node::new(&change(config("upstream", &endpoint)));
        node.start();
        Self { node, sc: link.carry(sc), link, direct: sc }
    }

    /// A sink of the edge that leads here; quick to try again.
    pub fn sink(&self, name: &str, more: &str) -> String {
        format!(
            "[sinks.{name}]\ntype = \"fluvio\"\nendpoint = [\"127.0.0.1:{}\"]\ntopics = [\"*\"]\n\
             retry_min = \"100ms\"\nretry_max = \"1s\"\ngrace = \"100ms\"\n{more}\n",
            self.sc
        )
    }
}

pub fn numbered(name: &str, range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|i| format!("{name}-{i}")).collect()
}

pub fn send_all(node: &Node, topic: &str, lines: &[String]) {
    let lines: Vec<_> = lines.iter().map(String::as_str).collect();
    node.send(topic, &lines);
}

#[test]
fn a_node_upstream_of_a_node_gets_each_record_once_and_in_order_whatever_the_link_does() {
    let mut up = Upstream::start();
    let mut edge = Node::started(&up.sink("hq", "upstream_topic = \"from-{topic}\"\n"));
    for round in 0..8 {
        send_all(&edge, "notes", &numbered("n", round * 500..(round + 1) * 500));
        // While it is being sent, or just after.
        up.link.cut();
        send_all(&edge, "alarms", &numbered("a", round * 50..(round + 1) * 50));
        up.link.restore();
    }
    edge.run(&["drain"]).ok();
    let sink = edge.sink("hq");
    assert_eq!((sink.pending, sink.refused, sink.maybe_duplicated), (0, 0, 0), "{sink:?}");
    edge.stop();
    up.node.stop();
    for (topic, count) in [("notes", 4000), ("alarms", 400)] {
        let stored = records(&edge.data(), topic);
        assert_eq!(stored.len(), count);
        assert_same(topic, &stored, &records(&up.node.data(), &format!("from-{topic}")));
    }
}

#[test]
fn a_backlog_in_batches_that_the_upstream_finds_too_large_is_sent_in_smaller_ones() {
    // A ring of 4 MiB takes 64 KiB at once; the sink begins with batches of 512 KiB.
    let mut up = Upstream::start_with(|config| config.replace("64MiB", "4MiB"));
    let mut edge = Node::started(&up.sink("hq", ""));
    edge.send("notes", &["first"]);
    edge.run(&["drain"]).ok();
    up.link.cut();
    let lines: Vec<_> = (0..4000).map(|i| format!("{i} {}", "x".repeat(150))).collect();
    send_all(&edge, "notes", &lines);
    up.link.restore();
    edge.run(&["drain"]).ok();
    let sink = edge.sink("hq");
    assert_eq!((sink.delivered, sink.refused, sink.duplicated, sink.maybe_duplicated), (4001, 0, 0, 0));
    edge.stop();
    up.node.stop();
    assert_same("notes", &records(&edge.data(), "notes"), &records(&up.node.data(), "notes"));
}

#[test]
fn what_waited_while_the_upstream_was_away_arrives_once_after_restarts_of_both() {
    let mut up = Upstream::start();
    let mut edge = Node::started(&up.sink("hq", ""));
    send_all(&edge, "notes", &numbered("n", 0..100));
    edge.run(&["drain"]).ok();
    up.node.kill();
    send_all(&edge, "notes", &numbered("n", 100..1000));
    edge.says("hq", "down", "");
    edge.kill();
    edge.start();
    send_all(&edge, "notes", &numbered("n", 1000..1100));
    up.node.start();
    edge.run(&["drain"]).ok();
    edge.stop();
    up.node.stop();
    let stored = records(&edge.data(), "notes");
    assert_eq!(stored.iter().map(|r| r.text().to_owned()).collect::<Vec<_>>(), numbered("n", 0..1100));
    assert_same("notes", &stored, &records(&up.node.data(), "notes"));
}

#[test]
fn heartbeats_arrive_upstream_and_those_that_waited_count_as_filtered() {
    let mut up = Upstream::start();
    up.link.cut();
    let beating = config("edge", &up.sink("hq", "")).replace("heartbeat = \"off\"", "heartbeat = \"1s\"");
    let mut edge = Node::new(&beating);
    edge.start();
    eventually("heartbeats to wait", || (edge.end_of("headwater-status") >= 4).then_some(()));
    up.link.restore();
    let beat = eventually("a heartbeat upstream", || {
        let there = up.node.end_of("headwater-status") > 0;
        there.then(|| up.node.tail("headwater-status", 1).remove(0))
    });
    let beat: serde_json::Value = serde_json::from_str(&beat).unwrap();
    assert_eq!((&beat["node"], &beat["sinks"][0]["name"]), (&"edge".into(), &"hq".into()), "{beat}");
    edge.stop();
    up.node.stop();
    let (made, arrived) =
        (records(&edge.data(), "headwater-status").len(), records(&up.node.data(), "headwater-status").len());
    assert!((1..=made - 3).contains(&arrived), "{arrived} of {made} arrived: only the newest of those that waited");
    edge.start();
    let sink = edge.sink("hq");
    assert!(sink.filtered >= 3, "{sink:?}");
}

#[test]
fn a_produce_is_answered_with_the_first_offset_that_was_stored() {
    let (sc, spu) = (free_port(), free_port());
    let mut node = Node::started(&format!(
        "[endpoint]\nsc_listen = \"127.0.0.1:{sc}\"\nspu_listen = \"127.0.0.1:{spu}\"\n\n\
         [topics.notes]\n\n[[rules]]\nname = \"no-debug\"\ntopics = [\"notes\"]\nuses = \"filter\"\n\
         with = {{ not = {{ contains = \"DEBUG\" }} }}\n"
    ));
    node.says("endpoint", "up", "");
    assert_eq!(node.send("notes", &["one"]), ["0"]);
    let offsets = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let work = async {
                let fluvio = Fluvio::connect_with_config(&FluvioClusterConfig::new(format!("127.0.0.1:{sc}"))).await;
                let producer = fluvio.unwrap().topic_producer("notes").await.unwrap();
                let mut offsets = Vec::new();
                for value in ["DEBUG a", "two", "DEBUG b", "three"] {
                    let output = producer.send(RecordKey::NULL, value).await.unwrap();
                    producer.flush().await.unwrap();
                    offsets.push(output.wait().await.unwrap().offset());
                }
                offsets
            };
            tokio::time::timeout(patience(), work).await.expect("an end")
        })
    });
    // What the rules drop is answered with the log end.
    assert_eq!(offsets.join().unwrap(), [1, 1, 2, 2]);
    node.stop();
    let stored = records(&node.data(), "notes");
    assert_eq!(stored.iter().map(|r| r.text()).collect::<Vec<_>>(), ["one", "two", "three"]);
}
