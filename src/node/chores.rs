//! The node's own small tasks: heartbeat, events, the clock, the ring's health, the config's files; and the ways in:
//! HTTP and the control socket.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use tokio::sync::oneshot;

use super::{identity, trial};
use crate::config::{self, Config, HttpConfig};
use crate::hub::{Hub, OfferError, PartKind, PartState};
use crate::name::Name;
use crate::ops::control::Door;
use crate::ops::{self, Facts, Ops};
use crate::pipeline::Stopped;
use crate::record::{Flags, RecordRef};
use crate::ring::Health;
use crate::time::{Now, Span};
use crate::topic::{TopicName, TopicPart};

/// How often rates are taken and health is looked at.
const LOOK: Span = Span::from_secs(5);
/// How often the config files are compared with what is loaded.
const COMPARE: Span = Span::from_secs(30);
/// Events are written to the ring a little after they happen, several together.
const EVENTS: Span = Span::from_millis(200);

/// Held by `run`; dropping it ends the tasks.
pub(super) struct Chores {
    fixed: Vec<Chore>,
    /// With how often.
    heartbeat: Option<(Span, Chore)>,
    http: Option<(HttpConfig, Chore)>,
}

/// A task that ends when this is dropped.
struct Chore(tokio::task::JoinHandle<()>);

impl Chore {
    fn start(task: impl Future<Output = ()> + 'static) -> Self {
        Self(tokio::task::spawn_local(task))
    }

    /// Returns when it has let go of what it held.
    async fn end(mut self) {
        self.0.abort();
        // Cancelled, as it was asked to be.
        let _ = (&mut self.0).await;
    }
}

impl Drop for Chore {
    fn drop(&mut self) {
        self.0.abort();
    }
}

pub(super) fn facts(config: &Config, started: Now) -> Facts {
    Facts {
        node: config.node.id.clone(),
        labels: config.node.labels.clone(),
        config_hash: config.hash.clone(),
        config_files: config.files.clone(),
        warnings: config.warnings.clone(),
        config_differs: std::cell::Cell::new(false),
        started,
    }
}

/// `on_disk`: the ring is, so that the disk may be asked.
pub(super) async fn start(hub: &Hub, ops: &Rc<Ops>, config: &Config, door: Rc<Door>, on_disk: bool) -> Chores {
    let watched = ops.clone();
    let mut fixed = vec![
        Chore::start(look(hub.clone(), ops.clone(), on_disk.then(|| config.node.data_dir.clone()))),
        Chore::start(events(hub.clone())),
        Chore::start(async move { watched.watch().await }),
        Chore::start(ops::control::run(ops.clone(), door)),
    ];
    if let Some(main) = config.files.first().cloned() {
        fixed.push(Chore::start(compare_files(ops.clone(), main)));
    }
    let mut chores = Chores { fixed, heartbeat: None, http: None };
    chores.apply(hub, ops, config).await;
    chores
}

impl Chores {
    /// Returns when all of them have let go of what they held.
    pub(super) async fn end(self) {
        let rest =
            self.heartbeat.into_iter().map(|(_, chore)| chore).chain(self.http.into_iter().map(|(_, chore)| chore));
        for chore in self.fixed.into_iter().chain(rest) {
            chore.end().await;
        }
    }

    /// Makes what a reload can change the same as what `config` says.
    pub(super) async fn apply(&mut self, hub: &Hub, ops: &Rc<Ops>, config: &Config) {
        debug_assert!(!self.fixed.is_empty());
        let every = config.node.heartbeat.filter(|_| !config.sinks.is_empty());
        if self.heartbeat.as_ref().map(|(every, _)| *every) != every {
            self.heartbeat = every.map(|every| (every, Chore::start(heartbeat(hub.clone(), ops.clone(), every))));
        }
        if self.http.as_ref().map(|(http, _)| http) != config.http.as_ref() {
            if let Some((_, running)) = self.http.take() {
                running.end().await;
            }
            match &config.http {
                Some(http) => {
                    self.http = Some((http.clone(), Chore::start(ops::http::run(ops.clone(), http.listen))));
                }
                None => hub.board().remove(PartKind::Http, "http"),
            }
        }
    }
}

/// Notes whether the config files are still those that are loaded, so that the status says when they differ. Read in a
/// thread: they may lie on a card that hangs, and the loop must not.
async fn compare_files(ops: Rc<Ops>, main: PathBuf) {
    loop {
        tokio::time::sleep(COMPARE.to_std()).await;
        let (tell, told) = oneshot::channel();
        let file = main.clone();
        // Where none can be had the sender goes with it, and is missed. Who asked may have gone.
        let read = move || tell.send(config::hash_on_disk(&file)).map_err(drop);
        let _ = std::thread::Builder::new().name("config".into()).spawn(read);
        if let Ok(hash) = told.await {
            ops.set_config_differs(hash.is_none_or(|hash| hash != ops.config_hash()));
        }
    }
}

pub(super) fn compare(ops: &Ops, main: &Path) {
    ops.set_config_differs(config::hash_on_disk(main).is_none_or(|hash| hash != ops.config_hash()));
}

/// Clock trust, the ring's health and the room beside it, every few seconds.
async fn look(hub: Hub, ops: Rc<Ops>, data_dir: Option<PathBuf>) {
    let clock = hub.board().part(PartKind::Clock, "clock", hub.now());
    let disk = hub.board().part(PartKind::Disk, "ring", hub.now());
    let mut stopped = Vec::new();
    loop {
        let now = hub.now();
        note_stopped(&hub, now, &mut stopped);
        let trust = if now.trusted {
            PartState::up("trusted")
        } else {
            PartState::warn("not trusted yet: the kernel says that it is not synchronised")
        };
        clock.report(now, trust);
        hub.with_pipeline(|pipeline| pipeline.note_clock(now));
        let state = match hub.with_pipeline(|pipeline| pipeline.ring().health()) {
            Health::Good if hub.with_pipeline(|pipeline| pipeline.ring().is_full()) => {
                PartState::warn("full: sources of topics with on_full = \"pause\" wait until sinks have sent more")
            }
            Health::Good if ops.is_evicting() => {
                PartState::warn("full: the oldest records are evicted before every sink has them")
            }
            Health::Good if hub.with_pipeline(|pipeline| pipeline.ring().is_over_budget()) => {
                PartState::up("ok; max_gb_per_day is reached: what nobody waits for is written later, up to 5 min")
            }
            Health::Good => PartState::up("ok"),
            Health::Degraded(what) => PartState::warn(what),
            Health::Failed(what) => PartState::down(what, None),
        };
        disk.report(now, state);
        if let Some(dir) = &data_dir {
            if let Ok(free) = identity::free_bytes(dir) {
                disk.gauge("free_bytes", free);
            }
            end_trial(&hub, dir);
        }
        tokio::time::sleep(LOOK.to_std()).await;
    }
}

/// Who watches a new program confirms it by taking its mark away.
fn end_trial(hub: &Hub, dir: &Path) {
    if hub.with_pipeline(|pipeline| pipeline.ring().is_on_trial()) && !trial::is_marked(dir) {
        hub.with_pipeline(|pipeline| pipeline.ring_mut().confirm());
        tracing::info!("this program is confirmed: it is not on trial any more");
    }
}

/// A rule that has stopped topics is a part that is down, until they take records again. `before` are those that were so far.
fn note_stopped(hub: &Hub, now: Now, before: &mut Vec<Name>) {
    let mut stopped: Vec<(Name, String)> = Vec::new();
    for Stopped { topic, rule, reason } in hub.with_pipeline(|pipeline| pipeline.stopped()) {
        let said = format!("topic `{topic}` takes nothing until `headwater reload`: {reason}");
        match stopped.iter_mut().find(|(name, _)| *name == rule) {
            Some((_, all)) => *all += &format!("; {said}"),
            None => stopped.push((rule, said)),
        }
    }
    let board = hub.board();
    for name in before.drain(..).filter(|name| !stopped.iter().any(|(still, _)| still == name)) {
        board.part(PartKind::Rule, name.as_str(), now).report(now, PartState::up("its topics take records again"));
        board.remove(PartKind::Rule, name.as_str());
    }
    for (name, said) in stopped {
        board.part(PartKind::Rule, name.as_str(), now).report(now, PartState::down(said, None));
        before.push(name);
    }
}

async fn events(hub: Hub) {
    loop {
        hub.board().event_waits().await;
        tokio::time::sleep(EVENTS.to_std()).await;
        write_events(&hub);
    }
}

/// State changes become records of `headwater-events`; what finds no room waits on the board.
pub(super) fn write_events(hub: &Hub) {
    let board = hub.board();
    let mut written = Vec::new();
    while let Some(event) = board.oldest_event() {
        let value = ops::events::record(&event);
        if own(hub, "headwater-events", &value, Flags::default()) == Own::Busy {
            break;
        }
        written.push(value);
        board.event_written();
    }
    if !written.is_empty() && remember(hub, &written).is_none() {
        board.events_lost(written.len() as u64);
    }
    // Who asks `headwater events` why something is down does not want to wait for a full batch.
    hub.hurry();
}

/// Adds to the history that `headwater events` shows. None: the ring's state has no room for it.
fn remember(hub: &Hub, events: &[Vec<u8>]) -> Option<()> {
    let (now, owner) = (hub.now().boot, ops::history::owner()?);
    hub.with_pipeline(|pipeline| {
        let budget = ops::history::budget(pipeline.ring().stats().slot_bytes);
        // Where the other owners have taken what there is, what is new counts more than what was.
        [ops::history::add, ops::history::begin_anew].into_iter().find_map(|change| {
            let changes = change(&pipeline.ring().states(&owner), events, budget);
            let mut put = changes.iter().map(|(key, value)| pipeline.put_state(now, &owner, key, value.as_deref()));
            put.all(|done| done.is_ok()).then_some(())
        })
    })
}

async fn heartbeat(hub: Hub, ops: Rc<Ops>, every: Span) {
    // The first one says what a node looks like once its parts have had time to come up.
    let mut wait = every.0.min(Span::from_secs(10).0);
    loop {
        tokio::time::sleep(Span(wait).to_std()).await;
        // One that finds no room is left out: the next says more.
        let _ = own(&hub, "headwater-status", &ops::heartbeat(&ops.status()), Flags::SUPERSEDED_BY_NEWER);
        wait = every.0;
    }
}

/// What became of a record of the node's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Own {
    Taken,
    /// The disk is behind: offer it again.
    Busy,
    /// The ring cannot take it, now or later.
    Impossible,
}

fn own(hub: &Hub, topic: &str, value: &[u8], flags: Flags) -> Own {
    let Ok(name) = TopicName::new(topic) else { return Own::Impossible };
    let now = hub.now();
    let own = hub.with_pipeline(|pipeline| {
        let Ok(topic) = pipeline.open_topic(&name, None) else { return Own::Impossible };
        let record = RecordRef { flags, ..RecordRef::of(value) };
        match pipeline.offer_plain(now, TopicPart { topic, partition: 0 }, &record) {
            Ok(_) => Own::Taken,
            Err(OfferError::Busy) => Own::Busy,
            Err(OfferError::TooLarge { .. }) => Own::Impossible,
        }
    });
    hub.kick();
    own
}
