//! What happens to a record of a topic before the ring: the rules that name its topic, in the config's order.
//!
//! Rules without `into` follow one another in place. A rule with `into` takes a copy of the record as it stands there:
//! what it makes goes to its own topic, through that topic's rules; the record itself goes on. A topic's route is taken
//! out while a record is in it, so a cycle of `into`s ends by itself: the record that comes round is appended as it is.

use super::Plan;
use crate::record::RecordRef;
use crate::ring::{AppendError, Appended, Ring};
use crate::rules::Chain;
use crate::template::Context;
use crate::time::{BootTime, Span};
use crate::topic::{TopicId, TopicName, TopicPart};

/// The compiled rules of one topic.
pub(super) struct Route {
    pub name: TopicName,
    pub max_age: Option<Span>,
    stages: Vec<Stage>,
}

pub(super) enum Stage {
    InPlace(Chain),
    Branch(Chain, TopicId),
}

/// What became of one offered record.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub first: Option<Appended>,
    pub outputs: u32,
    pub errors: u32,
    pub too_large: Option<(usize, usize)>,
}

/// Everything a record meets on its way: split off the pipeline so that its parts can be borrowed side by side.
pub(super) struct Way<'a> {
    pub ring: &'a mut Ring,
    pub routes: &'a mut [Option<Route>],
    pub context: Context<'a>,
    pub now: BootTime,
    pub outcome: Outcome,
}

impl Route {
    /// Compiles the rules of `plan` that name `topic`; `open` gives the number of an `into` topic.
    pub fn compile(plan: &Plan, topic: &TopicName, mut open: impl FnMut(&TopicName) -> Option<TopicId>) -> Self {
        let mut stages = Vec::new();
        let mut run = Vec::new();
        for rule in plan.rules.iter().filter(|rule| rule.topics.contains(topic)) {
            match rule.into.as_ref().map(&mut open) {
                None => run.push(rule.spec.clone()),
                Some(into) => {
                    if !run.is_empty() {
                        stages.push(Stage::InPlace(Chain::new(&std::mem::take(&mut run))));
                    }
                    // With the topic table full the raw record is still kept.
                    if let Some(into) = into {
                        stages.push(Stage::Branch(Chain::new(std::slice::from_ref(&rule.spec)), into));
                    }
                }
            }
        }
        if !run.is_empty() {
            stages.push(Stage::InPlace(Chain::new(&run)));
        }
        Self { name: topic.clone(), max_age: None, stages }
    }

    /// The topic's name and what its records meet.
    pub fn parts(&mut self) -> (&str, &mut [Stage]) {
        (self.name.as_str(), &mut self.stages)
    }
}

impl Way<'_> {
    /// Sends a record into a partition through the stages of its topic's route, which is out of the table meanwhile.
    pub fn run(&mut self, stages: &mut [Stage], part: TopicPart, record: RecordRef<'_>) {
        let Some((stage, rest)) = stages.split_first_mut() else {
            return self.append(part, record);
        };
        let context = self.context;
        match stage {
            Stage::InPlace(chain) => {
                let verdict = chain.apply(&context, record, &mut |output| self.run(rest, part, output));
                self.outcome.errors += verdict.errors;
            }
            Stage::Branch(chain, into) => {
                let into = TopicPart { topic: *into, partition: 0 };
                let verdict = chain.apply(&context, record, &mut |output| self.branch(into, output));
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
        let mut inner = Way {
            ring: self.ring,
            routes: self.routes,
            context: Context { topic: name, ..self.context },
            now: self.now,
            outcome: std::mem::take(&mut self.outcome),
        };
        inner.run(stages, into, record);
        self.outcome = inner.outcome;
        self.routes[index] = Some(route);
    }

    fn append(&mut self, part: TopicPart, record: RecordRef<'_>) {
        match self.ring.append(self.now, part, &record) {
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
