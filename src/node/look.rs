//! Looking for a ring on the disk, beside the loop: a card may hang for minutes in any call, and the node goes on meanwhile.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::oneshot;

use super::clock::Clock;
use super::disk::{FileDisk, Threads};
use super::identity::{self, Lock, LockError};
use super::open::{Opened, target};
use super::plan;
use super::trial;
use super::whole::again;
use crate::config::Config;
use crate::config::model::RingConfig;
use crate::hub::PartState;
use crate::name::Name;
use crate::ring::{Disk, DiskError, DiskErrorKind, FileId, Key, Options, Owner, OwnerKind, Report, Ring, SlotId};

/// What is to be known before one begins.
#[derive(Default)]
pub struct Terms {
    /// The directory's lock, if it is held already.
    pub lock: Option<Lock>,
    /// Something in the node's stead works already: the disk has to take something before that ends.
    pub proven: bool,
    /// A directory without a ring is not begun in: it may be what is below a card that was pulled.
    pub only_a_ring: bool,
}

/// One that is under way, in a thread of its own: those of the runtime are few, and others need them meanwhile.
pub struct Look {
    found: oneshot::Receiver<Result<Found, Refused>>,
    proven: Arc<AtomicBool>,
    /// Calls that the disk has answered.
    answered: Arc<AtomicU64>,
    /// What it was begun with.
    ring: RingConfig,
}

/// A disk that counts its answers.
struct Watched {
    disk: FileDisk,
    answered: Arc<AtomicU64>,
}

struct Found {
    /// One for each thread.
    disks: [FileDisk; 2],
    ring: Ring,
    report: Report,
    lock: Lock,
    keep_free: Arc<AtomicU64>,
    warnings: Vec<(String, &'static str)>,
}

/// Why there is no ring to go on with.
pub enum Refused {
    /// Another live node has the directory.
    Owned(LockError),
    /// The lock is left where only what is in the directory cannot be used.
    Unusable(String, Option<Lock>),
}

impl Look {
    pub fn begin(config: &Config, terms: Terms) -> Self {
        let dir = config.node.data_dir.clone();
        let (configured, keep_free) = (config.ring.max_bytes, config.ring.keep_free);
        // How large it may be is known when the disk was asked.
        let options = Options { keys: plan::keys(config), ..plan::ring(config, 0) };
        let (proven, answered) = (Arc::new(AtomicBool::new(terms.proven)), Arc::new(AtomicU64::new(0)));
        let (must_prove, answers) = (proven.clone(), answered.clone());
        let (tell, found) = oneshot::channel();
        let look = move || {
            if terms.only_a_ring && !again(|| dir.join("root").try_exists()).unwrap_or(false) {
                return Err(Refused::Unusable(format!("there is no ring in {}", dir.display()), terms.lock));
            }
            let lock = match terms.lock.filter(|lock| lock.is_of(&dir)) {
                Some(lock) => lock,
                None => identity::lock(&dir).map_err(|error| match error {
                    LockError::Io { .. } => Refused::Unusable(error.to_string(), None),
                    LockError::Owned { .. } => Refused::Owned(error),
                })?,
            };
            answers.fetch_add(1, Ordering::Relaxed);
            let (max_bytes, shrunk) = match identity::max_bytes(&dir, configured, keep_free) {
                Ok(found) => found,
                Err(why) => return Err(Refused::Unusable(why, Some(lock))),
            };
            let keep_free = Arc::new(AtomicU64::new(keep_free));
            let mut disk = Watched { disk: FileDisk::sharing(&dir, keep_free.clone()), answered: answers };
            let recovered = Ring::recover(&mut disk, Options { max_bytes, formats: trial::formats(&dir), ..options });
            let recovered = recovered.map_err(|error| in_words(&error, &dir)).and_then(|(mut ring, report)| {
                if must_prove.load(Ordering::Relaxed) {
                    prove(&mut ring, &mut disk)?;
                }
                Ok((ring, report))
            });
            let (ring, report) = match recovered {
                Ok(recovered) => recovered,
                Err(why) => return Err(Refused::Unusable(why, Some(lock))),
            };
            let shrunk = shrunk.map(|shrunk| (shrunk, identity::RING_SIZE));
            let volatile = identity::volatile(&dir).map(|volatile| (volatile, "data-dir"));
            let warnings = shrunk.into_iter().chain(volatile).collect();
            let disks = [FileDisk::sharing(&dir, keep_free.clone()), disk.disk];
            Ok(Found { disks, ring, report, lock, keep_free, warnings })
        };
        let thread = std::thread::Builder::new().name("look".into());
        // Where none can be had the sender goes with it, and is missed. Who asked may have gone.
        let _ = thread.spawn(move || tell.send(look()).map_err(drop));
        Self { found, proven, answered, ring: config.ring.clone() }
    }

    /// How many calls the disk has answered.
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Whether this config would have it done otherwise.
    pub fn is_stale(&self, config: &Config) -> bool {
        self.ring != config.ring
    }

    /// Nobody waits for it any more: what it finds has to be proven.
    pub fn is_late(&self) {
        self.proven.store(true, Ordering::Relaxed);
    }

    /// What came of it. May be given up and asked again until it has answered.
    pub async fn done(&mut self) -> Result<Opened, Refused> {
        // Its thread panicked, or there was none.
        let gone = |_| Err(Refused::Unusable("recovery failed".into(), None));
        let found = (&mut self.found).await.unwrap_or_else(gone);
        let Found { disks: [writer, reader], ring, report, lock, keep_free, warnings } = match found {
            Ok(found) => found,
            Err(refused) => return Err(refused),
        };
        let (threads, completions) = match Threads::start(Box::new(writer), Box::new(reader)) {
            Ok(started) => started,
            Err(error) => return Err(Refused::Unusable(format!("cannot start a thread: {error}"), Some(lock))),
        };
        let mut states = vec![(said(&report, self.ring.encryption.as_ref()), "disk")];
        states.extend(warnings.into_iter().map(|(warning, name)| (PartState::warn(warning), name)));
        let (lock, paused) = (Some(lock), Vec::new());
        Ok(Opened { ring, report, memory: None, threads, completions, lock, keep_free, states, paused })
    }
}

impl Watched {
    fn watch<T>(&mut self, call: impl FnOnce(&mut FileDisk) -> T) -> T {
        let done = call(&mut self.disk);
        self.answered.fetch_add(1, Ordering::Relaxed);
        done
    }
}

impl Disk for Watched {
    fn list(&mut self) -> Result<Vec<(SlotId, u64)>, DiskError> {
        self.watch(Disk::list)
    }
    fn create(&mut self, file: FileId, bytes: u64) -> Result<(), DiskError> {
        self.watch(|disk| disk.create(file, bytes))
    }
    fn read(&mut self, file: FileId, at: u64, buf: &mut [u8]) -> Result<usize, DiskError> {
        self.watch(|disk| disk.read(file, at, buf))
    }
    fn write(&mut self, file: FileId, at: u64, data: &[u8]) -> Result<(), DiskError> {
        self.watch(|disk| disk.write(file, at, data))
    }
    fn sync(&mut self, file: FileId) -> Result<(), DiskError> {
        self.watch(|disk| disk.sync(file))
    }
    fn drop_cache(&mut self, file: FileId) -> Result<(), DiskError> {
        self.watch(|disk| disk.drop_cache(file))
    }
    fn remove(&mut self, file: FileId) -> Result<(), DiskError> {
        self.watch(|disk| disk.remove(file))
    }
}

/// Why the ring in a directory cannot be gone on with.
fn in_words(error: &DiskError, dir: &Path) -> String {
    match error.kind {
        DiskErrorKind::Locked(id) => format!(
            "the ring in {} is encrypted under key {id:08x}, which the config does not have, and is left as it is: name its \
             file as `ring.encryption`, or in `ring.old_keys`, and `headwater reload`; without it, move the slot files away",
            dir.display()
        ),
        _ => error.to_string(),
    }
}

/// What recovery found, as the disk's state.
pub fn said(report: &Report, key: Option<&Key>) -> PartState {
    let mut said = if report.notes.is_empty() { "ok".to_owned() } else { report.notes.join("; ") };
    if let Some(key) = key {
        said += &format!("; encrypted under {key:?}");
    }
    let warn = report.cloned || report.set_aside || report.corrupt_records > 0 || report.lost_unsynced > 0;
    if warn { PartState::warn(said) } else { PartState::up(said) }
}

/// Has the disk take an entry, before anybody leaves what works for it.
fn prove(ring: &mut Ring, disk: &mut dyn Disk) -> Result<(), String> {
    let clock = Clock::default();
    if let Ok(name) = Name::new("disk") {
        let (owner, now) = (Owner { kind: OwnerKind::Node, name }, clock.now().boot);
        // Its state may be full: what a recovery writes is there in any case but after a clean end.
        let _ = ring.put_state(now, &owner, b"back", Some(&now.0.to_le_bytes()));
    }
    target(ring, disk, &move || clock.now().boot).settle()
}
