//! What a target does when its connection comes, goes, or answers.

use super::machine::{Forward, Sync};
use super::search::{Found, HEADER_COST, Own, Search, Step, Verdict};
use super::state::{ALL, Position, Stored};
use super::target::Phase;
use super::turn::{Newest, Turn};
use super::{Header, Marker, Note, OnLoss, Output, Query, Reject, TargetIx};
use crate::time::{BootTime, Span};

/// How long after a lost request a higher base offset than expected is looked into.
pub(super) const SUSPECT: Span = Span::from_secs(600);

impl Forward {
    pub(super) fn up(&mut self, now: BootTime, ix: TargetIx, counts: bool) {
        let t = &mut self.targets[ix.0 as usize];
        if !matches!(t.phase, Phase::Opening | Phase::Closed) {
            return;
        }
        // What an upstream that keeps count makes of batches does not matter.
        let counts = counts && t.mine.former.is_empty();
        if t.opaque && !counts {
            return self.up_without_markers(now, ix);
        }
        t.opaque = false;
        // What was sent under a former id is counted under that one: the log tells all of it.
        if counts {
            t.phase = Phase::Counting;
            let id = t.mine.id;
            return self.ask(ix, Query::Producer { id, ring: self.options.ring_id });
        }
        self.search(ix);
    }

    fn search(&mut self, ix: TargetIx) {
        let search_max = self.options.search_max;
        let t = &mut self.targets[ix.0 as usize];
        // Of a stream as which nothing was sent only the log's end is asked for, and whether another life's stands there.
        let search_max = if t.unsent { 2 * HEADER_COST } else { search_max };
        let (search, query) = Search::of(t, search_max);
        t.phase = Phase::Resume(search);
        self.ask(ix, query);
    }

    /// What an upstream that keeps count has of ours.
    pub(super) fn counted(&mut self, now: BootTime, ix: TargetIx, result: Result<(Option<Newest>, i64), Reject>) {
        let t = &mut self.targets[ix.0 as usize];
        if !matches!(t.phase, Phase::Counting) {
            return;
        }
        let (newest, log_end) = match result {
            Ok(kept) => kept,
            Err(reject) => return self.fail(now, ix, reject),
        };
        // One that forgets at once what it has just taken would take nothing more: then the log alone must do.
        let forgets = newest.is_none() && t.out_of_turn;
        t.count = (!forgets).then_some(Turn(newest.map(|newest| newest.number)));
        let known = newest.filter(|n| t.last.is_none_or(|last| last.number <= n.number));
        let Some(known) = known.filter(|n| n.number < t.own_below.min(t.sent_below)) else {
            return self.search(ix);
        };
        let own = Own { number: known.number, base: known.base, count: known.count };
        // What is still on its way to it comes out of turn.
        t.doubt = false;
        let stored = t.last.is_some();
        self.found(now, ix, Found::told(own, stored, log_end));
    }

    pub(super) fn down(&mut self, ix: TargetIx) {
        self.forget_requests(ix);
        let t = &mut self.targets[ix.0 as usize];
        t.count = None;
        t.doubt |= t.inflight.is_some();
        t.note_unanswered();
        if !matches!(t.phase, Phase::Wait { .. }) {
            t.phase = Phase::Closed;
        }
        self.discard(ix);
    }

    /// A rejection: wait, then connect and look again.
    pub(super) fn fail(&mut self, now: BootTime, ix: TargetIx, reject: Reject) {
        self.forget_requests(ix);
        let t = &mut self.targets[ix.0 as usize];
        // Where markers do not survive, one that was acknowledged may still be waiting for the log's end.
        t.doubt |= matches!(t.phase, Phase::Ending) && t.inflight.is_some();
        if reject == Reject::Unknown && matches!(t.phase, Phase::Sending) {
            t.doubt = true;
            t.note_unanswered();
        }
        t.out_of_turn |= reject == Reject::OutOfTurn;
        t.count = None;
        t.phase = Phase::Wait { until: now + t.backoff.next_wait() };
        let topic = t.topic;
        self.discard(ix);
        if reject == Reject::Stale {
            self.work.push_back(Output::Refresh { topic });
        }
    }

    /// Requests that were not handed out yet are void.
    fn forget_requests(&mut self, ix: TargetIx) {
        self.work.retain(|output| match output {
            Output::Open { target } | Output::Ask { target, .. } | Output::Send { target, .. } => *target != ix,
            _ => true,
        });
    }

    pub(super) fn timeout(&mut self, ix: TargetIx) {
        let search_max = self.options.search_max;
        let t = &mut self.targets[ix.0 as usize];
        match std::mem::replace(&mut t.phase, Phase::Closed) {
            Phase::Grace { mut search, .. } => {
                let query = search.again();
                t.phase = Phase::Again(search);
                self.ask(ix, query);
            }
            Phase::Uncommitted { .. } => {
                let (search, query) = Search::of(t, search_max);
                t.phase = Phase::Resume(search);
                self.ask(ix, query);
            }
            Phase::Settling { .. } => self.ask_end(ix),
            // Closed: the next record for it opens it again.
            Phase::Wait { .. } => {}
            other => t.phase = other,
        }
    }

    pub(super) fn offsets(&mut self, now: BootTime, ix: TargetIx, result: Result<(i64, i64), Reject>) {
        if !matches!(self.targets[ix.0 as usize].phase, Phase::Resume(_) | Phase::Ending) {
            return;
        }
        let (start, high_watermark) = match result {
            Ok(offsets) => offsets,
            Err(reject) => return self.fail(now, ix, reject),
        };
        match &mut self.targets[ix.0 as usize].phase {
            Phase::Resume(search) => {
                let step = search.offsets(start, high_watermark);
                self.step(now, ix, step);
            }
            Phase::Ending => self.committed_ends_at(now, ix, start, high_watermark),
            _ => {}
        }
    }

    pub(super) fn header(&mut self, now: BootTime, ix: TargetIx, result: Result<Option<Header>, Reject>) {
        let header = match result {
            Ok(header) => header,
            Err(reject) => return self.fail(now, ix, reject),
        };
        let t = &mut self.targets[ix.0 as usize];
        match &mut t.phase {
            Phase::Resume(search) | Phase::Again(search) => {
                let step = search.header(header);
                self.step(now, ix, step);
            }
            Phase::Proving { base, again } => {
                let (base, again) = (*base, *again);
                self.proved(ix, base, again, header);
            }
            Phase::Beyond { start, end } => {
                let ends = (*start, *end);
                self.beyond(now, ix, ends, header);
            }
            Phase::Probing { .. } => self.probed(ix, header),
            _ => {}
        }
    }

    fn step(&mut self, now: BootTime, ix: TargetIx, step: Step) {
        match step {
            Step::Ask(query) => self.ask(ix, query),
            Step::Confused => self.fail(now, ix, Reject::OutOfRange),
            Step::Found(found) => self.found(now, ix, found),
        }
    }

    fn found(&mut self, now: BootTime, ix: TargetIx, found: Found) {
        let grace = self.options.grace;
        let t = &mut self.targets[ix.0 as usize];
        if let Some(seq) = found.beyond {
            return self.of_another_life(ix, seq, found.newest);
        }
        if t.doubt
            && let Phase::Resume(search) = &t.phase
        {
            t.phase = Phase::Grace { until: now + grace, search: search.clone() };
            return;
        }
        let doubt = std::mem::take(&mut t.doubt);
        if doubt {
            t.suspect_until = Some(now + SUSPECT);
        }
        if found.unproven && (doubt || t.seen_uncommitted) {
            self.unsure(ix);
        }
        let t = &mut self.targets[ix.0 as usize];
        t.proven |= found.newest.is_some();
        let uncommitted = |own: Own| own.end() > found.high_watermark;
        t.seen_uncommitted = self.options.committed && found.newest.is_some_and(uncommitted);
        if t.seen_uncommitted {
            // Written but not replicated: sending it again would double it, counting it would be a lie.
            t.phase = Phase::Uncommitted { until: now + t.backoff.next_wait() };
            return;
        }
        t.phase = Phase::Ready;
        t.expected = Some(found.log_end);
        self.goes_on(ix);
        if found.doubled > 0 && found.verdict == Verdict::There {
            self.note(Note::Duplicated { target: ix, count: found.doubled });
        }
        let t = &mut self.targets[ix.0 as usize];
        if found.verdict == Verdict::Lost {
            if found.unproven || found.stands && !t.proven {
                // Perhaps the one batch that was never read back stands there, without its marker.
                self.unsure(ix);
            }
            return self.lost(ix, found.newest);
        }
        if let Some(own) = found.newest.filter(|own| own.number >= t.next) {
            t.next = own.number + 1;
            t.last = Some(Stored { base: own.base, count: own.count, number: own.number });
            self.dirty(ix);
        }
        self.targets[ix.0 as usize].drop_batches();
    }

    /// What was sent may be there, and nothing can tell. The next process must know, though it finds a marker of ours:
    /// that of a batch that was sent after this.
    pub(super) fn unsure(&mut self, ix: TargetIx) {
        let t = &mut self.targets[ix.0 as usize];
        if t.unsure_below < t.sent_below {
            t.unsure_below = t.sent_below;
            self.topics[t.topic.0 as usize].sync = Sync::Wanted;
            self.dirty(ix);
        }
    }

    /// The upstream does not have the stored batch any more.
    pub(super) fn lost(&mut self, ix: TargetIx, newest: Option<Own>) {
        let cursor = self.cursor.seq;
        let (resend, start) = (self.options.on_loss == OnLoss::Resend, self.options.stream.start);
        let t = &mut self.targets[ix.0 as usize];
        let from = newest.map_or(0, |own| own.number + 1).max(start);
        t.last = newest.map(|own| Stored { base: own.base, count: own.count, number: own.number });
        if resend {
            t.next = from;
            t.resend_below = Some(cursor.max(t.resend_below.unwrap_or(0))).filter(|below| from < *below);
        } else {
            t.next = t.next.max(from);
        }
        t.drop_batches();
        // What was made anew may keep no markers any more.
        t.proven = false;
        self.note(Note::UpstreamLoss { target: ix, from, resending: resend });
        self.dirty(ix);
        self.rewind();
    }

    /// Markers of ours below this seq are true in a partition of which this is stored.
    pub(super) fn own_below(&self, position: &Position) -> u64 {
        // What is not stored was never sent, unless it was stored and is lost.
        let least = self.options.stream.start.max(self.options.forgotten_below);
        position.own_below.max(least).min(self.born_end)
    }

    /// Nothing of another life is there: from here on this one sends, and every marker of ours is its doing. Durable before
    /// anything is sent, or the next process would take its own records for another life's.
    fn goes_on(&mut self, ix: TargetIx) {
        let t = &mut self.targets[ix.0 as usize];
        if t.own_below != ALL {
            t.own_below = ALL;
            self.topics[t.topic.0 as usize].sync = Sync::Wanted;
            self.dirty(ix);
        }
    }

    /// Another life of this ring has sent what this one has not: become someone else. `newest`: what both had sent is there.
    fn of_another_life(&mut self, ix: TargetIx, seq: u64, newest: Option<Own>) {
        self.note(Note::AnotherLife { target: ix, seq });
        self.forget_requests(ix);
        let start = self.options.stream.start;
        let t = &self.targets[ix.0 as usize];
        let (topic, lives) = (t.topic, t.lives.saturating_add(1));
        let mine = self.mine(topic, t.partition, lives);
        let t = &mut self.targets[ix.0 as usize];
        (t.mine, t.lives, t.last, t.doubt, t.phase) = (mine, lives, None, false, Phase::Closed);
        t.count = None;
        t.next = newest.map_or(t.next, |own| t.next.max(own.number + 1));
        // What else both have, the other one may have sent.
        t.unsure_below = t.unsure_below.max(t.sent_below);
        // Under this name nothing was sent: if something is there, then of a third life, put back as this one was.
        t.own_below = start;
        self.topics[topic.0 as usize].sync = Sync::Wanted;
        self.discard(ix);
        self.dirty(ix);
    }

    pub(super) fn acknowledged(&mut self, now: BootTime, ix: TargetIx, base: i64) {
        let t = &mut self.targets[ix.0 as usize];
        if !matches!(t.phase, Phase::Sending) {
            return;
        }
        let expected = t.expected;
        // One that keeps count says so itself; and its rules may have made fewer records of ours.
        if !t.opaque && t.count.is_none() && expected.is_some_and(|e| base < e) {
            // Lower than what was there before: the upstream began anew. Look what it has, this batch included.
            return self.fail(now, ix, Reject::Unknown);
        }
        if t.opaque {
            // It is done with when it is known where the log ends behind it.
            return self.ask_end(ix);
        }
        let Some(batch) = t.inflight.take() else { return };
        t.next = batch.last_seq + 1;
        t.last = Some(Stored { base, count: batch.outputs, number: batch.last_seq });
        t.expected = Some(base.saturating_add(i64::from(batch.outputs)));
        t.backoff.reset();
        t.count = t.count.map(|_| Turn(Some(batch.last_seq)));
        t.out_of_turn = false;
        t.phase = Phase::Ready;
        t.suspect_until = t.suspect_until.filter(|until| now < *until);
        let probe = expected.filter(|e| base > *e && t.suspect_until.is_some());
        if !t.proven && t.count.is_none() {
            let again = if batch.again && !batch.unsure { batch.records } else { 0 };
            t.phase = Phase::Proving { base, again };
            self.ask(ix, Query::Header { at: base });
        } else if let Some(at) = probe {
            t.phase = Phase::Probing { at, to: base, budget: self.options.search_max };
            self.ask(ix, Query::Header { at });
        }
        self.release(batch.bytes);
        self.dirty(ix);
    }

    /// Whether the first acknowledged batch stands there with our marker.
    fn proved(&mut self, ix: TargetIx, base: i64, again: u32, header: Option<Header>) {
        self.dirty(ix);
        let t = &mut self.targets[ix.0 as usize];
        t.phase = Phase::Ready;
        if header.is_some_and(|h| h.base == base && t.mine.has(Marker::of_origin(h.origin))) {
            t.proven = true;
            return;
        }
        let again = again.max(t.unanswered);
        self.without_markers(ix, again);
    }

    /// The upstream rebuilds batches: `again` records may be there twice, and nothing will ever tell.
    fn without_markers(&mut self, ix: TargetIx, again: u32) {
        self.targets[ix.0 as usize].opaque = true;
        self.note(Note::MarkersLost { target: ix });
        if again > 0 {
            self.note(Note::MaybeDuplicated { target: ix, count: u64::from(again) });
            // Nor of what else was sent before.
            self.unsure(ix);
        }
        self.ask_end(ix);
        self.dirty(ix);
    }

    fn probed(&mut self, ix: TargetIx, header: Option<Header>) {
        let t = &mut self.targets[ix.0 as usize];
        let Phase::Probing { at, to, budget } = &mut t.phase else { return };
        *budget = budget.saturating_sub(HEADER_COST);
        let Some(header) = header.filter(|h| h.end() > *at && h.base < *to) else {
            t.phase = Phase::Ready;
            return;
        };
        *at = header.end();
        let next = Some(*at).filter(|at| at < to && *budget >= HEADER_COST);
        if next.is_none() {
            t.phase = Phase::Ready;
        }
        if t.mine.has(Marker::of_origin(header.origin)) {
            self.note(Note::Duplicated { target: ix, count: u64::from(header.count) });
        }
        if let Some(at) = next {
            self.ask(ix, Query::Header { at });
        }
    }
}
