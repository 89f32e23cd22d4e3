//! Case files: what goes into a config's rules and what is to come out, for `headwater rule test`.
//!
//! Read as a config is: every error at once, with file, line and the nearest known key. What a case names (source, rules, sink)
//! is looked up in the config that the file says, so a case that is handed out can be run.

use std::path::{Path, PathBuf};

use super::model::Config;
use super::raw::{Node, Raw, parse};
use super::reader::{Quiet, Reader, Scope};
use super::values::{expected, int_of, text_in};
use super::{ConfigError, Report, Surroundings, examine, read_bounded};
use crate::json::Scanner;
use crate::limits::MAX_ATTRS;
use crate::name::{Name, nearest};
use crate::time::{Span, WallTime};
use crate::topic::TopicName;

/// Cases of one file.
const MAX_CASES: usize = 10_000;
/// A case's time may go on for so long.
const LONGEST: Span = Span::from_secs(31 * 86_400);
/// 2026-01-01T00:00:00Z, when a case begins that does not say when: at the start of an hour, a day and a month.
const START: WallTime = WallTime(1_767_225_600_000_000);
/// The topic of records that go through rules by name, unless the case says another.
const ANY_TOPIC: &str = "records";

/// A file of cases and the config that they are of.
pub struct CaseFile {
    pub file: PathBuf,
    pub config: Config,
    pub cases: Vec<Case>,
}

pub struct Case {
    pub name: String,
    pub line: u32,
    /// What the clock shows, and is trusted with, as it begins.
    pub start: WallTime,
    pub way: Way,
    pub topic: TopicName,
    pub source: Option<Name>,
    pub input: Vec<Input>,
    /// So long after the start it ends; at least with its last record.
    pub until: Span,
    pub expected: Expected,
}

/// What the records of a case go through.
pub enum Way {
    /// All that stands before the ring for their topic.
    Topic,
    /// These rules only.
    Rules(Vec<Name>),
    /// What a sink makes of them.
    Sink(Name),
}

pub struct Input {
    pub at: Span,
    pub key: Option<String>,
    pub value: String,
    pub time: Option<WallTime>,
    pub attributes: Vec<(String, String)>,
}

/// What is not said is not compared, but for errors: there are none.
pub struct Expected {
    pub out: Option<Vec<Output>>,
    pub errors: Told,
    pub dropped: Option<u32>,
    pub dead_letters: Option<Told>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    Count(u32),
    /// One for each, in order; each contains its text.
    Texts(Vec<String>),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    pub at: Option<Span>,
    pub topic: Option<String>,
    pub key: Option<String>,
    pub value: Option<Value>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Byte for byte.
    Text(String),
    /// The same JSON: members in any order, numbers digit by digit.
    Json(String),
    /// JSON that has at least these members.
    Has(String),
}

/// Reads a case file and its config: the one that it names, or `instead`.
pub fn cases(file: &Path, instead: Option<&Path>, around: &Surroundings) -> Result<CaseFile, Vec<ConfigError>> {
    let report = Report::default();
    report.files.borrow_mut().push(file.to_owned());
    let whole = |message: String| ConfigError { file: file.to_owned(), line: 0, key: String::new(), message };
    let text = read_bounded(file).map_err(|why| vec![whole(why.to_string())])?;
    let Some(root) = parse(0, &text, &report) else { return Err(report.errors.take()) };
    let scope = Scope::new(&report, around);
    let root = Reader::root(&scope, &root);
    let named = root.opt_path("config");
    let beside = || root.beside(root.at(), "headwater.toml");
    let path = instead.map(Path::to_owned).or(named).unwrap_or_else(beside);
    let examined = examine(&path, around);
    let (config, mut errors) = match examined.config {
        Ok(config) => (Some(config), Vec::new()),
        Err(errors) => (None, errors),
    };
    let tables = root.tables("case", MAX_CASES);
    if tables.is_empty() && !root.has_strangers() && report.errors.borrow().is_empty() {
        errors.push(whole("no cases: write [[case]] with `name`, `topic`, `in` and `out`".into()));
    }
    let mut cases: Vec<Case> = Vec::new();
    for r in &tables {
        let Some(case) = case(r, config.as_ref()) else { continue };
        match cases.iter().find(|other| other.name == case.name) {
            Some(other) => r.wrong("name", format!("another case has this name, in line {}", other.line)),
            None => cases.push(case),
        }
    }
    drop((tables, root));
    let mut own = report.errors.take();
    own.sort_by_key(|error| error.line);
    errors.extend(own);
    match config {
        Some(config) if errors.is_empty() => Ok(CaseFile { file: file.to_owned(), config, cases }),
        _ => Err(errors),
    }
}

/// Read to its end whatever is wrong, so that all of it is said.
fn case(r: &Reader<'_>, config: Option<&Config>) -> Option<Case> {
    let name = r.need_text("name", "name", |text| match text.trim() {
        "" => Err("a name is missing"),
        text => Ok(text.to_owned()),
    });
    let start = r.get("start", "time", None, moment).unwrap_or(START);
    let topic = r.opt_text("topic", "topic", TopicName::new);
    let way = way(r, config, topic.is_some());
    let source = r.opt_text("source", "source", |text| {
        let names = config.map(|config| config.sources.iter().map(|source| source.name.as_str()).collect());
        known("source", text, names)
    });
    let input = r.get("in", "list of records", None, |node| Ok(list(node)));
    if input.is_none() && !r.has("in") {
        r.wrong("in", "`in` is missing: the records that go in");
    }
    let mut at = Span::default();
    let input = input.unwrap_or_default().iter().map(|node| self::input(r, node, &mut at)).collect();
    let until = r.opt_span("until", Span::default()..=LONGEST).unwrap_or(at);
    if until < at {
        r.wrong("until", "the last record comes later than this");
    }
    let out = r.get("out", "list of records", None, |node| Ok(list(node)));
    let out = out.map(|nodes| nodes.iter().map(|node| output(r, node)).collect());
    let (errors, dead_letters) = (told(r, "errors"), told(r, "dead_letters"));
    let dropped = r.get("dropped", "number", None, |node| int_of(node, &(0..=u32::MAX)));
    if !["out", "errors", "dropped", "dead_letters"].iter().any(|key| r.has(key)) && !r.has_strangers() {
        r.error(r.at(), "", "it expects nothing: write `out`, `errors`, `dropped` or `dead_letters`");
    }
    let expected = Expected { out, errors: errors.unwrap_or(Told::Count(0)), dropped, dead_letters };
    let topic = topic.or_else(|| TopicName::new(ANY_TOPIC).ok())?;
    Some(Case { name: name?, line: r.at().line, start, way: way?, topic, source, input, until, expected })
}

fn way(r: &Reader<'_>, config: Option<&Config>, topic: bool) -> Option<Way> {
    let rules = r.list("rules", "list of rules", |text, _| {
        known("rule", text, config.map(|config| config.rules.iter().map(|rule| rule.rule.name.as_str()).collect()))
    });
    let sink = r.opt_text("sink", "sink", |text| {
        known("sink", text, config.map(|config| config.sinks.iter().map(|sink| sink.name.as_str()).collect()))
    });
    match (r.has("rules"), r.has("sink")) {
        (true, true) => r.wrong("rules", "a sink has its own rules; write `sink` or `rules`"),
        (true, false) => return Some(Way::Rules(rules)),
        (false, true) => return sink.map(Way::Sink),
        (false, false) if topic => return Some(Way::Topic),
        // What is wrong with it is said already.
        (false, false) if r.has("topic") => {}
        (false, false) => r.wrong("topic", "`topic` is missing (or `rules` or `sink`): what the records go through"),
    }
    None
}

/// A name that the config has; any will do where there is no config.
fn known(what: &str, text: &str, names: Option<Vec<&str>>) -> Result<Name, String> {
    let name = Name::new(text).map_err(|error| error.to_string())?;
    match names {
        Some(names) if !names.contains(&text) => Err(match nearest(text, names.iter().copied()) {
            Some(near) => format!("the config has no {what} `{text}`; did you mean `{near}`?"),
            None if names.is_empty() => format!("the config has no {what}s"),
            None => format!("the config has no {what} `{text}`; it has {}", names.join(", ")),
        }),
        _ => Ok(name),
    }
}

/// A value alone is a list of one.
fn list(node: &Node) -> &[Node] {
    match &node.value {
        Raw::List(nodes) => nodes,
        _ => std::slice::from_ref(node),
    }
}

/// One record; `at` is when the one before it came.
fn input(r: &Reader<'_>, node: &Node, at: &mut Span) -> Input {
    let mut input = Input { at: *at, key: None, value: String::new(), time: None, attributes: Vec::new() };
    let Some(of) = table(r, node, "in") else {
        input.value = text_of(r, node, "in").unwrap_or_default();
        return input;
    };
    input.at = of.opt_span("at", Span::default()..=LONGEST).unwrap_or(*at);
    if input.at < *at {
        of.wrong("at", "the record before it comes later than this");
    }
    *at = input.at.max(*at);
    input.key = of.opt_text("key", "text", plain);
    input.time = of.get("time", "time", None, moment);
    match value(&of) {
        Some(Value::Text(text) | Value::Json(text) | Value::Has(text)) => input.value = text,
        None if of.has("value") || of.has("json") || of.has_strangers() => {}
        None => of.wrong("value", "`value` is missing (or `json`)"),
    }
    input.attributes = of.texts("attributes").into_iter().map(|(name, text, _)| (name.to_owned(), text)).collect();
    if input.attributes.len() > MAX_ATTRS {
        of.wrong("attributes", format!("more than {MAX_ATTRS}"));
    }
    input
}

fn output(r: &Reader<'_>, node: &Node) -> Output {
    match table(r, node, "out") {
        None => Output { value: text_of(r, node, "out").map(Value::Text), ..Output::default() },
        Some(of) => {
            let value = value(&of);
            let has = of.get("has", "JSON", None, json_in).map(Value::Has);
            if has.is_some() && value.is_some() {
                of.wrong("has", "a record has one value: write `value`, `json` or `has`");
            }
            Output {
                at: of.opt_span("at", Span::default()..=LONGEST),
                topic: of.opt_text("topic", "topic", plain),
                key: of.opt_text("key", "text", plain),
                value: value.or(has),
            }
        }
    }
}

fn table<'a>(r: &Reader<'a>, node: &'a Node, key: &str) -> Option<Quiet<'a>> {
    matches!(node.value, Raw::Table(_)).then(|| r.quiet(node, key))?
}

fn text_of(r: &Reader<'_>, node: &Node, key: &str) -> Option<String> {
    let text = text_in(node).map(str::to_owned);
    text.map_err(|_| r.error(node.at, key, expected("a text or a table like { value = \"...\" }", node))).ok()
}

fn plain(text: &str) -> Result<String, std::convert::Infallible> {
    Ok(text.to_owned())
}

/// `value` or `json`.
fn value(of: &Reader<'_>) -> Option<Value> {
    let text = of.get("value", "text", None, |node| text_in(node).map(str::to_owned));
    let json = of.get("json", "JSON", None, json_in);
    if of.has("value") && of.has("json") {
        of.wrong("json", "a record has one value: write `value` or `json`");
    }
    json.map(Value::Json).or(text.map(Value::Text))
}

fn json_in(node: &Node) -> Result<String, String> {
    let Raw::Text(text) = &node.value else {
        return Err(format!("write the JSON as a text, like '{{\"a\":1}}', not {}", node.kind()));
    };
    let mut scanner = Scanner::new(text.as_bytes());
    scanner.space();
    let read = scanner.value(0).and_then(|_| scanner.end());
    read.map(|()| text.clone()).map_err(|error| error.to_string())
}

fn moment(node: &Node) -> Result<WallTime, String> {
    let text = match &node.value {
        Raw::Text(text) | Raw::Time(text) => text,
        _ => return Err(expected("a time like \"2026-01-01T00:00:00Z\"", node)),
    };
    let parsed = chrono::DateTime::parse_from_rfc3339(text);
    let parsed = parsed.map(|time| WallTime(time.timestamp_micros()));
    parsed.map_err(|_| format!("`{text}` is no time as RFC 3339 has it, like 2026-01-01T00:00:00Z"))
}

/// How many, or what each says.
fn told(r: &Reader<'_>, key: &'static str) -> Option<Told> {
    r.get(key, "number or list of texts", None, |node| match &node.value {
        Raw::Int(_) => int_of(node, &(0..=u32::MAX)).map(Told::Count),
        Raw::Text(_) | Raw::List(_) => {
            let texts: Result<_, String> = list(node).iter().map(|node| text_in(node).map(str::to_owned)).collect();
            texts.map(Told::Texts)
        }
        _ => Err(expected("a number or a list of texts", node)),
    })
}
