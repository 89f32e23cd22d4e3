//! `regex-map-json` and `regex-json`, its name since: a list of operations on fields, which are JSON pointers.
//!
//! - `capture: { regex, target, output }` puts the first group of the first match in `target` at `output`;
//! - `replace: { regex, target, with }` replaces every match in `target`.
//!
//! A field that is no text is read as its JSON. Every operation reads the value as it came, so of two that replace in one
//! field the second counts. A field that is not there, an empty one and an empty result change nothing.
//!
//! A result goes to its pointer where that leads somewhere; else the members that are missing are made, and what is in
//! their way and no object gives place (an array too). A pointer without its first slash loses its first name, one
//! without any slash goes nowhere; made names are not unescaped (RFC 6901). All of it as in the original.

use serde_json::{Map, Value};

use super::spec::{At, MAX_NAMES, With};
use super::{Error, Failure, Pattern, bounded, field_text, parse, write};

#[derive(Clone, Debug, PartialEq)]
pub struct RegexJson {
    operations: Vec<Operation>,
}

#[derive(Clone, Debug, PartialEq)]
struct Operation {
    regex: Pattern,
    target: String,
    action: Action,
}

#[derive(Clone, Debug, PartialEq)]
enum Action {
    Capture { output: String },
    Replace { with: String },
}

impl RegexJson {
    pub(super) fn from_with(with: &With<'_>) -> Result<Self, Error> {
        let spec = with.json("spec")?;
        let operations = with.at("spec", &spec).list()?.map(Operation::read).collect::<Result<_, _>>()?;
        Ok(Self { operations })
    }

    pub fn apply(&self, value: &[u8], out: &mut Vec<u8>) -> Result<(), Failure> {
        let mut json: Value = parse(value)?;
        let results = self.operations.iter().map(|operation| operation.run(&json)).collect::<Result<Vec<_>, _>>()?;
        bounded(results.iter().map(String::len).sum())?;
        for (operation, result) in self.operations.iter().zip(results) {
            if !result.is_empty() {
                put(&mut json, operation.output(), result);
            }
        }
        write(&json, out)
    }
}

impl Operation {
    fn read(at: At<'_>) -> Result<Self, Error> {
        let operation = at.map(&["capture", "replace"])?;
        let (fields, capture) = match (operation.get("capture"), operation.get("replace")) {
            (Some(capture), None) => (capture, true),
            (None, Some(replace)) => (replace, false),
            _ => return Err(at.bad("one of `capture` and `replace` is expected")),
        };
        let other = if capture { "output" } else { "with" };
        let fields = fields.map(&["regex", "target", other])?;
        let regex = fields.need("regex")?;
        let pattern = Pattern::new(regex.text()?).map_err(|e| regex.bad(e.to_string()))?;
        let text = fields.need(other)?;
        let action = match capture {
            true if text.text()?.split('/').count() > MAX_NAMES => {
                return Err(text.bad(format!("more than {MAX_NAMES} names")));
            }
            true => Action::Capture { output: text.text()?.into() },
            false => Action::Replace { with: text.text()?.into() },
        };
        Ok(Self { regex: pattern, target: fields.text("target")?.into(), action })
    }

    fn output(&self) -> &str {
        match &self.action {
            Action::Capture { output } => output,
            Action::Replace { .. } => &self.target,
        }
    }

    fn run(&self, json: &Value) -> Result<String, Failure> {
        let Some(field) = json.pointer(&self.target).map(field_text) else { return Ok(String::new()) };
        let mut result = String::new();
        match &self.action {
            _ if field.is_empty() => {}
            Action::Capture { .. } => {
                let group = self.regex.0.captures(&field).and_then(|captures| captures.get(1));
                result.push_str(group.map_or("", |group| group.as_str()));
            }
            Action::Replace { with } => self.regex.replace_all(&field, with, &mut result)?,
        }
        Ok(result)
    }
}

fn put(json: &mut Value, pointer: &str, text: String) {
    if !pointer.contains('/') {
        return;
    }
    let mut names: Vec<&str> = pointer.split('/').skip(1).collect();
    let mut made = Value::String(text);
    let mut parent = pointer.to_owned();
    loop {
        if let Some(found) = json.pointer_mut(&parent) {
            return merge(found, made);
        }
        if let Some(name) = names.pop() {
            made = Value::Object(Map::from_iter([(name.to_owned(), made)]));
        }
        if names.is_empty() {
            return merge(json, made);
        }
        parent = format!("/{}", names.join("/"));
    }
}

/// Members of both objects, those of both merged; anything else is replaced.
fn merge(json: &mut Value, with: Value) {
    match (json, with) {
        (Value::Object(members), Value::Object(with)) => {
            for (key, value) in with {
                merge(members.entry(key).or_insert(Value::Null), value);
            }
        }
        (json, with) => *json = with,
    }
}
