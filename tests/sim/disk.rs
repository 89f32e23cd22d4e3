//! A disk that crashes: [`SimDisk`] implements [`Disk`] in memory, with a page cache over a device, split at
//! 512-byte sectors, and fails as told.
//!
//! What it models:
//! - a write lands in the cache; only a sync (or luck) brings it to the device;
//! - a **process crash** keeps the cache, a **power cut** keeps the device: of the unsynced sectors any subset got
//!   there, in any order, and the rest is old, zero or garbage; damage may take the other sectors of a page that was
//!   being written, never those of other pages;
//! - a **failed sync** brings a subset to the device and marks every page clean: a later sync succeeds and writes
//!   nothing of it, the cache goes on showing data that the device never got, until it is dropped;
//! - a crash may come inside any call, which then has happened in part; a half-made file may be listed and vanish
//!   with the next power cut, unless the directory is synced first (which `list`, `create` and `remove` do);
//! - EIO, ENOSPC, EROFS at any call, once or for a while; **bit rot** of what was durable.
//!
//! It does not model torn sectors, nor a device that lies about a sync (that is one of the planted bugs).

use std::collections::BTreeMap;

use headwater::backoff::Rng;
use headwater::ring::{Disk, DiskError, DiskErrorKind, FileId, SlotId};

use crate::fault::{Fault, Tape};

pub const SECTOR: usize = 512;
const PAGE_SECTORS: usize = 8;

/// Which call of [`Disk`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    List,
    Create,
    Read,
    Write,
    Sync,
    Remove,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The process dies: the page cache survives.
    Process,
    /// The power is cut: only the device survives.
    Power,
}

/// An error that waits for its call.
#[derive(Clone, Copy, Debug)]
pub struct Armed {
    pub on: Call,
    /// Calls of this kind that still go well.
    pub after: u32,
    pub kind: DiskErrorKind,
    /// How many calls then fail.
    pub times: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    /// Cache and device agree.
    Clean,
    /// Only in the cache; the next sync writes it.
    Dirty,
    /// Only in the cache; the kernel thinks it clean after a failed sync.
    Forgotten,
}

#[derive(Clone, Debug)]
struct SimFile {
    device: Vec<u8>,
    cache: Vec<u8>,
    marks: Vec<Mark>,
    /// Sectors that are not `Clean`, once each.
    unclean: Vec<usize>,
    /// Its directory entry is on the device.
    linked: bool,
}

impl SimFile {
    fn new(bytes: u64, linked: bool) -> Self {
        let len = bytes as usize;
        let sectors = len.div_ceil(SECTOR);
        Self {
            device: vec![0; len],
            cache: vec![0; len],
            marks: vec![Mark::Clean; sectors],
            unclean: Vec::new(),
            linked,
        }
    }

    fn span(&self, sector: usize) -> std::ops::Range<usize> {
        sector * SECTOR..((sector + 1) * SECTOR).min(self.cache.len())
    }

    fn grow(&mut self, len: usize) {
        if len > self.cache.len() {
            self.cache.resize(len, 0);
            self.device.resize(len, 0);
            self.marks.resize(len.div_ceil(SECTOR), Mark::Clean);
        }
    }

    fn put(&mut self, at: usize, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        self.cache[at..at + data.len()].copy_from_slice(data);
        for sector in at / SECTOR..=(at + data.len() - 1) / SECTOR {
            if self.marks[sector] == Mark::Clean {
                self.unclean.push(sector);
            }
            self.marks[sector] = Mark::Dirty;
        }
    }

    fn flush_sector(&mut self, sector: usize) {
        let span = self.span(sector);
        self.device[span.clone()].copy_from_slice(&self.cache[span]);
        self.marks[sector] = Mark::Clean;
    }

    fn forget_sector(&mut self, sector: usize) {
        let span = self.span(sector);
        self.cache[span.clone()].copy_from_slice(&self.device[span]);
        self.marks[sector] = Mark::Clean;
    }

    fn sync(&mut self) {
        for sector in std::mem::take(&mut self.unclean) {
            if self.marks[sector] == Mark::Dirty {
                self.flush_sector(sector);
            } else {
                self.unclean.push(sector);
            }
        }
    }

    /// A subset reaches the device; all is marked clean.
    fn fail_sync(&mut self, rng: &mut Rng) {
        let luck = rng.below(4);
        for sector in std::mem::take(&mut self.unclean) {
            if self.marks[sector] == Mark::Dirty && rng.below(4) < luck {
                self.flush_sector(sector);
            } else {
                self.marks[sector] = Mark::Forgotten;
                self.unclean.push(sector);
            }
        }
    }

    fn drop_clean(&mut self) {
        for sector in std::mem::take(&mut self.unclean) {
            if self.marks[sector] == Mark::Forgotten {
                self.forget_sector(sector);
            } else {
                self.unclean.push(sector);
            }
        }
    }

    fn power_cut(&mut self, rng: &mut Rng) {
        // Whole cuts are as likely as scattered ones: nothing arrived, everything did, or any mixture.
        let style = rng.below(4);
        let mut burnt: Vec<usize> = Vec::new();
        for sector in std::mem::take(&mut self.unclean) {
            if self.marks[sector] == Mark::Forgotten {
                self.forget_sector(sector);
                continue;
            }
            let arrives = match style {
                0 => false,
                1 => true,
                2 => rng.below(2) == 0,
                _ => rng.below(8) != 0,
            };
            if arrives {
                self.flush_sector(sector);
                continue;
            }
            self.forget_sector(sector);
            match rng.below(6) {
                0 => self.device_fill(sector, None),
                1 => self.device_fill(sector, Some(rng.next_u64())),
                2 if rng.below(8) == 0 => burnt.push(sector / PAGE_SECTORS),
                _ => {}
            }
        }
        for page in burnt {
            for sector in page * PAGE_SECTORS..((page + 1) * PAGE_SECTORS).min(self.marks.len()) {
                self.device_fill(sector, Some(rng.next_u64()));
            }
        }
    }

    /// Fills a sector of device and cache with zeros or seeded garbage.
    fn device_fill(&mut self, sector: usize, garbage: Option<u64>) {
        let span = self.span(sector);
        match garbage {
            None => self.device[span.clone()].fill(0),
            Some(seed) => {
                let mut rng = Rng::new(seed);
                for chunk in self.device[span.clone()].chunks_mut(8) {
                    chunk.copy_from_slice(&rng.next_u64().to_le_bytes()[..chunk.len()]);
                }
            }
        }
        let (device, cache) = (&self.device, &mut self.cache);
        cache[span.clone()].copy_from_slice(&device[span]);
    }
}

/// How a boundary is broken on purpose, to show that the checker finds it. See `planted`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lie {
    #[default]
    None,
    /// fdatasync is left out.
    SyncLeftOut,
    /// A failed sync is taken for a good one.
    SyncErrorSwallowed,
    /// A failed write is taken for a good one.
    WriteErrorSwallowed,
    /// The directory is not synced after a file was made.
    DirectoryNotSynced,
    /// A short write is not continued: the last sector is missing.
    ShortWrite,
    /// Writes land a page too far.
    Misdirected,
}

pub struct SimDisk {
    files: BTreeMap<FileId, SimFile>,
    rng: Rng,
    armed: Vec<Armed>,
    /// Calls until the crash, and which.
    fuse: Option<(u32, Crash)>,
    /// Died inside a call; everything fails until `crash` is called.
    dead: Option<Crash>,
    pub lie: Lie,
    pub tape: Tape,
    pub calls: u64,
    failed_reads: Vec<(FileId, u64, u64)>,
}

impl SimDisk {
    pub fn new(seed: u64) -> Self {
        Self {
            files: BTreeMap::new(),
            rng: Rng::new(seed),
            armed: Vec::new(),
            fuse: None,
            dead: None,
            lie: Lie::None,
            tape: Tape::default(),
            calls: 0,
            failed_reads: Vec::new(),
        }
    }

    /// Sum of the lengths of all files.
    pub fn bytes(&self) -> u64 {
        self.files.values().map(|f| f.cache.len() as u64).sum()
    }

    pub fn arm(&mut self, fault: Armed) {
        self.armed.push(fault);
    }

    /// No more errors, no fuse.
    pub fn calm(&mut self) {
        self.armed.clear();
        self.fuse = None;
    }

    pub fn light_fuse(&mut self, calls: u32, crash: Crash) {
        self.fuse = Some((calls, crash));
    }

    pub fn dead(&self) -> Option<Crash> {
        self.dead
    }

    /// The crash happens (now, or has happened inside a call); the disk is there again afterwards.
    pub fn crash(&mut self, crash: Crash) {
        self.calm();
        self.dead = None;
        match crash {
            Crash::Process => self.tape.hit(Fault::ProcessCrash),
            Crash::Power => {
                self.tape.hit(Fault::PowerCut);
                let mut vanished = false;
                self.files.retain(|_, f| {
                    vanished |= !f.linked;
                    f.linked
                });
                if vanished {
                    self.tape.hit(Fault::UnsyncedEntryVanished);
                }
                let rng = &mut self.rng;
                for file in self.files.values_mut() {
                    file.power_cut(rng);
                }
            }
        }
    }

    /// The kernel takes clean pages away; what a failed sync left only in the cache is gone.
    pub fn evict_cache(&mut self) {
        self.tape.hit(Fault::CacheEvicted);
        for file in self.files.values_mut() {
            file.drop_clean();
        }
    }

    /// Places that could not be read since the last call.
    pub fn take_failed_reads(&mut self) -> Vec<(FileId, u64, u64)> {
        std::mem::take(&mut self.failed_reads)
    }

    /// Bit rot of durable data: a flipped bit, or a sector of zeros or garbage, inside `[at, at + len)`. Returns the
    /// bytes that changed.
    pub fn rot(&mut self, file: FileId, at: u64, len: u64) -> Option<std::ops::Range<u64>> {
        let rng = &mut self.rng;
        let f = self.files.get_mut(&file)?;
        let size = f.cache.len() as u64;
        if at >= size || len == 0 {
            return None;
        }
        let place = at + rng.below(len.min(size - at));
        let sector = place as usize / SECTOR;
        if f.marks[sector] != Mark::Clean {
            return None; // only what the device has can rot
        }
        let range = match rng.below(3) {
            0 => {
                let flip = 1u8 << rng.below(8);
                f.device[place as usize] ^= flip;
                f.cache[place as usize] ^= flip;
                place..place + 1
            }
            1 => {
                f.device_fill(sector, None);
                (sector * SECTOR) as u64..((sector + 1) * SECTOR) as u64
            }
            _ => {
                let seed = rng.next_u64();
                f.device_fill(sector, Some(seed));
                (sector * SECTOR) as u64..((sector + 1) * SECTOR) as u64
            }
        };
        self.tape.hit(if file == FileId::Root { Fault::RootRot } else { Fault::BitRot });
        Some(range)
    }

    fn error(kind: DiskErrorKind, op: &'static str, file: &str) -> DiskError {
        DiskError { kind, op, file: file.into(), detail: format!("simulated {kind:?}") }
    }

    /// Decides about one call. `Ok(true)`: the call crashes the machine and happens in part.
    fn enter(&mut self, op: &'static str, file: &str) -> Result<bool, DiskError> {
        if self.dead.is_some() {
            return Err(Self::error(DiskErrorKind::Io, op, file));
        }
        self.calls += 1;
        if let Some((left, crash)) = self.fuse {
            if left == 0 {
                self.fuse = None;
                self.dead = Some(crash);
                self.tape.hit(Fault::CrashInsideCall);
                return Ok(true);
            }
            self.fuse = Some((left - 1, crash));
        }
        Ok(false)
    }

    fn armed_error(&mut self, call: Call) -> Option<DiskErrorKind> {
        let armed = self.armed.iter_mut().find(|a| a.on == call)?;
        if armed.after > 0 {
            armed.after -= 1;
            return None;
        }
        let kind = armed.kind;
        armed.times -= 1;
        self.armed.retain(|a| a.times > 0);
        self.tape.hit(Fault::of_error(call, kind));
        Some(kind)
    }

    fn file(&mut self, id: FileId, op: &'static str) -> Result<&mut SimFile, DiskError> {
        self.files.get_mut(&id).ok_or_else(|| Self::error(DiskErrorKind::NotFound, op, &name(id)))
    }
}

fn name(file: FileId) -> String {
    match file {
        FileId::Root => "root".into(),
        FileId::Slot(SlotId(n)) => format!("slot-{n:04}"),
    }
}

impl Disk for SimDisk {
    fn list(&mut self) -> Result<Vec<(SlotId, u64)>, DiskError> {
        let died = self.enter("list", ".")?;
        if died {
            return Err(Self::error(DiskErrorKind::Io, "list", "."));
        }
        if let Some(kind) = self.armed_error(Call::List) {
            return Err(Self::error(kind, "list", "."));
        }
        for file in self.files.values_mut() {
            file.linked = true;
        }
        let slots = self.files.iter().filter_map(|(id, f)| match id {
            FileId::Slot(slot) => Some((*slot, f.cache.len() as u64)),
            FileId::Root => None,
        });
        Ok(slots.collect())
    }

    fn create(&mut self, file: FileId, bytes: u64) -> Result<(), DiskError> {
        let died = self.enter("create", &name(file))?;
        let failed = self.armed_error(Call::Create);
        if died || failed.is_some() {
            // It may be there or not, and as long as it got.
            let part = match self.rng.below(4) {
                0 => None,
                1 => Some(0),
                2 => Some(self.rng.below(bytes / 4096 + 1) * 4096),
                _ => Some(bytes),
            };
            if let Some(len) = part {
                self.files.insert(file, SimFile::new(len, false));
            }
            return Err(Self::error(failed.unwrap_or(DiskErrorKind::Io), "create", &name(file)));
        }
        let linked = self.lie != Lie::DirectoryNotSynced;
        if linked {
            for other in self.files.values_mut() {
                other.linked = true;
            }
        }
        self.files.insert(file, SimFile::new(bytes, linked));
        Ok(())
    }

    fn read(&mut self, file: FileId, at: u64, buf: &mut [u8]) -> Result<usize, DiskError> {
        if self.enter("read", &name(file))? {
            return Err(Self::error(DiskErrorKind::Io, "read", &name(file)));
        }
        if let Some(kind) = self.armed_error(Call::Read) {
            self.failed_reads.push((file, at, at + buf.len() as u64));
            return Err(Self::error(kind, "read", &name(file)));
        }
        let f = self.file(file, "read")?;
        let at = (at as usize).min(f.cache.len());
        let n = buf.len().min(f.cache.len() - at);
        buf[..n].copy_from_slice(&f.cache[at..at + n]);
        Ok(n)
    }

    fn write(&mut self, file: FileId, at: u64, data: &[u8]) -> Result<(), DiskError> {
        let died = self.enter("write", &name(file))?;
        let failed = self.armed_error(Call::Write);
        let part = self.rng.below(data.len() as u64 / SECTOR as u64 + 1) as usize * SECTOR;
        let lie = self.lie;
        let f = self.file(file, "write")?;
        f.grow(at as usize + data.len()); // a file that a failed `create` left short
        if died || failed.is_some() {
            f.put(at as usize, &data[..part]);
            if !died && lie == Lie::WriteErrorSwallowed {
                return Ok(());
            }
            return Err(Self::error(failed.unwrap_or(DiskErrorKind::Io), "write", &name(file)));
        }
        match lie {
            Lie::ShortWrite if data.len() > SECTOR => f.put(at as usize, &data[..data.len() - SECTOR]),
            Lie::Misdirected if at as usize + data.len() + 4096 <= f.cache.len() && at.is_multiple_of(16384) => {
                f.put(at as usize + 4096, data);
            }
            _ => f.put(at as usize, data),
        }
        Ok(())
    }

    fn sync(&mut self, file: FileId) -> Result<(), DiskError> {
        let died = self.enter("sync", &name(file))?;
        let failed = self.armed_error(Call::Sync);
        let lie = self.lie;
        let rng_seed = self.rng.next_u64();
        let f = self.file(file, "sync")?;
        if died {
            return Err(Self::error(DiskErrorKind::Io, "sync", &name(file)));
        }
        if let Some(kind) = failed {
            f.fail_sync(&mut Rng::new(rng_seed));
            if lie == Lie::SyncErrorSwallowed {
                return Ok(());
            }
            return Err(Self::error(kind, "sync", &name(file)));
        }
        if lie != Lie::SyncLeftOut {
            f.sync();
        }
        Ok(())
    }

    fn drop_cache(&mut self, file: FileId) -> Result<(), DiskError> {
        if self.dead.is_some() {
            return Err(Self::error(DiskErrorKind::Io, "drop", &name(file)));
        }
        self.file(file, "drop")?.drop_clean();
        Ok(())
    }

    fn remove(&mut self, file: FileId) -> Result<(), DiskError> {
        let died = self.enter("remove", &name(file))?;
        let failed = self.armed_error(Call::Remove);
        if died || failed.is_some() {
            if self.rng.below(2) == 0 {
                self.files.remove(&file);
            }
            return Err(Self::error(failed.unwrap_or(DiskErrorKind::Io), "remove", &name(file)));
        }
        if self.files.remove(&file).is_none() {
            return Err(Self::error(DiskErrorKind::NotFound, "remove", &name(file)));
        }
        for other in self.files.values_mut() {
            other.linked = true;
        }
        Ok(())
    }
}
