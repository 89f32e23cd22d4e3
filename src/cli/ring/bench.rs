//! `headwater ring bench`: how fast the ring is on a card, measured with the ring and the disk calls of the node.
//!
//! The ring stands in a directory of its own, which is removed whatever happens; what a bench that was killed has left
//! is removed by the next. One thread does all of it, so that a commit's time is that of its write and its sync; a node
//! goes on taking records meanwhile.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use tokio::signal::unix::{SignalKind, signal};

use crate::backoff::Rng;
use crate::cli::keys::KeyFiles;
use crate::cli::{client, say};
use crate::lane::LaneId;
use crate::node::clock::Clock;
use crate::node::disk::FileDisk;
use crate::node::{identity, plan};
use crate::ops::human::{binary, decimal, thousands};
use crate::record::RecordRef;
use crate::ring::{
    Disk as _, FileId, Health, Keys, LaneOptions, LanePos, Options, ROOT_BYTES, ReadStep, Ring, drive, execute,
};
use crate::time::{BootTime, Span};
use crate::topic::{TopicName, TopicPart};

/// The directory in the one that is named.
const NAME: &str = "headwater-bench";
const MIB: u64 = 1024 * 1024;
/// The ring's size, and what must be left beside it: a full card is slow, and others may need the room.
const RING: u64 = 64 * MIB;
const SMALL_RING: u64 = 16 * MIB;
const BESIDE: u64 = 32 * MIB;
/// Latencies that are kept: beyond it a card is fast enough for anything.
const MAX_COMMITS: usize = 1 << 20;

#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  headwater ring bench /mnt/card          what that card can take
  headwater ring bench --seconds 60       longer: a cheap card stalls now and
                                          then, and it takes a while to see it
  headwater ring bench /mnt/card --json
  headwater ring bench --key-file FILE    encrypted with that key

Needs 96 MiB of room, or 48 (for a smaller ring). Writes to a directory
`headwater-bench` there and removes it, also after ^C.")]
pub struct Args {
    /// A directory on the card
    #[arg(value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// About how long
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// The figures as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    keys: KeyFiles,
}

#[derive(Debug, Default)]
struct Figures {
    ring_bytes: u64,
    /// Nobody waits for them.
    append_records_per_s: u64,
    append_bytes_per_s: u64,
    /// Bytes written to the device for each byte of records.
    device_bytes_per_byte: f64,
    /// One at a time, each waited for.
    commits: u64,
    commits_per_s: f64,
    commit_p50_us: u64,
    commit_p99_us: u64,
    commit_max_us: u64,
    read_records: u64,
    read_bytes_per_s: u64,
    recovery_us: u64,
}

pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let keys = args.keys.to_write()?;
    let stop = stop_on_signals();
    let place = Place::make(&args.dir)?;
    let measured = measure(&place, &keys, Duration::from_secs(args.seconds), &stop);
    drop(place);
    if stop.load(Ordering::SeqCst) {
        bail!("stopped before the end: no figures");
    }
    let figures = measured?;
    say(if args.json { json(&figures) } else { page(&figures, &args.dir) })?;
    Ok(ExitCode::SUCCESS)
}

/// True as soon as the process is told to end: the directory goes first, and a card that stalls now is waited for.
fn stop_on_signals() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let (told, (ready, listens)) = (stop.clone(), mpsc::channel());
    let wait = async move {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let _ = ready.send(());
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        told.store(true, Ordering::SeqCst);
        eprintln!("stopping; {NAME} is being removed");
        Ok(())
    };
    std::thread::spawn(move || client::block_on(wait));
    // Without the thread a signal ends the process as ever, and the next bench removes what it left.
    let _ = listens.recv();
    stop
}

/// The directory of the bench, removed when this is dropped.
struct Place {
    dir: PathBuf,
    ring_bytes: u64,
    _lock: identity::Lock,
}

impl Place {
    fn make(parent: &Path) -> anyhow::Result<Self> {
        if !parent.is_dir() {
            bail!("there is no directory {}; is the card mounted there?", parent.display());
        }
        let dir = parent.join(NAME);
        let lock = match identity::lock(&dir) {
            Ok(lock) => lock,
            Err(identity::LockError::Owned { pid, .. }) => {
                bail!("another bench runs in {} (process {pid})", parent.display())
            }
            Err(identity::LockError::Io { error, .. }) => {
                return Err(anyhow::Error::new(error).context(format!("cannot write to {}", parent.display())));
            }
        };
        let mut place = Self { dir, ring_bytes: RING, _lock: lock };
        // Of one that was killed.
        place.remove_files();
        let free = identity::free_bytes(&place.dir).context("the room on the card is not known")?;
        if free < RING + BESIDE {
            place.ring_bytes = SMALL_RING;
        }
        if free < SMALL_RING + BESIDE {
            let (free, needs) = (binary(free), binary(SMALL_RING + BESIDE));
            bail!("{} has {free} free; the bench needs {needs}", parent.display());
        }
        Ok(place)
    }

    /// The files of a ring, and no others.
    fn remove_files(&self) {
        for entry in std::fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with("slot-") || name == "root" {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.remove_files();
        let _ = std::fs::remove_file(self.dir.join("lock"));
        if let Err(error) = std::fs::remove_dir(&self.dir) {
            eprintln!("warning: {} is still there: {error}", self.dir.display());
        }
    }
}

struct Bench<'a> {
    ring: Ring,
    disk: FileDisk,
    clock: Clock,
    part: TopicPart,
    rng: Rng,
    number: u64,
    stop: &'a AtomicBool,
}

fn options(ring_bytes: u64, keys: &Keys) -> Options {
    Options {
        max_bytes: ring_bytes + ROOT_BYTES,
        lanes: plan::lanes().into_iter().map(|name| LaneOptions { name, reserve: 0 }).collect(),
        linger: Span::from_secs(1),
        binding: identity::binding(),
        boot_id: identity::boot_id(),
        seed: identity::seed(),
        keys: keys.clone(),
        formats: Default::default(),
    }
}

fn measure(place: &Place, keys: &Keys, budget: Duration, stop: &AtomicBool) -> anyhow::Result<Figures> {
    let mut disk = FileDisk::new(&place.dir, 0);
    let (mut ring, _) = Ring::recover(&mut disk, options(place.ring_bytes, keys)).context("no ring can be made")?;
    let topic = ring.open_topic(&TopicName::new("bench")?, LaneId(0), 1)?;
    let part = TopicPart { topic, partition: 0 };
    let rng = Rng::new(identity::seed());
    let mut bench = Bench { ring, disk, clock: Clock::default(), part, rng, number: 0, stop };
    let mut figures = Figures { ring_bytes: place.ring_bytes, ..Figures::default() };
    bench.append(budget.mul_f64(0.4), &mut figures)?;
    bench.commit(budget.mul_f64(0.4), &mut figures)?;
    let mut disk = bench.disk;
    drop(bench.ring);
    forget(&mut disk)?;
    // As after a power cut: nothing said that the end was clean.
    let began = Instant::now();
    let (ring, _) = Ring::recover(&mut disk, options(place.ring_bytes, keys)).context("the ring is not found again")?;
    figures.recovery_us = began.elapsed().as_micros() as u64;
    forget(&mut disk)?;
    read(ring, &mut disk, budget.mul_f64(0.2), stop, &mut figures)?;
    Ok(figures)
}

/// What is read next comes from the device.
fn forget(disk: &mut FileDisk) -> anyhow::Result<()> {
    for (slot, _) in disk.list()? {
        disk.sync(FileId::Slot(slot))?;
        disk.drop_cache(FileId::Slot(slot))?;
    }
    Ok(())
}

impl Bench<'_> {
    /// One record of 100 bytes, as a sensor sends them.
    fn one(&mut self) -> anyhow::Result<usize> {
        self.number += 1;
        let (a, b) = (self.rng.next_u64(), self.rng.next_u64());
        let mut value = format!(
            "{{\"n\":{},\"sensor\":\"pump-{:02}\",\"pressure\":{}.{:03},\"flow\":{:02}.{:03},\"temp\":{:02}.{:02},\"amps\":{}.{:03},\"ok\":true",
            self.number,
            a % 40,
            a >> 8 & 7,
            (a >> 16) % 1000,
            a >> 32 & 63,
            (a >> 40) % 1000,
            b % 40,
            (b >> 8) % 100,
            b >> 16 & 7,
            (b >> 24) % 1000
        );
        // A number of few digits leaves room.
        value.extend(std::iter::repeat_n(' ', 99usize.saturating_sub(value.len())));
        value.push('}');
        let record = RecordRef { admitted: self.now(), ..RecordRef::of(value.as_bytes()) };
        self.ring.append(record.admitted, self.part, &record)?;
        Ok(value.len())
    }

    fn now(&self) -> BootTime {
        self.clock.now().boot
    }

    /// Has the disk do what is due.
    fn work(&mut self) -> anyhow::Result<()> {
        if self.stop.load(Ordering::SeqCst) {
            bail!("stopped");
        }
        let now = self.now();
        drive(&mut self.ring, &mut self.disk, now);
        match self.ring.health() {
            Health::Good => Ok(()),
            Health::Degraded(why) | Health::Failed(why) => bail!("the card fails: {why}"),
        }
    }

    fn settle(&mut self) -> anyhow::Result<()> {
        self.ring.hurry(self.now());
        while self.ring.settled() < self.ring.last_ticket() {
            self.work()?;
        }
        Ok(())
    }

    fn append(&mut self, budget: Duration, figures: &mut Figures) -> anyhow::Result<()> {
        let (began, mut bytes, mut records) = (Instant::now(), 0u64, 0u64);
        while began.elapsed() < budget {
            for _ in 0..64 {
                bytes += self.one()? as u64;
                records += 1;
            }
            if !self.ring.has_room() {
                self.work()?;
            }
        }
        self.settle()?;
        let seconds = began.elapsed().as_secs_f64();
        figures.append_records_per_s = (records as f64 / seconds) as u64;
        figures.append_bytes_per_s = (bytes as f64 / seconds) as u64;
        figures.device_bytes_per_byte = self.ring.stats().synced_bytes as f64 / bytes.max(1) as f64;
        Ok(())
    }

    fn commit(&mut self, budget: Duration, figures: &mut Figures) -> anyhow::Result<()> {
        let (began, mut took) = (Instant::now(), Vec::new());
        while (began.elapsed() < budget || took.is_empty()) && took.len() < MAX_COMMITS {
            let one = Instant::now();
            self.one()?;
            self.settle()?;
            took.push(one.elapsed().as_micros() as u64);
        }
        figures.commits = took.len() as u64;
        figures.commits_per_s = took.len() as f64 / began.elapsed().as_secs_f64();
        took.sort_unstable();
        let at = |percent: usize| took[(took.len() - 1) * percent / 100];
        (figures.commit_p50_us, figures.commit_p99_us, figures.commit_max_us) = (at(50), at(99), at(100));
        Ok(())
    }
}

fn read(
    mut ring: Ring,
    disk: &mut FileDisk,
    budget: Duration,
    stop: &AtomicBool,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let oldest = ring.stats().lanes.first().map_or(LanePos::default(), |lane| lane.oldest);
    let mut reader = ring.lane_reader(LaneId(0), oldest);
    let (began, mut bytes) = (Instant::now(), 0u64);
    while began.elapsed() < budget && !stop.load(Ordering::SeqCst) {
        match ring.read_lane(&mut reader) {
            ReadStep::Frame(frame) => {
                for entry in frame.entries_from(reader.pos.seq) {
                    bytes += entry.record.len() as u64;
                    figures.read_records += 1;
                }
                reader.pos = frame.end();
            }
            ReadStep::Gap(gap) => bail!("{} records cannot be read back: the card lies, or is dying", gap.count()),
            ReadStep::End => break,
            ReadStep::Wait => {
                while let Some(command) = ring.poll(BootTime::default()).filter(|command| command.op.is_read()) {
                    let done = execute(command, disk);
                    ring.complete(BootTime::default(), done);
                }
            }
        }
    }
    figures.read_bytes_per_s = (bytes as f64 / began.elapsed().as_secs_f64().max(1e-6)) as u64;
    Ok(())
}

fn millis(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} us"),
        1_000..10_000 => format!("{:.1} ms", us as f64 / 1_000.0),
        _ => format!("{} ms", thousands(us / 1_000)),
    }
}

fn json(f: &Figures) -> String {
    let whole = [
        ("ring_bytes", f.ring_bytes),
        ("append_records_per_s", f.append_records_per_s),
        ("append_bytes_per_s", f.append_bytes_per_s),
        ("commits", f.commits),
        ("commit_p50_us", f.commit_p50_us),
        ("commit_p99_us", f.commit_p99_us),
        ("commit_max_us", f.commit_max_us),
        ("read_records", f.read_records),
        ("read_bytes_per_s", f.read_bytes_per_s),
        ("recovery_us", f.recovery_us),
    ];
    let lines: String = whole.iter().map(|(name, n)| format!("  \"{name}\": {n},\n")).collect();
    let (device, commits) = (f.device_bytes_per_byte, f.commits_per_s);
    format!("{{\n{lines}  \"device_bytes_per_byte\": {device:.3},\n  \"commits_per_s\": {commits:.1}\n}}")
}

fn page(f: &Figures, dir: &Path) -> String {
    let mut out = Vec::new();
    let commits =
        if f.commits_per_s < 10.0 { format!("{:.1}", f.commits_per_s) } else { thousands(f.commits_per_s as u64) };
    let rows = [
        ("records of 100 bytes that nobody waits for", format!("{} a second", thousands(f.append_records_per_s))),
        ("", format!("{}/s", decimal(f.append_bytes_per_s))),
        ("written to the card for each byte of them", format!("{:.2} bytes", f.device_bytes_per_byte)),
        ("durable records one at a time", format!("{commits} a second")),
        ("  half of them within", millis(f.commit_p50_us)),
        ("  99 of 100 within", millis(f.commit_p99_us)),
        ("  all of them within", millis(f.commit_max_us)),
        ("reading back", format!("{}/s", decimal(f.read_bytes_per_s))),
        ("start after a power cut", millis(f.recovery_us)),
    ];
    let (ring, stall) = (binary(f.ring_bytes), millis(f.commit_max_us));
    // Writing to a Vec cannot fail.
    let _ = writeln!(out, "a ring of {ring} in {}", dir.display());
    for (what, figure) in rows {
        let _ = writeln!(out, "  {what:<44}{figure:>20}");
    }
    let _ = write!(
        out,
        "this card takes {commits} durable records a second one at a time; a stall of up to {stall} was seen"
    );
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_is_measured_and_nothing_is_left_behind() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::make(dir.path()).unwrap();
        assert!(Place::make(dir.path()).is_err_and(|error| error.to_string().contains("another bench")));
        let f = measure(&place, &Keys::default(), Duration::from_millis(300), &AtomicBool::new(false)).unwrap();
        drop(place);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(f.append_records_per_s > 0 && f.commits > 0 && f.read_records > 0 && f.recovery_us > 0, "{f:?}");
        assert!(f.commit_p50_us <= f.commit_p99_us && f.commit_p99_us <= f.commit_max_us);
        assert!(page(&f, dir.path()).contains("this card takes"));
        let read: serde_json::Value = serde_json::from_str(&json(&f)).unwrap();
        assert_eq!(read["commits"], f.commits);
    }

    #[test]
    fn what_a_killed_bench_left_is_removed_and_the_files_of_others_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let left = dir.path().join(NAME);
        std::fs::create_dir(&left).unwrap();
        std::fs::write(left.join("slot-0000"), "x").unwrap();
        std::fs::write(left.join("notes.txt"), "x").unwrap();
        drop(Place::make(dir.path()).unwrap());
        assert!(!left.join("slot-0000").exists() && left.join("notes.txt").exists());
    }

    #[test]
    fn a_bench_that_is_stopped_ends_without_figures() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::make(dir.path()).unwrap();
        assert!(measure(&place, &Keys::default(), Duration::from_secs(60), &AtomicBool::new(true)).is_err());
    }
}
