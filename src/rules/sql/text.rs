//! Functions of text. Positions and lengths count characters, from 1; what grows is bounded by
//! [`MAX_TEXT`](super::value::MAX_TEXT).

use std::borrow::Cow;

use regex::bytes::Regex;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::functions::Function;
use super::plan::PatternUse;
use super::value::{EvalError, Kind, MAX_TEXT, Result, Value, too_long};
use crate::json;

type Text<'a> = Cow<'a, str>;

fn bad(what: impl Into<String>) -> EvalError {
    EvalError::new(Kind::BadArgument, what)
}

/// A function of text; all arguments are there and none is NULL.
pub fn call<'a>(function: Function, arguments: [Value<'a>; 4]) -> Result<Value<'a>> {
    use Function::{
        Ascii, Bytes, Decode, Encode, Initcap, Left, Length, Lower, PadLeft, PadRight, Repeat, Replace, Reverse, Right,
        SplitPart, StartsWith, Strpos, Substring, Translate, Trim, TrimLeft, TrimRight, Upper,
    };
    let [first, second, third, _] = arguments;
    let (number, count) = (int(&second), int(&third));
    let (has_set, has_fill) = (!second.is_null(), !third.is_null());
    let Value::Text(text) = first else {
        return Ok(Value::Null);
    };
    let (a, b) = (second.into_text(), third.into_text());
    match function {
        Lower => Value::text(text.chars().map(|c| one(c, c.to_lowercase())).collect()),
        Upper => Value::text(text.chars().map(|c| one(c, c.to_uppercase())).collect()),
        Initcap => Value::text(initcap(&text)),
        Length => Ok(Value::Int(text.chars().count() as i64)),
        Bytes => Ok(Value::Int(text.len() as i64)),
        Substring => substring(text, number.unwrap_or(1), count),
        Left => Ok(Value::Text(cut(text, number.unwrap_or(0), true))),
        Right => Ok(Value::Text(cut(text, number.unwrap_or(0), false))),
        Strpos => Ok(Value::Int(text.find(&*a).map_or(0, |at| text[..at].chars().count() as i64 + 1))),
        Trim | TrimLeft | TrimRight => {
            let spaces = !has_set;
            Ok(Value::Text(trimmed(text, function, |c| if spaces { c == ' ' } else { a.contains(c) })))
        }
        Replace => replace(&text, &a, &b),
        Translate => Value::text(translate(&text, &a, &b)),
        SplitPart => split_part(&text, &a, count.unwrap_or(1)),
        PadLeft | PadRight => pad(&text, number.unwrap_or(0), if has_fill { &b } else { " " }, function == PadLeft),
        Repeat => repeat(&text, number.unwrap_or(0)),
        Reverse => Value::text(text.chars().rev().collect()),
        StartsWith => Ok(Value::Bool(text.starts_with(&*a))),
        Ascii => Ok(Value::Int(text.chars().next().map_or(0, |c| i64::from(u32::from(c))))),
        Encode => encode(&text, &a),
        Decode => decode(&text, &a),
        _ => Ok(Value::Null),
    }
}

/// A number of characters, parts or times. One that no machine of 32 bits can count to is more than there is of anything.
fn many(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

fn int(value: &Value<'_>) -> Option<i64> {
    if let Value::Int(n) = value { Some(*n) } else { None }
}

/// A character mapped to one, or itself where it would become several, as the C library has it.
fn one(c: char, mut mapped: impl Iterator<Item = char>) -> char {
    match (mapped.next(), mapped.next()) {
        (Some(only), None) => only,
        _ => c,
    }
}

fn initcap(text: &str) -> String {
    let mut within = false;
    let case = |c: char| {
        let mapped = if within { one(c, c.to_lowercase()) } else { one(c, c.to_uppercase()) };
        within = c.is_alphanumeric();
        mapped
    };
    text.chars().map(case).collect()
}

/// Characters [from, to) of a text.
fn slice(text: Text<'_>, from: usize, to: usize) -> Text<'_> {
    let place = |n: usize| text.char_indices().nth(n).map_or(text.len(), |(at, _)| at);
    let (start, end) = (place(from), place(to.max(from)));
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(&text[start..end]),
        Cow::Owned(text) => Cow::Owned(text[start..end].to_owned()),
    }
}

fn substring(text: Text<'_>, start: i64, count: Option<i64>) -> Result<Value<'_>> {
    if count.is_some_and(|n| n < 0) {
        return Err(EvalError::new(Kind::BadArgument, "negative substring length not allowed"));
    }
    let end = count.map_or(i64::MAX, |n| start.saturating_add(n));
    let place = |n: i64| many(n.saturating_sub(1).max(0).unsigned_abs());
    Ok(Value::Text(slice(text, place(start), place(end))))
}

/// The first (or last) `n` characters; with a negative `n` all but as many of the other end.
fn cut(text: Text<'_>, n: i64, left: bool) -> Text<'_> {
    let len = text.chars().count();
    let some = many(n.unsigned_abs());
    let keep = if n < 0 { len.saturating_sub(some) } else { len.min(some) };
    if left { slice(text, 0, keep) } else { slice(text, len - keep, len) }
}

fn trimmed<'a>(text: Text<'a>, function: Function, set: impl Fn(char) -> bool) -> Text<'a> {
    let (left, right) = (function != Function::TrimRight, function != Function::TrimLeft);
    let cut = |text: &str| {
        let end = if right { text.trim_end_matches(&set).len() } else { text.len() };
        let start = if left { end - text[..end].trim_start_matches(&set).len() } else { 0 };
        (start, end)
    };
    match text {
        Cow::Borrowed(text) => {
            let (start, end) = cut(text);
            Cow::Borrowed(&text[start..end])
        }
        Cow::Owned(text) => {
            let (start, end) = cut(&text);
            Cow::Owned(text[start..end].to_owned())
        }
    }
}

fn replace<'a>(text: &str, from: &str, to: &str) -> Result<Value<'a>> {
    if from.is_empty() {
        return Value::text(text.to_owned());
    }
    let mut out = String::new();
    let mut pieces = text.split(from);
    out.push_str(pieces.next().unwrap_or(""));
    for piece in pieces {
        out.push_str(to);
        out.push_str(piece);
        if out.len() > MAX_TEXT {
            return Err(too_long());
        }
    }
    Value::text(out)
}

fn translate(text: &str, from: &str, to: &str) -> String {
    let mapped = |c: char| match from.chars().position(|f| f == c) {
        Some(n) => to.chars().nth(n),
        None => Some(c),
    };
    text.chars().filter_map(mapped).collect()
}

fn split_part<'a>(text: &str, by: &str, n: i64) -> Result<Value<'a>> {
    if n == 0 {
        return Err(bad("field position must not be zero"));
    }
    let nth = many(n.unsigned_abs());
    let part = if by.is_empty() {
        if nth == 1 { Some(text) } else { None }
    } else if n > 0 {
        text.split(by).nth(nth - 1)
    } else {
        // From the end of the same parts: those found from the right may be others.
        let count = text.split(by).count();
        count.checked_sub(nth).and_then(|from_start| text.split(by).nth(from_start))
    };
    Value::text(part.unwrap_or("").to_owned())
}

fn pad<'a>(text: &str, n: i64, fill: &str, left: bool) -> Result<Value<'a>> {
    let n = many(n.max(0).unsigned_abs());
    if n > MAX_TEXT {
        return Err(too_long());
    }
    let len = text.chars().count();
    if len >= n {
        return Value::text(text.chars().take(n).collect());
    }
    let filling = fill.chars().cycle().take(n - len);
    Value::text(if left { filling.chain(text.chars()).collect() } else { text.chars().chain(filling).collect() })
}

fn repeat<'a>(text: &str, n: i64) -> Result<Value<'a>> {
    let n = many(n.max(0).unsigned_abs());
    if text.len().checked_mul(n).is_none_or(|len| len > MAX_TEXT) {
        return Err(too_long());
    }
    Value::text(text.repeat(n))
}

fn encode<'a>(text: &str, format: &str) -> Result<Value<'a>> {
    if text.len() > MAX_TEXT / 2 {
        return Err(too_long());
    }
    match format.to_ascii_lowercase().as_str() {
        "hex" => Value::text(
            text.bytes()
                .flat_map(|b| [b >> 4, b & 15])
                .map(|n| char::from(b"0123456789abcdef"[usize::from(n)]))
                .collect(),
        ),
        "base64" => {
            // Lines of 76, as MIME and PostgreSQL have them.
            let mut out = String::new();
            for (n, line) in text.as_bytes().chunks(57).enumerate() {
                if n > 0 {
                    out.push('\n');
                }
                STANDARD.encode_string(line, &mut out);
            }
            Value::text(out)
        }
        other => Err(bad(format!("the encoding `{other}` is not in this version: hex or base64"))),
    }
}

fn decode<'a>(text: &str, format: &str) -> Result<Value<'a>> {
    let wrong = || bad(format!("this is not {format}"));
    let compact: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    let bytes = match format.to_ascii_lowercase().as_str() {
        "hex" => {
            let digit = |b: u8| char::from(b).to_digit(16).map(|n| n as u8);
            let pair = |pair: &[u8]| match pair {
                [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
                _ => None,
            };
            compact.chunks(2).map(pair).collect::<Option<Vec<u8>>>().ok_or_else(wrong)?
        }
        "base64" => STANDARD.decode(&compact).map_err(|_| wrong())?,
        other => {
            return Err(bad(format!("the encoding `{other}` is not in this version: hex or base64")));
        }
    };
    Value::text(String::from_utf8(bytes).map_err(|_| bad("what it decodes to is no UTF-8 text"))?)
}

pub fn chr<'a>(n: i64) -> Result<Value<'a>> {
    let found = u32::try_from(n).ok().filter(|n| *n > 0).and_then(char::from_u32);
    let wrong = || EvalError::new(Kind::TooLong, format!("{n} is the number of no character"));
    found.map(|c| Value::Text(c.to_string().into())).ok_or_else(wrong)
}

/// Appends what `concat` makes of a value: booleans are `t` and `f`.
pub fn append(value: &Value<'_>, out: &mut String) -> Result<()> {
    match value {
        Value::Bool(b) => out.push(if *b { 't' } else { 'f' }),
        other => other.write_text(out),
    }
    if out.len() > MAX_TEXT { Err(too_long()) } else { Ok(()) }
}

/// What a regular expression makes of a text.
pub fn pattern<'a>(regex: &Regex, how: PatternUse, text: &str, with: &str) -> Result<Value<'a>> {
    let group = |n: usize| {
        let groups = regex.captures(text.as_bytes());
        let found = groups.and_then(|groups| groups.get(n).map(|g| lossy(g.as_bytes()).into_owned()));
        found.map_or(Ok(Value::Null), Value::text)
    };
    match how {
        PatternUse::Substring => group(usize::from(regex.captures_len() > 1)),
        PatternUse::Group(n) => group(n),
        PatternUse::Count => Ok(Value::Int(regex.find_iter(text.as_bytes()).count() as i64)),
        PatternUse::Groups => {
            let Some(groups) = regex.captures(text.as_bytes()) else { return Ok(Value::Null) };
            let mut out = vec![b'['];
            for n in if groups.len() > 1 { 1..groups.len() } else { 0..1 } {
                if out.len() > 1 {
                    out.push(b',');
                }
                match groups.get(n) {
                    Some(group) => json::write_string(group.as_bytes(), &mut out),
                    None => out.extend_from_slice(b"null"),
                }
            }
            out.push(b']');
            Ok(Value::Json(out.into()))
        }
        PatternUse::Replace { all } => replaced(regex, all, text.as_bytes(), with),
    }
}

/// Of whole characters, unless the expression itself asks for bytes.
fn lossy(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

/// `\1` to `\9` are groups, `\&` all that matched, `\\` a backslash.
fn replaced<'a>(regex: &Regex, all: bool, text: &[u8], with: &str) -> Result<Value<'a>> {
    let mut out = String::new();
    let mut end = 0;
    for groups in regex.captures_iter(text).take(if all { usize::MAX } else { 1 }) {
        let Some(whole) = groups.get(0) else { break };
        out.push_str(&lossy(&text[end..whole.start()]));
        end = whole.end();
        let mut chars = with.chars();
        while let Some(c) = chars.next() {
            if c != '\\' {
                out.push(c);
                continue;
            }
            match chars.next() {
                Some('&') => out.push_str(&lossy(whole.as_bytes())),
                Some(digit @ '1'..='9') => {
                    let group = groups.get(digit as usize - '0' as usize);
                    out.push_str(&group.map_or(Cow::Borrowed(""), |g| lossy(g.as_bytes())));
                }
                Some('\\') | None => out.push('\\'),
                Some(other) => out.extend(['\\', other]),
            }
        }
        if out.len() > MAX_TEXT {
            return Err(too_long());
        }
    }
    out.push_str(&lossy(&text[end..]));
    Value::text(out)
}
