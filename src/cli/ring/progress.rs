//! How far a long command is, on standard error, where a person looks at it.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use crate::ops::human::{binary, thousands};

const EVERY: Duration = Duration::from_millis(250);
/// The clock is looked at once for so many.
const STEP: u64 = 256;

pub struct Progress {
    shows: bool,
    what: &'static str,
    started: Instant,
    shown: Instant,
    count: u64,
    bytes: u64,
    at: u64,
    of: u64,
}

impl Progress {
    pub fn new(what: &'static str) -> Self {
        let (shows, now) = (std::io::stderr().is_terminal(), Instant::now());
        Self { shows, what, started: now, shown: now, count: 0, bytes: 0, at: 0, of: 0 }
    }

    /// How much there is in all.
    pub fn of(&mut self, all: u64) {
        self.of = all;
    }

    pub fn at(&mut self, at: u64) {
        self.at = at;
        if self.shows && at.is_multiple_of(STEP) {
            self.show();
        }
    }

    pub fn add(&mut self, bytes: usize) {
        self.count += 1;
        self.bytes += bytes as u64;
        if self.shows && self.count.is_multiple_of(STEP) {
            self.show();
        }
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    /// Of so much, whatever the steps are in which it comes.
    pub fn took(&mut self, count: u64, bytes: u64) {
        (self.count, self.bytes, self.at) = (count, bytes, bytes);
        if self.shows {
            self.show();
        }
    }

    fn show(&mut self) {
        if self.shown.elapsed() < EVERY {
            return;
        }
        self.shown = Instant::now();
        let percent = (self.at * 100).checked_div(self.of).map_or(String::new(), |n| format!(", {n} %"));
        let rate = (self.bytes as f64 / self.started.elapsed().as_secs_f64().max(0.001)) as u64;
        let (count, bytes, rate) = (thousands(self.count), binary(self.bytes), binary(rate));
        eprint!("\r\x1b[K{count} {}, {bytes}, {rate}/s{percent}", self.what);
    }

    /// Takes the line away, for one that stays.
    pub fn clear(&self) {
        if self.shows {
            eprint!("\r\x1b[K");
        }
    }
}
