//! The handles over a ring in memory, driven as the node drives them.

use super::*;
use crate::lane::LaneId;
use crate::node::testing::{block_on, memory_hub, memory_hub_at, memory_hub_with};
use crate::pipeline::TopicPlan;
use crate::record::RecordRef;
use crate::ring::LanePos;
use crate::rules::filter::{Condition, Needle};
use crate::rules::{Rule, RuleSpec};
use crate::time::{BootTime, Now, Span, WallTime};
use crate::topic::{TopicName, TopicPart, TopicSet};

fn name(s: &str) -> crate::name::Name {
    crate::name::Name::new(s).unwrap()
}

fn topic(s: &str) -> TopicName {
    TopicName::new(s).unwrap()
}

fn contains(text: &str) -> RuleSpec {
    RuleSpec::Filter(Condition::Contains(Needle::new(text.as_bytes())))
}

fn source(hub: &Hub) -> Intake {
    let plan = SourcePlan { name: name("src"), key: None, value: Default::default() };
    hub.intake(plan, false, Stop::default())
}

fn sink(hub: &Hub, topics: &str) -> (Outlet, Rc<Lever>) {
    let topics = TopicSet { include: vec![topics.into()], exclude: vec![] };
    hub.outlet(SinkPlan { name: name("hq"), topics })
}

#[test]
fn what_a_source_offers_a_sink_reads_in_order_once_it_is_durable() {
    block_on(async {
        let hub = memory_hub();
        let (mut outlet, _lever) = sink(&hub, "*");
        let intake = source(&hub);
        let id = intake.topic(&topic("pump")).unwrap();
        let mut last = None;
        for n in 0..1000u32 {
            last = intake.offer_wait(id, &RecordRef::of(format!("value-{n}").as_bytes())).await;
        }
        intake.hurry(Span::default());
        intake.wait_settled(last.unwrap().ticket).await;
        let lane = LaneId(0);
        let (mut pos, mut seen) = (outlet.cursor(lane), Vec::new());
        while seen.len() < 1000 {
            match outlet.read(lane, pos).await {
                Step::Frame(frame) => {
                    seen.extend(frame.entries_from(pos.seq).map(|e| (e.offset, e.record.value.to_vec())));
                    pos = frame.end();
                }
                Step::Gap(gap) => panic!("{gap:?}"),
                Step::End => outlet.wait(lane, pos).await,
            }
        }
        for (n, (offset, value)) in seen.iter().enumerate() {
            assert_eq!((*offset, value.as_slice()), (n as u64, format!("value-{n}").as_bytes()));
        }
        outlet.advance(lane, pos, Tally { delivered: 1000, ..Tally::default() }, 0, &[(b"p", Some(b"1"))]);
        assert!(outlet.account(lane).balances());
        assert_eq!((outlet.pending(lane), outlet.state(b"p").as_deref()), (0, Some(&b"1"[..])));
        hub.admin().drained().await;
        let book = &hub.admin().snapshot().sinks[0];
        assert_eq!((book.admitted, book.delivered, book.pending), (1000, 1000, 0));
    });
}

#[test]
fn a_store_reads_by_offset_and_learns_of_new_records() {
    block_on(async {
        let hub = memory_hub();
        let store = hub.store();
        let id = store.create_topic(&topic("t"), 2).await.unwrap();
        let part = TopicPart { topic: id, partition: 1 };
        assert!(matches!(store.read(part, 0).await, PartStep::End));
        let values: Vec<String> = (0..50).map(|n| format!("v{n}")).collect();
        let bytes = values.iter().map(String::len).sum();
        let mut records = values.iter().map(|v| RecordRef::of(v.as_bytes()));
        let admitted = store.offer_batch(part, &mut records, bytes, &mut |_, _| ()).unwrap();
        store.hurry(Span::default());
        store.wait_beyond(part, 49).await;
        assert!(store.settled() >= admitted[49].ticket);
        let PartStep::Frame(frame) = store.read(part, 20).await else { panic!("nothing at 20") };
        let seen: Vec<_> = frame.entries_of(part, 20).map(|e| (e.offset, e.record.value.to_vec())).collect();
        assert_eq!(seen.len(), 30, "a batch is one frame");
        assert_eq!(seen[0], (20, b"v20".to_vec()));
        store.delete_topic(id).await;
        assert!(store.topic("t").is_none());
        store.wait_beyond(part, 1000).await;
    });
}

#[test]
fn rules_drop_before_the_ring_and_into_keeps_the_raw_record() {
    let plan = Plan {
        node: "n1".into(),
        lanes: vec![name("normal")],
        rules: vec![
            crate::pipeline::RulePlan {
                topics: TopicSet { include: vec!["wx".into()], exclude: vec![] },
                into: Some(topic("wx-alarm")),
                rule: Rule::new(name("alarm"), contains("ALARM")),
            },
            crate::pipeline::RulePlan {
                topics: TopicSet { include: vec!["log".into()], exclude: vec![] },
                into: None,
                rule: Rule::new(name("keep"), contains("keep")),
            },
        ],
        ..Plan::default()
    };
    block_on(async {
        let hub = memory_hub_with(plan);
        let intake = source(&hub);
        let (wx, log) = (intake.topic(&topic("wx")).unwrap(), intake.topic(&topic("log")).unwrap());
        assert!(intake.offer(log, &RecordRef::of(b"noise")).unwrap().first.is_none());
        assert_eq!(intake.offer(log, &RecordRef::of(b"keep me")).unwrap().first.unwrap().offset, 0);
        intake.offer(wx, &RecordRef::of(b"calm")).unwrap();
        let last = intake.offer(wx, &RecordRef::of(b"ALARM wind")).unwrap();
        intake.hurry(Span::default());
        intake.wait_settled(last.ticket).await;
        let ends = |t: &str| hub.store().topic(t).unwrap().partitions[0].durable_end;
        assert_eq!((ends("log"), ends("wx"), ends("wx-alarm")), (1, 2, 1));
    });
}

#[test]
fn a_sinks_cursor_outlives_its_configuration_until_it_is_forgotten() {
    block_on(async {
        let hub = memory_hub();
        let (mut outlet, lever) = sink(&hub, "*");
        let intake = source(&hub);
        let id = intake.topic(&topic("t")).unwrap();
        let last = intake.offer(id, &RecordRef::of(b"1")).unwrap();
        intake.hurry(Span::default());
        intake.wait_settled(last.ticket).await;
        let to = hub.with_pipeline(|p| p.ring().lane_durable(LaneId(0)));
        let state: &[(&[u8], Option<&[u8]>)] = &[];
        outlet.advance(LaneId(0), to, Tally { delivered: to.ordinal, ..Tally::default() }, 0, state);
        hub.remove_sink(&lever);
        assert!(!hub.admin().snapshot().sinks[0].configured);
        let (again, lever) = sink(&hub, "*");
        assert_eq!(again.cursor(LaneId(0)), to);
        assert!(!hub.with_pipeline(|p| p.forget_sink(hub.now().boot, &name("hq"))), "configured");
        hub.remove_sink(&lever);
        hub.with_pipeline(|p| p.forget_sink(hub.now().boot, &name("hq")));
        assert!(hub.admin().snapshot().sinks.is_empty());
    });
}

#[test]
fn stopping_is_seen_by_everyone_and_a_flush_is_said_once() {
    block_on(async {
        let hub = memory_hub();
        let (mut outlet, lever) = sink(&hub, "*");
        lever.give(SinkOrder::Flush);
        assert_eq!(outlet.order_changed().await, SinkOrder::Flush);
        assert_eq!(outlet.order(), SinkOrder::Run);
        lever.give(SinkOrder::Stop);
        lever.give(SinkOrder::Run);
        assert_eq!(outlet.order_changed().await, SinkOrder::Stop);
        let intake = source(&hub);
        hub.stop();
        intake.stopping().await;
        assert!(intake.is_stopping() && hub.store().is_stopping());
    });
}

/// 60,000 bytes that do not compress.
fn noise(rng: &mut crate::backoff::Rng) -> Vec<u8> {
    (0..7_500).flat_map(|_| rng.next_u64().to_le_bytes()).collect()
}

fn planned(topic_name: &str, lane: usize, pause: bool, max_age: Option<Span>) -> (TopicName, TopicPlan) {
    (topic(topic_name), TopicPlan { lane, partitions: 1, pause, max_age })
}

#[test]
fn a_topic_that_pauses_holds_its_source_back_and_loses_nothing_while_others_push_out_their_own() {
    block_on(async {
        let topics = [planned("kept", 1, true, None), planned("loose", 2, false, None)].into();
        let plan = Plan { lanes: crate::node::plan::lanes(), topics, ..Plan::default() };
        let hub = memory_hub_with(plan);
        let (mut outlet, _lever) = sink(&hub, "*");
        let kept = source(&hub);
        let loose = hub.intake(
            SourcePlan { name: name("other"), key: None, value: Default::default() },
            false,
            Stop::default(),
        );
        let (kept_id, loose_id) = (kept.topic(&topic("kept")).unwrap(), loose.topic(&topic("loose")).unwrap());
        let mut rng = crate::backoff::Rng::new(1);
        let mut given = 0u64;
        loop {
            let value = noise(&mut rng);
            let long = std::time::Duration::from_millis(500);
            match tokio::time::timeout(long, kept.offer_wait(kept_id, &RecordRef::of(&value))).await {
                Ok(_) => given += 1,
                Err(_) => break,
            }
        }
        assert!(given > 60, "{given} records do not fill 8 MiB");
        assert!(kept.group(100).is_err(), "a group of the source that is held back");
        let mut last = None;
        for _ in 0..200 {
            let value = noise(&mut rng);
            last = loose.offer_wait(loose_id, &RecordRef::of(&value)).await;
            loose.hurry(Span::default());
        }
        loose.wait_settled(last.unwrap().ticket).await;
        let evicted = |lane: usize| hub.admin().snapshot().ring.lanes[lane].evicted;
        assert!(evicted(1) == 0 && evicted(2) > 0, "kept {}, loose {}", evicted(1), evicted(2));

        let lane = LaneId(1);
        let mut pos = outlet.cursor(lane);
        while pos.ordinal < given {
            let from = pos.ordinal;
            match outlet.read(lane, pos).await {
                Step::Frame(frame) => pos = frame.end(),
                Step::Gap(gap) => panic!("{gap:?}"),
                Step::End => outlet.wait(lane, pos).await,
            }
            outlet.advance(lane, pos, Tally { delivered: pos.ordinal - from, ..Tally::default() }, 0, &[]);
        }
        outlet.persist().await;
        let value = noise(&mut rng);
        assert!(kept.offer_wait(kept_id, &RecordRef::of(&value)).await.is_some(), "there is room again");
    });
}

#[test]
fn a_record_older_than_its_topic_allows_is_expired_and_a_younger_one_is_not() {
    block_on(async {
        let topics = [planned("short", 0, false, Some(Span::from_millis(1)))];
        let topics = topics.into_iter().chain([planned("long", 0, false, Some(Span::from_secs(3600)))]).collect();
        let hub = memory_hub_with(Plan { lanes: crate::node::plan::lanes(), topics, ..Plan::default() });
        let (mut outlet, _lever) = sink(&hub, "*");
        let intake = source(&hub);
        let mut last = None;
        for name in ["short", "long", "free"] {
            let id = intake.topic(&topic(name)).unwrap();
            last = intake.offer_wait(id, &RecordRef::of(b"x")).await;
        }
        intake.wait_settled(last.unwrap().ticket).await;
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        let lane = LaneId(0);
        let pos = outlet.cursor(lane);
        let Step::Frame(frame) = outlet.read(lane, pos).await else { panic!("no frame") };
        let expired: Vec<bool> = frame.entries_from(pos.seq).map(|e| outlet.is_expired(&e, frame.boot())).collect();
        assert_eq!(expired, [true, false, false]);
        assert!(
            !frame.entries_from(pos.seq).any(|e| outlet.is_expired(&e, frame.boot() + 1)),
            "of a boot without a clock"
        );
    });
}

#[test]
fn what_waits_longest_is_the_oldest_record_that_the_sink_wants_and_has_not_had() {
    block_on(async {
        let seconds = Rc::new(std::cell::Cell::new(100));
        let at = seconds.clone();
        let clock = move || Now { boot: BootTime(at.get() * 1_000_000), wall: WallTime(0), trusted: false };
        let hub = memory_hub_at(Plan { lanes: crate::node::plan::lanes(), ..Plan::default() }, clock);
        let (mut outlet, _lever) = sink(&hub, "pump");
        let intake = source(&hub);
        let admit = async |to: &str| {
            let id = intake.topic(&topic(to)).unwrap();
            let last = intake.offer_wait(id, &RecordRef::of(b"x")).await;
            intake.hurry(Span::default());
            intake.wait_settled(last.unwrap().ticket).await;
        };
        let mut heads = crate::pipeline::Heads::default();
        let mut waits = async |outlet: &Outlet, after: i64| {
            seconds.set(seconds.get() + after);
            let waits = outlet.longest_wait(&mut heads).await;
            assert!(!waits.unsure, "all of it is of this boot");
            waits.longest.map(|span| span.0 / 1_000_000)
        };
        let records = outlet.cursor(LaneId(0)).ordinal;
        for (to, longest) in [("other", None), ("pump", Some(5)), ("other", Some(10)), ("pump", Some(15))] {
            admit(to).await;
            assert_eq!(waits(&outlet, 5).await, longest);
        }
        // After the first of its records, and after all.
        for (passed, longest) in [(2, Some(6)), (4, None)] {
            let mut to = outlet.cursor(LaneId(0));
            while to.ordinal < records + passed {
                let Step::Frame(frame) = outlet.read(LaneId(0), to).await else { panic!("no frame") };
                let entry = frame.entries_from(to.seq).next().unwrap();
                to = LanePos { seq: entry.seq + 1, ordinal: entry.ordinal + 1 };
            }
            outlet.advance(LaneId(0), to, Tally { delivered: 2, ..Tally::default() }, 0, &[]);
            assert_eq!(waits(&outlet, 1).await, longest);
        }
    });
}
