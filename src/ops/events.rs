//! Events: state changes of the parts, kept as records of `headwater-events`, shown by `headwater events`.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use super::human;
use crate::hub::{Event, PartState, title};
use crate::time::WallTime;

/// An event as it is stored and sent: one JSON object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EventRecord {
    /// Microseconds since 1970 as the wall clock showed them, right or not.
    pub wall_us: i64,
    /// Whether that clock was trusted then.
    pub trusted: bool,
    /// Microseconds of the boot clock.
    pub boot_us: i64,
    pub kind: String,
    pub name: String,
    #[serde(flatten)]
    pub state: PartState,
    /// Changes left out before this one, because the part flapped.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left_out: u64,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// The value of an event's record.
pub fn record(event: &Event) -> Vec<u8> {
    let record = EventRecord {
        wall_us: event.at.wall.0,
        trusted: event.at.trusted,
        boot_us: event.at.boot.0,
        kind: event.kind.as_str().into(),
        name: event.name.to_string(),
        state: event.state.clone(),
        left_out: event.left_out,
    };
    // Strings and numbers always serialize.
    serde_json::to_vec(&record).unwrap_or_default()
}

/// `2026-11-24 04:05:06Z  sink hq  down: connect timed out`; a time that was not trusted carries a `?`.
pub fn line(event: &EventRecord) -> String {
    let doubt = if event.trusted { ' ' } else { '?' };
    let mut line = format!("{}{doubt} ", human::wall(WallTime(event.wall_us)));
    // Writing to a String cannot fail.
    let _ = write!(line, "{}  {}", title(&event.kind, &event.name), event.state.label());
    if !event.state.what().is_empty() {
        let _ = write!(line, ": {}", event.state.what());
    }
    if event.left_out > 0 {
        let _ = write!(line, " ({} changes before this one not shown)", human::thousands(event.left_out));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::PartKind;
    use crate::ops::testing::at;

    #[test]
    fn an_event_comes_back_from_its_record() {
        let state = PartState::Down { what: "connect \"x\" timed out".into(), retry_in_ms: Some(1200) };
        let event = Event { at: at(5), kind: PartKind::Sink, name: "hq".into(), state, left_out: 3 };
        let back: EventRecord = serde_json::from_slice(&record(&event)).unwrap();
        assert_eq!((&back.state, back.left_out, back.kind.as_str()), (&event.state, 3, "sink"));
        assert_eq!(
            line(&back),
            "2026-09-21 14:13:25Z  sink hq  down: connect \"x\" timed out (3 changes before this one not shown)"
        );
    }

    #[test]
    fn a_time_in_doubt_is_marked() {
        let mut now = at(0);
        now.trusted = false;
        let event =
            Event { at: now, kind: PartKind::Source, name: "log".into(), state: PartState::Starting, left_out: 0 };
        let back: EventRecord = serde_json::from_slice(&record(&event)).unwrap();
        assert_eq!(line(&back), "2026-09-21 14:13:20Z? source log  starting");
    }
}
