//! MQTT at QoS 1 from a real Mosquitto: how many messages a second the node takes, each acknowledged once it is durable,
//! against a subscriber over the same library that acknowledges at once and drops the message.
//!
//! The session outlives the connection. In the flood the broker may queue without a limit, because a stock one drops what
//! a subscriber is behind by more than 1,000, and the publishers are faster than anything that follows; both runs have
//! the same publishers and the same broker beside them, and time runs from the first message published to the last one
//! taken. At [`STEADY`] messages a second the broker is as it comes, and what it drops is counted.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS};

use super::support::{Node, Outcome, Result, cpu_of, events, free_port, paired_by};

const MESSAGES: usize = 40_000;
const ROUNDS: usize = 5;
const PUBLISHERS: usize = 2;
/// Messages a second of the steady run, and its seconds.
const STEADY: usize = 4_000;
const STEADY_SECONDS: usize = 5;
/// Messages that one publisher has under way.
const UNDER_WAY: usize = 50;
const PATIENCE: Duration = Duration::from_secs(120);
const CONNACK: usize = 4;
const PUBACK: usize = 4;

struct Broker {
    child: Child,
    port: u16,
}

impl Broker {
    fn start(dir: &Path, more: &str) -> Result<Self> {
        let port = free_port()?;
        std::fs::create_dir_all(dir)?;
        let config = dir.join("mosquitto.conf");
        let user = String::from_utf8(Command::new("id").arg("-un").output()?.stdout)?;
        let text = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\npersistence true\npersistence_location {}/\n\
             user {}\nlog_dest none\n{more}",
            dir.display(),
            user.trim()
        );
        std::fs::write(&config, text)?;
        let places = ["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto", "/usr/bin/mosquitto"];
        let program: PathBuf =
            places.iter().map(PathBuf::from).find(|p| p.is_file()).ok_or("not available here: mosquitto")?;
        let child = Command::new(program).arg("-c").arg(&config).stderr(Stdio::null()).spawn()?;
        let broker = Self { child, port };
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if started.elapsed() > Duration::from_secs(10) {
                return Err("mosquitto does not start".into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(broker)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // The bench is over.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Publishes `payloads` at QoS 1, as fast as the broker takes them. By hand, so that it costs the others little.
fn publish(port: u16, name: &str, topic: &str, payloads: &[Vec<u8>], pace: Option<Duration>) -> std::io::Result<()> {
    let mut broker = TcpStream::connect(("127.0.0.1", port))?;
    broker.set_nodelay(true)?;
    let mut connect = vec![0x10, 12 + name.len() as u8, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 60];
    connect.extend([0, name.len() as u8]);
    connect.extend_from_slice(name.as_bytes());
    broker.write_all(&connect)?;
    let mut answers = [0; UNDER_WAY * PUBACK];
    broker.read_exact(&mut answers[..CONNACK])?;
    let (mut next, mut answered, started) = (0, 0, Instant::now());
    let mut out = Vec::new();
    while answered < payloads.len() * PUBACK {
        let due = pace.map_or(usize::MAX, |pace| (started.elapsed().as_nanos() / pace.as_nanos()) as usize);
        let most = payloads.len().min(answered / PUBACK + UNDER_WAY).min(due.max(next));
        if most == next && answered / PUBACK == next {
            std::thread::sleep(Duration::from_millis(1));
            continue;
        }
        out.clear();
        for payload in &payloads[next..most] {
            next += 1;
            let len = 2 + topic.len() + 2 + payload.len();
            out.extend([0x32, (len % 128) as u8 | 0x80, (len / 128) as u8, 0, topic.len() as u8]);
            out.extend_from_slice(topic.as_bytes());
            out.extend(((next % 65_535) as u16 + 1).to_be_bytes());
            out.extend_from_slice(payload);
        }
        broker.write_all(&out)?;
        // The broker sends an answer only when the one before it was received, and TCP says so late unless asked.
        rustix::net::sockopt::set_tcp_quickack(&broker, true)?;
        answered += broker.read(&mut answers)?;
    }
    broker.write_all(&[0xe0, 0])
}

/// Has `events` published while `taken` waits for them; seconds.
fn flooded(port: u16, topic: &str, events: &[Vec<u8>], taken: impl FnOnce() -> Outcome) -> Result<f64> {
    let started = Instant::now();
    std::thread::scope(|scope| {
        let publishers: Vec<_> = events
            .chunks(events.len().div_ceil(PUBLISHERS))
            .enumerate()
            .map(|(i, part)| scope.spawn(move || publish(port, &format!("publisher-{topic}-{i}"), topic, part, None)))
            .collect();
        taken()?;
        let seconds = started.elapsed().as_secs_f64();
        for publisher in publishers {
            publisher.join().map_err(|_| "a publisher panicked")??;
        }
        Ok(seconds)
    })
}

/// Subscribes, acknowledges and drops until it has seen so many messages.
struct Bare {
    runtime: tokio::runtime::Runtime,
    events: rumqttc::EventLoop,
    _client: AsyncClient,
}

impl Bare {
    fn start(port: u16) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut options = MqttOptions::new("bare", "127.0.0.1", port);
        options.set_clean_session(false);
        let (client, mut events) = AsyncClient::new(options, 100);
        runtime.block_on(async {
            client.subscribe("bare/#", QoS::AtLeastOnce).await?;
            while !matches!(events.poll().await?, Event::Incoming(Packet::SubAck(_))) {}
            Result::Ok(())
        })?;
        Ok(Self { runtime, events, _client: client })
    }

    fn take(&mut self, count: usize) -> Outcome {
        let Self { runtime, events, .. } = self;
        runtime.block_on(async {
            let mut seen = 0;
            while seen < count {
                let event = tokio::time::timeout(PATIENCE, events.poll()).await??;
                seen += usize::from(matches!(event, Event::Incoming(Packet::Publish(_))));
            }
            Ok(())
        })
    }
}

fn subscribed(dir: &Path, port: u16) -> Result<Node> {
    let config = format!(
        "[ring]\nmax_bytes = \"256MiB\"\nkeep_free = \"0B\"\n[http]\nlisten = \"off\"\n\
         [sources.broker]\ntype = \"mqtt\"\nurl = \"mqtt://127.0.0.1:{port}\"\n\
         subscribe = [{{ filter = \"node/#\", topic = \"t\" }}]\n"
    );
    let node = Node::start(dir, &config)?;
    node.until(PATIENCE, |status| status.sources.iter().any(|s| s.state == "up"))?;
    Ok(node)
}

pub fn run() -> Outcome {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    flood(&dir.path().join("flood"))?;
    steady(&dir.path().join("steady"))
}

fn flood(dir: &Path) -> Outcome {
    let broker = Broker::start(dir, "max_queued_messages 0\n")?;
    let port = broker.port;
    let node = subscribed(&dir.join("node"), port)?;
    let mut bare = Bare::start(port)?;
    let events = events(MESSAGES);
    let syncs = node.status()?.ring.syncs;
    let ((wall, cpu), (bare_wall, _)) = paired_by(
        ROUNDS,
        |n| {
            let cpu = cpu_of(node.pid())?;
            let end = (MESSAGES * (n + 1)) as u64;
            let wall = flooded(port, "node/1", &events, || node.until_end("t", end, PATIENCE).map(drop))?;
            Ok((wall, cpu_of(node.pid())? - cpu))
        },
        |_| Ok((flooded(port, "bare/1", &events, || bare.take(MESSAGES))?, 0.0)),
    )?;
    let syncs = node.status()?.ring.syncs - syncs;
    let (rate, limit) = (MESSAGES as f64 / wall, MESSAGES as f64 / bare_wall);
    println!("{MESSAGES} messages of 100 bytes at QoS 1 from Mosquitto, medians of {ROUNDS} rounds:");
    println!(
        "flood: node, acknowledged when durable, {rate:.0}/s; bare subscriber, acknowledged at once, {limit:.0}/s; ratio {:.2}",
        rate / limit
    );
    println!(
        "flood: {:.0} messages a sync, {:.1} CPU µs a message",
        (MESSAGES * ROUNDS) as f64 / syncs as f64,
        cpu * 1e6 / MESSAGES as f64
    );
    Ok(())
}

fn steady(dir: &Path) -> Outcome {
    let broker = Broker::start(dir, "")?;
    let port = broker.port;
    let node = subscribed(&dir.join("node"), port)?;
    let events = events(STEADY * STEADY_SECONDS);
    let (cpu, before) = (cpu_of(node.pid())?, node.status()?.ring.syncs);
    let started = Instant::now();
    publish(port, "steady", "node/1", &events, Some(Duration::from_secs(1) / STEADY as u32))?;
    let published = started.elapsed().as_secs_f64();
    // What the stock broker has dropped will never come.
    let _ = node.until_end("t", events.len() as u64, Duration::from_secs(2));
    let (taken, syncs) = (node.end_of("t")?, node.status()?.ring.syncs - before);
    println!(
        "steady: {taken} of {} messages published at {:.0}/s became durable; {:.0} messages a sync, {:.1} % of a core",
        events.len(),
        events.len() as f64 / published,
        taken as f64 / syncs as f64,
        (cpu_of(node.pid())? - cpu) * 100.0 / published
    );
    Ok(())
}
