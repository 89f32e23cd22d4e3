//! What happens to a record of a topic before the ring: the rules that name its topic, in the config's order.
//!
//! Rules without `into` follow one another in place. A rule with `into` takes a copy of the record as it stands there:
//! what it makes goes to its own topic, through that topic's rules; the record itself goes on. A `route` rule sends the record itself.
//! A topic's route is taken out while a record is in it, so a cycle ends by itself: the record that comes round is appended as it is.

use super::Plan;
use super::letters::rule_letter;
use super::rules::{forget_oldest, owner, state_key};
use crate::name::Name;
use crate::record::RecordRef;
use crate::ring::{AppendError, Appended, OwnerKind, Ring};
use crate::rules::{Chain, Env, OnError, Rule, World};
use crate::template::Context;
use crate::time::{BootTime, Span};
use crate::topic::{TopicId, TopicName, TopicPart};

/// The compiled rules of one topic.
pub(super) struct Route {
    pub name: TopicName,
    pub max_age: Option<Span>,
    /// The rule that stopped it, and why.
    pub stopped: Option<(Name, String)>,
    /// The topic beside whose records its rules' state stands, theirs or that of rules further on.
    pub beside: Option<TopicId>,
    stages: Vec<Stage>,
}

pub(super) enum Stage {
    InPlace(Chain),
    Branch(Chain, TopicId),
}

impl Stage {
    fn chain(&self) -> &Chain {
        let (Self::InPlace(chain) | Self::Branch(chain, _)) = self;
        chain
    }

    /// Where what it makes goes.
    pub fn beside(&self, own: TopicId) -> TopicId {
        if let Self::Branch(_, into) = self { *into } else { own }
    }

    fn chain_mut(&mut self) -> &mut Chain {
        let (Self::InPlace(chain) | Self::Branch(chain, _)) = self;
        chain
    }
}

/// Where a rule stands in a route.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub stage: usize,
    /// In the stage's chain.
    pub chain: usize,
    pub rule: Name,
}

/// What became of one offered record.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub first: Option<Appended>,
    pub outputs: u32,
    pub errors: u32,
    pub too_large: Option<(usize, usize)>,
    /// Letters to be written beside.
    pub letters: Vec<Vec<u8>>,
    /// The rule that stops what brought the record, and why.
    pub stops: Option<(Name, String)>,
    /// For who listens ([`super::Pipeline::listen`]).
    pub failures: Option<Vec<Failure>>,
}

/// A rule that failed on a record, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub rule: Name,
    pub reason: String,
}

/// Everything a record meets on its way: split off the pipeline so that its parts can be borrowed side by side.
pub(super) struct Way<'a> {
    pub ring: &'a mut Ring,
    pub routes: &'a mut [Option<Route>],
    pub plan: &'a Plan,
    pub env: Env<'a>,
    pub outcome: Outcome,
}

impl Route {
    /// Compiles the rules of `plan` that name `topic`; `open` gives the number of a topic that a rule sends to.
    pub fn compile(plan: &Plan, topic: &TopicName, mut open: impl FnMut(&TopicName) -> Option<TopicId>) -> Self {
        let chain = |rules: &[Rule]| Chain::new(rules).timed_by(plan.clock);
        let mut stages = Vec::new();
        let mut run = Vec::new();
        for planned in plan.rules.iter().filter(|planned| planned.topics.contains(topic)) {
            for target in planned.rule.spec.targets() {
                open(target);
            }
            match planned.into.as_ref().map(&mut open) {
                None => run.push(planned.rule.clone()),
                Some(into) => {
                    if !run.is_empty() {
                        stages.push(Stage::InPlace(chain(&std::mem::take(&mut run))));
                    }
                    // With the topic table full the raw record is still kept.
                    if let Some(into) = into {
                        stages.push(Stage::Branch(chain(std::slice::from_ref(&planned.rule)).deriving(), into));
                    }
                }
            }
        }
        if !run.is_empty() {
            stages.push(Stage::InPlace(chain(&run)));
        }
        Self { name: topic.clone(), max_age: None, stopped: None, beside: None, stages }
    }

    /// The topic's name and what its records meet.
    pub fn parts(&mut self) -> (&str, &mut [Stage]) {
        (self.name.as_str(), &mut self.stages)
    }

    pub fn chains(&self) -> impl Iterator<Item = &Chain> {
        self.stages.iter().map(Stage::chain)
    }

    pub fn chain_at(&mut self, stage: usize) -> Option<&mut Chain> {
        self.stages.get_mut(stage).map(Stage::chain_mut)
    }

    /// Where what a stage makes goes.
    pub fn beside(&self, stage: usize, own: TopicId) -> TopicId {
        self.stages.get(stage).map_or(own, |stage| stage.beside(own))
    }

    /// The first rule that keeps something puts its outputs there; None: none does.
    pub fn keeper(&self, own: TopicId) -> Option<TopicId> {
        let keeping = self.stages.iter().find(|stage| stage.chain().keeps_state())?;
        Some(keeping.beside(own))
    }

    /// Topics that its records may go to from here.
    pub fn ways(&self, own: TopicId, ring: &Ring) -> Vec<TopicId> {
        let routed = self.chains().flat_map(Chain::targets).filter_map(|topic| ring.topic_id(topic.as_str()));
        self.stages.iter().map(|stage| stage.beside(own)).filter(|topic| *topic != own).chain(routed).collect()
    }

    pub fn due(&self) -> Option<BootTime> {
        self.chains().filter_map(Chain::due).min()
    }

    /// The rules whose time has come.
    pub fn take_due(&mut self, now: BootTime) -> Vec<Place> {
        let stages = self.stages.iter_mut().enumerate();
        let places = stages.flat_map(|(stage, of)| {
            let due = of.chain_mut().take_due(now).into_iter();
            due.map(move |(chain, rule)| Place { stage, chain, rule })
        });
        places.collect()
    }

    /// Rules that hold records which are nowhere else.
    pub fn holders(&self) -> Vec<Place> {
        let stages = self.stages.iter().enumerate();
        let places = stages.flat_map(|(stage, of)| {
            let holders = of.chain().holders().into_iter();
            holders.map(move |(chain, rule)| Place { stage, chain, rule })
        });
        places.collect()
    }

    /// A rule is to be looked at again then, or before.
    pub fn wake(&mut self, place: &Place, at: BootTime) {
        self.stages[place.stage].chain_mut().wake(place.chain, at);
    }

    /// A stage, and those behind it.
    pub fn from(&mut self, stage: usize) -> Option<(&mut Stage, &mut [Stage])> {
        self.stages.get_mut(stage..)?.split_first_mut()
    }
}

impl<'a> Way<'a> {
    /// Sends a record into a partition through the stages of its topic's route, which is out of the table meanwhile.
    pub fn run(&mut self, stages: &mut [Stage], part: TopicPart, record: RecordRef<'_>) {
        let Some((stage, rest)) = stages.split_first_mut() else {
            return self.append(part, record);
        };
        let env = self.env;
        match stage {
            Stage::InPlace(chain) => {
                let verdict = chain.apply(&env, &record, &mut Hop { way: self, next: Next::Stages(rest), part });
                self.outcome.errors += verdict.errors;
            }
            Stage::Branch(chain, into) => {
                let next = Next::Into(TopicPart { topic: *into, partition: 0 });
                let verdict = chain.apply(&env, &record, &mut Hop { way: self, next, part });
                self.outcome.errors += verdict.errors;
                self.run(rest, part, record);
            }
        }
    }

    /// A derived record meets its own topic's rules under that topic's name.
    fn branch(&mut self, into: TopicPart, record: RecordRef<'_>) {
        let index = into.topic.0 as usize;
        // None: the record came round in a cycle, its topic's route is taken.
        let Some(mut route) = self.routes.get_mut(index).and_then(Option::take) else {
            return self.append(into, record);
        };
        let (name, stages) = route.parts();
        let env = Env { context: Context { topic: name, ..self.env.context }, ..self.env };
        let outcome = std::mem::take(&mut self.outcome);
        let mut inner = Way { ring: self.ring, routes: self.routes, plan: self.plan, env, outcome };
        inner.run(stages, into, record);
        self.outcome = inner.outcome;
        self.routes[index] = Some(route);
    }

    fn now(&self) -> BootTime {
        self.env.time.map_or_else(BootTime::default, |time| time.now.boot)
    }

    fn append(&mut self, part: TopicPart, record: RecordRef<'_>) {
        match self.ring.append(self.now(), part, &record) {
            Ok(appended) => {
                self.outcome.outputs += 1;
                self.outcome.first.get_or_insert(appended);
            }
            Err(AppendError::TooLarge { bytes, limit }) => self.outcome.too_large = Some((bytes, limit)),
            // Room was made sure of before the record entered its rules; a topic that was removed under a rule's
            // feet takes nothing more.
            Err(AppendError::Busy | AppendError::NoTopic(_)) => self.outcome.errors += 1,
        }
    }
}

/// What comes behind a chain.
pub(super) enum Next<'h> {
    Stages(&'h mut [Stage]),
    Into(TopicPart),
}

/// The world of a chain: the way that its records go on, and the ring.
pub(super) struct Hop<'h, 'w> {
    pub way: &'h mut Way<'w>,
    pub next: Next<'h>,
    /// Where the record is.
    pub part: TopicPart,
}

impl World for Hop<'_, '_> {
    fn emit(&mut self, record: RecordRef<'_>) {
        match &mut self.next {
            Next::Stages(rest) => self.way.run(rest, self.part, record),
            Next::Into(into) => self.way.branch(*into, record),
        }
    }

    fn route(&mut self, topic: &TopicName, record: RecordRef<'_>) {
        match self.way.ring.topic_id(topic.as_str()) {
            Some(topic) => self.way.branch(TopicPart { topic, partition: 0 }, record),
            // The topic table is full: it stays where it is.
            None => {
                self.way.outcome.errors += 1;
                self.emit(record);
            }
        }
    }

    fn failed(&mut self, rule: &Rule, record: &RecordRef<'_>, reason: &str) {
        if let Some(failures) = &mut self.way.outcome.failures {
            failures.push(Failure { rule: rule.name.clone(), reason: reason.to_owned() });
        }
        let topic = self.way.env.context.topic;
        match rule.on_error {
            OnError::Pass | OnError::Drop => {}
            OnError::DeadLetter => {
                let most = self.way.ring.max_record() / 2;
                let now = self.way.env.time.map(|time| time.now);
                let letter = rule_letter(now, (&rule.name, topic, self.part.partition), record, reason, most);
                self.way.outcome.letters.push(letter);
            }
            OnError::Stop => {
                self.way.outcome.stops.get_or_insert((rule.name.clone(), reason.to_owned()));
            }
        }
    }

    fn state(&self, rule: &Name, key: &[u8]) -> Option<&[u8]> {
        let key = state_key(self.way.env.context.topic, self.part.partition, key);
        self.way.ring.state(&owner(rule), &key)
    }

    fn put_state(&mut self, rule: &Name, key: &[u8], value: Option<&[u8]>) -> bool {
        let (key, owner) = (state_key(self.way.env.context.topic, self.part.partition, key), owner(rule));
        // Sources and sinks need their part of the room.
        let most = self.way.ring.states_limit() / 2;
        let rules = self.way.ring.weigh_kind(OwnerKind::Rule);
        let weight = |value: &[u8]| key.len() + value.len();
        let (more, old) = (value.map_or(0, weight), self.way.ring.state(&owner, &key).map_or(0, weight));
        if more > old && rules + more - old > most {
            return false;
        }
        self.way.ring.put_state(self.way.now(), &owner, &key, value).is_ok()
    }

    fn forget_oldest(&mut self, rule: &Name) -> u32 {
        forget_oldest(self.way.ring, self.way.now(), rule, self.way.plan)
    }
}
