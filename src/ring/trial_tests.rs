//! Laws of a program on trial, with a program that knows a version of the format more than the one before it.

use std::collections::BTreeSet;

use super::format::{Bad, FRAME_HEADER, FrameHeader, RootPage, SlotHeader};
use super::tests::{drain, flush, options, part, topic, value};
use super::*;
use crate::limits::MIN_RING;
use crate::record::RecordRef;
use crate::time::BootTime;

const NOW: BootTime = BootTime(1_000_000);
const BEFORE: Formats = Formats { oldest: 1, newest: 1, on_trial: false };
const TRIAL: Formats = Formats { oldest: 1, newest: 2, on_trial: true };
const CONFIRMED: Formats = Formats { on_trial: false, ..TRIAL };

fn open(disk: &mut MemDisk, formats: Formats) -> (Ring, Report) {
    Ring::recover(disk, Options { formats, ..options() }).unwrap()
}

/// Bytes that compress to nothing smaller: a slot is full after a few hundred of them.
fn bulk(n: u32) -> Vec<u8> {
    let mut rng = crate::backoff::Rng::new(n.into());
    let mut bytes = n.to_le_bytes().to_vec();
    bytes.extend((0..2000).map(|_| rng.next_u64() as u8));
    bytes
}

/// The version of each slot, that all of its frames are checked for; in order of generation.
fn versions(disk: &mut MemDisk) -> Vec<u8> {
    let mut headers = Vec::new();
    for (slot, _) in disk.list().unwrap() {
        let bytes = disk.file_mut(FileId::Slot(slot)).unwrap();
        let Ok(header) = SlotHeader::parse(bytes, slot, TRIAL) else { continue };
        let mut frames = 0;
        for at in (PAGE..bytes.len() - FRAME_HEADER).step_by(PAGE) {
            if let Ok(frame) = FrameHeader::parse(&bytes[at..], slot, at as u32, TRIAL) {
                let own = frame.generation == header.generation;
                assert!(!own || frame.version == header.version, "{slot:?} at {at}");
                frames += u32::from(own);
            }
        }
        assert!(frames > 0, "a snapshot at least");
        headers.push((header.generation, header.version));
    }
    headers.sort_unstable();
    headers.into_iter().map(|(_, version)| version).collect()
}

fn root_versions(disk: &mut MemDisk) -> BTreeSet<u8> {
    let bytes = disk.file_mut(FileId::Root).unwrap().clone();
    bytes.chunks(PAGE).filter_map(|page| RootPage::parse(page, TRIAL)).map(|page| page.version).collect()
}

/// Opens it as this program does, adds records and ends, cleanly or not.
fn life(disk: &mut MemDisk, formats: Formats, records: std::ops::Range<u32>, clean: bool) {
    let (mut ring, report) = open(disk, formats);
    assert!(!report.set_aside, "{report:?}");
    let id = topic(&mut ring, "pump");
    for n in records {
        value(&mut ring, disk, id, &bulk(n));
    }
    flush(&mut ring, disk);
    if clean {
        ring.close(NOW);
        drive(&mut ring, disk, NOW);
    }
}

/// What a program finds, which has to be all of it.
fn all(disk: &mut MemDisk, formats: Formats, records: u32) {
    let (mut ring, report) = open(disk, formats);
    assert_eq!((report.set_aside, report.corrupt_records, report.lost_unsynced), (false, 0, 0), "{report:?}");
    let (found, gaps) = drain(&mut ring, disk, LanePos::default());
    assert_eq!((found.len() as u32, gaps), (records, Vec::new()));
    assert!((0..records).zip(&found).all(|(n, record)| record.value == bulk(n)));
}

#[test]
fn a_new_ring_takes_the_newest_version_and_one_that_is_begun_on_trial_the_oldest() {
    for (formats, version) in [(BEFORE, 1), (CONFIRMED, 2), (TRIAL, 1)] {
        let mut disk = MemDisk::new(MIN_RING);
        life(&mut disk, formats, 0..10, true);
        let found: BTreeSet<u8> = versions(&mut disk).into_iter().collect();
        assert_eq!((found, root_versions(&mut disk)), ([version].into(), [version].into()), "{formats:?}");
        all(&mut disk, CONFIRMED, 10);
    }
}

#[test]
fn what_a_trial_writes_the_program_before_reads_to_the_last_record() {
    let mut disk = MemDisk::new(MIN_RING);
    life(&mut disk, BEFORE, 0..300, true);
    let before = versions(&mut disk).len();
    life(&mut disk, TRIAL, 300..900, true);
    let found = versions(&mut disk);
    assert!(found.len() > before + 2, "the trial began slots: {found:?}");
    assert!(found.iter().all(|version| *version == 1), "{found:?}");
    assert_eq!(root_versions(&mut disk), [1].into());
    let (ring, report) = open(&mut disk.clone(), BEFORE);
    assert!(report.clean_shutdown && ring.stats().lanes[0].admitted == 900, "{report:?}");
    all(&mut disk, BEFORE, 900);
}

#[test]
fn once_confirmed_the_slot_after_the_one_that_is_open_is_of_the_new_version_and_both_are_read() {
    let mut disk = MemDisk::new(MIN_RING);
    life(&mut disk, BEFORE, 0..150, true);
    let (mut ring, _) = open(&mut disk, TRIAL);
    let id = topic(&mut ring, "pump");
    (150..300).for_each(|n| _ = value(&mut ring, &mut disk, id, &bulk(n)));
    flush(&mut ring, &mut disk);
    assert_eq!((ring.is_on_trial(), ring.stats().format), (true, 1));
    let old = versions(&mut disk);
    ring.confirm();
    assert_eq!((ring.is_on_trial(), ring.stats().format), (false, 2));
    value(&mut ring, &mut disk, id, &bulk(300));
    flush(&mut ring, &mut disk);
    assert_eq!(versions(&mut disk), old, "what is open is written to its end as it began");
    (301..900).for_each(|n| _ = value(&mut ring, &mut disk, id, &bulk(n)));
    flush(&mut ring, &mut disk);
    drop(ring);
    let found = versions(&mut disk);
    let (first, rest) = found.split_at(old.len());
    assert_eq!(first, old);
    assert!(rest.len() > 2 && rest.iter().all(|version| *version == 2), "{found:?}");
    all(&mut disk, CONFIRMED, 900);
    // And the mark that comes back with a power cut takes nothing back.
    life(&mut disk, TRIAL, 900..1200, false);
    assert_eq!(versions(&mut disk).last(), Some(&2));
    all(&mut disk, CONFIRMED, 1200);
}

#[test]
fn a_program_that_does_not_know_a_version_sets_its_slots_aside_and_writes_over_none() {
    let mut disk = MemDisk::new(MIN_RING);
    life(&mut disk, BEFORE, 0..150, true);
    life(&mut disk, CONFIRMED, 150..700, true);
    let is_new = |disk: &mut MemDisk, slot| {
        let bytes = disk.file_mut(FileId::Slot(slot)).unwrap();
        (SlotHeader::parse(bytes, slot, BEFORE) == Err(Bad::Version(2))).then(|| bytes.clone())
    };
    let slots = disk.list().unwrap();
    let new: Vec<_> = slots.iter().filter_map(|(slot, _)| Some((*slot, is_new(&mut disk, *slot)?))).collect();
    assert!(new.len() > 2);
    let (mut ring, report) = open(&mut disk, BEFORE);
    assert!(report.set_aside && report.notes.iter().any(|note| note.contains("version 2")), "{report:?}");
    let id = topic(&mut ring, "pump");
    (700..3000).for_each(|n| _ = value(&mut ring, &mut disk, id, &bulk(n)));
    flush(&mut ring, &mut disk);
    for (slot, bytes) in new {
        assert!(*disk.file_mut(FileId::Slot(slot)).unwrap() == bytes, "{slot:?}");
    }
}

/// One process on trial that is confirmed half-way, cut before each command to the disk and in the middle of it.
#[test]
fn a_crash_at_any_point_leaves_whole_slots_of_one_version_and_the_old_one_alone_until_the_confirmation() {
    const CONFIRMED_AT: u32 = 450;
    let mut cuts = [0; 2];
    for (cut, torn) in (0..).flat_map(|cut| [(cut, false), (cut, true)]) {
        let mut disk = MemDisk::new(MIN_RING);
        life(&mut disk, BEFORE, 0..100, true);
        let (mut ring, _) = open(&mut disk, TRIAL);
        let id = topic(&mut ring, "pump");
        let (mut left, mut settled, mut confirmed) = (cut, 100, false);
        'lives: for n in 100..800 {
            let _ = ring.append(NOW, part(id), &RecordRef::of(&bulk(n)));
            if n == CONFIRMED_AT {
                ring.confirm();
                confirmed = true;
            }
            // As much at once as makes the sweep a short one.
            if n % 25 != 24 {
                continue;
            }
            ring.hurry(NOW);
            while let Some(mut command) = ring.poll(NOW) {
                if left == 0 {
                    if let (true, Op::Write { data, .. }) = (torn, &mut command.op) {
                        data.truncate(data.len() / 2);
                        execute(command, &mut disk);
                    }
                    break 'lives;
                }
                left -= 1;
                ring.complete(NOW, execute(command, &mut disk));
            }
            settled = n + 1;
        }
        let done = left > 0;
        drop(ring);
        let found = match torn {
            // Half of a header may be there; what holds is looked at after it was recovered.
            true => Vec::new(),
            false => versions(&mut disk),
        };
        cuts[usize::from(confirmed)] += 1;
        let goes_on = if confirmed { CONFIRMED } else { BEFORE };
        assert!(confirmed || found.iter().all(|version| *version == 1), "cut {cut}: {found:?}");
        assert!(found.is_sorted(), "cut {cut}: {found:?}");
        let (mut ring, report) = open(&mut disk, goes_on);
        assert_eq!((report.set_aside, report.corrupt_records), (false, 0), "cut {cut}, torn {torn}: {report:?}");
        let (records, _) = drain(&mut ring, &mut disk, LanePos::default());
        let whole = (0..).zip(&records).take_while(|(n, record)| record.value == bulk(*n)).count();
        assert!(whole >= settled as usize, "cut {cut}, torn {torn}: {whole} of {settled}");
        if done {
            break;
        }
    }
    assert!(cuts.iter().all(|cuts| *cuts > 20), "{cuts:?}");
}
