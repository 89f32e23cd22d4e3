//! The life of a board: its first boot, without a network and without the time; the link; a second boot.

use std::time::{SystemTime, UNIX_EPOCH};

use super::machine::{Machine, Setup, fresh_card, word};
use super::node::headwater;
use super::rings::{assert_same, records};
use super::site::{TimeServer, on_the_desk, upstream};

/// Long ago, to the board's clock.
const UNSET: Setup = Setup { clock: Some("2001-09-09T01:46:40"), log: None, ssh: None, init: None };

/// What is made once, at the first boot.
fn identity(machine: &Machine) -> String {
    let keys = "ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub";
    machine.eventually("the SSH server's keys", || (machine.ask(keys).code == Some(0)).then_some(()));
    let ids = machine.ok(&format!("cat /etc/machine-id /etc/hostname; {keys}; ls /etc/ssh/ssh_host_*"));
    format!("{ids}\nring {}", machine.status().ring.id)
}

/// A number of the board's file, in bytes.
fn budget(name: &str) -> u64 {
    let text = word(&format!("budget.{name}"));
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    number.parse::<u64>().unwrap() * if unit == "MiB" { 1 << 20 } else { 1 }
}

/// What the node took of the processor, in hundredths of a second; seconds since power-on; records in the topic `load`.
fn taken(machine: &Machine, pid: &str) -> (f64, f64, u64) {
    let out = machine.ok(&format!("cut -d' ' -f14,15 /proc/{pid}/stat; cut -d' ' -f1 /proc/uptime"));
    let numbers: Vec<f64> = out.split_whitespace().map(|word| word.parse().unwrap()).collect();
    (numbers[0] + numbers[1], numbers[2], machine.end_of("load"))
}

/// Memory and processor of the node while something is done, beside what the board's file grants it.
fn footprint(machine: &Machine, what: &str, seconds: u64) -> u64 {
    let pid = machine.ok("systemctl show -P MainPID headwater");
    let before = taken(machine, &pid);
    machine.ok(&format!("sleep {seconds}"));
    let after = taken(machine, &pid);
    let elapsed = after.1 - before.1;
    let memory = machine.ok(&format!("awk '/^(VmRSS|RssAnon):/ {{ print $2 }}' /proc/{pid}/status"));
    let memory: Vec<u64> = memory.lines().map(|line| line.parse().unwrap()).collect();
    println!(
        "{what}: {} KiB resident ({} of its own), granted {} KiB; {:.1} % of an emulated core, granted {} of the board's; \
         {:.0} records a second",
        memory[0],
        memory[1],
        budget(&format!("memory_{what}")) / 1024,
        (after.0 - before.0) / elapsed,
        word(&format!("budget.cpu_{what}")),
        (after.2 - before.2) as f64 / elapsed,
    );
    memory[0] * 1024
}

/// How much slower a loop of the shell is there than here: what a share of an emulated core means.
fn slowness(machine: &Machine) -> f64 {
    let script = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done";
    let here = std::time::Instant::now();
    assert!(std::process::Command::new("sh").args(["-c", script]).status().unwrap().success());
    let here = here.elapsed();
    let there = std::time::Instant::now();
    machine.ok(script);
    there.elapsed().as_secs_f64() / here.as_secs_f64()
}

/// Lines in a file that grows by 1,000 each second.
fn load(machine: &Machine, seconds: u64) {
    let line = r#"{"sensor":"pump-%04d","pressure":4.21,"flow":17.5,"state":"running","alarm":false}"#;
    machine.ok(&format!("for i in $(seq 1000); do printf '{line}\n' $i; done >/run/thousand"));
    let loads = format!("for i in $(seq {seconds}); do cat /run/thousand; sleep 1; done >>/var/log/plant/load.log");
    machine.ok(&format!("sh -c '{loads}' >/dev/null 2>&1 &"));
}

/// It gives up its secrets once nothing waits, and not before; and is not started again.
fn retires(machine: &Machine) {
    let secret = "/etc/headwater/credentials/bus";
    machine.ok(&format!("test -s {secret}"));
    machine.link(false);
    machine.send("notes", &["one that waits"]);
    // It waits for the link; ^C ends that.
    let said = machine.ask("timeout -s INT 10 headwater retire --node board-1");
    assert_ne!(said.code, Some(0), "{}", said.out);
    println!("{}", said.out);
    machine.ok(&format!("test -s {secret} && headwater reload"));
    machine.eventually("it to collect again", || {
        (machine.ask("echo 'and another' | headwater send notes").code == Some(0)).then_some(())
    });
    machine.drains();
    let said = machine.ok("headwater retire --node board-1");
    println!("{said}");
    machine.ok(&format!("test ! -e {secret} && ! systemctl is-enabled --quiet headwater"));
    assert_eq!(machine.ask("systemctl is-active headwater").out.trim(), "inactive");
}

#[test]
fn a_board_that_was_just_flashed_collects_without_a_network_or_the_time_and_delivers_all_of_it_once() {
    let dir = tempfile::tempdir().unwrap();
    let card = fresh_card(dir.path());
    let machine = Machine::start(&card, &UNSET);
    let power_on = SystemTime::now();
    machine.is_ready();
    println!(
        "/readyz after {:.0?} of emulation; the machine is up for {} s",
        machine.started.elapsed(),
        machine.ok("cut -d' ' -f1 /proc/uptime")
    );
    machine.eventually("the machine's log", || (machine.end_of("plant") >= 5).then_some(()));
    // A disk that comes late is taken when it is there.
    machine.eventually("the disk", || (!machine.status().ring.in_memory).then_some(()));
    let status = machine.status();
    assert_eq!(status.ring.health, "good", "{:?}", status.ring);
    assert!(!status.clock.trusted, "{:?}", status.clock);
    assert_eq!((status.node.as_str(), status.sinks[0].delivered), ("board-1", 0));
    let made = identity(&machine);
    println!("a loop of the shell takes {:.0} times as long there as here", slowness(&machine));
    machine.ok("systemctl stop plant");
    let resident = footprint(&machine, "idle", 20);
    machine.ok("systemctl start plant");
    assert!(resident <= budget("memory_idle"), "{resident} bytes are resident at rest");
    load(&machine, 25);
    machine.eventually("load", || (machine.end_of("load") > 0).then_some(()));
    let resident = footprint(&machine, "busy", 15);
    assert!(resident <= budget("memory_busy"), "{resident} bytes are resident at work");
    assert_eq!(machine.send("notes", &["before the link"]), ["0"]);

    let (mut upstream, _time) = (upstream(), TimeServer::start());
    machine.drains();
    // It asks once in a while; the cable was out for long.
    machine.ok("systemctl restart systemd-timesyncd");
    machine.eventually("the time", || machine.status().clock.trusted.then_some(()));
    assert_eq!(identity(&machine), made, "{}", machine.journal());
    machine.link(false);
    machine.shut_down();

    let machine = Machine::start(&card, &UNSET);
    machine.is_ready();
    assert_eq!(identity(&machine), made, "{}", machine.journal());
    assert_eq!(machine.send("notes", &["of the second boot"]), ["1"]);
    machine.eventually("a minute of the machinery's log", || (machine.end_of("plant") >= 60).then_some(()));
    machine.ok("systemctl stop plant; sleep 3");
    machine.drains();
    retires(&machine);
    machine.shut_down();
    upstream.stop();

    let desk = on_the_desk(&card);
    for (topic, least) in [("plant", 60), ("load", 10_000), ("notes", 4)] {
        let stored = records(&desk.data(), topic);
        println!("{topic}: {} records", stored.len());
        assert!(stored.len() >= least, "{topic}: {}", stored.len());
        assert_same(topic, &stored, &records(&upstream.data(), topic));
    }
    let verified = headwater(&["ring", "verify", &desk.data().display().to_string()], "").ok();
    println!("{verified}");
    // What was taken while the clock showed 2001 has its time.
    let first =
        ["tail", "plant", "--json", "-n", "1", "--from-beginning", "--data-dir", &desk.data().display().to_string()];
    let first: serde_json::Value = serde_json::from_str(&headwater(&first, "").ok()).unwrap();
    let taken = seconds(first["time"].as_str().unwrap()) - power_on.duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    println!("the first line was taken {taken:.0} s after power-on");
    // Other than the clock's own mistake this is what it takes to boot.
    assert!((0.0..300.0).contains(&taken), "{first}");
}

/// Since 1970, of a time as RFC 3339 has it.
fn seconds(time: &str) -> f64 {
    let date = std::process::Command::new("date").args(["-d", time, "+%s.%N"]).output().unwrap();
    String::from_utf8(date.stdout).unwrap().trim().parse().unwrap_or_else(|_| panic!("no time: {time}"))
}
