//! Walking the frames of one slot on a disk: what recovery, `verify` and `stat` have in common.
//!
//! Blocking reads, one buffer, nothing written. Damage is stepped over a page at a time: a frame begins at a page and
//! nowhere else.

use std::collections::BTreeSet;

use super::cipher::Part;
use super::format::{
    Bad, Codec, FIRST_FRAME, FRAME_HEADER, Formats, FrameHeader, FrameKind, PrevCount, Run, SlotHeader, parse_directory,
};
use super::state::{Put, parse_section};
use super::types::Reads;
use super::unpack::Unpack;
use super::*;
use crate::limits::PAGE;

const WINDOW: usize = 256 * 1024;
/// How often a page is asked for that the device does not give.
const TRIES: u32 = 3;

/// One frame, checked.
#[derive(Debug)]
pub struct Seen {
    pub header: FrameHeader,
    /// Empty when the directory is damaged.
    pub runs: Vec<Run>,
    pub prev: Vec<PrevCount>,
    pub payload_ok: bool,
    /// None when the state section is damaged.
    pub state: Option<Section>,
    /// It was not decrypted: the key is not here.
    pub locked: bool,
}

/// A state section as it was before it was encrypted, still compressed: a slot full of them takes many times as much when
/// it is decoded. None: it holds, and the key for it is not here.
#[derive(Debug)]
pub struct Section(Option<(Codec, usize, Box<[u8]>)>);

impl Section {
    /// Its entries, in order; None when it is not one.
    pub fn puts(&self, unpack: &mut Unpack, each: impl FnMut(Put)) -> Option<()> {
        let Some((codec, raw_len, stored)) = self.0.as_ref().filter(|(_, raw_len, _)| *raw_len > 0) else {
            return Some(());
        };
        let mut raw = Vec::new();
        unpack.inflate(*codec, stored, *raw_len, &mut raw).ok()?;
        parse_section(&raw, each)
    }
}

impl Seen {
    pub fn whole(&self) -> bool {
        self.payload_ok && self.state.is_some()
    }
    pub fn is_commit(&self) -> bool {
        self.header.is_commit()
    }
}

/// What one slot holds.
#[derive(Debug, Default)]
pub struct SlotContent {
    pub frames: Vec<Seen>,
    /// Places where a frame of this generation began whose header is damaged.
    pub damaged_headers: u32,
    /// One past the last frame whose header is good.
    pub end: u32,
    /// Pages that the device does not give.
    pub unreadable: usize,
    /// A key that is not here and that frames of it are encrypted under.
    pub locked: Option<u32>,
    /// A slot was begun over this one, and its header did not get there.
    pub begun_over: bool,
}

impl SlotContent {
    /// A copy repeats the number of the newest one that was durable when it was made.
    pub fn newest_commit(&self) -> Option<u64> {
        self.frames.iter().filter(|s| s.header.kind != FrameKind::Snapshot).map(|s| s.header.commit).max()
    }
}

/// What a walk meets next.
#[derive(Debug)]
pub enum Met {
    Frame(Box<Seen>),
    /// A frame of this generation began at this byte; its header is damaged.
    Damaged(u32),
}

/// Where a walk over one generation of a slot stands.
#[derive(Debug)]
pub struct Cursor {
    ring: RingId,
    generation: u64,
    slot_bytes: u32,
    at: u32,
    commit: u64,
    /// Frames of a later generation were passed.
    newer: bool,
}

impl Cursor {
    pub fn new(ring: RingId, generation: u64, slot_bytes: u32) -> Self {
        Self { ring, generation, slot_bytes, at: FIRST_FRAME, commit: 0, newer: false }
    }
}

pub struct Walker<'a> {
    disk: &'a mut dyn Disk,
    buf: Vec<u8>,
    at: u64,
    /// Bytes that are read at least.
    window: usize,
    slot: SlotId,
    formats: Formats,
    unpack: Unpack,
    /// Where the pages begin that the device did not give.
    unreadable: BTreeSet<u64>,
    /// A key that is not here and that a frame so far is encrypted under.
    pub locked: Option<u32>,
}

impl<'a> Walker<'a> {
    pub fn new(disk: &'a mut dyn Disk, slot: SlotId, (keys, formats): Reads<'_>) -> Self {
        let unpack = Unpack::new(keys.clone());
        let (window, unreadable) = (WINDOW, BTreeSet::new());
        Self { disk, buf: Vec::new(), at: 0, window, slot, formats, unpack, unreadable, locked: None }
    }

    /// Where the pages begin that the device did not give so far.
    pub fn unreadable(&self) -> &BTreeSet<u64> {
        &self.unreadable
    }

    /// Up to `len` bytes at `at`; fewer at the end of the file or where the device gives no more.
    fn bytes(&mut self, at: u32, len: usize) -> &[u8] {
        let (from, held) = (u64::from(at), self.buf.len() as u64);
        if from < self.at || from + len as u64 > self.at + held {
            self.fill(from, len);
        }
        let skip = (from - self.at) as usize;
        let end = (skip + len).min(self.buf.len());
        &self.buf[skip.min(end)..end]
    }

    /// What is held already is not asked for again.
    fn fill(&mut self, from: u64, len: usize) {
        let skip = from.checked_sub(self.at).map_or(self.buf.len(), |skip| self.buf.len().min(skip as usize));
        self.buf.drain(..skip);
        self.at = from;
        let held = self.buf.len() / PAGE * PAGE;
        self.buf.resize(len.max(self.window), 0);
        match self.disk.read(FileId::Slot(self.slot), from + held as u64, &mut self.buf[held..]) {
            Ok(n) => self.buf.truncate(held + n),
            Err(_) => self.fill_by_pages(held, len),
        }
    }

    /// One bad sector must not hide its neighbours. Unreadable pages are left as zeros, which never validate.
    fn fill_by_pages(&mut self, held: usize, len: usize) {
        self.buf.truncate(held);
        self.buf.resize(len.next_multiple_of(PAGE), 0);
        for (i, page) in self.buf[held..].chunks_mut(PAGE).enumerate() {
            let at = self.at + (held + i * PAGE) as u64;
            // A device that is away for a moment gives it the next time.
            if (0..TRIES).all(|_| self.disk.read(FileId::Slot(self.slot), at, page).is_err()) {
                page.fill(0);
                self.unreadable.insert(at);
            }
        }
    }

    pub fn slot_header(&mut self) -> Result<SlotHeader, Bad> {
        // A page and no window: this is done to every slot at start.
        let mut page = [0; PAGE];
        match self.disk.read(FileId::Slot(self.slot), 0, &mut page) {
            Ok(n) => SlotHeader::parse(&page[..n], self.slot, self.formats),
            Err(_) => {
                self.unreadable.insert(0);
                Err(Bad::Magic)
            }
        }
    }

    pub fn is_blank(&mut self) -> bool {
        self.bytes(0, PAGE).iter().all(|b| *b == 0) && self.bytes(FIRST_FRAME, PAGE).iter().all(|b| *b == 0)
    }

    /// The newest generation among the frames of a slot whose header is lost.
    pub fn newest_generation(&mut self, slot_bytes: u32) -> Option<(RingId, u64)> {
        let mut newest = None;
        let mut at = FIRST_FRAME;
        while at + FRAME_HEADER as u32 <= slot_bytes {
            let (slot, formats) = (self.slot, self.formats);
            match FrameHeader::parse(self.bytes(at, FRAME_HEADER), slot, at, formats) {
                Ok(h) => {
                    newest = newest.max(Some((h.generation, h.ring)));
                    // What is damaged may be of an older generation, and a newer one begin inside it.
                    let len = h.frame_len;
                    at += if self.check(h).whole() { len } else { PAGE as u32 };
                }
                Err(_) => at += PAGE as u32,
            }
        }
        newest.map(|(generation, ring)| (ring, generation))
    }

    /// The generation that the header names, which does not hold.
    pub fn torn_generation(&mut self) -> Option<u64> {
        SlotHeader::torn_generation(self.bytes(0, PAGE))
    }

    /// All frames of one generation.
    pub fn frames(&mut self, ring: RingId, generation: u64, slot_bytes: u32) -> SlotContent {
        let mut content = SlotContent { end: FIRST_FRAME, ..SlotContent::default() };
        let mut cursor = Cursor::new(ring, generation, slot_bytes);
        while let Some(met) = self.next(&mut cursor) {
            match met {
                Met::Frame(seen) => {
                    content.end = cursor.at;
                    content.frames.push(*seen);
                }
                Met::Damaged(_) => content.damaged_headers += 1,
            }
        }
        (content.unreadable, content.locked) = (self.unreadable.len(), self.locked);
        content.begun_over = cursor.newer;
        content
    }

    /// The next frame of the generation, or damage where one was; commit numbers never go down in a slot.
    pub fn next(&mut self, cursor: &mut Cursor) -> Option<Met> {
        let (slot, formats) = (self.slot, self.formats);
        while cursor.at + FRAME_HEADER as u32 <= cursor.slot_bytes {
            let at = cursor.at;
            let bytes = self.bytes(at, FRAME_HEADER);
            cursor.at += PAGE as u32;
            match FrameHeader::parse(bytes, slot, at, formats) {
                Ok(h) => {
                    let own = h.generation == cursor.generation && h.ring == cursor.ring;
                    if own && h.commit >= cursor.commit {
                        cursor.commit = h.commit;
                        let end = at + h.frame_len;
                        let seen = self.check(h);
                        // A later one may have been written over its end.
                        cursor.newer |= !seen.whole() && self.has_newer(cursor, end);
                        cursor.at = end;
                        return Some(Met::Frame(Box::new(seen)));
                    }
                    cursor.newer |= h.generation > cursor.generation;
                }
                Err(_) if FrameHeader::resembles(bytes, cursor.ring, slot, cursor.generation) => {
                    return Some(Met::Damaged(at));
                }
                Err(_) => {}
            }
        }
        None
    }

    /// Whether a frame of a later generation begins between the cursor and `end`.
    fn has_newer(&mut self, cursor: &Cursor, end: u32) -> bool {
        let (slot, formats) = (self.slot, self.formats);
        (cursor.at..end).step_by(PAGE).any(|at| {
            let header = FrameHeader::parse(self.bytes(at, FRAME_HEADER), slot, at, formats);
            header.is_ok_and(|h| h.generation > cursor.generation)
        })
    }

    /// The snapshot at the beginning of a slot; None unless all of it is good. With it, where the lane stood. Without the key
    /// for it, it has no entries.
    pub fn snapshot(&mut self, ring: RingId, generation: u64) -> Option<(FrameHeader, Vec<Put>)> {
        // Its frames, and nothing of what stands behind.
        self.window = PAGE;
        let (mut at, mut all, mut first) = (FIRST_FRAME, Vec::new(), None);
        let mut expected = 1;
        let mut part = 0;
        while part < expected {
            let (slot, formats) = (self.slot, self.formats);
            let header = FrameHeader::parse(self.bytes(at, FRAME_HEADER), slot, at, formats).ok()?;
            let own = header.generation == generation && header.ring == ring && header.kind == FrameKind::Snapshot;
            if !own || header.part != part || header.parts == 0 || (part > 0 && header.parts != expected) {
                return None;
            }
            expected = header.parts;
            part += 1;
            at += header.frame_len;
            let seen = self.check(header);
            seen.state?.puts(&mut self.unpack, |put| all.push(put))?;
            first.get_or_insert(seen.header);
        }
        Some((first?, all))
    }

    fn check(&mut self, header: FrameHeader) -> Seen {
        let (mut runs, mut prev) = (Vec::new(), Vec::new());
        let bytes = self.bytes(header.at, header.frame_len as usize);
        let directory_ok = parse_directory(&header, bytes, &mut runs, &mut prev).is_some();
        let seed = header.crc_seed();
        let good = |r: Option<&[u8]>, crc| r.is_some_and(|r| crc32c::crc32c_append(seed, r) == crc);
        let payload_ok = good(bytes.get(header.payload_at()..header.state_at()), header.payload_crc) && directory_ok;
        let state_ok = good(bytes.get(header.state_at()..header.used()), header.state_crc);
        let locked = !self.unpack.keys().has(header.key_id());
        if locked {
            self.locked.get_or_insert(header.key_id);
        }
        let state = if state_ok { self.state(&header) } else { None };
        Seen { header, runs, prev, payload_ok, state, locked }
    }

    /// The section, if it can be decoded.
    fn state(&mut self, header: &FrameHeader) -> Option<Section> {
        let from = (u64::from(header.at) - self.at) as usize;
        let section = match self.unpack.decrypt(header, self.buf.get(from..)?, Part::State) {
            Ok(stored) => Section(Some((header.state_codec, header.state_raw as usize, stored.into()))),
            Err(Bad::Key(_)) => Section(None),
            Err(_) => return None,
        };
        section.puts(&mut self.unpack, drop)?;
        Some(section)
    }

    /// The frame of `len` bytes at this byte, with its records, and nothing else; None where it does not hold.
    pub fn frame_at(&mut self, at: u32, len: u32) -> Option<(FrameHeader, super::frame::Frame)> {
        self.window = PAGE;
        self.bytes(at, len as usize);
        let (slot, formats) = (self.slot, self.formats);
        let header = FrameHeader::parse(self.bytes(at, FRAME_HEADER), slot, at, formats).ok()?;
        let frame = self.records(&header)?;
        Some((header, frame))
    }

    /// The records of a frame; None where they do not hold. Without the key for them, what its directory says.
    pub fn records(&mut self, header: &FrameHeader) -> Option<super::frame::Frame> {
        self.bytes(header.at, header.frame_len as usize);
        let from = (u64::from(header.at) - self.at) as usize;
        let (bytes, mut frame) = (self.buf.get(from..)?, super::frame::Frame::default());
        match frame.decode(header, bytes, &mut self.unpack) {
            Ok(()) | Err(Bad::Key(_)) => Some(frame),
            Err(_) => None,
        }
    }

    /// Whether the payload of a frame decompresses to the records that its directory says, as far as the keys go.
    pub fn decodes(&mut self, header: &FrameHeader) -> bool {
        header.is_stub() || self.records(header).is_some()
    }
}
