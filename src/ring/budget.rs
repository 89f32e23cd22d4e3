//! What may be written in a day: a budget that makes records nobody waits for wait longer for company.
//!
//! Cards die of writes, and most writes of a trickle are the rest of a page. The budget is a bucket that fills evenly and
//! holds an hour's share. While it is overdrawn, a batch that nobody hurries is sealed only when it is full, when the
//! bucket has recovered, or after [`MOST`]: what somebody waits for is written all the same, and paid for by the others.

use crate::time::{BootTime, Span};

/// The longest that a record waits because of the budget.
pub const MOST: Span = Span::from_secs(300);
const DAY: i128 = 86_400 * 1_000_000;

#[derive(Clone, Copy, Debug, Default)]
pub struct Budget {
    /// Bytes; 0: no limit.
    per_day: u64,
    /// What may be written now, in bytes times [`DAY`]: nothing is rounded away.
    tokens: i128,
    filled: BootTime,
}

impl Budget {
    /// `per_day` bytes from now on; None: as many as there are.
    pub fn set(&mut self, now: BootTime, per_day: Option<u64>) {
        let per_day = per_day.unwrap_or(0);
        if self.per_day != per_day {
            *self = Self { per_day, tokens: Self::hour(per_day), filled: now };
        }
    }

    fn hour(per_day: u64) -> i128 {
        i128::from(per_day) * DAY / 24
    }

    pub fn spend(&mut self, now: BootTime, bytes: u64) {
        self.fill(now);
        self.tokens -= i128::from(bytes) * DAY;
    }

    fn fill(&mut self, now: BootTime) {
        let passed = i128::from((now - self.filled).0.max(0));
        self.filled = self.filled.max(now);
        self.tokens = (self.tokens + passed * i128::from(self.per_day)).min(Self::hour(self.per_day));
    }

    /// When a batch that was begun at `since` and is due at `due` is to be written.
    pub fn stretch(&self, since: BootTime, due: BootTime) -> BootTime {
        if self.per_day == 0 || self.tokens >= 0 {
            return due;
        }
        let wait = (-self.tokens / i128::from(self.per_day)).min(i128::from(MOST.0)) + 1;
        let recovered = self.filled + Span(wait as i64);
        due.max(recovered.min(since + MOST))
    }

    /// Whether records wait longer than they would.
    pub fn is_overdrawn(&self) -> bool {
        self.per_day > 0 && self.tokens < 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: BootTime = BootTime(7_000_000);

    fn after(secs: i64) -> BootTime {
        START + Span::from_secs(secs)
    }

    #[test]
    fn over_a_day_no_more_is_written_than_the_budget_and_what_somebody_waits_for() {
        let mut budget = Budget::default();
        // 4 KiB a commit, one each second if nothing holds it back: 354 MB a day.
        let per_day = 40_000_000;
        budget.set(START, Some(per_day));
        let (mut now, mut written) = (START, 0u64);
        while now < after(86_400) {
            now = budget.stretch(now, now + Span::from_secs(1));
            budget.spend(now, 4096);
            written += 4096;
        }
        let hour = per_day / 24;
        assert!(written <= per_day + hour + 2 * 4096 && written > per_day * 9 / 10, "{written}");
    }

    #[test]
    fn without_a_budget_or_within_it_nothing_waits() {
        let mut budget = Budget::default();
        budget.spend(START, 1 << 40);
        assert_eq!(budget.stretch(START, after(1)), after(1));
        budget.set(START, Some(24_000_000));
        budget.spend(START, 900_000);
        assert_eq!((budget.stretch(START, after(1)), budget.is_overdrawn()), (after(1), false));
    }

    #[test]
    fn nothing_waits_for_ever_however_much_is_overdrawn() {
        let mut budget = Budget::default();
        budget.set(START, Some(1_000_000));
        budget.spend(START, 1 << 50);
        assert!(budget.is_overdrawn());
        assert_eq!(budget.stretch(START, after(1)), START + MOST);
    }
}
