//! `headwater retire` beside real nodes.

use regex::Regex;

use super::node::{Node, config};

const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n";

/// A node with an encrypted ring and one sink, a file.
fn node() -> Node {
    node_that_sends("\"notes\"")
}

fn node_that_sends(topics: &str) -> Node {
    let parts = format!(
        "[sinks.out]\ntype = \"file\"\npath = \"{{dir}}/out.log\"\ntopics = [{topics}]\n\
         [sources.net]\ntype = \"socket\"\nlisten = [\"unix://{{dir}}/in.sock\"]\ntopic = \"notes\"\n"
    );
    let node = Node::new(&config("edge", &parts).replace("[ring]\n", "[ring]\nencryption = { file = \"ring.key\" }\n"));
    std::fs::write(node.path("ring.key"), KEY).unwrap();
    node
}

#[test]
fn unless_it_is_meant_nothing_is_done() {
    let mut node = node();
    node.start();
    let said = node.run(&["retire"]).ok();
    let key = node.path("ring.key");
    assert!(said.contains(&format!("{} is overwritten and removed", key.display())), "{said}");
    assert!(said.contains("nothing was done; `headwater retire --node edge` does it"), "{said}");
    let said = node.run(&["retire", "--node", "other"]).failed(2);
    assert!(said.contains("of node edge, not of other"), "{said}");
    assert!(node.answers() && key.exists());
    node.stop();
}

#[test]
fn a_node_that_has_sent_everything_ends_and_its_keys_are_gone() {
    let mut node = node();
    node.start();
    node.send("notes", &["a", "b"]);
    let said = node.run(&["retire", "--node", "edge"]).ok();
    println!("{said}");
    // The node's own events are in the sink's lane, and not for it.
    let account =
        Regex::new(r"sink out: (\d+) admitted, 2 delivered, (\d+) filtered, 0 refused, 0 gone, none waits").unwrap();
    let account = account.captures(&said).unwrap_or_else(|| panic!("{said}"));
    let count = |n: usize| account[n].parse::<u64>().unwrap();
    assert_eq!(count(1), 2 + count(2), "{said}");
    assert!(said.contains("destroy the card"), "{said}");
    assert!(node.wait().success());
    assert!(!node.path("ring.key").exists());
    assert_eq!(std::fs::read_to_string(node.path("out.log")).unwrap(), "a\nb\n");
    // Without the key nobody reads the ring.
    let data = node.data().display().to_string();
    let said = super::node::headwater(&["ring", "export", &data], "").failed(1);
    assert!(said.contains("encrypted"), "{said}");
}

#[test]
fn what_the_node_says_of_itself_until_it_ceases_is_sent_before_it_ends() {
    let mut node = node_that_sends("\"notes\", \"headwater-events\"");
    node.start();
    node.says("net", "up", "");
    let said = node.run(&["retire", "--node", "edge"]).ok();
    assert!(said.contains("none waits"), "{said}");
    assert!(node.wait().success());
    let sent = std::fs::read_to_string(node.path("out.log")).unwrap();
    assert!(sent.contains("collects nothing any more"), "{sent}");
}

#[test]
fn a_node_that_has_not_sent_everything_keeps_its_keys_and_goes_on_when_it_is_told_to() {
    let mut node = node();
    node.start();
    node.run(&["sink", "pause", "out"]).ok();
    node.send("notes", &["a"]);
    let said = node.run(&["retire", "--yes"]).failed(1);
    // One or more: the node's own events wait in the same lane.
    let waits = Regex::new(r"sink out has [1-9]\d* waiting \(paused\)").unwrap();
    assert!(waits.is_match(&said) && said.contains("nothing was erased"), "{said}");
    assert!(node.path("ring.key").exists() && node.answers());
    node.says("node", "warn", "collects nothing any more");
    node.run(&["reload"]).ok();
    node.says("net", "up", "");
    node.says("node", "up", "running");
    // Its records are lost only when that is said.
    node.run(&["retire", "--yes", "--undrained"]).ok();
    assert!(node.wait().success());
    assert!(!node.path("ring.key").exists());
}

#[test]
fn a_node_that_does_not_run_cannot_prove_anything() {
    let node = node();
    let said = node.run(&["retire", "--yes"]).failed(1);
    assert!(said.contains("no node answers") && said.contains("--undrained"), "{said}");
    assert!(node.path("ring.key").exists());
    node.run(&["retire", "--yes", "--undrained"]).ok();
    assert!(!node.path("ring.key").exists());
}
