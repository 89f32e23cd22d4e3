//! The JSON envelope: what a record's value becomes where `value = "envelope"`, because Fluvio records have no headers.
//!
//! One line of JSON: `time` (RFC 3339, UTC, microseconds; absent when nothing is known of it), `clock` (`"trusted"` or
//! `"untrusted"`), `node`, `topic`, `source` (only where the envelope is made at the source), `labels`, `key`, `flags`
//! (what befell the record: `truncated`, `unparsed`, `retained`, `redelivered`; absent when nothing did), `backlog` (`true` where it waited longer than the sink's `mark_backlog`; else absent), `attrs`, and `value`: the JSON as it is when the value is JSON, else a string; bytes that are not UTF-8 go to `value_hex`.

use std::fmt::Write as _;

use crate::record::{Flags, RecordRef};
use crate::template::Context;
use crate::time::WallTime;

/// What becomes a record's value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ValueMode {
    /// The bytes as they came.
    #[default]
    Raw,
    /// The JSON envelope of this module.
    Envelope,
}

/// Appends the envelope of `record` to `out`. `time` is when it happened, or else when it was admitted, in wall time.
pub fn write(out: &mut Vec<u8>, context: &Context<'_>, record: &RecordRef<'_>, time: Option<WallTime>) {
    write_marked(out, context, record, time, false);
}

/// What of an envelope does not depend on when it was sent, or written: all but its time, which follows the clock where a record
/// says none of its own, and the mark that it had waited.
pub fn lasting(envelope: &[u8]) -> [&[u8]; 2] {
    const TIME: &[u8] = b"{\"time\":\"";
    const MARK: &[u8] = b",\"backlog\":true";
    let rest = match envelope.strip_prefix(TIME) {
        Some(rest) => memchr::memchr(b'"', rest).map_or(envelope, |end| &rest[end..]),
        None => envelope,
    };
    match memchr::memmem::find(rest, MARK) {
        Some(at) => [&rest[..at], &rest[at + MARK.len()..]],
        None => [rest, &[]],
    }
}

/// As `write`; `backlog`: it has waited.
pub fn write_marked(
    out: &mut Vec<u8>,
    context: &Context<'_>,
    record: &RecordRef<'_>,
    time: Option<WallTime>,
    backlog: bool,
) {
    out.push(b'{');
    if let Some(text) = time.and_then(rfc3339) {
        field(out, "time", &text);
    }
    let untrusted = record.flags.has(Flags::CLOCK_UNTRUSTED);
    field(out, "clock", if untrusted { "untrusted" } else { "trusted" });
    field(out, "node", context.node);
    field(out, "topic", context.topic);
    if !context.source.is_empty() {
        field(out, "source", context.source);
    }
    if !context.labels.is_empty() {
        map(out, "labels", context.labels.iter().map(|(k, v)| (k.as_str(), v.as_bytes())));
    }
    if let Some(key) = record.key {
        field(out, "key", &String::from_utf8_lossy(key));
    }
    flags(out, record.flags);
    if backlog {
        name(out, "backlog");
        out.extend_from_slice(b"true");
    }
    if !record.attrs.is_empty() {
        map(out, "attrs", record.attrs.iter());
    }
    value(out, record.value);
    out.push(b'}');
}

/// RFC 3339 in UTC with microseconds, e.g. `2026-11-24T04:05:06.000007Z`.
pub fn rfc3339(time: WallTime) -> Option<String> {
    let time = chrono::DateTime::from_timestamp_micros(time.0)?;
    Some(time.to_rfc3339_opts(chrono::SecondsFormat::Micros, true))
}

fn value(out: &mut Vec<u8>, bytes: &[u8]) {
    let starts_json = matches!(bytes.first(), Some(b'{' | b'[' | b'"' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n'));
    let json = starts_json && !bytes.contains(&b'\n') && serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_ok();
    if json {
        name(out, "value");
        out.extend_from_slice(bytes);
    } else if let Ok(text) = std::str::from_utf8(bytes) {
        field(out, "value", text);
    } else {
        let mut hex = String::with_capacity(bytes.len() * 2);
        for byte in bytes {
            // Writing to a String cannot fail.
            let _ = write!(hex, "{byte:02x}");
        }
        field(out, "value_hex", &hex);
    }
}

fn flags(out: &mut Vec<u8>, flags: Flags) {
    let mut names = flags.names().peekable();
    if names.peek().is_none() {
        return;
    }
    name(out, "flags");
    out.push(b'[');
    for (i, flag) in names.enumerate() {
        if i > 0 {
            out.push(b',');
        }
        string(out, flag);
    }
    out.push(b']');
}

fn map<'a>(out: &mut Vec<u8>, key: &str, pairs: impl Iterator<Item = (&'a str, &'a [u8])>) {
    name(out, key);
    out.push(b'{');
    for (k, v) in pairs {
        field(out, k, &String::from_utf8_lossy(v));
    }
    out.push(b'}');
}

fn field(out: &mut Vec<u8>, key: &str, text: &str) {
    name(out, key);
    string(out, text);
}

fn name(out: &mut Vec<u8>, key: &str) {
    if !matches!(out.last(), Some(b'{') | None) {
        out.push(b',');
    }
    string(out, key);
    out.push(b':');
}

fn string(out: &mut Vec<u8>, text: &str) {
    // serde_json into a Vec fails for nothing that a str can hold.
    let _ = serde_json::to_writer(out, text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::AttrBuf;
    use std::collections::BTreeMap;

    fn wrap(record: &RecordRef<'_>) -> String {
        let labels = BTreeMap::from([("kind".to_owned(), "pump".to_owned())]);
        let context = Context { node: "n1", topic: "t", source: "s", labels: &labels };
        let mut out = Vec::new();
        write(&mut out, &context, record, Some(WallTime(1_000_007)));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn json_values_stay_json_to_the_digit() {
        let mut attrs = AttrBuf::default();
        assert!(attrs.push("mqtt.1", b"p\"7"));
        let record = RecordRef {
            key: Some(b"k"),
            attrs: attrs.as_attrs(),
            ..RecordRef::of(br#"{"v":12345678901234567890.10}"#)
        };
        assert_eq!(
            wrap(&record),
            r#"{"time":"1970-01-01T00:00:01.000007Z","clock":"trusted","node":"n1","topic":"t","source":"s","labels":{"kind":"pump"},"key":"k","attrs":{"mqtt.1":"p\"7"},"value":{"v":12345678901234567890.10}}"#
        );
    }

    #[test]
    fn text_becomes_a_string_and_other_bytes_hex() {
        assert!(wrap(&RecordRef::of(b"hello \"x\"")).contains(r#""value":"hello \"x\"""#));
        assert!(wrap(&RecordRef::of(b"{broken")).contains(r#""value":"{broken""#));
        assert!(wrap(&RecordRef::of(&[0xff, 0x00])).contains(r#""value_hex":"ff00""#));
    }

    #[test]
    fn what_befell_a_record_is_told() {
        let flags = Flags::TRUNCATED.with(Flags::CLOCK_UNTRUSTED).with(Flags::RETAINED);
        let text = wrap(&RecordRef { flags, ..RecordRef::of(b"1") });
        assert!(
            text.contains(r#""clock":"untrusted""#) && text.contains(r#","flags":["truncated","retained"],"value":1"#)
        );
        assert!(!wrap(&RecordRef::of(b"1")).contains("flags"));
    }

    #[test]
    fn only_what_has_waited_says_so() {
        let context = Context { node: "n1", topic: "t", source: "", labels: &BTreeMap::new() };
        let mut out = Vec::new();
        write_marked(&mut out, &context, &RecordRef::of(b"7"), None, true);
        assert!(String::from_utf8(out).unwrap().ends_with(r#""topic":"t","backlog":true,"value":7}"#));
        assert!(!wrap(&RecordRef::of(b"7")).contains("backlog"));
    }

    #[test]
    fn every_envelope_is_one_line_of_json() {
        for value in [&b"[1,\n2]"[..], b"", b"nul", b"7", b"\xff\n"] {
            let text = wrap(&RecordRef::of(value));
            assert!(!text.contains('\n'));
            serde_json::from_str::<serde_json::Value>(&text).unwrap();
        }
    }
}
