//! Peers that do not keep to the protocol: each gets an error or a closed connection, and nobody else notices.

use std::net::SocketAddr;
use std::time::Duration;

use headwater::endpoint::{Bound, EndpointError, Patience};

use super::capture::all_client_frames;
use super::produce::{batch, fetch_body, produce};
use super::server::{Client, Server, config, panics, plan, string};

/// A small generator: these tests are the same every time.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % n.max(1)
    }
}

fn assert_alive(to: SocketAddr) {
    let mut client = Client::connect(to);
    client.request(18, 2, 1, &[0, 0, 0, 0, 0, 0]);
    assert!(!client.answer(1).is_empty());
}

#[test]
fn recorded_requests_with_damage_never_hurt_the_node() {
    let server = Server::start();
    server.create_topic("t1", 1);
    server.create_topic("t2", 2);
    let mut random = Random(1);
    let frames = all_client_frames();
    for round in 0..12 {
        for (name, frame) in &frames {
            let mut bytes = (frame.len() as u32).to_be_bytes().to_vec();
            bytes.extend_from_slice(frame);
            for _ in 0..=random.below(3) {
                let at = random.below(bytes.len());
                match random.below(4) {
                    0 => bytes[at] ^= 1 << random.below(8),
                    1 => bytes[at] = [0, 0x7f, 0x80, 0xff][random.below(4)],
                    2 => bytes.truncate(at + 1),
                    // A length somewhere in the middle that promises much.
                    _ => bytes.iter_mut().skip(at).take(4).zip([0x7f, 0xff, 0xff, 0xff]).for_each(|(b, v)| *b = v),
                }
            }
            let to = if name.contains(".sc.") == (round % 3 != 0) { server.sc } else { server.spu };
            // Closed in the middle is an answer as well.
            drop(Client::connect(to).send_raw(&bytes));
        }
        assert_alive(server.sc);
        assert_alive(server.spu);
    }
    assert_eq!(panics(), 0);
}

#[test]
fn noise_never_hurts_the_node() {
    let server = Server::start();
    let mut random = Random(2);
    for i in 0..300 {
        let len = random.below(200);
        let mut bytes: Vec<u8> = (0..len).map(|_| random.below(256) as u8).collect();
        if i % 2 == 0 {
            // A length that fits, and a key that is known.
            let mut framed = (bytes.len() as u32 + 2).to_be_bytes().to_vec();
            framed.extend(
                [0u16, 1, 18, 0x4857, 1001, 1002, 1003, 1004, 1005, 1006, 1007, 1008][random.below(12)].to_be_bytes(),
            );
            framed.append(&mut bytes);
            bytes = framed;
        }
        drop(Client::connect(if i % 3 == 0 { server.sc } else { server.spu }).send_raw(&bytes));
    }
    assert_alive(server.sc);
    assert_alive(server.spu);
    assert_eq!(panics(), 0);
}

#[test]
fn a_peer_that_speaks_another_protocol_is_closed() {
    let server = Server::start();
    for (to, hello) in
        [(server.sc, &b"GET / HTTP/1.1\r\n\r\n"[..]), (server.spu, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc")]
    {
        let mut client = Client::connect(to);
        client.send_raw(hello).expect("an open connection");
        assert!(client.is_closed());
    }
}

#[test]
fn connections_beyond_the_limit_are_closed_and_the_others_work() {
    let server = Server::with(config(3), super::server::plan);
    let mut held: Vec<_> = (0..3).map(|_| Client::connect(server.spu)).collect();
    for client in &mut held {
        client.request(18, 2, 1, &[0; 6]);
        client.answer(1);
    }
    assert!(Client::connect(server.spu).is_closed());
    held.pop();
    // The place is free as soon as the node has seen the end of the connection.
    let free = (0..50).any(|_| {
        std::thread::sleep(Duration::from_millis(20));
        let mut client = Client::connect(server.spu);
        drop(client.send_raw(&[0, 0, 0, 16, 0, 18, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]));
        client.frame(Duration::from_secs(2)).is_some()
    });
    assert!(free);
    assert_alive(server.sc);
}

/// Waits for nothing that lasts, but for what `change` makes last.
fn impatient(change: impl Fn(&mut Patience, Duration)) -> Server {
    let mut patience = Patience::default();
    change(&mut patience, Duration::from_millis(100));
    Server::waiting(config(64), plan, patience)
}

#[test]
fn a_peer_that_never_greets_is_dropped_and_one_that_has_greeted_is_not() {
    let server = impatient(|patience, short| patience.first = short);
    for to in [server.sc, server.spu] {
        let mut greeted = Client::connect(to);
        greeted.request(18, 2, 1, &[0, 0, 0, 0, 0, 0]);
        greeted.answer(1);
        assert!(Client::connect(to).is_closed());
        greeted.request(18, 2, 2, &[0, 0, 0, 0, 0, 0]);
        greeted.answer(2);
    }
}

#[test]
fn a_request_that_begins_and_does_not_end_is_dropped() {
    let server = impatient(|patience, short| patience.request = short);
    for begun in [&[0, 0][..], &[0, 0, 0, 40, 0, 18, 0], &[0, 0, 16, 0, 0, 0, 0, 25, 0, 0, 0, 1, 0, 0, 0]] {
        let mut client = Client::connect(server.spu);
        client.send_raw(begun).expect("an open connection");
        assert!(client.is_closed(), "{begun:?}");
    }
    assert_alive(server.spu);
}

#[test]
fn a_reader_that_takes_nothing_is_dropped() {
    let server = impatient(|patience, short| patience.answer = short);
    server.create_topic("up", 1);
    for _ in 0..5 {
        assert_eq!(produce(&server, "up", 0, &batch(&[&[7; 200 * 1024]], None)).0, 0);
    }
    // Far more than any socket takes in, and not read: what came is less than what was asked for.
    const ASKED: i32 = 100;
    let mut client = Client::connect(server.spu);
    for i in 0..ASKED {
        client.request(1, 25, i, &fetch_body("up", 0, 0, 1 << 20));
    }
    std::thread::sleep(Duration::from_secs(1));
    let came = (0..ASKED).take_while(|_| client.whole_frame().is_some()).count();
    assert!(came < ASKED as usize, "all answers came");
    assert_alive(server.spu);
}

/// Opens a stream of partition 0 as this consumer.
fn open_stream(client: &mut Client, topic: &str, consumer: &str) {
    let head = [&string(topic)[..], &[0; 4 + 8], &4096i32.to_be_bytes(), &[0; 1 + 4]].concat();
    client.request(1003, 25, 1, &[&head[..], &[1], &string(consumer)].concat());
}

fn update_consumer_body(offset: i64, session: u32) -> Vec<u8> {
    [&offset.to_be_bytes()[..], &session.to_be_bytes()].concat()
}

#[test]
fn a_peer_that_asks_and_takes_no_answers_is_not_read_any_more() {
    let server = Server::start();
    // More than all buffers on the way hold, of which a socket may have 32 MiB.
    const TIMES: usize = (48 << 20) / 30;
    let mut client = Client::connect(server.spu);
    assert!(
        client.is_held_back(1006, &update_consumer_body(5, 77), TIMES),
        "offsets of no stream are taken without end"
    );
    assert_alive(server.spu);
}

#[test]
fn offsets_of_a_consumer_sent_at_once_are_all_answered_and_the_last_is_kept() {
    let server = Server::start();
    server.create_topic("t", 1);
    let mut client = Client::connect(server.spu);
    open_stream(&mut client, "t", "c1");
    for offset in 0..100 {
        client.request(1006, 25, 100 + offset, &update_consumer_body(i64::from(offset), 1));
    }
    for offset in 0..100 {
        let expected = [&i64::from(offset).to_be_bytes()[..], &[0, 0]].concat();
        assert_eq!(client.answer(100 + offset), expected);
    }
    client.request(1008, 25, 9, &[0]);
    let kept = client.answer(9);
    assert!(kept.windows(8).any(|bytes| bytes == 99i64.to_be_bytes()), "{kept:?}");
}

#[test]
fn a_consumer_with_too_long_a_name_gets_no_stream() {
    let server = Server::start();
    server.create_topic("t", 1);
    assert_eq!(produce(&server, "t", 0, &batch(&[b"x"], None)).0, 0);
    for (len, refused) in [(255, false), (256, true), (30_000, true)] {
        let mut client = Client::connect(server.spu);
        open_stream(&mut client, "t", &"c".repeat(len));
        let answer = client.answer(1);
        let said = String::from_utf8_lossy(&answer).contains("a consumer's name has at most 255 bytes");
        assert_eq!(said, refused, "{len}: {answer:?}");
    }
}

#[test]
fn a_taken_port_is_named_with_what_to_do() {
    let server = Server::start();
    let mut config = config(64);
    config.spu_listen = server.spu;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let error = runtime.block_on(Bound::bind(&config)).err().expect("a taken port");
    assert!(matches!(error, EndpointError::Taken { .. }));
    let text = error.to_string();
    assert!(text.contains(&server.spu.to_string()) && text.contains("endpoint.spu_listen"), "{text}");
}
