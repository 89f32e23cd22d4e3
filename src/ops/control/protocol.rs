//! The control socket's language: one JSON value a line, asked and answered in order.
//!
//! A connection carries one [`Ask`]; the node answers with [`Answer`]s and closes after the last, which is always
//! `done`, `failed` or `status`. After `send` the client goes on with one [`Line`] a record. Bytes travel as text where they
//! are plain text and as hex elsewhere, so that a line is never longer than twice its bytes and a little.
//!
//! Both ends are this crate, perhaps of different versions: unknown fields are passed over, new ones get a default.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::limits::MAX_RECORD;
use crate::ops::events::EventRecord;
use crate::ops::status::Status;

/// The longest line either side takes: a record of the largest size, doubled by hex, and its names.
pub const MAX_LINE: usize = 2 * MAX_RECORD + 16 * 1024;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Ask {
    Status,
    /// The newest `n` state changes, oldest first.
    Events {
        n: u64,
    },
    Send {
        topic: String,
        #[serde(default)]
        ack: Ack,
        /// Whether it takes an [`Answer::Note`] that says why a line waits.
        #[serde(default)]
        notes: bool,
    },
    Tail(Tail),
    Reload,
    Sink {
        verb: SinkVerb,
        name: String,
    },
    Drain,
    /// Nothing more is taken in, until a reload.
    Cease,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ack {
    /// Answered when the record is durable.
    #[default]
    Durable,
    /// Answered when it is taken in.
    Memory,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tail {
    pub topic: String,
    pub partition: u8,
    pub from: From,
    /// Ends after this many.
    pub count: Option<u64>,
    /// Waits for new records at the end.
    pub follow: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum From {
    Beginning,
    /// This many before the end.
    Last(u64),
    #[default]
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SinkVerb {
    Pause,
    Resume,
    Flush,
    Forget,
}

/// One record to send, or the end of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    End,
    #[serde(untagged)]
    Record(Blob),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Status(Box<Status>),
    Event(EventRecord),
    /// The place of a sent line's first output.
    Offset(u64),
    /// The rules dropped a sent line.
    Filtered,
    /// A sent line was not taken, for good.
    Refused(String),
    Record(TailRecord),
    /// What the person should know meanwhile.
    Note(String),
    /// Records that were asked for and are gone: `[from, to)`.
    Gone {
        from: u64,
        to: u64,
    },
    Progress(Vec<Waiting>),
    /// Done, with what to tell the person.
    Done(String),
    /// Not done: why, and what to do.
    Failed(String),
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Waiting {
    pub sink: String,
    pub pending: u64,
    pub state: String,
    pub what: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TailRecord {
    pub partition: u8,
    pub offset: u64,
    /// Wall time of admission in microseconds, as far as it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_us: Option<i64>,
    /// Whether that time can be believed.
    #[serde(default)]
    pub clock_trusted: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_time_us: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Blob>,
    pub value: Blob,
    /// What befell it: see `Flags::names`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attrs: BTreeMap<String, Blob>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Sender>,
}

/// Whose batch a record came in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sender {
    /// The id of a node's ring, in hex, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ring: Option<String>,
    pub producer_id: i64,
    /// In that ring, of the batch's last record.
    pub seq: u64,
}

/// Bytes: plain text as it is, anything else in hex.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Blob {
    #[serde(rename = "v")]
    Text(String),
    #[serde(rename = "hex")]
    Hex(String),
}

impl Blob {
    pub fn of(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            // Control characters would take six bytes each.
            Ok(text) if !bytes.iter().any(|b| *b < b' ' && *b != b'\t') => Self::Text(text.into()),
            _ => Self::Hex(hex(bytes)),
        }
    }

    /// None for hex that is none.
    pub fn into_bytes(self) -> Option<Vec<u8>> {
        match self {
            Self::Text(text) => Some(text.into_bytes()),
            Self::Hex(hex) => unhex(&hex),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    bytes.iter().flat_map(|b| [DIGITS[usize::from(b >> 4)], DIGITS[usize::from(b & 15)]]).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |b: u8| char::from(b).to_digit(16).map(|d| d as u8);
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}

/// A line, ending in its line break.
pub fn encode(value: &impl Serialize) -> Vec<u8> {
    let mut line = Vec::with_capacity(128);
    encode_into(&mut line, value);
    line
}

/// Appends a line to `out`.
pub fn encode_into(out: &mut Vec<u8>, value: &impl Serialize) {
    // Strings, numbers, lists and maps with string keys always serialize.
    let _ = serde_json::to_writer(&mut *out, value);
    out.push(b'\n');
}

/// Why a line is not understood, in words for the other end.
pub fn decode<'a, T: Deserialize<'a>>(line: &'a [u8]) -> Result<T, String> {
    serde_json::from_slice(line).map_err(|error| {
        let start: String = String::from_utf8_lossy(&line[..line.len().min(60)]).into_owned();
        format!("not understood: {error} in `{start}`; is the command of another version than the node?")
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn arbitrary_lines_never_panic(line in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode::<Ask>(&line);
            let _ = decode::<Line>(&line).map(|l| if let Line::Record(blob) = l { blob.into_bytes() } else { None });
            let _ = decode::<Answer>(&line);
        }

        #[test]
        fn json_of_any_shape_never_panics(line in r#"[{"](do|hex|v|end|send|tail|from|last|topic|[ :,"{}\[\]0-9a-f-]){0,40}"#) {
            let _ = decode::<Ask>(line.as_bytes());
            let _ = decode::<Answer>(line.as_bytes());
            if let Ok(Line::Record(blob)) = decode::<Line>(line.as_bytes()) {
                let _ = blob.into_bytes();
            }
        }

        #[test]
        fn bytes_come_back_whatever_they_are(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let line = encode(&Line::Record(Blob::of(&bytes)));
            prop_assert!(line.len() <= 2 * bytes.len() + 16);
            prop_assert_eq!(line.iter().filter(|b| **b == b'\n').count(), 1);
            let Line::Record(blob) = decode(&line).unwrap() else { panic!("no record") };
            prop_assert_eq!(blob.into_bytes().unwrap(), bytes);
        }
    }

    #[test]
    fn the_lines_on_the_wire_are_these() {
        let text = |value: &dyn erased::Line| value.line();
        assert_eq!(text(&Ask::Status), r#"{"do":"status"}"#);
        assert_eq!(
            text(&Ask::Send { topic: "x".into(), ack: Ack::Durable, notes: true }),
            r#"{"do":"send","topic":"x","ack":"durable","notes":true}"#
        );
        assert_eq!(
            text(&Ask::Sink { verb: SinkVerb::Pause, name: "hq".into() }),
            r#"{"do":"sink","verb":"pause","name":"hq"}"#
        );
        let tail = Tail { topic: "x".into(), from: From::Last(3), count: Some(3), ..Tail::default() };
        assert_eq!(
            text(&Ask::Tail(tail)),
            r#"{"do":"tail","topic":"x","partition":0,"from":{"last":3},"count":3,"follow":false}"#
        );
        assert_eq!(text(&Line::Record(Blob::of(b"a\"b"))), r#"{"v":"a\"b"}"#);
        assert_eq!(text(&Line::Record(Blob::of(b"\xff"))), r#"{"hex":"ff"}"#);
        assert_eq!(text(&Line::End), r#""end""#);
        assert_eq!(text(&Answer::Offset(12)), r#"{"offset":12}"#);
        assert_eq!(text(&Answer::Filtered), r#""filtered""#);
        assert_eq!(text(&Answer::Done(String::new())), r#"{"done":""}"#);
    }

    mod erased {
        pub trait Line {
            fn line(&self) -> String;
        }
        impl<T: serde::Serialize> Line for T {
            fn line(&self) -> String {
                String::from_utf8(super::encode(self)).unwrap().trim_end().to_owned()
            }
        }
    }

    #[test]
    fn every_answer_comes_back() {
        let record = TailRecord {
            partition: 0,
            offset: 9,
            time_us: Some(-5),
            clock_trusted: false,
            event_time_us: None,
            key: Some(Blob::of(b"k")),
            value: Blob::of(b"\x00"),
            flags: vec!["truncated".into()],
            attrs: [("a".to_owned(), Blob::of(b"1"))].into(),
            origin: Some(Sender { ring: Some("0a".into()), producer_id: -7, seq: 9 }),
        };
        let answers = [
            Answer::Status(Box::new(crate::ops::testing::sample())),
            Answer::Record(record),
            Answer::Note("wait".into()),
            Answer::Gone { from: 1, to: 4 },
            Answer::Progress(vec![Waiting::default()]),
            Answer::Failed("no".into()),
        ];
        for answer in answers {
            assert_eq!(decode::<Answer>(&encode(&answer)).unwrap(), answer);
        }
    }

    #[test]
    fn hex_that_is_none_is_refused() {
        assert_eq!(unhex("0g"), None);
        assert_eq!(unhex("abc"), None);
        assert_eq!(unhex("00fF"), Some(vec![0, 255]));
    }

    #[test]
    fn a_line_that_is_not_understood_says_where() {
        let error = decode::<Ask>(b"{\"do\":\"dance\"}").unwrap_err();
        assert!(error.contains("dance") && error.contains("another version"), "{error}");
    }
}
