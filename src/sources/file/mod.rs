//! `file`: the lines of files that grow, are rotated, emptied and removed under the reader.
//!
//! Promises: every line that was complete is taken once, also over `kill -9`, because a group of lines and the
//! checkpoint after them share one frame of the ring; a file that is renamed is finished before others go on, also when
//! it was renamed while the node was off, as long as it stays in a directory that the globs have files in; a last line without its end is waited
//! for, and taken as it is when the file has been rotated away and is quiet; lines over the limit are cut, flagged,
//! counted; bytes that are not UTF-8 stay as they are. What a directory held that cannot be seen for now is remembered.
//!
//! Files are read in bounded blocks by plain calls in the task: what a log's reader wants is in the page cache, and a
//! thread pool would cost a thread and two wake-ups a block. The loop is given back after each group of lines. Changes
//! are noticed by looking: soon after the last one, then ever less often, at least every `poll`.
//!
//! Not promised: lines written and then emptied by copytruncate between two looks; the copy is a new file, so leave it
//! out with `exclude`.

mod checkpoint;
mod globs;

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

use self::checkpoint::{Checkpoint, FileId, PRINT_BYTES, Print, Verdict};
use self::globs::Globs;
use super::{Inlet, SourceError, enter_group};
use crate::config::model::FileSource;
use crate::framing::{Framer, Framing, Skip};
use crate::hub::{PartState, counters};
use crate::limits::MAX_FOLLOWED_FILES;
use crate::record::{AttrBuf, Flags, RecordRef};
use crate::topic::TopicId;

/// Read at once.
const BLOCK: usize = 64 * 1024;
/// Lines that share a frame and a checkpoint.
const GROUP: usize = 32 * 1024;
/// Read from one file before the others have their turn.
const TURN: u64 = 16 * 1024 * 1024;
/// Files kept open; more are opened for each look.
const MAX_OPEN: usize = 128;
/// The first look after a change.
const SOON: Duration = Duration::from_millis(50);
/// A rotated file is let go when it was quiet for so many polls: its writer may still hold it.
const QUIET_POLLS: u32 = 10;
/// Checkpoints kept of files that cannot be seen: beside those of the followed ones they fit the source's state.
const MAX_UNSEEN: usize = MAX_FOLLOWED_FILES / 2;
/// Files that were removed before they were surely read to their end.
const VANISHED: &str = "vanished";
/// The state entry that says that this source has run before.
const SEEN: &[u8] = b"seen";

/// Follows files until the node stops.
pub async fn run(config: &FileSource, intake: Inlet) -> Result<(), SourceError> {
    let topic = intake.topic(&config.topic)?;
    let globs = Globs::new(&config.paths, &config.exclude).map_err(|(path, reason)| SourceError::Io {
        op: "read the pattern",
        path,
        reason,
    })?;
    let poll = config.poll.to_std().max(Duration::from_millis(1));
    let framer = Framer::new(Framing::Lines, config.max_line, BLOCK);
    let mut follower = Follower {
        intake,
        topic,
        globs,
        framer,
        poll,
        files: Vec::new(),
        unseen: HashMap::new(),
        trouble: None,
        unread: None,
        attrs: AttrBuf::default(),
    };
    follower.begin(config.from_end);
    let (mut wait, mut looked) = (SOON, Instant::now());
    loop {
        let moved = follower.read_all().await;
        if follower.intake.is_stopping() {
            return Ok(());
        }
        wait = if moved { SOON.min(poll) } else { (wait * 2).min(poll) };
        tokio::select! {
            () = follower.intake.stopping() => return Ok(()),
            () = tokio::time::sleep(wait) => {}
        }
        if looked.elapsed() >= poll {
            follower.look();
            looked = Instant::now();
        }
    }
}

/// What tells that nothing happened to a file since.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(meta: &Metadata) -> Self {
        Self {
            size: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }
}

struct Followed {
    id: FileId,
    path: PathBuf,
    point: Checkpoint,
    file: Option<File>,
    /// How it was when it had last been read to its end.
    read: Option<Stamp>,
    /// No glob names it any more, since; reset whenever it still grows.
    away: Option<Instant>,
    /// Looks in which it had no open handle and stood in no directory either.
    missed: u8,
}

impl Followed {
    /// A rename under the eyes of one look may hide it; two looks do not miss it.
    fn is_gone(&self) -> bool {
        self.file.is_none() && self.missed >= 2
    }

    /// What it stands on was taken away, and may come back.
    fn is_off_line(&self) -> bool {
        let dir = self.path.parent().and_then(|dir| std::fs::metadata(dir).ok());
        dir.is_none_or(|dir| dir.dev() != self.id.device)
    }
}

struct Follower {
    intake: Inlet,
    topic: TopicId,
    globs: Globs,
    framer: Framer,
    poll: Duration,
    files: Vec<Followed>,
    /// Checkpoints of files that cannot be seen: what they are on may be mounted later.
    unseen: HashMap<FileId, Checkpoint>,
    /// What a person should know, of this look.
    /// Files that are not followed.
    trouble: Option<String>,
    /// A file that the last round could not read.
    unread: Option<String>,
    attrs: AttrBuf,
}

/// One byte source for the framer: a file from a place on.
struct From<'a> {
    file: &'a File,
    at: u64,
}

impl embedded_io::ErrorType for From<'_> {
    type Error = std::io::Error;
}

impl embedded_io::Read for From<'_> {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, std::io::Error> {
        loop {
            match self.file.read_at(buf, self.at) {
                Ok(n) => {
                    self.at += n as u64;
                    return Ok(n);
                }
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }
}

fn id_of(meta: &Metadata) -> FileId {
    FileId { device: meta.dev(), inode: meta.ino() }
}

/// Opened without waiting, so that a pipe that took a file's place cannot hold the node up.
fn open(path: &Path) -> std::io::Result<File> {
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
    std::fs::OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(path)
}

fn head_of(file: &File) -> std::io::Result<([u8; PRINT_BYTES], usize)> {
    let mut head = [0; PRINT_BYTES];
    let mut n = 0;
    while n < PRINT_BYTES {
        match file.read_at(&mut head[n..], n as u64) {
            Ok(0) => break,
            Ok(more) => n += more,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok((head, n))
}

/// The regular files in these directories.
fn standing_in(dirs: Vec<PathBuf>) -> impl Iterator<Item = (FileId, PathBuf)> {
    let entries = dirs.into_iter().filter_map(|dir| std::fs::read_dir(dir).ok()).flatten().flatten();
    entries.filter_map(|entry| {
        let meta = std::fs::metadata(entry.path()).ok().filter(Metadata::is_file)?;
        Some((id_of(&meta), entry.path()))
    })
}

/// Whether a file under a name that no glob has is the one that was read: inodes of removed files are given away. What
/// cannot be read now is told later.
fn is_still(point: &Checkpoint, path: &Path) -> bool {
    let read = || -> std::io::Result<_> {
        let file = open(path)?;
        Ok((file.metadata()?.size(), head_of(&file)?))
    };
    read().map_or(true, |(size, (head, n))| point.judge(size, &head[..n]) == Verdict::Same)
}

/// Where a file begins that is read from its end: a line that is under way belongs to what came before.
fn at_end(path: &Path) -> Checkpoint {
    let Ok(file) = open(path) else { return Checkpoint::default() };
    let (Ok(meta), Ok((head, n))) = (file.metadata(), head_of(&file)) else { return Checkpoint::default() };
    let mut last = [b'\n'];
    if meta.size() > 0 {
        let _ = file.read_at(&mut last, meta.size() - 1);
    }
    Checkpoint { offset: meta.size(), print: Print::of(&head[..n], meta.size()), skip_line: last != [b'\n'] }
}

impl Follower {
    /// Matches the checkpoints with what is there: by name, then among what was renamed meanwhile.
    fn begin(&mut self, from_end: bool) {
        let first_run = self.intake.states().is_empty();
        self.unseen = self
            .intake
            .states()
            .iter()
            .filter_map(|(key, value)| Some((FileId::from_key(key)?, Checkpoint::decode(value)?)))
            .collect();
        for (path, meta) in self.globs.expand() {
            let id = id_of(&meta);
            let point = match self.known(id, &path) {
                None if first_run && from_end => at_end(&path),
                found => found.unwrap_or_default(),
            };
            self.follow(id, path, point, None);
        }
        self.find_renamed();
        self.forget_unseen();
        self.put(SEEN, Some(b""));
        let started: Vec<_> = self.files.iter().map(|f| (f.id, f.point)).filter(|(_, p)| p.offset > 0).collect();
        for (id, point) in started {
            self.put(&id.to_key(), Some(&point.encode()));
        }
        self.report();
    }

    /// Finds what was renamed while the node was off, to finish it.
    fn find_renamed(&mut self) {
        // Nothing is missed: trees of many files are not walked in vain.
        if self.unseen.is_empty() {
            return;
        }
        for (id, path) in standing_in(self.globs.every_directory()) {
            if let Some(point) = self.unseen.get(&id).copied()
                && is_still(&point, &path)
            {
                self.unseen.remove(&id);
                self.follow(id, path, point, Some(Instant::now()));
            }
        }
    }

    /// What is remembered of a file that is new here.
    fn known(&mut self, id: FileId, path: &Path) -> Option<Checkpoint> {
        self.unseen.remove(&id).or_else(|| self.moved_device(id, path))
    }

    /// Device numbers can change from boot to boot: the inode and the first bytes still tell the file.
    fn moved_device(&mut self, id: FileId, path: &Path) -> Option<Checkpoint> {
        let (&old, point) = self.unseen.iter().find(|(other, point)| other.inode == id.inode && point.offset > 0)?;
        let file = open(path).ok()?;
        let (head, n) = head_of(&file).ok()?;
        if point.judge(file.metadata().ok()?.size(), &head[..n]) != Verdict::Same {
            return None;
        }
        self.put(&old.to_key(), None);
        self.unseen.remove(&old)
    }

    /// Drops what is remembered of files that are gone: all directories were seen, and the device they stood on. Of the
    /// others, only so many are kept.
    fn forget_unseen(&mut self) {
        let seen = self.globs.devices();
        let mut gone: Vec<FileId> = self.unseen.keys().copied().collect();
        gone.sort();
        let kept = gone.extract_if(.., |id| !seen.as_ref().is_some_and(|devices| devices.contains(&id.device)));
        let excess = kept.collect::<Vec<_>>().into_iter().skip(MAX_UNSEEN);
        gone.extend(excess);
        for id in gone {
            self.put(&id.to_key(), None);
            self.unseen.remove(&id);
        }
    }

    fn follow(&mut self, id: FileId, path: PathBuf, point: Checkpoint, away: Option<Instant>) {
        if self.files.iter().any(|f| f.id == id) {
            return;
        }
        if self.files.len() >= MAX_FOLLOWED_FILES {
            self.trouble = Some(format!(
                "more than {MAX_FOLLOWED_FILES} files match; {} and others are not read: use narrower paths or more sources",
                path.display()
            ));
            return;
        }
        self.files.push(Followed { id, path, point, file: None, read: None, away, missed: 0 });
    }

    /// Looks at the globs again: new files, new names, files that left.
    fn look(&mut self) {
        self.trouble = None;
        let mut named: HashMap<FileId, PathBuf> = HashMap::new();
        let mut new = Vec::new();
        for (path, meta) in self.globs.expand() {
            let id = id_of(&meta);
            if named.insert(id, path.clone()).is_none() && !self.files.iter().any(|f| f.id == id) {
                new.push((id, path));
            }
        }
        for file in &mut self.files {
            match named.remove(&file.id) {
                Some(path) => (file.path, file.away) = (path, None),
                None => drop(file.away.get_or_insert_with(Instant::now)),
            }
        }
        self.look_for_renamed();
        for (id, path) in new {
            let point = self.known(id, &path).unwrap_or_default();
            self.follow(id, path, point, None);
        }
        self.report();
    }

    /// A renamed file that is not open has to be found under its new name before it can be finished.
    fn look_for_renamed(&mut self) {
        let mut dirs = self.globs.directories();
        let closed = |f: &&mut Followed| f.away.is_some() && f.file.is_none();
        let before = dirs.len();
        dirs.extend(self.files.iter_mut().filter(closed).filter_map(|f| f.path.parent().map(Path::to_path_buf)));
        if dirs.len() == before {
            return;
        }
        dirs.sort();
        dirs.dedup();
        let found: HashMap<FileId, PathBuf> = standing_in(dirs).collect();
        for file in self.files.iter_mut().filter(closed) {
            match found.get(&file.id) {
                Some(path) => (file.path, file.missed) = (path.clone(), 0),
                None => file.missed = file.missed.saturating_add(1),
            }
        }
    }

    fn report(&self) {
        let count = self.files.len();
        let state = match self.trouble.as_ref().or(self.unread.as_ref()) {
            Some(what) => PartState::warn(what.clone()),
            None if count == 0 => PartState::warn(self.globs.nothing()),
            None if count == 1 => PartState::up(format!("reading {}", self.files[0].path.display())),
            None => PartState::up(format!("reading {count} files")),
        };
        self.intake.report(state);
        self.intake.gauge("files", count as u64);
    }

    /// Reads what there is, rotated files first; whether there was anything.
    async fn read_all(&mut self) -> bool {
        self.files.sort_by_key(|f| f.away.is_none());
        let (mut moved, mut unread) = (false, None);
        let mut index = 0;
        while index < self.files.len() && !self.intake.is_stopping() {
            match self.read_one(index).await {
                Ok(more) => moved |= more,
                Err(e) => {
                    let path = self.files[index].path.display();
                    unread.get_or_insert_with(|| match e.kind() {
                        std::io::ErrorKind::PermissionDenied => {
                            format!("read {path}: permission denied; let the node's user read it; tried again")
                        }
                        _ => format!("read {path}: {e}; tried again"),
                    });
                }
            }
            if !(self.is_over(index) && self.finish(index).await) {
                index += 1;
            }
        }
        if self.unread != unread {
            self.unread = unread;
            self.report();
        }
        moved
    }

    /// Opens a file if it is not open; None when its name belongs to another by now.
    fn opened(&mut self, index: usize) -> std::io::Result<Option<File>> {
        let file = &mut self.files[index];
        if let Some(open) = file.file.take() {
            return Ok(Some(open));
        }
        match open(&file.path) {
            Ok(open) if id_of(&open.metadata()?) == file.id => Ok(Some(open)),
            Ok(_) => Ok(None),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    async fn read_one(&mut self, index: usize) -> std::io::Result<bool> {
        let Some(file) = self.opened(index)? else { return Ok(false) };
        let read = self.read_open(index, &file).await;
        if self.files.iter().filter(|f| f.file.is_some()).count() < MAX_OPEN {
            self.files[index].file = Some(file);
        }
        read
    }

    async fn read_open(&mut self, index: usize, file: &File) -> std::io::Result<bool> {
        let followed = &mut self.files[index];
        let stamp = Stamp::of(&file.metadata()?);
        if followed.read == Some(stamp) {
            return Ok(false);
        }
        let (head, n) = head_of(file)?;
        if followed.point.judge(stamp.size, &head[..n]) == Verdict::BeginAgain {
            followed.point = Checkpoint::default();
            let entry = followed.point.encode();
            let key = followed.id.to_key();
            self.put(&key, Some(&entry));
        }
        if let Some(away) = &mut self.files[index].away {
            *away = Instant::now();
        }
        let to_end = self.read_lines(index, file).await?;
        self.files[index].read = to_end.then_some(stamp);
        Ok(true)
    }

    /// Takes whole lines; whether the end was reached.
    async fn read_lines(&mut self, index: usize, file: &File) -> std::io::Result<bool> {
        let (begin, away) = (self.files[index].point.offset, self.files[index].away.is_some());
        self.framer.restart(begin, self.files[index].point.skip());
        self.set_attrs(index);
        let mut from = From { file, at: begin };
        loop {
            let n = self.framer.fill(&mut from)?;
            if !self.offer_lines(index, file).await || n == 0 {
                return Ok(n == 0);
            }
            if from.at - begin > TURN && !away {
                return Ok(false);
            }
        }
    }

    fn set_attrs(&mut self, index: usize) {
        self.attrs.clear();
        let path = self.files[index].path.as_os_str().as_encoded_bytes();
        let _fits = self.attrs.push("file.path", &path[..path.len().min(1024)]);
    }

    /// Offers every whole line that was read, in groups that each end with a checkpoint; false: the node stops.
    async fn offer_lines(&mut self, index: usize, file: &File) -> bool {
        while let Some(len) = self.framer.peek_len() {
            let intake = self.intake.clone();
            let Some(group) = enter_group(&intake, len.max(GROUP)).await else { return false };
            let mut taken = Taken::default();
            while let Some(len) = self.framer.peek_len() {
                if taken.lines > 0 && taken.bytes + len as u64 > GROUP as u64 {
                    break;
                }
                let Some(line) = self.framer.next_frame() else { break };
                taken.offer(&intake, self.topic, &self.attrs, line.bytes, line.truncated);
            }
            self.set_point(index, file);
            drop(group);
            taken.count(&intake);
            tokio::task::yield_now().await;
            if intake.is_stopping() {
                return false;
            }
        }
        // What was skipped of a line that was cut has moved the offset as well.
        self.files[index].point.offset = self.framer.offset();
        self.files[index].point.skip_line = self.framer.skip() == Skip::Line;
        true
    }

    /// Puts the checkpoint of all that the framer has given.
    fn set_point(&mut self, index: usize, file: &File) {
        let point = &mut self.files[index].point;
        (point.offset, point.skip_line) = (self.framer.offset(), self.framer.skip() == Skip::Line);
        if point.print.can_grow(point.offset)
            && let Ok((head, n)) = head_of(file)
        {
            point.print = Print::of(&head[..n], point.offset);
        }
        let (key, value) = (self.files[index].id.to_key(), self.files[index].point.encode());
        self.put(&key, Some(&value));
    }

    fn put(&self, key: &[u8], value: Option<&[u8]>) {
        if let Err(e) = self.intake.put_state(key, value) {
            self.intake.report(PartState::warn(format!("{e}: after a crash, lines may come again")));
        }
    }

    /// Rotated away, read to its end, quiet since; or nowhere to be found.
    fn is_over(&self, index: usize) -> bool {
        let file = &self.files[index];
        let Some(away) = file.away else { return false };
        (file.read.is_some() && away.elapsed() >= self.poll * QUIET_POLLS) || file.is_gone()
    }

    /// Takes what stands behind the last line's end, and forgets the file; false: it has to be found first.
    async fn finish(&mut self, index: usize) -> bool {
        let file = self.opened(index).unwrap_or_default();
        if file.is_none() && !self.files[index].is_gone() {
            return false;
        }
        let followed = self.files.remove(index);
        let key = followed.id.to_key();
        if followed.is_off_line() && self.unseen.len() < MAX_UNSEEN {
            self.unseen.insert(followed.id, followed.point);
            return true;
        }
        let Some(file) = file else {
            self.intake.count(VANISHED, 1);
            self.trouble = Some(format!(
                "{} was removed while it was not open (more than {MAX_OPEN} files): what it got since the last look is lost",
                followed.path.display()
            ));
            self.report();
            self.put(&key, None);
            return true;
        };
        self.framer.restart(followed.point.offset, followed.point.skip());
        let mut from = From { file: &file, at: followed.point.offset };
        while self.framer.peek_len().is_none() && self.framer.fill(&mut from).is_ok_and(|n| n > 0) {}
        let intake = self.intake.clone();
        let Some(_group) = enter_group(&intake, GROUP.max(self.framer.pending())).await else { return true };
        self.attrs.clear();
        let path = followed.path.as_os_str().as_encoded_bytes();
        let _fits = self.attrs.push("file.path", &path[..path.len().min(1024)]);
        let mut taken = Taken::default();
        if let Some(line) = self.framer.flush() {
            taken.offer(&intake, self.topic, &self.attrs, line.bytes, line.truncated);
        }
        self.put(&key, None);
        taken.count(&intake);
        true
    }
}

/// What one group took, counted once for all its lines.
#[derive(Default)]
struct Taken {
    lines: u64,
    bytes: u64,
    cut: u64,
}

impl Taken {
    fn offer(&mut self, intake: &Inlet, topic: TopicId, attrs: &AttrBuf, line: &[u8], truncated: bool) {
        let flags = if truncated { Flags::TRUNCATED } else { Flags::default() };
        let record = RecordRef { value: line, flags, attrs: attrs.as_attrs(), ..RecordRef::default() };
        // Never busy inside a group; one that is too large for this ring is counted by the intake.
        let _too_large = intake.offer(topic, &record);
        self.lines += 1;
        self.bytes += line.len() as u64;
        self.cut += u64::from(truncated);
    }

    fn count(&self, intake: &Inlet) {
        intake.count(counters::RECEIVED, self.lines);
        intake.count(counters::RECEIVED_BYTES, self.bytes);
        if self.cut > 0 {
            intake.count(counters::TRUNCATED, self.cut);
        }
    }
}
