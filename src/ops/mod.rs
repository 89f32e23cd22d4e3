//! Ops: how people and their tools see a running node and tell it things.
//!
//! One [`Status`] is built from the hub's numbers and the board; everything else is a form of it: the page for people
//! ([`text`]), the check line for Nagios and its kin ([`check`]), metrics in Prometheus conventions ([`metrics`]), the
//! heartbeat record for nodes that nobody can reach ([`heartbeat`]).

pub mod check;
pub mod desk;
pub mod events;
pub mod heartbeat;
pub mod human;
pub mod meter;
pub mod metrics;
pub mod status;
#[cfg(test)]
pub mod testing;
pub mod text;

pub use desk::Desk;
pub use heartbeat::heartbeat;
pub use meter::Meter;
pub use status::{Facts, Status, collect};
