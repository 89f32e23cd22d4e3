//! Golden texts, and what is put in the place of what differs from run to run.

use std::path::{Path, PathBuf};

use regex::Regex;

/// What is normalised, in this order: paths and ports that the test names; then, wherever they stand, versions, hashes,
/// process ids, lengths of time, dates, the clock, and byte counts of the disk and of this machine.
#[derive(Default)]
pub struct Normal {
    named: Vec<(String, String)>,
}

/// A pattern and what stands for it.
const PATTERNS: [(&str, &str); 13] = [
    // Heading of the status page.
    (r"  v\d+\.\d+\.\d+  config [0-9a-f]{4}", "  vX.Y.Z  config HASH"),
    (r"config [0-9a-f]{4}\b", "config HASH"),
    (r"  up [\dhms ]+  clock .*", "  up TIME  CLOCK"),
    (r"card written \d+(\.\d)? k?B since the start", "card written BYTES since the start"),
    // Lengths of time: `DOWN 2 s`, `next try 1 m 3 s`.
    (r"\b(up|WARNING|DOWN|PAUSED|starting) \d+ [dhms]( \d+ [dhms])?", "$1 TIME"),
    (r"; (next try \d+ [dhms]( \d+ [dhms])?|trying now)", "; next try TIME"),
    (r"IN MEMORY \d+ [dhms]( \d+ [dhms])?", "IN MEMORY TIME"),
    // The node's own records wait beside those of the test.
    (r"\d+ waiting \(\d+(\.\d)? K?i?B to send\)", "N waiting (BYTES to send)"),
    (r"\(process \d+\)", "(process PID)"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ[ ?]", "DATE "),
    // An exported record has its times in it, as long as the clock's digits.
    (r"after about 1 record \(\d+ B\)", "after about 1 record (BYTES)"),
    (r"cut off after \d+ bytes", "cut off after N bytes"),
    // A log line's time.
    (r"\d{4}-\d\d-\d\dT[0-9:.]+Z  ?", ""),
];

impl Normal {
    /// `text` is shown as `word`.
    pub fn with(mut self, text: impl Into<String>, word: impl Into<String>) -> Self {
        self.named.push((text.into(), word.into()));
        self
    }

    /// Port `port` of this machine is shown as the port `word` that people know.
    pub fn port(self, port: u16, word: &str) -> Self {
        self.with(format!(":{port}"), format!(":{word}")).with(format!("port {port}"), format!("port {word}"))
    }

    pub fn path(self, path: &Path, word: &str) -> Self {
        self.with(path.display().to_string(), word)
    }

    pub fn apply(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (from, to) in &self.named {
            text = text.replace(from, to);
        }
        for (pattern, word) in PATTERNS {
            text = Regex::new(pattern).unwrap().replace_all(&text, word).into_owned();
        }
        text
    }
}

pub fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/wrong").join(name)
}

/// Compares with `tests/data/wrong/NAME.txt`, or writes it.
pub fn golden(name: &str, said: &str) {
    let path = data(&format!("{name}.txt"));
    if std::env::var_os("HEADWATER_BLESS").is_some() {
        std::fs::write(&path, said).unwrap();
        return;
    }
    let expected =
        std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}; it says\n{said}", path.display()));
    assert!(said == expected, "{name}: it says\n{said}\nwhere {} has\n{expected}", path.display());
}
