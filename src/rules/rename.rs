//! `rename`: gives fields of a JSON object another name, in their place. A path says which, its last name is replaced.
//!
//! A name that another field already has is an error on that record: nothing is overwritten. Fields that change names
//! with each other are fine.

use super::rewrite::{Leaf, Plan, PlanError, RewriteError};
use crate::json::Path;

#[derive(Clone, Debug, PartialEq)]
pub struct Rename(Plan);

impl Rename {
    pub fn new(fields: Vec<(Path, String)>) -> Result<Self, PlanError> {
        Plan::new(fields.into_iter().map(|(path, to)| (path, Leaf::Rename(to))).collect(), true).map(Self)
    }

    pub fn rewrite(&self, value: &[u8], out: &mut Vec<u8>) -> Result<bool, RewriteError> {
        self.0.apply(value, &mut |_, _| false, out)
    }
}
