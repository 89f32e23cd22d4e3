//! Operators: arithmetic over numbers and times, and comparison.
//!
//! Integers of 64 bits stay integers and never wrap; with a numeric they become numeric, with a double double. Doubles
//! that leave their range are an error, as in PostgreSQL, not infinity.

use std::cmp::Ordering;

use super::ast::Operator;
use super::datetime::{DAY, Interval, add_interval, checked_date, out_of_range};
use super::decimal::Decimal;
use super::value::{EvalError, Kind, Result, Type, Value};

/// The type that an operation on these gives; None if there is no such operator.
pub fn gives(operator: Operator, left: Type, right: Type) -> Option<Type> {
    use Operator::{Add, Div, Mul, Power, Rem, Sub};
    use Type::{Any, Date, Float, Int, Interval, Numeric, Timestamp, Timestamptz};
    Some(match (operator, left, right) {
        (_, Any, other) | (_, other, Any) if other == Any || other.is_number() => {
            if operator == Power || (other == Float && operator != Rem) { Float } else { Any }
        }
        (Mul, Any, Interval) | (Mul | Div, Interval, Any) => Interval,
        (Add | Sub, Date, Any) | (Add, Any, Date) => Any,
        (Power, a, b) if a.is_number() && b.is_number() => Float,
        (Rem, a, b) if a.is_number() && b.is_number() && (a == Float || b == Float) => return None,
        (_, a, b) if a.is_number() && b.is_number() => {
            if a == Float || b == Float {
                Float
            } else if a == Int && b == Int {
                Int
            } else {
                Numeric
            }
        }
        (Add | Sub, Date, Int) | (Add, Int, Date) => Date,
        (Sub, Date, Date) => Int,
        (Add | Sub, Date | Timestamp, Interval) | (Add, Interval, Date | Timestamp) => Timestamp,
        (Add | Sub, Timestamptz, Interval) | (Add, Interval, Timestamptz) => Timestamptz,
        (Sub, a, b) if a.is_time() && b.is_time() => Interval,
        (Add | Sub, Interval, Interval) => Interval,
        (Mul, Interval, n) | (Mul, n, Interval) if n.is_number() => Interval,
        (Div, Interval, n) if n.is_number() => Interval,
        _ => return None,
    })
}

fn bigint() -> EvalError {
    EvalError::new(Kind::OutOfRange, "bigint out of range")
}

fn by_zero() -> EvalError {
    EvalError::new(Kind::DivisionByZero, "division by zero")
}

pub fn wrong_type(symbol: &str, left: &Value<'_>, right: &Value<'_>) -> EvalError {
    let what = format!("there is no `{symbol}` for {} and {}", left.type_of().name(), right.type_of().name());
    EvalError::new(Kind::WrongType, what)
}

pub fn arithmetic<'a>(operator: Operator, left: &Value<'a>, right: &Value<'a>) -> Result<Value<'a>> {
    match (left, right) {
        (Value::Int(a), Value::Int(b)) if operator != Operator::Power => integers(operator, *a, *b).map(Value::Int),
        (Value::Float(_), _) | (_, Value::Float(_)) if operator == Operator::Rem => Err(wrong_type("%", left, right)),
        _ => {
            if let (Some(a), Some(b)) = (exact(left), exact(right))
                && operator != Operator::Power
            {
                return decimals(operator, a, b).map(Value::Numeric);
            }
            if let (Some(a), Some(b)) = (double(left), double(right)) {
                return doubles(operator, a, b).map(Value::Float);
            }
            times(operator, left, right)
        }
    }
}

/// An integer or numeric as it is.
pub fn exact(value: &Value<'_>) -> Option<Decimal> {
    match value {
        Value::Int(n) => Some(Decimal::from_int(*n)),
        Value::Numeric(n) => Some(*n),
        _ => None,
    }
}

pub fn double(value: &Value<'_>) -> Option<f64> {
    match value {
        Value::Int(n) => Some(*n as f64),
        Value::Numeric(n) => Some(n.to_f64()),
        Value::Float(f) => Some(*f),
        _ => None,
    }
}

fn integers(operator: Operator, a: i64, b: i64) -> Result<i64> {
    match operator {
        Operator::Add => a.checked_add(b),
        Operator::Sub => a.checked_sub(b),
        Operator::Mul => a.checked_mul(b),
        _ if b == 0 => return Err(by_zero()),
        Operator::Div => a.checked_div(b),
        // The one that overflows (the least by -1) leaves nothing.
        _ => Some(a.checked_rem(b).unwrap_or(0)),
    }
    .ok_or_else(bigint)
}

fn decimals(operator: Operator, a: Decimal, b: Decimal) -> Result<Decimal> {
    match operator {
        Operator::Add => a.add(b),
        Operator::Sub => a.sub(b),
        Operator::Mul => a.mul(b),
        Operator::Div => a.div(b),
        _ => a.rem(b),
    }
}

pub fn doubles(operator: Operator, a: f64, b: f64) -> Result<f64> {
    let result = match operator {
        Operator::Add => a + b,
        Operator::Sub => a - b,
        Operator::Mul => a * b,
        Operator::Div if b == 0.0 && !a.is_nan() => return Err(by_zero()),
        Operator::Div => a / b,
        _ => return super::math::power(a, b),
    };
    let vanished = match operator {
        Operator::Mul => a != 0.0 && b != 0.0,
        Operator::Div => a != 0.0 && b.is_finite(),
        _ => false,
    };
    in_range(result, a.is_finite() && b.is_finite(), vanished)
}

/// A double whose arguments were finite is finite, and not zero where none of them was.
pub fn in_range(result: f64, finite: bool, nonzero: bool) -> Result<f64> {
    if (finite && result.is_infinite()) || (nonzero && result == 0.0) {
        let what = if result == 0.0 { "underflow" } else { "overflow" };
        return Err(EvalError::new(Kind::OutOfRange, format!("value out of range: {what}")));
    }
    Ok(result)
}

fn times<'a>(operator: Operator, left: &Value<'a>, right: &Value<'a>) -> Result<Value<'a>> {
    use Operator::{Add, Div, Mul, Sub};
    let interval = |sum: Option<Interval>| sum.map(Value::Interval).ok_or_else(|| out_of_range("interval"));
    let signed =
        |i: &Interval| if operator == Sub { i.checked_neg() } else { Some(*i) }.ok_or_else(|| out_of_range("interval"));
    match (operator, left, right) {
        (Add, Value::Int(_) | Value::Interval(_), Value::Date(_) | Value::Timestamp(_) | Value::Timestamptz(_)) => {
            times(operator, right, left)
        }
        (Add | Sub, Value::Date(d), Value::Int(n)) => {
            let n = if operator == Sub { n.checked_neg() } else { Some(*n) };
            let days = n.and_then(|n| i64::from(*d).checked_add(n)).and_then(|days| i32::try_from(days).ok());
            checked_date(days).map(Value::Date)
        }
        (Sub, Value::Date(a), Value::Date(b)) => Ok(Value::Int(i64::from(*a) - i64::from(*b))),
        (Add | Sub, Value::Date(d), Value::Interval(i)) => {
            add_interval(i64::from(*d) * DAY, signed(i)?).map(Value::Timestamp)
        }
        (Add | Sub, Value::Timestamp(t), Value::Interval(i)) => add_interval(*t, signed(i)?).map(Value::Timestamp),
        (Add | Sub, Value::Timestamptz(t), Value::Interval(i)) => add_interval(*t, signed(i)?).map(Value::Timestamptz),
        (Add, Value::Interval(a), Value::Interval(b)) => interval(a.checked_add(*b)),
        (Sub, Value::Interval(a), Value::Interval(b)) => interval(b.checked_neg().and_then(|b| a.checked_add(b))),
        (Mul, Value::Interval(i), n) | (Mul, n, Value::Interval(i)) if double(n).is_some() => {
            interval(double(n).and_then(|n| i.scaled(n)))
        }
        (Div, Value::Interval(i), n) if let Some(n) = double(n) => {
            if n == 0.0 {
                Err(by_zero())
            } else {
                interval(i.divided(n))
            }
        }
        _ => match (operator, moment(left), moment(right)) {
            (Sub, Some(a), Some(b)) => {
                let micros = a.checked_sub(b).ok_or_else(|| out_of_range("interval"))?;
                Ok(Value::Interval(Interval { months: 0, days: (micros / DAY) as i32, micros: micros % DAY }))
            }
            _ => Err(wrong_type(operator.symbol(), left, right)),
        },
    }
}

/// A time as microseconds, a date as its beginning.
fn moment(value: &Value<'_>) -> Option<i64> {
    match value {
        Value::Date(d) => Some(i64::from(*d) * DAY),
        Value::Timestamp(t) | Value::Timestamptz(t) => Some(*t),
        _ => None,
    }
}

pub fn negate(value: Value<'_>) -> Result<Value<'_>> {
    Ok(match value {
        Value::Null => Value::Null,
        Value::Int(n) => Value::Int(n.checked_neg().ok_or_else(bigint)?),
        Value::Numeric(n) => Value::Numeric(n.neg()),
        Value::Float(f) => Value::Float(-f),
        Value::Interval(i) => Value::Interval(i.checked_neg().ok_or_else(|| out_of_range("interval"))?),
        other => {
            let what = format!("there is no `-` for {}", other.type_of().name());
            return Err(EvalError::new(Kind::WrongType, what));
        }
    })
}

/// How two values that are not NULL stand to each other. NaN is the largest double, and equal to itself.
pub fn compare(left: &Value<'_>, right: &Value<'_>) -> Result<Ordering> {
    match (left, right) {
        (Value::Int(a), Value::Int(b)) => return Ok(a.cmp(b)),
        (Value::Text(a), Value::Text(b)) => return Ok(a.as_bytes().cmp(b.as_bytes())),
        (Value::Bool(a), Value::Bool(b)) => return Ok(a.cmp(b)),
        (Value::Interval(a), Value::Interval(b)) => return Ok(a.length().cmp(&b.length())),
        _ => {}
    }
    if let (Some(a), Some(b)) = (exact(left), exact(right)) {
        return Ok(a.compare(b));
    }
    if let (Some(a), Some(b)) = (double(left), double(right)) {
        return Ok(a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan())));
    }
    if let (Some(a), Some(b)) = (moment(left), moment(right)) {
        return Ok(a.cmp(&b));
    }
    Err(wrong_type("=", left, right))
}

/// Whether a comparison holds that came out as `order`.
pub fn holds(operator: Operator, order: Ordering) -> bool {
    match operator {
        Operator::Equal => order.is_eq(),
        Operator::NotEqual => order.is_ne(),
        Operator::Less => order.is_lt(),
        Operator::AtMost => order.is_le(),
        Operator::Greater => order.is_gt(),
        _ => order.is_ge(),
    }
}
