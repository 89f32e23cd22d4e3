//! Weather that only a kernel makes: lost packets, and a delay and a rate below TCP.
//!
//! Each test runs itself again in a network namespace of its own (`unshare -n`, which needs root) and gives the loopback
//! there its weather, by `tc netem`, or where the kernel lacks that, by what comes to the same: `iptables` for loss, `tc tbf` for
//! the rate. The namespace ends with the test. Where there is neither, the test says so.

use std::process::{Command, Stdio};
use std::sync::mpsc;

use super::node::{Node, patience};
use super::upstream::{Upstream, send_all};
use super::weather::{arrives, noise};

const INSIDE: &str = "HEADWATER_NETNS";
/// Commands that make a weather, one after the other.
type Way<'a> = &'a [&'a str];

/// Runs `law` in a namespace whose loopback has the weather of the first of `ways` that works here.
fn in_weather(test: &str, ways: &[Way<'_>], law: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_none() {
        return again(test);
    }
    // A loopback whose packets are those of a network, with room for every header.
    run("ip link set lo mtu 1500 up").expect("a loopback of its own");
    let tried: Vec<_> = ways.iter().map(|way| way.iter().try_for_each(|command| run(command))).collect();
    match tried.iter().position(Result::is_ok) {
        Some(way) => {
            println!("{test}: {}", ways[way].join("; "));
            law();
        }
        None => {
            let why: Vec<_> = tried.into_iter().filter_map(Result::err).collect();
            println!("NOT AVAILABLE HERE: {test}: {}", why.join("; "));
        }
    }
}

/// The same test in a namespace.
fn again(test: &str) {
    let exe = std::env::current_exe().unwrap();
    let mut command = Command::new("unshare");
    command.args(["-n", "--"]).arg(exe).args([&format!("netem::{test}"), "--exact", "--nocapture"]).env(INSIDE, "1");
    let child = match command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn() {
        Ok(child) => child,
        Err(error) => return println!("NOT AVAILABLE HERE: {test}: unshare: {error}"),
    };
    let (id, (tell, ended)) = (child.id(), mpsc::channel());
    std::thread::spawn(move || tell.send(child.wait_with_output()));
    // Two waits of the test inside, and a little.
    let Ok(output) = ended.recv_timeout(patience() * 5 / 2) else {
        let _ = Command::new("kill").args(["-9", &id.to_string()]).status();
        panic!("{test} does not end in its namespace");
    };
    let output = output.unwrap();
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    if said[1].starts_with("unshare: ") {
        return println!("NOT AVAILABLE HERE: {test}: {}", said[1].trim());
    }
    said[0]
        .lines()
        .filter(|line| line.contains(test) || line.starts_with("Counted"))
        .for_each(|line| println!("{line}"));
    assert!(output.status.success(), "{}{}", said[0], said[1]);
}

/// A command of words; its error is what it says.
fn run(command: &str) -> Result<(), String> {
    let mut words = command.split_whitespace();
    let output = Command::new(words.next().unwrap()).args(words).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{command}: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or_default().to_owned();
    if output.status.success() { Ok(()) } else { Err(format!("{command}: {said}")) }
}

#[test]
fn with_one_packet_in_a_hundred_lost_all_arrives_once_over_one_connection() {
    let netem: Way<'_> = &["tc qdisc add dev lo root netem loss 1%"];
    let iptables: Way<'_> = &["iptables -A INPUT -m statistic --mode random --probability 0.01 -j DROP"];
    let test = "with_one_packet_in_a_hundred_lost_all_arrives_once_over_one_connection";
    in_weather(test, &[netem, iptables], || {
        let mut up = Upstream::start();
        let mut edge = Node::started(&up.sink("hq", ""));
        send_all(&edge, "notes", &noise("n", 0..8000));
        let counted = arrives(&mut edge, &mut up, &[("notes", 8000)]);
        assert_eq!((counted.connects, counted.unanswered), (1, 0), "{counted:?}");
    });
}

#[test]
fn with_a_second_of_delay_each_way_nothing_is_given_up() {
    let netem: Way<'_> = &["tc qdisc add dev lo root netem delay 1s limit 100000"];
    in_weather("with_a_second_of_delay_each_way_nothing_is_given_up", &[netem], || {
        let mut up = Upstream::start();
        let mut edge = Node::started(&up.sink("hq", ""));
        send_all(&edge, "notes", &noise("n", 0..500));
        let counted = arrives(&mut edge, &mut up, &[("notes", 500)]);
        assert_eq!((counted.connects, counted.unanswered), (1, 0), "{counted:?}");
    });
}

#[test]
fn at_9600_bits_a_second_what_is_on_its_way_is_waited_for() {
    let netem: Way<'_> = &["tc qdisc add dev lo root netem rate 9600bit limit 1000"];
    let tbf: Way<'_> = &["tc qdisc add dev lo root tbf rate 9600bit burst 1600 limit 64000"];
    in_weather("at_9600_bits_a_second_what_is_on_its_way_is_waited_for", &[netem, tbf], || {
        let mut up = Upstream::start();
        // 10 KB, and once more behind the proxy on the same line: they take twice as long as an answer may.
        let mut edge = Node::started(&up.sink("hq", "request_timeout = \"8s\"\n"));
        send_all(&edge, "notes", &noise("n", 0..40));
        let counted = arrives(&mut edge, &mut up, &[("notes", 40)]);
        assert_eq!((counted.connects, counted.unanswered), (1, 0), "{counted:?}");
    });
}
