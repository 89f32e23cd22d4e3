//! What a steady stream costs a card, and how long an outage the ring holds: events of 100 bytes at 1 to 1,000 a second.
//!
//! Counted, not timed: the ring runs against a disk in memory and a clock that jumps from one thing to do to the next. The
//! device bytes are what was written and synced (frames, headers, snapshots), without what the file system and the card
//! add. How long an outage it holds is measured in a ring of 16 MiB, as full as it gets, and told for 256 MiB: both have 63
//! slots.

use headwater::record::RecordRef;
use headwater::ring::{MemDisk, Ring, drive};
use headwater::time::{BootTime, Span};
use headwater::topic::TopicPart;

use super::support::{Outcome, Result, events, new_ring};

const DAY: f64 = 86_400.0;
const SECOND: i64 = 1_000_000;
const LARGE: u64 = 256 << 20;
const SMALL: u64 = 16 << 20;

/// Who waits for a record.
#[derive(Clone, Copy, PartialEq)]
enum Wait {
    /// Nobody, or a peer that may send on meanwhile (QoS 1 with its window open): a linger of a second.
    Linger,
    /// A peer that sends nothing more before the acknowledgement: 20 ms.
    Blocked,
}

struct Stream {
    ring: Ring,
    disk: MemDisk,
    part: TopicPart,
    now: BootTime,
    sent: u64,
}

impl Stream {
    fn new(bytes: u64) -> Result<Self> {
        let mut disk = MemDisk::new(bytes);
        let (ring, part) = new_ring(&mut disk, bytes)?;
        Ok(Self { ring, disk, part, now: BootTime(SECOND), sent: 0 })
    }

    fn send(&mut self, rate: u64, wait: Wait, events: &[Vec<u8>]) -> Outcome {
        let next = BootTime(self.now.0 + SECOND / rate as i64);
        while let Some(due) = self.ring.next_timeout().filter(|due| *due <= next) {
            self.now = self.now.max(due);
            drive(&mut self.ring, &mut self.disk, self.now);
        }
        self.now = next;
        let event = &events[self.sent as usize % events.len()];
        self.ring.append(self.now, self.part, &RecordRef { admitted: self.now, ..RecordRef::of(event) })?;
        self.sent += 1;
        if wait == Wait::Blocked {
            self.ring.hurry(self.now + Span::from_millis(20));
        }
        Ok(())
    }
}

/// Device bytes a day, and how many times what was given that is.
fn written(rate: u64, seconds: u64, wait: Wait, events: &[Vec<u8>]) -> Result<(f64, f64)> {
    let mut stream = Stream::new(LARGE)?;
    for _ in 0..rate * seconds {
        stream.send(rate, wait, events)?;
    }
    let stats = stream.ring.stats();
    Ok((stats.synced_bytes as f64 * DAY / seconds as f64, stats.synced_bytes as f64 / stats.logical_bytes as f64))
}

/// Seconds of the stream that 256 MiB hold.
fn held(rate: u64, wait: Wait, events: &[Vec<u8>]) -> Result<f64> {
    let mut stream = Stream::new(SMALL)?;
    while stream.ring.stats().lanes[0].oldest.ordinal == 0 {
        for _ in 0..100 {
            stream.send(rate, wait, events)?;
        }
    }
    Ok(stream.sent as f64 / rate as f64 * (LARGE / SMALL) as f64)
}

pub fn run() -> Outcome {
    let events = events(100_000);
    println!("| events a second | who waits | device MB a day | of the bytes given | days of outage in 256 MiB |");
    println!("|---|---|---|---|---|");
    for (rate, seconds) in [(1, 48 * 3600), (10, 6 * 3600), (100, 3600), (1000, 1200)] {
        for (wait, who) in [(Wait::Linger, "nobody, or QoS 1 with room"), (Wait::Blocked, "a blocked peer")] {
            let (bytes, share) = written(rate, seconds, wait, &events)?;
            let days = held(rate, wait, &events)? / DAY;
            println!("| {rate} | {who} | {:.0} | {share:.2} | {days:.1} |", bytes / 1e6);
        }
    }
    Ok(())
}
