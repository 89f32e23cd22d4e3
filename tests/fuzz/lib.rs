//! The ring and the words it uses, compiled from the node's own sources: what the fuzz targets call `headwater`.

#[path = "../../src/backoff.rs"]
pub mod backoff;
#[path = "../../src/lane.rs"]
pub mod lane;
#[path = "../../src/limits.rs"]
pub mod limits;
#[path = "../../src/name.rs"]
pub mod name;
#[path = "../../src/record.rs"]
pub mod record;
#[path = "../../src/ring/mod.rs"]
pub mod ring;
#[path = "../../src/time.rs"]
pub mod time;
#[path = "../../src/topic.rs"]
pub mod topic;
