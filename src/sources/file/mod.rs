//! `file`: the lines of files that grow, are rotated, emptied and removed under the reader.
//!
//! Promises: every line that was complete is taken once, also over `kill -9`, because a group of lines and the
//! checkpoint after them share one frame of the ring; a file that is renamed is finished before others go on, also when
//! it was renamed while the node was off, as long as it stays in a directory that the globs have files in; a last line without its end is waited
//! for, and taken as it is when the file has been rotated away and is quiet; lines over the limit are cut, flagged,
//! counted; bytes that are not UTF-8 stay as they are. What a directory held that cannot be seen for now is remembered.
//!
//! After a reboot, what the power cut left of a file is searched for the place where what was read of it ends (see
//! [`checkpoint`]): lines that came since are not missed, lines that may come a second time are flagged and counted, the
//! file is counted and named in the status. In what was there at the first look after a boot and had not been read,
//! zeros in the place of lost blocks ([`HOLE`](crate::framing::HOLE) or more) are no part of a line: passed over, counted.
//! A line that ends in them is cut: taken, flagged.
//!
//! Files are read in bounded blocks by plain calls in the task: what a log's reader wants is in the page cache, and a
//! thread pool would cost a thread and two wake-ups a block. The loop is given back after each group of lines. Changes
//! are noticed by looking: soon after the last one, then ever less often, at least every `poll`.
//!
//! Not promised: lines written and then emptied by copytruncate between two looks; the copy is a new file, so leave it
//! out with `exclude`.

mod checkpoint;
mod globs;
mod look;
mod taken;

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

use self::checkpoint::{Checkpoint, FileId, Look, Print, Verdict, anchors_each};
use self::globs::Globs;
use self::look::{From, Stamp, at_end, hash_before, head_of, id_of, judged, open, standing_in};
use self::taken::{Taken, restart, set_attrs};
use super::{Inlet, SourceError, enter_group};
use crate::config::model::FileSource;
use crate::framing::{Framer, Framing, Skip};
use crate::hub::PartState;
use crate::limits::MAX_FOLLOWED_FILES;
use crate::record::AttrBuf;
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
/// Files that came back from a power cut with less than had been read of them.
const CUT_BACK: &str = "cut_back";
/// Bytes of zeros that a power cut left in the place of others.
const ZERO_BYTES: &str = "zero_bytes";
/// The state entry that says that this source has run before, and in which boot.
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
        boot: intake.boot_mark(),
        noted: false,
        intake,
        topic,
        globs,
        framer,
        poll,
        files: Vec::new(),
        unseen: HashMap::new(),
        anchors: anchors_each(0),
        cut_back: None,
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
        follower.note_boot();
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
    /// Tells this boot from others.
    boot: u32,
    /// Whether the ring knows that this source ran in it.
    noted: bool,
    topic: TopicId,
    globs: Globs,
    framer: Framer,
    poll: Duration,
    files: Vec<Followed>,
    /// Checkpoints of files that cannot be seen: what they are on may be mounted later.
    unseen: HashMap<FileId, Checkpoint>,
    /// How many each checkpoint may have.
    anchors: usize,
    /// How many files a power cut cut back, and what became of the last one.
    cut_back: Option<(u64, String)>,
    /// What a person should know, of this look.
    /// Files that are not followed.
    trouble: Option<String>,
    /// A file that the last round could not read.
    unread: Option<String>,
    attrs: AttrBuf,
}

impl Follower {
    /// Matches the checkpoints with what is there: by name, then among what was renamed meanwhile.
    fn begin(&mut self, from_end: bool) {
        let first_run = self.intake.states().is_empty();
        let seen = self.intake.state(SEEN).unwrap_or_default();
        self.noted = seen == self.boot.to_le_bytes();
        let another_boot = !self.noted && !seen.is_empty();
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
                None if another_boot => Checkpoint::before(self.boot),
                found => found.unwrap_or_default(),
            };
            self.follow(id, path, point, None);
        }
        self.find_renamed();
        self.forget_unseen();
        self.share_anchors();
        self.put(SEEN, Some(&seen));
        for file in self.files.iter().filter(|file| file.point.offset > 0) {
            self.put_point(file.id, &file.point);
        }
        self.report();
    }

    /// Every file that stood there at the start has been met in this boot.
    fn note_boot(&mut self) {
        if !std::mem::replace(&mut self.noted, true) {
            self.put(SEEN, Some(&self.boot.to_le_bytes()));
        }
    }

    /// Finds what was renamed while the node was off, to finish it.
    fn find_renamed(&mut self) {
        // Nothing is missed: trees of many files are not walked in vain.
        if self.unseen.is_empty() {
            return;
        }
        for (id, path) in standing_in(self.globs.every_directory()) {
            // Inodes of removed files are given away. What cannot be read now is told later.
            let is_still = |point: &Checkpoint| {
                judged(point, &path, self.boot).map_or(true, |verdict| verdict != Verdict::BeginAgain)
            };
            if self.unseen.get(&id).is_some_and(is_still)
                && let Some(point) = self.unseen.remove(&id)
            {
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
        if judged(point, path, self.boot).ok()? == Verdict::BeginAgain {
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

    /// The more files, the fewer anchors for each: together they fit the source's state, before others come.
    fn share_anchors(&mut self) {
        let most = anchors_each(self.files.len() + self.unseen.len());
        let fewer = most < self.anchors;
        self.anchors = most;
        if !fewer {
            return;
        }
        let points = self.files.iter_mut().map(|f| (f.id, &mut f.point));
        let mut thinned = Vec::new();
        for (id, point) in points.chain(self.unseen.iter_mut().map(|(id, point)| (*id, point))) {
            if point.anchors() > most {
                point.thin(most);
                thinned.push((id, point.encode(most)));
            }
        }
        thinned.sort();
        for (id, entry) in thinned {
            self.put(&id.to_key(), Some(&entry));
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
        self.share_anchors();
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
        let mut state = match self.trouble.as_ref().or(self.unread.as_ref()) {
            Some(what) => PartState::warn(what.clone()),
            None if count == 0 => PartState::warn(self.globs.nothing()),
            None if count == 1 => PartState::up(format!("reading {}", self.files[0].path.display())),
            None => PartState::up(format!("reading {count} files")),
        };
        if let (PartState::Up { what } | PartState::Warn { what }, Some((files, last))) = (&mut state, &self.cut_back) {
            let which = if *files == 1 { String::new() } else { format!("{files} files, the last: ") };
            what.push_str(&format!("; after a power cut: {which}{last}"));
        }
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
        let look = Look { boot: self.boot, size: stamp.size, head: &head[..n] };
        let verdict = followed.point.judge(&look, &mut |place| hash_before(file, place))?;
        if verdict != Verdict::Same || !followed.point.was_met_in(self.boot) {
            self.meet(index, file, verdict, &look);
        }
        if let Some(away) = &mut self.files[index].away {
            *away = Instant::now();
        }
        let to_end = self.read_lines(index, file).await?;
        self.files[index].read = to_end.then_some(stamp);
        Ok(true)
    }

    /// Goes on with the file as it was judged, at the first look in this boot and where it is not what it was.
    fn meet(&mut self, index: usize, file: &File, verdict: Verdict, look: &Look<'_>) {
        let followed = &mut self.files[index];
        let point = &mut followed.point;
        let is_known = point.offset > 0;
        let is_cut = point.meet(verdict, look, &mut |place| hash_before(file, place));
        let has_holes = point.holes_until() > 0;
        if is_cut {
            let files = self.cut_back.take().map_or(1, |(files, _)| files + 1);
            let (path, from) = (followed.path.display(), point.offset);
            let what = format!("{path} came back with less than had been read of it; read again from byte {from}");
            self.cut_back = Some((files, what));
            self.intake.count(CUT_BACK, 1);
            self.report();
        }
        if is_known || has_holes {
            self.put_point(self.files[index].id, &self.files[index].point);
        }
    }

    /// Takes whole lines; whether the end was reached.
    async fn read_lines(&mut self, index: usize, file: &File) -> std::io::Result<bool> {
        let followed = &self.files[index];
        let (begin, away) = (followed.point.offset, followed.away.is_some());
        restart(&mut self.framer, &followed.point);
        set_attrs(&mut self.attrs, &followed.path);
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
                let again = self.files[index].point.may_repeat(self.framer.offset());
                let Some(line) = self.framer.next_frame() else { break };
                taken.offer(&intake, self.topic, &self.attrs, &line, again);
            }
            self.set_point(index, file);
            drop(group);
            taken.count(&intake);
            tokio::task::yield_now().await;
            if intake.is_stopping() {
                return false;
            }
        }
        // What was skipped of a line that was cut, or of a hole, has moved the offset as well.
        self.files[index].point.pass(self.framer.offset(), self.framer.skip() == Skip::Line);
        match self.framer.take_passed() {
            0 => {}
            zeros => self.intake.count(ZERO_BYTES, zeros),
        }
        true
    }

    /// Puts the checkpoint of all that the framer has given.
    fn set_point(&mut self, index: usize, file: &File) {
        let Followed { id, point, .. } = &mut self.files[index];
        let offset = self.framer.offset();
        point.advance(offset, self.framer.skip() == Skip::Line, hash_before(file, offset).ok(), self.anchors);
        if point.print.can_grow(point.offset)
            && let Ok((head, n)) = head_of(file)
        {
            point.print = Print::of(&head[..n], point.offset);
        }
        let (key, value) = (id.to_key(), point.encode(self.anchors));
        self.put(&key, Some(&value));
    }

    fn put_point(&self, id: FileId, point: &Checkpoint) {
        self.put(&id.to_key(), Some(&point.encode(self.anchors)));
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
        restart(&mut self.framer, &followed.point);
        let mut from = From { file: &file, at: followed.point.offset };
        while self.framer.peek_len().is_none() && self.framer.fill(&mut from).is_ok_and(|n| n > 0) {}
        let intake = self.intake.clone();
        let Some(_group) = enter_group(&intake, GROUP.max(self.framer.pending())).await else { return true };
        set_attrs(&mut self.attrs, &followed.path);
        let mut taken = Taken::default();
        let again = followed.point.may_repeat(self.framer.offset());
        if let Some(line) = self.framer.flush() {
            taken.offer(&intake, self.topic, &self.attrs, &line, again);
        }
        self.put(&key, None);
        taken.count(&intake);
        true
    }
}
