//! A real Fluvio cluster as the demo's upstream: what is there (as the sink asks for it) and what it stored (fetched from
//! the SPUs batch by batch, because the official consumer loses records when it catches up).

use std::collections::BTreeSet;
use std::future::Future;
use std::time::Duration;

use anyhow::{Context, bail};
use fluvio::metadata::topic::TopicSpec;
use fluvio_protocol::link::ErrorCode;
use fluvio_protocol::record::{RawRecords, RecordSet};
use fluvio_sc_schema::objects::{DeleteRequest, ObjectApiDeleteRequest};
use fluvio_sc_schema::{Status, TryEncodableFrom};
use fluvio_spu_schema::Isolation;
use fluvio_spu_schema::fetch::{DefaultFetchRequest, FetchPartition, FetchResponse, FetchableTopic};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::config;
use crate::limits::MAX_WIRE_FRAME;
use crate::sinks::fluvio::{Line, Meta, read_frame, visit, wire};

/// Every question to the cluster is answered within this, or the cluster is taken for dead.
const WITHIN: Duration = Duration::from_secs(15);
/// What a fetch asks for at first; more where a batch does not fit.
const FETCH_BYTES: i32 = 1024 * 1024;
const MAX_FETCH_BYTES: i32 = MAX_WIRE_FRAME as i32 - 64 * 1024;

async fn within<T>(what: &str, future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    match timeout(WITHIN, future).await {
        Ok(result) => result.with_context(|| what.to_owned()),
        Err(_) => bail!("{what}: no answer within {} s", WITHIN.as_secs()),
    }
}

/// What one visit to the SC learned.
pub struct Cluster {
    meta: Meta,
}

impl Cluster {
    pub async fn connect(sc: &str) -> anyhow::Result<Self> {
        let sink = config::plain_fluvio(sc).map_err(anyhow::Error::msg)?;
        let nothing = BTreeSet::new();
        let ask = async { Ok(visit(&sink, &Line::default(), &nothing).await?) };
        let meta = within("ask the SC", ask).await?;
        if meta.spus.is_empty() {
            bail!("the SC at {sc} knows no SPU with a public address; is the cluster up?");
        }
        Ok(Self { meta })
    }

    /// SPU ids and their public addresses.
    pub fn spus(&self) -> impl Iterator<Item = (i32, &str)> {
        self.meta.spus.iter().map(|(id, address)| (*id, address.as_str()))
    }

    pub async fn delete_topic(&self, name: &str) -> anyhow::Result<()> {
        let delete = DeleteRequest::<TopicSpec>::new(name.to_owned());
        let delete = ObjectApiDeleteRequest::try_encode_from(delete, wire::SC_VERSION)?;
        let exchange = async {
            let mut stream = greet(&self.meta.sc).await?;
            stream.write_all(&wire::request(wire::DELETE, wire::SC_VERSION, 2, &delete)?).await?;
            let status: Status = wire::read(&read_frame(&mut stream, MAX_WIRE_FRAME).await?.1, wire::SC_VERSION)?;
            // The demo makes no topic that had no record.
            if status.is_error() && status.error_code != ErrorCode::TopicNotFound {
                bail!(status.error_message.unwrap_or_else(|| status.error_code.to_string()));
            }
            Ok(())
        };
        within(&format!("delete topic {name}"), exchange).await
    }

    /// Visits every record of a topic, partition by partition, in order; (key, value). None is visited where the topic is
    /// not there.
    pub async fn read_all(&self, topic: &str, mut visit: impl FnMut(Option<&[u8]>, &[u8])) -> anyhow::Result<()> {
        let Some(known) = self.meta.topics.get(topic) else { return Ok(()) };
        for partition in 0..known.partitions {
            let leader = known.leaders.get(&partition);
            let leader = leader.with_context(|| format!("{topic}-{partition} has no leader that is online"))?;
            let address = self.meta.spus.get(leader);
            let address =
                address.with_context(|| format!("the leader of {topic}-{partition}, SPU {leader}, is unknown"))?;
            let mut reader = Reader::connect(address, topic, partition).await?;
            reader.read(&mut visit).await.with_context(|| format!("read {topic}-{partition} from {address}"))?;
        }
        Ok(())
    }
}

/// A connection to an SC or an SPU that has answered the handshake, whose correlation id is 1.
async fn greet(address: &str) -> anyhow::Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(&wire::api_versions(1)?).await?;
    read_frame(&mut stream, MAX_WIRE_FRAME).await?;
    Ok(stream)
}

struct Reader<'a> {
    stream: TcpStream,
    topic: &'a str,
    partition: u32,
    correlation: i32,
}

impl<'a> Reader<'a> {
    async fn connect(address: &str, topic: &'a str, partition: u32) -> anyhow::Result<Self> {
        let stream = within(&format!("connect to the SPU at {address}"), greet(address)).await?;
        Ok(Self { stream, topic, partition, correlation: 1 })
    }

    async fn ask(&mut self, request: Vec<u8>) -> anyhow::Result<Vec<u8>> {
        let exchange = async {
            self.stream.write_all(&request).await?;
            Ok(read_frame(&mut self.stream, MAX_WIRE_FRAME).await?.1)
        };
        within("ask the SPU", exchange).await
    }

    async fn read(&mut self, visit: &mut impl FnMut(Option<&[u8]>, &[u8])) -> anyhow::Result<()> {
        self.correlation += 1;
        let answer = self.ask(wire::offsets(self.correlation, self.topic, self.partition)?).await?;
        let (start, end) = wire::read_offsets(&answer, self.topic, self.partition)?
            .map_err(|code| anyhow::anyhow!("offsets: {code}"))?;
        let (mut at, mut bytes) = (start, FETCH_BYTES);
        while at < end {
            let next = self.fetch(at, bytes, visit).await?;
            if next == at {
                // Not one whole batch came.
                if bytes == MAX_FETCH_BYTES {
                    bail!("the batch at offset {at} is larger than {MAX_FETCH_BYTES} bytes");
                }
                bytes = bytes.saturating_mul(2).min(MAX_FETCH_BYTES);
            }
            at = next;
        }
        Ok(())
    }

    /// Visits the records from `at` on that one answer holds; gives the offset after them.
    async fn fetch(
        &mut self,
        at: i64,
        bytes: i32,
        visit: &mut impl FnMut(Option<&[u8]>, &[u8]),
    ) -> anyhow::Result<i64> {
        self.correlation += 1;
        let partition = FetchPartition {
            partition_index: self.partition,
            fetch_offset: at,
            max_bytes: bytes,
            ..FetchPartition::default()
        };
        let topic = FetchableTopic { name: self.topic.to_owned(), fetch_partitions: vec![partition] };
        let request = DefaultFetchRequest {
            max_bytes: bytes,
            isolation_level: Isolation::ReadUncommitted,
            topics: vec![topic],
            ..DefaultFetchRequest::default()
        };
        let frame = wire::request(wire::FETCH, wire::SPU_VERSION, self.correlation, &request)?;
        let answer = self.ask(frame).await?;
        let answer: FetchResponse<RecordSet<RawRecords>> = wire::read(&answer, wire::SPU_VERSION)?;
        let Some(part) = answer.find_partition(self.topic, self.partition) else {
            bail!("the answer speaks of another partition")
        };
        if part.error_code.is_error() {
            bail!("fetch at offset {at}: {}", part.error_code);
        }
        let mut next = at;
        // A batch that was cut at the end of the slice is not among them.
        for batch in &part.records.batches {
            let records = batch.memory_records()?;
            for (offset, record) in (batch.get_base_offset()..).zip(&records) {
                if offset >= next {
                    visit(record.key().map(AsRef::as_ref), record.value().as_ref());
                    next = offset + 1;
                }
            }
        }
        Ok(next)
    }
}
