//! How old what waits is, and which of it is not worth sending any more.
//!
//! What waits longest for a sink is looked for where its cursors are, past records that it does not want. That is read as
//! everything is, and noted nowhere: the account is of what a sink itself has read. Of each stream the one record is known
//! until the cursor has passed it, so a sink before a closed link costs one look into the ring.

use super::{Pipeline, SinkId, Stream, StreamId};
use crate::record::Flags;
use crate::ring::{Entry, LanePos, ReadStep};
use crate::time::{Ages, BootTime, Now, Span};
use crate::topic::TopicPart;

/// Frames without a record that a sink wants are stepped over, so many in one look.
const MAX_STEPS: usize = 16;

/// How long the record has waited that waits longest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waits {
    /// None: nothing waits. What is of another boot, without clocks to tell its age, has waited since this one began at least.
    pub longest: Option<Span>,
    /// Of such a record nobody knows how much longer.
    pub unsure: bool,
    /// There is more to look at, and nothing was found so far.
    pub more: bool,
}

/// The disk has to be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unread;

/// The records that wait longest, one for each stream of a sink.
#[derive(Clone, Debug, Default)]
pub struct Heads(Vec<Head>);

#[derive(Clone, Copy, Debug)]
struct Head {
    of: StreamId,
    /// Nothing that is wanted waits below.
    pos: LanePos,
    /// What stands there, if it was found.
    found: Option<Found>,
}

/// What one must know of a record to say whether it is still to be sent.
#[derive(Clone, Copy, Debug)]
struct Found {
    part: TopicPart,
    offset: u64,
    flags: Flags,
    boot: u32,
    admitted: BootTime,
}

impl Found {
    fn of(entry: &Entry<'_>, boot: u32) -> Self {
        let Entry { part, offset, record, .. } = entry;
        Self { part: *part, offset: *offset, flags: record.flags, boot, admitted: record.admitted }
    }
}

impl Pipeline {
    /// How old what was written in a boot is.
    pub fn ages(&self, now: Now, boot: u32) -> Ages {
        Ages::new(now, boot == self.ring.boot(), || self.ring.clock(boot))
    }

    /// Whether a record marked as worthless once a newer one exists has been followed by a newer one.
    pub fn is_superseded(&self, entry: &Entry<'_>) -> bool {
        self.has_newer(&Found::of(entry, 0))
    }

    fn has_newer(&self, found: &Found) -> bool {
        let (part, next) = (found.part, found.offset + 1);
        found.flags.has(Flags::SUPERSEDED_BY_NEWER)
            && self
                .ring
                .topic(part.topic)
                .is_some_and(|info| info.partitions.get(part.partition as usize).is_some_and(|p| p.durable_end > next))
    }

    /// Whether a record is older than its topic allows. Only where its age is known. The clocks are asked only where there is
    /// a limit.
    pub fn is_expired(&self, now: impl FnOnce() -> Now, entry: &Entry<'_>, boot: u32) -> bool {
        self.is_too_old(now, &Found::of(entry, boot))
    }

    fn is_too_old(&self, now: impl FnOnce() -> Now, found: &Found) -> bool {
        let route = self.routes.get(found.part.topic.0 as usize).and_then(Option::as_ref);
        let Some(most) = route.and_then(|route| route.max_age) else { return false };
        self.ages(now(), found.boot).of(found.admitted).is_some_and(|age| age > most)
    }

    /// How long the record has waited that waits longest for a sink. Where that is not known yet: look again when the disk has
    /// answered.
    pub fn longest_wait(&mut self, now: Now, id: SinkId, heads: &mut Heads) -> Result<Waits, Unread> {
        let mut waits = Waits::default();
        let streams: Vec<Stream> = self.ring.lane_order().into_iter().flat_map(|lane| self.streams(id, lane)).collect();
        heads.0.retain(|head| streams.iter().any(|stream| StreamId::from(stream) == head.of));
        for stream in &streams {
            let of = StreamId::from(stream);
            let known = heads.0.iter().position(|head| head.of == of).unwrap_or(heads.0.len());
            if known == heads.0.len() {
                heads.0.push(Head { of, pos: stream.cursor, found: None });
            }
            let head = &mut heads.0[known];
            if head.pos.ordinal < stream.cursor.ordinal {
                (head.pos, head.found) = (stream.cursor, None);
            }
            let end = stream.to.unwrap_or_else(|| self.ring.lane_shown(of.lane));
            waits.more |= self.find(now, id, head, end)?;
            if let Some(found) = head.found {
                let age = self.ages(now, found.boot).of(found.admitted);
                waits.unsure |= age.is_none();
                waits.longest = waits.longest.max(age.or(Some(Span(now.boot.0))));
            }
        }
        Ok(waits)
    }

    /// Moves a head to the first record that waits. True: that may stand beyond what one look sees.
    fn find(&mut self, now: Now, id: SinkId, head: &mut Head, end: LanePos) -> Result<bool, Unread> {
        let lane = head.of.lane;
        if head.pos.ordinal < self.ring.lane_oldest(lane)
            || head.found.is_some_and(|found| !self.waits(now, id, &found))
        {
            head.found = None;
        }
        for _ in 0..MAX_STEPS {
            if head.found.is_some() || head.pos.ordinal >= end.ordinal {
                return Ok(false);
            }
            let mut reader = self.ring.lane_reader(lane, head.pos);
            head.pos = match self.ring.read_lane(&mut reader) {
                ReadStep::Wait => return Err(Unread),
                ReadStep::End => return Ok(false),
                ReadStep::Gap(gap) => gap.to,
                ReadStep::Frame(frame) => {
                    let entries = frame.entries_from(head.pos.seq).take_while(|entry| entry.ordinal < end.ordinal);
                    let with = |entry: Entry<'_>| (entry.seq, entry.ordinal, Found::of(&entry, frame.boot()));
                    let wanted = entries
                        .map(with)
                        .find(|(_, ordinal, found)| self.waits(now, id, found) && !self.is_missed(id, lane, *ordinal));
                    head.found = wanted.map(|(.., found)| found);
                    wanted.map_or(frame.end(), |(seq, ordinal, _)| LanePos { seq, ordinal })
                }
            };
        }
        Ok(head.found.is_none())
    }

    fn waits(&self, now: Now, id: SinkId, found: &Found) -> bool {
        self.wants(id, found.part.topic) && !self.has_newer(found) && !self.is_too_old(|| now, found)
    }
}
