//! Laws of the whole ring, over a disk in memory. Crashes and faults are the simulation's (`tests/sim`).

use std::collections::VecDeque;
use std::sync::Arc;

use proptest::prelude::*;

use super::format::FRAME_HEADER;
use super::*;
use crate::limits::MIN_RING;
use crate::name::Name;
use crate::record::{Record, RecordRef};
use crate::time::{BootTime, ClockSync};
use crate::topic::{TopicId, TopicName, TopicPart};

const NOW: BootTime = BootTime(1_000_000);

pub(super) fn options() -> Options {
    Options {
        max_bytes: MIN_RING,
        lanes: vec![LaneOptions { name: Name::new("normal").unwrap(), reserve: 0 }],
        linger: Span::from_secs(1),
        binding: [1; 16],
        boot_id: [2; 16],
        seed: 7,
        keys: Default::default(),
        formats: Default::default(),
    }
}

fn open(disk: &mut MemDisk) -> (Ring, Report) {
    Ring::recover(disk, options()).unwrap()
}

pub(super) fn part(topic: TopicId) -> TopicPart {
    TopicPart { topic, partition: 0 }
}

pub(super) fn topic(ring: &mut Ring, name: &str) -> TopicId {
    ring.open_topic(&TopicName::new(name).unwrap(), LaneId(0), 1).unwrap()
}

pub(super) fn value(ring: &mut Ring, disk: &mut MemDisk, id: TopicId, value: &[u8]) -> Appended {
    loop {
        match ring.append(NOW, part(id), &RecordRef::of(value)) {
            Ok(done) => return done,
            Err(AppendError::Busy) => _ = drive(ring, disk, NOW),
            Err(other) => panic!("{other}"),
        }
    }
}

pub(super) fn flush(ring: &mut Ring, disk: &mut MemDisk) {
    ring.hurry(NOW);
    drive(ring, disk, NOW);
    assert_eq!(ring.settled(), ring.last_ticket(), "{:?}", ring.health());
}

/// What a sink that reads everything from `pos` meets.
pub(super) fn drain(ring: &mut Ring, disk: &mut MemDisk, pos: LanePos) -> (Vec<Record>, Vec<Gap>) {
    let mut reader = ring.lane_reader(LaneId(0), pos);
    let (mut records, mut gaps) = (Vec::new(), Vec::new());
    loop {
        match ring.read_lane(&mut reader) {
            ReadStep::Frame(frame) => {
                for e in frame.entries_from(reader.pos.seq) {
                    assert_eq!(e.ordinal, reader.pos.ordinal, "ordinals are dense");
                    records.push(e.record.to_owned());
                    reader.pos = LanePos { seq: e.seq + 1, ordinal: e.ordinal + 1 };
                }
                assert_eq!(reader.pos, frame.end());
            }
            ReadStep::Gap(gap) => gaps.push(gap),
            ReadStep::Wait => assert!(drive(ring, disk, NOW) > 0, "waits for nothing"),
            ReadStep::End => return (records, gaps),
        }
    }
}

fn drain_part(ring: &mut Ring, disk: &mut MemDisk, part: TopicPart) -> Vec<(u64, Vec<u8>)> {
    let mut reader = ring.part_reader(part, 0);
    let mut all = Vec::new();
    loop {
        match ring.read_part(&mut reader) {
            ReadStep::Frame(frame) => {
                for e in frame.entries_of(part, reader.offset) {
                    all.push((e.offset, e.record.value.to_vec()));
                    reader.offset = e.offset + 1;
                }
            }
            ReadStep::Gap(_) => {}
            ReadStep::Wait => assert!(drive(ring, disk, NOW) > 0, "waits for nothing"),
            ReadStep::End => return all,
        }
    }
}

/// Tokens of reads are those of writes and 2^63: where a place has 32 bits, no more of them may be looked at than both.
#[test]
fn a_read_that_is_done_makes_nothing_durable() {
    let mut disk = MemDisk::new(MIN_RING);
    let (mut ring, _) = open(&mut disk);
    let id = topic(&mut ring, "pump");
    let ticket = value(&mut ring, &mut disk, id, b"one").ticket;
    ring.hurry(NOW);
    let writes: Vec<_> = std::iter::from_fn(|| ring.poll(NOW)).collect();
    assert!(!writes.is_empty());
    for write in &writes {
        ring.complete(NOW, Completion { token: (1 << 63) + write.token, result: Ok(()), buf: Vec::new() });
        assert!(ring.settled() < ticket, "settled by a read");
    }
    for write in writes {
        let done = execute(write, &mut disk);
        ring.complete(NOW, done);
    }
    drive(&mut ring, &mut disk, NOW);
    assert!(ring.settled() >= ticket);
}

#[test]
fn bytes_over_the_rings_life_are_known_after_a_crash() {
    let mut disk = MemDisk::new(MIN_RING);
    for crash in [true, true, false] {
        let (mut ring, _) = open(&mut disk);
        let id = topic(&mut ring, "pump");
        for i in 0..40_000u32 {
            value(&mut ring, &mut disk, id, &[i.to_le_bytes(); 8].concat());
        }
        flush(&mut ring, &mut disk);
        if !crash {
            ring.close(NOW);
            drive(&mut ring, &mut disk, NOW);
        }
        let before = ring.stats();
        let (ring, _) = open(&mut disk);
        let after = ring.stats();
        // The frame that says that a shutdown was clean does not count itself.
        let clean = if crash { 0 } else { 4096 };
        assert!(before.stored_bytes - after.stored_bytes <= clean && before.padded_bytes - after.padded_bytes <= clean);
        // The header and the snapshot of the newest slot are in nobody's count.
        assert!(after.synced_bytes <= before.synced_bytes && after.synced_bytes * 10 > before.synced_bytes * 9);
        assert_eq!(after.logical_bytes, before.logical_bytes);
    }
}

#[test]
fn what_is_settled_is_read_back_in_order() {
    let mut disk = MemDisk::new(MIN_RING);
    let (mut ring, report) = open(&mut disk);
    assert!(report.fresh);
    let id = topic(&mut ring, "pump");
    for i in 0..1000u32 {
        let done = value(&mut ring, &mut disk, id, &i.to_le_bytes());
        assert_eq!(done.offset, u64::from(i));
    }
    assert_eq!(drain(&mut ring, &mut disk, LanePos::default()).0, [], "nothing unsynced is shown");
    flush(&mut ring, &mut disk);
    let (records, gaps) = drain(&mut ring, &mut disk, LanePos::default());
    assert_eq!(records.len(), 1000);
    assert!(records.iter().enumerate().all(|(i, r)| r.value == (i as u32).to_le_bytes()));
    assert_eq!(gaps, []);
}

#[test]
fn records_state_and_topics_survive_a_restart() {
    let mut disk = MemDisk::new(MIN_RING);
    let (mut ring, _) = open(&mut disk);
    let owner = Owner { kind: OwnerKind::Sink, name: Name::new("hq").unwrap() };
    let id = topic(&mut ring, "pump");
    for i in 0..5000u32 {
        value(&mut ring, &mut disk, id, format!("record number {i} of a few").as_bytes());
        ring.put_state(NOW, &owner, b"cursor", Some(&i.to_le_bytes())).unwrap();
    }
    flush(&mut ring, &mut disk);
    let (ring_id, before) = (ring.id(), ring.stats());
    drop(ring);
    let (mut ring, report) = open(&mut disk);
    assert_eq!((report.corrupt_records, report.lost_unsynced, report.fresh), (0, 0, false), "{report:?}");
    assert_eq!(ring.id(), ring_id);
    assert_eq!(ring.state(&owner, b"cursor"), Some(&4999u32.to_le_bytes()[..]));
    assert_eq!(ring.topic_id("pump"), Some(id));
    assert_eq!(ring.topic(id).unwrap().partitions[0].next, 5000);
    assert_eq!(ring.stats().lanes[0].admitted, before.lanes[0].admitted);
    let (records, gaps) = drain(&mut ring, &mut disk, LanePos::default());
    assert_eq!((records.len(), gaps), (5000, vec![]));
    value(&mut ring, &mut disk, id, b"after");
    flush(&mut ring, &mut disk);
    let all = drain_part(&mut ring, &mut disk, part(id));
    assert_eq!(all.len(), 5001);
    assert_eq!(all[5000], (5000, b"after".to_vec()));
}

#[test]
fn entries_lost_to_damage_leave_word_up_to_where_they_may_be_missed() {
    let mut disk = MemDisk::new(MIN_RING);
    let (mut ring, _) = open(&mut disk);
    let owner = Owner { kind: OwnerKind::Sink, name: Name::new("hq").unwrap() };
    let id = topic(&mut ring, "pump");
    value(&mut ring, &mut disk, id, b"one");
    flush(&mut ring, &mut disk);
    ring.put_state(NOW, &owner, b"partitions", Some(b"3")).unwrap();
    flush(&mut ring, &mut disk);
    value(&mut ring, &mut disk, id, b"two");
    flush(&mut ring, &mut disk);
    drop(ring);
    let (ring, _) = open(&mut disk);
    assert_eq!((ring.state(&owner, b"partitions"), ring.forgotten_below()), (Some(&b"3"[..]), 0));
    drop(ring);
    let slot = disk.file_mut(FileId::Slot(SlotId(0))).unwrap();
    // The only frame that holds nothing but the entry.
    let place = |page: &[u8]| page.windows(10).position(|w| w == b"partitions");
    let meta = |page: &[u8]| page.starts_with(b"HWfr\x01\x04") && place(page).is_some();
    let at = slot.chunks(PAGE).position(meta).unwrap() * PAGE;
    let at = at + place(&slot[at..]).unwrap();
    slot[at] ^= 1;
    let (mut ring, report) = open(&mut disk);
    assert_eq!((report.corrupt_records, ring.state(&owner, b"partitions")), (0, None), "{report:?}");
    let below = ring.forgotten_below();
    assert!(below >= 2, "{below}");
    value(&mut ring, &mut disk, id, b"three");
    flush(&mut ring, &mut disk);
    drop(ring);
    let (ring, _) = open(&mut disk);
    assert_eq!(ring.forgotten_below(), below, "the same damage is no new one");
}

#[test]
fn eviction_is_counted_to_the_record() {
    let mut disk = MemDisk::new(MIN_RING);
    let (mut ring, _) = open(&mut disk);
    let id = topic(&mut ring, "pump");
    let mut rng = crate::backoff::Rng::new(3);
    let mut bytes = [0u8; 3000];
    for _ in 0..4000 {
        bytes.iter_mut().for_each(|b| *b = rng.next_u64() as u8);
        value(&mut ring, &mut disk, id, &bytes);
    }
    flush(&mut ring, &mut disk);
    let (records, gaps) = drain(&mut ring, &mut disk, LanePos::default());
    assert_eq!(gaps.len(), 1);
    assert_eq!(gaps[0].reason, GapReason::Evicted);
    assert_eq!(records.len() as u64 + gaps[0].count(), 4000);
    let lane = ring.stats().lanes[0];
    assert_eq!(lane.evicted, gaps[0].count());
    let earliest = ring.topic(id).unwrap().partitions[0].earliest;
    assert_eq!(earliest, gaps[0].count());
    assert_eq!(drain_part(&mut ring, &mut disk, part(id)).len(), records.len());
    drop(ring);
    let (mut ring, report) = open(&mut disk);
    assert_eq!(report.notes, [""; 0]);
    assert_eq!(ring.stats().lanes[0].evicted, lane.evicted);
    // What this process has to say goes to the journal, which takes a slot.
    flush(&mut ring, &mut disk);
    let evicted = ring.stats().lanes[0].evicted;
    assert_eq!(drain(&mut ring, &mut disk, LanePos::default()).0.len() as u64, 4000 - evicted);
}

#[test]
fn a_reader_behind_the_cache_meets_what_was_written_after_it_looked() {
    let mut disk = MemDisk::new(MIN_RING);
    let (mut ring, _) = open(&mut disk);
    let id = topic(&mut ring, "pump");
    // Large frames that compress to a page: a window of bytes holds more of them than the cache does.
    let write = |ring: &mut Ring, disk: &mut MemDisk, from: u8| {
        for n in from..from + 12 {
            value(ring, disk, id, &vec![n; 60_000]);
            flush(ring, disk);
        }
    };
    write(&mut ring, &mut disk, 0);
    let mut reader = ring.lane_reader(LaneId(0), LanePos::default());
    let first = loop {
        match ring.read_lane(&mut reader) {
            ReadStep::Frame(frame) => break frame,
            ReadStep::Wait => assert!(drive(&mut ring, &mut disk, NOW) > 0),
            other => panic!("{other:?}"),
        }
    };
    let pos = first.end();
    write(&mut ring, &mut disk, 12);
    let (records, gaps) = drain(&mut ring, &mut disk, pos);
    assert_eq!((records.len(), gaps), (23, vec![]));
}

#[test]
fn a_group_shares_one_frame() {
    let mut disk = MemDisk::new(MIN_RING);
    let (mut ring, _) = open(&mut disk);
    let id = topic(&mut ring, "pump");
    flush(&mut ring, &mut disk);
    let owner = Owner { kind: OwnerKind::Source, name: Name::new("file").unwrap() };
    value(&mut ring, &mut disk, id, &[1; 40_000]);
    ring.begin_group(NOW, 60 * 1024).unwrap();
    for _ in 0..32 {
        ring.append(NOW, part(id), &RecordRef::of(&[2; 1000])).unwrap();
    }
    ring.put_state(NOW, &owner, b"at", Some(b"32")).unwrap();
    ring.end_group(NOW);
    flush(&mut ring, &mut disk);
    let mut reader = ring.lane_reader(LaneId(0), LanePos { seq: 1, ordinal: 1 });
    let ReadStep::Frame(frame) = ring.read_lane(&mut reader) else { panic!("not in memory") };
    assert_eq!(frame.entries_from(0).count(), 32);
}

/// A produced batch may be all overhead: what it takes beside its bytes must not make a frame that nobody can read.
#[test]
fn a_group_of_the_tiniest_records_is_read_back() {
    let mut disk = MemDisk::new(MIN_RING);
    let (mut ring, _) = open(&mut disk);
    let id = topic(&mut ring, "pump");
    let most = ring.max_record();
    let owner = |n: usize| Owner { kind: OwnerKind::Rule, name: Name::new(&format!("rule-{n}")).unwrap() };
    ring.begin_group(NOW, most).unwrap();
    for i in 0..most {
        ring.append(NOW, part(id), &RecordRef::of(&[i as u8])).unwrap();
    }
    for n in 0..8 {
        ring.put_state(NOW, &owner(n), b"window", Some(&[n as u8; 7000])).unwrap();
    }
    ring.end_group(NOW);
    flush(&mut ring, &mut disk);
    drop(ring);
    let (mut ring, report) = open(&mut disk);
    assert_eq!((report.corrupt_records, report.lost_unsynced), (0, 0));
    let (records, gaps) = drain(&mut ring, &mut disk, LanePos::default());
    assert_eq!((records.len(), gaps), (most, vec![]));
    assert!(records.iter().enumerate().all(|(i, r)| r.value == [i as u8]));
    assert!((0..8).all(|n| ring.state(&owner(n), b"window") == Some(&[n as u8; 7000][..])));
}

#[test]
fn a_clean_shutdown_is_known_and_counts_once() {
    let mut disk = MemDisk::new(MIN_RING);
    let (mut ring, _) = open(&mut disk);
    let id = topic(&mut ring, "pump");
    value(&mut ring, &mut disk, id, b"one");
    let ticket = ring.close(NOW);
    drive(&mut ring, &mut disk, NOW);
    assert_eq!(ring.settled(), ticket);
    drop(ring);
    let (ring, report) = open(&mut disk);
    assert!(report.clean_shutdown);
    drop(ring);
    let (mut ring, report) = open(&mut disk);
    assert!(!report.clean_shutdown);
    assert_eq!(drain(&mut ring, &mut disk, LanePos::default()).0.len(), 1);
}

/// A card that was put into another board, twice: each time what was there stays and what is new has another id.
#[test]
fn a_ring_that_changes_machines_takes_a_new_id_and_loses_nothing() {
    let mut disk = MemDisk::new(MIN_RING);
    let mut ids = Vec::new();
    for machine in 1..4u8 {
        let options = || Options { binding: [machine; 16], ..options() };
        let (mut ring, report) = Ring::recover(&mut disk, options()).unwrap();
        assert_eq!(report.cloned, machine > 1);
        assert!(!ids.contains(&ring.id()));
        ids.push(ring.id());
        let id = topic(&mut ring, "pump");
        for i in 0..50 {
            value(&mut ring, &mut disk, id, &[machine, i]);
        }
        flush(&mut ring, &mut disk);
        drop(ring);
        // Where it has been before, it is at home.
        let (mut ring, report) = Ring::recover(&mut disk, options()).unwrap();
        assert!(!report.cloned && report.notes.is_empty(), "{report:?}");
        assert_eq!((report.corrupt_records, report.lost_unsynced, ring.id()), (0, 0, ids[machine as usize - 1]));
        let (records, gaps) = drain(&mut ring, &mut disk, LanePos::default());
        assert_eq!(gaps, []);
        let want: Vec<_> = (1..=machine).flat_map(|m| (0..50).map(move |i| vec![m, i])).collect();
        assert_eq!(records.into_iter().map(|r| r.value).collect::<Vec<_>>(), want);
        let mut reader = ring.lane_reader(LaneId(0), LanePos::default());
        let ReadStep::Frame(first) = ring.read_lane(&mut reader) else { panic!("not in memory") };
        assert_eq!(first.ring_id(), ids[0], "what is old keeps its id");
    }
}

/// A disk with a ring of fifty durable records of one topic.
fn fifty_records() -> (MemDisk, RingId, TopicId) {
    let mut disk = MemDisk::new(MIN_RING);
    let (mut ring, _) = open(&mut disk);
    let id = topic(&mut ring, "pump");
    for i in 0..50 {
        value(&mut ring, &mut disk, id, &[i]);
    }
    flush(&mut ring, &mut disk);
    let ring_id = ring.id();
    drop(ring);
    (disk, ring_id, id)
}

#[test]
fn a_power_cut_while_a_ring_changes_machines_makes_no_strangers_of_its_slots() {
    let (mut disk, first, id) = fifty_records();
    for _ in 0..2 {
        let moved = Options { binding: [9; 16], ..options() };
        let (mut ring, _) = Ring::recover(&mut disk, moved).unwrap();
        assert_eq!(ring.former().iter().map(|f| f.0).collect::<Vec<_>>(), [first]);
        let (records, gaps) = drain(&mut ring, &mut disk, LanePos::default());
        assert_eq!((records.len(), gaps), (50, vec![]));
        // Nothing but the new slot's header gets to the disk.
        while let Some(mut command) = ring.poll(NOW) {
            if let Op::Write { data, .. } = &mut command.op {
                data.truncate(PAGE);
            }
            let header = matches!(&command.op, Op::Write { at: 0, file: FileId::Slot(_), .. });
            _ = execute(command, &mut disk);
            if header {
                break;
            }
        }
    }
    let (mut ring, _) = Ring::recover(&mut disk, Options { binding: [9; 16], ..options() }).unwrap();
    assert_ne!(ring.id(), first);
    value(&mut ring, &mut disk, id, b"goes on");
    flush(&mut ring, &mut disk);
    assert_eq!(drain(&mut ring, &mut disk, LanePos::default()).0.len(), 51);
}

#[test]
fn a_slot_of_before_a_change_of_machine_is_no_strangers_when_its_header_is_damaged() {
    let (mut disk, ..) = fifty_records();
    let moved = || Options { binding: [9; 16], ..options() };
    let (mut ring, _) = Ring::recover(&mut disk, moved()).unwrap();
    let id = topic(&mut ring, "pump");
    value(&mut ring, &mut disk, id, b"there");
    flush(&mut ring, &mut disk);
    drop(ring);
    disk.file_mut(FileId::Slot(SlotId(0))).unwrap()[..PAGE].fill(0xee);
    let (mut ring, report) = Ring::recover(&mut disk, moved()).unwrap();
    assert_eq!((report.corrupt_records, report.set_aside), (0, false), "{report:?}");
    let (records, gaps) = drain(&mut ring, &mut disk, LanePos::default());
    assert_eq!((records.len(), gaps), (51, vec![]));
}

#[test]
fn each_change_of_machine_is_known_from_the_headers_alone() {
    let mut disk = MemDisk::new(MIN_RING);
    let on = |machine: u8| Options { binding: [machine; 16], ..options() };
    let mut former = Vec::new();
    for machine in [1, 8, 9] {
        let (mut ring, _) = Ring::recover(&mut disk, on(machine)).unwrap();
        let id = topic(&mut ring, "pump");
        value(&mut ring, &mut disk, id, b"there");
        flush(&mut ring, &mut disk);
        former = ring.former();
    }
    assert_eq!(former.len(), 2);
    // The first frame of a slot is its snapshot, which names them as well.
    for slot in 1..5 {
        disk.file_mut(FileId::Slot(SlotId(slot))).unwrap()[PAGE..2 * PAGE].fill(0xee);
    }
    let (ring, report) = Ring::recover(&mut disk, on(9)).unwrap();
    assert!(report.notes.iter().any(|note| note.contains("its snapshot is damaged")), "{report:?}");
    assert_eq!(ring.former(), former);
}

#[test]
fn what_stands_between_two_damaged_frames_is_read_by_its_offset() {
    let mut disk = MemDisk::new(MIN_RING);
    let (mut ring, _) = open(&mut disk);
    let id = topic(&mut ring, "pump");
    let mut rng = crate::backoff::Rng::new(5);
    let values: Vec<Vec<u8>> = (0..5).map(|_| (0..600).map(|_| rng.next_u64() as u8).collect()).collect();
    for one in &values {
        value(&mut ring, &mut disk, id, one);
        flush(&mut ring, &mut disk);
    }
    drop(ring);
    let slot = disk.file_mut(FileId::Slot(SlotId(0))).unwrap();
    for damaged in [1, 3] {
        let at = slot.windows(64).position(|bytes| bytes == &values[damaged][..64]).unwrap();
        slot[at] ^= 1;
    }
    for _ in 0..2 {
        let (mut ring, report) = open(&mut disk);
        assert_eq!(report.corrupt_records, 2, "{report:?}");
        let offsets: Vec<u64> = drain_part(&mut ring, &mut disk, part(id)).iter().map(|(offset, _)| *offset).collect();
        assert_eq!(offsets, [0, 2, 4]);
        assert_eq!(drain(&mut ring, &mut disk, LanePos::default()).0.len(), 3);
    }
}

#[test]
fn a_file_whose_creation_was_torn_does_not_decide_how_large_slots_are() {
    for root in [true, false] {
        let mut disk = MemDisk::new(MIN_RING);
        let (mut ring, _) = open(&mut disk);
        let id = topic(&mut ring, "pump");
        value(&mut ring, &mut disk, id, b"one");
        flush(&mut ring, &mut disk);
        let whole = ring.stats().slot_bytes;
        drop(ring);
        let slot = disk.file_mut(FileId::Slot(SlotId(0))).unwrap();
        slot.truncate(60 * 1024);
        slot[0] ^= 1;
        if !root {
            disk.remove(FileId::Root).unwrap();
        }
        let (mut ring, _) = open(&mut disk);
        assert_eq!(ring.stats().slot_bytes, whole);
        value(&mut ring, &mut disk, id, &[7; 40_000]);
        flush(&mut ring, &mut disk);
        assert_eq!(drain(&mut ring, &mut disk, LanePos::default()).0.len(), 2);
    }
}

/// Whatever the disk had when it stopped: the newest durable entry is there, and all records before it.
#[test]
fn an_entry_between_records_of_two_lanes_never_overtakes_them_nor_falls_behind() {
    let lane = |n| LaneOptions { name: Name::new(n).unwrap(), reserve: 0 };
    let options = || Options { lanes: vec![lane("urgent"), lane("normal")], ..options() };
    let owner = Owner { kind: OwnerKind::Source, name: Name::new("file").unwrap() };
    for grouped in [false, true] {
        let (mut stop, mut all) = (0, false);
        while !all {
            let mut disk = MemDisk::new(MIN_RING);
            let (mut ring, _) = Ring::recover(&mut disk, options()).unwrap();
            let topics = [("alarm", 0), ("telemetry", 1)];
            let ids = topics.map(|(n, l)| ring.open_topic(&TopicName::new(n).unwrap(), LaneId(l), 1).unwrap());
            for i in 0..6u8 {
                if grouped {
                    ring.begin_group(NOW, 100).unwrap();
                }
                for id in [ids[usize::from(i % 2)], ids[usize::from(i / 3)]] {
                    ring.append(NOW, part(id), &RecordRef::of(&[i])).unwrap();
                    ring.put_state(NOW, &owner, b"read", Some(&[i + 1])).unwrap();
                }
                ring.end_group(NOW);
            }
            ring.hurry(NOW);
            let mut ran = 0;
            all = loop {
                let Some(command) = ring.poll(NOW) else { break true };
                if ran == stop {
                    break false;
                }
                ran += 1;
                ring.complete(NOW, execute(command, &mut disk));
            };
            stop += 1;
            drop(ring);
            let (ring, _) = Ring::recover(&mut disk, options()).unwrap();
            let read = ring.state(&owner, b"read").map_or(0, |v| u64::from(v[0]));
            let records: u64 = ring.stats().lanes.iter().map(|l| l.admitted).sum();
            // The second record of a pair may be there without its entry's newest value, which is the same.
            assert!(records + 1 >= read * 2, "{records} records, {read} read");
            assert!(!grouped || records >= read * 2, "{records} records, {read} read");
            assert!(!all || (records, read) == (12, 6), "{records} records, {read} read");
        }
        assert!(stop > 3);
    }
}

/// The byte and the header of every frame of a slot that is of its newest generation.
fn frames(disk: &mut MemDisk, slot: u16) -> Vec<super::walk::Seen> {
    let mut walker = super::walk::Walker::new(disk, SlotId(slot), (&Keys::default(), Formats::default()));
    let header = walker.slot_header().unwrap();
    walker.frames(header.ring, header.generation, header.slot_bytes).frames
}

/// One bit of a slot is another one now.
fn rot(disk: &mut MemDisk, slot: u16, at: usize) {
    disk.file_mut(FileId::Slot(SlotId(slot))).unwrap()[at] ^= 1;
}

#[test]
fn an_id_whose_topic_is_lost_is_not_given_to_another_name() {
    let mut disk = MemDisk::new(MIN_RING);
    let (mut ring, _) = open(&mut disk);
    let pump = topic(&mut ring, "pump");
    value(&mut ring, &mut disk, pump, b"one");
    flush(&mut ring, &mut disk);
    let valve = topic(&mut ring, "valve");
    value(&mut ring, &mut disk, valve, b"two");
    flush(&mut ring, &mut disk);
    value(&mut ring, &mut disk, pump, b"three");
    flush(&mut ring, &mut disk);
    drop(ring);
    let of_valve = |s: &super::walk::Seen| s.runs.iter().any(|r| r.part == part(valve));
    let frame = frames(&mut disk, 0).into_iter().find(of_valve).unwrap().header;
    rot(&mut disk, 0, frame.at as usize + frame.state_at());
    let (mut ring, report) = open(&mut disk);
    assert!(report.notes.iter().any(|n| n.contains("damaged and lost")), "{report:?}");
    assert_eq!(ring.topic_id("valve"), None);
    // Until a snapshot has all that is known, and the frames that named the id are not played again.
    let slots = ring.stats().slots;
    let mut rng = crate::backoff::Rng::new(3);
    while ring.stats().slots == slots {
        let bytes: Vec<u8> = (0..3000).map(|_| rng.next_u64() as u8).collect();
        value(&mut ring, &mut disk, pump, &bytes);
        flush(&mut ring, &mut disk);
    }
    drop(ring);
    let (mut ring, _) = open(&mut disk);
    assert_ne!(topic(&mut ring, "fan"), valve);
}

/// A disk that does not give the first page of one slot.
struct Headless<'a>(&'a mut MemDisk, SlotId);

impl Disk for Headless<'_> {
    fn list(&mut self) -> Result<Vec<(SlotId, u64)>, DiskError> {
        self.0.list()
    }
    fn create(&mut self, file: FileId, bytes: u64) -> Result<(), DiskError> {
        self.0.create(file, bytes)
    }
    fn read(&mut self, file: FileId, at: u64, buf: &mut [u8]) -> Result<usize, DiskError> {
        if file == FileId::Slot(self.1) && at < 4096 {
            let (kind, op, file, detail) = (DiskErrorKind::Io, "read", file.to_string(), String::from("EIO"));
            return Err(DiskError { kind, op, file, detail });
        }
        self.0.read(file, at, buf)
    }
    fn write(&mut self, file: FileId, at: u64, data: &[u8]) -> Result<(), DiskError> {
        self.0.write(file, at, data)
    }
    fn sync(&mut self, file: FileId) -> Result<(), DiskError> {
        self.0.sync(file)
    }
    fn drop_cache(&mut self, file: FileId) -> Result<(), DiskError> {
        self.0.drop_cache(file)
    }
    fn remove(&mut self, file: FileId) -> Result<(), DiskError> {
        self.0.remove(file)
    }
}

/// A record on the disk, and two commits after it that are to be written together.
fn one_settled_and_two_sealed() -> (MemDisk, Ring, TopicId) {
    let mut disk = MemDisk::new(MIN_RING);
    let (mut ring, _) = open(&mut disk);
    let id = topic(&mut ring, "pump");
    value(&mut ring, &mut disk, id, b"settled");
    flush(&mut ring, &mut disk);
    for bytes in [b"first", b"other"] {
        value(&mut ring, &mut disk, id, bytes);
        ring.seal_all();
    }
    (disk, ring, id)
}

/// A slot that a process opened in vain, and whose header can be read again later.
#[test]
fn a_slot_that_was_given_up_unread_does_not_come_back_over_what_was_acknowledged_since() {
    let (mut disk, mut ring, id) = one_settled_and_two_sealed();
    let commands = |ring: &mut Ring, now| std::iter::from_fn(|| ring.poll(now)).collect::<Vec<_>>();
    // Both are written, and the device says that they are not.
    for command in commands(&mut ring, NOW) {
        let mut done = execute(command, &mut disk);
        done.result =
            Err(DiskError { kind: DiskErrorKind::Io, op: "sync", file: "slot-0000".into(), detail: "".into() });
        ring.complete(NOW, done);
    }
    // Of the second try the last is missing: slot, header, first frame.
    let again = commands(&mut ring, NOW + Span::from_secs(1));
    again.into_iter().take(3).for_each(|command| _ = execute(command, &mut disk));
    drop(ring);
    assert_eq!((frames(&mut disk, 0).len(), frames(&mut disk, 1).len()), (4, 2));
    let (mut ring, report) = Ring::recover(&mut Headless(&mut disk, SlotId(1)), options()).unwrap();
    assert!(report.notes.iter().any(|n| n.contains("header is damaged")), "{report:?}");
    let before = drain(&mut ring, &mut disk, LanePos::default());
    value(&mut ring, &mut disk, id, b"later");
    flush(&mut ring, &mut disk);
    drop(ring);
    let (mut ring, report) = open(&mut disk);
    assert_eq!((report.corrupt_records, report.lost_unsynced), (0, 0), "{report:?}");
    let (records, gaps) = drain(&mut ring, &mut disk, LanePos::default());
    assert_eq!(records[..before.0.len()], before.0);
    assert_eq!((&records[before.0.len()].value[..], records.len()), (&b"later"[..], before.0.len() + 1));
    assert_eq!(gaps, before.1);
}

/// A slot of which nothing is wanted any more is begun again; a frame gets there, and the header does not.
#[test]
fn what_is_written_after_a_slot_was_begun_in_vain_outlives_the_header_before_it() {
    let mut disk = MemDisk::new(MIN_RING);
    let (mut ring, _) = open(&mut disk);
    let id = topic(&mut ring, "t");
    value(&mut ring, &mut disk, id, b"before");
    flush(&mut ring, &mut disk);
    drop(ring);
    let begun = 128 * 1024;
    let mut newer = frames(&mut disk, 0).pop().unwrap().header;
    (newer.generation, newer.at) = (newer.generation + 1, begun as u32);
    let file = disk.file_mut(FileId::Slot(SlotId(0))).unwrap();
    newer.emit(&mut file[begun..begun + FRAME_HEADER]);
    let (mut ring, _) = open(&mut disk);
    let later = value(&mut ring, &mut disk, id, b"later");
    flush(&mut ring, &mut disk);
    drop(ring);
    rot(&mut disk, 0, 64);
    let (mut ring, _) = open(&mut disk);
    let read = drain_part(&mut ring, &mut disk, part(id));
    assert_eq!(read.last(), Some(&(later.offset, b"later".to_vec())));
}

/// A crash leaves the second of two commits that were written together, or both; what its recovery said of them rots.
#[test]
fn a_recovery_whose_findings_rot_is_made_again_to_the_same_end() {
    for torn in [true, false] {
        let (mut disk, mut ring, id) = one_settled_and_two_sealed();
        let mut writes = Vec::new();
        while let Some(command) = ring.poll(NOW) {
            writes.push(command);
        }
        assert_eq!(writes.len(), 2, "one commit, two frames");
        writes.into_iter().skip(usize::from(torn)).for_each(|command| _ = execute(command, &mut disk));
        drop(ring);
        let (mut ring, report) = open(&mut disk);
        assert_eq!(report.lost_unsynced, if torn { 2 } else { 0 });
        for bytes in [b"later", b"newer"] {
            value(&mut ring, &mut disk, id, bytes);
            flush(&mut ring, &mut disk);
        }
        drop(ring);
        let all = frames(&mut disk, 0);
        let findings = all.iter().rfind(|s| s.header.flags & super::format::flags::SESSION_START != 0).unwrap();
        rot(&mut disk, 0, findings.header.at as usize + findings.header.state_at());
        if !torn {
            // And with it a commit that it had found good: no reason to give up the one after that.
            let first = all.iter().find(|s| s.is_commit() && s.header.first_ordinal() == 1 && s.header.records == 1);
            let first = &first.unwrap().header;
            rot(&mut disk, 0, first.at as usize + first.payload_at());
        }
        for _ in 0..2 {
            let (mut ring, _) = open(&mut disk);
            let (records, gaps) = drain(&mut ring, &mut disk, LanePos::default());
            let values: Vec<_> = records.iter().map(|r| &r.value[..]).collect();
            let mut want = vec![&b"settled"[..], b"other", b"later", b"newer"];
            want.retain(|v| !torn || *v != b"other");
            assert_eq!(values, want);
            let reason = if torn { GapReason::LostUnsynced } else { GapReason::Corrupt };
            assert!(gaps.iter().all(|g| g.reason == reason), "{gaps:?}");
            assert_eq!(gaps.iter().map(Gap::count).sum::<u64>(), if torn { 2 } else { 1 });
            drive(&mut ring, &mut disk, NOW);
        }
    }
}

/// Ten years of power cuts: what recoveries note of sessions, torn commits and boots does not pile up, and what can
/// still be read keeps what it needs.
#[test]
fn thousands_of_unclean_ends_leave_a_bounded_state() {
    let lane = |n, reserve| LaneOptions { name: Name::new(n).unwrap(), reserve };
    let options = |cut: u32| {
        let mut boot_id = [0; 16];
        boot_id[..4].copy_from_slice(&cut.to_le_bytes());
        // The second lane hardly writes, and is not evicted.
        Options { lanes: vec![lane("normal", 0), lane("idle", 50)], boot_id, ..options() }
    };
    let sync = |boot| ClockSync { offset: i64::from(boot) * 1_000_000_000, trusted: true };
    let mut disk = MemDisk::new(MIN_RING);
    let (mut most, mut torn) = (0, 0);
    for cut in 0..3000 {
        let (mut ring, report) = Ring::recover(&mut disk, options(cut)).unwrap();
        torn += report.lost_unsynced;
        let boot = ring.boot();
        assert_eq!(boot, cut + 1);
        ring.set_clock(NOW, sync(boot));
        let busy = topic(&mut ring, "busy");
        let idle = ring.open_topic(&TopicName::new("idle").unwrap(), LaneId(1), 1).unwrap();
        if cut == 0 {
            value(&mut ring, &mut disk, idle, b"the first of all");
        }
        value(&mut ring, &mut disk, busy, b"before the cut");
        flush(&mut ring, &mut disk);
        value(&mut ring, &mut disk, busy, b"at the cut");
        ring.hurry(NOW);
        while let Some(mut command) = ring.poll(NOW) {
            if let Op::Write { data, .. } = &mut command.op
                && cut % 4 == 0
                && data.starts_with(b"HWfr")
            {
                // Its header holds, its payload does not: torn.
                data[FRAME_HEADER + 60] ^= 1;
            }
            ring.complete(NOW, execute(command, &mut disk));
        }
        most = most.max(ring.stats().state_entries);
        let sessions = &ring.sessions;
        assert!(sessions.ended.len() <= 513 && sessions.torn.len() < 40, "{sessions:?}");
        if cut % 100 == 99 {
            let (mut boots, mut records) = (Vec::new(), 0);
            for lane in 0..2 {
                let mut reader = ring.lane_reader(LaneId(lane), LanePos::default());
                loop {
                    match ring.read_lane(&mut reader) {
                        ReadStep::Frame(frame) => {
                            boots.push(frame.boot());
                            records += frame.entries_from(reader.pos.seq).count();
                            reader.pos = frame.end();
                        }
                        ReadStep::Gap(_) => {}
                        ReadStep::Wait => assert!(drive(&mut ring, &mut disk, NOW) > 0),
                        ReadStep::End => break,
                    }
                }
            }
            assert!(records > 5 && boots.contains(&1), "{records} records of {boots:?}");
            assert!(boots.iter().all(|b| ring.clock(*b) == Some(sync(*b))), "{boots:?}");
        }
    }
    assert!(torn > 500, "{torn}");
    assert!(most < 700, "{most} entries");
}

#[derive(Clone, Debug)]
enum Act {
    Append { topic: usize, len: usize },
    State { key: u8, value: u8 },
    Flush,
    Restart { clean: bool },
    Read,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        20 => (0..3usize, prop_oneof![0..200usize, 1000..9000usize, 60_000..65_000usize])
            .prop_map(|(topic, len)| Act::Append { topic, len }),
        5 => (0..4u8, any::<u8>()).prop_map(|(key, value)| Act::State { key, value }),
        3 => Just(Act::Flush),
        1 => any::<bool>().prop_map(|clean| Act::Restart { clean }),
        2 => Just(Act::Read),
    ];
    prop::collection::vec(act, 1..200)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    /// A plain queue beside the machine: what is durable is read back, evictions only from the front and counted.
    #[test]
    fn the_ring_agrees_with_a_queue(acts in acts()) {
        let mut disk = MemDisk::new(MIN_RING);
        let (mut ring, _) = open(&mut disk);
        let owner = Owner { kind: OwnerKind::Rule, name: Name::new("window").unwrap() };
        let ids: Vec<_> = ["a", "b", "c"].iter().map(|n| topic(&mut ring, n)).collect();
        let mut queue: VecDeque<(usize, u64, usize, u8)> = VecDeque::new();
        let mut state = std::collections::BTreeMap::new();
        let mut offsets = [0u64; 3];
        let mut byte = 0u8;
        for act in acts {
            match act {
                Act::Append { topic, len } => {
                    byte = byte.wrapping_add(1);
                    let mut rng = crate::backoff::Rng::new(byte.into());
                    let bytes: Vec<u8> = (0..len).map(|_| rng.next_u64() as u8).collect();
                    let done = value(&mut ring, &mut disk, ids[topic], &bytes);
                    prop_assert_eq!(done.offset, offsets[topic]);
                    queue.push_back((topic, done.offset, len, byte));
                    offsets[topic] += 1;
                }
                Act::State { key, value } => {
                    let v = (value > 40).then_some([value]);
                    ring.put_state(NOW, &owner, &[key], v.as_ref().map(|v| &v[..])).unwrap();
                    match v {
                        Some(_) => _ = state.insert(key, value),
                        None => _ = state.remove(&key),
                    }
                }
                Act::Flush => flush(&mut ring, &mut disk),
                Act::Restart { clean } => {
                    flush(&mut ring, &mut disk);
                    if clean {
                        ring.close(NOW);
                        drive(&mut ring, &mut disk, NOW);
                    }
                    drop(ring);
                    let (again, report) = open(&mut disk);
                    ring = again;
                    prop_assert_eq!(report.clean_shutdown, clean);
                    prop_assert_eq!((report.corrupt_records, report.lost_unsynced), (0, 0));
                }
                Act::Read => {
                    flush(&mut ring, &mut disk);
                    let (records, gaps) = drain(&mut ring, &mut disk, LanePos::default());
                    let gone: u64 = gaps.iter().map(Gap::count).sum();
                    prop_assert!(gaps.iter().all(|g| g.reason == GapReason::Evicted));
                    prop_assert_eq!(records.len() as u64 + gone, queue.len() as u64);
                    prop_assert_eq!(ring.stats().lanes[0].evicted, gone);
                    for (at, id) in ids.iter().enumerate() {
                        let mine = drain_part(&mut ring, &mut disk, part(*id));
                        let model: Vec<_> = queue.iter().filter(|q| q.0 == at).collect();
                        let model = &model[model.len() - mine.len()..];
                        for ((offset, bytes), want) in mine.iter().zip(model) {
                            prop_assert_eq!((*offset, bytes.len()), (want.1, want.2));
                            let mut rng = crate::backoff::Rng::new(want.3.into());
                            prop_assert!(bytes.iter().all(|b| *b == rng.next_u64() as u8));
                        }
                    }
                }
            }
            let have: Vec<_> = ring.states(&owner).into_iter().map(|(k, v)| (k[0], v[0])).collect();
            prop_assert_eq!(have, state.iter().map(|(k, v)| (*k, *v)).collect::<Vec<_>>());
        }
    }
}

#[test]
fn over_the_write_budget_what_nobody_waits_for_waits_longer_and_the_rest_does_not() {
    let mut disk = MemDisk::new(MIN_RING);
    let (mut ring, _) = open(&mut disk);
    let id = topic(&mut ring, "pump");
    flush(&mut ring, &mut disk);
    ring.set_write_budget(NOW, Some(1_000_000));
    let linger = NOW + Span::from_secs(1);
    value(&mut ring, &mut disk, id, b"within it");
    assert_eq!(ring.next_timeout(), Some(linger));
    // An hour's share is 41,666 bytes, a commit takes a page.
    for _ in 0..12 {
        value(&mut ring, &mut disk, id, b"somebody waits");
        flush(&mut ring, &mut disk);
    }
    assert!(ring.is_over_budget());
    value(&mut ring, &mut disk, id, b"nobody waits");
    let due = ring.next_timeout().unwrap();
    assert!(due > linger && due <= NOW + super::budget::MOST, "{due:?}");
    assert!(ring.poll(linger).is_none());
    ring.hurry(NOW);
    assert!(ring.poll(NOW).is_some());
}

#[test]
fn seeking_a_time_skips_whole_slots_and_no_record_of_that_time_or_later() {
    let mut disk = MemDisk::new(MIN_RING);
    let (mut ring, _) = open(&mut disk);
    let id = topic(&mut ring, "pump");
    let mut rng = crate::backoff::Rng::new(9);
    let hour = |n: i64| BootTime(n * 3_600_000_000);
    let wall = |n: i64| ClockSync { offset: 1_000_000, trusted: true }.wall(hour(n));
    ring.set_clock(hour(0), ClockSync { offset: 1_000_000, trusted: true });
    for n in 0..40 {
        let bytes: Vec<u8> = (0..30_000).map(|_| rng.next_u64() as u8).collect();
        ring.append(hour(n), part(id), &RecordRef { admitted: hour(n), ..RecordRef::of(&bytes) }).unwrap();
        ring.hurry(hour(n));
        drive(&mut ring, &mut disk, hour(n));
    }
    for crash in [false, true] {
        let mut skipped = 0;
        for n in 0..40 {
            let at = ring.seek_time(LaneId(0), wall(n));
            assert!(at.ordinal <= n as u64, "hour {n}: {at:?} is behind its record");
            assert!(n as u64 - at.ordinal <= 9, "hour {n}: {at:?} is more than a slot before it");
            skipped = at.ordinal;
        }
        assert!(skipped > 20);
        if !crash {
            ring = open(&mut disk).0;
        }
    }
    ring.set_clock(hour(41), ClockSync { offset: 9_000_000, trusted: false });
    assert_eq!(ring.seek_time(LaneId(0), wall(39)), ring.stats().lanes[0].oldest, "of a clock that is not trusted");
}

#[test]
fn two_readers_of_one_backlog_share_each_frame_that_was_read_and_decompressed() {
    let mut disk = MemDisk::new(MIN_RING);
    let (mut ring, _) = open(&mut disk);
    let id = topic(&mut ring, "pump");
    for n in 0..12_000_u32 {
        value(
            &mut ring,
            &mut disk,
            id,
            format!("{{\"reading\":{n},\"of\":\"a pump that is some way off\"}}").as_bytes(),
        );
    }
    flush(&mut ring, &mut disk);
    drop(ring);
    // Nothing is in memory.
    let (mut ring, _) = open(&mut disk);
    let mut readers = [0, 1].map(|_| ring.lane_reader(LaneId(0), LanePos::default()));
    let mut shared = 0;
    loop {
        let mut frames = Vec::new();
        for reader in &mut readers {
            loop {
                match ring.read_lane(reader) {
                    ReadStep::Frame(frame) => frames.push(frame),
                    ReadStep::Wait => {
                        drive(&mut ring, &mut disk, NOW);
                        continue;
                    }
                    ReadStep::Gap(gap) => panic!("{gap:?}"),
                    ReadStep::End => {}
                }
                break;
            }
        }
        let [one, other] = &frames[..] else { break };
        assert!(Arc::ptr_eq(one, other), "decompressed twice: {:?}", one.first());
        shared += 1;
        readers.iter_mut().for_each(|reader| reader.pos = frames[0].end());
    }
    assert!(shared >= 8, "{shared} frames");
}

#[test]
fn an_entry_that_finds_no_room_is_refused_counted_and_changes_nothing() {
    let mut disk = MemDisk::new(MIN_RING);
    let (mut ring, _) = open(&mut disk);
    let owner = Owner { kind: OwnerKind::Source, name: Name::new("app").unwrap() };
    let value = vec![7; 4000];
    let taken = (0..100_u8).take_while(|n| ring.put_state(NOW, &owner, &[*n], Some(&value)).is_ok()).count();
    assert_eq!(taken, crate::limits::MAX_STATE_OWNER_BYTES / 4001);
    assert_eq!(ring.stats().state_refused, 1);
    assert_eq!(ring.state(&owner, &[taken as u8]), None);
    // What there is can still be replaced.
    ring.put_state(NOW, &owner, &[0], Some(&value)).unwrap();
    flush(&mut ring, &mut disk);
    drop(ring);
    let (ring, _) = open(&mut disk);
    assert_eq!((ring.states(&owner).len(), ring.stats().state_refused), (taken, 0));
}

#[test]
fn what_a_recovery_finds_stands_in_frames_of_the_process_that_found_it() {
    let lane = |name: &str| LaneOptions { name: Name::new(name).unwrap(), reserve: 0 };
    let options = || Options { lanes: vec![lane("a"), lane("b"), lane("c")], ..options() };
    let mut disk = MemDisk::new(MIN_RING);
    let (mut ring, _) = Ring::recover(&mut disk, options()).unwrap();
    ring.set_ram_first(true);
    for (n, name) in ["ta", "tb", "tc"].into_iter().enumerate() {
        let id = ring.open_topic(&TopicName::new(name).unwrap(), LaneId(n as u8), 1).unwrap();
        value(&mut ring, &mut disk, id, b"one");
    }
    drive(&mut ring, &mut disk, NOW + Span::from_secs(2));
    ring.set_ram_first(false);
    flush(&mut ring, &mut disk);
    let session = ring.session;
    drop(ring);
    // Each topic's entry goes into a frame of its lane: not all of them wait until the process has begun.
    let (ring, _) = Ring::recover(&mut disk, options()).unwrap();
    let sessions: Vec<_> = ring.queue.iter().map(|sealed| sealed.header.session).collect();
    assert!(sessions.len() > 1, "{sessions:?}");
    assert!(ring.session > session && sessions.iter().all(|of| *of == ring.session), "{sessions:?}");
}
