//! Golden rings: one populated directory of every released format, read by this version to exactly its records.
//!
//! A change of the format that an older ring does not survive fails here. The files under `tests/data/ring-v1` are
//! slots as a node wrote them, compressed because they are mostly empty; those under `ring-v1-journal` were written when
//! the journal was in use; those under `ring-v1-encrypted` under one key, then another. They are never written again: a
//! new format gets a directory of its own. `HEADWATER_WRITE_GOLDEN=DIR cargo test --test format` writes one for that,
//! `DIR-encrypted` and, of what does not happen every day, `DIR-encrypted-odd`.

mod odd;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};

use headwater::lane::LaneId;
use headwater::limits::MIN_RING;
use headwater::name::Name;
use headwater::record::{AttrBuf, Flags, Origin, Record};
use headwater::ring::stat::stat;
use headwater::ring::verify::verify;
use headwater::ring::{
    Disk, DiskErrorKind, FileId, Key, Keys, LaneOptions, LanePos, MemDisk, Options, Owner, OwnerKind, ROOT_BYTES,
    ReadStep, Ring, SlotId, drive,
};
use headwater::time::{BootTime, ClockSync, Span, WallTime};
use headwater::topic::{TopicName, TopicPart};

/// The ring's id, as its seed gave it; a name of every record in it.
const RING: &str = include_str!("../data/ring-v1/ring-id");

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn options(boot: u8, keys: Keys) -> Options {
    Options {
        max_bytes: MIN_RING,
        lanes: ["urgent", "normal"].map(|n| LaneOptions { name: name(n), reserve: 10 }).into(),
        linger: Span::from_secs(1),
        binding: [1; 16],
        boot_id: [boot; 16],
        seed: 20,
        keys,
        formats: Default::default(),
    }
}

fn key(n: u8) -> Key {
    Key::new([n; 32])
}

/// To write the golden ring of sessions 1 and 2 with, or, as session 2, to read it.
fn keys(session: u8) -> Keys {
    let drawn = AtomicU8::new(0);
    let nonces = move || {
        let mut nonce = [session; 24];
        nonce[0] = drawn.fetch_add(1, Ordering::Relaxed);
        nonce
    };
    let old = (1..session).map(key).collect();
    Keys::writing(key(session), old, Box::new(nonces))
}

fn attrs(pairs: &[(&str, &[u8])]) -> AttrBuf {
    let mut buf = AttrBuf::default();
    assert!(pairs.iter().all(|(n, v)| buf.push(n, v)));
    buf
}

/// Every shape a record has. Topic 0 is `alarm` (lane 0), topic 1 is `telemetry` (lane 1, two partitions).
fn records(session: i64) -> Vec<(u16, u8, Record)> {
    let at = BootTime(session * 1_000_000_000);
    let plain = |value: &[u8]| Record { value: value.into(), admitted: at, ..Record::default() };
    let origin = Some(Origin { producer_id: i64::MAX - 1, producer_epoch: -3, first_sequence: 77 });
    vec![
        (1, 0, plain(b"{\"level\":3.5}")),
        (1, 0, plain(b"")),
        (0, 0, Record { key: Some(b"pump-1".to_vec()), ..plain(b"too hot") }),
        (1, 1, Record { key: Some(Vec::new()), ..plain(b"an empty key is not no key") }),
        (1, 0, Record { event_time: Some(WallTime(-1)), admitted: BootTime(at.0 + 5), ..plain(b"before 1970") }),
        (1, 1, Record { flags: Flags::CLOCK_UNTRUSTED.with(Flags::RETAINED), ..plain(b"flags") }),
        (0, 0, Record { attrs: attrs(&[("mqtt.topic", b"a/b"), ("x", &[0, 255])]), ..plain(b"attributes") }),
        // The boot clock of the record before it is later: times are relative and may be negative.
        (1, 0, Record { origin, admitted: BootTime(at.0 - 7), ..plain(b"origin") }),
        (1, 1, plain(&vec![session as u8; 60_000])),
    ]
}

fn owners() -> [Owner; 2] {
    [Owner { kind: OwnerKind::Sink, name: name("hq") }, Owner { kind: OwnerKind::Source, name: name("broker.1") }]
}

/// One process that ends as a crash does, one that shuts down; each in a boot of its own.
fn populate(keys: fn(u8) -> Keys) -> MemDisk {
    let mut disk = MemDisk::new(MIN_RING);
    for session in 1..=2 {
        let (mut ring, _) = Ring::recover(&mut disk, options(session as u8, keys(session as u8))).unwrap();
        let topics = [("alarm", 0, 1), ("telemetry", 1, 2)];
        let ids =
            topics.map(|(n, lane, parts)| ring.open_topic(&TopicName::new(n).unwrap(), LaneId(lane), parts).unwrap());
        let now = BootTime(session * 1_000_000_000);
        for (i, (topic, partition, record)) in records(session).into_iter().enumerate() {
            let part = TopicPart { topic: ids[topic as usize], partition };
            ring.append(now, part, &record.as_ref()).unwrap();
            let [sink, source] = owners();
            ring.put_state(now, &sink, b"cursor", Some(&[session as u8, i as u8])).unwrap();
            let checkpoint = (i % 2 == 0).then_some(&b"written and removed"[..]);
            ring.put_state(now, &source, &[i as u8], checkpoint).unwrap();
            ring.put_state(now, &source, &[0], None).unwrap();
            if i % 3 == 2 {
                ring.hurry(now);
                drive(&mut ring, &mut disk, now);
            }
        }
        ring.set_clock(now, ClockSync { offset: 1_700_000_000_000_000 + session, trusted: session == 2 });
        ring.hurry(now);
        drive(&mut ring, &mut disk, now);
        if session == 2 {
            ring.close(now);
            drive(&mut ring, &mut disk, now);
        }
    }
    disk
}

fn data(dir: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(dir)
}

/// Each golden ring, and what it is read with.
fn golden() -> [(MemDisk, Keys); 3] {
    let rings = [("ring-v1", clear(2)), ("ring-v1-journal", clear(2)), ("ring-v1-encrypted", keys(2))];
    rings.map(|(dir, keys)| (load(&data(dir)), keys))
}

fn clear(_: u8) -> Keys {
    Keys::default()
}

/// The committed files, in memory.
fn load(dir: &Path) -> MemDisk {
    let mut disk = MemDisk::new(MIN_RING);
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let Some(stem) = path.file_name().and_then(|n| n.to_str()?.strip_suffix(".zst")) else { continue };
        let file = match stem.strip_prefix("slot-") {
            Some(n) => FileId::Slot(SlotId(n.parse().unwrap())),
            None => FileId::Root,
        };
        let bytes = zstd::decode_all(std::fs::File::open(&path).unwrap()).unwrap();
        disk.create(file, bytes.len() as u64).unwrap();
        disk.write(file, 0, &bytes).unwrap();
    }
    disk
}

fn write(disk: &mut MemDisk, dir: &Path) {
    std::fs::create_dir_all(dir).unwrap();
    std::fs::write(dir.join("ring-id"), stat(disk, &keys(2), &mut || false).unwrap().ring).unwrap();
    let mut files: Vec<_> = disk.list().unwrap().into_iter().map(|(slot, len)| (FileId::Slot(slot), len)).collect();
    files.push((FileId::Root, ROOT_BYTES));
    for (file, len) in files {
        let mut bytes = vec![0; len as usize];
        disk.read(file, 0, &mut bytes).unwrap();
        std::fs::write(dir.join(format!("{file}.zst")), zstd::encode_all(&bytes[..], 19).unwrap()).unwrap();
    }
}

/// All records of a lane with their partition and offset, in order; and the boots they were written in.
fn lane(ring: &mut Ring, disk: &mut MemDisk, lane: LaneId) -> (Vec<(TopicPart, u64, Record)>, Vec<u32>) {
    let mut reader = ring.lane_reader(lane, LanePos::default());
    let (mut all, mut boots) = (Vec::new(), Vec::new());
    loop {
        match ring.read_lane(&mut reader) {
            ReadStep::Frame(frame) => {
                assert_eq!(format!("{:032x}", frame.ring_id().0), RING);
                boots.push(frame.boot());
                all.extend(frame.entries_from(0).map(|e| (e.part, e.offset, e.record.to_owned())));
                reader.pos = frame.end();
            }
            ReadStep::Gap(gap) => panic!("{gap:?}"),
            ReadStep::Wait => assert!(drive(ring, disk, BootTime::default()) > 0),
            ReadStep::End => break,
        }
    }
    boots.dedup();
    (all, boots)
}

/// What must be in the ring, by partition.
fn expected(topic: u16, partition: u8) -> Vec<Record> {
    let of = |(t, p, record)| (t == topic && p == partition).then_some(record);
    (1..=2).flat_map(records).filter_map(of).collect()
}

fn holds_exactly_what_was_written(ring: &mut Ring, disk: &mut MemDisk) {
    let names: Vec<_> = ring.topic_ids().into_iter().map(|id| ring.topic(id).unwrap().name.to_string()).collect();
    assert_eq!(names, ["alarm", "telemetry"]);
    let mut seen = 0;
    for (topic, partition, in_lane) in [(0u16, 0u8, 0u8), (1, 0, 1), (1, 1, 1)] {
        let part = TopicPart { topic: ring.topic_ids()[topic as usize], partition };
        let (all, boots) = lane(ring, disk, LaneId(in_lane));
        assert_eq!(boots, [1, 2]);
        let mine: Vec<_> = all.into_iter().filter(|(p, _, _)| *p == part).collect();
        assert!(mine.iter().enumerate().all(|(i, (_, offset, _))| *offset == i as u64), "offsets are dense");
        let mine: Vec<_> = mine.into_iter().map(|(_, _, record)| record).collect();
        assert_eq!(mine, expected(topic, partition));
        assert_eq!(ring.durable_end(part), Some(mine.len() as u64));
        seen += mine.len();
    }
    assert_eq!(seen, 18);
    let [sink, source] = owners();
    assert_eq!(ring.states(&sink), [(b"cursor".to_vec(), vec![2, 8])]);
    let kept = [2u8, 4, 6, 8].map(|i| (vec![i], b"written and removed".to_vec()));
    assert_eq!(ring.states(&source), kept);
    for (boot, trusted) in [(1, false), (2, true)] {
        let sync = ClockSync { offset: 1_700_000_000_000_000 + i64::from(boot), trusted };
        assert_eq!(ring.clock(boot), Some(sync));
    }
}

#[test]
fn a_ring_of_format_1_is_read_to_exactly_its_records() {
    if let Some(mut dir) = std::env::var_os("HEADWATER_WRITE_GOLDEN") {
        write(&mut populate(clear), Path::new(&dir));
        dir.push("-encrypted");
        write(&mut populate(keys), Path::new(&dir));
        dir.push("-odd");
        return odd::write_golden(Path::new(&dir));
    }
    for (mut disk, keys) in golden() {
        let (mut ring, report) = Ring::open_read_only(&mut disk, options(2, keys)).unwrap();
        assert!(report.clean_shutdown && !report.cloned && report.notes.is_empty(), "{report:?}");
        assert_eq!((report.corrupt_records, report.lost_unsynced), (0, 0));
        holds_exactly_what_was_written(&mut ring, &mut disk);
    }
}

#[test]
fn a_ring_of_format_1_verifies() {
    for (mut disk, keys) in golden() {
        let found = verify(&mut disk, &keys, &mut || false, &mut |_, _| {}).unwrap();
        assert!(found.findings.is_empty(), "{:#?}", found.findings);
        assert_eq!(found.totals.records, 18);
    }
}

#[test]
fn a_ring_of_format_1_goes_on_where_it_ended() {
    for (mut disk, keys) in golden() {
        let (mut ring, report) = Ring::recover(&mut disk, options(2, keys)).unwrap();
        assert!(report.clean_shutdown);
        holds_exactly_what_was_written(&mut ring, &mut disk);
        let part = TopicPart { topic: ring.topic_id("alarm").unwrap(), partition: 0 };
        let done = ring.append(BootTime(1), part, &Record::default().as_ref()).unwrap();
        assert_eq!(done.offset, 4);
        ring.hurry(BootTime(1));
        drive(&mut ring, &mut disk, BootTime(1));
        assert_eq!(ring.durable_end(part), Some(5));
    }
}

#[test]
fn this_version_writes_what_it_reads() {
    for keys in [clear, keys] {
        let mut disk = populate(keys);
        let (mut ring, _) = Ring::open_read_only(&mut disk, options(2, keys(2))).unwrap();
        holds_exactly_what_was_written(&mut ring, &mut disk);
    }
}

#[test]
fn an_encrypted_ring_of_format_1_is_read_by_nobody_without_its_keys_and_verify_says_so() {
    let dir = data("ring-v1-encrypted");
    // Without any, and with the newer one only.
    for (wanted, keys) in [(1, Keys::default()), (1, Keys::reading(vec![key(2)])), (2, Keys::reading(vec![key(1)]))] {
        let mut disk = load(&dir);
        let refused = Ring::recover(&mut disk, options(2, keys.clone())).map(|_| ()).unwrap_err();
        let DiskErrorKind::Locked(id) = refused.kind else { panic!("{refused}") };
        let known: Vec<u32> = [1, 2].map(|n| key(n).id()).into();
        assert!(known.contains(&id) && !keys.has(id), "{refused}");
        let found = verify(&mut disk, &keys, &mut || false, &mut |_, _| {}).unwrap();
        assert!(found.is_good() && found.totals.frames_locked > 0, "{found:#?}");
        assert_eq!(found.totals.records, 18, "counted all the same");
        let listed = |n: u8| found.keys.iter().find(|k| k.id == format!("{:08x}", key(n).id())).unwrap();
        assert!(!listed(wanted).given && listed(1).slots > 0 && listed(2).slots > 0, "{:?}", found.keys);
    }
}
