//! The demo as a person runs it: its exit code and its table are held to what it proves. Shorter than by default.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

const HEADWATER: &str = env!("CARGO_BIN_EXE_headwater");

fn demo(args: &[&str]) -> (Output, String) {
    let output = Command::new(HEADWATER).arg("demo").args(args).stdin(Stdio::null()).output().expect("headwater runs");
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{text}");
    (output, text)
}

/// The row of a topic: admitted, upstream, missing, duplicates, unknown.
fn row(text: &str, topic: &str) -> Vec<u64> {
    let mut lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let fields = lines.find(|fields| fields.len() == 7 && fields[0] == topic).expect("the table has the topic");
    fields[1..6].iter().map(|n| n.replace(',', "").parse().expect("a number")).collect()
}

fn holds(output: &Output, text: &str) {
    assert!(output.status.success(), "exit {:?}", output.status);
    for topic in ["host", "log", "syslog", "sensors"] {
        let [admitted, upstream, missing, duplicates, unknown] = row(text, topic)[..] else { panic!("a row is short") };
        assert!(admitted > 0 && admitted == upstream, "{topic}");
        assert_eq!((missing, duplicates, unknown), (0, 0, 0), "{topic}");
    }
    assert!(text.contains("the link is CUT") && text.contains("the link is back"));
    assert!(!text.contains("FAIL"));
}

#[test]
fn the_demo_adds_up_and_keeps_what_it_was_told_to_keep() {
    let dir = tempfile::tempdir().unwrap();
    let keep = dir.path().join("kept");
    let (output, text) = demo(&["--seconds", "12", "--keep", keep.to_str().unwrap()]);
    holds(&output, &text);
    let data = keep.join("edge/data");
    let tail = ["tail", "log", "-n", "3", "--data-dir", data.to_str().unwrap()];
    let tail = Command::new(HEADWATER).args(tail).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&tail.stdout).lines().filter(|l| l.contains("WARN")).count(), 3);
    let verify = Command::new(HEADWATER).args(["ring", "verify"]).arg(&data).status().unwrap();
    assert!(verify.success(), "the ring it leaves is whole");
}

#[test]
fn the_demo_adds_up_against_a_cluster_and_leaves_no_topics_there() {
    let dir = tempfile::tempdir().unwrap();
    let (mut cluster, sc) = cluster(dir.path());
    let (output, text) = demo(&["--seconds", "12", "--upstream", &sc]);
    let status = Command::new(HEADWATER).args(["status", "--json", "--data-dir"]).arg(dir.path()).output().unwrap();
    cluster.kill().unwrap();
    cluster.wait().unwrap();
    holds(&output, &text);
    let status = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(status.contains("\"topics\"") && !status.contains("headwater-demo-"), "{status}");
}

/// A node in a cluster's place, and its SC's address.
fn cluster(dir: &Path) -> (std::process::Child, String) {
    let held: Vec<_> = (0..2).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let [sc, spu] = [0, 1].map(|i: usize| held[i].local_addr().unwrap().to_string());
    drop(held);
    let config = format!(
        "[node]\nid = \"cluster\"\ndata_dir = \"{}\"\n[ring]\nmax_bytes = \"64MiB\"\nkeep_free = \"0B\"\n\
         [http]\nlisten = \"off\"\n[endpoint]\nsc_listen = \"{sc}\"\nspu_listen = \"{spu}\"\n",
        dir.display()
    );
    let file = dir.join("cluster.toml");
    std::fs::write(&file, config).unwrap();
    let child = Command::new(HEADWATER).args(["run", "-c"]).arg(&file).stderr(Stdio::null()).spawn().unwrap();
    let end = Instant::now() + Duration::from_secs(30);
    while std::net::TcpStream::connect(&sc).is_err() {
        assert!(Instant::now() < end, "the cluster's SC does not answer");
        std::thread::sleep(Duration::from_millis(50));
    }
    (child, sc)
}

#[test]
fn a_demo_whose_cluster_is_away_says_so_and_fails() {
    let (output, text) = demo(&["--seconds", "10", "--upstream", "127.0.0.1:9"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text.contains("127.0.0.1:9"), "{text}");
}
