//! What an upstream refuses for good: the rest goes on, and the record is a dead letter, once.

use serde_json::Value;

use super::node::{Node, config, eventually};
use super::rings::{assert_same, records};
use super::upstream::Upstream;

const TOPIC: &str = "headwater-dead-letters";

fn letters(node: &Node) -> Vec<Value> {
    records(&node.data(), TOPIC).iter().map(|record| serde_json::from_slice(&record.value).unwrap()).collect()
}

/// Small ones with a large one in each hundred.
fn lines(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|n| format!("{n} {}", "x".repeat(if n % 100 == 50 { 70_000 } else { 20 }))).collect()
}

#[test]
fn a_record_that_the_upstream_finds_too_large_is_a_dead_letter_once_after_any_kill_and_the_rest_arrives() {
    // A ring of 4 MiB takes 64 KiB at once.
    let mut up = Upstream::start_with(|config| config.replace("64MiB", "4MiB"));
    let mut edge = Node::started(&up.sink("hq", ""));
    for round in 0..8usize {
        let lines = lines(round * 100..(round + 1) * 100);
        let lines: Vec<_> = lines.iter().map(String::as_str).collect();
        edge.send("notes", &lines);
        // At some moment of sending, refusing and storing.
        std::thread::sleep(std::time::Duration::from_millis(40 * round as u64));
        edge.kill();
        edge.start();
    }
    edge.run(&["drain"]).ok();
    let sink = edge.sink("hq");
    assert_eq!((sink.delivered, sink.refused, sink.dead_letters, sink.dead_letters_left_out), (792, 8, 8, 0));
    assert!(sink.dead_letter_reason.as_ref().is_some_and(|why| why.contains("MessageTooLarge")), "{sink:?}");
    assert!(edge.run(&["status"]).ok().contains("8 in headwater-dead-letters; the last one: the upstream takes no"));
    let shown = edge.tail(TOPIC, 1).remove(0);
    assert!(shown.contains("\"sink\":\"hq\""), "{:.300}", shown);
    edge.stop();
    up.node.stop();
    let stored = records(&edge.data(), "notes");
    let small: Vec<_> = stored.iter().filter(|record| record.value.len() < 1000).cloned().collect();
    assert_same("notes", &small, &records(&up.node.data(), "notes"));
    let letters = letters(&edge);
    let offsets: Vec<_> = letters.iter().map(|letter| letter["offset"].as_u64().unwrap()).collect();
    assert_eq!(offsets, (0..8).map(|round| round * 100 + 50).collect::<Vec<_>>());
    for letter in letters {
        let offset = letter["offset"].as_u64().unwrap() as usize;
        assert_eq!((&letter["upstream_topic"], &letter["upstream_partition"]), (&"notes".into(), &0.into()));
        assert_eq!(
            (letter["topic"].as_str(), letter["size"].as_u64()),
            (Some("notes"), Some(stored[offset].value.len() as u64))
        );
        assert_eq!(letter["value"].as_str(), Some(stored[offset].text()), "there is room for all of it");
        assert!(letter.get("truncated").is_none());
    }
    assert!(records(&up.node.data(), TOPIC).is_empty(), "it is sent where it is named");
}

#[test]
fn a_record_without_a_place_upstream_is_a_dead_letter_and_goes_where_dead_letters_are_named() {
    let mut up = Upstream::start();
    let second = up.sink("dead", "").replace("[\"*\"]", "[\"headwater-dead-letters\"]");
    let more = format!("{}{second}", up.sink("hq", "upstream_topic = \"{key}\""));
    let mut edge = Node::new(&config("edge", &more));
    edge.start();
    edge.send("notes", &["no key"]);
    edge.run(&["drain"]).ok();
    eventually("the letter upstream", || (up.node.end_of(TOPIC) == 1).then_some(()));
    let sink = edge.sink("hq");
    assert_eq!((sink.refused, sink.dead_letters), (1, 1), "{sink:?}");
    edge.stop();
    up.node.stop();
    let letter = letters(&edge).remove(0);
    assert_eq!((letter["value"].as_str(), letter["upstream_topic"].is_null()), (Some("no key"), true), "{letter}");
    assert!(letter["reason"].as_str().unwrap().contains("upstream_topic"), "{letter}");
    assert_same(TOPIC, &records(&edge.data(), TOPIC), &records(&up.node.data(), TOPIC));
}
