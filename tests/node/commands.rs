//! Commands against a running node, and against the ring of a stopped one.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use headwater::backoff::Rng;

use super::node::{BINARY, Node, config, eventually, free_port, headwater};

const NO_DEBUG: &str = "[[rules]]\nname = \"no-debug\"\ntopics = [\"notes\"]\nuses = \"filter\"\n\
                        with = { not = { contains = \"DEBUG\" } }\n";

fn numbered(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|i| format!("n{i}")).collect()
}

fn send_numbered(node: &Node, range: std::ops::Range<usize>) {
    let lines = numbered(range);
    node.send("notes", &lines.iter().map(String::as_str).collect::<Vec<_>>());
}

/// A command that goes on beside the test.
fn piped(node: &Node, args: &[&str]) -> Child {
    let mut command = Command::new(BINARY);
    command.args(args).args(["-c", &node.config_path()]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn send_prints_an_offset_or_filtered_for_each_line_in_order() {
    let node = Node::started(NO_DEBUG);
    assert_eq!(node.send("notes", &["a", "DEBUG b", "c", "", "d\te\""]), ["0", "filtered", "1", "2", "3"]);
    assert_eq!(node.send("notes", &["f"]), ["4"]);
    assert_eq!(node.tail("notes", 5), ["a", "c", "", "d\te\"", "f"]);
    // The last line needs no break.
    assert_eq!(node.run_with(&["send", "notes"], "g").ok(), "5\n");
    assert_eq!(node.run_with(&["send", "notes"], "").ok(), "");
    let many: Vec<_> = (0..20_000).map(|i| format!("line {i}")).collect();
    let answers = node.send("bulk", &many.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(answers, (0..20_000).map(|i| i.to_string()).collect::<Vec<_>>());
}

#[test]
fn a_topic_that_a_rule_has_stopped_is_told_of_to_who_sends_who_checks_and_in_the_events() {
    let node = Node::started(
        "[[rules]]\nname = \"strict\"\ntopics = [\"valves\"]\nuses = \"drop-fields\"\non_error = \"stop\"\n\
         with = { fields = [\"a\"] }\n",
    );
    assert_eq!(node.send("valves", &["no JSON"]), ["0"]);
    let mut child = piped(&node, &["send", "valves"]);
    let mut stdin = child.stdin.take().unwrap();
    writeln!(stdin, "{{\"a\":1}}").unwrap();
    drop(stdin);
    let told = BufReader::new(child.stderr.take().unwrap()).lines().next().unwrap().unwrap();
    assert!(told.starts_with("waiting: topic `valves` takes nothing: rule `strict` has stopped it ("), "{told}");
    let check = node.run(&["status", "--check"]);
    assert_eq!(check.code, Some(2), "{}", check.out);
    assert!(check.out.starts_with("HEADWATER CRITICAL - rule strict has stopped topic valves: "), "{}", check.out);
    let told = |what: &str| node.run(&["events", "-n", "1000"]).ok().contains(what).then_some(());
    eventually("that it stopped", || {
        told("rule strict  down: topic `valves` takes nothing until `headwater reload`: ")
    });
    node.run(&["reload"]).ok();
    let done = child.wait_with_output().unwrap();
    assert_eq!((done.status.code(), done.stdout.as_slice()), (Some(0), &b"1\n"[..]));
    eventually("that it goes on", || told("rule strict  up: its topics take records again"));
    assert!(!node.run(&["status", "--check"]).out.contains("has stopped"));
}

#[test]
fn send_answers_a_line_before_the_next_one_is_typed() {
    let node = Node::started("");
    let mut child = Command::new(BINARY)
        .args(["send", "notes", "-c", &node.config_path()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut stdin, mut answers) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()).lines());
    for n in 0..3 {
        writeln!(stdin, "line {n}").unwrap();
        assert_eq!(answers.next().unwrap().unwrap(), n.to_string());
    }
    drop(stdin);
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_line_larger_than_a_record_is_refused_and_the_others_are_kept() {
    let node = Node::started("");
    let large = "x".repeat(600 * 1024);
    let done = node.run_with(&["send", "notes"], &format!("a\n{large}\nb\n"));
    assert_eq!(done.out, "0\nrefused\n1\n");
    assert!(done.failed(1).contains("larger than"));
}

#[test]
fn a_carriage_return_before_a_line_s_end_is_part_of_that_end() {
    let node = Node::started("");
    let done = node.run_with(&["send", "notes"], "a\r\nb\r\r\n\r\nc\rd\ne\r");
    assert_eq!(done.ok(), "0\n1\n2\n3\n4\n");
    let out = node.run(&["tail", "notes", "--from-beginning", "-n", "5", "--json"]).ok();
    let values: Vec<serde_json::Value> =
        out.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["value"].take()).collect();
    assert_eq!(values, ["a", "b\r", "", "c\rd", "e\r"]);
}

#[test]
fn send_to_a_reserved_or_impossible_topic_is_refused_in_words() {
    let node = Node::started("");
    assert!(node.run_with(&["send", "headwater-x"], "a\n").failed(1).contains("node's own"));
    assert!(node.run_with(&["send", "No Topic"], "a\n").failed(1).contains("No Topic"));
}

#[test]
fn tail_shows_the_newest_the_oldest_or_what_comes() {
    let mut node = Node::started("");
    send_numbered(&node, 0..20);
    assert_eq!(node.tail("notes", 3), ["n0", "n1", "n2"]);
    assert_eq!(node.run(&["tail", "notes", "-n", "3"]).ok(), "n17\nn18\nn19\n");
    let mut child = Command::new(BINARY)
        .args(["tail", "notes", "--from-beginning", "-c", &node.config_path()])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = |n: usize| lines.by_ref().take(n).collect::<Result<Vec<_>, _>>().unwrap();
    assert_eq!(next(20), numbered(0..20));
    send_numbered(&node, 20..30);
    assert_eq!(next(10), numbered(20..30));
    node.stop();
    assert_eq!(child.wait().unwrap().code(), Some(1), "a tail ends with its node");
}

#[test]
fn tail_as_json_shows_offset_time_and_bytes_that_are_no_text() {
    let node = Node::started("");
    node.send("notes", &["plain"]);
    let done = Command::new(BINARY)
        .args(["send", "notes", "-c", &node.config_path()])
        .stdin(Stdio::from(std::fs::File::open("/dev/null").unwrap()))
        .output()
        .unwrap();
    assert!(done.status.success());
    let bytes = node.path("bytes");
    std::fs::write(&bytes, b"\xff\xfe\n").unwrap();
    let done = Command::new(BINARY)
        .args(["send", "notes", "-c", &node.config_path()])
        .stdin(Stdio::from(std::fs::File::open(&bytes).unwrap()))
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(done.stdout).unwrap(), "1\n");
    let out = node.run(&["tail", "notes", "--from-beginning", "-n", "2", "--json"]).ok();
    let shown: Vec<serde_json::Value> = out.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!((&shown[0]["offset"], &shown[0]["value"]), (&0.into(), &"plain".into()));
    assert!(shown[0]["time"].as_str().unwrap().starts_with("20"), "{out}");
    assert_eq!((&shown[1]["offset"], &shown[1]["value_hex"]), (&1.into(), &"fffe".into()));
}

#[test]
fn tail_names_the_topics_there_are_and_waits_for_the_first_record_of_one_that_may_come() {
    let node = Node::started("");
    node.send("notes", &["a"]);
    for (topic, more) in
        [("nots", &[][..]), ("noes", &["-n", "2"]), ("note", &["--from-beginning"]), ("not", &["--partition", "0"])]
    {
        let mut tail = piped(&node, &[&["tail", topic], more].concat());
        let mut said = BufReader::new(tail.stderr.take().unwrap()).lines();
        let said = said.next().unwrap().unwrap();
        assert!(said.contains(&format!("no topic `{topic}` yet")) && said.contains("notes"), "{said}");
        node.send(topic, &["first", "second"]);
        let shown = BufReader::new(tail.stdout.take().unwrap()).lines().take(2);
        assert_eq!(shown.collect::<Result<Vec<_>, _>>().unwrap(), ["first", "second"]);
        let _ = tail.kill();
        tail.wait().unwrap();
    }
    // These never come.
    assert!(node.run(&["tail", "Nots"]).failed(1).contains("write `nots`"));
    assert!(node.run(&["tail", "headwater-statu"]).failed(1).contains("headwater-status"));
    assert!(node.run(&["tail", "notes", "--partition", "1"]).failed(1).contains("partitions 0 to 0"));
}

#[test]
fn a_command_whose_node_dies_says_so_in_words() {
    let mut node = Node::started("");
    let mut send = piped(&node, &["send", "notes"]);
    let mut tail = piped(&node, &["tail", "notes", "--from-beginning"]);
    let mut stdin = send.stdin.take().unwrap();
    let mut answers = BufReader::new(send.stdout.take().unwrap()).lines();
    let mut shown = BufReader::new(tail.stdout.take().unwrap()).lines();
    writeln!(stdin, "line").unwrap();
    assert_eq!(answers.next().unwrap().unwrap(), "0");
    assert_eq!(shown.next().unwrap().unwrap(), "line");
    // What it has not read when it dies resets the connection.
    node.signal("STOP");
    for _ in 0..1000 {
        writeln!(stdin, "line").unwrap();
    }
    node.kill();
    drop(stdin);
    for (command, words) in [(send, "lines without an answer may or may not be kept"), (tail, "stopped or killed")] {
        let done = command.wait_with_output().unwrap();
        let said = String::from_utf8(done.stderr).unwrap();
        assert_eq!(done.status.code(), Some(1), "{said}");
        assert!(said.contains(words) && !said.contains("os error"), "{said}");
    }
}

#[test]
fn tail_reads_the_ring_of_a_stopped_node() {
    let mut node = Node::started("");
    send_numbered(&node, 0..50);
    node.stop();
    let data = node.data().display().to_string();
    let tail = |more: &[&str]| headwater(&[&["tail", "notes", "--data-dir", &data], more].concat(), "");
    let all = numbered(0..50).join("\n") + "\n";
    assert_eq!(tail(&[]).ok(), all);
    assert_eq!(tail(&["-n", "2"]).ok(), "n48\nn49\n");
    assert_eq!(tail(&["-n", "2", "--from-beginning"]).ok(), "n0\nn1\n");
    let first: serde_json::Value = serde_json::from_str(tail(&["--json"]).ok().lines().next().unwrap()).unwrap();
    assert_eq!((&first["offset"], &first["value"]), (&0.into(), &"n0".into()));
    assert!(headwater(&["tail", "nots", "--data-dir", &data], "").failed(1).contains("notes"));
    // Nothing was written: the next start still finds the clean end.
    node.start();
    assert!(node.status().ring.recovery.clean_shutdown);
    // The socket that a killed node leaves is no running node.
    node.kill();
    assert_eq!(tail(&[]).ok(), all);
}

#[test]
fn status_is_a_page_for_people_json_for_programs_and_a_line_for_monitoring() {
    let mut node = Node::started("[sinks.out]\ntype = \"file\"\npath = \"{dir}/out\"\ntopics = [\"*\"]\n");
    node.send("notes", &["a", "b"]);
    node.run(&["drain"]).ok();
    let status = node.status();
    assert_eq!((status.node.as_str(), status.ring.health.as_str()), ("edge", "good"));
    assert_eq!((status.sinks[0].delivered, status.sinks[0].pending), (2, 0));
    assert!(status.ring.recovery.fresh);
    let page = node.run(&["status"]).ok();
    assert!(page.contains("edge") && page.contains("out"), "{page}");
    let check = node.run(&["status", "--check"]);
    // A build machine's clock may be synchronised or not.
    let (code, word) = if status.clock.trusted { (0, "OK") } else { (1, "WARNING") };
    assert_eq!(check.code, Some(code), "{check:?}");
    assert!(check.out.starts_with(&format!("HEADWATER {word} - ")), "{check:?}");
    node.stop();
    let check = node.run(&["status", "--check"]);
    assert_eq!(check.code, Some(3), "{check:?}");
    assert!(check.out.starts_with("HEADWATER UNKNOWN - no node answers"), "{check:?}");
    assert!(node.run(&["status"]).failed(1).contains("headwater run"));
}

#[test]
fn check_says_warning_for_a_sink_that_is_down() {
    let node = Node::started(&format!(
        "[sinks.hq]\ntype = \"fluvio\"\nendpoint = [\"127.0.0.1:{}\"]\ntopics = [\"*\"]\n",
        free_port()
    ));
    node.says("hq", "down", "refused");
    let check = node.run(&["status", "--check"]);
    assert_eq!(check.code, Some(1), "{check:?}");
    assert!(check.out.contains("hq down") && check.out.contains("waiting_hq=0"), "{check:?}");
}

#[test]
fn events_show_the_newest_state_changes_and_survive_a_restart() {
    let mut node = Node::started("[sinks.out]\ntype = \"file\"\npath = \"{dir}/out\"\ntopics = [\"*\"]\n");
    let seen = |node: &Node| node.run(&["events", "-n", "1000"]).ok();
    eventually("events of the sink", || seen(&node).contains("sink out  up").then_some(()));
    node.run(&["sink", "pause", "out"]).ok();
    eventually("the pause", || seen(&node).contains("sink out  paused").then_some(()));
    node.stop();
    node.start();
    let all = seen(&node);
    assert!(all.contains("node  up: stopping") && all.contains("sink out  paused"), "{all}");
    let last = node.run(&["events", "-n", "1", "--json"]).ok();
    assert_eq!(last.lines().count(), 1);
    let event: serde_json::Value = serde_json::from_str(&last).unwrap();
    assert!(event["kind"].is_string() && event["wall_us"].is_i64(), "{last}");
}

#[test]
fn drain_without_sinks_says_so_and_one_that_cannot_end_is_ended_by_the_shutdown() {
    let node = Node::started("");
    assert!(node.run(&["drain"]).ok().contains("no sink"));
    let mut node = Node::new(&config(
        "edge",
        &format!("[sinks.hq]\ntype = \"fluvio\"\nendpoint = [\"127.0.0.1:{}\"]\ntopics = [\"*\"]\n", free_port()),
    ));
    node.start();
    node.send("notes", &["a"]);
    let mut drain = Command::new(BINARY);
    drain.args(["drain", "-c", &node.config_path()]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let drain = drain.spawn().unwrap();
    // Paused sinks are not waited for.
    node.run(&["sink", "pause", "hq"]).ok();
    let out = drain.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success() && said.contains("hq"), "{said}");
    node.run(&["sink", "resume", "hq"]).ok();
    let mut waits = Command::new(BINARY)
        .args(["drain", "-c", &node.config_path()])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut progress = BufReader::new(waits.stderr.take().unwrap()).lines();
    assert!(progress.next().unwrap().unwrap().starts_with("hq: "));
    node.stop();
    assert_eq!(waits.wait().unwrap().code(), Some(1));
}

#[test]
fn a_reader_that_goes_away_ends_a_command_quietly() {
    let node = Node::started("");
    node.send("notes", &["a"]);
    for words in
        [&["status"][..], &["status", "--json"], &["status", "--check"], &["events"], &["tail", "notes", "-n", "1"]]
    {
        let (reader, closed) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = Command::new(BINARY);
        command.args(words).args(["-c", &node.config_path()]).stdout(closed).stderr(Stdio::piped());
        let out = command.output().unwrap();
        // The check's exit code is its answer: 1 where the clock is not trusted.
        let good = out.status.code() == Some(0) || words.contains(&"--check") && out.status.code() == Some(1);
        assert!(good && out.stderr.is_empty(), "{words:?}: {out:?}");
    }
}

#[test]
fn a_ring_that_evicts_says_so_on_the_page_to_monitoring_and_as_an_event() {
    let refused =
        format!("[sinks.hq]\ntype = \"fluvio\"\nendpoint = [\"127.0.0.1:{}\"]\ntopics = [\"*\"]\n", free_port());
    // In one lane, so that the node's own records go the way of all others.
    let config = config("edge", &refused).replace("\"64MiB\"", "\"4MiB\"\nlanes = [\"normal\"]");
    let mut node = Node::new(&config);
    node.start();
    // 16 MiB that a compressor makes 8 of: twice the ring.
    let mut rng = Rng::new(7);
    let lines: String =
        (0..512 * 1024).map(|_| format!("{:016x}{:015x}\n", rng.next_u64(), rng.next_u64() >> 4)).collect();
    node.run_with(&["send", "notes"], &lines).ok();
    assert!(node.sink("hq").evicted > 0);
    eventually("the page", || node.run(&["status"]).ok().contains("FULL, the oldest are evicted").then_some(()));
    let check = node.run(&["status", "--check"]);
    assert_eq!(check.code, Some(2), "{check:?}");
    assert!(check.out.contains("ring full, the oldest are evicted"), "{check:?}");
    let told = || node.run(&["events"]).ok().contains("disk ring  warn: full: the oldest records");
    eventually("the event", || told().then_some(()));
    // What was said before all that is evicted as a record and still known, also when the node is stopped.
    let first = node.run(&["events", "-n", "1000"]).ok();
    assert!(first.contains("node  up: running"), "{first}");
    node.run_with(&["send", "notes"], &lines).ok();
    let topics = node.status().topics;
    let records = topics.iter().find(|topic| topic.name == "headwater-events").unwrap();
    assert!(records.partitions[0].earliest > 0, "{records:?}");
    node.stop();
    let of_stopped = headwater(&["events", "-n", "1000", "--data-dir", node.data().to_str().unwrap()], "").ok();
    assert!(of_stopped.starts_with(&first), "{of_stopped}");
}

#[test]
fn what_befell_a_record_is_shown_with_it() {
    let mut node = Node::new(&config(
        "edge",
        "[sources.log]\ntype = \"file\"\npaths = [\"{dir}/log.txt\"]\nmax_line = \"256B\"\ntopic = \"notes\"\n",
    ));
    std::fs::write(node.path("log.txt"), format!("short\n{}\n", "x".repeat(300))).unwrap();
    node.start();
    let out = eventually("the topic", || {
        Some(node.run(&["tail", "notes", "--from-beginning", "-n", "2", "--json"])).filter(|done| done.code == Some(0))
    })
    .out;
    let shown: Vec<serde_json::Value> = out.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert!(shown[0].get("flags").is_none(), "{out}");
    assert_eq!(shown[1]["flags"], serde_json::json!(["truncated"]), "{out}");
}

#[test]
fn a_ring_full_of_what_is_kept_holds_its_sender_loses_nothing_and_ends_when_it_is_told() {
    let rest = "[topics.notes]\non_full = \"pause\"\n\n[sinks.out]\ntype = \"file\"\npath = \"{dir}/out.log\"\n\
                topics = [\"notes\"]\n";
    let mut node = Node::new(&config("edge", rest).replace("64MiB", "4MiB"));
    node.start();
    node.run(&["sink", "pause", "out"]).ok();
    let mut rng = Rng::new(8);
    let lines: String =
        (0..256 * 1024).map(|_| format!("{:016x}{:015x}\n", rng.next_u64(), rng.next_u64() >> 4)).collect();
    let config = node.config_path();
    let sender = std::thread::spawn(move || headwater(&["send", "notes", "-c", &config], &lines));
    node.says("ring", "warn", "wait until sinks have sent more");
    assert_eq!(node.sink("out").evicted, 0);
    node.stop();
    assert_ne!(sender.join().unwrap().code, Some(0), "not all was taken");
}
