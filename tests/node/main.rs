//! The real binary, from outside: killed, stopped, cut off, misconfigured, asked and told. What it kept and what its
//! upstream stored is read from their rings, never through a client.
//!
//! Each test has its own directory and its own ports and ends only the processes that it started. Nothing here waits by
//! sleeping: what must come true is asked for until it does, and a test fails when it has not after [`node::patience`].

mod audit;
mod clusters;
mod commands;
mod dead_letters;
mod encryption;
mod flow;
mod freshness;
mod kill;
mod life;
mod link;
mod links;
mod load;
#[path = "../support/mosquitto.rs"]
#[allow(dead_code, reason = "shared: not every test program needs all of it")]
mod mosquitto;
mod netem;
mod newest_first;
mod node;
mod partitions;
mod ram_first;
mod reload;
mod restored;
mod rings;
mod rule;
mod tools;
mod trouble;
mod upstream;
mod wash;
mod weather;
