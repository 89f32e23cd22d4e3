//! Headwater: an edge stream node. See the README for what it does and `ring` for how it keeps it.
//!
//! Imports go down only; `tests/tidy.rs` checks it:
//!
//! ```text
//! 5  main, cli                                  one file per command
//! 4  node                                       the tokio loop, disk threads, supervisor, signals, reload
//! 3  sources sinks endpoint ops | hub | config  async adapters; hub = their handles onto the pipeline
//! ------------------------------------------ async stops here ------------------------------------------
//! 2  pipeline                                   pure composition
//! 1  rules | ring | forward | link              siblings, never importing each other
//! 0  record topic lane name time zone template json envelope framing codec certificate limits backoff
//! ```

pub mod backoff;
pub mod certificate;
pub mod cli;
pub mod codec;
pub mod config;
pub mod endpoint;
pub mod envelope;
pub mod forward;
pub mod framing;
pub mod hub;
pub mod json;
pub mod lane;
pub mod limits;
pub mod link;
pub mod name;
pub mod node;
pub mod ops;
pub mod pipeline;
pub mod record;
pub mod ring;
pub mod rules;
pub mod sinks;
pub mod sources;
pub mod template;
pub mod time;
pub mod topic;
pub mod zone;
