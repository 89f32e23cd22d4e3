//! One flow to an upstream, and everything that a link and both ends do to it.
//!
//! `HEADWATER_FLOW_CUTS` times (20 unless that says otherwise) the link is cut, stalls, is reset or swallows answers, or one of
//! the two nodes is killed, stopped or held, while `HEADWATER_FLOW_RECORDS` (40,000) records in four topics go through.
//! Once with an upstream that is asked what it has, once by markers alone, once where markers do not survive. What arrived is read from the upstream's ring.
//! `HEADWATER_SEED` repeats the moments of an earlier run.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::time::{Duration, Instant};

use headwater::backoff::Rng;

use super::node::{Node, config, eventually, setting};
use super::rings::{assert_same, records};
use super::upstream::Upstream;
use super::wash;

const TOPICS: [&str; 4] = ["pumps", "valves", "meters", "doors"];
/// What a sink waits for an answer, and what a request may take to land after that. A held node lands it as soon as it goes on.
const TIMEOUTS: &str = "connect_timeout = \"1s\"\nrequest_timeout = \"1s\"\n";

struct Flow {
    rng: Rng,
    edge: Node,
    up: Upstream,
    files: Vec<File>,
    written: usize,
    met: BTreeMap<&'static str, u32>,
    /// Markers do not survive: what cannot be told is announced.
    washed: bool,
}

impl Flow {
    fn start(seed: u64, by: &str) -> Self {
        let roomy = |config: String| config.replace("64MiB", "1GiB");
        let washed = by == "content";
        let up = Upstream::start_behind(|spu| if washed { wash::carry(spu) } else { spu }, roomy);
        let resume = if washed { "markers" } else { by };
        let mut rest = up.sink(
            "hq",
            &format!("upstream_topic = \"from-{{topic}}\"\nresume = \"{resume}\"\nonly_writer = {washed}\n{TIMEOUTS}"),
        );
        rest = rest.replace("grace = \"100ms\"", "grace = \"1s\"");
        for topic in TOPICS {
            let source = format!(
                "[sources.{topic}]\ntype = \"file\"\ntopic = \"{topic}\"\npaths = [\"{{dir}}/{topic}.log\"]\npoll = \"50ms\"\n\n"
            );
            rest.push_str(&source);
        }
        let mut edge = Node::new(&roomy(config("edge", &rest)));
        let files = TOPICS.map(|topic| File::create(edge.path(&format!("{topic}.log"))).unwrap()).into();
        edge.start();
        Self { rng: Rng::new(seed), edge, up, files, written: 0, met: BTreeMap::new(), washed }
    }

    /// So many lines more in each topic.
    fn write(&mut self, lines: usize) {
        let range = self.written..self.written + lines;
        for (topic, file) in TOPICS.iter().zip(&mut self.files) {
            let mut text = String::new();
            for n in range.clone() {
                let _ = writeln!(text, "{}", line(topic, n));
            }
            file.write_all(text.as_bytes()).unwrap();
        }
        self.written = range.end;
    }

    fn pause(&mut self, most: u64) {
        std::thread::sleep(Duration::from_millis(self.rng.below(most)));
    }

    /// Something happens, and is over at the end.
    fn trouble(&mut self) {
        let what = match self.rng.below(9) {
            0 => {
                self.up.link.cut();
                self.pause(300);
                "cut"
            }
            1 => {
                self.up.link.stall();
                self.pause(1500);
                "stall"
            }
            2 => {
                self.up.link.stall();
                self.pause(1500);
                self.up.link.cut();
                "stalled and cut"
            }
            3 => {
                self.up.link.reset();
                "reset"
            }
            4 => {
                self.up.link.swallow_answers();
                self.pause(400);
                self.up.link.cut();
                "answers lost"
            }
            5 => {
                // What is on its way lands when it goes on, after its connection has died.
                self.up.node.signal("STOP");
                self.pause(1500);
                self.up.link.cut();
                self.up.link.restore();
                self.up.node.signal("CONT");
                "upstream held"
            }
            6 => {
                self.up.node.kill();
                self.pause(100);
                self.up.node.start();
                "upstream killed"
            }
            7 => {
                self.edge.kill();
                self.edge.start();
                "edge killed"
            }
            _ => {
                self.edge.stop();
                self.edge.start();
                "edge stopped"
            }
        };
        self.up.link.restore();
        *self.met.entry(what).or_default() += 1;
    }

    /// Both ends stopped, all of it there.
    fn end(mut self) -> String {
        let all = (TOPICS.len() * self.written) as u64;
        let before = self.edge.sink("hq");
        let mut seen = 0;
        // As long as it goes on.
        while seen < all {
            seen = eventually("more to be delivered", || {
                let sink = self.edge.sink("hq");
                (sink.delivered > seen).then_some(sink.delivered)
            });
        }
        self.edge.run(&["drain"]).ok();
        let sink = self.edge.sink("hq");
        assert_eq!((sink.duplicated, sink.refused, sink.pending), (0, 0, 0), "{sink:?} (before the end {before:?})");
        assert!(self.washed || sink.maybe_duplicated == 0, "{sink:?}");
        let mut doubled = 0;
        self.edge.stop();
        self.up.node.stop();
        for topic in TOPICS {
            let stored = records(&self.edge.data(), topic);
            assert_eq!(stored.len(), self.written, "{topic}: each line was taken in once");
            let wrong = stored.iter().enumerate().find(|(n, record)| record.text() != line(topic, *n));
            assert!(wrong.is_none(), "{topic}: {wrong:?}");
            let arrived = records(&self.up.node.data(), &format!("from-{topic}"));
            if !self.washed {
                assert_same(topic, &stored, &arrived);
                continue;
            }
            let mut copies = vec![0_u64; self.written];
            arrived.iter().for_each(|record| copies[number(record.text())] += 1);
            assert_eq!(copies.iter().position(|n| *n == 0), None, "{topic}: not there");
            doubled += (arrived.len() - self.written) as u64;
        }
        let announced = sink.maybe_duplicated;
        assert!(doubled <= announced, "{doubled} are there twice, {announced} were announced");
        format!("{all} records through {:?}, {doubled} doubled, {announced} announced", self.met)
    }
}

fn line(topic: &str, n: usize) -> String {
    format!("{topic} {n} {}", "x".repeat(n * 7 % 120))
}

/// Of a line.
fn number(line: &str) -> usize {
    line.split(' ').nth(1).and_then(|n| n.parse().ok()).expect("a line with its number")
}

fn flow(resume: &str) {
    let seed = setting("HEADWATER_SEED").unwrap_or_else(|| std::process::id().into());
    let cuts = setting("HEADWATER_FLOW_CUTS").unwrap_or(20);
    let lines = setting("HEADWATER_FLOW_RECORDS").unwrap_or(40_000) / TOPICS.len() as u64;
    eprintln!("flow by {resume}: HEADWATER_SEED={seed}");
    let began = Instant::now();
    let mut flow = Flow::start(seed, resume);
    for n in 0..cuts {
        flow.write((lines * (n + 1) / cuts - lines * n / cuts) as usize);
        flow.pause(200);
        flow.trouble();
        flow.pause(200);
    }
    let met = flow.end();
    eprintln!("flow by {resume}: {met} in {:.0} s", began.elapsed().as_secs_f64());
}

#[test]
fn flow_to_an_upstream_that_is_asked_arrives_once_and_in_order() {
    flow("auto");
}

#[test]
fn flow_by_markers_alone_arrives_once_and_in_order() {
    flow("markers");
}

#[test]
fn flow_where_markers_do_not_survive_doubles_nothing_that_is_not_announced() {
    flow("content");
}
