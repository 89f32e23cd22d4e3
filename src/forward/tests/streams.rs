//! Two streams of one lane, the newer one first, to the same partitions of one upstream.

use super::*;

/// The older stream ends and the newer one begins here.
const SPLIT: u64 = 300;
const RECORDS: u64 = 600;

struct Pair {
    rng: Rng,
    faults: Faults,
    /// The newer one first.
    streams: Vec<World>,
    logs: BTreeMap<(String, u32), Log>,
}

impl Pair {
    /// The older stream alone for some steps; then the lane is split.
    fn new(seed: u64, faults: Faults, alone: u64) -> Self {
        let mut old = World::of_stream(seed, faults, SPLIT, 0, 0);
        (0..alone).for_each(|_| old.step());
        let now = old.now;
        let logs = std::mem::take(&mut old.logs);
        let new = World::of_stream(seed ^ 1, faults, RECORDS, SPLIT, 1);
        Self { rng: Rng::new(seed), faults, streams: vec![World { now, ..new }, old], logs }
    }

    /// One stream gets on while it has the upstream to itself.
    fn with<R>(&mut self, at: usize, work: impl FnOnce(&mut World) -> R) -> R {
        std::mem::swap(&mut self.streams[at].logs, &mut self.logs);
        let done = work(&mut self.streams[at]);
        std::mem::swap(&mut self.streams[at].logs, &mut self.logs);
        done
    }

    fn crash(&mut self) {
        (0..2).for_each(|at| self.with(at, World::crash));
    }

    fn step(&mut self) {
        // A process takes both along.
        if self.faults.crashes && self.rng.below(200) == 0 {
            self.crash();
        }
        // The older one is sent as well while answers to the newer one are under way.
        let at = usize::from(self.rng.below(3) == 0);
        self.with(at, World::step);
        let now = self.streams[at].now;
        self.streams.iter_mut().for_each(|world| world.now = world.now.max(now));
    }

    /// Everything works from now on.
    fn finish(mut self) -> Self {
        for world in &mut self.streams {
            world.faults = Faults::default();
        }
        for _ in 0..20_000 {
            let through = |w: &World| w.machine.cursor().seq >= w.records && w.wire.is_empty() && w.limbo.is_empty();
            if self.streams.iter().all(through) {
                break;
            }
            for at in 0..2 {
                self.with(at, |world| {
                    world.land_late();
                    world.admit(20);
                    world.read(10);
                    world.drive();
                    world.deliver();
                    world.drive();
                    world.now = world.now + Span::from_millis(20);
                });
            }
        }
        self
    }

    fn expect_all_once_and_each_stream_in_order(&mut self, case: &str) {
        let (seed, logs) = (self.streams[1].seed, &self.logs);
        let all = logs.values().flat_map(|log| &log.batches).flat_map(|batch| &batch.outputs);
        let mut copies: BTreeMap<(u64, usize), u64> = BTreeMap::new();
        all.filter(|(seq, _)| *seq != u64::MAX).for_each(|output| *copies.entry(*output).or_default() += 1);
        for (seq, i) in (0..RECORDS).flat_map(|seq| (0..outputs(seq).len()).map(move |i| (seq, i))) {
            let n = copies.get(&(seq, i)).copied().unwrap_or(0);
            assert_eq!(n, 1, "seed {seed}, {case}: output {i} of record {seq} is there {n} times");
        }
        for (name, log) in logs {
            let outputs = log.batches.iter().flat_map(|b| b.outputs.iter().copied()).filter(|o| o.0 != u64::MAX);
            for old in [true, false] {
                let of_one = outputs.clone().filter(|(seq, _)| (*seq < SPLIT) == old);
                assert!(of_one.is_sorted(), "seed {seed}, {case}: {name:?}: a stream is out of order");
            }
        }
        for world in &self.streams {
            let t = world.counts.tally;
            assert_eq!(t.delivered + t.filtered + t.refused, world.records - world.start, "seed {seed}, {case}");
            assert!(world.machine.is_settled(), "{:?}", world.machine);
        }
    }
}

#[test]
fn two_streams_of_a_lane_to_one_partition_leave_each_record_once_wherever_a_crash_comes() {
    let faults = Faults { late: Some(Span::from_secs(2)), ..Faults::default() };
    for (seed, alone) in [(1, 0), (2, 60), (3, 400)] {
        for crash in 0..500 {
            let mut pair = Pair::new(seed, faults, alone);
            (0..crash).for_each(|_| pair.step());
            pair.crash();
            let mut pair = pair.finish();
            pair.expect_all_once_and_each_stream_in_order(&format!("a crash after step {crash}"));
        }
    }
}

#[test]
fn whatever_is_cut_lost_and_refused_two_streams_leave_each_record_once() {
    let faults = rough();
    for seed in 0..150 {
        // A crash takes both: the pair sees to it.
        let mut pair = Pair::new(seed, Faults { crashes: false, ..faults }, seed * 7 % 500);
        pair.faults = faults;
        (0..3000).for_each(|_| pair.step());
        pair.finish().expect_all_once_and_each_stream_in_order("faults");
    }
}

#[test]
fn a_stream_as_which_nothing_was_sent_asks_for_the_end_of_a_partition_and_no_more() {
    let mut pair = Pair::new(5, Faults::default(), 3000);
    let old: usize = pair.logs.values().map(|log| log.batches.len()).sum();
    assert!(old > 20, "{old}");
    pair.streams[0].admit(50);
    for _ in 0..1000 {
        pair.with(0, |world| {
            world.read(10);
            world.drive();
            world.deliver();
            world.drive();
        });
    }
    let (partitions, asks) = (pair.streams[0].machine_targets().len() as u64, pair.streams[0].counts.asks);
    // For first offset and watermark, what stands there, the last batch before it, and the first one that was acknowledged.
    assert!(pair.streams[0].counts.sends >= partitions && asks == 4 * partitions, "{asks} for {partitions}");
}
