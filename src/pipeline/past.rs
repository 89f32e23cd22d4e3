//! What rules that look back are shown before they run: SmartModules that keep something in their memory, as in Fluvio.
//!
//! It is the newest records of the topic that a rule writes to, of each partition in turn, as the ring has them. They are read like
//! any others, so it may take a while: until then the topic takes nothing, and whatever leads to it. Read is what is
//! durable, and all of it: a rule that begins anew amid records is shown those as well.

use super::Pipeline;
use super::route::Route;
use crate::limits::{FRAME_RAW_TARGET, MAX_LOOK_BACK};
use crate::record::RecordRef;
use crate::ring::{Frame, PartReader, ReadStep};
use crate::rules::wasm::{Base, LookBack, Unshown};
use crate::rules::{Chain, OnError};
use crate::time::{BootTime, Now, WallTime};
use crate::topic::{TopicId, TopicPart};

/// Frames that are looked at in one turn.
const FRAMES: usize = 8;

/// Records that a rule may fail on while it is shown the past; with the next it is given up.
const MAX_FAILED: u32 = 16;

/// A rule that is being shown the past.
pub(super) struct Looking {
    topic: TopicId,
    /// Of the topic's route, and in that stage's chain.
    stage: usize,
    chain: usize,
    /// What it looks at.
    of: TopicId,
    back: LookBack,
    reader: PartReader,
    /// One past the newest record when it began.
    until: u64,
    gathered: Gathered,
    /// Records that it failed on.
    failed: u32,
}

/// Records on their way to the rule: they outlive their frames, so that they come in few calls.
#[derive(Default)]
struct Gathered {
    bytes: Vec<u8>,
    list: Vec<One>,
    first: u64,
}

struct One {
    key: Option<usize>,
    end: usize,
    time: Option<WallTime>,
}

enum Shown {
    /// There is more to be done at once.
    More,
    /// The disk is to be waited for.
    Wait,
    Done,
}

impl Pipeline {
    /// Whether the topic's records are to wait until a rule on their way has been shown the past.
    pub(super) fn waits_for_past(&self, topic: TopicId) -> bool {
        self.rules_look_back && self.unfed_from(topic, &mut Vec::new())
    }

    /// Why the topic takes nothing at the moment, if it takes nothing.
    pub fn why_held(&self, topic: TopicId) -> Option<String> {
        let route = self.routes.get(topic.0 as usize).and_then(Option::as_ref);
        if let Some((rule, reason)) = route.and_then(|route| route.stopped.as_ref()) {
            return Some(format!("rule `{rule}` has stopped it ({reason}); it goes on with `headwater reload`"));
        }
        if self.ring.is_full_for(topic) {
            return Some("the ring is full of what its sinks have not sent, and it has on_full = \"pause\"".into());
        }
        self.waits_for_past(topic).then(|| "a rule is being shown what it looks back to".into())
    }

    fn unfed_from(&self, topic: TopicId, seen: &mut Vec<TopicId>) -> bool {
        let Some(route) = self.routes.get(topic.0 as usize).and_then(Option::as_ref) else { return false };
        if seen.contains(&topic) {
            return false;
        }
        seen.push(topic);
        route.chains().any(|chain| chain.unfed().is_some())
            || route.ways(topic, &self.ring).into_iter().any(|way| self.unfed_from(way, seen))
    }

    /// Shows rules what they look back to, a little of it.
    pub(super) fn look_back(&mut self, now: Now) {
        if !self.rules_look_back || self.in_group {
            return;
        }
        self.past_again = None;
        let Some(mut looking) = self.looking.take().filter(|looking| self.is_still(looking)).or_else(|| self.unfed())
        else {
            return;
        };
        match self.look(now, &mut looking) {
            Shown::Done => {
                if let Some(chain) = chain_at(&mut self.routes, looking.topic, looking.stage) {
                    chain.past_ends(looking.chain);
                }
                self.past_shown = true;
                self.past_again = Some(now.boot);
            }
            Shown::More => {
                self.past_again = Some(now.boot);
                self.looking = Some(looking);
            }
            Shown::Wait => self.looking = Some(looking),
        }
    }

    /// Whether a topic takes records again since this was last asked.
    pub fn take_past_shown(&mut self) -> bool {
        std::mem::take(&mut self.past_shown)
    }

    fn is_still(&self, looking: &Looking) -> bool {
        let route = self.routes.get(looking.topic.0 as usize).and_then(Option::as_ref);
        let chain = route.and_then(|route| route.chains().nth(looking.stage));
        chain.and_then(|chain| chain.unfed()).is_some_and(|(at, _)| at == looking.chain)
    }

    /// The next rule that is to be shown the past.
    fn unfed(&mut self) -> Option<Looking> {
        for topic in (0..self.routes.len() as u16).map(TopicId) {
            let Some(route) = self.routes[topic.0 as usize].as_ref() else { continue };
            let unfed = route.chains().enumerate().find_map(|(at, chain)| Some((at, chain.unfed()?)));
            let Some((stage, (chain, back))) = unfed else { continue };
            let of = route.beside(stage, topic);
            let (reader, until) = self.reader_back(of, 0, back);
            chain_at(&mut self.routes, topic, stage)?.past_begins(chain);
            let gathered = Gathered::default();
            return Some(Looking { topic, stage, chain, of, back, reader, until, gathered, failed: 0 });
        }
        None
    }

    /// A reader of what is to be shown of a partition, and where that ends.
    fn reader_back(&self, topic: TopicId, partition: u8, back: LookBack) -> (PartReader, u64) {
        let last = if back.last == 0 { MAX_LOOK_BACK } else { back.last.min(MAX_LOOK_BACK) };
        let info = self.ring.topic(topic).and_then(|info| info.partitions.get(usize::from(partition)).copied());
        let (earliest, next) = info.map_or((0, 0), |info| (info.earliest, info.next));
        let part = TopicPart { topic, partition };
        (self.ring.part_reader(part, next.saturating_sub(last).max(earliest)), next)
    }

    fn look(&mut self, now: Now, looking: &mut Looking) -> Shown {
        for _ in 0..FRAMES {
            if looking.reader.offset >= looking.until {
                return self.next_partition(looking);
            }
            match self.ring.read_part(&mut looking.reader) {
                ReadStep::Frame(frame) => {
                    if !self.gather(now, looking, &frame) {
                        return Shown::Done;
                    }
                }
                ReadStep::Gap(_) => {}
                ReadStep::Wait => return Shown::Wait,
                ReadStep::End => {
                    // The newest are on their way to the disk.
                    self.ring.hurry(now.boot);
                    return Shown::Wait;
                }
            }
        }
        Shown::More
    }

    /// False: the rule failed over it and goes without.
    fn gather(&mut self, now: Now, looking: &mut Looking, frame: &Frame) -> bool {
        let clock = self.ring.clock(frame.boot());
        let oldest = looking.back.age.filter(|_| now.trusted).map(|age| now.wall.0 - age.as_micros() as i64);
        let from = looking.reader.offset;
        for entry in frame.entries_of(looking.reader.part, from) {
            if entry.offset >= looking.until {
                looking.reader.offset = looking.until;
                return true;
            }
            looking.reader.offset = entry.offset + 1;
            let admitted = || clock.filter(|clock| clock.trusted).map(|clock| clock.wall(entry.record.admitted));
            let time = entry.record.event_time.or_else(admitted);
            if oldest.zip(time).is_some_and(|(oldest, time)| time.0 < oldest) {
                continue;
            }
            if !looking.gathered.takes(entry.offset, &entry.record) && !self.show(looking) {
                return false;
            }
            looking.gathered.push(entry.offset, &entry.record, time);
        }
        // Where a frame has nothing of the partition beyond the place, it is passed.
        if looking.reader.offset == from {
            looking.reader.offset = looking.until.min(from + 1);
        }
        true
    }

    /// Gives the rule what was gathered, but for single records that it fails on. False: it failed over too many, or as a whole.
    fn show(&mut self, looking: &mut Looking) -> bool {
        let gathered = std::mem::take(&mut looking.gathered);
        let Some(chain) = chain_at(&mut self.routes, looking.topic, looking.stage) else { return false };
        let records: Vec<_> = gathered.records().collect();
        let time_ms = records.first().and_then(|record| record.event_time).unwrap_or_default().0.div_euclid(1000);
        let mut base = Base { offset: gathered.first as i64, time_ms };
        let (mut rest, mut stops, mut goes_on) = (records.as_slice(), None, true);
        while let Err(Unshown { reason, at }) = chain.show_past(looking.chain, rest, base) {
            looking.failed += 1;
            self.rule_errors += 1;
            let rule = chain.rule(looking.chain);
            if rule.on_error == OnError::Stop {
                stops.get_or_insert_with(|| (rule.name.clone(), reason.into_owned()));
            }
            // Shown again also where nothing is left: only what ends well is a past that it has seen.
            let Some(behind) = at.and_then(|at| rest.get(at + 1..)).filter(|_| looking.failed <= MAX_FAILED) else {
                chain.past_given_up(looking.chain);
                goes_on = false;
                break;
            };
            base.offset += (rest.len() - behind.len()) as i64;
            rest = behind;
        }
        if let Some(route) = self.routes.get_mut(looking.topic.0 as usize).and_then(Option::as_mut) {
            route.stopped = route.stopped.take().or(stops);
        }
        goes_on
    }

    fn next_partition(&mut self, looking: &mut Looking) -> Shown {
        let partition = looking.reader.part.partition;
        let partitions = self.ring.topic(looking.of).map_or(0, |info| info.partitions.len());
        // Also where there is nothing: that it begins is all that a module may want to know.
        let is_last = usize::from(partition) + 1 >= partitions;
        if (!looking.gathered.list.is_empty() || is_last) && !self.show(looking) {
            return Shown::Done;
        }
        if is_last {
            return Shown::Done;
        }
        (looking.reader, looking.until) = self.reader_back(looking.of, partition + 1, looking.back);
        Shown::More
    }

    /// When [`Pipeline::look_back`] has more to do.
    pub(super) fn past_due(&self) -> Option<BootTime> {
        self.past_again
    }
}

fn chain_at(routes: &mut [Option<Route>], topic: TopicId, stage: usize) -> Option<&mut Chain> {
    routes.get_mut(topic.0 as usize)?.as_mut()?.chain_at(stage)
}

impl Gathered {
    /// Whether it is the one behind the last, and there is room.
    fn takes(&self, offset: u64, record: &RecordRef<'_>) -> bool {
        let dense = self.first + self.list.len() as u64 == offset;
        self.list.is_empty() || (dense && self.bytes.len() + record.len() <= FRAME_RAW_TARGET)
    }

    fn push(&mut self, offset: u64, record: &RecordRef<'_>, time: Option<WallTime>) {
        if self.list.is_empty() {
            self.first = offset;
        }
        self.bytes.extend_from_slice(record.key.unwrap_or_default());
        let key = record.key.map(|_| self.bytes.len());
        self.bytes.extend_from_slice(record.value);
        self.list.push(One { key, end: self.bytes.len(), time });
    }

    fn records(&self) -> impl Iterator<Item = RecordRef<'_>> {
        let mut start = 0;
        self.list.iter().map(move |one| {
            let value = one.key.unwrap_or(start);
            let key = one.key.map(|end| &self.bytes[start..end]);
            start = one.end;
            RecordRef { key, event_time: one.time, ..RecordRef::of(&self.bytes[value..one.end]) }
        })
    }
}
