//! Writing what was parsed as a JSON object, member by member, each of its type.
//!
//! Text stays text unless a type is asked for. A number is the digits that were read, put into JSON's grammar (`+007`
//! becomes `7`, `.5` becomes `0.5`) and never through a float. A text that stands for "no value" leaves its field out:
//! missing is not null and not zero. A name that comes twice fails the record: a reader of the object would see
//! either, and nobody could say which.

use crate::json::{self, Scanner};
use crate::rules::failed::Failed;

/// Members that one text may give.
pub const MAX_MEMBERS: usize = 256;

/// What a text is to become.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Type {
    #[default]
    Text,
    /// Digits of any number, with or without a sign.
    Int,
    /// Any decimal number, with or without an exponent.
    Float,
    /// true, yes, on, 1 and their opposites.
    Bool,
    /// A number or boolean if it is one by JSON's grammar, else text.
    Auto,
}

impl Type {
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "text" => Type::Text,
            "int" => Type::Int,
            "float" => Type::Float,
            "bool" => Type::Bool,
            "auto" => Type::Auto,
            _ => return None,
        })
    }

    pub const fn what(self) -> &'static str {
        match self {
            Type::Int => "is not an integer",
            Type::Float => "is not a number",
            Type::Bool => "is neither true nor false",
            Type::Text | Type::Auto => "is not text",
        }
    }

    /// Appends `text` as this type; false, nothing appended: it is not of this type.
    pub fn write(self, text: &[u8], out: &mut Vec<u8>) -> bool {
        match self {
            Type::Text => json::write_string(text, out),
            Type::Int => return write_number(text, false, out),
            Type::Float => return write_number(text, true, out),
            Type::Bool => match text.to_ascii_lowercase().as_slice() {
                b"true" | b"t" | b"yes" | b"y" | b"on" | b"1" => out.extend_from_slice(b"true"),
                b"false" | b"f" | b"no" | b"n" | b"off" | b"0" => out.extend_from_slice(b"false"),
                _ => return false,
            },
            Type::Auto if is_scalar(text) => out.extend_from_slice(text),
            Type::Auto => json::write_string(text, out),
        }
        true
    }
}

/// A number, true or false as JSON has them.
fn is_scalar(text: &[u8]) -> bool {
    let mut scan = Scanner::new(text);
    let starts = matches!(text.first(), Some(b'-' | b'0'..=b'9' | b't' | b'f'));
    starts && scan.value(0).is_ok() && scan.at() == text.len()
}

fn digits(text: &[u8]) -> (&[u8], &[u8]) {
    text.split_at(text.iter().position(|b| !b.is_ascii_digit()).unwrap_or(text.len()))
}

/// Appends a number in JSON's grammar with all the digits it came with.
fn write_number(text: &[u8], float: bool, out: &mut Vec<u8>) -> bool {
    let (negative, text) = match text.split_first() {
        Some((b'-', rest)) => (true, rest),
        Some((b'+', rest)) => (false, rest),
        _ => (false, text),
    };
    let (whole, rest) = digits(text);
    let (fraction, rest) = match rest.split_first() {
        Some((b'.', rest)) if float => digits(rest),
        _ => (&[][..], rest),
    };
    let exponent = match rest.split_first() {
        None => None,
        Some((b'e' | b'E', exponent)) if float => {
            let unsigned = exponent.strip_prefix(b"-").or(exponent.strip_prefix(b"+")).unwrap_or(exponent);
            if unsigned.is_empty() || !unsigned.iter().all(u8::is_ascii_digit) {
                return false;
            }
            Some(exponent)
        }
        Some(_) => return false,
    };
    if whole.is_empty() && fraction.is_empty() {
        return false;
    }
    let zeros = whole.iter().take_while(|b| **b == b'0').count();
    let whole = &whole[zeros..];
    if negative && (float || !whole.is_empty()) {
        out.push(b'-');
    }
    out.extend_from_slice(if whole.is_empty() { b"0" } else { whole });
    if !fraction.is_empty() {
        out.push(b'.');
        out.extend_from_slice(fraction);
    }
    if let Some(exponent) = exponent {
        out.push(b'e');
        out.extend_from_slice(exponent);
    }
    true
}

/// What the columns of a format are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Types {
    pub columns: Vec<(String, Type)>,
    /// Columns that are not named.
    pub others: Type,
    /// Texts that stand for no value, like `-` or `NAN`.
    pub missing: Vec<String>,
}

impl Types {
    pub fn of(&self, name: &[u8]) -> Type {
        self.columns.iter().find(|(n, _)| n.as_bytes() == name).map_or(self.others, |(_, t)| *t)
    }

    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    pub fn misses(&self, text: &[u8]) -> bool {
        self.missing.iter().any(|m| m.as_bytes() == text)
    }
}

/// An object being written. Dropped without [`Members::end`], it leaves an unfinished one behind.
pub struct Members<'m> {
    out: &'m mut Vec<u8>,
    types: &'m Types,
    /// Where the names stand in `out`.
    names: [u32; MAX_MEMBERS],
    count: usize,
}

impl<'m> Members<'m> {
    pub fn begin(out: &'m mut Vec<u8>, types: &'m Types) -> Self {
        out.push(b'{');
        Self { out, types, names: [0; MAX_MEMBERS], count: 0 }
    }

    pub fn end(self) {
        self.out.push(b'}');
    }

    /// Writes a name; whoever asks appends exactly one JSON value to what this gives.
    pub fn value(&mut self, name: &[u8]) -> Result<&mut Vec<u8>, Failed> {
        if self.count == MAX_MEMBERS {
            return Err(Failed::because("more than 256 fields"));
        }
        if self.count > 0 {
            self.out.push(b',');
        }
        let at = self.out.len();
        json::write_string(name, self.out);
        self.out.push(b':');
        let (before, written) = self.out.split_at(at);
        if self.names[..self.count].iter().any(|n| before[*n as usize..].starts_with(written)) {
            return Err(Failed::field(name, "comes twice"));
        }
        self.names[self.count] = u32::try_from(at).map_err(|_| Failed::because("more than 4 GiB"))?;
        self.count += 1;
        Ok(self.out)
    }

    /// A member of a type that the format knows.
    pub fn of(&mut self, name: &[u8], kind: Type, text: &[u8]) -> Result<(), Failed> {
        let out = self.value(name)?;
        if kind.write(text, out) { Ok(()) } else { Err(Failed::field(name, kind.what())) }
    }

    pub fn text(&mut self, name: &str, text: &[u8]) -> Result<(), Failed> {
        self.of(name.as_bytes(), Type::Text, text)
    }

    /// As [`Members::text`], left out when there is none.
    pub fn text_if(&mut self, name: &str, text: Option<&str>) -> Result<(), Failed> {
        text.map_or(Ok(()), |text| self.text(name, text.as_bytes()))
    }

    /// A member of the type that was asked for. What stands for no value is left out, and so is an empty text that
    /// should have been something else.
    pub fn column(&mut self, name: &[u8], text: &[u8]) -> Result<(), Failed> {
        self.column_of(name, self.types.of(name), text)
    }

    pub fn column_of(&mut self, name: &[u8], kind: Type, text: &[u8]) -> Result<(), Failed> {
        if self.types.misses(text) || (text.is_empty() && !matches!(kind, Type::Text | Type::Auto)) {
            return Ok(());
        }
        self.of(name, kind, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn write(kind: Type, text: &str) -> Option<String> {
        let mut out = Vec::new();
        kind.write(text.as_bytes(), &mut out).then(|| String::from_utf8(out).unwrap())
    }

    #[test]
    fn numbers_keep_their_digits_and_take_on_the_grammar_of_json() {
        let int = |text| write(Type::Int, text);
        assert_eq!(int("18446744073709551615").as_deref(), Some("18446744073709551615"));
        assert_eq!(int("+007").as_deref(), Some("7"));
        assert_eq!(int("-0").as_deref(), Some("0"));
        assert_eq!(int("-12").as_deref(), Some("-12"));
        for bad in ["", "-", "1.0", "1e3", "0x10", "1 ", " 1", "--1", "\u{0661}"] {
            assert_eq!(int(bad), None, "{bad}");
        }
        let float = |text| write(Type::Float, text);
        for (text, written) in [
            ("00.10", "0.10"),
            (".5", "0.5"),
            ("-.5", "-0.5"),
            ("5.", "5"),
            ("1E+05", "1e+05"),
            ("-0.0", "-0.0"),
            ("0.1234567890123456789", "0.1234567890123456789"),
        ] {
            assert_eq!(float(text).as_deref(), Some(written));
        }
        for bad in ["", ".", "-.", "NaN", "inf", "1e", "1e+", "1,5", "1.2.3"] {
            assert_eq!(float(bad), None, "{bad}");
        }
    }

    #[test]
    fn auto_takes_what_json_takes_and_nothing_else() {
        for scalar in ["1", "-0.5e3", "true", "false", "18446744073709551615"] {
            assert_eq!(write(Type::Auto, scalar).as_deref(), Some(scalar));
        }
        for text in ["007", "null", "+1", "1x", "", "[1]", "truely", "1 "] {
            assert_eq!(write(Type::Auto, text), Some(format!("\"{text}\"")));
        }
    }

    #[test]
    fn a_name_that_comes_twice_fails_and_so_does_one_too_many() {
        let types = Types::default();
        let mut out = Vec::new();
        let mut members = Members::begin(&mut out, &types);
        members.text("a", b"1").unwrap();
        members.text("ab", b"1").unwrap();
        assert_eq!(members.text("a", b"2").unwrap_err().to_string(), "field `a` comes twice");
        let mut out = Vec::new();
        let mut members = Members::begin(&mut out, &types);
        for i in 0..MAX_MEMBERS {
            members.text(&i.to_string(), b"").unwrap();
        }
        assert!(members.text("x", b"").is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_as_a_number_is_that_number(text in "[+-]?[0-9]{0,20}(\\.[0-9]{0,20})?(e[+-]?[0-9]{1,2})?") {
            match write(Type::Float, &text) {
                Some(written) => {
                    prop_assert_eq!(written.parse::<f64>().unwrap(), text.parse::<f64>().unwrap());
                    prop_assert!(is_scalar(written.as_bytes()), "{written}");
                }
                None => prop_assert!(text.parse::<f64>().is_err(), "{text}"),
            }
        }

        #[test]
        fn what_is_written_as_an_integer_is_that_integer(n: i128, plus: bool, zeros in 0usize..4) {
            let sign = if n < 0 { "-" } else if plus { "+" } else { "" };
            let text = format!("{sign}{}{}", "0".repeat(zeros), n.unsigned_abs());
            prop_assert_eq!(write(Type::Int, &text), Some(n.to_string()));
        }
    }
}
