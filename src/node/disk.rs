//! The ring's device as files of one directory, and the two threads that touch it.
//!
//! The writer does pwrite and fdatasync, the reader pread: a card can stall for seconds in a sync, and a backlog read must
//! not wait behind it. The loop never waits for either thread: commands go by a bounded queue (what does not fit is kept
//! by the loop, which then asks the ring for nothing more), completions come back by another.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};

use rustix::fs::{Advice, FallocateFlags, fadvise, fallocate, fdatasync, fstat};
use rustix::io::Errno;
use tokio::sync::mpsc;

use super::beat::{Beat, Beating};
use super::whole::{self, again};
use crate::ring::{Command, Completion, Disk, DiskError, DiskErrorKind, FileId, MemDisk, SlotId, execute};

/// Files kept open by each thread; the ring writes one slot and reads a few.
const OPEN_FILES: usize = 8;
/// Commands that wait for one thread.
const QUEUE: usize = 64;

/// Slot files and `root` in one directory.
#[derive(Debug)]
pub struct FileDisk {
    dir: PathBuf,
    /// Bytes of the file system that are not ours to take; a reload may change it.
    keep_free: Arc<AtomicU64>,
    open: VecDeque<(FileId, File)>,
    /// The directory as it was at first: device and inode.
    home: Option<(u64, u64)>,
}

impl FileDisk {
    /// Opens nothing yet.
    pub fn new(dir: &Path, keep_free: u64) -> Self {
        Self::sharing(dir, Arc::new(AtomicU64::new(keep_free)))
    }

    /// As `new`, with a `keep_free` that others may change.
    pub fn sharing(dir: &Path, keep_free: Arc<AtomicU64>) -> Self {
        let home = again(|| std::fs::metadata(dir)).ok().map(|found| (found.dev(), found.ino()));
        Self { dir: dir.to_owned(), keep_free, open: VecDeque::new(), home }
    }

    fn path(&self, file: FileId) -> PathBuf {
        match file {
            FileId::Root => self.dir.join("root"),
            FileId::Slot(SlotId(n)) => self.dir.join(format!("slot-{n:04}")),
        }
    }

    fn error(&self, op: &'static str, file: FileId, error: &std::io::Error) -> DiskError {
        DiskError { kind: kind(error), op, file: self.path(file).display().to_string(), detail: error.to_string() }
    }

    fn file(&mut self, op: &'static str, file: FileId) -> Result<&File, DiskError> {
        if let Some(at) = self.open.iter().position(|(id, _)| *id == file) {
            if let Some(hit) = self.open.remove(at) {
                self.open.push_front(hit);
            }
        } else {
            let path = self.path(file);
            // A stopped node's ring is read by people who may not write it.
            let opened = OpenOptions::new().read(true).write(true).open(&path).or_else(|e| match kind(&e) {
                DiskErrorKind::ReadOnly if matches!(op, "read" | "drop cache") => File::open(&path),
                _ => Err(e),
            });
            let opened = opened.map_err(|e| self.error(op, file, &e))?;
            self.open.truncate(OPEN_FILES - 1);
            self.open.push_front((file, opened));
        }
        Ok(&self.open[0].1)
    }

    /// The directory must be the one that was locked: files made in another that stands there now would be nobody's.
    fn check_home(&mut self) -> std::io::Result<()> {
        let found = again(|| std::fs::metadata(&self.dir))?;
        let found = (found.dev(), found.ino());
        if *self.home.get_or_insert(found) == found {
            return Ok(());
        }
        Err(std::io::Error::new(std::io::ErrorKind::NotFound, "another directory stands there now; restart the node"))
    }

    fn slots(&self) -> std::io::Result<Vec<(SlotId, u64)>> {
        let mut slots = Vec::new();
        for entry in again(|| std::fs::read_dir(&self.dir))? {
            let entry = entry?;
            let name = entry.file_name();
            let number = name.to_str().and_then(|n| n.strip_prefix("slot-")).filter(|n| n.len() >= 4);
            if let Some(slot) = number.and_then(|n| n.parse().ok()) {
                slots.push((SlotId(slot), again(|| entry.metadata())?.len()));
            }
        }
        slots.sort_unstable();
        Ok(slots)
    }

    fn sync_dir(&self) -> std::io::Result<()> {
        File::open(&self.dir)?.sync_all()
    }

    fn make(&self, path: &Path, bytes: u64) -> std::io::Result<File> {
        let free = super::identity::free_bytes(&self.dir)?;
        let left = self.keep_free.load(Ordering::Relaxed);
        if free < bytes.saturating_add(left) {
            let text = format!("{free} bytes are free and `keep_free` leaves {left} of them alone");
            return Err(std::io::Error::new(std::io::ErrorKind::StorageFull, text));
        }
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o640).open(path)?;
        match again(|| fallocate(&file, FallocateFlags::empty(), 0, bytes)) {
            Ok(()) => {}
            Err(e) => match Errno::from_io_error(&e) {
                // File systems without it: blocks are taken by writing them.
                Some(Errno::OPNOTSUPP | Errno::NOSYS) => zero(&file, bytes)?,
                _ => return Err(e),
            },
        }
        file.sync_all()?;
        self.sync_dir()?;
        Ok(file)
    }
}

fn zero(file: &File, bytes: u64) -> std::io::Result<()> {
    let zeros = [0u8; 64 * 1024];
    let mut at = 0;
    while at < bytes {
        let n = (bytes - at).min(zeros.len() as u64) as usize;
        whole::write(&zeros[..n], |rest, done| file.write_at(rest, at + done))?;
        at += n as u64;
    }
    Ok(())
}

fn kind(error: &std::io::Error) -> DiskErrorKind {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => DiskErrorKind::NoSpace,
        ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied => DiskErrorKind::ReadOnly,
        ErrorKind::NotFound | ErrorKind::NotADirectory => DiskErrorKind::NotFound,
        _ => DiskErrorKind::Io,
    }
}

impl Disk for FileDisk {
    fn list(&mut self) -> Result<Vec<(SlotId, u64)>, DiskError> {
        // An iterator over a directory ends where it is interrupted.
        again(|| self.slots()).map_err(|e| DiskError {
            kind: kind(&e),
            op: "list",
            file: self.dir.display().to_string(),
            detail: e.to_string(),
        })
    }

    fn create(&mut self, file: FileId, bytes: u64) -> Result<(), DiskError> {
        self.open.retain(|(id, _)| *id != file);
        self.check_home().map_err(|e| self.error("create", file, &e))?;
        self.make(&self.path(file), bytes).map_err(|e| self.error("create", file, &e))?;
        Ok(())
    }

    fn read(&mut self, file: FileId, at: u64, buf: &mut [u8]) -> Result<usize, DiskError> {
        let opened = self.file("read", file)?;
        let read = whole::read(buf, |rest, done| opened.read_at(rest, at + done));
        read.map_err(|e| self.error("read", file, &e))
    }

    fn write(&mut self, file: FileId, at: u64, data: &[u8]) -> Result<(), DiskError> {
        let opened = self.file("write", file)?;
        let written = whole::write(data, |rest, done| opened.write_at(rest, at + done));
        written.map_err(|e| self.error("write", file, &e))
    }

    fn sync(&mut self, file: FileId) -> Result<(), DiskError> {
        let opened = self.file("sync", file)?;
        let synced = again(|| fdatasync(opened));
        match synced.and_then(|()| again(|| fstat(opened))) {
            // A file that was unlinked takes everything and gives it to nobody.
            Ok(stat) if stat.st_nlink == 0 => {
                self.open.retain(|(id, _)| *id != file);
                let gone = std::io::Error::new(std::io::ErrorKind::NotFound, "the file was removed while the node ran");
                Err(self.error("sync", file, &gone))
            }
            done => done.map(drop).map_err(|e| self.error("sync", file, &e)),
        }
    }

    fn drop_cache(&mut self, file: FileId) -> Result<(), DiskError> {
        let opened = self.file("drop cache", file)?;
        let advised = again(|| fadvise(opened, 0, None, Advice::DontNeed));
        advised.map_err(|e| self.error("drop cache", file, &e))
    }

    fn remove(&mut self, file: FileId) -> Result<(), DiskError> {
        self.open.retain(|(id, _)| *id != file);
        let removed = again(|| std::fs::remove_file(self.path(file))).and_then(|()| self.sync_dir());
        removed.map_err(|e| self.error("remove", file, &e))
    }
}

/// One disk for both threads: memory mode.
#[derive(Clone, Debug)]
pub struct SharedMemDisk(Arc<Mutex<MemDisk>>);

impl SharedMemDisk {
    pub fn new(bytes: u64) -> Self {
        Self(Arc::new(Mutex::new(MemDisk::new(bytes))))
    }

    fn with<T>(&self, f: impl FnOnce(&mut MemDisk) -> T) -> T {
        // A poisoned lock still guards plain bytes under checksums.
        f(&mut self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

impl Disk for SharedMemDisk {
    fn list(&mut self) -> Result<Vec<(SlotId, u64)>, DiskError> {
        self.with(Disk::list)
    }
    fn create(&mut self, file: FileId, bytes: u64) -> Result<(), DiskError> {
        self.with(|d| d.create(file, bytes))
    }
    fn read(&mut self, file: FileId, at: u64, buf: &mut [u8]) -> Result<usize, DiskError> {
        self.with(|d| d.read(file, at, buf))
    }
    fn write(&mut self, file: FileId, at: u64, data: &[u8]) -> Result<(), DiskError> {
        self.with(|d| d.write(file, at, data))
    }
    fn sync(&mut self, file: FileId) -> Result<(), DiskError> {
        self.with(|d| d.sync(file))
    }
    fn drop_cache(&mut self, file: FileId) -> Result<(), DiskError> {
        self.with(|d| d.drop_cache(file))
    }
    fn remove(&mut self, file: FileId) -> Result<(), DiskError> {
        self.with(|d| d.remove(file))
    }
}

/// The loop's ends of the two threads. Dropping it ends them after what they have begun.
pub struct Threads {
    writer: SyncSender<Command>,
    reader: SyncSender<Command>,
    /// Did not fit its queue; nothing more is asked of the ring while it waits.
    held: Option<Command>,
    handles: Vec<std::thread::JoinHandle<()>>,
    /// Of the writer and of the reader.
    beats: [Arc<Beat>; 2],
}

pub type Completions = mpsc::Receiver<Completion>;

impl Threads {
    /// Starts both on disks of their own; completions come by the receiver.
    pub fn start(writer: Box<dyn Disk>, reader: Box<dyn Disk>) -> std::io::Result<(Self, Completions)> {
        let (done, completions) = mpsc::channel(2 * QUEUE);
        let beats = [Arc::new(Beat::default()), Arc::new(Beat::default())];
        let (writer, to_writer) = thread("hw-writer", writer, done.clone(), beats[0].clone())?;
        let (reader, to_reader) = thread("hw-reader", reader, done, beats[1].clone())?;
        let handles = vec![writer, reader];
        Ok((Self { writer: to_writer, reader: to_reader, held: None, handles, beats }, completions))
    }

    /// What each is at.
    pub fn beats(&self) -> [(&'static str, Arc<Beat>); 2] {
        [("writer", self.beats[0].clone()), ("reader", self.beats[1].clone())]
    }

    /// Whether another command may be sent.
    pub fn ready(&mut self) -> bool {
        match self.held.take() {
            Some(command) => self.send(command),
            None => true,
        }
    }

    /// Hands a command over; false when it has to wait here.
    pub fn send(&mut self, command: Command) -> bool {
        let (queue, beat) =
            if command.op.is_read() { (&self.reader, &self.beats[1]) } else { (&self.writer, &self.beats[0]) };
        match queue.try_send(command) {
            Ok(()) => {
                beat.give();
                true
            }
            Err(TrySendError::Full(command) | TrySendError::Disconnected(command)) => {
                self.held = Some(command);
                false
            }
        }
    }

    /// Ends both threads after what they were given, and waits for neither: one may hang in a disk that fails.
    pub fn let_go(self) -> Vec<std::thread::JoinHandle<()>> {
        self.handles
    }

    /// Ends both threads after what they were given, and waits for them.
    pub fn join(self) {
        drop((self.writer, self.reader));
        for handle in self.handles {
            // A thread that panicked has said so.
            let _ = handle.join();
        }
    }
}

type Started = (std::thread::JoinHandle<()>, SyncSender<Command>);

fn thread(
    name: &str,
    disk: Box<dyn Disk>,
    done: mpsc::Sender<Completion>,
    beat: Arc<Beat>,
) -> std::io::Result<Started> {
    let mut disk = Beating::new(disk, beat.clone());
    let (sender, commands): (_, Receiver<Command>) = sync_channel(QUEUE);
    // zstd and frames live on the heap; these threads only pass buffers to the kernel.
    let builder = std::thread::Builder::new().name(name.into()).stack_size(128 * 1024);
    let handle = builder.spawn(move || {
        while let Ok(command) = commands.recv() {
            beat.turn();
            if done.blocking_send(execute(command, &mut disk)).is_err() {
                break;
            }
            beat.done();
        }
    })?;
    Ok((handle, sender))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_created_slot_has_its_blocks_and_is_listed() {
        let dir = tempfile::tempdir().unwrap();
        let mut disk = FileDisk::new(dir.path(), 0);
        disk.create(FileId::Slot(SlotId(7)), 256 * 1024).unwrap();
        assert_eq!(disk.list().unwrap(), [(SlotId(7), 256 * 1024)]);
        let meta = std::fs::metadata(dir.path().join("slot-0007")).unwrap();
        assert!(std::os::unix::fs::MetadataExt::blocks(&meta) * 512 >= 256 * 1024);
    }

    #[test]
    fn what_is_written_is_read_and_the_end_of_the_file_is_short() {
        let dir = tempfile::tempdir().unwrap();
        let mut disk = FileDisk::new(dir.path(), 0);
        let file = FileId::Slot(SlotId(0));
        disk.create(file, 8192).unwrap();
        disk.write(file, 4096, b"hello").unwrap();
        disk.sync(file).unwrap();
        disk.drop_cache(file).unwrap();
        let mut buf = [0; 5000];
        assert_eq!(disk.read(file, 4096, &mut buf).unwrap(), 4096);
        assert_eq!(&buf[..5], b"hello");
    }

    #[test]
    fn keep_free_refuses_a_slot_as_no_space() {
        let dir = tempfile::tempdir().unwrap();
        let mut disk = FileDisk::new(dir.path(), u64::MAX / 2);
        let error = disk.create(FileId::Slot(SlotId(0)), 8192).unwrap_err();
        assert_eq!(error.kind, DiskErrorKind::NoSpace);
        assert!(disk.list().unwrap().is_empty());
    }

    #[test]
    fn a_missing_directory_is_not_found() {
        let mut disk = FileDisk::new(Path::new("/nonexistent/headwater"), 0);
        assert_eq!(disk.list().unwrap_err().kind, DiskErrorKind::NotFound);
    }
}
