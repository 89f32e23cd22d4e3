//! System calls that fail, in a node that runs: strace attaches to it, injects, and lets go again.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::node::Node;

/// While it lives, calls fail. Dropping it lets go of the node, whose next calls are the kernel's own again.
pub struct Fault {
    strace: Child,
    log: PathBuf,
}

impl Fault {
    /// Injects, as strace(1) has it, `fdatasync:error=EIO:when=1`; counted in each thread from here on. None, and said
    /// so, where nobody may be traced.
    pub fn on(node: &Node, inject: &str) -> Option<Fault> {
        let log = node.path("strace");
        // A log of its own for each.
        let _ = std::fs::remove_file(&log);
        let call = inject.split(':').next().unwrap_or_default();
        let started = Command::new("strace")
            .args(["-f", "-o", &log.display().to_string(), "-e", &format!("trace={call}"), "-e", "signal=none"])
            .args(["-e", &format!("inject={inject}"), "-p", &node.pid().to_string()])
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let mut strace = match started {
            Ok(strace) => strace,
            Err(error) => return missing(&error.to_string()),
        };
        let mut said = BufReader::new(strace.stderr.take().unwrap()).lines();
        let first = said.next().map_or(String::new(), |line| line.unwrap());
        if !first.contains("attached") {
            let _ = strace.kill();
            let _ = strace.wait();
            return missing(&first);
        }
        // Whatever else it says must not fill its pipe.
        std::thread::spawn(move || said.for_each(drop));
        Some(Fault { strace, log })
    }

    /// Starts a node whose calls of these files do so: `openat:delay_enter=5s`. False, and said so, where nobody may be
    /// traced.
    pub fn at_start(node: &mut Node, inject: &str, files: &[PathBuf]) -> bool {
        // Whether it can be done is asked of a program that does nothing.
        if !Command::new("strace").args(["-o", "/dev/null", "true"]).status().is_ok_and(|done| done.success()) {
            return missing("no program can be traced").is_some();
        }
        let log = node.path("strace").display().to_string();
        let call = inject.split(':').next().unwrap_or_default();
        let (trace, inject) = (format!("trace={call}"), format!("inject={inject}"));
        // -D: the node is the child, strace is not between.
        let mut words = vec!["strace", "-D", "-f", "-o", &log, "-e", &trace, "-e", "signal=none", "-e", &inject];
        let files: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
        files.iter().for_each(|file| words.extend(["-P", file]));
        node.spawn_under(&words);
        true
    }

    /// Calls that failed or waited so far.
    pub fn fired(&self) -> usize {
        injected(&self.log).len()
    }

    /// The same by name.
    pub fn calls(&self) -> BTreeSet<String> {
        injected(&self.log).into_iter().collect()
    }

    /// Of a node that was started so.
    pub fn calls_at_start(node: &Node) -> BTreeSet<String> {
        injected(&node.path("strace")).into_iter().collect()
    }
}

fn injected(log: &Path) -> Vec<String> {
    let log = std::fs::read_to_string(log).unwrap_or_default();
    let lines = log.lines().filter(|line| line.contains("INJECTED") || line.contains("DELAYED"));
    let call = |line: &str| {
        // Behind the thread's number; where another's call came between: `<... pread64 resumed>`.
        let words = line.split_once(' ').map_or(line, |(_, rest)| rest).trim_start_matches([' ', '<', '.']);
        words.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or_default().to_owned()
    };
    lines.map(call).collect()
}

fn missing(why: &str) -> Option<Fault> {
    println!("strace: not available here ({why})");
    None
}

impl Drop for Fault {
    fn drop(&mut self) {
        // Interrupted, it detaches; killed, it would take the node's threads along.
        let sent = Command::new("kill").args(["-s", "INT", &self.strace.id().to_string()]).status();
        if sent.is_ok_and(|status| status.success()) {
            let _ = self.strace.wait();
        }
    }
}
