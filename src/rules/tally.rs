//! What a rule has done so far, and how long it took over it.
//!
//! Reading a clock costs about as much as a simple rule. So the first record is timed, and then one in [`EVERY`], which stands for
//! those since the last: the sum only grows, and is right on average.

use super::made::Made;
use crate::name::Name;

/// One record in so many is timed.
const EVERY: u32 = 16;

/// A clock that only moves forward, in nanoseconds.
pub type Clock = fn() -> u64;

/// What a rule has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub records_in: u64,
    pub records_out: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub errors: u64,
    /// State entries that it forgot to make room for others.
    pub forgotten: u64,
    /// Time that it took, about; 0 where there is no clock.
    pub nanos: u64,
}

impl Tally {
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            records_in: self.records_in + other.records_in,
            records_out: self.records_out + other.records_out,
            bytes_in: self.bytes_in + other.bytes_in,
            bytes_out: self.bytes_out + other.bytes_out,
            errors: self.errors + other.errors,
            forgotten: self.forgotten + other.forgotten,
            nanos: self.nanos + other.nanos,
        }
    }

    /// Bytes that it took away; below zero where it makes more than it gets.
    pub fn bytes_saved(&self) -> i64 {
        self.bytes_in as i64 - self.bytes_out as i64
    }

    pub(super) fn filtered(&mut self, bytes: u64, passes: bool) {
        self.records_in += 1;
        self.bytes_in += bytes;
        self.records_out += u64::from(passes);
        self.bytes_out += if passes { bytes } else { 0 };
    }

    pub(super) fn made(&mut self, made: &Made) {
        let (records, bytes) = made.weigh();
        self.records_out += records;
        self.bytes_out += bytes;
    }
}

/// What a rule says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    pub tally: Tally,
    /// The last reason for which it failed.
    pub last_error: Option<Box<str>>,
}

impl Told {
    /// Together with another one, which is newer if either is.
    pub fn add(&mut self, other: Told) {
        self.tally = self.tally.plus(other.tally);
        self.last_error = other.last_error.or(self.last_error.take());
    }

    /// Together with what a list has of the same rule; a rule that it has not comes behind the others.
    pub fn add_to(self, list: &mut Vec<(Name, Told)>, name: &Name) {
        match list.iter_mut().find(|(of, _)| of == name) {
            Some((_, sum)) => sum.add(self),
            None => list.push((name.clone(), self)),
        }
    }
}

/// Times some of the calls.
#[derive(Debug, Default)]
pub(super) struct Watch {
    pub clock: Option<Clock>,
    /// Calls since the one that was timed last.
    since: u32,
    started: bool,
}

impl Watch {
    /// A call begins: when, if it is to be timed.
    #[inline]
    pub fn begin(&mut self) -> Option<u64> {
        let clock = self.clock?;
        self.since += 1;
        if self.started && self.since < EVERY {
            return None;
        }
        self.started = true;
        Some(clock())
    }

    /// It has ended: nanoseconds to be added.
    #[inline]
    pub fn end(&mut self, began: Option<u64>) -> u64 {
        let (Some(clock), Some(began)) = (self.clock, began) else { return 0 };
        clock().saturating_sub(began) * u64::from(std::mem::take(&mut self.since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each look at it takes three more.
    fn clock() -> u64 {
        use std::cell::Cell;
        std::thread_local!(static NOW: Cell<u64> = const { Cell::new(0) });
        NOW.set(NOW.get() + 3);
        NOW.get()
    }

    #[test]
    fn what_is_timed_stands_for_all_calls_since_the_one_before() {
        let mut watch = Watch { clock: Some(clock), ..Watch::default() };
        let mut nanos = 0;
        let mut looks = 0;
        for _ in 0..1 + 10 * EVERY {
            let began = watch.begin();
            looks += u32::from(began.is_some());
            nanos += watch.end(began);
        }
        assert_eq!((nanos, looks), (3 * u64::from(1 + 10 * EVERY), 11));
    }

    #[test]
    fn without_a_clock_nothing_is_timed() {
        let mut watch = Watch::default();
        let began = watch.begin();
        assert_eq!((began, watch.end(began)), (None, 0));
    }
}
