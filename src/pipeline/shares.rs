//! How a sink's account in one lane divides among topics, and where the sink stands in each partition at its cursor.
//!
//! A record that is evicted is gone with its frame's directory, so nobody can look up afterwards of which topic it was. But
//! offsets are dense: whoever knows the next offset of every partition at the beginning and at the end of a gap knows what
//! lay between. The beginning is here, kept along as records are passed; the end is what the oldest slot left says.
//!
//! Both may be wrong now and then: recovery gives offsets away where it cannot tell whose records are missing, a topic that
//! was removed is not listed any more, a full ring refuses an entry. So a division counts only where it explains the
//! gap to the last record; else all of the gap is of no topic. (One that does so by chance, after records were lost of which
//! nobody knew whose they were, may tell as many of them again under another topic or loss.) What no topic explains is not stored: it is what the lane's
//! account has more, and so the sums are right whatever is lost here.
//!
//! A topic that moves to another lane is away from this one: its offsets from there on are no records of this lane until it
//! comes back. One that is not there at the end of a gap was there before, or comes later: only where one answer explains the
//! gap it counts. A partition that is not known here has no records below the cursor: its next offset is 0.
//!
//! Each stream has shares of its own, because it stands somewhere of its own; what it counted goes to the stream that absorbs
//! it. Where a stream begins the one before it ends: so the offsets are kept that its partitions had there.
//!
//! Stored: one state entry per topic and stream, `p` + lane + topic number (+ stream number, four bytes, unless it is 0) ->
//! postcard of [`Share`] and of the offsets at which the stream began, written with the cursor where it changed: about 20
//! bytes, so that 256 topics take a tenth of what a sink may store.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::lane::LaneId;
use crate::limits::MAX_PARTITIONS;
use crate::ring::{GapReason, Move, TopicInfo};
use crate::topic::{TopicId, TopicPart};

/// Sums that are looked at where it is asked which of the topics that moved had a part in a gap.
const MAX_WAYS: usize = 1024;

/// What became of ring records: the right side of promise 2, without what is pending.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    pub delivered: u64,
    pub filtered: u64,
    pub refused: u64,
    pub evicted: u64,
    pub expired: u64,
    pub corrupt: u64,
    pub lost_unsynced: u64,
    pub released: u64,
}

impl Counts {
    /// In the order of promise 2, with the names that status and metrics have for them.
    pub fn named(&self) -> [(&'static str, u64); 8] {
        [
            ("delivered", self.delivered),
            ("filtered", self.filtered),
            ("refused", self.refused),
            ("evicted", self.evicted),
            ("expired", self.expired),
            ("corrupt", self.corrupt),
            ("lost_unsynced", self.lost_unsynced),
            ("released", self.released),
        ]
    }

    pub fn total(&self) -> u64 {
        self.named().iter().map(|(_, n)| n).sum()
    }

    fn both(self, other: Self, op: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            delivered: op(self.delivered, other.delivered),
            filtered: op(self.filtered, other.filtered),
            refused: op(self.refused, other.refused),
            evicted: op(self.evicted, other.evicted),
            expired: op(self.expired, other.expired),
            corrupt: op(self.corrupt, other.corrupt),
            lost_unsynced: op(self.lost_unsynced, other.lost_unsynced),
            released: op(self.released, other.released),
        }
    }

    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        self.both(other, u64::saturating_add)
    }

    /// What `self` has more, count by count.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        self.both(other, u64::saturating_sub)
    }

    /// Whether none of the counts is higher than the other's.
    pub fn fits(self, other: Self) -> bool {
        self.minus(other) == Self::default()
    }

    pub fn of_gap(&mut self, reason: GapReason) -> &mut u64 {
        match reason {
            GapReason::Evicted => &mut self.evicted,
            GapReason::Expired => &mut self.expired,
            GapReason::Corrupt => &mut self.corrupt,
            GapReason::LostUnsynced => &mut self.lost_unsynced,
            GapReason::Passed => &mut self.delivered,
        }
    }
}

/// Offsets of one partition: `[from, to)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    pub part: TopicPart,
    pub from: u64,
    pub to: u64,
}

/// Where a sink stands in one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Seat {
    /// The next offset at the cursor.
    next: u64,
    /// Offsets at or above `next` that are in another lane, in order; [`u64::MAX`]: the topic is away still.
    away: Vec<(u64, u64)>,
}

impl Seat {
    fn passed(&mut self, next: u64) {
        self.next = self.next.max(next);
        self.away.retain(|(_, back)| *back > self.next);
    }

    /// All moves that are known and not behind the cursor, in their order: at which offset, and whether it comes here. They
    /// may be told again; what is behind them stays.
    fn moved(&mut self, moves: &[(u64, bool)]) {
        let Some((first, comes)) = moves.first().copied() else { return };
        self.away.retain(|(until, _)| if comes { *until <= first } else { *until < first });
        if let Some((_, back)) = self.away.last_mut().filter(|(_, back)| *back >= first) {
            *back = u64::MAX;
        }
        for (offset, comes) in moves.iter().copied() {
            match self.away.last_mut() {
                Some((_, back)) if comes && *back == u64::MAX => *back = offset,
                // It never was away: nothing of it is here before.
                _ if comes => self.next = self.next.max(offset),
                // It only came by.
                Some((_, back)) if *back >= offset => *back = u64::MAX,
                _ if offset >= self.next => self.away.push((offset, u64::MAX)),
                _ => {}
            }
        }
        self.passed(self.next);
    }

    /// The offsets in this lane from the cursor to `end`.
    fn pieces(&self, end: u64) -> impl Iterator<Item = (u64, u64)> {
        let stays = self.away.iter().map(|(until, _)| *until).chain([u64::MAX]);
        let begins = [self.next].into_iter().chain(self.away.iter().map(|(_, back)| *back));
        let next = self.next;
        let clip = move |(from, to): (u64, u64)| (from.max(next), to.min(end));
        begins.zip(stays).map(clip).filter(|(from, to)| from < to)
    }
}

/// One topic's part of the account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    pub counts: Counts,
    /// By partition.
    seats: Vec<Seat>,
    /// By partition, the next offset where the stream begins that was split off.
    #[serde(skip)]
    began: Vec<u64>,
    #[serde(skip)]
    dirty: bool,
}

impl Share {
    fn seat(&mut self, partition: u8) -> &mut Seat {
        let at = usize::from(partition).min(MAX_PARTITIONS - 1);
        if self.seats.len() <= at {
            self.seats.resize_with(at + 1, Seat::default);
        }
        self.dirty = true;
        &mut self.seats[at]
    }
}

/// All topics' parts of one account.
#[derive(Clone, Debug, Default)]
pub struct Shares(BTreeMap<TopicId, Share>);

impl Shares {
    /// Of a sink that begins at the end of `lane`: nothing that is there now is ahead of it.
    pub fn begin(&mut self, lane: LaneId, topic: &TopicInfo, moves: &[Move]) {
        let left = moves.iter().rev().find(|of| of.from == lane && topic.lane != lane);
        let left = left.into_iter().flat_map(|of| of.offsets.iter().copied());
        let here = topic.partitions.iter().filter(|_| topic.lane == lane).map(|info| info.next);
        for (partition, next) in left.enumerate().chain(here.enumerate()) {
            self.passed(TopicPart { topic: topic.id, partition: partition as u8 }, next);
        }
    }

    pub fn restore(&mut self, topic: TopicId, stored: &[u8]) {
        let Ok((mut share, rest)) = postcard::take_from_bytes::<Share>(stored) else { return };
        // An earlier version had no streams.
        share.began = postcard::from_bytes(rest).unwrap_or_default();
        if share.seats.len().max(share.began.len()) <= MAX_PARTITIONS {
            self.0.insert(topic, share);
        }
    }

    /// Of a stream that begins behind everything that is ahead of this one, where `ends` has the next offset of every
    /// partition of the lane.
    pub fn fork(&self, ends: &[(TopicPart, u64)]) -> Self {
        let bare = |(id, share): (&TopicId, &Share)| {
            (*id, Share { seats: share.seats.clone(), dirty: true, ..Share::default() })
        };
        let mut new = Self(self.0.iter().map(bare).collect());
        new.passed_gap(ends);
        for (part, end) in ends {
            let began = &mut new.0.entry(part.topic).or_default().began;
            let at = usize::from(part.partition).min(MAX_PARTITIONS - 1);
            began.resize(began.len().max(at + 1), 0);
            began[at] = *end;
        }
        new
    }

    /// The next offsets of the partitions where the stream begins.
    pub fn began(&self) -> Vec<(TopicPart, u64)> {
        let of = |(topic, share): (&TopicId, &Share)| {
            let topic = *topic;
            let part = move |at: usize| TopicPart { topic, partition: at as u8 };
            share.began.clone().into_iter().enumerate().map(move |(at, next)| (part(at), next))
        };
        self.0.iter().flat_map(of).filter(|(_, next)| *next > 0).collect()
    }

    /// This stream absorbs the one before it: it begins where that one began, and counts what it counted.
    pub fn take_over(&mut self, old: &Self) {
        for (topic, share) in &mut self.0 {
            share.dirty |= !share.began.is_empty();
            share.began = old.0.get(topic).map(|old| old.began.clone()).unwrap_or_default();
        }
        for (topic, share) in old.0.iter().filter(|(_, share)| share.counts != Counts::default()) {
            self.count(*topic, share.counts);
        }
    }

    /// What changed since it was last asked, encoded.
    pub fn take_dirty(&mut self) -> impl Iterator<Item = (TopicId, Vec<u8>)> {
        let dirty = self.0.iter_mut().filter_map(|(id, share)| std::mem::take(&mut share.dirty).then_some((id, share)));
        // Numbers and lists of them always encode.
        dirty.map(|(id, share)| (*id, postcard::to_allocvec(&(&*share, &share.began)).unwrap_or_default()))
    }

    /// What those will take at most that changed since.
    pub fn dirty_bytes(&self) -> usize {
        // Numbers have at most ten bytes, and every seat one more for how often it is away.
        let seats = |share: &Share| share.seats.iter().map(|seat| 11 + 20 * seat.away.len()).sum::<usize>();
        let bytes = |share: &Share| seats(share) + 10 * share.began.len() + 160;
        self.0.values().filter(|share| share.dirty).map(bytes).sum()
    }

    /// The topic is gone: what it had is of no topic now.
    pub fn forget(&mut self, topic: TopicId) -> bool {
        self.0.remove(&topic).is_some()
    }

    pub fn topics(&self) -> impl Iterator<Item = (TopicId, &Share)> {
        self.0.iter().map(|(id, share)| (*id, share))
    }

    pub fn sum(&self) -> Counts {
        self.0.values().fold(Counts::default(), |sum, share| sum.plus(share.counts))
    }

    /// Records of a partition below the offset `next` are behind the cursor.
    pub fn passed(&mut self, part: TopicPart, next: u64) {
        let known = self.0.get(&part.topic).and_then(|share| share.seats.get(usize::from(part.partition)));
        if known.map_or(0, |seat| seat.next) < next {
            self.0.entry(part.topic).or_default().seat(part.partition).passed(next);
        }
    }

    pub fn count(&mut self, topic: TopicId, more: Counts) {
        let share = self.0.entry(topic).or_default();
        share.counts = share.counts.plus(more);
        share.dirty = true;
    }

    /// What `count` records behind the cursor are, where `ends` has the next offset of every partition of the lane behind
    /// them. None: the numbers do not agree, or agree in several ways.
    pub fn divide(&self, ends: &[(TopicPart, u64)], count: u64) -> Option<Vec<Piece>> {
        let none = Seat::default();
        let mut pieces = Vec::new();
        let mut left = count;
        for (part, end) in ends.iter().copied() {
            let known = self.0.get(&part.topic).and_then(|share| share.seats.get(usize::from(part.partition)));
            for (from, to) in known.unwrap_or(&none).pieces(end) {
                left = left.checked_sub(to - from)?;
                pieces.push(Piece { part, from, to });
            }
        }
        if left > 0 {
            for (part, end) in self.visitors(ends, left)? {
                let seat = self.0.get(&part.topic)?.seats.get(usize::from(part.partition))?;
                pieces.extend(seat.pieces(end).map(|(from, to)| Piece { part, from, to }));
            }
        }
        Some(pieces)
    }

    /// Of whom `count` records were that are not the partitions' in `ends`, and up to which offset: of those that had left by
    /// then, once or several times. Those that came later had none. None unless there is one answer.
    fn visitors(&self, ends: &[(TopicPart, u64)], count: u64) -> Option<Vec<(TopicPart, u64)>> {
        // How many ways there are to have so many records, up to two, and the first of them.
        let mut ways: BTreeMap<u64, (u8, Vec<(TopicPart, u64)>)> = BTreeMap::from([(0, (1, Vec::new()))]);
        for (part, seat) in self.seats().filter(|(part, _)| ends.iter().all(|(known, _)| known != part)) {
            let stay = |until: u64| (seat.pieces(until).map(|(from, to)| to - from).sum::<u64>(), until);
            let mut stays: Vec<(u64, u64)> = seat.away.iter().map(|(until, _)| stay(*until)).collect();
            stays.retain(|(had, _)| *had > 0);
            stays.dedup_by_key(|(had, _)| *had);
            for (sum, (n, who)) in ways.clone() {
                for (had, until) in stays.iter().filter(|(had, _)| sum + had <= count) {
                    let way = ways.entry(sum + had).or_insert_with(|| (0, [&who[..], &[(part, *until)]].concat()));
                    way.0 = way.0.saturating_add(n).min(2);
                }
            }
            if ways.len() > MAX_WAYS {
                return None;
            }
        }
        ways.remove(&count).filter(|(n, _)| *n == 1).map(|(_, who)| who)
    }

    fn seats(&self) -> impl Iterator<Item = (TopicPart, &Seat)> {
        self.0.iter().flat_map(|(topic, share)| {
            let part = |at: usize| TopicPart { topic: *topic, partition: at as u8 };
            share.seats.iter().enumerate().map(move |(at, seat)| (part(at), seat))
        })
    }

    /// The cursor passed a gap behind which the next offsets are these: what is not among them had left before.
    pub fn passed_gap(&mut self, ends: &[(TopicPart, u64)]) {
        let away: Vec<_> = self.away().filter(|(part, _)| ends.iter().all(|(known, _)| known != part)).collect();
        ends.iter().copied().chain(away).for_each(|(part, end)| self.passed(part, end));
    }

    /// Partitions that left the lane, and at which offset.
    fn away(&self) -> impl Iterator<Item = (TopicPart, u64)> {
        self.seats().filter_map(|(part, seat)| {
            let (until, _) = seat.away.last().filter(|(_, back)| *back == u64::MAX)?;
            Some((part, *until))
        })
    }

    /// The moves of a topic that are known, in their order, by a sink that stands at the ordinal `at` of this lane.
    pub fn moved(&mut self, topic: TopicId, lane: LaneId, at: u64, moves: &[Move]) {
        let ahead = |of: &&Move| of.from == lane && at <= of.end || of.to == lane && at <= of.start;
        let ahead: Vec<&Move> = moves.iter().filter(ahead).collect();
        for partition in 0..ahead.first().map_or(0, |of| of.offsets.len()) {
            let offset = |of: &&Move| Some((*of.offsets.get(partition)?, of.to == lane));
            let told: Vec<_> = ahead.iter().filter_map(offset).filter(|(offset, _)| *offset > 0).collect();
            let known = self.0.get(&topic).and_then(|share| share.seats.get(partition)).cloned().unwrap_or_default();
            let mut seat = known.clone();
            seat.moved(&told);
            if seat != known {
                *self.0.entry(topic).or_default().seat(partition as u8) = seat;
            }
        }
    }
}

/// The state key of a topic's share in one stream.
pub fn key(lane: LaneId, stream: u32, topic: TopicId) -> Vec<u8> {
    let [a, b] = topic.0.to_le_bytes();
    let mut key = vec![b'p', lane.0, a, b];
    if stream > 0 {
        key.extend_from_slice(&stream.to_le_bytes());
    }
    key
}

/// Stream and topic of a state key.
pub fn of_key(lane: LaneId, key: &[u8]) -> Option<(u32, TopicId)> {
    match key {
        [b'p', l, a, b, stream @ ..] if *l == lane.0 => {
            let stream = if stream.is_empty() { 0 } else { u32::from_le_bytes(stream.try_into().ok()?) };
            Some((stream, TopicId(u16::from_le_bytes([*a, *b]))))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn part(topic: u16, partition: u8) -> TopicPart {
        TopicPart { topic: TopicId(topic), partition }
    }

    /// Three topics with two partitions each, in two lanes, as a ring gives offsets.
    #[derive(Clone, Default)]
    struct Ring {
        /// Per lane, what stands there.
        lanes: [Vec<(TopicPart, u64)>; 2],
        lane_of: [u8; 3],
        next: [[u64; 2]; 3],
        moves: Vec<(TopicId, Move)>,
    }

    impl Ring {
        fn append(&mut self, topic: usize, partition: usize) {
            let offset = self.next[topic][partition];
            self.next[topic][partition] += 1;
            self.lanes[usize::from(self.lane_of[topic])].push((part(topic as u16, partition as u8), offset));
        }

        fn move_topic(&mut self, topic: usize) {
            let from = self.lane_of[topic];
            let to = 1 - from;
            let ends = [0, 1].map(|lane: usize| self.lanes[lane].len() as u64);
            let offsets = self.next[topic].to_vec();
            let (end, start) = (ends[usize::from(from)], ends[usize::from(to)]);
            let of = Move { from: LaneId(from), end, to: LaneId(to), start, offsets };
            self.moves.push((TopicId(topic as u16), of));
            self.lane_of[topic] = to;
        }

        /// What a slot of the lane that is begun now says.
        fn ends(&self, lane: usize) -> Vec<(TopicPart, u64)> {
            let here = (0..3usize).filter(|topic| usize::from(self.lane_of[*topic]) == lane);
            here.flat_map(|t| [0, 1].map(|p: usize| (part(t as u16, p as u8), self.next[t][p]))).collect()
        }
    }

    proptest! {
        #[test]
        fn whatever_lies_between_two_places_of_a_lane_is_told_topic_by_topic(
            steps in proptest::collection::vec((0..3usize, 0..2usize, 0..12u8), 0..200),
            passed in 0..100usize,
            lane in 0..2usize,
        ) {
            let mut ring = Ring::default();
            for (topic, partition, what) in steps {
                if what == 0 { ring.move_topic(topic) } else { ring.append(topic, partition) }
            }
            // The sink has passed some records of the lane one by one, and knows of the moves that are ahead.
            let passed = passed.min(ring.lanes[lane].len());
            let mut shares = Shares::default();
            let told = |shares: &mut Shares, at: usize| {
                for topic in (0..3).map(TopicId) {
                    let moves: Vec<_> = ring.moves.iter().filter(|(id, _)| *id == topic).map(|(_, of)| of.clone()).collect();
                    shares.moved(topic, LaneId(lane as u8), at as u64, &moves);
                }
            };
            told(&mut shares, 0);
            for (at, (part, offset)) in ring.lanes[lane][..passed].iter().enumerate() {
                shares.passed(*part, offset + 1);
                told(&mut shares, at + 1);
            }
            let gone = &ring.lanes[lane][passed..];
            let pieces = shares.divide(&ring.ends(lane), gone.len() as u64);
            prop_assert!(pieces.is_some());
            let mut mine: Vec<_> = pieces.into_iter().flatten().flat_map(|p| (p.from..p.to).map(move |o| (p.part, o))).collect();
            let mut theirs = gone.to_vec();
            mine.sort_unstable();
            theirs.sort_unstable();
            prop_assert_eq!(mine, theirs);
        }

        #[test]
        fn a_share_survives_its_encoding(offsets in proptest::collection::vec(0..1u64 << 60, 1..16), delivered: u64) {
            let mut shares = Shares::default();
            for (at, offset) in offsets.iter().enumerate() {
                shares.passed(part(7, at as u8), *offset);
            }
            shares.count(TopicId(7), Counts { delivered, ..Counts::default() });
            let stored: Vec<_> = shares.take_dirty().collect();
            prop_assert_eq!(stored.len(), 1);
            prop_assert_eq!(shares.dirty_bytes(), 0);
            let mut again = Shares::default();
            again.restore(stored[0].0, &stored[0].1);
            prop_assert_eq!(&again.0, &shares.0);
        }
    }

    #[test]
    fn a_division_that_does_not_explain_every_record_is_none() {
        let mut shares = Shares::default();
        shares.passed(part(1, 0), 10);
        assert_eq!(shares.divide(&[(part(1, 0), 15)], 5).map(|p| p.len()), Some(1));
        assert_eq!(shares.divide(&[(part(1, 0), 15)], 4), None, "offsets were skipped");
        assert_eq!(shares.divide(&[(part(1, 0), 15)], 6), None, "a topic is missing");
    }

    #[test]
    fn entries_of_a_sink_stay_far_below_what_it_may_store() {
        let mut share = Share::default();
        share.seat(0).next = 1 << 40;
        share.counts = Counts { delivered: 1 << 40, filtered: 1 << 20, evicted: 1 << 20, ..Counts::default() };
        let bytes = postcard::to_allocvec(&share).unwrap().len() + key(LaneId(0), 0, TopicId(0)).len();
        assert!(bytes * crate::limits::MAX_TOPICS <= crate::limits::MAX_STATE_OWNER_BYTES / 4, "{bytes} bytes each");
    }

    #[test]
    fn of_topics_that_came_and_went_one_has_a_part_in_a_gap_only_where_nothing_else_explains_it() {
        let mut shares = Shares::default();
        // One was here up to offset 15 and came back at 117; another is here between 149 and 164, and a third for 4.
        shares.0.entry(TopicId(4)).or_default().seat(0).away = vec![(15, 117)];
        shares.0.entry(TopicId(0)).or_default().seat(0).away = vec![(0, 149), (164, u64::MAX)];
        shares.0.entry(TopicId(7)).or_default().seat(0).away = vec![(4, u64::MAX)];
        let divided = |count| shares.divide(&[(part(1, 0), 8)], count);
        assert_eq!(divided(8 + 15), None, "either had fifteen");
        let piece = |topic, from, to| Piece { part: part(topic, 0), from, to };
        assert_eq!(divided(8), Some(vec![piece(1, 0, 8)]));
        assert_eq!(divided(8 + 4), Some(vec![piece(1, 0, 8), piece(7, 0, 4)]));
        assert_eq!(divided(8 + 30), Some(vec![piece(1, 0, 8), piece(0, 149, 164), piece(4, 0, 15)]));
        assert_eq!((divided(8 + 19), divided(8 + 5)), (None, None));
    }
}
