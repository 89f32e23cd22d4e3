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

#[test]
fn what_comes_again_after_a_crash_is_there_once_and_nothing_is_missing() {
    for seed in 0..300 {
        let mut rng = Rng::new(seed);
        let rules = || vec![planned("one", dedup(1))];
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
        let mut there: Vec<u64> = rig.in_topic("one").iter().map(|n| n.parse().unwrap()).collect();
        there.sort_unstable();
        assert_eq!(there, (0..40).collect::<Vec<_>>(), "seed {seed}");
    }
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
    assert_eq!((tallies[0].1.records_in, tallies[0].1.records_out), (3, 2));
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
    let (_, tally) = &rig.pipeline.tallies()[0];
    assert!(tally.errors == 0 && tally.forgotten > 0 && tally.records_out == 6000, "{tally:?}");
    rig.say("one", "5999").unwrap();
    assert_eq!(rig.pipeline.tallies()[0].1.records_out, 6000);
}
