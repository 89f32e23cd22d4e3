//! Records in: a produce, batch by batch.

use std::future::pending;

use fluvio_protocol::link::ErrorCode;
use fluvio_spu_schema::produce::{PartitionProduceResponse, ProduceResponse, TopicProduceResponse};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::access::Deed;
use super::conn::Close;
use super::producers::{self, Sent, Verdict};
use super::request::{Produce, ProducePart};
use super::spu::Spu;
use super::wire::Frame;
use super::{answer, keys, offsets};
use crate::codec::Reader;
use crate::codec::batch::{Batch, BatchError};
use crate::forward::turn::{OUT_OF_TURN, Turn};
use crate::hub::{Admitted, Beside, OfferError, Producer, counters};
use crate::record::RecordRef;
use crate::ring::Ticket;
use crate::time::Span;
use crate::topic::{TopicId, TopicPart};

pub(super) const NO_SMARTMODULES: &str =
    "a Headwater node runs no SmartModules for its clients; use rules, or filter in the client";

const HELD: &str = "takes nothing at the moment: the ring is full of what sinks have not sent, or a rule has stopped it; \
     try again later";

/// What one frame of the ring takes. A batch with a marker must be one; others are cut where they do not fit (a client
/// that compresses sends batches of many times its own batch size).
#[derive(Clone, Copy)]
struct FrameLimit {
    bytes: usize,
}

/// What a record takes beside its bytes, at most.
const RECORD_OVERHEAD: usize = 64;

impl FrameLimit {
    fn of(max_record: usize) -> Self {
        Self { bytes: max_record }
    }

    /// A slot is at least four times the largest record: with what is around them, the records stay below three.
    fn holds(self, count: usize, bytes: usize) -> bool {
        bytes <= self.bytes && bytes + count * RECORD_OVERHEAD <= 3 * self.bytes
    }

    /// How many of the records fit, at least one, and their bytes.
    fn fill<'r>(self, records: impl Iterator<Item = RecordRef<'r>>) -> (usize, usize) {
        let (mut count, mut bytes) = (0, 0);
        for record in records {
            if count > 0 && !self.holds(count + 1, bytes + record.len()) {
                break;
            }
            count += 1;
            bytes += record.len();
        }
        (count, bytes)
    }
}

/// What holds for all batches of a request.
#[derive(Clone, Copy)]
struct Way {
    turn: Option<Turn>,
    /// Until when it may wait for topics that take nothing: a large request, which others may wait for.
    until: Option<Instant>,
}

/// The offsets of what came to be in a partition: a rule may send its output to another topic.
fn placed(admitted: &[Admitted], part: TopicPart) -> impl Iterator<Item = i64> {
    admitted.iter().filter_map(|a| a.first).filter(move |a| a.part == part).map(|a| a.offset as i64)
}

/// What became of one partition of a produce.
struct Stored {
    error: ErrorCode,
    base_offset: i64,
    /// Everything stored is durable when this is settled.
    ticket: Ticket,
}

impl Stored {
    fn answer(self, partition_index: u32) -> PartitionProduceResponse {
        let base_offset = if self.error == ErrorCode::None { self.base_offset } else { 0 };
        PartitionProduceResponse { partition_index, error_code: self.error, base_offset, ..Default::default() }
    }
}

impl Spu {
    /// An answer that says so: with a closed connection the client would send it again for ever.
    pub(super) async fn refuse_oversize(&self, frame: &Frame<'_>) -> Result<(), Close> {
        if frame.header.key != keys::PRODUCE {
            return Err(Close::unread(frame.header, true));
        }
        let (name, partition) = Produce::read_beginning(frame.body())?;
        let error = Stored { error: ErrorCode::MessageTooLarge, base_offset: 0, ticket: Ticket(0) };
        let responses = vec![TopicProduceResponse { name: name.into(), partitions: vec![error.answer(partition)] }];
        self.peer.send(answer::encode(frame.header, &ProduceResponse { responses, throttle_time_ms: 0 })?).await
    }

    pub(super) async fn produce(&self, frame: Frame<'_>, tasks: &mut JoinSet<()>) -> Result<(), Close> {
        let slot = self.slot().await?;
        let header = frame.header;
        let request = Produce::read(frame.body())?;
        let until = frame.has_share().then(|| Instant::now() + self.shared.patience.room);
        let way = Way { turn: request.turn, until };
        let mut last = Ticket(0);
        let mut responses = Vec::new();
        for (name, parts) in &request.topics {
            let mut partitions = Vec::new();
            for part in parts {
                let stored = if request.smartmodules {
                    Stored { error: ErrorCode::Other(NO_SMARTMODULES.into()), base_offset: 0, ticket: Ticket(0) }
                } else {
                    self.produce_part(name, *part, way).await?
                };
                last = last.max(stored.ticket);
                partitions.push(stored.answer(part.partition));
            }
            responses.push(TopicProduceResponse { name: (*name).to_owned(), partitions });
        }
        let answer = answer::encode(header, &ProduceResponse { responses, throttle_time_ms: 0 })?;
        self.answer_settled(last, answer, slot, tasks);
        Ok(())
    }

    async fn produce_part(&self, topic: &str, part: ProducePart<'_>, way: Way) -> Result<Stored, Close> {
        let mut stored = Stored { error: ErrorCode::None, base_offset: -1, ticket: Ticket(0) };
        if !self.allows(Deed::Produce, topic) {
            stored.error = ErrorCode::PermissionDenied;
            return Ok(stored);
        }
        let Some(to) = offsets::find(&self.shared.store, topic, part.partition) else {
            // What a real SPU says to a topic that it has not (or no more): clients look it up again.
            stored.error = ErrorCode::NotLeaderForPartition;
            return Ok(stored);
        };
        let mut set = part.records;
        // All headers and checksums first, so that a damaged set is refused whole.
        let mut check = set;
        while check.remaining() > 0 {
            if let Err(error) = Batch::take(&mut check) {
                stored.error = self.refusal(&error);
                return Ok(stored);
            }
        }
        while set.remaining() > 0 {
            match self.produce_batch((topic, to), &mut set, way).await? {
                Ok((first, ticket)) => {
                    stored.ticket = stored.ticket.max(ticket);
                    if stored.base_offset < 0 {
                        stored.base_offset = first.unwrap_or(-1);
                    }
                }
                Err(error) => {
                    stored.error = error;
                    break;
                }
            }
            tokio::task::yield_now().await;
        }
        if stored.base_offset < 0 {
            stored.base_offset = self.log_end(topic, to);
        }
        Ok(stored)
    }

    /// One batch: the offset of its first record that was stored, and when all of it is durable.
    async fn produce_batch(
        &self,
        (topic, to): (&str, TopicPart),
        set: &mut Reader<'_>,
        way: Way,
    ) -> Result<Result<(Option<i64>, Ticket), ErrorCode>, Close> {
        let store = &self.shared.store;
        let checked = Batch::take(set).and_then(|batch| {
            let unpacked = batch.unpack()?;
            let contents = batch.check(&unpacked)?;
            Ok((batch, unpacked, contents))
        });
        let (batch, unpacked, contents) = match checked {
            Ok(checked) => checked,
            Err(error) => return Ok(Err(self.refusal(&error))),
        };
        let frame = FrameLimit::of(store.max_record());
        if contents.largest > frame.bytes || (batch.origin.is_some() && !frame.holds(contents.count, contents.bytes)) {
            return Ok(Err(self.refusal(&BatchError::TooLarge)));
        }
        if let Some(origin) = batch.origin
            && let Some(before) = self.shared.same_origin_unsettled(to, origin)
        {
            store.hurry(Span::default());
            store.wait_settled(before).await;
        }
        let mut stored = (None, Ticket::default());
        let mut done = 0;
        while done < contents.count {
            let (count, bytes) = frame.fill(batch.records(&unpacked).skip(done));
            let mut records = || batch.records(&unpacked).skip(done).take(count);
            let sent =
                batch.origin.map(|origin| Sent { origin, turn: way.turn, ring: self.ring_of(origin.producer_id) });
            match self.offer((topic, to), &mut records, bytes, (sent, way.until)).await? {
                Ok((first, ticket)) => stored = (stored.0.or(first), ticket),
                Err(error) => return Ok(Err(error)),
            }
            done += count;
        }
        store.count(counters::RECEIVED, contents.count as u64);
        store.count(counters::RECEIVED_BYTES, contents.bytes as u64);
        store.hurry(Span::default());
        if let Some(origin) = batch.origin {
            self.shared.remember_origin(to, origin, stored.1);
        }
        Ok(Ok(stored))
    }

    /// Records that go into one frame.
    async fn offer<'r, I>(
        &self,
        (topic, to): (&str, TopicPart),
        records: &mut impl FnMut() -> I,
        bytes: usize,
        (sent, until): (Option<Sent>, Option<Instant>),
    ) -> Result<Result<(Option<i64>, Ticket), ErrorCode>, Close>
    where
        I: Iterator<Item = RecordRef<'r>>,
    {
        let store = &self.shared.store;
        if sent.is_some_and(|sent| sent.turn.is_some()) {
            producers::make_room(store);
        }
        let admitted = loop {
            // Together with what follows: nothing of this producer comes between.
            if let Some(Sent { origin, turn, .. }) = sent {
                // Who does not count is not looked up.
                let newest = turn.and_then(|_| Producer::of(store, topic, to.partition, origin.producer_id));
                let newest = newest.map(|kept| kept.newest);
                match producers::judge(newest, origin, turn) {
                    Verdict::Take => {}
                    Verdict::Repeat(newest) => return Ok(Ok((Some(newest.base), store.last_ticket()))),
                    Verdict::OutOfTurn => return Ok(Err(ErrorCode::Other(OUT_OF_TURN.into()))),
                }
            }
            // Asked before the ring is at work, and only for what is counted.
            let counted = sent.map(|sent| (sent, self.log_end(topic, to)));
            let mut beside = |admitted: &[Admitted], beside: &mut Beside<'_>| {
                let Some((sent, log_end)) = counted else { return };
                let base = placed(admitted, to).next().unwrap_or(log_end);
                let count = placed(admitted, to).count() as u32;
                producers::put(beside, store.now(), (topic, to.partition), sent, (base, count));
            };
            match store.offer_batch(to, &mut records(), bytes, &mut beside) {
                Ok(admitted) => break admitted,
                Err(OfferError::Busy) if self.room(to.topic, until).await => {}
                Err(OfferError::Busy) => return Ok(Err(ErrorCode::Other(format!("topic {topic} {HELD}")))),
                Err(OfferError::TooLarge { .. }) => return Ok(Err(self.refusal(&BatchError::TooLarge))),
            }
            if store.is_stopping() {
                return Err(Close::Stopping);
            }
        };
        let ticket = admitted.iter().map(|a| a.ticket).max().unwrap_or_default();
        let first = placed(&admitted, to).next();
        Ok(Ok((first, ticket)))
    }

    /// Waits for room. False: the topic takes nothing, `until` has passed, and what is to make room may never come.
    async fn room(&self, topic: TopicId, until: Option<Instant>) -> bool {
        let store = &self.shared.store;
        store.hurry(Span::default());
        let held = async {
            match until {
                Some(until) => sleep_until(until).await,
                None => pending().await,
            }
            store.held(topic).await;
        };
        tokio::select! {
            biased;
            () = store.room(topic) => true,
            () = held => false,
        }
    }

    fn refusal(&self, error: &BatchError) -> ErrorCode {
        match error {
            BatchError::TooLarge => {
                self.shared.store.count(counters::REFUSED, 1);
                ErrorCode::MessageTooLarge
            }
            BatchError::Compression(_) => ErrorCode::CompressionError,
            other => {
                self.shared.store.count(counters::MALFORMED, 1);
                ErrorCode::Other(other.to_string())
            }
        }
    }
}
