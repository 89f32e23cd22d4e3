//! Sizes and lengths of time as people write them: `256MiB`, `1.5GB`, `20ms`, `1h30m`. A bare number is refused with what was
//! probably meant, because nobody can see whether `max_bytes = 256` is bytes.

use std::ops::RangeInclusive;

use crate::time::Span;

const SIZES: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

const SPANS: [(&str, i64); 7] = [
    ("w", 7 * 86_400_000_000),
    ("d", 86_400_000_000),
    ("h", 3_600_000_000),
    ("m", 60_000_000),
    ("s", 1_000_000),
    ("ms", 1_000),
    ("us", 1),
];

pub fn parse_size(text: &str) -> Result<u64, String> {
    let bad = || format!("`{text}` is not a size; write a number with a unit, like 256MiB or 20MB");
    let unit_at = text.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(bad)?;
    let (number, unit) = (&text[..unit_at], text[unit_at..].trim_start());
    let known = SIZES.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit));
    let (_, factor) = known.ok_or_else(|| format!("`{text}`: unknown unit; known are B, KiB, MiB, GiB, kB, MB, GB"))?;
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(*factor).ok_or_else(bad);
    }
    let bytes = number.parse::<f64>().map_err(|_| bad())? * *factor as f64;
    if bytes < 1e18 { Ok(bytes as u64) } else { Err(bad()) }
}

/// With the largest binary unit that leaves no rest.
pub fn show_size(bytes: u64) -> String {
    let fits = |(_, factor): &&(&str, u64)| bytes.is_multiple_of(*factor);
    let (unit, factor) = SIZES[..4].iter().find(fits).filter(|_| bytes > 0).unwrap_or(&SIZES[8]);
    format!("{}{unit}", bytes / factor)
}

/// What someone who wrote the bare number `n` probably meant, given what the key takes.
pub fn guess_size(n: i128, range: &RangeInclusive<u64>) -> Option<String> {
    let n = u64::try_from(n).ok()?;
    [1, 1 << 10, 1 << 20, 1 << 30].iter().find_map(|f| n.checked_mul(*f).filter(|b| range.contains(b))).map(show_size)
}

pub fn parse_span(text: &str) -> Result<Span, String> {
    let bad = || format!("`{text}` is not a length of time; write a number with a unit, like 20ms, 5s, 15m, 2h or 7d");
    let (mut rest, mut total) = (text.trim(), 0i64);
    if rest.is_empty() {
        return Err(bad());
    }
    while !rest.is_empty() {
        let unit_at = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(bad)?;
        let (number, after) = rest.split_at(unit_at);
        let unit_end = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let unit = if unit == "min" { "m" } else { unit };
        let (_, factor) = SPANS.iter().find(|(name, _)| *name == unit).ok_or_else(bad)?;
        let part = match number.parse::<i64>() {
            Ok(whole) => whole.checked_mul(*factor).ok_or_else(bad)?,
            Err(_) => (number.parse::<f64>().map_err(|_| bad())? * *factor as f64) as i64,
        };
        total = total.checked_add(part).ok_or_else(bad)?;
        rest = after.trim_start();
    }
    Ok(Span(total))
}

/// With the largest unit that leaves no rest.
pub fn show_span(span: Span) -> String {
    let fits = |(_, factor): &&(&str, i64)| span.0 % factor == 0;
    // Weeks read worse than days.
    let (unit, factor) = SPANS[1..].iter().find(fits).filter(|_| span.0 != 0).unwrap_or(&SPANS[4]);
    format!("{}{unit}", span.0 / factor)
}

pub fn guess_span(n: i128, range: &RangeInclusive<Span>) -> Option<String> {
    let n = i64::try_from(n).ok()?;
    let try_unit = |f: &i64| n.checked_mul(*f).map(Span).filter(|s| range.contains(s));
    [1_000_000, 60_000_000, 1_000].iter().find_map(try_unit).map(show_span)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_are_what_they_say() {
        for (text, bytes) in [
            ("256MiB", 256 << 20),
            ("20MB", 20_000_000),
            ("1.5GiB", 3 << 29),
            ("0B", 0),
            ("64 KiB", 65536),
            ("1kb", 1000),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for bad in ["", "256", "MiB", "1.2.3MiB", "-1MiB", "12parsecs", "99999999999999999999B", "999999999TiB"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn spans_are_what_they_say() {
        for (text, us) in
            [("20ms", 20_000), ("1s", 1_000_000), ("1h30m", 5_400_000_000), ("15min", 900_000_000), ("0.5s", 500_000)]
        {
            assert_eq!(parse_span(text), Ok(Span(us)), "{text}");
        }
        for bad in ["", "5", "s", "5 parsecs", "1s2", "-1s", "99999999999999w"] {
            assert!(parse_span(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_bare_number_is_guessed_by_what_the_key_takes() {
        let ring = 4 << 20..=1 << 50;
        assert_eq!(guess_size(256, &ring).as_deref(), Some("256MiB"));
        assert_eq!(guess_size(268_435_456, &ring).as_deref(), Some("256MiB"));
        assert_eq!(guess_size(64, &(1024..=512 << 10)).as_deref(), Some("64KiB"));
        assert_eq!(guess_size(-1, &ring), None);
        assert_eq!(guess_span(5, &(Span(0)..=Span::from_secs(60))).as_deref(), Some("5s"));
        assert_eq!(guess_span(500, &(Span(0)..=Span::from_secs(60))).as_deref(), Some("500ms"));
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(bytes in 0u64..1 << 60, us in 0i64..1 << 60) {
            prop_assert_eq!(parse_size(&show_size(bytes)), Ok(bytes));
            prop_assert_eq!(parse_span(&show_span(Span(us))), Ok(Span(us)));
        }

        #[test]
        fn arbitrary_text_never_panics(text in ".{0,12}") {
            let _ = (parse_size(&text), parse_span(&text));
        }
    }
}
