//! What a recovery reads, counted.

use std::collections::BTreeMap;

use super::tests::options;
use super::*;
use crate::backoff::Rng;
use crate::limits::MIN_RING;
use crate::name::Name;
use crate::record::RecordRef;
use crate::time::BootTime;
use crate::topic::{TopicName, TopicPart};

const SECOND: i64 = 1_000_000;
const LANES: [&str; 4] = ["urgent", "normal", "bulk", "idle"];

/// How the write is cut at which the power goes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Tear {
    Before,
    FirstPage,
    Half,
    TornPage,
    ButFirstPage,
}

const TEARS: [Tear; 5] = [Tear::Before, Tear::FirstPage, Tear::Half, Tear::TornPage, Tear::ButFirstPage];

impl Tear {
    fn write(self, disk: &mut MemDisk, file: FileId, at: u64, data: &[u8]) {
        let (from, to) = match self {
            Tear::Before => (0, 0),
            Tear::FirstPage => (0, PAGE),
            Tear::Half => (0, data.len() / 2),
            Tear::TornPage => (0, 512),
            Tear::ButFirstPage => (PAGE, data.len()),
        };
        let (from, to) = (from.min(data.len()), to.min(data.len()));
        disk.write(file, at + from as u64, &data[from..to]).unwrap();
    }
}

/// Sees a write, and what it is made to, before it is made.
type Cut<'a> = dyn FnMut(&MemDisk, FileId, u64, &[u8]) + Send + 'a;

/// A disk of which each write may be the last, and which counts what is read.
struct Counted<'a> {
    disk: MemDisk,
    pages: Pages,
    cut: Option<Box<Cut<'a>>>,
}

impl Disk for Counted<'_> {
    fn list(&mut self) -> Result<Vec<(SlotId, u64)>, DiskError> {
        self.disk.list()
    }
    fn create(&mut self, file: FileId, bytes: u64) -> Result<(), DiskError> {
        self.disk.create(file, bytes)
    }
    fn read(&mut self, file: FileId, at: u64, buf: &mut [u8]) -> Result<usize, DiskError> {
        let n = self.disk.read(file, at, buf)?;
        if let FileId::Slot(slot) = file {
            let pages = self.pages.entry(slot).or_default();
            let (page, end) = (PAGE as u64, at + n as u64);
            (at / page..end.div_ceil(page)).for_each(|page| *pages.entry(page).or_default() += 1);
        }
        Ok(n)
    }
    fn write(&mut self, file: FileId, at: u64, data: &[u8]) -> Result<(), DiskError> {
        if let Some(cut) = &mut self.cut {
            cut(&self.disk, file, at, data);
        }
        self.disk.write(file, at, data)
    }
    fn sync(&mut self, file: FileId) -> Result<(), DiskError> {
        self.disk.sync(file)
    }
    fn drop_cache(&mut self, file: FileId) -> Result<(), DiskError> {
        self.disk.drop_cache(file)
    }
    fn remove(&mut self, file: FileId) -> Result<(), DiskError> {
        self.disk.remove(file)
    }
}

fn four_lanes(max_bytes: u64) -> Options {
    let lane = |name| LaneOptions { name: Name::new(name).unwrap(), reserve: 0 };
    Options { max_bytes, lanes: LANES.map(lane).into(), ..options() }
}

/// How often each page of each slot was read.
type Pages = BTreeMap<SlotId, BTreeMap<u64, u32>>;

/// The ring that comes out of a disk, and what was read for it.
fn recovered(disk: MemDisk, max_bytes: u64) -> (Ring, Report, Pages) {
    let mut counted = Counted { disk, pages: BTreeMap::new(), cut: None };
    let (ring, report) = Ring::recover(&mut counted, four_lanes(max_bytes)).unwrap();
    assert_eq!(report.corrupt_records, 0, "{report:?}");
    (ring, report, counted.pages)
}

/// The most that was read, in pages: of a slot beyond its header, of all of them, of one page; of how many slots, and how
/// many of these are neither a lane's newest nor the journal's.
#[derive(Debug, Default)]
struct Most {
    slot: u32,
    all: u32,
    page: u32,
    walked: usize,
    strange: usize,
}

impl Most {
    /// `begun`: the power went while a slot was begun, whose header or snapshot may be torn.
    fn judge(&mut self, ring: &Ring, pages: &Pages, begun: bool, what: &str) {
        assert!(ring.slots.existing.iter().eq(pages.keys()), "{what}: the headers of all slots");
        let newest: Vec<SlotId> = ring.lanes.iter().filter_map(|l| Some(l.log.slots.back()?.id)).collect();
        let journal: Vec<SlotId> = ring.journal.slots.iter().map(|s| s.id).collect();
        let slot_pages = ring.slots.slot_bytes / PAGE as u32;
        let (mut all, mut walked, mut strange) = (0, 0, 0);
        for (id, pages) in pages {
            let beyond: u32 = pages.range(1..).map(|(_, times)| times).sum();
            let times = pages.values().max().copied().unwrap_or(0);
            if beyond > 0 {
                walked += 1;
                let known = newest.contains(id) || journal.contains(id);
                // It was opened in vain: what it was opened for never came, or its beginning is torn.
                strange += usize::from(!known);
            }
            let most = if begun { 4 } else { 2 };
            assert!(beyond <= most * slot_pages, "{what}: {beyond} pages of {id:?}, which has {slot_pages}");
            assert!(begun || times <= 3, "{what}: a page of {id:?} {times} times");
            (self.slot, self.page, all) = (self.slot.max(beyond), self.page.max(times), all + beyond);
        }
        assert!(
            strange <= if begun { 2 } else { 1 } && journal.len() <= 4,
            "{what}: {strange} beside lanes' newest and the journal's"
        );
        (self.all, self.walked) = (self.all.max(all), self.walked.max(walked));
        self.strange = self.strange.max(strange);
    }
}

/// With its reason in the module's text, *What recovery reads*.
#[test]
fn a_recovery_without_a_hint_reads_all_headers_the_newest_slot_of_each_lane_the_journal_and_none_of_it_twice_over() {
    for max_bytes in [MIN_RING, 8 * MIN_RING] {
        let (mut writes, mut cuts) = (0u64, 0u32);
        let (mut quiet, mut beginning) = (Most::default(), Most::default());
        let cut = |disk: &MemDisk, file: FileId, at: u64, data: &[u8]| {
            writes += 1;
            let begun = at == 0 && file != FileId::Root;
            if !(writes.is_multiple_of(97 * max_bytes / MIN_RING) || begun && writes.is_multiple_of(3)) {
                return;
            }
            for tear in TEARS {
                let mut disk = disk.clone();
                tear.write(&mut disk, file, at, data);
                let hinted = (tear == Tear::Half).then(|| recovered(disk.clone(), max_bytes).2);
                let _ = disk.remove(FileId::Root);
                let (ring, report, pages) = recovered(disk, max_bytes);
                assert!(hinted.is_none_or(|hinted| hinted == pages), "the hint is not what it goes by");
                let most = if begun { &mut beginning } else { &mut quiet };
                if !report.fresh {
                    most.judge(&ring, &pages, begun, &format!("{tear:?} at write {writes}: {:?}", report.notes));
                    cuts += 1;
                }
            }
        };
        let disk = MemDisk::new(max_bytes);
        let mut counted = Counted { disk, pages: BTreeMap::new(), cut: Some(Box::new(cut)) };
        laps(&mut counted, max_bytes);
        drop(counted);
        assert!(cuts > 200 && quiet.walked >= 5, "{cuts} {quiet:?}");
        println!("{cuts} cuts: {quiet:?}; where a slot is begun {beginning:?}");
    }
}

/// Three laps around a ring: small commits and large ones in three of its lanes.
fn laps(disk: &mut Counted<'_>, max_bytes: u64) {
    let (mut ring, _) = Ring::recover(disk, four_lanes(max_bytes)).unwrap();
    let mut topic = |n: u8| ring.open_topic(&TopicName::new(LANES[usize::from(n)]).unwrap(), LaneId(n), 1).unwrap();
    let topics: Vec<_> = (0..3).map(&mut topic).collect();
    let (mut rng, mut now) = (Rng::new(3), BootTime(SECOND));
    let (mut written, mut n) = (0, 0u64);
    while written < 3 * max_bytes {
        n += 1;
        // By turns nothing but small ones, and large ones among them.
        let len = if n % 4000 < 1500 || n % 7 > 0 { 120 } else { 30_000 };
        let value: Vec<u8> = (0..len).map(|_| rng.next_u64() as u8).collect();
        written += len.max(PAGE) as u64;
        let lane = if n.is_multiple_of(5) { 2 } else { (n % 2) as usize };
        now = BootTime(now.0 + SECOND);
        ring.append(now, TopicPart { topic: topics[lane], partition: 0 }, &RecordRef::of(&value)).unwrap();
        ring.hurry(now);
        drive(&mut ring, disk, now);
    }
}
