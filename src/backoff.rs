//! Decorrelated jitter: the wait between tries of anything that can fail for long.
//!
//! Source: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015: each wait is uniform between the base
//! and three times the wait before it, capped. Many nodes that lost the same upstream do not come back in step.

use crate::time::Span;

/// A small seeded generator (SplitMix64): randomness below the async line comes from a seed that is passed in.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `[0, n)`; 0 for `n` = 0.
    pub fn below(&mut self, n: u64) -> u64 {
        if n == 0 { 0 } else { ((u128::from(self.next_u64()) * u128::from(n)) >> 64) as u64 }
    }
}

/// The wait before the next try.
#[derive(Clone, Debug)]
pub struct Backoff {
    base: Span,
    cap: Span,
    last: Span,
    rng: Rng,
}

impl Backoff {
    /// `base` is the shortest wait, `cap` the longest.
    pub fn new(base: Span, cap: Span, seed: u64) -> Self {
        debug_assert!(base.0 > 0 && cap.0 >= base.0);
        Self { base, cap, last: base, rng: Rng::new(seed) }
    }

    /// The wait after a failure.
    pub fn next_wait(&mut self) -> Span {
        let top = self.last.0.saturating_mul(3).min(self.cap.0).max(self.base.0 + 1);
        let wait = self.base.0 + self.rng.below((top - self.base.0) as u64 + 1) as i64;
        self.last = Span(wait.min(self.cap.0));
        self.last
    }

    /// The wait that was given last.
    pub fn last(&self) -> Span {
        self.last
    }

    /// After a success the next failure waits `base` again.
    pub fn reset(&mut self) {
        self.last = self.base;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_stay_between_base_and_cap_and_grow() {
        for seed in 0..200 {
            let (base, cap) = (Span::from_secs(1), Span::from_secs(60));
            let mut backoff = Backoff::new(base, cap, seed);
            let waits: Vec<_> = (0..50).map(|_| backoff.next_wait()).collect();
            assert!(waits.iter().all(|w| *w >= base && *w <= cap));
            assert!(waits.iter().max().unwrap().0 > 20_000_000, "never grew: {waits:?}");
            backoff.reset();
            assert!(backoff.next_wait() <= Span::from_secs(3));
        }
    }
}
