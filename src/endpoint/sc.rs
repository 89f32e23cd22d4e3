//! The SC's side: which topics and partitions there are, and where their one SPU is.
//!
//! A client opens three watches (SPU, Partition, Topic), takes the first list of each, then changes. It ignores an
//! empty first list and would wait a minute for the next one, so there is always one topic to show: `consumer-offset`,
//! which a real cluster has as well and whose partition 0 tells clients where consumer offsets are kept. It is not a
//! topic of the ring: the offsets are state entries (see [`super::offsets`]).

use std::io;
use std::rc::Rc;

use fluvio_protocol::link::ErrorCode;
use fluvio_protocol::{Decoder, Encoder};
use fluvio_sc_schema::core::Spec;
use fluvio_sc_schema::message::Message;
use fluvio_sc_schema::objects::{
    ListResponse, Metadata, MetadataUpdate, ObjectApiListResponse, ObjectApiWatchResponse, WatchResponse,
};
use fluvio_sc_schema::partition::{PartitionResolution, PartitionSpec, PartitionStatus, ReplicaStatus};
use fluvio_sc_schema::spu::SpuSpec;
use fluvio_sc_schema::topic::{
    CleanupPolicy, SegmentBasedPolicy, TopicResolution, TopicSpec, TopicStatus, TopicStorageConfig,
};
use fluvio_sc_schema::{AdminSpec, Status, TryEncodableFrom};
use tokio::task::JoinSet;

use super::access::{Client, Deed, shown};
use super::conn::{Close, Peer};
use super::request::{CreateTopic, List, read_delete, read_object, version_is_read};
use super::wire::{Frame, Header};
use super::{Shared, answer, keys, offsets, producers};
use crate::codec::Reader;
use crate::limits::MAX_PARTITIONS;
use crate::ring::{PartitionInfo, TopicInfo};
use crate::topic::TopicName;

/// The id of the node's one SPU, as `spu_address` of a client's config names it.
pub const SPU_ID: i32 = 5001;
const SPU_NAME: &str = "headwater-5001";
/// Where a real cluster keeps consumer offsets.
const CONSUMER_OFFSET: &str = "consumer-offset";
/// Watches of one connection; a client opens six.
const MAX_WATCHES: usize = 32;

/// One client of the SC's port.
pub struct Sc {
    pub shared: Rc<Shared>,
    pub peer: Rc<Peer>,
    pub client: Rc<Client>,
    /// Where this client is told that the SPU is.
    pub spu: (String, u16),
}

impl Sc {
    pub async fn handle(&mut self, frame: Frame<'_>, tasks: &mut JoinSet<()>) -> Result<(), Close> {
        let header = frame.header;
        if !version_is_read(true, header.key, header.version) || frame.oversize {
            return Err(Close::unread(header, frame.oversize));
        }
        let answer = match header.key {
            keys::API_VERSIONS => {
                answer::encode(header, &answer::Versions { keys: &keys::SC_KEYS, platform: keys::SC_PLATFORM })?
            }
            keys::sc::LIST => self.list(header, frame.body())?,
            keys::sc::WATCH => return self.watch(header, frame.body(), tasks),
            keys::sc::CREATE => answer::encode(header, &self.create(header, frame.body()).await?)?,
            keys::sc::DELETE => answer::encode(header, &self.delete(frame.body()).await?)?,
            keys::sc::UPDATE => {
                let (label, _) = read_object(frame.body())?;
                answer::encode(header, &refused("", format!("a node has no {label} that can be changed")))?
            }
            _ => return Err(Close::unread(header, false)),
        };
        self.peer.send(answer).await
    }

    fn list(&self, header: Header, body: &[u8]) -> Result<Vec<u8>, Close> {
        let (label, inner) = read_object(body)?;
        let list = List::read(inner)?;
        let wanted = |name: &str| list.names.is_empty() || list.names.iter().any(|filter| name.contains(filter));
        let topics = if list.system { vec![consumer_offset_topic()] } else { topics(&self.shared, &self.client) };
        Ok(match label {
            "Topic" => encode_list(header, topics.iter().map(topic).filter(|m| wanted(&m.name)).collect())?,
            "Partition" => {
                encode_list(header, topics.iter().flat_map(partitions).filter(|m| wanted(&m.name)).collect())?
            }
            "SPU" => encode_list(header, vec![self.spu()].into_iter().filter(|m| wanted(&m.name)).collect())?,
            other => answer::encode(header, &answer::NoObjects(other))?,
        })
    }

    fn watch(&self, header: Header, body: &[u8], tasks: &mut JoinSet<()>) -> Result<(), Close> {
        let (label, _) = read_object(body)?;
        if tasks.len() >= MAX_WATCHES {
            return Err(Close::Malformed("more watches than any client opens".into()));
        }
        let (shared, peer, client) = (Rc::clone(&self.shared), Rc::clone(&self.peer), Rc::clone(&self.client));
        // What there is now, not when the task first runs: a client may send a create right behind its watch.
        let known = (shared.store.topics_generation(), topics(&shared, &self.client));
        match label {
            "Topic" => tasks.spawn_local(watch(shared, peer, client, header, known, |t| vec![topic(t)])),
            "Partition" => tasks.spawn_local(watch(shared, peer, client, header, known, |t| partitions(t).collect())),
            "SPU" => {
                let all = WatchResponse::new(MetadataUpdate::with_all(0, vec![self.spu()]));
                let first = encode_watch(header, all)?;
                tasks.spawn_local(async move { drop(peer.send(first).await) })
            }
            // Nothing is ever there, so nothing is ever said.
            _ => return Ok(()),
        };
        Ok(())
    }

    fn spu(&self) -> Metadata<SpuSpec> {
        let (host, port) = self.spu.clone();
        let mut spec = SpuSpec::new_public_addr(SPU_ID, port, host.clone()).set_custom();
        (spec.private_endpoint.host, spec.private_endpoint.port) = (host, port);
        let mut status = <SpuSpec as Spec>::Status::default();
        status.set_online();
        Metadata { name: SPU_NAME.to_owned(), spec, status }
    }

    async fn create(&self, header: Header, body: &[u8]) -> Result<Status, Close> {
        let (label, inner) = read_object(body)?;
        if label != "Topic" {
            let name = Reader::new(inner).str("name")?;
            let what = format!("a node has topics only, no {label}; its rules are set in its own configuration");
            return Ok(Status::new(name.to_owned(), ErrorCode::InvalidCreateRequest, Some(what)));
        }
        let create = CreateTopic::read(inner)?;
        let (name, partitions) = match self.check_create(header, &create) {
            Ok(checked) => checked,
            Err(refused) => return Ok(refused),
        };
        if !create.dry_run
            && let Err(error) = self.shared.store.create_topic(&name, partitions).await
        {
            let code = ErrorCode::TopicError;
            return Ok(Status::new(create.name.to_owned(), code, Some(error.to_string())));
        }
        Ok(Status::new_ok(create.name.to_owned()))
    }

    fn check_create(&self, header: Header, create: &CreateTopic<'_>) -> Result<(TopicName, u8), Status> {
        self.check_allowed(Deed::Make, create.name)?;
        let refuse = |code, what: String| Status::new(create.name.to_owned(), code, Some(what));
        let invalid = |what: &str| refuse(ErrorCode::TopicInvalidConfiguration, what.to_owned());
        let name = TopicName::new(create.name).map_err(|e| refuse(ErrorCode::TopicInvalidName, e.to_string()))?;
        if self.shared.store.topic(create.name).is_some() || create.name == CONSUMER_OFFSET {
            let what = format!("Topic '{}' already exists", create.name);
            return Err(refuse(ErrorCode::TopicAlreadyExists, what));
        }
        let (partitions, replicas) = create
            .computed
            .ok_or_else(|| invalid("a node takes a number of partitions, not a map of replicas or a mirror"))?;
        if replicas > 1 {
            return Err(invalid("a node keeps one replica of a topic"));
        }
        if create.deduplication {
            return Err(invalid("a node does not deduplicate topics; use a rule"));
        }
        // A sink that says so means the clusters among its upstreams, and would wait for ever.
        if create.retention && !header.node {
            return Err(invalid(
                "a node keeps records as long as its ring has room, whatever the topic; leave out retention and size",
            ));
        }
        match u8::try_from(partitions) {
            Ok(n @ 1..) if usize::from(n) <= MAX_PARTITIONS => Ok((name, n)),
            _ => Err(invalid(&format!("a topic of a node has 1 to {MAX_PARTITIONS} partitions, not {partitions}"))),
        }
    }

    fn check_allowed(&self, deed: Deed, topic: &str) -> Result<(), Status> {
        if self.shared.allows(&self.client, deed, topic) {
            return Ok(());
        }
        let what = format!("{} may not {deed} topic {} here: the node's `endpoint.allow`", self.client, shown(topic));
        Err(Status::new(topic.to_owned(), ErrorCode::PermissionDenied, Some(what)))
    }

    async fn delete(&self, body: &[u8]) -> Result<Status, Close> {
        let (label, inner) = read_object(body)?;
        if label != "Topic" {
            return Ok(refused("", format!("a node has no {label} that can be deleted")));
        }
        let (name, force) = read_delete(inner)?;
        if let Err(refused) = self.check_allowed(Deed::Delete, name) {
            return Ok(refused);
        }
        let refuse = |code| Status::new(name.to_owned(), code, None);
        if name == CONSUMER_OFFSET {
            return Ok(refused(name, "consumer-offset is not a topic that can be deleted; delete consumers".into()));
        }
        if crate::topic::OWN_TOPICS.contains(&name) && !force {
            return Ok(refuse(ErrorCode::SystemSpecDeletionAttempt { kind: "topic".into(), name: name.into() }));
        }
        let Some(info) = self.shared.store.topic(name) else { return Ok(refuse(ErrorCode::TopicNotFound)) };
        offsets::forget_topic(&self.shared.store, info.id);
        producers::forget_topic(&self.shared.store, name);
        self.shared.store.delete_topic(info.id).await;
        Ok(Status::new_ok(name.to_owned()))
    }
}

fn refused(name: &str, what: String) -> Status {
    Status::new(name.to_owned(), ErrorCode::Other(what.clone()), Some(what))
}

/// The topics of the ring that this client is told of.
fn topics(shared: &Shared, client: &Client) -> Vec<TopicInfo> {
    let mut topics = shared.store.topics();
    topics.retain(|t| t.name.as_str() != CONSUMER_OFFSET && client.sees(t.name.as_str()));
    topics
}

/// The first list, then what was made and removed since.
async fn watch<S>(
    shared: Rc<Shared>,
    peer: Rc<Peer>,
    client: Rc<Client>,
    header: Header,
    (mut generation, mut known): (u64, Vec<TopicInfo>),
    objects: impl Fn(&TopicInfo) -> Vec<Metadata<S>> + 'static,
) where
    S: AdminSpec + 'static,
    S::Status: Encoder + Decoder + std::fmt::Debug,
{
    let all = known.iter().chain([&consumer_offset_topic()]).flat_map(&objects).collect();
    let mut update = MetadataUpdate::with_all(0, all);
    loop {
        let turn = peer.turn().await;
        let Ok(bytes) = encode_watch(header, WatchResponse::new(update)) else { return };
        if peer.send(bytes).await.is_err() {
            return;
        }
        drop(turn);
        let changes: Vec<_> = loop {
            generation = shared.store.topics_changed(generation).await;
            let now = topics(&shared, &client);
            let gone = known.iter().filter(|t| now.iter().all(|n| n.id != t.id)).flat_map(&objects);
            let made = now.iter().filter(|t| known.iter().all(|k| k.id != t.id)).flat_map(&objects);
            let changes: Vec<_> = gone.map(Message::delete).chain(made.map(Message::update)).collect();
            known = now;
            if !changes.is_empty() {
                break changes;
            }
        };
        update = MetadataUpdate::with_changes(generation as i64, changes);
    }
}

fn encode_list<S>(header: Header, objects: Vec<Metadata<S>>) -> io::Result<Vec<u8>>
where
    S: AdminSpec,
    S::Status: Encoder + Decoder + std::fmt::Debug,
{
    let list = ObjectApiListResponse::try_encode_from(ListResponse::new(objects), header.version);
    answer::encode(header, &list.map_err(io::Error::other)?)
}

fn encode_watch<S>(header: Header, response: WatchResponse<S>) -> io::Result<Vec<u8>>
where
    S: AdminSpec,
    S::Status: Encoder + Decoder,
{
    let watch = ObjectApiWatchResponse::try_encode_from(response, header.version);
    answer::encode(header, &watch.map_err(io::Error::other)?)
}

/// The one topic that is always there.
fn consumer_offset_topic() -> TopicInfo {
    TopicInfo {
        id: crate::topic::TopicId(u16::MAX),
        // Checked by a test: the name is a constant.
        name: TopicName::new(CONSUMER_OFFSET).unwrap_or_else(|_| unreachable!("a constant that is a topic name")),
        lane: crate::lane::LaneId(0),
        partitions: vec![PartitionInfo::default()],
    }
}

fn topic(info: &TopicInfo) -> Metadata<TopicSpec> {
    let count = info.partitions.len() as u32;
    let mut spec = TopicSpec::new_computed(count, 1, None);
    if info.name.as_str() == CONSUMER_OFFSET {
        // As a real cluster has it.
        spec.set_cleanup_policy(CleanupPolicy::Segment(SegmentBasedPolicy { time_in_seconds: 7 * 24 * 3600 }));
        spec.set_storage(TopicStorageConfig {
            segment_size: Some(512_000_000),
            max_partition_size: Some(2_048_000_000),
        });
        spec.set_system(true);
    }
    let status = TopicStatus {
        resolution: TopicResolution::Provisioned,
        replica_map: (0..count).map(|p| (p, vec![SPU_ID])).collect(),
        ..TopicStatus::default()
    };
    Metadata { name: info.name.to_string(), spec, status }
}

fn partitions(info: &TopicInfo) -> impl Iterator<Item = Metadata<PartitionSpec>> {
    let topic_spec = topic(info).spec;
    info.partitions.iter().enumerate().map(move |(i, part)| Metadata {
        name: format!("{}-{i}", info.name),
        spec: PartitionSpec::from_replicas(vec![SPU_ID], &topic_spec, None),
        status: PartitionStatus {
            resolution: PartitionResolution::Online,
            leader: ReplicaStatus::new(SPU_ID, part.durable_end as i64, part.durable_end as i64),
            base_offset: part.earliest as i64,
            ..PartitionStatus::default()
        },
    })
}
