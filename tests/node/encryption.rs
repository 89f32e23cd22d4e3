//! A node with an encrypted ring: with its key, without, with another, and the tools beside it.

use std::collections::BTreeMap;

use headwater::ring::Key;

use super::node::{Node, config, headwater};

const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const OTHER: &str = "gIGCg4SFhoeIiYqLjI2Oj5CRkpOUlZaXmJmam5ydnp8=";
const ENCRYPTED: &str = "encryption = { file = \"key\" }";

/// The config with these lines in `[ring]`; the control socket outlives the data directory.
fn ring(lines: &str) -> String {
    let text = config("edge", "").replace("heartbeat =", "control = \"{dir}/control.sock\"\nheartbeat =");
    text.replace("[ring]\n", &format!("[ring]\n{lines}\n"))
}

fn new(lines: &str) -> Node {
    let node = Node::new(&ring(lines));
    std::fs::write(node.path("key"), KEY).unwrap();
    std::fs::write(node.path("other"), OTHER).unwrap();
    node
}

fn id(text: &str) -> String {
    format!("{:08x}", Key::parse(text).unwrap().id())
}

/// The ring's files.
fn files(node: &Node) -> BTreeMap<String, Vec<u8>> {
    let all = std::fs::read_dir(node.data()).unwrap().map(|entry| entry.unwrap().path());
    let name = |path: &std::path::Path| path.file_name().unwrap().to_string_lossy().into_owned();
    let ours = all.filter(|path| name(path).starts_with("slot-") || name(path) == "root");
    ours.map(|path| (name(&path), std::fs::read(&path).unwrap())).collect()
}

#[test]
fn without_its_key_the_ring_is_left_alone_and_with_it_every_record_is_there() {
    let mut node = new(ENCRYPTED);
    node.start();
    node.send("pump-house", &["a marker of its own", "b"]);
    node.stop();
    node.start();
    node.says("disk", "up", &format!("encrypted under key {}", id(KEY)));
    assert_eq!(node.tail("pump-house", 2), ["a marker of its own", "b"]);
    node.stop();
    let before = files(&node);
    for words in [&b"a marker of its own"[..], b"pump-house"] {
        assert!(before.values().all(|file| file.windows(words.len()).all(|w| w != words)), "it is on the disk");
    }

    for lines in ["", "encryption = { file = \"other\" }"] {
        node.write_config(&ring(lines));
        node.start();
        assert!(node.status().ring.in_memory);
        node.says("disk", "down", &format!("is encrypted under key {}", id(KEY)));
        node.says("disk", "down", "`ring.encryption`");
        assert_eq!(node.send("pump-house", &["in memory"]), ["0"]);
        node.stop();
        assert!(files(&node) == before, "the ring was written to");
    }

    // The key comes while it runs, as the one of before: what was in memory goes behind what is there.
    node.write_config(&ring("encryption = { file = \"other\" }"));
    node.start();
    assert_eq!(node.send("pump-house", &["c"]), ["0"]);
    node.write_config(&ring("encryption = { file = \"other\" }\nold_keys = [{ file = \"key\" }]"));
    node.run(&["reload"]).ok();
    node.is_in_memory(false);
    node.says("disk", "up", &format!("encrypted under key {}", id(OTHER)));
    assert_eq!(node.tail("pump-house", 3), ["a marker of its own", "b", "c"]);
    node.stop();
}

#[test]
fn a_clear_ring_goes_on_encrypted_and_clear_again() {
    let mut node = new("");
    let mut sent = Vec::new();
    for (lines, value) in [("", "one"), (ENCRYPTED, "two"), ("old_keys = [{ file = \"key\" }]", "three")] {
        node.write_config(&ring(lines));
        node.start();
        node.send("notes", &[value]);
        sent.push(value);
        assert_eq!(node.tail("notes", sent.len()), sent);
        node.stop();
    }
}

#[test]
fn a_new_key_waits_for_a_restart() {
    let mut node = new(ENCRYPTED);
    node.start();
    node.write_config(&ring("encryption = { file = \"other\" }\nold_keys = [{ file = \"key\" }]"));
    let said = node.run(&["reload"]).ok();
    assert!(said.contains("after a restart only: ring.encryption, ring.old_keys"), "{said}");
    node.send("notes", &["a"]);
    node.stop();
    node.start();
    node.says("disk", "up", &format!("encrypted under key {}", id(OTHER)));
    assert_eq!(node.tail("notes", 1), ["a"]);
}

#[test]
fn the_tools_say_what_they_cannot_see_and_take_a_key() {
    let mut node = new(ENCRYPTED);
    node.start();
    node.send("notes", &["a", "b", "c"]);
    node.stop();
    let (dir, key) = (node.data().display().to_string(), node.path("key").display().to_string());
    let run = |args: &[&str]| headwater(&[&["ring"], args].concat(), "");
    let wanted = format!("under key {}", id(KEY));

    let said = run(&["stat", &dir]).ok();
    assert!(said.contains(&wanted) && said.contains("--key-file") && !said.contains("notes"), "{said}");
    let said = run(&["stat", &dir, "--key-file", &key]).ok();
    assert!(said.contains(&wanted) && !said.contains("--key-file") && said.contains("notes"), "{said}");

    let said = run(&["verify", &dir]).ok();
    assert!(said.contains("were not decrypted") && said.contains(&wanted), "{said}");
    let said = run(&["verify", &dir, "--key-file", &key]).ok();
    assert!(said.contains("ok: all that was durable can be read"), "{said}");

    let said = run(&["export", &dir]).failed(1);
    assert!(said.contains(&wanted) && said.contains("--key-file"), "{said}");
    let export = run(&["export", &dir, "--key-file", &key]).ok();
    assert_eq!(export.lines().count(), 3, "{export}");
    let said = headwater(&["tail", "notes", "--data-dir", &dir, "--from-beginning", "--key-file", &key], "").ok();
    assert_eq!(said.lines().count(), 3, "{said}");

    // Into another ring, under its own key; without that, not.
    let other = node.path("other").display().to_string();
    let lines = node.path("all.jsonl");
    std::fs::write(&lines, &export).unwrap();
    let mut target = new("encryption = { file = \"other\" }");
    target.start();
    target.send("own", &["x"]);
    target.stop();
    let (to, lines) = (target.data().display().to_string(), lines.display().to_string());
    let said = run(&["import", &to, &lines]).failed(1);
    assert!(said.contains(&id(OTHER)), "{said}");
    run(&["import", &to, &lines, "--key-file", &other]).ok();
    target.start();
    assert_eq!(target.tail("notes", 3), ["a", "b", "c"]);
    target.stop();

    std::fs::write(node.path("bad"), "no key").unwrap();
    let said = run(&["stat", &dir, "--key-file", &node.path("bad").display().to_string()]).failed(2);
    assert!(said.contains("64 hexadecimal digits") && !said.contains("no key"), "{said}");
}
