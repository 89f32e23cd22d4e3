//! Each disk call of a workload fails in turn: once, or with those after it, plainly or half-way.
//!
//! The same workload is run once for each call and manner (in a short run two of the eight for each call, all of them with
//! `HEADWATER_FAULT_WAYS=8`). Whatever fails, there is no panic and no turn without an end;
//! the bounds of bytes on disk and in memory hold; what was acknowledged is there after a crash, and what is missing was
//! never acknowledged. Every run ends with a disk that works: then all that was given becomes durable.

use std::sync::Mutex;
use std::time::Instant;

use headwater::ring::{DiskErrorKind, Ring};
use headwater::time::BootTime;

use crate::env;
use crate::model::{Check, Violation};
use crate::proof::book::Shelf;
use crate::proof::cow::{Fault, Manner, Recorder, Trick};
use crate::proof::flips::on_all_cores;
use crate::proof::work::{Work, recover};

#[derive(Clone, Debug, Default)]
struct Tally {
    runs: u64,
    calls_failed: u64,
    crashes: u64,
    records_read: u64,
    /// Runs in which the ring gave up until the disk worked again.
    gave_up: u64,
    recoveries: u64,
}

impl Tally {
    fn add(&mut self, o: &Tally) {
        self.runs += o.runs;
        self.calls_failed += o.calls_failed;
        self.crashes += o.crashes;
        self.records_read += o.records_read;
        self.gave_up += o.gave_up;
        self.recoveries += o.recoveries;
    }
}

/// One way for a call to fail.
#[derive(Clone, Copy, Debug)]
struct Way {
    kind: DiskErrorKind,
    manner: Manner,
    /// The call and so many after it.
    times: u64,
}

const WAYS: [Way; 8] = [
    Way { kind: DiskErrorKind::Io, manner: Manner::Plain, times: 1 },
    Way { kind: DiskErrorKind::Io, manner: Manner::Half, times: 1 },
    Way { kind: DiskErrorKind::Io, manner: Manner::Half, times: 2 },
    Way { kind: DiskErrorKind::Io, manner: Manner::Half, times: 12 },
    Way { kind: DiskErrorKind::NoSpace, manner: Manner::Half, times: 1 },
    Way { kind: DiskErrorKind::NoSpace, manner: Manner::Plain, times: 40 },
    Way { kind: DiskErrorKind::ReadOnly, manner: Manner::Plain, times: 1 },
    Way { kind: DiskErrorKind::ReadOnly, manner: Manner::Plain, times: 12 },
];

/// Turns of a workload, and calls that it makes at least.
const STEPS: u64 = 400;

/// Runs a workload whose call number `at`, from where its ring is open, fails; gives the calls it made.
fn run(seed: u64, fault: Option<(u64, Way)>, tally: &mut Tally) -> Check<u64> {
    let mut work = Work::new(seed, Trick::None, (), false)?;
    work.restarts = false;
    let first = work.disk.calls;
    let calls = |(at, way): (u64, Way)| first + at..first + at + way.times;
    work.disk.fault = fault.map(|f| Fault { calls: calls(f), kind: f.1.kind, manner: f.1.manner });
    for _ in 0..STEPS {
        work.step()?;
    }
    let calls = work.disk.calls - first;
    tally.gave_up += u64::from(work.has_failed());
    work.disk.fault = None;
    if fault.is_some_and(|(at, _)| at % 2 == 0) {
        // The machine stops before anything is written again.
        work.crash()?;
    }
    work.finish()?;
    tally.runs += 1;
    tally.calls_failed += work.disk.failed;
    tally.crashes += work.crashes;
    tally.records_read += work.book.read;
    Ok(calls)
}

/// A recovery of which one call fails, or some, comes to an end, and the one after it finds everything.
fn recovery(seed: u64, tally: &mut Tally) -> Check {
    let mut work = Work::new(seed, Trick::None, (), false)?;
    for _ in 0..STEPS {
        work.step()?;
    }
    let whole = work.disk.disk.clone();
    for way in WAYS {
        for at in 0.. {
            let mut disk = Recorder::new(whole.clone(), seed, false);
            disk.fault = Some(Fault { calls: at..at + way.times, kind: way.kind, manner: way.manner });
            let outcome = Ring::recover(&mut disk, work.options.clone());
            if disk.failed == 0 {
                break;
            }
            let place = |Violation(e)| Violation(format!("recovery's call {at}, {way:?}: {e}"));
            drop(outcome);
            disk.fault = None;
            tally.recoveries += 1;
            tally.calls_failed += disk.failed;
            let (mut ring, report) = recover(&mut disk, &work.options).map_err(place)?;
            let mut shelf = Shelf { ring: &mut ring, disk: &mut disk, now: BootTime(0), writes: Vec::new() };
            work.book.check(&mut shelf, &report, false, &mut work.rng).map_err(place)?;
        }
    }
    Ok(())
}

#[test]
fn a_recovery_that_fails_takes_nothing_from_the_next() {
    let sum = Mutex::new(Tally::default());
    on_all_cores(12 * env("HEADWATER_FAULT_SEEDS").unwrap_or(1), |seed| {
        let mut tally = Tally::default();
        recovery(seed, &mut tally).map_err(|Violation(e)| Violation(format!("seed {seed}: {e}")))?;
        sum.lock().expect("no panic holds it").add(&tally);
        Ok(())
    });
    println!("{:?}", sum.into_inner().expect("no panic holds it"));
}

#[test]
fn whatever_call_fails_the_bounds_hold_and_nothing_acknowledged_is_lost() {
    let began = Instant::now();
    let sum = Mutex::new(Tally::default());
    let seeds = env("HEADWATER_FAULT_SEEDS").unwrap_or(1);
    for seed in 0..seeds {
        let calls = run(seed, None, &mut Tally::default());
        let calls = calls.unwrap_or_else(|Violation(e)| panic!("seed {seed}, nothing fails: {e}"));
        assert!(calls >= 300, "only {calls} calls");
        let ways = env("HEADWATER_FAULT_WAYS").unwrap_or(2).min(WAYS.len() as u64);
        on_all_cores(calls * ways, |n| {
            // Each call in some of the ways, the next call in the next ones.
            let (at, way) = (n / ways, WAYS[n as usize % WAYS.len()]);
            let mut tally = Tally::default();
            run(seed, Some((at, way)), &mut tally)
                .map_err(|Violation(e)| Violation(format!("seed {seed}, call {at} of {calls} fails, {way:?}: {e}")))?;
            sum.lock().expect("no panic holds it").add(&tally);
            Ok(())
        });
        println!("seed {seed}: {calls} calls, each failed in {ways} ways");
    }
    println!("{:?} in {:.1} s", sum.into_inner().expect("no panic holds it"), began.elapsed().as_secs_f64());
}
