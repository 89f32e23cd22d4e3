//! The `fluvio` crate: topics, and records in.

use fluvio::metadata::topic::TopicSpec;
use fluvio::{Compression, Offset, RecordKey, TopicProducerConfigBuilder};
use headwater::limits::MAX_TOPICS;

use super::super::raw::{Pair, stored};
use super::super::server::{Server, panics};
use super::{KINDS, assert_same, client, connect, noise, placed, produce, producer, take};

/// Keys and values of every kind, each with each, and records of every size besides.
fn pairs(count: usize) -> Vec<Pair> {
    let bytes: Vec<u8> = (0..=255).collect();
    let pair = |i: usize| {
        let key = match i % 4 {
            0 => Some(bytes.clone()),
            1 => None,
            2 => Some(Vec::new()),
            _ => Some(format!("key-{}", i % 7).into_bytes()),
        };
        let value = match i % 5 {
            _ if i == 500 => noise(i, 40_000),
            0 => bytes.clone(),
            1 => Vec::new(),
            2 => format!("value-{i}-").repeat(20).into_bytes(),
            3 => noise(i, i % 3000),
            _ => vec![b'x'],
        };
        (key, value)
    };
    (0..count).map(pair).collect()
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
        for _ in 0..2 {
            produce(&producer(&fluvio, "a", Compression::None).await, 0, &[(None, b"x".to_vec())]).await;
            admin.delete::<TopicSpec>("a").await.expect("a topic to delete");
            admin.create("a".into(), false, spec(1)).await.expect("a topic");
        }
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

/// One record and 1,000 of them, of every kind of key and value.
#[test]
fn the_fluvio_crate_gets_back_what_it_produced_with_every_compression_byte_for_byte() {
    let server = Server::start();
    let rounds = || KINDS.into_iter().flat_map(|kind| [1, 1000].map(|count| (kind, count, format!("{kind}-{count}"))));
    rounds().for_each(|(_, _, topic)| server.create_topic(&topic, 1));
    let sc = server.sc.to_string();
    let seen = client(move || async move {
        let fluvio = connect(sc).await;
        let mut seen = Vec::new();
        for (kind, count, topic) in rounds() {
            produce(&producer(&fluvio, &topic, kind).await, 0, &pairs(count)).await;
            seen.push(take(&fluvio, &topic, Offset::beginning(), count).await);
        }
        seen
    });
    for ((_, count, topic), seen) in rounds().zip(seen) {
        let produced = placed(0, &pairs(count));
        assert_same(&format!("{topic} stored"), &stored(server.spu, &topic), &produced);
        assert_same(&format!("{topic} consumed"), &seen, &produced);
    }
    assert_eq!(panics(), 0);
}

#[test]
fn the_fluvio_crate_sends_a_thousand_records_at_once_and_batches_of_any_size_it_is_set_to() {
    let server = Server::start();
    let sizes = [100, 16_384, 1_000_000];
    sizes.iter().for_each(|size| server.create_topic(&format!("t-{size}"), 1));
    let sc = server.sc.to_string();
    client(move || async move {
        let fluvio = connect(sc).await;
        for size in sizes {
            let mut config = TopicProducerConfigBuilder::default();
            config.batch_size(size).linger(std::time::Duration::from_millis(20));
            let config = config.build().expect("a config");
            let producer = fluvio.topic_producer_with_config(format!("t-{size}"), config).await.expect("a producer");
            let pairs =
                pairs(1000).into_iter().map(|(key, value)| (key.map_or(RecordKey::NULL, RecordKey::from), value));
            let outputs = producer.send_all(pairs).await.expect("room");
            producer.flush().await.expect("answers");
            for (i, output) in (0..).zip(outputs) {
                assert_eq!(output.wait().await.expect("an offset").offset(), i);
            }
        }
    });
    for size in sizes {
        assert_same(&format!("batches of {size}"), &stored(server.spu, &format!("t-{size}")), &placed(0, &pairs(1000)));
    }
    assert_eq!(panics(), 0);
}

#[test]
fn values_larger_than_a_batch_of_the_fluvio_crate_are_kept_and_larger_than_the_ring_takes_refused_in_words() {
    let server = Server::start();
    server.create_topic("t", 1);
    let sc = server.sc.to_string();
    // A ring of 64 MiB takes records of 256 KiB.
    let large = || [20_000, 60_000, 200_000, 1].map(|len| (Some(noise(len, 300)), noise(len, len))).to_vec();
    let seen = client(move || async move {
        let fluvio = connect(sc).await;
        for len in [300_000, 900_000] {
            let too_large = producer(&fluvio, "t", Compression::None).await;
            let output = too_large.send(RecordKey::NULL, noise(len, len)).await.expect("room");
            let flushed = too_large.flush().await;
            let refused = output.wait().await.expect_err("a record that is too large").to_string();
            assert!(refused.contains("too large"), "{refused}; flush: {flushed:?}");
        }
        // Others are served as before.
        produce(&producer(&fluvio, "t", Compression::Zstd).await, 0, &large()).await;
        take(&fluvio, "t", Offset::beginning(), 4).await
    });
    assert_same("stored", &stored(server.spu, "t"), &placed(0, &large()));
    assert_same("consumed", &seen, &placed(0, &large()));
    assert_eq!(panics(), 0);
}

#[test]
fn records_of_one_key_of_the_fluvio_crate_are_in_one_partition_in_order() {
    let server = Server::start();
    server.create_topic("t", 3);
    let sc = server.sc.to_string();
    client(move || async move {
        let fluvio = connect(sc).await;
        let producer = fluvio.topic_producer("t").await.expect("a producer");
        for i in 0..600u32 {
            producer.send(format!("k{}", i % 20), i.to_string()).await.expect("room");
        }
        producer.flush().await.expect("answers");
        let mut builder = fluvio::consumer::ConsumerConfigExtBuilder::default();
        let config = builder.topic("t").offset_start(Offset::beginning()).build().expect("a config");
        let mut stream = fluvio.consumer_with_config(config).await.expect("a stream of all partitions");
        let mut of_key = std::collections::BTreeMap::<_, (u32, Vec<u32>)>::new();
        for _ in 0..600 {
            let record = super::next(&mut stream).await;
            let value = std::str::from_utf8(record.value()).unwrap().parse().unwrap();
            let (partition, values) = of_key.entry(record.key().unwrap().to_vec()).or_default();
            if values.is_empty() {
                *partition = record.partition();
            }
            assert_eq!(*partition, record.partition());
            values.push(value);
        }
        assert_eq!(of_key.len(), 20);
        assert!(of_key.values().all(|(_, v)| v.len() == 30 && v.windows(2).all(|w| w[0] + 20 == w[1])));
        assert!((0..3).all(|p| of_key.values().any(|(q, _)| p == *q)), "each partition has some");
    });
    assert_eq!(panics(), 0);
}
