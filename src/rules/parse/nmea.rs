//! NMEA 0183 sentences: `$GPGGA,123519,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,*47`.
//!
//! A sentence becomes `talker`, `sentence` and the fields of its kind by name; sentences of other kinds give `fields`, an
//! array of texts. The checksum, the exclusive or of everything between `$` (or `!`) and `*`, must be right where it
//! stands; whether it has to stand there is an option. Latitude and longitude become signed decimal degrees, worked out in
//! integers, with three digits more than the minutes had: nothing that was sent is rounded away. Times are
//! `hh:mm:ss`, dates `yyyy-mm-dd` (years below 80 are of this century), both in UTC. An empty field is left out. Fields
//! that a later version of the standard appended, and that have no name here, are in `more`.

use super::members::{Members, Type, Types};
use crate::json;
use crate::rules::failed::Failed;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Nmea {
    /// Take sentences without a checksum as well. A wrong one always fails.
    pub without_checksum: bool,
}

/// How a field is read.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Text,
    Int,
    Float,
    /// `hhmmss.ss`
    Time,
    /// `ddmmyy`
    Date,
    /// `ddmm.mm` and N or S
    Latitude,
    /// `dddmm.mm` and E or W
    Longitude,
    /// A number and E or W; west is negative.
    East,
    /// This letter, the unit of the field before; not kept.
    Unit(u8),
    /// So many fields, those that are not empty as an array.
    List(usize),
    /// All fields that are left, in groups, as an array of objects.
    Groups(&'static [Named]),
}

type Named = (&'static str, Kind);

const TRANSDUCER: &[Named] = &[("type", Kind::Text), ("value", Kind::Float), ("unit", Kind::Text), ("id", Kind::Text)];
const SATELLITE: &[Named] = &[("prn", Kind::Int), ("elevation", Kind::Int), ("azimuth", Kind::Int), ("snr", Kind::Int)];

/// The fields of each sentence, in their order.
#[rustfmt::skip]
const SENTENCES: &[(&str, &[Named])] = &[
    ("DBT", &[("depth_feet", Kind::Float), ("", Kind::Unit(b'f')), ("depth_m", Kind::Float), ("", Kind::Unit(b'M')),
        ("depth_fathoms", Kind::Float), ("", Kind::Unit(b'F'))]),
    ("DPT", &[("depth_m", Kind::Float), ("offset_m", Kind::Float), ("range_m", Kind::Float)]),
    ("GGA", &[("time", Kind::Time), ("latitude", Kind::Latitude), ("longitude", Kind::Longitude), ("quality", Kind::Int),
        ("satellites", Kind::Int), ("hdop", Kind::Float), ("altitude_m", Kind::Float), ("", Kind::Unit(b'M')),
        ("geoid_m", Kind::Float), ("", Kind::Unit(b'M')), ("dgps_age_s", Kind::Float), ("dgps_station", Kind::Text)]),
    ("GLL", &[("latitude", Kind::Latitude), ("longitude", Kind::Longitude), ("time", Kind::Time),
        ("status", Kind::Text), ("mode", Kind::Text)]),
    ("GSA", &[("selection", Kind::Text), ("fix", Kind::Int), ("prns", Kind::List(12)), ("pdop", Kind::Float),
        ("hdop", Kind::Float), ("vdop", Kind::Float), ("system", Kind::Text)]),
    ("GSV", &[("sentences", Kind::Int), ("number", Kind::Int), ("in_view", Kind::Int),
        ("satellites", Kind::Groups(SATELLITE))]),
    ("HDG", &[("heading_magnetic", Kind::Float), ("deviation", Kind::East), ("variation", Kind::East)]),
    ("HDM", &[("heading_magnetic", Kind::Float), ("", Kind::Unit(b'M'))]),
    ("HDT", &[("heading_true", Kind::Float), ("", Kind::Unit(b'T'))]),
    ("MTW", &[("water_celsius", Kind::Float), ("", Kind::Unit(b'C'))]),
    ("MWD", &[("wind_true", Kind::Float), ("", Kind::Unit(b'T')), ("wind_magnetic", Kind::Float),
        ("", Kind::Unit(b'M')), ("speed_knots", Kind::Float), ("", Kind::Unit(b'N')), ("speed_ms", Kind::Float),
        ("", Kind::Unit(b'M'))]),
    ("MWV", &[("wind_angle", Kind::Float), ("reference", Kind::Text), ("wind_speed", Kind::Float),
        ("wind_unit", Kind::Text), ("status", Kind::Text)]),
    ("RMC", &[("time", Kind::Time), ("status", Kind::Text), ("latitude", Kind::Latitude),
        ("longitude", Kind::Longitude), ("speed_knots", Kind::Float), ("course", Kind::Float), ("date", Kind::Date),
        ("variation", Kind::East), ("mode", Kind::Text), ("nav_status", Kind::Text)]),
    ("ROT", &[("turn_per_minute", Kind::Float), ("status", Kind::Text)]),
    ("VHW", &[("heading_true", Kind::Float), ("", Kind::Unit(b'T')), ("heading_magnetic", Kind::Float),
        ("", Kind::Unit(b'M')), ("speed_knots", Kind::Float), ("", Kind::Unit(b'N')), ("speed_kmh", Kind::Float),
        ("", Kind::Unit(b'K'))]),
    ("VTG", &[("course_true", Kind::Float), ("", Kind::Unit(b'T')), ("course_magnetic", Kind::Float),
        ("", Kind::Unit(b'M')), ("speed_knots", Kind::Float), ("", Kind::Unit(b'N')), ("speed_kmh", Kind::Float),
        ("", Kind::Unit(b'K')), ("mode", Kind::Text)]),
    ("XDR", &[("transducers", Kind::Groups(TRANSDUCER))]),
    ("ZDA", &[("time", Kind::Time), ("day", Kind::Int), ("month", Kind::Int), ("year", Kind::Int),
        ("zone_hours", Kind::Int), ("zone_minutes", Kind::Int)]),
];

impl Nmea {
    pub(super) fn parse(self, text: &[u8], members: &mut Members<'_>) -> Result<(), Failed> {
        let body = match text.trim_ascii().split_first() {
            Some((b'$' | b'!', rest)) => self.checked(rest)?,
            _ => return Err(Failed::because("not NMEA 0183: it does not begin with `$` or `!`")),
        };
        let mut fields = body.split(|b| *b == b',');
        let address = fields.next().unwrap_or_default();
        if !(4..=10).contains(&address.len()) || !address.iter().all(u8::is_ascii_alphanumeric) {
            return Err(Failed::because("not NMEA 0183: no talker and sentence before the first comma"));
        }
        let talker = if address[0] == b'P' { 1 } else { 2 };
        let (talker, sentence) = address.split_at(talker);
        members.text("talker", talker)?;
        members.text("sentence", sentence)?;
        let proprietary = talker == b"P";
        let kind = SENTENCES.iter().find(|(name, _)| !proprietary && name.as_bytes() == sentence);
        let Some((_, named)) = kind else { return put_texts(members, "fields", fields) };
        let mut fields = fields.peekable();
        for (name, kind) in *named {
            put(members, name, *kind, &mut fields)?;
        }
        let rest: Vec<&[u8]> = fields.collect();
        if rest.iter().any(|f| !f.is_empty()) { put_texts(members, "more", rest.into_iter()) } else { Ok(()) }
    }

    /// What the checksum covers, if it is right.
    fn checked(self, text: &[u8]) -> Result<&[u8], Failed> {
        let Some(star) = memchr::memrchr(b'*', text) else {
            return if self.without_checksum { Ok(text) } else { Err(Failed::because("no checksum")) };
        };
        let (body, sum) = (&text[..star], &text[star + 1..]);
        let stated = std::str::from_utf8(sum).ok().filter(|s| s.len() == 2 && !s.starts_with('+'));
        let stated = stated.and_then(|s| u8::from_str_radix(s, 16).ok());
        let stated = stated.ok_or(Failed::because("the checksum is not two hex digits"))?;
        if body.iter().fold(0, |sum, b| sum ^ b) == stated { Ok(body) } else { Err(Failed::because("wrong checksum")) }
    }
}

fn put_texts<'t>(members: &mut Members<'_>, name: &str, texts: impl Iterator<Item = &'t [u8]>) -> Result<(), Failed> {
    let out = members.value(name.as_bytes())?;
    out.push(b'[');
    for (i, text) in texts.enumerate() {
        if i > 0 {
            out.push(b',');
        }
        json::write_string(text, out);
    }
    out.push(b']');
    Ok(())
}

type Fields<'f, 't> = &'f mut dyn Iterator<Item = &'t [u8]>;

/// Takes as many fields as the kind has and writes what they say; nothing if they are empty.
fn put(members: &mut Members<'_>, name: &str, kind: Kind, fields: Fields<'_, '_>) -> Result<(), Failed> {
    if let Kind::List(count) = kind {
        return put_texts(members, name, fields.take(count).filter(|f| !f.is_empty()));
    }
    if let Kind::Groups(named) = kind {
        return put_groups(members, name, named, fields);
    }
    let text = fields.next().unwrap_or_default();
    let letter = match kind {
        Kind::Latitude | Kind::Longitude | Kind::East => fields.next().unwrap_or_default(),
        _ => &[],
    };
    if text.is_empty() {
        return Ok(());
    }
    let wrong = |what| Failed::field(name.as_bytes(), what);
    match kind {
        Kind::Text => members.text(name, text),
        Kind::Int => members.of(name.as_bytes(), Type::Int, text),
        Kind::Float => members.of(name.as_bytes(), Type::Float, text),
        Kind::Time => members.text(name, &time(text).ok_or(wrong("is not like hhmmss"))?),
        Kind::Date => members.text(name, &date(text).ok_or(wrong("is not like ddmmyy"))?),
        Kind::Latitude | Kind::Longitude => {
            let (most, letters) = if matches!(kind, Kind::Latitude) { (90, b"NS") } else { (180, b"EW") };
            let degrees = degrees(text, letter, most, letters).ok_or(wrong("is no angle with its letter"))?;
            members.value(name.as_bytes())?.extend_from_slice(degrees.as_bytes());
            Ok(())
        }
        Kind::East => match letter {
            b"W" if !text.starts_with(b"-") => members.of(name.as_bytes(), Type::Float, &[b"-", text].concat()),
            b"E" | b"" => members.of(name.as_bytes(), Type::Float, text),
            _ => Err(wrong("is neither east nor west")),
        },
        Kind::Unit(unit) if text == [unit] => Ok(()),
        Kind::Unit(_) => Err(Failed::because("a unit other than the sentence has")),
        Kind::List(_) | Kind::Groups(_) => Ok(()),
    }
}

fn put_groups(members: &mut Members<'_>, name: &str, named: &[Named], fields: Fields<'_, '_>) -> Result<(), Failed> {
    let none = Types::default();
    let left: Vec<&[u8]> = fields.collect();
    let groups = left.chunks_exact(named.len());
    let rest = groups.remainder();
    let out = members.value(name.as_bytes())?;
    out.push(b'[');
    for (i, group) in groups.enumerate() {
        if i > 0 {
            out.push(b',');
        }
        let mut inner = Members::begin(out, &none);
        let mut group = group.iter().copied();
        for (name, kind) in named {
            put(&mut inner, name, *kind, &mut group)?;
        }
        inner.end();
    }
    out.push(b']');
    if rest.iter().any(|f| !f.is_empty()) { put_texts(members, "more", rest.iter().copied()) } else { Ok(()) }
}

fn two(text: &[u8]) -> Option<u8> {
    match text {
        [a @ b'0'..=b'9', b @ b'0'..=b'9'] => Some((a - b'0') * 10 + (b - b'0')),
        _ => None,
    }
}

fn time(text: &[u8]) -> Option<Vec<u8>> {
    let (clock, fraction) = text.split_at_checked(6)?;
    let within = two(&clock[..2])? < 24 && two(&clock[2..4])? < 60 && two(&clock[4..])? <= 60;
    let digits = fraction.strip_prefix(b".").unwrap_or(fraction);
    if !within || !digits.iter().all(u8::is_ascii_digit) || (digits.len() == fraction.len() && !digits.is_empty()) {
        return None;
    }
    let mut out = [&clock[..2], b":", &clock[2..4], b":", &clock[4..]].concat();
    if !digits.is_empty() {
        out.extend_from_slice(fraction);
    }
    Some(out)
}

fn date(text: &[u8]) -> Option<Vec<u8>> {
    if text.len() != 6 {
        return None;
    }
    let (day, month, year) = (two(&text[..2])?, two(&text[2..4])?, two(&text[4..])?);
    let within = (1..=31).contains(&day) && (1..=12).contains(&month);
    let century = if year < 80 { 20 } else { 19 };
    within.then(|| format!("{century}{year:02}-{month:02}-{day:02}").into_bytes())
}

/// `dddmm.mmm` and its letter as signed decimal degrees. Exact: with d digits after the minutes' point a step is
/// 1/60 of 10^-d degrees, and d + 3 digits tell all of them apart.
fn degrees(text: &[u8], letter: &[u8], most: u128, letters: &[u8; 2]) -> Option<String> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if !(3..=5).contains(&whole.len()) || fraction.len() > 12 || !digits(whole) || !digits(fraction) {
        return None;
    }
    let negative = match letter {
        [l] if *l == letters[0] => false,
        [l] if *l == letters[1] => true,
        _ => return None,
    };
    let scale = 10u128.pow(fraction.len() as u32);
    let whole: u128 = whole.parse().ok()?;
    let fraction_digits: u128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let minutes = (whole % 100) * scale + fraction_digits;
    let angle = (whole / 100) * 60 * scale + minutes;
    if minutes >= 60 * scale || angle > most * 60 * scale {
        return None;
    }
    let places = fraction.len() + 3;
    let unit = 10u128.pow(places as u32);
    let rounded = (angle * unit + 30 * scale) / (60 * scale);
    let after = format!("{:0places$}", rounded % unit);
    let after = after.trim_end_matches('0');
    let after = if after.is_empty() { "0" } else { after };
    Some(format!("{}{}.{after}", if negative { "-" } else { "" }, rounded / unit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn degrees_are_worked_out_without_floats() {
        let lat = |text: &str, letter: &str| degrees(text.as_bytes(), letter.as_bytes(), 90, b"NS");
        assert_eq!(lat("4807.038", "N").as_deref(), Some("48.1173"));
        assert_eq!(lat("4807.039", "S").as_deref(), Some("-48.117317"));
        assert_eq!(lat("0000.000", "S").as_deref(), Some("-0.0"));
        assert_eq!(lat("9000.0", "N").as_deref(), Some("90.0"));
        for (text, letter) in
            [("9000.1", "N"), ("4860.0", "N"), ("4807.0", "E"), ("4807.0", ""), ("48", "N"), ("4a07", "N")]
        {
            assert_eq!(lat(text, letter), None, "{text} {letter}");
        }
    }

    proptest! {
        #[test]
        fn minutes_come_back_from_degrees(deg in 0u32..90, minutes in 0u64..60_000_000, south: bool) {
            let text = format!("{deg:02}{:02}.{:06}", minutes / 1_000_000, minutes % 1_000_000);
            let letter: &[u8] = if south { b"S" } else { b"N" };
            let written = degrees(text.as_bytes(), letter, 90, b"NS").unwrap();
            prop_assert_eq!(written.starts_with('-'), south);
            let value: f64 = written.parse().unwrap();
            let millionths = value.abs() * 60_000_000.0;
            prop_assert_eq!(millionths.round() as u64, u64::from(deg) * 60_000_000 + minutes);
        }
    }
}
