//! One stream: records pushed to a consumer as they become durable, one answer outstanding.
//!
//! Nothing is sent while there is nothing. Every answer holds whole batches; the consumer says how far it has come
//! (UpdateOffsets with the stream's id) and only then gets the next one, from the offset it says and nothing below it,
//! whatever the ring has put together since. An offset that is gone is told with the error of a real SPU, which names the
//! next that is there, and ends the stream: a consumer must not take a hole for a normal step.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use fluvio_protocol::link::ErrorCode;
use fluvio_spu_schema::fetch::FetchablePartitionResponse;
use fluvio_spu_schema::server::stream_fetch::StreamFetchResponse;
use tokio::sync::Notify;

use super::Shared;
use super::answer::{self, Packed};
use super::conn::Peer;
use super::read::{self, Cut, Slice};
use super::wire::Header;
use crate::codec::batch;
use crate::topic::TopicPart;

/// What one answer holds, unless a single batch is larger: many streams must not hold many megabytes.
const ANSWER_TARGET: usize = 256 * 1024;

/// The wait after a read that found nothing where something should be.
const EMPTY_PAUSE: Duration = Duration::from_millis(100);

const _: () = assert!(ANSWER_TARGET <= batch::MAX_BATCH);

/// What a connection knows of one of its streams.
pub struct StreamState {
    pub id: u32,
    pub part: TopicPart,
    pub topic: String,
    pub consumer: Option<String>,
    /// The newest offset the consumer asked to go on from.
    pub acked: Cell<Option<i64>>,
    pub wake: Notify,
}

/// Streams from `from` on until the topic or the connection is gone.
pub async fn run(
    shared: Rc<Shared>,
    peer: Rc<Peer>,
    header: Header,
    state: Rc<StreamState>,
    mut from: u64,
    max_bytes: usize,
) {
    let store = &shared.store;
    let limit = max_bytes.min(ANSWER_TARGET);
    // As a real SPU's, the first answer may begin before the offset asked for, which the client knows; not so the others.
    let mut cut = Cut::Whole;
    loop {
        store.wait_beyond(state.part, from).await;
        let turn = (peer.turn().await, shared.answers.share(ANSWER_TARGET.max(store.max_record())).await);
        let Some(info) = read::partition(store, &state.topic, state.part) else {
            return fail(&peer, header, &state, ErrorCode::TopicNotFound).await;
        };
        let (bytes, next) = match read::slice(store, state.part, from, limit, cut).await {
            Slice::Batches { bytes, next } => (bytes, next),
            Slice::Gone { resume } => {
                let error = ErrorCode::OffsetEvicted { offset: from as i64, next_available: resume as i64 };
                return fail(&peer, header, &state, error).await;
            }
            // Only around a topic that is going; whatever the reason, never a busy loop.
            Slice::End => {
                drop(turn);
                tokio::time::sleep(EMPTY_PAUSE).await;
                continue;
            }
        };
        state.acked.set(None);
        let partition = FetchablePartitionResponse {
            partition_index: u32::from(state.part.partition),
            high_watermark: info.durable_end as i64,
            log_start_offset: info.earliest as i64,
            records: Packed(bytes),
            ..Default::default()
        };
        let response = StreamFetchResponse { topic: state.topic.clone(), stream_id: state.id, partition };
        let Ok(answer) = answer::encode(header, &response) else { return };
        drop(response);
        if peer.send(answer).await.is_err() {
            return;
        }
        drop(turn);
        cut = Cut::Onward;
        from = loop {
            if let Some(offset) = state.acked.take() {
                break u64::try_from(offset).unwrap_or(next);
            }
            state.wake.notified().await;
        };
    }
}

async fn fail(peer: &Peer, header: Header, state: &StreamState, error_code: ErrorCode) {
    let response = error(&state.topic, state.id, u32::from(state.part.partition), error_code);
    if let Ok(answer) = answer::encode(header, &response) {
        // A failure ends the connection through its reader.
        let _ = peer.send(answer).await;
    }
}

/// An answer that is only an error.
pub fn error(topic: &str, stream_id: u32, partition_index: u32, error_code: ErrorCode) -> StreamFetchResponse<Packed> {
    let partition = FetchablePartitionResponse { partition_index, error_code, ..Default::default() };
    StreamFetchResponse { topic: topic.to_owned(), stream_id, partition }
}
