//! What crosses the boundary of a SmartModule, byte by byte; what a guest says is read without trusting it.
//!
//! ```text
//! input       i64 base offset, i32 length and the packed records (i32 count, then each as in `codec::batch`),
//!             u16 parameters (0), u8 look-back (0), i32 length of the joined record (0), i64 base timestamp (ms)
//! aggregate   the same, then i32 length and the accumulator
//! init        u16 count of parameters, each key and value with u16 length; u8 look-back 0, or 1 and
//!             u64 last, u8 age 0, or 1 and u64 seconds, u32 nanoseconds
//! output      i32 count and the packed records, u8 error 0, or 1 and the error; of an aggregate also
//!             i32 length and the accumulator
//! error       u16 length and text, i64 offset, u8 kind, u8 key 0, or 1 and varint length and bytes;
//!             varint length and value
//! ```
//!
//! All big-endian. A field stands there from the version on that brought it: the joined record and the output's
//! accumulator 16, look-back 20, its age 21, the base timestamp 22. A guest decodes what it was built with, so an older
//! one works with newer input as long as nothing is read behind the fields that it does not know: all but `aggregate`,
//! for which the version can be set.

use crate::codec::batch::{Packed, sized};
use crate::codec::{Malformed, Reader};
use crate::limits::MAX_REPORT;
use crate::record::RecordRef;

/// The version of the ABI that is spoken unless told otherwise: Fluvio 0.10 to 0.50.
pub const VERSION: i16 = 22;
/// The oldest whose fields are known.
pub const OLDEST_VERSION: i16 = 16;

/// Where and when the records of one call begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Base {
    /// Offset of the first record; the others follow densely.
    pub offset: i64,
    /// Milliseconds since 1970; a record without an event time has this one.
    pub time_ms: i64,
}

impl Base {
    /// The time that a guest sees of a record.
    pub fn time_of(self, record: &RecordRef<'_>) -> i64 {
        record.event_time.map_or(self.time_ms, |t| t.0.div_euclid(1000))
    }
}

/// How far a module looks back before its first record: what Fluvio's `lookback` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LookBack {
    /// Records; 0: as many as `age` says.
    pub last: u64,
    pub age: Option<std::time::Duration>,
}

/// Appends what `init` gets. The parameters are a map: of a key given twice the last counts.
pub fn put_init(params: &[(String, String)], look_back: Option<LookBack>, version: i16, out: &mut Vec<u8>) {
    let map: std::collections::BTreeMap<&str, &str> = params.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    out.extend_from_slice(&(map.len() as u16).to_be_bytes());
    for (key, value) in map {
        put_str(key, out);
        put_str(value, out);
    }
    if version < 20 {
        return;
    }
    out.push(u8::from(look_back.is_some()));
    let Some(LookBack { last, age }) = look_back else { return };
    out.extend_from_slice(&last.to_be_bytes());
    if version < 21 {
        return;
    }
    out.push(u8::from(age.is_some()));
    if let Some(age) = age {
        out.extend_from_slice(&age.as_secs().to_be_bytes());
        out.extend_from_slice(&age.subsec_nanos().to_be_bytes());
    }
}

/// Longer ones are refused before (`MAX_PARAM`).
fn put_str(text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(&(text.len() as u16).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// Appends what a transform or `look_back` gets; the first record is number `first` from the base on.
pub fn put_input(records: &[RecordRef<'_>], first: usize, base: Base, version: i16, out: &mut Vec<u8>) {
    out.extend_from_slice(&base.offset.to_be_bytes());
    let len_at = out.len();
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&(records.len() as i32).to_be_bytes());
    for (i, record) in records.iter().enumerate() {
        let packed = Packed {
            time_delta: base.time_of(record).saturating_sub(base.time_ms),
            offset_delta: (first + i) as i64,
            key: record.key,
            value: record.value,
        };
        packed.put(out);
    }
    let len = (out.len() - len_at - 4) as i32;
    out[len_at..len_at + 4].copy_from_slice(&len.to_be_bytes());
    out.extend_from_slice(&0u16.to_be_bytes());
    if version >= 20 {
        out.push(0);
    }
    if version >= 16 {
        out.extend_from_slice(&0i32.to_be_bytes());
    }
    if version >= 22 {
        out.extend_from_slice(&base.time_ms.to_be_bytes());
    }
}

pub fn put_accumulator(accumulator: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(accumulator.len() as i32).to_be_bytes());
    out.extend_from_slice(accumulator);
}

/// What a guest says went wrong with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reported<'a> {
    pub text: &'a [u8],
    pub offset: i64,
}

/// The output of one call, checked as a whole; the records are still packed.
#[derive(Clone, Copy, Debug)]
pub struct Outcome<'a> {
    pub count: usize,
    packed: Reader<'a>,
    pub error: Option<Reported<'a>>,
    /// Of an aggregate.
    pub accumulator: Option<&'a [u8]>,
}

impl<'a> Outcome<'a> {
    pub fn read(bytes: &'a [u8], aggregate: bool) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        // The smallest record takes seven bytes.
        let count = reader.count(7, "record count")?;
        let packed = reader;
        for _ in 0..count {
            Packed::read(&mut reader)?;
        }
        let error = if reader.flag("error")? { Some(transform_error(&mut reader)?) } else { None };
        let accumulator = if aggregate {
            let len = reader.count(1, "accumulator")?;
            Some(reader.bytes(len, "accumulator")?)
        } else {
            None
        };
        reader.end("output")?;
        Ok(Self { count, packed, error, accumulator })
    }

    pub fn records(&self) -> impl Iterator<Item = Packed<'a>> + use<'a> {
        let mut reader = self.packed;
        (0..self.count).map_while(move |_| Packed::read(&mut reader).ok())
    }
}

fn transform_error<'a>(reader: &mut Reader<'a>) -> Result<Reported<'a>, Malformed> {
    let text = text(reader)?;
    let offset = reader.i64("error offset")?;
    reader.u8("error kind")?;
    failed_record(reader)?;
    Ok(Reported { text, offset })
}

/// The error of `look_back`: without the kind.
pub fn look_back_error(bytes: &[u8]) -> Result<Reported<'_>, Malformed> {
    let mut reader = Reader::new(bytes);
    let text = text(&mut reader)?;
    let offset = reader.i64("error offset")?;
    failed_record(&mut reader)?;
    reader.end("error")?;
    Ok(Reported { text, offset })
}

/// The error of `init`: only text.
pub fn init_error(bytes: &[u8]) -> Result<&[u8], Malformed> {
    let mut reader = Reader::new(bytes);
    let text = text(&mut reader)?;
    reader.end("error")?;
    Ok(text)
}

/// The official encoder writes the length unsigned, whatever the official decoder makes of it.
fn text<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], Malformed> {
    let len = reader.i16("error text")? as u16;
    reader.bytes(usize::from(len), "error text")
}

fn failed_record(reader: &mut Reader<'_>) -> Result<(), Malformed> {
    if reader.flag("key")? {
        sized(reader, "key")?;
    }
    sized(reader, "value")?;
    Ok(())
}

/// A guest's words for a message: the cause without the trace of lines behind it, bounded, without control characters.
pub fn words(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(&text[..text.len().min(4 * MAX_REPORT)]);
    let text = text.split("\n\nLocation:").next().unwrap_or("");
    let mut out = String::new();
    for c in text.trim().chars() {
        let c = if c.is_control() { ' ' } else { c };
        if out.len() + c.len_utf8() > MAX_REPORT {
            break;
        }
        out.push(c);
    }
    out
}

/// What a negative status of a transform, of `init` or of `look_back` means.
pub fn status(code: i32) -> &'static str {
    match code {
        -10 | -11 | -66 => "it could not decode its input (built for another version of the ABI?)",
        -22 | -77 => "it could not decode the records (built for another version of the ABI?)",
        -33 | -88 => "it could not encode its output",
        -44 => "it could not parse its parameters",
        -55 => "it wants a second topic to join, which is not supported",
        _ => "it failed without saying why",
    }
}
