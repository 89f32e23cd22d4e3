//! The rules, with the host of SmartModules among them, and the words they use, compiled from the node's own sources: what is
//! compared with the reference.

#[path = "../../src/codec/mod.rs"]
pub mod codec;
#[path = "../../src/envelope.rs"]
pub mod envelope;
#[path = "../../src/json.rs"]
pub mod json;
#[path = "../../src/limits.rs"]
pub mod limits;
#[path = "../../src/name.rs"]
pub mod name;
#[path = "../../src/record.rs"]
pub mod record;
#[path = "../../src/rules/mod.rs"]
pub mod rules;
#[path = "../../src/template.rs"]
pub mod template;
#[path = "../../src/time.rs"]
pub mod time;
#[path = "../../src/topic.rs"]
pub mod topic;
#[path = "../../src/zone.rs"]
pub mod zone;
