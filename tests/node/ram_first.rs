//! `spill = "offline"`: what nobody waits for is not written while the sink takes it.

use std::net::UdpSocket;

use super::node::{Node, config, eventually, free_port};
use super::rings::records;
use super::upstream::Upstream;

/// A node that takes datagrams and sends them on.
fn edge(up: &Upstream) -> (Node, impl Fn(std::ops::Range<u32>) + use<>) {
    let port = free_port();
    let source =
        format!("[sources.net]\ntype = \"socket\"\nlisten = [\"udp://127.0.0.1:{port}\"]\ntopic = \"net\"\n\n");
    let text = config("edge", &(source + &up.sink("hq", "")));
    let mut node = Node::new(&text.replace("linger = \"20ms\"", "linger = \"20ms\"\nspill = \"offline\""));
    node.start();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let send = move |numbers: std::ops::Range<u32>| {
        for n in numbers {
            socket.send_to(format!("event {n:06} of a mast").as_bytes(), ("127.0.0.1", port)).unwrap();
            // A socket's buffer is small.
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    };
    (node, send)
}

fn stored(up: &Upstream) -> u64 {
    up.node.end_of("net")
}

#[test]
fn what_the_upstream_has_was_never_on_the_card_and_comes_once_after_a_cut_link_and_a_kill() {
    let mut up = Upstream::start();
    let (mut node, send) = edge(&up);
    node.says("net", "up", "");
    send(0..10);
    eventually("the first to arrive", || (stored(&up) == 10).then_some(()));
    eventually("RAM-first mode", || node.status().ring.held_bytes);
    let before = node.status().ring.synced_bytes;
    send(10..600);
    eventually("all of it to arrive", || (stored(&up) == 600).then_some(()));
    let written = node.status().ring.synced_bytes - before;
    // Its cursors, now and then. If the records were, then for 20 ms each at least a page: 29 pages while they are sent.
    assert!(written <= 16 * 4096, "{written} bytes were written");
    assert!(node.run(&["status"]).ok().contains("RAM-first"));

    // What it sent and has not on the card does not make it take itself for a backup that was put back.
    node.kill();
    node.start();
    node.says("net", "up", "");
    send(600..610);
    eventually("what came after a crash to arrive", || (stored(&up) == 610).then_some(()));
    assert!(!node.log().contains("a backup was put back"), "{}", node.log());
    eventually("RAM-first mode again", || node.status().ring.held_bytes);

    up.link.cut();
    eventually("the end of RAM-first mode", || node.status().ring.held_bytes.is_none().then_some(()));
    let end = node.end_of("net");
    send(610..700);
    eventually("them to be on the card", || {
        let ring = node.status().ring;
        (node.end_of("net") == end + 90 && ring.unsynced_bytes == 0).then_some(())
    });
    node.kill();
    up.link.restore();
    node.start();
    eventually("the rest to arrive", || (stored(&up) == 700).then_some(()));
    send(700..750);
    eventually("what came since to arrive", || (stored(&up) == 750).then_some(()));
    let sink = node.sink("hq");
    let gone = sink.evicted + sink.expired + sink.corrupt + sink.lost_unsynced + sink.released;
    assert_eq!(sink.admitted, sink.delivered + sink.filtered + sink.refused + sink.pending + gone);
    assert_eq!(gone, 0);
    node.stop();
    up.node.stop();
    let texts: Vec<_> = records(&up.node.data(), "net").iter().map(|r| r.text().to_owned()).collect();
    let sent: Vec<_> = (0..750).map(|n| format!("event {n:06} of a mast")).collect();
    assert_eq!(texts, sent);
}
