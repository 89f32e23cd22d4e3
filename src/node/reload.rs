//! What a running node does when it is told something: reload, sink verbs.

use std::rc::Rc;

use super::parts::Parts;
use super::{Load, chores, plan};
use crate::config::Config;
use crate::hub::{Hub, PartKind, PartState, Reply, Request, SinkOrder};
use crate::name::Name;
use crate::ops::Ops;

pub(super) struct Running {
    pub hub: Hub,
    pub ops: Rc<Ops>,
    pub config: Config,
    pub load: Load,
    pub parts: Parts,
}

impl Running {
    pub async fn answer(&mut self, request: Request) -> Reply {
        match request {
            Request::Reload => self.reload().await,
            Request::SinkPause(name) => self.order(&name, SinkOrder::Pause, "paused"),
            Request::SinkResume(name) => self.order(&name, SinkOrder::Run, "resumed"),
            Request::SinkFlush(name) => self.order(&name, SinkOrder::Flush, "sends what waits now"),
            Request::SinkForget(name) => self.forget(&name),
        }
    }

    fn order(&mut self, name: &Name, order: SinkOrder, done: &str) -> Reply {
        let Some(lever) = self.parts.lever(name) else { return Err(self.no_sink(name)) };
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

    /// Reads the files again and changes what can change live; a bad file leaves everything as it is.
    pub async fn reload(&mut self) -> Reply {
        let part = self.hub.board().part(PartKind::Config, "config", self.hub.now());
        let config = match (self.load)() {
            Ok(config) => config,
            Err(errors) => {
                part.report(
                    self.hub.now(),
                    PartState::warn(format!("reload rejected, the old config runs on: {errors}")),
                );
                return Err(errors);
            }
        };
        let fixed = needs_restart(&self.config, &config);
        self.hub.replan(plan::plan(&config));
        if let Some(max_bytes) = config.ring.max_bytes.or(self.config.ring.max_bytes) {
            let (cap, _) = super::identity::max_bytes(&config.node.data_dir, Some(max_bytes), config.ring.keep_free);
            self.hub.with_pipeline(|pipeline| pipeline.ring_mut().set_limits(cap, config.ring.linger));
        }
        self.parts.apply(&self.hub, &config).await;
        self.config = config;
        self.ops.set_facts(chores::facts(&self.config, self.hub.now()));
        let text = match fixed.as_slice() {
            [] => format!("config {} is loaded", short(&self.config.hash)),
            keys => format!("config {} is loaded; after a restart only: {}", short(&self.config.hash), keys.join(", ")),
        };
        let state = if fixed.is_empty() { PartState::up(text.clone()) } else { PartState::warn(text.clone()) };
        part.report(self.hub.now(), state);
        Ok(text)
    }
}

fn short(hash: &str) -> &str {
    hash.get(..4).unwrap_or(hash)
}

/// Keys whose new value waits for a restart.
fn needs_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    let checks = [
        ("node.data_dir", old.node.data_dir != new.node.data_dir),
        ("node.control", old.node.control != new.node.control),
        ("node.log", old.node.log != new.node.log),
        ("node.heartbeat", old.node.heartbeat != new.node.heartbeat),
        ("ring.keep_free", old.ring.keep_free != new.ring.keep_free),
        ("ring.memory_bytes", old.ring.memory_bytes != new.ring.memory_bytes),
        ("http", old.http != new.http),
    ];
    checks.into_iter().filter(|(_, changed)| *changed).map(|(key, _)| key).collect()
}
