//! A golden ring of what does not happen every day: records that were never written because every sink had them, a crash,
//! a topic that moved, another machine. What is read of it stands beside it in words.

use std::fmt::Write as _;
use std::path::Path;

use headwater::lane::LaneId;
use headwater::record::RecordRef;
use headwater::ring::{LanePos, MemDisk, Options, PartReader, ReadStep, Ring, drive};
use headwater::time::BootTime;
use headwater::topic::{TopicName, TopicPart};

use super::{clear, data, load, name, options, owners, write};

const DIR: &str = "ring-v1-odd";

fn machine(session: u8) -> Options {
    // The third one has the card in another machine.
    Options { binding: [1 + session / 3; 16], ..options(session, clear(session)) }
}

struct Session {
    ring: Ring,
    now: BootTime,
    parts: [TopicPart; 3],
}

impl Session {
    fn begin(disk: &mut MemDisk, session: u8) -> Self {
        let (mut ring, _) = Ring::recover(disk, machine(session)).unwrap();
        let [a, b] = [("a", 0, 1), ("b", 1, 2)]
            .map(|(topic, lane, parts)| ring.open_topic(&TopicName::new(topic).unwrap(), LaneId(lane), parts).unwrap());
        let part = |topic, partition| TopicPart { topic, partition };
        Self { ring, now: BootTime(1_000_000_000 * i64::from(session)), parts: [part(a, 0), part(b, 0), part(b, 1)] }
    }

    fn pass(&mut self, disk: &mut MemDisk) {
        self.now = BootTime(self.now.0 + 2_000_000);
        drive(&mut self.ring, disk, self.now);
    }

    fn give(&mut self, records: std::ops::Range<u32>) {
        for n in records {
            let value = format!("record {n}");
            let record = RecordRef { admitted: self.now, ..RecordRef::of(value.as_bytes()) };
            self.ring.append(self.now, self.parts[n as usize % 3], &record).unwrap();
        }
    }

    /// All of it is durable.
    fn settle(&mut self, disk: &mut MemDisk) {
        // What is reserved for it comes with it.
        for _ in 0..2 {
            self.ring.want(self.ring.last_ticket());
            self.ring.hurry(self.now);
            drive(&mut self.ring, disk, self.now);
        }
        assert_eq!(self.ring.settled(), self.ring.last_ticket());
    }
}

fn populate() -> MemDisk {
    let mut disk = MemDisk::new(headwater::limits::MIN_RING);
    let mut first = Session::begin(&mut disk, 1);
    first.ring.set_ram_first(true);
    first.give(0..6);
    first.settle(&mut disk);
    first.give(6..30);
    first.pass(&mut disk);
    for lane in [0, 1].map(LaneId) {
        let shown = first.ring.lane_shown(lane);
        first.ring.set_passed(lane, Some(shown));
    }
    first.pass(&mut disk);
    let [sink, _] = owners();
    first.ring.put_state(first.now, &sink, b"cursor", Some(b"behind what was never written")).unwrap();
    first.give(30..33);
    first.settle(&mut disk);
    // Shown and held when the process dies.
    first.give(33..60);
    first.pass(&mut disk);

    let mut second = Session::begin(&mut disk, 2);
    second.give(60..66);
    second.settle(&mut disk);
    assert!(second.ring.move_topic(second.parts[1].topic, LaneId(0)));
    second.give(66..72);
    second.settle(&mut disk);

    let mut third = Session::begin(&mut disk, 3);
    third.give(72..78);
    third.ring.close(third.now);
    drive(&mut third.ring, &mut disk, third.now);
    disk
}

/// What a reader meets, a line for each thing.
fn in_words(disk: &mut MemDisk) -> String {
    let (mut ring, report) = Ring::open_read_only(disk, machine(3)).unwrap();
    let mut out = String::new();
    let (lost, corrupt) = (report.lost_unsynced, report.corrupt_records);
    let _ = writeln!(out, "clean {}, lost unsynced {lost}, corrupt {corrupt}", report.clean_shutdown);
    for (id, end) in ring.former() {
        let _ = writeln!(out, "was {:032x} below seq {end}", id.0);
    }
    let _ = writeln!(out, "is {:032x}", ring.id().0);
    for (at, lane) in ring.stats().lanes.iter().enumerate() {
        let (admitted, oldest, end) = (lane.admitted, lane.oldest, lane.durable);
        let _ = writeln!(out, "lane {at}: {admitted} admitted, from {oldest:?} to {end:?}");
        let mut reader = ring.lane_reader(LaneId(at as u8), LanePos::default());
        loop {
            match ring.read_lane(&mut reader) {
                ReadStep::Frame(frame) => {
                    for e in frame.entries_from(reader.pos.seq) {
                        let (of, part) = (e.part.topic.0, e.part.partition);
                        let value = String::from_utf8_lossy(e.record.value).into_owned();
                        let (ordinal, seq, offset, ring) = (e.ordinal, e.seq, e.offset, frame.ring_id().0 >> 96);
                        let _ = writeln!(
                            out,
                            "  #{ordinal} seq {seq} topic {of}/{part} offset {offset} of {ring:x}: {value}"
                        );
                    }
                    reader.pos = frame.end();
                }
                ReadStep::Gap(gap) => {
                    let (from, to) = (gap.from.ordinal, gap.to.ordinal);
                    let _ = writeln!(out, "  #{from} to #{to}: {:?}", gap.reason);
                }
                ReadStep::Wait => assert!(drive(&mut ring, disk, BootTime::default()) > 0),
                ReadStep::End => break,
            }
        }
    }
    for id in ring.topic_ids() {
        let info = ring.topic(id).unwrap();
        let _ = writeln!(out, "topic {} in lane {:?}, moves {:?}", info.name, info.lane, ring.moves(id));
        for partition in 0..info.partitions.len() as u8 {
            let mut reader: PartReader = ring.part_reader(TopicPart { topic: id, partition }, 0);
            let mut met = Vec::new();
            loop {
                match ring.read_part(&mut reader) {
                    ReadStep::Frame(frame) => {
                        let of = |e: &headwater::ring::Entry<'_>| e.part == reader.part && e.offset >= reader.offset;
                        let (first, last) = {
                            let mut mine = frame.entries_from(0).filter(of).map(|e| e.offset);
                            let first = mine.next().unwrap();
                            (first, mine.last().unwrap_or(first))
                        };
                        met.push(format!("{first} to {}", last + 1));
                        reader.offset = last + 1;
                    }
                    ReadStep::Gap(gap) => met.push(format!("{:?} to {}", gap.reason, reader.offset)),
                    ReadStep::Wait => assert!(drive(&mut ring, disk, BootTime::default()) > 0),
                    ReadStep::End => break,
                }
            }
            let _ = writeln!(out, "  partition {partition}: {}", met.join(", "));
        }
    }
    for owner in owners() {
        for (key, value) in ring.states(&owner) {
            let (key, value) =
                (String::from_utf8_lossy(&key).into_owned(), String::from_utf8_lossy(&value).into_owned());
            let _ = writeln!(out, "{} {key}: {value}", name(owner.name.as_str()));
        }
    }
    out
}

/// Writes the golden ring and what is read of it.
pub fn write_golden(dir: &Path) {
    let mut disk = populate();
    write(&mut disk, dir);
    std::fs::write(dir.join("in-words.txt"), in_words(&mut disk)).unwrap();
}

fn wanted() -> String {
    std::fs::read_to_string(data(DIR).join("in-words.txt")).unwrap()
}

#[test]
fn an_odd_ring_of_format_1_is_read_as_it_was_when_it_was_written() {
    assert_eq!(in_words(&mut load(&data(DIR))), wanted());
}

#[test]
fn this_version_writes_an_odd_ring_that_reads_the_same() {
    assert_eq!(in_words(&mut populate()), wanted());
}

#[test]
fn an_odd_ring_of_format_1_verifies_and_goes_on() {
    let mut disk = load(&data(DIR));
    let found = headwater::ring::verify::verify(&mut disk, &clear(3), &mut || false, &mut |_, _| {}).unwrap();
    assert!(found.is_good() && found.totals.records_passed > 0, "{found:#?}");
    let mut next = Session::begin(&mut disk, 3);
    next.give(0..3);
    next.settle(&mut disk);
}
