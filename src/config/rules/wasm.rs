//! `with` of a SmartModule: its file, what it must hash to, what its `init` gets.

use super::Reader;
use super::data::{file, json};
use crate::config::raw::Entry;
use crate::rules::wasm::{Budget, Guest};
use crate::template::Template;

pub fn guest(with: &Reader<'_>, budget: &Budget) -> Option<Guest> {
    let bytes = file(with, "file");
    let digest = with.opt_text("sha256", "hash", hash);
    let params = with.entries("params").iter().map(|entry| (entry.key.clone(), text(entry))).collect();
    let by = with.opt_text("by", "template", Template::parse);
    let pure = with.flag("pure", false);
    let guest = match Guest::new(&bytes?, params, by, pure, budget) {
        Ok(guest) => guest,
        Err(error) => {
            with.wrong("file", error.to_string());
            return None;
        }
    };
    if let Some(wanted) = digest.filter(|wanted| wanted != guest.digest()) {
        with.wrong("sha256", format!("the file has {}, not {wanted}: it is another one", guest.digest()));
        return None;
    }
    Some(guest)
}

fn hash(text: &str) -> Result<String, String> {
    let text = text.to_ascii_lowercase();
    match text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        true => Ok(text),
        false => Err("write the 64 digits that `sha256sum` prints".into()),
    }
}

/// As a connector hands a parameter over: a text as it is, anything else as JSON.
fn text(entry: &Entry) -> String {
    match json(&entry.node) {
        serde_json::Value::String(text) => text,
        other => other.to_string(),
    }
}
