//! A record as a line of JSON, and back: what `ring export` writes and `ring import` takes.
//!
//! The words are those of `tail --json`, and what it leaves out: whose record it is (ring, topic, partition, offset, seq,
//! lane), its place on the boot clock, all flags, the origin. Bytes that are no UTF-8 stand in base64 under a name that
//! says so. Each line stands for itself: files can be cut, filtered, sorted and joined with any tool.

use std::borrow::Cow;
use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::envelope::rfc3339;
use crate::json::{Malformed, Scanner, key_is, unescape};
use crate::limits::MAX_PARTITIONS;
use crate::record::{AttrBuf, Flags, Origin, Record, RecordRef};
use crate::ring::{GapReason, RingId};
use crate::time::{BootTime, ClockSync, WallTime};
use crate::topic::TopicName;

const FLAGS: [(Flags, &str); 6] = [
    (Flags::TRUNCATED, "truncated"),
    (Flags::UNPARSED, "unparsed"),
    (Flags::RETAINED, "retained"),
    (Flags::REDELIVERED, "redelivered"),
    (Flags::CLOCK_UNTRUSTED, "clock_untrusted"),
    (Flags::SUPERSEDED_BY_NEWER, "superseded_by_newer"),
];

/// Where a record stands.
pub struct Place<'a> {
    pub ring: RingId,
    pub topic: &'a str,
    pub partition: u8,
    /// How many the topic has.
    pub partitions: u8,
    pub offset: u64,
    pub seq: u64,
    pub lane: &'a str,
    pub boot: u32,
    pub clock: Option<ClockSync>,
}

/// Records that are not there: `[from, to)`.
pub struct Hole<'a> {
    pub ring: RingId,
    pub lane: &'a str,
    /// Topic, partition and the first offset beyond, where they are known; the numbers are offsets then, else seqs.
    pub of: Option<(&'a str, u8)>,
    pub from: u64,
    pub to: u64,
    pub count: u64,
    pub reason: GapReason,
}

pub fn reason(reason: GapReason) -> &'static str {
    match reason {
        GapReason::Evicted => "evicted",
        GapReason::Expired => "expired",
        GapReason::Corrupt => "corrupt",
        GapReason::LostUnsynced => "lost_unsynced",
        GapReason::Passed => "passed",
    }
}

/// Appends a record's line.
pub fn write(out: &mut Vec<u8>, place: &Place<'_>, record: &RecordRef<'_>) {
    out.extend_from_slice(b"{\"ring\":\"");
    // Writing to a Vec cannot fail, here and below.
    let _ = write!(out, "{:032x}\"", place.ring.0);
    text(out, "topic", place.topic);
    number(out, "partition", place.partition.into());
    if place.partitions > 1 {
        number(out, "partitions", place.partitions.into());
    }
    let _ = write!(out, ",\"offset\":{},\"seq\":{}", place.offset, place.seq);
    text(out, "lane", place.lane);
    if let Some(time) = place.clock.and_then(|clock| shown(clock.wall(record.admitted))) {
        text(out, "time", &time);
    }
    let trusted = place.clock.is_some_and(|clock| clock.trusted) && !record.flags.has(Flags::CLOCK_UNTRUSTED);
    let _ = write!(out, ",\"clock_trusted\":{trusted}");
    number(out, "boot", place.boot.into());
    number(out, "boot_us", record.admitted.0);
    match record.event_time.map(|time| (time.0, shown(time))) {
        Some((_, Some(time))) => text(out, "event_time", &time),
        Some((us, None)) => number(out, "event_time_us", us),
        None => {}
    }
    if let Some(key) = record.key {
        bytes(out, ["key", "key_base64"], key);
    }
    bytes(out, ["value", "value_base64"], record.value);
    attributes(out, record);
    if record.flags != Flags::default() {
        let names: Vec<_> = FLAGS.iter().filter(|(flag, _)| record.flags.has(*flag)).map(|(_, name)| *name).collect();
        let _ = write!(out, ",\"flags\":[\"{}\"]", names.join("\",\""));
    }
    if let Some(origin) = record.origin {
        let (id, epoch, first) = (origin.producer_id, origin.producer_epoch, origin.first_sequence);
        let _ =
            write!(out, ",\"origin\":{{\"producer_id\":{id},\"producer_epoch\":{epoch},\"first_sequence\":{first}}}");
    }
    out.extend_from_slice(b"}\n");
}

/// Appends the line of a gap.
pub fn write_gap(out: &mut Vec<u8>, hole: &Hole<'_>) {
    let _ = write!(out, "{{\"gap\":{{\"ring\":\"{:032x}\"", hole.ring.0);
    text(out, "lane", hole.lane);
    let (from, to) = match hole.of {
        Some((topic, partition)) => {
            text(out, "topic", topic);
            number(out, "partition", partition.into());
            ("from", "to")
        }
        None => ("from_seq", "to_seq"),
    };
    let _ = write!(out, ",\"{from}\":{},\"{to}\":{},\"count\":{}", hole.from, hole.to, hole.count);
    text(out, "reason", reason(hole.reason));
    out.extend_from_slice(b"}}\n");
}

/// RFC 3339, which knows the years 0 to 9999.
fn shown(time: WallTime) -> Option<String> {
    rfc3339(time).filter(|text| text.len() == "1970-01-01T00:00:00.000000Z".len())
}

fn attributes(out: &mut Vec<u8>, record: &RecordRef<'_>) {
    for (name, as_text) in [("attributes", true), ("attributes_base64", false)] {
        let mut open = false;
        for (key, value) in record.attrs.iter() {
            let shown = match (as_text, std::str::from_utf8(value)) {
                (true, Ok(text)) => Cow::Borrowed(text),
                (false, Err(_)) => Cow::Owned(BASE64.encode(value)),
                _ => continue,
            };
            let _ = if open { write!(out, ",") } else { write!(out, ",\"{name}\":{{") };
            open = true;
            string(out, key);
            out.push(b':');
            string(out, &shown);
        }
        if open {
            out.push(b'}');
        }
    }
}

fn bytes(out: &mut Vec<u8>, [name, encoded]: [&str; 2], bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(value) => text(out, name, value),
        Err(_) => text(out, encoded, &BASE64.encode(bytes)),
    }
}

fn text(out: &mut Vec<u8>, name: &str, value: &str) {
    let _ = write!(out, ",\"{name}\":");
    string(out, value);
}

fn number(out: &mut Vec<u8>, name: &str, value: i64) {
    let _ = write!(out, ",\"{name}\":{value}");
}

fn string(out: &mut Vec<u8>, text: &str) {
    // serde_json into a Vec fails for nothing that a str can hold.
    let _ = serde_json::to_writer(out, text);
}

// ------------------------------------------------------------------------------------------------ and back

/// What a line holds.
#[derive(Debug, PartialEq)]
pub enum Line {
    Record(Box<Exported>),
    Gap,
}

/// A record and where it stood.
#[derive(Debug, PartialEq)]
pub struct Exported {
    pub ring: RingId,
    pub topic: TopicName,
    pub partition: u8,
    pub partitions: u8,
    pub offset: u64,
    pub lane: String,
    /// When it was admitted, as far as that is known.
    pub time: Option<WallTime>,
    pub clock_trusted: bool,
    pub record: Record,
}

/// What is looked at of a line.
const NAMES: [&str; 20] = [
    "gap",
    "ring",
    "topic",
    "partition",
    "partitions",
    "offset",
    "lane",
    "time",
    "clock_trusted",
    "boot_us",
    "event_time",
    "event_time_us",
    "key",
    "key_base64",
    "value",
    "value_base64",
    "attributes",
    "attributes_base64",
    "flags",
    "origin",
];

/// The values of [`NAMES`] as they stand in the line.
#[derive(Default)]
struct Fields<'a>([Option<&'a [u8]>; NAMES.len()]);

/// Walks the members of an object.
fn members<'a>(json: &'a [u8], each: &mut dyn FnMut(&'a [u8], &'a [u8]) -> Result<(), String>) -> Result<(), String> {
    let wrong = |error: Malformed| format!("{} at byte {}", error.what, error.at);
    let mut scan = Scanner::new(json);
    scan.open(b'{').map_err(wrong)?;
    let mut more = !scan.closes(b'}');
    while more {
        let name = scan.key().map_err(wrong)?;
        each(name, scan.value(1).map_err(wrong)?)?;
        more = scan.more(b'}').map_err(wrong)?;
    }
    scan.end().map_err(wrong)
}

/// A string's bytes; None for what is none.
fn inside(raw: &[u8]) -> Option<Cow<'_, [u8]>> {
    let inside = raw.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    Some(unescape(inside))
}

impl<'a> Fields<'a> {
    fn of(line: &'a [u8]) -> Result<Self, String> {
        let mut fields = Self::default();
        members(line, &mut |name, value| {
            if let Some(at) = NAMES.iter().position(|known| key_is(name, known)) {
                fields.0[at] = Some(value).filter(|value| *value != b"null");
            }
            Ok(())
        })?;
        Ok(fields)
    }

    fn get(&self, name: &str) -> Option<&'a [u8]> {
        self.0[NAMES.iter().position(|known| *known == name)?]
    }

    fn bytes(&self, name: &str) -> Result<Option<Cow<'a, [u8]>>, String> {
        let Some(raw) = self.get(name) else { return Ok(None) };
        inside(raw).map(Some).ok_or_else(|| format!("`{name}` is no text"))
    }

    fn text(&self, name: &str) -> Result<Option<String>, String> {
        let Some(bytes) = self.bytes(name)? else { return Ok(None) };
        String::from_utf8(bytes.into_owned()).map(Some).map_err(|_| format!("`{name}` is no UTF-8"))
    }

    fn number(&self, name: &str) -> Result<Option<i64>, String> {
        self.get(name).map(|raw| number_of(raw, name)).transpose()
    }

    fn small(&self, name: &str) -> Result<Option<u8>, String> {
        let Some(number) = self.number(name)? else { return Ok(None) };
        u8::try_from(number).map(Some).map_err(|_| format!("`{name}` cannot be {number}"))
    }

    fn moment(&self, name: &str) -> Result<Option<WallTime>, String> {
        self.text(name)?.as_deref().map(moment).transpose()
    }

    /// The bytes of a text, or of one in base64.
    fn either(&self, name: &str, encoded: &str) -> Result<Option<Vec<u8>>, String> {
        match (self.bytes(name)?, self.bytes(encoded)?) {
            (Some(text), _) => Ok(Some(text.into_owned())),
            (None, Some(text)) => decoded(&text, encoded).map(Some),
            (None, None) => Ok(None),
        }
    }

    fn attributes(&self) -> Result<AttrBuf, String> {
        let mut attrs = AttrBuf::default();
        for name in ["attributes", "attributes_base64"] {
            let Some(raw) = self.get(name) else { continue };
            members(raw, &mut |key, value| {
                let value = inside(value).ok_or_else(|| format!("`{name}` holds what is no text"))?;
                let value = if name == "attributes" { value.into_owned() } else { decoded(&value, name)? };
                let key = unescape(key);
                let key = std::str::from_utf8(&key).map_err(|_| format!("`{name}` has a name that is no UTF-8"))?;
                match attrs.push(key, &value) {
                    true => Ok(()),
                    false => Err("more attributes than a record can have, or too long ones".into()),
                }
            })?;
        }
        Ok(attrs)
    }

    fn flags(&self) -> Result<Flags, String> {
        let mut flags = Flags::default();
        let Some(raw) = self.get("flags") else { return Ok(flags) };
        // The names have no comma and no escape in them.
        let list = raw.strip_prefix(b"[").and_then(|raw| raw.strip_suffix(b"]")).ok_or("`flags` is no list")?;
        for raw in list.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|raw| !raw.is_empty()) {
            let name = inside(raw).ok_or("`flags` holds what is no text")?;
            let known = FLAGS.iter().find(|(_, known)| known.as_bytes() == &*name);
            flags = flags.with(known.ok_or_else(|| format!("unknown flag `{}`", String::from_utf8_lossy(&name)))?.0);
        }
        Ok(flags)
    }

    fn origin(&self) -> Result<Option<Origin>, String> {
        let Some(raw) = self.get("origin") else { return Ok(None) };
        let mut origin = Origin { producer_id: 0, producer_epoch: 0, first_sequence: 0 };
        members(raw, &mut |name, value| {
            let number = number_of(value, "origin")?;
            match name {
                b"producer_id" => origin.producer_id = number,
                b"producer_epoch" => origin.producer_epoch = number as i16,
                b"first_sequence" => origin.first_sequence = number as i32,
                _ => {}
            }
            Ok(())
        })?;
        Ok(Some(origin))
    }
}

fn number_of(raw: &[u8], name: &str) -> Result<i64, String> {
    let number = std::str::from_utf8(raw).ok().and_then(|text| text.parse().ok());
    number.ok_or_else(|| format!("`{name}` is no whole number"))
}

/// Reads a line; in words why not.
pub fn parse(line: &[u8]) -> Result<Line, String> {
    if line.first().is_some_and(|first| *first != b'{') {
        return Err("no line of an export; what --raw writes cannot be imported".into());
    }
    let fields = Fields::of(line).map_err(|error| match line.last() {
        Some(b'}') => format!("no line of an export: {error}"),
        _ => format!("the line is cut off after {} bytes", line.len()),
    })?;
    if fields.get("gap").is_some() {
        return Ok(Line::Gap);
    }
    let missing = |name: &str| format!("there is no `{name}`: is it from `headwater ring export`?");
    let ring = fields.text("ring")?.ok_or_else(|| missing("ring"))?;
    let ring = u128::from_str_radix(&ring, 16).map_err(|_| format!("`ring` is no ring's id: `{ring}`"))?;
    let topic = TopicName::new(&fields.text("topic")?.ok_or_else(|| missing("topic"))?).map_err(|e| e.to_string())?;
    let partition = fields.small("partition")?.unwrap_or(0);
    let partitions = fields.small("partitions")?.unwrap_or(1).max(partition.saturating_add(1));
    if usize::from(partitions) > MAX_PARTITIONS {
        return Err(format!("a topic has at most {MAX_PARTITIONS} partitions, not {partitions}"));
    }
    let offset = fields.number("offset")?.ok_or_else(|| missing("offset"))?;
    let event_time = fields.moment("event_time")?.or(fields.number("event_time_us")?.map(WallTime));
    let record = Record {
        key: fields.either("key", "key_base64")?,
        value: fields.either("value", "value_base64")?.ok_or("there is no `value`, and no `value_base64`")?,
        admitted: BootTime(fields.number("boot_us")?.unwrap_or(0)),
        event_time,
        flags: fields.flags()?,
        attrs: fields.attributes()?,
        origin: fields.origin()?,
    };
    Ok(Line::Record(Box::new(Exported {
        ring: RingId(ring),
        topic,
        partition,
        partitions,
        offset: u64::try_from(offset).map_err(|_| format!("`offset` cannot be {offset}"))?,
        lane: fields.text("lane")?.unwrap_or_default(),
        time: fields.moment("time")?,
        clock_trusted: fields.get("clock_trusted") == Some(b"true"),
        record,
    })))
}

fn decoded(text: &[u8], name: &str) -> Result<Vec<u8>, String> {
    BASE64.decode(text).map_err(|_| format!("`{name}` is no base64"))
}

/// A moment in RFC 3339.
pub fn moment(text: &str) -> Result<WallTime, String> {
    let parsed = chrono::DateTime::parse_from_rfc3339(text);
    parsed.map(|time| WallTime(time.timestamp_micros())).map_err(|_| format!("`{text}` is no time as RFC 3339 has it"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn place() -> Place<'static> {
        Place {
            ring: RingId(0xab),
            topic: "pump",
            partition: 0,
            partitions: 1,
            offset: 12,
            seq: 4711,
            lane: "normal",
            boot: 3,
            clock: Some(ClockSync { offset: 1_000_000, trusted: true }),
        }
    }

    fn line(place: &Place<'_>, record: &RecordRef<'_>) -> String {
        let mut out = Vec::new();
        write(&mut out, place, record);
        String::from_utf8(out).unwrap()
    }

    fn back(text: &str) -> Exported {
        match parse(text.trim_end().as_bytes()) {
            Ok(Line::Record(exported)) => *exported,
            other => panic!("{other:?} of {text}"),
        }
    }

    #[test]
    fn a_record_is_one_line_in_the_words_of_tail() {
        let mut attrs = AttrBuf::default();
        assert!(attrs.push("mqtt.1", b"p7") && attrs.push("raw", b"\xff"));
        let record = Record {
            key: Some(b"k".to_vec()),
            value: b"\xff\x00".to_vec(),
            admitted: BootTime(5),
            event_time: Some(WallTime(7)),
            flags: Flags::TRUNCATED.with(Flags::CLOCK_UNTRUSTED),
            attrs,
            origin: Some(Origin { producer_id: -3, producer_epoch: 1, first_sequence: 9 }),
        };
        let place = Place { partition: 1, partitions: 4, ..place() };
        assert_eq!(
            line(&place, &record.as_ref()),
            concat!(
                r#"{"ring":"000000000000000000000000000000ab","topic":"pump","partition":1,"partitions":4,"offset":12,"seq":4711,"#,
                r#""lane":"normal","time":"1970-01-01T00:00:01.000005Z","clock_trusted":false,"boot":3,"boot_us":5,"#,
                r#""event_time":"1970-01-01T00:00:00.000007Z","key":"k","value_base64":"/wA=","attributes":{"mqtt.1":"p7"},"#,
                r#""attributes_base64":{"raw":"/w=="},"flags":["truncated","clock_untrusted"],"#,
                r#""origin":{"producer_id":-3,"producer_epoch":1,"first_sequence":9}}"#,
                "\n"
            )
        );
    }

    #[test]
    fn what_is_no_line_of_an_export_says_why() {
        let whole = line(&place(), &RecordRef::of(b"x"));
        for (text, why) in [
            ("", "cut off"),
            (&whole[..40], "cut off after 40 bytes"),
            ("hello", "no line of an export"),
            ("{\"offset\":0,\"value\":\"1\"}", "no `ring`"),
            (&whole.replace("pump", "Pump"), "write `pump`"),
            (&whole.replace("\"offset\":12", "\"offset\":\"a\""), "`offset` is no whole number"),
            (&whole.replace("\"value\":\"x\"", "\"value_base64\":\"?\""), "`value_base64` is no base64"),
            (&whole.replace("\"value\":\"x\"", "\"v\":1"), "no `value`"),
            (&whole.replace("\"partition\":0", "\"partition\":16"), "at most 16"),
        ] {
            let error = parse(text.as_bytes()).unwrap_err();
            assert!(error.contains(why), "{error} of {text}");
        }
    }

    #[test]
    fn a_gap_is_told_from_a_record() {
        let mut out = Vec::new();
        let hole = Hole {
            ring: RingId(1),
            lane: "normal",
            of: Some(("pump", 0)),
            from: 3,
            to: 5,
            count: 2,
            reason: GapReason::Corrupt,
        };
        write_gap(&mut out, &hole);
        assert_eq!(
            String::from_utf8(out.clone()).unwrap(),
            "{\"gap\":{\"ring\":\"00000000000000000000000000000001\",\"lane\":\"normal\",\"topic\":\"pump\",\"partition\":0,\
             \"from\":3,\"to\":5,\"count\":2,\"reason\":\"corrupt\"}}\n"
        );
        assert_eq!(parse(&out), Ok(Line::Gap));
    }

    proptest! {
        #[test]
        fn any_record_comes_back(
            key in proptest::option::of(prop::collection::vec(any::<u8>(), 0..20)),
            value in prop::collection::vec(any::<u8>(), 0..200),
            event in proptest::option::of(any::<i64>()),
            admitted in 0i64..1 << 50,
            bits in 0u16..64,
            attr in proptest::option::of(".{0,20}"),
        ) {
            let mut attrs = AttrBuf::default();
            if let Some(text) = &attr {
                prop_assert!(attrs.push("a", text.as_bytes()));
            }
            let event_time = event.map(WallTime);
            let record = Record { key, value, admitted: BootTime(admitted), event_time, flags: Flags(bits), attrs, origin: None };
            let text = line(&place(), &record.as_ref());
            prop_assert_eq!(text.matches('\n').count(), 1);
            prop_assert_eq!(back(&text).record, record);
        }

        #[test]
        fn arbitrary_lines_never_panic(text in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&text);
        }
    }
}
