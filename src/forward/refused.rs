//! Records that the upstream refuses for good.
//!
//! A batch that is too large is halved until the one record that is the trouble stands alone. It is then skipped, and
//! counted as refused; the driver learns from [`Forward::refused_by`] whom to name in its dead letter. That must be known after a crash as well: later batches of the same partition carry higher
//! markers, by which the refused record would be taken for one that is there. So a refusal is durable before anything
//! more is sent.

use super::machine::{Forward, Sync};
use super::target::Phase;
use super::{Note, Reject, TargetIx};
use crate::time::BootTime;

impl Forward {
    pub(super) fn rejected(&mut self, now: BootTime, ix: TargetIx, reject: Reject) {
        let Some(batch) = self.targets[ix.0 as usize].inflight else { return };
        if !matches!(self.targets[ix.0 as usize].phase, Phase::Sending) {
            return;
        }
        if reject != Reject::TooLarge {
            return self.fail(now, ix, reject);
        }
        let t = &mut self.targets[ix.0 as usize];
        t.phase = Phase::Ready;
        if batch.records == 1 {
            // The record was the trouble, not the size of batches.
            t.limit = self.options.max_batch;
            self.refuse(ix, batch.last_seq);
        } else {
            t.limit = (batch.bytes / 2).max(1);
        }
        self.discard(ix);
    }

    /// Never again.
    fn refuse(&mut self, ix: TargetIx, seq: u64) {
        self.poison.push((ix, seq));
        self.lane_sync = Sync::Wanted;
        self.note(Note::Refused { target: ix, seq });
    }

    /// Which partition refuses the record.
    pub fn refused_by(&self, seq: u64) -> Option<TargetIx> {
        self.poison.iter().find(|(_, refused)| *refused == seq).map(|(target, _)| *target)
    }

    /// What is stored of the refusals that can still be met.
    pub(super) fn keep_refused(&mut self) {
        let name = |ix: TargetIx| {
            let (_, topic, partition) = self.target_name(ix);
            (topic.to_owned(), partition)
        };
        let kept = self.poison.iter().filter(|(_, seq)| *seq >= self.cursor.seq);
        let kept: Vec<_> = kept.map(|(ix, seq)| (name(*ix), *seq)).collect();
        self.lane.refused = kept.into_iter().map(|((topic, partition), seq)| (topic, partition, seq)).collect();
    }

    pub(super) fn restore_refused(&mut self) {
        for (topic, partition, seq) in self.lane.refused.clone() {
            let target = self.topic(&topic).and_then(|ix| self.target(ix, partition));
            self.poison.extend(target.map(|ix| (ix, seq)));
        }
    }
}
