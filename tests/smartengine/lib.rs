//! The host of SmartModules and the words it uses, compiled from the node's own sources: what is compared with the
//! reference.

#[path = "../../src/codec/mod.rs"]
pub mod codec;
#[path = "../../src/limits.rs"]
pub mod limits;
#[path = "../../src/record.rs"]
pub mod record;
pub mod rules;
#[path = "../../src/time.rs"]
pub mod time;
