//! The clocks: CLOCK_BOOTTIME, the wall clock, and whether the kernel says that the wall clock is synchronised.
//!
//! An admission asks for the time a million times a second, so a reading is used again while the coarse clock (a few
//! nanoseconds to read, moving every 1 to 10 ms) stands still. Whether the wall clock is trusted is asked once a second:
//! adjtimex(2), STA_UNSYNC, which every NTP client clears once it has set the clock.

use std::cell::Cell;

use rustix::time::{ClockId, Timespec, clock_gettime};

use crate::time::{BootTime, Now, WallTime};

const TRUST_EVERY: i64 = 1_000_000;

pub struct Clock {
    coarse: Cell<i64>,
    now: Cell<Now>,
    trust_asked: Cell<i64>,
}

impl Default for Clock {
    fn default() -> Self {
        Self {
            coarse: Cell::new(i64::MIN),
            now: Cell::new(Now { boot: BootTime(0), wall: WallTime(0), trusted: false }),
            trust_asked: Cell::new(i64::MIN),
        }
    }
}

impl Clock {
    pub fn now(&self) -> Now {
        let coarse = micros(clock_gettime(ClockId::MonotonicCoarse));
        if coarse == self.coarse.get() {
            return self.now.get();
        }
        self.coarse.set(coarse);
        let boot = micros(clock_gettime(ClockId::Boottime));
        let mut trusted = self.now.get().trusted;
        if boot.saturating_sub(self.trust_asked.get()) >= TRUST_EVERY {
            self.trust_asked.set(boot);
            trusted = synchronised();
        }
        let wall = WallTime(micros(clock_gettime(ClockId::Realtime)));
        self.now.set(Now { boot: BootTime(boot), wall, trusted });
        self.now.get()
    }
}

fn micros(t: Timespec) -> i64 {
    t.tv_sec.saturating_mul(1_000_000).saturating_add(t.tv_nsec / 1_000)
}

/// adjtimex(2) with nothing to change: reads the kernel's clock discipline.
#[allow(unsafe_code)]
fn synchronised() -> bool {
    // SAFETY: `timex` is plain integers, for which all zeros are valid; the kernel reads `modes` (0: change nothing)
    // and fills the rest of the struct that it was given a valid, exclusive pointer to.
    unsafe {
        let mut timex: libc::timex = std::mem::zeroed();
        libc::adjtimex(&raw mut timex) >= 0 && timex.status & libc::STA_UNSYNC == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boot_time_never_goes_back() {
        let clock = Clock::default();
        let mut last = clock.now();
        for _ in 0..100_000 {
            let now = clock.now();
            assert!(now.boot >= last.boot);
            last = now;
        }
    }
}
