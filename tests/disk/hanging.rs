//! A card that hangs when the node starts: the node does not.

use super::fault::Fault;
use super::kept::{Kept, read};
use super::node::{Node, config, eventually};

#[test]
fn a_node_whose_card_hangs_at_the_start_serves_from_memory_and_goes_on_on_the_card_when_that_answers() {
    let mut node = Node::new(&config("edge", "").replace("64MiB", "8MiB"));
    node.start();
    let mut kept = Kept::new("notes");
    kept.send(&node, 20, 300);
    node.stop();
    let slot = node.data().join("slot-0000");
    if !Fault::at_start(&mut node, "openat:delay_enter=8000000:when=1", &slot) {
        return;
    }
    eventually("the node to answer", || node.answers().then_some(()));
    let page = node.run(&["status"]).ok();
    println!("hanging: {page}");
    assert!(page.contains("IN MEMORY") && page.contains("has not answered since the start"), "{page}");
    assert_eq!(node.send("notes", &["meanwhile"]), ["0"], "a ring of its own");
    node.is_in_memory(false);
    node.says("memory", "up", "records that were in memory are on it now");
    node.stop();
    let (_, found) = read(&node.data(), "notes");
    let lines: Vec<_> = kept.lines.values().map(String::as_str).chain(["meanwhile"]).collect();
    assert_eq!(found.values().collect::<Vec<_>>(), lines, "behind what the card had");
}
