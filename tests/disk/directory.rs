//! Data directories that are not what they were: gone while the node runs, read-only, empty, another's, of another version.

use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::card::Card;
use super::kept::{Kept, read};
use super::node::{Node, config, eventually};

/// A node whose socket is beside its data.
fn node() -> Node {
    Node::new(
        &config("edge", "")
            .replace("heartbeat =", "control = \"{dir}/control.sock\"\nheartbeat =")
            .replace("64MiB", "8MiB"),
    )
}

fn disk_says(node: &Node) -> String {
    let status = node.status();
    let disk = status.parts.iter().find(|part| part.kind == "disk" && part.name == "disk").expect("a disk");
    format!("{} {}", disk.state, disk.what)
}

#[test]
fn a_directory_that_is_moved_away_and_back_costs_nothing_that_was_acknowledged() {
    let mut node = node();
    node.start();
    let mut kept = Kept::new("notes");
    kept.send(&node, 20, 300);
    std::fs::rename(node.data(), node.path("elsewhere")).unwrap();
    // The open slot is written wherever it is; a new one cannot be made, which is said.
    node.run_with(&["send", "notes", "--ack", "memory"], &format!("{}\n", "x".repeat(20_000)).repeat(12)).ok();
    let page = node.run(&["status"]).ok();
    println!("moved away: {page}");
    assert!(!node.data().exists(), "nothing is made in its place");
    std::fs::rename(node.path("elsewhere"), node.data()).unwrap();
    kept.send(&node, 20, 300);
    eventually("a good ring", || (node.status().ring.health == "good").then_some(()));
    node.kill();
    kept.check(&node.data());
    node.start();
    node.stop();
    kept.check(&node.data());
}

#[test]
fn a_node_whose_directory_is_removed_goes_on_in_memory_and_makes_another_only_when_it_is_told_to() {
    let mut node = node();
    node.start();
    Kept::new("notes").send(&node, 20, 300);
    std::fs::remove_dir_all(node.data()).unwrap();
    node.run_with(&["send", "notes", "--ack", "memory"], "a line\n").ok();
    node.is_in_memory(true);
    let said = disk_says(&node);
    println!("removed: {said}");
    assert!(said.starts_with("down") && said.contains("kept in memory only"), "{said}");
    node.send("notes", &["b"]);
    assert_eq!(node.tail("notes", 2), ["a line", "b"], "what the disk did not take, and what came since");
    assert!(!node.data().exists(), "nothing is made in its place");
    node.run(&["reload"]).ok();
    node.is_in_memory(false);
    node.says("memory", "up", "records that were in memory are on it now");
    assert_eq!(node.tail("notes", 2), ["a line", "b"]);
    node.kill();
    node.start();
    assert_eq!(node.tail("notes", 2), ["a line", "b"]);
}

#[test]
fn on_a_card_that_the_kernel_made_read_only_nothing_acknowledged_is_lost_and_the_node_goes_on_in_memory() {
    let Some(card) = Card::new("ext4", 16) else { return };
    let mut node = card.node("8MiB", "[sinks.out]\ntype = \"file\"\npath = \"{dir}/out.log\"\ntopics = [\"notes\"]\n");
    node.start();
    let mut kept = Kept::new("notes");
    kept.send(&node, 20, 300);
    // What ext4 does to itself when it finds damage.
    card.remount("abort");
    node.run_with(&["send", "notes", "--ack", "memory"], "a line\n").ok();
    node.is_in_memory(true);
    let said = disk_says(&node);
    println!("read-only: {said}");
    assert!(said.contains("Read-only file system") || said.contains("nput/output error"), "{said}");
    assert!(said.contains("kept in memory only") && said.contains("a power cut loses"), "{said}");
    node.send("notes", &["b"]);
    let given: Vec<_> = kept.lines.values().map(String::as_str).chain(["a line", "b"]).collect();
    eventually("all lines", || {
        let written = std::fs::read_to_string(node.path("out.log")).unwrap();
        (written.lines().collect::<Vec<_>>() == given).then_some(())
    });
    node.kill();
    kept.check(&card.data());
    // It starts on it, too.
    node.start();
    let status = node.status();
    assert!(status.ring.in_memory, "{:?}", status.ring);
    let said = disk_says(&node);
    assert!(
        said.starts_with("down") && said.contains("kept in memory") && said.contains("mount it writable"),
        "{said}"
    );
    node.stop();
}

#[test]
fn an_empty_directory_is_a_new_ring() {
    let mut node = node();
    std::fs::create_dir(node.data()).unwrap();
    node.start();
    let status = node.status();
    assert!(status.ring.recovery.fresh && !status.ring.in_memory);
    assert_eq!(node.send("notes", &["a"]), ["0"]);
}

#[test]
fn files_of_others_in_the_directory_are_left_as_they_are() {
    let mut node = node();
    let data = node.data();
    std::fs::create_dir_all(data.join("lost+found")).unwrap();
    std::fs::create_dir_all(data.join("slot-0001")).unwrap();
    for (name, text) in
        [("notes.txt", "mine"), ("slot-0000", "a text of mine"), ("slot-x", "mine too"), ("root.bak", "")]
    {
        std::fs::write(data.join(name), text).unwrap();
    }
    node.start();
    println!("files of others: {}", disk_says(&node));
    let mut kept = Kept::new("notes");
    kept.send(&node, 200, 5000);
    node.stop();
    kept.check(&data);
    for (name, text) in [("notes.txt", "mine"), ("slot-x", "mine too"), ("root.bak", "")] {
        assert_eq!(std::fs::read_to_string(data.join(name)).unwrap(), text, "{name}");
    }
    assert!(data.join("slot-0001").is_dir() && data.join("lost+found").is_dir());
}

/// Makes the slot one of another format version, its checksum right.
fn of_version(slot: &Path, version: u16) {
    let file = std::fs::File::options().read(true).write(true).open(slot).unwrap();
    let mut page = [0; 4096];
    file.read_exact_at(&mut page, 0).unwrap();
    page[4..6].copy_from_slice(&version.to_le_bytes());
    let sum = crc32c::crc32c(&page[..4092]);
    page[4092..].copy_from_slice(&sum.to_le_bytes());
    file.write_all_at(&page, 0).unwrap();
}

#[test]
fn a_ring_of_a_later_version_is_set_aside_and_said_and_not_written_to() {
    let mut node = node();
    node.start();
    Kept::new("notes").send(&node, 20, 300);
    node.stop();
    let slot = node.data().join("slot-0000");
    of_version(&slot, 99);
    let before = std::fs::read(&slot).unwrap();
    node.start();
    let said = disk_says(&node);
    println!("a later version: {said}");
    assert!(said.starts_with("warn") && said.contains("slot-0000") && said.contains("version"), "{said}");
    is_on_the_page(&node, "slot-0000", "set aside");
    assert_eq!(node.send("other", &["a"]), ["0"]);
    node.stop();
    assert!(std::fs::read(&slot).unwrap() == before, "it was written to");
}

/// The page for people has a line with both, and the check for monitors warns with it.
fn is_on_the_page(node: &Node, what: &str, outcome: &str) {
    let page = node.run(&["status"]).ok();
    assert!(page.lines().any(|line| line.contains(what) && line.contains(outcome)), "{page}");
    let check = node.run(&["status", "--check"]);
    assert!(check.code == Some(1) && check.out.contains(outcome), "{check:?}");
}

/// A slot of the ring in `from` (None: of its own) is among a node's files: it is set aside, said, and left as it is.
fn is_set_aside(from: Option<&Path>) {
    let mut node = node();
    node.start();
    let mut kept = Kept::new("notes");
    kept.send(&node, 200, 5000);
    node.stop();
    let strange = node.data().join("slot-0019");
    assert!(!strange.exists());
    let from = from.map_or_else(|| node.data(), Path::to_owned);
    std::fs::copy(from.join("slot-0001"), &strange).unwrap();
    let before = std::fs::read(&strange).unwrap();
    node.start();
    is_on_the_page(&node, "slot-0019", "set aside");
    kept.send(&node, 200, 300);
    node.stop();
    assert!(std::fs::read(&strange).unwrap() == before, "it was written to");
    kept.check(&node.data());
}

#[test]
fn two_copies_of_a_slot_are_one_and_the_other_is_set_aside_and_said() {
    is_set_aside(None);
}

#[test]
fn a_slot_of_another_ring_is_set_aside_and_said_and_its_records_are_nobodys() {
    let mut other = node();
    other.start();
    Kept::new("notes").send(&other, 200, 5000);
    other.stop();
    is_set_aside(Some(&other.data()));
}

#[test]
fn a_node_that_began_in_memory_goes_on_on_the_disk_with_all_it_has_once_there_is_one() {
    let sink = "[sinks.out]\ntype = \"file\"\npath = \"{dir}/out.log\"\ntopics = [\"notes\"]\n";
    let config = config("edge", sink).replace("heartbeat =", "control = \"{dir}/control.sock\"\nheartbeat =");
    let mut node = Node::new(&config.replace("64MiB", "8MiB"));
    std::fs::write(node.data(), "not a directory").unwrap();
    node.start();
    assert!(node.status().ring.in_memory);
    node.says("disk", "down", "records are kept in memory");
    let mut kept = Kept::new("notes");
    kept.send(&node, 50, 300);
    eventually("what was sent", || (node.sink("out").delivered == 50).then_some(()));
    node.run(&["sink", "pause", "out"]).ok();
    let first = std::mem::replace(&mut kept, Kept::new("notes")).lines;
    kept.send(&node, 200, 300);

    std::fs::remove_file(node.data()).unwrap();
    node.run(&["reload"]).ok();
    // Its socket is away for a moment.
    node.is_in_memory(false);
    node.says("memory", "up", "records that were in memory are on it now");
    // What was paused is.
    node.run(&["sink", "resume", "out"]).ok();
    eventually("the rest", || (node.sink("out").delivered == 200).then_some(()));
    let written = std::fs::read_to_string(node.path("out.log")).unwrap();
    let given: Vec<&String> = first.values().chain(kept.lines.values()).collect();
    assert_eq!(written.lines().collect::<Vec<_>>(), given, "each line once, in order");
    node.kill();
    // New offsets, from the first that was not sent.
    let (_, found) = read(&node.data(), "notes");
    assert!(found.keys().copied().eq(0..200) && found.values().eq(kept.lines.values()));
}
