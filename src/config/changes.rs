//! What a reload changes: which parts come, go or are replaced while the node runs, and which keys need a restart.

use std::fmt;

use super::model::*;
use crate::name::Name;

/// The difference between two configs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub sources: Delta,
    pub sinks: Delta,
    /// Keys and tables that change while the node runs, as a person would name them.
    pub live: Vec<&'static str>,
    /// Keys that stay as they were until the node is started anew.
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

/// Every field is named here: a new one does not compile until it is decided whether it can change live.
pub fn changes(old: &Config, new: &Config) -> Changes {
    let Config { hash: _, files: _, node, ring, topics, sources, rules, links, sinks, endpoint, http, warnings: _ } =
        new;
    let NodeConfig { id, labels, data_dir, control, heartbeat, log } = node;
    let RingConfig { max_bytes, keep_free, linger, memory_bytes, write_budget, ram_first, lanes, encryption, old_keys } =
        ring;
    let live = [
        ("node.id", old.node.id != *id),
        ("node.labels", old.node.labels != *labels),
        ("node.heartbeat", old.node.heartbeat != *heartbeat),
        ("node.log", old.node.log != *log),
        ("ring.max_bytes", old.ring.max_bytes != *max_bytes),
        ("ring.keep_free", old.ring.keep_free != *keep_free),
        ("ring.linger", old.ring.linger != *linger),
        ("ring.max_gb_per_day", old.ring.write_budget != *write_budget),
        ("ring.spill", old.ring.ram_first != *ram_first),
        ("topics", old.topics != *topics),
        ("rules", old.rules != *rules),
        ("links", old.links != *links),
        ("endpoint", old.endpoint != *endpoint),
        ("http", old.http != *http),
    ];
    let restart = [
        ("node.data_dir", old.node.data_dir != *data_dir),
        ("node.control", old.node.control != *control),
        ("ring.memory_bytes", old.ring.memory_bytes != *memory_bytes),
        ("ring.lanes", old.ring.lanes != *lanes),
        ("ring.encryption", old.ring.encryption != *encryption),
        ("ring.old_keys", old.ring.old_keys != *old_keys),
    ];
    let named =
        |keys: &[(&'static str, bool)]| keys.iter().filter(|(_, changed)| *changed).map(|(key, _)| *key).collect();
    Changes {
        sources: Delta::between(&old.sources, sources, |s| &s.name),
        sinks: Delta::between(&old.sinks, sinks, |s| &s.name),
        live: named(&live),
        restart: named(&restart),
    }
}

impl Changes {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Of keys that want a restart, these do not.
    pub fn apply_now(&mut self, keys: &[&str]) {
        let (now, later) = std::mem::take(&mut self.restart).into_iter().partition(|key| keys.contains(key));
        self.restart = later;
        self.live.extend::<Vec<_>>(now);
    }

    /// Whether any of these keys changes live.
    pub fn any(&self, keys: &[&str]) -> bool {
        self.live.iter().any(|key| keys.contains(key))
    }
}

/// `added source log; changed sink hq, ring.linger; after a restart only: node.data_dir`
impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sources, sinks, live, restart } = self;
        let parts = |sources: &[Name], sinks: &[Name]| {
            let sources = sources.iter().map(|name| format!("source {name}"));
            sources.chain(sinks.iter().map(|name| format!("sink {name}"))).collect::<Vec<_>>()
        };
        let mut changed = parts(&sources.changed, &sinks.changed);
        changed.extend(live.iter().map(|key| (*key).to_owned()));
        let words = [
            ("added ", parts(&sources.added, &sinks.added)),
            ("removed ", parts(&sources.removed, &sinks.removed)),
            ("changed ", changed),
            ("after a restart only: ", restart.iter().map(|key| (*key).to_owned()).collect()),
        ];
        let words: Vec<String> = words
            .iter()
            .filter(|(_, list)| !list.is_empty())
            .map(|(what, list)| format!("{what}{}", list.join(", ")))
            .collect();
        if words.is_empty() { f.write_str("nothing changed") } else { f.write_str(&words.join("; ")) }
    }
}
