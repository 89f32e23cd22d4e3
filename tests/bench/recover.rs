//! From a directory to a ring: 1 GiB of records that do not compress, sealed by a clean shutdown and warm in the page cache;
//! with the root's hint and without it, and after an end that was no shutdown. The bare limit beside it reads one page of
//! every slot and all of the newest.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

use headwater::backoff::Rng;
use headwater::node::disk::FileDisk;
use headwater::record::RecordRef;
use headwater::ring::{Ring, drive};
use headwater::time::BootTime;

use super::support::{Outcome, Result, new_ring, options, paired};

const RING: u64 = 1 << 30;
const RECORD: usize = 60_000;
const SLOT: usize = 4 << 20;

/// Fills the ring once around.
fn fill(dir: &Path, clean: bool) -> Outcome {
    let mut disk = FileDisk::new(dir, 0);
    let (mut ring, part) = new_ring(&mut disk, RING)?;
    let (mut rng, now) = (Rng::new(1), BootTime(1));
    let mut value = vec![0; RECORD];
    for _ in 0..RING / RECORD as u64 {
        value.chunks_mut(8).for_each(|c| c.copy_from_slice(&rng.next_u64().to_le_bytes()[..c.len()]));
        ring.append(now, part, &RecordRef::of(&value))?;
        drive(&mut ring, &mut disk, now);
    }
    ring.hurry(now);
    drive(&mut ring, &mut disk, now);
    if clean {
        ring.close(now);
        drive(&mut ring, &mut disk, now);
    }
    Ok(())
}

fn recovered(dir: &Path) -> Result<f64> {
    let start = Instant::now();
    // What a start would write is left out, so that each finds the same.
    let (ring, report) = Ring::open_read_only(&mut FileDisk::new(dir, 0), options(RING)?)?;
    let took = start.elapsed().as_secs_f64();
    if ring.stats().lanes[0].admitted == 0 || report.corrupt_records > 0 {
        return Err("not what was written".into());
    }
    Ok(took)
}

fn bare(dir: &Path) -> Result<f64> {
    let start = Instant::now();
    let (mut page, mut slot) = (vec![0; 4096], vec![0; SLOT]);
    let mut last = None;
    for entry in std::fs::read_dir(dir)? {
        let file = std::fs::File::open(entry?.path())?;
        file.read_at(&mut page, 0)?;
        last = Some(file);
    }
    last.ok_or("no slots")?.read_at(&mut slot, 0)?;
    std::hint::black_box(&slot);
    Ok(start.elapsed().as_secs_f64())
}

pub fn run() -> Outcome {
    for (clean, hint, what) in
        [(true, true, "sealed, the hint good"), (true, false, "sealed, the hint lost"), (false, true, "after a crash")]
    {
        let dir = tempfile::tempdir()?;
        fill(dir.path(), clean)?;
        if !hint {
            std::fs::remove_file(dir.path().join("root"))?;
        }
        let (ring, limit) = paired(9, || recovered(dir.path()), || bare(dir.path()))?;
        println!(
            "{what}: {:.1} ms, one page of each slot and all of one read in {:.1} ms; ratio {:.2}",
            ring * 1e3,
            limit * 1e3,
            limit / ring
        );
    }
    Ok(())
}
