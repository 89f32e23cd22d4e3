//! A card that somebody else fills to the brim and frees again, and one that the ring goes around a hundred times.

use super::card::{Card, MIB, ring_bytes};
use super::kept::Kept;
use super::node::eventually;

/// Fills the card, works on it, frees it, works on it: nothing acknowledged is lost, and the status says what is.
fn filled_and_freed(file_system: &str, mib: u64, ring: &str, cap: u64) {
    let Some(card) = Card::new(file_system, mib) else { return };
    let mut node = card.node(ring, "");
    node.start();
    let mut kept = Kept::new("notes");
    // A few slots: of the only one that there is nothing can be given up.
    kept.send(&node, 600, 2000);
    for round in 0..3 {
        card.fill();
        // More than the slots that are there take.
        kept.send(&node, 300, 2000);
        let status = node.status();
        assert_eq!(status.ring.health, "degraded", "round {round}: {:?}", status.ring);
        let trouble = &status.ring.trouble;
        assert!(trouble.contains("bytes are free") && trouble.contains("evicts sooner"), "{trouble}");
        assert!(node.run(&["status"]).ok().contains("evicts sooner"));
        assert!(ring_bytes(&card.data()) <= cap);
        kept.send(&node, 300, 2000);
        card.free();
        kept.send(&node, 300, 2000);
        assert!(ring_bytes(&card.data()) <= cap);
        if round == 1 {
            // Also when the power goes while the card is full.
            card.fill();
            kept.send(&node, 50, 2000);
            node.kill();
            kept.check(&card.data());
            node.start();
            card.free();
        }
        // It looks again by itself for what there is to take.
        eventually("a ring that grows again", || {
            kept.send(&node, 50, 2000);
            (node.status().ring.health == "good").then_some(())
        });
        node.stop();
        kept.check(&card.data());
        node.start();
    }
    kept.send(&node, 4000, 2000);
    let ring = node.status().ring;
    assert_eq!((ring.health.as_str(), ring.lanes[0].corrupt, ring.lanes[0].lost_unsynced), ("good", 0, 0), "{ring:?}");
    assert!(ring.used_bytes + ring.slot_bytes + 8192 > ring.max_bytes, "it has grown to its size again: {ring:?}");
    node.stop();
    let evicted = kept.check(&card.data());
    println!("{file_system}: {} lines acknowledged, {evicted} of them evicted, the others there", kept.lines.len());
    let used = ring_bytes(&card.data());
    assert!(used <= cap, "{used} of {cap} bytes");
}

#[test]
fn a_card_that_others_fill_and_free_costs_nothing_that_was_acknowledged() {
    filled_and_freed("ext4", 16, "8MiB", 8 * MIB);
}

#[test]
fn a_card_with_f2fs_that_others_fill_and_free_costs_nothing_that_was_acknowledged() {
    // The smallest that its tool makes has not much more than this.
    filled_and_freed("f2fs", 64, "8MiB", 8 * MIB);
}

#[test]
fn a_hundred_laps_around_the_ring_never_take_more_blocks_than_its_cap_while_others_fill_the_card_and_free_it() {
    let Some(card) = Card::new("ext4", 16) else { return };
    let cap = 4 * MIB;
    let mut node = card.node("4MiB", "");
    node.start();
    let mut kept = Kept::new("notes");
    let (mut most, mut laps) = (0, 0);
    while laps < 100 {
        // A megabyte of what does not compress, in large records: frames of their own.
        kept.send(&node, 18, 60_000);
        // What is acknowledged and gone around is of no more use here.
        while kept.lines.len() > 60 {
            kept.lines.pop_first();
        }
        most = most.max(ring_bytes(&card.data()));
        assert!(most <= cap, "after {laps} laps {most} of {cap} bytes");
        let before = laps;
        laps = node.status().ring.synced_bytes / cap;
        // Somebody else takes all the rest, and gives it back.
        match (before / 10 != laps / 10).then_some(laps / 10 % 2) {
            Some(1) => card.fill(),
            Some(_) => card.free(),
            None => {}
        }
    }
    node.stop();
    kept.check(&card.data());
    most = most.max(ring_bytes(&card.data()));
    assert!(most <= cap, "{most} of {cap} bytes");
    println!("{laps} laps: at most {most} of {cap} bytes in blocks of the file system");
}
