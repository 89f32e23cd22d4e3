//! What a window makes of a field's numbers.

use serde::{Deserialize, Serialize};
use sketches_ddsketch::{Config, DDSketch};

use crate::json::{self, Path, Value};
use crate::rules::Reason;
use crate::rules::number::Number;

/// A percentile is right to so much of itself.
const ACCURACY: f64 = 0.02;
/// Bins of a sketch: at this accuracy, nine orders of magnitude.
const BINS: u32 = 512;
/// Numbers nearer to zero are zero to a sketch.
const LEAST: f64 = 1e-9;

/// One member of what comes out.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    pub field: Path,
    pub function: Function,
    pub name: String,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Function {
    /// Records in which the field is there and not null.
    Count,
    Sum,
    Min,
    Max,
    Mean,
    /// Of the record that came last.
    Last,
    /// Of a sample: divided by one less than there are.
    Stddev,
    /// 0 to 1.
    Quantile(f64),
}

/// What is kept of one output.
#[derive(Clone, Serialize, Deserialize)]
pub(super) enum Cell {
    Count(u64),
    Sum(Option<Number>),
    Least(Option<Number>),
    Most(Option<Number>),
    /// Count, mean, sum of squared distances from it (Welford 1962; put together as Chan et al. 1979).
    Moments {
        n: u64,
        mean: f64,
        m2: f64,
    },
    Last(Option<Number>),
    Sketch(Box<DDSketch>),
    /// Another percentile of a field has it.
    Shared,
}

/// The fields' numbers, where they are there.
pub(super) fn values(outputs: &[Output], value: &[u8]) -> Result<Vec<Option<Number>>, Reason> {
    let number = |output: &Output| match json::find(value, &output.field) {
        Ok(None | Some(Value::Null)) => Ok(None),
        Ok(Some(Value::Number(digits))) => match Number::of(digits) {
            Some(number) => Ok(Some(number)),
            None => Err(format!("`{}` is too large: {digits}", output.field).into()),
        },
        Ok(Some(_)) if output.function == Function::Count => Ok(Some(Number::Int(1))),
        Ok(Some(_)) => Err(format!("`{}` is no number", output.field).into()),
        Err(error) => Err(error.to_string().into()),
    };
    outputs.iter().map(number).collect()
}

fn sum(a: Option<Number>, b: Option<Number>) -> Option<Number> {
    let (Some(a), Some(b)) = (a, b) else { return a.or(b) };
    if let (Number::Int(a), Number::Int(b)) = (a, b)
        && let Some(sum) = a.checked_add(b)
    {
        return Some(Number::Int(sum));
    }
    Some(Number::Float(a.to_f64() + b.to_f64()))
}

fn least(a: Option<Number>, b: Option<Number>) -> Option<Number> {
    let (Some(one), Some(other)) = (a, b) else { return a.or(b) };
    Some(if other.order(one).is_lt() { other } else { one })
}

fn most(a: Option<Number>, b: Option<Number>) -> Option<Number> {
    let (Some(one), Some(other)) = (a, b) else { return a.or(b) };
    Some(if other.order(one).is_gt() { other } else { one })
}

/// The least of the numbers that so many of them do not exceed (nearest rank), to the accuracy of the sketch.
fn quantile(sketch: &DDSketch, q: f64) -> Option<f64> {
    let n = sketch.count() as f64;
    let rank = ((q * n).ceil() - 1.0).max(0.0);
    // It takes the number whose place, from 0, is the part of all but one, rounded down.
    let part = if n > 1.0 { ((rank + 0.5) / (n - 1.0)).min(1.0) } else { 0.0 };
    sketch.quantile(part).ok().flatten()
}

/// Bytes that a cell takes in an entry, of a sketch about: numbers over two orders of magnitude.
pub(super) fn weight(cell: &Cell) -> usize {
    match cell {
        Cell::Sketch(_) => 256,
        Cell::Moments { .. } => 20,
        _ => 10,
    }
}

impl Cell {
    pub fn new(function: Function) -> Self {
        match function {
            Function::Count => Self::Count(0),
            Function::Sum => Self::Sum(None),
            Function::Min => Self::Least(None),
            Function::Max => Self::Most(None),
            Function::Mean | Function::Stddev => Self::Moments { n: 0, mean: 0.0, m2: 0.0 },
            Function::Last => Self::Last(None),
            Function::Quantile(_) => Self::Sketch(Box::new(DDSketch::new(Config::new(ACCURACY, BINS, LEAST)))),
        }
    }

    pub fn add(&mut self, function: Function, value: &Number) {
        let mut one = Self::new(function);
        match &mut one {
            Self::Count(n) => *n = 1,
            Self::Sum(cell) | Self::Least(cell) | Self::Most(cell) | Self::Last(cell) => *cell = Some(*value),
            Self::Moments { n, mean, .. } => (*n, *mean) = (1, value.to_f64()),
            Self::Shared => return,
            Self::Sketch(_) => {
                if let Self::Sketch(sketch) = self {
                    sketch.add(value.to_f64());
                }
                return;
            }
        }
        self.merge(&one);
    }

    /// Takes in what came later.
    pub fn merge(&mut self, other: &Self) {
        match (self, other) {
            (Self::Count(a), Self::Count(b)) => *a = a.saturating_add(*b),
            (Self::Sum(a), Self::Sum(b)) => *a = sum(*a, *b),
            (Self::Least(a), Self::Least(b)) => *a = least(*a, *b),
            (Self::Most(a), Self::Most(b)) => *a = most(*a, *b),
            (Self::Last(a), Self::Last(b)) => *a = b.or(*a),
            (Self::Moments { n, mean, m2 }, Self::Moments { n: more, mean: other, m2: squares }) if *more > 0 => {
                let all = n.saturating_add(*more);
                let (weight, apart) = (*more as f64 / all as f64, other - *mean);
                *m2 += squares + apart * apart * (*n as f64) * weight;
                *mean += apart * weight;
                *n = all;
            }
            (Self::Sketch(a), Self::Sketch(b)) => {
                // Both are of the same configuration.
                let _ = a.merge(b);
            }
            _ => {}
        }
    }

    /// As JSON; false, nothing written: there was nothing.
    pub fn write(&self, function: Function, out: &mut Vec<u8>) -> bool {
        let number = match (self, function) {
            (Self::Count(n), _) => Some(Number::Int(i128::from(*n))),
            (Self::Sum(cell) | Self::Least(cell) | Self::Most(cell) | Self::Last(cell), _) => *cell,
            (Self::Moments { n, mean, .. }, Function::Mean) => (*n > 0).then_some(Number::Float(*mean)),
            (Self::Moments { n, m2, .. }, _) => (*n > 1).then(|| Number::Float((m2 / (*n - 1) as f64).sqrt())),
            (Self::Sketch(sketch), Function::Quantile(q)) => quantile(sketch, q).map(Number::Float),
            (Self::Sketch(_) | Self::Shared, _) => None,
        };
        match number {
            Some(Number::Float(float)) if !float.is_finite() => false,
            Some(number) => {
                number.write(out);
                true
            }
            None => false,
        }
    }
}
