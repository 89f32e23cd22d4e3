//! `order = "newest-first"`: what is new goes before what has waited, and all of it arrives once.

use super::node::{Node, eventually};
use super::rings::records;
use super::upstream::Upstream;

const OLD: usize = 6000;
const ALL: usize = 6100;

fn send(node: &Node, range: std::ops::Range<usize>) {
    let lines: Vec<String> = range.map(|n| format!("event {n:06} of a pump")).collect();
    let lines: Vec<_> = lines.iter().map(String::as_str).collect();
    node.send("pump", &lines);
}

#[test]
fn after_an_outage_what_is_new_arrives_before_what_has_waited_and_all_of_it_once() {
    let mut up = Upstream::start();
    // Small batches, each of which waits for the other's disk: the backlog takes a while.
    let mut node = Node::started(&up.sink("hq", "order = \"newest-first\"\nmax_batch = \"4KiB\"\n"));
    send(&node, 0..10);
    eventually("the first to arrive", || (up.node.end_of("pump") == 10).then_some(()));
    up.link.cut();
    node.says("hq", "down", "");
    send(&node, 10..OLD);
    node.kill();
    node.start();
    up.link.restore();
    eventually("the split", || (node.sink("hq").streams.len() == 2).then_some(()));
    send(&node, OLD..ALL);
    eventually("all of it to arrive", || (up.node.end_of("pump") == ALL as u64).then_some(()));
    eventually("the older stream to be absorbed", || node.sink("hq").streams.is_empty().then_some(()));
    let sink = node.sink("hq");
    let gone = sink.evicted + sink.expired + sink.corrupt + sink.lost_unsynced + sink.released;
    assert_eq!(sink.admitted, sink.delivered + sink.filtered + sink.refused + sink.pending + gone);
    assert_eq!((gone, sink.duplicated, sink.maybe_duplicated), (0, 0, 0));
    // Once more: one stream goes on as itself.
    node.kill();
    node.start();
    send(&node, ALL..ALL + 10);
    eventually("the last to arrive", || (up.node.end_of("pump") == ALL as u64 + 10).then_some(()));
    node.stop();
    up.node.stop();
    let number = |text: &str| text.split(' ').nth(1).and_then(|n| n.parse::<usize>().ok()).expect("a number");
    let there: Vec<_> = records(&up.node.data(), "pump").iter().map(|r| number(r.text())).collect();
    let mut sorted = there.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, (0..ALL + 10).collect::<Vec<_>>());
    let (old, new): (Vec<usize>, Vec<usize>) = there.iter().partition(|n| **n < OLD);
    assert!(old.is_sorted() && new.is_sorted(), "each stream is in order");
    let place = |n: usize| there.iter().position(|m| *m == n);
    assert!(place(OLD) < place(OLD - 1), "what is new waited for what is old");
}
