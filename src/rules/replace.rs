//! Replacing values of a JSON object in one pass over its bytes: what `mask` and `hash` share.
//!
//! Unlike a plan of [`rewrite`](super::rewrite) it must never miss what it is told to hide: a path goes through arrays into
//! each element (`users.email` is that of every user), a field that an object has twice is replaced twice, and where a path
//! ends at an object or array, every string, number and boolean inside it is replaced. Null stays: there is nothing to
//! hide. Names of fields stay. Everything else is copied byte for byte.

use crate::json::{self, Malformed, Path, Scanner, Value};
use crate::limits::MAX_RULE_FIELDS;

/// Fields whose values are replaced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(Vec<Node>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Node {
    name: String,
    /// The path ends here; what is below does not matter.
    ends: bool,
    below: Vec<Node>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldsError {
    #[error("more than {MAX_RULE_FIELDS} fields; use two rules")]
    TooMany,
    #[error("nothing is named: set `fields`, `key` or `value`")]
    Nothing,
    #[error("`value` is the whole value: `fields` within it cannot be named as well")]
    Both,
}

/// What a rule that hides works on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    fields: Fields,
    pub key: bool,
    pub value: bool,
}

impl Target {
    pub fn new(paths: &[Path], key: bool, value: bool) -> Result<Self, FieldsError> {
        if value && !paths.is_empty() {
            return Err(FieldsError::Both);
        }
        if !value && !key && paths.is_empty() {
            return Err(FieldsError::Nothing);
        }
        Ok(Self { fields: Fields::new(paths)?, key, value })
    }

    pub fn fields(&self) -> Option<&Fields> {
        (!self.fields.0.is_empty()).then_some(&self.fields)
    }
}

/// Appends the JSON that a scalar becomes; gets its text (a string without quotes and escapes, anything else as it stands).
pub type Replacement<'f> = &'f mut dyn FnMut(&[u8], &mut Vec<u8>);

impl Fields {
    pub fn new(paths: &[Path]) -> Result<Self, FieldsError> {
        if paths.len() > MAX_RULE_FIELDS {
            return Err(FieldsError::TooMany);
        }
        let mut nodes = Vec::new();
        for path in paths {
            insert(&mut nodes, path.names());
        }
        Ok(Self(nodes))
    }

    /// Writes the value with its fields replaced to `out` (cleared first). False: none of them was there.
    pub fn replace(&self, value: &[u8], with: Replacement<'_>, out: &mut Vec<u8>) -> Result<bool, Malformed> {
        out.clear();
        let mut walk = Walk { value, scan: Scanner::new(value), copied: 0, changed: false, with, out };
        walk.scan.space();
        walk.within(&self.0, 0)?;
        walk.scan.end()?;
        walk.copy();
        Ok(walk.changed)
    }
}

fn insert(nodes: &mut Vec<Node>, names: &[String]) {
    let Some((name, rest)) = names.split_first() else { return };
    let at = nodes.iter().position(|n| n.name == *name).unwrap_or_else(|| {
        nodes.push(Node { name: name.clone(), ends: false, below: Vec::new() });
        nodes.len() - 1
    });
    nodes[at].ends |= rest.is_empty();
    insert(&mut nodes[at].below, rest);
}

/// Puts a node and all below it among `nodes`.
fn join(nodes: &mut Vec<Node>, node: &Node) {
    match nodes.iter_mut().find(|n| n.name == node.name) {
        Some(same) => {
            same.ends |= node.ends;
            node.below.iter().for_each(|below| join(&mut same.below, below));
        }
        None => nodes.push(node.clone()),
    }
}

/// Takes a value, its key if it has one, and its depth.
type Take<'t, 'w> = &'t mut dyn FnMut(&mut Walk<'w>, Option<&[u8]>, usize) -> Result<(), Malformed>;

struct Walk<'w> {
    value: &'w [u8],
    scan: Scanner<'w>,
    /// Up to here `value` is in `out`.
    copied: usize,
    changed: bool,
    with: Replacement<'w>,
    out: &'w mut Vec<u8>,
}

impl<'w> Walk<'w> {
    /// Copies up to where the scan is.
    fn copy(&mut self) {
        self.out.extend_from_slice(&self.value[self.copied..self.scan.at()]);
        self.copied = self.scan.at();
    }

    /// Looks for the nodes' fields in the value here. An array's element is named by its number or not at all.
    fn within(&mut self, nodes: &[Node], depth: usize) -> Result<(), Malformed> {
        match self.scan.peek() {
            Some(b'{') if !nodes.is_empty() => self.each(b'{', depth, &mut |walk, key, depth| {
                let name = |n: &&Node| key.is_some_and(|k| json::key_is(k, &n.name));
                match nodes.iter().find(name) {
                    Some(node) if node.ends => walk.all(depth),
                    Some(node) => walk.within(&node.below, depth),
                    None => walk.scan.value(depth).map(drop),
                }
            }),
            Some(b'[') if !nodes.is_empty() => {
                let mut index = 0usize;
                self.each(b'[', depth, &mut |walk, _, depth| {
                    let number = nodes.iter().find(|n| n.name.parse() == Ok(index));
                    index += 1;
                    match number {
                        Some(node) if node.ends => walk.all(depth),
                        // What is wanted of this element, and what is wanted of each.
                        Some(node) => {
                            let mut both = node.below.clone();
                            nodes.iter().for_each(|n| join(&mut both, n));
                            walk.within(&both, depth)
                        }
                        None => walk.within(nodes, depth),
                    }
                })
            }
            _ => self.scan.value(depth).map(drop),
        }
    }

    /// Replaces every scalar in the value here.
    fn all(&mut self, depth: usize) -> Result<(), Malformed> {
        match self.scan.peek() {
            Some(bracket @ (b'{' | b'[')) => self.each(bracket, depth, &mut |walk, _, depth| walk.all(depth)),
            _ => {
                self.copy();
                let raw = self.scan.value(depth)?;
                match Value::of(raw) {
                    Some(Value::Null) | None => self.copy(),
                    Some(Value::String(inside)) => self.put(&json::unescape(inside)),
                    Some(_) => self.put(raw),
                }
                Ok(())
            }
        }
    }

    fn put(&mut self, text: &[u8]) {
        (self.with)(text, self.out);
        self.copied = self.scan.at();
        self.changed = true;
    }

    /// Steps through the object or array here, handing over each value with its key and the depth it is at.
    fn each(&mut self, bracket: u8, depth: usize, take: Take<'_, 'w>) -> Result<(), Malformed> {
        let close = if bracket == b'{' { b'}' } else { b']' };
        self.scan.nest(bracket, depth)?;
        if self.scan.closes(close) {
            return Ok(());
        }
        loop {
            let key = if bracket == b'{' { Some(self.scan.key()?) } else { None };
            self.scan.space();
            take(self, key, depth + 1)?;
            if !self.scan.more(close)? {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::tests::any_json;
    use proptest::prelude::*;

    fn replace(paths: &[&str], value: &str) -> Result<Option<String>, Malformed> {
        let paths: Vec<Path> = paths.iter().map(|p| Path::parse(p).unwrap()).collect();
        let mut out = b"left over".to_vec();
        let mut with = |text: &[u8], out: &mut Vec<u8>| json::write_string(&[b"<", text, b">"].concat(), out);
        let changed = Fields::new(&paths).unwrap().replace(value.as_bytes(), &mut with, &mut out)?;
        let out = String::from_utf8(out).unwrap();
        assert!(changed || out == value);
        Ok(changed.then_some(out))
    }

    #[test]
    fn only_the_named_values_change_and_everything_else_stays_byte_for_byte() {
        let value = r#" {"a" : "x\"y", "b":[1, {"a":2}], "c": {"d" :1.50,"e":null} } "#;
        assert_eq!(
            replace(&["a", "c.d", "c.e"], value).unwrap().unwrap(),
            r#" {"a" : "<x\"y>", "b":[1, {"a":2}], "c": {"d" :"<1.50>","e":null} } "#
        );
        assert_eq!(replace(&["x", "a.b", "c.e"], value).unwrap(), None);
    }

    #[test]
    fn a_path_goes_into_every_element_and_ends_in_everything_below_it() {
        let value = r#"{"u":[{"m":"a"},{"m":["b",{"k":true}]},[{"m":"c"}]]}"#;
        assert_eq!(
            replace(&["u.m"], value).unwrap().unwrap(),
            r#"{"u":[{"m":"<a>"},{"m":["<b>",{"k":"<true>"}]},[{"m":"<c>"}]]}"#
        );
        assert_eq!(replace(&["u.0"], r#"{"u":["a","b"]}"#).unwrap().unwrap(), r#"{"u":["<a>","b"]}"#);
        assert_eq!(
            replace(&["u.1.m"], r#"{"u":[{"m":1},{"m":2}]}"#).unwrap().unwrap(),
            r#"{"u":[{"m":1},{"m":"<2>"}]}"#
        );
        let several =
            replace(&["u.0.m", "u.1.m", "u.k", "u.0.k.x"], r#"{"u":[{"m":1,"k":2,"m":3},{"m":4},{"m":5,"k":6}]}"#);
        assert_eq!(
            several.unwrap().unwrap(),
            r#"{"u":[{"m":"<1>","k":"<2>","m":"<3>"},{"m":"<4>"},{"m":5,"k":"<6>"}]}"#
        );
        assert_eq!(replace(&["m"], r#"[{"m":1}]"#).unwrap().unwrap(), r#"[{"m":"<1>"}]"#);
    }

    #[test]
    fn a_field_that_comes_twice_is_replaced_twice_however_its_name_is_spelt() {
        assert_eq!(replace(&["a"], r#"{"a":1,"\u0061":2}"#).unwrap().unwrap(), r#"{"a":"<1>","\u0061":"<2>"}"#);
        assert_eq!(replace(&["a.b", "a"], r#"{"a":{"c":2}}"#).unwrap().unwrap(), r#"{"a":{"c":"<2>"}}"#);
    }

    #[test]
    fn malformed_and_bottomless_input_is_an_error() {
        for bad in ["", "{", "{\"a\":1", "{\"a\":1}x", "{\"a\" 1}", "{\"a\":[1 2]}", "{\"a\":{\"b\":}}"] {
            assert!(replace(&["a"], bad).is_err(), "{bad}");
        }
        let deep = format!("{{\"a\":{}", "[".repeat(200_000));
        assert!(replace(&["a"], &deep).is_err());
        assert!(replace(&["a.b"], &deep).is_err());
    }

    #[test]
    fn targets_that_name_nothing_or_too_much_are_refused() {
        assert_eq!(Target::new(&[], false, false), Err(FieldsError::Nothing));
        assert_eq!(Target::new(&[Path::parse("a").unwrap()], false, true), Err(FieldsError::Both));
    }

    /// The same on a tree.
    fn hide(json: &mut serde_json::Value, names: &[String]) {
        match (json, names) {
            (serde_json::Value::Array(items), _) => items.iter_mut().for_each(|i| hide(i, names)),
            (serde_json::Value::Object(members), [name, rest @ ..]) => {
                members.get_mut(name).into_iter().for_each(|m| hide(m, rest));
            }
            (serde_json::Value::Object(members), []) => members.values_mut().for_each(|m| hide(m, names)),
            (serde_json::Value::Null, _) | (_, [_, ..]) => {}
            (scalar, []) => {
                let text = scalar.as_str().map_or_else(|| scalar.to_string(), str::to_owned);
                *scalar = format!("<{text}>").into();
            }
        }
    }

    proptest! {
        #[test]
        fn it_replaces_what_a_tree_would(json in any_json(), path in "[a-c](\\.[a-c]){0,2}") {
            let text = serde_json::to_string(&json).unwrap();
            let mut expected = json;
            hide(&mut expected, Path::parse(&path).unwrap().names());
            let got = replace(&[&path], &text).unwrap().unwrap_or(text);
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&got).unwrap(), expected);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let fields = Fields::new(&[Path::parse("a").unwrap()]).unwrap();
            let _ = fields.replace(&bytes, &mut |_, _| {}, &mut Vec::new());
        }
    }
}
