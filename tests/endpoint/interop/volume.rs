//! Catching up on much: `HEADWATER_INTEROP_RECORDS` records of about 300 bytes by each client, a fifth with each
//! compression, into one topic of the real binary, on disk, and out again by one consumer.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use fluvio::Offset;
use fluvio::metadata::topic::TopicSpec;
use headwater::node::stopped::StoppedRing;
use headwater::topic::TopicPart;

use super::super::node::{Node, setting};
use super::python::python_with;
use super::{KINDS, client_within, connect, next, node, producer, stream};

/// A busy machine, and a million records.
const PATIENCE: Duration = Duration::from_secs(1200);
/// Of the values, without their number.
const LEN: usize = 291;
const TOPIC: &str = "many";

fn count() -> usize {
    let all = setting("HEADWATER_INTEROP_RECORDS").unwrap_or(20_000);
    usize::try_from(all).expect("fewer").next_multiple_of(KINDS.len())
}

/// Printable, so that it can be an environment variable.
fn pattern() -> Vec<u8> {
    super::noise(7, 4096).into_iter().map(|b| b'!' + b % 90).collect()
}

fn pair(pattern: &[u8], i: usize) -> (Vec<u8>, Vec<u8>) {
    let most = pattern.len() / 2;
    let at = i * 37 % most;
    (format!("k{}", i % 100).into_bytes(), [format!("{i:08}-").as_bytes(), &pattern[at..at + LEN]].concat())
}

/// The ring holds exactly what was sent.
fn assert_stored(node: &mut Node, count: usize) {
    node.stop();
    let doubled = pattern().repeat(2);
    let mut ring = StoppedRing::open(&node.data(), &Default::default()).expect("a ring");
    let info = ring.topic(TOPIC).expect("a topic");
    let mut seen = 0;
    let gaps = ring.read(TopicPart { topic: info.id, partition: 0 }, 0, |_, entry| {
        let (key, value) = pair(&doubled, seen);
        assert_eq!((entry.offset, entry.record.key, entry.record.value), (seen as u64, Some(&key[..]), &value[..]));
        seen += 1;
        ControlFlow::Continue(())
    });
    assert_eq!((gaps, seen), (Vec::new(), count));
}

#[test]
fn the_fluvio_crate_catches_up_on_hundreds_of_mebibytes_and_has_each_record_once_in_order() {
    let (mut node, sc) = node("1GiB");
    let count = count();
    client_within(PATIENCE, move || async move {
        let fluvio = connect(sc).await;
        let doubled = pattern().repeat(2);
        fluvio.admin().await.create(TOPIC.into(), false, TopicSpec::new_computed(1, 1, None)).await.expect("a topic");
        for (kind, part) in KINDS.into_iter().zip(0..) {
            let begin = Instant::now();
            let producer = producer(&fluvio, TOPIC, kind).await;
            let each = count / KINDS.len();
            for i in part * each..(part + 1) * each {
                let (key, value) = pair(&doubled, i);
                producer.send(key, value).await.expect("room");
            }
            producer.flush().await.expect("answers");
            println!("fluvio crate: {each} sent with {kind} in {:.1?}", begin.elapsed());
        }
        let begin = Instant::now();
        let mut stream = stream(&fluvio, TOPIC, Offset::beginning()).await;
        for i in 0..count {
            let (record, (key, value)) = (next(&mut stream).await, pair(&doubled, i));
            assert_eq!((record.offset(), record.key(), record.value()), (i as i64, Some(&key[..]), &value[..]));
        }
        println!("fluvio crate: {count} consumed in {:.1?}", begin.elapsed());
    });
    assert_stored(&mut node, count);
}

#[test]
fn the_python_package_catches_up_on_hundreds_of_mebibytes_and_has_each_record_once_in_order() {
    let (mut node, sc) = node("1GiB");
    let count = count();
    let pattern = String::from_utf8(pattern()).expect("printable");
    let said = python_with(&sc, &["many", &count.to_string()], &[("HEADWATER_INTEROP_NOISE", &pattern)]);
    said.lines().for_each(|line| println!("PyPI package: {line}"));
    assert_stored(&mut node, count);
}
