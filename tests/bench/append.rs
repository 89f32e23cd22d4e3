//! Ring append against a bare loop of zstd-1 + crc32c + pwrite (+ fdatasync) over the same records: 100-byte JSON events
//! in 64 KiB frames. CPU without sync (a disk that only takes the bytes), and wall with sync on a real file.

use std::os::unix::fs::FileExt;
use std::time::Instant;

use headwater::lane::LaneId;
use headwater::name::Name;
use headwater::node::disk::FileDisk;
use headwater::record::RecordRef;
use headwater::ring::{Disk, DiskError, FileId, LaneOptions, Options, Ring, SlotId, execute};
use headwater::time::{BootTime, Span};
use headwater::topic::{TopicName, TopicPart};

use super::support::{Outcome, events, own_cpu, paired};

const RECORDS: usize = 400_000;
const FRAME: usize = 64 * 1024;

/// Takes every byte and keeps the slots' headers only as a count: what is measured is the ring.
struct Sponge {
    inner: headwater::ring::MemDisk,
}

impl Disk for Sponge {
    fn list(&mut self) -> Result<Vec<(SlotId, u64)>, DiskError> {
        self.inner.list()
    }
    fn create(&mut self, _: FileId, _: u64) -> Result<(), DiskError> {
        Ok(())
    }
    fn read(&mut self, file: FileId, at: u64, buf: &mut [u8]) -> Result<usize, DiskError> {
        self.inner.read(file, at, buf)
    }
    fn write(&mut self, _: FileId, _: u64, data: &[u8]) -> Result<(), DiskError> {
        std::hint::black_box(data);
        Ok(())
    }
    fn sync(&mut self, _: FileId) -> Result<(), DiskError> {
        Ok(())
    }
    fn drop_cache(&mut self, _: FileId) -> Result<(), DiskError> {
        Ok(())
    }
    fn remove(&mut self, _: FileId) -> Result<(), DiskError> {
        Ok(())
    }
}

fn ring_appends(
    events: &[Vec<u8>],
    disk: &mut dyn Disk,
    empty: &mut dyn Disk,
) -> Result<(), Box<dyn std::error::Error>> {
    let options = Options {
        max_bytes: 256 << 20,
        lanes: vec![LaneOptions { name: Name::new("normal")?, reserve: 0 }],
        linger: Span::from_secs(1),
        binding: [0; 16],
        boot_id: [0; 16],
        seed: 1,
    };
    let (mut ring, _) = Ring::recover(empty, options)?;
    let topic = ring.open_topic(&TopicName::new("t")?, LaneId(0), 1)?;
    let part = TopicPart { topic, partition: 0 };
    let now = BootTime(1);
    for event in events {
        ring.append(now, part, &RecordRef::of(event))?;
        while let Some(command) = ring.poll(now) {
            let done = execute(command, disk);
            ring.complete(now, done);
        }
    }
    ring.hurry(now);
    while let Some(command) = ring.poll(now) {
        let done = execute(command, disk);
        ring.complete(now, done);
    }
    assert!(ring.settled() >= ring.last_ticket(), "not everything became durable");
    Ok(())
}

fn bare(events: &[Vec<u8>], file: Option<&std::fs::File>) -> Result<(), Box<dyn std::error::Error>> {
    let mut zstd = zstd::bulk::Compressor::new(1)?;
    let mut out = vec![0u8; 2 * FRAME];
    let (mut batch, mut at) = (Vec::with_capacity(2 * FRAME), 0);
    let mut commit = |batch: &mut Vec<u8>| -> Result<(), Box<dyn std::error::Error>> {
        let n = zstd.compress_to_buffer(batch, &mut out[..])?;
        std::hint::black_box(crc32c::crc32c(&out[..n]));
        let padded = n.next_multiple_of(4096);
        if let Some(file) = file {
            file.write_all_at(&out[..padded], at)?;
            rustix::fs::fdatasync(file)?;
            at += padded as u64;
        }
        batch.clear();
        Ok(())
    };
    for event in events {
        batch.extend_from_slice(event);
        if batch.len() >= FRAME {
            commit(&mut batch)?;
        }
    }
    commit(&mut batch)
}

pub fn run() -> Outcome {
    let events = events(RECORDS);
    let (ring, limit) = paired(
        5,
        || {
            let mut sponge = Sponge { inner: headwater::ring::MemDisk::new(1 << 20) };
            let start = own_cpu();
            ring_appends(&events, &mut sponge, &mut headwater::ring::MemDisk::new(64 << 20))?;
            Ok(own_cpu() - start)
        },
        || {
            let start = own_cpu();
            bare(&events, None)?;
            Ok(own_cpu() - start)
        },
    )?;
    println!(
        "CPU without sync: ring {ring:.3} s, bare zstd-1 + crc32c {limit:.3} s for {RECORDS} records; ratio {:.2}",
        limit / ring
    );
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let mut round = 0;
    let (ring, limit) = paired(
        5,
        || {
            round += 1;
            let path = dir.path().join(format!("ring-{round}"));
            std::fs::create_dir(&path)?;
            let mut disk = FileDisk::new(&path, 0);
            let mut same = FileDisk::new(&path, 0);
            let start = Instant::now();
            ring_appends(&events, &mut disk, &mut same)?;
            let seconds = start.elapsed().as_secs_f64();
            std::fs::remove_dir_all(&path)?;
            Ok(seconds)
        },
        || {
            let file =
                std::fs::File::options().create(true).truncate(true).write(true).open(dir.path().join("bare"))?;
            rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, 64 << 20)?;
            file.sync_all()?;
            let start = Instant::now();
            bare(&events, Some(&file))?;
            Ok(start.elapsed().as_secs_f64())
        },
    )?;
    println!("wall with sync, one after the other: ring {ring:.3} s, bare {limit:.3} s; ratio {:.2}", limit / ring);
    Ok(())
}
