//! Rules that keep state, over a map in place of the ring: by example, and against what they promise, with restarts in the middle.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::rules::deadband::{Band, Deadband};
use crate::rules::debounce::Debounce;
use crate::rules::dedup::Dedup;
use crate::rules::number::Number;
use crate::rules::rate::RateOfChange;
use crate::rules::state::{AGE, Time};
use crate::rules::threshold::{Limit, Options, Threshold};
use crate::rules::throttle::Throttle;
use crate::time::{BootTime, Now, Span, WallTime};

/// What is kept, and what came out.
#[derive(Default)]
pub struct Map {
    pub kept: BTreeMap<Vec<u8>, Vec<u8>>,
    pub out: Vec<(Vec<u8>, String)>,
    pub room: usize,
    /// What is kept is not forgotten.
    holds: bool,
}

impl World for Map {
    fn emit(&mut self, record: RecordRef<'_>) {
        let value = String::from_utf8(record.value.to_vec()).unwrap();
        self.out.push((record.key.unwrap_or_default().to_vec(), value));
    }
    fn route(&mut self, topic: &TopicName, record: RecordRef<'_>) {
        self.out.push((topic.as_str().as_bytes().to_vec(), String::from_utf8(record.value.to_vec()).unwrap()));
    }
    fn failed(&mut self, _: &Rule, _: &RecordRef<'_>, _: &str) {}
    fn state(&self, _: &Name, key: &[u8]) -> Option<&[u8]> {
        self.kept.get(key).map(Vec::as_slice)
    }
    fn put_state(&mut self, _: &Name, key: &[u8], value: Option<&[u8]>) -> bool {
        let kept = &mut self.kept;
        match value {
            Some(_) if !kept.contains_key(key) && kept.len() >= self.room => return false,
            Some(value) => drop(kept.insert(key.to_vec(), value.to_vec())),
            None => drop(kept.remove(key)),
        }
        true
    }
    fn forget_oldest(&mut self, _: &Name) -> u32 {
        if self.holds {
            return 0;
        }
        let kept = &mut self.kept;
        let oldest = kept.iter().min_by_key(|(_, value)| value[..AGE].to_vec()).map(|(key, _)| key.clone());
        oldest.map_or(0, |key| u32::from(kept.remove(&key).is_some()))
    }
}

/// A chain of one rule that is made anew whenever it is asked, over what it kept.
pub struct Rig {
    spec: RuleSpec,
    pub chain: Chain,
    pub world: Map,
    boot: u32,
    /// In milliseconds of the boot clock; the wall clock is trusted where `trusted` says so.
    pub ms: i64,
    pub wall_ms: i64,
    pub trusted: bool,
}

impl Rig {
    pub fn new(spec: RuleSpec) -> Self {
        let chain = chain_of([spec.clone()]);
        let world = Map { room: 100, holds: spec.holds(), ..Map::default() };
        Self { spec, chain, world, boot: 1, ms: 0, wall_ms: 1_700_000_000_000, trusted: true }
    }

    fn time(&self) -> Time {
        let now = Now { boot: BootTime(self.ms * 1000), wall: WallTime(self.wall_ms * 1000), trusted: self.trusted };
        Time { now, boot: self.boot }
    }

    pub fn env(&self) -> Env<'static> {
        Env { time: Some(self.time()), ..ENV }
    }

    pub fn wait(&mut self, ms: i64) {
        for _ in 0..ms {
            self.ms += 1;
            self.wall_ms += 1;
            self.fire();
        }
    }

    fn fire(&mut self) {
        let now = self.time().now.boot;
        for (at, _) in self.chain.take_due(now) {
            let keys: Vec<_> = self.world.kept.keys().cloned().collect();
            for key in keys {
                self.chain.fire(at, &self.env(), &key, false, &mut self.world);
            }
        }
    }

    /// A new process; the machine was off for so long.
    pub fn restart(&mut self, off_ms: Option<i64>) {
        self.chain = chain_of([self.spec.clone()]);
        if let Some(off) = off_ms {
            self.boot += 1;
            self.ms = 5;
            self.wall_ms += off;
        }
    }

    pub fn see(&mut self, key: &str, value: &str) -> Verdict {
        let record = RecordRef { key: Some(key.as_bytes()), ..RecordRef::of(value.as_bytes()) };
        self.chain.apply(&self.env(), &record, &mut self.world)
    }

    pub fn out(&mut self) -> Vec<String> {
        std::mem::take(&mut self.world.out).into_iter().map(|(_, value)| value).collect()
    }
}

fn deadband(max_silence: Option<Span>) -> RuleSpec {
    RuleSpec::Deadband(Deadband { field: None, by: None, band: Band::Absolute(0.5), max_silence })
}

#[test]
fn a_deadband_reports_what_has_moved_and_breaks_a_long_silence() {
    let mut rig = Rig::new(deadband(Some(Span::from_millis(100))));
    for value in ["20", "20.5", "20.6", "20.2", "20", "19.9"] {
        rig.see("a", value);
    }
    assert_eq!(rig.out(), ["20", "20.6", "20"]);
    rig.wait(99);
    rig.see("a", "20");
    rig.wait(1);
    rig.see("a", "20");
    assert_eq!(rig.out(), ["20"]);
    // Another sensor has its own.
    rig.see("b", "20");
    assert_eq!(rig.out(), ["20"]);
}

#[test]
fn percent_is_of_the_last_report_and_of_nothing_it_is_any_change() {
    let band = Band::Percent(10.0);
    let mut rig = Rig::new(RuleSpec::Deadband(Deadband { field: None, by: None, band, max_silence: None }));
    for value in ["100", "110", "111", "100", "0", "0", "0.001", "-5"] {
        rig.see("a", value);
    }
    assert_eq!(rig.out(), ["100", "111", "0", "0.001", "-5"].map(String::from)[..].to_vec());
}

#[test]
fn what_a_deadband_cannot_read_passes_and_is_counted() {
    let mut rig = Rig::new(deadband(None));
    assert_eq!(rig.see("a", "warm").errors, 1);
    assert_eq!(rig.out(), ["warm"]);
}

#[test]
fn a_throttle_lets_the_first_ones_through() {
    let throttle = Throttle { by: None, every: Span::from_millis(10), most: 2 };
    let mut rig = Rig::new(RuleSpec::Throttle(throttle));
    for i in 0..25 {
        rig.see("a", &i.to_string());
        rig.wait(1);
    }
    assert_eq!(rig.out(), ["0", "1", "10", "11", "20", "21"]);
}

#[test]
fn a_debounce_passes_what_has_come_to_rest_also_after_a_restart() {
    let debounce = |field: Option<&str>, max_wait| {
        let field = field.map(path);
        RuleSpec::Debounce(Debounce { by: None, field, quiet: Span::from_millis(10), max_wait })
    };
    let mut rig = Rig::new(debounce(None, None));
    for value in ["1", "2", "3"] {
        rig.see("a", value);
        rig.wait(9);
        assert!(rig.out().is_empty());
    }
    rig.restart(None);
    rig.wait(1);
    assert_eq!(rig.out(), ["3"]);
    rig.wait(100);
    assert!(rig.out().is_empty() && rig.world.kept.is_empty());
    // The machine was off, and nobody knows for how long.
    rig.see("a", "4");
    rig.trusted = false;
    rig.restart(Some(0));
    rig.wait(1);
    assert_eq!(rig.out(), ["4"]);

    let mut rig = Rig::new(debounce(Some("on"), None));
    for (wait, on) in
        [(0, true), (4, true), (4, false), (4, true), (9, true), (1, true), (20, false), (3, true), (20, true)]
    {
        rig.wait(wait);
        rig.see("a", &format!("{{\"on\":{on},\"at\":{}}}", rig.ms));
    }
    // Up from 12 on, rests at 22; down at 42 for 3 only.
    assert_eq!(rig.out(), ["{\"on\":true,\"at\":21}"]);

    let mut rig = Rig::new(debounce(None, Some(Span::from_millis(25))));
    for i in 0..40 {
        rig.see("a", &i.to_string());
        rig.wait(1);
    }
    assert_eq!(rig.out(), ["24"]);
}

#[test]
fn a_threshold_tells_changes_and_does_not_tremble() {
    let limit = |at: i128, severity: &str| Limit { at: Number::Int(at), severity: severity.into() };
    let options = Options {
        field: Some(path("t")),
        above: vec![limit(80, "warning"), limit(90, "critical")],
        below: vec![limit(5, "frost")],
        hysteresis: 2.0,
        ..Options::default()
    };
    let threshold = Threshold::new(options.clone(), path("severity")).unwrap();
    let mut rig = Rig::new(RuleSpec::Threshold(threshold));
    for t in [20.0, 79.9, 80.0, 79.0, 81.0, 90.0, 88.5, 88.0, 79.0, 78.0, 5.0, 6.9, 7.0, 95.0, 4.0] {
        rig.see("a", &format!("{{\"t\":{t:?}}}"));
    }
    let told: Vec<String> = [(80.0, "warning"), (90.0, "critical"), (88.0, "warning"), (78.0, "normal")]
        .into_iter()
        .chain([(5.0, "frost"), (7.0, "normal"), (95.0, "critical"), (4.0, "frost")])
        .map(|(t, severity)| format!("{{\"t\":{t:?},\"severity\":\"{severity}\"}}"))
        .collect();
    assert_eq!(rig.out(), told);
    let wrong = Options { above: vec![limit(3, "warning")], ..options };
    assert!(Threshold::new(wrong, path("severity")).unwrap_err().to_string().contains("overlap"));
}

#[test]
fn a_rate_is_by_the_events_times_and_a_late_event_has_none() {
    let rate = RateOfChange::new(path("n"), None, Span::from_secs(60), None, path("rate")).unwrap();
    let mut rig = Rig::new(RuleSpec::RateOfChange(rate));
    for (second, n) in [(0, 10), (30, 20), (10, 99), (60, 5)] {
        let value = format!("{{\"n\":{n}}}");
        let event_time = Some(WallTime(second * 1_000_000));
        let record = RecordRef { event_time, ..RecordRef::of(value.as_bytes()) };
        rig.chain.apply(&rig.env(), &record, &mut rig.world);
    }
    let expected = ["{\"n\":10}", "{\"n\":20,\"rate\":20.0}", "{\"n\":99}", "{\"n\":5,\"rate\":-30.0}"];
    assert_eq!(rig.out(), expected);
}

#[test]
fn where_there_is_no_room_what_was_touched_longest_ago_is_forgotten_and_counted() {
    let mut rig = Rig::new(deadband(None));
    rig.world.room = 3;
    for key in ["a", "b", "c"] {
        rig.wait(1);
        rig.see(key, "1");
    }
    rig.wait(1);
    rig.see("a", "2");
    rig.see("d", "1");
    rig.out();
    for (key, passes) in [("a", 0), ("c", 0), ("d", 0)] {
        rig.see(key, if key == "a" { "2" } else { "1" });
        assert_eq!(rig.out().len(), passes, "{key}");
    }
    let (_, Told { tally, .. }) = rig.chain.tallies().next().unwrap();
    assert_eq!((tally.forgotten, tally.records_in, tally.records_out), (1, 8, 5));
}

#[test]
fn a_route_sends_to_the_first_topic_whose_condition_holds() {
    let contains = |text: &str| Condition::Contains(Needle::new(text.as_bytes()));
    let topic = |text: &str| TopicName::new(text).unwrap();
    let to = vec![(topic("alarms"), contains("ALARM")), (topic("notes"), contains("NOTE"))];
    let mut rig = Rig::new(RuleSpec::Route(route::Route { to: to.clone(), otherwise: None }));
    for value in ["ALARM NOTE", "NOTE", "else"] {
        rig.see("k", value);
    }
    let went: Vec<_> = rig.world.out.iter().map(|(to, _)| String::from_utf8(to.clone()).unwrap()).collect();
    assert_eq!(went, ["alarms", "notes", "k"]);
    let mut rig = Rig::new(RuleSpec::Route(route::Route { to, otherwise: Some(topic("rest")) }));
    rig.see("k", "else");
    assert_eq!(rig.world.out[0].0, b"rest");
}

/// What a step does: waits, and then a value of a sensor comes, or the process is restarted.
#[derive(Clone, Debug)]
enum Step {
    Value { wait: i64, key: u8, value: i64 },
    Restart { off: Option<i64> },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let value = (0i64..12, 0u8..3, -3i64..4).prop_map(|(wait, key, value)| Step::Value { wait, key, value });
    let restart = prop::option::of(0i64..30).prop_map(|off| Step::Restart { off });
    prop::collection::vec(prop_oneof![8 => value, 1 => restart], 0..60)
}

/// Runs the steps; gives each value with its moment on the wall clock, and whether it passed.
fn play(rig: &mut Rig, steps: &[Step]) -> Vec<(i64, u8, i64, bool)> {
    let mut seen = Vec::new();
    for step in steps {
        match *step {
            Step::Value { wait, key, value } => {
                rig.wait(wait);
                rig.out();
                rig.see(&key.to_string(), &value.to_string());
                seen.push((rig.wall_ms, key, value, !rig.out().is_empty()));
            }
            Step::Restart { off } => rig.restart(off),
        }
    }
    seen
}

proptest! {
    #[test]
    fn a_deadband_does_what_a_list_of_reports_says(steps in steps()) {
        let mut rig = Rig::new(deadband(Some(Span::from_millis(20))));
        let mut reports: BTreeMap<u8, (i64, i64)> = BTreeMap::new();
        for (at, key, value, passed) in play(&mut rig, &steps) {
            let should = reports.get(&key).is_none_or(|(then, last)| (value - last).abs() > 0 || at - then >= 20);
            prop_assert_eq!(passed, should, "{} of {} at {}", value, key, at);
            if should {
                reports.insert(key, (at, value));
            }
        }
    }

    #[test]
    fn a_throttle_passes_no_more_than_it_says_and_what_it_may(steps in steps()) {
        let throttle = Throttle { by: None, every: Span::from_millis(15), most: 2 };
        let mut rig = Rig::new(RuleSpec::Throttle(throttle));
        let mut began: BTreeMap<u8, (i64, u32)> = BTreeMap::new();
        for (at, key, _, passed) in play(&mut rig, &steps) {
            let (since, count) = began.get(&key).copied().filter(|(since, _)| at - since < 15).unwrap_or((at, 0));
            prop_assert_eq!(passed, count < 2);
            began.insert(key, (since, count + u32::from(passed)));
        }
    }

    #[test]
    fn a_dedup_passes_each_thing_once_in_its_time(steps in steps()) {
        let mut rig = Rig::new(RuleSpec::Dedup(Dedup { by: None, within: Span::from_millis(25) }));
        let mut passed_at: BTreeMap<(u8, i64), i64> = BTreeMap::new();
        for (at, key, value, passed) in play(&mut rig, &steps) {
            let should = passed_at.get(&(key, value)).is_none_or(|then| at - then >= 25);
            prop_assert_eq!(passed, should);
            if should {
                passed_at.insert((key, value), at);
            }
        }
        // What is past is not kept.
        rig.wait(60);
        prop_assert!(rig.world.kept.is_empty());
    }
}
