//! `headwater demo`: the main job on real input, proved at the end.
//!
//! Two more Headwater processes are started: an upstream (its endpoint speaks the Fluvio protocol) and an edge node that
//! collects real events. Between them lies a link that the demo cuts for a third of the time. At the end both are stopped
//! and their rings are compared, record by record. With `--upstream` a real cluster takes the upstream's place.

mod cluster;
mod compare;
mod edge;
mod load;
mod process;
mod proxy;
mod upstream;
mod view;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;

use crate::node::stopped::StoppedRing;
use crate::ops::Status;
use crate::ops::human::thousands;
use crate::ring::Keys;
use crate::topic::TopicPart;
use compare::{Row, Stored, compare};
use load::Sent;
use process::Node;
use proxy::Link;
use upstream::Upstream;
use view::{Moment, View};

/// Topics of the edge, in the table's order.
const TOPICS: [&str; 5] = ["host", "log", "syslog", "sensors", "mqtt"];
/// After the load has ended, the backlog must have drained within this.
const DRAIN: Duration = Duration::from_secs(90);

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  headwater demo                                about a minute, everything on
                                                this machine
  headwater demo --seconds 20 --keep /tmp/hw    shorter; configs and rings are
                                                kept for a look
  headwater demo --upstream sc.example:9003     into a real Fluvio cluster,
                                                topics headwater-demo-*")]
pub struct DemoArgs {
    /// How long events are made; the link is cut for a third of it.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(10..=3600))]
    seconds: u64,
    /// The SC of a real Fluvio cluster; its topics `headwater-demo-*` are made and, at the end, deleted.
    #[arg(long, value_name = "HOST:PORT")]
    upstream: Option<String>,
    /// Keep configs, logs and rings in DIR.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

pub fn run(args: &DemoArgs) -> anyhow::Result<ExitCode> {
    let scratch = Scratch::new(args.keep.clone())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let all_good = tokio::task::LocalSet::new().block_on(&runtime, async {
        tokio::select! {
            result = demo(args, &scratch.dir) => result,
            _ = tokio::signal::ctrl_c() => bail!("interrupted; both nodes were stopped"),
        }
    })?;
    Ok(if all_good { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// The demo's directory; removed at the end unless it is to be kept.
struct Scratch {
    dir: PathBuf,
    keep: bool,
}

impl Scratch {
    fn new(keep: Option<PathBuf>) -> anyhow::Result<Self> {
        let dir = match &keep {
            Some(dir) => dir.clone(),
            None => std::env::temp_dir().join(format!("headwater-demo-{}", std::process::id())),
        };
        if dir.join("edge").exists() {
            bail!("{} already holds a demo; name another directory, or remove it", dir.display());
        }
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        Ok(Self { dir: dir.canonicalize()?, keep: keep.is_some() })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.keep {
            // Left in the temporary directory if it cannot be removed.
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}

async fn demo(args: &DemoArgs, dir: &Path) -> anyhow::Result<bool> {
    let mut view = View::new();
    let link = Link::new();
    let mut upstream = Upstream::start(dir, args.upstream.as_deref(), &link).await?;
    view.say(&format!("upstream: {}", upstream.describe()));
    let mqtt = broker().await;
    match &mqtt {
        Some((host, port)) => view.say(&format!("mqtt: a broker answers at {host}:{port}, its messages are collected")),
        None => view.say("mqtt: no broker at 127.0.0.1:1883, so no MQTT this time (apt install mosquitto)"),
    }
    let total = Duration::from_secs(args.seconds);
    let (config, targets) = edge::config(dir, total, &upstream, mqtt.as_ref())?;
    let mut edge = Node::start("edge", dir, &config).await?;
    view.say("edge: collects host metrics, a rotating log, syslog over UDP and TCP, simulated sensors");

    let sent = Rc::new(Sent::default());
    let tasks = load::start(&targets, &sent);
    let started = Instant::now();
    let mut cut = Cut::Before;
    while started.elapsed() < total {
        cut.turn(started.elapsed(), total, &link, &mut view);
        // A status that cannot be had is shown by the next one, or by the end.
        if let Ok(status) = edge.status().await {
            view.show(&Moment { phase: cut.phase(), link_up: link.is_up(), edge: &status, sent: &sent });
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    sent.stop.set(true);
    for task in tasks {
        task.await?;
    }
    link.set(true);
    view.say("no more events are made; the edge sends what still waits");
    let drained = drain(&mut view, &edge, &link, &sent).await?;
    let status = edge.status().await?;
    edge.stop().await?;
    upstream.stop().await?;
    view.say("both nodes are stopped; comparing what the edge admitted with what the upstream stored");
    let mut kept =
        StoppedRing::open(&dir.join("edge/data"), &Keys::default()).context("the edge's ring cannot be read")?;
    let earliest = |topic| kept.topic(topic).and_then(|t| t.partitions.first().map(|p| p.earliest)).unwrap_or(0);
    let whole = TOPICS.iter().all(|topic| earliest(topic) == 0);
    let rows = compare_rings(&mut kept, &upstream).await?;
    let mqtt = mqtt_acked(&mut kept, &sent);
    let good = table(&Outcome { rows, edge: status, whole, drained, mqtt, refused: link.refused() }, &sent, &view);
    if let Err(error) = upstream.clean_up().await {
        eprintln!("warning: the topics headwater-demo-* are still on the cluster, delete them by hand: {error:#}");
    }
    if let Some(kept) = &args.keep {
        view.print(format_args!(
            "\nkept in {}: configs, logs and rings; try `headwater tail log --data-dir {}/edge/data`",
            kept.display(),
            kept.display()
        ));
    }
    Ok(good)
}

/// Where the link stands.
#[derive(Clone, Copy, PartialEq)]
enum Cut {
    Before,
    During,
    After,
}

impl Cut {
    fn turn(&mut self, at: Duration, total: Duration, link: &Link, view: &mut View) {
        match self {
            Self::Before if at >= total / 4 => {
                *self = Self::During;
                link.set(false);
                view.say("the link is CUT; events go on and are kept in the ring");
            }
            Self::During if at >= total * 7 / 12 => {
                *self = Self::After;
                link.set(true);
                view.say("the link is back; the backlog drains");
            }
            _ => {}
        }
    }

    fn phase(self) -> &'static str {
        match self {
            Self::Before => "online",
            Self::During => "offline",
            Self::After => "draining",
        }
    }
}

async fn drain(view: &mut View, edge: &Node, link: &Link, sent: &Sent) -> anyhow::Result<bool> {
    let started = Instant::now();
    let mut still = 0;
    while started.elapsed() < DRAIN {
        let status = edge.status().await?;
        view.show(&Moment { phase: "draining", link_up: link.is_up(), edge: &status, sent });
        // Sources may still hand over what they had read: nothing may be pending three times in a row.
        let pending: u64 = status.sinks.iter().map(|sink| sink.pending).sum();
        still = if pending == 0 && status.ring.unsynced_bytes == 0 { still + 1 } else { 0 };
        if still == 3 {
            return Ok(true);
        }
        tokio::time::sleep(Duration::from_millis(700)).await;
    }
    Ok(false)
}

/// A broker on this machine, if one answers as MQTT does.
async fn broker() -> Option<(String, u16)> {
    let options = rumqttc::MqttOptions::new(format!("headwater-demo-probe-{}", std::process::id()), "127.0.0.1", 1883);
    let (_client, mut events) = rumqttc::AsyncClient::new(options, 1);
    let answered = tokio::time::timeout(Duration::from_secs(1), events.poll()).await;
    matches!(answered, Ok(Ok(_))).then(|| ("127.0.0.1".to_owned(), 1883))
}

/// What a stopped node's ring holds of one topic.
fn stored(ring: &mut StoppedRing, topic: &str) -> Stored {
    let mut stored = Stored::default();
    if let Some(info) = ring.topic(topic) {
        for partition in 0..info.partitions.len() as u8 {
            ring.read(TopicPart { topic: info.id, partition }, 0, |_, entry| {
                stored.push(entry.record.key, entry.record.value);
                std::ops::ControlFlow::Continue(())
            });
        }
    }
    stored
}

async fn compare_rings(edge: &mut StoppedRing, upstream: &Upstream) -> anyhow::Result<Vec<(&'static str, Row)>> {
    let mut proof = upstream.proof().await?;
    let mut rows = Vec::new();
    for topic in TOPICS {
        let kept = stored(edge, topic);
        let there = proof.stored(&format!("{}{topic}", upstream.prefix())).await?;
        rows.push((topic, compare(&kept, &there)));
    }
    Ok(rows)
}

/// MQTT messages that the broker acknowledged to the demo, and how many of them the edge does not have.
fn mqtt_acked(edge: &mut StoppedRing, sent: &Sent) -> (usize, usize) {
    let acked = sent.mqtt_acked.borrow();
    let mut kept = std::collections::HashSet::new();
    if let Some(info) = edge.topic("mqtt") {
        edge.read(TopicPart { topic: info.id, partition: 0 }, 0, |_, entry| {
            kept.insert(entry.record.value.to_vec());
            std::ops::ControlFlow::Continue(())
        });
    }
    (acked.len(), acked.iter().filter(|payload| !kept.contains(payload.as_bytes())).count())
}

/// What the end of the demo knows.
struct Outcome {
    rows: Vec<(&'static str, Row)>,
    edge: Status,
    /// The edge's ring still holds all that it admitted.
    whole: bool,
    drained: bool,
    /// MQTT messages that the broker acknowledged, and how many of them the edge does not have.
    mqtt: (usize, usize),
    /// Connections that met a cut link.
    refused: u64,
}

/// Prints the table and what follows from it; true when all of it adds up.
fn table(outcome: &Outcome, sent: &Sent, view: &View) -> bool {
    let Outcome { rows, edge, whole, drained, mqtt: (acked, acked_missing), refused } = outcome;
    view.print(format_args!(
        "\n{:<9}{:>10}{:>10}{:>9}{:>11}{:>9}{:>8}",
        "topic", "admitted", "upstream", "missing", "duplicates", "unknown", "order"
    ));
    for (topic, row) in rows.iter().filter(|(topic, _)| *topic != "mqtt" || *acked > 0) {
        let order = if row.disordered == 0 { "kept".to_owned() } else { format!("{} off", row.disordered) };
        view.print(format_args!(
            "{topic:<9}{:>10}{:>10}{:>9}{:>11}{:>9}{order:>8}",
            thousands(row.kept),
            thousands(row.stored),
            row.missing,
            row.duplicated,
            row.unknown
        ));
    }
    let sink = edge.sinks.first().cloned().unwrap_or_default();
    let gaps = sink.evicted + sink.expired + sink.corrupt + sink.lost_unsynced;
    let accounted = sink.delivered + sink.filtered + sink.refused + sink.pending + gaps + sink.released;
    let by_rules: u64 = edge.sources.iter().filter_map(|s| s.counters.get("filtered")).sum();
    view.print(format_args!("\nfiltered    {:>9}  dropped by rules, before the ring", thousands(by_rules)));
    view.print(format_args!(
        "admitted    {:>9}  into the ring, the node's own events among them",
        thousands(sink.admitted)
    ));
    view.print(format_args!("delivered   {:>9}", thousands(sink.delivered)));
    view.print(format_args!("not wanted  {:>9}  of topics that the sink leaves out", thousands(sink.filtered)));
    view.print(format_args!("pending     {:>9}", thousands(sink.pending)));
    view.print(format_args!("gaps        {:>9}", thousands(gaps)));
    view.print(format_args!("duplicates  {:>9}  and {} that may be", sink.duplicated, sink.maybe_duplicated));
    view.print(format_args!("cut link    {:>9}  connections met it", refused));
    if *acked > 0 {
        view.print(format_args!(
            "MQTT        {:>9}  messages acknowledged by the broker, {acked_missing} of them not at the edge",
            thousands(*acked as u64)
        ));
    }
    let kept = |topic: &str| rows.iter().find(|(t, _)| *t == topic).map_or(0, |(_, row)| row.kept);
    let wanted = sent.wanted();
    let checks = [
        (
            "every source brought records",
            rows.iter().all(|(topic, row)| row.kept > 0 || (*topic == "mqtt" && *acked == 0)),
        ),
        ("the edge's ring still holds all that it admitted, to compare with", *whole),
        (
            "every log line and reading that the rules keep was admitted, once",
            wanted.iter().all(|(topic, n)| kept(topic) == *n),
        ),
        ("every MQTT message that the broker acknowledged was admitted", *acked_missing == 0),
        ("every record admitted is upstream, once and in order", rows.iter().all(|(_, row)| row.adds_up())),
        ("the backlog drained", *drained && sink.pending == 0),
        ("admitted = delivered + not wanted + refused + pending + gaps + released", accounted == sink.admitted),
        ("nothing was lost, refused or sent twice", gaps + sink.refused + sink.duplicated + sink.maybe_duplicated == 0),
    ];
    view.print("");
    for (what, good) in checks.iter().filter(|(what, _)| !what.contains("MQTT") || *acked > 0) {
        view.print(format_args!("{}  {what}", if *good { "ok  " } else { "FAIL" }));
    }
    checks.iter().all(|(_, good)| *good)
}
