//! JSON without a tree: find one field in the bytes of a value, or walk them member by member.
//!
//! A [`Scanner`] steps over strings, numbers and nested values and hands out slices of the input. Nothing is built,
//! nothing is converted: a number is its digits, so 64-bit and larger ones stay what they are. The grammar is checked
//! as far as the scan goes (numbers, literals, commas, colons, nesting up to [`MAX_DEPTH`]); a scan that has found what
//! it looks for does not read on. What stands inside a string is not judged beyond its escapes: bytes that are not
//! UTF-8 pass as they came. Where an object has a key twice, the first one is found.

use std::borrow::Cow;
use std::fmt;

/// Nesting that is followed; deeper input is malformed (the same limit as serde_json's).
pub const MAX_DEPTH: usize = 128;

/// Where and how input is not JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not JSON: {what} at byte {at}")]
pub struct Malformed {
    pub at: usize,
    pub what: &'static str,
}

/// A dotted path to a field: `a.b.0.c`. A number picks an array's element, `\.` is a dot within a name.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Path(Vec<String>);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a field path: write names with dots between them, like `pump.speed`")]
pub struct PathError(String);

impl Path {
    pub fn parse(text: &str) -> Result<Self, PathError> {
        let mut names = vec![String::new()];
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            match c {
                '.' => names.push(String::new()),
                '\\' => names.last_mut().expect("never empty").push(chars.next().ok_or(PathError(text.into()))?),
                c => names.last_mut().expect("never empty").push(c),
            }
        }
        let ok = names.iter().all(|n| !n.is_empty()) && names.len() <= MAX_DEPTH;
        if ok { Ok(Self(names)) } else { Err(PathError(text.into())) }
    }

    pub fn names(&self) -> &[String] {
        &self.0
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, name) in self.0.iter().enumerate() {
            let dot = if i == 0 { "" } else { "." };
            write!(f, "{dot}{}", name.replace('\\', "\\\\").replace('.', "\\."))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{self}`")
    }
}

/// One JSON value as it stands in its input, told apart by its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    Null,
    Bool(bool),
    /// Its digits.
    Number(&'a str),
    /// What stands between the quotes, escapes and all; see [`unescape`].
    String(&'a [u8]),
    /// An object or array, brackets included.
    Nested(&'a [u8]),
}

impl<'a> Value<'a> {
    /// Tells apart a slice that [`Scanner::value`] gave.
    pub fn of(raw: &'a [u8]) -> Option<Self> {
        Some(match raw.first()? {
            b'n' => Value::Null,
            b't' => Value::Bool(true),
            b'f' => Value::Bool(false),
            b'"' => Value::String(raw.get(1..raw.len().checked_sub(1)?)?),
            b'{' | b'[' => Value::Nested(raw),
            _ => Value::Number(std::str::from_utf8(raw).ok()?),
        })
    }
}

/// Finds the value at `path`. `Ok(None)`: the input was well-formed as far as it mattered and has no such field.
pub fn find<'a>(json: &'a [u8], path: &Path) -> Result<Option<Value<'a>>, Malformed> {
    Ok(find_raw(json, path)?.and_then(Value::of))
}

/// As [`find`], giving the value's bytes.
pub fn find_raw<'a>(json: &'a [u8], path: &Path) -> Result<Option<&'a [u8]>, Malformed> {
    let mut scan = Scanner::new(json);
    scan.space();
    for (depth, name) in path.names().iter().enumerate() {
        let found = match scan.peek() {
            Some(b'{') => scan.seek_member(name, depth)?,
            Some(b'[') => scan.seek_element(name, depth)?,
            _ => {
                scan.value(depth)?;
                false
            }
        };
        if !found {
            return Ok(None);
        }
    }
    scan.value(path.names().len()).map(Some)
}

/// Whether the raw key of a member (between its quotes) spells `name`.
pub fn key_is(raw: &[u8], name: &str) -> bool {
    if memchr::memchr(b'\\', raw).is_none() { raw == name.as_bytes() } else { *unescape(raw) == *name.as_bytes() }
}

/// Resolves the escapes of a string's raw inside. Borrows when there are none.
pub fn unescape(raw: &[u8]) -> Cow<'_, [u8]> {
    let Some(first) = memchr::memchr(b'\\', raw) else { return Cow::Borrowed(raw) };
    let mut out = raw[..first].to_vec();
    let mut rest = &raw[first..];
    while let Some((&b, after)) = rest.split_first() {
        rest = after;
        if b != b'\\' {
            out.push(b);
            continue;
        }
        let Some((&escape, after)) = rest.split_first() else { break };
        rest = after;
        match escape {
            b'n' => out.push(b'\n'),
            b't' => out.push(b'\t'),
            b'r' => out.push(b'\r'),
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'u' => {
                let (c, used) = unicode_escape(rest);
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                rest = &rest[used.min(rest.len())..];
            }
            other => out.push(other),
        }
    }
    Cow::Owned(out)
}

/// Reads what follows `\u`: the character and how many bytes it took. A lone surrogate becomes U+FFFD.
fn unicode_escape(rest: &[u8]) -> (char, usize) {
    let hex = |from: usize| {
        let digits = std::str::from_utf8(rest.get(from..from + 4)?).ok()?;
        u32::from_str_radix(digits, 16).ok()
    };
    let Some(high) = hex(0) else { return (char::REPLACEMENT_CHARACTER, 4) };
    if (0xd800..0xdc00).contains(&high)
        && rest.get(4..6) == Some(b"\\u")
        && let Some(low @ 0xdc00..0xe000) = hex(6)
    {
        let c = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
        return (char::from_u32(c).unwrap_or(char::REPLACEMENT_CHARACTER), 10);
    }
    (char::from_u32(high).unwrap_or(char::REPLACEMENT_CHARACTER), 4)
}

/// Appends `text` as a JSON string with its quotes; bytes that are not UTF-8 become U+FFFD.
pub fn write_string(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for &b in String::from_utf8_lossy(text).as_bytes() {
        match b {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', b]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0..0x20 => out.extend_from_slice(format!("\\u{b:04x}").as_bytes()),
            b => out.push(b),
        }
    }
    out.push(b'"');
}

/// A position in JSON bytes. Each method either steps over one thing or says why it cannot.
#[derive(Clone, Debug)]
pub struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub fn at(&self) -> usize {
        self.at
    }

    /// Asked for every byte: in line also where the build is for size.
    #[inline(always)]
    pub fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    #[inline(always)]
    pub fn space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    /// Only white space may follow.
    pub fn end(&mut self) -> Result<(), Malformed> {
        self.space();
        if self.at == self.bytes.len() { Ok(()) } else { self.fail("something after the value") }
    }

    /// Steps into an object (`{`) or array (`[`).
    pub fn open(&mut self, bracket: u8) -> Result<(), Malformed> {
        if self.peek() != Some(bracket) {
            return self.fail(if bracket == b'{' { "expected `{`" } else { "expected `[`" });
        }
        self.at += 1;
        Ok(())
    }

    /// As [`open`](Self::open), for walks that go down without [`value`](Self::value): `depth` brackets are open already.
    pub fn nest(&mut self, bracket: u8, depth: usize) -> Result<(), Malformed> {
        self.check_depth(depth)?;
        self.open(bracket)
    }

    /// Right after [`open`](Self::open): whether it closes at once; then it is stepped over.
    pub fn closes(&mut self, bracket: u8) -> bool {
        self.space();
        let closes = self.peek() == Some(bracket);
        self.at += usize::from(closes);
        closes
    }

    /// After a member or element: steps over the comma (true) or the closing bracket (false).
    pub fn more(&mut self, bracket: u8) -> Result<bool, Malformed> {
        self.space();
        match self.peek() {
            Some(b',') => {
                self.at += 1;
                Ok(true)
            }
            Some(b) if b == bracket => {
                self.at += 1;
                Ok(false)
            }
            _ => self.fail("expected `,` or the closing bracket"),
        }
    }

    /// Steps over a key and its colon, up to the value; gives the key's raw inside.
    pub fn key(&mut self) -> Result<&'a [u8], Malformed> {
        self.space();
        let key = self.string()?;
        self.space();
        if self.peek() != Some(b':') {
            return self.fail("expected `:`");
        }
        self.at += 1;
        self.space();
        Ok(key)
    }

    /// Steps over one value and gives its bytes. `depth` is how many brackets are open around it.
    pub fn value(&mut self, depth: usize) -> Result<&'a [u8], Malformed> {
        let start = self.at;
        match self.peek() {
            Some(b'"') => {
                self.string()?;
            }
            Some(b'{') => self.skip_object(depth)?,
            Some(b'[') => self.skip_array(depth)?,
            Some(b'-' | b'0'..=b'9') => self.number()?,
            Some(b't') => self.literal(b"true")?,
            Some(b'f') => self.literal(b"false")?,
            Some(b'n') => self.literal(b"null")?,
            Some(_) => return self.fail("expected a value"),
            None => return self.fail("it ends before a value"),
        }
        Ok(&self.bytes[start..self.at])
    }

    /// Moves to the value of the member `name` of the object here; false when it has none.
    fn seek_member(&mut self, name: &str, depth: usize) -> Result<bool, Malformed> {
        self.open(b'{')?;
        if self.closes(b'}') {
            return Ok(false);
        }
        loop {
            if key_is(self.key()?, name) {
                return Ok(true);
            }
            self.value(depth + 1)?;
            if !self.more(b'}')? {
                return Ok(false);
            }
        }
    }

    /// Moves to the element of the array here whose index `name` spells; false when there is none.
    fn seek_element(&mut self, name: &str, depth: usize) -> Result<bool, Malformed> {
        let wanted = name.parse::<usize>().ok();
        self.open(b'[')?;
        if self.closes(b']') {
            return Ok(false);
        }
        for index in 0.. {
            self.space();
            if Some(index) == wanted {
                return Ok(true);
            }
            self.value(depth + 1)?;
            if !self.more(b']')? {
                break;
            }
        }
        Ok(false)
    }

    fn skip_object(&mut self, depth: usize) -> Result<(), Malformed> {
        self.check_depth(depth)?;
        self.open(b'{')?;
        if self.closes(b'}') {
            return Ok(());
        }
        loop {
            self.key()?;
            self.value(depth + 1)?;
            if !self.more(b'}')? {
                return Ok(());
            }
        }
    }

    fn skip_array(&mut self, depth: usize) -> Result<(), Malformed> {
        self.check_depth(depth)?;
        self.open(b'[')?;
        if self.closes(b']') {
            return Ok(());
        }
        loop {
            self.space();
            self.value(depth + 1)?;
            if !self.more(b']')? {
                return Ok(());
            }
        }
    }

    /// Steps over a string; gives its raw inside.
    fn string(&mut self) -> Result<&'a [u8], Malformed> {
        if self.peek() != Some(b'"') {
            return self.fail("expected `\"`");
        }
        let start = self.at + 1;
        let mut at = start;
        while let Some(found) = memchr::memchr2(b'"', b'\\', &self.bytes[at..]) {
            at += found;
            if self.bytes[at] == b'"' {
                self.at = at + 1;
                return Ok(&self.bytes[start..at]);
            }
            at = self.escape(at)?;
        }
        self.fail("a string without its closing `\"`")
    }

    /// Checks the escape at `at`; gives where it ends.
    fn escape(&self, at: usize) -> Result<usize, Malformed> {
        match self.bytes.get(at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(at + 2),
            Some(b'u') => match self.bytes.get(at + 2..at + 6) {
                Some(hex) if hex.iter().all(u8::is_ascii_hexdigit) => Ok(at + 6),
                _ => Err(Malformed { at, what: "`\\u` without four hex digits" }),
            },
            _ => Err(Malformed { at, what: "unknown escape" }),
        }
    }

    fn number(&mut self) -> Result<(), Malformed> {
        self.at += usize::from(self.peek() == Some(b'-'));
        match self.peek() {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), Malformed> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        if self.at > start { Ok(()) } else { self.fail("expected a digit") }
    }

    fn literal(&mut self, word: &'static [u8]) -> Result<(), Malformed> {
        if !self.bytes[self.at..].starts_with(word) {
            return self.fail("expected a value");
        }
        self.at += word.len();
        Ok(())
    }

    fn check_depth(&self, depth: usize) -> Result<(), Malformed> {
        if depth < MAX_DEPTH { Ok(()) } else { self.fail("nested too deeply") }
    }

    fn fail<T>(&self, what: &'static str) -> Result<T, Malformed> {
        Err(Malformed { at: self.at, what })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at<'a>(json: &'a str, path: &str) -> Option<Value<'a>> {
        find(json.as_bytes(), &Path::parse(path).unwrap()).unwrap()
    }

    /// Arbitrary JSON whose keys meet the paths looked for, and whose strings need escapes.
    pub fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<u64>().prop_map(Into::into),
            // Quarters: serde_json's own float parsing is not exact to the last digit.
            any::<i32>().prop_map(|n| (f64::from(n) / 4.0).into()),
            "[a-c\"\\\\\n\u{e9}\u{1f600}]{0,6}".prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![prop::collection::vec(inner.clone(), 0..5).prop_map(serde_json::Value::Array), object_of(inner)]
        })
    }

    fn object_of(inner: impl Strategy<Value = serde_json::Value>) -> impl Strategy<Value = serde_json::Value> {
        prop::collection::vec(("[a-c\"\n]{1,2}", inner), 0..5)
            .prop_map(|members| serde_json::Value::Object(members.into_iter().collect()))
    }

    pub fn any_object() -> impl Strategy<Value = serde_json::Value> {
        object_of(any_json())
    }

    #[test]
    fn numbers_keep_every_digit() {
        assert_eq!(at(r#"{"n": 18446744073709551615}"#, "n"), Some(Value::Number("18446744073709551615")));
        assert_eq!(at(r#"{"n":-0.10e+5 }"#, "n"), Some(Value::Number("-0.10e+5")));
    }

    #[test]
    fn paths_go_through_objects_and_arrays() {
        let json = r#" {"x":"{\"a\":1}", "a": {"b" : [ true, {"c":"d"} ], "e":null} }"#;
        assert_eq!(at(json, "a.b.1.c"), Some(Value::String(b"d")));
        assert_eq!(at(json, "a.b.0"), Some(Value::Bool(true)));
        assert_eq!(at(json, "a.b.2"), None);
        assert_eq!(at(json, "a.e"), Some(Value::Null));
        assert_eq!(at(json, "a.e.f"), None);
        assert_eq!(at(json, "x.a"), None);
        assert_eq!(at(r#"{"a.b":1}"#, r"a\.b"), Some(Value::Number("1")));
        assert_eq!(at(r#"{"\u0061":1}"#, "a"), Some(Value::Number("1")));
    }

    #[test]
    fn malformed_input_is_an_error_and_says_where() {
        let path = Path::parse("z").unwrap();
        for bad in [
            "",
            "{",
            "{\"a\"",
            "{\"a\":",
            "{\"a\":1",
            "{\"a\":1,}",
            "{\"a\" 1}",
            "{a:1}",
            "{\"a\":01}",
            "{\"a\":-}",
            "{\"a\":1.}",
            "{\"a\":tru}",
            "{\"a\":\"\\x\"}",
            "{\"a\":\"\\u12\"}",
            "{\"a\":[1 2]}",
            "nope",
            "{\"a\":.5}",
        ] {
            assert!(find(bad.as_bytes(), &path).is_err(), "{bad}");
        }
        let error = find(b"{\"a\":1;}", &path).unwrap_err();
        assert_eq!(error.to_string(), "not JSON: expected `,` or the closing bracket at byte 6");
    }

    #[test]
    fn nesting_beyond_the_limit_is_malformed_and_no_stack_overflow() {
        let deep = "[".repeat(200_000);
        assert!(find(deep.as_bytes(), &Path::parse("z").unwrap()).is_err());
        let path = Path::parse(&vec!["0"; MAX_DEPTH].join(".")).unwrap();
        assert!(find(deep.as_bytes(), &path).is_err());
    }

    #[test]
    fn paths_with_empty_names_are_refused() {
        for bad in ["", ".", "a.", ".a", "a..b", "a\\"] {
            assert!(Path::parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn it_finds_what_a_tree_would(json in any_json(), path in "[a-c0-2](\\.[a-c0-2]){0,3}", pretty: bool) {
            let text = if pretty { serde_json::to_string_pretty(&json) } else { serde_json::to_string(&json) }.unwrap();
            let parsed = Path::parse(&path).unwrap();
            let found = find_raw(text.as_bytes(), &parsed).unwrap();
            let tree = json.pointer(&format!("/{}", path.replace('.', "/")));
            prop_assert_eq!(found.map(|raw| serde_json::from_slice(raw).unwrap()), tree.cloned());
            prop_assert_eq!(Path::parse(&parsed.to_string()).unwrap(), parsed);
        }

        #[test]
        fn what_the_scanner_takes_serde_takes(json in any_json(), cut in 0usize..200, put: u8) {
            let mut text = serde_json::to_vec(&json).unwrap();
            let cut = cut % text.len();
            text[cut] = put;
            let mut scan = Scanner::new(&text);
            scan.space();
            let taken = scan.value(0).is_ok() && scan.end().is_ok();
            match serde_json::from_slice::<serde_json::Value>(&text) {
                Ok(_) => prop_assert!(taken, "{}", String::from_utf8_lossy(&text)),
                // The scanner does not judge the inside of strings, nor the size of numbers.
                Err(e) => {
                    let why = e.to_string();
                    let inside = ["control character", "unicode", "surrogate", "out of range", "hex escape"];
                    prop_assert!(!taken || inside.iter().any(|i| why.contains(i)), "{why}");
                }
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = find(&bytes, &Path::parse("a.0").unwrap());
            let _ = unescape(&bytes);
        }

        #[test]
        fn written_strings_read_back(text in ".*") {
            let mut out = Vec::new();
            write_string(text.as_bytes(), &mut out);
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text.clone());
            prop_assert_eq!(&*unescape(&out[1..out.len() - 1]), text.as_bytes());
        }
    }
}
