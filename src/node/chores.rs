//! The node's own small tasks: heartbeat, events, rates, the clock, the ring's health; HTTP and the control socket.

use std::rc::Rc;

use super::supervisor::Task;
use crate::config::Config;
use crate::hub::{Hub, PartKind, PartState, Stop};
use crate::ops::{self, Desk, Facts};
use crate::record::{Flags, RecordRef};
use crate::ring::Health;
use crate::time::{Now, Span};
use crate::topic::{TopicName, TopicPart};

/// How often rates are taken and health is looked at.
const LOOK: Span = Span::from_secs(5);
/// Events are written to the ring a little after they happen, several together.
const EVENTS: Span = Span::from_millis(200);

/// Held by `run`; dropping it ends the tasks.
pub(super) struct Chores {
    tasks: Vec<tokio::task::AbortHandle>,
    _served: Vec<Task>,
}

impl Drop for Chores {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
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

pub(super) fn start(hub: &Hub, desk: &Rc<Desk>, config: &Config) -> Chores {
    let mut tasks = vec![
        tokio::task::spawn_local(look(hub.clone(), desk.clone())).abort_handle(),
        tokio::task::spawn_local(events(hub.clone())).abort_handle(),
    ];
    if let (Some(every), false) = (config.node.heartbeat, config.sinks.is_empty()) {
        tasks.push(tokio::task::spawn_local(heartbeat(hub.clone(), desk.clone(), every)).abort_handle());
    }
    let mut served = Vec::new();
    let control = config.node.control.clone();
    let serve = desk.clone();
    served.push(spawn(hub, PartKind::Control, "control", move || {
        let (path, desk) = (control.clone(), serve.clone());
        async move { ops::control::run(&path, desk).await.map_err(|e| e.to_string()) }
    }));
    if let Some(http) = config.http.clone() {
        let serve = desk.clone();
        served.push(spawn(hub, PartKind::Http, "http", move || {
            let (http, desk) = (http.clone(), serve.clone());
            async move { ops::http::run(&http, desk).await.map_err(|e| e.to_string()) }
        }));
    }
    Chores { tasks, _served: served }
}

fn spawn<Fut>(hub: &Hub, kind: PartKind, name: &str, make: impl FnMut() -> Fut + 'static) -> Task
where
    Fut: Future<Output = Result<(), String>> + 'static,
{
    let part = hub.board().part(kind, name, hub.now());
    Task::spawn(hub, part, Stop::default(), make, std::future::pending)
}

/// Rates, clock trust and the ring's health, every few seconds.
async fn look(hub: Hub, desk: Rc<Desk>) {
    let clock = hub.board().part(PartKind::Clock, "clock", hub.now());
    let disk = hub.board().part(PartKind::Disk, "ring", hub.now());
    loop {
        desk.observe();
        let now = hub.now();
        let trust = if now.trusted {
            PartState::up("trusted")
        } else {
            PartState::warn("not trusted yet: the kernel says that it is not synchronised")
        };
        clock.report(now, trust);
        hub.with_pipeline(|pipeline| pipeline.note_clock(now));
        let state = match hub.with_pipeline(|pipeline| pipeline.ring().health()) {
            Health::Good => PartState::up("ok"),
            Health::Degraded(what) => PartState::warn(what),
            Health::Failed(what) => PartState::down(what, None),
        };
        disk.report(now, state);
        tokio::time::sleep(LOOK.to_std()).await;
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
    while let Some(event) = hub.board().take_event() {
        tracing::info!("{}", ops::events::text(&event));
        own(hub, "headwater-events", &ops::events::record(&event), Flags::default());
    }
}

async fn heartbeat(hub: Hub, desk: Rc<Desk>, every: Span) {
    // The first one says what a node looks like once its parts have had time to come up.
    let mut wait = every.0.min(Span::from_secs(10).0);
    loop {
        tokio::time::sleep(Span(wait).to_std()).await;
        own(&hub, "headwater-status", &ops::heartbeat(&desk.status()), Flags::SUPERSEDED_BY_NEWER);
        wait = every.0;
    }
}

/// A record of the node's own. One that finds no room is dropped: the next says more.
fn own(hub: &Hub, topic: &str, value: &[u8], flags: Flags) {
    let Ok(name) = TopicName::new(topic) else { return };
    let now = hub.now();
    hub.with_pipeline(|pipeline| {
        if let Ok(topic) = pipeline.open_topic(&name, None) {
            let record = RecordRef { flags, ..RecordRef::of(value) };
            let _ = pipeline.offer_plain(now, TopicPart { topic, partition: 0 }, &record);
        }
    });
    hub.kick();
}
