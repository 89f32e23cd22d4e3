//! The model beside the ring: what was given to it, what it has promised since, and whether what it shows is that.
//!
//! Records are known by (partition, offset), which the ring tells at once; where they stand in their lane (ordinal,
//! seq) is learnt when they are first shown. The laws:
//!
//! - what was *settled* (its ticket reached) or *shown* (readers see durable records only) is never lost, unless a fault
//!   destroyed it on the device: then it is announced as corrupt, and nothing else is;
//! - what was not settled may vanish at a crash as if it had never been, or be announced as lost unsynced; nothing
//!   else is;
//! - ordinals and offsets are dense, every jump is announced, a partition's order is the order of admission, bytes are
//!   the bytes; the numbers add up: given = shown + announced + vanished;
//! - a seq, an ordinal, an offset names one record for ever;
//! - a state entry never goes back behind a settled value, and never survives records that were given before it;
//! - what is evicted lies below the oldest readable place, and nothing older of its partition is still there.
//!
//! Damage at the very last commit is excepted as RING.md says (`tail unknown`): it cannot be told from a commit that
//! never was.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::threads::Copied;
use headwater::record::RecordRef;
use headwater::ring::{Entry, FileId, Gap, GapReason, LanePos, RingId};
use headwater::topic::{TopicId, TopicPart};

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

/// A place on the device where a write went.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    pub file: FileId,
    pub from: u64,
    pub to: u64,
    /// Something of it was destroyed since.
    pub tainted: bool,
}

impl Extent {
    pub fn taint(&mut self, file: FileId, from: u64, to: u64) {
        self.tainted |= self.file == file && self.from < to && from < self.to;
    }
}

/// Records and state entries that became durable together, and where they lie.
#[derive(Clone, Debug, Default)]
struct Group {
    extents: Vec<Extent>,
    tainted: bool,
    /// The ring began to write over a part of it.
    overwritten: bool,
}

/// A write that landed.
#[derive(Clone, Copy, Debug)]
struct Landed {
    /// The newest ticket that was given until then.
    newest: u64,
    extent: Extent,
    overwritten: bool,
}

#[derive(Clone, Debug)]
struct Rec {
    life: u32,
    ticket: u64,
    lane: usize,
    /// None: the ring's user made it himself, what it is shows when it is read.
    hash: Option<u64>,
    /// Whatever the world knows it by.
    tag: u64,
    ring: RingId,
    boot: u32,
    settled: bool,
    /// Where it stands, once it was shown.
    place: Option<LanePos>,
    /// Named in the parts of a gap.
    announced: Option<GapReason>,
    group: Option<usize>,
    /// Destroyed at the end of the log when the ring was opened: nothing need tell that it was.
    untold: bool,
}

/// One ordinal of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Unknown,
    Shown(TopicPart, u64),
    Gone(GapReason),
}

#[derive(Clone, Debug, Default)]
struct Lane {
    ordinals: Vec<At>,
    /// Given and never shown, in the order of admission.
    open: Vec<(TopicPart, u64)>,
    /// Records in the model.
    alive: u64,
    /// Ordinals whose record is not in the model any more.
    nameless: u64,
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
            GapReason::Passed => {}
        }
    }
    pub fn add(&mut self, o: &Counts) {
        self.read += o.read;
        self.evicted += o.evicted;
        self.corrupt += o.corrupt;
        self.lost += o.lost;
    }
    pub fn total(&self) -> u64 {
        self.read + self.evicted + self.corrupt + self.lost
    }
}

pub type StateKey = (u8, Vec<u8>);

#[derive(Default)]
pub struct Model {
    lanes: Vec<Lane>,
    parts: HashMap<TopicPart, Vec<Option<Rec>>>,
    seqs: HashMap<u64, (usize, u64)>,
    states: HashMap<StateKey, Vec<Version>>,
    /// Life and ticket of the newest version that a recovered entry can be.
    at_most: HashMap<StateKey, (u32, u64)>,
    /// Owners of state entries that damage to the device has taken back.
    destroyed: HashSet<u8>,
    /// Versions, by life and ticket, that damage to the device has taken.
    destroyed_versions: HashSet<(u32, u64)>,
    /// Durable records that damage to the device has taken with all that told of them.
    destroyed_records: HashSet<(TopicPart, u64)>,
    groups: Vec<Group>,
    /// Records and versions of this life, oldest first; those before `settled_at` are settled.
    given: Vec<(u64, What)>,
    settled_at: usize,
    /// Writes that landed, as far back as something is not settled.
    landed: Vec<Landed>,
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
    recs: Vec<(TopicPart, u64)>,
    states: Vec<(StateKey, u64)>,
}

#[derive(Clone, Debug)]
enum What {
    Rec(TopicPart, u64),
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
        Self { lanes: vec![Lane::default(); lanes], ..Self::default() }
    }

    fn rec(&self, part: TopicPart, offset: u64) -> Option<&Rec> {
        self.parts.get(&part)?.get(offset as usize)?.as_ref()
    }

    fn rec_mut(&mut self, part: TopicPart, offset: u64) -> Option<&mut Rec> {
        self.parts.get_mut(&part)?.get_mut(offset as usize)?.as_mut()
    }

    /// Records ever given to this lane that did not vanish.
    pub fn given(&self, lane: usize) -> u64 {
        self.lanes[lane].alive + self.lanes[lane].nameless
    }

    // ------------------------------------------------------------------------------------ giving

    #[allow(clippy::too_many_arguments)]
    pub fn append<'a>(
        &mut self,
        lane: usize,
        ticket: u64,
        part: TopicPart,
        offset: u64,
        record: impl Into<Option<&'a RecordRef<'a>>>,
        tag: u64,
        ring: RingId,
        boot: u32,
    ) -> Check {
        let end_of_log = |r: &Rec| !r.settled || r.untold;
        let old = self.rec(part, offset).filter(|r| end_of_log(r) && r.place.is_none() && self.tainted(r.group));
        if let Some(was) = old.map(|r| r.lane) {
            // Destroyed at the end of the log: it need not have left anything but its ordinal.
            self.remove(part, offset);
            self.lanes[was].nameless += 1;
            self.lanes[was].open.retain(|o| *o != (part, offset));
        }
        let slots = self.parts.entry(part).or_default();
        if slots.len() <= offset as usize {
            slots.resize(offset as usize + 1, None);
        }
        let slot = &mut slots[offset as usize];
        ensure!(slot.is_none(), "offset {offset} of {part:?} was given twice: {slot:?}");
        *slot = Some(Rec {
            life: self.life,
            ticket,
            lane,
            hash: record.into().map(hash_of),
            tag,
            ring,
            boot,
            settled: false,
            place: None,
            announced: None,
            group: None,
            untold: false,
        });
        self.lanes[lane].open.push((part, offset));
        self.lanes[lane].alive += 1;
        self.take_ticket(ticket, What::Rec(part, offset))
    }

    pub fn put_state(&mut self, key: StateKey, value: Option<&[u8]>, ticket: u64) -> Check {
        if value.is_none() && self.state(&key).is_none() {
            return Ok(()); // nothing to remove: nothing was given
        }
        self.take_ticket(ticket, What::State(key.clone()))?;
        let version =
            Version { life: self.life, ticket, value: value.map(<[u8]>::to_vec), settled: false, group: None };
        self.states.entry(key).or_default().push(version);
        Ok(())
    }

    fn take_ticket(&mut self, ticket: u64, what: What) -> Check {
        let last = self.given.last().map_or(0, |g| g.0).max(self.settled);
        ensure!(ticket > last, "ticket {ticket} is not above the one before, {last}");
        if self.in_group
            && let Some(whole) = self.wholes.last_mut()
        {
            match &what {
                What::Rec(part, offset) => whole.recs.push((*part, *offset)),
                What::State(key) => whole.states.push((key.clone(), ticket)),
            }
        }
        self.given.push((ticket, what));
        Ok(())
    }

    pub fn begin_group(&mut self) {
        self.in_group = true;
        let life = self.life;
        self.wholes.retain(|w| w.life == life);
        self.wholes.push(Whole { life, ..Whole::default() });
    }

    pub fn end_group(&mut self) {
        self.in_group = false;
    }

    // ------------------------------------------------------------------------------------ becoming durable

    /// Writes whose completion the ring has seen.
    pub fn landed(&mut self, extents: Vec<Extent>) {
        let newest = self.given.last().map_or(0, |g| g.0);
        let landed = |extent| Landed { newest, extent, overwritten: false };
        self.landed.extend(extents.into_iter().map(landed));
    }

    /// Records that stood in the journal stand here now: whatever becomes of the journal, they are to be had.
    pub fn copied(&mut self, copies: Vec<Copied>) {
        for Copied { extent, parts } in copies {
            self.groups.push(Group { extents: vec![extent], tainted: extent.tainted, overwritten: false });
            let group = self.groups.len() - 1;
            for (part, offset) in parts.iter().flat_map(|(part, from, to)| (*from..*to).map(|o| (*part, o))) {
                if let Some(rec) = self.rec_mut(part, offset) {
                    rec.group = Some(group);
                }
            }
        }
    }

    /// A crash comes before the ring has heard of a copy: its records may live there from now on, or where they were.
    pub fn perhaps_copied<'a>(&mut self, copies: impl Iterator<Item = &'a Copied>) {
        for Copied { extent, parts } in copies {
            for (part, offset) in parts.iter().flat_map(|(part, from, to)| (*from..*to).map(|o| (*part, o))) {
                let Some(group) = self.rec(part, offset).and_then(|rec| rec.group) else { continue };
                let Group { mut extents, tainted, overwritten } = self.groups[group].clone();
                extents.push(*extent);
                self.groups.push(Group { extents, tainted: tainted || extent.tainted, overwritten });
                let group = self.groups.len() - 1;
                self.rec_mut(part, offset).expect("it has a group").group = Some(group);
            }
        }
    }

    /// The ring says that everything up to `ticket` is durable. Where in particular nobody tells: each of it was
    /// brought there by one of the writes that landed after it was given.
    pub fn settle(&mut self, ticket: u64) -> Check {
        ensure!(ticket >= self.settled, "settled went back from {} to {ticket}", self.settled);
        self.settled = ticket;
        let oldest = self.given.get(self.settled_at).map_or(ticket, |g| g.0);
        self.landed.retain(|l| l.newest >= oldest);
        let group = self.push_group(Vec::new());
        while self.settled_at < self.given.len() && self.given[self.settled_at].0 <= ticket {
            let (ticket, what) = self.given[self.settled_at].clone();
            self.settled_at += 1;
            self.assign(ticket, &what, group, true);
        }
        Ok(())
    }

    /// A group of all that landed of late, and of `extents`.
    fn push_group(&mut self, mut extents: Vec<Extent>) -> usize {
        extents.extend(self.landed.iter().map(|l| l.extent));
        let tainted = extents.iter().any(|e| e.tainted);
        let overwritten = self.landed.iter().any(|l| l.overwritten);
        self.groups.push(Group { extents, tainted, overwritten });
        self.groups.len() - 1
    }

    fn assign(&mut self, ticket: u64, what: &What, group: usize, settled: bool) {
        match what {
            What::Rec(part, offset) => {
                if let Some(rec) = self.rec_mut(*part, *offset) {
                    rec.group = Some(group);
                    rec.settled |= settled;
                }
            }
            What::State(key) => {
                let life = self.life;
                let versions = self.states.get_mut(key).into_iter().flatten();
                for v in versions.filter(|v| v.life == life && v.ticket == ticket) {
                    v.group = Some(group);
                    v.settled |= settled;
                }
            }
        }
    }

    pub fn settled(&self) -> u64 {
        self.settled
    }

    /// Bytes of the device were destroyed, or could not be read.
    pub fn taint(&mut self, file: FileId, from: u64, to: u64) {
        for group in &mut self.groups {
            group.extents.iter_mut().for_each(|e| e.taint(file, from, to));
            group.tainted |= group.extents.iter().any(|e| e.tainted);
        }
        self.landed.iter_mut().for_each(|l| l.extent.taint(file, from, to));
    }

    /// The slot is used again: what a crash leaves of its records may be announced as corrupt.
    pub fn overwrite(&mut self, file: FileId) {
        self.groups.iter_mut().for_each(|g| g.overwritten |= g.extents.iter().any(|e| e.file == file));
        self.landed.iter_mut().for_each(|l| l.overwritten |= l.extent.file == file);
    }

    /// A place for rot to hit: some group that is not among the newest `spare`.
    pub fn target(&self, pick: u64, spare: usize) -> Option<Extent> {
        let old = self.groups.len().saturating_sub(spare);
        let group = self.groups[..old].get(pick as usize % old.max(1))?;
        group.extents.last().copied()
    }

    /// It may be announced as corrupt.
    fn spoilt(&self, group: Option<usize>) -> bool {
        group.is_some_and(|g| self.groups[g].tainted || self.groups[g].overwritten)
    }

    fn tainted(&self, group: Option<usize>) -> bool {
        group.is_some_and(|g| self.groups[g].tainted)
    }

    // ------------------------------------------------------------------------------------ crash and recovery

    /// The process is gone; `extents` are the writes whose outcome nobody saw.
    pub fn crash(&mut self, extents: Vec<Extent>) {
        let group = self.push_group(extents);
        self.landed.clear();
        for (ticket, what) in self.given.split_off(self.settled_at) {
            self.assign(ticket, &what, group, false);
        }
        self.given.clear();
        (self.settled_at, self.settled, self.in_group) = (0, 0, false);
        self.life += 1;
    }

    /// The ring came back with `admitted` records ever in this lane. An audit of the lane must follow.
    pub fn recovered_lane(&mut self, lane: usize, admitted: u64, oldest: u64) -> Check {
        // An eviction that the disk never learned of did not happen.
        let back = self.lanes[lane].ordinals.iter_mut().skip(oldest as usize);
        back.filter(|at| **at == At::Gone(GapReason::Evicted)).for_each(|at| *at = At::Unknown);
        let given = self.given(lane);
        ensure!(admitted <= given, "lane {lane}: {admitted} admitted after recovery, but only {given} were ever given");
        for ordinal in (admitted..self.lanes[lane].ordinals.len() as u64).rev() {
            match self.lanes[lane].ordinals.pop() {
                Some(At::Shown(part, offset)) => {
                    let rec = self.rec(part, offset).cloned();
                    let tainted = rec.as_ref().is_some_and(|r| self.tainted(r.group));
                    ensure!(
                        tainted,
                        "lane {lane} #{ordinal} ({part:?} offset {offset}) was shown, now {admitted} are admitted: {rec:?}"
                    );
                    // The end of the log is unknown: what was there never was.
                    if let Some(seq) = rec.and_then(|r| r.place).map(|p| p.seq) {
                        self.seqs.remove(&seq);
                    }
                    self.remove(part, offset);
                }
                Some(At::Gone(_)) => {}
                Some(At::Unknown) | None => {}
            }
        }
        self.lanes[lane].ordinals.resize(admitted as usize, At::Unknown);
        Ok(())
    }

    fn remove(&mut self, part: TopicPart, offset: u64) {
        if let Some(slot) = self.parts.get_mut(&part).and_then(|p| p.get_mut(offset as usize))
            && let Some(rec) = slot.take()
        {
            self.lanes[rec.lane].alive -= 1;
            if rec.settled && self.tainted(rec.group) {
                self.destroyed_records.insert((part, offset));
            }
        }
    }

    /// The first ordinal of the lane about which nothing is known yet.
    pub fn first_unknown(&self, lane: usize) -> u64 {
        let ordinals = &self.lanes[lane].ordinals;
        ordinals.iter().position(|o| *o == At::Unknown).unwrap_or(ordinals.len()) as u64
    }

    /// After recovery the whole lane was read from its first unknown place to its end: what is still open was evicted,
    /// corrupted, lost or never came to be, and the numbers must allow for it. `newest_state`: the newest ticket of
    /// the ended life whose state entry is there.
    pub fn audited(&mut self, lane: usize, oldest: u64, newest_state: u64) -> Check {
        let open = std::mem::take(&mut self.lanes[lane].open);
        let (mut firm, mut tainted, mut loose) = (0u64, 0u64, 0u64);
        let mut still = Vec::new();
        for (part, offset) in open {
            let Some(rec) = self.rec(part, offset) else { continue };
            if rec.place.is_some() {
                continue;
            }
            if self.tainted(rec.group) || rec.settled && self.spoilt(rec.group) {
                tainted += 1;
                let untold = rec.life + 1 == self.life && self.tainted(rec.group);
                self.rec_mut(part, offset).expect("it was there").untold |= untold;
                still.push((part, offset));
            } else if rec.settled {
                firm += 1;
                ensure!(
                    !self.older_is_there(part, offset, oldest),
                    "lane {lane}: {part:?} offset {offset} was durable and is gone, older ones are there: {rec:?}"
                );
                still.push((part, offset));
            } else {
                loose += 1;
                // Evicted before it was settled: its lane's slot was needed for another.
                let evicted = self.spoilt(rec.group);
                ensure!(
                    rec.life + 1 != self.life || rec.ticket > newest_state || evicted,
                    "lane {lane}: {part:?} offset {offset} (ticket {}) is gone, but state given after it (ticket {newest_state}) is \
                     there",
                    rec.ticket
                );
                self.remove(part, offset);
            }
        }
        let admitted = self.lanes[lane].ordinals.len() as u64;
        let named = self.lanes[lane].alive;
        // Those removed above had an ordinal or not; of those that stay each must have one, the tail excepted.
        let mut unnamed = admitted.checked_sub(named);
        if unnamed.is_none() && admitted + tainted >= named {
            for (part, offset) in still.iter().rev().copied().collect::<Vec<_>>() {
                if self.lanes[lane].alive > admitted && self.rec(part, offset).is_some_and(|r| self.tainted(r.group)) {
                    self.remove(part, offset);
                }
            }
            unnamed = admitted.checked_sub(self.lanes[lane].alive);
            still.retain(|(part, offset)| self.rec(*part, *offset).is_some());
        }
        let before = self.lanes[lane].nameless;
        ensure!(
            unnamed.is_some_and(|n| n <= before + loose),
            "lane {lane}: {admitted} admitted, {named} are known to be durable, {before} + {loose} may have been lost"
        );
        self.lanes[lane].nameless = unnamed.unwrap_or(0);
        self.lanes[lane].open = still;
        let count = |r: GapReason| self.lanes[lane].ordinals.iter().filter(|o| **o == At::Gone(r)).count() as u64;
        let (evicted, corrupt, lost) =
            (count(GapReason::Evicted), count(GapReason::Corrupt), count(GapReason::LostUnsynced));
        ensure!(corrupt <= tainted, "lane {lane}: {corrupt} are announced as corrupt, {tainted} were destroyed unseen");
        let nameless = self.lanes[lane].nameless;
        ensure!(
            lost <= nameless + tainted,
            "lane {lane}: {lost} are announced as lost unsynced, {nameless} may have been, {tainted} were destroyed"
        );
        ensure!(
            firm <= evicted,
            "lane {lane}: {firm} durable records are gone, {evicted} were evicted unseen, {tainted} destroyed"
        );
        Ok(())
    }

    fn older_is_there(&self, part: TopicPart, offset: u64, oldest: u64) -> bool {
        let Some(recs) = self.parts.get(&part) else { return false };
        let Some(lane) = self.rec(part, offset).map(|r| r.lane) else { return false };
        let same = recs[..offset as usize].iter().rev().flatten().filter(|r| r.lane == lane);
        let before = same.filter_map(|r| r.place).next();
        before.is_some_and(|place| place.ordinal >= oldest)
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
        let mut newest = None;
        let mut firm = false;
        for (i, v) in versions.iter().enumerate().rev() {
            if v.value.as_deref() == value {
                found = Some(i);
                newest.get_or_insert((v.life, v.ticket));
            }
            if v.settled && !self.tainted(v.group) {
                firm = true;
                break;
            }
        }
        let keep = match found {
            // Nothing is also what was there before the first version.
            _ if value.is_none() && !firm => 0,
            Some(i) => i + 1,
            None => {
                ensure!(
                    !firm && value.is_none(),
                    "state {key:?} went back behind a settled value: now {value:?}, versions {versions:?}"
                );
                0
            }
        };
        self.at_most.insert(key.clone(), newest.unwrap_or_default());
        let versions = self.states.get_mut(key).expect("looked up above");
        if versions[keep..].iter().any(|v| v.settled) {
            self.destroyed.insert(key.0);
        }
        let gone = versions[keep..].iter().filter(|v| v.group.is_some_and(|g| self.groups[g].tainted));
        self.destroyed_versions.extend(gone.map(|v| (v.life, v.ticket)));
        versions.truncate(keep);
        let Some(last) = versions.last_mut() else { return Ok(None) };
        let fresh = last.life == ended;
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

    /// Whether damage to the device has taken back what was durable of an owner's state.
    pub fn state_was_destroyed(&self, owner: u8) -> bool {
        self.destroyed.contains(&owner)
    }

    /// The newest value that is durable.
    pub fn durable_state(&self, key: &StateKey) -> Option<&[u8]> {
        self.states.get(key)?.iter().rev().find(|v| v.settled)?.value.as_deref()
    }

    /// After recovery and audits: of each group of the ended life all is there, or nothing.
    pub fn groups_whole(&self) -> Check {
        for whole in self.wholes.iter().filter(|w| w.life + 1 == self.life) {
            let recs: Vec<_> = whole.recs.iter().map(|(part, offset)| self.rec(*part, *offset)).collect();
            if recs.iter().flatten().any(|r| self.tainted(r.group)) || recs.is_empty() && self.any_tainted() {
                continue;
            }
            let mut there: Vec<bool> = recs.iter().map(|r| r.is_some()).collect();
            for (key, ticket) in &whole.states {
                let versions = self.states.get(key).map_or(&[][..], |v| v);
                let present = versions.iter().any(|v| v.life == whole.life && v.ticket == *ticket);
                // The records may stand in a copy, and have been spared what hit the frame in the journal.
                if !present && self.destroyed_versions.contains(&(whole.life, *ticket)) {
                    continue;
                }
                // Where several versions had the same value nobody can tell which one it is.
                if present || self.at_most.get(key).is_none_or(|most| *most < (whole.life, *ticket)) {
                    there.push(present);
                }
            }
            let whole_or_none = there.iter().all(|t| *t) || !there.iter().any(|t| *t);
            ensure!(whole_or_none, "a group was torn: {whole:?}, there: {there:?}");
        }
        Ok(())
    }

    /// A topic came back under another number: fine as long as nothing durable was in it, or what said its name may
    /// have been destroyed. What is durable of it can still be read.
    pub fn forget_topic(&mut self, topic: TopicId) -> bool {
        let mut fine = true;
        let parts: Vec<_> = self.parts.keys().filter(|p| p.topic == topic).copied().collect();
        for part in parts {
            for offset in 0..self.parts[&part].len() as u64 {
                let Some(rec) = self.rec(part, offset) else { continue };
                if rec.settled || rec.place.is_some() {
                    fine = false;
                } else {
                    // Left by the audit because it was destroyed: as in `append`, it has its ordinal.
                    let (lane, destroyed) = (rec.lane, self.tainted(rec.group));
                    self.remove(part, offset);
                    self.lanes[lane].nameless += u64::from(destroyed);
                    self.lanes[lane].open.retain(|o| *o != (part, offset));
                }
            }
        }
        fine || self.any_tainted()
    }

    /// Something was destroyed on the device: what the ring knows only from there may be less than it was.
    pub fn any_tainted(&self) -> bool {
        self.groups.iter().any(|g| g.tainted)
    }

    /// The nearest known place of the lane at or below the ordinal.
    pub fn place(&self, lane: usize, ordinal: u64) -> LanePos {
        let ordinals = &self.lanes[lane].ordinals;
        let below = &ordinals[..(ordinal as usize).min(ordinals.len())];
        let known = below.iter().rev().find_map(|at| match at {
            At::Shown(part, offset) => self.rec(*part, *offset)?.place,
            _ => None,
        });
        known.map_or(LanePos::default(), |p| LanePos { seq: p.seq + 1, ordinal: p.ordinal + 1 })
    }

    /// The tag of the record that stood at an ordinal when it was shown last.
    pub fn standing(&self, lane: usize, ordinal: u64) -> Option<u64> {
        match self.lanes[lane].ordinals.get(ordinal as usize) {
            Some(At::Shown(part, offset)) => self.rec(*part, *offset).map(|r| r.tag),
            _ => None,
        }
    }

    /// What stood there may have been destroyed.
    pub fn is_tainted(&self, lane: usize, ordinal: u64) -> bool {
        match self.lanes[lane].ordinals.get(ordinal as usize) {
            Some(At::Shown(part, offset)) => self.rec(*part, *offset).is_none_or(|r| self.spoilt(r.group)),
            _ => true,
        }
    }

    /// The record is there, was evicted or destroyed; it did not vanish.
    pub fn has(&self, part: TopicPart, offset: u64, tag: u64) -> bool {
        self.rec(part, offset).is_some_and(|r| r.tag == tag) || self.destroyed_records.contains(&(part, offset))
    }

    /// The highest offset of the partition that must not be used again.
    pub fn last_firm_offset(&self, part: TopicPart) -> Option<u64> {
        let recs = self.parts.get(&part)?;
        let firm = |r: &Rec| (r.settled || r.place.is_some()) && !self.tainted(r.group);
        recs.iter().rposition(|r| r.as_ref().is_some_and(firm)).map(|o| o as u64)
    }

    // ------------------------------------------------------------------------------------ reading

    /// A reader of `lane` at `pos` is shown this entry; returns where it stands then.
    pub fn shown(&mut self, lane: usize, pos: LanePos, e: &Entry<'_>, ring: RingId, boot: u32) -> Check<LanePos> {
        let (part, offset) = (e.part, e.offset);
        ensure!(
            e.ordinal == pos.ordinal,
            "lane {lane}: reader at #{} is shown #{} without a gap between",
            pos.ordinal,
            e.ordinal
        );
        ensure!(e.seq >= pos.seq, "lane {lane} #{}: seq {} is below the reader's {}", e.ordinal, e.seq, pos.seq);
        let given = self.given(lane);
        let Some(rec) = self.rec_mut(part, offset) else {
            return Err(Violation(format!("lane {lane} #{}: {part:?} offset {offset} was never given", e.ordinal)));
        };
        ensure!(rec.lane == lane, "{part:?} offset {offset} of lane {} is shown in lane {lane}", rec.lane);
        ensure!(e.ordinal < given, "lane {lane}: shown #{}, {given} were given", e.ordinal);
        let hash = *rec.hash.get_or_insert(hash_of(&e.record));
        ensure!(hash == hash_of(&e.record), "{part:?} offset {offset}: other bytes than were given");
        ensure!(rec.ring == ring, "{part:?} offset {offset}: ring id {ring:?}, was {:?}", rec.ring);
        ensure!(rec.boot == boot, "{part:?} offset {offset}: boot {boot}, was {}", rec.boot);
        let place = LanePos { seq: e.seq, ordinal: e.ordinal };
        ensure!(
            rec.place.is_none_or(|p| p == place),
            "{part:?} offset {offset}: stood at {:?}, now at {place:?}",
            rec.place
        );
        ensure!(
            rec.announced.is_none_or(|r| r == GapReason::Corrupt),
            "{part:?} offset {offset}: announced as {:?}, now shown",
            rec.announced
        );
        rec.place = Some(place);
        let owner = *self.seqs.entry(e.seq).or_insert((lane, e.ordinal));
        ensure!(
            owner == (lane, e.ordinal),
            "seq {} names lane {} #{} and lane {lane} #{}",
            e.seq,
            owner.0,
            owner.1,
            e.ordinal
        );
        self.stand(lane, e.ordinal, At::Shown(part, offset))?;
        Ok(LanePos { seq: e.seq + 1, ordinal: e.ordinal + 1 })
    }

    /// What stands at an ordinal, now known.
    fn stand(&mut self, lane: usize, ordinal: u64, now: At) -> Check {
        let tainted = self.any_tainted();
        let ordinals = &mut self.lanes[lane].ordinals;
        if ordinals.len() <= ordinal as usize {
            ordinals.resize(ordinal as usize + 1, At::Unknown);
        }
        let was = ordinals[ordinal as usize];
        let fine = match (was, now) {
            (At::Unknown, _) | (_, At::Unknown) => true,
            (At::Shown(..), At::Shown(..)) => was == now,
            // A read that failed once may go well later.
            (At::Gone(GapReason::Corrupt), _) => true,
            (At::Gone(_), At::Shown(..)) => false,
            (At::Shown(..), At::Gone(_)) => true,
            (At::Gone(a), At::Gone(b)) => a == b || b == GapReason::Evicted || tainted,
        };
        ensure!(fine, "lane {lane} #{ordinal} was {was:?}, now {now:?}");
        // The place of a record that was known stays known, so that its seq is never given away.
        if !matches!((was, now), (At::Shown(..), At::Gone(_)) | (At::Gone(_), At::Gone(_))) {
            ordinals[ordinal as usize] = now;
        }
        Ok(())
    }

    /// A reader of the partition at `offset` is shown this entry.
    pub fn shown_part(&mut self, lane: usize, part: TopicPart, offset: u64, e: &Entry<'_>) -> Check {
        ensure!(e.part == part, "reader of {part:?} is shown {:?}", e.part);
        ensure!(e.offset == offset, "{part:?}: reader at offset {offset} is shown {} without a gap between", e.offset);
        let Some(rec) = self.rec_mut(part, offset) else {
            return Err(Violation(format!("{part:?}: shown offset {offset}, which was never given")));
        };
        ensure!(rec.lane == lane, "{part:?} offset {offset} of lane {} is read from lane {lane}", rec.lane);
        let place = LanePos { seq: e.seq, ordinal: e.ordinal };
        ensure!(
            rec.place.is_none_or(|p| p == place),
            "{part:?} offset {offset}: stood at {:?}, now at {place:?}",
            rec.place
        );
        let hash = *rec.hash.get_or_insert(hash_of(&e.record));
        ensure!(hash == hash_of(&e.record), "{part:?} offset {offset}: other bytes than were given");
        // Shown: durable from now on.
        rec.settled = true;
        Ok(())
    }

    /// The partition has nothing at these offsets: each was evicted, lost or never came to be.
    pub fn part_gap(&self, part: TopicPart, from: u64, to: u64, oldest: &[u64]) -> Check {
        for offset in from..to {
            let Some(rec) = self.rec(part, offset) else { continue };
            let oldest = oldest[rec.lane];
            let excused = self.spoilt(rec.group)
                || match rec.place {
                    Some(place) => place.ordinal < oldest,
                    None => !rec.settled || !self.older_is_there(part, offset, oldest),
                };
            ensure!(excused, "{part:?} offset {offset} is in a gap, but durable: {rec:?}, oldest #{oldest}");
        }
        Ok(())
    }

    /// A reader met a gap, standing at `before`.
    pub fn gap(&mut self, gap: &Gap, before: LanePos, after: LanePos, oldest: u64) -> Check {
        let lane = gap.lane.index();
        let reason = gap.reason;
        ensure!(
            gap.from == before && gap.to == after && after.ordinal > before.ordinal,
            "lane {lane}: gap {:?}..{:?} ({reason:?}), reader went {before:?}..{after:?}",
            gap.from,
            gap.to
        );
        ensure!(
            after.ordinal <= self.given(lane),
            "lane {lane}: gap to #{} of {} given",
            after.ordinal,
            self.given(lane)
        );
        for ordinal in before.ordinal..after.ordinal {
            let known = match self.lanes[lane].ordinals.get(ordinal as usize) {
                Some(At::Shown(part, offset)) => self.rec(*part, *offset),
                _ => None,
            };
            let fine = match reason {
                GapReason::Evicted => ordinal < oldest,
                GapReason::Corrupt => known.is_none_or(|rec| self.spoilt(rec.group)),
                // The very last commit, destroyed, cannot be told from one that never was.
                GapReason::LostUnsynced => known.is_none_or(|rec| self.tainted(rec.group)),
                GapReason::Expired | GapReason::Passed => false,
            };
            ensure!(fine, "lane {lane} #{ordinal} is announced as {reason:?}: {known:?}, oldest #{oldest}");
            self.stand(lane, ordinal, At::Gone(reason))?;
        }
        self.gaps_seen.gap(reason, gap.count());
        self.gap_parts(gap)
    }

    /// Counts per partition, where the ring tells them.
    fn gap_parts(&mut self, gap: &Gap) -> Check {
        if gap.parts.is_empty() {
            return Ok(());
        }
        let lane = gap.lane.index();
        let sum: u64 = gap.parts.iter().map(|p| p.to_offset - p.from_offset).sum();
        ensure!(sum == gap.count(), "lane {lane}: gap of {} says {sum} by partition: {gap:?}", gap.count());
        for p in &gap.parts {
            for offset in p.from_offset..p.to_offset {
                let Some(rec) = self.rec(p.part, offset) else { continue };
                let fine = match gap.reason {
                    GapReason::LostUnsynced => !rec.settled && rec.place.is_none() || self.tainted(rec.group),
                    GapReason::Corrupt => self.spoilt(rec.group),
                    _ => true,
                };
                ensure!(fine, "{:?} offset {offset} is announced as {:?}: {rec:?}", p.part, gap.reason);
                let reason = gap.reason;
                if let Some(rec) = self.rec_mut(p.part, offset) {
                    rec.announced = Some(reason);
                }
            }
        }
        Ok(())
    }
}
