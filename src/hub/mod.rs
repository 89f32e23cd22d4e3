//! The hub: the async side of the pipeline. Cloneable handles that the adapters hold.
//!
//! Everything runs on one thread: a handle is an `Rc` onto one [`Pipeline`], a call into it is a plain function call, and
//! nothing is queued between a source and its batch. `node` drives the disk through [`Hub`].
//!
//! - [`Intake`]: a source's; offers events, learns when they are durable, keeps checkpoints.
//! - [`Outlet`]: a sink's; reads durable records in order, moves its cursor.
//! - [`Store`]: the endpoint's and the control socket's; topics, produce, read by offset.
//! - [`Way`]: a link's, shared by its sinks; says when and how much may be sent.
//! - [`Admin`]: of those who ask about the whole node.
//! - [`Board`]: what every part says about itself; becomes the status and the metrics.

mod admin;
mod board;
mod core;
mod freshness;
mod intake;
mod outlet;
mod producers;
mod store;
#[cfg(test)]
mod tests;
mod way;

use std::rc::Rc;

pub use self::core::{Lever, Requests, Stop};
pub use admin::{Admin, Reply, Request};
pub use board::*;
pub use freshness::{BOUNDS_MS, Freshness};
pub use intake::{Group, Intake};
pub use outlet::{Outlet, SinkOrder, Step};
pub use producers::Producer;
pub use store::{Beside, Kept, PartStep, Store};
pub use way::{LINKS_OWNER, Way, closed_words};

pub use crate::pipeline::{Admitted, Fate, OfferError, Tally};

use crate::pipeline::{Pipeline, Plan, SinkPlan, SourcePlan};
use crate::ring::{Command, Completion, Ticket};
use crate::time::{BootTime, Now, Span};

/// The node's own handle: makes the others and drives the disk.
#[derive(Clone)]
pub struct Hub {
    core: Rc<core::Core>,
}

/// The monotonic clock, in nanoseconds: for how long something takes.
pub fn nanos() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

impl Hub {
    /// `clock` is asked whenever something happens; `Requests` are what [`Admin::request`] asks of the node.
    pub fn new(pipeline: Pipeline, clock: Box<dyn Fn() -> Now>, board: Rc<Board>) -> (Self, Requests) {
        let (core, requests) = core::Core::new(pipeline, clock, board);
        (Self { core }, requests)
    }

    pub fn now(&self) -> Now {
        self.core.now()
    }

    pub fn board(&self) -> &Rc<Board> {
        &self.core.board
    }

    /// A source's handle; `stop` ends this source alone.
    pub fn intake(&self, plan: SourcePlan, ack_memory: bool, stop: Stop) -> Intake {
        Intake::new(&self.core, plan, ack_memory, stop)
    }

    /// A sink's handle, and the lever that orders it about.
    pub fn outlet(&self, plan: SinkPlan) -> (Outlet, Rc<Lever>) {
        Outlet::new(&self.core, plan)
    }

    /// The sink left the config; its cursor stays.
    pub fn remove_sink(&self, lever: &Rc<Lever>) {
        self.core.levers.borrow_mut().retain(|known| !Rc::ptr_eq(known, lever));
        self.core.pipeline.borrow_mut().remove_sink(lever.id);
    }

    /// A link's handle, with what is stored of its use.
    pub fn way(&self, config: &crate::config::LinkConfig) -> Way {
        Way::new(&self.core, config)
    }

    pub fn store(&self) -> Store {
        Store::new(&self.core)
    }

    pub fn admin(&self) -> Admin {
        Admin::new(&self.core)
    }

    pub fn replan(&self, plan: Plan) {
        let now = self.now();
        let mut pipeline = self.core.pipeline.borrow_mut();
        pipeline.end_rules(now, &plan);
        pipeline.replan(plan);
        drop(pipeline);
        self.core.moved.notify_waiters();
        // What was held in memory perhaps goes to the disk now.
        self.kick();
    }

    /// The node shuts down.
    pub fn stop(&self) {
        self.core.stop.set();
    }

    pub fn with_pipeline<T>(&self, f: impl FnOnce(&mut Pipeline) -> T) -> T {
        f(&mut self.core.pipeline.borrow_mut())
    }

    // ---- the disk loop ----

    pub fn poll(&self) -> Option<Command> {
        let now = self.now();
        self.core.look();
        let command = self.core.pipeline.borrow_mut().poll(now);
        self.core.show();
        if self.core.pipeline.borrow_mut().take_past_shown() {
            self.core.moved.notify_waiters();
        }
        if command.is_none() && self.core.pipeline.borrow().ring().has_failed() {
            // Also where it failed for want of a slot, and no completion comes of it.
            self.core.moved.notify_waiters();
        }
        command
    }

    /// Returns when the ring cannot write any more.
    pub async fn failed(&self) {
        self.core.until(|| self.core.pipeline.borrow().ring().has_failed()).await;
    }

    pub fn next_timeout(&self) -> Option<BootTime> {
        self.core.pipeline.borrow().next_timeout()
    }

    pub fn complete(&self, completion: Completion) {
        let now = self.now();
        self.core.pipeline.borrow_mut().complete(now, completion);
        self.core.moved.notify_waiters();
    }

    /// The pipeline was used directly.
    pub fn kick(&self) {
        self.core.kick.notify_one();
    }

    /// What was taken so far is committed at once.
    pub fn hurry(&self) {
        self.core.hurry(Span::default());
    }

    /// Returns when a handle was used in a way that may give the disk something to do.
    pub async fn kicked(&self) {
        tokio::select! {
            () = self.core.kick.notified() => {}
            () = self.core.board.turned() => {}
        }
    }

    pub fn close(&self) -> Ticket {
        let now = self.now();
        let ticket = self.core.pipeline.borrow_mut().close(now);
        // The disk loop may be asleep for long: nothing else happens any more.
        self.kick();
        ticket
    }

    pub fn settled(&self) -> Ticket {
        self.core.settled()
    }
}
