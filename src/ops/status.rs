//! The status: everything a person or a program may want to know of a running node, as one value.
//!
//! Built from the pipeline's numbers, the board and a few facts of the config; turned into JSON, into text, into
//! metrics, into a check line and into the heartbeat, so that none of them can disagree. All times in it are
//! lengths in seconds, because the wall clock may not be known; only `time` is wall time.
//!
//! The JSON is read by other versions' commands: fields are added, not renamed, and every one has a default.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::human::seconds;
use super::meter::{Day, Meter};
use crate::envelope::rfc3339;
use crate::hub::{Freshness, PartKind, PartState, PartView, counters};
use crate::name::Name;
use crate::pipeline::{Counts, SinkBook, Snapshot, StreamBook};
use crate::ring::Health;
use crate::rules::Told;
use crate::time::Now;

/// What the config and the build say about a node; replaced at reload.
#[derive(Clone, Debug)]
pub struct Facts {
    pub node: String,
    pub labels: BTreeMap<String, String>,
    pub config_hash: String,
    pub config_files: Vec<PathBuf>,
    pub warnings: Vec<String>,
    /// The files on disk are not the ones loaded any more.
    pub config_differs: Cell<bool>,
    pub started: Now,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    pub node: String,
    pub labels: BTreeMap<String, String>,
    pub version: String,
    pub target: String,
    pub config: ConfigStatus,
    pub up_s: u64,
    /// Number of this boot of the machine, as the ring counts them.
    pub boot: u32,
    pub stopping: bool,
    pub clock: ClockStatus,
    pub ring: RingStatus,
    pub sinks: Vec<SinkStatus>,
    pub sources: Vec<PartStatus>,
    /// Everything else: endpoint, http, control, disk, ...
    pub parts: Vec<PartStatus>,
    pub topics: Vec<TopicStatus>,
    pub rule_errors: u64,
    pub rules: Vec<RuleStatus>,
    /// Records that a rule failed on, were to have a dead letter, and have none.
    pub rule_letters_left_out: u64,
    pub events_dropped: u64,
}

/// A rule before the ring, since the start of the process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RuleStatus {
    pub name: String,
    pub records_in: u64,
    pub records_out: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub errors: u64,
    /// State entries that it forgot to make room for others.
    pub forgotten: u64,
    /// Bytes that came to it and did not go on; below zero where it makes more than it gets.
    pub bytes_saved: i64,
    /// Time that it took, estimated: one record in sixteen is timed.
    pub busy_us: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// Topics that it has stopped, each with the reason.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub stopped: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ConfigStatus {
    pub hash: String,
    pub files: Vec<PathBuf>,
    /// The files on disk differ from what is loaded.
    pub differs: bool,
    pub warnings: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClockStatus {
    pub trusted: bool,
    /// Since when it is so.
    pub for_s: u64,
    /// What the wall clock shows, right or not (RFC 3339).
    pub time: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RingStatus {
    pub id: String,
    /// Records are kept in memory because the disk cannot be used.
    pub in_memory: bool,
    /// The program is on trial until its update is confirmed: slots are begun in the format that the program before reads.
    pub on_trial: bool,
    /// The version of the format that slots are begun in.
    pub format: u8,
    pub max_bytes: u64,
    /// Bytes of the slots there are.
    pub used_bytes: u64,
    /// Bytes of the slots that hold records some sink has not passed.
    pub pending_bytes: u64,
    /// How long the ring can take what came in today before it must evict; 0 while it does. Absent when nothing came, and
    /// in the first hour.
    pub room_s: Option<u64>,
    /// In the last ten minutes records were evicted that some sink had not passed.
    pub evicting: bool,
    /// Bytes written to the device in the last 24 hours of running (`today_s` when it is less).
    pub written_today: u64,
    pub lost_today: u64,
    pub today_s: u64,
    /// `good`, `degraded` or `failed`.
    pub health: String,
    pub trouble: String,
    pub logical_bytes: u64,
    pub stored_bytes: u64,
    pub padded_bytes: u64,
    pub synced_bytes: u64,
    pub unsynced_bytes: u64,
    /// With `spill = "offline"`, while the sinks take what comes: bytes of `unsynced_bytes` that wait in memory for them.
    pub held_bytes: Option<u64>,
    pub commits: u64,
    pub syncs: u64,
    pub failed_syncs: u64,
    pub slots: u32,
    pub slot_bytes: u64,
    pub state_entries: u32,
    /// Entries (places of sources, sinks and rules) that found no room since the ring was opened.
    pub state_refused: u64,
    pub lanes: Vec<LaneStatus>,
    pub recovery: RecoveryStatus,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LaneStatus {
    pub name: String,
    pub admitted: u64,
    pub evicted: u64,
    pub corrupt: u64,
    pub lost_unsynced: u64,
    pub oldest_seq: u64,
    pub durable_seq: u64,
}

/// What the start found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RecoveryStatus {
    pub fresh: bool,
    pub cloned: bool,
    pub clean_shutdown: bool,
    /// Slots are there that are neither read nor written: of another ring, of a newer version, or in another's place.
    pub set_aside: bool,
    pub corrupt: u64,
    pub lost_unsynced: u64,
    pub tail_unknown: bool,
    pub notes: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PartStatus {
    pub kind: String,
    pub name: String,
    /// `starting`, `up`, `warn`, `down`, `paused`.
    pub state: String,
    pub what: String,
    /// Since when it is in this state.
    pub for_s: u64,
    /// When it tries again; 0 = trying now.
    pub next_try_s: Option<u64>,
    pub counters: BTreeMap<String, u64>,
    pub gauges: BTreeMap<String, u64>,
    /// What the rules did that stand before a sink, since the node started; a record that is read again counts again.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<RuleStatus>,
}

/// A sink and its account. In ring records: `admitted = delivered + filtered + refused + pending + evicted + expired
/// + corrupt + lost_unsynced + released`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SinkStatus {
    #[serde(flatten)]
    pub part: PartStatus,
    /// False: it left the config, its cursor is kept until `headwater sink forget`.
    pub configured: bool,
    pub admitted: u64,
    pub delivered: u64,
    pub filtered: u64,
    pub refused: u64,
    pub pending: u64,
    pub evicted: u64,
    pub expired: u64,
    pub corrupt: u64,
    pub lost_unsynced: u64,
    pub released: u64,
    pub duplicated: u64,
    pub maybe_duplicated: u64,
    /// Records of `headwater-dead-letters` that tell of what was refused, and how many were left out because there were too many
    /// at once; and why the newest one was refused.
    pub dead_letters: u64,
    pub dead_letters_left_out: u64,
    pub dead_letter_reason: Option<String>,
    /// What `pending` will take on the wire, estimated.
    pub to_send_bytes: u64,
    /// What of the ring is kept for it.
    pub held_bytes: u64,
    /// How long it will take, from the last time a backlog was sent.
    pub eta_s: Option<u64>,
    /// How long after their admission records were acknowledged, since the start; of sinks that learn of it.
    pub freshness: Option<FreshnessStatus>,
    /// Of lanes that are sent in more than one stream, the oldest first.
    pub streams: Vec<StreamStatus>,
    /// The account by topic and lane, of those topics of which something was counted or is pending; the sums are the
    /// sink's.
    pub topics: Vec<SinkTopicStatus>,
}

/// Ages at the acknowledgement, in seconds; those between the newest and the oldest of a batch are estimated.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FreshnessStatus {
    pub records: u64,
    /// Records beside these whose age nobody knows: of another boot, and a clock that was not trusted then or now.
    pub unknown: u64,
    pub p50_s: f64,
    pub p99_s: f64,
    pub max_s: f64,
    pub sum_s: f64,
    /// How many were no older than so many seconds.
    pub up_to: Vec<(f64, u64)>,
}

/// A range of a lane that is sent in order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StreamStatus {
    pub lane: String,
    pub number: u32,
    /// Everything below is accounted for; and where the stream ends: absent, it is the newest.
    pub cursor_seq: u64,
    pub end_seq: Option<u64>,
    pub pending: u64,
}

/// What of a sink's account is of one topic in one lane, in ring records.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SinkTopicStatus {
    /// Absent: of topics that nobody can tell any more, in all lanes.
    pub topic: Option<String>,
    pub lane: Option<String>,
    /// What became of it and what is pending, together.
    pub admitted: u64,
    pub pending: u64,
    #[serde(flatten)]
    pub counts: Counts,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TopicStatus {
    pub name: String,
    pub lane: String,
    pub partitions: Vec<PartitionStatus>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PartitionStatus {
    pub earliest: u64,
    pub end: u64,
}

/// `0.3.1`, as the build has it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The machine it was built for, `x86_64-linux-gnu`.
pub fn target() -> String {
    let env = if cfg!(target_env = "musl") { "musl" } else { "gnu" };
    format!("{}-{}-{env}", std::env::consts::ARCH, std::env::consts::OS)
}

/// How long the ring lasts is not told before it was watched this long.
const ROOM_KNOWN_S: u64 = 3600;

/// Puts the status together.
pub fn collect(now: Now, snapshot: &Snapshot, parts: &[PartView], facts: &Facts, meter: &Meter) -> Status {
    let day = meter.day(now, snapshot);
    let of = |kind: PartKind| parts.iter().filter(move |p| p.kind == kind).map(|p| part(now, p));
    let clock_since = parts.iter().find(|p| p.kind == PartKind::Clock).map_or(facts.started, |p| p.since);
    Status {
        node: facts.node.clone(),
        labels: facts.labels.clone(),
        version: VERSION.into(),
        target: target(),
        config: ConfigStatus {
            hash: facts.config_hash.clone(),
            files: facts.config_files.clone(),
            differs: facts.config_differs.get(),
            warnings: facts.warnings.clone(),
        },
        up_s: seconds(now.boot - facts.started.boot),
        boot: snapshot.boot,
        stopping: false,
        clock: ClockStatus {
            trusted: now.trusted,
            for_s: seconds(now.boot - clock_since.boot),
            time: rfc3339(now.wall).unwrap_or_default(),
        },
        ring: ring(snapshot, day, meter.is_evicting(now, snapshot)),
        sinks: sinks(now, snapshot, parts, meter),
        sources: of(PartKind::Source).collect(),
        parts: parts
            .iter()
            .filter(|p| !matches!(p.kind, PartKind::Source | PartKind::Sink))
            .map(|p| part(now, p))
            .collect(),
        topics: topics(snapshot),
        rule_errors: snapshot.rule_errors,
        rules: rules(snapshot),
        rule_letters_left_out: snapshot.rule_letters_left_out,
        events_dropped: 0,
    }
}

fn rules(snapshot: &Snapshot) -> Vec<RuleStatus> {
    let with_stopped = |(name, told): &(Name, Told)| {
        let stopped = snapshot.stopped.iter().filter(|stopped| stopped.rule == *name);
        let stopped = stopped.map(|stopped| (stopped.topic.to_string(), stopped.reason.clone())).collect();
        RuleStatus { stopped, ..rule(name, told) }
    };
    snapshot.rules.iter().map(with_stopped).collect()
}

fn rule(name: &Name, Told { tally, last_error }: &Told) -> RuleStatus {
    RuleStatus {
        name: name.to_string(),
        records_in: tally.records_in,
        records_out: tally.records_out,
        bytes_in: tally.bytes_in,
        bytes_out: tally.bytes_out,
        errors: tally.errors,
        forgotten: tally.forgotten,
        bytes_saved: tally.bytes_saved(),
        busy_us: tally.nanos / 1000,
        last_error: last_error.as_deref().map(str::to_owned),
        stopped: BTreeMap::new(),
    }
}

fn part(now: Now, view: &PartView) -> PartStatus {
    let named = |list: &[(&'static str, u64)]| list.iter().map(|(n, v)| ((*n).to_owned(), *v)).collect();
    PartStatus {
        kind: view.kind.as_str().into(),
        name: view.name.to_string(),
        state: view.state.label().into(),
        what: view.state.what().into(),
        for_s: seconds(now.boot - view.since.boot),
        next_try_s: view.next_try.map(|at| seconds(at - now.boot)),
        counters: named(&view.counters),
        gauges: named(&view.gauges),
        rules: view.rules.iter().map(|(name, told)| rule(name, told)).collect(),
    }
}

fn ring(snapshot: &Snapshot, day: Day, evicting: bool) -> RingStatus {
    let stats = &snapshot.ring;
    let pending = u64::from(stats.slots_pending) * stats.slot_bytes;
    let (health, trouble) = match &snapshot.health {
        Health::Good => ("good", ""),
        Health::Degraded(why) => ("degraded", why.as_str()),
        Health::Failed(why) => ("failed", why.as_str()),
    };
    let free = stats.max_bytes.saturating_sub(pending);
    let today_s = seconds(day.length);
    // A burst of a few minutes says nothing of a day.
    let room_s = (day.written > 0 && today_s >= ROOM_KNOWN_S)
        .then(|| (u128::from(free) * u128::from(today_s) / u128::from(day.written)) as u64);
    let report = &snapshot.recovery;
    RingStatus {
        id: format!("{:032x}", snapshot.ring_id.0),
        in_memory: snapshot.memory_mode,
        on_trial: stats.on_trial,
        format: stats.format,
        max_bytes: stats.max_bytes,
        used_bytes: u64::from(stats.slots) * stats.slot_bytes,
        pending_bytes: pending,
        room_s: if evicting { Some(0) } else { room_s },
        evicting,
        written_today: day.written,
        lost_today: day.lost,
        today_s,
        health: health.into(),
        trouble: trouble.into(),
        logical_bytes: stats.logical_bytes,
        stored_bytes: stats.stored_bytes,
        padded_bytes: stats.padded_bytes,
        synced_bytes: stats.synced_bytes,
        unsynced_bytes: stats.unsynced_bytes,
        held_bytes: stats.held_bytes,
        commits: stats.commits,
        syncs: stats.syncs,
        failed_syncs: stats.failed_syncs,
        slots: stats.slots,
        slot_bytes: stats.slot_bytes,
        state_entries: stats.state_entries,
        state_refused: stats.state_refused,
        lanes: lanes(snapshot),
        recovery: RecoveryStatus {
            fresh: report.fresh,
            cloned: report.cloned,
            clean_shutdown: report.clean_shutdown,
            set_aside: report.set_aside,
            corrupt: report.corrupt_records,
            lost_unsynced: report.lost_unsynced,
            tail_unknown: report.tail_unknown,
            notes: report.notes.clone(),
        },
    }
}

fn lane_name(snapshot: &Snapshot, lane: usize) -> String {
    snapshot.lanes.get(lane).map_or_else(|| lane.to_string(), |n| n.as_str().to_owned())
}

fn lanes(snapshot: &Snapshot) -> Vec<LaneStatus> {
    let lane = |(at, stats): (usize, &crate::ring::LaneStats)| LaneStatus {
        name: lane_name(snapshot, at),
        admitted: stats.admitted,
        evicted: stats.evicted,
        corrupt: stats.corrupt,
        lost_unsynced: stats.lost_unsynced,
        oldest_seq: stats.oldest.seq,
        durable_seq: stats.durable.seq,
    };
    snapshot.ring.lanes.iter().enumerate().map(lane).collect()
}

fn sinks(now: Now, snapshot: &Snapshot, parts: &[PartView], meter: &Meter) -> Vec<SinkStatus> {
    let sink = |book: &SinkBook| {
        let view = parts.iter().find(|p| p.kind == PartKind::Sink && *p.name == *book.name.as_str());
        let mut part = view.map_or_else(
            || PartStatus { kind: "sink".into(), name: book.name.as_str().into(), ..PartStatus::default() },
            |view| part(now, view),
        );
        if book.paused && part.state != PartState::Paused.label() {
            (part.state, part.what, part.next_try_s) = ("paused".into(), String::new(), None);
        }
        let counted = |name| view.map_or(0, |v| v.counter(name));
        SinkStatus {
            part,
            configured: book.configured,
            admitted: book.admitted,
            delivered: book.delivered,
            filtered: book.filtered,
            refused: book.refused,
            pending: book.pending,
            evicted: book.evicted,
            expired: book.expired,
            corrupt: book.corrupt,
            lost_unsynced: book.lost_unsynced,
            released: book.released,
            duplicated: counted(counters::DUPLICATED),
            maybe_duplicated: counted(counters::MAYBE_DUPLICATED),
            dead_letters: book.dead_letters.written,
            dead_letters_left_out: book.dead_letters.left_out,
            dead_letter_reason: Some(book.dead_letters.reason.clone()).filter(|reason| !reason.is_empty()),
            held_bytes: u64::from(book.held_slots) * snapshot.ring.slot_bytes,
            to_send_bytes: to_send(snapshot, book, counted(counters::SENT_BYTES)),
            eta_s: meter.eta(book.name.as_str(), book.pending).filter(|_| book.pending > 0),
            freshness: view.and_then(|view| view.freshness.as_deref()).map(freshness),
            streams: sink_streams(snapshot, book),
            topics: sink_topics(snapshot, book),
        }
    };
    snapshot.sinks.iter().map(sink).collect()
}

fn freshness(fresh: &Freshness) -> FreshnessStatus {
    FreshnessStatus {
        records: fresh.count(),
        unknown: fresh.unknown(),
        p50_s: fresh.quantile_s(500),
        p99_s: fresh.quantile_s(990),
        max_s: fresh.max_s(),
        sum_s: fresh.sum_s(),
        up_to: fresh.up_to().collect(),
    }
}

fn sink_streams(snapshot: &Snapshot, book: &SinkBook) -> Vec<StreamStatus> {
    let stream = |s: &StreamBook| StreamStatus {
        lane: lane_name(snapshot, s.lane.index()),
        number: s.number,
        cursor_seq: s.cursor,
        end_seq: s.to,
        pending: s.pending,
    };
    book.streams.iter().map(stream).collect()
}

fn sink_topics(snapshot: &Snapshot, book: &SinkBook) -> Vec<SinkTopicStatus> {
    let (mut rest, mut pending) = (book.unattributed, book.pending_unattributed);
    let mut topics = Vec::new();
    for part in &book.topics {
        match snapshot.topics.iter().find(|info| info.id == part.topic) {
            Some(info) => topics.push(SinkTopicStatus {
                topic: Some(info.name.as_str().into()),
                lane: Some(lane_name(snapshot, part.lane.index())),
                admitted: part.pending + part.counts.total(),
                pending: part.pending,
                counts: part.counts,
            }),
            None => (rest, pending) = (rest.plus(part.counts), pending + part.pending),
        }
    }
    if pending > 0 || rest != Counts::default() {
        let admitted = pending + rest.total();
        topics.push(SinkTopicStatus { topic: None, lane: None, admitted, pending, counts: rest });
    }
    topics
}

/// Bytes a backlog will take: as many a record as this sink sent so far, else as the ring stores.
fn to_send(snapshot: &Snapshot, book: &SinkBook, sent_bytes: u64) -> u64 {
    let admitted: u64 = snapshot.ring.lanes.iter().map(|l| l.admitted).sum();
    let (bytes, records) = if sent_bytes > 0 && book.delivered > 0 {
        (sent_bytes, book.delivered)
    } else {
        (snapshot.ring.stored_bytes, admitted)
    };
    if records == 0 { 0 } else { (u128::from(book.pending) * u128::from(bytes) / u128::from(records)) as u64 }
}

fn topics(snapshot: &Snapshot) -> Vec<TopicStatus> {
    let topic = |info: &crate::ring::TopicInfo| TopicStatus {
        name: info.name.as_str().into(),
        lane: lane_name(snapshot, info.lane.index()),
        partitions: info
            .partitions
            .iter()
            .map(|p| PartitionStatus { earliest: p.earliest, end: p.durable_end })
            .collect(),
    };
    snapshot.topics.iter().map(topic).collect()
}
