//! In the wrong hands: the real binary in the situations that people get into, and what it shows them, word for word.
//!
//! Each test puts a node (or a command) into one situation, waits until what a person would look at says so, and holds
//! that text against a file of `tests/data/wrong/`. `HEADWATER_BLESS=1` writes the files anew: read the difference before
//! it is committed, as a tired technician at a remote site would. What differs from run to run is put in place of by one
//! word, nothing else; the list is [`golden::Normal`].
//!
//! - [`config`]: configs that are refused, by `check` and by `run`;
//! - [`machine`]: ports, permissions, disks, data directories;
//! - [`peers`]: what answers at the other end, and what does not;
//! - [`commands`]: commands that cannot find or use their node;
//! - [`reload`]: config files that change while the node runs;
//! - [`rules`]: cases, rules to be tried and new ones that are wrong;
//! - [`tools`]: rings that are exported, imported, looked at beside a node.
//!
//! What needs a right or a program that this machine does not have says `not available here`.

mod commands;
mod config;
mod golden;
mod machine;
#[allow(dead_code, reason = "shared: not every test program needs all of it")]
#[path = "../support/mosquitto.rs"]
mod mosquitto;
mod peers;
mod reload;
mod rules;
mod stand;
mod tools;
