//! `headwater rule test`: cases that are kept beside a config, run by the node's own pipeline over a ring in memory.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;

use super::compare::{self, Difference, Edit, edits, text};
use super::trial::{self, Trial};
use crate::cli::check;
use crate::config::cases::{Case, CaseFile, Input, Output, Told, Value, Way, cases};
use crate::config::units::show_span;
use crate::config::{Config, SinkConfig, SinkKind, Surroundings};
use crate::json::{self, Path};
use crate::name::Name;
use crate::node::plan;
use crate::pipeline::{DEAD_LETTERS_TOPIC, OfferError, Plan, RulePlan};
use crate::record::{AttrBuf, Record, RecordRef};
use crate::rules::{Chain, Env, Rule, World};
use crate::sinks::shape::Shape;
use crate::template::Context;
use crate::time::WallTime;
use crate::topic::{TopicName, TopicPart, TopicSet};

/// So many outputs in a row that are as expected are shown around those that are not.
const AROUND: usize = 2;

#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  headwater rule test cases.toml            by the config that the file names,
                                            else headwater.toml beside it
  headwater rule test cases/*.toml -c /etc/headwater/headwater.toml
  headwater rule test cases.toml --json     for programs

A case file:
  config = \"headwater.toml\"      # relative to this file
  [[case]]
  name = \"hot boilers only\"
  topic = \"telemetry\"            # through all that stands before the ring
  in = ['{\"t\":20}', { json = '{\"t\":95}', key = \"b1\", at = \"5s\" }]
  out = [{ topic = \"telemetry\", json = '{\"t\":95}' }]
  dropped = 1

Instead of `topic`: rules = [\"NAME\"], only these; sink = \"NAME\", what that sink
would send. Also `source`, `start`, `until` (time goes on), `errors` and
`dead_letters` (a number, or texts that each contains). What a case does not
say is not compared, but for errors: there are to be none.

Exit codes: 0 all passed, 1 some failed, 2 a file or its config is wrong.")]
pub struct Args {
    /// Case files
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// The config, in place of the one that a file names
    #[arg(short, long, value_name = "CONFIG")]
    config: Option<PathBuf>,
    /// The results as JSON
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Results {
    cases: usize,
    passed: usize,
    failed: usize,
    results: Vec<Outcome>,
}

#[derive(Serialize)]
struct Outcome {
    file: String,
    line: u32,
    name: String,
    passed: bool,
    /// What is not as expected, line by line.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    failure: Vec<String>,
}

pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let around = Surroundings::real(true);
    let (mut files, mut wrong) = (Vec::new(), false);
    for file in &args.files {
        match cases(file, args.config.as_deref(), &around) {
            Ok(read) => files.push(read),
            Err(errors) => {
                check::refused(&errors, &format!("{} and its config", file.display()))?;
                wrong = true;
            }
        }
    }
    if wrong {
        return Ok(ExitCode::from(crate::cli::USAGE));
    }
    let mut results = Vec::new();
    let mut out = std::io::stdout().lock();
    for file in &files {
        for case in &file.cases {
            let outcome = judged(file, case)?;
            if !args.json {
                show(&mut out, &outcome)?;
            }
            results.push(outcome);
        }
    }
    let (cases, passed) = (results.len(), results.iter().filter(|outcome| outcome.passed).count());
    let failed = cases - passed;
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&Results { cases, passed, failed, results })?)?;
    } else {
        writeln!(out, "{}, {passed} passed, {failed} failed", check::counted(cases, "case"))?;
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn show(out: &mut impl std::io::Write, outcome: &Outcome) -> std::io::Result<()> {
    if outcome.passed {
        return writeln!(out, "ok    {}", outcome.name);
    }
    writeln!(out, "FAIL  {}  ({}:{})", outcome.name, outcome.file, outcome.line)?;
    outcome.failure.iter().try_for_each(|line| writeln!(out, "      {line}"))
}

fn judged(file: &CaseFile, case: &Case) -> anyhow::Result<Outcome> {
    let made = made(&file.config, case)?;
    let mut failure = Vec::new();
    if let Some(expected) = &case.expected.out {
        compare_outputs(expected, &made.outputs, &mut failure);
    }
    compare_told("errors", &case.expected.errors, &made.errors, &mut failure);
    if let Some(dropped) = case.expected.dropped.filter(|dropped| *dropped != made.dropped) {
        failure.push(format!("dropped: expected {dropped}, got {}", made.dropped));
    }
    if let Some(letters) = &case.expected.dead_letters {
        compare_told("dead letters", letters, &made.letters, &mut failure);
    }
    if !failure.is_empty() {
        failure.extend(made.notes);
    }
    let (file, name) = (file.file.display().to_string(), case.name.clone());
    Ok(Outcome { file, line: case.line, name, passed: failure.is_empty(), failure })
}

// ---- running ----

#[derive(Default)]
struct Made {
    outputs: Vec<trial::Output>,
    errors: Vec<String>,
    /// Why, of each dead letter.
    letters: Vec<String>,
    dropped: u32,
    notes: Vec<String>,
}

fn made(config: &Config, case: &Case) -> anyhow::Result<Made> {
    match &case.way {
        Way::Sink(name) => Ok(match config.sinks.iter().find(|sink| sink.name == *name) {
            Some(sink) => sent(config, sink, case),
            None => Made::default(),
        }),
        Way::Topic => stored(config, plan::plan(config), case),
        Way::Rules(names) => stored(config, only(config, names, &case.topic), case),
    }
}

/// These rules in this order, for one topic; what they make stays in it.
fn only(config: &Config, names: &[Name], topic: &TopicName) -> Plan {
    let topics = TopicSet { include: vec![topic.as_str().to_owned()], exclude: Vec::new() };
    let find = |name: &Name| config.rules.iter().find(|rule| rule.rule.name == *name);
    let planned = |rule: &Rule| RulePlan { topics: topics.clone(), into: None, rule: rule.clone() };
    let rules = names.iter().filter_map(find).map(|rule| planned(&rule.rule)).collect();
    Plan { rules, ..plan::plan(config) }
}

fn record(input: &Input) -> Record {
    let mut attrs = AttrBuf::default();
    for (name, value) in &input.attributes {
        // The file was refused where they are too many.
        let _ = attrs.push(name, value.as_bytes());
    }
    let (key, value) = (input.key.clone().map(String::into_bytes), input.value.clone().into_bytes());
    Record { key, value, event_time: input.time, attrs, ..Record::default() }
}

/// Through what stands before the ring.
fn stored(config: &Config, plan: Plan, case: &Case) -> anyhow::Result<Made> {
    let mut trial = Trial::new(config, plan, case.start)?;
    let source = case.source.as_ref().and_then(|name| config.sources.iter().find(|source| source.name == *name));
    let source = source.map(|source| trial.add_source(plan::source(source)));
    let part = TopicPart { topic: trial.open(&case.topic, None)?, partition: 0 };
    let (mut made, mut all) = (Made::default(), Vec::new());
    for (n, input) in case.input.iter().enumerate() {
        all.extend(trial.pass(input.at));
        match trial.offer(source, part, &record(input).as_ref()) {
            Ok(outputs) => {
                made.dropped += u32::from(outputs.iter().all(is_letter));
                all.extend(outputs);
            }
            Err(OfferError::Busy) => {
                let stopped = trial.stopped().into_iter().next();
                let by = stopped.map_or(String::new(), |stopped| format!(", stopped by rule `{}`", stopped.rule));
                let left = case.input.len() - n;
                made.notes.push(format!("note: topic `{}` takes nothing more{by}; {left} of `in` wait", case.topic));
                break;
            }
            Err(error @ OfferError::TooLarge { .. }) => made.errors.push(error.to_string()),
        }
    }
    all.extend(trial.pass(case.until));
    let failures = trial.failures();
    made.errors.extend(failures.iter().map(|failure| format!("rule `{}`: {}", failure.rule, failure.reason)));
    let counted: u64 = trial.tallies().iter().map(|(_, told)| told.tally.errors).sum();
    for _ in failures.len() as u64..counted {
        made.errors.push("a rule failed on what it had kept, when its time had come".into());
    }
    let (letters, outputs): (Vec<_>, Vec<_>) = all.into_iter().partition(is_letter);
    made.letters = letters.iter().map(reason).collect();
    made.outputs = outputs;
    Ok(made)
}

fn is_letter(output: &trial::Output) -> bool {
    output.topic == DEAD_LETTERS_TOPIC
}

fn reason(letter: &trial::Output) -> String {
    let found = Path::parse("reason").ok().and_then(|path| json::find_raw(&letter.record.value, &path).ok().flatten());
    found.map_or(String::new(), |raw| String::from_utf8_lossy(&json::unescape(raw)).trim_matches('"').to_owned())
}

/// What a sink would send of them.
fn sent(config: &Config, sink: &SinkConfig, case: &Case) -> Made {
    let (node, labels) = (&config.node.id, &config.node.labels);
    let site = (node.clone(), labels.clone());
    let mut shape = match &sink.kind {
        SinkKind::Fluvio(of) => Shape::new(sink, Some(&of.upstream_topic), of.upstream_key.as_ref(), site),
        _ => Shape::new(sink, None, None, site),
    };
    let mut reasons = Chain::new(&sink.rules);
    let env = Env { context: Context { node, topic: case.topic.as_str(), source: "", labels }, time: None };
    let (mut made, topic) = (Made::default(), case.topic.as_str());
    if !sink.topics.contains(&case.topic) {
        made.notes.push(format!("note: the sink does not take topic `{topic}`"));
        made.dropped = case.input.len() as u32;
        return made;
    }
    for input in &case.input {
        let (record, before) = (record(input), made.outputs.len());
        let time = input.time.unwrap_or(WallTime(case.start.0 + input.at.0));
        let mut errors = Vec::new();
        shape.apply(topic, record.as_ref(), Some(time), false, &mut |shaped| match shaped {
            Ok(shaped) => {
                let topic = shaped.topic.map_or(topic.to_owned(), text);
                let record =
                    Record { key: shaped.key.map(<[u8]>::to_vec), value: shaped.value.to_vec(), ..Record::default() };
                made.outputs.push(trial::Output { topic, at: input.at, record, seq: 0 });
            }
            Err(_) => errors.push("`upstream_topic` has nothing to stand for".to_owned()),
        });
        // They are pure: once more is the same once more, and says why.
        reasons.apply(&env, &record.as_ref(), &mut Reasons(&mut errors));
        made.errors.extend(errors);
        made.dropped += u32::from(made.outputs.len() == before);
    }
    made
}

/// What rules before a sink fail on.
struct Reasons<'a>(&'a mut Vec<String>);

impl World for Reasons<'_> {
    fn emit(&mut self, _: RecordRef<'_>) {}
    fn route(&mut self, _: &TopicName, _: RecordRef<'_>) {}
    fn failed(&mut self, rule: &Rule, _: &RecordRef<'_>, reason: &str) {
        self.0.push(format!("rule `{}`: {reason}", rule.name));
    }
    fn state(&self, _: &Name, _: &[u8]) -> Option<&[u8]> {
        None
    }
    fn put_state(&mut self, _: &Name, _: &[u8], _: Option<&[u8]>) -> bool {
        false
    }
    fn forget_oldest(&mut self, _: &Name) -> u32 {
        0
    }
}

// ---- comparing ----

fn compare_told(what: &str, expected: &Told, got: &[String], failure: &mut Vec<String>) {
    let fits = match expected {
        Told::Count(count) => *count as usize == got.len(),
        Told::Texts(texts) => {
            texts.len() == got.len() && texts.iter().zip(got).all(|(text, got)| got.contains(text.as_str()))
        }
    };
    if fits {
        return;
    }
    match expected {
        Told::Count(count) => failure.push(format!("{what}: expected {count}, got {}", got.len())),
        Told::Texts(texts) => {
            failure.push(format!("{what}:"));
            failure.extend(texts.iter().map(|text| format!("  - ...{text}...")));
        }
    }
    failure.extend(got.iter().map(|got| format!("  + {got}")));
}

fn compare_outputs(expected: &[Output], got: &[trial::Output], failure: &mut Vec<String>) {
    let edits = edits(expected.len(), got.len(), &|e, g| differences(&expected[e], &got[g]).is_empty());
    if edits.iter().all(|edit| matches!(edit, Edit::Same(..))) {
        return;
    }
    failure.push("out:".into());
    let mut at = 0;
    while at < edits.len() {
        let same = edits[at..].iter().take_while(|edit| matches!(edit, Edit::Same(..))).count();
        context(&edits[at..at + same], (at > 0, at + same < edits.len()), got, failure);
        at += same;
        let other = edits[at..].iter().take_while(|edit| !matches!(edit, Edit::Same(..))).count();
        hunk(&edits[at..at + other], expected, got, failure);
        at += other;
    }
}

/// Those nearest to what is not as expected.
fn context(edits: &[Edit], (before, after): (bool, bool), got: &[trial::Output], failure: &mut Vec<String>) {
    let (first, last) = (if before { AROUND } else { 0 }, if after { AROUND } else { 0 });
    let left_out = edits.len().saturating_sub(first + last);
    for (at, edit) in edits.iter().enumerate() {
        let Edit::Same(_, of) = edit else { continue };
        if at < first || at >= edits.len().saturating_sub(last) || left_out == 1 {
            failure.push(format!("    {}", said(&got[*of])));
        } else if at == first {
            failure.push(format!("    ... {left_out} as expected"));
        }
    }
}

/// What is not as expected, those in the same place side by side.
fn hunk(edits: &[Edit], expected: &[Output], got: &[trial::Output], failure: &mut Vec<String>) {
    let lefts = edits.iter().filter_map(|edit| if let Edit::Left(at) = edit { Some(&expected[*at]) } else { None });
    let rights = edits.iter().filter_map(|edit| if let Edit::Right(at) = edit { Some(&got[*at]) } else { None });
    let (mut lefts, mut rights) = (lefts, rights);
    loop {
        let (left, right) = (lefts.next(), rights.next());
        failure.extend(left.map(|left| format!("  - {}", wanted(left))));
        failure.extend(right.map(|right| format!("  + {}", said(right))));
        match (left, right) {
            (Some(left), Some(right)) => failure.extend(differences(left, right).iter().filter_map(told)),
            (None, None) => return,
            _ => {}
        }
    }
}

/// In words, where it does not stand there already.
fn told(difference: &Difference) -> Option<String> {
    let Difference { path, left, right } = difference;
    Some(match (left, right) {
        (Some(left), Some(right)) => format!("      {path}: expected {left}, got {right}"),
        (Some(left), None) => format!("      {path}: expected {left}, is not there"),
        (None, Some(right)) => format!("      {path}: got {right}, which is not expected"),
        (None, None) => return None,
    })
}

fn differences(expected: &Output, got: &trial::Output) -> Vec<Difference> {
    let (mut found, record) = (Vec::new(), &got.record);
    let mut compare = |path: &str, wanted: &Option<String>, got: Option<&[u8]>| {
        if wanted.as_ref().is_some_and(|wanted| got != Some(wanted.as_bytes())) {
            found.push(Difference::new(path, wanted.clone(), got.map(text)));
        }
    };
    compare("topic", &expected.topic, Some(got.topic.as_bytes()));
    compare("key", &expected.key, record.key.as_deref());
    let at = show_span(got.at);
    compare("at", &expected.at.map(show_span), Some(at.as_bytes()));
    let all = !matches!(expected.value, Some(Value::Has(_)));
    // The lines show the whole.
    let named = |member: Difference| if member.path.is_empty() { Difference::new("value", None, None) } else { member };
    match &expected.value {
        Some(Value::Text(text)) if text.as_bytes() != record.value => {
            match compare::json(text.as_bytes(), &record.value) {
                Some(members) if !members.is_empty() => found.extend(members),
                // The lines show it.
                _ => found.push(Difference::new("value", None, None)),
            }
        }
        Some(Value::Json(json) | Value::Has(json)) => match compare::json(json.as_bytes(), &record.value) {
            Some(members) => found.extend(members.into_iter().filter(|member| all || member.left.is_some()).map(named)),
            None => found.push(Difference::new("value", Some("JSON".into()), Some("none".into()))),
        },
        _ => {}
    }
    found
}

/// An output as it is expected: what is said of it.
fn wanted(output: &Output) -> String {
    let value = match &output.value {
        Some(Value::Text(value) | Value::Json(value)) => text(value.as_bytes()),
        Some(Value::Has(value)) => format!("has {}", text(value.as_bytes())),
        None => "(any value)".into(),
    };
    line(output.topic.as_deref(), output.key.as_deref(), output.at.map(show_span), &value)
}

fn said(output: &trial::Output) -> String {
    let key = output.record.key.as_deref().map(text);
    line(Some(&output.topic), key.as_deref(), Some(show_span(output.at)), &text(&output.record.value))
}

fn line(topic: Option<&str>, key: Option<&str>, at: Option<String>, value: &str) -> String {
    let parts = [topic.map(str::to_owned), key.map(|key| format!("key {key}")), at.map(|at| format!("at {at}"))];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    if parts.is_empty() { value.to_owned() } else { format!("{}: {value}", parts.join(", ")) }
}
