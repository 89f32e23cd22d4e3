//! One value out of a config: what it must be, and what is said when it is something else.

use std::ops::RangeInclusive;

use super::raw::{Node, Raw};
use super::units;
use crate::time::Span;

pub fn expected(what: &str, node: &Node) -> String {
    format!("expected {what}, not {}", node.kind())
}

pub fn text_in(node: &Node) -> Result<&str, String> {
    match &node.value {
        Raw::Text(text) => Ok(text),
        _ => Err(expected("a string", node)),
    }
}

pub fn size_of(key: &str, node: &Node, range: &RangeInclusive<u64>) -> Result<u64, String> {
    let size = match &node.value {
        Raw::Text(text) => units::parse_size(text)?,
        Raw::Int(n) => {
            let guess = units::guess_size(*n, range).unwrap_or_else(|| "it with a unit, like 256MiB".into());
            return Err(format!("`{key} = {n}`: write {guess}"));
        }
        _ => return Err(expected("a size like \"256MiB\"", node)),
    };
    let (low, high) = (units::show_size(*range.start()), units::show_size(*range.end()));
    if range.contains(&size) { Ok(size) } else { Err(format!("{} is not between {low} and {high}", node.inline())) }
}

pub fn span_of(key: &str, node: &Node, range: &RangeInclusive<Span>) -> Result<Span, String> {
    let span = match &node.value {
        Raw::Text(text) => units::parse_span(text)?,
        Raw::Int(n) => {
            let guess = units::guess_span(*n, range).unwrap_or_else(|| "it with a unit, like 5s".into());
            return Err(format!("`{key} = {n}`: write {guess}"));
        }
        _ => return Err(expected("a length of time like \"5s\"", node)),
    };
    let (low, high) = (units::show_span(*range.start()), units::show_span(*range.end()));
    if range.contains(&span) { Ok(span) } else { Err(format!("{} is not between {low} and {high}", node.inline())) }
}

pub fn int_of(node: &Node, range: &RangeInclusive<u32>) -> Result<u32, String> {
    let Raw::Int(n) = node.value else { return Err(expected("a whole number", node)) };
    let value = u32::try_from(n).ok().filter(|n| range.contains(n));
    value.ok_or_else(|| format!("{n} is not between {} and {}", range.start(), range.end()))
}
