//! Framing: cuts a stream of bytes into lines or syslog frames.
//!
//! The input is an [`embedded_io::Read`], so that one code runs over a file, a socket, a child's output, a test
//! buffer and a serial port. Nothing is copied on the way out: a [`Frame`] borrows from the one block that was read.
//!
//! What it promises, however the bytes are split into reads:
//!
//! - The same bytes give the same frames.
//! - Memory is bounded: a frame over the limit is cut to the limit and flagged, its rest is skipped unseen.
//! - [`Framer::offset`] counts the bytes of the stream that belong to frames already given (or skipped): a reader that
//!   starts there again, with [`Framer::restart`], neither repeats nor loses a frame.
//!
//! Lines end in LF or CR LF; neither is part of the frame. In [`Framing::Syslog`] each message decides for itself, as
//! RFC 6587 has it in the field: a length, a blank and `<` begin an octet-counted message, anything else is a line.
//! It knows nothing of character sets: bytes stay as they came.
//!
//! A file that lived through a power cut may have holes: zeros, where blocks were lost. Before the place that
//! [`Framer::expect_holes`] names, [`HOLE`] zeros or more in a row are in no frame: a line that runs into them ends there,
//! flagged, and the next one begins behind them.

use embedded_io::Read;

/// How the stream is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    Lines,
    /// Octet-counted or a line, decided per message.
    Syslog,
}

/// One line or message, without what delimits it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    pub bytes: &'a [u8],
    /// It was longer than the limit (or its end never came) and was cut.
    pub truncated: bool,
}

/// What is left of a frame that was cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Skip {
    #[default]
    Nothing,
    /// All up to and with the next LF.
    Line,
    /// So many bytes.
    Bytes(usize),
}

/// Digits of an octet count that is believed: messages of up to 9,999,999 bytes can be stepped over.
const MAX_COUNT_DIGITS: usize = 7;
/// Zeros in a row that are a hole: more than any text in UTF-16 or UTF-32 has.
pub const HOLE: usize = 16;
/// What can stand around a frame of the limit's length: CR LF and what may be a hole after, or count and blank before.
const AROUND: usize = HOLE + 2;
/// The first read of a stream that may stay quiet; the block grows from here when more comes.
const SMALL_BLOCK: usize = 4096;

/// Cuts one stream at a time.
#[derive(Debug)]
pub struct Framer {
    framing: Framing,
    max: usize,
    /// Grows to `block`; the bytes of the stream that were read and not yet given are `start..end`.
    buf: Vec<u8>,
    block: usize,
    start: usize,
    end: usize,
    offset: u64,
    skip: Skip,
    /// The next frame, when somebody has asked how long it is.
    ready: Option<Cut>,
    /// Before here there may be holes.
    holes_until: u64,
    /// What was read ended amid one.
    in_hole: bool,
    /// Bytes of holes that were passed over.
    passed: u64,
}

/// A frame's place in the buffer.
#[derive(Clone, Copy, Debug)]
struct Cut {
    from: usize,
    to: usize,
    consume: usize,
    truncated: bool,
    skip: Skip,
}

enum Head {
    Line,
    Counted { prefix: usize, len: usize },
    NeedMore,
}

impl Framer {
    /// `max`: the longest frame; `block`: how much is read at once at most (more if `max` asks for it).
    pub fn new(framing: Framing, max: usize, block: usize) -> Self {
        let block = block.max(max.saturating_add(AROUND));
        let (buf, skip) = (Vec::new(), Skip::Nothing);
        Self {
            framing,
            max,
            buf,
            block,
            start: 0,
            end: 0,
            offset: 0,
            skip,
            ready: None,
            holes_until: 0,
            in_hole: false,
            passed: 0,
        }
    }

    /// Forgets what was read and goes on elsewhere.
    pub fn restart(&mut self, offset: u64, skip: Skip) {
        (self.start, self.end, self.offset, self.skip, self.ready) = (0, 0, offset, skip, None);
        (self.holes_until, self.in_hole) = (0, false);
    }

    /// Until the next restart: there may be holes before this place.
    pub fn expect_holes(&mut self, until: u64) {
        self.holes_until = until;
    }

    /// Bytes of holes that were passed over since this was last asked.
    pub fn take_passed(&mut self) -> u64 {
        std::mem::take(&mut self.passed)
    }

    /// Where in the stream the first byte stands that no frame has taken.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// What must be skipped at [`Framer::offset`].
    pub fn skip(&self) -> Skip {
        self.skip
    }

    /// Bytes that were read and belong to no frame yet: the beginning of the next one.
    pub fn pending(&self) -> usize {
        self.end - self.start
    }

    /// Reads once, after [`Framer::next_frame`] had nothing more to give. 0: the stream ends here (for now).
    pub fn fill<R: Read>(&mut self, from: &mut R) -> Result<usize, R::Error> {
        self.make_room();
        let n = from.read(&mut self.buf[self.end..])?;
        debug_assert!(n <= self.buf.len() - self.end);
        self.end += n;
        Ok(n)
    }

    fn make_room(&mut self) {
        if self.start > 0 {
            self.buf.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.end == self.buf.len() {
            let len = (self.buf.len() * 4).max(SMALL_BLOCK).min(self.block);
            debug_assert!(len > self.end, "a full block holds at least one frame");
            self.buf.resize(len, 0);
        }
    }

    /// The next whole frame, or None when more must be read.
    pub fn next_frame(&mut self) -> Option<Frame<'_>> {
        let cut = self.ready.take().or_else(|| self.find())?;
        Some(self.take(&cut))
    }

    /// The length of what [`Framer::next_frame`] will give; the frame stays where it is.
    pub fn peek_len(&mut self) -> Option<usize> {
        self.ready = self.ready.or_else(|| self.find());
        self.ready.map(|cut| cut.to - cut.from)
    }

    fn find(&mut self) -> Option<Cut> {
        while self.offset < self.holes_until && self.start < self.end {
            if self.in_hole {
                self.pass_hole();
                continue;
            }
            let Some((at, sure)) = self.next_hole() else { break };
            if !sure {
                if self.skip == Skip::Line {
                    self.consume(at);
                } else if at >= self.max + 2 {
                    break;
                }
                return None;
            }
            if at > 0 && self.skip == Skip::Nothing {
                return Some(Cut { from: 0, to: at.min(self.max), consume: at, truncated: true, skip: Skip::Nothing });
            }
            // What was skipped of a line ends at the hole as well.
            self.consume(at);
            (self.skip, self.in_hole) = (Skip::Nothing, true);
        }
        self.skip_rest();
        if self.skip != Skip::Nothing || self.start == self.end {
            return None;
        }
        let held = &self.buf[self.start..self.end];
        match self.head(held) {
            Head::Line => cut_line(held, self.max),
            Head::Counted { prefix, len } => cut_counted(held, prefix, len, self.max),
            Head::NeedMore => None,
        }
    }

    /// The stream has ended for good: what is left of it, if anything is.
    pub fn flush(&mut self) -> Option<Frame<'_>> {
        debug_assert!(self.ready.is_none(), "whole frames come before the last, partial one");
        self.skip_rest();
        self.skip = Skip::Nothing;
        let held = &self.buf[self.start..self.end];
        if held.is_empty() {
            return None;
        }
        let (from, truncated) = match self.head(held) {
            Head::Counted { prefix, .. } => (prefix, true),
            Head::Line | Head::NeedMore => (0, held.len() > self.max),
        };
        let to = held.len().min(from + self.max);
        let cut = Cut { from, to, consume: held.len(), truncated, skip: Skip::Nothing };
        Some(self.take(&cut))
    }

    fn take(&mut self, cut: &Cut) -> Frame<'_> {
        let at = self.start;
        self.consume(cut.consume);
        self.skip = cut.skip;
        Frame { bytes: &self.buf[at + cut.from..at + cut.to], truncated: cut.truncated }
    }

    fn consume(&mut self, n: usize) {
        self.start += n;
        self.offset += n as u64;
    }

    fn skip_rest(&mut self) {
        let held = &self.buf[self.start..self.end];
        let (n, left) = match self.skip {
            Skip::Nothing => return,
            Skip::Line => match memchr::memchr(b'\n', held) {
                Some(at) => (at + 1, Skip::Nothing),
                None => (held.len(), Skip::Line),
            },
            Skip::Bytes(left) => {
                let n = left.min(held.len());
                (n, if n == left { Skip::Nothing } else { Skip::Bytes(left - n) })
            }
        };
        self.consume(n);
        self.skip = left;
    }

    /// What is held, as far as there may be holes in it.
    fn torn(&self) -> &[u8] {
        let held = &self.buf[self.start..self.end];
        let until = usize::try_from(self.holes_until - self.offset).unwrap_or(usize::MAX);
        &held[..held.len().min(until)]
    }

    /// Where in the line that is held a hole begins, or (not sure) zeros of which more must be read to tell.
    fn next_hole(&self) -> Option<(usize, bool)> {
        let torn = self.torn();
        let goes_on = self.offset + (torn.len() as u64) < self.holes_until;
        let line = &torn[..memchr::memchr(b'\n', torn).unwrap_or(torn.len())];
        let mut from = 0;
        loop {
            let at = from + memchr::memchr(0, &line[from..])?;
            let zeros = zeros_of(&line[at..]);
            if zeros >= HOLE || (goes_on && at + zeros == torn.len()) {
                return Some((at, zeros >= HOLE));
            }
            from = at + zeros;
        }
    }

    /// A line's end right behind a hole is the end of what was lost in it.
    fn pass_hole(&mut self) {
        let torn = self.torn();
        let zeros = zeros_of(torn);
        let (inside, end) = (zeros == torn.len(), torn.get(zeros) == Some(&b'\n'));
        self.consume(zeros + usize::from(end));
        (self.in_hole, self.passed) = (inside, self.passed + zeros as u64);
    }

    fn head(&self, held: &[u8]) -> Head {
        if self.framing == Framing::Lines || !matches!(held[0], b'1'..=b'9') {
            return Head::Line;
        }
        let mut len = 0;
        for (at, &byte) in held.iter().enumerate() {
            match byte {
                b'0'..=b'9' if at < MAX_COUNT_DIGITS => len = len * 10 + usize::from(byte - b'0'),
                b' ' => {
                    return match held.get(at + 1) {
                        Some(b'<') => Head::Counted { prefix: at + 1, len },
                        Some(_) => Head::Line,
                        None => Head::NeedMore,
                    };
                }
                _ => return Head::Line,
            }
        }
        Head::NeedMore
    }
}

fn zeros_of(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| **byte == 0).count()
}

/// A line of `max` bytes may have CR LF after it; what has no LF by then is over the limit wherever its end is.
fn cut_line(held: &[u8], max: usize) -> Option<Cut> {
    let window = &held[..held.len().min(max + 2)];
    match memchr::memchr(b'\n', window) {
        Some(at) => {
            let end = if at > 0 && held[at - 1] == b'\r' { at - 1 } else { at };
            Some(Cut { from: 0, to: end.min(max), consume: at + 1, truncated: end > max, skip: Skip::Nothing })
        }
        None if held.len() >= max + 2 => {
            Some(Cut { from: 0, to: max, consume: max, truncated: true, skip: Skip::Line })
        }
        None => None,
    }
}

fn cut_counted(held: &[u8], prefix: usize, len: usize, max: usize) -> Option<Cut> {
    let want = len.min(max);
    if held.len() < prefix + want {
        return None;
    }
    let consume = prefix + want;
    let skip = if len > max { Skip::Bytes(len - max) } else { Skip::Nothing };
    Some(Cut { from: prefix, to: consume, consume, truncated: len > max, skip })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Owned = (Vec<u8>, bool);

    /// Gives at most so many bytes a read, in turn.
    struct Chunks<'a> {
        bytes: &'a [u8],
        sizes: Vec<usize>,
        turn: usize,
    }

    impl embedded_io::ErrorType for Chunks<'_> {
        type Error = core::convert::Infallible;
    }

    impl Read for Chunks<'_> {
        fn read(&mut self, buf: &mut [u8]) -> Result<usize, Self::Error> {
            let size = self.sizes[self.turn % self.sizes.len()].max(1);
            self.turn += 1;
            let n = size.min(buf.len()).min(self.bytes.len());
            buf[..n].copy_from_slice(&self.bytes[..n]);
            self.bytes = &self.bytes[n..];
            Ok(n)
        }
    }

    /// All frames, with the stream's offset after each.
    fn run(framing: Framing, max: usize, bytes: &[u8], sizes: &[usize]) -> Vec<(Owned, u64)> {
        let mut framer = Framer::new(framing, max, 64);
        let mut from = Chunks { bytes, sizes: sizes.to_vec(), turn: 0 };
        let mut out = Vec::new();
        loop {
            loop {
                let len = framer.peek_len();
                let Some(frame) = framer.next_frame() else { break };
                assert_eq!(len, Some(frame.bytes.len()));
                let owned = (frame.bytes.to_vec(), frame.truncated);
                out.push((owned, framer.offset()));
            }
            if framer.fill(&mut from).unwrap() == 0 {
                break;
            }
        }
        if let Some(frame) = framer.flush() {
            let owned = (frame.bytes.to_vec(), frame.truncated);
            out.push((owned, framer.offset()));
        }
        assert_eq!(framer.offset(), bytes.len() as u64, "every byte is accounted for");
        out
    }

    fn frames(framing: Framing, max: usize, bytes: &[u8]) -> Vec<Owned> {
        run(framing, max, bytes, &[usize::MAX]).into_iter().map(|(frame, _)| frame).collect()
    }

    /// What lines are, said as plainly as possible.
    fn model(bytes: &[u8], max: usize) -> Vec<Owned> {
        let mut parts: Vec<&[u8]> = bytes.split(|b| *b == b'\n').collect();
        let tail = parts.pop().unwrap();
        let mut out: Vec<Owned> = parts
            .into_iter()
            .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
            .map(|line| (line[..line.len().min(max)].to_vec(), line.len() > max))
            .collect();
        if !tail.is_empty() {
            out.push((tail[..tail.len().min(max)].to_vec(), tail.len() > max));
        }
        out
    }

    fn liney() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(
            prop_oneof![4 => Just(b'a'), 2 => Just(b'\n'), 1 => Just(b'\r'), 1 => any::<u8>()],
            0..400,
        )
    }

    proptest! {
        #[test]
        fn lines_are_what_the_model_says_however_they_arrive(
            bytes in liney(), max in 1usize..40, sizes in prop::collection::vec(1usize..50, 1..6)
        ) {
            let got: Vec<Owned> = run(Framing::Lines, max, &bytes, &sizes).into_iter().map(|(f, _)| f).collect();
            prop_assert_eq!(got, model(&bytes, max));
        }

        #[test]
        fn counted_messages_come_back_whole_or_cut_at_the_limit(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..8),
            max in 1usize..40, sizes in prop::collection::vec(1usize..50, 1..6)
        ) {
            let mut bytes = Vec::new();
            let mut expect = Vec::new();
            for body in &messages {
                let message: Vec<u8> = [b"<", body.as_slice()].concat();
                bytes.extend_from_slice(format!("{} ", message.len()).as_bytes());
                bytes.extend_from_slice(&message);
                expect.push((message[..message.len().min(max)].to_vec(), message.len() > max));
            }
            let got: Vec<Owned> = run(Framing::Syslog, max, &bytes, &sizes).into_iter().map(|(f, _)| f).collect();
            prop_assert_eq!(got, expect);
        }

        #[test]
        fn arbitrary_syslog_streams_give_the_same_frames_in_any_split(
            bytes in prop::collection::vec(prop_oneof![Just(b'1'), Just(b'9'), Just(b' '), Just(b'<'), Just(b'\n'), any::<u8>()], 0..300),
            max in 1usize..40, sizes in prop::collection::vec(1usize..50, 1..6)
        ) {
            let whole: Vec<Owned> = frames(Framing::Syslog, max, &bytes);
            let split: Vec<Owned> = run(Framing::Syslog, max, &bytes, &sizes).into_iter().map(|(f, _)| f).collect();
            prop_assert_eq!(whole, split);
        }

        #[test]
        fn a_reader_that_starts_again_at_the_offset_neither_repeats_nor_loses(
            bytes in liney(), max in 1usize..40, stop in 0usize..20
        ) {
            let whole = frames(Framing::Lines, max, &bytes);
            let mut framer = Framer::new(Framing::Lines, max, 64);
            let mut got = Vec::new();
            let mut from = Chunks { bytes: &bytes, sizes: vec![7], turn: 0 };
            while got.len() < stop {
                let frame = framer.next_frame().map(|frame| (frame.bytes.to_vec(), frame.truncated));
                let Some(frame) = frame else {
                    if framer.fill(&mut from).unwrap() == 0 {
                        break;
                    }
                    continue;
                };
                got.push(frame);
            }
            let (offset, skip) = (framer.offset(), framer.skip());
            let mut again = Framer::new(Framing::Lines, max, 64);
            again.restart(offset, skip);
            let mut rest = Chunks { bytes: &bytes[offset as usize..], sizes: vec![11], turn: 0 };
            loop {
                while let Some(frame) = again.next_frame() {
                    got.push((frame.bytes.to_vec(), frame.truncated));
                }
                if again.fill(&mut rest).unwrap() == 0 {
                    break;
                }
            }
            got.extend(again.flush().map(|frame| (frame.bytes.to_vec(), frame.truncated)));
            prop_assert_eq!(got, whole);
        }
    }

    proptest! {
        #[test]
        fn what_stands_around_a_hole_is_a_line_each_however_long_it_is_and_however_it_arrives(
            before in 0usize..30, zeros in HOLE..300, end in any::<bool>(), max in 10usize..40,
            sizes in prop::collection::vec(1usize..50, 1..6)
        ) {
            let begun = "b".repeat(before);
            let hole = "\0".repeat(zeros);
            let bytes = format!("first\n{begun}{hole}{}behind\nlast\n", if end { "\n" } else { "" });
            let mut framer = Framer::new(Framing::Lines, max, 64);
            framer.expect_holes(bytes.len() as u64);
            let mut from = Chunks { bytes: bytes.as_bytes(), sizes, turn: 0 };
            let mut got = Vec::new();
            loop {
                while let Some(frame) = framer.next_frame() {
                    got.push((String::from_utf8_lossy(frame.bytes).into_owned(), frame.truncated));
                }
                if framer.fill(&mut from).unwrap() == 0 {
                    break;
                }
            }
            let mut expect = vec![("first".to_owned(), false)];
            if before > 0 {
                expect.push((begun[..before.min(max)].to_owned(), true));
            }
            expect.extend([("behind".to_owned(), false), ("last".to_owned(), false)]);
            prop_assert_eq!(got, expect);
            prop_assert_eq!((framer.take_passed(), framer.offset()), (zeros as u64, bytes.len() as u64));
        }
    }

    #[test]
    fn zeros_are_bytes_like_others_where_no_holes_are_expected_and_where_they_are_few() {
        let many = [b"a\n".as_slice(), &[0; HOLE], b"b\n"].concat();
        let few = [b"c\0d".as_slice(), &[0; HOLE - 1], b"e\n"].concat();
        let bytes = [many.as_slice(), &few].concat();
        let mut framer = Framer::new(Framing::Lines, 100, 64);
        framer.expect_holes(2);
        framer.fill(&mut bytes.as_slice()).unwrap();
        assert_eq!(framer.next_frame().unwrap().bytes, b"a");
        assert_eq!(framer.next_frame().unwrap().bytes, &many[2..many.len() - 1]);
        framer.restart(0, Skip::Nothing);
        framer.expect_holes(1000);
        framer.fill(&mut few.as_slice()).unwrap();
        assert_eq!(framer.next_frame().unwrap().bytes, &few[..few.len() - 1]);
        assert_eq!(framer.take_passed(), 0);
    }

    #[test]
    fn a_line_of_the_limit_is_whole_with_lf_or_crlf_and_cut_with_one_byte_more() {
        let got = frames(Framing::Lines, 4, b"abcd\nabcd\r\nabcde\nabcde\r\nx\n");
        let expect = [("abcd", false), ("abcd", false), ("abcd", true), ("abcd", true), ("x", false)];
        assert_eq!(got, expect.map(|(line, cut)| (line.as_bytes().to_vec(), cut)));
    }

    #[test]
    fn counted_and_newline_messages_mix_in_one_stream() {
        let got = frames(Framing::Syslog, 64, b"7 <13>a\nb<14>line\n5 <15>x2026 not a count\n12 <16>cut off");
        let expect = [
            ("<13>a\nb", false),
            ("<14>line", false),
            ("<15>x", false),
            ("2026 not a count", false),
            ("<16>cut off", true),
        ];
        assert_eq!(got, expect.map(|(line, cut)| (line.as_bytes().to_vec(), cut)));
    }

    #[test]
    fn an_endless_line_takes_no_more_memory_than_the_block() {
        let mut framer = Framer::new(Framing::Lines, 100, 64);
        let endless = vec![b'x'; 100_000];
        let mut from = endless.as_slice();
        let mut count = 0;
        loop {
            while framer.next_frame().is_some() {
                count += 1;
            }
            if framer.fill(&mut from).unwrap() == 0 {
                break;
            }
            assert!(framer.buf.len() <= 100 + AROUND);
        }
        assert_eq!((count, framer.skip()), (1, Skip::Line));
    }
}
