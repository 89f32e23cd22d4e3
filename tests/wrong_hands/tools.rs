//! `headwater ring` with wrong directories, wrong places, wrong files, and beside a node.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::golden::{Normal, golden};
use crate::stand::{BINARY, Said, Site, open_to_all, unprivileged};

/// Runs `headwater ring WORDS...` with nothing on standard input.
fn ring(words: &[&str], normal: &Normal) -> String {
    let words = [&["ring"], words].concat();
    Said::of(Command::new(BINARY).args(&words).stdin(Stdio::null()), &words).shown(normal)
}

/// A stopped node with one record.
fn stopped() -> Site {
    let node = Site::new("").start();
    node.send("pump", "1");
    node.stop()
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

#[test]
fn an_export_that_cannot_be_meant_says_what_can() {
    let site = stopped();
    let (data, normal) = (text(&site.path("data")), site.normal());
    let absent = text(&site.path("absent"));
    std::fs::write(site.path("there.jsonl"), "").unwrap();
    let there = text(&site.path("there.jsonl"));
    let nowhere = text(&site.path("nowhere/a.jsonl"));
    let dir = text(site.dir.path());
    let mut said = String::new();
    for words in [
        &["export", &absent][..],
        &["export", &dir],
        &["export", &data, "--topic", "pumpe"],
        &["export", &data, "--topic", "pump", "--partition", "3"],
        &["export", &data, "--from", "120"],
        &["export", &data, "--from", "yesterday"],
        &["export", &data, "--to", "seq:x"],
        &["export", &data, "--out", &there],
        &["export", &data, "--out", &dir],
        &["export", &data, "--out", &nowhere],
        &["export", &data, "--out", "/dev/full"],
    ] {
        said += &ring(words, &normal);
    }
    golden("ring-export", &said);
}

#[test]
fn an_import_of_what_does_not_belong_there_says_why() {
    let (from, site) = (stopped(), stopped());
    let file = |name: &str, content: &str| {
        std::fs::write(site.path(name), content).unwrap();
        text(&site.path(name))
    };
    let exported = |site: &Site| {
        let out = Command::new(BINARY).args(["ring", "export"]).arg(site.path("data")).output().unwrap();
        String::from_utf8(out.stdout).unwrap()
    };
    let (data, normal) = (text(&site.path("data")), site.normal());
    let foreign = exported(&from);
    let own = exported(&site);
    let id = own[9..41].to_owned();
    let normal = normal.with(id, "RING-ID");
    let mut said = String::new();
    for words in [
        &["import", &data][..],
        &["import", &data, &text(&site.path("absent.jsonl"))],
        &["import", &text(&site.path("empty")), &file("a.jsonl", &foreign)],
        &["import", &data, &file("own.jsonl", &own)],
        &["import", &data, &file("tail.jsonl", "{\"offset\":0,\"clock_trusted\":true,\"value\":\"1\"}\n")],
        &["import", &data, &file("raw.jsonl", "1\n")],
        &["import", &data, &file("cut.jsonl", &foreign[..foreign.len() / 2])],
        &["import", &data, &file("status.jsonl", &foreign.replace("pump", "headwater-status"))],
        &["import", &data, &file("wide.jsonl", &foreign.replace("\"partition\":0", "\"partition\":2"))],
        &["import", &data, "--skip-bad", &file("two.jsonl", &format!("x\n{foreign}"))],
        &["import", &data, &file("again.jsonl", &foreign)],
        &["import", &data, "-"],
    ] {
        said += &ring(words, &normal);
    }
    golden("ring-import", &said);
}

#[test]
fn a_node_that_runs_keeps_its_ring_to_itself_and_can_be_looked_at() {
    let node = Site::new("").start();
    node.send("pump", "1");
    let (data, normal) = (text(&node.site.path("data")), node.site.normal());
    std::fs::write(node.site.path("a.jsonl"), "").unwrap();
    let mut said = ring(&["import", &data, &text(&node.site.path("a.jsonl"))], &normal);
    said += &ring(&["export", &data, "--topic", "pump", "--raw"], &normal);
    golden("ring-running", &said);
}

#[test]
fn a_bench_without_a_card_says_so() {
    let site = Site::new("");
    let normal = site.normal();
    let mut said = ring(&["bench", &text(&site.path("absent"))], &normal);
    said += &ring(&["bench", "/proc"], &normal);
    said += &ring(&["bench", &text(site.dir.path()), "--seconds", "0"], &normal);
    golden("ring-bench", &said);
}

#[test]
fn a_ring_of_another_user_says_whose_right_is_missing() {
    if !crate::stand::is_root() {
        eprintln!("not available here: a ring of another user (the tests do not run as root)");
        return;
    }
    let site = stopped();
    for dir in [site.dir.path().to_owned(), site.path("data")] {
        open_to_all(&dir);
    }
    let data = text(&site.path("data"));
    let words = ["ring", "export", &data];
    let Some(mut command) = unprivileged(&words) else { return };
    let mut said = Said::of(&mut command, &words).shown(&site.normal());
    std::os::unix::fs::chown(site.path("data"), Some(65534), Some(65534)).unwrap();
    std::fs::write(site.path("a.jsonl"), "").unwrap();
    said += &ring(&["import", &data, &text(&site.path("a.jsonl"))], &site.normal());
    golden("ring-no-permission", &said);
}
