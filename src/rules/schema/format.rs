//! Formats that are checked: dates and times of RFC 3339, addresses, UUIDs of RFC 9562.

use core::net::{Ipv4Addr, Ipv6Addr};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    DateTime,
    Date,
    Time,
    Ipv4,
    Ipv6,
    Uuid,
}

impl Format {
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "date-time" => Format::DateTime,
            "date" => Format::Date,
            "time" => Format::Time,
            "ipv4" => Format::Ipv4,
            "ipv6" => Format::Ipv6,
            "uuid" => Format::Uuid,
            _ => return None,
        })
    }

    pub fn fits(self, text: &[u8]) -> bool {
        let parsed = std::str::from_utf8(text);
        match self {
            Format::DateTime => match text.split_at_checked(10) {
                Some((date, [b'T' | b't', time @ ..])) => is_date(date) && is_time(time),
                _ => false,
            },
            Format::Date => is_date(text),
            Format::Time => is_time(text),
            Format::Ipv4 => parsed.is_ok_and(|t| t.parse::<Ipv4Addr>().is_ok()),
            Format::Ipv6 => parsed.is_ok_and(|t| t.parse::<Ipv6Addr>().is_ok()),
            Format::Uuid => {
                let dash = |i| matches!(i, 8 | 13 | 18 | 23);
                let right = |(i, b): (usize, &u8)| if dash(i) { *b == b'-' } else { b.is_ascii_hexdigit() };
                text.len() == 36 && text.iter().enumerate().all(right)
            }
        }
    }
}

fn number(digits: &[u8]) -> Option<u32> {
    let all = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    if all { std::str::from_utf8(digits).ok()?.parse().ok() } else { None }
}

fn is_date(text: &[u8]) -> bool {
    let [y @ .., b'-', m1, m2, b'-', d1, d2] = text else { return false };
    let (Some(year), Some(month), Some(day)) = (number(y), number(&[*m1, *m2]), number(&[*d1, *d2])) else {
        return false;
    };
    let leap = (year.is_multiple_of(4) && !year.is_multiple_of(100)) || year.is_multiple_of(400);
    let days = match month {
        2 => 28 + u32::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => 0,
    };
    y.len() == 4 && (1..=days).contains(&day)
}

/// `hh:mm:ss`, a fraction or none, and the zone; second 60 only where a leap second can be.
fn is_time(text: &[u8]) -> bool {
    let [h1, h2, b':', m1, m2, b':', s1, s2, rest @ ..] = text else { return false };
    let clock = (number(&[*h1, *h2]), number(&[*m1, *m2]), number(&[*s1, *s2]));
    let (Some(hour @ 0..24), Some(minute @ 0..60), Some(second @ 0..=60)) = clock else { return false };
    let zone = match rest.strip_prefix(b".") {
        Some(fraction) => {
            let digits = fraction.iter().take_while(|b| b.is_ascii_digit()).count();
            if digits == 0 {
                return false;
            }
            &fraction[digits..]
        }
        None => rest,
    };
    let offset = match zone {
        b"Z" | b"z" => 0,
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => match (number(&[*h1, *h2]), number(&[*m1, *m2])) {
            (Some(h @ 0..24), Some(m @ 0..60)) if *sign == b'+' => h * 60 + m,
            (Some(h @ 0..24), Some(m @ 0..60)) => 1440 - (h * 60 + m),
            _ => return false,
        },
        _ => return false,
    };
    second < 60 || (hour * 60 + minute + 1440 - offset % 1440) % 1440 == 1439
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn times_are_those_of_rfc_3339() {
        let fits = |text: &str| Format::DateTime.fits(text.as_bytes());
        for good in [
            "1985-04-12T23:20:50.52Z",
            "1996-12-19T16:39:57-08:00",
            "1990-12-31T23:59:60Z",
            "1990-12-31T15:59:60-08:00",
            "1937-01-01t12:00:27.87+00:20",
            "2000-02-29T00:00:00z",
        ] {
            assert!(fits(good), "{good}");
        }
        for bad in [
            "1985-04-12 23:20:50Z",
            "1985-04-12T23:20:50",
            "1985-04-31T23:20:50Z",
            "1900-02-29T00:00:00Z",
            "1990-12-31T22:59:60Z",
            "1990-12-31T24:00:00Z",
            "1990-12-31T23:59:61Z",
            "1990-12-31T23:59:59.Z",
            "1990-12-31T23:59:59+24:00",
            "01990-12-31T23:59:59Z",
            "1990-13-01T00:00:00Z",
            "1990-1\u{661}-01T00:00:00Z",
            "",
        ] {
            assert!(!fits(bad), "{bad}");
        }
    }

    #[test]
    fn addresses_and_uuids_are_checked() {
        assert!(Format::Ipv4.fits(b"192.0.2.1") && !Format::Ipv4.fits(b"192.0.2.01") && !Format::Ipv4.fits(b"1.2.3"));
        assert!(Format::Ipv6.fits(b"2001:db8::1") && !Format::Ipv6.fits(b"2001:db8:::1"));
        let uuid = b"2eb8aa08-aa98-11ea-b4aa-73b441d16380";
        assert!(Format::Uuid.fits(uuid) && !Format::Uuid.fits(&uuid[1..]));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(prop_oneof![any::<u8>(), b'0'..=b'9', Just(b':'), Just(b'-')], 0..40)) {
            for format in [Format::DateTime, Format::Date, Format::Time, Format::Ipv4, Format::Ipv6, Format::Uuid] {
                let _ = format.fits(&bytes);
            }
        }
    }
}
