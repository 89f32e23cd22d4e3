//! Values while a query is evaluated, how they are written, and what can go wrong with them.
//!
//! Text and JSON are borrowed from the record or the query as long as nothing changes them. As text, values look as
//! PostgreSQL casts them to text; as JSON, as its `to_jsonb` has them: times as ISO 8601, numbers with all their digits.

use std::borrow::Cow;

use super::datetime::{self, Interval};
use super::decimal::Decimal;
use crate::json;
use crate::limits::MAX_RECORD;

/// Bytes that a text can grow to.
pub const MAX_TEXT: usize = 2 * MAX_RECORD;

/// Types that an expression can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// A quoted text or NULL that takes its type from what stands beside it.
    Unknown,
    /// A field of the record: known only with the record.
    Any,
    Bool,
    Int,
    Numeric,
    Float,
    Text,
    Json,
    Date,
    /// Without a zone.
    Timestamp,
    /// A moment: shown in UTC.
    Timestamptz,
    Interval,
}

impl Type {
    /// PostgreSQL's name of it.
    pub fn name(self) -> &'static str {
        match self {
            Type::Unknown => "unknown",
            Type::Any => "a field",
            Type::Bool => "boolean",
            Type::Int => "bigint",
            Type::Numeric => "numeric",
            Type::Float => "double precision",
            Type::Text => "text",
            Type::Json => "jsonb",
            Type::Date => "date",
            Type::Timestamp => "timestamp",
            Type::Timestamptz => "timestamptz",
            Type::Interval => "interval",
        }
    }

    pub fn is_number(self) -> bool {
        matches!(self, Type::Int | Type::Numeric | Type::Float)
    }

    pub fn is_time(self) -> bool {
        matches!(self, Type::Date | Type::Timestamp | Type::Timestamptz)
    }
}

#[derive(Clone, Debug)]
pub enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Numeric(Decimal),
    Float(f64),
    Text(Cow<'a, str>),
    /// JSON as it stands.
    Json(Cow<'a, [u8]>),
    /// Days since 1970-01-01.
    Date(i32),
    /// Microseconds since 1970-01-01 00:00:00.
    Timestamp(i64),
    /// Microseconds since 1970-01-01 00:00:00 UTC.
    Timestamptz(i64),
    Interval(Interval),
}

/// What a failure is, by what PostgreSQL calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The record's value is not JSON.
    Malformed,
    OutOfRange,
    DivisionByZero,
    /// Text that does not spell a value of the type it is cast to.
    BadText,
    BadTime,
    TimeOutOfRange,
    /// An argument that the function does not take.
    BadArgument,
    /// A value of a type that the operator or function does not take.
    WrongType,
    TooLong,
}

impl Kind {
    /// The SQLSTATE that PostgreSQL gives (or the class of it, where several come together here).
    pub fn sqlstate(self) -> &'static str {
        match self {
            Kind::Malformed | Kind::BadText => "22P02",
            Kind::OutOfRange => "22003",
            Kind::DivisionByZero => "22012",
            Kind::BadTime => "22007",
            Kind::TimeOutOfRange => "22008",
            Kind::BadArgument => "22023",
            Kind::WrongType => "42883",
            Kind::TooLong => "54000",
        }
    }
}

/// Why a query has no result for one record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct EvalError {
    pub kind: Kind,
    pub message: String,
}

impl EvalError {
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

impl From<json::Malformed> for EvalError {
    fn from(malformed: json::Malformed) -> Self {
        Self::new(Kind::Malformed, malformed.to_string())
    }
}

pub type Result<T> = std::result::Result<T, EvalError>;

impl<'a> Value<'a> {
    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }

    /// The same value, borrowing its text.
    pub fn borrow(&self) -> Value<'_> {
        match self {
            Value::Null => Value::Null,
            Value::Bool(b) => Value::Bool(*b),
            Value::Int(n) => Value::Int(*n),
            Value::Numeric(n) => Value::Numeric(*n),
            Value::Float(f) => Value::Float(*f),
            Value::Text(text) => Value::Text(Cow::Borrowed(text)),
            Value::Json(raw) => Value::Json(Cow::Borrowed(raw)),
            Value::Date(d) => Value::Date(*d),
            Value::Timestamp(t) => Value::Timestamp(*t),
            Value::Timestamptz(t) => Value::Timestamptz(*t),
            Value::Interval(i) => Value::Interval(*i),
        }
    }

    /// The same value with text of its own.
    pub fn into_owned(self) -> Value<'static> {
        match self {
            Value::Null => Value::Null,
            Value::Bool(b) => Value::Bool(b),
            Value::Int(n) => Value::Int(n),
            Value::Numeric(n) => Value::Numeric(n),
            Value::Float(f) => Value::Float(f),
            Value::Text(text) => Value::Text(Cow::Owned(text.into_owned())),
            Value::Json(raw) => Value::Json(Cow::Owned(raw.into_owned())),
            Value::Date(d) => Value::Date(d),
            Value::Timestamp(t) => Value::Timestamp(t),
            Value::Timestamptz(t) => Value::Timestamptz(t),
            Value::Interval(i) => Value::Interval(i),
        }
    }

    pub fn type_of(&self) -> Type {
        match self {
            Value::Null => Type::Unknown,
            Value::Bool(_) => Type::Bool,
            Value::Int(_) => Type::Int,
            Value::Numeric(_) => Type::Numeric,
            Value::Float(_) => Type::Float,
            Value::Text(_) => Type::Text,
            Value::Json(_) => Type::Json,
            Value::Date(_) => Type::Date,
            Value::Timestamp(_) => Type::Timestamp,
            Value::Timestamptz(_) => Type::Timestamptz,
            Value::Interval(_) => Type::Interval,
        }
    }

    /// A text that was made, if it is not too long.
    pub fn text(text: String) -> Result<Value<'static>> {
        if text.len() > MAX_TEXT { Err(too_long()) } else { Ok(Value::Text(Cow::Owned(text))) }
    }

    /// What stands in a record, as the type that its JSON spells: integers of 64 bits, other numbers exact up to 37 digits
    /// and as doubles beyond.
    pub fn of_json(raw: &'a [u8]) -> Result<Value<'a>> {
        Ok(match raw.first() {
            None | Some(b'n') => Value::Null,
            Some(b't') => Value::Bool(true),
            Some(b'f') => Value::Bool(false),
            Some(b'"') => Value::Text(json_text(raw)),
            Some(b'{' | b'[') => Value::Json(Cow::Borrowed(raw)),
            Some(_) => return number(raw),
        })
    }

    /// Appends it as PostgreSQL casts it to text; NULL is nothing.
    pub fn write_text(&self, out: &mut String) {
        use std::fmt::Write;
        match self {
            Value::Null => {}
            Value::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
            Value::Int(n) => _ = write!(out, "{n}"),
            Value::Numeric(n) => n.write(out),
            Value::Float(f) => write_float(*f, out),
            Value::Text(text) => out.push_str(text),
            Value::Json(raw) => out.push_str(&String::from_utf8_lossy(raw)),
            Value::Date(d) => datetime::write_date(*d, out),
            Value::Timestamp(t) => datetime::write_timestamp(*t, b' ', out),
            Value::Timestamptz(t) => {
                datetime::write_timestamp(*t, b' ', out);
                out.push_str("+00");
            }
            Value::Interval(i) => i.write(out),
        }
    }

    /// As text; a text is passed on.
    pub fn into_text(self) -> Cow<'a, str> {
        if let Value::Text(text) = self {
            return text;
        }
        let mut out = String::new();
        self.write_text(&mut out);
        Cow::Owned(out)
    }

    /// Appends it as JSON.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        use std::fmt::Write;
        let mut text = String::new();
        match self {
            Value::Null => return out.extend_from_slice(b"null"),
            Value::Json(raw) => return out.extend_from_slice(raw),
            Value::Text(text) => return json::write_string(text.as_bytes(), out),
            Value::Int(n) => {
                let _ = write!(Bytes(out), "{n}");
                return;
            }
            Value::Numeric(n) => return n.write(&mut Bytes(out)),
            Value::Timestamp(t) => datetime::write_timestamp(*t, b'T', &mut text),
            Value::Timestamptz(t) => {
                datetime::write_timestamp(*t, b'T', &mut text);
                text.push_str("+00:00");
            }
            other => other.write_text(&mut text),
        }
        let bare = match self {
            Value::Bool(_) => true,
            Value::Float(f) => f.is_finite(),
            _ => false,
        };
        if bare {
            out.extend_from_slice(text.as_bytes());
        } else {
            json::write_string(text.as_bytes(), out);
        }
    }
}

/// Bytes that are written to as text.
struct Bytes<'o>(&'o mut Vec<u8>);

impl std::fmt::Write for Bytes<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

pub fn too_long() -> EvalError {
    EvalError::new(Kind::TooLong, format!("the text would be longer than {MAX_TEXT} bytes"))
}

/// The text of a JSON string, quotes included. Bytes that are not UTF-8 become U+FFFD.
pub fn json_text(raw: &[u8]) -> Cow<'_, str> {
    let inner = raw.get(1..raw.len().saturating_sub(1)).unwrap_or_default();
    match json::unescape(inner) {
        Cow::Borrowed(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => Cow::Borrowed(text),
            Err(_) => String::from_utf8_lossy(bytes),
        },
        Cow::Owned(bytes) => Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()),
    }
}

fn number(raw: &[u8]) -> Result<Value<'_>> {
    // What most numbers are, without a detour: up to 18 digits cannot overflow.
    let (sign, magnitude) = if let [b'-', rest @ ..] = raw { (-1, rest) } else { (1, raw) };
    if magnitude.len() <= 18 && magnitude.iter().all(u8::is_ascii_digit) {
        return Ok(Value::Int(sign * magnitude.iter().fold(0, |n, d| n * 10 + i64::from(d - b'0'))));
    }
    let text = std::str::from_utf8(raw).unwrap_or_default();
    let wrong = || EvalError::new(Kind::Malformed, format!("`{text}` is not a number"));
    number_of(text).ok_or_else(wrong)
}

/// The value that the digits of a number spell.
pub fn number_of(text: &str) -> Option<Value<'static>> {
    if let Ok(n) = text.parse::<i64>() {
        return Some(Value::Int(n));
    }
    if let Some(n) = Decimal::parse(text) {
        return Some(Value::Numeric(n));
    }
    text.parse().ok().filter(|f: &f64| f.is_finite()).map(Value::Float)
}

/// The fewest digits that spell it, laid out as PostgreSQL does.
fn write_float(f: f64, out: &mut String) {
    use std::fmt::Write;
    if f.is_nan() {
        return out.push_str("NaN");
    }
    if f.is_infinite() {
        return out.push_str(if f > 0.0 { "Infinity" } else { "-Infinity" });
    }
    let shortest = format!("{f:e}");
    let exponent: i32 = shortest.split_once('e').and_then(|(_, e)| e.parse().ok()).unwrap_or(0);
    if (-4..15).contains(&exponent) {
        _ = write!(out, "{f}");
    } else {
        let mantissa = shortest.split('e').next().unwrap_or("");
        let sign = if exponent < 0 { '-' } else { '+' };
        _ = write!(out, "{mantissa}e{sign}{:02}", exponent.abs());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(raw: &str) -> Value<'_> {
        Value::of_json(raw.as_bytes()).unwrap()
    }

    fn text(value: &Value<'_>) -> String {
        let mut out = String::new();
        value.write_text(&mut out);
        out
    }

    #[test]
    fn a_number_keeps_every_digit() {
        for same in ["0", "-7", "9223372036854775807", "-9223372036854775808", "18446744073709551615", "1.50"] {
            assert_eq!(text(&of(same)), same);
        }
        assert!(matches!(of("9223372036854775807"), Value::Int(i64::MAX)));
        assert!(matches!(of("18446744073709551615"), Value::Numeric(_)));
        assert!(matches!(of("1e300"), Value::Float(_)));
        assert!(Value::of_json(b"1e999").is_err());
    }

    #[test]
    fn doubles_have_the_fewest_digits_and_are_laid_out_as_postgresql_does() {
        let float = |f| text(&Value::Float(f));
        assert_eq!(float(0.1), "0.1");
        assert_eq!(float(100.0), "100");
        assert_eq!(float(-0.0001), "-0.0001");
        assert_eq!(float(0.00001), "1e-05");
        assert_eq!(float(1e15), "1e+15");
        assert_eq!(float(123_456_789_012_345.0), "123456789012345");
        assert_eq!(float(1.5e300), "1.5e+300");
        assert_eq!(float(f64::NAN), "NaN");
    }

    #[test]
    fn json_has_times_as_iso_and_odd_doubles_as_text() {
        let json = |value: Value<'_>| {
            let mut out = Vec::new();
            value.write_json(&mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(json(Value::Timestamptz(1_500_000)), r#""1970-01-01T00:00:01.5+00:00""#);
        assert_eq!(json(Value::Timestamp(0)), r#""1970-01-01T00:00:00""#);
        assert_eq!(json(Value::Float(f64::INFINITY)), r#""Infinity""#);
        assert_eq!(json(Value::Float(1e20)), "1e+20");
        assert_eq!(json(Value::Text("a\"".into())), r#""a\"""#);
        assert_eq!(json(Value::Bool(true)), "true");
    }
}
