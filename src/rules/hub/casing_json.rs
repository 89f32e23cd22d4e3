//! `casing-json`: the keys of a value's objects in another case.
//!
//! `spec: { casing, depth }`: `snake` (the default), `camel`, `pascal`, `kebab`, `constant` or `cobol`; how many objects
//! deep, 255 without it. Arrays are gone through and count no level. A key that another one turns into is overwritten,
//! in the order of the keys.
//!
//! Words end at `_`, `-` and a space, between a small letter and a capital, between letters and digits, and before the
//! last of several capitals that a small letter follows (`HTTPServer2` is `http_server_2`). The rules are those of the
//! crate `convert_case` 0.8, for characters; it looks at clusters of them, which differ where accents are written apart.
//! An unknown casing is an error (there: `snake`).

use serde_json::Value;

use super::spec::With;
use super::{Error, Failure, parse, write};
use crate::name::nearest;

#[derive(Clone, Debug, PartialEq)]
pub struct CasingJson {
    casing: Casing,
    depth: u8,
}

/// What joins the words, and how each is written: the first one and the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Casing {
    name: &'static str,
    between: &'static str,
    first: Word,
    other: Word,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    Lower,
    Upper,
    Capital,
}

const CASINGS: [Casing; 6] = [
    Casing { name: "snake", between: "_", first: Word::Lower, other: Word::Lower },
    Casing { name: "camel", between: "", first: Word::Lower, other: Word::Capital },
    Casing { name: "pascal", between: "", first: Word::Capital, other: Word::Capital },
    Casing { name: "kebab", between: "-", first: Word::Lower, other: Word::Lower },
    Casing { name: "constant", between: "_", first: Word::Upper, other: Word::Upper },
    Casing { name: "cobol", between: "-", first: Word::Upper, other: Word::Upper },
];

impl CasingJson {
    pub(super) fn from_with(with: &With<'_>) -> Result<Self, Error> {
        let mut casing_json = Self { casing: CASINGS[0], depth: u8::MAX };
        if !with.has("spec") {
            return Ok(casing_json);
        }
        let spec = with.json("spec")?;
        let at = with.at("spec", &spec);
        let fields = at.map(&["casing", "depth"])?;
        if let Some(at) = fields.get("casing") {
            let name = at.text()?.to_lowercase();
            let Some(casing) = CASINGS.into_iter().find(|casing| casing.name == name) else {
                let names = CASINGS.map(|casing| casing.name);
                let hint = nearest(&name, names).map_or(names.join(", "), |near| format!("`{near}`?"));
                return Err(at.bad(format!("no casing is named so; {hint}")));
            };
            casing_json.casing = casing;
        }
        if let Some(at) = fields.get("depth") {
            let depth = at.value().as_u64().and_then(|depth| depth.try_into().ok());
            casing_json.depth = depth.ok_or_else(|| at.bad("0 to 255 is expected"))?;
        }
        Ok(casing_json)
    }

    pub fn apply(&self, value: &[u8], out: &mut Vec<u8>) -> Result<(), Failure> {
        let mut json: Value = parse(value)?;
        self.convert(&mut json, 1);
        write(&json, out)
    }

    /// `level`: the objects above, and one.
    fn convert(&self, json: &mut Value, level: u16) {
        match json {
            Value::Array(items) => items.iter_mut().for_each(|item| self.convert(item, level)),
            Value::Object(members) => {
                let keys: Vec<String> = members.keys().cloned().collect();
                for key in keys {
                    let Some(mut value) = members.remove(&key) else { continue };
                    if level < self.depth.into() {
                        self.convert(&mut value, level + 1);
                    }
                    members.insert(self.casing.convert(&key), value);
                }
            }
            _ => {}
        }
    }
}

impl Casing {
    fn convert(self, key: &str) -> String {
        let mut text = String::with_capacity(key.len() + 4);
        for (i, word) in words(key).into_iter().enumerate() {
            if i > 0 {
                text += self.between;
            }
            match if i == 0 { self.first } else { self.other } {
                Word::Lower => text += &word.to_lowercase(),
                Word::Upper => text += &word.to_uppercase(),
                Word::Capital => {
                    let mut chars = word.chars();
                    text.extend(chars.next().into_iter().flat_map(char::to_uppercase));
                    text += &chars.as_str().to_lowercase();
                }
            }
        }
        text
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Lower,
    Upper,
    Digit,
    Separator,
    Other,
}

impl Kind {
    fn of(c: char) -> Self {
        match c {
            '_' | '-' | ' ' => Kind::Separator,
            '0'..='9' => Kind::Digit,
            'a'..='z' => Kind::Lower,
            'A'..='Z' => Kind::Upper,
            c => {
                let (upper, lower, c) = (c.to_uppercase().to_string(), c.to_lowercase().to_string(), c.to_string());
                match upper != lower {
                    true if c == upper => Kind::Upper,
                    true if c == lower => Kind::Lower,
                    _ => Kind::Other,
                }
            }
        }
    }
}

fn words(key: &str) -> Vec<&str> {
    use Kind::{Digit, Lower, Separator, Upper};
    let chars: Vec<(usize, Kind)> = key.char_indices().map(|(i, c)| (i, Kind::of(c))).collect();
    let kind = |i: usize| chars.get(i).map(|(_, kind)| *kind);
    let mut words = Vec::new();
    let mut start = 0;
    for (i, (at, here)) in chars.iter().enumerate() {
        let next = chars.get(i + 1).map_or(key.len(), |(at, _)| *at);
        let ends_before = match (*here, kind(i + 1), kind(i + 2)) {
            (Separator, ..) => Some((*at, next)),
            (Lower, Some(Upper | Digit), _) | (Upper, Some(Digit), _) | (Digit, Some(Lower | Upper), _) => {
                Some((next, next))
            }
            (Upper, Some(Upper), Some(Lower)) => Some((next, next)),
            _ => None,
        };
        if let Some((end, after)) = ends_before {
            words.push(&key[start..end]);
            start = after;
        }
    }
    words.push(&key[start..]);
    words.retain(|word| !word.is_empty());
    words
}
