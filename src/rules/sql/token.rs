//! The words, literals and operators of a query, each with where it begins.
//!
//! Comments (`--` to the end of the line, `/* */` nested) are white space. Operators are the longest that are known, so
//! that `a<-1` is a comparison with -1 as in PostgreSQL.

use super::Fault;

#[derive(Clone, Debug, PartialEq)]
pub enum Token {
    /// A keyword or a name, as it is written.
    Word(String),
    /// A name in double quotes.
    Quoted(String),
    Number(String),
    /// What stands between single quotes.
    Text(String),
    Symbol(&'static str),
    End,
}

#[derive(Clone, Debug)]
pub struct Placed {
    pub token: Token,
    /// The byte at which it begins.
    pub at: usize,
}

/// Longer ones first, so that the first that fits is the longest.
const SYMBOLS: [&str; 34] = [
    "#>>", "->>", "!~~*", "!~*", "!~~", "~~*", "#>", "->", "||", "::", "<=", ">=", "<>", "!=", "!~", "~*", "~~", "@>",
    "(", ")", "[", "]", ",", ".", "+", "-", "*", "/", "%", "^", "<", ">", "=", "~",
];

/// Splits a query; the last token is [`Token::End`].
pub fn tokens(text: &str) -> Result<Vec<Placed>, Fault> {
    let mut lexer = Lexer { text, at: 0 };
    let mut found = Vec::new();
    loop {
        lexer.space()?;
        let at = lexer.at;
        let token = lexer.next()?;
        let end = token == Token::End;
        found.push(Placed { token, at });
        if end {
            return Ok(found);
        }
    }
}

struct Lexer<'t> {
    text: &'t str,
    at: usize,
}

impl Lexer<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn take(&mut self, wanted: impl Fn(char) -> bool) -> String {
        let rest = self.rest();
        let taken = rest[..rest.find(|c| !wanted(c)).unwrap_or(rest.len())].to_owned();
        self.at += taken.len();
        taken
    }

    fn space(&mut self) -> Result<(), Fault> {
        loop {
            self.take(char::is_whitespace);
            if self.rest().starts_with("--") {
                self.take(|c| c != '\n');
            } else if self.rest().starts_with("/*") {
                self.comment()?;
            } else {
                return Ok(());
            }
        }
    }

    fn comment(&mut self) -> Result<(), Fault> {
        let start = self.at;
        let mut depth = 0;
        loop {
            if self.rest().starts_with("/*") {
                depth += 1;
                self.at += 2;
            } else if self.rest().starts_with("*/") {
                depth -= 1;
                self.at += 2;
                if depth == 0 {
                    return Ok(());
                }
            } else if let Some(c) = self.rest().chars().next() {
                self.at += c.len_utf8();
            } else {
                return Err(Fault::new(start, "a comment without its `*/`"));
            }
        }
    }

    fn next(&mut self) -> Result<Token, Fault> {
        let at = self.at;
        let mut chars = self.rest().chars();
        let Some(first) = chars.next() else {
            return Ok(Token::End);
        };
        let second = chars.next();
        if first == '\'' {
            return self.quoted('\'').map(Token::Text);
        }
        if first == '"' {
            let name = self.quoted('"')?;
            return if name.is_empty() {
                Err(Fault::new(at, "a name without letters"))
            } else {
                Ok(Token::Quoted(name))
            };
        }
        if matches!(first, 'e' | 'E') && second == Some('\'') {
            self.at += 1;
            return self.escaped().map(Token::Text);
        }
        if first.is_ascii_digit() || (first == '.' && second.is_some_and(|c| c.is_ascii_digit())) {
            return self.number();
        }
        if first.is_alphabetic() || first == '_' {
            return Ok(Token::Word(self.take(|c| c.is_alphanumeric() || c == '_' || c == '$')));
        }
        let symbol = SYMBOLS.iter().find(|symbol| self.rest().starts_with(**symbol));
        let unknown = || Fault::new(at, format!("`{first}` has no meaning here"));
        let symbol = symbol.ok_or_else(|| match first {
            ';' => Fault::new(at, "a rule is one query").hint("leave the `;` out"),
            '$' => Fault::new(at, "there are no parameters").hint("write the value, text in single quotes"),
            _ => unknown(),
        })?;
        self.at += symbol.len();
        Ok(Token::Symbol(symbol))
    }

    /// Up to the next `quote` that is not doubled.
    fn quoted(&mut self, quote: char) -> Result<String, Fault> {
        let start = self.at;
        let mut inside = String::new();
        self.at += 1;
        loop {
            inside.push_str(&self.take(|c| c != quote));
            if self.rest().is_empty() {
                return Err(Fault::new(start, format!("`{quote}` without the one that closes it")));
            }
            self.at += 1;
            if !self.rest().starts_with(quote) {
                return Ok(inside);
            }
            inside.push(quote);
            self.at += 1;
        }
    }

    /// `E'...'`: a backslash escapes.
    fn escaped(&mut self) -> Result<String, Fault> {
        let start = self.at;
        let mut inside = String::new();
        self.at += 1;
        while let Some(c) = self.rest().chars().next() {
            self.at += c.len_utf8();
            if c == '\'' {
                if !self.rest().starts_with('\'') {
                    return Ok(inside);
                }
                self.at += 1;
            }
            if c != '\\' {
                inside.push(c);
                continue;
            }
            let Some(escape) = self.rest().chars().next() else {
                break;
            };
            self.at += escape.len_utf8();
            inside.push(match escape {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                'b' => '\u{8}',
                'f' => '\u{c}',
                'u' => self.code_point(4)?,
                'U' => self.code_point(8)?,
                '0'..='7' | 'x' => {
                    return Err(Fault::new(self.at - 2, "write `\\u` and four hexadecimal digits"));
                }
                other => other,
            });
        }
        Err(Fault::new(start, "`'` without the one that closes it"))
    }

    fn code_point(&mut self, digits: usize) -> Result<char, Fault> {
        let at = self.at;
        let code = self.rest().get(..digits).and_then(|hex| u32::from_str_radix(hex, 16).ok());
        self.at += digits.min(self.rest().len());
        code.and_then(char::from_u32).filter(|c| *c != '\0').ok_or_else(|| Fault::new(at, "this is no character"))
    }

    fn number(&mut self) -> Result<Token, Fault> {
        let at = self.at;
        let mut text = self.take(|c| c.is_ascii_digit());
        if self.rest().starts_with('.') {
            self.at += 1;
            text.push('.');
            text.push_str(&self.take(|c| c.is_ascii_digit()));
        }
        let mut after = self.rest().chars().skip(1);
        let signed = matches!(after.next(), Some('+' | '-')) && after.next().is_some_and(|c| c.is_ascii_digit());
        let plain = self.rest().chars().nth(1).is_some_and(|c| c.is_ascii_digit());
        if self.rest().starts_with(['e', 'E']) && (signed || plain) {
            let sign = self.rest()[..1 + usize::from(signed)].to_owned();
            self.at += sign.len();
            text.push_str(&sign);
            text.push_str(&self.take(|c| c.is_ascii_digit()));
        }
        if self.rest().starts_with(|c: char| c.is_alphanumeric() || c == '_') {
            return Err(Fault::new(at, format!("`{text}` runs into what follows")));
        }
        Ok(Token::Number(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> Vec<Token> {
        tokens(text).unwrap().into_iter().map(|placed| placed.token).collect()
    }

    #[test]
    fn the_longest_operator_wins_and_comments_are_space() {
        let symbols = all("a->>'x' <-- less\n-1/* /* */ */<>2");
        assert_eq!(
            symbols,
            [
                Token::Word("a".into()),
                Token::Symbol("->>"),
                Token::Text("x".into()),
                Token::Symbol("<"),
                Token::Symbol("-"),
                Token::Number("1".into()),
                Token::Symbol("<>"),
                Token::Number("2".into()),
                Token::End
            ]
        );
    }

    #[test]
    fn quotes_are_doubled_and_escapes_need_an_e() {
        assert_eq!(all(r"'it''s' '\n'")[..2], [Token::Text("it's".into()), Token::Text(r"\n".into())]);
        assert_eq!(all(r"E'\n\'\u00e9'")[0], Token::Text("\n'é".into()));
        assert_eq!(all("\"a \"\"b\"")[0], Token::Quoted("a \"b".into()));
    }

    #[test]
    fn what_is_left_open_is_named_where_it_opens() {
        for (text, at) in [("a 'b", 2), ("a \"b", 2), ("a /* b", 2), ("1x", 0), ("a;", 1), ("E'\\", 1), ("a ?", 2)] {
            assert_eq!(tokens(text).unwrap_err().at, at, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_split_or_refused(text in "\\PC{0,40}") {
            let _ = tokens(&text);
        }
    }
}
