//! The account of one stream of a sink in a lane: promise 2, kept in one state entry with those of the lane's other streams
//! ([`super::streams`]), atomic with the cursor.
//!
//! Beside it go the shares of the topics ([`super::shares`]) and the records of `headwater-gaps` that tell of the losses
//! ([`super::losses`]): all of it moves when the cursor does, from what the sink has noted of the records before it
//! ([`super::ahead`]) and the gaps that it has met.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::Counts;
use super::ahead::{Ahead, Cell, When};
use super::elsewhere::Elsewhere;
use super::letters::{Letter, Waiting};
use super::losses::{Loss, Losses};
use super::shares::{Piece, Shares};
use crate::ring::{Gap, GapPart, GapReason, LanePos, LaneStats, Ticket};
use crate::topic::{TopicId, TopicPart};

/// Gaps that a sink has met and not yet passed: as many holes as a reader can meet while one batch is on its way.
const MAX_OPEN_GAPS: usize = 1024;
/// Offsets that are kept of the ends of gaps; what is more has no topics.
const MAX_ENDS: usize = 4096;

/// What was counted of a stream, or of all streams of a lane together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Where the sink was first configured, or the stream was split off.
    pub start: LanePos,
    /// Everything below is accounted for, in this stream.
    pub cursor: LanePos,
    pub delivered: u64,
    pub filtered: u64,
    pub refused: u64,
    pub evicted: u64,
    pub expired: u64,
    pub corrupt: u64,
    pub lost_unsynced: u64,
    pub released: u64,
}

/// What became of records between two cursor positions, in ring records; gaps are added by the book itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub delivered: u64,
    pub filtered: u64,
    pub refused: u64,
    pub expired: u64,
    pub released: u64,
}

impl Tally {
    pub fn total(self) -> u64 {
        self.delivered + self.filtered + self.refused + self.expired + self.released
    }

    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            delivered: self.delivered + other.delivered,
            filtered: self.filtered + other.filtered,
            refused: self.refused + other.refused,
            expired: self.expired + other.expired,
            released: self.released + other.released,
        }
    }

    /// Whether none of the counts is higher than the other's.
    fn fits(self, other: Self) -> bool {
        self.delivered <= other.delivered
            && self.filtered <= other.filtered
            && self.refused <= other.refused
            && self.expired <= other.expired
            && self.released <= other.released
    }
}

impl Account {
    pub fn new(start: LanePos) -> Self {
        Self { start, cursor: start, ..Self::default() }
    }

    /// Counts what another stream counted.
    pub(super) fn add(&mut self, more: Counts) {
        self.delivered += more.delivered;
        self.filtered += more.filtered;
        self.refused += more.refused;
        self.evicted += more.evicted;
        self.expired += more.expired;
        self.corrupt += more.corrupt;
        self.lost_unsynced += more.lost_unsynced;
        self.released += more.released;
    }

    pub fn counts(&self) -> Counts {
        Counts {
            delivered: self.delivered,
            filtered: self.filtered,
            refused: self.refused,
            evicted: self.evicted,
            expired: self.expired,
            corrupt: self.corrupt,
            lost_unsynced: self.lost_unsynced,
            released: self.released,
        }
    }

    /// The same without what is at `end` or beyond. What that was is not known any more; most of what a sink passes it
    /// delivers.
    pub(super) fn back_to(&self, end: LanePos) -> Self {
        let mut account = *self;
        let mut beyond = self.cursor.ordinal.saturating_sub(end.ordinal);
        if beyond > 0 {
            (account.cursor, account.start) = (end, self.start.min(end));
        }
        let Self { delivered, filtered, refused, evicted, expired, corrupt, lost_unsynced, released, .. } =
            &mut account;
        for count in [delivered, filtered, refused, evicted, expired, corrupt, lost_unsynced, released] {
            let less = beyond.min(*count);
            *count -= less;
            beyond -= less;
        }
        account
    }

    /// Everything that has been accounted for, by the identity of promise 2.
    pub fn settled(&self) -> u64 {
        self.counts().total()
    }

    /// What holds at every moment: the records between start and cursor are all accounted for.
    pub fn balances(&self) -> bool {
        self.cursor.ordinal - self.start.ordinal == self.settled()
    }
}

/// What is known of the records of a gap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Within {
    #[default]
    Unknown,
    Parts(Vec<GapPart>),
    /// The next offsets of all partitions behind it, and when that was.
    Ends(Vec<(TopicPart, u64)>, Option<When>),
}

/// A gap ahead of the cursor, in ordinals.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Hole {
    from: u64,
    to: u64,
    reason: GapReason,
    within: Within,
}

/// The live account: the stored one, and what is known of the records ahead of the cursor.
#[derive(Clone, Debug, Default)]
pub(super) struct Book {
    /// Of its lane's streams, in the order in which they were made.
    pub number: u32,
    /// Nothing below was ever sent as this stream: the account may begin lower, with what it absorbed.
    pub from: LanePos,
    /// Nothing was ever sent as this stream.
    pub unstarted: bool,
    /// When it is durable that there is this stream: nothing of it may be sent before. None: the ring was not told.
    pub born: Option<Ticket>,
    /// The seq at which a reader last found nothing that is before the stream's end.
    pub through: Option<u64>,
    pub account: Account,
    pub shares: Shares,
    pub ahead: Ahead,
    /// Counted and not told yet.
    pub losses: Losses,
    /// Dead letters of records that were read and not passed yet.
    pub letters: Waiting,
    /// When the last record before the cursor was admitted that could be read.
    pub seen: Option<When>,
    /// In order, without overlaps.
    gaps: VecDeque<Hole>,
    /// What it has from another ring; apart from `gaps`.
    pub elsewhere: Elsewhere,
    /// Changed since it was last given to the ring.
    pub dirty: bool,
}

impl Book {
    pub fn new(account: Account) -> Self {
        Self { account, from: account.start, dirty: true, ..Self::default() }
    }

    /// A stream by its number and where it began.
    pub fn numbered(number: u32, from: LanePos, unstarted: bool, account: Account, seen: Option<When>) -> Self {
        Self { number, from, unstarted, seen, ..Self::new(account) }
    }

    /// This stream absorbs `old`, the one before it, of which nothing is left to send.
    pub fn take_over(&mut self, old: &Self) {
        self.account.start = old.account.start;
        self.account.add(old.account.counts());
        self.shares.take_over(&old.shares);
        self.dirty = true;
    }

    /// This stream absorbs `next`, the one behind it, as which nothing was ever sent.
    pub fn go_on(&mut self, next: Self) {
        self.gaps.extend(next.gaps);
        self.elsewhere.append(next.elsewhere);
        self.through = None;
        self.dirty = true;
    }

    /// The reader met a gap. A sink that goes back to its cursor meets it again: it is noted once, as it was met last.
    pub fn met(&mut self, gap: &Gap, within: Within) {
        // Where only a seq was asked for it may seem to begin far below.
        let (from, to) = (gap.from.ordinal.max(self.account.start.ordinal), gap.to.ordinal);
        self.forget(from, to);
        let parts = self.elsewhere.outside(from, to);
        if from >= to || parts.is_empty() {
            return;
        }
        if to > self.account.cursor.ordinal {
            self.ahead.cut(from.max(self.account.cursor.ordinal));
            self.letters.cut(from);
        }
        let ends = self.gaps.iter().map(|hole| hole.within.ends().len()).sum::<usize>() + within.ends().len();
        // What the sink has from another ring is not in it: then nobody tells how the rest divides.
        let whole = ends <= MAX_ENDS && parts[..] == [(from, to)];
        let mut within = if whole { within } else { Within::Unknown };
        for (from, to) in parts {
            if self.gaps.len() >= MAX_OPEN_GAPS {
                return;
            }
            self.dirty = true;
            let at = self.gaps.partition_point(|known| known.to <= from);
            self.gaps.insert(at, Hole { from, to, reason: gap.reason, within: std::mem::take(&mut within) });
        }
    }

    /// Whether the record is not for this sink: it has it from another ring, or has met it in a gap. There it stays even
    /// if it could be read again: later records were sent since, and their markers say that everything before them is
    /// there.
    pub fn missed(&self, ordinal: u64) -> bool {
        self.elsewhere.has(ordinal) || self.gaps.iter().any(|hole| hole.from <= ordinal && ordinal < hole.to)
    }

    /// Of all gaps of the lane those that are ahead of the cursor and below `end`.
    pub fn restore_gaps(&mut self, gaps: &[(u64, u64, GapReason)], end: u64) {
        let ahead = gaps.iter().map(|(a, b, reason)| (*a, (*b).min(end), *reason));
        let ahead = ahead.filter(|(from, to, _)| from < to && *to > self.account.cursor.ordinal);
        self.gaps = ahead.map(|(from, to, reason)| Hole { from, to, reason, within: Within::Unknown }).collect();
    }

    /// Gaps ahead of the cursor: ordinals and reason.
    pub fn gaps(&self) -> impl Iterator<Item = (u64, u64, GapReason)> {
        self.gaps.iter().map(|hole| (hole.from, hole.to, hole.reason))
    }

    /// Cuts `[from, to)` out of the gaps.
    fn forget(&mut self, from: u64, to: u64) {
        let around = |hole: Hole| {
            // What is cut does not say any more what its pieces are.
            let whole = hole.to <= from || to <= hole.from;
            let within = if whole { hole.within } else { Within::Unknown };
            let before = Hole { to: hole.to.min(from), within: within.clone(), ..hole };
            let after = Hole { from: hole.from.max(to), within, ..hole };
            [before, after].into_iter().filter(|hole| hole.from < hole.to)
        };
        self.gaps = std::mem::take(&mut self.gaps).into_iter().flat_map(around).collect();
    }

    /// Moves the cursor to `to`. Records passed that neither `tally` nor a gap explains would break the identity: they
    /// are a bug of the caller, found in tests by the assertion and in the field counted as released. `room`: losses
    /// that may wait here.
    pub fn advance(&mut self, to: LanePos, tally: Tally, room: usize) {
        let from = self.account.cursor.ordinal;
        if to.ordinal < from {
            return;
        }
        let passed = to.ordinal - from;
        let there = self.elsewhere.pass(to.ordinal);
        let mut explained = tally.total() + there.total();
        let mut cells = Vec::new();
        loop {
            let hole = self.gaps.front().map_or(u64::MAX, |hole| hole.from);
            // In their order: how a gap divides follows from where it begins.
            self.pass_read(hole.min(to.ordinal), &mut cells);
            if hole >= to.ordinal {
                break;
            }
            let (count, whole) = self.pass_hole(from, to.ordinal, room);
            explained += count;
            if !whole {
                break;
            }
        }
        self.ahead.drop_below(to.ordinal);
        self.share(&cells, tally, room);
        debug_assert_eq!(passed, explained, "cursor moved over {passed} records, {explained} explained: {tally:?}");
        let account = &mut self.account;
        account.delivered += tally.delivered + there.delivered;
        account.filtered += tally.filtered + there.filtered;
        account.refused += tally.refused;
        account.expired += tally.expired;
        account.released += tally.released + there.released + passed.saturating_sub(explained);
        account.cursor = to;
        self.dirty = true;
    }

    /// The dead letters of what was passed.
    pub fn take_letters(&mut self) -> Vec<Letter> {
        let to = self.account.cursor.ordinal;
        std::iter::from_fn(|| self.letters.pass(to)).collect()
    }

    /// Passes what was read, up to `to`.
    fn pass_read(&mut self, to: u64, cells: &mut Vec<Cell>) {
        while let Some(segment) = self.ahead.pass(to) {
            segment.cells.iter().for_each(|cell| self.shares.passed(cell.part, cell.next));
            cells.extend(segment.cells);
            self.seen = Some(segment.seen);
        }
    }

    /// Counts the first gap, as far as the cursor passes it on its way from `from` to `to`: the number of its records, and
    /// whether that is all of it.
    fn pass_hole(&mut self, from: u64, to: u64, room: usize) -> (u64, bool) {
        let Some(hole) = self.gaps.front_mut() else { return (0, false) };
        let (reason, whole) = (hole.reason, hole.to <= to);
        let count = hole.to.min(to).saturating_sub(hole.from.max(from));
        *slot(&mut self.account, reason) += count;
        let within = if whole { std::mem::take(&mut hole.within) } else { Within::Unknown };
        if whole {
            self.gaps.pop_front();
        }
        let (pieces, last) = match &within {
            Within::Unknown => (None, None),
            Within::Parts(parts) => (pieces(parts, count), None),
            Within::Ends(ends, at) => (self.shares.divide(ends, count), *at),
        };
        let loss = Loss { topic: None, range: None, count, reason, first: self.seen, last };
        match pieces {
            Some(pieces) => pieces.into_iter().for_each(|piece| self.lose_piece(piece, loss, room)),
            None if count > 0 && loss.reason != GapReason::Passed => _ = self.losses.add(loss, room),
            None => {}
        }
        match within {
            Within::Unknown => {}
            Within::Parts(parts) => parts.iter().for_each(|p| self.shares.passed(p.part, p.to_offset)),
            Within::Ends(ends, _) => self.shares.passed_gap(&ends),
        }
        (count, whole)
    }

    fn lose_piece(&mut self, Piece { part, from, to }: Piece, loss: Loss, room: usize) {
        let count = to - from;
        let loss = Loss { topic: Some(part.topic), range: Some((part.partition, from, to)), count, ..loss };
        self.lose(part.topic, loss, room);
    }

    fn lose(&mut self, topic: TopicId, loss: Loss, room: usize) {
        if loss.reason == GapReason::Passed || self.losses.add(loss, room) {
            let mut counts = Counts::default();
            *counts.of_gap(loss.reason) = loss.count;
            self.shares.count(topic, counts);
        }
    }

    /// Divides what the sink says of the records that it read among their topics, as far as it agrees with what was noted.
    fn share(&mut self, cells: &[Cell], tally: Tally, room: usize) {
        let sum = cells.iter().fold(Tally::default(), |sum, cell| sum.plus(cell.tally));
        let cells = if sum.fits(tally) { cells } else { &[] };
        let reason = GapReason::Expired;
        let mut of_no_topic = tally.expired;
        for cell in cells {
            let mut counts = cell.counts();
            let count = std::mem::take(&mut counts.expired);
            if counts != Counts::default() {
                self.shares.count(cell.part.topic, counts);
            }
            if let Some(e) = cell.expired {
                of_no_topic -= count;
                let (topic, range) = (Some(cell.part.topic), Some((cell.part.partition, e.from, e.to)));
                let loss = Loss { topic, range, count, reason, first: Some(e.first), last: Some(e.last) };
                self.lose(cell.part.topic, loss, room);
            }
        }
        if of_no_topic > 0 {
            let loss = Loss { topic: None, range: None, count: of_no_topic, reason, first: None, last: self.seen };
            self.losses.add(loss, room);
        }
    }

    /// The account as a person may see it now, of a stream that ends at `end`: what was evicted before the sink came to it is
    /// shown at once, and so is what it has from another ring.
    pub fn as_of(&self, lane: &LaneStats, end: LanePos) -> (Account, u64) {
        let mut account = self.account;
        let mut elsewhere = self.elsewhere.clone();
        let oldest = lane.oldest.ordinal.min(end.ordinal);
        let (gone, there) = (elsewhere.pass(oldest), elsewhere.pass(end.ordinal));
        let evicted = oldest.saturating_sub(account.cursor.ordinal);
        account.evicted += evicted - gone.total();
        account.delivered += gone.delivered + there.delivered;
        account.filtered += gone.filtered + there.filtered;
        account.released += gone.released + there.released;
        account.cursor.ordinal += evicted;
        let ahead = end.ordinal.saturating_sub(account.cursor.ordinal);
        (account, ahead.saturating_sub(there.total()))
    }
}

impl Within {
    fn ends(&self) -> &[(TopicPart, u64)] {
        match self {
            Self::Ends(ends, _) => ends,
            Self::Unknown | Self::Parts(_) => &[],
        }
    }
}

/// What a gap says itself of its records, where that is all of them.
fn pieces(parts: &[GapPart], count: u64) -> Option<Vec<Piece>> {
    let sum: u64 = parts.iter().map(|p| p.to_offset - p.from_offset).sum();
    let piece = |p: &GapPart| Piece { part: p.part, from: p.from_offset, to: p.to_offset };
    (sum == count).then(|| parts.iter().map(piece).collect())
}

fn slot(account: &mut Account, reason: GapReason) -> &mut u64 {
    match reason {
        GapReason::Evicted => &mut account.evicted,
        GapReason::Expired => &mut account.expired,
        GapReason::Corrupt => &mut account.corrupt,
        GapReason::LostUnsynced => &mut account.lost_unsynced,
        // Only what every sink has passed is dropped, and a crash took its cursor: see the ring's `spill`.
        GapReason::Passed => &mut account.delivered,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lane::LaneId;

    fn pos(n: u64) -> LanePos {
        LanePos { seq: n, ordinal: n }
    }

    fn gap(from: u64, to: u64, reason: GapReason) -> Gap {
        Gap { lane: LaneId(0), from: pos(from), to: pos(to), reason, parts: vec![] }
    }

    #[test]
    fn a_gap_is_counted_once_however_often_it_is_met() {
        let mut book = Book::new(Account::new(pos(10)));
        for _ in 0..3 {
            book.met(&gap(12, 20, GapReason::Evicted), Within::Unknown);
        }
        book.advance(pos(25), Tally { delivered: 4, filtered: 3, ..Tally::default() }, 8);
        assert_eq!((book.account.evicted, book.account.delivered), (8, 4));
        assert!(book.account.balances());
    }

    #[test]
    fn a_cursor_inside_a_gap_counts_the_part_it_passed() {
        let mut book = Book::new(Account::new(pos(0)));
        book.met(&gap(0, 10, GapReason::Corrupt), Within::Unknown);
        book.advance(pos(4), Tally::default(), 8);
        assert_eq!(book.account.corrupt, 4);
        book.advance(pos(12), Tally { delivered: 2, ..Tally::default() }, 8);
        assert_eq!(book.account.corrupt, 10);
        assert!(book.account.balances());
    }

    #[test]
    fn a_gap_that_was_met_stays_one_also_after_a_restart() {
        let mut book = Book::new(Account::new(pos(0)));
        book.met(&gap(10, 20, GapReason::Corrupt), Within::Unknown);
        book.met(&gap(18, 30, GapReason::Evicted), Within::Unknown);
        let stored: Vec<_> = book.gaps().collect();
        let mut book = Book::new(Account::new(pos(0)));
        book.restore_gaps(&stored, u64::MAX);
        assert!(book.missed(10) && book.missed(29) && !book.missed(9) && !book.missed(30));
        book.advance(pos(40), Tally { delivered: 20, ..Tally::default() }, 8);
        assert_eq!((book.account.corrupt, book.account.evicted), (8, 12));
        assert!(book.account.balances() && book.gaps().count() == 0);
    }

    #[test]
    fn what_was_evicted_ahead_of_a_sleeping_sink_is_shown_and_balances() {
        let book = Book::new(Account::new(pos(5)));
        let lane = LaneStats { oldest: pos(9), durable: pos(30), shown: pos(30), ..LaneStats::default() };
        let (account, pending) = book.as_of(&lane, lane.shown);
        assert_eq!((account.evicted, pending), (4, 21));
        assert_eq!(30 - account.start.ordinal, account.settled() + pending);
    }
}
