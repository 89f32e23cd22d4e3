//! Reading: where on, which batch each output goes into, and when one is sent.

use super::machine::{Forward, Sync};
use super::target::{Filling, Group, Phase, Target};
use super::{Note, Offer, Out, Output, Place, Pos, TargetIx, Took, Unsent};

impl Forward {
    /// The place from which the driver reads on. Look again after every input: what was lost is read again.
    pub fn read_pos(&self) -> Pos {
        self.read
    }

    /// Everything below is accounted for.
    pub fn cursor(&self) -> Pos {
        self.cursor
    }

    /// Whether it is known what stands at a target, so that records may go there.
    pub fn takes(&self, target: TargetIx) -> bool {
        self.targets[target.0 as usize].takes()
    }

    /// Topic and partition of each target that rebuilds batches, so that no marker survives there.
    pub fn rebuilding(&self) -> impl Iterator<Item = (&str, u32)> {
        let rebuild = self.targets.iter().filter(|t| t.opaque);
        rebuild.map(|t| (self.topic_name(t.topic), t.partition))
    }

    /// Bytes in batches: what the driver's buffers hold.
    pub fn held(&self) -> usize {
        self.held
    }

    /// One past the newest durable record of the lane, or where the stream ends. Tell it before records up to there are
    /// offered.
    pub fn set_ring_end(&mut self, seq: u64) {
        self.ring_end = self.ring_end.max(seq);
    }

    /// Batches that grow from now on have so many bytes at most, and never more than `max_batch`. One output may be larger.
    pub fn limit_batches(&mut self, bytes: usize) {
        self.batch_limit = bytes.min(self.options.max_batch);
    }

    /// Nothing durable stands at the read position: what there is is sent.
    pub fn caught_up(&mut self) {
        self.push = true;
        self.give_up_compares(|_| true);
    }

    /// Steps over records that will never arrive (the hub counts them) or that the driver knows to be behind.
    pub fn skip(&mut self, to: Pos) {
        if to.seq > self.read.seq {
            // A batch that begins in there was read before: what is below it is counted as what it is now.
            let (range, cum) = (self.read.seq..to.seq, self.cum);
            let batches = self.targets.iter_mut().flat_map(Target::batches_mut);
            batches.filter(|b| range.contains(&b.first.seq)).for_each(|b| b.before = cum);
            self.revisit_compared(range, cum);
            self.read = to;
            self.dirty_cursor = true;
        } else if to.ordinal > self.read.ordinal {
            // A resend asks by its seq alone and is on its way there; or records are lost of which no seq is known.
            self.read.ordinal = to.ordinal;
            self.dirty_cursor = true;
        }
    }

    /// Offers the record at `at` with all its outputs. `put` is called for each output that must be kept, in order.
    pub fn offer(&mut self, at: Pos, ring: u128, outs: &[Out], put: &mut dyn FnMut(usize, Place)) -> Offer {
        if at.seq < self.read.seq {
            return Offer::Taken(Took { unsent: None, begins: false });
        }
        if self.work.iter().any(|output| matches!(output, Output::Discard { .. })) {
            // The driver would forget what is put now along with what it was told to forget.
            return Offer::Full;
        }
        if self.end_compares(at, outs) {
            return Offer::Full;
        }
        let mut begins = self.revisit(at);
        let (mut bytes, mut takes, mut refused, mut compares) = (0, false, false, false);
        for i in 0..outs.len() {
            match self.verdict(at, ring, outs, i) {
                Verdict::Skip => {}
                Verdict::Refused => refused = true,
                Verdict::Compare => compares = true,
                Verdict::Take => (takes, bytes) = (true, bytes + Group::of(outs, outs[i].target).bytes),
                Verdict::Full => return self.full(),
            }
        }
        if takes && self.held > 0 && self.held + bytes > self.options.window {
            return self.full();
        }
        if compares {
            let before = self.cum;
            for i in 0..outs.len() {
                if self.verdict(at, ring, outs, i) == Verdict::Compare {
                    begins |= self.compare(at, before, outs, outs[i].target);
                }
            }
        }
        if takes {
            let mut put = |n: usize, place: Place| {
                begins |= place.index == 0;
                put(n, place);
            };
            for i in 0..outs.len() {
                if self.verdict(at, ring, outs, i) == Verdict::Take {
                    self.put_group(at, ring, outs, i, &mut put);
                }
            }
            self.push = false;
        }
        let unsent = match (refused, outs.is_empty()) {
            (true, _) => Some(Unsent::Refused),
            (false, true) => Some(Unsent::Filtered),
            (false, false) => None,
        };
        self.count(at, unsent);
        Offer::Taken(Took { unsent, begins })
    }

    /// Steps over a record that is not sent. True: a batch began with it when it was read before.
    pub fn pass(&mut self, at: Pos, why: Unsent) -> bool {
        if at.seq < self.read.seq {
            return false;
        }
        let begins = self.revisit(at);
        self.count(at, Some(why));
        begins
    }

    fn count(&mut self, at: Pos, unsent: Option<Unsent>) {
        if at.seq >= self.cursor.seq {
            let tally = &mut self.cum;
            match unsent {
                None => tally.delivered += 1,
                Some(Unsent::Filtered) => tally.filtered += 1,
                Some(Unsent::Refused) => tally.refused += 1,
                Some(Unsent::Expired) => tally.expired += 1,
                Some(Unsent::Released) => tally.released += 1,
            }
        }
        self.read = Pos { seq: at.seq + 1, ordinal: at.ordinal + 1 };
        self.dirty_cursor |= self.held == 0;
    }

    /// A record that is read again may have become something else (poison, superseded): the batch that begins with
    /// it takes the tally of this reading. True: there is one.
    fn revisit(&mut self, at: Pos) -> bool {
        if at.seq >= self.reread_below {
            return false;
        }
        let cum = self.cum;
        let mut any = self.revisit_compared(at.seq..at.seq + 1, cum);
        for batch in self.targets.iter_mut().flat_map(Target::batches_mut).filter(|b| b.first.seq == at.seq) {
            (batch.before, any) = (cum, true);
        }
        any
    }

    fn full(&mut self) -> Offer {
        self.push = true;
        Offer::Full
    }

    /// What would happen to all outputs of this record for the target of `outs[i]`; only its first output decides.
    fn verdict(&mut self, at: Pos, ring: u128, outs: &[Out], i: usize) -> Verdict {
        let ix = outs[i].target;
        if outs[..i].iter().any(|o| o.target == ix) {
            return Verdict::Skip;
        }
        let replay = at.seq < self.cursor.seq;
        let topic = self.targets[ix.0 as usize].topic;
        // What the next process must know is durable before it matters.
        let ready = self.lane_sync == Sync::Done && self.topics[topic.0 as usize].sync == Sync::Done;
        let t = &mut self.targets[ix.0 as usize];
        if replay && t.resend_below.is_none_or(|below| at.seq >= below) {
            return Verdict::Skip;
        }
        if self.poison.contains(&(ix, at.seq)) {
            return Verdict::Refused;
        }
        if at.seq < t.taken {
            return Verdict::Skip;
        }
        if matches!(t.phase, Phase::Closed) && ready {
            t.phase = Phase::Opening;
            self.work.push_back(Output::Open { target: ix });
        }
        if !t.takes() || !ready {
            return Verdict::Full;
        }
        if t.compare.is_some() {
            return Verdict::Compare;
        }
        let group = Group::of(outs, ix);
        let fits = match &t.open {
            None => true,
            Some(open) => {
                let limit = t.limit.min(self.batch_limit);
                open.has_room(ring, group.bytes, group.min_ms, group.max_ms, limit) || matches!(t.phase, Phase::Ready)
            }
        };
        if fits { Verdict::Take } else { Verdict::Full }
    }

    fn put_group(&mut self, at: Pos, ring: u128, outs: &[Out], i: usize, put: &mut dyn FnMut(usize, Place)) {
        let ix = outs[i].target;
        let group = Group::of(outs, ix);
        let t = &self.targets[ix.0 as usize];
        let limit = t.limit.min(self.batch_limit);
        let full = |b: &Filling| !b.has_room(ring, group.bytes, group.min_ms, group.max_ms, limit);
        if t.open.as_ref().is_some_and(full) {
            self.send(ix);
        }
        let (cum, id) = (self.cum, self.next_batch);
        let unsure_below = self.lane.unsure_below.max(self.options.forgotten_below);
        let unsure = ring != self.options.ring_id || at.seq < unsure_below;
        let t = &mut self.targets[ix.0 as usize];
        if t.open.is_none() {
            self.next_batch += 1;
        }
        let base_ms = outs[i].at_ms;
        let batch = t.open.get_or_insert(Filling::new(id, ring, at, cum, base_ms));
        for (n, out) in outs.iter().enumerate().filter(|(_, o)| o.target == ix) {
            put(n, Place { target: ix, batch: batch.id, index: batch.outputs, base_ms: batch.base_ms });
            batch.outputs += 1;
            batch.max_ms = batch.max_ms.max(out.at_ms);
        }
        batch.bytes += group.bytes;
        batch.records += 1;
        batch.last_seq = at.seq;
        batch.unsure |= unsure;
        t.taken = at.seq + 1;
        self.held += group.bytes;
    }

    /// Sends the open batch of a target that is ready.
    pub(super) fn send(&mut self, ix: TargetIx) {
        let t = &mut self.targets[ix.0 as usize];
        debug_assert!(matches!(t.phase, Phase::Ready) && t.inflight.is_none(), "one request in flight");
        let Some(mut open) = t.open.take() else { return };
        open.unsure |= open.first.seq < t.unsure_below;
        open.again = open.first.seq < t.sent_below;
        t.unsent = false;
        t.sent_below = t.sent_below.max(open.last_seq + 1);
        t.inflight = Some(open);
        t.phase = Phase::Sending;
        let (topic, partition, lives, turn) = (t.topic, t.partition, t.lives, t.count);
        if open.unsure {
            // Now: whether it lands may never be heard of.
            self.note(Note::MaybeDuplicated { target: ix, count: u64::from(open.records) });
        }
        let batch = open.batch(&self.identity(topic, partition, lives), turn);
        self.work.push_back(Output::Send { target: ix, batch });
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Skip,
    Refused,
    Take,
    /// It may be there: see `compare`.
    Compare,
    Full,
}
