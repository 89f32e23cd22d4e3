//! Reload: what changes live, what a bad file does, and orders to sinks.

use super::node::{Node, config, eventually, free_port};
use super::rings::records;
use super::upstream::Upstream;

fn file_sink(name: &str) -> String {
    format!("[sinks.{name}]\ntype = \"file\"\npath = \"{{dir}}/{name}\"\ntopics = [\"notes\"]\n\n")
}

fn file_source(name: &str) -> String {
    format!(
        "[sources.{name}]\ntype = \"file\"\npaths = [\"{{dir}}/{name}.log\"]\ntopic = \"{name}\"\npoll = \"50ms\"\n\n"
    )
}

fn keep(word: &str) -> String {
    format!(
        "[[rules]]\nname = \"keep\"\ntopics = [\"notes\"]\nuses = \"filter\"\nwith = {{ contains = \"{word}\" }}\n\n"
    )
}

fn lines_of(node: &Node, name: &str) -> Vec<String> {
    std::fs::read_to_string(node.path(name)).unwrap_or_default().lines().map(String::from).collect()
}

#[test]
fn a_reload_adds_and_removes_sources_and_sinks_and_changes_rules_live() {
    let mut node = Node::started(&(keep("red") + &file_sink("one")));
    let pid = node.pid();
    assert_eq!(node.send("notes", &["red 1", "blue 1"]), ["0", "filtered"]);
    let hash = node.status().config.hash;
    std::fs::write(node.path("app.log"), "first\nsecond\n").unwrap();
    node.write_config(&config("edge", &(keep("blue") + &file_sink("one") + &file_sink("two") + &file_source("app"))));
    let said = node.run(&["reload"]).ok();
    let status = node.status();
    assert_ne!(status.config.hash, hash);
    assert!(said.contains(&status.config.hash[..4]), "{said}");
    assert_eq!(node.send("notes", &["red 2", "blue 2"]), ["filtered", "1"]);
    assert_eq!(node.tail("app", 2), ["first", "second"]);
    node.run(&["drain"]).ok();
    // A new sink begins with what comes after it.
    eventually("both sinks", || (lines_of(&node, "two") == ["blue 2"]).then_some(()));
    assert_eq!(lines_of(&node, "one"), ["red 1", "blue 2"]);
    node.write_config(&config("edge", &(file_sink("two") + &file_source("app"))));
    node.run(&["reload"]).ok();
    assert_eq!(node.send("notes", &["red 3", "blue 3"]), ["2", "3"]);
    node.run(&["drain"]).ok();
    assert_eq!(lines_of(&node, "two"), ["blue 2", "red 3", "blue 3"]);
    let status = node.status();
    let one = status.sinks.iter().find(|sink| sink.part.name == "one").expect("its cursor stays");
    assert!(!one.configured);
    assert_eq!(node.pid(), pid);
    assert!(node.answers());
    node.stop();
    assert_eq!(records(&node.data(), "app").len(), 2);
}

#[test]
fn a_bad_file_leaves_the_old_config_running_and_the_reload_names_every_error() {
    let node = Node::started(&(keep("red") + &file_sink("one")));
    let before = node.status().config.hash;
    node.write_config(&config("edge", "[sinks.one]\ntype = \"flie\"\ntopics = [\"notes\"]\n[sources]\nx = 1\n"));
    let said = node.run(&["reload"]).failed(1);
    assert!(said.contains("flie") && said.contains("headwater.toml:"), "{said}");
    assert!(said.matches("error").count() >= 2, "every error at once: {said}");
    assert_eq!(node.status().config.hash, before);
    assert_eq!(node.send("notes", &["red", "blue"]), ["0", "filtered"]);
    node.says("config", "warn", "the old config runs on");
    // Mended, it is taken.
    node.write_config(&config("edge", &file_sink("one")));
    node.run(&["reload"]).ok();
    node.says("config", "up", "is loaded");
}

#[test]
fn a_syntax_error_in_its_config_keeps_nobody_from_a_running_node() {
    let mut node = Node::started("");
    node.write_config(&(config("edge", "") + "junk = \n[sinks.one\n"));
    assert_eq!(node.send("notes", &["a"]), ["0"]);
    assert_eq!(node.run(&["tail", "notes", "-n", "1"]).ok(), "a\n");
    node.run(&["events"]).ok();
    let said = node.run(&["reload"]).failed(1);
    assert!(said.matches("headwater.toml:").count() >= 2 && said.contains("nothing was changed"), "{said}");
    assert!(node.run(&["status"]).ok().contains("changed"));
    // With no node behind it the config is what is wrong.
    node.stop();
    for command in ["status", "reload"] {
        let said = node.run(&[command]).failed(2);
        assert!(said.contains("headwater.toml:") && said.contains("no node answers at"), "{said}");
    }
    std::fs::remove_file(node.config_path()).unwrap();
    assert!(node.run(&["status"]).failed(2).contains("no such file"));
}

#[test]
fn the_status_says_when_the_files_are_not_what_is_loaded() {
    let node = Node::started(&file_sink("one"));
    assert!(!node.status().config.differs);
    node.write_config(&config("edge", &file_sink("two")));
    eventually("the difference", || node.status().config.differs.then_some(()));
    let page = node.run(&["status"]).ok();
    assert!(page.contains("changed"), "{page}");
    assert!(node.run(&["status", "--check"]).out.contains("config files changed"));
    node.run(&["reload"]).ok();
    assert!(!node.status().config.differs);
    // As is a config that would not be taken.
    node.write_config(&config("edge", "[nonsense]\n"));
    eventually("the difference", || node.status().config.differs.then_some(()));
}

#[test]
fn sighup_reads_the_config_again() {
    let node = Node::started(&file_sink("one"));
    let hash = node.status().config.hash;
    node.write_config(&config("edge", &(file_sink("one") + &file_sink("two"))));
    node.signal("HUP");
    eventually("the new config", || (node.status().config.hash != hash).then_some(()));
    assert!(node.status().sinks.iter().any(|sink| sink.part.name == "two"));
}

#[test]
fn keys_that_wait_for_a_restart_are_named() {
    let mut node = Node::started("");
    let changed = config("edge", "").replace("heartbeat = \"off\"", "heartbeat = \"5m\"");
    node.write_config(&changed);
    assert!(node.run(&["reload"]).ok().contains("node.heartbeat"));
    node.stop();
    node.start();
    assert!(!node.run(&["reload"]).ok().contains("node.heartbeat"));
}

#[test]
fn a_paused_sink_keeps_what_comes_until_it_is_resumed() {
    let mut up = Upstream::start();
    let mut edge = Node::started(&up.sink("hq", ""));
    edge.send("notes", &["a"]);
    edge.run(&["drain"]).ok();
    assert!(edge.run(&["sink", "pause", "hq"]).ok().contains("paused"));
    assert_eq!(edge.sink("hq").part.state, "paused");
    edge.send("notes", &["b", "c"]);
    let said = edge.run(&["sink", "flush", "hq"]).failed(1);
    assert!(said.contains("is paused") && said.contains("headwater sink resume hq"), "{said}");
    assert!(edge.run(&["drain"]).ok().contains("paused: hq"));
    assert!(edge.sink("hq").pending >= 2);
    assert_eq!(up.node.end_of("notes"), 1);
    edge.run(&["sink", "resume", "hq"]).ok();
    edge.run(&["drain"]).ok();
    assert_eq!(up.node.tail("notes", 3), ["a", "b", "c"]);
    // A pause ends with the process.
    edge.run(&["sink", "pause", "hq"]).ok();
    edge.stop();
    edge.start();
    edge.send("notes", &["d"]);
    edge.run(&["drain"]).ok();
    assert_eq!(up.node.tail("notes", 4), ["a", "b", "c", "d"]);
    up.node.stop();
}

#[test]
fn a_flush_ends_the_wait_for_the_next_try() {
    let up = Upstream::start();
    up.link.cut();
    let waits = up.sink("hq", "").replace("\"100ms\"\nretry_max = \"1s\"", "\"1h\"\nretry_max = \"1h\"");
    let edge = Node::started(&waits);
    edge.says("hq", "down", "");
    edge.send("notes", &["a"]);
    up.link.restore();
    edge.run(&["sink", "flush", "hq"]).ok();
    edge.run(&["drain"]).ok();
    assert_eq!(up.node.tail("notes", 1), ["a"]);
}

#[test]
fn a_sink_is_forgotten_only_when_it_left_the_config() {
    let node = Node::started(&(file_sink("one") + &file_sink("two")));
    assert!(node.run(&["sink", "forget", "one"]).failed(1).contains("is configured"));
    assert!(node.run(&["sink", "forget", "three"]).failed(1).contains("three"));
    assert!(node.run(&["sink", "pause", "three"]).failed(1).contains("known: one, two"));
    node.write_config(&config("edge", &file_sink("two")));
    node.run(&["reload"]).ok();
    assert!(node.status().sinks.iter().any(|sink| sink.part.name == "one"));
    node.run(&["sink", "forget", "one"]).ok();
    assert!(!node.status().sinks.iter().any(|sink| sink.part.name == "one"));
    assert!(node.run(&["sink", "forget", "one"]).failed(1).contains("nothing is known"));
}

#[test]
fn a_port_of_the_endpoint_can_be_changed_live() {
    let endpoint = |sc, spu| format!("[endpoint]\nsc_listen = \"127.0.0.1:{sc}\"\nspu_listen = \"127.0.0.1:{spu}\"\n");
    let node = Node::started(&endpoint(free_port(), free_port()));
    node.says("endpoint", "up", "");
    let (sc, spu) = (free_port(), free_port());
    node.write_config(&config("edge", &endpoint(sc, spu)));
    node.run(&["reload"]).ok();
    node.says("endpoint", "up", &format!("SC on 127.0.0.1:{sc}, SPU on 127.0.0.1:{spu}"));
}
