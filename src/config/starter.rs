//! The commented config that `headwater init` writes. It is accepted by `check` as it stands.

/// A config to begin with; with `upstream`, a Fluvio sink that sends everything there.
pub fn starter(upstream: Option<&str>) -> String {
    let sink = match upstream {
        Some(upstream) => SINK.replace("\n# ", "\n").replace("sc.example:9003", upstream),
        None => SINK.to_owned(),
    };
    format!("{HEAD}\n{sink}")
}

const HEAD: &str = r#"# Headwater: collects events, keeps them in a ring on disk, forwards them when there is a link.
# `headwater check -c FILE` says whether this file is right; `check --print` shows every setting and its default.
# Files in conf.d/ beside this one are read as well.

[node]
# id = "pump-0417"                 # default: the host name
# labels = { kind = "pump" }       # shown in envelopes; {label.kind} in templates
data_dir = "/var/lib/headwater"

[ring]
# max_bytes = "256MiB"             # default: the smaller of 256MiB and a quarter of the file system
# keep_free = "200MiB"             # the ring shrinks rather than leave less than this to others
# linger = "1s"                    # how long a record may wait for company before it is written
# encryption = { file = "/etc/headwater/ring.key" }   # head -c 32 /dev/urandom | base64 > FILE; not on the same card

# This machine itself: CPU, memory, disks, network, temperatures.
[sources.host]
type = "host"
topic = "host"
every = "15s"

# Log files: rotation is followed, a restart goes on where it was.
# [sources.logs]
# type = "file"
# topic = "logs"
# paths = ["/var/log/app/*.log"]

# Syslog from devices around.
# [sources.devices]
# type = "syslog"
# topic = "devices"
# listen = ["udp://0.0.0.0:514", "tcp://0.0.0.0:514"]
# allow = ["10.0.0.0/8"]

# A local MQTT broker; messages are acknowledged once they are safe on disk.
# [sources.broker]
# type = "mqtt"
# url = "mqtt://localhost:1883"
# username = "headwater"
# password = { file = "/etc/headwater/mqtt-password" }
# subscribe = [                    # the first match wins; + and # are MQTT's own wildcards
#   { filter = "pump/+/alarm", topic = "alarm" },
#   { filter = "pump/+/+", topic = "telemetry" },
# ]
# key = "{mqtt.1}"                 # what stood for the first wildcard

# Rules see records before they are stored.
# [[rules]]
# name = "errors-only"
# topics = ["logs"]
# uses = "filter"
# with = { contains = ["ERROR", "WARN"] }
"#;

const SINK: &str = r#"# Where records go. A sink's name is its place in the data: keep it.
# [sinks.hq]
# type = "fluvio"
# endpoint = ["sc.example:9003"]
# topics = ["*"]
# upstream_topic = "{topic}"
# upstream_key = "{node}"
"#;
