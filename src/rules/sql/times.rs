//! Functions of times: parts, truncation, bins, and `to_char`.

use super::datetime::{
    Civil, DAY, HOUR, Interval, MINUTE, SECOND, checked_date, checked_time, civil, civil_of_days, days_of,
    days_of_month, seconds,
};
use super::decimal::Decimal;
use super::value::{EvalError, Kind, Result, Value};

/// What `extract` takes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Microsecond,
    Millisecond,
    Second,
    Minute,
    Hour,
    Day,
    Dow,
    Isodow,
    Doy,
    Week,
    Isoyear,
    Month,
    Quarter,
    Year,
    Decade,
    Century,
    Epoch,
}

const PARTS: [(&str, Part); 26] = [
    ("microseconds", Part::Microsecond),
    ("microsecond", Part::Microsecond),
    ("milliseconds", Part::Millisecond),
    ("millisecond", Part::Millisecond),
    ("second", Part::Second),
    ("seconds", Part::Second),
    ("minute", Part::Minute),
    ("minutes", Part::Minute),
    ("hour", Part::Hour),
    ("hours", Part::Hour),
    ("day", Part::Day),
    ("days", Part::Day),
    ("dow", Part::Dow),
    ("isodow", Part::Isodow),
    ("doy", Part::Doy),
    ("week", Part::Week),
    ("isoyear", Part::Isoyear),
    ("month", Part::Month),
    ("months", Part::Month),
    ("quarter", Part::Quarter),
    ("year", Part::Year),
    ("years", Part::Year),
    ("decade", Part::Decade),
    ("century", Part::Century),
    ("epoch", Part::Epoch),
    ("weeks", Part::Week),
];

impl Part {
    pub fn parse(text: &str) -> Option<Part> {
        PARTS.iter().find(|(name, _)| *name == text).map(|(_, part)| *part)
    }

    pub fn names() -> impl Iterator<Item = &'static str> {
        PARTS.iter().map(|(name, _)| *name)
    }
}

/// What `date_trunc` cuts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Micros(i64),
    Week,
    Months(i32),
    Years(i32),
}

const UNITS: [(&str, Unit); 12] = [
    ("microseconds", Unit::Micros(1)),
    ("milliseconds", Unit::Micros(1000)),
    ("second", Unit::Micros(SECOND)),
    ("minute", Unit::Micros(MINUTE)),
    ("hour", Unit::Micros(HOUR)),
    ("day", Unit::Micros(DAY)),
    ("week", Unit::Week),
    ("month", Unit::Months(1)),
    ("quarter", Unit::Months(3)),
    ("year", Unit::Years(1)),
    ("decade", Unit::Years(10)),
    ("century", Unit::Years(100)),
];

impl Unit {
    pub fn parse(text: &str) -> Option<Unit> {
        UNITS.iter().find(|(name, _)| *name == text).map(|(_, unit)| *unit)
    }

    pub fn names() -> impl Iterator<Item = &'static str> {
        UNITS.iter().map(|(name, _)| *name)
    }
}

/// The Monday on or before a day.
fn monday(days: i32) -> i32 {
    days - (days + 3).rem_euclid(7)
}

/// Year and number of an ISO week: the one that has the year's first Thursday is the first.
fn iso_week(days: i32) -> (i32, i32) {
    let thursday = monday(days) + 3;
    let (year, ..) = civil_of_days(thursday);
    (year, (thursday - days_of(year, 1, 1)) / 7 + 1)
}

/// The part of a time or interval, exact; a date has no hours.
pub fn extract(part: Part, value: &Value<'_>) -> Result<Option<Decimal>> {
    match value {
        Value::Null => Ok(None),
        Value::Timestamp(t) | Value::Timestamptz(t) => Ok(Some(of_time(part, *t))),
        Value::Date(d) => match part {
            Part::Microsecond | Part::Millisecond | Part::Second | Part::Minute | Part::Hour => {
                Err(EvalError::new(Kind::BadArgument, "a date has no hours, minutes or seconds"))
            }
            Part::Epoch => Ok(Some(Decimal::from_int(i64::from(*d) * 86_400))),
            part => Ok(Some(of_time(part, i64::from(*d) * DAY))),
        },
        Value::Interval(i) => of_interval(part, *i).map(Some),
        other => {
            let what = format!("there are no parts of {}", other.type_of().name());
            Err(EvalError::new(Kind::WrongType, what))
        }
    }
}

fn of_time(part: Part, micros: i64) -> Decimal {
    let at = civil(micros);
    let whole = |n: i32| Decimal::from_int(n.into());
    let century = |year: i32| (year - 1).div_euclid(100) + 1;
    match part {
        Part::Microsecond => Decimal::from_int(at.micros % MINUTE),
        Part::Millisecond => Decimal::new(at.micros % MINUTE, 3),
        Part::Second => seconds(at.micros % MINUTE),
        Part::Minute => Decimal::from_int(at.micros / MINUTE % 60),
        Part::Hour => Decimal::from_int(at.micros / HOUR),
        Part::Day => whole(at.day),
        Part::Dow => whole((at.days + 4).rem_euclid(7)),
        Part::Isodow => whole((at.days + 3).rem_euclid(7) + 1),
        Part::Doy => whole(at.days - days_of(at.year, 1, 1) + 1),
        Part::Week => whole(iso_week(at.days).1),
        Part::Isoyear => whole(iso_week(at.days).0),
        Part::Month => whole(at.month),
        Part::Quarter => whole((at.month - 1) / 3 + 1),
        Part::Year => whole(at.year),
        Part::Decade => whole(at.year.div_euclid(10)),
        Part::Century => whole(century(at.year)),
        Part::Epoch => seconds(micros),
    }
}

fn of_interval(part: Part, i: Interval) -> Result<Decimal> {
    let whole = |n: i32| Decimal::from_int(n.into());
    Ok(match part {
        Part::Microsecond => Decimal::from_int(i.micros % MINUTE),
        Part::Millisecond => Decimal::new(i.micros % MINUTE, 3),
        Part::Second => seconds(i.micros % MINUTE),
        Part::Minute => Decimal::from_int(i.micros / MINUTE % 60),
        Part::Hour => Decimal::from_int(i.micros / HOUR),
        Part::Day => whole(i.days),
        Part::Month => whole(i.months % 12),
        Part::Quarter => whole(i.months % 12 / 3 + 1),
        Part::Year => whole(i.months / 12),
        Part::Decade => whole(i.months / 120),
        Part::Century => whole(i.months / 1200),
        Part::Epoch => {
            // Years of 365.25 days, months of 30, as PostgreSQL counts.
            let days = i64::from(i.months / 12) * 1461 * DAY / 4;
            let rest = (i64::from(i.months % 12) * 30 + i64::from(i.days)) * DAY;
            let sum = days.checked_add(rest).and_then(|sum| sum.checked_add(i.micros));
            seconds(sum.ok_or_else(|| super::datetime::out_of_range("interval"))?)
        }
        _ => {
            return Err(EvalError::new(Kind::BadArgument, "an interval has no such part"));
        }
    })
}

/// Cuts a time to the beginning of a unit.
pub fn truncate<'a>(unit: Unit, value: &Value<'a>) -> Result<Value<'a>> {
    match value {
        Value::Null => Ok(Value::Null),
        Value::Timestamp(t) => checked_time(Some(cut(unit, *t))).map(Value::Timestamp),
        Value::Timestamptz(t) => checked_time(Some(cut(unit, *t))).map(Value::Timestamptz),
        other => {
            let what = format!("`date_trunc` takes a timestamp, this is {}", other.type_of().name());
            Err(EvalError::new(Kind::WrongType, what))
        }
    }
}

fn cut(unit: Unit, micros: i64) -> i64 {
    let at = civil(micros);
    let day = |year: i32, month: i32| i64::from(days_of(year, month, 1)) * DAY;
    match unit {
        Unit::Micros(n) => micros - micros.rem_euclid(n),
        Unit::Week => i64::from(monday(at.days)) * DAY,
        Unit::Months(n) => day(at.year, (at.month - 1) / n * n + 1),
        // A century begins with its year 1, a decade with its year 0.
        Unit::Years(100) => day((at.year - 1).div_euclid(100) * 100 + 1, 1),
        Unit::Years(n) => day(at.year.div_euclid(n) * n, 1),
    }
}

/// The beginning of the bin, of so many microseconds from `origin` on, in which a time is.
pub fn bin(stride: Interval, time: i64, origin: i64) -> Result<i64> {
    let wrong = |what: &str| EvalError::new(Kind::TimeOutOfRange, what);
    if stride.months != 0 {
        return Err(EvalError::new(Kind::BadArgument, "timestamps cannot be binned into months or years"));
    }
    let length = i64::try_from(stride.length())
        .ok()
        .filter(|n| *n > 0)
        .ok_or_else(|| wrong("stride must be greater than zero"))?;
    let from = time.checked_sub(origin).ok_or_else(|| super::datetime::out_of_range("interval"))?;
    checked_time(origin.checked_add(from.div_euclid(length).saturating_mul(length)))
}

pub fn to_timestamp<'a>(epoch: f64) -> Result<Value<'a>> {
    let micros = (epoch * 1e6).round_ties_even();
    let fits = micros.abs() < 9.2e18;
    checked_time(fits.then_some(micros as i64)).map(Value::Timestamptz)
}

pub fn make_date<'a>(year: i64, month: i64, day: i64) -> Result<Value<'a>> {
    let wrong = || EvalError::new(Kind::TimeOutOfRange, "this is not a day of the calendar");
    let small = |n: i64, most: i32| i32::try_from(n).ok().filter(|n| (1..=most).contains(n)).ok_or_else(wrong);
    let (year, month) = (small(year, 9999)?, small(month, 12)?);
    let day = small(day, days_of_month(year, month))?;
    checked_date(Some(days_of(year, month, day))).map(Value::Date)
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// Longer ones first.
const PATTERNS: [&str; 37] = [
    "HH24", "HH12", "YYYY", "IYYY", "MONTH", "Month", "month", "DDD", "DAY", "Day", "day", "MON", "Mon", "mon", "HH",
    "MI", "SS", "MS", "US", "AM", "PM", "am", "pm", "YY", "MM", "DD", "ID", "IW", "WW", "DY", "Dy", "dy", "TZ", "OF",
    "Q", "D", "Y",
];

/// A time as a pattern says; what is no pattern stands for itself, as does what is in double quotes.
pub fn to_char(micros: i64, zoned: bool, pattern: &str) -> String {
    let at = civil(micros);
    let mut out = String::new();
    let mut rest = pattern;
    let mut bare = false;
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix("FM") {
            (bare, rest) = (true, after);
            continue;
        }
        if let Some(after) = rest.strip_prefix('"') {
            let (quoted, after) = after.split_once('"').unwrap_or((after, ""));
            out.push_str(quoted);
            rest = after;
        } else if let Some(found) = PATTERNS.iter().find(|known| rest.starts_with(**known)) {
            field(found, &at, zoned, bare, &mut out);
            rest = &rest[found.len()..];
        } else {
            let end = rest.chars().next().map_or(rest.len(), char::len_utf8);
            out.push_str(&rest[..end]);
            rest = &rest[end..];
        }
        bare = false;
    }
    out
}

fn field(pattern: &str, at: &Civil, zoned: bool, bare: bool, out: &mut String) {
    use std::fmt::Write;
    let hour = at.micros / HOUR;
    let half = if hour % 12 == 0 { 12 } else { hour % 12 };
    let month = MONTHS[(at.month - 1).clamp(0, 11) as usize];
    let day = DAYS[(at.days + 4).rem_euclid(7) as usize];
    let (number, width): (i64, usize) = match pattern {
        "HH24" => (hour, 2),
        "HH12" | "HH" => (half, 2),
        "MI" => (at.micros / MINUTE % 60, 2),
        "SS" => (at.micros / SECOND % 60, 2),
        "MS" => (at.micros / 1000 % 1000, 3),
        "US" => (at.micros % SECOND, 6),
        "YYYY" => (at.year.into(), 4),
        "IYYY" => (iso_week(at.days).0.into(), 4),
        "YY" => ((at.year % 100).into(), 2),
        "Y" => ((at.year % 10).into(), 1),
        "MM" => (at.month.into(), 2),
        "DD" => (at.day.into(), 2),
        "DDD" => ((at.days - days_of(at.year, 1, 1) + 1).into(), 3),
        "D" => (i64::from((at.days + 4).rem_euclid(7)) + 1, 1),
        "ID" => (i64::from((at.days + 3).rem_euclid(7)) + 1, 1),
        "IW" => (iso_week(at.days).1.into(), 2),
        "WW" => (i64::from((at.days - days_of(at.year, 1, 1)) / 7) + 1, 2),
        "Q" => (i64::from((at.month - 1) / 3) + 1, 1),
        "AM" | "PM" => return out.push_str(if hour < 12 { "AM" } else { "PM" }),
        "am" | "pm" => return out.push_str(if hour < 12 { "am" } else { "pm" }),
        "TZ" => return out.push_str(if zoned { "UTC" } else { "" }),
        "OF" => return out.push_str("+00"),
        name => {
            let word = if name.eq_ignore_ascii_case("month") || name.eq_ignore_ascii_case("mon") { month } else { day };
            return name_of(name, word, bare, out);
        }
    };
    let width = if bare { 0 } else { width };
    _ = write!(out, "{number:0width$}");
}

/// A month or day in the case of its pattern: whole and padded to nine, or its first three letters.
fn name_of(pattern: &str, word: &str, bare: bool, out: &mut String) {
    let whole = pattern.len() > 3 || pattern.eq_ignore_ascii_case("day");
    let word = if whole { word } else { &word[..3] };
    let upper = pattern.chars().nth(1).is_some_and(char::is_uppercase);
    let lower = pattern.starts_with(char::is_lowercase);
    let cased = if upper {
        word.to_ascii_uppercase()
    } else if lower {
        word.to_ascii_lowercase()
    } else {
        word.to_owned()
    };
    out.push_str(&cased);
    if whole && !bare {
        out.push_str(&" ".repeat(9usize.saturating_sub(word.len())));
    }
}
