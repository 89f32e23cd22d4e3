//! `headwater ring`: looks into the ring of a node, takes records out of it and brings them back, and tries a card.

mod bench;
mod export;
mod import;
pub mod line;
mod output;
pub mod progress;

use std::io::{IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};

use super::keys::KeyFiles;
use crate::node::disk::FileDisk;
use crate::node::stopped::{owner, pause};
use crate::ops::human::{binary, thousands};
use crate::ring::FileId;
use crate::ring::stat::{KeyStat, Stat, stat};
use crate::ring::verify::{HeaderState, Severity, SlotCheck, Verification, verify};

#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  headwater ring stat /var/lib/headwater      what is in it: topics, offsets,
                                              lanes, sizes
  headwater ring stat /mnt/card/headwater --json
  headwater ring verify /var/lib/headwater    reads every frame; exit code 1
                                              when something is damaged
  headwater ring export /mnt/card/headwater --out all.jsonl
                                              its records, a line of JSON each
  headwater ring import /var/lib/headwater all.jsonl
                                              and into another node's ring
  headwater ring bench /mnt/card              how fast the ring is on that card

A node may run while its ring is looked at, verified or exported; it must be
stopped for an import. `headwater help ring export` says more, and so on.")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Verb {
    /// What a ring holds: topics, offsets, lanes, sizes
    Stat(Target),
    /// Check every frame of every slot
    Verify(Target),
    /// Print the records of a ring, a line of JSON each
    Export(export::Args),
    /// Take exported records into the ring of a stopped node, each of them once
    Import(import::Args),
    /// Measure how fast the ring is on a card
    Bench(bench::Args),
}

#[derive(Clone, Debug, clap::Args)]
struct Target {
    /// The data directory of a node
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// All of it, as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    keys: KeyFiles,
}

pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.verb {
        Verb::Stat(target) => run_stat(target),
        Verb::Verify(target) => run_verify(target),
        Verb::Export(args) => export::run(args),
        Verb::Import(args) => import::run(args),
        Verb::Bench(args) => bench::run(args),
    }
}

/// That a node runs meanwhile, where one does.
pub fn say_running(pid: Option<&str>) {
    if let Some(pid) = pid {
        eprintln!("the node runs (process {pid}): what it writes from now on may be missing");
    }
}

/// The disk of a directory that holds a ring.
pub fn disk(dir: &Path) -> anyhow::Result<FileDisk> {
    if !dir.is_dir() {
        bail!("there is no directory {}; is the card mounted there, is it the node's `data_dir`?", dir.display());
    }
    let mut disk = FileDisk::new(dir, 0);
    let slots =
        crate::ring::Disk::list(&mut disk).with_context(|| format!("no ring can be read in {}", dir.display()))?;
    if slots.is_empty() {
        bail!(
            "{} holds no ring: there is no file slot-NNNN; the data directory is `node.data_dir` of the config",
            dir.display()
        );
    }
    let readable = slots.first().map(|(slot, _)| std::fs::File::open(dir.join(FileId::Slot(*slot).to_string())));
    if readable.is_some_and(|opened| opened.is_err_and(|e| e.kind() == std::io::ErrorKind::PermissionDenied)) {
        bail!("no permission to read the ring in {}: be root or the node's user", dir.display());
    }
    Ok(disk)
}

/// What `ring stat` shows.
pub fn facts(dir: &Path, keys: &crate::ring::Keys) -> anyhow::Result<String> {
    let mut disk = disk(dir)?;
    let stat = stat(&mut disk, keys, &mut || pause(dir)).context("the ring cannot be read")?;
    let mut out = Vec::new();
    write_stat(&mut out, &stat, owner(dir).is_some())?;
    Ok(String::from_utf8_lossy(&out).into_owned())
}

fn run_stat(target: &Target) -> anyhow::Result<ExitCode> {
    let (keys, mut disk) = (target.keys.to_read()?, disk(&target.dir)?);
    let running = owner(&target.dir);
    let stat = stat(&mut disk, &keys, &mut || pause(&target.dir)).context("the ring cannot be read")?;
    say_running(running.as_deref());
    let mut out = std::io::stdout().lock();
    if target.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&stat)?)?;
    } else {
        write_stat(&mut out, &stat, running.is_some())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn run_verify(target: &Target) -> anyhow::Result<ExitCode> {
    let shows = std::io::stderr().is_terminal();
    let mut progress = |done: usize, all: usize| {
        if shows {
            eprint!("\r\x1b[Kslot {done} of {all}");
        }
    };
    let (keys, mut disk) = (target.keys.to_read()?, disk(&target.dir)?);
    say_running(owner(&target.dir).as_deref());
    let verified = verify(&mut disk, &keys, &mut || pause(&target.dir), &mut progress);
    if shows {
        eprint!("\r\x1b[K");
    }
    let verified = verified.context("the ring cannot be read")?;
    let mut out = std::io::stdout().lock();
    if target.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&verified)?)?;
    } else {
        write_verified(&mut out, &verified)?;
    }
    Ok(if verified.is_good() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn write_stat(out: &mut impl Write, stat: &Stat, running: bool) -> std::io::Result<()> {
    let end = match (stat.clean_shutdown, stat.tail_unknown) {
        _ if running => "a node writes to it",
        (true, _) => "ended by a clean shutdown",
        (false, true) => "not ended by a clean shutdown; its very last commit is unreadable or never was",
        (false, false) => "not ended by a clean shutdown",
    };
    writeln!(out, "ring {}  format {}  boot {}  {end}", stat.ring, stat.format, stat.boot)?;
    let slots = &stat.slots;
    let (bytes, each) = (binary(slots.bytes), binary(slots.slot_bytes));
    write!(out, "{bytes} in {} slots of {each}: {} used, {} free", slots.files, slots.used, slots.free)?;
    if slots.set_aside > 0 {
        write!(out, ", {} set aside", slots.set_aside)?;
    }
    let life = &stat.life;
    writeln!(out, "\nover its life {} of records, {} written", binary(life.logical_bytes), binary(life.synced_bytes))?;
    for lane in stat.lanes.iter().filter(|lane| lane.admitted > 0) {
        writeln!(
            out,
            "lane {}  {} records; admitted {}, evicted {}, corrupt {}, lost unsynced {}",
            lane.lane,
            thousands(lane.records),
            thousands(lane.admitted),
            thousands(lane.evicted),
            thousands(lane.corrupt),
            thousands(lane.lost_unsynced)
        )?;
    }
    write_keys(out, &stat.keys)?;
    writeln!(out, "\n{:<32}{:>10}{:>16}{:>16}", "topic", "partition", "first offset", "next offset")?;
    for topic in &stat.topics {
        for (n, partition) in topic.partitions.iter().enumerate() {
            let (first, next) = (thousands(partition.earliest), thousands(partition.end));
            writeln!(out, "{:<32}{n:>10}{first:>16}{next:>16}", topic.name)?;
        }
    }
    writeln!(out, "\n{:<32}{:>10}{:>16}", "state of", "entries", "bytes")?;
    for owner in &stat.owners {
        let name = format!("{} {}", format!("{:?}", owner.kind).to_lowercase(), owner.name);
        writeln!(out, "{name:<32}{:>10}{:>16}", thousands(owner.entries), thousands(owner.bytes))?;
    }
    stat.notes.iter().try_for_each(|note| writeln!(out, "note: {note}"))
}

fn write_keys(out: &mut impl Write, keys: &[KeyStat]) -> std::io::Result<()> {
    for KeyStat { id, slots, given } in keys {
        write!(out, "{slots} slots are encrypted under key {id}")?;
        match given {
            true => writeln!(out)?,
            false => writeln!(
                out,
                ", which was not given (--key-file FILE): what they hold was not looked at; names and state may be \
                 missing here"
            )?,
        }
    }
    Ok(())
}

fn write_verified(out: &mut impl Write, verified: &Verification) -> std::io::Result<()> {
    for finding in &verified.findings {
        let word = if finding.severity == Severity::Damage { "damage" } else { "note" };
        writeln!(out, "{word}: {finding}")?;
    }
    if verified.findings_left_out > 0 {
        writeln!(out, "and {} more", thousands(verified.findings_left_out))?;
    }
    verified.recovery.iter().try_for_each(|note| writeln!(out, "note: {note}"))?;
    let of = |state: HeaderState| verified.slots.iter().filter(|slot: &&SlotCheck| slot.header == state).count();
    let totals = &verified.totals;
    writeln!(
        out,
        "slots: {} good, {} blank, {} damaged, {} foreign",
        of(HeaderState::Ok),
        of(HeaderState::Blank),
        of(HeaderState::Damaged),
        of(HeaderState::Foreign)
    )?;
    writeln!(
        out,
        "frames: {} good, {} damaged; records: {} can be read, {} lost",
        thousands(totals.frames_good + totals.frames_locked),
        thousands(totals.bad_payloads + totals.damaged_headers + totals.damaged_states),
        thousands(totals.records),
        thousands(totals.records_lost)
    )?;
    if totals.records_passed > 0 {
        let passed = thousands(totals.records_passed);
        writeln!(out, "{passed} records were never written: every sink had them from memory (spill = \"offline\")")?;
    }
    write_keys(out, &verified.keys)?;
    if verified.rewritten > 0 {
        writeln!(out, "{} slots were written over by the node meanwhile", verified.rewritten)?;
    }
    let locked = totals.frames_locked;
    match (verified.is_good(), locked) {
        (true, 0) => writeln!(out, "ok: all that was durable can be read"),
        (true, _) => writeln!(
            out,
            "ok as far as can be told without the key: every checksum holds; {} frames were not decrypted",
            thousands(locked)
        ),
        (false, _) => writeln!(out, "DAMAGED: see above"),
    }
}
