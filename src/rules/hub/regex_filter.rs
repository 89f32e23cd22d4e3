//! `regex-filter`: values that an expression matches somewhere pass, others are dropped. A value that is not UTF-8
//! fails.

use super::spec::With;
use super::{Error, Failure, Pattern, text};

#[derive(Clone, Debug, PartialEq)]
pub struct RegexFilter(Pattern);

impl RegexFilter {
    pub fn new(regex: &str) -> Result<Self, regex::Error> {
        Pattern::new(regex).map(Self)
    }

    pub(super) fn from_with(with: &With<'_>) -> Result<Self, Error> {
        Self::new(&with.text("regex")?).map_err(|e| with.bad("regex".into(), e.to_string()))
    }

    pub fn matches(&self, value: &[u8]) -> Result<bool, Failure> {
        Ok(self.0.0.is_match(text(value)?))
    }
}
