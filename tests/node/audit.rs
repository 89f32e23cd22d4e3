//! `headwater audit`: what the ring holds and what the upstream stored, compared from outside.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use fluvio::metadata::topic::TopicSpec;
use fluvio::{Fluvio, FluvioClusterConfig};
use headwater::sinks::fluvio::wire;
use serde_json::Value;

use super::node::{Done, Node, eventually, patience};
use super::upstream::{Upstream, numbered, send_all};

fn audit(node: &Node, words: &[&str]) -> Done {
    node.run(&[&["audit", "hq", "--json"], words].concat())
}

fn json(done: &Done) -> Value {
    serde_json::from_str(&done.out).unwrap_or_else(|e| panic!("{e}: {}{}", done.out, done.err))
}

/// One upstream topic's row.
fn row<'a>(report: &'a Value, topic: &str) -> &'a Value {
    let rows = report["partitions"].as_array().unwrap();
    rows.iter().find(|row| row["topic"] == topic).unwrap_or_else(|| panic!("no row {topic}: {report}"))
}

fn counts<const N: usize>(row: &Value, names: [&str; N]) -> [u64; N] {
    names.map(|name| row[name].as_u64().unwrap_or_else(|| panic!("no {name}: {row}")))
}

/// Deletes a topic, and makes it again if `again`, by the official client.
fn delete(sc: u16, topic: &'static str, again: bool) {
    let work = async move {
        let fluvio = Fluvio::connect_with_config(&FluvioClusterConfig::new(format!("127.0.0.1:{sc}"))).await.unwrap();
        let admin = fluvio.admin().await;
        admin.delete::<TopicSpec>(topic).await.unwrap();
        if again {
            admin.create(topic.to_owned(), false, TopicSpec::new_computed(1, 1, None)).await.unwrap();
        }
    };
    let done = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { tokio::time::timeout(patience(), work).await.expect("an end") })
    });
    done.join().unwrap();
}

#[test]
fn what_was_sent_is_identical_beside_a_running_node_and_of_a_stopped_one() {
    let up = Upstream::start();
    let shaped = "upstream_topic = \"from-{topic}\"\nupstream_key = \"{node}/{key}\"\ncompression = \"zstd\"\n";
    let mut edge = Node::started(&up.sink("hq", shaped));
    send_all(&edge, "notes", &numbered("n", 0..3000));
    send_all(&edge, "alarms", &numbered("a", 0..50));
    edge.run(&["drain"]).ok();
    for running in [true, false] {
        if !running {
            edge.stop();
        }
        let done = audit(&edge, &[]);
        assert_eq!(done.code, Some(0), "{}{}", done.out, done.err);
        assert_eq!(done.err.contains("the node runs (process "), running, "{}", done.err);
        assert!(done.err.contains("to download"), "{}", done.err);
        let report = json(&done);
        for (topic, count) in [("from-notes", 3000), ("from-alarms", 50)] {
            let row = row(&report, topic);
            let names = ["compared", "identical", "missing", "duplicated", "pending", "foreign"];
            assert_eq!(counts(row, names), [count, count, 0, 0, 0, 0], "{row}");
        }
        assert_eq!((&report["ok"], &report["findings"]), (&true.into(), &Value::Array(Vec::new())));
    }
    let words = edge.run(&["audit", "hq"]).ok();
    assert!(words.contains("from-notes") && words.ends_with("once, and as it was sent\n"), "{words}");
    let cost = edge.run(&["audit", "hq", "--cost"]);
    assert_eq!((cost.code, cost.out.as_str()), (Some(0), ""));
    assert!(cost.err.contains("3,050 records of sink hq"), "{}", cost.err);
    let bounded = edge.run(&["audit", "hq", "--max-bytes", "2KiB"]).failed(1);
    assert!(bounded.contains("--max-bytes 2 KiB ends here"), "{bounded}");
}

#[test]
fn what_was_not_sent_yet_is_pending_and_not_missing() {
    let up = Upstream::start();
    let edge = Node::started(&up.sink("hq", ""));
    send_all(&edge, "notes", &numbered("n", 0..100));
    edge.run(&["drain"]).ok();
    edge.run(&["sink", "pause", "hq"]).ok();
    send_all(&edge, "notes", &numbered("n", 100..130));
    let report = json(&audit(&edge, &[]));
    assert_eq!(counts(row(&report, "notes"), ["identical", "pending", "missing"]), [100, 30, 0], "{report}");
}

#[test]
fn a_topic_that_was_deleted_or_made_anew_upstream_is_missing_with_its_seqs_and_offsets() {
    let up = Upstream::start();
    let edge = Node::started(&up.sink("hq", ""));
    send_all(&edge, "notes", &numbered("n", 0..500));
    send_all(&edge, "alarms", &numbered("a", 0..20));
    edge.run(&["drain"]).ok();
    // So that it does not notice and send again.
    edge.run(&["sink", "pause", "hq"]).ok();
    delete(up.sc, "notes", false);
    let done = audit(&edge, &[]);
    assert_eq!(done.code, Some(1), "{}", done.err);
    assert!(json(&done)["notes"][0].as_str().unwrap().contains("is not there upstream"), "{}", done.out);
    delete(up.sc, "alarms", true);
    let done = audit(&edge, &[]);
    assert_eq!(done.code, Some(1), "{}", done.err);
    let report = json(&done);
    for (topic, count) in [("notes", 500), ("alarms", 20)] {
        assert_eq!(counts(row(&report, topic), ["compared", "identical", "missing"]), [count, 0, count], "{report}");
        let findings = report["findings"].as_array().unwrap();
        let found = findings.iter().find(|found| found["topic"] == topic).unwrap();
        assert_eq!((&found["what"], found["count"].as_u64()), (&"missing".into(), Some(count)), "{found}");
        assert_eq!(found["offsets"], serde_json::json!([0, count - 1]));
        let seqs = [0, 1].map(|i| found["seqs"][i].as_u64().unwrap());
        assert!(seqs[1] - seqs[0] >= count - 1, "{found}");
    }
    let words = edge.run(&["audit", "hq"]);
    assert!(words.out.contains("missing: offsets 0 to 499 of notes (seqs "), "{}", words.out);
    assert!(words.out.ends_with("NOT THE SAME: see above\n"), "{}", words.out);
}

#[test]
fn only_what_was_admitted_since_is_compared_and_little_else_is_downloaded() {
    let up = Upstream::start();
    let edge = Node::started(&up.sink("hq", "max_batch = \"4KiB\"\n"));
    let wide: Vec<_> = (0..4000).map(|i| format!("{i} {}", "x".repeat(300))).collect();
    send_all(&edge, "notes", &wide);
    edge.run(&["drain"]).ok();
    std::thread::sleep(Duration::from_millis(20));
    let now = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
    std::thread::sleep(Duration::from_millis(20));
    send_all(&edge, "notes", &numbered("new", 0..40));
    edge.run(&["drain"]).ok();
    let all = json(&audit(&edge, &["--since", "1h"]));
    assert_eq!(counts(row(&all, "notes"), ["identical"]), [4040], "{all}");
    let new = audit(&edge, &["--since", &now]);
    assert_eq!(new.code, Some(0), "{}{}", new.out, new.err);
    let new = json(&new);
    assert_eq!(counts(row(&new, "notes"), ["identical", "missing", "unknown"]), [40, 0, 0], "{new}");
    let [before] = counts(row(&new, "notes"), ["not_looked_at"]);
    assert!(before > 3800, "{new}");
    let bytes = |report: &Value| report["downloaded_bytes"].as_u64().unwrap();
    assert!(bytes(&new) * 20 < bytes(&all), "{} of {}", bytes(&new), bytes(&all));
    // What is to come, and what never was.
    let none = audit(&edge, &["--since", "2999-01-01T00:00:00Z"]);
    assert_eq!((none.code, json(&none)["partitions"].as_array().unwrap().len()), (Some(0), 0));
}

#[test]
fn the_bound_holds_for_all_that_is_downloaded_whatever_it_is_for() {
    let up = Upstream::start();
    let mut edge = Node::started(&up.sink("hq", "compression = \"none\"\nmax_batch = \"4KiB\"\n"));
    let wide: Vec<_> = (0..300).map(|i| format!("{i} {}", "x".repeat(300))).collect();
    for topic in ["notes", "alarms", "doors"] {
        send_all(&edge, topic, &wide);
    }
    edge.run(&["drain"]).ok();
    edge.stop();
    let bounded = |most: u64| {
        let before = up.link.brought();
        let done = audit(&edge, &["--max-bytes", &format!("{most}KiB")]);
        (done, up.link.brought() - before)
    };
    let mut ends = Vec::new();
    for most in [1, 2, 3, 4, 6, 8, 12, 200, 290, 340, 1000] {
        let (done, brought) = bounded(most);
        println!("{most} KiB: {brought} came: {:?} {}", done.code, done.err.trim());
        assert!(brought <= most * 1024, "{brought} of {most} KiB: {}", done.err);
        match done.code {
            Some(0) => assert_eq!(json(&done)["downloaded_bytes"], brought, "{}", done.out),
            code => {
                assert_eq!(code, Some(1), "{}", done.err);
                assert!(done.out.is_empty() && done.err.contains("--max-bytes"), "{}{}", done.out, done.err);
            }
        }
        ends.push(done.code);
    }
    assert_eq!((ends.first(), ends.last()), (Some(&Some(1)), Some(&Some(0))), "{ends:?}");
    // What the estimate took is told with it.
    let before = up.link.brought();
    let cost = edge.run(&["audit", "hq", "--cost"]);
    let told = headwater::ops::human::binary(up.link.brought() - before);
    assert!(cost.err.contains(&format!("({told} to find that out)")), "{told}: {}", cost.err);
}

#[test]
fn a_list_of_topics_that_is_longer_than_the_bound_is_given_up_on_its_way() {
    let up = Upstream::start();
    let mut edge = Node::started(&up.sink("hq", ""));
    edge.send("notes", &["one"]);
    edge.run(&["drain"]).ok();
    edge.stop();
    for i in 0..60 {
        up.node.send(&format!("of-somebody-else-{i}"), &["x"]);
    }
    let brought = |words: &[&str]| {
        let before = up.link.brought();
        let done = audit(&edge, words);
        (done, up.link.brought() - before)
    };
    // So that it is not there at once.
    up.link.is_slow(8 * 1024);
    let (done, some) = brought(&["--max-bytes", "2KiB"]);
    assert!(done.failed(1).contains("--max-bytes 2 KiB ends here"));
    up.link.is_slow(0);
    let (done, all) = brought(&[]);
    assert_eq!(done.code, Some(0), "{}{}", done.out, done.err);
    assert!(some < 5 * 1024 && all > 8 * 1024, "{some} of {all}");
}

#[test]
fn wrong_usage_says_what_there_is() {
    let edge = Node::new(&super::node::config(
        "edge",
        "[sinks.hq]\ntype = \"fluvio\"\nendpoint = [\"127.0.0.1:1\"]\ntopics = [\"*\"]\n\n\
         [sinks.disk]\ntype = \"file\"\npath = \"{dir}/out\"\ntopics = [\"*\"]\n",
    ));
    let unknown = edge.run(&["audit", "hp"]).failed(2);
    assert!(unknown.contains("did you mean `hq`?") && unknown.contains("there are: "), "{unknown}");
    let file = edge.run(&["audit", "disk"]).failed(2);
    assert!(file.contains("not of type `fluvio`"), "{file}");
    let since = edge.run(&["audit", "hq", "--since", "yesterday"]).failed(2);
    assert!(since.contains("write how long ago (2h)"), "{since}");
    let size = edge.run(&["audit", "hq", "--max-bytes", "much"]).failed(2);
    assert!(size.contains("--max-bytes"), "{size}");
    // It never ran.
    edge.run(&["audit", "hq"]).failed(1);
}

#[test]
fn an_upstream_that_is_away_is_named_with_what_to_do() {
    let mut up = Upstream::start();
    let mut edge = Node::started(&up.sink("hq", ""));
    edge.send("notes", &["one"]);
    edge.run(&["drain"]).ok();
    edge.stop();
    up.node.stop();
    let done = edge.run(&["audit", "hq"]).failed(1);
    assert!(done.contains(&format!("127.0.0.1:{}", up.sc)), "{done}");
}

#[test]
fn a_config_that_makes_other_records_of_it_is_different_and_says_where() {
    let up = Upstream::start();
    let mut edge = Node::started(&up.sink("hq", ""));
    send_all(&edge, "notes", &numbered("n", 0..10));
    edge.run(&["drain"]).ok();
    edge.stop();
    let config = std::fs::read_to_string(edge.path("headwater.toml")).unwrap();
    edge.write_config(&config.replace("topics = [\"*\"]", "topics = [\"*\"]\nupstream_key = \"{node}\""));
    let done = audit(&edge, &[]);
    assert_eq!(done.code, Some(1), "{}", done.err);
    let report = json(&done);
    assert_eq!(counts(row(&report, "notes"), ["identical", "different", "missing"]), [0, 10, 0], "{report}");
    assert_eq!(report["findings"][0]["upstream_offsets"], serde_json::json!([0, 9]));
}

/// Takes what stands at the beginning of a partition and produces it again, header and all.
fn replay(spu: u16, topic: &str) {
    let mut stream = TcpStream::connect(("127.0.0.1", spu)).unwrap();
    let mut ask = |request: &[u8]| {
        stream.write_all(request).unwrap();
        let mut head = [0; 8];
        stream.read_exact(&mut head).unwrap();
        let mut body = vec![0; u32::from_be_bytes(head[..4].try_into().unwrap()) as usize - 4];
        stream.read_exact(&mut body).unwrap();
        body
    };
    ask(&wire::api_versions(1).unwrap());
    let answer = ask(&wire::fetch(2, topic, 0, 0, 1 << 20));
    let bytes = wire::read_fetched(&answer, topic, 0, 0).unwrap().unwrap();
    let batch = &bytes[..wire::batch_len(bytes).unwrap()];
    let mut out = Vec::new();
    let text = |out: &mut Vec<u8>, text: &str| {
        out.extend((text.len() as i16).to_be_bytes());
        out.extend(text.as_bytes());
    };
    out.extend(wire::PRODUCE.to_be_bytes());
    out.extend(wire::SPU_VERSION.to_be_bytes());
    out.extend(3_i32.to_be_bytes());
    text(&mut out, "somebody");
    out.push(0);
    out.extend((-1_i16).to_be_bytes());
    [10_000, 1].iter().for_each(|n: &i32| out.extend(n.to_be_bytes()));
    text(&mut out, topic);
    [1, 0, batch.len() as i32].iter().for_each(|n: &i32| out.extend(n.to_be_bytes()));
    out.extend(batch);
    out.extend(0_i32.to_be_bytes());
    let framed = [&(out.len() as i32).to_be_bytes()[..], &out].concat();
    let answer = ask(&framed);
    wire::read_produced(&answer, topic, 0).unwrap().unwrap();
}

#[test]
fn what_somebody_repeats_under_our_marker_is_there_twice_and_what_others_write_is_theirs() {
    let up = Upstream::start();
    let edge = Node::started(&up.sink("hq", ""));
    send_all(&edge, "notes", &numbered("n", 0..50));
    edge.run(&["drain"]).ok();
    send_all(&edge, "notes", &numbered("n", 50..80));
    edge.run(&["drain"]).ok();
    up.node.send("notes", &["of the upstream's own"]);
    let config = std::fs::read_to_string(up.node.path("headwater.toml")).unwrap();
    let spu = config.lines().find_map(|line| line.strip_prefix("spu_listen = \"127.0.0.1:")).unwrap();
    replay(spu.trim_end_matches('"').parse().unwrap(), "notes");
    eventually("the repeat", || (up.node.end_of("notes") > 81).then_some(()));
    let done = audit(&edge, &[]);
    assert_eq!(done.code, Some(1), "{}", done.err);
    let report = json(&done);
    let repeated = up.node.end_of("notes") - 81;
    let names = ["identical", "missing", "duplicated", "foreign"];
    assert_eq!(counts(row(&report, "notes"), names), [80, 0, repeated, 1], "{report}");
    assert_eq!(report["findings"][0]["what"], "duplicated");
    assert_eq!(report["findings"][0]["offsets"], serde_json::json!([0, repeated - 1]));
}

#[test]
fn streams_that_were_absorbed_are_known_by_what_their_batches_hold() {
    let up = Upstream::start();
    let mut edge = Node::started(&up.sink("hq", "order = \"newest-first\"\nmax_batch = \"4KiB\"\n"));
    send_all(&edge, "pump", &numbered("event", 0..10));
    edge.run(&["drain"]).ok();
    up.link.cut();
    edge.says("hq", "down", "");
    send_all(&edge, "pump", &numbered("event of a pump", 10..6000));
    edge.kill();
    edge.start();
    up.link.restore();
    eventually("the split", || (edge.sink("hq").streams.len() == 2).then_some(()));
    send_all(&edge, "pump", &numbered("event", 6000..6100));
    edge.run(&["drain"]).ok();
    eventually("the older stream to be absorbed", || edge.sink("hq").streams.is_empty().then_some(()));
    edge.stop();
    let done = audit(&edge, &[]);
    assert_eq!(done.code, Some(0), "{}{}", done.out, done.err);
    let report = json(&done);
    let names = ["identical", "missing", "out_of_order", "foreign"];
    assert_eq!(counts(row(&report, "pump"), names), [6100, 0, 0, 0], "{report}");
}

#[test]
fn what_was_dropped_by_rules_or_refused_for_good_is_not_missing() {
    // A ring of 4 MiB takes 64 KiB at once.
    let up = Upstream::start_with(|config| config.replace("64MiB", "4MiB"));
    let rule = "[[rules]]\nname = \"no-debug\"\nuses = \"filter\"\nwith = { not = { contains = \"DEBUG\" } }\n";
    let edge = Node::started(&format!("{}\n{rule}", up.sink("hq", "rules = [\"no-debug\"]\n")));
    let line = |n: usize| match n % 100 {
        50 => format!("{n} {}", "x".repeat(70_000)),
        60..70 => format!("DEBUG {n}"),
        _ => format!("{n}"),
    };
    send_all(&edge, "notes", &(0..200).map(line).collect::<Vec<_>>());
    edge.run(&["drain"]).ok();
    let done = audit(&edge, &[]);
    assert_eq!(done.code, Some(0), "{}{}", done.out, done.err);
    let report = json(&done);
    assert_eq!(counts(row(&report, "notes"), ["identical", "refused", "missing"]), [178, 2, 0], "{report}");
    assert_eq!(report["elsewhere"]["filtered"], 20, "{report}");
}

#[test]
fn every_partition_of_an_upstream_topic_is_compared_with_what_is_for_it() {
    let up = Upstream::start();
    let edge = Node::started(&up.sink("hq", "partitions = 3\nvalue = \"envelope\"\ncompression = \"gzip\"\n"));
    send_all(&edge, "notes", &numbered("n", 0..2000));
    edge.run(&["drain"]).ok();
    let done = audit(&edge, &[]);
    assert_eq!(done.code, Some(0), "{}{}", done.out, done.err);
    let report = json(&done);
    let rows = report["partitions"].as_array().unwrap();
    assert_eq!(rows.len(), 3, "{report}");
    assert_eq!(rows.iter().map(|row| counts(row, ["identical"])[0]).sum::<u64>(), 2000);
    assert!(rows.iter().all(|row| counts(row, ["compared", "foreign"])[0] > 400), "{report}");
}
