//! Upstreams that come and go: several at once, and one that has lost everything.

use std::fs;

use super::node::{Node, eventually};
use super::rings::{assert_same, records};
use super::upstream::{Upstream, numbered, send_all};

#[test]
fn a_cluster_that_is_away_keeps_no_other_waiting_and_each_has_all_of_it_once() {
    let (mut near, mut far) = (Upstream::start(), Upstream::start());
    let mut edge = Node::started(&format!("{}\n{}", near.sink("near", ""), far.sink("far", "")));
    send_all(&edge, "notes", &numbered("n", 0..100));
    edge.run(&["drain"]).ok();
    far.link.cut();
    send_all(&edge, "notes", &numbered("n", 100..300));
    eventually("the near one has it", || (edge.sink("near").pending == 0).then_some(()));
    assert_eq!(edge.sink("far").pending, 200);
    far.link.restore();
    edge.run(&["drain"]).ok();
    for name in ["near", "far"] {
        let sink = edge.sink(name);
        assert_eq!((sink.delivered, sink.duplicated, sink.maybe_duplicated), (300, 0, 0), "{name}");
    }
    edge.stop();
    let ours = records(&edge.data(), "notes");
    for up in [&mut near, &mut far] {
        up.node.stop();
        assert_same("notes", &ours, &records(&up.node.data(), "notes"));
    }
}

/// The upstream begins anew with an empty disk; what it has then, and how many losses were announced.
fn begins_anew(more: &str) -> (Vec<String>, u64) {
    let mut up = Upstream::start();
    let mut edge = Node::started(&up.sink("hq", more));
    send_all(&edge, "notes", &numbered("n", 0..200));
    edge.run(&["drain"]).ok();
    up.node.stop();
    fs::remove_dir_all(up.node.data()).unwrap();
    up.node.start();
    send_all(&edge, "notes", &numbered("n", 200..210));
    edge.run(&["drain"]).ok();
    let sink = edge.sink("hq");
    assert_eq!((sink.pending, sink.duplicated, sink.maybe_duplicated), (0, 0, 0), "{sink:?}");
    let losses = sink.part.counters.get("upstream_losses").copied().unwrap_or(0);
    edge.stop();
    up.node.stop();
    (records(&up.node.data(), "notes").iter().map(|r| r.text().to_owned()).collect(), losses)
}

#[test]
fn an_upstream_that_lost_all_gets_again_what_the_ring_still_has() {
    assert_eq!(begins_anew(""), (numbered("n", 0..210), 1));
}

#[test]
fn with_continue_an_upstream_that_lost_all_gets_what_is_new_and_the_loss_is_counted() {
    assert_eq!(begins_anew("on_upstream_loss = \"continue\"\n"), (numbered("n", 200..210), 1));
}
