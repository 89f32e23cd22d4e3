//! What a recovery found, as entries of the ring: true whether or not the frame that says so is ever seen again.

use std::collections::BTreeSet;

use super::core::Ring;
use super::journal::JOURNAL;
use super::sessions::{session_key, torn_key};
use super::state::{Put, ring_owner};
use crate::topic::TopicId;

/// The ring's entry that says that entries are lost.
const FORGOTTEN: &[u8] = b"d";

/// What a recovery found and decided, and the next one is to know.
pub(super) struct Findings {
    /// The end was clean.
    pub clean: bool,
    /// Where earlier processes ended, what they lost and tore: it may stand nowhere yet.
    pub untold: bool,
    /// Commits, from and to, whose state entries are lost although they were synced.
    pub forgotten: Vec<(u64, u64)>,
    /// Topics that were found in another lane than their entries say.
    pub moved: BTreeSet<TopicId>,
}

impl Ring {
    /// What is shown differently for it; gives back the topics of which offsets are skipped. All that a ring that is only
    /// read does with what was found.
    pub(super) fn heed(&mut self, clean: bool) -> Vec<TopicId> {
        let skipped = if clean { Vec::new() } else { self.topics.skip_reserved() };
        self.note_shown_before();
        self.refresh_all();
        skipped
    }

    /// Entries for the findings. Some of them seal a frame, so this process has its numbers by now.
    pub(super) fn tell(&mut self, found: Findings) {
        let skipped = self.heed(found.clean);
        self.keep_ids();
        self.note_forgotten(found.forgotten);
        if found.untold {
            self.put_found();
        }
        if found.clean && self.topics.is_ahead() {
            // Offsets may be shown before anything is written: with a frame of this process on the disk nobody takes the
            // clean end before it for its own.
            self.put_own(b"n", Some(&self.topics.next_id.to_le_bytes()));
        }
        // Where this process ends cleanly and writes nothing else of them, the next one knows it all the same. Lane by lane:
        // entries beside those of another lane seal a frame.
        let lane = |topic: &TopicId| self.topics.get(*topic).map(|topic| topic.lane);
        let mut topics: Vec<(TopicId, bool)> = skipped.into_iter().map(|topic| (topic, false)).collect();
        topics.extend(found.moved.into_iter().map(|topic| (topic, true)));
        topics.sort_by_key(|(topic, _)| lane(topic));
        for (topic, moved) in topics {
            if moved {
                self.store_moves(topic);
            }
            self.store_topic(topic);
        }
    }

    /// What an unclean end was found to have left.
    fn put_found(&mut self) {
        for (session, last, through) in self.sessions.ended.clone() {
            let mut value = Vec::new();
            super::wire::append(&mut value, &(last, through));
            if self.state.newest(&ring_owner(), &session_key(session)) != Some(&value) {
                self.put_fact(&session_key(session), &value);
            }
        }
        for (commit, generation) in self.sessions.torn.clone() {
            let mut value = Vec::new();
            super::wire::append(&mut value, &generation);
            if self.state.newest(&ring_owner(), &torn_key(commit)) != Some(&value) {
                self.put_fact(&torn_key(commit), &value);
            }
        }
        if self.sessions.has_lost() {
            let lanes = &self.lanes;
            let lost = self.sessions.encode_lost(|lane| lanes.get(lane as usize).map_or(0, |l| l.oldest.ordinal));
            self.put_fact(b"u", &lost);
        }
    }

    /// State entries are lost: what was sent until now was perhaps sent in ways that none tells any more. A loss that is
    /// found at one start after the other is told once.
    fn note_forgotten(&mut self, found: Vec<(u64, u64)>) {
        let (_, known) = self.forgotten();
        if found.iter().any(|range| !known.contains(range)) {
            let mut value = Vec::new();
            super::wire::append(&mut value, &(self.next_seq, found));
            self.put_fact(FORGOTTEN, &value);
        }
    }

    fn forgotten(&self) -> (u64, Vec<(u64, u64)>) {
        let value = self.state.newest(&ring_owner(), FORGOTTEN);
        value.and_then(|v| postcard::from_bytes(v).ok()).unwrap_or_default()
    }

    /// Records below this seq were perhaps sent although no state entry says so: some were lost to damage.
    pub fn forgotten_below(&self) -> u64 {
        self.forgotten().0
    }

    /// A log that must not go on in the slot where it stands: a frame for the next one, unless there is one already. It
    /// is in the queue before all that is yet to be appended, so nothing of the log is acknowledged without it.
    pub(super) fn begin_slot(&mut self, log: usize) {
        if self.queue.iter().all(|sealed| super::journal::log_of(&sealed.header) != log) {
            self.to_lanes = log != JOURNAL;
            self.beside = if log == JOURNAL { self.beside } else { log };
            self.put_own(b"n", Some(&self.topics.next_id.to_le_bytes()));
            self.seal_all();
        }
    }

    /// That an id is taken may be known from records alone, where the entry of their topic is lost. The next snapshot
    /// says it too: whoever begins there does not see the records.
    fn keep_ids(&mut self) {
        let next = self.topics.next_id.to_le_bytes();
        if self.topics.next_id > 0 && self.state.newest(&ring_owner(), b"n") != Some(&next) {
            self.put_fact(b"n", &next);
        }
    }

    /// What recovery found to be so. It is true whether or not it is written: the next snapshot has it even if the
    /// frame that carries it is never seen again.
    fn put_fact(&mut self, key: &[u8], value: &[u8]) {
        self.state.restore(Put { owner: ring_owner(), key: key.into(), value: Some(value.into()) });
        self.put_own(key, Some(value));
    }
}
