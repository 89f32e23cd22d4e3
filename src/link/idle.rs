//! What a link costs when nothing is sent over it: connections that are made in vain, questions, what keeps them alive.
//!
//! Whoever looks every few seconds says how much was spent and whether a batch was sent. A span without a batch, between two
//! of the same kind, is idle: what surrounds a batch (the connection made for it, its answer) is not. What was spent in
//! idle spans is what a day would cost in which there is nothing to send. Heartbeats are batches.

use crate::time::{BootTime, Span};

/// With less than this seen, nothing can be said about a day.
const LEAST: Span = Span::from_secs(600);
const DAY: i128 = 86_400_000_000;

/// Looks that come sooner are one.
const SPAN: Span = Span::from_secs(5);

#[derive(Clone, Copy, Debug, Default)]
pub struct Idle {
    last: Option<(BootTime, u64)>,
    sent: bool,
    /// Spans without a batch up to now, and the newest of them, if one was before it: its bytes and length.
    quiet: u32,
    held: Option<(u64, Span)>,
    bytes: u64,
    time: Span,
}

impl Idle {
    /// `spent` bytes so far; `sent`: a batch since the last look.
    pub fn look(&mut self, now: BootTime, spent: u64, sent: bool) {
        self.sent |= sent;
        let Some((at, before)) = self.last.filter(|(at, _)| now - *at >= SPAN) else {
            self.last = self.last.or(Some((now, spent)));
            return;
        };
        self.last = Some((now, spent));
        if std::mem::take(&mut self.sent) {
            (self.quiet, self.held) = (0, None);
            return;
        }
        if let Some((bytes, time)) = self.held.take() {
            self.bytes += bytes;
            self.time = Span(self.time.0 + time.0);
        }
        self.quiet = self.quiet.saturating_add(1);
        if self.quiet > 1 {
            self.held = Some((spent.saturating_sub(before), now - at));
        }
    }

    /// None: not enough was seen.
    pub fn bytes_per_day(&self) -> Option<u64> {
        let day = || i128::from(self.bytes) * DAY / i128::from(self.time.0);
        (self.time >= LEAST).then(|| u64::try_from(day()).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_around_a_batch_are_not_idle_and_ten_minutes_of_others_tell_of_a_day() {
        let (mut idle, mut spent) = (Idle::default(), 0);
        for look in 0..400 {
            assert!(look > 120 || idle.bytes_per_day().is_none());
            // Of five looks one has a batch; its connection was made just before, its answer comes behind it.
            spent += if look % 5 == 2 {
                100_000
            } else if matches!(look % 5, 1 | 3) {
                700
            } else {
                10
            };
            idle.look(BootTime(look * 10_000_000), spent, look % 5 == 2);
        }
        // Ten bytes in ten seconds.
        assert_eq!(idle.bytes_per_day(), Some(86_400));
    }
}
