//! Everything countable of a pipeline, as of one moment.

use super::book::Book;
use super::*;

/// Everything countable, for status, metrics and heartbeat.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub ring_id: RingId,
    pub boot: u32,
    pub ring: Stats,
    pub health: Health,
    pub recovery: Report,
    /// True in memory mode.
    pub memory_mode: bool,
    pub topics: Vec<TopicInfo>,
    pub lanes: Vec<Name>,
    pub sinks: Vec<SinkBook>,
    /// Rules that failed on a record since the start.
    pub rule_errors: u64,
    /// The rules before the ring, in the config's order: what each has done since the start.
    pub rules: Vec<(Name, Told)>,
    /// Topics that a rule has stopped.
    pub stopped: Vec<Stopped>,
    /// Records that a rule failed on, were to have a dead letter, and have none: there were too many at once.
    pub rule_letters_left_out: u64,
}

/// The account of one sink: promise 2, all lanes together. In ring records from where the sink was first configured:
/// `admitted = delivered + filtered + refused + pending + evicted + expired + corrupt + lost_unsynced + released`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkBook {
    pub name: Name,
    /// False: it left the config, its cursor is kept until `sink forget`.
    pub configured: bool,
    /// Set by whoever makes the snapshot: pausing is not the pipeline's.
    pub paused: bool,
    pub cursor: LanePos,
    pub admitted: u64,
    pub delivered: u64,
    pub filtered: u64,
    pub refused: u64,
    pub pending: u64,
    pub evicted: u64,
    pub expired: u64,
    pub corrupt: u64,
    pub lost_unsynced: u64,
    pub released: u64,
    /// Of what was refused.
    pub dead_letters: DeadLetters,
    /// Slots of the ring that hold records which it has not passed.
    pub held_slots: u32,
    /// By topic and lane, those of which something was counted or is pending, the lanes in their order.
    pub topics: Vec<TopicBook>,
    /// What of the counts above, and of `pending`, belongs to no topic that could be told. With it the topics' sums are the
    /// sink's.
    pub unattributed: Counts,
    pub pending_unattributed: u64,
    /// The streams of lanes that have more than one, the oldest first.
    pub streams: Vec<StreamBook>,
}

/// Where one of a lane's streams stands, in seqs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamBook {
    pub lane: LaneId,
    pub number: u32,
    pub cursor: u64,
    /// None: it is the newest.
    pub to: Option<u64>,
    pub pending: u64,
}

/// One topic's part of a sink's account in one lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicBook {
    pub topic: TopicId,
    pub lane: LaneId,
    pub pending: u64,
    pub counts: Counts,
}

impl SinkBook {
    /// Of a configured sink for which nothing was counted yet.
    pub fn empty(name: Name) -> Self {
        Self {
            name,
            configured: true,
            paused: false,
            cursor: LanePos::default(),
            admitted: 0,
            delivered: 0,
            filtered: 0,
            refused: 0,
            pending: 0,
            evicted: 0,
            expired: 0,
            corrupt: 0,
            lost_unsynced: 0,
            released: 0,
            dead_letters: DeadLetters::default(),
            held_slots: 0,
            topics: Vec::new(),
            unattributed: Counts::default(),
            pending_unattributed: 0,
            streams: Vec::new(),
        }
    }

    /// Adds what was counted in one lane.
    fn add(&mut self, counts: Counts) {
        self.delivered += counts.delivered;
        self.filtered += counts.filtered;
        self.refused += counts.refused;
        self.evicted += counts.evicted;
        self.expired += counts.expired;
        self.corrupt += counts.corrupt;
        self.lost_unsynced += counts.lost_unsynced;
        self.released += counts.released;
    }
}

impl Pipeline {
    pub fn snapshot(&self) -> Snapshot {
        let ring = self.ring.stats();
        let known = self.sinks.iter().filter(|sink| !sink.lanes.is_empty());
        let mut sinks: Vec<_> = known.map(|sink| self.book(sink, &ring)).collect();
        for owner in self.ring.owners(OwnerKind::Sink) {
            if !sinks.iter().any(|book| book.name == owner.name) {
                let lanes = self.load_lanes(&owner);
                sinks.push(self.book(&Sink::of(owner, lanes), &ring));
            }
        }
        Snapshot {
            ring_id: self.ring.id(),
            boot: self.ring.boot(),
            health: self.ring.health(),
            recovery: self.recovery.clone(),
            memory_mode: self.memory_mode,
            topics: self.ring.topic_ids().into_iter().filter_map(|id| self.ring.topic(id)).collect(),
            lanes: (0..self.lanes() as u8).filter_map(|lane| self.ring.lane_name(LaneId(lane))).collect(),
            sinks,
            rule_errors: self.rule_errors,
            rules: self.tallies(),
            stopped: self.stopped(),
            rule_letters_left_out: self.rule_letters_left_out,
            ring,
        }
    }

    fn book(&self, sink: &Sink, ring: &Stats) -> SinkBook {
        let cursor = sink.lanes.first().map(|streams| streams.account().cursor).unwrap_or_default();
        let mut sum = SinkBook { configured: sink.configured, cursor, ..SinkBook::empty(sink.owner.name.clone()) };
        sum.dead_letters = self.dead_letters(sink);
        for (at, (streams, stats)) in sink.lanes.iter().zip(&ring.lanes).enumerate() {
            let lane = LaneId(at as u8);
            sum.held_slots += self.ring.slots_from(lane, streams.account().cursor.ordinal);
            sum.admitted += stats.shown.ordinal.saturating_sub(streams.account().start.ordinal);
            for (n, (book, account, pending, end)) in streams.as_of(stats).enumerate() {
                sum.pending += pending;
                sum.add(account.counts());
                let newest = n + 1 == streams.all.len();
                let ends = match streams.all.get(n + 1) {
                    Some((next, _)) => next.shares.began(),
                    None => self.ring.lane_ends(lane),
                };
                self.book_topics(&mut sum, book, lane, account.counts(), pending, &ends);
                if streams.all.len() > 1 {
                    let (number, cursor) = (book.number, account.cursor.seq);
                    let to = (!newest).then_some(end.seq);
                    sum.streams.push(StreamBook { lane, number, cursor, to, pending });
                }
            }
        }
        sum
    }

    /// Divides one stream's counts among the topics: what was evicted ahead of the cursor, and what is pending, as far as the
    /// ring can tell. `ends`: the next offsets where the stream ends.
    fn book_topics(
        &self,
        sum: &mut SinkBook,
        book: &Book,
        lane: LaneId,
        all: Counts,
        pending: u64,
        ends: &[(TopicPart, u64)],
    ) {
        let mut shares = book.shares.clone();
        let gone = all.minus(book.account.counts()).evicted;
        let oldest = book.account.cursor.ordinal + gone;
        if gone > 0
            && let Some((ends, _)) = self.ring.lane_starts(lane, oldest)
        {
            for piece in shares.divide(&ends, gone).unwrap_or_default() {
                shares.count(piece.part.topic, Counts { evicted: piece.to - piece.from, ..Counts::default() });
            }
            shares.passed_gap(&ends);
        }
        let mut waiting: BTreeMap<TopicId, u64> = BTreeMap::new();
        for piece in shares.divide(ends, pending).unwrap_or_default() {
            *waiting.entry(piece.part.topic).or_default() += piece.to - piece.from;
        }
        sum.pending_unattributed += pending - waiting.values().sum::<u64>();
        sum.unattributed = sum.unattributed.plus(all.minus(shares.sum()));
        let mut add = |topic, pending, counts| {
            let of = sum.topics.iter_mut().rev().find(|known| known.topic == topic && known.lane == lane);
            match of {
                Some(known) => (known.pending, known.counts) = (known.pending + pending, known.counts.plus(counts)),
                None => sum.topics.push(TopicBook { topic, lane, pending, counts }),
            }
        };
        for (topic, share) in shares.topics() {
            let pending = waiting.get(&topic).copied().unwrap_or(0);
            if pending > 0 || share.counts != Counts::default() {
                add(topic, pending, share.counts);
            }
        }
        // A topic that nothing was counted of yet has no share.
        let new = waiting.into_iter().filter(|(topic, _)| shares.topics().all(|(known, _)| known != *topic));
        new.for_each(|(topic, pending)| add(topic, pending, Counts::default()));
    }
}
