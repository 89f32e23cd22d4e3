//! What rules keep and do beside the records that pass them: state entries, the moments that they wait for, dead letters, topics
//! that one has stopped.
//!
//! A rule's state belongs to its name, and within it to topic, partition and key: `topic`, a zero byte, the partition (u8), the key.
//! Under the empty key stands the hash of the rule's definition: what was kept under another one is dropped when the rules are
//! compiled, what is kept under the same one goes on, also over a reload.
//!
//! An event and what its rules keep of it are one group of the ring, so that they are in one frame. What a rule makes when its time
//! has come is a group as well: the records, and that the entry is done with. The entry's frame is that of the lane into which the
//! first rule that keeps something puts its outputs; what a group has in other lanes may be there after a crash without it, and
//! comes again when the source sends the event again.

use super::letters::DEAD_LETTERS_TOPIC;
use super::route::{Hop, Next, Outcome, Place, Stage, Way};
use super::{Pipeline, Plan};
use crate::name::Name;
use crate::ring::{Owner, OwnerKind, Ring};
use crate::rules::state::{AGE, MAX_KEY, Time};
use crate::rules::{Env, Rule, Tally};
use crate::template::Context;
use crate::time::{BootTime, Now, Span};
use crate::topic::{TopicId, TopicName, TopicPart};

/// What a group for a rule's outputs may take, at least.
const GROUP: usize = 4 * 1024;
/// Where the disk is behind, rules whose time has come wait so long.
const AGAIN: Span = Span::from_millis(100);
/// Entries that are fired in one turn.
const MOST_FIRED: usize = 256;
/// Rules are looked at again after this long while they keep something: the wall clock may have been set.
const LOOK: Span = Span::from_secs(30);

pub(super) fn owner(rule: &Name) -> Owner {
    Owner { kind: OwnerKind::Rule, name: rule.clone() }
}

/// The key under which a rule keeps something.
pub(super) fn state_key(topic: &str, partition: u8, key: &[u8]) -> heapless::Vec<u8, { 64 + 2 + MAX_KEY }> {
    let mut whole = heapless::Vec::new();
    // A topic's name and a rule's key are not longer than this.
    let _ = whole.extend_from_slice(topic.as_bytes());
    let _ = whole.extend_from_slice(&[0, partition]);
    let _ = whole.extend_from_slice(key);
    whole
}

/// Forgets a quarter of what a rule keeps, what was touched longest ago.
pub(super) fn forget_oldest(ring: &mut Ring, now: BootTime, rule: &Name) -> u32 {
    let owner = owner(rule);
    let all = ring.states(&owner).into_iter().filter(|(key, _)| !key.is_empty());
    let mut by_age: Vec<_> = all.map(|(key, value)| (value.get(..AGE).map(<[u8]>::to_vec), key)).collect();
    by_age.sort_unstable();
    by_age.truncate(by_age.len() / 4 + 1);
    for (_, key) in &by_age {
        // A removal takes no room.
        let _ = ring.put_state(now, &owner, key, None);
    }
    by_age.len() as u32
}

/// A topic that takes nothing more, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stopped {
    pub topic: TopicName,
    pub rule: Name,
    pub reason: String,
}

impl Pipeline {
    /// What is kept under another definition, or by a rule that is gone, is dropped.
    pub(super) fn settle_rules(&mut self, now: BootTime) {
        if std::mem::replace(&mut self.rules_settled, true) {
            return;
        }
        let defined: Vec<(Name, u64)> = keeping(&self.plan).map(|rule| (rule.name.clone(), rule.definition)).collect();
        for (name, definition) in defined {
            let owner = owner(&name);
            if self.ring.state(&owner, b"") == Some(&definition.to_be_bytes()[..]) {
                continue;
            }
            for (key, _) in self.ring.states(&owner) {
                let _ = self.ring.put_state(now, &owner, &key, None);
            }
            let _ = self.ring.put_state(now, &owner, b"", Some(&definition.to_be_bytes()));
        }
    }

    /// Whether a rule has stopped the topic, until the configuration is read again.
    pub(super) fn is_stopped(&self, topic: TopicId) -> bool {
        self.routes.get(topic.0 as usize).and_then(Option::as_ref).is_some_and(|route| route.stopped.is_some())
    }

    /// Whether sources of the topic are to wait: for sinks to make room, or for whoever looks at a rule that stopped it.
    pub fn is_held(&self, topic: TopicId) -> bool {
        self.ring.is_full_for(topic) || self.is_stopped(topic)
    }

    pub fn stopped(&self) -> Vec<Stopped> {
        let routes = self.routes.iter().flatten();
        routes
            .filter_map(|route| {
                let (rule, reason) = route.stopped.clone()?;
                Some(Stopped { topic: route.name.clone(), rule, reason })
            })
            .collect()
    }

    /// What each rule before the ring has done, in the config's order.
    pub fn tallies(&self) -> Vec<(Name, Tally)> {
        let mut all: Vec<(Name, Tally)> =
            self.plan.rules.iter().map(|plan| (plan.rule.name.clone(), Tally::default())).collect();
        let chains = self.routes.iter().flatten().flat_map(|route| route.chains());
        for (name, tally) in chains.flat_map(|chain| chain.tallies()).chain(self.done.iter().map(|(n, t)| (n, *t))) {
            if let Some((_, sum)) = all.iter_mut().find(|(of, _)| of == name) {
                *sum = sum.plus(tally);
            }
        }
        all
    }

    /// What the rules' chains have done goes on counting when they are made anew.
    pub(super) fn keep_tallies(&mut self) {
        self.done = self.tallies();
        self.routes.iter_mut().for_each(|route| *route = None);
    }

    /// When a rule waits for something.
    pub(super) fn rules_due(&self) -> Option<BootTime> {
        let due = self.routes.iter().flatten().filter_map(|route| route.due()).min()?;
        Some(due.max(self.rules_again))
    }

    /// What rules were waiting for.
    pub(super) fn fire_rules(&mut self, now: Now) {
        if self.in_group || self.rules_due().is_none_or(|due| due > now.boot) {
            return;
        }
        self.settle_rules(now.boot);
        let due = |route: &super::route::Route| route.due().is_some_and(|due| due <= now.boot);
        let Some(topic) = self.routes.iter().position(|route| route.as_ref().is_some_and(due)) else { return };
        if !self.ring.has_room() || self.is_held(TopicId(topic as u16)) {
            self.rules_again = now.boot + AGAIN;
            return;
        }
        let Some(mut route) = self.routes[topic].take() else { return };
        for place in route.take_due(now.boot) {
            let entries = self.entries_of(&route.name, &place);
            let (entries, left) = entries.split_at(entries.len().min(MOST_FIRED));
            if !entries.is_empty() {
                route.wake(&place, now.boot + LOOK);
            }
            for (at, key) in entries.iter().enumerate() {
                if !self.fire(now, (TopicId(topic as u16), &mut route), &place, key)
                    || at + 1 == entries.len() && !left.is_empty()
                {
                    route.wake(&place, now.boot + AGAIN);
                    break;
                }
            }
        }
        self.routes[topic] = Some(route);
    }

    /// Partition and key of what a rule keeps for a topic.
    fn entries_of(&self, topic: &TopicName, place: &Place) -> Vec<(u8, Vec<u8>)> {
        let prefix = [topic.as_str().as_bytes(), &[0]].concat();
        let all = self.ring.states(&owner(&place.rule)).into_iter();
        all.filter_map(|(key, _)| {
            let (partition, key) = key.strip_prefix(prefix.as_slice())?.split_first()?;
            Some((*partition, key.to_vec()))
        })
        .collect()
    }

    /// One entry. False: there is no room now.
    fn fire(
        &mut self,
        now: Now,
        (topic, route): (TopicId, &mut super::route::Route),
        place: &Place,
        (partition, key): &(u8, Vec<u8>),
    ) -> bool {
        let Some((stage, _)) = route.from(place.stage) else { return true };
        let beside = stage.beside(topic);
        let bytes = self.ring.max_record().min(2 * GROUP);
        if self.begin_group(now, bytes).is_err() {
            return false;
        }
        self.ring.group_beside(now.boot, beside);
        let time = self.time(now);
        let Self { ring, routes, plan, .. } = self;
        let name = route.name.clone();
        let context = Context { node: &plan.node, topic: name.as_str(), source: "", labels: &plan.labels };
        let mut way = Way { ring, routes, env: Env { context, time: Some(time) }, outcome: Outcome::default() };
        let part = TopicPart { topic, partition: *partition };
        let Some((stage, rest)) = route.from(place.stage) else { return true };
        let (chain, next) = match stage {
            Stage::InPlace(chain) => (chain, Next::Stages(rest)),
            Stage::Branch(chain, into) => (chain, Next::Into(TopicPart { topic: *into, partition: 0 })),
        };
        let env = way.env;
        let verdict = chain.fire(place.chain, &env, key, &mut Hop { way: &mut way, next, part });
        way.outcome.errors += verdict.errors;
        let outcome = way.outcome;
        self.settle_outcome(now, outcome);
        self.end_group(now);
        true
    }

    pub(super) fn time(&self, now: Now) -> Time {
        Time { now, boot: self.ring.boot() }
    }

    /// What is to be done for an event beside its outputs.
    pub(super) fn settle_outcome(&mut self, now: Now, mut outcome: Outcome) -> Outcome {
        self.rule_errors += u64::from(outcome.errors);
        for letter in std::mem::take(&mut outcome.letters) {
            self.bury(now, &letter);
        }
        if let Some((topic, rule, reason)) = outcome.stops.take()
            && let Some(route) = self.routes.get_mut(topic.0 as usize).and_then(Option::as_mut)
        {
            route.stopped.get_or_insert((rule, reason));
        }
        outcome
    }

    /// A record that a rule failed on becomes a dead letter, as far as those of rules may fill the ring.
    fn bury(&mut self, now: Now, letter: &[u8]) {
        let ring = self.ring.max_bytes();
        let name = TopicName::new(DEAD_LETTERS_TOPIC).ok();
        let topic = name.and_then(|name| self.open_in_ring(&name, None).ok());
        let record = crate::record::RecordRef { admitted: now.boot, ..crate::record::RecordRef::of(letter) };
        let written = topic.is_some_and(|topic| {
            self.rule_letters.take(now.boot, letter.len(), ring)
                && self.ring.append(now.boot, TopicPart { topic, partition: 0 }, &record).is_ok()
        });
        self.rule_letters_left_out += u64::from(!written);
    }

    /// What an event's group may take.
    pub(super) fn group_bytes(&self, bytes: usize) -> usize {
        (2 * bytes + GROUP).min(self.ring.max_record())
    }

    /// Whether events are to share a frame with what their rules keep.
    pub(super) fn rules_keep(plan: &Plan) -> bool {
        plan.rules
            .iter()
            .any(|plan| plan.rule.spec.keeps_state() || plan.rule.on_error == crate::rules::OnError::DeadLetter)
    }
}

fn keeping(plan: &Plan) -> impl Iterator<Item = &Rule> {
    plan.rules.iter().map(|plan| &plan.rule).filter(|rule| rule.spec.keeps_state())
}
