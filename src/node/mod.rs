//! The node: the tokio current_thread loop, the disk threads, the supervisor, signals and reload.
//!
//! [`run`] takes what varies (config, how to read it again, signals) and returns when the node has shut down. It refuses
//! only a data directory that another live process owns; everything else is retried and shown: without a usable disk the
//! ring is in memory.
//!
//! Shutting down goes by ownership: intake first, then what is in flight in the sinks, then the last batch and the
//! cursors; at most 5 s, and a second signal leaves at once.

mod chores;
pub mod clock;
pub mod disk;
pub mod identity;
mod parts;
pub mod plan;
mod reload;
pub mod restore;
pub mod stopped;
mod supervisor;
#[cfg(test)]
pub mod testing;

use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tokio::sync::mpsc;

use crate::config::{Config, ConfigError};
use crate::hub::{Board, Hub, PartKind, PartState, Requests, Stop};
use crate::ops::Ops;
use crate::pipeline::Pipeline;
use crate::ring::{Disk, Report, Ring};
use crate::time::Span;
use disk::{Completions, FileDisk, SharedMemDisk, Threads};
use identity::{Lock, LockError};
use parts::Parts;

/// What comes from outside the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    Reload,
    /// The second one leaves at once.
    Stop,
}

#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    #[error(transparent)]
    Owned(LockError),
    #[error("cannot start a thread: {0}; is a limit on processes or memory reached?")]
    Thread(std::io::Error),
}

/// Reads the config files again: a config (whose `node.log` is in force then: the log is the process's), or every error.
pub type Load = Box<dyn Fn() -> Result<Config, Vec<ConfigError>>>;

/// How long the last batch may take to become durable at shutdown.
const CLOSE: Span = Span::from_millis(1500);

/// Runs a node until a stop signal. Call inside a `LocalSet` of a current_thread runtime.
pub async fn run(config: Config, load: Load, mut signals: mpsc::Receiver<Signal>) -> Result<(), NodeError> {
    let opened = open(&config).await?;
    let clock = clock::Clock::default();
    let pipeline = Pipeline::new(opened.ring, opened.report, opened.in_memory, plan::plan(&config));
    let (hub, requests) = Hub::new(pipeline, Box::new(move || clock.now()), Rc::new(Board::default()));
    for (state, name) in opened.states {
        hub.board().part(PartKind::Disk, name, hub.now()).report(hub.now(), state);
    }
    let ops = Ops::new(hub.admin(), hub.store(), chores::facts(&config, hub.now()));
    let driven = Stop::default();
    let driver = tokio::task::spawn_local(drive(hub.clone(), opened.threads, opened.completions, driven.clone()));
    let chores = chores::start(&hub, &ops, &config).await;
    let mut parts = Parts::default();
    parts.apply(&hub, &config, false).await;
    let keep_free = opened.keep_free;
    let mut running = reload::Running { hub: hub.clone(), ops, config, load, parts, chores, keep_free };
    hub.board().part(PartKind::Node, "node", hub.now()).report(hub.now(), PartState::up("running"));

    serve(&mut running, &mut signals, requests).await;
    let graceful = tokio::select! {
        () = shut_down(&hub, &mut running.parts) => true,
        () = second_stop(&mut signals) => false,
    };
    drop(running);
    driven.set();
    match driver.await {
        Ok(threads) if graceful => threads.join(),
        // A thread may hang in a stalled disk: the process ends under it.
        _ => tracing::warn!("second signal: left at once"),
    }
    drop(opened.lock);
    Ok(())
}

/// Answers signals and requests until the node is to stop.
async fn serve(running: &mut reload::Running, signals: &mut mpsc::Receiver<Signal>, mut requests: Requests) {
    loop {
        tokio::select! {
            signal = signals.recv() => match signal {
                Some(Signal::Reload) => {
                    // Said on the board; nobody waits for the answer.
                    let _ = running.reload().await;
                }
                Some(Signal::Stop) | None => return,
            },
            Some((request, reply)) = requests.recv() => {
                let answer = running.answer(request).await;
                // The asker may have gone.
                let _ = reply.send(answer);
            }
        }
    }
}

async fn shut_down(hub: &Hub, parts: &mut Parts) {
    hub.board().part(PartKind::Node, "node", hub.now()).report(hub.now(), PartState::up("stopping"));
    hub.stop();
    parts.end_intake().await;
    parts.end_sinks().await;
    chores::write_events(hub);
    let ticket = hub.close();
    let closed = async {
        while hub.settled() < ticket {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    };
    if tokio::time::timeout(CLOSE.to_std(), closed).await.is_err() {
        tracing::warn!("the disk did not take the last batch within {} ms", CLOSE.as_micros() / 1000);
    }
}

async fn second_stop(signals: &mut mpsc::Receiver<Signal>) {
    while let Some(signal) = signals.recv().await {
        if signal == Signal::Stop {
            return;
        }
    }
    std::future::pending::<()>().await;
}

/// Moves commands and completions between the ring and the disk threads until `stop`.
async fn drive(hub: Hub, mut threads: Threads, mut completions: Completions, stop: Stop) -> Threads {
    loop {
        while threads.ready() {
            let Some(command) = hub.poll() else { break };
            threads.send(command);
        }
        let wait = hub.next_timeout().map_or(Span::from_secs(60), |at| at - hub.now().boot);
        tokio::select! {
            completion = completions.recv() => match completion {
                Some(completion) => {
                    hub.complete(completion);
                    while let Ok(more) = completions.try_recv() {
                        hub.complete(more);
                    }
                }
                // Both threads are gone: they panicked. Nothing can be durable any more.
                None => {
                    let down = PartState::down("the disk threads ended; restart the node", None);
                    hub.board().part(PartKind::Disk, "disk", hub.now()).report(hub.now(), down);
                    stop.wait().await;
                    return threads;
                }
            },
            () = hub.kicked() => {}
            () = tokio::time::sleep(wait.to_std()) => {}
            () = stop.wait() => return threads,
        }
    }
}

struct Opened {
    ring: Ring,
    report: Report,
    in_memory: bool,
    threads: Threads,
    completions: Completions,
    lock: Option<Lock>,
    /// `ring.keep_free`, as the disk threads see it.
    keep_free: Arc<AtomicU64>,
    states: Vec<(PartState, &'static str)>,
}

/// The ring in the best mode left: on the disk, else in memory.
async fn open(config: &Config) -> Result<Opened, NodeError> {
    let dir = config.node.data_dir.as_path();
    let lock = match identity::lock(dir) {
        Ok(lock) => Some(lock),
        Err(error @ LockError::Io { .. }) => return memory(config, error.to_string(), None),
        Err(owned) => return Err(NodeError::Owned(owned)),
    };
    let (max_bytes, shrunk) = match identity::max_bytes(dir, config.ring.max_bytes, config.ring.keep_free) {
        Ok(found) => found,
        Err(why) => return memory(config, why, lock),
    };
    let options = plan::ring(config, max_bytes);
    let keep_free = Arc::new(AtomicU64::new(config.ring.keep_free));
    let mut disk = FileDisk::sharing(dir, keep_free.clone());
    let recovery = tokio::task::spawn_blocking(move || Ring::recover(&mut disk, options));
    let (ring, report) = match recovery.await {
        Ok(Ok(recovered)) => recovered,
        Ok(Err(e)) => return memory(config, e.to_string(), lock),
        Err(e) => return memory(config, format!("recovery failed: {e}"), lock),
    };
    let file_disk = |dir: &Path| Box::new(FileDisk::sharing(dir, keep_free.clone())) as Box<dyn Disk>;
    let (threads, completions) = Threads::start(file_disk(dir), file_disk(dir)).map_err(NodeError::Thread)?;
    let mut states = Vec::new();
    let found = if report.notes.is_empty() { "ok".to_owned() } else { report.notes.join("; ") };
    let warn = report.cloned || report.corrupt_records > 0 || report.lost_unsynced > 0;
    states.push((if warn { PartState::warn(found) } else { PartState::up(found) }, "disk"));
    if let Some(shrunk) = shrunk {
        states.push((PartState::warn(shrunk), identity::RING_SIZE));
    }
    if let Some(volatile) = identity::volatile(dir) {
        states.push((PartState::warn(volatile), "data-dir"));
    }
    Ok(Opened { ring, report, in_memory: false, threads, completions, lock, keep_free, states })
}

/// A ring of its own id in memory: records are kept until they are sent or the process ends.
fn memory(config: &Config, why: String, lock: Option<Lock>) -> Result<Opened, NodeError> {
    let bytes = config.ring.memory_bytes;
    let mut disk = SharedMemDisk::new(bytes);
    let recovered = Ring::recover(&mut disk, plan::ring(config, bytes));
    let (ring, report) = recovered.map_err(|e| NodeError::Thread(std::io::Error::other(e.to_string())))?;
    let (threads, completions) = Threads::start(Box::new(disk.clone()), Box::new(disk)).map_err(NodeError::Thread)?;
    let text = format!("{why}; records are kept in memory: mend it and restart the node");
    let states = vec![(PartState::down(text, None), "disk")];
    let keep_free = Arc::default();
    Ok(Opened { ring, report, in_memory: true, threads, completions, lock, keep_free, states })
}
