//! Everything countable of a pipeline, as of one moment.

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
        }
    }
}

impl Pipeline {
    pub fn snapshot(&self) -> Snapshot {
        let ring = self.ring.stats();
        let mut sinks: Vec<_> = self.sinks.iter().map(|sink| self.book(sink, &ring)).collect();
        for owner in self.ring.owners(OwnerKind::Sink) {
            if !sinks.iter().any(|book| book.name == owner.name) {
                let lanes = self.load_lanes(&owner);
                let sink =
                    Sink { owner, topics: TopicSet::default(), configured: false, lanes, state: BTreeMap::new() };
                sinks.push(self.book(&sink, &ring));
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
            ring,
        }
    }

    fn book(&self, sink: &Sink, ring: &Stats) -> SinkBook {
        let cursor = sink.lanes.first().map(|(book, _)| book.account.cursor).unwrap_or_default();
        let mut sum = SinkBook { configured: sink.configured, cursor, ..SinkBook::empty(sink.owner.name.clone()) };
        for ((book, _), lane) in sink.lanes.iter().zip(&ring.lanes) {
            let (account, pending) = book.as_of(lane);
            sum.admitted += lane.durable.ordinal.saturating_sub(account.start.ordinal);
            sum.pending += pending;
            sum.delivered += account.delivered;
            sum.filtered += account.filtered;
            sum.refused += account.refused;
            sum.evicted += account.evicted;
            sum.expired += account.expired;
            sum.corrupt += account.corrupt;
            sum.lost_unsynced += account.lost_unsynced;
            sum.released += account.released;
        }
        sum
    }
}
