//! What only the whole config shows: places that are used twice, loops, labels and topics that nobody has.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::ConfigError;
use super::model::*;
use super::own_output::{self, Written};
use super::raw::At;
use super::reader::Scope;
use crate::limits::MAX_TOPIC_NAME;
use crate::name::{Name, nearest};
use crate::rules::{Rule, RuleSpec};
use crate::template::{Context, Template};
use crate::topic::{OWN_TOPICS, TopicName, TopicNameError, TopicSet};

/// Room in an upstream topic's name that is hardly enough for what a record says.
const LITTLE_ROOM: usize = 8;

/// Where a key was written, as far as the settings know it.
struct Places<'a>(&'a Scope<'a>);

impl Places<'_> {
    fn of(&self, header: &str, key: &str) -> At {
        let settings = self.0.settings.borrow();
        let exact = settings.iter().find(|s| s.header == header && s.key == key && s.at.is_some());
        let within = || settings.iter().find(|s| s.header.starts_with(header) && s.at.is_some());
        exact.or_else(within).and_then(|s| s.at).unwrap_or_default()
    }

    fn error(&self, header: &str, key: &str, message: String) {
        self.0.report.error(self.of(header, key), &format!("{header}.{key}"), message);
    }

    fn warn(&self, header: &str, key: &str, message: String) {
        self.0.report.warn(self.of(header, key), &format!("{header}.{key}"), message);
    }
}

pub fn check(config: &Config, scope: &Scope<'_>) {
    let places = Places(scope);
    own_output(config, &places);
    own_endpoint(config, &places);
    links(config, &places);
    listeners(config, &places);
    same_client(config, &places);
    rule_loops(config, scope);
    sink_queries(config, &places);
    templates(config, &places, scope);
    upstream_names(config, &places);
    pausing(config, &places);
    topics_nobody_has(config, &places, scope);
    rules_nobody_uses(config, scope);
    if !scope.report.errors.borrow().is_empty() {
        return;
    }
    if config.sources.is_empty() && config.endpoint.is_none() {
        scope.report.warn(
            At::default(),
            "",
            "no sources and no [endpoint]: nothing but `headwater send` brings records in",
        );
    }
    if config.sinks.is_empty() {
        scope.report.warn(At::default(), "", "no sinks: records stay here until the ring reuses their place");
    }
}

/// A file source must not read what the node itself writes, and two sinks not write one file.
fn own_output(config: &Config, places: &Places<'_>) {
    let data = ["root", "slot-0000", "control.sock", "x"].map(|f| config.node.data_dir.join(f));
    let mut written: Vec<Written> =
        data.map(|path| Written { path, what: "the data directory".to_owned() }).into_iter().collect();
    let mut paths: BTreeMap<&Path, &SinkConfig> = BTreeMap::new();
    for sink in &config.sinks {
        let SinkKind::File(file) = &sink.kind else { continue };
        let rotated = |suffix| PathBuf::from(format!("{}{suffix}", file.path.display()));
        let what = || format!("what sink `{}` writes", sink.name);
        written.extend([rotated(""), rotated(".1")].map(|path| Written { path, what: what() }));
        if let Some(other) = paths.insert(&file.path, sink) {
            let header = format!("sinks.{}", sink.name);
            places.error(&header, "path", format!("sink `{}` writes to the same file", other.name));
        }
    }
    for source in &config.sources {
        let SourceKind::File(file) = &source.kind else { continue };
        if let Some(Written { path, what }) = own_output::read_by(file, &written) {
            let message = format!("it would read {what} ({}); add it to `exclude`", path.display());
            places.error(&format!("sources.{}", source.name), "paths", message);
        }
    }
}

/// A topic whose sources wait: somebody must make room, and waiting must not only lose the records elsewhere.
fn pausing(config: &Config, places: &Places<'_>) {
    let pauses = |topic: &TopicName| config.topics.get(topic).is_some_and(|t| t.pause);
    let udp = |listen: &[Listen]| listen.iter().any(|l| matches!(l, Listen::Udp(_)));
    for topic in config.topics.keys().filter(|topic| pauses(topic)) {
        if !config.sinks.iter().any(|sink| sink.topics.contains(topic)) {
            let text =
                "no sink takes this topic: once the ring is full, nothing makes room and its sources wait for ever";
            places.warn(&format!("topics.{topic}"), "on_full", text.to_owned());
        }
    }
    for rule in config.rules.iter().filter(|rule| rule.into.as_ref().is_some_and(pauses)) {
        let (name, into) = (&rule.name, rule.into.as_ref().map_or("", TopicName::as_str));
        let text =
            format!("rule `{name}` writes to it, and nobody waits for that: pause the topics that the rule reads");
        places.warn(&format!("topics.{into}"), "on_full", text);
    }
    for source in &config.sources {
        let lost = match &source.kind {
            SourceKind::Syslog(s) if udp(&s.listen) && pauses(&s.topic) => Some((&s.topic, "UDP senders do not wait")),
            SourceKind::Socket(s) if udp(&s.listen) && pauses(&s.topic) => Some((&s.topic, "UDP senders do not wait")),
            SourceKind::Mqtt(mqtt) => {
                let unsafe_one = mqtt.subscribe.iter().find(|s| s.qos == 0 && pauses(&s.topic));
                unsafe_one.map(|s| (&s.topic, "a broker does not keep messages of QoS 0"))
            }
            _ => None,
        };
        if let Some((topic, why)) = lost {
            let text = format!(
                "topic `{topic}` has on_full = \"pause\", and {why}: what comes meanwhile is lost before it is counted"
            );
            places.warn(&format!("sources.{}", source.name), "topic", text);
        }
    }
}

/// A sink's link must be there, and a link that no sink has does nothing.
fn links(config: &Config, places: &Places<'_>) {
    let mut used = Vec::new();
    for sink in &config.sinks {
        let SinkKind::Fluvio(FluvioSink { link: Some(link), .. }) = &sink.kind else { continue };
        if !config.links.iter().any(|known| known.name == *link) {
            let names = config.links.iter().map(|link| link.name.as_str());
            let message = match nearest(link.as_str(), names) {
                Some(near) => format!("there is no [links.{link}]; did you mean `{near}`?"),
                None => format!("there is no [links.{link}]"),
            };
            places.error(&format!("sinks.{}", sink.name), "link", message);
        }
        used.push(link);
    }
    for link in config.links.iter().filter(|link| !used.contains(&&link.name)) {
        let text = format!("no sink has `link = \"{}\"`: it does nothing", link.name);
        places.warn(&format!("links.{}", link.name), "", text);
    }
}

/// A sink must not send to the node's own endpoint, by either of its ports.
fn own_endpoint(config: &Config, places: &Places<'_>) {
    let Some(endpoint) = &config.endpoint else { return };
    let listens = [endpoint.sc_listen, endpoint.spu_listen];
    let own = |address: &str| super::parts::address(address).is_ok_and(|a| listens.iter().any(|l| reaches(a, *l)));
    for sink in &config.sinks {
        let SinkKind::Fluvio(fluvio) = &sink.kind else { continue };
        let sc = fluvio.endpoint.iter().map(|address| ("endpoint", address));
        let spus = fluvio.spu_address.values().map(|address| ("spu_address", address));
        if let Some((key, address)) = sc.chain(spus).find(|(_, address)| own(address)) {
            places.error(&format!("sinks.{}", sink.name), key, format!("{address} is this node's own endpoint"));
        }
    }
}

/// Whether connecting to `to` from this machine meets a listener at `listen`.
fn reaches(to: SocketAddr, listen: SocketAddr) -> bool {
    to.port() == listen.port() && (to.ip() == listen.ip() || (listen.ip().is_unspecified() && to.ip().is_loopback()))
}

/// Two listeners cannot have one address.
fn listeners(config: &Config, places: &Places<'_>) {
    let mut seen: Vec<(String, String, &str)> = Vec::new();
    let mut add = |address: String, header: String, key: &'static str| {
        if let Some((_, other, other_key)) = seen.iter().find(|(a, ..)| *a == address) {
            places.error(&header, key, format!("{address} is also the address of {other}.{other_key}"));
        }
        seen.push((address, header, key));
    };
    let endpoint = config.endpoint.iter().flat_map(|e| [("sc_listen", e.sc_listen), ("spu_listen", e.spu_listen)]);
    let listen = config.http.iter().map(|h| ("listen", h.listen));
    for (header, (key, address)) in endpoint.map(|l| ("endpoint", l)).chain(listen.map(|l| ("http", l))) {
        if address.port() != 0 {
            add(format!("tcp://{address}"), header.to_owned(), key);
        }
    }
    for source in &config.sources {
        let (SourceKind::Syslog(SyslogSource { listen, .. }) | SourceKind::Socket(SocketSource { listen, .. })) =
            &source.kind
        else {
            continue;
        };
        for listen in listen {
            let address = match listen {
                Listen::Udp(a) if a.port() != 0 => format!("udp://{a}"),
                Listen::Tcp(a) if a.port() != 0 => format!("tcp://{a}"),
                Listen::Unix(path) => format!("unix://{}", path.display()),
                Listen::Udp(_) | Listen::Tcp(_) => continue,
            };
            add(address, format!("sources.{}", source.name), "listen");
        }
    }
}

/// Two sources with one client id would take the broker's connection from each other for ever.
fn same_client(config: &Config, places: &Places<'_>) {
    let mut seen = BTreeMap::new();
    for source in &config.sources {
        let SourceKind::Mqtt(mqtt) = &source.kind else { continue };
        if let Some(other) = seen.insert((&mqtt.host, mqtt.port, &mqtt.client_id), &source.name) {
            let message = format!("source `{other}` has the same client id at this broker; each needs its own");
            places.error(&format!("sources.{}", source.name), "client_id", message);
        }
    }
}

/// What a rule makes must not come back to it.
fn rule_loops<'a>(config: &'a Config, scope: &Scope<'_>) {
    let ways = |rule: &'a RuleConfig| {
        let RuleConfig { into, rule: Rule { spec, .. }, .. } = rule;
        let (into, targets) = (into.iter().map(|to| ("into", to)), spec.targets().map(|to| ("with", to)));
        into.chain(targets).map(move |(key, to)| (rule, key, to))
    };
    let edges: Vec<(&RuleConfig, &str, &TopicName)> = config.rules.iter().flat_map(ways).collect();
    for (rule, key, into) in &edges {
        let mut reached = vec![*into];
        let mut next = 0;
        while let Some(topic) = reached.get(next).copied() {
            next += 1;
            for (other, _, to) in edges.iter().filter(|(other, ..)| other.topics.contains(topic)) {
                if other.name == rule.name {
                    let message =
                        format!("what it puts into `{into}` comes back to it; name `topics` that leave `{into}` out");
                    let place = rule_place(scope, rule, key);
                    return scope.report.error(place, &format!("rules.{}.{key}", rule.name), message);
                }
                if !reached.contains(to) {
                    reached.push(to);
                }
            }
        }
    }
}

/// A query before a sink runs over the records of the topic that it is from, and knows less than before the ring.
fn sink_queries(config: &Config, places: &Places<'_>) {
    for sink in &config.sinks {
        let wrong = |rule: &Rule| {
            let RuleSpec::Sql(query) = &rule.spec else { return None };
            let (name, from) = (&rule.name, query.from());
            if let Some(asked) = query.only_before_ring() {
                return Some(format!(
                    "rule `{name}` asks for `{asked}`, which a sink does not know any more; select it into the record before the ring"
                ));
            }
            let taken = TopicName::new(from).is_ok_and(|from| sink.topics.contains(&from));
            (!taken).then(|| {
                format!("rule `{name}` is FROM {from}, which is none of the sink's `topics`: it would do nothing")
            })
        };
        if let Some(message) = sink.rules.iter().find_map(wrong) {
            places.error(&format!("sinks.{}", sink.name), "rules", message);
        }
    }
}

/// The line of a rule's key: all rules share one header, told apart by the table that has their name.
fn rule_place(scope: &Scope<'_>, rule: &RuleConfig, key: &str) -> At {
    let settings = scope.settings.borrow();
    let name = super::raw::quote(rule.name.as_str());
    let table = settings.iter().find(|s| s.header == "[rules]" && s.key == "name" && s.value == name).map(|s| s.table);
    let key_at = |key| settings.iter().find(|s| Some(s.table) == table && s.key == key).and_then(|s| s.at);
    key_at(key).or_else(|| key_at("name")).unwrap_or_default()
}

/// Labels that templates speak of must be there.
fn templates(config: &Config, places: &Places<'_>, scope: &Scope<'_>) {
    let labels = &config.node.labels;
    let missing = |template: &Template| {
        let label = template.labels().find(|label| !labels.contains_key(*label))?.to_owned();
        Some(match nearest(&label, labels.keys().map(String::as_str)) {
            Some(near) => format!("node.labels has no `{label}`; did you mean `{near}`?"),
            None => format!("node.labels has no `{label}`"),
        })
    };
    for source in &config.sources {
        if let Some(message) = source.key.as_ref().and_then(missing) {
            places.error(&format!("sources.{}", source.name), "key", message);
        }
    }
    for rule in &config.rules {
        if let Some(message) = rule.rule.spec.templates().into_iter().find_map(missing) {
            scope.report.error(rule_place(scope, rule, "with"), &format!("rules.{}.with", rule.name), message);
        }
    }
    for sink in &config.sinks {
        let SinkKind::Fluvio(fluvio) = &sink.kind else { continue };
        let named = [("upstream_topic", Some(&fluvio.upstream_topic)), ("upstream_key", fluvio.upstream_key.as_ref())];
        for (key, template) in named {
            if let Some(message) = template.and_then(missing) {
                places.error(&format!("sinks.{}", sink.name), key, message);
            }
        }
    }
}

/// The parts of an upstream topic's name that are known now must be of a name, and leave room for those that are not.
fn upstream_names(config: &Config, places: &Places<'_>) {
    let known = topics_named(config);
    let own = OWN_TOPICS.map(|topic| TopicName::new(topic).ok());
    for sink in &config.sinks {
        let SinkKind::Fluvio(fluvio) = &sink.kind else { continue };
        let (header, key) = (format!("sinks.{}", sink.name), "upstream_topic");
        let sketch = |topic| {
            let context = Context { node: &config.node.id, topic, source: "", labels: &config.node.labels };
            let (name, words) = fluvio.upstream_topic.sketch(&context);
            let fixed = name.len() - words;
            (name, MAX_TOPIC_NAME.checked_sub(fixed), words > 0)
        };
        let (name, room, _) = sketch("t");
        // How long the words will be is seen when there is a record.
        let wrong = TopicName::new(&name).err().filter(|e| room.is_none() || !matches!(e, TopicNameError::TooLong(_)));
        if let Some(e) = wrong {
            places.error(&header, key, format!("it would give topics like `{name}`: {e}"));
            continue;
        }
        let exact: Vec<_> = sink.topics.include.iter().filter_map(|topic| TopicName::new(topic).ok()).collect();
        let mut taken: Vec<_> = known.iter().copied().chain(own.iter().flatten()).chain(&exact).collect();
        taken.retain(|topic| sink.topics.contains(topic));
        taken.sort_unstable();
        taken.dedup();
        // Without `{topic}` all come to the same.
        if sketch("u").0 == name {
            taken.truncate(1);
        }
        for topic in taken {
            let what = "shorten it or the topic's name, or leave the topic out with `exclude`";
            match sketch(topic.as_str()) {
                (name, None, _) => {
                    let text = format!("topic `{topic}` would be `{name}`, longer than {MAX_TOPIC_NAME} bytes; {what}");
                    places.error(&header, key, text);
                }
                (name, Some(room), true) if room < LITTLE_ROOM => {
                    let text = format!(
                        "topic `{topic}` would be like `{name}`, with {room} bytes left for what a record says: one that \
                         says more becomes a dead letter; {what}"
                    );
                    places.warn(&header, key, text);
                }
                _ => {}
            }
        }
    }
}

/// Topics that something in the config writes to, or that have settings.
fn topics_named(config: &Config) -> Vec<&TopicName> {
    let made = config.rules.iter().flat_map(|rule| rule.into.iter().chain(rule.rule.spec.targets()));
    let mut named: Vec<&TopicName> = config.topics.keys().chain(made).collect();
    for source in &config.sources {
        match &source.kind {
            SourceKind::File(FileSource { topic, .. })
            | SourceKind::Syslog(SyslogSource { topic, .. })
            | SourceKind::Socket(SocketSource { topic, .. })
            | SourceKind::Exec(ExecSource { topic, .. })
            | SourceKind::Host(HostSource { topic, .. }) => named.push(topic),
            SourceKind::Mqtt(mqtt) => named.extend(mqtt.subscribe.iter().map(|s| &s.topic)),
        }
    }
    named
}

/// Topics that are named exactly and that nothing here writes: allowed (`send`, an endpoint's clients), probably a slip.
fn topics_nobody_has(config: &Config, places: &Places<'_>, scope: &Scope<'_>) {
    if config.endpoint.is_some() {
        return;
    }
    let known = topics_named(config);
    let stranger = |set: &TopicSet| {
        let strange =
            |p: &&String| !p.contains('*') && !p.starts_with("headwater-") && !known.iter().any(|k| k.as_str() == **p);
        let topic = set.include.iter().find(strange)?;
        Some(match nearest(topic, known.iter().map(|k| k.as_str())) {
            Some(near) => format!("nothing here writes topic `{topic}`; did you mean `{near}`?"),
            None => format!("nothing here writes topic `{topic}`"),
        })
    };
    for rule in config.rules.iter().filter(|r| r.before_ring) {
        if let Some(message) = stranger(&rule.topics) {
            scope.report.warn(rule_place(scope, rule, "topics"), &format!("rules.{}.topics", rule.name), message);
        }
    }
    for sink in &config.sinks {
        if let Some(message) = stranger(&sink.topics) {
            places.warn(&format!("sinks.{}", sink.name), "topics", message);
        }
    }
}

fn rules_nobody_uses(config: &Config, scope: &Scope<'_>) {
    // Of one that is wrong, or that a sink names in vain, that is said.
    let is_wrong = |name: &Name| {
        let (own, named) = (format!("rules.{name}."), format!("`{name}`"));
        let of_sink = |e: &ConfigError| e.key.starts_with("sinks.") && e.key.ends_with(".rules");
        let errors = scope.report.errors.borrow();
        errors.iter().any(|e| e.key.starts_with(&own) || (of_sink(e) && e.message.contains(&named)))
    };
    for rule in config.rules.iter().filter(|r| !r.before_ring && !is_wrong(&r.name)) {
        if !config.sinks.iter().any(|s| s.rules.iter().any(|of| of.name == rule.name)) {
            let message = "it has no `topics` and no sink names it: it does nothing";
            scope.report.warn(rule_place(scope, rule, "name"), &format!("rules.{}", rule.name), message);
        }
    }
}
