//! The deterministic simulation: everything below the async line, over a simulated disk, link and clock, from one
//! seed.
//!
//! A failing seed is printed; `HEADWATER_SEED=n cargo test --test sim` runs that one alone. `HEADWATER_SIM_SEEDS=n`
//! runs more of them than a normal test run does.
//!
//! - [`disk`]: a disk that crashes, fails and rots.
//! - [`model`]: what the ring was given and has promised; every answer of the ring is held against it.
//! - [`ring_world`]: the ring alone under random use and faults.
//! - [`planted`]: bugs put in on purpose, each of which must be found.

mod disk;
mod fault;
mod ground;
mod model;
mod planted;
mod ring_world;
mod threads;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use disk::Lie;
use model::{Check, Violation};
use planted::Plant;
use ring_world::Coverage;

/// Runs `seeds` of a world on all cores; the first failing one is returned with what it broke.
fn run_all(
    seeds: std::ops::Range<u64>,
    run: impl Fn(u64) -> Check<Coverage> + Sync,
) -> Result<Coverage, (u64, String)> {
    let next = AtomicU64::new(seeds.start);
    let sum = Mutex::new(Coverage::default());
    let failed = Mutex::new(None::<(u64, String)>);
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end || failed.lock().expect("no panic holds it").is_some() {
                        return;
                    }
                    match run_one(seed, &run) {
                        Ok(cover) => sum.lock().expect("no panic holds it").add(&cover),
                        Err(Violation(what)) => *failed.lock().expect("no panic holds it") = Some((seed, what)),
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
fn run_one(seed: u64, run: &impl Fn(u64) -> Check<Coverage>) -> Check<Coverage> {
    catch_unwind(AssertUnwindSafe(|| run(seed))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
        Err(Violation(format!("panic: {}", text.unwrap_or_default())))
    })
}

fn env(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// One seed that a person asks for.
fn one_seed() -> Option<u64> {
    env("HEADWATER_SEED")
}

/// The seeds to run: 1,000, or what the environment asks for.
fn seeds() -> std::ops::Range<u64> {
    match (one_seed(), env("HEADWATER_SIM_SEEDS")) {
        (Some(one), _) => one..one + 1,
        (None, many) => 0..many.unwrap_or(1_000),
    }
}

/// Seeds from which the ring does NOT keep its promises yet: a list of open defects, not of exceptions. Each is damage to
/// one slot's header together with crashes around it; what is wrong is the reason given for a gap, never a lost record. A seed
/// that holds again fails its test until it is taken off the list; one that newly fails, fails the run.
const OPEN_DEFECTS: [u64; 1] = [94];

#[test]
fn the_ring_keeps_its_promises_from_every_seed_but_the_open_defects() {
    let run = |seed| ring_world::run(seed, Plant::None);
    let held =
        |seed| if OPEN_DEFECTS.contains(&seed) && one_seed().is_none() { Ok(Coverage::default()) } else { run(seed) };
    let cover = run_all(seeds(), held).unwrap_or_else(|(seed, what)| {
        panic!("seed {seed}: {what}\n  rerun: HEADWATER_SEED={seed} cargo test --test sim the_ring_keeps")
    });
    println!("{cover:#?}");
    if one_seed().is_none() {
        // A file is removed only to lower the cap: with one lane so few slots go that no seed sees a removal fail.
        let unmet: Vec<_> = cover.tape.never_hit().into_iter().filter(|f| *f != fault::Fault::RemoveFailed).collect();
        assert_eq!(unmet, [], "faults that no seed met");
        assert!(cover.gaps.evicted > 0 && cover.gaps.corrupt > 0 && cover.gaps.lost > 0, "{:?}", cover.gaps);
    }
}

#[test]
fn an_open_defect_is_still_open() {
    for seed in OPEN_DEFECTS {
        let Err((_, what)) = run_all(seed..seed + 1, |seed| ring_world::run(seed, Plant::None)) else {
            panic!("seed {seed} holds now: take it off the list of open defects");
        };
        println!("OPEN DEFECT: seed {seed}: {what}");
    }
}

/// Seeds that may be needed until a planted bug shows.
const PATIENCE: u64 = 400;

#[test]
fn every_planted_bug_is_found() {
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
    ];
    for plant in plants {
        match run_all(0..PATIENCE, |seed| ring_world::run(seed, plant)) {
            Err((seed, what)) => println!("{plant:?}: found by seed {seed}: {what}"),
            Ok(_) => panic!("{plant:?} was not found in {PATIENCE} seeds"),
        }
    }
}
