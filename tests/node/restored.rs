//! A backup that is put back: the node lives on from an earlier day, and gives numbers again that its other life used.
//!
//! The upstream remembers that other life. What is new must not be taken for what was sent under the same numbers, and
//! nothing may happen in silence.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use super::node::{Node, eventually};
use super::rings::records;
use super::upstream::{Upstream, numbered, send_all};

const WORDS: &str = "a backup was put back";

/// A copy of a directory's files; sockets and the lock are no part of a backup.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

/// What a stopped node's directory holds now.
fn backup(node: &Node) -> TempDir {
    let kept = tempfile::tempdir().unwrap();
    copy(&node.data(), kept.path());
    kept
}

fn put_back(node: &Node, kept: &TempDir) {
    fs::remove_dir_all(node.data()).unwrap();
    copy(kept.path(), &node.data());
}

fn send_and_drain(node: &Node, topic: &str, lines: &[String]) {
    send_all(node, topic, lines);
    node.run(&["drain"]).ok();
}

/// How often it found that it is a backup, as the status tells it.
fn noticed(node: &Node) -> u64 {
    node.sink("hq").part.counters.get("backups_put_back").copied().unwrap_or(0)
}

fn announced(node: &Node) {
    assert!(noticed(node) > 0, "{:?}", node.sink("hq"));
    assert!(node.log().contains(WORDS), "{}", node.log());
    node.says("hq", "warn", WORDS);
    let page = node.run(&["status"]).ok();
    assert!(page.contains(WORDS) && page.contains("backups put back "), "{page}");
    eventually("an event of it", || node.run(&["events"]).ok().contains(WORDS).then_some(()));
}

fn upstream_has(up: &Upstream, topic: &str, lines: &[Vec<String>]) {
    let stored: Vec<_> = records(&up.node.data(), topic).iter().map(|r| r.text().to_owned()).collect();
    let lines = lines.concat();
    let at = stored.iter().zip(&lines).position(|(s, l)| s != l).unwrap_or(stored.len().min(lines.len()));
    let near = |all: &[String]| all[at..all.len().min(at + 3)].to_vec();
    assert_eq!(stored, lines, "differs at {at}: {:?} where {:?} was sent", near(&stored), near(&lines));
}

#[derive(Clone, Copy)]
enum End {
    Stop,
    Kill,
}

/// A node that was backed up and put back after its other life had sent 50 records more. It does not run.
fn one_that_was_put_back(end: End) -> (Upstream, Node) {
    let up = Upstream::start();
    let mut edge = Node::started(&up.sink("hq", ""));
    send_and_drain(&edge, "notes", &numbered("common", 0..100));
    match end {
        End::Stop => edge.stop(),
        End::Kill => edge.kill(),
    }
    let kept = backup(&edge);
    edge.start();
    send_and_drain(&edge, "notes", &numbered("other", 0..50));
    assert_eq!(noticed(&edge), 0);
    assert!(!edge.log().contains(WORDS), "{}", edge.log());
    edge.stop();
    put_back(&edge, &kept);
    (up, edge)
}

/// Everything of both lives is there once, and nothing had to be sent twice.
fn all_came_once(mut up: Upstream, mut edge: Node, new: usize) {
    let sink = edge.sink("hq");
    assert_eq!((sink.pending, sink.refused, sink.duplicated, sink.maybe_duplicated), (0, 0, 0, 0), "{sink:?}");
    announced(&edge);
    edge.stop();
    up.node.stop();
    let lines = [numbered("common", 0..100), numbered("other", 0..50), numbered("new", 0..new)];
    upstream_has(&up, "notes", &lines);
}

#[test]
fn what_a_restored_backup_sends_is_new_although_its_numbers_were_used() {
    for end in [End::Stop, End::Kill] {
        let (up, mut edge) = one_that_was_put_back(end);
        edge.start();
        send_and_drain(&edge, "notes", &numbered("new", 0..80));
        all_came_once(up, edge, 80);
    }
}

#[test]
fn it_is_noticed_also_where_more_was_collected_meanwhile_than_the_other_life_sent() {
    for end in [End::Stop, End::Kill] {
        let (up, mut edge) = one_that_was_put_back(end);
        up.link.cut();
        edge.start();
        send_all(&edge, "notes", &numbered("new", 0..80));
        up.link.restore();
        edge.run(&["drain"]).ok();
        all_came_once(up, edge, 80);
    }
}

#[test]
fn it_is_noticed_also_by_a_later_process_than_the_first() {
    for (backed_up, ended) in [(End::Stop, End::Stop), (End::Stop, End::Kill), (End::Kill, End::Stop)] {
        let (mut up, mut edge) = one_that_was_put_back(backed_up);
        up.link.cut();
        edge.start();
        send_all(&edge, "notes", &numbered("new", 0..80));
        match ended {
            End::Stop => edge.stop(),
            End::Kill => edge.kill(),
        }
        up.link.restore();
        edge.start();
        edge.run(&["drain"]).ok();
        let sink = edge.sink("hq");
        // Nobody can tell by now that the other life did not have these.
        assert!(sink.pending == 0 && sink.maybe_duplicated <= 80, "{sink:?}");
        announced(&edge);
        edge.stop();
        up.node.stop();
        let lines = [numbered("common", 0..100), numbered("other", 0..50), numbered("new", 0..80)];
        upstream_has(&up, "notes", &lines);
    }
}

#[test]
fn it_is_noticed_in_each_topic_although_another_was_sent_first() {
    let up = Upstream::start();
    let mut edge = Node::started(&up.sink("hq", ""));
    for topic in ["notes", "alarms"] {
        send_and_drain(&edge, topic, &numbered("common", 0..10));
    }
    edge.stop();
    let kept = backup(&edge);
    edge.start();
    // Of one topic that the backup knows, and of one that it has never heard of.
    for topic in ["alarms", "later"] {
        send_and_drain(&edge, topic, &numbered("other", 0..50));
    }
    edge.stop();
    put_back(&edge, &kept);
    for topic in ["notes", "alarms", "later"] {
        // Each time another process.
        edge.start();
        send_and_drain(&edge, topic, &numbered("new", 0..80));
        assert_eq!(edge.sink("hq").pending, 0);
        assert_eq!(noticed(&edge), u64::from(topic != "notes"), "{topic}: {:?}", edge.sink("hq"));
        edge.stop();
    }
    let mut up = up;
    up.node.stop();
    upstream_has(&up, "notes", &[numbered("common", 0..10), numbered("new", 0..80)]);
    upstream_has(&up, "alarms", &[numbered("common", 0..10), numbered("other", 0..50), numbered("new", 0..80)]);
    upstream_has(&up, "later", &[numbered("other", 0..50), numbered("new", 0..80)]);
}

#[test]
fn a_topic_that_the_backup_has_never_heard_of_is_sent_whole() {
    let mut up = Upstream::start();
    let mut edge = Node::started(&up.sink("hq", ""));
    send_and_drain(&edge, "notes", &numbered("common", 0..10));
    edge.stop();
    let kept = backup(&edge);
    edge.start();
    send_and_drain(&edge, "later", &numbered("other", 0..50));
    edge.stop();
    put_back(&edge, &kept);
    // Another process collects what the next one sends.
    up.link.cut();
    edge.start();
    send_all(&edge, "later", &numbered("new", 0..80));
    edge.stop();
    up.link.restore();
    edge.start();
    edge.run(&["drain"]).ok();
    announced(&edge);
    edge.stop();
    up.node.stop();
    upstream_has(&up, "later", &[numbered("other", 0..50), numbered("new", 0..80)]);
}

#[test]
fn one_backup_may_be_put_back_as_often_as_one_likes() {
    let mut up = Upstream::start();
    let mut edge = Node::started(&up.sink("hq", ""));
    send_and_drain(&edge, "notes", &numbered("common", 0..100));
    edge.stop();
    let kept = backup(&edge);
    let mut lines = vec![numbered("common", 0..100)];
    for (life, count) in [50, 20, 80, 60].into_iter().enumerate() {
        edge.start();
        lines.push(numbered(&format!("life-{life}"), 0..count));
        send_and_drain(&edge, "notes", lines.last().unwrap());
        // It meets every life that was before it.
        assert_eq!(noticed(&edge), life as u64);
        // And stays who it is by now.
        edge.kill();
        edge.start();
        lines.push(numbered(&format!("life-{life}-again"), 0..count));
        send_and_drain(&edge, "notes", lines.last().unwrap());
        let sink = edge.sink("hq");
        assert_eq!((noticed(&edge), sink.duplicated, sink.maybe_duplicated), (0, 0, 0), "{sink:?}");
        edge.stop();
        put_back(&edge, &kept);
    }
    up.node.stop();
    upstream_has(&up, "notes", &lines);
}

/// A backup with 200 records that were not sent yet; then they were, in batches of their own or together with 50 more.
fn one_with_a_backlog(end: End, more: usize, apart: bool) -> (Upstream, Node) {
    let up = Upstream::start();
    let mut edge = Node::started(&up.sink("hq", ""));
    send_and_drain(&edge, "notes", &numbered("common", 0..100));
    up.link.cut();
    send_all(&edge, "notes", &numbered("waiting", 0..200));
    match end {
        End::Stop => edge.stop(),
        End::Kill => edge.kill(),
    }
    let kept = backup(&edge);
    if apart {
        up.link.restore();
    }
    edge.start();
    if apart {
        edge.run(&["drain"]).ok();
    }
    send_all(&edge, "notes", &numbered("other", 0..more));
    up.link.restore();
    edge.run(&["drain"]).ok();
    assert_eq!(up.node.end_of("notes"), 300 + more as u64);
    edge.stop();
    put_back(&edge, &kept);
    (up, edge)
}

#[test]
fn a_backlog_of_the_backup_that_was_sent_meanwhile_is_not_sent_again() {
    for (end, more) in [(End::Stop, 0), (End::Kill, 0), (End::Stop, 50), (End::Kill, 50)] {
        let (mut up, mut edge) = one_with_a_backlog(end, more, true);
        edge.start();
        send_and_drain(&edge, "notes", &numbered("new", 0..80));
        let sink = edge.sink("hq");
        assert_eq!((sink.pending, sink.duplicated, sink.maybe_duplicated), (0, 0, 0), "{sink:?}");
        // A life that did nothing but what this one would have done is none.
        assert_eq!(noticed(&edge), u64::from(more > 0));
        edge.stop();
        up.node.stop();
        let both = [numbered("common", 0..100), numbered("waiting", 0..200)].concat();
        upstream_has(&up, "notes", &[both, numbered("other", 0..more), numbered("new", 0..80)]);
    }
}

#[test]
fn a_backlog_of_the_backup_that_was_sent_along_with_more_comes_again_and_is_counted() {
    for end in [End::Stop, End::Kill] {
        let (mut up, mut edge) = one_with_a_backlog(end, 50, false);
        edge.start();
        send_and_drain(&edge, "notes", &numbered("new", 0..80));
        let sink = edge.sink("hq");
        // By batches: one that begins in the backlog may hold some of what is new.
        assert!((200..=280).contains(&sink.maybe_duplicated), "{sink:?}");
        assert_eq!((sink.pending, sink.duplicated), (0, 0), "{sink:?}");
        announced(&edge);
        edge.stop();
        up.node.stop();
        let waiting = numbered("waiting", 0..200);
        let other = numbered("other", 0..50);
        let lines = [numbered("common", 0..100), waiting.clone(), other, waiting, numbered("new", 0..80)];
        upstream_has(&up, "notes", &lines);
    }
}
