//! What the ring takes of memory, whatever the backlog: a ring of 64 MiB and one of 1 GiB, full of records that do not
//! compress, with two sinks that read the backlog from its two ends while as much comes in again. Measured is what is the
//! process's own (RssAnon), over what it was before there was a ring; each in a process of its own, with a disk of files. And
//! what fifty rules take once they have seen records; tests/alloc counts the same by the byte.

use std::path::Path;

use headwater::backoff::Rng;
use headwater::lane::LaneId;
use headwater::limits::MAX_RECORD;
use headwater::node::disk::FileDisk;
use headwater::record::RecordRef;
use headwater::ring::{LanePos, LaneReader, ReadStep, Ring, drive};
use headwater::time::BootTime;

use super::support::{Outcome, Result, new_ring};

#[path = "../support/fifty.rs"]
mod fifty;

const RECORD: usize = 1_000;
const NOW: BootTime = BootTime(1);

fn own_kib() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).ok_or("no RssAnon")?;
    Ok(line.split_whitespace().nth(1).ok_or("no number")?.parse()?)
}

/// One step of a reader, which begins again at its end.
fn read(ring: &mut Ring, disk: &mut FileDisk, reader: &mut LaneReader) {
    match ring.read_lane(reader) {
        ReadStep::Frame(frame) => reader.pos = frame.end(),
        ReadStep::Gap(_) => {}
        ReadStep::Wait => _ = drive(ring, disk, NOW),
        ReadStep::End => *reader = ring.lane_reader(LaneId(0), LanePos::default()),
    }
}

/// The most that the ring takes.
fn most(dir: &Path, bytes: u64) -> Result<u64> {
    let mut rng = Rng::new(1);
    let mut value = vec![0; RECORD];
    let before = own_kib()?;
    let mut disk = FileDisk::new(dir, 0);
    let (mut ring, part) = new_ring(&mut disk, bytes)?;
    let mut readers =
        [ring.lane_reader(LaneId(0), LanePos::default()), ring.lane_reader(LaneId(0), LanePos::default())];
    let records = bytes / RECORD as u64;
    let mut most = 0;
    for n in 0..2 * records {
        value.chunks_mut(8).for_each(|c| c.copy_from_slice(&rng.next_u64().to_le_bytes()[..c.len()]));
        while ring.append(NOW, part, &RecordRef::of(&value)).is_err() {
            drive(&mut ring, &mut disk, NOW);
        }
        if n > records && n % 16 == 0 {
            readers.iter_mut().for_each(|reader| read(&mut ring, &mut disk, reader));
        }
        if n % 1024 == 0 {
            most = most.max(own_kib()?.saturating_sub(before));
        }
    }
    Ok(most)
}

/// What fifty rules take when they are loaded, and with 3,000 records seen by each.
pub fn rules() -> Outcome {
    let before = own_kib()?;
    let mut rules = fifty::Fifty::load();
    let loaded = own_kib()? - before;
    let mut world = fifty::Kept::default();
    rules.run(3000, &mut world);
    println!("{loaded} / {} / {}", own_kib()? - before, world.bytes() / 1024);
    Ok(())
}

/// In a process of its own, so that nothing of another is counted.
pub fn one(bytes: u64) -> Outcome {
    let dir = tempfile::tempdir()?;
    println!("{}", most(dir.path(), bytes)?);
    Ok(())
}

/// What this program says when it measures one thing.
fn measured(what: &str) -> Result<String> {
    let out = std::process::Command::new(std::env::current_exe()?).args(["memory-of", what]).output()?;
    Ok(String::from_utf8(out.stdout)?.trim().to_owned())
}

pub fn run() -> Outcome {
    let goal = 1536 + 2 * MAX_RECORD as u64 / 1024;
    println!("most that the ring takes of memory (goal: {goal} KiB), by backlog:");
    for mib in [64, 1024] {
        let kib: u64 = measured(&(mib << 20u64).to_string())?.parse()?;
        println!("  {mib} MiB: {kib} KiB");
    }
    println!("fifty rules, resident KiB when loaded / with 3,000 records seen by each / of that kept for a ring:");
    println!("  {}", measured("rules")?);
    Ok(())
}
