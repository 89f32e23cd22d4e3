//! `sample`: one record in `every`.
//!
//! Without `by` it counts: the first record passes, then every n-th; the count begins anew with the process and is
//! therefore not repeatable, so such a rule stands before the ring only. With `by`, a template, it is the same records
//! always: those whose rendered text falls into one of `every` equal parts of a hash (`by = "{key}"`: one device in n,
//! and everything of it). A record for which the template has nothing to stand for passes and is counted as an error.

use twox_hash::XxHash3_64;

use crate::record::RecordRef;
use crate::template::{Context, Template};

#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// At least 1.
    pub every: u32,
    pub by: Option<Template>,
}

#[derive(Debug, thiserror::Error)]
#[error("its `by` has nothing to stand for")]
pub struct NothingToHash;

impl Sample {
    /// Whether the record passes. `turn` is the count of records seen, `text` scratch.
    pub fn passes(
        &self,
        context: &Context<'_>,
        record: &RecordRef<'_>,
        turn: &mut u32,
        text: &mut Vec<u8>,
    ) -> Result<bool, NothingToHash> {
        let Some(by) = &self.by else {
            let passes = *turn == 0;
            *turn = (*turn + 1) % self.every.max(1);
            return Ok(passes);
        };
        text.clear();
        if !by.render(context, record, text) {
            return Err(NothingToHash);
        }
        Ok(XxHash3_64::oneshot(text).is_multiple_of(u64::from(self.every.max(1))))
    }
}
