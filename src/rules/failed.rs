//! Why a rule could not work on a record.

use std::borrow::Cow;

use super::rewrite::RewriteError;
use crate::json::Malformed;

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

impl From<Failed> for super::Reason {
    fn from(failed: Failed) -> Self {
        failed.0
    }
}
