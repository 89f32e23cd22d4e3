//! Consumers behind what the ring has evicted.
//!
//! A real SPU answers a stream or a fetch at an evicted offset with `OffsetEvicted`, which names the offset asked for and
//! the next there is. The `fluvio` crate hands that to its caller where it is not to retry; by default it begins anew at
//! the named offset. The PyPI package raises it from the older consumer, and goes on with the newer. All of it is so with
//! the node: nobody is left waiting, and no offset is passed over without the answer that says so.

use fluvio::consumer::{ConsumerStream, OffsetManagementStrategy, Record, RetryMode};
use fluvio::dataplane::link::ErrorCode;
use fluvio::{Compression, Fluvio, Offset, RecordKey};

use super::super::raw::{RawStream, Refused, fetch, offsets};
use super::super::server::{Server, panics};
use super::python::python;
use super::{SILENCE, client, connect, consumer, next, noise, numbers, produce, producer, step};

/// More than the smallest ring holds.
const FLOOD: usize = 9000;
/// Records before it.
const FIRST: i64 = 100;

async fn flood(fluvio: &Fluvio) {
    let producer = producer(fluvio, "t", Compression::None).await;
    for i in 0..FLOOD {
        producer.send(RecordKey::NULL, noise(i, 1000)).await.expect("room");
    }
    producer.flush().await.expect("answers");
}

/// A small ring, with a topic whose first records are evicted.
fn flooded() -> Server {
    let server = Server::small();
    server.create_topic("t", 1);
    let sc = server.sc.to_string();
    client(move || async move { flood(&connect(sc).await).await });
    assert!(offsets(server.spu, "t").0 > 1000, "the ring has evicted");
    server
}

async fn open(
    fluvio: &Fluvio,
    from: Offset,
    retry: RetryMode,
) -> impl ConsumerStream<Item = Result<Record, ErrorCode>> {
    let mut config = consumer("t", from);
    let config = config.retry_mode(retry).build().expect("a config");
    fluvio.consumer_with_config(config).await.expect("a stream")
}

#[test]
fn a_stream_or_a_fetch_at_an_evicted_offset_is_told_where_to_go_on() {
    let server = flooded();
    let (earliest, _) = offsets(server.spu, "t");
    for offset in [0, 5, earliest - 1] {
        let evicted = Refused::Evicted { offset, next: earliest };
        assert_eq!(fetch(server.spu, "t", offset), Err(evicted.clone()));
        let mut stream = RawStream::open(server.spu, "t", offset);
        assert_eq!(stream.answer(super::PATIENCE), Some(Err(evicted)));
        assert_eq!(stream.answer(SILENCE), None, "and the stream is at its end");
    }
    let mut stream = RawStream::open(server.spu, "t", earliest);
    let records = stream.answer(super::PATIENCE).expect("an answer").expect("records");
    assert_eq!(records[0].0, earliest);
}

#[test]
fn the_fluvio_crate_that_asks_for_an_evicted_offset_gets_the_error_or_goes_on_at_the_earliest() {
    let server = flooded();
    let (earliest, end) = offsets(server.spu, "t");
    let sc = server.sc.to_string();
    client(move || async move {
        let fluvio = connect(sc).await;
        let absolute = || Offset::absolute(5).expect("an offset");
        let mut told = open(&fluvio, absolute(), RetryMode::Disabled).await;
        let evicted = ErrorCode::OffsetEvicted { offset: 5, next_available: earliest };
        assert_eq!(step(&mut told).await.expect("an answer").err(), Some(evicted));
        for from in [absolute(), Offset::beginning(), Offset::from_end(100_000)] {
            let mut stream = open(&fluvio, from, RetryMode::TryForever).await;
            for offset in earliest..end {
                let record = next(&mut stream).await;
                assert_eq!((record.offset(), record.value()), (offset, &noise(offset as usize, 1000)[..]));
            }
        }
    });
    assert_eq!(panics(), 0);
}

#[test]
fn a_consumer_of_the_fluvio_crate_that_the_ring_overtakes_gets_the_error_or_one_hole_up_to_the_earliest() {
    let server = Server::small();
    server.create_topic("t", 1);
    let (sc, spu) = (server.sc.to_string(), server.spu);
    client(move || async move {
        let fluvio = connect(sc).await;
        produce(&producer(&fluvio, "t", Compression::None).await, 0, &numbers(0, FIRST as usize)).await;
        let mut told = open(&fluvio, Offset::beginning(), RetryMode::Disabled).await;
        let mut retries = open(&fluvio, Offset::beginning(), RetryMode::TryForever).await;
        for i in 0..10 {
            assert_eq!((next(&mut told).await.offset(), next(&mut retries).await.offset()), (i, i));
        }
        flood(&fluvio).await;
        let (earliest, end) = offsets(spu, "t");
        // What was on its way still comes; then the error names exactly what is missing.
        let mut at = 10;
        let error = loop {
            match step(&mut told).await.expect("a stream that goes on") {
                Ok(record) => assert_eq!(record.offset(), at),
                Err(error) => break error,
            }
            at += 1;
        };
        assert_eq!(error, ErrorCode::OffsetEvicted { offset: at, next_available: earliest });
        let mut holes = Vec::new();
        at = 10;
        while at < end {
            let offset = next(&mut retries).await.offset();
            if offset != at {
                holes.push((at, offset));
            }
            at = offset + 1;
        }
        assert!(matches!(holes[..], [(from, to)] if from < earliest && to == earliest), "{holes:?}, {earliest}");
    });
    assert_eq!(panics(), 0);
}

#[test]
fn a_named_consumer_of_the_fluvio_crate_whose_place_is_evicted_goes_on_at_the_earliest() {
    let server = Server::small();
    server.create_topic("t", 1);
    let (sc, spu) = (server.sc.to_string(), server.spu);
    client(move || async move {
        let fluvio = connect(sc).await;
        produce(&producer(&fluvio, "t", Compression::None).await, 0, &numbers(0, FIRST as usize)).await;
        let config = || {
            let mut config = consumer("t", Offset::beginning());
            config.offset_consumer("c").offset_strategy(OffsetManagementStrategy::Manual);
            config.build().expect("a config")
        };
        {
            let mut stream = fluvio.consumer_with_config(config()).await.expect("a stream");
            assert_eq!(next(&mut stream).await.offset(), 0);
            stream.offset_commit().await.expect("a commit");
            stream.offset_flush().await.expect("a flush");
        }
        flood(&fluvio).await;
        let (earliest, end) = offsets(spu, "t");
        let mut stream = fluvio.consumer_with_config(config()).await.expect("a stream");
        for offset in earliest..end {
            assert_eq!(next(&mut stream).await.offset(), offset);
        }
    });
    assert_eq!(panics(), 0);
}

#[test]
fn the_python_package_behind_eviction_raises_the_error_or_goes_on_at_the_earliest() {
    let server = Server::small();
    python(&server.sc.to_string(), &["evicted"]);
    assert_eq!(panics(), 0);
}
