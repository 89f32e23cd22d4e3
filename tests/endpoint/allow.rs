//! What `allow` allows: each request that it forbids is answered with Fluvio's own error.

use headwater::config::model::Allow;

use super::produce::{batch, fetch, produce};
use super::server::{Client, Server, config, plan, string};

const DENIED: i16 = 13;

fn allow(produce: &[&str], consume: &[&str], admin: bool) -> Allow {
    let list = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
    Allow { who: vec!["*".into()], produce: list(produce), consume: list(consume), admin }
}

/// Everyone may write `in-a` and `both`, read `out` and `both`, and make `in-*`.
fn server() -> Server {
    let mut config = config(64);
    config.allow = vec![allow(&["in-a", "both"], &["out", "both"], false), allow(&["in-*", "made-*"], &[], true)];
    Server::with(config, plan)
}

/// The code of the answer to a create or a delete, behind the topic's name.
fn made(server: &Server, key: u16, name: &str) -> i16 {
    let mut inner = string(name);
    if key == 1001 {
        inner.extend([0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 4, 0, 0]);
    } else {
        inner.push(0);
    }
    let mut body = string("Topic");
    body.extend((inner.len() as u32).to_be_bytes());
    body.extend(inner);
    let mut client = Client::connect(server.sc);
    client.request(key, 19, 1, &body);
    let answer = client.answer(1);
    let behind = 2 + name.len();
    i16::from_be_bytes([answer[behind], answer[behind + 1]])
}

#[test]
fn topics_are_made_and_deleted_by_who_may() {
    let server = server();
    assert_eq!(made(&server, 1001, "in-a"), 0);
    assert_eq!(made(&server, 1001, "both"), DENIED);
    assert_eq!(made(&server, 1001, "other"), DENIED);
    assert_eq!(made(&server, 1002, "other"), DENIED);
    assert_eq!(made(&server, 1002, "in-a"), 0);
}

#[test]
fn records_are_taken_from_who_may_produce_and_given_to_who_may_consume() {
    let server = server();
    server.create_topic("in-a", 1);
    let set = batch(&[b"one", b"two"], Some((7, 1, 3)));
    assert_eq!(produce(&server, "in-a", 0, &set), (0, 0));
    // Whether there is such a topic is not told either.
    assert_eq!((produce(&server, "out", 0, &set).0, produce(&server, "none", 0, &set).0), (DENIED, DENIED));
    assert_eq!(fetch(&server, "none", 0, 0, 1 << 20).0, format!("code {DENIED}"));
    assert_eq!(fetch(&server, "out", 0, 0, 1 << 20).0, "code 6", "allowed, and not there");
    let mut client = Client::connect(server.spu);
    let mut body = string("in-a");
    body.extend(0u32.to_be_bytes());
    body.extend(0i64.to_be_bytes());
    body.extend((1i32 << 20).to_be_bytes());
    body.push(0);
    body.extend([0; 4]);
    body.push(0);
    client.request(1003, 25, 1, &body);
    let answer = client.answer(1);
    assert!(answer.windows(2).any(|code| code == DENIED.to_be_bytes()), "{answer:?}");
    assert!(!answer.windows(3).any(|value| value == b"two"));
}

#[test]
fn who_may_only_produce_reads_headers_and_no_records() {
    let server = server();
    server.create_topic("in-a", 1);
    let set = batch(&[b"one", b"two"], Some((7, 1, 3)));
    assert_eq!(produce(&server, "in-a", 0, &set), (0, 0));
    let (error, bytes) = fetch(&server, "in-a", 0, 0, 1 << 20);
    assert_eq!((error.as_str(), bytes.len()), ("", 61));
    let marker = [&7i64.to_be_bytes()[..], &1i16.to_be_bytes(), &3i32.to_be_bytes()].concat();
    assert!(bytes.windows(marker.len()).any(|at| at == marker), "the producer's numbers are there");
}
