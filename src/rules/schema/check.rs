//! Walking a value by a compiled schema.

use std::fmt;

use super::compile::{Check, Compiled, Elements, Kinds, Members, Schemas};
use super::number::Decimal;
use crate::json::{self, Scanner};

/// Bytes that are looked at for one value, again and again for schemas within schemas.
const MAX_WORK: usize = 32 * 1024 * 1024;
/// Schemas within schemas: three for each bracket that a value can have.
const MAX_NESTING: usize = 3 * json::MAX_DEPTH;

/// What does not fit, and where.
pub struct Wrong {
    what: &'static str,
    /// From the inside out.
    path: Vec<String>,
    /// Not known whether it fits: no schema around it can make something of this.
    given_up: bool,
}

impl Wrong {
    fn new(what: &'static str) -> Self {
        Self { what, path: Vec::new(), given_up: false }
    }

    fn at(mut self, name: &[u8]) -> Self {
        let name = String::from_utf8_lossy(&json::unescape(name)).into_owned();
        self.path.push(name.chars().take(64).collect());
        self
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            return write!(f, "the value {}", self.what);
        }
        let mut path: Vec<&str> = self.path.iter().rev().take(16).map(String::as_str).collect();
        if self.path.len() > path.len() {
            path.push("...");
        }
        write!(f, "`{}` {}", path.join("."), self.what)
    }
}

type Fits = Result<(), Wrong>;

fn unless(wrong: bool, what: &'static str) -> Fits {
    if wrong { Err(Wrong::new(what)) } else { Ok(()) }
}

/// `value` is one well-formed JSON value without white space around it.
pub fn check(schema: &Compiled, value: &[u8]) -> Fits {
    Walk { schema, work: 0, nesting: 0 }.node(0, value)
}

struct Walk<'s> {
    schema: &'s Compiled,
    work: usize,
    nesting: usize,
}

impl Walk<'_> {
    fn node(&mut self, node: usize, value: &[u8]) -> Fits {
        self.work = self.work.saturating_add(value.len() + 64);
        if self.work > MAX_WORK || self.nesting == MAX_NESTING {
            return Err(Wrong { given_up: true, ..Wrong::new("takes too much work to check") });
        }
        self.nesting += 1;
        let schema = self.schema;
        let fits = schema.node(node).iter().try_for_each(|check| self.one(check, value));
        self.nesting -= 1;
        fits
    }

    fn one(&mut self, check: &Check, value: &[u8]) -> Fits {
        let first = value.first().copied().unwrap_or(b'n');
        match check {
            Check::Never => Err(Wrong::new("is not allowed")),
            Check::Kinds(kinds) => unless(!kinds.has(value), "is of another type"),
            Check::Enum(values) => unless(!values.contains(&canonical(value)), "is none of the values it may have"),
            Check::All(schemas) => schemas.iter().try_for_each(|node| self.node(*node, value)),
            Check::Any(schemas) => unless(self.count(schemas, value, 1)? == 0, "fits none of `anyOf`"),
            Check::One(schemas) => match self.count(schemas, value, 2)? {
                0 => Err(Wrong::new("fits none of `oneOf`")),
                1 => Ok(()),
                _ => Err(Wrong::new("fits more than one of `oneOf`")),
            },
            Check::Not(node) => unless(self.fits(*node, value)?, "fits what it must not"),
            Check::If(condition, then, or_else) => {
                let branch = if self.fits(*condition, value)? { then } else { or_else };
                branch.map_or(Ok(()), |node| self.node(node, value))
            }
            Check::Members(members) if first == b'{' => self.members(members, value),
            Check::Elements(elements) if first == b'[' => self.elements(elements, value),
            Check::Number(_) | Check::Text(_) | Check::Members(_) | Check::Elements(_) => plain(check, first, value),
        }
    }

    fn fits(&mut self, node: usize, value: &[u8]) -> Result<bool, Wrong> {
        match self.node(node, value) {
            Ok(()) => Ok(true),
            Err(wrong) if wrong.given_up => Err(wrong),
            Err(_) => Ok(false),
        }
    }

    /// How many of the schemas fit; no more than `enough` are counted.
    fn count(&mut self, schemas: &Schemas, value: &[u8], enough: usize) -> Result<usize, Wrong> {
        let mut count = 0;
        for node in schemas {
            count += usize::from(self.fits(*node, value)?);
            if count == enough {
                break;
            }
        }
        Ok(count)
    }

    fn members(&mut self, members: &Members, value: &[u8]) -> Fits {
        let mut met = vec![false; members.required.len()];
        let mut count = 0;
        let mut scan = Scanner::new(value);
        scan.open(b'{').map_err(|_| broken())?;
        let mut more = !scan.closes(b'}');
        while more {
            let key = scan.key().map_err(|_| broken())?;
            let inner = scan.value(1).map_err(|_| broken())?;
            count += 1;
            for (name, met) in members.required.iter().zip(&mut met) {
                *met |= json::key_is(key, name);
            }
            self.member(members, key, inner).map_err(|wrong| wrong.at(key))?;
            more = scan.more(b'}').map_err(|_| broken())?;
        }
        if let Some(name) = members.required.iter().zip(&met).find_map(|(name, met)| (!met).then_some(name)) {
            return Err(Wrong { path: vec![name.clone()], ..Wrong::new("is required and missing") });
        }
        unless(count < members.least, "has too few fields")?;
        unless(members.most.is_some_and(|most| count > most), "has too many fields")
    }

    fn member(&mut self, members: &Members, key: &[u8], value: &[u8]) -> Fits {
        let mut known = false;
        if let Some((_, node)) = members.properties.iter().find(|(name, _)| json::key_is(key, name)) {
            known = true;
            self.node(*node, value)?;
        }
        if !members.patterns.is_empty() {
            let name = json::unescape(key);
            for (pattern, node) in &members.patterns {
                if pattern.is_match(&name) {
                    known = true;
                    self.node(*node, value)?;
                }
            }
        }
        if let Some(node) = members.names {
            let mut name = Vec::with_capacity(key.len() + 2);
            json::write_string(&json::unescape(key), &mut name);
            self.node(node, &name)?;
        }
        match members.additional {
            Some(node) if !known => self.node(node, value),
            _ => Ok(()),
        }
    }

    fn elements(&mut self, elements: &Elements, value: &[u8]) -> Fits {
        let mut seen = Vec::new();
        let mut count = 0;
        let mut found = false;
        let mut scan = Scanner::new(value);
        scan.open(b'[').map_err(|_| broken())?;
        let mut more = !scan.closes(b']');
        while more {
            scan.space();
            let inner = scan.value(1).map_err(|_| broken())?;
            if let Some(node) = elements.prefix.get(count).copied().or(elements.items) {
                self.node(node, inner).map_err(|wrong| wrong.at(count.to_string().as_bytes()))?;
            }
            if let Some(node) = elements.contains.filter(|_| !found) {
                found = self.fits(node, inner)?;
            }
            if elements.unique {
                seen.push(canonical(inner));
            }
            count += 1;
            more = scan.more(b']').map_err(|_| broken())?;
        }
        unless(count < elements.least, "has too few elements")?;
        unless(elements.most.is_some_and(|most| count > most), "has too many elements")?;
        unless(elements.contains.is_some() && !found, "has no element that fits `contains`")?;
        seen.sort_unstable();
        unless(seen.windows(2).any(|w| w[0] == w[1]), "has an element twice")
    }
}

/// The value was well-formed as a whole, so it is in its parts.
fn broken() -> Wrong {
    Wrong::new("is not JSON")
}

/// Checks that look at no schema below; those of another type than the value has nothing to say.
fn plain(check: &Check, first: u8, value: &[u8]) -> Fits {
    match check {
        Check::Number(bounds) if matches!(first, b'-' | b'0'..=b'9') => {
            let number = Decimal::parse(value);
            unless(bounds.least.as_ref().is_some_and(|b| number < *b), "is below the minimum")?;
            unless(bounds.most.as_ref().is_some_and(|b| number > *b), "is above the maximum")?;
            unless(bounds.above.as_ref().is_some_and(|b| number <= *b), "is not above the exclusive minimum")?;
            unless(bounds.below.as_ref().is_some_and(|b| number >= *b), "is not below the exclusive maximum")?;
            let multiple = bounds.multiple.as_ref();
            unless(multiple.is_some_and(|(d, mantissa)| !number.is_multiple_of(d, *mantissa)), "is not a multiple")
        }
        Check::Text(text) if first == b'"' => {
            let plain = json::unescape(&value[1..value.len().saturating_sub(1).max(1)]);
            if text.least > 0 || text.most.is_some() {
                let length = String::from_utf8_lossy(&plain).chars().count();
                unless(length < text.least, "is too short")?;
                unless(text.most.is_some_and(|most| length > most), "is too long")?;
            }
            unless(text.pattern.as_ref().is_some_and(|p| !p.is_match(&plain)), "does not match the pattern")?;
            unless(text.format.is_some_and(|f| !f.fits(&plain)), "is not of the format")
        }
        _ => Ok(()),
    }
}

impl Kinds {
    fn has(self, value: &[u8]) -> bool {
        let kind = match value.first() {
            Some(b'"') => Kinds::STRING,
            Some(b'{') => Kinds::OBJECT,
            Some(b'[') => Kinds::ARRAY,
            Some(b't' | b'f') => Kinds::BOOLEAN,
            Some(b'n') | None => Kinds::NULL,
            Some(_) if self.holds(Kinds::NUMBER) => return true,
            Some(_) => return self.holds(Kinds::INTEGER) && Decimal::parse(value).is_integer(),
        };
        self.holds(kind)
    }
}

/// Bytes that are equal for equal values: members by name, numbers by value, strings without a choice of escapes.
pub fn canonical(value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len());
    let mut scan = Scanner::new(value);
    scan.space();
    // What is no JSON is equal to nothing that is.
    if write_canonical(&mut scan, 0, &mut out).is_err() {
        out = value.to_vec();
    }
    out
}

fn write_canonical(scan: &mut Scanner<'_>, depth: usize, out: &mut Vec<u8>) -> Result<(), json::Malformed> {
    match scan.peek() {
        Some(b'{') => {
            scan.nest(b'{', depth)?;
            let mut members: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
            let mut more = !scan.closes(b'}');
            while more {
                let mut name = Vec::new();
                json::write_string(&json::unescape(scan.key()?), &mut name);
                let mut inner = Vec::new();
                write_canonical(scan, depth + 1, &mut inner)?;
                members.push((name, inner));
                more = scan.more(b'}')?;
            }
            members.sort();
            out.push(b'{');
            for (name, inner) in members {
                out.extend_from_slice(&name);
                out.extend_from_slice(&inner);
            }
            out.push(b'}');
        }
        Some(b'[') => {
            scan.nest(b'[', depth)?;
            out.push(b'[');
            let mut more = !scan.closes(b']');
            while more {
                scan.space();
                write_canonical(scan, depth + 1, out)?;
                out.push(b',');
                more = scan.more(b']')?;
            }
            out.push(b']');
        }
        first => {
            let raw = scan.value(depth)?;
            match first {
                Some(b'"') => json::write_string(&json::unescape(&raw[1..raw.len() - 1]), out),
                Some(b'-' | b'0'..=b'9') => Decimal::parse(raw).write(out),
                _ => out.extend_from_slice(raw),
            }
        }
    }
    Ok(())
}
