//! Windows against an obvious model: what they say of a list of records, in whatever order those come as far as the grace goes, and
//! when it is restarted.

use proptest::prelude::*;
use serde_json::Value;

use super::keeping::Rig;
use super::*;
use crate::rules::window::{Function, Kind, Output, Window};
use crate::time::{Span, WallTime};

fn output(field: &str, function: Function, name: &str) -> Output {
    Output { field: path(field), function, name: name.into() }
}

fn outputs() -> Vec<Output> {
    let all = [
        (Function::Sum, "sum"),
        (Function::Min, "min"),
        (Function::Max, "max"),
        (Function::Mean, "mean"),
        (Function::Stddev, "stddev"),
        (Function::Count, "seen"),
        (Function::Last, "last"),
        (Function::Quantile(0.5), "p50"),
    ];
    all.into_iter().map(|(function, name)| output("v", function, name)).collect()
}

fn rig(kind: Kind, grace_ms: i64) -> Rig {
    let window = Window { by: None, kind, grace: Span::from_millis(grace_ms), time: None, outputs: outputs() };
    Rig::new(RuleSpec::Window(window))
}

/// A record that happened then, in milliseconds; None: it has no `v`.
fn see(rig: &mut Rig, at_ms: i64, value: Option<i64>) -> Verdict {
    let text = value.map_or_else(|| "{}".to_owned(), |v| format!("{{\"v\":{v}}}"));
    let event_time = Some(WallTime(at_ms * 1000));
    let record = RecordRef { key: Some(b"k"), event_time, ..RecordRef::of(text.as_bytes()) };
    rig.chain.apply(&rig.env(), &record, &mut rig.world)
}

fn said(rig: &mut Rig) -> Vec<Value> {
    rig.out().iter().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn ms(time: &Value) -> i64 {
    chrono::DateTime::parse_from_rfc3339(time.as_str().unwrap()).unwrap().timestamp_millis()
}

/// What a window over these values says.
fn check(window: &Value, start: i64, end: i64, values: &[Option<i64>]) -> Result<(), TestCaseError> {
    prop_assert_eq!((ms(&window["start"]), ms(&window["end"])), (start, end), "{}", window);
    prop_assert_eq!(window["count"].as_u64(), Some(values.len() as u64));
    let there: Vec<i64> = values.iter().flatten().copied().collect();
    prop_assert_eq!(window["seen"].as_u64(), Some(there.len() as u64));
    prop_assert_eq!(window["sum"].as_i64(), (!there.is_empty()).then(|| there.iter().sum()));
    prop_assert_eq!(window["min"].as_i64(), there.iter().min().copied());
    prop_assert_eq!(window["max"].as_i64(), there.iter().max().copied());
    let n = there.len() as f64;
    let mean = there.iter().sum::<i64>() as f64 / n;
    if there.is_empty() {
        prop_assert!(window.get("mean").is_none() && window.get("p50").is_none() && window.get("last").is_none());
    } else {
        prop_assert!((window["mean"].as_f64().unwrap() - mean).abs() < 1e-6);
        prop_assert!(there.contains(&window["last"].as_i64().unwrap()));
        let mut sorted = there.clone();
        sorted.sort_unstable();
        let (low, high) = (sorted[(sorted.len() - 1) / 2] as f64, sorted[sorted.len() / 2] as f64);
        let middle = window["p50"].as_f64().unwrap();
        let slack = |v: f64| 0.021 * v.abs() + 1e-6;
        prop_assert!(middle >= low - slack(low) && middle <= high + slack(high), "{} not in {}..{}", middle, low, high);
    }
    if there.len() > 1 {
        let variance = there.iter().map(|v| (*v as f64 - mean).powi(2)).sum::<f64>() / (n - 1.0);
        prop_assert!((window["stddev"].as_f64().unwrap() - variance.sqrt()).abs() < 1e-6);
    } else {
        prop_assert!(window.get("stddev").is_none());
    }
    Ok(())
}

const STEP: i64 = 20;
const START: i64 = 1_700_000_000_000;

#[derive(Clone, Debug)]
enum Event {
    /// The clock goes on, and a record comes that is so old.
    Record {
        wait: i64,
        age: i64,
        value: Option<i64>,
    },
    Restart,
}

fn events(grace: i64) -> impl Strategy<Value = Vec<Event>> {
    let value = prop::option::weighted(0.9, -50i64..50);
    let record = (0i64..15, 0..=grace, value).prop_map(|(wait, age, value)| Event::Record { wait, age, value });
    prop::collection::vec(prop_oneof![9 => record, 1 => Just(Event::Restart)], 0..40)
}

/// Plays the events; gives the records by time, and all that was said in the end.
fn play(rig: &mut Rig, events: &[Event]) -> (Vec<(i64, Option<i64>)>, Vec<Value>) {
    let mut records = Vec::new();
    for event in events {
        match *event {
            Event::Record { wait, age, value } => {
                rig.wait(wait);
                let at = rig.wall_ms - age;
                assert_eq!(see(rig, at, value).errors, 0);
                records.push((at, value));
            }
            Event::Restart => rig.restart(None),
        }
    }
    rig.wait(3000);
    assert!(rig.world.kept.is_empty());
    (records, said(rig))
}

fn within(records: &[(i64, Option<i64>)], start: i64, end: i64) -> Vec<Option<i64>> {
    records.iter().filter(|(at, _)| (start..end).contains(at)).map(|(_, value)| *value).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn steps_say_of_each_window_what_is_in_it_and_once(events in events(15), steps in 1i64..5) {
        let (step, length) = (Span::from_millis(STEP), Span::from_millis(STEP * steps));
        let mut rig = rig(Kind::Steps { length, step }, 15);
        let (records, said) = play(&mut rig, &events);
        let mut said = said.iter();
        let first = START - START % STEP - 20 * STEP;
        for end in (0..200).map(|n| first + n * STEP) {
            let start = end - STEP * steps;
            let values = within(&records, start, end);
            if !values.is_empty() {
                check(said.next().expect("a window"), start, end, &values)?;
            }
        }
        prop_assert!(said.next().is_none());
    }

    #[test]
    fn a_session_is_what_has_no_gap(events in events(15)) {
        let gap = 12;
        let mut rig = rig(Kind::Session { gap: Span::from_millis(gap) }, 15);
        let (mut records, mut said) = play(&mut rig, &events);
        records.sort_by_key(|(at, _)| *at);
        said.sort_by_key(|window| ms(&window["start"]));
        let mut said = said.iter();
        let mut at = 0;
        while at < records.len() {
            let start = records[at].0;
            let mut end = start;
            while at < records.len() && records[at].0 <= end + gap {
                end = records[at].0;
                at += 1;
            }
            let values = within(&records, start, end + 1);
            check(said.next().expect("a session"), start, end + gap, &values)?;
        }
        prop_assert!(said.next().is_none());
    }
}

#[test]
fn what_comes_behind_the_grace_is_an_error_and_in_no_window() {
    let step = Span::from_millis(STEP);
    let mut rig = rig(Kind::Steps { length: step, step }, 0);
    for (at, errors) in [(0, 0), (19, 0), (20, 0), (19, 1), (25, 0)] {
        rig.wall_ms = START + at;
        assert_eq!(see(&mut rig, START + at, Some(at)).errors, errors, "{at}");
    }
    rig.wait(3000);
    let counts: Vec<u64> = said(&mut rig).iter().filter_map(|window| window["count"].as_u64()).collect();
    // The late one passed as it is, and has no count.
    assert_eq!(counts, [2, 2]);
}

#[test]
fn windows_of_an_unset_clock_end_when_it_is_set() {
    let step = Span::from_secs(60);
    let mut rig = rig(Kind::Steps { length: step, step }, 0);
    (rig.trusted, rig.wall_ms) = (false, 5_000);
    rig.see("k", "{\"v\":1}");
    rig.wait(1_000);
    (rig.trusted, rig.wall_ms) = (true, START);
    rig.see("k", "{\"v\":2}");
    let first = said(&mut rig);
    assert_eq!((first.len(), ms(&first[0]["end"])), (1, 60_000));
    // Set back: what was begun in the future is not waited for.
    rig.wall_ms = START - 86_400_000;
    rig.wait(62_000);
    assert_eq!(said(&mut rig).len(), 1);
}

#[test]
fn after_a_power_cut_a_clock_that_is_not_set_begins_anew() {
    let step = Span::from_secs(60);
    let mut rig = rig(Kind::Steps { length: step, step }, 0);
    rig.see("k", "{\"v\":1}");
    rig.restart(Some(0));
    (rig.trusted, rig.wall_ms) = (false, 5_000);
    assert_eq!(rig.see("k", "{\"v\":2}").errors, 0);
    assert_eq!(said(&mut rig)[0]["sum"].as_i64(), Some(1));
    rig.wait(61_000);
    let windows = said(&mut rig);
    assert_eq!((windows.len(), windows[0]["count"].as_u64(), ms(&windows[0]["end"])), (1, Some(1), 60_000));
}

#[test]
fn integers_keep_every_digit_through_a_window() {
    let step = Span::from_secs(1);
    let mut rig = rig(Kind::Steps { length: step, step }, 0);
    for n in 0..3i64 {
        rig.see("k", &format!("{{\"v\":{}}}", i64::MAX - n));
    }
    rig.wait(3000);
    let line = rig.out().remove(0);
    assert!(line.contains("\"sum\":27670116110564327418") && line.contains("\"max\":9223372036854775807"), "{line}");
}

#[test]
fn a_window_that_was_told_is_not_told_again_however_long_the_silence_after_it() {
    let step = Span::from_secs(60);
    let kinds = [Kind::Steps { length: step, step }, Kind::Session { gap: Span::from_secs(30) }];
    for kind in kinds {
        let mut rig = rig(kind, 5_000);
        let (length, begin) = (60_000, START - START % 60_000);
        rig.wall_ms = begin;
        see(&mut rig, begin + 10, Some(1));
        rig.wait(3 * length);
        assert_eq!(said(&mut rig).len(), 1);
        assert!(rig.world.kept.is_empty(), "it is forgotten which are closed");
        let now = rig.wall_ms;
        assert_eq!(see(&mut rig, now, Some(2)).errors, 0);
        assert_eq!(see(&mut rig, begin + 20, Some(3)).errors, 1, "{kind:?}");
        rig.wait(3 * length);
        // The late one passed as it is, and has no count.
        assert_eq!(said(&mut rig).iter().filter(|window| window["count"] == 1).count(), 1);
    }
}

#[test]
fn where_room_is_full_windows_that_are_open_stay_right_and_more_things_are_errors() {
    let step = Span::from_secs(1);
    let mut rig = rig(Kind::Steps { length: step, step }, 0);
    rig.world.room = 3;
    let mut errors = 0;
    for _ in 0..4 {
        for thing in ["a", "b", "c", "d"] {
            errors += rig.see(thing, "{\"v\":1}").errors;
        }
    }
    assert_eq!(errors, 4);
    rig.world.out.clear();
    rig.wait(3000);
    let counts: Vec<_> = said(&mut rig).iter().map(|window| window["count"].as_u64()).collect();
    assert_eq!(counts, [Some(4); 3]);
}

#[test]
fn a_percentile_is_the_least_that_so_many_do_not_exceed() {
    let outputs = [0.5, 0.9, 0.99].map(|q| output("v", Function::Quantile(q), &format!("p{q}"))).to_vec();
    let step = Span::from_secs(1);
    let window =
        Window { by: None, kind: Kind::Steps { length: step, step }, grace: Span::default(), time: None, outputs };
    let mut rig = Rig::new(RuleSpec::Window(window));
    for n in 1..=10 {
        rig.see("k", &format!("{{\"v\":{n}}}"));
    }
    rig.wait(3000);
    let window = said(&mut rig).remove(0);
    for (name, expected) in [("p0.5", 5.0), ("p0.9", 9.0), ("p0.99", 10.0)] {
        let found = window[name].as_f64().unwrap();
        assert!((found - expected).abs() <= 0.021 * expected, "{name}: {found}");
    }
}

#[test]
fn where_a_field_says_when_it_was_a_record_belongs_there_however_late_it_comes() {
    let step = Span::from_secs(60);
    let kind = Kind::Steps { length: step, step };
    let (grace, time) = (Span::from_secs(30), Some(path("ts")));
    let window = Window { by: None, kind, grace, time, outputs: outputs() };
    let mut rig = Rig::new(RuleSpec::Window(window));
    let minute = START - START % 60_000;
    rig.wall_ms = minute + 60_000;
    // Of the first minute, the second, the first again within the grace, and the first when it is too late.
    for (at, errors) in [(59_000, 0), (70_000, 0), (1_000, 0), (95_000, 0), (2_000, 1)] {
        let ts = minute + at;
        assert_eq!(rig.see("k", &format!("{{\"ts\":{ts},\"v\":1}}")).errors, errors, "{at}");
        rig.wall_ms += 10_000;
    }
    assert_eq!(rig.see("k", "{\"v\":1}").errors, 1, "it has no time");
    rig.wait(200_000);
    let windows = said(&mut rig);
    let counts: Vec<_> = windows
        .iter()
        .filter_map(|window| Some((ms(window.get("start")?) - minute, window["count"].as_u64()?)))
        .collect();
    assert_eq!(counts, [(0, 2), (60_000, 2)]);
}
