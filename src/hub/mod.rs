//! The hub: the async side of the pipeline. Cloneable handles that the adapters hold.
//!
//! Everything runs on one thread: a handle is an `Rc` onto one [`Pipeline`](crate::pipeline::Pipeline), a call
//! into it is a plain function call, and nothing is queued between a source and its batch. `node` drives the disk.
//!
//! - [`Intake`]: a source's; offers events, learns when they are durable, keeps checkpoints.
//! - [`Outlet`]: a sink's; reads durable records in order, moves its cursor.
//! - [`Store`]: the endpoint's and the control socket's; topics, produce, read by offset.
//! - [`Board`]: what every part says about itself; becomes the status and the metrics.

mod admin;
mod board;
mod intake;
mod outlet;
mod store;

pub use admin::{Admin, Reply, Request};
pub use board::*;
pub use intake::{Group, Intake};
pub use outlet::{Outlet, SinkOrder, Step, Tally};
pub use store::{PartStep, Store};

/// What became of one offered event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// Settled (see [`Intake::settled`]) when the event may be acknowledged.
    pub ticket: crate::ring::Ticket,
    /// The place of its first output; None when the rules dropped it.
    pub first: Option<crate::ring::Appended>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OfferError {
    /// Wait for [`Intake::room`], then offer again. Nothing was taken.
    #[error("the disk is behind")]
    Busy,
    /// Larger than max_record: counted as refused; the source goes on (and may acknowledge it).
    #[error("record of {bytes} bytes is larger than the {limit} that fit this ring")]
    TooLarge { bytes: usize, limit: usize },
}
