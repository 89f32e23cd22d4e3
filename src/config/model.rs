//! The checked configuration. A started node never meets an unchecked value: every name is valid, every reference
//! resolves, every bound holds, secrets are read. Built only by `config::load` (and by tests).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

pub use crate::envelope::ValueMode;
use crate::name::Name;
use crate::ring::Key;
use crate::rules::Rule;
use crate::template::Template;
use crate::time::Span;
use crate::topic::{TopicName, TopicSet};

/// A secret: printed as `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Hex digest of the merged files, as status shows it (first 4 digits there).
    pub hash: String,
    /// Every file that was read, in order.
    pub files: Vec<PathBuf>,
    pub node: NodeConfig,
    pub ring: RingConfig,
    pub topics: BTreeMap<TopicName, TopicConfig>,
    pub sources: Vec<SourceConfig>,
    pub rules: Vec<RuleConfig>,
    pub links: Vec<LinkConfig>,
    pub sinks: Vec<SinkConfig>,
    pub endpoint: Option<EndpointConfig>,
    pub http: Option<HttpConfig>,
    /// Things that are allowed and probably not meant, in plain words with file and line.
    pub warnings: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct NodeConfig {
    /// `node.id`, default the host name.
    pub id: String,
    pub labels: BTreeMap<String, String>,
    /// `node.data_dir`, default `/var/lib/headwater`.
    pub data_dir: PathBuf,
    /// `node.control`, default `<data_dir>/control.sock`.
    pub control: PathBuf,
    /// `node.heartbeat`, default 15 min; None = off.
    pub heartbeat: Option<Span>,
    /// `node.log`, default `warn`; a tracing filter directive.
    pub log: String,
}

#[derive(Clone, Debug, PartialEq)]
pub struct RingConfig {
    /// `ring.max_bytes`; None = the smaller of 256 MiB and 25 % of the file system, decided by `node`.
    pub max_bytes: Option<u64>,
    /// `ring.keep_free`, default 200 MiB.
    pub keep_free: u64,
    /// `ring.linger`, default 1 s.
    pub linger: Span,
    /// `ring.memory_bytes`, default 8 MiB: the ring of memory mode.
    pub memory_bytes: u64,
    /// `ring.max_gb_per_day`, in bytes: what may be written in a day before the linger is stretched.
    pub write_budget: Option<u64>,
    /// `ring.spill = "offline"`: while every sink takes what there is, what nobody waits for stays in memory.
    pub ram_first: bool,
    /// `ring.lanes`, the most important first, with `ring.reserve`.
    pub lanes: Vec<LaneConfig>,
    /// `ring.encryption`: what is written is encrypted under this key; None: it is in clear.
    pub encryption: Option<Key>,
    /// `ring.old_keys`: what is there under these can be read.
    pub old_keys: Vec<Key>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneConfig {
    pub name: Name,
    /// Percent of the ring that other lanes cannot evict; all together at most 90.
    pub reserve: u8,
}

#[derive(Clone, Debug, PartialEq)]
pub struct TopicConfig {
    /// Default `normal`, or the last one where there is no lane of this name.
    pub lane: Name,
    /// 1 to 16, default 1.
    pub partitions: u8,
    /// `on_full = "drop-oldest"` (default) or `"pause"`.
    pub pause: bool,
    /// `max_age`: records that are older are not sent any more.
    pub max_age: Option<Span>,
}

/// What every source has.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceConfig {
    pub name: Name,
    /// The key of its records; None = no key (or what the source itself says, e.g. a Fluvio producer's key).
    pub key: Option<Template>,
    pub value: ValueMode,
    /// `ack = "durable"` (default) or `"memory"`.
    pub ack_memory: bool,
    pub kind: SourceKind,
}

#[derive(Clone, Debug, PartialEq)]
pub enum SourceKind {
    File(FileSource),
    Syslog(SyslogSource),
    Mqtt(MqttSource),
    Socket(SocketSource),
    Exec(ExecSource),
    Host(HostSource),
}

#[derive(Clone, Debug, PartialEq)]
pub struct FileSource {
    pub topic: TopicName,
    /// `paths`: globs.
    pub paths: Vec<String>,
    /// Globs to leave out.
    pub exclude: Vec<String>,
    /// `start = "end" | "beginning"` for files that have no checkpoint when the node first sees them at start;
    /// files that appear later are always read from the beginning. Default beginning.
    pub from_end: bool,
    /// `max_line`, default 64 KiB: longer lines are cut, flagged and counted.
    pub max_line: usize,
    /// How often the globs are looked at again, default 1 s.
    pub poll: Span,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Udp,
    Tcp,
    Unix,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Listen {
    /// `udp://0.0.0.0:514`
    Udp(SocketAddr),
    /// `tcp://0.0.0.0:514`
    Tcp(SocketAddr),
    /// `unix:///run/headwater/log.sock` (datagram for syslog, stream for socket)
    Unix(PathBuf),
}

#[derive(Clone, Debug, PartialEq)]
pub struct SyslogSource {
    pub topic: TopicName,
    /// `listen = ["udp://...", "tcp://...", "unix://..."]`
    pub listen: Vec<Listen>,
    /// `allow = ["10.0.0.0/8", ...]`: addresses heard; empty = all.
    pub allow: Vec<IpNet>,
    /// `max_message`, default 64 KiB.
    pub max_message: usize,
    /// `max_connections`, default 64.
    pub max_connections: usize,
}

/// An address range in CIDR form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpNet {
    pub address: std::net::IpAddr,
    pub prefix: u8,
}

impl IpNet {
    /// Whether `ip` is in the range; an IPv4-mapped IPv6 address is taken for the IPv4 one.
    pub fn contains(&self, ip: std::net::IpAddr) -> bool {
        use std::net::IpAddr::{V4, V6};
        match (self.address, ip.to_canonical()) {
            (V4(net), V4(ip)) => {
                let shift = 32 - u32::from(self.prefix.min(32));
                u64::from(u32::from(net)) >> shift == u64::from(u32::from(ip)) >> shift
            }
            (V6(net), V6(ip)) => {
                let shift = 128 - u32::from(self.prefix.min(128));
                shift == 128 || u128::from(net) >> shift == u128::from(ip) >> shift
            }
            _ => false,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct MqttSource {
    /// `url = "mqtt://host:1883"` or `mqtts://host:8883`.
    pub host: String,
    pub port: u16,
    pub tls: Option<TlsConfig>,
    /// `version = "3.1.1" | "5"`, default 3.1.1.
    pub version5: bool,
    /// `client_id`, default `headwater-<node id>-<source>`.
    pub client_id: String,
    pub username: Option<String>,
    pub password: Option<Secret>,
    pub subscribe: Vec<MqttSubscription>,
    /// The broker's window when it cannot say (3.1.1): default 20, Mosquitto's own default.
    pub inflight: u16,
    /// `max_packet`, default 256 KiB.
    pub max_packet: usize,
    pub retained: Retained,
    /// `keep_alive`, default 30 s.
    pub keep_alive: Span,
    /// `session_expiry` (5 only), default 7 d.
    pub session_expiry: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub struct MqttSubscription {
    /// An MQTT topic filter; the first that matches wins. Its wildcards become `mqtt.1`, `mqtt.2`, ...
    pub filter: String,
    pub topic: TopicName,
    /// 0, 1 (default) or 2.
    pub qos: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retained {
    Skip,
    Keep,
    Mark,
}

#[derive(Clone, Debug, PartialEq)]
pub struct SocketSource {
    pub topic: TopicName,
    pub listen: Vec<Listen>,
    pub allow: Vec<IpNet>,
    /// `max_line`, default 64 KiB.
    pub max_line: usize,
    pub max_connections: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ExecSource {
    pub topic: TopicName,
    /// `command = ["/usr/bin/prog", "arg"]`; no shell.
    pub command: Vec<String>,
    /// None: the child runs for good and is restarted with backoff when it ends; else it is run this often.
    pub every: Option<Span>,
    pub max_line: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub struct HostSource {
    pub topic: TopicName,
    /// `every`, default 15 s.
    pub every: Span,
    /// `collect`, default all: cpu, memory, disks, network, temperatures, uptime.
    pub collect: Vec<HostPart>,
    /// Where procfs and sysfs are (tests put their own trees here).
    pub proc_root: PathBuf,
    pub sys_root: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostPart {
    Cpu,
    Memory,
    Disks,
    Network,
    Temperatures,
    Uptime,
}

/// A named rule that stands before the ring.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleConfig {
    pub name: Name,
    pub topics: TopicSet,
    /// Where its output goes; None = the topic it came for. With `into`, the raw records stay in their topic.
    pub into: Option<TopicName>,
    pub rule: Rule,
    /// False for a rule that is only named by sinks (`topics` absent).
    pub before_ring: bool,
}

/// TLS of a client: checked when it connects, so that a missing file is shown and retried, not fatal.
#[derive(Clone, Debug, PartialEq)]
pub struct TlsConfig {
    pub ca: Option<PathBuf>,
    pub cert: Option<PathBuf>,
    pub key: Option<Secret>,
    /// Where the key stands, if it does in a file: it may be renewed together with `cert`.
    pub key_file: Option<PathBuf>,
    pub server_name: Option<String>,
}

/// A way out that sinks share.
#[derive(Clone, Debug, PartialEq)]
pub struct LinkConfig {
    pub name: Name,
    /// What connections are bound to; None: what the routes say.
    pub interface: Option<String>,
    /// `connect = "on-demand"`: a connection that has nothing to carry is closed at once.
    pub on_demand: bool,
    pub options: crate::link::Options,
}

#[derive(Clone, Debug, PartialEq)]
pub struct SinkConfig {
    pub name: Name,
    pub topics: TopicSet,
    /// Names of pure rules, applied in order before sending.
    pub rules: Vec<Rule>,
    pub value: ValueMode,
    pub kind: SinkKind,
}

#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "a handful per node")]
pub enum SinkKind {
    Fluvio(FluvioSink),
    Stdout,
    File(FileSink),
}

#[derive(Clone, Debug, PartialEq)]
pub struct FluvioSink {
    /// `link = "lte"`: the way out that it shares; None: whatever there is, uncounted.
    pub link: Option<Name>,
    /// `endpoint = ["sc.example:9003"]`: SCs, tried in order.
    pub endpoint: Vec<String>,
    pub tls: Option<TlsConfig>,
    /// `spu_address = { "5001" = "host:9010" }`.
    pub spu_address: BTreeMap<i32, String>,
    /// `upstream_topic`, default `{topic}`.
    pub upstream_topic: Template,
    /// `upstream_key`, default the record's key.
    pub upstream_key: Option<Template>,
    pub compression: Compression,
    /// `partition = "by-key" | "per-node" | NUMBER`, default by-key.
    pub partition: PartitionChoice,
    pub new_topics: NewTopics,
    /// `acks = "all" | "leader"`, default all.
    pub acks_leader: bool,
    /// `max_batch`, default 512 KiB raw.
    pub max_batch: usize,
    /// `connect_timeout`, default 10 s.
    pub connect_timeout: Span,
    /// `request_timeout`, default 20 s.
    pub request_timeout: Span,
    /// `retry`, base and cap of the wait between tries: default 1 s and 60 s.
    pub retry: (Span, Span),
    /// `resume = "auto" | "markers"`: an upstream that is a node is asked what it has; false: its log is searched as any other.
    pub markers_only: bool,
    /// `search_max`, default 64 KiB: what a resume may download to find its marker.
    pub search_max: usize,
    /// `on_upstream_loss = "resend" | "continue"`.
    pub resend_on_loss: bool,
    /// Nobody else writes to its partitions upstream.
    pub only_writer: bool,
    /// `order = "oldest-first" | "newest-first"`: after an outage what is new goes before what waits.
    pub newest_first: bool,
    /// `live_share`: the part of a lane's bytes that is for what is new, in thousandths; None: `order` says.
    pub live_share: Option<u16>,
    /// `lane_weights`; none: the lanes go in their order.
    pub lane_weights: Vec<(Name, u32)>,
    /// `mark_backlog`: what is sent later than this after its admission is marked in its envelope.
    pub mark_backlog: Option<Span>,
    /// `freshness_alarm`: what waits longer is an alarm.
    pub freshness_alarm: Option<Span>,
    /// `grace`, default 2 s: how long a request inside a stalled SPU may land after a resume search.
    pub grace: Span,
}

/// Which partitions of an upstream topic a sink writes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartitionChoice {
    /// All: by the key, else in runs.
    ByKey,
    /// One, by the hash of the node's id.
    PerNode,
    Number(u32),
}

/// How topics are made that are missing upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTopics {
    /// `create_topics`, default true: whether they are.
    pub create: bool,
    /// `partitions`, default 1.
    pub partitions: u32,
    /// `replicas`, default 1.
    pub replicas: u32,
    /// `retention`; None: the cluster's.
    pub retention: Option<Span>,
    /// `retention_size` of each partition, in bytes; None: the cluster's.
    pub retention_size: Option<u64>,
    /// `topic_compression`: the one that the topic takes; None: any.
    pub compression: Option<Compression>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

#[derive(Clone, Debug, PartialEq)]
pub struct FileSink {
    pub path: PathBuf,
    /// `rotate_bytes`, default 16 MiB.
    pub rotate_bytes: u64,
    /// `keep`, default 5 rotated files.
    pub keep: u32,
}

#[derive(Clone, Debug, PartialEq)]
pub struct EndpointConfig {
    /// Default `127.0.0.1:9003`.
    pub sc_listen: SocketAddr,
    /// Default `127.0.0.1:9010`.
    pub spu_listen: SocketAddr,
    /// `advertise`: what clients are told the SPU's address is; default the address they reached us at.
    pub advertise: Option<String>,
    /// `insecure = true`: listen beyond loopback without TLS.
    pub insecure: bool,
    pub max_connections: usize,
    pub tls: Option<ServerTls>,
    /// `[[endpoint.allow]]`; empty: everyone may do everything.
    pub allow: Vec<Allow>,
}

/// TLS of a listener. Its files are read when it begins to listen, and again when they change.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerTls {
    /// The certificate, and those between it and its authority.
    pub cert: PathBuf,
    pub key: SecretPlace,
    /// Authorities of the clients' certificates.
    pub client_ca: Option<PathBuf>,
    /// With `client_ca`: who brings no certificate is turned away. Default true.
    pub require_client_cert: bool,
}

/// A secret that is looked at while the node runs: its file, or what the environment said at the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretPlace {
    File(PathBuf),
    Held(Secret),
}

/// What some clients may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allow {
    /// Names of clients as their certificates have them; `*` is everyone, also who has none.
    pub who: Vec<String>,
    /// Topics, `*` for any run of characters (also in the node's own).
    pub produce: Vec<String>,
    pub consume: Vec<String>,
    /// May make and delete the topics above.
    pub admin: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct HttpConfig {
    /// Default `127.0.0.1:9004`.
    pub listen: SocketAddr,
}
