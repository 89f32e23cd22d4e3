//! Time as an argument: below the async line nobody asks a clock.
//!
//! Records carry boot-clock time (CLOCK_BOOTTIME). Wall time is derived from it once the wall clock is trusted:
//! trust comes from the kernel's sync state, never from a plausible year.

use std::ops::{Add, Sub};

use serde::{Deserialize, Serialize};

/// Microseconds of CLOCK_BOOTTIME: never jumps, starts near 0 at each boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BootTime(pub i64);

/// Microseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct WallTime(pub i64);

/// A length of time in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Span(pub i64);

impl Span {
    pub const fn from_micros(us: i64) -> Self {
        Self(us)
    }
    pub const fn from_millis(ms: i64) -> Self {
        Self(ms * 1_000)
    }
    pub const fn from_secs(s: i64) -> Self {
        Self(s * 1_000_000)
    }
    pub const fn as_micros(self) -> i64 {
        self.0
    }
    /// The same length for tokio and std; a negative one is zero.
    pub fn to_std(self) -> std::time::Duration {
        std::time::Duration::from_micros(self.0.max(0) as u64)
    }
}

impl From<std::time::Duration> for Span {
    fn from(d: std::time::Duration) -> Self {
        Self(i64::try_from(d.as_micros()).unwrap_or(i64::MAX))
    }
}

impl Add<Span> for BootTime {
    type Output = BootTime;
    fn add(self, s: Span) -> BootTime {
        BootTime(self.0.saturating_add(s.0))
    }
}

impl Sub for BootTime {
    type Output = Span;
    fn sub(self, earlier: BootTime) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }
}

impl Sub for WallTime {
    type Output = Span;
    fn sub(self, earlier: WallTime) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }
}

/// What the clocks say at one moment, read once per loop turn by `node` and passed down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    pub boot: BootTime,
    /// What the wall clock shows, right or not.
    pub wall: WallTime,
    /// Whether the kernel says that the wall clock is synchronised.
    pub trusted: bool,
}

/// What turns boot time into wall time for one boot; a state entry of the ring, kept as long as that boot's frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockSync {
    /// Wall time minus boot time, in microseconds.
    pub offset: i64,
    /// False while the wall clock was never trusted in that boot: the derived time is flagged.
    pub trusted: bool,
}

impl ClockSync {
    pub fn of(now: Now) -> Self {
        Self { offset: now.wall.0.saturating_sub(now.boot.0), trusted: now.trusted }
    }
    pub fn wall(self, boot: BootTime) -> WallTime {
        WallTime(boot.0.saturating_add(self.offset))
    }
}

/// How old what was admitted in some boot is now. Within this boot the boot clock tells; across boots the wall clock of both
/// must be trusted; else nobody knows.
#[derive(Clone, Copy, Debug)]
pub struct Ages {
    now: Now,
    /// The clock of that boot, where it is another one.
    then: Option<ClockSync>,
    known: bool,
}

impl Ages {
    /// `then`: the clock of the boot, unless it is this one.
    pub fn new(now: Now, this_boot: bool, then: impl FnOnce() -> Option<ClockSync>) -> Self {
        let then = if this_boot { None } else { then().filter(|clock| clock.trusted && now.trusted) };
        Self { now, then, known: this_boot || then.is_some() }
    }

    pub fn of(&self, admitted: BootTime) -> Option<Span> {
        let age = match self.then {
            None => self.now.boot - admitted,
            Some(clock) => self.now.wall - clock.wall(admitted),
        };
        self.known.then_some(age)
    }
}
