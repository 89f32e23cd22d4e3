//! The driver before its link: what a closed gate keeps back, and how a link that shuts is left.
//!
//! A lane whose gate is closed offers no records and opens no partition, so its machine holds nothing and asks nothing. What
//! is in flight then is answered. When no lane may send, the connections are closed; what is known of the cluster is
//! kept, so that an opening window costs one connection and what a resume costs, no visit to the SC.

use std::time::Duration;

use super::driver::Driver;
use crate::hub::{PartState, Way, closed_words};
use crate::link::Gate;

/// How often the gates are looked at although nobody says that they moved.
pub(super) const GATES_EVERY: Duration = Duration::from_secs(10);
/// Of what a lane may still use, one batch has this part at most: other partitions and what surrounds it come as well.
const SHARE: u64 = 4;

impl Driver {
    /// Whether the lane of a feed may not send now.
    pub(super) fn is_closed(&self, i: usize) -> bool {
        self.gate(i) != Gate::Open
    }

    fn gate(&self, i: usize) -> Gate {
        self.way.as_ref().map_or(Gate::Open, |way| way.gate(self.feeds[i].of.lane))
    }

    /// Whether no lane may send.
    pub(super) fn is_shut(&self) -> bool {
        self.way.is_some() && !self.feeds.is_empty() && (0..self.feeds.len()).all(|i| self.is_closed(i))
    }

    /// Bytes of a batch: what is answered in time, and what the budget leaves.
    pub(super) fn batch_limit(&self, i: usize) -> usize {
        let left = self.way.as_ref().and_then(|way| way.left(self.feeds[i].of.lane));
        let left = left.map_or(usize::MAX, |left| usize::try_from(left / SHARE).unwrap_or(usize::MAX));
        self.pace.limit().min(left.max(1))
    }

    /// Leaves a link that has shut, once what is in flight is answered; makes a handshake's share of the budget durable else.
    pub(super) async fn mind_the_link(&mut self) {
        if self.way.is_none() {
            return;
        }
        if self.is_shut() {
            let connected = self.visiting || self.spus.values().any(|spu| spu.requests.is_some());
            if connected && !self.awaits_answers() {
                let knows = !self.meta.topics.is_empty();
                self.hang_up();
                self.visit_wanted = !knows;
            }
        } else if let Some(way) = &self.way {
            way.promise(CONNECTION).await;
        }
    }

    /// What a person sees while the link is shut.
    pub(super) fn before_the_gate(&self) -> Option<PartState> {
        let way = self.way.as_ref().filter(|_| self.is_shut())?;
        let what = closed_words(&way.name, self.gate(0))?;
        Some(PartState::Waits { what })
    }
}

/// What a connection and its questions may cost before the next batch.
const CONNECTION: u64 = 4 * 1024;

/// Returns when a gate may have moved.
pub(super) async fn link_changed(way: Option<&Way>) {
    match way {
        Some(way) => way.changed().await,
        None => std::future::pending().await,
    }
}
