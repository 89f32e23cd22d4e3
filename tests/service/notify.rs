//! What the real binary tells a service manager: here a socket of the test's own.

use std::io::{ErrorKind, Write as _};
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::fault::Fault;
use super::node::{BINARY, Node, config, eventually, patience};

/// The service manager's end.
struct Manager {
    socket: UnixDatagram,
    name: String,
}

impl Manager {
    fn beside(node: &Node) -> Self {
        let path = node.path("notify");
        Self { socket: UnixDatagram::bind(&path).unwrap(), name: path.display().to_string() }
    }

    fn start(&self, node: &mut Node, within: Duration) {
        let (socket, micros) =
            (format!("NOTIFY_SOCKET={}", self.name), format!("WATCHDOG_USEC={}", within.as_micros()));
        node.spawn_under(&["env", &socket, &micros]);
    }

    /// The next words; None: nothing for so long.
    fn heard(&self, within: Duration) -> Option<String> {
        self.socket.set_read_timeout(Some(within)).unwrap();
        let mut bytes = [0; 4096];
        match self.socket.recv(&mut bytes) {
            Ok(n) => Some(String::from_utf8_lossy(&bytes[..n]).into_owned()),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// Listens until these words come; gives all that came until then.
    fn until(&self, words: &str) -> Vec<String> {
        let (end, mut all) = (Instant::now() + patience(), Vec::new());
        while Instant::now() < end {
            all.extend(self.heard(Duration::from_secs(1)));
            if all.last().is_some_and(|last| last.contains(words)) {
                return all;
            }
        }
        panic!("never heard {words}, but {all:?}");
    }

    /// Listens to so many pings.
    fn pings(&self, n: usize) -> Vec<String> {
        (0..n).flat_map(|_| self.until("WATCHDOG=1")).collect()
    }
}

fn node() -> Node {
    Node::new(&config("edge", "").replace("heartbeat =", "control = \"{dir}/control.sock\"\nheartbeat ="))
}

fn count(all: &[String], words: &str) -> usize {
    all.iter().filter(|heard| heard.contains(words)).count()
}

#[test]
fn a_manager_is_told_once_that_the_node_is_ready_then_that_it_lives_and_at_the_end_that_it_stops() {
    let mut node = node();
    let manager = Manager::beside(&node);
    manager.start(&mut node, Duration::from_secs(1));
    let before = manager.until("READY=1");
    assert_eq!(count(&before, "WATCHDOG=1"), 0, "{before:?}");
    // What it says of itself is there as soon as it says that it is ready, or in a moment.
    eventually("an answer", || node.answers().then_some(()));
    let mut all = manager.pings(4);
    node.stop();
    all.extend(manager.until("STOPPING=1"));
    assert_eq!(count(&all, "READY=1"), 0, "{all:?}");
    assert_eq!(count(&all, "STATUS=runs"), 1, "only what changes is told: {all:?}");
}

#[test]
fn a_node_that_nobody_listens_to_and_one_that_is_not_watched_tell_nothing_of_it() {
    let mut node = node();
    let manager = Manager::beside(&node);
    node.spawn_under(&["env", "-u", "NOTIFY_SOCKET", "WATCHDOG_USEC=1000000"]);
    eventually("an answer", || node.answers().then_some(()));
    node.stop();
    assert_eq!(manager.heard(Duration::from_millis(1)), None);
    // Of the watchdog of another process.
    let socket = format!("NOTIFY_SOCKET={}", manager.name);
    node.spawn_under(&["env", &socket, "WATCHDOG_USEC=1000000", "WATCHDOG_PID=1"]);
    manager.until("READY=1");
    eventually("an answer", || node.answers().then_some(()));
    node.stop();
    let all = manager.until("STOPPING=1");
    assert_eq!(count(&all, "WATCHDOG=1"), 0, "{all:?}");
}

#[test]
fn a_loop_that_does_not_turn_is_not_alive() {
    let mut node = node();
    let manager = Manager::beside(&node);
    manager.start(&mut node, Duration::from_millis(400));
    manager.pings(2);
    node.signal("STOP");
    // Those that it had sent.
    eventually("silence", || manager.heard(Duration::from_millis(500)).is_none().then_some(()));
    assert_eq!(manager.heard(Duration::from_secs(2)), None);
    node.signal("CONT");
    manager.pings(2);
    node.stop();
}

#[test]
fn a_card_that_hangs_for_longer_than_any_deadline_never_ends_a_node_that_is_well() {
    let mut node = node();
    let manager = Manager::beside(&node);
    manager.start(&mut node, Duration::from_millis(400));
    manager.pings(2);
    eventually("an answer", || node.answers().then_some(()));
    // Nine minutes in each call.
    let Some(fault) = Fault::on(&node, "fdatasync:delay_enter=540000000") else { return };
    let config = node.config_path();
    let mut sender = Command::new(BINARY)
        .args(["send", "notes", "-c", &config])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    sender.stdin.take().unwrap().write_all(b"a\n").unwrap();
    let end = Instant::now() + Duration::from_secs(40);
    let mut pings = 0;
    while Instant::now() < end {
        pings += manager.pings(1).len();
    }
    println!("{pings} pings while a call hung");
    assert!(sender.try_wait().unwrap().is_none(), "the card has taken it");
    assert!(node.answers());
    assert!(!node.log().contains("does not go on"), "{}", node.log());
    drop(fault);
    assert!(sender.wait().unwrap().success());
    assert_eq!(node.tail("notes", 1), ["a"]);
    node.stop();
}

#[test]
fn a_change_of_rings_is_no_second_start_and_no_death() {
    let mut node = node();
    let manager = Manager::beside(&node);
    manager.start(&mut node, Duration::from_millis(400));
    manager.until("READY=1");
    eventually("an answer", || node.answers().then_some(()));
    std::fs::remove_dir_all(node.data()).unwrap();
    node.run_with(&["send", "notes", "--ack", "memory"], "a line\n").ok();
    node.is_in_memory(true);
    let mut all = manager.until("STATUS=runs; down: disk");
    all.extend(manager.pings(4));
    node.run(&["reload"]).ok();
    node.is_in_memory(false);
    all.extend(manager.until("STATUS=runs"));
    all.extend(manager.pings(4));
    assert_eq!(count(&all, "READY=1"), 0, "{all:?}");
    assert_eq!(node.tail("notes", 1), ["a line"]);
    node.stop();
}
