//! The status as a page for people. Its layout is golden: the tests hold it line by line.
//!
//! First the node, then the ring, then each sink with what waits for it, then the links and the sources, then whatever else is not
//! well. One line says what is, the line below it the numbers.

mod rules;

use std::collections::BTreeMap;
use std::fmt::Write;

use super::human::{about, binary, brief, compact, compact_one, decimal, long, thousands};
use super::status::{PartStatus, RingStatus, SinkStatus, Status};
use crate::hub::counters;
use crate::pipeline::Counts;

/// What counts as a day: marks are an hour apart.
const DAY_S: u64 = 23 * 3600;
/// Longer names push their own line only.
const MAX_NAME_COLUMN: usize = 20;
/// Topics that are named for a sink's losses.
const MAX_LOST: usize = 5;

/// The whole page, ending in a line break.
pub fn page(status: &Status) -> String {
    let names =
        status.sinks.iter().map(|s| &s.part).chain(&status.sources).chain(links(status)).chain(shown_parts(status));
    let longest = names.map(|p| p.name.chars().count()).max().unwrap_or(0);
    let mut page = Page { text: String::new(), column: longest.clamp(4, MAX_NAME_COLUMN) + 2 };
    heading(&mut page, status);
    trial(&mut page, status);
    ring(&mut page, status);
    for sink in &status.sinks {
        self::sink(&mut page, sink);
    }
    for link in links(status) {
        page.line(&link.name, &format!("{}{}", state(link), link_numbers(link)));
    }
    for source in &status.sources {
        page.line(&source.name, &format!("{}{}", state(source), source_numbers(source)));
    }
    for part in shown_parts(status) {
        page.line(&part.name, &format!("{}{}", state(part), turned_away(part)));
    }
    rules::rules(&mut page, status);
    page.text
}

struct Page {
    text: String,
    column: usize,
}

impl Page {
    fn line(&mut self, name: &str, text: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "{name:<width$}{text}", width = self.column.max(name.chars().count() + 1));
    }
    fn more(&mut self, text: &str) {
        self.line("", text);
    }
}

/// Beside sinks and sources: the endpoint always, the rest when it is not well. The disk is the ring's line, the clock's
/// trust stands in the heading, what a rule has stopped among the rules.
fn shown_parts(status: &Status) -> impl Iterator<Item = &PartStatus> {
    let ill = |p: &PartStatus| p.state == "warn" || p.state == "down";
    let elsewhere = ["disk", "clock", "link", "rule"];
    let parts = status.parts.iter();
    parts.filter(move |p| !elsewhere.contains(&p.kind.as_str()) && (p.kind == "endpoint" || ill(p)))
}

fn links(status: &Status) -> impl Iterator<Item = &PartStatus> {
    status.parts.iter().filter(|p| p.kind == "link")
}

/// What the data directory has to say beside the ring's health: that it shrinks the ring, or forgets at a reboot.
pub(super) fn is_disk_warning(part: &PartStatus) -> bool {
    part.kind == "disk" && part.state == "warn" && !["disk", "ring"].contains(&part.name.as_str())
}

fn heading(page: &mut Page, status: &Status) {
    let config: String = status.config.hash.chars().take(4).collect();
    let changed = if status.config.differs { " (files changed since: `headwater reload`)" } else { "" };
    let clock = if status.clock.trusted {
        format!("clock trusted {} ago", compact_one(status.clock.for_s))
    } else {
        format!("clock NOT TRUSTED, shows {}", status.clock.time)
    };
    let stopping = if status.stopping { "  SHUTTING DOWN" } else { "" };
    let up = compact(status.up_s);
    let _ = writeln!(
        page.text,
        "{}  v{}  config {config}{changed}  up {up}  {clock}{stopping}",
        status.node, status.version
    );
}

fn trial(page: &mut Page, status: &Status) {
    if status.ring.on_trial {
        let (up, format) = (long(status.up_s), status.ring.format);
        let what = "what is written is what the program before reads, until it is confirmed";
        page.line("update", &format!("on trial since the start {up} ago: {what} (format {format})"));
    }
}

fn ring(page: &mut Page, status: &Status) {
    let ring = &status.ring;
    let fill = format!("{} of {}", binary(ring.used_bytes), binary(ring.max_bytes));
    if ring.in_memory {
        let disk = status.parts.iter().find(|p| p.kind == "disk");
        let since = disk.map_or(String::new(), |d| format!(" {}", long(d.for_s)));
        let why = disk.map_or(ring.trouble.as_str(), |d| d.what.as_str());
        let next = disk.map_or(String::new(), next_try);
        page.line("ring", &format!("IN MEMORY{since}: {why}{next}"));
        page.more(&format!("{fill}; a power cut loses what is in it"));
    } else {
        page.line("ring", &format!("{fill}{}; card written {}", room(ring), written(ring)));
        if ring.health != "good" && !ring.health.is_empty() {
            page.more(&format!("{}: {}", ring.health.to_uppercase(), ring.trouble));
        }
        if let Some(said) = ring_says(status) {
            page.more(&said);
        }
        if let Some(held) = ring.held_bytes {
            page.more(&format!("RAM-first: all sinks are up, {} wait for them in memory alone", binary(held)));
        }
    }
    for part in status.parts.iter().filter(|p| is_disk_warning(p)) {
        page.more(&format!("WARNING: {}", part.what));
    }
    if ring.state_refused > 0 {
        let count = thousands(ring.state_refused);
        page.more(&format!(
            "WARNING: {count} times an entry of where a source or a sink stands found no room; after a crash, some may come \
             twice"
        ));
    }
    for line in recovery(ring) {
        page.more(&line);
    }
}

fn ring_part(status: &Status) -> Option<&PartStatus> {
    status.parts.iter().find(|p| p.kind == "disk" && p.name == "ring")
}

/// What is the matter with a ring whose health is good, unless it is the eviction that is said elsewhere.
pub(super) fn ring_warning(status: &Status) -> Option<&str> {
    let unsaid = status.ring.health == "good" && !status.ring.evicting;
    ring_part(status).filter(|part| part.state == "warn" && unsaid).map(|part| part.what.as_str())
}

/// What the ring does otherwise than usual.
fn ring_says(status: &Status) -> Option<String> {
    let usual =
        || ring_part(status).filter(|part| part.state == "up")?.what.strip_prefix("ok; ").map(ToOwned::to_owned);
    ring_warning(status).map(|what| format!("WARNING: {what}")).or_else(usual)
}

fn room(ring: &RingStatus) -> String {
    match ring.room_s {
        Some(0) => "; FULL, the oldest are evicted".into(),
        Some(seconds) => format!("; room for {} at today's rate", about(seconds)),
        None => String::new(),
    }
}

fn written(ring: &RingStatus) -> String {
    // The day is the last 24 hours, or what there is of them.
    let since = if ring.today_s < DAY_S { "since the start" } else { "today" };
    format!("{} {since}", decimal(ring.written_today))
}

fn recovery(ring: &RingStatus) -> Vec<String> {
    let found = &ring.recovery;
    let mut lines = Vec::new();
    if found.cloned {
        lines.push("came from another machine: took a new ring id, what waited may be sent twice".into());
    }
    let notes = found.notes.iter().filter(|note| !note.contains("written on another machine"));
    lines.extend(notes.map(|note| format!("found at the start: {note}")));
    if !found.fresh && !found.clean_shutdown && !ring.in_memory {
        let tail = if found.tail_unknown { "; its very last commit is unreadable or never was" } else { "" };
        lines.push(format!(
            "started after a crash or power cut: corrupt {}, lost unsynced {}{tail}",
            thousands(found.corrupt),
            thousands(found.lost_unsynced)
        ));
    }
    lines
}

/// `DOWN 2 h 11 m: what; next try 38 s`
fn state(part: &PartStatus) -> String {
    let word = match part.state.as_str() {
        "up" => "up",
        "waits" => "waits",
        "warn" => "WARNING",
        "down" => "DOWN",
        "paused" => "PAUSED",
        _ => "starting",
    };
    let what = if part.what.is_empty() { String::new() } else { format!(": {}", part.what) };
    format!("{word} {}{what}{}", long(part.for_s), next_try(part))
}

/// `; 12 MB of 300 MB used; 43 kB a day when idle`
fn link_numbers(link: &PartStatus) -> String {
    let gauge = |name: &str| link.gauges.get(name).copied();
    let counted = |name: &str| link.counters.get(name).copied().unwrap_or(0);
    let idle = gauge("idle_bytes_per_day").map(|bytes| format!("; {} a day when idle", decimal(bytes)));
    let used = match (gauge("used_bytes"), gauge("budget_bytes")) {
        (Some(used), Some(budget)) => format!("; {} of {} used", decimal(used), decimal(budget)),
        _ => format!("; {} used since the start", decimal(counted("sent_bytes") + counted("received_bytes"))),
    };
    used + &idle.unwrap_or_default()
}

fn next_try(part: &PartStatus) -> String {
    match part.next_try_s {
        None => String::new(),
        Some(0) => "; trying now".into(),
        Some(seconds) => format!("; next try {}", long(seconds)),
    }
}

fn sink(page: &mut Page, sink: &SinkStatus) {
    if sink.configured {
        page.line(&sink.part.name, &state(&sink.part));
    } else {
        let name = &sink.part.name;
        page.line(name, &format!("NOT IN THE CONFIG: put it back, or `headwater sink forget {name}`"));
    }
    page.more(&format!("{}; {}", waiting(sink), losses(sink)));
    streams(page, sink);
    freshness(page, sink);
    let lost = lost_of(sink);
    if !lost.is_empty() {
        page.more(&format!("lost of {}", lost.join("; ")));
    }
    if let Some(reason) = &sink.dead_letter_reason {
        page.more(&dead_letters(sink, reason));
    }
}

/// How late records are, where a sink knows of it.
fn freshness(page: &mut Page, sink: &SinkStatus) {
    let gauge = |name: &str| sink.part.gauges.get(name).copied().unwrap_or(0);
    if gauge("late_seconds") > 0 {
        let (late, waits) = (long(gauge("late_seconds")), long(gauge("oldest_waiting_seconds")));
        page.more(&format!("LATE for {late}: the oldest record has waited {waits}"));
    }
    if let Some(fresh) = sink.freshness.as_ref().filter(|fresh| fresh.records > 0) {
        let (half, most, slowest) = (brief(fresh.p50_s), brief(fresh.p99_s), brief(fresh.max_s));
        page.more(&format!("arrived there: half within {half}, 99 % within {most}, the slowest after {slowest}"));
    }
}

/// Where the streams stand of lanes that are sent in more than one.
fn streams(page: &mut Page, sink: &SinkStatus) {
    for lane in sink.streams.chunk_by(|a, b| a.lane == b.lane) {
        let (newest, older) = lane.split_last().map_or((0, lane), |(newest, older)| (newest.pending, older));
        let older: Vec<_> = older.iter().rev().map(|stream| thousands(stream.pending)).collect();
        let name = lane.first().map_or("", |stream| &stream.lane);
        let (n, newest, older) = (lane.len(), thousands(newest), older.join(", then "));
        page.more(&format!("lane {name} in {n} streams, the newest first: {newest} waiting, then {older}"));
    }
}

/// What was refused, and why the last of it.
fn dead_letters(sink: &SinkStatus, reason: &str) -> String {
    let mut text = format!("{} in headwater-dead-letters", thousands(sink.dead_letters));
    if sink.dead_letters_left_out > 0 {
        let _ = write!(text, ", {} left out", thousands(sink.dead_letters_left_out));
    }
    let _ = write!(text, "; the last one: {reason}");
    text
}

/// Which topics lost what, those that lost most first.
fn lost_of(sink: &SinkStatus) -> Vec<String> {
    let mut lost: BTreeMap<&str, Counts> = BTreeMap::new();
    for part in &sink.topics {
        let topic = part.topic.as_deref().unwrap_or("topics that nobody can tell");
        let sum = lost.entry(topic).or_default();
        *sum = sum.plus(Counts { delivered: 0, filtered: 0, refused: 0, released: 0, ..part.counts });
    }
    let mut lost: Vec<_> = lost.into_iter().filter(|(_, counts)| counts.total() > 0).collect();
    lost.sort_by_key(|(_, counts)| std::cmp::Reverse(counts.total()));
    let more = lost.len().saturating_sub(MAX_LOST);
    let text = |(topic, counts): &(&str, Counts)| {
        let reasons = counts.named().into_iter().filter(|(_, count)| *count > 0);
        let reasons: Vec<_> = reasons.map(|(name, n)| format!("{} {}", name.replace('_', " "), thousands(n))).collect();
        format!("{topic}: {}", reasons.join(", "))
    };
    let mut texts: Vec<String> = lost.iter().take(MAX_LOST).map(text).collect();
    if more > 0 {
        texts.push(format!("{more} topics more"));
    }
    texts
}

fn waiting(sink: &SinkStatus) -> String {
    if sink.pending == 0 {
        return "nothing waiting".into();
    }
    let eta = sink.eta_s.map_or(String::new(), |s| format!(", about {}", about(s)));
    let held =
        if sink.held_bytes > 0 { format!("; keeps {} of the ring", binary(sink.held_bytes)) } else { String::new() };
    format!("{} waiting ({} to send{eta}{held})", thousands(sink.pending), binary(sink.to_send_bytes))
}

/// The three that everybody asks about always, the others when there are any.
fn losses(sink: &SinkStatus) -> String {
    let mut text = format!(
        "evicted {}, corrupt {}, maybe duplicated {}",
        thousands(sink.evicted),
        thousands(sink.corrupt),
        thousands(sink.maybe_duplicated)
    );
    let counted = |name| sink.part.counters.get(name).copied().unwrap_or(0);
    let others = [
        ("expired", sink.expired),
        ("lost unsynced", sink.lost_unsynced),
        ("refused", sink.refused),
        ("duplicated", sink.duplicated),
        ("released", sink.released),
        ("upstream losses", counted(counters::UPSTREAM_LOSSES)),
        ("backups put back", counted(counters::BACKUPS_PUT_BACK)),
    ];
    for (name, count) in others.into_iter().filter(|(_, n)| *n > 0) {
        let _ = write!(text, ", {name} {}", thousands(count));
    }
    text
}

fn source_numbers(source: &PartStatus) -> String {
    let mut text = format!("; {} received", thousands(source.counters.get("received").copied().unwrap_or(0)));
    let notable = [
        "filtered",
        "malformed",
        "truncated",
        "refused",
        "redelivered",
        "repeats_dropped",
        "lost_before_source",
        "turned_away",
    ];
    for name in notable {
        // What a peer says of itself may go down again when it restarts: a gauge then.
        let count = source.counters.get(name).or_else(|| source.gauges.get(name));
        if let Some(count) = count.filter(|n| **n > 0) {
            let _ = write!(text, ", {} {}", name.replace('_', " "), thousands(*count));
        }
    }
    text
}

/// What the endpoint did not do for its clients, and how many it has.
fn turned_away(part: &PartStatus) -> String {
    let mut text = String::new();
    for name in ["denied", "handshakes_failed", "turned_away", "timed_out", "connections"] {
        let count = part.counters.get(name).or_else(|| part.gauges.get(name)).copied().unwrap_or(0);
        if part.kind == "endpoint" && count > 0 {
            let separator = if text.is_empty() { ";" } else { "," };
            let _ = write!(text, "{separator} {} {}", name.replace('_', " "), thousands(count));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::status::{FreshnessStatus, SinkTopicStatus, StreamStatus};
    use crate::ops::testing::{down_sink, sample, up_source};

    #[test]
    fn the_page_of_a_node_whose_link_is_down_reads_as_promised() {
        let expected = "\
pump-0417  v0.3.1  config 9c1e  up 3d 4h  clock trusted 2m ago
ring  312 MiB of 1 GiB; room for 9 d at today's rate; card written 41 MB today
hq    DOWN 2 h 11 m: connect sc.example:9003 timed out; next try 38 s
      48,211 waiting (3.1 MiB to send, about 4 min); evicted 0, corrupt 0, maybe duplicated 0
";
        assert_eq!(page(&sample()), expected);
    }

    #[test]
    fn a_sink_says_how_late_records_are_and_that_they_are_too_late() {
        let mut status = sample();
        let sink = &mut status.sinks[0];
        sink.part.gauges = [("late_seconds".to_owned(), 720), ("oldest_waiting_seconds".to_owned(), 1020)].into();
        sink.freshness =
            Some(FreshnessStatus { records: 9, p50_s: 0.04, p99_s: 3.21, max_s: 7860.0, ..FreshnessStatus::default() });
        let page = page(&status);
        let lines: Vec<_> = page.lines().skip(4).map(str::trim).collect();
        assert_eq!(
            lines,
            [
                "LATE for 12 m: the oldest record has waited 17 m",
                "arrived there: half within 40 ms, 99 % within 3.2 s, the slowest after 2 h 11 m"
            ]
        );
    }

    #[test]
    fn a_sink_that_lost_records_says_of_which_topics() {
        let mut status = sample();
        let part = |topic: Option<&str>, counts| SinkTopicStatus {
            topic: topic.map(Into::into),
            counts,
            ..Default::default()
        };
        status.sinks[0].topics = vec![
            part(Some("pump"), Counts { delivered: 9, evicted: 1203, ..Counts::default() }),
            part(Some("wx"), Counts { delivered: 9, ..Counts::default() }),
            part(None, Counts { lost_unsynced: 2, corrupt: 8, ..Counts::default() }),
            // It was in another lane before.
            part(Some("pump"), Counts { evicted: 1000, ..Counts::default() }),
        ];
        let line = "      lost of pump: evicted 2,203; topics that nobody can tell: corrupt 8, lost unsynced 2\n";
        assert!(page(&status).contains(line), "{}", page(&status));
    }

    #[test]
    fn a_node_that_is_well_says_so_in_as_few_words() {
        let mut status = sample();
        let sink = &mut status.sinks[0];
        (sink.pending, sink.eta_s) = (0, None);
        sink.part.state = "up".into();
        sink.part.what = "connected to sc.example:9003".into();
        sink.part.next_try_s = None;
        status.sources.push(up_source());
        let expected = "\
pump-0417  v0.3.1  config 9c1e  up 3d 4h  clock trusted 2m ago
ring    312 MiB of 1 GiB; room for 9 d at today's rate; card written 41 MB today
hq      up 2 h 11 m: connected to sc.example:9003
        nothing waiting; evicted 0, corrupt 0, maybe duplicated 0
broker  up 3 d 4 h: connected to 10.0.0.5:1883; 1,204,332 received, filtered 12, lost before source 3
";
        assert_eq!(page(&status), expected);
    }

    #[test]
    fn the_streams_of_a_lane_are_told_the_newest_first() {
        let mut status = sample();
        let of = |lane: &str, pending| StreamStatus { lane: lane.into(), pending, ..StreamStatus::default() };
        status.sinks[0].streams = vec![of("urgent", 40_000), of("urgent", 8_000), of("urgent", 11), of("bulk", 200)];
        status.sinks[0].streams.push(of("bulk", 0));
        let page = page(&status);
        assert!(page.contains(
            "      lane urgent in 3 streams, the newest first: 11 waiting, then 8,000, then 40,000\n      lane bulk in 2 \
             streams, the newest first: 0 waiting, then 200\n"
        ), "{page}");
    }

    #[test]
    fn losses_of_every_kind_are_named() {
        let mut status = sample();
        let sink = &mut status.sinks[0];
        (sink.evicted, sink.corrupt, sink.maybe_duplicated, sink.expired) = (48_211, 2, 3, 4);
        (sink.lost_unsynced, sink.refused, sink.duplicated, sink.released) = (5, 6, 7, 8);
        sink.part.counters = [("upstream_losses".to_owned(), 9), ("backups_put_back".to_owned(), 10)].into();
        sink.eta_s = None;
        status.ring.room_s = Some(0);
        let expected = "\
pump-0417  v0.3.1  config 9c1e  up 3d 4h  clock trusted 2m ago
ring  312 MiB of 1 GiB; FULL, the oldest are evicted; card written 41 MB today
hq    DOWN 2 h 11 m: connect sc.example:9003 timed out; next try 38 s
      48,211 waiting (3.1 MiB to send); evicted 48,211, corrupt 2, maybe duplicated 3, expired 4, lost unsynced 5, \
refused 6, duplicated 7, released 8, upstream losses 9, backups put back 10
";
        assert_eq!(page(&status), expected);
    }

    #[test]
    fn a_degraded_disk_says_what_is_wrong_with_it() {
        let mut status = sample();
        status.ring.health = "degraded".into();
        status.ring.trouble = "slot-0007 quarantined: sync failed, input/output error; replace the card soon".into();
        status.ring.recovery.clean_shutdown = false;
        status.ring.recovery.lost_unsynced = 12;
        status.ring.recovery.tail_unknown = true;
        status.ring.recovery.cloned = true;
        status.ring.recovery.notes = vec!["slot-0009: this slot belongs elsewhere; set aside".into()];
        let expected = "\
pump-0417  v0.3.1  config 9c1e  up 3d 4h  clock trusted 2m ago
ring  312 MiB of 1 GiB; room for 9 d at today's rate; card written 41 MB today
      DEGRADED: slot-0007 quarantined: sync failed, input/output error; replace the card soon
      came from another machine: took a new ring id, what waited may be sent twice
      found at the start: slot-0009: this slot belongs elsewhere; set aside
      started after a crash or power cut: corrupt 0, lost unsynced 12; its very last commit is unreadable or never was
hq    DOWN 2 h 11 m: connect sc.example:9003 timed out; next try 38 s
      48,211 waiting (3.1 MiB to send, about 4 min); evicted 0, corrupt 0, maybe duplicated 0
";
        assert_eq!(page(&status), expected);
    }

    #[test]
    fn what_a_good_ring_does_otherwise_than_usual_is_on_the_page() {
        let mut status = sample();
        let ring = |state: &str, what: &str| PartStatus {
            kind: "disk".into(),
            name: "ring".into(),
            state: state.into(),
            what: what.into(),
            ..PartStatus::default()
        };
        for (part, line) in [
            (ring("warn", "full: sources wait"), Some("      WARNING: full: sources wait\n")),
            (ring("up", "ok; written later"), Some("      written later\n")),
            (ring("up", "ok"), None),
        ] {
            let bare = page(&sample());
            status.parts = vec![part];
            let said = page(&status);
            match line {
                Some(line) => assert!(said.contains(line), "{said}"),
                None => assert_eq!(said, bare),
            }
        }
    }

    #[test]
    fn memory_mode_says_why_and_what_it_means() {
        let mut status = sample();
        status.ring.in_memory = true;
        (status.ring.used_bytes, status.ring.max_bytes) = (1_258_291, 8 << 20);
        status.parts.push(PartStatus {
            kind: "disk".into(),
            name: "disk".into(),
            state: "down".into(),
            what: "write /var/lib/headwater/slot-0003: read-only file system".into(),
            for_s: 320,
            next_try_s: Some(17),
            ..PartStatus::default()
        });
        let expected = "\
pump-0417  v0.3.1  config 9c1e  up 3d 4h  clock trusted 2m ago
ring  IN MEMORY 5 m 20 s: write /var/lib/headwater/slot-0003: read-only file system; next try 17 s
      1.2 MiB of 8 MiB; a power cut loses what is in it
hq    DOWN 2 h 11 m: connect sc.example:9003 timed out; next try 38 s
      48,211 waiting (3.1 MiB to send, about 4 min); evicted 0, corrupt 0, maybe duplicated 0
";
        assert_eq!(page(&status), expected);
    }

    #[test]
    fn an_untrusted_clock_and_changed_files_stand_in_the_heading() {
        let mut status = sample();
        status.clock.trusted = false;
        status.clock.time = "1970-01-01T00:03:10.000000Z".into();
        status.config.differs = true;
        status.stopping = true;
        let page = page(&status);
        assert_eq!(
            page.lines().next().unwrap(),
            "pump-0417  v0.3.1  config 9c1e (files changed since: `headwater reload`)  up 3d 4h  \
             clock NOT TRUSTED, shows 1970-01-01T00:03:10.000000Z  SHUTTING DOWN"
        );
    }

    #[test]
    fn paused_forgotten_and_retrying_sinks_and_ill_parts_are_told_apart() {
        let mut status = sample();
        let mut paused = down_sink("backup");
        (paused.part.state, paused.part.what, paused.part.next_try_s) = ("paused".into(), String::new(), None);
        let mut old = down_sink("old");
        old.configured = false;
        status.sinks[0].part.next_try_s = Some(0);
        status.sinks.extend([paused, old]);
        let part = |kind: &str, state: &str, what: &str| PartStatus {
            kind: kind.into(),
            name: kind.into(),
            state: state.into(),
            what: what.into(),
            for_s: 61,
            ..PartStatus::default()
        };
        status.parts = vec![
            part("http", "down", "127.0.0.1:9004 is in use by another program"),
            PartStatus {
                counters: [("denied", 1203), ("timed_out", 2), ("connects", 9)].map(|(n, c)| (n.to_owned(), c)).into(),
                gauges: [("connections".to_owned(), 3)].into(),
                ..part("endpoint", "up", "sc 10.1.0.5:9003, spu 10.1.0.5:9010")
            },
            part("control", "up", "/run/headwater/control.sock"),
        ];
        let waits =
            "          48,211 waiting (3.1 MiB to send, about 4 min); evicted 0, corrupt 0, maybe duplicated 0\n";
        let expected = format!(
            "pump-0417  v0.3.1  config 9c1e  up 3d 4h  clock trusted 2m ago
ring      312 MiB of 1 GiB; room for 9 d at today's rate; card written 41 MB today
hq        DOWN 2 h 11 m: connect sc.example:9003 timed out; trying now
{waits}backup    PAUSED 2 h 11 m
{waits}old       NOT IN THE CONFIG: put it back, or `headwater sink forget old`
{waits}http      DOWN 1 m 1 s: 127.0.0.1:9004 is in use by another program
endpoint  up 1 m 1 s: sc 10.1.0.5:9003, spu 10.1.0.5:9010; denied 1,203, timed out 2, connections 3
"
        );
        assert_eq!(page(&status), expected);
    }
}
