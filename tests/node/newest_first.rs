//! `order = "newest-first"`, `live_share`, `lane_weights`: what is new goes before what has waited or has its share of what is
//! sent, lanes have theirs, and all of it arrives once.

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
    let there = in_two_streams(&up, OLD, ALL + 10);
    let place = |n: usize| there.iter().position(|m| *m == n);
    assert!(place(OLD) < place(OLD - 1), "what is new waited for what is old");
}

#[test]
fn with_a_live_share_what_is_new_and_what_has_waited_arrive_side_by_side_and_all_of_it_once() {
    const WAITED: usize = 40_000;
    const END: usize = WAITED + 6000;
    let mut up = Upstream::start();
    let mut node = Node::started(&up.sink("hq", "live_share = 0.75\nmax_batch = \"4KiB\"\n"));
    send(&node, 0..10);
    eventually("the first to arrive", || (up.node.end_of("pump") == 10).then_some(()));
    up.link.cut();
    node.says("hq", "down", "");
    send(&node, 10..WAITED);
    node.kill();
    node.start();
    up.link.restore();
    let begun = |node: &Node| node.sink("hq").streams.first().is_some_and(|s| s.pending < WAITED as u64 - 500);
    eventually("the split, and the older stream to be sent", || begun(&node).then_some(()));
    // So that what is new is all there when it goes on.
    up.link.stall();
    send(&node, WAITED..END);
    let before = node.sink("hq").streams[0].pending;
    up.link.restore();
    eventually("all of it to arrive", || (up.node.end_of("pump") == END as u64).then_some(()));
    eventually("the older stream to be absorbed", || node.sink("hq").streams.is_empty().then_some(()));
    let sink = node.sink("hq");
    assert_eq!((sink.pending, sink.duplicated, sink.maybe_duplicated), (0, 0, 0));
    // One stream goes on alone.
    send(&node, END..END + 10);
    eventually("the last to arrive", || (up.node.end_of("pump") == END as u64 + 10).then_some(()));
    node.stop();
    up.node.stop();
    let there = in_two_streams(&up, WAITED, END + 10);
    // Of four bytes one is for what has waited, while both have something to send.
    let place = |n: usize| there.iter().position(|m| *m == n).expect("it is there");
    let between = there[place(WAITED)..place(END - 1)].iter().filter(|n| **n < WAITED).count();
    assert!((before < 3000 && between > 0) || (1400..2600).contains(&between), "{between} of {before}");
}

/// The numbers of all records, as they arrived: each once, what waited in its order and what came after in its own.
fn in_two_streams(up: &Upstream, old: usize, all: usize) -> Vec<usize> {
    let number = |text: &str| text.split(' ').nth(1).and_then(|n| n.parse::<usize>().ok()).expect("a number");
    let there: Vec<_> = records(&up.node.data(), "pump").iter().map(|r| number(r.text())).collect();
    let mut sorted = there.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, (0..all).collect::<Vec<_>>());
    let (old, new): (Vec<usize>, Vec<usize>) = there.iter().partition(|n| **n < old);
    assert!(old.is_sorted() && new.is_sorted(), "each stream is in order");
    there
}

/// Records of a lane, each as long as those of the others.
fn fill(node: &Node, topic: &str, count: usize) {
    let lines: Vec<String> = (0..count).map(|n| format!("{topic:8} {n:06} {}", noise(n))).collect();
    let lines: Vec<_> = lines.iter().map(String::as_str).collect();
    node.send(topic, &lines);
}

/// Text that does not compress to nothing.
fn noise(n: usize) -> String {
    let next = |seed: &mut u64| {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        Some(format!("{seed:016x}"))
    };
    std::iter::repeat_with(|| ()).scan(n as u64, |seed, ()| next(seed)).take(8).collect()
}

#[test]
fn lanes_share_what_is_sent_by_their_weights() {
    let mut up = Upstream::start();
    up.link.cut();
    let more = "max_batch = \"4KiB\"\ncompression = \"none\"\nlane_weights = { urgent = 6, normal = 3, bulk = 1 }\n";
    let lanes = "[topics.alarm]\nlane = \"urgent\"\n[topics.waste]\nlane = \"bulk\"\n";
    let mut node = Node::started(&format!(
        "{}{lanes}",
        up.sink("hq", &format!("upstream_topic = \"all\"\nexclude = [\"headwater-*\"]\n{more}"))
    ));
    let topics = ["alarm", "pump", "waste"];
    topics.iter().for_each(|topic| fill(&node, topic, 3000));
    up.link.restore();
    node.run(&["drain"]).ok();
    let sink = node.sink("hq");
    assert_eq!((sink.pending, sink.duplicated, sink.maybe_duplicated), (0, 0, 0));
    node.stop();
    up.node.stop();
    let all = records(&up.node.data(), "all");
    assert_eq!(all.len(), 9000);
    let until = all.iter().rposition(|r| r.text().starts_with("alarm")).unwrap();
    let of = |topic: &str| all[..until].iter().filter(|r| r.text().starts_with(topic)).count();
    // When the last alarm was there, the others had a half and a sixth of that many, but for what was under way.
    assert!(of("pump").abs_diff(1500) < 300 && of("waste").abs_diff(500) < 300, "{} {}", of("pump"), of("waste"));
}
