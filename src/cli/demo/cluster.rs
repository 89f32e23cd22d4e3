//! A real Fluvio cluster as the demo's upstream: what is there (as the sink asks for it) and what it stored (fetched from
//! the SPUs batch by batch, because the official consumer loses records when it catches up).

use std::collections::BTreeSet;
use std::future::Future;
use std::time::Duration;

use anyhow::{Context, bail};
use fluvio::metadata::topic::TopicSpec;
use fluvio_protocol::link::ErrorCode;
use fluvio_sc_schema::objects::{DeleteRequest, ObjectApiDeleteRequest};
use fluvio_sc_schema::{Status, TryEncodableFrom};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::codec::Reader;
use crate::codec::batch::{Batch, BatchError};
use crate::config::{self, FluvioSink};
use crate::limits::MAX_WIRE_FRAME;
use crate::record::RecordRef;
use crate::sinks::fluvio::{Line, MAX_SLICE, Meta, Reading, read_frame, visit, whole_batches, wire};

/// Every question to the cluster is answered within this, or the cluster is taken for dead.
const WITHIN: Duration = Duration::from_secs(15);
/// What a fetch asks for at first; more where a batch does not fit.
const FETCH_BYTES: usize = 1024 * 1024;

async fn within<T>(what: &str, future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    match timeout(WITHIN, future).await {
        Ok(result) => result.with_context(|| what.to_owned()),
        Err(_) => bail!("{what}: no answer within {} s", WITHIN.as_secs()),
    }
}

/// What one visit to the SC learned.
pub struct Cluster {
    sink: Box<FluvioSink>,
    meta: Meta,
}

impl Cluster {
    pub async fn connect(sc: &str) -> anyhow::Result<Self> {
        let sink = Box::new(config::plain_fluvio(sc).map_err(anyhow::Error::msg)?);
        let nothing = BTreeSet::new();
        let ask = async { Ok(visit(&sink, &Line::default(), &nothing).await?) };
        let meta = within("ask the SC", ask).await?;
        if meta.spus.is_empty() {
            bail!("the SC at {sc} knows no SPU with a public address; is the cluster up?");
        }
        Ok(Self { sink, meta })
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
            let mut visit = |record: RecordRef<'_>| visit(record.key, record.value);
            let read = read(&self.sink, address, topic, partition, &mut visit);
            read.await.with_context(|| format!("read {topic}-{partition} from {address}"))?;
        }
        Ok(())
    }
}

/// Visits every record of a partition.
async fn read(
    sink: &FluvioSink,
    address: &str,
    topic: &str,
    partition: u32,
    visit: &mut dyn FnMut(RecordRef<'_>),
) -> anyhow::Result<()> {
    let mut reading =
        within("ask the SPU", async { Ok(Reading::open(address, sink, &Line::default()).await?) }).await?;
    let (mut at, end) = reading.offsets(topic, partition).await?;
    let mut size = FETCH_BYTES;
    while at < end {
        let bytes = within("ask the SPU", async { Ok(reading.slice(topic, partition, at, size).await?) }).await?;
        let (before, mut done) = (at, Ok(()));
        // A batch that was cut at the end of the slice is not among them.
        let cut = whole_batches(&bytes, &mut |header, batch| {
            if done.is_ok() {
                done = records(batch, header.base, at, visit);
                at = header.end().max(at);
            }
        });
        done?;
        match cut {
            _ if at > before => {}
            Some(len) if len > size && len <= MAX_SLICE => size = len,
            _ => bail!("the batch at offset {at} cannot be read in {size} bytes"),
        }
    }
    Ok(())
}

/// Visits the records of a batch from offset `from` on.
fn records(batch: &[u8], base: i64, from: i64, visit: &mut dyn FnMut(RecordRef<'_>)) -> Result<(), BatchError> {
    let batch = Batch::take(&mut Reader::new(batch))?;
    let unpacked = batch.unpack_within(MAX_WIRE_FRAME)?;
    batch.check(&unpacked)?;
    let records = (base..).zip(batch.records(&unpacked));
    records.filter(|(offset, _)| *offset >= from).for_each(|(_, record)| visit(record));
    Ok(())
}

/// A connection to an SC or an SPU that has answered the handshake, whose correlation id is 1.
async fn greet(address: &str) -> anyhow::Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(&wire::api_versions(1)?).await?;
    read_frame(&mut stream, MAX_WIRE_FRAME).await?;
    Ok(stream)
}
