//! `json-formatter`: adds a text made of a value's fields.
//!
//! ```yaml
//! spec:
//!   match:                               # the first whose field is this text; may be left out
//!     - key: /type
//!       value: subscribe
//!       format: { with: "{} subscribed", using: [/name], output: /formatted }
//!   default:
//!     format: { with: "{} did something", using: [/name], output: /formatted }
//! ```
//!
//! `with`: each `{}` stands for the next field of `using` (JSON pointers) that is there, strings without their quotes,
//! anything else as JSON; one without a field stands for nothing. A brace before anything but `}` goes, what it stands
//! before stays (`{{` is `{`, and so is `{x` an `x`); a brace at the very end goes.
//!
//! `output`: names joined by slashes, each made if it is not there, `*` one more item of an array, a number the item of an
//! array (or one more). What is in the way gives place. An empty name at the end counts as none.

use serde_json::{Map, Value};

use super::spec::{At, MAX_NAMES, With};
use super::{Error, Failure, bounded, field_text, parse, write};

#[derive(Clone, Debug, PartialEq)]
pub struct JsonFormatter {
    cases: Vec<Case>,
    default: Format,
}

#[derive(Clone, Debug, PartialEq)]
struct Case {
    key: String,
    value: String,
    format: Format,
}

#[derive(Clone, Debug, PartialEq)]
struct Format {
    /// The texts before, between and after the places.
    with: Vec<String>,
    using: Vec<String>,
    output: Vec<String>,
}

impl JsonFormatter {
    pub(super) fn from_with(with: &With<'_>) -> Result<Self, Error> {
        let spec = with.json("spec")?;
        let at = with.at("spec", &spec);
        let spec = at.map(&["match", "default"])?;
        let mut cases = Vec::new();
        for at in spec.get("match").map(|at| at.list()).transpose()?.into_iter().flatten() {
            let case = at.map(&["key", "value", "format"])?;
            let (key, value) = (case.text("key")?.into(), case.text("value")?.into());
            cases.push(Case { key, value, format: Format::read(case.need("format")?)? });
        }
        let default = Format::read(spec.need("default")?.map(&["format"])?.need("format")?)?;
        Ok(Self { cases, default })
    }

    pub fn apply(&self, value: &[u8], out: &mut Vec<u8>) -> Result<(), Failure> {
        let mut json: Value = parse(value)?;
        let case = self.cases.iter().find(|case| json.pointer(&case.key).and_then(Value::as_str) == Some(&case.value));
        let format = case.map_or(&self.default, |case| &case.format);
        let text = format.text(&json)?;
        put(&mut json, &format.output, text);
        write(&json, out)
    }
}

impl Format {
    fn read(at: At<'_>) -> Result<Self, Error> {
        let format = at.map(&["with", "using", "output"])?;
        let output = format.need("output")?;
        let names: Vec<String> = output.text()?.split('/').skip(1).map(Into::into).collect();
        if names.len() > MAX_NAMES {
            return Err(output.bad(format!("more than {MAX_NAMES} names")));
        }
        let using = format.need("using")?.list()?.map(|at| at.text().map(Into::into)).collect::<Result<_, _>>()?;
        Ok(Self { with: texts(format.text("with")?), using, output: names })
    }

    fn text(&self, json: &Value) -> Result<String, Failure> {
        let mut fields = self.using.iter().filter_map(|pointer| json.pointer(pointer)).map(field_text);
        let mut text = String::new();
        for (i, between) in self.with.iter().enumerate() {
            if i > 0 {
                text += &fields.next().unwrap_or_default();
            }
            text += between;
            bounded(text.len())?;
        }
        Ok(text)
    }
}

/// The texts around each `{}`.
fn texts(with: &str) -> Vec<String> {
    let mut texts = vec![String::new()];
    let mut chars = with.chars();
    while let Some(c) = chars.next() {
        let letter = match c {
            '{' | '}' => match chars.next() {
                Some('}') if c == '{' => {
                    texts.push(String::new());
                    continue;
                }
                Some(after) => after,
                None => break,
            },
            c => c,
        };
        if let Some(text) = texts.last_mut() {
            text.push(letter);
        }
    }
    texts
}

/// Puts the text where the names lead, and makes what is missing on the way.
fn put(json: &mut Value, names: &[String], text: String) {
    let mut at = json;
    let names = names.strip_suffix(&[String::new()]).unwrap_or(names);
    for name in names {
        let there = match &*at {
            Value::Array(items) => {
                let index = name.parse::<usize>().ok();
                index.map(|i| i.min(items.len())).or_else(|| (name == "*").then_some(items.len())).map(Step::Item)
            }
            Value::Object(members) if members.contains_key(&unescaped(name)) => Some(Step::Member),
            // A number or a star makes an array of what is none.
            _ if name == "*" || name.parse::<usize>().is_ok() => {
                *at = Value::Array(Vec::new());
                Some(Step::Item(0))
            }
            _ => Some(Step::Member),
        };
        at = match there.unwrap_or(Step::Member) {
            Step::Item(i) => item(at, i),
            Step::Member => member(at, &unescaped(name)),
        };
    }
    *at = text.into();
}

enum Step {
    Item(usize),
    Member,
}

/// As RFC 6901 has it.
fn unescaped(name: &str) -> String {
    name.replace("~1", "/").replace("~0", "~")
}

/// The item of an array; one more if there are just not that many.
fn item(at: &mut Value, i: usize) -> &mut Value {
    if let Value::Array(items) = at
        && items.len() == i
    {
        items.push(Value::Null);
    }
    &mut at[i]
}

/// The member of an object; what is none becomes one.
fn member<'v>(at: &'v mut Value, name: &str) -> &'v mut Value {
    if !at.is_object() {
        *at = Value::Object(Map::new());
    }
    &mut at[name]
}
