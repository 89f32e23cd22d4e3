//! The heartbeat: what a node behind carrier NAT says of itself every 15 minutes, as a record of `headwater-status`.
//!
//! It is paid for by the byte, so it is the status with everything left out that a fleet view does not need; names
//! are those of the status. The node marks the record as superseded by a newer one while it waits.

use serde::Serialize;

use super::status::Status;

#[derive(Serialize)]
struct Heartbeat<'a> {
    node: &'a str,
    version: &'a str,
    target: &'a str,
    config: &'a str,
    config_differs: bool,
    up_s: u64,
    boot: u32,
    clock_trusted: bool,
    time: &'a str,
    ring: Ring<'a>,
    /// Free bytes of the data directory's file system.
    disk_free: Option<u64>,
    sinks: Vec<Sink<'a>>,
    /// Sources, and other parts, that are not well: name and what they say.
    ill: Vec<(&'a str, &'a str)>,
}

#[derive(Serialize)]
struct Ring<'a> {
    id: &'a str,
    in_memory: bool,
    max_bytes: u64,
    pending_bytes: u64,
    room_s: Option<u64>,
    health: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    trouble: &'a str,
    written_today: u64,
    synced_bytes: u64,
    failed_syncs: u64,
    admitted: u64,
    evicted: u64,
    corrupt: u64,
    lost_unsynced: u64,
}

#[derive(Serialize)]
struct Sink<'a> {
    name: &'a str,
    state: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    what: &'a str,
    delivered: u64,
    filtered: u64,
    refused: u64,
    pending: u64,
    evicted: u64,
    lost: u64,
    duplicated: u64,
    maybe_duplicated: u64,
    /// Bytes that went over its link.
    sent_bytes: u64,
}

/// The record's value.
pub fn heartbeat(status: &Status) -> Vec<u8> {
    let ring = &status.ring;
    let lanes = |count: fn(&super::status::LaneStatus) -> u64| ring.lanes.iter().map(count).sum();
    let parts = status.sources.iter().chain(&status.parts);
    let beat = Heartbeat {
        node: &status.node,
        version: &status.version,
        target: &status.target,
        config: &status.config.hash,
        config_differs: status.config.differs,
        up_s: status.up_s,
        boot: status.boot,
        clock_trusted: status.clock.trusted,
        time: &status.clock.time,
        ring: Ring {
            id: &ring.id,
            in_memory: ring.in_memory,
            max_bytes: ring.max_bytes,
            pending_bytes: ring.pending_bytes,
            room_s: ring.room_s,
            health: &ring.health,
            trouble: &ring.trouble,
            written_today: ring.written_today,
            synced_bytes: ring.synced_bytes,
            failed_syncs: ring.failed_syncs,
            admitted: lanes(|l| l.admitted),
            evicted: lanes(|l| l.evicted),
            corrupt: lanes(|l| l.corrupt),
            lost_unsynced: lanes(|l| l.lost_unsynced),
        },
        disk_free: status.parts.iter().filter(|p| p.kind == "disk").find_map(|p| p.gauges.get("free_bytes").copied()),
        sinks: status.sinks.iter().filter(|s| s.configured).map(sink).collect(),
        ill: parts.filter(|p| p.state == "down" || p.state == "warn").map(|p| (&*p.name, &*p.what)).collect(),
    };
    // Strings, numbers and lists of them always serialize.
    serde_json::to_vec(&beat).unwrap_or_default()
}

fn sink(sink: &super::status::SinkStatus) -> Sink<'_> {
    let up = sink.part.state == "up";
    Sink {
        name: &sink.part.name,
        state: &sink.part.state,
        what: if up { "" } else { &sink.part.what },
        delivered: sink.delivered,
        filtered: sink.filtered,
        refused: sink.refused,
        pending: sink.pending,
        evicted: sink.evicted,
        lost: sink.expired + sink.corrupt + sink.lost_unsynced,
        duplicated: sink.duplicated,
        maybe_duplicated: sink.maybe_duplicated,
        sent_bytes: sink.part.counters.get("sent_bytes").copied().unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{sample, up_source};

    #[test]
    fn a_heartbeat_holds_what_a_fleet_view_needs_in_under_a_kilobyte() {
        let mut status = sample();
        status.sources.push(up_source());
        let bytes = heartbeat(&status);
        let beat: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(beat["node"], "pump-0417");
        assert_eq!(beat["config"], "9c1e44d0a7b2f310");
        assert_eq!(beat["ring"]["room_s"], 9 * 86_400 + 500);
        assert_eq!(beat["sinks"][0]["pending"], 48_211);
        assert_eq!(beat["sinks"][0]["what"], "connect sc.example:9003 timed out");
        assert_eq!(beat["ill"], serde_json::json!([]));
        assert!(bytes.len() < 1024, "{} bytes", bytes.len());
    }
}
