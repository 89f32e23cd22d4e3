//! A chain of rules over records, compiled: its stages with their scratch buffers, what each did, and the way of a record
//! through them.

use super::made::Made;
use super::state;
use super::tally::Watch;
use super::{Answer, Clock, Env, OnError, Reason, Rule, RuleSpec, Tally, Told, World, hub, said, sql, wasm};
use crate::limits::MAX_REPORT;
use crate::name::Name;
use crate::record::{Flags, RecordRef};
use crate::time::BootTime;
use crate::topic::TopicName;

/// A compiled chain of rules with its scratch buffers.
pub struct Chain {
    pub(super) stages: Vec<Stage>,
}

pub(super) struct Stage {
    rule: Rule,
    tally: Tally,
    /// What it makes of a record.
    pub(super) made: Made,
    /// A rendered template, or a key.
    text: Vec<u8>,
    sql: sql::Scratch,
    /// Where a SmartModule runs, from the first record on.
    instance: Option<Box<wasm::Instance>>,
    /// Whether it has been shown what it looks back to.
    past: wasm::Past,
    watch: Watch,
    last_error: Option<Box<str>>,
    /// What it makes goes elsewhere: what it cannot work on stays where it is.
    derives: bool,
    /// Records that a counting rule has seen.
    turn: u32,
    /// No state of the rule asks for anything before this; None: none does at all.
    due: Option<BootTime>,
}

/// What a chain made of one record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    pub outputs: u32,
    /// Rules that failed on this record.
    pub errors: u32,
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
            past: rule.spec.look_back().map_or(wasm::Past::Unasked, |_| wasm::Past::Due),
            watch: Watch::default(),
            last_error: None,
            derives: false,
            turn: 0,
            // What was kept by an earlier process is looked at first.
            due: rule.spec.keeper().filter(|keeper| keeper.has_timers()).map(|_| BootTime::default()),
        };
        Self { stages: rules.iter().map(stage).collect() }
    }

    /// Its rules are timed by this.
    #[must_use]
    pub fn timed_by(mut self, clock: Option<Clock>) -> Self {
        self.stages.iter_mut().for_each(|stage| stage.watch.clock = clock);
        self
    }

    /// What it makes goes to another topic, beside the records that it is made of.
    #[must_use]
    pub fn deriving(mut self) -> Self {
        self.stages.iter_mut().for_each(|stage| stage.derives = true);
        self
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
    pub fn tallies(&self) -> impl Iterator<Item = (&Name, Told)> {
        let told = |stage: &Stage| Told { tally: stage.tally, last_error: stage.last_error.clone() };
        self.stages.iter().map(move |stage| (&stage.rule.name, told(stage)))
    }

    /// What its rules did since this was last asked; those that saw nothing are left out.
    pub fn take_told(&mut self) -> impl Iterator<Item = (&Name, Told)> {
        let seen = self.stages.iter_mut().filter(|stage| stage.tally.records_in > 0);
        seen.map(|stage| {
            let told = Told { tally: std::mem::take(&mut stage.tally), last_error: stage.last_error.take() };
            (&stage.rule.name, told)
        })
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

    /// Rules that hold records which are nowhere else, by place.
    pub fn holders(&self) -> Vec<(usize, Name)> {
        let holds = |stage: &Stage| stage.rule.spec.holds();
        let holders = self.stages.iter().enumerate().filter(|(_, stage)| holds(stage));
        holders.map(|(at, stage)| (at, stage.rule.name.clone())).collect()
    }

    /// The rule at a place is to be looked at again then, or before.
    pub fn wake(&mut self, at: usize, when: BootTime) {
        let due = &mut self.stages[at].due;
        *due = Some(due.map_or(when, |due| due.min(when)));
    }

    /// What one entry of a rule's state asks for by now; `ends`: all that it holds, because the rule does.
    pub fn fire(&mut self, at: usize, env: &Env<'_>, key: &[u8], ends: bool, world: &mut dyn World) -> Verdict {
        let mut verdict = Verdict::default();
        let (Some((stage, rest)), Some(time)) = (self.stages[at..].split_first_mut(), env.time) else { return verdict };
        stage.made.clear();
        let Stage { rule, made, due, tally, instance, watch, last_error, .. } = stage;
        let Some(keeper) = rule.spec.keeper() else { return verdict };
        let forgotten = &mut tally.forgotten;
        let holds = keeper.holds();
        let mut kept = state::Kept { rule: &rule.name, key, world: &mut *world, due, forgotten, holds, instance };
        let began = watch.begin();
        let fired = if ends {
            keeper.end(time, &mut kept, made);
            kept.remove();
            Ok(())
        } else {
            keeper.fire(time, &mut kept, made)
        };
        if let Err(reason) = fired {
            tally.errors += 1;
            *last_error = Some(shortened(&reason));
        }
        tally.nanos += watch.end(began);
        tally.made(made);
        let flags = if time.now.trusted { Flags::default() } else { Flags::CLOCK_UNTRUSTED };
        for record in stage.made.records(RecordRef { admitted: time.now.boot, flags, ..RecordRef::default() }) {
            run(rest, env, &record, world, &mut verdict);
        }
        verdict
    }
}

/// What is left of a chain behind the filters that stand next; None where one drops the record. Filters are by far the most
/// common rules, and most records end at one: nothing that others need is got ready, the record not even moved. One that
/// fails is left for [`Stage::run`], which says why.
#[inline(always)]
fn filtered<'s>(stages: &'s mut [Stage], record: &RecordRef<'_>) -> Option<&'s mut [Stage]> {
    let mut left = stages;
    while let Some((Stage { rule: Rule { spec: RuleSpec::Filter(condition), .. }, tally, watch, .. }, _)) =
        left.split_first_mut()
    {
        let began = watch.begin();
        let holds = condition.holds(record.value);
        tally.nanos += watch.end(began);
        let Ok(holds) = holds else { break };
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
                if !stage.passes_failed() {
                    return;
                }
            }
        }
        let Some(left) = filtered(rest, &record) else { return };
        stages = left;
    }
    world.emit(record);
    verdict.outputs += 1;
}

/// What a SmartModule that looks back is shown before it runs a record.
impl Chain {
    pub fn rule(&self, at: usize) -> &Rule {
        &self.stages[at].rule
    }

    /// The first rule that is to be shown the past, by place, and how far it looks back.
    pub fn unfed(&self) -> Option<(usize, wasm::LookBack)> {
        let mut due = self.stages.iter().enumerate().filter(|(_, stage)| stage.is_unfed());
        due.find_map(|(at, stage)| Some((at, stage.rule.spec.look_back()?)))
    }

    /// Shows the rule at a place records of the past; what it failed on is counted.
    pub fn show_past(&mut self, at: usize, records: &[RecordRef<'_>], base: wasm::Base) -> Result<(), wasm::Unshown> {
        let Stage { rule, instance, tally, last_error, watch, .. } = &mut self.stages[at];
        let RuleSpec::Wasm(guest) = &rule.spec else { return Ok(()) };
        let began = watch.begin();
        let shown = guest.show(instance, records, base);
        tally.nanos += watch.end(began);
        if let Err(unshown) = &shown {
            tally.errors += 1;
            *last_error = Some(shortened(&unshown.reason));
        }
        shown
    }

    /// The rule at a place goes without the past from now on.
    pub fn past_given_up(&mut self, at: usize) {
        self.stages[at].past = wasm::Past::GivenUp;
    }

    /// The rule at a place has been shown all of it.
    pub fn past_ends(&mut self, at: usize) {
        let stage = &mut self.stages[at];
        if stage.past == wasm::Past::Due {
            stage.past = wasm::Past::Shown;
        }
    }

    /// Begins to show the rule at a place the past: what it had seen is gone.
    pub fn past_begins(&mut self, at: usize) {
        let stage = &mut self.stages[at];
        (stage.past, stage.instance) = (wasm::Past::Due, None);
    }
}

/// A reason as it is kept.
fn shortened(reason: &str) -> Box<str> {
    let mut end = reason.len().min(MAX_REPORT);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    reason[..end].into()
}

impl Stage {
    /// Whether it is to be shown the past before it runs a record.
    fn is_unfed(&self) -> bool {
        match self.past {
            wasm::Past::Unasked | wasm::Past::GivenUp => false,
            wasm::Past::Due => true,
            // It began anew, or is about to.
            wasm::Past::Shown => self.instance.as_ref().is_none_or(|instance| instance.needs_look_back()),
        }
    }

    /// Whether a record that it failed on goes on as it is.
    fn passes_failed(&self) -> bool {
        !self.derives && matches!(self.rule.on_error, OnError::Pass | OnError::Stop)
    }

    fn run<'s>(
        &'s mut self,
        env: &Env<'_>,
        record: &RecordRef<'_>,
        world: &mut dyn World,
    ) -> (Result<Answer, Reason>, &'s Stage) {
        self.made.clear();
        self.tally.records_in += 1;
        self.tally.bytes_in += record.len() as u64;
        let began = self.watch.begin();
        let answer = self.answer(env, record, world);
        let goes_on = self.passes_failed();
        let tally = &mut self.tally;
        tally.nanos += self.watch.end(began);
        match &answer {
            // A record that is sent elsewhere goes on as well.
            Ok(Answer::Pass | Answer::Route(_)) => {
                tally.records_out += 1;
                tally.bytes_out += record.len() as u64;
            }
            Ok(Answer::Drop) => {}
            Ok(Answer::Value) => {
                tally.records_out += 1;
                tally.bytes_out += (record.len() - record.value.len() + self.made.bytes.len()) as u64;
            }
            Ok(Answer::Made) => tally.made(&self.made),
            Err(reason) => {
                tally.errors += 1;
                if goes_on {
                    tally.records_out += 1;
                    tally.bytes_out += record.len() as u64;
                }
                if self.last_error.as_deref() != Some(reason) {
                    self.last_error = Some(shortened(reason));
                }
            }
        }
        (answer, self)
    }

    fn answer(&mut self, env: &Env<'_>, record: &RecordRef<'_>, world: &mut dyn World) -> Result<Answer, Reason> {
        if self.is_unfed() {
            return Err("it began anew amid a batch: what it looks back to comes before the next one".into());
        }
        let Stage { rule, tally, made, text, sql, instance, turn, due, .. } = self;
        if let Some(keeper) = rule.spec.keeper() {
            let Some(time) = env.time else { return Err("it keeps state, which there is none of here".into()) };
            keeper.key(&env.context, record, text)?;
            let forgotten = &mut tally.forgotten;
            let holds = keeper.holds();
            let mut kept = state::Kept { rule: &rule.name, key: text, world, due, forgotten, holds, instance };
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
    // A sink has topics of its own, the node's as well.
    if env.time.is_none() && env.context.topic != query.from() {
        return Ok(Answer::Pass);
    }
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
