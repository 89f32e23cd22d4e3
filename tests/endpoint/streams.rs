//! Streams, an answer at a time: what a consumer is given, in pieces that the ring has put together otherwise since.

use std::time::Duration;

use super::produce::{batch, produce};
use super::raw::RawStream;
use super::server::Server;

const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn a_stream_gives_each_record_once_though_the_ring_puts_small_frames_together_meanwhile() {
    let server = Server::start();
    server.create_topic("t", 1);
    let mut produced = 0;
    let mut more = |batches: usize, values: usize| {
        let value = [b'x'; 1000];
        for _ in 0..batches {
            assert_eq!(produce(&server, "t", 0, &batch(&vec![&value[..]; values], None)), (0, produced));
            produced += values as i64;
        }
        produced
    };
    more(5, 1);
    let mut stream = RawStream::open(server.spu, "t", 0);
    let mut next = 0;
    for round in 0..4 {
        // Small frames, given out in several answers.
        let end = more(5, 1);
        while next < end {
            let records = stream.answer(PATIENCE).expect("an answer").expect("records");
            let offsets: Vec<_> = records.iter().map(|r| r.0).collect();
            let dense: Vec<_> = (next..).take(offsets.len()).collect();
            assert_eq!(offsets, dense, "round {round}");
            next += offsets.len() as i64;
            if next < end {
                stream.go_on(next);
            }
        }
        // By the time that the consumer goes on in the middle of them, they are one large frame, and out of memory.
        more(1, 1);
        more(10, 100);
        stream.go_on(next);
    }
}
