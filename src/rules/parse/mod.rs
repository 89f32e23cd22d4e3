//! `parse`: a text becomes a JSON object.
//!
//! The text is the whole value, or a field of the JSON object that the value is. What was parsed becomes the value, or
//! is set under `into`; parsed from a field, it is merged with the fields that are there, in the field's stead: a name that
//! is taken fails the record, for `into` there is always room. `keep` puts the original text back, under a name beside what
//! was parsed. A text that is not of the format fails the record, with a reason that says what was missed.
//!
//! One file per format; [`members`] has what they share: how names, types and missing values are written.

pub mod access;
pub mod csv;
pub mod grok;
pub mod influx;
pub mod key_value;
pub mod members;
pub mod nmea;
pub mod syslog;

use std::borrow::Cow;

use twox_hash::XxHash3_64;

use super::Answer;
use super::failed::Failed;
use super::rewrite::{Leaf, Plan, PlanError};
use crate::json::{self, Path, Scanner, Value};
use crate::record::RecordRef;
use members::{MAX_MEMBERS, Members, Types};

/// What a text is read as.
#[derive(Clone, Debug, PartialEq)]
pub enum Format {
    /// JSON already: checked, and taken out of the string of a field.
    Json,
    KeyValue(key_value::KeyValue),
    Csv(csv::Csv),
    Grok(grok::Grok),
    /// Apache and nginx, common and combined.
    Access,
    Syslog,
    Nmea(nmea::Nmea),
    Influx,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    pub format: Format,
    /// Parse this field's text instead of the whole value.
    pub field: Option<Path>,
    /// Set what was parsed here instead of merging it.
    pub into: Option<Path>,
    /// The name of the original text beside what was parsed.
    pub keep: Option<String>,
    /// For key-value, CSV and grok; the other formats know their types.
    pub types: Types,
}

impl Options {
    pub fn of(format: Format) -> Self {
        Self { format, field: None, into: None, keep: None, types: Types::default() }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    #[error("{0}")]
    Format(&'static str),
    #[error("`types` and `missing` are for key-value, csv and grok; this format knows its types")]
    Types,
    #[error("`keep` is empty: name the field that is to have the original text")]
    Keep,
    #[error("`field` and `into`: {0}")]
    Paths(#[from] PlanError),
}

/// A checked rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Parse {
    options: Options,
    /// What becomes of the field that is parsed and of `into`; None with neither.
    plan: Option<Plan>,
}

impl Parse {
    pub fn new(options: Options) -> Result<Self, ParseError> {
        match &options.format {
            Format::KeyValue(format) => format.check().map_err(ParseError::Format)?,
            Format::Csv(format) => format.check().map_err(ParseError::Format)?,
            Format::Grok(_) => {}
            _ if !options.types.is_default() => return Err(ParseError::Types),
            _ => {}
        }
        if options.keep.as_deref() == Some("") {
            return Err(ParseError::Keep);
        }
        let mut leaves = Vec::new();
        leaves.extend(options.into.iter().map(|path| (path.clone(), Leaf::Set(0))));
        let replaced = options.field == options.into;
        leaves.extend(options.field.iter().filter(|_| !replaced).map(|path| (path.clone(), Leaf::Drop)));
        let plan = if leaves.is_empty() { None } else { Some(Plan::new(leaves, true)?) };
        Ok(Self { options, plan })
    }

    /// Writes the new value to `out`. `object` is scratch.
    pub fn rewrite(&self, record: &RecordRef<'_>, object: &mut Vec<u8>, out: &mut Vec<u8>) -> Result<Answer, Failed> {
        let text = match &self.options.field {
            None => Cow::Borrowed(record.value),
            Some(path) => field_text(record.value, path)?,
        };
        let Some(plan) = &self.plan else {
            return self.parse(&text, out);
        };
        if self.parse(&text, object)? == Answer::Drop {
            return Ok(Answer::Drop);
        }
        let parsed = if object.is_empty() { text.trim_ascii() } else { object.as_slice() };
        let mut fill = |_: usize, out: &mut Vec<u8>| {
            out.extend_from_slice(parsed);
            true
        };
        let value: &[u8] = if self.options.field.is_some() { record.value } else { b"{}" };
        plan.apply(value, &mut fill, out)?;
        if self.options.into.is_none() {
            merge(out, parsed)?;
        }
        Ok(Answer::Value)
    }

    /// Writes the parsed object. `Pass`, nothing written: the text is it, as it stands.
    fn parse(&self, text: &[u8], out: &mut Vec<u8>) -> Result<Answer, Failed> {
        out.clear();
        let types = &self.options.types;
        let keep = self.options.keep.as_deref();
        if let Format::Json = self.options.format {
            let whole = check_json(text)?;
            if self.options.into.is_none() && whole.first() != Some(&b'{') {
                return Err(Failed::because("JSON, but no object: set `into` to give it a name"));
            }
            let Some(keep) = keep else { return Ok(Answer::Pass) };
            if whole.first() != Some(&b'{') {
                return Err(Failed::because("JSON, but no object that could hold the text to keep"));
            }
            out.extend_from_slice(whole);
            let mut kept = Vec::new();
            let mut member = Members::begin(&mut kept, types);
            member.text(keep, text)?;
            member.end();
            merge(out, &kept)?;
            return Ok(Answer::Value);
        }
        let mut members = Members::begin(out, types);
        match &self.options.format {
            Format::Json => {}
            Format::KeyValue(format) => format.parse(text, &mut members)?,
            Format::Csv(format) => {
                if !format.parse(text, &mut members)? {
                    return Ok(Answer::Drop);
                }
            }
            Format::Grok(format) => format.parse(text, &mut members)?,
            Format::Access => access::parse(text, &mut members)?,
            Format::Syslog => syslog::parse(text, &mut members)?,
            Format::Nmea(format) => format.parse(text, &mut members)?,
            Format::Influx => influx::parse(text, &mut members)?,
        }
        if let Some(keep) = keep {
            members.text(keep, text)?;
        }
        members.end();
        Ok(Answer::Value)
    }
}

fn field_text<'r>(value: &'r [u8], path: &Path) -> Result<Cow<'r, [u8]>, Failed> {
    match json::find(value, path)? {
        Some(Value::String(raw)) => Ok(json::unescape(raw)),
        Some(Value::Number(digits)) => Ok(Cow::Borrowed(digits.as_bytes())),
        Some(_) => Err(Failed::field(path.to_string().as_bytes(), "is not text")),
        None => Err(Failed::field(path.to_string().as_bytes(), "is missing")),
    }
}

/// One JSON value and nothing else, UTF-8, without raw control characters in its strings; gives it without white space
/// around it.
fn check_json(text: &[u8]) -> Result<&[u8], Failed> {
    std::str::from_utf8(text).map_err(|_| Failed::because("not JSON: not UTF-8"))?;
    let mut scan = Scanner::new(text);
    scan.space();
    let value = scan.value(0)?;
    scan.end()?;
    // Only where one stands can it be in a string; most compact JSON has none at all.
    if value.iter().any(|b| *b < 0x20) {
        let mut inside = false;
        let mut escaped = false;
        for b in value {
            if inside && *b < 0x20 {
                return Err(Failed::because("not JSON: a raw control character in a string"));
            }
            inside ^= *b == b'"' && !escaped;
            escaped = *b == b'\\' && !escaped;
        }
    }
    Ok(value)
}

/// Puts the members of `parsed` at the end of the object that `out` ends with.
fn merge(out: &mut Vec<u8>, parsed: &[u8]) -> Result<(), Failed> {
    let mut names = [0u64; MAX_MEMBERS];
    let mut count = 0;
    each_key(parsed, |key| {
        *names.get_mut(count).ok_or(Failed::because("more than 256 fields"))? = name_hash(key);
        count += 1;
        Ok(())
    })?;
    if count == 0 {
        return Ok(());
    }
    let names = &mut names[..count];
    names.sort_unstable();
    let mut taken = 0;
    each_key(out, |key| {
        taken += 1;
        match names.binary_search(&name_hash(key)) {
            Ok(_) => Err(Failed::field(&json::unescape(key), "is there already: set `into`")),
            Err(_) => Ok(()),
        }
    })?;
    out.truncate(out.trim_ascii_end().len());
    out.pop();
    if taken > 0 {
        out.push(b',');
    }
    out.extend_from_slice(&parsed.trim_ascii()[1..]);
    Ok(())
}

fn name_hash(raw: &[u8]) -> u64 {
    XxHash3_64::oneshot(&json::unescape(raw))
}

/// Hands over the raw key of each member of an object.
fn each_key(object: &[u8], mut take: impl FnMut(&[u8]) -> Result<(), Failed>) -> Result<(), Failed> {
    let mut scan = Scanner::new(object);
    scan.space();
    scan.open(b'{')?;
    if scan.closes(b'}') {
        return Ok(());
    }
    loop {
        take(scan.key()?)?;
        scan.value(1)?;
        if !scan.more(b'}')? {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests;
