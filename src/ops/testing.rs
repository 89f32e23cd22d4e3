//! Values that the tests of `ops` share.

use std::collections::BTreeMap;

use super::status::{ClockStatus, ConfigStatus, PartStatus, RecoveryStatus, RingStatus, SinkStatus, Status};
use crate::name::Name;
use crate::pipeline::{SinkBook, Snapshot};
use crate::ring::{Health, Report, RingId, Stats};
use crate::time::{BootTime, Now, WallTime};

pub fn at(seconds: i64) -> Now {
    let us = seconds * 1_000_000;
    Now { boot: BootTime(us), wall: WallTime(1_790_000_000_000_000 + us), trusted: true }
}

pub fn snapshot() -> Snapshot {
    Snapshot {
        ring_id: RingId(0xabc),
        boot: 3,
        ring: Stats::default(),
        health: Health::Good,
        recovery: Report { clean_shutdown: true, ..Report::default() },
        memory_mode: false,
        topics: Vec::new(),
        lanes: vec![Name::new("normal").unwrap()],
        sinks: Vec::new(),
        rule_errors: 0,
        rules: Vec::new(),
        stopped: Vec::new(),
        rule_letters_left_out: 0,
    }
}

pub fn book(name: &str) -> SinkBook {
    SinkBook::empty(Name::new(name).unwrap())
}

pub fn down_sink(name: &str) -> SinkStatus {
    SinkStatus {
        part: PartStatus {
            kind: "sink".into(),
            name: name.into(),
            state: "down".into(),
            what: "connect sc.example:9003 timed out".into(),
            for_s: 2 * 3600 + 11 * 60 + 7,
            next_try_s: Some(38),
            ..PartStatus::default()
        },
        configured: true,
        admitted: 1_048_211,
        delivered: 1_000_000,
        pending: 48_211,
        to_send_bytes: 3_250_586,
        eta_s: Some(230),
        ..SinkStatus::default()
    }
}

pub fn up_source() -> PartStatus {
    let counters = [("received", 1_204_332), ("filtered", 12), ("malformed", 0), ("lost_before_source", 3)];
    PartStatus {
        kind: "source".into(),
        name: "broker".into(),
        state: "up".into(),
        what: "connected to 10.0.0.5:1883".into(),
        for_s: 3 * 86_400 + 4 * 3600,
        next_try_s: None,
        counters: counters.map(|(n, v)| (n.to_owned(), v)).into(),
        gauges: BTreeMap::new(),
        rules: Vec::new(),
    }
}

/// The node of the example in the project's first issue.
pub fn sample() -> Status {
    Status {
        node: "pump-0417".into(),
        version: "0.3.1".into(),
        target: "aarch64-linux-musl".into(),
        config: ConfigStatus { hash: "9c1e44d0a7b2f310".into(), ..ConfigStatus::default() },
        up_s: 3 * 86_400 + 4 * 3600 + 300,
        boot: 7,
        clock: ClockStatus { trusted: true, for_s: 125, time: "2026-11-24T04:05:06.000000Z".into() },
        ring: RingStatus {
            id: "000000000000000000000000000000ab".into(),
            max_bytes: 1 << 30,
            used_bytes: 312 << 20,
            pending_bytes: 4 << 20,
            room_s: Some(9 * 86_400 + 500),
            written_today: 41_200_000,
            today_s: 86_400,
            health: "good".into(),
            recovery: RecoveryStatus { clean_shutdown: true, ..RecoveryStatus::default() },
            ..RingStatus::default()
        },
        sinks: vec![down_sink("hq")],
        ..Status::default()
    }
}
