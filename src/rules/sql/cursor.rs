//! The parser's place among the tokens: looking ahead, stepping, and saying what was expected.

use super::Fault;
use super::token::{Placed, Token};

pub(super) struct Parser {
    tokens: Vec<Placed>,
    next: usize,
    /// Expressions that are open around the one being read.
    pub(super) nesting: usize,
}

impl Parser {
    /// The last of the tokens is the end.
    pub(super) fn new(tokens: Vec<Placed>) -> Self {
        Self { tokens, next: 0, nesting: 0 }
    }

    pub(super) fn step_over(&mut self, n: usize) {
        self.next += n;
    }

    pub(super) fn token(&self) -> &Token {
        &self.tokens[self.next.min(self.tokens.len() - 1)].token
    }

    pub(super) fn ahead(&self, n: usize) -> &Token {
        &self.tokens[(self.next + n).min(self.tokens.len() - 1)].token
    }

    pub(super) fn at(&self) -> usize {
        self.tokens[self.next.min(self.tokens.len() - 1)].at
    }

    pub(super) fn step(&mut self) {
        self.next += 1;
    }

    pub(super) fn is_word(&self, word: &str) -> bool {
        matches!(self.token(), Token::Word(w) if w.eq_ignore_ascii_case(word))
    }

    pub(super) fn is_word_ahead(&self, n: usize, word: &str) -> bool {
        matches!(self.ahead(n), Token::Word(w) if w.eq_ignore_ascii_case(word))
    }

    pub(super) fn word(&mut self, word: &str) -> bool {
        let found = self.is_word(word);
        self.next += usize::from(found);
        found
    }

    pub(super) fn symbol(&mut self, symbol: &str) -> bool {
        let found = matches!(self.token(), Token::Symbol(s) if *s == symbol);
        self.next += usize::from(found);
        found
    }

    /// A fault at the next token that says what was found there.
    pub(super) fn expected(&self, what: &str) -> Fault {
        let found = match self.token() {
            Token::Word(word) => format!("found `{word}`"),
            Token::Quoted(name) => format!("found \"{name}\""),
            Token::Number(digits) => format!("found `{digits}`"),
            Token::Text(_) => "found a text".to_owned(),
            Token::Symbol(symbol) => format!("found `{symbol}`"),
            Token::End => "the query ends".to_owned(),
        };
        Fault::new(self.at(), format!("expected {what}, {found}"))
    }

    pub(super) fn need(&mut self, symbol: &str) -> Result<(), Fault> {
        if self.symbol(symbol) { Ok(()) } else { Err(self.expected(&format!("`{symbol}`"))) }
    }

    pub(super) fn need_word(&mut self, word: &str) -> Result<(), Fault> {
        if self.word(word) { Ok(()) } else { Err(self.expected(&format!("`{}`", word.to_uppercase()))) }
    }

    pub(super) fn number(&mut self) -> Result<u32, Fault> {
        let found = if let Token::Number(digits) = self.token() { digits.parse().ok() } else { None };
        let number = found.ok_or_else(|| self.expected("a number"))?;
        self.step();
        Ok(number)
    }

    pub(super) fn next_is_text(&self, n: usize) -> bool {
        matches!(self.ahead(n), Token::Text(_))
    }

    pub(super) fn next_opens(&self) -> bool {
        matches!(self.ahead(1), Token::Symbol("("))
    }

    pub(super) fn next_closes(&self) -> bool {
        matches!(self.ahead(1), Token::Symbol("]"))
    }

    pub(super) fn is_varying(&self) -> bool {
        self.is_word_ahead(1, "varying")
    }

    pub(super) fn save(&self) -> usize {
        self.next
    }

    pub(super) fn restore(&mut self, next: usize) {
        self.next = next;
    }
}
