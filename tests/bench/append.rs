//! Ring append against a bare loop of zstd-1 + crc32c + pwrite (+ fdatasync) over the same records: 100-byte JSON events
//! in 64 KiB frames. CPU without sync (a disk that only takes the bytes), and wall with sync on a real file.

use std::os::unix::fs::FileExt;
use std::time::Instant;

use headwater::lane::LaneId;
use headwater::node::disk::{Completions, FileDisk, Threads};
use headwater::node::identity;
use headwater::record::RecordRef;
use headwater::ring::{Disk, DiskError, FileId, Key, Keys, LanePos, ReadStep, Ring, SlotId, execute};
use headwater::time::BootTime;
use headwater::topic::TopicPart;

use super::support::{Outcome, events, new_ring, new_ring_with, own_cpu, paired};

const RECORDS: usize = 400_000;
const FRAME: usize = 64 * 1024;
/// Small, so that it is once round soon; its slots have 1 MiB.
const RING: u64 = 64 << 20;

/// Takes every byte and keeps the slots' headers only as a count: what is measured is the ring.
struct Sponge {
    inner: headwater::ring::MemDisk,
}

impl Disk for Sponge {
    fn list(&mut self) -> std::result::Result<Vec<(SlotId, u64)>, DiskError> {
        self.inner.list()
    }
    fn create(&mut self, _: FileId, _: u64) -> std::result::Result<(), DiskError> {
        Ok(())
    }
    fn read(&mut self, file: FileId, at: u64, buf: &mut [u8]) -> std::result::Result<usize, DiskError> {
        self.inner.read(file, at, buf)
    }
    fn write(&mut self, _: FileId, _: u64, data: &[u8]) -> std::result::Result<(), DiskError> {
        std::hint::black_box(data);
        Ok(())
    }
    fn sync(&mut self, _: FileId) -> std::result::Result<(), DiskError> {
        Ok(())
    }
    fn drop_cache(&mut self, _: FileId) -> std::result::Result<(), DiskError> {
        Ok(())
    }
    fn remove(&mut self, _: FileId) -> std::result::Result<(), DiskError> {
        Ok(())
    }
}

/// Appends them all and sees them durable.
fn append(ring: &mut Ring, part: TopicPart, events: &[Vec<u8>], disk: &mut dyn Disk) -> Outcome {
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
    if ring.settled() < ring.last_ticket() {
        return Err("not everything became durable".into());
    }
    Ok(())
}

/// The same with the node's own disk threads: the next frame is made while the one before it is synced.
fn append_beside(
    ring: &mut Ring,
    part: TopicPart,
    events: &[Vec<u8>],
    threads: &mut Threads,
    completions: &mut Completions,
) -> Outcome {
    let now = BootTime(1);
    let mut give = |ring: &mut Ring| {
        while threads.ready() {
            let Some(command) = ring.poll(now) else { break };
            threads.send(command);
        }
    };
    for event in events {
        while !ring.has_room() {
            ring.complete(now, completions.blocking_recv().ok_or("the disk threads ended")?);
            give(ring);
        }
        ring.append(now, part, &RecordRef::of(event))?;
        while let Ok(done) = completions.try_recv() {
            ring.complete(now, done);
        }
        give(ring);
    }
    ring.hurry(now);
    give(ring);
    while ring.settled() < ring.last_ticket() {
        ring.complete(now, completions.blocking_recv().ok_or("the disk threads ended")?);
        give(ring);
    }
    Ok(())
}

fn bare(events: &[Vec<u8>], file: Option<&std::fs::File>) -> Outcome {
    let mut zstd = zstd::bulk::Compressor::new(1)?;
    let mut out = vec![0u8; 2 * FRAME];
    let (mut batch, mut at) = (Vec::with_capacity(2 * FRAME), 0);
    let mut commit = |batch: &mut Vec<u8>| -> Outcome {
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
    without_sync(&events)?;
    encrypted(&events)?;
    while_read(&events)?;
    with_sync(&events)
}

fn without_sync(events: &[Vec<u8>]) -> Outcome {
    let (ring, limit) = paired(
        9,
        || {
            let mut sponge = Sponge { inner: headwater::ring::MemDisk::new(1 << 20) };
            let (mut ring, part) = new_ring(&mut headwater::ring::MemDisk::new(RING), RING)?;
            let start = own_cpu();
            append(&mut ring, part, events, &mut sponge)?;
            Ok(own_cpu() - start)
        },
        || {
            let start = own_cpu();
            bare(events, None)?;
            Ok(own_cpu() - start)
        },
    )?;
    println!(
        "CPU without sync: ring {ring:.3} s, bare zstd-1 + crc32c {limit:.3} s for {RECORDS} records; ratio {:.2}",
        limit / ring
    );
    Ok(())
}

/// An encrypted ring beside a clear one, with nonces from the kernel as a node has them.
fn encrypted(events: &[Vec<u8>]) -> Outcome {
    let run = |keys: &dyn Fn() -> Keys| {
        let mut sponge = Sponge { inner: headwater::ring::MemDisk::new(1 << 20) };
        let (mut ring, part) = new_ring_with(&mut headwater::ring::MemDisk::new(RING), RING, keys())?;
        let start = own_cpu();
        append(&mut ring, part, events, &mut sponge)?;
        Ok(own_cpu() - start)
    };
    let key = || Keys::writing(Key::new([1; 32]), Vec::new(), Box::new(identity::nonce));
    let (encrypted, clear) = paired(9, || run(&key), || run(&Keys::default))?;
    println!("encrypted: {encrypted:.3} s, in clear {clear:.3} s; ratio {:.2}", clear / encrypted);
    Ok(())
}

/// Both overwrite what they wrote before: a ring is in its first lap once, and then never again.
/// The same while two sinks read along, each record of it.
fn while_read(events: &[Vec<u8>]) -> Outcome {
    let (ring, limit) = paired(
        9,
        || {
            let mut sponge = Sponge { inner: headwater::ring::MemDisk::new(1 << 20) };
            let (mut ring, part) = new_ring(&mut headwater::ring::MemDisk::new(RING), RING)?;
            let mut sinks = [0, 1].map(|_| ring.lane_reader(LaneId(0), LanePos::default()));
            let (start, mut read) = (own_cpu(), 0);
            // As often as a frame is full; what they read is in memory then.
            for stretch in events.chunks(500) {
                append(&mut ring, part, stretch, &mut sponge)?;
                for sink in &mut sinks {
                    while let ReadStep::Frame(frame) = ring.read_lane(sink) {
                        read += frame.entries_from(sink.pos.seq).map(|e| e.record.value.len()).sum::<usize>();
                        sink.pos = frame.end();
                    }
                }
            }
            let took = own_cpu() - start;
            if read != 2 * events.iter().map(Vec::len).sum::<usize>() {
                return Err("the sinks did not get it all".into());
            }
            Ok(took)
        },
        || {
            let start = own_cpu();
            bare(events, None)?;
            Ok(own_cpu() - start)
        },
    )?;
    println!("the same while two sinks read: ring {ring:.3} s, bare {limit:.3} s; ratio {:.2}", limit / ring);
    Ok(())
}

fn with_sync(events: &[Vec<u8>]) -> Outcome {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let (mut ring, part) = new_ring(&mut FileDisk::new(dir.path(), 0), RING)?;
    let disk = || Box::new(FileDisk::new(dir.path(), 0));
    let (mut threads, mut completions) = Threads::start(disk(), disk())?;
    while ring.stats().lanes.iter().all(|lane| lane.evicted == 0) {
        append_beside(&mut ring, part, events, &mut threads, &mut completions)?;
    }
    let file = std::fs::File::options().create(true).truncate(true).write(true).open(dir.path().join("bare"))?;
    bare(events, Some(&file))?;
    let (ring, limit) = paired(
        15,
        || {
            let start = Instant::now();
            append_beside(&mut ring, part, events, &mut threads, &mut completions)?;
            Ok(start.elapsed().as_secs_f64())
        },
        || {
            let start = Instant::now();
            bare(events, Some(&file))?;
            Ok(start.elapsed().as_secs_f64())
        },
    )?;
    println!(
        "wall with sync, second lap: ring with the node's disk thread {ring:.3} s, bare loop {limit:.3} s; ratio {:.2}",
        limit / ring
    );
    Ok(())
}
