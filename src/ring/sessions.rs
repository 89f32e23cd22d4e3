//! What recoveries have given up: where each process that wrote this ring ended, and what a crash took.
//!
//! All of it rides as state entries of the ring, because what was found once must be found again: a record that was
//! announced as lost must not come back, and one that was never synced must not be called corrupt later.

use std::collections::{BTreeMap, BTreeSet};

use super::GapReason;
use super::core::{Ring, clock_key};
use super::format::{FrameHeader, FrameKind};
use super::state::{Put, ring_owner};
use super::wire;
use crate::lane::LaneId;

/// Ranges of lost ordinals that are kept; what is older is then announced as corrupt.
const MAX_LOST: usize = 512;
/// Unclean ends that are remembered, and torn commits: what is older is forgotten, although a slot may yet hold it.
const MAX_ENDED: usize = 512;
const MAX_TORN: usize = 512;
/// Boots of which the clock is remembered.
const MAX_CLOCKS: usize = 1024;

/// Lane and ordinals `[from, to)`.
type Range = (u8, u64, u64);

/// Where each process that wrote this ring ended: a frame beyond that was given up and is not read.
#[derive(Clone, Debug, Default)]
pub(super) struct Sessions {
    /// (session, its last valid commit, what is known to have been synced in it), sorted.
    pub ended: Vec<(u32, u64, u64)>,
    /// Commits that were torn by a crash, of which parts can be read: all or nothing of a commit is there.
    /// With the generation of the slot where each stands; 0: an older program did not say.
    pub torn: BTreeMap<u64, u64>,
    /// What a crash took before it was synced, without overlaps, in order of its finding.
    lost: Vec<Range>,
}

impl Sessions {
    /// Whether this commit may have been synced by the process that made it: where one ended uncleanly, no frame of it says
    /// so of a later commit.
    pub fn synced(&self, session: u32, commit: u64) -> bool {
        let at = self.ended.binary_search_by_key(&session, |e| e.0);
        at.is_err() || at.is_ok_and(|at| commit <= self.ended[at].2)
    }

    /// Whether recovery gave this frame up.
    pub fn dead(&self, session: u32, commit: u64) -> bool {
        let at = self.ended.binary_search_by_key(&session, |e| e.0);
        at.is_ok_and(|at| commit > self.ended[at].1) || self.torn.contains_key(&commit)
    }

    /// The same of a frame, and what a recovery called lost before it showed itself. A copy is of no process: what it
    /// holds was durable.
    pub fn dead_frame(&self, h: &FrameHeader) -> bool {
        let dead = h.kind != FrameKind::Copy && self.dead(h.session, h.commit);
        dead || h.records > 0 && self.lost_of(h.lane, h.first_ordinal(), h.end_ordinal()) > 0
    }

    fn of(&self, lane: LaneId) -> impl Iterator<Item = (u64, u64)> {
        self.lost.iter().filter(move |l| l.0 == lane.0).map(|l| (l.1, l.2))
    }

    /// Recovery found that these ordinals were never synced.
    pub fn note_lost(&mut self, lane: LaneId, from: u64, to: u64) {
        let mut from = from;
        while from < to {
            let (reason, end) = self.reason(lane, from, to);
            if reason == GapReason::Corrupt {
                self.lost.push((lane.0, from, end));
            }
            from = end;
        }
    }

    pub fn has_lost(&self) -> bool {
        !self.lost.is_empty()
    }

    /// How many of these ordinals are known to have been lost.
    pub fn lost_of(&self, lane: LaneId, from: u64, to: u64) -> u64 {
        self.of(lane).map(|(a, b)| b.min(to).saturating_sub(a.max(from))).sum()
    }

    /// Why a hole of a lane that begins at `from` is there, and how far that holds (not beyond `to`). Commit numbers
    /// cannot tell: between two frames of one lane there are commits of others.
    pub fn reason(&self, lane: LaneId, from: u64, to: u64) -> (GapReason, u64) {
        if let Some((_, end)) = self.of(lane).find(|(a, b)| *a <= from && from < *b) {
            return (GapReason::LostUnsynced, to.min(end));
        }
        let next = self.of(lane).map(|l| l.0).filter(|a| *a > from).min();
        (GapReason::Corrupt, next.map_or(to, |next| to.min(next)))
    }

    /// The lost ranges as they are stored; those that cannot be asked for any more are forgotten.
    pub fn encode_lost(&mut self, oldest: impl Fn(u8) -> u64) -> Vec<u8> {
        self.lost.retain(|(lane, _, to)| *to > oldest(*lane));
        let most = self.lost.len().saturating_sub(MAX_LOST);
        self.lost.drain(..most);
        let mut value = Vec::new();
        wire::append(&mut value, &self.lost);
        value
    }

    /// What an entry of the ring says of earlier recoveries.
    pub fn restore(&mut self, put: &Put) {
        if put.owner == ring_owner()
            && let Some(value) = put.value.as_deref()
            && let Some(b's' | b'u' | b'x') = put.key.first()
        {
            self.restore_entry(&put.key, value);
        }
    }

    pub fn restore_entry(&mut self, key: &[u8], value: &[u8]) {
        match *key {
            [b's', a, b, c, d] => {
                let session = u32::from_le_bytes([a, b, c, d]);
                if let Ok((last, through)) = postcard::from_bytes::<(u64, u64)>(value)
                    && self.ended.iter().all(|e| e.0 != session)
                {
                    self.ended.push((session, last, through));
                }
            }
            [b'u'] => {
                let lost: Vec<Range> = postcard::from_bytes(value).unwrap_or_default();
                lost.into_iter().for_each(|(lane, from, to)| self.note_lost(LaneId(lane), from, to));
            }
            [b'x', ref commit @ ..] => {
                if let Ok(commit) = commit.try_into() {
                    let generation = postcard::from_bytes(value).unwrap_or(0);
                    self.torn.insert(u64::from_le_bytes(commit), generation);
                }
            }
            _ => {}
        }
    }
}

pub(super) fn session_key(session: u32) -> [u8; 5] {
    let [a, b, c, d] = session.to_le_bytes();
    [b's', a, b, c, d]
}

pub(super) fn torn_key(commit: u64) -> [u8; 9] {
    let mut key = [b'x'; 9];
    key[1..].copy_from_slice(&commit.to_le_bytes());
    key
}

/// What the slots on the disk may still hold. Everything that a frame in them can ask for is kept.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// Not all could be looked at: whatever was known may be wanted.
    pub unknown: bool,
    /// First and last session that can have written to a slot, for each.
    pub sessions: Vec<(u32, u32)>,
    /// Boots likewise.
    pub boots: Vec<(u32, u32)>,
    pub generations: BTreeSet<u64>,
    /// The least commit that the oldest of them can hold.
    pub first_commit: u64,
}

impl Held {
    fn wants(&self, ranges: &[(u32, u32)], number: u32) -> bool {
        self.unknown || ranges.iter().any(|(from, to)| (*from..=*to).contains(&number))
    }
    fn wants_torn(&self, commit: u64, generation: u64) -> bool {
        let there = if generation == 0 { commit >= self.first_commit } else { self.generations.contains(&generation) };
        self.unknown || there
    }
}

impl Ring {
    /// Forgets what no slot can ask for any more, and the oldest of what is too much. Nothing of it is written: the
    /// next snapshot is without it, and whoever finds it again before that forgets it again.
    pub(super) fn forget(&mut self, held: &Held) {
        let newest = self.sessions.ended.last().map_or(0, |e| e.0);
        let ended = std::mem::take(&mut self.sessions.ended);
        let wanted = |e: &&(u32, u64, u64)| e.0 == newest || held.wants(&held.sessions, e.0);
        let keep = newest_of(ended.iter().filter(wanted).copied().collect(), MAX_ENDED);
        let of = |e: &(u32, u64, u64)| e.0;
        let gone = ended.iter().filter(|e| keep.binary_search_by_key(&e.0, of).is_err());
        gone.for_each(|e| self.forget_own(&session_key(e.0)));
        self.sessions.ended = keep;

        let torn = std::mem::take(&mut self.sessions.torn);
        let wanted = |t: &(&u64, &u64)| held.wants_torn(*t.0, *t.1);
        let keep = newest_of(torn.iter().filter(wanted).map(|(c, g)| (*c, *g)).collect(), MAX_TORN);
        self.sessions.torn = keep.into_iter().collect();
        for commit in torn.into_keys().filter(|c| !self.sessions.torn.contains_key(c)).collect::<Vec<_>>() {
            self.forget_own(&torn_key(commit));
        }

        let boot = |key: &[u8]| match *key {
            [b'c', a, b, c, d] => Some(u32::from_le_bytes([a, b, c, d])),
            _ => None,
        };
        let mut clocks: Vec<u32> = self.state.all(&ring_owner()).filter_map(|(key, _)| boot(key)).collect();
        clocks.sort_unstable();
        let wanted = |b: &&u32| **b >= self.boot || held.wants(&held.boots, **b);
        let keep = newest_of(clocks.iter().filter(wanted).copied().collect(), MAX_CLOCKS);
        for boot in clocks.into_iter().filter(|b| keep.binary_search(b).is_err()) {
            self.forget_own(&clock_key(boot));
        }
    }

    fn forget_own(&mut self, key: &[u8]) {
        self.state.restore(Put { owner: ring_owner(), key: key.into(), value: None });
    }
}

/// The last ones of a sorted list.
fn newest_of<T>(mut all: Vec<T>, most: usize) -> Vec<T> {
    all.drain(..all.len().saturating_sub(most));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hole_has_one_reason_at_a_time_and_what_was_lost_is_lost_once() {
        let mut sessions = Sessions::default();
        sessions.note_lost(LaneId(1), 10, 20);
        sessions.note_lost(LaneId(1), 15, 25);
        assert_eq!(sessions.lost_of(LaneId(1), 0, 100), 15);
        assert_eq!(sessions.reason(LaneId(1), 5, 30), (GapReason::Corrupt, 10));
        assert_eq!(sessions.reason(LaneId(1), 10, 30), (GapReason::LostUnsynced, 20));
        assert_eq!(sessions.reason(LaneId(1), 20, 23), (GapReason::LostUnsynced, 23));
        assert_eq!(sessions.reason(LaneId(0), 12, 30), (GapReason::Corrupt, 30));
        let stored = sessions.encode_lost(|_| 22);
        let mut again = Sessions::default();
        again.restore_entry(b"u", &stored);
        assert_eq!(again.lost_of(LaneId(1), 0, 100), 5);
    }
}
