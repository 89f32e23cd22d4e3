//! Looking for a ring on the disk, beside the loop: a card may hang for minutes in any call, and the node goes on meanwhile.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::task::{JoinError, JoinHandle};

use super::clock::Clock;
use super::disk::{FileDisk, Threads};
use super::identity::{self, Lock, LockError};
use super::open::{Opened, target};
use super::{NodeError, plan};
use crate::config::Config;
use crate::hub::PartState;
use crate::name::Name;
use crate::ring::{DiskError, DiskErrorKind, Key, Options, Owner, OwnerKind, Report, Ring};

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

/// One that is under way.
pub struct Look {
    task: JoinHandle<Result<Found, Refused>>,
    proven: Arc<AtomicBool>,
    key: Option<Key>,
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
        let proven = Arc::new(AtomicBool::new(terms.proven));
        let (must_prove, key) = (proven.clone(), config.ring.encryption.clone());
        let task = tokio::task::spawn_blocking(move || {
            let unusable = |why| Refused::Unusable(why, None);
            if terms.only_a_ring && !dir.join("root").exists() {
                return Err(Refused::Unusable(format!("there is no ring in {}", dir.display()), terms.lock));
            }
            let lock = match terms.lock.filter(|lock| lock.is_of(&dir)) {
                Some(lock) => lock,
                None => identity::lock(&dir).map_err(|error| match error {
                    LockError::Io { .. } => unusable(error.to_string()),
                    LockError::Owned { .. } => Refused::Owned(error),
                })?,
            };
            let (max_bytes, shrunk) = match identity::max_bytes(&dir, configured, keep_free) {
                Ok(found) => found,
                Err(why) => return Err(Refused::Unusable(why, Some(lock))),
            };
            let keep_free = Arc::new(AtomicU64::new(keep_free));
            let mut disk = FileDisk::sharing(&dir, keep_free.clone());
            let recovered = Ring::recover(&mut disk, Options { max_bytes, ..options });
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
            let disks = [FileDisk::sharing(&dir, keep_free.clone()), disk];
            Ok(Found { disks, ring, report, lock, keep_free, warnings })
        });
        Self { task, proven, key }
    }

    /// Nobody waits for it any more: what it finds has to be proven.
    pub fn is_late(&self) {
        self.proven.store(true, Ordering::Relaxed);
    }

    /// What came of it. May be given up and asked again until it has answered.
    pub async fn done(&mut self) -> Result<Result<Opened, Refused>, NodeError> {
        let found = (&mut self.task).await;
        let found =
            found.unwrap_or_else(|error: JoinError| Err(Refused::Unusable(format!("recovery failed: {error}"), None)));
        let Found { disks: [writer, reader], ring, report, lock, keep_free, warnings } = match found {
            Ok(found) => found,
            Err(refused) => return Ok(Err(refused)),
        };
        let started = Threads::start(Box::new(writer), Box::new(reader));
        let (threads, completions) = started.map_err(NodeError::Thread)?;
        let mut states = vec![(said(&report, self.key.as_ref()), "disk")];
        states.extend(warnings.into_iter().map(|(warning, name)| (PartState::warn(warning), name)));
        let (lock, paused) = (Some(lock), Vec::new());
        Ok(Ok(Opened { ring, report, memory: None, threads, completions, lock, keep_free, states, paused }))
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
fn prove(ring: &mut Ring, disk: &mut FileDisk) -> Result<(), String> {
    let clock = Clock::default();
    if let Ok(name) = Name::new("disk") {
        let (owner, now) = (Owner { kind: OwnerKind::Node, name }, clock.now().boot);
        // Its state may be full: what a recovery writes is there in any case but after a clean end.
        let _ = ring.put_state(now, &owner, b"back", Some(&now.0.to_le_bytes()));
    }
    target(ring, disk, &move || clock.now().boot).settle()
}
