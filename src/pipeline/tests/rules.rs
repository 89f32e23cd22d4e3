//! Rules that keep state, over a ring: what they keep is there with what they made, whatever ends the process.

use super::*;
use crate::backoff::Rng;
use crate::rules::debounce::Debounce;
use crate::rules::dedup::Dedup;
use crate::rules::filter::{Condition, Test};
use crate::rules::route::Route as RouteRule;
use crate::rules::{OnError, RuleSpec};

fn only(topic: &str) -> TopicSet {
    TopicSet { include: vec![topic.into()], exclude: vec![] }
}

fn planned(topic: &str, rule: Rule) -> RulePlan {
    RulePlan { topics: only(topic), into: None, rule }
}

fn dedup(definition: u64) -> Rule {
    let spec = RuleSpec::Dedup(Dedup { by: None, within: Span::from_secs(100_000) });
    Rule { definition, ..Rule::new(name("once"), spec) }
}

fn has_field(field: &str, on_error: OnError) -> Rule {
    let path = crate::json::Path::parse(field).unwrap();
    Rule { on_error, ..Rule::new(name("has"), RuleSpec::Filter(Condition::Field(path, Test::Exists))) }
}

fn with_rules(rules: Vec<RulePlan>) -> Rig {
    let mut rig = Rig::new();
    rig.replan(rules);
    rig
}

impl Rig {
    fn replan(&mut self, rules: Vec<RulePlan>) {
        self.pipeline.replan(Plan { rules, ..plan() });
    }

    fn say(&mut self, topic: &str, value: &str) -> Result<Admitted, OfferError> {
        let topic = self.pipeline.open_topic(&TopicName::new(topic).unwrap(), None).unwrap();
        let part = TopicPart { topic, partition: 0 };
        self.pipeline.offer_plain(self.now(), part, &RecordRef::of(value.as_bytes()))
    }

    fn in_topic(&mut self, topic: &str) -> Vec<String> {
        self.flush();
        self.values(topic).iter().map(ToString::to_string).collect()
    }
}

/// Numbers come in through crashes, and each is sent again until it is settled: what is in `topic` in the end.
fn through_crashes(seed: u64, rules: &dyn Fn() -> Vec<RulePlan>, topic: &str) -> Vec<u64> {
    let mut rng = Rng::new(seed);
    let mut rig = with_rules(rules());
    // By number: the ticket under which it was offered last.
    let mut waiting: Vec<(u64, Option<Ticket>)> = (0..40).map(|n| (n, None)).collect();
    for _ in 0..6 {
        let offers = 1 + rng.next_u64() % 20;
        for (n, ticket) in waiting.iter_mut().filter(|(_, ticket)| ticket.is_none()).take(offers as usize) {
            *ticket = rig.say("one", &n.to_string()).ok().map(|admitted| admitted.ticket);
            rig.time += 1;
            // Some of what is written now is on the disk, some is not.
            let now = rig.now();
            for _ in 0..rng.next_u64() % 3 {
                let Some(command) = rig.pipeline.poll(now) else { break };
                let done = execute(command, &mut rig.disk);
                rig.pipeline.complete(now, done);
            }
        }
        let settled = rig.pipeline.ring().settled();
        waiting.retain(|(_, ticket)| ticket.is_none_or(|ticket| ticket > settled));
        waiting.iter_mut().for_each(|(_, ticket)| *ticket = None);
        rig.crash();
        rig.replan(rules());
    }
    for (n, _) in &waiting {
        rig.say("one", &n.to_string()).unwrap();
    }
    let mut there: Vec<u64> = rig.in_topic(topic).iter().map(|n| n.parse().unwrap()).collect();
    there.sort_unstable();
    there
}

#[test]
fn what_comes_again_after_a_crash_is_there_once_and_nothing_is_missing() {
    let all: Vec<u64> = (0..40).collect();
    for seed in 0..300 {
        let rules = || vec![planned("one", dedup(1))];
        assert_eq!(through_crashes(seed, &rules, "one"), all, "seed {seed}");
    }
}

#[test]
fn a_rule_further_on_and_in_another_lane_keeps_its_state_beside_its_own_records() {
    let all: Vec<u64> = (0..40).collect();
    let anything = || {
        let none = Condition::Contains(crate::rules::filter::Needle::new(b"nothing"));
        Rule::new(name("copy"), RuleSpec::Filter(Condition::Not(Box::new(none))))
    };
    for seed in 0..300 {
        // `old` is in the lane that goes first.
        let copies = || {
            let into = Some(TopicName::new("old").unwrap());
            vec![RulePlan { topics: only("one"), into, rule: anything() }, planned("old", dedup(1))]
        };
        assert_eq!(through_crashes(seed, &copies, "old"), all, "seed {seed}");
        let routed = || {
            let to = vec![(
                TopicName::new("old").unwrap(),
                Condition::Regex(crate::rules::filter::Pattern::new(".").unwrap()),
            )];
            let route = Rule::new(name("there"), RuleSpec::Route(RouteRule { to, otherwise: None }));
            vec![planned("one", route), planned("old", dedup(1))]
        };
        assert_eq!(through_crashes(seed, &routed, "old"), all, "seed {seed}");
    }
}

fn rests(by: Option<&str>) -> Rule {
    let by = by.map(|by| Template::parse(by).unwrap());
    let spec = RuleSpec::Debounce(Debounce { by, field: None, quiet: Span::from_secs(10), max_wait: None });
    Rule::new(name("rest"), spec)
}

#[test]
fn all_that_a_rule_holds_comes_in_its_time_however_much_it_is() {
    let mut rig = with_rules(vec![planned("one", rests(Some("{field.n}")))]);
    for n in 0..400 {
        rig.say("one", &format!("{{\"n\":{n}}}")).unwrap();
        rig.drive();
    }
    rig.time += 10;
    for _ in 0..10 {
        rig.drive();
    }
    assert_eq!(rig.in_topic("one").len(), 400);
    assert!(rig.pipeline.next_timeout().is_none_or(|at| at > rig.now().boot + Span::from_secs(5)));
}

#[test]
fn a_topic_that_is_stopped_holds_up_no_other_ones_time() {
    let rules =
        vec![planned("one", rests(None)), planned("two", rests(None)), planned("one", has_field("x", OnError::Stop))];
    let mut rig = with_rules(rules);
    for value in ["[1", "[1"] {
        let _ = rig.say("one", value);
    }
    rig.say("two", "1").unwrap();
    rig.time += 10;
    rig.drive();
    rig.drive();
    assert_eq!(rig.pipeline.stopped().len(), 1, "by a record that its time made");
    rig.say("two", "2").unwrap();
    rig.time += 10;
    rig.drive();
    assert_eq!(rig.in_topic("two"), ["1", "2"]);
}

#[test]
fn what_a_rule_that_is_gone_kept_is_dropped() {
    let mut rig = with_rules(vec![planned("one", dedup(1)), planned("two", rests(None))]);
    rig.say("one", "1").unwrap();
    rig.say("two", "1").unwrap();
    rig.replan(vec![planned("two", dedup(1))]);
    rig.say("two", "2").unwrap();
    let owners = rig.pipeline.ring().owners(OwnerKind::Rule);
    let kept: Vec<_> = owners.iter().flat_map(|owner| rig.pipeline.ring().states(owner)).collect();
    assert_eq!((owners.len(), kept.iter().filter(|(key, _)| key.starts_with(b"one")).count()), (1, 0));
}

#[test]
fn a_reload_keeps_the_state_of_what_stays_the_same_and_drops_that_of_what_changed() {
    let mut rig = with_rules(vec![planned("one", dedup(1))]);
    let value = "{\"x\":1}";
    rig.say("one", value).unwrap();
    rig.replan(vec![planned("one", has_field("x", OnError::Pass)), planned("one", dedup(1))]);
    rig.say("one", value).unwrap();
    assert_eq!(rig.in_topic("one"), [value]);
    rig.replan(vec![planned("one", dedup(2))]);
    rig.say("one", value).unwrap();
    assert_eq!(rig.in_topic("one"), [value, value]);
    // What its chains did before they were made anew is counted on.
    let tallies = rig.pipeline.tallies();
    assert_eq!((tallies[0].1.tally.records_in, tallies[0].1.tally.records_out), (3, 2));
}

#[test]
fn what_a_rule_holds_comes_when_its_time_does_also_after_a_crash() {
    let spec = RuleSpec::Debounce(Debounce { by: None, field: None, quiet: Span::from_secs(10), max_wait: None });
    let rules =
        || vec![planned("one", Rule::new(name("rest"), spec.clone())), planned("one", has_field("x", OnError::Pass))];
    let mut rig = with_rules(rules());
    rig.say("one", "{\"x\":1}").unwrap();
    rig.say("one", "{\"x\":2}").unwrap();
    rig.flush();
    rig.crash();
    rig.replan(rules());
    assert!(rig.pipeline.next_timeout().is_some_and(|at| at <= rig.now().boot));
    rig.drive();
    assert!(rig.in_topic("one").is_empty());
    let due = rig.pipeline.next_timeout().unwrap();
    assert!(due > rig.now().boot && due <= BootTime((rig.time + 10) * 1_000_000));
    rig.time += 10;
    rig.drive();
    assert_eq!(rig.in_topic("one"), ["{\"x\":2}"]);
    rig.time += 100;
    rig.drive();
    assert_eq!(rig.in_topic("one").len(), 1);
}

#[test]
fn a_rule_that_fails_does_what_its_policy_says() {
    for (policy, passes) in [(OnError::Pass, true), (OnError::Drop, false), (OnError::DeadLetter, false)] {
        let mut rig = with_rules(vec![planned("one", has_field("x", policy))]);
        let admitted = rig.say("one", "[7").unwrap();
        assert_eq!((admitted.first.is_some(), admitted.rule_errors), (passes, 1), "{policy:?}");
        let letters = rig.in_topic(DEAD_LETTERS_TOPIC);
        assert_eq!(letters.len(), usize::from(policy == OnError::DeadLetter));
        for letter in letters {
            let letter: serde_json::Value = serde_json::from_str(&letter).unwrap();
            assert_eq!(
                (&letter["rule"], &letter["topic"], &letter["value"]),
                (&"has".into(), &"one".into(), &"[7".into())
            );
            assert!(letter["reason"].as_str().unwrap().contains("not JSON"), "{letter}");
        }
    }
}

#[test]
fn the_first_dead_letter_outlives_the_process_and_the_next_one_has_an_offset_of_its_own() {
    let rules = || vec![planned("one", has_field("x", OnError::DeadLetter))];
    let mut rig = with_rules(rules());
    rig.say("one", "{\"x\":1}").unwrap();
    rig.say("one", "[1").unwrap();
    rig.flush();
    rig.crash();
    rig.replan(rules());
    assert_eq!(rig.in_topic(DEAD_LETTERS_TOPIC).len(), 1);
    rig.say("one", "[2").unwrap();
    assert_eq!(rig.in_topic(DEAD_LETTERS_TOPIC).len(), 2);
}

#[test]
fn a_stopped_topic_takes_nothing_more_until_the_rules_are_read_again() {
    let rules = || vec![planned("one", has_field("x", OnError::Stop))];
    let mut rig = with_rules(rules());
    rig.say("one", "{\"x\":1}").unwrap();
    // What it failed on is kept.
    assert!(rig.say("one", "[1").is_ok_and(|admitted| admitted.rule_errors == 1 && admitted.first.is_some()));
    assert_eq!(rig.say("one", "{\"x\":2}"), Err(OfferError::Busy));
    rig.say("two", "{\"x\":2}").unwrap();
    let stopped = rig.pipeline.stopped();
    assert_eq!((stopped[0].topic.as_str(), stopped[0].rule.as_str()), ("one", "has"));
    rig.replan(rules());
    rig.say("one", "{\"x\":2}").unwrap();
    assert!(rig.pipeline.stopped().is_empty());
}

#[test]
fn a_routed_record_meets_the_rules_of_where_it_goes_once() {
    let condition = |text: &str| Condition::Contains(crate::rules::filter::Needle::new(text.as_bytes()));
    let route = |to: &str| RouteRule { to: vec![(TopicName::new(to).unwrap(), condition("a"))], otherwise: None };
    let there = Rule::new(name("there"), RuleSpec::Route(route("two")));
    let back = Rule::new(name("back"), RuleSpec::Route(route("one")));
    let mut rig = with_rules(vec![planned("one", there), planned("two", back)]);
    for value in ["\"a\"", "\"b\""] {
        rig.say("one", value).unwrap();
    }
    // Round and round ends where it began.
    assert_eq!((rig.in_topic("one"), rig.in_topic("two")), (vec!["\"a\"".into(), "\"b\"".into()], vec![]));
}

#[test]
fn many_things_share_the_room_of_a_rule() {
    let mut rig = with_rules(vec![planned("one", dedup(1))]);
    for n in 0..6000 {
        while rig.say("one", &n.to_string()).is_err() {
            rig.drive();
        }
    }
    let (_, Told { tally, .. }) = &rig.pipeline.tallies()[0];
    assert!(tally.errors == 0 && tally.forgotten > 0 && tally.records_out == 6000, "{tally:?}");
    rig.say("one", "5999").unwrap();
    assert_eq!(rig.pipeline.tallies()[0].1.tally.records_out, 6000);
}

#[test]
fn what_a_rule_that_derives_cannot_work_on_is_in_its_own_topic_only_whatever_the_policy() {
    for on_error in [OnError::Pass, OnError::Drop, OnError::DeadLetter, OnError::Stop] {
        let into = Some(TopicName::new("two").unwrap());
        let mut rig = with_rules(vec![RulePlan { topics: only("one"), into, rule: has_field("x", on_error) }]);
        let values = ["{\"x\":1}", "[1"];
        for value in values {
            rig.say("one", value).unwrap();
        }
        rig.flush();
        let ring = rig.pipeline.ring();
        let records = |topic: &str| {
            let topic = ring.topic_id(topic).unwrap();
            ring.durable_end(TopicPart { topic, partition: 0 })
        };
        assert_eq!((records("one"), records("two")), (Some(2), Some(1)), "{on_error:?}");
    }
}

#[test]
fn what_rules_fail_on_is_told_once_to_who_listens_and_to_nobody_else() {
    let failing = || vec![planned("one", has_field("a", OnError::Pass)), planned("two", has_field("a", OnError::Drop))];
    let mut rig = with_rules(failing());
    rig.say("one", "no JSON").unwrap();
    assert_eq!(rig.pipeline.take_failures(), []);
    rig.pipeline.listen();
    rig.say("one", "no JSON").unwrap();
    rig.say("two", "{").unwrap();
    rig.say("two", "{\"a\":1}").unwrap();
    let rules: Vec<_> = rig.pipeline.take_failures().into_iter().map(|failure| failure.rule.to_string()).collect();
    assert_eq!(rules, ["has", "has"]);
    assert_eq!(rig.pipeline.take_failures(), []);
}

#[test]
fn what_a_rule_holds_comes_out_when_a_reload_ends_or_changes_it() {
    let quiet = |seconds| {
        let spec = Debounce { by: None, field: None, quiet: Span::from_secs(seconds), max_wait: None };
        Rule { definition: seconds as u64, ..Rule::new(name("rest"), RuleSpec::Debounce(spec)) }
    };
    for (next, out) in [(vec![], 1), (vec![planned("one", quiet(20))], 1), (vec![planned("one", quiet(10))], 0)] {
        let mut rig = with_rules(vec![planned("one", quiet(10))]);
        rig.say("one", "1").unwrap();
        assert_eq!(rig.in_topic("one").len(), 0);
        let plan = Plan { rules: next, ..plan() };
        rig.pipeline.end_rules(rig.now(), &plan);
        rig.pipeline.replan(plan);
        assert_eq!(rig.in_topic("one").len(), out);
        // And only once.
        rig.time += 60;
        rig.drive();
        assert_eq!(rig.in_topic("one").len(), 1);
    }
}

#[test]
fn a_rule_that_forgets_makes_room_for_one_that_holds() {
    let debounce = Debounce { by: None, field: None, quiet: Span::from_secs(10), max_wait: None };
    let rest = Rule { definition: 2, ..Rule::new(name("rest"), RuleSpec::Debounce(debounce)) };
    let mut rig = with_rules(vec![planned("one", dedup(1)), planned("two", rest)]);
    // As much as all rules together may have in a ring of this size.
    for n in 0..2_000 {
        while rig.say("one", &format!("a text that makes the key of {n} long enough")).is_err() {
            rig.drive();
        }
    }
    let weigh = |rig: &Rig| rig.pipeline.ring().weigh_kind(OwnerKind::Rule);
    let most = rig.pipeline.ring().states_limit() / 2;
    assert!(weigh(&rig) * 10 > most * 7, "{} of {most}", weigh(&rig));
    for n in 0..20 {
        rig.say("two", &format!("held {n} {}", "x".repeat(400))).unwrap();
        rig.drive();
    }
    let (_, Told { tally, last_error }) = rig.pipeline.tallies().remove(1);
    assert_eq!((tally.errors, last_error), (0, None));
    assert!(weigh(&rig) <= most);
}
