//! `drop-fields`: takes fields out of a JSON object. Fields that are not there are no error.

use super::rewrite::{Leaf, Plan, PlanError, RewriteError};
use crate::json::Path;

#[derive(Clone, Debug, PartialEq)]
pub struct DropFields(Plan);

impl DropFields {
    pub fn new(fields: Vec<Path>) -> Result<Self, PlanError> {
        Plan::new(fields.into_iter().map(|path| (path, Leaf::Drop)).collect(), true).map(Self)
    }

    pub fn rewrite(&self, value: &[u8], out: &mut Vec<u8>) -> Result<bool, RewriteError> {
        self.0.apply(value, &mut |_, _| false, out)
    }
}
