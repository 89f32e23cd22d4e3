//! Days and months of a budget.

use chrono::{DateTime, Datelike, Days, NaiveDate};

use crate::time::WallTime;
use crate::zone::Zone;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Per {
    Day,
    /// Begins on this day, 1 to 31; on the last one of a month that has no such day.
    Month {
        reset_day: u8,
    },
}

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    /// Grows by one from each to the next.
    pub number: i64,
    pub end: WallTime,
}

impl Period {
    /// The one that `at` is in, as `zone` has its days; `local`: as for [`Zone::offset`].
    pub fn of(per: Per, at: WallTime, zone: &Zone, local: i32) -> Self {
        let seconds = zone.shown(at, local);
        // Years that no calendar has are the first day that it has.
        let day = DateTime::from_timestamp(seconds, 0).map_or(NaiveDate::MIN, |time| time.date_naive());
        let (number, end) = match per {
            Per::Day => (i64::from(day.num_days_from_ce()), day.checked_add_days(Days::new(1))),
            Per::Month { reset_day } => {
                let month = i64::from(day.year()) * 12 + i64::from(day.month0());
                let begun = reset(month, reset_day).is_some_and(|reset| day >= reset);
                let number = if begun { month } else { month - 1 };
                (number, reset(number + 1, reset_day))
            }
        };
        let midnight = end.unwrap_or(NaiveDate::MAX).and_time(chrono::NaiveTime::MIN).and_utc().timestamp();
        Self { number, end: zone.moment(midnight, local) }
    }
}

/// The day on which a month of a budget begins.
fn reset(month: i64, reset_day: u8) -> Option<NaiveDate> {
    let (year, month) = (i32::try_from(month.div_euclid(12)).ok()?, month.rem_euclid(12) as u32 + 1);
    (1..=u32::from(reset_day.max(1))).rev().find_map(|day| NaiveDate::from_ymd_opt(year, month, day))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wall(text: &str) -> WallTime {
        WallTime(DateTime::parse_from_rfc3339(text).unwrap().timestamp_micros())
    }

    #[test]
    fn a_month_begins_on_its_day_or_on_the_last_one_that_the_month_has() {
        let month = |day, at: &str| Period::of(Per::Month { reset_day: day }, wall(at), &Zone::Fixed(0), 0);
        assert_eq!(month(1, "2026-11-27T12:00:00Z").end, wall("2026-12-01T00:00:00Z"));
        assert_eq!(month(15, "2026-12-20T12:00:00Z").end, wall("2027-01-15T00:00:00Z"));
        assert_eq!(month(15, "2026-12-14T23:59:59Z").end, wall("2026-12-15T00:00:00Z"));
        assert_eq!(month(31, "2027-02-27T00:00:00Z").end, wall("2027-02-28T00:00:00Z"));
        assert_eq!(month(31, "2027-02-28T00:00:00Z").end, wall("2027-03-31T00:00:00Z"));
    }

    #[test]
    fn a_day_begins_at_midnight_of_its_zone() {
        let east_of_us = Zone::Fixed(2 * 3600);
        let east = Period::of(Per::Day, wall("2026-11-27T22:30:00Z"), &east_of_us, 0);
        assert_eq!(east.end, wall("2026-11-28T22:00:00Z"));
        assert_eq!(Period::of(Per::Day, wall("2026-11-27T21:59:59Z"), &east_of_us, 0).number, east.number - 1);
    }

    proptest! {
        #[test]
        fn each_moment_is_before_its_periods_end_and_the_end_is_in_the_next_one(
            seconds in -4_000_000_000i64..40_000_000_000,
            offset in -14 * 3600..=14 * 3600,
            day in 1u8..=31,
            month: bool,
        ) {
            let per = if month { Per::Month { reset_day: day } } else { Per::Day };
            let at = WallTime(seconds * 1_000_000);
            let zone = Zone::Fixed(offset);
            let period = Period::of(per, at, &zone, 0);
            prop_assert!(period.end > at);
            prop_assert_eq!(Period::of(per, period.end, &zone, 0).number, period.number + 1);
            prop_assert_eq!(Period::of(per, WallTime(period.end.0 - 1), &zone, 0).number, period.number);
        }

        #[test]
        fn no_clock_is_too_wrong(micros: i64, offset in -14 * 3600..=14 * 3600) {
            let _ = Period::of(Per::Month { reset_day: 31 }, WallTime(micros), &Zone::Local, offset);
        }
    }
}
