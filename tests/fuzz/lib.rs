//! What is fuzzed and the words it uses, compiled from the node's own sources: what the fuzz targets call `headwater`.

#[path = "../../src/backoff.rs"]
pub mod backoff;
#[path = "../../src/codec/mod.rs"]
pub mod codec;
#[path = "../../src/envelope.rs"]
pub mod envelope;
#[path = "../../src/forward/mod.rs"]
pub mod forward;
#[path = "../../src/json.rs"]
pub mod json;
#[path = "../../src/lane.rs"]
pub mod lane;
#[path = "../../src/limits.rs"]
pub mod limits;
#[path = "../../src/link/mod.rs"]
pub mod link;
#[path = "../../src/name.rs"]
pub mod name;
#[path = "../../src/record.rs"]
pub mod record;
#[path = "../../src/ring/mod.rs"]
pub mod ring;
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

/// Of the endpoint what takes requests apart.
#[path = "../../src/endpoint"]
pub mod endpoint {
    pub mod keys;
    pub mod request;
    pub mod wire;
}

/// Of the sink what takes answers apart.
#[path = "../../src/sinks"]
pub mod sinks {
    pub mod fluvio {
        pub mod answers;
        pub mod contents;
    }
}
