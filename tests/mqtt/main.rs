//! The `mqtt` source against a real Mosquitto, and against a scripted broker for what no real one does on demand.
//!
//! Each test starts its own broker on a free port with its own files and ends only that process. The source runs over a
//! real ring on a disk that can be held back and that can lose what was not synced.

mod fake;
#[path = "../support/mosquitto.rs"]
#[allow(dead_code, reason = "shared: not every test program needs all of it")]
mod mosquitto;
mod real;
mod scripted;
mod stand;
