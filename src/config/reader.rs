//! A reader for one table: hands out checked values, gathers errors instead of stopping at the first, records every
//! setting with its origin, and, when it goes out of scope, reports the keys that nobody asked for.
//!
//! So the function that reads a table is the only list of its keys. A read that failed gives the default (or None), and
//! reading goes on; whether there is a config at all is decided at the end, by whether there were errors.

mod secrets;

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use super::raw::{At, Entry, Node, Raw, Table, join, quote};
use super::values::{expected, int_of, size_of, span_of, text_in};
use super::{Report, Surroundings, read_bounded, units};
use crate::name::{Name, nearest};
use crate::time::Span;

/// What all readers of one config share.
pub struct Scope<'a> {
    pub report: &'a Report,
    pub around: &'a Surroundings,
    pub settings: RefCell<Vec<Setting>>,
    /// Files and credentials that it names, in no order.
    pub named: RefCell<BTreeSet<Named>>,
    /// Readers made so far.
    tables: Cell<usize>,
}

impl<'a> Scope<'a> {
    pub fn new(report: &'a Report, around: &'a Surroundings) -> Self {
        Self { report, around, settings: RefCell::default(), named: RefCell::default(), tables: Cell::new(0) }
    }
}

/// What a config names outside of itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Named {
    File(PathBuf),
    /// One with a secret in it.
    Secret(PathBuf),
    /// What systemd gives to the service under this name.
    Credential(String),
    /// A variable with a secret in it.
    Environment(String),
}

/// One setting that was read, or its default.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The table's number, and its header (`sinks.hq`, or `[rules]` for a list of tables).
    pub table: usize,
    pub header: String,
    pub key: String,
    /// The kind of value, in a word or two.
    pub kind: String,
    /// As it could be written; empty: nothing.
    pub value: String,
    /// None: the default.
    pub at: Option<At>,
    /// Whether the key must be given.
    pub required: bool,
    /// A default that does nothing beside the other settings, and that would be warned about if it were written.
    pub idle: bool,
}

/// Keys of parts that come with later versions: said so, rather than called unknown.
const LATER: [&str; 2] = ["views", "journal"];

static EMPTY: Table = Table { at: At { file: 0, line: 0 }, entries: Vec::new() };

pub struct Reader<'a> {
    pub scope: &'a Scope<'a>,
    /// Path of the table as messages show it.
    path: String,
    /// Header of the table as TOML has it.
    header: String,
    number: usize,
    table: &'a Table,
    asked: RefCell<Vec<&'static str>>,
    /// Its keys are not reported: something above them was wrong already.
    forgiven: Cell<bool>,
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        if self.forgiven.get() {
            return;
        }
        let asked = self.asked.borrow();
        for entry in &self.table.entries {
            if asked.contains(&entry.key.as_str()) {
                continue;
            }
            let near = nearest(&entry.key, asked.iter().copied());
            let message = match near {
                _ if LATER.contains(&entry.key.as_str()) => "not in this version".to_owned(),
                Some(near) => format!("unknown key; did you mean `{near}`?"),
                None => format!("unknown key; known here are {}", asked.join(", ")),
            };
            self.error(entry.at, &entry.key, message);
        }
    }
}

/// Reading the whole table.
impl<'a> Reader<'a> {
    pub fn root(scope: &'a Scope<'a>, table: &'a Table) -> Self {
        Self::new(scope, String::new(), String::new(), table)
    }

    fn new(scope: &'a Scope<'a>, path: String, header: String, table: &'a Table) -> Self {
        let number = scope.tables.replace(scope.tables.get() + 1);
        Self { scope, path, header, number, table, asked: RefCell::default(), forgiven: Cell::new(false) }
    }

    pub fn at(&self) -> At {
        self.table.at
    }

    pub fn forgive(&self) {
        self.forgiven.set(true);
    }

    /// Whether the table has keys that were not asked for so far.
    pub fn has_strangers(&self) -> bool {
        self.table.entries.iter().any(|e| !self.asked.borrow().contains(&e.key.as_str()))
    }

    pub fn error(&self, at: At, key: &str, message: impl Into<String>) {
        let path = if key.is_empty() { self.path.clone() } else { join(&self.path, key) };
        self.scope.report.error(at, &path, message);
    }

    /// A warning at a key of this table (at the table when the key is not there).
    pub fn warn(&self, key: &str, message: impl Into<String>) {
        let at = self.table.get(key).map_or(self.table.at, |e| e.at);
        self.scope.report.warn(at, &join(&self.path, key), message);
    }

    /// An error at a key that was read and turned out not to fit the others.
    pub fn wrong(&self, key: &str, message: impl Into<String>) {
        let at = self.table.get(key).map_or(self.table.at, |e| e.at);
        self.error(at, key, message);
    }

    /// Everything in the table, for who reads it in another way.
    pub fn all(&self) -> &'a [Entry] {
        self.forgive();
        &self.table.entries
    }

    /// All of it in one line.
    pub fn as_written(&self) -> String {
        let pair = |e: &Entry| format!("{} = {}", e.key, e.node.inline());
        // In whatever order they stand, they say the same.
        let mut pairs: Vec<_> = self.table.entries.iter().map(pair).collect();
        pairs.sort_unstable();
        pairs.join(", ")
    }

    pub fn has(&self, key: &str) -> bool {
        self.table.get(key).is_some()
    }

    /// Where a key was written, if it was.
    pub fn place(&self, key: &str) -> Option<At> {
        self.table.get(key).map(|e| e.at)
    }

    fn take(&self, key: &'static str) -> Option<&'a Entry> {
        self.asked.borrow_mut().push(key);
        self.table.get(key)
    }

    fn note(&self, key: &str, kind: &str, value: String, at: Option<At>, required: bool) {
        let (header, table, key, kind) = (self.header.clone(), self.number, key.to_owned(), kind.to_owned());
        self.scope.settings.borrow_mut().push(Setting { table, header, key, kind, value, at, required, idle: false });
    }

    /// The setting that was read last does nothing here.
    pub fn idle(&self) {
        if let Some(setting) = self.scope.settings.borrow_mut().last_mut() {
            setting.idle = true;
        }
    }

    /// These settings, which were read, do nothing here.
    pub fn idle_are(&self, keys: &[&str]) {
        let mut settings = self.scope.settings.borrow_mut();
        let own = settings.iter_mut().filter(|s| s.table == self.number && keys.contains(&s.key.as_str()));
        own.for_each(|setting| setting.idle = true);
    }

    pub fn get<T>(
        &self,
        key: &'static str,
        kind: &str,
        default: Option<String>,
        parse: impl FnOnce(&'a Node) -> Result<T, String>,
    ) -> Option<T> {
        let Some(entry) = self.take(key) else {
            self.note(key, kind, default.unwrap_or_default(), None, false);
            return None;
        };
        self.note(key, kind, entry.node.inline(), Some(entry.at), false);
        parse(&entry.node).map_err(|message| self.error(entry.node.at, key, message)).ok()
    }

    /// As `get`, and an error when the key is missing.
    fn need_with<T>(
        &self,
        key: &'static str,
        kind: &str,
        parse: impl FnOnce(&'a Node) -> Result<T, String>,
    ) -> Option<T> {
        if !self.has(key) {
            self.error(self.table.at, key, format!("`{key}` is missing"));
        }
        let value = self.get(key, kind, None, parse);
        self.required();
        value
    }
}

/// Plain values.
impl<'a> Reader<'a> {
    pub fn size(&self, key: &'static str, default: u64, range: RangeInclusive<u64>) -> u64 {
        let shown = Some(quote(&units::show_size(default)));
        self.get(key, "size", shown, |node| size_of(key, node, &range)).unwrap_or(default)
    }

    pub fn opt_size(&self, key: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        self.get(key, "size", None, |node| size_of(key, node, &range))
    }

    /// A size that is an amount of memory.
    pub fn memory(&self, key: &'static str, default: usize, range: RangeInclusive<usize>) -> usize {
        let range = *range.start() as u64..=*range.end() as u64;
        usize::try_from(self.size(key, default as u64, range)).unwrap_or(default)
    }

    pub fn span(&self, key: &'static str, default: Span, range: RangeInclusive<Span>) -> Span {
        let shown = Some(quote(&units::show_span(default)));
        self.get(key, "duration", shown, |node| span_of(key, node, &range)).unwrap_or(default)
    }

    pub fn opt_span(&self, key: &'static str, range: RangeInclusive<Span>) -> Option<Span> {
        self.get(key, "duration", None, |node| span_of(key, node, &range))
    }

    /// A length of time or `"off"`.
    pub fn span_or_off(&self, key: &'static str, default: Span, range: RangeInclusive<Span>) -> Option<Span> {
        let shown = Some(quote(&units::show_span(default)));
        let parse = |node: &Node| match &node.value {
            Raw::Text(text) if text == "off" => Ok(None),
            _ => span_of(key, node, &range).map(Some),
        };
        self.get(key, "duration or \"off\"", shown, parse).unwrap_or(Some(default))
    }

    pub fn int(&self, key: &'static str, default: u32, range: RangeInclusive<u32>) -> u32 {
        self.get(key, "number", Some(default.to_string()), |node| int_of(node, &range)).unwrap_or(default)
    }

    pub fn need_int(&self, key: &'static str, range: RangeInclusive<u32>) -> Option<u32> {
        self.need_with(key, "number", |node| int_of(node, &range))
    }

    pub fn flag(&self, key: &'static str, default: bool) -> bool {
        let parse = |node: &Node| match node.value {
            Raw::Flag(b) => Ok(b),
            _ => Err(expected("true or false", node)),
        };
        self.get(key, "true or false", Some(default.to_string()), parse).unwrap_or(default)
    }

    /// One of some words; the first is the default.
    pub fn choice<T: Copy>(&self, key: &'static str, words: &[(&'static str, T)]) -> T {
        let names: Vec<String> = words.iter().map(|(w, _)| quote(w)).collect();
        let parse = |node: &Node| {
            let text = text_in(node)?;
            let found = words.iter().find(|(word, _)| *word == text);
            found.map(|(_, value)| *value).ok_or_else(|| format!("`{text}`: use one of {}", names.join(", ")))
        };
        self.get(key, &names.join(" or "), Some(names[0].clone()), parse).unwrap_or(words[0].1)
    }

    /// A text that `parse` understands, with a default that it understands.
    pub fn text<T, E: Display>(
        &self,
        key: &'static str,
        kind: &str,
        default: &str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Option<T> {
        let read = |node: &Node| parse(&self.resolve(node)?).map_err(|e| e.to_string());
        match self.get(key, kind, Some(quote(default)), read) {
            None if !self.has(key) => parse(default).ok(),
            value => value,
        }
    }

    pub fn opt_text<T, E: Display>(
        &self,
        key: &'static str,
        kind: &str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Option<T> {
        self.get(key, kind, None, |node| parse(&self.resolve(node)?).map_err(|e| e.to_string()))
    }

    pub fn need_text<T, E: Display>(
        &self,
        key: &'static str,
        kind: &str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Option<T> {
        self.need_with(key, kind, |node| parse(&self.resolve(node)?).map_err(|e| e.to_string()))
    }

    /// A path; a relative one is relative to the file that names it.
    pub fn opt_path(&self, key: &'static str) -> Option<PathBuf> {
        self.get(key, "path", None, |node| self.path_of(node))
    }

    pub fn path_or(&self, key: &'static str, default: &Path) -> PathBuf {
        let shown = Some(quote(&default.to_string_lossy()));
        self.get(key, "path", shown, |node| self.path_of(node)).unwrap_or_else(|| default.to_owned())
    }

    pub fn need_path(&self, key: &'static str) -> Option<PathBuf> {
        self.need_with(key, "path", |node| self.path_of(node))
    }

    fn path_of(&self, node: &Node) -> Result<PathBuf, String> {
        match self.resolve(node)? {
            text if text.is_empty() => Err("an empty path".into()),
            text => Ok(self.beside(node.at, &text)),
        }
    }

    /// A path written at `at`, seen from the file that it is written in. Absolute, however the config was named.
    pub fn beside(&self, at: At, path: &str) -> PathBuf {
        let files = self.scope.report.files.borrow();
        let directory = files.get(usize::from(at.file)).and_then(|f| f.parent()).unwrap_or(Path::new(""));
        let path = directory.join(path);
        let path = std::path::absolute(&path).unwrap_or(path);
        self.scope.named.borrow_mut().insert(Named::File(path.clone()));
        path
    }

    /// A text, written out or as `{ file | env | credential }`.
    fn resolve(&self, node: &Node) -> Result<String, String> {
        let table = match &node.value {
            Raw::Text(text) => return Ok(text.clone()),
            Raw::Table(table) => table,
            _ => return Err(expected("a string", node)),
        };
        let usage = || "write a string, { file = \"...\" }, { env = \"...\" } or { credential = \"...\" }".to_owned();
        let [Entry { key, node: Node { value: Raw::Text(name), at }, .. }] = table.entries.as_slice() else {
            return Err(usage());
        };
        let from = |path: PathBuf| match read_bounded(&path) {
            Ok(text) if text.trim_end().is_empty() => Err(format!("{} is empty", path.display())),
            Ok(text) => Ok(text.trim_end().to_owned()),
            Err(why) => Err(format!("{}: {why}", path.display())),
        };
        if key == "credential" {
            self.scope.named.borrow_mut().insert(Named::Credential(name.clone()));
        }
        match key.as_str() {
            "file" => from(self.beside(*at, name)),
            "env" => (self.scope.around.env)(name).ok_or_else(|| format!("the environment has no `{name}`")),
            "credential" => match &self.scope.around.credentials {
                Some(_) if name.contains('/') => Err(format!("`{name}` is not the name of a credential")),
                Some(directory) => from(directory.join(name)),
                None => {
                    Err("there are no credentials: $CREDENTIALS_DIRECTORY is not set (systemd's LoadCredential= sets \
                             it for the service)"
                        .into())
                }
            },
            _ => Err(usage()),
        }
    }
}

/// Lists and tables.
impl<'a> Reader<'a> {
    /// A list of texts, each understood by `parse`; a text alone is a list of one.
    pub fn list<T, E: Display>(
        &self,
        key: &'static str,
        kind: &str,
        parse: impl Fn(&str, At) -> Result<T, E>,
    ) -> Vec<T> {
        let read = |node: &'a Node| {
            let nodes = match &node.value {
                Raw::List(nodes) => nodes.as_slice(),
                _ => std::slice::from_ref(node),
            };
            let each = |node: &Node| {
                let value = self.resolve(node).and_then(|text| parse(&text, node.at).map_err(|e| e.to_string()));
                value.map_err(|message| self.error(node.at, key, message)).ok()
            };
            Ok(nodes.iter().filter_map(each).collect())
        };
        self.get(key, kind, None, read).unwrap_or_default()
    }

    /// As `list`, and an error when there is nothing in it.
    pub fn need_list<T, E: Display>(
        &self,
        key: &'static str,
        kind: &str,
        parse: impl Fn(&str, At) -> Result<T, E>,
    ) -> Vec<T> {
        let list = self.list(key, kind, parse);
        self.required();
        match self.table.get(key) {
            None => self.error(self.table.at, key, format!("`{key}` is missing")),
            Some(Entry { node: Node { value: Raw::List(nodes), at }, .. }) if nodes.is_empty() => {
                self.error(*at, key, format!("`{key}` is empty"));
            }
            Some(_) => {}
        }
        list
    }

    /// The setting that was read last must be given.
    fn required(&self) {
        if let Some(setting) = self.scope.settings.borrow_mut().last_mut() {
            setting.required = true;
        }
    }

    /// A table whose keys are the user's.
    pub fn entries(&self, key: &'static str) -> &'a [Entry] {
        let read = |node: &'a Node| match &node.value {
            Raw::Table(table) => Ok(table.entries.as_slice()),
            _ => Err(expected("a table", node)),
        };
        self.get(key, "table", None, read).unwrap_or_default()
    }

    /// A table whose keys are the user's and whose values are texts.
    pub fn texts(&self, key: &'static str) -> Vec<(&'a str, String, At)> {
        let each = |entry: &'a Entry| match self.resolve(&entry.node) {
            Ok(text) => Some((entry.key.as_str(), text, entry.at)),
            Err(message) => {
                self.scope.report.error(entry.at, &join(&join(&self.path, key), &entry.key), message);
                None
            }
        };
        self.entries(key).iter().filter_map(each).collect()
    }

    /// A table of its own, whether it is written or not.
    pub fn section(&self, key: &'static str) -> Reader<'a> {
        self.opt_section(key).unwrap_or_else(|| {
            let header = join(&self.header, key);
            Reader::new(self.scope, join(&self.path, key), header, &EMPTY)
        })
    }

    pub fn opt_section(&self, key: &'static str) -> Option<Reader<'a>> {
        let entry = self.take(key)?;
        self.reader_of(&entry.node, join(&self.path, key), join(&self.header, key))
    }

    /// Tables by name: `[sinks.hq]`, `[sinks.lab]`.
    pub fn named(&self, key: &'static str, limit: usize) -> Vec<(&'a str, Reader<'a>)> {
        let Some(entry) = self.take(key) else { return Vec::new() };
        let Raw::Table(table) = &entry.node.value else {
            self.error(entry.at, key, format!("write tables with a name, like [{key}.NAME]"));
            return Vec::new();
        };
        if table.entries.len() > limit {
            self.error(entry.at, key, format!("more than {limit}"));
        }
        let each = |entry: &'a Entry| {
            let path = join(&join(&self.path, key), &entry.key);
            Some((entry.key.as_str(), self.reader_of(&entry.node, path.clone(), path)?))
        };
        table.entries.iter().filter_map(each).collect()
    }

    /// A list of tables: `[[rules]]`, or written in line.
    pub fn tables(&self, key: &'static str, limit: usize) -> Vec<Reader<'a>> {
        let Some(entry) = self.take(key) else { return Vec::new() };
        let nodes = match &entry.node.value {
            Raw::List(nodes) => nodes.as_slice(),
            Raw::Table(_) => std::slice::from_ref(&entry.node),
            _ => {
                self.error(entry.at, key, expected("a list of tables", &entry.node));
                return Vec::new();
            }
        };
        if nodes.len() > limit {
            self.error(entry.at, key, format!("more than {limit}"));
        }
        let each = |(i, node): (usize, &'a Node)| {
            let name = match &node.value {
                Raw::Table(table) => table.get("name").map(|e| &e.node.value),
                _ => None,
            };
            let path = match name {
                Some(Raw::Text(name)) => join(&join(&self.path, key), name),
                _ => format!("{}[{i}]", join(&self.path, key)),
            };
            self.reader_of(node, path, format!("[{}]", join(&self.header, key)))
        };
        nodes.iter().enumerate().filter_map(each).collect()
    }

    fn reader_of(&self, node: &'a Node, path: String, header: String) -> Option<Reader<'a>> {
        match &node.value {
            Raw::Table(table) => Some(Reader::new(self.scope, path, header, table)),
            _ => {
                self.scope.report.error(node.at, &path, expected("a table", node));
                None
            }
        }
    }

    /// A reader of a table among the values of a key.
    pub fn quiet(&self, node: &'a Node, key: &str) -> Option<Quiet<'a>> {
        Quiet::new(self.scope, node, join(&self.path, key))
    }

    /// A table that is shown in line, as one setting, and read by a reader of its own.
    pub fn inline(&self, key: &'static str) -> Option<Quiet<'a>> {
        let read = |node: &'a Node| match &node.value {
            Raw::Table(_) => Ok(node),
            _ => Err(expected("a table", node)),
        };
        let node = self.need_with(key, "table", read)?;
        Quiet::new(self.scope, node, join(&self.path, key))
    }

    /// The same of a table that may be left out.
    pub fn opt_inline(&self, key: &'static str) -> Option<Quiet<'a>> {
        if self.has(key) {
            return self.inline(key);
        }
        self.get(key, "table", None, |_: &Node| Ok(()));
        None
    }
}

/// A reader whose settings are not recorded.
pub struct Quiet<'a> {
    reader: Option<Reader<'a>>,
    settings: usize,
}

impl<'a> Quiet<'a> {
    pub fn new(scope: &'a Scope<'a>, node: &'a Node, path: String) -> Option<Self> {
        let settings = scope.settings.borrow().len();
        let Raw::Table(table) = &node.value else {
            scope.report.error(node.at, &path, expected("a table", node));
            return None;
        };
        Some(Self { reader: Some(Reader::new(scope, path, String::new(), table)), settings })
    }
}

impl<'a> std::ops::Deref for Quiet<'a> {
    type Target = Reader<'a>;
    fn deref(&self) -> &Reader<'a> {
        self.reader.as_ref().expect("only taken by drop")
    }
}

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        if let Some(reader) = self.reader.take() {
            let scope = reader.scope;
            drop(reader);
            scope.settings.borrow_mut().truncate(self.settings);
        }
    }
}

/// The name of a part, which is also its table's.
pub fn name_of(text: &str, reader: &Reader<'_>) -> Option<Name> {
    Name::new(text).map_err(|e| reader.error(reader.at(), "", e.to_string())).ok()
}
