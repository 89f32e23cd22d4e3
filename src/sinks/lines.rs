//! Sinks that write lines: the loop that `stdout` and `file` share.
//!
//! A record's value becomes one line; a line break inside a value is written as it is. What a turn has read is
//! written, then flushed (a file: synced), and only then does the cursor move: a crash repeats lines, it never loses
//! one. A sink of this kind has no markers, so "once" is promised only for what has been flushed.

use super::SinkError;
use super::shape::Shape;
use crate::config::model::SinkConfig;
use crate::hub::{Fate, Outlet, PartState, SinkOrder, Step, Tally, counters};
use crate::lane::LaneId;
use crate::limits::FRAME_RAW_TARGET;
use crate::record::RecordRef;
use crate::ring::{Frame, LanePos};

/// Where lines go.
pub trait Lines {
    /// What it writes to, for the status.
    fn describe(&self) -> String;
    /// Makes sure that it can be written to, before it is called up.
    async fn open(&mut self) -> Result<(), SinkError>;
    async fn write(&mut self, bytes: &[u8]) -> Result<(), SinkError>;
    /// After this the bytes are where they belong.
    async fn settle(&mut self) -> Result<(), SinkError>;
}

struct Turn {
    to: LanePos,
    tally: Tally,
    bytes: u64,
}

pub async fn run(config: &SinkConfig, mut outlet: Outlet, mut lines: impl Lines) -> Result<(), SinkError> {
    let mut shape = Shape::new(config, None, None, outlet.site());
    let lever = outlet.lever();
    let lanes = outlet.lanes();
    let mut text = Vec::new();
    lines.open().await?;
    outlet.report(PartState::Up { what: lines.describe() });
    loop {
        match outlet.order() {
            SinkOrder::Stop => return Ok(()),
            SinkOrder::Pause => {
                outlet.report(PartState::Paused);
                lever.changed().await;
                outlet.report(PartState::Up { what: lines.describe() });
                continue;
            }
            SinkOrder::Run | SinkOrder::Flush => {}
        }
        let mut moved = false;
        // A lane goes on when those before it have nothing left.
        for lane in &lanes {
            moved = turn(&mut outlet, *lane, &mut shape, &mut text, &mut lines).await?;
            if moved {
                break;
            }
        }
        if moved {
            tokio::task::yield_now().await;
            continue;
        }
        let ends: Vec<_> = lanes.iter().map(|lane| ((*lane).into(), outlet.cursor(*lane))).collect();
        tokio::select! {
            _ = lever.changed() => {}
            () = outlet.wait_any(&ends) => {}
        }
    }
}

/// Writes what the next frame of a lane holds; false at its end.
async fn turn(
    outlet: &mut Outlet,
    lane: LaneId,
    shape: &mut Shape,
    text: &mut Vec<u8>,
    lines: &mut impl Lines,
) -> Result<bool, SinkError> {
    let pos = outlet.cursor(lane);
    let done = match outlet.read(lane, pos).await {
        // A sink of another kind and this name may have split the lane: here the oldest part goes first.
        Step::End => return Ok(outlet.absorb(lane, Vec::new())),
        Step::Gap(gap) => Turn { to: gap.to, tally: Tally::default(), bytes: 0 },
        Step::Frame(frame) => {
            text.clear();
            let end = outlet.end(lane);
            let end = if frame.end().ordinal <= end.ordinal { frame.end() } else { end };
            let (tally, errors) = render(outlet, &frame, (lane, pos, end), shape, text);
            lines.write(text).await?;
            lines.settle().await?;
            outlet.count(counters::RULE_ERRORS, errors);
            outlet.tell_rules(shape.take_told());
            let bytes = text.len() as u64;
            if text.capacity() > 4 * FRAME_RAW_TARGET {
                // A rare huge record must not leave its size behind for good.
                *text = Vec::new();
            }
            Turn { to: end, tally, bytes }
        }
    };
    outlet.count(counters::SENT_BYTES, done.bytes);
    outlet.advance(lane, done.to, done.tally, done.bytes, &[]);
    Ok(true)
}

fn render(
    outlet: &Outlet,
    frame: &Frame,
    (lane, pos, end): (LaneId, LanePos, LanePos),
    shape: &mut Shape,
    text: &mut Vec<u8>,
) -> (Tally, u64) {
    let clock = outlet.clock(frame.boot());
    let (mut tally, mut errors) = (Tally::default(), 0);
    for entry in frame.entries_from(pos.seq).take_while(|entry| entry.ordinal < end.ordinal) {
        if outlet.is_missed(lane, entry.ordinal) {
            continue;
        }
        let mut render = || {
            let Some(topic) = outlet.topic_name(entry.part.topic) else { return Fate::Released };
            if outlet.is_expired(&entry, frame.boot()) {
                return Fate::Expired;
            }
            let before = text.len();
            if outlet.takes(&entry) {
                let record: RecordRef<'_> = entry.record;
                let time = record.event_time.or_else(|| clock.map(|c| c.wall(record.admitted)));
                errors += u64::from(shape.apply(topic.as_str(), record, time, false, &mut |shaped| {
                    if let Ok(shaped) = shaped {
                        text.extend_from_slice(shaped.value);
                        text.push(b'\n');
                    }
                }));
            }
            if text.len() == before { Fate::Filtered } else { Fate::Delivered }
        };
        let fate = render();
        match fate {
            Fate::Delivered => tally.delivered += 1,
            Fate::Filtered => tally.filtered += 1,
            Fate::Refused => tally.refused += 1,
            Fate::Expired => tally.expired += 1,
            Fate::Released => tally.released += 1,
        }
        // The cursor moves frame by frame.
        outlet.note(frame.lane(), &entry, frame.boot(), fate, false);
    }
    (tally, errors)
}
