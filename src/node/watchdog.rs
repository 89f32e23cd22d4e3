//! The service manager's view of the node: that it is ready, what it is at in a few words, that it stops; and the watchdog,
//! fed only while every part keeps its deadlines.
//!
//! Who feeds is a task on the loop, so a loop that does not turn does not feed. It looks at the driver of the disk threads,
//! which it has turn for this, and at the threads themselves: one that stands still outside of the disk with something to do
//! is a bug, and the way out of it is a new process. One that hangs inside of the disk is a card's matter (`beat`), and a
//! link is nobody's deadline. Where the loop itself has to wait for a card (records of memory are put on one that is back),
//! a thread feeds in its stead, by the same law.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use tokio::time::Instant;

use super::beat::{Beat, Deadlines, Seen};
use crate::hub::{Hub, PartState};
use crate::ops::notify::{self, Notify};

/// How often parts are looked at, at most: several times within any deadline.
const LOOK: Duration = Duration::from_secs(10);
/// What the service manager is asked for, again and again, while the node starts.
const MORE: &str = "EXTEND_TIMEOUT_USEC=60000000";

/// What is watched in one life of the node.
pub struct Watched {
    pub hub: Hub,
    /// The turns of who moves commands between the ring and the threads.
    pub driver: Rc<Cell<u64>>,
    pub threads: [(&'static str, Arc<Beat>); 2],
}

#[derive(Default)]
struct Inner {
    notify: Option<Notify>,
    /// Whether the watchdog is to be fed.
    feeds: bool,
    every: Duration,
    /// What runs; None: it starts, or changes rings.
    watched: RefCell<Option<Watched>>,
    ready: Cell<bool>,
    told: RefCell<String>,
}

/// Held by the node while it runs.
#[derive(Clone, Default)]
pub struct Watchdog(Rc<Inner>);

impl Watchdog {
    /// Begins to tell; does nothing where nobody listens.
    pub fn start() -> Self {
        let Some(notify) = Notify::from_env() else { return Self::default() };
        let within = notify::watched();
        // Twice within the half of what is wanted.
        let every = within.map_or(LOOK, |within| LOOK.min(within / 4));
        let inner = Inner { notify: Some(notify), feeds: within.is_some(), every, ..Inner::default() };
        let watchdog = Self(Rc::new(inner));
        tokio::task::spawn_local(watchdog.clone().run());
        watchdog
    }

    /// A life begins: the first time this is what the service manager waits for.
    pub fn watch(&self, watched: Watched) {
        self.0.watched.replace(Some(watched));
        self.ready();
    }

    /// A life ends; another may follow.
    pub fn unwatch(&self) {
        self.0.watched.take();
    }

    pub fn stopping(&self) {
        self.say("STOPPING=1\nSTATUS=stopping");
    }

    /// Does `work`, in which the loop waits for the disk that `beat` is of; it is fed meanwhile.
    pub fn beside<T>(&self, beat: &Beat, work: impl FnOnce() -> T) -> T {
        let (Some(notify), true) = (&self.0.notify, self.0.feeds) else { return work() };
        let every = self.0.every;
        std::thread::scope(|scope| {
            let (end, ended) = channel::<()>();
            // One thing to do, until it is done.
            beat.give();
            let feed = move || {
                let mut deadlines = Deadlines::default();
                while ended.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                    if deadlines.look(every, &[beat.seen("loop")]).is_none() {
                        notify.say("WATCHDOG=1");
                    }
                }
            };
            // Where no thread can be had it is not fed, and has to be done in time.
            let _ = std::thread::Builder::new().name("watchdog".into()).spawn_scoped(scope, feed);
            let done = work();
            beat.done();
            drop(end);
            done
        })
    }

    fn say(&self, words: &str) -> bool {
        self.0.notify.as_ref().is_some_and(|notify| notify.say(words))
    }

    fn ready(&self) {
        if !self.0.ready.get() && self.0.watched.borrow().is_some() {
            // A manager that has no room for it is told again.
            self.0.ready.set(self.say("READY=1"));
        }
    }

    async fn run(self) {
        let (mut deadlines, mut last, mut stuck) = (Deadlines::default(), Instant::now(), None);
        loop {
            tokio::time::sleep(self.0.every).await;
            self.ready();
            if !self.0.ready.get() {
                self.say(MORE);
            }
            // A process that was held for long, or a machine that slept, has missed one look and no deadline.
            let passed = last.elapsed().min(2 * self.0.every);
            last = Instant::now();
            let found = deadlines.look(passed, &self.seen());
            if let Some(part) = found.filter(|_| found != stuck) {
                tracing::error!("the {part} does not go on: the watchdog is not fed any more");
                self.say(&format!("STATUS=the {part} does not go on"));
            }
            stuck = found;
            if stuck.is_none() {
                self.tell();
                if self.0.feeds {
                    self.say("WATCHDOG=1");
                }
            }
        }
    }

    /// Every part that has a deadline; that this is asked at all is the loop's.
    fn seen(&self) -> Vec<Seen> {
        let watched = self.0.watched.borrow();
        let Some(watched) = &*watched else { return Vec::new() };
        let driver = Seen { name: "driver", turns: watched.driver.get(), excused: false };
        // It may sleep for as long as nothing is due: that it turns until the next look is asked of it.
        watched.hub.kick();
        let threads = watched.threads.iter().map(|(name, beat)| beat.seen(name));
        std::iter::once(driver).chain(threads).collect()
    }

    /// What the node is at, when that has changed.
    fn tell(&self) {
        let Some(hub) = self.0.watched.borrow().as_ref().map(|watched| watched.hub.clone()) else { return };
        let words = status(&hub);
        if *self.0.told.borrow() != words && self.say(&format!("STATUS={words}")) {
            self.0.told.replace(words);
        }
    }
}

/// One short line: `runs; down: sink hq`.
fn status(hub: &Hub) -> String {
    let parts = hub.board().parts();
    let down = |state: &PartState| matches!(state, PartState::Down { .. });
    let down: Vec<String> = parts
        .iter()
        .filter(|part| down(&part.state))
        .map(|part| crate::hub::title(part.kind.as_str(), &part.name))
        .collect();
    match down.as_slice() {
        [] => "runs".into(),
        few if few.len() <= 4 => format!("runs; down: {}", few.join(", ")),
        many => format!("runs; {} parts down", many.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::beat::Beating;
    use crate::ring::{Disk, DiskError, FileId, MemDisk, SlotId};
    use std::os::unix::net::UnixDatagram;

    /// A card that answers only once it was heard three times that the node lives.
    struct Hangs(MemDisk, UnixDatagram);

    impl Disk for Hangs {
        fn list(&mut self) -> Result<Vec<(SlotId, u64)>, DiskError> {
            let mut heard = [0; 20];
            for _ in 0..3 {
                let n = self.1.recv(&mut heard).unwrap();
                assert_eq!(&heard[..n], b"WATCHDOG=1");
            }
            self.0.list()
        }
        fn create(&mut self, file: FileId, bytes: u64) -> Result<(), DiskError> {
            self.0.create(file, bytes)
        }
        fn read(&mut self, file: FileId, at: u64, buf: &mut [u8]) -> Result<usize, DiskError> {
            self.0.read(file, at, buf)
        }
        fn write(&mut self, file: FileId, at: u64, data: &[u8]) -> Result<(), DiskError> {
            self.0.write(file, at, data)
        }
        fn sync(&mut self, file: FileId) -> Result<(), DiskError> {
            self.0.sync(file)
        }
        fn drop_cache(&mut self, file: FileId) -> Result<(), DiskError> {
            self.0.drop_cache(file)
        }
        fn remove(&mut self, file: FileId) -> Result<(), DiskError> {
            self.0.remove(file)
        }
    }

    #[test]
    fn while_the_loop_waits_for_a_card_the_watchdog_is_fed_in_its_stead() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        manager.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let notify = Some(Notify::to(path.as_os_str()).unwrap());
        let inner = Inner { notify, feeds: true, every: Duration::from_millis(5), ..Inner::default() };
        let beat = Arc::new(Beat::default());
        let mut disk = Beating::new(Box::new(Hangs(MemDisk::new(1 << 20), manager)), beat.clone());
        let done = Watchdog(Rc::new(inner)).beside(&beat, || disk.list());
        assert_eq!(done.unwrap(), []);
    }

    #[test]
    fn where_nobody_listens_the_work_is_just_done() {
        assert_eq!(Watchdog::default().beside(&Beat::default(), || 7), 7);
    }
}
