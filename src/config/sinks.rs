//! `[sinks.NAME]`: what every sink has, then one function per type.

use std::collections::BTreeMap;

use super::model::*;
use super::order;
use super::parts::host_port;
use super::raw::{Node, Raw};
use super::reader::{Reader, name_of};
use super::rules::topic_set;
use super::sources::{unknown_type, value_mode};
use super::tls::tls;
use super::values::int_of;
use crate::limits::{MAX_SINKS, MAX_WIRE_FRAME};
use crate::name::{Name, nearest};
use crate::rules::{OnError, Rule, RuleSpec};
use crate::template::Template;
use crate::time::Span;

const TYPES: [&str; 3] = ["fluvio", "stdout", "file"];
/// Sinks that come with later versions.
const LATER: [&str; 4] = ["mqtt", "http", "syslog", "kafka"];
/// The node's own topics that go to every Fluvio sink unless excluded.
const OWN_TOPICS: [&str; 3] = ["headwater-status", "headwater-gaps", "headwater-alarms"];

pub fn sinks(root: &Reader<'_>, rules: &BTreeMap<Name, Rule>, lanes: &[LaneConfig]) -> Vec<SinkConfig> {
    root.named("sinks", MAX_SINKS).into_iter().filter_map(|(name, r)| sink(name, &r, rules, lanes)).collect()
}

fn sink(name: &str, r: &Reader<'_>, rules: &BTreeMap<Name, Rule>, lanes: &[LaneConfig]) -> Option<SinkConfig> {
    let name = name_of(name, r);
    let kind = r.need_text("type", "sink type", |s| match TYPES.iter().find(|t| **t == s) {
        Some(kind) => Ok(*kind),
        None => Err(unknown_type(s, &TYPES, &LATER)),
    });
    let mut topics = topic_set(r, true);
    let rules = r.list("rules", "list of rules", |text, _| pure_rule(text, rules));
    let value = value_mode(r);
    let Some(kind) = kind else {
        r.forgive();
        return None;
    };
    let kind = match kind {
        "fluvio" => {
            topics.include.extend(OWN_TOPICS.map(String::from));
            fluvio(r, value, lanes).map(SinkKind::Fluvio)
        }
        "file" => file(r).map(SinkKind::File),
        _ => Some(SinkKind::Stdout),
    };
    Some(SinkConfig { name: name?, topics, rules, value, kind: kind? })
}

fn pure_rule(text: &str, rules: &BTreeMap<Name, Rule>) -> Result<Rule, String> {
    let name = Name::new(text).map_err(|e| e.to_string())?;
    match rules.get(&name) {
        Some(Rule { spec: RuleSpec::Wasm(guest), .. }) if !guest.is_pure() => Err(format!(
            "rule `{name}` may keep something between records, and a sink sees some of them twice; give it `topics` to stand before \
             the ring, or write `pure = true` if its module makes the same of the same record, whatever it has seen before"
        )),
        Some(rule) if !rule.spec.is_pure() => Err(format!(
            "rule `{name}` depends on more than the record, and a sink sees some of them twice; give it `topics` to stand before the ring"
        )),
        Some(rule) if matches!(rule.on_error, OnError::DeadLetter | OnError::Stop) => Err(format!(
            "rule `{name}` cannot have on_error = \"dead-letter\" or \"stop\" before a sink; write pass or drop"
        )),
        Some(rule) => Ok(rule.clone()),
        None => Err(match nearest(text, rules.keys().map(Name::as_str)) {
            Some(near) => format!("there is no rule `{text}`; did you mean `{near}`?"),
            None => format!("there is no rule `{text}`"),
        }),
    }
}

fn fluvio(r: &Reader<'_>, value: ValueMode, lanes: &[LaneConfig]) -> Option<FluvioSink> {
    let link = r.opt_text("link", "link", Name::new);
    let endpoint = r.need_list("endpoint", "list of HOST:PORT", |text, _| host_port(text, Some(9003)));
    let tls = tls(r);
    let spu_address = spu_address(r);
    let upstream_topic = r.text("upstream_topic", "template", "{topic}", upstream_template);
    let upstream_key = r.opt_text("upstream_key", "template", upstream_template);
    let second = Span::from_secs(1);
    let newest_first = r.choice("order", &[("oldest-first", false), ("newest-first", true)]);
    let sink = FluvioSink {
        link,
        endpoint,
        tls,
        spu_address,
        upstream_key,
        compression: r.choice("compression", &COMPRESSIONS),
        partition: partition(r),
        new_topics: new_topics(r),
        acks_leader: r.choice("acks", &[("all", false), ("leader", true)]),
        max_batch: r.memory("max_batch", 512 * 1024, 4096..=MAX_WIRE_FRAME / 2),
        connect_timeout: r.span("connect_timeout", Span::from_secs(10), second..=Span::from_secs(300)),
        request_timeout: r.span("request_timeout", Span::from_secs(20), second..=Span::from_secs(600)),
        retry: (
            r.span("retry_min", second, Span::from_millis(100)..=Span::from_secs(3600)),
            r.span("retry_max", Span::from_secs(60), second..=Span::from_secs(86_400)),
        ),
        markers_only: r.choice("resume", &[("auto", false), ("markers", true)]),
        search_max: r.memory("search_max", 64 * 1024, 1024..=1 << 30),
        resend_on_loss: r.choice("on_upstream_loss", &[("resend", true), ("continue", false)]),
        only_writer: r.flag("only_writer", false),
        newest_first,
        live_share: order::live_share(r, newest_first),
        lane_weights: order::lane_weights(r, lanes),
        mark_backlog: order::mark_backlog(r, value),
        freshness_alarm: order::freshness_alarm(r),
        grace: r.span("grace", Span::from_secs(2), Span::from_millis(0)..=Span::from_secs(60)),
        upstream_topic: upstream_topic?,
    };
    if sink.retry.0 > sink.retry.1 {
        r.wrong("retry_min", "`retry_min` is longer than `retry_max`");
    }
    contradictions(r, &sink);
    Some(sink)
}

/// Settings that are good, and not beside one another.
fn contradictions(r: &Reader<'_>, sink: &FluvioSink) {
    for (at, address) in sink.endpoint.iter().enumerate() {
        if sink.endpoint[..at].contains(address) {
            r.warn("endpoint", format!("`{address}` is there twice: it would be tried twice in a row"));
        }
    }
    let NewTopics { create, partitions, compression, .. } = sink.new_topics;
    if !create {
        let keys = ["partitions", "replicas", "retention", "retention_size", "topic_compression"];
        for key in keys.into_iter().filter(|key| r.has(key)) {
            r.warn(key, "it has no effect with create_topics = false: it is for topics that the sink makes");
        }
        return r.idle_are(&keys);
    }
    match sink.partition {
        PartitionChoice::Number(partition) if r.has("partitions") && partition >= partitions => {
            let message = format!(
                "partition = {partition} is none of the {partitions} of a topic that it makes, which count from 0; write {} \
                 or more",
                partition + 1
            );
            r.wrong("partitions", message);
        }
        // As many as that needs.
        PartitionChoice::Number(1..) => r.idle_are(&["partitions"]),
        _ => {}
    }
    match compression {
        Some(of_topic) if r.has("compression") && of_topic != sink.compression => {
            r.warn(
                "compression",
                "topics that it makes take `topic_compression` only, and the topic's wins; leave one out",
            );
        }
        Some(_) => r.idle_are(&["compression"]),
        None => {}
    }
}

const COMPRESSIONS: [(&str, Compression); 5] = [
    ("zstd", Compression::Zstd),
    ("none", Compression::None),
    ("gzip", Compression::Gzip),
    ("snappy", Compression::Snappy),
    ("lz4", Compression::Lz4),
];

/// Partitions of an upstream topic.
const MAX_PARTITIONS: u32 = 256;

fn partition(r: &Reader<'_>) -> PartitionChoice {
    let kind = "\"by-key\", \"per-node\" or a number";
    let parse = |node: &Node| match &node.value {
        Raw::Int(_) => int_of(node, &(0..=MAX_PARTITIONS - 1)).map(PartitionChoice::Number),
        Raw::Text(text) if text == "by-key" => Ok(PartitionChoice::ByKey),
        Raw::Text(text) if text == "per-node" => Ok(PartitionChoice::PerNode),
        _ => Err(format!("expected {kind}, not {}", node.inline())),
    };
    r.get("partition", kind, Some("\"by-key\"".into()), parse).unwrap_or(PartitionChoice::ByKey)
}

fn new_topics(r: &Reader<'_>) -> NewTopics {
    let any = [("any", None)].into_iter().chain(COMPRESSIONS.map(|(word, compression)| (word, Some(compression))));
    NewTopics {
        create: r.flag("create_topics", true),
        partitions: r.int("partitions", 1, 1..=MAX_PARTITIONS),
        replicas: r.int("replicas", 1, 1..=32),
        // What a cluster takes at least.
        retention: r.opt_span("retention", Span::from_secs(10)..=Span::from_secs(100 * 365 * 86_400)),
        retention_size: r.opt_size("retention_size", 64 << 10..=1 << 50),
        compression: r.choice("topic_compression", &any.collect::<Vec<_>>()),
    }
}

fn upstream_template(text: &str) -> Result<Template, String> {
    let template = Template::parse(text).map_err(|e| e.to_string())?;
    if template.has_source() {
        return Err(
            "a sink does not know `{source}` any more; use `{topic}`, or put it into the record with add-fields".into(),
        );
    }
    Ok(template)
}

fn spu_address(r: &Reader<'_>) -> BTreeMap<i32, String> {
    let mut addresses = BTreeMap::new();
    for (id, address, at) in r.texts("spu_address") {
        match (id.parse::<i32>(), host_port(&address, None)) {
            (Ok(id), Ok(address)) => drop(addresses.insert(id, address)),
            (Err(_), _) => r.error(at, "spu_address", format!("`{id}` is not the number of an SPU, like \"5001\"")),
            (_, Err(e)) => r.error(at, "spu_address", e),
        }
    }
    addresses
}

fn file(r: &Reader<'_>) -> Option<FileSink> {
    let path = r.need_path("path");
    Some(FileSink {
        rotate_bytes: r.size("rotate_bytes", 16 << 20, 4096..=1 << 40),
        keep: r.int("keep", 5, 0..=1000),
        path: path?,
    })
}
