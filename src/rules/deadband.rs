//! `deadband`: reports by exception. A record passes when its number has moved far enough from the one reported last, or when
//! nothing was reported for as long as `max_silence`; the first one always passes.
//!
//! Far enough is more than `delta`, or more than so many percent of the last reported number (which, at zero, is any change).
//! What is kept per sensor is the number reported last, and when.

use super::number::{Number, number_in};
use super::state::{Keeper, Kept, Time};
use super::{Answer, Made, Reason};
use crate::json::Path;
use crate::record::RecordRef;
use crate::template::Template;
use crate::time::Span;

#[derive(Clone, Debug, PartialEq)]
pub struct Deadband {
    /// None: the whole value is the number.
    pub field: Option<Path>,
    pub by: Option<Template>,
    pub band: Band,
    pub max_silence: Option<Span>,
}

/// Not below zero.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Band {
    Absolute(f64),
    Percent(f64),
}

impl Band {
    fn is_left(self, last: Number, now: Number) -> bool {
        let width = match self {
            Self::Absolute(delta) => delta,
            Self::Percent(percent) => last.to_f64().abs() * percent / 100.0,
        };
        last.distance(now) > width
    }
}

impl Keeper for Deadband {
    fn by(&self) -> Option<&Template> {
        self.by.as_ref()
    }

    fn see(&self, time: Time, record: &RecordRef<'_>, kept: &mut Kept<'_>, _: &mut Made) -> Result<Answer, Reason> {
        let number = number_in(record.value, self.field.as_ref())?;
        if let Some((reported, last)) = kept.get::<Number>()
            && !self.band.is_left(last, number)
            && !self.max_silence.is_some_and(|most| time.is_past(reported, most))
        {
            return Ok(Answer::Drop);
        }
        kept.put(time, &number)?;
        Ok(Answer::Pass)
    }
}
