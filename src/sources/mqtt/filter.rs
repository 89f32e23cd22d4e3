//! Topic filters: which subscription a message belongs to, what its wildcards stood for, and what to ask the broker
//! for so that each message comes once.
//!
//! A broker sends one copy of a message per subscription that matches it (Mosquitto's default for 3.1.1 as well), so
//! `pump/+/alarm` beside `pump/+/+` would bring every alarm twice. Since the first match wins here anyway, a filter
//! that another one covers is not subscribed at all: the wider one brings its messages. What remains are filters
//! that overlap without covering each other; MQTT 5 tells their copies apart by subscription identifier, 3.1.1
//! cannot, and [`Plan::overlaps`] says so.
//!
//! Not here: validation of what a person wrote (`config`).

use crate::config::model::MqttSubscription;

/// The levels that a topic must have: a shared subscription's own part comes after its group.
fn pattern(filter: &str) -> &str {
    match filter.strip_prefix("$share/") {
        Some(rest) => rest.split_once('/').map_or(rest, |(_, pattern)| pattern),
        None => filter,
    }
}

fn is_shared(filter: &str) -> bool {
    filter.starts_with("$share/")
}

/// Whether `topic` matches; `captures` then holds what each wildcard stood for, `#` as the whole rest.
pub fn matches<'t>(filter: &str, topic: &'t str, captures: &mut Vec<&'t str>) -> bool {
    captures.clear();
    let filter = pattern(filter);
    // Wildcards in the first level do not reach the broker's own topics.
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut rest = Some(topic);
    for level in filter.split('/') {
        if level == "#" {
            // `a/#` matches `a` itself: nothing is left for the wildcard then.
            captures.push(rest.unwrap_or(""));
            return true;
        }
        let Some(left) = rest else { return false };
        let (this, after) = match left.split_once('/') {
            Some((this, after)) => (this, Some(after)),
            None => (left, None),
        };
        match level {
            "+" => captures.push(this),
            literal if literal == this => {}
            _ => return false,
        }
        rest = after;
    }
    rest.is_none()
}

/// Whether every topic that matches `narrow` also matches `wide`.
pub fn covers(wide: &str, narrow: &str) -> bool {
    if is_shared(wide) || is_shared(narrow) {
        return wide == narrow;
    }
    if narrow.starts_with('$') && wide.starts_with(['+', '#']) {
        return false;
    }
    let (mut wide, mut narrow) = (wide.split('/'), narrow.split('/'));
    loop {
        match (wide.next(), narrow.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(level)) if level != "#" => {}
            (Some(a), Some(b)) if a == b => {}
            _ => return false,
        }
    }
}

/// Whether some topic matches both.
pub fn overlap(a: &str, b: &str) -> bool {
    let (a, b) = (pattern(a), pattern(b));
    let reserved = |s: &str, t: &str| s.starts_with('$') && t.starts_with(['+', '#']);
    if reserved(a, b) || reserved(b, a) {
        return false;
    }
    let (mut a, mut b) = (a.split('/'), b.split('/'));
    loop {
        match (a.next(), b.next()) {
            (Some("#"), _) | (_, Some("#")) | (None, None) => return true,
            (Some(x), Some(y)) if x == "+" || y == "+" || x == y => {}
            _ => return false,
        }
    }
}

/// What to ask the broker for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub wanted: Vec<Wanted>,
    /// Pairs of subscribed filters that some topic matches both of.
    pub overlaps: Vec<(String, String)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub filter: String,
    /// The highest among the filters that it stands for.
    pub qos: u8,
}

impl Plan {
    /// Leaves out what a wider filter brings.
    pub fn of(subscriptions: &[MqttSubscription]) -> Self {
        let mut wanted: Vec<Wanted> = Vec::new();
        for (i, s) in subscriptions.iter().enumerate() {
            let stands_back = |(j, other): (usize, &MqttSubscription)| {
                // Of two that cover each other (equal ones), the first stays.
                j != i && covers(&other.filter, &s.filter) && (j < i || !covers(&s.filter, &other.filter))
            };
            if !subscriptions.iter().enumerate().any(stands_back) {
                let brought = subscriptions.iter().filter(|other| covers(&s.filter, &other.filter));
                let qos = brought.map(|other| other.qos).max().unwrap_or(s.qos);
                wanted.push(Wanted { filter: s.filter.clone(), qos });
            }
        }
        let mut overlaps = Vec::new();
        for (i, a) in wanted.iter().enumerate() {
            for b in &wanted[i + 1..] {
                if overlap(&a.filter, &b.filter) {
                    overlaps.push((a.filter.clone(), b.filter.clone()));
                }
            }
        }
        Self { wanted, overlaps }
    }

    /// Of the copies that overlapping subscriptions bring, the one to keep is that of the first filter in the plan
    /// that matches. `identifiers` are those of the copy at hand: 1 for the first filter of the plan, and so on.
    pub fn keeps(&self, topic: &str, identifiers: &[usize]) -> bool {
        if identifiers.is_empty() || self.overlaps.is_empty() {
            return true;
        }
        let mut captures = Vec::new();
        let first = self.wanted.iter().position(|w| matches(&w.filter, topic, &mut captures));
        // A copy of an old subscription that the plan does not know is kept: better twice than never.
        let unknown = |id: &usize| *id > self.wanted.len();
        first.is_none_or(|first| identifiers.contains(&(first + 1)) || identifiers.iter().any(unknown))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topic::TopicName;
    use proptest::prelude::*;

    fn matched<'t>(filter: &str, topic: &'t str) -> Option<Vec<&'t str>> {
        let mut captures = Vec::new();
        matches(filter, topic, &mut captures).then_some(captures)
    }

    fn sub(filter: &str, qos: u8) -> MqttSubscription {
        MqttSubscription { filter: filter.into(), topic: TopicName::new("t").unwrap(), qos }
    }

    #[test]
    fn wildcards_match_as_the_specification_says() {
        for (filter, topic, expected) in [
            ("pump/+/alarm", "pump/7/alarm", Some(vec!["7"])),
            ("pump/+/alarm", "pump/7/8/alarm", None),
            ("pump/#", "pump", Some(vec![""])),
            ("pump/#", "pump/7/x", Some(vec!["7/x"])),
            ("+/+", "/finance", Some(vec!["", "finance"])),
            ("/+", "/finance", Some(vec!["finance"])),
            ("+", "/finance", None),
            ("#", "$SYS/broker", None),
            ("+/broker", "$SYS/broker", None),
            ("$SYS/#", "$SYS/broker", Some(vec!["broker"])),
            ("a/b", "a/b", Some(vec![])),
            ("a/b", "a/b/", None),
            ("$share/g/a/+", "a/b", Some(vec!["b"])),
        ] {
            assert_eq!(matched(filter, topic), expected, "{filter} against {topic}");
        }
    }

    #[test]
    fn a_filter_that_another_covers_is_not_subscribed_and_lends_its_qos() {
        let plan = Plan::of(&[sub("pump/+/alarm", 2), sub("pump/+/+", 1), sub("pump/+/+", 0), sub("wx", 0)]);
        assert_eq!(plan.wanted, [Wanted { filter: "pump/+/+".into(), qos: 2 }, Wanted { filter: "wx".into(), qos: 0 }]);
        assert!(plan.overlaps.is_empty());
    }

    #[test]
    fn of_two_overlapping_copies_only_the_first_filters_is_kept() {
        let plan = Plan::of(&[sub("a/+", 1), sub("+/b", 1)]);
        assert_eq!(plan.overlaps, [("a/+".to_owned(), "+/b".to_owned())]);
        assert!(plan.keeps("a/b", &[1]));
        assert!(!plan.keeps("a/b", &[2]));
        assert!(plan.keeps("x/b", &[2]));
        assert!(plan.keeps("a/b", &[1, 2]), "a broker may send one copy for both");
        assert!(plan.keeps("a/b", &[]));
        assert!(plan.keeps("a/b", &[9]), "an old subscription's copy is all there may be");
    }

    fn filter() -> impl Strategy<Value = String> {
        let level = prop::sample::select(vec!["a", "b", "+", "", "$x"]);
        (prop::collection::vec(level, 1..4), any::<bool>()).prop_map(|(mut levels, hash)| {
            if hash {
                levels.push("#");
            }
            levels.join("/")
        })
    }

    fn all_topics() -> Vec<String> {
        let levels = ["a", "b", "", "$x", "c"];
        let mut all: Vec<String> = levels.iter().map(|l| (*l).to_owned()).collect();
        let mut last = all.clone();
        for _ in 0..3 {
            last = last.iter().flat_map(|t| levels.iter().map(move |l| format!("{t}/{l}"))).collect();
            all.extend(last.iter().cloned());
        }
        all
    }

    proptest! {
        #[test]
        fn covering_and_overlapping_agree_with_trying_every_topic(a in filter(), b in filter()) {
            let topics = all_topics();
            let covered = topics.iter().all(|t| matched(&b, t).is_none() || matched(&a, t).is_some());
            let together = topics.iter().any(|t| matched(&b, t).is_some() && matched(&a, t).is_some());
            // `covers` may miss a case (`+/#` for `#` but for the empty topic); it must never claim one.
            prop_assert!(!covers(&a, &b) || covered, "{a} does not cover {b}");
            prop_assert_eq!(overlap(&a, &b), together);
        }

        #[test]
        fn the_plan_brings_everything_that_was_asked_for(filters in prop::collection::vec(filter(), 1..5)) {
            let subs: Vec<_> = filters.iter().map(|f| sub(f, 1)).collect();
            let plan = Plan::of(&subs);
            for topic in all_topics() {
                let asked = filters.iter().any(|f| matched(f, &topic).is_some());
                let brought = plan.wanted.iter().filter(|w| matched(&w.filter, &topic).is_some()).count();
                prop_assert_eq!(asked, brought > 0);
                prop_assert!(brought <= 1 || !plan.overlaps.is_empty());
            }
        }
    }
}
