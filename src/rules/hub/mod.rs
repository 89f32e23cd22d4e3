//! What is on the Fluvio Hub, without its WebAssembly: the public SmartModules that make sense on a gateway, by their
//! names there and with their parameters, so that the `transforms:` of a Fluvio connector carry over. Same input, same
//! output, byte for byte, as the version named here.
//!
//! | name on the Hub | as of | parameters | what it makes of a value |
//! |---|---|---|---|
//! | `infinyon/regex-filter` | 0.2 | `regex` | passes it if the expression matches somewhere in it |
//! | `infinyon-labs/regex-map`, `fluvio/regex-text` | 0.1.1, 0.1.0 | `spec` | text with everything replaced that matches |
//! | `infinyon-labs/regex-map-json`, `fluvio/regex-json` | 0.1.2, 0.1.0 | `spec` | JSON with parts of fields captured or replaced |
//! | `infinyon/jolt` | 0.4.1 | `spec` | JSON of another shape |
//! | `infinyon/json-sql` | 0.2.1 | `mapping` | an insert or upsert for Fluvio's SQL sink |
//! | `infinyon-labs/array-map-json`, `fluvio/array-map-json` | 0.2, 0.1.0 | | each item of a JSON array as a record |
//! | `infinyon-labs/json-formatter`, `fluvio/json-formatter` | 0.1.3, 0.1.0 | `spec` | JSON with a formatted text added |
//! | `infinyon-labs/key-gen-json`, `fluvio/key-gen-json` | 0.1.x, 0.1.0 | `spec` | JSON with a SHA-256 of some fields added |
//! | `fluvio/casing-json` | 0.1.0 | `spec` | JSON with its keys in another case |
//!
//! A name is read with or without its group and its version: `jolt`, `infinyon/jolt`, `infinyon/jolt@0.4.1`. The version
//! is not compared with anything; only `jolt` looks at it: from `@0.3` on it does what the module does, without a version
//! what the Hub's page says, where the two differ ([`Dialect`]). A record's key stays, except that the items of an array
//! have none. A `lookback` has no effect on any of these, here as there.
//!
//! As in the original, JSON comes out without white space, its members sorted by key (`jolt`: in their order), its
//! numbers as `serde_json` reads and writes them (`1.50` becomes `1.5`, and the last of seventeen digits can be another),
//! and the last of two members with one key counts.
//!
//! Different on purpose, everywhere: an expression may take [`PATTERN_BYTES`] (there 10 MB) and knows no tables of
//! scripts and ages (`\p{Greek}`); a result is at most [`MAX_RECORD`] bytes long; a parameter or a key of a spec that
//! the original would ignore is an error. What makes the original stop its whole stream is a [`Failure`] of one record
//! here. `json-sql` writes columns by name (there: in the order of a hash map).
//!
//! Not here: `dedup-filter`, which keeps state, is the rule `dedup`; [`ELSEWHERE`] names those that no gateway needs.

pub mod array_map_json;
pub mod casing_json;
pub mod jolt;
pub mod json_formatter;
pub mod json_sql;
pub mod key_gen_json;
pub mod regex_filter;
pub mod regex_json;
pub mod regex_text;
mod spec;
mod tree;

use regex::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};

use self::jolt::path::Dialect;
use self::spec::With;
use crate::limits::MAX_RECORD;
use crate::name::nearest;

/// What one compiled expression, and its lazily built automaton, may take.
pub const PATTERN_BYTES: usize = 256 * 1024;

/// One of them, with its parameters checked.
#[derive(Clone, Debug, PartialEq)]
pub enum Module {
    RegexFilter(regex_filter::RegexFilter),
    RegexText(regex_text::RegexText),
    RegexJson(regex_json::RegexJson),
    Jolt(jolt::Jolt),
    JsonSql(json_sql::JsonSql),
    ArrayMapJson(array_map_json::ArrayMapJson),
    JsonFormatter(json_formatter::JsonFormatter),
    KeyGenJson(key_gen_json::KeyGenJson),
    CasingJson(casing_json::CasingJson),
}

/// What became of a record's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    Pass,
    Drop,
    /// Another value, in `out`. The key stays.
    Value,
    /// Each of the values given to `emit`, perhaps none, without a key.
    Many,
}

/// Why a record's value could not be worked on. The original would stop.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    #[error("the value is not UTF-8")]
    NotText,
    #[error("the value is not JSON: {0}")]
    NotJson(String),
    #[error("the value is JSON but no array")]
    NoArray,
    #[error("the value has no `{0}`, which is required")]
    Missing(String),
    #[error("{0}")]
    Jolt(jolt::Jolted),
    #[error("the result would be longer than {MAX_RECORD} bytes")]
    TooLong,
    #[error("the result would be nested too deep to be read again")]
    TooDeep,
}

/// Why an entry of `transforms` cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("no bundled rule is named `{uses}`{hint}")]
    Unknown { uses: String, hint: String },
    #[error("`{0}` keeps state: use the rule `dedup` instead")]
    Dedup(String),
    #[error("`{0}` is on the Hub but not bundled: give its `.wasm` file instead")]
    Elsewhere(String),
    /// `place` is the parameter and where in it.
    #[error("{module}: `{place}`: {why}")]
    Parameter { module: &'static str, place: String, why: String },
}

/// Groups that publish what is bundled.
const GROUPS: [&str; 3] = ["infinyon", "infinyon-labs", "fluvio"];

/// Names, without their groups.
pub const NAMES: [&str; 11] = [
    "regex-filter",
    "regex-map",
    "regex-text",
    "regex-map-json",
    "regex-json",
    "jolt",
    "json-sql",
    "array-map-json",
    "json-formatter",
    "key-gen-json",
    "casing-json",
];

/// Public ones that are not bundled: feeds, files and chains of the web, and a language of its own (`jaq`).
pub const ELSEWHERE: [&str; 8] = [
    "rss-json",
    "csv-json",
    "csv-json-array",
    "csv-json-records",
    "parquet-json-records",
    "solana-balance-calculator",
    "stars-forks-changes",
    "jaq",
];

/// Whether it is, in whatever spelling, one that [`from_transform`] knows.
pub fn is_bundled(uses: &str) -> bool {
    Named::read(uses).is_some_and(|named| NAMES.contains(&named.name))
}

/// The rule for one entry of a connector's `transforms:`. `with` is as it stands there: a value that is no text is
/// what the module would get as JSON.
pub fn from_transform(uses: &str, with: &[(String, serde_json::Value)]) -> Result<Module, Error> {
    let named = Named::read(uses);
    let Some(Named { name, version }) = named.filter(|named| NAMES.contains(&named.name)) else {
        return Err(not_bundled(uses));
    };
    let with = |module, known| With::new(module, with, known);
    Ok(match name {
        "regex-filter" => {
            Module::RegexFilter(regex_filter::RegexFilter::from_with(&with("regex-filter", &["regex"])?)?)
        }
        "regex-map" | "regex-text" => Module::RegexText(regex_text::RegexText::from_with(&with("regex-text", SPEC)?)?),
        "regex-map-json" | "regex-json" => {
            Module::RegexJson(regex_json::RegexJson::from_with(&with("regex-json", SPEC)?)?)
        }
        "jolt" => {
            let with = with("jolt", SPEC)?;
            let jolt = jolt::Jolt::new(&with.text("spec")?, dialect(version));
            Module::Jolt(jolt.map_err(|e| with.bad(e.place, e.why))?)
        }
        "json-sql" => Module::JsonSql(json_sql::JsonSql::from_with(&with("json-sql", &["mapping"])?)?),
        // Published with a parameter that it does not read.
        "array-map-json" => with("array-map-json", &["input"]).map(|_| Module::ArrayMapJson(Default::default()))?,
        "json-formatter" => {
            Module::JsonFormatter(json_formatter::JsonFormatter::from_with(&with("json-formatter", SPEC)?)?)
        }
        "key-gen-json" => Module::KeyGenJson(key_gen_json::KeyGenJson::from_with(&with("key-gen-json", SPEC)?)?),
        _ => Module::CasingJson(casing_json::CasingJson::from_with(&with("casing-json", SPEC)?)?),
    })
}

const SPEC: &[&str] = &["spec"];

impl Module {
    /// `out` is scratch, cleared first; `emit` gets the values of [`Made::Many`].
    pub fn apply(&self, value: &[u8], out: &mut Vec<u8>, emit: &mut dyn FnMut(&[u8])) -> Result<Made, Failure> {
        out.clear();
        match self {
            Module::RegexFilter(rule) => {
                return rule.matches(value).map(|matches| if matches { Made::Pass } else { Made::Drop });
            }
            Module::ArrayMapJson(rule) => return rule.apply(value, out, emit).map(|()| Made::Many),
            Module::RegexText(rule) => rule.apply(value, out)?,
            Module::RegexJson(rule) => rule.apply(value, out)?,
            Module::Jolt(rule) => rule.apply(value, out)?,
            Module::JsonSql(rule) => rule.apply(value, out)?,
            Module::JsonFormatter(rule) => rule.apply(value, out)?,
            Module::KeyGenJson(rule) => rule.apply(value, out)?,
            Module::CasingJson(rule) => rule.apply(value, out)?,
        }
        Ok(Made::Value)
    }
}

/// `uses` in its parts.
struct Named<'u> {
    name: &'u str,
    version: Option<&'u str>,
}

impl<'u> Named<'u> {
    /// None: of a group that publishes nothing of this.
    fn read(uses: &'u str) -> Option<Self> {
        let (path, version) = uses.split_once('@').map_or((uses, None), |(path, version)| (path, Some(version)));
        let name = match path.split_once('/') {
            Some((group, name)) => GROUPS.contains(&group).then_some(name)?,
            None => path,
        };
        Some(Self { name, version })
    }
}

/// The name in `uses`, without a group and a version.
pub fn name_of(uses: &str) -> &str {
    let path = uses.split('@').next().unwrap_or(uses);
    path.rsplit('/').next().unwrap_or(path)
}

/// What to use instead of one that is on the Hub and not bundled.
pub fn elsewhere(uses: &str) -> Option<Error> {
    match Named::read(uses)?.name {
        "dedup-filter" => Some(Error::Dedup(uses.into())),
        name if ELSEWHERE.contains(&name) => Some(Error::Elsewhere(uses.into())),
        _ => None,
    }
}

fn not_bundled(uses: &str) -> Error {
    if let Some(error) = elsewhere(uses) {
        return error;
    }
    let name = name_of(uses);
    let hint = match nearest(name, NAMES) {
        Some(near) if near == name => format!("; bundled is `{near}` of {}", GROUPS.join(", ")),
        Some(near) => format!("; did you mean `{near}`?"),
        None => format!("; there are {}", NAMES.join(", ")),
    };
    Error::Unknown { uses: uses.into(), hint }
}

/// 0.3 is where the module left its page. A version that says nothing is none.
fn dialect(version: Option<&str>) -> Dialect {
    let mut numbers = version.unwrap_or_default().split('.').map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(0)), Some(Ok(minor))) if minor >= 3 => Dialect::Module,
        (Some(Ok(major)), _) if major >= 1 => Dialect::Module,
        _ => Dialect::Page,
    }
}

/// A regular expression over text. Two with the same text are equal.
#[derive(Clone, Debug)]
struct Pattern(Regex);

impl Pattern {
    fn new(text: &str) -> Result<Self, regex::Error> {
        RegexBuilder::new(text).size_limit(PATTERN_BYTES).dfa_size_limit(PATTERN_BYTES).build().map(Self)
    }

    /// Appends `text` with every match replaced by `with`, in which `$1` or `${name}` is a group and `$$` a dollar.
    fn replace_all(&self, text: &str, with: &str, out: &mut String) -> Result<(), Failure> {
        let mut at = 0;
        let mut replace = |start: usize, end: usize, out: &mut String| {
            out.push_str(&text[at..start]);
            at = end;
        };
        if with.contains('$') {
            for captures in self.0.captures_iter(text) {
                let whole = captures.get_match();
                replace(whole.start(), whole.end(), out);
                captures.expand(with, out);
                bounded(out.len())?;
            }
        } else {
            for found in self.0.find_iter(text) {
                replace(found.start(), found.end(), out);
                out.push_str(with);
                bounded(out.len())?;
            }
        }
        out.push_str(&text[at..]);
        bounded(out.len())
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

fn text(value: &[u8]) -> Result<&str, Failure> {
    std::str::from_utf8(value).map_err(|_| Failure::NotText)
}

fn parse<'v, T: Deserialize<'v>>(value: &'v [u8]) -> Result<T, Failure> {
    serde_json::from_slice(value).map_err(|e| Failure::NotJson(e.to_string()))
}

/// Appends JSON; what is in `out` may be a record's value.
fn write<T: Serialize + ?Sized>(json: &T, out: &mut Vec<u8>) -> Result<(), Failure> {
    serde_json::to_writer(&mut *out, json).map_err(|_| Failure::TooLong)?;
    bounded(out.len())
}

fn bounded(bytes: usize) -> Result<(), Failure> {
    if bytes > MAX_RECORD { Err(Failure::TooLong) } else { Ok(()) }
}

/// A field as text: a string without its quotes, anything else as JSON.
fn field_text(value: &serde_json::Value) -> std::borrow::Cow<'_, str> {
    match value {
        serde_json::Value::String(text) => text.as_str().into(),
        other => other.to_string().into(),
    }
}

#[cfg(test)]
mod tests;
