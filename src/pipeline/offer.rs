//! A record's way in: offered by a source, a client or the node itself, through its topic's rules into the ring.

use super::route::{Outcome, Route, Stage, Way};
use super::{Admitted, CURSOR_RIDE, OfferError, Pipeline, RAM_FIRST_RIDE, SourceId};
use crate::envelope::{self, ValueMode};
use crate::record::{Flags, RecordRef};
use crate::rules::Env;
use crate::template::Context;
use crate::time::Now;
use crate::topic::{TopicId, TopicPart};

impl Pipeline {
    /// One event of a source: key and envelope by the source's plan, then the topic's rules, then the ring.
    pub fn offer(
        &mut self,
        now: Now,
        source: SourceId,
        part: TopicPart,
        record: &RecordRef<'_>,
    ) -> Result<Admitted, OfferError> {
        self.make_ready(now)?;
        if !self.in_group && self.is_source_held(source) {
            return Err(OfferError::Busy);
        }
        self.admit(now, Some(source), part, record)
    }

    /// A record of the node's own or of a Fluvio client: as it is, through the topic's rules.
    pub fn offer_plain(&mut self, now: Now, part: TopicPart, record: &RecordRef<'_>) -> Result<Admitted, OfferError> {
        self.make_ready(now)?;
        if self.is_held(part.topic) {
            return Err(OfferError::Busy);
        }
        self.admit(now, None, part, record)
    }

    /// Records that stay together in one frame. All or nothing is taken as far as room goes; a record that is too
    /// large refuses the whole batch before any of it is taken. `beside` puts state entries into the same frame.
    pub fn offer_batch<'a>(
        &mut self,
        now: Now,
        part: TopicPart,
        records: &mut dyn Iterator<Item = RecordRef<'a>>,
        bytes: usize,
        beside: &mut dyn FnMut(&mut Self, &[Admitted]),
    ) -> Result<Vec<Admitted>, OfferError> {
        let limit = self.ring.max_record();
        if bytes > limit {
            return Err(OfferError::TooLarge { bytes, limit });
        }
        if self.is_held(part.topic) {
            return Err(OfferError::Busy);
        }
        self.begin_group(now, bytes)?;
        let admitted: Result<Vec<_>, _> = records.map(|record| self.admit(now, None, part, &record)).collect();
        if let Ok(admitted) = &admitted {
            beside(self, admitted);
        }
        self.end_group(now);
        admitted
    }

    /// Until [`Pipeline::end_group`] everything offered and every state entry put share one frame per lane.
    pub fn begin_group(&mut self, now: Now, bytes: usize) -> Result<(), OfferError> {
        self.make_ready(now)?;
        self.ring.begin_group(now.boot, bytes).map_err(|_| OfferError::Busy)?;
        self.in_group = true;
        Ok(())
    }

    pub fn end_group(&mut self, now: Now) {
        self.in_group = false;
        self.ring.end_group(now.boot);
    }

    /// Through its topic's rules into the ring; of no source: as it is.
    fn admit(
        &mut self,
        now: Now,
        source: Option<SourceId>,
        part: TopicPart,
        record: &RecordRef<'_>,
    ) -> Result<Admitted, OfferError> {
        let group = self.rules_group(now, part.topic, record.len())?;
        let (time, outcome) = (self.time(now), self.outcome());
        let Self { ring, routes, sources, plan, key, value, .. } = self;
        let source = source.map(|source| &sources[source.0].plan);
        let mut route = take_route(routes, part.topic);
        let (topic, stages) = parts_of(&mut route);
        let context = Context {
            node: &plan.node,
            topic,
            source: source.map_or("", |source| source.name.as_str()),
            labels: &plan.labels,
        };
        let mut record = stamp(now, record);
        if let Some(template) = source.and_then(|source| source.key.as_ref()) {
            key.clear();
            if template.render(&context, &record, key) {
                record.key = Some(key);
            }
        }
        if source.is_some_and(|source| source.value == ValueMode::Envelope) {
            value.clear();
            let time = record.event_time.unwrap_or(now.wall);
            envelope::write(value, &context, &record, Some(time));
            record.value = value;
        }
        let mut way = Way { ring, routes, plan, env: Env { context, time: Some(time) }, outcome };
        way.run(stages, part, record);
        let outcome = way.outcome;
        put_route(&mut self.routes, part.topic, route);
        let admitted = self.admitted(now, part.topic, outcome);
        if group {
            self.end_group(now);
        }
        admitted
    }

    /// Begins a group for an event and what its rules keep of it, unless it is in one. False: no need.
    fn rules_group(&mut self, now: Now, topic: TopicId, bytes: usize) -> Result<bool, OfferError> {
        if !self.rules_keep {
            return Ok(false);
        }
        let begins = !self.in_group;
        if begins {
            self.begin_group(now, self.group_bytes(bytes))?;
        }
        let route = self.routes.get(topic.0 as usize).and_then(Option::as_ref);
        if let Some(beside) = route.and_then(|route| route.beside) {
            self.ring.group_beside(now.boot, beside);
        }
        Ok(begins)
    }

    fn admitted(&mut self, now: Now, origin: TopicId, outcome: Outcome) -> Result<Admitted, OfferError> {
        let outcome = self.settle_outcome(now, origin, outcome);
        match outcome.too_large {
            Some((bytes, limit)) if outcome.outputs == 0 => Err(OfferError::TooLarge { bytes, limit }),
            _ => Ok(Admitted { ticket: self.ring.last_ticket(), first: outcome.first, rule_errors: outcome.errors }),
        }
    }

    /// Room in the ring, and what rides along with the next frame put in front of it.
    pub(super) fn make_ready(&mut self, now: Now) -> Result<(), OfferError> {
        if self.in_group {
            return Ok(());
        }
        if !self.ring.has_room() {
            return Err(OfferError::Busy);
        }
        self.settle_rules(now.boot);
        self.note_clock(now);
        let ride = if self.ring.is_ram_first() { RAM_FIRST_RIDE } else { CURSOR_RIDE };
        if now.boot - self.cursors_put >= ride && self.ring.is_writing() {
            self.put_cursors(now.boot);
        }
        Ok(())
    }
}

/// A topic's route is out of the table while a record is on it: it is used beside the table, and a cycle ends.
fn take_route(routes: &mut [Option<Route>], topic: TopicId) -> Option<Route> {
    routes.get_mut(topic.0 as usize).and_then(Option::take)
}

fn put_route(routes: &mut [Option<Route>], topic: TopicId, route: Option<Route>) {
    if let Some(place) = routes.get_mut(topic.0 as usize) {
        *place = route;
    }
}

/// Without a route (the topic was removed) a record meets no rules.
fn parts_of(route: &mut Option<Route>) -> (&str, &mut [Stage]) {
    route.as_mut().map_or(("", &mut []), Route::parts)
}

fn stamp<'a>(now: Now, record: &RecordRef<'a>) -> RecordRef<'a> {
    let flags = if now.trusted { record.flags } else { record.flags.with(Flags::CLOCK_UNTRUSTED) };
    RecordRef { admitted: now.boot, flags, ..*record }
}
