//! The parts that the config names, running: started, replaced at reload, ended in order.

use std::rc::Rc;

use tokio::sync::Notify;

use super::plan;
use super::supervisor::Task;
use crate::config::{Config, EndpointConfig, FluvioSink, LinkConfig, SinkConfig, SinkKind, SourceConfig};
use crate::hub::{Hub, Lever, PartKind, SinkOrder, Stop, Way};
use crate::name::Name;
use crate::time::Span;
use crate::{endpoint, sinks, sources};

struct Source {
    config: Rc<SourceConfig>,
    task: Task,
}

struct Sink {
    config: Rc<SinkConfig>,
    lever: Rc<Lever>,
    task: Task,
}

struct Endpoint {
    config: EndpointConfig,
    /// Files that its config names are to be read again.
    again: Rc<Notify>,
    task: Task,
}

/// Everything that runs beside the disk loop.
#[derive(Default)]
pub struct Parts {
    sources: Vec<Source>,
    sinks: Vec<Sink>,
    endpoint: Option<Endpoint>,
    links: Vec<Link>,
}

struct Link {
    config: LinkConfig,
    way: Rc<Way>,
    task: Task,
}

/// How long an ending part may take before it is dropped.
const END: Span = Span::from_millis(1500);

impl Parts {
    /// Makes what runs the same as what `config` says. Parts whose config is unchanged are left alone, but for the sinks
    /// when the node's name or labels changed: their templates hold them.
    pub async fn apply(&mut self, hub: &Hub, config: &Config, renamed: bool) {
        self.end_changed(hub, config, renamed).await;
        self.links(hub, config).await;
        for sink in &config.sinks {
            if !self.sinks.iter().any(|running| running.config.name == sink.name) {
                let way = self.way_of(sink);
                self.sinks.push(start_sink(hub, sink.clone(), way));
            }
        }
        match (&self.endpoint, &config.endpoint) {
            (None, Some(endpoint)) => self.endpoint = Some(start_endpoint(hub, endpoint.clone())),
            (Some(running), _) => running.again.notify_one(),
            (None, None) => {}
        }
        for source in &config.sources {
            if !self.sources.iter().any(|running| running.config.name == source.name) {
                self.sources.push(start_source(hub, source.clone()));
            }
        }
    }

    /// Links change while their sinks go on.
    async fn links(&mut self, hub: &Hub, config: &Config) {
        for gone in self.links.extract_if(.., |link| !config.links.iter().any(|new| new.name == link.config.name)) {
            gone.task.end(END).await;
            hub.board().remove(PartKind::Link, gone.config.name.as_str());
        }
        for new in &config.links {
            match self.links.iter_mut().find(|link| link.config.name == new.name) {
                Some(link) if link.config == *new => {}
                Some(link) => {
                    link.way.set(new);
                    link.config = new.clone();
                }
                None => self.links.push(start_link(hub, new.clone())),
            }
        }
    }

    fn way_of(&self, sink: &SinkConfig) -> Option<Rc<Way>> {
        let SinkKind::Fluvio(FluvioSink { link: Some(name), .. }) = &sink.kind else { return None };
        self.links.iter().find(|link| link.config.name == *name).map(|link| link.way.clone())
    }

    async fn end_changed(&mut self, hub: &Hub, config: &Config, renamed: bool) {
        let (keep, end) = std::mem::take(&mut self.sources)
            .into_iter()
            .partition(|running| config.sources.iter().any(|source| *source == *running.config));
        self.sources = keep;
        let mut ended: Vec<(PartKind, Name, Task)> = Vec::new();
        for source in end {
            ended.push((PartKind::Source, source.config.name.clone(), source.task));
        }
        let (keep, end) = std::mem::take(&mut self.sinks)
            .into_iter()
            .partition(|running| !renamed && config.sinks.iter().any(|sink| *sink == *running.config));
        self.sinks = keep;
        for sink in end {
            sink.lever.give(SinkOrder::Stop);
            let name = sink.config.name.clone();
            ended.push((PartKind::Sink, name.clone(), sink.task));
            if !config.sinks.iter().any(|other| other.name == name) {
                hub.remove_sink(&sink.lever);
            }
        }
        let named = |kind, name: &Name| match kind {
            PartKind::Source => config.sources.iter().any(|source| source.name == *name),
            _ => config.sinks.iter().any(|sink| sink.name == *name),
        };
        for (kind, name, task) in ended {
            task.end(END).await;
            if !named(kind, &name) {
                hub.board().remove(kind, name.as_str());
            }
        }
        if let Some(ended) = self.endpoint.take_if(|running| config.endpoint.as_ref() != Some(&running.config)) {
            ended.task.end(END).await;
            if config.endpoint.is_none() {
                hub.board().remove(PartKind::Endpoint, "endpoint");
            }
        }
    }

    /// The lever of a configured sink.
    pub fn lever(&self, name: &Name) -> Option<&Rc<Lever>> {
        self.sinks.iter().find(|sink| sink.config.name == *name).map(|sink| &sink.lever)
    }

    /// Sinks that a person paused.
    pub fn paused(&self) -> Vec<Name> {
        let paused = self.sinks.iter().filter(|sink| sink.lever.order() == SinkOrder::Pause);
        paused.map(|sink| sink.config.name.clone()).collect()
    }

    /// Names of the configured sinks, for messages.
    pub fn sink_names(&self) -> Vec<&str> {
        self.sinks.iter().map(|sink| sink.config.name.as_str()).collect()
    }

    /// Sources and endpoint first, so that nothing more comes in.
    pub async fn end_intake(&mut self) {
        let sources = std::mem::take(&mut self.sources);
        for source in &sources {
            source.task.stop.set();
        }
        let endpoint = self.endpoint.take();
        for task in sources.into_iter().map(|s| s.task).chain(endpoint.map(|e| e.task)) {
            task.end(END).await;
        }
    }

    /// Then the sinks, which may finish what is in flight.
    pub async fn end_sinks(&mut self) {
        let sinks = std::mem::take(&mut self.sinks);
        for sink in &sinks {
            sink.lever.give(SinkOrder::Stop);
        }
        for sink in sinks {
            sink.task.end(END).await;
        }
        for link in std::mem::take(&mut self.links) {
            link.task.end(END).await;
        }
    }
}

fn start_source(hub: &Hub, config: SourceConfig) -> Source {
    let config = Rc::new(config);
    let stop = Stop::default();
    let intake = hub.intake(plan::source(&config), config.ack_memory, stop.clone());
    let part = hub.board().part(PartKind::Source, config.name.as_str(), hub.now());
    let task = {
        let config = config.clone();
        let make = move || {
            let (config, intake) = (config.clone(), intake.clone());
            async move { sources::run(&config, intake).await.map_err(|e| e.to_string()) }
        };
        Task::spawn(hub, part, stop, make, std::future::pending)
    };
    Source { config, task }
}

fn start_link(hub: &Hub, config: LinkConfig) -> Link {
    let way = Rc::new(hub.way(&config));
    let part = hub.board().part(PartKind::Link, config.name.as_str(), hub.now());
    let stop = Stop::default();
    let task = {
        let (way, ends) = (way.clone(), stop.clone());
        let make = move || way.clone().run(ends.clone());
        Task::spawn(hub, part, stop, make, std::future::pending)
    };
    Link { config, way, task }
}

fn start_sink(hub: &Hub, config: SinkConfig, way: Option<Rc<Way>>) -> Sink {
    let config = Rc::new(config);
    let (outlet, lever) = hub.outlet(plan::sink(&config));
    let part = hub.board().part(PartKind::Sink, config.name.as_str(), hub.now());
    let task = {
        let config = config.clone();
        let make = move || {
            let (config, outlet, way) = (config.clone(), outlet.clone(), way.clone());
            async move { sinks::run(&config, outlet, way).await.map_err(|e| e.to_string()) }
        };
        let lever = lever.clone();
        let woken = move || {
            let lever = lever.clone();
            async move {
                lever.changed().await;
            }
        };
        Task::spawn(hub, part, Stop::default(), make, woken)
    };
    Sink { config, lever, task }
}

fn start_endpoint(hub: &Hub, config: EndpointConfig) -> Endpoint {
    let store = hub.store();
    let part = hub.board().part(PartKind::Endpoint, "endpoint", hub.now());
    let stop = Stop::default();
    let again = Rc::new(Notify::new());
    let task = {
        let (config, ends, again) = (config.clone(), stop.clone(), again.clone());
        let woken = again.clone();
        let make = move || {
            let (config, store, ends, again) = (config.clone(), store.clone(), ends.clone(), again.clone());
            async move {
                tokio::select! {
                    result = endpoint::run(&config, store, again) => result.map_err(|e| e.to_string()),
                    () = ends.wait() => Ok(()),
                }
            }
        };
        let woken = move || {
            let woken = woken.clone();
            // A reload is a good moment to try again.
            async move { woken.notified().await }
        };
        Task::spawn(hub, part, stop, make, woken)
    };
    Endpoint { config, again, task }
}
