//! Freshness: how late records arrive, the alarm of it, once for each time, and the mark of what has waited.

use serde_json::Value;

use super::node::{Node, eventually};
use super::rings::records;
use super::upstream::{Upstream, numbered, send_all};

const TOPIC: &str = "headwater-alarms";

fn alarms(node: &Node) -> Vec<Value> {
    records(&node.data(), TOPIC).iter().map(|record| serde_json::from_slice(&record.value).unwrap()).collect()
}

#[test]
fn a_sink_that_is_late_says_so_once_and_once_more_when_it_is_no_longer_whatever_is_killed_between() {
    let mut up = Upstream::start();
    let mut edge = Node::started(&up.sink("hq", "freshness_alarm = \"3s\"\n"));
    edge.send("notes", &["first"]);
    edge.run(&["drain"]).ok();
    up.link.cut();
    send_all(&edge, "notes", &numbered("n", 0..100));
    eventually("the alarm", || (edge.end_of(TOPIC) == 1).then_some(()));
    let late = |node: &Node| node.sink("hq").part.gauges.get("late_seconds").copied().unwrap_or(0);
    eventually("the sink to be late", || (late(&edge) > 0).then_some(()));
    assert!(edge.run(&["status"]).ok().contains("LATE for"));
    for _ in 0..3 {
        edge.kill();
        edge.start();
        eventually("the sink to be late still", || (late(&edge) > 0).then_some(()));
    }
    up.link.restore();
    edge.run(&["drain"]).ok();
    eventually("the end of it", || (edge.end_of(TOPIC) == 2 && late(&edge) == 0).then_some(()));
    edge.says("hq", "up", "connected");
    let fresh = edge.sink("hq").freshness.expect("it is measured");
    assert!(fresh.records >= 100 && fresh.max_s > 3.0 && fresh.p50_s <= fresh.max_s, "{fresh:?}");
    assert!(edge.run(&["status"]).ok().contains("arrived there: half within"));
    edge.run(&["drain"]).ok();
    edge.stop();
    up.node.stop();
    let told = alarms(&edge);
    let states: Vec<_> = told.iter().map(|alarm| (alarm["state"].as_str(), alarm["sink"].as_str())).collect();
    assert_eq!(states, [(Some("late"), Some("hq")), (Some("over"), Some("hq"))]);
    assert_eq!(
        (&told[0]["node"], &told[0]["kind"], &told[0]["bound_s"]),
        (&"edge".into(), &"freshness".into(), &3.0.into())
    );
    assert!(told[0]["age_s"].as_f64() > Some(3.0) && told[0]["pending"].as_u64() >= Some(100), "{told:?}");
    assert!(told[0].get("lasted_s").is_none() && told[1]["lasted_s"].as_f64() > Some(0.0), "{told:?}");
    assert_eq!(alarms(&up.node), told, "every Fluvio sink sends them");
}

#[test]
fn a_sink_that_waits_for_its_link_is_late_as_well() {
    let up = Upstream::start();
    let link = "[links.lte]\nbudget = \"64KiB/day\"\n";
    let mut edge = Node::started(&format!("{link}{}", up.sink("hq", "link = \"lte\"\nfreshness_alarm = \"1s\"\n")));
    // Lines that no compression makes shorter than the budget.
    let line = |n: u64| {
        let mut rng = headwater::backoff::Rng::new(n);
        (0..32).map(|_| format!("{:016x}", rng.next_u64())).collect::<String>()
    };
    send_all(&edge, "notes", &(0..400).map(line).collect::<Vec<_>>());
    edge.says("lte", "warn", "its budget is spent until");
    edge.says(
        "hq",
        "warn",
        "late: records wait longer than freshness_alarm (1s); waits for link lte: its budget is spent",
    );
    eventually("the alarm", || (edge.end_of(TOPIC) >= 1).then_some(()));
    edge.stop();
    let told = alarms(&edge);
    assert_eq!(told.last().and_then(|last| last["state"].as_str()), Some("late"), "{told:?}");
}

#[test]
fn an_alarm_ends_with_its_key() {
    let up = Upstream::start();
    up.link.cut();
    let mut edge = Node::started(&up.sink("hq", "freshness_alarm = \"1s\"\n"));
    edge.send("notes", &["a line"]);
    eventually("the alarm", || (edge.end_of(TOPIC) == 1).then_some(()));
    edge.write_config(&super::node::config("edge", &up.sink("hq", "")));
    edge.run(&["reload"]).ok();
    eventually("the end of it", || (edge.end_of(TOPIC) == 2).then_some(()));
    edge.stop();
    assert_eq!(alarms(&edge)[1]["state"], "over");
}

#[test]
fn what_has_waited_is_marked_in_its_envelope_and_what_comes_in_time_is_not() {
    let mut up = Upstream::start();
    let mut edge = Node::started(&up.sink("hq", "value = \"envelope\"\nmark_backlog = \"2s\"\n"));
    up.link.cut();
    send_all(&edge, "notes", &numbered("old", 0..10));
    std::thread::sleep(std::time::Duration::from_millis(2500));
    up.link.restore();
    edge.run(&["drain"]).ok();
    // On a busy machine one may come late.
    let fresh = eventually("a record in time", || {
        edge.send("notes", &["new"]);
        edge.run(&["drain"]).ok();
        let there = up.node.tail("notes", up.node.end_of("notes") as usize);
        there.last().filter(|last| !last.contains("backlog")).cloned()
    });
    assert!(fresh.contains("\"value\":\"new\""), "{fresh}");
    edge.stop();
    up.node.stop();
    let there: Vec<Value> =
        records(&up.node.data(), "notes").iter().map(|r| serde_json::from_slice(&r.value).unwrap()).collect();
    assert!(there[..10].iter().all(|envelope| envelope["backlog"] == true), "{there:?}");
}
