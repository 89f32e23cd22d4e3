//! From tokens to the tree: PostgreSQL's `SELECT` for one row at a time, by operator precedence.
//!
//! Our own parser, because of size: a library that knows all of SQL adds some 800 KB to the binary for the twentieth of
//! it that a rule can use, this some tens. Nesting is bounded here ([`MAX_NESTING`]), so that nothing that walks the tree
//! can run out of stack.

use super::Fault;
use super::ast::{Is, Item, Name, Node, Operator, Select, Syntax};
use super::cursor::Parser;
use super::token::{Token, tokens};

/// Nodes below each other; brackets, calls and operators all count.
pub const MAX_NESTING: usize = 64;
/// Expressions that a query may select, and arguments, `IN` values or `CASE` arms of one expression.
pub const MAX_LIST: usize = 256;

// How tightly operators bind, as in PostgreSQL's grammar.
const OR: u8 = 1;
const AND: u8 = 2;
const NOT: u8 = 3;
const IS: u8 = 4;
const COMPARISON: u8 = 5;
const RANGE: u8 = 6;
const OTHER: u8 = 7;
const SUM: u8 = 8;
const PRODUCT: u8 = 9;
const POWER: u8 = 10;
const ZONE: u8 = 11;
const SIGN: u8 = 12;
const POSTFIX: u8 = 13;
/// Everything but comparisons and what is looser.
pub(super) const OPERAND: u8 = OTHER;

/// Words that cannot be a field's name without quotes.
const RESERVED: [&str; 52] = [
    "all",
    "and",
    "any",
    "array",
    "as",
    "asc",
    "between",
    "both",
    "case",
    "cast",
    "collate",
    "cross",
    "desc",
    "distinct",
    "else",
    "end",
    "except",
    "fetch",
    "for",
    "from",
    "full",
    "group",
    "having",
    "ilike",
    "in",
    "inner",
    "intersect",
    "into",
    "is",
    "isnull",
    "join",
    "leading",
    "left",
    "like",
    "limit",
    "natural",
    "not",
    "notnull",
    "offset",
    "on",
    "or",
    "order",
    "right",
    "select",
    "similar",
    "then",
    "trailing",
    "union",
    "using",
    "when",
    "where",
    "window",
];

const LATER: &str = "not in this version";

/// Reads a whole query.
pub fn parse(text: &str) -> Result<Select, Fault> {
    let mut parser = Parser::new(tokens(text)?);
    let select = parser.select()?;
    parser.nothing_more()?;
    Ok(select)
}

fn node(at: usize, syntax: Syntax) -> Result<Node, Fault> {
    let deepest = |nodes: &[Node]| nodes.iter().map(|n| n.depth).max().unwrap_or(0);
    let below = match &syntax {
        Syntax::Null | Syntax::Bool(_) | Syntax::Number(_) | Syntax::Text(_) | Syntax::Field(_) => 0,
        Syntax::Call(_, nodes) | Syntax::And(nodes) | Syntax::Or(nodes) => deepest(nodes),
        Syntax::Negate(of) | Syntax::Not(of) | Syntax::Is(of, _) | Syntax::Cast(of, _) => of.depth,
        Syntax::Binary(_, of) | Syntax::Distinct(of) | Syntax::Subscript(of) | Syntax::Matches { of, .. } => {
            deepest(&of[..])
        }
        Syntax::Between { of, .. } => deepest(&of[..]),
        Syntax::In(of, list) => of.depth.max(deepest(list)),
        Syntax::Like { of, escape, .. } => deepest(&of[..]).max(escape.as_ref().map_or(0, |e| e.depth)),
        Syntax::Case { of, arms, default } => {
            let arms = arms.iter().map(|(when, then)| when.depth.max(then.depth)).max().unwrap_or(0);
            arms.max(of.as_ref().map_or(0, |n| n.depth)).max(default.as_ref().map_or(0, |n| n.depth))
        }
    };
    if below >= MAX_NESTING {
        return Err(too_deep(at));
    }
    Ok(Node { at, syntax, depth: below + 1 })
}

fn too_deep(at: usize) -> Fault {
    Fault::new(at, format!("nested more than {MAX_NESTING} deep"))
}

fn operator(symbol: &str) -> Option<(Operator, u8)> {
    Some(match symbol {
        "+" => (Operator::Add, SUM),
        "-" => (Operator::Sub, SUM),
        "*" => (Operator::Mul, PRODUCT),
        "/" => (Operator::Div, PRODUCT),
        "%" => (Operator::Rem, PRODUCT),
        "^" => (Operator::Power, POWER),
        "||" => (Operator::Concat, OTHER),
        "=" => (Operator::Equal, COMPARISON),
        "<>" | "!=" => (Operator::NotEqual, COMPARISON),
        "<" => (Operator::Less, COMPARISON),
        "<=" => (Operator::AtMost, COMPARISON),
        ">" => (Operator::Greater, COMPARISON),
        ">=" => (Operator::AtLeast, COMPARISON),
        "->" => (Operator::Arrow, OTHER),
        "->>" => (Operator::ArrowText, OTHER),
        "#>" => (Operator::Path, OTHER),
        "#>>" => (Operator::PathText, OTHER),
        _ => return None,
    })
}

impl Parser {
    fn select(&mut self) -> Result<Select, Fault> {
        if self.is_word("with") {
            return Err(Fault::new(self.at(), format!("`WITH` is {LATER}")));
        }
        self.need_word("select")?;
        if self.is_word("distinct") {
            return Err(Fault::new(self.at(), format!("`DISTINCT` is {LATER}: a query sees one record at a time")));
        }
        self.word("all");
        let mut items = Vec::new();
        loop {
            items.push(self.item()?);
            self.check_list(items.len())?;
            if !self.symbol(",") {
                break;
            }
        }
        if !self.is_word("from") {
            return Err(self.expected("`,` or `FROM` and a topic"));
        }
        self.step();
        let from = self.topic()?;
        let table = self.alias()?.unwrap_or_else(|| from.clone());
        let condition = if self.word("where") { Some(self.expression(0)?) } else { None };
        Ok(Select { from, table, items, condition })
    }

    fn item(&mut self) -> Result<Item, Fault> {
        let at = self.at();
        if self.symbol("*") {
            return Ok(Item::All(at));
        }
        // `topic.*`
        if matches!((self.ahead(1), self.ahead(2)), (Token::Symbol("."), Token::Symbol("*"))) {
            self.step_over(3);
            return Ok(Item::All(at));
        }
        let node = self.expression(0)?;
        Ok(Item::Node(node, self.alias()?))
    }

    /// `AS name`, or a name alone. After `AS` any word is one.
    fn alias(&mut self) -> Result<Option<String>, Fault> {
        let named = self.word("as");
        let name = match self.token() {
            Token::Quoted(name) => name.clone(),
            Token::Word(word) if named || !is_reserved(word) => word.clone(),
            _ if named => return Err(self.expected("a name")),
            _ => return Ok(None),
        };
        self.step();
        Ok(Some(name))
    }

    fn topic(&mut self) -> Result<String, Fault> {
        let at = self.at();
        let name = match self.token() {
            Token::Quoted(name) => name.clone(),
            Token::Word(word) if !is_reserved(word) => word.to_ascii_lowercase(),
            Token::Symbol("(") => {
                return Err(Fault::new(at, format!("a query in place of a topic is {LATER}")));
            }
            _ => return Err(self.expected("a topic")),
        };
        self.step();
        if matches!(self.token(), Token::Symbol("-")) {
            let hint = "write a name with hyphens in double quotes: FROM \"pump-1\"";
            return Err(self.expected("the end of the topic's name").hint(hint));
        }
        Ok(name)
    }

    fn nothing_more(&self) -> Result<(), Fault> {
        const CLAUSES: [&str; 13] = [
            "group", "having", "window", "order", "limit", "offset", "fetch", "union", "join", "left", "inner",
            "cross", "for",
        ];
        if matches!(self.token(), Token::End) {
            return Ok(());
        }
        if let Some(clause) = CLAUSES.iter().find(|clause| self.is_word(clause)) {
            let what = format!("`{}` is {LATER}: a query sees one record at a time", clause.to_uppercase());
            return Err(Fault::new(self.at(), what));
        }
        if matches!(self.token(), Token::Symbol(",")) {
            return Err(Fault::new(self.at(), format!("more than one topic is {LATER}")));
        }
        Err(self.expected("`WHERE` or the end of the query"))
    }

    pub(super) fn check_list(&self, len: usize) -> Result<(), Fault> {
        if len > MAX_LIST { Err(Fault::new(self.at(), format!("more than {MAX_LIST} in one list"))) } else { Ok(()) }
    }

    /// An expression of operators that bind at least as tightly as `least`.
    pub(super) fn expression(&mut self, least: u8) -> Result<Node, Fault> {
        if self.nesting >= MAX_NESTING {
            return Err(too_deep(self.at()));
        }
        self.nesting += 1;
        let mut left = self.prefix()?;
        // Comparisons do not stand in a row: `a < b < c` means nothing.
        let mut last = u8::MAX;
        while let Some(level) = self.level().filter(|level| *level >= least) {
            if level == last && matches!(level, COMPARISON | RANGE) {
                return Err(self.expected("`AND`, or brackets around one of the comparisons"));
            }
            left = self.after(left, level)?;
            last = level;
        }
        self.nesting -= 1;
        Ok(left)
    }

    /// How tightly the operator at the next token binds; None when there is none.
    fn level(&self) -> Option<u8> {
        let word = match self.token() {
            Token::Symbol("[" | "::") => return Some(POSTFIX),
            Token::Symbol("~" | "~*" | "!~" | "!~*" | "~~" | "~~*" | "!~~" | "!~~*" | "@>") => {
                return Some(OTHER);
            }
            Token::Symbol(symbol) => return operator(symbol).map(|(_, level)| level),
            Token::Word(word) => word.to_ascii_lowercase(),
            _ => return None,
        };
        Some(match word.as_str() {
            "or" => OR,
            "and" => AND,
            "is" | "isnull" | "notnull" => IS,
            "between" | "in" | "like" | "ilike" | "similar" => RANGE,
            "not" if ["between", "in", "like", "ilike", "similar"].iter().any(|w| self.is_word_ahead(1, w)) => RANGE,
            "at" if self.is_word_ahead(1, "time") => ZONE,
            "collate" => POSTFIX,
            _ => return None,
        })
    }

    /// What the operator at the next token makes of `left`.
    fn after(&mut self, left: Node, level: u8) -> Result<Node, Fault> {
        let at = self.at();
        match level {
            OR | AND => self.logic(left, level),
            IS => self.is(left),
            RANGE => self.range(left),
            ZONE => {
                self.step_over(2);
                self.need_word("zone")?;
                let zone = self.expression(ZONE + 1)?;
                node(at, Syntax::Call("timezone".into(), vec![zone, left]))
            }
            POSTFIX if self.symbol("::") => {
                let target = self.target()?;
                node(at, Syntax::Cast(Box::new(left), target))
            }
            POSTFIX if self.symbol("[") => {
                let index = self.expression(0)?;
                self.need("]")?;
                node(at, Syntax::Subscript(Box::new([left, index])))
            }
            POSTFIX => Err(Fault::new(at, format!("`COLLATE` is {LATER}: text is compared byte by byte"))),
            _ => self.binary(left),
        }
    }

    fn binary(&mut self, left: Node) -> Result<Node, Fault> {
        let at = self.at();
        let Token::Symbol(symbol) = *self.token() else {
            return Err(self.expected("an operator"));
        };
        self.step();
        if let Some((operator, level)) = operator(symbol) {
            let right = self.expression(level + 1)?;
            return node(at, Syntax::Binary(operator, Box::new([left, right])));
        }
        if symbol == "@>" {
            return Err(Fault::new(at, format!("`@>` is {LATER}")));
        }
        let right = self.expression(OTHER + 1)?;
        let (of, fold) = (Box::new([left, right]), symbol.ends_with('*'));
        let found =
            if symbol.contains("~~") { Syntax::Like { of, escape: None, fold } } else { Syntax::Matches { of, fold } };
        negated(node(at, found)?, symbol.starts_with('!'))
    }

    /// `AND` and `OR` take all that stand in a row.
    fn logic(&mut self, left: Node, level: u8) -> Result<Node, Fault> {
        let at = self.at();
        let word = if level == OR { "or" } else { "and" };
        let mut terms = vec![left];
        while self.word(word) {
            terms.push(self.expression(level + 1)?);
            self.check_list(terms.len())?;
        }
        node(at, if level == OR { Syntax::Or(terms) } else { Syntax::And(terms) })
    }

    fn is(&mut self, left: Node) -> Result<Node, Fault> {
        let at = self.at();
        let null = |left| Syntax::Is(Box::new(left), Is::Null);
        if self.word("isnull") {
            return node(at, null(left));
        }
        if self.word("notnull") {
            return negated(node(at, null(left))?, true);
        }
        self.step();
        let not = self.word("not");
        let left = Box::new(left);
        let found = if self.word("null") {
            Syntax::Is(left, Is::Null)
        } else if self.word("true") {
            Syntax::Is(left, Is::True)
        } else if self.word("false") {
            Syntax::Is(left, Is::False)
        } else if self.word("unknown") {
            Syntax::Is(left, Is::Unknown)
        } else if self.word("distinct") {
            self.need_word("from")?;
            let right = self.expression(IS + 1)?;
            Syntax::Distinct(Box::new([*left, right]))
        } else {
            return Err(self.expected("`NULL`, `TRUE`, `FALSE`, `UNKNOWN` or `DISTINCT FROM`"));
        };
        negated(node(at, found)?, not)
    }

    fn range(&mut self, left: Node) -> Result<Node, Fault> {
        let at = self.at();
        let not = self.word("not");
        if self.word("in") {
            let list = self.list()?;
            return negated(node(at, Syntax::In(Box::new(left), list))?, not);
        }
        if self.word("between") {
            let symmetric = self.word("symmetric");
            if !symmetric {
                self.word("asymmetric");
            }
            let low = self.expression(RANGE + 1)?;
            self.need_word("and")?;
            let high = self.expression(RANGE + 1)?;
            return negated(node(at, Syntax::Between { of: Box::new([left, low, high]), symmetric })?, not);
        }
        if self.is_word("similar") {
            let what = format!("`SIMILAR TO` is {LATER}");
            return Err(Fault::new(at, what).hint("use `LIKE`, or `~` with a regular expression"));
        }
        let fold = self.is_word("ilike");
        self.step();
        let pattern = self.expression(RANGE + 1)?;
        let escape = if self.word("escape") { Some(Box::new(self.expression(RANGE + 1)?)) } else { None };
        negated(node(at, Syntax::Like { of: Box::new([left, pattern]), escape, fold })?, not)
    }

    /// Expressions in brackets.
    pub(super) fn list(&mut self) -> Result<Vec<Node>, Fault> {
        self.need("(")?;
        self.no_query()?;
        let mut list = Vec::new();
        loop {
            list.push(self.expression(0)?);
            self.check_list(list.len())?;
            if !self.symbol(",") {
                break;
            }
        }
        self.need(")")?;
        Ok(list)
    }

    pub(super) fn no_query(&self) -> Result<(), Fault> {
        if self.is_word("select") {
            return Err(Fault::new(self.at(), format!("a query within a query is {LATER}")));
        }
        Ok(())
    }

    /// Up to the first operator that stands between two operands.
    fn prefix(&mut self) -> Result<Node, Fault> {
        let at = self.at();
        if self.symbol("-") {
            let of = self.expression(SIGN)?;
            return node(at, Syntax::Negate(Box::new(of)));
        }
        if self.symbol("+") {
            return self.expression(SIGN);
        }
        if self.symbol("(") {
            self.no_query()?;
            let inside = self.expression(0)?;
            self.need(")")?;
            return Ok(inside);
        }
        match self.token().clone() {
            Token::Number(digits) => {
                self.step();
                node(at, Syntax::Number(digits))
            }
            Token::Text(text) => {
                self.step();
                node(at, Syntax::Text(text))
            }
            Token::Quoted(name) => self.field(Name { text: name, quoted: true }),
            Token::Word(word) => self.beginning_with(word),
            _ => Err(self.expected("an expression")),
        }
    }

    fn beginning_with(&mut self, word: String) -> Result<Node, Fault> {
        let at = self.at();
        if self.word("not") {
            let of = self.expression(NOT)?;
            return negated(of, true);
        }
        let constant = match word.to_ascii_lowercase().as_str() {
            "null" => Some(Syntax::Null),
            "true" => Some(Syntax::Bool(true)),
            "false" => Some(Syntax::Bool(false)),
            _ => None,
        };
        if let Some(constant) = constant {
            self.step();
            return node(at, constant);
        }
        if let Some(special) = self.special()? {
            return Ok(special);
        }
        if matches!(self.ahead(1), Token::Symbol("("))
            && (!is_reserved(&word) || matches!(&*word.to_ascii_lowercase(), "left" | "right"))
        {
            self.step();
            return self.call(at, word.to_ascii_lowercase());
        }
        if is_reserved(&word) {
            return Err(self.expected("an expression").hint("write a field of this name in double quotes"));
        }
        self.field(Name { text: word, quoted: false })
    }

    fn call(&mut self, at: usize, name: String) -> Result<Node, Fault> {
        let mut arguments = Vec::new();
        if matches!((self.token(), self.ahead(1)), (Token::Symbol("("), Token::Symbol(")"))) {
            self.step_over(2);
        } else if matches!((self.token(), self.ahead(1)), (Token::Symbol("("), Token::Symbol("*")))
            || self.is_word_ahead(1, "distinct")
        {
            return Err(aggregate(at, &name));
        } else {
            arguments = self.list()?;
        }
        if self.is_word("over") || self.is_word("filter") {
            return Err(aggregate(at, &name));
        }
        node(at, Syntax::Call(name, arguments))
    }

    /// A name and what is reached from it with dots.
    fn field(&mut self, first: Name) -> Result<Node, Fault> {
        let at = self.at();
        self.step();
        let mut names = vec![first];
        while self.symbol(".") {
            let name = match self.token() {
                Token::Quoted(name) => Name { text: name.clone(), quoted: true },
                Token::Word(word) => Name { text: word.clone(), quoted: false },
                _ => return Err(self.expected("a name after the dot")),
            };
            self.step();
            names.push(name);
            self.check_list(names.len())?;
        }
        node(at, Syntax::Field(names))
    }

    pub(super) fn make(&self, at: usize, syntax: Syntax) -> Result<Node, Fault> {
        node(at, syntax)
    }
}

fn negated(of: Node, not: bool) -> Result<Node, Fault> {
    if not { node(of.at, Syntax::Not(Box::new(of))) } else { Ok(of) }
}

fn is_reserved(word: &str) -> bool {
    RESERVED.iter().any(|reserved| word.eq_ignore_ascii_case(reserved))
}

/// What groups of records have, and a single one has not.
pub fn aggregate(at: usize, name: &str) -> Fault {
    let what = format!("`{name}` over many records is {LATER}: a query sees one record at a time");
    Fault::new(at, what)
}
