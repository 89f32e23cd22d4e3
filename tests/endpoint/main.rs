//! The endpoint against what it imitates: a real cluster's recorded answers, the official Rust and Python clients, and
//! peers that do not keep to the protocol. For TLS, and for what clients may do: real nodes.

mod allow;
mod budget;
mod capture;
#[path = "../support/certs.rs"]
mod certs;
mod hostile;
mod interop;
#[path = "../node/node.rs"]
#[allow(dead_code, reason = "shared: not every test program needs all of it")]
mod node;
mod normal;
mod numbers;
mod produce;
mod producers;
mod raw;
mod replay;
mod server;
mod streams;
mod tls;
mod topics;
