//! What a steady stream costs a card, and how long an outage the ring holds: events of 100 bytes at 1 to 1,000 a second.
//!
//! Counted, not timed: the ring runs against a disk in memory and a clock that jumps from one thing to do to the next. The
//! device bytes are what was written and synced (frames, headers, snapshots), without what the file system and the card
//! add. How long an outage it holds is measured in a ring of 16 MiB, as full as it gets, and told for 256 MiB: both have 63
//! slots.

use headwater::lane::LaneId;
use headwater::name::Name;
use headwater::record::RecordRef;
use headwater::ring::{MemDisk, Owner, OwnerKind, Ring, drive};
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
    /// Nobody, in RAM-first mode, while a sink takes what comes; its cursor is stored every 5 minutes.
    RamFirst,
}

/// How often a cursor is stored in RAM-first mode.
const CURSOR_EVERY: Span = Span::from_secs(300);

struct Stream {
    ring: Ring,
    disk: MemDisk,
    part: TopicPart,
    now: BootTime,
    sent: u64,
    bytes: u64,
    cursor_put: BootTime,
}

impl Stream {
    fn new(bytes: u64) -> Result<Self> {
        let mut disk = MemDisk::new(bytes);
        let (ring, part) = new_ring(&mut disk, bytes)?;
        let now = BootTime(SECOND);
        Ok(Self { ring, disk, part, now, sent: 0, bytes: 0, cursor_put: now })
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
        (self.sent, self.bytes) = (self.sent + 1, self.bytes + event.len() as u64);
        if wait == Wait::Blocked {
            self.ring.hurry(self.now + Span::from_millis(20));
        }
        if wait == Wait::RamFirst {
            self.take()?;
        }
        Ok(())
    }

    /// A sink passes all that it is shown.
    fn take(&mut self) -> Outcome {
        let lane = LaneId(0);
        self.ring.set_ram_first(true);
        self.ring.set_passed(lane, Some(self.ring.lane_durable(lane)));
        if self.now - self.cursor_put >= CURSOR_EVERY {
            self.cursor_put = self.now;
            let owner = Owner { kind: OwnerKind::Sink, name: Name::new("hq")? };
            self.ring.put_state(self.now, &owner, b"cursor", Some(&self.sent.to_le_bytes().repeat(12)))?;
        }
        drive(&mut self.ring, &mut self.disk, self.now);
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
    let given = if wait == Wait::RamFirst { stream.bytes } else { stats.logical_bytes };
    Ok((stats.synced_bytes as f64 * DAY / seconds as f64, stats.synced_bytes as f64 / given as f64))
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

/// As `written`, of 256 MiB that the stream has gone around once.
fn written_around(rate: u64, seconds: u64, wait: Wait, events: &[Vec<u8>]) -> Result<(f64, f64)> {
    let mut stream = Stream::new(LARGE)?;
    while stream.ring.stats().lanes[0].evicted == 0 {
        for _ in 0..10_000 {
            stream.send(rate, wait, events)?;
        }
    }
    let before = stream.ring.stats();
    for _ in 0..rate * seconds {
        stream.send(rate, wait, events)?;
    }
    let now = stream.ring.stats();
    let synced = (now.synced_bytes - before.synced_bytes) as f64;
    Ok((synced * DAY / seconds as f64, synced / (now.logical_bytes - before.logical_bytes) as f64))
}

pub fn run() -> Outcome {
    let events = events(100_000);
    println!("| events a second | who waits | device MB a day | of the bytes given | hours of outage in 256 MiB |");
    println!("|---|---|---|---|---|");
    for (rate, seconds) in [(1, 48 * 3600), (10, 6 * 3600), (100, 3600), (1000, 1200)] {
        for (wait, who) in [(Wait::Linger, "nobody, or QoS 1 with room"), (Wait::Blocked, "a blocked peer")] {
            let (bytes, share) = written(rate, seconds, wait, &events)?;
            let hours = held(rate, wait, &events)? / 3600.0;
            println!("| {rate} | {who} | {:.0} | {share:.2} | {hours:.1} |", bytes / 1e6);
        }
        let (bytes, share) = written(rate, seconds, Wait::RamFirst, &events)?;
        let who = "nobody, RAM-first, link up";
        println!("| {rate} | {who} | {:.1} | {share:.4} | as the first once it is down |", bytes / 1e6);
    }
    let (bytes, share) = written_around(1000, 1200, Wait::Linger, &events)?;
    println!("| 1000 | nobody, in a ring that is full | {:.0} | {share:.2} | |", bytes / 1e6);
    Ok(())
}
