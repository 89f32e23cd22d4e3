//! `[[rules]]`: name, topics, `uses` and its `with`.

mod data;
mod edge;
mod wasm;

use std::collections::BTreeMap;

use twox_hash::XxHash3_64;

use super::model::RuleConfig;
use super::raw::{Entry, Node, Raw};
use super::reader::Reader;
use super::sources::writable_topic;
use super::values::{expected, text_in};
use crate::json::Path;
use crate::limits::{MAX_LOOK_BACK, MAX_RULES};
use crate::name::{Name, nearest};
use crate::rules::add_fields::{AddFields, FieldValue};
use crate::rules::drop_fields::DropFields;
use crate::rules::filter::{Condition, Needle, Number, Pattern, Scalar, Test};
use crate::rules::hub;
use crate::rules::keep_fields::KeepFields;
use crate::rules::rename::Rename;
use crate::rules::sample::Sample;
use crate::rules::wasm::LookBack;
use crate::rules::{OnError, Rule, RuleSpec};
use crate::template::Template;
use crate::time::Span;
use crate::topic::{DEAD_LETTERS_TOPIC, TopicName, TopicSet};

const USES: [&str; 22] = [
    "filter",
    "drop-fields",
    "keep-fields",
    "rename",
    "add-fields",
    "sample",
    "deadband",
    "throttle",
    "debounce",
    "threshold",
    "rate-of-change",
    "dedup",
    "route",
    "window",
    "parse",
    "mask",
    "hash",
    "enrich",
    "geo",
    "schema",
    "sql",
    "wasm",
];

/// The deepest nesting of `all`, `any` and `not`.
const MAX_NESTING: usize = 16;

/// All rules that stand before the ring, and all by name for the sinks.
pub fn rules(root: &Reader<'_>) -> (Vec<RuleConfig>, BTreeMap<Name, Rule>) {
    let (mut rules, mut named) = (Vec::new(), BTreeMap::new());
    let mut modules = wasm::Modules::new();
    for r in root.tables("rules", MAX_RULES) {
        let Some(rule) = rule(&r, &mut modules) else { continue };
        if named.insert(rule.name.clone(), rule.rule.clone()).is_some() {
            r.wrong("name", format!("there are two rules named `{}`", rule.name));
        }
        rules.push(rule);
    }
    (rules, named)
}

fn rule(r: &Reader<'_>, modules: &mut wasm::Modules) -> Option<RuleConfig> {
    let name = r.need_text("name", "name", Name::new);
    let topics = topic_set(r, false);
    if topics.include.iter().any(|topic| topic == DEAD_LETTERS_TOPIC) {
        let text = "no rule runs over dead letters: a rule that failed on one would make another; give a sink its rule, or \
                    read them with `headwater tail headwater-dead-letters`";
        r.wrong("topics", text);
    }
    let into = r.opt_text("into", "topic", writable_topic);
    let uses = r.need_text("uses", "rule", |s| match USES.contains(&s) || hub::is_bundled(s) {
        true => Ok(s.to_owned()),
        false => Err(unknown(s)),
    });
    let on_error = r.choice(
        "on_error",
        &[
            ("pass", OnError::Pass),
            ("drop", OnError::Drop),
            ("dead-letter", OnError::DeadLetter),
            ("stop", OnError::Stop),
        ],
    );
    // What cannot be masked must not go on unmasked because nobody said so, nor what comes late among the windows.
    let hides = !r.has("on_error") && matches!(uses.as_deref(), Some("mask" | "hash" | "window"));
    let on_error = if hides { OnError::Drop } else { on_error };
    let look_back = look_back(r, uses.as_deref());
    let with = r.inline("with");
    if into.is_some() && !r.has("topics") {
        r.wrong(
            "into",
            "`into` needs `topics`: a rule without them stands before sinks, which have topics of their own",
        );
    }
    let (Some(uses), Some(with)) = (uses.as_deref(), &with) else {
        if let Some(with) = with {
            with.forgive();
        }
        return None;
    };
    let spec = match uses {
        "filter" => condition(with, 0).map(RuleSpec::Filter),
        "drop-fields" => drop_fields(with),
        "keep-fields" => keep_fields(with),
        "rename" => rename(with),
        "add-fields" => add_fields(with),
        "sample" => sample(with),
        "route" => edge::route(with).map(RuleSpec::Route),
        "sql" => data::sql(with, &topics),
        "wasm" => modules.guest(with, look_back).map(|guest| RuleSpec::Wasm(Box::new(guest))),
        _ if hub::is_bundled(uses) => data::hub(uses, with),
        "parse" | "mask" | "hash" | "enrich" | "geo" | "schema" => data::rule(uses, with),
        _ => edge::stateful(uses, with),
    };
    // Of a module it is what is in the file that counts.
    let content = if let Some(RuleSpec::Wasm(guest)) = &spec { guest.digest() } else { "" };
    let definition = XxHash3_64::oneshot(format!("{uses} {}{content}", with.as_written()).as_bytes());
    let name = name?;
    let rule = Rule { on_error, definition, ..Rule::new(name.clone(), spec?) };
    Some(RuleConfig { name, topics, into, before_ring: r.has("topics"), rule })
}

/// Why there is no such rule, and which one may be meant.
fn unknown(uses: &str) -> String {
    if let Some(why) = hub::elsewhere(uses) {
        return why.to_string();
    }
    match nearest(hub::name_of(uses), USES.into_iter().chain(hub::NAMES)) {
        Some(near) => format!("unknown type `{uses}`; did you mean `{near}`?"),
        None => {
            format!(
                "unknown type `{uses}`; there are {}, and of the Fluvio Hub {}",
                USES.join(", "),
                hub::NAMES.join(", ")
            )
        }
    }
}

/// How far a SmartModule looks back, as in a connector's `transforms`.
fn look_back(r: &Reader<'_>, uses: Option<&str>) -> Option<LookBack> {
    let table = r.opt_inline("lookback")?;
    let last = table.int("last", 0, 0..=MAX_LOOK_BACK as u32);
    let age = table.opt_span("age", Span::from_secs(1)..=Span::from_secs(366 * 86_400));
    if table.has_strangers() {
        return None;
    }
    if last == 0 && age.is_none() {
        r.wrong("lookback", "how far? Write { last = 100 } (records), { age = \"1h\" } or both");
    }
    // Those of the hub that are bundled take it and have no use for it, as the originals.
    if uses.is_some_and(|uses| uses != "wasm" && !hub::is_bundled(uses)) {
        r.wrong(
            "lookback",
            "only a SmartModule looks back (`uses = \"wasm\"`); a rule keeps what it needs in the ring",
        );
    }
    Some(LookBack { last: u64::from(last), age: age.map(Span::to_std) })
}

/// `topics` and `exclude`.
pub fn topic_set(r: &Reader<'_>, required: bool) -> TopicSet {
    let pattern = |text: &str, _| topic_pattern(text);
    TopicSet {
        include: match required {
            true => r.need_list("topics", "list of topics", pattern),
            false => r.list("topics", "list of topics", pattern),
        },
        exclude: r.list("exclude", "list of topics", |text, _| topic_pattern(text)),
    }
}

/// A topic's name, in which `*` stands for any run of characters.
fn topic_pattern(text: &str) -> Result<String, String> {
    if let Some(found) = text.chars().find(|c| "+#".contains(*c)) {
        return Err(format!("`{found}` is MQTT; topics use `*`"));
    }
    // With the stars put in as letters it must be a name (which may end in what a star stands for).
    match TopicName::new(&text.replace('*', "a")) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) if text.chars().any(|c| c.is_ascii_uppercase()) => {
            let lower = text.to_ascii_lowercase();
            Err(format!("topic `{text}` has upper-case letters; Fluvio's are lower-case: write `{lower}`"))
        }
        Err(_) => Err(format!("`{text}` is not a topic: use lower-case letters, digits, hyphens and `*`")),
    }
}

/// Everything that one table says must hold.
fn condition(r: &Reader<'_>, depth: usize) -> Option<Condition> {
    if depth > MAX_NESTING {
        r.error(r.at(), "", format!("conditions are nested more than {MAX_NESTING} deep"));
        r.forgive();
        return None;
    }
    let mut all = Vec::new();
    let errors = r.scope.report.errors.borrow().len();
    match r.opt_text("field", "field", Path::parse) {
        Some(field) => all.extend(tests(r).into_iter().map(|test| negatable(&field, test))),
        None if r.has("field") => {
            r.forgive();
            return None;
        }
        None => {
            let needles = r.list("contains", "text", |text, _| needle(text));
            all.extend(any_of(needles.into_iter().map(Condition::Contains).collect()));
            all.extend(r.opt_text("regex", "regex", pattern).map(Condition::Regex));
            for key in FIELD_TESTS.iter().filter(|key| r.has(key)) {
                r.wrong(key, format!("`{key}` looks at a JSON field: say which with `field`"));
                r.forgive();
            }
        }
    }
    for (key, join) in [("all", Condition::All as fn(Vec<_>) -> _), ("any", Condition::Any)] {
        let parts: Vec<_> = r.tables(key, 64).iter().filter_map(|inner| condition(inner, depth + 1)).collect();
        if !parts.is_empty() {
            all.push(join(parts));
        } else if r.has(key) && r.scope.report.errors.borrow().len() == errors {
            r.wrong(key, format!("`{key}` needs a list of conditions"));
        }
    }
    if let Some(inner) = r.opt_section("not") {
        all.push(Condition::Not(Box::new(condition(&inner, depth + 1)?)));
    }
    if all.is_empty() && r.scope.report.errors.borrow().len() == errors && !r.has_strangers() {
        let message = "no condition: write `contains`, `regex`, `field` with a comparison, `all`, `any` or `not`";
        r.error(r.at(), "", message);
    }
    if all.len() > 1 { Some(Condition::All(all)) } else { all.pop() }
}

/// Keys that only make sense with `field`.
const FIELD_TESTS: [&str; 7] = ["exists", "equals", "not_equals", "above", "at_least", "below", "at_most"];

/// A test, or that it does not hold.
enum Asked {
    Any(Vec<Test>),
    None(Test),
}

fn negatable(field: &Path, asked: Asked) -> Condition {
    let condition = |test| Condition::Field(field.clone(), test);
    match asked {
        Asked::Any(mut tests) if tests.len() == 1 => condition(tests.remove(0)),
        Asked::Any(tests) => Condition::Any(tests.into_iter().map(condition).collect()),
        Asked::None(test) => Condition::Not(Box::new(condition(test))),
    }
}

fn tests(r: &Reader<'_>) -> Vec<Asked> {
    let mut asked = Vec::new();
    if r.has("exists") {
        asked.push(if r.flag("exists", true) { Asked::Any(vec![Test::Exists]) } else { Asked::None(Test::Exists) });
    } else {
        r.flag("exists", true);
    }
    let some = |tests: Vec<Test>| (!tests.is_empty()).then_some(Asked::Any(tests));
    asked.extend(some(r.values("equals", scalar).into_iter().map(Test::Equals).collect()));
    asked.extend(r.value("not_equals", scalar).map(|v| Asked::Any(vec![Test::NotEquals(v)])));
    type Order = (&'static str, fn(Number) -> Test);
    let orders: [Order; 4] =
        [("above", Test::Above), ("at_least", Test::AtLeast), ("below", Test::Below), ("at_most", Test::AtMost)];
    for (key, test) in orders {
        asked.extend(r.value(key, number).map(|n| Asked::Any(vec![test(n)])));
    }
    asked.extend(some(r.list("contains", "text", |t, _| needle(t)).into_iter().map(Test::Contains).collect()));
    asked.extend(r.opt_text("regex", "regex", pattern).map(|p| Asked::Any(vec![Test::Regex(p)])));
    if asked.is_empty() {
        r.wrong("field", "what about it? Add `exists`, `equals`, `above`, `contains`, ...");
    }
    asked
}

fn any_of(mut conditions: Vec<Condition>) -> Option<Condition> {
    if conditions.len() > 1 { Some(Condition::Any(conditions)) } else { conditions.pop() }
}

fn needle(text: &str) -> Result<Needle, String> {
    if text.is_empty() { Err("every value contains the empty text".into()) } else { Ok(Needle::new(text.as_bytes())) }
}

fn pattern(text: &str) -> Result<Pattern, String> {
    Pattern::new(text).map_err(|e| match e {
        regex::Error::CompiledTooBig(_) => format!("`{text}` takes too much memory; use a simpler expression"),
        // The parser draws a picture of several lines; its last one says it.
        e => format!("`{text}`: {}", e.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ")),
    })
}

fn number(node: &Node) -> Result<Number, String> {
    match node.value {
        Raw::Int(n) => Ok(Number::Int(n)),
        Raw::Float(f) if f.is_finite() => Ok(Number::Float(f)),
        _ => Err(expected("a number", node)),
    }
}

fn scalar(node: &Node) -> Result<Scalar, String> {
    match &node.value {
        Raw::Text(text) => Ok(Scalar::Text(text.clone())),
        Raw::Flag(b) => Ok(Scalar::Bool(*b)),
        _ => number(node).map(Scalar::Number).map_err(|_| expected("a text, a number, true or false", node)),
    }
}

fn field_list(with: &Reader<'_>) -> Vec<Path> {
    with.need_list("fields", "list of fields", |text, _| Path::parse(text))
}

fn fail<T>(with: &Reader<'_>, made: Result<T, crate::rules::rewrite::PlanError>) -> Option<T> {
    made.map_err(|e| with.wrong("fields", e.to_string())).ok()
}

fn drop_fields(with: &Reader<'_>) -> Option<RuleSpec> {
    let fields = field_list(with);
    if fields.is_empty() { None } else { fail(with, DropFields::new(fields)).map(RuleSpec::DropFields) }
}

fn keep_fields(with: &Reader<'_>) -> Option<RuleSpec> {
    let fields = field_list(with);
    if fields.is_empty() { None } else { fail(with, KeepFields::new(fields)).map(RuleSpec::KeepFields) }
}

/// The entries of `fields`, each with its key as a path.
fn field_table<'a>(with: &Reader<'a>, example: &str) -> Vec<(Path, &'a Entry)> {
    let entries = with.entries("fields");
    if entries.is_empty() {
        with.wrong("fields", format!("write fields = {{ {example} }}"));
    }
    let path = |entry: &'a Entry| match Path::parse(&entry.key) {
        Ok(path) => Some((path, entry)),
        Err(e) => {
            with.error(entry.at, "fields", e.to_string());
            None
        }
    };
    entries.iter().filter_map(path).collect()
}

fn rename(with: &Reader<'_>) -> Option<RuleSpec> {
    let name = |(path, entry): (Path, &Entry)| match text_in(&entry.node) {
        Ok("") => {
            with.error(entry.at, "fields", "a field cannot be renamed to nothing; use drop-fields");
            None
        }
        Ok(to) => {
            if to.contains('.') {
                let text =
                    format!("`{to}` is a name with a dot in it and no path: a field stays in the object that it is in");
                with.warn("fields", text);
            }
            Some((path, to.to_owned()))
        }
        Err(e) => {
            with.error(entry.at, "fields", e);
            None
        }
    };
    let fields: Vec<_> = field_table(with, "old = \"new\"").into_iter().filter_map(name).collect();
    if fields.is_empty() { None } else { fail(with, Rename::new(fields)).map(RuleSpec::Rename) }
}

fn add_fields(with: &Reader<'_>) -> Option<RuleSpec> {
    let value = |(path, entry): (Path, &Entry)| match field_value(&entry.node) {
        Ok(value) => Some((path, value)),
        Err(e) => {
            with.error(entry.node.at, "fields", e);
            None
        }
    };
    let fields: Vec<_> = field_table(with, "site = \"{node}\"").into_iter().filter_map(value).collect();
    if fields.is_empty() { None } else { fail(with, AddFields::new(fields)).map(RuleSpec::AddFields) }
}

fn field_value(node: &Node) -> Result<FieldValue, String> {
    match &node.value {
        Raw::Text(text) => Template::parse(text).map(FieldValue::Template).map_err(|e| e.to_string()),
        Raw::Int(n) => Ok(FieldValue::Json(n.to_string())),
        Raw::Float(f) if f.is_finite() => Ok(FieldValue::Json(format!("{f:?}"))),
        Raw::Flag(b) => Ok(FieldValue::Json(b.to_string())),
        _ => Err(expected("a text, a number, true or false", node)),
    }
}

fn sample(with: &Reader<'_>) -> Option<RuleSpec> {
    let every = with.need_int("every", 1..=u32::MAX);
    let by = with.opt_text("by", "template", Template::parse);
    Some(RuleSpec::Sample(Sample { every: every?, by }))
}

/// Values that are not texts.
impl<'a> Reader<'a> {
    fn value<T>(&self, key: &'static str, parse: fn(&Node) -> Result<T, String>) -> Option<T> {
        self.get(key, "value", None, parse)
    }

    /// A value, or a list of them.
    fn values<T>(&self, key: &'static str, parse: fn(&Node) -> Result<T, String>) -> Vec<T> {
        let all = |node: &Node| match &node.value {
            Raw::List(nodes) => nodes.iter().map(parse).collect(),
            _ => Ok(vec![parse(node)?]),
        };
        self.get(key, "value", None, all).unwrap_or_default()
    }
}
