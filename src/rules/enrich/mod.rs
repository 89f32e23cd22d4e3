//! `enrich`: adds to a record what a file knows about it: a row of a table ([`lookup`]), or where an address is
//! ([`geo`]).
//!
//! The file's bytes are handed in, checked when they are, and kept in a form that costs little more memory than the file.
//! A file that has changed is a new rule.

pub mod geo;
pub mod lookup;
pub mod mmdb;
pub mod table;

use super::Answer;
use super::failed::Failed;

/// What becomes of a record about which nothing is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Missing {
    /// It goes on, with the defaults of those fields that have one.
    #[default]
    Pass,
    Drop,
    Fail,
}

impl Missing {
    /// What that is where nothing is added; `why`: the reason, if it is a failure.
    fn answer(self, why: &'static str) -> Result<Answer, Failed> {
        match self {
            Self::Pass => Ok(Answer::Pass),
            Self::Drop => Ok(Answer::Drop),
            Self::Fail => Err(Failed::because(why)),
        }
    }
}
