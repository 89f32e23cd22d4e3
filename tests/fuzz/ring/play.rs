//! What must hold of any directory: the tools read it without changing it; a ring comes out of it, in bounded work; what
//! it shows stands in frames whose checksums hold; what it takes then is there after the next start.

use std::collections::{BTreeMap, BTreeSet};

use headwater::lane::LaneId;
use headwater::record::RecordRef;
use headwater::ring::{
    DiskErrorKind, FileId, Health, Keys, LanePos, MemDisk, ReadStep, Report, Ring, drive, stat, verify,
};
use headwater::time::{BootTime, Span};
use headwater::topic::{TopicName, TopicPart};

use super::damage::{Input, begin, change};
use super::image::{files, options, settle};
use super::seal;

/// Steps of one reader: far above what a ring of this size can ask for.
const STEPS: usize = 100_000;
/// Changes taken from one input.
const CHANGES: usize = 24;

/// One change, of which the rest of the input is the content; everything is only read.
pub fn decode(data: &[u8]) {
    let mut input = Input(data);
    let mut disk = begin(&mut input);
    change(&mut disk, &mut input);
    look(&mut disk);
}

/// Many changes; then the life of a node on what is left.
pub fn recover(data: &[u8]) {
    let mut input = Input(data);
    let mut disk = begin(&mut input);
    let mut honest = true;
    for _ in 0..CHANGES {
        if input.is_empty() {
            break;
        }
        honest &= change(&mut disk, &mut input);
    }
    look(&mut disk);
    live(disk, honest);
}

/// By place: the value, and the seq where the lane has it too.
type Found = BTreeMap<(TopicPart, u64), (u64, Vec<u8>)>;

/// The tools: nothing is changed by them.
fn look(disk: &mut MemDisk) {
    let mut same = disk.clone();
    verify::verify(disk, &Keys::default(), &mut || false, &mut |_, _| {}).expect("memory is read");
    stat::stat(disk, &Keys::default(), &mut || false).expect("memory is read");
    let (mut ring, _) = Ring::open_read_only(disk, options()).expect("a ring");
    read(&mut ring, disk, BootTime(0));
    for file in files(disk).into_iter().chain(files(&mut same)) {
        assert!(disk.file_mut(file) == same.file_mut(file), "{file} was changed by who only reads");
    }
}

/// None: a forged header says that its frames are under a key, and nobody writes to those without it.
fn start(disk: &mut MemDisk, honest: bool) -> Option<(Ring, Report)> {
    match Ring::recover(disk, options()) {
        Err(error) if !honest && matches!(error.kind, DiskErrorKind::Locked(_)) => None,
        begun => Some(begun.expect("a ring")),
    }
}

/// A node starts, works, is killed, starts again. With `honest` damage what it was given is there.
fn live(mut disk: MemDisk, honest: bool) {
    let mut now = BootTime(1 << 40);
    let Some((mut ring, _)) = start(&mut disk, honest) else { return };
    let mut known = read(&mut ring, &mut disk, now);
    let name = TopicName::new("after").expect("a name");
    if let Ok(topic) = ring.open_topic(&name, LaneId(0), 1) {
        for n in 0..3u64 {
            let value = vec![n as u8; 50 + 9000 * (n as usize % 2)];
            let part = TopicPart { topic, partition: 0 };
            let Ok(given) = ring.append(now, part, &RecordRef::of(&value)) else { break };
            if !settle(&mut ring, &mut disk, &mut now) {
                assert_ne!(ring.health(), Health::Good, "it takes no more and does not say why");
                return;
            }
            known.insert((part, given.offset), (u64::MAX, value));
            now = now + Span::from_secs(1);
        }
    }
    let again = read(&mut ring, &mut disk, now);
    if honest {
        holds(&ring, &known, &again);
    }
    drop(ring);
    let Some((mut ring, report)) = start(&mut disk, honest) else { return };
    let found = read(&mut ring, &mut disk, now);
    if honest {
        holds(&ring, &known, &found);
    }
    assert!(!report.fresh || known.is_empty(), "a ring that held records is taken for none");
    look(&mut disk);
}

/// What was known is there unless it was evicted. Where the header of the oldest slot is lost, a partition's first offset
/// is not known to be higher: then the lane tells.
fn holds(ring: &Ring, known: &Found, found: &Found) {
    let oldest = ring.stats().lanes[0].oldest.seq;
    for ((part, offset), (seq, value)) in known.iter().filter(|(_, (seq, _))| *seq >= oldest) {
        let earliest = ring.topic(part.topic).map_or(0, |t| t.partitions[usize::from(part.partition)].earliest);
        if *offset >= earliest {
            let same = found.get(&(*part, *offset)).is_some_and(|(_, now)| now == value);
            assert!(same, "{part:?} offset {offset}, seq {seq}, is gone or another");
        }
    }
}

/// Everything that can be read, by lane and by partition.
fn read(ring: &mut Ring, disk: &mut MemDisk, now: BootTime) -> Found {
    let sound = sound(disk);
    let mut by_lane = BTreeMap::new();
    let mut reader = ring.lane_reader(LaneId(0), LanePos::default());
    let mut waits = 0;
    for step in 0.. {
        assert!(step < STEPS, "a reader of the lane does not come to an end");
        let before = reader.pos;
        match ring.read_lane(&mut reader) {
            ReadStep::Frame(frame) => {
                assert!(sound.contains(&frame.first().seq), "a frame at seq {} was made up", frame.first().seq);
                for entry in frame.entries_from(before.seq) {
                    by_lane.insert((entry.part, entry.offset), entry.seq);
                }
                reader.pos = frame.end();
                assert!(reader.pos.ordinal > before.ordinal, "no progress at {before:?}");
            }
            ReadStep::Gap(gap) => assert!(gap.to.ordinal > gap.from.ordinal, "an empty gap {gap:?}"),
            ReadStep::Wait => {
                waits += 1;
                assert!(drive(ring, disk, now) > 0 || waits < STEPS, "a reader waits for nothing");
            }
            ReadStep::End => break,
        }
    }
    let mut found = Found::new();
    for id in ring.topic_ids() {
        let partitions = ring.topic(id).map_or(0, |topic| topic.partitions.len());
        for partition in 0..partitions {
            read_part(ring, disk, now, TopicPart { topic: id, partition: partition as u8 }, &mut found);
        }
    }
    for (place, (seq, _)) in &mut found {
        *seq = by_lane.get(place).copied().unwrap_or(*seq);
    }
    found
}

fn read_part(ring: &mut Ring, disk: &mut MemDisk, now: BootTime, part: TopicPart, found: &mut Found) {
    let mut reader = ring.part_reader(part, 0);
    for step in 0.. {
        assert!(step < STEPS, "a reader of {part:?} does not come to an end");
        let before = reader.offset;
        match ring.read_part(&mut reader) {
            ReadStep::Frame(frame) => {
                for entry in frame.entries_of(part, before) {
                    assert!(entry.offset >= reader.offset, "offsets of {part:?} go back");
                    reader.offset = entry.offset + 1;
                    found.insert((part, entry.offset), (u64::MAX, entry.record.value.to_vec()));
                }
                assert!(reader.offset > before, "no progress at offset {before} of {part:?}");
            }
            ReadStep::Gap(_) => assert!(reader.offset > before, "an empty gap at offset {before} of {part:?}"),
            ReadStep::Wait => assert!(drive(ring, disk, now) > 0, "a reader waits for nothing"),
            ReadStep::End => return,
        }
    }
}

/// First seqs of all frames whose checksums hold, by the harness's own sums.
fn sound(disk: &mut MemDisk) -> BTreeSet<u64> {
    let mut seqs = BTreeSet::new();
    for file in files(disk) {
        let Some(bytes) = disk.file_mut(file).filter(|_| file != FileId::Root) else { continue };
        for at in seal::frames(bytes).into_iter().filter(|at| seal::is_sound(&bytes[*at..])) {
            let (first, records) = seal::seqs(&bytes[at..]);
            if records > 0 {
                seqs.insert(first);
            }
        }
    }
    seqs
}
