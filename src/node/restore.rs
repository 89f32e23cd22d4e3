//! Records of another ring, brought into the ring of a stopped node: `ring import`.
//!
//! What was taken is remembered in the ring itself, in the frame of the records: for each partition of each ring that
//! records came from the ranges of offsets that are here. So a record is here once, whatever crashes, and whatever is
//! imported again; and pieces may come in any order.
//!
//! Records of one partition that follow each other are a group of the ring: they and their range share a frame.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use super::clock::Clock;
use super::disk::FileDisk;
use super::identity::{self, Lock, LockError};
use super::plan;
use super::stopped::StoppedRing;
use super::trial;
use crate::lane::LaneId;
use crate::limits::{FRAME_RAW_TARGET, MAX_SLOT, MIN_RING, MIN_SLOT, TARGET_SLOTS};
use crate::name::Name;
use crate::pipeline::Account;
use crate::record::{Flags, Record};
use crate::ring::{
    AppendError, Disk, DiskError, Health, Keys, LaneOptions, LanePos, Options, Owner, OwnerKind, ROOT_BYTES, Ring,
    RingId, StateError, Ticket, TopicError, drive,
};
use crate::time::{ClockSync, Span, WallTime};
use crate::topic::{TopicId, TopicName, TopicPart};

/// The node's state entries under this name say what was imported.
const NAME: &str = "import";
/// What the ring leaves free for others, as nodes do unless their config says otherwise.
const KEEP_FREE: u64 = 200 * 1024 * 1024;
/// Of a group: well below a frame, with what each record takes beside its bytes.
const GROUP_BYTES: usize = FRAME_RAW_TARGET / 2;
const GROUP_RECORDS: usize = 256;
/// Separate ranges of offsets of one partition.
const MAX_RANGES: usize = 64;
const RETRY: Duration = Duration::from_millis(50);

/// Why nothing more is taken.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error("the ring cannot be read: {0}")]
    Disk(#[from] DiskError),
    #[error(
        "the ring was written on another machine: imported here it would change its identity; import where its node runs"
    )]
    Elsewhere,
    #[error("the ring cannot be written: {0}")]
    Failed(String),
    #[error("what was imported cannot be remembered: {0}")]
    State(#[from] StateError),
}

/// Why one record is not taken.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("it comes from this very ring ({:032x}), where it is or was", .0.0)]
    Own(RingId),
    #[error("`{0}` is a topic of the node's own")]
    OwnTopic(TopicName),
    #[error("topic `{topic}` has no partition {partition} here, only {}", shown(*.have))]
    Partition { topic: TopicName, have: usize, partition: u8 },
    #[error(transparent)]
    Topic(TopicError),
    #[error("it has {bytes} bytes, and this ring takes {limit} at most")]
    TooLarge { bytes: usize, limit: usize },
    #[error(
        "{MAX_RANGES} separate pieces of topic `{0}` are imported already: import what lies between them first, oldest first"
    )]
    Pieces(TopicName),
}

/// Which partitions a topic has.
fn shown(partitions: usize) -> String {
    if partitions < 2 { "0".into() } else { format!("0 to {}", partitions - 1) }
}

/// A record to take, and where it stood.
pub struct Foreign<'a> {
    pub ring: RingId,
    pub topic: &'a TopicName,
    pub partition: u8,
    /// Of a topic that is made for it.
    pub partitions: u8,
    pub lane: &'a str,
    pub offset: u64,
    /// When it was admitted there, and whether that clock was to be believed.
    pub time: Option<(WallTime, bool)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    New,
    AlreadyThere,
}

/// Offsets that are here: `[from, to)`, in order, apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    fn has(&self, offset: u64) -> bool {
        let at = self.0.partition_point(|(from, _)| *from <= offset);
        at > 0 && offset < self.0[at - 1].1
    }

    /// Adds an offset that is not in it.
    fn add(&mut self, offset: u64) {
        let at = self.0.partition_point(|(from, _)| *from <= offset);
        let follows = at > 0 && self.0[at - 1].1 == offset;
        let leads = at < self.0.len() && self.0[at].0 == offset + 1;
        match (follows, leads) {
            (true, true) => {
                self.0[at - 1].1 = self.0[at].1;
                self.0.remove(at);
            }
            (true, false) => self.0[at - 1].1 = offset + 1,
            (false, true) => self.0[at].0 = offset,
            (false, false) => self.0.insert(at, (offset, offset + 1)),
        }
    }

    fn encode(&self) -> Vec<u8> {
        self.0.iter().flat_map(|(from, to)| [from.to_le_bytes(), to.to_le_bytes()]).flatten().collect()
    }

    fn decode(bytes: &[u8]) -> Self {
        let (numbers, _) = bytes.as_chunks::<8>();
        let pairs =
            numbers.as_chunks::<2>().0.iter().map(|[from, to]| (u64::from_le_bytes(*from), u64::from_le_bytes(*to)));
        Self(pairs.filter(|(from, to)| from < to).collect())
    }
}

/// Ring id, partition, topic.
type Key = Vec<u8>;

fn key(of: &Foreign<'_>) -> Key {
    let mut key = of.ring.0.to_le_bytes().to_vec();
    key.push(of.partition);
    key.extend_from_slice(of.topic.as_str().as_bytes());
    key
}

/// Records of one partition that wait to become a group.
#[derive(Default)]
struct Group {
    key: Key,
    part: Option<TopicPart>,
    records: Vec<Record>,
    bytes: usize,
}

/// The ring of a stopped node, open for records of others.
pub struct Restore {
    ring: Ring,
    disk: FileDisk,
    clock: Clock,
    _lock: Lock,
    owner: Owner,
    here: HashMap<Key, Ranges>,
    own: Vec<RingId>,
    group: Group,
    evicted: u64,
    /// Records given to the ring.
    given: u64,
    /// Tickets at which so many records had been given, until they are durable.
    marks: Vec<(Ticket, u64)>,
    durable: u64,
}

impl Restore {
    /// Takes the directory's lock, as a node does. `max_bytes`: the ring's cap, if it is not to be guessed from its slots;
    /// `keys`: what it is encrypted under, and is to be.
    pub fn open(dir: &Path, max_bytes: Option<u64>, keys: Keys) -> Result<Self, RestoreError> {
        let lock = identity::lock(dir)?;
        if StoppedRing::open(dir, &keys)?.report.cloned {
            return Err(RestoreError::Elsewhere);
        }
        let mut disk = FileDisk::new(dir, KEEP_FREE);
        let files = disk.list()?;
        // An existing ring has names for its lanes; here nobody knows better.
        let lanes = if files.is_empty() { plan::lanes() } else { Vec::new() };
        let cap = identity::max_bytes(dir, Some(max_bytes.unwrap_or(cap(&files))), KEEP_FREE);
        let options = Options {
            max_bytes: cap.map_or(MIN_RING, |(cap, _)| cap),
            lanes: lanes.into_iter().map(|name| LaneOptions { name, reserve: 0 }).collect(),
            linger: Span::from_secs(1),
            binding: identity::binding(),
            boot_id: identity::boot_id(),
            seed: identity::seed(),
            keys,
            formats: trial::formats(dir),
        };
        let (mut ring, _) = Ring::recover(&mut disk, options)?;
        let clock = Clock::default();
        let now = clock.now();
        ring.set_clock(now.boot, ClockSync::of(now));
        set_floors(&mut ring);
        let Ok(name) = Name::new(NAME) else { return Err(RestoreError::Failed("no name".into())) };
        let owner = Owner { kind: OwnerKind::Node, name };
        let here = ring.states(&owner).into_iter().map(|(key, value)| (key, Ranges::decode(&value))).collect();
        let own = std::iter::once(ring.id()).chain(ring.former().into_iter().map(|(id, _)| id)).collect();
        let evicted = evicted(&ring);
        Ok(Self {
            ring,
            disk,
            clock,
            _lock: lock,
            owner,
            here,
            own,
            group: Group::default(),
            evicted,
            given: 0,
            marks: Vec::new(),
            durable: 0,
        })
    }

    /// Records that are durable of those that were taken as new.
    pub fn durable(&self) -> u64 {
        self.durable
    }

    /// Records of this ring that no sink had passed and that went to make room.
    pub fn evicted(&self) -> u64 {
        evicted(&self.ring) - self.evicted
    }

    /// Takes a record unless it is here. It is durable when `close` has returned, or before.
    pub fn take(&mut self, of: &Foreign<'_>, mut record: Record) -> Result<Result<Taken, Refused>, RestoreError> {
        if self.own.contains(&of.ring) {
            return Ok(Err(Refused::Own(of.ring)));
        }
        let key = key(of);
        if self.here.get(&key).is_some_and(|ranges| ranges.has(of.offset)) {
            return Ok(Ok(Taken::AlreadyThere));
        }
        let (bytes, limit) = (record.as_ref().len(), self.ring.max_record());
        if bytes > limit {
            return Ok(Err(Refused::TooLarge { bytes, limit }));
        }
        if key != self.group.key || self.group.records.len() == GROUP_RECORDS || self.group.bytes + bytes > GROUP_BYTES
        {
            self.flush()?;
        }
        let part = match self.part(of) {
            Ok(part) => part,
            Err(refused) => return Ok(Err(refused)),
        };
        let mut ranges = self.here.get(&key).cloned().unwrap_or_default();
        let before = ranges.encode();
        ranges.add(of.offset);
        if ranges.0.len() > MAX_RANGES {
            return Ok(Err(Refused::Pieces(of.topic.clone())));
        }
        if ranges.encode().len() > before.len() {
            self.reserve(&key, before)?;
        }
        let now = self.clock.now();
        if let (None, Some((time, trusted))) = (record.event_time, of.time) {
            record.event_time = Some(time);
            if !trusted {
                record.flags = record.flags.with(Flags::CLOCK_UNTRUSTED);
            }
        }
        if !now.trusted {
            record.flags = record.flags.with(Flags::CLOCK_UNTRUSTED);
        }
        record.admitted = now.boot;
        self.here.insert(key.clone(), ranges);
        self.group.part = Some(part);
        self.group.key = key;
        self.group.bytes += bytes;
        self.group.records.push(record);
        Ok(Ok(Taken::New))
    }

    /// Room for one range more of a partition: inside of a group it could not be refused any more.
    fn reserve(&mut self, key: &[u8], mut value: Vec<u8>) -> Result<(), RestoreError> {
        self.flush()?;
        value.extend_from_slice(&[0; 16]);
        self.ring.put_state(self.clock.now().boot, &self.owner, key, Some(&value))?;
        Ok(())
    }

    /// Where the record goes; its topic is made if it is missing.
    fn part(&mut self, of: &Foreign<'_>) -> Result<TopicPart, Refused> {
        if of.topic.is_reserved() {
            return Err(Refused::OwnTopic(of.topic.clone()));
        }
        let topic = match self.ring.topic_id(of.topic.as_str()) {
            Some(topic) => topic,
            None => self.open_topic(of)?,
        };
        let have = self.ring.topic(topic).map_or(0, |info| info.partitions.len());
        if usize::from(of.partition) >= have {
            return Err(Refused::Partition { topic: of.topic.clone(), have, partition: of.partition });
        }
        Ok(TopicPart { topic, partition: of.partition })
    }

    fn open_topic(&mut self, of: &Foreign<'_>) -> Result<TopicId, Refused> {
        let order = self.ring.lane_order();
        let named = |name: &str| {
            order.iter().find(|lane| self.ring.lane_name(**lane).is_some_and(|known| known.as_str() == name))
        };
        let lane = named(of.lane).or_else(|| named(crate::lane::DEFAULT_LANE)).or(order.last());
        let lane = lane.copied().unwrap_or_default();
        self.ring.open_topic(of.topic, lane, of.partitions).map_err(Refused::Topic)
    }

    /// Gives the group to the ring.
    fn flush(&mut self) -> Result<(), RestoreError> {
        let group = std::mem::take(&mut self.group);
        let Some(part) = group.part else { return Ok(()) };
        let now = self.clock.now().boot;
        // One record may be larger than a group is otherwise.
        while self.ring.begin_group(now, group.bytes.max(GROUP_BYTES)).is_err() {
            self.work()?;
        }
        for record in &group.records {
            // What could be refused was looked at before, and in a group the ring is never busy.
            let appended = self.ring.append(now, part, &record.as_ref());
            appended.map_err(|error: AppendError| RestoreError::Failed(error.to_string()))?;
        }
        let value = self.here.get(&group.key).map(Ranges::encode).unwrap_or_default();
        let ticket = self.ring.put_state(now, &self.owner, &group.key, Some(&value))?;
        self.ring.end_group(now);
        self.given += group.records.len() as u64;
        self.marks.push((ticket, self.given));
        if !self.ring.has_room() {
            self.work()?;
        }
        Ok(())
    }

    /// Has the disk do what is due.
    fn work(&mut self) -> Result<(), RestoreError> {
        let ran = drive(&mut self.ring, &mut self.disk, self.clock.now().boot);
        let settled = self.ring.settled();
        let done = self.marks.partition_point(|(ticket, _)| *ticket <= settled);
        if let Some((_, given)) = self.marks.drain(..done).next_back() {
            self.durable = given;
        }
        if let Health::Failed(why) = self.ring.health() {
            return Err(RestoreError::Failed(why));
        }
        if ran == 0 {
            std::thread::sleep(RETRY);
        }
        Ok(())
    }

    /// Makes everything durable and ends as a node does in good order.
    pub fn close(&mut self) -> Result<(), RestoreError> {
        self.flush()?;
        let end = self.ring.close(self.clock.now().boot);
        while self.ring.settled() < end {
            self.work()?;
        }
        // The page that says that the end was clean.
        drive(&mut self.ring, &mut self.disk, self.clock.now().boot);
        Ok(())
    }
}

/// The cap that a ring of such slots was made with, as far as they tell.
fn cap(files: &[(crate::ring::SlotId, u64)]) -> u64 {
    let slot = files.iter().map(|(_, len)| *len).max().unwrap_or(0);
    let made = match slot {
        ..=MIN_SLOT => MIN_RING,
        _ => slot.min(MAX_SLOT) * TARGET_SLOTS,
    };
    made.max(slot * files.len() as u64) + ROOT_BYTES
}

/// What every sink has passed may go before anything else, and is not counted.
fn set_floors(ring: &mut Ring) {
    let sinks = ring.owners(OwnerKind::Sink);
    for lane in 0..ring.lane_count() {
        let key = format!("cursor/{lane}");
        let cursor = |sink: &Owner| {
            let account: Option<Account> = ring.state(sink, key.as_bytes()).and_then(|v| postcard::from_bytes(v).ok());
            account.map_or(LanePos::default(), |account| account.cursor)
        };
        let floor = sinks.iter().map(cursor).min();
        ring.set_floor(LaneId(lane as u8), floor);
    }
}

fn evicted(ring: &Ring) -> u64 {
    ring.stats().lanes.iter().map(|lane| lane.evicted).sum()
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use super::*;
    use crate::node::stopped::Met;
    use crate::record::RecordRef;
    use crate::time::BootTime;
    use proptest::prelude::*;

    const FROM: RingId = RingId(7);

    /// A stopped node's ring, of 4 MiB, with one record of its own.
    fn ring() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let mut disk = FileDisk::new(dir.path(), 0);
        let lanes = plan::lanes().into_iter().map(|name| LaneOptions { name, reserve: 0 }).collect();
        let (binding, boot_id) = (identity::binding(), identity::boot_id());
        let options = Options {
            max_bytes: MIN_RING,
            lanes,
            linger: Span::from_secs(1),
            binding,
            boot_id,
            seed: 5,
            keys: Default::default(),
            formats: Default::default(),
        };
        let (mut ring, _) = Ring::recover(&mut disk, options).unwrap();
        let topic = ring.open_topic(&TopicName::new("own").unwrap(), LaneId(0), 1).unwrap();
        ring.append(BootTime(1), TopicPart { topic, partition: 0 }, &RecordRef::of(b"own")).unwrap();
        ring.close(BootTime(1));
        drive(&mut ring, &mut disk, BootTime(1));
        dir
    }

    fn take(restore: &mut Restore, topic: &str, offset: u64) -> Result<Taken, Refused> {
        let topic = TopicName::new(topic).unwrap();
        let time = Some((WallTime(1_000_000), true));
        let of = Foreign { ring: FROM, topic: &topic, partition: 0, partitions: 1, lane: "normal", offset, time };
        restore.take(&of, Record { value: format!("{topic} {offset}").into_bytes(), ..Record::default() }).unwrap()
    }

    fn values(dir: &Path) -> Vec<String> {
        let mut ring = StoppedRing::open(dir, &Keys::default()).unwrap();
        let mut values = Vec::new();
        for lane in 0..ring.lanes().len() as u8 {
            let mut met = |met: Met<'_>| {
                if let Met::Record(_, _, entry) = met {
                    values.push(String::from_utf8(entry.record.value.to_vec()).unwrap());
                }
                Ok(ControlFlow::Continue(()))
            };
            ring.scan(LaneId(lane), 0, &mut met).unwrap();
        }
        values
    }

    #[test]
    fn what_is_imported_again_is_there_once_whatever_the_order_of_the_pieces() {
        let dir = ring();
        let mut expected = vec!["own".to_owned()];
        for piece in [3..6u64, 0..4, 0..9] {
            let mut restore = Restore::open(dir.path(), None, Keys::default()).unwrap();
            for offset in piece {
                for topic in ["a", "b"] {
                    let name = format!("{topic} {offset}");
                    let there = expected.contains(&name);
                    assert_eq!(
                        take(&mut restore, topic, offset),
                        Ok(if there { Taken::AlreadyThere } else { Taken::New })
                    );
                    expected.extend((!there).then_some(name));
                }
            }
            restore.close().unwrap();
            let mut there = values(dir.path());
            there.sort_unstable();
            expected.sort_unstable();
            assert_eq!(there, expected);
        }
        assert!(StoppedRing::open(dir.path(), &Keys::default()).unwrap().report.clean_shutdown);
    }

    #[test]
    fn an_import_that_ends_anywhere_goes_on_where_it_ended() {
        let dir = ring();
        let total = 4000;
        let mut known = 0;
        for stop in [1, 700, 1900, 3000, total] {
            // Dropped without a close: what the ring was given last is gone.
            let mut restore = Restore::open(dir.path(), None, Keys::default()).unwrap();
            for offset in 0..stop {
                let taken = take(&mut restore, "a", offset).unwrap();
                assert!(offset < known && taken == Taken::AlreadyThere || offset >= known && taken == Taken::New);
                if offset % 500 == 499 {
                    restore.flush().unwrap();
                    restore.ring.hurry(BootTime(0));
                    restore.work().unwrap();
                }
            }
            if stop == total {
                restore.close().unwrap();
            }
            known += restore.durable();
            drop(restore);
            assert_eq!(values(dir.path()).len() as u64, known + 1);
        }
        let expected: Vec<_> = (0..total).map(|offset| format!("a {offset}")).collect();
        assert_eq!(values(dir.path())[1..], expected);
    }

    #[test]
    fn what_does_not_belong_here_is_refused() {
        let dir = ring();
        let mut restore = Restore::open(dir.path(), None, Keys::default()).unwrap();
        assert!(matches!(
            Restore::open(dir.path(), None, Keys::default()),
            Err(RestoreError::Lock(LockError::Owned { .. }))
        ));
        assert!(matches!(take(&mut restore, "headwater-status", 0), Err(Refused::OwnTopic(_))));
        let topic = TopicName::new("own").unwrap();
        let id = restore.ring.id();
        let of = Foreign { ring: id, topic: &topic, partition: 0, partitions: 1, lane: "", offset: 0, time: None };
        assert_eq!(restore.take(&of, Record::default()).unwrap(), Err(Refused::Own(id)));
        let of = Foreign { ring: FROM, partition: 1, partitions: 2, ..of };
        assert!(matches!(restore.take(&of, Record::default()).unwrap(), Err(Refused::Partition { have: 1, .. })));
        let of = Foreign { partition: 0, ..of };
        let large = Record { value: vec![0; 1 << 20], ..Record::default() };
        assert!(matches!(restore.take(&of, large).unwrap(), Err(Refused::TooLarge { .. })));
        let pieces = (0..MAX_RANGES as u64).map(|n| take(&mut restore, "pieces", 2 * n));
        assert!(pieces.collect::<Vec<_>>().iter().all(|taken| *taken == Ok(Taken::New)));
        assert!(matches!(take(&mut restore, "pieces", 1000), Err(Refused::Pieces(_))));
        assert_eq!(take(&mut restore, "pieces", 1), Ok(Taken::New));
        restore.close().unwrap();
        assert_eq!(restore.durable(), MAX_RANGES as u64 + 1);
    }

    #[test]
    fn the_time_of_admission_becomes_the_time_of_the_event() {
        let dir = ring();
        let mut restore = Restore::open(dir.path(), None, Keys::default()).unwrap();
        take(&mut restore, "a", 0).unwrap();
        restore.close().unwrap();
        drop(restore);
        let mut ring = StoppedRing::open(dir.path(), &Keys::default()).unwrap();
        let mut times = Vec::new();
        ring.scan(LaneId(1), 0, &mut |met| {
            if let Met::Record(_, clock, entry) = met {
                times.push((entry.record.event_time, clock.map(|clock| clock.wall(entry.record.admitted))));
            }
            Ok(ControlFlow::Continue(()))
        })
        .unwrap();
        let (event, admitted) = *times.last().unwrap();
        assert_eq!(event, Some(WallTime(1_000_000)));
        assert!(admitted.unwrap().0 > 1_600_000_000_000_000);
    }

    proptest! {
        #[test]
        fn ranges_hold_what_was_added_and_come_back(offsets in prop::collection::vec(0u64..60, 0..80)) {
            let mut ranges = Ranges::default();
            let mut model = std::collections::BTreeSet::new();
            for offset in offsets {
                prop_assert_eq!(ranges.has(offset), model.contains(&offset));
                if model.insert(offset) {
                    ranges.add(offset);
                }
            }
            prop_assert!(ranges.0.windows(2).all(|w| w[0].1 < w[1].0) && ranges.0.iter().all(|(from, to)| from < to));
            prop_assert!((0..60).all(|offset| ranges.has(offset) == model.contains(&offset)));
            let mut reserved = ranges.encode();
            reserved.extend_from_slice(&[0; 16]);
            prop_assert_eq!(Ranges::decode(&reserved), ranges);
        }
    }
}
