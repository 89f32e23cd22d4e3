//! How large batches are: as large as the upstream answers in time.
//!
//! A batch that fits the window of a fast network takes a minute on a modem, and its request is given up, sent again and given
//! up again. So the size follows what answers take: it doubles while they come quickly and batches are full, halves when they
//! take long, and falls to a quarter when one does not come. It halves as well where the connection is lost with a batch on
//! it: some middle box may end each one after so many bytes, and what never gets through whole would be sent for ever. What a
//! question takes is no batch's fault: a satellite is far, not slow. One for all partitions of a sink: they share the way there.
//!
//! What answers take says as well which one does not come as they do: where an SPU hangs, others need not wait for its deadline.

use crate::time::Span;

/// Below it, headers are most of what is sent.
const LEAST: usize = 4 * 1024;
/// Where it begins: a second on a slow mobile link, and three answers from the usual limit.
const FIRST: usize = 64 * 1024;
/// Longer than an answer takes when an upstream is busy for a moment.
const A_MOMENT: Span = Span::from_secs(1);

#[derive(Clone, Debug)]
pub struct Pace {
    limit: usize,
    most: usize,
    timeout: Span,
    /// The quickest answer on the connections that there are: how far it is.
    far: Option<Span>,
    /// The slowest answer to a batch of late; older ones count ever less. None before the first.
    slowest: Option<Span>,
}

impl Pace {
    /// `most` bytes of a batch; `timeout`: when a request is given up.
    pub fn new(most: usize, timeout: Span) -> Self {
        Self { limit: FIRST.min(most), most, timeout, far: None, slowest: None }
    }

    /// Bytes of a batch, as the driver counts them.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Whoever has waited so long for its answers waits for something else than the others do.
    pub fn overdue(&self) -> Span {
        let usual = self.slowest.map(|slowest| Span(slowest.0.saturating_mul(4).saturating_add(A_MOMENT.0)));
        usual.map_or(self.timeout, |usual| usual.min(self.timeout))
    }

    /// A connection was made: it may lead another way.
    pub fn connected(&mut self) {
        self.far = None;
    }

    /// A question was answered, which is small.
    pub fn met(&mut self, took: Span) {
        self.far = Some(self.far.map_or(took, |far| far.min(took)));
    }

    /// A batch was answered.
    pub fn answered(&mut self, bytes: usize, took: Span) {
        self.slowest = Some(took.max(Span(self.slowest.map_or(0, |slowest| slowest.0 / 4 * 3))));
        let far = Span(self.far.map_or(0, |far| far.0.min(took.0).min(self.timeout.0 / 4 * 3)));
        let (took, most) = (took.0 - far.0, self.timeout.0 - far.0);
        if took > most / 3 {
            self.shrink(bytes, 2);
        } else if took < most / 6 && bytes >= self.limit / 2 {
            self.limit = self.limit.saturating_mul(2).min(self.most);
        }
    }

    /// A batch was not answered: not in time (`late`), or its connection was lost.
    pub fn unanswered(&mut self, bytes: usize, late: bool) {
        self.shrink(bytes, if late { 4 } else { 2 });
    }

    fn shrink(&mut self, bytes: usize, by: usize) {
        // A small batch that took long says nothing of large ones but that they take longer.
        self.limit = (self.limit.min(bytes) / by).max(LEAST).min(self.limit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TIMEOUT: Span = Span::from_secs(20);

    /// Sends full batches over a line of `rate` bytes a second and `delay`: how large the last ones were, and how many
    /// were given up.
    fn over(rate: usize, delay: Span, batches: usize) -> (usize, usize) {
        let (mut pace, mut lost) = (Pace::new(512 * 1024, TIMEOUT), 0);
        pace.met(delay);
        for _ in 0..batches {
            let bytes = pace.limit();
            let took = Span((bytes as i64 * 1_000_000) / rate as i64 + delay.0);
            if took > TIMEOUT {
                pace.unanswered(bytes, true);
                lost += 1;
            } else {
                pace.answered(bytes, took);
            }
        }
        (pace.limit(), lost)
    }

    #[test]
    fn a_modem_gets_batches_that_it_carries_in_time_and_a_network_large_ones() {
        let (modem, lost) = over(1200, Span::from_millis(300), 50);
        assert!((LEAST..=8 * 1024).contains(&modem) && lost <= 2, "{modem}, {lost}");
        assert_eq!(over(10_000_000, Span::from_millis(1), 10), (512 * 1024, 0));
        // Seconds away is far, not slow.
        for delay in [2, 4, 8] {
            assert_eq!(over(1_000_000, Span::from_secs(delay), 10), (512 * 1024, 0));
        }
    }

    #[test]
    fn a_line_that_ends_each_connection_after_so_many_bytes_gets_batches_that_fit() {
        let mut pace = Pace::new(512 * 1024, TIMEOUT);
        for _ in 0..3 {
            pace.unanswered(pace.limit(), false);
        }
        assert_eq!(pace.limit(), 8 * 1024);
    }

    #[test]
    fn small_batches_that_come_quickly_say_nothing_of_large_ones() {
        let mut pace = Pace::new(512 * 1024, TIMEOUT);
        pace.unanswered(64 * 1024, true);
        for _ in 0..100 {
            pace.answered(100, Span::from_millis(1));
        }
        assert_eq!(pace.limit(), 16 * 1024);
    }

    #[test]
    fn overdue_is_what_takes_several_times_as_long_as_answers_did_of_late() {
        let mut pace = Pace::new(512 * 1024, TIMEOUT);
        assert_eq!(pace.overdue(), TIMEOUT, "nobody knows yet what is usual");
        pace.answered(100, Span::from_secs(2));
        assert_eq!(pace.overdue(), Span::from_secs(9));
        pace.answered(100, Span::from_secs(15));
        assert_eq!(pace.overdue(), TIMEOUT);
        for _ in 0..50 {
            pace.answered(100, Span::from_millis(10));
        }
        assert_eq!(pace.overdue(), Span::from_millis(1040));
    }

    proptest! {
        #[test]
        fn it_stays_within_its_bounds_and_whatever_the_line_soon_nothing_is_given_up(
            rate in 800usize..100_000_000,
            delay in 0i64..15_000,
        ) {
            let (limit, lost) = over(rate, Span::from_millis(delay), 100);
            prop_assert!((LEAST..=512 * 1024).contains(&limit));
            prop_assert!(lost <= 3, "{lost} were given up");
        }
    }
}
