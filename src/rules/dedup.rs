//! `dedup`: drops a record that was there before, within some time. Alike are records with the same key and value, or with the same
//! text of `by`.
//!
//! What is kept is a hash of each and when it was seen first. Where there is no room for more, those seen longest ago are
//! forgotten, and counted: what comes again then passes.

use twox_hash::XxHash3_128;

use super::state::{Keeper, Kept, Time};
use super::{Answer, Made, Reason};
use crate::record::RecordRef;
use crate::template::{Context, Template};
use crate::time::Span;

#[derive(Clone, Debug, PartialEq)]
pub struct Dedup {
    pub by: Option<Template>,
    pub within: Span,
}

impl Keeper for Dedup {
    fn by(&self) -> Option<&Template> {
        self.by.as_ref()
    }

    fn key(&self, context: &Context<'_>, record: &RecordRef<'_>, out: &mut Vec<u8>) -> Result<(), Reason> {
        out.clear();
        match &self.by {
            Some(by) if by.render(context, record, out) => {}
            Some(_) => return Err("its `by` has nothing to stand for".into()),
            None => {
                let key = record.key.unwrap_or_default();
                out.extend_from_slice(&(key.len() as u64).to_le_bytes());
                out.extend_from_slice(key);
                out.extend_from_slice(record.value);
            }
        }
        let hash = XxHash3_128::oneshot(out);
        out.clear();
        out.extend_from_slice(&hash.to_be_bytes());
        Ok(())
    }

    fn has_timers(&self) -> bool {
        true
    }

    fn see(&self, time: Time, _: &RecordRef<'_>, kept: &mut Kept<'_>, _: &mut Made) -> Result<Answer, Reason> {
        if let Some((seen, ())) = kept.get::<()>()
            && !time.is_past(seen, self.within)
        {
            return Ok(Answer::Drop);
        }
        kept.put(time, &())?;
        kept.wake(time.now.boot + self.within);
        Ok(Answer::Pass)
    }

    fn fire(&self, time: Time, kept: &mut Kept<'_>, _: &mut Made) -> Result<(), Reason> {
        let Some((seen, ())) = kept.get::<()>() else { return Ok(()) };
        match time.since(seen).filter(|ago| *ago < self.within) {
            Some(ago) => kept.wake(time.now.boot + Span(self.within.0 - ago.0)),
            None => kept.remove(),
        }
        Ok(())
    }
}
