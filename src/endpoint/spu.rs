//! The SPU's side: records in, records out.
//!
//! A produce is offered to the topic's rules batch by batch, in the order of the connection, and answered when its
//! records are durable; meanwhile the next requests are handled, so that one client with many requests in flight
//! gets many of them into one commit. So are the offsets of consumers. All of it is bounded: [`MAX_UNANSWERED`] per
//! connection.
//!
//! A batch with a marker lands in one frame, its producer's numbers as the records' origin, and is served as one batch
//! again (see [`crate::codec::batch`]). Two batches with the same numbers side by side in one frame would look like one, and a
//! repeat could not be counted: the second one waits until the first is durable, which closes its frame.
//!
//! A fetch at the end of a partition first makes durable what has been taken in: a sink that lost its connection in
//! the middle of a produce learns here whether the records arrived, and "not yet durable" must not look like "no".

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use fluvio_protocol::link::ErrorCode;
use fluvio_spu_schema::fetch::{FetchResponse, FetchablePartitionResponse, FetchableTopicResponse};
use fluvio_spu_schema::server::consumer_offset::{
    DeleteConsumerOffsetResponse, FetchConsumerOffsetsResponse, UpdateConsumerOffsetResponse,
};
use fluvio_spu_schema::server::fetch_offset::{
    FetchOffsetPartitionResponse, FetchOffsetTopicResponse, FetchOffsetsResponse,
};
use fluvio_spu_schema::server::update_offset::{OffsetUpdateStatus, UpdateOffsetsResponse};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::access::{Client, Deed};
use super::answer::{self, Packed};
use super::conn::{Close, Peer};
use super::produce::NO_SMARTMODULES;
use super::read::{self, Cut, Slice};
use super::request::{
    Fetch, FetchOffsets, StreamFetch, read_delete_consumer, read_fetch_consumers, read_update_consumer,
    read_update_offsets, version_is_read,
};
use super::stream::{self, StreamState};
use super::wire::{Frame, Header};
use super::{Shared, keys, offsets};
use crate::codec::batch::HEADER;
use crate::forward::turn::{Ask, Kept};
use crate::hub::Producer;
use crate::ring::Ticket;
use crate::time::Span;
use crate::topic::TopicPart;

/// Produces and offsets of consumers, of one connection, that are stored and not answered yet.
const MAX_UNANSWERED: usize = 16;
/// Streams of one connection. The protocol cannot end a stream without its connection, so dropped ones pile up.
const MAX_STREAMS: usize = 256;
/// Producers of one connection whose ring is remembered; those of more are kept without.
const MAX_RINGS: usize = 4096;
/// What one answer to a fetch holds: at least one whole batch.
const MAX_FETCH: usize = crate::codec::batch::MAX_BATCH;
/// How long a fetch at the end waits for what is being written.
const SETTLE: Duration = Duration::from_secs(5);

/// One client of the SPU's port.
pub struct Spu {
    pub(super) shared: Rc<Shared>,
    pub(super) peer: Rc<Peer>,
    client: Rc<Client>,
    streams: HashMap<u32, Rc<StreamState>>,
    last_stream: u32,
    unanswered: Arc<Semaphore>,
    /// By producer id, the ring that a producer said it sends from.
    rings: RefCell<HashMap<i64, u128>>,
}

impl Spu {
    pub fn new(shared: Rc<Shared>, peer: Rc<Peer>, client: Rc<Client>) -> Self {
        let unanswered = Arc::new(Semaphore::new(MAX_UNANSWERED));
        Self { shared, peer, client, streams: HashMap::new(), last_stream: 0, unanswered, rings: RefCell::default() }
    }

    pub async fn handle(&mut self, frame: Frame<'_>, tasks: &mut JoinSet<()>) -> Result<(), Close> {
        let header = frame.header;
        if !version_is_read(false, header.key, header.version) {
            return Err(Close::unread(header, false));
        }
        if frame.oversize {
            return self.refuse_oversize(&frame).await;
        }
        let answer = match header.key {
            keys::API_VERSIONS => {
                let keys: &[_] = if header.node { &keys::SPU_KEYS_FOR_NODES } else { &keys::SPU_KEYS };
                answer::encode(header, &answer::Versions { keys, platform: keys::SPU_PLATFORM })?
            }
            keys::PRODUCE => return self.produce(frame, tasks).await,
            keys::PRODUCERS => self.newest_of(header, frame.body()).await?,
            keys::FETCH => return self.fetch(header, frame.body()).await,
            keys::FETCH_OFFSETS => self.fetch_offsets(header, frame.body())?,
            keys::STREAM_FETCH => return self.stream(header, frame.body(), tasks).await,
            keys::UPDATE_OFFSETS => self.update_offsets(header, frame.body())?,
            keys::UPDATE_CONSUMER_OFFSET => return self.update_consumer(header, frame.body(), tasks).await,
            keys::DELETE_CONSUMER_OFFSET => self.delete_consumer(header, frame.body()).await?,
            keys::FETCH_CONSUMER_OFFSETS => {
                let filter = read_fetch_consumers(frame.body(), header.version)?;
                let mut consumers = offsets::list(&self.shared.store, &filter);
                consumers.retain(|c| self.client.may(Deed::Consume, &c.replica_id.topic));
                answer::encode(header, &FetchConsumerOffsetsResponse { error_code: ErrorCode::None, consumers })?
            }
            _ => return Err(Close::unread(header, false)),
        };
        self.peer.send(answer).await
    }

    pub(super) fn allows(&self, deed: Deed, topic: &str) -> bool {
        self.shared.allows(&self.client, deed, topic)
    }

    pub(super) fn log_end(&self, topic: &str, part: TopicPart) -> i64 {
        let info = self.shared.store.topic(topic);
        info.and_then(|t| t.partitions.get(usize::from(part.partition)).map(|p| p.next as i64)).unwrap_or(0)
    }

    /// Returns when there is a place for what waits for its answer. Before that no request is read, which holds the client
    /// back: one that has been read might have others wait for its share of the budget.
    pub async fn place(&self) {
        drop(self.slot().await);
    }

    /// Had while something waits for its answer.
    pub(super) async fn slot(&self) -> Result<OwnedSemaphorePermit, Close> {
        // Never closed.
        Arc::clone(&self.unanswered).acquire_owned().await.map_err(|_| Close::Stopping)
    }

    /// Answers when the ticket is settled; the next requests need not wait for it.
    pub(super) fn answer_settled(
        &self,
        ticket: Ticket,
        answer: Vec<u8>,
        slot: OwnedSemaphorePermit,
        tasks: &mut JoinSet<()>,
    ) {
        let (shared, peer) = (Rc::clone(&self.shared), Rc::clone(&self.peer));
        tasks.spawn_local(async move {
            shared.store.wait_settled(ticket).await;
            // A failure ends the connection through its reader.
            let _ = peer.send(answer).await;
            drop(slot);
        });
    }

    /// What another node's sink has sent here, as far as it is durable: what is not yet must not look like less.
    async fn newest_of(&self, header: Header, body: &[u8]) -> Result<Vec<u8>, Close> {
        let ask = Ask::read(body).ok_or_else(|| Close::Malformed("malformed question for a producer".into()))?;
        let store = &self.shared.store;
        let kept = match offsets::find(store, ask.topic, ask.partition) {
            _ if !self.allows(Deed::Produce, ask.topic) => Kept::NotAllowed,
            None => Kept::NoPartition,
            Some(part) => {
                self.note_ring(ask.producer_id, ask.ring);
                let newest = Producer::of(store, ask.topic, part.partition, ask.producer_id).map(|kept| kept.newest);
                let (log_end, until) = (self.log_end(ask.topic, part), store.last_ticket());
                if until > store.settled() {
                    store.hurry(Span::default());
                    // The connection's next requests wait with it.
                    store.wait_settled(until).await;
                }
                Kept::Has { newest, log_end }
            }
        };
        let mut told = Vec::new();
        kept.write(&mut told);
        Ok(answer::encode(header, &answer::Plain(told))?)
    }

    fn note_ring(&self, producer_id: i64, ring: Option<u128>) {
        let mut rings = self.rings.borrow_mut();
        if let Some(ring) = ring
            && (rings.len() < MAX_RINGS || rings.contains_key(&producer_id))
        {
            rings.insert(producer_id, ring);
        }
    }

    /// The ring that a producer of this connection sends from, if it has told.
    pub(super) fn ring_of(&self, producer_id: i64) -> Option<u128> {
        self.rings.borrow().get(&producer_id).copied()
    }

    // ------------------------------------------------------------------------------------------ fetch

    async fn fetch(&self, header: Header, body: &[u8]) -> Result<(), Close> {
        let request = Fetch::read(body)?;
        let each = usize::try_from(request.max_bytes).unwrap_or(0);
        let parts: usize = request.topics.iter().map(|(_, parts)| parts.len()).sum();
        let mut left = MAX_FETCH.min(each.saturating_mul(parts));
        let _share = self.shared.answers.share(left).await;
        let mut topics = Vec::new();
        for (name, parts) in &request.topics {
            let mut partitions = Vec::new();
            for part in parts {
                let answer = self.fetch_part(name, part.partition, part.offset, each.min(left)).await;
                left -= answer.records.0.len().min(left);
                partitions.push(answer);
            }
            topics.push(FetchableTopicResponse { name: (*name).to_owned(), partitions, ..Default::default() });
        }
        let answer = answer::encode(header, &FetchResponse { topics, ..Default::default() })?;
        self.peer.send(answer).await
    }

    async fn fetch_part(
        &self,
        topic: &str,
        partition: u32,
        offset: i64,
        mut limit: usize,
    ) -> FetchablePartitionResponse<Packed> {
        let mut answer = FetchablePartitionResponse { partition_index: partition, ..Default::default() };
        if self.client.may(Deed::Produce, topic) && !self.client.may(Deed::Consume, topic) {
            // Who resumes looks for its own markers: the header of one batch with its count, and nothing of its records.
            limit = limit.min(HEADER + 4);
        } else if !self.allows(Deed::Consume, topic) {
            answer.error_code = ErrorCode::PermissionDenied;
            return answer;
        }
        let Some(part) = offsets::find(&self.shared.store, topic, partition) else {
            answer.error_code = ErrorCode::NotLeaderForPartition;
            return answer;
        };
        let from = offset.max(0) as u64;
        // A timeout only means that what is on its way is not seen yet.
        let _ = timeout(SETTLE, self.settle_end(part, topic, from)).await;
        let Some(info) = read::partition(&self.shared.store, topic, part) else {
            answer.error_code = ErrorCode::NotLeaderForPartition;
            return answer;
        };
        if from > info.durable_end {
            // Word for word what a real SPU says: a resume reads the log end from it.
            answer.error_code =
                ErrorCode::Other(format!("start offset: {from} is greater than leo: {}", info.durable_end));
            return answer;
        }
        answer.high_watermark = info.durable_end as i64;
        answer.log_start_offset = info.earliest as i64;
        match read::slice(&self.shared.store, part, from, limit, Cut::Anywhere).await {
            Slice::Batches { bytes, .. } => answer.records = Packed(bytes),
            Slice::End => {}
            Slice::Gone { resume } => {
                answer.error_code = ErrorCode::OffsetEvicted { offset, next_available: resume as i64 };
            }
        }
        answer
    }

    /// Before the end is shown: what has been taken in becomes durable.
    async fn settle_end(&self, part: TopicPart, topic: &str, from: u64) {
        let Some(info) = read::partition(&self.shared.store, topic, part) else { return };
        if from >= info.durable_end && info.next > info.durable_end {
            self.shared.store.hurry(Span::default());
            self.shared.store.wait_beyond(part, info.next - 1).await;
        }
    }

    fn fetch_offsets(&self, header: Header, body: &[u8]) -> Result<Vec<u8>, Close> {
        let request = FetchOffsets::read(body, header.version)?;
        let mut topics = Vec::new();
        for (name, parts) in &request.topics {
            let sees = self.client.sees(name) || self.allows(Deed::Consume, name);
            let info = self.shared.store.topic(name).filter(|_| sees);
            let partitions = parts.iter().map(|&partition_index| {
                let part = info.as_ref().and_then(|t| t.partitions.get(partition_index as usize));
                FetchOffsetPartitionResponse {
                    error_code: match part {
                        Some(_) => ErrorCode::None,
                        None if sees => ErrorCode::PartitionNotLeader,
                        None => ErrorCode::PermissionDenied,
                    },
                    partition_index,
                    start_offset: part.map_or(0, |p| p.earliest as i64),
                    last_stable_offset: part.map_or(0, |p| p.durable_end as i64),
                }
            });
            topics.push(FetchOffsetTopicResponse { name: (*name).to_owned(), partitions: partitions.collect() });
        }
        Ok(answer::encode(header, &FetchOffsetsResponse { topics })?)
    }

    // ------------------------------------------------------------------------------------------ streams

    async fn stream(&mut self, header: Header, body: &[u8], tasks: &mut JoinSet<()>) -> Result<(), Close> {
        let request = StreamFetch::read(body, header.version)?;
        self.streams.retain(|_, state| Rc::strong_count(state) > 1);
        let part = offsets::find(&self.shared.store, request.topic, request.partition);
        let refused = if !self.allows(Deed::Consume, request.topic) {
            Some(ErrorCode::PermissionDenied)
        } else if request.smartmodules {
            Some(ErrorCode::Other(NO_SMARTMODULES.into()))
        } else if let Some(refused) = request.consumer.and_then(offsets::refusal) {
            Some(refused)
        } else if self.streams.len() >= MAX_STREAMS {
            Some(ErrorCode::Other(format!("a connection has at most {MAX_STREAMS} streams")))
        } else if part.is_none() {
            Some(ErrorCode::NotLeaderForPartition)
        } else {
            None
        };
        let (Some(part), None) = (part, &refused) else {
            let error = refused.unwrap_or(ErrorCode::NotLeaderForPartition);
            let answer = stream::error(request.topic, 0, request.partition, error);
            return self.peer.send(answer::encode(header, &answer)?).await;
        };
        self.last_stream = self.last_stream.wrapping_add(1);
        let state = Rc::new(StreamState {
            id: self.last_stream,
            part,
            topic: request.topic.to_owned(),
            consumer: request.consumer.map(str::to_owned),
            acked: Cell::default(),
            wake: tokio::sync::Notify::new(),
        });
        self.streams.insert(state.id, Rc::clone(&state));
        let from = request.offset.max(0) as u64;
        let limit = usize::try_from(request.max_bytes).unwrap_or(0);
        tasks.spawn_local(stream::run(Rc::clone(&self.shared), Rc::clone(&self.peer), header, state, from, limit));
        Ok(())
    }

    fn update_offsets(&self, header: Header, body: &[u8]) -> Result<Vec<u8>, Close> {
        let mut status = Vec::new();
        for (offset, session_id) in read_update_offsets(body)? {
            let stream = self.streams.get(&session_id);
            if let Some(stream) = stream {
                stream.acked.set(Some(offset));
                stream.wake.notify_one();
            }
            let error = if stream.is_some() { ErrorCode::None } else { ErrorCode::FetchSessionNotFoud };
            status.push(OffsetUpdateStatus { session_id, error });
        }
        Ok(answer::encode(header, &UpdateOffsetsResponse { status })?)
    }

    // ------------------------------------------------------------------------------------------ consumer offsets

    async fn update_consumer(&self, header: Header, body: &[u8], tasks: &mut JoinSet<()>) -> Result<(), Close> {
        let (offset, session) = read_update_consumer(body)?;
        let slot = self.slot().await?;
        let put = match self.streams.get(&session).map(|s| (s.part, s.consumer.as_deref())) {
            None => Err(ErrorCode::FetchSessionNotFoud),
            Some((_, None)) => Err(ErrorCode::Other("stream without consumer id".into())),
            Some((part, Some(consumer))) => offsets::put(&self.shared.store, part, consumer, offset),
        };
        match put {
            Ok(ticket) => {
                self.shared.store.hurry(Span::from_millis(20));
                let response = UpdateConsumerOffsetResponse { offset, error_code: ErrorCode::None };
                self.answer_settled(ticket, answer::encode(header, &response)?, slot, tasks);
                Ok(())
            }
            Err(error_code) => {
                let response = UpdateConsumerOffsetResponse { offset: 0, error_code };
                self.peer.send(answer::encode(header, &response)?).await
            }
        }
    }

    async fn delete_consumer(&self, header: Header, body: &[u8]) -> Result<Vec<u8>, Close> {
        let filter = read_delete_consumer(body)?;
        let topic = filter.part.map_or("", |(topic, _)| topic);
        if !self.allows(Deed::Consume, topic) {
            let error_code = ErrorCode::PermissionDenied;
            return Ok(answer::encode(header, &DeleteConsumerOffsetResponse { error_code })?);
        }
        let error_code = match offsets::delete(&self.shared.store, &filter) {
            Err(error) => error,
            Ok(None) => ErrorCode::None,
            Ok(Some(ticket)) => {
                self.shared.store.hurry(Span::from_millis(20));
                self.shared.store.wait_settled(ticket).await;
                ErrorCode::None
            }
        };
        Ok(answer::encode(header, &DeleteConsumerOffsetResponse { error_code })?)
    }
}
