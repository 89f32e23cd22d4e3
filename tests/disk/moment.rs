//! What is left of a node when the power went, looked at: the device as it may stand at one moment is mounted, its ring is
//! read and verified, and a node starts on it and goes on.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use headwater::backoff::Rng;
use headwater::node::stopped::StoppedRing;
use headwater::ring::GapReason;
use headwater::topic::TopicPart;

use super::card::Card;
use super::node::{Node, headwater};

/// File systems write their superblock with one of these.
const BLOCK: u64 = 4096;
pub const TOPIC: &str = "notes";

/// What was acknowledged, and when: entries of the device's history, and the lines that were safe by then.
pub struct Told {
    pub lines: BTreeMap<u64, String>,
    pub times: Vec<(usize, u64)>,
    /// The ring's `max_bytes`, and its bytes.
    pub ring: (&'static str, u64),
    /// Where on the device it lies.
    pub data: &'static str,
}

impl Told {
    /// The end of the offsets that were acknowledged when so much had been done to the device.
    pub fn safe_at(&self, cut: usize) -> u64 {
        self.times.iter().take_while(|(done, _)| *done <= cut).last().map_or(0, |(_, end)| *end)
    }
}

/// Which of the sectors of a write that was not flushed are on the medium. The file system's first block is never torn: its
/// superblock does not survive that.
pub fn landed(chance: &mut Rng, how: u64, at: u64, sectors: usize) -> Vec<bool> {
    match how {
        3.. if at < BLOCK => vec![chance.below(2) == 0; sectors],
        0 => vec![false; sectors],
        1 => vec![true; sectors],
        // Whole writes, in any order.
        2 => vec![chance.below(2) == 0; sectors],
        // The beginning of a write.
        3 => {
            let some = chance.below(sectors as u64 + 1) as usize;
            (0..sectors).map(|sector| sector < some).collect()
        }
        _ => (0..sectors).map(|_| chance.below(3) > 0).collect(),
    }
}

/// What a ring was found to have.
#[derive(Default)]
struct Found {
    lines: usize,
    /// A slot that was evicted was being begun anew; the eviction is on the medium by nothing but what is gone.
    overwritten: bool,
}

/// What is there is what was sent, and nothing of what was safe is missing but the oldest, evicted.
fn check(data: &Path, lines: &BTreeMap<u64, String>, room: u64, safe: u64, what: &str) -> Found {
    let mut ring = StoppedRing::open(data, &Default::default()).unwrap_or_else(|why| panic!("{what}: {why}"));
    assert_eq!(ring.report.corrupt_records, 0, "{what}: {:?}", ring.report);
    let Some(info) = ring.topic(TOPIC) else {
        assert_eq!(safe, 0, "{what}: there is no topic");
        return Found::default();
    };
    let earliest = info.partitions[0].earliest;
    let mut found = BTreeMap::new();
    let gaps = ring.read(TopicPart { topic: info.id, partition: 0 }, 0, |_, entry| {
        found.insert(entry.offset, String::from_utf8(entry.record.value.to_vec()).expect("text"));
        ControlFlow::Continue(())
    });
    let first = found.keys().next().copied().unwrap_or(earliest);
    let mut overwritten = false;
    for gap in gaps.iter().filter(|gap| gap.reason != GapReason::Evicted) {
        let from = gap.parts.iter().map(|part| part.from_offset).min().expect("a part");
        let end = gap.parts.iter().map(|part| part.to_offset).max().expect("a part");
        match gap.reason {
            GapReason::Corrupt if end <= first => overwritten = true,
            GapReason::LostUnsynced => assert!(from >= safe, "{what}: {gap:?}, and {safe} lines were safe"),
            _ => panic!("{what}: {gap:?}; from {first} on there are lines"),
        }
    }
    for (offset, line) in &found {
        assert_eq!(lines.get(offset), Some(line), "{what}: offset {offset}");
    }
    let missing = (first..safe).find(|offset| !found.contains_key(offset));
    assert_eq!(missing, None, "{what}: an offset that was acknowledged; {safe} were, from {first} on they are kept");
    let kept = lines.range(first..safe).map(|(_, line)| line.len() as u64).sum::<u64>();
    assert!(first == 0 || kept > room / 3, "{what}: no more than {kept} bytes are kept of {safe} lines that were safe");
    Found { lines: found.len(), overwritten }
}

/// A node starts on what is left and goes on: nothing is said to be lost that was safe, and new lines go behind the old.
fn goes_on(card: &Card, told: &Told, safe: u64, what: &str) {
    let mut node: Node = card.node(told.ring.0, "");
    node.start();
    let ring = node.status().ring;
    assert_eq!(
        (ring.health.as_str(), ring.lanes.iter().map(|lane| lane.corrupt).sum::<u64>()),
        ("good", 0),
        "{what}: {ring:?}"
    );
    let before = node.end_of(TOPIC);
    let offset: u64 = node.send(TOPIC, &["afterwards"])[0].parse().unwrap();
    assert!(offset >= before && before >= safe, "{what}: {offset} after {before}, {safe} were safe");
    node.stop();
    // Offsets that nobody was told may have been given again.
    let mut lines: BTreeMap<_, _> = told.lines.range(..offset).map(|(offset, line)| (*offset, line.clone())).collect();
    lines.insert(offset, "afterwards".into());
    check(&card.data(), &lines, told.ring.1, safe, what);
}

/// What became of the cuts.
#[derive(Debug, Default)]
pub struct Tally {
    pub lines_read: usize,
    pub nodes_started: usize,
    /// While a slot that was evicted was being begun anew.
    pub overwritten: usize,
    pub called_damaged: Vec<String>,
}

/// One moment: mounts the image, looks, and now and then starts a node.
pub fn look(image: &Path, told: &Told, safe: u64, what: &str, start: bool, tally: &mut Tally) {
    let home = tempfile::tempdir().unwrap();
    let card = Card::mounted(home, "ext4", image)
        .map(|card| card.with_data(told.data))
        .unwrap_or_else(|why| panic!("{what}: {why}"));
    if !card.data().join("slot-0000").exists() {
        assert_eq!(safe, 0, "{what}: there is no ring");
        return;
    }
    let found = check(&card.data(), &told.lines, told.ring.1, safe, what);
    tally.lines_read += found.lines;
    if found.overwritten {
        tally.overwritten += 1;
        return;
    }
    let verified = headwater(&["ring", "verify", &card.data().display().to_string()], "");
    if verified.code != Some(0) {
        tally.called_damaged.push(format!("{what}: {}{}", verified.out, verified.err));
    }
    if start {
        goes_on(&card, told, safe, what);
        tally.nodes_started += 1;
    }
}

/// Keeps the image of a moment that fails: the same seed makes the same choices, of a history that is another each time.
pub struct Keep<'a>(pub &'a Path);

impl Drop for Keep<'_> {
    fn drop(&mut self) {
        let kept = std::env::temp_dir().join("headwater-power-cut.img");
        if std::thread::panicking() && std::fs::copy(self.0, &kept).is_ok() {
            eprintln!("the device of that moment, mounted since: {}", kept.display());
        }
    }
}
