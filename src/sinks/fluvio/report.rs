//! What the driver says about itself: the worst thing first, a change once.

use tokio::time::Instant;

use super::driver::{Driver, Spu};
use crate::hub::PartState;
use crate::time::Span;

impl Driver {
    pub(super) fn report(&mut self) {
        if let Some(why) = self.feeds.iter_mut().find_map(|f| f.refused.take()) {
            self.warn(format!("a record was refused, see headwater-dead-letters: {why}"));
        }
        for (name, end) in self.tls.iter().flat_map(|tls| tls.ends()) {
            if let Some(end) = end {
                self.outlet.gauge(name, end);
            }
        }
        self.warned.take_if(|(_, until)| until.is_some_and(|until| until <= Instant::now()));
        let (state, retry_at) = self.state();
        let news = |(said, at): &(PartState, Option<Instant>)| {
            (said.label(), said.what(), *at) != (state.label(), state.what(), retry_at)
        };
        // A wait that shrinks is no news; a new wait is.
        if self.said.as_ref().is_none_or(news) {
            self.outlet.report(state.clone());
            self.said = Some((state, retry_at));
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
        if let Some(why) = &self.rejected {
            return down(why.clone(), None);
        }
        if let Some(problem) = self.meta.problems.first() {
            return down(problem.clone(), Some(self.visit_at));
        }
        let state = match (&self.warned, self.tls.as_ref().and_then(|tls| tls.warning(self.outlet.now()))) {
            (Some((what, _)), _) => PartState::warn(what.clone()),
            (None, _) if self.meta.sc.is_empty() => PartState::Starting,
            (None, Some(what)) => PartState::warn(what),
            (None, None) => PartState::up(format!("connected to {}", self.meta.sc)),
        };
        (state, None)
    }
}
