//! What a rule makes of a record: a value, or several records.

use super::Answer;
use crate::limits::FRAME_RAW_TARGET;
use crate::record::RecordRef;
use crate::time::WallTime;

/// Records that a rule makes, one behind another in one buffer.
#[derive(Debug, Default)]
pub struct Made {
    pub(super) bytes: Vec<u8>,
    list: Vec<One>,
}

#[derive(Debug)]
struct One {
    key: Key,
    value: usize,
    end: usize,
    event_time: Option<WallTime>,
}

#[derive(Debug)]
enum Key {
    /// Of the record that it is made of.
    Same,
    None,
    /// Begins here in the buffer; the value follows it.
    Own(usize),
}

impl Made {
    pub(super) fn clear(&mut self) {
        // A rare huge record must not leave its size behind for good.
        if self.bytes.capacity() > 2 * FRAME_RAW_TARGET {
            self.bytes = Vec::new();
        }
        self.bytes.clear();
        self.list.clear();
    }

    /// Appends a record: what `write` puts into the buffer is its value. Without a key or time of its own it has those of the
    /// record that it is made of.
    pub fn push(&mut self, key: Option<&[u8]>, event_time: Option<WallTime>, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(key.unwrap_or_default());
        let value = self.bytes.len();
        write(&mut self.bytes);
        let key = if key.is_some() { Key::Own(start) } else { Key::Same };
        self.list.push(One { key, value, end: self.bytes.len(), event_time });
    }

    /// A record without a key.
    pub(super) fn push_keyless(&mut self, bytes: &[u8]) {
        let value = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        self.list.push(One { key: Key::None, value, end: self.bytes.len(), event_time: None });
    }

    /// A value of its own, or the record's, together with a key: what a rule that rewrites both makes.
    pub(super) fn with_key(&mut self, value: Answer, key: Answer, text: &[u8], record: &RecordRef<'_>) -> Answer {
        if key != Answer::Value {
            return value;
        }
        if value != Answer::Value {
            self.bytes.clear();
            self.bytes.extend_from_slice(record.value);
        }
        // The key stands in front.
        self.bytes.splice(..0, text.iter().copied());
        self.list.push(One { key: Key::Own(0), value: text.len(), end: self.bytes.len(), event_time: None });
        Answer::Made
    }

    pub(super) fn records<'m>(&'m self, of: RecordRef<'m>) -> impl Iterator<Item = RecordRef<'m>> {
        self.list.iter().map(move |one| RecordRef {
            key: match one.key {
                Key::Same => of.key,
                Key::None => None,
                Key::Own(start) => Some(&self.bytes[start..one.value]),
            },
            value: &self.bytes[one.value..one.end],
            event_time: one.event_time.or(of.event_time),
            ..of
        })
    }

    /// How many records there are, and their bytes.
    pub(super) fn weigh(&self) -> (u64, u64) {
        (self.list.len() as u64, self.bytes.len() as u64)
    }
}
