//! A disk that is not there, and one that came from somewhere else.

use headwater::lane::{DEFAULT_LANE, LaneId};
use headwater::name::Name;
use headwater::node::disk::FileDisk;
use headwater::record::RecordRef;
use headwater::ring::{LaneOptions, Options, Ring, drive};
use headwater::time::{BootTime, Span};
use headwater::topic::{TopicName, TopicPart};

use super::node::{Node, config, eventually, free_port, headwater};
use super::rings::records;
use super::upstream::Upstream;

#[test]
fn without_a_usable_data_directory_it_runs_in_memory_and_says_so() {
    let up = Upstream::start();
    let text = config("edge", &up.sink("hq", ""));
    let mut node = Node::new(&text.replace("heartbeat =", "control = \"{dir}/control.sock\"\nheartbeat ="));
    std::fs::write(node.data(), "a file where the directory should be").unwrap();
    node.start();
    let status = node.status();
    assert!(status.ring.in_memory);
    let disk = status.parts.iter().find(|part| part.kind == "disk" && part.name == "disk").unwrap();
    assert!(disk.state == "down" && disk.what.contains("kept in memory") && disk.what.contains("/data"), "{disk:?}");
    let page = node.run(&["status"]).ok();
    assert!(page.contains("memory"), "{page}");
    let check = node.run(&["status", "--check"]);
    assert_eq!(check.code, Some(2), "{check:?}");
    assert!(check.out.contains("ring in memory"), "{check:?}");
    // It does its work.
    assert_eq!(node.send("notes", &["a", "b"]), ["0", "1"]);
    node.run(&["drain"]).ok();
    assert_eq!(up.node.tail("notes", 2), ["a", "b"]);
    node.stop();
    assert_eq!(std::fs::read_to_string(node.data()).unwrap(), "a file where the directory should be");
}

#[test]
fn a_node_without_a_place_for_its_socket_tells_its_status_over_http() {
    let listen = format!("listen = \"127.0.0.1:{}\"", free_port());
    let mut node = Node::new(&config("edge", "").replace("listen = \"off\"", &listen));
    std::fs::write(node.data(), "a file where the directory should be").unwrap();
    node.spawn();
    let page = eventually("its page", || Some(node.run(&["status"])).filter(|said| said.code == Some(0))).out;
    assert!(page.contains("IN MEMORY") && page.contains("control.sock"), "{page}");
    // Only of the node that has this config: another one with the same address is not answered for.
    let other = node.path("other.toml");
    std::fs::copy(node.config_path(), &other).unwrap();
    let said = headwater(&["status", "-c", other.to_str().unwrap()], "").failed(1);
    assert!(said.contains("no node answers"), "{said}");
    node.stop();
}

/// A ring of another machine with three notes in it.
fn ring_of_another_machine(dir: &std::path::Path) -> u128 {
    std::fs::create_dir_all(dir).unwrap();
    let mut disk = FileDisk::new(dir, 0);
    let lane = LaneOptions { name: Name::new(DEFAULT_LANE).unwrap(), reserve: 0 };
    let options = Options {
        max_bytes: 64 << 20,
        lanes: vec![lane],
        linger: Span::from_millis(1),
        binding: [9; 16],
        boot_id: [8; 16],
        seed: 7,
        keys: Default::default(),
        formats: Default::default(),
    };
    let (mut ring, report) = Ring::recover(&mut disk, options).unwrap();
    assert!(report.fresh);
    let mut now = BootTime(1_000_000);
    let topic = ring.open_topic(&TopicName::new("notes").unwrap(), LaneId(0), 1).unwrap();
    for value in ["x", "y", "z"] {
        ring.append(now, TopicPart { topic, partition: 0 }, &RecordRef::of(value.as_bytes())).unwrap();
    }
    let ticket = ring.close(now);
    while ring.settled() < ticket {
        drive(&mut ring, &mut disk, now);
        now = now + Span::from_millis(1);
    }
    ring.id().0
}

#[test]
fn the_ring_of_another_machine_is_taken_over_under_a_new_id() {
    let mut up = Upstream::start();
    let mut node = Node::new(&config("edge", &up.sink("hq", "")));
    let before = format!("{:032x}", ring_of_another_machine(&node.data()));
    node.start();
    let status = node.status();
    assert!(status.ring.recovery.cloned && !status.ring.recovery.fresh, "{:?}", status.ring.recovery);
    assert_ne!(status.ring.id, before);
    node.says("disk", "warn", "another machine");
    assert_eq!(node.send("notes", &["own"]), ["3"]);
    assert_eq!(node.tail("notes", 4), ["x", "y", "z", "own"]);
    let id = node.status().ring.id;
    node.run(&["drain"]).ok();
    node.stop();
    node.start();
    let status = node.status();
    assert_eq!((status.ring.id, status.ring.recovery.cloned), (id, false), "said once");
    node.stop();
    up.node.stop();
    assert_eq!(records(&up.node.data(), "notes").last().map(|r| r.text().to_owned()).as_deref(), Some("own"));
}

#[test]
fn damage_is_counted_said_and_survived() {
    let mut node = Node::started("");
    node.send("notes", &["a", "b"]);
    node.stop();
    // Rot in every slot, beyond the first pages.
    for entry in std::fs::read_dir(node.data()).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_string_lossy().starts_with("slot-") {
            let mut bytes = std::fs::read(&path).unwrap();
            bytes[4096..16 * 1024].fill(0x5a);
            std::fs::write(&path, bytes).unwrap();
        }
    }
    node.start();
    let ring = node.status().ring;
    assert!(!ring.in_memory && !ring.recovery.notes.is_empty(), "{:?}", ring.recovery);
    let next: u64 = node.send("notes", &["c"])[0].parse().unwrap();
    assert!(next <= 2, "{next}");
}
