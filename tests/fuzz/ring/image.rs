//! Rings to begin with, made by the ring itself: a fresh directory, one commit, a clean end, crashes and what came after,
//! and one that went around.

use std::sync::OnceLock;

use headwater::lane::LaneId;
use headwater::limits::MIN_RING;
use headwater::name::Name;
use headwater::record::RecordRef;
use headwater::ring::{Disk, FileId, LaneOptions, MemDisk, Options, Owner, OwnerKind, Ring, drive};
use headwater::time::{BootTime, ClockSync, Span};
use headwater::topic::{TopicName, TopicPart};

use super::seal;

/// More than a ring of this size takes, so that a directory with files too many has its place.
pub const DISK: u64 = 4 * MIN_RING;

pub fn options() -> Options {
    Options {
        max_bytes: MIN_RING,
        lanes: vec![LaneOptions { name: Name::new("normal").expect("a name"), reserve: 0 }],
        linger: Span::from_millis(20),
        binding: [7; 16],
        boot_id: [3; 16],
        seed: 11,
        keys: Default::default(),
        formats: Default::default(),
    }
}

/// Runs what the ring asks for, and what it asks for after a wait; false when it does not come to rest.
pub fn settle(ring: &mut Ring, disk: &mut MemDisk, now: &mut BootTime) -> bool {
    for _ in 0..64 {
        ring.hurry(*now);
        drive(ring, disk, *now);
        if ring.settled() >= ring.last_ticket() {
            return true;
        }
        *now = *now + Span::from_secs(10);
    }
    false
}

fn owner() -> Owner {
    Owner { kind: OwnerKind::Sink, name: Name::new("hq").expect("a name") }
}

/// Commits of a few records in two topics, with state beside them.
fn fill(ring: &mut Ring, disk: &mut MemDisk, now: &mut BootTime, commits: u64, bytes: usize) {
    for (name, partitions) in [("pump", 1), ("log", 3)] {
        let name = TopicName::new(name).expect("a name");
        ring.open_topic(&name, LaneId(0), partitions).expect("room for topics");
    }
    let topics = ring.topic_ids();
    for commit in 0..commits {
        for n in 0..4u64 {
            let topic = topics[(n % 2) as usize];
            let partition = if n % 2 == 1 { (commit % 3) as u8 } else { 0 };
            // Nothing that compresses well, so that slots fill.
            let mut value = vec![0; bytes];
            let mut x = commit * 31 + n + 1;
            for byte in &mut value {
                x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                *byte = (x >> 56) as u8;
            }
            ring.append(*now, TopicPart { topic, partition }, &RecordRef::of(&value)).expect("room");
        }
        ring.put_state(*now, &owner(), b"cursor", Some(&commit.to_le_bytes())).expect("room for state");
        assert!(settle(ring, disk, now), "an image is written");
        *now = *now + Span::from_millis(100);
    }
}

/// What becomes of the process at the end of a session.
#[derive(Clone, Copy, PartialEq)]
enum End {
    Crash,
    Clean,
}

fn image(sessions: &[(u64, usize, End)]) -> MemDisk {
    let mut disk = MemDisk::new(DISK);
    let mut now = BootTime(1_000_000);
    for (n, (commits, bytes, end)) in sessions.iter().enumerate() {
        let mut options = options();
        options.boot_id[0] = n as u8 / 2;
        let (mut ring, _) = Ring::recover(&mut disk, options).expect("a ring");
        ring.set_clock(now, ClockSync { offset: 1_700_000_000_000_000, trusted: true });
        fill(&mut ring, &mut disk, &mut now, *commits, *bytes);
        if *end == End::Clean {
            ring.close(now);
            assert!(settle(&mut ring, &mut disk, &mut now));
        }
    }
    disk
}

/// All of them, made once.
pub fn images() -> &'static [MemDisk] {
    static IMAGES: OnceLock<Vec<MemDisk>> = OnceLock::new();
    IMAGES.get_or_init(|| {
        vec![
            MemDisk::new(DISK),
            image(&[(1, 40, End::Crash)]),
            image(&[(5, 100, End::Clean)]),
            image(&[(3, 100, End::Crash), (2, 3000, End::Crash), (2, 50, End::Clean)]),
            // Each slot takes about ten of these commits: three slots, then a crash and two more.
            image(&[(35, 6000, End::Crash), (12, 6000, End::Crash)]),
            image(&[(210, 6000, End::Crash), (2, 10, End::Crash)]),
        ]
    })
}

pub fn files(disk: &mut MemDisk) -> Vec<FileId> {
    let slots = disk.list().expect("a list");
    slots.into_iter().map(|(slot, _)| FileId::Slot(slot)).chain([FileId::Root]).collect()
}

/// Sealing what the ring sealed changes nothing: the harness knows the format.
#[allow(dead_code, reason = "a test's, not the fuzzer's")]
pub fn assert_seals() {
    let mut frames = 0;
    for image in images() {
        let (mut image, mut sealed) = (image.clone(), image.clone());
        for file in files(&mut image) {
            let Some(bytes) = sealed.file_mut(file) else { continue };
            if file == FileId::Root {
                bytes.chunks_mut(seal::PAGE).filter(|page| page[..4] == *b"HWrt").for_each(seal::page);
            } else {
                seal::page(bytes);
                for at in seal::frames(bytes) {
                    assert!(seal::is_sound(&bytes[at..]), "{file} at {at}");
                    seal::frame(&mut bytes[at..]);
                    frames += 1;
                }
            }
            assert!(image.file_mut(file) == sealed.file_mut(file), "{file} changed: has the format?");
        }
    }
    assert!(frames > 200, "{frames}");
}
