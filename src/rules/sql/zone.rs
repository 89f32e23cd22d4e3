//! Time zones of `AT TIME ZONE`: UTC, fixed offsets, and places, whose law the machine's database has.

use super::datetime::{HOUR, Interval, MINUTE};
use crate::time::WallTime;
use crate::zone::{self, Find};

const SECOND: i64 = 1_000_000;
const DAY: i64 = 24 * HOUR;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Zone {
    /// Microseconds east of UTC.
    Fixed(i64),
    Named(zone::Zone),
}

impl Zone {
    /// `UTC`, `GMT`, `Z`, a place like `Europe/Berlin`, or an offset. As PostgreSQL (and POSIX) has it, an offset in a zone's
    /// name counts to the west: `+02` is two hours behind UTC. An interval counts to the east, see
    /// [`of_interval`](Self::of_interval).
    pub fn parse(name: &str, find: Find<'_>) -> Result<Zone, String> {
        let trimmed = name.trim();
        if ["utc", "gmt", "z", "etc/utc", "zulu"].iter().any(|utc| trimmed.eq_ignore_ascii_case(utc)) {
            return Ok(Zone::Fixed(0));
        }
        if let Some(west) = west(trimmed) {
            return Ok(Zone::Fixed(-west));
        }
        match zone::Zone::parse(trimmed, find) {
            Ok(named @ zone::Zone::Named(_)) => Ok(Zone::Named(named)),
            Err(why) if trimmed.starts_with(|first: char| first.is_ascii_alphabetic()) => Err(why),
            _ => Err(format!("`{name}` is no time zone: write UTC, a name like Europe/Berlin, or INTERVAL '+02:00'")),
        }
    }

    /// East of UTC.
    pub fn of_interval(interval: Interval) -> Result<Zone, String> {
        if interval.months != 0 || interval.days != 0 || interval.micros.checked_abs().is_none_or(|us| us >= 24 * HOUR)
        {
            return Err("the offset of a time zone is less than a day".into());
        }
        Ok(Zone::Fixed(interval.micros))
    }

    /// Microseconds east of UTC at a moment.
    fn east(&self, utc: i64) -> i64 {
        match self {
            Zone::Fixed(east) => *east,
            Zone::Named(zone) => i64::from(zone.offset(WallTime(utc), 0)) * SECOND,
        }
    }

    /// What its clocks show at a moment in UTC, in microseconds.
    pub fn local(&self, utc: i64) -> Option<i64> {
        utc.checked_add(self.east(utc))
    }

    /// The moment at which its clocks show `local`. As PostgreSQL has it: of two the later, and where clocks skip it the moment
    /// that it would have been without the change.
    pub fn utc(&self, local: i64) -> Option<i64> {
        let before = local.checked_sub(self.east(local.checked_sub(DAY)?))?;
        let after = local.checked_sub(self.east(local.checked_add(DAY)?))?;
        let shows = |utc: i64| self.local(utc) == Some(local);
        Some([before, after].into_iter().filter(|utc| shows(*utc)).max().unwrap_or(before))
    }
}

/// `+02`, `-2:30`, `+0230`: microseconds.
fn west(text: &str) -> Option<i64> {
    let sign = if text.starts_with('-') { -1 } else { 1 };
    let digits = text.strip_prefix(['+', '-'])?;
    let (hours, minutes) = match digits.split_once(':') {
        Some((hours, minutes)) => (hours, minutes),
        None if digits.len() == 4 && digits.is_ascii() => digits.split_at(2),
        None => (digits, "0"),
    };
    let number = |text: &str, most: i64| {
        let digits = !text.is_empty() && text.len() <= 2 && text.bytes().all(|b| b.is_ascii_digit());
        text.parse::<i64>().ok().filter(|n| digits && *n <= most)
    };
    Some(sign * (number(hours, 15)? * HOUR + number(minutes, 59)? * MINUTE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zone::no_names;
    use crate::zone::tests::berlin;

    #[test]
    fn an_offset_in_a_name_counts_to_the_west_and_an_interval_to_the_east() {
        let parse = |name: &str| Zone::parse(name, &no_names);
        assert_eq!(parse("+02").unwrap(), Zone::Fixed(-2 * HOUR));
        assert_eq!(parse("-02:30").unwrap(), Zone::Fixed(2 * HOUR + 30 * MINUTE));
        assert_eq!(parse("utc").unwrap(), Zone::Fixed(0));
        let two = Interval { micros: 2 * HOUR, ..Interval::default() };
        assert_eq!(Zone::of_interval(two).unwrap().local(0), Some(2 * HOUR));
        for wrong in ["Europe/Berlin", "+25", "", "+", "+2:99", "+é", "local"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_place_has_the_clocks_of_its_law_and_what_they_show_twice_is_the_later() {
        let zone = Zone::parse("Europe/Berlin", &berlin).unwrap();
        let micros = |text: &str| chrono::DateTime::parse_from_rfc3339(text).unwrap().timestamp_micros();
        for (shown, utc) in [
            ("2026-01-01T12:00:00Z", "2026-01-01T11:00:00Z"),
            ("2026-07-01T12:00:00Z", "2026-07-01T10:00:00Z"),
            ("2026-10-25T01:59:59Z", "2026-10-24T23:59:59Z"),
            ("2026-10-25T02:30:00Z", "2026-10-25T01:30:00Z"),
            ("2026-10-25T03:00:00Z", "2026-10-25T02:00:00Z"),
            ("2026-03-29T01:59:59Z", "2026-03-29T00:59:59Z"),
            ("2026-03-29T03:00:00Z", "2026-03-29T01:00:00Z"),
        ] {
            assert_eq!(zone.utc(micros(shown)), Some(micros(utc)), "{shown}");
            assert_eq!(zone.local(micros(utc)), Some(micros(shown)), "{utc}");
        }
        // Never shown.
        assert_eq!(zone.utc(micros("2026-03-29T02:30:00Z")), Some(micros("2026-03-29T01:30:00Z")));
    }
}
