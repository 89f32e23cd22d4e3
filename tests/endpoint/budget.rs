//! What large requests share, and answers, is there for each of them, whatever becomes of the others.

use std::time::Duration;

use headwater::endpoint::Patience;
use headwater::json::Path;
use headwater::name::Name;
use headwater::pipeline::{Plan, RulePlan};
use headwater::rules::filter::{Condition, Test};
use headwater::rules::{OnError, Rule, RuleSpec};
use headwater::topic::TopicSet;

use super::produce::{ask_produce, batch, fetch, fetch_body, produce, produce_body};
use super::server::{Client, Server, config, framed, plan, string};

/// A record set of so many batches of 200 KiB each.
fn large(batches: usize) -> Vec<u8> {
    batch(&[&[7; 200 * 1024]], None).repeat(batches)
}

/// Two of them are nearly all that there is.
const HALF: usize = 19;
const MORE_THAN_IS_LEFT: usize = 3;

/// A rule stops the topic `held` at its first record.
fn plan_that_stops() -> Plan {
    let spec = RuleSpec::Filter(Condition::Field(Path::parse("x").expect("a path"), Test::Exists));
    let rule = Rule { on_error: OnError::Stop, ..Rule::new(Name::new("has-x").expect("a name"), spec) };
    let topics = TopicSet { include: vec!["held".into()], exclude: vec![] };
    Plan { rules: vec![RulePlan { topics, into: None, rule }], ..plan() }
}

#[test]
fn a_topic_that_takes_nothing_holds_up_no_large_request_for_another() {
    let server = Server::with(config(64), plan_that_stops);
    server.create_topic("held", 1);
    server.create_topic("free", 1);
    assert_eq!(produce(&server, "held", 0, &batch(&[b"not json"], None)).0, 0);
    let mut held = [(); 2].map(|()| Client::connect(server.spu));
    for client in &mut held {
        ask_produce(client, None, ("held", 0), &large(HALF));
    }
    assert_eq!(produce(&server, "free", 0, &large(MORE_THAN_IS_LEFT)), (0, 0));
    for client in &mut held {
        let answer = client.answer(1);
        assert!(String::from_utf8_lossy(&answer).contains("topic held takes nothing at the moment"), "{answer:?}");
    }
}

#[test]
fn a_peer_that_takes_no_answers_has_no_large_request_read() {
    let server = Server::start();
    server.create_topic("t", 1);
    assert_eq!(produce(&server, "t", 0, &large(2)), (0, 0));
    let stream = [&string("t")[..], &[0; 4 + 8], &(1i32 << 20).to_be_bytes(), &[0; 6]].concat();
    let [small, half] = [batch(&[b"x"], None), large(HALF)].map(|set| produce_body(None, ("t", 0), &set));
    let _hogs = [(); 2].map(|()| {
        let mut client = Client::connect(server.spu);
        client.take_nothing();
        // More than a socket takes, then as many produces as may be unanswered, then a large one.
        for i in 0..64 {
            client.request(1003, 25, i, &stream);
        }
        for i in 64..80 {
            client.request(0, 25, i, &small);
        }
        // As much of it as is taken.
        let _ = client.send_raw(&framed(0, 25, 80, &half));
        client
    });
    // Whenever it is that the node comes to theirs.
    for _ in 0..20 {
        assert_eq!(produce(&server, "t", 0, &large(MORE_THAN_IS_LEFT)).0, 0);
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn readers_that_take_nothing_hold_up_others_no_longer_than_they_are_waited_for() {
    let patience = Patience { answer: Duration::from_secs(2), ..Patience::default() };
    let server = Server::waiting(config(64), plan, patience);
    server.create_topic("t", 1);
    assert_eq!(produce(&server, "t", 0, &large(6)), (0, 0));
    // Together more than answers may take, and each more than its socket takes.
    let _hogs: Vec<_> = (0..24)
        .map(|_| {
            let mut client = Client::connect(server.spu);
            client.take_nothing();
            for i in 0..16 {
                client.request(1, 25, i, &fetch_body("t", 0, 0, 1 << 20));
            }
            client
        })
        .collect();
    let (error, set) = fetch(&server, "t", 0, 0, 1 << 20);
    assert_eq!((error.as_str(), set.len()), ("", 1 << 20));
}
