//! Feeding one stream of a lane: records from the outlet through the sink's rules into `forward`'s batches.

use std::sync::Arc;

use super::buffers::Buffers;
use super::contents::content;
use super::encode::RECORD_OVERHEAD;
use super::expect;
use crate::config::model::{FluvioSink, PartitionChoice, SinkConfig};
use crate::forward::{
    self, Forward, Offer, OnLoss, Options, Out, Placing, Pos, Spread, TargetIx, Took, TopicIx, Unsent,
};
use crate::hub::{Fate, Outlet, Step, counters};
use crate::pipeline::{Refusal, Stream, StreamId, When};
use crate::ring::{Entry, Frame, LanePos, RingId};
use crate::sinks::shape::Shape;
use crate::time::{Ages, ClockSync, Span};
use crate::topic::{TopicId, TopicName};

/// Records offered before others get their turn.
const TURN: usize = 4096;

/// Why an upstream refuses a record of which it was asked: the one error of the protocol that is about a record. What others
/// say (a partition that is full, a SmartModule that fails) may pass, and waiting loses nothing.
const TOO_LARGE: &str = "the upstream takes no record of this size (MessageTooLarge)";

/// What a turn of feeding came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fed {
    /// There is more to offer right away.
    More,
    /// A gap was stepped over: it must be durable before anything from behind it is sent.
    Gap,
    /// Nothing durable beyond the read position.
    End,
    /// `forward` takes no more for now.
    Full,
    /// As many dead letters wait as there is room for.
    Letters,
    /// The partitions of this upstream topic must be told first.
    Needs(TopicIx),
}

/// One output that was copied out of the rules' scratch.
struct Item {
    target: TargetIx,
    key: Option<std::ops::Range<usize>>,
    value: std::ops::Range<usize>,
}

/// What became of one record.
enum Offered {
    Taken(Took),
    /// It is in a gap that the sink has met.
    Missed,
    Full,
    Needs(TopicIx),
}

/// What holds for all records of a frame.
struct Written {
    boot: u32,
    ring: u128,
    clock: Option<ClockSync>,
    /// Where somebody asks how old they are.
    ages: Option<Ages>,
}

impl Written {
    fn when(&self, entry: &Entry<'_>) -> When {
        When { boot: self.boot, at: entry.record.admitted }
    }
}

pub struct Feed {
    pub of: StreamId,
    /// It is the lane's newest.
    pub newest: bool,
    /// The ring had nothing more for it when it was asked last.
    pub ended: bool,
    /// Nothing is left of it, and no older stream is there to take its place.
    pub over: bool,
    pub forward: Forward,
    pub buffers: Buffers,
    frame: Option<Arc<Frame>>,
    shape: Shape,
    /// What is sent later than this after its admission is marked.
    mark: Option<Span>,
    /// Where a local topic goes, while the upstream topic is the local one.
    same: Vec<(TopicId, TopicIx)>,
    arena: Vec<u8>,
    items: Vec<Item>,
    outs: Vec<Out>,
    /// Why a record could not be given a place, for the status.
    pub refused: Option<String>,
}

impl Feed {
    pub fn new(config: &SinkConfig, sink: &FluvioSink, outlet: &Outlet, stream: &Stream, seed: u64) -> Self {
        let of = StreamId::from(stream);
        let options = Options {
            ring_id: outlet.ring_id().0,
            former: outlet.former_rings(),
            forgotten_below: outlet.forgotten_below(),
            sink: config.name.clone(),
            lane: of.lane,
            stream: forward::Stream { number: stream.number, start: stream.from.seq, unstarted: stream.unstarted },
            max_batch: sink.max_batch,
            spread: match sink.partition {
                PartitionChoice::ByKey => Spread::Records,
                PartitionChoice::PerNode => Spread::of_node(&outlet.site().0),
                PartitionChoice::Number(partition) => Spread::One(partition),
            },
            window: 2 * sink.max_batch,
            grace: sink.grace,
            retry: sink.retry,
            search_max: sink.search_max,
            only_writer: sink.only_writer,
            on_loss: if sink.resend_on_loss { OnLoss::Resend } else { OnLoss::Continue },
            committed: !sink.acks_leader,
            seed,
        };
        let cursor = Pos { seq: stream.cursor.seq, ordinal: stream.cursor.ordinal };
        let end = outlet.end(of);
        Self {
            of,
            newest: stream.to.is_none(),
            ended: false,
            over: false,
            forward: Forward::new(options, cursor, end.seq, outlet.states()),
            buffers: Buffers::default(),
            frame: None,
            shape: Shape::new(config, Some(&sink.upstream_topic), sink.upstream_key.as_ref(), outlet.site()),
            mark: sink.mark_backlog,
            same: Vec::new(),
            arena: Vec::new(),
            items: Vec::new(),
            outs: Vec::new(),
            refused: None,
        }
    }

    /// Whether it is through with its stream: everything up to its end is settled.
    pub fn is_through(&self, outlet: &Outlet) -> bool {
        let end = outlet.end(self.of).ordinal;
        !self.newest && !self.over && self.forward.cursor().ordinal >= end && self.forward.is_settled()
    }

    /// Everything below it is accounted for.
    pub fn cursor(&self) -> LanePos {
        let Pos { seq, ordinal } = self.forward.cursor();
        LanePos { seq, ordinal }
    }

    pub fn read_pos(&self) -> LanePos {
        let Pos { seq, ordinal } = self.forward.read_pos();
        LanePos { seq, ordinal }
    }

    /// Offers what stands at the read position, up to a frame's worth.
    pub async fn turn(&mut self, outlet: &mut Outlet) -> Fed {
        let pos = self.read_pos();
        let end = outlet.end(self.of);
        self.forward.set_ring_end(end.seq);
        self.ended = false;
        let inside = pos.ordinal < end.ordinal;
        let holds = |f: &Arc<Frame>| inside && f.first().seq <= pos.seq && pos.seq < f.end().seq;
        let frame = match self.frame.take().filter(holds) {
            Some(frame) => frame,
            None => match outlet.read(self.of, pos).await {
                Step::Frame(frame) => frame,
                Step::Gap(gap) => {
                    self.forward.skip(Pos { seq: gap.to.seq, ordinal: gap.to.ordinal });
                    return Fed::Gap;
                }
                Step::End => {
                    if outlet.is_at_end(self.of, pos) {
                        self.forward.skip(Pos { seq: end.seq, ordinal: end.ordinal });
                    }
                    self.ended = true;
                    self.forward.caught_up();
                    if self.forward.held() == 0 {
                        self.rest();
                    }
                    return Fed::End;
                }
            },
        };
        let fed = self.offer_frame(outlet, &frame, pos.seq, end.ordinal);
        if fed != Fed::End {
            self.frame = Some(frame);
            return fed;
        }
        let end = if frame.end().ordinal <= end.ordinal { frame.end() } else { end };
        self.forward.skip(Pos { seq: end.seq, ordinal: end.ordinal });
        Fed::More
    }

    /// Nothing waits: give back what was needed while something did.
    pub fn rest(&mut self) {
        self.frame = None;
        self.buffers.rest();
        self.arena = Vec::new();
    }

    /// Offers a frame's records from the seq `from` up to the ordinal `end`; End when all are taken.
    fn offer_frame(&mut self, outlet: &Outlet, frame: &Frame, from: u64, end: u64) -> Fed {
        let fed = self.offer_entries(outlet, frame, from, end);
        outlet.tell_rules(self.shape.take_told());
        fed
    }

    fn offer_entries(&mut self, outlet: &Outlet, frame: &Frame, from: u64, end: u64) -> Fed {
        let (boot, ring) = (frame.boot(), frame.ring_id().0);
        let written = Written { boot, ring, clock: outlet.clock(boot), ages: self.mark.map(|_| outlet.ages(boot)) };
        let mut room = false;
        for (n, entry) in frame.entries_from(from).take_while(|entry| entry.ordinal < end).enumerate() {
            if n == TURN {
                return Fed::More;
            }
            // Asked when something was refused before it, and of the first.
            room = room || outlet.has_letter_room(self.of, entry.ordinal);
            if !room {
                self.forward.caught_up();
                return Fed::Letters;
            }
            let offered = match outlet.is_expired(&entry, boot) && !outlet.is_missed(self.of.lane, entry.ordinal) {
                true => self.pass(Pos { seq: entry.seq, ordinal: entry.ordinal }, Unsent::Expired),
                false => self.offer(outlet, &entry, &written),
            };
            match offered {
                Offered::Taken(took) => {
                    outlet.note(self.of, &entry, boot, fate(took.unsent), took.begins);
                    if took.unsent == Some(Unsent::Refused) {
                        self.tell_refused(outlet, &entry, boot, frame.ring_id());
                        room = false;
                    }
                }
                Offered::Missed => {}
                Offered::Full => return Fed::Full,
                Offered::Needs(topic) => return Fed::Needs(topic),
            }
        }
        Fed::End
    }

    fn offer(&mut self, outlet: &Outlet, entry: &Entry<'_>, written: &Written) -> Offered {
        let at = Pos { seq: entry.seq, ordinal: entry.ordinal };
        if outlet.is_missed(self.of.lane, entry.ordinal) {
            self.forward.skip(Pos { seq: at.seq + 1, ordinal: at.ordinal + 1 });
            return Offered::Missed;
        }
        let Some(topic) = outlet.topic_name(entry.part.topic) else {
            return self.pass(at, Unsent::Released);
        };
        if !outlet.takes(entry) {
            return self.pass(at, Unsent::Filtered);
        }
        let (time, at_ms) = expect::time_of(&entry.record, written.clock);
        if self.shape.is_plain() {
            return self.offer_plain(entry, at, written, at_ms, &topic);
        }
        self.offer_shaped(outlet, entry, at, written, at_ms, &topic, time)
    }

    /// The record's own bytes, copied once: into the batch.
    fn offer_plain(&mut self, entry: &Entry<'_>, at: Pos, on: &Written, at_ms: i64, topic: &TopicName) -> Offered {
        let known = self.same.iter().find(|(id, _)| *id == entry.part.topic);
        let upstream = match known.map(|(_, ix)| *ix).or_else(|| self.forward.topic(topic.as_str())) {
            Some(upstream) => upstream,
            None => return self.refuse(at, "too many upstream topics".into()),
        };
        if known.is_none() {
            self.same.push((entry.part.topic, upstream));
        }
        let (key, value) = (entry.record.key, entry.record.value);
        let target = match self.forward.place(upstream, key, at.seq) {
            Placing::Target(target) => target,
            Placing::Wait => return Offered::Needs(upstream),
            Placing::TooMany => return self.refuse(at, "too many upstream partitions".into()),
        };
        let bytes = key.map_or(0, <[u8]>::len) + value.len() + RECORD_OVERHEAD;
        let (buffers, when) = (&mut self.buffers, on.when(entry));
        let content = if self.forward.compares(target) { content(key, value, false) } else { 0 };
        let out = Out { target, bytes, at_ms, content };
        match self.forward.offer(at, on.ring, &[out], &mut |_, place| buffers.push(place, when, at_ms, key, value)) {
            Offer::Taken(took) => Offered::Taken(took),
            Offer::Full => Offered::Full,
        }
    }

    /// Outputs of rules and templates: all are known before the first is placed, because they go together or not at all.
    #[allow(clippy::too_many_arguments)] // One call site; a struct for it would only rename them.
    fn offer_shaped(
        &mut self,
        outlet: &Outlet,
        entry: &Entry<'_>,
        at: Pos,
        on: &Written,
        at_ms: i64,
        topic: &TopicName,
        time: Option<crate::time::WallTime>,
    ) -> Offered {
        self.arena.clear();
        self.items.clear();
        self.outs.clear();
        let Self { shape, forward, arena, items, outs, buffers, .. } = self;
        let envelope = shape.wraps();
        let (mut needs, mut refused) = (None, None);
        let backlog = on
            .ages
            .and_then(|ages| ages.of(entry.record.admitted))
            .zip(self.mark)
            .is_some_and(|(age, most)| age > most);
        let errors = shape.apply(topic.as_str(), entry.record, time, backlog, &mut |shaped| {
            let Ok(shaped) = shaped else {
                refused = Some(expect::NO_TOPIC.to_owned());
                return;
            };
            let placed = match upstream_topic(forward, shaped.topic, topic) {
                Ok(upstream) => (upstream, forward.place(upstream, shaped.key, at.seq)),
                Err(why) => {
                    refused = Some(why);
                    return;
                }
            };
            match placed {
                (_, Placing::Target(target)) => {
                    let bytes = shaped.key.map_or(0, <[u8]>::len) + shaped.value.len() + RECORD_OVERHEAD;
                    let content =
                        if forward.compares(target) { content(shaped.key, shaped.value, envelope) } else { 0 };
                    outs.push(Out { target, bytes, at_ms, content });
                    items.push(Item {
                        target,
                        key: shaped.key.map(|k| keep(arena, k)),
                        value: keep(arena, shaped.value),
                    });
                }
                (upstream, Placing::Wait) => needs = Some(upstream),
                (_, Placing::TooMany) => refused = Some("too many upstream partitions".to_owned()),
            }
        });
        if let Some(why) = refused {
            return self.refuse(at, why);
        }
        if let Some(topic) = needs {
            return Offered::Needs(topic);
        }
        let when = on.when(entry);
        let offer = forward.offer(at, on.ring, outs, &mut |i, place| {
            let item = &items[i];
            debug_assert_eq!(item.target, place.target);
            buffers.push(place, when, at_ms, item.key.clone().map(|k| &arena[k]), &arena[item.value.clone()]);
        });
        match offer {
            Offer::Full => Offered::Full,
            Offer::Taken(took) => {
                // Counted once per pass: a record that is read again fails again.
                outlet.count(counters::RULE_ERRORS, u64::from(errors));
                Offered::Taken(took)
            }
        }
    }

    /// A dead letter of a record that `forward` or this feed has refused just now.
    fn tell_refused(&mut self, outlet: &Outlet, entry: &Entry<'_>, boot: u32, ring: RingId) {
        let by = self.forward.refused_by(entry.seq).map(|target| self.forward.target_name(target));
        let reason = self.refused.as_deref().filter(|_| by.is_none()).unwrap_or(TOO_LARGE);
        let upstream = by.map(|(_, topic, partition)| (topic, partition));
        outlet.refuse(self.of, entry, boot, &Refusal { reason, upstream, ring });
    }

    fn refuse(&mut self, at: Pos, why: String) -> Offered {
        self.refused = Some(why);
        self.pass(at, Unsent::Refused)
    }

    fn pass(&mut self, at: Pos, why: Unsent) -> Offered {
        let begins = self.forward.pass(at, why);
        Offered::Taken(Took { unsent: Some(why), begins })
    }
}

fn fate(unsent: Option<Unsent>) -> Fate {
    match unsent {
        None => Fate::Delivered,
        Some(Unsent::Filtered) => Fate::Filtered,
        Some(Unsent::Refused) => Fate::Refused,
        Some(Unsent::Expired) => Fate::Expired,
        Some(Unsent::Released) => Fate::Released,
    }
}

fn keep(arena: &mut Vec<u8>, bytes: &[u8]) -> std::ops::Range<usize> {
    let at = arena.len();
    arena.extend_from_slice(bytes);
    at..arena.len()
}

fn upstream_topic(forward: &mut Forward, rendered: Option<&[u8]>, local: &TopicName) -> Result<TopicIx, String> {
    let name = expect::topic_name(rendered, local)?;
    forward.topic(name).ok_or_else(|| format!("topic {name}: too many upstream topics"))
}
