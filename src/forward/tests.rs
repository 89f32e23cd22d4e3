//! The machine against a model upstream: random cuts, lost responses, late landings, crashes, truncations, from seeds.

mod lives;
mod shared;
mod streams;

use std::collections::BTreeMap;

use super::*;
use crate::backoff::Rng;
use crate::time::BootTime;

/// A batch in the model's log: its marker and, per record, (seq, output number).
#[derive(Clone, Debug)]
struct Stored {
    base: i64,
    origin: Origin,
    outputs: Vec<(u64, usize)>,
}

impl Stored {
    fn newest(&self) -> Newest {
        let number = Marker::of_origin(self.origin).number;
        Newest { number, base: self.base, count: self.outputs.len() as u32 }
    }
}

#[derive(Clone, Debug, Default)]
struct Log {
    start: i64,
    end: i64,
    batches: Vec<Stored>,
    /// Where the upstream keeps count: the newest batch of each producer.
    newest: BTreeMap<i64, Newest>,
    /// The high watermark lags behind.
    unreplicated: i64,
}

impl Log {
    fn append(&mut self, origin: Origin, outputs: Vec<(u64, usize)>) -> i64 {
        let base = self.end;
        self.end += outputs.len() as i64;
        self.batches.push(Stored { base, origin, outputs });
        base
    }

    /// As a node takes a batch.
    fn take(&mut self, origin: Origin, turn: Option<Turn>, outputs: Vec<(u64, usize)>) -> Result<i64, Reject> {
        let Some(turn) = turn else { return Ok(self.append(origin, outputs)) };
        let newest = self.newest.get(&origin.producer_id).copied();
        match newest.filter(|n| n.number == Marker::of_origin(origin).number) {
            Some(repeat) => Ok(repeat.base),
            None if newest.map(|n| n.number) == turn.0 => {
                let base = self.append(origin, outputs);
                self.newest.extend(self.batches.last().map(|b| (origin.producer_id, b.newest())));
                Ok(base)
            }
            None => Err(Reject::OutOfTurn),
        }
    }

    fn header(&self, at: i64) -> Result<Option<Header>, Reject> {
        if at < self.start {
            return Err(Reject::OutOfRange);
        }
        let batch = self.batches.iter().find(|b| b.base <= at && at < b.base + b.outputs.len() as i64);
        Ok(batch.map(|b| Header { base: b.base, count: b.outputs.len() as u32, origin: b.origin }))
    }

    /// Cuts the last batches off.
    fn truncate(&mut self, batches: usize) {
        self.batches.truncate(self.batches.len().saturating_sub(batches));
        self.newest.clear();
        for batch in &self.batches {
            self.newest.insert(batch.origin.producer_id, batch.newest());
        }
        self.end = self.batches.last().map_or(self.start, |b| b.base + b.outputs.len() as i64);
    }
}

/// A request or response under way.
#[derive(Clone, Debug)]
enum Wire {
    Request(Asked),
    Response(Input),
}

#[derive(Clone, Debug)]
enum Asked {
    Query(Query),
    Send { origin: Origin, turn: Option<Turn>, outputs: Vec<(u64, usize)> },
}

/// A send that its sender has lost sight of: when it lands, where, and what.
type Limbo = (BootTime, (String, u32), (Origin, Option<Turn>), Vec<(u64, usize)>);

/// What may go wrong.
#[derive(Clone, Copy, Debug, Default)]
struct Faults {
    cuts: bool,
    crashes: bool,
    /// Requests of a dead connection may land, this long after it at most.
    late: Option<Span>,
    losses: bool,
    rejects: bool,
    too_large_above: Option<usize>,
    others_write: bool,
    lag: bool,
    grow: bool,
    /// The upstream is a node: it keeps count.
    counts: bool,
    /// Of so many producers that it forgets some.
    forgets: bool,
    /// It rebuilds batches.
    opaque: bool,
    /// And leaves out what these say.
    drops: Option<fn(u64) -> bool>,
}

impl Faults {
    /// What the upstream makes of a batch.
    fn rebuilt(&self, origin: Origin, mut outputs: Vec<(u64, usize)>) -> (Origin, Vec<(u64, usize)>) {
        outputs.retain(|(seq, _)| self.drops.is_none_or(|drops| !drops(*seq)));
        if !self.opaque {
            return (origin, outputs);
        }
        (Origin { producer_id: -1, producer_epoch: -1, first_sequence: -1 }, outputs)
    }
}

/// What an output comes to.
fn content(seq: u64, i: usize) -> u64 {
    seq << 8 | i as u64
}

#[derive(Default)]
struct Counts {
    tally: Tally,
    duplicated: u64,
    maybe: u64,
    losses: u64,
    other_lives: u64,
    refused: Vec<u64>,
    sends: u64,
    asks: u64,
    counted: u64,
    cuts: u64,
    crashes: u64,
    landed_late: u64,
}

struct World {
    rng: Rng,
    faults: Faults,
    now: BootTime,
    machine: Forward,
    /// What the disk has: cursor and state, and what was given to it but is not durable yet.
    durable: (Pos, BTreeMap<Vec<u8>, Vec<u8>>),
    volatile: (Pos, BTreeMap<Vec<u8>, Vec<u8>>),
    durable_tally: Tally,
    /// Records that the ring will have in the end, and those that it has.
    records: u64,
    end: u64,
    /// Where the sink began, or the stream.
    start: u64,
    stream: u32,
    /// How often a backup was put back, and where its ring ended: records from there on are others than those of the lives before.
    life: (usize, u64),
    buffers: BTreeMap<(TargetIx, u64), Vec<(u64, usize)>>,
    logs: BTreeMap<(String, u32), Log>,
    partitions: BTreeMap<String, u32>,
    wire: Vec<(TargetIx, Wire)>,
    limbo: Vec<Limbo>,
    counts: Counts,
    seed: u64,
}

const TOPICS: [&str; 2] = ["a", "b"];
/// What the outputs of another life's records are numbered from.
const LIFE: usize = 100;

fn options(seed: u64, start: u64, number: u32, unstarted: bool) -> Options {
    Options {
        ring_id: 77,
        former: Vec::new(),
        forgotten_below: 0,
        sink: Name::new("hq").unwrap(),
        lane: LaneId(1),
        max_batch: 400,
        spread: Spread::Records,
        window: 900,
        grace: Span::from_secs(2),
        retry: (Span::from_millis(100), Span::from_secs(2)),
        search_max: 1 << 20,
        on_loss: OnLoss::Resend,
        only_writer: true,
        stream: Stream { number, start, unstarted },
        committed: true,
        seed,
    }
}

/// Outputs of a record: (topic, key); none for a filtered one.
fn outputs(seq: u64) -> Vec<(usize, Option<[u8; 1]>)> {
    match seq % 11 {
        3 => vec![],
        5 => vec![(0, None), (1, Some([7])), (0, None)],
        7 => vec![(1, Some([seq as u8 % 5]))],
        n => vec![(0, (n % 2 == 0).then_some([seq as u8 % 3]))],
    }
}

impl World {
    fn new(seed: u64, faults: Faults, records: u64) -> Self {
        Self::beginning(seed, faults, records, 0)
    }

    /// The sink is configured when the ring has records already.
    fn beginning(seed: u64, faults: Faults, records: u64, start: u64) -> Self {
        Self::of_stream(seed, faults, records, start, 0)
    }

    fn of_stream(seed: u64, faults: Faults, records: u64, start: u64, stream: u32) -> Self {
        let at = Pos { seq: start, ordinal: start };
        let partitions: BTreeMap<String, u32> = [("a".to_owned(), 3), ("b".to_owned(), 1)].into();
        Self {
            rng: Rng::new(seed),
            faults,
            now: BootTime(0),
            machine: Forward::new(options(seed, start, stream, stream > 0), at, start, []),
            durable: (at, BTreeMap::new()),
            volatile: (at, BTreeMap::new()),
            durable_tally: Tally::default(),
            records,
            start,
            stream,
            life: (0, 0),
            end: start,
            buffers: BTreeMap::new(),
            logs: BTreeMap::new(),
            partitions,
            wire: Vec::new(),
            limbo: Vec::new(),
            counts: Counts::default(),
            seed,
        }
    }

    fn name(&self, target: TargetIx) -> (String, u32) {
        let (_, topic, partition) = self.machine.target_name(target);
        (topic.to_owned(), partition)
    }

    /// Offers records until the machine is full or the ring's end, at most `most`.
    fn read(&mut self, most: u64) {
        for _ in 0..most {
            let at = self.machine.read_pos();
            if at.seq >= self.end {
                self.machine.caught_up();
                return;
            }
            // The lane is dense here: ordinal and seq agree, also where a resend asks by seq alone.
            let at = Pos { seq: at.seq, ordinal: at.seq };
            let mut outs = Vec::new();
            for (i, (topic, key)) in outputs(at.seq).into_iter().enumerate() {
                let topic = self.machine.topic(TOPICS[topic]).unwrap();
                match self.machine.place(topic, key.as_ref().map(|k| k.as_slice()), at.seq) {
                    Placing::Target(target) => {
                        let content = content(at.seq, i);
                        outs.push(Out { target, bytes: 20 + (at.seq % 50) as usize, at_ms: at.seq as i64, content });
                    }
                    Placing::Wait => {
                        let (name, fresh) = (self.machine.topic_name(topic).to_owned(), false);
                        let count = self.partitions[&name];
                        self.machine.handle(self.now, Input::Partitions { topic, count, fresh });
                        return;
                    }
                    Placing::TooMany => panic!("too many"),
                }
            }
            let buffers = &mut self.buffers;
            let other = if at.seq >= self.life.1 { self.life.0 * LIFE } else { 0 };
            let mut put = |i: usize, place: Place| {
                let buffer = buffers.entry((place.target, place.batch)).or_default();
                assert_eq!(buffer.len(), place.index as usize);
                buffer.push((at.seq, i + other));
            };
            if self.machine.offer(at, 77, &outs, &mut put) == Offer::Full {
                return;
            }
        }
    }

    fn drive(&mut self) {
        let mut fuel = 10_000;
        while let Some(output) = self.machine.poll(self.now) {
            fuel -= 1;
            assert!(fuel > 0, "poll never ends");
            self.output(output);
        }
        let held: usize = self.buffers.values().map(Vec::len).sum();
        assert!(held <= 900 / 20 + 3, "window: {held} outputs held");
    }

    fn output(&mut self, output: Output) {
        match output {
            Output::Open { target } => {
                let counts = self.faults.counts;
                self.wire.push((target, Wire::Response(Input::Up { target, counts })));
            }
            Output::Refresh { .. } => {}
            Output::Ask { target, query } => {
                self.counts.asks += 1;
                self.counts.counted += u64::from(matches!(query, Query::Producer { .. }));
                self.wire.push((target, Wire::Request(Asked::Query(query))));
            }
            Output::Send { target, batch } => {
                self.counts.sends += 1;
                let outputs = self.buffers.remove(&(target, batch.id)).expect("bytes of the batch");
                assert_eq!(outputs.len(), batch.count as usize);
                assert_eq!(outputs.last().unwrap().0, batch.last_seq);
                assert!(!self.wire.iter().any(|(t, w)| *t == target && matches!(w, Wire::Request(_))));
                let what = Asked::Send { origin: batch.marker, turn: batch.turn, outputs };
                self.wire.push((target, Wire::Request(what)));
            }
            Output::Discard { target } => self.buffers.retain(|(t, _), _| *t != target),
            Output::Advance { to, tally, state, sync } => self.advanced(to, tally, state, sync),
            Output::Note(note) => self.noted(note),
        }
    }

    fn advanced(&mut self, to: Pos, tally: Tally, state: Vec<(Vec<u8>, Vec<u8>)>, sync: bool) {
        assert!(to >= self.volatile.0, "the cursor goes back");
        let passed = to.ordinal - self.volatile.0.ordinal;
        assert_eq!(passed, tally.delivered + tally.filtered + tally.refused, "tally of {passed} records: {tally:?}");
        self.volatile.0 = to;
        self.volatile.1.extend(state);
        self.counts.tally.delivered += tally.delivered;
        self.counts.tally.filtered += tally.filtered;
        self.counts.tally.refused += tally.refused;
        if sync || self.rng.below(4) == 0 {
            self.durable = self.volatile.clone();
            self.durable_tally = self.counts.tally;
        }
        if sync {
            self.machine.handle(self.now, Input::Synced);
        }
    }

    fn noted(&mut self, note: Note) {
        match note {
            Note::Duplicated { count, .. } => self.counts.duplicated += count,
            Note::MaybeDuplicated { count, .. } => self.counts.maybe += count,
            Note::UpstreamLoss { .. } => self.counts.losses += 1,
            Note::Refused { seq, .. } => self.counts.refused.push(seq),
            Note::AnotherLife { .. } if self.life.0 > 0 => self.counts.other_lives += 1,
            Note::MarkersLost { .. } if self.faults.opaque => {}
            Note::MarkersLost { .. } | Note::AnotherLife { .. } => panic!("seed {}: {note:?}", self.seed),
        }
    }

    /// One message arrives.
    fn deliver(&mut self) {
        if self.wire.is_empty() {
            return;
        }
        let at = self.rng.below(self.wire.len() as u64) as usize;
        let (target, wire) = self.wire.remove(at);
        match wire {
            Wire::Response(input) => self.machine.handle(self.now, input),
            Wire::Request(what) => {
                let input = self.answer(target, what);
                self.wire.push((target, Wire::Response(input)));
            }
        }
    }

    fn answer(&mut self, target: TargetIx, what: Asked) -> Input {
        let name = self.name(target);
        let log = self.logs.entry(name).or_default();
        if self.faults.others_write && self.rng.below(5) == 0 {
            let origin = Origin { producer_id: -1, producer_epoch: -1, first_sequence: -1 };
            log.append(origin, vec![(u64::MAX, 0); 1 + self.rng.below(3) as usize]);
        }
        match what {
            Asked::Query(Query::Offsets) => {
                if self.faults.lag && log.unreplicated == 0 && self.rng.below(4) == 0 {
                    log.unreplicated = log.batches.last().map_or(0, |b| b.outputs.len() as i64);
                } else {
                    log.unreplicated = 0;
                }
                Input::Offsets { target, result: Ok((log.start, log.end - log.unreplicated)) }
            }
            Asked::Query(Query::Header { at }) => Input::Header { target, result: log.header(at) },
            Asked::Query(Query::Contents { from, to }) => {
                let outputs = log.batches.iter().flat_map(|b| (b.base..).zip(&b.outputs));
                let wanted = outputs.filter(|(offset, _)| (from..to).contains(offset));
                let contents = wanted.map(|(_, (seq, i))| content(*seq, *i)).collect();
                Input::Contents { target, result: Ok(Some(contents)) }
            }
            Asked::Query(Query::Producer { id, .. }) => {
                if self.faults.forgets && self.rng.below(10) == 0 {
                    log.newest.remove(&id);
                }
                Input::Producer { target, result: Ok((log.newest.get(&id).copied(), log.end)) }
            }
            Asked::Send { origin, turn, outputs } => {
                if self.faults.rejects && self.rng.below(6) == 0 {
                    let result = [Reject::Stale, Reject::Retry][self.rng.below(2) as usize];
                    return Input::Sent { target, result: Err(result) };
                }
                if self.faults.too_large_above.is_some_and(|most| outputs.len() > most || outputs[0].0 % 97 == 13) {
                    return Input::Sent { target, result: Err(Reject::TooLarge) };
                }
                let (origin, outputs) = self.faults.rebuilt(origin, outputs);
                let taken = log.take(origin, turn, outputs);
                if self.faults.rejects && self.rng.below(6) == 0 {
                    return Input::Sent { target, result: Err(Reject::Unknown) };
                }
                Input::Sent { target, result: taken }
            }
        }
    }

    /// What is under way for these targets is lost; sends may still land.
    fn lose(&mut self, gone: impl Fn(TargetIx) -> bool) {
        let (lost, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut self.wire).into_iter().partition(|(t, _)| gone(*t));
        self.wire = kept;
        for (target, wire) in lost {
            if let (Some(within), Wire::Request(Asked::Send { origin, turn, outputs })) = (self.faults.late, wire)
                && self.rng.below(2) == 0
            {
                let at = self.now + Span(self.rng.below(within.0 as u64) as i64);
                self.limbo.push((at, self.name(target), (origin, turn), outputs));
            }
        }
    }

    fn cut(&mut self) {
        let pick = self.rng.below(4) as u16;
        let all = self.rng.below(2) == 0;
        self.counts.cuts += 1;
        self.lose(|t| all || t.0 == pick);
        let targets: Vec<u16> = self.machine_targets();
        for t in targets.into_iter().filter(|t| all || *t == pick) {
            self.machine.handle(self.now, Input::Down { target: TargetIx(t) });
        }
        // A connect that was under way goes on.
        self.drive();
    }

    fn machine_targets(&self) -> Vec<u16> {
        (0..self.machine.targets.len() as u16).collect()
    }

    fn crash(&mut self) {
        self.counts.crashes += 1;
        self.lose(|_| true);
        self.buffers.clear();
        self.volatile = self.durable.clone();
        self.counts.tally = self.durable_tally;
        let unstarted = self.stream > 0 && self.durable.0.seq == self.start && self.durable.1.is_empty();
        let options = options(self.rng.next_u64(), self.start, self.stream, unstarted);
        self.machine = Forward::new(options, self.durable.0, self.end, self.durable.1.clone());
    }

    fn land_late(&mut self) {
        let now = self.now;
        let (landing, still): (Vec<_>, Vec<_>) = std::mem::take(&mut self.limbo).into_iter().partition(|l| l.0 <= now);
        self.limbo = still;
        for (_, name, (origin, turn), outputs) in landing {
            self.counts.landed_late += 1;
            let (origin, outputs) = self.faults.rebuilt(origin, outputs);
            let _ = self.logs.entry(name).or_default().take(origin, turn, outputs);
        }
    }

    fn lose_upstream(&mut self) {
        let names: Vec<_> = self.logs.keys().cloned().collect();
        if names.is_empty() {
            return;
        }
        let name = names[self.rng.below(names.len() as u64) as usize].clone();
        // A restarted SPU: its connections die with it.
        self.cut();
        self.lose(|_| true);
        for t in self.machine_targets() {
            self.machine.handle(self.now, Input::Down { target: TargetIx(t) });
        }
        if self.rng.below(3) == 0 {
            self.logs.insert(name, Log::default());
        } else if let Some(log) = self.logs.get_mut(&name) {
            log.truncate(1 + self.rng.below(3) as usize);
        }
    }

    fn admit(&mut self, n: u64) {
        self.end = (self.end + n).min(self.records);
        self.machine.set_ring_end(self.end);
    }

    fn step(&mut self) {
        self.land_late();
        if self.rng.below(10) == 0 {
            let n = self.rng.below(10);
            self.admit(n);
        }
        match self.rng.below(100) {
            0 if self.faults.cuts => self.cut(),
            2 if self.faults.crashes && self.rng.below(3) == 0 => self.crash(),
            3 if self.faults.losses && self.rng.below(3) == 0 => self.lose_upstream(),
            4 if self.faults.grow && self.rng.below(8) == 0 => self.grow(),
            5..=34 => {
                let most = 1 + self.rng.below(30);
                self.read(most);
            }
            35..=49 => self.now = self.now + Span::from_millis(self.rng.below(1500) as i64),
            _ => self.deliver(),
        }
        self.drive();
    }

    fn grow(&mut self) {
        let topic = TOPICS[self.rng.below(2) as usize];
        let Some(n) = self.partitions.get_mut(topic).filter(|n| **n < 6) else { return };
        *n += 1;
        let count = *n;
        let ix = self.machine.topic(topic).unwrap();
        self.machine.handle(self.now, Input::Partitions { topic: ix, count, fresh: false });
    }

    fn run(mut self, steps: u64) -> Self {
        for _ in 0..steps {
            self.step();
        }
        // Now everything works; what was promised must come true.
        let Faults { too_large_above, counts, opaque, drops, .. } = self.faults;
        let calm = Faults { too_large_above, counts, opaque, drops, ..Faults::default() };
        self.faults = calm;
        for _ in 0..20_000 {
            if self.machine.cursor().seq >= self.records && self.wire.is_empty() && self.limbo.is_empty() {
                break;
            }
            self.land_late();
            self.admit(20);
            self.read(10);
            self.drive();
            self.deliver();
            self.drive();
            self.now = self.now + Span::from_millis(20);
        }
        assert_eq!(self.machine.cursor().seq, self.records, "seed {}: not drained: {:?}", self.seed, self.machine);
        self
    }

    /// How often each output stands upstream.
    fn copies(&self) -> BTreeMap<(u64, usize), u64> {
        let mut copies = BTreeMap::new();
        for batch in self.logs.values().flat_map(|l| &l.batches) {
            for output in batch.outputs.iter().filter(|(seq, _)| *seq != u64::MAX) {
                *copies.entry(*output).or_insert(0) += 1;
            }
        }
        copies
    }

    /// As if nothing had happened.
    fn expect_nothing_twice_nor_in_doubt(&self) {
        self.expect_each_once();
        self.expect_order();
        self.expect_tally();
        assert_eq!((self.counts.maybe, self.counts.duplicated), (0, 0), "seed {}", self.seed);
    }

    fn expect_each_once(&self) {
        let copies = self.copies();
        for seq in 0..self.records {
            for i in 0..outputs(seq).len() {
                let n = copies.get(&(seq, i)).copied().unwrap_or(0);
                assert_eq!(n, 1, "seed {}: output {i} of record {seq} is there {n} times", self.seed);
            }
        }
    }

    fn expect_order(&self) {
        for (name, log) in &self.logs {
            let seqs: Vec<_> = log.batches.iter().flat_map(|b| &b.outputs).filter(|o| o.0 != u64::MAX).collect();
            assert!(seqs.is_sorted(), "seed {}: {name:?} is out of order", self.seed);
        }
    }

    fn expect_tally(&self) {
        let t = self.counts.tally;
        assert_eq!(t.delivered + t.filtered + t.refused, self.records);
        let filtered = (0..self.records).filter(|s| outputs(*s).is_empty()).count() as u64;
        assert_eq!(t.filtered, filtered);
    }
}

#[test]
fn without_faults_each_record_is_there_once_in_order() {
    for seed in 0..20 {
        let world = World::new(seed, Faults::default(), 2000).run(0);
        world.expect_each_once();
        world.expect_order();
        world.expect_tally();
        assert!(world.counts.sends < 2000, "batches hold more than one record");
    }
}

/// Everything that a link and an upstream do, short of losing what they acknowledged.
fn rough() -> Faults {
    Faults {
        cuts: true,
        crashes: true,
        late: Some(Span::from_secs(2)),
        rejects: true,
        others_write: true,
        lag: true,
        ..Faults::default()
    }
}

#[test]
fn cuts_crashes_and_landings_within_the_grace_period_leave_each_record_once_in_order() {
    let faults = rough();
    let mut met = Counts::default();
    for seed in 0..300 {
        let world = World::new(seed, faults, 1500).run(3000);
        world.expect_nothing_twice_nor_in_doubt();
        met.cuts += world.counts.cuts;
        met.crashes += world.counts.crashes;
        met.landed_late += world.counts.landed_late;
    }
    assert!(
        met.cuts > 1000 && met.crashes > 1000 && met.landed_late > 200,
        "cuts {}, crashes {}, late landings {}",
        met.cuts,
        met.crashes,
        met.landed_late
    );
}

#[test]
fn growing_topics_double_nothing() {
    let faults = Faults { cuts: true, crashes: true, late: Some(Span::from_secs(2)), grow: true, ..Faults::default() };
    for seed in 0..200 {
        let world = World::new(seed, faults, 1500).run(3000);
        world.expect_each_once();
        world.expect_tally();
    }
}

#[test]
fn a_request_that_lands_after_the_grace_period_is_counted() {
    let faults = Faults { cuts: true, late: Some(Span::from_secs(20)), ..Faults::default() };
    let (mut doubled, mut counted) = (0, 0);
    for seed in 0..200 {
        let world = World::new(seed, faults, 1500).run(3000);
        let copies = world.copies();
        for seq in 0..world.records {
            for i in 0..outputs(seq).len() {
                assert!(copies.contains_key(&(seq, i)), "seed {seed}: output {i} of record {seq} is missing");
            }
        }
        world.expect_tally();
        let extra: u64 = copies.values().map(|n| n - 1).sum();
        doubled += extra;
        // What lands after the last batch was sent has nothing behind it that would show it.
        assert!(world.counts.duplicated <= extra, "seed {seed}: counted {} of {extra}", world.counts.duplicated);
        counted += world.counts.duplicated;
    }
    assert!(doubled > 500, "{doubled} were doubled");
    assert!(counted * 10 >= doubled * 8, "{counted} of {doubled} doubled outputs were counted");
}

#[test]
fn an_upstream_that_keeps_count_has_each_record_once_however_late_a_request_lands() {
    let faults = Faults { late: Some(Span::from_secs(60)), lag: false, counts: true, ..rough() };
    let (mut late, mut asked, mut searched) = (0, 0, 0);
    for seed in 0..300 {
        let world = World::new(seed, faults, 1500).run(3000);
        world.expect_nothing_twice_nor_in_doubt();
        late += world.counts.landed_late;
        (asked, searched) = (asked + world.counts.counted, searched + world.counts.asks - world.counts.counted);
    }
    assert!(late > 200, "{late} landed late");
    assert!(searched < asked * 2, "{searched} questions of searches beside {asked} of what is kept");
}

#[test]
fn what_the_rules_of_an_upstream_that_keeps_count_leave_out_is_neither_lost_nor_sent_again() {
    // Also all of the first batch: no marker of ours is there to be read back.
    let drops: fn(u64) -> bool = |seq| seq < 40 || seq % 5 == 2;
    let faults = Faults { late: Some(Span::from_secs(60)), lag: false, counts: true, drops: Some(drops), ..rough() };
    for seed in 0..200 {
        let world = World::new(seed, faults, 1500).run(3000);
        let copies = world.copies();
        for seq in 0..world.records {
            for i in 0..outputs(seq).len() {
                let n = copies.get(&(seq, i)).copied().unwrap_or(0);
                assert_eq!(n, u64::from(!drops(seq)), "seed {seed}: output {i} of record {seq}");
            }
        }
        world.expect_order();
        world.expect_tally();
        assert_eq!((world.counts.maybe, world.counts.duplicated, world.counts.losses), (0, 0, 0), "seed {seed}");
    }
}

#[test]
fn an_upstream_that_forgets_what_it_counted_is_searched() {
    let rough = Faults { lag: false, counts: true, forgets: true, ..rough() };
    for seed in 0..300 {
        let world = World::new(seed, rough, 1500).run(3000);
        world.expect_nothing_twice_nor_in_doubt();
    }
}

#[test]
fn where_markers_do_not_survive_what_stands_there_tells() {
    let opaque = Faults { opaque: true, ..rough() };
    let (mut maybe, mut late) = (0, 0);
    for seed in 0..300 {
        // A topic that leaves records out; others that write there, some of it what we write; requests that land too late.
        let drops: Option<fn(u64) -> bool> = [None, Some((|seq| seq % 5 == 2) as fn(u64) -> bool)][seed as usize % 2];
        let (others_write, too_late) = (seed % 3 == 1, seed % 5 == 4);
        let late_by = Some(Span::from_secs(if too_late { 10 } else { 2 }));
        let world = World::new(seed, Faults { drops, others_write, late: late_by, ..opaque }, 1500).run(3000);
        let copies = world.copies();
        let mut extra = 0;
        for seq in (0..world.records).filter(|seq| drops.is_none_or(|drops| !drops(*seq))) {
            // Records are counted, by partition: outputs of one that go to the same one go together.
            let mut most = BTreeMap::new();
            for (i, (topic, _)) in outputs(seq).into_iter().enumerate() {
                let n = copies.get(&(seq, i)).copied().unwrap_or(0);
                assert!(n > 0, "seed {seed}: output {i} of record {seq} is missing");
                let most = most.entry(topic).or_insert(0);
                *most = n.max(*most);
            }
            extra += most.values().map(|n| n - 1).sum::<u64>();
        }
        // What lands after the last batch was sent has nothing behind it that would show it.
        let announced = world.counts.maybe + if too_late { extra / 4 + 20 } else { 0 };
        assert!(extra <= announced, "seed {seed}: {extra} twice, {} announced", world.counts.maybe);
        maybe += world.counts.maybe;
        late += world.counts.landed_late;
        world.expect_tally();
    }
    assert!(late > 200, "{late} landed late");
    assert!(maybe > 0, "some was in doubt");
}

#[test]
fn what_may_have_been_forgotten_is_counted_when_it_is_sent() {
    let new = World::new(1, Faults::default(), 300);
    let options = Options { forgotten_below: 100, ..options(1, 0, 0, false) };
    let machine = Forward::new(options, Pos::default(), 0, []);
    let world = World { machine, ..new }.run(3000);
    let sent: u64 = (0..100).map(|seq| u64::from(!outputs(seq).is_empty())).sum();
    // By batches: the last one may go on beyond; and once for each partition that gets some of a record.
    assert!((sent..sent + 30).contains(&world.counts.maybe), "{} of {sent}", world.counts.maybe);
    assert_eq!(world.counts.duplicated, 0);
}

#[test]
fn what_an_upstream_loses_is_sent_again_and_announced() {
    let faults = Faults { cuts: true, crashes: true, losses: true, ..Faults::default() };
    let mut losses = 0;
    for seed in 0..200 {
        let world = World::new(seed, Faults { counts: seed % 2 == 1, ..faults }, 1500).run(3000);
        losses += world.counts.losses;
        let copies = world.copies();
        for seq in 0..world.records {
            for i in 0..outputs(seq).len() {
                let n = copies.get(&(seq, i)).copied().unwrap_or(0);
                assert_eq!(n, 1, "seed {seed}: output {i} of record {seq} is there {n} times");
            }
        }
        world.expect_tally();
    }
    assert!(losses > 100, "{losses} losses were met");
}

#[test]
fn what_a_sink_never_had_is_not_sent_again() {
    let faults = Faults { cuts: true, crashes: true, losses: true, ..Faults::default() };
    let mut losses = 0;
    for seed in 0..100 {
        let world = World::beginning(seed, faults, 1500, 1000).run(3000);
        losses += world.counts.losses;
        let lowest = world.copies().keys().next().copied();
        assert!(lowest.is_some_and(|(seq, _)| seq >= 1000), "seed {seed}: {lowest:?} was sent");
    }
    assert!(losses > 50, "{losses} losses were met");
}

#[test]
fn a_batch_too_large_is_halved_and_a_poison_record_skipped_and_counted() {
    for seed in 0..50 {
        let faults = Faults { cuts: true, too_large_above: Some(6), ..Faults::default() };
        let world = World::new(seed, faults, 1000).run(1500);
        let copies = world.copies();
        for seq in 0..world.records {
            let refused = world.counts.refused.contains(&seq);
            assert!(!refused || seq % 97 == 13, "seed {seed}: {seq} refused");
            for i in 0..outputs(seq).len() {
                let n = copies.get(&(seq, i)).copied().unwrap_or(0);
                assert!(n == 1 || n == 0 && refused, "seed {seed}: {seq} is there {n} times");
            }
        }
        assert!(!world.counts.refused.is_empty());
        assert!(world.counts.tally.refused > 0);
        world.expect_tally();
    }
}
