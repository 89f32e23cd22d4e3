//! The tables that are there once: `[node]`, `[ring]`, `[topics.NAME]`, `[http]`.

use std::collections::BTreeMap;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};

use super::keys::keys;
use super::model::{HttpConfig, LaneConfig, NodeConfig, RingConfig, TopicConfig};
use super::raw::{Raw, Table};
use super::reader::Reader;
use super::{CONTROL_NAME, DEFAULT_DATA_DIR};
use crate::lane::{DEFAULT_LANE, DEFAULT_LANES, DEFAULT_RESERVE};
use crate::limits::{MAX_CONNECTIONS, MAX_LANES, MAX_PARTITIONS, MAX_RING, MAX_TOPICS, MIN_RING};
use crate::name::Name;
use crate::time::Span;
use crate::topic::TopicName;

/// The longest path of a Unix socket: `sun_path` and its closing zero.
pub const MAX_SOCKET_PATH: usize = 107;

pub fn node(root: &Reader<'_>) -> Option<NodeConfig> {
    let r = root.section("node");
    let id = r.text("id", "name", &host_id(&r.scope.around.host_name), |s| Name::new(s).map(String::from));
    let mut labels = BTreeMap::new();
    for (label, value, at) in r.texts("labels") {
        match Name::new(label) {
            Ok(_) => drop(labels.insert(label.to_owned(), value)),
            Err(e) => r.error(at, "labels", e.to_string()),
        }
    }
    let (data_dir, control) = places(&r);
    if control.as_os_str().len() > MAX_SOCKET_PATH {
        let length = control.as_os_str().len();
        r.wrong(
            "control",
            format!("the path of a socket has at most {MAX_SOCKET_PATH} bytes, this one {length}; set `control`"),
        );
    }
    let heartbeat = r.span_or_off("heartbeat", Span::from_secs(900), Span::from_secs(1)..=Span::from_secs(7 * 86_400));
    let log =
        r.text("log", "log filter", "warn", |s| s.parse::<tracing_subscriber::filter::Targets>().map(|_| s.to_owned()));
    Some(NodeConfig { id: id?, labels, data_dir, control, heartbeat, log: log? })
}

/// The data directory and the control socket.
fn places(node: &Reader<'_>) -> (PathBuf, PathBuf) {
    let data_dir = node.path_or("data_dir", Path::new(DEFAULT_DATA_DIR));
    let control = node.path_or("control", &data_dir.join(CONTROL_NAME));
    (data_dir, control)
}

/// The control socket alone: whatever else the table says is not looked at.
pub fn control_path(root: &Reader<'_>) -> PathBuf {
    let node = root.section("node");
    node.forgive();
    places(&node).1
}

/// Whether the config says where the data or the socket is.
pub fn names_its_place(root: &Table) -> bool {
    match root.get("node").map(|entry| &entry.node.value) {
        Some(Raw::Table(node)) => ["data_dir", "control"].iter().any(|key| node.get(key).is_some()),
        _ => false,
    }
}

/// A host name as a node id: what a name cannot have becomes a hyphen.
fn host_id(host: &str) -> String {
    let id: String =
        host.chars().take(63).map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect();
    if id.is_empty() { "headwater".into() } else { id }
}

pub fn ring(root: &Reader<'_>) -> Option<RingConfig> {
    let r = root.section("ring");
    let mut ring = RingConfig {
        max_bytes: r.opt_size("max_bytes", MIN_RING..=MAX_RING),
        keep_free: r.size("keep_free", 200 << 20, 0..=MAX_RING),
        linger: r.span("linger", Span::from_secs(1), Span::from_millis(1)..=Span::from_secs(600)),
        memory_bytes: r.size("memory_bytes", 8 << 20, MIN_RING..=1 << 30),
        write_budget: r.get("max_gb_per_day", "number", None, gigabytes),
        ram_first: r.choice("spill", &[("always", false), ("offline", true)]),
        lanes: lanes(&r),
        encryption: None,
        old_keys: Vec::new(),
    };
    (ring.encryption, ring.old_keys) = keys(&r);
    Some(ring)
}

/// A number of GB, in bytes.
fn gigabytes(node: &super::raw::Node) -> Result<u64, String> {
    let gigabytes = match node.value {
        Raw::Int(n) => n as f64,
        Raw::Float(n) => n,
        _ => return Err("write a number of GB, like 2 or 0.5".into()),
    };
    let good = (0.01..=100_000.0).contains(&gigabytes);
    good.then_some((gigabytes * 1e9) as u64).ok_or_else(|| "use 0.01 to 100000 GB".to_owned())
}

/// `lanes` and what each keeps for itself.
fn lanes(r: &Reader<'_>) -> Vec<LaneConfig> {
    let mut names = r.list("lanes", "list of names", |s, _| Name::new(s));
    if !r.has("lanes") {
        names = DEFAULT_LANES.iter().filter_map(|name| Name::new(name).ok()).collect();
    }
    let mut lanes: Vec<LaneConfig> = Vec::new();
    for name in names {
        if lanes.iter().any(|lane| lane.name == name) {
            r.wrong("lanes", format!("`{name}` is there twice"));
        }
        lanes.push(LaneConfig { name, reserve: 0 });
    }
    if lanes.is_empty() || lanes.len() > MAX_LANES {
        r.wrong("lanes", format!("name 1 to {MAX_LANES} lanes, the most important first"));
    }
    let known = lanes.iter().map(|lane| lane.name.to_string()).collect::<Vec<_>>().join(", ");
    let mut reserve = r.texts("reserve");
    if !r.has("reserve") {
        let at = r.at();
        reserve = DEFAULT_RESERVE.iter().map(|(lane, percent)| (*lane, (*percent).to_owned(), at)).collect();
        reserve.retain(|(lane, ..)| lanes.iter().any(|l| l.name.as_str() == *lane));
    }
    for (lane, text, at) in reserve {
        let percent = text.strip_suffix('%').and_then(|n| n.trim().parse::<u8>().ok()).filter(|n| *n <= 90);
        match (lanes.iter_mut().find(|l| l.name.as_str() == lane), percent) {
            (Some(found), Some(percent)) => found.reserve = percent,
            (None, _) => r.error(at, "reserve", format!("there is no lane `{lane}`; lanes are {known}")),
            (_, None) => {
                r.error(at, "reserve", format!("`{text}`: write a share of the ring, like \"10%\", at most 90%"))
            }
        }
    }
    if lanes.iter().map(|lane| u32::from(lane.reserve)).sum::<u32>() > 90 {
        r.wrong("reserve", "the lanes keep more than 90% for themselves together: nothing is left to share");
    }
    lanes
}

pub fn topics(root: &Reader<'_>, lanes: &[LaneConfig]) -> BTreeMap<TopicName, TopicConfig> {
    let mut topics = BTreeMap::new();
    let usual = usual_lane(lanes);
    for (name, r) in root.named("topics", MAX_TOPICS) {
        let lane = r.text("lane", "lane", usual, |s| {
            let known = lanes.iter().find(|lane| lane.name.as_str() == s);
            known.map(|lane| lane.name.clone()).ok_or_else(|| unknown_lane(s, lanes))
        });
        let partitions = r.int("partitions", 1, 1..=MAX_PARTITIONS as u32);
        let pause = r.choice("on_full", &[("drop-oldest", false), ("pause", true)]);
        let max_age = r.opt_span("max_age", Span::from_secs(1)..=Span::from_secs(10 * 366 * 86_400));
        match TopicName::new(name) {
            Ok(name) if name.is_reserved() => r.error(r.at(), "", format!("`{name}` is one of the node's own topics")),
            Ok(name) => {
                let partitions = u8::try_from(partitions).unwrap_or(1);
                topics.extend(lane.map(|lane| (name, TopicConfig { lane, partitions, pause, max_age })));
            }
            Err(e) => r.error(r.at(), "", e.to_string()),
        }
    }
    topics
}

/// The lane of a topic that names none: `normal`, or the last where there is none of this name.
pub fn usual_lane(lanes: &[LaneConfig]) -> &str {
    let usual = lanes.iter().find(|lane| lane.name.as_str() == DEFAULT_LANE);
    usual.or(lanes.last()).map_or(DEFAULT_LANE, |lane| lane.name.as_str())
}

pub fn unknown_lane(lane: &str, lanes: &[LaneConfig]) -> String {
    let known: Vec<&str> = lanes.iter().map(|lane| lane.name.as_str()).collect();
    format!("there is no lane `{lane}`; lanes are {}", known.join(", "))
}

pub fn max_connections(r: &Reader<'_>) -> usize {
    r.int("max_connections", MAX_CONNECTIONS as u32, 1..=MAX_CONNECTIONS as u32) as usize
}

pub fn http(root: &Reader<'_>) -> Option<HttpConfig> {
    let r = root.section("http");
    let parse = |s: &str| if s == "off" { Ok(None) } else { address(s).map(Some) };
    let listen = r.text("listen", "address or \"off\"", "127.0.0.1:9004", parse)??;
    if !listen.ip().is_loopback() {
        r.warn("listen", "status and metrics are readable by anyone who reaches this address");
    }
    Some(HttpConfig { listen })
}

/// An address to listen on.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    let bad = || format!("`{text}` is not an address to listen on; write IP:PORT, like 127.0.0.1:9003");
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    // A name other than this one would need a resolver at start, when there may be no network.
    match text.strip_prefix("localhost:").map(|port| ("127.0.0.1", port.parse::<u16>())) {
        Some((ip, Ok(port))) => (ip, port).to_socket_addrs().ok().and_then(|mut a| a.next()).ok_or_else(bad),
        _ => Err(bad()),
    }
}

/// `host:port`, `[v6]:port`, or a host alone where there is a default port.
pub fn host_port(text: &str, default: Option<u16>) -> Result<String, String> {
    let bad = |why: &str| Err(format!("`{text}` {why}; write HOST:PORT, like sc.example:9003"));
    if let Some((scheme, rest)) = text.split_once("://") {
        return bad(&format!("has a scheme; leave `{scheme}://` out (`{rest}`)"));
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => match port.parse::<u16>() {
            Ok(port) if port > 0 => (host, port),
            _ => return bad("has no port number after the colon"),
        },
        Some(_) => return bad("is an IPv6 address without brackets"),
        None => match default {
            Some(port) => (text, port),
            None => return bad("has no port"),
        },
    };
    let inner = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let ok = match inner {
        Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)),
    };
    if ok { Ok(format!("{host}:{port}")) } else { bad("is not a host and port") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_need_a_port_unless_there_is_a_usual_one() {
        assert_eq!(host_port("sc.example:9003", None).as_deref(), Ok("sc.example:9003"));
        assert_eq!(host_port("sc.example", Some(9003)).as_deref(), Ok("sc.example:9003"));
        assert_eq!(host_port("[::1]:9003", None).as_deref(), Ok("[::1]:9003"));
        for bad in ["", "host", "host:", "host:x", "host:0", "::1:9003", "tcp://h:1", "a b:1", "[x]:1"] {
            assert!(host_port(bad, None).is_err(), "{bad}");
        }
    }

    #[test]
    fn addresses_to_listen_on_are_numbers_or_localhost() {
        assert_eq!(address("localhost:9003").unwrap(), address("127.0.0.1:9003").unwrap());
        assert!(address("example.org:9003").is_err());
    }
}
