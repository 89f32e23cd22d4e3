//! From the tree to the plan: names become slots, functions are found, types are checked, constants are computed.
//!
//! Types are PostgreSQL's, with one more: a field of the record has the type that its JSON spells ([`Type::Any`]), known
//! only with the record. What is known to be wrong is refused here, with its place; what depends on the record fails for
//! that record.

use super::Fault;
use super::ast::{Is, Item, Limit, Name, Node, Operator, Select, Syntax, Target};
use super::cast::cast;
use super::eval::{Row, eval};
use super::functions::Function;
use super::plan::{Expr, Member, Output, Plan, Pseudo};
use super::value::{Type, Value, number_of};
use super::walk::Slots;
use crate::json;
use crate::name::nearest;
use crate::zone::Find;

const PSEUDO: [(&str, Pseudo, Type); 7] = [
    ("_key", Pseudo::Key, Type::Text),
    ("_topic", Pseudo::Topic, Type::Text),
    ("_node", Pseudo::Node, Type::Text),
    ("_source", Pseudo::Source, Type::Text),
    ("_time", Pseudo::Time, Type::Timestamptz),
    ("_admitted", Pseudo::Admitted, Type::Timestamptz),
    ("_value", Pseudo::Value, Type::Json),
];

/// An expression and the type it has.
pub(super) type Typed = (Expr, Type);

pub(super) struct Checker<'f> {
    /// The machine's time zones.
    pub(super) zones: Find<'f>,
    table: String,
    slots: Slots,
    only_before_ring: Option<&'static str>,
    pub(super) labels: Vec<String>,
    /// Above zero within what is evaluated only for some records: there a constant that fails may never be asked for.
    pub(super) guarded: usize,
}

/// Checks and compiles.
pub fn check(select: Select, zones: Find<'_>) -> Result<Plan, Fault> {
    let mut checker = Checker {
        zones,
        table: select.table,
        slots: Slots::default(),
        only_before_ring: None,
        labels: Vec::new(),
        guarded: 0,
    };
    let condition = match &select.condition {
        Some(node) => Some(checker.condition(node, "WHERE")?),
        None => None,
    };
    let for_condition = checker.slots.len();
    let output = checker.output(&select.items)?;
    Ok(Plan {
        from: select.from,
        slots: checker.slots,
        for_condition,
        condition,
        output,
        only_before_ring: checker.only_before_ring,
        labels: checker.labels,
    })
}

pub(super) fn no_operator(at: usize, symbol: &str, left: Type, right: Type) -> Fault {
    let fault = Fault::new(at, format!("there is no `{symbol}` for {} and {}", left.name(), right.name()));
    match (left, right) {
        (Type::Text, other) | (other, Type::Text) => fault
            .hint(format!("cast the text: CAST(... AS {})", if other.is_number() { "numeric" } else { other.name() })),
        (Type::Json, _) | (_, Type::Json) => fault.hint("take the text with `->>` and cast it"),
        _ => fault,
    }
}

fn output_name(syntax: &Syntax) -> Option<String> {
    match syntax {
        Syntax::Field(names) => names.last().map(|name| name.text.clone()),
        Syntax::Call(name, _) => Some(name.clone()),
        Syntax::Cast(of, _) => output_name(&of.syntax),
        Syntax::Case { .. } => Some("case".into()),
        _ => None,
    }
}

impl Checker<'_> {
    fn output(&mut self, items: &[Item]) -> Result<Output, Fault> {
        if let [Item::All(_)] = items {
            return Ok(Output::Same);
        }
        let mut all = false;
        let mut members: Vec<Member> = Vec::new();
        for item in items {
            let (node, name) = match item {
                Item::All(at) if all || !members.is_empty() => {
                    return Err(Fault::new(*at, "`*` stands once, and first"));
                }
                Item::All(_) => {
                    all = true;
                    continue;
                }
                Item::Node(node, name) => (node, name),
            };
            let name = name.clone().or_else(|| output_name(&node.syntax));
            let name = name.ok_or_else(|| Fault::new(node.at, "this has no name").hint("add `AS` and one"))?;
            if members.iter().any(|member| member.name == name) {
                let fault = Fault::new(node.at, format!("two members would be called `{name}`"));
                return Err(fault.hint("give one another name with `AS`"));
            }
            let (expr, _) = self.known(node)?;
            let mut key = Vec::new();
            json::write_string(name.as_bytes(), &mut key);
            key.push(b':');
            members.push(Member { name, key, value: expr });
        }
        Ok(Output::Members { all, members })
    }

    /// An expression that is true, false or NULL.
    pub(super) fn condition(&mut self, node: &Node, place: &'static str) -> Result<Expr, Fault> {
        let (expr, of) = self.expr(node)?;
        match of {
            Type::Bool => Ok(expr),
            Type::Unknown => self.cast_constant(expr, Type::Bool, node.at),
            // Evaluation asks for a boolean.
            Type::Any => Ok(expr),
            other => Err(Fault::new(node.at, format!("`{place}` takes a boolean, this is {}", other.name()))),
        }
    }

    /// An expression whose type is not [`Type::Unknown`]: a text is a text.
    pub(super) fn known(&mut self, node: &Node) -> Result<Typed, Fault> {
        let (expr, of) = self.expr(node)?;
        Ok((expr, if of == Type::Unknown { Type::Text } else { of }))
    }

    pub(super) fn expr(&mut self, node: &Node) -> Result<Typed, Fault> {
        let typed = self.node(node)?;
        self.computed(typed, node.at)
    }

    fn node(&mut self, node: &Node) -> Result<Typed, Fault> {
        let constant = |value: Value<'static>, of| Ok((Expr::Const(value), of));
        match &node.syntax {
            Syntax::Null => constant(Value::Null, Type::Unknown),
            Syntax::Bool(b) => constant(Value::Bool(*b), Type::Bool),
            Syntax::Text(text) => constant(Value::Text(text.clone().into()), Type::Unknown),
            Syntax::Number(digits) => {
                let number = number_of(digits).ok_or_else(|| Fault::new(node.at, "this number is out of range"))?;
                let of = number.type_of();
                constant(number, of)
            }
            Syntax::Field(names) => self.field(node.at, names),
            Syntax::Call(name, arguments) => self.call(node.at, name, arguments),
            Syntax::Negate(of) => self.negate(node.at, of),
            Syntax::Not(of) => Ok((Expr::Not(Box::new(self.condition(of, "NOT")?)), Type::Bool)),
            Syntax::And(terms) => Ok((self.terms(terms, false)?, Type::Bool)),
            Syntax::Or(terms) => Ok((self.terms(terms, true)?, Type::Bool)),
            Syntax::Binary(operator, of) => self.binary(node.at, *operator, &of[0], &of[1]),
            Syntax::Between { of, symmetric } => {
                let all = self.comparable(node.at, "BETWEEN", &of[..])?;
                let [a, b, c] = <[Expr; 3]>::try_from(all).map_err(|_| Fault::new(node.at, "three"))?;
                Ok((Expr::Between { of: Box::new([a, b, c]), symmetric: *symmetric }, Type::Bool))
            }
            Syntax::In(of, list) => self.within(node.at, of, list),
            Syntax::Like { of, escape, fold } => self.like(&of[0], &of[1], escape.as_deref(), *fold),
            Syntax::Matches { of, fold } => self.matches(&of[0], &of[1], *fold),
            Syntax::Is(of, what) => self.is(of, *what),
            Syntax::Distinct(of) => {
                let pair = self.comparable(node.at, "IS DISTINCT FROM", &of[..])?;
                let pair = <[Expr; 2]>::try_from(pair).map_err(|_| Fault::new(node.at, "two"))?;
                Ok((Expr::Distinct(Box::new(pair)), Type::Bool))
            }
            Syntax::Case { of, arms, default } => self.case(node.at, of.as_deref(), arms, default.as_deref()),
            Syntax::Cast(of, target) => self.cast(node.at, of, *target),
            Syntax::Subscript(of) => self.subscript(node.at, &of[0], &of[1]),
        }
    }

    /// `AND`, or `OR` where a true term `decides`; a constant that decides is all of it.
    fn terms(&mut self, terms: &[Node], decides: bool) -> Result<Expr, Fault> {
        let place = if decides { "OR" } else { "AND" };
        let mut exprs = vec![self.condition(&terms[0], place)?];
        self.guarded += 1;
        for term in &terms[1..] {
            exprs.push(self.condition(term, place)?);
        }
        self.guarded -= 1;
        if exprs.iter().any(|expr| matches!(expr, Expr::Const(Value::Bool(b)) if *b == decides)) {
            return Ok(Expr::Const(Value::Bool(decides)));
        }
        Ok(if decides { Expr::Or(exprs) } else { Expr::And(exprs) })
    }

    /// Replaces an expression of constants by what it gives.
    fn computed(&mut self, (expr, of): Typed, at: usize) -> Result<Typed, Fault> {
        if super::eval::is_null(&expr) {
            return Ok((Expr::Const(Value::Null), of));
        }
        if matches!(expr, Expr::Const(_)) || !super::eval::is_constant(&expr) {
            return Ok((expr, of));
        }
        match eval(&expr, &Row::nothing()).map(Value::into_owned) {
            Ok(value) => Ok((Expr::Const(value), of)),
            Err(_) if self.guarded > 0 => Ok((expr, of)),
            Err(e) => Err(Fault::new(at, e.message)),
        }
    }

    fn field(&mut self, at: usize, names: &[Name]) -> Result<Typed, Fault> {
        let names = match names {
            [table, rest @ ..] if !rest.is_empty() && table.text.eq_ignore_ascii_case(&self.table) => rest,
            all => all,
        };
        if let [name] = names
            && !name.quoted
            && name.text.starts_with('_')
        {
            let lower = name.text.to_ascii_lowercase();
            if let Some((known, pseudo, of)) = PSEUDO.iter().find(|(known, ..)| *known == lower) {
                if matches!(pseudo, Pseudo::Source | Pseudo::Admitted) {
                    self.only_before_ring.get_or_insert(known);
                }
                return Ok((Expr::Pseudo(*pseudo), *of));
            }
            if let Some(near) = nearest(&lower, PSEUDO.iter().map(|(known, ..)| *known)) {
                let fault = Fault::new(at, format!("there is no `{lower}`"));
                return Err(fault.hint(format!("did you mean `{near}`? A field of this name stands in double quotes")));
            }
        }
        let slot = self.slots.of(names.iter().map(|name| name.text.clone()).collect());
        Ok((Expr::Column(slot), Type::Any))
    }

    fn negate(&mut self, at: usize, of: &Node) -> Result<Typed, Fault> {
        let (expr, of) = self.expr(of)?;
        match of {
            Type::Int | Type::Numeric | Type::Float | Type::Interval | Type::Any => {
                Ok((Expr::Negate(Box::new(expr)), of))
            }
            Type::Unknown => Ok((Expr::Negate(Box::new(self.cast_constant(expr, Type::Float, at)?)), Type::Float)),
            other => Err(Fault::new(at, format!("there is no `-` for {}", other.name()))),
        }
    }

    fn is(&mut self, of: &Node, what: Is) -> Result<Typed, Fault> {
        let expr = if what == Is::Null { self.expr(of)?.0 } else { self.condition(of, "IS")? };
        Ok((Expr::Is(Box::new(expr), what), Type::Bool))
    }

    /// `ESCAPE`-less patterns and the like: a constant text, NULL as None.
    pub(super) fn constant_text(&mut self, node: &Node, what: &str) -> Result<Option<String>, Fault> {
        match self.expr(node)?.0 {
            Expr::Const(Value::Text(text)) => Ok(Some(text.into_owned())),
            Expr::Const(Value::Null) => Ok(None),
            _ => Err(Fault::new(node.at, format!("{what} must be a constant text"))),
        }
    }

    /// An argument as text.
    pub(super) fn text_of(&mut self, node: &Node, user: &'static str) -> Result<Expr, Fault> {
        let typed = self.expr(node)?;
        self.argument(typed, super::functions::Class::Text, user, node.at)
    }

    /// A constant as another type. What a text spells must be one, also where it may never be asked for.
    pub(super) fn cast_constant(&self, expr: Expr, to: Type, at: usize) -> Result<Expr, Fault> {
        let Expr::Const(value) = expr else {
            return Ok(Expr::Cast(Box::new(expr), Target { to, limit: Limit::None }));
        };
        let target = Target { to, limit: Limit::None };
        match cast(value.borrow(), target).map(Value::into_owned) {
            Ok(cast) => Ok(Expr::Const(cast)),
            Err(_) if self.guarded > 0 && !matches!(value, Value::Text(_)) => {
                Ok(Expr::Cast(Box::new(Expr::Const(value)), target))
            }
            Err(e) => Err(Fault::new(at, e.message)),
        }
    }

    /// Makes an expression one of another type where PostgreSQL does so by itself.
    pub(super) fn widened(&self, (expr, from): Typed, to: Type, at: usize) -> Result<Expr, Fault> {
        if to == Type::Json && from == Type::Any {
            // A field as JSON is what it was.
            return Ok(match expr {
                Expr::Column(slot) => Expr::Raw(slot),
                other => Expr::Call(Function::ToJson, vec![other]),
            });
        }
        if from == Type::Unknown && to != Type::Any {
            return self.cast_constant(expr, to, at);
        }
        if from == to || from == Type::Any || to == Type::Any || from == Type::Unknown {
            return Ok(expr);
        }
        self.cast_constant(expr, to, at)
    }

    /// Expressions that are compared with each other, all of one type as far as it is known.
    pub(super) fn comparable(&mut self, at: usize, what: &str, nodes: &[Node]) -> Result<Vec<Expr>, Fault> {
        let typed: Vec<(Typed, usize)> =
            nodes.iter().map(|n| Ok((self.expr(n)?, n.at))).collect::<Result<_, Fault>>()?;
        let of = common(&typed.iter().map(|((_, of), _)| *of).collect::<Vec<_>>())
            .map_err(|(left, right)| no_operator(at, what, left, right))?;
        if of == Type::Json {
            return Err(Fault::new(at, "JSON is not compared").hint("take the text with `->>`"));
        }
        self.no_field_as_time(&typed, at)?;
        typed.into_iter().map(|(typed, at)| self.widened(typed, of, at)).collect()
    }

    /// Says so when a field is used as a time, which JSON does not have.
    fn no_field_as_time(&self, typed: &[(Typed, usize)], at: usize) -> Result<(), Fault> {
        let timed = typed.iter().find(|((_, of), _)| of.is_time() || *of == Type::Interval);
        let field = typed.iter().any(|((expr, _), _)| matches!(expr, Expr::Column(_)));
        match timed {
            Some(((_, of), _)) if field => Err(field_as_time(at, *of)),
            _ => Ok(()),
        }
    }

    fn within(&mut self, at: usize, of: &Node, list: &[Node]) -> Result<Typed, Fault> {
        let mut typed = vec![(self.expr(of)?, of.at)];
        for node in list {
            typed.push((self.expr(node)?, node.at));
        }
        let shared = common(&typed.iter().map(|((_, of), _)| *of).collect::<Vec<_>>())
            .map_err(|(left, right)| no_operator(at, "IN", left, right))?;
        if shared == Type::Json {
            return Err(Fault::new(at, "JSON is not compared").hint("take the text with `->>`"));
        }
        self.no_field_as_time(&typed, at)?;
        let mut exprs = Vec::new();
        for (typed, at) in typed {
            exprs.push(self.widened(typed, shared, at)?);
        }
        let first = exprs.remove(0);
        // What is the same for every record is the quickest to compare.
        let (mut exprs, others): (Vec<_>, Vec<_>) = exprs.into_iter().partition(|expr| matches!(expr, Expr::Const(_)));
        exprs.extend(others);
        Ok((Expr::In(Box::new(first), exprs), Type::Bool))
    }

    fn case(
        &mut self,
        at: usize,
        of: Option<&Node>,
        arms: &[(Node, Node)],
        default: Option<&Node>,
    ) -> Result<Typed, Fault> {
        let operand = of.map(|node| self.expr(node)).transpose()?;
        self.guarded += 1;
        let (mut whens, mut results) = (Vec::new(), Vec::new());
        for (when, then) in arms {
            let typed = if of.is_some() { self.expr(when)? } else { (self.condition(when, "WHEN")?, Type::Bool) };
            whens.push((typed, when.at));
            results.push((self.expr(then)?, then.at));
        }
        let default = default.map(|node| Ok((self.expr(node)?, node.at))).transpose()?;
        results.push(default.unwrap_or(((Expr::Const(Value::Null), Type::Unknown), at)));
        let types: Vec<Type> = results.iter().map(|((_, of), _)| *of).collect();
        let shared = common(&types).map_err(|(left, right)| mixed(at, "CASE", left, right))?;
        let mut exprs = Vec::new();
        for (typed, at) in results {
            exprs.push(self.widened(typed, shared, at)?);
        }
        self.guarded -= 1;
        let mut operand_expr = None;
        if let Some(typed) = operand {
            let types: Vec<Type> = std::iter::once(typed.1).chain(whens.iter().map(|((_, of), _)| *of)).collect();
            let of = common(&types).map_err(|(left, right)| no_operator(at, "=", left, right))?;
            operand_expr = Some(Box::new(self.widened(typed, of, at)?));
            for ((expr, from), at) in &mut whens {
                let taken = std::mem::replace(expr, Expr::Const(Value::Null));
                *expr = self.widened((taken, *from), of, *at)?;
            }
        }
        let last = exprs.pop().unwrap_or(Expr::Const(Value::Null));
        if matches!(operand_expr.as_deref(), Some(Expr::Const(Value::Null))) {
            return Ok((last, shared));
        }
        let arms = whens.into_iter().map(|((when, _), _)| when).zip(exprs).collect();
        Ok((Expr::Case { of: operand_expr, arms, default: Box::new(last) }, shared))
    }

    fn cast(&mut self, at: usize, of: &Node, target: Target) -> Result<Typed, Fault> {
        let (expr, from) = self.expr(of)?;
        if let (Type::Unknown, Expr::Const(value @ Value::Text(_))) = (from, &expr) {
            let cast = cast(value.borrow(), target).map_err(|e| Fault::new(at, e.message))?;
            return Ok((Expr::Const(cast.into_owned()), target.to));
        }
        if target.to == Type::Json
            && let Expr::Column(slot) = expr
        {
            return Ok((Expr::Raw(slot), Type::Json));
        }
        if !super::cast::is_allowed(from, target.to) {
            return Err(Fault::new(at, format!("{} cannot be cast to {}", from.name(), target.to.name())));
        }
        Ok((Expr::Cast(Box::new(expr), target), target.to))
    }

    /// `COALESCE`, `GREATEST`, `LEAST`, `NULLIF`.
    pub(super) fn choice(&mut self, at: usize, function: Function, nodes: &[Node]) -> Result<Typed, Fault> {
        if nodes.is_empty() || (function == Function::NullIf && nodes.len() != 2) {
            return Err(Fault::new(at, "another number of arguments is needed"));
        }
        let lazy = function == Function::Coalesce;
        let mut typed = vec![(self.expr(&nodes[0])?, nodes[0].at)];
        self.guarded += usize::from(lazy);
        for node in &nodes[1..] {
            typed.push((self.expr(node)?, node.at));
        }
        let types: Vec<Type> = typed.iter().map(|((_, of), _)| *of).collect();
        let of = common(&types).map_err(|(left, right)| mixed(at, "this", left, right))?;
        let result = if function == Function::NullIf && types[0] != Type::Unknown { types[0] } else { of };
        let mut exprs = Vec::new();
        for (n, (typed, at)) in typed.into_iter().enumerate() {
            let to = if function == Function::NullIf && n == 0 { result } else { of };
            exprs.push(self.widened(typed, to, at)?);
        }
        self.guarded -= usize::from(lazy);
        Ok((Expr::Call(function, exprs), result))
    }
}

fn mixed(at: usize, what: &str, left: Type, right: Type) -> Fault {
    let what = format!("{what} would be {} or {}", left.name(), right.name());
    Fault::new(at, what).hint("cast one to the type of the other")
}

pub(super) fn field_as_time(at: usize, of: Type) -> Fault {
    let fault = Fault::new(at, format!("a field is no {}: JSON has only text and numbers", of.name()));
    fault.hint("CAST(field AS timestamptz) for text, to_timestamp(field) for seconds since 1970")
}

/// The type that all become; text if nothing is known. Two that do not come together are the error.
pub(super) fn common(types: &[Type]) -> Result<Type, (Type, Type)> {
    let mut shared = Type::Unknown;
    for &of in types {
        let wider = |order: &[Type]| {
            let place = |of| order.iter().position(|known| *known == of);
            Some(order[place(shared)?.max(place(of)?)])
        };
        shared = match (shared, of) {
            (Type::Unknown, of) => of,
            (known, Type::Unknown) => known,
            (Type::Any, Type::Json) | (Type::Json, Type::Any) => Type::Json,
            (Type::Any, _) | (_, Type::Any) => Type::Any,
            (a, b) if a == b => a,
            (a, b) => wider(&[Type::Int, Type::Numeric, Type::Float])
                .or_else(|| wider(&[Type::Date, Type::Timestamp, Type::Timestamptz]))
                .ok_or((a, b))?,
        };
    }
    Ok(if shared == Type::Unknown { Type::Text } else { shared })
}

pub(super) fn is_arithmetic(operator: Operator) -> bool {
    use Operator::{Add, Div, Mul, Power, Rem, Sub};
    matches!(operator, Add | Sub | Mul | Div | Rem | Power)
}
