//! Times of day in which a link may be used: `02:00-02:20Z`, `Mon-Fri 22:00-06:00`, `Sat,Sun 00:00-24:00 +02:00`.

use crate::time::WallTime;
use crate::zone::{Find, Zone};

const DAY: i64 = 86_400;
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
/// 1970-01-01 was a Thursday.
const EPOCH_DAY: i64 = 3;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// The days on which it begins, from the least significant bit: Monday.
    days: u8,
    /// Minutes of the day; an end at or before the start is on the next day.
    from: u16,
    to: u16,
    zone: Option<Zone>,
}

/// What windows are read in: the zone of those that name none, and the machine's own offset in seconds east of UTC.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    pub zone: &'a Zone,
    pub local: i32,
}

impl Window {
    pub fn parse(text: &str, find: Find<'_>) -> Result<Self, String> {
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
            zone => Some(Zone::parse(zone, find)?),
        };
        let (from, to) = (parse_minute(from.trim()).ok_or_else(bad)?, parse_minute(to).ok_or_else(bad)?);
        if from == to || from == 1440 {
            return Err(format!("`{text}` has no length; all day is 00:00-24:00"));
        }
        Ok(Self { days, from, to, zone })
    }

    /// When it begins and ends on a day (counted from 1970), if it begins there. Empty, where clocks are put forward over all
    /// of it; where they are put back over it, it is the first time that they show it.
    fn on(&self, day: i64, place: Place<'_>) -> Option<(WallTime, WallTime)> {
        let weekday = (day + EPOCH_DAY).rem_euclid(7);
        let minutes = |minutes: u16| 60 * i64::from(minutes);
        let end = minutes(self.to) + if self.to > self.from { 0 } else { DAY };
        let zone = self.zone.as_ref().unwrap_or(place.zone);
        let moment = |second: i64| zone.moment(day * DAY + second, place.local);
        (self.days >> weekday & 1 == 1).then(|| (moment(minutes(self.from)), moment(end)))
    }

    fn day(&self, at: WallTime, place: Place<'_>) -> i64 {
        self.zone.as_ref().unwrap_or(place.zone).shown(at, place.local).div_euclid(DAY)
    }

    pub fn is_open(&self, at: WallTime, place: Place<'_>) -> bool {
        self.end(at, place).is_some()
    }

    /// When it ends, if it is open.
    pub fn end(&self, at: WallTime, place: Place<'_>) -> Option<WallTime> {
        let today = self.day(at, place);
        let days = [today - 1, today].into_iter().filter_map(|day| self.on(day, place));
        days.filter(|(from, to)| (*from..*to).contains(&at)).map(|(_, to)| to).max()
    }

    /// When it begins next, after `at`.
    pub fn next(&self, at: WallTime, place: Place<'_>) -> Option<WallTime> {
        let today = self.day(at, place);
        // A day more than a week: that of the week after next may be the first that is not skipped.
        let days = (today..=today + 14).filter_map(|day| self.on(day, place));
        days.filter(|(from, to)| *from > at && from < to).map(|(from, _)| from).next()
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
    use crate::zone::no_names;
    use crate::zone::tests::berlin;
    use proptest::prelude::*;

    fn wall(text: &str) -> WallTime {
        WallTime(chrono::DateTime::parse_from_rfc3339(text).unwrap().timestamp_micros())
    }

    fn is_open(window: &str, at: &str) -> bool {
        let place = Place { zone: &Zone::Fixed(0), local: 3600 };
        Window::parse(window, &berlin).unwrap().is_open(wall(at), place)
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
            assert!(Window::parse(bad, &berlin).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_named_zone_has_its_summer_time() {
        for (at, open) in
            [("2026-11-27T01:10:00Z", true), ("2026-07-27T00:10:00Z", true), ("2026-07-27T01:10:00Z", false)]
        {
            assert_eq!(is_open("02:00-02:20 Europe/Berlin", at), open, "{at}");
        }
        // Through the night in which clocks are put back it is an hour longer, in the other one an hour shorter.
        let place = Place { zone: &Zone::Fixed(0), local: 0 };
        let night = Window::parse("22:00-06:00 Europe/Berlin", &berlin).unwrap();
        assert_eq!(night.end(wall("2026-10-24T20:00:00Z"), place), Some(wall("2026-10-25T05:00:00Z")));
        assert_eq!(night.end(wall("2026-03-28T21:00:00Z"), place), Some(wall("2026-03-29T04:00:00Z")));
        // All of it is skipped: the next one is the day after's.
        let skipped = Window::parse("02:10-02:20 Europe/Berlin", &berlin).unwrap();
        assert_eq!(skipped.next(wall("2026-03-29T00:00:00Z"), place), Some(wall("2026-03-30T00:10:00Z")));
        let once_a_week = Window::parse("Sun 02:10-02:20 Europe/Berlin", &berlin).unwrap();
        assert_eq!(once_a_week.next(wall("2026-03-29T00:00:00Z"), place), Some(wall("2026-04-05T00:10:00Z")));
    }

    proptest! {
        #[test]
        fn between_two_edges_nothing_changes_and_each_edge_does(
            days in 1u8..0x80,
            from in 0u16..1440,
            to in 1u16..=1440,
            seconds in 0i64..4_000_000_000,
            offset in -14 * 3600..=14 * 3600,
            named in proptest::bool::ANY,
        ) {
            prop_assume!(from != to);
            let zone = if named { Zone::parse("Europe/Berlin", &berlin).unwrap() } else { Zone::Fixed(offset) };
            let window = Window { days, from, to, zone: Some(zone) };
            let place = Place { zone: &Zone::Local, local: 0 };
            let at = WallTime(seconds * 1_000_000);
            if let Some(end) = window.end(at, place) {
                prop_assert!(end > at && window.is_open(WallTime(end.0 - 1), place));
            } else {
                let next = window.next(at, place).expect("some day of the week");
                prop_assert!(next > at && window.is_open(next, place));
                prop_assert!(!window.is_open(WallTime(next.0 - 1), place));
                prop_assert!(!window.is_open(WallTime(i64::midpoint(at.0, next.0)), place));
            }
        }

        #[test]
        fn arbitrary_text_never_panics(text in ".{0,24}") {
            let _ = Window::parse(&text, &no_names);
        }
    }
}
