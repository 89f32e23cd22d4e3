//! A lookup table in memory: rows found by their key.
//!
//! Rows stand back to back in one allocation, and so do their offsets, sorted by key: four bytes for each row beside the
//! row's own.
//!
//! ```text
//! row   = length, key's text, then for each column: length, JSON of the cell (length 0: the row has no such cell)
//! length = LEB128: seven bits a byte, the lowest first, the high bit set on all but the last
//! ```
//!
//! A table comes from CSV whose first row names the columns (RFC 4180), from a JSON array of objects, or from a JSON
//! object of objects, whose names are the keys then. A key that comes twice is an error: nobody could say which row was
//! meant.

use std::fmt;
use std::sync::Arc;

use crate::json::{self, Malformed, Scanner, Value};
use crate::rules::parse::csv;
use crate::rules::parse::members::{Type, Types};

/// Bytes of the file, and of the table that is made of it.
pub const MAX_FILE: usize = 16 * 1024 * 1024;
pub const MAX_TABLE: usize = 2 * MAX_FILE;

#[derive(Clone, PartialEq, Eq)]
pub struct Table {
    columns: Vec<String>,
    rows: Arc<[u8]>,
    /// Where rows begin, by ascending key.
    index: Arc<[u32]>,
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Table {{ {} rows, {:?}, {} bytes }}", self.index.len(), self.columns, self.rows.len())
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    #[error("the table is larger than {} MiB", MAX_FILE / 1024 / 1024)]
    TooLarge,
    #[error("the table has no column `{name}`; it has {known}")]
    NoColumn { name: String, known: String },
    #[error("line {line}: {what}")]
    Row { line: usize, what: String },
    #[error("line {line}: the key `{key}` was there in line {first}")]
    Twice { line: usize, first: usize, key: String },
    #[error("the table is {0}")]
    Json(#[from] Malformed),
    #[error("the table is neither a JSON array of objects nor an object of objects")]
    Shape,
}

fn row_error(line: usize, what: impl Into<String>) -> TableError {
    TableError::Row { line, what: what.into() }
}

/// One row; its key and its cells.
#[derive(Clone, Copy, Debug)]
pub struct Row<'t>(&'t [u8]);

impl<'t> Row<'t> {
    fn key(self) -> &'t [u8] {
        take(&mut { self.0 })
    }

    /// The JSON of a cell; None if the row has no such cell. Columns are numbered as they were asked for.
    pub fn cell(self, column: usize) -> Option<&'t [u8]> {
        let mut rest = self.0;
        take(&mut rest);
        for _ in 0..column {
            take(&mut rest);
        }
        Some(take(&mut rest)).filter(|cell| !cell.is_empty())
    }
}

fn put(bytes: &[u8], out: &mut Vec<u8>) {
    let mut length = bytes.len();
    while length > 127 {
        out.push(length as u8 | 128);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(bytes);
}

fn take<'t>(rest: &mut &'t [u8]) -> &'t [u8] {
    let mut length = 0usize;
    let mut shift = 0;
    while let Some((b, after)) = rest.split_first() {
        *rest = after;
        length |= usize::from(b & 127) << shift;
        shift += 7;
        if b & 128 == 0 {
            break;
        }
    }
    let (bytes, after) = rest.split_at(length);
    *rest = after;
    bytes
}

impl Table {
    /// Reads CSV. `key` names the column that rows are found by, `columns` what is kept of them; `types` as in `parse`.
    pub fn csv(bytes: &[u8], delimiter: u8, key: &str, columns: &[String], types: &Types) -> Result<Self, TableError> {
        csv::check_delimiter(delimiter).map_err(|what| row_error(1, what))?;
        let mut lines = Lines { rest: bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes), next: 1 };
        let (line, head) = lines.next().ok_or_else(|| row_error(1, "no row with the columns' names"))?;
        let names = cells(line, head, delimiter)?;
        let names: Vec<String> = names.iter().map(|n| String::from_utf8_lossy(n).trim().to_owned()).collect();
        let place = |name: &str| {
            let known = || names.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ");
            let found = names.iter().position(|n| n == name);
            found.ok_or_else(|| TableError::NoColumn { name: name.into(), known: known() })
        };
        let key = place(key)?;
        let places: Vec<(usize, Type)> = columns
            .iter()
            .map(|name| Ok((place(name)?, types.of(name.as_bytes()))))
            .collect::<Result<_, TableError>>()?;
        let mut build = Build::new(bytes, columns)?;
        for (line, row) in lines {
            let cells = cells(line, row, delimiter)?;
            if cells.len() != names.len() {
                return Err(row_error(line, format!("{} cells for {} columns", cells.len(), names.len())));
            }
            build.begin(line, &cells[key])?;
            for (place, kind) in &places {
                build.text(&cells[*place], *kind, types, &names[*place])?;
            }
        }
        build.finish()
    }

    /// Reads JSON. `key` names the field that rows of an array are found by.
    pub fn json(bytes: &[u8], key: &str, columns: &[String]) -> Result<Self, TableError> {
        let mut build = Build::new(bytes, columns)?;
        if let Err(e) = std::str::from_utf8(bytes) {
            return Err(Malformed { at: e.valid_up_to(), what: "not UTF-8" }.into());
        }
        let mut scan = Scanner::new(bytes);
        scan.space();
        let named = match scan.peek() {
            Some(b'{') => true,
            Some(b'[') => false,
            _ => return Err(TableError::Shape),
        };
        let close = if named { b'}' } else { b']' };
        scan.open(if named { b'{' } else { b'[' })?;
        let (mut line, mut counted) = (1, 0);
        let mut more = !scan.closes(close);
        while more {
            let name = if named { Some(scan.key()?) } else { None };
            scan.space();
            line += memchr::memchr_iter(b'\n', &bytes[counted..scan.at()]).count();
            counted = scan.at();
            let row = scan.value(1)?;
            build.object(line, name, key, row)?;
            more = scan.more(close)?;
        }
        scan.end()?;
        build.finish()
    }

    pub fn find(&self, key: &[u8]) -> Option<Row<'_>> {
        let row = |at: &u32| Row(&self.rows[*at as usize..]);
        let found = self.index.binary_search_by(|at| row(at).key().cmp(key)).ok()?;
        Some(row(&self.index[found]))
    }

    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    pub fn len(&self) -> usize {
        self.index.len()
    }

    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }
}

/// Rows of CSV that are not blank, with the number of their first line.
struct Lines<'t> {
    rest: &'t [u8],
    next: usize,
}

impl<'t> Iterator for Lines<'t> {
    type Item = (usize, &'t [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        while !self.rest.is_empty() {
            let mut quoted = false;
            let end = memchr::memchr2_iter(b'"', b'\n', self.rest).find(|at| {
                quoted ^= self.rest[*at] == b'"';
                self.rest[*at] == b'\n' && !quoted
            });
            let (row, after) = match end {
                Some(end) => (&self.rest[..end], &self.rest[end + 1..]),
                None => (self.rest, &[][..]),
            };
            let line = self.next;
            self.next += 1 + memchr::memchr_iter(b'\n', row).count();
            self.rest = after;
            let row = row.strip_suffix(b"\r").unwrap_or(row);
            if !row.trim_ascii().is_empty() {
                return Some((line, row));
            }
        }
        None
    }
}

fn cells(line: usize, row: &[u8], delimiter: u8) -> Result<Vec<std::borrow::Cow<'_, [u8]>>, TableError> {
    let mut cells = Vec::new();
    let mut rest = Some(row);
    while let Some(from) = rest {
        let (cell, after) = csv::cell(from, delimiter).map_err(|what| row_error(line, what))?;
        cells.push(cell);
        rest = after;
    }
    Ok(cells)
}

/// A table being read.
struct Build {
    columns: Vec<String>,
    rows: Vec<u8>,
    /// Where a row begins, and its line.
    index: Vec<(u32, u32)>,
    cell: Vec<u8>,
}

impl Build {
    fn new(bytes: &[u8], columns: &[String]) -> Result<Self, TableError> {
        if bytes.len() > MAX_FILE {
            return Err(TableError::TooLarge);
        }
        Ok(Self { columns: columns.to_vec(), rows: Vec::new(), index: Vec::new(), cell: Vec::new() })
    }

    fn begin(&mut self, line: usize, key: &[u8]) -> Result<(), TableError> {
        if self.rows.len() > MAX_TABLE {
            return Err(TableError::TooLarge);
        }
        if key.is_empty() {
            return Err(row_error(line, "the key is empty"));
        }
        let number = |n: usize| u32::try_from(n).map_err(|_| TableError::TooLarge);
        self.index.push((number(self.rows.len())?, number(line)?));
        put(key, &mut self.rows);
        Ok(())
    }

    fn text(&mut self, text: &[u8], kind: Type, types: &Types, name: &str) -> Result<(), TableError> {
        self.cell.clear();
        let missing = types.misses(text) || (text.is_empty() && kind != Type::Text);
        if !missing && !kind.write(text, &mut self.cell) {
            let line = self.index.last().map_or(0, |(_, line)| *line as usize);
            return Err(row_error(line, format!("the cell of column `{name}` {}", kind.what())));
        }
        put(&self.cell, &mut self.rows);
        Ok(())
    }

    /// Takes a row of JSON, whose key is `name` or its field `key`.
    fn object(&mut self, line: usize, name: Option<&[u8]>, key: &str, row: &[u8]) -> Result<(), TableError> {
        let mut found: Vec<Option<&[u8]>> = vec![None; self.columns.len()];
        let mut own = None;
        let mut scan = Scanner::new(row);
        if scan.peek() != Some(b'{') {
            return Err(row_error(line, "the row is not an object"));
        }
        scan.open(b'{')?;
        let mut more = !scan.closes(b'}');
        while more {
            let field = scan.key()?;
            let value = scan.value(2)?;
            for (column, cell) in self.columns.iter().zip(&mut found) {
                if cell.is_none() && json::key_is(field, column) {
                    *cell = Some(value);
                }
            }
            if own.is_none() && json::key_is(field, key) {
                own = Some(value);
            }
            more = scan.more(b'}')?;
        }
        match (name, own.and_then(Value::of)) {
            (Some(raw), _) | (None, Some(Value::String(raw))) => self.begin(line, &json::unescape(raw))?,
            (None, Some(Value::Number(digits))) => self.begin(line, digits.as_bytes())?,
            _ => return Err(row_error(line, format!("the row has no text or number `{key}`"))),
        }
        for cell in found {
            put(cell.unwrap_or_default(), &mut self.rows);
        }
        Ok(())
    }

    fn finish(self) -> Result<Table, TableError> {
        if self.rows.len() > MAX_TABLE {
            return Err(TableError::TooLarge);
        }
        let Self { columns, rows, mut index, .. } = self;
        let key = |at: u32| Row(&rows[at as usize..]).key();
        index.sort_by(|(a, _), (b, _)| key(*a).cmp(key(*b)));
        if let Some(same) = index.windows(2).find(|w| key(w[0].0) == key(w[1].0)) {
            let key = String::from_utf8_lossy(key(same[0].0)).into_owned();
            return Err(TableError::Twice { line: same[1].1 as usize, first: same[0].1 as usize, key });
        }
        let index = index.iter().map(|(at, _)| *at).collect();
        Ok(Table { columns, rows: rows.into(), index })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn columns(names: &[&str]) -> Vec<String> {
        names.iter().map(|n| (*n).to_owned()).collect()
    }

    fn csv(text: &str) -> Result<Table, TableError> {
        let types = Types { columns: vec![("n".into(), Type::Int)], missing: vec!["?".into()], ..Types::default() };
        Table::csv(text.as_bytes(), b',', "id", &columns(&["name", "n"]), &types)
    }

    fn cell(table: &Table, key: &str, column: usize) -> Option<String> {
        table.find(key.as_bytes())?.cell(column).map(|c| String::from_utf8(c.to_vec()).unwrap())
    }

    #[test]
    fn rows_of_csv_are_found_by_their_key() {
        let table =
            csv("\u{feff}n,id,name\r\n1,b,\"Pump \"\"2\"\"\"\n\n,\"a\nb\",x\n?,c,?\n18446744073709551615,10,\n")
                .unwrap();
        assert_eq!(table.len(), 4);
        assert_eq!(cell(&table, "b", 0).as_deref(), Some(r#""Pump \"2\"""#));
        assert_eq!(cell(&table, "b", 1).as_deref(), Some("1"));
        assert_eq!(cell(&table, "a\nb", 1), None);
        assert_eq!((cell(&table, "c", 0), cell(&table, "c", 1)), (None, None));
        assert_eq!(cell(&table, "10", 0).as_deref(), Some("\"\""));
        assert_eq!(cell(&table, "10", 1).as_deref(), Some("18446744073709551615"));
        assert!(table.find(b"").is_none() && table.find(b"d").is_none());
    }

    #[test]
    fn what_is_wrong_with_a_table_is_said_with_its_line() {
        let error = |text: &str| csv(text).unwrap_err().to_string();
        assert_eq!(error("id,name,n\na,x,1\n\"b\",\"\ny\",2\na,z,3\n"), "line 5: the key `a` was there in line 2");
        assert_eq!(error("id,name\na,x\n"), "the table has no column `n`; it has `id`, `name`");
        assert_eq!(error("id,name,n\na,x\n"), "line 2: 2 cells for 3 columns");
        assert_eq!(error("id,name,n\na,x,y\n"), "line 2: the cell of column `n` is not an integer");
        assert_eq!(error("id,name,n\n,x,1\n"), "line 2: the key is empty");
        assert_eq!(error(""), "line 1: no row with the columns' names");
        assert!(error("id,name,n\na,\"x,1\n").starts_with("line 2: "));
    }

    #[test]
    fn rows_of_json_keep_their_values_as_they_stand() {
        let named = columns(&["name", "n"]);
        let array = br#"[{"id":"a","n":1.50, "name":{"x": 1}},
            {"id":7,"n":null}]"#;
        let table = Table::json(array, "id", &named).unwrap();
        assert_eq!(cell(&table, "a", 0).as_deref(), Some("{\"x\": 1}"));
        assert_eq!(cell(&table, "a", 1).as_deref(), Some("1.50"));
        assert_eq!((cell(&table, "7", 0), cell(&table, "7", 1).as_deref()), (None, Some("null")));
        let object = Table::json(br#"{"\u0061":{"n":1},"b":{}}"#, "", &named).unwrap();
        assert_eq!(cell(&object, "a", 1).as_deref(), Some("1"));
        let error = |text: &str| Table::json(text.as_bytes(), "id", &named).unwrap_err().to_string();
        assert_eq!(error("[{\"id\":\"a\"},\n{\"id\":\"\\u0061\"}]"), "line 2: the key `a` was there in line 1");
        assert_eq!(error("[{\"n\":1}]"), "line 1: the row has no text or number `id`");
        assert_eq!(error("[\n1]"), "line 2: the row is not an object");
        assert_eq!(error("7"), "the table is neither a JSON array of objects nor an object of objects");
        assert!(error("[{]").contains("not JSON"));
    }

    #[test]
    fn a_table_takes_little_more_memory_than_its_file() {
        let rows: String = (0..10_000).map(|i| format!("device-{i:05},Pump number {i:05},{i}\n")).collect();
        let text = format!("id,name,n\n{rows}");
        let table = csv(&text).unwrap();
        assert!(table.rows.len() + 4 * table.len() < text.len() * 5 / 4, "{table:?} of {}", text.len());
        assert_eq!(cell(&table, "device-07777", 1).as_deref(), Some("7777"));
    }

    proptest! {
        #[test]
        fn it_finds_what_a_map_would(rows in prop::collection::btree_map("[a-c,\"\n]{1,3}", "[ -~]{0,200}", 0..20), asked in "[a-c]{1,3}") {
            let quote = |t: &String| format!("\"{}\"", t.replace('"', "\"\""));
            let lines: String = rows.iter().rev().map(|(k, v)| format!("{},{},1\n", quote(k), quote(v))).collect();
            let table = csv(&format!("id,name,n\n{lines}")).unwrap();
            for key in rows.keys().chain([&asked]) {
                let found = cell(&table, key, 0).map(|c| serde_json::from_str::<String>(&c).unwrap());
                prop_assert_eq!(found.as_ref(), rows.get(key).filter(|v| *v != "?"));
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(b'"'), Just(b','), Just(b'\n')], 0..80)) {
            let named = columns(&["name"]);
            let _ = Table::csv(&bytes, b',', "id", &named, &Types::default());
            let head = [b"id,name\n".as_slice(), &bytes].concat();
            let _ = Table::csv(&head, b',', "id", &named, &Types::default());
            let _ = Table::json(&bytes, "id", &named);
        }
    }
}
