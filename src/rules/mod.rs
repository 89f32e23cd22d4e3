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
pub mod threshold;
pub mod throttle;
pub mod wasm;
pub mod window;

use std::borrow::Cow;

use made::Made;
use state::{Keeper, Time};

use crate::name::Name;
use crate::record::{Flags, RecordRef};
use crate::template::{Context, Template};
use crate::time::BootTime;
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
    /// It goes on as it is.
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

/// A compiled chain of rules with its scratch buffers.
pub struct Chain {
    stages: Vec<Stage>,
}

struct Stage {
    rule: Rule,
    tally: Tally,
    /// What it makes of a record.
    made: Made,
    /// A rendered template, or a key.
    text: Vec<u8>,
    sql: sql::Scratch,
    /// Where a SmartModule runs, from the first record on.
    instance: Option<Box<wasm::Instance>>,
    /// Records that a counting rule has seen.
    turn: u32,
    /// No state of the rule asks for anything before this; None: none does at all.
    due: Option<BootTime>,
}

/// What a rule has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub records_in: u64,
    pub records_out: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub errors: u64,
    /// State entries that it forgot to make room for others.
    pub forgotten: u64,
}

impl Tally {
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            records_in: self.records_in + other.records_in,
            records_out: self.records_out + other.records_out,
            bytes_in: self.bytes_in + other.bytes_in,
            bytes_out: self.bytes_out + other.bytes_out,
            errors: self.errors + other.errors,
            forgotten: self.forgotten + other.forgotten,
        }
    }
}

/// What a chain made of one record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    pub outputs: u32,
    /// Rules that failed on this record.
    pub errors: u32,
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

impl Chain {
    pub fn new(rules: &[Rule]) -> Self {
        let stage = |rule: &Rule| Stage {
            rule: rule.clone(),
            tally: Tally::default(),
            made: Made::default(),
            text: Vec::new(),
            sql: sql::Scratch::default(),
            instance: None,
            turn: 0,
            // What was kept by an earlier process is looked at first.
            due: rule.spec.keeper().filter(|keeper| keeper.has_timers()).map(|_| BootTime::default()),
        };
        Self { stages: rules.iter().map(stage).collect() }
    }

    pub fn is_empty(&self) -> bool {
        self.stages.is_empty()
    }

    pub fn keeps_state(&self) -> bool {
        self.stages.iter().any(|stage| stage.rule.spec.keeps_state())
    }

    /// Topics that its rules send records to by themselves.
    pub fn targets(&self) -> impl Iterator<Item = &TopicName> {
        self.stages.iter().flat_map(|stage| stage.rule.spec.targets())
    }

    /// Its rules, and what each has done.
    pub fn tallies(&self) -> impl Iterator<Item = (&Name, Tally)> {
        self.stages.iter().map(|stage| (&stage.rule.name, stage.tally))
    }

    /// Runs the chain; what comes out goes to the world, borrowed from the input or from scratch. A pure filter chain
    /// copies nothing and allocates nothing.
    pub fn apply(&mut self, env: &Env<'_>, record: &RecordRef<'_>, world: &mut dyn World) -> Verdict {
        let mut verdict = Verdict::default();
        run(&mut self.stages, env, record, world, &mut verdict);
        verdict
    }

    /// When [`Chain::fire`] is to be called for what the rules keep; None: for none of it.
    pub fn due(&self) -> Option<BootTime> {
        self.stages.iter().filter_map(|stage| stage.due).min()
    }

    /// The rules whose time has come, by place; each is to be fired for all that it keeps.
    pub fn take_due(&mut self, now: BootTime) -> Vec<(usize, Name)> {
        let due = self.stages.iter_mut().enumerate().filter(|(_, stage)| stage.due.is_some_and(|due| due <= now));
        due.map(|(at, stage)| {
            stage.due = None;
            (at, stage.rule.name.clone())
        })
        .collect()
    }

    /// The rule at a place is to be looked at again then, or before.
    pub fn wake(&mut self, at: usize, when: BootTime) {
        let due = &mut self.stages[at].due;
        *due = Some(due.map_or(when, |due| due.min(when)));
    }

    /// What one entry of a rule's state asks for by now.
    pub fn fire(&mut self, at: usize, env: &Env<'_>, key: &[u8], world: &mut dyn World) -> Verdict {
        let mut verdict = Verdict::default();
        let (Some((stage, rest)), Some(time)) = (self.stages[at..].split_first_mut(), env.time) else { return verdict };
        stage.made.clear();
        let Stage { rule, made, due, tally, instance, .. } = stage;
        let Some(keeper) = rule.spec.keeper() else { return verdict };
        let forgotten = &mut tally.forgotten;
        let mut kept = state::Kept { rule: &rule.name, key, world: &mut *world, due, forgotten, instance };
        if keeper.fire(time, &mut kept, made).is_err() {
            tally.errors += 1;
        }
        tally.made(made);
        let flags = if time.now.trusted { Flags::default() } else { Flags::CLOCK_UNTRUSTED };
        for record in stage.made.records(RecordRef { admitted: time.now.boot, flags, ..RecordRef::default() }) {
            run(rest, env, &record, world, &mut verdict);
        }
        verdict
    }
}

impl Tally {
    fn filtered(&mut self, bytes: u64, passes: bool) {
        self.records_in += 1;
        self.bytes_in += bytes;
        self.records_out += u64::from(passes);
        self.bytes_out += if passes { bytes } else { 0 };
    }

    fn made(&mut self, made: &Made) {
        let (records, bytes) = made.weigh();
        self.records_out += records;
        self.bytes_out += bytes;
    }
}

/// What is left of a chain behind the filters that stand next; None where one drops the record. Filters are by far the most
/// common rules, and most records end at one: nothing that others need is got ready, the record not even moved. One that
/// fails is left for [`Stage::run`], which says why.
#[inline(always)]
fn filtered<'s>(stages: &'s mut [Stage], record: &RecordRef<'_>) -> Option<&'s mut [Stage]> {
    let mut left = stages;
    while let Some((Stage { rule: Rule { spec: RuleSpec::Filter(condition), .. }, tally, .. }, _)) =
        left.split_first_mut()
    {
        let Ok(holds) = condition.holds(record.value) else { break };
        tally.filtered(record.len() as u64, holds);
        if !holds {
            return None;
        }
        left = &mut left[1..];
    }
    Some(left)
}

/// A record through what is left of a chain.
#[inline(always)]
fn run(stages: &mut [Stage], env: &Env<'_>, record: &RecordRef<'_>, world: &mut dyn World, verdict: &mut Verdict) {
    match filtered(stages, record) {
        None => {}
        Some([]) => {
            world.emit(*record);
            verdict.outputs += 1;
        }
        Some(left) => run_all(left, env, *record, world, verdict),
    }
}

/// A record through a chain that does not begin with a filter, or with one that fails.
#[inline(never)]
fn run_all(stages: &mut [Stage], env: &Env<'_>, record: RecordRef<'_>, world: &mut dyn World, verdict: &mut Verdict) {
    let (mut stages, mut record) = (stages, record);
    while let Some((stage, rest)) = stages.split_first_mut() {
        let (answer, stage) = stage.run(env, &record, world);
        match answer {
            Ok(Answer::Pass) => {}
            Ok(Answer::Drop) => return,
            Ok(Answer::Value) => record.value = &stage.made.bytes,
            Ok(Answer::Made) => {
                for made in stage.made.records(record) {
                    run(rest, env, &made, world, verdict);
                }
                return;
            }
            Ok(Answer::Route(to)) => {
                if let RuleSpec::Route(route) = &stage.rule.spec {
                    world.route(route.target(to), record);
                    verdict.outputs += 1;
                }
                return;
            }
            Err(reason) => {
                verdict.errors += 1;
                world.failed(&stage.rule, &record, &reason);
                match stage.rule.on_error {
                    OnError::Pass | OnError::Stop => {}
                    OnError::Drop | OnError::DeadLetter => return,
                }
            }
        }
        let Some(left) = filtered(rest, &record) else { return };
        stages = left;
    }
    world.emit(record);
    verdict.outputs += 1;
}

impl Stage {
    fn run<'s>(
        &'s mut self,
        env: &Env<'_>,
        record: &RecordRef<'_>,
        world: &mut dyn World,
    ) -> (Result<Answer, Reason>, &'s Stage) {
        self.made.clear();
        self.tally.records_in += 1;
        self.tally.bytes_in += record.len() as u64;
        let answer = self.answer(env, record, world);
        let tally = &mut self.tally;
        match &answer {
            Ok(Answer::Pass) => {
                tally.records_out += 1;
                tally.bytes_out += record.len() as u64;
            }
            Ok(Answer::Drop) => {}
            Ok(Answer::Route(_)) => tally.records_out += 1,
            Ok(Answer::Value) => {
                tally.records_out += 1;
                tally.bytes_out += (record.len() - record.value.len() + self.made.bytes.len()) as u64;
            }
            Ok(Answer::Made) => tally.made(&self.made),
            Err(_) => tally.errors += 1,
        }
        (answer, self)
    }

    fn answer(&mut self, env: &Env<'_>, record: &RecordRef<'_>, world: &mut dyn World) -> Result<Answer, Reason> {
        let Stage { rule, tally, made, text, sql, instance, turn, due } = self;
        if let Some(keeper) = rule.spec.keeper() {
            let Some(time) = env.time else { return Err("it keeps state, which there is none of here".into()) };
            keeper.key(&env.context, record, text)?;
            let forgotten = &mut tally.forgotten;
            let mut kept = state::Kept { rule: &rule.name, key: text, world, due, forgotten, instance };
            return keeper.see(time, record, &mut kept, made);
        }
        let (value, context) = (record.value, &env.context);
        let passes = |holds: bool| if holds { Answer::Pass } else { Answer::Drop };
        let rewritten = match &rule.spec {
            RuleSpec::Filter(condition) => return condition.holds(value).map(passes).map_err(said),
            RuleSpec::Sample(sample) => return sample.passes(context, record, turn, text).map(passes).map_err(said),
            RuleSpec::Route(route) => {
                return Ok(route.choose(value).map_err(said)?.map_or(Answer::Pass, Answer::Route));
            }
            RuleSpec::Sql(query) => return run_query(query, env, record, (sql, &mut made.bytes)),
            RuleSpec::Wasm(guest) => return guest.run(instance, env.time, record, made),
            RuleSpec::Hub(module) => return run_module(module, value, text, made),
            RuleSpec::Schema(schema) => return schema.rewrite(record).map_err(Reason::from),
            RuleSpec::Parse(parse) => return parse.rewrite(record, text, &mut made.bytes).map_err(Reason::from),
            RuleSpec::Lookup(rule) => {
                return rule.rewrite(context, record, text, &mut made.bytes).map_err(Reason::from);
            }
            RuleSpec::Geo(rule) => return rule.rewrite(context, record, text, &mut made.bytes).map_err(Reason::from),
            RuleSpec::Mask(mask) => {
                let answer = mask.rewrite(record, &mut made.bytes)?;
                return Ok(made.with_key(answer, mask.rewrite_key(record, text), text, record));
            }
            RuleSpec::Hash(hash) => {
                let answer = hash.rewrite(record, &mut made.bytes)?;
                return Ok(made.with_key(answer, hash.rewrite_key(record, text), text, record));
            }
            RuleSpec::DropFields(rule) => rule.rewrite(value, &mut made.bytes),
            RuleSpec::KeepFields(rule) => rule.rewrite(value, &mut made.bytes),
            RuleSpec::Rename(rule) => rule.rewrite(value, &mut made.bytes),
            RuleSpec::AddFields(rule) => rule.rewrite(context, record, text, &mut made.bytes),
            _ => Ok(false),
        };
        rewritten.map(Answer::rewritten).map_err(said)
    }
}

fn run_query(
    query: &sql::Query,
    env: &Env<'_>,
    record: &RecordRef<'_>,
    (scratch, out): (&mut sql::Scratch, &mut Vec<u8>),
) -> Result<Answer, Reason> {
    let admitted = env.time.filter(|time| time.now.trusted).map(|time| time.now.wall);
    let input = sql::Input { context: &env.context, record: *record, admitted };
    Ok(match query.apply(&input, scratch, out).map_err(said)? {
        sql::Outcome::Dropped => Answer::Drop,
        sql::Outcome::Same => Answer::Pass,
        sql::Outcome::Value => Answer::Value,
    })
}

fn run_module(module: &hub::Module, value: &[u8], text: &mut Vec<u8>, out: &mut Made) -> Result<Answer, Reason> {
    Ok(match module.apply(value, text, &mut |made| out.push_keyless(made)).map_err(said)? {
        hub::Made::Pass => Answer::Pass,
        hub::Made::Drop => Answer::Drop,
        hub::Made::Many => Answer::Made,
        hub::Made::Value => {
            out.bytes.extend_from_slice(text);
            Answer::Value
        }
    })
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
