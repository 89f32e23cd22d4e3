//! Requests taken apart: plain data borrowed from the frame. Encodings are those of the official request types,
//! which the tests write them with.
//!
//! A list takes up to eight times its bytes in memory, once: room is made for as many as are there. Lists of topics
//! and partitions, which a large frame may hold, are no longer than a node can have of them.

use super::keys;
use crate::codec::{Malformed, Reader};
use crate::forward::turn::Turn;
use crate::limits::{MAX_PARTITIONS, MAX_TOPICS};

type Result<T> = std::result::Result<T, Malformed>;

/// Record sets of one produce: the official client sends each of its batches as a partition of its own, many of them at once
/// for one partition.
const MAX_SETS: usize = 16 * 1024;

/// One partition of a produce; its batches still packed.
#[derive(Clone, Copy, Debug)]
pub struct ProducePart<'a> {
    pub partition: u32,
    pub records: Reader<'a>,
}

#[derive(Clone, Debug)]
pub struct Produce<'a> {
    pub topics: Vec<(&'a str, Vec<ProducePart<'a>>)>,
    /// The producer asks for smart modules, which a node does not run for others.
    pub smartmodules: bool,
    /// The producer counts its batches: which one these come behind.
    pub turn: Option<Turn>,
}

impl<'a> Produce<'a> {
    pub fn read(body: &'a [u8]) -> Result<Self> {
        let mut r = Reader::new(body);
        let turn = r.opt_str("transactional id")?.and_then(Turn::of_text);
        r.i16("isolation")?;
        r.i32("timeout")?;
        let count = r.count_within(MAX_TOPICS, 6, "topics")?;
        let mut topics = Vec::with_capacity(count);
        let mut left = MAX_SETS;
        for _ in 0..count {
            let name = r.str("topic")?;
            let count = r.count_within(left, 8, "partitions")?;
            left -= count;
            let mut parts = Vec::with_capacity(count);
            for _ in 0..count {
                let partition = r.u32("partition")?;
                let len = usize::try_from(r.i32("record set")?).map_err(|_| Malformed("record set"))?;
                parts.push(ProducePart { partition, records: Reader::new(r.bytes(len, "record set")?) });
            }
            topics.push((name, parts));
        }
        // A smart module's own encoding differs by version; that there is one is all that is asked.
        let smartmodules = r.i32("smart modules")? > 0;
        Ok(Self { topics, smartmodules, turn })
    }

    /// The first topic and partition of a produce of which only the beginning is there.
    pub fn read_beginning(body: &'a [u8]) -> Result<(&'a str, u32)> {
        let mut r = Reader::new(body);
        r.opt_str("transactional id")?;
        r.i16("isolation")?;
        r.i32("timeout")?;
        r.i32("topics")?;
        let name = r.str("topic")?;
        r.i32("partitions")?;
        Ok((name, r.u32("partition")?))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchPart {
    pub partition: u32,
    pub offset: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetch<'a> {
    /// For each partition, as the real SPU takes it.
    pub max_bytes: i32,
    pub topics: Vec<(&'a str, Vec<FetchPart>)>,
}

impl<'a> Fetch<'a> {
    pub fn read(body: &'a [u8]) -> Result<Self> {
        let mut r = Reader::new(body);
        r.i32("max wait")?;
        r.i32("min bytes")?;
        let max_bytes = r.i32("max bytes")?;
        r.u8("isolation")?;
        let count = r.count_within(MAX_TOPICS, 6, "topics")?;
        let mut topics = Vec::with_capacity(count);
        for _ in 0..count {
            let name = r.str("topic")?;
            let count = r.count_within(MAX_PARTITIONS, 28, "partitions")?;
            let mut parts = Vec::with_capacity(count);
            for _ in 0..count {
                let partition = r.u32("partition")?;
                r.i32("leader epoch")?;
                let offset = r.i64("fetch offset")?;
                r.i64("log start")?;
                r.i32("partition max bytes")?;
                parts.push(FetchPart { partition, offset });
            }
            topics.push((name, parts));
        }
        for _ in 0..r.count(6, "forgotten topics")? {
            r.str("forgotten topic")?;
            for _ in 0..r.count(4, "forgotten partitions")? {
                r.i32("forgotten partition")?;
            }
        }
        r.end("fetch")?;
        Ok(Self { max_bytes, topics })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchOffsets<'a> {
    pub topics: Vec<(&'a str, Vec<u32>)>,
}

impl<'a> FetchOffsets<'a> {
    pub fn read(body: &'a [u8], version: i16) -> Result<Self> {
        let mut r = Reader::new(body);
        let count = r.count_within(MAX_TOPICS, 6, "topics")?;
        let mut topics = Vec::with_capacity(count);
        for _ in 0..count {
            let name = r.str("topic")?;
            let count = r.count_within(MAX_PARTITIONS, 4, "partitions")?;
            let mut parts = Vec::with_capacity(count);
            for _ in 0..count {
                parts.push(r.u32("partition")?);
            }
            topics.push((name, parts));
        }
        if version == 23 {
            r.opt_str("consumer id")?;
        }
        r.end("fetch offsets")?;
        Ok(Self { topics })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamFetch<'a> {
    pub topic: &'a str,
    pub partition: u32,
    pub offset: i64,
    pub max_bytes: i32,
    pub smartmodules: bool,
    pub consumer: Option<&'a str>,
}

impl<'a> StreamFetch<'a> {
    pub fn read(body: &'a [u8], version: i16) -> Result<Self> {
        let mut r = Reader::new(body);
        let topic = r.str("topic")?;
        let partition = r.u32("partition")?;
        let offset = r.i64("fetch offset")?;
        let max_bytes = r.i32("max bytes")?;
        r.u8("isolation")?;
        let mut smartmodules = false;
        if version == 18 {
            let wasm = r.count(1, "wasm module")?;
            smartmodules = wasm > 0 || r.flag("smart module")? || r.flag("derived stream")?;
        }
        let mut out = Self { topic, partition, offset, max_bytes, smartmodules, consumer: None };
        // What follows smart modules is not looked at: the stream is refused.
        if smartmodules || r.i32("smart modules")? > 0 {
            out.smartmodules = true;
            return Ok(out);
        }
        if version >= 23 {
            out.consumer = r.opt_str("consumer id")?;
        }
        r.end("stream fetch")?;
        Ok(out)
    }
}

/// (offset, stream id) pairs.
pub fn read_update_offsets(body: &[u8]) -> Result<Vec<(i64, u32)>> {
    let mut r = Reader::new(body);
    let count = r.count(12, "offsets")?;
    let mut out = Vec::with_capacity(count);
    for _ in 0..count {
        out.push((r.i64("offset")?, r.u32("session")?));
    }
    r.end("update offsets")?;
    Ok(out)
}

/// (offset, stream id).
pub fn read_update_consumer(body: &[u8]) -> Result<(i64, u32)> {
    let mut r = Reader::new(body);
    let out = (r.i64("offset")?, r.u32("session")?);
    r.end("update consumer offset")?;
    Ok(out)
}

/// A partition and a consumer, both optional where a list is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConsumerFilter<'a> {
    pub part: Option<(&'a str, u32)>,
    pub consumer: Option<&'a str>,
}

pub fn read_delete_consumer(body: &[u8]) -> Result<ConsumerFilter<'_>> {
    let mut r = Reader::new(body);
    let part = Some((r.str("topic")?, r.u32("partition")?));
    let consumer = Some(r.str("consumer id")?);
    r.end("delete consumer offset")?;
    Ok(ConsumerFilter { part, consumer })
}

pub fn read_fetch_consumers(body: &[u8], version: i16) -> Result<ConsumerFilter<'_>> {
    let mut r = Reader::new(body);
    let mut out = ConsumerFilter::default();
    if version >= 24 && r.flag("filter")? {
        if r.flag("partition filter")? {
            out.part = Some((r.str("topic")?, r.u32("partition")?));
        }
        out.consumer = r.opt_str("consumer filter")?;
    }
    r.end("fetch consumer offsets")?;
    Ok(out)
}

/// What an SC request is about ("Topic", "Partition", "SPU", ...) and its inner body.
pub fn read_object(body: &[u8]) -> Result<(&str, &[u8])> {
    let mut r = Reader::new(body);
    let label = r.str("object type")?;
    let len = usize::try_from(r.u32("object length")?).map_err(|_| Malformed("object length"))?;
    let inner = r.bytes(len, "object length")?;
    r.end("object")?;
    Ok((label, inner))
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List<'a> {
    pub names: Vec<&'a str>,
    pub system: bool,
}

impl<'a> List<'a> {
    pub fn read(inner: &'a [u8]) -> Result<Self> {
        let mut r = Reader::new(inner);
        // Each is looked for in the name of every object.
        let count = r.count_within(MAX_TOPICS, 2, "filters")?;
        let mut names = Vec::with_capacity(count);
        for _ in 0..count {
            names.push(r.str("filter")?);
        }
        r.flag("summary")?;
        let system = r.flag("system")?;
        r.end("list")?;
        Ok(Self { names, system })
    }
}

/// A topic to create, as far as a node can have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateTopic<'a> {
    pub name: &'a str,
    pub dry_run: bool,
    /// None: the replicas are assigned by hand or mirrored, which a node does not have.
    pub computed: Option<(u32, u32)>,
    pub deduplication: bool,
    /// How long, or how much of it, is to be kept.
    pub retention: bool,
}

impl<'a> CreateTopic<'a> {
    pub fn read(inner: &'a [u8]) -> Result<Self> {
        let mut r = Reader::new(inner);
        let name = r.str("name")?;
        let dry_run = r.flag("dry run")?;
        if r.flag("timeout")? {
            r.u32("timeout")?;
        }
        let mut out = Self { name, dry_run, computed: None, deduplication: false, retention: false };
        if r.u8("replicas")? != 1 {
            return Ok(out);
        }
        out.computed = Some((r.u32("partitions")?, r.u32("replication")?));
        r.flag("rack")?;
        out.retention = r.flag("cleanup policy")?;
        if out.retention {
            r.u8("cleanup policy")?;
            r.u32("retention")?;
        }
        // How a cluster lays a topic out, and what its producers compress with, changes nothing that a client sees here.
        if r.flag("storage")? {
            if r.flag("segment size")? {
                r.u32("segment size")?;
            }
            if r.flag("partition size")? {
                out.retention = true;
                r.i64("partition size")?;
            }
        }
        r.u8("compression")?;
        out.deduplication = r.flag("deduplication")?;
        Ok(out)
    }
}

/// The name of the object to delete, and whether the client insists.
pub fn read_delete(inner: &[u8]) -> Result<(&str, bool)> {
    let mut r = Reader::new(inner);
    let delete = (r.str("name")?, r.flag("force")?);
    r.end("delete")?;
    Ok(delete)
}

/// Whether a request of this version is read at all.
pub fn version_is_read(sc: bool, key: u16, version: i16) -> bool {
    match (sc, key) {
        (_, keys::API_VERSIONS) => true,
        (true, _) => (keys::SC_OLDEST..=keys::SC_VERSION).contains(&version),
        (false, keys::PRODUCERS) => version == keys::PRODUCERS_VERSION,
        (false, keys::UPDATE_OFFSETS) => (0..=keys::SPU_VERSION).contains(&version),
        (false, _) => (keys::SPU_OLDEST..=keys::SPU_VERSION).contains(&version),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fluvio_protocol::Encoder;
    use fluvio_sc_schema::objects as sc;
    use fluvio_sc_schema::topic::TopicSpec;
    use fluvio_spu_schema::fetch::{DefaultFetchRequest, FetchPartition, FetchableTopic, ForgottenTopic};
    use fluvio_spu_schema::produce::{DefaultProduceRequest, PartitionProduceData, TopicProduceData};
    use fluvio_spu_schema::server::consumer_offset as co;
    use fluvio_spu_schema::server::fetch_offset::FetchOffsetsRequest;
    use fluvio_spu_schema::server::stream_fetch::DefaultStreamFetchRequest;
    use proptest::prelude::*;

    fn bytes(value: &impl Encoder, version: i16) -> Vec<u8> {
        let mut out = Vec::new();
        value.encode(&mut out, version).unwrap();
        out
    }

    #[test]
    fn a_produce_reads_as_the_official_type_writes_it() {
        for version in keys::SPU_OLDEST..=keys::SPU_VERSION {
            let request = DefaultProduceRequest {
                topics: vec![TopicProduceData {
                    name: "t1".into(),
                    partitions: vec![PartitionProduceData { partition_index: 3, records: Default::default() }],
                    data: Default::default(),
                }],
                ..Default::default()
            };
            let body = bytes(&request, version);
            let read = Produce::read(&body).unwrap();
            assert_eq!((read.topics[0].0, read.topics[0].1[0].partition, read.smartmodules), ("t1", 3, false));
            assert_eq!(Produce::read_beginning(&body), Ok(("t1", 3)));
        }
    }

    #[test]
    fn a_fetch_reads_as_the_official_type_writes_it() {
        for version in keys::SPU_OLDEST..=keys::SPU_VERSION {
            let request = DefaultFetchRequest {
                max_bytes: 61,
                topics: vec![FetchableTopic {
                    name: "t1".into(),
                    fetch_partitions: vec![FetchPartition {
                        partition_index: 1,
                        fetch_offset: 9,
                        ..Default::default()
                    }],
                }],
                forgotten: vec![ForgottenTopic { name: "x".into(), forgotten_partition_indexes: vec![1, 2] }],
                ..Default::default()
            };
            let expected = Fetch { max_bytes: 61, topics: vec![("t1", vec![FetchPart { partition: 1, offset: 9 }])] };
            assert_eq!(Fetch::read(&bytes(&request, version)).unwrap(), expected);
        }
    }

    #[test]
    fn offset_requests_read_as_the_official_types_write_them() {
        for version in keys::SPU_OLDEST..=keys::SPU_VERSION {
            let body = bytes(&FetchOffsetsRequest::new("t1".into(), 2), version);
            assert_eq!(FetchOffsets::read(&body, version).unwrap().topics, vec![("t1", vec![2])]);
        }
        let some = co::FetchConsumerOffsetsRequest::with_opts(Some(("t1", 1u32).into()), Some("c1".into()));
        let filter = ConsumerFilter { part: Some(("t1", 1)), consumer: Some("c1") };
        assert_eq!(read_fetch_consumers(&bytes(&some, 25), 25).unwrap(), filter);
        let none = co::FetchConsumerOffsetsRequest::default();
        assert_eq!(read_fetch_consumers(&bytes(&none, 25), 25).unwrap(), ConsumerFilter::default());
        let delete = co::DeleteConsumerOffsetRequest::new("t1", 1, "c1");
        assert_eq!(read_delete_consumer(&bytes(&delete, 25)).unwrap(), filter);
        assert_eq!(read_update_consumer(&bytes(&co::UpdateConsumerOffsetRequest::new(4, 5), 25)).unwrap(), (4, 5));
    }

    #[test]
    fn a_stream_fetch_reads_as_the_official_type_writes_it() {
        for version in keys::SPU_OLDEST..=keys::SPU_VERSION {
            let request = DefaultStreamFetchRequest::builder()
                .topic("t1")
                .partition(1u32)
                .fetch_offset(5)
                .max_bytes(99)
                .consumer_id(Some("c".to_owned()))
                .build()
                .unwrap();
            let consumer = (version >= 23).then_some("c");
            let expected =
                StreamFetch { topic: "t1", partition: 1, offset: 5, max_bytes: 99, smartmodules: false, consumer };
            assert_eq!(StreamFetch::read(&bytes(&request, version), version).unwrap(), expected);
        }
    }

    #[test]
    fn topic_requests_read_as_the_official_types_write_them() {
        use fluvio_sc_schema::TryEncodableFrom;
        for version in keys::SC_OLDEST..=keys::SC_VERSION {
            let common = sc::CommonCreateRequest { name: "t1".into(), dry_run: true, timeout: Some(5) };
            let mut spec = TopicSpec::new_computed(3, 1, None);
            spec.set_cleanup_policy(Default::default());
            spec.set_storage(fluvio_sc_schema::topic::TopicStorageConfig {
                segment_size: Some(1),
                max_partition_size: Some(2),
            });
            let create =
                sc::ObjectApiCreateRequest::try_encode_from(sc::CreateRequest::new(common, spec), version).unwrap();
            let body = bytes(&create, version);
            let (label, inner) = read_object(&body).unwrap();
            let expected = CreateTopic {
                name: "t1",
                dry_run: true,
                computed: Some((3, 1)),
                deduplication: false,
                retention: true,
            };
            assert_eq!((label, CreateTopic::read(inner).unwrap()), ("Topic", expected));

            let list = sc::ListRequest::<TopicSpec>::new("t", false).system(true);
            let body = bytes(&sc::ObjectApiListRequest::try_encode_from(list, version).unwrap(), version);
            let (_, inner) = read_object(&body).unwrap();
            assert_eq!(List::read(inner).unwrap(), List { names: vec!["t"], system: true });

            let delete = sc::DeleteRequest::<TopicSpec>::new("t1".into());
            let body = bytes(&sc::ObjectApiDeleteRequest::try_encode_from(delete, version).unwrap(), version);
            let (_, inner) = read_object(&body).unwrap();
            assert_eq!(read_delete(inner).unwrap(), ("t1", false));
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), version in 15i16..26) {
            let _ = Produce::read(&bytes);
            let _ = Produce::read_beginning(&bytes);
            let _ = Fetch::read(&bytes);
            let _ = FetchOffsets::read(&bytes, version);
            let _ = StreamFetch::read(&bytes, version);
            let _ = read_update_offsets(&bytes);
            let _ = read_update_consumer(&bytes);
            let _ = read_delete_consumer(&bytes);
            let _ = read_fetch_consumers(&bytes, version);
            let _ = read_object(&bytes);
            let _ = List::read(&bytes);
            let _ = CreateTopic::read(&bytes);
            let _ = read_delete(&bytes);
        }
    }
}
