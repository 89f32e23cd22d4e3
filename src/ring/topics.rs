//! The topic table: names, lanes, and where each partition's offsets stand.
//!
//! A topic is a `ring` state entry (`t` + id); its next offsets are refreshed in every snapshot and otherwise follow
//! from the runs of the frames after it. An id is never given to another name, an offset never to another record.

use serde::{Deserialize, Serialize};

use super::format::MAX_NUMBER;
use super::{Move, PartitionInfo, TopicError, TopicInfo, wire};
use crate::lane::LaneId;
use crate::limits::{MAX_LANES, MAX_PARTITIONS, MAX_TOPICS};
use crate::topic::{TopicId, TopicName, TopicPart};

#[derive(Clone, Copy, Debug, Default)]
pub struct Part {
    pub info: PartitionInfo,
    /// One past its newest durable record.
    pub durable: u64,
    /// Offsets below it may have been shown although no record of them is durable: never given after an unclean end.
    pub floor: u64,
    /// The same as its newest entry has it, which is perhaps not durable yet.
    pub reserved: u64,
    /// Which batch last had a record of it, and its number there.
    pub stamp: u64,
    pub index: u16,
}

impl Part {
    /// At recovery: everything below this offset was given, and is durable or lost.
    pub fn stands_at(&mut self, offset: u64) {
        (self.durable, self.info.durable_end, self.info.next) = (offset, offset, offset);
    }
}

#[derive(Clone, Debug)]
pub struct Topic {
    pub id: TopicId,
    pub name: TopicName,
    pub lane: LaneId,
    pub parts: Vec<Part>,
    /// The lane that its durable entry has.
    pub durable_lane: LaneId,
    /// Its unread records are not to be pushed out: who brings them waits. As the options have it, not stored.
    pub keep: bool,
    /// Lanes that it was in before and that may still hold records of it, the oldest first.
    pub moves: Vec<Move>,
}

#[derive(Serialize, Deserialize)]
struct Wire<'a> {
    #[serde(borrow)]
    name: &'a str,
    lane: u8,
    next: Vec<u64>,
    floors: Vec<u64>,
}

impl Topic {
    /// The state entry's value; `durable` offsets, since everything beyond follows from later frames.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.encode_in(self.lane, out);
    }

    fn encode_in(&self, lane: LaneId, out: &mut Vec<u8>) {
        let next = self.parts.iter().map(|p| p.durable).collect();
        let floors = self.parts.iter().map(|p| p.reserved).collect();
        wire::append(out, &Wire { name: self.name.as_str(), lane: lane.0, next, floors });
    }

    /// As `encode`, without a move that is on its way.
    pub fn encode_durable(&self, out: &mut Vec<u8>) {
        self.encode_in(self.durable_lane, out);
    }

    /// This entry is durable.
    pub fn settle(&mut self, value: &[u8]) {
        let Ok(wire) = postcard::from_bytes::<Wire<'_>>(value) else { return };
        self.durable_lane = LaneId(wire.lane);
        self.parts.iter_mut().zip(wire.floors).for_each(|(part, floor)| part.floor = floor);
    }

    pub fn decode(id: TopicId, bytes: &[u8]) -> Option<Topic> {
        let wire: Wire<'_> = postcard::from_bytes(bytes).ok()?;
        let sane = !wire.next.is_empty() && wire.next.len() <= MAX_PARTITIONS && (wire.lane as usize) < MAX_LANES;
        let part = |(next, floor): (u64, u64)| Part {
            info: PartitionInfo { earliest: 0, durable_end: next, next },
            durable: next,
            floor,
            reserved: floor,
            ..Part::default()
        };
        let numbers = wire.next.iter().chain(&wire.floors).all(|n| *n <= MAX_NUMBER);
        (sane && numbers && wire.floors.len() == wire.next.len()).then_some(())?;
        Some(Topic {
            id,
            name: TopicName::new(wire.name).ok()?,
            lane: LaneId(wire.lane),
            durable_lane: LaneId(wire.lane),
            parts: wire.next.into_iter().zip(wire.floors).map(part).collect(),
            keep: false,
            moves: Vec::new(),
        })
    }

    /// The lane in which the oldest records stand that can be read.
    pub fn first_lane(&self) -> LaneId {
        self.moves.first().map_or(self.lane, |m| m.from)
    }

    /// The lane in which an offset stands, and the move that ends there.
    pub fn lane_of(&self, partition: u8, offset: u64) -> (LaneId, Option<&Move>) {
        let before = |m: &&Move| m.offsets.get(partition as usize).is_some_and(|end| offset < *end);
        let moved = self.moves.iter().find(before);
        (moved.map_or(self.lane, |m| m.from), moved)
    }

    pub fn info(&self) -> TopicInfo {
        TopicInfo {
            id: self.id,
            name: self.name.clone(),
            lane: self.lane,
            partitions: self.parts.iter().map(|p| p.info).collect(),
        }
    }
}

/// The state key of a topic.
pub fn key(id: TopicId) -> [u8; 3] {
    let [a, b] = id.0.to_le_bytes();
    [b't', a, b]
}

pub fn id_of_key(key: &[u8]) -> Option<TopicId> {
    match key {
        [b't', a, b] => Some(TopicId(u16::from_le_bytes([*a, *b]))),
        _ => None,
    }
}

/// All topics, sorted by id.
#[derive(Debug, Default)]
pub struct Topics {
    list: Vec<Topic>,
    /// The id that the next new topic gets.
    pub next_id: u16,
}

impl Topics {
    pub fn get(&self, id: TopicId) -> Option<&Topic> {
        self.list.binary_search_by_key(&id, |t| t.id).ok().map(|at| &self.list[at])
    }

    pub fn get_mut(&mut self, id: TopicId) -> Option<&mut Topic> {
        self.list.binary_search_by_key(&id, |t| t.id).ok().map(|at| &mut self.list[at])
    }

    pub fn part(&self, part: TopicPart) -> Option<&Part> {
        self.get(part.topic)?.parts.get(part.partition as usize)
    }

    /// The lane and the numbers of a partition.
    pub fn part_mut(&mut self, part: TopicPart) -> Option<(LaneId, &mut Part)> {
        let at = self.list.binary_search_by_key(&part.topic, |t| t.id).ok()?;
        let topic = &mut self.list[at];
        Some((topic.lane, topic.parts.get_mut(part.partition as usize)?))
    }

    pub fn find(&self, name: &str) -> Option<&Topic> {
        self.list.iter().find(|t| t.name.as_str() == name)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Topic> {
        self.list.iter()
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Topic> {
        self.list.iter_mut()
    }

    /// The topic of this name and whether it must be stored: a new one.
    pub fn open(&mut self, name: &TopicName, lane: LaneId, partitions: u8) -> Result<(TopicId, bool), TopicError> {
        if let Some(topic) = self.find(name.as_str()) {
            let have = topic.parts.len() as u8;
            let same = have == partitions;
            return if same { Ok((topic.id, false)) } else { Err(TopicError::Partitions { name: name.clone(), have }) };
        }
        if self.list.len() >= MAX_TOPICS || self.next_id == u16::MAX {
            return Err(TopicError::TooMany(self.list.len()));
        }
        let id = TopicId(self.next_id);
        self.next_id += 1;
        let parts = vec![Part::default(); (partitions as usize).clamp(1, MAX_PARTITIONS)];
        self.insert(Topic { id, name: name.clone(), lane, parts, durable_lane: lane, keep: false, moves: Vec::new() });
        Ok((id, true))
    }

    /// Something in the ring names this id: no new topic gets it.
    pub fn taken(&mut self, id: TopicId) {
        self.next_id = self.next_id.max(id.0.saturating_add(1));
    }

    pub fn insert(&mut self, topic: Topic) {
        self.taken(topic.id);
        match self.list.binary_search_by_key(&topic.id, |t| t.id) {
            Ok(at) => self.list[at] = topic,
            Err(at) => self.list.insert(at, topic),
        }
    }

    pub fn remove(&mut self, id: TopicId) -> bool {
        let at = self.list.binary_search_by_key(&id, |t| t.id);
        at.map(|at| self.list.remove(at)).is_ok()
    }

    /// A run of records was found or made durable.
    pub fn durable(&mut self, part: TopicPart, end_offset: u64) {
        if let Some((_, p)) = self.part_mut(part) {
            p.durable = p.durable.max(end_offset);
            p.info.durable_end = p.info.durable_end.max(end_offset);
            p.info.next = p.info.next.max(end_offset);
        }
    }

    /// Readers see it, durable or not.
    pub fn show(&mut self, part: TopicPart, end_offset: u64) {
        if let Some((_, p)) = self.part_mut(part) {
            p.info.durable_end = p.info.durable_end.max(end_offset);
        }
    }

    /// As `durable`, in replay: a run says exactly what an earlier, unattributed loss had to guess.
    pub fn restore(&mut self, part: TopicPart, end_offset: u64) {
        if let Some((_, p)) = self.part_mut(part) {
            p.stands_at(end_offset);
        }
    }

    /// After an unclean end: offsets that were reserved ahead are not given again. Gives back the topics of which some
    /// were.
    pub fn skip_reserved(&mut self) -> Vec<TopicId> {
        let mut skipped = Vec::new();
        for topic in &mut self.list {
            for part in &mut topic.parts {
                if part.info.next < part.floor {
                    part.stands_at(part.floor);
                    skipped.push(topic.id);
                }
            }
        }
        skipped.dedup();
        skipped
    }

    /// Whether offsets are reserved that were not given yet.
    pub fn is_ahead(&self) -> bool {
        self.list.iter().flat_map(|topic| &topic.parts).any(|part| part.info.next < part.floor)
    }

    /// Next durable offsets of one lane's partitions, in order; also of those that left it above the ordinal `durable`, or
    /// whose move may yet not have been.
    pub fn starts(&self, lane: LaneId, durable: u64) -> impl Iterator<Item = (TopicPart, u64)> {
        self.parts_of(lane, durable).map(|(part, p)| (part, p.durable))
    }

    /// The same of what readers see.
    pub fn ends(&self, lane: LaneId, shown: u64) -> impl Iterator<Item = (TopicPart, u64)> {
        self.parts_of(lane, shown).map(|(part, p)| (part, p.info.durable_end))
    }

    fn parts_of(&self, lane: LaneId, end: u64) -> impl Iterator<Item = (TopicPart, &Part)> {
        let left = move |t: &Topic| t.moves.iter().any(|m| m.from == lane && end < m.end);
        let here = move |t: &&Topic| t.lane == lane || t.durable_lane == lane || left(t);
        self.list.iter().filter(here).flat_map(|t| {
            let part = |i| TopicPart { topic: t.id, partition: i as u8 };
            t.parts.iter().enumerate().map(move |(i, p)| (part(i), p))
        })
    }
}
