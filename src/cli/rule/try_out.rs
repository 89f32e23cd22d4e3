//! `headwater rule try`: a config's rules over what a ring holds, and what they would have changed.
//!
//! Records are read as `tail` reads them, from a running node or from the ring of a stopped one, and go one by one through a
//! pipeline of its own in memory ([`super::trial`]): the ring and its node are as they were. Each partition has its own trial,
//! so that no more than one record is held at a time, and the clock of it follows the records' own times.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use serde::Serialize;

use super::compare::{self, text};
use super::store::{Store, Topics};
use super::trial::{Output, Trial};
use crate::cli::keys::KeyFiles;
use crate::cli::ring::progress::Progress;
use crate::cli::{Exit, check};
use crate::config::{self, Config, DEFAULT_PATH, Surroundings};
use crate::node::plan;
use crate::ops::control::protocol::{Blob, TailRecord};
use crate::ops::human::{binary, thousands};
use crate::pipeline::OfferError;
use crate::record::{AttrBuf, Record};
use crate::rules::{Tally, Told};
use crate::time::{Span, WallTime};
use crate::topic::{self, TopicName, TopicPart};

/// After the newest record time goes on for so long: windows end, what was debounced passes.
const AFTERWARDS: Span = Span::from_secs(3600);
/// Reasons that are told of each topic.
const REASONS: usize = 3;

#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  headwater rule try -c new.toml              the newest 1,000 records of each
                                              topic that its rules name
  headwater rule try -c new.toml --topic telemetry --last 100000 --show 5
  headwater rule try -c new.toml --data-dir /mnt/card/headwater
                                              what a stopped node has stored
  headwater rule try -c new.toml --json       for programs

The node is the one that answers at the config's control socket, or else the
ring in its `data_dir`; `--data-dir` names another. Nothing is written there.

What the ring holds has passed the rules that were configured when it was
stored: what they dropped is not seen, and what they rewrote is seen as they
left it. Records are taken in the order of their partition, by their own times;
rules that keep state begin with none, and after the newest record an hour
passes, so that windows end.")]
pub struct Args {
    /// The config whose rules are tried
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT_PATH)]
    config: PathBuf,
    /// Only this topic; can be given again
    #[arg(long = "topic", value_name = "TOPIC")]
    topics: Vec<String>,
    /// The newest N records of each partition
    #[arg(long, value_name = "N", default_value_t = 1000)]
    last: u64,
    /// Print the first N records that would change, before and after
    #[arg(long, value_name = "N", default_value_t = 0)]
    show: usize,
    /// Another node's data directory
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The results as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    keys: KeyFiles,
}

pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let config = match config::examine(&args.config, &Surroundings::real(true)).config {
        Ok(config) => config,
        Err(errors) => return check::refused(&errors, &format!("the config of {}", args.config.display())),
    };
    let mut store = Store::open(args.data_dir.as_deref(), &args.keys, &config)?;
    let topics = chosen(args, &config, store.topics()?)?;
    let mut progress = Progress::new("records");
    progress.of(topics.iter().flat_map(|(_, parts)| parts).map(|held| args.last.min(*held)).sum());
    let mut report = Report { read: store.place(), ..Report::default() };
    for (name, parts) in &topics {
        let mut tried = Tried { topic: name.to_string(), ..Tried::default() };
        for partition in 0..parts.len() as u8 {
            let mut run = Run { trial: None, config: &config, name, partition, shows: args.show, report: &mut report };
            let (mut at, mut failed) = (progress.count(), Ok(()));
            store.each(name, partition, args.last, &mut |record| {
                at += 1;
                progress.at(at);
                match run.take(record, &mut tried) {
                    Ok(bytes) => progress.add(bytes),
                    Err(error) => failed = Err(error),
                }
                if failed.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })?;
            failed?;
            run.end(&mut tried);
        }
        report.topics.push(tried);
    }
    progress.clear();
    print(args, &report)?;
    Ok(ExitCode::SUCCESS)
}

fn chosen(args: &Args, config: &Config, mut topics: Topics) -> anyhow::Result<Topics> {
    topics.sort();
    for asked in &args.topics {
        if !topics.iter().any(|(name, _)| name.as_str() == asked) {
            let known = topic::known(topics.iter().map(|(name, _)| name), asked);
            bail!("no topic `{asked}` in the ring (there are: {known})");
        }
    }
    if args.topics.is_empty() {
        let rules = || config.rules.iter().filter(|rule| rule.before_ring);
        if rules().next().is_none() {
            return Err(Exit::usage(format!(
                "{} has no rules before the ring: none has `topics`",
                args.config.display()
            )));
        }
        let all = topic::known(topics.iter().map(|(name, _)| name), "");
        topics.retain(|(name, _)| rules().any(|rule| rule.topics.contains(name)));
        if topics.is_empty() {
            bail!("the rules name none of the topics in the ring (there are: {all})");
        }
    } else {
        topics.retain(|(name, _)| args.topics.iter().any(|asked| name.as_str() == asked));
    }
    Ok(topics)
}

// ---- what becomes of them ----

/// The records of one partition.
struct Run<'a> {
    /// Begun with the first record, at its time.
    trial: Option<(Trial, TopicPart, WallTime)>,
    config: &'a Config,
    name: &'a TopicName,
    partition: u8,
    shows: usize,
    report: &'a mut Report,
}

/// What would become of a topic's records.
#[derive(Default, Serialize)]
struct Tried {
    topic: String,
    records: u64,
    /// As they are.
    passed: u64,
    rewritten: u64,
    dropped: u64,
    /// Not in their topic any more, and something of them in another.
    moved: u64,
    /// Not taken: a rule stopped the topic.
    held: u64,
    /// By topic: records beside those that stay.
    made: BTreeMap<String, u64>,
    bytes_before: u64,
    bytes_after: u64,
    errors: u64,
    reasons: Vec<Reason>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stopped: Option<String>,
}

#[derive(Serialize)]
struct Reason {
    rule: String,
    reason: String,
    times: u64,
}

#[derive(Default, Serialize)]
struct Report {
    read: String,
    topics: Vec<Tried>,
    rules: Vec<RuleTried>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    changed: Vec<Changed>,
}

#[derive(Default, Serialize)]
struct RuleTried {
    name: String,
    records_in: u64,
    records_out: u64,
    bytes_in: u64,
    bytes_out: u64,
    errors: u64,
}

#[derive(Serialize)]
struct Changed {
    topic: String,
    partition: u8,
    offset: u64,
    before: Shown,
    after: Vec<Shown>,
    #[serde(skip)]
    lines: Vec<String>,
}

#[derive(Serialize)]
struct Shown {
    topic: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    value: String,
}

impl Run<'_> {
    /// One record; how many bytes it has.
    fn take(&mut self, tailed: TailRecord, tried: &mut Tried) -> anyhow::Result<usize> {
        let (offset, wall) = (tailed.offset, tailed.time_us.map(WallTime));
        let record = record(tailed)?;
        if self.trial.is_none() {
            let start = wall.unwrap_or_default();
            let mut plan = plan::plan(self.config);
            if let Some(topic) = plan.topics.get_mut(self.name) {
                // It has those of the ring.
                topic.partitions = topic.partitions.max(self.partition + 1);
            }
            let mut trial = Trial::new(self.config, plan, start)?;
            let topic = trial.open(self.name, Some(self.partition + 1))?;
            self.trial = Some((trial, TopicPart { topic, partition: self.partition }, start));
        }
        let Some((trial, part, start)) = &mut self.trial else { return Ok(0) };
        let (now, bytes) = (wall.map_or(trial.at(), |wall| wall - *start), record.as_ref().len());
        let later = trial.pass(now.max(trial.at()));
        tried.add(&later, None);
        tried.records += 1;
        tried.bytes_before += bytes as u64;
        let outputs = match trial.offer(None, *part, &record.as_ref()) {
            Ok(outputs) => outputs,
            Err(OfferError::Busy) => {
                tried.held += 1;
                let said = || trial.stopped().first().map(|s| format!("rule `{}`: {}", s.rule, s.reason));
                tried.stopped = tried.stopped.take().or_else(said);
                return Ok(bytes);
            }
            Err(error @ OfferError::TooLarge { .. }) => {
                tried.dropped += 1;
                tried.failed("", error.to_string());
                return Ok(bytes);
            }
        };
        for failure in trial.failures() {
            tried.failed(failure.rule.as_str(), failure.reason);
        }
        let changes = tried.sort(&record, &outputs);
        tried.add(&outputs, Some(&record));
        if changes && self.report.changed.len() < self.shows {
            let place = (tried.topic.clone(), self.partition, offset);
            self.report.changed.push(changed(place, &record, &outputs));
        }
        Ok(bytes)
    }

    /// After the newest record.
    fn end(&mut self, tried: &mut Tried) {
        let Some((trial, ..)) = &mut self.trial else { return };
        let outputs = trial.pass(Span(trial.at().0.saturating_add(AFTERWARDS.0)));
        tried.add(&outputs, None);
        for failure in trial.failures() {
            tried.failed(failure.rule.as_str(), failure.reason);
        }
        for (name, Told { tally, .. }) in trial.tallies() {
            let name = name.to_string();
            match self.report.rules.iter_mut().find(|rule| rule.name == name) {
                Some(rule) => rule.add(tally),
                None => {
                    let mut rule = RuleTried { name, ..RuleTried::default() };
                    rule.add(tally);
                    self.report.rules.push(rule);
                }
            }
        }
    }
}

impl RuleTried {
    fn add(&mut self, tally: Tally) {
        self.records_in += tally.records_in;
        self.records_out += tally.records_out;
        self.bytes_in += tally.bytes_in;
        self.bytes_out += tally.bytes_out;
        self.errors += tally.errors;
    }
}

impl Tried {
    /// What becomes of a record in its own topic; whether that is another thing than before.
    fn sort(&mut self, record: &Record, outputs: &[Output]) -> bool {
        let own: Vec<_> = outputs.iter().filter(|output| output.topic == self.topic).map(|o| &o.record).collect();
        let count = match own.as_slice() {
            [one] if one.key == record.key && one.value == record.value => {
                self.passed += 1;
                return false;
            }
            [] if outputs.is_empty() => &mut self.dropped,
            [] => &mut self.moved,
            _ => &mut self.rewritten,
        };
        *count += 1;
        true
    }

    /// What came out: of a record, or when the time of something had come.
    fn add(&mut self, outputs: &[Output], of: Option<&Record>) {
        let mut stays = of.is_some();
        for output in outputs {
            self.bytes_after += output.record.as_ref().len() as u64;
            // The first in its own topic is what became of the record.
            if output.topic != self.topic || !std::mem::replace(&mut stays, false) {
                *self.made.entry(output.topic.clone()).or_default() += 1;
            }
        }
    }

    fn failed(&mut self, rule: &str, reason: String) {
        self.errors += 1;
        let known = self.reasons.iter().position(|known| known.rule == rule && known.reason == reason);
        match known {
            Some(at) => self.reasons[at].times += 1,
            None if self.reasons.len() < REASONS => {
                self.reasons.push(Reason { rule: rule.to_owned(), reason, times: 1 });
            }
            None => {}
        }
    }
}

fn record(tailed: TailRecord) -> anyhow::Result<Record> {
    let bytes = |blob: Blob| blob.into_bytes().context("the node sent hex that is none");
    let mut attrs = AttrBuf::default();
    for (name, value) in tailed.attrs {
        // They were within the limits when they were stored.
        let _ = attrs.push(&name, &bytes(value)?);
    }
    let (key, value) = (tailed.key.map(bytes).transpose()?, bytes(tailed.value)?);
    let event_time = tailed.event_time_us.map(WallTime);
    Ok(Record { key, value, event_time, attrs, ..Record::default() })
}

fn changed((topic, partition, offset): (String, u8, u64), record: &Record, outputs: &[Output]) -> Changed {
    let shown = |topic: &str, record: &Record| Shown {
        topic: topic.to_owned(),
        key: record.key.as_deref().map(text),
        value: text(&record.value),
    };
    let before = shown(&topic, record);
    let after: Vec<_> = outputs.iter().map(|output| shown(&output.topic, &output.record)).collect();
    let mut lines = vec![format!("  - {}", line(&before, &topic))];
    lines.extend(after.iter().map(|after| format!("  + {}", line(after, &topic))));
    if after.is_empty() {
        lines.push("    (dropped)".into());
    }
    if let [only] = outputs {
        for difference in compare::json(&record.value, &only.record.value).unwrap_or_default() {
            let side = |side: Option<String>| side.unwrap_or_else(|| "nothing".into());
            if !difference.path.is_empty() {
                let (left, right) = (side(difference.left), side(difference.right));
                lines.push(format!("      {}: {left} becomes {right}", difference.path));
            }
        }
    }
    Changed { topic, partition, offset, before, after, lines }
}

fn line(shown: &Shown, topic: &str) -> String {
    let place = (shown.topic != topic).then(|| format!("in {}", shown.topic));
    let parts: Vec<String> = place.into_iter().chain(shown.key.as_ref().map(|key| format!("key {key}"))).collect();
    if parts.is_empty() { shown.value.clone() } else { format!("{}: {}", parts.join(", "), shown.value) }
}

// ---- telling it ----

fn print(args: &Args, report: &Report) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(report)?)?;
        return Ok(());
    }
    writeln!(out, "rules of {}, over {}", args.config.display(), report.read)?;
    for tried in &report.topics {
        write_topic(&mut out, tried)?;
    }
    let width = report.rules.iter().map(|rule| rule.name.len()).max().unwrap_or(0).max(4);
    writeln!(
        out,
        "\n{:width$}  {:>10}  {:>10}  {:>10}  {:>10}  {:>8}",
        "rule", "in", "out", "bytes in", "bytes out", "errors"
    )?;
    for rule in &report.rules {
        let counts = [rule.records_in, rule.records_out].map(thousands);
        let bytes = [rule.bytes_in, rule.bytes_out].map(binary);
        let ([records_in, records_out], [bytes_in, bytes_out]) = (counts, bytes);
        let (name, errors) = (&rule.name, thousands(rule.errors));
        writeln!(
            out,
            "{name:width$}  {records_in:>10}  {records_out:>10}  {bytes_in:>10}  {bytes_out:>10}  {errors:>8}"
        )?;
    }
    for changed in &report.changed {
        writeln!(out, "\n{} partition {} offset {}", changed.topic, changed.partition, changed.offset)?;
        changed.lines.iter().try_for_each(|line| writeln!(out, "{line}"))?;
    }
    Ok(())
}

fn write_topic(out: &mut impl std::io::Write, tried: &Tried) -> std::io::Result<()> {
    let records = if tried.records == 1 { "record" } else { "records" };
    writeln!(out, "\n{}: {} {records}", tried.topic, thousands(tried.records))?;
    let counts = [
        (tried.passed, "as they are"),
        (tried.rewritten, "rewritten"),
        (tried.dropped, "dropped"),
        (tried.moved, "only in other topics"),
        (tried.held, "not taken"),
    ];
    let counts = counts.iter().filter(|(count, _)| *count > 0);
    let counts: Vec<_> = counts.map(|(count, what)| format!("{} {what}", thousands(*count))).collect();
    if !counts.is_empty() {
        writeln!(out, "  {}", counts.join(", "))?;
    }
    let made: Vec<_> = tried.made.iter().map(|(topic, count)| format!("{} in {topic}", thousands(*count))).collect();
    if !made.is_empty() {
        writeln!(out, "  made: {}", made.join(", "))?;
    }
    let (before, after) = (tried.bytes_before, tried.bytes_after);
    let percent = |bytes: u64| (bytes * 100).checked_div(before).unwrap_or(0);
    let change = match before.checked_sub(after) {
        Some(0) => String::new(),
        Some(saved) => format!(": {} saved ({} %)", binary(saved), percent(saved)),
        None => format!(": {} more ({} %)", binary(after - before), percent(after - before)),
    };
    writeln!(out, "  {} before, {} after{change}", binary(before), binary(after))?;
    if let Some(stopped) = &tried.stopped {
        writeln!(out, "  stopped by {stopped}")?;
    }
    if tried.errors > 0 {
        let said = tried.reasons.iter().map(|Reason { rule, reason, times }| {
            let by = if rule.is_empty() { String::new() } else { format!("rule `{rule}`: ") };
            format!("{by}{reason} ({})", thousands(*times))
        });
        let said: Vec<_> = said.collect();
        let what = if tried.errors == 1 { "error" } else { "errors" };
        writeln!(out, "  {} {what}: {}", thousands(tried.errors), said.join("; "))?;
    }
    Ok(())
}
