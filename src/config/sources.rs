//! `[sources.NAME]`: what every source has, then one function per type.

use std::path::PathBuf;

use super::model::*;
use super::parts::{MAX_SOCKET_PATH, address, max_connections};
use super::reader::{Reader, name_of};
use super::tls::tls;
use crate::limits::{MAX_RECORD, MAX_SOURCES};
use crate::name::nearest;
use crate::template::Template;
use crate::time::Span;
use crate::topic::TopicName;

const TYPES: [&str; 6] = ["file", "syslog", "mqtt", "socket", "exec", "host"];
/// Sources that come with later versions.
const LATER: [&str; 8] = ["serial", "http", "modbus", "can", "gps", "journald", "fluvio", "opcua"];

const LINE: usize = 64 * 1024;
const LINE_RANGE: std::ops::RangeInclusive<usize> = 256..=MAX_RECORD - 4096;

pub fn sources(root: &Reader<'_>, node: Option<&NodeConfig>) -> Vec<SourceConfig> {
    let named = root.named("sources", MAX_SOURCES);
    named.into_iter().filter_map(|(name, r)| source(name, &r, node)).collect()
}

fn source(name: &str, r: &Reader<'_>, node: Option<&NodeConfig>) -> Option<SourceConfig> {
    let name = name_of(name, r);
    let kind = r.need_text("type", "source type", |s| match TYPES.iter().find(|t| **t == s) {
        Some(kind) => Ok(*kind),
        None => Err(unknown_type(s, &TYPES, &LATER)),
    });
    let key = r.opt_text("key", "template", Template::parse);
    let value = value_mode(r);
    let ack_memory = r.choice("ack", &[("durable", false), ("memory", true)]);
    let Some(kind) = kind else {
        r.forgive();
        return None;
    };
    let kind = match kind {
        "file" => file(r).map(SourceKind::File),
        "syslog" => syslog(r).map(SourceKind::Syslog),
        "mqtt" => mqtt(r, name.as_ref().map_or("", |n| n.as_str()), node).map(SourceKind::Mqtt),
        "socket" => socket(r).map(SourceKind::Socket),
        "exec" => exec(r).map(SourceKind::Exec),
        _ => host(r).map(SourceKind::Host),
    };
    if ack_memory && !matches!(kind, Some(SourceKind::Mqtt(_)) | None) {
        r.warn("ack", "it changes nothing here: only an `mqtt` source has somebody to acknowledge to");
    }
    Some(SourceConfig { name: name?, key, value, ack_memory, kind: kind? })
}

pub fn unknown_type(text: &str, known: &[&str], later: &[&str]) -> String {
    if later.contains(&text) {
        return format!("`{text}` is not in this version; there are {}", known.join(", "));
    }
    match nearest(text, known.iter().copied()) {
        Some(near) => format!("unknown type `{text}`; did you mean `{near}`?"),
        None => format!("unknown type `{text}`; there are {}", known.join(", ")),
    }
}

pub fn value_mode(r: &Reader<'_>) -> ValueMode {
    r.choice("value", &[("raw", ValueMode::Raw), ("envelope", ValueMode::Envelope)])
}

/// A topic that a source or rule writes to.
pub fn topic(r: &Reader<'_>) -> Option<TopicName> {
    r.need_text("topic", "topic", writable_topic)
}

pub fn writable_topic(text: &str) -> Result<TopicName, String> {
    match TopicName::new(text).map_err(|e| e.to_string())? {
        name if name.is_reserved() => Err(format!("`{name}` is one of the node's own topics; use another name")),
        name => Ok(name),
    }
}

fn file(r: &Reader<'_>) -> Option<FileSource> {
    let topic = topic(r);
    let pattern = |text: &str, at| {
        let pattern = r.beside(at, text).to_string_lossy().into_owned();
        glob::Pattern::new(&pattern).map(|_| pattern).map_err(|e| format!("`{text}`: {e}"))
    };
    Some(FileSource {
        paths: r.need_list("paths", "list of globs", pattern),
        exclude: r.list("exclude", "list of globs", pattern),
        from_end: r.choice("start", &[("beginning", false), ("end", true)]),
        max_line: r.memory("max_line", LINE, LINE_RANGE),
        poll: r.span("poll", Span::from_secs(1), Span::from_millis(50)..=Span::from_secs(3600)),
        topic: topic?,
    })
}

fn syslog(r: &Reader<'_>) -> Option<SyslogSource> {
    let topic = topic(r);
    Some(SyslogSource {
        listen: listen(r),
        allow: allow(r),
        max_message: r.memory("max_message", LINE, LINE_RANGE),
        max_connections: max_connections(r),
        topic: topic?,
    })
}

fn socket(r: &Reader<'_>) -> Option<SocketSource> {
    let topic = topic(r);
    Some(SocketSource {
        listen: listen(r),
        allow: allow(r),
        max_line: r.memory("max_line", LINE, LINE_RANGE),
        max_connections: max_connections(r),
        topic: topic?,
    })
}

fn listen(r: &Reader<'_>) -> Vec<Listen> {
    r.need_list("listen", "list of udp://, tcp://, unix://", |text, at| match text.split_once("://") {
        Some(("udp", rest)) => address(rest).map(Listen::Udp),
        Some(("tcp", rest)) => address(rest).map(Listen::Tcp),
        Some(("unix", rest)) if !rest.is_empty() => match r.beside(at, rest) {
            path if path.as_os_str().len() > MAX_SOCKET_PATH => {
                Err(format!("the path of a socket has at most {MAX_SOCKET_PATH} bytes"))
            }
            path => Ok(Listen::Unix(path)),
        },
        _ => Err(format!("`{text}`: write udp://IP:PORT, tcp://IP:PORT or unix:///PATH")),
    })
}

fn allow(r: &Reader<'_>) -> Vec<IpNet> {
    r.list("allow", "list of networks", |text, _| ip_net(text))
}

fn ip_net(text: &str) -> Result<IpNet, String> {
    let bad = || format!("`{text}` is not a network; write it like 10.0.0.0/8 or fe80::/10, or as one address");
    let (address, prefix) = text.split_once('/').map_or((text, None), |(a, p)| (a, Some(p)));
    let address: std::net::IpAddr = address.parse().map_err(|_| bad())?;
    let whole = if address.is_ipv4() { 32 } else { 128 };
    let prefix = match prefix {
        None => whole,
        Some(p) => p.parse::<u8>().ok().filter(|p| *p <= whole).ok_or_else(bad)?,
    };
    Ok(IpNet { address, prefix })
}

fn exec(r: &Reader<'_>) -> Option<ExecSource> {
    let topic = topic(r);
    let command = r.need_list("command", "list: program, arguments", |text, _| Ok::<_, String>(text.to_owned()));
    if command.first().is_some_and(|program| program.contains(' ')) {
        r.warn("command", "there is no shell: write program and arguments apart, like [\"/usr/bin/prog\", \"arg\"]");
    }
    Some(ExecSource {
        command,
        every: r.opt_span("every", Span::from_secs(1)..=Span::from_secs(30 * 86_400)),
        max_line: r.memory("max_line", LINE, LINE_RANGE),
        topic: topic?,
    })
}

fn host(r: &Reader<'_>) -> Option<HostSource> {
    use HostPart::*;
    let topic = topic(r);
    let parts = [
        ("cpu", Cpu),
        ("memory", Memory),
        ("disks", Disks),
        ("network", Network),
        ("temperatures", Temperatures),
        ("uptime", Uptime),
    ];
    let names = parts.map(|(name, _)| name);
    let collect = r.list("collect", "list of parts", |text, _| match parts.iter().find(|(name, _)| *name == text) {
        Some((_, part)) => Ok(*part),
        None => Err(format!("`{text}`: use {}", names.join(", "))),
    });
    Some(HostSource {
        every: r.span("every", Span::from_secs(15), Span::from_secs(1)..=Span::from_secs(86_400)),
        collect: if r.has("collect") { collect } else { parts.map(|(_, part)| part).to_vec() },
        proc_root: r.path_or("proc_root", &PathBuf::from("/proc")),
        sys_root: r.path_or("sys_root", &PathBuf::from("/sys")),
        topic: topic?,
    })
}

fn mqtt(r: &Reader<'_>, name: &str, node: Option<&NodeConfig>) -> Option<MqttSource> {
    let url = r.need_text("url", "mqtt://HOST:PORT", mqtt_url);
    let mut tls = tls(r);
    if let Some((secure, _, _)) = &url {
        match (secure, &tls) {
            (false, Some(_)) => r.wrong("url", "`tls` is set: write mqtts://"),
            (true, None) => {
                tls = Some(TlsConfig { ca: None, cert: None, key: None, key_file: None, server_name: None })
            }
            _ => {}
        }
    }
    let default_id = format!("headwater-{}-{name}", node.map_or("", |n| n.id.as_str()));
    let client_id = r.text("client_id", "text", &default_id, |s| match s {
        "" => Err("a session that outlives a disconnect needs a client id"),
        s => Ok(s.to_owned()),
    });
    let username = r.opt_text("username", "text", |s| Ok::<_, String>(s.to_owned()));
    let password = r.secret("password");
    let version5 = r.choice("version", &[("3.1.1", false), ("5", true)]);
    let week = Span::from_secs(7 * 86_400);
    let session_expiry = r.span("session_expiry", week, Span::from_secs(1)..=Span::from_secs(i64::from(u32::MAX)));
    if !version5 {
        r.idle();
    }
    let source = MqttSource {
        tls,
        version5,
        // 3.1.1 has no password without a name; the node's own is the natural one.
        username: username.or_else(|| password.is_some().then(|| node.map(|n| n.id.clone())).flatten()),
        password,
        subscribe: subscriptions(r),
        inflight: u16::try_from(r.int("inflight", 20, 1..=65_535)).unwrap_or(u16::MAX),
        max_packet: r.memory("max_packet", 256 * 1024, 1024..=MAX_RECORD),
        retained: r.choice("retained", &[("keep", Retained::Keep), ("skip", Retained::Skip), ("mark", Retained::Mark)]),
        keep_alive: r.span("keep_alive", Span::from_secs(30), Span::from_secs(1)..=Span::from_secs(65_535)),
        session_expiry,
        client_id: client_id?,
        host: url.as_ref().map(|(_, host, _)| host.clone())?,
        port: url.map(|(_, _, port)| port)?,
    };
    if r.has("session_expiry") && !version5 {
        r.warn("session_expiry", "only MQTT 5 knows it; a 3.1.1 broker keeps the session as long as it likes");
    }
    Some(source)
}

fn mqtt_url(text: &str) -> Result<(bool, String, u16), String> {
    let usage = || format!("`{text}`: write mqtt://HOST:PORT or mqtts://HOST:PORT");
    let (scheme, rest) = text.split_once("://").ok_or_else(usage)?;
    let (secure, port) = match scheme {
        "mqtt" | "tcp" => (false, 1883),
        "mqtts" | "ssl" => (true, 8883),
        _ => return Err(usage()),
    };
    if rest.contains('@') {
        return Err("name and password do not belong into the URL; use `username` and \
                    `password = { credential = \"...\" }`"
            .into());
    }
    let address = super::parts::host_port(rest.trim_end_matches('/'), Some(port)).map_err(|_| usage())?;
    let (host, port) = address.rsplit_once(':').ok_or_else(usage)?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Ok((secure, host.to_owned(), port.parse().map_err(|_| usage())?))
}

fn subscriptions(r: &Reader<'_>) -> Vec<MqttSubscription> {
    let tables = r.tables("subscribe", 64);
    if tables.is_empty() {
        r.error(r.place("subscribe").unwrap_or(r.at()), "subscribe", "nothing is subscribed to");
    }
    let mut subscribed: Vec<MqttSubscription> = Vec::new();
    for table in &tables {
        let Some(one) = subscription(table) else { continue };
        if subscribed.iter().any(|other| other.filter == one.filter) {
            table.wrong("filter", "it is subscribed to already: a broker keeps one subscription for each filter");
        }
        subscribed.push(one);
    }
    subscribed
}

fn subscription(r: &Reader<'_>) -> Option<MqttSubscription> {
    let filter = r.need_text("filter", "MQTT filter", mqtt_filter);
    let topic = topic(r);
    let qos = r.int("qos", 1, 0..=2);
    if qos == 0 {
        r.warn("qos", "QoS 0 cannot be acknowledged: what is sent while the node is away or stops is lost");
    }
    Some(MqttSubscription { filter: filter?, topic: topic?, qos: u8::try_from(qos).unwrap_or(1) })
}

fn mqtt_filter(text: &str) -> Result<String, String> {
    let bad = |why: &str| Err(format!("`{text}` is not an MQTT filter: {why}"));
    if text.is_empty() {
        return bad("it is empty");
    }
    if text.contains('*') {
        return bad("`*` is no wildcard there; use `+` for one level and `#` for the rest");
    }
    let levels: Vec<&str> = text.split('/').collect();
    for (i, level) in levels.iter().enumerate() {
        if level.contains('#') && (*level != "#" || i + 1 < levels.len()) {
            return bad("`#` stands alone and last");
        }
        if level.contains('+') && *level != "+" {
            return bad("`+` stands for a whole level");
        }
    }
    if levels[0] == "$share" && levels.len() < 3 {
        return bad("write $share/GROUP/FILTER");
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_have_a_scheme_and_no_secrets() {
        assert_eq!(mqtt_url("mqtt://h"), Ok((false, "h".into(), 1883)));
        assert_eq!(mqtt_url("mqtts://h:1/"), Ok((true, "h".into(), 1)));
        assert_eq!(mqtt_url("mqtt://[::1]:1883"), Ok((false, "::1".into(), 1883)));
        for bad in ["h:1883", "http://h", "mqtt://", "mqtt://u:p@h", "mqtt://h:x"] {
            assert!(mqtt_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn filters_follow_the_mqtt_rules() {
        for good in ["a", "a/+/b", "#", "+/#", "/a//b", "$share/g/a/+"] {
            assert!(mqtt_filter(good).is_ok(), "{good}");
        }
        for bad in ["", "a+", "a/#/b", "a#", "pump/*", "$share/g"] {
            assert!(mqtt_filter(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn networks_are_cidr_or_one_address() {
        assert_eq!(ip_net("10.0.0.1").unwrap().prefix, 32);
        assert_eq!(ip_net("fe80::/10").unwrap().prefix, 10);
        for bad in ["10.0.0.0/33", "10.0.0.0/x", "host", ""] {
            assert!(ip_net(bad).is_err(), "{bad}");
        }
    }
}
