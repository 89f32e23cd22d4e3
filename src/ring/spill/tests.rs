//! Laws of RAM-first mode, over a disk in memory. Crashes and faults are the simulation's.

use proptest::prelude::*;

use super::super::tests::options;
use super::super::verify::verify;
use super::super::*;
use crate::limits::MIN_RING;
use crate::name::Name;
use crate::record::RecordRef;
use crate::time::BootTime;
use crate::topic::{TopicName, TopicPart};

const SECOND: i64 = 1_000_000;

/// A ring of two lanes, and a sink that reads all of both.
struct House {
    ring: Ring,
    disk: MemDisk,
    now: BootTime,
    parts: Vec<TopicPart>,
    readers: Vec<LaneReader>,
    /// By lane, what the sink was given: ordinals and values.
    got: Vec<Vec<(u64, Vec<u8>)>>,
    gaps: Vec<Gap>,
    given: u64,
}

fn owner() -> Owner {
    Owner { kind: OwnerKind::Sink, name: Name::new("hq").unwrap() }
}

impl House {
    fn new() -> Self {
        Self::on(MemDisk::new(MIN_RING))
    }

    fn on(mut disk: MemDisk) -> Self {
        let lane = |name| LaneOptions { name: Name::new(name).unwrap(), reserve: 0 };
        let options = Options { lanes: vec![lane("urgent"), lane("normal")], ..options() };
        let (mut ring, _) = Ring::recover(&mut disk, options).unwrap();
        let parts = [("a", 0), ("b", 1), ("c", 1)].map(|(name, lane)| {
            let topic = ring.open_topic(&TopicName::new(name).unwrap(), LaneId(lane), 1).unwrap();
            TopicPart { topic, partition: 0 }
        });
        let stands = |lane: u8| {
            let stored = ring.state(&owner(), &[lane]).and_then(|v| postcard::from_bytes(v).ok());
            ring.lane_reader(LaneId(lane), stored.unwrap_or_default())
        };
        let readers = vec![stands(0), stands(1)];
        let (got, gaps, given, now) = (vec![Vec::new(); 2], Vec::new(), 0, BootTime(SECOND));
        let mut house = Self { ring, disk, now, parts: parts.to_vec(), readers, got, gaps, given };
        house.ring.set_ram_first(true);
        // What is reserved for it becomes durable first.
        house.pass(0);
        house.pass(10);
        house
    }

    /// Time goes by, and the disk does what it is asked.
    fn pass(&mut self, seconds: i64) {
        self.now = BootTime(self.now.0 + seconds * SECOND);
        drive(&mut self.ring, &mut self.disk, self.now);
    }

    fn give(&mut self, part: usize) -> Vec<u8> {
        self.given += 1;
        let value = format!("event {:08}", self.given).into_bytes();
        let record = RecordRef { admitted: self.now, ..RecordRef::of(&value) };
        self.ring.append(self.now, self.parts[part], &record).unwrap();
        value
    }

    /// The sink takes all that is there; then what it has passed may go.
    fn take(&mut self) {
        for lane in 0..2 {
            loop {
                let reader = &mut self.readers[lane];
                match self.ring.read_lane(reader) {
                    ReadStep::Frame(frame) => {
                        let new = frame.entries_from(reader.pos.seq).map(|e| (e.ordinal, e.record.value.to_vec()));
                        self.got[lane].extend(new);
                        reader.pos = frame.end();
                    }
                    ReadStep::Gap(gap) => self.gaps.push(gap),
                    ReadStep::Wait => assert!(drive(&mut self.ring, &mut self.disk, self.now) > 0),
                    ReadStep::End => break,
                }
            }
            self.ring.set_passed(LaneId(lane as u8), Some(self.readers[lane].pos));
        }
        drive(&mut self.ring, &mut self.disk, self.now);
    }

    /// The sink's cursors are stored; all that is held is lifted with them.
    fn store(&mut self) {
        for lane in 0..2u8 {
            let value = postcard::to_allocvec(&self.readers[usize::from(lane)].pos).unwrap();
            self.ring.put_state(self.now, &owner(), &[lane], Some(&value)).unwrap();
        }
        self.ring.hurry(self.now);
        self.pass(0);
        assert_eq!(self.ring.settled(), self.ring.last_ticket());
    }

    fn synced(&self) -> u64 {
        self.ring.stats().synced_bytes
    }
}

#[test]
fn what_a_sink_takes_at_once_is_never_written_and_read_in_order() {
    let mut house = House::new();
    // Both lanes have a slot.
    house.give(0);
    house.give(1);
    house.pass(1);
    house.take();
    house.store();
    house.got = vec![Vec::new(); 2];
    let before = house.synced();
    let mut values = [Vec::new(), Vec::new()];
    for n in 0..900 {
        let part = n % 3;
        let value = house.give(part);
        values[usize::from(part > 0)].push(value);
        house.pass(1);
        house.take();
    }
    assert_eq!(house.synced(), before, "not a byte");
    for (got, want) in house.got.iter_mut().zip(&values) {
        assert_eq!(got.len(), want.len());
        assert!(got.iter().zip(want).all(|(got, want)| got.1 == *want));
    }
    assert!(house.gaps.is_empty());
    // What is told of all of it is a page for each lane, beside what lifts it.
    house.store();
    assert!(house.synced() - before <= 3 * 4096, "{}", house.synced() - before);
}

#[test]
fn what_somebody_waits_for_is_durable_with_all_before_it() {
    let mut house = House::new();
    let kept: Vec<Vec<u8>> = (0..40).map(|_| house.give(1)).collect();
    house.pass(2);
    assert!(house.ring.settled() < house.ring.last_ticket(), "nobody waits");
    let waited = house.give(2);
    house.ring.want(house.ring.last_ticket());
    house.pass(2);
    assert_eq!(house.ring.settled(), house.ring.last_ticket());
    let mut again = House::on(house.disk);
    again.take();
    let all: Vec<Vec<u8>> = again.got[1].drain(..).map(|(_, value)| value).collect();
    assert_eq!(all, [kept, vec![waited]].concat());
}

#[test]
fn what_waits_for_a_slow_sink_is_written_before_it_takes_much_memory() {
    let mut house = House::new();
    for _ in 0..4000 {
        let value = vec![house.given as u8; 900];
        let record = RecordRef { admitted: house.now, ..RecordRef::of(&value) };
        while house.ring.append(house.now, house.parts[1], &record).is_err() {
            house.pass(0);
        }
        house.given += 1;
        house.pass(0);
        assert!(house.ring.held_bytes() < 512 * 1024);
    }
    house.pass(2);
    house.take();
    assert_eq!(house.got[1].len(), 4000);
}

#[test]
fn after_a_crash_no_number_is_used_twice_and_cursors_are_not_beyond_what_is_there() {
    let mut house = House::new();
    let mut shown = 0;
    for _ in 0..50 {
        house.give(1);
        house.pass(1);
        house.take();
        shown = house.ring.topic(house.parts[1].topic).unwrap().partitions[0].durable_end;
    }
    house.store();
    for _ in 0..50 {
        house.give(1);
        house.pass(1);
        house.take();
        shown = house.ring.topic(house.parts[1].topic).unwrap().partitions[0].durable_end;
    }
    let (seq, ordinal) = (house.readers[1].pos.seq, house.readers[1].pos.ordinal);
    assert_eq!((ordinal, shown), (100, 100));
    // What was dropped since is in no count.
    let mut again = House::on(house.disk);
    assert_eq!(again.readers[1].pos.ordinal, 50);
    let done = again.ring.append(again.now, again.parts[1], &RecordRef::of(b"new")).unwrap();
    assert!(done.offset >= shown, "offset {} was shown before", done.offset);
    again.ring.want(done.ticket);
    again.pass(2);
    again.take();
    assert!(again.readers[1].pos.seq > seq, "a seq is used twice");
    assert_eq!(again.got[1], [(50, b"new".to_vec())]);
    assert!(again.gaps.iter().all(|gap| gap.reason == GapReason::Passed), "{:?}", again.gaps);
}

#[test]
fn a_reader_from_the_beginning_meets_what_is_there_and_is_told_what_was_passed() {
    let mut house = House::new();
    let (mut kept, mut passed) = (0, 0);
    for round in 0..6 {
        for _ in 0..20 {
            house.give(1);
            house.give(2);
            house.pass(1);
            if round % 2 == 0 {
                house.take();
            }
        }
        if round % 2 == 0 {
            passed += 40
        } else {
            kept += 40
        }
        house.store();
        house.take();
    }
    let verified = verify(&mut house.disk.clone(), &Keys::default(), &mut || false, &mut |_, _| {}).unwrap();
    assert!(!verified.damaged, "{:?}", verified.findings);
    let mut again = House::on(house.disk.clone());
    for house in [&mut house, &mut again] {
        (house.got, house.gaps) = (vec![Vec::new(); 2], Vec::new());
        house.readers[1] = house.ring.lane_reader(LaneId(1), LanePos::default());
        house.take();
        assert_eq!(house.got[1].len(), kept);
        assert!(house.gaps.iter().all(|gap| gap.reason == GapReason::Passed), "{:?}", house.gaps);
        let parts = house.gaps.iter().flat_map(|g| &g.parts).map(|p| p.to_offset - p.from_offset).sum::<u64>();
        assert_eq!((house.gaps.iter().map(Gap::count).sum::<u64>(), parts), (passed, passed));
        // By partition the same.
        let mut reader = house.ring.part_reader(house.parts[1], 0);
        let (mut seen, mut missing) = (0, 0);
        loop {
            let before = reader.offset;
            match house.ring.read_part(&mut reader) {
                ReadStep::Frame(frame) => {
                    seen += frame.entries_of(house.parts[1], before).count();
                    reader.offset = frame.entries_of(house.parts[1], before).last().unwrap().offset + 1;
                }
                // Reserved, and skipped by the start that found no clean end.
                ReadStep::Gap(gap) if gap.reason == GapReason::LostUnsynced => assert_eq!(before, 120),
                ReadStep::Gap(gap) => {
                    assert_eq!(gap.reason, GapReason::Passed);
                    missing += reader.offset - before;
                }
                ReadStep::Wait => assert!(drive(&mut house.ring, &mut house.disk, house.now) > 0),
                ReadStep::End => break,
            }
        }
        assert_eq!((seen, missing), (kept / 2, passed / 2));
    }
}

#[test]
fn a_clean_end_tells_all_that_was_dropped() {
    let mut house = House::new();
    for _ in 0..30 {
        house.give(0);
        house.give(1);
        house.pass(1);
        house.take();
    }
    house.give(1);
    let ticket = house.ring.close(house.now);
    house.pass(0);
    assert!(house.ring.settled() >= ticket);
    let again = House::on(house.disk);
    let stats = again.ring.stats();
    assert_eq!((stats.lanes[0].admitted, stats.lanes[1].admitted), (30, 31));
    assert_eq!(stats.lanes.iter().map(|l| l.corrupt + l.lost_unsynced).sum::<u64>(), 0);
}

#[derive(Clone, Debug)]
enum Step {
    Give(u8),
    Pass(u8),
    Take,
    Store,
    Online(bool),
    Want,
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..3u8).prop_map(Step::Give),
        4 => (0..3u8).prop_map(Step::Pass),
        4 => Just(Step::Take),
        1 => Just(Step::Store),
        1 => any::<bool>().prop_map(Step::Online),
        1 => Just(Step::Want),
        1 => Just(Step::Crash),
    ]
}

proptest! {
    /// Nothing that somebody waited for is lost to the sink, nothing comes twice from one life of the ring, ordinals are
    /// dense, and after every crash the directory is sound.
    #[test]
    fn whatever_happens_what_was_waited_for_reaches_the_sink(steps in proptest::collection::vec(step(), 1..120)) {
        let mut house = House::new();
        let (mut waited, mut had): (Vec<Vec<u8>>, Vec<Vec<u8>>) = Default::default();
        let mut given = Vec::new();
        for step in steps {
            match step {
                Step::Give(part) => given.push(house.give(part.into())),
                Step::Pass(seconds) => house.pass(seconds.into()),
                Step::Take => house.take(),
                Step::Store => {
                    house.take();
                    house.store();
                    waited.append(&mut given);
                }
                Step::Online(on) => house.ring.set_ram_first(on),
                Step::Want => {
                    house.ring.want(house.ring.last_ticket());
                    house.pass(3);
                    prop_assert_eq!(house.ring.settled(), house.ring.last_ticket());
                    waited.append(&mut given);
                }
                Step::Crash => {
                    had.extend(house.got.iter().flatten().map(|(_, value)| value.clone()));
                    let verified = verify(&mut house.disk.clone(), &Keys::default(), &mut || false, &mut |_, _| {}).unwrap();
                    prop_assert!(!verified.damaged, "{:?}", verified.findings);
                    let before = house.given;
                    house = House::on(house.disk);
                    house.given = before;
                    given.clear();
                }
            }
            for got in &house.got {
                prop_assert!(got.windows(2).all(|pair| pair[0].0 < pair[1].0), "an ordinal twice");
            }
        }
        house.ring.want(house.ring.last_ticket());
        house.pass(3);
        house.take();
        had.extend(house.got.iter().flatten().map(|(_, value)| value.clone()));
        for value in &waited {
            prop_assert!(had.contains(value), "lost: {}", String::from_utf8_lossy(value));
        }
        let lost = house.ring.stats().lanes.iter().map(|l| l.corrupt + l.evicted).sum::<u64>();
        prop_assert_eq!(lost, 0);
    }
}
