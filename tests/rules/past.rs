//! What a SmartModule that looks back has seen before its first record: the pipeline's part of it, over a ring in memory. The
//! module passes numbers that are larger than every one before.

use std::time::Duration;

use headwater::limits::MIN_RING;
use headwater::name::Name;
use headwater::pipeline::{OfferError, Pipeline, Plan, RulePlan, TopicPlan};
use headwater::record::RecordRef;
use headwater::ring::{LaneOptions, MemDisk, Options, Ring, execute};
use headwater::rules::wasm::{Budget, File, Guest, LookBack, Use};
use headwater::rules::{OnError, Rule, RuleSpec};
use headwater::time::{BootTime, Now, Span, WallTime};
use headwater::topic::{TopicName, TopicPart, TopicSet};

use super::bytes_of;

fn topic(name: &str) -> TopicName {
    TopicName::new(name).unwrap()
}

fn looks_back(last: u64, age: Option<u64>) -> RuleSpec {
    let look_back = Some(LookBack { last, age: age.map(Duration::from_secs) });
    let file = File::new(&bytes_of("look_back"), &Budget::default()).unwrap();
    RuleSpec::Wasm(Box::new(Guest::new(&file, Use { look_back, ..Use::default() }).unwrap()))
}

struct Rig {
    disk: MemDisk,
    pipeline: Pipeline,
    rules: Vec<RulePlan>,
    seconds: i64,
}

fn recover(disk: &mut MemDisk, rules: &[RulePlan]) -> Pipeline {
    let lane = Name::new("normal").unwrap();
    let options = Options {
        max_bytes: MIN_RING,
        lanes: vec![LaneOptions { name: lane.clone(), reserve: 0 }],
        linger: Span::from_secs(10),
        binding: [1; 16],
        boot_id: [2; 16],
        seed: 7,
        keys: Default::default(),
        formats: Default::default(),
    };
    let (ring, report) = Ring::recover(disk, options).unwrap();
    let two = TopicPlan { lane: 0, partitions: 2, pause: false, max_age: None };
    let topics = [(topic("two"), two)].into();
    Pipeline::new(ring, report, false, Plan { lanes: vec![lane], topics, rules: rules.to_vec(), ..Plan::default() })
}

impl Rig {
    /// The rule stands before `numbers` and `two`.
    fn new(spec: RuleSpec, into: Option<&str>, on_error: OnError) -> Self {
        let topics = TopicSet { include: vec!["numbers".into(), "two".into()], exclude: vec![] };
        let rule = Rule { on_error, ..Rule::new(Name::new("larger").unwrap(), spec) };
        let rules = vec![RulePlan { topics, into: into.map(topic), rule }];
        let mut disk = MemDisk::new(MIN_RING);
        let pipeline = recover(&mut disk, &rules);
        Self { disk, pipeline, rules, seconds: 1000 }
    }

    fn now(&self) -> Now {
        let boot = BootTime(self.seconds * 1_000_000);
        Now { boot, wall: WallTime(boot.0 + 1_700_000_000_000_000), trusted: true }
    }

    /// What the node's loop does when it is woken.
    fn drive(&mut self) {
        let now = self.now();
        loop {
            while let Some(command) = self.pipeline.poll(now) {
                let done = execute(command, &mut self.disk);
                self.pipeline.complete(now, done);
            }
            if self.pipeline.next_timeout().is_none_or(|at| at > now.boot) {
                return;
            }
        }
    }

    fn try_say(&mut self, name: &str, partition: u8, value: &str) -> Result<bool, OfferError> {
        let topic = self.pipeline.open_topic(&topic(name), None).unwrap();
        let part = TopicPart { topic, partition };
        let admitted = self.pipeline.offer_plain(self.now(), part, &RecordRef::of(value.as_bytes()))?;
        Ok(admitted.first.is_some())
    }

    /// Whether it passes, once the topic takes records.
    fn say(&mut self, name: &str, partition: u8, value: &str) -> bool {
        let topic = self.pipeline.open_topic(&topic(name), None).unwrap();
        while self.pipeline.is_held(topic) && self.pipeline.stopped().is_empty() {
            self.drive();
        }
        self.seconds += 1;
        self.try_say(name, partition, value).unwrap()
    }

    fn says(&mut self, name: &str, values: &[&str]) -> Vec<bool> {
        values.iter().map(|value| self.say(name, 0, value)).collect()
    }

    /// Everything is durable, and the process begins anew.
    fn restart(&mut self) {
        self.pipeline.ring_mut().seal_all();
        self.drive();
        self.pipeline = recover(&mut self.disk, &self.rules);
    }

    fn errors(&self) -> (u64, Option<String>) {
        let (_, told) = self.pipeline.tallies().remove(0);
        (told.tally.errors, told.last_error.map(Into::into))
    }
}

#[test]
fn before_its_first_record_it_has_seen_the_newest_of_the_topic_and_until_then_the_topic_waits() {
    let mut rig = Rig::new(looks_back(2, None), None, OnError::Drop);
    assert_eq!(rig.says("numbers", &["5", "3", "9", "20"]), [true, false, true, true]);
    rig.restart();
    let held = rig.pipeline.open_topic(&topic("numbers"), None).unwrap();
    assert!(rig.pipeline.is_held(held));
    assert_eq!(rig.try_say("numbers", 0, "10"), Err(OfferError::Busy));
    assert_eq!(rig.says("numbers", &["10", "20", "21"]), [false, false, true]);
    assert_eq!(rig.errors(), (0, None));
}

#[test]
fn it_sees_as_many_as_were_asked_for_and_none_that_is_older() {
    // What the topic has: 100, and then smaller ones that came when nothing looked.
    let fill = |rig: &mut Rig| {
        let rules = std::mem::take(&mut rig.rules);
        rig.restart();
        rig.says("numbers", &["100", "7", "8"]);
        rig.seconds += 600;
        rig.says("numbers", &["9", "1"]);
        rig.rules = rules;
        rig.restart();
    };
    for (last, age, largest) in [(1, None, 1), (2, None, 9), (4, None, 9), (5, None, 100), (0, Some(60), 9)] {
        let mut rig = Rig::new(looks_back(last, age), None, OnError::Drop);
        fill(&mut rig);
        let passes = (0..=100).find(|n| rig.say("numbers", 0, &n.to_string()));
        assert_eq!(passes, (largest < 100).then_some(largest + 1), "{last} {age:?}");
    }
}

#[test]
fn after_a_trap_it_has_seen_what_came_before_it_durable_or_not() {
    let mut rig = Rig::new(looks_back(10, None), None, OnError::Drop);
    assert_eq!(rig.says("numbers", &["5", "50", "trap", "49", "51"]), [true, true, false, false, true]);
    let (errors, reason) = rig.errors();
    assert_eq!(errors, 1);
    assert!(reason.unwrap().contains("broke off"));
}

#[test]
fn in_a_batch_that_stays_together_nothing_runs_without_the_past() {
    let mut rig = Rig::new(looks_back(10, None), None, OnError::Drop);
    assert!(rig.say("numbers", 0, "50"));
    let part = TopicPart { topic: rig.pipeline.open_topic(&topic("numbers"), None).unwrap(), partition: 0 };
    let now = rig.now();
    let mut records = ["trap", "51"].into_iter().map(|value| RecordRef::of(value.as_bytes()));
    let admitted = rig.pipeline.offer_batch(now, part, &mut records, 100, &mut |_, _| {}).unwrap();
    assert!(admitted.iter().all(|admitted| admitted.first.is_none()));
    let (errors, reason) = rig.errors();
    assert_eq!(errors, 2);
    assert!(reason.unwrap().contains("looks back"));
    assert_eq!(rig.says("numbers", &["49", "51"]), [false, true]);
}

#[test]
fn all_partitions_are_seen() {
    let mut rig = Rig::new(looks_back(10, None), None, OnError::Drop);
    assert!(rig.say("two", 0, "5"));
    assert!(rig.say("two", 1, "50"));
    rig.restart();
    assert!(!rig.say("two", 0, "49"));
    assert!(rig.say("two", 0, "51"));
}

#[test]
fn a_rule_that_makes_another_topic_looks_back_at_that_one() {
    let mut rig = Rig::new(looks_back(10, None), Some("records"), OnError::Drop);
    // Every number stays in its own topic.
    assert_eq!(rig.says("numbers", &["5", "9", "7"]), [true; 3]);
    rig.restart();
    let made = |rig: &mut Rig| {
        rig.pipeline.ring_mut().seal_all();
        rig.drive();
        let topic = rig.pipeline.ring().topic_id("records").unwrap();
        rig.pipeline.ring().durable_end(TopicPart { topic, partition: 0 }).unwrap()
    };
    rig.says("numbers", &["8", "9"]);
    assert_eq!(made(&mut rig), 2);
    rig.says("numbers", &["10"]);
    assert_eq!(made(&mut rig), 3);
}

#[test]
fn where_it_fails_over_the_past_it_goes_without_and_says_so_or_the_topic_stops() {
    for on_error in [OnError::Pass, OnError::Stop] {
        let rules = |rig: &mut Rig| std::mem::take(&mut rig.rules);
        let mut rig = Rig::new(looks_back(10, None), None, on_error);
        let kept = rules(&mut rig);
        rig.restart();
        rig.says("numbers", &["50", "no number"]);
        rig.rules = kept;
        rig.restart();
        rig.drive();
        let (errors, reason) = rig.errors();
        assert_eq!(errors, 1);
        assert!(reason.unwrap().starts_with("its look_back: "));
        if on_error == OnError::Stop {
            assert_eq!(rig.pipeline.stopped().len(), 1);
            assert_eq!(rig.try_say("numbers", 0, "60"), Err(OfferError::Busy));
        } else {
            assert!(rig.say("numbers", 0, "60"));
        }
    }
}

#[test]
fn a_record_of_the_past_that_it_fails_on_costs_that_record_and_not_the_past() {
    let seen = |bad: usize| {
        let mut rig = Rig::new(looks_back(100, None), None, OnError::Pass);
        let kept = std::mem::take(&mut rig.rules);
        rig.restart();
        rig.says("numbers", &["5", "7"]);
        for _ in 0..bad {
            rig.say("numbers", 0, "no number");
        }
        rig.says("numbers", &["50", "9"]);
        rig.rules = kept;
        rig.restart();
        let passes = rig.says("numbers", &["6", "49", "51"]);
        let (errors, reason) = rig.errors();
        assert!(reason.is_none_or(|reason| reason.starts_with("its look_back: ")));
        (passes, errors)
    };
    assert_eq!(seen(0), (vec![false, false, true], 0));
    assert_eq!(seen(1), (vec![false, false, true], 1));
    assert_eq!(seen(16), (vec![false, false, true], 16));
    // One more, and what lies behind it is not seen.
    assert_eq!(seen(17), (vec![false, true, true], 17));
}

#[test]
fn the_past_that_ends_in_a_record_that_it_fails_on_is_seen_once() {
    let mut rig = Rig::new(looks_back(10, None), None, OnError::Pass);
    let kept = std::mem::take(&mut rig.rules);
    rig.restart();
    rig.says("numbers", &["50", "no number"]);
    rig.rules = kept;
    rig.restart();
    assert_eq!(rig.says("numbers", &["49", "51", "50"]), [false, true, false]);
    assert_eq!(rig.errors().0, 1);
}

#[test]
fn an_empty_topic_has_no_past_and_takes_records_at_once_after_the_first_turn() {
    let mut rig = Rig::new(looks_back(10, None), None, OnError::Drop);
    assert!(rig.say("numbers", 0, "-5"));
    assert_eq!(rig.errors(), (0, None));
}

#[test]
fn many_records_of_the_past_are_seen_to_the_last() {
    let mut rig = Rig::new(looks_back(5000, None), None, OnError::Drop);
    let kept = std::mem::take(&mut rig.rules);
    rig.restart();
    rig.say("numbers", 0, "1000000");
    for n in 0..4999 {
        rig.say("numbers", 0, &n.to_string());
        if n % 500 == 0 {
            rig.pipeline.ring_mut().seal_all();
            rig.drive();
        }
    }
    rig.rules = kept;
    rig.restart();
    assert!(!rig.say("numbers", 0, "999999"));
    rig.rules[0].rule.spec = looks_back(4999, None);
    rig.restart();
    // It passed nothing since.
    assert!(rig.say("numbers", 0, "999999"));
}
