//! The official clients, unmodified, each operation of each: the `fluvio` crate here, the PyPI package through `interop.py`.
//!
//! What a client produced is compared byte for byte with what is stored, read by one-shot fetches or from the ring of the
//! stopped node, and both with what the client consumed: a consumer alone proves nothing, since it may leave out records.

mod consume;
mod evicted;
mod offsets;
mod produce;
mod python;
mod volume;

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::time::Duration;

use fluvio::consumer::{ConsumerConfigExtBuilder, ConsumerStream, Record};
use fluvio::dataplane::link::ErrorCode;
use fluvio::{
    Compression, Fluvio, FluvioClusterConfig, Offset, RecordKey, TopicProducerConfigBuilder, TopicProducerPool,
};

use super::node::{Node, config, free_port};
use super::raw::{At, Pair};

const PATIENCE: Duration = Duration::from_secs(60);
/// What has not come after this is taken not to come.
const SILENCE: Duration = Duration::from_millis(300);

const KINDS: [Compression; 5] =
    [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

/// Runs a client on a thread of its own, as another process would: it brings executors that may spin.
fn client<F, T>(body: impl FnOnce() -> F + Send + 'static) -> T
where
    F: Future<Output = T>,
    T: Send + 'static,
{
    client_within(PATIENCE, body)
}

fn client_within<F, T>(patience: Duration, body: impl FnOnce() -> F + Send + 'static) -> T
where
    F: Future<Output = T>,
    T: Send + 'static,
{
    let run = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async { tokio::time::timeout(patience, body()).await.expect("a client that comes to an end") })
    };
    std::thread::spawn(run).join().expect("a client that does not panic")
}

async fn connect(sc: String) -> Fluvio {
    Fluvio::connect_with_config(&FluvioClusterConfig::new(sc)).await.expect("a connection")
}

fn consumer(topic: &str, from: Offset) -> ConsumerConfigExtBuilder {
    let mut builder = ConsumerConfigExtBuilder::default();
    builder.topic(topic).partition(0).offset_start(from);
    builder
}

async fn stream(fluvio: &Fluvio, topic: &str, from: Offset) -> impl ConsumerStream<Item = Result<Record, ErrorCode>> {
    fluvio.consumer_with_config(consumer(topic, from).build().expect("a config")).await.expect("a stream")
}

/// The next thing that the stream says; None: it has ended.
async fn step<S: ConsumerStream>(stream: &mut S) -> Option<Result<Record, ErrorCode>> {
    poll_fn(|cx| Pin::new(&mut *stream).poll_next(cx)).await
}

async fn next<S: ConsumerStream>(stream: &mut S) -> Record {
    step(stream).await.expect("a stream that goes on").expect("a record")
}

async fn is_silent<S: ConsumerStream>(stream: &mut S) -> bool {
    tokio::time::timeout(SILENCE, step(stream)).await.is_err()
}

fn at(record: &Record) -> At {
    (record.offset(), record.key().map(<[u8]>::to_vec), record.value().to_vec())
}

async fn take_from<S: ConsumerStream>(stream: &mut S, count: usize) -> Vec<At> {
    let mut out = Vec::new();
    while out.len() < count {
        out.push(at(&next(stream).await));
    }
    out
}

async fn take(fluvio: &Fluvio, topic: &str, from: Offset, count: usize) -> Vec<At> {
    take_from(&mut stream(fluvio, topic, from).await, count).await
}

async fn producer(fluvio: &Fluvio, topic: &str, kind: Compression) -> TopicProducerPool {
    let config = TopicProducerConfigBuilder::default().compression(kind).build().expect("a config");
    fluvio.topic_producer_with_config(topic.to_owned(), config).await.expect("a producer")
}

/// Produces all of them; they get the offsets from `first` on.
async fn produce(producer: &TopicProducerPool, first: i64, pairs: &[Pair]) {
    let mut outputs = Vec::new();
    for (key, value) in pairs {
        let key = key.clone().map_or(RecordKey::NULL, RecordKey::from);
        outputs.push(producer.send(key, value.clone()).await.expect("room"));
    }
    producer.flush().await.expect("answers");
    for (offset, output) in (first..).zip(outputs) {
        let answer = tokio::time::timeout(Duration::from_secs(10), output.wait()).await;
        let answer = answer.unwrap_or_else(|_| panic!("no answer to {offset}"));
        assert_eq!(answer.expect("an offset").offset(), offset);
    }
}

/// Values that are the numbers from `first` on, no keys.
fn numbers(first: i64, count: usize) -> Vec<Pair> {
    (first..).take(count).map(|i| (None, i.to_string().into_bytes())).collect()
}

fn placed(first: i64, pairs: &[Pair]) -> Vec<At> {
    (first..).zip(pairs).map(|(offset, (key, value))| (offset, key.clone(), value.clone())).collect()
}

/// Equal; says where they are not, without printing megabytes.
fn assert_same(what: &str, seen: &[At], expected: &[At]) {
    let show =
        |r: &At| (r.0, r.1.clone().map(|k| k.escape_ascii().to_string()), r.2.len(), r.2[..r.2.len().min(40)].to_vec());
    if let Some((seen, expected)) = seen.iter().zip(expected).find(|(s, e)| s != e) {
        panic!("{what}: {:?} instead of {:?}", show(seen), show(expected));
    }
    assert_eq!(seen.len(), expected.len(), "{what}: as many");
}

/// Bytes that compress badly, the same each time.
fn noise(seed: usize, len: usize) -> Vec<u8> {
    let mut state = seed as u64 ^ 0x9e37_79b9_7f4a_7c15;
    let mut byte = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..len).map(|_| byte()).collect()
}

/// The real binary with an endpoint and a ring on disk of this size.
fn node(ring: &str) -> (Node, String) {
    let (sc, spu) = (free_port(), free_port());
    let endpoint = format!("[endpoint]\nsc_listen = \"127.0.0.1:{sc}\"\nspu_listen = \"127.0.0.1:{spu}\"\n");
    let mut node = Node::new(&config("edge", &endpoint).replace("64MiB", ring));
    node.start();
    node.says("endpoint", "up", "");
    (node, format!("127.0.0.1:{sc}"))
}
