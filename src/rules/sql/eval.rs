//! The plan over one record. Three-valued logic as SQL has it: what is unknown is NULL.
//!
//! Text and JSON stay where they are in the record as long as nothing changes them, so that a condition on fields
//! allocates nothing.

use super::ast::{Is, Limit, Target};
use super::cast::cast;
use super::compute::{arithmetic, compare, holds, negate};
use super::functions::Function;
use super::plan::{Expr, PatternUse, Pseudo};
use super::value::{EvalError, Kind, Result, Type, Value};
use super::walk::Range;
use super::{jsons, math, text, times};
use crate::json::Scanner;
use crate::record::RecordRef;
use crate::template::Context;
use crate::time::WallTime;

/// One record while it is evaluated.
#[derive(Clone, Copy)]
pub struct Row<'a> {
    pub context: Option<&'a Context<'a>>,
    pub record: RecordRef<'a>,
    pub admitted: Option<WallTime>,
    pub places: &'a [Range],
}

impl<'a> Row<'a> {
    /// For constants.
    pub fn nothing() -> Row<'static> {
        Row { context: None, record: RecordRef::default(), admitted: None, places: &[] }
    }

    /// The bytes of a field; None where it is missing.
    pub fn field(&self, slot: usize) -> Option<&'a [u8]> {
        let (start, end) = (*self.places.get(slot)?)?;
        self.record.value.get(start as usize..end as usize)
    }

    fn pseudo(&self, pseudo: Pseudo) -> Result<Value<'a>> {
        let text = |bytes: Option<&'a [u8]>| bytes.map_or(Value::Null, |b| Value::Text(String::from_utf8_lossy(b)));
        let word =
            |of: fn(&'a Context<'a>) -> &'a str| text(self.context.map(|c| of(c).as_bytes()).filter(|b| !b.is_empty()));
        let time = |at: Option<WallTime>| at.map_or(Value::Null, |at| Value::Timestamptz(at.0));
        Ok(match pseudo {
            Pseudo::Key => text(self.record.key),
            Pseudo::Topic => word(|c| c.topic),
            Pseudo::Node => word(|c| c.node),
            Pseudo::Source => word(|c| c.source),
            Pseudo::Time => time(self.record.event_time),
            Pseudo::Admitted => time(self.admitted),
            // Whatever it is put into is JSON only if it is.
            Pseudo::Value => {
                let mut scan = Scanner::new(self.record.value);
                scan.space();
                let whole = scan.value(0)?;
                scan.end()?;
                Value::Json(whole.into())
            }
        })
    }
}

/// Whether an expression is made of constants only. Its operands were computed before it, so one look is enough.
pub fn is_constant(expr: &Expr) -> bool {
    let all = |exprs: &[Expr]| exprs.iter().all(|e| matches!(e, Expr::Const(_)));
    let one = |expr: &Expr| matches!(expr, Expr::Const(_));
    match expr {
        Expr::Const(_) => true,
        Expr::Column(_) | Expr::Raw(_) | Expr::Pseudo(_) => false,
        Expr::Call(Function::Label | Function::Attribute, _) => false,
        Expr::Negate(of) | Expr::Not(of) | Expr::Like(of, _) | Expr::Matches(of, _) | Expr::Is(of, _) => one(of),
        Expr::Cast(of, _) | Expr::Need(_, _, of) | Expr::Extract(_, _, of) | Expr::Truncate(_, of) => one(of),
        Expr::AtZone(_, of) => one(of),
        Expr::And(of) | Expr::Or(of) | Expr::Call(_, of) | Expr::Pattern(_, _, of) => all(of),
        Expr::Arithmetic(_, of) | Expr::Concat(of) | Expr::Compare(_, of) | Expr::Distinct(of) => all(&of[..]),
        Expr::Between { of, .. } => all(&of[..]),
        Expr::In(of, list) => one(of) && all(list),
        Expr::Case { of, arms, default } => {
            of.as_ref().is_none_or(|of| one(of))
                && arms.iter().all(|(when, then)| one(when) && one(then))
                && one(default)
        }
    }
}

/// Whether an operand that is always NULL makes it NULL.
pub fn is_null(expr: &Expr) -> bool {
    let null = |expr: &Expr| matches!(expr, Expr::Const(Value::Null));
    match expr {
        Expr::Arithmetic(_, of) | Expr::Concat(of) | Expr::Compare(_, of) => of.iter().any(null),
        Expr::Call(Function::NullIf, of) => of.first().is_some_and(null),
        Expr::Call(function, of) => !function.takes_null() && of.iter().any(null),
        _ => false,
    }
}

pub fn eval<'a>(expr: &'a Expr, row: &Row<'a>) -> Result<Value<'a>> {
    match expr {
        Expr::Const(value) => Ok(value.borrow()),
        Expr::Column(slot) => row.field(*slot).map_or(Ok(Value::Null), Value::of_json),
        Expr::Raw(slot) => Ok(row.field(*slot).map_or(Value::Null, |raw| Value::Json(raw.into()))),
        Expr::Pseudo(pseudo) => row.pseudo(*pseudo),
        Expr::Negate(of) => negate(eval(of, row)?),
        Expr::Not(_)
        | Expr::And(_)
        | Expr::Or(_)
        | Expr::Compare(..)
        | Expr::Between { .. }
        | Expr::In(..)
        | Expr::Like(..)
        | Expr::Matches(..)
        | Expr::Is(..)
        | Expr::Distinct(_) => Ok(truth(expr, row)?.map_or(Value::Null, Value::Bool)),
        Expr::Arithmetic(operator, of) => {
            let (left, right) = (eval(&of[0], row)?, eval(&of[1], row)?);
            if left.is_null() || right.is_null() {
                return Ok(Value::Null);
            }
            match alike((&of[0], &left), (&of[1], &right))? {
                Some((left, right)) => arithmetic(*operator, &left, &right),
                None => arithmetic(*operator, &left, &right),
            }
        }
        Expr::Concat(of) => {
            let (left, right) = (eval(&of[0], row)?, eval(&of[1], row)?);
            if left.is_null() || right.is_null() {
                return Ok(Value::Null);
            }
            let mut out = String::new();
            left.write_text(&mut out);
            right.write_text(&mut out);
            Value::text(out)
        }
        Expr::Case { of, arms, default } => case(of.as_deref(), arms, default, row),
        Expr::Cast(of, target) => cast(eval(of, row)?, *target),
        Expr::Need(class, user, of) => class.admit(eval(of, row)?, user),
        Expr::Call(function, arguments) => call(*function, arguments, row),
        Expr::Pattern(regex, how, arguments) => {
            let text = eval(&arguments[0], row)?;
            let with =
                if matches!(how, PatternUse::Replace { .. }) { eval(&arguments[1], row)? } else { Value::Bool(true) };
            if text.is_null() || with.is_null() {
                return Ok(Value::Null);
            }
            text::pattern(regex, *how, &text.into_text(), &with.into_text())
        }
        Expr::Extract(part, exact, of) => {
            let found = times::extract(*part, &eval(of, row)?)?;
            Ok(found.map_or(Value::Null, |n| if *exact { Value::Numeric(n) } else { Value::Float(n.to_f64()) }))
        }
        Expr::Truncate(unit, of) => times::truncate(*unit, &eval(of, row)?),
        Expr::AtZone(zone, of) => Ok(match eval(of, row)? {
            Value::Timestamp(local) => Value::Timestamptz(super::datetime::checked_time(zone.utc(local))?),
            Value::Timestamptz(utc) => Value::Timestamp(super::datetime::checked_time(zone.local(utc))?),
            _ => Value::Null,
        }),
    }
}

/// Whether the condition holds; NULL is None.
pub fn truth(expr: &Expr, row: &Row<'_>) -> Result<Option<bool>> {
    Ok(match expr {
        Expr::Not(of) => truth(of, row)?.map(|b| !b),
        Expr::And(terms) => return all(terms, row, false),
        Expr::Or(terms) => return all(terms, row, true),
        Expr::Compare(operator, of) => {
            let (mut left, mut right) = (Value::Null, Value::Null);
            let left = operand(&of[0], row, &mut left)?;
            let right = operand(&of[1], row, &mut right)?;
            order((&of[0], left), (&of[1], right))?.map(|order| holds(*operator, order))
        }
        Expr::Between { of, symmetric } => return between(of, *symmetric, row),
        Expr::In(of, list) => return within(of, list, row),
        Expr::Like(of, like) => match eval(of, row)? {
            Value::Text(text) => Some(like.matches(&text)),
            _ => None,
        },
        Expr::Matches(of, regex) => match eval(of, row)? {
            Value::Text(text) => Some(regex.is_match(text.as_bytes())),
            _ => None,
        },
        Expr::Is(of, Is::Null) => Some(eval(of, row)?.is_null()),
        Expr::Is(of, what) => {
            let found = truth(of, row)?;
            Some(match what {
                Is::True => found == Some(true),
                Is::False => found == Some(false),
                _ => found.is_none(),
            })
        }
        Expr::Distinct(of) => {
            let (left, right) = (eval(&of[0], row)?, eval(&of[1], row)?);
            match (left.is_null(), right.is_null()) {
                (false, false) => order((&of[0], &left), (&of[1], &right))?.map(std::cmp::Ordering::is_ne),
                (a, b) => Some(a != b),
            }
        }
        other => match eval(other, row)? {
            Value::Bool(b) => Some(b),
            Value::Null => None,
            other => {
                let what = format!("a condition takes a boolean, this is {}", other.type_of().name());
                return Err(EvalError::new(Kind::WrongType, what));
            }
        },
    })
}

/// What an expression gives, in `place` unless it is there already.
fn operand<'p, 'a>(expr: &'a Expr, row: &Row<'a>, place: &'p mut Value<'a>) -> Result<&'p Value<'a>>
where
    'a: 'p,
{
    if let Expr::Const(value) = expr {
        return Ok(value);
    }
    *place = eval(expr, row)?;
    Ok(place)
}

/// A text written in the query beside a field takes the type that the field has. None: nothing is to be done.
fn alike<'a>(a: (&Expr, &Value<'a>), b: (&Expr, &Value<'a>)) -> Result<Option<(Value<'a>, Value<'a>)>> {
    let as_other =
        |text: &Value<'a>, other: &Value<'a>| cast(text.clone(), Target { to: other.type_of(), limit: Limit::None });
    Ok(match (a, b) {
        ((_, Value::Text(_)), (_, Value::Text(_))) => None,
        ((Expr::Const(_), text @ Value::Text(_)), (_, other)) => Some((as_other(text, other)?, other.clone())),
        ((_, other), (Expr::Const(_), text @ Value::Text(_))) => Some((other.clone(), as_other(text, other)?)),
        _ => None,
    })
}

/// How two stand to each other; None when one is NULL.
fn order<'a>(a: (&Expr, &Value<'a>), b: (&Expr, &Value<'a>)) -> Result<Option<std::cmp::Ordering>> {
    if a.1.is_null() || b.1.is_null() {
        return Ok(None);
    }
    match alike(a, b)? {
        Some((left, right)) => compare(&left, &right).map(Some),
        None => compare(a.1, b.1).map(Some),
    }
}

/// `AND` (`OR`, when `decides` is true): the first term that decides does so, else an unknown one does.
fn all(terms: &[Expr], row: &Row<'_>, decides: bool) -> Result<Option<bool>> {
    let mut found = Some(!decides);
    for term in terms {
        match truth(term, row)? {
            Some(b) if b == decides => return Ok(Some(decides)),
            Some(_) => {}
            None => found = None,
        }
    }
    Ok(found)
}

fn between(of: &[Expr; 3], symmetric: bool, row: &Row<'_>) -> Result<Option<bool>> {
    let [value, low, high] = of;
    let (v, a, b) = (eval(value, row)?, eval(low, row)?, eval(high, row)?);
    let inside = |low, high| -> Result<Option<bool>> {
        let above = order((value, &v), low)?.map(std::cmp::Ordering::is_ge);
        let below = order((value, &v), high)?.map(std::cmp::Ordering::is_le);
        Ok(match (above, below) {
            (Some(false), _) | (_, Some(false)) => Some(false),
            (Some(true), Some(true)) => Some(true),
            _ => None,
        })
    };
    let forth = inside((low, &a), (high, &b))?;
    if !symmetric || forth == Some(true) {
        return Ok(forth);
    }
    let back = inside((high, &b), (low, &a))?;
    Ok(if back == Some(true) { back } else { forth.and(back) })
}

fn within(of: &Expr, list: &[Expr], row: &Row<'_>) -> Result<Option<bool>> {
    let value = eval(of, row)?;
    let mut found = Some(false);
    for item in list {
        match order((of, &value), (item, &eval(item, row)?))? {
            Some(order) if order.is_eq() => return Ok(Some(true)),
            Some(_) => {}
            None => found = None,
        }
    }
    Ok(found)
}

fn case<'a>(of: Option<&'a Expr>, arms: &'a [(Expr, Expr)], default: &'a Expr, row: &Row<'a>) -> Result<Value<'a>> {
    let operand = match of {
        Some(expr) => Some((expr, eval(expr, row)?)),
        None => None,
    };
    for (when, then) in arms {
        let chosen = match &operand {
            Some((expr, value)) => order((expr, value), (when, &eval(when, row)?))?.is_some_and(|o| o.is_eq()),
            None => truth(when, row)? == Some(true),
        };
        if chosen {
            return eval(then, row);
        }
    }
    eval(default, row)
}

fn call<'a>(function: Function, arguments: &'a [Expr], row: &Row<'a>) -> Result<Value<'a>> {
    use Function::{Coalesce, Greatest, JsonFind, JsonFindText, Least, NullIf};
    match function {
        Coalesce => {
            for argument in arguments {
                let value = eval(argument, row)?;
                if !value.is_null() {
                    return Ok(value);
                }
            }
            return Ok(Value::Null);
        }
        NullIf => {
            let (left, right) = (eval(&arguments[0], row)?, eval(&arguments[1], row)?);
            let same = order((&arguments[0], &left), (&arguments[1], &right))?.is_some_and(|o| o.is_eq());
            return Ok(if same { Value::Null } else { left });
        }
        Greatest | Least => return extreme(arguments, function == Greatest, row),
        _ => {}
    }
    if function.takes_null() || matches!(function, JsonFind | JsonFindText) {
        let values: Vec<Value<'a>> = arguments.iter().map(|argument| eval(argument, row)).collect::<Result<_>>()?;
        return many(function, &values);
    }
    let mut values = [const { Value::Null }; 4];
    let mut missing = false;
    for (value, argument) in values.iter_mut().zip(arguments) {
        *value = eval(argument, row)?;
        missing |= value.is_null();
    }
    if missing { Ok(Value::Null) } else { few(function, values, row) }
}

fn extreme<'a>(arguments: &'a [Expr], greatest: bool, row: &Row<'a>) -> Result<Value<'a>> {
    let mut best: Option<(&Expr, Value<'a>)> = None;
    for argument in arguments {
        let value = eval(argument, row)?;
        if value.is_null() {
            continue;
        }
        let better = match &best {
            None => true,
            Some((expr, so_far)) => {
                let order = order((argument, &value), (expr, so_far))?;
                order.is_some_and(|o| if greatest { o.is_gt() } else { o.is_lt() })
            }
        };
        if better {
            best = Some((argument, value));
        }
    }
    Ok(best.map_or(Value::Null, |(_, value)| value))
}

/// Functions of any number of arguments, NULL among them.
fn many<'a>(function: Function, values: &[Value<'a>]) -> Result<Value<'a>> {
    let mut out = String::new();
    match function {
        Function::JsonObject => jsons::object(values),
        Function::JsonArray => jsons::array(values),
        Function::JsonFind | Function::JsonFindText => {
            let [Value::Json(raw), names @ ..] = values else {
                return Ok(Value::Null);
            };
            let found = jsons::extract_path(raw.clone(), names)?;
            let text = function == Function::JsonFindText;
            Ok(found.map_or(Value::Null, |raw| if text { super::cast::text_of_json(raw) } else { Value::Json(raw) }))
        }
        Function::ConcatWith => {
            let [Value::Text(between), rest @ ..] = values else {
                return Ok(Value::Null);
            };
            for (n, value) in rest.iter().filter(|value| !value.is_null()).enumerate() {
                if n > 0 {
                    out.push_str(between);
                }
                text::append(value, &mut out)?;
            }
            Value::text(out)
        }
        _ => {
            for value in values {
                text::append(value, &mut out)?;
            }
            Value::text(out)
        }
    }
}

/// Functions of up to four arguments, none of them NULL.
fn few<'a>(function: Function, values: [Value<'a>; 4], row: &Row<'a>) -> Result<Value<'a>> {
    use Function::{
        Abs, Arrow, ArrowText, Attribute, Ceil, Chr, DateBin, Div, Floor, JsonLength, JsonPath, JsonType, Label,
        MakeDate, Path, PathText, Pi, Round, RoundTo, Sign, ToChar, ToHex, ToJson, ToTimestamp, Trunc, TruncTo,
    };
    let double = |value: &Value<'a>| if let Value::Float(f) = value { *f } else { 0.0 };
    match (function, values) {
        (Abs | Ceil | Floor | Round | Trunc | Sign, values) => math::of_one(function, &values[0]),
        (RoundTo | TruncTo | Div, values) => math::exact(function, &values),
        (Arrow | ArrowText | Path | PathText | JsonPath | JsonType | JsonLength, [Value::Json(raw), argument, ..]) => {
            jsons::call(function, raw, &argument)
        }
        (ToJson, [value, ..]) => cast(json_of(value), Target { to: Type::Json, limit: Limit::None }),
        (Chr, [Value::Int(n), ..]) => text::chr(n),
        (ToHex, [Value::Int(n), ..]) => Value::text(format!("{n:x}")),
        (ToTimestamp, [Value::Float(epoch), ..]) => times::to_timestamp(epoch),
        (MakeDate, [Value::Int(y), Value::Int(m), Value::Int(d), _]) => times::make_date(y, m, d),
        (ToChar, [Value::Timestamp(t), Value::Text(pattern), ..]) => Value::text(times::to_char(t, false, &pattern)),
        (ToChar, [Value::Timestamptz(t), Value::Text(pattern), ..]) => Value::text(times::to_char(t, true, &pattern)),
        (
            DateBin,
            [Value::Interval(stride), Value::Timestamp(t), Value::Timestamp(origin) | Value::Timestamptz(origin), _],
        ) => times::bin(stride, t, origin).map(Value::Timestamp),
        (
            DateBin,
            [Value::Interval(stride), Value::Timestamptz(t), Value::Timestamp(origin) | Value::Timestamptz(origin), _],
        ) => times::bin(stride, t, origin).map(Value::Timestamptz),
        (Label, [Value::Text(name), ..]) => {
            let found = row.context.and_then(|context| context.labels.get(&*name));
            Ok(found.map_or(Value::Null, |label| Value::Text(label.as_str().into())))
        }
        (Attribute, [Value::Text(name), ..]) => {
            let found = row.record.attrs.get(&name);
            Ok(found.map_or(Value::Null, |bytes| Value::Text(String::from_utf8_lossy(bytes))))
        }
        (Pi, values) => math::doubles(Pi, double(&values[0]), 0.0),
        (_, values @ [Value::Float(_), ..]) => math::doubles(function, double(&values[0]), double(&values[1])),
        (_, values) => text::call(function, values),
    }
}

/// A text becomes a JSON string, not what it spells.
fn json_of(value: Value<'_>) -> Value<'_> {
    if let Value::Text(text) = &value {
        let mut raw = Vec::new();
        crate::json::write_string(text.as_bytes(), &mut raw);
        return Value::Json(raw.into());
    }
    value
}
