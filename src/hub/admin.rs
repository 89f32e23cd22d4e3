//! The handle of those who ask about the whole node or tell it something: the control socket and HTTP.

use std::rc::Rc;

use tokio::sync::oneshot;

use super::core::Core;
use super::{Board, SinkOrder};
use crate::lane::LaneId;
use crate::name::Name;
use crate::pipeline::Snapshot;
use crate::ring::Owner;
use crate::time::{Now, Span};

/// What a person asks of the running node; answered by `node`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Read the config files again and change what can change live.
    Reload,
    SinkPause(Name),
    SinkResume(Name),
    SinkFlush(Name),
    /// Drop the cursor and counters of a sink that left the config.
    SinkForget(Name),
    /// Take nothing in any more, until a reload.
    Cease,
}

/// Done, with what to tell the person; or refused, with why and what to do.
pub type Reply = Result<String, String>;

#[derive(Clone)]
pub struct Admin {
    core: Rc<Core>,
}

impl Admin {
    pub(super) fn new(core: &Rc<Core>) -> Self {
        Self { core: core.clone() }
    }

    pub fn now(&self) -> Now {
        self.core.now()
    }

    /// What every part says about itself.
    pub fn board(&self) -> Rc<Board> {
        self.core.board.clone()
    }

    /// Numbers of the ring, the topics and the sinks, as of now.
    pub fn snapshot(&self) -> Snapshot {
        let mut snapshot = self.core.pipeline.borrow().snapshot();
        for sink in &mut snapshot.sinks {
            sink.paused = self.core.lever(&sink.name).is_some_and(|lever| lever.order() == SinkOrder::Pause);
        }
        snapshot
    }

    /// All state entries of an owner, in key order.
    pub fn states(&self, owner: &Owner) -> Vec<(Vec<u8>, Vec<u8>)> {
        self.core.pipeline.borrow().ring().states(owner)
    }

    pub async fn request(&self, request: Request) -> Reply {
        let gone = || Err("the node is shutting down; ask again when it runs".to_owned());
        let (answer, reply) = oneshot::channel();
        if self.core.requests.send((request, answer)).await.is_err() {
            return gone();
        }
        reply.await.unwrap_or_else(|_| gone())
    }

    /// Records that sinks which are not paused still have to send, of what was durable at `ends`.
    fn waiting(&self, ends: &[u64]) -> bool {
        let pipeline = self.core.pipeline.borrow();
        let levers = self.core.levers.borrow();
        levers.iter().filter(|lever| lever.order() != SinkOrder::Pause).any(|lever| {
            let mut lanes = ends.iter().enumerate();
            lanes.any(|(lane, end)| pipeline.cursor(lever.id, LaneId(lane as u8)).seq < *end)
        })
    }

    /// Returns when every sink that is not paused is caught up with what had been admitted at the call.
    pub async fn drained(&self) {
        let ticket = self.core.pipeline.borrow().ring().last_ticket();
        self.core.hurry(Span::default());
        self.core.wait_settled(ticket).await;
        let ends: Vec<u64> = {
            let pipeline = self.core.pipeline.borrow();
            (0..pipeline.lanes() as u8).map(|lane| pipeline.ring().lane_durable(LaneId(lane)).seq).collect()
        };
        self.core.until(|| !self.waiting(&ends)).await;
    }

    pub fn is_stopping(&self) -> bool {
        self.core.stop.is_set()
    }

    pub async fn stopping(&self) {
        self.core.stop.wait().await;
    }
}
