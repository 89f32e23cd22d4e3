//! What the driver says about itself: the worst thing first, a change once.

use tokio::time::Instant;

use super::driver::{Driver, Spu};
use crate::hub::PartState;
use crate::time::Span;

impl Driver {
    pub(super) fn report(&mut self) {
        if let Some(why) = self.feeds.iter_mut().find_map(|f| f.refused.take()) {
            self.warned = Some(format!("a record was refused: {why}"));
        }
        let state = self.state();
        if self.said.as_ref() != Some(&state) {
            self.outlet.report(state.clone());
            self.said = Some(state);
        }
    }

    fn state(&self) -> PartState {
        let wait = |at: Instant| Some(Span::from(at.saturating_duration_since(Instant::now())));
        let needed = |spu: &&Spu| spu.requests.is_none() && !self.opens.is_empty();
        if let Some(trouble) = &self.visit_trouble {
            // Said once for each try; the next try's time is part of it.
            return self.down(trouble.to_string(), wait(self.visit_at));
        }
        if let Some((trouble, at)) =
            self.spus.values().filter(needed).find_map(|s| Some((s.trouble.as_ref()?, s.retry_at)))
        {
            return self.down(trouble.to_string(), wait(at));
        }
        if let Some(why) = &self.rejected {
            return self.down(why.clone(), None);
        }
        if let Some(problem) = self.meta.problems.first() {
            return self.down(problem.clone(), wait(self.visit_at));
        }
        match &self.warned {
            Some(what) => PartState::warn(what.clone()),
            None if self.meta.sc.is_empty() => PartState::Starting,
            None => PartState::up(format!("connected to {}", self.meta.sc)),
        }
    }

    /// Down for the same reason as said before stays what was said: a wait that shrinks is no news.
    fn down(&self, what: String, retry: Option<Span>) -> PartState {
        match &self.said {
            Some(said @ PartState::Down { what: before, .. }) if *before == what => said.clone(),
            _ => PartState::down(what, retry),
        }
    }
}
