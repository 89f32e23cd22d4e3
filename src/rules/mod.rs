//! Rules: what Fluvio calls SmartModules. In named chains over records; one file per rule.
//!
//! A rule passes a record, drops it, rewrites it, makes several of it, or sends it to another topic; times, flags and attributes
//! stay. A rule that fails on a record (malformed JSON where a field was needed) does what its [`OnError`] says, and the failure is
//! counted. Unless told otherwise it passes the record unchanged: losing data because it is odd would be the worse mistake.
//!
//! [`RuleSpec`] is checked when it is made, so that compiling a [`Chain`] cannot fail. What passes is never copied; what
//! is rewritten is written once per rewriting rule, into that rule's own scratch buffer.
//!
//! Rules before the ring may look at time and keep state ([`state`]); those before a sink may not, because a record is seen again
//! there after every reconnect and must come out the same. What a chain acts upon beside the record is its [`World`]: the
//! pipeline's has the ring, a sink's has only a way out.

pub mod add_fields;
mod chain;
pub mod deadband;
pub mod debounce;
pub mod dedup;
pub mod drop_fields;
pub mod enrich;
pub mod failed;
pub mod filter;
pub mod hash;
pub mod hub;
pub mod keep_fields;
pub mod made;
pub mod mask;
mod moment;
pub mod number;
pub mod parse;
pub mod rate;
pub mod rename;
pub mod replace;
pub mod rewrite;
pub mod route;
pub mod sample;
pub mod schema;
pub mod sql;
pub mod state;
mod tally;
pub mod threshold;
pub mod throttle;
pub mod wasm;
pub mod window;

use std::borrow::Cow;

pub use chain::{Chain, Verdict};
use made::Made;
use state::{Keeper, Time};
pub use tally::{Clock, Tally, Told};

use crate::name::Name;
use crate::record::RecordRef;
use crate::template::{Context, Template};
use crate::topic::TopicName;

/// What a rule does: checked, ready to be compiled.
#[derive(Clone, Debug, PartialEq)]
pub enum RuleSpec {
    Filter(filter::Condition),
    DropFields(drop_fields::DropFields),
    KeepFields(keep_fields::KeepFields),
    Rename(rename::Rename),
    AddFields(add_fields::AddFields),
    Sample(sample::Sample),
    Deadband(deadband::Deadband),
    Throttle(throttle::Throttle),
    Debounce(debounce::Debounce),
    Threshold(threshold::Threshold),
    RateOfChange(rate::RateOfChange),
    Dedup(dedup::Dedup),
    Route(route::Route),
    Window(window::Window),
    Parse(Box<parse::Parse>),
    Mask(mask::Masking),
    Hash(hash::Hashing),
    Lookup(Box<enrich::lookup::Lookup>),
    Geo(Box<enrich::geo::Geo>),
    Schema(schema::Schema),
    Sql(sql::Query),
    Hub(Box<hub::Module>),
    Wasm(Box<wasm::Guest>),
}

/// What becomes of a record on which a rule fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnError {
    /// It goes on as it is; of a rule that makes another topic's records, in its own topic only.
    #[default]
    Pass,
    Drop,
    /// It becomes a dead letter, with the reason.
    DeadLetter,
    /// It goes on as it is, and its topic takes nothing more until the configuration is read again.
    Stop,
}

/// A rule of a chain.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    pub name: Name,
    pub spec: RuleSpec,
    pub on_error: OnError,
    /// Of `uses` and `with`: what is kept under another one is not this rule's.
    pub definition: u64,
}

impl Rule {
    /// With the usual policy, and a definition that is none other's.
    pub fn new(name: Name, spec: RuleSpec) -> Self {
        Self { name, spec, on_error: OnError::default(), definition: 0 }
    }
}

/// What a rule sees beside the record.
#[derive(Clone, Copy, Debug)]
pub struct Env<'a> {
    pub context: Context<'a>,
    /// None before a sink: nothing there may depend on it.
    pub time: Option<Time>,
}

/// What a chain acts upon.
pub trait World {
    /// What comes out of the chain.
    fn emit(&mut self, record: RecordRef<'_>);
    /// What a rule sends to a topic of its own choice.
    fn route(&mut self, topic: &TopicName, record: RecordRef<'_>);
    /// What a rule failed on, and why, where its policy is not to pass it.
    fn failed(&mut self, rule: &Rule, record: &RecordRef<'_>, reason: &str);
    /// What a rule keeps under a key, in the record's topic and partition.
    fn state(&self, rule: &Name, key: &[u8]) -> Option<&[u8]>;
    /// Keeps it, durable with what comes out of the chain. False: there is no room for more.
    fn put_state(&mut self, rule: &Name, key: &[u8], value: Option<&[u8]>) -> bool;
    /// Makes room for more of a rule's state by forgetting what was touched longest ago; how many entries that were.
    fn forget_oldest(&mut self, rule: &Name) -> u32;
}

impl RuleSpec {
    /// Whether the outcome depends on nothing but the record: only such rules may stand before a sink, where a record
    /// is seen again after every reconnect.
    pub fn is_pure(&self) -> bool {
        match self {
            Self::Sample(sample) => sample.by.is_some(),
            Self::Route(_) => false,
            Self::Wasm(guest) => guest.is_pure(),
            _ => !self.keeps_state(),
        }
    }

    /// Whether it keeps something between records, in the ring.
    pub fn keeps_state(&self) -> bool {
        self.keeper().is_some()
    }

    /// Whether what it keeps stands for records, and is not forgotten to make room for other things.
    pub fn holds(&self) -> bool {
        self.keeper().is_some_and(Keeper::holds)
    }

    fn keeper(&self) -> Option<&dyn Keeper> {
        Some(match self {
            Self::Deadband(rule) => rule,
            Self::Throttle(rule) => rule,
            Self::Debounce(rule) => rule,
            Self::Threshold(rule) => rule,
            Self::RateOfChange(rule) => rule,
            Self::Dedup(rule) => rule,
            Self::Window(rule) => rule,
            Self::Wasm(guest) if guest.aggregates() => &**guest,
            _ => return None,
        })
    }

    /// How far it looks back, if it does.
    pub fn look_back(&self) -> Option<wasm::LookBack> {
        if let Self::Wasm(guest) = self { guest.look_back() } else { None }
    }

    /// Topics that it sends records to by itself.
    pub fn targets(&self) -> impl Iterator<Item = &TopicName> {
        let route = if let Self::Route(route) = self { Some(route) } else { None };
        route.into_iter().flat_map(route::Route::targets)
    }

    /// The templates it renders.
    pub fn templates(&self) -> Vec<&Template> {
        match self {
            Self::AddFields(add) => add.templates().collect(),
            Self::Sample(sample) => sample.by.iter().collect(),
            Self::Lookup(lookup) => lookup.templates().collect(),
            Self::Geo(geo) => geo.templates().collect(),
            _ => self.keeper().and_then(Keeper::by).into_iter().collect(),
        }
    }
}

/// Why a rule failed on a record.
pub type Reason = Cow<'static, str>;

/// What a rule makes of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Pass,
    Drop,
    /// A new value: all of the buffer of [`Made`].
    Value,
    /// What was pushed to [`Made`], in its place.
    Made,
    /// It goes to the rule's target of this number.
    Route(usize),
}

impl Answer {
    /// Of a rule that writes a new value where there is something to change.
    pub fn rewritten(changed: bool) -> Self {
        if changed { Self::Value } else { Self::Pass }
    }
}

fn said(error: impl std::fmt::Display) -> Reason {
    error.to_string().into()
}

/// The world of rules before a sink: a way out, and nothing kept.
pub struct WayOut<'a>(pub &'a mut dyn FnMut(RecordRef<'_>));

impl World for WayOut<'_> {
    fn emit(&mut self, record: RecordRef<'_>) {
        (self.0)(record);
    }

    fn route(&mut self, _: &TopicName, record: RecordRef<'_>) {
        (self.0)(record);
    }

    fn failed(&mut self, _: &Rule, _: &RecordRef<'_>, _: &str) {}

    fn state(&self, _: &Name, _: &[u8]) -> Option<&[u8]> {
        None
    }

    fn put_state(&mut self, _: &Name, _: &[u8], _: Option<&[u8]>) -> bool {
        false
    }

    fn forget_oldest(&mut self, _: &Name) -> u32 {
        0
    }
}

#[cfg(test)]
mod tests;
