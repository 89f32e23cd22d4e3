//! Alarms: records of `headwater-alarms`, and what is kept so that each is told once.
//!
//! A record and the state that says that it was told are in one frame: after any crash both are there or neither. The topic is
//! in the first lane, as all that begin with `headwater-` are unless the config says otherwise.

use super::{Pipeline, SinkId};
use crate::record::{Flags, RecordRef};
use crate::time::Now;
use crate::topic::TopicPart;

pub const ALARMS_TOPIC: &str = "headwater-alarms";

impl Pipeline {
    /// Tells an alarm of a sink, and keeps `state` of it under `key`. False: not now, because the disk is behind or there is
    /// no room for the topic.
    pub fn alarm(&mut self, now: Now, id: SinkId, record: &[u8], key: &[u8], state: Option<&[u8]>) -> bool {
        let Some(topic) = self.open_own(ALARMS_TOPIC) else { return false };
        let bytes = record.len() + key.len() + state.map_or(0, <[u8]>::len);
        if self.ring.begin_group(now.boot, bytes).is_err() {
            return false;
        }
        let flags = if now.trusted { Flags::default() } else { Flags::CLOCK_UNTRUSTED };
        let record = RecordRef { admitted: now.boot, flags, ..RecordRef::of(record) };
        let told = self.ring.append(now.boot, TopicPart { topic, partition: 0 }, &record).is_ok();
        if told {
            // Where the owner is full the next process may tell it once more.
            let _ = self.ring.put_state(now.boot, &self.sinks[id.0].owner, key, state);
        }
        self.ring.end_group(now.boot);
        told
    }
}
