//! Sources as the simulation has them: a bus that sends again what was not acknowledged, and a file that is read on
//! from its checkpoint.

use std::collections::{BTreeMap, VecDeque};

use headwater::pipeline::{Admitted, OfferError, SourceId};
use headwater::record::{Flags, RecordRef};
use headwater::ring::{Owner, OwnerKind, Ticket};
use headwater::time::{Span, WallTime};
use headwater::topic::{TopicId, TopicPart};

use crate::ground::Turns;
use crate::ledger::{COPY, Id, LOCAL};
use crate::model::{Check, Violation, ensure};
use crate::node_sink::hash_of;
use crate::node_world::{World, name};
use crate::planted::Plant;

/// Events that a bus sends before the first of them is acknowledged.
const INFLIGHT: usize = 20;

/// Where a record went.
pub type Spot = (TopicPart, u64, u64);

/// Sends an event again until it is acknowledged, as an MQTT broker does.
pub struct Bus {
    pub id: SourceId,
    /// Sent and not acknowledged, oldest first: topic, what settles it, what became of it.
    pub inflight: VecDeque<(u8, Ticket, Vec<Spot>)>,
    /// To be sent again.
    pub again: u64,
    pub acked: Vec<Spot>,
}

/// Lines with a checkpoint behind them.
pub struct Lines {
    pub id: SourceId,
    pub next: u64,
    /// What the lines that were taken of late became, by number.
    pub spots: BTreeMap<u64, Vec<Spot>>,
}

pub fn source_owner(n: usize) -> Owner {
    Owner { kind: OwnerKind::Source, name: name(&format!("source{n}")) }
}

impl World {
    pub fn source_step(&mut self) -> Check {
        match self.rng.below(4) {
            0 => self.read_lines(),
            _ => self.send_event(),
        }
    }

    fn send_event(&mut self) -> Check {
        let b = self.rng.below(self.buses.len() as u64) as usize;
        for _ in 0..1 + self.rng.below(3) {
            if self.buses[b].inflight.len() >= INFLIGHT {
                // It can send nothing more before an acknowledgement: the source commits at once.
                let by = self.now().boot + Span::from_millis(self.rng.below(20) as i64);
                self.pipeline().ring_mut().hurry(by);
                return Ok(());
            }
            let local = [0, 1, 2, 4][self.rng.below(4) as usize];
            let id = self.buses[b].id;
            let Some((admitted, spots)) = self.offer(id, local)? else { return Ok(()) };
            let bus = &mut self.buses[b];
            bus.again = bus.again.saturating_sub(1);
            bus.inflight.push_back((local, admitted.ticket, spots));
        }
        Ok(())
    }

    /// A group: some lines and the checkpoint behind them.
    fn read_lines(&mut self) -> Check {
        let now = self.now();
        let before = self.pipeline().ring().last_ticket();
        if self.pipeline().begin_group(now, 16 * 1024).is_err() {
            return Ok(());
        }
        self.note_states(before)?;
        let keep = std::mem::replace(&mut self.big, 0);
        self.model.begin_group();
        let count = 1 + self.rng.below(12);
        if self.plant == Plant::CheckpointAhead {
            // As if the checkpoint were a file of its own.
            self.model.end_group();
            self.pipeline().end_group(now);
            self.put_checkpoint(count)?;
            let by = self.now().boot;
            self.pipeline().ring_mut().hurry(by);
            self.settle_all()?;
        }
        for n in self.lines.next..self.lines.next + count {
            let id = self.lines.id;
            let Some((_, spots)) = self.offer(id, 1)? else {
                ensure!(self.plant != Plant::None, "line {n} was refused inside a group");
                continue;
            };
            self.lines.spots.insert(n, spots);
        }
        if self.plant != Plant::CheckpointAhead {
            self.put_checkpoint(count)?;
            self.model.end_group();
            self.pipeline().end_group(now);
        }
        self.lines.next += count;
        self.big = keep;
        Ok(())
    }

    fn put_checkpoint(&mut self, count: u64) -> Check {
        let now = self.now().boot;
        let value = (self.lines.next + count).to_le_bytes();
        let owner = source_owner(self.lines.id.0);
        let ticket = self.pipeline().put_state(now, &owner, b"checkpoint", Some(&value));
        let ticket = ticket.map_err(|e| Violation(format!("a checkpoint was refused: {e}")))?;
        self.model.put_state((self.lines.id.0 as u8, b"checkpoint".to_vec()), Some(&value), ticket.0)
    }

    /// One event through the rules into the ring; None: there is no room now, or it is too large.
    fn offer(&mut self, source: SourceId, local: u8) -> Check<Option<(Admitted, Vec<Spot>)>> {
        let now = self.now();
        self.next_tag += 1;
        let id = Id { local, tag: self.next_tag };
        let value = self.value(id);
        let key = (self.rng.below(3) == 0).then(|| format!("pump-{}", self.rng.below(50)).into_bytes());
        let event_time = (self.rng.below(8) == 0).then(|| WallTime(now.wall.0 - self.rng.below(1 << 40) as i64));
        let record = RecordRef { key: key.as_deref(), value: &value, event_time, ..RecordRef::default() };
        let part = TopicPart { topic: self.topics[local as usize], partition: 0 };
        let before = self.pipeline().ring().last_ticket();
        let mut made = Vec::new();
        if id.is_copied() {
            made.push((Id { local: COPY, tag: id.tag }, TopicPart { topic: self.topics[COPY as usize], partition: 0 }));
        }
        if !id.is_dropped() {
            made.push((id, part));
        }
        let next: Vec<Option<u64>> = made.iter().map(|(_, part)| self.next_offset(*part)).collect();
        let admitted = match self.pipeline().offer(now, source, part, &record) {
            Ok(admitted) => admitted,
            Err(OfferError::Busy) => return Ok(None),
            Err(OfferError::TooLarge { bytes, limit }) => {
                ensure!(bytes == record.len() && bytes > limit, "{} bytes refused: {bytes} > {limit}", record.len());
                self.note_states(before)?;
                return Ok(None);
            }
        };
        self.note_appended(before, made.len() as u64)?;
        let last = self.pipeline().ring().last_ticket();
        ensure!(admitted.ticket == last, "{admitted:?}, but the newest ticket is {last:?}");
        let flags = if now.trusted { Flags::default() } else { Flags::CLOCK_UNTRUSTED };
        let stamped = RecordRef { admitted: now.boot, flags, ..record };
        let first = last.0 + 1 - made.len() as u64;
        let mut spots = Vec::new();
        let (ring, boot) = (self.pipeline().ring().id(), self.pipeline().ring().boot());
        for (i, ((id, part), offset)) in made.into_iter().zip(next).enumerate() {
            let Some(offset) = offset else { return Err(Violation(format!("{part:?} is not open"))) };
            let lane = self.lane_of(id.local);
            self.model.append(lane, first + i as u64, part, offset, &stamped, id.pack(), ring, boot)?;
            self.ledger.given.insert(id, hash_of(stamped.key, stamped.value));
            spots.push((part, offset, id.pack()));
        }
        let place = spots.first().map(|s| (s.0, s.1));
        ensure!(
            admitted.first.map(|a| (a.part, a.offset)) == place,
            "{id:?}: {:?} was made of it, should be {place:?}",
            admitted.first
        );
        self.cover.appended += spots.len() as u64;
        Ok(Some((admitted, spots)))
    }

    fn next_offset(&mut self, part: TopicPart) -> Option<u64> {
        Some(self.pipeline().ring().topic(part.topic)?.partitions.get(part.partition as usize)?.next)
    }

    /// The number of the record in front, so that no two are equal and everyone knows it again.
    fn value(&mut self, id: Id) -> Vec<u8> {
        let mut value = format!("{:016x}", id.tag).into_bytes();
        if id.is_dropped() {
            value.extend_from_slice(b" drop");
        }
        if id.is_copied() {
            value.extend_from_slice(b" copy");
        }
        let len = match self.rng.below(1000) {
            _ if self.rng.below(100) < self.big => 500 + self.rng.below(14_000),
            0..2 if self.big > 0 => 30_000 + self.rng.below(40_000),
            _ => 20 + self.rng.below(150),
        };
        while (value.len() as u64) < len {
            if len > 200 {
                value.extend_from_slice(&self.rng.next_u64().to_le_bytes());
            } else {
                value.extend_from_slice(b" 21.5 degrees");
            }
        }
        value
    }

    // ------------------------------------------------------------------------------------ acknowledgements

    /// Everything that is settled is acknowledged: from now on it must never be lost.
    pub fn acknowledge(&mut self, settled: Ticket) {
        for bus in &mut self.buses {
            while bus.inflight.front().is_some_and(|(_, ticket, _)| *ticket <= settled) {
                let Some((_, _, spots)) = bus.inflight.pop_front() else { break };
                bus.acked.extend(spots);
            }
        }
    }

    /// The process is gone: what was not acknowledged comes again.
    pub fn unacknowledged(&mut self) {
        for bus in &mut self.buses {
            bus.again += bus.inflight.len() as u64;
            bus.inflight.clear();
        }
    }

    /// After a recovery: promise 1, source by source.
    pub fn sources_came_back(&mut self) -> Check {
        for bus in &mut self.buses {
            for (part, offset, tag) in std::mem::take(&mut bus.acked) {
                let there = self.model.has(part, offset, tag) || self.forgotten.contains(&part.topic);
                ensure!(there, "{:?} was acknowledged and is lost: {part:?} offset {offset}", Id::unpack(tag));
            }
        }
        let owner = source_owner(self.lines.id.0);
        let stored = self.pipeline().ring().state(&owner, b"checkpoint").map(<[u8]>::to_vec);
        let next = stored.map_or(0, |v| u64::from_le_bytes(v.try_into().expect("eight bytes")));
        let tainted = self.model.any_tainted();
        for (line, spots) in std::mem::take(&mut self.lines.spots) {
            for (part, offset, tag) in spots {
                let there = self.model.has(part, offset, tag);
                let fine = there == (line < next) || tainted || self.forgotten.contains(&part.topic);
                ensure!(fine, "line {line} is there: {there}; the checkpoint says {next}");
            }
        }
        self.lines.next = next;
        Ok(())
    }

    pub fn lane_of(&self, local: u8) -> usize {
        self.lanes[local as usize]
    }

    pub fn topic_name(local: usize) -> headwater::topic::TopicName {
        headwater::topic::TopicName::new(LOCAL[local]).expect("a good name")
    }

    pub fn no_topic() -> TopicId {
        TopicId(u16::MAX)
    }
}
