//! The PyPI package, an operation of `interop.py` at a time.

use std::path::Path;
use std::process::Command;

use headwater::config::model::{Allow, SecretPlace, ServerTls};

use super::super::certs::{Authority, Good};
use super::super::raw::{At, stored};
use super::super::server::{Server, config, panics, plan};
use super::{KINDS, assert_same, node};

/// Runs `interop.py SC WORDS`; what it prints but for the last line, which says that it came to its end.
pub fn python(sc: &str, words: &[&str]) -> String {
    python_with(sc, words, &[])
}

/// With variables in its environment.
pub fn python_with(sc: &str, words: &[&str], variables: &[(&str, &str)]) -> String {
    let python = std::env::var_os("HEADWATER_TEST_PYTHON").unwrap_or_else(|| {
        panic!(
            "HEADWATER_TEST_PYTHON is not set: it names a python that has the PyPI package `fluvio` 0.21 \
             (scripts/test.sh makes one; by hand: python3 -m venv DIR && DIR/bin/pip install fluvio==0.21.0)"
        )
    });
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/endpoint/interop/interop.py");
    let output = Command::new(&python).arg(script).arg(sc).args(words).envs(variables.iter().copied()).output();
    let output = output.unwrap_or_else(|e| panic!("{}: {e}", python.display()));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "interop.py {}: {out}{err}", words.join(" "));
    out.strip_suffix("done\n").unwrap_or_else(|| panic!("{out}{err}")).to_owned()
}

/// What the script wrote: one line a record, `OFFSET KEY VALUE`, the last two in hex.
fn written(path: &Path) -> Vec<At> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let unhex = |text: &str| {
        let digits = (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).expect("hex digits"));
        digits.collect::<Vec<u8>>()
    };
    let record = |line: &str| {
        let fields: Vec<_> = line.split(' ').collect();
        (fields[0].parse().expect("an offset"), Some(unhex(fields[1])), unhex(fields[2]))
    };
    text.lines().map(record).collect()
}

/// The topic as it was sent, as it is stored and as it was seen.
fn assert_exact(server: &Server, dir: &Path, topic: &str, count: usize) {
    let sent = written(&dir.join(format!("{topic}.sent")));
    assert_eq!(sent.len(), count, "{topic}");
    assert_same(&format!("{topic} stored"), &stored(server.spu, topic), &sent);
    assert_same(&format!("{topic} consumed"), &written(&dir.join(format!("{topic}.seen"))), &sent);
}

#[test]
fn the_python_package_creates_lists_and_deletes_topics() {
    python(&Server::start().sc.to_string(), &["topics"]);
    assert_eq!(panics(), 0);
}

/// One record and 1,000 of them, of every kind of key and value. The package has no way to send a record without a key:
/// what it calls none is an empty one.
#[test]
fn the_python_package_gets_back_what_it_produced_with_every_compression_byte_for_byte() {
    let server = Server::start();
    let dir = tempfile::tempdir().unwrap();
    python(&server.sc.to_string(), &["compressions", dir.path().to_str().unwrap()]);
    for kind in KINDS {
        for count in [1, 1000] {
            assert_exact(&server, dir.path(), &format!("{kind}-{count}"), count);
        }
    }
    assert_eq!(panics(), 0);
}

#[test]
fn the_python_package_sends_a_thousand_records_at_once_and_batches_of_any_size_it_is_set_to() {
    let server = Server::start();
    let dir = tempfile::tempdir().unwrap();
    python(&server.sc.to_string(), &["batches", dir.path().to_str().unwrap()]);
    for size in [100, 16_384, 1_000_000] {
        assert_exact(&server, dir.path(), &format!("batches-{size}"), 1000);
    }
    assert_eq!(panics(), 0);
}

#[test]
fn values_larger_than_a_batch_of_the_python_package_are_kept_and_larger_than_the_ring_takes_refused_in_words() {
    let server = Server::start();
    let dir = tempfile::tempdir().unwrap();
    python(&server.sc.to_string(), &["large", dir.path().to_str().unwrap()]);
    assert_exact(&server, dir.path(), "large", 4);
    assert_eq!(panics(), 0);
}

#[test]
fn records_of_one_key_of_the_python_package_are_in_one_partition_in_order() {
    python(&Server::start().sc.to_string(), &["partitions"]);
    assert_eq!(panics(), 0);
}

#[test]
fn the_python_package_consumes_from_the_beginning_the_end_and_any_offset() {
    python(&Server::start().sc.to_string(), &["positions"]);
    assert_eq!(panics(), 0);
}

/// Its consumers hold the interpreter while they wait, so that those of one process take turns, and others are processes.
#[test]
fn consumers_of_the_python_package_at_many_places_at_once_each_get_all() {
    let server = Server::start();
    let sc = server.sc.to_string();
    python(&sc, &["make-and-fill", "0", "5000"]);
    let consumers: Vec<_> = ["0", "17", "2500", "4999"]
        .into_iter()
        .map(|first| {
            let sc = sc.clone();
            std::thread::spawn(move || python(&sc, &["consume-numbers", first, "10000"]))
        })
        .chain([std::thread::spawn({
            let sc = sc.clone();
            move || python(&sc, &["take-turns", "10000"])
        })])
        .collect();
    python(&sc, &["fill", "5000", "5000"]);
    consumers.into_iter().for_each(|c| drop(c.join().expect("a consumer that gets all")));
    assert_eq!(panics(), 0);
}

#[test]
fn a_consumer_of_the_python_package_at_the_end_has_a_record_within_20_ms_of_when_it_is_durable() {
    let said = python(&Server::start().sc.to_string(), &["live"]);
    println!("PyPI package, live: {said}");
    assert_eq!(panics(), 0);
}

#[test]
fn the_python_package_commits_lists_and_deletes_offsets_and_goes_on_at_them_in_another_connection() {
    let sc = Server::start();
    let sc_address = sc.sc.to_string();
    python(&sc_address, &["make-and-fill", "0", "100"]);
    python(&sc_address, &["commit", "0", "10"]);
    python(&sc_address, &["commit", "10", "10"]);
    python(&sc_address, &["uncommit", "19"]);
    python(&sc_address, &["commit", "0", "10"]);
    assert_eq!(panics(), 0);
}

#[test]
fn offsets_that_the_python_package_committed_are_there_after_the_node_was_stopped_and_after_it_was_killed() {
    let (mut node, sc) = node("64MiB");
    python(&sc, &["make-and-fill", "0", "100"]);
    python(&sc, &["commit", "0", "10"]);
    node.stop();
    node.start();
    node.says("endpoint", "up", "");
    python(&sc, &["commit", "10", "10"]);
    node.kill();
    node.start();
    node.says("endpoint", "up", "");
    python(&sc, &["commit", "20", "10"]);
}

#[test]
fn the_python_package_does_all_of_it_over_mutual_tls() {
    let authority = Authority::new();
    authority.issue("server", Good::Days(365));
    authority.issue("panel-1", Good::Days(365));
    let path = |name: &str| authority.path(name);
    let mut config = config(64);
    config.tls = Some(ServerTls {
        cert: path("server.pem"),
        key: SecretPlace::File(path("server.key")),
        client_ca: Some(path("ca.pem")),
        require_client_cert: true,
    });
    let topics = || vec!["*".to_owned()];
    config.allow = vec![Allow { who: vec!["panel-1".into()], produce: topics(), consume: topics(), admin: true }];
    let server = Server::with(config, plan);
    let files = ["panel-1.key", "panel-1.pem", "ca.pem"].map(|name| path(name).display().to_string());
    let tls = ["--tls", "localhost", &files[0], &files[1], &files[2]];
    let dir = tempfile::tempdir().unwrap();
    for words in [
        &["topics"][..],
        &["compressions", dir.path().to_str().unwrap()],
        &["make-and-fill", "0", "100"],
        &["commit", "0", "10"],
        &["commit", "10", "10"],
        &["live"],
    ] {
        python(&server.sc.to_string(), &[&tls[..], words].concat());
    }
    assert_eq!(panics(), 0);
}
