//! The `fluvio` crate: offsets that the node keeps for named consumers.

use fluvio::consumer::{ConsumerConfigExtBuilder, ConsumerStream, OffsetManagementStrategy};
use fluvio::metadata::topic::TopicSpec;
use fluvio::{Compression, Fluvio, Offset};

use super::super::node::eventually;
use super::super::server::{Server, panics};
use super::{client, connect, consumer, next, node, numbers, produce, producer};

fn named(topic: &str, name: &str, strategy: OffsetManagementStrategy) -> ConsumerConfigExtBuilder {
    let mut builder = consumer(topic, Offset::beginning());
    builder.offset_consumer(name).offset_strategy(strategy);
    builder
}

/// Consumes `count` records as this consumer; the first offset.
async fn consume(fluvio: &Fluvio, topic: &str, name: &str, count: usize) -> i64 {
    let config = named(topic, name, OffsetManagementStrategy::Manual).build().expect("a config");
    let mut stream = fluvio.consumer_with_config(config).await.expect("a stream");
    let first = next(&mut stream).await.offset();
    for i in 1..count as i64 {
        assert_eq!(next(&mut stream).await.offset(), first + i);
    }
    stream.offset_commit().await.expect("a commit");
    stream.offset_flush().await.expect("a flush");
    first
}

async fn kept(fluvio: &Fluvio) -> Vec<(String, String, i64)> {
    let kept = fluvio.consumer_offsets().await.expect("a list");
    let mut kept: Vec<_> = kept.into_iter().map(|c| (c.consumer_id, c.topic, c.offset)).collect();
    kept.sort();
    kept
}

fn is(consumer: &str, topic: &str, offset: i64) -> (String, String, i64) {
    (consumer.to_owned(), topic.to_owned(), offset)
}

#[test]
fn the_fluvio_crate_commits_lists_and_deletes_offsets_and_goes_on_at_them_in_another_connection() {
    let server = Server::start();
    server.create_topic("t", 1);
    server.create_topic("u", 1);
    let sc = server.sc.to_string();
    let with = |sc: &String| {
        let sc = sc.clone();
        move || connect(sc)
    };
    let (first, second, third) = (with(&sc), with(&sc), with(&sc));
    client(move || async move {
        let fluvio = first().await;
        for topic in ["t", "u"] {
            produce(&producer(&fluvio, topic, Compression::None).await, 0, &numbers(0, 100)).await;
        }
        assert_eq!(kept(&fluvio).await, []);
        assert_eq!(consume(&fluvio, "t", "c1", 4).await, 0);
        assert_eq!(consume(&fluvio, "t", "c2", 50).await, 0);
        assert_eq!(consume(&fluvio, "u", "c1", 1).await, 0);
        assert_eq!(kept(&fluvio).await, [is("c1", "t", 3), is("c1", "u", 0), is("c2", "t", 49)]);
    });
    client(move || async move {
        let fluvio = second().await;
        assert_eq!(consume(&fluvio, "t", "c1", 10).await, 4);
        assert_eq!(consume(&fluvio, "t", "c1", 86).await, 14);
        assert_eq!(consume(&fluvio, "t", "c2", 1).await, 50);
        assert_eq!(kept(&fluvio).await, [is("c1", "t", 99), is("c1", "u", 0), is("c2", "t", 50)]);
        fluvio.delete_consumer_offset("c1", ("t", 0u32)).await.expect("a consumer to delete");
        assert_eq!(kept(&fluvio).await, [is("c1", "u", 0), is("c2", "t", 50)]);
        // As one that never was.
        assert_eq!(consume(&fluvio, "t", "c1", 1).await, 0);
    });
    client(move || async move {
        let fluvio = third().await;
        fluvio.admin().await.delete::<TopicSpec>("t").await.expect("a topic to delete");
        assert_eq!(kept(&fluvio).await, [is("c1", "u", 0)]);
    });
    assert_eq!(panics(), 0);
}

#[test]
fn a_consumer_of_the_fluvio_crate_that_commits_by_itself_goes_on_where_it_was() {
    let server = Server::start();
    server.create_topic("t", 1);
    let sc = server.sc.to_string();
    let again = sc.clone();
    let config = || named("t", "auto", OffsetManagementStrategy::Auto).build().expect("a config");
    client(move || async move {
        let fluvio = connect(sc).await;
        produce(&producer(&fluvio, "t", Compression::None).await, 0, &numbers(0, 100)).await;
        {
            let mut stream = fluvio.consumer_with_config(config()).await.expect("a stream");
            for i in 0..10 {
                assert_eq!(next(&mut stream).await.offset(), i);
            }
        }
        // Flushed by the client when the stream is dropped, in its own time.
        while kept(&fluvio).await.is_empty() {
            tokio::time::sleep(super::SILENCE).await;
        }
    });
    client(move || async move {
        let fluvio = connect(again).await;
        let kept = kept(&fluvio).await;
        let mut stream = fluvio.consumer_with_config(config()).await.expect("a stream");
        assert_eq!(next(&mut stream).await.offset(), kept[0].2 + 1);
        assert!((8..10).contains(&kept[0].2), "{kept:?}");
    });
    assert_eq!(panics(), 0);
}

#[test]
fn offsets_that_the_fluvio_crate_committed_are_there_after_the_node_was_stopped_and_after_it_was_killed() {
    let (mut node, sc) = node("64MiB");
    for round in 0..3 {
        let to = sc.clone();
        client(move || async move {
            let fluvio = connect(to).await;
            if round == 0 {
                let spec = TopicSpec::new_computed(1, 1, None);
                fluvio.admin().await.create("t".into(), false, spec).await.expect("a topic");
                produce(&producer(&fluvio, "t", Compression::None).await, 0, &numbers(0, 100)).await;
            } else {
                assert_eq!(kept(&fluvio).await, [is("c1", "t", round * 10 - 1)]);
            }
            assert_eq!(consume(&fluvio, "t", "c1", 10).await, round * 10);
        });
        if round == 0 {
            node.stop()
        } else {
            node.kill()
        }
        node.start();
        eventually("the endpoint", || std::net::TcpStream::connect(&sc).ok());
    }
}
