//! Numbers of records: integers as they are, however large, everything else as 64-bit floats.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use super::Reason;
use crate::json::{self, Path, Value};

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Number {
    Int(i128),
    Float(f64),
}

impl Number {
    /// Of digits as JSON has them; None: too large for either.
    pub fn of(digits: &str) -> Option<Self> {
        if let Ok(int) = digits.parse() {
            return Some(Self::Int(int));
        }
        digits.parse().ok().filter(|float: &f64| float.is_finite()).map(Self::Float)
    }

    pub fn to_f64(self) -> f64 {
        match self {
            Self::Int(int) => int as f64,
            Self::Float(float) => float,
        }
    }

    /// Exactly where both are integers.
    pub fn order(self, other: Self) -> Ordering {
        match (self, other) {
            (Self::Int(a), Self::Int(b)) => a.cmp(&b),
            (a, b) => a.to_f64().partial_cmp(&b.to_f64()).unwrap_or(Ordering::Equal),
        }
    }

    /// How far they are apart: exactly where both are integers that are not too far apart.
    pub fn distance(self, other: Self) -> f64 {
        match (self, other) {
            (Self::Int(a), Self::Int(b)) => a.abs_diff(b) as f64,
            (a, b) => (a.to_f64() - b.to_f64()).abs(),
        }
    }

    /// As JSON has it: all digits of an integer, as few as tell a float from others.
    pub fn write(self, out: &mut Vec<u8>) {
        let text = match self {
            Self::Int(int) => int.to_string(),
            Self::Float(float) => format!("{float:?}"),
        };
        out.extend_from_slice(text.as_bytes());
    }
}

/// The number in a field, or that the whole value is. Text that holds a number is none.
pub fn number_in(value: &[u8], field: Option<&Path>) -> Result<Number, Reason> {
    let Some(path) = field else {
        let text = std::str::from_utf8(value).ok().map(str::trim_ascii);
        return text.and_then(Number::of).ok_or_else(|| "the value is no number; say which `field` has one".into());
    };
    match json::find(value, path) {
        Ok(Some(Value::Number(digits))) => {
            Number::of(digits).ok_or_else(|| format!("`{path}` is too large: {digits}").into())
        }
        Ok(Some(_)) => Err(format!("`{path}` is no number").into()),
        Ok(None) => Err(format!("there is no field `{path}`").into()),
        Err(error) => Err(error.to_string().into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_keep_every_digit_and_text_is_no_number() {
        let field = Path::parse("a.b").unwrap();
        let of = |value: &str| number_in(value.as_bytes(), Some(&field));
        assert_eq!(of(r#"{"a":{"b":18446744073709551617}}"#), Ok(Number::Int(18_446_744_073_709_551_617)));
        assert_eq!(of(r#"{"a":{"b":-1.5e3}}"#), Ok(Number::Float(-1500.0)));
        assert!(of(r#"{"a":{"b":"1"}}"#).unwrap_err().contains("is no number"));
        assert!(of(r#"{"a":{}}"#).unwrap_err().contains("no field"));
        assert!(of(r#"{"a":{"b":null}}"#).unwrap_err().contains("is no number"));
        assert!(of(r#"{"a":{"b":1e999}}"#).unwrap_err().contains("too large"));
        assert_eq!(number_in(b" 21.50\n", None), Ok(Number::Float(21.5)));
        assert!(number_in(b"NaN", None).is_err() && number_in(b"inf", None).is_err() && number_in(b"", None).is_err());
    }

    #[test]
    fn what_floats_cannot_tell_apart_integers_do() {
        let (a, b) = (Number::Int(1 << 60), Number::Int((1 << 60) + 1));
        assert_eq!((a.order(b), a.distance(b)), (Ordering::Less, 1.0));
        let mut out = Vec::new();
        b.write(&mut out);
        assert_eq!(out, b"1152921504606846977");
        assert_eq!(Number::Int(i128::MIN).distance(Number::Int(i128::MAX)), u128::MAX as f64);
    }
}
