//! `throttle`: at most so many records in so much time, the first ones; the others are dropped.
//!
//! A stretch of time begins with the first record that passes after the last stretch. What is kept is when it began and how many
//! have passed in it.

use super::state::{Keeper, Kept, Time};
use super::{Answer, Made, Reason};
use crate::record::RecordRef;
use crate::template::Template;
use crate::time::Span;

#[derive(Clone, Debug, PartialEq)]
pub struct Throttle {
    pub by: Option<Template>,
    pub every: Span,
    /// At least 1.
    pub most: u32,
}

impl Keeper for Throttle {
    fn by(&self) -> Option<&Template> {
        self.by.as_ref()
    }

    fn see(&self, time: Time, _: &RecordRef<'_>, kept: &mut Kept<'_>, _: &mut Made) -> Result<Answer, Reason> {
        match kept.get::<u32>() {
            Some((began, passed)) if !time.is_past(began, self.every) => {
                if passed >= self.most {
                    return Ok(Answer::Drop);
                }
                kept.put_at(began, &(passed + 1))?;
            }
            _ => kept.put(time, &1u32)?,
        }
        Ok(Answer::Pass)
    }
}
