//! Finding the newest batch of ours in a partition, by headers alone.
//!
//! A fetch of 61 bytes returns exactly the header of the batch that holds an offset, whatever the batch's size. So:
//!
//! 1. Ask for the first offset and the high watermark.
//! 2. Ahead: from the watermark on, header by header, until the log ends: an appended batch that is not replicated
//!    yet stands there.
//! 3. Back: from below the watermark, header by header, until the stored position; without one, until two own batches in
//!    ascending order (a late landing can put an older number behind a newer one), or the first offset.
//! 4. Check: the batch at the stored position must carry the stored marker, else the upstream has lost it.
//!
//! On a partition of our own, steps 2 and 3 are one header each. A partition shared with others is walked at
//! [`HEADER_COST`] bytes a batch, up to a budget; what it does not reach is left unproven, and said to be.

use super::identity::Mine;
use super::state::Stored;
use super::target::Target;
use super::{Header, Marker, Query};

/// Bytes that one header downloads, without TCP's own.
pub const HEADER_COST: usize = 128;

/// An own batch that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Own {
    pub number: u64,
    pub base: i64,
    pub count: u32,
}

impl Own {
    pub fn end(&self) -> i64 {
        self.base.saturating_add(i64::from(self.count))
    }
}

/// Whether the stored batch is still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing was stored, so nothing can be missing.
    NothingStored,
    There,
    /// Truncated or recreated.
    Lost,
    /// The log begins above it: retention took it, nothing can be said.
    Trimmed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// The own batch with the highest number.
    pub newest: Option<Own>,
    pub verdict: Verdict,
    /// A batch of the stored one's size stands in its place, whoever wrote it.
    pub stands: bool,
    /// The budget ended the search before it was sure.
    pub unproven: bool,
    /// Records of own batches that stand behind the stored one although they are not newer: they landed late.
    pub doubled: u64,
    pub start: i64,
    pub high_watermark: i64,
    pub log_end: i64,
    /// The highest number of a batch that bears our name and is another life's.
    pub beyond: Option<u64>,
}

impl Found {
    /// What the upstream itself says of our newest batch.
    pub fn told(newest: Own, stored: bool, log_end: i64) -> Self {
        Self {
            newest: Some(newest),
            verdict: if stored { Verdict::There } else { Verdict::NothingStored },
            stands: stored,
            unproven: false,
            doubled: 0,
            start: 0,
            // Only what is committed is told.
            high_watermark: i64::MAX,
            log_end,
            beyond: None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Ask(Query),
    Found(Found),
    /// The answers contradict each other: begin again later.
    Confused,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Offsets,
    Ahead {
        at: i64,
    },
    Back {
        at: i64,
    },
    Check,
    /// The second look: ahead of what the first one knew.
    Again {
        at: i64,
    },
}

#[derive(Clone, Debug)]
pub(super) struct Search {
    mine: Mine,
    /// At or above it another life numbers.
    own_below: u64,
    stored: Option<Stored>,
    budget: usize,
    stage: Stage,
    found: Found,
    /// Number of the own batch met last on the way back.
    later: Option<u64>,
    sure: bool,
    /// The stored batch was asked for.
    checked: bool,
    /// The stored batch is gone: it is no floor, an older batch of ours is looked for below it.
    lost: bool,
    /// Everything from here to the watermark was seen on the way back.
    seen_from: i64,
    seen_below: i64,
}

impl Search {
    pub fn of(target: &Target, search_max: usize) -> (Self, Query) {
        let own_below = target.own_below.min(target.sent_below);
        Self::new(target.mine.clone(), own_below, target.last, target.expected.unwrap_or(0), search_max)
    }

    /// `seen_below`: everything below this offset was looked at before, doubles there are counted already.
    fn new(mine: Mine, own_below: u64, stored: Option<Stored>, seen_below: i64, search_max: usize) -> (Self, Query) {
        let found = Found {
            newest: None,
            verdict: if stored.is_some() { Verdict::Lost } else { Verdict::NothingStored },
            stands: false,
            unproven: false,
            doubled: 0,
            start: 0,
            high_watermark: 0,
            log_end: 0,
            beyond: None,
        };
        let search = Self {
            mine,
            own_below,
            stored,
            budget: search_max,
            stage: Stage::Offsets,
            found,
            later: None,
            sure: false,
            checked: false,
            lost: false,
            seen_from: 0,
            seen_below,
        };
        (search, Query::Offsets)
    }

    /// Looks again at what came after the first look.
    pub fn again(&mut self) -> Query {
        let at = self.found.log_end;
        self.stage = Stage::Again { at };
        self.budget = self.budget.max(2 * HEADER_COST);
        Query::Header { at }
    }

    pub fn offsets(&mut self, start: i64, high_watermark: i64) -> Step {
        if self.stage != Stage::Offsets || start < 0 || high_watermark < start {
            return Step::Confused;
        }
        (self.found.start, self.found.high_watermark, self.found.log_end) = (start, high_watermark, high_watermark);
        self.stage = Stage::Ahead { at: high_watermark };
        Step::Ask(Query::Header { at: high_watermark })
    }

    pub fn header(&mut self, header: Option<Header>) -> Step {
        self.budget = self.budget.saturating_sub(HEADER_COST);
        match (self.stage, header) {
            (Stage::Offsets, _) => Step::Confused,
            (Stage::Ahead { .. }, None) => self.turn_back(),
            (Stage::Again { .. }, None) => Step::Found(self.found),
            (Stage::Ahead { at } | Stage::Again { at }, Some(h)) => self.ahead(at, h),
            (Stage::Back { at }, Some(h)) => self.back(at, h),
            // The log became shorter while it was read.
            (Stage::Back { .. }, None) => Step::Confused,
            (Stage::Check, header) => {
                if let Some(header) = header {
                    self.take(header);
                }
                self.finish()
            }
        }
    }

    fn ahead(&mut self, at: i64, header: Header) -> Step {
        if header.end() <= at || header.base > at {
            return Step::Confused;
        }
        self.take(header);
        self.found.log_end = header.end();
        let at = header.end();
        if self.budget < HEADER_COST {
            self.found.unproven = true;
            return if matches!(self.stage, Stage::Again { .. }) { Step::Found(self.found) } else { self.finish() };
        }
        self.stage = match self.stage {
            Stage::Again { .. } => Stage::Again { at },
            _ => Stage::Ahead { at },
        };
        Step::Ask(Query::Header { at })
    }

    fn turn_back(&mut self) -> Step {
        // Numbers met ahead were met in log order; on the way back the first one met is older than all of them.
        self.later = self.found.newest.map(|own| own.number);
        self.seen_from = self.found.high_watermark;
        self.step_back(self.found.high_watermark - 1)
    }

    fn step_back(&mut self, at: i64) -> Step {
        if at < self.floor() || self.sure {
            return self.finish();
        }
        if self.budget < HEADER_COST {
            // An own batch that was met is the newest unless something landed late: good enough where links cost.
            self.found.unproven |= self.found.newest.is_none();
            return self.finish();
        }
        self.stage = Stage::Back { at };
        Step::Ask(Query::Header { at })
    }

    /// The lowest offset that can tell anything new.
    fn floor(&self) -> i64 {
        let floor = self.stored.filter(|_| !self.lost).map_or(self.found.start, |s| s.base);
        floor.max(self.found.start)
    }

    fn back(&mut self, at: i64, header: Header) -> Step {
        if header.end() <= at || header.base > at {
            return Step::Confused;
        }
        if let Some(own) = self.take(header) {
            let no_floor = self.stored.is_none() || self.lost;
            self.sure = no_floor && self.later.is_some_and(|later| own.number < later);
            self.later = Some(own.number);
        }
        self.seen_from = header.base;
        self.step_back(header.base - 1)
    }

    /// Keeps an own batch if it is the newest, and the stored one's presence.
    fn take(&mut self, header: Header) -> Option<Own> {
        self.found.stands |= self.stored.is_some_and(|s| s.base == header.base && s.count == header.count);
        let marker = Marker::of_origin(header.origin);
        if !self.mine.has(marker) {
            return None;
        }
        // What was sent under an id of before the machine changed is true as far as it is ours.
        if marker.number >= self.own_below && marker.id == self.mine.id {
            self.found.beyond = self.found.beyond.max(Some(marker.number));
            return None;
        }
        let own = Own { number: marker.number, base: header.base, count: header.count };
        if self.found.newest.is_none_or(|n| own.number > n.number) {
            self.found.newest = Some(own);
        }
        if own.base >= self.seen_below && self.stored.is_some_and(|s| own.base > s.base && own.number <= s.number) {
            self.found.doubled += u64::from(own.count);
        }
        if self.stored.is_some_and(|s| s.base == own.base && s.number == own.number) {
            self.found.verdict = Verdict::There;
        }
        Some(own)
    }

    fn finish(&mut self) -> Step {
        let Some(stored) = self.stored.filter(|_| self.found.verdict != Verdict::There) else {
            return self.end();
        };
        if stored.base < self.found.start {
            self.found.verdict = Verdict::Trimmed;
            // Without the stored batch as a floor, only an own batch or the whole log proves anything.
            self.found.unproven |= self.found.newest.is_none_or(|n| n.number < stored.number);
        } else if stored.base < self.found.log_end && !self.checked {
            self.checked = true;
            self.stage = Stage::Check;
            return Step::Ask(Query::Header { at: stored.base });
        } else if !self.lost {
            self.lost = true;
            return self.step_back(self.seen_from - 1);
        }
        self.end()
    }

    fn end(&mut self) -> Step {
        // What retention took away may have been ours.
        self.found.unproven |= self.found.newest.is_none() && self.found.start > 0;
        Step::Found(self.found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(base: i64, count: u32, id: i64, number: u64) -> Header {
        Header { base, count, origin: Marker { id, number }.to_origin() }
    }

    /// Runs a search over a log of headers; gives what was found and the questions asked.
    fn run(stored: Option<Stored>, log: &[Header], watermark: i64, budget: usize) -> (Found, usize) {
        let (mut search, query) = Search::new(Mine { id: 7, former: vec![(6, 50)] }, 10_000, stored, 0, budget);
        assert_eq!(query, Query::Offsets);
        let mut step = search.offsets(log.first().map_or(0, |h| h.base), watermark);
        for asked in 1.. {
            match step {
                Step::Ask(Query::Header { at }) => {
                    step = search.header(log.iter().find(|h| h.base <= at && at < h.end()).copied());
                }
                Step::Found(found) => return (found, asked),
                other => panic!("{other:?}"),
            }
        }
        unreachable!()
    }

    fn at(base: i64, count: u32, number: u64) -> Option<Stored> {
        Some(Stored { base, count, number })
    }

    const PLENTY: usize = 1 << 20;

    #[test]
    fn on_a_partition_of_our_own_a_resume_asks_three_questions() {
        let log: Vec<_> = (0..100).map(|i| header(i * 10, 10, 7, i as u64)).collect();
        let (found, asked) = run(at(990, 10, 99), &log, 1000, PLENTY);
        assert_eq!((found.newest.map(|n| n.number), found.verdict, asked), (Some(99), Verdict::There, 3));
    }

    #[test]
    fn a_batch_above_the_watermark_is_found() {
        let log = [header(0, 10, 7, 5), header(10, 3, 7, 9)];
        let (found, _) = run(at(0, 10, 5), &log, 10, PLENTY);
        assert_eq!((found.newest.map(|n| n.number), found.log_end, found.verdict), (Some(9), 13, Verdict::There));
    }

    #[test]
    fn a_late_landing_does_not_hide_a_newer_number() {
        let log = [header(0, 1, 7, 100), header(1, 1, 7, 200), header(2, 1, 7, 150)];
        let (found, _) = run(None, &log, 3, PLENTY);
        assert_eq!(found.newest.map(|n| n.number), Some(200));
    }

    #[test]
    fn below_a_lost_batch_the_newest_own_one_is_found() {
        // The stored batch began where the truncated log ends.
        let log = [header(0, 10, 7, 5), header(10, 10, -1, 0)];
        let (found, _) = run(at(20, 5, 9), &log, 20, PLENTY);
        assert_eq!((found.newest.map(|n| n.number), found.verdict), (Some(5), Verdict::Lost));
        // Another writer's batch stands where the stored one did.
        let log = [header(0, 10, 7, 5), header(10, 10, -1, 0), header(20, 10, -1, 0)];
        let (found, _) = run(at(20, 5, 9), &log, 30, PLENTY);
        assert_eq!((found.newest.map(|n| n.number), found.verdict), (Some(5), Verdict::Lost));
    }

    #[test]
    fn what_was_sent_under_a_former_id_is_ours_up_to_where_it_ended() {
        // Above 50 the other machine goes on under that id.
        let log = [header(0, 1, 6, 48), header(1, 1, 6, 49), header(2, 1, 6, 50), header(3, 1, 6, 90)];
        let (found, _) = run(None, &log, 4, PLENTY);
        assert_eq!(found.newest.map(|n| n.number), Some(49));
        let (found, _) = run(at(1, 1, 49), &log, 4, PLENTY);
        assert_eq!((found.newest.map(|n| n.number), found.verdict), (Some(49), Verdict::There));
        let (found, _) = run(at(2, 1, 50), &log, 4, PLENTY);
        assert_eq!((found.newest.map(|n| n.number), found.verdict), (Some(49), Verdict::Lost));
    }

    #[test]
    fn behind_what_another_life_sent_the_newest_own_batch_is_found() {
        let log = [header(0, 1, 7, 5), header(1, 1, 7, 9), header(2, 1, 7, 10_000), header(3, 1, 7, 10_050)];
        for stored in [None, at(0, 1, 5)] {
            let (found, _) = run(stored, &log, 4, PLENTY);
            assert_eq!((found.newest.map(|n| n.number), found.beyond), (Some(9), Some(10_050)));
        }
    }

    #[test]
    fn what_the_budget_does_not_reach_is_unproven() {
        let log: Vec<_> = (0..1000).map(|i| header(i, 1, if i == 0 { 7 } else { -1 }, 3)).collect();
        let (found, asked) = run(None, &log, 1000, 64 * 1024);
        assert!(found.unproven && found.newest.is_none() && asked <= 513, "{found:?} after {asked}");
    }

    #[test]
    fn a_log_trimmed_above_the_stored_batch_is_not_called_lost() {
        let log = [header(500, 10, -1, 0)];
        let (found, _) = run(at(20, 5, 9), &log, 510, PLENTY);
        assert_eq!((found.verdict, found.unproven), (Verdict::Trimmed, true));
    }
}
