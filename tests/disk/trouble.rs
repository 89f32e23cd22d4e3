//! A disk that fails under a node that runs. Whatever fails: sources are served, the backlog is read, memory stays
//! bounded, what was acknowledged is there after a kill, and the status says in words what is the matter.

use std::io::Write as _;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::fault::Fault;
use super::kept::{Kept, read};
use super::node::{Node, config, eventually, free_port};

/// A node that takes lines over TCP as well.
struct Site {
    node: Node,
    port: u16,
}

impl Site {
    fn start() -> Self {
        Self::with_ring("8MiB")
    }

    fn with_ring(bytes: &str) -> Self {
        let port = free_port();
        let source =
            format!("[sources.net]\ntype = \"socket\"\nlisten = [\"tcp://127.0.0.1:{port}\"]\ntopic = \"net\"\n");
        // Not to a file: the calls that fail would fail there as well.
        let sink = "[sinks.out]\ntype = \"stdout\"\ntopics = [\"notes\"]\n";
        let source = source + sink;
        let mut node = Node::new(&config("edge", &source).replace("64MiB", bytes));
        node.start();
        node.says("net", "up", "");
        Self { node, port }
    }

    /// What its sink wrote: what is in the log and begins with no time.
    fn written(&self) -> Vec<String> {
        self.node.log().lines().filter(|line| !line.starts_with("20")).map(String::from).collect()
    }

    /// Lines of this kind, acknowledged.
    fn sends(&self, kind: &str, count: usize) -> Vec<String> {
        let lines: Vec<String> = (0..count).map(|n| format!("{kind}: {n}")).collect();
        let texts: Vec<_> = lines.iter().map(String::as_str).collect();
        assert_eq!(self.node.send("notes", &texts).len(), count, "an answer for each line");
        lines
    }

    /// Its socket takes lines and its status answers.
    fn is_served(&self) {
        let mut peer = TcpStream::connect(("127.0.0.1", self.port)).expect("the source listens");
        peer.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
        peer.write_all(b"a line\n").expect("the source takes it");
        self.node.status();
    }

    fn rss_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.node.pid())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
        line.trim().trim_end_matches("kB").trim().parse().expect("a number")
    }

    /// Killed, started, stopped: each time what was acknowledged is there.
    fn holds(&mut self, kept: &Kept) {
        self.node.kill();
        assert_eq!(kept.check(&self.node.data()), 0, "nothing had to be evicted");
        self.node.start();
        assert_eq!(self.node.status().ring.health, "good");
        self.node.stop();
        kept.check(&self.node.data());
    }
}

#[test]
fn a_call_that_fails_once_costs_nothing_and_heals_by_itself() {
    for fault in [
        "fdatasync:error=EIO:when=1",
        "fdatasync:error=ENOSPC:when=1",
        "pwrite64:error=EIO:when=1",
        "pwrite64:error=ENOSPC:when=2",
        // Nothing was written, and no error said: as at the end of a device.
        "pwrite64:retval=0:when=1",
    ] {
        let mut site = Site::start();
        let mut kept = Kept::new("notes");
        kept.send(&site.node, 20, 300);
        {
            let Some(injected) = Fault::on(&site.node, fault) else { return };
            for _ in 0..4 {
                kept.send(&site.node, 5, 300);
            }
            assert!(injected.fired() >= 1, "{fault} did not happen");
            site.is_served();
        }
        let ring = site.node.status().ring;
        assert!(ring.failed_syncs >= 1 && ring.health == "good", "{fault}: {ring:?}");
        assert!(!ring.in_memory);
        kept.send(&site.node, 20, 300);
        assert_eq!(site.node.tail("notes", 60).len(), 60, "{fault}");
        site.holds(&kept);
    }
}

#[test]
fn a_slot_that_cannot_be_made_at_once_is_made_a_moment_later() {
    // The last is no failure: a file system that allocates nothing ahead gets zeros instead.
    for (fault, failures) in
        [("fallocate:error=EIO:when=1", 1), ("fsync:error=EIO:when=1", 1), ("fallocate:error=EOPNOTSUPP", 0)]
    {
        let mut site = Site::start();
        let mut kept = Kept::new("notes");
        kept.send(&site.node, 20, 300);
        {
            let Some(injected) = Fault::on(&site.node, fault) else { return };
            // More than the slot that is open takes.
            kept.send(&site.node, 300, 2000);
            assert!(injected.fired() >= 1, "{fault} did not happen");
            site.is_served();
        }
        let ring = site.node.status().ring;
        assert_eq!((ring.failed_syncs, ring.health.as_str()), (failures, "good"), "{fault}: {ring:?}");
        site.holds(&kept);
    }
}

#[test]
fn a_disk_that_fails_and_comes_back_costs_no_record_and_doubles_none() {
    for fault in ["fdatasync:error=EIO", "pwrite64:error=EIO", "pwrite64:error=ENOSPC"] {
        let mut site = Site::start();
        let mut durable = Kept::new("notes");
        let mut given: Vec<String> = Vec::new();
        for round in 0..2 {
            let Some(injected) = fails(&site, fault, round, &mut durable, &mut given) else { return };
            drop(injected);
            site.node.run(&["reload"]).ok();
            site.node.is_in_memory(false);
            site.node.says("memory", "up", "records that were in memory are on it now");
            given.extend(site.sends(&format!("after {round}"), 50));
        }
        eventually("all of it", || (site.written().len() >= given.len()).then_some(()));
        let (mut written, mut once) = (site.written(), given.clone());
        written.sort_unstable();
        once.sort_unstable();
        assert_eq!(written, once, "{fault}: each line once");
        assert_eq!(site.node.status().ring.health, "good");
        site.node.stop();
        durable.check(&site.node.data());
        let (_, found) = read(&site.node.data(), "notes");
        assert!(given.iter().rev().take(50).all(|line| found.values().any(|have| have == line)), "{fault}");
        println!("{fault}: {} lines, each sent once", given.len());
    }
}

#[test]
fn a_disk_that_fails_again_while_the_node_comes_back_to_it_costs_no_record_and_doubles_none() {
    // Room for what is written twice.
    let site = Site::with_ring("32MiB");
    let (mut durable, mut given) = (Kept::new("notes"), Vec::new());
    let Some(injected) = fails(&site, "fdatasync:error=EIO", 0, &mut durable, &mut given) else { return };
    drop(injected);
    site.node.run(&["sink", "pause", "out"]).ok();
    // Some ten commits for the disk to take.
    let mut large = Kept::new("notes");
    large.send(&site.node, 250, 20_000);
    given.extend(large.lines.into_values());
    let Some(injected) = Fault::on(&site.node, "fdatasync:error=EIO:when=15+") else { return };
    site.node.run(&["reload"]).ok();
    eventually("a return that breaks off", || {
        let page = site.node.run(&["status"]);
        (page.code == Some(0) && page.out.contains("it seemed to work again and did not")).then_some(())
    });
    assert!(injected.fired() >= 3);
    drop(injected);
    given.extend(site.sends("in memory again", 10));
    site.node.run(&["reload"]).ok();
    site.node.is_in_memory(false);
    site.node.run(&["sink", "resume", "out"]).ok();
    eventually("all of it", || (site.written().len() >= given.len()).then_some(()));
    let mut written = site.written();
    written.sort_unstable();
    given.sort_unstable();
    assert!(written == given, "each line once");
}

/// The disk fails while a sink has a backlog on it; the node goes on in memory, and says so.
fn fails(site: &Site, fault: &str, round: usize, durable: &mut Kept, given: &mut Vec<String>) -> Option<Fault> {
    let before = given.len();
    if round == 0 {
        durable.send(&site.node, 50, 300);
        given.extend(durable.lines.values().cloned());
    }
    eventually("what is durable", || (site.written().len() == given.len()).then_some(()));
    site.node.run(&["sink", "pause", "out"]).ok();
    given.extend(site.sends(&format!("waiting {round}"), 20));
    let injected = Fault::on(&site.node, fault)?;
    let memory = site.rss_kib();
    let lost = format!("never on the disk {round}");
    site.node.run_with(&["send", "notes", "--ack", "memory"], &format!("{lost}\n")).ok();
    given.push(lost);
    site.node.is_in_memory(true);
    let said = site.node.says("disk", "down", "kept in memory only").what;
    assert!(
        said.contains("slot-") && said.contains(" that are on the disk and not sent wait there"),
        "{fault}: {said}"
    );
    assert!(site.node.run(&["status"]).ok().contains("a power cut loses"));
    site.node.says("net", "up", "");
    for _ in 0..20 {
        site.is_served();
    }
    site.node.run(&["sink", "resume", "out"]).ok();
    given.extend(site.sends(&format!("in memory {round}"), 30));
    eventually("what memory has", || (site.written().len() == given.len() - 20).then_some(()));
    let grown = site.rss_kib().saturating_sub(memory);
    assert!(grown < 16 * 1024, "{fault}: memory grew by {grown} KiB");
    assert!(injected.fired() >= 3 && given.len() > before);
    Some(injected)
}

/// Lines as fast as they are taken, until it is to stop; how many.
fn flood(port: u16, stop: &AtomicBool) -> usize {
    let mut peer = TcpStream::connect(("127.0.0.1", port)).expect("the source listens");
    peer.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
    let lines = format!("{}\n", "x".repeat(499)).repeat(100);
    let mut taken = 0;
    while !stop.load(Ordering::Relaxed) {
        // It is made to wait while the disk is behind.
        taken += peer.write(lines.as_bytes()).unwrap_or(0);
    }
    taken / 500
}

/// `stall`: as strace has it.
fn is_served_while(stall: &str) {
    let mut site = Site::with_ring("16MiB");
    let mut kept = Kept::new("notes");
    kept.send(&site.node, 200, 1000);
    // So that the backlog is on the disk only.
    site.node.stop();
    site.node.start();
    site.node.says("net", "up", "");
    let before = site.rss_kib();
    let Some(injected) = Fault::on(&site.node, stall) else { return };
    let (mut during, mut most, stop) = (0, before, AtomicBool::new(false));
    let flooded = std::thread::scope(|scope| {
        let node = &site.node;
        let kept = &mut kept;
        let flooding = scope.spawn(|| flood(site.port, &stop));
        let stalled = scope.spawn(move || kept.send(node, 2, 300));
        while !stalled.is_finished() {
            site.is_served();
            assert_eq!(site.node.tail("notes", 200).len(), 200);
            during += usize::from(!stalled.is_finished());
            most = most.max(site.rss_kib());
        }
        stop.store(true, Ordering::Relaxed);
        flooding.join().unwrap()
    });
    assert!(injected.fired() >= 1 && during >= 1 && flooded > 0, "{during} reads while the disk stalled");
    assert!(most - before < 16 * 1024, "memory grew by {} KiB", most - before);
    drop(injected);
    kept.send(&site.node, 20, 300);
    site.holds(&kept);
    println!(
        "{stall}: {during} reads of the whole backlog and {flooded} lines of a flood; memory grew by {} KiB",
        most - before
    );
}

#[test]
fn while_a_sync_stalls_for_five_seconds_sources_are_served_and_the_backlog_is_read() {
    is_served_while("fdatasync:delay_enter=5000000");
}

#[test]
fn while_writes_stall_for_five_seconds_sources_are_served_and_the_backlog_is_read() {
    is_served_while("pwrite64:delay_enter=5000000:when=1..2");
}

#[test]
fn what_cannot_be_read_now_can_be_read_by_the_next_process_when_the_disk_reads_again() {
    let mut site = Site::start();
    let mut kept = Kept::new("notes");
    kept.send(&site.node, 200, 1000);
    site.node.stop();
    site.node.start();
    {
        let Some(injected) = Fault::on(&site.node, "pread64:error=EIO") else { return };
        let mut asks = site.node.background(&["tail", "notes", "--from-beginning"]);
        eventually("reads that fail", || (injected.fired() >= 3).then_some(()));
        kept.send(&site.node, 20, 300);
        site.is_served();
        asks.kill().unwrap();
        asks.wait().unwrap();
    }
    site.holds(&kept);
    site.node.start();
    assert_eq!(site.node.tail("notes", 220).len(), 220);
}

#[test]
fn a_sink_waits_out_a_disk_that_does_not_read_for_a_moment() {
    let sink = "[sinks.out]\ntype = \"file\"\npath = \"{dir}/out.log\"\ntopics = [\"notes\"]\n";
    let mut node = Node::new(&config("edge", sink).replace("64MiB", "8MiB"));
    node.start();
    node.run(&["sink", "pause", "out"]).ok();
    // More than the newest frames that are kept in memory.
    Kept::new("notes").send(&node, 1_400, 1_000);
    {
        let Some(injected) = Fault::on(&node, "pread64:error=EIO") else { return };
        node.run(&["sink", "resume", "out"]).ok();
        eventually("reads that fail", || (injected.fired() >= 3).then_some(()));
        node.says("ring", "warn", "what cannot be read is tried again");
    }
    eventually("all of it", || (node.sink("out").delivered == 1_400).then_some(()));
    assert_eq!(node.sink("out").corrupt, 0);
    node.says("ring", "up", "");
}
