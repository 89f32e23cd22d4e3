//! `jolt`: JSON made into JSON of another shape, by a spec that is JSON itself.
//!
//! A spec is a list of operations, each working on what the one before it made: `shift` puts values elsewhere (see
//! [`path`] for its expressions, [`shift`] for what they do), `default` adds what is not there, `remove` takes away.
//!
//! Same input, same bytes as `infinyon/jolt` since 0.3, which is fluvio-jolt 0.3: members in the order of the input
//! (`shift`: in the order they are put down), the last one in the place of one that was removed. Compared with it on
//! recorded specs and inputs, see the tests. Where the original would fill memory, this fails; so does a result that is
//! nested deeper than can be read.

pub mod path;
pub mod shift;

use self::path::Dialect;
use self::shift::Shift;
use super::Failure;
use super::tree::Tree;
use crate::limits::MAX_RULE_FIELDS;

/// The levels of arrays and objects that a result may have, as many as are read.
const MAX_DEPTH: usize = 127;

#[derive(Clone, Debug, PartialEq)]
pub struct Jolt {
    operations: Vec<Operation>,
    dialect: Dialect,
}

#[derive(Clone, Debug, PartialEq)]
enum Operation {
    Shift(Shift),
    /// Where each leaf is, and what it is.
    Default(Vec<(Vec<String>, Tree)>),
    Remove(Vec<Vec<String>>),
}

/// A spec that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{place}`: {why}")]
pub struct SpecError {
    pub place: String,
    pub why: String,
}

/// Why a record cannot be shifted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Jolted {
    #[error("a level that is asked for is above the root")]
    NoLevel,
    #[error("a star that is asked for was not in the match")]
    NoStar,
    #[error("a value that `@` asks for is not there")]
    NotFound,
    #[error("a value that is to be a name is neither text nor a number")]
    NoText,
    #[error("what is to be an index is none")]
    NoIndex,
    #[error("the result would be too long")]
    TooLong,
}

impl Jolt {
    /// `spec`: the text of the parameter.
    pub fn new(spec: &str, dialect: Dialect) -> Result<Self, SpecError> {
        let bad = |place: String, why: &str| SpecError { place, why: why.into() };
        let tree: Tree = serde_json::from_str(spec).map_err(|e| bad("spec".into(), &format!("no JSON: {e}")))?;
        let Tree::Array(items) = tree else { return Err(bad("spec".into(), "a list of operations is expected")) };
        if items.len() > MAX_RULE_FIELDS {
            return Err(bad("spec".into(), &format!("more than {MAX_RULE_FIELDS} operations")));
        }
        let mut operations = Vec::with_capacity(items.len());
        for (i, item) in items.iter().enumerate() {
            let place = format!("spec[{i}]");
            let Tree::Object(object) = item else { return Err(bad(place, "a map is expected")) };
            if let Some((key, _)) = object.iter().find(|(key, _)| !["operation", "spec"].contains(key)) {
                return Err(bad(format!("{place}.{key}"), "an operation has `operation` and `spec`, nothing else"));
            }
            let spec = object.get("spec").ok_or_else(|| bad(place.clone(), "`spec` is missing"))?;
            let of_spec = format!("{place}.spec");
            operations.push(match object.get("operation") {
                Some(Tree::Text(name)) if name == "shift" => Operation::Shift(Shift::new(spec, dialect, &of_spec)?),
                Some(Tree::Text(name)) if name == "default" => Operation::Default(leaves(spec)),
                Some(Tree::Text(name)) if name == "remove" => {
                    Operation::Remove(leaves(spec).into_iter().map(|(path, _)| path).collect())
                }
                _ => return Err(bad(format!("{place}.operation"), "`shift`, `default` or `remove` is expected")),
            });
        }
        Ok(Self { operations, dialect })
    }

    pub fn apply(&self, value: &[u8], out: &mut Vec<u8>) -> Result<(), Failure> {
        let mut tree: Tree = super::parse(value)?;
        for operation in &self.operations {
            match operation {
                Operation::Shift(shift) => {
                    tree = shift.apply(&tree)?;
                    if self.dialect == Dialect::Page && tree == Tree::Null {
                        tree = Tree::Object(Default::default());
                    }
                }
                Operation::Default(leaves) => leaves.iter().for_each(|(path, leaf)| default(&mut tree, path, leaf)),
                Operation::Remove(paths) => paths.iter().for_each(|path| remove(&mut tree, path)),
            }
            if tree.deeper_than(MAX_DEPTH) {
                return Err(Failure::TooDeep);
            }
        }
        super::write(&tree, out)
    }
}

impl From<Jolted> for Failure {
    fn from(jolted: Jolted) -> Self {
        match jolted {
            Jolted::TooLong => Failure::TooLong,
            other => Failure::Jolt(other),
        }
    }
}

/// Every scalar of a spec and the way to it; an array's items by their numbers. Empty arrays and objects say nothing.
fn leaves(spec: &Tree) -> Vec<(Vec<String>, Tree)> {
    fn walk(tree: &Tree, path: &mut Vec<String>, leaves: &mut Vec<(Vec<String>, Tree)>) {
        let mut below = |name: String, tree: &Tree| {
            path.push(name);
            walk(tree, path, leaves);
            path.pop();
        };
        match tree {
            Tree::Array(items) => items.iter().enumerate().for_each(|(i, item)| below(i.to_string(), item)),
            Tree::Object(object) => object.iter().for_each(|(key, tree)| below(key.into(), tree)),
            leaf => leaves.push((path.clone(), leaf.clone())),
        }
    }
    let mut leaves = Vec::new();
    walk(spec, &mut Vec::new(), &mut leaves);
    leaves
}

/// The way as the original looks things up: slashes and tildes within a name are not escaped.
fn pointer(path: &[String]) -> String {
    path.iter().flat_map(|name| ["/", name]).collect()
}

fn default(tree: &mut Tree, path: &[String], leaf: &Tree) {
    if tree.pointer(&pointer(path)).is_some() {
        return;
    }
    let mut at = tree;
    for name in path {
        let Tree::Object(object) = at else { return };
        if object.get(name).is_none() {
            *object.member(name) = Tree::Object(Default::default());
        }
        at = object.member(name);
    }
    *at = leaf.clone();
}

fn remove(tree: &mut Tree, path: &[String]) {
    let (name, parents) = path.split_last().map_or(("", &[][..]), |(name, parents)| (name.as_str(), parents));
    if tree.pointer(&pointer(path)).is_some()
        && let Some(Tree::Object(object)) = tree.pointer_mut(&pointer(parents))
    {
        object.remove(name);
    }
}

#[cfg(test)]
mod tests;
