//! The model beside the ring: what was given to it, what it has promised since, and whether what it shows is that.
//!
//! Per lane a plain list of all records ever admitted, indexed by ordinal. The laws, in the order they are checked:
//!
//! - what was *settled* (its ticket reached) or *shown* (a reader saw it, and readers see durable records only) is
//!   never lost, unless a fault destroyed it on the device: then it is announced as corrupt, and nothing else is;
//! - what was not settled may vanish at a crash as if it had never been (a suffix of its lane), or be announced as
//!   lost unsynced; nothing else is;
//! - ordinals and offsets are dense, every jump is announced, order is the order of admission, bytes are the bytes;
//! - a seq, a (partition, offset) names one record for ever;
//! - a state entry never goes back behind a settled value, and never survives records that were given before it;
//! - what is evicted lies below the oldest readable place, is announced as evicted, and is counted once.
//!
//! Damage at the very last commit is excepted as RING.md says (`tail unknown`): it cannot be told from a commit that
//! never was.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use headwater::record::RecordRef;
use headwater::ring::{Entry, FileId, Gap, GapReason, LanePos, RingId};
use headwater::topic::TopicPart;

/// A law that did not hold.
#[derive(Clone, Debug)]
pub struct Violation(pub String);
pub type Check<T = ()> = Result<T, Violation>;

macro_rules! ensure {
    ($cond:expr, $($arg:tt)+) => {
        if !$cond { return Err($crate::model::Violation(format!($($arg)+))); }
    };
}
pub(crate) use ensure;

/// A place on the device.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    pub file: FileId,
    pub from: u64,
    pub to: u64,
}

/// Records and state entries that became durable together, and where they lie.
#[derive(Clone, Debug, Default)]
struct Group {
    extents: Vec<Extent>,
    tainted: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Given to the ring; may vanish.
    Given,
    /// Must be there (or evicted).
    Durable,
    Gone(GapReason),
}

#[derive(Clone, Debug)]
struct Rec {
    life: u32,
    ticket: u64,
    part: TopicPart,
    offset: u64,
    hash: u64,
    ring: RingId,
    boot: u32,
    fate: Fate,
    shown: bool,
    group: Option<usize>,
    seq: Option<u64>,
}

#[derive(Clone, Debug)]
struct Version {
    life: u32,
    ticket: u64,
    value: Option<Vec<u8>>,
    settled: bool,
    group: Option<usize>,
}

/// What one reader has counted, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub read: u64,
    pub evicted: u64,
    pub corrupt: u64,
    pub lost: u64,
}

impl Counts {
    pub fn gap(&mut self, reason: GapReason, n: u64) {
        match reason {
            GapReason::Evicted | GapReason::Expired => self.evicted += n,
            GapReason::Corrupt => self.corrupt += n,
            GapReason::LostUnsynced => self.lost += n,
        }
    }
    pub fn total(&self) -> u64 {
        self.read + self.evicted + self.corrupt + self.lost
    }
}

pub type StateKey = (u8, Vec<u8>);

#[derive(Default)]
pub struct Model {
    lanes: Vec<Vec<Rec>>,
    offsets: HashMap<(TopicPart, u64), (usize, usize)>,
    seqs: HashMap<u64, (usize, usize)>,
    states: HashMap<StateKey, Vec<Version>>,
    groups: Vec<Group>,
    /// Records and versions of this life that are not settled, oldest first.
    unsettled: Vec<Unsettled>,
    settled_at: usize,
    life: u32,
    settled: u64,
    /// What was given inside `begin_group` .. `end_group` in the newest life.
    wholes: Vec<Whole>,
    in_group: bool,
    pub gaps_seen: Counts,
}

/// Records and state entries that share one frame.
#[derive(Clone, Debug, Default)]
struct Whole {
    life: u32,
    recs: Vec<(usize, usize)>,
    states: Vec<(StateKey, u64)>,
}

#[derive(Clone, Debug)]
struct Unsettled {
    ticket: u64,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    Rec(usize, usize),
    State(StateKey),
}

/// Hash of everything a record is.
pub fn hash_of(record: &RecordRef<'_>) -> u64 {
    let mut h = DefaultHasher::new();
    record.key.hash(&mut h);
    record.value.hash(&mut h);
    record.admitted.hash(&mut h);
    record.event_time.hash(&mut h);
    record.flags.hash(&mut h);
    record.attrs.packed().hash(&mut h);
    record.origin.hash(&mut h);
    h.finish()
}

impl Model {
    pub fn new(lanes: usize) -> Self {
        Self { lanes: vec![Vec::new(); lanes], ..Self::default() }
    }

    pub fn admitted(&self, lane: usize) -> u64 {
        self.lanes[lane].len() as u64
    }

    // ------------------------------------------------------------------------------------ giving

    #[allow(clippy::too_many_arguments)]
    pub fn append(
        &mut self,
        lane: usize,
        ticket: u64,
        part: TopicPart,
        offset: u64,
        record: &RecordRef<'_>,
        ring: RingId,
        boot: u32,
    ) -> Check {
        let ordinal = self.lanes[lane].len();
        let before = self.offsets.insert((part, offset), (lane, ordinal));
        ensure!(
            before.is_none(),
            "offset {offset} of {part:?} was given twice: {before:?}, now lane {lane} #{ordinal}"
        );
        self.take_ticket(ticket, What::Rec(lane, ordinal))?;
        self.lanes[lane].push(Rec {
            life: self.life,
            ticket,
            part,
            offset,
            hash: hash_of(record),
            ring,
            boot,
            fate: Fate::Given,
            shown: false,
            group: None,
            seq: None,
        });
        Ok(())
    }

    pub fn put_state(&mut self, key: StateKey, value: Option<&[u8]>, ticket: u64) -> Check {
        self.take_ticket(ticket, What::State(key.clone()))?;
        let version =
            Version { life: self.life, ticket, value: value.map(<[u8]>::to_vec), settled: false, group: None };
        self.states.entry(key).or_default().push(version);
        Ok(())
    }

    fn take_ticket(&mut self, ticket: u64, what: What) -> Check {
        let last = self.unsettled.last().map_or(self.settled, |u| u.ticket);
        ensure!(ticket > last, "ticket {ticket} is not above the one before, {last}");
        if self.in_group
            && let Some(whole) = self.wholes.last_mut()
        {
            match &what {
                What::Rec(lane, ordinal) => whole.recs.push((*lane, *ordinal)),
                What::State(key) => whole.states.push((key.clone(), ticket)),
            }
        }
        self.unsettled.push(Unsettled { ticket, what });
        Ok(())
    }

    // ------------------------------------------------------------------------------------ becoming durable

    /// The ring says that everything up to `ticket` is durable; it was brought there by writes to `extents`.
    pub fn settle(&mut self, ticket: u64, extents: Vec<Extent>) -> Check {
        ensure!(ticket >= self.settled, "settled went back from {} to {ticket}", self.settled);
        self.settled = ticket;
        let group = self.groups.len();
        self.groups.push(Group { extents, tainted: false });
        while self.settled_at < self.unsettled.len() && self.unsettled[self.settled_at].ticket <= ticket {
            let Unsettled { ticket, what } = self.unsettled[self.settled_at].clone();
            self.settled_at += 1;
            match what {
                What::Rec(lane, ordinal) => {
                    let rec = &mut self.lanes[lane][ordinal];
                    rec.group = Some(group);
                    if rec.fate == Fate::Given {
                        rec.fate = Fate::Durable;
                    }
                }
                What::State(key) => {
                    let life = self.life;
                    let versions = self.states.get_mut(&key).expect("a version was put");
                    for v in versions.iter_mut().filter(|v| v.life == life && v.ticket == ticket) {
                        (v.settled, v.group) = (true, Some(group));
                    }
                }
            }
        }
        Ok(())
    }

    pub fn settled(&self) -> u64 {
        self.settled
    }

    /// Bytes of the device were destroyed, or could not be read.
    pub fn taint(&mut self, file: FileId, from: u64, to: u64) {
        for group in &mut self.groups {
            group.tainted |= group.extents.iter().any(|e| e.file == file && e.from < to && from < e.to);
        }
    }

    /// A place for rot to hit: some group that is not among the newest `spare`.
    pub fn target(&self, pick: u64, spare: usize) -> Option<Extent> {
        let old = self.groups.len().saturating_sub(spare);
        let group = self.groups[..old].get(pick as usize % old.max(1))?;
        group.extents.last().copied()
    }

    fn tainted(&self, group: Option<usize>) -> bool {
        group.is_some_and(|g| self.groups[g].tainted)
    }

    // ------------------------------------------------------------------------------------ crash and recovery

    /// The process is gone; `extents` are the writes whose outcome nobody saw.
    pub fn crash(&mut self, extents: Vec<Extent>) {
        let group = self.groups.len();
        self.groups.push(Group { extents, tainted: false });
        for Unsettled { ticket, what } in self.unsettled.split_off(self.settled_at) {
            match what {
                What::Rec(lane, ordinal) => self.lanes[lane][ordinal].group = Some(group),
                What::State(key) => {
                    let life = self.life;
                    for v in self.states.get_mut(&key).into_iter().flatten() {
                        if v.life == life && v.ticket == ticket {
                            v.group = Some(group);
                        }
                    }
                }
            }
        }
        self.unsettled.clear();
        self.settled_at = 0;
        self.settled = 0;
        self.life += 1;
    }

    /// The ring came back with `admitted` records ever in this lane.
    pub fn recovered_lane(&mut self, lane: usize, admitted: u64) -> Check {
        let have = self.lanes[lane].len() as u64;
        ensure!(admitted <= have, "lane {lane}: {admitted} admitted after recovery, but only {have} were ever given");
        for ordinal in (admitted as usize..self.lanes[lane].len()).rev() {
            let rec = self.lanes[lane][ordinal].clone();
            let excused = rec.fate == Fate::Given && !rec.shown || self.tainted(rec.group);
            ensure!(
                excused,
                "lane {lane}: #{ordinal} ({:?} offset {}, ticket {} of life {}, {:?}) was durable and is gone after recovery \
                 ({admitted} admitted)",
                rec.part,
                rec.offset,
                rec.ticket,
                rec.life,
                rec.fate
            );
            self.offsets.remove(&(rec.part, rec.offset));
            if let Some(seq) = rec.seq {
                self.seqs.remove(&seq);
            }
            self.lanes[lane].pop();
        }
        Ok(())
    }

    /// The first ordinal of the lane about whose durability nothing is known yet.
    pub fn first_open(&self, lane: usize) -> u64 {
        let open = self.lanes[lane].iter().rev().take_while(|r| r.fate == Fate::Given).count();
        (self.lanes[lane].len() - open) as u64
    }

    /// The state entry has this value after recovery. Returns the ticket of the version, if it is of the life that
    /// just ended.
    pub fn recovered_state(&mut self, key: &StateKey, value: Option<&[u8]>) -> Check<Option<u64>> {
        let ended = self.life - 1;
        let Some(versions) = self.states.get(key) else {
            ensure!(value.is_none(), "state {key:?} has a value that was never put");
            return Ok(None);
        };
        // Of equal values the oldest that is allowed: the one that claims least.
        let mut found = None;
        let mut firm = false;
        for (i, v) in versions.iter().enumerate().rev() {
            if v.value.as_deref() == value {
                found = Some(i);
            }
            if v.settled && !self.tainted(v.group) {
                firm = true;
                break;
            }
        }
        let keep = match found {
            Some(i) => i + 1,
            None => {
                ensure!(!firm && value.is_none(), "state {key:?} went back behind a settled value (now {value:?})");
                0
            }
        };
        let versions = self.states.get_mut(key).expect("looked up above");
        versions.truncate(keep);
        let Some(last) = versions.last_mut() else { return Ok(None) };
        let fresh = last.life == ended && !last.settled;
        last.settled = true;
        Ok(fresh.then_some(last.ticket))
    }

    pub fn state_keys(&self) -> Vec<StateKey> {
        let mut keys: Vec<_> = self.states.keys().cloned().collect();
        keys.sort();
        keys
    }

    /// The newest value put, durable or not.
    pub fn state(&self, key: &StateKey) -> Option<&[u8]> {
        self.states.get(key)?.last()?.value.as_deref()
    }

    /// The newest value that is durable.
    pub fn durable_state(&self, key: &StateKey) -> Option<&[u8]> {
        self.states.get(key)?.iter().rev().find(|v| v.settled)?.value.as_deref()
    }

    /// A state entry given with `ticket` in the life that ended was found: everything given before it must be too.
    pub fn state_survived(&self, ticket: u64) -> Check {
        let ended = self.life - 1;
        for (lane, recs) in self.lanes.iter().enumerate() {
            for (ordinal, rec) in recs.iter().enumerate().rev() {
                if rec.life != ended {
                    break;
                }
                let lost = matches!(rec.fate, Fate::Gone(GapReason::LostUnsynced));
                ensure!(
                    !(lost && rec.ticket < ticket),
                    "lane {lane}: #{ordinal} (ticket {}) is lost unsynced, but state given after it (ticket {ticket}) is there",
                    rec.ticket
                );
            }
        }
        Ok(())
    }

    pub fn begin_group(&mut self) {
        self.in_group = true;
        self.wholes.retain(|w| w.life == self.life);
        self.wholes.push(Whole { life: self.life, ..Whole::default() });
    }

    pub fn end_group(&mut self) {
        self.in_group = false;
    }

    /// After recovery and an audit: of each group of the ended life all is there, or nothing.
    pub fn groups_whole(&self) -> Check {
        for whole in self.wholes.iter().filter(|w| w.life + 1 == self.life) {
            let mut there = Vec::new();
            for (lane, ordinal) in &whole.recs {
                let rec = self.lanes[*lane].get(*ordinal);
                if rec.is_some_and(|r| self.tainted(r.group)) {
                    there.clear();
                    break;
                }
                there.push(rec.is_some_and(|r| r.fate == Fate::Durable));
            }
            if there.is_empty() {
                continue;
            }
            for (key, ticket) in &whole.states {
                let versions = self.states.get(key).map_or(&[][..], |v| v);
                there.push(versions.iter().any(|v| v.life == whole.life && v.ticket == *ticket));
            }
            let whole_or_none = there.iter().all(|t| *t) || !there.iter().any(|t| *t);
            ensure!(whole_or_none, "a group was torn: {whole:?}, there: {there:?}");
        }
        Ok(())
    }

    /// A topic came back under another number: fine as long as nothing durable was in it.
    pub fn forget_topic(&mut self, topic: headwater::topic::TopicId) -> bool {
        let mut fine = true;
        let (lanes, groups) = (&self.lanes, &self.groups);
        self.offsets.retain(|(part, _), (lane, ordinal)| {
            if part.topic != topic {
                return true;
            }
            let rec = &lanes[*lane][*ordinal];
            fine &= rec.fate != Fate::Durable || rec.group.is_some_and(|g| groups[g].tainted);
            false
        });
        fine
    }

    /// The nearest known place of the lane at or below the ordinal.
    pub fn place(&self, lane: usize, ordinal: u64) -> LanePos {
        let below = &self.lanes[lane][..(ordinal as usize).min(self.lanes[lane].len())];
        let known = below.iter().enumerate().rev().find_map(|(i, r)| r.seq.map(|seq| (i, seq)));
        known.map_or(LanePos::default(), |(i, seq)| LanePos { seq: seq + 1, ordinal: i as u64 + 1 })
    }

    /// Tickets of the ended life's records of this lane that will vanish if `admitted` is what is left.
    pub fn vanishing(&self, lane: usize, admitted: u64) -> Option<u64> {
        let rec = self.lanes[lane].get(admitted as usize)?;
        (rec.life + 1 == self.life).then_some(rec.ticket)
    }

    // ------------------------------------------------------------------------------------ reading

    /// A reader of `lane` at `pos` is shown this entry; returns where it stands then.
    pub fn shown(&mut self, lane: usize, pos: LanePos, e: &Entry<'_>, ring: RingId, boot: u32) -> Check<LanePos> {
        ensure!(
            e.ordinal == pos.ordinal,
            "lane {lane}: reader at #{} is shown #{} without a gap between",
            pos.ordinal,
            e.ordinal
        );
        ensure!(e.seq >= pos.seq, "lane {lane} #{}: seq {} is below the reader's {}", e.ordinal, e.seq, pos.seq);
        let have = self.lanes[lane].len();
        let Some(rec) = self.lanes[lane].get_mut(e.ordinal as usize) else {
            return Err(Violation(format!("lane {lane}: shown #{} of {have} that were given", e.ordinal)));
        };
        ensure!(
            rec.part == e.part && rec.offset == e.offset,
            "lane {lane} #{}: shown {:?} offset {}, given as {:?} offset {}",
            e.ordinal,
            e.part,
            e.offset,
            rec.part,
            rec.offset
        );
        ensure!(rec.hash == hash_of(&e.record), "lane {lane} #{}: other bytes than were given", e.ordinal);
        ensure!(rec.ring == ring, "lane {lane} #{}: ring id {ring:?}, was {:?}", e.ordinal, rec.ring);
        ensure!(rec.boot == boot, "lane {lane} #{}: boot {boot}, was {}", e.ordinal, rec.boot);
        ensure!(rec.seq.is_none_or(|s| s == e.seq), "lane {lane} #{}: seq was {:?}, now {}", e.ordinal, rec.seq, e.seq);
        if let Fate::Gone(reason) = rec.fate {
            let back = reason == GapReason::Corrupt; // a read that failed once may go well later
            ensure!(back, "lane {lane} #{}: announced as {reason:?}, now shown", e.ordinal);
        }
        (rec.fate, rec.shown) = (Fate::Durable, true);
        rec.seq = Some(e.seq);
        let owner = *self.seqs.entry(e.seq).or_insert((lane, e.ordinal as usize));
        ensure!(
            owner == (lane, e.ordinal as usize),
            "seq {} names lane {} #{} and lane {lane} #{}",
            e.seq,
            owner.0,
            owner.1,
            e.ordinal
        );
        Ok(LanePos { seq: e.seq + 1, ordinal: e.ordinal + 1 })
    }

    /// A reader of the partition at `offset` is shown this entry.
    pub fn shown_part(&mut self, part: TopicPart, offset: u64, e: &Entry<'_>) -> Check {
        ensure!(e.part == part, "reader of {part:?} is shown {:?}", e.part);
        ensure!(e.offset == offset, "{part:?}: reader at offset {offset} is shown {} without a gap between", e.offset);
        let Some(&(lane, ordinal)) = self.offsets.get(&(part, offset)) else {
            return Err(Violation(format!("{part:?}: shown offset {offset}, which was never given")));
        };
        let rec = &self.lanes[lane][ordinal];
        ensure!(ordinal as u64 == e.ordinal, "{part:?} offset {offset}: shown #{}, was #{ordinal}", e.ordinal);
        ensure!(rec.hash == hash_of(&e.record), "{part:?} offset {offset}: other bytes than were given");
        Ok(())
    }

    /// The partition has nothing at these offsets: each was evicted, lost or skipped, with a reason the lane knows.
    pub fn part_gap(&self, part: TopicPart, from: u64, to: u64, oldest: &[u64]) -> Check {
        for offset in from..to {
            let Some(&(lane, ordinal)) = self.offsets.get(&(part, offset)) else { continue };
            let rec = &self.lanes[lane][ordinal];
            let excused = (ordinal as u64) < oldest[lane]
                || matches!(rec.fate, Fate::Gone(_))
                || (rec.fate == Fate::Given && !rec.shown)
                || self.tainted(rec.group);
            ensure!(excused, "{part:?} offset {offset} (lane {lane} #{ordinal}) is in a gap, but durable");
        }
        Ok(())
    }

    /// A reader met a gap, standing at `before`.
    pub fn gap(&mut self, gap: &Gap, before: LanePos, after: LanePos, oldest: u64) -> Check {
        let lane = gap.lane.index();
        ensure!(
            gap.from == before && gap.to == after && after > before,
            "lane {lane}: gap {:?}..{:?} ({:?}), reader went {before:?}..{after:?}",
            gap.from,
            gap.to,
            gap.reason
        );
        ensure!(
            after.ordinal <= self.admitted(lane),
            "lane {lane}: gap to #{} of {} given",
            after.ordinal,
            self.admitted(lane)
        );
        for ordinal in before.ordinal..after.ordinal {
            self.gone(lane, ordinal as usize, gap.reason, oldest)?;
        }
        self.gaps_seen.gap(gap.reason, gap.count());
        self.gap_parts(gap)
    }

    fn gone(&mut self, lane: usize, ordinal: usize, reason: GapReason, oldest: u64) -> Check {
        let tainted = self.tainted(self.lanes[lane][ordinal].group);
        let rec = &mut self.lanes[lane][ordinal];
        let was_given = rec.fate == Fate::Given && !rec.shown;
        let fine = match reason {
            GapReason::Evicted => (ordinal as u64) < oldest,
            GapReason::Expired => false,
            GapReason::Corrupt => tainted,
            GapReason::LostUnsynced => was_given || rec.fate == Fate::Gone(reason),
        };
        ensure!(
            fine,
            "lane {lane} #{ordinal} ({:?} offset {}, ticket {} of life {}) is announced as {reason:?}; it was {:?}, shown {}, \
             tainted {tainted}, oldest #{oldest}",
            rec.part,
            rec.offset,
            rec.ticket,
            rec.life,
            rec.fate,
            rec.shown
        );
        if reason != GapReason::Evicted {
            rec.fate = Fate::Gone(reason);
        }
        Ok(())
    }

    /// Counts per partition, where the ring tells them.
    fn gap_parts(&self, gap: &Gap) -> Check {
        if gap.parts.is_empty() {
            return Ok(());
        }
        let lane = gap.lane.index();
        let sum: u64 = gap.parts.iter().map(|p| p.to_offset - p.from_offset).sum();
        ensure!(sum == gap.count(), "lane {lane}: gap of {} says {sum} by partition: {gap:?}", gap.count());
        for rec in &self.lanes[lane][gap.from.ordinal as usize..gap.to.ordinal as usize] {
            let named =
                gap.parts.iter().any(|p| p.part == rec.part && (p.from_offset..p.to_offset).contains(&rec.offset));
            ensure!(named, "lane {lane}: {:?} offset {} is in the gap but not in its parts", rec.part, rec.offset);
        }
        Ok(())
    }

    /// Records of the lane in `[from, to)` that were announced for this reason.
    pub fn announced(&self, lane: usize, from: u64, to: u64, reason: GapReason) -> u64 {
        let recs = &self.lanes[lane][from as usize..to as usize];
        recs.iter().filter(|r| r.fate == Fate::Gone(reason)).count() as u64
    }

    /// Whether the partition's offset belongs to a record that must be readable.
    pub fn offset_of_last(&self, part: TopicPart) -> Option<u64> {
        self.offsets.keys().filter(|(p, _)| *p == part).map(|(_, o)| *o).max()
    }
}
