//! What a rule makes of a record: the words that rules answer with.

use std::borrow::Cow;

use super::rewrite::RewriteError;
use crate::json::Malformed;

/// What became of a record that a rule understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    /// It goes on as it came.
    Pass,
    /// It goes no further.
    Drop,
    /// Its value (or key, where the rule says so) is what was written to `out`.
    Value,
}

/// Why a rule could not work on a record: short, for logs and dead letters. What becomes of the record is the chain's
/// matter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Failed(pub Cow<'static, str>);

/// Bytes of a name from a record that a reason repeats.
const NAMED_BYTES: usize = 64;

impl Failed {
    pub const fn because(reason: &'static str) -> Self {
        Self(Cow::Borrowed(reason))
    }

    /// The field `name` (cut, if somebody else made it long) and what is wrong with it.
    pub fn field(name: &[u8], what: &str) -> Self {
        let name = String::from_utf8_lossy(&name[..name.len().min(NAMED_BYTES)]);
        Self(Cow::Owned(format!("field `{name}` {what}")))
    }
}

impl From<Malformed> for Failed {
    fn from(e: Malformed) -> Self {
        Self(Cow::Owned(e.to_string()))
    }
}

impl From<RewriteError> for Failed {
    fn from(e: RewriteError) -> Self {
        Self(Cow::Owned(e.to_string()))
    }
}
