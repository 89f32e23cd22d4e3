//! What the driver says about itself: the worst thing first, a change once.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use super::driver::{Driver, Spu};
use crate::config::units::show_span;
use crate::forward::{Note, TargetIx};
use crate::hub::{PartState, counters};
use crate::time::Span;

/// What happened and is over is on the page this long; the event of it stays.
const WARN_FOR: Duration = Duration::from_secs(600);

impl Driver {
    pub(super) fn warn(&mut self, what: String) {
        self.warned = Some((what, Instant::now() + WARN_FOR));
    }

    /// What `forward` says that a person should know.
    pub(super) fn note(&mut self, i: usize, note: Note) {
        let name = |target: TargetIx| {
            let (_, topic, partition) = self.feeds[i].forward.target_name(target);
            format!("topic {topic} partition {partition}")
        };
        match note {
            Note::Duplicated { count, .. } => self.outlet.count(counters::DUPLICATED, count),
            Note::MaybeDuplicated { count, .. } => self.outlet.count(counters::MAYBE_DUPLICATED, count),
            Note::UpstreamLoss { target, from, resending } => {
                let then = match (resending, self.sink.resend_on_loss) {
                    (true, _) => "sending again from there",
                    (false, false) => "going on as configured",
                    (false, true) => "nothing tells what is left of it, so nothing is sent again",
                };
                self.warn(format!(
                    "{} was truncated or recreated upstream: what came after seq {from} is gone; {then}",
                    name(target)
                ));
                self.outlet.count(counters::UPSTREAM_LOSSES, 1);
            }
            Note::Refused { target, seq } => {
                self.warn(format!(
                    "{} refuses record {seq} as too large: it is skipped and counted, see headwater-dead-letters",
                    name(target)
                ));
            }
            // For as long as it does, also after a restart: in `state`.
            Note::MarkersLost { .. } => {}
            Note::AnotherLife { target, .. } => {
                self.warn(format!(
                    "{} has records that were sent from this data directory and are not in it: a backup was put back, or \
                     the directory is in use twice. All that is new is sent, as by a new node; what waited in the backup may \
                     arrive twice and counts as maybe duplicated",
                    name(target)
                ));
                self.outlet.count(counters::BACKUPS_PUT_BACK, 1);
            }
        }
    }

    pub(super) fn report(&mut self) {
        if let Some(why) = self.feeds.iter_mut().find_map(|f| f.refused.take()) {
            self.warn(format!("a record was refused, see headwater-dead-letters: {why}"));
        }
        for (name, end) in self.tls.iter().flat_map(|tls| tls.ends()) {
            if let Some(end) = end {
                self.outlet.gauge(name, end);
            }
        }
        let (feeds, outlet) = (&self.feeds, &self.outlet);
        self.rejected.retain(|(i, _), _| outlet.has_more(feeds[*i].of, feeds[*i].cursor()));
        self.warned.take_if(|(_, until)| *until <= Instant::now());
        let (state, retry_at) = self.state();
        let state = self.with_lateness(state);
        let news = |(said, at): &(PartState, Option<Instant>)| {
            (said.label(), said.what(), *at) != (state.label(), state.what(), retry_at)
        };
        // A wait that shrinks is no news; a new wait is.
        if self.said.as_ref().is_none_or(news) {
            self.outlet.report(state.clone());
            self.said = Some((state, retry_at));
        }
    }

    /// What is to be known of partitions where markers do not survive, if there are any.
    fn rebuilds(&self) -> Option<String> {
        let feeds = self.feeds.iter().filter(|feed| !feed.over);
        let partitions: BTreeSet<(&str, u32)> = feeds.flat_map(|feed| feed.forward.rebuilding()).collect();
        self.outlet.gauge(counters::WITHOUT_MARKERS, partitions.len() as u64);
        let (topic, partition) = partitions.first()?;
        let others = if partitions.len() > 1 { format!(" and {} others", partitions.len() - 1) } else { String::new() };
        let then = match self.sink.only_writer {
            true => "what is there is found by what it says, as far as that goes",
            false => "what may be there is sent again and counted (nobody else writes there? only_writer = true)",
        };
        Some(format!(
            "topic {topic} partition {partition}{others} rebuilds batches (deduplication?): after a cut, {then}"
        ))
    }

    /// What is down says so; everything else is no more than late.
    fn with_lateness(&self, state: PartState) -> PartState {
        match self.late.bound() {
            Some(bound) if !matches!(state, PartState::Down { .. }) => {
                let (what, bound) = (state.what(), show_span(bound));
                let between = if what.is_empty() { "" } else { "; " };
                PartState::warn(format!("late: records wait longer than freshness_alarm ({bound}){between}{what}"))
            }
            _ => state,
        }
    }

    /// And when what is down is tried again.
    fn state(&self) -> (PartState, Option<Instant>) {
        let down = |what: String, at: Option<Instant>| {
            let wait = at.map(|at| Span::from(at.saturating_duration_since(Instant::now())));
            (PartState::down(what, wait), at)
        };
        if let Some(waits) = self.before_the_gate() {
            return (waits, None);
        }
        let needed = |spu: &&Spu| spu.requests.is_none() && !self.opens.is_empty();
        if let Some(trouble) = &self.visit_trouble {
            return down(trouble.to_string(), Some(self.visit_at));
        }
        if let Some((trouble, at)) =
            self.spus.values().filter(needed).find_map(|s| Some((s.trouble.as_ref()?, s.retry_at)))
        {
            return down(trouble.to_string(), Some(at));
        }
        if let Some(why) = self.rejected.values().next() {
            return down(why.clone(), None);
        }
        if let Some(problem) = self.meta.problems.first() {
            return down(problem.clone(), Some(self.visit_at));
        }
        let rebuilds = self.rebuilds();
        let state = match (&self.warned, self.tls.as_ref().and_then(|tls| tls.warning(self.outlet.now()))) {
            (Some((what, _)), _) => PartState::warn(what.clone()),
            (None, _) if self.meta.sc.is_empty() => PartState::Starting,
            (None, Some(what)) => PartState::warn(what),
            (None, None) if rebuilds.is_some() => PartState::warn(rebuilds.unwrap_or_default()),
            (None, None) => PartState::up(format!("connected to {}", self.meta.sc)),
        };
        (state, None)
    }
}
