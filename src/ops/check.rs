//! `status --check`: one line and an exit code, as Nagios, Icinga, Zabbix and their kin read them.
//!
//! `HEADWATER WARNING - hq down 2 h 11 m | waiting_hq=48211 ...` and 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.
//! Critical: records are being lost, or would be by a power cut, or will be within four hours; or a rule has stopped a
//! topic, which takes nothing until a person acts. Warning: a person should look some time today. Unknown is for the command itself: the node could not be asked.

use std::fmt::Write;

use super::human::{about, compact, thousands};
use super::status::{PartStatus, Status};
use super::text::{is_disk_warning, ring_warning};
use crate::hub::counters;

const ROOM_CRITICAL_S: u64 = 4 * 3600;
const ROOM_WARNING_S: u64 = 24 * 3600;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Ok = 0,
    Warning = 1,
    Critical = 2,
    Unknown = 3,
}

impl Level {
    pub fn exit_code(self) -> u8 {
        self as u8
    }
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warning => "WARNING",
            Self::Critical => "CRITICAL",
            Self::Unknown => "UNKNOWN",
        }
    }
}

/// The line (without a line break) and its level.
pub fn check(status: &Status) -> (Level, String) {
    let mut findings = findings(status);
    // The worst first; among equals in the order found.
    findings.sort_by_key(|(level, _)| std::cmp::Reverse(*level));
    let level = findings.first().map_or(Level::Ok, |(level, _)| *level);
    let text = if findings.is_empty() {
        let waiting: u64 = status.sinks.iter().map(|s| s.pending).sum();
        format!("up {}, {} waiting", compact(status.up_s), thousands(waiting))
    } else {
        findings.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join(", ")
    };
    (level, line(level, &text, &perfdata(status)))
}

/// The line for a node that could not be asked.
pub fn unasked(level: Level, why: &str) -> String {
    line(level, why, "")
}

fn line(level: Level, text: &str, perfdata: &str) -> String {
    // A bar would begin the performance data, a line break the long output.
    let text: String = text.chars().map(|c| if c == '|' || c.is_control() { ' ' } else { c }).collect();
    let bar = if perfdata.is_empty() { "" } else { " | " };
    format!("HEADWATER {} - {text}{bar}{perfdata}", level.word())
}

fn findings(status: &Status) -> Vec<(Level, String)> {
    let ring = &status.ring;
    let mut found = Vec::new();
    if ring.in_memory {
        let why = status.parts.iter().find(|p| p.kind == "disk").map_or(ring.trouble.as_str(), |d| d.what.as_str());
        found.push((Level::Critical, format!("ring in memory: {why}")));
    } else if ring.health == "failed" {
        found.push((Level::Critical, format!("ring failed: {}", ring.trouble)));
    } else if ring.health == "degraded" {
        found.push((Level::Warning, format!("ring degraded: {}", ring.trouble)));
    }
    if ring.recovery.set_aside {
        let notes = ring.recovery.notes.iter().filter(|note| note.contains("set aside"));
        let first = notes.clone().next().map_or("slots are set aside", String::as_str);
        let more = notes.count().saturating_sub(1);
        let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
        found.push((Level::Warning, format!("ring: {first}{more}")));
    }
    found.extend(ring_warning(status).map(|what| (Level::Warning, format!("ring {what}"))));
    if ring.lost_today > 0 {
        found.push((Level::Critical, format!("{} records lost today", thousands(ring.lost_today))));
    }
    let waiting = status.sinks.iter().any(|s| s.pending > 0 && s.part.state != "up");
    if ring.evicting {
        found.push((Level::Critical, "ring full, the oldest are evicted".into()));
    } else if let Some(room) = ring.room_s.filter(|room| waiting && *room < ROOM_WARNING_S) {
        let level = if room < ROOM_CRITICAL_S { Level::Critical } else { Level::Warning };
        found.push((level, format!("ring full in {}", about(room))));
    }
    for rule in &status.rules {
        let stopped = rule.stopped.iter();
        found.extend(
            stopped
                .map(|(topic, why)| (Level::Critical, format!("rule {} has stopped topic {topic}: {why}", rule.name))),
        );
    }
    let parts = status.sinks.iter().map(|s| &s.part).chain(&status.sources).chain(&status.parts);
    // What a rule has stopped is said above.
    let elsewhere = ["clock", "rule"];
    found.extend(
        parts
            .filter(|p| !elsewhere.contains(&p.kind.as_str()) && (p.kind != "disk" || is_disk_warning(p)))
            .filter_map(ill),
    );
    found.extend(status.sources.iter().filter_map(refused));
    if !status.clock.trusted {
        found.push((Level::Warning, "clock not trusted".into()));
    }
    if status.config.differs {
        found.push((Level::Warning, "config files changed since they were loaded".into()));
    }
    found
}

fn ill(part: &PartStatus) -> Option<(Level, String)> {
    match part.state.as_str() {
        "down" => Some((Level::Warning, format!("{} down {}: {}", part.name, compact(part.for_s), part.what))),
        "warn" => Some((Level::Warning, format!("{}: {}", part.name, part.what))),
        "paused" => Some((Level::Warning, format!("{} paused {}", part.name, compact(part.for_s)))),
        _ => None,
    }
}

/// What a source took and could not keep.
fn refused(source: &PartStatus) -> Option<(Level, String)> {
    let count = source.counters.get(counters::REFUSED).copied().filter(|n| *n > 0)?;
    Some((Level::Warning, format!("{}: {} records too large for the ring", source.name, thousands(count))))
}

/// `'label'=value[unit];warn;crit;min;max`
fn perfdata(status: &Status) -> String {
    let ring = &status.ring;
    let mut out = format!("ring_pending={}B;;;0;{} uptime={}s", ring.pending_bytes, ring.max_bytes, status.up_s);
    // Writing to a String cannot fail.
    let _ = write!(out, " written_today={}B lost_today={}", ring.written_today, ring.lost_today);
    for sink in &status.sinks {
        let _ = write!(out, " waiting_{}={};;;0", sink.part.name, sink.pending);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::status::RuleStatus;
    use crate::ops::testing::sample;

    fn well() -> Status {
        let mut status = sample();
        status.sinks[0].part.state = "up".into();
        status
    }

    #[test]
    fn a_node_that_is_well_is_ok() {
        let (level, line) = check(&well());
        assert_eq!(level.exit_code(), 0);
        assert_eq!(
            line,
            "HEADWATER OK - up 3d 4h, 48,211 waiting | ring_pending=4194304B;;;0;1073741824 uptime=273900s \
             written_today=41200000B lost_today=0 waiting_hq=48211;;;0"
        );
    }

    #[test]
    fn a_program_on_trial_is_said_on_the_page_and_is_nothing_to_look_at() {
        let mut status = well();
        (status.ring.on_trial, status.ring.format) = (true, 1);
        assert_eq!(check(&status).0, Level::Ok);
        let page = crate::ops::text::page(&status);
        let line = page.lines().find(|line| line.starts_with("update")).unwrap();
        assert!(line.contains("on trial since the start 3 d 4 h ago") && line.contains("format 1"), "{line}");
        status.ring.on_trial = false;
        assert!(!crate::ops::text::page(&status).contains("on trial"));
    }

    #[test]
    fn a_link_that_is_down_is_a_warning() {
        let (level, line) = check(&sample());
        assert_eq!(level.exit_code(), 1);
        assert!(line.starts_with("HEADWATER WARNING - hq down 2h 11m: connect sc.example:9003 timed out | "), "{line}");
    }

    #[test]
    fn losses_and_memory_mode_are_critical_and_come_first() {
        let mut status = sample();
        status.ring.lost_today = 1234;
        assert!(check(&status).1.starts_with("HEADWATER CRITICAL - 1,234 records lost today, hq down"));
        status = well();
        status.ring.in_memory = true;
        status.ring.trouble = "disk gone".into();
        assert_eq!(check(&status).0.exit_code(), 2);
    }

    #[test]
    fn a_ring_that_fills_while_a_sink_is_down_is_said_in_time() {
        let mut status = sample();
        status.ring.room_s = Some(3 * 3600);
        assert_eq!(check(&status).0, Level::Critical);
        status.ring.evicting = true;
        assert!(check(&status).1.starts_with("HEADWATER CRITICAL - ring full, the oldest are evicted, "));
        status.ring.evicting = false;
        status.ring.room_s = Some(20 * 3600);
        assert!(check(&status).1.contains("ring full in 20 h"));
        status.sinks[0].part.state = "up".into();
        assert_eq!(check(&status).0, Level::Ok, "it is being sent");
    }

    #[test]
    fn records_that_a_source_could_not_store_are_a_warning() {
        let mut status = well();
        let counters = [(counters::REFUSED.to_owned(), 1234)].into();
        status.sources.push(PartStatus { name: "logs".into(), state: "up".into(), counters, ..PartStatus::default() });
        let (level, line) = check(&status);
        assert_eq!(level, Level::Warning);
        assert!(line.contains(": 1,234 records too large for the ring"), "{line}");
    }

    #[test]
    fn a_topic_that_a_rule_has_stopped_is_critical_and_said_once_with_its_rule() {
        let mut status = well();
        let stopped = [("valves".to_owned(), "the value is no JSON".to_owned())].into();
        status.rules.push(RuleStatus { name: "shape".into(), stopped, ..RuleStatus::default() });
        let what = "topic valves takes nothing until `headwater reload`".to_owned();
        status.parts.push(PartStatus {
            kind: "rule".into(),
            name: "shape".into(),
            state: "down".into(),
            what,
            ..PartStatus::default()
        });
        let (level, line) = check(&status);
        assert_eq!(level, Level::Critical);
        let begin = "HEADWATER CRITICAL - rule shape has stopped topic valves: the value is no JSON | ";
        assert!(line.starts_with(begin), "{line}");
    }

    #[test]
    fn whatever_a_peer_says_the_line_stays_one_line_with_one_bar() {
        let mut status = sample();
        status.sinks[0].part.what = "bad | worse\nworst".into();
        let (_, line) = check(&status);
        assert_eq!((line.matches('|').count(), line.lines().count()), (1, 1));
        assert_eq!(unasked(Level::Unknown, "a|b"), "HEADWATER UNKNOWN - a b");
    }
}
