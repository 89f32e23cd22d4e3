//! `with` of the rules that read, hide, add to and check what a record says. Their files are read with the configuration.

use super::Reader;
use crate::config::links::zone_file;
use crate::config::raw::{Entry, Node, Raw};
use crate::config::values::text_in;
use crate::json::Path;
use crate::rules::RuleSpec;
use crate::rules::enrich::Missing;
use crate::rules::enrich::geo::Geo;
use crate::rules::enrich::lookup::{Field, Lookup};
use crate::rules::enrich::mmdb::Database;
use crate::rules::enrich::table::Table;
use crate::rules::hash::{Encoding, HashError, Hashing, WHOLE};
use crate::rules::hub;
use crate::rules::mask::{Mask, Masking, Replace};
use crate::rules::parse::csv::Csv;
use crate::rules::parse::grok::Grok;
use crate::rules::parse::key_value::KeyValue;
use crate::rules::parse::members::{Type, Types};
use crate::rules::parse::nmea::Nmea;
use crate::rules::parse::{Format, Options, Parse};
use crate::rules::replace::Target;
use crate::rules::schema::{Misfit, Schema};
use crate::rules::sql::Query;
use crate::template::Template;
use crate::topic::{TopicName, TopicSet};

/// The largest file that a rule reads.
const MAX_FILE: u64 = 64 * 1024 * 1024;

pub fn rule(uses: &str, with: &Reader<'_>) -> Option<RuleSpec> {
    match uses {
        "parse" => parse(with).map(|rule| RuleSpec::Parse(Box::new(rule))),
        "mask" => mask(with).map(RuleSpec::Mask),
        "hash" => hash(with).map(RuleSpec::Hash),
        "enrich" => lookup(with).map(|rule| RuleSpec::Lookup(Box::new(rule))),
        "geo" => geo(with).map(|rule| RuleSpec::Geo(Box::new(rule))),
        _ => schema(with).map(RuleSpec::Schema),
    }
}

/// `query`, of the topic that it says it is from.
pub fn sql(with: &Reader<'_>, topics: &TopicSet) -> Option<RuleSpec> {
    let query = with.need_text("query", "SQL", |text| {
        Query::compile_with(text, &zone_file).map_err(|e| {
            let hint = e.hint.map_or_else(String::new, |hint| format!("; {hint}"));
            format!("line {} column {}: {}{hint}", e.line, e.column, e.message)
        })
    })?;
    let from = query.from();
    let mut others = topics.include.iter().filter(|topic| *topic != from);
    if !topics.include.is_empty() && TopicName::new(from).ok().is_none_or(|from| !topics.contains(&from)) {
        with.wrong("query", format!("it is FROM {from}, which is none of the rule's `topics`"));
    } else if let Some(other) = others.next() {
        // It would run over records of topics that it does not speak of.
        with.wrong(
            "query",
            format!(
                "it is FROM {from}, and `topics` has `{other}`: name exactly that topic, or write one rule for each"
            ),
        );
    }
    Some(RuleSpec::Sql(query))
}

/// A module of the Fluvio Hub; `with` is what a connector's `transforms` would have.
pub fn hub(uses: &str, with: &Reader<'_>) -> Option<RuleSpec> {
    let entries: Vec<_> = with.all().iter().map(|entry| (entry.key.clone(), json(&entry.node))).collect();
    match hub::from_transform(uses, &entries) {
        Ok(module) => Some(RuleSpec::Hub(Box::new(module))),
        Err(error) => {
            with.error(with.at(), "", error.to_string());
            None
        }
    }
}

pub(super) fn json(node: &Node) -> serde_json::Value {
    match &node.value {
        Raw::Text(text) | Raw::Time(text) => text.as_str().into(),
        Raw::Int(int) => serde_json::from_str(&int.to_string()).unwrap_or_default(),
        Raw::Float(float) => (*float).into(),
        Raw::Flag(flag) => (*flag).into(),
        Raw::List(nodes) => nodes.iter().map(json).collect(),
        Raw::Table(table) => table
            .entries
            .iter()
            .map(|entry| (entry.key.clone(), json(&entry.node)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
    }
}

/// Says what is wrong with a key's value.
fn said<T, E: std::fmt::Display>(with: &Reader<'_>, key: &str, made: Result<T, E>) -> Option<T> {
    made.map_err(|e| with.wrong(key, e.to_string())).ok()
}

/// The bytes of a file that a key names.
pub(super) fn file(with: &Reader<'_>, key: &'static str) -> Option<Vec<u8>> {
    let path = with.need_path(key)?;
    let read = std::fs::metadata(&path).and_then(|meta| match meta.len() {
        0..=MAX_FILE => std::fs::read(&path),
        _ => Err(std::io::Error::other("it is larger than 64 MiB")),
    });
    read.map_err(|e| with.wrong(key, format!("{}: {e}", path.display()))).ok()
}

/// One character of ASCII.
fn byte(with: &Reader<'_>, key: &'static str, default: &str) -> Option<u8> {
    with.text(key, "character", default, |text| match text.as_bytes() {
        [byte] => Ok(*byte),
        _ => Err(format!("`{text}`: write one character")),
    })
}

fn parse(with: &Reader<'_>) -> Option<Parse> {
    const FORMATS: [&str; 8] = ["json", "key-value", "csv", "grok", "access-log", "syslog", "nmea", "influx"];
    let format = with.need_text("format", "format", |text| match FORMATS.iter().find(|format| **format == text) {
        Some(format) => Ok(*format),
        None => Err(format!("`{text}`: use one of {}", FORMATS.join(", "))),
    });
    let (field, into) = (with.opt_text("field", "field", Path::parse), with.opt_text("into", "field", Path::parse));
    let keep = with.opt_text("keep", "text", as_it_is);
    let types = types(with);
    let Some(format) = format else {
        with.forgive();
        return None;
    };
    let format = match format {
        "key-value" => Format::KeyValue(KeyValue {
            equals: byte(with, "equals", "=")?,
            between: byte(with, "between", " ")?,
            flags: with.flag("flags", false),
        }),
        "csv" => Format::Csv(Csv {
            columns: with.need_list("columns", "list of names", |text, _| as_it_is(text)),
            delimiter: byte(with, "delimiter", ",")?,
            drop_header: with.flag("drop_header", false),
        }),
        "grok" => {
            let texts = with.need_list("patterns", "list of patterns", |text, _| as_it_is(text));
            let own: Vec<_> =
                named_texts(with, "own").into_iter().map(|(entry, text)| (entry.key.clone(), text)).collect();
            Format::Grok(said(with, "patterns", Grok::new(&texts, &own))?)
        }
        "nmea" => Format::Nmea(Nmea { without_checksum: with.flag("without_checksum", false) }),
        "json" => Format::Json,
        "access-log" => Format::Access,
        "syslog" => Format::Syslog,
        _ => Format::Influx,
    };
    said(with, "format", Parse::new(Options { format, field, into, keep, types }))
}

/// `types = { bytes = "int" }`, `others = "auto"`, `missing = ["-"]`.
fn types(with: &Reader<'_>) -> Types {
    let columns = column_types(with);
    let others = with.text("others", "type", "text", type_of).unwrap_or_default();
    let missing = with.list("missing", "list of texts", |text, _| as_it_is(text));
    Types { columns, others, missing }
}

fn column_types(with: &Reader<'_>) -> Vec<(String, Type)> {
    let column = |(entry, text): (&Entry, String)| {
        let kind = type_of(&text).map_err(|why| with.error(entry.at, "types", why)).ok()?;
        Some((entry.key.clone(), kind))
    };
    named_texts(with, "types").into_iter().filter_map(column).collect()
}

fn type_of(text: &str) -> Result<Type, String> {
    Type::parse(text).ok_or_else(|| format!("`{text}`: use one of text, int, float, bool, auto"))
}

/// Any text.
fn as_it_is(text: &str) -> Result<String, String> {
    Ok(text.to_owned())
}

/// The texts of a table.
fn named_texts<'a>(with: &Reader<'a>, key: &'static str) -> Vec<(&'a Entry, String)> {
    let text = |entry: &'a Entry| match text_in(&entry.node) {
        Ok(text) => Some((entry, text.to_owned())),
        Err(why) => {
            with.error(entry.at, key, why);
            None
        }
    };
    with.entries(key).iter().filter_map(text).collect()
}

fn target(with: &Reader<'_>) -> Option<Target> {
    let fields = with.list("fields", "list of fields", |text, _| Path::parse(text));
    let (key, value) = (with.flag("key", false), with.flag("value", false));
    said(with, "fields", Target::new(&fields, key, value))
}

fn mask(with: &Reader<'_>) -> Option<Masking> {
    let target = target(with);
    let keep_last = with.has("keep_last").then(|| with.int("keep_last", 4, 0..=64));
    let text = with.opt_text("text", "text", as_it_is);
    let kind = with.opt_text("as", "\"email\" or \"ip\"", |text| match text {
        "email" => Ok(Mask::Email),
        "ip" => Ok(Mask::IP),
        _ => Err(format!("`{text}`: use email or ip")),
    });
    let (pattern, replacement) = (with.opt_text("pattern", "regex", as_it_is), with.opt_text("with", "text", as_it_is));
    let replace = match (&pattern, &replacement) {
        (Some(pattern), Some(to)) => Some(Mask::Replace(said(with, "pattern", Replace::new(pattern, to))?)),
        (None, None) => None,
        _ => {
            with.wrong("pattern", "`pattern` and `with` go together: what is replaced, and by what");
            return None;
        }
    };
    let ways: Vec<Mask> = [keep_last.map(|n| Mask::KeepLast(n as usize)), text.map(Mask::Text), kind, replace]
        .into_iter()
        .flatten()
        .collect();
    let [way] = <[Mask; 1]>::try_from(ways)
        .map_err(|_| {
            with.error(
                with.at(),
                "",
                "how? Write one of keep_last = 4, text = \"...\", as = \"email\" or \"ip\", or pattern with `with`",
            )
        })
        .ok()?;
    said(with, "keep_last", Masking::new(target?, way))
}

fn hash(with: &Reader<'_>) -> Option<Hashing> {
    let target = target(with);
    let secret = with.secret("secret").map(|secret| secret.0.into_bytes());
    let length = with.int("length", WHOLE as u32, 1..=WHOLE as u32);
    let encoding = with.choice("encoding", &[("hex", Encoding::Hex), ("base64", Encoding::Base64)]);
    let made = Hashing::new(target?, secret, length as usize, encoding);
    let key = if let Err(HashError::Secret(_)) = &made { "secret" } else { "length" };
    said(with, key, made)
}

fn missing(with: &Reader<'_>) -> Missing {
    with.choice("missing", &[("pass", Missing::Pass), ("drop", Missing::Drop), ("fail", Missing::Fail)])
}

/// `fields = { site = "building" }`: the column, and the field that it is put in.
fn additions(with: &Reader<'_>) -> Vec<(String, Path)> {
    let fields = named_texts(with, "fields");
    if fields.is_empty() {
        with.wrong("fields", "which? Write fields = { column = \"field\" }");
    }
    let path = |(entry, text): (&Entry, String)| match Path::parse(&text) {
        Ok(path) => Some((entry.key.clone(), path)),
        Err(e) => {
            with.error(entry.at, "fields", e.to_string());
            None
        }
    };
    fields.into_iter().filter_map(path).collect()
}

fn lookup(with: &Reader<'_>) -> Option<Lookup> {
    let by = with.need_text("by", "template", Template::parse);
    let bytes = file(with, "file");
    let key = with.need_text("key", "column", as_it_is);
    let (delimiter, missing, additions) = (byte(with, "delimiter", ","), missing(with), additions(with));
    let defaults = with.entries("defaults");
    let types = Types { columns: column_types(with), others: Type::Auto, ..Types::default() };
    for entry in defaults.iter().filter(|entry| !additions.iter().any(|(column, _)| *column == entry.key)) {
        with.error(entry.at, "defaults", format!("`{}` is none of `fields`", entry.key));
    }
    let (bytes, key) = (bytes?, key?);
    let columns: Vec<String> = additions.iter().map(|(column, _)| column.clone()).collect();
    let is_json = bytes.trim_ascii_start().first().is_some_and(|first| matches!(first, b'{' | b'['));
    let table = if is_json {
        Table::json(&bytes, &key, &columns)
    } else {
        Table::csv(&bytes, delimiter?, &key, &columns, &types)
    };
    let table = said(with, "file", table)?;
    let default = |column: &str| {
        defaults.iter().find(|entry| entry.key == column).map(|entry| match &entry.node.value {
            Raw::Text(text) => serde_json::Value::from(text.as_str()).to_string(),
            _ => entry.node.inline(),
        })
    };
    let fields: Vec<Field> =
        additions.into_iter().map(|(column, to)| Field { default: default(&column), column, to }).collect();
    said(with, "fields", Lookup::new(by?, table, &fields, missing))
}

fn geo(with: &Reader<'_>) -> Option<Geo> {
    let by = with.need_text("by", "template", Template::parse);
    let bytes = file(with, "database");
    let language = with.text("language", "language", "en", as_it_is)?;
    let (missing, fields) = (missing(with), additions(with));
    let database = said(with, "database", Database::open(bytes?.into()))?;
    said(with, "fields", Geo::new(by?, database, &fields, &language, missing))
}

fn schema(with: &Reader<'_>) -> Option<Schema> {
    let text = file(with, "file");
    let misfit = with.choice("misfit", &[("fail", Misfit::Fail), ("drop", Misfit::Drop)]);
    said(with, "file", Schema::new(&text?, misfit))
}
