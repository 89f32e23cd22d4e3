//! The status in the Prometheus text format (version 0.0.4).
//!
//! Conventions: base units, `_total` on counters, one family in one run of lines under its `# HELP` and `# TYPE`.
//! Names and labels of a part's own counters come from the part: a source `broker` that counts `malformed` shows as
//! `headwater_source_malformed_total{source="broker"}`.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::fmt::Write;

use super::status::{LaneStatus, PartStatus, RuleStatus, SinkStatus, SinkTopicStatus, Status};

pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The whole page.
pub fn page(status: &Status) -> String {
    let mut page = Page(String::with_capacity(8 * 1024));
    node(&mut page, status);
    ring(&mut page, status);
    lanes(&mut page, &status.ring.lanes);
    sinks(&mut page, &status.sinks);
    freshness(&mut page, &status.sinks);
    states(&mut page, status);
    own_numbers(&mut page, status);
    topics(&mut page, status);
    process(&mut page);
    page.0
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        // Writing to a String cannot fail; so everywhere below.
        let _ = write!(self.0, "# HELP headwater_{name} {help}\n# TYPE headwater_{name} {kind}\n");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let _ = write!(self.0, "headwater_{name}");
        for (at, (label, text)) in labels.iter().enumerate() {
            let open = if at == 0 { '{' } else { ',' };
            let _ = write!(self.0, "{open}{label}=\"{}\"", escaped(text));
        }
        let close = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.0, "{close} {value}");
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, Kind::Gauge, help);
        self.sample(name, &[], value);
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, Kind::Counter, help);
        self.sample(name, &[], value);
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// A part's own counter name as a piece of a metric name.
fn sanitised(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' }).collect()
}

fn node(page: &mut Page, status: &Status) {
    page.family("build_info", Kind::Gauge, "Version and target of the binary, hash of the loaded config.");
    let labels = [
        ("node", status.node.as_str()),
        ("version", &status.version),
        ("target", &status.target),
        ("config", &status.config.hash),
    ];
    page.sample("build_info", &labels, 1);
    page.gauge("uptime_seconds", "Since the process started.", status.up_s);
    page.gauge(
        "clock_trusted",
        "1 while the kernel says that the wall clock is synchronised.",
        u8::from(status.clock.trusted),
    );
    page.gauge("config_differs", "1 when the config files are not the ones loaded.", u8::from(status.config.differs));
    page.counter("rule_errors_total", "Times a rule before the ring failed on a record.", status.rule_errors);
    rules(page, status);
    page.counter("events_dropped_total", "State changes that could not be kept.", status.events_dropped);
}

/// Rules before the ring, and with a sink's name those before that.
fn rules(page: &mut Page, status: &Status) {
    type Count = (&'static str, &'static str, fn(&RuleStatus) -> Box<dyn Display>);
    let counts: [Count; 7] = [
        ("rule_records_in_total", "Records that came to a rule.", |rule| Box::new(rule.records_in)),
        ("rule_records_out_total", "Records that it let on, or made.", |rule| Box::new(rule.records_out)),
        ("rule_bytes_in_total", "Bytes of keys, values and attributes that came to it.", |rule| {
            Box::new(rule.bytes_in)
        }),
        ("rule_bytes_out_total", "Bytes that it let on, or made.", |rule| Box::new(rule.bytes_out)),
        ("rule_failures_total", "Records that it failed on.", |rule| Box::new(rule.errors)),
        ("rule_forgotten_total", "State entries that it forgot to make room for others.", |rule| {
            Box::new(rule.forgotten)
        }),
        ("rule_busy_seconds_total", "Time that a rule took, estimated: one record in sixteen is timed.", |rule| {
            Box::new(rule.busy_us as f64 / 1e6)
        }),
    ];
    let before_sinks =
        || status.sinks.iter().flat_map(|sink| sink.part.rules.iter().map(|rule| (&sink.part.name, rule)));
    let some = !status.rules.is_empty() || before_sinks().next().is_some();
    for (name, help, count) in counts.iter().filter(|_| some) {
        page.family(name, Kind::Counter, help);
        for rule in &status.rules {
            page.sample(name, &[("rule", &rule.name)], count(rule));
        }
        for (sink, rule) in before_sinks() {
            page.sample(name, &[("rule", &rule.name), ("sink", sink)], count(rule));
        }
    }
    if !status.rules.is_empty() {
        page.family("rule_stopped_topics", Kind::Gauge, "Topics that a rule has stopped until the next reload.");
        for rule in &status.rules {
            page.sample("rule_stopped_topics", &[("rule", &rule.name)], rule.stopped.len());
        }
    }
}

fn ring(page: &mut Page, status: &Status) {
    let ring = &status.ring;
    page.gauge("ring_in_memory", "1 in memory mode: a power cut loses what waits.", u8::from(ring.in_memory));
    page.gauge("ring_healthy", "0 when the ring works around trouble or failed.", u8::from(ring.health == "good"));
    page.gauge("ring_max_bytes", "The ring's cap.", ring.max_bytes);
    page.gauge("ring_used_bytes", "Bytes of the slots there are.", ring.used_bytes);
    page.gauge("ring_pending_bytes", "Bytes of slots that hold records some sink has not passed.", ring.pending_bytes);
    if let Some(room) = ring.room_s {
        page.gauge("ring_room_seconds", "Time until the ring is full at today's rate.", room);
    }
    page.gauge("ring_unsynced_bytes", "Bytes that wait for the writer.", ring.unsynced_bytes);
    if let Some(held) = ring.held_bytes {
        page.gauge("ring_held_bytes", "Bytes in memory that sinks take before they are written.", held);
    }
    page.gauge("ring_state_entries", "State entries of all owners.", ring.state_entries);
    let help = "State entries that found no room since the ring was opened.";
    page.family("ring_state_refused_total", Kind::Counter, help);
    page.sample("ring_state_refused_total", &[], ring.state_refused);
    page.counter("ring_logical_bytes_total", "Bytes of records, over the ring's life.", ring.logical_bytes);
    page.counter(
        "ring_stored_bytes_total",
        "Bytes of frames after compression, over the ring's life.",
        ring.stored_bytes,
    );
    page.counter("ring_padded_bytes_total", "Bytes of frames with padding, over the ring's life.", ring.padded_bytes);
    page.counter("ring_synced_bytes_total", "Bytes synced to the device, over the ring's life.", ring.synced_bytes);
    page.counter("ring_commits_total", "Commits over the ring's life.", ring.commits);
    page.counter("ring_syncs_total", "Syncs of this process.", ring.syncs);
    page.counter("ring_failed_syncs_total", "Failed syncs of this process.", ring.failed_syncs);
}

fn lanes(page: &mut Page, lanes: &[LaneStatus]) {
    page.family("lane_admitted_records_total", Kind::Counter, "Records taken into the ring.");
    for lane in lanes {
        page.sample("lane_admitted_records_total", &[("lane", &lane.name)], lane.admitted);
    }
    page.family("lane_lost_records_total", Kind::Counter, "Records that can no longer be read, by reason.");
    for lane in lanes {
        let reasons = [("evicted", lane.evicted), ("corrupt", lane.corrupt), ("lost_unsynced", lane.lost_unsynced)];
        for (reason, count) in reasons {
            page.sample("lane_lost_records_total", &[("lane", &lane.name), ("reason", reason)], count);
        }
    }
}

fn sinks(page: &mut Page, sinks: &[SinkStatus]) {
    page.family("sink_records_total", Kind::Counter, "What became of the records admitted for a sink.");
    for sink in sinks {
        let outcomes = [
            ("delivered", sink.delivered),
            ("filtered", sink.filtered),
            ("refused", sink.refused),
            ("evicted", sink.evicted),
            ("expired", sink.expired),
            ("corrupt", sink.corrupt),
            ("lost_unsynced", sink.lost_unsynced),
            ("released", sink.released),
        ];
        for (outcome, count) in outcomes {
            page.sample("sink_records_total", &[("sink", &sink.part.name), ("outcome", outcome)], count);
        }
    }
    page.family("sink_dead_letters_total", Kind::Counter, "Refused records that became dead letters.");
    for sink in sinks {
        page.sample("sink_dead_letters_total", &[("sink", &sink.part.name)], sink.dead_letters);
    }
    page.family(
        "sink_dead_letters_left_out_total",
        Kind::Counter,
        "Refused records beyond what a sink may write of them.",
    );
    for sink in sinks {
        page.sample("sink_dead_letters_left_out_total", &[("sink", &sink.part.name)], sink.dead_letters_left_out);
    }
    let help = "The same by topic and lane, what is not 0; without a topic: of topics that nobody can tell.";
    page.family("sink_topic_records_total", Kind::Counter, help);
    for (labels, part) in topics_of(sinks) {
        for (outcome, count) in part.counts.named().into_iter().filter(|(_, count)| *count > 0) {
            let [sink, topic, lane] = labels;
            page.sample("sink_topic_records_total", &[sink, topic, lane, ("outcome", outcome)], count);
        }
    }
    page.family("sink_topic_pending_records", Kind::Gauge, "Durable records that wait for a sink, by topic and lane.");
    for (labels, part) in topics_of(sinks) {
        page.sample("sink_topic_pending_records", &labels, part.pending);
    }
    type Column = (&'static str, Kind, &'static str, fn(&SinkStatus) -> Option<u64>);
    let columns: [Column; 5] = [
        ("sink_admitted_records_total", Kind::Counter, "Records admitted for a sink.", |s| Some(s.admitted)),
        ("sink_pending_records", Kind::Gauge, "Durable records that wait for a sink.", |s| Some(s.pending)),
        ("sink_held_bytes", Kind::Gauge, "What of the ring is kept for them.", |s| Some(s.held_bytes)),
        ("sink_pending_bytes", Kind::Gauge, "What they will take on the wire, estimated.", |s| Some(s.to_send_bytes)),
        ("sink_pending_seconds", Kind::Gauge, "How long they will take, estimated.", |s| s.eta_s),
    ];
    for (name, kind, help, value) in columns {
        page.family(name, kind, help);
        for sink in sinks {
            if let Some(value) = value(sink) {
                page.sample(name, &[("sink", &sink.part.name)], value);
            }
        }
    }
}

/// How old records were when they were acknowledged.
fn freshness(page: &mut Page, sinks: &[SinkStatus]) {
    let known = || sinks.iter().filter_map(|sink| Some((("sink", &*sink.part.name), sink.freshness.as_ref()?)));
    let help = "Ages of records when the upstream acknowledged them, from their admission.";
    page.family("sink_freshness_seconds", Kind::Histogram, help);
    for (sink, fresh) in known() {
        for (bound, count) in &fresh.up_to {
            page.sample("sink_freshness_seconds_bucket", &[sink, ("le", &bound.to_string())], count);
        }
        page.sample("sink_freshness_seconds_bucket", &[sink, ("le", "+Inf")], fresh.records);
        page.sample("sink_freshness_seconds_sum", &[sink], fresh.sum_s);
        page.sample("sink_freshness_seconds_count", &[sink], fresh.records);
    }
    let help = "Acknowledged records of another boot whose age no trusted clock tells.";
    page.family("sink_freshness_unknown_records_total", Kind::Counter, help);
    for (sink, fresh) in known() {
        page.sample("sink_freshness_unknown_records_total", &[sink], fresh.unknown);
    }
}

/// Each sink's part of each topic, with what names it.
fn topics_of(sinks: &[SinkStatus]) -> impl Iterator<Item = ([(&str, &str); 3], &SinkTopicStatus)> {
    sinks.iter().flat_map(|sink| {
        sink.topics.iter().map(|part| {
            let (topic, lane) = (part.topic.as_deref().unwrap_or_default(), part.lane.as_deref().unwrap_or_default());
            ([("sink", &*sink.part.name), ("topic", topic), ("lane", lane)], part)
        })
    })
}

fn all_parts(status: &Status) -> impl Iterator<Item = &PartStatus> {
    status.sinks.iter().map(|s| &s.part).chain(&status.sources).chain(&status.parts)
}

fn states(page: &mut Page, status: &Status) {
    page.family("part_up", Kind::Gauge, "1 when a part works, warnings included.");
    for part in all_parts(status) {
        let up = u8::from(part.state == "up" || part.state == "warn");
        page.sample("part_up", &[("kind", &part.kind), ("name", &part.name)], up);
    }
    page.family("part_state_seconds", Kind::Gauge, "How long a part has been in its state.");
    for part in all_parts(status) {
        page.sample(
            "part_state_seconds",
            &[("kind", &part.kind), ("name", &part.name), ("state", &part.state)],
            part.for_s,
        );
    }
}

/// Counters and gauges that the parts name themselves, one family per kind and name.
fn own_numbers(page: &mut Page, status: &Status) {
    type Samples<'a> = Vec<(&'a str, u64)>;
    let mut families: BTreeMap<(String, Kind), (&str, Samples<'_>)> = BTreeMap::new();
    for part in all_parts(status) {
        let mut add = |name: String, kind, value| {
            families.entry((name, kind)).or_insert((&part.kind, Vec::new())).1.push((&part.name, value));
        };
        for (name, value) in &part.counters {
            add(format!("{}_{}_total", part.kind, sanitised(name)), Kind::Counter, *value);
        }
        for (name, value) in &part.gauges {
            add(format!("{}_{}", part.kind, sanitised(name)), Kind::Gauge, *value);
        }
    }
    for ((name, kind), (part_kind, samples)) in families {
        page.family(&name, kind, &format!("Counted by the {part_kind} itself."));
        for (part, value) in samples {
            page.sample(&name, &[(part_kind, part)], value);
        }
    }
}

fn topics(page: &mut Page, status: &Status) {
    page.family("topic_end_offset", Kind::Gauge, "One past the newest durable record of a partition.");
    for topic in &status.topics {
        for (number, partition) in topic.partitions.iter().enumerate() {
            let number = number.to_string();
            page.sample("topic_end_offset", &[("topic", &topic.name), ("partition", &number)], partition.end);
        }
    }
}

/// What the kernel says of this process; nothing where there is no procfs.
fn process(page: &mut Page) {
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    let resident = pages.and_then(|s| s.split(' ').nth(1)?.parse::<u64>().ok());
    if let Some(resident) = resident {
        let bytes = resident * rustix::param::page_size() as u64;
        page.gauge("process_resident_memory_bytes", "Resident memory.", bytes);
    }
    let stat = std::fs::read_to_string("/proc/self/stat").ok();
    // Fields after the command name, which may itself hold blanks and brackets.
    let ticks = stat.as_deref().and_then(|s| s.rsplit_once(')')).map(|(_, rest)| {
        rest.split_ascii_whitespace().skip(11).take(2).filter_map(|n| n.parse::<u64>().ok()).sum::<u64>()
    });
    if let Some(ticks) = ticks {
        let seconds = ticks as f64 / rustix::param::clock_ticks_per_second() as f64;
        page.family("process_cpu_seconds_total", Kind::Counter, "User and system time.");
        page.sample("process_cpu_seconds_total", &[], seconds);
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        page.gauge("process_open_fds", "Open files.", open.count());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::ops::status::{FreshnessStatus, PartitionStatus, SinkTopicStatus, TopicStatus};
    use crate::ops::testing::{down_sink, sample, up_source};
    use crate::pipeline::Counts;

    /// Prometheus counts seconds and bytes.
    const OTHER_UNITS: [&str; 10] =
        ["_ms", "_us", "_millis", "_milliseconds", "_minutes", "_hours", "_days", "_kb", "_mib", "_percent"];

    fn is_name(name: &str) -> bool {
        !name.is_empty()
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    }

    /// Splits `a="x",b="y"` by the format's own escapes; None when it is not well formed.
    fn labels(text: &str) -> Option<Vec<(String, String)>> {
        let mut rest = text;
        let mut found = Vec::new();
        while !rest.is_empty() {
            let (name, after) = rest.split_once("=\"")?;
            let mut value = String::new();
            let mut chars = after.char_indices();
            let end = loop {
                match chars.next()? {
                    (at, '"') => break at,
                    (_, '\\') => value.push(match chars.next()?.1 {
                        'n' => '\n',
                        c @ ('\\' | '"') => c,
                        _ => return None,
                    }),
                    (_, c) => value.push(c),
                }
            };
            found.push((name.to_owned(), value));
            rest = &after[end + 1..];
            rest = if rest.is_empty() { rest } else { rest.strip_prefix(',')? };
        }
        Some(found)
    }

    /// Name, labels, value.
    type Sample = (String, Vec<(String, String)>, f64);

    /// Checks the page against the format's rules and gives its samples.
    fn parse(page: &str) -> Vec<Sample> {
        assert!(page.ends_with('\n'));
        let (mut family, mut kind, mut seen) = (String::new(), "", BTreeSet::new());
        let mut samples = Vec::new();
        for line in page.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                family = rest.split_once(' ').expect("help text").0.to_owned();
                assert!(seen.insert(family.clone()), "{family} is not in one run");
                kind = "";
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, of) = rest.split_once(' ').unwrap();
                assert_eq!(name, family);
                kind = ["counter", "gauge", "histogram"].into_iter().find(|kind| *kind == of).expect("a type");
                assert_eq!(of == "counter", name.ends_with("_total"), "{name} is a {of}");
            } else {
                assert!(!kind.is_empty(), "a sample before its type: {line}");
                let (series, value) = line.rsplit_once(' ').unwrap();
                let (name, inside) =
                    series.split_once('{').map_or((series, ""), |(n, l)| (n, l.strip_suffix('}').unwrap()));
                assert!(is_name(name), "{name}");
                assert!(
                    !OTHER_UNITS.iter().any(|u| name.trim_end_matches("_total").ends_with(u)),
                    "{name}: base units"
                );
                let suffixes = if kind == "histogram" { &["_bucket", "_sum", "_count"][..] } else { &[""] };
                assert!(suffixes.iter().any(|suffix| *name == format!("{family}{suffix}")), "{name} in {family}");
                let labels = labels(inside).unwrap_or_else(|| panic!("labels of {line}"));
                assert!(labels.iter().all(|(n, _)| is_name(n)), "{line}");
                samples.push((name.to_owned(), labels, value.parse().expect("a number")));
            }
        }
        let series: BTreeSet<_> = samples.iter().map(|(n, l, _)| format!("{n}{l:?}")).collect();
        assert_eq!(series.len(), samples.len(), "a series stands there twice");
        samples
    }

    fn full() -> Status {
        let mut status = sample();
        status.sinks.push(down_sink("backup"));
        status.sources.push(up_source());
        let mut weird = up_source();
        weird.name = "we\"ird\\na\nme".into();
        weird.gauges.insert("Open-Files".into(), 7);
        status.sources.push(weird);
        status.ring.lanes.push(LaneStatus { name: "normal".into(), admitted: 12, evicted: 3, ..LaneStatus::default() });
        let counts = Counts { delivered: 7, evicted: 2, ..Counts::default() };
        let (topic, lane) = (Some("pump".into()), Some("normal".into()));
        status.sinks[0].topics.push(SinkTopicStatus { topic, lane, admitted: 10, pending: 1, counts });
        status.sinks[0].topics.push(SinkTopicStatus { counts, ..SinkTopicStatus::default() });
        let partitions = vec![PartitionStatus { earliest: 1, end: 5 }, PartitionStatus::default()];
        let up_to = vec![(0.01, 2), (86_400.0, 6)];
        let (records, sum_s) = (7, 90_000.5);
        status.sinks[0].freshness =
            Some(FreshnessStatus { records, unknown: 3, sum_s, up_to, ..FreshnessStatus::default() });
        status.topics.push(TopicStatus { name: "pump".into(), lane: "normal".into(), partitions });
        status
    }

    #[test]
    fn the_page_is_valid_and_every_series_stands_once() {
        let samples = parse(&page(&full()));
        let value = |name: &str, label: &str| {
            let found = samples.iter().find(|(n, l, _)| n == name && l.iter().any(|(_, v)| v == label));
            found.unwrap_or_else(|| panic!("no {name} of {label}")).2
        };
        assert_eq!(value("headwater_sink_pending_records", "hq"), 48_211.0);
        assert_eq!(value("headwater_source_received_total", "broker"), 1_204_332.0);
        assert_eq!(value("headwater_source_open_files", "we\"ird\\na\nme"), 7.0);
        assert_eq!(value("headwater_lane_lost_records_total", "evicted"), 3.0);
        assert_eq!(value("headwater_sink_topic_records_total", "pump"), 7.0);
        assert_eq!(value("headwater_sink_topic_records_total", "evicted"), 2.0);
        assert_eq!(value("headwater_sink_topic_pending_records", "pump"), 1.0);
        assert_eq!(value("headwater_sink_freshness_seconds_bucket", "0.01"), 2.0);
        assert_eq!(value("headwater_sink_freshness_seconds_bucket", "+Inf"), 7.0);
        assert_eq!(value("headwater_sink_freshness_seconds_sum", "hq"), 90_000.5);
        assert_eq!(value("headwater_sink_freshness_seconds_count", "hq"), 7.0);
        assert_eq!(value("headwater_sink_freshness_unknown_records_total", "hq"), 3.0);
        assert_eq!(value("headwater_part_up", "hq"), 0.0);
        assert_eq!(value("headwater_topic_end_offset", "pump"), 5.0);
    }

    #[test]
    fn an_empty_status_is_a_valid_page() {
        parse(&page(&Status::default()));
    }
}
