//! What differs between two records, or two lists of them, so that a person sees it.

use std::collections::BTreeMap;

use crate::json::{Malformed, Scanner, unescape};

/// Records that are compared each with each; beyond, one by one in order.
const MAX_TABLE: usize = 1 << 20;
/// Characters of a value that are shown.
const SHOWN: usize = 2000;

/// One thing that is not the same; an absent side is None.
pub struct Difference {
    /// Of a JSON member: `a.b[2]`.
    pub path: String,
    pub left: Option<String>,
    pub right: Option<String>,
}

impl Difference {
    pub fn new(path: &str, left: Option<String>, right: Option<String>) -> Self {
        Self { path: path.to_owned(), left, right }
    }
}

/// Bytes as a person sees them.
pub fn text(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    match text.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{}... ({} bytes)", &text[..at], bytes.len()),
        None => text.into_owned(),
    }
}

/// The members in which two JSON values differ: in any order, numbers digit by digit. None: one of them is no JSON.
pub fn json(left: &[u8], right: &[u8]) -> Option<Vec<Difference>> {
    let (left, right) = (whole(left)?, whole(right)?);
    let mut found = Vec::new();
    walk("", left, right, &mut found).ok()?;
    Some(found)
}

fn whole(bytes: &[u8]) -> Option<&[u8]> {
    let mut scanner = Scanner::new(bytes);
    scanner.space();
    let value = scanner.value(0).ok()?;
    scanner.end().ok()?;
    Some(value)
}

/// The scanner has been through both: how deep they go is bounded.
fn walk(path: &str, left: &[u8], right: &[u8], found: &mut Vec<Difference>) -> Result<(), Malformed> {
    match (left.first(), right.first()) {
        (Some(b'{'), Some(b'{')) => {
            let (left, right) = (members(left)?, members(right)?);
            let below = |name: &String| if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            for (name, value) in &left {
                match right.get(name) {
                    Some(other) => walk(&below(name), value, other, found)?,
                    None => found.push(Difference::new(&below(name), Some(text(value)), None)),
                }
            }
            for (name, value) in right.iter().filter(|(name, _)| !left.contains_key(*name)) {
                found.push(Difference::new(&below(name), None, Some(text(value))));
            }
        }
        (Some(b'['), Some(b'[')) => {
            let (left, right) = (elements(left)?, elements(right)?);
            for at in 0..left.len().max(right.len()) {
                let path = format!("{path}[{at}]");
                match (left.get(at), right.get(at)) {
                    (Some(left), Some(right)) => walk(&path, left, right, found)?,
                    (left, right) => {
                        let [left, right] = [left, right].map(|side| side.map(|value| text(value)));
                        found.push(Difference { path, left, right });
                    }
                }
            }
        }
        (Some(b'"'), Some(b'"')) if inside(left) == inside(right) => {}
        _ if left == right => {}
        _ => found.push(Difference::new(path, Some(text(left)), Some(text(right)))),
    }
    Ok(())
}

fn inside(raw: &[u8]) -> std::borrow::Cow<'_, [u8]> {
    unescape(&raw[1..raw.len() - 1])
}

/// Of members of one name the last counts.
fn members(object: &[u8]) -> Result<BTreeMap<String, &[u8]>, Malformed> {
    let (mut scanner, mut members) = (Scanner::new(object), BTreeMap::new());
    scanner.open(b'{')?;
    if scanner.closes(b'}') {
        return Ok(members);
    }
    loop {
        let name = String::from_utf8_lossy(&unescape(scanner.key()?)).into_owned();
        members.insert(name, scanner.value(0)?);
        if !scanner.more(b'}')? {
            return Ok(members);
        }
    }
}

fn elements(array: &[u8]) -> Result<Vec<&[u8]>, Malformed> {
    let (mut scanner, mut elements) = (Scanner::new(array), Vec::new());
    scanner.open(b'[')?;
    if scanner.closes(b']') {
        return Ok(elements);
    }
    loop {
        scanner.space();
        elements.push(scanner.value(0)?);
        if !scanner.more(b']')? {
            return Ok(elements);
        }
    }
}

/// One step from the list on the left to that on the right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edit {
    Same(usize, usize),
    Left(usize),
    Right(usize),
}

/// The shortest way from a list to another, by which of their elements are the same.
pub fn edits(left: usize, right: usize, same: &dyn Fn(usize, usize) -> bool) -> Vec<Edit> {
    let most = left.min(right);
    let front = (0..most).take_while(|at| same(*at, *at)).count();
    let back = (0..most - front).take_while(|back| same(left - 1 - back, right - 1 - back)).count();
    let (rows, columns) = (left - front - back, right - front - back);
    let mut edits: Vec<Edit> = (0..front).map(|at| Edit::Same(at, at)).collect();
    if rows.saturating_mul(columns) > MAX_TABLE {
        edits.extend((front..left - back).map(Edit::Left));
        edits.extend((front..right - back).map(Edit::Right));
    } else {
        middle(front, (rows, columns), same, &mut edits);
    }
    edits.extend((0..back).rev().map(|back| Edit::Same(left - 1 - back, right - 1 - back)));
    edits
}

/// By the longest common subsequence.
fn middle(front: usize, (rows, columns): (usize, usize), same: &dyn Fn(usize, usize) -> bool, edits: &mut Vec<Edit>) {
    let width = columns + 1;
    let mut longest = vec![0u32; (rows + 1) * width];
    for row in (0..rows).rev() {
        for column in (0..columns).rev() {
            longest[row * width + column] = if same(front + row, front + column) {
                longest[(row + 1) * width + column + 1] + 1
            } else {
                longest[(row + 1) * width + column].max(longest[row * width + column + 1])
            };
        }
    }
    let (mut row, mut column) = (0, 0);
    while row < rows || column < columns {
        let at = |row: usize, column: usize| longest[row * width + column];
        if row < rows && column < columns && same(front + row, front + column) {
            edits.push(Edit::Same(front + row, front + column));
            (row, column) = (row + 1, column + 1);
        } else if column == columns || row < rows && at(row + 1, column) >= at(row, column + 1) {
            edits.push(Edit::Left(front + row));
            row += 1;
        } else {
            edits.push(Edit::Right(front + column));
            column += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn differ(left: &str, right: &str) -> Vec<String> {
        let show = |side: Option<String>| side.unwrap_or_else(|| "-".into());
        let found = json(left.as_bytes(), right.as_bytes()).unwrap();
        found.into_iter().map(|d| format!("{}: {} {}", d.path, show(d.left), show(d.right))).collect()
    }

    #[test]
    fn members_are_the_same_in_any_order_and_numbers_digit_by_digit() {
        assert!(differ(r#"{"a":1,"b":[1,{"c":null}]}"#, " { \"b\" : [1, {\"c\":null}], \"a\":1 } ").is_empty());
        assert!(differ(r#""\u00e4""#, r#""ä""#).is_empty());
        assert_eq!(differ(r#"{"a":1.50}"#, r#"{"a":1.5}"#), ["a: 1.50 1.5"]);
        assert_eq!(differ("12345678901234567890", "12345678901234567891").len(), 1);
        assert_eq!(
            differ(r#"{"a":{"b":[1,2]},"x":1}"#, r#"{"a":{"b":[1,3,4]},"y":"1"}"#),
            ["a.b[1]: 2 3", "a.b[2]: - 4", "x: 1 -", "y: - \"1\""]
        );
        assert!(json(b"{", b"{}").is_none() && json(b"{}", b"{} x").is_none());
    }

    proptest! {
        #[test]
        fn edits_lead_from_one_list_to_the_other(
            left in prop::collection::vec(0u8..4, 0..12), right in prop::collection::vec(0u8..4, 0..12)
        ) {
            let edits = edits(left.len(), right.len(), &|l, r| left[l] == right[r]);
            let lefts: Vec<_> = edits.iter().filter_map(|e| match e {
                Edit::Same(l, r) => { assert_eq!(left[*l], right[*r]); Some(*l) }
                Edit::Left(l) => Some(*l),
                Edit::Right(_) => None,
            }).collect();
            let rights: Vec<_> = edits.iter().filter_map(|e| match e {
                Edit::Same(_, r) | Edit::Right(r) => Some(*r),
                Edit::Left(_) => None,
            }).collect();
            prop_assert_eq!(lefts, (0..left.len()).collect::<Vec<_>>());
            prop_assert_eq!(rights, (0..right.len()).collect::<Vec<_>>());
        }

        #[test]
        fn a_value_is_the_same_as_itself(value in crate::json::tests::any_json()) {
            let text = value.to_string();
            prop_assert!(json(text.as_bytes(), text.as_bytes()).unwrap().is_empty());
        }
    }
}
