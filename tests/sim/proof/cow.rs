//! A disk whose images cost next to nothing: files are tables of shared pages, and a copy of the disk shares them all.
//!
//! The crash model is that of [`crate::disk`]: a write lands in the cache, a sync brings it to the device, a process
//! crash keeps the one, a power cut the other; of what was not synced each 512-byte sector is old, new, zero or garbage;
//! a directory entry that was not synced may vanish. Every page carries its hash, so that an image has one as well.

use std::collections::BTreeMap;
use std::sync::Arc;

use headwater::backoff::Rng;
use headwater::limits::PAGE;
use headwater::ring::{Disk, DiskError, DiskErrorKind, FileId, SlotId};
use twox_hash::XxHash3_64;

use crate::disk::SECTOR;

const PAGE_SECTORS: usize = PAGE / SECTOR;

struct Page {
    bytes: [u8; PAGE],
    hash: u64,
}

impl Page {
    fn new(bytes: [u8; PAGE]) -> Arc<Self> {
        Arc::new(Self { hash: XxHash3_64::oneshot(&bytes), bytes })
    }
}

/// What the device has of a page whose newest bytes are only in the cache.
#[derive(Clone)]
struct Unsynced {
    device: Arc<Page>,
    /// Sectors that the next sync writes.
    dirty: u8,
    /// Sectors that a failed sync has marked clean.
    forgotten: u8,
}

#[derive(Clone)]
struct File {
    cache: Arc<Vec<Arc<Page>>>,
    /// Of the pages' hashes, each with its place.
    sum: u64,
    unsynced: BTreeMap<u32, Unsynced>,
    /// Its directory entry is on the device.
    linked: bool,
}

fn mix(at: usize, hash: u64) -> u64 {
    (hash ^ (at as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xff51_afd7_ed55_8ccd).rotate_left(29)
}

impl File {
    fn new(bytes: u64, blank: &Arc<Page>, linked: bool) -> Self {
        let cache = vec![blank.clone(); bytes as usize / PAGE];
        let sum = (0..cache.len()).fold(0u64, |sum, at| sum.wrapping_add(mix(at, blank.hash)));
        Self { cache: Arc::new(cache), sum, unsynced: BTreeMap::new(), linked }
    }

    fn bytes(&self) -> u64 {
        (self.cache.len() * PAGE) as u64
    }

    /// Puts a page into the cache.
    fn set(&mut self, at: usize, page: Arc<Page>) {
        let place = &mut Arc::make_mut(&mut self.cache)[at];
        self.sum = self.sum.wrapping_sub(mix(at, place.hash)).wrapping_add(mix(at, page.hash));
        *place = page;
    }

    /// Writes `data` at `at`, both whole sectors.
    fn put(&mut self, at: usize, data: &[u8]) {
        let (mut at, mut data) = (at, data);
        while !data.is_empty() {
            let (page, from) = (at / PAGE, at % PAGE);
            let n = data.len().min(PAGE - from);
            let old = self.cache[page].clone();
            let mut bytes = old.bytes;
            bytes[from..from + n].copy_from_slice(&data[..n]);
            let unsynced = self.unsynced.entry(page as u32).or_insert(Unsynced { device: old, dirty: 0, forgotten: 0 });
            for sector in from / SECTOR..(from + n).div_ceil(SECTOR) {
                unsynced.dirty |= 1 << sector;
                unsynced.forgotten &= !(1 << sector);
            }
            self.set(page, Page::new(bytes));
            (at, data) = (at + n, &data[n..]);
        }
    }

    /// Brings what is dirty of a page to the device.
    fn flush(&mut self, page: u32) {
        let Some(mut unsynced) = self.unsynced.remove(&page) else { return };
        let new = &self.cache[page as usize];
        if unsynced.forgotten == 0 {
            return;
        }
        let mut bytes = unsynced.device.bytes;
        for sector in (0..PAGE_SECTORS).filter(|s| unsynced.dirty >> s & 1 == 1) {
            let span = sector * SECTOR..(sector + 1) * SECTOR;
            bytes[span.clone()].copy_from_slice(&new.bytes[span]);
        }
        (unsynced.device, unsynced.dirty) = (Page::new(bytes), 0);
        self.unsynced.insert(page, unsynced);
    }

    /// The cache forgets what it need not write: of what a failed sync left there, the device's bytes show.
    fn drop_clean(&mut self) {
        let pages: Vec<u32> = self.unsynced.iter().filter(|(_, u)| u.forgotten != 0).map(|(page, _)| *page).collect();
        for page in pages {
            let Some(mut unsynced) = self.unsynced.remove(&page) else { continue };
            let mut bytes = unsynced.device.bytes;
            for sector in (0..PAGE_SECTORS).filter(|s| unsynced.dirty >> s & 1 == 1) {
                let span = sector * SECTOR..(sector + 1) * SECTOR;
                bytes[span.clone()].copy_from_slice(&self.cache[page as usize].bytes[span]);
            }
            self.set(page as usize, Page::new(bytes));
            unsynced.forgotten = 0;
            if unsynced.dirty != 0 {
                self.unsynced.insert(page, unsynced);
            }
        }
    }

    fn power_cut(&mut self, luck: Luck, rng: &mut Rng) {
        for (page, unsynced) in std::mem::take(&mut self.unsynced) {
            let new = self.cache[page as usize].clone();
            let after = match luck {
                Luck::Nothing => unsynced.device,
                Luck::Pages if rng.below(2) == 0 => unsynced.device,
                Luck::Everything | Luck::Pages if unsynced.forgotten == 0 => continue,
                Luck::Everything | Luck::Pages | Luck::Mixed => {
                    let mut bytes = unsynced.device.bytes;
                    for sector in (0..PAGE_SECTORS).filter(|s| unsynced.dirty >> s & 1 == 1) {
                        let span = sector * SECTOR..(sector + 1) * SECTOR;
                        let fate = if luck == Luck::Mixed { rng.below(12) } else { 0 };
                        match fate {
                            0..6 => bytes[span.clone()].copy_from_slice(&new.bytes[span]),
                            6..10 => {} // the old bytes
                            10 => bytes[span].fill(0),
                            _ => garbage(&mut bytes[span], rng),
                        }
                    }
                    Page::new(bytes)
                }
            };
            self.set(page as usize, after);
        }
    }
}

pub fn garbage(bytes: &mut [u8], rng: &mut Rng) {
    for chunk in bytes.chunks_mut(8) {
        chunk.copy_from_slice(&rng.next_u64().to_le_bytes()[..chunk.len()]);
    }
}

/// What of the unsynced sectors reaches the device when the power goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Luck {
    Nothing,
    Everything,
    /// Each by itself: old, new, zero or garbage.
    Mixed,
    /// Pages as a whole, in any order: old or new.
    Pages,
}

/// A bug of the disk, put in on purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Trick {
    #[default]
    None,
    /// Every third sync does nothing.
    SyncLeftOut,
    /// Every third write is carried out behind the sync that should cover it.
    WriteBehindSync,
    /// A new file's directory entry is not synced.
    EntryNotSynced,
    /// A sync brings all but the last sector of each page.
    SectorLeftOut,
}

#[derive(Clone)]
pub struct CowDisk {
    files: BTreeMap<FileId, File>,
    blank: Arc<Page>,
    trick: Trick,
    tricks: u32,
    /// Pages that wait for the sync after the next.
    behind: Vec<(FileId, u32)>,
}

impl CowDisk {
    pub fn new(trick: Trick) -> Self {
        Self { files: BTreeMap::new(), blank: Page::new([0; PAGE]), trick, tricks: 0, behind: Vec::new() }
    }

    /// Of all that the next recovery can find, whatever happens to it on the way.
    pub fn hash(&self) -> u64 {
        let mut sum = 0u64;
        for (id, file) in &self.files {
            let id = match id {
                FileId::Root => usize::from(u16::MAX) + 1,
                FileId::Slot(slot) => usize::from(slot.0),
            };
            let mut all = mix(file.cache.len() * 2 + usize::from(file.linked), file.sum);
            for (page, unsynced) in &file.unsynced {
                let marks = usize::from(unsynced.dirty) << 8 | usize::from(unsynced.forgotten);
                all = all.wrapping_add(mix((*page as usize) << 16 | marks, unsynced.device.hash.rotate_left(7)));
            }
            sum = sum.wrapping_add(mix(id, all));
        }
        sum
    }

    /// Nothing is in the cache alone, no directory entry either.
    pub fn is_settled(&self) -> bool {
        self.files.values().all(|f| f.unsynced.is_empty() && f.linked)
    }

    /// Sum of the lengths of all files.
    pub fn bytes(&self) -> u64 {
        self.files.values().map(File::bytes).sum()
    }

    pub fn power_cut(&mut self, luck: Luck, rng: &mut Rng) {
        self.files.retain(|_, f| f.linked || luck == Luck::Everything || luck != Luck::Nothing && rng.below(2) == 0);
        for file in self.files.values_mut() {
            file.power_cut(luck, rng);
            file.linked = true;
        }
        self.behind.clear();
    }

    /// A half-made file.
    pub fn half_create(&mut self, file: FileId, bytes: u64, rng: &mut Rng) {
        let made = rng.below(bytes / PAGE as u64 + 1) * PAGE as u64;
        self.files.insert(file, File::new(made, &self.blank, false));
    }

    /// The first sectors of a write, fewer than all.
    pub fn half_write(&mut self, file: FileId, at: u64, data: &[u8], rng: &mut Rng) {
        let sectors = rng.below((data.len() / SECTOR) as u64) as usize;
        if let Some(f) = self.files.get_mut(&file)
            && at as usize + sectors * SECTOR <= f.cache.len() * PAGE
        {
            f.put(at as usize, &data[..sectors * SECTOR]);
        }
    }

    /// Some of what is dirty reaches the device; all of it is marked clean.
    pub fn fail_sync(&mut self, file: FileId, rng: &mut Rng) {
        let Some(f) = self.files.get_mut(&file) else { return };
        let luck = rng.below(4);
        let pages: Vec<u32> = f.unsynced.keys().copied().collect();
        for page in pages {
            if rng.below(4) < luck {
                f.flush(page);
            } else if let Some(unsynced) = f.unsynced.get_mut(&page) {
                unsynced.forgotten |= std::mem::take(&mut unsynced.dirty);
            }
        }
    }

    /// Changes bytes of cache and device alike, as rot does. They must not wait for a sync.
    pub fn change(&mut self, file: FileId, at: u64, change: impl FnOnce(&mut [u8; PAGE])) {
        let Some(f) = self.files.get_mut(&file) else { return };
        let page = at as usize / PAGE;
        let mut bytes = f.cache[page].bytes;
        change(&mut bytes);
        f.set(page, Page::new(bytes));
    }

    fn file(&mut self, file: FileId, op: &'static str) -> Result<&mut File, DiskError> {
        self.files.get_mut(&file).ok_or_else(|| error(DiskErrorKind::NotFound, op, file))
    }

    /// Whether the planted bug acts now.
    fn acts(&mut self, trick: Trick) -> bool {
        self.tricks += u32::from(self.trick == trick);
        self.trick == trick && self.tricks.is_multiple_of(3)
    }
}

pub fn error(kind: DiskErrorKind, op: &'static str, file: FileId) -> DiskError {
    DiskError { kind, op, file: file.to_string(), detail: format!("simulated {kind:?}") }
}

impl Disk for CowDisk {
    fn list(&mut self) -> Result<Vec<(SlotId, u64)>, DiskError> {
        self.files.values_mut().for_each(|f| f.linked = true);
        let slots = self.files.iter().filter_map(|(id, f)| match id {
            FileId::Slot(slot) => Some((*slot, f.bytes())),
            FileId::Root => None,
        });
        Ok(slots.collect())
    }

    fn create(&mut self, file: FileId, bytes: u64) -> Result<(), DiskError> {
        let linked = self.trick != Trick::EntryNotSynced;
        self.files.insert(file, File::new(bytes, &self.blank, linked));
        Ok(())
    }

    fn read(&mut self, file: FileId, at: u64, buf: &mut [u8]) -> Result<usize, DiskError> {
        let f = self.file(file, "read")?;
        let (mut at, mut done) = (at as usize, 0);
        while done < buf.len() {
            let (Some(page), from) = (f.cache.get(at / PAGE), at % PAGE) else { break };
            let n = (buf.len() - done).min(PAGE - from);
            buf[done..done + n].copy_from_slice(&page.bytes[from..from + n]);
            (at, done) = (at + n, done + n);
        }
        Ok(done)
    }

    fn write(&mut self, file: FileId, at: u64, data: &[u8]) -> Result<(), DiskError> {
        let behind = self.acts(Trick::WriteBehindSync);
        let blank = self.blank.clone();
        let f = self.file(file, "write")?;
        let end = at as usize + data.len();
        if end > f.cache.len() * PAGE {
            // A file that a failed creation left short.
            let mut longer = File::new(end.next_multiple_of(PAGE) as u64, &blank, f.linked);
            (0..f.cache.len()).for_each(|at| longer.set(at, f.cache[at].clone()));
            longer.unsynced = std::mem::take(&mut f.unsynced);
            *f = longer;
        }
        f.put(at as usize, data);
        if behind {
            self.behind.extend((at as usize / PAGE..end.div_ceil(PAGE)).map(|page| (file, page as u32)));
        }
        Ok(())
    }

    fn sync(&mut self, file: FileId) -> Result<(), DiskError> {
        let left_out = self.acts(Trick::SyncLeftOut);
        let all_but_last = self.acts(Trick::SectorLeftOut);
        let late: Vec<_> = self.behind.extract_if(.., |(f, _)| *f == file).map(|(_, page)| page).collect();
        let f = self.file(file, "sync")?;
        let pages: Vec<u32> = f.unsynced.keys().copied().filter(|page| !left_out && !late.contains(page)).collect();
        for page in pages {
            if all_but_last && let Some(unsynced) = f.unsynced.get_mut(&page) {
                unsynced.dirty &= 0x7f;
                unsynced.forgotten |= 0x80;
            }
            f.flush(page);
        }
        Ok(())
    }

    fn drop_cache(&mut self, file: FileId) -> Result<(), DiskError> {
        self.file(file, "drop")?.drop_clean();
        Ok(())
    }

    fn remove(&mut self, file: FileId) -> Result<(), DiskError> {
        self.files.remove(&file).map(|_| ()).ok_or_else(|| error(DiskErrorKind::NotFound, "remove", file))
    }
}

/// One call that changes a disk.
#[derive(Clone, Copy, Debug)]
pub struct Did {
    pub op: &'static str,
    pub file: FileId,
    pub at: u64,
    pub len: u64,
}

impl std::fmt::Display for Did {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {}+{}", self.op, self.file, self.at, self.len)
    }
}

/// Where a machine may stop: before a call, and half-way through it.
pub struct Cut {
    pub did: Did,
    pub before: CowDisk,
    pub half: Option<CowDisk>,
}

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Nothing of it happens.
    Plain,
    /// A write or a creation gets half-way; a failed sync leaves pages that are marked clean and lost.
    Half,
}

/// Calls that fail, by their number.
#[derive(Clone, Debug)]
pub struct Fault {
    pub calls: std::ops::Range<u64>,
    pub kind: DiskErrorKind,
    pub manner: Manner,
}

/// Counts the calls, notes each that changes the disk, and fails those that are to fail.
pub struct Recorder {
    pub disk: CowDisk,
    pub cuts: Vec<Cut>,
    pub calls: u64,
    pub fault: Option<Fault>,
    /// Calls that failed.
    pub failed: u64,
    rng: Rng,
    on: bool,
}

impl Recorder {
    pub fn new(disk: CowDisk, seed: u64, on: bool) -> Self {
        Self { disk, cuts: Vec::new(), calls: 0, fault: None, failed: 0, rng: Rng::new(seed), on }
    }

    /// Says how the call fails, if it does.
    fn enter(&mut self) -> Option<(DiskErrorKind, Manner)> {
        self.calls += 1;
        let fault = self.fault.as_ref().filter(|f| f.calls.contains(&(self.calls - 1)))?;
        self.failed += 1;
        Some((fault.kind, fault.manner))
    }

    fn note(&mut self, did: Did, half: impl FnOnce(&mut CowDisk, &mut Rng) -> bool) {
        if !self.on {
            return;
        }
        let mut part = self.disk.clone();
        let half = half(&mut part, &mut self.rng).then_some(part);
        self.cuts.push(Cut { did, before: self.disk.clone(), half });
    }
}

impl Disk for Recorder {
    fn list(&mut self) -> Result<Vec<(SlotId, u64)>, DiskError> {
        match self.enter() {
            Some((kind, _)) => Err(error(kind, "list", FileId::Root)),
            None => self.disk.list(),
        }
    }

    fn read(&mut self, file: FileId, at: u64, buf: &mut [u8]) -> Result<usize, DiskError> {
        match self.enter() {
            Some((kind, _)) => Err(error(kind, "read", file)),
            None => self.disk.read(file, at, buf),
        }
    }

    fn create(&mut self, file: FileId, bytes: u64) -> Result<(), DiskError> {
        self.note(Did { op: "create", file, at: 0, len: bytes }, |part, rng| {
            part.half_create(file, bytes, rng);
            true
        });
        let Some((kind, manner)) = self.enter() else { return self.disk.create(file, bytes) };
        if manner == Manner::Half {
            self.disk.half_create(file, bytes, &mut self.rng);
        }
        Err(error(kind, "create", file))
    }

    fn write(&mut self, file: FileId, at: u64, data: &[u8]) -> Result<(), DiskError> {
        self.note(Did { op: "write", file, at, len: data.len() as u64 }, |part, rng| {
            part.half_write(file, at, data, rng);
            true
        });
        let Some((kind, manner)) = self.enter() else { return self.disk.write(file, at, data) };
        if manner == Manner::Half {
            self.disk.half_write(file, at, data, &mut self.rng);
        }
        Err(error(kind, "write", file))
    }

    fn sync(&mut self, file: FileId) -> Result<(), DiskError> {
        self.note(Did { op: "sync", file, at: 0, len: 0 }, |_, _| false);
        let Some((kind, manner)) = self.enter() else { return self.disk.sync(file) };
        if manner == Manner::Half {
            self.disk.fail_sync(file, &mut self.rng);
        }
        Err(error(kind, "sync", file))
    }

    fn drop_cache(&mut self, file: FileId) -> Result<(), DiskError> {
        self.note(Did { op: "drop_cache", file, at: 0, len: 0 }, |_, _| false);
        match self.enter() {
            Some((kind, _)) => Err(error(kind, "drop_cache", file)),
            None => self.disk.drop_cache(file),
        }
    }

    fn remove(&mut self, file: FileId) -> Result<(), DiskError> {
        self.note(Did { op: "remove", file, at: 0, len: 0 }, |_, _| false);
        match self.enter() {
            Some((kind, _)) => Err(error(kind, "remove", file)),
            None => self.disk.remove(file),
        }
    }
}
