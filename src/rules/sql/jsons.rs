//! Functions of JSON: reaching into it and building it. It is read as it stands, never as a tree, and keeps its bytes.

use std::borrow::Cow;

use super::cast::text_of_json;
use super::functions::Function;
use super::value::{EvalError, Kind, MAX_TEXT, Result, Value, json_text, too_long};
use super::walk::member_of;
use crate::json::{self, Scanner};

type Raw<'a> = Cow<'a, [u8]>;

fn cut(raw: Raw<'_>, range: (usize, usize)) -> Raw<'_> {
    match raw {
        Cow::Borrowed(raw) => Cow::Borrowed(&raw[range.0..range.1]),
        Cow::Owned(raw) => Cow::Owned(raw[range.0..range.1].to_vec()),
    }
}

/// The member of an object by its name.
fn member<'a>(raw: Raw<'a>, name: &str) -> Result<Option<Raw<'a>>> {
    let found = member_of(&raw, name)?;
    Ok(found.map(|(from, to)| cut(raw, (from as usize, to as usize))))
}

/// Where the elements of an array stand, one after the other.
fn elements(raw: &[u8], mut each: impl FnMut(usize, usize) -> bool) -> Result<()> {
    let mut scanner = Scanner::new(raw);
    scanner.space();
    if scanner.peek() != Some(b'[') {
        return Ok(());
    }
    scanner.open(b'[')?;
    if scanner.closes(b']') {
        return Ok(());
    }
    loop {
        scanner.space();
        let start = scanner.at();
        scanner.value(1)?;
        if !each(start, scanner.at()) || !scanner.more(b']')? {
            return Ok(());
        }
    }
}

fn count(raw: &[u8]) -> Result<i64> {
    let mut n = 0;
    elements(raw, |_, _| {
        n += 1;
        true
    })?;
    Ok(n)
}

/// The element of an array by its place, from 0; below zero from the end.
fn element(raw: Raw<'_>, index: i64) -> Result<Option<Raw<'_>>> {
    let index = if index < 0 { count(&raw)?.saturating_add(index) } else { index };
    let (mut n, mut found) = (0, None);
    elements(&raw, |from, to| {
        if n == index {
            found = Some((from, to));
        }
        n += 1;
        found.is_none()
    })?;
    Ok(found.map(|range| cut(raw, range)))
}

/// `->` and `->>` with a name or a place.
pub fn arrow<'a>(raw: Raw<'a>, key: &Value<'a>) -> Result<Option<Raw<'a>>> {
    match key {
        Value::Int(n) => element(raw, *n),
        Value::Text(name) => member(raw, name),
        other => {
            let what = format!("`->` takes a name or a place, this is {}", other.type_of().name());
            Err(EvalError::new(Kind::WrongType, what))
        }
    }
}

/// One step of a path: an array takes a number, an object any name.
fn step<'a>(raw: Raw<'a>, name: &str) -> Result<Option<Raw<'a>>> {
    if raw.first() == Some(&b'[') {
        return match name.trim().parse() {
            Ok(index) => element(raw, index),
            Err(_) => Ok(None),
        };
    }
    member(raw, name)
}

/// Follows `{a,b,0}`.
pub fn path<'a>(raw: Raw<'a>, path: &str) -> Result<Option<Raw<'a>>> {
    let wrong = || EvalError::new(Kind::BadText, format!("`{path}` is no path: write '{{a,b,0}}'"));
    let inner = path.trim().strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).ok_or_else(wrong)?;
    let mut here = Some(raw);
    if inner.trim().is_empty() {
        return Ok(here);
    }
    for name in inner.split(',') {
        let name = name.trim();
        let name = match name.strip_prefix('"') {
            Some(rest) => rest.strip_suffix('"').ok_or_else(wrong)?,
            None if name.is_empty() => return Err(wrong()),
            None => name,
        };
        let Some(raw) = here else { return Ok(None) };
        here = step(raw, name)?;
    }
    Ok(here)
}

/// `$.a.b[0]`, `$."a b"`: names and places only.
pub fn json_path<'a>(raw: Raw<'a>, path: &str) -> Result<Option<Raw<'a>>> {
    let wrong = || {
        let what = format!("`{path}` is not a path of this version: names and places only, as $.a.b[0]");
        EvalError::new(Kind::BadArgument, what)
    };
    let mut rest = path.trim().strip_prefix('$').ok_or_else(wrong)?;
    let mut here = Some(raw);
    while !rest.is_empty() {
        let Some(raw) = here else { return Ok(None) };
        if let Some(after) = rest.strip_prefix('[') {
            let (index, after) = after.split_once(']').ok_or_else(wrong)?;
            let index: u32 = index.trim().parse().map_err(|_| wrong())?;
            // Without an array, the value is its own first element.
            let single = raw.first() != Some(&b'[') && index == 0;
            here = if single { Some(raw) } else { element(raw, index.into())? };
            rest = after;
            continue;
        }
        let after = rest.strip_prefix('.').ok_or_else(wrong)?;
        let (name, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').ok_or_else(wrong)?,
            None => after.split_at(after.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(after.len())),
        };
        if name.is_empty() {
            return Err(wrong());
        }
        here = member(raw, name)?;
        rest = after;
    }
    Ok(here)
}

pub fn type_name(raw: &[u8]) -> &'static str {
    match raw.first() {
        Some(b'{') => "object",
        Some(b'[') => "array",
        Some(b'"') => "string",
        Some(b't' | b'f') => "boolean",
        None | Some(b'n') => "null",
        Some(_) => "number",
    }
}

/// Functions whose first argument is JSON.
pub fn call<'a>(function: Function, raw: Raw<'a>, argument: &Value<'a>) -> Result<Value<'a>> {
    let json = |found: Option<Raw<'a>>| found.map_or(Value::Null, Value::Json);
    let text = |found: Option<Raw<'a>>| found.map_or(Value::Null, text_of_json);
    let name = if let Value::Text(name) = argument { name.as_ref() } else { "" };
    Ok(match function {
        Function::Arrow => json(arrow(raw, argument)?),
        Function::ArrowText => text(arrow(raw, argument)?),
        Function::Path => json(path(raw, name)?),
        Function::PathText => text(path(raw, name)?),
        Function::JsonPath => json(json_path(raw, name)?),
        Function::JsonType => Value::Text(Cow::Borrowed(type_name(&raw))),
        Function::JsonLength => {
            if raw.first() != Some(&b'[') {
                return Err(EvalError::new(Kind::BadArgument, "cannot get array length of what is no array"));
            }
            Value::Int(count(&raw)?)
        }
        _ => Value::Null,
    })
}

/// `jsonb_extract_path` with its names one by one.
pub fn extract_path<'a>(raw: Raw<'a>, names: &[Value<'a>]) -> Result<Option<Raw<'a>>> {
    let mut here = Some(raw);
    for name in names {
        let (Some(raw), Value::Text(name)) = (here, name) else {
            return Ok(None);
        };
        here = step(raw, name)?;
    }
    Ok(here)
}

/// `{name: value, ...}` of names and values in turn.
pub fn object<'a>(arguments: &[Value<'a>]) -> Result<Value<'a>> {
    let mut out = vec![b'{'];
    for pair in arguments.chunks(2) {
        let [name, value] = pair else { break };
        if out.len() > 1 {
            out.push(b',');
        }
        let name = match name {
            Value::Null => {
                return Err(EvalError::new(Kind::BadArgument, "a member's name must not be null"));
            }
            Value::Json(raw) if raw.first() == Some(&b'"') => json_text(raw),
            other => other.borrow().into_text(),
        };
        json::write_string(name.as_bytes(), &mut out);
        out.push(b':');
        value.write_json(&mut out);
        check_length(&out)?;
    }
    out.push(b'}');
    Ok(Value::Json(out.into()))
}

pub fn array<'a>(arguments: &[Value<'a>]) -> Result<Value<'a>> {
    let mut out = vec![b'['];
    for value in arguments {
        if out.len() > 1 {
            out.push(b',');
        }
        value.write_json(&mut out);
        check_length(&out)?;
    }
    out.push(b']');
    Ok(Value::Json(out.into()))
}

fn check_length(out: &[u8]) -> Result<()> {
    if out.len() > MAX_TEXT { Err(too_long()) } else { Ok(()) }
}
