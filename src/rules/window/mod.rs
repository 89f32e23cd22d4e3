//! `window`: what a number was like over a stretch of time: one record for each window that ends, in place of those that came.
//!
//! Windows are tumbling (one behind another, `1m`), hopping (`10m` long, one every minute) or sessions (they end after a `gap`
//! without a record). Tumbling and hopping ones begin at whole multiples of their step since 1970, in UTC. A record belongs where
//! its event's time is (a field's, if the rule names one, or what its source said), else where the wall clock was when it came in, trusted or not: before the clock is set windows stand in
//! 1970, and end when it jumps.
//!
//! A window is closed by the first record of its sensor that lies `grace` or more behind its end, or by the clock: when that is past
//! the end and the grace, and no record of the sensor came in for a moment ([`QUIET`], or the grace). So records that come late by
//! less than the grace, or an old file read through, are counted where they belong. A record that comes later still, whose
//! window is closed, is late: the rule fails on it (see `on_error`), and it is counted. Which windows are closed is forgotten when
//! a sensor was silent for as long as a window and the grace.
//!
//! What comes out is one line of JSON:
//!
//! ```json
//! {"start":"2026-11-27T12:00:00.000000Z","end":"2026-11-27T12:01:00.000000Z","count":60,"wind_mean":7.25,"gust_max":13}
//! ```
//!
//! `count` is the number of records; a field that was missing or null in some is counted only where it was there, and one that was
//! missing in all of them is left out. Its key is what `by` says, its time the window's end.
//!
//! # State
//!
//! One entry for each thing that `by` tells apart: the newest time seen, and the open **panes**, each a step of a hopping window, all
//! of a tumbling one, or a session. A hopping window is put together of its panes when it ends.

mod measure;

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use self::measure::Cell;
pub use self::measure::{Function, Output};
use super::moment::moment_in;
use super::state::{Keeper, Kept, Time};
use super::{Answer, Made, Reason};
use crate::envelope::rfc3339;
use crate::json::{self, Path};
use crate::record::RecordRef;
use crate::template::Template;
use crate::time::{BootTime, Span, WallTime};

/// The clock closes a window when no record of its sensor came in for so long, or for as long as the grace.
const QUIET: Span = Span::from_secs(1);
/// In microseconds.
const TOGETHER: i64 = 100_000;
/// The most steps of one hopping window.
pub const MAX_STEPS: i64 = 64;
/// Open panes of one thing; more records out of order than that close the oldest.
const MAX_PANES: usize = 128;

#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    pub by: Option<Template>,
    pub kind: Kind,
    pub grace: Span,
    /// The field that says when a record happened; None: what its source said, else when it came in.
    pub time: Option<Path>,
    pub outputs: Vec<Output>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Of this length, one every step; the length is a multiple of the step, at most [`MAX_STEPS`] of them. Tumbling: both
    /// are the same.
    Steps { length: Span, step: Span },
    /// Ends when nothing came for so long.
    Session { gap: Span },
}

/// Sensors of one rule are looked at together.
fn round_up(at: BootTime) -> BootTime {
    BootTime(at.0.saturating_add(TOGETHER - 1).div_euclid(TOGETHER).saturating_mul(TOGETHER))
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct State {
    /// The newest time of a record, in microseconds.
    newest: i64,
    /// Windows that end here or before are closed.
    closed: i64,
    /// By their start.
    panes: Vec<Pane>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Pane {
    start: i64,
    /// Behind it: for a session, where it ends if nothing more comes.
    end: i64,
    count: u64,
    cells: Vec<Cell>,
}

impl Pane {
    fn merge(&mut self, other: &Self) {
        self.start = self.start.min(other.start);
        self.end = self.end.max(other.end);
        self.count = self.count.saturating_add(other.count);
        for (cell, other) in self.cells.iter_mut().zip(&other.cells) {
            cell.merge(other);
        }
    }
}

impl Window {
    fn empty(&self, start: i64, end: i64) -> Pane {
        let cell = |(at, output): (usize, &Output)| match self.shares(at) {
            Some(_) => Cell::Shared,
            None => Cell::new(output.function),
        };
        Pane { start, end, count: 0, cells: self.outputs.iter().enumerate().map(cell).collect() }
    }

    /// The percentile before this one that is of the same field: they have one sketch.
    fn shares(&self, at: usize) -> Option<usize> {
        let sketches = |output: &Output| matches!(output.function, Function::Quantile(_));
        let of = self.outputs.get(at).filter(|output| sketches(output))?;
        self.outputs[..at].iter().position(|other| sketches(other) && other.field == of.field)
    }

    /// Bytes that it keeps for each thing, about, at most.
    pub fn weight(&self) -> usize {
        let panes = match self.kind {
            Kind::Steps { length, step } => {
                let steps = length.0.saturating_add(self.grace.0) / step.0.max(1);
                usize::try_from(steps).unwrap_or(usize::MAX).saturating_add(1)
            }
            Kind::Session { .. } => 1,
        };
        let pane = self.empty(0, 0);
        panes.min(MAX_PANES) * (24 + pane.cells.iter().map(measure::weight).sum::<usize>())
    }

    /// The pane in which a moment lies, made if it is not open.
    fn pane<'s>(&self, state: &'s mut State, at: i64) -> &'s mut Pane {
        let (start, end) = match self.kind {
            Kind::Steps { step, .. } => {
                let start = at.div_euclid(step.0).saturating_mul(step.0);
                (start, start.saturating_add(step.0))
            }
            Kind::Session { gap } => (at, at.saturating_add(gap.0)),
        };
        let mut pane = self.empty(start, end);
        let is_session = matches!(self.kind, Kind::Session { .. });
        // A session takes in those that it touches.
        let touches =
            |open: &Pane| if is_session { open.start <= end && start <= open.end } else { open.start == start };
        state.panes.retain(|open| {
            let same = touches(open);
            if same {
                pane.merge(open);
            }
            !same
        });
        let place = state.panes.partition_point(|open| open.start < pane.start);
        state.panes.insert(place, pane);
        &mut state.panes[place]
    }

    /// The end of the last window that a pane is part of.
    fn last_end(&self, pane: &Pane) -> i64 {
        match self.kind {
            Kind::Steps { length, .. } => pane.start.saturating_add(length.0),
            Kind::Session { .. } => pane.end,
        }
    }

    /// The end of the next window to be closed.
    fn next_end(&self, state: &State) -> Option<i64> {
        match self.kind {
            Kind::Session { .. } => state.panes.iter().map(|pane| pane.end).min(),
            Kind::Steps { step, .. } => {
                let first = state.panes.iter().map(|pane| pane.end).find(|end| *end > state.closed);
                let more = state.closed.saturating_add(step.0);
                let open = state.panes.iter().any(|pane| self.last_end(pane) > state.closed);
                match first {
                    // A pane whose own end is closed is part of windows that are not.
                    _ if open && state.panes.first().is_some_and(|pane| pane.end <= state.closed) => Some(more),
                    first => first,
                }
            }
        }
    }

    /// Closes windows that end at `until` or before.
    fn close(&self, state: &mut State, until: i64, key: &[u8], made: &mut Made) {
        while let Some(end) = self.next_end(state).filter(|end| *end <= until) {
            let start = match self.kind {
                Kind::Steps { length, .. } => end.saturating_sub(length.0),
                Kind::Session { .. } => i64::MIN,
            };
            let mut whole: Option<Pane> = None;
            for pane in &state.panes {
                let part = match self.kind {
                    Kind::Steps { .. } => pane.start >= start && pane.end <= end,
                    Kind::Session { .. } => pane.end == end,
                };
                if part {
                    match &mut whole {
                        None => whole = Some(pane.clone()),
                        Some(whole) => whole.merge(pane),
                    }
                }
            }
            state.closed = state.closed.max(end);
            if let Some(mut whole) = whole.filter(|whole| whole.count > 0) {
                if let Kind::Steps { .. } = self.kind {
                    (whole.start, whole.end) = (start, end);
                }
                self.write(&whole, key, made);
            }
            let closed = state.closed;
            match self.kind {
                Kind::Steps { .. } => state.panes.retain(|pane| self.last_end(pane) > closed),
                Kind::Session { .. } => state.panes.retain(|pane| pane.end > end),
            }
        }
    }

    fn write(&self, whole: &Pane, key: &[u8], made: &mut Made) {
        made.push(Some(key).filter(|key| !key.is_empty()), Some(WallTime(whole.end)), |out| {
            let mut text = String::from("{");
            for (name, at) in [("start", whole.start), ("end", whole.end)] {
                // Times that no calendar has are left out.
                if let Some(time) = rfc3339(WallTime(at)) {
                    let _ = write!(text, "\"{name}\":\"{time}\",");
                }
            }
            let _ = write!(text, "\"count\":{}", whole.count);
            out.extend_from_slice(text.as_bytes());
            for (at, output) in self.outputs.iter().enumerate() {
                let cell = &whole.cells[self.shares(at).unwrap_or(at)];
                let before = out.len();
                out.push(b',');
                json::write_string(output.name.as_bytes(), out);
                out.push(b':');
                if !cell.write(output.function, out) {
                    out.truncate(before);
                }
            }
            out.push(b'}');
        });
    }

    fn length(&self) -> Span {
        match self.kind {
            Kind::Steps { length, .. } => length,
            Kind::Session { gap } => gap,
        }
    }

    /// How long it is known which windows of a silent sensor are closed.
    fn memory(&self) -> Span {
        Span(self.length().0.saturating_add(self.grace.0).saturating_add(QUIET.0))
    }

    /// When the clock may close the next window: past its end, and nothing came in for a moment.
    fn wake(&self, time: Time, state: &State, kept: &mut Kept<'_>) {
        let Some(end) = self.next_end(state) else { return };
        let left = end.saturating_add(self.grace.0).saturating_sub(time.now.wall.0).max(0);
        kept.wake(round_up(time.now.boot + Span(left).max(self.grace.max(QUIET))));
    }

    /// Whether what is kept is of a clock that has nothing to do with the one that there is: of another boot when nobody knows how
    /// long ago that was, or of before it was set back.
    fn is_lost(&self, time: Time, kept: &Kept<'_>) -> bool {
        let Some(touched) = kept.touched() else { return false };
        let ahead = time.now.wall.0.saturating_add(self.length().0).saturating_add(self.grace.0);
        time.since(touched).is_none() || time.now.trusted && touched.wall.is_some_and(|wall| wall.0 > ahead)
    }
}

impl Keeper for Window {
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
        if let Some((_, mut state)) = kept.get::<State>() {
            self.close(&mut state, i64::MAX, kept.key(), made);
        }
    }

    fn see(&self, time: Time, record: &RecordRef<'_>, kept: &mut Kept<'_>, made: &mut Made) -> Result<Answer, Reason> {
        let at = match &self.time {
            Some(field) => moment_in(record.value, field)?.0,
            None => record.event_time.unwrap_or(time.now.wall).0,
        };
        let mut state = kept
            .get::<State>()
            .map_or_else(|| State { newest: i64::MIN, closed: i64::MIN, panes: Vec::new() }, |(_, state)| state);
        let (key, values) = (kept.key(), measure::values(&self.outputs, record.value)?);
        if self.is_lost(time, kept) {
            // Its windows were of a clock that is not this one.
            self.close(&mut state, i64::MAX, key, made);
            (state.newest, state.closed) = (i64::MIN, i64::MIN);
        }
        // A time from the future would close what is still to come.
        let newest_of = |newest: i64| match time.now.trusted {
            true => newest.min(time.now.wall.0.saturating_add(self.grace.0)),
            false => newest,
        };
        if self.is_late(&state, newest_of(state.newest).saturating_sub(self.grace.0), at) {
            return Err("it comes late: its window is closed".into());
        }
        state.newest = state.newest.max(at);
        // What the record closes first, so that a hopping window does not wait for its own end.
        let pane = self.pane(&mut state, at);
        pane.count = pane.count.saturating_add(1);
        for ((cell, output), value) in pane.cells.iter_mut().zip(&self.outputs).zip(&values) {
            if let Some(value) = value {
                cell.add(output.function, value);
            }
        }
        let newest = newest_of(state.newest);
        self.close(&mut state, newest.saturating_sub(self.grace.0), key, made);
        while state.panes.len() > MAX_PANES {
            let first = self.next_end(&state).unwrap_or(i64::MAX);
            self.close(&mut state, first, key, made);
        }
        self.wake(time, &state, kept);
        kept.put(time, &state)?;
        Ok(Answer::Made)
    }

    fn fire(&self, time: Time, kept: &mut Kept<'_>, made: &mut Made) -> Result<(), Reason> {
        let Some((touched, mut state)) = kept.get::<State>() else { return Ok(()) };
        let (quiet, ago) = (self.grace.max(QUIET), time.since(touched));
        let key = kept.key();
        if self.is_lost(time, kept) {
            self.close(&mut state, i64::MAX, key, made);
            kept.remove();
            return Ok(());
        }
        let until = time.now.wall.0.saturating_sub(self.grace.0);
        let due = self.next_end(&state).is_some_and(|end| end <= until);
        if let Some(ago) = ago.filter(|ago| due && *ago < quiet) {
            kept.wake(round_up(time.now.boot + Span(quiet.0 - ago.0)));
            return Ok(());
        }
        if due {
            self.close(&mut state, until, key, made);
            kept.put_at(touched, &state)?;
        }
        if !state.panes.is_empty() {
            self.wake(time, &state, kept);
        } else if let Some(ago) = ago.filter(|ago| *ago < self.memory()) {
            kept.wake(round_up(time.now.boot + Span(self.memory().0 - ago.0)));
        } else {
            kept.remove();
        }
        Ok(())
    }
}

impl Window {
    /// Whether all windows that a moment belongs to are closed, or would be if there were any: they end at `until` or before.
    fn is_late(&self, state: &State, until: i64, at: i64) -> bool {
        let closed = state.closed.max(until);
        match self.kind {
            Kind::Steps { length, step } => {
                let start = at.div_euclid(step.0).saturating_mul(step.0);
                start.saturating_add(length.0) <= closed
            }
            Kind::Session { gap } => {
                let touches = state.panes.iter().any(|pane| pane.start <= at.saturating_add(gap.0) && at <= pane.end);
                !touches && at.saturating_add(gap.0) <= closed
            }
        }
    }
}
