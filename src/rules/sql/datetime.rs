//! Dates, times and intervals: the calendar, how they are read and how they are written.
//!
//! Days and microseconds since 1970-01-01, years 1 to 9999, the Gregorian calendar throughout; text as ISO 8601 has it
//! and PostgreSQL writes it. The session's zone is UTC. Nothing here knows what time it is: `now`, `today` and the like
//! are refused.

use super::decimal::Decimal;
use super::value::{EvalError, Kind, Result};

pub const SECOND: i64 = 1_000_000;
pub const MINUTE: i64 = 60 * SECOND;
pub const HOUR: i64 = 60 * MINUTE;
pub const DAY: i64 = 24 * HOUR;

/// Months, days and microseconds side by side, as none is a fixed number of the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interval {
    pub months: i32,
    pub days: i32,
    pub micros: i64,
}

/// A moment taken apart.
#[derive(Clone, Copy, Debug)]
pub struct Civil {
    pub year: i32,
    pub month: i32,
    pub day: i32,
    /// Microseconds of the day.
    pub micros: i64,
    /// Days since 1970-01-01.
    pub days: i32,
}

/// Days since 1970-01-01 of a day of the calendar. The year is counted from March, so that a leap day is its last.
pub fn days_of(year: i32, month: i32, day: i32) -> i32 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

pub fn civil_of_days(days: i32) -> (i32, i32, i32) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year_of_era + era * 400 + i32::from(month <= 2), month, day)
}

pub fn civil(micros: i64) -> Civil {
    let days = micros.div_euclid(DAY) as i32;
    let (year, month, day) = civil_of_days(days);
    Civil { year, month, day, micros: micros.rem_euclid(DAY), days }
}

pub fn days_of_month(year: i32, month: i32) -> i32 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn first_day() -> i32 {
    days_of(1, 1, 1)
}

fn last_day() -> i32 {
    days_of(9999, 12, 31)
}

pub fn out_of_range(what: &str) -> EvalError {
    EvalError::new(Kind::TimeOutOfRange, format!("{what} out of range (years 1 to 9999)"))
}

/// Whether the moment is one that can be written.
pub fn checked_time(micros: Option<i64>) -> Result<i64> {
    micros
        .filter(|t| (i64::from(first_day()) * DAY..(i64::from(last_day()) + 1) * DAY).contains(t))
        .ok_or_else(|| out_of_range("timestamp"))
}

pub fn checked_date(days: Option<i32>) -> Result<i32> {
    days.filter(|d| (first_day()..=last_day()).contains(d)).ok_or_else(|| out_of_range("date"))
}

pub fn write_date(days: i32, out: &mut String) {
    use std::fmt::Write;
    let (year, month, day) = civil_of_days(days);
    _ = write!(out, "{year:04}-{month:02}-{day:02}");
}

pub fn write_timestamp(micros: i64, between: u8, out: &mut String) {
    use std::fmt::Write;
    let at = civil(micros);
    write_date(at.days, out);
    out.push(between.into());
    _ = write!(out, "{:02}:{:02}:{:02}", at.micros / HOUR, at.micros / MINUTE % 60, at.micros / SECOND % 60);
    write_fraction(at.micros % SECOND, out);
}

/// A fraction of a second without the zeros at its end.
fn write_fraction(micros: i64, out: &mut String) {
    if micros != 0 {
        let digits = format!(".{:06}", micros.abs());
        out.push_str(digits.trim_end_matches('0'));
    }
}

/// A text read piece by piece.
struct Reader<'t> {
    rest: &'t str,
}

impl<'t> Reader<'t> {
    fn eat(&mut self, c: char) -> bool {
        let after = self.rest.strip_prefix(c);
        self.rest = after.unwrap_or(self.rest);
        after.is_some()
    }

    fn take(&mut self, wanted: impl Fn(char) -> bool) -> &'t str {
        let end = self.rest.find(|c| !wanted(c)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }

    fn digits(&mut self) -> &'t str {
        self.take(|c| c.is_ascii_digit())
    }

    fn number(&mut self, lengths: std::ops::RangeInclusive<usize>) -> Option<i32> {
        let digits = self.digits();
        if lengths.contains(&digits.len()) { digits.parse().ok() } else { None }
    }

    fn date(&mut self) -> Option<(i32, i32, i32)> {
        let year = self.number(4..=6)?;
        if !self.eat('-') {
            return None;
        }
        let month = self.number(1..=2)?;
        if !self.eat('-') {
            return None;
        }
        Some((year, month, self.number(1..=2)?))
    }

    /// Hours, minutes, seconds with fraction, in microseconds; and whether it is a time of a day (24:00:00 is).
    fn time(&mut self) -> Option<(i64, bool)> {
        let hour = self.number(1..=2)?;
        if !self.eat(':') {
            return None;
        }
        let minute = self.number(2..=2)?;
        let (mut second, mut micros) = (0, 0);
        if self.eat(':') {
            second = self.number(2..=2)?;
            if self.eat('.') {
                micros = fraction(self.digits());
            }
        }
        let total = i64::from(hour) * HOUR + i64::from(minute) * MINUTE + i64::from(second) * SECOND + micros;
        Some((total, minute < 60 && second <= 60 && total <= DAY))
    }

    /// Microseconds east of UTC; zero when no zone is named.
    fn zone(&mut self) -> Option<i64> {
        if self.eat('Z') || self.eat('z') {
            return Some(0);
        }
        let sign = if self.eat('+') {
            1
        } else if self.eat('-') {
            -1
        } else {
            return self.named_zone();
        };
        let digits = self.digits();
        let (hours, mut minutes) = match digits.len() {
            1 | 2 => (digits.parse::<i64>().ok()?, 0),
            4 => (digits[..2].parse().ok()?, digits[2..].parse().ok()?),
            _ => return None,
        };
        if digits.len() <= 2 && self.eat(':') {
            minutes = i64::from(self.number(2..=2)?);
        }
        if hours > 15 || minutes > 59 {
            return None;
        }
        Some(sign * (hours * HOUR + minutes * MINUTE))
    }

    fn named_zone(&mut self) -> Option<i64> {
        let name = self.take(|c| c.is_ascii_alphabetic());
        if name.is_empty() || ["utc", "gmt"].iter().any(|n| name.eq_ignore_ascii_case(n)) { Some(0) } else { None }
    }
}

/// Digits after a second's point, rounded to microseconds.
fn fraction(digits: &str) -> i64 {
    digits
        .parse::<f64>()
        .map_or(0, |_| format!("0.{digits}").parse::<f64>().map_or(0, |f| (f * 1e6).round_ties_even() as i64))
}

/// What a text says of a moment: days since 1970, microseconds of the day, microseconds that its zone is east of UTC.
struct Spelled {
    days: i32,
    micros: i64,
    zone: i64,
}

fn spelled(text: &str, kind: &str) -> Result<Spelled> {
    let wrong = || EvalError::new(Kind::BadTime, format!("`{text}` is not a {kind} (write 2026-07-31 13:45:00+02)"));
    let trimmed = text.trim();
    if trimmed.eq_ignore_ascii_case("epoch") {
        return Ok(Spelled { days: 0, micros: 0, zone: 0 });
    }
    if ["now", "today", "tomorrow", "yesterday"].iter().any(|word| trimmed.eq_ignore_ascii_case(word)) {
        let what = format!("`{trimmed}` depends on when it is asked, which a rule must not: use `_time`");
        return Err(EvalError::new(Kind::BadTime, what));
    }
    let mut reader = Reader { rest: trimmed };
    let (year, month, day) = reader.date().ok_or_else(wrong)?;
    let (mut micros, mut zone) = (0, 0);
    if !reader.rest.is_empty() {
        let spaced = reader.take(|c| c == ' ');
        if !reader.eat('T') && !reader.eat('t') && spaced.is_empty() {
            return Err(wrong());
        }
        let (time, fits) = reader.time().ok_or_else(wrong)?;
        if !fits {
            return Err(EvalError::new(Kind::TimeOutOfRange, format!("`{text}` has a time that no day has")));
        }
        micros = time;
        reader.take(|c| c == ' ');
        zone = reader.zone().ok_or_else(wrong)?;
        if !reader.rest.is_empty() {
            return Err(wrong());
        }
    }
    if !(1..=12).contains(&month) || day < 1 || day > days_of_month(year, month) || year == 0 {
        return Err(EvalError::new(Kind::TimeOutOfRange, format!("`{text}` is not a day of the calendar")));
    }
    Ok(Spelled { days: days_of(year, month, day), micros, zone })
}

/// A time of the day is ignored.
pub fn parse_date(text: &str) -> Result<i32> {
    checked_date(Some(spelled(text, "date")?.days))
}

/// A zone is ignored, as PostgreSQL does.
pub fn parse_timestamp(text: &str) -> Result<i64> {
    let found = spelled(text, "timestamp")?;
    checked_time(i64::from(found.days).checked_mul(DAY).and_then(|t| t.checked_add(found.micros)))
}

/// Without a zone it is UTC.
pub fn parse_timestamptz(text: &str) -> Result<i64> {
    let found = spelled(text, "timestamp")?;
    let local = i64::from(found.days).checked_mul(DAY).and_then(|t| t.checked_add(found.micros));
    checked_time(local.and_then(|t| t.checked_sub(found.zone)))
}

/// Months first (a day that the month does not have becomes its last), then days, then microseconds.
pub fn add_interval(micros: i64, interval: Interval) -> Result<i64> {
    let mut at = civil(micros);
    if interval.months != 0 {
        let months = i64::from(at.year) * 12 + i64::from(at.month) - 1 + i64::from(interval.months);
        let year = months.div_euclid(12);
        if !(1..=9999).contains(&year) {
            return Err(out_of_range("timestamp"));
        }
        (at.year, at.month) = (year as i32, (months.rem_euclid(12) + 1) as i32);
        at.day = at.day.min(days_of_month(at.year, at.month));
        at.days = days_of(at.year, at.month, at.day);
    }
    let days = i64::from(at.days) + i64::from(interval.days);
    checked_time(days.checked_mul(DAY).and_then(|t| t.checked_add(at.micros)?.checked_add(interval.micros)))
}

/// Hours, minutes and seconds of `micros` as a text, with `sign` before a positive one.
fn write_clock(micros: i64, sign: &str, out: &mut String) {
    use std::fmt::Write;
    let magnitude = micros.unsigned_abs() as i128;
    let part = |unit: i64| magnitude / i128::from(unit);
    let sign = if micros < 0 { "-" } else { sign };
    _ = write!(out, "{sign}{:02}:{:02}:{:02}", part(HOUR), part(MINUTE) % 60, part(SECOND) % 60);
    write_fraction((magnitude % i128::from(SECOND)) as i64, out);
}

impl Interval {
    /// As PostgreSQL writes it: `1 year 2 mons -3 days +04:05:06.5`.
    pub fn write(self, out: &mut String) {
        use std::fmt::Write;
        let (start, mut before) = (out.len(), false);
        for (n, unit) in [(self.months / 12, "year"), (self.months % 12, "mon"), (self.days, "day")] {
            if n != 0 {
                let space = if out.len() > start { " " } else { "" };
                let sign = if before && n > 0 { "+" } else { "" };
                let plural = if n == 1 { "" } else { "s" };
                _ = write!(out, "{space}{sign}{n} {unit}{plural}");
                before = n < 0;
            }
        }
        if self.micros != 0 || out.len() == start {
            if out.len() > start {
                out.push(' ');
            }
            write_clock(self.micros, if before { "+" } else { "" }, out);
        }
    }

    pub fn checked_add(self, other: Interval) -> Option<Interval> {
        Some(Interval {
            months: self.months.checked_add(other.months)?,
            days: self.days.checked_add(other.days)?,
            micros: self.micros.checked_add(other.micros)?,
        })
    }

    pub fn checked_neg(self) -> Option<Interval> {
        Some(Interval {
            months: self.months.checked_neg()?,
            days: self.days.checked_neg()?,
            micros: self.micros.checked_neg()?,
        })
    }

    /// What intervals are compared by: days of 24 hours, months of 30 days.
    pub fn length(self) -> i128 {
        (i128::from(self.months) * 30 + i128::from(self.days)) * i128::from(DAY) + i128::from(self.micros)
    }

    /// Times `factor`.
    pub fn scaled(self, factor: f64) -> Option<Interval> {
        self.each(|part| part * factor)
    }

    pub fn divided(self, by: f64) -> Option<Interval> {
        self.each(|part| part / by)
    }

    /// Makes something of each part; what is no whole month becomes days (30 each), what is no day becomes hours.
    fn each(self, part: impl Fn(f64) -> f64) -> Option<Interval> {
        let to_micros = |f: f64| (f * 1e6).round_ties_even() / 1e6;
        let within = |f: f64| (f.abs() < f64::from(i32::MAX)).then_some(f);
        let months = within(part(f64::from(self.months)))?;
        let days = within(part(f64::from(self.days)))?;
        let month_days = to_micros((months - months.trunc()) * 30.0);
        let mut seconds = to_micros((days - days.trunc() + month_days - month_days.trunc()) * 86_400.0);
        let mut whole = days.trunc() as i32;
        if seconds.abs() >= 86_400.0 {
            whole = whole.checked_add((seconds / 86_400.0) as i32)?;
            seconds -= (seconds / 86_400.0).trunc() * 86_400.0;
        }
        let micros = (part(self.micros as f64) + seconds * 1e6).round_ties_even();
        Some(Interval {
            months: months.trunc() as i32,
            days: whole.checked_add(month_days.trunc() as i32)?,
            micros: (micros.abs() < 9.2e18).then_some(micros as i64)?,
        })
    }

    /// `1 day 2 hours 3.5 seconds`, `-2 mons`, `1 day 04:05:06`, `90 minutes ago`.
    pub fn parse(text: &str) -> Result<Interval> {
        let wrong = || {
            let what = format!("`{text}` is not an interval (write 1 day 2 hours, 90 minutes or 1 day 04:05:06)");
            EvalError::new(Kind::BadTime, what)
        };
        let mut reader = Reader { rest: text.trim() };
        let mut sum = Interval::default();
        if reader.rest.is_empty() {
            return Err(wrong());
        }
        while !reader.rest.is_empty() {
            let start = reader.rest;
            let negative = reader.eat('-');
            if !negative {
                reader.eat('+');
            }
            let digits = reader.take(|c| c.is_ascii_digit() || c == '.');
            let part = if reader.rest.starts_with(':') {
                reader.rest = start.trim_start_matches(['-', '+']);
                let micros = reader.clock().ok_or_else(wrong)?;
                Interval { micros, ..Interval::default() }
            } else {
                reader.take(|c| c == ' ');
                let unit = reader.take(|c| c.is_ascii_alphabetic());
                if digits.is_empty() && !negative && unit.eq_ignore_ascii_case("ago") && reader.rest.is_empty() {
                    return sum.checked_neg().ok_or_else(|| out_of_range("interval"));
                }
                // A number before a clock is days.
                let days = unit.is_empty() && reader.rest.find(':') < reader.rest.find(' ').or(Some(usize::MAX));
                let days = days && reader.rest.contains(':');
                of_unit(digits, if days { "days" } else { unit }).ok_or_else(wrong)?
            };
            let part = if negative { part.checked_neg() } else { Some(part) };
            sum = part.and_then(|part| sum.checked_add(part)).ok_or_else(|| out_of_range("interval"))?;
            reader.take(|c| c == ' ');
        }
        Ok(sum)
    }
}

impl Reader<'_> {
    /// As [`time`](Self::time), with any number of hours.
    fn clock(&mut self) -> Option<i64> {
        let hours: i64 = self.digits().parse().ok()?;
        if !self.eat(':') {
            return None;
        }
        let minutes = self.number(1..=2).filter(|m| *m < 60)?;
        let (mut seconds, mut micros) = (0, 0);
        if self.eat(':') {
            seconds = self.number(1..=2).filter(|s| *s < 60)?;
            if self.eat('.') {
                micros = fraction(self.digits());
            }
        }
        let rest = i64::from(minutes) * MINUTE + i64::from(seconds) * SECOND + micros;
        hours.checked_mul(HOUR)?.checked_add(rest)
    }
}

/// So many of a unit; a number without one is seconds.
fn of_unit(digits: &str, unit: &str) -> Option<Interval> {
    let amount: f64 = digits.parse().ok()?;
    let unit = unit.to_ascii_lowercase();
    let one = match unit.as_str() {
        "us" | "usec" | "usecs" | "microsecond" | "microseconds" => Interval { micros: 1, ..Interval::default() },
        "ms" | "msec" | "msecs" | "millisecond" | "milliseconds" => Interval { micros: 1000, ..Interval::default() },
        "" | "s" | "sec" | "secs" | "second" | "seconds" => Interval { micros: SECOND, ..Interval::default() },
        "m" | "min" | "mins" | "minute" | "minutes" => Interval { micros: MINUTE, ..Interval::default() },
        "h" | "hr" | "hrs" | "hour" | "hours" => Interval { micros: HOUR, ..Interval::default() },
        "d" | "day" | "days" => Interval { days: 1, ..Interval::default() },
        "w" | "week" | "weeks" => Interval { days: 7, ..Interval::default() },
        "mon" | "mons" | "month" | "months" => Interval { months: 1, ..Interval::default() },
        "y" | "yr" | "yrs" | "year" | "years" => Interval { months: 12, ..Interval::default() },
        _ => return None,
    };
    if one.months == 12 {
        // A part of a year is whole months.
        let months = (amount * 12.0).round_ties_even();
        return (months.abs() < f64::from(i32::MAX))
            .then_some(Interval { months: months as i32, ..Interval::default() });
    }
    one.scaled(amount)
}

/// Microseconds as seconds with six digits after the point.
pub fn seconds(micros: i64) -> Decimal {
    Decimal::new(micros, 6)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn interval(text: &str) -> String {
        let mut out = String::new();
        Interval::parse(text).unwrap().write(&mut out);
        out
    }

    #[test]
    fn intervals_are_written_as_postgresql_does() {
        assert_eq!(interval("1 day 2 hours"), "1 day 02:00:00");
        assert_eq!(interval("-14 months 3 days"), "-1 years -2 mons +3 days");
        assert_eq!(interval("90 minutes ago"), "-01:30:00");
        assert_eq!(interval("1.5 days"), "1 day 12:00:00");
        assert_eq!(interval("2 04:05:06.5"), "2 days 04:05:06.5");
        assert_eq!(interval("0 s"), "00:00:00");
        for wrong in ["", "1 fortnight", "day", "1 day x"] {
            assert!(Interval::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_zone_shifts_a_moment_and_is_ignored_without_one() {
        assert_eq!(parse_timestamptz("1970-01-01T02:00:00.25+02:00").unwrap(), 250_000);
        assert_eq!(parse_timestamp("1970-01-01 02:00+02").unwrap(), 2 * HOUR);
        assert_eq!(parse_date("1970-01-02 03:04").unwrap(), 1);
        for wrong in ["2026-02-30", "2026-13-01", "2026-1", "now", "2026-01-01x", "2026-01-01 25:00", "0000-01-01"] {
            assert!(parse_timestamp(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_last_of_a_month_stays_in_the_month() {
        let january = parse_timestamp("2024-01-31 12:00").unwrap();
        let month = Interval { months: 1, ..Interval::default() };
        assert_eq!(add_interval(january, month).unwrap(), parse_timestamp("2024-02-29 12:00").unwrap());
        assert!(add_interval(january, Interval { months: i32::MAX, ..Interval::default() }).is_err());
    }

    proptest! {
        #[test]
        fn every_day_has_its_date(days in days_of(1, 1, 1)..days_of(9999, 12, 31)) {
            let (year, month, day) = civil_of_days(days);
            prop_assert_eq!(days_of(year, month, day), days);
            let mut text = String::new();
            write_date(days, &mut text);
            prop_assert_eq!(parse_date(&text).unwrap(), days);
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[0-9a-zTZ:. +-]{0,24}") {
            let _ = (parse_timestamptz(&text), Interval::parse(&text), parse_date(&text));
        }
    }
}
