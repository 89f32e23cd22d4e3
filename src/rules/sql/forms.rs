//! What PostgreSQL spells in a way of its own: `CASE`, `CAST`, `EXTRACT`, `TRIM`, `INTERVAL '...'` and the names of types.

use super::Fault;
use super::ast::{Limit, Node, Syntax, Target};
use super::cursor::Parser;
use super::token::Token;
use super::value::Type;

/// What depends on the moment or on chance; a rule must give the same for the same record.
pub const IMPURE: [&str; 14] = [
    "now",
    "current_timestamp",
    "current_date",
    "current_time",
    "localtimestamp",
    "localtime",
    "clock_timestamp",
    "statement_timestamp",
    "transaction_timestamp",
    "timeofday",
    "random",
    "gen_random_uuid",
    "nextval",
    "pg_sleep",
];

pub fn impure(at: usize, name: &str) -> Fault {
    let what = format!("`{name}` is not there: a rule gives the same for the same record, whenever it runs");
    Fault::new(at, what).hint("the record's own times are `_time` and `_admitted`")
}

/// Names of one word, and what they are.
const TYPES: [(&str, Type, Limit); 22] = [
    ("bigint", Type::Int, Limit::None),
    ("int8", Type::Int, Limit::None),
    ("integer", Type::Int, Limit::Bits(32)),
    ("int", Type::Int, Limit::Bits(32)),
    ("int4", Type::Int, Limit::Bits(32)),
    ("smallint", Type::Int, Limit::Bits(16)),
    ("int2", Type::Int, Limit::Bits(16)),
    ("numeric", Type::Numeric, Limit::None),
    ("decimal", Type::Numeric, Limit::None),
    ("float8", Type::Float, Limit::None),
    ("float", Type::Float, Limit::None),
    ("double", Type::Float, Limit::None),
    ("text", Type::Text, Limit::None),
    ("varchar", Type::Text, Limit::None),
    ("boolean", Type::Bool, Limit::None),
    ("bool", Type::Bool, Limit::None),
    ("jsonb", Type::Json, Limit::None),
    ("json", Type::Json, Limit::None),
    ("date", Type::Date, Limit::None),
    ("timestamp", Type::Timestamp, Limit::None),
    ("timestamptz", Type::Timestamptz, Limit::None),
    ("interval", Type::Interval, Limit::None),
];

impl Parser {
    /// A form of its own that begins at the next token.
    pub(super) fn special(&mut self) -> Result<Option<Node>, Fault> {
        let at = self.at();
        let Token::Word(word) = self.token() else {
            return Ok(None);
        };
        let word = word.to_ascii_lowercase();
        let opens = self.next_opens();
        if IMPURE.contains(&word.as_str()) && (opens || word.contains('_') || word.starts_with("local")) {
            return Err(impure(at, &word));
        }
        match word.as_str() {
            "case" => self.case().map(Some),
            "array" => Err(Fault::new(at, "arrays are not in this version")),
            "exists" if opens => Err(Fault::new(at, "a query within a query is not in this version")),
            "cast" if opens => {
                self.step();
                self.step();
                let of = self.expression(0)?;
                self.need_word("as")?;
                let target = self.target()?;
                self.need(")")?;
                self.make(at, Syntax::Cast(Box::new(of), target)).map(Some)
            }
            "extract" | "substring" | "position" | "trim" if opens => {
                self.step();
                self.step();
                let made = match word.as_str() {
                    "extract" => self.extract(at),
                    "substring" => self.substring(at),
                    "position" => self.position(at),
                    _ => self.trim(at),
                }?;
                self.need(")")?;
                Ok(Some(made))
            }
            _ => self.typed_text(&word),
        }
    }

    /// `DATE '...'`, `INTERVAL '5' MINUTE`, `TIMESTAMP WITH TIME ZONE '...'`.
    fn typed_text(&mut self, word: &str) -> Result<Option<Node>, Fault> {
        let at = self.at();
        let long = word == "timestamp" && (1..=4).any(|n| self.next_is_text(n));
        let double = word == "double" && self.next_is_text(2);
        if !TYPES.iter().any(|(name, ..)| *name == word) || !(self.next_is_text(1) || long || double) {
            return Ok(None);
        }
        let start = self.save();
        let target = self.target()?;
        let Token::Text(mut text) = self.token().clone() else {
            self.restore(start);
            return Ok(None);
        };
        self.step();
        if target.to == Type::Interval {
            let units = ["year", "month", "day", "hour", "minute", "second"];
            if let Some(unit) = units.into_iter().find(|unit| self.is_word(unit)) {
                self.step();
                text = format!("{text} {unit}");
            }
        }
        let of = self.make(at, Syntax::Text(text))?;
        self.make(at, Syntax::Cast(Box::new(of), target)).map(Some)
    }

    fn case(&mut self) -> Result<Node, Fault> {
        let at = self.at();
        self.step();
        let of = if self.is_word("when") { None } else { Some(Box::new(self.expression(0)?)) };
        let mut arms = Vec::new();
        while self.word("when") {
            let when = self.expression(0)?;
            self.need_word("then")?;
            arms.push((when, self.expression(0)?));
            self.check_list(arms.len())?;
        }
        if arms.is_empty() {
            return Err(self.expected("`WHEN`"));
        }
        let default = if self.word("else") { Some(Box::new(self.expression(0)?)) } else { None };
        self.need_word("end")?;
        self.make(at, Syntax::Case { of, arms, default })
    }

    fn extract(&mut self, at: usize) -> Result<Node, Fault> {
        let field_at = self.at();
        let field = match self.token() {
            Token::Word(word) => word.to_ascii_lowercase(),
            Token::Text(text) => text.to_ascii_lowercase(),
            _ => return Err(self.expected("a part of a time, such as `hour`")),
        };
        self.step();
        self.need_word("from")?;
        let field = self.make(field_at, Syntax::Text(field))?;
        let of = self.expression(0)?;
        self.make(at, Syntax::Call("extract".into(), vec![field, of]))
    }

    /// `substring(s FROM 2 FOR 3)`, `substring(s FROM 'pattern')`, `substring(s, 2, 3)`.
    fn substring(&mut self, at: usize) -> Result<Node, Fault> {
        let mut arguments = vec![self.expression(0)?];
        if self.word("from") {
            arguments.push(self.expression(0)?);
            if self.word("for") {
                arguments.push(self.expression(0)?);
            }
        } else if self.word("for") {
            let one = self.make(at, Syntax::Number("1".into()))?;
            arguments.push(one);
            arguments.push(self.expression(0)?);
        } else {
            while self.symbol(",") {
                arguments.push(self.expression(0)?);
                self.check_list(arguments.len())?;
            }
        }
        self.make(at, Syntax::Call("substring".into(), arguments))
    }

    fn position(&mut self, at: usize) -> Result<Node, Fault> {
        // Not a whole expression: `IN` is what separates the two.
        let needle = self.expression(super::parse::OPERAND)?;
        self.need_word("in")?;
        let text = self.expression(super::parse::OPERAND)?;
        self.make(at, Syntax::Call("strpos".into(), vec![text, needle]))
    }

    /// `trim(BOTH 'x' FROM s)`, `trim(s)`, `trim(LEADING FROM s)`.
    fn trim(&mut self, at: usize) -> Result<Node, Fault> {
        let name = if self.word("leading") {
            "ltrim"
        } else if self.word("trailing") {
            "rtrim"
        } else {
            self.word("both");
            "btrim"
        };
        let mut arguments = Vec::new();
        if self.word("from") {
            arguments.push(self.expression(0)?);
        } else {
            let first = self.expression(0)?;
            if self.word("from") {
                arguments.push(self.expression(0)?);
            }
            arguments.push(first);
        }
        if self.symbol(",") {
            arguments.push(self.expression(0)?);
        }
        self.make(at, Syntax::Call(name.into(), arguments))
    }

    /// The name of a type.
    pub(super) fn target(&mut self) -> Result<Target, Fault> {
        let at = self.at();
        let Token::Word(word) = self.token() else {
            return Err(self.expected("a type"));
        };
        let word = match word.to_ascii_lowercase() {
            word if word == "character" && self.is_varying() => {
                self.step();
                "varchar".to_owned()
            }
            word => word,
        };
        self.step();
        let known = TYPES.iter().find(|(name, ..)| *name == word);
        let &(name, to, limit) = known.ok_or_else(|| unknown_type(at, &word))?;
        let mut target = Target { to, limit };
        match name {
            "double" => self.need_word("precision")?,
            "timestamp" => {
                self.no_precision()?;
                let with = self.word("with");
                if with || self.word("without") {
                    self.need_word("time")?;
                    self.need_word("zone")?;
                }
                if with {
                    target.to = Type::Timestamptz;
                }
            }
            "timestamptz" | "interval" | "float" => self.no_precision()?,
            "varchar" if self.symbol("(") => {
                target.limit = Limit::Chars(self.number()? as usize);
                self.need(")")?;
            }
            "numeric" | "decimal" if self.symbol("(") => {
                let digits = self.number()?;
                let scale = if self.symbol(",") { self.number()? } else { 0 };
                self.need(")")?;
                if digits == 0 || digits > super::decimal::MAX_DIGITS || scale > digits {
                    let most = super::decimal::MAX_DIGITS;
                    return Err(Fault::new(
                        at,
                        format!("numeric takes 1 to {most} digits, of them any after the point"),
                    ));
                }
                target.limit = Limit::Digits(digits, scale);
            }
            _ => {}
        }
        if matches!(self.token(), Token::Symbol("[")) && self.next_closes() {
            return Err(Fault::new(at, "arrays are not in this version"));
        }
        Ok(target)
    }

    fn no_precision(&self) -> Result<(), Fault> {
        if matches!(self.token(), Token::Symbol("(")) {
            return Err(Fault::new(self.at(), "a precision of this type is not in this version"));
        }
        Ok(())
    }
}

fn unknown_type(at: usize, word: &str) -> Fault {
    let fault = Fault::new(at, format!("the type `{word}` is not in this version"));
    match word {
        "real" | "float4" => fault.hint("use `double precision`"),
        "char" | "character" | "bpchar" => fault.hint("use `text`"),
        "time" | "timetz" | "bytea" | "uuid" | "inet" => fault,
        _ => match crate::name::nearest(word, TYPES.iter().map(|(name, ..)| *name)) {
            Some(name) => Fault::new(at, format!("`{word}` is no type")).hint(format!("did you mean `{name}`?")),
            None => Fault::new(at, format!("`{word}` is no type")),
        },
    }
}
