//! From a file that is followed, through a disk that fails and comes back, to an upstream: what the source knows of where
//! it stands goes along with the records, and each line arrives once.

use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::fault::Fault;
use super::kept::read;
use super::node::{Node, config, eventually, free_port};

/// The upstream: a node with an endpoint.
fn upstream() -> (Node, u16) {
    let (sc, spu) = (free_port(), free_port());
    let endpoint = format!("[endpoint]\nsc_listen = \"127.0.0.1:{sc}\"\nspu_listen = \"127.0.0.1:{spu}\"\n");
    let mut node = Node::new(&config("upstream", &endpoint));
    node.start();
    (node, sc)
}

fn edge(sc: u16) -> Node {
    let rest = format!(
        "[sources.follow]\ntype = \"file\"\npaths = [\"{{dir}}/app.log\"]\ntopic = \"notes\"\npoll = \"50ms\"\n\
         [sinks.hq]\ntype = \"fluvio\"\nendpoint = [\"127.0.0.1:{sc}\"]\ntopics = [\"*\"]\n\
         retry_min = \"100ms\"\nretry_max = \"1s\"\ngrace = \"100ms\"\n"
    );
    let mut node = Node::new(&config("edge", &rest).replace("64MiB", "8MiB"));
    node.start();
    node
}

/// Writes numbered lines until it is to stop; how many.
fn write_lines(node: &Node, stop: &AtomicBool) -> usize {
    let mut file = std::fs::File::options().create(true).append(true).open(node.path("app.log")).unwrap();
    let mut count = 0;
    while !stop.load(Ordering::Relaxed) {
        writeln!(file, "line {count}").unwrap();
        count += 1;
        std::thread::sleep(Duration::from_millis(2));
    }
    count
}

#[test]
fn each_line_of_a_followed_file_arrives_upstream_once_while_the_disk_fails_and_comes_back() {
    let (mut up, sc) = upstream();
    let mut edge = edge(sc);
    let (stop, node) = (AtomicBool::new(false), &edge);
    let written = std::thread::scope(|scope| {
        let writer = scope.spawn(|| write_lines(node, &stop));
        let moved = std::panic::catch_unwind(|| {
            for fault in ["fdatasync:error=EIO", "pwrite64:error=EIO", "fdatasync:error=EIO"] {
                let arrived = up.end_of("notes");
                eventually("more lines upstream", || (up.end_of("notes") > arrived).then_some(()));
                let Some(injected) = Fault::on(node, fault) else { return false };
                node.is_in_memory(true);
                let arrived = up.end_of("notes");
                eventually("lines from memory upstream", || (up.end_of("notes") > arrived).then_some(()));
                drop(injected);
                node.run(&["reload"]).ok();
                node.is_in_memory(false);
            }
            true
        });
        stop.store(true, Ordering::Relaxed);
        let count = writer.join().unwrap();
        moved.unwrap_or_else(|panic| std::panic::resume_unwind(panic)).then_some(count)
    });
    let Some(written) = written else { return };
    eventually("all lines upstream", || (up.end_of("notes") >= written as u64).then_some(()));
    edge.run(&["drain"]).ok();
    let sink = edge.sink("hq");
    assert_eq!((sink.pending, sink.refused, sink.duplicated, sink.lost_unsynced), (0, 0, 0, 0), "{sink:?}");
    edge.stop();
    up.stop();
    let (_, found) = read(&up.data(), "notes");
    let mut numbers: Vec<usize> = found.values().map(|line| line["line ".len()..].parse().unwrap()).collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!((numbers.len(), found.len()), (written, written), "each line once");
    println!("{written} lines, each once upstream");
}
