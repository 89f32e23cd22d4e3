//! Laws of an encrypted ring: what its disk shows, who can read it, and that nothing of it is changed unseen.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, Ordering};

use super::cipher::{KEY, NONCE, Part};
use super::format::{Bad, FIRST_FRAME, FRAME_HEADER, FrameHeader, PREV_COUNT, RUN, SlotHeader};
use super::frame::Frame;
use super::stat::stat;
use super::tests::options;
use super::unpack::Unpack;
use super::verify::verify;
use super::*;
use crate::backoff::Rng;
use crate::limits::MIN_RING;
use crate::name::Name;
use crate::record::RecordRef;
use crate::time::BootTime;
use crate::topic::{TopicName, TopicPart};

const NOW: BootTime = BootTime(1_000_000);

fn key(n: u8) -> Key {
    Key::new([n; KEY])
}

/// A source of nonces that differ.
fn nonces() -> Box<Nonces> {
    let drawn = AtomicU8::new(0);
    Box::new(move || {
        let mut nonce = [7; NONCE];
        nonce[0] = drawn.fetch_add(1, Ordering::Relaxed);
        nonce
    })
}

/// Written under the first; those after it can be read.
fn keys(of: &[u8]) -> Keys {
    match of {
        [] => Keys::default(),
        [first, rest @ ..] => Keys::writing(key(*first), rest.iter().copied().map(key).collect(), nonces()),
    }
}

fn open(disk: &mut MemDisk, keys: Keys) -> Result<(Ring, Report), DiskError> {
    Ring::recover(disk, Options { keys, ..options() })
}

/// Bytes that do not compress, so that they would stand there as they are.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut rng = Rng::new(seed);
    std::iter::repeat_with(|| rng.next_u64().to_le_bytes()).flatten().take(len).collect()
}

const MARKER: &[u8] = b"a word that nobody else says";

fn value(n: u64, len: usize) -> Vec<u8> {
    [MARKER, &n.to_le_bytes(), &noise(n, len)].concat()
}

fn owner() -> Owner {
    Owner { kind: OwnerKind::Sink, name: Name::new("headquarters").unwrap() }
}

/// Records `from..to`, large and small ones in turn, each fourth commit with an entry; the end is clean.
fn write(disk: &mut MemDisk, keys: Keys, from: u64, to: u64) {
    let (mut ring, _) = open(disk, keys).unwrap();
    let topic = ring.open_topic(&TopicName::new("secret-topic").unwrap(), LaneId(0), 1).unwrap();
    for n in from..to {
        let len = if n % 3 == 0 { 12_000 } else { 50 };
        ring.append(NOW, TopicPart { topic, partition: 0 }, &RecordRef::of(&value(n, len))).unwrap();
        if n % 4 == 0 {
            ring.put_state(NOW, &owner(), b"cursor of it", Some(&value(n, 60))).unwrap();
        }
        ring.hurry(NOW);
        drive(&mut ring, disk, NOW);
    }
    ring.close(NOW);
    drive(&mut ring, disk, NOW);
}

/// The values of all records of the lane, in order, and what will never arrive.
fn read(ring: &mut Ring, disk: &mut MemDisk) -> (Vec<Vec<u8>>, Vec<Gap>) {
    let mut reader = ring.lane_reader(LaneId(0), LanePos::default());
    let (mut all, mut gaps) = (Vec::new(), Vec::new());
    loop {
        match ring.read_lane(&mut reader) {
            ReadStep::Frame(frame) => {
                all.extend(frame.entries_from(0).map(|e| e.record.value.to_vec()));
                reader.pos = frame.end();
            }
            ReadStep::Gap(gap) => gaps.push(gap),
            ReadStep::Wait => assert!(drive(ring, disk, NOW) > 0),
            ReadStep::End => return (all, gaps),
        }
    }
}

fn holds(disk: &mut MemDisk, keys: Keys, records: u64) {
    let (mut ring, report) = open(disk, keys).unwrap();
    assert!(report.notes.is_empty() && report.locked().is_none(), "{report:?}");
    let (all, gaps) = read(&mut ring, disk);
    let expected: Vec<_> = (0..records).map(|n| value(n, if n % 3 == 0 { 12_000 } else { 50 })).collect();
    assert!(all == expected && gaps.is_empty(), "{} of {records} records, {gaps:?}", all.len());
    let newest = (records - 1) / 4 * 4;
    assert_eq!(ring.state(&owner(), b"cursor of it"), Some(&value(newest, 60)[..]));
}

fn bytes(disk: &mut MemDisk) -> BTreeMap<String, Vec<u8>> {
    let files: Vec<FileId> = disk.list().unwrap().into_iter().map(|(slot, _)| FileId::Slot(slot)).collect();
    let all = files.into_iter().chain([FileId::Root]);
    all.map(|file| (file.to_string(), disk.file_mut(file).unwrap().clone())).collect()
}

fn headers(disk: &mut MemDisk) -> Vec<SlotHeader> {
    let slots: Vec<SlotId> = disk.list().unwrap().into_iter().map(|(slot, _)| slot).collect();
    let header =
        |slot| SlotHeader::parse(disk.file_mut(FileId::Slot(slot)).unwrap(), slot, Formats::default()).unwrap();
    slots.into_iter().map(header).collect()
}

#[test]
fn nothing_that_a_record_or_an_entry_says_is_on_the_disk() {
    let (mut disk, mut clear) = (MemDisk::new(MIN_RING), MemDisk::new(MIN_RING));
    write(&mut disk, keys(&[1]), 0, 200);
    write(&mut clear, keys(&[]), 0, 200);
    let words = [MARKER, b"secret-topic", b"headquarters", b"cursor of it"];
    let shows =
        |disk: &mut MemDisk, word: &[u8]| bytes(disk).values().any(|file| file.windows(word.len()).any(|w| w == word));
    for word in words {
        assert!(shows(&mut clear, word) && !shows(&mut disk, word), "{}", String::from_utf8_lossy(word));
    }
    holds(&mut disk, keys(&[1]), 200);
}

#[test]
fn a_ring_changes_between_clear_and_keys_and_all_of_it_can_be_read() {
    let mut disk = MemDisk::new(MIN_RING);
    for (part, of) in [&[][..], &[1], &[1], &[2, 1], &[1, 2], &[2, 1]].into_iter().enumerate() {
        let part = part as u64;
        write(&mut disk, keys(of), part * 20, part * 20 + 20);
        holds(&mut disk, keys(of), part * 20 + 20);
    }
    write(&mut disk, Keys::reading(vec![key(1), key(2)]), 120, 140);
    holds(&mut disk, Keys::reading(vec![key(2), key(1)]), 140);
    let of: Vec<u32> = headers(&mut disk).iter().map(|header| header.key_id).collect();
    assert!([0, key(1).id(), key(2).id()].iter().all(|id| of.contains(id)), "{of:?}");
}

#[test]
fn a_slot_is_under_one_key_that_its_header_names_with_a_flag_that_older_programs_stop_at() {
    let mut disk = MemDisk::new(MIN_RING);
    write(&mut disk, keys(&[]), 0, 10);
    write(&mut disk, keys(&[1]), 10, 60);
    write(&mut disk, keys(&[2, 1]), 60, 90);
    for header in headers(&mut disk) {
        let file = disk.file_mut(FileId::Slot(header.slot)).unwrap();
        assert_eq!(file[16..20] == [0; 4], header.key_id == 0, "the flag");
        let mut walker = super::walk::Walker::new(&mut disk, header.slot, (&keys(&[1, 2]), Formats::default()));
        let content = walker.frames(header.ring, header.generation, header.slot_bytes);
        assert!(!content.frames.is_empty());
        assert!(content.frames.iter().all(|seen| seen.header.key_id() == header.key_id && !seen.locked));
    }
}

#[test]
fn without_the_key_nothing_is_written_or_counted_as_lost_and_with_it_all_is_there() {
    let mut disk = MemDisk::new(MIN_RING);
    write(&mut disk, keys(&[1]), 0, 60);
    let before = bytes(&mut disk);
    for wrong in [keys(&[]), keys(&[2]), Keys::reading(vec![key(3)])] {
        let error = open(&mut disk, wrong).map(|_| ()).unwrap_err();
        assert_eq!(error.kind, DiskErrorKind::Locked(key(1).id()));
        assert!(error.to_string().contains(&format!("{:08x}", key(1).id())), "{error}");
    }
    assert!(before == bytes(&mut disk), "something was written");
    holds(&mut disk, keys(&[1]), 60);
}

#[test]
fn an_old_key_is_wanted_as_long_as_a_slot_is_under_it() {
    let mut disk = MemDisk::new(MIN_RING);
    write(&mut disk, keys(&[1]), 0, 20);
    write(&mut disk, keys(&[2, 1]), 20, 40);
    let error = open(&mut disk, keys(&[2])).map(|_| ()).unwrap_err();
    assert_eq!(error.kind, DiskErrorKind::Locked(key(1).id()));
    holds(&mut disk, keys(&[2, 1]), 40);
}

#[test]
fn the_key_is_wanted_as_well_where_slot_headers_are_damaged() {
    let mut disk = MemDisk::new(MIN_RING);
    write(&mut disk, keys(&[1]), 0, 60);
    for header in headers(&mut disk) {
        disk.file_mut(FileId::Slot(header.slot)).unwrap()[100] ^= 1;
        let error = open(&mut disk, keys(&[])).map(|_| ()).unwrap_err();
        assert_eq!(error.kind, DiskErrorKind::Locked(key(1).id()));
    }
}

#[test]
fn what_needs_no_key_is_verified_and_counted_without_it() {
    for unclean in [false, true] {
        let mut disk = MemDisk::new(MIN_RING);
        write(&mut disk, keys(&[1]), 0, 90);
        if unclean {
            disk.file_mut(FileId::Root).unwrap().fill(0);
        }
        let of = |disk: &mut MemDisk, keys: Keys| verify(disk, &keys, &mut || false, &mut |_, _| {}).unwrap();
        let (with, without) = (of(&mut disk, keys(&[1])), of(&mut disk, keys(&[])));
        assert!(with.findings.is_empty() && without.findings.is_empty(), "{with:#?} {without:#?}");
        assert_eq!((with.totals.records, with.totals.frames_locked), (90, 0));
        assert_eq!((without.totals.frames_good, without.totals.frames_locked), (0, with.totals.frames_good));
        assert!(with.keys[0].given && !without.keys[0].given);
        let (with, without) = [keys(&[1]), keys(&[])].map(|keys| stat(&mut disk, &keys, &mut || false).unwrap()).into();
        assert_eq!((with.lanes[0].records, with.topics.len()), (90, 1));
        assert_eq!((without.lanes[0].records, without.topics.len()), (90, 0));
        assert_eq!(without.keys[0].id, format!("{:08x}", key(1).id()));
    }
}

#[test]
fn damage_is_found_without_the_key_and_told_from_what_is_locked() {
    let mut disk = MemDisk::new(MIN_RING);
    write(&mut disk, keys(&[1]), 0, 90);
    let (slot, at) = large_frame(&mut disk);
    disk.file_mut(FileId::Slot(slot)).unwrap()[at + 2_000] ^= 1;
    let found = verify(&mut disk, &Keys::default(), &mut || false, &mut |_, _| {}).unwrap();
    assert!(!found.is_good() && found.totals.frames_locked > 0, "{found:#?}");
    assert_eq!((found.totals.bad_payloads, found.totals.records_lost), (1, 1));
}

/// A frame of one large record that is in no cache.
fn large_frame(disk: &mut MemDisk) -> (SlotId, usize) {
    for header in headers(disk) {
        let mut walker = super::walk::Walker::new(disk, header.slot, (&keys(&[1]), Formats::default()));
        let content = walker.frames(header.ring, header.generation, header.slot_bytes);
        let large = content.frames.iter().find(|s| s.header.records == 1 && s.header.raw_len > 10_000);
        if let Some(seen) = large {
            return (header.slot, seen.header.at as usize);
        }
    }
    panic!("no large frame");
}

/// Makes every checksum of a frame right again, as somebody would who does not have the key.
fn mend(frame: &mut [u8]) {
    let u32_at = |b: &[u8], at: usize| u32::from_le_bytes(b[at..at + 4].try_into().unwrap()) as usize;
    let u16_at = |b: &[u8], at: usize| usize::from(u16::from_le_bytes([b[at], b[at + 1]]));
    let seed = crc32c::crc32c(&[&frame[16..32], &frame[40..42], &frame[32..40]].concat());
    let of = crc32c::crc32c_append(seed, &frame[56..64]);
    let payload = FRAME_HEADER + u16_at(frame, 42) * RUN + u16_at(frame, 44) * PREV_COUNT;
    let state = payload + u32_at(frame, 112);
    for (at, range) in [(124, FRAME_HEADER..payload), (128, payload..state), (132, state..state + u32_at(frame, 120))] {
        let crc = frame.get(range).map_or(0, |bytes| crc32c::crc32c_append(of, bytes));
        frame[at..at + 4].copy_from_slice(&crc.to_le_bytes());
    }
    let crc = crc32c::crc32c_append(seed, &frame[..508]);
    frame[508..512].copy_from_slice(&crc.to_le_bytes());
}

#[test]
fn a_frame_of_which_any_bit_was_changed_is_refused_though_its_checksums_were_made_right() {
    let mut disk = MemDisk::new(MIN_RING);
    let (mut ring, _) = open(&mut disk, keys(&[1])).unwrap();
    let topic = ring.open_topic(&TopicName::new("t").unwrap(), LaneId(0), 1).unwrap();
    for text in ["one", "two"] {
        ring.append(NOW, TopicPart { topic, partition: 0 }, &RecordRef::of(text.as_bytes())).unwrap();
        ring.put_state(NOW, &owner(), b"k", Some(text.as_bytes())).unwrap();
        ring.hurry(NOW);
        drive(&mut ring, &mut disk, NOW);
    }
    let mut unpack = Unpack::new(keys(&[1]));
    // The newest frame of all: it has runs, prev counts, a payload and a state section.
    let frames = headers(&mut disk).into_iter().flat_map(|header| {
        let mut walker = super::walk::Walker::new(&mut disk, header.slot, (&keys(&[1]), Formats::default()));
        walker.frames(header.ring, header.generation, header.slot_bytes).frames
    });
    let header = frames.max_by_key(|seen| (seen.is_commit(), seen.header.commit)).unwrap().header;
    assert!(header.runs == 1 && header.prev_counts == 1 && header.raw_len > 0 && header.state_raw > 0);
    let at = header.at as usize;
    let whole = disk.file_mut(FileId::Slot(header.slot)).unwrap()[at..at + header.frame_len as usize].to_vec();
    let opens = |frame: &[u8], unpack: &mut Unpack, part: Part| {
        // Wherever it says that it stands.
        let slot = SlotId(u16::from_le_bytes([frame[40], frame[41]]));
        let at = u32::from_le_bytes(frame[48..52].try_into().unwrap());
        let header = FrameHeader::parse(frame, slot, at, Formats::default())?;
        match part {
            Part::Payload => Frame::default().decode(&header, frame, unpack),
            Part::State => unpack.section(&header, frame, part, &mut Vec::new()),
        }
    };
    let mut mended = whole.clone();
    mend(&mut mended);
    assert!(mended == whole, "the test knows the checksums");
    let mut tags = 0;
    for bit in 0..header.used() * 8 {
        let at = bit / 8;
        if (124..136).contains(&at) || (508..512).contains(&at) {
            continue;
        }
        let mut frame = whole.clone();
        frame[at] ^= 1 << (bit % 8);
        mend(&mut frame);
        let parts = [Part::Payload, Part::State].map(|part| opens(&frame, &mut unpack, part));
        tags += u32::from(parts.contains(&Err(Bad::Tag)));
        let refused = match at {
            at if at < header.payload_at() => parts.iter().all(Result::is_err),
            at if at < header.state_at() => parts[0].is_err(),
            _ => parts[1].is_err(),
        };
        assert!(refused, "bit {} of byte {at}: {parts:?}", bit % 8);
    }
    assert!(tags > 2_000, "{tags}");
}

#[test]
fn a_tag_that_fails_is_a_bad_payload_and_the_rest_is_read() {
    let mut disk = MemDisk::new(MIN_RING);
    write(&mut disk, keys(&[1]), 0, 90);
    let (slot, at) = large_frame(&mut disk);
    let file = disk.file_mut(FileId::Slot(slot)).unwrap();
    file[at + 2_000] ^= 1;
    mend(&mut file[at..]);
    let (mut ring, report) = open(&mut disk, keys(&[1])).unwrap();
    assert_eq!((report.corrupt_records, report.lost_unsynced), (0, 0), "recovery decrypts no payload");
    let (all, gaps) = read(&mut ring, &mut disk);
    assert_eq!((all.len(), gaps.len(), gaps[0].count(), gaps[0].reason), (89, 1, 1, GapReason::Corrupt));
    let found = verify(&mut disk, &keys(&[1]), &mut || false, &mut |_, _| {}).unwrap();
    assert!(found.findings.iter().any(|f| f.what.contains("do not decrypt")), "{found:#?}");
    assert_eq!(found.totals.records_lost, 1);
}

#[test]
fn a_frame_that_is_written_again_has_another_nonce() {
    let mut disk = MemDisk::new(MIN_RING);
    let (mut ring, _) = open(&mut disk, keys(&[1])).unwrap();
    let topic = ring.open_topic(&TopicName::new("t").unwrap(), LaneId(0), 1).unwrap();
    ring.append(NOW, TopicPart { topic, partition: 0 }, &RecordRef::of(&value(1, 20_000))).unwrap();
    ring.hurry(NOW);
    let (mut seen, mut now, mut failed) = (Vec::new(), NOW, false);
    for _ in 0..100 {
        now = now + Span::from_secs(1);
        while let Some(command) = ring.poll(now) {
            if let Op::Write { file: FileId::Slot(_), at, data, .. } = &command.op
                && *at >= FIRST_FRAME.into()
                && data.len() > 20_000
            {
                seen.push((data[160..184].to_vec(), data[4096..5000].to_vec()));
            }
            let mut done = execute(command, &mut disk);
            if seen.len() == 1 && !std::mem::replace(&mut failed, true) {
                let (kind, file) = (DiskErrorKind::Io, "slot-0000".into());
                done.result = Err(DiskError { kind, op: "sync", file, detail: "EIO".into() });
            }
            ring.complete(now, done);
        }
    }
    assert_eq!(ring.settled(), ring.last_ticket(), "{:?}", ring.health());
    assert_eq!(seen.len(), 2);
    assert!(seen[0].0 != seen[1].0 && seen[0].1 != seen[1].1, "nonce and what is under it");
    let (all, gaps) = read(&mut ring, &mut disk);
    assert!(all == [value(1, 20_000)] && gaps.is_empty());
}

#[test]
fn a_ring_that_is_whole_is_found_so_without_its_key_whatever_crashed_before() {
    for seed in 0..40 {
        let (mut disk, mut rng) = (MemDisk::new(MIN_RING), Rng::new(seed));
        for session in 0..5 {
            let of = if rng.below(3) == 0 { keys(&[2, 1]) } else { keys(&[1, 2]) };
            let (mut ring, _) = open(&mut disk, of).unwrap();
            let topic = ring.open_topic(&TopicName::new("t").unwrap(), LaneId(0), 1).unwrap();
            for n in 0..rng.below(40) {
                let len = [20, 20, 20, 9_000][rng.below(4) as usize];
                ring.append(NOW, TopicPart { topic, partition: 0 }, &RecordRef::of(&value(n, len))).unwrap();
                if rng.below(5) == 0 {
                    ring.put_state(NOW, &owner(), b"k", Some(&[session])).unwrap();
                }
                ring.hurry(NOW);
                // Now and then the process ends with commands that nobody carried out.
                let most = if rng.below(30) == 0 { 1 } else { usize::MAX };
                for _ in 0..most {
                    let Some(command) = ring.poll(NOW) else { break };
                    ring.complete(NOW, execute(command, &mut disk));
                }
                if most == 1 {
                    break;
                }
            }
        }
        let [with, without] = [keys(&[1, 2]), Keys::default()]
            .map(|keys| verify(&mut disk, &keys, &mut || false, &mut |_, _| {}).unwrap());
        assert!(with.is_good(), "seed {seed}: {:#?}", with.findings);
        assert!(without.is_good(), "seed {seed}: {:#?}", without.findings);
        assert_eq!(without.totals.records_lost, 0);
    }
}
