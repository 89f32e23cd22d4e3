//! The driver's connections: which SPUs are spoken to, and when the SC is visited.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::conn::Line;
use super::driver::{Driver, Event, Spu};
use super::meta::{self, Meta};
use super::spu;
use super::trouble::Trouble;
use crate::backoff::Backoff;
use crate::forward::Input;
use crate::limits::{MAX_LANES, MAX_UPSTREAM_PARTITIONS, MAX_UPSTREAM_TOPICS};

/// What an SPU's task has not taken yet: a request of each partition of each stream that is sent. It takes no room before.
const MAX_REQUESTS: usize = 2 * MAX_LANES * MAX_UPSTREAM_PARTITIONS;
/// Visits to the SC for the same topics are at least this far apart.
const VISIT_EVERY: Duration = Duration::from_secs(1);

impl Driver {
    /// Connects what is to be opened.
    pub(super) fn connect(&mut self) {
        let now = self.outlet.now().boot;
        for place in self.opens.clone() {
            let (_, topic, partition) = self.feeds[place.0].forward.target_name(place.1);
            let leader = self.meta.topics.get(topic).and_then(|t| t.leaders.get(&partition)).copied();
            if self.is_closed(place.0) {
                continue;
            }
            let Some(id) = leader else {
                self.visit_wanted = true;
                continue;
            };
            self.start_spu(id);
            let Some(spu) = self.spus.get_mut(&id).filter(|spu| spu.up) else { continue };
            spu.members.insert(place);
            self.opens.remove(&place);
            self.on.insert(place, id);
            let counts = spu.counts && !self.sink.markers_only;
            self.feeds[place.0].forward.handle(now, Input::Up { target: place.1, counts });
            self.stuck[place.0] = false;
        }
    }

    fn start_spu(&mut self, id: i32) {
        let seed = self.seed ^ id as u64;
        let spu = self.spus.entry(id).or_insert_with(|| Spu {
            generation: 0,
            requests: None,
            up: false,
            counts: false,
            address: String::new(),
            members: BTreeSet::new(),
            backoff: Backoff::new(self.sink.retry.0, self.sink.retry.1, seed),
            retry_at: Instant::now(),
            trouble: None,
        });
        if spu.requests.is_some() || Instant::now() < spu.retry_at {
            return;
        }
        let address = match self.meta.address_of(&self.sink, id) {
            Some(Ok(address)) => address,
            Some(Err(trouble)) => {
                spu.trouble = Some(trouble);
                spu.retry_at = Instant::now() + spu.backoff.next_wait().to_std();
                self.visit_wanted = true;
                return;
            }
            None => {
                self.visit_wanted = true;
                return;
            }
        };
        self.generation += 1;
        let generation = self.generation;
        let (sender, requests) = mpsc::channel(MAX_REQUESTS);
        (spu.generation, spu.requests, spu.address) = (generation, Some(sender), address.clone());
        let (tell, sink, line) = (self.tell.clone(), self.sink.clone(), self.line());
        self.tasks.spawn_local(async move {
            let tell = async |event| {
                // A driver that is gone needs no telling.
                let _ = tell.send(Event::Spu { id, generation, event }).await;
            };
            spu::run(address, sink, line, requests, tell).await;
        });
    }

    /// What a connection that begins now is made with.
    fn line(&self) -> Line {
        if let Some(tls) = &self.tls {
            tls.note_clock(self.outlet.now().trusted);
        }
        Line { way: self.way.clone(), interface: None, tls: self.tls.clone(), known: self.known.clone() }
    }

    pub(super) fn visit(&mut self) {
        if !self.visit_wanted || self.visiting || self.is_shut() {
            return;
        }
        let names = self.feeds.iter().flat_map(|f| f.forward.topics().map(|(_, name)| name.to_owned()));
        let wanted: BTreeSet<String> = names.take(MAX_UPSTREAM_TOPICS * self.feeds.len()).collect();
        // A topic that nobody has asked for yet need not wait, unless the SC is what is waited for.
        let news = self.visit_trouble.is_none() && !wanted.is_subset(&self.looked_for);
        if !news && Instant::now() < self.visit_at {
            return;
        }
        self.looked_for.clone_from(&wanted);
        (self.visiting, self.visit_wanted) = (true, false);
        let (tell, sink, line) = (self.tell.clone(), self.sink.clone(), self.line());
        self.tasks.spawn_local(async move {
            let result = meta::visit(&sink, &line, &wanted).await;
            let _ = tell.send(Event::Visited(result)).await;
        });
    }

    pub(super) fn visited(&mut self, result: Result<Meta, Trouble>) {
        self.visiting = false;
        let trouble = match result {
            Ok(meta) => {
                self.visit_at = Instant::now() + VISIT_EVERY;
                if meta.problems.is_empty() {
                    self.visit_backoff.reset();
                } else {
                    self.visit_wanted = true;
                    self.visit_at = Instant::now() + self.visit_backoff.next_wait().to_std();
                }
                self.meta = meta;
                for i in 0..self.feeds.len() {
                    let topics: Vec<_> = self.feeds[i].forward.topics().map(|(ix, _)| ix).collect();
                    for topic in topics {
                        if self.meta.topics.contains_key(self.feeds[i].forward.topic_name(topic)) {
                            self.tell_partitions(i, topic);
                        }
                    }
                }
                // Every lane that wanted them has heard; who comes later may have sent before.
                self.meta.created.clear();
                None
            }
            Err(trouble) => {
                self.visit_wanted = true;
                self.visit_at = Instant::now() + self.visit_backoff.next_wait().to_std();
                Some(trouble)
            }
        };
        self.visit_trouble = trouble;
    }
}
