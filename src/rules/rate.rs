//! `rate-of-change`: how fast a number changes, in a field of its own.
//!
//! From one record of a sensor to the next, in units a second (or `per`), by the events' times where both have one, else by when
//! they came in. With `above` only records pass whose rate, either way, is above it. The first record has no rate, nor has one at
//! the same moment as the one before or before it: they pass without, or with `above` not at all.

use super::number::{Number, number_in};
use super::rewrite::{Leaf, Plan, PlanError};
use super::state::{Keeper, Kept, Time};
use super::{Answer, Made, Reason, said};
use crate::json::Path;
use crate::record::RecordRef;
use crate::template::Template;
use crate::time::Span;

#[derive(Clone, Debug, PartialEq)]
pub struct RateOfChange {
    field: Path,
    by: Option<Template>,
    per: Span,
    above: Option<f64>,
    plan: Plan,
}

impl RateOfChange {
    /// `into`: the field for the rate.
    pub fn new(
        field: Path,
        by: Option<Template>,
        per: Span,
        above: Option<f64>,
        into: Path,
    ) -> Result<Self, PlanError> {
        Ok(Self { field, by, per, above, plan: Plan::new(vec![(into, Leaf::Set(0))], true)? })
    }

    fn without(&self) -> Answer {
        if self.above.is_some() { Answer::Drop } else { Answer::Pass }
    }
}

impl Keeper for RateOfChange {
    fn by(&self) -> Option<&Template> {
        self.by.as_ref()
    }

    fn see(&self, time: Time, record: &RecordRef<'_>, kept: &mut Kept<'_>, made: &mut Made) -> Result<Answer, Reason> {
        let number = number_in(record.value, Some(&self.field))?;
        let happened = record.event_time.map(|time| time.0);
        let before = kept.get::<(Number, Option<i64>)>();
        let elapsed = before.and_then(|(seen, (_, then))| match (happened, then) {
            (Some(now), Some(then)) => Some(now.saturating_sub(then)),
            _ => time.since(seen).map(|ago| ago.0),
        });
        // An older one, come late, must not be what the next one is compared with.
        if elapsed.is_some_and(|elapsed| elapsed <= 0) {
            return Ok(self.without());
        }
        kept.put(time, &(number, happened))?;
        let (Some((_, (last, _))), Some(elapsed)) = (before, elapsed) else { return Ok(self.without()) };
        let way = if number.order(last).is_lt() { -1.0 } else { 1.0 };
        let rate = way * last.distance(number) * self.per.0 as f64 / elapsed as f64;
        if self.above.is_some_and(|above| rate.abs() <= above) {
            return Ok(Answer::Drop);
        }
        let mut fill = |_: usize, out: &mut Vec<u8>| {
            Number::Float(rate).write(out);
            true
        };
        self.plan.apply(record.value, &mut fill, &mut made.bytes).map_err(said)?;
        Ok(Answer::Value)
    }
}
