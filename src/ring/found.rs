//! What `verify` says of a ring.

use serde::Serialize;

use super::stat::KeyStat;
use super::walk::Seen;

/// What was found in a whole ring.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verification {
    /// In hexadecimal; empty: no slot of a ring was found.
    pub ring: String,
    pub slots: Vec<SlotCheck>,
    pub totals: Counts,
    pub findings: Vec<Finding>,
    pub findings_left_out: u64,
    /// Those that slots are encrypted under.
    pub keys: Vec<KeyStat>,
    /// What the node would say at its start.
    pub recovery: Vec<String>,
    pub(super) damaged: bool,
    /// Slots that a node wrote over while they were looked at.
    pub rewritten: u32,
}

impl Verification {
    /// No damage; there may be notes.
    pub fn is_good(&self) -> bool {
        !self.damaged
    }
}

/// What was found in one slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SlotCheck {
    pub file: String,
    pub bytes: u64,
    pub header: HeaderState,
    /// `lane` or `journal`.
    pub kind: Option<&'static str>,
    pub lane: Option<u8>,
    pub generation: Option<u64>,
    pub first_seq: Option<u64>,
    #[serde(flatten)]
    pub counts: Counts,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HeaderState {
    Ok,
    /// Never written.
    Blank,
    Damaged,
    /// Of another ring, or of a format that this program does not read.
    Foreign,
}

/// Sums of a slot, or of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Frames of which everything holds.
    pub frames_good: u64,
    /// Frames of which every checksum holds and nothing else is known, for want of the key.
    pub frames_locked: u64,
    /// Frames whose records are damaged.
    pub bad_payloads: u64,
    /// Places where a frame began and its header is damaged.
    pub damaged_headers: u64,
    /// Frames whose state entries are damaged.
    pub damaged_states: u64,
    /// Frames that recovery gave up: torn by a crash, or written again elsewhere.
    pub given_up: u64,
    pub unreadable_bytes: u64,
    /// Records that can be read, those of locked frames among them.
    pub records: u64,
    /// Records that were durable and cannot be read.
    pub records_lost: u64,
    /// Records that were never written, since every sink had them from memory.
    pub records_passed: u64,
}

impl Counts {
    /// A frame whose records hold.
    pub(super) fn good(&mut self, seen: &Seen) {
        let good = if seen.locked { &mut self.frames_locked } else { &mut self.frames_good };
        *good += u64::from(seen.state.is_some());
    }

    pub(super) fn add(&mut self, other: &Counts) {
        self.frames_good += other.frames_good;
        self.frames_locked += other.frames_locked;
        self.bad_payloads += other.bad_payloads;
        self.damaged_headers += other.damaged_headers;
        self.damaged_states += other.damaged_states;
        self.given_up += other.given_up;
        self.unreadable_bytes += other.unreadable_bytes;
        self.records += other.records;
        self.records_lost += other.records_lost;
        self.records_passed += other.records_passed;
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    Note,
    Damage,
}

/// One thing found: where, what, what it means, what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub severity: Severity,
    pub file: String,
    /// The byte of the file where it begins.
    pub at: u64,
    pub what: String,
    pub meaning: String,
    pub advice: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at byte {}: {}; {}; {}", self.file, self.at, self.what, self.meaning, self.advice)
    }
}
