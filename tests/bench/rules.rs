//! What a `filter` costs in a chain, as a node runs it, beside what it cannot do without: the search alone (memchr, regex) over
//! the same bytes, or serde_json for a field. CPU time of a record of 200 bytes, in this process, one core.

use std::hint::black_box;

use headwater::json::Path;
use headwater::name::Name;
use headwater::record::RecordRef;
use headwater::rules::filter::{Condition, Needle, Number, Pattern, Test};
use headwater::rules::{Chain, Env, Rule, RuleSpec, World};
use headwater::template::Context;
use headwater::topic::TopicName;
use memchr::memmem::Finder;

use super::support::{Outcome, Result, each, json_events, paired};

const ROUNDS: usize = 15;

/// What is looked for, and how often it is there.
const NEEDLES: [(&str, &[&str]); 5] = [
    ("contains, in none", &["ALARM"]),
    ("contains, in one of 40", &["boiler-17\""]),
    ("contains, in half", &["\"celsius\":4"]),
    ("contains, in each", &["running"]),
    ("contains, any of three", &["ALARM", "fault", "boiler-17\""]),
];
const PATTERNS: [(&str, &str); 4] = [
    ("regex, in none", r"ALARM [0-9]+"),
    ("regex, in one of 40", r#""boiler-17""#),
    ("regex, in half", r#""celsius":[34][0-9]\.[0-9]"#),
    ("regex, any of three", r#"ALARM|fault|"boiler-(7|17|27)""#),
];

/// What a chain acts upon, as it is before the ring, without one.
struct Counted(usize);

impl World for Counted {
    fn emit(&mut self, record: RecordRef<'_>) {
        self.0 += record.value.len();
    }

    fn route(&mut self, _: &TopicName, record: RecordRef<'_>) {
        self.emit(record);
    }

    fn failed(&mut self, _: &Rule, _: &RecordRef<'_>, _: &str) {}

    fn state(&self, _: &Name, _: &[u8]) -> Option<&[u8]> {
        None
    }

    fn put_state(&mut self, _: &Name, _: &[u8], _: Option<&[u8]>) -> bool {
        false
    }

    fn forget_oldest(&mut self, _: &Name) -> u32 {
        0
    }
}

fn chain(condition: Condition) -> Result<Chain> {
    Ok(Chain::new(&[Rule::new(Name::new("quiet")?, RuleSpec::Filter(condition))]))
}

/// A chain beside a bare loop: both pass the same.
fn beside(events: &[Vec<u8>], condition: Condition, mut bare: impl FnMut(&[u8]) -> bool) -> Result<(f64, f64, f64)> {
    let labels = std::collections::BTreeMap::new();
    let context = Context { node: "n", topic: "temperature", source: "s", labels: &labels };
    let env = Env { context, time: None };
    let mut chain = chain(condition)?;
    let mut world = Counted(0);
    let mut ours = |record: &RecordRef<'_>| chain.apply(&env, record, &mut world).outputs > 0;
    let mut theirs = |record: &RecordRef<'_>| bare(record.value);
    let (a, b) = (each(events, &mut ours).1, each(events, &mut theirs).1);
    if a != b {
        return Err(format!("the rule passes {a}, the bare loop {b}").into());
    }
    let (ours, theirs) = paired(ROUNDS, || Ok(each(events, &mut ours).0), || Ok(each(events, &mut theirs).0))?;
    black_box(world.0);
    Ok((ours, theirs, theirs / ours))
}

fn row(what: &str, bare: &str, (ours, theirs, ratio): (f64, f64, f64)) {
    println!("{what:24} {ours:7.1} ns a record, {bare} {theirs:7.1} ns: {ratio:.2} of its speed");
}

pub fn run() -> Outcome {
    let events = json_events();
    println!("one rule in a chain, records of {} bytes", events[0].len());
    for (what, needles) in NEEDLES {
        let finders: Vec<_> = needles.iter().map(Finder::new).collect();
        let mut conditions: Vec<_> =
            needles.iter().map(|needle| Condition::Contains(Needle::new(needle.as_bytes()))).collect();
        let condition = if conditions.len() == 1 { conditions.remove(0) } else { Condition::Any(conditions) };
        row(what, "memmem", beside(&events, condition, |value| finders.iter().any(|f| f.find(value).is_some()))?);
    }
    for (what, text) in PATTERNS {
        let regex = regex::bytes::Regex::new(text)?;
        let condition = Condition::Regex(Pattern::new(text)?);
        row(what, "regex ", beside(&events, condition, |value| regex.is_match(value))?);
    }
    for (what, field) in [("celsius above 30", "celsius"), ("the last field above 30", "seq")] {
        let condition = Condition::Field(Path::parse(field)?, Test::Above(Number::Int(30)));
        let bare = |value: &[u8]| {
            let tree: Option<serde_json::Value> = serde_json::from_slice(value).ok();
            tree.and_then(|tree| tree.get(field)?.as_f64()).is_some_and(|n| n > 30.0)
        };
        row(what, "serde_json", beside(&events, condition, bare)?);
    }
    Ok(())
}
