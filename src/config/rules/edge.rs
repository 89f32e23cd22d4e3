//! `with` of the rules that keep state, and of `route`.

use super::{Reader, condition, number};
use crate::config::raw::{Node, Raw};
use crate::config::sources::{unknown_type, writable_topic};
use crate::json::Path;
use crate::rules::RuleSpec;
use crate::rules::deadband::{Band, Deadband};
use crate::rules::debounce::Debounce;
use crate::rules::dedup::Dedup;
use crate::rules::number::Number;
use crate::rules::rate::RateOfChange;
use crate::rules::route::Route;
use crate::rules::state::MAX_ENTRY;
use crate::rules::threshold::{Limit, Options, Threshold};
use crate::rules::throttle::Throttle;
use crate::rules::window::{Function, Kind, MAX_STEPS, Output, Window};
use crate::template::Template;
use crate::time::Span;

const MOMENT: Span = Span::from_millis(1);
const YEAR: Span = Span::from_secs(366 * 86_400);

pub fn stateful(uses: &str, with: &Reader<'_>) -> Option<RuleSpec> {
    match uses {
        "deadband" => deadband(with).map(RuleSpec::Deadband),
        "throttle" => throttle(with).map(RuleSpec::Throttle),
        "debounce" => debounce(with).map(RuleSpec::Debounce),
        "threshold" => threshold(with).map(RuleSpec::Threshold),
        "rate-of-change" => rate(with).map(RuleSpec::RateOfChange),
        "dedup" => dedup(with).map(RuleSpec::Dedup),
        "window" => window(with).map(RuleSpec::Window),
        other => {
            with.error(with.at(), "", unknown_type(other, &[], &[]));
            None
        }
    }
}

fn by(with: &Reader<'_>) -> Option<Template> {
    with.opt_text("by", "template", Template::parse)
}

fn field(with: &Reader<'_>) -> Option<Path> {
    with.opt_text("field", "field", Path::parse)
}

fn span(with: &Reader<'_>, key: &'static str) -> Option<Span> {
    with.opt_span(key, MOMENT..=YEAR)
}

fn need_span(with: &Reader<'_>, key: &'static str, example: &str) -> Option<Span> {
    if !with.has(key) {
        with.wrong(key, format!("required; write {key} = \"{example}\""));
    }
    span(with, key)
}

/// A number that is not below zero.
fn size(node: &Node) -> Result<f64, String> {
    match number(node)?.to_f64() {
        size if size >= 0.0 => Ok(size),
        _ => Err(format!("`{}` is below zero", node.inline())),
    }
}

fn deadband(with: &Reader<'_>) -> Option<Deadband> {
    let (field, by) = (field(with), by(with));
    let (delta, percent) = (with.value("delta", size), with.value("percent", size));
    let max_silence = span(with, "max_silence");
    let band = match (delta, percent) {
        (Some(delta), None) => Band::Absolute(delta),
        (None, Some(percent)) => Band::Percent(percent),
        (Some(_), Some(_)) => {
            with.wrong("percent", "`delta` and `percent` are two ways to say it: write one of them");
            return None;
        }
        (None, None) => {
            if !with.has("delta") && !with.has("percent") {
                with.wrong("delta", "how far must it move? Write delta = 0.5 or percent = 2");
            }
            return None;
        }
    };
    Some(Deadband { field, by, band, max_silence })
}

fn throttle(with: &Reader<'_>) -> Option<Throttle> {
    let by = by(with);
    let most = with.int("most", 1, 1..=u32::MAX);
    Some(Throttle { by, every: need_span(with, "every", "10s")?, most })
}

fn debounce(with: &Reader<'_>) -> Option<Debounce> {
    let (by, field) = (by(with), field(with));
    let max_wait = span(with, "max_wait");
    let quiet = need_span(with, "quiet", "500ms")?;
    if max_wait.is_some_and(|most| most < quiet) {
        with.wrong("max_wait", "shorter than `quiet`: nothing would ever rest long enough");
    }
    Some(Debounce { by, field, quiet, max_wait })
}

fn dedup(with: &Reader<'_>) -> Option<Dedup> {
    let by = by(with);
    Some(Dedup { by, within: need_span(with, "within", "10m")? })
}

/// Names of the functions, as keys of `with`.
const FUNCTIONS: [(&str, Function); 7] = [
    ("count", Function::Count),
    ("sum", Function::Sum),
    ("min", Function::Min),
    ("max", Function::Max),
    ("mean", Function::Mean),
    ("last", Function::Last),
    ("stddev", Function::Stddev),
];
/// What a window may make of a record.
const MAX_OUTPUTS: usize = 32;

fn window(with: &Reader<'_>) -> Option<Window> {
    let by = by(with);
    let grace = with.span("grace", Span::default(), Span::default()..=YEAR);
    let time = with.opt_text("time", "field", Path::parse);
    let mut outputs: Vec<Output> = Vec::new();
    for (function, of) in FUNCTIONS {
        let fields = with.list(function, "list of fields", |text, _| Path::parse(text));
        outputs.extend(fields.into_iter().map(|field| output(field, of, function)));
    }
    for (percent, field) in percentiles(with) {
        let name = format!("p{percent}").replace('.', "_");
        outputs.push(output(field, Function::Quantile(percent / 100.0), &name));
    }
    for (at, one) in outputs.iter().enumerate() {
        if outputs[..at].iter().any(|other| other.name == one.name) {
            with.error(with.at(), "", format!("two members of what comes out would be `{}`", one.name));
        }
    }
    if outputs.len() > MAX_OUTPUTS {
        with.error(with.at(), "", format!("more than {MAX_OUTPUTS} fields and functions; use two rules"));
    }
    let window = Window { by, kind: windows(with)?, grace, time, outputs };
    if window.weight() > MAX_ENTRY {
        let (takes, room) = (window.weight().div_ceil(1024), MAX_ENTRY / 1024);
        let message = format!(
            "it would keep about {takes} KiB for each thing, and {room} can be kept: use fewer steps (a longer `every`), \
             fewer `percentiles`, or two rules"
        );
        with.error(with.at(), "", message);
    }
    Some(window)
}

fn windows(with: &Reader<'_>) -> Option<Kind> {
    let keys = ["tumbling", "hopping", "every", "session"];
    let spans = keys.map(|key| span(with, key));
    match spans {
        [Some(length), None, None, None] => Some(Kind::Steps { length, step: length }),
        [None, Some(length), Some(step), None] => {
            if length.0 % step.0 != 0 || length.0 / step.0 > MAX_STEPS {
                let message = format!("`hopping` must be a multiple of `every`, at most {MAX_STEPS} times as long");
                with.wrong("every", message);
            }
            Some(Kind::Steps { length, step })
        }
        [None, None, None, Some(gap)] => Some(Kind::Session { gap }),
        _ => {
            // A value that is wrong by itself was said already.
            if keys.map(|key| with.has(key)) == spans.map(|span| span.is_some()) {
                let message = "which windows? Write tumbling = \"1m\", hopping = \"10m\" with every = \"1m\", or session = \"30s\"";
                with.error(with.at(), "", message);
            }
            None
        }
    }
}

fn output(field: Path, function: Function, named: &str) -> Output {
    let name = format!("{}_{named}", field.names().join("_"));
    Output { field, function, name }
}

/// `percentiles = { latency = [50, 99] }`.
fn percentiles(with: &Reader<'_>) -> Vec<(f64, Path)> {
    let mut all = Vec::new();
    for entry in with.entries("percentiles") {
        let path = Path::parse(&entry.key).map_err(|e| with.error(entry.at, "percentiles", e.to_string())).ok();
        let nodes = match &entry.node.value {
            Raw::List(nodes) => nodes.as_slice(),
            _ => std::slice::from_ref(&entry.node),
        };
        for node in nodes {
            match number(node).map(Number::to_f64) {
                Ok(percent) if percent > 0.0 && percent < 100.0 => {
                    all.extend(path.clone().map(|path| (percent, path)));
                }
                _ => with.error(node.at, "percentiles", format!("`{}` is no number between 0 and 100", node.inline())),
            }
        }
    }
    all
}

fn rate(with: &Reader<'_>) -> Option<RateOfChange> {
    let field = with.need_text("field", "field", Path::parse);
    let by = by(with);
    let per = with.span("per", Span::from_secs(1), MOMENT..=YEAR);
    let above = with.value("above", size);
    let into = with.text("into", "field", "rate", Path::parse);
    RateOfChange::new(field?, by, per, above, into?).map_err(|e| with.wrong("into", e.to_string())).ok()
}

fn threshold(with: &Reader<'_>) -> Option<Threshold> {
    let (field, by) = (field(with), by(with));
    let limits = |key: &'static str| -> Vec<Limit> {
        let limit = |inner: &Reader<'_>| {
            let at = inner.value("at", number);
            if at.is_none() && !inner.has("at") {
                inner.wrong("at", "required; a limit is written { at = 80, severity = \"warning\" }");
            }
            let severity = inner.need_text("severity", "text", |text| match text {
                "" | "normal" => Err("a limit needs a severity of its own, like \"warning\"".to_owned()),
                text => Ok(text.to_owned()),
            });
            Some(Limit { at: at?, severity: severity? })
        };
        with.tables(key, 16).iter().filter_map(limit).collect()
    };
    let (above, below) = (limits("above"), limits("below"));
    let hysteresis = with.value("hysteresis", size).unwrap_or(0.0);
    let all = with.flag("all", false);
    let into = with.text("into", "field", "severity", Path::parse);
    let options = Options { field, by, above, below, hysteresis, all };
    Threshold::new(options, into?).map_err(|e| with.wrong("above", e.to_string())).ok()
}

/// `to = [{ topic = "alarms", when = { field = "severity", exists = true } }]`.
pub fn route(with: &Reader<'_>) -> Option<Route> {
    let way = |inner: &Reader<'_>| {
        let topic = inner.need_text("topic", "topic", writable_topic);
        let Some(when) = inner.opt_section("when") else {
            inner.wrong("when", "required; write the condition as the `filter` rule has it");
            return None;
        };
        let condition = condition(&when, 0);
        Some((topic?, condition?))
    };
    let to: Vec<_> = with.tables("to", 64).iter().filter_map(way).collect();
    let otherwise = with.opt_text("otherwise", "topic", writable_topic);
    if to.is_empty() {
        if !with.has("to") {
            with.wrong("to", "required; write to = [{ topic = \"alarms\", when = { contains = \"ALARM\" } }]");
        }
        return None;
    }
    Some(Route { to, otherwise })
}
