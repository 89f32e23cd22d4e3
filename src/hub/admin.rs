//! The handle of those who ask about the whole node or tell it something: the control socket and HTTP.

use std::rc::Rc;

use super::Board;
use crate::name::Name;
use crate::pipeline::Snapshot;
use crate::time::Now;

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
}

/// Done, with what to tell the person; or refused, with why and what to do.
pub type Reply = Result<String, String>;

#[derive(Clone)]
pub struct Admin {
    _todo: Rc<()>,
}

impl Admin {
    pub fn now(&self) -> Now {
        todo!()
    }
    /// What every part says about itself.
    pub fn board(&self) -> Rc<Board> {
        todo!()
    }
    /// Numbers of the ring, the topics, the sources and the sinks, as of now.
    pub fn snapshot(&self) -> Snapshot {
        todo!()
    }
    pub async fn request(&self, _request: Request) -> Reply {
        todo!()
    }
    /// Returns when every sink that is not paused is caught up with what was durable at the call.
    pub async fn drained(&self) {
        todo!()
    }
    pub fn is_stopping(&self) -> bool {
        todo!()
    }
    pub async fn stopping(&self) {
        todo!()
    }
}
