//! A backup that is put back: another life has sent under the numbers that this one gives.

use super::*;

/// What of a world a backup holds.
struct Backup {
    durable: (Pos, BTreeMap<Vec<u8>, Vec<u8>>),
    tally: Tally,
    end: u64,
}

impl Backup {
    fn of(world: &World) -> Self {
        Self { durable: world.durable.clone(), tally: world.durable_tally, end: world.end }
    }

    /// Put back when all that the other life did has arrived; this one will have so many records.
    fn put_back(&self, world: World, records: u64) -> World {
        assert!(world.wire.is_empty() && world.limbo.is_empty());
        let life = (world.life.0 + 1, self.end);
        let counts = Counts { tally: self.tally, ..Counts::default() };
        let (durable, durable_tally) = (self.durable.clone(), self.tally);
        let mut world = World { durable, durable_tally, end: self.end, records, life, counts, ..world };
        world.crash();
        world
    }
}

/// The copies of what a life gave its own numbers to, and of what it shares with those before it.
fn copies_of(world: &World, life: usize, seqs: std::ops::Range<u64>) -> impl Iterator<Item = (u64, u64)> {
    let copies = world.copies();
    let all = seqs.flat_map(move |seq| (0..outputs(seq).len()).map(move |i| (seq, i + life * LIFE)));
    all.map(move |output| (output.0, copies.get(&output).copied().unwrap_or(0)))
}

#[test]
fn all_that_a_restored_backup_has_to_say_is_there_and_what_may_be_twice_is_counted() {
    let rough = Faults { cuts: true, crashes: true, late: Some(Span::from_secs(1)), ..Faults::default() };
    let mut twice = 0;
    for seed in 0..150 {
        let mut world = World::new(seed, rough, 400);
        (0..seed * 10).for_each(|_| world.step());
        let backup = Backup::of(&world);
        let mut world = world.run(500);
        let others = [300, 500];
        for (life, records) in (1..).zip(others) {
            let before: u64 = copies_of(&world, 0, 0..backup.end).map(|(_, n)| n).sum();
            world = World { faults: rough, ..backup.put_back(world, backup.end + records) }.run(1500);
            // Unless the first life had nothing more to send.
            assert!(world.counts.other_lives > 0 || life == 1 && backup.end > 390, "seed {seed}: life {life}");
            let after: u64 = copies_of(&world, 0, 0..backup.end).map(|(_, n)| n).sum();
            assert!(after == before || world.counts.maybe > 0, "seed {seed}: life {life}: {before}, {after}");
            for (seq, n) in copies_of(&world, life, backup.end..backup.end + records) {
                let sure = world.counts.maybe == 0;
                assert!(n == 1 || n > 1 && !sure, "seed {seed}: {seq} of life {life} is there {n} times");
            }
            world.expect_tally();
        }
        for (seq, n) in copies_of(&world, 0, 0..400) {
            assert!(n > 0, "seed {seed}: {seq} is there {n} times");
            twice += u64::from(n > 1);
        }
    }
    assert!(twice > 0);
}

#[test]
fn it_is_noticed_when_the_upstream_is_reached_whatever_was_collected_before_and_however_often_it_started() {
    for (collected, starts) in [(10, 1), (90, 1), (10, 3), (90, 3)] {
        let mut world = World::new(7, Faults::default(), 200).run(0);
        let backup = Backup::of(&world);
        world.records = 260;
        world = backup.put_back(world.run(0), 1000);
        for _ in 0..starts {
            world.admit(collected);
            // Nothing but what is stored at once.
            world.drive();
            world.crash();
        }
        let world = world.run(0);
        assert!(world.counts.other_lives > 0);
        for (seq, n) in copies_of(&world, 1, 200..1000) {
            assert_eq!(n, 1, "{collected} and {starts}: {seq}");
        }
        // What the first process does not know to be new counts, although it is.
        assert!(world.counts.maybe > 0);
    }
}

#[test]
fn a_process_that_sends_nothing_and_one_that_comes_after_take_nobody_for_another() {
    let mut world = World::new(3, Faults::default(), 500);
    for _ in 0..50 {
        world.admit(10);
        world.drive();
        world.crash();
        world.records = world.end;
        // Panics where another life is noticed.
        world = world.run(0);
        world.records = 500;
        world.crash();
    }
    world.expect_each_once();
    assert_eq!((world.counts.maybe, world.counts.duplicated), (0, 0));
}

#[test]
fn a_stream_is_told_from_another_lifes_that_began_at_the_same_seq() {
    let other = World::of_stream(5, Faults::default(), 360, 300, 1).run(0);
    let new = World::of_stream(6, Faults::default(), 900, 300, 1);
    let world = World { logs: other.logs, life: (1, 300), ..new }.run(0);
    assert!(world.counts.other_lives > 0);
    assert_eq!((world.counts.maybe, world.counts.duplicated), (0, 0));
    for (life, records) in [(0, 300..360), (1, 300..900)] {
        assert!(copies_of(&world, life, records).all(|(_, n)| n == 1), "life {life}");
    }
}
