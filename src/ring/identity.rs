//! Whose ring it is: boots, sessions, ring ids, and what happens when the directory has changed machines.

use super::format::{RootPage, SlotHeader};
use super::state::{Put, ring_owner};
use super::walk::Walker;
use super::*;
use crate::backoff::Rng;

/// The ring's entry with the ids under which its older slots stand.
const FORMER: &[u8] = b"f";
/// The ring's entry with the ids that records were given under before, oldest first, each with the first seq after them.
const MOVES: &[u8] = b"m";
/// Moves that are remembered.
const MAX_MOVES: usize = 8;
/// The ring's entry with the number of the newest boot and the kernel's name for it.
const BOOT: &[u8] = b"b";

/// Generations skipped after an unclean end, for each process since the one that began the newest slot.
const SKIP_GENERATIONS: u64 = 1 << 12;

impl Ring {
    fn new_id(&self, salt: u64) -> RingId {
        let mut rng = Rng::new(self.options.seed ^ salt.rotate_left(32));
        RingId(u128::from(rng.next_u64()) << 64 | u128::from(rng.next_u64()))
    }

    pub(super) fn begin_new(&mut self) {
        self.id = self.new_id(0);
        self.put_boot();
    }

    fn put_boot(&mut self) {
        let mut value = Vec::new();
        super::wire::append(&mut value, &(self.boot, self.options.boot_id));
        self.put_own(BOOT, Some(&value));
    }

    fn stored_boot(&self) -> Option<(u32, [u8; 16])> {
        self.state.newest(&ring_owner(), BOOT).and_then(|b| postcard::from_bytes(b).ok())
    }

    /// Boot and session numbers, and a new id if this is not the same machine. `ids`: of the slots that are here.
    /// `sessions`: in which they were begun. `moved`: what the headers say of the ids before.
    pub(super) fn adopt(
        &mut self,
        root: Option<RootPage>,
        ids: Vec<RingId>,
        moved: Vec<(RingId, u64)>,
        sessions: impl Iterator<Item = u32>,
        report: &mut Report,
    ) {
        debug_assert!(self.queue.is_empty(), "a frame under the numbers of the process before");
        self.believe_moves(moved, &ids);
        let stored = self.stored_boot();
        self.boot = self.boot.max(stored.map_or(0, |s| s.0));
        if stored.is_none_or(|(_, id)| id != self.options.boot_id) {
            self.boot += 1;
            self.put_boot();
        }
        self.writer.root_serial = root.map_or(0, |r| r.serial);
        // A number that was used before would be taken for a session that ended.
        let begun = sessions.fold(0, u32::max);
        let ended = self.sessions.ended.iter().map(|e| e.0);
        let used = ended.chain(root.map(|r| r.session)).fold(begun, u32::max);
        self.session = self.session.max(used) + 1;
        if !report.clean_shutdown {
            // Each process since may have opened slots of which nothing but frames behind an older header is left.
            self.slots.next_generation += SKIP_GENERATIONS * u64::from(self.session - begun);
        }
        if report.cloned {
            report.notes.push(format!(
                "this directory was written on another machine: the ring goes on under a new id; what it holds is sent \
                 under its old one, {:032x}, and may be sent by the other machine too",
                self.id.0
            ));
            self.take_new_id(ids);
        }
    }

    /// Headers may be all that was written of changes of machine.
    fn believe_moves(&mut self, moved: Vec<(RingId, u64)>, ids: &[RingId]) {
        let mut moves = self.former();
        let known = moves.len();
        for moved in moved {
            if !moves.contains(&moved) {
                moves.push(moved);
            }
        }
        if moves.len() > known {
            moves.sort_by_key(|(_, end)| *end);
            self.note_moves(moves, ids.iter().copied().filter(|id| *id != self.id).collect());
        }
    }

    /// From here on under another id, in slots of its own: a slot has one id, and frames of another in it are foreign.
    fn take_new_id(&mut self, former: Vec<RingId>) {
        let mut moves = self.former();
        moves.push((self.id, self.next_seq));
        self.id = self.new_id(self.id.0 as u64 ^ self.next_seq);
        self.note_moves(moves, former);
        self.lanes.iter_mut().for_each(|l| l.log.write_at = None);
        self.journal.write_at = None;
    }

    fn note_moves(&mut self, mut moves: Vec<(RingId, u64)>, mut former: Vec<RingId>) {
        moves.drain(..moves.len().saturating_sub(MAX_MOVES));
        former.sort_unstable();
        former.dedup();
        let mut value = Vec::new();
        super::wire::append(&mut value, &former);
        // Durable at once, so that the first slot under the new id names the old ones in its snapshot.
        self.state.restore(Put { owner: ring_owner(), key: FORMER.into(), value: Some(value.into()) });
        let mut value = Vec::new();
        super::wire::append(&mut value, &moves);
        self.state.restore(Put { owner: ring_owner(), key: MOVES.into(), value: Some(value.into()) });
    }

    /// The ids that records were given under before this machine's, oldest first, each with the first seq after them.
    pub fn former(&self) -> Vec<(RingId, u64)> {
        let moves = self.state.newest(&ring_owner(), MOVES);
        moves.and_then(|v| postcard::from_bytes(v).ok()).unwrap_or_default()
    }

    /// As `adopt`, for a ring that is only read: everything stays as it was found.
    pub(super) fn visit(&mut self) {
        self.boot = self.boot.max(self.stored_boot().map_or(0, |s| s.0));
        // No frame is of this process: what is known of the last one that wrote decides about its losses.
        self.session += 1;
    }

    pub(super) fn refresh_all(&mut self) {
        (0..self.lanes.len()).for_each(|lane| self.refresh_earliest(LaneId(lane as u8)));
    }
}

/// What the headers say of the ids before `own`: each names the one before its own. The newest first.
pub fn moves_in<'h>(
    own: RingId,
    headers: impl DoubleEndedIterator<Item = &'h SlotHeader> + Clone,
) -> Vec<(RingId, u64)> {
    let mut moves: Vec<(RingId, u64)> = Vec::new();
    while moves.len() < MAX_MOVES {
        let id = moves.last().map_or(own, |(id, _)| *id);
        let Some(moved) = headers.clone().rev().filter(|h| h.ring == id).find_map(|h| h.former) else { break };
        moves.push(moved);
    }
    moves
}

/// The ids under which slots of this ring may stand: its own and those before a change of machine, as the newest
/// readable snapshot under its own has them and as the headers name one another.
pub fn family(disk: &mut dyn Disk, reads: Reads<'_>, own: RingId, good: &[SlotHeader]) -> Vec<RingId> {
    let mut mine: Vec<_> = good.iter().filter(|h| h.ring == own).collect();
    mine.sort_unstable_by_key(|h| std::cmp::Reverse(h.generation));
    let snapshot = mine.iter().find_map(|h| Walker::new(disk, h.slot, reads).snapshot(h.ring, h.generation));
    let mut ids = vec![own];
    ids.extend(snapshot.map(|(_, puts)| former_in(puts)).unwrap_or_default());
    let mut at = 0;
    while let Some(id) = ids.get(at).copied() {
        for (former, _) in good.iter().filter(|h| h.ring == id).filter_map(|h| h.former) {
            if !ids.contains(&former) {
                ids.push(former);
            }
        }
        at += 1;
    }
    ids
}

/// The ids before a change of machine, as a snapshot has them.
pub fn former_in(snapshot: Vec<Put>) -> Vec<RingId> {
    let value = snapshot.into_iter().find(|p| *p.key == *FORMER).and_then(|p| p.value);
    value.and_then(|v| postcard::from_bytes(&v).ok()).unwrap_or_default()
}
