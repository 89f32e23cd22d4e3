//! What a reload changes: which parts come, go or are replaced while the node runs, and which keys need a restart.

use std::fmt;

use super::model::*;
use crate::name::Name;

/// The difference between two configs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub sources: Delta,
    pub sinks: Delta,
    /// Rules before the ring, or the topics they stand before.
    pub rules: bool,
    pub topics: bool,
    /// Names, labels: what templates and envelopes show.
    pub labels: bool,
    /// `ring.*` keys that changed.
    pub ring: Vec<&'static str>,
    pub heartbeat: bool,
    pub log: bool,
    pub endpoint: bool,
    pub http: bool,
    /// Keys that changed and stay as they were until the node is started anew.
    pub restart: Vec<&'static str>,
}

/// Named parts that came, went, or are to be replaced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    pub added: Vec<Name>,
    pub removed: Vec<Name>,
    pub changed: Vec<Name>,
}

impl Delta {
    fn between<T: PartialEq>(old: &[T], new: &[T], name: impl Fn(&T) -> &Name) -> Self {
        let other = |list: &'_ [T], part: &T| list.iter().position(|p| name(p) == name(part));
        let mut delta = Self::default();
        for part in new {
            match other(old, part) {
                None => delta.added.push(name(part).clone()),
                Some(i) if old[i] != *part => delta.changed.push(name(part).clone()),
                Some(_) => {}
            }
        }
        delta.removed = old.iter().filter(|part| other(new, part).is_none()).map(|part| name(part).clone()).collect();
        delta
    }

    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

pub fn changes(old: &Config, new: &Config) -> Changes {
    let ring = [
        ("max_bytes", old.ring.max_bytes != new.ring.max_bytes),
        ("keep_free", old.ring.keep_free != new.ring.keep_free),
        ("linger", old.ring.linger != new.ring.linger),
    ];
    let restart = [
        ("node.id", old.node.id != new.node.id),
        ("node.data_dir", old.node.data_dir != new.node.data_dir),
        ("node.control", old.node.control != new.node.control),
        ("ring.memory_bytes", old.ring.memory_bytes != new.ring.memory_bytes),
    ];
    let named =
        |keys: &[(&'static str, bool)]| keys.iter().filter(|(_, changed)| *changed).map(|(key, _)| *key).collect();
    Changes {
        sources: Delta::between(&old.sources, &new.sources, |s| &s.name),
        sinks: Delta::between(&old.sinks, &new.sinks, |s| &s.name),
        rules: old.rules != new.rules,
        topics: old.topics != new.topics,
        labels: old.node.labels != new.node.labels,
        ring: named(&ring),
        heartbeat: old.node.heartbeat != new.node.heartbeat,
        log: old.node.log != new.node.log,
        endpoint: old.endpoint != new.endpoint,
        http: old.http != new.http,
        restart: named(&restart),
    }
}

impl Changes {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// In plain words, one line; keys that need a restart last.
impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words: Vec<String> = Vec::new();
        for (kind, delta) in [("source", &self.sources), ("sink", &self.sinks)] {
            for (what, names) in [("added", &delta.added), ("removed", &delta.removed), ("changed", &delta.changed)] {
                words.extend(names.iter().map(|name| format!("{kind} {name} {what}")));
            }
        }
        let parts = [
            ("rules", self.rules),
            ("topics", self.topics),
            ("labels", self.labels),
            ("heartbeat", self.heartbeat),
            ("log", self.log),
            ("endpoint", self.endpoint),
            ("http", self.http),
        ];
        words.extend(parts.iter().filter(|(_, changed)| *changed).map(|(part, _)| format!("{part} changed")));
        words.extend(self.ring.iter().map(|key| format!("ring.{key} changed")));
        if !self.restart.is_empty() {
            words.push(format!("only after a restart: {}", self.restart.join(", ")));
        }
        if words.is_empty() { f.write_str("nothing changed") } else { f.write_str(&words.join("; ")) }
    }
}
