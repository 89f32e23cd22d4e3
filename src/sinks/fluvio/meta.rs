//! Metadata: which SPU leads which partition, where it is, and topics that have to be made.
//!
//! A short visit to the SC, not a client that stays: connect, open the three watches that every client opens, take
//! their first lists, create what is missing, wait until the wanted topics have leaders, and go. It is made when a
//! session begins, when a topic is met that is not known, and when an answer says that what is known is stale.
//!
//! Why not the `fluvio` crate: its connection brings executor threads of its own (async-global-executor, async-io, a DNS pool) and a
//! metadata cache with a task per object kind that never notices a restarted SC, has no deadline on the handshake,
//! and must be dropped and rebuilt to be refreshed. A visit is some 200 lines over the official wire crates with the
//! deadlines of this sink, no threads, and no memory between visits. The crate stays what tests compare with.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use fluvio::metadata::partition::{PartitionResolution, PartitionSpec};
use fluvio::metadata::spu::SpuSpec;
use fluvio::metadata::topic::{CleanupPolicy, CompressionAlgorithm, SegmentBasedPolicy, TopicSpec, TopicStorageConfig};
use fluvio_protocol::Decoder;
use fluvio_sc_schema::message::MsgType;
use fluvio_sc_schema::objects::{
    CommonCreateRequest, CreateRequest, Metadata, MetadataUpdate, ObjectApiCreateRequest, ObjectApiWatchRequest,
    ObjectApiWatchResponse, WatchRequest, WatchResponse,
};
use fluvio_sc_schema::{AdminSpec, Status, TryEncodableFrom};
use tokio::time::{Instant, timeout_at};

use super::conn::{Line, Link, plain, read_frame, read_frame_slowly, send};
use super::trouble::{Trouble, host_of, is_local, port_of, seconds};
use super::wire::{self, CREATE, PRODUCE, SC_VERSION, WATCH};
use crate::config::model::{Compression, FluvioSink, PartitionChoice};
use crate::limits::MAX_WIRE_FRAME;

/// Correlation ids of the watches; creations follow.
const SPUS: i32 = 2;
const PARTITIONS: i32 = 3;
const TOPICS: i32 = 4;
const CREATIONS: i32 = 10;

/// What a visit learned.
#[derive(Clone, Debug, Default)]
pub struct Meta {
    /// The SC that answered.
    pub sc: String,
    /// Public addresses, `host:port`.
    pub spus: BTreeMap<i32, String>,
    pub topics: BTreeMap<String, Topic>,
    /// Topics that were made in this visit.
    pub created: BTreeSet<String>,
    /// Why wanted topics are not usable, in plain words.
    pub problems: Vec<String>,
}

impl Meta {
    /// Where an SPU is reached: as the sink maps it, or as the SC says. None: the SC does not know it.
    pub fn address_of(&self, sink: &FluvioSink, spu: i32) -> Option<Result<String, Trouble>> {
        let mapped = sink.spu_address.get(&spu);
        let address = mapped.or_else(|| self.spus.get(&spu))?.clone();
        if mapped.is_none() && is_local(host_of(&address)) && !is_local(host_of(&self.sc)) {
            // It would be this machine: at best nobody answers, at worst our own endpoint does.
            let port = port_of(&address).unwrap_or(9010);
            return Some(Err(Trouble::Advertised { spu, advertised: address, port, why: String::new() }));
        }
        Some(Ok(address))
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topic {
    pub partitions: u32,
    /// The one compression the topic takes; None: any.
    pub compression: Option<Compression>,
    /// Leaders of partitions that are online.
    pub leaders: BTreeMap<u32, i32>,
}

impl Topic {
    fn is_ready(&self) -> bool {
        self.partitions > 0 && (0..self.partitions).all(|p| self.leaders.contains_key(&p))
    }
}

/// Visits the first SC that answers all that it is asked; one that hangs or is none is no reason not to ask the next.
pub async fn visit(sink: &FluvioSink, line: &Line, wanted: &BTreeSet<String>) -> Result<Meta, Trouble> {
    let mut first = None;
    for address in &sink.endpoint {
        match visit_at(address, sink, line, wanted).await {
            Ok(meta) => return Ok(meta),
            Err(trouble) => first = first.or(Some(trouble)),
        }
    }
    Err(first.unwrap_or(Trouble::Broken { address: "endpoint".into(), reason: "no SC is configured".into() }))
}

async fn visit_at(address: &str, sink: &FluvioSink, line: &Line, wanted: &BTreeSet<String>) -> Result<Meta, Trouble> {
    let link = Link::open(address, sink, line).await?;
    Visit::new(link, sink)?.run(wanted).await
}

struct Visit<'a> {
    link: Link,
    sink: &'a FluvioSink,
    meta: Meta,
    /// Watches whose first list came.
    listed: BTreeSet<i32>,
    /// Creations that were not answered yet: name by correlation id.
    creating: BTreeMap<i32, String>,
    after: Duration,
}

impl<'a> Visit<'a> {
    fn new(link: Link, sink: &'a FluvioSink) -> Result<Self, Trouble> {
        let address = link.address.clone();
        match link.speaks(WATCH) {
            None if link.speaks(PRODUCE).is_some() => return Err(Trouble::IsSpu { address }),
            None => return Err(Trouble::OtherProtocol { address, what: "something else" }),
            Some(theirs) if theirs < SC_VERSION => {
                return Err(Trouble::TooOld { address, ours: SC_VERSION, theirs });
            }
            Some(_) => {}
        }
        let meta = Meta { sc: address, ..Meta::default() };
        let after = sink.request_timeout.to_std();
        Ok(Self { link, sink, meta, listed: BTreeSet::new(), creating: BTreeMap::new(), after })
    }

    async fn run(mut self, wanted: &BTreeSet<String>) -> Result<Meta, Trouble> {
        self.watch::<SpuSpec>(SPUS).await?;
        self.watch::<PartitionSpec>(PARTITIONS).await?;
        self.watch::<TopicSpec>(TOPICS).await?;
        // The lists of a large cluster take a modem minutes: as long as they come, they are waited for.
        while self.listed.len() < 3 {
            match read_frame_slowly(&mut self.link.stream, MAX_WIRE_FRAME, self.after).await {
                Ok(frame) => self.take_frame(frame)?,
                Err(_) => return Err(Trouble::Unanswered { address: self.meta.sc, after: self.after }),
            }
        }
        self.create_missing(wanted).await?;
        let deadline = Instant::now() + self.after;
        while !self.creating.is_empty() || !self.unready(wanted).is_empty() {
            match timeout_at(deadline, read_frame(&mut self.link.stream, MAX_WIRE_FRAME)).await {
                Ok(frame) => self.take_frame(frame)?,
                // Some topics are not ready: go on with those that are.
                Err(_) => break,
            }
        }
        for name in self.creating.values() {
            let after = seconds(self.after);
            let text = format!("create topic {name}: the SC did not answer within {after} (request_timeout)");
            self.meta.problems.push(text);
        }
        for topic in self.unready(wanted) {
            self.meta.problems.push(format!("topic {topic} has partitions without a leader"));
        }
        self.look_for_partition(wanted);
        Ok(self.meta)
    }

    /// Topics that have not the one partition that is written to.
    fn look_for_partition(&mut self, wanted: &BTreeSet<String>) {
        let PartitionChoice::Number(partition) = self.sink.partition else { return };
        let known = wanted.iter().filter_map(|name| self.meta.topics.get_key_value(name));
        let short = known.filter(|(_, topic)| (1..=partition).contains(&topic.partitions));
        let words = short.map(|(name, Topic { partitions: n, .. })| {
            format!("topic {name} has {n} partitions upstream, from 0 on; partition = {partition} is none of them")
        });
        let words: Vec<_> = words.collect();
        self.meta.problems.extend(words);
    }

    /// Wanted topics that exist but cannot be written to yet.
    fn unready(&self, wanted: &BTreeSet<String>) -> Vec<String> {
        let waits = |name: &&String| {
            let known = self.meta.topics.get(*name);
            known.map_or(self.meta.created.contains(*name), |topic| !topic.is_ready())
        };
        wanted.iter().filter(waits).cloned().collect()
    }

    async fn watch<S: AdminSpec>(&mut self, correlation: i32) -> Result<(), Trouble>
    where
        ObjectApiWatchRequest: TryEncodableFrom<WatchRequest<S>>,
    {
        let request = ObjectApiWatchRequest::try_encode_from(WatchRequest::<S>::default(), SC_VERSION)
            .map_err(|e| self.broken(e.to_string()))?;
        let frame = wire::request(WATCH, SC_VERSION, correlation, &request).map_err(|e| self.broken(plain(&e)))?;
        self.send(&frame).await
    }

    async fn send(&mut self, frame: &[u8]) -> Result<(), Trouble> {
        let deadline = Instant::now() + self.after;
        match timeout_at(deadline, send(&mut self.link.stream, frame)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(e)) => Err(self.broken(plain(&e))),
            Err(_) => Err(Trouble::Unanswered { address: self.meta.sc.clone(), after: self.after }),
        }
    }

    fn broken(&self, reason: String) -> Trouble {
        Trouble::Broken { address: self.meta.sc.clone(), reason }
    }

    async fn create_missing(&mut self, wanted: &BTreeSet<String>) -> Result<(), Trouble> {
        let missing: Vec<String> = wanted.iter().filter(|t| !self.meta.topics.contains_key(*t)).cloned().collect();
        for (i, name) in missing.into_iter().enumerate() {
            if !self.sink.new_topics.create {
                let text = format!("topic {name} does not exist upstream; create it, or set create_topics = true");
                self.meta.problems.push(text);
                continue;
            }
            let common = CommonCreateRequest { name: name.clone(), dry_run: false, timeout: None };
            let spec = spec(self.sink);
            let request = ObjectApiCreateRequest::try_encode_from(CreateRequest::new(common, spec), SC_VERSION)
                .map_err(|e| self.broken(e.to_string()))?;
            let correlation = CREATIONS + i as i32;
            let frame = wire::request(CREATE, SC_VERSION, correlation, &request).map_err(|e| self.broken(plain(&e)))?;
            self.send(&frame).await?;
            self.creating.insert(correlation, name);
        }
        Ok(())
    }

    fn take_frame(&mut self, frame: std::io::Result<(i32, Vec<u8>)>) -> Result<(), Trouble> {
        match frame {
            Ok((correlation, body)) => self.take(correlation, &body),
            Err(e) => Err(self.broken(plain(&e))),
        }
    }

    fn take(&mut self, correlation: i32, body: &[u8]) -> Result<(), Trouble> {
        match correlation {
            SPUS => self.spus(self.update::<SpuSpec>(body)?),
            PARTITIONS => self.partitions(self.update::<PartitionSpec>(body)?),
            TOPICS => self.topics(self.update::<TopicSpec>(body)?),
            other => {
                let Some(name) = self.creating.remove(&other) else { return Ok(()) };
                let status: Status = wire::read(body, SC_VERSION).map_err(|e| self.broken(e.to_string()))?;
                return self.created(name, status);
            }
        }
        self.listed.insert(correlation);
        Ok(())
    }

    fn created(&mut self, name: String, status: Status) -> Result<(), Trouble> {
        use fluvio_protocol::link::ErrorCode;
        match status.error_code {
            ErrorCode::None => {
                self.meta.created.insert(name);
            }
            // Somebody else was quicker.
            ErrorCode::TopicAlreadyExists => {}
            code => {
                let why = status.error_message.unwrap_or_else(|| code.to_string());
                self.meta.problems.push(format!("create topic {name}: {why}"));
            }
        }
        Ok(())
    }

    fn update<S: AdminSpec>(&self, body: &[u8]) -> Result<MetadataUpdate<S>, Trouble>
    where
        ObjectApiWatchResponse: TryEncodableFrom<WatchResponse<S>>,
        S::Status: fluvio_protocol::Encoder + Decoder,
    {
        let response: ObjectApiWatchResponse = wire::read(body, SC_VERSION).map_err(|e| self.broken(e.to_string()))?;
        let update: Option<WatchResponse<S>> = response.downcast().map_err(|e| self.broken(e.to_string()))?;
        update.map(WatchResponse::inner).ok_or_else(|| self.broken("a watch answered about something else".into()))
    }

    fn spus(&mut self, update: MetadataUpdate<SpuSpec>) {
        for (spu, gone) in changes(update) {
            match public_address(&spu.spec).filter(|_| !gone) {
                Some(address) => self.meta.spus.insert(spu.spec.id, address),
                None => self.meta.spus.remove(&spu.spec.id),
            };
        }
    }

    fn partitions(&mut self, update: MetadataUpdate<PartitionSpec>) {
        for (object, gone) in changes(update) {
            let Some((topic, partition)) = object.name.rsplit_once('-') else { continue };
            let Ok(partition) = partition.parse::<u32>() else { continue };
            let leaders = &mut self.meta.topics.entry(topic.to_owned()).or_default().leaders;
            if !gone && object.status.resolution == PartitionResolution::Online {
                leaders.insert(partition, object.spec.leader);
            } else {
                leaders.remove(&partition);
            }
        }
    }

    fn topics(&mut self, update: MetadataUpdate<TopicSpec>) {
        for (object, gone) in changes(update) {
            if gone {
                self.meta.topics.remove(&object.name);
                continue;
            }
            let topic = self.meta.topics.entry(object.name).or_default();
            topic.partitions = object.spec.partitions();
            topic.compression = match object.spec.get_compression_type() {
                CompressionAlgorithm::Any => None,
                CompressionAlgorithm::None => Some(Compression::None),
                CompressionAlgorithm::Gzip => Some(Compression::Gzip),
                CompressionAlgorithm::Snappy => Some(Compression::Snappy),
                CompressionAlgorithm::Lz4 => Some(Compression::Lz4),
                CompressionAlgorithm::Zstd => Some(Compression::Zstd),
            };
        }
    }
}

/// Segments of a real SPU's log; it refuses partitions that are smaller.
const SEGMENT: u64 = 1 << 30;

/// How a topic is made.
fn spec(sink: &FluvioSink) -> TopicSpec {
    let new = &sink.new_topics;
    let needed = if let PartitionChoice::Number(partition) = sink.partition { partition + 1 } else { 1 };
    let mut spec = TopicSpec::new_computed(new.partitions.max(needed), new.replicas, None);
    if let Some(retention) = new.retention {
        let time_in_seconds = u32::try_from(retention.0 / 1_000_000).unwrap_or(u32::MAX);
        spec.set_cleanup_policy(CleanupPolicy::Segment(SegmentBasedPolicy { time_in_seconds }));
    }
    if let Some(size) = new.retention_size {
        // Whole segments are removed: of a small partition they are a quarter.
        let segment_size = (size < 4 * SEGMENT).then_some((size / 4) as u32);
        spec.set_storage(TopicStorageConfig { segment_size, max_partition_size: Some(size) });
    }
    spec.set_compression_type(match new.compression {
        None => CompressionAlgorithm::Any,
        Some(Compression::None) => CompressionAlgorithm::None,
        Some(Compression::Gzip) => CompressionAlgorithm::Gzip,
        Some(Compression::Snappy) => CompressionAlgorithm::Snappy,
        Some(Compression::Lz4) => CompressionAlgorithm::Lz4,
        Some(Compression::Zstd) => CompressionAlgorithm::Zstd,
    });
    spec
}

/// Where clients reach an SPU, `host:port`.
fn public_address(spu: &SpuSpec) -> Option<String> {
    let public = &spu.public_endpoint;
    let host = public.ingress.iter().find_map(|i| i.hostname.clone().or_else(|| i.ip.clone()));
    let host = host.filter(|host| !host.is_empty())?;
    Some(if host.contains(':') { format!("[{host}]:{}", public.port) } else { format!("{host}:{}", public.port) })
}

/// The objects of a list or of changes, and whether each is gone.
fn changes<S>(update: MetadataUpdate<S>) -> impl Iterator<Item = (Metadata<S>, bool)>
where
    S: AdminSpec,
    S::Status: fluvio_protocol::Encoder + Decoder,
{
    let changed = update.changes.into_iter().map(|m| (m.content, m.header == MsgType::DELETE));
    update.all.into_iter().map(|object| (object, false)).chain(changed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::fluvio::captures::{Capture, frames};
    use crate::sinks::fluvio::testing;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    #[test]
    fn topics_are_made_as_the_config_has_them_and_as_a_cluster_takes_them() {
        let mut sink = testing::sink("sc:9003");
        let plain = spec(&sink);
        assert_eq!((plain.get_clean_policy(), plain.get_storage(), plain.partitions()), (None, None, 1));
        assert_eq!(*plain.get_compression_type(), CompressionAlgorithm::Any);
        sink.partition = PartitionChoice::Number(6);
        let new = &mut sink.new_topics;
        (new.partitions, new.replicas, new.compression) = (3, 2, Some(Compression::Lz4));
        new.retention = Some(crate::time::Span::from_secs(3600));
        for size in [64 << 10, 3 << 30, 4 << 30, 1 << 40] {
            sink.new_topics.retention_size = Some(size);
            let spec = spec(&sink);
            assert_eq!(spec.validate_config(), None);
            assert_eq!(spec.get_storage().and_then(|storage| storage.max_partition_size), Some(size));
            assert_eq!((spec.partitions(), spec.replication_factor()), (7, Some(2)));
            assert_eq!((spec.retention_secs(), spec.get_compression_type()), (3600, &CompressionAlgorithm::Lz4));
        }
    }

    /// Plays a recorded SC: checks that our frames differ from the recorded client's only in names and numbers.
    async fn against(capture: Capture, wanted: &[&str]) -> Meta {
        answered_by(capture, wanted, |_| true).await
    }

    /// The same, leaving out some of its answers.
    async fn answered_by(capture: Capture, wanted: &[&str], says: fn(i32) -> bool) -> Meta {
        let (_, answers) = frames(capture);
        let (ours, mut theirs) = duplex(1 << 20);
        let versions = wire::read_api_versions(&answers[0][4..]).unwrap();
        let link = Link { address: "sc:9003".into(), stream: Box::new(ours), underway: None, versions };
        let sink = testing::sink("sc:9003");
        let wanted = wanted.iter().map(|w| (*w).to_owned()).collect();
        tokio::task::LocalSet::new()
            .run_until(async move {
                tokio::task::spawn_local(async move {
                    // The recorded client's ids, in the order of its watches: SPU 1, Partition 2, Topic 3, creation 4.
                    for answer in &answers[1..] {
                        let id = match answer[3] {
                            1 => SPUS,
                            2 => PARTITIONS,
                            3 => TOPICS,
                            _ => CREATIONS,
                        };
                        if !says(id) {
                            continue;
                        }
                        theirs.write_all(&(answer.len() as i32).to_be_bytes()).await.unwrap();
                        theirs.write_all(&id.to_be_bytes()).await.unwrap();
                        theirs.write_all(&answer[4..]).await.unwrap();
                    }
                    let mut rest = Vec::new();
                    let _ = theirs.read_to_end(&mut rest).await;
                });
                Visit::new(link, &sink).unwrap().run(&wanted).await.unwrap()
            })
            .await
    }

    #[tokio::test]
    async fn the_lists_of_a_real_sc_name_leaders_and_addresses() {
        let meta = against(Capture::ProduceScWatch, &["t1", "t2"]).await;
        assert_eq!(meta.spus, [(5001, "127.0.0.1:18010".to_owned())].into());
        let t2 = &meta.topics["t2"];
        assert_eq!((t2.partitions, t2.compression, t2.leaders.len()), (2, None, 2));
        assert!(meta.created.is_empty() && meta.problems.is_empty(), "{:?}", meta.problems);
    }

    #[tokio::test]
    async fn a_topic_made_on_a_real_sc_is_waited_for_until_it_has_a_leader() {
        let meta = against(Capture::TopicCreate, &["t1"]).await;
        assert_eq!(meta.created, ["t1".to_owned()].into());
        assert_eq!(meta.topics["t1"].leaders, [(0, 5001)].into());
    }

    #[tokio::test]
    async fn a_topic_whose_creation_is_not_answered_is_named() {
        let meta = answered_by(Capture::TopicCreate, &["t1"], |id| id != CREATIONS).await;
        assert_eq!(meta.problems[0], "create topic t1: the SC did not answer within 2 s (request_timeout)");
    }

    #[test]
    fn our_requests_are_those_of_the_recorded_client() {
        let (sent, _) = frames(Capture::TopicCreate);
        let body = |frame: &[u8]| {
            // Behind key, version, correlation id and the client's name.
            let name = u16::from_be_bytes([frame[8], frame[9]]) as usize;
            (frame[..4].to_vec(), frame[10 + name..].to_vec())
        };
        let watch = ObjectApiWatchRequest::try_encode_from(WatchRequest::<PartitionSpec>::default(), SC_VERSION);
        let ours = wire::request(WATCH, SC_VERSION, 2, &watch.unwrap()).unwrap();
        assert_eq!(body(&ours[4..]), body(&sent[2]));
        let common = CommonCreateRequest { name: "t1".into(), dry_run: false, timeout: None };
        let spec = TopicSpec::new_computed(1, 1, None);
        let create = ObjectApiCreateRequest::try_encode_from(CreateRequest::new(common, spec), SC_VERSION);
        let ours = wire::request(CREATE, SC_VERSION, 4, &create.unwrap()).unwrap();
        assert_eq!(body(&ours[4..]), body(sent.last().unwrap()));
    }
}
