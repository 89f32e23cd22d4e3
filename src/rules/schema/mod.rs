//! `schema`: records whose value does not fit a JSON Schema go no further, or fail with what does not fit and where.
//!
//! The dialect is 2020-12 (draft-bhutton-json-schema-01 and -validation-01), as far as it says something about a value by
//! itself:
//!
//! | of | keywords |
//! |---|---|
//! | any value | `type` `enum` `const` `allOf` `anyOf` `oneOf` `not` `if` `then` `else` `$ref` (within the document: `#`, `#/...`) |
//! | numbers | `minimum` `maximum` `exclusiveMinimum` `exclusiveMaximum` `multipleOf` |
//! | text | `minLength` `maxLength` `pattern` `format` (`date-time` `date` `time` `ipv4` `ipv6` `uuid`: checked, not just noted) |
//! | objects | `properties` `patternProperties` `additionalProperties` `propertyNames` `required` `minProperties` `maxProperties` |
//! | arrays | `prefixItems` `items` `contains` `minItems` `maxItems` `uniqueItems` |
//!
//! `$defs` and `definitions` hold schemas to refer to. What only describes (`title`, `default`, `examples`, `x-...`) is
//! passed over. Any other keyword is an error by its name: a constraint that is not held would be worse than none.
//!
//! Numbers are compared as the decimals they are written as, to the last digit; `1` and `1.0` are one number. A name that an
//! object has twice is checked twice. The value is walked as it stands, no tree is built. A document that sends a
//! schema back and forth (`anyOf` within a recursion) is given up after a bounded amount of work, and fails.

mod check;
mod compile;
mod format;
mod number;

use std::borrow::Cow;
use std::sync::Arc;

use super::Answer;
use super::failed::Failed;
use crate::json::Scanner;
use crate::record::RecordRef;
pub use compile::SchemaError;

/// What becomes of a record that does not fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Misfit {
    #[default]
    Fail,
    Drop,
}

/// A checked rule.
#[derive(Clone)]
pub struct Schema {
    text: Arc<[u8]>,
    compiled: Arc<compile::Compiled>,
    misfit: Misfit,
}

impl PartialEq for Schema {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text && self.misfit == other.misfit
    }
}

impl std::fmt::Debug for Schema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Schema {{ {} bytes, {:?} }}", self.text.len(), self.misfit)
    }
}

impl Schema {
    pub fn new(text: &[u8], misfit: Misfit) -> Result<Self, SchemaError> {
        let compiled = compile::compile(text)?;
        Ok(Self { text: text.into(), compiled: Arc::new(compiled), misfit })
    }

    /// Passes what fits; never rewrites.
    pub fn rewrite(&self, record: &RecordRef<'_>) -> Result<Answer, Failed> {
        match (self.fits(record.value), self.misfit) {
            (Ok(()), _) => Ok(Answer::Pass),
            (Err(_), Misfit::Drop) => Ok(Answer::Drop),
            (Err(why), Misfit::Fail) => Err(why),
        }
    }

    fn fits(&self, value: &[u8]) -> Result<(), Failed> {
        let mut scan = Scanner::new(value);
        scan.space();
        let whole = scan.value(0)?;
        scan.end()?;
        check::check(&self.compiled, whole).map_err(|wrong| Failed(Cow::Owned(wrong.to_string())))
    }
}

#[cfg(test)]
mod tests;
