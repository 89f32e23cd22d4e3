//! Calls that are interrupted, and calls that do a part of what they were to do: neither is a failure, and nobody hears of it.
//! Where the part is all that can be done, the next call says so, and what was acknowledged is there all the same.
//!
//! Every way to cut every call, one after the other, is tried on the loops themselves, beside them in `node`.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use super::card::{Card, ring_bytes};
use super::fault::Fault;
use super::kept::Kept;
use super::node::{Node, config, eventually, headwater};

/// What a node does to its disk; strace knows some of them on some machines only.
const CALLS: [&str; 15] = [
    "pwrite64",
    "pread64",
    "fdatasync",
    "fsync",
    "fallocate",
    "openat",
    "getdents64",
    "flock",
    "fadvise64",
    "statfs",
    "statx",
    "fstat",
    "newfstatat",
    "unlink",
    "unlinkat",
];

fn interrupted(when: &str) -> String {
    let calls: Vec<String> = CALLS.iter().map(|call| format!("?{call}")).collect();
    format!("{}:error=EINTR:when={when}", calls.join(","))
}

fn node() -> Node {
    Node::new(&config("edge", "").replace("64MiB", "8MiB"))
}

/// Nothing failed, nothing is the matter, nothing is in memory.
fn is_untroubled(node: &Node, what: &str) {
    let status = node.status();
    let ring = &status.ring;
    assert_eq!((ring.failed_syncs, ring.health.as_str(), ring.in_memory), (0, "good", false), "{what}: {ring:?}");
    let parts = status.parts.iter().chain(&status.sources).chain(status.sinks.iter().map(|sink| &sink.part));
    // Whether this machine's clock is right is another matter.
    let troubled: Vec<_> = parts.filter(|part| part.kind != "clock" && part.state != "up").collect();
    assert!(troubled.is_empty(), "{what}: {troubled:?}");
}

/// Stopped, it verifies, and what was acknowledged is there.
fn is_whole(node: &mut Node, kept: &Kept, what: &str) -> u64 {
    node.stop();
    let verified = headwater(&["ring", "verify", &node.data().display().to_string()], "");
    assert_eq!(verified.code, Some(0), "{what}: {}{}", verified.out, verified.err);
    kept.check(&node.data())
}

fn missed(seen: &BTreeSet<String>, wanted: &[&str]) -> Vec<String> {
    wanted.iter().filter(|call| !seen.contains(**call)).map(|call| (*call).to_owned()).collect()
}

#[test]
fn interrupted_calls_are_made_again_and_seen_by_nobody() {
    for when in ["1+2", "2+3"] {
        let mut node = node();
        node.start();
        let mut kept = Kept::new("notes");
        kept.send(&node, 60, 2000);
        // So that it reads from the disk.
        node.stop();
        node.start();
        let Some(injected) = Fault::on(&node, &interrupted(when)) else { return };
        // More than the slot that is open takes, and in all more than half of the ring.
        kept.send(&node, 300, 2000);
        kept.send(&node, 80, 60_000);
        assert_eq!(node.tail("notes", 60).len(), 60);
        is_untroubled(&node, when);
        // Half of its slots go.
        node.write_config(&config("edge", "").replace("64MiB", "4MiB"));
        node.run(&["reload"]).ok();
        eventually("a smaller ring", || {
            kept.send(&node, 5, 300);
            (ring_bytes(&node.data()) <= 4 << 20).then_some(())
        });
        let seen = injected.calls();
        println!("every {when} interrupted: {} calls, of {seen:?}", injected.fired());
        let missed = missed(&seen, &["pwrite64", "pread64", "fdatasync", "fsync", "fallocate", "openat", "statfs"]);
        assert!(missed.is_empty(), "{when}: not interrupted: {missed:?}");
        assert!(seen.iter().any(|call| call.starts_with("unlink")), "{when}: no unlink");
        is_untroubled(&node, when);
        drop(injected);
        let evicted = is_whole(&mut node, &kept, when);
        assert!(evicted > 0, "half of the ring went");
    }
}

#[test]
fn a_start_whose_calls_are_interrupted_is_a_start_like_any_other() {
    // The second of two looks at a directory's names takes what the first did not.
    let mut seen = BTreeSet::new();
    for when in ["1+3", "2+3", "3+3"] {
        let mut node = node();
        node.start();
        let mut kept = Kept::new("notes");
        kept.send(&node, 300, 2000);
        node.kill();
        let data = node.data();
        let names = ["root", "lock"].into_iter().map(String::from).chain((0..8).map(|n| format!("slot-{n:04}")));
        let files: Vec<PathBuf> = names.map(|name| data.join(name)).chain([data.clone()]).collect();
        if !Fault::at_start(&mut node, &interrupted(when), &files) {
            return;
        }
        eventually("the node to answer", || node.answers().then_some(()));
        is_untroubled(&node, when);
        assert_eq!(node.tail("notes", 300).len(), 300, "{when}");
        kept.send(&node, 20, 2000);
        is_untroubled(&node, when);
        let now = Fault::calls_at_start(&node);
        println!("every {when} interrupted at the start: {now:?}");
        seen.extend(now);
        assert_eq!(is_whole(&mut node, &kept, when), 0);
    }
    let missed =
        missed(&seen, &["pread64", "pwrite64", "fdatasync", "openat", "fadvise64", "flock", "statfs", "getdents64"]);
    assert!(missed.is_empty(), "not interrupted: {missed:?}");
}

/// The largest file that the node may write from here on; false where that cannot be set.
fn limit(node: &Node, bytes: &str) -> bool {
    let set = Command::new("prlimit").args(["--pid", &node.pid().to_string(), &format!("--fsize={bytes}:")]).status();
    let set = set.is_ok_and(|status| status.success());
    if !set {
        println!("prlimit: not available here");
    }
    set
}

#[test]
fn writes_that_come_short_and_then_fail_cost_nothing_and_the_node_lives() {
    let mut node = node();
    node.start();
    let mut kept = Kept::new("notes");
    // All slots that there are to be: from here on they are written over.
    kept.send(&node, 160, 60_000);
    assert!(node.status().ring.lanes.iter().any(|lane| lane.evicted > 0), "{:?}", node.status().ring);
    // No page's and no frame's end: the kernel writes up to here, and says at the next call that the file is too large.
    if !limit(&node, "150001") {
        return;
    }
    for _ in 0..40 {
        kept.send(&node, 20, 2000);
    }
    let ring = node.status().ring;
    println!("too large a file: {} failed, {} {}", ring.failed_syncs, ring.health, ring.trouble);
    assert!(ring.failed_syncs >= 3 && !ring.in_memory, "{ring:?}");
    assert!(limit(&node, "unlimited"));
    node.kill();
    kept.check(&node.data());
    node.start();
    kept.send(&node, 20, 2000);
    is_untroubled(&node, "afterwards");
    is_whole(&mut node, &kept, "afterwards");
}

#[test]
fn a_card_without_fallocate_whose_room_ends_within_a_slot_costs_nothing_that_was_acknowledged() {
    let Some(card) = Card::new("ext2", 16) else { return };
    let mut node = card.node("8MiB", "");
    node.start();
    let mut kept = Kept::new("notes");
    kept.send(&node, 600, 2000);
    let before = ring_bytes(&card.data());
    card.fill();
    // Room for a slot's bytes, and not for the block that says where they are.
    card.leave(256 * 1024);
    kept.send(&node, 600, 2000);
    let status = node.status();
    println!("no room within a slot: {} {}", status.ring.health, status.ring.trouble);
    // The check of the free bytes had nothing against it, the call had. What the ring says then depends: one of its
    // slots may have made room for the one that could not be made.
    assert!(status.ring.failed_syncs >= 1 && !status.ring.in_memory, "{:?}", status.ring);
    assert!(ring_bytes(&card.data()) <= before + 256 * 1024);
    node.kill();
    kept.check(&card.data());
    node.start();
    kept.send(&node, 300, 2000);
    card.free();
    eventually("a ring that grows again", || {
        kept.send(&node, 50, 2000);
        (node.status().ring.health == "good").then_some(())
    });
    kept.send(&node, 300, 2000);
    node.stop();
    kept.check(&card.data());
}
