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
use super::route::{Failure, Hop, Next, Outcome, Place, Route, Stage, Way};
use super::{Pipeline, Plan, RulePlan};
use crate::limits::{FRAME_RAW_MOST, FRAME_RAW_TARGET, MAX_STATE_OWNER_BYTES, MAX_STATE_OWNER_ENTRIES};
use crate::name::Name;
use crate::ring::{Owner, OwnerKind, Ring};
use crate::rules::state::{AGE, MAX_ENTRY, MAX_KEY, Time};
use crate::rules::{Env, OnError, Told};
use crate::template::Context;
use crate::time::{BootTime, Now, Span};
use crate::topic::{TopicId, TopicName, TopicPart};

/// What a group for a rule's outputs may take, at least.
const GROUP: usize = FRAME_RAW_MOST - FRAME_RAW_TARGET;
/// Where the disk is behind, rules whose time has come wait so long.
const AGAIN: Span = Span::from_millis(100);
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

/// Makes room for a rule's state: forgets a quarter of what a rule keeps that holds nothing of records, what was touched
/// longest ago. Of its own, if it has as much as one may; else of that which has most.
pub(super) fn forget_oldest(ring: &mut Ring, now: BootTime, rule: &Name, plan: &Plan) -> u32 {
    let weigh = |rule: &Name| ring.weigh_states(&owner(rule));
    let (entries, bytes) = weigh(rule);
    let full = entries >= MAX_STATE_OWNER_ENTRIES || bytes + MAX_ENTRY > MAX_STATE_OWNER_BYTES;
    let may = plan.rules.iter().map(|plan| &plan.rule).filter(|rule| rule.spec.keeps_state() && !rule.spec.holds());
    let forgets = may.map(|rule| &rule.name).filter(|name| !full || *name == rule).max_by_key(|name| weigh(name).1);
    let Some(owner) = forgets.map(owner) else { return 0 };
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
    /// What is kept under another definition, by a rule that is gone or for a topic that it has no more is dropped. The topic of
    /// dead letters is made before there is one: a letter is written inside of a group, and what a group has for another lane
    /// may stand in front of the entry that makes a topic.
    pub(super) fn settle_rules(&mut self, now: BootTime) {
        if std::mem::replace(&mut self.rules_settled, true) {
            return;
        }
        if self.plan.rules.iter().any(|plan| plan.rule.on_error == OnError::DeadLetter)
            && let Ok(letters) = TopicName::new(DEAD_LETTERS_TOPIC)
        {
            // Where it cannot be made now, its letters are counted as left out.
            let _ = self.open_in_ring(&letters, None);
        }
        let plans: Vec<_> = self.plan.rules.iter().filter(|plan| plan.rule.spec.keeps_state()).cloned().collect();
        for owner in self.ring.owners(OwnerKind::Rule) {
            let plan = plans.iter().find(|plan| plan.rule.name == owner.name);
            let same =
                plan.filter(|plan| self.ring.state(&owner, b"") == Some(&plan.rule.definition.to_be_bytes()[..]));
            for (key, _) in self.ring.states(&owner) {
                let topic =
                    key.iter().position(|byte| *byte == 0).and_then(|end| std::str::from_utf8(&key[..end]).ok());
                let topic = topic.and_then(|topic| TopicName::new(topic).ok());
                let stays =
                    key.is_empty() || topic.is_some_and(|topic| same.is_some_and(|plan| plan.topics.contains(&topic)));
                if same.is_none() || !stays {
                    let _ = self.ring.put_state(now, &owner, &key, None);
                }
            }
        }
        for plan in plans {
            let (owner, definition) = (owner(&plan.rule.name), plan.rule.definition.to_be_bytes());
            if self.ring.state(&owner, b"").is_none() {
                let _ = self.ring.put_state(now, &owner, b"", Some(&definition));
            }
        }
    }

    /// Finds beside which topic's records the state of each route's rules stands.
    pub(super) fn place_keepers(&mut self) {
        for topic in 0..self.routes.len() {
            let beside = self.keeper_from(TopicId(topic as u16), &mut Vec::new());
            if let Some(route) = &mut self.routes[topic] {
                route.beside = beside;
            }
        }
    }

    fn keeper_from(&self, topic: TopicId, seen: &mut Vec<TopicId>) -> Option<TopicId> {
        let route = self.routes.get(topic.0 as usize)?.as_ref()?;
        if seen.contains(&topic) {
            return None;
        }
        seen.push(topic);
        let further = || route.ways(topic, &self.ring).into_iter().find_map(|way| self.keeper_from(way, seen));
        route.keeper(topic).or_else(further)
    }

    /// A topic's rules are gone; what they did counts.
    pub(super) fn forget_route(&mut self, topic: TopicId) {
        let route = self.routes.get_mut(topic.0 as usize).and_then(Option::take);
        for (name, told) in route.iter().flat_map(Route::chains).flat_map(|chain| chain.tallies()) {
            told.add_to(&mut self.done, name);
        }
    }

    /// Whether a rule has stopped the topic, until the configuration is read again.
    pub(super) fn is_stopped(&self, topic: TopicId) -> bool {
        self.routes.get(topic.0 as usize).and_then(Option::as_ref).is_some_and(|route| route.stopped.is_some())
    }

    /// Whether sources of the topic are to wait: for sinks to make room, for whoever looks at a rule that stopped it, or until a
    /// rule has been shown the past.
    pub fn is_held(&self, topic: TopicId) -> bool {
        self.ring.is_full_for(topic) || self.is_stopped(topic) || self.waits_for_past(topic)
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
    pub fn tallies(&self) -> Vec<(Name, Told)> {
        let mut all: Vec<(Name, Told)> =
            self.plan.rules.iter().map(|plan| (plan.rule.name.clone(), Told::default())).collect();
        let chains = self.routes.iter().flatten().flat_map(|route| route.chains());
        let before = self.done.iter().map(|(name, told)| (name, told.clone()));
        for (name, told) in before.chain(chains.flat_map(|chain| chain.tallies())) {
            if let Some((_, sum)) = all.iter_mut().find(|(of, _)| of == name) {
                sum.add(told);
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
        let due = self.waiting().map(|(_, due)| due).min()?;
        Some(due.max(self.rules_again))
    }

    /// Routes with rules that wait for something, and until when. Those of a topic that takes nothing more are left alone.
    fn waiting(&self) -> impl Iterator<Item = (usize, BootTime)> {
        // Asked at each turn of the loop: where nothing is kept there is nothing to look at.
        let routes = if self.rules_keep && !self.closed { self.routes.as_slice() } else { &[] };
        let due = routes.iter().enumerate().filter_map(|(at, route)| Some((at, route.as_ref()?.due()?)));
        due.filter(|(at, _)| !self.is_held(TopicId(*at as u16)))
    }

    /// What rules were waiting for: all that one keeps for a topic is looked at, which its room bounds.
    pub(super) fn fire_rules(&mut self, now: Now) {
        if self.in_group || self.rules_due().is_none_or(|due| due > now.boot) {
            return;
        }
        self.settle_rules(now.boot);
        let Some((topic, _)) = self.waiting().find(|(_, due)| *due <= now.boot) else { return };
        if !self.ring.has_room() {
            self.rules_again = now.boot + AGAIN;
            return;
        }
        let Some(mut route) = self.routes[topic].take() else { return };
        for place in route.take_due(now.boot) {
            let entries = self.entries_of(&route.name, &place);
            if !entries.is_empty() {
                route.wake(&place, now.boot + LOOK);
            }
            for key in &entries {
                if !self.fire(now, (TopicId(topic as u16), &mut route), &place, key, false) {
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

    /// Before another plan is taken: what rules that end or change hold of records comes out, by the plan that there was. What
    /// finds no room is counted as an error, and gone.
    pub fn end_rules(&mut self, now: Now, next: &Plan) {
        if !self.rules_keep || self.in_group {
            return;
        }
        self.settle_rules(now.boot);
        for topic in 0..self.routes.len() {
            let Some(mut route) = self.routes[topic].take() else { continue };
            for place in route.holders() {
                let definition = route.chain_at(place.stage).map(|chain| chain.rule(place.chain).definition);
                let same = |plan: &RulePlan| plan.rule.name == place.rule && Some(plan.rule.definition) == definition;
                if next.rules.iter().any(|plan| same(plan) && plan.topics.contains(&route.name)) {
                    continue;
                }
                for key in &self.entries_of(&route.name, &place) {
                    let out = self.fire(now, (TopicId(topic as u16), &mut route), &place, key, true);
                    self.rule_errors += u64::from(!out);
                }
            }
            self.routes[topic] = Some(route);
        }
    }

    /// One entry; `ends`: see [`Chain::fire`](crate::rules::Chain::fire). False: there is no room now.
    fn fire(
        &mut self,
        now: Now,
        (topic, route): (TopicId, &mut Route),
        place: &Place,
        (partition, key): &(u8, Vec<u8>),
        ends: bool,
    ) -> bool {
        let Some((stage, _)) = route.from(place.stage) else { return true };
        let beside = stage.beside(topic);
        let bytes = self.ring.max_record().min(GROUP);
        if self.begin_group(now, bytes).is_err() {
            return false;
        }
        self.ring.group_beside(now.boot, beside);
        let (time, outcome) = (self.time(now), self.outcome());
        let Self { ring, routes, plan, .. } = self;
        let name = route.name.clone();
        let context = Context { node: &plan.node, topic: name.as_str(), source: "", labels: &plan.labels };
        let mut way = Way { ring, routes, plan, env: Env { context, time: Some(time) }, outcome };
        let part = TopicPart { topic, partition: *partition };
        let Some((stage, rest)) = route.from(place.stage) else { return true };
        let (chain, next) = match stage {
            Stage::InPlace(chain) => (chain, Next::Stages(rest)),
            Stage::Branch(chain, into) => (chain, Next::Into(TopicPart { topic: *into, partition: 0 })),
        };
        let env = way.env;
        let verdict = chain.fire(place.chain, &env, key, ends, &mut Hop { way: &mut way, next, part });
        way.outcome.errors += verdict.errors;
        let mut outcome = way.outcome;
        if let Some(stops) = outcome.stops.take() {
            // It is not in the table now.
            route.stopped.get_or_insert(stops);
        }
        outcome.outputs += u32::from(outcome.too_large.is_some());
        self.settle_outcome(now, topic, outcome);
        self.end_group(now);
        true
    }

    /// From now on it is remembered which rule failed on a record and why, until it is asked for: for tools, which ask soon.
    pub fn listen(&mut self) {
        self.failures = Some(Vec::new());
    }

    /// What rules failed on since this was asked last.
    pub fn take_failures(&mut self) -> Vec<Failure> {
        self.failures.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// That nothing became of a record so far.
    pub(super) fn outcome(&self) -> Outcome {
        Outcome { failures: self.failures.as_ref().map(|_| Vec::new()), ..Outcome::default() }
    }

    pub(super) fn time(&self, now: Now) -> Time {
        Time { now, boot: self.ring.boot() }
    }

    /// What is to be done for an event beside its outputs.
    pub(super) fn settle_outcome(&mut self, now: Now, origin: TopicId, mut outcome: Outcome) -> Outcome {
        // One of several outputs that is too large for the ring is nobody else's to count.
        outcome.errors += u32::from(outcome.too_large.is_some() && outcome.outputs > 0);
        self.rule_errors += u64::from(outcome.errors);
        if let (Some(all), Some(failures)) = (&mut self.failures, outcome.failures.take()) {
            all.extend(failures);
        }
        for letter in std::mem::take(&mut outcome.letters) {
            self.bury(now, &letter);
        }
        if let Some((rule, reason)) = outcome.stops.take()
            && let Some(route) = self.routes.get_mut(origin.0 as usize).and_then(Option::as_mut)
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
        (2 * bytes).max(GROUP).min(self.ring.max_record())
    }

    /// Whether what becomes of an event is to be in one frame: what its rules keep, and several records.
    pub(super) fn rules_keep(plan: &Plan) -> bool {
        let several = |plan: &RulePlan| plan.into.is_some() || plan.rule.on_error == OnError::DeadLetter;
        plan.rules.iter().any(|plan| plan.rule.spec.keeps_state() || several(plan))
    }
}
