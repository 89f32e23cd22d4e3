//! A disk in memory: memory mode, and tests.
//!
//! It holds at most the bytes it was made with and loses everything with the process; nothing else is simulated here
//! (crashes and faults are the simulation's).

use std::collections::BTreeMap;

use super::{Disk, DiskError, DiskErrorKind, FileId, SlotId};

/// A disk in memory. `bytes` bounds what it will hold.
#[derive(Clone, Debug, Default)]
pub struct MemDisk {
    limit: u64,
    files: BTreeMap<FileId, Vec<u8>>,
}

impl MemDisk {
    pub fn new(bytes: u64) -> Self {
        Self { limit: bytes, files: BTreeMap::new() }
    }

    /// The bytes of a file, for tests that look at or damage them.
    pub fn file_mut(&mut self, file: FileId) -> Option<&mut Vec<u8>> {
        self.files.get_mut(&file)
    }

    fn file(&mut self, file: FileId, op: &'static str) -> Result<&mut Vec<u8>, DiskError> {
        self.files.get_mut(&file).ok_or_else(|| error(DiskErrorKind::NotFound, op, file, "no such file"))
    }
}

fn error(kind: DiskErrorKind, op: &'static str, file: FileId, detail: &str) -> DiskError {
    DiskError { kind, op, file: file.to_string(), detail: detail.into() }
}

impl Disk for MemDisk {
    fn list(&mut self) -> Result<Vec<(SlotId, u64)>, DiskError> {
        let slots = self.files.iter().filter_map(|(file, bytes)| match file {
            FileId::Slot(slot) => Some((*slot, bytes.len() as u64)),
            FileId::Root => None,
        });
        Ok(slots.collect())
    }

    fn create(&mut self, file: FileId, bytes: u64) -> Result<(), DiskError> {
        let others: u64 = self.files.iter().filter(|(f, _)| **f != file).map(|(_, b)| b.len() as u64).sum();
        if others + bytes > self.limit {
            return Err(error(DiskErrorKind::NoSpace, "create", file, "memory for the ring is used up"));
        }
        self.files.insert(file, vec![0; bytes as usize]);
        Ok(())
    }

    fn read(&mut self, file: FileId, at: u64, buf: &mut [u8]) -> Result<usize, DiskError> {
        let bytes = self.file(file, "read")?;
        let from = usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
        let n = buf.len().min(bytes.len() - from);
        buf[..n].copy_from_slice(&bytes[from..from + n]);
        Ok(n)
    }

    fn write(&mut self, file: FileId, at: u64, data: &[u8]) -> Result<(), DiskError> {
        let bytes = self.file(file, "write")?;
        let end = usize::try_from(at).ok().and_then(|at| at.checked_add(data.len()));
        match end.filter(|end| *end <= bytes.len()) {
            Some(end) => bytes[end - data.len()..end].copy_from_slice(data),
            None => return Err(error(DiskErrorKind::Io, "write", file, "beyond the end of the file")),
        }
        Ok(())
    }

    fn sync(&mut self, file: FileId) -> Result<(), DiskError> {
        self.file(file, "sync").map(|_| ())
    }

    fn drop_cache(&mut self, _file: FileId) -> Result<(), DiskError> {
        Ok(())
    }

    fn remove(&mut self, file: FileId) -> Result<(), DiskError> {
        let gone = self.files.remove(&file);
        gone.map(|_| ()).ok_or_else(|| error(DiskErrorKind::NotFound, "remove", file, "no such file"))
    }
}
