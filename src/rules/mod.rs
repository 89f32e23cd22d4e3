//! Rules: what Fluvio calls SmartModules. Pure over records, in named chains; one file per rule.
//!
//! A rule passes a record, drops it, or rewrites its value; key, times, flags and attributes stay. A rule that fails on a
//! record (malformed JSON where a field was needed) passes it unchanged, and the failure is counted: losing data
//! because it is odd would be the worse mistake.
//!
//! [`RuleSpec`] is checked when it is made, so that compiling a [`Chain`] cannot fail. What passes is never copied; what
//! is rewritten is written once per rewriting rule, into that rule's own scratch buffer.

pub mod add_fields;
pub mod drop_fields;
pub mod filter;
pub mod keep_fields;
pub mod rename;
pub mod rewrite;
pub mod sample;
pub mod wasm;

use crate::limits::FRAME_RAW_TARGET;
use crate::record::RecordRef;
use crate::template::{Context, Template};

/// A checked rule, ready to be compiled.
#[derive(Clone, Debug, PartialEq)]
pub enum RuleSpec {
    Filter(filter::Condition),
    DropFields(drop_fields::DropFields),
    KeepFields(keep_fields::KeepFields),
    Rename(rename::Rename),
    AddFields(add_fields::AddFields),
    Sample(sample::Sample),
}

impl RuleSpec {
    /// Whether the outcome depends on nothing but the record: only such rules may stand before a sink, where a record
    /// is seen again after every reconnect.
    pub fn is_pure(&self) -> bool {
        !matches!(self, RuleSpec::Sample(sample) if sample.by.is_none())
    }

    /// The templates it renders.
    pub fn templates(&self) -> Vec<&Template> {
        match self {
            RuleSpec::AddFields(add) => add.templates().collect(),
            RuleSpec::Sample(sample) => sample.by.iter().collect(),
            RuleSpec::Filter(_) | RuleSpec::DropFields(_) | RuleSpec::KeepFields(_) | RuleSpec::Rename(_) => Vec::new(),
        }
    }
}

/// A compiled chain of rules with its scratch buffers.
pub struct Chain {
    stages: Vec<Stage>,
}

struct Stage {
    spec: RuleSpec,
    /// The rewritten value.
    out: Vec<u8>,
    /// A rendered template.
    text: Vec<u8>,
    /// Records that a counting rule has seen.
    turn: u32,
}

/// What a chain made of one record. More than one output comes with later rules (array-map); the callback form
/// of [`Chain::apply`] is ready for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    pub outputs: u32,
    /// A rule failed on this record (malformed JSON where a field was needed, ...); the record passed unchanged.
    pub errors: u32,
}

/// What a stage makes of a record.
enum Outcome<'a> {
    Pass,
    Drop,
    Value(&'a [u8]),
    /// Passes unchanged, counted.
    Failed,
}

impl Chain {
    pub fn new(specs: &[RuleSpec]) -> Self {
        let stage = |spec: &RuleSpec| Stage { spec: spec.clone(), out: Vec::new(), text: Vec::new(), turn: 0 };
        Self { stages: specs.iter().map(stage).collect() }
    }

    pub fn is_empty(&self) -> bool {
        self.stages.is_empty()
    }

    /// Runs the chain; `emit` gets each output, borrowed from the input or from scratch. A pure filter chain copies
    /// nothing and allocates nothing.
    pub fn apply(
        &mut self,
        context: &Context<'_>,
        record: RecordRef<'_>,
        emit: &mut dyn FnMut(RecordRef<'_>),
    ) -> Verdict {
        let mut record = record;
        let mut errors = 0;
        for stage in &mut self.stages {
            match stage.run(context, &record) {
                Outcome::Pass => {}
                Outcome::Drop => return Verdict { outputs: 0, errors },
                Outcome::Value(value) => record.value = value,
                Outcome::Failed => errors += 1,
            }
        }
        emit(record);
        Verdict { outputs: 1, errors }
    }
}

impl Stage {
    fn run<'s>(&'s mut self, context: &Context<'_>, record: &RecordRef<'_>) -> Outcome<'s> {
        // A rare huge record must not leave its size behind for good.
        if self.out.capacity() > 2 * FRAME_RAW_TARGET {
            self.out = Vec::new();
        }
        let rewritten = match &self.spec {
            RuleSpec::Filter(condition) => return passes(condition.holds(record.value)),
            RuleSpec::Sample(s) => return passes(s.passes(context, record, &mut self.turn, &mut self.text)),
            RuleSpec::DropFields(rule) => rule.rewrite(record.value, &mut self.out),
            RuleSpec::KeepFields(rule) => rule.rewrite(record.value, &mut self.out),
            RuleSpec::Rename(rule) => rule.rewrite(record.value, &mut self.out),
            RuleSpec::AddFields(rule) => rule.rewrite(context, record, &mut self.text, &mut self.out),
        };
        match rewritten {
            Ok(true) => Outcome::Value(&self.out),
            Ok(false) => Outcome::Pass,
            Err(_) => Outcome::Failed,
        }
    }
}

fn passes<'s, E>(answer: Result<bool, E>) -> Outcome<'s> {
    match answer {
        Ok(true) => Outcome::Pass,
        Ok(false) => Outcome::Drop,
        Err(_) => Outcome::Failed,
    }
}

#[cfg(test)]
mod tests;
