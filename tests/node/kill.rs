//! The kill test: whatever is killed when, what was acknowledged is there, once and in order.
//!
//! The edge is killed `HEADWATER_KILLS` times (50 unless that says otherwise) while `headwater send` and an MQTT broker
//! feed it; its upstream is killed now and then, the link between them is cut or stalls. `HEADWATER_SEED` repeats the moments of an
//! earlier run.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use headwater::backoff::Rng;
use headwater::record::Flags;

use super::load::{Printed, Publisher, Sender, message};
use super::mosquitto::Mosquitto;
use super::node::{Node, config, eventually, setting};
use super::rings::{Stored, assert_same, records, topics};
use super::upstream::Upstream;

/// The moments of one run, from one seed.
struct Moments(Rng);

impl Moments {
    fn next(&mut self) -> u64 {
        self.0.next_u64()
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.next().is_multiple_of(n)
    }

    fn millis(&mut self, range: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(range.start + self.next() % (range.end - range.start))
    }
}

fn edge_config(up: &Upstream, broker: &Mosquitto) -> String {
    let rest = format!(
        "[sources.broker]\ntype = \"mqtt\"\nurl = \"mqtt://127.0.0.1:{}\"\nclient_id = \"edge\"\nsubscribe = [\n  \
         {{ filter = \"load/numbers\", topic = \"mqtt\" }},\n  {{ filter = \"load/end\", topic = \"mqtt-end\" }},\n]\n\n\
         [[rules]]\nname = \"keep\"\ntopics = [\"lines\"]\nuses = \"filter\"\nwith = {{ not = {{ contains = \"DROP\" }} }}\n\n{}",
        broker.port,
        up.sink("hq", "upstream_topic = \"from-{topic}\"")
    );
    config("edge", &rest)
}

#[derive(Default, Debug)]
struct Tally {
    edge_kills: u64,
    upstream_kills: u64,
    cuts: u64,
    stalls: u64,
    looks: u64,
}

/// Kills until it was done `kills` times; both are left running, the link up.
fn storm(edge: &mut Node, up: &mut Upstream, moments: &mut Moments, kills: u64) -> Tally {
    let mut tally = Tally::default();
    let (mut upstream_back, mut link_back) = (None, None);
    while tally.edge_kills < kills {
        // Mostly while it works, now and then while it starts.
        let wait = if moments.one_in(8) { moments.millis(0..150) } else { moments.millis(300..1000) };
        std::thread::sleep(wait);
        if moments.one_in(10) && edge.answers() {
            // The account balances at any moment; `status` checks it.
            edge.status();
            tally.looks += 1;
        }
        edge.kill();
        tally.edge_kills += 1;
        edge.spawn();
        match upstream_back {
            None if moments.one_in(8) => {
                up.node.kill();
                tally.upstream_kills += 1;
                upstream_back = Some(tally.edge_kills + moments.next() % 3);
            }
            Some(at) if at <= tally.edge_kills => {
                up.node.spawn();
                upstream_back = None;
            }
            _ => {}
        }
        match link_back {
            None if moments.one_in(8) => {
                up.link.cut();
                tally.cuts += 1;
                link_back = Some(tally.edge_kills + 1 + moments.next() % 3);
            }
            None if moments.one_in(8) => {
                up.link.stall();
                tally.stalls += 1;
                link_back = Some(tally.edge_kills + 1 + moments.next() % 3);
            }
            Some(at) if at <= tally.edge_kills => {
                up.link.restore();
                link_back = None;
            }
            _ => {}
        }
    }
    if upstream_back.is_some() {
        up.node.spawn();
    }
    up.link.restore();
    tally
}

#[test]
fn what_was_acknowledged_survives_every_kill_and_is_upstream_once_and_in_order() {
    let seed = setting("HEADWATER_SEED").unwrap_or_else(headwater::node::identity::seed);
    let kills = setting("HEADWATER_KILLS").unwrap_or(50);
    println!("HEADWATER_SEED={seed} HEADWATER_KILLS={kills}");
    let (began, mut moments) = (Instant::now(), Moments(Rng::new(seed)));
    let (broker, mut up) = (Mosquitto::start_stock(), Upstream::start());
    let mut edge = Node::new(&edge_config(&up, &broker));
    edge.start();
    // From here on the broker keeps a session for it.
    edge.says("broker", "up", "");
    let (sender, publisher) = (Sender::start("lines", &edge.config_path()), Publisher::start(broker.port));
    let tally = storm(&mut edge, &mut up, &mut moments, kills);
    let (printed, published) = (sender.stop(), publisher.stop());
    eventually("the nodes to answer", || (edge.answers() && up.node.answers()).then_some(()));
    eventually("the last message", || (edge.end_of("mqtt-end") > 0).then_some(()));
    edge.run(&["drain"]).ok();
    let sink = eventually("an empty backlog", || Some(edge.sink("hq")).filter(|sink| sink.pending == 0));
    edge.stop();
    // What the account says is what a restart knows.
    edge.start();
    assert_eq!(edge.sink("hq").delivered, sink.delivered);
    edge.stop();
    up.node.stop();

    let (lines, messages) = (records(&edge.data(), "lines"), records(&edge.data(), "mqtt"));
    check_lines(&printed, &lines);
    let repeats = check_messages(published, &messages);
    let mut delivered = 0;
    for topic in topics(&edge.data()).iter().filter(|topic| !topic.starts_with("headwater-")) {
        let there = records(&up.node.data(), &format!("from-{topic}"));
        assert_same(topic, &records(&edge.data(), topic), &there);
        delivered += there.len() as u64;
    }
    assert_eq!((sink.delivered, sink.refused, sink.evicted, sink.corrupt), (delivered, 0, 0, 0), "{sink:?}");
    println!(
        "{tally:?}\nlines: {} sent in {} sessions, {} printed as stored, {} as filtered, {} stored\n\
         messages: {published} acknowledged by the broker, {} stored, {repeats} of them repeats that the source could not prove\n\
         sink: {} delivered, {} duplicated, {} maybe duplicated, {} lost unsynced; {:.1} s",
        printed.sent,
        printed.sessions,
        printed.offsets.len(),
        printed.filtered.len(),
        lines.len(),
        messages.len(),
        sink.delivered,
        sink.duplicated,
        sink.maybe_duplicated,
        sink.lost_unsynced,
        began.elapsed().as_secs_f32()
    );
}

/// A printed offset holds that line; no line is there twice; what was filtered is not there.
fn check_lines(printed: &Printed, stored: &[Stored]) {
    assert!(!printed.offsets.is_empty() && !printed.filtered.is_empty(), "the load did something");
    for (offset, line) in &printed.offsets {
        let there = stored.get(*offset as usize).map(Stored::text);
        assert_eq!(there, Some(line.as_str()), "offset {offset} was printed for this line");
    }
    let mut seen = HashMap::new();
    for record in stored {
        let before = seen.insert(record.text(), record.offset);
        assert_eq!(before, None, "{} is there twice, again at {}", record.text(), record.offset);
        assert!(!record.text().contains("DROP"), "{} was to be dropped", record.text());
    }
}

/// Every message is there; one that is there again says that it may be a repeat. Gives how many those are.
fn check_messages(published: u64, stored: &[Stored]) -> u64 {
    let mut seen: HashMap<&str, u64> = HashMap::new();
    let mut repeats = 0;
    for record in stored {
        let times = seen.entry(record.text()).or_default();
        *times += 1;
        if *times > 1 {
            assert!(record.flags.has(Flags::REDELIVERED), "{} is there again, unmarked", record.text());
            repeats += 1;
        }
    }
    let missing: Vec<_> = (0..published).map(message).filter(|m| !seen.contains_key(m.as_str())).collect();
    assert!(missing.is_empty(), "{} of {published} messages are missing: {:?}", missing.len(), missing.first());
    assert_eq!(seen.len() as u64, published, "nothing but what was published");
    repeats
}
