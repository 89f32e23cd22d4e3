//! What is stored: read from the rings of stopped nodes.

use std::ops::ControlFlow;
use std::path::Path;

use headwater::node::stopped::StoppedRing;
use headwater::record::Flags;
use headwater::topic::TopicPart;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub offset: u64,
    pub key: Option<Vec<u8>>,
    pub value: Vec<u8>,
    pub flags: Flags,
}

impl Stored {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.value).expect("text")
    }

    fn content(&self) -> (Option<&[u8]>, &[u8]) {
        (self.key.as_deref(), &self.value)
    }
}

/// Everything that a stopped node holds of a topic with one partition; nothing of it may be gone.
pub fn records(data: &Path, topic: &str) -> Vec<Stored> {
    let mut ring = StoppedRing::open(data, &Default::default()).expect("a ring");
    let Some(info) = ring.topic(topic) else { return Vec::new() };
    assert_eq!(info.partitions.len(), 1, "{topic}");
    let mut records = Vec::new();
    let part = TopicPart { topic: info.id, partition: 0 };
    let gaps = ring.read(part, 0, |_, entry| {
        let record = &entry.record;
        records.push(Stored {
            offset: entry.offset,
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.to_vec(),
            flags: record.flags,
        });
        ControlFlow::Continue(())
    });
    assert_eq!(gaps, [], "{topic} has gaps");
    let dense = records.iter().zip(0..).all(|(record, offset)| record.offset == offset);
    assert!(dense, "offsets of {topic} are dense from 0");
    assert_eq!(records.len() as u64, info.partitions[0].durable_end, "{topic} is read to its end");
    records
}

pub fn topics(data: &Path) -> Vec<String> {
    StoppedRing::open(data, &Default::default()).expect("a ring").topics().iter().map(|t| t.name.to_string()).collect()
}

/// Each record of the edge is upstream once, in the edge's order, and nothing else is.
pub fn assert_same(topic: &str, edge: &[Stored], upstream: &[Stored]) {
    let at = edge.iter().zip(upstream).position(|(e, u)| e.content() != u.content());
    if let Some(at) = at {
        let show = |records: &[Stored]| {
            let near = &records[at.saturating_sub(2)..records.len().min(at + 4)];
            near.iter().map(|r| format!("{} {}", r.offset, r.text())).collect::<Vec<_>>()
        };
        panic!("{topic} differs at {at}: edge {:?}, upstream {:?}", show(edge), show(upstream));
    }
    assert_eq!(edge.len(), upstream.len(), "{topic}: as many records on both sides");
}
