//! What a sink sends first, and how old it may become: `live_share`, `lane_weights`, `mark_backlog`, `freshness_alarm`.

use super::model::{LaneConfig, ValueMode};
use super::parts::unknown_lane;
use super::raw::{Node, Raw};
use super::reader::Reader;
use crate::forward::WHOLE;
use crate::name::{Name, nearest};
use crate::time::Span;

/// A lane of this weight has so many bytes for one of a lane that has 1.
const MAX_WEIGHT: i128 = 1000;
const LONGEST: Span = Span::from_secs(366 * 86_400);

/// What is new has this part of a lane's bytes, in thousandths; `newest_first`: `order` says that it has all.
pub fn live_share(r: &Reader<'_>, newest_first: bool) -> Option<u16> {
    let share = r.get("live_share", "number", None, thousandths);
    if newest_first && r.has("live_share") {
        let why =
            "`order = \"newest-first\"` gives what is new all there is, `live_share` a part of it: give one of them";
        r.wrong("live_share", why);
    }
    share
}

fn thousandths(node: &Node) -> Result<u16, String> {
    let share = match node.value {
        Raw::Int(n) => n as f64,
        Raw::Float(n) => n,
        _ => return Err("write a number, like 0.8".into()),
    };
    let good = (0.01..=1.0).contains(&share);
    good.then_some((share * f64::from(WHOLE)).round() as u16).ok_or_else(|| {
        "use 0.01 to 1: what of the bytes is for what is new; for what has waited to go first, leave it out".to_owned()
    })
}

/// `{ urgent = 8, normal = 3 }`; lanes that are not named have 1.
pub fn lane_weights(r: &Reader<'_>, lanes: &[LaneConfig]) -> Vec<(Name, u32)> {
    let mut weights = Vec::new();
    for entry in r.entries("lane_weights") {
        let weight = match entry.node.value {
            Raw::Int(n @ 1..=MAX_WEIGHT) => Ok(n as u32),
            Raw::Int(0) => Err(format!("a lane of weight 0 would never be sent; use 1 to {MAX_WEIGHT}")),
            _ => Err(format!("write a whole number from 1 to {MAX_WEIGHT}")),
        };
        let lane = lanes.iter().find(|lane| lane.name.as_str() == entry.key);
        let unknown = || match nearest(&entry.key, lanes.iter().map(|lane| lane.name.as_str())) {
            Some(near) => format!("there is no lane `{}`; did you mean `{near}`?", entry.key),
            None => unknown_lane(&entry.key, lanes),
        };
        match (lane, weight) {
            (Some(lane), Ok(weight)) => weights.push((lane.name.clone(), weight)),
            (None, _) => r.error(entry.at, "lane_weights", unknown()),
            (_, Err(why)) => r.error(entry.at, "lane_weights", format!("`{}`: {why}", entry.key)),
        }
    }
    weights
}

/// What is sent later than this after its admission is marked.
pub fn mark_backlog(r: &Reader<'_>, value: ValueMode) -> Option<Span> {
    let mark = r.opt_span("mark_backlog", Span::from_secs(1)..=LONGEST);
    if value == ValueMode::Raw && r.has("mark_backlog") {
        r.wrong(
            "mark_backlog",
            "Fluvio records have no headers, so a mark needs the envelope: add `value = \"envelope\"`",
        );
    }
    mark
}

/// What waits longer than this is an alarm.
pub fn freshness_alarm(r: &Reader<'_>) -> Option<Span> {
    r.opt_span("freshness_alarm", Span::from_secs(1)..=LONGEST)
}
