//! The layout is checked: what a reader of `src/lib.rs` is promised holds in every file.
//!
//! - imports go down only, by the levels drawn in `src/lib.rs`;
//! - below the async line nothing knows of tokio, threads, sockets, files, clocks or unseeded randomness;
//! - every file begins with a `//!` that says what it is; has at most 600 lines without its tests, its functions 70;
//! - test names are laws: words in the present tense, no `test_`;
//! - nothing is left to do: no `todo!`, no `dbg!`;
//! - what parts count has its row in the README;
//! - boards are data, whole and sane, and the program names none of them.
//!
//! It reads text, not syntax: comments and literals are blanked first, then paths and braces are followed. All
//! offences are reported at once. Each rule is itself tried on a snippet that breaks it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

const MAX_FILE: usize = 600;
const MAX_FUNCTION: usize = 70;

/// Paths that must not appear below the async line, and what to do instead.
const BANNED_BELOW: [(&str, &str); 16] = [
    ("tokio", "commands out, completions in"),
    ("rustix", "commands out, completions in"),
    ("std::fs", "the disk is passed in"),
    ("std::net", "the network is passed in"),
    ("std::thread", "threads belong to `node`"),
    ("std::process", "processes belong to `sources` and `cli`"),
    ("std::env", "the environment belongs to `config`"),
    ("std::os", "the system is passed in"),
    ("std::sync::mpsc", "commands out, completions in"),
    ("std::time::Instant", "time is an argument"),
    ("std::time::SystemTime", "time is an argument"),
    ("chrono::Utc::now", "time is an argument"),
    ("chrono::Local", "time is an argument"),
    ("std::hash::RandomState", "randomness comes from a seed"),
    ("std::collections::hash_map::RandomState", "randomness comes from a seed"),
    ("std::io::stdout", "output belongs to `cli` and `sinks`"),
];

#[derive(Clone, Debug, PartialEq, Eq)]
struct Offence {
    file: String,
    line: usize,
    what: String,
}

impl fmt::Display for Offence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.what)
    }
}

// ------------------------------------------------------------------------------------------------ reading text

/// The text with comments and literals blanked, line for line.
fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes[at..].starts_with(b"//") => line_end(bytes, at),
            b'/' if bytes[at..].starts_with(b"/*") => block_comment_end(bytes, at),
            b'"' => string_end(bytes, at),
            b'r' if !is_word(bytes, at.wrapping_sub(1)) || bytes[at.wrapping_sub(1)] == b'b' => {
                match raw_string_end(bytes, at) {
                    Some(end) => end,
                    None => at,
                }
            }
            b'\'' => char_end(bytes, at),
            _ => at,
        };
        for byte in &mut out[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end.max(at + 1);
    }
    String::from_utf8(out).expect("whole literals and comments are blanked, so what remains is UTF-8")
}

fn is_word(bytes: &[u8], at: usize) -> bool {
    bytes.get(at).is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_')
}

fn line_end(bytes: &[u8], at: usize) -> usize {
    bytes[at..].iter().position(|b| *b == b'\n').map_or(bytes.len(), |n| at + n)
}

fn block_comment_end(bytes: &[u8], mut at: usize) -> usize {
    let mut depth = 0;
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if bytes[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    bytes.len()
}

fn string_end(bytes: &[u8], at: usize) -> usize {
    let mut i = at + 1;
    while i < bytes.len() {
        match bytes[i] {
            b'\\' => i += 2,
            b'"' => return i + 1,
            _ => i += 1,
        }
    }
    bytes.len()
}

fn raw_string_end(bytes: &[u8], at: usize) -> Option<usize> {
    let hashes = bytes[at + 1..].iter().take_while(|b| **b == b'#').count();
    let open = at + 1 + hashes;
    if bytes.get(open) != Some(&b'"') {
        return None;
    }
    let close: Vec<u8> = std::iter::once(b'"').chain(std::iter::repeat_n(b'#', hashes)).collect();
    let found = bytes[open + 1..].windows(close.len()).position(|w| w == close);
    Some(found.map_or(bytes.len(), |n| open + 1 + n + close.len()))
}

/// A character literal's end; a lifetime is left alone.
fn char_end(bytes: &[u8], at: usize) -> usize {
    if bytes.get(at + 1) == Some(&b'\\') {
        return bytes[at + 2..].iter().skip(1).position(|b| *b == b'\'').map_or(at, |n| at + 4 + n);
    }
    let width = match bytes.get(at + 1) {
        Some(b) if *b >= 0xf0 => 4,
        Some(b) if *b >= 0xe0 => 3,
        Some(b) if *b >= 0xc0 => 2,
        Some(_) => 1,
        None => return at,
    };
    if bytes.get(at + 1 + width) == Some(&b'\'') { at + 2 + width } else { at }
}

/// Where the brace opened at `open` closes.
fn matching(text: &str, open: usize) -> usize {
    let mut depth = 0usize;
    for (i, byte) in text.bytes().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return i;
                }
            }
            _ => {}
        }
    }
    text.len()
}

fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes()[..at.min(text.len())].iter().filter(|b| **b == b'\n').count() + 1
}

/// Blanked text with the bodies of `#[cfg(test)]` items blanked as well.
fn without_tests(blanked: &str) -> String {
    let mut out = blanked.to_owned();
    let mut from = 0;
    while let Some(found) = out[from..].find("#[cfg(test)]") {
        let at = from + found;
        let body = out[at..].find(['{', ';']).map_or(out.len(), |n| at + n);
        let end = if out[body..].starts_with('{') { matching(&out, body) + 1 } else { body };
        let end = end.min(out.len());
        let blanks: String = out[at..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
        out.replace_range(at..end, &blanks);
        from = at + blanks.len();
    }
    out
}

/// Every path of at least two segments, with the place where it stands; `use` trees are spread out.
fn paths(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let starts = is_word(bytes, at) && !bytes[at].is_ascii_digit() && (at == 0 || !is_word(bytes, at - 1));
        if !starts {
            at += 1;
            continue;
        }
        at = spread(text, at, "", &mut found);
    }
    found.retain(|(_, path)| path.contains("::"));
    found
}

/// Follows one path from `at`; a group in braces is followed for each of its members. Where it ended.
fn spread(text: &str, at: usize, prefix: &str, found: &mut Vec<(usize, String)>) -> usize {
    let bytes = text.as_bytes();
    let mut end = at;
    while is_word(bytes, end) {
        end += 1;
    }
    let path = format!("{prefix}{}", &text[at..end]);
    if !text[end..].starts_with("::") {
        found.push((at, path));
        return end;
    }
    let next = end + 2;
    if text[next..].starts_with('{') {
        let close = matching(text, next);
        let mut i = next + 1;
        while i < close {
            if is_word(bytes, i) {
                i = spread(text, i, &format!("{path}::"), found);
                // `as name` is no path of its own.
                if text[i..].starts_with(" as ") {
                    i += 4;
                    while is_word(bytes, i) {
                        i += 1;
                    }
                }
            } else {
                i += 1;
            }
        }
        return close + 1;
    }
    if is_word(bytes, next) {
        return spread(text, next, &format!("{path}::"), found);
    }
    found.push((at, path));
    next
}

// ------------------------------------------------------------------------------------------------ the levels

/// Level of each top-level module, as `src/lib.rs` draws it.
fn levels(lib: &str) -> BTreeMap<String, u8> {
    let mut levels = BTreeMap::new();
    for line in lib.lines() {
        let Some(rest) = line.strip_prefix("//! ") else { continue };
        let Some((digit, rest)) = rest.split_at_checked(1) else { continue };
        let (Ok(level), true) = (digit.parse::<u8>(), rest.starts_with("  ")) else { continue };
        let names = rest.trim_start().split("  ").next().unwrap_or("");
        for name in names.split([' ', ',', '|']).filter(|n| !n.is_empty()) {
            levels.insert(name.to_owned(), level);
        }
    }
    levels
}

/// The module path of a file: `src/sources/mqtt/session.rs` is `[sources, mqtt, session]`.
fn module(file: &str) -> Vec<&str> {
    let inner = file.trim_start_matches("src/").trim_end_matches(".rs");
    let mut segments: Vec<_> = inner.split('/').collect();
    if matches!(segments.last(), Some(&("mod" | "lib"))) {
        segments.pop();
    }
    segments
}

/// The top-level module that a path in `module` leads to; None if it stays outside of the crate.
fn leads_to(module: &[&str], path: &str) -> Option<String> {
    let mut segments = path.split("::");
    let mut here: Vec<&str> = module.to_vec();
    match segments.next()? {
        "crate" | "headwater" => here.clear(),
        "super" => {
            here.pop();
            for segment in segments.by_ref() {
                if segment != "super" {
                    here.push(segment);
                    break;
                }
                here.pop();
            }
        }
        _ => return None,
    }
    here.extend(segments);
    here.first().map(|s| (*s).to_owned())
}

fn may_import(levels: &BTreeMap<String, u8>, from: &str, to: &str) -> Result<(), String> {
    let (Some(low), Some(high)) = (levels.get(to), levels.get(from)) else { return Ok(()) };
    if from == to || low < high {
        return Ok(());
    }
    if low > high {
        return Err(format!("`{from}` (level {high}) imports `{to}` (level {low}): imports go down only"));
    }
    // On one level: the words are one house, hub and config serve the adapters; all others are siblings.
    match (*high, to) {
        (0 | 5, _) | (3, "hub" | "config") => Ok(()),
        _ => Err(format!("`{from}` and `{to}` are siblings (level {high}): they never import each other")),
    }
}

// ------------------------------------------------------------------------------------------------ the rules

fn check_levels(levels: &BTreeMap<String, u8>, file: &str, text: &str) -> Vec<Offence> {
    let module = module(file);
    let top = module.first().copied().unwrap_or("lib");
    let mut offences = Vec::new();
    let Some(level) = levels.get(top) else {
        if top != "lib" {
            let what = format!("`{top}` has no level: draw it in src/lib.rs");
            offences.push(Offence { file: file.into(), line: 1, what });
        }
        return offences;
    };
    for (at, path) in paths(text) {
        let line = line_of(text, at);
        if let Some(to) = leads_to(&module, &path)
            && let Err(what) = may_import(levels, top, &to)
        {
            offences.push(Offence { file: file.into(), line, what });
        }
        let banned = |(prefix, _): &&(&str, &str)| {
            path.strip_prefix(*prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        };
        if *level <= 2
            && let Some((banned, instead)) = BANNED_BELOW.iter().find(banned)
        {
            let what = format!("`{banned}` below the async line: {instead}");
            offences.push(Offence { file: file.into(), line, what });
        }
    }
    offences.dedup();
    offences
}

fn check_shape(file: &str, raw: &str, text: &str) -> Vec<Offence> {
    let offence = |line, what: String| Offence { file: file.into(), line, what };
    let mut offences = Vec::new();
    if !raw.starts_with("//! ") {
        offences.push(offence(1, "begin with a `//!` that says what the file is".into()));
    }
    let lines = raw.lines().count();
    let tests = raw.find("#[cfg(test)]\nmod tests {").map_or(0, |at| lines + 1 - line_of(raw, at));
    if lines - tests > MAX_FILE {
        offences.push(offence(1, format!("{} lines without tests; at most {MAX_FILE}", lines - tests)));
    }
    for (name, first, last) in functions(text) {
        if last - first + 1 > MAX_FUNCTION {
            let what = format!("`{name}` has {} lines; at most {MAX_FUNCTION}", last - first + 1);
            offences.push(offence(first, what));
        }
    }
    for word in ["todo!", "unimplemented!", "dbg!"] {
        for (at, _) in text.match_indices(word) {
            if at == 0 || !is_word(text.as_bytes(), at - 1) {
                offences.push(offence(line_of(text, at), format!("`{word}` is left")));
            }
        }
    }
    offences
}

/// Name, first and last line of every function with a body.
fn functions(text: &str) -> Vec<(String, usize, usize)> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    for (at, _) in text.match_indices("fn ") {
        if at > 0 && is_word(bytes, at - 1) {
            continue;
        }
        let name: String = text[at + 3..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let Some(n) = text[at..].find(['{', ';']) else { continue };
        if name.is_empty() || text[at + n..].starts_with(';') {
            continue;
        }
        found.push((name, line_of(text, at), line_of(text, matching(text, at + n))));
    }
    found
}

fn check_test_names(file: &str, blanked: &str) -> Vec<Offence> {
    let mut offences = Vec::new();
    for marker in ["#[test]", "#[tokio::test"] {
        for (at, _) in blanked.match_indices(marker) {
            let Some(n) = blanked[at..].find("fn ") else { continue };
            let name: String = blanked[at + n + 3..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if name.starts_with("test_") || name.split('_').count() < 3 {
                let what = format!("test `{name}`: state a law in the present tense, as `a_torn_tail_is_skipped`");
                offences.push(Offence { file: file.into(), line: line_of(blanked, at + n), what });
            }
        }
    }
    offences
}

/// All rules on one file.
fn check(levels: &BTreeMap<String, u8>, file: &str, raw: &str) -> Vec<Offence> {
    let blanked = blank(raw);
    let mut offences = check_test_names(file, &blanked);
    let is_test = file.starts_with("tests/") || file.ends_with("/tests.rs") || file.contains("/tests/");
    if is_test {
        if !raw.starts_with("//! ") {
            let what = "begin with a `//!` that says what the file is".into();
            offences.push(Offence { file: file.into(), line: 1, what });
        }
    } else {
        let text = without_tests(&blanked);
        offences.extend(check_levels(levels, file, &text));
        offences.extend(check_shape(file, raw, &text));
    }
    offences
}

fn walk(directory: &Path, root: &Path, files: &mut Vec<String>) {
    let entries = std::fs::read_dir(directory).expect("the sources are there");
    for entry in entries.map(|e| e.expect("a readable directory").path()) {
        if entry.is_dir() {
            walk(&entry, root, files);
        } else if entry.extension().is_some_and(|e| e == "rs") {
            files.push(entry.strip_prefix(root).expect("below the root").to_string_lossy().into_owned());
        }
    }
}

#[test]
fn the_sources_keep_the_rules_of_the_house() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let levels = levels(&std::fs::read_to_string(root.join("src/lib.rs")).unwrap());
    assert!(levels.len() > 15, "the drawing in src/lib.rs is not understood: {levels:?}");
    let mut files = Vec::new();
    for directory in ["src", "tests"] {
        walk(&root.join(directory), root, &mut files);
    }
    files.sort();
    let mut offences = Vec::new();
    for file in &files {
        offences.extend(check(&levels, file, &std::fs::read_to_string(root.join(file)).unwrap()));
    }
    let list: Vec<_> = offences.iter().map(ToString::to_string).collect();
    assert!(offences.is_empty(), "{} offences:\n{}", offences.len(), list.join("\n"));
}

mod apart;
mod boards;
mod counters;
mod cross;
#[cfg(test)]
mod self_check;
