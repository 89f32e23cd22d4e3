//! The ring's side: what the sink is to have sent of it, and where to.
//!
//! Nothing is kept of a record: whoever asks again has it read again. What a ring holds is read faster than any link brings
//! the other side.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use super::matching::{Absent, Due, Edge, Id, Lane, Met, Stored};
use crate::cli::ring::progress::Progress;
use crate::config::{Config, FluvioSink, SinkConfig};
use crate::envelope::ValueMode;
use crate::forward::{self, Known, Whose};
use crate::json;
use crate::lane::LaneId;
use crate::node::stopped::{self, StoppedRing};
use crate::ops::status::{SinkStatus, SinkTopicStatus};
use crate::pipeline::{Account, Counts, DEAD_LETTERS_TOPIC, Stream};
use crate::record::Flags;
use crate::ring::{Entry, LanePos, Owner, OwnerKind};
use crate::sinks::fluvio::{Expect, Output, content_seeded};
use crate::time::{ClockSync, Span, WallTime};
use crate::topic::{TopicId, TopicName, TopicPart};

/// Dead letters that are remembered; who has more has another trouble.
const MAX_LETTERS: usize = 64 * 1024;

/// One stream of the sink.
struct Sent {
    stream: Stream,
    account: Account,
    known: Known,
}

/// An upstream partition, by name.
pub type Target = (String, u32);

/// What the ring has for one upstream partition, before anything was asked there.
#[derive(Clone, Copy, Debug, Default)]
pub struct Has {
    /// Outputs up to the cursors, and beyond.
    pub sent: u64,
    pub pending: u64,
    /// In which lanes, a bit each.
    lanes: u8,
}

/// Where a stream is in an upstream partition.
pub struct Place {
    pub ids: Vec<i64>,
    /// Its last batch there of which the ring has the answer.
    pub last: Option<forward::Last>,
    /// The seq from which on it is compared.
    pub floor: u64,
}

/// What a pass over the ring found.
#[derive(Debug, Default)]
pub struct Looked {
    targets: BTreeMap<String, BTreeMap<u32, Has>>,
    /// Ring records: dropped by the sink's rules; for which there is no place; for which none was chosen yet.
    pub filtered: u64,
    pub refused: u64,
    pub unplaced: u64,
    /// Records that cannot be read any more.
    pub gone: u64,
}

impl Looked {
    fn add(&mut self, topic: &str, partition: u32, lane: usize, sent: bool) {
        let add = |parts: &mut BTreeMap<u32, Has>| {
            let has = parts.entry(partition).or_default();
            has.lanes |= 1 << lane;
            *if sent { &mut has.sent } else { &mut has.pending } += 1;
        };
        // No name is copied for a record.
        match self.targets.get_mut(topic) {
            Some(parts) => add(parts),
            None => add(self.targets.entry(topic.to_owned()).or_default()),
        }
    }

    /// The upstream partitions.
    pub fn targets(&self) -> impl Iterator<Item = (Target, Has)> {
        let of = |(topic, parts): (&String, &BTreeMap<u32, Has>)| {
            let topic = topic.clone();
            parts.clone().into_iter().map(move |(partition, has)| ((topic.clone(), partition), has))
        };
        self.targets.iter().flat_map(of)
    }
}

pub struct Ring {
    ring: StoppedRing,
    expect: Expect,
    sink: SinkConfig,
    sent: Vec<Sent>,
    topics: Vec<(TopicId, TopicName, Option<Span>)>,
    /// Of each lane: what is compared.
    lanes: Vec<Lane>,
    /// What is asked for.
    target: Target,
    /// Seqs of records that became dead letters.
    letters: BTreeSet<u64>,
    counts: Counts,
}

impl Ring {
    /// None: the ring does not know the sink.
    pub fn new(
        mut ring: StoppedRing,
        config: &Config,
        sink: &SinkConfig,
        fluvio: &FluvioSink,
        since: Option<WallTime>,
    ) -> Option<Self> {
        let owner = Owner { kind: OwnerKind::Sink, name: sink.name.clone() };
        let (streams, states) = (ring.sink_streams(&owner), ring.states(&owner));
        if streams.is_empty() {
            return None;
        }
        let (id, former) = (ring.id().0, ring.former());
        let sent = |(stream, account): (Stream, Account)| {
            let of = forward::Stream { number: stream.number, start: stream.from.seq, unstarted: stream.unstarted };
            let whose =
                Whose { ring: id, former: former.clone(), sink: sink.name.clone(), lane: stream.lane, stream: of };
            Sent { known: Known::new(whose, &states), stream, account }
        };
        let sent: Vec<Sent> = streams.into_iter().map(sent).collect();
        let max_age = |name: &TopicName| config.topics.get(name).and_then(|topic| topic.max_age);
        let topics = ring.topics().into_iter().map(|topic| (topic.id, topic.name.clone(), max_age(&topic.name)));
        let topics: Vec<_> = topics.collect();
        let lanes: Vec<Lane> = ring
            .lanes()
            .iter()
            .enumerate()
            .map(|(at, lane)| {
                let mut streams = sent.iter().filter(|s| s.stream.lane.index() == at);
                // A lane in which the sink does not begin has nothing of it.
                let start = streams.next().map_or(lane.durable, |s| s.account.start);
                Lane::new(start.max(lane.oldest).seq, lane.durable.seq)
            })
            .collect();
        let lanes = lanes.into_iter().enumerate().map(|(at, lane)| match since {
            Some(since) => Lane::new(lane.floor.max(first_since(&mut ring, LaneId(at as u8), since)), lane.end),
            None => lane,
        });
        let lanes = lanes.collect();
        let letters = letters(&mut ring, sink.name.as_str());
        let counts = sent.iter().fold(Counts::default(), |sum, sent| sum.plus(sent.account.counts()));
        let expect = Expect::new(sink, fluvio, (config.node.id.clone(), config.node.labels.clone()));
        Some(Self { ring, expect, sink: sink.clone(), sent, topics, lanes, target: Target::default(), letters, counts })
    }

    pub fn id(&self) -> String {
        format!("{:032x}", self.ring.id().0)
    }

    pub fn topic_name(&self, topic: TopicId) -> &str {
        self.topics.iter().find(|(id, ..)| *id == topic).map_or("", |(_, name, _)| name.as_str())
    }

    /// What the sink's account counts, in all lanes.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// What the node says that runs, asked after the ring was opened: it stores cursors now and then only.
    pub fn know(&mut self, status: &SinkStatus) {
        self.counts = Counts {
            delivered: status.delivered,
            filtered: status.filtered,
            refused: status.refused,
            evicted: status.evicted,
            expired: status.expired,
            corrupt: status.corrupt,
            lost_unsynced: status.lost_unsynced,
            released: status.released,
        };
        let names = self.ring.lane_names();
        for sent in &mut self.sent {
            let lane = sent.stream.lane.index();
            let of_lane = |name: &str| names.get(lane).is_some_and(|lane| lane == name);
            let mut streams = status.streams.iter().filter(|stream| of_lane(&stream.lane)).peekable();
            let waits = |topic: &&SinkTopicStatus| topic.lane.as_deref().is_none_or(of_lane) && topic.pending > 0;
            let cursor = &mut sent.stream.cursor.seq;
            if streams.peek().is_some() {
                let stream = streams.find(|stream| stream.number == sent.stream.number);
                *cursor = (*cursor).max(stream.map_or(0, |stream| stream.cursor_seq));
            } else if !status.topics.iter().any(|topic| waits(&topic)) {
                *cursor = self.lanes[lane].end;
            }
        }
    }

    /// What is to be compared, lane by lane, as of one upstream partition.
    pub fn lanes(&self) -> Vec<Lane> {
        self.lanes.clone()
    }

    /// Reads all of it once: which upstream partitions there are, and what is for none.
    pub fn look(&mut self, progress: &mut Progress) -> Looked {
        let mut looked = Looked::default();
        let (mut outputs, mut bytes) = (0_u64, 0);
        for at in 0..self.lanes.len() {
            let Lane { floor, end, .. } = self.lanes[at];
            self.visit(at, floor, end, &mut |of| {
                match of {
                    Of::Hole(count) => looked.gone += count,
                    Of::Record { outputs: 0, placed: true } => looked.filtered += 1,
                    Of::Record { placed: false, .. } => looked.refused += 1,
                    Of::Record { .. } => {}
                    Of::Output { target: None, .. } => looked.unplaced += 1,
                    Of::Output { target: Some((topic, partition)), sent, out, .. } => {
                        looked.add(topic, partition, at, sent);
                        (outputs, bytes) = (outputs + 1, bytes + out.value.len() as u64);
                        if outputs.is_multiple_of(256) {
                            progress.took(outputs, bytes);
                        }
                    }
                }
                ControlFlow::Continue(())
            });
        }
        looked
    }

    /// What is compared from now on.
    pub fn aim(&mut self, target: &Target) {
        self.target.clone_from(target);
    }

    /// The ids of batches of the target.
    pub fn ids(&self) -> Vec<Id> {
        let (topic, partition) = &self.target;
        let ids = |sent: &Sent| {
            let (lane, from) = (sent.stream.lane.index(), sent.stream.from.seq);
            let marks = sent.known.marks(topic, *partition).into_iter();
            marks
                .map(move |mark| Id { id: mark.id, lane, from, below: mark.below, newest: mark.newest })
                .collect::<Vec<_>>()
        };
        self.sent.iter().flat_map(ids).collect()
    }

    /// Ranges of lanes that were sent by streams of which nothing is stored any more.
    pub fn absorbed(&self) -> Vec<Id> {
        let gone = |sent: &&Sent| sent.account.start.seq < sent.stream.from.seq;
        let id = |sent: &Sent| {
            let (lane, from, below) = (sent.stream.lane.index(), sent.account.start.seq, sent.stream.from.seq);
            Id { id: 0, lane, from, below, newest: true }
        };
        let ids = self.sent.iter().filter(gone).map(id);
        ids.filter(|id| id.below > self.lanes[id.lane].floor).collect()
    }

    pub fn is_opaque(&self) -> bool {
        self.sent.iter().any(|sent| sent.known.is_opaque(&self.target.0, self.target.1))
    }

    /// The streams of which something is due. None: where they begin there cannot be told from headers.
    pub fn places(&self, has: &Has) -> Option<Vec<Place>> {
        let (topic, partition) = (self.target.0.as_str(), self.target.1);
        let lives = self.sent.iter().any(|sent| sent.known.has_lives(topic, partition));
        if lives || self.is_opaque() || !self.absorbed().is_empty() {
            return None;
        }
        let due = self.sent.iter().filter(|sent| has.lanes & 1 << sent.stream.lane.index() != 0);
        let place = |sent: &Sent| Place {
            ids: sent.known.marks(topic, partition).iter().map(|mark| mark.id).collect(),
            last: sent.known.last(topic, partition),
            floor: self.lanes[sent.stream.lane.index()].floor.max(sent.stream.from.seq),
        };
        Some(due.map(place).collect())
    }

    /// Whether all that was ever sent is to be compared: nothing is evicted, and nobody asked for less.
    pub fn is_whole(&self) -> bool {
        self.sent.iter().all(|sent| self.lanes[sent.stream.lane.index()].floor <= sent.account.start.seq)
    }

    /// The last batch of the target that the sink had an answer for.
    pub fn last(&self) -> (&Target, Option<forward::Last>) {
        let lasts = self.sent.iter().filter_map(|sent| sent.known.last(&self.target.0, self.target.1));
        (&self.target, lasts.max_by_key(|last| last.end))
    }

    fn visit(&mut self, lane: usize, from: u64, to: u64, give: &mut dyn FnMut(Of<'_>) -> ControlFlow<()>) {
        let Self { ring, expect, sink, sent, topics, .. } = self;
        let streams: Vec<&Sent> = of_lane(sent, lane).collect();
        if from >= to {
            return;
        }
        // What the visitor gives is no error, so there is none.
        let _ = ring.scan(LaneId(lane as u8), from, &mut |met| {
            let (clock, entry) = match met {
                stopped::Met::Gap(gap) if gap.from.seq >= to => return Ok(ControlFlow::Break(())),
                // A scan begins with the slot.
                stopped::Met::Gap(gap) if gap.to.seq <= from => return Ok(ControlFlow::Continue(())),
                stopped::Met::Gap(gap) => return Ok(give(Of::Hole(gap.count()))),
                stopped::Met::Record(_, clock, entry) => (clock, entry),
            };
            if entry.seq >= to {
                return Ok(ControlFlow::Break(()));
            }
            let topic = topics.iter().find(|(id, name, _)| *id == entry.part.topic && sink.topics.contains(name));
            Ok(match topic {
                Some((_, topic, max_age)) => outputs(expect, (topic, max_age.is_some()), &streams, clock, &entry, give),
                None => ControlFlow::Continue(()),
            })
        });
    }
}

/// What a visit meets.
enum Of<'a> {
    Hole(u64),
    /// One output; None: no partition was chosen for it yet.
    Output {
        entry: &'a Entry<'a>,
        target: Option<(&'a str, u32)>,
        sent: bool,
        may_expire: bool,
        out: Output<'a>,
    },
    /// A record is through: how many outputs it had, and whether there was a place for each.
    Record {
        outputs: u64,
        placed: bool,
    },
}

fn outputs(
    expect: &mut Expect,
    (topic, may_expire): (&TopicName, bool),
    streams: &[&Sent],
    clock: Option<ClockSync>,
    entry: &Entry<'_>,
    give: &mut dyn FnMut(Of<'_>) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let Some(of) = stream_at(streams.iter().copied(), entry.seq) else { return ControlFlow::Continue(()) };
    let (mut count, mut flow) = (0, ControlFlow::Continue(()));
    let placed = expect.outputs(topic, entry.record, clock, &mut |out| {
        count += 1;
        if flow.is_continue() {
            let partition = of.known.partition(out.topic, out.key, entry.seq);
            let target = partition.map(|partition| (out.topic, partition));
            let sent = entry.seq < of.stream.cursor.seq;
            flow = give(Of::Output { entry, target, sent, may_expire, out });
        }
    });
    if flow.is_continue() {
        flow = give(Of::Record { outputs: count, placed });
    }
    flow
}

impl Edge for Ring {
    fn between(&mut self, lane: usize, from: u64, to: u64, visit: &mut dyn FnMut(Met) -> ControlFlow<()>) {
        let target = std::mem::take(&mut self.target);
        let letters = std::mem::take(&mut self.letters);
        let envelope = self.sink.value == ValueMode::Envelope;
        let expires = self.counts.expired > 0;
        self.visit(lane, from, to, &mut |of| match of {
            Of::Hole(_) => visit(Met::Hole),
            Of::Output { entry, target: Some((topic, partition)), sent, may_expire, out }
                if topic == target.0 && partition == target.1 =>
            {
                let absent = match () {
                    () if !sent => Absent::Pending,
                    () if entry.record.flags.has(Flags::SUPERSEDED_BY_NEWER) => Absent::Filtered,
                    () if letters.contains(&entry.seq) => Absent::Refused,
                    () if may_expire && expires => Absent::Expired,
                    () => Absent::Missing,
                };
                visit(Met::Due(Due {
                    seq: entry.seq,
                    part: entry.part,
                    offset: entry.offset,
                    print: print(out.key, out.value, envelope),
                    at_ms: entry.record.event_time.is_some().then_some(out.at_ms),
                    absent,
                }))
            }
            _ => ControlFlow::Continue(()),
        });
        (self.target, self.letters) = (target, letters);
    }
}

fn of_lane(sent: &[Sent], lane: usize) -> impl Iterator<Item = &Sent> {
    sent.iter().filter(move |sent| sent.stream.lane.index() == lane)
}

/// The stream that has a seq: with what it absorbed it goes from where its account begins to the next one.
fn stream_at<'a>(streams: impl Iterator<Item = &'a Sent>, seq: u64) -> Option<&'a Sent> {
    streams.filter(|sent| sent.account.start.seq <= seq).last()
}

/// The first record of a lane that was admitted at this time or later; where that is not known it counts as later.
fn first_since(ring: &mut StoppedRing, lane: LaneId, since: WallTime) -> u64 {
    let from = ring.seek_time(lane, since);
    let mut first = ring.lanes().get(lane.index()).map_or(LanePos::default(), |lane| lane.durable).seq;
    // What the visitor gives is no error, so there is none.
    let _ = ring.scan(lane, from, &mut |met| {
        let stopped::Met::Record(_, clock, entry) = met else { return Ok(ControlFlow::Continue(())) };
        if clock.is_some_and(|clock| clock.wall(entry.record.admitted) < since) {
            return Ok(ControlFlow::Continue(()));
        }
        first = entry.seq;
        Ok(ControlFlow::Break(()))
    });
    first
}

/// The seqs of what this sink's upstream refused for good.
fn letters(ring: &mut StoppedRing, sink: &str) -> BTreeSet<u64> {
    let mut letters = BTreeSet::new();
    let Some(topic) = ring.topic(DEAD_LETTERS_TOPIC) else { return letters };
    ring.read(TopicPart { topic: topic.id, partition: 0 }, 0, |_, entry| {
        if letter_of(entry.record.value, "sink").as_deref() == Some(sink)
            && let Some(seq) = letter_of(entry.record.value, "seq").and_then(|seq| seq.parse().ok())
        {
            letters.insert(seq);
        }
        if letters.len() < MAX_LETTERS { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    letters
}

/// A field of a dead letter, as text.
fn letter_of(letter: &[u8], name: &str) -> Option<String> {
    let path = json::Path::parse(name).ok()?;
    let raw = json::find_raw(letter, &path).ok()??;
    let text = String::from_utf8_lossy(raw);
    Some(text.trim_matches('"').to_owned())
}

/// What key and value are known by; of an envelope by what does not depend on when it was sent.
pub fn print(key: Option<&[u8]>, value: &[u8], envelope: bool) -> u128 {
    let half = |seed: u64| u128::from(content_seeded(seed, key, value, envelope));
    half(0) << 64 | half(1 << 63)
}

/// A record as it came out of a batch.
pub fn stored(record: &crate::record::RecordRef<'_>, envelope: bool) -> Stored {
    let at_ms = record.event_time.map_or(-1, |time| time.0.div_euclid(1000));
    Stored { print: print(record.key, record.value, envelope), at_ms }
}
