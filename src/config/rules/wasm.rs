//! `with` of a SmartModule: its file, what it must hash to, what its `init` gets.

use super::Reader;
use super::data::{file, json};
use crate::config::raw::Entry;
use crate::limits::MAX_WASM_TOTAL;
use crate::rules::wasm::{Budget, File, Guest, GuestError, LookBack, Use};
use crate::template::Template;

/// The modules of a configuration: each file is compiled once, and all have one budget of memory.
pub struct Modules {
    budget: Budget,
    files: Vec<File>,
}

impl Modules {
    pub fn new() -> Self {
        Self { budget: Budget::new(MAX_WASM_TOTAL), files: Vec::new() }
    }

    pub fn guest(&mut self, with: &Reader<'_>, look_back: Option<LookBack>) -> Option<Guest> {
        let bytes = file(with, "file");
        let digest = with.opt_text("sha256", "hash", hash);
        let params = with.entries("params").iter().map(|entry| (entry.key.clone(), text(entry))).collect();
        let by = with.opt_text("by", "template", Template::parse);
        let pure = with.flag("pure", false);
        let used = Use { params, by, pure, look_back };
        let bytes = bytes?;
        let made = self.file(&bytes).and_then(|file| Ok((file.digest().to_owned(), Guest::new(file, used)?)));
        let (found, guest) = match made {
            Ok(made) => made,
            Err(error) => {
                with.wrong("file", error.to_string());
                return None;
            }
        };
        if let Some(wanted) = digest.filter(|wanted| *wanted != found) {
            with.wrong("sha256", format!("the file has {found}, not {wanted}: it is another one"));
            return None;
        }
        Some(guest)
    }

    fn file(&mut self, bytes: &[u8]) -> Result<&File, GuestError> {
        let digest = File::digest_of(bytes);
        let at = self.files.iter().position(|file| file.digest() == digest);
        let at = match at {
            Some(at) => at,
            None => {
                self.files.push(File::new(bytes, &self.budget)?);
                self.files.len() - 1
            }
        };
        Ok(&self.files[at])
    }
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
