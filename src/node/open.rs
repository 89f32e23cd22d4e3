//! Opening the ring: on the disk, else in memory until the disk can be used; in memory too when the disk fails later.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread::JoinHandle;
use std::time::Duration;

use super::beat::{Beat, Beating};
use super::carry::{self, Carried, Left, Target};
use super::clock::Clock;
use super::disk::{Completions, FileDisk, SharedMemDisk, Threads};
use super::identity::Lock;
use super::look::{self, Look, Refused, Terms};
use super::watchdog::Watchdog;
use super::{NodeError, plan};
use crate::config::Config;
use crate::hub::{Hub, PartState};
use crate::name::Name;
use crate::ops::human::binary;
use crate::ring::{Disk, Report, Ring};
use crate::time::Span;

/// How long a disk may take for one call until the sources do not wait any more.
const START: Span = Span::from_secs(2);

/// How long to wait before a disk that took nothing is asked again.
const RETRY: Duration = Duration::from_millis(20);

pub struct Opened {
    pub ring: Ring,
    pub report: Report,
    /// Where the ring is in memory, because there is no usable disk.
    pub memory: Option<Memory>,
    pub threads: Threads,
    pub completions: Completions,
    pub lock: Option<Lock>,
    /// `ring.keep_free`, as the disk threads see it.
    pub keep_free: Arc<AtomicU64>,
    pub states: Vec<(PartState, &'static str)>,
    /// Sinks that a person paused before the node changed rings.
    pub paused: Vec<Name>,
}

/// The ring's memory, and what there is to come back to.
pub struct Memory {
    disk: SharedMemDisk,
    left: Option<Left>,
    /// Threads of the disk that failed: while one hangs in it nothing is begun there.
    hanging: Vec<JoinHandle<()>>,
    /// Why the ring is in memory.
    pub why: String,
    /// One for the disk that is under way.
    look: Option<Look>,
}

impl Memory {
    /// Looks for a disk, unless that is under way or a thread still hangs in the one that failed. A directory that is empty
    /// now may be what is below a card that was pulled: without a person's word (`asked`) only one with a ring in it is taken
    /// where there was one before.
    /// Gives back whether one is under way.
    pub fn look(&mut self, config: &Config, lock: &mut Option<Lock>, asked: bool) -> bool {
        if self.look.is_none() && self.hanging.iter().all(JoinHandle::is_finished) {
            let only_a_ring = !asked && self.left.is_some();
            self.look = Some(Look::begin(config, Terms { lock: lock.take(), proven: true, only_a_ring }));
        }
        self.look.is_some()
    }

    /// What came of a look that is under way; for ever where none is. May be given up. One that was begun with other
    /// settings of the ring than those of `config` found nothing.
    pub async fn looked(&mut self, config: &Config) -> Result<Opened, Refused> {
        let Some(look) = &mut self.look else { return std::future::pending().await };
        let found = look.done().await;
        let stale = look.is_stale(config);
        self.look = None;
        match found {
            Ok(opened) if stale => {
                opened.threads.join();
                Err(Refused::Unusable("the config has changed meanwhile".into(), opened.lock))
            }
            found => found,
        }
    }

    pub fn is_looking(&self) -> bool {
        self.look.is_some()
    }

    /// Whether a look for the disk that the node was started for is under way.
    pub fn is_awaited(&self) -> bool {
        self.is_first() && self.is_looking()
    }

    /// Records wait nowhere else: what was on a disk, if there was one, is not known.
    pub fn is_first(&self) -> bool {
        self.left.is_none()
    }
}

/// The ring in the best mode left: on the disk, else in memory; there too while a disk does not answer.
pub async fn open(config: &Config) -> Result<Opened, NodeError> {
    let mut look = Look::begin(config, Terms::default());
    let mut answered = 0;
    loop {
        match tokio::time::timeout(START.to_std(), look.done()).await {
            Ok(Ok(opened)) => return Ok(opened),
            Ok(Err(Refused::Owned(owned))) => return Err(NodeError::Owned(owned)),
            Ok(Err(Refused::Unusable(why, lock))) => return memory(config, until_usable(&why), lock, None),
            // Much to recover, or slow: what is there is waited for.
            Err(_) if look.answered() != answered => answered = look.answered(),
            Err(_) => break,
        }
    }
    look.is_late();
    let dir = config.node.data_dir.display();
    let why = format!("{dir} does not answer, the card hangs: records are kept in memory until it does");
    memory(config, why, None, Some(look))
}

pub fn until_usable(why: &str) -> String {
    format!("{why}; records are kept in memory until it can be used; looked at every minute and at `headwater reload`")
}

pub fn target<'a>(
    ring: &'a mut Ring,
    disk: &'a mut dyn Disk,
    now: &'a dyn Fn() -> crate::time::BootTime,
) -> Target<'a> {
    Target { ring, disk, now, pause: &|| std::thread::sleep(RETRY) }
}

fn sinks(config: &Config) -> Vec<Name> {
    config.sinks.iter().map(|sink| sink.name.clone()).collect()
}

/// A ring of its own id in memory: records are kept until they are sent or the process ends.
fn memory(config: &Config, why: String, lock: Option<Lock>, look: Option<Look>) -> Result<Opened, NodeError> {
    let disk = SharedMemDisk::new(config.ring.memory_bytes);
    in_memory(config, Memory { disk, left: None, hanging: Vec::new(), why, look }, lock)
}

/// The ring that is in this memory, or a new one.
fn in_memory(config: &Config, memory: Memory, lock: Option<Lock>) -> Result<Opened, NodeError> {
    let mut disk = memory.disk.clone();
    let recovered = Ring::recover(&mut disk, plan::ring(config, config.ring.memory_bytes));
    let (ring, report) = recovered.map_err(|e| NodeError::Thread(std::io::Error::other(e.to_string())))?;
    let (threads, completions) = Threads::start(Box::new(disk.clone()), Box::new(disk)).map_err(NodeError::Thread)?;
    let states = vec![(PartState::down(memory.why.clone(), None), "disk")];
    let (keep_free, paused) = (Arc::default(), Vec::new());
    Ok(Opened { ring, report, memory: Some(memory), threads, completions, lock, keep_free, states, paused })
}

/// The disk of the hub's ring failed, in these words: a ring in memory with what had not become durable. The hub's ring and
/// its `threads` are given up.
pub fn after_failure(
    hub: &Hub,
    threads: Threads,
    lock: Option<Lock>,
    config: &Config,
    what: &str,
) -> Result<Opened, NodeError> {
    let disk = SharedMemDisk::new(config.ring.memory_bytes);
    let memory = Memory { disk, left: None, hanging: threads.let_go(), why: String::new(), look: None };
    let mut opened = in_memory(config, memory, lock)?;
    if let Some(memory) = &mut opened.memory {
        let clock = Clock::default();
        let mut disk = memory.disk.clone();
        let now = move || clock.now().boot;
        let mut to = target(&mut opened.ring, &mut disk, &now);
        let left = hub.with_pipeline(|from| carry::leave(from, &mut to, &sinks(config)));
        memory.why = failed(config, what, &left);
        memory.left = Some(left);
        opened.states = vec![(PartState::down(memory.why.clone(), None), "disk")];
    }
    Ok(opened)
}

fn failed(config: &Config, what: &str, left: &Left) -> String {
    let (dir, most) = (config.node.data_dir.display(), binary(config.ring.memory_bytes));
    let taken = match left.taken {
        0 => String::new(),
        taken => format!(", {taken} that were not on the disk yet among them"),
    };
    let waiting = match left.backlog {
        0 => String::new(),
        waiting => format!("; {waiting} that are on the disk and not sent wait there until it is back"),
    };
    format!(
        "{dir} cannot be written any more ({what}); records are kept in memory only, {most} at most{taken}, and are \
         acknowledged from there: a restart or a power cut loses what is not sent{waiting}; look at the card and its mount \
         (dmesg); tried every minute and at `headwater reload`"
    )
}

/// From the memory of the hub's ring, which is closed, to the disk. Err: it failed again; the ring in memory goes on, and
/// what is said is why.
pub fn back_on_disk(
    hub: &Hub,
    mut memory: Memory,
    disk: &mut Opened,
    (config, watchdog): (&Config, &Watchdog),
) -> Result<PartState, Box<(Memory, String)>> {
    let mut left = memory.left.take().unwrap_or_default();
    let beat = Arc::new(Beat::default());
    let files = FileDisk::new(&config.node.data_dir, config.ring.keep_free);
    let mut files = Beating::new(Box::new(files), beat.clone());
    let (clock, mut bytes) = (Clock::default(), memory.disk.clone());
    let now = move || clock.now().boot;
    let mut to = target(&mut disk.ring, &mut files, &now);
    let gone: u64 = hub.with_pipeline(|from| from.snapshot().sinks.iter().map(|sink| sink.evicted).sum());
    let carry = || hub.with_pipeline(|from| carry::over(from, &mut bytes, &mut left, &mut to, &sinks(config)));
    // The loop waits for a card that was away a moment ago.
    match watchdog.beside(&beat, carry) {
        Ok(carried) => {
            if !carried.other {
                // What was not synced is not lost: memory had it.
                (disk.report.lost_unsynced, disk.report.tail_unknown) = (0, false);
                disk.states[0].0 = look::said(&disk.report, config.ring.encryption.as_ref());
            }
            Ok(said(&carried, &left, gone))
        }
        Err(what) => {
            memory.left = Some(left);
            Err(Box::new((memory, what)))
        }
    }
}

fn said(carried: &Carried, left: &Left, gone: u64) -> PartState {
    let mut text = format!("the disk can be used again: {} records that were in memory are on it now", carried.records);
    let good = text.len();
    if carried.other && left.backlog > 0 {
        text += &format!("; it is not the one that failed, on which {} records wait to be sent", left.backlog);
    }
    if gone > 0 {
        text +=
            &format!("; {gone} were pushed out of memory before a sink had them: `ring.memory_bytes` was too small");
    }
    if carried.refused > 0 {
        text += &format!("; {} could not be put there: they are of a topic too many", carried.refused);
    }
    if text.len() > good { PartState::warn(text) } else { PartState::up(text) }
}

/// The ring in memory again, after a disk that seemed to work did not.
pub fn memory_again(
    config: &Config,
    memory: Memory,
    lock: Option<Lock>,
    threads: Threads,
    what: &str,
) -> Result<Opened, NodeError> {
    let mut opened = in_memory(config, memory, lock)?;
    if let Some(memory) = &mut opened.memory {
        memory.hanging.extend(threads.let_go());
        let why = format!("{}; it seemed to work again and did not: {what}", memory.why);
        opened.states = vec![(PartState::down(why, None), "disk")];
    }
    Ok(opened)
}
