//! `headwater audit`: what the ring holds and what a `fluvio` sink's upstream stored, compared record by record.
//!
//! The ring is read as `ring export` reads it: beside a running node or of a stopped one, without its lock and without
//! writing a byte. What a record is to be upstream is made by the sink's own rules and templates ([`edge`]); what stands
//! there is fetched batch by batch over the sink's own kind of connection ([`upstream`]), announced first; the two are laid
//! side by side in [`matching`]. Nothing is made, sent or moved upstream.
//!
//! What a node sends meanwhile is not compared. What the sink's account calls filtered, refused or expired is not missing.
//! Streams that were absorbed have left no id: their batches are known by what they hold.

mod edge;
mod matching;
mod report;
mod upstream;

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::pin::pin;
use std::process::ExitCode;
use std::task::Poll;
use std::time::SystemTime;

use anyhow::{anyhow, bail};

use self::edge::{Looked, Ring};
use self::matching::{Id, Matcher, Stored};
use self::report::{Elsewhere, Found, Report, Row};
use self::upstream::{Log, Planned, Upstream};
use super::ring::{disk, line, progress::Progress, say_running};
use super::{Exit, client};
use crate::codec::Reader;
use crate::codec::batch::Batch;
use crate::config::units::{parse_size, parse_span};
use crate::config::{self, Config, DEFAULT_PATH, FluvioSink, SinkConfig, SinkKind, ValueMode};
use crate::envelope::rfc3339;
use crate::forward::{Header, Marker};
use crate::limits::MAX_WIRE_FRAME;
use crate::name;
use crate::node::plan;
use crate::node::stopped::{StoppedRing, owner};
use crate::ops::human::{binary, thousands};
use crate::sinks::came;
use crate::time::{Span, WallTime};

#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  headwater audit hq                   all that is still in the ring; tells what
                                       it will download, and asks
  headwater audit hq --since 2h        what was admitted in the last two hours
  headwater audit hq --since 2026-11-24T06:00:00Z --yes
  headwater audit hq --cost            what it would download, and no more
  headwater audit hq --max-bytes 5MiB --json > audit.json

SINK is a sink of the config whose type is `fluvio`. The node may run or not;
nothing is written, here or upstream. Only what is in the ring can be compared:
what it has evicted is counted as no longer there, what was not sent yet as
pending. Where standard input is no terminal nobody is asked.

To tell the cost costs something itself, and --cost says how much it was: the
cluster's list of topics, a handshake with each SPU, and for each partition 16
headers of 124 bytes, and more where it has to be searched for the place to
begin at: dozens, or hundreds where many write. --max-bytes is for all of that
together with the batches.

What is downloaded is NOT counted in the budget of the sink's link, and does not
keep to its windows; it goes out from the link's interface.

Exit codes: 0 all is there, once and as it was sent; 1 something is missing,
different or there twice, or the comparison failed; 2 wrong usage or config.")]
pub struct Args {
    /// The sink's name
    #[arg(value_name = "SINK")]
    sink: String,
    /// The node's config file
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT_PATH)]
    config: PathBuf,
    /// The ring's directory, if it is not the config's: a card that was put in here
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Only what was admitted since: how long ago, or RFC 3339
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    since: Option<String>,
    /// Do not ask before downloading
    #[arg(short, long)]
    yes: bool,
    /// Only tell what would be downloaded
    #[arg(long, conflicts_with = "yes")]
    cost: bool,
    /// Download no more than this, estimate and handshakes included, and compare nothing if it will be more
    #[arg(long, value_name = "SIZE")]
    max_bytes: Option<String>,
    /// The result as one JSON document
    #[arg(long)]
    json: bool,
}

/// Around what is asked for, and at least to be asked for: frames of answers, headers.
const AROUND: u64 = 512;

/// What may be downloaded, and how far it is.
pub struct Bounds {
    most: Option<u64>,
    progress: Progress,
    batches: u64,
    /// What is not known where it ends.
    unknown: &'static str,
}

impl Bounds {
    fn new(most: Option<u64>) -> Self {
        let unknown = "that did not even tell what all of it takes";
        Self { most, progress: Progress::new("slices"), batches: 0, unknown }
    }

    fn words(&self) -> String {
        let most = self.most.map(|most| format!("--max-bytes {} ends here", binary(most)));
        most.unwrap_or_else(|| "too much to be taken at once".into())
    }

    /// How much may be asked for now, with what TLS puts around it.
    fn room(&self) -> anyhow::Result<usize> {
        let left = self.most.map_or(u64::MAX, |most| most.saturating_sub(came()));
        let room = left.saturating_sub(left / 32 + AROUND);
        if room < AROUND { Err(self.end()) } else { Ok(usize::try_from(room).unwrap_or(usize::MAX)) }
    }

    fn end(&self) -> anyhow::Error {
        self.progress.clear();
        anyhow!("{}: {} were downloaded, and {}; nothing was compared", self.words(), binary(came()), self.unknown)
    }

    /// What `work` comes to, unless more comes meanwhile than may: of what nobody can say how long it is.
    async fn within<T>(&self, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
        self.room()?;
        let mut work = pin!(work);
        poll_fn(|context| match work.as_mut().poll(context) {
            Poll::Pending if self.most.is_some_and(|most| came() > most) => Poll::Ready(Err(self.end())),
            done => done,
        })
        .await
    }

    fn took(&mut self) {
        self.batches += 1;
        self.progress.took(self.batches, came());
    }
}

pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let since = args.since.as_deref().map(since).transpose().map_err(Exit::usage)?;
    let most = args.max_bytes.as_deref().map(parse_size).transpose();
    let most = most.map_err(|why| Exit::usage(format!("--max-bytes: {why}")))?;
    let mut config = config::load(&args.config)
        .map_err(|errors| Exit::usage(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\nerror: ")))?;
    if let Some(dir) = &args.data_dir {
        config.node.data_dir.clone_from(dir);
    }
    let (sink, fluvio) = chosen(&config, args)?;
    let dir = &config.node.data_dir;
    disk(dir)?;
    let running = owner(dir);
    let ring = match StoppedRing::open(dir, &plan::keys(&config)) {
        Ok(ring) => ring,
        Err(error) => bail!("the ring in {} cannot be read: {error}", dir.display()),
    };
    say_running(running.as_deref());
    let Some(ring) = Ring::new(ring, &config, sink, fluvio, since) else {
        bail!(
            "the ring in {} does not know sink {}: the node has not run with it yet, or it was forgotten",
            dir.display(),
            sink.name
        );
    };
    let mut audit = Audit { args, config: &config, sink, fluvio, ring, since, notes: Vec::new(), expired: 0 };
    client::block_on(audit.run(running.is_some(), most))
}

/// `2h`, `-2h`, or RFC 3339.
fn since(text: &str) -> Result<WallTime, String> {
    if let Ok(time) = line::moment(text) {
        return Ok(time);
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64);
    match parse_span(text.strip_prefix('-').unwrap_or(text)) {
        Ok(Span(ago)) => Ok(WallTime(now.saturating_sub(ago))),
        Err(_) => Err(format!("--since `{text}` is no time; write how long ago (2h) or a time (2026-11-24T06:00:00Z)")),
    }
}

/// The sink that was named.
fn chosen<'a>(config: &'a Config, args: &Args) -> anyhow::Result<(&'a SinkConfig, &'a FluvioSink)> {
    let names = || config.sinks.iter().map(|sink| sink.name.as_str());
    let Some(sink) = config.sinks.iter().find(|sink| sink.name.as_str() == args.sink) else {
        let known = names().collect::<Vec<_>>().join(", ");
        let (near, file) = (name::nearest(&args.sink, names()), args.config.display());
        return Err(Exit::usage(match (near, known.is_empty()) {
            (Some(near), _) => {
                format!("no sink `{}` in {file}; did you mean `{near}`? (there are: {known})", args.sink)
            }
            (None, false) => format!("no sink `{}` in {file} (there are: {known})", args.sink),
            (None, true) => format!("no sink `{}` in {file}: it has none", args.sink),
        }));
    };
    match &sink.kind {
        SinkKind::Fluvio(fluvio) => Ok((sink, fluvio)),
        _ => Err(Exit::usage(format!(
            "sink `{}` is not of type `fluvio`: only what a Fluvio upstream stored can be read back",
            sink.name
        ))),
    }
}

struct Audit<'a> {
    args: &'a Args,
    config: &'a Config,
    sink: &'a SinkConfig,
    fluvio: &'a FluvioSink,
    ring: Ring,
    since: Option<WallTime>,
    notes: Vec<String>,
    /// Records that the account counts as expired and that were not met yet.
    expired: u64,
}

impl Audit<'_> {
    async fn run(&mut self, running: bool, most: Option<u64>) -> anyhow::Result<ExitCode> {
        if running {
            self.ask_the_node().await;
        }
        self.expired = self.ring.counts().expired;
        let mut progress = Progress::new("records of the ring");
        let looked = self.ring.look(&mut progress);
        progress.clear();
        let link = self.fluvio.link.as_ref();
        let link = link.and_then(|name| self.config.links.iter().find(|link| link.name == *name));
        let interface = link.and_then(|link| link.interface.clone());
        let mut bounds = Bounds::new(most);
        let mut upstream = bounds.within(Upstream::connect(self.fluvio, interface)).await?;
        let mut planned = Vec::new();
        for (target, has) in looked.targets() {
            planned.push(bounds.within(upstream.plan(&mut self.ring, target, has, &bounds)).await?);
        }
        let bytes = self.announce(&upstream, &planned);
        let all = came().saturating_add(bytes);
        if let Some(most) = most.filter(|most| all > *most) {
            bail!("that is more than --max-bytes {}; --since makes it less", binary(most));
        }
        if self.args.cost {
            return Ok(ExitCode::SUCCESS);
        }
        if bytes > 0 && !self.goes_on()? {
            eprintln!("nothing was compared");
            return Ok(ExitCode::from(1));
        }
        bounds.progress.of(all);
        bounds.unknown = "it was not all";
        let mut report = self.report(&looked, &upstream);
        for planned in planned {
            self.compare(&mut upstream, planned, &mut bounds, &mut report).await?;
        }
        bounds.progress.clear();
        report.downloaded_bytes = came();
        report.ok = report.partitions.iter().all(|row| row.tally.is_sound());
        report.notes.append(&mut self.notes);
        let mut out = std::io::stdout().lock();
        match self.args.json {
            true => writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?,
            false => report.write(&mut out)?,
        }
        Ok(if report.ok { ExitCode::SUCCESS } else { ExitCode::from(1) })
    }

    /// A node that runs knows better than its ring how far the sink is.
    async fn ask_the_node(&mut self) {
        let place = match self.args.data_dir.clone() {
            None => client::Where { config: Some(self.args.config.clone()), data_dir: None },
            data_dir => client::Where { config: None, data_dir },
        };
        let status = place.status().await;
        match status.as_ref().map(|status| status.sinks.iter().find(|sink| sink.part.name == self.args.sink)) {
            Ok(Some(sink)) => self.ring.know(sink),
            Ok(None) => self.notes.push("the node that runs does not have this sink yet: `headwater reload`".into()),
            Err(error) => self.notes.push(format!(
                "the node does not say how far the sink is, and what it stored of that may be minutes old: {error}"
            )),
        }
    }

    /// Tells what it will cost.
    fn announce(&self, upstream: &Upstream<'_>, planned: &[Planned]) -> u64 {
        let logs = || planned.iter().filter_map(|planned| planned.log);
        let bytes: u64 = logs().map(|log| log.bytes).sum();
        let records: u64 = planned.iter().map(|planned| planned.has.sent + planned.has.pending).sum();
        let theirs: i64 = logs().map(|log| log.end - log.begin).sum();
        let partitions = planned.len();
        eprintln!(
            "{} records of sink {} against {} in {partitions} partition{} at {}: about {} to download ({} to find that out)",
            thousands(records),
            self.sink.name,
            thousands(theirs.max(0) as u64),
            if partitions == 1 { "" } else { "s" },
            upstream.sc(),
            binary(bytes),
            binary(came())
        );
        if let Some(link) = &self.fluvio.link {
            eprintln!("it goes over link {link} and is not counted in its budget");
        }
        bytes
    }

    /// Asks, where there is someone to ask.
    fn goes_on(&self) -> anyhow::Result<bool> {
        if self.args.yes || !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
            return Ok(true);
        }
        eprint!("Download it? [y/N] ");
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer)?;
        Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
    }

    fn report(&self, looked: &Looked, upstream: &Upstream<'_>) -> Report {
        Report {
            sink: self.sink.name.to_string(),
            ring: self.ring.id(),
            upstream: upstream.sc().to_owned(),
            since: self.since.and_then(rfc3339),
            ok: true,
            downloaded_bytes: 0,
            account: self.ring.counts(),
            partitions: Vec::new(),
            elsewhere: Elsewhere {
                filtered: looked.filtered,
                refused: looked.refused,
                pending: looked.unplaced,
                no_longer_in_the_ring: looked.gone,
            },
            findings: Vec::new(),
            findings_left_out: 0,
            notes: Vec::new(),
        }
    }

    async fn compare(
        &mut self,
        upstream: &mut Upstream<'_>,
        planned: Planned,
        bounds: &mut Bounds,
        report: &mut Report,
    ) -> anyhow::Result<()> {
        let Planned { target, log, .. } = planned;
        self.ring.aim(&target);
        let mut side = Side {
            matcher: Matcher::new(self.ring.ids(), self.ring.lanes()),
            absorbed: self.ring.absorbed(),
            strangers: BTreeSet::new(),
            by_content: self.ring.is_opaque(),
            envelope: self.sink.value == ValueMode::Envelope,
            broken: Vec::new(),
        };
        match log {
            None => self.notes.push(format!("{}, partition {}, is not there upstream", target.0, target.1)),
            Some(log) => {
                let ring = &mut self.ring;
                upstream.read(&target, log, bounds, &mut |header, bytes| side.take(ring, header, bytes)).await?;
                self.note_truncated(log);
            }
        }
        // Below the log's start nothing is left, and where it begins is where retention has come to.
        let cut = log.is_some_and(|log| log.start > 0 && log.begin == log.start);
        let Side { mut matcher, by_content, broken, .. } = side;
        matcher.finish(&mut self.ring, cut);
        self.notes.extend(broken);
        // What expired is not named by anything, only counted.
        let tally = &mut matcher.tally;
        let expired = tally.expired.min(self.expired);
        self.expired -= expired;
        (tally.missing, tally.expired) = (tally.missing + tally.expired - expired, expired);
        let topic = |part: crate::topic::TopicPart| self.ring.topic_name(part.topic).to_owned();
        report.findings.extend(matcher.findings.iter().map(|f| Found::of(f, &target, f.part.map(topic))));
        report.findings_left_out += matcher.left_out;
        report.partitions.push(Row {
            topic: target.0,
            partition: target.1,
            compared: matcher.tally.compared(),
            tally: matcher.tally,
            not_looked_at: log.map_or(0, |log| (log.begin - log.start).max(0) as u64),
            by_content,
        });
        Ok(())
    }

    /// The log ends below what the upstream has acknowledged.
    fn note_truncated(&mut self, log: Log) {
        let (target, last) = self.ring.last();
        if let Some(last) = last.filter(|last| last.end > log.end) {
            self.notes.push(format!(
                "{}, partition {}, ends at offset {}, and the sink had an answer for offset {}: it was made anew or cut",
                target.0,
                target.1,
                log.end,
                last.end - 1
            ));
        }
    }
}

/// One partition while its batches come.
struct Side {
    matcher: Matcher,
    absorbed: Vec<Id>,
    /// Ids that turned out not to be ours.
    strangers: BTreeSet<i64>,
    by_content: bool,
    envelope: bool,
    broken: Vec<String>,
}

impl Side {
    fn take(&mut self, ring: &mut Ring, header: Header, bytes: &[u8]) {
        let marker = Marker::of_origin(header.origin);
        let known = self.matcher.known(marker.id, marker.number);
        let ranges = self.absorbed.iter().filter(|id| (id.from..id.below).contains(&marker.number));
        let maybe: Vec<Id> = ranges.copied().collect();
        let asks = known.is_none() && marker.id != -1 && !maybe.is_empty() && !self.strangers.contains(&marker.id);
        if known.is_none() && !asks && !self.by_content {
            self.matcher.tally.foreign += u64::from(header.count);
            return;
        }
        let stored = match records(bytes, self.envelope) {
            Ok(stored) => stored,
            Err(why) => {
                self.matcher.tally.unknown += u64::from(known.is_some());
                self.broken.push(format!("the upstream's batch at offset {} cannot be read: {why}", header.base));
                return;
            }
        };
        if self.by_content {
            return self.matcher.take_unmarked(ring, header.base, &stored);
        }
        let learned = || {
            let of = |id: Id| Id { id: marker.id, ..id };
            maybe.into_iter().find_map(|id| self.matcher.learn(ring, of(id), marker.number, &stored))
        };
        match known.or_else(learned) {
            Some(at) => self.matcher.take(ring, at, marker.number, header.base, &stored),
            None => {
                self.strangers.insert(marker.id);
                self.matcher.tally.foreign += u64::from(header.count);
            }
        }
    }
}

/// The records of a stored batch.
fn records(bytes: &[u8], envelope: bool) -> Result<Vec<Stored>, crate::codec::batch::BatchError> {
    let batch = Batch::take(&mut Reader::new(bytes))?;
    let unpacked = batch.unpack_within(MAX_WIRE_FRAME)?;
    batch.check(&unpacked)?;
    Ok(batch.records(&unpacked).map(|record| edge::stored(&record, envelope)).collect())
}
