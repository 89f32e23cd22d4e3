//! Access logs of Apache and nginx: the common and the combined format, and nginx's `main` with its forwarded address.
//!
//! ```text
//! client ident user [time] "request" status bytes
//! client ident user [time] "request" status bytes "referer" "agent"
//! client ident user [time] "request" status bytes "referer" "agent" "forwarded_for"
//! ```
//!
//! (Apache HTTP Server 2.4, mod_log_config; nginx, ngx_http_log_module.) `-` is how both write nothing: such a field is
//! left out. A request of three words is `method`, `path` and `protocol`; another one, what a port scanner sends, stays
//! whole as `request`. The time becomes RFC 3339 with the zone that was written. `\"`, `\\`, `\n`, `\t` and `\xHH` within
//! quotes are what they stand for.

use std::borrow::Cow;

use super::members::{Members, Type};
use crate::rules::failed::Failed;

const MONTHS: [&[u8]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

pub(super) fn parse(text: &[u8], members: &mut Members<'_>) -> Result<(), Failed> {
    let mut rest = text.trim_ascii_end();
    for name in ["client", "ident", "user"] {
        put(members, name, Type::Text, word(&mut rest, name)?)?;
    }
    let time = between(&mut rest, b'[', b']').ok_or(Failed::because("no time in brackets after the user"))?;
    members.text(
        "time",
        &rfc_3339(time)
            .ok_or(Failed::because("the time is not like 10/Oct/2000:13:55:36 -0700, or its day does not exist"))?,
    )?;
    let request = quoted(&mut rest).ok_or(Failed::because("no request in quotes after the time"))?;
    put_request(members, request)?;
    put(members, "status", Type::Int, word(&mut rest, "status")?)?;
    put(members, "bytes", Type::Int, word(&mut rest, "bytes")?)?;
    if rest.is_empty() {
        return Ok(());
    }
    for name in ["referer", "agent"] {
        let text = quoted(&mut rest).ok_or_else(|| Failed::field(name.as_bytes(), "is missing or not in quotes"))?;
        put(members, name, Type::Text, &unescape(text))?;
    }
    if let Some(text) = quoted(&mut rest) {
        put(members, "forwarded_for", Type::Text, &unescape(text))?;
    }
    if rest.is_empty() { Ok(()) } else { Err(Failed::because("something after the last field")) }
}

fn put(members: &mut Members<'_>, name: &str, kind: Type, text: &[u8]) -> Result<(), Failed> {
    if text == b"-" { Ok(()) } else { members.of(name.as_bytes(), kind, text) }
}

fn put_request(members: &mut Members<'_>, request: &[u8]) -> Result<(), Failed> {
    let mut words = request.split(|b| *b == b' ');
    match (words.next(), words.next(), words.next(), words.next()) {
        (Some(method), Some(path), Some(protocol), None) if protocol.starts_with(b"HTTP/") => {
            members.text("method", &unescape(method))?;
            members.text("path", &unescape(path))?;
            members.text("protocol", protocol)
        }
        _ => put(members, "request", Type::Text, &unescape(request)),
    }
}

/// Takes a word and the space after it.
fn word<'t>(rest: &mut &'t [u8], name: &str) -> Result<&'t [u8], Failed> {
    let (word, after) = match memchr::memchr(b' ', rest) {
        Some(end) => (&rest[..end], &rest[end + 1..]),
        None => (*rest, &[][..]),
    };
    if word.is_empty() {
        return Err(Failed::field(name.as_bytes(), "is missing"));
    }
    *rest = after;
    Ok(word)
}

/// Takes what stands between two brackets, and the space after it.
fn between<'t>(rest: &mut &'t [u8], open: u8, close: u8) -> Option<&'t [u8]> {
    let inside = rest.strip_prefix(&[open])?;
    let end = memchr::memchr(close, inside)?;
    *rest = after_space(&inside[end + 1..])?;
    Some(&inside[..end])
}

/// Takes what stands between quotes, escapes and all, and the space after it.
fn quoted<'t>(rest: &mut &'t [u8]) -> Option<&'t [u8]> {
    let inside = rest.strip_prefix(b"\"")?;
    let mut at = 0;
    loop {
        at += memchr::memchr2(b'"', b'\\', inside.get(at..)?)?;
        if inside[at] == b'"' {
            break;
        }
        at += 2;
    }
    *rest = after_space(&inside[at + 1..])?;
    Some(&inside[..at])
}

fn after_space(rest: &[u8]) -> Option<&[u8]> {
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix(b" ") }
}

fn unescape(text: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr(b'\\', text).is_none() {
        return Cow::Borrowed(text);
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&b, after)) = rest.split_first() {
        rest = after;
        if b != b'\\' {
            out.push(b);
            continue;
        }
        let Some((&escape, after)) = rest.split_first() else {
            out.push(b);
            break;
        };
        rest = after;
        match escape {
            b'n' => out.push(b'\n'),
            b't' => out.push(b'\t'),
            b'r' => out.push(b'\r'),
            b'x' if let Some(byte) = hex(rest) => {
                out.push(byte);
                rest = &rest[2..];
            }
            b'"' | b'\\' => out.push(escape),
            other => out.extend_from_slice(&[b'\\', other]),
        }
    }
    Cow::Owned(out)
}

fn hex(text: &[u8]) -> Option<u8> {
    let digit = |i: usize| char::from(*text.get(i)?).to_digit(16);
    u8::try_from(digit(0)? * 16 + digit(1)?).ok()
}

/// `10/Oct/2000:13:55:36 -0700` as `2000-10-10T13:55:36-07:00`.
fn rfc_3339(time: &[u8]) -> Option<Vec<u8>> {
    let shape = |(b, s): (&u8, &u8)| match s {
        b'0' => b.is_ascii_digit(),
        b'A' => b.is_ascii_alphabetic(),
        b'+' => matches!(b, b'+' | b'-'),
        other => b == other,
    };
    const SHAPE: &[u8; 26] = b"00/AAA/0000:00:00:00 +0000";
    if time.len() != SHAPE.len() || !time.iter().zip(SHAPE).all(shape) {
        return None;
    }
    let month = MONTHS.iter().position(|m| m.eq_ignore_ascii_case(&time[3..6]))? + 1;
    let number = |digits: &[u8]| digits.iter().fold(0, |n, digit| 10 * n + u32::from(digit - b'0'));
    // 31/Feb is a day that does not exist, and not RFC 3339 either.
    chrono::NaiveDate::from_ymd_opt(number(&time[7..11]) as i32, month as u32, number(&time[..2]))?;
    let mut out = time[7..11].to_vec();
    out.extend_from_slice(format!("-{month:02}-").as_bytes());
    out.extend_from_slice(&time[..2]);
    out.push(b'T');
    out.extend_from_slice(&time[12..20]);
    out.extend_from_slice(&time[21..24]);
    out.push(b':');
    out.extend_from_slice(&time[24..26]);
    Some(out)
}
