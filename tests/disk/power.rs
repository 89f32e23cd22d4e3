//! The power goes: a real node on a real ext4, on a device of which every write and every flush is remembered. Then the
//! device is put together as it may have stood at many moments, with any sectors of what was not flushed missing; it is
//! mounted, and read, and some of the times a node starts on it.
//!
//! `HEADWATER_POWER_CUTS` says how many moments (30 unless it does), `HEADWATER_SEED` which.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use headwater::backoff::Rng;
use headwater::node::stopped::StoppedRing;
use headwater::ring::GapReason;
use headwater::topic::TopicPart;

use super::card::{Card, make};
use super::kept::Kept;
use super::node::{Node, headwater, setting};
use super::recorded::{Done, Recorded, Replay};

const MIB_OF_CARD: u64 = 24;
const BLOCK: u64 = 4096;
const TOPIC: &str = "notes";

/// What was acknowledged, and when: entries of the device's history, and the lines that were safe by then.
struct Told {
    lines: BTreeMap<u64, String>,
    times: Vec<(usize, u64)>,
}

impl Told {
    /// The end of the offsets that were acknowledged when so much had been done to the device.
    fn safe_at(&self, cut: usize) -> u64 {
        self.times.iter().take_while(|(done, _)| *done <= cut).last().map_or(0, |(_, end)| *end)
    }
}

/// A node lives on the card: it goes around its ring, is stopped, is killed, and starts again.
fn life(card: &Card, recorded: &Recorded, chance: &mut Rng) -> Told {
    let mut node = card.node("4MiB", "");
    node.start();
    let (mut kept, mut times) = (Kept::new(TOPIC), Vec::new());
    for round in 0..90 {
        match chance.below(4) {
            0 => kept.send(&node, 1, 100),
            1 => kept.send(&node, 20, 100),
            2 => kept.send(&node, 30, 3_000),
            _ => kept.send(&node, 3, 60_000),
        }
        let end = kept.lines.last_key_value().map_or(0, |(offset, _)| offset + 1);
        times.push((recorded.count(), end));
        match round {
            30 => {
                node.stop();
                node.start();
            }
            60 => {
                node.kill();
                node.start();
            }
            _ => {}
        }
    }
    node.stop();
    Told { lines: kept.lines, times }
}

/// Which of the sectors of a write that was not flushed are on the medium. The file system's first block is never torn: its
/// superblock does not survive that.
fn landed(chance: &mut Rng, how: u64, at: u64, sectors: usize) -> Vec<bool> {
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
fn check(data: &Path, lines: &BTreeMap<u64, String>, safe: u64, what: &str) -> Found {
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
    let (room, kept) = (4 << 20, lines.range(first..safe).map(|(_, line)| line.len() as u64).sum::<u64>());
    assert!(first == 0 || kept > room / 3, "{what}: no more than {kept} bytes are kept of {safe} lines that were safe");
    Found { lines: found.len(), overwritten }
}

/// A node starts on what is left and goes on: nothing is said to be lost that was safe, and new lines go behind the old.
fn goes_on(card: &Card, lines: &BTreeMap<u64, String>, safe: u64, what: &str) {
    let mut node: Node = card.node("4MiB", "");
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
    let mut lines: BTreeMap<_, _> = lines.range(..offset).map(|(offset, line)| (*offset, line.clone())).collect();
    lines.insert(offset, "afterwards".into());
    check(&card.data(), &lines, safe, what);
}

/// What became of the cuts.
#[derive(Debug, Default)]
struct Tally {
    lines_read: usize,
    nodes_started: usize,
    /// While a slot that was evicted was being begun anew.
    overwritten: usize,
    called_damaged: Vec<String>,
}

/// One moment: mounts the image, looks, and now and then starts a node.
fn look(image: &Path, told: &Told, safe: u64, what: &str, start: bool, tally: &mut Tally) {
    let home = tempfile::tempdir().unwrap();
    let card = Card::mounted(home, "ext4", image).unwrap_or_else(|why| panic!("{what}: {why}"));
    if !card.data().join("slot-0000").exists() {
        assert_eq!(safe, 0, "{what}: there is no ring");
        return;
    }
    let found = check(&card.data(), &told.lines, safe, what);
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
        goes_on(&card, &told.lines, safe, what);
        tally.nodes_started += 1;
    }
}

/// Keeps the image of a moment that fails: the same seed makes the same choices, of a history that is another each time.
struct Keep<'a>(&'a Path);

impl Drop for Keep<'_> {
    fn drop(&mut self) {
        let kept = std::env::temp_dir().join("headwater-power-cut.img");
        if std::thread::panicking() && std::fs::copy(self.0, &kept).is_ok() {
            eprintln!("the device of that moment, mounted since: {}", kept.display());
        }
    }
}

/// Lives on a device that is remembered. None, and said so, where it cannot be had.
fn remembered(chance: &mut Rng) -> Option<(Told, Vec<Done>, usize, u64)> {
    let recorded = Recorded::new(MIB_OF_CARD)?;
    let home = tempfile::tempdir().unwrap();
    let mounted = make("ext4", &recorded.device()).and_then(|()| Card::mounted(home, "ext4", &recorded.device()));
    let card = mounted.map_err(|why| println!("a mount of a recorded device: not available here ({why})")).ok()?;
    let born = recorded.count();
    let told = life(&card, &recorded, chance);
    drop(card);
    Some((told, recorded.history(), born, recorded.bytes()))
}

#[test]
fn nothing_that_was_acknowledged_is_lost_whenever_the_power_goes() {
    let (seed, cuts) = (setting("HEADWATER_SEED").unwrap_or(1), setting("HEADWATER_POWER_CUTS").unwrap_or(30) as usize);
    let mut chance = Rng::new(seed);
    let Some((told, history, born, bytes)) = remembered(&mut chance) else { return };
    let flushes = history.iter().filter(|done| matches!(done, Done::Flush)).count();
    let (lines, writes) = (told.lines.len(), history.len() - flushes);
    println!("seed {seed}: {lines} lines, {writes} writes and {flushes} flushes of the device");
    let mut moments: Vec<_> =
        (0..cuts).map(|_| born + chance.below((history.len() + 1 - born) as u64) as usize).collect();
    moments.sort_unstable();
    let scratch = tempfile::tempdir().unwrap();
    let image = scratch.path().join("image");
    let mut replay = Replay::new(scratch.path(), bytes, &history);
    let mut tally = Tally::default();
    for (n, cut) in moments.into_iter().enumerate() {
        let how = chance.below(5);
        replay.cut(cut, &image, |at, sectors| landed(&mut chance, how, at, sectors));
        let _keep = Keep(&image);
        let what = format!("seed {seed}, cut {n} of {cuts}: {cut} entries, manner {how}");
        look(&image, &told, told.safe_at(cut), &what, n % 3 == 0, &mut tally);
    }
    println!("{tally:?}");
    let wrong = &tally.called_damaged;
    assert!(wrong.is_empty(), "what a power cut leaves is no damage:\n{}", wrong.join("\n"));
    assert!(tally.lines_read > 0 && tally.nodes_started > 0, "something was looked at");
}
