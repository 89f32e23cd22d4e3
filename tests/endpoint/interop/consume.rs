//! The `fluvio` crate: records out, from any place, many at once, and as they come.

use std::time::{Duration, Instant};

use fluvio::{Compression, Offset, RecordKey};

use super::super::server::{Server, panics};
use super::{
    assert_same, client, connect, is_silent, next, numbers, placed, produce, producer, step, stream, take, take_from,
};

#[test]
fn the_fluvio_crate_consumes_from_the_beginning_the_end_and_any_offset() {
    let server = Server::start();
    server.create_topic("t", 1);
    let sc = server.sc.to_string();
    client(move || async move {
        let fluvio = connect(sc).await;
        let producer = producer(&fluvio, "t", Compression::None).await;
        produce(&producer, 0, &numbers(0, 1000)).await;
        let absolute = |n| Offset::absolute(n).expect("an offset");
        for (from, first) in [
            (Offset::beginning(), 0),
            (Offset::from_beginning(10), 10),
            (absolute(0), 0),
            (absolute(500), 500),
            (absolute(999), 999),
            (Offset::from_end(1), 999),
            (Offset::from_end(10), 990),
            (Offset::from_end(5000), 0),
        ] {
            let what = format!("{from:?}");
            let mut stream = stream(&fluvio, "t", from).await;
            let count = 1000 - first as usize;
            assert_same(&what, &take_from(&mut stream, count).await, &placed(first, &numbers(first, count)));
            assert!(is_silent(&mut stream).await, "{what}: the end");
        }
        // At the end and beyond it there is nothing, until what was asked for is there.
        let beyond = [
            (Offset::end(), 1000),
            (Offset::from_end(0), 1000),
            (absolute(1000), 1000),
            (absolute(1010), 1010),
            // Clients keep this one within what there is.
            (Offset::from_beginning(1010), 1000),
        ];
        let mut streams = Vec::new();
        for (from, first) in beyond {
            let mut stream = stream(&fluvio, "t", from).await;
            assert!(is_silent(&mut stream).await, "nothing at {first}");
            streams.push((first, stream));
        }
        produce(&producer, 1000, &numbers(1000, 5)).await;
        assert!(is_silent(&mut streams[3].1).await, "1010 is not there yet");
        produce(&producer, 1005, &numbers(1005, 15)).await;
        for (first, stream) in &mut streams {
            let count = 1020 - *first as usize;
            let seen = take_from(stream, count).await;
            assert_same(&format!("from {first}"), &seen, &placed(*first, &numbers(*first, count)));
        }
    });
    assert_eq!(panics(), 0);
}

#[test]
fn a_consumer_of_the_fluvio_crate_that_takes_what_there_is_ends_at_the_end() {
    let server = Server::start();
    server.create_topic("t", 1);
    let sc = server.sc.to_string();
    client(move || async move {
        let fluvio = connect(sc).await;
        produce(&producer(&fluvio, "t", Compression::Lz4).await, 0, &numbers(0, 1000)).await;
        for first in [0, 500, 999, 1000] {
            let mut config = super::consumer("t", Offset::absolute(first).unwrap());
            let config = config.disable_continuous(true).build().expect("a config");
            let mut stream = fluvio.consumer_with_config(config).await.expect("a stream");
            let count = 1000 - first as usize;
            assert_same("all", &take_from(&mut stream, count).await, &placed(first, &numbers(first, count)));
            assert!(step(&mut stream).await.is_none(), "from {first} it ends");
        }
    });
    assert_eq!(panics(), 0);
}

#[test]
fn consumers_of_the_fluvio_crate_at_many_places_at_once_each_get_all() {
    let server = Server::start();
    server.create_topic("t", 1);
    let (before, after) = (5000, 5000);
    let sc = server.sc.to_string();
    let produce_more = move |sc: String, first: i64, count: usize| {
        client(move || async move {
            let fluvio = connect(sc).await;
            for first in (first..first + count as i64).step_by(100) {
                produce(&producer(&fluvio, "t", Compression::Gzip).await, first, &numbers(first, 100)).await;
            }
        });
    };
    produce_more(sc.clone(), 0, before);
    let all = before + after;
    // Each with connections of its own; two of them at each place.
    let consumers: Vec<_> = [0, 0, 17, 17, 2500, 2500, 4999, 4999]
        .into_iter()
        .map(|first| {
            let sc = sc.clone();
            std::thread::spawn(move || {
                client(move || async move {
                    let (fluvio, count) = (connect(sc).await, all - first as usize);
                    let seen = take(&fluvio, "t", Offset::absolute(first).unwrap(), count).await;
                    assert_same("of its own", &seen, &placed(first, &numbers(first, count)));
                });
            })
        })
        .collect();
    // And on one connection, a record of each in turn.
    let shared = std::thread::spawn({
        let sc = sc.clone();
        move || {
            client(move || async move {
                let fluvio = connect(sc).await;
                let mut streams = Vec::new();
                for first in [0, 1000, 2000, 3000] {
                    streams.push((first, stream(&fluvio, "t", Offset::absolute(first).unwrap()).await));
                }
                while streams.iter().any(|(at, _)| *at < all as i64) {
                    for (at, stream) in streams.iter_mut().filter(|(at, _)| *at < all as i64) {
                        let record = next(stream).await;
                        assert_eq!((record.offset(), record.value()), (*at, at.to_string().as_bytes()));
                        *at += 1;
                    }
                }
            });
        }
    });
    produce_more(sc, before as i64, after);
    consumers.into_iter().chain([shared]).for_each(|c| c.join().expect("a consumer that gets all"));
    assert_eq!(panics(), 0);
}

/// A consumer that waits between records, each in a commit of its own, while the ring puts what it was given together.
#[test]
fn a_slow_consumer_of_the_fluvio_crate_gets_each_record_once() {
    let server = Server::start();
    server.create_topic("t", 1);
    let sc = server.sc.to_string();
    client(move || async move {
        let fluvio = connect(sc).await;
        let producer = producer(&fluvio, "t", Compression::None).await;
        let mut stream = stream(&fluvio, "t", Offset::beginning()).await;
        let (mut produced, mut seen) = (0, 0);
        assert!(is_silent(&mut stream).await);
        for _ in 0..5 {
            // The first of them is on its way at once, alone; the others follow when the consumer takes it.
            for _ in 0..10 {
                produce(&producer, produced, &numbers(produced, 1)).await;
                produced += 1;
            }
            let value = [b'x'; 1000];
            for _ in 0..1000 {
                producer.send(RecordKey::NULL, &value[..]).await.expect("room");
                produced += 1;
            }
            producer.flush().await.expect("answers");
            while seen < produced {
                assert_eq!(next(&mut stream).await.offset(), seen);
                seen += 1;
            }
        }
    });
    assert_eq!(panics(), 0);
}

/// The producer's answer says that a record is durable; how long after it a consumer at the end has the record.
#[test]
fn a_consumer_of_the_fluvio_crate_at_the_end_has_a_record_within_20_ms_of_when_it_is_durable() {
    let server = Server::start();
    server.create_topic("t", 1);
    let sc = server.sc.to_string();
    let mut late = client(move || async move {
        let fluvio = connect(sc).await;
        let producer = producer(&fluvio, "t", Compression::None).await;
        let mut live = stream(&fluvio, "t", Offset::end()).await;
        let mut late = Vec::new();
        for i in 0..200 {
            let ((record, seen), durable) = tokio::join!(
                async {
                    let record = next(&mut live).await;
                    (record, Instant::now())
                },
                async {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                    produce(&producer, i, &numbers(i, 1)).await;
                    Instant::now()
                }
            );
            assert_eq!((record.offset(), record.value()), (i, i.to_string().as_bytes()));
            late.push(seen.saturating_duration_since(durable));
        }
        late
    });
    late.sort();
    let (median, most) = (late[late.len() / 2], late[late.len() - 1]);
    println!("fluvio crate, live: {median:?} after it was durable in the middle, {most:?} at most");
    // The middle: the machine of a test may be busy with others.
    assert!(median <= Duration::from_millis(20), "{late:?}");
    assert_eq!(panics(), 0);
}
