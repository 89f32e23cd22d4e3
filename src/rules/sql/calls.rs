//! The check of operators, functions and patterns: which one is meant, and whether it takes what it is given.

use regex::bytes::{Regex, RegexBuilder};

use super::Fault;
use super::ast::{Node, Operator, Syntax};
use super::check::{Checker, Typed, common, field_as_time, is_arithmetic, no_operator};
use super::forms::{IMPURE, impure};
use super::functions::{AGGREGATES, Class, Function, SPECIAL, Signature};
use super::like::Like;
use super::parse::aggregate;
use super::plan::{Expr, PatternUse};
use super::times::{Part, Unit};
use super::value::{Type, Value};
use super::zone::Zone;
use crate::name::nearest;

/// What one compiled expression, and its lazily built automaton, may take.
const PATTERN_BYTES: usize = 256 * 1024;

fn regex(at: usize, pattern: &str, fold: bool) -> Result<Box<Regex>, Fault> {
    // The classes of POSIX are those of all letters, as they are for PostgreSQL.
    const CLASSES: [(&str, &str); 4] =
        [("[:alpha:]", r"\p{L}"), ("[:alnum:]", r"\p{L}\p{Nd}"), ("[:upper:]", r"\p{Lu}"), ("[:lower:]", r"\p{Ll}")];
    let spelled = CLASSES.iter().fold(pattern.to_owned(), |text, (posix, ours)| text.replace(posix, ours));
    let mut builder = RegexBuilder::new(&spelled);
    builder.size_limit(PATTERN_BYTES).dfa_size_limit(PATTERN_BYTES).dot_matches_new_line(true).case_insensitive(fold);
    let wrong = |e: regex::Error| {
        let words = e.to_string();
        let last = words.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
        Fault::new(at, format!("the regular expression `{pattern}` cannot be used: {last}"))
    };
    builder.build().map(Box::new).map_err(wrong)
}

impl Checker<'_> {
    /// Wraps an argument so that it has the class: cast now if it is a constant, asked at each record if it is a field.
    pub(super) fn argument(
        &mut self,
        typed: Typed,
        class: Class,
        user: &'static str,
        at: usize,
    ) -> Result<Expr, Fault> {
        let (expr, from) = typed;
        if class == Class::Json
            && let Expr::Column(slot) = expr
        {
            return Ok(Expr::Raw(slot));
        }
        if matches!(class, Class::Moment | Class::Interval) && matches!(expr, Expr::Column(_)) {
            let of = if class == Class::Interval { Type::Interval } else { Type::Timestamp };
            return Err(field_as_time(at, of));
        }
        let Some(to) = class.takes(from) else {
            let fault = Fault::new(at, format!("`{user}` takes {}, this is {}", class.name(), from.name()));
            return Err(match class {
                Class::Text => fault.hint("CAST(... AS text) makes a text of anything"),
                _ if from == Type::Text => fault.hint("CAST(... AS numeric) reads a number from a text"),
                _ => fault,
            });
        };
        match from {
            Type::Unknown => self.cast_constant(expr, to, at),
            Type::Any if class != Class::Anything => Ok(Expr::Need(class, user, Box::new(expr))),
            _ if from == to => Ok(expr),
            _ => self.cast_constant(expr, to, at),
        }
    }

    pub(super) fn call(&mut self, at: usize, name: &str, nodes: &[Node]) -> Result<Typed, Fault> {
        match name {
            "coalesce" => return self.choice(at, Function::Coalesce, nodes),
            "nullif" => return self.choice(at, Function::NullIf, nodes),
            "greatest" => return self.choice(at, Function::Greatest, nodes),
            "least" => return self.choice(at, Function::Least, nodes),
            "extract" | "date_part" | "date_trunc" => return self.time_part(at, name, nodes),
            "timezone" => return self.at_zone(at, nodes),
            "mod" if nodes.len() == 2 => {
                return self.binary(at, Operator::Rem, &nodes[0], &nodes[1]);
            }
            _ => {}
        }
        if name.starts_with("regexp_") || (name == "substring" && nodes.len() == 2 && is_text(&nodes[1])) {
            return self.pattern_call(at, name, nodes);
        }
        if IMPURE.contains(&name) {
            return Err(impure(at, name));
        }
        if AGGREGATES.contains(&name) {
            return Err(aggregate(at, name));
        }
        if Signature::named(name).next().is_none() {
            return Err(unknown(at, name));
        }
        if matches!(name, "label" | "attribute") {
            return self.of_the_record(at, name, nodes);
        }
        let typed: Vec<Typed> = nodes.iter().map(|node| self.expr(node)).collect::<Result<_, _>>()?;
        let types: Vec<Type> = typed.iter().map(|(_, of)| *of).collect();
        let fits = |signature: &Signature| {
            let takes =
                |(n, of): (usize, &Type)| signature.class(n, types.len()).and_then(|class| class.takes(*of)).is_some();
            signature.takes_count(types.len()) && types.iter().enumerate().all(takes)
        };
        let fitting = Signature::named(name).find(fits);
        let by_count = || Signature::named(name).find(|signature| signature.takes_count(types.len()));
        let Some(signature) = fitting.or_else(by_count) else {
            return Err(Fault::new(at, format!("`{name}` takes another number of arguments than {}", types.len())));
        };
        let mut arguments = Vec::new();
        let mut became = Vec::new();
        for (n, (typed, node)) in typed.into_iter().zip(nodes).enumerate() {
            let class = signature.class(n, types.len()).unwrap_or(Class::Anything);
            became.push(class.takes(typed.1).unwrap_or(Type::Any));
            // Within JSON a field stands as it came.
            let json = matches!(signature.function, Function::JsonObject | Function::JsonArray | Function::ToJson);
            let class = if json && matches!(typed.0, Expr::Column(_)) { Class::Json } else { class };
            arguments.push(self.argument(typed, class, signature.name, node.at)?);
        }
        if signature.function == Function::JsonObject && arguments.len() % 2 == 1 {
            return Err(Fault::new(at, format!("`{name}` takes names and values in turn")));
        }
        Ok((Expr::Call(signature.function, arguments), signature.result(&became)))
    }

    /// `label('kind')`, `attribute('mqtt.1')`.
    fn of_the_record(&mut self, at: usize, name: &str, nodes: &[Node]) -> Result<Typed, Fault> {
        let [node] = nodes else {
            return Err(Fault::new(at, format!("`{name}` takes one name")));
        };
        let text = self.constant_text(node, "the name")?.unwrap_or_default();
        let function = if name == "label" { Function::Label } else { Function::Attribute };
        if function == Function::Label {
            self.labels.push(text.clone());
        }
        Ok((Expr::Call(function, vec![Expr::Const(Value::Text(text.into()))]), Type::Text))
    }

    pub(super) fn binary(&mut self, at: usize, operator: Operator, left: &Node, right: &Node) -> Result<Typed, Fault> {
        if operator.is_comparison() {
            let pair = [self.expr(left)?, self.expr(right)?];
            return self.compared(at, operator, pair, [left.at, right.at]);
        }
        let pair = [self.expr(left)?, self.expr(right)?];
        if is_arithmetic(operator) {
            return self.arithmetic(at, operator, pair);
        }
        if operator == Operator::Concat {
            return self.concatenated(at, pair);
        }
        let [of, key] = pair;
        let of = match of.1 {
            Type::Json | Type::Any | Type::Unknown => self.argument(of, Class::Json, operator.symbol(), left.at)?,
            other => return Err(no_operator(at, operator.symbol(), other, key.1)),
        };
        let class = match (operator, key.1) {
            (Operator::Arrow | Operator::ArrowText, Type::Int | Type::Any) => Class::Anything,
            _ => Class::Text,
        };
        let key = self.argument(key, class, operator.symbol(), right.at)?;
        let (function, gives) = match operator {
            Operator::Arrow => (Function::Arrow, Type::Json),
            Operator::ArrowText => (Function::ArrowText, Type::Text),
            Operator::Path => (Function::Path, Type::Json),
            _ => (Function::PathText, Type::Text),
        };
        Ok((Expr::Call(function, vec![of, key]), gives))
    }

    fn compared(
        &mut self,
        at: usize,
        operator: Operator,
        pair: [Typed; 2],
        places: [usize; 2],
    ) -> Result<Typed, Fault> {
        let types = [pair[0].1, pair[1].1];
        let of = common(&types).map_err(|(left, right)| no_operator(at, operator.symbol(), left, right))?;
        if of == Type::Json {
            return Err(no_operator(at, operator.symbol(), types[0], types[1]));
        }
        for ((expr, _), other) in pair.iter().zip([types[1], types[0]]) {
            if matches!(expr, Expr::Column(_)) && (other.is_time() || other == Type::Interval) {
                return Err(field_as_time(at, other));
            }
        }
        let [left, right] = pair;
        let exprs = [self.widened(left, of, places[0])?, self.widened(right, of, places[1])?];
        Ok((Expr::Compare(operator, Box::new(exprs)), Type::Bool))
    }

    fn arithmetic(&mut self, at: usize, operator: Operator, pair: [Typed; 2]) -> Result<Typed, Fault> {
        let [mut left, mut right] = pair;
        let types = [left.1, right.1];
        for (one, other) in [(&mut left, types[1]), (&mut right, types[0])] {
            // A text without a type takes the other's; beside a time it is an interval.
            let wanted = match other {
                Type::Unknown => {
                    return Err(Fault::new(at, "both are texts").hint("cast one: CAST('...' AS numeric)"));
                }
                Type::Text | Type::Bool | Type::Json | Type::Any => continue,
                Type::Timestamp | Type::Timestamptz if operator == Operator::Add => Type::Interval,
                other => other,
            };
            if one.1 == Type::Unknown {
                let taken = std::mem::replace(&mut one.0, Expr::Const(Value::Null));
                *one = (self.cast_constant(taken, wanted, at)?, wanted);
            }
        }
        let symbol = operator.symbol();
        for (of, other) in [(&left, right.1), (&right, left.1)] {
            if matches!(of.0, Expr::Column(_)) && other.is_time() {
                return Err(field_as_time(at, if operator == Operator::Sub { other } else { Type::Interval }));
            }
        }
        let gives =
            super::compute::gives(operator, left.1, right.1).ok_or_else(|| no_operator(at, symbol, left.1, right.1))?;
        Ok((Expr::Arithmetic(operator, Box::new([left.0, right.0])), gives))
    }

    fn concatenated(&mut self, at: usize, pair: [Typed; 2]) -> Result<Typed, Fault> {
        let text = |of| matches!(of, Type::Text | Type::Unknown | Type::Any);
        let types = [pair[0].1, pair[1].1];
        if !text(types[0]) && !text(types[1]) {
            let fault = no_operator(at, "||", types[0], types[1]);
            return Err(fault.hint("concat(...) takes values of any type; or CAST(... AS text)"));
        }
        let [left, right] = pair.map(|(expr, _)| expr);
        Ok((Expr::Concat(Box::new([left, right])), Type::Text))
    }

    pub(super) fn like(
        &mut self,
        of: &Node,
        pattern: &Node,
        escape: Option<&Node>,
        fold: bool,
    ) -> Result<Typed, Fault> {
        let text = self.text_of(of, "LIKE")?;
        let null = (Expr::Const(Value::Null), Type::Bool);
        let Some(found) = self.constant_text(pattern, "the pattern of LIKE")? else {
            return Ok(null);
        };
        let escape = match escape {
            None => Some('\\'),
            Some(node) => {
                let Some(text) = self.constant_text(node, "ESCAPE")? else {
                    return Ok(null);
                };
                let mut chars = text.chars();
                let escape = chars.next();
                if chars.next().is_some() {
                    return Err(Fault::new(node.at, "ESCAPE takes one character, or none"));
                }
                escape
            }
        };
        let wrong = || Fault::new(pattern.at, "the pattern ends with its escape");
        let like = Like::new(&found, escape, fold).ok_or_else(wrong)?;
        Ok((Expr::Like(Box::new(text), Box::new(like)), Type::Bool))
    }

    pub(super) fn matches(&mut self, of: &Node, pattern: &Node, fold: bool) -> Result<Typed, Fault> {
        let text = self.text_of(of, "~")?;
        match self.constant_text(pattern, "a regular expression")? {
            Some(found) => Ok((Expr::Matches(Box::new(text), regex(pattern.at, &found, fold)?), Type::Bool)),
            None => Ok((Expr::Const(Value::Null), Type::Bool)),
        }
    }

    /// `regexp_...(text, pattern, ...)` and `substring(text FROM pattern)`.
    fn pattern_call(&mut self, at: usize, name: &str, nodes: &[Node]) -> Result<Typed, Fault> {
        let (most, replaces) = match name {
            "regexp_replace" => (4, true),
            "regexp_match" | "regexp_like" => (3, false),
            "regexp_substr" | "regexp_count" | "substring" => (2, false),
            _ => return Err(unknown(at, name)),
        };
        if nodes.len() > most || nodes.len() < 2 + usize::from(replaces) {
            return Err(Fault::new(at, format!("`{name}` takes another number of arguments than {}", nodes.len())));
        }
        let text = self.text_of(&nodes[0], "a regular expression")?;
        let flags = match nodes.get(2 + usize::from(replaces)) {
            Some(node) => self.constant_text(node, "the flags")?.unwrap_or_default(),
            None => String::new(),
        };
        if let Some(flag) = flags.chars().find(|c| !(*c == 'i' || (*c == 'g' && replaces))) {
            return Err(Fault::new(at, format!("the flag `{flag}` is not in this version")));
        }
        let Some(pattern) = self.constant_text(&nodes[1], "a regular expression")? else {
            return Ok((Expr::Const(Value::Null), Type::Text));
        };
        let regex = regex(nodes[1].at, &pattern, flags.contains('i'))?;
        let (how, of) = match name {
            "regexp_like" => return Ok((Expr::Matches(Box::new(text), regex), Type::Bool)),
            "regexp_replace" => (PatternUse::Replace { all: flags.contains('g') }, Type::Text),
            "regexp_match" => (PatternUse::Groups, Type::Json),
            "regexp_count" => (PatternUse::Count, Type::Int),
            "regexp_substr" => (PatternUse::Group(0), Type::Text),
            _ => (PatternUse::Substring, Type::Text),
        };
        let mut arguments = vec![text];
        if replaces {
            arguments.push(self.text_of(&nodes[2], "regexp_replace")?);
        }
        Ok((Expr::Pattern(regex, how, arguments), of))
    }

    /// `(regexp_match(...))[1]`, `field['name']`, `field[0]`.
    pub(super) fn subscript(&mut self, at: usize, of: &Node, index: &Node) -> Result<Typed, Fault> {
        if let Syntax::Call(name, _) = &of.syntax
            && name == "regexp_match"
        {
            let (expr, _) = self.expr(of)?;
            let (Expr::Const(Value::Int(n)), _) = self.expr(index)? else {
                return Err(Fault::new(index.at, "the number of a group must be a constant"));
            };
            return Ok(match expr {
                Expr::Pattern(regex, _, arguments) => {
                    // Of one without groups, all that matched is the first.
                    let group = if regex.captures_len() == 1 && n == 1 { 0 } else { usize::try_from(n).unwrap_or(0) };
                    let none = n < 1 || group >= regex.captures_len();
                    let null = Expr::Const(Value::Null);
                    (if none { null } else { Expr::Pattern(regex, PatternUse::Group(group), arguments) }, Type::Text)
                }
                // Computed already.
                json => (
                    Expr::Call(Function::ArrowText, vec![json, Expr::Const(Value::Int(n.saturating_sub(1).max(-1)))]),
                    Type::Text,
                ),
            });
        }
        self.binary(at, Operator::Arrow, of, index)
    }

    fn time_part(&mut self, at: usize, name: &str, nodes: &[Node]) -> Result<Typed, Fault> {
        let [part, of] = nodes else {
            return Err(Fault::new(at, format!("`{name}` takes a part and a time")));
        };
        let text = self.constant_text(part, "the part of a time")?.unwrap_or_default().to_ascii_lowercase();
        let (expr, from) = self.expr(of)?;
        if matches!(expr, Expr::Column(_)) {
            return Err(field_as_time(of.at, Type::Timestamptz));
        }
        let timed = from.is_time() || from == Type::Any || (from == Type::Interval && name != "date_trunc");
        if !timed {
            let fault = Fault::new(of.at, format!("`{name}` takes a time, this is {}", from.name()));
            return Err(fault.hint("CAST(... AS timestamptz), or to_timestamp(...) for seconds since 1970"));
        }
        if name == "date_trunc" {
            let unit = Unit::parse(&text).ok_or_else(|| unknown_part(part.at, &text, Unit::names()))?;
            let gives = if from == Type::Date { Type::Timestamptz } else { from };
            let expr = self.widened((expr, from), gives, of.at)?;
            return Ok((Expr::Truncate(unit, Box::new(expr)), gives));
        }
        let found = Part::parse(&text).ok_or_else(|| unknown_part(part.at, &text, Part::names()))?;
        let exact = name == "extract";
        Ok((Expr::Extract(found, exact, Box::new(expr)), if exact { Type::Numeric } else { Type::Float }))
    }

    fn at_zone(&mut self, at: usize, nodes: &[Node]) -> Result<Typed, Fault> {
        let [zone, of] = nodes else {
            return Err(Fault::new(at, "`timezone` takes a zone and a time"));
        };
        let zone_expr = self.expr(zone)?.0;
        let found = match &zone_expr {
            Expr::Const(Value::Text(name)) => Zone::parse(name, self.zones),
            Expr::Const(Value::Interval(offset)) => Zone::of_interval(*offset),
            Expr::Const(Value::Null) => return Ok((Expr::Const(Value::Null), Type::Timestamp)),
            _ => Err("the time zone must be a constant".into()),
        };
        let found = found.map_err(|what| Fault::new(zone.at, what))?;
        let (expr, from) = self.expr(of)?;
        let (from, gives) = match from {
            Type::Timestamp => (from, Type::Timestamptz),
            Type::Timestamptz => (from, Type::Timestamp),
            Type::Date | Type::Unknown => (Type::Timestamptz, Type::Timestamp),
            other => {
                let fault = Fault::new(of.at, format!("`AT TIME ZONE` takes a timestamp, this is {}", other.name()));
                return Err(fault.hint("CAST(... AS timestamptz), or to_timestamp(...) for seconds since 1970"));
            }
        };
        let expr = self.cast_constant(expr, from, of.at)?;
        Ok((Expr::AtZone(found, Box::new(expr)), gives))
    }
}

fn is_text(node: &Node) -> bool {
    matches!(node.syntax, Syntax::Text(_))
}

fn unknown(at: usize, name: &str) -> Fault {
    let fault = Fault::new(at, format!("there is no function `{name}`"));
    let names = Signature::names().chain(SPECIAL);
    match nearest(name, names.filter(|known| !AGGREGATES.contains(known))) {
        Some(near) => fault.hint(format!("did you mean `{near}`?")),
        None => fault,
    }
}

fn unknown_part(at: usize, text: &str, names: impl Iterator<Item = &'static str>) -> Fault {
    let fault = Fault::new(at, format!("`{text}` is no part of a time that is known here"));
    match nearest(text, names) {
        Some(near) => fault.hint(format!("did you mean `{near}`?")),
        None => fault,
    }
}
