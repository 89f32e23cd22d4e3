//! The power goes: a real node on a real ext4, on a device of which every write and every flush is remembered. Then the
//! device is put together as it may have stood at many moments, with any sectors of what was not flushed missing; it is
//! mounted, and read, and some of the times a node starts on it.
//!
//! `HEADWATER_POWER_CUTS` says how many moments (30 unless it does), `HEADWATER_SEED` which.

use headwater::backoff::Rng;

use super::card::{Card, make};
use super::kept::Kept;
use super::moment::{Keep, TOPIC, Tally, Told, landed, look};
use super::node::setting;
use super::recorded::{Done, Recorded, Replay};

const MIB_OF_CARD: u64 = 24;

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
    Told { lines: kept.lines, times, ring: ("4MiB", 4 << 20), data: "data" }
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
    Some((told, recorded.log().history(), born, recorded.bytes()))
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
