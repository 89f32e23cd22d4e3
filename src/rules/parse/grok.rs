//! Grok patterns: text with `%{NAME}`, `%{NAME:field}` and `%{NAME:field:type}` in it, compiled to one regular expression.
//!
//! Names stand for the patterns of [`patterns`], or for the user's own, which may use other names. A plain named group
//! `(?<field>...)` gives a field as well. As with grok elsewhere a pattern may match anywhere in the text, unless `^` and
//! `$` say otherwise. Of several patterns the first that matches is taken. A group that took no part leaves its field out.
//!
//! Expressions are over bytes and ASCII (`(?u)` turns Unicode classes on): a fraction of the memory. What one may take is
//! bounded when it is compiled, and the search is linear in the text, whatever the pattern. The usual ones take 20 to 50
//! KB, and up to 400 KB once they are in use.

use super::members::{Members, Type};
use crate::name::nearest;
use crate::rules::failed::Failed;

/// What one compiled pattern may take, and what its lazily built automaton may.
const PROGRAM_BYTES: usize = 1024 * 1024;
const AUTOMATON_BYTES: usize = 256 * 1024;
/// A pattern written out.
const MAX_EXPANDED: usize = 32 * 1024;
/// Names within names.
const MAX_NESTING: usize = 12;
/// Patterns of one rule, and fields of one pattern.
pub const MAX_PATTERNS: usize = 16;
pub const MAX_FIELDS: usize = 64;

/// Begins the names of the groups that stand for fields; what follows is the field's number.
const GROUP: &str = "_f";

#[derive(Clone, Debug, PartialEq)]
pub struct Grok(Vec<Pattern>);

#[derive(Clone, Debug)]
struct Pattern {
    regex: regex::bytes::Regex,
    /// Group, name and type.
    fields: Vec<Field>,
}

#[derive(Clone, Debug, PartialEq)]
struct Field {
    group: usize,
    name: String,
    kind: Option<Type>,
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.regex.as_str() == other.regex.as_str() && self.fields == other.fields
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrokError {
    #[error("`patterns` has 1 to {MAX_PATTERNS} patterns")]
    Count,
    #[error("no pattern is named `{0}`{1}")]
    Unknown(String, String),
    #[error(
        "`%{{{0}}}`: write `%{{NAME}}`, `%{{NAME:field}}` or `%{{NAME:field:type}}` with type text, int, float, bool or auto"
    )]
    Malformed(String),
    #[error("pattern `{0}` contains itself, or names within names more than {MAX_NESTING} deep")]
    Nested(String),
    #[error("a pattern is longer than {MAX_EXPANDED} bytes when written out, or has more than {MAX_FIELDS} fields")]
    TooLong,
    #[error("not a regular expression: {0}")]
    Regex(String),
}

impl Grok {
    /// `own` are the user's patterns by name; they hide bundled ones of the same name.
    pub fn new(texts: &[String], own: &[(String, String)]) -> Result<Self, GrokError> {
        if texts.is_empty() || texts.len() > MAX_PATTERNS {
            return Err(GrokError::Count);
        }
        texts.iter().map(|text| Pattern::new(text, own)).collect::<Result<_, _>>().map(Self)
    }

    pub(super) fn parse(&self, text: &[u8], members: &mut Members<'_>) -> Result<(), Failed> {
        for pattern in &self.0 {
            let Some(found) = pattern.regex.captures(text) else { continue };
            for field in &pattern.fields {
                let Some(part) = found.get(field.group) else { continue };
                match field.kind {
                    Some(kind) => members.column_of(field.name.as_bytes(), kind, part.as_bytes())?,
                    None => members.column(field.name.as_bytes(), part.as_bytes())?,
                }
            }
            return Ok(());
        }
        Err(Failed::because("no pattern matches"))
    }
}

impl Pattern {
    fn new(text: &str, own: &[(String, String)]) -> Result<Self, GrokError> {
        let mut expansion = Expansion { own, out: String::new(), names: Vec::new() };
        expansion.expand(text, 0)?;
        let regex = regex::bytes::RegexBuilder::new(&expansion.out)
            .unicode(false)
            .size_limit(PROGRAM_BYTES)
            .dfa_size_limit(AUTOMATON_BYTES)
            .build()
            .map_err(|e| GrokError::Regex(e.to_string()))?;
        let mut fields = Vec::new();
        for (group, name) in regex.capture_names().enumerate() {
            let Some(name) = name else { continue };
            let numbered = name.strip_prefix(GROUP).and_then(|n| n.parse::<usize>().ok());
            let (name, kind) = match numbered.and_then(|n| expansion.names.get(n)) {
                Some((name, kind)) => (name.clone(), *kind),
                None => (name.to_owned(), None),
            };
            fields.push(Field { group, name, kind });
        }
        if fields.len() > MAX_FIELDS {
            return Err(GrokError::TooLong);
        }
        Ok(Self { regex, fields })
    }
}

/// A pattern being written out.
struct Expansion<'g> {
    own: &'g [(String, String)],
    out: String,
    names: Vec<(String, Option<Type>)>,
}

impl Expansion<'_> {
    fn expand(&mut self, text: &str, depth: usize) -> Result<(), GrokError> {
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("%{") {
            self.push(before)?;
            let (reference, after) = after.split_once('}').ok_or_else(|| GrokError::Malformed(after.into()))?;
            self.reference(reference, depth)?;
            rest = after;
        }
        self.push(rest)
    }

    fn push(&mut self, text: &str) -> Result<(), GrokError> {
        self.out.push_str(text);
        if self.out.len() > MAX_EXPANDED { Err(GrokError::TooLong) } else { Ok(()) }
    }

    fn reference(&mut self, reference: &str, depth: usize) -> Result<(), GrokError> {
        let malformed = || GrokError::Malformed(reference.into());
        let mut parts = reference.split(':');
        let name = parts.next().unwrap_or_default();
        let field = parts.next();
        let kind = parts.next().map(|t| Type::parse(t).ok_or_else(malformed)).transpose()?;
        if name.is_empty() || field == Some("") || parts.next().is_some() {
            return Err(malformed());
        }
        if depth == MAX_NESTING {
            return Err(GrokError::Nested(name.into()));
        }
        let own = self.own.iter().find(|(n, _)| n == name).map(|(_, p)| p.as_str());
        let pattern = own.or_else(|| patterns::find(name)).ok_or_else(|| self.unknown(name))?;
        match field {
            Some(field) => {
                self.push(&format!("(?P<{GROUP}{}>", self.names.len()))?;
                self.names.push((field.to_owned(), kind));
            }
            None => self.push("(?:")?,
        }
        self.expand(pattern, depth + 1)?;
        self.push(")")
    }

    fn unknown(&self, name: &str) -> GrokError {
        let known: Vec<&str> = self.own.iter().map(|(n, _)| n.as_str()).chain(patterns::names()).collect();
        let lower: Vec<String> = known.iter().map(|n| n.to_lowercase()).collect();
        let near = nearest(name, lower.iter().map(String::as_str)).and_then(|n| lower.iter().position(|l| l == n));
        let hint = near.map_or(String::new(), |i| format!("; did you mean `{}`?", known[i]));
        GrokError::Unknown(name.into(), hint)
    }
}

pub mod patterns;

#[cfg(test)]
mod tests;
