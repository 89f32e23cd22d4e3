//! The filter of system calls in the unit: what a node makes of them is in it. A call that is not would fail with EPERM, in
//! some corner, at some site.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use super::node::{Node, config, eventually, free_port};

/// The calls of a group as this systemd has it, groups in it spread out.
fn group(name: &str, into: &mut BTreeSet<String>) -> Option<()> {
    let done = Command::new("systemd-analyze").args(["syscall-filter", name]).output().ok()?;
    for line in String::from_utf8_lossy(&done.stdout).lines().skip(1).map(str::trim) {
        match line.chars().next() {
            Some('@') => group(line, into)?,
            Some('#') | None => {}
            Some(_) => drop(into.insert(line.to_owned())),
        }
    }
    Some(())
}

/// What the unit lets through; None, and said so, where systemd is not there to ask.
fn allowed() -> Option<BTreeSet<String>> {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/service/headwater.service");
    let unit = std::fs::read_to_string(unit).unwrap();
    let mut allowed = BTreeSet::new();
    for line in unit.lines().filter_map(|line| line.strip_prefix("SystemCallFilter=")) {
        let (words, without) = line.strip_prefix('~').map_or((line, false), |words| (words, true));
        let mut named = BTreeSet::new();
        for word in words.split(' ') {
            if !word.starts_with('@') {
                named.insert(word.to_owned());
            } else if group(word, &mut named).is_none() {
                println!("systemd-analyze: not available here");
                return None;
            }
        }
        if without {
            allowed.retain(|call| !named.contains(call));
        } else {
            allowed.extend(named);
        }
    }
    // Of a list of what is allowed this is always a part.
    group("@default", &mut allowed)?;
    Some(allowed)
}

#[test]
fn every_system_call_that_a_node_makes_is_allowed_by_the_unit() {
    let Some(allowed) = allowed() else { return };
    if !Command::new("strace").args(["-o", "/dev/null", "true"]).status().is_ok_and(|done| done.success()) {
        println!("strace: not available here");
        return;
    }
    let ports = [(); 4].map(|()| free_port());
    let parts = format!(
        "[sources.f]\ntype = \"file\"\ntopic = \"f\"\npaths = [\"{{dir}}/*.txt\"]\n\
         [sources.e]\ntype = \"exec\"\ntopic = \"e\"\ncommand = [\"date\"]\nevery = \"1s\"\n\
         [sources.s]\ntype = \"syslog\"\ntopic = \"s\"\nlisten = [\"udp://127.0.0.1:{}\", \"unix://{{dir}}/s\"]\n\
         [sources.h]\ntype = \"host\"\ntopic = \"h\"\nevery = \"1s\"\n\
         [sinks.o]\ntype = \"file\"\npath = \"{{dir}}/out.log\"\ntopics = [\"*\"]\n\
         [sinks.hq]\ntype = \"fluvio\"\nendpoint = [\"localhost:{}\"]\ntopics = [\"*\"]\n\
         [endpoint]\nsc_listen = \"127.0.0.1:{}\"\nspu_listen = \"127.0.0.1:{}\"\n",
        ports[0], ports[1], ports[2], ports[3]
    );
    let mut node = Node::new(&config("edge", &parts));
    std::fs::write(node.path("a.txt"), "a line\n").unwrap();
    let log = node.path("strace");
    node.spawn_under(&["strace", "-D", "-f", "-o", &log.display().to_string(), "-e", "signal=none"]);
    eventually("the node to answer", || node.answers().then_some(()));
    node.send("notes", &["a"]);
    assert_eq!(node.tail("f", 1), ["a line"]);
    for source in ["e", "h"] {
        eventually("a record", || (node.end_of(source) > 0).then_some(()));
    }
    eventually("a try of the upstream", || (node.sink("hq").part.state == "down").then_some(()));
    node.run(&["reload"]).ok();
    node.stop();
    let log = std::fs::read_to_string(log).unwrap();
    let call = |line: &str| {
        let (_, rest) = line.split_once(' ')?;
        let (name, _) = rest.trim_start().split_once('(')?;
        name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_').then(|| name.to_owned())
    };
    let made: BTreeSet<String> = log.lines().filter_map(call).collect();
    println!("{} system calls of {} that are allowed", made.len(), allowed.len());
    assert!(made.contains("fdatasync") && made.contains("sendto") && made.contains("execve"), "{made:?}");
    let refused: Vec<_> = made.difference(&allowed).collect();
    assert!(refused.is_empty(), "{refused:?}");
}
