//! What a node keeps of those that count their batches.

use headwater::forward::Marker;
use headwater::forward::turn::{Ask, Kept, Newest, OUT_OF_TURN, PRODUCERS, PRODUCERS_VERSION, Turn};

use headwater::name::Name;
use headwater::pipeline::{Plan, RulePlan};
use headwater::rules::filter::{Condition, Needle};
use headwater::rules::{Rule, RuleSpec};
use headwater::topic::TopicSet;

use super::produce::{ask_produce, batch, fetch, headers, produce_as};
use super::server::{Client, Server, config, plan, string};

const OTHER: i16 = 2;

/// A batch of so many records, by its number.
fn numbered(producer: i64, number: u64, records: usize) -> Vec<u8> {
    let origin = Marker { id: producer, number }.to_origin();
    let values = vec![&b"x"[..]; records];
    batch(&values, Some((origin.producer_id, origin.producer_epoch, origin.first_sequence)))
}

fn send(server: &Server, producer: i64, number: u64, after: Option<u64>) -> (i16, i64) {
    let turn = Turn(after).to_text();
    produce_as(&mut Client::connect(server.spu), Some(&turn), ("up", 0), &numbered(producer, number, 2))
}

fn ask(client: &mut Client, topic: &str, producer_id: i64) -> Kept {
    let mut body = Vec::new();
    Ask { topic, partition: 0, producer_id, ring: None }.write(&mut body);
    client.request(PRODUCERS, PRODUCERS_VERSION, 9, &body);
    Kept::read(&client.answer(9)).expect("an answer")
}

fn newest(server: &Server, producer: i64) -> Option<Newest> {
    match ask(&mut Client::connect(server.spu), "up", producer) {
        Kept::Has { newest, .. } => newest,
        other => panic!("{other:?}"),
    }
}

fn stored(server: &Server) -> usize {
    headers(&fetch(server, "up", 0, 0, 1 << 20).1).len()
}

#[test]
fn the_key_is_told_to_nodes_and_to_nobody_else() {
    let server = Server::start();
    let keys = |name: &str| {
        let mut client = Client::connect(server.spu);
        let mut frame = [18u16.to_be_bytes(), 0u16.to_be_bytes()].concat();
        frame.extend(1i32.to_be_bytes());
        frame.extend(string(name));
        for word in ["0.50.0", "linux", "arm"] {
            frame.extend(string(word));
        }
        client.send(&frame);
        client.answer(1)
    };
    let has = |answer: Vec<u8>| answer.windows(2).any(|two| two == PRODUCERS.to_be_bytes());
    assert!(has(keys("headwater")));
    assert!(!has(keys("fluvio")) && !has(keys("")));
}

#[test]
fn a_repeat_is_answered_with_its_first_offset_and_stored_once() {
    let server = Server::start();
    server.create_topic("up", 1);
    assert_eq!(newest(&server, 7), None);
    assert_eq!(send(&server, 7, 10, None), (0, 0));
    assert_eq!(send(&server, 8, 3, None), (0, 2));
    assert_eq!(send(&server, 7, 20, Some(10)), (0, 4));
    for _ in 0..3 {
        assert_eq!(send(&server, 7, 20, Some(10)), (0, 4));
    }
    assert_eq!(stored(&server), 3);
    assert_eq!(newest(&server, 7), Some(Newest { number: 20, base: 4, count: 2 }));
    assert_eq!(newest(&server, 8), Some(Newest { number: 3, base: 2, count: 2 }));
}

#[test]
fn what_comes_out_of_turn_is_not_stored() {
    let server = Server::start();
    server.create_topic("up", 1);
    assert_eq!(send(&server, 7, 10, Some(4)).0, OTHER);
    assert_eq!(send(&server, 7, 10, None), (0, 0));
    for (number, after) in [(20, None), (20, Some(9)), (20, Some(11)), (5, None), (5, Some(10)), (9, Some(4))] {
        let (code, _) = send(&server, 7, number, after);
        assert_eq!(code == OTHER, !(number == 5 && after == Some(10)), "{number} behind {after:?}: {code}");
    }
    // Behind the newest one it is the next, whatever its number: an upstream that was put back has less than it had.
    assert_eq!(stored(&server), 2);
    let text = produce_words(&server);
    assert!(text.contains(OUT_OF_TURN), "{text}");
}

fn produce_words(server: &Server) -> String {
    let mut client = Client::connect(server.spu);
    let turn = Turn(Some(77)).to_text();
    ask_produce(&mut client, Some(&turn), ("up", 0), &numbered(7, 99, 1));
    String::from_utf8_lossy(&client.answer(1)).into_owned()
}

#[test]
fn who_does_not_count_is_stored_as_ever_and_moves_the_count_of_who_does() {
    let server = Server::start();
    server.create_topic("up", 1);
    let plain = |number| produce_as(&mut Client::connect(server.spu), None, ("up", 0), &numbered(7, number, 2));
    assert_eq!((plain(5), plain(5)), ((0, 0), (0, 2)));
    assert_eq!(newest(&server, 7), None);
    assert_eq!(send(&server, 7, 10, None), (0, 4));
    assert_eq!(plain(12), (0, 6));
    assert_eq!(newest(&server, 7), Some(Newest { number: 12, base: 6, count: 2 }));
    assert_eq!(send(&server, 7, 20, Some(10)).0, OTHER);
    assert_eq!(send(&server, 7, 20, Some(12)), (0, 8));
}

#[test]
fn a_batch_that_rules_leave_nothing_of_is_counted_all_the_same() {
    let drop_all = || {
        let spec = RuleSpec::Filter(Condition::Contains(Needle::new(b"nothing has this")));
        let topics = TopicSet { include: vec!["up".into()], exclude: vec![] };
        let rule = Rule::new(Name::new("none").unwrap(), spec);
        Plan { rules: vec![RulePlan { topics, into: None, rule }], ..plan() }
    };
    let server = Server::with(config(64), drop_all);
    server.create_topic("up", 1);
    assert_eq!(send(&server, 7, 10, None), (0, 0));
    assert_eq!(newest(&server, 7), Some(Newest { number: 10, base: 0, count: 0 }));
    assert_eq!(send(&server, 7, 10, None), (0, 0));
    assert_eq!(send(&server, 7, 20, Some(10)), (0, 0));
    assert_eq!(stored(&server), 0);
}

#[test]
fn a_topic_made_anew_has_nothing_of_anybody() {
    let server = Server::start();
    server.create_topic("up", 1);
    server.create_topic("up-2", 1);
    assert_eq!(send(&server, 7, 10, None), (0, 0));
    let mut client = Client::connect(server.spu);
    assert_eq!(produce_as(&mut client, Some(&Turn(None).to_text()), ("up-2", 0), &numbered(7, 10, 1)), (0, 0));
    server.delete_topic("up");
    assert_eq!(ask(&mut client, "up", 7), Kept::NoPartition);
    server.create_topic("up", 1);
    assert_eq!(newest(&server, 7), None);
    assert!(matches!(ask(&mut client, "up-2", 7), Kept::Has { newest: Some(_), log_end: 1 }));
}

#[test]
fn the_producers_heard_of_longest_ago_are_forgotten_and_those_that_go_on_are_not() {
    let server = Server::start();
    server.create_topic("up", 1);
    let mut client = Client::connect(server.spu);
    let mut turn = None;
    for n in 0..1500u64 {
        let first = Turn(None).to_text();
        let body = numbered(1000 + n as i64, 1, 1);
        assert_eq!(produce_as(&mut client, Some(&first), ("up", 0), &body).0, 0);
        let after = Turn(turn).to_text();
        assert_eq!(produce_as(&mut client, Some(&after), ("up", 0), &numbered(7, n, 1)).0, 0);
        turn = Some(n);
    }
    assert_eq!(newest(&server, 7).map(|newest| newest.number), Some(1499));
    let kept = (0..1500).filter(|n| newest(&server, 1000 + n).is_some()).count();
    assert!((700..=1000).contains(&kept), "{kept} are kept");
    assert!(newest(&server, 2499).is_some());
}
