//! Every bound of the node, in one place, with assertions on how the bounds relate.
//!
//! A queue, a name, a buffer or a loop that could grow takes its limit from here. Limits that a user sets are
//! checked by `config` against these.

/// Lanes a ring can hold: the frame header has room for the counters of this many.
pub const MAX_LANES: usize = 8;
/// Topics a node can hold.
pub const MAX_TOPICS: usize = 256;
/// Partitions of one topic.
pub const MAX_PARTITIONS: usize = 16;
/// Bytes of a topic name (Fluvio's own limit).
pub const MAX_TOPIC_NAME: usize = 63;
/// Bytes of the name of a source, rule, sink, lane or link.
pub const MAX_NAME: usize = 63;
/// Attributes of one record.
pub const MAX_ATTRS: usize = 16;
/// Sources, sinks and rules of one node.
pub const MAX_SOURCES: usize = 64;
pub const MAX_SINKS: usize = 16;
pub const MAX_LINKS: usize = 16;
pub const MAX_RULES: usize = 128;
/// Fields that one rule can name.
pub const MAX_RULE_FIELDS: usize = 64;
/// Streams of one sink in one lane.
pub const MAX_STREAMS: usize = 8;

/// The unit of everything on disk: headers and frames begin at multiples of it.
pub const PAGE: usize = 4096;
/// Raw bytes after which a frame is sealed.
pub const FRAME_RAW_TARGET: usize = 64 * 1024;
/// Raw bytes up to which a frame is kept open for a group: what a group may bring is known, what it does bring is
/// mostly less (a filter), and frames closed for it half full would double the syncs.
pub const FRAME_RAW_MOST: usize = FRAME_RAW_TARGET * 3 / 2;
/// The largest record: key, value and attributes together (also `slot / 4`, whichever is smaller).
pub const MAX_RECORD: usize = 512 * 1024;
/// Slots of the smallest ring.
pub const MIN_SLOTS: u64 = 16;
/// Slots a ring aims to have.
pub const TARGET_SLOTS: u64 = 64;
/// The smallest slot.
pub const MIN_SLOT: u64 = 256 * 1024;
/// The largest slot.
pub const MAX_SLOT: u64 = 4 * 1024 * 1024;
/// The largest ring: far beyond any card, and far from overflows.
pub const MAX_RING: u64 = 1 << 44;
/// The smallest ring.
pub const MIN_RING: u64 = MIN_SLOTS * MIN_SLOT;
/// Bytes of all state entries of one owner.
pub const MAX_STATE_OWNER_BYTES: usize = 64 * 1024;
/// State entries of one owner.
pub const MAX_STATE_OWNER_ENTRIES: usize = 4096;

/// Bytes of a SmartModule's file.
pub const MAX_WASM_BYTES: usize = 8 * 1024 * 1024;
/// Bytes of linear memory of one, and where it begins anew.
pub const MAX_WASM_MEMORY: usize = 16 * 1024 * 1024;
pub const WASM_REBUILD_ABOVE: usize = 6 * 1024 * 1024;
/// Bytes of linear memory of all of them.
pub const MAX_WASM_TOTAL: usize = 32 * 1024 * 1024;
/// Records of the past that one is shown at most.
pub const MAX_LOOK_BACK: u64 = 10_000;
/// Parameters of one, and bytes of a parameter: what its decoder takes.
pub const MAX_WASM_PARAMS: usize = 64;
pub const MAX_WASM_PARAM: usize = i16::MAX as usize;

/// Files that one `file` source follows: their checkpoints, 16 bytes of key and at most 24 of value, fit its state.
pub const MAX_FOLLOWED_FILES: usize = 1024;
/// Bytes of what these checkpoints have beside, to find a place again after a power cut; a quarter of all state in the
/// smallest ring.
pub const MAX_ANCHOR_BYTES: usize = 16 * 1024;

/// Bytes that wait in memory for the writer before sources are held back.
pub const MAX_UNSYNCED_BYTES: usize = 1024 * 1024;
/// Bytes of decompressed frames kept for readers.
pub const READ_CACHE_BYTES: usize = 512 * 1024;

/// The largest frame that the endpoint or the Fluvio sink reads from a peer.
pub const MAX_WIRE_FRAME: usize = 4 * 1024 * 1024;
/// Upstream topics of one sink and lane, and partitions of all of them together.
pub const MAX_UPSTREAM_TOPICS: usize = 256;
pub const MAX_UPSTREAM_PARTITIONS: usize = 1024;
/// Connections of the endpoint (each of its two ports), of the control socket, of the HTTP server.
pub const MAX_CONNECTIONS: usize = 64;
/// Tables of what clients of the endpoint may do, and bytes of a client's name there.
pub const MAX_ALLOWED: usize = 256;
pub const MAX_CLIENT_NAME: usize = 255;
/// Events kept in the ring for `headwater events`.
pub const MAX_EVENTS: usize = 1000;
/// Events that wait for the node to write them into their topic.
pub const MAX_EVENTS_WAITING: usize = 256;
/// State changes that one part may announce at once; a part that flaps then gets one every `EVENT_REFILL_SECS`.
pub const EVENT_BURST: u32 = 10;
pub const EVENT_REFILL_SECS: i64 = 60;
/// Counters, and gauges, of one part.
pub const MAX_COUNTERS: usize = 64;
/// Bytes of what a part says about its state: a peer's words end up in there.
pub const MAX_REPORT: usize = 512;

const _: () = {
    assert!(MIN_SLOT.is_multiple_of(PAGE as u64) && MAX_SLOT.is_multiple_of(PAGE as u64));
    // A record alone in its frame, its header, directory and padding must fit a slot beside the snapshot.
    assert!(MAX_RECORD as u64 <= MAX_SLOT / 4);
    assert!(FRAME_RAW_TARGET as u64 <= MIN_SLOT / 4 && FRAME_RAW_MOST as u64 <= MIN_SLOT / 2);
    // A whole frame can wait while the one before it is written.
    assert!(MAX_UNSYNCED_BYTES >= 2 * (MAX_RECORD / 2));
    // Two of the largest frames fit the cache, so that two sinks at different places make progress.
    assert!(READ_CACHE_BYTES >= 2 * FRAME_RAW_TARGET);
    assert!(MAX_UPSTREAM_PARTITIONS <= u16::MAX as usize && MAX_UPSTREAM_TOPICS <= MAX_UPSTREAM_PARTITIONS);
    assert!(MAX_FOLLOWED_FILES * 40 + MAX_ANCHOR_BYTES <= MAX_STATE_OWNER_BYTES);
    assert!(MAX_ANCHOR_BYTES <= MIN_SLOT as usize / 16);
    assert!(MAX_FOLLOWED_FILES < MAX_STATE_OWNER_ENTRIES);
    assert!(MAX_LANES <= u8::MAX as usize && MAX_PARTITIONS <= u8::MAX as usize + 1);
};
