//! How far the cursor may move, and what is stored with it.

use super::machine::{Forward, Sync, Topic};
use super::state::{self, Position, TopicState};
use super::target::Target;
use super::{Output, Pos, Tally};

/// Placements that are remembered of a topic.
const MAX_PAST: usize = 16;

impl Forward {
    /// Puts new placements to use, and forgets old ones.
    pub(super) fn settle_topics(&mut self) {
        for topic in self.topics.iter_mut().filter(|t| t.sync == Sync::Done) {
            if topic.state.switch.is_some_and(|(from, _)| self.cursor.seq >= from)
                && let Some((from, next)) = topic.state.switch.take()
            {
                if topic.state.past.len() == MAX_PAST {
                    topic.state.past.remove(0);
                }
                topic.state.past.push((from, topic.state.placement));
                topic.state.placement = next;
                topic.dirty = true;
            }
            if topic.state.switch.is_some() {
                continue;
            }
            let Some(next) = topic.pending.take() else { continue };
            if !topic.state.placement.is_known() {
                topic.state.placement = next;
            } else {
                // No record at or above the ring's end was ever sent by anyone: only there a new placement doubles nothing.
                topic.state.switch = Some((self.ring_end, next));
            }
            (topic.sync, topic.dirty) = (Sync::Wanted, true);
        }
    }

    /// The furthest place below which everything is accounted for.
    fn safe(&self) -> (Pos, Tally) {
        let batches = self.targets.iter().flat_map(Target::batches).map(|b| (b.first, b.before));
        let compared = self.targets.iter().filter_map(|t| t.compare.as_ref()?.from);
        match batches.chain(compared).min_by_key(|(first, _)| first.seq) {
            Some(oldest) if oldest.0.seq < self.read.seq => oldest,
            _ => (self.read, self.cum),
        }
    }

    pub(super) fn advance(&mut self) -> Option<Output> {
        let sync =
            !self.syncing && (self.lane_sync == Sync::Wanted || self.topics.iter().any(|t| t.sync == Sync::Wanted));
        if !self.dirty_cursor && !sync {
            return None;
        }
        self.dirty_cursor = false;
        let (to, tally) = self.safe();
        let moved = to > self.cursor;
        let from = self.cursor_tally;
        if moved {
            (self.cursor, self.cursor_tally) = (to, tally);
            self.poison.retain(|(_, seq)| *seq >= to.seq);
        }
        // Also where the cursor does not move any more: at the end of its stream.
        self.end_resends();
        let state = self.take_state(sync);
        if !moved && state.is_empty() && !sync {
            return None;
        }
        self.syncing |= sync;
        let tally = Tally {
            delivered: self.cursor_tally.delivered - from.delivered,
            filtered: self.cursor_tally.filtered - from.filtered,
            refused: self.cursor_tally.refused - from.refused,
            expired: self.cursor_tally.expired - from.expired,
            released: self.cursor_tally.released - from.released,
        };
        Some(Output::Advance { to: self.cursor, tally, state, sync })
    }

    /// Whether all that was sent up to the cursor is settled: nothing is to be sent again that an upstream has lost.
    pub fn is_settled(&self) -> bool {
        let resends = self.targets.iter().any(|t| t.resend_below.is_some());
        self.held == 0
            && self.targets.iter().all(|t| t.compare.is_none())
            && !resends
            && !self.dirty_cursor
            && !self.syncing
            && self.work.is_empty()
    }

    /// The keys of everything that is stored with the cursor.
    pub fn keys(&self) -> Vec<Vec<u8>> {
        let (lane, stream) = (self.options.lane, self.options.stream.number);
        let topics = self.topics.iter().map(|topic| state::topic_key(lane, stream, &topic.name));
        topics.chain([state::lane_key(lane, stream)]).collect()
    }

    /// A resend is over when reading has passed it and nothing of it is in flight.
    fn end_resends(&mut self) {
        let read = self.read.seq;
        for t in self.targets.iter_mut().filter(|t| t.resend_below.is_some_and(|below| read >= below) && t.is_idle()) {
            t.resend_below = None;
            self.topics[t.topic.0 as usize].dirty = true;
        }
    }

    fn take_state(&mut self, sync: bool) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut entries = Vec::new();
        if sync && self.lane_sync == Sync::Wanted {
            self.lane_sync = Sync::Asked;
            self.keep_refused();
            entries.push((state::lane_key(self.options.lane, self.options.stream.number), state::encode(&self.lane)));
        }
        for i in 0..self.topics.len() {
            if sync && self.topics[i].sync == Sync::Wanted {
                self.topics[i].sync = Sync::Asked;
            }
            if std::mem::take(&mut self.topics[i].dirty) {
                let key = state::topic_key(self.options.lane, self.options.stream.number, &self.topics[i].name);
                entries.push((key, self.topic_state(&self.topics[i]).encode()));
            }
        }
        entries
    }

    fn topic_state(&self, topic: &Topic) -> TopicState {
        let mut stored = topic.state.clone();
        let live = topic.targets.iter().map(|ix| &self.targets[ix.0 as usize]);
        stored.positions.extend(live.map(|t| Position {
            partition: t.partition,
            last: t.last,
            resend_below: t.resend_below,
            opaque: t.opaque,
            proven: t.proven,
            unsure_below: t.unsure_below,
            own_below: t.own_below,
            lives: t.lives,
            shared: t.shared,
        }));
        stored
    }
}
