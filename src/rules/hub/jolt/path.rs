//! The expressions of a `shift`: what is matched, on the left, and where it goes, on the right.
//!
//! ```text
//! left:   a b* *            a name, with places for anything       a|b*|*   the first of these that matches
//!         &(u,g)            the name that was matched u levels up  $(u,g)   that name itself, as a value
//!         @(u,path)         a value u levels up                    #text    this text, as a value
//! right:  a.b.c             names joined by dots; within a name, &(u,g) and @(u,path) stand for what they find
//!         [] [n] [&] [@(u,path)]   in an array: one more, the nth, or as found
//! ```
//!
//! `u` counts levels upwards from 0; `g` is the gth star of that level's match, 0 the whole. `(u)` is `(u,0)`, no
//! brackets `(0,0)`. A backslash before one of `$&@#*|[]().,\` makes it a letter.
//!
//! On the Hub's page, and before `infinyon/jolt` 0.3, `&0` is `&(0)`; since then it is `&` followed by the letter `0`.
//! Both are read, see [`Dialect`]. Everything else is as since 0.3, peculiarities included: an empty name between two
//! dots is refused, at the start and at the end it is dropped.

use std::iter::Peekable;
use std::vec::IntoIter;

/// Where the Hub's page and the module differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `&1` is `&(1)`, and a shift in which nothing matched makes `{}`.
    Page,
    /// `&1` is `&(0)` and then `1`, and a shift in which nothing matched makes null. Since 0.3.
    Module,
}

/// A name that was matched: how many levels up, and which part of the match.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ref {
    pub up: usize,
    pub group: usize,
}

/// A value: how many levels up, and the way from there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub up: usize,
    pub path: Path,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Left {
    Name(Ref),
    Value(Found),
    Text(String),
    Same(Ref),
    /// Alternatives, each the texts between its stars.
    AnyOf(Vec<Vec<String>>),
    Literal(String),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Path(pub Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    Index(Index),
    /// One name, made of these.
    Key(Vec<Piece>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Index {
    Push,
    At(usize),
    Named(Ref),
    Value(Found),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    Text(String),
    Named(Ref),
    Value(Found),
}

/// Why an expression cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Bad {
    #[error("it ends too early")]
    End,
    #[error("`{0}` is not expected there")]
    Unexpected(String),
    #[error("`\\{0}` is no escape")]
    Escape(char),
    #[error("`{0}` is no level or index")]
    Number(String),
    #[error("`@` within `@` within `@` ...: at most {MAX_NESTED}")]
    Nested,
    #[error("more than {MAX_PARTS} names in one path")]
    Long,
}

/// `@` within each other.
const MAX_NESTED: usize = 4;
/// Names in one path: each is a level of the result.
const MAX_PARTS: usize = 32;

const SIGNS: &str = "$&@#*|[]().,\\";

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Sign(char),
    Key(String),
}

use Token::{Key, Sign};

pub fn left(text: &str, dialect: Dialect) -> Result<Left, Bad> {
    let mut reader = Reader::new(text, dialect)?;
    let left = match reader.tokens.peek() {
        None => Left::AnyOf(vec![vec![String::new()]]),
        Some(Sign('$')) => Left::Name(reader.skip().reference()?),
        Some(Sign('&')) => Left::Same(reader.skip().reference()?),
        Some(Sign('@')) => Left::Value(reader.skip().found(0)?),
        Some(Sign('#')) => match reader.skip().tokens.next() {
            None => Left::Text(String::new()),
            Some(Key(text)) => Left::Text(text),
            Some(other) => return Err(other.unexpected()),
        },
        Some(_) => reader.alternatives()?,
    };
    reader.end()?;
    Ok(left)
}

pub fn right(text: &str, dialect: Dialect) -> Result<Path, Bad> {
    let mut reader = Reader::new(text, dialect)?;
    let path = reader.path(0)?;
    reader.end()?;
    Ok(path)
}

impl Token {
    fn unexpected(self) -> Bad {
        Bad::Unexpected(match self {
            Sign(c) => c.to_string(),
            Key(text) => text,
        })
    }
}

fn tokens(text: &str) -> Result<Vec<Token>, Bad> {
    let mut tokens = Vec::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let letter = match c {
            '\\' => match chars.next().ok_or(Bad::End)? {
                c if SIGNS.contains(c) => c,
                c => return Err(Bad::Escape(c)),
            },
            c if SIGNS.contains(c) => {
                tokens.push(Sign(c));
                continue;
            }
            c => c,
        };
        match tokens.last_mut() {
            Some(Key(key)) => key.push(letter),
            _ => tokens.push(Key(letter.to_string())),
        }
    }
    Ok(tokens)
}

struct Reader {
    tokens: Peekable<IntoIter<Token>>,
    dialect: Dialect,
}

impl Reader {
    fn new(text: &str, dialect: Dialect) -> Result<Self, Bad> {
        Ok(Self { tokens: tokens(text)?.into_iter().peekable(), dialect })
    }

    fn skip(&mut self) -> &mut Self {
        self.tokens.next();
        self
    }

    fn takes(&mut self, sign: char) -> bool {
        self.tokens.next_if_eq(&Sign(sign)).is_some()
    }

    fn expect(&mut self, sign: char) -> Result<(), Bad> {
        match self.tokens.next().ok_or(Bad::End)? {
            Sign(c) if c == sign => Ok(()),
            other => Err(other.unexpected()),
        }
    }

    fn end(&mut self) -> Result<(), Bad> {
        self.tokens.next().map_or(Ok(()), |token| Err(token.unexpected()))
    }

    fn number(&mut self) -> Result<usize, Bad> {
        match self.tokens.next().ok_or(Bad::End)? {
            Key(text) => number(&text),
            other => Err(other.unexpected()),
        }
    }

    /// What follows `&` or `$`.
    fn reference(&mut self) -> Result<Ref, Bad> {
        if self.dialect == Dialect::Page
            && let Some(Key(key)) = self.tokens.peek_mut()
        {
            let digits = key.bytes().take_while(u8::is_ascii_digit).count();
            if digits > 0 {
                let up = number(&key[..digits])?;
                key.drain(..digits);
                self.tokens.next_if_eq(&Key(String::new()));
                return Ok(Ref { up, group: 0 });
            }
        }
        if !self.takes('(') {
            return Ok(Ref::default());
        }
        let up = self.number()?;
        let group = if self.takes(',') { self.number()? } else { 0 };
        self.expect(')')?;
        Ok(Ref { up, group })
    }

    /// What follows `@`.
    fn found(&mut self, depth: usize) -> Result<Found, Bad> {
        if !self.takes('(') {
            return Ok(Found { up: 0, path: Path::default() });
        }
        let path = self.path(depth + 1)?;
        if !self.takes(',') {
            self.expect(')')?;
            return Ok(Found { up: 0, path });
        }
        let up = match &path.0[..] {
            [Part::Key(pieces)] => match &pieces[..] {
                [Piece::Text(text)] => number(text)?,
                _ => return Err(Bad::Number("...".into())),
            },
            _ => return Err(Bad::Number("...".into())),
        };
        let path = self.path(depth + 1)?;
        self.expect(')')?;
        Ok(Found { up, path })
    }

    fn path(&mut self, depth: usize) -> Result<Path, Bad> {
        if depth > MAX_NESTED {
            return Err(Bad::Nested);
        }
        let mut parts = Vec::new();
        if self.takes('[') {
            parts.push(self.index(depth)?);
        } else {
            parts.extend(self.key(depth)?);
        }
        loop {
            if parts.len() > MAX_PARTS {
                return Err(Bad::Long);
            }
            if self.takes('[') {
                parts.push(self.index(depth)?);
            } else if self.takes('.') {
                match self.key(depth)? {
                    Some(key) => parts.push(key),
                    None => break,
                }
            } else {
                break;
            }
        }
        Ok(Path(parts))
    }

    fn key(&mut self, depth: usize) -> Result<Option<Part>, Bad> {
        let mut pieces = Vec::new();
        loop {
            pieces.push(match self.tokens.peek() {
                Some(Sign('&')) => Piece::Named(self.skip().reference()?),
                Some(Sign('@')) => Piece::Value(self.skip().found(depth)?),
                Some(Key(_)) => match self.tokens.next() {
                    Some(Key(text)) => Piece::Text(text),
                    _ => break,
                },
                _ => break,
            });
        }
        Ok((!pieces.is_empty()).then_some(Part::Key(pieces)))
    }

    fn index(&mut self, depth: usize) -> Result<Part, Bad> {
        let index = match self.tokens.peek().ok_or(Bad::End)? {
            Sign('&') => Index::Named(self.skip().reference()?),
            Sign('@') => Index::Value(self.skip().found(depth)?),
            Sign(']') => Index::Push,
            _ => Index::At(self.number()?),
        };
        self.expect(']')?;
        Ok(Part::Index(index))
    }

    fn alternatives(&mut self) -> Result<Left, Bad> {
        let mut alternatives = vec![self.stars()?];
        while self.takes('|') {
            // An empty one counts at either end, not in the middle.
            if !matches!(self.tokens.peek(), None | Some(Key(_) | Sign('*'))) {
                break;
            }
            alternatives.push(self.stars()?);
        }
        match &mut alternatives[..] {
            [only] if only.len() == 1 => Ok(Left::Literal(std::mem::take(&mut only[0]))),
            _ => Ok(Left::AnyOf(alternatives)),
        }
    }

    /// The texts before, between and after the stars.
    fn stars(&mut self) -> Result<Vec<String>, Bad> {
        let mut texts = Vec::new();
        loop {
            match self.tokens.next_if(|token| matches!(token, Key(_))) {
                Some(Key(text)) => texts.push(text),
                _ if texts.is_empty() || !matches!(self.tokens.peek(), Some(Sign('*'))) => texts.push(String::new()),
                _ => return Err(Bad::Unexpected("*".into())),
            }
            if !self.takes('*') {
                return Ok(texts);
            }
        }
    }
}

fn number(text: &str) -> Result<usize, Bad> {
    text.parse().map_err(|_| Bad::Number(text.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Part {
        Part::Key(vec![Piece::Text(text.into())])
    }

    fn stars(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|t| (*t).to_owned()).collect()
    }

    #[test]
    fn left_sides_are_read_as_the_original_reads_them() {
        let left = |text| left(text, Dialect::Module);
        assert_eq!(left("a"), Ok(Left::Literal("a".into())));
        assert_eq!(left(r"\*\.\\"), Ok(Left::Literal(r"*.\".into())));
        assert_eq!(left(""), Ok(Left::AnyOf(vec![stars(&[""])])));
        assert_eq!(left("*"), Ok(Left::AnyOf(vec![stars(&["", ""])])));
        assert_eq!(left("a*|*b|"), Ok(Left::AnyOf(vec![stars(&["a", ""]), stars(&["", "b"]), stars(&[""])])));
        assert_eq!(left("|a"), Ok(Left::AnyOf(vec![stars(&[""]), stars(&["a"])])));
        assert_eq!(left("$(2,1)"), Ok(Left::Name(Ref { up: 2, group: 1 })));
        assert_eq!(left("&"), Ok(Left::Same(Ref::default())));
        assert_eq!(left("#"), Ok(Left::Text(String::new())));
        assert_eq!(left("@(1,a)"), Ok(Left::Value(Found { up: 1, path: Path(vec![key("a")]) })));
        for bad in ["**", "a||b", "a.b", "$x", "&0", "@(a.b", "#*", r"\a", "\\", "@(*)", "&(x)"] {
            assert!(left(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn right_sides_are_read_as_the_original_reads_them() {
        let right = |text| right(text, Dialect::Module).map(|path| path.0);
        assert_eq!(right(""), Ok(vec![]));
        assert_eq!(right("a.b[]"), Ok(vec![key("a"), key("b"), Part::Index(Index::Push)]));
        assert_eq!(right(".a."), Ok(vec![key("a")]));
        assert_eq!(right("[3].x"), Ok(vec![Part::Index(Index::At(3)), key("x")]));
        let pieces = vec![Piece::Text("x-".into()), Piece::Named(Ref { up: 1, group: 0 })];
        assert_eq!(right("x-&(1)"), Ok(vec![Part::Key(pieces)]));
        for bad in ["a..b", "[0]a", "a[", "a[x]", "a*", "[&0]", "@(@(@(@(@(@(a))))))", &"a.".repeat(40)] {
            assert!(right(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_digit_after_an_ampersand_is_a_level_or_a_letter_by_dialect() {
        let named = |up| Piece::Named(Ref { up, group: 0 });
        let old = right("&12a.&.[&1]", Dialect::Page);
        assert!(old.is_err(), "a dot before a bracket: {old:?}");
        assert_eq!(
            right("&12a.&[&1]", Dialect::Page),
            Ok(Path(vec![
                Part::Key(vec![named(12), Piece::Text("a".into())]),
                Part::Key(vec![named(0)]),
                Part::Index(Index::Named(Ref { up: 1, group: 0 })),
            ]))
        );
        let letters = vec![named(0), Piece::Text("12a".into())];
        assert_eq!(right("&12a", Dialect::Module), Ok(Path(vec![Part::Key(letters)])));
        assert!(right("&99999999999999999999", Dialect::Page).is_err());
    }
}
