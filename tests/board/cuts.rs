//! The power goes under a running board: QEMU writes down all that is done to its card, first boot and all, and the card is
//! put together as it may have stood at many moments. Its file systems are checked, the node's ring is read and verified,
//! nodes start on it, and some of these cards are booted again.
//!
//! `HEADWATER_POWER_CUTS` says how many moments (200 unless it does), `HEADWATER_SEED` which.

use std::path::Path;
use std::process::Output;

use headwater::backoff::Rng;

use super::card::administer;
use super::kept::Kept;
use super::machine::{Machine, Setup, fresh_card};
use super::moment::{Keep, TOPIC, Tally, Told, landed, look};
use super::node::setting;
use super::recorded::{Done, Log, Replay};
use super::site::{data_of, partition};

/// What flash.sh gives the ring on a data partition of 64 MiB.
const RING: (&str, u64) = ("40MiB", 40 << 20);
/// Of so many moments one is looked at on the whole card, with root.
const WHOLE: usize = 10;

/// Boots, collects and is asked to keep lines, until the plug is pulled.
fn life(card: &Path, log: &Path, chance: &mut Rng) -> Told {
    let machine = Machine::start(card, &Setup { log: Some(log.to_owned()), ..Setup::default() });
    machine.is_ready();
    let written = Log::open(log);
    let (mut kept, mut times) = (Kept::new(TOPIC), Vec::new());
    for round in 0..60 {
        let (count, bytes) = [(1, 100), (20, 100), (30, 3_000), (3, 30_000)][chance.below(4) as usize];
        kept.send_by(count, bytes, |topic, lines| machine.send(topic, lines));
        let end = kept.lines.last_key_value().map_or(0, |(offset, _)| offset + 1);
        times.push((written.count(), end));
        match round {
            20 => drop(machine.ok("systemctl restart headwater")),
            40 => {
                machine.ok("systemctl kill -s KILL headwater; sleep 7");
                machine.is_ready();
            }
            _ => {}
        }
    }
    machine.power_off();
    Told { lines: kept.lines, times, ring: RING, data: "" }
}

/// What of it was done to the bytes from `at` on, as if they were a device; as many entries as there were.
fn within(history: &[Done], (start, bytes): (u64, u64)) -> Vec<Done> {
    let part = history.iter().map(|done| match done {
        Done::Flush => Done::Flush,
        Done::Write { at, data } if (start..start + bytes).contains(at) => {
            Done::Write { at: at - start, data: data.clone() }
        }
        _ => Done::Discard,
    });
    part.collect()
}

/// The file system of a partition is mended by what its journal says alone, and is without fault then.
fn checked(image: &Path, (at, bytes): (u64, u64), what: &str) {
    let run = |program: &str, args: &[&str]| administer(program, args).expect("a tool of e2fsprogs or util-linux");
    let (at, bytes, image) = (at.to_string(), bytes.to_string(), image.display().to_string());
    let attached = run("losetup", &["--find", "--show", "--offset", &at, "--sizelimit", &bytes, &image]);
    let device = String::from_utf8_lossy(&attached.stdout).trim().to_owned();
    assert!(attached.status.success(), "no loop device for {image}");
    let journal = run("e2fsck", &["-fp", &device]);
    let clean = run("e2fsck", &["-fn", &device]);
    run("losetup", &["-d", &device]);
    let said = |output: &Output| String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned();
    assert!(journal.status.code().is_some_and(|code| code <= 1), "{what}: {:?} {}", journal.status, said(&journal));
    assert!(clean.status.success(), "{what}: {}", said(&clean));
}

/// A card on which the power went is put in again.
fn boots(card: &Path, told: &Told, safe: u64, what: &str) {
    let machine = Machine::start(card, &Setup::default());
    machine.is_ready();
    let end = machine.end_of(TOPIC);
    assert!(end >= safe, "{what}: {end} lines, {safe} were safe");
    let offset: u64 = machine.send(TOPIC, &["after the boot"])[0].parse().unwrap();
    assert!(offset >= safe, "{what}: {offset} was given again, {safe} were safe");
    machine.shut_down();
    let dir = tempfile::tempdir().unwrap();
    let mut tally = Tally::default();
    let mut told =
        Told { lines: told.lines.range(..offset).map(|(k, v)| (*k, v.clone())).collect(), times: vec![], ..*told };
    told.lines.insert(offset, "after the boot".into());
    look(&data_of(card, dir.path()), &told, safe, what, false, &mut tally);
    assert_eq!(tally.called_damaged, [""; 0], "{what}");
    println!("{what}: booted, {} lines", tally.lines_read);
}

#[test]
fn nothing_that_a_board_acknowledged_is_lost_whenever_its_power_goes() {
    let (seed, cuts) =
        (setting("HEADWATER_SEED").unwrap_or(1), setting("HEADWATER_POWER_CUTS").unwrap_or(200) as usize);
    let mut chance = Rng::new(seed);
    let scratch = tempfile::tempdir_in("/var/tmp").unwrap();
    let card = fresh_card(scratch.path());
    let flashed = scratch.path().join("flashed.img");
    std::fs::rename(&card, &flashed).unwrap();
    let card = fresh_card(scratch.path());
    let log = scratch.path().join("log");
    std::fs::File::create(&log).unwrap().set_len(8 << 30).unwrap();
    let told = life(&card, &log, &mut chance);
    std::fs::remove_file(&card).unwrap();

    let history = Log::open(&log).history();
    let data_at = partition(&flashed, 3);
    let of_data = within(&history, data_at);
    let is_write = |done: &Done| matches!(done, Done::Write { .. });
    let born = of_data.iter().position(is_write).expect("something was written for data");
    let flushes = history.iter().filter(|done| matches!(done, Done::Flush)).count();
    let (writes, to_data) =
        (history.iter().filter(|d| is_write(d)).count(), of_data.iter().filter(|d| is_write(d)).count());
    println!(
        "seed {seed}: {} lines; {writes} writes to the card, {to_data} of them to data, {flushes} flushes",
        told.lines.len()
    );

    let mut moments: Vec<_> =
        (0..cuts).map(|_| born + chance.below((history.len() + 1 - born) as u64) as usize).collect();
    moments.sort_unstable();
    let settled = data_of(&flashed, scratch.path());
    let root_at = partition(&flashed, 2);
    let mut replay = Replay::from(settled, &of_data);
    let mut whole = Replay::from(flashed, &history);
    let (image, disk) = (scratch.path().join("image"), scratch.path().join("disk"));
    let mut tally = Tally::default();
    let reboots = cuts.div_ceil(100);
    for (n, cut) in moments.iter().copied().enumerate() {
        let how = chance.below(5);
        replay.cut(cut, &image, |at, sectors| landed(&mut chance, how, at, sectors));
        let _keep = Keep(&image);
        let what = format!("seed {seed}, cut {n} of {cuts}: {cut} entries, manner {how}");
        look(&image, &told, told.safe_at(cut), &what, n % 3 == 0, &mut tally);
        checked(&image, (0, data_at.1), &what);
        if n % WHOLE == 0 {
            // Whole writes only: the superblock of root lies somewhere within.
            whole.cut(cut, &disk, |at, sectors| landed(&mut chance, how % 3, at, sectors));
            if n % (cuts / reboots).max(1) == 0 {
                boots(&disk, &told, told.safe_at(cut), &what);
            }
            checked(&disk, root_at, &what);
        }
    }
    println!("{cuts} moments: {tally:?}");
    let wrong = &tally.called_damaged;
    assert!(wrong.is_empty(), "what a power cut leaves is no damage:\n{}", wrong.join("\n"));
    assert!(tally.lines_read > 0 && tally.nodes_started > 0, "something was looked at");
}
