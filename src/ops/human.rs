//! Numbers for people: lengths of time, bytes, thousands. One form each, so that every page and message reads alike.

use crate::time::{Span, WallTime};

const UNITS: [(u64, &str, &str); 4] = [(86_400, "d", "d"), (3_600, "h", "h"), (60, "m", "min"), (1, "s", "s")];

/// The two largest units in use, as (count, short name, long name).
fn split(seconds: u64) -> ((u64, usize), Option<(u64, usize)>) {
    let first = UNITS.iter().position(|u| seconds >= u.0).unwrap_or(UNITS.len() - 1);
    let whole = seconds / UNITS[first].0;
    let rest = seconds % UNITS[first].0;
    let second = (first + 1 < UNITS.len()).then(|| (rest / UNITS[first + 1].0, first + 1)).filter(|(n, _)| *n > 0);
    ((whole, first), second)
}

/// `3d 4h`: two units, for headings.
pub fn compact(seconds: u64) -> String {
    let ((n, unit), rest) = split(seconds);
    let first = format!("{n}{}", UNITS[unit].1);
    rest.map_or(first.clone(), |(n, unit)| format!("{first} {n}{}", UNITS[unit].1))
}

/// `3d`: one unit, for "2m ago".
pub fn compact_one(seconds: u64) -> String {
    let ((n, unit), _) = split(seconds);
    format!("{n}{}", UNITS[unit].1)
}

/// `2 h 11 m`: two units, for sentences.
pub fn long(seconds: u64) -> String {
    let ((n, unit), rest) = split(seconds);
    let first = format!("{n} {}", UNITS[unit].1);
    rest.map_or(first.clone(), |(n, unit)| format!("{first} {n} {}", UNITS[unit].1))
}

/// `4 min`: one unit, rounded to the nearest, for estimates.
pub fn about(seconds: u64) -> String {
    let (mut unit, mut n) = (3, seconds);
    for (at, (size, ..)) in UNITS.iter().enumerate() {
        if seconds >= *size {
            (unit, n) = (at, (seconds + size / 2) / size);
            break;
        }
    }
    format!("{n} {}", UNITS[unit].2)
}

/// `40 ms`, `3.2 s`, `2 h 11 m`: of what may be short.
pub fn brief(seconds: f64) -> String {
    match seconds {
        s if s < 0.9995 => format!("{:.0} ms", s * 1e3),
        s if s < 9.95 => format!("{s:.1} s"),
        s => long(s.round() as u64),
    }
}

/// Whole seconds of a span; a negative one is zero.
pub fn seconds(span: Span) -> u64 {
    (span.0.max(0) / 1_000_000) as u64
}

/// `3.1 MiB`, `312 MiB`, `1 GiB`: powers of 1024, two digits that matter.
pub fn binary(bytes: u64) -> String {
    scaled(bytes, 1024.0, ["B", "KiB", "MiB", "GiB", "TiB"])
}

/// `41 MB`: powers of 1000, as card makers count endurance.
pub fn decimal(bytes: u64) -> String {
    scaled(bytes, 1000.0, ["B", "kB", "MB", "GB", "TB"])
}

fn scaled(bytes: u64, step: f64, units: [&str; 5]) -> String {
    let (mut value, mut unit) = (bytes as f64, 0);
    // 999.5 would print as "1000".
    while value >= step - 0.5 && unit + 1 < units.len() {
        value /= step;
        unit += 1;
    }
    let one = format!("{value:.1}");
    let text = if value < 9.95 { one.strip_suffix(".0").unwrap_or(&one).to_owned() } else { format!("{value:.0}") };
    format!("{text} {}", units[unit])
}

/// `48,211`
pub fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// `2026-11-24 04:05:06Z`; the bare number where the calendar ends.
pub fn wall(time: WallTime) -> String {
    match chrono::DateTime::from_timestamp_micros(time.0) {
        Some(time) => time.format("%Y-%m-%d %H:%M:%SZ").to_string(),
        None => format!("{} s after 1970", time.0 / 1_000_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_read_as_people_say_them() {
        let day = 86_400;
        assert_eq!(compact(3 * day + 4 * 3600 + 59), "3d 4h");
        assert_eq!(compact(3 * day + 59), "3d");
        assert_eq!(compact(0), "0s");
        assert_eq!(compact_one(170), "2m");
        assert_eq!(long(2 * 3600 + 11 * 60 + 5), "2 h 11 m");
        assert_eq!(long(38), "38 s");
        assert_eq!(
            [0.0, 0.04, 0.9996, 3.21, 38.0, 7860.2].map(brief),
            ["0 ms", "40 ms", "1.0 s", "3.2 s", "38 s", "2 h 11 m"]
        );
        assert_eq!(about(230), "4 min");
        assert_eq!(about(9 * day + 7000), "9 d");
        assert_eq!(about(0), "0 s");
    }

    #[test]
    fn bytes_keep_two_digits_that_matter() {
        assert_eq!(binary(312 << 20), "312 MiB");
        assert_eq!(binary(1 << 30), "1 GiB");
        assert_eq!(binary(3_250_586), "3.1 MiB");
        assert_eq!(binary(1023), "1023 B");
        assert_eq!(binary(0), "0 B");
        assert_eq!(decimal(41_200_000), "41 MB");
        assert_eq!(decimal(999_999), "1 MB");
        assert_eq!(binary(u64::MAX), "16777216 TiB");
    }

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!([0, 999, 1000, 48_211, 1_234_567].map(thousands), ["0", "999", "1,000", "48,211", "1,234,567"]);
    }

    #[test]
    fn any_wall_time_has_words() {
        assert_eq!(wall(WallTime(0)), "1970-01-01 00:00:00Z");
        assert!(wall(WallTime(i64::MAX)).contains("after 1970"));
    }
}
