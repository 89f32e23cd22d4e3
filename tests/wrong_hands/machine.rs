//! Ports, permissions, disks and data directories: shown and tried again, and never in the way of a start.

use std::net::{TcpListener, UdpSocket};

use crate::golden::golden;
use crate::stand::{Site, status};

#[test]
fn a_taken_port_is_shown_and_had_as_soon_as_it_is_free() {
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (http, sc) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    let (log, web, fluvio) =
        (udp.local_addr().unwrap().port(), http.local_addr().unwrap().port(), sc.local_addr().unwrap().port());
    let config = format!(
        "[node]\nid = \"site-7\"\ndata_dir = \"data\"\nheartbeat = \"off\"\n[ring]\nmax_bytes = \"16MiB\"\nkeep_free = \"0B\"\n\
         [http]\nlisten = \"127.0.0.1:{web}\"\n[endpoint]\nsc_listen = \"127.0.0.1:{fluvio}\"\nspu_listen = \"127.0.0.1:0\"\n\
         [sources.devices]\ntype = \"syslog\"\ntopic = \"log\"\nlisten = [\"udp://127.0.0.1:{log}\"]\n"
    );
    let mut node = Site::of(&config).start();
    let page = node.page_with(&["devices DOWN", "endpoint DOWN", "http DOWN"]);
    let normal = node.site.normal().port(log, "514").port(web, "9004").port(fluvio, "9003");
    golden("port-taken", &status(&page, &normal));
    drop((udp, http, sc));
    node.page_with(&["devices up", "endpoint up"]);
    assert!(node.is_running());
}

#[test]
fn a_port_that_needs_a_right_says_which() {
    let allowed = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    if allowed.is_ok_and(|from| from.trim().parse::<u16>().is_ok_and(|from| from <= 514)) {
        eprintln!("not available here: a port below 1024 that needs a right (ip_unprivileged_port_start)");
        return;
    }
    let site = Site::new(
        "[sources.devices]\ntype = \"syslog\"\ntopic = \"log\"\nlisten = [\"udp://127.0.0.1:514\", \"tcp://127.0.0.1:514\"]\n",
    );
    let Some(mut node) = site.start_unprivileged() else { return };
    let page = node.page_with(&["DOWN"]);
    golden("port-no-permission", &status(&page, &node.site.normal()));
    assert!(node.is_running());
}

#[test]
fn a_disk_smaller_than_the_ring_shrinks_the_ring() {
    let node = Site::with_ring("[ring]\nmax_bytes = \"900GiB\"\nkeep_free = \"0B\"\n").start();
    let page = node.page_with(&["instead of"]);
    let number = regex::Regex::new(r"\d+(\.\d)? (GiB|MiB|TiB)( of \d+(\.\d)? [GT]iB)?").unwrap();
    let page = number.replace_all(&page, "SIZE").into_owned();
    golden("disk-too-small", &status(&page, &node.site.normal()));
}

#[test]
fn a_data_directory_of_a_live_node_is_left_to_it() {
    let first = Site::new("").start();
    first.page_with(&["ring"]);
    let said = first.site.says(&["run"]);
    assert_eq!(said.code, 1);
    golden("data-dir-owned", &said.shown(&first.site.normal()));
    first.page_with(&["ring"]);
}

#[test]
fn a_data_directory_that_cannot_be_written_leaves_the_ring_in_memory() {
    let site = Site::of(
        "[node]\nid = \"site-7\"\ndata_dir = \"/proc/headwater\"\ncontrol = \"control.sock\"\nheartbeat = \"off\"\n[http]\nlisten = \"off\"\n",
    );
    let node = site.start();
    let page = node.page_with(&["IN MEMORY"]);
    golden("data-dir-unwritable", &status(&page, &node.site.normal()));
}

#[test]
fn a_data_directory_in_memory_is_warned_about() {
    let Ok(dir) = tempfile::tempdir_in("/dev/shm") else {
        eprintln!("not available here: a directory on tmpfs (/dev/shm)");
        return;
    };
    let site = Site::of(&format!(
        "[node]\nid = \"site-7\"\ndata_dir = \"{}\"\nheartbeat = \"off\"\n[http]\nlisten = \"off\"\n[ring]\nmax_bytes = \"8MiB\"\nkeep_free = \"0B\"\n",
        dir.path().display()
    ));
    let node = site.start();
    let page = node.page_with(&["WARNING"]);
    golden("data-dir-tmpfs", &status(&page, &node.site.normal().path(dir.path(), "/dev/shm/x")));
}

#[test]
fn a_cloned_card_gets_a_new_ring_id_and_says_so() {
    let first = Site::new("").start();
    first.send("notes", "hello");
    let id = |node: &crate::stand::Node| {
        let status: serde_json::Value = serde_json::from_str(&node.site.says(&["status", "--json"]).text).unwrap();
        status["ring"]["id"].as_str().unwrap().to_owned()
    };
    let before = id(&first);
    let Some(clone) = first.stop().start_elsewhere() else { return };
    let page = clone.page_with(&["another machine"]);
    assert_ne!(id(&clone), before);
    golden("cloned-card", &status(&page, &clone.site.normal()));
}

#[test]
fn a_glob_that_matches_nothing_says_so() {
    let node =
        Site::new("[sources.app]\ntype = \"file\"\ntopic = \"log\"\npaths = [\"logs/*.lgo\", \"app.log\"]\n").start();
    let page = node.page_with(&["app"]);
    std::thread::sleep(std::time::Duration::from_secs(2));
    golden("glob-without-files", &status(&node.page_with(&["app"]), &node.site.normal()));
    drop(page);
}

#[test]
fn a_peer_that_is_not_allowed_is_counted_and_named() {
    let port = crate::stand::free_port();
    let node = Site::new(&format!(
        "[sources.devices]\ntype = \"syslog\"\ntopic = \"log\"\nlisten = [\"udp://127.0.0.1:{port}\"]\nallow = [\"10.0.0.0/8\"]\n"
    ))
    .start();
    node.page_with(&["devices up"]);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.send_to(b"<13>hello", ("127.0.0.1", port)).unwrap();
    let page = node.page_with(&["turned away 1"]);
    golden("peer-not-allowed", &status(&page, &node.site.normal().port(port, "514")));
}

#[test]
fn what_is_missing_on_this_machine_is_named_part_by_part() {
    use std::os::unix::fs::PermissionsExt as _;
    let open = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = open.local_addr().unwrap().port();
    let parts = "[sources.a-program]\ntype = \"exec\"\ncommand = [\"/usr/bin/not-there\"]\ntopic = \"log\"\n\
         [sources.b-file]\ntype = \"file\"\npaths = [\"secret.log\"]\ntopic = \"log\"\n\
         [sources.c-socket]\ntype = \"socket\"\nlisten = [\"unix://nowhere/log.sock\"]\ntopic = \"log\"\n\
         [sinks.copy]\ntype = \"file\"\npath = \"nowhere/copy.log\"\ntopics = [\"log\"]\n\
         [sinks.hq]\ntype = \"fluvio\"\nendpoint = [\"127.0.0.1:PORT\"]\ntls = { ca = \"nowhere/ca.pem\" }\ntopics = [\"log\"]\n";
    let site = Site::new(&parts.replace("PORT", &port.to_string()));
    std::fs::write(site.path("secret.log"), "x\n").unwrap();
    std::fs::set_permissions(site.path("secret.log"), std::fs::Permissions::from_mode(0o000)).unwrap();
    let Some(node) = site.start_unprivileged() else { return };
    // What the node says of them is in its ring a moment later. A sink without its file cannot pass it, one without its upstream can.
    node.waits();
    let wanted =
        ["a-program DOWN", "b-file WARNING", "c-socket DOWN", "copy DOWN", " waiting (", "hq DOWN", "nothing waiting"];
    golden("missing-parts", &status(&node.page_with(&wanted), &node.site.normal().port(port, "9003")));
}
