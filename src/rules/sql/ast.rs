//! What a query says, before names and types are looked up: our own tree, each node with where it stands.

use super::value::Type;

/// Where rows come from and what becomes of them. Grouped queries will add what groups them here.
#[derive(Debug)]
pub struct Select {
    pub from: String,
    /// The name that may stand before a field's: the alias, else the topic.
    pub table: String,
    pub items: Vec<Item>,
    pub condition: Option<Node>,
}

#[derive(Debug)]
pub enum Item {
    /// `*`
    All(usize),
    Node(Node, Option<String>),
}

#[derive(Debug)]
pub struct Node {
    /// The byte at which it (or its operator) begins.
    pub at: usize,
    pub syntax: Syntax,
    /// Nodes from here to the deepest leaf.
    pub depth: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Name {
    pub text: String,
    pub quoted: bool,
}

/// A type that something is cast to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    pub to: Type,
    pub limit: Limit,
}

/// What a type allows beyond its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    None,
    /// Of an integer.
    Bits(u32),
    /// Of a numeric: digits in all, and after the point.
    Digits(u32, u32),
    /// Of a text: longer ones are cut.
    Chars(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    Add,
    Sub,
    Mul,
    Div,
    Rem,
    Power,
    Concat,
    Equal,
    NotEqual,
    Less,
    AtMost,
    Greater,
    AtLeast,
    Arrow,
    ArrowText,
    Path,
    PathText,
}

impl Operator {
    pub fn is_comparison(self) -> bool {
        use Operator::{AtLeast, AtMost, Equal, Greater, Less, NotEqual};
        matches!(self, Equal | NotEqual | Less | AtMost | Greater | AtLeast)
    }

    pub fn symbol(self) -> &'static str {
        match self {
            Operator::Add => "+",
            Operator::Sub => "-",
            Operator::Mul => "*",
            Operator::Div => "/",
            Operator::Rem => "%",
            Operator::Power => "^",
            Operator::Concat => "||",
            Operator::Equal => "=",
            Operator::NotEqual => "<>",
            Operator::Less => "<",
            Operator::AtMost => "<=",
            Operator::Greater => ">",
            Operator::AtLeast => ">=",
            Operator::Arrow => "->",
            Operator::ArrowText => "->>",
            Operator::Path => "#>",
            Operator::PathText => "#>>",
        }
    }
}

/// What a value can be asked with `IS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Is {
    Null,
    True,
    False,
    Unknown,
}

#[derive(Debug)]
pub enum Syntax {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    /// A field: names with dots between them.
    Field(Vec<Name>),
    Call(String, Vec<Node>),
    Negate(Box<Node>),
    Not(Box<Node>),
    And(Vec<Node>),
    Or(Vec<Node>),
    Binary(Operator, Box<[Node; 2]>),
    /// `a BETWEEN b AND c`; symmetric when b and c may come either way round.
    Between {
        of: Box<[Node; 3]>,
        symmetric: bool,
    },
    In(Box<Node>, Vec<Node>),
    /// Text, pattern and the escape if one is named.
    Like {
        of: Box<[Node; 2]>,
        escape: Option<Box<Node>>,
        fold: bool,
    },
    /// A regular expression.
    Matches {
        of: Box<[Node; 2]>,
        fold: bool,
    },
    Is(Box<Node>, Is),
    Distinct(Box<[Node; 2]>),
    Case {
        of: Option<Box<Node>>,
        arms: Vec<(Node, Node)>,
        default: Option<Box<Node>>,
    },
    Cast(Box<Node>, Target),
    Subscript(Box<[Node; 2]>),
}
