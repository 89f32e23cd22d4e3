//! Rewriting a JSON object in one pass over its bytes: what the field rules share.
//!
//! A [`Plan`] is a small tree of the fields that are spoken of and what becomes of each. Every byte of the fields that are
//! not spoken of is copied as it stands, in its order: digits, escapes, white space within values. Paths go through
//! objects; an array is a value like any other.
//!
//! Refused rather than guessed: a value that is not an object, a rename onto a name that is taken, a field to be set
//! below something that is no object.

use crate::json::{self, Malformed, Path, Scanner};
use crate::limits::MAX_RULE_FIELDS;

/// What becomes of one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leaf {
    Drop,
    Keep,
    Rename(String),
    /// Set it, or add it, to what `fill` gives for this number.
    Set(usize),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Node {
    name: String,
    /// None: only fields below are spoken of.
    leaf: Option<Leaf>,
    below: Vec<Node>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    nodes: Vec<Node>,
    /// Whether fields that are not spoken of stay.
    others_stay: bool,
}

/// Fields that cannot stand together in one rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    #[error("no fields are named")]
    Empty,
    #[error("more than {MAX_RULE_FIELDS} fields; use two rules")]
    TooMany,
    #[error("field `{0}` is named twice, or together with a field inside it")]
    Twice(Path),
    #[error("two fields would be named `{0}`")]
    SameTarget(String),
}

/// Why a record was not rewritten. It passes unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RewriteError {
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("the value is not a JSON object")]
    NotAnObject,
    #[error("a field of the new name is there already")]
    NameTaken,
}

/// Appends the JSON for a [`Leaf::Set`]; false, nothing appended: leave the field as it is.
pub type Fill<'f> = &'f mut dyn FnMut(usize, &mut Vec<u8>) -> bool;

impl Plan {
    pub fn new(fields: Vec<(Path, Leaf)>, others_stay: bool) -> Result<Self, PlanError> {
        if fields.is_empty() {
            return Err(PlanError::Empty);
        }
        if fields.len() > MAX_RULE_FIELDS {
            return Err(PlanError::TooMany);
        }
        let mut plan = Self { nodes: Vec::new(), others_stay };
        for (path, leaf) in fields {
            insert(&mut plan.nodes, path.names(), leaf).map_err(|()| PlanError::Twice(path.clone()))?;
        }
        one_field_per_name(&plan.nodes)?;
        Ok(plan)
    }

    /// Writes the rewritten value to `out` (cleared first). False: nothing changed.
    pub fn apply(&self, value: &[u8], fill: Fill<'_>, out: &mut Vec<u8>) -> Result<bool, RewriteError> {
        out.clear();
        let mut walk =
            Walk { value, scan: Scanner::new(value), others_stay: self.others_stay, changed: false, fill, out };
        walk.scan.space();
        walk.copy_from(0);
        if walk.scan.peek() != Some(b'{') {
            walk.scan.value(0)?;
            walk.scan.end()?;
            return Err(RewriteError::NotAnObject);
        }
        walk.object(&self.nodes, 0)?;
        let tail = walk.scan.at();
        walk.scan.end()?;
        walk.copy_from(tail);
        Ok(walk.changed)
    }
}

fn insert(nodes: &mut Vec<Node>, names: &[String], leaf: Leaf) -> Result<(), ()> {
    let Some((name, rest)) = names.split_first() else { return Err(()) };
    let index = nodes.iter().position(|n| n.name == *name);
    match (index, rest.is_empty()) {
        (Some(_), true) => Err(()),
        (Some(i), false) if nodes[i].leaf.is_some() => Err(()),
        (Some(i), false) => insert(&mut nodes[i].below, rest, leaf),
        (None, true) => {
            nodes.push(Node { name: name.clone(), leaf: Some(leaf), below: Vec::new() });
            Ok(())
        }
        (None, false) => {
            let mut node = Node { name: name.clone(), leaf: None, below: Vec::new() };
            insert(&mut node.below, rest, leaf)?;
            nodes.push(node);
            Ok(())
        }
    }
}

/// No two renames of one object may give the same name.
fn one_field_per_name(nodes: &[Node]) -> Result<(), PlanError> {
    for (i, node) in nodes.iter().enumerate() {
        one_field_per_name(&node.below)?;
        if let Some(Leaf::Rename(to)) = &node.leaf {
            let same = |other: &Node| other.leaf == Some(Leaf::Rename(to.clone()));
            if nodes[i + 1..].iter().any(same) {
                return Err(PlanError::SameTarget(to.clone()));
            }
        }
    }
    Ok(())
}

/// One pass over one value. A member is copied together with the white space around it, up to the next comma or bracket.
struct Walk<'w> {
    value: &'w [u8],
    scan: Scanner<'w>,
    others_stay: bool,
    changed: bool,
    fill: Fill<'w>,
    out: &'w mut Vec<u8>,
}

/// What was met in one object, a bit for each node.
#[derive(Default)]
struct Met {
    /// The node's field.
    field: u64,
    /// Another field that has the name which the node's field would get.
    target: u64,
}

const _: () = assert!(MAX_RULE_FIELDS <= u64::BITS as usize);

impl Walk<'_> {
    fn copy_from(&mut self, start: usize) {
        self.out.extend_from_slice(&self.value[start..self.scan.at()]);
    }

    /// Rewrites the object here; gives how many members are left in it.
    fn object(&mut self, nodes: &[Node], depth: usize) -> Result<usize, RewriteError> {
        self.scan.open(b'{')?;
        self.out.push(b'{');
        let mut met = Met::default();
        let mut kept = 0;
        let mut start = self.scan.at();
        if !self.scan.closes(b'}') {
            loop {
                let mark = self.out.len();
                if kept > 0 {
                    self.out.push(b',');
                }
                if self.member(nodes, start, depth, &mut met)? {
                    kept += 1;
                    let end = self.scan.at();
                    self.scan.space();
                    self.copy_from(end);
                } else {
                    self.changed = true;
                    self.out.truncate(mark);
                }
                let more = self.scan.more(b'}')?;
                start = self.scan.at();
                if !more {
                    break;
                }
            }
        }
        if met.field & met.target != 0 {
            return Err(RewriteError::NameTaken);
        }
        for (i, node) in nodes.iter().enumerate() {
            if met.field & (1 << i) == 0 && self.add(node, kept > 0) {
                self.changed = true;
                kept += 1;
            }
        }
        self.out.push(b'}');
        Ok(kept)
    }

    /// Rewrites the member here, whose bytes begin at `start`; false when it is to be left out.
    fn member(&mut self, nodes: &[Node], start: usize, depth: usize, met: &mut Met) -> Result<bool, RewriteError> {
        self.scan.space();
        let key_at = self.scan.at();
        let key = self.scan.key()?;
        let value_at = self.scan.at();
        let Some(i) = nodes.iter().position(|n| json::key_is(key, &n.name)) else {
            met.target |= targets(nodes, key);
            return self.copy_member(start, depth, self.others_stay);
        };
        met.field |= 1 << i;
        match &nodes[i].leaf {
            Some(Leaf::Drop) => self.copy_member(start, depth, false),
            Some(Leaf::Keep) => self.copy_member(start, depth, true),
            Some(Leaf::Rename(to)) => {
                self.out.extend_from_slice(&self.value[start..key_at]);
                json::write_string(to.as_bytes(), self.out);
                self.changed = true;
                self.copy_member(key_at + key.len() + 2, depth, true)
            }
            Some(Leaf::Set(number)) => {
                let mark = self.out.len();
                self.out.extend_from_slice(&self.value[start..value_at]);
                let set_at = self.out.len();
                if !(self.fill)(*number, self.out) {
                    self.out.truncate(mark);
                    return self.copy_member(start, depth, true);
                }
                let old = self.scan.value(depth + 1)?;
                self.changed |= old != &self.out[set_at..];
                Ok(true)
            }
            None if self.scan.peek() == Some(b'{') => {
                self.copy_from(start);
                let left = self.object(&nodes[i].below, depth + 1)?;
                Ok(self.others_stay || left > 0)
            }
            None if sets(&nodes[i].below) => Err(RewriteError::NotAnObject),
            None => self.copy_member(start, depth, self.others_stay),
        }
    }

    /// Steps over the value here, copying everything from `start` on if `keep`; gives `keep` back.
    fn copy_member(&mut self, start: usize, depth: usize, keep: bool) -> Result<bool, RewriteError> {
        self.scan.value(depth + 1)?;
        if keep {
            self.copy_from(start);
        }
        Ok(keep)
    }

    /// Adds what `node` sets and the object did not have; false when that is nothing.
    fn add(&mut self, node: &Node, comma: bool) -> bool {
        let mark = self.out.len();
        if comma {
            self.out.push(b',');
        }
        json::write_string(node.name.as_bytes(), self.out);
        self.out.push(b':');
        let added = match &node.leaf {
            Some(Leaf::Set(number)) => (self.fill)(*number, self.out),
            Some(_) => false,
            None => {
                self.out.push(b'{');
                let mut any = false;
                for below in &node.below {
                    any |= self.add(below, any);
                }
                self.out.push(b'}');
                any
            }
        };
        if !added {
            self.out.truncate(mark);
        }
        added
    }
}

/// The nodes whose field would be renamed to `key`.
fn targets(nodes: &[Node], key: &[u8]) -> u64 {
    let hit = |n: &Node| matches!(&n.leaf, Some(Leaf::Rename(to)) if json::key_is(key, to));
    nodes.iter().enumerate().filter(|(_, n)| hit(n)).fold(0, |bits, (i, _)| bits | 1 << i)
}

fn sets(nodes: &[Node]) -> bool {
    nodes.iter().any(|n| matches!(n.leaf, Some(Leaf::Set(_))) || sets(&n.below))
}

#[cfg(test)]
mod tests;
