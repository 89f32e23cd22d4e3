//! Names of the parts that a config names: sources, rules, sinks, links.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::limits::MAX_NAME;

/// 1 to 63 bytes of letters, digits, `-`, `_` and `.`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(heapless::String<MAX_NAME>);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a name: use 1 to {MAX_NAME} letters, digits, `-`, `_` or `.`")]
pub struct NameError(String);

impl Name {
    pub fn new(name: &str) -> Result<Self, NameError> {
        let ok = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        let inner = heapless::String::try_from(name).map_err(|_| NameError(name.into()))?;
        if ok { Ok(Self(inner)) } else { Err(NameError(name.into())) }
    }

    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl TryFrom<String> for Name {
    type Error = NameError;
    fn try_from(s: String) -> Result<Self, Self::Error> {
        Self::new(&s)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.as_str().to_owned()
    }
}

/// The candidate nearest to a mistyped `name`, if one is near enough to be worth suggesting.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let len = name.chars().count();
    // Where every letter differs nothing was mistyped: any other name of one letter is as near.
    let worth = |distance: usize| distance <= (len / 3).max(1) && distance < len;
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&name.to_lowercase(), candidate), candidate))
        .filter(|(distance, _)| worth(*distance))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised_and_a_stranger_is_not() {
        assert_eq!(nearest("max_byte", ["linger", "max_bytes"]), Some("max_bytes"));
        assert_eq!(nearest("lingre", ["linger", "max_bytes"]), Some("linger"));
        assert_eq!(nearest("Linger", ["linger"]), Some("linger"));
        assert_eq!(nearest("colour", ["linger", "max_bytes"]), None);
        assert_eq!(nearest("up", ["us"]), Some("us"));
        assert_eq!(nearest("j", ["u"]), None);
    }
}
