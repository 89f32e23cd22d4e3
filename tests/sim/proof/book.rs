//! What a ring was given and has acknowledged, and whether an image of its disk still says so.
//!
//! A media that only crashes makes the law short. A lane's ordinals are dense and its frames follow each other in the order
//! of admission (inside one, records stand by partition), so a frame of the ordinals `[from, to)` holds exactly the records
//! that were given to the lane as number `from` to `to`. An image may differ from the book in three ways only:
//!
//! - its log ends sooner, but not before what was settled;
//! - some of what was not settled is announced as lost unsynced, and stays so;
//! - what lies below the oldest place that the running ring kept (its slot is being written over) is evicted, or corrupt.
//!
//! All else is read back byte by byte at its offset and seq. A state entry has the value that was settled or one that was
//! given later, and then everything that was given before that is there; a group is there as a whole or not at all.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use headwater::backoff::Rng;
use headwater::lane::LaneId;
use headwater::record::RecordRef;
use headwater::ring::{
    Command, Disk, Entry, Frame, Gap, GapReason, LanePos, LaneReader, ReadStep, Report, Ring, RingId, Stats, execute,
};
use headwater::time::{BootTime, Span};
use headwater::topic::{TopicId, TopicName, TopicPart};

use crate::model::{Check, StateKey, Violation, ensure, hash_of};
use crate::ring_world::source;

pub struct Rec {
    part: TopicPart,
    offset: u64,
    hash: u64,
    boot: u32,
    ticket: u64,
    /// Once it was read.
    ordinal: Option<u64>,
    lost: bool,
}

#[derive(Default)]
pub struct Lane {
    /// In the order of admission.
    pub recs: Vec<Rec>,
    /// Of those that were read, by ordinal.
    seqs: Vec<Option<u64>>,
    /// Where this process began.
    base: u64,
    /// Lost unsynced before that.
    lost: u64,
    pub settled: u64,
    /// Where the image began that was looked at last.
    began: u64,
    /// As the running ring has it.
    oldest: u64,
    evicted: u64,
    /// As an earlier process had it: what is below may have been written over before it came back.
    spoilt: u64,
}

#[derive(Clone)]
struct Version {
    ticket: u64,
    value: Option<Vec<u8>>,
}

/// Records and entries of one frame.
struct Group {
    lane: usize,
    numbers: Range<u64>,
    puts: Vec<(StateKey, u64)>,
}

pub struct Topic {
    pub id: TopicId,
    pub name: TopicName,
    pub lane: usize,
    pub partitions: u8,
}

#[derive(Default)]
pub struct Book {
    pub lanes: Vec<Lane>,
    pub topics: Vec<Topic>,
    /// Of each key the newest settled version and those after it.
    states: BTreeMap<StateKey, Vec<Version>>,
    groups: Vec<Group>,
    in_group: bool,
    /// The next offset as it was given, and that of what is settled.
    nexts: HashMap<TopicPart, (u64, u64)>,
    /// By offset: the number in the lane's order of admission.
    numbers: HashMap<TopicPart, Vec<u64>>,
    seqs: HashMap<u64, (usize, u64)>,
    settled: u64,
    id: Option<RingId>,
    /// Reads fail: the running ring may announce what it could not read.
    pub may_misread: bool,
    pub read: u64,
}

/// What an image was found to hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    pub admitted: Vec<u64>,
    pub evicted: Vec<u64>,
    pub lost: Vec<Vec<Range<u64>>>,
    states: Vec<Option<Vec<u8>>>,
    nexts: Vec<(TopicPart, u64)>,
}

/// Tenths of a second until a read that failed is tried again, at most.
const PATIENCE: u32 = 100;

/// Where a ring is read from: its disk, and the writes that it wants and does not get.
pub struct Shelf<'a> {
    pub ring: &'a mut Ring,
    pub disk: &'a mut dyn Disk,
    pub now: BootTime,
    /// Held back.
    pub writes: Vec<Command>,
}

impl Shelf<'_> {
    /// Reads what the ring waits for. Nothing, where its slot is gone meanwhile: it then need only be asked again.
    fn read_on(&mut self) -> Check {
        let mut reads = 0;
        // A read that failed is tried again later.
        for _ in 0..PATIENCE {
            while let Some(command) = self.ring.poll(self.now) {
                if command.op.is_read() {
                    reads += 1;
                    self.ring.complete(self.now, execute(command, self.disk));
                } else {
                    self.writes.push(command);
                }
            }
            if reads > 0 {
                break;
            }
            self.now = self.now + Span::from_millis(100);
        }
        Ok(())
    }

    pub fn step(&mut self, reader: &mut LaneReader) -> Check<ReadStep> {
        for _ in 0..1000 {
            match self.ring.read_lane(reader) {
                ReadStep::Wait => self.read_on()?,
                step => return Ok(step),
            }
        }
        Err(Violation("a reader waits for ever".into()))
    }
}

impl Book {
    pub fn new(lanes: usize) -> Self {
        Self { lanes: (0..lanes).map(|_| Lane::default()).collect(), ..Self::default() }
    }

    // ---- giving ----

    pub fn append(
        &mut self,
        lane: usize,
        part: TopicPart,
        (ticket, offset): (u64, u64),
        boot: u32,
        record: &RecordRef<'_>,
    ) -> Check {
        let next = self.nexts.entry(part).or_default();
        ensure!(next.0 == offset, "{part:?}: offset {offset} was given, the next was {}", next.0);
        next.0 += 1;
        let recs = &mut self.lanes[lane].recs;
        let number = recs.len() as u64;
        recs.push(Rec { part, offset, hash: hash_of(record), boot, ticket, ordinal: None, lost: false });
        let numbers = self.numbers.entry(part).or_default();
        numbers.resize(offset as usize, u64::MAX);
        numbers.push(number);
        if self.in_group
            && let Some(group) = self.groups.last_mut()
        {
            group.lane = lane;
            let first = if group.numbers.is_empty() { number } else { group.numbers.start };
            group.numbers = first..number + 1;
        }
        Ok(())
    }

    pub fn put(&mut self, key: StateKey, value: Option<&[u8]>, ticket: u64) {
        if value.is_none() && self.newest(&key).is_none() {
            return; // nothing to remove: nothing was given
        }
        if self.in_group
            && let Some(group) = self.groups.last_mut()
        {
            group.puts.push((key.clone(), ticket));
        }
        let versions = self.states.entry(key).or_insert_with(|| vec![Version { ticket: 0, value: None }]);
        versions.push(Version { ticket, value: value.map(<[u8]>::to_vec) });
    }

    pub fn newest(&self, key: &StateKey) -> Option<&[u8]> {
        self.states.get(key)?.last()?.value.as_deref()
    }

    pub fn begin_group(&mut self) {
        self.in_group = true;
        self.groups.push(Group { lane: 0, numbers: 0..0, puts: Vec::new() });
    }

    pub fn end_group(&mut self) {
        self.in_group = false;
    }

    /// The ring says that everything up to `ticket` is durable.
    pub fn settle(&mut self, ticket: u64) -> Check {
        ensure!(ticket >= self.settled, "settled went back from {} to {ticket}", self.settled);
        if ticket == self.settled {
            return Ok(());
        }
        self.settled = ticket;
        for lane in &mut self.lanes {
            while let Some(rec) = lane.recs.get(lane.settled as usize).filter(|r| r.ticket <= ticket) {
                lane.settled += 1;
                if let Some(next) = self.nexts.get_mut(&rec.part) {
                    next.1 = next.1.max(rec.offset + 1);
                }
            }
        }
        for versions in self.states.values_mut() {
            let newest = versions.iter().rposition(|v| v.ticket <= ticket).unwrap_or(0);
            versions.drain(..newest);
        }
        self.groups.retain(|g| g.puts.last().is_none_or(|put| put.1 > ticket));
        Ok(())
    }

    pub fn settled(&self) -> u64 {
        self.settled
    }

    /// What the running ring says of itself: what it gave free, it had to, and it counts what no sink had passed.
    pub fn running(&mut self, stats: &Stats, floors: &[Option<LanePos>], slots: u64) -> Check {
        for (at, (lane, now)) in self.lanes.iter_mut().zip(&stats.lanes).enumerate() {
            let oldest = now.oldest.ordinal;
            if oldest > lane.oldest {
                ensure!(u64::from(stats.slots) >= slots, "lane {at}: evicts with {} slots of {slots}", stats.slots);
                let passed = floors[at].map_or(0, |floor| floor.ordinal);
                let unread = oldest.saturating_sub(passed.max(lane.oldest));
                let counted = now.evicted - lane.evicted;
                ensure!(counted == unread, "lane {at}: {unread} evicted unread, {counted} counted");
            }
            ensure!(oldest >= lane.oldest, "lane {at}: oldest went back to {oldest} from {}", lane.oldest);
            ensure!(now.corrupt == 0, "lane {at}: {} corrupt on a disk that only crashes", now.corrupt);
            ensure!(now.lost_unsynced == lane.lost, "lane {at}: lost {} while running", now.lost_unsynced);
            (lane.oldest, lane.evicted, lane.began) = (oldest, now.evicted, 0);
        }
        Ok(())
    }

    // ---- an image ----

    /// Holds a ring that was recovered from an image against the book. `full`: every record is read, else those about the
    /// end and some by chance.
    pub fn check(&mut self, shelf: &mut Shelf<'_>, report: &Report, full: bool, rng: &mut Rng) -> Check<Found> {
        // Inside a group no commit begins: one that did might evict what is to be read.
        shelf.ring.begin_group(shelf.now, 0).map_err(|e| Violation(format!("a ring that came back: {e}")))?;
        let stats = shelf.ring.stats();
        let id = *self.id.get_or_insert(shelf.ring.id());
        let nothing = self.lanes.iter().all(|l| l.settled == 0) && self.settled == 0;
        ensure!(nothing || id == shelf.ring.id(), "the ring is another one: {:?}, was {id:?}", shelf.ring.id());
        ensure!(stats.lanes.len() == self.lanes.len(), "{} lanes", stats.lanes.len());
        let mut found = Found { nexts: self.check_topics(shelf.ring, &stats)?, ..Found::default() };
        for (at, lane) in stats.lanes.iter().enumerate() {
            let have = &self.lanes[at];
            let (admitted, given) = (lane.admitted, have.recs.len() as u64);
            ensure!(
                (have.settled..=given).contains(&admitted),
                "lane {at}: {admitted} admitted, {} were acknowledged and {given} given",
                have.settled
            );
            // Of a lane that holds nothing acknowledged, the first slot may be there without its beginning.
            let torn = have.oldest.max(have.base) >= have.settled && report.tail_unknown;
            ensure!(
                lane.oldest.ordinal <= have.oldest || torn,
                "lane {at}: begins at #{}, the running ring kept all from #{}; {report:?}",
                lane.oldest.ordinal,
                have.oldest
            );
            // In a slot that was being written over, below what the running ring kept.
            let written_over = have.oldest.saturating_sub(lane.oldest.ordinal);
            ensure!(
                lane.corrupt <= written_over,
                "lane {at}: {} corrupt on a disk that only crashes, {written_over} of them written over",
                lane.corrupt
            );
            ensure!(
                lane.evicted <= have.evicted,
                "lane {at}: {} evicted, {} while running",
                lane.evicted,
                have.evicted
            );
            ensure!(lane.durable.ordinal == admitted, "lane {at}: {admitted} admitted, durable to {:?}", lane.durable);
            found.admitted.push(admitted);
            found.evicted.push(lane.evicted);
        }
        for at in 0..self.lanes.len() {
            self.lanes[at].began = stats.lanes[at].oldest.ordinal;
            let lost = self.read_lane(shelf, at, full, rng)?;
            let counted = stats.lanes[at].lost_unsynced;
            let met: u64 = lost.iter().map(|r| r.end - r.start).sum();
            let before = self.lanes[at].lost;
            ensure!(counted == before + met, "lane {at}: {counted} lost unsynced, {before} before and {met} now");
            found.lost.push(lost);
        }
        found.states = self.check_states(shelf.ring, &found)?;
        shelf.ring.end_group(shelf.now);
        Ok(found)
    }

    fn check_topics(&self, ring: &Ring, stats: &Stats) -> Check<Vec<(TopicPart, u64)>> {
        let mut nexts = Vec::new();
        for topic in &self.topics {
            let info = ring.topic_id(topic.name.as_str()).and_then(|id| ring.topic(id));
            let lost = stats.lanes[topic.lane].lost_unsynced - self.lanes[topic.lane].lost;
            for p in 0..topic.partitions {
                let part = TopicPart { topic: topic.id, partition: p };
                let (given, settled) = self.nexts.get(&part).copied().unwrap_or_default();
                let Some(info) = info.as_ref().filter(|i| i.id == topic.id) else {
                    ensure!(settled == 0, "topic {} is gone, {part:?} has records to {settled}", topic.name);
                    continue;
                };
                ensure!(info.lane.index() == topic.lane, "topic {} is in lane {:?}", topic.name, info.lane);
                let have = info.partitions.get(p as usize).copied().unwrap_or_default();
                ensure!(
                    (settled..=given + lost).contains(&have.next) && have.next == have.durable_end,
                    "{part:?}: next offset {have:?}, {settled} acknowledged, {given} given, {lost} lost"
                );
                nexts.push((part, have.next));
            }
        }
        Ok(nexts)
    }

    /// A place of the lane from which a reader can start, not above the ordinal.
    fn place(&self, at: usize, ordinal: u64) -> LanePos {
        let seqs = &self.lanes[at].seqs;
        let near = (ordinal.saturating_sub(64)..ordinal).rev();
        let known = near.filter_map(|o| Some((o, (*seqs.get(o as usize)?)?))).next();
        known.map_or(LanePos::default(), |(o, seq)| LanePos { seq: seq + 1, ordinal: o + 1 })
    }

    /// Reads a lane; gives the ranges of this process that are lost.
    fn read_lane(&mut self, shelf: &mut Shelf<'_>, at: usize, full: bool, rng: &mut Rng) -> Check<Vec<Range<u64>>> {
        let lane = &self.lanes[at];
        let (oldest, settled) = (lane.oldest, lane.settled);
        let mut lost = Vec::new();
        if !full && settled > oldest {
            // One frame somewhere in the middle.
            let place = self.place(at, oldest + rng.below(settled - oldest));
            if place.ordinal > 0 {
                let mut reader = shelf.ring.lane_reader(LaneId(at as u8), place);
                self.met(shelf, at, &mut reader, &mut lost)?;
            }
        }
        lost.clear();
        let back = 1 + rng.below(100);
        let start = if full { LanePos::default() } else { self.place(at, settled.saturating_sub(back)) };
        let mut reader = shelf.ring.lane_reader(LaneId(at as u8), start);
        while self.met(shelf, at, &mut reader, &mut lost)? {}
        let end = shelf.ring.lane_durable(LaneId(at as u8)).ordinal;
        ensure!(reader.pos.ordinal == end, "lane {at}: the reader ends at {:?}, the lane at #{end}", reader.pos);
        Ok(lost)
    }

    /// A few steps of a reader, at or below `settled`.
    pub fn read_some(&mut self, shelf: &mut Shelf<'_>, lane: usize, settled: u64, rng: &mut Rng) -> Check {
        let place = self.place(lane, rng.below(settled + 1));
        let mut reader = shelf.ring.lane_reader(LaneId(lane as u8), place);
        for _ in 0..3 {
            if !self.met(shelf, lane, &mut reader, &mut Vec::new())? {
                break;
            }
        }
        Ok(())
    }

    /// One step of a reader; false at the end.
    fn met(
        &mut self,
        shelf: &mut Shelf<'_>,
        at: usize,
        reader: &mut LaneReader,
        lost: &mut Vec<Range<u64>>,
    ) -> Check<bool> {
        let before = reader.pos;
        match shelf.step(reader)? {
            ReadStep::Frame(frame) => {
                let pos = self.shown(at, before, &frame)?;
                ensure!(pos.ordinal > before.ordinal, "lane {at}: a frame without records at {before:?}");
                reader.pos = frame.end();
            }
            ReadStep::Gap(gap) => {
                let oldest = shelf.ring.stats().lanes[at].oldest.ordinal;
                ensure!(
                    gap.from == before && gap.to == reader.pos && reader.pos.ordinal > before.ordinal,
                    "lane {at}: {gap:?}, the reader went from {before:?} to {:?}",
                    reader.pos
                );
                self.gap(at, &gap, oldest, lost)?;
            }
            ReadStep::End | ReadStep::Wait => return Ok(false),
        }
        Ok(true)
    }

    fn shown(&mut self, at: usize, from: LanePos, frame: &Frame) -> Check<LanePos> {
        ensure!(Some(frame.ring_id()) == self.id, "lane {at}: a frame of ring {:?}", frame.ring_id());
        let mut pos = from;
        for e in frame.entries_from(from.seq) {
            ensure!(e.ordinal == pos.ordinal, "lane {at}: #{} is shown behind {pos:?}", e.ordinal);
            ensure!(e.seq >= pos.seq, "lane {at} #{}: seq {} behind {pos:?}", e.ordinal, e.seq);
            self.is_given(at, frame, &e)?;
            pos = LanePos { seq: e.seq + 1, ordinal: e.ordinal + 1 };
            self.read += 1;
        }
        ensure!(pos == frame.end(), "lane {at}: the frame's records end at {pos:?}, it says {:?}", frame.end());
        Ok(pos)
    }

    /// The entry is what was given under its offset, where it always stood.
    fn is_given(&mut self, at: usize, frame: &Frame, e: &Entry<'_>) -> Check {
        let number = self.numbers.get(&e.part).and_then(|n| n.get(e.offset as usize)).copied();
        let lane = &mut self.lanes[at];
        let Some(rec) = number.and_then(|n| lane.recs.get_mut(n as usize)) else {
            return Err(Violation(format!(
                "lane {at} #{}: {:?} offset {} was never given",
                e.ordinal, e.part, e.offset
            )));
        };
        ensure!(
            (rec.part, rec.offset) == (e.part, e.offset),
            "lane {at} #{}: {:?} offset {} was given to another lane",
            e.ordinal,
            e.part,
            e.offset
        );
        let inside = (frame.first().ordinal..frame.end().ordinal).contains(&number.unwrap_or(u64::MAX));
        ensure!(inside, "lane {at} #{}: given as number {number:?}, its frame is {:?}", e.ordinal, frame.first());
        ensure!(!rec.lost, "lane {at} #{}: was lost unsynced, and is shown", e.ordinal);
        ensure!(rec.hash == hash_of(&e.record), "{:?} offset {}: other bytes than were given", e.part, e.offset);
        ensure!(rec.boot == frame.boot(), "{:?} offset {}: boot {}", e.part, e.offset, frame.boot());
        let ordinal = *rec.ordinal.get_or_insert(e.ordinal);
        ensure!(ordinal == e.ordinal, "{:?} offset {}: was #{ordinal}, is #{}", e.part, e.offset, e.ordinal);
        if lane.seqs.len() <= ordinal as usize {
            lane.seqs.resize(ordinal as usize + 1, None);
        }
        let seq = *lane.seqs[ordinal as usize].get_or_insert(e.seq);
        ensure!(seq == e.seq, "lane {at} #{ordinal}: seq {}, was {seq}", e.seq);
        let owner = *self.seqs.entry(e.seq).or_insert((at, ordinal));
        ensure!(owner == (at, ordinal), "seq {} is lane {at} #{ordinal} and {owner:?}", e.seq);
        Ok(())
    }

    /// This record was given under this offset.
    pub fn has_given(&self, e: &Entry<'_>) -> bool {
        let number = self.numbers.get(&e.part).and_then(|n| n.get(e.offset as usize));
        let rec = |n: &u64| {
            self.lanes
                .iter()
                .filter_map(|lane| lane.recs.get(*n as usize))
                .any(|r| (r.part, r.offset, r.hash) == (e.part, e.offset, hash_of(&e.record)))
        };
        number.is_some_and(rec)
    }

    fn gap(&self, at: usize, gap: &Gap, oldest: u64, lost: &mut Vec<Range<u64>>) -> Check {
        let lane = &self.lanes[at];
        let (from, to) = (gap.from.ordinal, gap.to.ordinal);
        let fine = match gap.reason {
            GapReason::Evicted => {
                // A lane's first slot whose beginning was torn: never durable, and counted as lost.
                let torn = from.max(lane.oldest).max(lane.base)..to.min(lane.began);
                if !torn.is_empty() {
                    lost.push(torn.clone());
                }
                to <= oldest && (torn.is_empty() || torn.start >= lane.settled)
            }
            GapReason::Corrupt => to <= lane.oldest.max(lane.spoilt) || self.may_misread,
            GapReason::LostUnsynced => {
                let now = from.max(lane.base)..to;
                if !now.is_empty() {
                    lost.push(now);
                }
                (from..to).all(|o| if o < lane.base { lane.recs[o as usize].lost } else { o >= lane.settled })
            }
            GapReason::Passed | GapReason::Expired => false,
        };
        ensure!(
            fine,
            "lane {at}: {gap:?}; {} settled, this process began at #{}, the ring kept all from #{}",
            lane.settled,
            lane.base,
            lane.oldest
        );
        for p in &gap.parts {
            for offset in p.from_offset..p.to_offset {
                let number = self.numbers.get(&p.part).and_then(|n| n.get(offset as usize));
                // Inside a frame the order is another than that of admission: known where the record was read once.
                let rec = number.and_then(|n| lane.recs.get(*n as usize));
                let inside = rec.is_some_and(|r| r.ordinal.is_none_or(|o| (from..to).contains(&o)));
                ensure!(inside, "lane {at}: {gap:?} names offset {offset} of {:?}, which is not in it", p.part);
            }
        }
        Ok(())
    }

    /// Every entry has the value that was settled or a later one; then everything before that is there.
    fn check_states(&self, ring: &Ring, found: &Found) -> Check<Vec<Option<Vec<u8>>>> {
        let mut values = Vec::new();
        let mut newest = 0;
        let mut of_version = HashMap::new();
        for (key, versions) in &self.states {
            let value = ring.state(&source(key.0.into()), &key.1);
            // Values are told apart by their numbers; of several tombstones the oldest claims least.
            let Some(version) = versions.iter().find(|v| v.value.as_deref() == value) else {
                let given: Vec<_> = versions.iter().map(|v| (v.ticket, &v.value)).collect();
                return Err(Violation(format!("state {key:?} is {value:?}, acknowledged and given: {given:?}")));
            };
            let most = versions.iter().rfind(|v| v.value.as_deref() == value).map_or(0, |v| v.ticket);
            newest = newest.max(version.ticket);
            of_version.insert(key, most);
            values.push(value.map(<[u8]>::to_vec));
        }
        for (at, lane) in self.lanes.iter().enumerate() {
            let lost = |o: u64| o >= found.admitted[at] || found.lost[at].iter().any(|r| r.contains(&o));
            let from = lane.settled.max(lane.base);
            let before = (from..lane.recs.len() as u64).take_while(|o| lane.recs[*o as usize].ticket < newest);
            for ordinal in before {
                ensure!(
                    !lost(ordinal),
                    "lane {at} #{ordinal} is gone, an entry of ticket {newest} given after it is there"
                );
            }
        }
        for group in &self.groups {
            let lost =
                |o: u64| o >= found.admitted[group.lane] || found.lost[group.lane].iter().any(|r| r.contains(&o));
            let there = group.numbers.clone().filter(|o| !lost(*o)).count();
            let whole = there == group.numbers.clone().count();
            ensure!(whole || there == 0, "of a group's records {:?} {there} are there", group.numbers);
            for (key, ticket) in &group.puts {
                let has = of_version.get(key).is_some_and(|most| most >= ticket);
                let empty = group.numbers.is_empty();
                ensure!(empty || has || there == 0, "group {:?} is there without its entry {key:?}", group.numbers);
            }
        }
        Ok(values)
    }

    /// The process goes on with what was found.
    pub fn adopt(&mut self, ring: &Ring, found: &Found) {
        let stats = ring.stats();
        for (at, lane) in self.lanes.iter_mut().enumerate() {
            let admitted = found.admitted[at];
            lane.recs.truncate(admitted as usize);
            let gone = lane.seqs.drain((admitted as usize).min(lane.seqs.len())..);
            gone.flatten().for_each(|seq| _ = self.seqs.remove(&seq));
            found.lost[at].iter().cloned().flatten().for_each(|o| lane.recs[o as usize].lost = true);
            (lane.base, lane.settled) = (admitted, admitted);
            lane.lost = stats.lanes[at].lost_unsynced;
            lane.spoilt = lane.spoilt.max(lane.oldest);
            (lane.oldest, lane.evicted) = (stats.lanes[at].oldest.ordinal, stats.lanes[at].evicted);
        }
        for (versions, value) in self.states.values_mut().zip(&found.states) {
            *versions = vec![Version { ticket: 0, value: value.clone() }];
        }
        self.groups.clear();
        (self.settled, self.in_group) = (0, false);
        self.nexts = found.nexts.iter().map(|(part, next)| (*part, (*next, *next))).collect();
        for (part, numbers) in &mut self.numbers {
            numbers.truncate(self.nexts.get(part).map_or(0, |next| next.0 as usize));
        }
        self.id = Some(ring.id());
    }
}
