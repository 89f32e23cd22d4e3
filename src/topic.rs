//! Topics: named local sequences of records, each of 1 to 16 partitions.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::limits::{MAX_PARTITIONS, MAX_TOPIC_NAME};

/// Prefix of the node's own topics.
pub const RESERVED_PREFIX: &str = "headwater-";
/// The topics that a node itself writes.
pub const OWN_TOPICS: [&str; 5] =
    ["headwater-status", "headwater-gaps", "headwater-alarms", "headwater-events", DEAD_LETTERS_TOPIC];

/// Records that an upstream or a rule refused.
pub const DEAD_LETTERS_TOPIC: &str = "headwater-dead-letters";

/// A topic's number in its ring: given once, never used for another name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TopicId(pub u16);

/// One partition of one topic: what offsets are counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TopicPart {
    pub topic: TopicId,
    /// 0 to 15.
    pub partition: u8,
}

/// A checked topic name: 1 to 63 bytes of lower-case letters, digits and hyphens, neither first nor last a hyphen
/// (what Fluvio accepts).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TopicName(heapless::String<MAX_TOPIC_NAME>);

/// Why a topic name is refused, in words for the person who wrote it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopicNameError {
    #[error("a topic name cannot be empty")]
    Empty,
    #[error("topic name `{0}` is longer than {MAX_TOPIC_NAME} bytes")]
    TooLong(String),
    #[error("topic name `{name}` has upper-case letters; Fluvio's are lower-case: write `{lower}`")]
    UpperCase { name: String, lower: String },
    #[error("`{found}` in topic name `{name}` is MQTT; topics use `*` in lists and never in names")]
    MqttWildcard { name: String, found: char },
    #[error("topic name `{name}` has `{found}`; only lower-case letters, digits and hyphens are allowed")]
    Character { name: String, found: char },
    #[error("topic name `{0}` cannot begin or end with a hyphen")]
    Hyphen(String),
}

impl TopicName {
    pub fn new(name: &str) -> Result<Self, TopicNameError> {
        if name.is_empty() {
            return Err(TopicNameError::Empty);
        }
        for found in name.chars() {
            match found {
                'a'..='z' | '0'..='9' | '-' => {}
                'A'..='Z' => {
                    return Err(TopicNameError::UpperCase { name: name.into(), lower: allowed(name) });
                }
                '+' | '#' => return Err(TopicNameError::MqttWildcard { name: name.into(), found }),
                _ => return Err(TopicNameError::Character { name: name.into(), found }),
            }
        }
        if name.starts_with('-') || name.ends_with('-') {
            return Err(TopicNameError::Hyphen(name.into()));
        }
        heapless::String::try_from(name).map(Self).map_err(|_| TopicNameError::TooLong(name.into()))
    }

    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Whether the name is one of the node's own (`headwater-...`).
    pub fn is_reserved(&self) -> bool {
        self.as_str().starts_with(RESERVED_PREFIX)
    }
}

/// The name as it might have been meant, of allowed characters only.
fn allowed(name: &str) -> String {
    let one = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let name: String = name.chars().map(one).take(MAX_TOPIC_NAME).collect();
    name.trim_matches('-').to_owned()
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for TopicName {
    type Err = TopicNameError;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Self::new(s)
    }
}

impl TryFrom<String> for TopicName {
    type Error = TopicNameError;
    fn try_from(s: String) -> Result<Self, Self::Error> {
        Self::new(&s)
    }
}

impl From<TopicName> for String {
    fn from(name: TopicName) -> Self {
        name.as_str().to_owned()
    }
}

/// A list of topic patterns as sinks and rules have them: exact names and `*` wildcards, minus `exclude`.
///
/// `*` stands for any run of characters. A pattern that does not itself begin with `headwater-` never matches a
/// reserved topic, so `*` leaves the node's own topics out; `also` names the reserved ones that are wanted anyway.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicSet {
    pub include: Vec<String>,
    pub exclude: Vec<String>,
}

impl TopicSet {
    /// Whether the set has `name`.
    pub fn contains(&self, name: &TopicName) -> bool {
        let name = name.as_str();
        self.include.iter().any(|p| pattern_matches(p, name)) && !self.exclude.iter().any(|p| wildcard(p, name))
    }
}

fn pattern_matches(pattern: &str, name: &str) -> bool {
    if name.starts_with(RESERVED_PREFIX) && !pattern.starts_with(RESERVED_PREFIX) {
        return false;
    }
    wildcard(pattern, name)
}

/// Matches `*` against any run of bytes; linear in both lengths for one star, and bounded by their product.
pub fn wildcard(pattern: &str, name: &str) -> bool {
    let (p, n) = (pattern.as_bytes(), name.as_bytes());
    let (mut pi, mut ni) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while ni < n.len() {
        if pi < p.len() && p[pi] == b'*' {
            star = Some((pi, ni));
            pi += 1;
        } else if pi < p.len() && p[pi] == n[ni] {
            pi += 1;
            ni += 1;
        } else if let Some((sp, sn)) = star {
            pi = sp + 1;
            ni = sn + 1;
            star = Some((sp, sn + 1));
        } else {
            return false;
        }
    }
    p[pi..].iter().all(|&b| b == b'*')
}

const _: () = assert!(MAX_PARTITIONS <= 16);

/// The topics that there are, for a message to someone who asked for `asked`; the node's own if that was to be one.
pub fn known<'a>(names: impl IntoIterator<Item = &'a TopicName>, asked: &str) -> String {
    let own = asked.starts_with(RESERVED_PREFIX);
    let names = names.into_iter().filter(|name| own || !name.is_reserved());
    let mut names: Vec<_> = names.map(TopicName::as_str).collect();
    names.sort_unstable();
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upper_case_names_are_refused_with_the_lower_case_one() {
        let error = TopicName::new("Pump").unwrap_err();
        assert_eq!(
            error.to_string(),
            "topic name `Pump` has upper-case letters; Fluvio's are lower-case: write `pump`"
        );
    }

    #[test]
    fn mqtt_wildcards_are_named_as_such() {
        assert!(TopicName::new("pump+").unwrap_err().to_string().contains("is MQTT; topics use `*`"));
    }

    #[test]
    fn names_hold_63_bytes_and_no_more() {
        assert!(TopicName::new(&"a".repeat(63)).is_ok());
        assert!(matches!(TopicName::new(&"a".repeat(64)), Err(TopicNameError::TooLong(_))));
    }

    #[test]
    fn a_star_leaves_reserved_topics_out() {
        let set = TopicSet { include: vec!["*".into()], exclude: vec!["debug-*".into()] };
        assert!(set.contains(&TopicName::new("pump").unwrap()));
        assert!(!set.contains(&TopicName::new("debug-x").unwrap()));
        assert!(!set.contains(&TopicName::new("headwater-status").unwrap()));
        let own = TopicSet { include: vec!["headwater-*".into()], exclude: vec![] };
        assert!(own.contains(&TopicName::new("headwater-status").unwrap()));
    }

    #[test]
    fn stars_match_any_run() {
        assert!(wildcard("a*c*e", "abcde"));
        assert!(wildcard("*", ""));
        assert!(!wildcard("a*c", "abcd"));
    }
}
