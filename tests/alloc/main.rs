//! Allocations on the way of a record into the ring, counted; and what rules hold, by the byte ([`rules`]).
//!
//! The allocator of this program counts what the thread under test asks of it: `alloc` and growing `realloc`, all sizes. The
//! ring is driven in that thread against a disk in memory, so that a count has no other source: append, seal, compress,
//! place, write, complete. Between two slots there is nothing to find. Opening one makes a snapshot of all state, which
//! allocates a few times, whatever the number of records in a slot: counted apart, and bounded. What is not counted: what the
//! C part of zstd allocates, once for a context that is used again; a first lap, in which slots are made and buffers grow.

mod rules;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

use headwater::lane::LaneId;
use headwater::limits::MIN_RING;
use headwater::name::Name;
use headwater::record::RecordRef;
use headwater::ring::{FileId, Key, Keys, LaneOptions, MemDisk, Op, Options, Ring, execute};
use headwater::rules::sql::{Input, Outcome, Query, Scratch};
use headwater::time::{BootTime, Span};
use headwater::topic::{TopicName, TopicPart};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    /// Bytes that this thread holds: what it was given less what it gave back.
    static HELD: Cell<i64> = const { Cell::new(0) };
}

fn hold(bytes: i64) {
    HELD.with(|n| n.set(n.get() + bytes));
}

struct Counting;

#[allow(unsafe_code, reason = "the trait is unsafe; everything is handed to the system's allocator as it came")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|n| n.set(n.get() + 1));
        hold(layout.size() as i64);
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|n| n.set(n.get() + 1));
        hold(layout.size() as i64);
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.with(|n| n.set(n.get() + 1));
        hold(size as i64 - layout.size() as i64);
        unsafe { System.realloc(place, layout, size) }
    }
    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        hold(-(layout.size() as i64));
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn counted<T>(work: impl FnOnce() -> T) -> (T, u64) {
    let before = ALLOCATIONS.get();
    let done = work();
    (done, ALLOCATIONS.get() - before)
}

/// As `counted`, of the bytes that are held when it is done beside those that were held before.
fn held<T>(work: impl FnOnce() -> T) -> (T, i64) {
    let before = HELD.get();
    let done = work();
    (done, HELD.get() - before)
}

/// A ring of the smallest size over memory, with topics in two lanes.
struct Site {
    ring: Ring,
    disk: MemDisk,
    parts: Vec<TopicPart>,
    now: i64,
    sent: u64,
}

impl Site {
    fn new(keys: Keys) -> Self {
        let lanes = ["urgent", "normal"].map(|name| LaneOptions { name: Name::new(name).unwrap(), reserve: 0 });
        let options = Options {
            max_bytes: MIN_RING,
            lanes: lanes.into(),
            linger: Span::from_millis(100),
            binding: [1; 16],
            boot_id: [2; 16],
            seed: 3,
            keys,
            formats: Default::default(),
        };
        let mut disk = MemDisk::new(MIN_RING);
        let (mut ring, _) = Ring::recover(&mut disk, options).unwrap();
        let topic = |(n, name): (usize, &str)| {
            let topic = ring.open_topic(&TopicName::new(name).unwrap(), LaneId(n as u8 % 2), 2).unwrap();
            [0, 1].map(|partition| TopicPart { topic, partition })
        };
        let parts = ["alarm", "telemetry", "door", "log"].into_iter().enumerate().flat_map(topic).collect();
        Self { ring, disk, parts, now: 1_000_000, sent: 0 }
    }

    /// One record of 100 bytes, of one of `parts` topics, unlike the one before.
    fn append(&mut self, parts: usize) {
        let mut value = *b"{\"id\":00000000,\"t\":\"2026-01-01T00:00:00Z\",\"v\":17.25,\"state\":\"running\",\"unit\":\"bar\",\"site\":\"pump-west7\"}";
        let mut n = self.sent;
        for digit in value[6..14].iter_mut().rev() {
            *digit = b'0' + (n % 10) as u8;
            n /= 10;
        }
        let part = self.parts[(self.sent as usize * 7) % parts];
        let record = RecordRef { admitted: BootTime(self.now), ..RecordRef::of(&value) };
        self.ring.append(BootTime(self.now), part, &record).unwrap();
        self.sent += 1;
        self.now += 50;
    }

    /// Has the disk do what it is asked for; whether a slot was opened.
    fn drive(&mut self) -> bool {
        let mut opened = false;
        while let Some(command) = self.ring.poll(BootTime(self.now)) {
            opened |= matches!(command.op, Op::Write { file: FileId::Slot(_), at: 0, .. });
            let done = execute(command, &mut self.disk);
            self.ring.complete(BootTime(self.now), done);
        }
        // The sinks are where the ring is.
        for lane in [LaneId(0), LaneId(1)] {
            self.ring.set_floor(lane, Some(self.ring.lane_durable(lane)));
        }
        opened
    }

    /// Records, the disk doing what it is asked for after every `every`; hurried: somebody waits for each.
    fn run(&mut self, records: u64, parts: usize, every: u64, hurried: bool) -> Counts {
        let mut counts = Counts::default();
        for n in 0..records {
            counts.append += counted(|| self.append(parts)).1;
            if n % every == every - 1 {
                if hurried {
                    self.ring.hurry(BootTime(self.now));
                }
                let (opened, count) = counted(|| self.drive());
                if opened {
                    counts.slots += 1;
                    counts.opening += count;
                } else {
                    counts.commit += count;
                }
            }
        }
        counts
    }
}

/// Allocations, by what they were made for.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    append: u64,
    commit: u64,
    /// While a slot was opened as well.
    opening: u64,
    slots: u64,
}

fn keys() -> Keys {
    let drawn = AtomicU64::new(0);
    let nonces = move || {
        let mut nonce = [0; 24];
        nonce[..8].copy_from_slice(&drawn.fetch_add(1, Ordering::Relaxed).to_le_bytes());
        nonce
    };
    Keys::writing(Key::new([1; 32]), Vec::new(), Box::new(nonces))
}

#[test]
fn the_counter_counts() {
    let (kept, count) = counted(|| vec![1u8; 100]);
    assert_eq!((kept.len(), count), (100, 1));
}

#[test]
fn a_sql_rule_allocates_nothing_once_its_buffers_are_there() {
    let labels = std::collections::BTreeMap::new();
    let context = headwater::template::Context { node: "n", topic: "t", source: "s", labels: &labels };
    let value = br#"{"ts":1700000000000,"device":"boiler-7","celsius":41.5,"state":"running"}"#;
    let input = Input { context: &context, record: RecordRef::of(value), admitted: None };
    for (text, made) in [
        ("SELECT * FROM t WHERE celsius > 30 AND device LIKE 'boiler-%'", Outcome::Same),
        ("SELECT * FROM t WHERE celsius BETWEEN 50 AND 60 OR state IN ('off', 'down')", Outcome::Dropped),
        ("SELECT device, celsius * 1.8 + 32 AS f, ts / 1000 AS s FROM t WHERE state <> 'off'", Outcome::Value),
        ("SELECT *, coalesce(limit_, 40) - celsius AS left_ FROM t", Outcome::Value),
    ] {
        let (query, mut scratch, mut out) = (Query::compile(text).unwrap(), Scratch::default(), Vec::new());
        let mut apply = || {
            out.clear();
            query.apply(&input, &mut scratch, &mut out).unwrap()
        };
        assert_eq!(apply(), made, "{text}");
        let (_, count) = counted(|| (0..1000).for_each(|_| assert_eq!(apply(), made)));
        assert_eq!(count, 0, "{text}");
    }
}

#[test]
fn appending_sealing_and_committing_allocate_nothing_once_all_buffers_are_there() {
    for (what, parts, every, hurried, encrypted) in [
        ("full frames of one topic", 1, 100, false, false),
        ("full frames of one topic, encrypted", 1, 100, false, true),
        ("full frames of eight partitions in two lanes", 8, 100, false, false),
        ("a commit for every ten records", 8, 10, true, false),
        ("a commit for every record", 1, 1, true, false),
        ("a commit for every record, encrypted", 1, 1, true, true),
    ] {
        let mut site = Site::new(if encrypted { keys() } else { Keys::default() });
        // More than once around the ring.
        let records = if every == 1 { 6_000 } else { 1_000_000 };
        site.run(records, parts, every, hurried);
        let before = site.ring.stats();
        let counts = site.run(records, parts, every, hurried);
        let stats = site.ring.stats();
        println!("{what}: {records} records, {} commits, {counts:?}", stats.commits - before.commits);
        assert_eq!((counts.append, counts.commit), (0, 0), "{what}: {counts:?}");
        assert!(counts.slots >= 8 && counts.opening <= 64 * counts.slots, "{what}: {counts:?}");
        site.ring.seal_all();
        let stats = site.ring.stats();
        assert_eq!(stats.lanes.iter().map(|lane| lane.admitted).sum::<u64>(), site.sent, "all of it was taken");
    }
}
