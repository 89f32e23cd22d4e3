//! Real local events for the demo: a log that is appended and rotated, syslog over UDP and TCP, MQTT messages through a
//! local broker, and bursts of simulated sensors over a socket. Every event carries a number.

use std::cell::{Cell, RefCell};
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use rumqttc::{AsyncClient, Event, Incoming, MqttOptions, QoS};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{MissedTickBehavior, interval, sleep};

/// Where the edge listens.
#[derive(Clone, Debug)]
pub struct Targets {
    pub log: PathBuf,
    pub syslog_udp: SocketAddr,
    pub syslog_tcp: SocketAddr,
    pub sensors: SocketAddr,
    /// Broker and topic prefix; None: no broker was reachable.
    pub mqtt: Option<(String, u16, String)>,
}

/// What was sent, for the table.
#[derive(Default)]
pub struct Sent {
    pub log: Cell<u64>,
    pub syslog: Cell<u64>,
    pub sensors: Cell<u64>,
    pub mqtt: Cell<u64>,
    /// Payloads that the broker took over: each must be upstream.
    pub mqtt_acked: RefCell<Vec<String>>,
    pub stop: Cell<bool>,
}

impl Sent {
    /// How many of the log's lines and of the readings the edge's rules keep.
    pub fn wanted(&self) -> [(&'static str, u64); 2] {
        let count = |n: u64, keeps: fn(u64) -> bool| (1..=n).filter(|n| keeps(*n)).count() as u64;
        [("log", count(self.log.get(), is_warning)), ("sensors", count(self.sensors.get(), |n| reading(n) > THRESHOLD))]
    }
}

fn add(counter: &Cell<u64>, n: u64) -> u64 {
    counter.set(counter.get() + n);
    counter.get()
}

/// Starts all of it; `sent.stop` ends it.
pub fn start(targets: &Targets, sent: &Rc<Sent>) -> Vec<tokio::task::JoinHandle<()>> {
    let mut tasks = vec![
        tokio::task::spawn_local(log(targets.log.clone(), sent.clone())),
        tokio::task::spawn_local(syslog(targets.clone(), sent.clone())),
        tokio::task::spawn_local(sensors(targets.sensors, sent.clone())),
    ];
    if let Some((host, port, prefix)) = targets.mqtt.clone() {
        tasks.push(tokio::task::spawn_local(mqtt(host, port, prefix, sent.clone())));
    }
    tasks
}

/// 200 lines a second, one in four worth keeping; renamed away every 7 s.
async fn log(path: PathBuf, sent: Rc<Sent>) {
    let mut tick = interval(Duration::from_millis(100));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut ticks = 0u32;
    while !sent.stop.get() {
        tick.tick().await;
        ticks += 1;
        if ticks.is_multiple_of(70) {
            // A rotation that fails leaves a longer file.
            let _ = std::fs::rename(&path, path.with_extension(format!("log.{}", ticks / 70)));
        }
        let Ok(mut file) = std::fs::OpenOptions::new().create(true).append(true).open(&path) else { continue };
        let mut text = String::new();
        for _ in 0..20 {
            let n = add(&sent.log, 1);
            let level = if is_warning(n) { "WARN" } else { "DEBUG" };
            text.push_str(&format!("line {n} {level} pump controller: pressure {} kPa\n", 300 + n % 77));
        }
        let _ = file.write_all(text.as_bytes());
    }
}

async fn syslog(targets: Targets, sent: Rc<Sent>) {
    let Ok(udp) = UdpSocket::bind("127.0.0.1:0").await else { return };
    let mut tcp = None;
    let mut tick = interval(Duration::from_millis(50));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !sent.stop.get() {
        tick.tick().await;
        let n = add(&sent.syslog, 1);
        let message = format!("<134>1 2026-01-01T00:00:00Z demo-host pumpd 77 - - udp event {n}");
        let _ = udp.send_to(message.as_bytes(), targets.syslog_udp).await;
        if tcp.is_none() {
            tcp = TcpStream::connect(targets.syslog_tcp).await.ok();
        }
        if let Some(stream) = &mut tcp {
            let n = add(&sent.syslog, 1);
            let message = format!("<131>1 2026-01-01T00:00:00Z demo-host pumpd 77 - - tcp event {n}");
            let framed = format!("{} {message}", message.len());
            if stream.write_all(framed.as_bytes()).await.is_err() {
                tcp = None;
            }
        }
    }
}

/// Readings in a burst; one every 2 s.
const BURST: usize = 16_000;

/// What sensor reading `n` says.
pub fn reading(n: u64) -> u64 {
    (n.wrapping_mul(2_654_435_761) >> 7) % 1000
}

/// Readings at most this high are dropped by the demo's rule.
pub const THRESHOLD: u64 = 250;

/// Whether log line `n` is one that the demo's rule keeps.
pub fn is_warning(n: u64) -> bool {
    n.is_multiple_of(4)
}

/// A burst of readings every 2 s.
async fn sensors(address: SocketAddr, sent: Rc<Sent>) {
    let mut stream = None;
    while !sent.stop.get() {
        if stream.is_none() {
            stream = TcpStream::connect(address).await.ok();
        }
        if let Some(connected) = &mut stream {
            let mut text = String::with_capacity(BURST * 56);
            for _ in 0..BURST {
                let n = add(&sent.sensors, 1);
                let value = reading(n);
                text.push_str(&format!("{{\"sensor\":\"s-{}\",\"n\":{n},\"value\":{value}}}\n", n % 40));
            }
            if connected.write_all(text.as_bytes()).await.is_err() {
                stream = None;
            }
        }
        sleep(Duration::from_secs(2)).await;
    }
}

/// 20 messages a second at QoS 1; what the broker acknowledged is remembered.
async fn mqtt(host: String, port: u16, prefix: String, sent: Rc<Sent>) {
    let mut options = MqttOptions::new(format!("{}-load", prefix.replace('/', "-")), host, port);
    options.set_keep_alive(Duration::from_secs(10));
    let (client, mut events) = AsyncClient::new(options, 64);
    let acks = sent.clone();
    let poller = tokio::task::spawn_local(async move {
        // Messages are acknowledged in the order in which they were sent.
        while let Ok(event) = events.poll().await {
            if let Event::Incoming(Incoming::PubAck(_)) = event {
                let n = acks.mqtt_acked.borrow().len() as u64 + 1;
                acks.mqtt_acked.borrow_mut().push(payload(n));
            }
        }
    });
    let mut tick = interval(Duration::from_millis(50));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !sent.stop.get() {
        tick.tick().await;
        let n = add(&sent.mqtt, 1);
        let topic = format!("{prefix}/pump-{}/flow", n % 5);
        if client.publish(topic, QoS::AtLeastOnce, false, payload(n)).await.is_err() {
            break;
        }
    }
    // The last acknowledgements.
    sleep(Duration::from_millis(500)).await;
    poller.abort();
}

fn payload(n: u64) -> String {
    format!("{{\"n\":{n},\"flow\":{}}}", n % 97)
}
