//! Which number each lane has, and topics that change lanes.
//!
//! Frames and cursors know lanes by number. The config knows them by name and orders them by weight, and that order may
//! change; so the ring keeps the names (`a`). A lane that left the config keeps its number as long as it is known: what it
//! holds is read and sent as before, and evicted first.
//!
//! A topic that changes lanes leaves its records where they are. The move (`h`) says up to which offset, and up to which
//! place of the old lane, they stand there; a partition's reader goes from one to the other, and whoever sends lane by
//! lane finishes the old one before what follows in the new one (see [`Ring::barrier`]).

use serde::{Deserialize, Serialize};

use super::state::{Put, ring_owner};
use super::*;
use crate::limits::MAX_LANES;
use crate::name::Name;
use crate::time::BootTime;
use crate::topic::{TopicId, TopicPart};

/// The ring's entry with the numbers and names of its lanes.
const LANES: &[u8] = b"a";
/// Moves of one topic of which the old lane still holds records.
const MAX_MOVES: usize = 8;

/// A topic was in another lane before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    pub from: LaneId,
    /// One past the last record of that lane that may be the topic's.
    pub end: u64,
    pub to: LaneId,
    /// The first record of the new lane that may be the topic's.
    pub start: u64,
    /// Per partition, the first offset that is not in the old lane.
    pub offsets: Vec<u64>,
}

/// The state key of a topic's moves.
fn moves_key(id: TopicId) -> [u8; 3] {
    let [a, b] = id.0.to_le_bytes();
    [b'h', a, b]
}

pub(super) fn id_of_moves_key(key: &[u8]) -> Option<TopicId> {
    match key {
        [b'h', a, b] => Some(TopicId(u16::from_le_bytes([*a, *b]))),
        _ => None,
    }
}

/// What a lane is called that no table names.
fn unnamed(lane: usize) -> Option<Name> {
    Name::new(&format!("lane-{lane}")).ok()
}

impl Ring {
    // ---- names ----

    /// Numbers by the stored table, else by the order of the options; what is new gets a free one. Lanes that are not in
    /// the options stay as far as they were used.
    pub(super) fn name_lanes(&mut self, write: bool, report: &mut Report) {
        let stored = self.state.newest(&ring_owner(), LANES).map(<[u8]>::to_vec);
        let mut table: Vec<(u8, Name)> =
            stored.as_deref().and_then(|v| postcard::from_bytes(v).ok()).unwrap_or_default();
        if table.is_empty() {
            table =
                self.options.lanes.iter().take(MAX_LANES).enumerate().map(|(i, l)| (i as u8, l.name.clone())).collect();
        }
        let wanted: Vec<LaneOptions> = self.options.lanes.iter().take(MAX_LANES).cloned().collect();
        for (rank, lane) in wanted.iter().enumerate() {
            let number = table.iter().find(|(_, name)| *name == lane.name).map(|(number, _)| *number);
            let Some(number) = number.or_else(|| self.free_lane(&mut table, &lane.name)) else {
                let name = &lane.name;
                report
                    .notes
                    .push(format!("no room for lane {name}: {MAX_LANES} others are in use; the lowest stands in"));
                continue;
            };
            let lane_mut = &mut self.lanes[usize::from(number)];
            (lane_mut.rank, lane_mut.reserve) = (rank as u8, lane.reserve);
        }
        for (number, name) in &table {
            if let Some(lane) = self.lanes.get_mut(usize::from(*number)) {
                lane.name = Some(name.clone());
            }
        }
        let used = |l: &super::slots::Lane| l.name.is_some() || !l.log.slots.is_empty() || l.counters.admitted > 0;
        let count = self.lanes.iter().rposition(used).map_or(1, |last| last + 1);
        self.lanes.truncate(count);
        let mut value = Vec::new();
        super::wire::append(&mut value, &table);
        if write && stored.is_none_or(|old| old != value) {
            self.put_own(LANES, Some(&value));
        }
    }

    /// A number for a new lane: one that was never used, else that of a lane that is not wanted and holds nothing.
    fn free_lane(&self, table: &mut Vec<(u8, Name)>, name: &Name) -> Option<u8> {
        let unused = |n: &u8| {
            let lane = &self.lanes[usize::from(*n)];
            let holds = !lane.log.slots.is_empty() || !lane.tail.is_empty();
            table.iter().all(|(taken, _)| taken != n) && !holds && lane.counters.admitted == 0
        };
        let unwanted = |n: &u8| {
            let wanted = |old: &Name| self.options.lanes.iter().any(|l| l.name == *old);
            let topics = self.topics.iter().any(|t| t.lane.0 == *n || t.moves.iter().any(|m| m.from.0 == *n));
            let lane = &self.lanes[usize::from(*n)];
            lane.log.slots.is_empty()
                && lane.tail.is_empty()
                && !topics
                && table.iter().all(|(taken, old)| taken != n || !wanted(old))
        };
        let all = || 0..MAX_LANES as u8;
        let number = all().find(unused).or_else(|| all().find(unwanted))?;
        table.retain(|(taken, _)| *taken != number);
        table.push((number, name.clone()));
        Some(number)
    }

    /// The number of a lane of the options; the lowest where it has none.
    pub fn lane_named(&self, name: &Name) -> LaneId {
        let lowest = || self.lane_order().last().copied().unwrap_or_default();
        self.lanes.iter().find(|l| l.name.as_ref() == Some(name)).map_or_else(lowest, |l| l.id)
    }

    /// What a lane is called.
    pub fn lane_name(&self, lane: LaneId) -> Option<Name> {
        let at = lane.0 as usize;
        self.lanes.get(at).and_then(|l| l.name.clone().or_else(|| unnamed(at)))
    }

    /// A lane by its place in the options; [`u8::MAX`] where it is not in them.
    pub fn lane_place(&self, lane: LaneId) -> LaneId {
        LaneId(self.lanes.get(lane.0 as usize).map_or(u8::MAX, |l| l.rank))
    }

    /// The ordinal of the oldest record of a lane that can be read.
    pub fn lane_oldest(&self, lane: LaneId) -> u64 {
        self.lanes.get(lane.index()).map_or(0, |l| l.oldest.ordinal)
    }

    pub fn lane_count(&self) -> usize {
        self.lanes.len()
    }

    /// All lanes, the most important first; those that left the options come last.
    pub fn lane_order(&self) -> Vec<LaneId> {
        let mut order: Vec<_> = self.lanes.iter().map(|l| (l.rank, l.id)).collect();
        order.sort_unstable();
        order.into_iter().map(|(_, id)| id).collect()
    }

    // ---- topics that move ----

    /// The topic's records go to another lane from here on. False: it was moved too often lately, and stays.
    pub fn move_topic(&mut self, id: TopicId, to: LaneId) -> bool {
        let to = LaneId(to.0.min(self.lanes.len() as u8 - 1));
        let Some(from) = self.topics.get(id).map(|t| t.lane) else { return false };
        if from == to {
            return true;
        }
        self.refresh_earliest(from);
        // No frame has records from both sides, and what is in the old lane is durable no later.
        self.seal_all();
        let (end, start) = (self.lane_end(from).ordinal, self.lane_end(to).ordinal);
        let Some(topic) = self.topics.get_mut(id) else { return false };
        if topic.moves.len() >= MAX_MOVES {
            return false;
        }
        let offsets: Vec<u64> = topic.parts.iter().map(|p| p.info.next).collect();
        if offsets.iter().any(|offset| *offset > 0) {
            topic.moves.push(Move { from, end, to, start, offsets });
        }
        topic.lane = to;
        self.store_moves(id);
        self.store_topic(id);
        true
    }

    pub(super) fn store_moves(&mut self, id: TopicId) {
        let Some(topic) = self.topics.get(id) else { return };
        let mut value = Vec::new();
        super::wire::append(&mut value, &topic.moves);
        let (lane, none) = (topic.lane.index(), topic.moves.is_empty());
        if none && self.state.newest(&ring_owner(), &moves_key(id)).is_none() {
            return;
        }
        self.beside_lane(lane);
        self.put_own(&moves_key(id), (!none).then_some(&value));
    }

    pub(super) fn forget_moves(&mut self, id: TopicId) {
        if self.state.newest(&ring_owner(), &moves_key(id)).is_some() {
            self.put_own(&moves_key(id), None);
        }
    }

    /// An entry is durable: where it is a topic's, so are its lane and its floors.
    pub(super) fn settle_topic(&mut self, put: &Put) {
        if put.owner == ring_owner()
            && let Some(topic) = super::topics::id_of_key(&put.key).and_then(|id| self.topics.get_mut(id))
            && let Some(value) = put.value.as_deref()
        {
            topic.settle(value);
        }
    }

    /// Records of a topic stand in a lane where no entry puts it: the entry of its move is lost. At recovery.
    pub(super) fn found_moved(&mut self, run: &super::format::Run, header: &super::format::FrameHeader) -> bool {
        let (to, start) = (header.lane, header.first_ordinal());
        let Some(topic) = self.topics.get_mut(run.part.topic).filter(|t| t.lane != to) else { return false };
        let from = std::mem::replace(&mut topic.lane, to);
        let mut offsets: Vec<u64> = topic.parts.iter().map(|p| p.info.next).collect();
        if let Some(offset) = offsets.get_mut(run.part.partition as usize) {
            *offset = run.first_offset.min(*offset);
        }
        // No record of the topic can be there above what the lane had when this frame was sealed.
        let end = header.lanes[from.index()].admitted;
        if topic.moves.len() == MAX_MOVES {
            topic.moves.remove(0);
        }
        topic.moves.push(Move { from, end, to, start, offsets });
        topic.durable_lane = to;
        // True whether or not it is written again.
        let (mut moves, mut entry) = (Vec::new(), Vec::new());
        super::wire::append(&mut moves, &topic.moves);
        topic.encode(&mut entry);
        let id = topic.id;
        for (key, value) in [(moves_key(id), moves), (super::topics::key(id), entry)] {
            self.state.restore(Put { owner: ring_owner(), key: Box::from(key), value: Some(value.into()) });
        }
        true
    }

    /// What is stored of a topic's moves, at recovery.
    pub(super) fn restore_moves(&mut self, id: TopicId, value: Option<&[u8]>) {
        let moves: Vec<Move> = value.and_then(|v| postcard::from_bytes(v).ok()).unwrap_or_default();
        let sane = |m: &Move| m.from.index() < MAX_LANES && m.to.index() < MAX_LANES;
        if let Some(topic) = self.topics.get_mut(id) {
            topic.moves = moves.into_iter().filter(sane).collect();
        }
    }

    /// Lanes that a topic was in before and that may still hold records of it, the oldest first.
    pub fn moves(&self, id: TopicId) -> &[Move] {
        self.topics.get(id).map_or(&[], |t| &t.moves)
    }

    /// The next offsets of a lane's partitions behind all that readers see, also of those that left it and of which it
    /// holds records.
    pub fn lane_ends(&self, lane: LaneId) -> Vec<(TopicPart, u64)> {
        self.lanes.get(lane.index()).map_or_else(Vec::new, |l| self.topics.ends(lane, l.shown.ordinal).collect())
    }

    /// The same as they were when the lane's oldest slot was opened, and in which boot and when that was; None: they are
    /// not all known, or that slot does not begin at `ordinal`.
    #[allow(clippy::type_complexity)] // Named, it would be one word more and say less.
    pub fn lane_starts(&self, lane: LaneId, ordinal: u64) -> Option<(Vec<(TopicPart, u64)>, Option<(u32, BootTime)>)> {
        let slots = &self.lanes.get(lane.index())?.log.slots;
        match slots.front() {
            Some(oldest) => (oldest.starts_complete && oldest.first.ordinal == ordinal)
                .then(|| (oldest.starts.to_vec(), oldest.opened)),
            None => {
                let durable = self.lanes.get(lane.index())?.durable.ordinal;
                (durable == ordinal).then(|| (self.topics.starts(lane, durable).collect(), None))
            }
        }
    }

    /// Whoever sends lane by lane and stands at `ordinal` of `lane`: the lane and the place in it that must be passed
    /// before, since a topic came from there. None: nothing holds it back.
    pub fn barrier(&self, lane: LaneId, ordinal: u64, passed: impl Fn(LaneId) -> u64) -> Option<(LaneId, u64)> {
        let holds = |m: &&super::lanes::Move| {
            let old = self.lanes.get(m.from.index());
            let left = old.is_some_and(|l| l.oldest.ordinal < m.end);
            m.to == lane && ordinal >= m.start && left && passed(m.from) < m.end
        };
        self.topics.iter().flat_map(|t| &t.moves).find(holds).map(|m| (m.from, m.end))
    }
}
