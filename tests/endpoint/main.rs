//! The endpoint against what it imitates: a real cluster's recorded answers, the official Rust and Python clients, and
//! peers that do not keep to the protocol.

mod capture;
mod hostile;
mod live;
mod normal;
mod produce;
mod replay;
mod server;
