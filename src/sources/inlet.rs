//! A source's way into the node: its [`Intake`], with every event cut to what the ring takes.
//!
//! A source limits what it reads (`max_line`, `max_message`, `max_packet`); the ring limits a whole record: value, key
//! and attributes, after the envelope was put around it, which may double it. What is over that is cut, flagged and
//! counted here, once for all sources, because what was refused would be gone: a checkpoint passes it, a broker is told
//! that it arrived.
//!
//! What stands around the value is worked out beforehand. Of that, the node's id and labels and what rules add are not
//! known here: a first record that is too large because of them is offered again, shorter, and the difference
//! remembered.

use std::cell::Cell;
use std::ops::Deref;
use std::rc::Rc;

use crate::config::model::{SourceConfig, ValueMode};
use crate::envelope;
use crate::hub::{Admitted, Intake, OfferError, PartState, counters};
use crate::name::Name;
use crate::record::{Attrs, Flags, RecordRef};
use crate::template::{Context, Template};
use crate::time::WallTime;
use crate::topic::TopicId;

/// What the node's id and the topic may add to a key or an envelope.
const NAMES: usize = 256;

/// Cheap to clone.
#[derive(Clone)]
pub(super) struct Inlet {
    intake: Intake,
    name: Name,
    key: Option<Rc<Template>>,
    value: ValueMode,
    /// Bytes that records had beside what is known here, as far as it made one too large.
    unseen: Rc<Cell<usize>>,
}

impl Deref for Inlet {
    type Target = Intake;

    fn deref(&self) -> &Intake {
        &self.intake
    }
}

impl Inlet {
    pub fn new(config: &SourceConfig, intake: Intake) -> Self {
        let key = config.key.clone().map(Rc::new);
        Self { intake, name: config.name.clone(), key, value: config.value, unseen: Rc::default() }
    }

    /// As [`Intake::offer`], with the value cut, flagged and counted where the record is too large. Attributes that
    /// leave the value less than half are left out. Err(TooLarge): rules make the smallest piece of it too large, and
    /// nothing of it is stored.
    pub fn offer(&self, topic: TopicId, record: &RecordRef<'_>) -> Result<Admitted, OfferError> {
        let mut piece = *record;
        if !self.surely_fits(record) {
            let limit = self.intake.max_record();
            if self.beside(record) > limit / 2 {
                piece.attrs = Attrs::default();
            }
            piece.value = self.shortened(&piece, limit.saturating_sub(self.beside(&piece)));
        }
        loop {
            let cut = piece.value.len() < record.value.len() || piece.attrs != record.attrs;
            if cut {
                piece.flags = piece.flags.with(Flags::TRUNCATED);
            }
            match self.intake.offer(topic, &piece) {
                Err(OfferError::TooLarge { bytes, limit }) if !piece.value.is_empty() || !piece.attrs.is_empty() => {
                    if piece.value.is_empty() {
                        piece.attrs = Attrs::default();
                        continue;
                    }
                    let excess = bytes.saturating_sub(limit);
                    self.unseen.set(self.unseen.get().saturating_add(excess).min(limit / 4));
                    // A part of it, too: what rules add may be no fixed number of bytes.
                    let written = self.written_len(&piece);
                    let room = written.saturating_sub(excess.max(written / 16).max(1));
                    piece.value = self.shortened(&piece, room);
                }
                Ok(admitted) => {
                    if cut && !record.flags.has(Flags::TRUNCATED) {
                        self.intake.count(counters::TRUNCATED, 1);
                    }
                    return Ok(admitted);
                }
                Err(error) => {
                    if let OfferError::TooLarge { .. } = error {
                        self.intake.count(counters::REFUSED, 1);
                        let what = format!("{error}, whatever is cut from it: rules make it so; it is not stored");
                        self.intake.report(PartState::warn(what));
                    }
                    return Err(error);
                }
            }
        }
    }

    fn wraps(&self) -> bool {
        self.value == ValueMode::Envelope
    }

    /// Told without looking at the bytes; key and envelope are taken to be some times the record.
    fn surely_fits(&self, record: &RecordRef<'_>) -> bool {
        let most = if self.wraps() || self.key.is_some() { 8 } else { 1 };
        record.len() * most + NAMES + self.unseen.get() <= self.intake.max_record()
    }

    /// What the record takes beside what its value becomes.
    fn beside(&self, record: &RecordRef<'_>) -> usize {
        let labels = Default::default();
        let context = Context { node: "", topic: "", source: self.name.as_str(), labels: &labels };
        let mut key = Vec::new();
        let keyed = self.key.as_ref().is_some_and(|template| template.render(&context, record, &mut key));
        let mut beside = record.len() - record.value.len() + key.len() + self.unseen.get();
        if self.key.is_some() {
            beside += NAMES;
        }
        if self.wraps() {
            let mut around = Vec::new();
            let key = if keyed { Some(key.as_slice()) } else { record.key };
            let empty = RecordRef { key, value: b"", ..*record };
            envelope::write(&mut around, &context, &empty, Some(WallTime(0)));
            beside += around.len() + NAMES;
        }
        beside
    }

    /// What the value becomes, without what is around it.
    fn written_len(&self, record: &RecordRef<'_>) -> usize {
        if self.wraps() { enveloped_len(record.value) } else { record.value.len() }
    }

    /// The longest beginning of the value that takes at most `room` bytes.
    fn shortened<'v>(&self, record: &RecordRef<'v>, room: usize) -> &'v [u8] {
        let value = record.value;
        if self.written_len(record) <= room {
            return value;
        }
        if !self.wraps() {
            return &value[..value.len().min(room)];
        }
        let text = match std::str::from_utf8(value) {
            Ok(text) => text,
            // Bytes that are no text are written as two digits each; their beginning may be text again.
            Err(_) => {
                let bytes = &value[..value.len().min(room / 2)];
                match std::str::from_utf8(bytes) {
                    Ok(text) => text,
                    Err(_) => return bytes,
                }
            }
        };
        let mut left = room;
        let fits = text.char_indices().find(|(_, c)| match left.checked_sub(escaped_len(*c)) {
            Some(rest) => {
                left = rest;
                false
            }
            None => true,
        });
        fits.map_or(text, |(at, _)| &text[..at]).as_bytes()
    }
}

/// What the envelope's own writer makes of a value, beside the quotes of an empty one.
fn enveloped_len(value: &[u8]) -> usize {
    let labels = Default::default();
    let context = Context { node: "", topic: "", source: "", labels: &labels };
    let mut out = Vec::with_capacity(value.len() + NAMES);
    envelope::write(&mut out, &context, &RecordRef::of(value), None);
    let whole = out.len();
    out.clear();
    envelope::write(&mut out, &context, &RecordRef::of(b""), None);
    whole.saturating_sub(out.len())
}

/// Bytes that a character takes in a JSON string.
fn escaped_len(c: char) -> usize {
    match c {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        c if c < ' ' => 6,
        c => c.len_utf8(),
    }
}
