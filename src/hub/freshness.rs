//! How long after their admission records were acknowledged by an upstream: a histogram, one for each sink.
//!
//! Records are told of by the batch: its newest and its oldest. Those between are taken to be spread evenly over the time
//! between, so a batch costs the same however many records it has. What has a batch of its own is exact.

use crate::time::Span;

/// Upper ends of the buckets, in milliseconds; what is above the last is in one more.
pub const BOUNDS_MS: [i64; 17] = [
    10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000, 60_000, 180_000, 600_000, 1_800_000, 3_600_000, 10_800_000,
    21_600_000, 43_200_000, 86_400_000,
];

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Freshness {
    buckets: [u64; BOUNDS_MS.len() + 1],
    sum_us: u128,
    max: Span,
    /// Records whose age nobody knows.
    unknown: u64,
}

impl Freshness {
    /// So many records were acknowledged together, the newest and the oldest of them so long after their admission.
    pub fn add(&mut self, ages: Option<(Span, Span)>, records: u64) {
        let Some((a, b)) = ages else {
            self.unknown += records;
            return;
        };
        // A clock that was set may have them the wrong way round, or in the future.
        let (newest, oldest) = (a.0.min(b.0).max(0) as u128, a.0.max(b.0).max(0) as u128);
        self.max = self.max.max(Span(oldest as i64));
        self.sum_us += u128::from(records) * (newest + oldest) / 2;
        let mut below = 0;
        for (at, bucket) in self.buckets.iter_mut().enumerate() {
            let bound = BOUNDS_MS.get(at).map_or(u128::MAX, |ms| *ms as u128 * 1000);
            let up_to = match bound {
                bound if bound >= oldest => records,
                bound if bound < newest => 0,
                bound => (u128::from(records) * (bound - newest) / (oldest - newest)) as u64,
            };
            *bucket += up_to - below;
            below = up_to;
        }
    }

    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    pub fn unknown(&self) -> u64 {
        self.unknown
    }

    pub fn max_s(&self) -> f64 {
        self.max.0 as f64 / 1e6
    }

    pub fn sum_s(&self) -> f64 {
        self.sum_us as f64 / 1e6
    }

    /// Records up to each bound in seconds; all that there are go beyond the last.
    pub fn up_to(&self) -> impl Iterator<Item = (f64, u64)> {
        let mut sum = 0;
        BOUNDS_MS.iter().zip(self.buckets).map(move |(ms, count)| {
            sum += count;
            (*ms as f64 / 1e3, sum)
        })
    }

    /// What so many thousandths of the records stay below, in seconds, estimated within a bucket.
    pub fn quantile_s(&self, thousandths: u64) -> f64 {
        let (mut left, mut low) = ((self.count() * thousandths).div_ceil(1000), 0.0);
        for (at, count) in self.buckets.iter().enumerate() {
            let high = BOUNDS_MS.get(at).map_or(self.max_s(), |ms| (*ms as f64 / 1e3).min(self.max_s()));
            if left <= *count && *count > 0 {
                return low + (high - low) * (left as f64 / *count as f64);
            }
            (left, low) = (left - count, high);
        }
        self.max_s()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ms(n: i64) -> Span {
        Span::from_millis(n)
    }

    #[test]
    fn records_of_a_batch_are_spread_over_the_time_between_its_newest_and_its_oldest() {
        let mut fresh = Freshness::default();
        fresh.add(Some((ms(0), ms(1000))), 100);
        let up_to: Vec<_> = fresh.up_to().take(6).collect();
        assert_eq!(up_to, [(0.01, 1), (0.03, 3), (0.1, 10), (0.3, 30), (1.0, 100), (3.0, 100)]);
        assert_eq!((fresh.sum_s(), fresh.max_s(), fresh.count()), (50.0, 1.0, 100));
        assert!((fresh.quantile_s(500) - 0.5).abs() < 0.01, "{}", fresh.quantile_s(500));
        assert!((fresh.quantile_s(990) - 0.99).abs() < 0.01);
    }

    #[test]
    fn what_nobody_knows_the_age_of_is_in_no_bucket_and_what_is_older_than_a_day_in_the_last() {
        let mut fresh = Freshness::default();
        fresh.add(None, 7);
        assert_eq!((fresh.count(), fresh.unknown(), fresh.quantile_s(990)), (0, 7, 0.0));
        fresh.add(Some((ms(2 * 86_400_000), ms(2 * 86_400_000))), 3);
        assert_eq!((fresh.up_to().last(), fresh.count()), (Some((86_400.0, 0)), 3));
        assert_eq!(fresh.max_s(), 172_800.0);
    }

    proptest! {
        #[test]
        fn every_record_is_in_one_bucket_and_no_quantile_is_beyond_the_largest(
            batches in proptest::collection::vec((-1_000_000..200_000_000_000i64, -1_000..90_000_000_000i64, 1..5000u64), 1..50),
        ) {
            let mut fresh = Freshness::default();
            let mut all = 0;
            for (newest, more, records) in batches {
                fresh.add(Some((Span(newest), Span(newest + more))), records);
                all += records;
            }
            prop_assert_eq!(fresh.count(), all);
            let quantiles = [1, 500, 900, 990, 1000].map(|q| fresh.quantile_s(q));
            prop_assert!(quantiles.is_sorted() && quantiles[4] <= fresh.max_s(), "{:?}", quantiles);
        }
    }
}
