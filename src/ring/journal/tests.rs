//! Laws of the journal, over a disk in memory. Crashes and faults are the simulation's.

use super::super::format::{FrameHeader, FrameKind};
use super::super::tests::options;
use super::super::verify::verify;
use super::super::walk::Walker;
use super::super::*;
use crate::limits::MIN_RING;
use crate::name::Name;
use crate::record::RecordRef;
use crate::time::BootTime;
use crate::topic::{TopicName, TopicPart};

const SECOND: i64 = 1_000_000;

fn two_lanes(max_bytes: u64) -> Options {
    let lane = |name| LaneOptions { name: Name::new(name).unwrap(), reserve: 0 };
    Options { max_bytes, lanes: vec![lane("urgent"), lane("normal")], ..options() }
}

/// A ring to which each record is a commit of its own.
struct Trickle {
    ring: Ring,
    disk: MemDisk,
    options: Options,
    parts: Vec<TopicPart>,
    given: Vec<Vec<Vec<u8>>>,
    now: BootTime,
}

impl Trickle {
    /// Three topics: two in the first lane, one in the second.
    fn new(max_bytes: u64) -> Self {
        let (options, mut disk) = (two_lanes(max_bytes), MemDisk::new(max_bytes));
        let (mut ring, _) = Ring::recover(&mut disk, options.clone()).unwrap();
        let mut part = |(name, lane)| {
            let topic = ring.open_topic(&TopicName::new(name).unwrap(), LaneId(lane), 1).unwrap();
            TopicPart { topic, partition: 0 }
        };
        let parts: Vec<TopicPart> = [("a", 0), ("b", 0), ("c", 1)].into_iter().map(&mut part).collect();
        Self { ring, disk, options, given: vec![Vec::new(); parts.len()], parts, now: BootTime(SECOND) }
    }

    fn give(&mut self, part: usize, value: Vec<u8>) {
        self.now = BootTime(self.now.0 + SECOND);
        let record = RecordRef { admitted: self.now, ..RecordRef::of(&value) };
        self.ring.append(self.now, self.parts[part], &record).unwrap();
        self.given[part].push(value);
        self.flush();
    }

    fn flush(&mut self) {
        self.ring.hurry(self.now);
        drive(&mut self.ring, &mut self.disk, self.now);
        assert_eq!(self.ring.settled(), self.ring.last_ticket(), "{:?}", self.ring.health());
    }

    fn trickle(&mut self, from: u64, to: u64) {
        for n in from..to {
            let event = format!(r#"{{"device":"pump-{:02}","celsius":{}.{},"n":{n}}}"#, n % 9, 20 + n % 7, n % 10);
            self.give((n % 3) as usize, event.into_bytes());
        }
    }

    fn restart(&mut self, clean: bool) -> Report {
        if clean {
            self.ring.close(self.now);
            drive(&mut self.ring, &mut self.disk, self.now);
        }
        let (ring, report) = Ring::recover(&mut self.disk, self.options.clone()).unwrap();
        self.ring = ring;
        report
    }

    /// What a lane's reader meets, by topic, and how many records are in gaps.
    fn read(&mut self) -> (Vec<Vec<Vec<u8>>>, u64) {
        let (mut all, mut gone) = (vec![Vec::new(); self.parts.len()], 0);
        for lane in 0..2 {
            let mut reader = self.ring.lane_reader(LaneId(lane), LanePos::default());
            loop {
                match self.ring.read_lane(&mut reader) {
                    ReadStep::Frame(frame) => {
                        for e in frame.entries_from(reader.pos.seq) {
                            assert_eq!(e.ordinal, reader.pos.ordinal, "ordinals are dense");
                            let topic = self.parts.iter().position(|p| *p == e.part).unwrap();
                            all[topic].push(e.record.value.to_vec());
                            reader.pos = LanePos { seq: e.seq + 1, ordinal: e.ordinal + 1 };
                        }
                        reader.pos = frame.end();
                    }
                    ReadStep::Gap(gap) => gone += gap.count(),
                    ReadStep::Wait => assert!(drive(&mut self.ring, &mut self.disk, self.now) > 0, "waits for nothing"),
                    ReadStep::End => break,
                }
            }
        }
        (all, gone)
    }

    fn read_part(&mut self, topic: usize) -> Vec<Vec<u8>> {
        let (part, mut all) = (self.parts[topic], Vec::new());
        let mut reader = self.ring.part_reader(part, 0);
        loop {
            match self.ring.read_part(&mut reader) {
                ReadStep::Frame(frame) => {
                    for e in frame.entries_of(part, reader.offset) {
                        assert_eq!(e.offset, reader.offset, "offsets are dense");
                        all.push(e.record.value.to_vec());
                        reader.offset += 1;
                    }
                }
                ReadStep::Gap(gap) => panic!("{gap:?}"),
                ReadStep::Wait => assert!(drive(&mut self.ring, &mut self.disk, self.now) > 0, "waits for nothing"),
                ReadStep::End => return all,
            }
        }
    }

    /// The frames of the slots in use, by their headers.
    fn frames(&mut self, kind: FrameKind) -> Vec<FrameHeader> {
        let slots: Vec<_> = self.ring.own_slots().map(|s| (s.id, s.ring, s.generation)).collect();
        let bytes = self.ring.slots.slot_bytes;
        let frames = slots.into_iter().flat_map(|(slot, ring, generation)| {
            let content = Walker::new(&mut self.disk, slot, (&Keys::default(), Formats::default()))
                .frames(ring, generation, bytes);
            content.frames.into_iter().map(|s| s.header)
        });
        frames.filter(|h| h.kind == kind).collect()
    }

    fn spoil(&mut self, header: &FrameHeader) {
        let at = header.at as usize + header.payload_at();
        self.disk.file_mut(FileId::Slot(header.slot)).unwrap()[at] ^= 0x10;
    }
}

#[test]
fn small_commits_are_read_back_in_order_before_and_after_they_are_copied_and_across_restarts() {
    for restarts in [0, 1, 2] {
        let mut trickle = Trickle::new(MIN_RING);
        for stretch in 0..6 {
            trickle.trickle(stretch * 300, stretch * 300 + 300);
            if restarts > 0 {
                let report = trickle.restart(restarts == 1);
                assert_eq!((report.corrupt_records, report.lost_unsynced), (0, 0), "{report:?}");
            }
        }
        let given = trickle.given.clone();
        assert_eq!(trickle.read(), (given.clone(), 0));
        (0..3).for_each(|topic| assert_eq!(trickle.read_part(topic), given[topic]));
        assert!(trickle.frames(FrameKind::Copy).len() >= 4 && trickle.frames(FrameKind::Lane).is_empty());
        let found = verify(&mut trickle.disk, &Keys::default(), &mut || false, &mut |_, _| {}).unwrap();
        assert!(found.is_good(), "{:#?}", found.findings);
        assert_eq!((found.totals.records, found.totals.records_lost), (1800, 0));
    }
}

#[test]
fn a_large_commit_stands_behind_the_small_ones_before_it() {
    let mut trickle = Trickle::new(MIN_RING);
    for n in 0..20u8 {
        trickle.trickle(u64::from(n) * 3, u64::from(n) * 3 + 3);
        trickle.give(usize::from(n) % 3, (0..20_000u32).map(|i| ((i * i) >> 7) as u8 ^ n).collect());
    }
    let given = trickle.given.clone();
    assert!(!trickle.frames(FrameKind::Lane).is_empty());
    for _ in 0..2 {
        assert_eq!(trickle.read(), (given.clone(), 0));
        (0..3).for_each(|topic| assert_eq!(trickle.read_part(topic), given[topic]));
        trickle.restart(false);
    }
}

/// 64 MiB hold 14 days of it: this is a day and three quarters in an eighth, where the journal and the snapshots take a
/// larger share.
#[test]
fn a_durable_record_a_second_costs_the_room_of_its_bytes_and_not_of_its_page() {
    let mut trickle = Trickle::new(8 << 20);
    for n in 0..42 * 3600u64 {
        let event = format!(
            r#"{{"device":"pump-{:02}","site":"north","ts":{},"celsius":{}.{},"bar":{}.{},"flow":{:03},"state":"run"}}"#,
            n % 9,
            1_700_000_000 + n,
            20 + n % 17,
            n % 10,
            n % 3,
            n * 7 % 10,
            n * 31 % 997
        );
        assert!((95..105).contains(&event.len()), "{event}");
        trickle.now = BootTime(trickle.now.0 + SECOND);
        let record = RecordRef { admitted: trickle.now, ..RecordRef::of(event.as_bytes()) };
        trickle.ring.append(trickle.now, trickle.parts[0], &record).unwrap();
        trickle.flush();
    }
    let stats = trickle.ring.stats();
    assert_eq!((stats.lanes[0].admitted, stats.lanes[0].evicted), (42 * 3600, 0), "{stats:?}");
    assert_eq!(trickle.ring.topic(trickle.parts[0].topic).unwrap().partitions[0].earliest, 0);
    let stands = u64::from(stats.slots) * stats.slot_bytes;
    println!("{} of 8 MiB for {} records: {} bytes each", stands, 42 * 3600, stands / (42 * 3600));
    assert!(stats.logical_bytes < 42 * 3600 * 130, "what is copied is not counted twice");
}

#[test]
fn damage_to_what_was_copied_costs_nothing_and_to_what_was_not_its_own_records() {
    let mut trickle = Trickle::new(MIN_RING);
    trickle.trickle(0, 900);
    let dense: Vec<u64> = trickle.ring.lanes.iter().map(|l| l.dense().ordinal).collect();
    assert!(dense.iter().all(|d| *d > 0), "{dense:?}");
    let journal = trickle.frames(FrameKind::Journal);
    let wanted = |h: &&FrameHeader| h.records > 0 && h.first_ordinal() >= dense[h.lane.index()];
    let spent = journal.iter().find(|h| h.records > 0 && !wanted(h)).unwrap();
    let (mid, all) = (journal.iter().filter(wanted).nth(20).unwrap(), 900);
    trickle.spoil(spent);
    let report = trickle.restart(false);
    assert_eq!((report.corrupt_records, trickle.read().1), (0, 0), "{report:?}");
    trickle.spoil(mid);
    for _ in 0..3 {
        trickle.restart(false);
        let (records, gone) = trickle.read();
        let corrupt: u64 = trickle.ring.stats().lanes.iter().map(|l| l.corrupt).sum();
        assert_eq!((records.iter().map(Vec::len).sum::<usize>(), gone, corrupt), (all - 1, 1, 1));
    }
}

#[test]
fn a_copy_that_is_torn_is_made_again_from_the_journal() {
    let mut trickle = Trickle::new(MIN_RING);
    let mut given = 0;
    while trickle.frames(FrameKind::Copy).len() < 2 {
        trickle.trickle(given, given + 1);
        given += 1;
    }
    // Nothing stands behind it, and no snapshot was made since.
    let newest = trickle.frames(FrameKind::Copy).into_iter().max_by_key(|h| h.generation).unwrap();
    trickle.spoil(&newest);
    let report = trickle.restart(false);
    assert_eq!((report.corrupt_records, report.lost_unsynced), (0, 0), "{report:?}");
    for stretch in 0..3 {
        trickle.trickle(given, given + 200 * stretch);
        given += 200 * stretch;
        assert!(trickle.read() == (trickle.given.clone(), 0), "{:?}", trickle.ring.tails());
        trickle.restart(false);
    }
    assert!(trickle.frames(FrameKind::Copy).len() > 2);
    let found = verify(&mut trickle.disk, &Keys::default(), &mut || false, &mut |_, _| {}).unwrap();
    assert!(found.is_good(), "{:#?}", found.findings);
    assert_eq!((found.totals.records, found.totals.records_lost), (given, 0));
}

#[test]
fn a_ring_of_few_slots_has_no_journal_and_one_that_shrinks_gives_it_up() {
    let mut trickle = Trickle::new(MIN_RING);
    trickle.trickle(0, 200);
    trickle.ring.set_limits(8 * (256 << 10) + ROOT_BYTES, Span::from_secs(1));
    trickle.trickle(200, 260);
    assert_eq!(trickle.ring.tails(), []);
    assert!(trickle.ring.stats().slots as usize <= 8);
    let given = trickle.given.clone();
    assert_eq!(trickle.read(), (given.clone(), 0));
    trickle.options.max_bytes = 8 * (256 << 10) + ROOT_BYTES;
    trickle.restart(false);
    trickle.trickle(260, 300);
    assert_eq!(trickle.read(), (trickle.given.clone(), 0));
    assert!(!trickle.frames(FrameKind::Lane).is_empty() && trickle.ring.journal.slots.len() <= 2);
}
