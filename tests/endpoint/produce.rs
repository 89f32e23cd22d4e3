//! Produce and fetch by hand, and what a sink that resumes relies on.

use fluvio_protocol::record::{Batch, Record, RecordData};
use fluvio_protocol::{Decoder, Encoder};

use super::server::{Client, Server, string};

/// A batch as an official producer sends it.
pub fn batch(values: &[&[u8]], marker: Option<(i64, i16, i32)>) -> Vec<u8> {
    let mut batch = Batch::default();
    batch.add_records(&mut values.iter().map(|v| Record::new(RecordData::from(v.to_vec()))).collect());
    (batch.header.first_timestamp, batch.header.max_time_stamp) = (1_800_000_000_000, 1_800_000_000_000);
    if let Some((id, epoch, sequence)) = marker {
        (batch.header.producer_id, batch.header.producer_epoch, batch.header.first_sequence) = (id, epoch, sequence);
    }
    let mut out = Vec::new();
    batch.encode(&mut out, 25).expect("a batch");
    out
}

pub fn produce_body(turn: Option<&str>, (topic, partition): (&str, u32), set: &[u8]) -> Vec<u8> {
    let mut body = turn.map_or(vec![0], |turn| [vec![1], string(turn)].concat());
    body.extend([0, 1]);
    body.extend(5000i32.to_be_bytes());
    body.extend(1i32.to_be_bytes());
    body.extend(string(topic));
    body.extend(1i32.to_be_bytes());
    body.extend(partition.to_be_bytes());
    body.extend((set.len() as u32).to_be_bytes());
    body.extend_from_slice(set);
    body.extend(0i32.to_be_bytes());
    body
}

/// The tail of a produce answer for one partition: error code and base offset (after the text of an error in words).
fn produced(topic: &str, answer: &[u8]) -> (i16, i64) {
    let mut rest = &answer[4 + 2 + topic.len() + 4 + 4..];
    let code = i16::from_be_bytes([rest[0], rest[1]]);
    rest = &rest[2..];
    if code == 2 {
        let len = usize::from(u16::from_be_bytes([rest[0], rest[1]]));
        rest = &rest[2 + len..];
    }
    (code, i64::from_be_bytes(rest[..8].try_into().unwrap()))
}

/// Sends one record set; gives the error code and the base offset.
pub fn produce(server: &Server, topic: &str, partition: u32, set: &[u8]) -> (i16, i64) {
    produce_as(&mut Client::connect(server.spu), None, (topic, partition), set)
}

/// The same with a word of which batch it comes behind.
pub fn produce_as(client: &mut Client, turn: Option<&str>, to: (&str, u32), set: &[u8]) -> (i16, i64) {
    ask_produce(client, turn, to, set);
    produced(to.0, &client.answer(1))
}

pub fn ask_produce(client: &mut Client, turn: Option<&str>, to: (&str, u32), set: &[u8]) {
    client.request(0, 25, 1, &produce_body(turn, to, set));
}

pub fn fetch_body(topic: &str, partition: u32, offset: i64, max_bytes: i32) -> Vec<u8> {
    let mut body = Vec::new();
    for number in [500, 1, max_bytes] {
        body.extend(i32::to_be_bytes(number));
    }
    body.push(0);
    body.extend(1i32.to_be_bytes());
    body.extend(string(topic));
    body.extend(1i32.to_be_bytes());
    body.extend(partition.to_be_bytes());
    body.extend((-1i32).to_be_bytes());
    body.extend(offset.to_be_bytes());
    body.extend((-1i64).to_be_bytes());
    body.extend(max_bytes.to_be_bytes());
    body.extend(0i32.to_be_bytes());
    body
}

/// A one-shot fetch; gives the text of an error, if any, and the bytes of the record set.
pub fn fetch(server: &Server, topic: &str, partition: u32, offset: i64, max_bytes: i32) -> (String, Vec<u8>) {
    let mut client = Client::connect(server.spu);
    client.request(1, 25, 1, &fetch_body(topic, partition, offset, max_bytes));
    let answer = client.answer(1);
    let mut rest = &answer[4 + 2 + 4 + 4 + 2 + topic.len() + 4 + 4..];
    let code = i16::from_be_bytes([rest[0], rest[1]]);
    rest = &rest[2..];
    let mut text = String::new();
    if code == 2 {
        let len = usize::from(u16::from_be_bytes([rest[0], rest[1]]));
        text = String::from_utf8(rest[2..2 + len].to_vec()).unwrap();
        rest = &rest[2 + len..];
    } else if code != 0 {
        text = format!("code {code}");
    }
    let set = if code == 71 { &[] } else { &rest[8 + 8 + 8 + 1 + 4..] };
    (text, set.to_vec())
}

/// Base offset, records, marker of every batch in a set.
pub fn headers(mut set: &[u8]) -> Vec<(i64, usize, (i64, i16, i32))> {
    let mut out = Vec::new();
    while !set.is_empty() {
        let batch = Batch::<Vec<Record>>::decode_from(&mut set, 25).expect("a whole batch");
        let h = &batch.header;
        out.push((batch.base_offset, batch.records().len(), (h.producer_id, h.producer_epoch, h.first_sequence)));
    }
    out
}

#[test]
fn markers_come_back_with_the_batches_they_came_with() {
    let server = Server::start();
    server.create_topic("up", 2);
    let (a, b) = ((42, 1, 7), (42, 1, 9));
    assert_eq!(produce(&server, "up", 1, &batch(&[b"1", b"2", b"3"], Some(a))), (0, 0));
    assert_eq!(produce(&server, "up", 1, &batch(&[b"4"], None)), (0, 3));
    assert_eq!(produce(&server, "up", 1, &batch(&[b"5", b"6"], Some(b))), (0, 4));
    let none = (-1, -1, -1);
    assert_eq!(headers(&fetch(&server, "up", 1, 0, 1 << 20).1), [(0, 3, a), (3, 1, none), (4, 2, b)]);
    // From the middle of a batch: the whole of it.
    assert_eq!(headers(&fetch(&server, "up", 1, 5, 1 << 20).1), [(4, 2, b)]);
}

#[test]
fn a_set_of_many_batches_lands_in_order() {
    let server = Server::start();
    server.create_topic("up", 1);
    let mut set = Vec::new();
    for i in 0..20 {
        set.extend(batch(&[&b"x"[..]; 5], Some((1, 0, i))));
    }
    assert_eq!(produce(&server, "up", 0, &set), (0, 0));
    let seen = headers(&fetch(&server, "up", 0, 0, 1 << 20).1);
    let expected: Vec<_> = (0..20).map(|i| (i64::from(i) * 5, 5, (1, 0, i))).collect();
    assert_eq!(seen, expected);
}

#[test]
fn a_batch_sent_twice_is_two_batches() {
    let server = Server::start();
    server.create_topic("up", 1);
    let marker = (9, 9, 9);
    let again = batch(&[b"same", b"same"], Some(marker));
    let mut twice = again.clone();
    twice.extend(&again);
    assert_eq!(produce(&server, "up", 0, &twice), (0, 0));
    assert_eq!(headers(&fetch(&server, "up", 0, 0, 1 << 20).1), [(0, 2, marker), (2, 2, marker)]);
}

#[test]
fn many_unanswered_produces_of_one_connection_keep_their_order() {
    let server = Server::start();
    server.create_topic("up", 1);
    let mut client = Client::connect(server.spu);
    for i in 0..100 {
        client.request(0, 25, i, &produce_body(None, ("up", 0), &batch(&[b"x"], None)));
    }
    for i in 0..100 {
        assert_eq!(produced("up", &client.answer(i)), (0, i64::from(i)));
    }
}

#[test]
fn what_cannot_be_one_frame_is_message_too_large() {
    let server = Server::start();
    server.create_topic("up", 1);
    let value = vec![0; 600 * 1024];
    assert_eq!(produce(&server, "up", 0, &batch(&[&value], None)).0, 10);
    // Larger than any frame: answered, and the connection goes on.
    let mut client = Client::connect(server.spu);
    client.request(0, 25, 1, &produce_body(None, ("up", 0), &vec![0; 5 << 20]));
    assert_eq!(produced("up", &client.answer(1)).0, 10);
    client.request(0, 25, 2, &produce_body(None, ("up", 0), &batch(&[b"x"], None)));
    assert_eq!(produced("up", &client.answer(2)), (0, 0));
}

#[test]
fn a_batch_larger_than_a_frame_is_cut_unless_it_carries_a_marker() {
    let server = Server::start();
    server.create_topic("up", 1);
    // 500 KiB of payload where a frame takes 256 KiB; and many empty records, which weigh more than they hold.
    let large = vec![&[7u8; 1000][..]; 500];
    let tiny = vec![&b""[..]; 90_000];
    assert_eq!(produce(&server, "up", 0, &batch(&large, Some((1, 1, 1)))).0, 10);
    assert_eq!(produce(&server, "up", 0, &batch(&tiny, Some((1, 1, 1)))).0, 10);
    assert_eq!(produce(&server, "up", 0, &batch(&large, None)), (0, 0));
    assert_eq!(produce(&server, "up", 0, &batch(&tiny, None)), (0, 500));
    let mut next = 0;
    while next < 90_500 {
        let (error, set) = fetch(&server, "up", 0, next, 1 << 20);
        assert_eq!(error, "");
        // The last batch may be cut: what is whole counts.
        let mut whole = &set[..];
        while whole.len() > 12 {
            let len = 12 + u32::from_be_bytes(whole[8..12].try_into().unwrap()) as usize;
            if len > whole.len() {
                break;
            }
            for (base, count, _) in headers(&whole[..len]) {
                assert_eq!(base, next);
                next += count as i64;
            }
            whole = &whole[len..];
        }
    }
    assert_eq!(next, 90_500);
}

#[test]
fn a_damaged_set_is_refused_whole() {
    let server = Server::start();
    server.create_topic("up", 1);
    let mut set = batch(&[b"good"], None);
    let mut bad = batch(&[b"bad"], None);
    let last = bad.len() - 2;
    bad[last] ^= 1;
    set.extend(bad);
    assert_eq!(produce(&server, "up", 0, &set).0, 2);
    assert_eq!(produce(&server, "up", 0, &batch(&[b"first"], None)), (0, 0));
}

#[test]
fn an_unknown_topic_or_partition_has_another_leader() {
    let server = Server::start();
    server.create_topic("up", 1);
    assert_eq!(produce(&server, "none", 0, &batch(&[b"x"], None)).0, 6);
    assert_eq!(produce(&server, "up", 1, &batch(&[b"x"], None)).0, 6);
    assert_eq!(fetch(&server, "none", 0, 0, 1000).0, "code 6");
}
