//! One record of comma-separated values, by RFC 4180, for columns whose names are given.
//!
//! A cell in double quotes may hold the delimiter, line breaks and, doubled, quotes; a quote anywhere else fails the
//! text, and so does a row with more or fewer cells than columns. A column whose name is empty is left out.

use std::borrow::Cow;

use super::members::{MAX_MEMBERS, Members};
use crate::rules::failed::Failed;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Csv {
    pub columns: Vec<String>,
    pub delimiter: u8,
    /// A row that repeats the columns' names, the head of a file, goes no further.
    pub drop_header: bool,
}

impl Csv {
    pub(super) fn check(&self) -> Result<(), &'static str> {
        if self.columns.is_empty() || self.columns.len() > MAX_MEMBERS {
            return Err("`columns` names 1 to 256 columns");
        }
        let twice = |(i, name): (usize, &String)| !name.is_empty() && self.columns[i + 1..].contains(name);
        if self.columns.iter().enumerate().any(twice) {
            return Err("`columns` names one twice");
        }
        check_delimiter(self.delimiter)
    }

    /// False: it is the header, to be dropped.
    pub(super) fn parse(&self, text: &[u8], members: &mut Members<'_>) -> Result<bool, Failed> {
        let text = without_line_end(text);
        if self.drop_header && self.is_header(text) {
            return Ok(false);
        }
        let mut columns = self.columns.iter();
        let mut rest = Some(text);
        while let Some(from) = rest {
            let (cell, after) = cell(from, self.delimiter).map_err(Failed::because)?;
            let name = columns.next().ok_or(Failed::because("more cells than columns"))?;
            if !name.is_empty() {
                members.column(name.as_bytes(), &cell)?;
            }
            rest = after;
        }
        if columns.next().is_some() { Err(Failed::because("fewer cells than columns")) } else { Ok(true) }
    }

    fn is_header(&self, text: &[u8]) -> bool {
        let mut rest = Some(text);
        for name in &self.columns {
            let Some(Ok((cell, after))) = rest.map(|from| cell(from, self.delimiter)) else { return false };
            if !name.is_empty() && cell.trim_ascii() != name.as_bytes() {
                return false;
            }
            rest = after;
        }
        rest.is_none()
    }
}

pub fn check_delimiter(delimiter: u8) -> Result<(), &'static str> {
    if !delimiter.is_ascii() || matches!(delimiter, b'"' | b'\r' | b'\n') {
        return Err("`delimiter` is one ASCII character, neither a quote nor a line break");
    }
    Ok(())
}

fn without_line_end(text: &[u8]) -> &[u8] {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    text.strip_suffix(b"\r").unwrap_or(text)
}

/// A cell, and what follows its delimiter (None: it was the last).
pub type Cell<'t> = (Cow<'t, [u8]>, Option<&'t [u8]>);

/// Reads the cell that `text`, the rest of one row, begins with.
pub fn cell(text: &[u8], delimiter: u8) -> Result<Cell<'_>, &'static str> {
    let Some(quoted) = text.strip_prefix(b"\"") else {
        let end = memchr::memchr(delimiter, text);
        let cell = &text[..end.unwrap_or(text.len())];
        if memchr::memchr3(b'"', b'\r', b'\n', cell).is_some() {
            return Err("a quote or line break in a cell without quotes");
        }
        return Ok((Cow::Borrowed(cell), end.map(|end| &text[end + 1..])));
    };
    let mut doubled = false;
    let mut at = 0;
    while let Some(found) = memchr::memchr(b'"', &quoted[at..]) {
        at += found;
        match quoted.get(at + 1) {
            Some(b'"') => {
                doubled = true;
                at += 2;
            }
            Some(b) if *b != delimiter => return Err("something between a closing quote and the delimiter"),
            after => {
                let rest = after.map(|_| &quoted[at + 2..]);
                let cell = &quoted[..at];
                return Ok((if doubled { Cow::Owned(undouble(cell)) } else { Cow::Borrowed(cell) }, rest));
            }
        }
    }
    Err("a cell without its closing quote")
}

fn undouble(cell: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(cell.len());
    let mut bytes = cell.iter();
    while let Some(b) = bytes.next() {
        out.push(*b);
        if *b == b'"' {
            bytes.next();
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn row(text: &[u8]) -> Result<Vec<Vec<u8>>, &'static str> {
        let mut cells = Vec::new();
        let mut rest = Some(text);
        while let Some(from) = rest {
            let (cell, after) = cell(from, b',')?;
            cells.push(cell.into_owned());
            rest = after;
        }
        Ok(cells)
    }

    #[test]
    fn quotes_are_those_of_rfc_4180() {
        let cells = |text: &str| row(text.as_bytes()).unwrap().join(&b'|');
        assert_eq!(cells("a,,c"), b"a||c");
        assert_eq!(cells(""), b"");
        assert_eq!(cells("\"a,b\",\"say \"\"x\"\"\",\"\r\n\""), b"a,b|say \"x\"|\r\n");
        for bad in ["a\"b", "\"a", "\"a\"b,c", "a\nb", "\"\"\""] {
            assert!(row(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_a_writer_wrote_is_read_back(cells in prop::collection::vec("[ab,\"\r\n;\u{e9}]{0,6}", 1..6)) {
            let quoted = cells.iter().map(|c| format!("\"{}\"", c.replace('"', "\"\"")));
            let text = quoted.collect::<Vec<_>>().join(",");
            let bytes: Vec<Vec<u8>> = cells.iter().map(|c| c.clone().into_bytes()).collect();
            prop_assert_eq!(row(text.as_bytes()), Ok(bytes));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = row(&bytes);
        }
    }
}
