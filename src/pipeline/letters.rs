//! Dead letters: records that a sink's upstream refuses for good, kept in `headwater-dead-letters` with the reason.
//!
//! A refused record is noted when the sink reads it ([`super::Pipeline::refuse`]) and becomes a dead letter when the cursor passes
//! it: the letter is a record in the very frame that has the cursor and the account, as the records of losses are
//! ([`super::losses`]). After any crash both are there or neither, so each refused record has one letter, however often it is read
//! again. Its value is one line of JSON:
//!
//! ```json
//! {"time":"2026-11-24T06:00:00.000000Z","sink":"hq","upstream_topic":"pumps","upstream_partition":0,
//!  "reason":"the upstream takes no record of this size (MessageTooLarge)","topic":"pump","partition":0,"offset":120,
//!  "seq":4711,"ring":"00…","admitted":"2026-11-24T05:59:59.000000Z","size":300000,"truncated":true,"key":"p1","value":"…"}
//! ```
//!
//! - `time`, `admitted`: when it was refused and when it came in, RFC 3339 in UTC; null while the clock was not trusted.
//! - `upstream_topic`, `upstream_partition`: who refused it; null where there was no place to send it to.
//! - `ring` and `seq` name the record for ever: (sink, ring, seq) tells two letters apart, and a repeat from a new letter.
//! - `size`: bytes of key and value. `key` and `value` are text, or `key_base64` and `value_base64`, as `ring export` has them.
//!   With `truncated` they are the beginning only.
//!
//! What is bounded: letters that wait for their frame take [`room`] bytes of a sink, and one small letter for each stream beyond
//! (the sink reads on when there is room again). A sink may write a [`BURST`]th of the ring as letters, and as much again each hour;
//! beyond, a refused record is counted as `left_out` and has no letter: a flood of them must not push out what is to be sent. A
//! refused dead letter is counted and makes no other one.
//!
//! A record that an upstream had, lost, and refuses when it is sent again makes none: the account has it as delivered.
//! Where a frame is too small for a sink's letters beside very many losses, its frame is sealed in two, letters first: a power
//! cut in between repeats them, with the same `ring` and `seq`.

use std::collections::VecDeque;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};

use super::streams::Streams;
use super::{Pipeline, Sink, SinkId, StreamId};
use crate::envelope::rfc3339;
use crate::name::Name;
use crate::record::RecordRef;
use crate::ring::{Entry, RingId};
use crate::time::{BootTime, Now, Span, WallTime};
use crate::topic::{TopicId, TopicName};

/// The topic of the records.
pub use crate::topic::DEAD_LETTERS_TOPIC;
/// The state key of what a sink counts of them.
pub(super) const KEY: &[u8] = b"dead-letters";
/// A letter takes at most so much beside key and value: four names, numbers, times, a reason.
const FACTS: usize = 1280;
/// Bytes of a reason that are kept.
const REASON: usize = 256;
/// This part of the ring may be letters of one sink, at once and for each hour that follows.
const BURST: u64 = 32;

/// Bytes of letters that wait for a sink: they share a frame with its cursor.
pub(super) fn room(max_record: usize) -> usize {
    max_record / 2
}

/// Why a record is not taken, and by whom.
#[derive(Clone, Copy, Debug)]
pub struct Refusal<'a> {
    pub reason: &'a str,
    /// Topic and partition; None: there was no place for it.
    pub upstream: Option<(&'a str, u32)>,
    pub ring: RingId,
}

/// What is known of a refused record beside itself.
pub(super) struct Facts<'a> {
    pub sink: &'a str,
    pub topic: &'a str,
    pub refusal: &'a Refusal<'a>,
    pub time: Option<WallTime>,
    pub admitted: Option<WallTime>,
}

/// A refused record on its way into the topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Letter {
    pub ordinal: u64,
    pub value: Vec<u8>,
    pub reason: String,
}

impl Letter {
    /// Of at most `most` bytes, but with room for everything beside key and value.
    pub fn of(facts: &Facts<'_>, entry: &Entry<'_>, most: usize) -> Self {
        let time = |time: Option<WallTime>| time.and_then(rfc3339);
        let record = Record {
            time: time(facts.time),
            sink: facts.sink,
            upstream_topic: facts.refusal.upstream.map(|(topic, _)| topic),
            upstream_partition: facts.refusal.upstream.map(|(_, partition)| partition),
            reason: reason_of(facts.refusal.reason),
            topic: facts.topic,
            partition: entry.part.partition,
            offset: entry.offset,
            seq: entry.seq,
            ring: format!("{:032x}", facts.refusal.ring.0),
            admitted: time(facts.admitted),
            contents: Contents::of(&entry.record, most),
        };
        // Names, numbers and texts always serialize.
        let value = serde_json::to_vec(&record).unwrap_or_default();
        Self { ordinal: entry.ordinal, value, reason: record.reason }
    }
}

/// The letter of a record that a rule failed on before it was in the ring: no offset, no seq. `of`: rule, topic, partition.
pub(super) fn rule_letter(
    now: Option<Now>,
    of: (&Name, &str, u8),
    record: &RecordRef<'_>,
    reason: &str,
    most: usize,
) -> Vec<u8> {
    let (rule, topic, partition) = of;
    let letter = RuleRecord {
        time: now.filter(|now| now.trusted).and_then(|now| rfc3339(now.wall)),
        rule: rule.as_str(),
        reason: reason_of(reason),
        topic,
        partition,
        contents: Contents::of(record, most),
    };
    // Names, numbers and texts always serialize.
    serde_json::to_vec(&letter).unwrap_or_default()
}

#[derive(Serialize)]
struct RuleRecord<'a> {
    time: Option<String>,
    rule: &'a str,
    reason: String,
    topic: &'a str,
    partition: u8,
    #[serde(flatten)]
    contents: Contents<'a>,
}

/// In one line, and short: a part of it may be the record's.
fn reason_of(text: &str) -> String {
    let mut reason = String::new();
    for c in text.chars().map(|c| if c.is_control() { ' ' } else { c }) {
        if reason.len() + c.len_utf8() > REASON {
            break;
        }
        reason.push(c);
    }
    reason
}

#[derive(Serialize)]
struct Record<'a> {
    time: Option<String>,
    sink: &'a str,
    upstream_topic: Option<&'a str>,
    upstream_partition: Option<u32>,
    reason: String,
    topic: &'a str,
    partition: u8,
    offset: u64,
    seq: u64,
    ring: String,
    admitted: Option<String>,
    #[serde(flatten)]
    contents: Contents<'a>,
}

/// What is kept of the record itself.
#[derive(Serialize)]
struct Contents<'a> {
    size: usize,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    truncated: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
}

impl<'a> Contents<'a> {
    /// In at most `most` bytes, with room for everything that a letter has beside.
    fn of(record: &RecordRef<'a>, most: usize) -> Self {
        let most = most.max(FACTS) - FACTS;
        let key = record.key.map_or_else(Clipped::default, |key| clip(key, most / 4));
        let value = clip(record.value, most - key.bytes.min(most));
        Self {
            size: record.key.map_or(0, <[u8]>::len) + record.value.len(),
            truncated: key.left || value.left,
            key: key.text,
            key_base64: key.base64,
            value: value.text,
            value_base64: value.base64,
        }
    }
}

/// The beginning of a key or a value, as text or in base64.
#[derive(Default)]
struct Clipped<'a> {
    text: Option<&'a str>,
    base64: Option<String>,
    bytes: usize,
    /// Something is left of it.
    left: bool,
}

/// As much of the bytes as takes at most `most` in a string of JSON.
fn clip(bytes: &[u8], most: usize) -> Clipped<'_> {
    let Ok(text) = std::str::from_utf8(bytes) else {
        let end = bytes.len().min(most / 4 * 3);
        let base64 = BASE64.encode(&bytes[..end]);
        return Clipped { text: None, bytes: base64.len(), base64: Some(base64), left: end < bytes.len() };
    };
    let (mut end, mut sum) = (0, 0);
    for c in text.chars() {
        if sum + escaped(c) > most {
            break;
        }
        sum += escaped(c);
        end += c.len_utf8();
    }
    Clipped { text: Some(&text[..end]), base64: None, bytes: sum, left: end < text.len() }
}

/// What a character takes in a string of JSON.
fn escaped(c: char) -> usize {
    match c {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        c if c < ' ' => 6,
        c => c.len_utf8(),
    }
}

/// Letters of records that the cursor has not passed, in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Waiting(VecDeque<Letter>);

impl Waiting {
    pub fn push(&mut self, letter: Letter) {
        self.0.push_back(letter);
    }

    /// From this ordinal on records are read again.
    pub fn cut(&mut self, ordinal: u64) {
        while self.0.back().is_some_and(|letter| letter.ordinal >= ordinal) {
            self.0.pop_back();
        }
    }

    /// The next one below `to`.
    pub fn pass(&mut self, to: u64) -> Option<Letter> {
        let due = self.0.front().is_some_and(|letter| letter.ordinal < to);
        if due { self.0.pop_front() } else { None }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn bytes(&self) -> usize {
        self.0.iter().map(|letter| letter.value.len()).sum()
    }
}

/// What a sink has of dead letters, since it was first configured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetters {
    /// Records in the topic.
    pub written: u64,
    /// Refused records without one: there were too many at once, or too many topics.
    pub left_out: u64,
    /// Why the newest one was refused.
    pub reason: String,
}

impl DeadLetters {
    /// As stored; nothing when that is of a newer version.
    pub(super) fn decode(stored: &[u8]) -> Self {
        postcard::from_bytes(stored).unwrap_or_default()
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        // Numbers and a text: there is nothing here that postcard cannot encode.
        postcard::to_allocvec(self).unwrap_or_default()
    }
}

/// How many bytes of letters a sink may still write.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Allowance {
    left: u64,
    /// None: nothing was asked yet.
    at: Option<BootTime>,
}

impl Allowance {
    /// Takes so many bytes out, of a ring of `ring` bytes; false: there are not so many.
    pub fn take(&mut self, now: BootTime, bytes: usize, ring: u64) -> bool {
        let most = ring / BURST;
        let hour = Span::from_secs(3600).0 as u64;
        let passed = self.at.map_or(hour, |at| (now - at).0.clamp(0, hour as i64) as u64);
        let more = (u128::from(most) * u128::from(passed) / u128::from(hour)) as u64;
        // What is less than a byte stays in the time.
        if more > 0 {
            (self.left, self.at) = ((self.left + more).min(most), Some(now));
        }
        let taken = self.left >= bytes as u64;
        self.left -= if taken { bytes as u64 } else { 0 };
        taken
    }
}

impl Pipeline {
    /// The upstream refuses for good what was read and noted as refused: it becomes a dead letter when the cursor passes it.
    /// What is below the cursor is in the account already; a dead letter makes no other one.
    pub fn refuse(
        &mut self,
        now: Now,
        id: SinkId,
        of: impl Into<StreamId>,
        entry: &Entry<'_>,
        boot: u32,
        refusal: &Refusal<'_>,
    ) {
        let of = of.into();
        let Some(topic) = self.topic_name(entry.part.topic).filter(|name| name.as_str() != DEAD_LETTERS_TOPIC) else {
            return;
        };
        let sink = &self.sinks[id.0];
        let streams = &sink.lanes[of.lane.index()];
        let at = streams.index(of);
        if entry.ordinal < streams.all[at].0.account.cursor.ordinal {
            return;
        }
        let clock = self.ring.clock(boot).filter(|clock| clock.trusted);
        let facts = Facts {
            sink: sink.owner.name.as_str(),
            topic: topic.as_str(),
            refusal,
            time: Some(now.wall).filter(|_| now.trusted),
            admitted: clock.map(|clock| clock.wall(entry.record.admitted)),
        };
        let letter = Letter::of(&facts, entry, room(self.ring.max_record()).saturating_sub(sink.letter_bytes()));
        self.sinks[id.0].lanes[of.lane.index()].all[at].0.letters.push(letter);
    }

    /// Whether a record that is read at `ordinal` may be refused: there is room for its letter.
    pub fn has_letter_room(&mut self, id: SinkId, of: impl Into<StreamId>, ordinal: u64) -> bool {
        let of = of.into();
        let (sink, most) = (&mut self.sinks[id.0], room(self.ring.max_record()));
        let streams = &mut sink.lanes[of.lane.index()];
        let at = streams.index(of);
        // From here on it is read again.
        streams.all[at].0.letters.cut(ordinal);
        let none = streams.all[at].0.letters.is_empty() && sink.letters.is_empty();
        none || sink.letter_bytes() + FACTS <= most
    }

    /// Whether dead letters wait for their frame: their records are passed, and the disk was behind.
    pub fn has_letters(&self, id: SinkId) -> bool {
        !self.sinks[id.0].letters.is_empty()
    }

    /// The records of these letters were passed: what there may be of them goes to the ring with the cursor.
    pub(super) fn send_letters(&mut self, now: BootTime, id: SinkId, letters: Vec<Letter>) {
        let Some(last) = letters.last() else { return };
        let (mut dead, ring) = (self.dead_letters(&self.sinks[id.0]), self.ring.max_bytes());
        dead.reason.clone_from(&last.reason);
        let sink = &mut self.sinks[id.0];
        for letter in letters {
            if sink.allowance.take(now, letter.value.len(), ring) {
                dead.written += 1;
                sink.letters.push(letter);
            } else {
                dead.left_out += 1;
            }
        }
        sink.state.insert(KEY.to_vec(), Some(dead.encode()));
    }

    /// The topic of letters that wait; where there are too many topics they are left out, and that is counted.
    pub(super) fn open_letters(&mut self) -> Option<TopicId> {
        if self.sinks.iter().all(|sink| sink.letters.is_empty()) {
            return None;
        }
        let name = TopicName::new(DEAD_LETTERS_TOPIC).ok()?;
        let topic = self.open_topic(&name, None).ok();
        for at in 0..self.sinks.len() {
            let count = self.sinks[at].letters.len() as u64;
            if topic.is_none() && count > 0 {
                let mut dead = self.dead_letters(&self.sinks[at]);
                (dead.written, dead.left_out) = (dead.written - count, dead.left_out + count);
                self.sinks[at].letters.clear();
                self.sinks[at].state.insert(KEY.to_vec(), Some(dead.encode()));
            }
        }
        topic
    }

    /// What a sink counts of them.
    pub(super) fn dead_letters(&self, sink: &Sink) -> DeadLetters {
        match sink.state.get(KEY) {
            Some(Some(stored)) => DeadLetters::decode(stored),
            _ => self.ring.state(&sink.owner, KEY).map(DeadLetters::decode).unwrap_or_default(),
        }
    }
}

impl Sink {
    /// Of all letters of it that wait in memory.
    fn letter_bytes(&self) -> usize {
        let passed = self.letters.iter().map(|letter| letter.value.len()).sum::<usize>();
        self.lanes.iter().map(Streams::letter_bytes).sum::<usize>() + passed
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::record::RecordRef;
    use crate::topic::{TopicId, TopicPart};

    fn letter(key: Option<&[u8]>, value: &[u8], most: usize) -> Letter {
        let refusal = Refusal { reason: "too large", upstream: Some(("pumps", 3)), ring: RingId(7) };
        let time = Some(WallTime(1_700_000_000_000_000));
        let facts = Facts { sink: "hq", topic: "pump", refusal: &refusal, time, admitted: None };
        let record = RecordRef { key, ..RecordRef::of(value) };
        let part = TopicPart { topic: TopicId(1), partition: 2 };
        Letter::of(&facts, &Entry { ordinal: 5, seq: 9, part, offset: 4, record }, most)
    }

    fn json(letter: &Letter) -> Value {
        serde_json::from_slice(&letter.value).unwrap()
    }

    #[test]
    fn a_letter_has_the_record_the_reason_and_who_refused_it() {
        let found = json(&letter(Some(b"p1"), b"{\"speed\":7}", 10_000));
        let expected = serde_json::json!({
            "time": "2023-11-14T22:13:20.000000Z", "sink": "hq", "upstream_topic": "pumps", "upstream_partition": 3,
            "reason": "too large", "topic": "pump", "partition": 2, "offset": 4, "seq": 9,
            "ring": "00000000000000000000000000000007", "admitted": null, "size": 13,
            "key": "p1", "value": "{\"speed\":7}",
        });
        assert_eq!(found, expected);
    }

    #[test]
    fn bytes_that_are_no_text_stand_in_base64() {
        let found = json(&letter(None, &[0xff, 0, 1], 10_000));
        assert_eq!((found.get("key"), found["value_base64"].as_str()), (None, Some("/wAB")));
    }

    proptest! {
        #[test]
        fn a_letter_fits_and_holds_the_beginning_of_what_it_cannot_hold(
            key in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..3000)),
            text in proptest::option::of("[\\PC\n\u{0}-\u{8}\"]{0,3000}"),
            raw in proptest::collection::vec(any::<u8>(), 0..5000),
            most in FACTS..20_000usize,
        ) {
            let value = text.as_ref().map_or(&raw[..], |text| text.as_bytes());
            let letter = letter(key.as_deref(), value, most);
            prop_assert!(letter.value.len() <= most, "{} of {most}", letter.value.len());
            let found = json(&letter);
            let bytes = |name: &str| match found[name].as_str() {
                Some(text) => text.as_bytes().to_vec(),
                None => BASE64.decode(found[format!("{name}_base64")].as_str().unwrap_or_default()).unwrap(),
            };
            let (has_key, has) = (bytes("key"), bytes("value"));
            let whole = has == value && has_key == key.clone().unwrap_or_default();
            prop_assert!(value.starts_with(&has) && key.unwrap_or_default().starts_with(&has_key));
            prop_assert_eq!(found["truncated"].as_bool().unwrap_or(false), !whole);
        }
    }

    #[test]
    fn an_allowance_is_spent_and_comes_back_with_time() {
        let (mut allowance, ring) = (Allowance::default(), 3200);
        let at = |secs: i64| BootTime(secs * 1_000_000);
        assert!(allowance.take(at(10), 60, ring) && allowance.take(at(10), 40, ring));
        assert!(!allowance.take(at(10), 1, ring) && !allowance.take(at(45), 1, ring));
        assert!(allowance.take(at(46), 1, ring), "one byte in 36 seconds");
        assert!(allowance.take(at(1_000_000), 100, ring) && !allowance.take(at(1_000_000), 1, ring));
    }
}
