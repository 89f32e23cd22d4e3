//! Rules: what Fluvio calls SmartModules. Pure over records, in named chains.

use crate::record::RecordRef;
use crate::template::Context;

/// A checked rule, ready to be compiled. (One variant per rule file; config builds it, tests too.)
#[derive(Clone, Debug, PartialEq)]
pub enum RuleSpec {
    // Filter(filter::Spec), DropFields(..), KeepFields(..), Rename(..), AddFields(..), Sample(..)
}

/// A compiled chain of rules with its scratch buffers.
pub struct Chain {
    _todo: (),
}

/// What a chain made of one record. More than one output comes with later rules (array-map); the callback form
/// of [`Chain::apply`] is ready for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    pub outputs: u32,
    /// A rule failed on this record (malformed JSON where a field was needed, ...); the record passed unchanged.
    pub errors: u32,
}

impl Chain {
    pub fn new(_specs: &[RuleSpec]) -> Self {
        Self { _todo: () }
    }
    pub fn is_empty(&self) -> bool {
        todo!()
    }
    /// Runs the chain; `emit` gets each output, borrowed from the input or from scratch. A pure filter chain copies
    /// nothing and allocates nothing.
    pub fn apply(
        &mut self,
        _context: &Context<'_>,
        _record: RecordRef<'_>,
        _emit: &mut dyn FnMut(RecordRef<'_>),
    ) -> Verdict {
        todo!()
    }
}
