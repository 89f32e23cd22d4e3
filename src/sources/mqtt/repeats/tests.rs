//! A broker in a few lines, with each way of giving out packet ids, connections that break anywhere in either
//! direction, and a node that crashes and keeps only what was durable. Laws: nothing that the broker forgot is
//! missing from the ring; where ids are counted, and for QoS 2, nothing is there twice.

use std::collections::{BTreeMap, VecDeque};

use super::*;
use crate::backoff::Rng;
use proptest::prelude::*;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Allocator {
    Counted,
    LowestFree,
    LastFreed,
}

#[derive(Clone, Copy, Debug)]
struct Message {
    /// What makes it one message: the law counts these.
    serial: usize,
    /// What the node sees: few values, so that different messages look alike.
    payload: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Half {
    Sent,
    /// QoS 2: PUBREC came.
    Received,
}

struct Broker {
    allocator: Allocator,
    qos2: bool,
    window: usize,
    next: u16,
    freed: Vec<u16>,
    queue: VecDeque<Message>,
    inflight: BTreeMap<u16, (Message, Half)>,
    order: VecDeque<u16>,
}

impl Broker {
    fn id(&mut self) -> u16 {
        match self.allocator {
            Allocator::Counted => {
                self.next = self.next.checked_add(1).unwrap_or(1);
                self.next
            }
            Allocator::LowestFree => (1..).find(|id| !self.inflight.contains_key(id)).unwrap(),
            Allocator::LastFreed => self.freed.pop().unwrap_or_else(|| {
                self.next = if self.next == 0 { 65_535 } else { self.next - 1 };
                self.next
            }),
        }
    }

    fn send(&mut self) -> Option<(u16, Message)> {
        if self.inflight.len() >= self.window {
            return None;
        }
        let message = self.queue.pop_front()?;
        let id = self.id();
        self.inflight.insert(id, (message, Half::Sent));
        self.order.push_back(id);
        Some((id, message))
    }

    fn free(&mut self, id: u16) {
        self.inflight.remove(&id);
        self.order.retain(|o| *o != id);
        self.freed.push(id);
    }
}

#[derive(Clone, Copy, Debug)]
enum Wire {
    Publish { id: u16, message: Message, dup: bool },
    PubRel(u16),
    Pong,
}

#[derive(Clone, Copy, Debug)]
enum Back {
    Ack(u16),
    Rec(u16),
    Comp(u16),
    Ping,
}

/// The node: what is admitted but not yet durable is lost in a crash, together with the memory stored beside it.
struct Node {
    repeats: Repeats,
    admitted: Vec<usize>,
    durable: usize,
    stored: Option<Vec<u8>>,
    durable_stored: Option<Vec<u8>>,
    answers: VecDeque<(usize, Back)>,
}

struct World {
    rng: Rng,
    broker: Broker,
    node: Node,
    down: VecDeque<Wire>,
    up: VecDeque<Back>,
    window: u16,
    /// Repeats that stayed although the ids were known to be counted.
    late: usize,
    ping_out: bool,
}

impl World {
    fn new(seed: u64, allocator: Allocator, qos2: bool) -> Self {
        let mut rng = Rng::new(seed);
        let window = 1 + rng.below(8) as u16;
        let broker = Broker {
            allocator,
            qos2,
            window: usize::from(window),
            next: 0,
            freed: Vec::new(),
            queue: VecDeque::new(),
            inflight: BTreeMap::new(),
            order: VecDeque::new(),
        };
        let node = Node {
            repeats: Repeats::new(window),
            admitted: Vec::new(),
            durable: 0,
            stored: None,
            durable_stored: None,
            answers: VecDeque::new(),
        };
        let (down, up) = (VecDeque::new(), VecDeque::new());
        let mut world = Self { rng, broker, node, down, up, window, late: 0, ping_out: false };
        world.node.repeats.connected(false);
        world
    }

    fn node_takes(&mut self, wire: Wire) {
        let node = &mut self.node;
        match wire {
            Wire::Publish { id, message, dup } => {
                let answer = if self.broker.qos2 { Back::Rec(id) } else { Back::Ack(id) };
                match node.repeats.judge(id, dup, self.broker.qos2, message.payload) {
                    Verdict::New | Verdict::Redelivered => {
                        let known = node.repeats.ids.counted(self.window);
                        self.late += usize::from(known && node.admitted.contains(&message.serial));
                        node.admitted.push(message.serial);
                        node.repeats.took(id, self.broker.qos2, message.payload);
                        node.repeats.stored(Ticket(node.admitted.len() as u64));
                        node.stored = node.repeats.store();
                        node.answers.push_back((node.admitted.len(), answer));
                    }
                    Verdict::Repeat(ticket) => node.answers.push_back((ticket.0 as usize, answer)),
                    Verdict::Silent => {}
                }
            }
            Wire::PubRel(id) => {
                if node.repeats.released(id) {
                    node.stored = node.repeats.store();
                }
                // Any later commit makes the removal durable; the next admitted record stands for it here.
                node.admitted.push(usize::MAX);
                node.answers.push_back((node.admitted.len(), Back::Comp(id)));
            }
            Wire::Pong => {
                self.ping_out = false;
                node.repeats.ponged();
            }
        }
    }

    fn broker_takes(&mut self, back: Back) {
        match back {
            Back::Ack(id) => self.broker.free(id),
            Back::Rec(id) => {
                if let Some((_, half)) = self.broker.inflight.get_mut(&id) {
                    *half = Half::Received;
                }
                self.down.push_back(Wire::PubRel(id));
            }
            Back::Comp(id) => self.broker.free(id),
            Back::Ping => self.down.push_back(Wire::Pong),
        }
    }

    fn commit(&mut self) {
        self.node.durable = self.node.admitted.len();
        self.node.durable_stored = self.node.stored.clone();
    }

    fn node_answers(&mut self) {
        while let Some((needs, back)) = self.node.answers.front().copied() {
            if needs > self.node.durable {
                break;
            }
            self.node.answers.pop_front();
            if let Back::Ack(id) = back {
                self.node.repeats.answered(id);
            }
            self.up.push_back(back);
        }
    }

    fn reconnect(&mut self) {
        // What is on the wire arrives in part, in order.
        for _ in 0..self.rng.below(self.up.len() as u64 + 1) {
            let back = self.up.pop_front().unwrap();
            self.broker_takes(back);
        }
        self.down.clear();
        self.ping_out = false;
        self.up.clear();
        self.node.answers.clear();
        self.node.repeats.connected(true);
        for id in self.broker.order.clone() {
            let (message, half) = self.broker.inflight[&id];
            self.down.push_back(match half {
                Half::Sent => Wire::Publish { id, message, dup: true },
                Half::Received => Wire::PubRel(id),
            });
        }
    }

    fn crash(&mut self) {
        let node = &mut self.node;
        node.admitted.truncate(node.durable);
        node.stored = node.durable_stored.clone();
        node.repeats = match &node.stored {
            Some(bytes) => Repeats::restore(self.window, bytes),
            None => Repeats::new(self.window),
        };
        self.reconnect();
    }

    fn step(&mut self, serial: &mut usize) {
        match self.rng.below(100) {
            0..25 => {
                let payload = self.rng.below(2);
                self.broker.queue.push_back(Message { serial: *serial, payload });
                *serial += 1;
            }
            25..45 => {
                if let Some((id, message)) = self.broker.send() {
                    self.down.push_back(Wire::Publish { id, message, dup: false });
                }
            }
            45..65 => {
                if let Some(wire) = self.down.pop_front() {
                    self.node_takes(wire);
                }
            }
            65..75 => self.commit(),
            75..83 => self.node_answers(),
            83..93 => {
                if let Some(back) = self.up.pop_front() {
                    self.broker_takes(back);
                }
            }
            93..95 if !self.ping_out && (self.rng.below(2) == 0 || self.node.repeats.wants_ping()) => {
                self.ping_out = true;
                self.node.repeats.pinged();
                self.up.push_back(Back::Ping);
            }
            95..98 => self.reconnect(),
            _ => self.crash(),
        }
    }

    fn finish(&mut self) {
        for _ in 0..100_000 {
            if let Some((id, message)) = self.broker.send() {
                self.down.push_back(Wire::Publish { id, message, dup: false });
            }
            while let Some(wire) = self.down.pop_front() {
                self.node_takes(wire);
            }
            self.commit();
            self.node_answers();
            while let Some(back) = self.up.pop_front() {
                self.broker_takes(back);
            }
            if self.broker.queue.is_empty() && self.broker.inflight.is_empty() {
                return;
            }
        }
        panic!("the exchange does not end");
    }
}

/// Runs one world; how often each message is in the ring.
fn run(seed: u64, allocator: Allocator, qos2: bool, steps: usize) -> Vec<usize> {
    run_counting(seed, allocator, qos2, steps).0
}

fn run_counting(seed: u64, allocator: Allocator, qos2: bool, steps: usize) -> (Vec<usize>, usize) {
    let mut world = World::new(seed, allocator, qos2);
    let mut serial = 0;
    for _ in 0..steps {
        world.step(&mut serial);
    }
    world.finish();
    let mut times = vec![0; serial];
    for s in world.node.admitted.iter().filter(|s| **s != usize::MAX) {
        times[*s] += 1;
    }
    (times, world.late)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_message_is_ever_taken_for_a_repeat_of_another(seed in any::<u64>(), steps in 50usize..1500) {
        for allocator in [Allocator::Counted, Allocator::LowestFree, Allocator::LastFreed] {
            for qos2 in [false, true] {
                let times = run(seed, allocator, qos2, steps);
                let lost: Vec<_> = times.iter().enumerate().filter(|(_, n)| **n == 0).collect();
                prop_assert!(lost.is_empty(), "{allocator:?} qos2={qos2}: lost {lost:?}");
            }
        }
    }

    #[test]
    fn qos_2_is_exactly_once_under_any_allocator(seed in any::<u64>(), steps in 50usize..1500) {
        for allocator in [Allocator::Counted, Allocator::LowestFree, Allocator::LastFreed] {
            let times = run(seed, allocator, true, steps);
            prop_assert!(times.iter().all(|n| *n == 1), "{allocator:?}: {times:?}");
        }
    }
}

#[test]
fn where_ids_are_known_to_be_counted_no_repeat_stays() {
    let copies = |allocator| {
        let all: Vec<_> = (0..300).map(|seed| run_counting(seed, allocator, false, 3000)).collect();
        let extra: usize = all.iter().flat_map(|(times, _)| times).map(|n| n - 1).sum();
        (extra, all.iter().map(|(_, late)| late).sum::<usize>())
    };
    let (counted, late) = copies(Allocator::Counted);
    assert_eq!(late, 0);
    let (lowest, _) = copies(Allocator::LowestFree);
    assert!(lowest > 3 * counted, "{lowest} against {counted}: the simulation repeats nothing");
}

#[test]
fn a_repeat_whose_answer_was_never_written_is_certain() {
    let mut repeats = Repeats::new(20);
    repeats.connected(true);
    assert_eq!(repeats.judge(1, false, false, 7), Verdict::New);
    repeats.took(1, false, 7);
    repeats.stored(Ticket(5));
    assert_eq!(repeats.judge(1, true, false, 7), Verdict::Silent, "its answer is on its way");
    repeats.connected(true);
    assert_eq!(repeats.judge(1, true, false, 8), Verdict::Redelivered, "other bytes");
    assert_eq!(repeats.judge(1, true, false, 7), Verdict::Repeat(Ticket(5)));
}

#[test]
fn a_restart_keeps_the_memory_and_a_lost_session_voids_it() {
    let mut before = Repeats::new(20);
    before.connected(true);
    let mut stored = Vec::new();
    for id in 1..=5 {
        assert_eq!(before.judge(id, false, false, 7), Verdict::New);
        before.took(id, false, 7);
        before.stored(Ticket(u64::from(id)));
        stored = before.store().unwrap();
        before.answered(id);
        assert_eq!(before.wants_ping(), id < 3, "known after two new highest ids");
        before.pinged();
        before.ponged();
    }
    let mut after = Repeats::restore(20, &stored);
    after.connected(true);
    assert_eq!(after.judge(5, true, false, 7), Verdict::Repeat(Ticket(0)));
    let mut void = Repeats::restore(20, &stored);
    void.connected(false);
    assert_eq!(void.judge(5, true, false, 7), Verdict::Redelivered);
    assert!(void.store().is_none(), "nothing was taken in the new session");
}

#[test]
fn what_is_stored_fits_a_state_entry_whatever_the_broker_does() {
    let mut repeats = Repeats::new(u16::MAX);
    repeats.connected(true);
    for id in 1..=60_000 {
        repeats.took(id, id % 2 == 0, u64::MAX - u64::from(id));
    }
    assert!(repeats.store().unwrap().len() <= crate::limits::MAX_STATE_OWNER_BYTES * 9 / 10);
}

#[test]
fn foreign_bytes_are_no_memory() {
    for bytes in [&b""[..], b"\xff\xff\xff\xff\xff\xff", b"garbage"] {
        assert!(Repeats::restore(20, bytes).store().is_none());
    }
}
