//! What readers share: the newest and the lately read frames, and the windows of slot bytes that are being walked.
//!
//! Bounded by bytes and by number. A frame that nobody reads any more gives its buffers back to the writer. Reads are
//! asked for here and never more than a few at once; who finds that there is no room for his asks again after the
//! next completion.

use std::collections::VecDeque;
use std::sync::Arc;

use super::batch::{Press, roomy};
use super::cipher::Keys;
use super::format::{FrameHeader, pages};
use super::frame::Frame;
use super::unpack::Unpack;
use super::*;
use crate::limits::READ_CACHE_BYTES;
use crate::time::{BootTime, Span};
use crate::topic::TopicPart;

/// Frames in the cache, so that looking through it stays cheap.
const MAX_FRAMES: usize = 256;
/// Bytes read at once: several frames, since most readers go on to the next.
const WINDOW: u32 = 64 * 1024;
const MAX_WINDOWS: usize = 3;
const MAX_READS: usize = 2;
/// Tries, at least, before bytes count as unreadable,
const TRIES: u8 = 3;
/// and how long a running ring goes on trying: a device that is away for a moment must not turn a backlog into a gap.
const PATIENCE: Span = Span::from_secs(60);
/// After so long what was unreadable is tried again, if somebody asks.
const TRY_AGAIN: Span = Span::from_secs(60);
const FIRST_WAIT: Span = Span::from_millis(100);
const MAX_WAIT: Span = Span::from_secs(5);
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

/// A stretch that the device did not give.
#[derive(Debug)]
struct Trouble {
    of: Stretch,
    narrow: bool,
    /// When it failed first.
    since: BootTime,
    tries: u8,
    /// It is not asked for before then.
    again: BootTime,
    /// It counts as unreadable meanwhile; a window beside which narrower reads are tried does so at once.
    given_up: bool,
}

/// A read under way.
#[derive(Debug)]
struct Wanted {
    token: u64,
    asked: Stretch,
    /// What of it is still wanted: behind it something was written meanwhile.
    of: Stretch,
    /// No narrower one would do.
    narrow: bool,
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
    wanted: Vec<Wanted>,
    outbox: VecDeque<Command>,
    troubles: Vec<Trouble>,
    /// What the device said last, until it gives what it would not.
    error: Option<String>,
    /// The newest time that was passed in.
    now: BootTime,
    patience: Span,
    spare: Vec<Vec<u8>>,
    next_token: u64,
    unpack: Unpack,
}

impl Reading {
    pub fn new(keys: Keys) -> Result<Self, std::io::Error> {
        Ok(Self {
            frames: VecDeque::new(),
            bytes: 0,
            windows: VecDeque::new(),
            wanted: Vec::new(),
            outbox: VecDeque::new(),
            troubles: Vec::new(),
            error: None,
            now: BootTime::default(),
            patience: PATIENCE,
            spare: Vec::new(),
            next_token: FIRST_TOKEN,
            unpack: Unpack::ready(keys)?,
        })
    }

    /// Nobody will come again later: what fails three times is unreadable.
    pub fn be_impatient(&mut self) {
        self.patience = Span(0);
    }

    pub fn set_now(&mut self, now: BootTime) {
        self.now = self.now.max(now);
    }

    pub fn next_command(&mut self) -> Option<Command> {
        let due = |t: &Trouble| !t.given_up && t.again <= self.now && self.wanted.iter().all(|w| w.of != t.of);
        if self.outbox.is_empty()
            && self.wanted.len() < MAX_READS
            && let Some(of) = self.troubles.iter().find(|t| due(t)).map(|t| t.of)
        {
            self.ask(of, true);
        }
        self.outbox.pop_front()
    }

    /// When a read that failed is tried again; not before one that is under way is answered, where there are too many.
    pub fn next_try(&self) -> Option<BootTime> {
        if self.wanted.len() >= MAX_READS {
            return None;
        }
        let waits = |t: &&Trouble| !t.given_up && self.wanted.iter().all(|w| w.of != t.of);
        self.troubles.iter().filter(waits).map(|t| t.again).min()
    }

    /// What does not work, in plain words.
    pub fn trouble(&self) -> Option<String> {
        let error = self.error.as_ref()?;
        let waits = self.troubles.iter().any(|t| !t.given_up);
        if !self.troubles.iter().any(|t| t.narrow) {
            return None;
        }
        let then = if waits {
            "what cannot be read is tried again for a minute"
        } else {
            "what could not be read is counted as corrupt"
        };
        Some(format!("{error}; {then}"))
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
        self.troubles.retain(|t| t.of.slot != slot);
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
        self.wanted.retain_mut(|Wanted { of, .. }| {
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
        let now = self.now;
        self.troubles.retain(|t| !t.given_up || t.again > now);
        // A frame may be as long as a window: that the window was given up does not say that the frame was tried.
        let known = |of: Stretch, narrow| self.troubles.iter().find(|t| t.of == of && t.narrow == narrow);
        if known(narrow, true).is_some_and(|t| t.given_up) {
            return Peek::Unreadable;
        }
        let no_narrower = wide == narrow || known(wide, false).is_some();
        let want = if no_narrower { narrow } else { wide };
        if known(want, no_narrower).is_some() {
            // Asked for again when it is time.
            return Peek::Wait;
        }
        if self.wanted.len() < MAX_READS && !self.wanted.iter().any(|w| w.of == want) {
            self.ask(want, no_narrower);
        }
        Peek::Wait
    }

    fn ask(&mut self, of: Stretch, narrow: bool) {
        let token = self.next_token;
        self.next_token += 1;
        let buf = self.spare.pop().unwrap_or_default();
        self.outbox.push_back(Command { token, op: Op::Read { slot: of.slot, at: of.at.into(), len: of.len, buf } });
        self.wanted.push(Wanted { token, asked: of, of, narrow });
    }

    fn failed(&mut self, of: Stretch, narrow: bool, error: &DiskError) {
        let now = self.now;
        self.error = Some(error.to_string());
        let index = self.troubles.iter().position(|t| t.of == of && t.narrow == narrow).unwrap_or_else(|| {
            if self.troubles.len() >= MAX_TROUBLES {
                self.troubles.remove(0);
            }
            self.troubles.push(Trouble { of, narrow, since: now, tries: 0, again: now, given_up: false });
            self.troubles.len() - 1
        });
        // Where a page of the same slot was given up, the others are not waited for a minute each.
        let dead = |t: &Trouble| t.narrow && t.given_up && (t.of.slot, t.of.generation) == (of.slot, of.generation);
        let patience = if self.troubles.iter().any(dead) { Span(0) } else { self.patience };
        let trouble = &mut self.troubles[index];
        trouble.tries = trouble.tries.saturating_add(1);
        let enough = trouble.tries >= TRIES && now - trouble.since >= patience;
        trouble.given_up = !narrow || enough;
        let wait = if trouble.given_up {
            TRY_AGAIN
        } else if patience == Span(0) {
            Span(0)
        } else {
            Span((FIRST_WAIT.0 << trouble.tries.min(6)).min(MAX_WAIT.0))
        };
        trouble.again = now + wait;
    }

    /// The bytes of a window that `peek` named, from `from` on.
    pub fn bytes(&self, window: usize, from: usize) -> &[u8] {
        &self.windows[window].bytes[from..]
    }

    /// False: it does not hold. Recovery has asked for the key of every slot; a frame in it under another is none of ours.
    pub fn decode(&mut self, header: &FrameHeader, window: usize, from: usize, frame: &mut Frame) -> bool {
        let bytes = &self.windows[window].bytes[from..];
        frame.decode(header, bytes, &mut self.unpack).is_ok()
    }

    /// What the disk gave for a read.
    pub fn complete(&mut self, completion: Completion) {
        let Completion { token, result, mut buf } = completion;
        let Some(index) = self.wanted.iter().position(|w| w.token == token) else { return };
        let Wanted { asked, of, narrow, .. } = self.wanted.swap_remove(index);
        if let Err(error) = result {
            return self.failed(asked, narrow, &error);
        }
        self.troubles.retain(|t| t.of != asked);
        if self.troubles.is_empty() {
            self.error = None;
        }
        // No more than is still wanted; beyond the end of a file that is shorter than its slot, what was never written
        // is zeros.
        crate::codec::resize_with_zeros(&mut buf, of.len as usize);
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
    if frame.raw.capacity() <= roomy(frame.raw.len()) {
        return frame;
    }
    let Some(f) = Arc::get_mut(&mut frame) else { return frame };
    let mut small = press.small_frame(f.raw.len());
    let Some(to) = Arc::get_mut(&mut small) else { return frame };
    to.clone_from(f);
    press.recycle_frame(frame);
    small
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{MIN_SLOT, PAGE};

    const AT: u32 = 8192;

    fn look(reading: &mut Reading) -> Peek {
        reading.peek(SlotId(1), 7, AT, 512, MIN_SLOT as u32)
    }

    /// Answers the read under way; None: there is none. Else how many bytes were asked for.
    fn answer(reading: &mut Reading, works: bool) -> Option<u32> {
        let Command { token, op: Op::Read { len, .. } } = reading.next_command()? else { panic!("not a read") };
        let error =
            || DiskError { kind: DiskErrorKind::Io, op: "read", file: "slot-0001".into(), detail: "EIO".into() };
        let result = if works { Ok(()) } else { Err(error()) };
        reading.complete(Completion { token, result, buf: vec![5; len as usize] });
        Some(len)
    }

    /// Fails a window and then the page alone.
    fn in_trouble(now: BootTime) -> Reading {
        let mut reading = Reading::new(Keys::default()).unwrap();
        reading.set_now(now);
        for len in [WINDOW, PAGE as u32] {
            assert_eq!(look(&mut reading), Peek::Wait);
            assert_eq!(answer(&mut reading, false), Some(len));
        }
        assert_eq!((look(&mut reading), answer(&mut reading, false)), (Peek::Wait, None), "not at once");
        reading
    }

    #[test]
    fn a_device_that_is_away_for_a_moment_makes_no_record_unreadable() {
        let mut reading = in_trouble(BootTime(0));
        assert!(reading.trouble().is_some());
        reading.set_now(reading.next_try().unwrap());
        assert_eq!(answer(&mut reading, true), Some(PAGE as u32), "asked again by itself");
        assert_eq!(look(&mut reading), Peek::At(0, 0));
        reading.set_now(BootTime(0) + TRY_AGAIN + Span(1));
        assert_eq!(reading.next_try(), None);
    }

    #[test]
    fn what_cannot_be_read_for_a_minute_is_unreadable_and_looked_at_again_later() {
        let start = BootTime(1_000_000);
        let mut reading = in_trouble(start);
        let mut tries = 0;
        while look(&mut reading) == Peek::Wait {
            let at = reading.next_try().unwrap();
            reading.set_now(at);
            assert!(answer(&mut reading, false).is_some());
            tries += 1;
        }
        assert_eq!(look(&mut reading), Peek::Unreadable);
        let waited = reading.now - start;
        assert!(waited >= PATIENCE && waited < Span(2 * PATIENCE.0) && tries < 40, "{waited:?} in {tries} tries");
        reading.set_now(reading.now + TRY_AGAIN);
        assert_eq!((look(&mut reading), answer(&mut reading, true)), (Peek::Wait, Some(WINDOW)));
        assert_eq!((look(&mut reading), reading.trouble()), (Peek::At(0, 0), None));
    }

    #[test]
    fn a_read_that_was_cut_short_by_a_write_and_fails_says_nothing_of_the_narrower_one() {
        let mut reading = Reading::new(Keys::default()).unwrap();
        assert_eq!(look(&mut reading), Peek::Wait);
        // As long then as a look at two pages would ask for.
        reading.written(SlotId(1), 7, AT + 2 * PAGE as u32);
        assert!(answer(&mut reading, false).is_some());
        let mut two_pages = || reading.peek(SlotId(1), 7, AT, 2 * PAGE as u32, MIN_SLOT as u32);
        assert_eq!(two_pages(), Peek::Wait);
    }

    #[test]
    fn a_window_that_fails_once_does_not_make_a_frame_as_long_as_it_unreadable() {
        let mut reading = Reading::new(Keys::default()).unwrap();
        assert_eq!((look(&mut reading), answer(&mut reading, false)), (Peek::Wait, Some(WINDOW)), "its header");
        let mut whole = || reading.peek(SlotId(1), 7, AT, WINDOW, MIN_SLOT as u32);
        assert_eq!(whole(), Peek::Wait);
        assert_eq!(answer(&mut reading, false), Some(WINDOW), "tried for its own sake");
        reading.set_now(reading.next_try().expect("it is tried again"));
        assert_eq!(answer(&mut reading, true), Some(WINDOW));
        assert_eq!(reading.peek(SlotId(1), 7, AT, WINDOW, MIN_SLOT as u32), Peek::At(0, 0));
    }

    #[test]
    fn who_does_not_come_again_gives_up_after_three_tries() {
        let mut reading = Reading::new(Keys::default()).unwrap();
        reading.be_impatient();
        let mut tries = 0;
        while look(&mut reading) == Peek::Wait {
            assert!(answer(&mut reading, false).is_some());
            tries += 1;
        }
        assert_eq!((look(&mut reading), tries), (Peek::Unreadable, 4));
    }
}
