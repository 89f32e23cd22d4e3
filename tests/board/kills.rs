//! The plug is pulled again and again, while records are on their way; then the link comes.
//!
//! `HEADWATER_KILLS` says how often (3 times unless it does), `HEADWATER_SEED` when.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use headwater::backoff::Rng;
use headwater::node::stopped::StoppedRing;
use headwater::ring::GapReason;
use headwater::topic::TopicPart;

use super::card::tool;
use super::machine::{Machine, Setup, fresh_card};
use super::node::{headwater, setting};
use super::site::{on_the_desk, partition, upstream};

/// The values of a topic, how often each is there; nothing is gone but what was never durable.
fn values(data: &Path, topic: &str) -> BTreeMap<String, u64> {
    let mut ring = StoppedRing::open(data, &Default::default()).expect("a ring");
    let info = ring.topic(topic).unwrap_or_else(|| panic!("no topic {topic}"));
    let mut found = BTreeMap::new();
    let gaps = ring.read(TopicPart { topic: info.id, partition: 0 }, 0, |_, entry| {
        *found.entry(String::from_utf8_lossy(entry.record.value).into_owned()).or_default() += 1;
        ControlFlow::Continue(())
    });
    let lost = gaps.iter().find(|gap| gap.reason != GapReason::LostUnsynced);
    assert_eq!(lost, None, "{topic}");
    found
}

/// The whole lines of the machinery's log, as the card has it.
fn machinery(card: &Path) -> BTreeSet<String> {
    let dir = tempfile::tempdir().unwrap();
    let (at, bytes) = partition(card, 2);
    let options = format!("loop,offset={at},sizelimit={bytes}");
    let (image, place) = (card.display().to_string(), dir.path().display().to_string());
    tool("mount", &["-t", "ext4", "-o", &options, &image, &place]).expect("root is mounted");
    let text = std::fs::read(dir.path().join("var/log/plant/boot.log"));
    tool("umount", &[&place]).unwrap();
    let text = String::from_utf8_lossy(&text.unwrap()).into_owned();
    text.split_inclusive('\n').filter(|line| line.ends_with('\n')).map(|line| line.trim_end().to_owned()).collect()
}

#[test]
fn what_a_board_acknowledged_between_hard_kills_arrives_once() {
    let (seed, kills) = (setting("HEADWATER_SEED").unwrap_or(1), setting("HEADWATER_KILLS").unwrap_or(3));
    let mut chance = Rng::new(seed);
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    let card = fresh_card(dir.path());
    let mut acknowledged = BTreeMap::new();
    for kill in 0..kills {
        let machine = Machine::start(&card, &Setup::default());
        machine.is_ready();
        let end = acknowledged.last_key_value().map_or(0, |(offset, _)| offset + 1);
        assert!(machine.end_of("notes") >= end, "kill {kill}: {end} lines were acknowledged");
        // A part of the machinery's log is on the card, what comes then is not.
        machine.ok("sync /var/log/plant/boot.log");
        for batch in 0..1 + chance.below(8) {
            let lines: Vec<_> =
                (0..1 + chance.below(40)).map(|n| format!("life {kill}, batch {batch}, line {n}")).collect();
            let offsets = machine.send("notes", &lines.iter().map(String::as_str).collect::<Vec<_>>());
            for (offset, line) in offsets.iter().zip(lines) {
                let before = acknowledged.insert(offset.parse::<u64>().expect("an offset"), line);
                assert_eq!(before, None, "kill {kill}: offset {offset} was given twice");
            }
        }
        let lines: Vec<_> = (0..200).map(|n| format!("life {kill}, on its way {n}")).collect();
        machine.sends_meanwhile("notes", &lines.iter().map(String::as_str).collect::<Vec<_>>());
        std::thread::sleep(Duration::from_millis(chance.below(2_000)));
        machine.power_off();
    }
    println!("{kills} kills, {} lines acknowledged", acknowledged.len());
    let mut upstream = upstream();
    let machine = Machine::start(&card, &Setup::default());
    machine.is_ready();
    machine.ok("systemctl stop plant; sleep 3");
    machine.drains();
    machine.shut_down();
    upstream.stop();

    let desk = on_the_desk(&card);
    let verified = headwater(&["ring", "verify", &desk.data().display().to_string()], "").ok();
    println!("{verified}");
    let (kept, arrived) = (values(&desk.data(), "notes"), values(&upstream.data(), "notes"));
    assert_eq!(kept, arrived, "what the board has is upstream, once");
    let missing = acknowledged.values().find(|line| arrived.get(*line) != Some(&1));
    assert_eq!(missing, None, "it was acknowledged");
    let twice = arrived.iter().find(|(_, times)| **times != 1);
    assert_eq!(twice, None);

    // The followed file: what of it survived the cuts itself is upstream.
    let (kept, arrived) = (values(&desk.data(), "plant"), values(&upstream.data(), "plant"));
    assert_eq!(kept, arrived, "what the board has is upstream, once");
    let log = machinery(&card);
    let missing = log.iter().find(|line| !arrived.contains_key(*line));
    assert_eq!(missing, None, "a line of the machinery's log");
    let twice = arrived.values().filter(|times| **times > 1).count();
    println!(
        "{} lines of the machinery's log, {} of them outlived in the file; {twice} were read twice",
        arrived.len(),
        log.len()
    );
}
