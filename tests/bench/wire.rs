//! What goes over the wire, as a carrier counts it: the counters of a link (`[links]`), which hold all bytes of the
//! connections, both ways, and the headers of the packets that carry them.
//!
//! - Bytes of a record, for batches of 1, 10, 100 and 1,000 JSON events of 110 bytes and as many as a batch takes, under each
//!   compression, over a connection that stands. So many events are sent at once and answered before the next ones are.
//! - Bytes of a resume: over a link on demand each record finds its connection closed, so it costs one connection, the look
//!   for what is already there, and a batch of one record. What a record costs over a connection that stands is taken off.
//! - Idle bytes: what a heartbeat costs over a connection that stands and over one on demand, times those of a day.
//!
//! The upstream is a node. Where it is to behave as a cluster that keeps no count, the sink is told `resume = "markers"`.

use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use super::drain::{answer, request, upstream};
use super::support::{Node, Outcome, Result, free_port};

const SIZES: [(usize, usize); 5] = [(1, 30), (10, 30), (100, 20), (1000, 10), (20_000, 2)];
const COMPRESSIONS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];
/// What lets batches grow to their size.
const WARM: usize = 20_000;
const FOREIGN: usize = 100;
const PATIENCE: Duration = Duration::from_secs(60);
/// The default of `node.heartbeat`.
const HEARTBEATS_A_DAY: u64 = 96;
/// A probe and its answer, and how many of each come before the connection is closed as idle (at 120, 240, 360 and 480 s).
const KEEPALIVE: u64 = 2 * 52;
const KEEPALIVES: u64 = 4;

/// JSON events of 110 bytes.
fn event(n: usize) -> String {
    let value = n.wrapping_mul(2_654_435_761) % 100_000;
    let mut text = format!(
        "{{\"device\":\"boiler-{:02}\",\"n\":{n},\"celsius\":{}.{},\"pressure\":{},\"state\":\"running\"",
        n % 40,
        value / 100,
        value % 100,
        value % 977
    );
    while text.len() < 109 {
        text.push(' ');
    }
    text + "}"
}

struct Edge {
    node: Node,
    source: TcpStream,
    sent: usize,
}

impl Edge {
    fn start(dir: &Path, topic: &str, sc: u16, link: &str, sink: &str) -> Result<Self> {
        let port = free_port()?;
        let config = format!(
            "{}\n[ring]\nmax_bytes = \"64MiB\"\nkeep_free = \"0B\"\nlinger = \"100ms\"\n[http]\nlisten = \"off\"\n\
             [sources.line]\ntype = \"socket\"\nlisten = [\"tcp://127.0.0.1:{port}\"]\ntopic = \"{topic}\"\n\
             [links.out]\n{link}\n\
             [sinks.up]\ntype = \"fluvio\"\nlink = \"out\"\nendpoint = [\"127.0.0.1:{sc}\"]\ntopics = [\"*\"]\n{sink}\n",
            if sink.contains("# beats") { "heartbeat = \"10s\"" } else { "heartbeat = \"off\"" },
        );
        let node = Node::start(dir, &config)?;
        node.until(PATIENCE, |status| status.sinks.iter().any(|sink| sink.part.state == "up"))?;
        Ok(Self { node, source: TcpStream::connect(("127.0.0.1", port))?, sent: 0 })
    }

    /// So many events at once, and all of them upstream.
    fn send(&mut self, count: usize) -> Outcome {
        let text: String = (self.sent..self.sent + count).map(|n| event(n) + "\n").collect();
        self.source.write_all(text.as_bytes())?;
        self.sent += count;
        let all = self.sent as u64;
        self.node.until(PATIENCE, |status| status.sinks.iter().any(|sink| sink.delivered >= all))?;
        Ok(())
    }

    /// Bytes out and in, and batches sent.
    fn counted(&self) -> Result<[u64; 3]> {
        let status = self.node.status()?;
        let link = status.parts.iter().find(|part| part.kind == "link").ok_or("no link")?;
        let of =
            |counters: &std::collections::BTreeMap<String, u64>, name: &str| counters.get(name).copied().unwrap_or(0);
        let batches = status.sinks.first().map_or(0, |sink| of(&sink.part.counters, "sent_batches"));
        Ok([of(&link.counters, "sent_bytes"), of(&link.counters, "received_bytes"), batches])
    }

    /// What `times` of something took.
    fn costs(&mut self, mut what: impl FnMut(&mut Self) -> Outcome) -> Result<[u64; 3]> {
        let before = self.counted()?;
        what(self)?;
        let after = self.counted()?;
        Ok(std::array::from_fn(|i| after[i] - before[i]))
    }
}

fn batches(dir: &Path, sc: u16) -> Outcome {
    println!("bytes of a record on the wire, out and in (records in a batch as they came out):");
    for compression in COMPRESSIONS {
        let topic = format!("of-{compression}");
        let sink = format!("compression = \"{compression}\"");
        let mut edge = Edge::start(&dir.join(&topic), &topic, sc, "", &sink)?;
        edge.send(WARM)?;
        edge.send(WARM)?;
        let mut row = format!("{compression:<8}");
        for (size, times) in SIZES {
            let [out, into, batches] = edge.costs(|edge| (0..times).try_for_each(|_| edge.send(size)))?;
            let records = (size * times) as f64;
            let each = records / batches as f64;
            row += &format!("  {each:>6.0}: {:>6.1} + {:>6.1}", out as f64 / records, into as f64 / records);
        }
        println!("{row}");
    }
    Ok(())
}

/// Waits until the sink's connection is closed: five seconds after its last answer.
fn closed() {
    std::thread::sleep(Duration::from_secs(6));
}

fn foreign(topic: &str, spu: u16) -> Outcome {
    let mut connection = TcpStream::connect(("127.0.0.1", spu))?;
    for n in 0..FOREIGN {
        connection.write_all(&request(topic, n as i32 + 1, &[event(n).into_bytes()])?)?;
        answer(&mut connection)?;
    }
    Ok(())
}

fn resumes(dir: &Path, sc: u16, spu: u16) -> Outcome {
    const ON_DEMAND: &str = "connect = \"on-demand\"";
    println!(
        "bytes of a connection that carries one record, less what the record costs over one that stands, out + in:"
    );
    for (name, sink, others) in [
        ("an upstream that is asked (a node)", "", 0),
        ("markers, a partition of its own", "resume = \"markers\"", 0),
        ("markers, 100 batches of others since", "resume = \"markers\"", FOREIGN),
    ] {
        let topic = format!("resume-{}", name.len());
        let mut edge = Edge::start(&dir.join(&topic), &topic, sc, ON_DEMAND, sink)?;
        edge.send(1)?;
        let stands = edge.costs(|edge| edge.send(1))?;
        closed();
        if others > 0 {
            foreign(&topic, spu)?;
        }
        let anew = edge.costs(|edge| edge.send(1))?;
        println!("{name:<38} {:>6} + {:>6}", anew[0] - stands[0], anew[1] - stands[1]);
    }
    Ok(())
}

fn idle(dir: &Path, sc: u16) -> Outcome {
    let look = Duration::from_secs(40);
    println!(
        "an idle node, counted for {} s with a heartbeat every 10 s, reckoned for one every 15 minutes:",
        look.as_secs()
    );
    let mut costs = Vec::new();
    for (name, link) in [("connected", ""), ("on demand", "connect = \"on-demand\"")] {
        let topic = format!("idle-{}", link.len());
        let mut edge = Edge::start(&dir.join(&topic), &topic, sc, link, "# beats")?;
        // The first heartbeats make their topic.
        std::thread::sleep(Duration::from_secs(25));
        let [out, into, beats] = edge.costs(|_| {
            std::thread::sleep(look);
            Ok(())
        })?;
        println!("{name}: {beats} heartbeats, {out} + {into} bytes, {} for each", (out + into) / beats.max(1));
        costs.push((out + into) / beats.max(1));
    }
    // After ten minutes without work a connection is closed, so each heartbeat of 15 minutes makes one, unless there are records.
    let keepalives = HEARTBEATS_A_DAY * KEEPALIVES * KEEPALIVE;
    let (stands, anew) = (costs[0] * HEARTBEATS_A_DAY, costs[1] * HEARTBEATS_A_DAY);
    println!(
        "a day on demand: {anew} bytes, all of them heartbeats (of which connections {})",
        anew.saturating_sub(stands)
    );
    println!("a day connected: {} bytes, of which keepalive, reckoned, {keepalives}", anew + keepalives);
    println!("without heartbeats: 0 bytes either way; a connection with nothing to do is closed after 10 minutes");
    Ok(())
}

pub fn run() -> Outcome {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let (sc, spu) = (free_port()?, free_port()?);
    let _upstream = upstream(&dir.path().join("upstream"), sc, spu)?;
    batches(dir.path(), sc)?;
    resumes(dir.path(), sc, spu)?;
    idle(dir.path(), sc)
}
