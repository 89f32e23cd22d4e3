//! Which partitions of an upstream topic records go to.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use headwater::node::stopped::StoppedRing;
use headwater::topic::TopicPart;

use super::node::{Node, config, eventually};
use super::upstream::{Upstream, numbered, send_all};

/// The values in each partition that has any.
fn by_partition(data: &Path, topic: &str) -> BTreeMap<u8, Vec<String>> {
    let mut ring = StoppedRing::open(data, &Default::default()).expect("a ring");
    let info = ring.topic(topic).expect("the topic");
    let mut found: BTreeMap<u8, Vec<String>> = BTreeMap::new();
    for partition in 0..info.partitions.len() as u8 {
        let gaps = ring.read(TopicPart { topic: info.id, partition }, 0, |_, entry| {
            found.entry(partition).or_default().push(String::from_utf8_lossy(entry.record.value).into_owned());
            ControlFlow::Continue(())
        });
        assert_eq!(gaps, []);
    }
    found
}

#[test]
fn each_node_has_a_partition_of_its_own_where_the_config_says_so() {
    let mut up = Upstream::start();
    let sent = |name: &str| numbered(name, 0..1200);
    for (name, partition) in [("press-1", "\"per-node\""), ("press-2", "\"per-node\""), ("press-3", "5")] {
        let sink = up.sink("hq", &format!("partitions = 8\npartition = {partition}\n"));
        let mut edge = Node::new(&config(name, &sink));
        edge.start();
        send_all(&edge, "notes", &sent(name));
        edge.run(&["drain"]).ok();
        edge.stop();
    }
    up.node.stop();
    let found = by_partition(&up.node.data(), "notes");
    let of = |name: &str| {
        let with = found.iter().filter(|(_, values)| values.iter().any(|value| value.starts_with(name)));
        with.map(|(partition, _)| *partition).collect::<Vec<_>>()
    };
    assert_eq!(of("press-3"), [5]);
    for name in ["press-1", "press-2", "press-3"] {
        let [partition] = of(name)[..] else { panic!("{name} is in {:?}", of(name)) };
        let own: Vec<_> = found[&partition].iter().filter(|value| value.starts_with(name)).cloned().collect();
        assert_eq!(own, sent(name), "in order, once");
    }
}

#[test]
fn a_changed_choice_of_partitions_doubles_and_loses_nothing() {
    let mut up = Upstream::start();
    let with = |up: &Upstream, partition: &str| {
        config("edge", &up.sink("hq", &format!("partitions = 8\npartition = {partition}\nresume = \"markers\"\n")))
    };
    let mut edge = Node::new(&with(&up, "\"by-key\""));
    edge.start();
    let mut all = Vec::new();
    for (round, partition) in ["\"per-node\"", "3", "\"by-key\"", "\"per-node\"", "0"].iter().enumerate() {
        let lines = numbered("n", round * 3000..(round + 1) * 3000);
        // Some of it is under way, or sent and not known to be, when the sink is another one.
        send_all(&edge, "notes", &lines);
        all.extend(lines);
        edge.write_config(&with(&up, partition));
        if round % 2 == 0 {
            edge.kill();
            edge.start();
        } else {
            edge.run(&["reload"]).ok();
        }
    }
    edge.run(&["drain"]).ok();
    let sink = edge.sink("hq");
    assert_eq!((sink.pending, sink.duplicated, sink.maybe_duplicated), (0, 0, 0), "{sink:?}");
    edge.stop();
    up.node.stop();
    let mut arrived: Vec<String> = by_partition(&up.node.data(), "notes").into_values().flatten().collect();
    arrived.sort();
    all.sort();
    assert_eq!(arrived.len(), all.len());
    assert_eq!(arrived, all);
}

#[test]
fn a_partition_that_a_topic_has_not_is_said_and_its_records_wait() {
    let up = Upstream::start();
    // Two for the topic that it makes.
    let sink = |partition: u32| {
        let partitions = partition.max(1) + 1;
        config("edge", &up.sink("hq", &format!("partitions = {partitions}\npartition = {partition}\n")))
    };
    let mut edge = Node::new(&sink(1));
    edge.start();
    edge.send("notes", &["first"]);
    edge.run(&["drain"]).ok();
    edge.write_config(&sink(7));
    edge.run(&["reload"]).ok();
    edge.send("notes", &["second"]);
    edge.says("hq", "down", "topic notes has 2 partitions upstream, from 0 on; partition = 7 is none of them");
    let waiting = || (edge.sink("hq").refused, up.node.end_of("notes"));
    assert_eq!(waiting(), (0, 1));
    // Nor does it go where it would have gone before.
    edge.run(&["sink", "flush", "hq"]).ok();
    edge.says("hq", "down", "partition = 7 is none of them");
    assert_eq!(waiting(), (0, 1));
    edge.write_config(&sink(0));
    edge.run(&["reload"]).ok();
    eventually("all of it to be there", || (edge.sink("hq").pending == 0).then_some(()));
}
