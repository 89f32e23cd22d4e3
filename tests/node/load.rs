//! Load for a node that is killed again and again: the real `headwater send` and a real MQTT publisher, and what they
//! were told was kept.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rumqttc::{Client, Event, Incoming, MqttOptions, Outgoing, QoS};

use super::node::BINARY;

/// Lines go in bursts of this many, so that a kill finds some under way.
const BURST: usize = 20;
/// Pace, not synchronisation: so that the test's length does not decide how much there is to compare.
const PAUSE: Duration = Duration::from_millis(20);

/// What `headwater send` printed.
#[derive(Default)]
pub struct Printed {
    /// Line by its offset.
    pub offsets: BTreeMap<u64, String>,
    pub filtered: Vec<String>,
    /// Lines given to the command, answered or not.
    pub sent: u64,
    pub sessions: u64,
}

/// Sends numbered lines, one session of the command after the other.
pub struct Sender {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Printed>,
}

impl Sender {
    pub fn start(topic: &str, config: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, topic, config) = (stop.clone(), topic.to_owned(), config.to_owned());
        let thread = std::thread::spawn(move || {
            let mut printed = Printed::default();
            while !stopped.load(Ordering::SeqCst) {
                session(&topic, &config, &stopped, &mut printed);
                std::thread::sleep(PAUSE);
            }
            printed
        });
        Self { stop, thread }
    }

    /// Ends the input, waits for the last answers.
    pub fn stop(self) -> Printed {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().expect("a sender that does not panic")
    }
}

/// One run of the command, until the node is killed under it or the load ends.
fn session(topic: &str, config: &str, stop: &Arc<AtomicBool>, printed: &mut Printed) {
    let mut child = Command::new(BINARY)
        .args(["send", topic, "--ack", "durable", "-c", config])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let stdin = child.stdin.take().unwrap();
    let given = Arc::new(Mutex::new(Vec::new()));
    let (noted, ends, first) = (given.clone(), stop.clone(), printed.sent);
    let feeder = std::thread::spawn(move || feed(stdin, first, &noted, &ends));
    let mut answers = Vec::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        answers.push(line.unwrap());
    }
    let status = child.wait().unwrap();
    feeder.join().unwrap();
    let given = std::mem::take(&mut *given.lock().unwrap());
    if status.success() {
        assert_eq!(given.len(), answers.len(), "a session that ends well has answered every line");
    }
    printed.sent += given.len() as u64;
    printed.sessions += 1;
    // A line may have been cut by the kill only if its line break is missing: `send` prints whole lines.
    for (line, answer) in given.into_iter().zip(answers) {
        match answer.as_str() {
            "filtered" => printed.filtered.push(line),
            offset => {
                let offset = offset.parse().unwrap_or_else(|_| panic!("no offset: {offset}"));
                let before = printed.offsets.insert(offset, line.clone());
                assert_eq!(before, None, "offset {offset} was printed for two lines, the second is {line}");
            }
        }
    }
}

/// Lines from `first` on until the command takes no more; every tenth is one that a rule drops.
fn feed(mut stdin: ChildStdin, first: u64, given: &Mutex<Vec<String>>, stop: &AtomicBool) {
    for burst in 0.. {
        if stop.load(Ordering::SeqCst) {
            return;
        }
        let numbers = first + burst * BURST as u64..first + (burst + 1) * BURST as u64;
        let line = |n: u64| format!("line {n} {}", if n.is_multiple_of(10) { "DROP" } else { "keep" });
        let lines: Vec<_> = numbers.map(line).collect();
        let text = lines.join("\n") + "\n";
        given.lock().unwrap().extend(lines);
        if stdin.write_all(text.as_bytes()).is_err() {
            return;
        }
        std::thread::sleep(PAUSE);
    }
}

/// Publishes numbered messages at QoS 1; what the broker acknowledged is its word to deliver them.
pub struct Publisher {
    stop: Arc<AtomicBool>,
    acked: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

pub fn message(n: u64) -> String {
    format!("message {n}")
}

impl Publisher {
    pub fn start(port: u16) -> Self {
        let (stop, acked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut options = MqttOptions::new("load", "127.0.0.1", port);
        options.set_keep_alive(Duration::from_secs(60));
        let (client, mut connection) = Client::new(options, 64);
        let counted = acked.clone();
        let poll = std::thread::spawn(move || {
            for event in connection.iter() {
                match event {
                    // Acknowledged in the order in which they were published.
                    Ok(Event::Incoming(Incoming::PubAck(_))) => drop(counted.fetch_add(1, Ordering::SeqCst)),
                    Ok(Event::Outgoing(Outgoing::Disconnect)) => return,
                    Ok(_) => {}
                    Err(error) => panic!("the broker went away: {error}"),
                }
            }
        });
        let ends = stop.clone();
        let acks = acked.clone();
        let publish = std::thread::spawn(move || {
            let mut sent = 0;
            let send = |topic: &str, n: u64| client.publish(topic, QoS::AtLeastOnce, false, message(n)).unwrap();
            while !ends.load(Ordering::SeqCst) {
                for _ in 0..4 {
                    send("load/numbers", sent);
                    sent += 1;
                }
                std::thread::sleep(PAUSE);
            }
            // Behind all others, for whoever waits for the last one.
            send("load/end", sent);
            while acks.load(Ordering::SeqCst) <= sent {
                std::thread::sleep(PAUSE);
            }
            client.disconnect().unwrap();
        });
        Self { stop, acked, threads: vec![publish, poll] }
    }

    /// Gives how many numbered messages the broker acknowledged: all.
    pub fn stop(self) -> u64 {
        self.stop.store(true, Ordering::SeqCst);
        for thread in self.threads {
            thread.join().expect("a publisher that does not panic");
        }
        self.acked.load(Ordering::SeqCst) - 1
    }
}
