//! Laws of `verify` and `stat`: each kind of damage is found, named at its byte, and nothing is ever written.

use std::ops::Range;

use super::format::{FRAME_HEADER, FrameHeader};
use super::stat::stat;
use super::verify::{Finding, HeaderState, Severity, Verification, verify};
use super::walk::Walker;
use super::*;
use crate::limits::{MIN_RING, PAGE};
use crate::name::Name;
use crate::record::RecordRef;
use crate::ring::tests::options;
use crate::time::BootTime;
use crate::topic::{TopicName, TopicPart};

const NOW: BootTime = BootTime(1_000_000);

/// A disk that is only read, and parts of which cannot be.
struct Watched<'a> {
    disk: &'a mut MemDisk,
    unreadable: Option<(FileId, Range<u64>)>,
}

impl Disk for Watched<'_> {
    fn list(&mut self) -> Result<Vec<(SlotId, u64)>, DiskError> {
        self.disk.list()
    }
    fn create(&mut self, file: FileId, _bytes: u64) -> Result<(), DiskError> {
        panic!("creates {file}")
    }
    fn read(&mut self, file: FileId, at: u64, buf: &mut [u8]) -> Result<usize, DiskError> {
        let end = at + buf.len() as u64;
        if self.unreadable.as_ref().is_some_and(|(f, r)| *f == file && at < r.end && r.start < end) {
            let (kind, op, file, detail) = (DiskErrorKind::Io, "read", file.to_string(), String::from("EIO"));
            return Err(DiskError { kind, op, file, detail });
        }
        self.disk.read(file, at, buf)
    }
    fn write(&mut self, file: FileId, _at: u64, _data: &[u8]) -> Result<(), DiskError> {
        panic!("writes {file}")
    }
    fn sync(&mut self, file: FileId) -> Result<(), DiskError> {
        panic!("syncs {file}")
    }
    fn drop_cache(&mut self, file: FileId) -> Result<(), DiskError> {
        panic!("drops the cache of {file}")
    }
    fn remove(&mut self, file: FileId) -> Result<(), DiskError> {
        panic!("removes {file}")
    }
}

fn check(disk: &mut MemDisk) -> Verification {
    let mut seen = Vec::new();
    let found = verify(&mut Watched { disk, unreadable: None }, &Keys::default(), &mut || false, &mut |done, all| {
        seen.push((done, all))
    })
    .unwrap();
    assert_eq!(seen, (1..=found.slots.len()).map(|n| (n, found.slots.len())).collect::<Vec<_>>());
    found
}

fn owner() -> Owner {
    Owner { kind: OwnerKind::Sink, name: Name::new("hq").unwrap() }
}

const COMMITS: u64 = 60;
const RECORDS: u64 = COMMITS * 8;

/// Three slots: 60 commits of eight records each that do not compress, and a cursor beside every fourth.
fn populated(clean: bool) -> MemDisk {
    let mut disk = MemDisk::new(MIN_RING);
    let (mut ring, _) = Ring::recover(&mut disk, options()).unwrap();
    let log = ring.open_topic(&TopicName::new("log").unwrap(), LaneId(0), 1).unwrap();
    let two = ring.open_topic(&TopicName::new("two").unwrap(), LaneId(0), 2).unwrap();
    let mut rng = crate::backoff::Rng::new(5);
    for commit in 0..COMMITS {
        for i in 0..8 {
            let part =
                if i < 6 { TopicPart { topic: log, partition: 0 } } else { TopicPart { topic: two, partition: 1 } };
            let bytes: Vec<u8> = (0..1200).map(|_| rng.next_u64() as u8).collect();
            ring.append(NOW, part, &RecordRef::of(&bytes)).unwrap();
        }
        if commit % 4 == 0 {
            ring.put_state(NOW, &owner(), b"cursor", Some(&commit.to_le_bytes())).unwrap();
        }
        ring.hurry(NOW);
        drive(&mut ring, &mut disk, NOW);
    }
    if clean {
        ring.close(NOW);
        drive(&mut ring, &mut disk, NOW);
    }
    disk
}

fn frames(disk: &mut MemDisk, slot: u16) -> Vec<FrameHeader> {
    let mut walker = Walker::new(disk, SlotId(slot), (&Keys::default(), Formats::default()));
    let h = walker.slot_header().unwrap();
    walker.frames(h.ring, h.generation, h.slot_bytes).frames.into_iter().map(|s| s.header).collect()
}

fn flip(disk: &mut MemDisk, slot: u16, at: usize) {
    disk.file_mut(FileId::Slot(SlotId(slot))).unwrap()[at] ^= 4;
}

/// The frame in the middle of the second slot that has records and, if wanted, state entries.
fn middle(disk: &mut MemDisk, state: bool) -> FrameHeader {
    let mut all = frames(disk, 1);
    all.drain(..8);
    all.into_iter().find(|h| h.records > 0 && (h.state_stored > 0) == state).unwrap()
}

/// The only finding; it must be damage and stand there.
fn only(found: &Verification, slot: u16, at: usize) -> Finding {
    assert!(!found.is_good());
    let [finding] = &found.findings[..] else { panic!("{:#?}", found.findings) };
    assert_eq!((finding.severity, finding.at), (Severity::Damage, at as u64), "{finding}");
    assert_eq!(finding.file, format!("slot-{slot:04}"));
    finding.clone()
}

/// What a reader of the lane meets.
fn read(disk: &mut MemDisk) -> (u64, Vec<Gap>) {
    let (mut ring, _) = Ring::open_read_only(disk, options()).unwrap();
    let mut reader = ring.lane_reader(LaneId(0), LanePos::default());
    let (mut records, mut gaps) = (0, Vec::new());
    loop {
        match ring.read_lane(&mut reader) {
            ReadStep::Frame(frame) => {
                records += frame.entries_from(0).count() as u64;
                reader.pos = frame.end();
            }
            ReadStep::Gap(gap) => gaps.push(gap),
            ReadStep::Wait => assert!(drive(&mut ring, disk, NOW) > 0),
            ReadStep::End => return (records, gaps),
        }
    }
}

/// One frame of eight records is lost, six and two of them; readers lose the same.
fn one_frame_lost(disk: &mut MemDisk, found: &Verification, finding: &Finding, h: &FrameHeader) {
    let first = h.first_ordinal() / 8;
    let words = format!(
        "records {}..{} of topic log, records {}..{} of topic two partition 1 are lost; the node counts them as corrupt",
        first * 6,
        first * 6 + 6,
        first * 2,
        first * 2 + 2
    );
    assert_eq!(finding.meaning, words);
    assert_eq!((found.totals.records_lost, found.totals.records), (8, RECORDS - 8));
    assert_eq!(found.slots[1].counts.records_lost, 8);
    let (records, gaps) = read(disk);
    assert_eq!((records, gaps.len(), gaps[0].count()), (RECORDS - 8, 1, 8));
    assert_eq!(gaps[0].reason, GapReason::Corrupt);
}

#[test]
fn a_good_ring_verifies() {
    for clean in [false, true] {
        let mut disk = populated(clean);
        let found = check(&mut disk);
        assert!(found.is_good() && found.findings.is_empty(), "{:#?}", found.findings);
        assert!(found.slots.iter().all(|s| s.header == HeaderState::Ok));
        let kinds: Vec<_> = found.slots.iter().filter_map(|s| s.kind).collect();
        // What a clean shutdown says goes to the journal.
        assert_eq!(kinds, ["lane", "lane", "lane", "journal"][..if clean { 4 } else { 3 }]);
        assert_eq!((found.totals.records, found.totals.records_lost, found.totals.given_up), (RECORDS, 0, 0));
        assert_eq!(found.ring.len(), 32);
        assert!(serde_json::to_string(&found).unwrap().contains("\"frames_good\""));
    }
}

#[test]
fn an_empty_directory_verifies() {
    let found = check(&mut MemDisk::new(MIN_RING));
    assert!(found.is_good() && found.slots.is_empty() && found.ring.is_empty());
    assert_eq!(stat(&mut MemDisk::new(MIN_RING), &Keys::default(), &mut || false).unwrap().slots.files, 0);
}

#[test]
fn a_damaged_slot_header_is_found_and_costs_no_record() {
    for at in [0, 5, 30, 60, 70, 600, 4090, 4095] {
        let mut disk = populated(true);
        flip(&mut disk, 1, at);
        let found = check(&mut disk);
        only(&found, 1, 0);
        assert_eq!(found.slots[1].header, HeaderState::Damaged);
        assert_eq!((found.totals.records, found.totals.records_lost), (RECORDS, 0));
    }
}

/// What is left where the power went while a slot was begun: it was not synced, and nothing in it acknowledged.
#[test]
fn a_slot_header_or_snapshot_that_a_power_cut_tore_is_a_note() {
    for (at, header) in [(600, HeaderState::Damaged), (4096 + 300, HeaderState::Ok)] {
        let mut disk = populated(false);
        let (slot, mut rng) = (disk.list().unwrap().len() as u16, crate::backoff::Rng::new(6));
        let mut ring = Ring::recover(&mut disk, options()).unwrap().0;
        drive(&mut ring, &mut disk, NOW);
        // All of one commit that begins a slot; no later one says that it was synced.
        while disk.list().unwrap().len() == usize::from(slot) {
            let part = TopicPart { topic: ring.topic_id("log").unwrap(), partition: 0 };
            let bytes: Vec<u8> = (0..40_000).map(|_| rng.next_u64() as u8).collect();
            ring.append(NOW, part, &RecordRef::of(&bytes)).unwrap();
            ring.seal_all();
            drive(&mut ring, &mut disk, NOW);
        }
        drop(ring);
        flip(&mut disk, slot, at);
        let found = check(&mut disk);
        assert!(found.is_good() && found.findings.len() == 1, "{:#?}", found.findings);
        assert!(found.findings[0].what.contains("torn when the power was cut"), "{:#?}", found.findings);
        assert_eq!((found.slots[usize::from(slot)].header, found.totals.records_lost), (header, 0));
    }
}

#[test]
fn a_slot_header_that_was_being_written_over_by_the_next_is_a_note() {
    let mut disk = populated(false);
    let mut newest = Walker::new(&mut disk, SlotId(0), (&Keys::default(), Formats::default())).slot_header().unwrap();
    let last = disk.list().unwrap().len() as u16 - 1;
    newest.generation =
        Walker::new(&mut disk, SlotId(last), (&Keys::default(), Formats::default())).slot_header().unwrap().generation
            + 1;
    let mut page = [0; PAGE];
    newest.emit(&mut page);
    disk.file_mut(FileId::Slot(SlotId(0))).unwrap()[..1024].copy_from_slice(&page[..1024]);
    let found = check(&mut disk);
    assert!(found.is_good() && found.findings[0].what.contains("torn"), "{:#?}", found.findings);
    assert_eq!((found.totals.records, found.totals.records_lost), (RECORDS, 0));
}

#[test]
fn a_damaged_frame_header_is_found_at_its_first_byte_and_its_records_are_named() {
    for byte in (0..FRAME_HEADER).step_by(23) {
        let mut disk = populated(false);
        let h = middle(&mut disk, false);
        flip(&mut disk, 1, h.at as usize + byte);
        let found = check(&mut disk);
        let finding = only(&found, 1, h.at as usize);
        one_frame_lost(&mut disk, &found, &finding, &h);
        assert_eq!(found.totals.damaged_headers, 1);
    }
}

#[test]
fn a_damaged_payload_is_found_at_its_first_byte_and_its_records_are_named() {
    let mut disk = populated(false);
    let h = middle(&mut disk, false);
    for at in [h.payload_at(), h.payload_at() + 77, h.state_at() - 1] {
        let mut disk = populated(false);
        flip(&mut disk, 1, h.at as usize + at);
        let found = check(&mut disk);
        let finding = only(&found, 1, h.at as usize + h.payload_at());
        one_frame_lost(&mut disk, &found, &finding, &h);
        assert_eq!(found.totals.bad_payloads, 1);
    }
}

#[test]
fn a_damaged_directory_is_found_and_the_next_frame_tells_whose_records_it_had() {
    let mut disk = populated(false);
    let h = middle(&mut disk, false);
    flip(&mut disk, 1, h.at as usize + FRAME_HEADER + 9);
    let found = check(&mut disk);
    let finding = only(&found, 1, h.at as usize + FRAME_HEADER);
    one_frame_lost(&mut disk, &found, &finding, &h);
}

#[test]
fn damaged_state_entries_are_found_and_the_later_snapshot_has_them() {
    let mut disk = populated(false);
    let h = middle(&mut disk, true);
    flip(&mut disk, 1, h.at as usize + h.state_at() + 3);
    let found = check(&mut disk);
    let finding = only(&found, 1, h.at as usize + h.state_at());
    assert_eq!(finding.meaning, "the snapshot of slot-0002 has them: nothing is lost");
    assert_eq!((found.totals.damaged_states, found.totals.records), (1, RECORDS));
}

#[test]
fn a_damaged_snapshot_is_found_and_the_one_before_it_named() {
    let mut disk = populated(false);
    let h = frames(&mut disk, 2).remove(0);
    for at in [17, h.state_at() + 5] {
        let mut disk = populated(false);
        flip(&mut disk, 2, h.at as usize + at);
        let found = check(&mut disk);
        let finding = only(&found, 2, h.at as usize + if at == 17 { 0 } else { h.state_at() });
        assert_eq!(finding.meaning, "recovery begins at the snapshot of slot-0001 instead; nothing is lost");
        assert_eq!(found.totals.records, RECORDS);
    }
}

#[test]
fn damage_to_the_newest_commit_is_a_note_unless_the_root_page_knows_the_commit() {
    for clean in [false, true] {
        let mut disk = populated(clean);
        let slot = if clean { 3 } else { 2 };
        let h = frames(&mut disk, slot).pop().unwrap();
        flip(&mut disk, slot, h.at as usize + 40);
        let found = check(&mut disk);
        assert_eq!(found.is_good(), !clean, "{:#?}", found.findings);
        let file = format!("slot-000{slot}");
        let place = found.findings.iter().find(|f| f.file == file).unwrap();
        assert_eq!(place.at, u64::from(h.at));
        assert_eq!(found.totals.records, if clean { RECORDS } else { RECORDS - 8 });
    }
}

#[test]
fn bytes_that_the_device_does_not_give_are_counted_and_their_records_named() {
    let mut disk = populated(false);
    let h = middle(&mut disk, false);
    let from = u64::from(h.at);
    let unreadable = Some((FileId::Slot(SlotId(1)), from..from + 4096));
    let found =
        verify(&mut Watched { disk: &mut disk, unreadable }, &Keys::default(), &mut || false, &mut |_, _| {}).unwrap();
    assert!(!found.is_good());
    assert_eq!((found.totals.unreadable_bytes, found.totals.records_lost), (4096, 8));
    assert!(found.findings.iter().any(|f| f.at == from && f.meaning.contains("what stood there is lost")));
    assert!(found.findings.iter().any(|f| f.what == "frames are missing" && f.at == from), "{:#?}", found.findings);
}

#[test]
fn a_slot_of_another_ring_is_a_note_and_a_blank_one_is_nothing() {
    let mut disk = populated(false);
    let mut other = MemDisk::new(MIN_RING);
    let (mut ring, _) = Ring::recover(&mut other, Options { seed: 8, ..options() }).unwrap();
    ring.open_topic(&TopicName::new("log").unwrap(), LaneId(0), 1).unwrap();
    ring.hurry(NOW);
    drive(&mut ring, &mut other, NOW);
    let foreign = other.file_mut(FileId::Slot(SlotId(0))).unwrap().clone();
    for slot in [3, 4] {
        disk.create(FileId::Slot(SlotId(slot)), foreign.len() as u64).unwrap();
    }
    let mut moved = super::format::SlotHeader::parse(&foreign, SlotId(0), Formats::default()).unwrap();
    moved.slot = SlotId(4);
    disk.write(FileId::Slot(SlotId(4)), 0, &foreign).unwrap();
    moved.emit(disk.file_mut(FileId::Slot(SlotId(4))).unwrap());
    let found = check(&mut disk);
    assert!(found.is_good());
    assert_eq!((found.slots[3].header, found.slots[4].header), (HeaderState::Blank, HeaderState::Foreign));
    assert_eq!(
        found.findings.iter().map(|f| (f.file.as_str(), f.severity)).collect::<Vec<_>>(),
        [("slot-0004", Severity::Note)]
    );
    assert_eq!(found.totals.records, RECORDS);
}

#[test]
fn what_a_crash_tore_is_a_note_and_the_ring_that_went_on_is_good() {
    let mut disk = populated(false);
    let last = frames(&mut disk, 2).pop().unwrap();
    // The header's sector did not arrive; nobody was told that the commit was durable.
    disk.file_mut(FileId::Slot(SlotId(2))).unwrap()[last.at as usize + 300..last.at as usize + 512].fill(0);
    let (mut ring, report) = Ring::recover(&mut disk, options()).unwrap();
    assert!(report.tail_unknown);
    let log = ring.topic_id("log").unwrap();
    ring.append(NOW, TopicPart { topic: log, partition: 0 }, &RecordRef::of(b"after")).unwrap();
    ring.hurry(NOW);
    drive(&mut ring, &mut disk, NOW);
    let found = check(&mut disk);
    assert!(found.is_good(), "{:#?}", found.findings);
    assert_eq!(found.findings[0].what, "a frame was torn when the power was cut");
    assert_eq!(found.totals.records, RECORDS - 8 + 1);
}

#[test]
fn the_numbers_of_a_ring_are_told() {
    let mut disk = populated(true);
    let stat = stat(&mut Watched { disk: &mut disk, unreadable: None }, &Keys::default(), &mut || false).unwrap();
    assert!(stat.clean_shutdown && !stat.tail_unknown && stat.notes.is_empty());
    assert_eq!((stat.slots.files, stat.slots.used, stat.slots.free, stat.slots.set_aside), (4, 4, 0, 0));
    assert_eq!((stat.lanes.len(), stat.lanes[0].records, stat.lanes[0].admitted), (1, RECORDS, RECORDS));
    let ends: Vec<Vec<u64>> = stat.topics.iter().map(|t| t.partitions.iter().map(|p| p.end).collect()).collect();
    assert_eq!(ends, [vec![COMMITS * 6], vec![0, COMMITS * 2]]);
    let hq = stat.owners.iter().find(|o| o.kind == OwnerKind::Sink).unwrap();
    assert_eq!((hq.name.as_str(), hq.entries, hq.bytes), ("hq", 1, 14));
    assert!(serde_json::to_string(&stat).unwrap().contains("\"kind\":\"sink\""));
}
