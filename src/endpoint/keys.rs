//! The api keys of both ports, and what each port says it understands.

pub use crate::forward::turn::{PRODUCERS, PRODUCERS_VERSION};

pub const PRODUCE: u16 = 0;
pub const FETCH: u16 = 1;
pub const API_VERSIONS: u16 = 18;
pub const FETCH_OFFSETS: u16 = 1002;
pub const STREAM_FETCH: u16 = 1003;
pub const UPDATE_OFFSETS: u16 = 1005;
pub const UPDATE_CONSUMER_OFFSET: u16 = 1006;
pub const DELETE_CONSUMER_OFFSET: u16 = 1007;
pub const FETCH_CONSUMER_OFFSETS: u16 = 1008;

/// On the SC's port the same numbers mean something else.
pub mod sc {
    pub const CREATE: u16 = 1001;
    pub const DELETE: u16 = 1002;
    pub const LIST: u16 = 1003;
    pub const WATCH: u16 = 1004;
    pub const UPDATE: u16 = 1006;
}

/// The newest version of the SPU's requests.
pub const SPU_VERSION: i16 = 25;
/// The oldest one that is read: before it, smart modules stood elsewhere in the requests.
pub const SPU_OLDEST: i16 = 18;
/// The newest version of the SC's requests.
pub const SC_VERSION: i16 = 19;
/// The oldest one that is read.
pub const SC_OLDEST: i16 = 15;

/// The client id of another node's sink.
pub const NODE: &str = "headwater";

/// What a real SPU lists, to the byte: clients take the highest common version of each.
pub const SPU_KEYS: [(u16, i16, i16); 5] = [
    (PRODUCE, 0, SPU_VERSION),
    (FETCH, 0, SPU_VERSION),
    (FETCH_OFFSETS, SPU_VERSION, SPU_VERSION),
    (STREAM_FETCH, 0, SPU_VERSION),
    (UPDATE_OFFSETS, 0, 0),
];

/// What another node is told.
pub const SPU_KEYS_FOR_NODES: [(u16, i16, i16); 6] = {
    let [a, b, c, d, e] = SPU_KEYS;
    [a, b, c, d, e, (PRODUCERS, PRODUCERS_VERSION, PRODUCERS_VERSION)]
};

/// What a real SC lists, without mirroring (1005), which this node has in another form.
pub const SC_KEYS: [(u16, i16, i16); 5] = [
    (sc::CREATE, 9, SC_VERSION),
    (sc::DELETE, 1, SC_VERSION),
    (sc::LIST, SC_OLDEST, SC_VERSION),
    (sc::WATCH, SC_OLDEST, SC_VERSION),
    (sc::UPDATE, 1, SC_VERSION),
];

/// A real SPU says 0.0.0.
pub const SPU_PLATFORM: &str = "0.0.0";
/// The platform whose behaviour is followed; clients ask for a minimum.
pub const SC_PLATFORM: &str = "0.18.2";
