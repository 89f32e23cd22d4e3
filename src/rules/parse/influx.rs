//! InfluxDB line protocol, one point: `measurement,tag=a field=1i,other="text" 1465839830100400200`.
//!
//! (InfluxDB v2 reference, "Line protocol".) It becomes `{"measurement", "tags", "fields", "timestamp"}`; tags are text,
//! fields have the type they were written with: `1i` and `1u` are integers with every digit (and must fit 64 bits), a
//! bare number is a float, `t` and `false` are booleans, text stands in quotes. The timestamp's digits stay as they are, in
//! whatever unit they were; without one there is no `timestamp`.

use std::borrow::Cow;

use super::members::{Members, Type, Types};
use crate::rules::failed::Failed;

pub(super) fn parse(text: &[u8], members: &mut Members<'_>) -> Result<(), Failed> {
    let text = text.trim_ascii();
    point(text, members)
        .map_err(|failed| if has_lines(text) { Failed::because("more than one line: split it first") } else { failed })
}

/// Whether a line ends that is not in quotes: a text may have several.
fn has_lines(text: &[u8]) -> bool {
    let (mut quoted, mut rest) = (false, text);
    while let Some(at) = memchr::memchr3(b'"', b'\\', b'\n', rest) {
        match rest[at] {
            b'"' => quoted = !quoted,
            b'\n' if !quoted => return true,
            _ => {}
        }
        let past = if rest[at] == b'\\' { 2 } else { 1 };
        rest = rest.get(at + past..).unwrap_or_default();
    }
    false
}

fn point(text: &[u8], members: &mut Members<'_>) -> Result<(), Failed> {
    let none = Types::default();
    let mut rest = text;
    let measurement = name(&mut rest, b", ");
    if measurement.is_empty() || measurement[0] == b'#' {
        return Err(Failed::because("no measurement; it is empty or a comment"));
    }
    members.text("measurement", &unescape(measurement))?;
    if rest.first() == Some(&b',') {
        let mut tags = Members::begin(members.value(b"tags")?, &none);
        while let Some(after) = rest.strip_prefix(b",") {
            rest = after;
            let key = key(&mut rest, b",= ", "a tag without `=`")?;
            let value = name(&mut rest, b",= ");
            if value.is_empty() || rest.first() == Some(&b'=') {
                return Err(Failed::field(key, "has no value, or two"));
            }
            tags.of(&unescape(key), Type::Text, &unescape(value))?;
        }
        tags.end();
    }
    rest = spaces(rest).ok_or(Failed::because("no fields"))?;
    let mut fields = Members::begin(members.value(b"fields")?, &none);
    loop {
        let key = key(&mut rest, b",= ", "a field without `=`")?;
        field(key, &mut rest, &mut fields)?;
        match rest.strip_prefix(b",") {
            Some(after) => rest = after,
            None => break,
        }
    }
    fields.end();
    match spaces(rest) {
        Some(time) => match std::str::from_utf8(time).ok().and_then(|t| t.parse::<i64>().ok()) {
            Some(_) => members.of(b"timestamp", Type::Int, time),
            None => Err(Failed::because("the timestamp is not a 64-bit integer")),
        },
        None if rest.is_empty() => Ok(()),
        None => Err(Failed::because("something right after a field's value")),
    }
}

/// Steps over the spaces here; None if there are none.
fn spaces(text: &[u8]) -> Option<&[u8]> {
    let at = text.iter().position(|b| *b != b' ')?;
    (at > 0).then(|| &text[at..])
}

/// Takes up to one of `ends` that no backslash stands before.
fn name<'t>(rest: &mut &'t [u8], ends: &[u8]) -> &'t [u8] {
    let mut at = 0;
    while at < rest.len() && !ends.contains(&rest[at]) && rest[at] != b'\n' {
        let escapes = rest[at] == b'\\' && rest.get(at + 1).is_some_and(|b| ends.contains(b));
        at += if escapes { 2 } else { 1 };
    }
    let (name, after) = rest.split_at(at);
    *rest = after;
    name
}

fn key<'t>(rest: &mut &'t [u8], ends: &[u8], what: &'static str) -> Result<&'t [u8], Failed> {
    let key = name(rest, ends);
    match rest.strip_prefix(b"=") {
        Some(after) if !key.is_empty() => {
            *rest = after;
            Ok(key)
        }
        _ => Err(Failed::because(what)),
    }
}

/// Resolves `\,`, `\=` and `\ `; any other backslash stands for itself.
fn unescape(text: &[u8]) -> Cow<'_, [u8]> {
    unescape_of(text, b",= ")
}

fn unescape_of<'t>(text: &'t [u8], escaped: &[u8]) -> Cow<'t, [u8]> {
    if memchr::memchr(b'\\', text).is_none() {
        return Cow::Borrowed(text);
    }
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let escapes = text[at] == b'\\' && text.get(at + 1).is_some_and(|b| escaped.contains(b));
        at += usize::from(escapes);
        out.push(text[at]);
        at += 1;
    }
    Cow::Owned(out)
}

fn field(key: &[u8], rest: &mut &[u8], fields: &mut Members<'_>) -> Result<(), Failed> {
    let key = &*unescape(key);
    if let Some(quoted) = rest.strip_prefix(b"\"") {
        let mut at = 0;
        while let Some(found) = memchr::memchr2(b'"', b'\\', quoted.get(at..).unwrap_or_default()) {
            at += found;
            if quoted[at] == b'"' {
                *rest = &quoted[at + 1..];
                return fields.of(key, Type::Text, &unescape_of(&quoted[..at], b"\"\\"));
            }
            at += 2;
        }
        return Err(Failed::field(key, "has no closing quote"));
    }
    let end = memchr::memchr2(b',', b' ', rest).unwrap_or(rest.len());
    let (value, after) = rest.split_at(end);
    *rest = after;
    let text = std::str::from_utf8(value).map_err(|_| Failed::field(key, "is not a value"))?;
    match value {
        b"t" | b"T" | b"true" | b"True" | b"TRUE" => fields.of(key, Type::Bool, b"true"),
        b"f" | b"F" | b"false" | b"False" | b"FALSE" => fields.of(key, Type::Bool, b"false"),
        [digits @ .., b'i'] if text[..digits.len()].parse::<i64>().is_ok() => fields.of(key, Type::Int, digits),
        [digits @ .., b'u'] if text[..digits.len()].parse::<u64>().is_ok() => fields.of(key, Type::Int, digits),
        [.., b'i' | b'u'] => Err(Failed::field(key, "is not a 64-bit integer")),
        _ => fields.of(key, Type::Float, value),
    }
}
