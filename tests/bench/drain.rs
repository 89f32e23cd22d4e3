//! Draining a backlog after an outage: a node with records in its ring and another node as its upstream, against a bare
//! loop that encodes the same records with the official wire crates and produces them to the same upstream, in batches of
//! the same size under the same compression, one request in flight; and beside them the official producer.
//!
//! Wall is from the moment the sink may send (connect, metadata, creation of the topic and the look for what is already
//! there included) to the last record durable upstream; CPU is the sending process's own. The upstream's work is the same
//! for all and runs beside them. The official producer (`fluvio::TopicProducer`) is a process of its own that reads the
//! records from a file while it sends them; it is given the same batch size and compression, and the time to connect is in
//! its figures as well.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use fluvio::{Compression, Fluvio, FluvioClusterConfig, Isolation as Acks, RecordKey, TopicProducerConfigBuilder};
use fluvio_protocol::record::{Batch, RawRecords, Record, RecordData, RecordSet};
use fluvio_protocol::{Decoder, Encoder};
use fluvio_spu_schema::Isolation;
use fluvio_spu_schema::produce::{
    DefaultPartitionRequest, DefaultProduceRequest, DefaultTopicRequest, ProduceResponse,
};
use headwater::ops::control::protocol::SinkVerb;

use super::support::{Node, Outcome, Result, cpu_of, events, forget_peak, free_port, medians, own_cpu, peak_of};

const RECORDS: usize = 500_000;
const ROUNDS: usize = 5;
/// The sink's default `max_batch`, and what it counts for a record beside its bytes.
const MAX_BATCH: usize = 512 * 1024;
const OVERHEAD: usize = 24;
const WIRE_VERSION: i16 = 25;
const PATIENCE: Duration = Duration::from_secs(120);

pub fn upstream(dir: &Path, sc: u16, spu: u16) -> Result<Node> {
    let config = format!(
        "[ring]\nmax_bytes = \"512MiB\"\nkeep_free = \"0B\"\n[http]\nlisten = \"off\"\n\
         [endpoint]\nsc_listen = \"127.0.0.1:{sc}\"\nspu_listen = \"127.0.0.1:{spu}\"\n"
    );
    Node::start(dir, &config)
}

/// Wall and CPU seconds of a node that drains, and MiB at most meanwhile.
fn node(dir: &Path, topic: &str, lines: &Path, sc: u16, upstream: &Node) -> Result<[f64; 3]> {
    let log = dir.with_extension("log");
    let config = format!(
        "[ring]\nmax_bytes = \"256MiB\"\nkeep_free = \"0B\"\n[http]\nlisten = \"off\"\n\
         [sources.log]\ntype = \"file\"\npaths = [\"{}\"]\ntopic = \"{topic}\"\npoll = \"50ms\"\n\
         [sinks.up]\ntype = \"fluvio\"\nendpoint = [\"127.0.0.1:{sc}\"]\ntopics = [\"{topic}\"]\n",
        log.display()
    );
    let edge = Node::start(dir, &config)?;
    edge.order("up", SinkVerb::Pause)?;
    std::fs::rename(copied(lines)?, &log)?;
    edge.until(PATIENCE, |status| status.sinks.iter().any(|s| s.pending >= RECORDS as u64))?;
    forget_peak(edge.pid())?;
    let (cpu, started) = (cpu_of(edge.pid())?, Instant::now());
    edge.order("up", SinkVerb::Resume)?;
    upstream.until_end(topic, RECORDS as u64, PATIENCE)?;
    let wall = started.elapsed().as_secs_f64();
    Ok([wall, cpu_of(edge.pid())? - cpu, peak_of(edge.pid())?])
}

/// The log of each round is a file of its own.
fn copied(lines: &Path) -> std::io::Result<std::path::PathBuf> {
    let copy = lines.with_extension("copy");
    std::fs::copy(lines, &copy)?;
    Ok(copy)
}

/// Wall and CPU seconds of the bare loop.
fn bare(topic: &str, events: &[Vec<u8>], spu: u16, upstream: &Node) -> Result<[f64; 2]> {
    upstream.create(topic)?;
    let mut connection = TcpStream::connect(("127.0.0.1", spu))?;
    connection.set_nodelay(true)?;
    let (started, cpu) = (Instant::now(), own_cpu());
    let per_batch = MAX_BATCH / (events[0].len() + OVERHEAD);
    let mut correlation = 0;
    for chunk in events.chunks(per_batch) {
        correlation += 1;
        connection.write_all(&request(topic, correlation, chunk)?)?;
        answer(&mut connection)?;
    }
    Ok([started.elapsed().as_secs_f64(), own_cpu() - cpu])
}

/// Wall and CPU seconds of the official producer, and MiB at most.
fn official(topic: &str, lines: &Path, sc: u16, upstream: &Node) -> Result<[f64; 3]> {
    upstream.create(topic)?;
    let mut child = Command::new(std::env::current_exe()?);
    let said = child.args(["official-producer", &sc.to_string(), topic]).arg(lines).output()?;
    let text = String::from_utf8(said.stdout)?;
    let figures: Vec<f64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    if upstream.end_of(topic)? != RECORDS as u64 {
        return Err(format!("the official producer: {text}{}", String::from_utf8_lossy(&said.stderr)).into());
    }
    figures.try_into().map_err(|_| text.into())
}

/// The child of [`official`].
pub fn produce_officially(sc: &str, topic: &str, lines: &Path) -> Outcome {
    let (started, cpu) = (Instant::now(), own_cpu());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let fluvio = Fluvio::connect_with_config(&FluvioClusterConfig::new(format!("127.0.0.1:{sc}"))).await?;
        let config = TopicProducerConfigBuilder::default()
            .batch_size(MAX_BATCH)
            .compression(Compression::Zstd)
            .isolation(Acks::ReadCommitted)
            .linger(Duration::from_millis(100))
            .timeout(Duration::from_secs(15))
            .build()?;
        let producer = fluvio.topic_producer_with_config(topic.to_owned(), config).await?;
        for line in BufReader::new(File::open(lines)?).lines() {
            producer.send(RecordKey::NULL, line?).await?;
        }
        producer.flush().await?;
        Outcome::Ok(())
    })?;
    println!("{} {} {}", started.elapsed().as_secs_f64(), own_cpu() - cpu, peak_of(std::process::id())?);
    Ok(())
}

pub fn request(topic: &str, correlation: i32, events: &[Vec<u8>]) -> Result<Vec<u8>> {
    let records: Vec<Record> = events.iter().map(|event| Record::new(RecordData::from(event.as_slice()))).collect();
    let mut batch: Batch = Batch::from(records);
    let header = batch.get_mut_header();
    header.set_compression(Compression::Zstd);
    // As a sink's marker has it: a number of its own for every batch, kept together by the upstream.
    (header.producer_id, header.producer_epoch, header.first_sequence) = (7, 0, correlation);
    let batch: Batch<RawRecords> = batch.try_into()?;
    let partition = DefaultPartitionRequest { partition_index: 0, records: RecordSet { batches: vec![batch] } };
    let topic = DefaultTopicRequest { name: topic.into(), partitions: vec![partition], ..Default::default() };
    let produce = DefaultProduceRequest {
        isolation: Isolation::ReadCommitted,
        timeout: Duration::from_secs(15),
        topics: vec![topic],
        ..Default::default()
    };
    let mut out = vec![0; 4];
    0_u16.encode(&mut out, WIRE_VERSION)?;
    WIRE_VERSION.encode(&mut out, WIRE_VERSION)?;
    correlation.encode(&mut out, WIRE_VERSION)?;
    String::from("bare").encode(&mut out, WIRE_VERSION)?;
    produce.encode(&mut out, WIRE_VERSION)?;
    let len = (out.len() - 4) as i32;
    out[..4].copy_from_slice(&len.to_be_bytes());
    Ok(out)
}

pub fn answer(connection: &mut TcpStream) -> Result<()> {
    let mut head = [0; 4];
    connection.read_exact(&mut head)?;
    let mut body = vec![0; i32::from_be_bytes(head) as usize];
    connection.read_exact(&mut body)?;
    let response = ProduceResponse::decode_from(&mut &body[4..], WIRE_VERSION)?;
    let part = response.responses.first().and_then(|t| t.partitions.first()).ok_or("an empty answer")?;
    if part.error_code.is_error() {
        return Err(format!("refused: {}", part.error_code).into());
    }
    Ok(())
}

pub fn run() -> Outcome {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let events = events(RECORDS);
    let lines = dir.path().join("lines");
    let mut out = BufWriter::new(File::create(&lines)?);
    for event in &events {
        out.write_all(event)?;
        out.write_all(b"\n")?;
    }
    out.flush()?;
    let (sc, spu) = (free_port()?, free_port()?);
    let upstream = upstream(&dir.path().join("upstream"), sc, spu)?;
    let (mut nodes, mut bares, mut officials) = (Vec::new(), Vec::new(), Vec::new());
    for n in 0..ROUNDS {
        nodes.push(node(&dir.path().join(format!("edge-{n}")), &format!("edge-{n}"), &lines, sc, &upstream)?);
        bares.push(bare(&format!("bare-{n}"), &events, spu, &upstream)?);
        officials.push(official(&format!("official-{n}"), &lines, sc, &upstream)?);
    }
    let ([wall, cpu, peak], [bare_wall, bare_cpu]) = (medians(&nodes), medians(&bares));
    let [official_wall, official_cpu, official_peak] = medians(&officials);
    println!(
        "{RECORDS} JSON events of 100 bytes in batches of {} KiB, zstd, medians of {ROUNDS} rounds:",
        MAX_BATCH / 1024
    );
    println!(
        "wall: node {wall:.3} s, bare loop {bare_wall:.3} s, official producer {official_wall:.3} s; \
         node to bare {:.2}, to official {:.2}",
        bare_wall / wall,
        official_wall / wall
    );
    println!(
        "CPU of the sender: node {cpu:.2} s, bare loop {bare_cpu:.2} s, official producer {official_cpu:.2} s; \
         node {:.2} of bare, {:.2} of official",
        cpu / bare_cpu,
        cpu / official_cpu
    );
    let million = |cpu: f64| cpu * 1e6 / RECORDS as f64;
    println!(
        "CPU of a million records: node {:.2} s, bare loop {:.2} s, official producer {:.2} s",
        million(cpu),
        million(bare_cpu),
        million(official_cpu)
    );
    println!("resident at most while draining: node {peak:.1} MiB, official producer {official_peak:.1} MiB");
    Ok(())
}
