//! What a query is compiled to: expressions whose names are slots, whose functions are known and whose constants are
//! computed; and what becomes of each record. One pass over a record fills the slots ([`super::walk`]).
//!
//! A grouped query would be another [`Output`]: what it sums is an expression over the same slots.

use regex::bytes::Regex;

use super::ast::{Is, Operator, Target};
use super::functions::{Class, Function};
use super::like::Like;
use super::times::{Part, Unit};
use super::value::Value;
use super::walk::Slots;
use super::zone::Zone;

#[derive(Debug)]
pub struct Plan {
    pub from: String,
    pub slots: Slots,
    /// How many of the slots, from the first, the condition needs.
    pub for_condition: usize,
    pub condition: Option<Expr>,
    pub output: Output,
    /// What it asks for that is known before the ring only.
    pub only_before_ring: Option<&'static str>,
    pub labels: Vec<String>,
}

#[derive(Debug)]
pub enum Output {
    /// `SELECT *`: the record as it is.
    Same,
    /// An object for each record: its own members first where `*` stands, without those of the same name.
    Members { all: bool, members: Vec<Member> },
}

#[derive(Debug)]
pub struct Member {
    pub name: String,
    /// The name as JSON with its colon.
    pub key: Vec<u8>,
    pub value: Expr,
}

/// What a record has beside its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pseudo {
    Key,
    Topic,
    Node,
    Source,
    Time,
    Admitted,
    Value,
}

#[derive(Debug)]
pub enum Expr {
    Const(Value<'static>),
    /// A field as the type that its JSON spells.
    Column(usize),
    /// A field as JSON.
    Raw(usize),
    Pseudo(Pseudo),
    Negate(Box<Expr>),
    Not(Box<Expr>),
    And(Vec<Expr>),
    Or(Vec<Expr>),
    Arithmetic(Operator, Box<[Expr; 2]>),
    Concat(Box<[Expr; 2]>),
    Compare(Operator, Box<[Expr; 2]>),
    Between {
        of: Box<[Expr; 3]>,
        symmetric: bool,
    },
    In(Box<Expr>, Vec<Expr>),
    Like(Box<Expr>, Box<Like>),
    Matches(Box<Expr>, Box<Regex>),
    Is(Box<Expr>, Is),
    Distinct(Box<[Expr; 2]>),
    Case {
        of: Option<Box<Expr>>,
        arms: Vec<(Expr, Expr)>,
        default: Box<Expr>,
    },
    Cast(Box<Expr>, Target),
    /// Passes what is of the class, or says what is not.
    Need(Class, &'static str, Box<Expr>),
    Call(Function, Vec<Expr>),
    /// A function of a regular expression that is a constant.
    Pattern(Box<Regex>, PatternUse, Vec<Expr>),
    Extract(Part, bool, Box<Expr>),
    Truncate(Unit, Box<Expr>),
    AtZone(Zone, Box<Expr>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatternUse {
    /// The first group that matched, else all that matched.
    Substring,
    Replace {
        all: bool,
    },
    /// The groups as an array.
    Groups,
    /// One group, from 1.
    Group(usize),
    Count,
}
