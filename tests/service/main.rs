//! The node as a service: its unit, what it tells the service manager, and the commands that look after a device.

mod calls;
mod doctor;
#[path = "../disk/fault.rs"]
#[allow(dead_code, reason = "shared: calls of a disk that hang")]
mod fault;
#[path = "../node/node.rs"]
#[allow(dead_code, reason = "shared: what the node's tests ask of it")]
mod node;
mod notify;
mod retire;
mod unit;
