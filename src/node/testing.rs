//! A node in memory for tests: a hub over a ring on a [`MemDisk`](crate::ring::MemDisk), its disk driven by a task.

use std::collections::BTreeMap;
use std::future::Future;
use std::rc::Rc;

use super::clock::Clock;
use super::disk::SharedMemDisk;
use crate::hub::{Board, Hub};
use crate::pipeline::{Pipeline, Plan};
use crate::ring::{LaneOptions, Options, Ring, execute};
use crate::time::{Now, Span};

/// Runs a future on a current_thread runtime with a `LocalSet`, as the node does.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, future)
}

/// A hub over 8 MiB of memory with a linger of 5 ms and the plan given.
pub fn memory_hub_with(plan: Plan) -> Hub {
    let clock = Clock::default();
    memory_hub_at(plan, move || clock.now())
}

/// As [`memory_hub_with`], by a clock of the test's own.
pub fn memory_hub_at(plan: Plan, clock: impl Fn() -> Now + 'static) -> Hub {
    let mut disk = SharedMemDisk::new(8 << 20);
    let lanes = plan.lanes.iter().map(|name| LaneOptions { name: name.clone(), reserve: 0 }).collect();
    let options = Options {
        max_bytes: 8 << 20,
        lanes,
        linger: Span::from_millis(5),
        binding: [1; 16],
        boot_id: [2; 16],
        seed: 3,
        keys: Default::default(),
        formats: Default::default(),
    };
    let (ring, report) = Ring::recover(&mut disk, options).expect("memory does not fail");
    let pipeline = Pipeline::new(ring, report, true, plan);
    let (hub, _) = Hub::new(pipeline, Box::new(clock), Rc::new(Board::default()));
    let driven = hub.clone();
    tokio::task::spawn_local(async move {
        loop {
            while let Some(command) = driven.poll() {
                let completion = execute(command, &mut disk);
                driven.complete(completion);
            }
            let wait = driven.next_timeout().map_or(Span::from_secs(60), |at| at - driven.now().boot);
            tokio::select! {
                () = driven.kicked() => {}
                () = tokio::time::sleep(wait.to_std()) => {}
            }
        }
    });
    hub
}

/// As [`memory_hub_with`], without rules.
pub fn memory_hub() -> Hub {
    memory_hub_with(plan())
}

/// Of a node without rules.
pub fn plan() -> Plan {
    Plan { node: "n1".into(), labels: BTreeMap::new(), lanes: super::plan::lanes(), ..Plan::default() }
}
