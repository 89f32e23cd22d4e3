//! Times of day in which a link may be used: `02:00-02:20Z`, `Mon-Fri 22:00-06:00`, `Sat,Sun 00:00-24:00 +02:00`.

use super::Zone;
use crate::time::WallTime;

const DAY: i64 = 86_400;
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
/// 1970-01-01 was a Thursday.
const EPOCH_DAY: i64 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The days on which it begins, from the least significant bit: Monday.
    days: u8,
    /// Minutes of the day; an end at or before the start is on the next day.
    from: u16,
    to: u16,
    zone: Option<Zone>,
}

impl Window {
    pub fn parse(text: &str) -> Result<Self, String> {
        let bad = || format!("`{text}` is no window; write it like 02:00-02:20Z or Mon-Fri 22:00-06:00 +02:00");
        let at = text.find(|c: char| c.is_ascii_digit()).ok_or_else(bad)?;
        let (days, times) = text.split_at(at);
        let days = match days.trim() {
            "" => 0x7f,
            days => parse_days(days).ok_or_else(bad)?,
        };
        let (from, rest) = times.split_once('-').ok_or_else(bad)?;
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != ':').unwrap_or(rest.len());
        let (to, zone) = rest.split_at(end);
        let zone = match zone.trim() {
            "" => None,
            zone => Some(Zone::parse(zone)?),
        };
        let (from, to) = (parse_minute(from.trim()).ok_or_else(bad)?, parse_minute(to).ok_or_else(bad)?);
        if from == to || from == 1440 {
            return Err(format!("`{text}` has no length; all day is 00:00-24:00"));
        }
        Ok(Self { days, from, to, zone })
    }

    fn offset(&self, zone: Zone, local: i32) -> i64 {
        i64::from(self.zone.unwrap_or(zone).offset(local))
    }

    /// Its length in seconds.
    fn length(&self) -> i64 {
        let minutes = i64::from(self.to) - i64::from(self.from);
        60 * if minutes > 0 { minutes } else { minutes + 1440 }
    }

    /// When it begins on a day, in seconds of its zone since 1970, if it does.
    fn start(&self, day: i64) -> Option<i64> {
        let weekday = (day + EPOCH_DAY).rem_euclid(7);
        (self.days >> weekday & 1 == 1).then_some(day * DAY + 60 * i64::from(self.from))
    }

    /// Where the one that is open at `at` began, in seconds of its zone.
    fn open_since(&self, at: i64) -> Option<i64> {
        let today = at.div_euclid(DAY);
        [today - 1, today]
            .into_iter()
            .filter_map(|day| self.start(day))
            .find(|start| (*start..start + self.length()).contains(&at))
    }

    fn seconds(&self, at: WallTime, zone: Zone, local: i32) -> i64 {
        at.0.div_euclid(1_000_000).saturating_add(self.offset(zone, local))
    }

    fn wall(&self, seconds: i64, zone: Zone, local: i32) -> WallTime {
        WallTime((seconds - self.offset(zone, local)).saturating_mul(1_000_000))
    }

    pub fn is_open(&self, at: WallTime, zone: Zone, local: i32) -> bool {
        self.open_since(self.seconds(at, zone, local)).is_some()
    }

    /// When it ends, if it is open.
    pub fn end(&self, at: WallTime, zone: Zone, local: i32) -> Option<WallTime> {
        let since = self.open_since(self.seconds(at, zone, local))?;
        Some(self.wall(since + self.length(), zone, local))
    }

    /// When it begins next, after `at`.
    pub fn next(&self, at: WallTime, zone: Zone, local: i32) -> Option<WallTime> {
        let now = self.seconds(at, zone, local);
        let today = now.div_euclid(DAY);
        let start = (today..=today + 7).filter_map(|day| self.start(day)).find(|start| *start > now)?;
        Some(self.wall(start, zone, local))
    }
}

fn parse_minute(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    if hours.len() > 2 || minutes.len() != 2 {
        return None;
    }
    let (hours, minutes) = (hours.parse::<u16>().ok()?, minutes.parse::<u16>().ok()?);
    (hours < 24 && minutes < 60 || (hours, minutes) == (24, 0)).then_some(hours * 60 + minutes)
}

/// `Mon-Fri,Sun`.
fn parse_days(text: &str) -> Option<u8> {
    let day = |name: &str| DAYS.iter().position(|day| day.eq_ignore_ascii_case(name.trim()));
    let mut days = 0u8;
    for part in text.split(',') {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (mut at, to) = (day(from)?, day(to)?);
        loop {
            days |= 1 << at;
            if at == to {
                break;
            }
            at = (at + 1) % 7;
        }
    }
    Some(days)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wall(text: &str) -> WallTime {
        WallTime(chrono::DateTime::parse_from_rfc3339(text).unwrap().timestamp_micros())
    }

    fn is_open(window: &str, at: &str) -> bool {
        Window::parse(window).unwrap().is_open(wall(at), Zone::Fixed(0), 3600)
    }

    #[test]
    fn a_window_is_open_from_its_start_up_to_its_end() {
        for (at, open) in [("01:59:59", false), ("02:00:00", true), ("02:19:59", true), ("02:20:00", false)] {
            assert_eq!(is_open("02:00-02:20Z", &format!("2026-11-27T{at}Z")), open, "{at}");
        }
    }

    #[test]
    fn over_midnight_it_belongs_to_the_day_on_which_it_begins() {
        // 2026-11-27 is a Friday.
        assert!(is_open("Fri 22:00-06:00", "2026-11-27T23:00:00Z"));
        assert!(is_open("Fri 22:00-06:00", "2026-11-28T05:59:59Z"));
        assert!(!is_open("Fri 22:00-06:00", "2026-11-27T05:00:00Z"));
        assert!(!is_open("Fri 22:00-06:00", "2026-11-28T23:00:00Z"));
        assert!(is_open("Sat-Mon 00:00-24:00", "2026-11-30T23:59:59Z"));
    }

    #[test]
    fn a_zone_of_its_own_goes_before_that_of_the_link_and_of_the_machine() {
        let at = "2026-11-27T10:30:00Z";
        assert!(is_open("10:00-11:00", at) && is_open("12:00-13:00+02:00", at) && is_open("11:00-12:00 local", at));
        assert!(!is_open("10:00-11:00+02:00", at));
    }

    #[test]
    fn what_is_no_window_is_said_to_be_none() {
        for bad in [
            "",
            "02:00",
            "2-3",
            "02:00-02:00",
            "24:00-02:00",
            "Foo 02:00-03:00",
            "02:00-03:00 Mars",
            "25:00-26:00",
            "02:60-03:00",
        ] {
            assert!(Window::parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn between_two_edges_nothing_changes_and_each_edge_does(
            days in 1u8..0x80,
            from in 0u16..1440,
            to in 1u16..=1440,
            seconds in 0i64..4_000_000_000,
            offset in -14 * 3600..=14 * 3600,
        ) {
            prop_assume!(from != to);
            let window = Window { days, from, to, zone: Some(Zone::Fixed(offset)) };
            let zone = Zone::Local;
            let at = WallTime(seconds * 1_000_000);
            if let Some(end) = window.end(at, zone, 0) {
                prop_assert!(end > at && window.is_open(WallTime(end.0 - 1), zone, 0));
            } else {
                let next = window.next(at, zone, 0).expect("some day of the week");
                prop_assert!(next > at && window.is_open(next, zone, 0));
                prop_assert!(!window.is_open(WallTime(next.0 - 1), zone, 0));
                prop_assert!(!window.is_open(WallTime(i64::midpoint(at.0, next.0)), zone, 0));
            }
        }

        #[test]
        fn arbitrary_text_never_panics(text in ".{0,24}") {
            let _ = Window::parse(&text);
        }
    }
}
