//! `shift`: every value that a spec speaks of is put where the spec says, in a new tree.
//!
//! Spec and input are walked together. At each level first the entries that match nothing but make a value (`$`, `@`,
//! `#`), in the order of the spec; then each member of the input goes to the first entry that matches it: a literal
//! before `&`, `&` before stars and alternatives. A scalar is matched as a member of itself, by its text.
//!
//! Two peculiarities of the original stay, because specs rely on them: a text between stars is found at its first
//! place, and what follows the last one is not looked at (`a*b` matches `axbc`); and a value put where another one lies
//! makes an array of both, while a name asked of something that is no object replaces it.
//!
//! What is put down is counted ([`MAX_RECORD`] bytes of JSON at least): a spec can copy the whole input for each of
//! its members, and take an array's index from the input.

use std::borrow::Cow;
use std::mem::take;

use super::path::{Dialect, Found, Index, Left, Part, Path, Piece, Ref, left, right};
use super::{Jolted, SpecError};
use crate::limits::MAX_RECORD;
use crate::rules::hub::tree::Tree;

/// One level of a spec.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shift {
    always: Vec<(Always, Vec<Path>)>,
    literal: Vec<(String, Then)>,
    same: Vec<(Ref, Then)>,
    any_of: Vec<(Vec<Vec<String>>, Then)>,
}

#[derive(Clone, Debug, PartialEq)]
enum Always {
    Name(Ref),
    Value(Found),
    Text(String),
}

#[derive(Clone, Debug, PartialEq)]
enum Then {
    Shift(Shift),
    Put(Vec<Path>),
    Nothing,
}

impl Shift {
    /// `place` is where the spec stands in the parameter, for errors.
    pub fn new(spec: &Tree, dialect: Dialect, place: &str) -> Result<Self, SpecError> {
        let bad = |place: &str, why: &str| SpecError { place: place.into(), why: why.into() };
        let Tree::Object(object) = spec else { return Err(bad(place, "a map is expected")) };
        let mut shift = Shift::default();
        for (key, value) in object.iter() {
            let place = format!("{place}.{key}");
            let always = match left(key, dialect).map_err(|e| bad(&place, &e.to_string()))? {
                Left::Name(name) => Always::Name(name),
                Left::Value(found) => Always::Value(found),
                Left::Text(text) => Always::Text(text),
                Left::Same(name) => {
                    shift.same.push((name, Then::new(value, dialect, &place)?));
                    continue;
                }
                Left::AnyOf(any) => {
                    shift.any_of.push((any, Then::new(value, dialect, &place)?));
                    continue;
                }
                Left::Literal(text) => {
                    shift.literal.push((text, Then::new(value, dialect, &place)?));
                    continue;
                }
            };
            match Then::new(value, dialect, &place)? {
                Then::Put(paths) => shift.always.push((always, paths)),
                _ => return Err(bad(&place, "a path or a list of paths is expected")),
            }
        }
        Ok(shift)
    }

    /// The new tree; null when nothing matched.
    pub fn apply(&self, input: &Tree) -> Result<Tree, Jolted> {
        let root = Level { names: vec![Cow::Borrowed("root")], tree: input };
        let mut run = Run { levels: Levels(vec![root]), out: Tree::Null, left: MAX_RECORD };
        run.level(self, input)?;
        Ok(run.out)
    }
}

impl Then {
    fn new(value: &Tree, dialect: Dialect, place: &str) -> Result<Self, SpecError> {
        let bad = |why: String| SpecError { place: place.into(), why };
        let path = |tree: &Tree| match tree {
            Tree::Text(text) => right(text, dialect).map_err(|e| bad(e.to_string())),
            _ => Err(bad("paths are text".into())),
        };
        Ok(match value {
            Tree::Null => Then::Nothing,
            Tree::Text(_) => Then::Put(vec![path(value)?]),
            Tree::Array(items) => Then::Put(items.iter().map(path).collect::<Result<_, _>>()?),
            Tree::Object(_) => Then::Shift(Shift::new(value, dialect, place)?),
            _ => return Err(bad("a path, a list of paths, a map or null is expected".into())),
        })
    }
}

/// A member of the input on the way down, and what its name matched: the whole, then each star.
#[derive(Clone)]
struct Level<'t> {
    names: Vec<Cow<'t, str>>,
    tree: &'t Tree,
}

/// The way down, the root first.
struct Levels<'t>(Vec<Level<'t>>);

impl<'t> Levels<'t> {
    fn up(&self, up: usize) -> Result<&Level<'t>, Jolted> {
        self.0.iter().rev().nth(up).ok_or(Jolted::NoLevel)
    }

    fn name(&self, name: Ref) -> Result<&Cow<'t, str>, Jolted> {
        self.up(name.up)?.names.get(name.group).ok_or(Jolted::NoStar)
    }

    fn value(&self, found: &Found) -> Result<&'t Tree, Jolted> {
        let mut at = self.up(found.up)?.tree;
        for part in &found.path.0 {
            at = match (part, at) {
                (Part::Key(pieces), Tree::Object(object)) => object.get(&self.key(pieces)?).ok_or(Jolted::NotFound)?,
                (Part::Index(index), Tree::Array(items)) => {
                    items.get(self.index(index)?.ok_or(Jolted::NotFound)?).ok_or(Jolted::NotFound)?
                }
                _ => return Err(Jolted::NotFound),
            };
        }
        Ok(at)
    }

    fn key<'k>(&'k self, pieces: &'k [Piece]) -> Result<Cow<'k, str>, Jolted> {
        let mut key = Cow::Borrowed("");
        for piece in pieces {
            // Joining to an empty text is no copy.
            key += match piece {
                Piece::Text(text) => Cow::Borrowed(text.as_str()),
                Piece::Named(name) => Cow::Borrowed(&**self.name(*name)?),
                Piece::Value(found) => match self.value(found)? {
                    Tree::Text(text) => Cow::Borrowed(text.as_str()),
                    Tree::Number(number) => Cow::Owned(number.to_string()),
                    Tree::Bool(value) => Cow::Borrowed(if *value { "true" } else { "false" }),
                    _ => return Err(Jolted::NoText),
                },
            };
        }
        Ok(key)
    }

    /// None: one more.
    fn index(&self, index: &Index) -> Result<Option<usize>, Jolted> {
        // One that no address reaches is too far, whatever this machine calls an address.
        let far = |n: u64| Some(usize::try_from(n).unwrap_or(usize::MAX));
        let parsed = |text: &str| text.parse().map(far).map_err(|_| Jolted::NoIndex);
        match index {
            Index::Push => Ok(None),
            Index::At(index) => Ok(Some(*index)),
            Index::Named(name) => parsed(self.name(*name)?),
            Index::Value(found) => match self.value(found)? {
                Tree::Text(text) => parsed(text),
                Tree::Number(n) => n.as_u64().map(far).ok_or(Jolted::NoIndex),
                _ => Err(Jolted::NoIndex),
            },
        }
    }
}

struct Run<'t> {
    levels: Levels<'t>,
    out: Tree,
    /// Bytes that may still be put down.
    left: usize,
}

impl<'t> Run<'t> {
    /// `tree` is the last of the levels.
    fn level(&mut self, shift: &Shift, tree: &'t Tree) -> Result<(), Jolted> {
        for (always, paths) in &shift.always {
            self.always(always, paths)?;
        }
        match tree {
            Tree::Object(object) => {
                object.iter().try_for_each(|(key, member)| self.member(shift, Cow::Borrowed(key), member))
            }
            Tree::Array(items) => {
                let mut numbered = items.iter().enumerate();
                numbered.try_for_each(|(i, item)| self.member(shift, Cow::Owned(i.to_string()), item))
            }
            Tree::Text(text) => self.member(shift, Cow::Borrowed(text), tree),
            Tree::Number(number) => self.member(shift, Cow::Owned(number.to_string()), tree),
            Tree::Bool(value) => self.member(shift, Cow::Borrowed(if *value { "true" } else { "false" }), tree),
            Tree::Null => self.member(shift, Cow::Borrowed("null"), tree),
        }
    }

    /// A value that matches nothing stands a level below the one it is written in, under the same name.
    fn always(&mut self, always: &Always, paths: &[Path]) -> Result<(), Jolted> {
        let made;
        let value = match always {
            Always::Name(name) => {
                made = Tree::Text(self.levels.name(*name)?.clone().into_owned());
                &made
            }
            Always::Text(text) => {
                made = Tree::Text(text.clone());
                &made
            }
            Always::Value(found) => self.levels.value(found)?,
        };
        let tip = self.levels.up(0)?.clone();
        self.levels.0.push(tip);
        paths.iter().try_for_each(|path| self.put(path, value))?;
        self.levels.0.pop();
        Ok(())
    }

    fn member(&mut self, shift: &Shift, name: Cow<'t, str>, tree: &'t Tree) -> Result<(), Jolted> {
        if let Some((_, then)) = shift.literal.iter().find(|(literal, _)| *literal == name) {
            return self.then(then, vec![name], tree);
        }
        for (same, then) in &shift.same {
            if *self.levels.name(*same)? == name {
                return self.then(then, vec![name], tree);
            }
        }
        for (any_of, then) in &shift.any_of {
            if let Some(names) = any_of.iter().find_map(|stars| matched(stars, &name)) {
                return self.then(then, names, tree);
            }
        }
        Ok(())
    }

    fn then(&mut self, then: &Then, names: Vec<Cow<'t, str>>, tree: &'t Tree) -> Result<(), Jolted> {
        self.levels.0.push(Level { names, tree });
        match then {
            Then::Shift(shift) => self.level(shift, tree)?,
            Then::Put(paths) => paths.iter().try_for_each(|path| self.put(path, tree))?,
            Then::Nothing => {}
        }
        self.levels.0.pop();
        Ok(())
    }

    fn put(&mut self, path: &Path, value: &Tree) -> Result<(), Jolted> {
        let Self { levels, out, left } = self;
        let mut spend = |bytes: usize| {
            *left = left.checked_sub(bytes).ok_or(Jolted::TooLong)?;
            Ok(())
        };
        spend(value.weight())?;
        let mut slot = out;
        for part in &path.0 {
            slot = match part {
                Part::Index(index) => {
                    let items = array(slot);
                    let at = levels.index(index)?.unwrap_or(items.len());
                    let more = at.saturating_add(1).saturating_sub(items.len());
                    spend(more.saturating_mul(5).saturating_sub(4))?;
                    items.resize(items.len() + more, Tree::Null);
                    &mut items[at]
                }
                Part::Key(pieces) => {
                    let key = levels.key(pieces)?;
                    if !matches!(slot, Tree::Object(_)) {
                        *slot = Tree::Object(Default::default());
                    }
                    let Tree::Object(object) = slot else { unreachable!("made one above") };
                    if object.get(&key).is_none() {
                        spend(key.len() + 3)?;
                    }
                    object.member(&key)
                }
            };
        }
        match slot {
            Tree::Null => *slot = value.clone(),
            Tree::Array(items) => items.push(value.clone()),
            other => *other = Tree::Array(vec![take(other), value.clone()]),
        }
        Ok(())
    }
}

/// The slot as an array: an empty one if it is null, one of what it is if it is none.
fn array(slot: &mut Tree) -> &mut Vec<Tree> {
    if !matches!(slot, Tree::Array(_)) {
        *slot = Tree::Array(match take(slot) {
            Tree::Null => Vec::new(),
            other => vec![other],
        });
    }
    let Tree::Array(items) = slot else { unreachable!("made one above") };
    items
}

/// What a name matches: the whole, then what each star stands for. `stars` are the texts between them.
fn matched<'t>(stars: &[String], name: &Cow<'t, str>) -> Option<Vec<Cow<'t, str>>> {
    let part = |from: usize, to: usize| match name {
        Cow::Borrowed(name) => Cow::Borrowed(&name[from..to]),
        Cow::Owned(name) => Cow::Owned(name[from..to].to_owned()),
    };
    let (first, rest) = stars.split_first()?;
    if rest.is_empty() {
        return (first.as_str() == *name).then(|| vec![name.clone()]);
    }
    let mut at = name.strip_prefix(first.as_str()).map(|_| first.len())?;
    let mut names = vec![name.clone()];
    for text in rest {
        let to = if text.is_empty() { name.len() } else { at + name[at..].find(text.as_str())? };
        names.push(part(at, to));
        if !text.is_empty() {
            at = to;
        }
    }
    Some(names)
}
