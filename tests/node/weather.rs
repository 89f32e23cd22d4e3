//! Weather: a link that is up and useless is noticed, named, and used as well as it can be.
//!
//! By the proxy of [`super::link`], which is up to everything but what is below TCP: that is tried in [`super::netem`].

use std::time::Duration;

use super::link::Link;
use super::node::{Node, config, eventually};
use super::rings::{assert_same, records};
use super::upstream::{Upstream, numbered, send_all};

/// Lines of 500 bytes that compress to half.
pub fn noise(name: &str, range: std::ops::Range<usize>) -> Vec<String> {
    let line = |n: usize| {
        let mut rng = headwater::backoff::Rng::new(n as u64);
        let digits = (0..31).map(|_| format!("{:016x}", rng.next_u64()));
        format!("{name}{n}-{}", digits.collect::<String>())
    };
    range.map(line).collect()
}

/// An edge whose SC is reached over a link of its own; its SPU is behind that of `up`.
fn apart(up: &Upstream, sc: Link, more: &str) -> (Link, Node) {
    let rest = up.sink("hq", more);
    let port = sc.carry(up.direct);
    let mut edge = Node::new(&config("edge", &rest.replace(&format!(":{}\"", up.sc), &format!(":{port}\""))));
    edge.start();
    (sc, edge)
}

/// All of it is there, once and in order; gives what the sink has counted.
pub fn arrives(edge: &mut Node, up: &mut Upstream, topics: &[(&str, usize)]) -> Counted {
    edge.run(&["drain"]).ok();
    let sink = edge.sink("hq");
    let repeats = (sink.pending, sink.refused, sink.duplicated, sink.maybe_duplicated);
    assert_eq!(repeats, (0, 0, 0, 0), "{sink:?}");
    edge.stop();
    up.node.stop();
    for (topic, count) in topics {
        let stored = records(&edge.data(), topic);
        assert_eq!(stored.len(), *count, "{topic}");
        assert_same(topic, &stored, &records(&up.node.data(), topic));
    }
    let counted = |name: &str| sink.part.counters.get(name).copied().unwrap_or(0);
    let counted = Counted {
        connects: counted("connects"),
        batches: counted("sent_batches"),
        unanswered: counted("unanswered_batches"),
        bytes: counted("sent_bytes"),
    };
    println!("{counted:?}");
    counted
}

#[derive(Debug)]
pub struct Counted {
    pub connects: u64,
    batches: u64,
    pub unanswered: u64,
    bytes: u64,
}

const HASTY: &str = "connect_timeout = \"1s\"\nrequest_timeout = \"1s\"\n";

#[test]
fn an_spu_behind_a_black_hole_is_named_with_its_deadline_and_not_with_a_wrong_address() {
    let mut up = Upstream::start();
    let (_sc, mut edge) = apart(&up, Link::default(), HASTY);
    send_all(&edge, "notes", &numbered("n", 0..100));
    edge.run(&["drain"]).ok();
    up.link.swallow_all();
    send_all(&edge, "notes", &numbered("n", 100..200));
    // What was connected waits for an answer, what comes after it for one to its greeting.
    edge.says("hq", "down", "did not answer within 1 s (request_timeout)");
    let said = edge.says("hq", "down", "took the connection and does not answer within 1 s (connect_timeout)");
    assert!(said.what.starts_with("127.0.0.1:") && !said.what.contains("advertises"), "{}", said.what);
    up.link.restore();
    let counted = arrives(&mut edge, &mut up, &[("notes", 200)]);
    assert_eq!(counted.unanswered, 1, "nothing is sent to who does not greet back");
}

#[test]
fn an_sc_behind_a_black_hole_is_named_with_its_deadline_and_all_arrives_once_it_lifts() {
    let mut up = Upstream::start();
    let sc = Link::default();
    sc.swallow_all();
    let (sc, mut edge) = apart(&up, sc, HASTY);
    send_all(&edge, "notes", &numbered("n", 0..100));
    let said = edge.says("hq", "down", "took the connection and does not answer within 1 s (connect_timeout)");
    assert!(said.what.contains("is it a Fluvio SC"), "nobody has answered there yet: {}", said.what);
    sc.restore();
    arrives(&mut edge, &mut up, &[("notes", 100)]);
}

#[test]
fn while_a_known_sc_is_away_what_goes_to_known_spus_goes_on() {
    let mut up = Upstream::start();
    let (sc, mut edge) = apart(&up, Link::default(), HASTY);
    send_all(&edge, "notes", &numbered("n", 0..100));
    edge.run(&["drain"]).ok();
    sc.swallow_all();
    up.link.reset();
    send_all(&edge, "notes", &numbered("n", 100..200));
    arrives(&mut edge, &mut up, &[("notes", 200)]);
}

#[test]
fn a_line_that_takes_and_closes_is_not_taken_for_a_wrong_address_once_it_was_right() {
    let mut up = Upstream::start();
    let (_sc, mut edge) = apart(&up, Link::default(), HASTY);
    send_all(&edge, "notes", &numbered("n", 0..100));
    edge.run(&["drain"]).ok();
    up.link.cut();
    send_all(&edge, "notes", &numbered("n", 100..200));
    // What stood is closed, and then what is made anew, each before it is answered.
    eventually("some tries", || (edge.log().matches("closed the connection").count() >= 4).then_some(()));
    assert!(!edge.log().contains("advertises") && !edge.log().contains("certificate"), "{}", edge.log());
    up.link.restore();
    arrives(&mut edge, &mut up, &[("notes", 200)]);
}

#[test]
fn over_two_seconds_there_and_back_nothing_is_given_up_and_batches_grow() {
    let mut up = Upstream::start();
    up.link.is_far(Duration::from_secs(1));
    // More than a sixth of what an answer may take: it is far, and not slow.
    let mut edge = Node::started(&up.sink("hq", "request_timeout = \"8s\"\n"));
    send_all(&edge, "notes", &noise("n", 0..4000));
    let counted = arrives(&mut edge, &mut up, &[("notes", 4000)]);
    // 2 MB: 64, 128, 256 and 512 KiB three times, and less at first, while they come.
    assert!(counted.connects == 1 && counted.unanswered == 0 && counted.batches <= 16, "{counted:?}");
}

#[test]
fn over_a_modem_at_most_the_first_batches_are_given_up() {
    let mut up = Upstream::start();
    up.link.is_slow(1200);
    // 64 KiB, half of it over the wire, take half a minute.
    let mut edge = Node::started(&up.sink("hq", "request_timeout = \"8s\"\n"));
    send_all(&edge, "notes", &noise("n", 0..120));
    let counted = arrives(&mut edge, &mut up, &[("notes", 120)]);
    assert!(counted.unanswered <= 2 && counted.connects <= 3, "{counted:?}");
}

#[test]
fn over_a_modem_many_topics_have_their_turn_and_none_is_given_up_for_the_others() {
    let mut up = Upstream::start();
    let topics: Vec<String> = (0..40).map(|n| format!("t{n}")).collect();
    for topic in &topics {
        up.node.run(&["send", topic]).ok();
    }
    up.link.is_slow(1200);
    up.link.cut();
    let mut edge = Node::started(&up.sink("hq", "request_timeout = \"4s\"\n"));
    for topic in &topics {
        send_all(&edge, topic, &noise(topic, 0..1));
    }
    up.link.restore();
    // All at once they take a quarter of a minute, and each little.
    let topics: Vec<_> = topics.iter().map(|topic| (topic.as_str(), 1)).collect();
    let counted = arrives(&mut edge, &mut up, &topics);
    assert_eq!((counted.unanswered, counted.batches), (0, 40), "{counted:?}");
}

#[test]
fn a_line_that_ends_in_the_middle_of_each_large_batch_carries_smaller_ones() {
    let mut up = Upstream::start();
    up.link.ends_after(12_000);
    let mut edge = Node::started(&up.sink("hq", ""));
    send_all(&edge, "notes", &noise("n", 0..200));
    let counted = arrives(&mut edge, &mut up, &[("notes", 200)]);
    // 50 KB over the wire, 12 KB at a time.
    assert!(counted.bytes < 250_000 && counted.connects <= 16, "{counted:?}");
}

#[test]
fn what_a_large_cluster_lists_is_waited_for_as_long_as_it_comes() {
    let mut up = Upstream::start();
    for n in 0..100 {
        send_all(&up.node, &format!("of-somebody-else-with-a-long-name-{n}"), &["x".to_owned()]);
    }
    up.link.is_slow(8_000);
    let mut edge = Node::started(&up.sink("hq", HASTY));
    send_all(&edge, "notes", &numbered("n", 0..10));
    arrives(&mut edge, &mut up, &[("notes", 10)]);
}
