//! Reading a schema once: what a value has to be checked for, without the text.
//!
//! Schemas stand in one list and refer to each other by number, so that a reference, backwards or in a circle, is a number
//! like any other. The document's own schema is number 0.

use std::collections::BTreeMap;

use regex::bytes::Regex;

use super::check::canonical;
use super::format::Format;
use super::number::Decimal;
use crate::json::{self, MAX_DEPTH, Malformed, Scanner, Value};

/// Bytes of a document, and schemas in it.
const MAX_TEXT: usize = 256 * 1024;
const MAX_SCHEMAS: usize = 4096;
/// What one compiled expression, and its lazily built automaton, may take; and how many there may be.
const PATTERN_BYTES: usize = 256 * 1024;
const MAX_PATTERNS: usize = 64;

/// Keywords that say nothing about whether a value fits.
const DESCRIBING: [&str; 15] = [
    "$schema",
    "$comment",
    "title",
    "description",
    "default",
    "examples",
    "deprecated",
    "readOnly",
    "writeOnly",
    "contentMediaType",
    "contentEncoding",
    "$vocabulary",
    "example",
    "$defs",
    "definitions",
];

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    #[error("the schema is {0}")]
    Json(#[from] Malformed),
    #[error(
        "the schema is larger than {MAX_TEXT} bytes, or has more than {MAX_SCHEMAS} schemas or {MAX_PATTERNS} patterns"
    )]
    TooLarge,
    #[error("`{at}`: the keyword `{keyword}` is not known here; what it asks for would not be checked")]
    Unknown { at: String, keyword: String },
    #[error("`{at}`: `{keyword}` {what}")]
    Keyword { at: String, keyword: String, what: String },
    #[error("`{at}` is neither an object nor true or false")]
    Shape { at: String },
}

pub type Schemas = Vec<usize>;

#[derive(Debug)]
pub struct Compiled(Vec<Vec<Check>>);

impl Compiled {
    pub fn node(&self, node: usize) -> &[Check] {
        &self.0[node]
    }
}

/// Something that a value is checked for.
#[derive(Debug)]
pub enum Check {
    Never,
    Kinds(Kinds),
    /// In canonical form.
    Enum(Vec<Vec<u8>>),
    Number(Box<Bounds>),
    Text(Box<Text>),
    Members(Box<Members>),
    Elements(Box<Elements>),
    All(Schemas),
    Any(Schemas),
    One(Schemas),
    Not(usize),
    If(usize, Option<usize>, Option<usize>),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kinds(u8);

impl Kinds {
    pub const NULL: Kinds = Kinds(1);
    pub const BOOLEAN: Kinds = Kinds(2);
    pub const INTEGER: Kinds = Kinds(4);
    pub const NUMBER: Kinds = Kinds(8);
    pub const STRING: Kinds = Kinds(16);
    pub const OBJECT: Kinds = Kinds(32);
    pub const ARRAY: Kinds = Kinds(64);

    pub const fn holds(self, other: Kinds) -> bool {
        self.0 & other.0 != 0
    }

    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "null" => Kinds::NULL,
            "boolean" => Kinds::BOOLEAN,
            "integer" => Kinds::INTEGER,
            "number" => Kinds::NUMBER,
            "string" => Kinds::STRING,
            "object" => Kinds::OBJECT,
            "array" => Kinds::ARRAY,
            _ => return None,
        })
    }
}

#[derive(Debug, Default)]
pub struct Bounds {
    pub least: Option<Decimal>,
    pub most: Option<Decimal>,
    pub above: Option<Decimal>,
    pub below: Option<Decimal>,
    /// With its digits as an integer.
    pub multiple: Option<(Decimal, u64)>,
}

#[derive(Debug, Default)]
pub struct Text {
    pub least: usize,
    pub most: Option<usize>,
    pub pattern: Option<Regex>,
    pub format: Option<Format>,
}

#[derive(Debug, Default)]
pub struct Members {
    pub properties: Vec<(String, usize)>,
    pub patterns: Vec<(Regex, usize)>,
    pub additional: Option<usize>,
    pub names: Option<usize>,
    pub required: Vec<String>,
    pub least: usize,
    pub most: Option<usize>,
}

#[derive(Debug, Default)]
pub struct Elements {
    pub prefix: Schemas,
    pub items: Option<usize>,
    pub contains: Option<usize>,
    pub least: usize,
    pub most: Option<usize>,
    pub unique: bool,
}

pub fn compile(text: &[u8]) -> Result<Compiled, SchemaError> {
    if text.len() > MAX_TEXT {
        return Err(SchemaError::TooLarge);
    }
    if let Err(e) = std::str::from_utf8(text) {
        return Err(Malformed { at: e.valid_up_to(), what: "not UTF-8" }.into());
    }
    let mut scan = Scanner::new(text);
    scan.space();
    let root = scan.value(0)?;
    scan.end()?;
    let mut compiler = Compiler { root, known: BTreeMap::new(), nodes: Vec::new(), patterns: 0, at: Vec::new() };
    compiler.schema(root)?;
    Ok(Compiled(compiler.nodes))
}

struct Compiler<'d> {
    root: &'d [u8],
    /// A schema's number by where it stands in the document.
    known: BTreeMap<usize, usize>,
    nodes: Vec<Vec<Check>>,
    patterns: usize,
    /// Where in the document the compiler is, for messages.
    at: Vec<String>,
}

/// The checks of one schema, by the type they are about.
#[derive(Default)]
struct Draft {
    any: Vec<Check>,
    number: Option<Bounds>,
    text: Option<Text>,
    members: Option<Members>,
    elements: Option<Elements>,
    branches: (Option<usize>, Option<usize>, Option<usize>),
}

impl Draft {
    fn finish(self) -> Vec<Check> {
        let mut checks = self.any;
        checks.extend(self.number.map(|c| Check::Number(Box::new(c))));
        checks.extend(self.text.map(|c| Check::Text(Box::new(c))));
        checks.extend(self.members.map(|c| Check::Members(Box::new(c))));
        checks.extend(self.elements.map(|c| Check::Elements(Box::new(c))));
        if let (Some(condition), then, or_else) = self.branches {
            checks.push(Check::If(condition, then, or_else));
        }
        checks
    }
}

impl<'d> Compiler<'d> {
    /// The number of the schema `raw`, a part of the document.
    fn schema(&mut self, raw: &'d [u8]) -> Result<usize, SchemaError> {
        let place = raw.as_ptr().addr() - self.root.as_ptr().addr();
        if let Some(node) = self.known.get(&place) {
            return Ok(*node);
        }
        let node = self.nodes.len();
        if node == MAX_SCHEMAS || self.at.len() > 2 * MAX_DEPTH {
            return Err(SchemaError::TooLarge);
        }
        self.known.insert(place, node);
        self.nodes.push(Vec::new());
        self.nodes[node] = match raw {
            b"true" => Vec::new(),
            b"false" => vec![Check::Never],
            [b'{', ..] => {
                let mut draft = Draft::default();
                let mut names: Vec<String> = Vec::new();
                for (keyword, value) in members(raw)? {
                    if names.contains(&keyword) {
                        return Err(self.wrong(&keyword, "comes twice"));
                    }
                    self.at.push(keyword.clone());
                    let known = self.keyword(&keyword, value, node == 0, &mut draft)?;
                    self.at.pop();
                    if !known {
                        return Err(SchemaError::Unknown { at: self.place(), keyword });
                    }
                    names.push(keyword);
                }
                draft.finish()
            }
            _ => return Err(SchemaError::Shape { at: self.place() }),
        };
        Ok(node)
    }

    /// Takes one keyword; false: it is none.
    fn keyword(&mut self, name: &str, value: &'d [u8], root: bool, draft: &mut Draft) -> Result<bool, SchemaError> {
        match name {
            "type" => draft.any.insert(0, Check::Kinds(self.kinds(value)?)),
            "enum" => draft.any.push(Check::Enum(self.list(value)?.into_iter().map(canonical).collect())),
            "const" => draft.any.push(Check::Enum(vec![canonical(value)])),
            "allOf" => draft.any.push(Check::All(self.schemas(value)?)),
            "anyOf" => draft.any.push(Check::Any(self.schemas(value)?)),
            "oneOf" => draft.any.push(Check::One(self.schemas(value)?)),
            "not" => draft.any.push(Check::Not(self.schema(value)?)),
            "$ref" => draft.any.push(Check::All(vec![self.reference(value)?])),
            "if" => draft.branches.0 = Some(self.schema(value)?),
            "then" => draft.branches.1 = Some(self.schema(value)?),
            "else" => draft.branches.2 = Some(self.schema(value)?),
            "$defs" | "definitions" => {
                self.named(value)?;
            }
            "$id" if root => {}
            _ if DESCRIBING.contains(&name) || name.starts_with("x-") => {}
            _ => return self.typed(name, value, draft),
        }
        Ok(true)
    }

    /// Keywords about one type.
    fn typed(&mut self, name: &str, value: &'d [u8], draft: &mut Draft) -> Result<bool, SchemaError> {
        let Draft { number, text, members, elements, .. } = draft;
        match name {
            "minimum" => some(number).least = Some(self.number(value)?),
            "maximum" => some(number).most = Some(self.number(value)?),
            "exclusiveMinimum" => some(number).above = Some(self.number(value)?),
            "exclusiveMaximum" => some(number).below = Some(self.number(value)?),
            "multipleOf" => some(number).multiple = Some(self.divisor(value)?),
            "minLength" => some(text).least = self.count(value)?,
            "maxLength" => some(text).most = Some(self.count(value)?),
            "pattern" => some(text).pattern = Some(self.pattern(value)?),
            "format" => some(text).format = Some(self.format(value)?),
            "properties" => some(members).properties = self.named(value)?,
            "patternProperties" => {
                for (pattern, node) in self.named(value)? {
                    let pattern = self.regex(&pattern)?;
                    some(members).patterns.push((pattern, node));
                }
            }
            "additionalProperties" => some(members).additional = Some(self.schema(value)?),
            "propertyNames" => some(members).names = Some(self.schema(value)?),
            "required" => {
                some(members).required =
                    self.list(value)?.into_iter().map(|v| self.text(v)).collect::<Result<_, _>>()?
            }
            "minProperties" => some(members).least = self.count(value)?,
            "maxProperties" => some(members).most = Some(self.count(value)?),
            "prefixItems" => some(elements).prefix = self.schemas(value)?,
            "items" if value.starts_with(b"[") => return Err(self.here("is an array; write `prefixItems`")),
            "items" => some(elements).items = Some(self.schema(value)?),
            "contains" => some(elements).contains = Some(self.schema(value)?),
            "minItems" => some(elements).least = self.count(value)?,
            "maxItems" => some(elements).most = Some(self.count(value)?),
            "uniqueItems" => some(elements).unique = self.boolean(value)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn place(&self) -> String {
        format!("#{}", self.at.iter().map(|step| format!("/{step}")).collect::<String>())
    }

    fn wrong(&self, keyword: &str, what: impl Into<String>) -> SchemaError {
        SchemaError::Keyword { at: self.place(), keyword: keyword.into(), what: what.into() }
    }

    /// Something is wrong with the keyword that is being read.
    fn here(&self, what: impl Into<String>) -> SchemaError {
        let at = format!("#{}", self.at.iter().rev().skip(1).rev().map(|step| format!("/{step}")).collect::<String>());
        SchemaError::Keyword { at, keyword: self.at.last().cloned().unwrap_or_default(), what: what.into() }
    }

    fn list(&self, value: &'d [u8]) -> Result<Vec<&'d [u8]>, SchemaError> {
        if value.first() != Some(&b'[') {
            return Err(self.here("is not an array"));
        }
        Ok(elements(value)?)
    }

    fn schemas(&mut self, value: &'d [u8]) -> Result<Schemas, SchemaError> {
        let list = self.list(value)?;
        if list.is_empty() {
            return Err(self.here("is empty"));
        }
        let mut nodes = Vec::new();
        for (i, raw) in list.into_iter().enumerate() {
            self.at.push(i.to_string());
            nodes.push(self.schema(raw)?);
            self.at.pop();
        }
        Ok(nodes)
    }

    fn named(&mut self, value: &'d [u8]) -> Result<Vec<(String, usize)>, SchemaError> {
        if value.first() != Some(&b'{') {
            return Err(self.here("is not an object"));
        }
        let mut named = Vec::new();
        for (name, raw) in members(value)? {
            if named.iter().any(|(n, _)| *n == name) {
                return Err(self.here(format!("has `{name}` twice")));
            }
            self.at.push(name.clone());
            named.push((name, self.schema(raw)?));
            self.at.pop();
        }
        Ok(named)
    }

    fn kinds(&self, value: &'d [u8]) -> Result<Kinds, SchemaError> {
        let names = if value.starts_with(b"[") { elements(value)? } else { vec![value] };
        let mut kinds = Kinds::default();
        for name in names {
            let name = self.text(name)?;
            kinds.0 |= Kinds::named(&name).ok_or_else(|| self.here(format!("has no type `{name}`")))?.0;
        }
        Ok(kinds)
    }

    /// Where a reference leads. JSON pointers (RFC 6901) of this document are followed, nothing is fetched.
    fn reference(&mut self, value: &[u8]) -> Result<usize, SchemaError> {
        let text = self.text(value)?;
        let Some(pointer) = text.strip_prefix('#').filter(|p| p.is_empty() || p.starts_with('/')) else {
            return Err(self.here(format!("is `{text}`; only `#` and `#/...`, within the document, are followed")));
        };
        let mut found = self.root;
        for step in pointer.split('/').skip(1) {
            let step = step.replace("~1", "/").replace("~0", "~");
            let next = match found.first() {
                Some(b'{') => members(found)?.into_iter().find(|(name, _)| *name == step).map(|(_, raw)| raw),
                Some(b'[') => step.parse().ok().and_then(|i: usize| elements(found).ok()?.get(i).copied()),
                _ => None,
            };
            found = next.ok_or_else(|| self.here(format!("leads nowhere: `{text}`")))?;
        }
        self.schema(found)
    }

    fn text(&self, value: &[u8]) -> Result<String, SchemaError> {
        match Value::of(value) {
            Some(Value::String(raw)) => Ok(String::from_utf8_lossy(&json::unescape(raw)).into_owned()),
            _ => Err(self.here("is not text")),
        }
    }

    fn boolean(&self, value: &[u8]) -> Result<bool, SchemaError> {
        match Value::of(value) {
            Some(Value::Bool(b)) => Ok(b),
            _ => Err(self.here("is neither true nor false")),
        }
    }

    fn number(&self, value: &[u8]) -> Result<Decimal, SchemaError> {
        match Value::of(value) {
            Some(Value::Number(digits)) => Ok(Decimal::parse(digits.as_bytes())),
            _ => Err(self.here("is not a number")),
        }
    }

    fn divisor(&self, value: &[u8]) -> Result<(Decimal, u64), SchemaError> {
        let number = self.number(value)?;
        let mantissa = number.mantissa().filter(|_| number.is_positive());
        let mantissa = mantissa.ok_or_else(|| self.here("is not above zero, or has more digits than 64 bits hold"))?;
        Ok((number, mantissa))
    }

    fn count(&self, value: &[u8]) -> Result<usize, SchemaError> {
        let count = match Value::of(value) {
            Some(Value::Number(digits)) => digits.strip_suffix(".0").unwrap_or(digits).parse().ok(),
            _ => None,
        };
        count.ok_or_else(|| self.here("is not a whole number from 0"))
    }

    fn format(&self, value: &[u8]) -> Result<Format, SchemaError> {
        let name = self.text(value)?;
        Format::parse(&name)
            .ok_or_else(|| self.here(format!("`{name}` is not checked here; take it out, or use `pattern`")))
    }

    fn pattern(&mut self, value: &[u8]) -> Result<Regex, SchemaError> {
        let text = self.text(value)?;
        self.regex(&text)
    }

    /// An expression of ECMA-262, as far as both kinds agree: its `\d` and `\w` are ASCII.
    fn regex(&mut self, text: &str) -> Result<Regex, SchemaError> {
        self.patterns += 1;
        if self.patterns > MAX_PATTERNS {
            return Err(SchemaError::TooLarge);
        }
        let mut out = String::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            match (c, if c == '\\' { chars.next() } else { None }) {
                ('\\', Some('d')) => out.push_str("[0-9]"),
                ('\\', Some('D')) => out.push_str("[^0-9]"),
                ('\\', Some('w')) => out.push_str("[0-9A-Za-z_]"),
                ('\\', Some('W')) => out.push_str("[^0-9A-Za-z_]"),
                ('\\', Some('/')) => out.push('/'),
                (c, escaped) => out.extend([Some(c), escaped].into_iter().flatten()),
            }
        }
        let builder =
            regex::bytes::RegexBuilder::new(&out).size_limit(PATTERN_BYTES).dfa_size_limit(PATTERN_BYTES).build();
        builder.map_err(|e| self.here(format!("is not an expression that can be used here: {e}")))
    }
}

fn some<T: Default>(part: &mut Option<T>) -> &mut T {
    part.get_or_insert_default()
}

fn members(raw: &[u8]) -> Result<Vec<(String, &[u8])>, Malformed> {
    let mut found = Vec::new();
    let mut scan = Scanner::new(raw);
    scan.open(b'{')?;
    let mut more = !scan.closes(b'}');
    while more {
        let name = String::from_utf8_lossy(&json::unescape(scan.key()?)).into_owned();
        found.push((name, scan.value(1)?));
        more = scan.more(b'}')?;
    }
    Ok(found)
}

fn elements(raw: &[u8]) -> Result<Vec<&[u8]>, Malformed> {
    let mut found = Vec::new();
    let mut scan = Scanner::new(raw);
    scan.open(b'[')?;
    let mut more = !scan.closes(b']');
    while more {
        scan.space();
        found.push(scan.value(1)?);
        more = scan.more(b']')?;
    }
    Ok(found)
}
