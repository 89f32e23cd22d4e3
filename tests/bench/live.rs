//! Live: 1,000 records a second, one by one, through a node to a node, and how old each is when a consumer of the upstream
//! has it. Beside it a bare loop that is given the same records at the same pace and produces them to the same upstream:
//! it gathers for as long as the node does (`linger`), sends what there is in one request, and waits for the answer.
//!
//! A record carries the time at which it was sent (to the node's TCP source; to the bare loop). One consumer (the
//! `fluvio` crate) follows both topics in the same way, so what it adds is in both. The upstream shows only what is
//! durable there. What comes before the first record has arrived (connections, topics) is not measured. CPU is the sender's own: the node's process, the bare loop's thread.

use std::future::poll_fn;
use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::pin::Pin;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fluvio::consumer::{ConsumerConfigExtBuilder, ConsumerStream, Record};
use fluvio::{Fluvio, FluvioClusterConfig, Offset};

use super::drain::{answer, request, upstream};
use super::support::{Node, Outcome, Result, cpu_of, free_port, medians};

const RATE: usize = 1000;
const SECONDS: usize = 10;
const RECORDS: usize = RATE * SECONDS;
const ROUNDS: usize = 3;
const PATIENCE: Duration = Duration::from_secs(60);

fn micros() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
}

/// A JSON event of 100 bytes that says when it was sent.
fn event(n: usize) -> String {
    let mut text =
        format!("{{\"sent\":{:020},\"device\":\"boiler-{:02}\",\"n\":{n},\"state\":\"running\"", micros(), n % 40);
    while text.len() < 99 {
        text.push(' ');
    }
    text + "}"
}

/// Calls `send` for each record at its time.
fn paced(mut send: impl FnMut(String) -> Outcome) -> Outcome {
    let started = Instant::now();
    for n in 0..RECORDS {
        let due = started + Duration::from_micros((n * 1_000_000 / RATE) as u64);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        send(event(n))?;
    }
    Ok(())
}

async fn next<S: ConsumerStream>(stream: &mut S) -> Record {
    poll_fn(|cx| Pin::new(&mut *stream).poll_next(cx)).await.expect("a stream that goes on").expect("a record")
}

/// Milliseconds from when each was sent, as a consumer sees it; the receiver hears when it follows.
fn follow(sc: u16, topic: String) -> (std::thread::JoinHandle<Vec<f64>>, Receiver<()>) {
    let (ready, follows) = channel();
    let run = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let cluster = FluvioClusterConfig::new(format!("127.0.0.1:{sc}"));
            let fluvio = Fluvio::connect_with_config(&cluster).await.expect("a connection");
            let mut config = ConsumerConfigExtBuilder::default();
            let config = config.topic(topic).partition(0).offset_start(Offset::beginning()).build().expect("a config");
            let mut stream = fluvio.consumer_with_config(config).await.expect("a stream");
            ready.send(()).expect("somebody who waits");
            let mut ages = Vec::with_capacity(RECORDS);
            while ages.len() <= RECORDS {
                let next = tokio::time::timeout(PATIENCE, next(&mut stream)).await;
                let record = next.expect("a record in time");
                let sent = record.value().get(8..28).and_then(|text| std::str::from_utf8(text).ok()?.parse().ok());
                ages.push(micros().saturating_sub(sent.unwrap_or(0)) as f64 / 1000.0);
            }
            // The first one made the connections.
            ages.split_off(1)
        })
    };
    (std::thread::spawn(run), follows)
}

/// p50, p99 and the most, in milliseconds.
fn quantiles(mut ages: Vec<f64>) -> [f64; 3] {
    ages.sort_by(f64::total_cmp);
    let at = |part: f64| ages[((ages.len() - 1) as f64 * part) as usize];
    [at(0.5), at(0.99), at(1.0)]
}

/// p50, p99, the most, and CPU seconds of a million records.
fn node(dir: &Path, topic: &str, linger: &str, sc: u16, upstream: &Node) -> Result<[f64; 4]> {
    upstream.create(topic)?;
    let port = free_port()?;
    let config = format!(
        "[ring]\nmax_bytes = \"64MiB\"\nkeep_free = \"0B\"\nlinger = \"{linger}\"\n[http]\nlisten = \"off\"\n\
         [sources.line]\ntype = \"socket\"\nlisten = [\"tcp://127.0.0.1:{port}\"]\ntopic = \"{topic}\"\n\
         [sinks.up]\ntype = \"fluvio\"\nendpoint = [\"127.0.0.1:{sc}\"]\ntopics = [\"{topic}\"]\n"
    );
    let edge = Node::start(dir, &config)?;
    edge.until(PATIENCE, |status| status.sinks.iter().any(|sink| sink.part.state == "up"))?;
    let (ages, follows) = follow(sc, topic.to_owned());
    follows.recv()?;
    let mut source = TcpStream::connect(("127.0.0.1", port))?;
    source.set_nodelay(true)?;
    source.write_all(format!("{}\n", event(0)).as_bytes())?;
    edge.until(PATIENCE, |status| status.sinks.iter().any(|sink| sink.delivered >= 1))?;
    let cpu = cpu_of(edge.pid())?;
    paced(|line| Ok(source.write_all(format!("{line}\n").as_bytes())?))?;
    let [half, most, slowest] = quantiles(ages.join().map_err(|_| "the consumer failed")?);
    Ok([half, most, slowest, (cpu_of(edge.pid())? - cpu) * 1e6 / RECORDS as f64])
}

fn thread_cpu() -> f64 {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    t.tv_sec as f64 + t.tv_nsec as f64 / 1e9
}

/// The same of the bare loop.
fn bare(topic: &str, linger: Duration, sc: u16, spu: u16, upstream: &Node) -> Result<[f64; 4]> {
    upstream.create(topic)?;
    let (ages, follows) = follow(sc, topic.to_owned());
    follows.recv()?;
    let (tell, events) = channel::<String>();
    let topic = topic.to_owned();
    let sender = std::thread::spawn(move || -> std::result::Result<f64, String> {
        let send = || -> Result<f64> {
            let mut connection = TcpStream::connect(("127.0.0.1", spu))?;
            connection.set_nodelay(true)?;
            let (cpu, mut correlation, mut sent) = (thread_cpu(), 0, 0);
            while sent <= RECORDS {
                let mut batch = vec![events.recv()?.into_bytes()];
                let until = Instant::now() + linger;
                while let Ok(event) = events.recv_timeout(until.saturating_duration_since(Instant::now())) {
                    batch.push(event.into_bytes());
                }
                correlation += 1;
                connection.write_all(&request(&topic, correlation, &batch)?)?;
                answer(&mut connection)?;
                sent += batch.len();
            }
            Ok(thread_cpu() - cpu)
        };
        send().map_err(|e| e.to_string())
    });
    tell.send(event(0))?;
    std::thread::sleep(2 * linger);
    paced(|line| Ok(tell.send(line)?))?;
    drop(tell);
    let cpu = sender.join().map_err(|_| "the bare loop failed")??;
    let [half, most, slowest] = quantiles(ages.join().map_err(|_| "the consumer failed")?);
    Ok([half, most, slowest, cpu * 1e6 / RECORDS as f64])
}

pub fn run() -> Outcome {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let (sc, spu) = (free_port()?, free_port()?);
    let upstream = upstream(&dir.path().join("upstream"), sc, spu)?;
    println!(
        "{RATE} JSON events of 100 bytes a second for {SECONDS} s, medians of {ROUNDS} rounds, in milliseconds from"
    );
    println!("when one is sent to when a consumer of the upstream has it; both gather for `linger`:");
    for (linger, span) in [("10ms", 10), ("100ms", 100), ("1s", 1000)] {
        let (mut nodes, mut bares) = (Vec::new(), Vec::new());
        for n in 0..ROUNDS {
            let name = format!("node-{span}-{n}");
            nodes.push(node(&dir.path().join(&name), &name, linger, sc, &upstream)?);
            bares.push(bare(&format!("bare-{span}-{n}"), Duration::from_millis(span), sc, spu, &upstream)?);
        }
        for (who, rows) in [("node", &nodes), ("bare loop", &bares)] {
            let [half, most, slowest, cpu] = medians(rows);
            println!(
                "linger {linger:>5}  {who:<9} p50 {half:>6.1}  p99 {most:>6.1}  most {slowest:>6.1}  CPU of a million {cpu:.1} s"
            );
        }
        println!("             ratio     p50 {:.2}  p99 {:.2}", ratio(&bares, &nodes, 0), ratio(&bares, &nodes, 1));
    }
    Ok(())
}

fn ratio(bares: &[[f64; 4]], nodes: &[[f64; 4]], figure: usize) -> f64 {
    medians(bares)[figure] / medians(nodes)[figure]
}
