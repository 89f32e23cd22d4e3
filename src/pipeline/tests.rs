//! Losses and refusals, from the ring to the record that tells of them, over a ring in memory.

mod dead;
mod rules;

use std::collections::BTreeMap;

use super::*;
use crate::limits::MIN_RING;
use crate::ring::{LaneOptions, MemDisk, Options, execute};
use crate::time::WallTime;

fn name(s: &str) -> Name {
    Name::new(s).unwrap()
}

struct Rig {
    disk: MemDisk,
    pipeline: Pipeline,
    /// In seconds.
    time: i64,
    seed: u64,
}

fn plan() -> Plan {
    let topic = |lane, partitions, max_age| TopicPlan { lane, partitions, pause: false, max_age };
    let topics =
        [("one", topic(1, 1, None)), ("two", topic(1, 2, None)), ("old", topic(0, 1, Some(Span::from_secs(60))))];
    let topics = topics.map(|(name, plan)| (TopicName::new(name).unwrap(), plan));
    Plan { lanes: vec![name("urgent"), name("normal")], topics: topics.into(), default_lane: 1, ..Plan::default() }
}

fn recover(disk: &mut MemDisk) -> Pipeline {
    let lane = |lane: &Name| LaneOptions { name: lane.clone(), reserve: 0 };
    let (boot_id, plan) = ([2; 16], plan());
    let lanes = plan.lanes.iter().map(lane).collect();
    let linger = Span::from_secs(1);
    let options = Options {
        max_bytes: MIN_RING,
        lanes,
        linger,
        binding: [1; 16],
        boot_id,
        seed: 7,
        keys: Default::default(),
        formats: Default::default(),
    };
    let (ring, report) = Ring::recover(disk, options).unwrap();
    Pipeline::new(ring, report, false, plan)
}

impl Rig {
    fn new() -> Self {
        let mut disk = MemDisk::new(MIN_RING);
        let pipeline = recover(&mut disk);
        Self { disk, pipeline, time: 1000, seed: 1 }
    }

    fn now(&self) -> Now {
        let boot = BootTime(self.time * 1_000_000);
        Now { boot, wall: WallTime(boot.0 + 1_700_000_000_000_000), trusted: true }
    }

    fn drive(&mut self) {
        let now = self.now();
        while let Some(command) = self.pipeline.poll(now) {
            let done = execute(command, &mut self.disk);
            self.pipeline.complete(now, done);
        }
    }

    fn flush(&mut self) {
        self.pipeline.ring_mut().seal_all();
        self.drive();
    }

    fn sink(&mut self) -> SinkId {
        let topics = TopicSet { include: vec!["*".into()], exclude: vec![] };
        self.pipeline.add_sink(SinkPlan { name: name("hq"), topics })
    }

    /// A record that does not become smaller.
    fn offer(&mut self, topic: &str, partition: u8, bytes: usize) {
        let topic = self.pipeline.open_topic(&TopicName::new(topic).unwrap(), None).unwrap();
        let mut value = vec![0; bytes];
        for byte in &mut value {
            self.seed = self.seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            *byte = (self.seed >> 33) as u8;
        }
        let part = TopicPart { topic, partition };
        while self.pipeline.offer_plain(self.now(), part, &RecordRef::of(&value)).is_err() {
            self.drive();
        }
    }

    /// The process and all that it did not write are gone.
    fn crash(&mut self) -> SinkId {
        self.pipeline = recover(&mut self.disk);
        self.sink()
    }

    /// The sink takes everything of a stream; how much was delivered.
    fn take(&mut self, sink: SinkId, of: StreamId) -> u64 {
        let mut delivered = 0;
        loop {
            let (pos, end) = (self.pipeline.cursor(sink, of), self.pipeline.end(sink, of));
            let (to, mut frame) = match self.pipeline.read(sink, of, pos) {
                ReadStep::Frame(frame) if frame.end().ordinal > end.ordinal => (end, Some(frame)),
                ReadStep::Frame(frame) => (frame.end(), Some(frame)),
                ReadStep::Gap(gap) => (gap.to, None),
                ReadStep::Wait => {
                    self.drive();
                    continue;
                }
                ReadStep::End => return delivered,
            };
            let mut sum = Tally::default();
            let entries = frame.iter_mut().flat_map(|frame| frame.entries_from(pos.seq));
            for entry in entries.take_while(|entry| entry.ordinal < to.ordinal) {
                let boot = self.pipeline.ring().boot();
                let expired = self.pipeline.is_expired(|| self.now(), &entry, boot);
                let fate = if expired { Fate::Expired } else { Fate::Delivered };
                if expired {
                    sum.expired += 1
                } else {
                    sum.delivered += 1
                }
                let (ordinal, part, offset) = (entry.ordinal, entry.part, entry.offset);
                let when = When { boot, at: entry.record.admitted };
                self.pipeline.note(sink, of, &Note { ordinal, part, offset, when, fate, stop: false });
            }
            delivered += sum.delivered;
            self.pipeline.advance(self.now().boot, sink, of, to, sum, 0, &[]);
        }
    }

    /// The streams of the lane `normal`, the oldest first.
    fn streams(&self, sink: SinkId) -> Vec<Stream> {
        self.pipeline.streams(sink, LaneId(1))
    }

    fn split(&mut self, sink: SinkId, least: u64) -> bool {
        self.pipeline.split(self.now().boot, sink, LaneId(1), least)
    }

    /// The sink takes everything, lane by lane, and stores where it is.
    fn drain(&mut self, sink: SinkId) {
        for lane in (0..self.pipeline.lanes() as u8).map(LaneId) {
            self.take(sink, lane.into());
        }
        self.pipeline.store_cursors(self.now().boot);
        self.flush();
    }

    /// What stands in `headwater-gaps`.
    fn told(&mut self) -> Vec<serde_json::Value> {
        self.values(GAPS_TOPIC)
    }

    /// The values of a topic, as JSON.
    fn values(&mut self, topic: &str) -> Vec<serde_json::Value> {
        let Some(topic) = self.pipeline.ring().topic_id(topic) else { return Vec::new() };
        let part = TopicPart { topic, partition: 0 };
        let mut reader = self.pipeline.ring().part_reader(part, 0);
        let mut told = Vec::new();
        loop {
            match self.pipeline.read_part(&mut reader) {
                ReadStep::Frame(frame) => {
                    for entry in frame.entries_of(part, reader.offset) {
                        told.push(serde_json::from_slice(entry.record.value).unwrap());
                        reader.offset = entry.offset + 1;
                    }
                }
                ReadStep::Gap(_) => {}
                ReadStep::Wait => self.drive(),
                ReadStep::End => return told,
            }
        }
    }

    /// By topic and reason, and by what the account says; both must be the same.
    fn losses(&mut self) -> BTreeMap<(String, String), u64> {
        let mut told: BTreeMap<(String, String), u64> = BTreeMap::new();
        for record in self.told() {
            let text = |key: &str| record[key].as_str().unwrap_or("-").to_owned();
            *told.entry((text("topic"), text("reason"))).or_default() += record["count"].as_u64().unwrap();
        }
        let snapshot = self.pipeline.snapshot();
        let book = &snapshot.sinks[0];
        let mut counted: BTreeMap<(String, String), u64> = BTreeMap::new();
        let name = |id| snapshot.topics.iter().find(|info| info.id == id).unwrap().name.as_str().to_owned();
        let parts = book.topics.iter().map(|part| (name(part.topic), part.counts));
        for (topic, counts) in parts.chain([("-".to_owned(), book.unattributed)]) {
            for (reason, count) in &counts.named()[3..7] {
                if *count > 0 && topic != GAPS_TOPIC {
                    *counted.entry((topic.clone(), (*reason).to_owned())).or_default() += count;
                }
            }
        }
        assert_eq!(told, counted);
        told
    }
}

#[test]
fn what_a_sleeping_sink_misses_is_told_topic_by_topic_and_once_after_any_crash() {
    let mut rig = Rig::new();
    let sink = rig.sink();
    rig.offer("one", 0, 100);
    rig.flush();
    rig.drain(sink);
    assert!(rig.told().is_empty());
    // Twice what the ring holds, and of each third record it is known where it went.
    let mut given = BTreeMap::new();
    for n in 0..1500 {
        let (topic, partition) = [("one", 0), ("two", 0), ("two", 1), ("three", 0)][n % 4];
        *given.entry((topic, partition)).or_insert(0u64) += 1;
        rig.offer(topic, partition, 6000);
        rig.time += 1;
    }
    rig.flush();
    // Before the sink comes to it the status says it already.
    let book = rig.pipeline.snapshot().sinks[0].clone();
    assert!(book.evicted > 500 && book.unattributed == Counts::default(), "{book:?}");
    let before = (book.evicted, book.topics.iter().map(|t| t.counts.evicted).sum::<u64>());
    assert_eq!(before.0, before.1);
    assert_eq!(book.topics.iter().map(|t| t.pending).sum::<u64>(), book.pending);
    // It passes the gap, and nothing of that is written when the power goes.
    let lane = LaneId(1);
    let pos = rig.pipeline.cursor(sink, lane);
    let ReadStep::Gap(gap) = rig.pipeline.read(sink, lane, pos) else { panic!("nothing is lost") };
    rig.pipeline.advance(rig.now().boot, sink, lane, gap.to, Tally::default(), 0, &[]);
    let sink = rig.crash();
    assert!(rig.told().is_empty());
    rig.drain(sink);
    let losses = rig.losses();
    // Storing that took one slot more.
    let lost = losses.values().sum::<u64>();
    assert!(lost >= before.0 && lost < before.0 + 50, "{lost} of {before:?}");
    assert_eq!(losses.len(), 3, "{losses:?}");
    let told = rig.told();
    assert!((4..=8).contains(&told.len()), "one for each partition, and once more: {told:?}");
    let mut next = BTreeMap::new();
    for record in &told {
        let number = |key: &str| record[key].as_u64().unwrap();
        assert_eq!((record["sink"].as_str(), record["lane"].as_str()), (Some("hq"), Some("normal")));
        assert_eq!(number("count"), number("to") - number("from"));
        let at = next.entry((record["topic"].to_string(), number("partition"))).or_insert(number("from"));
        assert_eq!(*at, number("from"), "{told:?}");
        *at = number("to");
        // The record that the sink had, and the beginning of what is left.
        assert!(record["first_time"].as_str() < record["last_time"].as_str(), "{record}");
        assert!(record["first_boot"].is_null());
    }
    let one = told.iter().find(|record| record["topic"] == "one").unwrap();
    assert_eq!(one["from"], 1, "the first was delivered");
    // Now it is stored: no crash brings it a second time.
    let sink = rig.crash();
    rig.drain(sink);
    assert_eq!((rig.losses(), rig.told()), (losses, told));
}

#[test]
fn what_is_too_old_is_told_with_its_times_and_neighbours_are_one_record() {
    let mut rig = Rig::new();
    let sink = rig.sink();
    for _ in 0..30 {
        rig.offer("old", 0, 50);
        rig.time += 3;
    }
    rig.offer("one", 0, 50);
    rig.flush();
    rig.drain(sink);
    let told = rig.told();
    assert_eq!(told.len(), 1, "{told:?}");
    let record = &told[0];
    let (count, to) = (record["count"].as_u64().unwrap(), record["to"].as_u64().unwrap());
    assert_eq!((&record["topic"], &record["reason"]), (&"old".into(), &"expired".into()));
    assert_eq!((record["from"].as_u64(), count), (Some(0), to));
    let text = |at: i64| crate::envelope::rfc3339(WallTime(at * 1_000_000 + 1_700_000_000_000_000)).unwrap();
    assert_eq!(record["first_time"].as_str(), Some(&*text(1000)));
    assert_eq!(record["last_time"].as_str(), Some(&*text(1000 + 3 * (count as i64 - 1))));
    assert_eq!(rig.losses().into_values().collect::<Vec<_>>(), [count]);
}

#[test]
fn what_is_lost_of_the_records_of_losses_is_counted_and_makes_no_more_of_them() {
    let mut rig = Rig::new();
    let sink = rig.sink();
    // Losses one by one, of a topic in the lane of the records that tell of them.
    for _ in 0..40 {
        rig.offer("old", 0, 50);
        rig.time += 100;
        rig.flush();
        rig.drain(sink);
    }
    assert_eq!(rig.told().len(), 40);
    // A second sink sleeps while all of it is pushed out.
    let topics = TopicSet { include: vec!["*".into()], exclude: vec![] };
    let late = rig.pipeline.add_sink(SinkPlan { name: name("late"), topics });
    for _ in 0..3 {
        rig.offer("old", 0, 50);
        rig.time += 100;
        rig.flush();
        rig.drain(sink);
    }
    for _ in 0..1200 {
        rig.offer("old", 0, 6000);
    }
    rig.flush();
    rig.drain(late);
    let of_late: Vec<_> = rig.told().into_iter().filter(|record| record["sink"] == "late").collect();
    assert!(!of_late.is_empty() && of_late.iter().all(|record| record["topic"] == "old"), "{of_late:?}");
    let gaps = rig.pipeline.ring().topic_id(GAPS_TOPIC).unwrap();
    let own = rig.pipeline.shares(late, LaneId(0)).find(|(topic, _)| *topic == gaps).unwrap().1;
    assert_eq!(own.evicted, 3);
    let old = rig.pipeline.ring().topic_id("old").unwrap();
    let old = rig.pipeline.shares(late, LaneId(0)).find(|(topic, _)| *topic == old).unwrap().1;
    let told: u64 = of_late.iter().map(|record| record["count"].as_u64().unwrap()).sum();
    assert_eq!(told, old.evicted + old.expired);
}

#[test]
fn what_a_removed_topic_had_is_of_no_topic_and_the_sums_stay() {
    let mut rig = Rig::new();
    let sink = rig.sink();
    (0..5).for_each(|_| rig.offer("one", 0, 50));
    (0..7).for_each(|_| rig.offer("two", 1, 50));
    rig.flush();
    rig.drain(sink);
    let book = rig.pipeline.snapshot().sinks[0].clone();
    assert_eq!(book.topics.iter().map(|t| t.counts.delivered).collect::<Vec<_>>(), [5, 7]);
    let id = rig.pipeline.ring().topic_id("one").unwrap();
    rig.pipeline.remove_topic(id);
    rig.flush();
    for _ in 0..2 {
        let book = rig.pipeline.snapshot().sinks[0].clone();
        assert_eq!((book.delivered, book.unattributed.delivered, book.topics.len()), (12, 5, 1));
        rig.crash();
    }
}

#[test]
fn a_topic_that_changed_lanes_while_a_sink_slept_is_told_in_both() {
    let mut rig = Rig::new();
    let sink = rig.sink();
    (0..3).for_each(|_| rig.offer("one", 0, 50));
    rig.flush();
    rig.drain(sink);
    (0..20).for_each(|_| rig.offer("one", 0, 6000));
    (0..20).for_each(|_| rig.offer("two", 0, 6000));
    let mut moved = plan();
    moved.topics.get_mut(&TopicName::new("one").unwrap()).unwrap().lane = 0;
    rig.pipeline.replan(moved);
    (0..30).for_each(|_| rig.offer("one", 0, 6000));
    for _ in 0..1000 {
        rig.offer("two", 1, 6000);
        rig.offer("one", 0, 6000);
    }
    rig.flush();
    rig.drain(sink);
    let lanes = ["urgent", "normal"].map(|lane| {
        let told = rig.told().into_iter().filter(|r| r["lane"] == lane && r["topic"] == "one");
        told.map(|r| (r["from"].as_u64().unwrap(), r["to"].as_u64().unwrap())).collect::<Vec<_>>()
    });
    assert_eq!(lanes[1], [(3, 23)], "what stood in the lane that it left");
    assert_eq!(lanes[0].first().map(|r| r.0), Some(23), "{lanes:?}");
    assert_eq!(rig.losses().keys().filter(|(topic, _)| topic == "-").count(), 0);
}

#[test]
fn a_new_stream_shows_nothing_before_its_split_is_durable_and_a_crash_forgets_both() {
    let mut rig = Rig::new();
    let sink = rig.sink();
    (0..20).for_each(|_| rig.offer("one", 0, 100));
    rig.flush();
    assert!(!rig.split(sink, 21), "too little waits");
    assert!(rig.split(sink, 20));
    assert!(!rig.split(sink, 1), "nothing waits in the new one");
    let newest = rig.streams(sink)[1];
    (0..5).for_each(|_| rig.offer("one", 0, 100));
    // Nothing was given to the disk yet.
    assert!(matches!(rig.pipeline.read(sink, &newest, newest.cursor), ReadStep::End));
    assert!(!rig.pipeline.has_more(sink, &newest, newest.cursor));
    let sink = rig.crash();
    assert_eq!(rig.streams(sink).len(), 1);
    assert_eq!(rig.take(sink, LaneId(1).into()), 20);
}

#[test]
fn streams_are_sent_apart_and_what_each_did_is_one_account_after_any_crash() {
    let mut rig = Rig::new();
    let sink = rig.sink();
    (0..20).for_each(|_| rig.offer("one", 0, 100));
    rig.flush();
    assert!(rig.split(sink, 1));
    rig.flush();
    (0..5).for_each(|_| rig.offer("two", 1, 100));
    rig.flush();
    let newest = rig.streams(sink)[1];
    assert_eq!(rig.take(sink, (&newest).into()), 5);
    let seen = |rig: &Rig, sink| {
        let account = rig.pipeline.account(sink, LaneId(1));
        let shares: Vec<_> = rig.pipeline.shares(sink, LaneId(1)).map(|(_, counts)| counts.delivered).collect();
        let book = rig.pipeline.snapshot().sinks.remove(0);
        assert_eq!(book.unattributed, Counts::default());
        let of_topics: u64 = book.topics.iter().map(|topic| topic.pending).sum();
        assert_eq!(
            (book.pending_unattributed, of_topics),
            (0, book.pending),
            "the ring knows of which topics they are"
        );
        (account.delivered, shares.into_iter().sum::<u64>(), book.pending, rig.streams(sink).len())
    };
    assert_eq!(seen(&rig, sink), (5, 5, 20, 2));
    rig.pipeline.put_cursors(rig.now().boot);
    rig.flush();
    let sink = rig.crash();
    assert_eq!(seen(&rig, sink), (5, 5, 20, 2));
    assert!(rig.pipeline.streams(sink, LaneId(0)).len() == 1);
    // The older one goes; it is absorbed only when it is through.
    assert!(!rig.pipeline.absorb(sink, LaneId(1), vec![]));
    assert_eq!(rig.take(sink, LaneId(1).into()), 20);
    assert!(rig.pipeline.absorb(sink, LaneId(1), vec![]));
    assert_eq!(seen(&rig, sink), (25, 25, 0, 1));
    assert!(rig.pipeline.account(sink, LaneId(1)).balances());
    // Not stored: all of it is as it was.
    let old = rig.crash();
    assert_eq!(seen(&rig, old), (5, 5, 20, 2));
    rig.take(old, LaneId(1).into());
    rig.pipeline.absorb(old, LaneId(1), vec![]);
    rig.pipeline.put_cursors(rig.now().boot);
    rig.flush();
    let new = rig.crash();
    assert_eq!(seen(&rig, new), (25, 25, 0, 1));
    assert_eq!(rig.streams(new)[0].number, 1, "it goes on as itself");
}

#[test]
fn what_is_evicted_of_an_older_stream_is_told_once_while_the_newest_goes_on() {
    let mut rig = Rig::new();
    let sink = rig.sink();
    for n in 0..300 {
        rig.offer(["one", "two"][n % 2], (n % 4 / 2 * (n % 2)) as u8, 2000);
    }
    rig.flush();
    assert!(rig.split(sink, 100));
    rig.flush();
    let mut delivered = 0;
    for _ in 0..40 {
        (0..100).for_each(|_| rig.offer("one", 0, 2000));
        rig.flush();
        let newest = *rig.streams(sink).last().unwrap();
        delivered += rig.take(sink, (&newest).into());
        if rig.streams(sink).len() > 1 && rig.pipeline.ring().stats().lanes[1].oldest.ordinal >= 300 {
            assert_eq!(rig.take(sink, LaneId(1).into()), 0);
            assert!(rig.pipeline.absorb(sink, LaneId(1), vec![]));
        }
    }
    rig.drain(sink);
    let account = rig.pipeline.account(sink, LaneId(1));
    assert_eq!((account.delivered, account.evicted), (delivered, 300));
    assert!(account.balances() && rig.streams(sink).len() == 1);
    let told = rig.losses();
    assert_eq!(told.values().sum::<u64>(), 300);
    assert!(told.keys().all(|(topic, reason)| topic != "-" && reason == "evicted"), "{told:?}");
}

#[test]
fn in_memory_a_lane_stays_one() {
    let mut rig = Rig::new();
    let sink = rig.sink();
    rig.pipeline.memory_mode = true;
    (0..20).for_each(|_| rig.offer("one", 0, 100));
    rig.flush();
    assert!(!rig.split(sink, 1));
}

#[test]
fn a_sink_that_is_forgotten_leaves_the_others_what_is_theirs() {
    let mut rig = Rig::new();
    let add = |rig: &mut Rig, sink: &str| {
        let topics = TopicSet { include: vec!["*".into()], exclude: vec![] };
        rig.pipeline.add_sink(SinkPlan { name: name(sink), topics })
    };
    let sinks = ["a", "b", "c"].map(|sink| add(&mut rig, sink));
    rig.offer("one", 0, 100);
    rig.flush();
    let end = rig.pipeline.ring().lane_durable(LaneId(1));
    let now = rig.now().boot;
    rig.pipeline.advance(now, sinks[2], LaneId(1), end, Tally { delivered: 1, ..Tally::default() }, 0, &[]);
    rig.pipeline.remove_sink(sinks[0]);
    assert!(rig.pipeline.forget_sink(now, &name("a")));
    assert_eq!(rig.pipeline.cursor(sinks[1], LaneId(1)).ordinal, 0);
    assert_eq!(rig.pipeline.cursor(sinks[2], LaneId(1)), end);
    let shown: Vec<_> = rig.pipeline.snapshot().sinks.iter().map(|sink| sink.name.to_string()).collect();
    assert_eq!(shown, ["b", "c"]);
    // Of the same name, it is a new one.
    let again = add(&mut rig, "a");
    assert_eq!(rig.pipeline.cursor(again, LaneId(1)).ordinal, end.ordinal);
    assert_eq!(rig.pipeline.snapshot().sinks.len(), 3);
}
