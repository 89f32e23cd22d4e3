//! Draining a backlog after an outage: a node with records in its ring and another node as its upstream, against a bare
//! loop that encodes the same records with the official wire crates and produces them to the same upstream, in batches of
//! the same size under the same compression, one request in flight.
//!
//! Wall is from the moment the sink may send (connect, metadata, creation of the topic and the look for what is already
//! there included) to the last record durable upstream; CPU is the sending process's own. The upstream's work is the same
//! for both and runs beside them.

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use fluvio::Compression;
use fluvio_protocol::record::{Batch, RawRecords, Record, RecordData, RecordSet};
use fluvio_protocol::{Decoder, Encoder};
use fluvio_spu_schema::Isolation;
use fluvio_spu_schema::produce::{
    DefaultPartitionRequest, DefaultProduceRequest, DefaultTopicRequest, ProduceResponse,
};
use headwater::ops::control::protocol::SinkVerb;

use super::support::{Node, Outcome, Result, cpu_of, events, free_port, own_cpu, paired_by};

const RECORDS: usize = 500_000;
const ROUNDS: usize = 5;
/// The sink's default `max_batch`, and what it counts for a record beside its bytes.
const MAX_BATCH: usize = 512 * 1024;
const OVERHEAD: usize = 24;
const WIRE_VERSION: i16 = 25;
const PATIENCE: Duration = Duration::from_secs(120);

fn upstream(dir: &Path, sc: u16, spu: u16) -> Result<Node> {
    let config = format!(
        "[ring]\nmax_bytes = \"512MiB\"\nkeep_free = \"0B\"\n[http]\nlisten = \"off\"\n\
         [endpoint]\nsc_listen = \"127.0.0.1:{sc}\"\nspu_listen = \"127.0.0.1:{spu}\"\n"
    );
    Node::start(dir, &config)
}

/// Wall and CPU seconds of a node that drains.
fn node(dir: &Path, topic: &str, lines: &Path, sc: u16, upstream: &Node) -> Result<(f64, f64)> {
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
    let (cpu, started) = (cpu_of(edge.pid())?, Instant::now());
    edge.order("up", SinkVerb::Resume)?;
    upstream.until_end(topic, RECORDS as u64, PATIENCE)?;
    let wall = started.elapsed().as_secs_f64();
    Ok((wall, cpu_of(edge.pid())? - cpu))
}

/// The log of each round is a file of its own.
fn copied(lines: &Path) -> std::io::Result<std::path::PathBuf> {
    let copy = lines.with_extension("copy");
    std::fs::copy(lines, &copy)?;
    Ok(copy)
}

/// Wall and CPU seconds of the bare loop.
fn bare(topic: &str, events: &[Vec<u8>], spu: u16, upstream: &Node) -> Result<(f64, f64)> {
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
    Ok((started.elapsed().as_secs_f64(), own_cpu() - cpu))
}

fn request(topic: &str, correlation: i32, events: &[Vec<u8>]) -> Result<Vec<u8>> {
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

fn answer(connection: &mut TcpStream) -> Result<()> {
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
    let ((wall, cpu), (bare_wall, bare_cpu)) = paired_by(
        ROUNDS,
        |n| node(&dir.path().join(format!("edge-{n}")), &format!("edge-{n}"), &lines, sc, &upstream),
        |n| bare(&format!("bare-{n}"), &events, spu, &upstream),
    )?;
    println!(
        "{RECORDS} JSON events of 100 bytes in batches of {} KiB, zstd, medians of {ROUNDS} rounds:",
        MAX_BATCH / 1024
    );
    println!("wall: node {wall:.3} s, bare loop {bare_wall:.3} s; ratio {:.2}", bare_wall / wall);
    println!("CPU of the sender: node {cpu:.2} s, bare loop {bare_cpu:.2} s; ratio {:.2}", bare_cpu / cpu);
    Ok(())
}
