//! The meter: what happened lately, from counters that only ever grow.
//!
//! It keeps one mark an hour for a day and the newest rate of each sink, and so knows how much was written "today"
//! (the last 24 hours of running, or since the start) and how long a backlog will take. Fed by whoever looks at the
//! node every few seconds; pure.

use std::collections::VecDeque;

use crate::pipeline::Snapshot;
use crate::time::{BootTime, Now, Span};

const MARK_EVERY: Span = Span::from_secs(3600);
const MARKS: usize = 24;
/// A ring that evicted this lately is full, as people mean it.
const LATELY: Span = Span::from_secs(600);
/// So many records that wait are a backlog; fewer may be what is just under way.
const BACKLOG: u64 = 100;
/// A rate is looked at again after this long.
const RATE_EVERY: Span = Span::from_secs(5);

/// Counters at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Mark {
    at: BootTime,
    /// Bytes that the device was asked to keep.
    written: u64,
    /// Records that some lane lost.
    lost: u64,
}

#[derive(Clone, Debug, PartialEq)]
struct SinkRate {
    name: String,
    at: BootTime,
    done: u64,
    pending: u64,
    /// Records a second, when it last worked off a backlog.
    rate: Option<f64>,
}

/// What the last day (or the time since the start) brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Day {
    pub written: u64,
    pub lost: u64,
    pub length: Span,
}

#[derive(Clone, Debug, Default)]
pub struct Meter {
    marks: VecDeque<Mark>,
    /// Records that were evicted before every sink had them, and when their number last grew.
    evicted: Option<u64>,
    evicted_at: Option<BootTime>,
    sinks: Vec<SinkRate>,
}

impl Meter {
    /// Takes the counters in; cheap, and often enough at every few seconds.
    pub fn observe(&mut self, now: Now, snapshot: &Snapshot) {
        let mark = mark(now, snapshot);
        match self.marks.back() {
            // Memory mode and a new ring start their counters again.
            Some(last) if mark.written < last.written || mark.lost < last.lost => {
                self.marks.clear();
                self.marks.push_back(mark);
            }
            Some(last) if mark.at - last.at < MARK_EVERY => {}
            _ => {
                if self.marks.len() == MARKS {
                    self.marks.pop_front();
                }
                self.marks.push_back(mark);
            }
        }
        let evicted = evicted(snapshot);
        if self.evicted.replace(evicted).is_some_and(|before| evicted > before) && is_missed(snapshot) {
            self.evicted_at = Some(now.boot);
        }
        self.sinks.retain(|s| snapshot.sinks.iter().any(|b| b.name.as_str() == s.name));
        for book in &snapshot.sinks {
            let done = book.delivered + book.filtered + book.refused;
            match self.sinks.iter_mut().find(|s| s.name == book.name.as_str()) {
                Some(sink) => sink.observe(now.boot, done, book.pending),
                None => {
                    let (name, pending) = (book.name.as_str().into(), book.pending);
                    self.sinks.push(SinkRate { name, at: now.boot, done, pending, rate: None });
                }
            }
        }
    }

    /// The last day, up to now.
    pub fn day(&self, now: Now, snapshot: &Snapshot) -> Day {
        let Some(first) = self.marks.front() else { return Day::default() };
        let mark = mark(now, snapshot);
        Day {
            written: mark.written.saturating_sub(first.written),
            lost: if is_missed(snapshot) { mark.lost.saturating_sub(first.lost) } else { 0 },
            length: mark.at - first.at,
        }
    }

    /// Whether the ring has to evict records that some sink still wants: it did in the last ten minutes.
    pub fn is_evicting(&self, now: Now, snapshot: &Snapshot) -> bool {
        let lately = self.evicted_at.is_some_and(|at| now.boot - at < LATELY);
        lately || is_missed(snapshot) && self.evicted.is_some_and(|before| evicted(snapshot) > before)
    }

    /// How long `pending` records will take a sink, going by the last time it worked off a backlog.
    pub fn eta(&self, sink: &str, pending: u64) -> Option<u64> {
        let rate = self.sinks.iter().find(|s| s.name == sink)?.rate.filter(|r| *r > 0.0)?;
        Some((pending as f64 / rate).ceil() as u64)
    }
}

impl SinkRate {
    fn observe(&mut self, now: BootTime, done: u64, pending: u64) {
        let length = now - self.at;
        if length < RATE_EVERY {
            return;
        }
        let sent = done.saturating_sub(self.done);
        // With less than a backlog waiting all the while the rate is the sources', not the sink's; with nothing sent it
        // was down.
        if pending.min(self.pending) >= BACKLOG && sent > 0 {
            let new = sent as f64 * 1e6 / length.0 as f64;
            self.rate = Some(self.rate.map_or(new, |old| (old + new) / 2.0));
        }
        (self.at, self.done, self.pending) = (now, done, pending);
    }
}

fn evicted(snapshot: &Snapshot) -> u64 {
    snapshot.ring.lanes.iter().map(|l| l.evicted).sum()
}

/// Whether somebody loses what is evicted. Without sinks the ring keeps what fits, as it should.
fn is_missed(snapshot: &Snapshot) -> bool {
    !snapshot.sinks.is_empty()
}

fn mark(now: Now, snapshot: &Snapshot) -> Mark {
    let lanes = &snapshot.ring.lanes;
    Mark {
        at: now.boot,
        written: snapshot.ring.synced_bytes,
        lost: lanes.iter().map(|l| l.evicted + l.corrupt + l.lost_unsynced).sum(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{at, book, snapshot};

    #[test]
    fn a_day_is_the_last_24_hours() {
        let mut meter = Meter::default();
        let mut snapshot = snapshot();
        for hour in 0..=72 {
            snapshot.ring.synced_bytes = hour * 1000;
            meter.observe(at(hour as i64 * 3600), &snapshot);
        }
        let day = meter.day(at(72 * 3600 + 1800), &snapshot);
        assert!((23_000..=24_000).contains(&day.written), "{day:?}");
        assert!(day.length <= Span::from_secs(24 * 3600 + 1800));
    }

    #[test]
    fn counters_that_start_again_start_a_new_day() {
        let mut meter = Meter::default();
        let mut snapshot = snapshot();
        snapshot.ring.synced_bytes = 1_000_000;
        meter.observe(at(0), &snapshot);
        snapshot.ring.synced_bytes = 10;
        meter.observe(at(100), &snapshot);
        snapshot.ring.synced_bytes = 30;
        assert_eq!(meter.day(at(200), &snapshot).written, 20);
    }

    #[test]
    fn a_ring_is_full_while_it_evicts_and_a_little_longer() {
        let mut meter = Meter::default();
        let mut snapshot = snapshot();
        snapshot.ring.lanes.push(crate::ring::LaneStats { evicted: 7, ..crate::ring::LaneStats::default() });
        snapshot.sinks = vec![book("hq")];
        meter.observe(at(0), &snapshot);
        assert!(!meter.is_evicting(at(0), &snapshot), "what an earlier run evicted says nothing of now");
        snapshot.ring.lanes[0].evicted = 8;
        assert!(meter.is_evicting(at(1), &snapshot), "at once");
        meter.observe(at(10), &snapshot);
        meter.observe(at(20), &snapshot);
        assert!(meter.is_evicting(at(20), &snapshot));
        assert!(!meter.is_evicting(at(10 + 600), &snapshot));
    }

    #[test]
    fn a_backlogs_length_comes_from_the_last_time_it_moved() {
        let mut meter = Meter::default();
        let mut snapshot = snapshot();
        snapshot.sinks = vec![book("hq")];
        snapshot.sinks[0].pending = 5000;
        meter.observe(at(0), &snapshot);
        assert_eq!(meter.eta("hq", 5000), None);
        snapshot.sinks[0].delivered = 1000;
        meter.observe(at(10), &snapshot);
        assert_eq!(meter.eta("hq", 5000), Some(50));
        meter.observe(at(1000), &snapshot);
        assert_eq!(meter.eta("hq", 5000), Some(50), "a link that is down does not change what it can do");
        for second in 0..100 {
            (snapshot.sinks[0].pending, snapshot.sinks[0].delivered) = (1, 1000 + second);
            meter.observe(at(2000 + second as i64 * 10), &snapshot);
        }
        assert_eq!(meter.eta("hq", 5000), Some(50), "nor do sources that send little");
    }
}
