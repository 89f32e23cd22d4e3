//! From one ring to another: into memory when the disk fails, and back to the disk when that can be used.
//!
//! What has to hold whatever fails when, and however often: a record that was taken is sent to each sink that wants it,
//! once; a cursor claims nothing that its sink was not sent; a source is told that a record is safe only once the ring
//! that it is in has it.
//!
//! **[`leave`]: the disk fails.** Sinks see durable records only, so what is not durable no sink has (in RAM-first mode some
//! may have some of it, and step over that): all of it goes to a new ring in memory, in order, under new numbers, with what
//! the sources know of where they stand; every sink begins there before the first of it. Nobody was told that it is safe, so nothing is claimed that does not hold. What is durable stays
//! on the disk, and so do the cursors; as they stand now, with accounts and positions, they are kept in [`Left`], because
//! the disk may have older ones. Records too large for memory's slots are kept there too. Sources begin again on the ring
//! in memory: what they had in flight they send again, and what they sent twice is known by their own state.
//!
//! **[`over`]: a disk can be used**, the one that was left or another. Records in memory that some sink has not passed are
//! put behind what the disk has. Two things must not be sent twice:
//!
//! - *What the disk has above the place where memory took over.* A sync that fails says nothing about what was written: a
//!   recovery may find records that memory took over, and so may one after an earlier attempt to come back that failed
//!   half-way. All of it is in memory's hands, so every sink steps over all of it ([`Stretch`], released). This is why
//!   [`Left`] keeps the place of the first leaving until a return is complete: what half a return wrote is void.
//! - *What one sink has passed in memory and another has not.* It is put once; the sinks that have it step over it. The
//!   note of that is in the same frame as the records: without them it would stand for later ones, and without it they
//!   would be sent again.
//!
//! Then the sinks' own states as they were kept, and where the sources stand now. When all is durable memory is given back;
//! when the disk fails before that, memory goes on as it was.
//!
//! What remains: of a request that is on its way to an upstream at the moment of a change, which never answers, nobody
//! knows what became of it; its records have other numbers in the next ring and are sent again. A node that dies in memory
//! mode loses what is in memory, and records whose sync failed may be sent once more if the disk has them after all.
//! What the failed disk could still give to a sink that has not had it waits until the disk is back.

use std::sync::Arc;

use crate::hub::{Kept, LINKS_OWNER};
use crate::lane::LaneId;
use crate::name::Name;
use crate::pipeline::{Account, Pipeline, SinkStates, Stretch, note_elsewhere, note_sink};
use crate::record::RecordRef;
use crate::ring::{AppendError, Disk, Entry, Frame, Health, Owner, OwnerKind, ReadStep, Ring, RingId, drive, execute};
use crate::time::BootTime;
use crate::topic::{TopicName, TopicPart};

/// A ring to carry to, driven in place.
pub struct Target<'a> {
    pub ring: &'a mut Ring,
    pub disk: &'a mut dyn Disk,
    pub now: &'a dyn Fn() -> BootTime,
    /// Waits a moment, because the disk takes nothing at present.
    pub pause: &'a dyn Fn(),
}

/// What stays behind on a disk that failed.
#[derive(Default)]
pub struct Left {
    /// The ring that failed; by lane, the first ordinal that memory has.
    place: Option<(RingId, Vec<u64>)>,
    /// The same of other rings that a return to was begun.
    tried: Vec<(RingId, Vec<u64>)>,
    sinks: Vec<SinkStates>,
    /// Too large for memory's slots.
    large: Vec<Large>,
    /// Sources' and rules' entries for which memory has no room.
    states: Vec<(Owner, Vec<u8>, Vec<u8>)>,
    /// Records that wait there for the sink that has most before it.
    pub backlog: u64,
    /// Records that memory took over.
    pub taken: u64,
}

struct Large {
    frame: Arc<Frame>,
    seq: u64,
    topic: Place,
}

/// A topic as it is to be made where it is not there.
#[derive(Clone)]
struct Place {
    name: TopicName,
    lane: Option<Name>,
    partitions: u8,
}

/// What a return came to.
#[derive(Debug, Default)]
pub struct Carried {
    pub records: u64,
    /// That the ring on the disk does not take: of a topic too many.
    pub refused: u64,
    /// Records that the disk had although memory had taken them over.
    pub void: u64,
    /// The disk has another ring than the one that was left.
    pub other: bool,
}

/// Everything that is not durable goes from a ring that cannot write to the one in memory. `sinks` are those of the config.
pub fn leave(from: &mut Pipeline, to: &mut Target<'_>, sinks: &[Name]) -> Left {
    let frames = from.ring_mut().unsynced_frames();
    let ends = from.ring().stats().lanes.iter().map(|lane| lane.durable.ordinal).collect();
    let backlog = from.snapshot().sinks.iter().filter(|s| s.configured).map(|s| s.pending).max();
    let sinks_left = from.sinks_as_they_stand();
    let mut passed: Vec<Vec<Passed>> = (0..from.lanes() as u8).map(|lane| passed(from, LaneId(lane))).collect();
    let from = from.ring();
    let place = Some((from.id(), ends));
    let mut left = Left { place, sinks: sinks_left, backlog: backlog.unwrap_or(0), ..Left::default() };
    for id in from.topic_ids() {
        let _ = place_of(from, id).and_then(|place| to.topic(&place));
    }
    sinks.iter().for_each(|sink| note_sink(to.ring, (to.now)(), sink));
    for frame in frames {
        let lane = frame.lane();
        let put = to.put_frame(from, &frame, from.lane_written(lane).seq, &mut passed[lane.index()]);
        // Memory does not fail; if it did, this would be the place for what it does not take.
        let put =
            put.unwrap_or_else(|_| Put { large: frame.entries_from(0).map(|e| e.seq).collect(), ..Put::default() });
        left.taken += put.records;
        for seq in put.large {
            let entry = frame.entries_from(seq).next();
            if let Some(topic) = entry.and_then(|entry| place_of(from, entry.part.topic)) {
                left.large.push(Large { frame: frame.clone(), seq, topic });
            }
        }
    }
    for (owner, key, value) in states(from) {
        if to.ring.put_state((to.now)(), &owner, &key, Some(&value)).is_err() {
            left.states.push((owner, key, value));
        }
    }
    let _ = to.settle();
    left
}

impl Left {
    /// Whether this is the ring that failed, with all that was durable then.
    fn is_of(&self, ring: &Ring) -> bool {
        let there = |(lane, end): (usize, &u64)| ring.lane_end(LaneId(lane as u8)).ordinal >= *end;
        self.place.as_ref().is_some_and(|(id, ends)| *id == ring.id() && ends.iter().enumerate().all(there))
    }

    /// From where on a ring has nothing that counts: noted when the first return to it is begun.
    fn ends(&mut self, ring: &Ring) -> Vec<u64> {
        let known = self.place.iter().filter(|_| self.is_of(ring)).chain(&self.tried).find(|(id, _)| *id == ring.id());
        known.map(|(_, ends)| ends.clone()).unwrap_or_else(|| {
            let ends: Vec<u64> = ring.stats().lanes.iter().map(|lane| lane.durable.ordinal).collect();
            self.tried.push((ring.id(), ends.clone()));
            ends
        })
    }

    /// The sinks' states as they stood; what they no longer have goes.
    fn restore_sinks(&self, to: &mut Target<'_>) -> Result<(), String> {
        for (owner, entries) in &self.sinks {
            // A position goes with the cursor that it belongs to.
            to.begin_group(0)?;
            let now = (to.now)();
            let gone = to.ring.states(owner).into_iter().filter(|(key, _)| entries.iter().all(|(have, _)| have != key));
            let gone: Vec<_> = gone.map(|(key, _)| (key, None)).collect();
            let kept = entries.iter().map(|(key, value)| (key.clone(), Some(value.clone())));
            let mut put = gone.into_iter().chain(kept);
            let full = put.find_map(|(key, value)| to.ring.put_state(now, owner, &key, value.as_deref()).err());
            to.ring.end_group(now);
            if let Some(full) = full {
                return Err(full.to_string());
            }
        }
        Ok(())
    }
}

/// What the disk has of what is in memory's hands; every sink steps over it.
fn void(ends: &[u64], to: &mut Target<'_>) -> Result<u64, String> {
    let mut void = 0;
    for lane in (0..to.ring.lane_count() as u8).map(LaneId) {
        let end = to.ring.lane_end(lane).ordinal;
        let from = ends.get(lane.index()).copied().unwrap_or(end).min(end);
        void += end - from;
        for owner in to.ring.owners(OwnerKind::Sink) {
            let stretch = Stretch { from, to: end, delivered: 0, filtered: 0 };
            if from < end && !note_elsewhere(to.ring, (to.now)(), &owner, lane, stretch) {
                return Err(format!("no room for the state of sink {}", owner.name));
            }
        }
    }
    // Before anything that is put behind it.
    to.settle()?;
    Ok(void)
}

/// All that is in memory and that some sink has not passed goes to `to`; `from` is closed, and stays as it is. `left` is
/// what to come back to. Err: the disk failed again, in these words.
pub fn over(
    from: &mut Pipeline,
    memory: &mut dyn Disk,
    left: &mut Left,
    to: &mut Target<'_>,
    sinks: &[Name],
) -> Result<Carried, String> {
    let same = left.is_of(to.ring);
    let ends = left.ends(to.ring);
    let mut carried = Carried { other: !same, ..Carried::default() };
    if same {
        left.restore_sinks(to)?;
    }
    // A sink that is new there is to get what comes over, and nothing before it.
    sinks.iter().for_each(|sink| note_sink(to.ring, (to.now)(), sink));
    to.settle()?;
    carried.void = void(&ends, to)?;
    for lane in 0..from.lanes() as u8 {
        carry_lane(from, LaneId(lane), memory, to, &mut carried)?;
    }
    for large in &left.large {
        let entry = large.frame.entries_from(large.seq).next();
        match entry.zip(to.topic(&large.topic)) {
            Some((entry, to_part)) => {
                to.put(TopicPart { partition: entry.part.partition, ..to_part }, &entry.record)?;
                carried.records += 1;
            }
            None => carried.refused += 1,
        }
    }
    carry_states(from.ring(), left, to, same);
    to.settle()?;
    Ok(carried)
}

/// A sink in a lane of memory: where it stands, and what became of what it passed.
struct Passed {
    owner: Owner,
    /// What it has from another ring is counted with what it passed.
    account: Account,
    elsewhere: Vec<Stretch>,
}

impl Passed {
    fn new((owner, mut account, elsewhere): (Owner, Account, Vec<Stretch>)) -> Self {
        account.delivered += elsewhere.iter().map(|s| s.delivered).sum::<u64>();
        account.filtered += elsewhere.iter().map(|s| s.filtered).sum::<u64>();
        Self { owner, account, elsewhere }
    }

    fn has(&self, ordinal: u64) -> bool {
        ordinal < self.account.cursor.ordinal || self.elsewhere.iter().any(|s| s.from <= ordinal && ordinal < s.to)
    }

    /// `count` records of those that it passed.
    fn stretch(&mut self, from: u64, count: u64) -> Stretch {
        let delivered = count.min(self.account.delivered);
        let filtered = (count - delivered).min(self.account.filtered);
        self.account.delivered -= delivered;
        self.account.filtered -= filtered;
        Stretch { from, to: from + count, delivered, filtered }
    }
}

fn passed(from: &Pipeline, lane: LaneId) -> Vec<Passed> {
    from.accounts(lane).into_iter().map(Passed::new).collect()
}

fn carry_lane(
    from: &mut Pipeline,
    lane: LaneId,
    memory: &mut dyn Disk,
    to: &mut Target<'_>,
    carried: &mut Carried,
) -> Result<(), String> {
    let mut sinks = passed(from, lane);
    let oldest = from.ring().stats().lanes[lane.index()].oldest;
    let first = sinks.iter().map(|sink| sink.account.cursor).min().unwrap_or(oldest).max(oldest);
    let mut reader = from.ring().lane_reader(lane, first);
    loop {
        match from.ring_mut().read_lane(&mut reader) {
            ReadStep::Frame(frame) => {
                let put = to.put_frame(from.ring(), &frame, reader.pos.seq, &mut sinks)?;
                carried.records += put.records;
                carried.refused += put.refused + put.large.len() as u64;
                reader.pos = frame.end();
            }
            ReadStep::Gap(_) => {}
            ReadStep::Wait => {
                if !read(from, memory, (to.now)()) {
                    // A read whose answer nobody brings: the process that asked for it is over.
                    return Err("a record in memory cannot be read".into());
                }
            }
            ReadStep::End => return Ok(()),
        }
    }
}

/// Carries out what the ring in memory asks for; false when it asks for nothing.
fn read(from: &mut Pipeline, memory: &mut dyn Disk, now: BootTime) -> bool {
    let mut any = false;
    while let Some(command) = from.ring_mut().poll(now) {
        let done = execute(command, memory);
        from.ring_mut().complete(now, done);
        any = true;
    }
    any
}

/// What became of a frame's records.
#[derive(Default)]
struct Put {
    records: u64,
    refused: u64,
    /// Seqs of those that the ring has no slots for.
    large: Vec<u64>,
}

impl Target<'_> {
    /// Lets the disk do something. Err: it takes nothing any more.
    fn work(&mut self) -> Result<(), String> {
        let now = (self.now)();
        self.ring.hurry(now);
        if drive(self.ring, self.disk, now) == 0 {
            if let Health::Failed(what) = self.ring.health() {
                return Err(what);
            }
            (self.pause)();
        }
        Ok(())
    }

    /// Returns when everything that was put is durable.
    pub fn settle(&mut self) -> Result<(), String> {
        let last = self.ring.last_ticket();
        while self.ring.settled() < last {
            self.work()?;
        }
        Ok(())
    }

    fn begin_group(&mut self, bytes: usize) -> Result<(), String> {
        while self.ring.begin_group((self.now)(), bytes).is_err() {
            self.work()?;
        }
        Ok(())
    }

    /// One record, whatever its size.
    fn put(&mut self, part: TopicPart, record: &RecordRef<'_>) -> Result<(), String> {
        loop {
            match self.ring.append((self.now)(), part, record) {
                Ok(_) => return Ok(()),
                Err(AppendError::Busy) => self.work()?,
                Err(refused) => return Err(refused.to_string()),
            }
        }
    }

    /// The topic, made where it is not there; None: one too many.
    fn topic(&mut self, place: &Place) -> Option<TopicPart> {
        let lane = place.lane.as_ref().map_or(LaneId::default(), |name| self.ring.lane_named(name));
        let have = self.ring.topic_id(place.name.as_str());
        let topic = have.map_or_else(|| self.ring.open_topic(&place.name, lane, place.partitions), Ok).ok()?;
        Some(TopicPart { topic, partition: 0 })
    }

    /// The records of a frame of `from`, from a seq on, together with the word that some of `sinks` have some of them.
    fn put_frame(&mut self, from: &Ring, frame: &Frame, seq: u64, sinks: &mut [Passed]) -> Result<Put, String> {
        let mut places: Vec<(TopicPart, Option<(TopicPart, LaneId)>)> = Vec::new();
        for (part, _, _) in frame.parts() {
            if places.iter().any(|(known, _)| *known == part) {
                continue;
            }
            let place = place_of(from, part.topic).and_then(|place| self.topic(&place));
            let lane = place.and_then(|to| self.ring.topic(to.topic)).map(|info| info.lane);
            places.push((part, place.map(|to| TopicPart { partition: part.partition, ..to }).zip(lane)));
        }
        // What waits in the batches has its places first.
        self.ring.seal_all();
        self.begin_group(frame.raw_len())?;
        let now = (self.now)();
        let mut ends: Vec<u64> =
            (0..self.ring.lane_count() as u8).map(|n| self.ring.lane_end(LaneId(n)).ordinal).collect();
        let (mut put, mut have) = (Put::default(), Vec::new());
        // Partition by partition, as a frame has them: in this order they get their ordinals.
        for (part, to) in places {
            for entry in frame.entries_from(seq).filter(|entry| entry.part == part) {
                match to.map(|(part, lane)| (lane, self.ring.append(now, part, &entry.record))) {
                    Some((lane, Ok(_))) => {
                        note(&mut have, sinks, &entry, lane, ends[lane.index()]);
                        ends[lane.index()] += 1;
                        put.records += 1;
                    }
                    Some((_, Err(AppendError::TooLarge { .. }))) => put.large.push(entry.seq),
                    _ => put.refused += 1,
                }
            }
        }
        for (sink, lane, from, count) in have {
            let stretch = sinks[sink].stretch(from, count);
            // A sink whose state is full gets them again.
            note_elsewhere(self.ring, now, &sinks[sink].owner, lane, stretch);
        }
        self.ring.end_group(now);
        Ok(put)
    }
}

/// The sinks that have the record, which has `ordinal` now.
fn note(have: &mut Vec<(usize, LaneId, u64, u64)>, sinks: &[Passed], entry: &Entry<'_>, lane: LaneId, ordinal: u64) {
    for (at, _) in sinks.iter().enumerate().filter(|(_, sink)| sink.has(entry.ordinal)) {
        match have.iter_mut().find(|(of, to, from, count)| (*of, *to) == (at, lane) && from + count == ordinal) {
            Some((_, _, _, count)) => *count += 1,
            None => have.push((at, lane, ordinal, 1)),
        }
    }
}

fn place_of(ring: &Ring, id: crate::topic::TopicId) -> Option<Place> {
    let topic = ring.topic(id)?;
    Some(Place { lane: ring.lane_name(topic.lane), partitions: topic.partitions.len() as u8, name: topic.name })
}

/// Where sources and rules stand, what links have spent, and what came from whose producers. Consumers' offsets are those of
/// the ring that they were given in.
fn states(ring: &Ring) -> Vec<(Owner, Vec<u8>, Vec<u8>)> {
    let kinds = [OwnerKind::Source, OwnerKind::Rule, OwnerKind::Node, OwnerKind::Endpoint];
    let owners = kinds.into_iter().flat_map(|kind| ring.owners(kind));
    let owners = owners.filter(|owner| match owner.kind {
        OwnerKind::Node => owner.name.as_str() == LINKS_OWNER,
        OwnerKind::Endpoint => is_producers(owner),
        _ => true,
    });
    let entries = owners.flat_map(|owner| ring.states(&owner).into_iter().map(move |(k, v)| (owner.clone(), k, v)));
    entries.collect()
}

/// Their entries are newer than what they are beside, or gone: an old one would have batches stored twice.
fn is_producers(owner: &Owner) -> bool {
    owner.kind == OwnerKind::Endpoint && owner.name.as_str() == Kept::Producers.name()
}

/// What memory knows of where sources and rules stand goes on from what the ring that was left knew, and replaces it. In
/// another ring it is added where nothing is known: of two checkpoints of one file nobody can say which covers more, and the
/// older one only brings lines again.
fn carry_states(from: &Ring, left: &Left, to: &mut Target<'_>, same: bool) {
    let mut all = states(from);
    let kept = left.states.iter().filter(|(owner, key, _)| !is_producers(owner) && from.state(owner, key).is_none());
    all.extend(kept.cloned());
    let now = (to.now)();
    if same {
        for (owner, key, _) in states(to.ring) {
            if !all.iter().any(|(of, have, _)| (of, have) == (&owner, &key)) {
                // Removing takes no room.
                let _ = to.ring.put_state(now, &owner, &key, None);
            }
        }
    }
    for (owner, key, value) in &all {
        let known = to.ring.state(owner, key);
        // Of two values of a producer the greater one is the newer.
        let newer = is_producers(owner) && known.is_some_and(|known| known < &value[..]);
        if known.is_none() || newer || same && known != Some(value) {
            // A full owner goes without: its peer then sends again what it must.
            if to.ring.put_state(now, owner, key, Some(value)).is_err() && is_producers(owner) {
                let _ = to.ring.put_state(now, owner, key, None);
            }
        }
    }
}
