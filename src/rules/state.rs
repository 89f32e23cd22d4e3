//! What rules keep between records: state entries in the ring, one for each thing that `by` tells apart.
//!
//! A rule keeps nothing in memory. What it knows of a sensor is read from the ring's newest view, changed and put back, in the frame
//! of the records that it made: after a power cut both are there or neither, so a window is neither lost nor doubled. When an
//! entry was touched stands first in it: where a rule's room is full, what was touched longest ago is forgotten, and counted. What
//! a rule holds of records that are nowhere else (open windows, a record that waits) is never forgotten: there what is new is an
//! error, and what there is stays as it was.
//!
//! ```text
//! entry   boot u32, boot clock i64 (big-endian: of two entries the greater one was touched later),
//!         postcard of (wall time if the clock was trusted, what the rule keeps)
//! ```
//!
//! Time between two moments is told by the boot clock where both are of one boot, by the wall clock where it was trusted both
//! times, and else not at all ([`Time::since`]): a rule then takes it for long.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_64;

use super::wasm::Instance;
use super::{Answer, Made, Reason, World};
use crate::name::Name;
use crate::record::RecordRef;
use crate::template::{Context, Template};
use crate::time::{BootTime, Now, Span, WallTime};

/// The longest key under which a rule keeps something; longer ones end in a hash.
pub const MAX_KEY: usize = 128;
const HASH_DIGITS: usize = 16;
/// The largest entry: a rule that kept one for each of a few things would have room for nothing else.
pub const MAX_ENTRY: usize = 12 * 1024;
/// Bytes of an entry that say when it was touched.
pub const AGE: usize = 12;

/// The clocks as rules see them.
#[derive(Clone, Copy, Debug)]
pub struct Time {
    pub now: Now,
    /// Which boot of the machine it is, as the ring counts them.
    pub boot: u32,
}

/// A moment that is kept over restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    pub boot: u32,
    pub at: BootTime,
    /// Where the clock was trusted.
    pub wall: Option<WallTime>,
}

impl Time {
    pub fn stamp(&self) -> Stamp {
        Stamp { boot: self.boot, at: self.now.boot, wall: self.now.trusted.then_some(self.now.wall) }
    }

    /// How long ago it was, never less than nothing; None: nobody can tell.
    pub fn since(&self, stamp: Stamp) -> Option<Span> {
        let ago = match (stamp.boot == self.boot, stamp.wall, self.now.trusted) {
            (true, ..) => self.now.boot - stamp.at,
            (false, Some(wall), true) => self.now.wall - wall,
            _ => return None,
        };
        Some(ago.max(Span::default()))
    }

    /// Whether at least this long has passed, as far as anybody can tell.
    pub fn is_past(&self, stamp: Stamp, span: Span) -> bool {
        self.since(stamp).is_none_or(|ago| ago >= span)
    }
}

/// A rule that keeps something.
pub trait Keeper {
    /// What tells its records apart; None: their key.
    fn by(&self) -> Option<&Template>;

    /// Renders what tells a record from others.
    fn key(&self, context: &Context<'_>, record: &RecordRef<'_>, out: &mut Vec<u8>) -> Result<(), Reason> {
        key_of(self.by(), context, record, out)
    }

    /// Whether it does something of its own when time has passed.
    fn has_timers(&self) -> bool {
        false
    }

    /// Whether what it keeps stands for records: then it is not forgotten to make room.
    fn holds(&self) -> bool {
        false
    }

    fn see(&self, time: Time, record: &RecordRef<'_>, kept: &mut Kept<'_>, made: &mut Made) -> Result<Answer, Reason>;

    /// What an entry asks for by now: makes records, puts the entry back or removes it, and says when it is to be looked at
    /// again ([`Kept::wake`]).
    fn fire(&self, _: Time, _: &mut Kept<'_>, _: &mut Made) -> Result<(), Reason> {
        Ok(())
    }

    /// Makes records of what an entry holds: the rule ends.
    fn end(&self, _: Time, _: &mut Kept<'_>, _: &mut Made) {}
}

/// What a rule keeps of one thing.
pub struct Kept<'a> {
    pub(super) rule: &'a Name,
    pub(super) key: &'a [u8],
    pub(super) world: &'a mut dyn World,
    pub(super) due: &'a mut Option<BootTime>,
    pub(super) forgotten: &'a mut u64,
    /// See [`Keeper::holds`].
    pub(super) holds: bool,
    /// Where a SmartModule runs.
    pub(super) instance: &'a mut Option<Box<Instance>>,
}

impl<'a> Kept<'a> {
    /// What tells it from others, as it was rendered.
    pub fn key(&self) -> &'a [u8] {
        self.key
    }

    /// What is kept, and when it was put. What cannot be read is taken for nothing.
    pub fn get<T: DeserializeOwned>(&self) -> Option<(Stamp, T)> {
        let (stamp, kept) = self.entry()?;
        Some((stamp, postcard::from_bytes(kept).ok()?))
    }

    /// When something was put, if anything is kept.
    pub fn touched(&self) -> Option<Stamp> {
        self.entry().map(|(stamp, _)| stamp)
    }

    /// The entry, with what the rule keeps still packed.
    fn entry(&self) -> Option<(Stamp, &[u8])> {
        let entry = self.world.state(self.rule, self.key)?;
        let (boot, rest) = entry.split_first_chunk()?;
        let (at, rest) = rest.split_first_chunk()?;
        let (wall, kept) = postcard::take_from_bytes(rest).ok()?;
        Some((Stamp { boot: u32::from_be_bytes(*boot), at: BootTime(i64::from_be_bytes(*at)), wall }, kept))
    }

    pub fn put<T: Serialize>(&mut self, time: Time, kept: &T) -> Result<(), Reason> {
        self.put_at(time.stamp(), kept)
    }

    /// As put at another moment than now.
    pub fn put_at<T: Serialize>(&mut self, stamp: Stamp, kept: &T) -> Result<(), Reason> {
        let key = self.key;
        let mut entry = stamp.boot.to_be_bytes().to_vec();
        entry.extend_from_slice(&stamp.at.0.to_be_bytes());
        let entry = postcard::to_extend(&(stamp.wall, kept), entry);
        let entry = entry.map_err(|_| "its state cannot be written")?;
        if entry.len() > MAX_ENTRY {
            if !self.holds {
                self.world.put_state(self.rule, key, None);
            }
            return Err(format!("its state of {} bytes is too large; {MAX_ENTRY} can be kept", entry.len()).into());
        }
        if self.world.put_state(self.rule, key, Some(&entry)) {
            return Ok(());
        }
        *self.forgotten += u64::from(self.world.forget_oldest(self.rule));
        if self.world.put_state(self.rule, key, Some(&entry)) {
            return Ok(());
        }
        if !self.holds {
            // An old one would be wrong from here on.
            self.world.put_state(self.rule, key, None);
        }
        Err("there is no room for its state".into())
    }

    pub fn remove(&mut self) {
        self.world.put_state(self.rule, self.key, None);
    }

    /// Something is to be done with it then, or later.
    pub fn wake(&mut self, at: BootTime) {
        *self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }
}

/// What `by` says of it, or its key, and not too long.
pub(super) fn key_of(
    by: Option<&Template>,
    context: &Context<'_>,
    record: &RecordRef<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Reason> {
    out.clear();
    match by {
        None => out.extend_from_slice(record.key.unwrap_or_default()),
        Some(by) if by.render(context, record, out) => {}
        Some(_) => return Err("its `by` has nothing to stand for".into()),
    }
    if out.len() > MAX_KEY {
        let hash = XxHash3_64::oneshot(out);
        out.truncate(MAX_KEY - HASH_DIGITS);
        out.extend_from_slice(format!("{hash:016x}").as_bytes());
    }
    Ok(())
}
