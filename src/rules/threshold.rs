//! `threshold`: tells how bad a number is, and when that changes.
//!
//! `above` has limits that rise, `below` limits that fall, each with a severity. A number at or beyond a limit has its severity; it
//! loses it only when it is back behind the limit by more than `hysteresis`, so that a number that trembles at a limit does not tell
//! it over and over. Records at which the severity changes pass, with the severity in a field; the others are dropped, unless all are
//! wanted. Nothing is said of a sensor that is normal from the beginning.
//!
//! What is kept per sensor is its level: 0 normal, n beyond the nth limit of `above`, -n beyond the nth of `below`.

use super::number::{Number, number_in};
use super::rewrite::{Leaf, Plan, PlanError};
use super::state::{Keeper, Kept, Time};
use super::{Answer, Made, Reason, said};
use crate::json::{self, Path};
use crate::record::RecordRef;
use crate::template::Template;

/// What is said of a number that is beyond no limit.
const NORMAL: &str = "normal";

#[derive(Clone, Debug, PartialEq)]
pub struct Threshold {
    field: Option<Path>,
    by: Option<Template>,
    /// From the mildest on.
    above: Vec<Limit>,
    below: Vec<Limit>,
    hysteresis: f64,
    all: bool,
    plan: Plan,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Limit {
    pub at: Number,
    pub severity: String,
}

#[derive(Clone, Debug, Default)]
pub struct Options {
    pub field: Option<Path>,
    pub by: Option<Template>,
    pub above: Vec<Limit>,
    pub below: Vec<Limit>,
    /// Not below zero.
    pub hysteresis: f64,
    /// Passes every record, not only changes.
    pub all: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ThresholdError {
    #[error("no limits: write `above` or `below` as a list of {{ at = 80, severity = \"warning\" }}")]
    NoLimits,
    #[error("the limits of `{0}` must go from the mildest to the worst")]
    Order(&'static str),
    #[error("`above` and `below` overlap: a number would be beyond both")]
    Overlap,
    #[error(transparent)]
    Plan(#[from] PlanError),
}

impl Threshold {
    /// `into`: the field for the severity.
    pub fn new(options: Options, into: Path) -> Result<Self, ThresholdError> {
        let Options { field, by, above, below, hysteresis, all } = options;
        if above.is_empty() && below.is_empty() {
            return Err(ThresholdError::NoLimits);
        }
        if !above.is_sorted_by(|a, b| a.at.order(b.at).is_lt()) {
            return Err(ThresholdError::Order("above"));
        }
        if !below.is_sorted_by(|a, b| a.at.order(b.at).is_gt()) {
            return Err(ThresholdError::Order("below"));
        }
        if let (Some(high), Some(low)) = (above.first(), below.first())
            && !low.at.order(high.at).is_lt()
        {
            return Err(ThresholdError::Overlap);
        }
        let plan = Plan::new(vec![(into, Leaf::Set(0))], true)?;
        Ok(Self { field, by, above, below, hysteresis, all, plan })
    }

    /// The level of a number where it was at another one before.
    fn level(&self, before: i8, number: Number) -> i8 {
        let beyond = |limits: &[Limit], held: usize, is_beyond: &dyn Fn(&Limit, f64) -> bool| {
            let reached = limits.iter().take_while(|limit| is_beyond(limit, 0.0)).count();
            let kept = limits.iter().take(held).take_while(|limit| is_beyond(limit, self.hysteresis)).count();
            reached.max(kept) as i8
        };
        let over = |limit: &Limit, slack: f64| {
            number.order(limit.at).is_ge() || slack > 0.0 && number.to_f64() > limit.at.to_f64() - slack
        };
        let under = |limit: &Limit, slack: f64| {
            number.order(limit.at).is_le() || slack > 0.0 && number.to_f64() < limit.at.to_f64() + slack
        };
        let (high, low) = (usize::from(before.max(0).unsigned_abs()), usize::from(before.min(0).unsigned_abs()));
        match (beyond(&self.above, high, &over), beyond(&self.below, low, &under)) {
            // The slack of one side must not hide the other side.
            (0, low) => -low,
            (high, low) if low > 0 && before > 0 => {
                if over(&self.above[0], 0.0) {
                    high
                } else {
                    -low
                }
            }
            (high, low) if low > 0 => {
                if under(&self.below[0], 0.0) {
                    -low
                } else {
                    high
                }
            }
            (high, _) => high,
        }
    }

    fn severity(&self, level: i8) -> &str {
        let limits = if level > 0 { &self.above } else { &self.below };
        let limit = usize::from(level.unsigned_abs()).checked_sub(1).and_then(|at| limits.get(at));
        limit.map_or(NORMAL, |limit| &limit.severity)
    }
}

impl Keeper for Threshold {
    fn by(&self) -> Option<&Template> {
        self.by.as_ref()
    }

    fn see(&self, time: Time, record: &RecordRef<'_>, kept: &mut Kept<'_>, made: &mut Made) -> Result<Answer, Reason> {
        let number = number_in(record.value, self.field.as_ref())?;
        let before = kept.get::<i8>().map_or(0, |(_, level)| level);
        let level = self.level(before, number);
        if level == before && !self.all {
            return Ok(Answer::Drop);
        }
        let severity = self.severity(level);
        if self.field.is_none() {
            made.bytes.extend_from_slice(b"{\"value\":");
            number.write(&mut made.bytes);
            made.bytes.extend_from_slice(b",\"severity\":");
            json::write_string(severity.as_bytes(), &mut made.bytes);
            made.bytes.push(b'}');
        } else {
            let mut fill = |_: usize, out: &mut Vec<u8>| {
                json::write_string(severity.as_bytes(), out);
                true
            };
            self.plan.apply(record.value, &mut fill, &mut made.bytes).map_err(said)?;
        }
        if level != before {
            kept.put(time, &level)?;
        }
        Ok(Answer::Value)
    }
}
