//! The deterministic simulation: everything below the async line, over a simulated disk, link and clock, from one
//! seed.
//!
//! A failing seed is printed; `HEADWATER_SEED=n cargo test --test sim` runs that one alone. `HEADWATER_SIM_SEEDS=n`
//! runs more of them than a normal test run does, or fewer, of which nobody expects that they meet everything;
//! `HEADWATER_SIM_FIRST=n` others, `HEADWATER_SIM_CENSUS=1` goes on after a failure and prints them all.
//!
//! - [`disk`]: a disk that crashes, fails and rots.
//! - [`model`]: what the ring was given and has promised; every answer of the ring is held against it.
//! - [`ring_world`]: the ring alone under random use and faults, one to three lanes.
//! - [`node_world`]: a whole node, from sources to upstreams: [`node_sources`], [`node_sink`] over [`upstream`], the
//!   [`ledger`] of what became of each record.
//! - [`moves`]: a node whose disk fails and comes back, between a ring on it and one in memory.
//! - [`ram_first`]: a node that does not write what its sinks take from memory.
//! - [`rules_world`]: rules that keep something, and what they make of what sources give again.
//! - [`keys`]: one world in four is encrypted, under other keys from one process to the next.
//! - [`updates`]: in the ring's world, programs on trial that know a newer format, taken back or confirmed.
//! - [`planted`]: bugs put in on purpose, each of which must be found.
//! - [`proof`]: rings so small that every crash, fault and flipped bit can be tried.

mod disk;
mod fault;
mod ground;
mod keys;
mod ledger;
mod model;
mod moves;
mod node_sink;
mod node_sources;
mod node_world;
mod planted;
mod proof;
mod ram_first;
mod ring_world;
mod rules_world;
mod threads;
mod updates;
mod upstream;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use disk::Lie;
use fault::{Fault, Tape};
use model::{Check, Violation};
use planted::Plant;
use ring_world::Coverage;

/// Runs `seeds` of a world on all cores; a failing one is returned with what it broke. The first ends the run, unless all
/// are to be printed (`HEADWATER_SIM_CENSUS=1`).
fn run_all(
    seeds: std::ops::Range<u64>,
    run: impl Fn(u64) -> Check<Coverage> + Sync,
) -> Result<Coverage, (u64, String)> {
    let next = AtomicU64::new(seeds.start);
    let sum = Mutex::new(Coverage::default());
    let failed = Mutex::new(None::<(u64, String)>);
    let census = env("HEADWATER_SIM_CENSUS").is_some();
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end || !census && failed.lock().expect("no panic holds it").is_some() {
                        return;
                    }
                    match run_one(seed, &run) {
                        Ok(cover) => sum.lock().expect("no panic holds it").add(&cover),
                        Err(Violation(what)) => {
                            if census {
                                println!("seed {seed} fails: {what:.300}");
                            }
                            failed.lock().expect("no panic holds it").get_or_insert((seed, what));
                        }
                    }
                }
            });
        }
    });
    match failed.into_inner().expect("no panic holds it") {
        Some(failure) => Err(failure),
        None => Ok(sum.into_inner().expect("no panic holds it")),
    }
}

/// A panic counts as a violation of "never panics".
fn run_one<T>(seed: u64, run: &impl Fn(u64) -> Check<T>) -> Check<T> {
    catch_unwind(AssertUnwindSafe(|| run(seed))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
        Err(Violation(format!("panic: {}", text.unwrap_or_default())))
    })
}

fn env(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs the seeds of a smaller world one after the other (`least` of them, or what the environment asks for) and gives what
/// each met to `add`. True: those were fewer than a normal test run has, of which nobody expects that they meet everything.
fn run_each<T>(test: &str, least: u64, run: impl Fn(u64) -> Check<T>, mut add: impl FnMut(T)) -> bool {
    let mut failed = None;
    for seed in seeds_or(least) {
        match run_one(seed, &run) {
            Ok(met) => add(met),
            Err(Violation(what)) => {
                println!("seed {seed}: {what:.300}");
                failed.get_or_insert((seed, what));
                if env("HEADWATER_SIM_CENSUS").is_none() {
                    break;
                }
            }
        }
    }
    if let Some((seed, what)) = failed {
        panic!("seed {seed}: {what}\n  rerun: HEADWATER_SEED={seed} cargo test --test sim {test}");
    }
    are_few(test, least)
}

/// Fewer seeds than `least` were asked for. Said, because what they met is not looked at then.
fn are_few(test: &str, least: u64) -> bool {
    let seeds = seeds_or(least).count() as u64;
    if seeds < least {
        println!("{test}: {seeds} of {least} seeds: whether every fault was met is not asked");
    }
    seeds < least
}

/// Seeds of a normal test run.
const SEEDS: u64 = 1_000;

/// The seeds to run: so many, or what the environment asks for.
fn seeds_or(least: u64) -> std::ops::Range<u64> {
    match (env("HEADWATER_SEED"), env("HEADWATER_SIM_SEEDS")) {
        (Some(one), _) => one..one + 1,
        (None, many) => {
            let first = env("HEADWATER_SIM_FIRST").unwrap_or(0);
            first..first + many.unwrap_or(least)
        }
    }
}

/// Every seed keeps the promises, every seed did enough, and every fault and kind of gap was met.
fn hold(
    test: &str,
    run: impl Fn(u64, Plant) -> Check<Coverage> + Sync,
    never_hit: impl Fn(&Tape) -> Vec<Fault>,
) -> Coverage {
    let cover = run_all(seeds_or(SEEDS), |seed| run(seed, Plant::None)).unwrap_or_else(|(seed, what)| {
        panic!("seed {seed}: {what}\n  rerun: HEADWATER_SEED={seed} cargo test --test sim {test}")
    });
    println!("{cover:#?}");
    if !are_few(test, SEEDS) {
        assert_eq!(never_hit(&cover.tape), [], "faults that no seed met");
        assert!(cover.gaps.evicted > 0 && cover.gaps.corrupt > 0 && cover.gaps.lost > 0, "{:?}", cover.gaps);
        assert!(cover.least_ops >= 2_000 && cover.least_faults >= 20, "a seed had too little: {cover:?}");
    }
    cover
}

#[test]
fn the_ring_keeps_its_promises_from_every_seed() {
    let cover = hold("the_ring_keeps", ring_world::run, Tape::never_hit_by_ring);
    let updates = cover.rolled_back.min(cover.confirmed);
    assert!(env("HEADWATER_SEED").is_some() || updates > 0, "no program on trial was taken back, or none confirmed");
}

#[test]
fn a_node_keeps_its_promises_from_every_seed() {
    hold("a_node_keeps", node_world::run, Tape::never_hit);
}

/// Seeds that may be needed until a planted bug shows.
const PATIENCE: u64 = 1_000;

/// The first seed that finds a bug says how; none may need more than `PATIENCE` of them.
fn find(plants: &[Plant], run: impl Fn(u64, Plant) -> Check<Coverage> + Sync) {
    for plant in plants {
        match run_all(0..PATIENCE, |seed| run(seed, *plant)) {
            Err((seed, what)) => println!("{plant:?}: found by seed {seed}: {what:.300}"),
            Ok(_) => panic!("{plant:?} was not found in {PATIENCE} seeds"),
        }
    }
}

#[test]
fn every_bug_planted_in_a_ring_is_found() {
    let plants = [
        Plant::Disk(Lie::SyncLeftOut),
        Plant::Disk(Lie::SyncErrorSwallowed),
        Plant::Disk(Lie::WriteErrorSwallowed),
        Plant::Disk(Lie::DirectoryNotSynced),
        Plant::Disk(Lie::ShortWrite),
        Plant::Disk(Lie::Misdirected),
        Plant::AcknowledgedEarly,
        Plant::CursorStoredEarly,
        Plant::GapNotCounted,
        Plant::FloorFromUnsyncedCursor,
        Plant::WritesReordered,
        Plant::NewFormatOnTrial,
    ];
    find(&plants, ring_world::run);
}

#[test]
fn every_bug_planted_in_a_node_is_found() {
    let plants = [
        Plant::Disk(Lie::SyncLeftOut),
        Plant::Disk(Lie::SyncErrorSwallowed),
        Plant::AcknowledgedEarly,
        Plant::CheckpointAhead,
        Plant::FloorFromUnsyncedCursor,
        Plant::CursorBeforeAnswer,
        Plant::CountSkipped,
        Plant::GapNotCounted,
        Plant::StateLeftOut,
        Plant::SearchLeftOut,
        Plant::NoGrace,
        Plant::BatchStraddles,
        Plant::NotRewound,
        Plant::SyncedEarly,
        Plant::RejectTakenForWritten,
        Plant::UncommittedTakenForWritten,
        Plant::NoteLeftOut,
        Plant::SharesNotStored,
        Plant::LossToldAgain,
        Plant::LetterGivenAgain,
        Plant::OneIdentity,
        Plant::ContentsNotCompared,
        Plant::ComparedInPart,
    ];
    find(&plants, node_world::run);
}
