//! What a node acknowledged, and whether it is there: read from the ring of the stopped node, never through a client.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use headwater::node::stopped::StoppedRing;
use headwater::ring::GapReason;
use headwater::topic::TopicPart;

use super::node::Node;

/// Lines of one topic by the offset that `headwater send` printed for them.
pub struct Kept {
    topic: &'static str,
    pub lines: BTreeMap<u64, String>,
    sent: u64,
}

impl Kept {
    pub fn new(topic: &'static str) -> Self {
        Self { topic, lines: BTreeMap::new(), sent: 0 }
    }

    /// Sends `count` lines of about `bytes` that do not compress, and waits for their offsets.
    pub fn send(&mut self, node: &Node, count: u64, bytes: usize) {
        self.send_by(count, bytes, |topic, lines| node.send(topic, lines));
    }

    /// As `send`, by whatever takes a topic and lines and gives what was printed for each.
    pub fn send_by(&mut self, count: u64, bytes: usize, send: impl FnOnce(&str, &[&str]) -> Vec<String>) {
        let lines: Vec<_> = (self.sent..self.sent + count).map(|n| line(n, bytes)).collect();
        self.sent += count;
        let texts: Vec<_> = lines.iter().map(String::as_str).collect();
        let offsets = send(self.topic, &texts);
        assert_eq!(offsets.len(), lines.len(), "an answer for each line");
        for (offset, line) in offsets.iter().zip(lines) {
            let offset = offset.parse().unwrap_or_else(|_| panic!("no offset: {offset}"));
            assert_eq!(self.lines.insert(offset, line), None, "offset {offset} was given twice");
        }
    }

    /// Everything acknowledged is in the ring of the stopped node, but for what was evicted: the oldest. Gives how many
    /// were.
    pub fn check(&self, data: &Path) -> u64 {
        let (earliest, found) = read(data, self.topic);
        for (offset, line) in self.lines.range(earliest..) {
            assert_eq!(found.get(offset), Some(line), "offset {offset} was acknowledged for this line");
        }
        self.lines.range(..earliest).count() as u64
    }
}

/// The first offset that is kept, and all lines from it on; nothing behind it is gone.
pub fn read(data: &Path, topic: &str) -> (u64, BTreeMap<u64, String>) {
    let mut ring = StoppedRing::open(data, &Default::default()).expect("a ring");
    let Some(info) = ring.topic(topic) else { return (0, BTreeMap::new()) };
    let mut found = BTreeMap::new();
    let gaps = ring.read(TopicPart { topic: info.id, partition: 0 }, 0, |_, entry| {
        found.insert(entry.offset, String::from_utf8(entry.record.value.to_vec()).expect("text"));
        ControlFlow::Continue(())
    });
    let lost: Vec<_> = gaps.iter().filter(|gap| gap.reason != GapReason::Evicted).collect();
    assert!(lost.is_empty(), "{topic} has gaps: {lost:?}");
    (info.partitions[0].earliest, found)
}

fn line(n: u64, bytes: usize) -> String {
    let mut line = format!("line {n} ");
    let mut x = n + 1;
    while line.len() < bytes {
        x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        line.push(char::from(b'!' + ((x >> 33) % 94) as u8));
    }
    line
}
