//! JSON as a tree whose objects keep the order of their members: what `jolt` works on.
//!
//! The original is built with an order-preserving map, the node's own `serde_json` without: turning that on would change
//! every other object of the node. So the tree is ours, and small: members in a list, and beside it, once the list is
//! long, an index, so that an object of ten thousand members is not searched ten thousand times.
//!
//! A removed member leaves its place to the last one, as in the original.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Number;

#[derive(Clone, Debug, Default, PartialEq)]
pub enum Tree {
    #[default]
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    Array(Vec<Tree>),
    Object(Object),
}

#[derive(Clone, Debug, Default)]
pub struct Object {
    members: Vec<(Box<str>, Tree)>,
    /// Where each member is; None while the list is short. Of a removed one, where it was.
    index: Option<BTreeMap<Box<str>, usize>>,
}

/// Members up to which an object is searched one by one.
const SHORT: usize = 16;

impl Tree {
    /// The tree at a JSON pointer (RFC 6901); an index has no sign and no leading zero.
    pub fn pointer(&self, pointer: &str) -> Option<&Tree> {
        let mut at = self;
        for token in tokens(pointer)? {
            at = match at {
                Tree::Object(object) => object.get(&token)?,
                Tree::Array(items) => items.get(position(&token)?)?,
                _ => return None,
            };
        }
        Some(at)
    }

    pub fn pointer_mut(&mut self, pointer: &str) -> Option<&mut Tree> {
        let mut at = self;
        for token in tokens(pointer)? {
            at = match at {
                Tree::Object(object) => object.get_mut(&token)?,
                Tree::Array(items) => items.get_mut(position(&token)?)?,
                _ => return None,
            };
        }
        Some(at)
    }

    /// A lower bound of the bytes of its JSON.
    pub fn weight(&self) -> usize {
        match self {
            Tree::Null | Tree::Bool(_) => 4,
            Tree::Number(_) => 1,
            Tree::Text(text) => text.len() + 2,
            Tree::Array(items) => items.iter().map(|item| item.weight() + 1).sum::<usize>() + 1,
            Tree::Object(object) => object.iter().map(|(key, tree)| key.len() + 4 + tree.weight()).sum::<usize>() + 1,
        }
    }

    /// Whether an array or object lies within more than `levels` - 1 others.
    pub fn deeper_than(&self, levels: usize) -> bool {
        match (self, levels.checked_sub(1)) {
            (Tree::Array(_) | Tree::Object(_), None) => true,
            (Tree::Array(items), Some(left)) => items.iter().any(|item| item.deeper_than(left)),
            (Tree::Object(object), Some(left)) => object.iter().any(|(_, tree)| tree.deeper_than(left)),
            _ => false,
        }
    }
}

fn tokens(pointer: &str) -> Option<impl Iterator<Item = String>> {
    let rooted = pointer.is_empty() || pointer.starts_with('/');
    rooted.then(|| pointer.split('/').skip(1).map(|token| token.replace("~1", "/").replace("~0", "~")))
}

fn position(token: &str) -> Option<usize> {
    let plain = !token.starts_with('+') && (!token.starts_with('0') || token.len() == 1);
    plain.then(|| token.parse().ok()).flatten()
}

impl Object {
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tree)> {
        self.members.iter().map(|(key, tree)| (&**key, tree))
    }

    pub fn get(&self, key: &str) -> Option<&Tree> {
        self.position(key).map(|i| &self.members[i].1)
    }

    pub fn get_mut(&mut self, key: &str) -> Option<&mut Tree> {
        self.position(key).map(|i| &mut self.members[i].1)
    }

    /// The member `key`; put there, as null, if it was not.
    pub fn member(&mut self, key: &str) -> &mut Tree {
        let i = self.position(key).unwrap_or_else(|| self.push(key.into()));
        &mut self.members[i].1
    }

    /// The last member takes its place.
    pub fn remove(&mut self, key: &str) {
        let Some(i) = self.position(key) else { return };
        self.members.swap_remove(i);
        if let (Some(index), Some((moved, _))) = (&mut self.index, self.members.get(i)) {
            index.insert(moved.clone(), i);
        }
    }

    fn push(&mut self, key: Box<str>) -> usize {
        let i = self.members.len();
        if let Some(index) = &mut self.index {
            index.insert(key.clone(), i);
        }
        self.members.push((key, Tree::Null));
        if self.index.is_none() && self.members.len() > SHORT {
            let mut index = BTreeMap::new();
            for (i, (key, _)) in self.members.iter().enumerate() {
                index.insert(key.clone(), i);
            }
            self.index = Some(index);
        }
        i
    }

    fn position(&self, key: &str) -> Option<usize> {
        match &self.index {
            Some(index) => index.get(key).copied().filter(|&i| self.members.get(i).is_some_and(|(k, _)| **k == *key)),
            None => self.members.iter().position(|(k, _)| **k == *key),
        }
    }
}

impl PartialEq for Object {
    fn eq(&self, other: &Self) -> bool {
        self.members == other.members
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Builder)
    }
}

struct Builder;

impl<'de> Visitor<'de> for Builder {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Tree, E> {
        Ok(Number::from_f64(value).map_or(Tree::Null, Tree::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
        Ok(Tree::Text(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Tree, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Tree::Array(items))
    }

    /// Of two members with one key the last counts, in the first one's place.
    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Tree, A::Error> {
        let mut object = Object::default();
        while let Some(key) = access.next_key::<String>()? {
            *object.member(&key) = access.next_value()?;
        }
        Ok(Tree::Object(object))
    }
}

impl Serialize for Tree {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Tree::Null => serializer.serialize_unit(),
            Tree::Bool(value) => serializer.serialize_bool(*value),
            Tree::Number(number) => number.serialize(serializer),
            Tree::Text(text) => serializer.serialize_str(text),
            Tree::Array(items) => serializer.collect_seq(items),
            Tree::Object(object) => {
                let mut map = serializer.serialize_map(Some(object.members.len()))?;
                for (key, tree) in object.iter() {
                    map.serialize_entry(key, tree)?;
                }
                map.end()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn tree(json: &str) -> Tree {
        serde_json::from_str(json).unwrap()
    }

    fn text(tree: &Tree) -> String {
        serde_json::to_string(tree).unwrap()
    }

    #[test]
    fn members_keep_their_order_and_the_last_of_two_counts() {
        assert_eq!(text(&tree(r#"{"b":1,"a":{"z":1.50,"y":-0},"b":2}"#)), r#"{"b":2,"a":{"z":1.5,"y":-0.0}}"#);
    }

    #[test]
    fn the_last_member_takes_the_place_of_a_removed_one_however_many_there_are() {
        for count in [3, SHORT, SHORT + 1, 100] {
            let mut object = Object::default();
            let mut model: Vec<String> = (0..count).map(|i| format!("k{i}")).collect();
            for key in &model {
                *object.member(key) = Tree::Text(key.clone());
            }
            for gone in ["k1", "k0", "k2", "none"] {
                object.remove(gone);
                if let Some(i) = model.iter().position(|key| key == gone) {
                    model.swap_remove(i);
                }
                assert!(object.iter().map(|(key, _)| key).eq(model.iter().map(String::as_str)));
                assert!(model.iter().all(|key| object.get(key) == Some(&Tree::Text(key.clone()))));
                assert_eq!(object.get(gone), None);
            }
        }
    }

    #[test]
    fn depth_is_counted_in_arrays_and_objects() {
        assert!(!tree("1").deeper_than(0));
        assert!(tree("[]").deeper_than(0) && !tree("[]").deeper_than(1));
        assert!(tree(r#"[1,{"a":[]}]"#).deeper_than(2) && !tree(r#"[1,{"a":[]}]"#).deeper_than(3));
    }

    pub fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<i16>().prop_map(|n| Value::from(f64::from(n) / 8.0)),
            "[a-c/~0-1\"é]{0,3}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 64, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map("[a-c/~0-1]{0,2}", inner, 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn it_agrees_with_serde_json_on_text_and_pointers(value in json(), pointer in "(/[a-c~0-1+]{0,2}){0,3}|a") {
            let json = value.to_string();
            let mut tree = tree(&json);
            prop_assert_eq!(text(&tree), json.clone());
            prop_assert_eq!(tree.pointer(&pointer).map(text), value.pointer(&pointer).map(Value::to_string));
            prop_assert_eq!(tree.pointer_mut(&pointer).map(|t| text(t)), value.pointer(&pointer).map(Value::to_string));
            prop_assert!(tree.weight() <= json.len());
        }
    }
}
