//! `filter`: records that do not meet a condition go no further.
//!
//! Text conditions look at the bytes of the value as they are, UTF-8 or not; conditions on a field read the value as JSON
//! just far enough to find it. A comparison with a field that is not there, or is of another type, does not hold
//! (`not_equals` neither, while `not = { ... }` turns any answer around). Numbers are compared exactly when both are
//! integers, however large, and as 64-bit floats otherwise.
//!
//! Nothing is copied: what passes is the record as it came.

use std::cmp::Ordering;

use memchr::memmem::Finder;

pub use super::number::Number;
use crate::json::{self, Malformed, Path, Value};

/// A condition on one record.
#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    /// The value contains these bytes.
    Contains(Needle),
    /// The value matches.
    Regex(Pattern),
    Field(Path, Test),
    All(Vec<Condition>),
    Any(Vec<Condition>),
    Not(Box<Condition>),
}

/// What is asked of a JSON field.
#[derive(Clone, Debug, PartialEq)]
pub enum Test {
    /// It is there; null is there.
    Exists,
    Equals(Scalar),
    NotEquals(Scalar),
    Above(Number),
    AtLeast(Number),
    Below(Number),
    AtMost(Number),
    /// Its text (a string without its quotes, anything else as it stands) contains these bytes.
    Contains(Needle),
    /// Its text matches.
    Regex(Pattern),
}

/// What a field can be equal to.
#[derive(Clone, Debug, PartialEq)]
pub enum Scalar {
    Bool(bool),
    Number(Number),
    Text(String),
}

/// Bytes to look for, with the search prepared. Boxed: it is some hundred bytes, most conditions are few.
#[derive(Clone, Debug)]
pub struct Needle(Box<Finder<'static>>);

/// A regular expression over bytes. Its memory is bounded; the search is linear in the value.
#[derive(Clone, Debug)]
pub struct Pattern(regex::bytes::Regex);

/// What one compiled expression, and its lazily built automaton, may take.
const PATTERN_BYTES: usize = 256 * 1024;

impl Condition {
    #[inline(always)]
    pub fn holds(&self, value: &[u8]) -> Result<bool, Malformed> {
        match self {
            Condition::Contains(needle) => Ok(needle.is_in(value)),
            Condition::Regex(pattern) => Ok(pattern.is_in(value)),
            _ => self.weighed(value),
        }
    }

    /// All that is more than a search: apart, so that a search pays nothing for it.
    #[inline(never)]
    fn weighed(&self, value: &[u8]) -> Result<bool, Malformed> {
        match self {
            Condition::Contains(_) | Condition::Regex(_) => self.holds(value),
            Condition::Field(path, test) => Ok(json::find(value, path)?.is_some_and(|found| test.holds(found))),
            Condition::All(conditions) => {
                for condition in conditions {
                    if !condition.holds(value)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Condition::Any(conditions) => {
                for condition in conditions {
                    if condition.holds(value)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Condition::Not(condition) => condition.holds(value).map(|holds| !holds),
        }
    }
}

impl Test {
    fn holds(&self, found: Value<'_>) -> bool {
        match self {
            Test::Exists => true,
            Test::Equals(scalar) => scalar.is(found) == Some(true),
            Test::NotEquals(scalar) => scalar.is(found) == Some(false),
            Test::Above(n) => order_of(*n, found).is_some_and(Ordering::is_gt),
            Test::AtLeast(n) => order_of(*n, found).is_some_and(Ordering::is_ge),
            Test::Below(n) => order_of(*n, found).is_some_and(Ordering::is_lt),
            Test::AtMost(n) => order_of(*n, found).is_some_and(Ordering::is_le),
            Test::Contains(needle) => with_text(found, |text| needle.is_in(text)),
            Test::Regex(pattern) => with_text(found, |text| pattern.is_in(text)),
        }
    }
}

fn with_text(found: Value<'_>, test: impl Fn(&[u8]) -> bool) -> bool {
    match found {
        Value::Null => false,
        Value::Bool(b) => test(if b { b"true" } else { b"false" }),
        Value::Number(digits) => test(digits.as_bytes()),
        Value::String(raw) => test(&json::unescape(raw)),
        Value::Nested(raw) => test(raw),
    }
}

impl Scalar {
    /// Whether the field is this; None when it is of another type, so that neither equal nor unequal holds.
    fn is(&self, found: Value<'_>) -> Option<bool> {
        match (self, found) {
            (Scalar::Bool(a), Value::Bool(b)) => Some(*a == b),
            (Scalar::Number(n), Value::Number(_)) => order_of(*n, found).map(Ordering::is_eq),
            (Scalar::Text(text), Value::String(raw)) => Some(json::key_is(raw, text)),
            _ => None,
        }
    }
}

/// How the field stands to a number; None: it is none.
fn order_of(number: Number, found: Value<'_>) -> Option<Ordering> {
    let Value::Number(digits) = found else { return None };
    // Digits that are too large for a float are infinite.
    let found = Number::of(digits).or_else(|| digits.parse().ok().map(Number::Float))?;
    Some(found.order(number))
}

impl Needle {
    pub fn new(bytes: &[u8]) -> Self {
        Self(Box::new(Finder::new(bytes).into_owned()))
    }

    #[inline]
    fn is_in(&self, bytes: &[u8]) -> bool {
        self.0.find(bytes).is_some()
    }
}

impl PartialEq for Needle {
    fn eq(&self, other: &Self) -> bool {
        self.0.needle() == other.0.needle()
    }
}

impl Pattern {
    pub fn new(text: &str) -> Result<Self, regex::Error> {
        regex::bytes::RegexBuilder::new(text).size_limit(PATTERN_BYTES).dfa_size_limit(PATTERN_BYTES).build().map(Self)
    }
}

impl Pattern {
    /// The end of the first match is found as fast as that there is one, and with fewer copies on the way.
    #[inline]
    fn is_in(&self, bytes: &[u8]) -> bool {
        self.0.shortest_match(bytes).is_some()
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn field(path: &str, test: Test) -> Condition {
        Condition::Field(Path::parse(path).unwrap(), test)
    }

    fn holds(condition: &Condition, value: &str) -> bool {
        condition.holds(value.as_bytes()).unwrap()
    }

    #[test]
    fn integers_are_compared_to_the_last_digit() {
        let equal = field("n", Test::Equals(Scalar::Number(Number::Int(9_007_199_254_740_993))));
        assert!(holds(&equal, r#"{"n":9007199254740993}"#));
        assert!(!holds(&equal, r#"{"n":9007199254740992}"#));
        let above = field("n", Test::Above(Number::Int(18_446_744_073_709_551_614)));
        assert!(holds(&above, r#"{"n":18446744073709551615}"#));
        assert!(holds(&above, r#"{"n":1e20}"#));
    }

    #[test]
    fn another_type_is_neither_equal_nor_unequal() {
        for test in [Test::Equals(Scalar::Number(Number::Int(1))), Test::NotEquals(Scalar::Number(Number::Int(2)))] {
            assert!(holds(&field("n", test.clone()), r#"{"n":1}"#));
            for other in [r#"{"n":"1"}"#, r#"{"n":null}"#, r#"{"m":1}"#, "[]", "7"] {
                assert!(!holds(&field("n", test.clone()), other), "{other}");
            }
        }
    }

    #[test]
    fn strings_are_compared_without_their_escapes() {
        assert!(holds(&field("s", Test::Equals(Scalar::Text("a\"é".into()))), r#"{"s":"a\"\u00e9"}"#));
        assert!(holds(&field("s", Test::Contains(Needle::new("é".as_bytes()))), r#"{"s":"a\u00e9"}"#));
        assert!(holds(&field("s", Test::Regex(Pattern::new("^a.$").unwrap())), r#"{"s":"a\u00e9"}"#));
    }

    #[test]
    fn null_exists_and_compares_with_nothing() {
        assert!(holds(&field("s", Test::Exists), r#"{"s":null}"#));
        assert!(!holds(&field("s", Test::Contains(Needle::new(b"null"))), r#"{"s":null}"#));
    }

    #[test]
    fn malformed_json_is_an_error_only_where_a_field_is_asked_for() {
        let text = Condition::Contains(Needle::new(b"err"));
        assert_eq!(text.holds(b"{err"), Ok(true));
        let both = Condition::All(vec![text, field("a", Test::Exists)]);
        assert!(both.holds(b"{err").is_err());
        assert_eq!(both.holds(b"{ok"), Ok(false));
    }

    #[test]
    fn text_conditions_take_bytes_that_are_not_utf_8() {
        assert_eq!(Condition::Contains(Needle::new(b"x")).holds(b"\xffx"), Ok(true));
        assert_eq!(Condition::Regex(Pattern::new("x$").unwrap()).holds(b"\xffx"), Ok(true));
    }

    #[test]
    fn expressions_that_would_take_much_memory_are_refused() {
        assert!(Pattern::new(r"(\w{100}){100}").is_err());
    }

    proptest! {
        #[test]
        fn comparisons_agree_with_arithmetic(field_value: i64, bound: i64) {
            let json = format!("{{\"v\":{field_value}}}");
            let n = Number::Int(bound.into());
            prop_assert_eq!(holds(&field("v", Test::Above(n)), &json), field_value > bound);
            prop_assert_eq!(holds(&field("v", Test::AtLeast(n)), &json), field_value >= bound);
            prop_assert_eq!(holds(&field("v", Test::Below(n)), &json), field_value < bound);
            prop_assert_eq!(holds(&field("v", Test::AtMost(n)), &json), field_value <= bound);
            prop_assert_eq!(holds(&field("v", Test::Equals(Scalar::Number(n))), &json), field_value == bound);
        }

        #[test]
        fn a_condition_and_its_negation_never_agree(value in "[a-c]{0,8}", needle in "[a-c]{1,3}") {
            let contains = Condition::Contains(Needle::new(needle.as_bytes()));
            let not = Condition::Not(Box::new(contains.clone()));
            prop_assert_eq!(holds(&contains, &value), value.contains(&needle));
            prop_assert_ne!(holds(&contains, &value), holds(&not, &value));
            prop_assert!(holds(&Condition::Any(vec![contains.clone(), not.clone()]), &value));
            prop_assert!(!holds(&Condition::All(vec![contains, not]), &value));
        }
    }
}
