//! Checkpoints beside a model: a file in memory that grows, is emptied, loses its tail when the power goes, and a reader
//! that is killed and comes back. Laws: what is in the file is taken; what is taken again is marked, and not more of it
//! than what was lost; where no power goes, everything is as if there were no anchors.

use std::collections::BTreeSet;

use super::*;
use crate::framing::{Framer, Framing};
use crate::limits::MAX_STATE_OWNER_BYTES;
use proptest::prelude::*;

const BOOT: u32 = 7;

fn checkpoint(content: &[u8], offset: u64) -> Checkpoint {
    Checkpoint::at(offset, Print::of(content, offset), false)
}

fn hash_in(content: &[u8], place: u64) -> u32 {
    let end = (place as usize).min(content.len());
    hash_of(&content[(place as usize).saturating_sub(ANCHOR_WINDOW).min(end)..end])
}

fn head(content: &[u8]) -> &[u8] {
    &content[..content.len().min(PRINT_BYTES)]
}

fn judge(point: &Checkpoint, boot: u32, content: &[u8]) -> Verdict {
    let look = Look { boot, size: content.len() as u64, head: head(content) };
    point.judge(&look, &mut |place| Ok(hash_in(content, place))).unwrap()
}

fn meet(point: &mut Checkpoint, verdict: Verdict, boot: u32, content: &[u8]) -> bool {
    let look = Look { boot, size: content.len() as u64, head: head(content) };
    point.meet(verdict, &look, &mut |place| Ok(hash_in(content, place)))
}

proptest! {
    #[test]
    fn a_file_that_only_grew_is_the_same(
        content in prop::collection::vec(any::<u8>(), 0..600), more in prop::collection::vec(any::<u8>(), 0..600), cut in 0.0..1.0
    ) {
        let offset = (content.len() as f64 * cut) as u64;
        let known = checkpoint(&content, offset);
        let grown = [content, more].concat();
        prop_assert_eq!(judge(&known, BOOT, &grown), Verdict::Same);
    }

    #[test]
    fn checkpoints_come_back_from_their_state_entry(
        offset in any::<u64>(), skip_line in any::<bool>(), head in prop::collection::vec(any::<u8>(), 0..300),
        boot in any::<u32>(), ahead in (0u64..1 << 40, 0u64..1 << 40), steps in prop::collection::vec((1u64..1 << 40, any::<u32>()), 0..60)
    ) {
        let mut known = Checkpoint { boot: Some(boot), ..Checkpoint::default() };
        let mut place = 0;
        for (step, hash) in steps {
            place += step;
            known.advance(place, false, Some(hash), MAX_ANCHORS);
        }
        (known.offset, known.skip_line) = (known.offset.max(offset), skip_line);
        known.print = Print::of(&head, known.offset);
        let place = |ahead: u64| if ahead > 0 && known.offset < u64::MAX { known.offset.saturating_add(ahead) } else { 0 };
        (known.again, known.met_size) = (place(ahead.0), place(ahead.1));
        prop_assert_eq!(Checkpoint::decode(&known.encode(MAX_ANCHORS)), Some(known.clone()));
        // Where there is no room for anchors it is what it was before there were any.
        let plain = Checkpoint::at(known.offset, known.print, skip_line);
        prop_assert_eq!(Checkpoint::decode(&known.encode(0)), Some(plain));
        prop_assert!(known.encode(0).len() <= 24);
    }

    #[test]
    fn a_program_without_anchors_reads_what_one_with_them_wrote_and_the_other_way_round(
        content in prop::collection::vec(any::<u8>(), 0..600), boot in any::<u32>(), hash in any::<u32>()
    ) {
        /// As it was.
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct Before { offset: u64, print: Print, skip_line: bool }
        let offset = content.len() as u64;
        let mut known = Checkpoint { boot: Some(boot), print: Print::of(&content, offset), ..Checkpoint::default() };
        known.advance(offset, false, Some(hash), MAX_ANCHORS);
        let before = Before { offset, print: known.print, skip_line: false };
        let read: Before = postcard::from_bytes(&known.encode(MAX_ANCHORS)).unwrap();
        prop_assert_eq!(&read, &before);
        let old = Checkpoint::decode(&postcard::to_allocvec(&before).unwrap()).unwrap();
        prop_assert_eq!(&old, &checkpoint(&content, offset));
        prop_assert_eq!(judge(&old, boot.wrapping_add(1), &content), Verdict::Same, "and taken as it always was");
    }

    #[test]
    fn in_one_boot_a_file_is_judged_by_its_size_and_first_bytes_alone(
        mut content in prop::collection::vec(any::<u8>(), 1..2000), offset in 0.0..1.0, cut in 0.0..1.0,
        touched in prop::option::of(0.0..1.0), more in prop::collection::vec(any::<u8>(), 0..600)
    ) {
        let offset = (content.len() as f64 * offset) as u64;
        let mut known = checkpoint(&content, offset);
        meet(&mut known, Verdict::Same, BOOT, &content);
        known.advance(offset, false, Some(hash_in(&content, offset)), MAX_ANCHORS);
        content.truncate((content.len() as f64 * cut) as usize);
        content.extend(more);
        let len = content.len();
        if let Some(byte) = touched.and_then(|at| content.get_mut((len as f64 * at) as usize)) {
            *byte ^= 1;
        }
        let same = content.len() as u64 >= offset && known.print.fits(head(&content));
        let verdict = if same { Verdict::Same } else { Verdict::BeginAgain };
        prop_assert_eq!(judge(&known, BOOT, &content), verdict);
        prop_assert!(!meet(&mut known, verdict, BOOT, &content));
        prop_assert!(!known.may_repeat(0) && known.holes_until() == 0);
    }

    #[test]
    fn arbitrary_state_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let _ = (Checkpoint::decode(&bytes), FileId::from_key(&bytes));
    }
}

#[test]
fn a_file_that_shrank_begins_again() {
    let known = checkpoint(b"one\ntwo\n", 8);
    assert_eq!(judge(&known, BOOT, b"one\n"), Verdict::BeginAgain);
}

#[test]
fn another_file_on_the_same_inode_begins_again_even_when_it_is_longer() {
    let known = checkpoint(b"one\ntwo\n", 8);
    assert_eq!(judge(&known, BOOT, b"uno\ndos\ntres"), Verdict::BeginAgain);
    assert_eq!(judge(&known, BOOT, b"one\ntwo\ntres"), Verdict::Same);
}

#[test]
fn identities_come_back_from_their_key() {
    let id = FileId { device: 0x1234_5678_9abc, inode: 42 };
    assert_eq!(FileId::from_key(&id.to_key()), Some(id));
    assert_eq!(FileId::from_key(b"seen"), None);
}

#[test]
fn the_checkpoints_of_any_number_of_files_fit_the_state_of_their_source() {
    // Those that cannot be seen come to those that are followed.
    for files in 1..=crate::limits::MAX_FOLLOWED_FILES * 3 / 2 {
        let each =
            16 + 24 + anchors_each(files) * ANCHOR_BYTES + if anchors_each(files) > 0 { BESIDE_ANCHORS } else { 0 };
        assert!(files * each + 4 <= MAX_STATE_OWNER_BYTES, "{files} files of {each} bytes");
    }
    assert_eq!((anchors_each(32), anchors_each(512), anchors_each(513)), (MAX_ANCHORS, 2, 0));
    let mut known = Checkpoint { boot: Some(BOOT), print: Print { len: 256, hash: u64::MAX }, ..Checkpoint::default() };
    for step in 0..100_000 {
        known.advance(step * 3000, false, Some(u32::MAX), MAX_ANCHORS);
    }
    (known.again, known.met_size) = (known.offset + (1 << 28) - 1, known.offset + (1 << 28) - 1);
    assert!(known.encode(MAX_ANCHORS).len() <= 24 + BESIDE_ANCHORS + MAX_ANCHORS * ANCHOR_BYTES);
}

#[test]
fn a_file_on_the_inode_of_another_begins_again_also_after_a_boot_and_its_lines_are_no_repeats() {
    let old: Vec<u8> = (0..1000).flat_map(|n| format!("line {n} of the old one\n").into_bytes()).collect();
    let mut known = checkpoint(&old, old.len() as u64);
    meet(&mut known, Verdict::Same, BOOT, &old);
    known.advance(old.len() as u64, false, Some(hash_in(&old, old.len() as u64)), MAX_ANCHORS);
    for lines in [3, 2000] {
        let new: Vec<u8> = (0..lines).flat_map(|n| format!("line {n} of the new one\n").into_bytes()).collect();
        assert_eq!(judge(&known, BOOT + 1, &new), Verdict::BeginAgain);
        let mut met = known.clone();
        let is_cut = meet(&mut met, Verdict::BeginAgain, BOOT + 1, &new);
        assert_eq!((is_cut, met.offset, met.may_repeat(0)), (false, 0, false));
    }
}

#[test]
fn a_file_that_is_cut_to_the_bone_begins_again_and_is_marked() {
    let old: Vec<u8> = (0..1000).flat_map(|n| format!("line {n}\n").into_bytes()).collect();
    let mut known = checkpoint(&old, old.len() as u64);
    meet(&mut known, Verdict::Same, BOOT, &old);
    known.advance(old.len() as u64, false, Some(hash_in(&old, old.len() as u64)), MAX_ANCHORS);
    let left = [&old[..300], b"\nnew\n"].concat();
    assert_eq!(judge(&known, BOOT + 1, &left), Verdict::BeginAgain);
    assert!(meet(&mut known, Verdict::BeginAgain, BOOT + 1, &left));
    assert!(known.offset == 0 && known.may_repeat(304) && !known.may_repeat(305));
}

/// What happens to the file and its reader.
#[derive(Clone, Debug)]
enum Step {
    Append {
        lines: usize,
        width: usize,
    },
    /// So many groups, then the reader is killed.
    Read {
        groups: usize,
    },
    ReadAll,
    /// All that is in the file is on the device.
    Sync,
    /// Of what is not on the device so much is kept, so much of the rest is zeros; then the writer goes on.
    PowerCut {
        kept: f64,
        zeros: f64,
        lines: usize,
    },
    /// A page that is not on the device is zeros, although what is behind it is kept; the writer goes on.
    Hole {
        at: f64,
        lines: usize,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1usize..300, 0usize..200).prop_map(|(lines, width)| Step::Append { lines, width }),
        3 => (1usize..10).prop_map(|groups| Step::Read { groups }),
        2 => Just(Step::ReadAll),
        1 => Just(Step::Sync),
        2 => (0.0..1.0, prop_oneof![Just(0.0), 0.0..1.0], 0usize..200)
            .prop_map(|(kept, zeros, lines)| Step::PowerCut { kept, zeros, lines }),
        1 => (0.0..1.0, 0usize..50).prop_map(|(at, lines)| Step::Hole { at, lines }),
    ];
    prop::collection::vec(step, 1..40)
}

/// Lines that were lost leave a space before what follows: each says at both ends which it is.
fn line_in(piece: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(&piece[piece.iter().rposition(|byte| *byte == b'<')?..]).ok()?;
    let (begin, end) = text.strip_prefix('<')?.strip_suffix('>')?.split_once(':')?;
    let (begin, end): (usize, usize) = (begin.parse().ok()?, end.rsplit_once(':')?.1.parse().ok()?);
    (begin == end).then_some(begin)
}

#[derive(Default)]
struct World {
    content: Vec<u8>,
    synced: usize,
    lines: usize,
    boot: u32,
    cuts: usize,
    /// What is durable of the reader.
    entry: Option<Vec<u8>>,
    taken: BTreeSet<usize>,
    marked: usize,
    /// The most bytes between two checkpoints.
    longest: usize,
    /// Bytes of lines taken in this boot that were taken before.
    repeated: usize,
    /// The most that may be.
    bound: usize,
}

impl World {
    const GROUP: usize = 1500;

    fn new() -> Self {
        let mut world = Self::default();
        world.append(20, 30);
        world.synced = world.content.len();
        world
    }

    fn append(&mut self, lines: usize, width: usize) {
        for _ in 0..lines {
            let (n, x) = (self.lines, "x".repeat(width));
            self.content.extend(format!("<{n}:{x}:{n}>\n").bytes());
            self.lines += 1;
        }
    }

    fn known(&self) -> Checkpoint {
        match &self.entry {
            Some(entry) => Checkpoint::decode(entry).unwrap(),
            None if self.boot > 0 => Checkpoint::before(self.boot),
            None => Checkpoint::default(),
        }
    }

    /// As the source does it, from a start to a `kill -9`.
    fn read(&mut self, groups: usize) {
        let mut point = self.known();
        let verdict = judge(&point, self.boot, &self.content);
        if verdict != Verdict::Same || !point.was_met_in(self.boot) {
            meet(&mut point, verdict, self.boot, &self.content);
            self.entry = Some(point.encode(MAX_ANCHORS));
        }
        let mut framer = Framer::new(Framing::Lines, 2000, 4096);
        framer.restart(point.offset, point.skip());
        framer.expect_holes(point.holes_until());
        let content = self.content.clone();
        let mut from = &content[point.offset as usize..];
        for _ in 0..groups {
            while framer.peek_len().is_none() && framer.fill(&mut from).unwrap() > 0 {}
            let begin = framer.offset();
            while framer.peek_len().is_some_and(|_| framer.offset() - begin < Self::GROUP as u64) {
                let again = point.may_repeat(framer.offset());
                let Some(frame) = framer.next_frame() else { break };
                self.take(frame.bytes, again);
            }
            if framer.offset() == begin {
                return;
            }
            let offset = framer.offset();
            self.longest = self.longest.max((offset - point.offset) as usize);
            point.advance(offset, framer.skip() == Skip::Line, Some(hash_in(&content, offset)), MAX_ANCHORS);
            if point.print.can_grow(offset) {
                point.print = Print::of(head(&content), offset);
            }
            self.entry = Some(point.encode(MAX_ANCHORS));
        }
    }

    fn take(&mut self, piece: &[u8], marked: bool) {
        self.marked += usize::from(marked);
        let Some(n) = line_in(piece) else { return };
        if !self.taken.insert(n) {
            assert!(marked, "line {n} is taken again, unmarked");
            self.repeated += piece.len() + 1;
            let bound = self.bound;
            assert!(self.repeated <= bound, "{} bytes are read again, where {bound} may be", self.repeated);
        }
    }

    /// What is in the file by now has been taken.
    fn check(&mut self) {
        self.read(usize::MAX);
        for piece in self.content.split_inclusive(|byte| *byte == b'\n').filter_map(|line| line.strip_suffix(b"\n")) {
            if let Some(n) = line_in(piece) {
                assert!(self.taken.contains(&n), "line {n} was missed");
            }
        }
        if self.cuts == 0 {
            assert_eq!((self.marked, self.taken.len()), (0, self.lines));
        }
    }

    /// `damaged`: from where on what was in the file is not there, but for so many bytes that are `left`.
    fn boot(&mut self, damaged: usize, left: usize, lines: usize) {
        let lost = (self.known().offset as usize).saturating_sub(damaged);
        // What was not read again in the boot before comes in this one.
        let more = if lost == 0 { 0 } else { left + lost.max(GRAIN as usize).max(self.longest) };
        self.bound = self.bound + more - self.repeated;
        (self.repeated, self.boot, self.cuts) = (0, self.boot + 1, self.cuts + 1);
        self.synced = self.content.len();
        self.append(lines, 40);
    }

    fn step(&mut self, step: &Step) {
        let unsynced = self.content.len() - self.synced;
        match *step {
            Step::Append { lines, width } => self.append(lines, width),
            Step::Read { groups } => self.read(groups),
            Step::ReadAll => self.check(),
            Step::Sync => self.synced = self.content.len(),
            Step::PowerCut { kept, zeros, lines } => {
                let kept = (unsynced as f64 * kept) as usize;
                let zeros = ((unsynced - kept) as f64 * zeros) as usize;
                self.content.truncate(self.synced + kept);
                let damaged = self.content.len();
                self.content.extend(std::iter::repeat_n(0, zeros));
                self.boot(damaged, 0, lines);
            }
            Step::Hole { at, lines } => {
                let from = self.synced + (unsynced as f64 * at) as usize;
                let to = (from + GRAIN as usize).min(self.content.len());
                self.content[from..to].fill(0);
                self.boot(from, self.content.len() - to, lines);
            }
        }
    }
}

#[test]
fn an_anchor_that_stood_in_a_hole_is_in_nobodys_way() {
    let steps = [
        Step::Append { lines: 137, width: 188 },
        Step::Append { lines: 129, width: 5 },
        Step::Sync,
        Step::Append { lines: 58, width: 62 },
        Step::PowerCut { kept: 0.06252338532902763, zeros: 0.0, lines: 147 },
        Step::Append { lines: 90, width: 31 },
        Step::ReadAll,
        Step::Hole { at: 0.5347818634795765, lines: 7 },
        Step::Read { groups: 1 },
        Step::Append { lines: 226, width: 73 },
        Step::Append { lines: 35, width: 50 },
        Step::ReadAll,
        Step::PowerCut { kept: 0.40955388206756355, zeros: 0.0, lines: 0 },
        Step::Append { lines: 1, width: 0 },
    ];
    let mut world = World::new();
    steps.iter().for_each(|step| world.step(step));
    world.check();
}

proptest! {
    #[test]
    fn no_line_is_missed_and_of_what_was_left_no_more_is_read_again_than_was_lost(steps in steps()) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
        }
        world.check();
    }

    #[test]
    fn what_is_left_out_of_anchors_stays_within_the_bound(
        steps in prop::collection::vec(1u64..40_000, 1..2000), most in 5usize..=MAX_ANCHORS
    ) {
        let mut known = Checkpoint::default();
        let (mut place, mut longest) = (0, GRAIN);
        for step in steps {
            place += step;
            longest = longest.max(step);
            known.advance(place, false, Some(0), most);
            prop_assert!(known.anchors() <= most);
        }
        let ends = known.anchors.iter().map(|anchor| anchor.offset);
        let reaches_far = place - known.anchors.last().unwrap().offset >= 4 << 20;
        let behind = known.anchors[1..].iter().map(|anchor| anchor.offset).chain((!reaches_far).then_some(0));
        for (newer, older) in ends.zip(behind) {
            let lost = place - newer;
            prop_assert!(newer - older <= longest.max(lost * ratio(most)), "{:?} at {place}", known.anchors);
        }
    }
}
