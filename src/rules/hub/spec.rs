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

    pub fn at<'v>(&'v self, place: &str, value: &'v Value) -> At<'v> {
        At { with: self, place: place.into(), value }
    }
}

fn unknown(name: &str, known: &[&str]) -> String {
    match nearest(name, known.iter().copied()) {
        Some(near) => format!("nothing of that name is read; did you mean `{near}`?"),
        None if known.is_empty() => "nothing is read here".into(),
        None => format!("nothing of that name is read, only {}", known.join(", ")),
    }
}

/// A value within a parameter, and where it stands.
pub struct At<'v> {
    with: &'v With<'v>,
    place: String,
    value: &'v Value,
}

impl<'v> At<'v> {
    pub fn bad(&self, why: impl Into<String>) -> Error {
        self.with.bad(self.place.clone(), why)
    }

    fn below(&self, place: String, value: &'v Value) -> Self {
        Self { with: self.with, place, value }
    }

    /// Its members, all of them known.
    pub fn map(&self, known: &[&str]) -> Result<Map<'_, 'v>, Error> {
        let map = self.members()?;
        match map.members.keys().find(|key| !known.contains(&key.as_str())) {
            Some(key) => Err(self.with.bad(format!("{}.{key}", self.place), unknown(key, known))),
            None => Ok(map),
        }
    }

    /// Its members, whatever their names.
    pub fn members(&self) -> Result<Map<'_, 'v>, Error> {
        let Value::Object(members) = self.value else { return Err(self.bad("a map is expected")) };
        if members.len() > MAX_RULE_FIELDS {
            return Err(self.bad(format!("more than {MAX_RULE_FIELDS}; use two rules")));
        }
        Ok(Map { at: self, members })
    }

    pub fn list(&self) -> Result<Vec<At<'v>>, Error> {
        let Value::Array(items) = self.value else { return Err(self.bad("a list is expected")) };
        if items.len() > MAX_RULE_FIELDS {
            return Err(self.bad(format!("more than {MAX_RULE_FIELDS}; use two rules")));
        }
        Ok(items.iter().enumerate().map(|(i, item)| self.below(format!("{}[{i}]", self.place), item)).collect())
    }

    pub fn text(&self) -> Result<&'v str, Error> {
        self.value.as_str().ok_or_else(|| self.bad("text is expected"))
    }

    pub fn value(&self) -> &'v Value {
        self.value
    }
}

pub struct Map<'a, 'v> {
    at: &'a At<'v>,
    members: &'v serde_json::Map<String, Value>,
}

impl<'v> Map<'_, 'v> {
    pub fn get(&self, name: &str) -> Option<At<'v>> {
        self.members.get(name).map(|value| self.at.below(format!("{}.{name}", self.at.place), value))
    }

    pub fn need(&self, name: &str) -> Result<At<'v>, Error> {
        self.get(name).ok_or_else(|| self.at.with.bad(format!("{}.{name}", self.at.place), "it is missing"))
    }

    pub fn iter(&self) -> impl Iterator<Item = (&'v str, At<'v>)> {
        let place = &self.at.place;
        self.members.iter().map(move |(key, value)| (key.as_str(), self.at.below(format!("{place}.{key}"), value)))
    }
}
