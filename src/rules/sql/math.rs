//! Functions of numbers. Numeric stays exact where that is possible; roots, powers and angles are doubles.

use super::decimal::Decimal;
use super::functions::Function;
use super::value::{EvalError, Kind, Result, Value};

const RADIANS_PER_DEGREE: f64 = std::f64::consts::PI / 180.0;

fn bad(what: &str) -> EvalError {
    EvalError::new(Kind::BadArgument, what)
}

pub fn power(a: f64, b: f64) -> Result<f64> {
    if a == 0.0 && b < 0.0 {
        return Err(bad("zero to a negative power is undefined"));
    }
    if a < 0.0 && b.fract() != 0.0 && b.is_finite() {
        return Err(bad("a negative number to a power that is no integer is no number"));
    }
    super::compute::in_range(a.powf(b), a.is_finite() && b.is_finite(), a != 0.0 && a.is_finite() && b.is_finite())
}

/// Functions whose one argument stays of its type.
pub fn of_one<'a>(function: Function, value: &Value<'a>) -> Result<Value<'a>> {
    Ok(match value {
        Value::Int(n) => {
            Value::Int(n.checked_abs().ok_or_else(|| EvalError::new(Kind::OutOfRange, "bigint out of range"))?)
        }
        Value::Numeric(n) => Value::Numeric(match function {
            Function::Abs => n.abs(),
            Function::Ceil => n.ceil(),
            Function::Floor => n.floor(),
            Function::Round => n.round(0)?,
            Function::Trunc => n.trunc(0)?,
            _ => Decimal::from_int(n.signum()),
        }),
        Value::Float(f) => Value::Float(match function {
            Function::Abs => f.abs(),
            Function::Ceil => f.ceil(),
            Function::Floor => f.floor(),
            Function::Round => f.round_ties_even(),
            Function::Trunc => f.trunc(),
            _ if f.is_nan() || *f == 0.0 => {
                if f.is_nan() {
                    *f
                } else {
                    0.0
                }
            }
            _ => f.signum(),
        }),
        _ => Value::Null,
    })
}

/// `round(x, n)`, `trunc(x, n)`, `div(a, b)`.
pub fn exact<'a>(function: Function, arguments: &[Value<'a>]) -> Result<Value<'a>> {
    let number = match (function, arguments) {
        (Function::RoundTo, [Value::Numeric(x), Value::Int(n), ..]) => x.round(*n)?,
        (Function::TruncTo, [Value::Numeric(x), Value::Int(n), ..]) => x.trunc(*n)?,
        (_, [Value::Numeric(a), Value::Numeric(b), ..]) => {
            let rest = a.rem(*b)?;
            a.sub(rest)?.div(*b)?.round(0)?
        }
        _ => return Ok(Value::Null),
    };
    // Of a number that has fewer digits already, PostgreSQL still gives as many as are asked for.
    Ok(Value::Numeric(number))
}

/// Functions of doubles.
pub fn doubles<'a>(function: Function, a: f64, b: f64) -> Result<Value<'a>> {
    use Function::{
        Acos, Asin, Atan, Atan2, Cbrt, Cos, Cot, Degrees, Exp, Ln, Log, LogBase, Pi, Power, Radians, Sin, Sqrt, Tan,
    };
    let finite = a.is_finite();
    let angle = || {
        if a.is_infinite() { Err(EvalError::new(Kind::OutOfRange, "input is out of range")) } else { Ok(a) }
    };
    let unit = || {
        if a.abs() > 1.0 { Err(EvalError::new(Kind::OutOfRange, "input is out of range")) } else { Ok(a) }
    };
    let positive = |x: f64| {
        if x <= 0.0 { Err(bad("cannot take the logarithm of what is not above zero")) } else { Ok(x) }
    };
    let result = match function {
        Sqrt if a < 0.0 => return Err(bad("cannot take the square root of a negative number")),
        Sqrt => a.sqrt(),
        Cbrt => a.cbrt(),
        Exp => super::compute::in_range(a.exp(), finite, finite)?,
        Ln => positive(a)?.ln(),
        Log => positive(a)?.log10(),
        LogBase => {
            let base = positive(a)?.ln();
            if base == 0.0 {
                return Err(EvalError::new(Kind::DivisionByZero, "division by zero"));
            }
            positive(b)?.ln() / base
        }
        Power => power(a, b)?,
        Pi => std::f64::consts::PI,
        Degrees => super::compute::in_range(a / RADIANS_PER_DEGREE, finite, false)?,
        Radians => a * RADIANS_PER_DEGREE,
        Sin => angle()?.sin(),
        Cos => angle()?.cos(),
        Tan => angle()?.tan(),
        Cot => 1.0 / angle()?.tan(),
        Asin => unit()?.asin(),
        Acos => unit()?.acos(),
        Atan => a.atan(),
        Atan2 => a.atan2(b),
        _ => return Ok(Value::Null),
    };
    Ok(Value::Float(result))
}
