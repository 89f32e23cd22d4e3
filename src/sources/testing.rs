//! A node for tests of sources: a real hub and ring over a disk in memory, which can be stopped dead at any write.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::config::model::{SourceConfig, SourceKind, ValueMode};
use crate::hub::{Board, Hub, PartKind, PartState, PartStep, PartView, Stop};
use crate::lane::DEFAULT_LANES;
use crate::name::Name;
use crate::pipeline::{Pipeline, Plan, RulePlan, SourcePlan};
use crate::record::Record;
use crate::ring::{LaneOptions, MemDisk, Op, Options, Ring, execute};
use crate::time::{BootTime, Now, Span, WallTime};
use crate::topic::{TopicName, TopicPart};

/// What is waited for comes long before this, or never.
const DEADLINE: Duration = Duration::from_secs(20);
const SOURCE: &str = "under-test";

pub type SharedDisk = Rc<RefCell<MemDisk>>;

pub fn disk() -> SharedDisk {
    Rc::new(RefCell::new(MemDisk::new(64 << 20)))
}

/// Runs a future as the node would: one thread, a local set.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let local = tokio::task::LocalSet::new();
    // When it returns, the set is dropped and every task with it, as when the process is killed.
    local.block_on(&runtime, future)
}

pub struct House {
    pub hub: Hub,
    writes: Rc<Cell<u64>>,
    stop: Stop,
}

impl House {
    /// Starts on what the disk holds. After `writes_left` writes the disk takes no more, as if the process were gone.
    pub fn open(disk: &SharedDisk, rules: Vec<RulePlan>, writes_left: u64) -> Self {
        Self::open_in_boot(2, disk, rules, writes_left)
    }

    /// As if the machine had been started so many times.
    pub fn open_in_boot(boot: u8, disk: &SharedDisk, rules: Vec<RulePlan>, writes_left: u64) -> Self {
        let lanes: Vec<Name> = DEFAULT_LANES.iter().map(|name| Name::new(name).unwrap()).collect();
        let options = Options {
            max_bytes: 32 << 20,
            lanes: lanes.iter().map(|name| LaneOptions { name: name.clone(), reserve: 0 }).collect(),
            linger: Span::from_millis(5),
            binding: [1; 16],
            boot_id: [boot; 16],
            seed: 3,
            keys: Default::default(),
            formats: Default::default(),
        };
        let (ring, report) = Ring::recover(&mut *disk.borrow_mut(), options).unwrap();
        let plan = Plan {
            node: "node".into(),
            labels: BTreeMap::new(),
            lanes,
            topics: BTreeMap::new(),
            default_lane: 1,
            rules,
            ram_first: false,
            clock: None,
        };
        let pipeline = Pipeline::new(ring, report, false, plan);
        let (hub, _requests) = Hub::new(pipeline, Box::new(real_time()), Rc::new(Board::default()));
        let writes = Rc::new(Cell::new(writes_left));
        tokio::task::spawn_local(turn_disk(hub.clone(), disk.clone(), writes.clone()));
        Self { hub, writes, stop: Stop::default() }
    }

    pub fn disk_is_dead(&self) -> bool {
        self.writes.get() == 0
    }

    /// Runs a source; it ends when its error comes or the house is closed.
    pub fn start(&self, kind: SourceKind) -> tokio::task::JoinHandle<Result<(), super::SourceError>> {
        self.start_as(kind, ValueMode::Raw)
    }

    pub fn start_as(
        &self,
        kind: SourceKind,
        value: ValueMode,
    ) -> tokio::task::JoinHandle<Result<(), super::SourceError>> {
        let name = Name::new(SOURCE).unwrap();
        let config = SourceConfig { name: name.clone(), key: None, value, ack_memory: false, kind };
        let plan = SourcePlan { name, key: None, value };
        let intake = self.hub.intake(plan, false, self.stop.clone());
        tokio::task::spawn_local(async move { super::run(&config, intake).await })
    }

    pub fn stop(&self) {
        self.stop.set();
    }

    pub fn part(&self) -> PartView {
        let parts = self.hub.board().parts();
        parts.into_iter().find(|part| part.kind == PartKind::Source && &*part.name == SOURCE).unwrap()
    }

    pub fn counted(&self, counter: &str) -> u64 {
        self.part().counter(counter)
    }

    pub fn state(&self) -> PartState {
        self.part().state
    }

    /// Waits until it holds; panics with what the source says if it does not within the deadline.
    pub async fn until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let begin = Instant::now();
        while !holds() {
            assert!(begin.elapsed() < DEADLINE, "{what}: not in time; the source says {:?}", self.part());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// All durable records of a topic's partition 0, in order.
    pub async fn records(&self, topic: &str) -> Vec<Record> {
        let store = self.hub.store();
        let Some(info) = store.topic(topic) else { return Vec::new() };
        let part = TopicPart { topic: info.id, partition: 0 };
        let mut out: Vec<Record> = Vec::new();
        while let PartStep::Frame(frame) = store.read(part, out.len() as u64).await {
            out.extend(frame.entries_of(part, out.len() as u64).map(|entry| entry.record.to_owned()));
        }
        out
    }

    pub async fn values(&self, topic: &str) -> Vec<String> {
        let records = self.records(topic).await;
        records.into_iter().map(|record| String::from_utf8_lossy(&record.value).into_owned()).collect()
    }

    /// Waits for at least so many durable records and gives all there are.
    pub async fn values_of(&self, topic: &str, count: usize) -> Vec<String> {
        let store = self.hub.store();
        let durable = || store.topic(topic).map_or(0, |info| info.partitions[0].durable_end);
        self.until(&format!("{count} records in {topic}"), || durable() >= count as u64).await;
        self.values(topic).await
    }
}

fn real_time() -> impl Fn() -> Now {
    let begin = Instant::now();
    move || {
        let us = begin.elapsed().as_micros() as i64 + 1_000_000;
        Now { boot: BootTime(us), wall: WallTime(1_700_000_000_000_000 + us), trusted: true }
    }
}

async fn turn_disk(hub: Hub, disk: SharedDisk, writes: Rc<Cell<u64>>) {
    loop {
        while let Some(command) = hub.poll() {
            if !matches!(command.op, Op::Read { .. }) {
                if writes.get() == 0 {
                    return;
                }
                writes.set(writes.get() - 1);
            }
            let completion = execute(command, &mut *disk.borrow_mut());
            hub.complete(completion);
            tokio::task::yield_now().await;
        }
        let wait = hub.next_timeout().map(|at| (at - hub.now().boot).to_std());
        tokio::select! {
            () = hub.kicked() => {}
            () = tokio::time::sleep(wait.unwrap_or(DEADLINE)) => {}
        }
    }
}

pub fn topic() -> TopicName {
    TopicName::new("t").unwrap()
}
