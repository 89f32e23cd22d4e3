//! Time zones of `AT TIME ZONE`: UTC and fixed offsets.
//!
//! Names of places (`Europe/Berlin`) need their history and are refused for now; a table of them belongs here, as another
//! variant of [`Zone`] that answers the same two questions.

use super::datetime::{HOUR, Interval, MINUTE};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zone {
    /// Microseconds east of UTC.
    Fixed(i64),
}

impl Zone {
    /// `UTC`, `GMT`, `Z`, or an offset. As PostgreSQL (and POSIX) has it, an offset in a zone's name counts to the west:
    /// `+02` is two hours behind UTC. An interval counts to the east, see [`of_interval`](Self::of_interval).
    pub fn parse(name: &str) -> Result<Zone, String> {
        let trimmed = name.trim();
        if ["utc", "gmt", "z", "etc/utc", "zulu"].iter().any(|utc| trimmed.eq_ignore_ascii_case(utc)) {
            return Ok(Zone::Fixed(0));
        }
        let offset = west(trimmed).ok_or_else(|| {
            format!("the time zone `{name}` is not in this version: write UTC, or an offset as INTERVAL '+02:00'")
        })?;
        Ok(Zone::Fixed(-offset))
    }

    /// East of UTC.
    pub fn of_interval(interval: Interval) -> Result<Zone, String> {
        if interval.months != 0 || interval.days != 0 || interval.micros.checked_abs().is_none_or(|us| us >= 24 * HOUR)
        {
            return Err("the offset of a time zone is less than a day".into());
        }
        Ok(Zone::Fixed(interval.micros))
    }

    /// What its clocks show at a moment in UTC, in microseconds.
    pub fn local(self, utc: i64) -> Option<i64> {
        let Zone::Fixed(east) = self;
        utc.checked_add(east)
    }

    /// The moment at which its clocks show `local`.
    pub fn utc(self, local: i64) -> Option<i64> {
        let Zone::Fixed(east) = self;
        local.checked_sub(east)
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

    #[test]
    fn an_offset_in_a_name_counts_to_the_west_and_an_interval_to_the_east() {
        assert_eq!(Zone::parse("+02").unwrap(), Zone::Fixed(-2 * HOUR));
        assert_eq!(Zone::parse("-02:30").unwrap(), Zone::Fixed(2 * HOUR + 30 * MINUTE));
        assert_eq!(Zone::parse("utc").unwrap(), Zone::Fixed(0));
        let two = Interval { micros: 2 * HOUR, ..Interval::default() };
        assert_eq!(Zone::of_interval(two).unwrap().local(0), Some(2 * HOUR));
        for wrong in ["Europe/Berlin", "+25", "", "+", "+2:99", "+é"] {
            assert!(Zone::parse(wrong).is_err(), "{wrong}");
        }
    }
}
