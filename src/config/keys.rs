//! Keys of an encrypted ring: `ring.encryption`, `ring.old_keys`, and the files that commands are given.

use std::path::Path;

use super::model::Secret;
use super::raw::At;
use super::read_bounded;
use super::reader::Reader;
use crate::ring::{Key, NoKey};

/// Keys beside the one that is written under.
const MAX_OLD_KEYS: usize = 16;

/// The key that is written under, and those that may be read as well.
pub fn keys(r: &Reader<'_>) -> (Option<Key>, Vec<Key>) {
    let current = r.secret("encryption").and_then(|secret| key(r, "encryption", &secret, None));
    let old = r.secrets("old_keys");
    let old: Vec<Key> = old.iter().filter_map(|(secret, at)| key(r, "old_keys", secret, Some(*at))).collect();
    let twice = |at: usize| current.iter().chain(&old[..at]).any(|before| before.id() == old[at].id());
    if let Some(at) = (0..old.len()).find(|at| twice(*at)) {
        r.wrong("old_keys", format!("{:?} is there twice", old[at]));
    }
    if old.len() > MAX_OLD_KEYS {
        r.wrong("old_keys", format!("more than {MAX_OLD_KEYS}"));
    }
    (current, old)
}

/// None also where a secret is not looked at, as `check` does with credentials.
fn key(r: &Reader<'_>, name: &str, Secret(text): &Secret, at: Option<At>) -> Option<Key> {
    if text.is_empty() {
        return None;
    }
    let wrong = |error: NoKey| match at {
        Some(at) => r.error(at, name, error.to_string()),
        None => r.wrong(name, error.to_string()),
    };
    Key::parse(text).map_err(wrong).ok()
}

/// The key in a file of its own.
pub fn key_in(path: &Path) -> Result<Key, String> {
    let text = read_bounded(path).map_err(|why| format!("{}: {why}", path.display()))?;
    Key::parse(&text).map_err(|error| format!("{}: {error}", path.display()))
}
