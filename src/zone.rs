//! Time zones: how far a place's clocks stand from UTC at a moment, and which moment they show.
//!
//! A zone of the IANA database (`Europe/Berlin`) is read from the machine's own files (TZif, RFC 8536) when a configuration is
//! read, so that changes of law come with the system's updates and not with ours. Nothing here opens a file: whoever parses a
//! zone passes in how a name is looked up.

use std::fmt;
use std::sync::Arc;

use crate::time::WallTime;

/// Where days begin and what clocks show.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Zone {
    /// The machine's own, as it is now.
    #[default]
    Local,
    /// Seconds east of UTC.
    Fixed(i32),
    Named(Named),
}

/// A zone of the database. Two with one name are equal.
#[derive(Clone)]
pub struct Named(Arc<(String, tz::TimeZone)>);

impl PartialEq for Named {
    fn eq(&self, other: &Self) -> bool {
        self.0.0 == other.0.0
    }
}

impl Eq for Named {}

impl fmt::Debug for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.0)
    }
}

/// Finds the TZif bytes of a named zone, or says why there are none.
pub type Find<'a> = &'a dyn Fn(&str) -> Result<Vec<u8>, String>;

/// Knows no names: offsets only.
pub fn no_names(name: &str) -> Result<Vec<u8>, String> {
    Err(format!("`{name}`: no zones are known by name here"))
}

impl Zone {
    /// `Z`, `+02:00`, `-0330`, `local`, `Europe/Berlin`.
    pub fn parse(text: &str, find: Find<'_>) -> Result<Self, String> {
        match text {
            "Z" | "z" | "UTC" => return Ok(Self::Fixed(0)),
            "local" => return Ok(Self::Local),
            _ => {}
        }
        let bad =
            || format!("`{text}` is no zone; write Z, an offset like +02:00, a name like Europe/Berlin, or local");
        let east = match text.as_bytes().first() {
            Some(b'+') => 1,
            Some(b'-') => -1,
            Some(first) if first.is_ascii_alphabetic() && is_name(text) => return Self::named(text, find),
            _ => return Err(bad()),
        };
        let digits: String = text[1..].chars().filter(|c| *c != ':').collect();
        if digits.len() != 4 || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(bad());
        }
        let (hours, minutes) = (digits[..2].parse::<i32>(), digits[2..].parse::<i32>());
        match (hours, minutes) {
            (Ok(hours @ 0..=14), Ok(minutes @ 0..=59)) => Ok(Self::Fixed(east * (hours * 3600 + minutes * 60))),
            _ => Err(bad()),
        }
    }

    fn named(name: &str, find: Find<'_>) -> Result<Self, String> {
        let bytes = find(name)?;
        let zone = tz::TimeZone::from_tz_data(&bytes).map_err(|e| format!("`{name}`: its file is no zone: {e}"))?;
        Ok(Self::Named(Named(Arc::new((name.to_owned(), zone)))))
    }

    /// Seconds east of UTC at a moment; `local`: of this machine now.
    pub fn offset(&self, at: WallTime, local: i32) -> i32 {
        match self {
            Self::Local => local,
            Self::Fixed(seconds) => *seconds,
            Self::Named(named) => {
                let at = named.0.1.find_local_time_type(at.0.div_euclid(1_000_000));
                at.map_or(0, tz::LocalTimeType::ut_offset)
            }
        }
    }

    /// What its clocks show at a moment, in seconds since 1970.
    pub fn shown(&self, at: WallTime, local: i32) -> i64 {
        at.0.div_euclid(1_000_000).saturating_add(i64::from(self.offset(at, local)))
    }

    /// The first moment at which its clocks show this many seconds since 1970, or more: where they are put forward they
    /// never show some, where they are put back they show some twice.
    pub fn moment(&self, shown: i64, local: i32) -> WallTime {
        const DAY: i64 = 86_400;
        let wall = |seconds: i64| WallTime(seconds.saturating_mul(1_000_000));
        let offset = |seconds: i64| i64::from(self.offset(wall(seconds), local));
        let before = shown.saturating_sub(offset(shown.saturating_sub(DAY)));
        let after = shown.saturating_sub(offset(shown.saturating_add(DAY)));
        let shows = |at: i64| at.saturating_add(offset(at));
        let found = [before, after].into_iter().filter(|at| shows(*at) == shown).min();
        if let Some(at) = found {
            return wall(at);
        }
        // Never shown: the moment of the jump lies between the two.
        let (mut low, mut high) = (before.min(after), before.max(after));
        while low < high {
            let middle = i64::midpoint(low, high);
            if shows(middle) < shown {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        wall(low)
    }
}

/// What may name a file of the database, and no other: `America/Argentina/Ushuaia`, `Etc/GMT+5`.
fn is_name(text: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'+'))
    };
    text.len() <= 64 && text.split('/').all(part)
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Central European time since 1996, as the last line of its file has it.
    pub fn berlin(name: &str) -> Result<Vec<u8>, String> {
        if name != "Europe/Berlin" {
            return no_names(name);
        }
        // RFC 8536, section 3: an empty version 1 block, a version 2 one with a single type, and the rule for what comes.
        let header = |types: u32, chars: u32| {
            let mut bytes = b"TZif2".to_vec();
            bytes.extend([0; 15]);
            for count in [0, 0, 0, 0, types, chars] {
                bytes.extend(u32::to_be_bytes(count));
            }
            bytes
        };
        let mut bytes = header(1, 4);
        bytes.extend([0, 0, 14, 16, 0, 0]);
        bytes.extend(b"CET\0");
        let second = bytes.clone();
        bytes.extend(second);
        bytes.extend(b"\nCET-1CEST,M3.5.0,M10.5.0/3\n");
        Ok(bytes)
    }

    fn wall(text: &str) -> WallTime {
        WallTime(chrono::DateTime::parse_from_rfc3339(text).unwrap().timestamp_micros())
    }

    fn shown(text: &str) -> i64 {
        wall(&format!("{text}Z")).0 / 1_000_000
    }

    #[test]
    fn summer_time_begins_and_ends_with_the_law() {
        let zone = Zone::parse("Europe/Berlin", &berlin).unwrap();
        for (at, hours) in [
            ("2026-01-01T00:00:00Z", 1),
            ("2026-03-29T00:59:59Z", 1),
            ("2026-03-29T01:00:00Z", 2),
            ("2026-10-25T00:59:59Z", 2),
            ("2026-10-25T01:00:00Z", 1),
        ] {
            assert_eq!(zone.offset(wall(at), 0), hours * 3600, "{at}");
        }
    }

    #[test]
    fn a_time_that_clocks_skip_is_the_moment_of_the_jump_and_one_shown_twice_the_first() {
        let zone = Zone::parse("Europe/Berlin", &berlin).unwrap();
        assert_eq!(zone.moment(shown("2026-03-29T02:30:00"), 0), wall("2026-03-29T01:00:00Z"));
        assert_eq!(zone.moment(shown("2026-03-29T02:00:00"), 0), wall("2026-03-29T01:00:00Z"));
        assert_eq!(zone.moment(shown("2026-03-29T03:00:00"), 0), wall("2026-03-29T01:00:00Z"));
        assert_eq!(zone.moment(shown("2026-10-25T02:30:00"), 0), wall("2026-10-25T00:30:00Z"));
        assert_eq!(zone.moment(shown("2026-10-25T03:00:00"), 0), wall("2026-10-25T02:00:00Z"));
    }

    #[test]
    fn only_names_of_the_database_are_looked_up() {
        for bad in ["", "../etc/passwd", "Europe//Berlin", "/Europe/Berlin", "Europe/Ber lin", "+2", "+15:00", "+02:60"]
        {
            let looked_up = std::cell::Cell::new(false);
            let find = |_: &str| {
                looked_up.set(true);
                Err("none".to_owned())
            };
            assert!(Zone::parse(bad, &find).is_err() && !looked_up.get(), "{bad}");
        }
        assert!(Zone::parse("Mars/Olympus", &berlin).is_err());
        assert!(Zone::parse("Europe/Berlin", &|_| Ok(b"TZif2".to_vec())).unwrap_err().contains("its file is no zone"));
    }

    proptest! {
        #[test]
        fn clocks_show_what_was_asked_for_or_jump_over_it(seconds in -2_000_000_000i64..8_000_000_000, offset in -50_400i32..=50_400) {
            for zone in [Zone::parse("Europe/Berlin", &berlin).unwrap(), Zone::Fixed(offset), Zone::Local] {
                let at = zone.moment(seconds, offset);
                let skipped = zone.shown(at, offset) - seconds;
                prop_assert!((0..3600).contains(&skipped));
                prop_assert!(zone.shown(WallTime(at.0 - 1_000_000), offset) < seconds);
            }
        }
    }
}
