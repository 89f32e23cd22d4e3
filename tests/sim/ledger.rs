//! What a node was given, and what must have become of it at every sink: promises 2 and 3, record by record, against
//! what the upstreams stored and never by a machine's own word.
//!
//! For each sink and lane the ledger knows the fate of every ordinal below the cursor. It is found when the cursor
//! passes: a record that the sink met in a gap is in that gap; every other one must be known, is to be filtered or
//! refused by rules that the ledger knows itself, or must have been stored upstream with all its outputs. The account
//! that the pipeline keeps must say the same numbers, also after a crash has taken both back.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use headwater::pipeline::{Account, Counts, DEAD_LETTERS_TOPIC, DeadLetters, GAPS_TOPIC, MAX_STREAMS, Stream};
use headwater::ring::GapReason;
use headwater::topic::TopicPart;

use crate::model::{Check, Model, Violation, ensure};
use crate::upstream::Upstream;

/// Local topics.
pub const LOCAL: [&str; 5] = ["alpha", "beta", "gamma", "alpha-copy", "delta"];
/// The topic that gets copies of the first one's records by a rule.
pub const COPY: u8 = 3;
/// Stands for the topic that tells of losses.
pub const GAPS: u8 = 255;
/// And for that of the records that an upstream refused.
pub const DEAD: u8 = 254;
/// Upstream topics.
pub const UPSTREAM: [&str; 3] = ["all", "some", "more"];

/// Names one ring record: its local topic, and a number that its value begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    pub local: u8,
    pub tag: u64,
}

/// One output of a record, as an upstream stores it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Out {
    pub id: Id,
    pub n: u8,
    /// Of key and value.
    pub hash: u64,
}

impl Id {
    pub fn pack(self) -> u64 {
        u64::from(self.local) << 56 | self.tag
    }
    pub fn unpack(packed: u64) -> Self {
        Self { local: (packed >> 56) as u8, tag: packed & ((1 << 56) - 1) }
    }
    /// The number in front of every value.
    pub fn of_value(local: u8, value: &[u8]) -> Option<Self> {
        let digits = std::str::from_utf8(value.get(..16)?).ok()?;
        Some(Self { local, tag: u64::from_str_radix(digits, 16).ok()? })
    }
    /// A rule before the ring drops it.
    pub fn is_dropped(self) -> bool {
        self.local == 1 && self.tag % 7 == 2
    }
    /// A rule before the ring copies it.
    pub fn is_copied(self) -> bool {
        self.local == 0 && self.tag % 9 == 4
    }
}

impl Out {
    /// What it comes to where markers do not survive.
    pub fn content(&self) -> u64 {
        self.hash ^ self.id.pack().rotate_left(17) ^ u64::from(self.n)
    }

    /// The upstream topic that it goes to.
    fn topic(&self) -> usize {
        outputs(self.id).iter().find(|(.., n)| *n == self.n).map_or(0, |(topic, ..)| *topic)
    }

    /// No upstream will ever take it.
    pub fn is_refused(&self) -> bool {
        self.id.tag % 97 == 13
    }
}

/// What the sink's rules make of a record: upstream topic, key, number of the output.
pub fn outputs(id: Id) -> Vec<(usize, Option<[u8; 1]>, u8)> {
    match id.tag % 11 {
        3 => vec![],
        5 => vec![(0, None, 0), (1, Some([7]), 1), (0, None, 2)],
        7 => vec![(1, Some([id.tag as u8 % 5]), 0)],
        n => vec![(if id.local == 1 { 2 } else { 0 }, n.is_multiple_of(2).then_some([id.tag as u8 % 3]), 0)],
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Delivered,
    Filtered,
    Refused,
    Gap(GapReason),
    /// Its topic is not known any more.
    Released,
}

/// A record that a cursor has passed.
#[derive(Clone, Copy, Debug)]
struct Passed {
    fate: Fate,
    /// Of which topic it was, where anybody ever saw it.
    topic: Option<u8>,
    /// The number of the stream that passed it.
    stream: u32,
}

/// What streams have passed: number and ordinals.
fn ranges(account: &Account, streams: &[Stream]) -> Vec<(u32, std::ops::Range<u64>)> {
    let begins = std::iter::once(Some(account.start)).chain(streams.iter().map(|s| s.to)).flatten();
    begins.zip(streams).map(|(from, s)| (s.number, from.ordinal..s.cursor.ordinal)).collect()
}

/// One sink in one lane.
#[derive(Clone, Debug, Default)]
struct LaneLedger {
    start: Option<u64>,
    /// Of every ordinal that is behind the cursor of its stream.
    passed: BTreeMap<u64, Passed>,
    by_topic: BTreeMap<Option<u8>, [u64; 8]>,
    /// Ordinals that this sink met in a gap last, not as records.
    missed: BTreeMap<u64, GapReason>,
    /// Ordinals that this sink met without a topic.
    released: BTreeSet<u64>,
    /// Ordinals that were too old when this sink read them last.
    expired: BTreeSet<u64>,
    /// Ordinals that were too old once. After a restart their age may not be known any more, and then they count as delivered
    /// where the upstream has what came after them: which of what is missing there was left out is not stored. Nor is what
    /// an upstream has lost sent again when it is too old by then.
    was_expired: BTreeSet<u64>,
    counts: [u64; 8],
}

impl LaneLedger {
    /// What was too old once, and would have been refused, may count as delivered like the rest of it.
    fn take_for_delivered(&mut self, new: std::ops::Range<u64>, delivered: u64) {
        let (is, was) = (slot(Fate::Delivered), slot(Fate::Refused));
        for (ordinal, passed) in self.passed.range_mut(new) {
            let old = passed.fate == Fate::Refused && self.was_expired.contains(ordinal);
            if old && self.counts[is] < delivered {
                passed.fate = Fate::Delivered;
                let by_topic = self.by_topic.entry(passed.topic).or_default();
                for counts in [by_topic, &mut self.counts] {
                    counts[is] += 1;
                    counts[was] -= 1;
                }
            }
        }
    }
}

/// What a sink's machine announced beside its tallies.
#[derive(Clone, Copy, Debug, Default)]
pub struct Announced {
    pub duplicated: u64,
    pub maybe: u64,
    pub losses: u64,
    pub refused: u64,
    /// Times another life of the ring was said to have sent something.
    pub other_lives: u64,
}

/// Records of one content in an upstream topic: where all differ, one.
#[derive(Clone, Copy, Debug, Default)]
struct Standing {
    copies: u64,
    /// Of them what did not land after its grace period.
    timely: u64,
    /// How many there are to be.
    due: u64,
    /// One that does not stand there itself.
    missing: Option<(usize, u64, Out)>,
    /// Records that the account says are in gaps, and that stood there.
    in_gaps: u64,
}

/// What the settings of a sink promise.
#[derive(Clone, Copy, Debug)]
pub struct Promised {
    pub resend: bool,
    pub committed: bool,
}

pub struct SinkLedger {
    pub name: String,
    /// Local topics that it does not want.
    pub excluded: Option<u8>,
    lanes: Vec<LaneLedger>,
    pub announced: Announced,
    /// A topic's name, or what was stored of the sink, was destroyed: what was counted of the topic is counted of none.
    pub nameless: bool,
}

/// A record of a loss, as it is read back.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Told {
    pub sink: String,
    pub lane: String,
    pub topic: Option<String>,
    pub partition: Option<u8>,
    pub from: Option<u64>,
    pub to: Option<u64>,
    pub count: u64,
    pub reason: GapReason,
}

/// A dead letter, as it is read back.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Dead {
    pub sink: String,
    pub ring: String,
    pub seq: u64,
    pub topic: String,
    pub value: Option<String>,
    pub value_base64: Option<String>,
}

impl Dead {
    fn bytes(&self) -> Vec<u8> {
        let text = self.value.as_ref().map(|text| text.as_bytes().to_vec());
        text.or_else(|| BASE64.decode(self.value_base64.as_ref()?).ok()).unwrap_or_default()
    }
}

/// The number of a topic.
pub fn local_of(name: &str) -> Option<u8> {
    match name {
        GAPS_TOPIC => Some(GAPS),
        DEAD_LETTERS_TOPIC => Some(DEAD),
        _ => LOCAL.iter().position(|l| *l == name).map(|l| l as u8),
    }
}

#[derive(Default)]
pub struct Ledger {
    /// Every record of a loss that was given; None: not read yet.
    pub told: BTreeMap<(TopicPart, u64), Option<Told>>,
    /// Every dead letter.
    pub letters: BTreeMap<(TopicPart, u64), Option<Dead>>,
    /// Hash of key and value of everything ever offered.
    pub given: HashMap<Id, u64>,
    /// Where a record stood when it was shown.
    places: HashMap<Id, (usize, u64)>,
}

impl Ledger {
    /// Everything that an upstream must hold of a record.
    fn outs(&self, id: Id) -> Vec<Out> {
        let hash = self.given.get(&id).copied().unwrap_or_default();
        outputs(id).into_iter().map(|(_, _, n)| Out { id, n, hash }).collect()
    }

    pub fn shown(&mut self, id: Id, lane: usize, ordinal: u64) {
        self.places.insert(id, (lane, ordinal));
    }
}

fn slot(fate: Fate) -> usize {
    match fate {
        Fate::Delivered => 0,
        Fate::Filtered => 1,
        Fate::Refused => 2,
        Fate::Gap(GapReason::Evicted) => 3,
        Fate::Gap(GapReason::Expired) => 4,
        Fate::Gap(GapReason::Corrupt) => 5,
        Fate::Gap(GapReason::LostUnsynced) => 6,
        // In RAM-first mode alone, which these worlds are not in: the comparison of counts finds it.
        Fate::Gap(GapReason::Passed) => 7,
        Fate::Released => 7,
    }
}

impl SinkLedger {
    pub fn new(name: &str, excluded: Option<u8>, lanes: usize) -> Self {
        let announced = Announced::default();
        Self { name: name.into(), excluded, lanes: vec![LaneLedger::default(); lanes], announced, nameless: false }
    }

    /// The sink met a gap.
    pub fn missed(&mut self, lane: usize, from: u64, to: u64, reason: GapReason) {
        self.lanes[lane].missed.extend((from..to).map(|ordinal| (ordinal, reason)));
    }

    /// The sink met a record without a topic.
    pub fn released(&mut self, lane: usize, ordinal: u64) {
        self.lanes[lane].released.insert(ordinal);
    }

    /// The sink read a record: whether it was too old.
    pub fn expired(&mut self, lane: usize, ordinal: u64, expired: bool) {
        let own = &mut self.lanes[lane];
        if expired {
            own.expired.insert(ordinal);
            own.was_expired.insert(ordinal);
        } else {
            own.expired.remove(&ordinal);
        }
    }

    /// A cursor moved: what was passed has the fate that the account says.
    pub fn advanced(
        &mut self,
        lane: usize,
        account: &Account,
        streams: &[Stream],
        model: &Model,
        ledger: &Ledger,
        upstream: &Upstream,
    ) -> Check {
        for (stream, range) in ranges(account, streams) {
            let known = self.lanes[lane].passed.range(range.clone()).next_back();
            let new = known.map_or(range.start, |(ordinal, _)| ordinal + 1)..range.end;
            for ordinal in new.clone() {
                let fate = match self.lanes[lane].missed.get(&ordinal) {
                    Some(reason) => Fate::Gap(*reason),
                    None if self.lanes[lane].released.contains(&ordinal) => Fate::Released,
                    None if self.lanes[lane].expired.contains(&ordinal) => Fate::Gap(GapReason::Expired),
                    None => self.fate(lane, ordinal, model, ledger, upstream)?,
                };
                let topic = model.standing(lane, ordinal).map(|tag| Id::unpack(tag).local);
                let own = &mut self.lanes[lane];
                own.passed.insert(ordinal, Passed { fate, topic, stream });
                own.counts[slot(fate)] += 1;
                own.by_topic.entry(topic).or_default()[slot(fate)] += 1;
            }
            self.lanes[lane].take_for_delivered(new, account.delivered);
        }
        self.compare(lane, account, streams)
    }

    fn fate(&self, lane: usize, ordinal: u64, model: &Model, ledger: &Ledger, upstream: &Upstream) -> Check<Fate> {
        let name = &self.name;
        let Some(tag) = model.standing(lane, ordinal) else {
            return Err(Violation(format!(
                "{name}: lane {lane}: the cursor passed #{ordinal}, which nobody was shown"
            )));
        };
        let id = Id::unpack(tag);
        if matches!(id.local, GAPS | DEAD) {
            return Ok(Fate::Filtered);
        }
        let outs = ledger.outs(id);
        if self.excluded == Some(id.local) || outs.is_empty() {
            return Ok(Fate::Filtered);
        }
        if outs.iter().any(Out::is_refused) {
            return Ok(Fate::Refused);
        }
        let missing = outs.iter().find(|out| !upstream.has_had(out.topic(), out));
        ensure!(
            missing.is_none() || self.lanes[lane].was_expired.contains(&ordinal),
            "{name}: lane {lane}: the cursor passed #{ordinal} ({id:?}), but output {missing:?} was never stored"
        );
        Ok(Fate::Delivered)
    }

    /// The identity of promise 2, number by number.
    fn compare(&self, lane: usize, account: &Account, streams: &[Stream]) -> Check {
        let ranges = ranges(account, streams);
        let whole = ranges.iter().map(|(_, range)| range.end - range.start).sum::<u64>() == account.settled();
        let apart = ranges.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1.end <= pair[1].1.start);
        let own = &self.lanes[lane];
        let theirs = [
            account.delivered,
            account.filtered,
            account.refused,
            account.evicted,
            account.expired,
            account.corrupt,
            account.lost_unsynced,
            account.released,
        ];
        ensure!(
            own.counts == theirs && whole && apart && ranges.len() <= MAX_STREAMS,
            "{}: lane {lane}: the account says {account:?} of {streams:?}, true is (delivered, filtered, refused, evicted, expired, \
             corrupt, lost, released) {:?}",
            self.name,
            own.counts
        );
        Ok(())
    }

    /// The identity by topic: what was read is the topic's that it was of, to the last record; of what was lost no topic has
    /// more than may have been its own, and all topics together not more than there is. Where something was lost of which
    /// nobody knew whose it was, so much may be told of a topic under another loss: a division that fits by chance.
    pub fn compare_shares(&self, lane: usize, account: &Account, shares: &[(u8, Counts)]) -> Check {
        let own = &self.lanes[lane];
        let none = [0; 8];
        let unseen = own.by_topic.get(&None).unwrap_or(&none);
        let sum = shares.iter().fold(Counts::default(), |sum, (_, counts)| sum.plus(*counts));
        let nobodys = account.counts().minus(sum).total();
        ensure!(sum.fits(account.counts()), "{}: lane {lane}: {shares:?} have more than {account:?}", self.name);
        for local in (0..LOCAL.len() as u8).chain([GAPS, DEAD]) {
            let mine = shares.iter().find(|(l, _)| *l == local).map_or(Counts::default(), |s| s.1);
            let seen = own.by_topic.get(&Some(local)).unwrap_or(&none);
            for (at, (name, counted)) in mine.named().into_iter().enumerate() {
                // What its topic's name was taken from is counted of no topic.
                let fine = match at {
                    0..3 => counted == seen[at] || self.nameless && counted < seen[at],
                    7 => counted == 0,
                    _ => counted <= seen[at] + unseen[at] + nobodys,
                };
                ensure!(
                    fine,
                    "{}: lane {lane}: topic {local} has {name} {counted}, true is {} (and {} of no topic)",
                    self.name,
                    seen[at],
                    unseen[at]
                );
            }
        }
        Ok(())
    }

    /// Every loss that the account counts was told, once: `told` are the records of this sink that are there, `unread` those
    /// of which nobody knows what they say.
    pub fn compare_told(&self, shares: &[Vec<(u8, Counts)>], told: &[Told], unread: bool) -> Check {
        let mut left: BTreeMap<(Option<u8>, GapReason), (u64, u64)> = BTreeMap::new();
        let reasons = [GapReason::Evicted, GapReason::Expired, GapReason::Corrupt, GapReason::LostUnsynced];
        for (own, shares) in self.lanes.iter().zip(shares) {
            for reason in reasons {
                let counted = own.counts[slot(Fate::Gap(reason))];
                let mut rest = counted;
                for (local, counts) in shares {
                    let part = *counts.clone().of_gap(reason);
                    rest -= part;
                    // Of itself the topic does not tell.
                    left.entry((Some(*local), reason)).or_default().0 += if *local == GAPS { 0 } else { part };
                }
                left.entry((None, reason)).or_default().0 += rest;
            }
        }
        let mut ranges: BTreeMap<_, Vec<(u64, u64)>> = BTreeMap::new();
        for record in told {
            if let Some(((partition, from), to)) = record.partition.zip(record.from).zip(record.to) {
                let whole =
                    record.count == to - from || record.reason == GapReason::Expired && record.count < to - from;
                ensure!(whole && record.topic.is_some(), "{}: the numbers do not agree: {record:?}", self.name);
                ranges.entry((&record.topic, partition)).or_default().push((from, to));
            }
            let local = record.topic.as_ref().and_then(|topic| local_of(topic));
            left.entry((local, record.reason)).or_default().1 += record.count;
        }
        for (part, mut ranges) in ranges {
            ranges.sort_unstable();
            let twice = ranges.windows(2).find(|pair| pair[0].1 > pair[1].0);
            ensure!(twice.is_none() || self.nameless, "{}: {part:?}: records are lost twice: {twice:?}", self.name);
        }
        for ((topic, reason), (counted, told)) in left {
            let fine = counted == told || unread && told <= counted || self.nameless;
            ensure!(fine, "{}: topic {topic:?}: {counted} {reason:?} are counted, {told} were told", self.name);
        }
        Ok(())
    }

    /// What was refused has a letter, each record one: `letters` are those of this sink that are there, `unread` says that there
    /// are some of which nobody knows what they say.
    pub fn compare_letters(&self, refused: u64, counted: &DeadLetters, letters: &[Dead], unread: bool) -> Check {
        let mut seen = BTreeSet::new();
        for letter in letters {
            let id = local_of(&letter.topic).and_then(|local| Id::of_value(local, &letter.bytes()));
            let right = id.is_some_and(|id| outputs(id).iter().any(|(.., n)| Out { id, n: *n, hash: 0 }.is_refused()));
            ensure!(right, "{}: nobody refuses what {letter:?} is about", self.name);
            let new = seen.insert((&letter.ring, letter.seq));
            ensure!(new || self.nameless, "{}: two letters of one record: {letter:?}", self.name);
        }
        let there = letters.len() as u64;
        let fine = counted.written == there || unread && there < counted.written;
        let all = counted.written + counted.left_out == refused;
        ensure!(
            fine && all || self.nameless,
            "{}: {refused} are refused, {there} letters are there, counted are {counted:?}",
            self.name
        );
        Ok(())
    }

    /// The node came back: the account is one that was true once, and everything below its cursor is accounted for.
    /// `gaps`: what it had met ahead of its cursor.
    pub fn recovered(
        &mut self,
        lane: usize,
        account: &Account,
        streams: &[Stream],
        gaps: &[(u64, u64, GapReason)],
        model: &Model,
    ) -> Check {
        let name = self.name.clone();
        let own = &mut self.lanes[lane];
        own.missed.clear();
        own.expired.clear();
        own.missed.extend(gaps.iter().flat_map(|(from, to, reason)| (*from..*to).map(|o| (o, *reason))));
        if let Some(start) = own.start
            && start != account.start.ordinal
        {
            // As if it had never been: nothing that it would get was durable either. Or what said so was destroyed.
            let fresh = account.cursor == account.start && account.balances();
            let unborn =
                own.passed.is_empty() && (start..account.start.ordinal).all(|o| model.standing(lane, o).is_none());
            ensure!(
                fresh && (unborn || model.any_tainted()),
                "{name}: lane {lane}: began at #{start}, after a crash at {:?}: what lies between goes nowhere",
                account.start
            );
            *own = LaneLedger { missed: std::mem::take(&mut own.missed), ..LaneLedger::default() };
        }
        let start = *own.start.get_or_insert(account.start.ordinal);
        let mut kept = BTreeMap::new();
        for (_, range) in ranges(account, streams) {
            for ordinal in range {
                let known = own.passed.remove(&ordinal);
                ensure!(
                    known.is_some(),
                    "{name}: lane {lane}: {streams:?} from #{start} on have passed #{ordinal}, which is not accounted for"
                );
                kept.extend(known.map(|passed| (ordinal, passed)));
            }
        }
        for passed in std::mem::replace(&mut own.passed, kept).into_values() {
            own.counts[slot(passed.fate)] -= 1;
            own.by_topic.entry(passed.topic).or_default()[slot(passed.fate)] -= 1;
        }
        self.compare(lane, account, streams)
    }

    /// Promise 2 and 3 at the end of a run: everything that is not in a gap is upstream, once, in order.
    pub fn settle_up(
        &self,
        model: &Model,
        ledger: &Ledger,
        upstream: &Upstream,
        oldest: &[u64],
        Promised { resend, committed }: Promised,
    ) -> Check {
        let name = &self.name;
        let mut there: HashMap<(usize, u64), Standing> = HashMap::new();
        let mut known: BTreeSet<Out> = BTreeSet::new();
        let class = |out: &Out| (out.topic(), upstream.nature.content(out.topic(), out));
        for (part, log) in upstream.logs() {
            for batch in &log.batches {
                for out in &batch.outs {
                    let given = ledger.given.get(&out.id);
                    ensure!(given == Some(&out.hash), "{name}: {part:?} holds {out:?}, given was {given:?}");
                    let standing = there.entry(class(out)).or_default();
                    standing.copies += 1;
                    standing.timely += u64::from(!batch.overdue);
                    standing.due += u64::from(known.insert(*out));
                }
            }
        }
        for (lane, own) in self.lanes.iter().enumerate() {
            for (ordinal, _) in own.passed.iter().filter(|(_, passed)| matches!(passed.fate, Fate::Gap(_))) {
                let Some(id) = model.standing(lane, *ordinal).map(Id::unpack) else { continue };
                for out in ledger.outs(id).into_iter().filter(|out| upstream.ever.contains(out)) {
                    there.entry(class(&out)).or_default().in_gaps += 1;
                }
            }
            for (ordinal, passed) in own.passed.iter().filter(|(_, passed)| passed.fate == Fate::Delivered) {
                let (ordinal, stream) = (*ordinal, passed.stream);
                if own.was_expired.contains(&ordinal) {
                    continue;
                }
                let Some(id) = model.standing(lane, ordinal).map(Id::unpack) else { continue };
                for out in ledger.outs(id).into_iter().filter(|out| !known.contains(out)) {
                    // What an upstream has lost can be sent again only as long as the ring has it, and only where
                    // markers show that it is lost, not taken by retention.
                    let gone = ordinal < oldest[lane] || model.is_tainted(lane, ordinal);
                    let seen = upstream.was_looked_for((lane, stream), &out) && !upstream.looks_trimmed(&out);
                    let told = resend && !gone && !upstream.nature.rebuilds(out.topic()) && seen;
                    // What only the leader has said to have may be lost with it, and nobody calls that a loss.
                    let leaders = !committed && upstream.ever.contains(&out) && !upstream.has_lost(&out);
                    let excused = upstream.has_lost(&out) && !told || leaders || upstream.dropped.contains(&out);
                    if !excused {
                        let standing = there.entry(class(&out)).or_default();
                        standing.due += 1;
                        standing.missing = Some((lane, ordinal, out));
                    }
                }
            }
        }
        for (class, standing) in &there {
            // What stands there of another writer, equal to what was to be ours and behind our end, was taken for it.
            let taken = upstream.mistakable.get(class).copied().unwrap_or_default();
            // So was one of ours that was in doubt and then gone from the ring or too old, for one that is alike: as many stood there as are told of.
            let short = standing.due.saturating_sub(standing.copies + taken + standing.in_gaps);
            ensure!(
                short == 0,
                "{name}: {short} of {standing:?} are not upstream any more, {taken} were taken for others'"
            );
        }
        let lives = self.announced.other_lives;
        ensure!(
            lives == 0 || model.any_tainted(),
            "{name}: another life of this ring was announced, and there is none"
        );
        let doubled = self.announced.duplicated;
        ensure!(
            doubled == 0 || upstream.overdue || self.announced.maybe >= doubled,
            "{name}: {doubled} outputs are announced as doubled, nothing landed after its grace period, and no search was given up"
        );
        // What landed after its grace period is nobody's fault.
        let extra: u64 = there.values().map(|s| s.timely.saturating_sub(s.due)).sum();
        let counted = self.announced.duplicated + self.announced.maybe;
        ensure!(
            extra <= counted,
            "{name}: {extra} outputs are upstream more than once, {counted} were announced: {:?}",
            there.iter().find(|(_, s)| s.timely > s.due)
        );
        if extra == 0 { self.in_order(ledger, upstream) } else { Ok(()) }
    }

    fn in_order(&self, ledger: &Ledger, upstream: &Upstream) -> Check {
        // Of records that are alike nobody can tell which stands where; and where markers do not survive, what was in doubt was
        // sent again behind what came after it, and its topic may have left the second ones out.
        let unordered = upstream.nature.alike > 0 || self.announced.maybe > 0;
        for (part, log) in upstream.logs().filter(|(part, _)| !(unordered && upstream.nature.rebuilds(part.0))) {
            let mut last: BTreeMap<(usize, u32), (u64, u8)> = BTreeMap::new();
            for out in log.batches.iter().filter(|b| !b.overdue).flat_map(|b| &b.outs) {
                let Some((lane, ordinal)) = ledger.places.get(&out.id).copied() else {
                    return Err(Violation(format!("{}: {part:?} holds {out:?}, which was not durable", self.name)));
                };
                let stream = self.lanes[lane].passed.get(&ordinal).map_or(0, |passed| passed.stream);
                let before = last.insert((lane, stream), (ordinal, out.n));
                ensure!(
                    before.is_none_or(|b| b < (ordinal, out.n)),
                    "{}: {part:?}: {out:?} (lane {lane} #{ordinal}, stream {stream}) stands behind {before:?}",
                    self.name
                );
            }
        }
        Ok(())
    }

    /// How many of each fate the sink counts: delivered, filtered, refused, evicted, expired, corrupt, lost, released.
    pub fn counts(&self) -> [u64; 8] {
        let mut sum = [0; 8];
        for lane in &self.lanes {
            sum.iter_mut().zip(lane.counts).for_each(|(s, n)| *s += n);
        }
        sum
    }
}
