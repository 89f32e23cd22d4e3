//! `sql`: rules as PostgreSQL writes them, one record at a time.
//!
//! ```sql
//! SELECT device, celsius * 1.8 + 32 AS f FROM temperature WHERE celsius > 30 AND device LIKE 'boiler-%'
//! ```
//!
//! A query is parsed ([`parse`]), checked ([`check`]) and compiled once to a [`plan`]; each record is walked once for the
//! fields that the plan needs ([`walk`]) and evaluated ([`eval`]). Where `WHERE` holds, what is selected becomes the record's
//! new value, a JSON object; `SELECT *` alone leaves the record as it is.
//!
//! **Fields** are the members of the record's value, by their names as they are written: upper and lower case count, in
//! quotes or not. `a.b` is the member `b` of the object `a`. A field has the type that its JSON spells: an integer of 64 bits is
//! `bigint`, another number `numeric` (exact up to 37 digits, beyond them `double precision`), a string `text`, `true` and `false`
//! `boolean`, an object or array `jsonb`. Missing and null are both NULL; a field that is selected as it is stays the bytes
//! that it was, its null stays null, and what is missing stays missing.
//!
//! **Beside the value**: `_key`, `_topic`, `_node`, `_source`, `_time` (event time), `_admitted` (NULL while the clock is not
//! trusted), `_value` (all of the value as JSON), `attribute('mqtt.1')`, `label('kind')`. A member of such a name stands in
//! double quotes.
//!
//! **What is PostgreSQL's**: operators and what binds how tightly, three-valued logic, integer division, the scales of
//! numerics, rounding, casts, what is out of range, the text of every type, text compared byte by byte (collation C). A
//! differential test holds it against the real one. **What is not**:
//!
//! - integers are `bigint`; `integer` and `smallint` are casts that check the range. `1 + 1` does not overflow at 32 bits;
//! - `numeric` has 37 digits; roots, powers, logarithms and angles of numerics are doubles;
//! - doubles have the fewest digits that read back as the same, where PostgreSQL at times has one more; the last digit of
//!   `cbrt`, angles, `exp`, logarithms and powers is the C library's, which has it from the processor at times;
//! - a text in quotes beside a field is read as the type that the field has in that record; `CAST(field AS jsonb)` is the field's
//!   own JSON, `CAST(CAST(field AS text) AS jsonb)` what its text spells;
//! - `SELECT x` of a missing field leaves the member out; an operand is evaluated from left to right, constants first;
//! - years 1 to 9999; no infinite times, no `time` type, no arrays, no `real`; the session's zone is UTC, and `AT TIME ZONE`
//!   knows the machine's zones by their full names (no `CET` of PostgreSQL's own list), each a constant;
//! - JSON keeps its bytes, like `json`, under either name; of two members of one name the first counts; it is not compared;
//! - a regular expression is one of the `regex` crate: no back references, no look-around, the first alternative wins; patterns
//!   (of `LIKE` too) are constants;
//! - `decode` gives text, `encode` takes it; `numeric` has no NaN;
//! - `to_char` is for times; `jsonb_path_query_first` takes names and places;
//! - nothing depends on the moment or on chance: `now()` and `random()` are refused.
//!
//! A constant that fails is refused when the query is compiled, but in an arm of `CASE` or behind `COALESCE`, `AND` and `OR` it
//! fails for the records that come to it.
//!
//! **Why a parser of its own**, and not the crate `sqlparser` (Apache-2.0): it reads every dialect there is, in 1.3 MB of code beside
//! an 8 MiB budget for the whole program; its tree does not say of each part by which byte it stands, and every error here does; and
//! most of that tree would have to be refused again, form by form. What stands here ([`token`], [`ast`], [`parse`]) is the subset that
//! is checked and no more.
//!
//! What groups records (`GROUP BY`, aggregates, joins) is refused as of a later version. Constants are computed when the query is
//! compiled, so that `1/0` is an error then, with its place, as is a name or type that cannot be.

mod ast;
mod calls;
mod cast;
mod check;
mod compute;
mod cursor;
mod datetime;
mod decimal;
mod eval;
mod forms;
mod functions;
mod jsons;
mod like;
mod math;
mod parse;
mod plan;
mod text;
mod times;
mod token;
mod value;
mod walk;
mod zone;

use std::fmt;
use std::sync::Arc;

use eval::{Row, eval, truth};
use plan::{Expr, Output, Plan};
pub use value::{EvalError, Kind};
use walk::{Range, Walk, copy_members};

use crate::json::key_is;
use crate::record::RecordRef;
use crate::template::Context;
use crate::time::WallTime;
use crate::zone::{Find, no_names};

/// Bytes of a query.
pub const MAX_QUERY: usize = 16 * 1024;

/// A compiled query. Clones share the plan; two with the same text are equal.
#[derive(Clone)]
pub struct Query {
    text: Arc<str>,
    plan: Arc<Plan>,
}

impl PartialEq for Query {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl fmt::Debug for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Query({:?})", self.text)
    }
}

/// Why a text is no query, and where: lines and columns count from 1, columns in characters.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}{}", hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default())]
pub struct SqlError {
    pub line: usize,
    pub column: usize,
    pub message: String,
    pub hint: Option<String>,
}

/// As [`SqlError`], by the byte where it is.
#[derive(Debug)]
pub(crate) struct Fault {
    at: usize,
    message: String,
    hint: Option<String>,
}

impl Fault {
    fn new(at: usize, message: impl Into<String>) -> Self {
        Self { at, message: message.into(), hint: None }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    fn placed(self, text: &str) -> SqlError {
        let before = text.get(..self.at).unwrap_or(text);
        let line = before.rsplit('\n').next().unwrap_or("");
        SqlError {
            line: before.matches('\n').count() + 1,
            column: line.chars().count() + 1,
            message: self.message,
            hint: self.hint,
        }
    }
}

/// What a query may read of one record.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    pub context: &'a Context<'a>,
    pub record: RecordRef<'a>,
    /// When the record was admitted; None while the clock is not trusted.
    pub admitted: Option<WallTime>,
}

/// Memory that a query uses again from record to record.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    places: Vec<Range>,
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// `WHERE` did not hold (or was NULL).
    Dropped,
    /// `SELECT *`: the record stays as it is.
    Same,
    /// The new value was appended.
    Value,
}

impl Query {
    /// Without names of time zones.
    pub fn compile(text: &str) -> Result<Query, SqlError> {
        Self::compile_with(text, &no_names)
    }

    /// `zones` finds what the machine's database has of a time zone.
    pub fn compile_with(text: &str, zones: Find<'_>) -> Result<Query, SqlError> {
        if text.len() > MAX_QUERY {
            let what = format!("a query has at most {MAX_QUERY} bytes, this one {}", text.len());
            return Err(Fault::new(0, what).placed(text));
        }
        let checked = parse::parse(text).and_then(|select| check::check(select, zones));
        let plan = checked.map_err(|fault| fault.placed(text))?;
        Ok(Query { text: text.into(), plan: Arc::new(plan) })
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// The topic that it reads.
    pub fn from(&self) -> &str {
        &self.plan.from
    }

    /// `_source` or `_admitted`, if it asks for one: a sink's rules know neither.
    pub fn only_before_ring(&self) -> Option<&'static str> {
        self.plan.only_before_ring
    }

    /// Labels that it speaks of.
    pub fn labels(&self) -> impl Iterator<Item = &str> {
        self.plan.labels.iter().map(String::as_str)
    }

    /// Evaluates the query for one record; appends to `out` only where the outcome is [`Outcome::Value`].
    ///
    /// The value is read as far as fields are needed: malformed JSON behind them is not seen. A value that is no JSON
    /// object has no fields.
    pub fn apply(&self, input: &Input<'_>, scratch: &mut Scratch, out: &mut Vec<u8>) -> Result<Outcome, EvalError> {
        let start = out.len();
        let outcome = self.evaluate(input, scratch, out);
        if !matches!(outcome, Ok(Outcome::Value)) {
            out.truncate(start);
        }
        outcome
    }

    fn evaluate(&self, input: &Input<'_>, scratch: &mut Scratch, out: &mut Vec<u8>) -> Result<Outcome, EvalError> {
        let plan = &*self.plan;
        scratch.places.clear();
        scratch.places.resize(plan.slots.len(), None);
        let mut walk = Walk::new(input.record.value);
        if let Some(condition) = &plan.condition {
            walk.fill(&plan.slots, plan.for_condition, &mut scratch.places)?;
            if truth(condition, &row(input, &scratch.places))? != Some(true) {
                return Ok(Outcome::Dropped);
            }
        }
        let Output::Members { all, members } = &plan.output else {
            return Ok(Outcome::Same);
        };
        walk.fill(&plan.slots, plan.slots.len(), &mut scratch.places)?;
        let row = row(input, &scratch.places);
        out.push(b'{');
        let begin = out.len();
        if *all {
            let named = |key: &[u8]| members.iter().any(|member| key_is(key, &member.name));
            if !copy_members(input.record.value, named, out)? {
                return Err(EvalError::new(Kind::Malformed, "`*` is for JSON objects, the value is none"));
            }
        }
        for member in members {
            let raw = match &member.value {
                // A field as it is: what is missing stays missing.
                Expr::Column(slot) => match row.field(*slot) {
                    Some(raw) => Some(raw),
                    None => continue,
                },
                _ => None,
            };
            if out.len() > begin {
                out.push(b',');
            }
            out.extend_from_slice(&member.key);
            match raw {
                Some(raw) => out.extend_from_slice(raw),
                None => eval(&member.value, &row)?.write_json(out),
            }
        }
        out.push(b'}');
        Ok(Outcome::Value)
    }
}

fn row<'a>(input: &'a Input<'a>, places: &'a [Range]) -> Row<'a> {
    Row { context: Some(input.context), record: input.record, admitted: input.admitted, places }
}

#[cfg(test)]
mod tests;
