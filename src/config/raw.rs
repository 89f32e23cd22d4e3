//! The files as they were written: one tree of tables and values, each with the file and line it came from.
//!
//! Files are merged key by key. A key that is set twice is an error that names both places, except that lists of tables
//! (`[[rules]]`) of several files follow one another.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Report;

/// Where something was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct At {
    /// Index into the list of files that were read.
    pub file: u16,
    /// From 1.
    pub line: u32,
}

#[derive(Clone, Debug)]
pub struct Node {
    pub at: At,
    pub value: Raw,
}

#[derive(Clone, Debug)]
pub enum Raw {
    Text(String),
    Int(i128),
    Float(f64),
    Flag(bool),
    /// A date or time, which no key takes.
    Time(String),
    List(Vec<Node>),
    Table(Table),
}

/// Keys in the order they were written.
#[derive(Clone, Debug, Default)]
pub struct Table {
    pub at: At,
    pub entries: Vec<Entry>,
}

#[derive(Clone, Debug)]
pub struct Entry {
    pub key: String,
    pub at: At,
    pub node: Node,
}

impl Table {
    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|e| e.key == key)
    }
}

impl Node {
    /// What kind of value it is, as a message says it.
    pub fn kind(&self) -> &'static str {
        match self.value {
            Raw::Text(_) => "a string",
            Raw::Int(_) => "a number",
            Raw::Float(_) => "a number with a fraction",
            Raw::Flag(_) => "true or false",
            Raw::Time(_) => "a date or time",
            Raw::List(_) => "a list",
            Raw::Table(_) => "a table",
        }
    }

    /// The value as it could be written, on one line.
    pub fn inline(&self) -> String {
        match &self.value {
            Raw::Text(text) => quote(text),
            Raw::Int(n) => n.to_string(),
            Raw::Float(f) => format!("{f:?}"),
            Raw::Flag(b) => b.to_string(),
            Raw::Time(text) => text.clone(),
            Raw::List(nodes) => format!("[{}]", nodes.iter().map(Node::inline).collect::<Vec<_>>().join(", ")),
            Raw::Table(table) => {
                let pair = |e: &Entry| format!("{} = {}", quote_key(&e.key), e.node.inline());
                match table.entries.iter().map(pair).collect::<Vec<_>>().join(", ") {
                    empty if empty.is_empty() => "{}".into(),
                    pairs => format!("{{ {pairs} }}"),
                }
            }
        }
    }
}

/// A TOML string with its quotes.
pub fn quote(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// A key, quoted where it must be.
pub fn quote_key(key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if bare { key.to_owned() } else { quote(key) }
}

/// Parses one file. Everything that is wrong with its syntax goes to `report`; then there is no table.
pub fn parse(file: u16, text: &str, report: &Report) -> Option<Table> {
    let lines = Lines { file, starts: memchr::memchr_iter(b'\n', text.as_bytes()).collect() };
    let (root, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let at = lines.at(error.span().map_or(text.len(), |span| span.start));
        report.error(at, "", error.message().trim_end().replace('\n', ", "));
    }
    errors.is_empty().then(|| table(root.get_ref(), At { file, line: 1 }, &lines, report))
}

/// What can be read of a file whose syntax is wrong: all but what stands in a line with an error.
pub fn parse_around_errors(file: u16, text: &str) -> Table {
    let lines = Lines { file, starts: memchr::memchr_iter(b'\n', text.as_bytes()).collect() };
    let (root, errors) = DeTable::parse_recoverable(text);
    let at = |error: &toml::de::Error| lines.at(error.span().map_or(text.len(), |span| span.start)).line;
    let wrong: Vec<u32> = errors.iter().map(at).collect();
    let mut root = table(root.get_ref(), At { file, line: 1 }, &lines, &Report::default());
    drop_lines(&mut root, &wrong);
    root
}

fn drop_lines(table: &mut Table, lines: &[u32]) {
    table.entries.retain_mut(|entry| match &mut entry.node.value {
        Raw::Table(inner) => {
            drop_lines(inner, lines);
            true
        }
        _ => !lines.contains(&entry.at.line) && !lines.contains(&entry.node.at.line),
    });
}

struct Lines {
    file: u16,
    /// Where each line ends.
    starts: Vec<usize>,
}

impl Lines {
    fn at(&self, byte: usize) -> At {
        let line = self.starts.partition_point(|&end| end < byte) + 1;
        At { file: self.file, line: u32::try_from(line).unwrap_or(u32::MAX) }
    }
}

fn table(from: &DeTable<'_>, at: At, lines: &Lines, report: &Report) -> Table {
    let entry = |(key, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
        let at = lines.at(key.span().start);
        let key: &std::borrow::Cow<'_, str> = key.get_ref();
        Entry { key: key.to_string(), at, node: node(value, at, lines, report) }
    };
    Table { at, entries: from.iter().map(entry).collect() }
}

/// `at` is where a table counts as written: at its key, since a table of several headers has no one place.
fn node(from: &Spanned<DeValue<'_>>, at: At, lines: &Lines, report: &Report) -> Node {
    let value_at = lines.at(from.span().start);
    let value = match from.get_ref() {
        DeValue::String(text) => Raw::Text(text.to_string()),
        DeValue::Integer(int) => match i128::from_str_radix(int.as_str(), int.radix()) {
            Ok(n) => Raw::Int(n),
            Err(_) => {
                report.error(value_at, "", format!("the number {} is too large", int.as_str()));
                Raw::Int(0)
            }
        },
        DeValue::Float(float) => Raw::Float(float.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(flag) => Raw::Flag(*flag),
        DeValue::Datetime(time) => Raw::Time(time.to_string()),
        DeValue::Array(list) => {
            Raw::List(list.iter().map(|n| node(n, lines.at(n.span().start), lines, report)).collect())
        }
        DeValue::Table(inner) => return Node { at, value: Raw::Table(table(inner, at, lines, report)) },
    };
    Node { at: value_at, value }
}

/// Puts the keys of a later file into `into`.
pub fn merge(into: &mut Table, from: Table, path: &str, report: &Report) {
    for entry in from.entries {
        let path = join(path, &entry.key);
        let Some(there) = into.entries.iter_mut().find(|e| e.key == entry.key) else {
            into.entries.push(entry);
            continue;
        };
        match (&mut there.node.value, entry.node.value) {
            (Raw::Table(old), Raw::Table(new)) => merge(old, new, &path, report),
            (Raw::List(old), Raw::List(new)) if all_tables(old) && all_tables(&new) => old.extend(new),
            _ => {
                let other = report.place(there.at);
                report.error(entry.at, &path, format!("already set in {other}; keep one of the two"));
            }
        }
    }
}

fn all_tables(list: &[Node]) -> bool {
    !list.is_empty() && list.iter().all(|n| matches!(n.value, Raw::Table(_)))
}

/// `path.key`, the key quoted where it must be.
pub fn join(path: &str, key: &str) -> String {
    if path.is_empty() { quote_key(key) } else { format!("{path}.{}", quote_key(key)) }
}
