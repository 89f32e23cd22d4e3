//! A real Fluvio cluster as the demo's upstream: what is there (by the official client's admin interface) and what it
//! stored (fetched from the SPUs batch by batch, because the official consumer loses records when it catches up).

use std::future::Future;
use std::time::Duration;

use anyhow::{Context, bail};
use fluvio::metadata::partition::PartitionSpec;
use fluvio::metadata::spu::SpuSpec;
use fluvio::metadata::topic::TopicSpec;
use fluvio::{FluvioAdmin, FluvioClusterConfig};
use fluvio_protocol::record::{RawRecords, RecordSet};
use fluvio_spu_schema::Isolation;
use fluvio_spu_schema::fetch::{DefaultFetchRequest, FetchPartition, FetchResponse, FetchableTopic};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::limits::MAX_WIRE_FRAME;
use crate::sinks::fluvio::{public_address, read_frame, wire};

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

/// A connection to the SC by the official client, whose threads and watches end with it.
pub struct Cluster {
    admin: FluvioAdmin,
    /// SPU ids and their public addresses.
    spus: Vec<(i32, String)>,
}

impl Cluster {
    pub async fn connect(sc: &str) -> anyhow::Result<Self> {
        let config = FluvioClusterConfig::new(sc);
        let connect = FluvioAdmin::connect_with_config(&config);
        let admin = within(&format!("connect to the SC at {sc}"), connect).await?;
        let known = within("list SPUs", admin.all::<SpuSpec>()).await?;
        let spus: Vec<_> = known.iter().filter_map(|spu| Some((spu.spec.id, public_address(&spu.spec)?))).collect();
        if spus.is_empty() {
            bail!("the SC at {sc} knows no SPU with a public address; is the cluster up?");
        }
        Ok(Self { admin, spus })
    }

    pub fn spus(&self) -> &[(i32, String)] {
        &self.spus
    }

    pub async fn delete_topic(&self, name: &str) -> anyhow::Result<()> {
        within(&format!("delete topic {name}"), self.admin.delete::<TopicSpec>(name.to_owned())).await
    }

    /// Visits every record of a topic, partition by partition, in order; (key, value). None is visited where the topic is
    /// not there.
    pub async fn read_all(&self, topic: &str, mut visit: impl FnMut(Option<&[u8]>, &[u8])) -> anyhow::Result<()> {
        let partitions = within("list partitions", self.admin.all::<PartitionSpec>()).await?;
        let number = |name: &str| name.rsplit_once('-').filter(|(t, _)| *t == topic)?.1.parse().ok();
        let mut mine: Vec<(u32, i32)> =
            partitions.iter().filter_map(|p| Some((number(&p.name)?, p.spec.leader))).collect();
        mine.sort_unstable();
        for (partition, leader) in mine {
            let address = self.spus.iter().find(|(id, _)| *id == leader).map(|(_, address)| address);
            let address =
                address.with_context(|| format!("the leader of {topic}-{partition}, SPU {leader}, is unknown"))?;
            let mut reader = Reader::connect(address, topic, partition).await?;
            reader.read(&mut visit).await.with_context(|| format!("read {topic}-{partition} from {address}"))?;
        }
        Ok(())
    }
}

struct Reader<'a> {
    stream: TcpStream,
    topic: &'a str,
    partition: u32,
    correlation: i32,
}

impl<'a> Reader<'a> {
    async fn connect(address: &str, topic: &'a str, partition: u32) -> anyhow::Result<Self> {
        let connect = async { Ok(TcpStream::connect(address).await?) };
        let stream = within(&format!("connect to the SPU at {address}"), connect).await?;
        let mut reader = Self { stream, topic, partition, correlation: 1 };
        reader.ask(wire::api_versions(1)?).await?;
        Ok(reader)
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
