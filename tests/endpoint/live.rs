//! The official clients, unmodified: the `fluvio` crate here, the PyPI package through `client.py`.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::process::Command;
use std::time::Duration;

use fluvio::consumer::{ConsumerConfigExtBuilder, ConsumerStream, OffsetManagementStrategy, Record};
use fluvio::metadata::topic::TopicSpec;
use fluvio::{Compression, Fluvio, FluvioClusterConfig, Offset, RecordKey, TopicProducerConfigBuilder};
use headwater::config::model::{Allow, SecretPlace, ServerTls};
use headwater::limits::MAX_TOPICS;

use super::certs::{Authority, Good};
use super::server::{Server, config, panics, plan};

const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a client on a thread of its own, as another process would: it brings executors that may spin.
fn client<F, T>(body: impl FnOnce() -> F + Send + 'static) -> T
where
    F: Future<Output = T>,
    T: Send + 'static,
{
    let run = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async { tokio::time::timeout(PATIENCE, body()).await.expect("a client that comes to an end") })
    };
    std::thread::spawn(run).join().expect("a client that does not panic")
}

async fn connect(sc: String) -> Fluvio {
    Fluvio::connect_with_config(&FluvioClusterConfig::new(sc)).await.expect("a connection")
}

async fn next<S: ConsumerStream>(stream: &mut S) -> Record {
    poll_fn(|cx| Pin::new(&mut *stream).poll_next(cx)).await.expect("a stream that goes on").expect("a record")
}

fn consumer(topic: &str, from: Offset) -> ConsumerConfigExtBuilder {
    let mut builder = ConsumerConfigExtBuilder::default();
    builder.topic(topic).partition(0).offset_start(from);
    builder
}

async fn take(fluvio: &Fluvio, topic: &str, from: Offset, count: usize) -> Vec<(i64, Option<Vec<u8>>, Vec<u8>)> {
    let config = consumer(topic, from).build().expect("a config");
    let mut stream = fluvio.consumer_with_config(config).await.expect("a stream");
    let mut out = Vec::new();
    while out.len() < count {
        let record = next(&mut stream).await;
        out.push((record.offset(), record.key().map(<[u8]>::to_vec), record.value().to_vec()));
    }
    out
}

#[test]
fn the_fluvio_crate_creates_lists_and_deletes_topics() {
    let server = Server::start();
    let sc = server.sc.to_string();
    client(move || async move {
        let fluvio = connect(sc).await;
        let admin = fluvio.admin().await;
        let spec = |n| TopicSpec::new_computed(n, 1, None);
        admin.create("a".into(), false, spec(1)).await.expect("a topic");
        admin.create("b".into(), false, spec(16)).await.expect("a topic");
        let names = async || {
            let mut names: Vec<_> =
                admin.all::<TopicSpec>().await.expect("a list").into_iter().map(|t| t.name).collect();
            names.sort();
            names
        };
        assert_eq!(names().await, ["a", "b"]);
        let refused = admin.create("a".into(), false, spec(1)).await.expect_err("a topic that exists");
        assert!(refused.to_string().contains("already exists"), "{refused}");
        let refused = admin.create("c".into(), false, spec(17)).await.expect_err("too many partitions");
        assert!(refused.to_string().contains("1 to 16 partitions"), "{refused}");
        let refused = admin.create("c".into(), false, TopicSpec::new_computed(1, 2, None)).await.expect_err("replicas");
        assert!(refused.to_string().contains("one replica"), "{refused}");
        assert!(admin.create("Upper".into(), false, spec(1)).await.is_err());
        admin.create("dry".into(), true, spec(1)).await.expect("a topic that could be");
        admin.delete::<TopicSpec>("b").await.expect("a topic to delete");
        assert_eq!(names().await, ["a"]);
        assert!(admin.delete::<TopicSpec>("b").await.is_err());
        // Made anew, offsets begin at 0.
        let send = async |topic: &str| {
            let producer = fluvio.topic_producer(topic.to_owned()).await.expect("a producer");
            let output = producer.send(RecordKey::NULL, "x").await.expect("room");
            producer.flush().await.expect("an answer");
            output.wait().await.expect("an offset").offset()
        };
        assert_eq!((send("a").await, send("a").await), (0, 1));
        assert_eq!(fluvio.admin().await.all::<TopicSpec>().await.expect("a list").len(), 1);
    });
    assert_eq!(panics(), 0);
}

#[test]
fn the_fluvio_crate_gets_back_what_it_produced_with_every_compression() {
    let server = Server::start();
    for topic in ["none", "gzip", "snappy", "lz4", "zstd"] {
        server.create_topic(topic, 1);
    }
    let sc = server.sc.to_string();
    client(move || async move {
        let fluvio = connect(sc).await;
        for kind in [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
            let topic = kind.to_string();
            let config = TopicProducerConfigBuilder::default().compression(kind).build().expect("a config");
            let producer = fluvio.topic_producer_with_config(topic.clone(), config).await.expect("a producer");
            let record = |i: i64| (format!("key-{}", i % 7), format!("value-{i}-").repeat(20));
            let mut outputs = Vec::new();
            for i in 0..2000 {
                let (key, value) = record(i);
                outputs.push(producer.send(key, value).await.expect("room"));
            }
            producer.flush().await.expect("answers");
            for (i, output) in (0..).zip(outputs) {
                let offset = tokio::time::timeout(Duration::from_secs(10), output.wait()).await;
                let offset = offset.unwrap_or_else(|_| panic!("{topic}: no answer to {i}"));
                assert_eq!(offset.expect("an offset").offset(), i, "{topic}");
            }
            let seen = take(&fluvio, &topic, Offset::beginning(), 2000).await;
            for (i, (offset, key, value)) in (0i64..).zip(seen) {
                let (k, v) = record(i);
                assert_eq!((offset, key, value), (i, Some(k.into_bytes()), v.into_bytes()));
            }
        }
    });
    assert_eq!(panics(), 0);
}

#[test]
fn the_fluvio_crate_consumes_from_the_beginning_an_offset_and_the_end_and_stays_live() {
    let server = Server::start();
    server.create_topic("t", 1);
    let sc = server.sc.to_string();
    client(move || async move {
        let fluvio = connect(sc).await;
        let producer = fluvio.topic_producer("t").await.expect("a producer");
        let send = async |i: i64| {
            let output = producer.send(RecordKey::NULL, i.to_string()).await.expect("room");
            producer.flush().await.expect("an answer");
            assert_eq!(output.wait().await.expect("an offset").offset(), i);
        };
        for i in 0..20 {
            send(i).await;
        }
        let offsets = |seen: Vec<(i64, Option<Vec<u8>>, Vec<u8>)>| seen.into_iter().map(|s| s.0).collect::<Vec<_>>();
        assert_eq!(offsets(take(&fluvio, "t", Offset::beginning(), 20).await), (0..20).collect::<Vec<_>>());
        assert_eq!(offsets(take(&fluvio, "t", Offset::absolute(15).unwrap(), 5).await), [15, 16, 17, 18, 19]);
        assert_eq!(offsets(take(&fluvio, "t", Offset::from_end(2), 2).await), [18, 19]);
        let config = consumer("t", Offset::end()).build().expect("a config");
        let mut live = fluvio.consumer_with_config(config).await.expect("a stream");
        // The stream's offset is resolved when it is first asked.
        for i in 20..60 {
            let (record, ()) = tokio::join!(next(&mut live), async {
                tokio::time::sleep(Duration::from_millis(5)).await;
                send(i).await;
            });
            assert_eq!((record.offset(), record.value()), (i, i.to_string().as_bytes()));
        }
    });
    assert_eq!(panics(), 0);
}

#[test]
fn the_fluvio_crate_loses_nothing_of_a_backlog_of_many_megabytes() {
    let server = Server::start();
    server.create_topic("t", 1);
    let sc = server.sc.to_string();
    client(move || async move {
        let fluvio = connect(sc).await;
        let producer = fluvio.topic_producer("t").await.expect("a producer");
        let value = |i: i64| format!("{i:08}-{}", "x".repeat(150));
        for i in 0..50_000 {
            producer.send(RecordKey::NULL, value(i)).await.expect("room");
        }
        producer.flush().await.expect("answers");
        for (i, (offset, _, seen)) in (0i64..).zip(take(&fluvio, "t", Offset::beginning(), 50_000).await) {
            assert_eq!((offset, seen), (i, value(i).into_bytes()));
        }
    });
    assert_eq!(panics(), 0);
}

#[test]
fn the_fluvio_crate_resumes_a_named_consumer() {
    let server = Server::start();
    server.create_topic("t", 1);
    let sc = server.sc.to_string();
    client(move || async move {
        let fluvio = connect(sc).await;
        let producer = fluvio.topic_producer("t").await.expect("a producer");
        for i in 0..10 {
            producer.send(RecordKey::NULL, i.to_string()).await.expect("room");
        }
        producer.flush().await.expect("answers");
        let config = || {
            let mut builder = consumer("t", Offset::beginning());
            builder.offset_consumer("c1").offset_strategy(OffsetManagementStrategy::Manual);
            builder.build().expect("a config")
        };
        {
            let mut stream = fluvio.consumer_with_config(config()).await.expect("a stream");
            for i in 0..4 {
                assert_eq!(next(&mut stream).await.offset(), i);
            }
            stream.offset_commit().await.expect("a commit");
            stream.offset_flush().await.expect("a flush");
        }
        let kept = fluvio.consumer_offsets().await.expect("a list");
        assert_eq!(kept.iter().map(|c| (c.consumer_id.as_str(), c.offset)).collect::<Vec<_>>(), [("c1", 3)]);
        {
            let mut stream = fluvio.consumer_with_config(config()).await.expect("a stream");
            assert_eq!(next(&mut stream).await.offset(), 4);
        }
        fluvio.delete_consumer_offset("c1", ("t", 0u32)).await.expect("a consumer to delete");
        assert!(fluvio.consumer_offsets().await.expect("a list").is_empty());
    });
    assert_eq!(panics(), 0);
}

#[test]
fn topics_beyond_the_most_are_refused_in_words() {
    let server = Server::start();
    let sc = server.sc.to_string();
    client(move || async move {
        let fluvio = connect(sc).await;
        let admin = fluvio.admin().await;
        for i in 0..MAX_TOPICS {
            if let Err(error) = admin.create(format!("t{i}"), false, TopicSpec::new_computed(1, 1, None)).await {
                // Some are the node's own.
                assert!(i + 8 > MAX_TOPICS && error.to_string().contains("topics"), "{error}");
                return;
            }
        }
        assert!(admin.create("more".into(), false, TopicSpec::new_computed(1, 1, None)).await.is_err());
    });
}

/// Runs `client.py` against a server, with more words for its command line.
fn python(server: &Server, more: &[String]) {
    let python = std::env::var_os("HEADWATER_TEST_PYTHON").unwrap_or_else(|| {
        panic!(
            "HEADWATER_TEST_PYTHON is not set: it names a python that has the PyPI package `fluvio` 0.21 \
             (scripts/test.sh makes one; by hand: python3 -m venv DIR && DIR/bin/pip install fluvio==0.21.0)"
        )
    });
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/endpoint/client.py");
    let output = Command::new(&python).arg(script).arg(server.sc.to_string()).args(more).output();
    let output = output.unwrap_or_else(|e| panic!("{}: {e}", python.display()));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    assert_eq!(text(&output.stdout), "done\n");
    assert_eq!(panics(), 0);
}

#[test]
fn the_python_package_does_all_of_it() {
    python(&Server::start(), &[]);
}

#[test]
fn the_python_package_does_all_of_it_over_mutual_tls() {
    let authority = Authority::new();
    authority.issue("server", Good::Days(365));
    authority.issue("panel-1", Good::Days(365));
    let path = |name: &str| authority.path(name);
    let mut config = config(64);
    config.tls = Some(ServerTls {
        cert: path("server.pem"),
        key: SecretPlace::File(path("server.key")),
        client_ca: Some(path("ca.pem")),
        require_client_cert: true,
    });
    let topics = || vec!["py*".to_owned()];
    config.allow = vec![Allow { who: vec!["panel-1".into()], produce: topics(), consume: topics(), admin: true }];
    let server = Server::with(config, plan);
    let files = ["panel-1.key", "panel-1.pem", "ca.pem"].map(|name| path(name).display().to_string());
    python(&server, &[&["localhost".to_owned()][..], &files].concat());
}
