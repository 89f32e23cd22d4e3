//! One `mqtt` source over a ring: the disk is shared memory that can stand still, and that forgets in a crash what was
//! not synced.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use headwater::config::model::{MqttSource, MqttSubscription, Retained, SourceConfig, SourceKind, ValueMode};
use headwater::hub::{Board, Hub, PartState, PartStep, Stop};
use headwater::lane::DEFAULT_LANE;
use headwater::name::Name;
use headwater::pipeline::{Pipeline, Plan, SourcePlan};
use headwater::record::Record;
use headwater::ring::{
    Disk, DiskError, DiskErrorKind, FileId, LaneOptions, Options, Owner, OwnerKind, Ring, SlotId, execute,
};
use headwater::template::Template;
use headwater::time::{BootTime, Now, Span, WallTime};
use headwater::topic::{TopicName, TopicPart};

type Files = HashMap<FileId, Vec<u8>>;

/// Files as they are, and as they would be after the power was cut.
#[derive(Clone, Default)]
pub struct TestDisk {
    files: Arc<Mutex<(Files, Files)>>,
}

impl TestDisk {
    /// Only what was synced is left.
    pub fn crash(&self) -> Self {
        let durable = self.files.lock().unwrap().1.clone();
        Self { files: Arc::new(Mutex::new((durable.clone(), durable))) }
    }

    fn file<T>(&self, file: FileId, f: impl FnOnce(&mut Vec<u8>) -> T) -> Result<T, DiskError> {
        let mut files = self.files.lock().unwrap();
        files.0.get_mut(&file).map(f).ok_or_else(|| DiskError {
            kind: DiskErrorKind::NotFound,
            op: "read",
            file: format!("{file:?}"),
            detail: "not there".into(),
        })
    }
}

impl Disk for TestDisk {
    fn list(&mut self) -> Result<Vec<(SlotId, u64)>, DiskError> {
        let files = self.files.lock().unwrap();
        let slot = |(file, data): (&FileId, &Vec<u8>)| match file {
            FileId::Slot(slot) => Some((*slot, data.len() as u64)),
            FileId::Root => None,
        };
        Ok(files.0.iter().filter_map(slot).collect())
    }
    fn create(&mut self, file: FileId, bytes: u64) -> Result<(), DiskError> {
        let mut files = self.files.lock().unwrap();
        let empty = vec![0; bytes as usize];
        files.1.insert(file, empty.clone());
        files.0.insert(file, empty);
        Ok(())
    }
    fn read(&mut self, file: FileId, at: u64, buf: &mut [u8]) -> Result<usize, DiskError> {
        self.file(file, |data| {
            let from = data.get(at as usize..).unwrap_or(&[]);
            let n = from.len().min(buf.len());
            buf[..n].copy_from_slice(&from[..n]);
            n
        })
    }
    fn write(&mut self, file: FileId, at: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.file(file, |data| data[at as usize..at as usize + bytes.len()].copy_from_slice(bytes))
    }
    fn sync(&mut self, file: FileId) -> Result<(), DiskError> {
        let mut files = self.files.lock().unwrap();
        if let Some(data) = files.0.get(&file).cloned() {
            files.1.insert(file, data);
        }
        Ok(())
    }
    fn drop_cache(&mut self, _file: FileId) -> Result<(), DiskError> {
        Ok(())
    }
    fn remove(&mut self, file: FileId) -> Result<(), DiskError> {
        let mut files = self.files.lock().unwrap();
        files.0.remove(&file);
        files.1.remove(&file);
        Ok(())
    }
}

/// A config for `port` with one subscription `#` -> `all`; change what the test is about.
pub fn config(port: u16) -> MqttSource {
    MqttSource {
        host: "127.0.0.1".into(),
        port,
        tls: None,
        version5: false,
        client_id: "headwater-test".into(),
        username: None,
        password: None,
        subscribe: vec![subscription("#", "all", 1)],
        inflight: 20,
        max_packet: 256 * 1024,
        retained: Retained::Keep,
        keep_alive: Span::from_secs(30),
        session_expiry: Span::from_secs(3600),
    }
}

pub fn subscription(filter: &str, topic: &str, qos: u8) -> MqttSubscription {
    MqttSubscription { filter: filter.into(), topic: TopicName::new(topic).unwrap(), qos }
}

/// Runs a test as the node runs: one thread, a `LocalSet`; a test that hangs fails.
pub fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        tokio::time::timeout(Duration::from_secs(100), test).await.expect("the test hangs");
    });
}

/// A node with one source.
pub struct Stand {
    pub hub: Hub,
    pub disk: TestDisk,
    stop: Stop,
    held: Rc<Cell<bool>>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Stand {
    pub fn start(config: MqttSource, disk: TestDisk) -> Self {
        Self::start_with(config, disk, Span::from_millis(30))
    }

    pub fn start_with(config: MqttSource, disk: TestDisk, linger: Span) -> Self {
        Self::start_as(config, disk, linger, ValueMode::Raw)
    }

    pub fn start_as(mqtt: MqttSource, disk: TestDisk, linger: Span, value: ValueMode) -> Self {
        let lane = Name::new(DEFAULT_LANE).unwrap();
        let mut opened = disk.clone();
        let options = Options {
            max_bytes: 8 << 20,
            lanes: vec![LaneOptions { name: lane.clone(), reserve: 0 }],
            linger,
            binding: [1; 16],
            boot_id: [2; 16],
            seed: 3,
            keys: Default::default(),
            formats: Default::default(),
        };
        let (ring, report) = Ring::recover(&mut opened, options).expect("the disk works");
        let plan = Plan { node: "n1".into(), lanes: vec![lane], labels: BTreeMap::new(), ..Plan::default() };
        let began = Instant::now();
        let clock = move || Now {
            boot: BootTime(began.elapsed().as_micros() as i64 + 1_000_000),
            wall: WallTime(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as i64),
            trusted: true,
        };
        let pipeline = Pipeline::new(ring, report, false, plan);
        let (hub, _) = Hub::new(pipeline, Box::new(clock), Rc::new(Board::default()));
        let held = Rc::new(Cell::new(false));
        let driver = tokio::task::spawn_local(drive(hub.clone(), opened, held.clone()));
        let source = SourceConfig {
            name: Name::new("broker").unwrap(),
            key: Some(Template::parse("{mqtt.1}").unwrap()),
            value,
            ack_memory: false,
            kind: SourceKind::Mqtt(mqtt),
        };
        let stop = Stop::default();
        let plan = SourcePlan { name: source.name.clone(), key: source.key.clone(), value: source.value };
        let intake = hub.intake(plan, false, stop.clone());
        let running = tokio::task::spawn_local(async move {
            headwater::sources::run(&source, intake).await.expect("the source does not give up");
        });
        Self { hub, disk, stop, held, tasks: vec![running, driver] }
    }

    /// A state entry of the source that takes up room; whether it fitted does not matter.
    pub fn fill_state(&self, key: &[u8], value: &[u8]) {
        let owner = Owner { kind: OwnerKind::Source, name: Name::new("broker").unwrap() };
        let now = self.hub.now().boot;
        let _full = self.hub.with_pipeline(|p| p.put_state(now, &owner, key, Some(value)));
    }

    /// The disk stands still, or goes on.
    pub fn hold(&self, held: bool) {
        self.held.set(held);
    }

    /// Lets the source leave as at a shutdown; what it had taken is durable then.
    pub async fn stop(mut self) -> TestDisk {
        self.stop.set();
        let source = self.tasks.remove(0);
        tokio::time::timeout(Duration::from_secs(10), source).await.expect("leaves").unwrap();
        let ticket = self.hub.close();
        until("the last batch", || self.hub.settled() >= ticket).await;
        self.disk.clone()
    }

    /// The power is cut: the source is gone at once, with all that was not synced.
    pub async fn crash(mut self) -> TestDisk {
        for task in self.tasks.drain(..) {
            task.abort();
            let _ = task.await;
        }
        self.disk.crash()
    }

    pub fn counter(&self, name: &str) -> u64 {
        self.part(|part| part.counter(name)).unwrap_or(0)
    }

    pub fn state(&self) -> PartState {
        self.part(|part| part.state.clone()).unwrap_or(PartState::Starting)
    }

    /// What the status shows of the source.
    pub fn words(&self) -> String {
        format!("{} {}", self.state().label(), self.state().what())
    }

    fn part<T>(&self, f: impl Fn(&headwater::hub::PartView) -> T) -> Option<T> {
        self.hub.board().parts().iter().find(|p| &*p.name == "broker").map(f)
    }

    /// Waits until the source says that it works.
    pub async fn up(&self) {
        until(&format!("connected, not {}", self.words()), || matches!(self.state(), PartState::Up { .. })).await;
    }

    pub async fn says(&self, words: &str) {
        let end = Instant::now() + Duration::from_secs(40);
        while !self.words().contains(words) {
            assert!(Instant::now() < end, "never said `{words}`, but `{}`", self.words());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// All durable records of a topic.
    pub async fn records(&self, topic: &str) -> Vec<Record> {
        let store = self.hub.store();
        let Some(info) = store.topic(topic) else { return Vec::new() };
        let part = TopicPart { topic: info.id, partition: 0 };
        let (mut records, mut offset) = (Vec::new(), 0);
        loop {
            match store.read(part, offset).await {
                PartStep::Frame(frame) => {
                    for entry in frame.entries_of(part, offset) {
                        assert_eq!(entry.offset, offset, "offsets are dense");
                        records.push(entry.record.to_owned());
                        offset += 1;
                    }
                }
                PartStep::Gone { resume } => offset = resume,
                PartStep::End => return records,
            }
        }
    }

    pub async fn values(&self, topic: &str) -> Vec<String> {
        self.records(topic).await.into_iter().map(|r| String::from_utf8(r.value).unwrap()).collect()
    }

    /// Waits for `n` durable records and gives their values.
    pub async fn wait_values(&self, topic: &str, n: usize) -> Vec<String> {
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            let values = self.values(topic).await;
            if values.len() >= n {
                return values;
            }
            assert!(Instant::now() < end, "{} of {n} records; {}", values.len(), self.words());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

async fn drive(hub: Hub, mut disk: TestDisk, held: Rc<Cell<bool>>) {
    loop {
        while !held.get()
            && let Some(command) = hub.poll()
        {
            let completion = execute(command, &mut disk);
            hub.complete(completion);
        }
        let wait = hub.next_timeout().map_or(Duration::from_secs(1), |at| (at - hub.now().boot).to_std());
        tokio::select! {
            () = hub.kicked() => {}
            () = tokio::time::sleep(wait.clamp(Duration::from_millis(1), Duration::from_millis(20))) => {}
        }
    }
}

pub async fn until(what: &str, mut met: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !met() {
        assert!(Instant::now() < end, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
