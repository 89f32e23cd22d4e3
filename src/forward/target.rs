//! One partition of an upstream topic: its phase, its batches, and what is known to be in it.

use super::compare::Compare;
use super::identity::{Identity, Mine};
use super::search::Search;
use super::state::Stored;
use super::turn::Turn;
use super::{Batch, Marker, Out, Pos, Tally, TargetIx, TopicIx};
use crate::backoff::Backoff;
use crate::time::BootTime;

/// What a partition is doing.
#[derive(Clone, Debug)]
pub(super) enum Phase {
    /// Not connected, and nothing wants to be sent.
    Closed,
    /// The driver was asked to connect.
    Opening,
    /// Rejected: nothing until then.
    Wait {
        until: BootTime,
    },
    /// Looking for the newest marker.
    Resume(Search),
    /// A request may still land: look again then.
    Grace {
        until: BootTime,
        search: Search,
    },
    /// The second look.
    Again(Search),
    /// Our newest batch is there but not replicated: look again then.
    Uncommitted {
        until: BootTime,
    },
    Ready,
    Sending,
    /// Asking an upstream that keeps count.
    Counting,
    /// Where markers do not survive: waiting for what may still land there.
    Settling {
        until: BootTime,
    },
    /// Asking where its log ends.
    Ending,
    /// Asking whether something stands there that is not replicated.
    Beyond {
        start: i64,
        end: i64,
    },
    /// Asking what stands there.
    Comparing {
        end: i64,
    },
    /// Reading the first acknowledged batch back; where markers do not survive, `again` records of it may be there twice.
    Proving {
        base: i64,
        again: u32,
    },
    /// Reading what stands between the expected and the given base offset.
    Probing {
        at: i64,
        to: i64,
        budget: usize,
    },
}

/// A batch that is being filled or is in flight.
#[derive(Clone, Copy, Debug)]
pub(super) struct Filling {
    pub id: u64,
    pub ring: u128,
    /// The place of its first record, and the tally of everything before it.
    pub first: Pos,
    pub before: Tally,
    pub last_seq: u64,
    pub outputs: u32,
    pub records: u32,
    pub bytes: usize,
    pub base_ms: i64,
    pub max_ms: i64,
    pub unsure: bool,
    /// It may have been sent before.
    pub again: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Target {
    pub topic: TopicIx,
    pub partition: u32,
    pub phase: Phase,
    /// Our ids in its batch headers.
    pub mine: Mine,
    /// Everything of ours below this seq is there.
    pub next: u64,
    /// Everything of ours below this seq is there, in flight or in the open batch.
    pub taken: u64,
    pub last: Option<Stored>,
    pub resend_below: Option<u64>,
    /// The upstream rebuilds batches: markers say nothing.
    pub opaque: bool,
    /// A marker of ours was read back from it.
    pub proven: bool,
    /// Records of requests that were never answered, before it was known whether markers survive.
    pub unanswered: u32,
    /// The offset that the next batch gets if nobody else writes.
    pub expected: Option<i64>,
    /// A request may be on its way to it.
    pub doubt: bool,
    /// Nothing was ever sent to it as this stream: there is nothing to look for.
    pub unsent: bool,
    /// While it is connected to an upstream that keeps count: our newest batch there, as the upstream has it.
    pub count: Option<Turn>,
    /// A batch came out of turn; until one is taken.
    pub out_of_turn: bool,
    /// Where markers do not survive: what is there of a batch that was on its way.
    pub compare: Option<Compare>,
    /// Where markers do not survive: the log has grown by what was not sent just then.
    pub shared: bool,
    /// A batch of ours stood there that was not replicated yet.
    pub seen_uncommitted: bool,
    /// Until then a higher base offset than expected is looked into.
    pub suspect_until: Option<BootTime>,
    /// One past the last record that may have been sent to it, by this process or one before it.
    pub sent_below: u64,
    /// A marker of ours at or above this seq is not this life's doing.
    pub own_below: u64,
    pub lives: u32,
    /// Batches that begin below it may repeat something.
    pub unsure_below: u64,
    pub open: Option<Filling>,
    pub inflight: Option<Filling>,
    /// Bytes of a batch; lower than configured once the upstream found one too large.
    pub limit: usize,
    pub backoff: Backoff,
}

impl Target {
    pub fn batches(&self) -> impl Iterator<Item = &Filling> {
        self.inflight.iter().chain(self.open.iter())
    }

    pub fn batches_mut(&mut self) -> impl Iterator<Item = &mut Filling> {
        self.inflight.iter_mut().chain(self.open.iter_mut())
    }

    pub fn held(&self) -> usize {
        self.batches().map(|b| b.bytes).sum()
    }

    pub fn is_idle(&self) -> bool {
        self.open.is_none() && self.inflight.is_none()
    }

    /// Whether records may be put into its open batch.
    pub fn takes(&self) -> bool {
        match self.phase {
            Phase::Ready | Phase::Sending | Phase::Proving { .. } | Phase::Probing { .. } => true,
            Phase::Ending => !self.doubt,
            _ => false,
        }
    }

    /// When it wants to be called although nothing happened.
    pub fn until(&self) -> Option<BootTime> {
        match self.phase {
            Phase::Wait { until }
            | Phase::Grace { until, .. }
            | Phase::Uncommitted { until }
            | Phase::Settling { until } => Some(until),
            _ => None,
        }
    }

    /// What is in flight may land or not.
    pub fn note_unanswered(&mut self) {
        if !self.proven && !self.opaque {
            self.unanswered = self.unanswered.saturating_add(self.inflight.map_or(0, |batch| batch.records));
        }
    }

    pub fn drop_batches(&mut self) {
        self.open = None;
        self.inflight = None;
        self.taken = self.next;
    }
}

impl Filling {
    pub fn new(id: u64, ring: u128, first: Pos, before: Tally, base_ms: i64) -> Self {
        Self {
            id,
            ring,
            first,
            before,
            last_seq: first.seq,
            outputs: 0,
            records: 0,
            bytes: 0,
            base_ms,
            max_ms: base_ms,
            unsure: false,
            again: false,
        }
    }

    /// Whether `bytes` more with times between `min_ms` and `max_ms` fit; the wire keeps deltas of 31 bits.
    pub fn has_room(&self, ring: u128, bytes: usize, min_ms: i64, max_ms: i64, limit: usize) -> bool {
        let low = self.base_ms.saturating_add(i64::from(i32::MIN));
        let high = self.base_ms.saturating_add(i64::from(i32::MAX));
        self.ring == ring
            && self.bytes.saturating_add(bytes) <= limit
            && min_ms >= low
            && max_ms <= high
            && self.outputs < i32::MAX as u32 / 2
    }

    pub fn batch(&self, identity: &Identity<'_>, turn: Option<Turn>) -> Batch {
        let marker = Marker { id: identity.producer_id(self.ring), number: self.last_seq };
        Batch {
            id: self.id,
            marker: marker.to_origin(),
            count: self.outputs,
            records: self.records,
            bytes: self.bytes,
            base_ms: self.base_ms,
            max_ms: self.max_ms,
            last_seq: self.last_seq,
            turn,
        }
    }
}

/// All outputs of one record for one target, taken together.
pub(super) struct Group {
    pub bytes: usize,
    pub min_ms: i64,
    pub max_ms: i64,
}

impl Group {
    pub fn of(outs: &[Out], ix: TargetIx) -> Self {
        let mut group = Self { bytes: 0, min_ms: i64::MAX, max_ms: i64::MIN };
        for out in outs.iter().filter(|o| o.target == ix) {
            group.bytes += out.bytes;
            group.min_ms = group.min_ms.min(out.at_ms);
            group.max_ms = group.max_ms.max(out.at_ms);
        }
        group
    }
}
