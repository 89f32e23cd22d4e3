//! The device under the ring, and what the ring asks of it.
//!
//! The ring itself does no input or output: it emits [`Command`]s and takes [`Completion`]s. [`execute`] is the one
//! place where a command meets a [`Disk`]; the node's disk threads, the tools and the simulation all use it.

/// A slot file's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SlotId(pub u16);

/// A file of the data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FileId {
    /// `root`: two pages, an untrusted hint.
    Root,
    /// `slot-NNNN`.
    Slot(SlotId),
}

impl std::fmt::Display for FileId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            FileId::Root => f.write_str("root"),
            FileId::Slot(slot) => write!(f, "slot-{:04}", slot.0),
        }
    }
}

/// What kind of failure, so that the ring can decide what to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskErrorKind {
    /// ENOSPC, EDQUOT.
    NoSpace,
    /// EROFS, EACCES, EPERM.
    ReadOnly,
    /// The file or directory is not there.
    NotFound,
    /// What is there is encrypted, under this key among others: it is not here.
    Locked(u32),
    /// EIO and everything else.
    Io,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{op} {file}: {detail}")]
pub struct DiskError {
    pub kind: DiskErrorKind,
    /// `"write"`, `"sync"`, `"read"`, `"create"`, `"list"`, `"remove"`.
    pub op: &'static str,
    pub file: String,
    pub detail: String,
}

/// The device under the ring: files in one directory. Implemented by `node::disk::FileDisk` (real files),
/// [`MemDisk`] (memory mode) and the simulation's crashing disk. Calls block; the node runs them on its disk threads.
pub trait Disk: Send {
    /// Slot files that exist, with their length in bytes.
    fn list(&mut self) -> Result<Vec<(SlotId, u64)>, DiskError>;
    /// Makes (or empties) a file of `bytes`, its blocks allocated; file and directory are synced on return.
    fn create(&mut self, file: FileId, bytes: u64) -> Result<(), DiskError>;
    /// Reads up to `buf.len()` bytes at `at`; fewer only at the end of the file. Retries interrupted and short calls.
    fn read(&mut self, file: FileId, at: u64, buf: &mut [u8]) -> Result<usize, DiskError>;
    /// Writes all of `data` at `at` (inside the file). Retries interrupted and short calls.
    fn write(&mut self, file: FileId, at: u64, data: &[u8]) -> Result<(), DiskError>;
    /// fdatasync.
    fn sync(&mut self, file: FileId) -> Result<(), DiskError>;
    /// Forgets cached pages, so that the next read comes from the device (POSIX_FADV_DONTNEED).
    fn drop_cache(&mut self, file: FileId) -> Result<(), DiskError>;
    /// Unlinks; the directory is synced on return.
    fn remove(&mut self, file: FileId) -> Result<(), DiskError>;
}

/// What the ring wants done. Writes go to the writer thread in order, reads to the reader thread.
/// Every command is answered by one [`Completion`] with its token, in any order between the two threads.
#[derive(Debug)]
pub struct Command {
    pub token: u64,
    pub op: Op,
}

#[derive(Debug)]
pub enum Op {
    /// Create a slot file (`Disk::create`).
    Create { slot: SlotId, bytes: u64 },
    /// Write, then fdatasync when `sync`.
    Write { file: FileId, at: u64, data: Vec<u8>, sync: bool },
    /// Unlink a slot, to lower the cap.
    Remove { slot: SlotId },
    /// Read exactly `len` bytes (fewer at the end of the file) into `buf`, which is resized.
    Read { slot: SlotId, at: u64, len: u32, buf: Vec<u8> },
}

impl Op {
    pub fn is_read(&self) -> bool {
        matches!(self, Op::Read { .. })
    }
}

/// The outcome of one command. `buf` hands a Write's or Read's buffer back (filled by a Read).
#[derive(Debug)]
pub struct Completion {
    pub token: u64,
    pub result: Result<(), DiskError>,
    pub buf: Vec<u8>,
}

/// Runs one command against a disk: the body of both disk threads, and of synchronous tools.
pub fn execute(command: Command, disk: &mut dyn Disk) -> Completion {
    let Command { token, op } = command;
    let (result, buf) = match op {
        Op::Create { slot, bytes } => (disk.create(FileId::Slot(slot), bytes), Vec::new()),
        Op::Remove { slot } => (disk.remove(FileId::Slot(slot)), Vec::new()),
        Op::Write { file, at, data, sync } => {
            let mut result = disk.write(file, at, &data);
            if result.is_ok() && sync {
                result = disk.sync(file);
            }
            (result, data)
        }
        Op::Read { slot, at, len, mut buf } => {
            crate::codec::resize_with_zeros(&mut buf, len as usize);
            let result = disk.read(FileId::Slot(slot), at, &mut buf).map(|n| buf.truncate(n));
            (result, buf)
        }
    };
    Completion { token, result, buf }
}
