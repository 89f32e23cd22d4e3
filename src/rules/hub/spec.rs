//! Reading a module's parameters: what `with` holds, and the specs within, with errors that name the place.

use std::borrow::Cow;

use serde_json::Value;

use super::Error;
use crate::limits::MAX_RULE_FIELDS;
use crate::name::nearest;

/// Names in a pointer that a module makes what is missing for: each is a level of the result.
pub const MAX_NAMES: usize = 32;

/// The parameters of one module.
pub struct With<'w> {
    module: &'static str,
    entries: &'w [(String, Value)],
}

impl<'w> With<'w> {
    pub fn new(module: &'static str, entries: &'w [(String, Value)], known: &[&str]) -> Result<Self, Error> {
        let with = Self { module, entries };
        match entries.iter().find(|(name, _)| !known.contains(&name.as_str())) {
            Some((name, _)) => Err(with.bad(name.clone(), unknown(name, known))),
            None => Ok(with),
        }
    }

    #[cold]
    #[inline(never)]
    pub fn bad(&self, place: String, why: impl Into<String>) -> Error {
        Error::Parameter { module: self.module, place, why: why.into() }
    }

    fn value(&self, name: &str) -> Option<&'w Value> {
        self.entries.iter().find(|(n, _)| n == name).map(|(_, value)| value)
    }

    /// The parameter as the module gets it: text as it is, a list or a map as JSON.
    pub fn text(&self, name: &str) -> Result<Cow<'w, str>, Error> {
        match self.value(name) {
            Some(Value::String(text)) => Ok(text.into()),
            Some(value @ (Value::Array(_) | Value::Object(_))) => Ok(value.to_string().into()),
            Some(_) => Err(self.bad(name.into(), "text, a list or a map is expected; put a number in quotes")),
            None => Err(self.bad(name.into(), "it is missing")),
        }
    }

    /// A parameter that is JSON, as itself or as text.
    pub fn json(&self, name: &str) -> Result<Value, Error> {
        let text = self.text(name)?;
        serde_json::from_str(&text).map_err(|e| self.bad(name.into(), format!("it is no JSON: {e}")))
    }

    pub fn has(&self, name: &str) -> bool {
        self.value(name).is_some()
    }

    /// A parameter read by [`With::json`], to look into.
    pub fn at<'v>(&'v self, name: &'static str, json: &'v Value) -> At<'v> {
        At { with: self, name, root: json, value: json }
    }
}

fn unknown(name: &str, known: &[&str]) -> String {
    match nearest(name, known.iter().copied()) {
        Some(near) => format!("nothing of that name is read; did you mean `{near}`?"),
        None if known.is_empty() => "nothing is read here".into(),
        None => format!("nothing of that name is read, only {}", known.join(", ")),
    }
}

/// A value within a parameter. Where it stands is looked for when there is something to say about it.
#[derive(Clone, Copy)]
pub struct At<'v> {
    with: &'v With<'v>,
    name: &'static str,
    root: &'v Value,
    value: &'v Value,
}

impl<'v> At<'v> {
    #[cold]
    #[inline(never)]
    pub fn bad(self, why: impl Into<String>) -> Error {
        self.with.bad(self.place(), why)
    }

    fn place(self) -> String {
        let mut place = self.name.to_owned();
        find(self.root, self.value, &mut place);
        place
    }

    fn below(self, value: &'v Value) -> Self {
        Self { value, ..self }
    }

    /// Its members, all of them known.
    pub fn map(self, known: &[&str]) -> Result<Map<'v>, Error> {
        let map = self.members()?;
        match map.members.iter().find(|(key, _)| !known.contains(&key.as_str())) {
            Some((key, value)) => Err(self.below(value).bad(unknown(key, known))),
            None => Ok(map),
        }
    }

    /// Its members, whatever their names.
    pub fn members(self) -> Result<Map<'v>, Error> {
        let Value::Object(members) = self.value else { return Err(self.bad("a map is expected")) };
        self.few(members.len())?;
        Ok(Map { at: self, members })
    }

    pub fn list(self) -> Result<impl Iterator<Item = At<'v>>, Error> {
        let Value::Array(items) = self.value else { return Err(self.bad("a list is expected")) };
        self.few(items.len())?;
        Ok(items.iter().map(move |item| self.below(item)))
    }

    fn few(self, count: usize) -> Result<(), Error> {
        if count > MAX_RULE_FIELDS {
            return Err(self.bad(format!("more than {MAX_RULE_FIELDS}; use two rules")));
        }
        Ok(())
    }

    pub fn text(self) -> Result<&'v str, Error> {
        self.value.as_str().ok_or_else(|| self.bad("text is expected"))
    }

    pub fn value(self) -> &'v Value {
        self.value
    }
}

/// Appends the way to `value`, which is within `json`; false if it is not.
fn find(json: &Value, value: &Value, place: &mut String) -> bool {
    if std::ptr::eq(json, value) {
        return true;
    }
    let all = place.len();
    let mut within = |step: String, below: &Value| {
        place.push_str(&step);
        let found = find(below, value, place);
        if !found {
            place.truncate(all);
        }
        found
    };
    match json {
        Value::Array(items) => items.iter().enumerate().any(|(i, item)| within(format!("[{i}]"), item)),
        Value::Object(members) => members.iter().any(|(key, member)| within(format!(".{key}"), member)),
        _ => false,
    }
}

#[derive(Clone, Copy)]
pub struct Map<'v> {
    at: At<'v>,
    members: &'v serde_json::Map<String, Value>,
}

impl<'v> Map<'v> {
    pub fn get(self, name: &str) -> Option<At<'v>> {
        self.members.get(name).map(|value| self.at.below(value))
    }

    pub fn need(self, name: &str) -> Result<At<'v>, Error> {
        self.get(name).ok_or_else(|| self.at.with.bad(format!("{}.{name}", self.at.place()), "it is missing"))
    }

    pub fn text(self, name: &str) -> Result<&'v str, Error> {
        self.need(name)?.text()
    }

    pub fn iter(self) -> impl Iterator<Item = (&'v str, At<'v>)> {
        self.members.iter().map(move |(key, value)| (key.as_str(), self.at.below(value)))
    }
}
