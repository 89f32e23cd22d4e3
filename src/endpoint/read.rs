//! Slices of a partition, as batches.

use crate::codec::batch::{self, NO_TIME, Served};
use crate::hub::{PartStep, Store};
use crate::ring::{Frame, PartitionInfo};
use crate::topic::TopicPart;

/// What stands at an offset.
#[derive(Debug)]
pub enum Slice {
    /// Batches, the first of which holds the offset asked for; `next` is one past the last whole one.
    Batches { bytes: Vec<u8>, next: u64 },
    /// Nothing durable there yet.
    End,
    /// The offset is gone; reading can go on at `resume`.
    Gone { resume: u64 },
}

/// How a slice begins and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// As a real SPU's log: from the batch that holds the offset on, cut at the limit wherever that is (with a limit of
    /// 61, one header and its record count).
    Anywhere,
    /// As many whole batches as fit the limit, at least one, from the one that holds the offset on.
    Whole,
    /// The same, with nothing below the offset: what has been given out is not given again. (Where the ring has put small
    /// frames together since, the batch that holds the offset now may begin before it.)
    Onward,
}

/// Reads batches from `from` on.
pub async fn slice(store: &Store, part: TopicPart, from: u64, limit: usize, cut: Cut) -> Slice {
    let mut bytes = Vec::new();
    let (mut next, mut floor) = (from, if cut == Cut::Onward { from } else { 0 });
    loop {
        match store.read(part, next).await {
            PartStep::Frame(frame) => {
                let before = next;
                let full = take_frame(store, &frame, (part, floor), &mut next, limit, cut, &mut bytes);
                floor = next;
                // A frame without the offset would be asked for again, for ever.
                if full || next == before {
                    break;
                }
            }
            PartStep::Gone { resume } if bytes.is_empty() => return Slice::Gone { resume },
            PartStep::Gone { .. } | PartStep::End => break,
        }
    }
    if bytes.is_empty() && next == from {
        return Slice::End;
    }
    if cut == Cut::Anywhere {
        cut_off(&mut bytes, limit);
    }
    Slice::Batches { bytes, next }
}

/// Gives back the room of what is cut off: an answer may hold hundreds of slices of a few bytes, each of a whole batch.
fn cut_off(bytes: &mut Vec<u8>, limit: usize) {
    bytes.truncate(limit);
    bytes.shrink_to_fit();
}

/// Appends the frame's batches that end beyond `next`, without what is below `floor`; true when there is no room for more.
fn take_frame(
    store: &Store,
    frame: &Frame,
    (part, floor): (TopicPart, u64),
    next: &mut u64,
    limit: usize,
    cut: Cut,
    out: &mut Vec<u8>,
) -> bool {
    let clock = store.clock(frame.boot());
    let records = frame.entries_of(part, floor).map(|entry| {
        let time = entry.record.event_time.or_else(|| clock.map(|c| c.wall(entry.record.admitted)));
        let time_ms = time.map_or(NO_TIME, |t| t.0.div_euclid(1000).max(NO_TIME));
        Served { offset: entry.offset, time_ms, record: entry.record }
    });
    let mut full = false;
    batch::encode(records, out, |out, run| {
        // A frame is read from its beginning where one may be, so that its batches are cut the same way whatever is asked
        // for.
        if run.end <= *next {
            out.truncate(run.at);
            return true;
        }
        if cut != Cut::Anywhere && run.at > 0 && out.len() > limit {
            out.truncate(run.at);
            full = true;
            return false;
        }
        *next = run.end;
        full = out.len() >= limit;
        !full
    });
    full
}

/// The partition's numbers, if it is still the same topic.
pub fn partition(store: &Store, topic: &str, part: TopicPart) -> Option<PartitionInfo> {
    let info = store.topic(topic).filter(|t| t.id == part.topic)?;
    info.partitions.get(usize::from(part.partition)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_is_cut_off_nothing_is_held() {
        for limit in [0, 61, 100_000] {
            let mut bytes = vec![7; 100_000];
            cut_off(&mut bytes, limit);
            assert_eq!((bytes.len(), bytes.capacity() <= limit + 64), (limit, true));
        }
    }
}
