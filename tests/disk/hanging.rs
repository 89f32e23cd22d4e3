//! A card that hangs when the node starts: the node does not.

use std::io::Write as _;

use super::fault::Fault;
use super::kept::{Kept, read};
use super::node::{Node, config, eventually};

#[test]
fn a_node_whose_card_hangs_at_the_start_serves_from_memory_and_goes_on_on_the_card_when_that_answers() {
    let source = "[sources.follow]\ntype = \"file\"\npaths = [\"{dir}/app.log\"]\ntopic = \"followed\"\npoll = \"50ms\"\nstart = \"beginning\"\n";
    let mut node = Node::new(&config("edge", source).replace("64MiB", "8MiB"));
    std::fs::write(node.path("app.log"), "one\ntwo\n").unwrap();
    node.start();
    let mut kept = Kept::new("notes");
    kept.send(&node, 20, 300);
    assert_eq!(node.tail("followed", 2), ["one", "two"]);
    node.stop();
    let slot = node.data().join("slot-0000");
    if !Fault::at_start(&mut node, "openat:delay_enter=8000000:when=1", &[slot]) {
        return;
    }
    eventually("the node to answer", || node.answers().then_some(()));
    let page = node.run(&["status"]).ok();
    println!("hanging: {page}");
    assert!(page.contains("IN MEMORY") && page.contains("does not answer, the card hangs"), "{page}");
    assert_eq!(node.send("notes", &["meanwhile"]), ["0"], "a ring of its own");
    let mut log = std::fs::File::options().append(true).open(node.path("app.log")).unwrap();
    writeln!(log, "three").unwrap();
    node.says("follow", "warn", "waits for the data directory");
    // Told to look again, it does so when this look has ended.
    node.run(&["reload"]).ok();
    assert!(node.status().ring.in_memory);
    node.is_in_memory(false);
    assert_eq!(node.tail("followed", 3), ["one", "two", "three"]);
    node.says("memory", "up", "records that were in memory are on it now");
    node.stop();
    let (_, found) = read(&node.data(), "notes");
    let lines: Vec<_> = kept.lines.values().map(String::as_str).chain(["meanwhile"]).collect();
    assert_eq!(found.values().collect::<Vec<_>>(), lines, "behind what the card had");
    assert_eq!(read(&node.data(), "followed").1.len(), 3, "no line twice");
}
