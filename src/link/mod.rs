//! A way out and what it costs: when it may be used, by which lanes, how fast, and how much of its budget is left.
//!
//! [`Link`] is a machine without clock or socket. Whoever sends asks [`Link::gate`] before, tells [`Link::spend`] what went
//! over the wire in either direction, and waits as long as [`Link::pace`] says. Several sinks share one.
//!
//! # The budget
//!
//! belongs to a period, a day or a month that begins at midnight of its zone ([`Period`]). Every byte counts, whoever caused
//! it: handshakes, retries, searches. A lane's **reserve** is what the others leave of it: a lane may send while what all have
//! used and what the others still have in reserve is below the budget. What cannot be told apart (handshakes) counts for no
//! lane. Once it is spent nothing more is sent until the period ends, or it is only said (`when_spent = "go-on"`).
//!
//! A new period begins only by a trusted clock: one that stands in 1970, or jumps there and back, gives nobody a new budget. What
//! is used before the clock is trusted counts in the period that it turns out to be.
//!
//! # What is stored
//!
//! is never less than what was used: who sends asks [`Link::promise`] before, and makes durable what it says. That is an amount
//! ahead, a 256th of the budget, so that it costs some hundred syncs a period; a crash forgets no byte and takes the rest of that
//! amount for used.
//!
//! # Windows
//!
//! are times of day, each perhaps with days and a zone of its own ([`Window`]). Outside of them only the lanes of `bypass` may
//! send. While the clock is untrusted they are open: better to send at the wrong time than never.

mod idle;
mod period;
mod rate;
mod window;

use serde::{Deserialize, Serialize};

pub use idle::Idle;
pub use period::{Per, Period};
pub use rate::{Rate, parse_rate};
pub use window::{Place, Window};

use crate::lane::LaneId;
use crate::time::{Now, Span, WallTime};
use crate::zone::Zone;

/// What may be used in one period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    pub bytes: u64,
    pub per: Per,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options {
    pub budget: Option<Budget>,
    /// Where the days of the budget begin, and the windows that name none.
    pub zone: Zone,
    /// Bytes a second, both ways together.
    pub rate: Option<u64>,
    /// Times in which it may be used; none: always.
    pub windows: Vec<Window>,
    /// Lanes that need no window. A lane here is its place in the configuration.
    pub bypass: Vec<LaneId>,
    /// Bytes of the budget that only this lane may use.
    pub reserve: Vec<(LaneId, u64)>,
    /// Goes on where the budget is spent, and says so.
    pub goes_on: bool,
}

/// Whether a lane may use the link now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    Open,
    /// Not in a window; the next one begins then.
    Closed {
        until: WallTime,
    },
    /// The budget is spent; the next period begins then, by a trusted clock.
    Spent {
        until: WallTime,
    },
}

/// What is stored: postcard.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Stored {
    version: u8,
    /// Number of the period; None: not known yet.
    period: Option<i64>,
    /// Used, with what is stored ahead.
    used: u64,
    lanes: Vec<(LaneId, u64)>,
}

const VERSION: u8 = 1;
/// What is stored ahead, at least and at most.
const AHEAD: (u64, u64) = (4 * 1024, 1 << 20);

/// See the module's essay.
#[derive(Clone, Debug)]
pub struct Link {
    options: Options,
    rate: Option<Rate>,
    period: Option<i64>,
    used: u64,
    lanes: Vec<(LaneId, u64)>,
    /// What was used while the clock was not trusted, since the start: of the period that it turns out to be.
    unplaced: u64,
    /// What the last thing stored says was used.
    promised: u64,
}

impl Link {
    /// `stored`: what [`Self::promise`] or [`Self::settle`] gave last.
    pub fn new(options: Options, stored: Option<&[u8]>) -> Self {
        let stored = stored.and_then(|bytes| postcard::from_bytes::<Stored>(bytes).ok());
        let stored = stored.filter(|stored| stored.version == VERSION).unwrap_or_default();
        let rate = options.rate.map(Rate::new);
        let (period, used, lanes) = (stored.period, stored.used, stored.lanes);
        Self { options, rate, period, used, lanes, unplaced: 0, promised: used }
    }

    /// New options; what was used stays, where the budget is of the same kind of period.
    pub fn set(&mut self, options: Options) {
        let per = |options: &Options| options.budget.map(|budget| std::mem::discriminant(&budget.per));
        if per(&self.options) != per(&options) {
            (self.period, self.used, self.unplaced) = (None, 0, 0);
            self.lanes.clear();
        }
        if self.options.rate != options.rate {
            self.rate = options.rate.map(Rate::new);
        }
        self.options = options;
    }

    pub fn options(&self) -> &Options {
        &self.options
    }

    /// The budget's period at `now`; None without a budget.
    fn period_at(&self, now: Now, local: i32) -> Option<Period> {
        let budget = self.options.budget?;
        Some(Period::of(budget.per, now.wall, &self.options.zone, local))
    }

    /// Begins the period that it is, if the clock knows.
    fn roll(&mut self, now: Now, local: i32) {
        let Some(period) = self.period_at(now, local).filter(|_| now.trusted) else { return };
        match self.period {
            // A clock that went back, or a zone that changed: the budget is not given twice.
            Some(known) if period.number <= known => {}
            Some(_) => {
                self.used = self.unplaced;
                self.lanes.clear();
            }
            None => {}
        }
        self.period = self.period.max(Some(period.number));
        self.unplaced = 0;
    }

    /// Whether `lane` may send now; `local`: seconds of this machine's zone east of UTC.
    pub fn gate(&mut self, now: Now, local: i32, lane: LaneId) -> Gate {
        self.roll(now, local);
        if !self.is_in_window(now, local) && !self.options.bypass.contains(&lane) {
            return Gate::Closed { until: self.next_window(now, local) };
        }
        match self.left(lane) {
            Some(0) if !self.options.goes_on => {
                let until = self.period_at(now, local).map_or(now.wall, |period| period.end);
                Gate::Spent { until }
            }
            _ => Gate::Open,
        }
    }

    fn place(&self, local: i32) -> Place<'_> {
        Place { zone: &self.options.zone, local }
    }

    fn is_in_window(&self, now: Now, local: i32) -> bool {
        let windows = &self.options.windows;
        windows.is_empty() || !now.trusted || windows.iter().any(|w| w.is_open(now.wall, self.place(local)))
    }

    fn next_window(&self, now: Now, local: i32) -> WallTime {
        let next = self.options.windows.iter().filter_map(|w| w.next(now.wall, self.place(local)));
        next.min().unwrap_or(now.wall)
    }

    /// When the window that is open now ends; None: it is closed, or nothing ends it.
    pub fn window_ends(&self, now: Now, local: i32) -> Option<WallTime> {
        let place = self.place(local);
        let open = self.options.windows.iter().filter(|w| now.trusted && w.is_open(now.wall, place));
        open.filter_map(|w| w.end(now.wall, place)).max()
    }

    /// Bytes that `lane` may use in this period; None: as many as it likes.
    pub fn left(&self, lane: LaneId) -> Option<u64> {
        let budget = self.options.budget?.bytes;
        let used_by = |lane| self.lanes.iter().find(|(l, _)| *l == lane).map_or(0, |(_, used)| *used);
        let others = self.options.reserve.iter().filter(|(l, _)| *l != lane);
        let kept: u64 = others.map(|(l, bytes)| bytes.saturating_sub(used_by(*l))).sum();
        Some(budget.saturating_sub(self.used).saturating_sub(kept))
    }

    /// Bytes went over the wire.
    pub fn spend(&mut self, now: Now, local: i32, bytes: u64) {
        self.roll(now, local);
        self.used = self.used.saturating_add(bytes);
        if !now.trusted {
            self.unplaced = self.unplaced.saturating_add(bytes);
        }
    }

    /// So much of what was or will be spent is a lane's.
    pub fn lay_to(&mut self, lane: LaneId, bytes: u64) {
        match self.lanes.iter_mut().find(|(known, _)| *known == lane) {
            Some((_, used)) => *used = used.saturating_add(bytes),
            None => self.lanes.push((lane, bytes)),
        }
    }

    /// Takes up to `want` bytes of the rate: how many, or how long until there are some.
    pub fn pace(&mut self, now: Now, want: usize) -> Result<usize, Span> {
        self.rate.as_mut().map_or(Ok(want), |rate| rate.take(now.boot, want))
    }

    /// Bytes that came, or went without asking: what follows waits for them.
    pub fn owe(&mut self, bytes: u64) {
        if let Some(rate) = &mut self.rate {
            rate.owe(bytes);
        }
    }

    /// Bytes that were taken and not used.
    pub fn give_back(&mut self, bytes: usize) {
        if let Some(rate) = &mut self.rate {
            rate.give_back(bytes);
        }
    }

    /// `coming` bytes are about to be used: what must be durable before, if anything must.
    pub fn promise(&mut self, coming: u64) -> Option<Vec<u8>> {
        let ahead = (self.options.budget?.bytes / 256).clamp(AHEAD.0, AHEAD.1);
        let needed = self.used.saturating_add(coming);
        // A new period is stored as well: less was used in it than is promised.
        (needed > self.promised || self.promised > needed.saturating_add(ahead))
            .then(|| self.store(needed.saturating_add(ahead)))
    }

    /// The link is not used any more: what is stored then, if anything is; nothing ahead.
    pub fn settle(&mut self) -> Option<Vec<u8>> {
        self.options.budget?;
        (self.promised != self.used).then(|| self.store(self.used))
    }

    fn store(&mut self, used: u64) -> Vec<u8> {
        self.promised = used;
        let stored = Stored { version: VERSION, period: self.period, used, lanes: self.lanes.clone() };
        postcard::to_allocvec(&stored).unwrap_or_default()
    }

    /// Bytes used in this period.
    pub fn used(&self) -> u64 {
        self.used
    }

    /// When the period ends, by the clock that there is.
    pub fn period_ends(&self, now: Now, local: i32) -> Option<WallTime> {
        self.period_at(now, local).map(|period| period.end)
    }

    /// How long until what [`Self::gate`] says may change although nothing is spent.
    pub fn next_change(&self, now: Now, local: i32) -> Option<Span> {
        if !now.trusted {
            return None;
        }
        let place = self.place(local);
        let windows = self.options.windows.iter();
        let edges = windows.flat_map(|w| [w.next(now.wall, place), w.end(now.wall, place)]).flatten();
        edges.chain(self.period_ends(now, local)).filter(|at| *at > now.wall).min().map(|at| at - now.wall)
    }
}

#[cfg(test)]
mod tests;
