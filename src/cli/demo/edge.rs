//! The edge of the demo: its config, and where its sources listen.

use std::path::Path;
use std::time::Duration;

use super::load::{self, Targets};
use super::process::free_ports;
use super::upstream::Upstream;

const RING_MIB_A_MINUTE: u64 = 8;

/// Places are filled in by [`config`].
const TEMPLATE: &str = r#"[node]
id = "demo-edge"
data_dir = "@data"

[ring]
max_bytes = "@ringMiB"
keep_free = "0B"
linger = "200ms"

[http]
listen = "127.0.0.1:@http"

[sources.host]
type = "host"
topic = "host"
every = "1s"

[sources.log]
type = "file"
paths = ["@dir/app.log"]
topic = "log"
poll = "200ms"

[sources.syslog]
type = "syslog"
listen = ["udp://127.0.0.1:@syslog", "tcp://127.0.0.1:@syslog"]
topic = "syslog"

[sources.sensors]
type = "socket"
listen = ["tcp://127.0.0.1:@sensors"]
topic = "sensors"
key = "{field.sensor}"

[[rules]]
name = "no-debug"
topics = ["log"]
uses = "filter"
with = { not = { contains = "DEBUG" } }

[[rules]]
name = "high-readings"
topics = ["sensors"]
uses = "filter"
with = { field = "value", above = @threshold }

[sinks.upstream]
type = "fluvio"
@sink
topics = ["*"]
exclude = ["headwater-*"]
upstream_topic = "@up{topic}"
retry_min = "250ms"
retry_max = "2s"
"#;

/// The broker's part, where there is a broker.
const MQTT: &str = r#"
[sources.broker]
type = "mqtt"
url = "mqtt://@broker"
client_id = "headwater-demo-@pid"
subscribe = [{ filter = "@prefix/+/flow", topic = "mqtt" }]
key = "{mqtt.1}"
"#;

/// The edge's config file, and what the load needs to know of it. `mqtt`: host and port of a broker that answers. The
/// ring's size goes with how long it takes: it has to hold all of it (about half of it does), because the proof at the
/// end reads from there what was admitted.
pub fn config(
    dir: &Path,
    total: Duration,
    upstream: &Upstream,
    mqtt: Option<&(String, u16)>,
) -> anyhow::Result<(String, Targets)> {
    let ports = free_ports(3)?;
    let pid = std::process::id().to_string();
    let prefix = format!("headwater-demo/{pid}");
    let mut text = TEMPLATE.to_owned();
    if mqtt.is_some() {
        text.push_str(MQTT);
    }
    let places = [
        ("@data", dir.join("edge/data").display().to_string()),
        ("@dir", dir.display().to_string()),
        ("@ring", (RING_MIB_A_MINUTE * total.as_secs().div_ceil(60).max(1)).to_string()),
        ("@http", ports[0].to_string()),
        ("@syslog", ports[1].to_string()),
        ("@sensors", ports[2].to_string()),
        ("@sink", upstream.sink_keys()),
        ("@up", upstream.prefix().to_owned()),
        ("@threshold", load::THRESHOLD.to_string()),
        ("@broker", mqtt.map(|(host, port)| format!("{host}:{port}")).unwrap_or_default()),
        ("@pid", pid),
        ("@prefix", prefix.clone()),
    ];
    for (place, value) in &places {
        text = text.replace(place, value);
    }
    let at = |port: u16| std::net::SocketAddr::from(([127, 0, 0, 1], port));
    let targets = Targets {
        log: dir.join("app.log"),
        syslog_udp: at(ports[1]),
        syslog_tcp: at(ports[1]),
        sensors: at(ports[2]),
        mqtt: mqtt.map(|(host, port)| (host.clone(), *port, prefix)),
    };
    Ok((text, targets))
}
