//! From a ring in memory to the one on the disk: records that some sink has not passed, under new offsets, and what the
//! sources know of where they stand.
//!
//! Sinks begin on the disk where their cursors are there. Of several sinks, those that had passed more in memory get what
//! lies between again: that is said. Frames are taken one at a time; the memory is given back when all of it is on the disk.

use std::time::Duration;

use super::clock::Clock;
use super::disk::{FileDisk, SharedMemDisk};
use crate::config::Config;
use crate::hub::{Hub, PartState};
use crate::lane::LaneId;
use crate::pipeline::{Pipeline, note_sink};
use crate::ring::{AppendError, Disk, Entry, Health, LanePos, OwnerKind, ReadStep, Ring, drive, execute};
use crate::time::BootTime;
use crate::topic::TopicPart;

/// How long to wait before a disk that took nothing is asked again.
const RETRY: Duration = Duration::from_millis(20);

/// What was carried over.
#[derive(Debug, Default)]
struct Carried {
    records: u64,
    /// Of them, those that a sink had passed.
    again: u64,
    /// That the ring on the disk did not take: larger than its records may be, or one topic too many.
    refused: u64,
}

/// The hub's ring is in `memory` and closed; nothing else uses it any more.
pub(super) fn over(hub: &Hub, mut memory: SharedMemDisk, to: &mut Ring, config: &Config) -> PartState {
    let mut disk = FileDisk::new(&config.node.data_dir, config.ring.keep_free);
    let (now, clock) = (hub.now(), Clock::default());
    // A sink that is new there is to get what comes over.
    config.sinks.iter().for_each(|sink| note_sink(to, now.boot, &sink.name));
    let carried = hub.with_pipeline(|from| {
        let mut carried = Carried::default();
        for lane in 0..from.lanes() as u8 {
            carry_lane(from, LaneId(lane), &mut memory, to, &mut disk, &clock, &mut carried);
        }
        carry_state(from.ring(), to, now.boot);
        let last = to.last_ticket();
        while to.settled() < last && !matches!(to.health(), Health::Failed(_)) {
            to.hurry(clock.now().boot);
            if drive(to, &mut disk, clock.now().boot) == 0 {
                std::thread::sleep(RETRY);
            }
        }
        carried
    });
    let Carried { records, again, refused } = carried;
    let mut text = format!("the disk can be used again: {records} records that were in memory are on it now");
    if again > 0 {
        text += &format!("; {again} of them had been sent by one sink and not by another, and are sent again");
    }
    if refused > 0 {
        text += &format!("; {refused} could not be: too large, of a topic too many, or the disk failed again");
    }
    if again + refused > 0 { PartState::warn(text) } else { PartState::up(text) }
}

fn carry_lane(
    from: &mut Pipeline,
    lane: LaneId,
    memory: &mut dyn Disk,
    to: &mut Ring,
    disk: &mut dyn Disk,
    clock: &Clock,
    carried: &mut Carried,
) {
    let cursors = from.cursors(lane);
    let oldest = from.ring().stats().lanes[lane.index()].oldest;
    let first = cursors.iter().min().copied().unwrap_or(oldest).max(oldest);
    let most = cursors.iter().max().copied().unwrap_or(LanePos::default()).ordinal;
    let mut reader = from.ring().lane_reader(lane, first);
    loop {
        match from.ring_mut().read_lane(&mut reader) {
            ReadStep::Frame(frame) => {
                for entry in frame.entries_from(reader.pos.seq) {
                    match put(from.ring(), lane, &entry, to, disk, clock) {
                        true => carried.records += 1,
                        false => carried.refused += 1,
                    }
                    carried.again += u64::from(entry.ordinal < most);
                }
                reader.pos = frame.end();
            }
            ReadStep::Gap(_) => {}
            ReadStep::Wait => {
                let now = clock.now().boot;
                let mut any = false;
                while let Some(command) = from.ring_mut().poll(now) {
                    let done = execute(command, memory);
                    from.ring_mut().complete(now, done);
                    any = true;
                }
                if !any {
                    // A read whose answer nobody brings: the process that asked for it is over.
                    return;
                }
            }
            ReadStep::End => return,
        }
    }
}

/// One record, in a topic of the same name; false: it cannot be taken.
fn put(from: &Ring, lane: LaneId, entry: &Entry<'_>, to: &mut Ring, disk: &mut dyn Disk, clock: &Clock) -> bool {
    let Some(topic) = from.topic(entry.part.topic) else { return false };
    let lane = from.lane_name(lane).map_or(LaneId::default(), |name| to.lane_named(&name));
    let have = to.topic_id(topic.name.as_str());
    let Ok(id) = have.map_or_else(|| to.open_topic(&topic.name, lane, topic.partitions.len() as u8), Ok) else {
        return false;
    };
    let part = TopicPart { topic: id, partition: entry.part.partition };
    loop {
        match to.append(clock.now().boot, part, &entry.record) {
            Ok(_) => return true,
            Err(AppendError::Busy) => {
                let now = clock.now().boot;
                to.hurry(now);
                if drive(to, disk, now) == 0 {
                    if let Health::Failed(_) = to.health() {
                        // What is left is counted as refused.
                        return false;
                    }
                    std::thread::sleep(RETRY);
                }
            }
            Err(AppendError::TooLarge { .. } | AppendError::NoTopic(_)) => return false,
        }
    }
}

/// Where sources and rules stand, where the disk does not know better: of two checkpoints of one file nobody can say which
/// covers more, and the older one only brings lines again. Consumers' offsets are those of the ring that they were given in.
fn carry_state(from: &Ring, to: &mut Ring, now: BootTime) {
    for kind in [OwnerKind::Source, OwnerKind::Rule] {
        for owner in from.owners(kind) {
            for (key, value) in from.states(&owner) {
                if to.state(&owner, &key).is_none() {
                    // A full owner goes without: its peer then sends again what it must.
                    let _ = to.put_state(now, &owner, &key, Some(&value));
                }
            }
        }
    }
}
