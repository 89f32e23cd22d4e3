//! The comparison itself: what is due in one upstream partition, and the batches that stand there.
//!
//! A batch of ours says by its marker which stream it is of and the seq of its last ring record. What is due up to there is
//! read from the ring, and laid beside the batch from its end backwards: a batch is sent whole, so its last record is the
//! marker's, and the one before it is the one that was due before. Where the two differ they are brought together again
//! within [`LOOK`] records.
//!
//! What was found is remembered as ranges of seqs ([`Covered`]), not as records: of a sound partition one range a lane. What is
//! due and in no range at the end is missing, whatever stands upstream in which order; what is found in a range already is
//! there twice. So memory grows with the number of faults only, and with the largest batch.
//!
//! Where markers do not survive the same is done by content: each stored record is looked for among the next [`AHEAD`]
//! that are due. What stands there of others is stepped over, and what the upstream has left out is missing.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::ControlFlow;

use crate::topic::TopicPart;

/// Records by which the two sides may be apart within a batch and are brought together again.
const LOOK: usize = 32;
/// Without markers: records that may be left out at once, and those behind that are known as twice there.
const AHEAD: usize = 4096;
/// Findings that are kept; the others are counted.
const MAX_FINDINGS: usize = 1000;
/// Ranges of found records of a lane; beyond, neighbours are joined only.
const MAX_RANGES: usize = 64 * 1024;

/// One output of a ring record, as it is to stand upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    pub seq: u64,
    pub part: TopicPart,
    pub offset: u64,
    /// Of key and value.
    pub print: u128,
    /// Its time, where that cannot have changed since.
    pub at_ms: Option<i64>,
    /// What it is if it is not there.
    pub absent: Absent,
}

/// A record as the upstream has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    pub print: u128,
    pub at_ms: i64,
}

impl Due {
    fn is(&self, stored: &Stored) -> bool {
        self.print == stored.print && self.at_ms.is_none_or(|at_ms| at_ms == stored.at_ms)
    }
}

/// What a range of a lane holds for one upstream partition.
pub enum Met {
    Due(Due),
    /// Records that cannot be read any more, of whatever topic.
    Hole,
}

/// The ring, as one upstream partition sees it: what is due there in `[from, to)` of a lane, in the order of seqs.
pub trait Edge {
    fn between(&mut self, lane: usize, from: u64, to: u64, visit: &mut dyn FnMut(Met) -> ControlFlow<()>);
}

/// An id in batch headers, and the range of a lane for which it stands.
#[derive(Clone, Copy, Debug)]
pub struct Id {
    pub id: i64,
    pub lane: usize,
    /// Nothing below was sent under it.
    pub from: u64,
    /// Numbers from here on are not of this ring.
    pub below: u64,
    /// What is sent now has it. One that is older may have been used for other records by another life of the ring.
    pub newest: bool,
}

/// What is to be compared of a lane.
#[derive(Clone, Debug, Default)]
pub struct Lane {
    /// The first seq, and the one after the last that the ring had when it was opened.
    pub floor: u64,
    pub end: u64,
    covered: Covered,
}

impl Lane {
    pub fn new(floor: u64, end: u64) -> Self {
        Self { floor, end, covered: Covered::default() }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    Missing,
    Different,
    Duplicated,
    OutOfOrder,
    /// Under the sink's own marker, and nothing like it was due.
    Unknown,
}

/// Records next to each other of which the same is to be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding {
    pub what: What,
    pub part: Option<TopicPart>,
    /// `[from, to)` in the local topic.
    pub offsets: (u64, u64),
    /// First and last.
    pub seqs: (u64, u64),
    /// `[from, to)` upstream; None: not there.
    pub upstream: Option<(i64, i64)>,
    pub count: u64,
}

/// In outputs. What is due is in one of `identical`, `out_of_order`, `different`, `missing` or those after it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Tally {
    pub identical: u64,
    pub out_of_order: u64,
    pub different: u64,
    pub missing: u64,
    /// The upstream has deleted it by its retention.
    pub upstream_no_longer_has: u64,
    pub pending: u64,
    pub filtered: u64,
    pub refused: u64,
    pub expired: u64,
    /// Stored once more than it was due.
    pub duplicated: u64,
    /// Stored, sent by this sink, and not in the ring any more.
    pub no_longer_in_the_ring: u64,
    /// Stored under the sink's marker, and nothing like it was due.
    pub unknown: u64,
    /// Stored by others, or by another life of this ring.
    pub foreign: u64,
}

impl Tally {
    pub fn compared(&self) -> u64 {
        self.identical + self.out_of_order + self.different + self.missing
    }

    pub fn is_sound(&self) -> bool {
        self.missing == 0 && self.different == 0 && self.duplicated == 0 && self.unknown == 0
    }
}

/// Why something that is due is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    Missing,
    Pending,
    Filtered,
    Refused,
    Expired,
}

/// Ranges of seqs, first and last, without overlaps.
#[derive(Clone, Debug, Default)]
struct Covered(BTreeMap<u64, u64>);

impl Covered {
    fn has(&self, seq: u64) -> bool {
        self.0.range(..=seq).next_back().is_some_and(|(_, last)| seq <= *last)
    }

    fn first(&self) -> Option<u64> {
        self.0.keys().next().copied()
    }

    fn add(&mut self, mut first: u64, mut last: u64) {
        if first > last {
            return;
        }
        if let Some((from, to)) = self.0.range(..=first).next_back().filter(|(_, to)| to.saturating_add(1) >= first) {
            (first, last) = (*from, last.max(*to));
        }
        while let Some((from, to)) = self.0.range(first..=last.saturating_add(1)).next().map(|(a, b)| (*a, *b)) {
            last = last.max(to);
            self.0.remove(&from);
        }
        if self.0.len() < MAX_RANGES {
            self.0.insert(first, last);
        }
    }
}

/// What is due up to a batch's number.
struct Window {
    due: VecDeque<Due>,
    /// Nothing is due from here to the first of them.
    from: u64,
    hole: bool,
}

/// One upstream partition.
pub struct Matcher {
    ids: Vec<(Id, u64)>,
    pub lanes: Vec<Lane>,
    /// Newest last: what was found without a marker.
    recent: VecDeque<u128>,
    pub tally: Tally,
    pub findings: Vec<Finding>,
    pub left_out: u64,
}

impl Matcher {
    pub fn new(ids: Vec<Id>, lanes: Vec<Lane>) -> Self {
        let ids = ids.into_iter().map(|id| (id, id.from)).collect();
        Self { ids, lanes, recent: VecDeque::new(), tally: Tally::default(), findings: Vec::new(), left_out: 0 }
    }

    /// Which of the ids a batch has.
    pub fn known(&self, id: i64, number: u64) -> Option<usize> {
        self.ids.iter().position(|(known, _)| known.id == id && number < known.below)
    }

    /// An id that is not known, with a number in a range of a lane that other streams sent: it is one of theirs if what the batch
    /// holds was due there.
    pub fn learn(&mut self, edge: &mut dyn Edge, id: Id, number: u64, stored: &[Stored]) -> Option<usize> {
        let window = self.window(edge, &id, id.from, number, stored.len());
        let due: Vec<Due> = window.due.into();
        let same = align(&due, stored).iter().filter(|of| of.is_some()).count();
        if same == 0 || same * 2 < stored.len().min(due.len()) {
            return None;
        }
        self.ids.push((id, due.first().map_or(id.from, |due| due.seq)));
        Some(self.ids.len() - 1)
    }

    /// What is due up to `number`, as many as the batch has and some more.
    fn window(&self, edge: &mut dyn Edge, id: &Id, next: u64, number: u64, count: usize) -> Window {
        let floor = self.lanes[id.lane].floor.max(id.from);
        let to = number.saturating_add(1).min(self.lanes[id.lane].end);
        let mut from = next.max(floor).min(to);
        let mut span = (2 * count as u64).max(256);
        loop {
            let mut window = Window { due: VecDeque::new(), from, hole: false };
            edge.between(id.lane, from, to, &mut |met| {
                match met {
                    Met::Hole => window.hole = true,
                    Met::Due(due) => window.due.push_back(due),
                }
                if window.due.len() > count + LOOK {
                    window.due.pop_front();
                    window.from = window.due.front().map_or(from, |due| due.seq);
                    window.hole = false;
                }
                ControlFlow::Continue(())
            });
            if window.due.len() >= count || from <= floor {
                return window;
            }
            // It has something that was sent before, or begins before what is compared.
            from = to.saturating_sub(span).max(floor).min(from - 1);
            span = span.saturating_mul(4);
        }
    }

    /// A batch under one of the ids.
    pub fn take(&mut self, edge: &mut dyn Edge, at: usize, number: u64, base: i64, stored: &[Stored]) {
        let (id, next) = self.ids[at];
        let window = self.window(edge, &id, next, number, stored.len());
        let late = number < next;
        let due = Vec::from(window.due);
        let due = &due[..];
        // In another's place stands only what is not elsewhere; and nothing where seqs may be other records', or some are not known.
        let covered = &self.lanes[id.lane].covered;
        let laid = lay(due, stored, &|due| id.newest && !window.hole && !covered.has(due.seq));
        let whole = window.from <= self.lanes[id.lane].floor.max(id.from);
        self.count(&id, &laid, due, base, late);
        let rest = laid.iter().filter(|of| of.is_none()).count() as u64;
        match () {
            () if !id.newest => self.tally.foreign += rest,
            // Admitted since the ring was opened.
            () if number >= self.lanes[id.lane].end => {}
            () if whole || window.hole => self.tally.no_longer_in_the_ring += rest,
            () => {
                self.tally.unknown += rest;
                let unlaid = laid.iter().zip(base..).filter(|(of, _)| of.is_none());
                unlaid.for_each(|(_, at)| self.find(What::Unknown, None, Some(at)));
            }
        }
        let mut taken = vec![false; due.len()];
        laid.iter().flatten().for_each(|(j, _)| taken[*j] = true);
        self.cover(&id, &taken, due, window.from, number);
        self.ids[at].1 = next.max(number.saturating_add(1));
    }

    fn count(&mut self, id: &Id, laid: &[Option<(usize, How)>], due: &[Due], base: i64, late: bool) {
        for (of, at) in laid.iter().zip(base..) {
            let Some((j, how)) = *of else { continue };
            let due = &due[j];
            if self.lanes[id.lane].covered.has(due.seq) || how == How::Again {
                self.tally.duplicated += 1;
                self.find(What::Duplicated, Some(due), Some(at));
                continue;
            }
            match how {
                How::Differs => {
                    self.tally.different += 1;
                    self.find(What::Different, Some(due), Some(at));
                }
                How::Moved => self.disordered(due, at),
                _ if late => self.disordered(due, at),
                _ => self.tally.identical += 1,
            }
        }
    }

    fn disordered(&mut self, due: &Due, at: i64) {
        self.tally.out_of_order += 1;
        self.find(What::OutOfOrder, Some(due), Some(at));
    }

    /// Remembers which of what was due was found.
    fn cover(&mut self, id: &Id, taken: &[bool], due: &[Due], from: u64, number: u64) {
        let covered = &mut self.lanes[id.lane].covered;
        let mut first = Some(from);
        let mut last = None;
        for (due, taken) in due.iter().zip(taken) {
            if *taken {
                (first, last) = (first.or(Some(due.seq)), Some(due.seq));
                continue;
            }
            if let Some((first, last)) = first.zip(last).filter(|(first, last)| first <= last) {
                covered.add(first, last.min(due.seq.saturating_sub(1)));
            }
            (first, last) = (Some(due.seq.saturating_add(1)), None);
        }
        if let Some((first, last)) = first.zip(last) {
            covered.add(first, last.max(number));
        }
    }

    /// A batch of a partition where markers do not survive: what of it was due, by content and in order.
    pub fn take_unmarked(&mut self, edge: &mut dyn Edge, base: i64, stored: &[Stored]) {
        let mut rest: Vec<(i64, Stored)> = (base..).zip(stored.iter().copied()).collect();
        for lane in 0..self.lanes.len() {
            // Where it is in the lane stands with the first id of that.
            if let Some(at) = self.ids.iter().position(|(id, _)| id.lane == lane) {
                self.unmarked_in(edge, at, &mut rest);
            }
        }
        self.unmarked_rest(&rest);
        let more = self.recent.len().saturating_sub(AHEAD);
        self.recent.drain(..more);
    }

    /// Takes out of `rest` what was due in a lane.
    fn unmarked_in(&mut self, edge: &mut dyn Edge, at: usize, rest: &mut Vec<(i64, Stored)>) {
        let (id, next) = self.ids[at];
        let lane = &self.lanes[id.lane];
        let (from, most) = (next.max(lane.floor), AHEAD + rest.len());
        let mut due = Vec::new();
        edge.between(id.lane, from, lane.end, &mut |met| {
            if let Met::Due(met) = met {
                due.push(met);
            }
            if due.len() < most { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        let mut place = 0;
        let mut taken = vec![false; due.len()];
        rest.retain(|(_, stored)| {
            let Some(ahead) = due[place..].iter().take(AHEAD).position(|due| due.is(stored)) else { return true };
            taken[place + ahead] = true;
            place += ahead + 1;
            self.tally.identical += 1;
            self.recent.push_back(stored.print);
            false
        });
        if let Some(last) = place.checked_sub(1) {
            let number = due[last].seq;
            self.cover(&id, &taken[..place], &due[..place], from, number);
            self.ids[at].1 = number.saturating_add(1);
        }
    }

    fn unmarked_rest(&mut self, rest: &[(i64, Stored)]) {
        for (at, stored) in rest {
            if self.recent.contains(&stored.print) {
                self.tally.duplicated += 1;
                self.find(What::Duplicated, None, Some(*at));
            } else {
                self.tally.foreign += 1;
            }
        }
    }

    /// All batches were taken: what is due and was not found. `cut`: the upstream has deleted what was oldest.
    pub fn finish(&mut self, edge: &mut dyn Edge, cut: bool) {
        for lane in 0..self.lanes.len() {
            let Lane { floor, end, covered } = std::mem::take(&mut self.lanes[lane]);
            edge.between(lane, floor, end, &mut |met| {
                let Met::Due(due) = met else { return ControlFlow::Continue(()) };
                if covered.has(due.seq) {
                    return ControlFlow::Continue(());
                }
                match due.absent {
                    Absent::Pending => self.tally.pending += 1,
                    Absent::Filtered => self.tally.filtered += 1,
                    Absent::Refused => self.tally.refused += 1,
                    Absent::Expired => self.tally.expired += 1,
                    Absent::Missing if cut && covered.first().is_none_or(|first| due.seq < first) => {
                        self.tally.upstream_no_longer_has += 1;
                    }
                    Absent::Missing => {
                        self.tally.missing += 1;
                        self.find(What::Missing, Some(&due), None);
                    }
                }
                ControlFlow::Continue(())
            });
        }
    }

    fn find(&mut self, what: What, due: Option<&Due>, upstream: Option<i64>) {
        let next_to = |known: &&mut Finding| {
            let local = due.is_none_or(|due| known.part == Some(due.part) && known.offsets.1 == due.offset);
            let there = upstream.is_none_or(|at| known.upstream.is_some_and(|(_, end)| end == at));
            known.what == what && known.part == due.map(|due| due.part) && local && there
        };
        if let Some(known) = self.findings.last_mut().filter(next_to) {
            known.count += 1;
            if let Some(due) = due {
                (known.offsets.1, known.seqs.1) = (due.offset + 1, due.seq);
            }
            known.upstream = known.upstream.map(|(from, to)| (from, to + 1));
        } else if self.findings.len() < MAX_FINDINGS {
            self.findings.push(Finding {
                what,
                part: due.map(|due| due.part),
                offsets: due.map_or((0, 0), |due| (due.offset, due.offset + 1)),
                seqs: due.map_or((0, 0), |due| (due.seq, due.seq)),
                upstream: upstream.map(|at| (at, at + 1)),
                count: 1,
            });
        } else {
            self.left_out += 1;
        }
    }
}

/// For each stored record the one that was due and is the same, from the end backwards.
fn align(due: &[Due], stored: &[Stored]) -> Vec<Option<usize>> {
    let mut of = vec![None; stored.len()];
    let (mut i, mut j) = (stored.len(), due.len());
    while i > 0 && j > 0 {
        // What was due and is not here, what is here and was not due, or what differs: the fewest records first.
        let ways = (0..=LOOK).flat_map(|n| [(0, n), (n, 0), (n, n)]);
        let step = ways.into_iter().find(|(s, d)| *s < i && *d < j && due[j - 1 - d].is(&stored[i - 1 - s]));
        let (s, d) = step.unwrap_or((0, 0));
        (i, j) = (i - s - 1, j - d - 1);
        if step.is_some() {
            of[i] = Some(j);
        }
    }
    of
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Same,
    /// The same elsewhere in the batch.
    Moved,
    /// The same as one that has its place already.
    Again,
    Differs,
}

/// A batch laid beside what was due: for each stored record which it is, and how. `open`: whether another may stand in its
/// place.
fn lay(due: &[Due], stored: &[Stored], open: &dyn Fn(&Due) -> bool) -> Vec<Option<(usize, How)>> {
    let aligned = align(due, stored);
    let mut of: Vec<_> = aligned.iter().map(|j| j.map(|j| (j, How::Same))).collect();
    if aligned.iter().all(Option::is_some) {
        return of;
    }
    let mut free = vec![true; due.len()];
    aligned.iter().flatten().for_each(|j| free[*j] = false);
    let mut by_print: HashMap<u128, Vec<usize>> = HashMap::new();
    for (j, due) in due.iter().enumerate() {
        by_print.entry(due.print).or_default().push(j);
    }
    for (place, stored) in of.iter_mut().zip(stored).filter(|(place, _)| place.is_none()) {
        let all = by_print.get(&stored.print).map_or(&[][..], Vec::as_slice);
        let mut same = all.iter().copied().filter(|j| due[*j].is(stored));
        let again = same.clone().next();
        if let Some(j) = same.find(|j| free[*j]) {
            (*place, free[j]) = (Some((j, How::Moved)), false);
        } else {
            *place = again.map(|j| (j, How::Again));
        }
    }
    free.iter_mut().zip(due).for_each(|(free, due)| *free &= open(due));
    for (i, j) in differing(&aligned, &of, &free) {
        of[i] = Some((j, How::Differs));
    }
    of
}

/// Between two that are the same, what is left on both sides stands in one another's place, the last for the last.
fn differing(aligned: &[Option<usize>], of: &[Option<(usize, How)>], free: &[bool]) -> Vec<(usize, usize)> {
    let mut pairs = Vec::new();
    let mut end = free.len();
    let mut left: Vec<usize> = Vec::new();
    let mut pair = |left: &mut Vec<usize>, from: usize, to: usize| {
        let dues = (from..to).rev().filter(|j| free[*j]);
        pairs.extend(left.drain(..).zip(dues));
    };
    for i in (0..of.len()).rev() {
        match aligned[i] {
            Some(j) => {
                pair(&mut left, j + 1, end);
                end = j;
            }
            None if of[i].is_none() => left.push(i),
            None => {}
        }
    }
    pair(&mut left, 0, end);
    pairs
}

#[cfg(test)]
#[path = "matching_tests.rs"]
mod tests;
