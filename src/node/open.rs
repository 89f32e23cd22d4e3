//! Opening the ring: on the disk, else in memory until the disk can be used; in memory too when the disk fails later.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread::JoinHandle;
use std::time::Duration;

use super::carry::{self, Carried, Left, Target};
use super::clock::Clock;
use super::disk::{Completions, FileDisk, SharedMemDisk, Threads};
use super::identity::{self, Lock, LockError};
use super::{NodeError, plan};
use crate::config::Config;
use crate::hub::{Hub, PartState};
use crate::name::Name;
use crate::ops::human::binary;
use crate::ring::{Disk, DiskError, DiskErrorKind, Key, Options, Owner, OwnerKind, Report, Ring};

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
    why: String,
}

impl Memory {
    /// Whether a disk may be looked for. A directory that is empty now may be what is below a card that was pulled: without
    /// a person's word (`asked`) only one with a ring in it is taken where there was one before.
    pub fn may_look(&self, dir: &Path, asked: bool) -> bool {
        let ring_there = || dir.join("root").exists();
        self.hanging.iter().all(JoinHandle::is_finished) && (asked || self.left.is_none() || ring_there())
    }
}

/// The ring in the best mode left: on the disk, else in memory.
pub async fn open(config: &Config) -> Result<Opened, NodeError> {
    let mut lock = None;
    match on_disk(config, &mut lock, false).await? {
        Ok(opened) => Ok(opened),
        Err(why) => memory(config, why, lock),
    }
}

/// The ring on the disk, or why not; `proven`: it has taken something. `lock` is the directory's, if it is held already; it
/// is left there where only what is in the directory cannot be used.
pub async fn on_disk(
    config: &Config,
    lock: &mut Option<Lock>,
    proven: bool,
) -> Result<Result<Opened, String>, NodeError> {
    let dir = config.node.data_dir.as_path();
    *lock = lock.take().filter(|lock| lock.is_of(dir));
    if lock.is_none() {
        match identity::lock(dir) {
            Ok(locked) => *lock = Some(locked),
            Err(error @ LockError::Io { .. }) => return Ok(Err(error.to_string())),
            Err(owned) => return Err(NodeError::Owned(owned)),
        }
    }
    let (max_bytes, shrunk) = match identity::max_bytes(dir, config.ring.max_bytes, config.ring.keep_free) {
        Ok(found) => found,
        Err(why) => return Ok(Err(why)),
    };
    let options = Options { keys: plan::keys(config), ..plan::ring(config, max_bytes) };
    let keep_free = Arc::new(AtomicU64::new(config.ring.keep_free));
    let mut disk = FileDisk::sharing(dir, keep_free.clone());
    let home = dir.to_owned();
    let recovery = tokio::task::spawn_blocking(move || {
        let (mut ring, report) = Ring::recover(&mut disk, options).map_err(|error| unusable(&error, &home))?;
        if proven {
            prove(&mut ring, &mut disk)?;
        }
        Ok((ring, report))
    });
    let (ring, report) = match recovery.await {
        Ok(Ok(recovered)) => recovered,
        Ok(Err(e)) => return Ok(Err(e)),
        Err(e) => return Ok(Err(format!("recovery failed: {e}"))),
    };
    let file_disk = |dir: &Path| Box::new(FileDisk::sharing(dir, keep_free.clone())) as Box<dyn Disk>;
    let (threads, completions) = Threads::start(file_disk(dir), file_disk(dir)).map_err(NodeError::Thread)?;
    let mut states = vec![(found(&report, config.ring.encryption.as_ref()), "disk")];
    if let Some(shrunk) = shrunk {
        states.push((PartState::warn(shrunk), identity::RING_SIZE));
    }
    if let Some(volatile) = identity::volatile(dir) {
        states.push((PartState::warn(volatile), "data-dir"));
    }
    let lock = lock.take();
    Ok(Ok(Opened { ring, report, memory: None, threads, completions, lock, keep_free, states, paused: Vec::new() }))
}

/// Why the ring in a directory cannot be gone on with.
fn unusable(error: &DiskError, dir: &Path) -> String {
    match error.kind {
        DiskErrorKind::Locked(id) => format!(
            "the ring in {} is encrypted under key {id:08x}, which the config does not have, and is left as it is: name its \
             file as `ring.encryption`, or in `ring.old_keys`, and `headwater reload`; without it, move the slot files away",
            dir.display()
        ),
        _ => error.to_string(),
    }
}

fn found(report: &Report, key: Option<&Key>) -> PartState {
    let mut found = if report.notes.is_empty() { "ok".to_owned() } else { report.notes.join("; ") };
    if let Some(key) = key {
        found += &format!("; encrypted under {key:?}");
    }
    let warn = report.cloned || report.set_aside || report.corrupt_records > 0 || report.lost_unsynced > 0;
    if warn { PartState::warn(found) } else { PartState::up(found) }
}

/// Has the disk take an entry, before anybody leaves what works for it.
fn prove(ring: &mut Ring, disk: &mut FileDisk) -> Result<(), String> {
    let clock = Clock::default();
    if let Ok(name) = Name::new("disk") {
        let (owner, now) = (Owner { kind: OwnerKind::Node, name }, clock.now().boot);
        // Its state may be full: what a recovery writes is there in any case but after a clean end.
        let _ = ring.put_state(now, &owner, b"back", Some(&now.0.to_le_bytes()));
    }
    target(ring, disk, &move || clock.now().boot).settle()
}

fn target<'a>(ring: &'a mut Ring, disk: &'a mut dyn Disk, now: &'a dyn Fn() -> crate::time::BootTime) -> Target<'a> {
    Target { ring, disk, now, pause: &|| std::thread::sleep(RETRY) }
}

fn sinks(config: &Config) -> Vec<Name> {
    config.sinks.iter().map(|sink| sink.name.clone()).collect()
}

/// A ring of its own id in memory: records are kept until they are sent or the process ends.
fn memory(config: &Config, why: String, lock: Option<Lock>) -> Result<Opened, NodeError> {
    let disk = SharedMemDisk::new(config.ring.memory_bytes);
    let why = format!(
        "{why}; records are kept in memory until it can be used; looked at every minute and at `headwater reload`"
    );
    in_memory(config, Memory { disk, left: None, hanging: Vec::new(), why }, lock)
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
    let memory = Memory { disk, left: None, hanging: threads.let_go(), why: String::new() };
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
    config: &Config,
) -> Result<PartState, Box<(Memory, String)>> {
    let mut left = memory.left.take().unwrap_or_default();
    let mut files = FileDisk::new(&config.node.data_dir, config.ring.keep_free);
    let (clock, mut bytes) = (Clock::default(), memory.disk.clone());
    let now = move || clock.now().boot;
    let mut to = target(&mut disk.ring, &mut files, &now);
    let gone: u64 = hub.with_pipeline(|from| from.snapshot().sinks.iter().map(|sink| sink.evicted).sum());
    match hub.with_pipeline(|from| carry::over(from, &mut bytes, &mut left, &mut to, &sinks(config))) {
        Ok(carried) => {
            if !carried.other {
                // What was not synced is not lost: memory had it.
                (disk.report.lost_unsynced, disk.report.tail_unknown) = (0, false);
                disk.states[0].0 = found(&disk.report, config.ring.encryption.as_ref());
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
