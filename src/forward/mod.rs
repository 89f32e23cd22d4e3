//! Sending to the partitions of an upstream, each record exactly once.
//!
//! [`Forward`] is a machine without clock, socket or bytes. Its driver reads one stream of a lane in order and offers every
//! record with its outputs ([`Out`]: which upstream partition, how many bytes, when); the machine says into which batch
//! each output goes, when a batch is sent, what a failed request means, and how far the cursor may move. The bytes stay
//! with the driver, who keys its buffers by batch number. So one machine serves every sink that has partitions with
//! offsets, and the simulation drives the same code with a model of an upstream.
//!
//! ```text
//!   driver: read lane -> offer ---> batches per target ---> Send ------> Sent (base offset or Reject)
//!                          ^                                               |
//!                          +---- rewind to the cursor <--- anything lost --+---> Advance (cursor, tally, state)
//! ```
//!
//! # What makes it exactly once
//!
//! An upstream of Fluvio's kind is not idempotent, but it stores a batch's producer fields untouched. They hold our
//! [`marker`]: an id that only this (ring, sink, lane, stream, upstream partition) uses, and the seq of the batch's last ring record.
//! Outputs of one ring record never straddle batches, and one request at most is in flight per partition. So the newest
//! marker in a partition says which records it has, and everything else follows from one number per partition, `done`:
//!
//! - An offered output whose seq is at or below what its partition has (or has in flight) is not taken again.
//! - Whenever something is lost (a connection, a refused batch, a moved leader) that partition's batches are thrown
//!   away and reading goes back to the cursor. There is no retry buffer: a lost batch is read from the ring again, and
//!   while the upstream is away the machine holds nothing.
//! - Before a partition is used after a (re)connect, [`search`] finds the newest marker there. If a request may still
//!   land (it was in flight when its connection died, or another process may have sent one), the search waits a
//!   grace period and looks once more. A request that lands even later is noticed by the next base offset, which is
//!   then higher than expected: the difference is read and counted as `duplicated`.
//! - The position of the last acknowledged batch is stored with the cursor. If that batch is not there any more, the
//!   upstream was truncated or recreated: announced, and the ring is sent again from the newest marker
//!   (`on_upstream_loss = "resend"`) or not. What a search could not prove is counted as `maybe_duplicated`.
//! - An upstream that is a node itself keeps count of what it has of whom, and takes no batch out of turn (see [`turn`]): asked
//!   for our number, it makes search, grace period and suspicion unnecessary. Only where it knows of nothing, or of less than
//!   it acknowledged, or of what this life of the ring has not sent, the log is searched.
//! - A marker that this life of the ring did not send means that the ring is a backup that was put back: see below.
//!
//! # The cursor
//!
//! It is the first record of the oldest batch that is not acknowledged, else the place of the next record to read.
//! Every batch remembers the tally of everything before its first record, so counts are exact wherever the cursor stops
//! and no record needs an entry of its own: the window is bounded by bytes and two batches per partition.
//!
//! # Partitions
//!
//! Records with a key go where the official client puts them, those without to partition (seq / 512) mod n; or all to one
//! (see [`Spread`]). The n of an
//! upstream topic is stored, durable before its first use, and a new n holds from the ring's end on, above everything that was
//! ever sent: a record that is read again after any crash is looked for where it was sent.
//!
//! # Streams
//!
//! A lane may be sent in several ranges, each by a machine of its own, so that what is new can go before what has waited.
//! "Everything of ours below this number is there" is true of what one machine sends in ascending order, and of no more: so
//! each stream has ids of its own. The pipeline says where a stream begins and ends, and makes that durable before it
//! shows a record of it: no record is ever in two streams.
//!
//! - The ids are made of the stream's number and of the seq at which it begins. Numbers grow, and are stored with the cursors.
//!   Should they be lost with them, or a backup be put back that gives one away again: the new stream begins above
//!   everything that this ring ever gave, so no marker of the old one has a number in its range; and the other life's stream
//!   began elsewhere. Or at the same seq, where both lives were split before they had taken anything in: that is seen by the
//!   last batch of a partition, if neither another writer's nor another stream's stands there. Stream 0 has the ids that a lane had before it had streams.
//! - Nothing is stored of a stream before it has looked for partitions, and nothing is sent before that is durable. So of one
//!   that is stored as unstarted nothing can be upstream nor on its way: its partitions are asked for their end and for the
//!   last batch there, however long they are.
//! - A stream never reads at or above its end: the driver offers nothing from there on, and tells that end for the ring's. A
//!   marker at or above it is another life's doing (see below). A new partition count, which holds from there on, then comes to nothing:
//!   the stream stays with the count that it has, and the next stream begins with the new one.
//! - What an upstream has lost is sent again by the stream that sent it, from its first seq on at most, and before it ends
//!   ([`Forward::is_settled`]). A stream that was absorbed is not there any more to notice: its positions are given up with it,
//!   because the log has other streams' batches among its own, and no single number says what of them is left.
//!
//! # A backup that is put back
//!
//! gives seqs again that another life of the ring used, for other records. A marker of that life must not be believed: a
//! record would pass for sent because another one had its number. The ring cannot know of it, only the upstream remembers. Nor
//! does the ring's end tell: when the upstream is reached, this life may have given more numbers than the other one sent. So
//! of each partition a bound is stored with its position, below which every marker of ours is true (`own_below`):
//!
//! - A process begins by lowering it to the ring's end, durable before it sends: what the ring has by then, both lives
//!   have. There it stays, for as many processes as it takes, until the partition was searched and had no marker of ours at
//!   or above it. From there on this life alone sends: the bound is lifted, durable before the first batch. That costs a sync
//!   for each process and partition that is sent to. What comes into the ring before the sink begins would pass for what
//!   both have: what a process admits at its very start and then dies with, what one that had no disk at first carries over from
//!   memory, what is imported.
//! - Where nothing is stored of a partition, this life has sent nothing to it, and no marker there is its own. Where entries
//!   were lost to damage, those below `forgotten_below` may be.
//! - Within a process, nothing at or above what it has sent itself is its own either: so a second node with the same directory is
//!   noticed at the next connect.
//!
//! A marker beyond that is announced, and the partition gets a new **incarnation**, which is part of the producer id: what the
//! other life sent there is then a stranger's. Of the new one nothing was ever sent, so its bound is where the stream begins; a
//! backup that is put back twice meets the incarnation of its second life and takes the next. Cursor and account stay as they
//! are.
//!
//! What both lives have and the newest marker below the bound does not prove was perhaps sent by the other one, in a batch
//! with more: it is sent again, and counted as `maybe_duplicated`. A marker beyond the bound would prove no more than that the other
//! life was done with it. If that life sent nothing but what both have, nothing comes twice, and nobody needs to know. But what a
//! process collected that never reached the upstream is beyond the bound, in a backup of it as well: a later process of
//! one that was put back would look the same.
//!
//! Why not a new ring id, as for a clone? Records that were written before the upstream was reached stand in slots under the
//! old id, with numbers that the other life used: they need another incarnation anyway, and with it a new id adds nothing here.
//!
//! # What it is not
//!
//! It knows no metadata, addresses or sessions: a driver answers [`Output::Open`] with [`Input::Up`] when the leader of that
//! partition can be spoken to, and says [`Input::Down`] when it cannot; deadlines of single requests are the driver's. It does not
//! speak of bytes: where an upstream rebuilds batches (deduplication), which the first acknowledged batch shows, it compares
//! what is there with what was sent by a number for each record, see `compare`.

mod compare;
mod cursor;
mod identity;
mod known;
mod machine;
mod marker;
mod offer;
mod pace;
mod placing;
mod refused;
mod reject;
mod resume;
mod schedule;
mod search;
mod state;
mod target;
#[cfg(test)]
mod tests;
pub mod turn;

pub use known::{Known, Last, Mark, Whose};
pub use machine::Forward;
pub use marker::Marker;
pub use pace::Pace;
pub use placing::Spread;
pub use reject::Reject;
pub use schedule::{Schedule, WHOLE, Wanting};
pub use search::HEADER_COST;

use crate::lane::LaneId;
use crate::name::Name;
use crate::record::Origin;
use crate::time::Span;
use turn::{Newest, Turn};

/// A place in a lane: the seq of the next record, and how many records of the lane are below it. An ordinal of 0 beside a
/// higher seq says that only the seq is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pos {
    pub seq: u64,
    pub ordinal: u64,
}

/// What became of ring records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub delivered: u64,
    pub filtered: u64,
    pub refused: u64,
    pub expired: u64,
    pub released: u64,
}

/// Why a record is not sent at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsent {
    /// Not wanted, or dropped by a rule.
    Filtered,
    /// No place upstream can be made for it.
    Refused,
    /// Older than its topic allows.
    Expired,
    /// Its topic left the ring.
    Released,
}

/// What to do when the upstream has lost what it acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnLoss {
    Resend,
    Continue,
}

/// A range of a lane that is sent in ascending order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stream {
    /// 0 begins where the sink was first configured; the others were split off, later ones have higher numbers.
    pub number: u32,
    /// The first seq that is its own to send: nothing below it is sent again, whatever an upstream has lost.
    pub start: u64,
    /// Nothing was ever sent as this stream, by no process: there is nothing to look for upstream.
    pub unstarted: bool,
}

#[derive(Clone, Debug)]
pub struct Options {
    pub ring_id: u128,
    /// Ids that the ring had on other machines, each with the first seq that was given after it: what was sent under them
    /// is ours up to there.
    pub former: Vec<(u128, u64)>,
    /// Records below this seq were perhaps sent although the stored states do not say so: some were lost to damage.
    pub forgotten_below: u64,
    pub sink: Name,
    pub lane: LaneId,
    /// What of the lane it sends.
    pub stream: Stream,
    /// Bytes of one batch, as the driver counts them.
    pub max_batch: usize,
    /// Which partitions of a topic its records go to.
    pub spread: Spread,
    /// Bytes of all batches together that are being filled or in flight.
    pub window: usize,
    /// How long a request inside a stalled upstream may take to land.
    pub grace: Span,
    /// Base and cap of the wait after a rejection.
    pub retry: (Span, Span),
    /// Bytes a search may download.
    pub search_max: usize,
    pub on_loss: OnLoss,
    /// Nobody else writes to its partitions, in no other topic of this sink nor from elsewhere.
    pub only_writer: bool,
    /// Whether a batch counts only when the high watermark has passed it.
    pub committed: bool,
    pub seed: u64,
}

/// An upstream topic, by the order in which it was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicIx(pub u16);

/// One partition of an upstream topic, by the order in which it was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TargetIx(pub u16);

/// One output of a ring record.
#[derive(Clone, Copy, Debug)]
pub struct Out {
    pub target: TargetIx,
    /// Its size in the driver's encoding.
    pub bytes: usize,
    /// Its time in milliseconds; deltas inside a batch stay within 31 bits.
    pub at_ms: i64,
    /// What key and value come to, where [`Forward::compares`] asks for it.
    pub content: u64,
}

/// Where an output goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub target: TargetIx,
    pub batch: u64,
    /// Its number in the batch; 0 begins a new one.
    pub index: u32,
    /// The time of the batch's first output.
    pub base_ms: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// Done with this record; read on.
    Taken(Took),
    /// Not now: offer it again (from [`Forward::read_pos`]) after the next input or timeout.
    Full,
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Took {
    /// Why it is not sent, if it is not.
    pub unsent: Option<Unsent>,
    /// A batch begins with it: the cursor may come to rest here.
    pub begins: bool,
}

/// Where a record of an upstream topic belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placing {
    Target(TargetIx),
    /// The topic's partitions are not known or change just now.
    Wait,
    /// More partitions than the machine holds.
    TooMany,
}

/// A batch to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    pub id: u64,
    pub marker: Origin,
    /// Outputs in it.
    pub count: u32,
    /// Ring records in it.
    pub records: u32,
    pub bytes: usize,
    pub base_ms: i64,
    pub max_ms: i64,
    pub last_seq: u64,
    /// For an upstream that keeps count: which batch it comes behind.
    pub turn: Option<Turn>,
}

/// A question about a partition; not more than one at a time for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Query {
    /// First offset and high watermark.
    Offsets,
    /// The header of the batch that holds this offset, committed or not.
    Header { at: i64 },
    /// What an upstream that keeps count has of a producer.
    Producer { id: i64, ring: u128 },
    /// What key and value of the records from the one offset up to the other come to.
    Contents { from: i64, to: i64 },
}

/// A batch's header as the upstream has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub base: i64,
    pub count: u32,
    pub origin: Origin,
}

impl Header {
    /// The offset after its last record.
    pub fn end(&self) -> i64 {
        self.base.saturating_add(i64::from(self.count))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The upstream topic has this many partitions; `fresh`: it was made just now, nothing can be on its way to it.
    Partitions { topic: TopicIx, count: u32, fresh: bool },
    /// The partition's leader can be spoken to. `counts`: it keeps the number of each producer's newest batch, and takes none
    /// out of turn.
    Up { target: TargetIx, counts: bool },
    /// It cannot any more. What was asked is void; what was sent may or may not land.
    Down { target: TargetIx },
    /// The answer to a Send: the base offset given to the batch.
    Sent { target: TargetIx, result: Result<i64, Reject> },
    /// The answer to [`Query::Offsets`]: first offset and high watermark.
    Offsets { target: TargetIx, result: Result<(i64, i64), Reject> },
    /// The answer to [`Query::Header`]; None past the log end.
    Header { target: TargetIx, result: Result<Option<Header>, Reject> },
    /// The answer to [`Query::Producer`]: the newest batch, and where the log ends.
    Producer { target: TargetIx, result: Result<(Option<Newest>, i64), Reject> },
    /// The answer to [`Query::Contents`]; None where that is more than may be downloaded, or cannot be read.
    Contents { target: TargetIx, result: Result<Option<Vec<u64>>, Reject> },
    /// What the last Advance with `sync` stored is durable.
    Synced,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Connect to the partition's leader, however long it takes; then say Up.
    Open {
        target: TargetIx,
    },
    /// What is known of the topic's partitions and leaders is wrong: ask again before the next Up.
    Refresh {
        topic: TopicIx,
    },
    Ask {
        target: TargetIx,
        query: Query,
    },
    Send {
        target: TargetIx,
        batch: Batch,
    },
    /// Forget every batch of this target.
    Discard {
        target: TargetIx,
    },
    /// Move the cursor and store the state entries with it; answer Synced once they are durable if `sync`.
    Advance {
        to: Pos,
        tally: Tally,
        state: Vec<(Vec<u8>, Vec<u8>)>,
        sync: bool,
    },
    Note(Note),
}

/// What a person should know, and counters live on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// The upstream no longer has what it acknowledged; `resending` from after the seq `from`.
    UpstreamLoss { target: TargetIx, from: u64, resending: bool },
    /// Outputs that are there twice.
    Duplicated { target: TargetIx, count: u64 },
    /// Ring records that may be there twice.
    MaybeDuplicated { target: TargetIx, count: u64 },
    /// The upstream refuses this one record for good: skipped, counted.
    Refused { target: TargetIx, seq: u64 },
    /// The upstream rebuilds batches: markers do not survive.
    MarkersLost { target: TargetIx },
    /// The partition holds records of ours that this life of the ring has not sent: a backup was put back. A new incarnation
    /// was taken for it.
    AnotherLife { target: TargetIx, seq: u64 },
}
