//! What is remembered of a file, and what is concluded from it: the part of the `file` source that needs no disk.
//!
//! A file is its (device, inode), not its name: a rename changes nothing. Because inodes are reused and files are
//! emptied in place, a checkpoint also has a fingerprint of the file's first bytes, as many as were read when it was
//! taken. From the two follows the [`Verdict`]:
//!
//! | size against offset | first bytes | so it is |
//! |---|---|---|
//! | not smaller | the same | the same file: go on |
//! | smaller | any | emptied in place (copytruncate): begin again |
//! | not smaller | different | another file, or emptied and already longer: begin again |
//!
//! Nobody syncs a log. When the power goes the checkpoint is durable, and the last minutes of the file that it is about
//! may be gone, or zeros; its writer may have appended to what is left before anybody looks. So a checkpoint also knows
//! its boot and has [`Anchor`]s: ends of lines at and behind the offset, ever farther apart, each with a hash of the
//! bytes before it. The first look in another boot goes by them:
//!
//! | first bytes | newest anchor with the same bytes before it | so it is |
//! |---|---|---|
//! | the same | the offset | the same file: go on |
//! | the same | an older one | cut by a power cut: go on there |
//! | the same | none | cut to the bone: begin again |
//! | different, or not that many | one within them | as above |
//! | different, or not that many | none | another file: begin again |
//!
//! What was appended in this boot stands behind all that is left of what was read, so behind the newest anchor that
//! fits: it is never missed. What is read a second time is no more than what was lost, a step (the most that lay between
//! two checkpoints) or [`GRAIN`], whichever is the most, as long as no more than 4 MiB was lost; beyond, it may be the
//! whole file. With more than 64 files in a source there are fewer anchors, as many times farther apart, with more than
//! 256 they reach no farther than a step or a grain, and with more than 512 there are none. Lines that may be repeats,
//! those that begin before the old offset in what was there at the first look, are told by [`Checkpoint::may_repeat`].
//!
//! What cannot be told: a file emptied and written again beyond the offset, with the same first 256 bytes, between two
//! looks. After a power cut, bytes that are the same as the lost ones at the same place (a log of equal lines): they are
//! taken for those. That a file is what is left of one of which not even the first 256 bytes are: begun again, unmarked.
//!
//! The state entry is what it was before there were anchors, and behind it what came with them: a program of before reads
//! the first part and leaves the rest, and what it writes is read here as of this boot and without anchors.

use std::io;

use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_64;

use crate::framing::Skip;
use crate::limits::MAX_ANCHOR_BYTES;

/// Bytes that a fingerprint covers at most.
pub const PRINT_BYTES: usize = 256;

/// A file's identity while it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId {
    pub device: u64,
    pub inode: u64,
}

impl FileId {
    /// The state entry's key.
    pub fn to_key(self) -> [u8; 16] {
        let mut key = [0; 16];
        key[..8].copy_from_slice(&self.device.to_le_bytes());
        key[8..].copy_from_slice(&self.inode.to_le_bytes());
        key
    }

    pub fn from_key(key: &[u8]) -> Option<Self> {
        let (device, inode) = key.split_first_chunk::<8>()?;
        let inode: &[u8; 8] = inode.try_into().ok()?;
        Some(Self { device: u64::from_le_bytes(*device), inode: u64::from_le_bytes(*inode) })
    }
}

/// A hash of a file's first `len` bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Print {
    len: u16,
    hash: u64,
}

impl Print {
    /// Of the first bytes of a file of which `offset` bytes were read.
    pub fn of(head: &[u8], offset: u64) -> Self {
        let len = head.len().min(PRINT_BYTES).min(usize::try_from(offset).unwrap_or(usize::MAX));
        Self { len: len as u16, hash: XxHash3_64::oneshot(&head[..len]) }
    }

    /// Whether a file that begins with `head` can be the one. Nothing remembered fits everything.
    pub fn fits(self, head: &[u8]) -> bool {
        let len = usize::from(self.len);
        len == 0 || (head.len() >= len && XxHash3_64::oneshot(&head[..len]) == self.hash)
    }

    /// Whether a longer one can be taken after `offset` bytes were read.
    pub fn can_grow(self, offset: u64) -> bool {
        usize::from(self.len) < PRINT_BYTES && offset > u64::from(self.len)
    }
}

/// Bytes before an anchor that its hash covers at most.
pub const ANCHOR_WINDOW: usize = 256;
/// Anchors nearer to each other are not worth their place.
const GRAIN: u64 = 4096;
/// Anchors of a file at most. Two of each three in a row span more than twice what is ahead of them (see
/// [`Checkpoint::thin`]), so they reach ten doublings of a grain back.
pub const MAX_ANCHORS: usize = 24;
const DOUBLINGS: usize = 10;
/// What one takes in a state entry, and what comes with the first.
const ANCHOR_BYTES: usize = 8;
const BESIDE_ANCHORS: usize = 14;

/// How many anchors each file may have, so that the checkpoints of so many fit the source's state.
pub fn anchors_each(files: usize) -> usize {
    // In few steps: whenever it falls, entries are written anew.
    let share = MAX_ANCHOR_BYTES / files.max(1).next_power_of_two();
    (share.saturating_sub(BESIDE_ANCHORS) / ANCHOR_BYTES).min(MAX_ANCHORS)
}

/// How many times what was lost may be read again, so that few anchors reach as far as many: each two of them, after the
/// first three, `1 + ratio` times as far as those before.
fn ratio(most: usize) -> u64 {
    let pairs = (most.saturating_sub(1) / 2).saturating_sub(1).max(1);
    (1 << DOUBLINGS.div_ceil(pairs)) - 1
}

/// The end of a line that was read, and what stands before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anchor {
    offset: u64,
    hash: u32,
}

/// Of the bytes before an anchor.
pub fn hash_of(window: &[u8]) -> u32 {
    XxHash3_64::oneshot(window) as u32
}

/// How far a file was read; durable with the lines before the offset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checkpoint {
    pub offset: u64,
    pub print: Print,
    /// The rest of the line at `offset` belongs to one that was cut.
    pub skip_line: bool,
    /// The boot in which the file was last met; None: by a program that knew no boots, or never.
    boot: Option<u32>,
    /// Where what was read before a power cut ends at most.
    again: u64,
    /// How long the file was when it was first met in this boot.
    met_size: u64,
    /// Newest first.
    anchors: Vec<Anchor>,
}

/// The state entry's value, as it always was.
#[derive(Serialize, Deserialize)]
struct Plain {
    offset: u64,
    print: Print,
    skip_line: bool,
}

/// What stands behind it, places as distances from the offset, or from the anchor before.
#[derive(Serialize, Deserialize)]
struct Rest {
    boot: [u8; 4],
    again: u64,
    met_size: u64,
    anchors: Vec<(u64, [u8; 4])>,
}

/// The hash of the [`ANCHOR_WINDOW`] bytes, or as many as there are, before a place in the file.
pub type HashBefore<'a> = &'a mut dyn FnMut(u64) -> io::Result<u32>;

/// A file as it is found.
#[derive(Clone, Copy)]
pub struct Look<'a> {
    /// Tells this boot from others.
    pub boot: u32,
    pub size: u64,
    /// The first bytes, up to [`PRINT_BYTES`].
    pub head: &'a [u8],
}

/// What a file is to its checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Same,
    /// A power cut took what is behind this place, or a part of it.
    CutAt(u64),
    BeginAgain,
}

impl Checkpoint {
    pub fn at(offset: u64, print: Print, skip_line: bool) -> Self {
        Self { offset, print, skip_line, ..Self::default() }
    }

    /// Of a file that the power may have cut before it was ever met.
    pub fn before(boot: u32) -> Self {
        Self { boot: Some(!boot), ..Self::default() }
    }

    /// Judges a file.
    pub fn judge(&self, look: &Look<'_>, hash_before: HashBefore<'_>) -> io::Result<Verdict> {
        let fits = self.print.fits(look.head);
        if !self.is_of_another_boot(look.boot) || self.anchors.is_empty() {
            return Ok(if look.size >= self.offset && fits { Verdict::Same } else { Verdict::BeginAgain });
        }
        let reach = if fits { look.size } else { look.size.min(u64::from(self.print.len)) };
        for anchor in self.anchors.iter().filter(|anchor| anchor.offset <= reach) {
            if hash_before(anchor.offset)? == anchor.hash {
                let whole = anchor.offset == self.offset;
                return Ok(if whole { Verdict::Same } else { Verdict::CutAt(anchor.offset) });
            }
        }
        Ok(Verdict::BeginAgain)
    }

    fn is_of_another_boot(&self, boot: u32) -> bool {
        self.boot.is_some_and(|known| known != boot)
    }

    /// Whether the file was met in this boot: what happens to it from then on happens to a file that is whole.
    pub fn was_met_in(&self, boot: u32) -> bool {
        self.boot == Some(boot)
    }

    /// Goes on as judged; whether some of what was read is not there any more, because of a power cut.
    pub fn meet(&mut self, verdict: Verdict, look: &Look<'_>, hash_before: HashBefore<'_>) -> bool {
        let another = self.is_of_another_boot(look.boot);
        let fits = another && self.offset > 0 && self.print.fits(look.head);
        let again = self.offset.max(self.again).min(look.size);
        match verdict {
            Verdict::Same => {}
            Verdict::CutAt(place) => {
                self.anchors.retain(|anchor| anchor.offset <= place);
                (self.offset, self.skip_line, self.again) = (place, false, again);
                if place < u64::from(self.print.len) {
                    self.print = Print::of(look.head, place);
                }
            }
            Verdict::BeginAgain => *self = Self { again: if fits { again } else { 0 }, ..Self::default() },
        }
        if another {
            // One that stood in a hole fits never more, and others would be left out for it.
            self.anchors.retain(|anchor| hash_before(anchor.offset).is_ok_and(|hash| hash == anchor.hash));
            (self.met_size, self.again) = (look.size, self.again.min(look.size));
        }
        if self.offset > 0 && self.anchors.first().is_none_or(|anchor| anchor.offset != self.offset) {
            let here = hash_before(self.offset).ok().map(|hash| Anchor { offset: self.offset, hash });
            self.anchors.splice(0..0, here);
        }
        self.boot = Some(look.boot);
        match verdict {
            Verdict::Same => false,
            Verdict::CutAt(_) => true,
            Verdict::BeginAgain => fits,
        }
    }

    /// Whether the line that begins there may have been taken before a power cut.
    pub fn may_repeat(&self, line_begin: u64) -> bool {
        line_begin < self.again
    }

    /// Before here, zeros may be what a power cut left of lost blocks.
    pub fn holes_until(&self) -> u64 {
        self.met_size
    }

    /// The file was read up to here. `hash`: of the bytes before, if they could be read; `most` anchors are kept.
    pub fn advance(&mut self, offset: u64, skip_line: bool, hash: Option<u32>, most: usize) {
        self.pass(offset, skip_line);
        self.anchors.retain(|anchor| anchor.offset < offset);
        if offset > 0 {
            self.anchors.splice(0..0, hash.map(|hash| Anchor { offset, hash }));
        }
        self.thin(most);
    }

    /// As `advance`, where nothing is written down.
    pub fn pass(&mut self, offset: u64, skip_line: bool) {
        if self.skip_line {
            // Amid a line nobody can go on but who knows that it was cut.
            self.anchors.retain(|anchor| anchor.offset != self.offset);
        }
        (self.offset, self.skip_line) = (offset, skip_line);
    }

    /// Leaves out what can be left out: a loss beyond an anchor is then answered by the one behind it, at the cost of
    /// reading what lies between them, which is to be no more than `ratio` times what was lost. What was left out once
    /// costs ever less as the offset goes on.
    pub fn thin(&mut self, most: usize) {
        let ratio = ratio(most);
        let mut at = 1;
        while at < self.anchors.len() {
            let newer = self.anchors[at - 1].offset;
            let older = self.anchors.get(at + 1).map_or(0, |anchor| anchor.offset);
            let lost = self.offset.saturating_sub(newer);
            if newer.saturating_sub(older) <= GRAIN.max(lost.saturating_mul(ratio)) {
                self.anchors.remove(at);
            } else {
                at += 1;
            }
        }
        self.anchors.truncate(most);
    }

    pub fn anchors(&self) -> usize {
        self.anchors.len()
    }

    pub fn skip(&self) -> Skip {
        if self.skip_line { Skip::Line } else { Skip::Nothing }
    }

    /// The state entry's value; without anchors as it always was.
    pub fn encode(&self, most: usize) -> Vec<u8> {
        let plain = Plain { offset: self.offset, print: self.print, skip_line: self.skip_line };
        let mut bytes = postcard::to_allocvec(&plain).unwrap_or_default();
        let (Some(boot), true) = (self.boot, most > 0) else { return bytes };
        let mut before = self.offset;
        let mut anchors = Vec::with_capacity(self.anchors.len());
        for anchor in self.anchors.iter().take(most) {
            anchors.push((before.saturating_sub(anchor.offset), anchor.hash.to_le_bytes()));
            before = anchor.offset;
        }
        let ahead = |place: u64| place.saturating_sub(self.offset);
        let rest = Rest { boot: boot.to_le_bytes(), again: ahead(self.again), met_size: ahead(self.met_size), anchors };
        bytes.extend(postcard::to_allocvec(&rest).unwrap_or_default());
        bytes
    }

    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (Plain { offset, print, skip_line }, rest) = postcard::take_from_bytes(bytes).ok()?;
        let mut point = Self::at(offset, print, skip_line);
        // None: written by a program of before.
        let Ok(rest) = postcard::from_bytes::<Rest>(rest) else { return Some(point) };
        point.boot = Some(u32::from_le_bytes(rest.boot));
        let place = |ahead: u64| if ahead > 0 { offset.saturating_add(ahead) } else { 0 };
        (point.again, point.met_size) = (place(rest.again), place(rest.met_size));
        let mut before = offset;
        for (back, hash) in rest.anchors.into_iter().take(MAX_ANCHORS) {
            before = before.saturating_sub(back);
            if before > 0 {
                point.anchors.push(Anchor { offset: before, hash: u32::from_le_bytes(hash) });
            }
        }
        Some(point)
    }
}

#[cfg(test)]
mod tests;
