//! `array-map-json`: each item of a JSON array becomes a record's value, written anew, and has no key. An empty array
//! makes none; a value that is no array fails.

use serde_json::Value;

use super::{Failure, bounded, parse};

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ArrayMapJson;

impl ArrayMapJson {
    pub fn apply(&self, value: &[u8], out: &mut Vec<u8>, emit: &mut dyn FnMut(&[u8])) -> Result<(), Failure> {
        let Value::Array(items) = parse(value)? else { return Err(Failure::NoArray) };
        // All are written before the first is given away: a record makes all of its records or none.
        let mut ends = Vec::with_capacity(items.len());
        for item in items {
            let start = out.len();
            serde_json::to_writer(&mut *out, &item).map_err(|_| Failure::TooLong)?;
            bounded(out.len() - start)?;
            ends.push(out.len());
        }
        let mut start = 0;
        for end in ends {
            emit(&out[start..end]);
            start = end;
        }
        Ok(())
    }
}
