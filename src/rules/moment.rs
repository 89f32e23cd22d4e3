//! A time in a JSON field: text as RFC 3339 has it, or a number since 1970.
//!
//! What a number counts is told by its size: up to 10^11 seconds (the year 5138), up to 10^14 milliseconds, up to 10^17 microseconds,
//! beyond that nanoseconds; so milliseconds are known from 1973 on.

use super::Reason;
use super::number::Number;
use crate::json::{self, Path, Value};
use crate::time::WallTime;

/// The time in a field of a record's value.
pub fn moment_in(value: &[u8], field: &Path) -> Result<WallTime, Reason> {
    let bad = || Reason::from(format!("`{field}` is no time: write RFC 3339, or a number since 1970"));
    match json::find(value, field).map_err(|error| Reason::from(error.to_string()))? {
        None | Some(Value::Null) => Err(format!("it has no `{field}`, its time").into()),
        Some(Value::Number(digits)) => Number::of(digits).and_then(since_1970).ok_or_else(bad),
        Some(Value::String(raw)) => {
            let text = json::unescape(raw);
            let text = std::str::from_utf8(&text).map_err(|_| bad())?;
            let time = chrono::DateTime::parse_from_rfc3339(text).map_err(|_| bad())?;
            Ok(WallTime(time.timestamp_micros()))
        }
        Some(_) => Err(bad()),
    }
}

fn since_1970(number: Number) -> Option<WallTime> {
    let size = number.to_f64().abs();
    let (times, parts) = match size {
        ..1e11 => (1_000_000, 1),
        ..1e14 => (1_000, 1),
        ..1e17 => (1, 1),
        _ => (1, 1_000),
    };
    let micros = match number {
        Number::Int(int) => i64::try_from(int.checked_mul(times)?.div_euclid(parts)).ok()?,
        Number::Float(float) => {
            let micros = (float * times as f64 / parts as f64).round();
            // Beyond this a double is no whole number of them any more.
            if micros.abs() > 9e15 {
                return None;
            }
            micros as i64
        }
    };
    Some(WallTime(micros))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_the_same_in_every_spelling() {
        let field = Path::parse("ts").unwrap();
        for spelt in [
            "\"2023-11-14T22:13:20.5Z\"",
            "\"2023-11-14T23:13:20.500+01:00\"",
            "1700000000.5",
            "1700000000500",
            "1700000000500000",
            "1700000000500000000",
            "1.7000000005e9",
        ] {
            let value = format!("{{\"ts\":{spelt}}}");
            assert_eq!(moment_in(value.as_bytes(), &field), Ok(WallTime(1_700_000_000_500_000)), "{spelt}");
        }
        for wrong in ["\"yesterday\"", "true", "[1]", "null", "1e300", "123456789012345678901234567890123456789"] {
            let value = format!("{{\"ts\":{wrong}}}");
            assert!(moment_in(value.as_bytes(), &field).is_err(), "{wrong}");
        }
        assert!(moment_in(b"{}", &field).is_err() && moment_in(b"no JSON", &field).is_err());
    }
}
