//! Starting and ending: signals, owners, errors of the config, clean and unclean ends.

use super::node::{Node, config, eventually, free_port, headwater};
use super::rings::records;
use super::upstream::Upstream;

#[test]
fn sigterm_ends_it_with_a_clean_shutdown_and_nothing_is_lost() {
    for signal in ["TERM", "INT"] {
        let mut node = Node::started("");
        let lines: Vec<_> = (0..100).map(|i| format!("n{i}")).collect();
        // Taken, and not durable by itself yet.
        let input = lines.join("\n") + "\n";
        node.run_with(&["send", "notes", "--ack", "memory"], &input).ok();
        node.signal(signal);
        assert!(node.wait().success());
        assert!(!node.data().join("control.sock").exists(), "the socket is gone");
        assert_eq!(records(&node.data(), "notes").iter().map(|r| r.text()).collect::<Vec<_>>(), lines);
        node.start();
        let recovery = node.status().ring.recovery;
        assert!(recovery.clean_shutdown && !recovery.fresh, "{recovery:?}");
        assert_eq!((recovery.lost_unsynced, recovery.corrupt), (0, 0));
    }
}

#[test]
fn a_killed_node_starts_again_and_knows_that_it_was_not_shut_down() {
    let mut node = Node::started("");
    node.send("notes", &["a", "b"]);
    node.kill();
    node.start();
    let recovery = node.status().ring.recovery;
    assert!(!recovery.clean_shutdown && !recovery.fresh, "{recovery:?}");
    assert_eq!(node.send("notes", &["c"]), ["2"]);
    assert_eq!(node.tail("notes", 3), ["a", "b", "c"]);
}

/// A node whose sink waits for the answer to a request on a stalled link.
fn stalled(up: &Upstream) -> Node {
    let edge = Node::started(&up.sink("hq", ""));
    edge.send("notes", &["a"]);
    edge.run(&["drain"]).ok();
    let sent = edge.sink("hq").part.counters["sent_batches"];
    up.link.stall();
    edge.send("notes", &["b"]);
    eventually("a request under way", || (edge.sink("hq").part.counters["sent_batches"] > sent).then_some(()));
    edge
}

#[test]
fn sigterm_does_not_wait_for_a_stalled_upstream() {
    let up = Upstream::start();
    let mut edge = stalled(&up);
    edge.stop();
    up.link.restore();
    edge.start();
    assert!(edge.status().ring.recovery.clean_shutdown);
    edge.run(&["drain"]).ok();
    assert_eq!(up.node.tail("notes", 2), ["a", "b"]);
    let mut up = up;
    up.node.stop();
    edge.stop();
    assert_eq!(records(&up.node.data(), "notes").len(), 2);
}

#[test]
fn a_second_signal_leaves_at_once() {
    let up = Upstream::start();
    let mut edge = stalled(&up);
    // Two of different kinds: the kernel does not keep two of one.
    edge.signal("TERM");
    edge.signal("INT");
    edge.wait();
    assert!(edge.log().contains("second signal: left at once"), "{}", edge.log());
    edge.start();
    assert_eq!(edge.tail("notes", 2), ["a", "b"]);
}

#[test]
fn a_data_directory_of_a_live_node_is_refused_with_its_pid() {
    let node = Node::started("");
    let other = Node::new(&config("other", "").replace("{dir}", &node.home.path().display().to_string()));
    let said = headwater(&["run", "-c", &other.config_path()], "").failed(1);
    assert!(said.contains(&format!("process {}", node.pid())), "{said}");
    assert_eq!(node.send("notes", &["a"]), ["0"]);
}

#[test]
fn config_errors_end_it_with_code_2_all_of_them_said() {
    let node = Node::new(&config("edge", "[sinks.x]\ntype = \"fluvoi\"\n\n[ring2]\n"));
    let said = headwater(&["run", "-c", &node.config_path()], "").failed(2);
    assert!(said.contains("did you mean `fluvio`") && said.contains("ring2"), "{said}");
    assert_eq!(said.matches("error: ").count(), said.lines().filter(|l| l.contains("error: ")).count());
    let checked = headwater(&["check", "-c", &node.config_path()], "").failed(2);
    assert!(said.lines().all(|line| checked.contains(line)), "check says what run says: {checked}");
    assert!(!node.data().exists(), "nothing was begun");
    assert!(
        headwater(&["run", "-c", &node.path("none.toml").display().to_string()], "").failed(2).contains("none.toml")
    );
    headwater(&["run", "--nonsense"], "").failed(2);
}

#[test]
fn a_taken_port_is_shown_and_tried_again_while_the_node_runs() {
    let held = [(); 3].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let [sc, net, http] = [0, 1, 2].map(|i: usize| held[i].local_addr().unwrap());
    let text = config(
        "edge",
        &format!(
            "[endpoint]\nsc_listen = \"{sc}\"\nspu_listen = \"127.0.0.1:{}\"\n\n\
             [sources.net]\ntype = \"socket\"\nlisten = [\"tcp://{net}\"]\ntopic = \"net\"\n",
            free_port()
        ),
    );
    let mut node = Node::new(&text.replace("listen = \"off\"", &format!("listen = \"{http}\"")));
    node.start();
    node.says("endpoint", "down", "endpoint.sc_listen");
    node.says("http", "down", "http.listen");
    node.says("net", "down", &net.to_string());
    assert_eq!(node.send("notes", &["a"]), ["0"]);
    assert!(node.run(&["status", "--check"]).out.contains("endpoint down"));
    drop(held);
    for part in ["endpoint", "http", "net"] {
        node.says(part, "up", "");
    }
}
