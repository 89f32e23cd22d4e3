//! `debounce`: passes only what has come to rest. Of records that follow one another within `quiet` the last one passes, once
//! nothing came for that long.
//!
//! With `field` it is that field's value which must rest: a record with the value that was passed last is dropped, one with
//! another value is held, and passes once the value has stayed for `quiet`, the newest record that had it. With `max_wait` a value
//! that never rests is passed that often.
//!
//! What is kept is the held record (key, value and time of the event; attributes are not kept), since when it waits, and the value
//! passed last. A record of more than 8 KiB cannot be held: the rule fails on it.

use serde::{Deserialize, Serialize};

use super::state::{Keeper, Kept, Stamp, Time};
use super::{Answer, Made, Reason};
use crate::json::{self, Path};
use crate::record::RecordRef;
use crate::template::Template;
use crate::time::{Span, WallTime};

const MAX_HELD: usize = 8 * 1024;
/// Of a field's value.
const MAX_FIELD: usize = 256;

#[derive(Clone, Debug, PartialEq)]
pub struct Debounce {
    pub by: Option<Template>,
    pub field: Option<Path>,
    pub quiet: Span,
    pub max_wait: Option<Span>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct State {
    held: Option<Held>,
    /// The field's value that was passed last.
    passed: Option<Vec<u8>>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Held {
    key: Option<Vec<u8>>,
    value: Vec<u8>,
    event_time: Option<WallTime>,
    /// The field's value, and since when it is there.
    field: Option<Vec<u8>>,
    rests_since: Stamp,
    waits_since: Stamp,
}

impl Debounce {
    fn field_of(&self, value: &[u8]) -> Result<Option<Vec<u8>>, Reason> {
        let Some(path) = &self.field else { return Ok(None) };
        match json::find_raw(value, path) {
            Ok(Some(raw)) if raw.len() <= MAX_FIELD => Ok(Some(raw.to_vec())),
            Ok(Some(raw)) => Err(format!("`{path}` has {} bytes; {MAX_FIELD} can be compared", raw.len()).into()),
            Ok(None) => Err(format!("there is no field `{path}`").into()),
            Err(error) => Err(error.to_string().into()),
        }
    }

    /// How long the held record is to wait yet; None: no longer.
    fn waits(&self, time: Time, held: &Held) -> Option<Span> {
        let left = |since, most: Span| {
            let ago = time.since(since)?;
            (ago < most).then(|| Span(most.0 - ago.0))
        };
        let rest = left(held.rests_since, self.quiet)?;
        match self.max_wait {
            Some(most) => left(held.waits_since, most).map(|wait| wait.min(rest)),
            None => Some(rest),
        }
    }
}

impl Keeper for Debounce {
    fn by(&self) -> Option<&Template> {
        self.by.as_ref()
    }

    fn has_timers(&self) -> bool {
        true
    }

    fn holds(&self) -> bool {
        true
    }

    fn end(&self, _: Time, kept: &mut Kept<'_>, made: &mut Made) {
        if let Some(held) = kept.get::<State>().and_then(|(_, state)| state.held) {
            made.push(held.key.as_deref(), held.event_time, |out| out.extend_from_slice(&held.value));
        }
    }

    fn see(&self, time: Time, record: &RecordRef<'_>, kept: &mut Kept<'_>, _: &mut Made) -> Result<Answer, Reason> {
        let size = record.key.map_or(0, <[u8]>::len) + record.value.len();
        if size > MAX_HELD {
            return Err(format!("a record of {size} bytes cannot be held; {MAX_HELD} can").into());
        }
        let field = self.field_of(record.value)?;
        let mut state = kept.get::<State>().map(|(_, state)| state).unwrap_or_default();
        if field.is_some() && field == state.passed {
            // It is back where it was.
            if state.held.take().is_some() {
                kept.put(time, &state)?;
            }
            return Ok(Answer::Drop);
        }
        let now = time.stamp();
        let before = state.held.take();
        let stays = before.as_ref().filter(|held| field.is_some() && held.field == field);
        let held = Held {
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.to_vec(),
            event_time: record.event_time,
            rests_since: stays.map_or(now, |held| held.rests_since),
            waits_since: before.as_ref().map_or(now, |held| held.waits_since),
            field,
        };
        match self.waits(time, &held) {
            Some(wait) => {
                state.held = Some(held);
                kept.put(time, &state)?;
                kept.wake(time.now.boot + wait);
                Ok(Answer::Drop)
            }
            None => {
                state.passed = held.field;
                if state.passed.is_some() {
                    kept.put(time, &state)?;
                } else {
                    kept.remove();
                }
                Ok(Answer::Pass)
            }
        }
    }

    fn fire(&self, time: Time, kept: &mut Kept<'_>, made: &mut Made) -> Result<(), Reason> {
        let Some((_, mut state)) = kept.get::<State>() else { return Ok(()) };
        let Some(held) = state.held.take() else { return Ok(()) };
        if let Some(wait) = self.waits(time, &held) {
            kept.wake(time.now.boot + wait);
            return Ok(());
        }
        let write = |out: &mut Vec<u8>| out.extend_from_slice(&held.value);
        made.push(held.key.as_deref(), held.event_time, write);
        if held.field.is_none() {
            kept.remove();
            return Ok(());
        }
        state.passed = held.field;
        kept.put(time, &state)
    }
}
