//! `headwater ring`: records out of a ring and into another, and looks at a ring to which a node writes.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use headwater::backoff::Rng;
use serde_json::Value;

use super::node::{BINARY, Done, Node, config, eventually, headwater};

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

fn ring(node: &Node, words: &[&str]) -> Done {
    let data = node.data().display().to_string();
    let words: Vec<_> = ["ring", words[0], &data].into_iter().chain(words[1..].iter().copied()).collect();
    headwater(&words, "")
}

/// What of a record is its own, by topic and partition, in the order of offsets.
fn contents(exported: &str) -> BTreeMap<(String, u64), Vec<String>> {
    let mut contents: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for line in lines(exported) {
        assert!(line.get("gap").is_none(), "{line}");
        let part = (line["topic"].as_str().unwrap().to_owned(), line["partition"].as_u64().unwrap());
        let own = ["key", "key_base64", "value", "value_base64", "attributes"];
        let own: Vec<_> = own.iter().filter_map(|name| line.get(name)).map(ToString::to_string).collect();
        let of = contents.entry(part).or_default();
        assert_eq!(line["offset"], of.len(), "offsets are dense");
        of.push(own.join(" "));
    }
    contents
}

/// A stopped node with records in two topics, some no text.
fn full(records: usize) -> Node {
    let mut node = Node::started("");
    let many: String = (0..records).map(|i| format!("{{\"n\":{i}}}\n")).collect();
    node.run_with(&["send", "pump"], &many).ok();
    let mut send = Command::new(BINARY);
    send.args(["send", "bytes", "-c", &node.config_path()]).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut send = send.spawn().unwrap();
    std::io::Write::write_all(&mut send.stdin.take().unwrap(), b"\xff\x00\n\xe4\ntext\n").unwrap();
    assert!(send.wait().unwrap().success());
    node.stop();
    node
}

/// A stopped node that holds nothing.
fn empty() -> Node {
    let mut node = Node::started("");
    node.stop();
    node
}

fn export(node: &Node, to: &Path) -> String {
    ring(node, &["export", "--out", to.to_str().unwrap()]).ok();
    std::fs::read_to_string(to).unwrap()
}

#[test]
fn what_is_exported_imported_and_exported_again_is_the_same() {
    let (from, to) = (full(3000), empty());
    let file = from.path("all.jsonl");
    let exported = export(&from, &file);
    assert_eq!(exported, ring(&from, &["export"]).ok(), "file and standard output");
    let name = file.to_str().unwrap();
    assert_eq!(ring(&to, &["import", name]).ok(), "3,003 imported, 0 already there, 0 refused\n");
    let again = ring(&to, &["export"]).ok();
    assert_eq!(contents(&exported), contents(&again));
    let (first, second) = (lines(&exported), lines(&again));
    let time = |line: &Value| (line["topic"].to_string(), line["offset"].as_u64(), line["time"].to_string());
    let times: Vec<_> = first.iter().map(time).collect();
    let event_time =
        |line: &Value| (line["topic"].to_string(), line["offset"].as_u64(), line["event_time"].to_string());
    assert_eq!(times, second.iter().map(event_time).collect::<Vec<_>>());
    assert_ne!(first[0]["ring"], second[0]["ring"]);
    // Once more, whole and in part: nothing comes twice.
    assert_eq!(ring(&to, &["import", name, name]).ok(), "0 imported, 6,006 already there, 0 refused\n");
    let half: String = exported.lines().skip(1500).map(|line| format!("{line}\n")).collect();
    let data = to.data().display().to_string();
    let piped = headwater(&["ring", "import", &data, "-"], &half).ok();
    assert_eq!(piped, "0 imported, 1,503 already there, 0 refused\n");
    assert_eq!(ring(&to, &["export"]).ok(), again);
    ring(&to, &["verify"]).ok();
    // And the node goes on with it.
    let mut to = to;
    to.start();
    assert!(to.status().ring.recovery.clean_shutdown);
    assert_eq!(to.send("pump", &["more"]), ["3000"]);
    assert_eq!(to.tail("bytes", 3).len(), 3);
}

#[test]
fn an_import_that_is_killed_goes_on_where_it_was_and_brings_nothing_twice() {
    let (from, to) = (full(40_000), empty());
    let file = from.path("all.jsonl");
    let exported = export(&from, &file);
    let data = to.data().display().to_string();
    let mut rng = Rng::new(11);
    let mut left = 8;
    while left > 0 {
        let mut import = Command::new(BINARY);
        import.args(["ring", "import", &data, file.to_str().unwrap()]).stdout(Stdio::null()).stderr(Stdio::null());
        let mut import = import.spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(20 + rng.next_u64() % 200));
        import.kill().unwrap();
        import.wait().unwrap();
        left -= 1;
    }
    let said = ring(&to, &["import", file.to_str().unwrap()]).ok();
    assert!(said.ends_with(" 0 refused\n"), "{said}");
    assert_eq!(contents_of_values(&ring(&to, &["export"]).ok()), contents_of_values(&exported));
    ring(&to, &["verify"]).ok();
}

/// As [`contents`], where a crash may have left offsets out.
fn contents_of_values(exported: &str) -> BTreeMap<String, Vec<String>> {
    let mut contents: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for line in lines(exported).into_iter().filter(|line| line.get("gap").is_none()) {
        let value = line.get("value").or(line.get("value_base64")).unwrap().to_string();
        contents.entry(line["topic"].to_string()).or_default().push(value);
    }
    contents
}

#[test]
fn only_what_was_asked_for_is_exported() {
    let node = full(50);
    let raw = |words: &[&str]| ring(&node, &[&["export", "--raw"], words].concat());
    assert_eq!(raw(&["--topic", "pump", "--from", "3", "--to", "5"]).ok(), "{\"n\":3}\n{\"n\":4}\n");
    let all = lines(&ring(&node, &["export"]).ok());
    assert_eq!(all.len(), 53);
    let seq = all.iter().find(|line| line["value"] == "{\"n\":7}").unwrap()["seq"].as_u64().unwrap();
    let (from, to) = (format!("seq:{seq}"), format!("seq:{}", seq + 2));
    assert_eq!(raw(&["--from", &from, "--to", &to]).ok(), "{\"n\":7}\n{\"n\":8}\n");
    assert_eq!(raw(&["--topic", "pump", "--from", "-1h"]).ok().lines().count(), 50);
    assert_eq!(raw(&["--topic", "pump", "--to", "1h"]).ok(), "");
    assert_eq!(raw(&["--topic", "bytes", "--topic", "pump"]).err, "53 records, 450 B, no gaps\n");
    let time = all[0]["time"].as_str().unwrap();
    assert_eq!(raw(&["--topic", "pump", "--to", time]).ok(), "");
    let own = ring(&node, &["export", "--topic", "headwater-events"]).ok();
    assert!(own.lines().count() > 0);
}

#[test]
fn a_full_disk_ends_an_export_with_what_to_do() {
    let node = full(50);
    let full = ring(&node, &["export", "--out", "/dev/full"]).failed(1);
    assert!(full.contains("no room for the export on /dev/full") && full.contains("make room"), "{full}");
    let out = node.path("there.jsonl");
    std::fs::write(&out, "precious").unwrap();
    let there = ring(&node, &["export", "--out", out.to_str().unwrap()]).failed(1);
    assert!(there.contains("is there already"), "{there}");
    assert_eq!(std::fs::read_to_string(&out).unwrap(), "precious");
    let mut command = Command::new(BINARY);
    command.args(["ring", "export"]).arg(node.data());
    command.stdout(std::fs::File::options().write(true).open("/dev/full").unwrap()).stderr(Stdio::piped());
    let done = command.output().unwrap();
    let said = String::from_utf8(done.stderr).unwrap();
    assert_eq!(done.status.code(), Some(1));
    assert!(said.contains("no room for the export on standard output"), "{said}");
}

#[test]
fn a_directory_that_cannot_be_written_is_exported_all_the_same() {
    let node = full(20);
    for entry in std::fs::read_dir(node.data()).unwrap() {
        let path = entry.unwrap().path();
        let mut rights = path.metadata().unwrap().permissions();
        rights.set_readonly(true);
        std::fs::set_permissions(path, rights).unwrap();
    }
    std::fs::remove_file(node.data().join("lock")).unwrap();
    assert_eq!(lines(&ring(&node, &["export"]).ok()).len(), 23);
    assert!(!node.data().join("lock").exists());
}

#[test]
fn a_ring_to_which_a_node_writes_is_read_without_a_false_alarm() {
    // Small, so that it is written over again and again.
    let mut node = Node::new(&config("edge", "").replace("64MiB", "4MiB"));
    node.start();
    let mut send = Command::new(BINARY);
    send.args(["send", "load", "--ack", "memory", "-c", &node.config_path()]);
    let mut send = send.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut stdin = send.stdin.take().unwrap();
    let feeder = std::thread::spawn(move || {
        let mut rng = Rng::new(3);
        let mut piece =
            || (0..64).map(|_| format!("{:016x}{:016x}\n", rng.next_u64(), rng.next_u64())).collect::<String>();
        // Ends when the command is killed.
        while std::io::Write::write_all(&mut stdin, piece().as_bytes()).is_ok() {}
    });
    eventually("a ring that is written over", || {
        let topics = node.status().topics;
        topics.iter().any(|topic| topic.name == "load" && topic.partitions[0].earliest > 0).then_some(())
    });
    for _ in 0..10 {
        let verified = ring(&node, &["verify"]);
        assert_eq!(verified.code, Some(0), "{}{}", verified.out, verified.err);
        assert!(verified.err.contains("the node runs (process "), "{}", verified.err);
        assert!(!verified.out.contains("damage:"), "{}", verified.out);
        let stat = ring(&node, &["stat"]).ok();
        assert!(stat.contains("a node writes to it") && stat.contains("load"), "{stat}");
        let exported = ring(&node, &["export", "--topic", "load"]);
        let all = lines(&exported.out);
        assert!(all.len() > 1000, "{}", exported.err);
        let mut next = None;
        for line in all {
            if let Some(gap) = line.get("gap") {
                assert_eq!(gap["reason"], "evicted", "{line}");
                next = None;
                continue;
            }
            let offset = line["offset"].as_u64().unwrap();
            assert!(next.is_none_or(|next| next == offset), "{offset} where {next:?} was expected");
            next = Some(offset + 1);
        }
    }
    send.kill().unwrap();
    send.wait().unwrap();
    feeder.join().unwrap();
    // What was acknowledged is in the export of a node that is idle.
    let offset: u64 = node.send("last", &["x"])[0].parse().unwrap();
    let last = lines(&ring(&node, &["export", "--topic", "last"]).ok());
    assert_eq!((last.len(), last[0]["offset"].as_u64()), (1, Some(offset)));
    node.stop();
    ring(&node, &["verify"]).ok();
}

#[test]
fn an_import_takes_nothing_after_a_broken_line_unless_it_is_told_to() {
    let (from, to) = (full(100), empty());
    let exported = ring(&from, &["export", "--topic", "pump"]).ok();
    let broken: String =
        exported.lines().enumerate().map(|(i, l)| if i == 40 { "oops\n".into() } else { format!("{l}\n") }).collect();
    let file = from.path("broken.jsonl");
    std::fs::write(&file, broken).unwrap();
    let name = file.to_str().unwrap();
    let done = ring(&to, &["import", name]);
    assert_eq!((done.code, done.out.as_str()), (Some(1), "40 imported, 0 already there, 0 refused\n"));
    assert!(done.err.contains("broken.jsonl, line 41: ") && done.err.contains("nothing after it"), "{}", done.err);
    let done = ring(&to, &["import", "--skip-bad", name]);
    assert_eq!((done.code, done.out.as_str()), (Some(1), "59 imported, 40 already there, 1 refused\n"));
    // The line that was broken, whole: it lies between what is there.
    std::fs::write(&file, &exported).unwrap();
    assert_eq!(ring(&to, &["import", name]).ok(), "1 imported, 99 already there, 0 refused\n");
}

#[test]
fn a_bench_leaves_nothing_behind_when_it_is_interrupted() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Command::new(BINARY);
    bench.args(["ring", "bench", dir.path().to_str().unwrap(), "--seconds", "300"]);
    let mut bench = bench.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    eventually("a ring", || dir.path().join("headwater-bench/slot-0003").exists().then_some(()));
    assert!(Command::new("kill").args(["-s", "INT", &bench.id().to_string()]).status().unwrap().success());
    assert_eq!(bench.wait().unwrap().code(), Some(1));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn what_is_damaged_is_a_gap_of_its_own_with_its_count() {
    let node = full(30_000);
    // The third frame of records of a slot that has as many.
    let third = |slot: u32| {
        let path = node.data().join(format!("slot-{slot:04}"));
        let bytes = std::fs::read(&path).ok()?;
        let is_lane = |page: &usize| bytes[*page..].starts_with(b"HWfr\x01\x01");
        let at = (0..bytes.len()).step_by(4096).filter(is_lane).nth(2)?;
        Some((path, bytes, at))
    };
    let (slot, mut bytes, at) = (0..4).find_map(third).unwrap();
    bytes[at + 700] ^= 0x10;
    std::fs::write(&slot, bytes).unwrap();
    let exported = ring(&node, &["export"]);
    let all = lines(&exported.out);
    let gaps: Vec<_> = all.iter().filter_map(|line| line.get("gap")).collect();
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    let number = |name: &str| gaps[0][name].as_u64().unwrap();
    assert_eq!((&gaps[0]["topic"], &gaps[0]["reason"]), (&"pump".into(), &"corrupt".into()));
    assert_eq!(number("to") - number("from"), number("count"));
    assert_eq!(all.len() as u64 - 1 + number("count"), 30_003);
    assert!(exported.err.contains("gone: offsets ") && exported.err.contains("a gap of "), "{}", exported.err);
    // Beside what is left, what is gone is told as often as it is asked for.
    let (from, to) = (number("from") + 1, number("from") + 3);
    let words = ["export", "--topic", "pump", "--from", &from.to_string(), "--to", &to.to_string()];
    let part = lines(&ring(&node, &words).ok());
    assert_eq!((part.len(), part[0]["gap"]["count"].as_u64()), (1, Some(2)));
    ring(&node, &["verify"]).failed(1);
}
