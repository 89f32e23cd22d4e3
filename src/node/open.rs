//! Opening the ring: on the disk, else in memory until the disk can be used.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::disk::{Completions, FileDisk, SharedMemDisk, Threads};
use super::identity::{self, Lock, LockError};
use super::{NodeError, plan};
use crate::config::Config;
use crate::hub::PartState;
use crate::ring::{Disk, Report, Ring};

pub struct Opened {
    pub ring: Ring,
    pub report: Report,
    /// The memory that the ring is in, where there is no usable disk.
    pub memory: Option<SharedMemDisk>,
    pub threads: Threads,
    pub completions: Completions,
    pub lock: Option<Lock>,
    /// `ring.keep_free`, as the disk threads see it.
    pub keep_free: Arc<AtomicU64>,
    pub states: Vec<(PartState, &'static str)>,
}

/// The ring in the best mode left: on the disk, else in memory.
pub async fn open(config: &Config) -> Result<Opened, NodeError> {
    let mut lock = None;
    match on_disk(config, &mut lock).await? {
        Ok(opened) => Ok(opened),
        Err(why) => memory(config, why, lock),
    }
}

/// The ring on the disk, or why not. `lock` is the directory's, if it is held already; it is left there where only what is
/// in the directory cannot be used.
pub async fn on_disk(config: &Config, lock: &mut Option<Lock>) -> Result<Result<Opened, String>, NodeError> {
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
    let options = plan::ring(config, max_bytes);
    let keep_free = Arc::new(AtomicU64::new(config.ring.keep_free));
    let mut disk = FileDisk::sharing(dir, keep_free.clone());
    let recovery = tokio::task::spawn_blocking(move || Ring::recover(&mut disk, options));
    let (ring, report) = match recovery.await {
        Ok(Ok(recovered)) => recovered,
        Ok(Err(e)) => return Ok(Err(e.to_string())),
        Err(e) => return Ok(Err(format!("recovery failed: {e}"))),
    };
    let file_disk = |dir: &Path| Box::new(FileDisk::sharing(dir, keep_free.clone())) as Box<dyn Disk>;
    let (threads, completions) = Threads::start(file_disk(dir), file_disk(dir)).map_err(NodeError::Thread)?;
    let mut states = Vec::new();
    let found = if report.notes.is_empty() { "ok".to_owned() } else { report.notes.join("; ") };
    let warn = report.cloned || report.set_aside || report.corrupt_records > 0 || report.lost_unsynced > 0;
    states.push((if warn { PartState::warn(found) } else { PartState::up(found) }, "disk"));
    if let Some(shrunk) = shrunk {
        states.push((PartState::warn(shrunk), identity::RING_SIZE));
    }
    if let Some(volatile) = identity::volatile(dir) {
        states.push((PartState::warn(volatile), "data-dir"));
    }
    let lock = lock.take();
    Ok(Ok(Opened { ring, report, memory: None, threads, completions, lock, keep_free, states }))
}

/// A ring of its own id in memory: records are kept until they are sent or the process ends.
fn memory(config: &Config, why: String, lock: Option<Lock>) -> Result<Opened, NodeError> {
    let bytes = config.ring.memory_bytes;
    let mut disk = SharedMemDisk::new(bytes);
    let recovered = Ring::recover(&mut disk, plan::ring(config, bytes));
    let (ring, report) = recovered.map_err(|e| NodeError::Thread(std::io::Error::other(e.to_string())))?;
    let (threads, completions) =
        Threads::start(Box::new(disk.clone()), Box::new(disk.clone())).map_err(NodeError::Thread)?;
    let text = format!(
        "{why}; records are kept in memory until it can be used; looked at every minute and at `headwater reload`"
    );
    let states = vec![(PartState::down(text, None), "disk")];
    let keep_free = Arc::default();
    Ok(Opened { ring, report, memory: Some(disk), threads, completions, lock, keep_free, states })
}
