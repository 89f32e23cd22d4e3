//! `headwater tail`: a topic's records, a line each; from a running node, or straight from a stopped node's ring.

use std::collections::BTreeMap;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use serde::Serialize;

use super::client::{self, Client, Where};
use super::keys::KeyFiles;
use crate::envelope::rfc3339;
use crate::node::stopped::StoppedRing;
use crate::ops::control::protocol::{Answer, Ask, Blob, From, Sender, Tail, TailRecord};
use crate::ops::control::tail::tail_record;
use crate::time::WallTime;
use crate::topic::{self, TopicPart};

#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  headwater tail telemetry                   new records, until ^C
  headwater tail telemetry -n 10             the newest ten, waiting for the
                                             rest where there are fewer
  headwater tail telemetry --from-beginning  everything, then new ones; with
                                             -n 10 the oldest ten that are kept
  headwater tail telemetry --json            one JSON object a line: offset,
                                             time, key, value, attributes, and
                                             flags (truncated, unparsed,
                                             retained, redelivered)
  headwater tail telemetry --data-dir /card  from the ring of a stopped node;
                                             ends with it

Records are shown once they are durable. Those that are gone are announced on
standard error, as is a topic that is not there yet: it begins with its first
record, which is waited for.")]
pub struct Args {
    /// The topic
    pub topic: String,
    /// Begin at the oldest record that is kept
    #[arg(long)]
    pub from_beginning: bool,
    /// End after N records
    #[arg(short, value_name = "N")]
    pub n: Option<u64>,
    /// One JSON object a line
    #[arg(long)]
    pub json: bool,
    /// Which partition of the topic
    #[arg(long, value_name = "P", default_value_t = 0)]
    pub partition: u8,
    #[command(flatten)]
    pub place: Where,
    #[command(flatten)]
    pub keys: KeyFiles,
}

pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match args.place.stopped(&args.keys)? {
        Some((dir, ring)) => stopped(args, dir, ring)?,
        None => client::block_on(running(args))?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn running(args: &Args) -> anyhow::Result<()> {
    let from = match (args.from_beginning, args.n) {
        (true, _) => From::Beginning,
        (false, Some(n)) => From::Last(n),
        (false, None) => From::End,
    };
    let ask = Tail { topic: args.topic.clone(), partition: args.partition, from, count: args.n, follow: true };
    let mut client: Client = args.place.connect().await?;
    client.ask(&Ask::Tail(ask)).await?;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    loop {
        if !client.has_answer() {
            out.flush()?;
        }
        match client.answer().await? {
            Answer::Record(record) => print(&mut out, args, record)?,
            Answer::Note(text) => eprintln!("{text}"),
            Answer::Gone { from, to } => eprintln!("gone: offsets {from} to {}", to.saturating_sub(1)),
            Answer::Done(_) => {
                out.flush()?;
                return Ok(());
            }
            other => return Err(client::unexpected(&other)),
        }
    }
}

fn stopped(args: &Args, dir: &Path, mut ring: StoppedRing) -> anyhow::Result<()> {
    let Some(topic) = ring.topic(&args.topic) else {
        let known = topic::known(ring.topics().iter().map(|t| &t.name), &args.topic);
        bail!("no topic `{}` in the ring in {} (there are: {known})", args.topic, dir.display());
    };
    let Some(place) = topic.partitions.get(usize::from(args.partition)) else {
        bail!("topic `{}` has partitions 0 to {}", args.topic, topic.partitions.len().saturating_sub(1));
    };
    let from = match (args.from_beginning, args.n) {
        (false, Some(n)) => place.durable_end.saturating_sub(n).max(place.earliest),
        _ => place.earliest,
    };
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let (mut left, mut failed) = (args.n.unwrap_or(u64::MAX), Ok(()));
    let part = TopicPart { topic: topic.id, partition: args.partition };
    let gaps = ring.read(part, from, |clock, entry| {
        if left == 0 {
            return ControlFlow::Break(());
        }
        left -= 1;
        let wall = clock.map(|clock| clock.wall(entry.record.admitted).0);
        failed = print(&mut out, args, tail_record(entry, wall, clock.is_some_and(|c| c.trusted)));
        if failed.is_err() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    failed?;
    out.flush()?;
    for gap in gaps {
        eprintln!("gone: {} records of the lane ({:?})", gap.count(), gap.reason);
    }
    Ok(())
}

/// A record as `--json` shows it; bytes that are no text are in hex, under a name that says so.
#[derive(Serialize)]
struct Shown {
    offset: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    clock_trusted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_hex: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_hex: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    flags: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    attributes: BTreeMap<String, String>,
    /// Whose batch it came in: another node's ring and the seq of the batch's last record there.
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<Sender>,
}

fn print(out: &mut impl Write, args: &Args, record: TailRecord) -> anyhow::Result<()> {
    if args.json {
        serde_json::to_writer(&mut *out, &shown(record))?;
    } else {
        out.write_all(&record.value.into_bytes().context("the node sent hex that is none")?)?;
    }
    out.write_all(b"\n")?;
    Ok(())
}

fn shown(record: TailRecord) -> Shown {
    let (key, key_hex) = record.key.map_or((None, None), text_or_hex);
    let (value, value_hex) = text_or_hex(record.value);
    let time = |us: i64| rfc3339(WallTime(us));
    let attribute = |(name, blob)| {
        let (text, hex) = text_or_hex(blob);
        (name, text.or(hex).unwrap_or_default())
    };
    Shown {
        offset: record.offset,
        time: record.time_us.and_then(time),
        clock_trusted: record.clock_trusted,
        event_time: record.event_time_us.and_then(time),
        key,
        key_hex,
        value,
        value_hex,
        flags: record.flags,
        attributes: record.attrs.into_iter().map(attribute).collect(),
        origin: record.origin,
    }
}

/// The text, or else the hex. The socket's language has hex for text with line breaks too.
fn text_or_hex(blob: Blob) -> (Option<String>, Option<String>) {
    match blob {
        Blob::Text(text) => (Some(text), None),
        Blob::Hex(hex) => match Blob::Hex(hex.clone()).into_bytes().and_then(|bytes| String::from_utf8(bytes).ok()) {
            Some(text) => (Some(text), None),
            None => (None, Some(hex)),
        },
    }
}
