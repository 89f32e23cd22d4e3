//! Every recorded connection, played in its order against the node: the client's bytes are sent as they were, and each
//! answer must be the real server's once both are normal (see [`super::normal`]).

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use super::capture::{Dir, frames};
use super::normal::{Change, Normal};
use super::produce::{batch, fetch, produce};
use super::server::{Client, Server};

const WATCH: u16 = 1004;

/// One recorded connection, being played.
struct Replay {
    name: String,
    sc: bool,
    frames: VecDeque<(Dir, Vec<u8>)>,
    client: Client,
    /// The key of the last request with this correlation id.
    keys: HashMap<i32, u16>,
    /// Watches whose whole list is yet to come.
    fresh: Vec<i32>,
    /// What the real server said changed, the last word for each object.
    changed: BTreeMap<(i32, String), (u8, Vec<u8>)>,
    listed: Vec<Vec<u8>>,
}

fn words(name: &str) -> impl Iterator<Item = &str> {
    name.split('.')
}

impl Replay {
    fn open(server: &Server, name: &str) -> Self {
        let sc = words(name).any(|w| w == "sc");
        let client = Client::connect(if sc { server.sc } else { server.spu });
        let (keys, fresh, changed, listed) = Default::default();
        Self { name: name.to_owned(), sc, frames: frames(name).into(), client, keys, fresh, changed, listed }
    }

    /// Plays all of it.
    fn run(server: &Server, name: &str) -> Client {
        let mut replay = Self::open(server, name);
        replay.play(usize::MAX);
        replay.end()
    }

    /// Plays the next frames, of either side.
    fn play(&mut self, count: usize) {
        for _ in 0..count {
            let Some((dir, frame)) = self.frames.pop_front() else { return };
            match dir {
                Dir::Client => self.send(&frame),
                Dir::Server => self.compare(&frame),
            }
        }
    }

    fn send(&mut self, frame: &[u8]) {
        let key = u16::from_be_bytes([frame[0], frame[1]]);
        let correlation = i32::from_be_bytes(frame[4..8].try_into().unwrap());
        self.keys.insert(correlation, key);
        if self.sc && key == WATCH {
            self.fresh.push(correlation);
        }
        self.client.send(frame);
    }

    fn compare(&mut self, theirs: &[u8]) {
        let correlation = i32::from_be_bytes(theirs[..4].try_into().unwrap());
        let key = self.keys[&correlation];
        let (theirs, changes) = self.normal(key, &theirs[4..]);
        if let Err(changes) = changes {
            for (header, name, object) in changes {
                self.changed.insert((correlation, name), (header, object));
            }
            return;
        }
        let ours = self.client.answer(correlation);
        let (ours, changes) = self.normal(key, &ours);
        assert!(changes.is_ok(), "{}: changes before the whole list", self.name);
        assert_eq!(show(&ours), show(&theirs), "{}: the answer to a request with key {key}", self.name);
        if self.sc && key == WATCH {
            self.fresh.retain(|c| *c != correlation);
            self.listed.push(theirs);
        }
    }

    fn normal(&self, key: u16, body: &[u8]) -> (Vec<u8>, Result<(), Vec<Change>>) {
        let mut normal = Normal::new(body);
        let mut changes = Ok(());
        match (self.sc, key) {
            (_, 18) => normal.versions(),
            (true, 1003) => normal.list(),
            (true, WATCH) => changes = normal.watch(),
            (false, 1) => normal.fetch(self.name.starts_with("fetch-header-walk")),
            (false, 1003) => normal.stream(),
            (false, 1008) => normal.consumers(),
            _ => return (body.to_vec(), Ok(())),
        }
        (normal.end(), changes)
    }

    /// What changed is the same in the end, though a real SC tells each of its own steps. News of the offsets of a
    /// partition that was listed (which a node does not send) is left out.
    fn end(mut self) -> Client {
        let known = |name: &String| {
            let line = format!("{name}\n").into_bytes();
            self.listed.iter().any(|list| list.windows(line.len()).any(|w| w == line))
        };
        let expected: BTreeMap<_, _> = std::mem::take(&mut self.changed)
            .into_iter()
            .filter(|((_, n), (header, _))| *header == 1 || !known(n))
            .collect();
        let mut seen = BTreeMap::new();
        for (correlation, name) in expected.keys() {
            while !seen.contains_key(&(*correlation, name.clone())) {
                let Some(answer) = self.client.answer_within(*correlation, Duration::from_secs(5)) else { break };
                let (_, changes) = self.normal(WATCH, &answer);
                for (header, name, object) in changes.expect_err("changes after the whole list") {
                    seen.insert((*correlation, name), (header, object));
                }
            }
        }
        assert_eq!(seen, expected, "{}: what changed", self.name);
        self.client
    }
}

/// Bytes that a person can compare.
fn show(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string().replace("\\n", "\n")
}

/// The topics `t1` and `t2` with 100 records in `t1`, by the recorded clients themselves.
fn produced(server: &Server) {
    for name in ["topic-create.sc.3", "topic-create-2p.sc.4", "topic-create-again.sc.5", "topic-list.sc.6"] {
        Replay::run(server, name);
    }
    for name in ["topic-describe.sc.7", "partition-list.sc.8", "produce-none.sc.9", "produce-none.spu.1"] {
        Replay::run(server, name);
    }
    for name in ["produce-keys.sc.10", "produce-keys.spu.2", "produce-gzip.sc.11", "produce-gzip.spu.3"] {
        Replay::run(server, name);
    }
    for name in ["produce-snappy.sc.12", "produce-snappy.spu.4", "produce-lz4.sc.13", "produce-lz4.spu.5"] {
        Replay::run(server, name);
    }
    for name in ["produce-zstd.sc.14", "produce-zstd.spu.6"] {
        Replay::run(server, name);
    }
}

#[test]
fn every_recorded_scenario_is_answered_as_the_real_cluster_did() {
    let server = Server::start();
    produced(&server);
    for name in ["consume-beginning.sc.15", "consume-beginning.spu.7", "consume-from-95.sc.16", "consume-from-95.spu.8"]
    {
        Replay::run(&server, name);
    }
    // A consumer at the end sees each record as it is produced.
    Replay::run(&server, "consume-tail.sc.17");
    let mut tail = Replay::open(&server, "consume-tail.spu.9");
    tail.play(5);
    for (sc, spu) in [
        ("produce-live.sc.18", "produce-live.spu.10"),
        ("produce-live.sc.19", "produce-live.spu.11"),
        ("produce-live.sc.20", "produce-live.spu.12"),
    ] {
        Replay::run(&server, sc);
        Replay::run(&server, spu);
        tail.play(3);
    }
    assert!(tail.frames.is_empty());
    for name in ["produce-toolarge.sc.21", "produce-unknown-topic.sc.22", "consume-start-past-end.sc.23"] {
        Replay::run(&server, name);
    }
    let mut past_end = Replay::run(&server, "consume-start-past-end.spu.13");
    assert_eq!(past_end.frame(Duration::from_millis(300)), None, "nothing is sent while there is nothing");
    for name in ["consumer-offset.sc.24", "consumer-offset.spu.14", "consumer-offset.sc.25", "consumer-offset.spu.15"] {
        Replay::run(&server, name);
    }
    for name in ["consumer-offset-resume.sc.26", "consumer-offset-resume.spu.16", "topic-delete.sc.27"] {
        Replay::run(&server, name);
    }
    Replay::run(&server, "python-client.sc.28");
    Replay::run(&server, "python-client.spu.17");
    one_shot(&server);
}

/// The recording goes on with a batch that carries a hand-written marker.
fn one_shot(server: &Server) {
    let (_, produced) = frames("produce-none.spu.1").swap_remove(2);
    let at = produced.windows(7).position(|w| w == b"value-1").expect("the first record");
    // The record's own bytes, the count and the header stand before the value.
    let start = at - 6 - 4 - 57;
    let len = u32::from_be_bytes(produced[start + 8..start + 12].try_into().unwrap()) as usize + 12;
    let mut marked = produced[start..start + len].to_vec();
    marked[43..57].copy_from_slice(&[0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 1, 2, 3, 4, 5, 6]);
    let crc = crc32c::crc32c(&marked[21..]);
    marked[17..21].copy_from_slice(&crc.to_be_bytes());
    assert_eq!(produce(server, "t1", 0, &marked), (0, 108));
    Replay::run(server, "fetch-one-shot.spu.18");
}

#[test]
fn a_fetch_of_61_bytes_is_one_batch_header() {
    let server = Server::start();
    server.create_topic("edge", 1);
    assert_eq!(produce(&server, "edge", 0, &batch(&[b"first"], None)), (0, 0));
    let value = [b'x'; 200];
    for i in 0..4 {
        assert_eq!(produce(&server, "edge", 0, &batch(&vec![&value[..]; 1248], None)), (0, 1 + i * 1248));
    }
    Replay::run(&server, "fetch-header-walk.spu.1");
}

#[test]
fn a_fetch_at_the_end_is_empty_and_beyond_it_names_the_end() {
    let server = Server::start();
    server.create_topic("edge", 1);
    produce(&server, "edge", 0, &batch(&[b"a", b"b"], None));
    let (code, set) = fetch(&server, "edge", 0, 2, 1000);
    assert_eq!((code, set.len()), (String::new(), 0));
    let (text, _) = fetch(&server, "edge", 0, 3, 1000);
    assert_eq!(text, "start offset: 3 is greater than leo: 2");
}
