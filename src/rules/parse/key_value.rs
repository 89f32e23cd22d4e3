//! `key=value` pairs, as logfmt writes them: `level=info msg="link up" rtt=12.5`.
//!
//! A value in double quotes may hold anything, with JSON's escapes. A word without `=` fails the text unless `flags` is
//! set: then it is true. Between pairs stands white space, or another character with white space around it.

use super::members::Members;
use crate::json;
use crate::rules::failed::Failed;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyValue {
    /// Between a key and its value.
    pub equals: u8,
    /// Between pairs; a space stands for any white space.
    pub between: u8,
    /// Words without a value are true.
    pub flags: bool,
}

impl Default for KeyValue {
    fn default() -> Self {
        Self { equals: b'=', between: b' ', flags: false }
    }
}

impl KeyValue {
    pub(super) fn check(self) -> Result<(), &'static str> {
        let usable = |b: u8| b.is_ascii_graphic() && b != b'"' && b != b'\\';
        if !usable(self.equals) || !(usable(self.between) || self.between == b' ') || self.equals == self.between {
            return Err("`equals` and `between` are two different characters, neither a quote nor a backslash");
        }
        Ok(())
    }

    pub(super) fn parse(self, text: &[u8], members: &mut Members<'_>) -> Result<(), Failed> {
        let mut rest = text.trim_ascii();
        if rest.is_empty() {
            return Err(Failed::because("no `key=value` in it"));
        }
        while !rest.is_empty() {
            let end = rest.iter().position(|b| *b == self.equals || self.ends(*b)).unwrap_or(rest.len());
            let (key, after) = rest.split_at(end);
            let key = key.trim_ascii();
            if key.is_empty() {
                return Err(Failed::because("a value without a key"));
            }
            match after.split_first() {
                Some((b, value)) if *b == self.equals => rest = self.pair(key, value, members)?,
                _ if self.flags => {
                    members.value(key)?.extend_from_slice(b"true");
                    rest = self.next(after)?;
                }
                _ => return Err(Failed::field(key, "has no value")),
            }
        }
        Ok(())
    }

    fn ends(self, b: u8) -> bool {
        if self.between == b' ' { b.is_ascii_whitespace() } else { b == self.between }
    }

    /// One value and what follows it; gives where the next pair begins.
    fn pair<'t>(self, key: &[u8], value: &'t [u8], members: &mut Members<'_>) -> Result<&'t [u8], Failed> {
        let value = if self.between == b' ' { value } else { value.trim_ascii_start() };
        let Some(quoted) = value.strip_prefix(b"\"") else {
            let end = value.iter().position(|b| self.ends(*b)).unwrap_or(value.len());
            members.column(key, value[..end].trim_ascii_end())?;
            return self.next(&value[end..]);
        };
        let mut at = 0;
        while let Some(found) = memchr::memchr2(b'"', b'\\', &quoted[at..]) {
            at += found;
            if quoted[at] == b'"' {
                members.column(key, &json::unescape(&quoted[..at]))?;
                return self.next(&quoted[at + 1..]);
            }
            at = (at + 2).min(quoted.len());
        }
        Err(Failed::field(key, "has no closing quote"))
    }

    /// Steps over what stands between two pairs.
    fn next(self, rest: &[u8]) -> Result<&[u8], Failed> {
        let rest = if self.between == b' ' { rest } else { rest.trim_ascii_start() };
        match rest.split_first() {
            None => Ok(rest),
            Some((b, after)) if self.ends(*b) => Ok(after.trim_ascii_start()),
            Some(_) => Err(Failed::because("something right after a closing quote")),
        }
    }
}
