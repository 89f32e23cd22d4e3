//! The node: the tokio current_thread loop, the disk threads, the supervisor, signals and reload.
//!
//! [`run`] takes what varies (config, how to read it again, signals) and returns when the node has shut down. It refuses
//! only a data directory that another live process owns; everything else is retried and shown: without a usable disk the
//! ring is in memory until there is one, from the start or from when the disk fails. A change of rings is the end of one
//! life and the beginning of the next: all parts end and begin again on the other ring, as after a restart (see `carry`).
//!
//! Shutting down goes by ownership: intake first, then what is in flight in the sinks, then the last batch and the
//! cursors; at most 5 s, and a second signal leaves at once.

mod beat;
pub mod carry;
mod chores;
pub mod clock;
pub mod disk;
pub mod identity;
mod look;
mod open;
mod parts;
pub mod plan;
mod reload;
pub mod restore;
pub mod stopped;
mod supervisor;
#[cfg(test)]
pub mod testing;
pub mod trial;
mod watchdog;
mod whole;

use std::cell::Cell;
use std::rc::Rc;

use tokio::sync::mpsc;

use crate::config::{Config, ConfigError};
use crate::hub::{Board, Hub, PartKind, PartState, Requests, SinkOrder, Stop};
use crate::ops::Ops;
use crate::ops::control::Door;
use crate::pipeline::Pipeline;
use crate::ring::Health;
use crate::time::Span;
use disk::{Completions, Threads};
use identity::{Lock, LockError};
use look::Refused;
use open::{Memory, Opened, open};
use parts::Parts;
use watchdog::{Watchdog, Watched};

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

/// How often a node whose ring is in memory looks whether the disk can be used.
const PROBE: Span = Span::from_secs(60);

/// How long a disk may take to be opened for what is in memory when the node stops.
const LAST_LOOK: Span = Span::from_millis(1500);

/// Runs a node until a stop signal. Call inside a `LocalSet` of a current_thread runtime. A node whose disk fails begins
/// anew in memory, one in memory begins anew on the disk once that can be used; each takes along what it has.
pub async fn run(config: Config, load: Load, mut signals: mpsc::Receiver<Signal>) -> Result<(), NodeError> {
    let watchdog = Watchdog::start();
    let mut opened = open(&config).await?;
    let door = Rc::new(Door::new(config.node.control.clone()));
    let mut parts = (config, load);
    loop {
        match live(opened, parts, (&door, &watchdog), &mut signals).await? {
            Ended::Stopped => return Ok(()),
            Ended::Moved(next) => (opened, parts) = *next,
        }
    }
}

/// Why a node's life on one ring ended.
enum Ended {
    Stopped,
    /// With what is to be run from now on.
    Moved(Box<(Opened, (Config, Load))>),
}

/// Why nothing more is served.
enum Turn {
    Stop,
    DiskIsBack(Box<Opened>),
    /// In the words of who wrote to it.
    DiskFailed(String),
}

async fn live(
    opened: Opened,
    (config, load): (Config, Load),
    (door, watchdog): (&Rc<Door>, &Watchdog),
    signals: &mut mpsc::Receiver<Signal>,
) -> Result<Ended, NodeError> {
    let Opened { mut ring, report, mut memory, threads, completions, mut lock, keep_free, states, paused } = opened;
    let clock = clock::Clock::default();
    ring.set_write_budget(clock.now().boot, config.ring.write_budget);
    let pipeline = Pipeline::new(ring, report, memory.is_some(), plan::plan(&config));
    let (hub, requests) = Hub::new(pipeline, Box::new(move || clock.now()), Rc::new(Board::default()));
    for (state, name) in states {
        hub.board().part(PartKind::Disk, name, hub.now()).report(hub.now(), state);
    }
    let ops = Ops::new(hub.admin(), hub.store(), chores::facts(&config, hub.now()));
    let driven = Stop::default();
    let turns = Rc::new(Cell::new(0));
    let watched = Watched { hub: hub.clone(), driver: turns.clone(), threads: threads.beats() };
    let driver = tokio::task::spawn_local(drive(hub.clone(), (threads, completions), turns, driven.clone()));
    let chores = chores::start(&hub, &ops, &config, door.clone(), memory.is_none()).await;
    let mut parts = Parts::default();
    let held_back = memory.as_ref().is_some_and(Memory::is_awaited);
    parts.apply(&hub, &reload::without_followed(&hub, &config, held_back), false).await;
    // Before any of them runs.
    paused.iter().filter_map(|sink| parts.lever(sink)).for_each(|lever| lever.give(SinkOrder::Pause));
    let in_memory = memory.is_some();
    let mut running =
        reload::Running { hub: hub.clone(), ops, config, load, parts, chores, keep_free, in_memory, held_back };
    hub.board().part(PartKind::Node, "node", hub.now()).report(hub.now(), PartState::up("running"));
    watchdog.watch(watched);

    let turn = serve(&mut running, signals, requests, &mut memory, &mut lock).await;
    if matches!(turn, Turn::Stop) {
        watchdog.stopping();
        door.close();
    }
    let paused = running.parts.paused();
    // At a change of rings nobody has asked for an end yet: the first who does gets it once all is where it belongs.
    let mut stops = usize::from(matches!(turn, Turn::Stop));
    let graceful = {
        let ends = shut_down(&hub, &mut running.parts, !matches!(turn, Turn::DiskFailed(_)));
        tokio::pin!(ends);
        loop {
            tokio::select! {
                () = &mut ends => break true,
                () = next_stop(signals) => stops += 1,
            }
            if stops > 1 {
                break false;
            }
        }
    };
    let reload::Running { config, load, chores, .. } = running;
    chores.end().await;
    watchdog.unwatch();
    driven.set();
    let Some(threads) = driver.await.ok().filter(|_| graceful) else {
        // A thread may hang in a stalled disk: the process ends under it.
        tracing::warn!("second signal: left at once");
        return Ok(Ended::Stopped);
    };
    let next = change(&hub, turn, memory, (threads, lock), (&config, watchdog), stops > 0).await?;
    let next = next.map(|next| Ended::Moved(Box::new((Opened { paused, ..next }, (config, load)))));
    Ok(next.unwrap_or(Ended::Stopped))
}

/// The ring that the node goes on with, after what was in the hub's is there; None: it stops.
async fn change(
    hub: &Hub,
    turn: Turn,
    memory: Option<Memory>,
    (threads, mut lock): (Threads, Option<Lock>),
    (config, watchdog): (&Config, &Watchdog),
    stops: bool,
) -> Result<Option<Opened>, NodeError> {
    if let Turn::DiskFailed(what) = turn {
        return if stops { Ok(None) } else { open::after_failure(hub, threads, lock, config, &what).map(Some) };
    }
    threads.join();
    let Some(mut memory) = memory else { return Ok(None) };
    let disk = match turn {
        Turn::DiskIsBack(disk) => Some(disk),
        // Perhaps it can be used by now: what is in memory ends with the process.
        _ if memory.look(config, &mut lock, false) => {
            let found = tokio::time::timeout(LAST_LOOK.to_std(), memory.looked(config)).await;
            found.ok().and_then(Result::ok).map(Box::new)
        }
        _ => None,
    };
    let Some(mut disk) = disk else { return Ok(None) };
    let next = match open::back_on_disk(hub, memory, &mut disk, (config, watchdog)) {
        Ok(state) => {
            tracing::info!("{}", state.what());
            disk.states.push((state, "memory"));
            *disk
        }
        Err(failed) => open::memory_again(config, failed.0, disk.lock, disk.threads, &failed.1)?,
    };
    Ok(Some(next).filter(|_| !stops))
}

/// Answers signals and requests until the node is to stop, or until the disk fails or (for a ring in `memory`, with the
/// directory's lock, if it is held) can be used.
async fn serve(
    running: &mut reload::Running,
    signals: &mut mpsc::Receiver<Signal>,
    mut requests: Requests,
    memory: &mut Option<Memory>,
    lock: &mut Option<Lock>,
) -> Turn {
    let hub = running.hub.clone();
    let mut probe = tokio::time::Instant::now() + PROBE.to_std();
    let in_memory = memory.is_some();
    let mut again = false;
    loop {
        let (look, asked) = tokio::select! {
            signal = signals.recv() => match signal {
                Some(Signal::Reload) => {
                    // Said on the board; nobody waits for the answer.
                    let _ = running.reload().await;
                    (true, true)
                }
                Some(Signal::Stop) | None => return Turn::Stop,
            },
            Some((request, reply)) = requests.recv() => {
                let reload = matches!(request, crate::hub::Request::Reload);
                let answer = running.answer(request).await;
                // The asker may have gone.
                let _ = reply.send(answer);
                (reload, true)
            }
            () = hub.failed(), if !in_memory => {
                let health = hub.with_pipeline(|pipeline| pipeline.ring().health());
                if let Health::Failed(what) = health {
                    return Turn::DiskFailed(what);
                }
                (false, false)
            }
            () = tokio::time::sleep_until(probe), if in_memory => (true, false),
            found = looked(memory, &running.config) => match found {
                Ok(opened) => return Turn::DiskIsBack(Box::new(opened)),
                Err(refused) => {
                    *lock = running.refused(memory, refused, again).await;
                    // It was asked for while another was under way.
                    (std::mem::take(&mut again), true)
                }
            },
        };
        if look && let Some(memory) = memory {
            probe = tokio::time::Instant::now() + PROBE.to_std();
            again |= asked && memory.is_looking();
            memory.look(&running.config, lock, asked);
        }
    }
}

/// What came of a look for the disk; for ever where the ring is there.
async fn looked(memory: &mut Option<Memory>, config: &Config) -> Result<Opened, Refused> {
    match memory {
        Some(memory) => memory.looked(config).await,
        None => std::future::pending().await,
    }
}

/// Ends all parts; `close`: and has the disk take the last batch.
async fn shut_down(hub: &Hub, parts: &mut Parts, close: bool) {
    hub.board().part(PartKind::Node, "node", hub.now()).report(hub.now(), PartState::up("stopping"));
    hub.stop();
    parts.end_intake().await;
    parts.end_sinks().await;
    if !close {
        return;
    }
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

async fn next_stop(signals: &mut mpsc::Receiver<Signal>) {
    while let Some(signal) = signals.recv().await {
        if signal == Signal::Stop {
            return;
        }
    }
    std::future::pending::<()>().await;
}

/// Moves commands and completions between the ring and the disk threads until `stop`.
async fn drive(
    hub: Hub,
    (mut threads, mut completions): (Threads, Completions),
    turns: Rc<Cell<u64>>,
    stop: Stop,
) -> Threads {
    loop {
        turns.set(turns.get().wrapping_add(1));
        while threads.ready() {
            let Some(command) = hub.poll() else { break };
            threads.send(command);
        }
        // While the threads take nothing, what is due has to wait for their completions.
        let due = hub.next_timeout().filter(|_| threads.ready());
        let wait = due.map_or(Span::from_secs(60), |at| at - hub.now().boot);
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
