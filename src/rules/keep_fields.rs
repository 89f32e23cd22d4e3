//! `keep-fields`: leaves only the named fields of a JSON object. An object that only held other fields goes as well.

use super::rewrite::{Leaf, Plan, PlanError, RewriteError};
use crate::json::Path;

#[derive(Clone, Debug, PartialEq)]
pub struct KeepFields(Plan);

impl KeepFields {
    pub fn new(fields: Vec<Path>) -> Result<Self, PlanError> {
        Plan::new(fields.into_iter().map(|path| (path, Leaf::Keep)).collect(), false).map(Self)
    }

    pub fn rewrite(&self, value: &[u8], out: &mut Vec<u8>) -> Result<bool, RewriteError> {
        self.0.apply(value, &mut |_, _| false, out)
    }
}
