//! What readers share: the newest and the lately read frames, and the windows of slot bytes that are being walked.
//!
//! Bounded by bytes and by number. A frame that nobody reads any more gives its buffers back to the writer. Reads are
//! asked for here and never more than a few at once; who finds that there is no room for his asks again after the
//! next completion.

use std::collections::VecDeque;
use std::sync::Arc;

use super::batch::Press;
use super::format::{FrameHeader, pages};
use super::frame::Frame;
use super::*;
use crate::limits::{PAGE, READ_CACHE_BYTES};
use crate::topic::TopicPart;

/// Frames in the cache, so that looking through it stays cheap.
const MAX_FRAMES: usize = 256;
/// Bytes read at once: several frames, since most readers go on to the next.
const WINDOW: u32 = 64 * 1024;
const MAX_WINDOWS: usize = 3;
const MAX_READS: usize = 2;
/// Tries before bytes count as unreadable.
const TRIES: u8 = 3;
const MAX_TROUBLES: usize = 64;
/// Tokens of reads begin here, those of writes at zero.
const FIRST_TOKEN: u64 = 1 << 63;

/// A stretch of a slot, by the generation that it was read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stretch {
    slot: SlotId,
    generation: u64,
    at: u32,
    len: u32,
}

#[derive(Debug)]
struct Window {
    of: Stretch,
    bytes: Vec<u8>,
}

/// The answer to a wish for bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peek {
    Wait,
    /// The device does not give them.
    Unreadable,
    /// They are in this window, from this byte.
    At(usize, usize),
}

pub struct Reading {
    frames: VecDeque<Arc<Frame>>,
    bytes: usize,
    windows: VecDeque<Window>,
    wanted: Vec<(u64, Stretch)>,
    outbox: VecDeque<Command>,
    troubles: Vec<(Stretch, u8)>,
    spare: Vec<Vec<u8>>,
    next_token: u64,
    zstd: zstd::bulk::Decompressor<'static>,
}

impl Reading {
    pub fn new() -> Result<Self, std::io::Error> {
        Ok(Self {
            frames: VecDeque::new(),
            bytes: 0,
            windows: VecDeque::new(),
            wanted: Vec::new(),
            outbox: VecDeque::new(),
            troubles: Vec::new(),
            spare: Vec::new(),
            next_token: FIRST_TOKEN,
            zstd: zstd::bulk::Decompressor::new()?,
        })
    }

    pub fn next_command(&mut self) -> Option<Command> {
        self.outbox.pop_front()
    }

    pub fn has_command(&self) -> bool {
        !self.outbox.is_empty()
    }

    // ---- frames ----

    /// Takes a frame in and lets the oldest go.
    pub fn keep(&mut self, frame: Arc<Frame>, press: &mut Press) {
        let frame = compact(frame, press);
        self.bytes += frame.memory();
        self.frames.push_back(frame);
        while self.frames.len() > 1 && (self.bytes > READ_CACHE_BYTES || self.frames.len() > MAX_FRAMES) {
            if let Some(old) = self.frames.pop_front() {
                self.bytes -= old.memory();
                press.recycle_frame(old);
            }
        }
    }

    pub fn of_lane(&self, lane: LaneId, ordinal: u64) -> Option<&Arc<Frame>> {
        let has = |f: &&Arc<Frame>| f.lane == lane && f.first.ordinal <= ordinal && ordinal < f.end().ordinal;
        self.frames.iter().rev().find(has)
    }

    pub fn of_part(&self, part: TopicPart, offset: u64) -> Option<&Arc<Frame>> {
        let has = |f: &&Arc<Frame>| f.run_at(part, offset).is_some_and(|r| r.first_offset <= offset);
        self.frames.iter().rev().find(has)
    }

    pub fn forget_slot(&mut self, slot: SlotId) {
        self.windows.retain(|w| w.of.slot != slot);
        self.troubles.retain(|(s, _)| s.slot != slot);
    }

    /// A frame became durable at this place: bytes from there on that were read, or asked for, before are not what
    /// stands there now.
    pub fn written(&mut self, slot: SlotId, generation: u64, at: u32) {
        let reaches = |of: &Stretch, len: u32| of.slot == slot && of.generation == generation && of.at + len > at;
        self.windows.retain_mut(|w| {
            if !reaches(&w.of, w.bytes.len() as u32) {
                return true;
            }
            w.bytes.truncate(at.saturating_sub(w.of.at) as usize);
            !w.bytes.is_empty()
        });
        // The answer to one that is not wanted any more is passed over.
        self.wanted.retain_mut(|(_, of)| {
            if reaches(of, of.len) {
                of.len = at.saturating_sub(of.at);
            }
            of.len > 0
        });
    }

    // ---- bytes ----

    /// `len` bytes at `at`, from a window or asked for.
    pub fn peek(&mut self, slot: SlotId, generation: u64, at: u32, len: u32, slot_bytes: u32) -> Peek {
        let fits = |w: &Window| {
            let o = w.of;
            let end = o.at as usize + w.bytes.len();
            o.slot == slot && o.generation == generation && o.at <= at && (at + len) as usize <= end
        };
        if let Some(index) = self.windows.iter().position(fits) {
            return Peek::At(index, (at - self.windows[index].of.at) as usize);
        }
        let room = slot_bytes.saturating_sub(at);
        if len > room {
            return Peek::Unreadable;
        }
        // A window first; where the device does not give it, no more than what is asked for.
        let wide = Stretch { slot, generation, at, len: len.max(WINDOW).min(room) };
        let narrow = Stretch { len: (pages(len as usize) as u32).min(room), ..wide };
        let want = if self.failed(&wide) { narrow } else { wide };
        if self.failed(&want) {
            return Peek::Unreadable;
        }
        if self.wanted.len() < MAX_READS && !self.wanted.iter().any(|(_, s)| *s == want) {
            let token = self.next_token;
            self.next_token += 1;
            let buf = self.spare.pop().unwrap_or_default();
            self.outbox.push_back(Command { token, op: Op::Read { slot, at: at.into(), len: want.len, buf } });
            self.wanted.push((token, want));
        }
        Peek::Wait
    }

    fn failed(&self, stretch: &Stretch) -> bool {
        self.troubles.iter().any(|(s, tries)| s == stretch && *tries >= TRIES)
    }

    /// The bytes of a window that `peek` named, from `from` on.
    pub fn bytes(&self, window: usize, from: usize) -> &[u8] {
        &self.windows[window].bytes[from..]
    }

    pub fn decode(&mut self, header: &FrameHeader, window: usize, from: usize, frame: &mut Frame) -> bool {
        let bytes = &self.windows[window].bytes[from..];
        frame.decode(header, bytes, &mut self.zstd).is_ok()
    }

    /// What the disk gave for a read.
    pub fn complete(&mut self, completion: Completion) {
        let Completion { token, result, mut buf } = completion;
        let Some(index) = self.wanted.iter().position(|(t, _)| *t == token) else { return };
        let (_, of) = self.wanted.swap_remove(index);
        if result.is_err() {
            match self.troubles.iter_mut().find(|(s, _)| *s == of) {
                Some((_, tries)) => *tries = tries.saturating_add(1),
                None => self.troubles.push((of, 1)),
            }
            if self.troubles.len() > MAX_TROUBLES {
                self.troubles.remove(0);
            }
            return;
        }
        // No more than is still wanted; beyond the end of a file that is shorter than its slot, what was never written
        // is zeros.
        buf.resize(of.len as usize, 0);
        if self.windows.len() >= MAX_WINDOWS
            && let Some(old) = self.windows.pop_front()
            && self.spare.is_empty()
            && old.bytes.capacity() <= 2 * WINDOW as usize
        {
            self.spare.push(old.bytes);
        }
        self.windows.push_back(Window { of, bytes: buf });
    }
}

/// A small frame must not keep a large buffer: it is copied, and the buffer goes back to the writer.
fn compact(mut frame: Arc<Frame>, press: &mut Press) -> Arc<Frame> {
    if frame.raw.capacity() < PAGE.max(4 * frame.raw.len()) {
        return frame;
    }
    let Some(f) = Arc::get_mut(&mut frame) else { return frame };
    let small = Frame {
        ring: f.ring,
        lane: f.lane,
        boot: f.boot,
        commit: f.commit,
        first: f.first,
        records: f.records,
        base: f.base,
        runs: f.runs.as_slice().into(),
        raw: f.raw.as_slice().into(),
    };
    press.recycle_frame(frame);
    Arc::new(small)
}
