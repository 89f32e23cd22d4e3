//! Whose turn it is: the driver's feeds in their order, and which of them leave the line to others.
//!
//! The shares are [`crate::forward::Schedule`]'s, which knows neither feeds nor requests. Here is what it asks: who sends or
//! could send now. That is a feed with records under way and more behind them, or one that has records and room for
//! them. One that waits for something else (a leader, an answer about partitions, its link, an SPU that hangs) keeps nobody
//! waiting.

use tokio::time::Instant;

use super::driver::Driver;
use super::feed::Feed;
use crate::config::model::FluvioSink;
use crate::forward::{Schedule, WHOLE, Wanting};
use crate::hub::Outlet;

/// The schedule that a sink's settings ask for.
pub(super) fn schedule(sink: &FluvioSink, outlet: &Outlet) -> Schedule {
    let weights: Vec<_> = sink.lane_weights.iter().map(|(name, weight)| (outlet.lane_named(name), *weight)).collect();
    // Older streams may be there from a time when they were wanted: then they go as they did.
    Schedule::new(sink.live_share.unwrap_or(WHOLE), &weights)
}

impl Driver {
    /// The order in which feeds have their turns: the newest streams, then the older ones, each in the order of the lanes.
    pub(super) fn turns(&self) -> Vec<usize> {
        let mut turns: Vec<usize> = (0..self.feeds.len()).filter(|i| !self.feeds[*i].over).collect();
        let newest = |lane| self.feeds.iter().position(|feed| feed.newest && feed.of.lane == lane);
        turns.sort_by_key(|i| (!self.feeds[*i].newest, newest(self.feeds[*i].of.lane)));
        turns
    }

    /// Takes note of who sends or could. Before [`Self::gives_way`].
    pub(super) fn look(&mut self) {
        let mut wanting = Wanting::default();
        // Usually there is nobody to leave the line to, and nobody is asked.
        if self.shares() {
            let wants = (0..self.feeds.len()).filter(|i| self.wants(*i)).map(|i| &self.feeds[i]);
            wants.for_each(|feed| wanting.add(feed.of.lane, feed.newest));
        }
        self.schedule.look(wanting);
    }

    /// Whether there is anybody to leave the line to.
    fn shares(&self) -> bool {
        self.schedule.has_weights() || self.feeds.iter().any(|feed| !feed.newest && !feed.over)
    }

    /// When a feed that is waited for will have waited too long itself; None: nobody waits for one.
    pub(super) fn next_overdue(&self) -> Option<Instant> {
        let (now, long) = (Instant::now(), self.pace.overdue().to_std());
        let asked = self.asked.values().filter(|_| self.shares());
        asked.map(|(_, _, since)| *since + long).filter(|at| *at > now).min()
    }

    /// Of what was asked for a feed nothing is answered as usual.
    fn hangs(&self, i: usize) -> bool {
        let long = self.pace.overdue().to_std();
        let mut asked = self.asked.values().filter(|(place, ..)| place.0 == i).peekable();
        asked.peek().is_some() && asked.all(|(_, _, since)| since.elapsed() >= long)
    }

    fn wants(&self, i: usize) -> bool {
        let feed = &self.feeds[i];
        let sends = |feed: &Feed| !feed.ended && feed.forward.held() > 0 && !self.hangs(i);
        let could = || !self.stuck[i] && self.outlet.has_more(feed.of, feed.read_pos());
        !feed.over && (sends(feed) || could()) && !self.is_closed(i)
    }

    /// Whether a feed leaves the line to another, which is owed something.
    pub(super) fn gives_way(&self, i: usize) -> bool {
        let feed = &self.feeds[i];
        feed.over || self.schedule.gives_way(feed.of.lane, feed.newest)
    }
}
