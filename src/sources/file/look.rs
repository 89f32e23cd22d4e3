//! Files as they are found: by what they are told apart, and what is read of them.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::checkpoint::{ANCHOR_WINDOW, Checkpoint, FileId, Look, PRINT_BYTES, Print, Verdict, hash_of};

/// What tells that nothing happened to a file since.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    pub size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    pub fn of(meta: &Metadata) -> Self {
        Self {
            size: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }
}

/// One byte source for the framer: a file from a place on.
pub struct From<'a> {
    pub file: &'a File,
    pub at: u64,
}

impl embedded_io::ErrorType for From<'_> {
    type Error = io::Error;
}

impl embedded_io::Read for From<'_> {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, io::Error> {
        loop {
            match self.file.read_at(buf, self.at) {
                Ok(n) => {
                    self.at += n as u64;
                    return Ok(n);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }
}

pub fn id_of(meta: &Metadata) -> FileId {
    FileId { device: meta.dev(), inode: meta.ino() }
}

/// Opened without waiting, so that a pipe that took a file's place cannot hold the node up.
pub fn open(path: &Path) -> io::Result<File> {
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
    std::fs::OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(path)
}

/// Fills `buf` from a place on, as far as there are bytes; gives how many.
fn read_full(file: &File, buf: &mut [u8], at: u64) -> io::Result<usize> {
    let mut n = 0;
    while n < buf.len() {
        match file.read_at(&mut buf[n..], at + n as u64) {
            Ok(0) => break,
            Ok(more) => n += more,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(n)
}

pub fn head_of(file: &File) -> io::Result<([u8; PRINT_BYTES], usize)> {
    let mut head = [0; PRINT_BYTES];
    let n = read_full(file, &mut head, 0)?;
    Ok((head, n))
}

/// What an anchor at this place has to say.
pub fn hash_before(file: &File, place: u64) -> io::Result<u32> {
    let mut window = [0; ANCHOR_WINDOW];
    let len = place.min(ANCHOR_WINDOW as u64);
    let n = read_full(file, &mut window[..len as usize], place - len)?;
    Ok(hash_of(&window[..n]))
}

/// The regular files in these directories.
pub fn standing_in(dirs: Vec<PathBuf>) -> impl Iterator<Item = (FileId, PathBuf)> {
    let entries = dirs.into_iter().filter_map(|dir| std::fs::read_dir(dir).ok()).flatten().flatten();
    entries.filter_map(|entry| {
        let meta = std::fs::metadata(entry.path()).ok().filter(Metadata::is_file)?;
        Some((id_of(&meta), entry.path()))
    })
}

/// What the file under this name is to a checkpoint.
pub fn judged(point: &Checkpoint, path: &Path, boot: u32) -> io::Result<Verdict> {
    let file = open(path)?;
    let (size, (head, n)) = (file.metadata()?.size(), head_of(&file)?);
    point.judge(&Look { boot, size, head: &head[..n] }, &mut |place| hash_before(&file, place))
}

/// Where a file begins that is read from its end: a line that is under way belongs to what came before.
pub fn at_end(path: &Path) -> Checkpoint {
    let Ok(file) = open(path) else { return Checkpoint::default() };
    let (Ok(meta), Ok((head, n))) = (file.metadata(), head_of(&file)) else { return Checkpoint::default() };
    let mut last = [b'\n'];
    if meta.size() > 0 {
        let _ = file.read_at(&mut last, meta.size() - 1);
    }
    let print = Print::of(&head[..n], meta.size());
    Checkpoint::at(meta.size(), print, last != [b'\n'])
}
