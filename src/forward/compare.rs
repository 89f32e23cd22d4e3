//! Resuming in a log that rebuilds batches, where no marker survives: by what stands there, where nobody else writes.
//!
//! Such a log's end is asked for after each batch that was acknowledged, before the batch counts as done, and stored with it.
//! Where nothing stands behind the stored end at the next connect, nothing has landed. What stands there can only be what was sent
//! since if nobody else writes there ([`super::Options::only_writer`], which is told and not guessed): records of ours, in order. They are fetched, as far as `search_max` goes, and compared with
//! the records that are read again, by what key and value come to ([`super::Out::content`]). Until the last one is met nothing
//! is certain, and the cursor stays.
//!
//! Only all of it proves anything. One that differs (the topic leaves records out or changes them, or somebody else writes
//! there), one that is missing, or too much to fetch: then all is sent again and counted as `maybe_duplicated`. What lands
//! even later shows by a log that has grown by more than was sent, and counts likewise. A log that ends earlier than it did
//! was truncated or made anew, which is announced. If it is empty, what the ring still has is sent again where that is asked for; if
//! not, nothing tells what of it is left, so nothing is sent again.
//!
//! # What it takes for granted
//!
//! That nobody else writes there, where that is told: a record which is equal to ours in key and value and stands where ours was
//! to stand is ours. Another writer's that is
//! equal to the next of ours, behind our end and with nothing else there, is taken for it while ours never landed: then one
//! stands there where there should be two, and nothing shows it. So it is asked only of a partition where nobody else was
//! ever seen, whatever was told: once a log has grown by more than was sent (other writers, among them other lanes and streams of this sink; or a
//! batch that landed after its grace period), that is stored, and from then on whatever stands behind our end proves nothing:
//! all that is in doubt is sent again and counted. What can be mistaken is therefore what another writer does first, in
//! the very time when a batch of ours is in doubt; and records that are left out by the topic hide as many of another writer.
//!
//! Records of ours that are equal to each other change places without notice: as many stand there as should.

use std::collections::VecDeque;
use std::ops::Range;

use super::machine::Forward;
use super::resume::SUSPECT;
use super::state::Stored;
use super::target::{Phase, Target};
use super::{Header, Note, OnLoss, Out, Output, Pos, Query, Reject, Tally, TargetIx};
use crate::time::BootTime;

/// What stands behind the last acknowledged batch.
#[derive(Clone, Debug)]
pub(super) struct Compare {
    /// Of it, what was not met yet.
    there: VecDeque<u64>,
    /// Where the log ended.
    end: i64,
    /// The first record that was compared, and what became of everything below it.
    pub from: Option<(Pos, Tally)>,
}

impl Target {
    /// Where the log ended behind the last acknowledged batch; None: that was not asked for, or by an earlier version.
    fn known_end(&self) -> Option<i64> {
        self.last.filter(|last| last.count == 0).map(|last| last.base)
    }
}

impl Forward {
    /// Compared records that begin in there take the tally of this reading. True: there are some.
    pub(super) fn revisit_compared(&mut self, seqs: Range<u64>, now: Tally) -> bool {
        let from = self.targets.iter_mut().filter_map(|t| t.compare.as_mut()?.from.as_mut());
        from.filter(|(pos, _)| seqs.contains(&pos.seq)).map(|(_, before)| *before = now).count() > 0
    }

    /// Whether outputs for it are offered with what they come to.
    pub fn compares(&self, target: TargetIx) -> bool {
        self.targets[target.0 as usize].compare.is_some()
    }

    /// Connected to a log that rebuilds batches.
    pub(super) fn up_without_markers(&mut self, now: BootTime, ix: TargetIx) {
        let grace = self.options.grace;
        let t = &mut self.targets[ix.0 as usize];
        t.expected = None;
        if t.doubt {
            // What is still on its way is to stand there before it is looked for.
            t.phase = Phase::Settling { until: now + grace };
            return;
        }
        self.ask_end(ix);
    }

    pub(super) fn ask_end(&mut self, ix: TargetIx) {
        self.targets[ix.0 as usize].phase = Phase::Ending;
        self.ask(ix, Query::Offsets);
    }

    /// What is replicated ends here; in doubt it matters whether more stands behind it.
    pub(super) fn committed_ends_at(&mut self, now: BootTime, ix: TargetIx, start: i64, end: i64) {
        let t = &mut self.targets[ix.0 as usize];
        if !t.doubt {
            return self.ends_at(now, ix, start, end);
        }
        t.phase = Phase::Beyond { start, end };
        self.ask(ix, Query::Header { at: end });
    }

    /// What stands behind the replicated end.
    pub(super) fn beyond(&mut self, now: BootTime, ix: TargetIx, (start, end): (i64, i64), header: Option<Header>) {
        let committed = self.options.committed;
        let t = &mut self.targets[ix.0 as usize];
        match header {
            None => self.ends_at(now, ix, start, end),
            // It may come to count, or to nothing.
            Some(_) if committed => t.phase = Phase::Settling { until: now + t.backoff.next_wait() },
            Some(header) => {
                let end = header.end().max(end + 1);
                t.phase = Phase::Beyond { start, end };
                self.ask(ix, Query::Header { at: end });
            }
        }
    }

    /// Where the log ends now.
    fn ends_at(&mut self, now: BootTime, ix: TargetIx, start: i64, end: i64) {
        let t = &mut self.targets[ix.0 as usize];
        let before = t.known_end();
        if before.is_some_and(|before| end < before) {
            let from = t.next;
            if end == 0 && self.options.on_loss == OnLoss::Resend {
                // Made anew, and empty: nothing can be there twice. What was acknowledged a moment ago is gone as well.
                self.discard(ix);
                self.compared(ix, end);
                return self.lost(ix, None);
            }
            self.note(Note::UpstreamLoss { target: ix, from, resending: false });
            return if self.targets[ix.0 as usize].doubt {
                self.incomparable(ix, end)
            } else {
                self.done_with(ix, end)
            };
        }
        if !t.doubt {
            if let Some(before) = before {
                let sent = t.inflight.map_or(0, |batch| i64::from(batch.outputs));
                self.not_sent(now, ix, end.saturating_sub(before).saturating_sub(sent));
            }
            return self.done_with(ix, end);
        }
        t.suspect_until = Some(now + SUSPECT);
        match before {
            Some(known) if known == end => self.compared(ix, end),
            Some(known) if self.options.only_writer && !t.shared && (start..end).contains(&known) => {
                t.phase = Phase::Comparing { end };
                self.ask(ix, Query::Contents { from: known, to: end });
            }
            _ => self.incomparable(ix, end),
        }
    }

    /// The log has grown by so many records that were not sent just then.
    fn not_sent(&mut self, now: BootTime, ix: TargetIx, records: i64) {
        let t = &mut self.targets[ix.0 as usize];
        let Ok(count @ 1..) = u64::try_from(records) else { return };
        t.shared = true;
        if t.suspect_until.is_some_and(|until| now < until) {
            self.note(Note::MaybeDuplicated { target: ix, count });
        }
    }

    /// What was acknowledged stands before this end.
    fn done_with(&mut self, ix: TargetIx, end: i64) {
        let t = &mut self.targets[ix.0 as usize];
        if let Some(batch) = t.inflight.take() {
            t.next = batch.last_seq + 1;
            t.last = Some(Stored { base: end, count: 0, number: batch.last_seq });
            t.backoff.reset();
            self.release(batch.bytes);
        }
        self.compared(ix, end);
    }

    /// What stands behind the known end; None: too much, or it cannot be read.
    pub(super) fn contents(&mut self, now: BootTime, ix: TargetIx, result: Result<Option<Vec<u64>>, Reject>) {
        let t = &mut self.targets[ix.0 as usize];
        let Phase::Comparing { end } = t.phase else { return };
        match result {
            Err(reject) => self.fail(now, ix, reject),
            Ok(Some(there)) if !there.is_empty() => {
                t.compare = Some(Compare { there: there.into(), end, from: None });
                t.phase = Phase::Ready;
            }
            Ok(_) => self.incomparable(ix, end),
        }
    }

    /// A record that may be there: it is taken for it, until more is known. True: it is the first, where the cursor stays.
    pub(super) fn compare(&mut self, at: Pos, before: Tally, outs: &[Out], ix: TargetIx) -> bool {
        let t = &mut self.targets[ix.0 as usize];
        let Some(compare) = &mut t.compare else { return false };
        let first = compare.from.is_none();
        compare.from.get_or_insert((at, before));
        let met = outs.iter().filter(|out| out.target == ix).count();
        compare.there.drain(..met.min(compare.there.len()));
        t.taken = at.seq + 1;
        if compare.there.is_empty() {
            let end = compare.end;
            t.next = t.taken;
            t.last = Some(Stored { base: end, count: 0, number: at.seq });
            self.compared(ix, end);
        }
        first
    }

    /// Ends what comes to nothing: this record is not what stands there, or cannot have been sent. True: reading begins anew.
    pub(super) fn end_compares(&mut self, at: Pos, outs: &[Out]) -> bool {
        let differs = |t: &Target, ix: TargetIx| {
            let Some(compare) = t.compare.as_ref().filter(|_| at.seq >= t.taken) else { return false };
            let contents = outs.iter().filter(|out| out.target == ix).map(|out| out.content);
            let (mut there, mut all) = (compare.there.iter(), contents);
            at.seq >= t.sent_below || !all.all(|content| there.next() == Some(&content))
        };
        let found = outs.iter().map(|out| out.target).find(|ix| differs(&self.targets[ix.0 as usize], *ix));
        found.map(|ix| self.give_up_compare(ix)).is_some()
    }

    /// Ends those that there are no more records for.
    pub(super) fn give_up_compares(&mut self, over: impl Fn(&Target) -> bool) {
        for at in 0..self.targets.len() {
            if self.targets[at].compare.is_some() && over(&self.targets[at]) {
                self.give_up_compare(TargetIx(at as u16));
            }
        }
    }

    fn give_up_compare(&mut self, ix: TargetIx) {
        let t = &mut self.targets[ix.0 as usize];
        let Some(compare) = t.compare.take() else { return };
        t.drop_batches();
        self.incomparable(ix, compare.end);
        self.rewind();
        // Whoever reads has to be told to look where reading goes on.
        self.work.push_back(Output::Discard { target: ix });
    }

    /// Nothing tells whether what was on its way is there.
    fn incomparable(&mut self, ix: TargetIx, end: i64) {
        self.unsure(ix);
        self.compared(ix, end);
    }

    fn compared(&mut self, ix: TargetIx, end: i64) {
        let t = &mut self.targets[ix.0 as usize];
        (t.doubt, t.compare, t.phase) = (false, None, Phase::Ready);
        if let Some(last) = &mut t.last {
            (last.base, last.count) = (end, 0);
            self.dirty(ix);
        }
    }
}
