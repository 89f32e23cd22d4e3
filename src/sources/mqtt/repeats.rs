//! Which messages the broker sends for the second time.
//!
//! MQTT promises at least once: after a broken connection the broker sends again, under the same packet id and marked
//! DUP, whatever it has no acknowledgement for. The node remembers the packet id and a hash of each message in a state
//! entry that is durable together with the record, and drops what it can *prove* to be a repeat:
//!
//! - **QoS 1, our PUBACK never written** on the connection that brought it: the broker cannot have given the packet
//!   id to another message. Certain.
//! - **QoS 1, PUBACK written, or the node restarted since**: the broker may have heard it, given the id to a new
//!   message with the same bytes ("on", "on", ...) and lost the connection before that arrived. A broker that counts
//!   its ids upward (Mosquitto) comes back to one only after 65,535 messages, so there the repeat is certain; one
//!   that takes the lowest free id is not believed, and the message is kept and counted `redelivered`. Which of the
//!   two it is, is observed: ids that only ever grew, further than any window, or that went on growing from moments in
//!   which every id was free (a ping, sent after all was answered, came back).
//! - **QoS 2**: the id stays taken until PUBREL, and our PUBCOMP goes out only when its removal here is durable.
//!   Certain, exactly once.
//!
//! So a message is lost here only if the ring loses it, and a repeat stays in only where nothing can tell. What the
//! broker surely heard (a PINGRESP to a ping sent after the PUBACK) and what is older than two windows is forgotten,
//! which can only err towards keeping. A session that the broker does not know any more makes all of it void.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_64;

use crate::ring::Ticket;

/// Messages remembered, whatever the window: all of them together fit a state entry.
const MAX_REMEMBERED: usize = 4096;
/// Messages remembered at least.
const MIN_REMEMBERED: usize = 32;
/// Steps in which ids may be skipped and still be counted upward (other packets take ids too).
const MAX_SKIP: u16 = 4096;
/// Times that a new highest id must have come when all were free, to believe that ids are counted.
const BELIEVED_AFTER: u8 = 2;

/// What a message is recognised by beside its packet id.
pub fn fingerprint(topic: &str, payload: &[u8]) -> u64 {
    let mut bytes = Vec::with_capacity(topic.len() + 1 + payload.len());
    bytes.extend_from_slice(topic.as_bytes());
    bytes.push(0); // no topic has it
    bytes.extend_from_slice(payload);
    XxHash3_64::oneshot(&bytes)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Taken; its PUBACK has not been written.
    Held,
    /// Its PUBACK may have reached the broker.
    Answered,
    /// As `Answered`, and a ping went out after it.
    Pinged,
    /// QoS 2, PUBREL not seen.
    Exactly,
}

#[derive(Clone, Copy, Debug)]
struct Taken {
    id: u16,
    hash: u64,
    stage: Stage,
    connection: u64,
    ticket: Ticket,
}

/// What to do with a message of QoS 1 or 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    New,
    /// Perhaps a repeat: take it, and say so.
    Redelivered,
    /// A repeat: drop it, answer when the ticket is settled.
    Repeat(Ticket),
    /// A repeat whose answer is already on its way over this connection: drop it, say nothing.
    Silent,
}

#[derive(Debug)]
pub struct Repeats {
    taken: VecDeque<Taken>,
    remembered: usize,
    ids: Ids,
    connection: u64,
    session: bool,
    window: u16,
    /// No id is taken, as the broker sees it.
    all_free: bool,
    /// A ping is under way that was sent when everything was answered, and nothing was taken since.
    asked: bool,
}

/// How the broker gives out packet ids.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Ids {
    last: Option<u16>,
    /// How far they have grown without ever stepping back.
    grown: u32,
    highest: u16,
    /// How often a new highest one came when all were free, without ever a step back.
    grown_from_free: u8,
    /// Whether they ever stepped back.
    reused: bool,
    /// The most messages that were ever unanswered at once.
    widest: u32,
}

/// What is stored: everything that is needed to recognise a repeat after a restart.
#[derive(Serialize, Deserialize)]
struct Stored {
    ids: Ids,
    /// Packet id, hash, whether QoS 2.
    taken: Vec<(u16, u64, bool)>,
}

impl Repeats {
    pub fn new(window: u16) -> Self {
        let remembered = (usize::from(window) * 2).clamp(MIN_REMEMBERED, MAX_REMEMBERED);
        let ids = Ids::default();
        let taken = VecDeque::new();
        Self { taken, remembered, ids, connection: 0, session: false, window, all_free: false, asked: false }
    }

    /// As it was stored; nothing is remembered if the bytes are not ours.
    pub fn restore(window: u16, stored: &[u8]) -> Self {
        let mut repeats = Self::new(window);
        if let Ok(stored) = postcard::from_bytes::<Stored>(stored) {
            repeats.ids = stored.ids;
            for (id, hash, exactly) in stored.taken.into_iter().take(MAX_REMEMBERED) {
                let stage = if exactly { Stage::Exactly } else { Stage::Answered };
                // What was stored is durable.
                repeats.taken.push_back(Taken { id, hash, stage, connection: 0, ticket: Ticket(0) });
            }
        }
        repeats
    }

    /// The bytes of the state entry. None when there is nothing to remember.
    pub fn store(&self) -> Option<Vec<u8>> {
        if self.taken.is_empty() && self.ids.last.is_none() {
            return None;
        }
        let taken = self.taken.iter().map(|t| (t.id, t.hash, t.stage == Stage::Exactly)).collect();
        postcard::to_allocvec(&Stored { ids: self.ids, taken }).ok()
    }

    /// A connection was made. Without a session at the broker, everything remembered is void.
    pub fn connected(&mut self, session_present: bool) {
        self.connection += 1;
        self.session = session_present;
        (self.all_free, self.asked) = (false, false);
        if !session_present {
            self.taken.clear();
            self.ids = Ids::default();
        }
        for taken in &mut self.taken {
            if taken.stage == Stage::Pinged {
                taken.stage = Stage::Answered;
            }
        }
    }

    /// Judges a message of QoS 1 or 2. After `New` or `Redelivered`, [`Self::took`] must follow.
    pub fn judge(&mut self, id: u16, dup: bool, exactly: bool, hash: u64) -> Verdict {
        if !dup {
            self.ids.given(id, self.all_free);
        }
        (self.all_free, self.asked) = (false, false);
        let counted = self.ids.counted(self.window);
        let Some(at) = self.taken.iter().position(|t| t.id == id && t.hash == hash) else {
            return if dup { Verdict::Redelivered } else { Verdict::New };
        };
        let known = self.taken[at];
        let again = if exactly { known.stage == Stage::Exactly } else { dup && known.stage != Stage::Exactly };
        if !again || !self.session {
            return if dup { Verdict::Redelivered } else { Verdict::New };
        }
        if known.connection == self.connection {
            // On one connection the first sending of a new message would have come before this, without DUP.
            return Verdict::Silent;
        }
        if !(exactly || known.stage == Stage::Held || counted) {
            return Verdict::Redelivered;
        }
        // It counts as the newest again, so that it is not the next to be forgotten.
        self.taken.remove(at);
        let stage = if exactly { Stage::Exactly } else { Stage::Held };
        self.taken.push_back(Taken { stage, connection: self.connection, ..known });
        Verdict::Repeat(known.ticket)
    }

    /// A message was taken; `ticket` settles when it and this memory are durable.
    pub fn took(&mut self, id: u16, exactly: bool, hash: u64) {
        self.taken.retain(|t| t.id != id);
        let stage = if exactly { Stage::Exactly } else { Stage::Held };
        self.taken.push_back(Taken { id, hash, stage, connection: self.connection, ticket: Ticket(u64::MAX) });
        let waiting = self.taken.iter().filter(|t| matches!(t.stage, Stage::Held | Stage::Exactly)).count();
        self.ids.widest = self.ids.widest.max(waiting as u32);
        while self.taken.len() > self.remembered.max(waiting.min(MAX_REMEMBERED)) {
            let forget = self.taken.iter().position(|t| matches!(t.stage, Stage::Answered | Stage::Pinged));
            self.taken.remove(forget.unwrap_or(0));
        }
    }

    /// Everything taken since the last call is settled with `ticket`.
    pub fn stored(&mut self, ticket: Ticket) {
        for taken in self.taken.iter_mut().filter(|t| t.ticket == Ticket(u64::MAX)) {
            taken.ticket = ticket;
        }
    }

    /// Our PUBACK was written.
    pub fn answered(&mut self, id: u16) {
        if let Some(taken) = self.taken.iter_mut().find(|t| t.id == id && t.stage == Stage::Held) {
            taken.stage = Stage::Answered;
        }
    }

    /// PUBREL came: the id is free. True if that must be stored before PUBCOMP.
    pub fn released(&mut self, id: u16) -> bool {
        let before = self.taken.len();
        self.taken.retain(|t| t.id != id || t.stage != Stage::Exactly);
        self.taken.len() < before
    }

    fn all_answered(&self) -> bool {
        !self.taken.iter().any(|t| matches!(t.stage, Stage::Held | Stage::Exactly))
    }

    /// Whether a ping now would teach how the broker gives out ids.
    pub fn wants_ping(&self) -> bool {
        let unsure = !self.ids.counted(self.window) && !self.ids.reused;
        unsure && self.ids.last.is_some() && !self.all_free && !self.asked && self.all_answered()
    }

    /// A ping was written; never while another is under way, whose answer would prove too much.
    pub fn pinged(&mut self) {
        self.asked = self.all_answered();
        for taken in self.taken.iter_mut().filter(|t| t.stage == Stage::Answered && t.connection == self.connection) {
            taken.stage = Stage::Pinged;
        }
    }

    /// Its answer came: the broker has heard every PUBACK that was written before the ping.
    pub fn ponged(&mut self) {
        self.taken.retain(|t| t.stage != Stage::Pinged);
        self.all_free = std::mem::take(&mut self.asked);
    }
}

impl Ids {
    /// The broker gave this id to a new message; `all_free` if it could choose any.
    fn given(&mut self, id: u16, all_free: bool) {
        let step = match self.last {
            // 0 is no id: counting goes from 65,535 to 1.
            Some(last) if id > last => id - last,
            Some(last) => id.wrapping_sub(last).wrapping_sub(1),
            None => 0,
        };
        if self.last.is_some() && (step == 0 || step > MAX_SKIP) {
            (self.grown, self.grown_from_free, self.reused) = (0, 0, true);
        } else {
            self.grown = self.grown.saturating_add(u32::from(step));
            let higher = all_free && self.last.is_some() && id > self.highest;
            self.grown_from_free = self.grown_from_free.saturating_add(u8::from(higher));
        }
        self.highest = self.highest.max(id);
        self.last = Some(id);
    }

    /// Whether they are counted upward: they have grown further than any reuse of free ids could take them.
    fn counted(&self, window: u16) -> bool {
        self.grown > 2 * self.widest.max(u32::from(window)) || self.grown_from_free >= BELIEVED_AFTER
    }
}

#[cfg(test)]
mod tests;
