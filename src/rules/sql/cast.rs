//! `CAST`: from one type to another, and what cannot be.

use super::ast::{Limit, Target};
use super::datetime::{self, DAY, Interval};
use super::decimal::Decimal;
use super::value::{EvalError, Kind, Result, Type, Value, json_text};
use crate::json::Scanner;

/// Whether a cast of these types can succeed at all.
pub fn is_allowed(from: Type, to: Type) -> bool {
    use Type::{Any, Bool, Date, Float, Int, Json, Numeric, Text, Timestamp, Timestamptz, Unknown};
    let anything = matches!(from, Unknown | Any | Text) || to == Text;
    anything
        || match from {
            Int => matches!(to, Int | Numeric | Float | Bool),
            Numeric | Float => matches!(to, Int | Numeric | Float),
            Bool => matches!(to, Int | Bool),
            Date | Timestamp | Timestamptz => matches!(to, Date | Timestamp | Timestamptz),
            Json => matches!(to, Json | Int | Numeric | Float | Bool),
            other => other == to,
        }
}

fn no_cast(from: Type, to: Type) -> EvalError {
    EvalError::new(Kind::WrongType, format!("{} cannot be cast to {}", from.name(), to.name()))
}

fn bad_text(text: &str, to: Type) -> EvalError {
    let shown: String = text.chars().take(40).collect();
    EvalError::new(Kind::BadText, format!("`{shown}` is no {}", to.name()))
}

fn range(to: &str) -> EvalError {
    EvalError::new(Kind::OutOfRange, format!("{to} out of range"))
}

pub fn cast<'a>(value: Value<'a>, target: Target) -> Result<Value<'a>> {
    let cast = match target.to {
        Type::Any | Type::Unknown => value,
        _ if value.is_null() => Value::Null,
        Type::Bool => to_bool(value)?,
        Type::Int => to_int(value)?,
        Type::Numeric => to_numeric(value)?,
        Type::Float => to_float(value)?,
        Type::Text => Value::Text(value.into_text()),
        Type::Json => to_json(value)?,
        Type::Date | Type::Timestamp | Type::Timestamptz => to_time(value, target.to)?,
        Type::Interval => match value {
            Value::Text(text) => Value::Interval(Interval::parse(&text)?),
            Value::Interval(i) => Value::Interval(i),
            other => return Err(no_cast(other.type_of(), Type::Interval)),
        },
    };
    limited(cast, target.limit)
}

fn limited(value: Value<'_>, limit: Limit) -> Result<Value<'_>> {
    match (limit, value) {
        (Limit::Bits(bits), Value::Int(n)) => {
            let least = -(1i64 << (bits - 1));
            if n < least || n > -(least + 1) {
                return Err(range(if bits == 16 { "smallint" } else { "integer" }));
            }
            Ok(Value::Int(n))
        }
        (Limit::Digits(digits, scale), Value::Numeric(n)) => {
            let rounded = n.round(scale.into())?;
            // 10^(digits - scale), the first that has too many before the point.
            let most = Decimal::parse(&format!("1e{}", digits - scale)).ok_or_else(|| range("numeric"));
            let fits = digits - scale >= super::decimal::MAX_DIGITS || rounded.abs().compare(most?).is_lt();
            if fits { Ok(Value::Numeric(rounded)) } else { Err(range("numeric")) }
        }
        (Limit::Chars(most), Value::Text(text)) => match text.char_indices().nth(most) {
            Some((end, _)) => Ok(Value::Text(text[..end].to_owned().into())),
            None => Ok(Value::Text(text)),
        },
        (_, value) => Ok(value),
    }
}

/// Of JSON, what it is itself.
fn scalar(raw: &[u8], to: Type) -> Result<Value<'_>> {
    match Value::of_json(raw)? {
        Value::Json(_) | Value::Text(_) => Err(no_cast(Type::Json, to)),
        // As PostgreSQL: JSON's null is none of the types.
        Value::Null => Err(no_cast(Type::Json, to)),
        value => Ok(value),
    }
}

fn to_bool(value: Value<'_>) -> Result<Value<'_>> {
    let value = if let Value::Json(raw) = &value { scalar(raw, Type::Bool)?.into_owned() } else { value };
    match value {
        Value::Bool(b) => Ok(Value::Bool(b)),
        Value::Int(n) => Ok(Value::Bool(n != 0)),
        Value::Text(text) => {
            let word = text.trim().to_ascii_lowercase();
            let spells = |whole: &str, least: usize| word.len() >= least && whole.starts_with(&word);
            if spells("true", 1) || spells("yes", 1) || spells("on", 2) || word == "1" {
                Ok(Value::Bool(true))
            } else if spells("false", 1) || spells("no", 1) || spells("off", 2) || word == "0" {
                Ok(Value::Bool(false))
            } else {
                Err(bad_text(&text, Type::Bool))
            }
        }
        other => Err(no_cast(other.type_of(), Type::Bool)),
    }
}

fn to_int(value: Value<'_>) -> Result<Value<'_>> {
    let value = if let Value::Json(raw) = &value { scalar(raw, Type::Int)?.into_owned() } else { value };
    let int = match value {
        Value::Int(n) => Some(n),
        Value::Bool(b) => Some(i64::from(b)),
        Value::Numeric(n) => n.to_i64(),
        Value::Float(f) => {
            let rounded = f.round_ties_even();
            let fits = (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&rounded);
            fits.then_some(rounded as i64)
        }
        Value::Text(text) => {
            let digits = text.trim_matches(|c: char| c.is_ascii_whitespace());
            let bare = digits.strip_prefix(['+', '-']).unwrap_or(digits);
            if bare.is_empty() || !bare.bytes().all(|b| b.is_ascii_digit()) {
                return Err(bad_text(&text, Type::Int));
            }
            digits.parse().ok()
        }
        other => return Err(no_cast(other.type_of(), Type::Int)),
    };
    int.map(Value::Int).ok_or_else(|| range("bigint"))
}

fn to_numeric(value: Value<'_>) -> Result<Value<'_>> {
    let value = if let Value::Json(raw) = &value { scalar(raw, Type::Numeric)?.into_owned() } else { value };
    let number = match value {
        Value::Numeric(n) => Some(n),
        Value::Int(n) => Some(Decimal::from_int(n)),
        Value::Float(f) => Decimal::from_f64(f),
        Value::Text(text) => {
            let digits = text.trim_matches(|c: char| c.is_ascii_whitespace());
            let number = digits.bytes().any(|b| b.is_ascii_digit()) && digits.parse::<f64>().is_ok();
            if !number {
                return Err(bad_text(&text, Type::Numeric));
            }
            Decimal::parse(digits)
        }
        other => return Err(no_cast(other.type_of(), Type::Numeric)),
    };
    number.map(Value::Numeric).ok_or_else(|| range("numeric"))
}

fn to_float(value: Value<'_>) -> Result<Value<'_>> {
    let value = if let Value::Json(raw) = &value { scalar(raw, Type::Float)?.into_owned() } else { value };
    Ok(Value::Float(match value {
        Value::Float(f) => f,
        Value::Int(n) => n as f64,
        Value::Numeric(n) => n.to_f64(),
        Value::Text(text) => {
            let digits = text.trim_matches(|c: char| c.is_ascii_whitespace());
            let parsed: f64 = digits.parse().map_err(|_| bad_text(&text, Type::Float))?;
            let numeral = digits.bytes().any(|b| b.is_ascii_digit());
            let nonzero = digits.bytes().take_while(|b| !matches!(b, b'e' | b'E')).any(|b| (b'1'..=b'9').contains(&b));
            if numeral && (parsed.is_infinite() || (parsed == 0.0 && nonzero)) {
                return Err(range("double precision"));
            }
            parsed
        }
        other => return Err(no_cast(other.type_of(), Type::Float)),
    }))
}

fn to_json(value: Value<'_>) -> Result<Value<'_>> {
    match value {
        Value::Json(raw) => Ok(Value::Json(raw)),
        Value::Text(text) => {
            let wrong = |_| bad_text(&text, Type::Json);
            let mut scanner = Scanner::new(text.as_bytes());
            scanner.space();
            let raw = scanner.value(0).map_err(wrong)?.to_vec();
            scanner.end().map_err(wrong)?;
            Ok(Value::Json(raw.into()))
        }
        // A field: its JSON is what it was.
        other => {
            let mut raw = Vec::new();
            other.write_json(&mut raw);
            Ok(Value::Json(raw.into()))
        }
    }
}

fn to_time(value: Value<'_>, to: Type) -> Result<Value<'_>> {
    Ok(match (to, value) {
        (Type::Date, Value::Text(text)) => Value::Date(datetime::parse_date(&text)?),
        (Type::Timestamp, Value::Text(text)) => Value::Timestamp(datetime::parse_timestamp(&text)?),
        (Type::Timestamptz, Value::Text(text)) => Value::Timestamptz(datetime::parse_timestamptz(&text)?),
        (Type::Date, Value::Date(d)) => Value::Date(d),
        (Type::Date, Value::Timestamp(t) | Value::Timestamptz(t)) => Value::Date(t.div_euclid(DAY) as i32),
        (Type::Timestamp, Value::Date(d)) => Value::Timestamp(i64::from(d) * DAY),
        (Type::Timestamptz, Value::Date(d)) => Value::Timestamptz(i64::from(d) * DAY),
        (Type::Timestamp, Value::Timestamp(t) | Value::Timestamptz(t)) => Value::Timestamp(t),
        (Type::Timestamptz, Value::Timestamp(t) | Value::Timestamptz(t)) => Value::Timestamptz(t),
        (to, other) => return Err(no_cast(other.type_of(), to)),
    })
}

/// The text of JSON as `->>` gives it: a string without its quotes, null as NULL, anything else as it stands.
pub fn text_of_json(raw: std::borrow::Cow<'_, [u8]>) -> Value<'_> {
    use std::borrow::Cow;
    match raw.first() {
        None | Some(b'n') => Value::Null,
        Some(b'"') => match raw {
            Cow::Borrowed(raw) => Value::Text(json_text(raw)),
            Cow::Owned(raw) => Value::Text(Cow::Owned(json_text(&raw).into_owned())),
        },
        Some(_) => Value::Text(match raw {
            Cow::Borrowed(raw) => String::from_utf8_lossy(raw),
            Cow::Owned(raw) => Cow::Owned(String::from_utf8_lossy(&raw).into_owned()),
        }),
    }
}
