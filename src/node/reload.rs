//! What a running node does when it is told something: reload, sink verbs.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::chores::{self, Chores};
use super::identity::Lock;
use super::look::Refused;
use super::open::{self, Memory};
use super::parts::Parts;
use super::{Load, identity, plan};
use crate::config::{self, Changes, Config, ConfigError, SourceConfig, SourceKind};
use crate::hub::{Hub, PartKind, PartState, Reply, Request, SinkOrder};
use crate::limits::MIN_RING;
use crate::name::Name;
use crate::ops::Ops;

pub(super) struct Running {
    pub hub: Hub,
    pub ops: Rc<Ops>,
    /// What runs: as loaded last, with the values that the start fixed.
    pub config: Config,
    pub load: Load,
    pub parts: Parts,
    pub chores: Chores,
    pub keep_free: Arc<AtomicU64>,
    /// The ring is in memory: what is on the disk is not open.
    pub in_memory: bool,
    /// Sources that stand somewhere in files wait for the disk, which knows where.
    pub held_back: bool,
}

/// The config, without sources that follow files where they are held back: begun anew they would bring all of them again.
pub fn without_followed(hub: &Hub, config: &Config, held_back: bool) -> Config {
    let mut config = config.clone();
    let follows = |source: &SourceConfig| held_back && matches!(source.kind, SourceKind::File(_));
    for source in config.sources.iter().filter(|source| follows(source)) {
        let waits = PartState::warn(
            "waits for the data directory, where it stands is kept there; nothing of the files is lost",
        );
        hub.board().part(PartKind::Source, source.name.as_str(), hub.now()).report(hub.now(), waits);
    }
    config.sources.retain(|source| !follows(source));
    config
}

impl Running {
    pub async fn answer(&mut self, request: Request) -> Reply {
        match request {
            Request::Reload => self.reload().await,
            Request::SinkPause(name) => self.order(&name, SinkOrder::Pause, "paused"),
            Request::SinkResume(name) => self.order(&name, SinkOrder::Run, "resumed"),
            Request::SinkFlush(name) => self.order(&name, SinkOrder::Flush, "sends what waits now"),
            Request::SinkForget(name) => self.forget(&name),
            Request::Cease => self.cease().await,
        }
    }

    /// A look for the disk found none; `again`: another begins at once. Where none was there from the start, the page says what is in the way now. Gives
    /// back the directory's lock, if it is ours.
    pub async fn refused(&mut self, memory: &mut Option<Memory>, refused: Refused, again: bool) -> Option<Lock> {
        let (why, lock) = match refused {
            // Another node may have taken the directory meanwhile: then this one stays where it is.
            Refused::Owned(owned) => (owned.to_string(), None),
            Refused::Unusable(why, lock) => (why, lock),
        };
        if !again && std::mem::take(&mut self.held_back) {
            self.parts.apply(&self.hub, &self.config, false).await;
        }
        // Not for other figures in the same words.
        let words = |text: &str| text.chars().filter(|c| !c.is_ascii_digit()).collect::<String>();
        let why = open::until_usable(&why);
        if let Some(memory) = memory.as_mut().filter(|memory| memory.is_first() && words(&memory.why) != words(&why)) {
            memory.why = why;
            let disk = self.hub.board().part(PartKind::Disk, "disk", self.hub.now());
            disk.report(self.hub.now(), PartState::down(memory.why.clone(), None));
        }
        lock
    }

    /// Ends what takes records in; sinks go on, and have the node's own events up to here: who drains them next may end the node
    /// and erase its keys as soon as nothing waits.
    async fn cease(&mut self) -> Reply {
        self.parts.end_intake().await;
        let ceased = PartState::warn("collects nothing any more; `headwater reload` begins it again");
        self.hub.board().part(PartKind::Node, "node", self.hub.now()).report(self.hub.now(), ceased);
        chores::write_events(&self.hub);
        Ok("sources and endpoint have ended".into())
    }

    fn order(&mut self, name: &Name, order: SinkOrder, done: &str) -> Reply {
        let Some(lever) = self.parts.lever(name) else { return Err(self.no_sink(name)) };
        if order == SinkOrder::Flush && lever.order() == SinkOrder::Pause {
            return Err(format!("sink {name} is paused and sends nothing: `headwater sink resume {name}` first"));
        }
        lever.give(order);
        Ok(format!("sink {name} {done}"))
    }

    fn no_sink(&self, name: &Name) -> String {
        let names = self.parts.sink_names();
        let known =
            if names.is_empty() { "this node has no sinks".into() } else { format!("known: {}", names.join(", ")) };
        format!("no sink `{name}` ({known})")
    }

    fn forget(&mut self, name: &Name) -> Reply {
        if self.parts.lever(name).is_some() {
            return Err(format!(
                "sink {name} is configured; take it out of the config and reload before it is forgotten"
            ));
        }
        let now = self.hub.now();
        if self.hub.with_pipeline(|pipeline| pipeline.forget_sink(now.boot, name)) {
            Ok(format!("sink {name} is forgotten; if it is configured again, it begins at the newest record"))
        } else {
            Err(format!("nothing is known of a sink `{name}`"))
        }
    }

    /// Reads the files again and changes what can change live; a bad file leaves everything as it is. Says what changed,
    /// or every error.
    pub async fn reload(&mut self) -> Reply {
        let config = match (self.load)() {
            Ok(config) => config,
            Err(errors) => return Err(self.rejected(&errors)),
        };
        let mut changes = config::changes(&self.config, &config);
        if self.in_memory {
            // The ring on the disk is opened anew, with the keys that there are then: right after this.
            changes.apply_now(&["ring.encryption", "ring.old_keys"]);
        }
        self.hub.replan(plan::plan(&config));
        self.config = keep_fixed(config, &self.config, self.in_memory);
        self.ring_limits(&changes);
        self.ops.set_facts(chores::facts(&self.config, self.hub.now()));
        self.chores.apply(&self.hub, &self.ops, &self.config).await;
        let config = without_followed(&self.hub, &self.config, self.held_back);
        self.parts.apply(&self.hub, &config, changes.any(&["node.id", "node.labels"])).await;

        let text = format!("config {} is loaded: {changes}", short(&self.config.hash));
        // Where it had ceased to collect, it does again.
        self.hub.board().part(PartKind::Node, "node", self.hub.now()).report(self.hub.now(), PartState::up("running"));
        let part = self.hub.board().part(PartKind::Config, "config", self.hub.now());
        part.report(self.hub.now(), PartState::up(text.clone()));
        if !changes.restart.is_empty() {
            // Stays on the status page until then.
            let waits = format!("after a restart only: {}", changes.restart.join(", "));
            part.report(self.hub.now(), PartState::warn(waits));
        }
        let warnings = self.config.warnings.iter().map(|warning| format!("\nwarning: {warning}"));
        Ok(warnings.fold(text, |text, warning| text + &warning))
    }

    /// The whole list is for who asked; the status has one line, which must stay one.
    fn rejected(&self, errors: &[ConfigError]) -> String {
        if let Some(main) = self.config.files.first() {
            chores::compare(&self.ops, main);
        }
        let first = errors.first().map_or_else(|| "no config".to_owned(), ToString::to_string);
        let more = match errors.len() {
            0 | 1 => "`headwater check` shows it".to_owned(),
            n => format!("and {} more, `headwater check` shows all", n - 1),
        };
        let text = format!("reload rejected, the old config runs on: {first} ({more})");
        self.hub.board().part(PartKind::Config, "config", self.hub.now()).report(self.hub.now(), PartState::warn(text));
        let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
        let loaded = short(&self.config.hash);
        format!("{}\nnothing was changed: config {loaded} runs on", lines.join("\nerror: "))
    }

    /// A memory ring keeps the size that it began with.
    fn ring_limits(&self, changes: &Changes) {
        if !changes.any(&["ring.max_bytes", "ring.keep_free", "ring.linger", "ring.max_gb_per_day"]) {
            return;
        }
        let ring = &self.config.ring;
        self.keep_free.store(ring.keep_free, Ordering::Relaxed);
        // A disk that may hang is not asked.
        let on_disk = (!self.in_memory).then(|| {
            identity::max_bytes(&self.config.node.data_dir, ring.max_bytes, ring.keep_free)
                .unwrap_or_else(|why| (MIN_RING, Some(why)))
        });
        let now = self.hub.now().boot;
        self.hub.with_pipeline(|pipeline| {
            let cap = on_disk.as_ref().map_or_else(|| pipeline.ring().stats().max_bytes, |(cap, _)| *cap);
            pipeline.ring_mut().set_limits(cap, ring.linger);
            pipeline.ring_mut().set_write_budget(now, ring.write_budget);
        });
        if let Some((_, shrunk)) = on_disk {
            let (board, now) = (self.hub.board(), self.hub.now());
            match shrunk {
                Some(shrunk) => {
                    board.part(PartKind::Disk, identity::RING_SIZE, now).report(now, PartState::warn(shrunk))
                }
                None => board.remove(PartKind::Disk, identity::RING_SIZE),
            }
        }
        self.hub.kick();
    }
}

/// What a reload cannot change stays as it is, so that the next reload still knows that it waits for a restart.
fn keep_fixed(mut new: Config, running: &Config, in_memory: bool) -> Config {
    new.node.data_dir.clone_from(&running.node.data_dir);
    new.node.control.clone_from(&running.node.control);
    new.ring.memory_bytes = running.ring.memory_bytes;
    new.ring.lanes.clone_from(&running.ring.lanes);
    if !in_memory {
        new.ring.encryption.clone_from(&running.ring.encryption);
        new.ring.old_keys.clone_from(&running.ring.old_keys);
    }
    new
}

fn short(hash: &str) -> &str {
    hash.get(..4).unwrap_or(hash)
}
