//! The driver: carries out what `forward` says over the connections that there are, and tells it what came of it.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use fluvio_protocol::link::ErrorCode;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::buffers::Extent;
use super::conn::plain;
use super::contents;
use super::feed::{Fed, Feed};
use super::fresh::Late;
use super::link::{GATES_EVERY, link_changed};
use super::meta::Meta;
use super::spu::{Request, SpuEvent};
use super::tls::Keeper;
use super::trouble::Trouble;
use super::turns;
use super::wire::{self, Malformed, Produce};
use crate::backoff::Backoff;
use crate::config::model::{FluvioSink, SinkConfig};
use crate::forward::{Input, Output, Pace, Query, Reject, Schedule, TargetIx, TopicIx};
use crate::hub::{Outlet, PartState, Tally, Way, counters};
use crate::time::Span;

/// Events that wait for the driver; more make the tasks wait.
const EVENTS: usize = 64;

pub(super) enum Event {
    Visited(Result<Meta, Trouble>),
    Spu { id: i32, generation: u64, event: SpuEvent },
}

/// A stream by its place in `feeds`, and a partition of it.
pub(super) type Place = (usize, TargetIx);

/// A connection to an SPU, or the wish for one.
pub(super) struct Spu {
    pub(super) generation: u64,
    pub(super) requests: Option<mpsc::Sender<Request>>,
    pub(super) up: bool,
    /// It is a node, and keeps count of what it has of whom.
    pub(super) counts: bool,
    pub(super) address: String,
    pub(super) members: BTreeSet<Place>,
    pub(super) backoff: Backoff,
    pub(super) retry_at: Instant,
    pub(super) trouble: Option<Trouble>,
}

#[derive(Clone, Copy)]
pub(super) enum Asked {
    Sent(Sent),
    Query(Query),
}

/// A batch under way.
#[derive(Clone, Copy)]
pub(super) struct Sent {
    /// As `forward` counts them.
    bytes: usize,
    records: u32,
    extent: Extent,
}

pub struct Driver {
    pub outlet: Outlet,
    pub(super) config: SinkConfig,
    pub(super) sink: FluvioSink,
    /// The link that it goes out through.
    pub(super) way: Option<Rc<Way>>,
    pub(super) pace: Pace,
    pub(super) tls: Option<Rc<Keeper>>,
    /// Addresses that have answered as they should.
    pub(super) known: Rc<RefCell<BTreeSet<String>>>,
    /// Of each lane the newest stream, in the order of the lanes; behind them those of older streams, see [`super::streams`].
    pub(super) feeds: Vec<Feed>,
    pub(super) schedule: Schedule,
    /// Feeds that could not offer more until something happens.
    pub(super) stuck: Vec<bool>,
    /// The first connection after a time without one was made.
    pub(super) came_back: bool,
    /// Bytes sent per feed since its cursor moved last.
    pub(super) sent: Vec<u64>,
    /// Partitions whose leader is to be connected to.
    pub(super) opens: BTreeSet<Place>,
    /// Which SPU a partition is on, and requests under way and since when.
    pub(super) on: BTreeMap<Place, i32>,
    pub(super) asked: BTreeMap<i32, (Place, Asked, Instant)>,
    pub(super) correlation: i32,
    pub(super) spus: BTreeMap<i32, Spu>,
    pub(super) generation: u64,
    pub(super) meta: Meta,
    pub(super) visiting: bool,
    pub(super) visit_wanted: bool,
    /// Topics that the last visit asked for.
    pub(super) looked_for: BTreeSet<String>,
    pub(super) visit_at: Instant,
    pub(super) visit_backoff: Backoff,
    pub(super) visit_trouble: Option<Trouble>,
    /// What SPUs said no to last, until the same partition takes something, or nothing waits for it any more.
    pub(super) rejected: BTreeMap<Place, String>,
    /// Something that happened, and until when it is shown.
    pub(super) warned: Option<(String, Instant)>,
    /// Whether its records come too late.
    pub(super) late: Rc<Late>,
    /// With when it is tried again.
    pub(super) said: Option<(PartState, Option<Instant>)>,
    pub(super) events: mpsc::Receiver<Event>,
    pub(super) tell: mpsc::Sender<Event>,
    pub(super) tasks: JoinSet<()>,
    pub(super) seed: u64,
}

impl Driver {
    pub fn new(config: &SinkConfig, sink: &FluvioSink, outlet: Outlet, way: Option<Rc<Way>>) -> Self {
        // Many nodes that lost the same upstream must not come back in step: the wall clock and the ring differ.
        let seed = outlet.ring_id().0 as u64 ^ outlet.now().wall.0 as u64;
        let (tell, events) = mpsc::channel(EVENTS);
        let now = Instant::now();
        let mut driver = Self {
            schedule: turns::schedule(sink, &outlet),
            late: Rc::default(),
            stuck: Vec::new(),
            sent: Vec::new(),
            feeds: Vec::new(),
            came_back: false,
            outlet,
            config: config.clone(),
            sink: sink.clone(),
            way,
            pace: Pace::new(sink.max_batch, sink.request_timeout),
            tls: sink.tls.as_ref().map(Keeper::new),
            known: Rc::default(),
            opens: BTreeSet::new(),
            on: BTreeMap::new(),
            asked: BTreeMap::new(),
            correlation: 1,
            spus: BTreeMap::new(),
            generation: 0,
            meta: Meta::default(),
            visiting: false,
            visit_wanted: true,
            looked_for: BTreeSet::new(),
            visit_at: now,
            visit_backoff: Backoff::new(sink.retry.0, sink.retry.1, seed),
            visit_trouble: None,
            rejected: BTreeMap::new(),
            warned: None,
            said: None,
            events,
            tell,
            tasks: JoinSet::new(),
            seed,
        };
        driver.begin_feeds();
        driver
    }

    /// One round: events, records, requests. True when there is more to do at once.
    pub async fn turn(&mut self) -> bool {
        while let Ok(event) = self.events.try_recv() {
            self.take(event);
        }
        // Ended tasks are only bookkeeping.
        while self.tasks.try_join_next().is_some() {}
        if std::mem::take(&mut self.came_back) {
            self.split().await;
        }
        self.mind_the_link().await;
        let (mut more, mut fed) = (false, false);
        for i in self.turns() {
            // What time has changed first: a lane whose wait is over takes records again, and nothing else says so; and
            // a Discard that an event left behind must not meet the bytes of new batches.
            more |= self.carry_out(i).await;
            // A stream goes on when those before it have no more, or can go no further now.
            if !fed {
                fed = self.feed(i).await;
                more |= fed;
            }
            more |= self.carry_out(i).await;
            more |= self.make_way(i);
        }
        self.connect();
        self.visit();
        self.report();
        more
    }

    /// Offers records of one stream; true when there are more.
    async fn feed(&mut self, i: usize) -> bool {
        if self.stuck[i] || self.is_closed(i) {
            return false;
        }
        self.look();
        if self.gives_way(i) {
            return false;
        }
        let limit = self.batch_limit(i);
        self.feeds[i].forward.limit_batches(limit);
        match self.feeds[i].turn(&mut self.outlet).await {
            Fed::More => return true,
            Fed::Gap => {
                self.outlet.persist().await;
                return true;
            }
            Fed::End => {}
            Fed::Full => self.stuck[i] = true,
            Fed::Letters if self.outlet.has_letters() => {
                self.outlet.persist().await;
                return true;
            }
            // What was sent is answered first.
            Fed::Letters => self.stuck[i] = true,
            Fed::Needs(topic) => {
                self.stuck[i] = true;
                self.tell_partitions(i, topic);
            }
        }
        false
    }

    /// Tells `forward` of a topic's partitions, or asks the SC.
    pub(super) fn tell_partitions(&mut self, i: usize, topic: TopicIx) {
        let forward = &mut self.feeds[i].forward;
        let name = forward.topic_name(topic).to_owned();
        match self.meta.topics.get(&name).map(|t| t.partitions).filter(|n| *n > 0) {
            Some(count) => {
                // It was made a moment ago: no lane can have a request on its way to it.
                let fresh = self.meta.created.contains(&name);
                let now = self.outlet.now().boot;
                forward.handle(now, Input::Partitions { topic, count, fresh });
            }
            None => self.visit_wanted = true,
        }
    }

    /// Does what `forward` of one stream wants; true when it wanted anything.
    pub(super) async fn carry_out(&mut self, i: usize) -> bool {
        let mut any = false;
        loop {
            let now = self.outlet.now().boot;
            let Some(output) = self.feeds[i].forward.poll(now) else { return any };
            any = true;
            self.stuck[i] = false;
            match output {
                Output::Open { target } => {
                    self.opens.insert((i, target));
                }
                Output::Refresh { topic } => {
                    let name = self.feeds[i].forward.topic_name(topic);
                    self.meta.topics.remove(name);
                    self.visit_wanted = true;
                }
                Output::Ask { target, query } => self.ask((i, target), query),
                Output::Send { target, batch } => self.send((i, target), &batch).await,
                Output::Discard { target } => self.feeds[i].buffers.discard(target.0 as usize),
                Output::Advance { to, tally, state, sync } => {
                    let to = crate::ring::LanePos { seq: to.seq, ordinal: to.ordinal };
                    self.advance(i, to, tally, &state);
                    if sync {
                        self.outlet.persist().await;
                        self.feeds[i].forward.handle(self.outlet.now().boot, Input::Synced);
                    }
                }
                Output::Note(note) => self.note(i, note),
            }
        }
    }

    fn advance(
        &mut self,
        i: usize,
        to: crate::ring::LanePos,
        tally: crate::forward::Tally,
        state: &[(Vec<u8>, Vec<u8>)],
    ) {
        let tally = Tally {
            delivered: tally.delivered,
            filtered: tally.filtered,
            refused: tally.refused,
            expired: tally.expired,
            released: tally.released,
        };
        let entries: Vec<_> = state.iter().map(|(k, v)| (k.as_slice(), Some(v.as_slice()))).collect();
        let bytes = std::mem::take(&mut self.sent[i]);
        self.outlet.advance(self.feeds[i].of, to, tally, bytes, &entries);
    }

    // ---- requests ----

    fn next_correlation(&mut self) -> i32 {
        self.correlation = self.correlation.wrapping_add(1).max(1);
        self.correlation
    }

    fn request(&mut self, place: Place, correlation: i32, frame: Vec<u8>, asked: Asked) {
        let requests = self.on.get(&place).and_then(|id| self.spus.get(id)).and_then(|s| s.requests.as_ref());
        // A task that has just ended tells so itself, and `forward` hears Down.
        let taken = requests.is_some_and(|r| r.try_send(Request { correlation, frame }).is_ok());
        if taken {
            self.asked.insert(correlation, (place, asked, Instant::now()));
        }
    }

    fn ask(&mut self, place: Place, query: Query) {
        let correlation = self.next_correlation();
        let (_, topic, partition) = self.feeds[place.0].forward.target_name(place.1);
        let frame = match query {
            Query::Offsets => wire::offsets(correlation, topic, partition),
            Query::Header { at } => Ok(wire::header(correlation, topic, partition, at)),
            Query::Producer { id, ring } => Ok(wire::producer(correlation, topic, partition, id, ring)),
            Query::Contents { from, .. } => {
                let most = self.sink.search_max.min(contents::MOST) as i32;
                Ok(wire::fetch(correlation, topic, partition, from, most))
            }
        };
        match frame {
            Ok(frame) => self.request(place, correlation, frame, Asked::Query(query)),
            Err(e) => drop(self.rejected.insert(place, plain(&e))),
        }
    }

    async fn send(&mut self, place: Place, batch: &crate::forward::Batch) {
        let correlation = self.next_correlation();
        let feed = &mut self.feeds[place.0];
        let Some((mut records, extent)) = feed.buffers.take(place.1.0 as usize, batch.id) else {
            debug_assert!(false, "a batch without bytes");
            // Never sent, so it must not be waited for: it is read again.
            let input = Input::Sent { target: place.1, result: Err(Reject::Retry) };
            feed.forward.handle(self.outlet.now().boot, input);
            return;
        };
        let (_, topic, partition) = feed.forward.target_name(place.1);
        let compression = self.meta.topics.get(topic).and_then(|t| t.compression).unwrap_or(self.sink.compression);
        // The SPU gives up before we do, so that its answer says what it knows.
        let timeout_ms = (self.sink.request_timeout.0 / 1000 * 3 / 4).clamp(1, i64::from(i32::MAX)) as i32;
        let produce = Produce { topic, partition, committed: !self.sink.acks_leader, timeout_ms, compression };
        let frame = produce.encode(correlation, batch, &mut records);
        feed.buffers.give_back(records);
        match frame {
            Ok(frame) => {
                let bytes = frame.len() as u64;
                self.sent[place.0] += bytes;
                self.schedule.sent(self.feeds[place.0].of.lane, self.feeds[place.0].newest, bytes);
                self.outlet.count(counters::SENT_BYTES, bytes);
                self.outlet.count(counters::SENT_BATCHES, 1);
                if let Some(way) = &self.way {
                    way.promise(bytes).await;
                    way.lay_to(self.feeds[place.0].of.lane, bytes);
                }
                let sent = Sent { bytes: batch.bytes, records: batch.records, extent };
                self.request(place, correlation, frame, Asked::Sent(sent));
            }
            Err(e) => {
                self.rejected.insert(place, e.to_string());
                let input = Input::Sent { target: place.1, result: Err(Reject::Retry) };
                self.feeds[place.0].forward.handle(self.outlet.now().boot, input);
            }
        }
    }

    fn answered(&mut self, correlation: i32, body: &[u8]) -> Result<(), Malformed> {
        let Some((place @ (i, target), asked, since)) = self.asked.remove(&correlation) else { return Ok(()) };
        let (now, took) = (self.outlet.now().boot, Span::from(since.elapsed()));
        match asked {
            Asked::Sent(sent) => {
                self.pace.answered(sent.bytes, took);
                // Not before: who greets and then hangs up would be greeted again and again.
                let spu = self.on.get(&place).and_then(|id| self.spus.get_mut(id));
                spu.into_iter().for_each(|spu| spu.backoff.reset());
            }
            Asked::Query(_) => self.pace.met(took),
        }
        let forward = &mut self.feeds[i].forward;
        let (_, topic, partition) = forward.target_name(target);
        let envelope = self.config.value == crate::envelope::ValueMode::Envelope;
        let mut refused = None;
        let mut reject = |code: ErrorCode| {
            let reject = wire::reject(&code);
            refused = Some((reject, format!("topic {topic} partition {partition}: {code}")));
            reject
        };
        let input = match asked {
            Asked::Sent(sent) => {
                let result = wire::read_produced(body, topic, partition)?.map_err(&mut reject);
                if result.is_ok() {
                    self.late.acknowledged(&self.outlet, sent.extent, sent.records);
                }
                Input::Sent { target, result }
            }
            Asked::Query(Query::Offsets) => {
                let result = wire::read_offsets(body, topic, partition)?.map_err(&mut reject);
                Input::Offsets { target, result }
            }
            Asked::Query(Query::Header { at }) => {
                let result = wire::read_header(body, topic, partition, at)?.map_err(&mut reject);
                Input::Header { target, result }
            }
            Asked::Query(Query::Contents { from, to }) => {
                let slice = wire::read_fetched(body, topic, partition, from)?.map_err(&mut reject);
                Input::Contents { target, result: slice.map(|slice| contents::read(slice, from, to, envelope)) }
            }
            Asked::Query(Query::Producer { .. }) => {
                let result = wire::read_producer(body)?.map_err(&mut reject);
                Input::Producer { target, result }
            }
        };
        match refused {
            // Halved or skipped: `forward` says which.
            Some((Reject::TooLarge, _)) => {}
            Some((_, why)) => drop(self.rejected.insert(place, why)),
            None if matches!(asked, Asked::Sent(_)) => drop(self.rejected.remove(&place)),
            None => {}
        }
        forward.handle(now, input);
        self.stuck[i] = false;
        Ok(())
    }

    // ---- events ----

    fn take(&mut self, event: Event) {
        self.stuck.fill(false);
        match event {
            Event::Visited(result) => self.visited(result),
            Event::Spu { id, generation, event } => {
                if self.spus.get(&id).is_some_and(|spu| spu.generation == generation) {
                    self.spu_event(id, event);
                }
            }
        }
    }

    fn spu_event(&mut self, id: i32, event: SpuEvent) {
        let Some(spu) = self.spus.get_mut(&id) else { return };
        match event {
            SpuEvent::Up { counts } => {
                (spu.up, spu.counts) = (true, counts);
                spu.trouble = None;
                self.pace.connected();
                self.came_back |= self.spus.values().filter(|spu| spu.up).count() == 1;
                self.outlet.count(counters::CONNECTS, 1);
            }
            SpuEvent::Answer { correlation, body } => {
                if let Err(e) = self.answered(correlation, &body) {
                    let address = self.spus.get(&id).map(|s| s.address.clone()).unwrap_or_default();
                    self.lost_spu(id, Some(Trouble::Broken { address, reason: e.to_string() }));
                }
            }
            SpuEvent::Down(trouble) => self.lost_spu(id, trouble),
        }
    }

    fn lost_spu(&mut self, id: i32, trouble: Option<Trouble>) {
        let Some(spu) = self.spus.get_mut(&id) else { return };
        let mapped = self.sink.spu_address.contains_key(&id);
        let was_up = std::mem::replace(&mut spu.up, false);
        spu.requests = None;
        spu.generation = 0;
        let members = std::mem::take(&mut spu.members);
        let (late, lost) = (matches!(&trouble, Some(Trouble::Unanswered { .. })), trouble.is_some());
        if let Some(trouble) = trouble {
            // An address that once worked is not the trouble.
            let right = was_up || self.known.borrow().contains(&spu.address);
            let trouble = if right { trouble } else { trouble.at_spu(id, &spu.address, mapped) };
            spu.trouble = Some(trouble);
            spu.retry_at = Instant::now() + spu.backoff.next_wait().to_std();
            // It may have moved, or its partitions may.
            self.visit_wanted = true;
        }
        let now = self.outlet.now().boot;
        let (pace, outlet) = (&mut self.pace, &self.outlet);
        self.asked.retain(|_, (place, asked, _)| {
            let gone = members.contains(place);
            if let (true, true, Asked::Sent(sent)) = (gone, lost, asked) {
                pace.unanswered(sent.bytes, late);
                outlet.count(counters::UNANSWERED, 1);
            }
            !gone
        });
        for place in members {
            self.on.remove(&place);
            self.feeds[place.0].forward.handle(now, Input::Down { target: place.1 });
        }
    }

    /// Ends all waits: somebody wants it to happen now.
    pub fn hurry(&mut self) {
        let now = Instant::now();
        self.visit_at = now;
        self.visit_wanted |= self.visit_trouble.is_some();
        for spu in self.spus.values_mut() {
            spu.retry_at = now;
        }
        self.stuck.fill(false);
        self.said = None;
    }

    /// Closes every connection and forgets what was under way.
    pub fn hang_up(&mut self) {
        self.tasks = JoinSet::new();
        while self.events.try_recv().is_ok() {}
        (self.visiting, self.visit_wanted) = (false, true);
        let ids: Vec<i32> = self.spus.keys().copied().collect();
        for id in ids {
            self.lost_spu(id, None);
        }
        self.asked.clear();
    }

    /// Whether records are on their way; `forward` counts what it would like to be sent as well.
    pub(super) fn awaits_answers(&self) -> bool {
        self.asked.values().any(|(_, asked, _)| matches!(asked, Asked::Sent(_)))
    }

    /// Stores what was answered, also what was taken note of a moment ago, and gives what is in flight until `deadline`:
    /// in another ring the records have other numbers, and what is not stored here is sent again from there.
    pub async fn leave(&mut self, deadline: Instant) {
        loop {
            self.turns().into_iter().for_each(|i| self.settle(i));
            if !self.awaits_answers() {
                break;
            }
            let Ok(Some(event)) = timeout_at(deadline, self.events.recv()).await else { break };
            self.take(event);
        }
        self.hang_up();
    }

    /// Stores what was acknowledged; sends nothing more.
    fn settle(&mut self, i: usize) {
        while let Some(output) = self.feeds[i].forward.poll(self.outlet.now().boot) {
            if let Output::Advance { to, tally, state, .. } = output {
                let to = crate::ring::LanePos { seq: to.seq, ordinal: to.ordinal };
                self.advance(i, to, tally, &state);
            }
        }
    }

    // ---- waiting ----

    /// Returns when there may be something to do.
    pub async fn idle(&mut self) {
        self.look();
        let now = Instant::now();
        let boot = self.outlet.now().boot;
        let soon = |at: crate::time::BootTime| now + (at - boot).to_std();
        let sent = self.feeds.iter().filter(|f| !f.over);
        let forward = sent.filter_map(|f| f.forward.next_timeout()).min().map(soon);
        let wanted = self.opens.iter().any(|place| !self.is_closed(place.0));
        let spus = self.spus.values().filter(|s| wanted && s.requests.is_none()).map(|s| s.retry_at).min();
        let visit = (self.visit_wanted && !self.visiting && !self.is_shut()).then_some(self.visit_at);
        // A gate may have moved while this one was busy elsewhere.
        let gates = self.way.as_ref().map(|_| now + GATES_EVERY);
        // Others wait for it until then.
        let overdue = self.next_overdue();
        let calm = self.warned.as_ref().map(|(_, until)| *until);
        let wake = [forward, spus, visit, calm, gates, overdue].into_iter().flatten().min();
        let waits = |i: &usize| !self.stuck[*i] && !self.gives_way(*i) && !self.is_closed(*i);
        let place = |i: usize| (self.feeds[i].of, self.feeds[i].read_pos());
        let places: Vec<_> = (0..self.feeds.len()).filter(waits).map(place).collect();
        let event = tokio::select! {
            event = self.events.recv() => event,
            () = self.outlet.wait_any(&places), if !places.is_empty() => None,
            () = self.late.changed() => None,
            () = link_changed(self.way.as_deref()) => {
                self.stuck.fill(false);
                None
            }
            () = sleep_until(wake.unwrap_or(now)), if wake.is_some() => {
                self.stuck.fill(false);
                None
            }
        };
        if let Some(event) = event {
            self.take(event);
        }
    }
}
