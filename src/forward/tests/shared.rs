//! Where markers do not survive and somebody else writes the very same.

use super::*;

/// A record of another writer's with the same key and value: its seq differs where [`content`] does not look.
const OTHERS: u64 = 1 << 56;

const UNSIGNED: Origin = Origin { producer_id: -1, producer_epoch: -1, first_sequence: -1 };

/// One that rebuilds batches, and has `records` of them from a sink that has nothing more to send.
fn caught_up(records: u64) -> World {
    let world = World::new(1, Faults { opaque: true, ..Faults::default() }, records).run(200);
    assert!(world.machine.targets.iter().all(|t| t.opaque), "{:?}", world.machine.targets);
    world
}

/// Admits so many more, and gets them as far as their requests.
fn send_more(world: &mut World, records: u64) {
    world.records += records;
    world.admit(records);
    for _ in 0..1_000 {
        let request = |(_, wire): &(TargetIx, Wire)| matches!(wire, Wire::Request(Asked::Send { .. }));
        if world.wire.iter().any(request) {
            return;
        }
        world.read(20);
        world.drive();
        world.deliver();
        world.drive();
        world.now = world.now + Span::from_millis(20);
    }
    panic!("nothing is sent: {:?}", world.machine);
}

/// The requests that are under way never arrive; somebody else writes what is in them.
fn others_write_what_is_lost(world: &mut World) -> Vec<(u64, usize)> {
    let mut lost = Vec::new();
    for (target, wire) in std::mem::take(&mut world.wire) {
        if let Wire::Request(Asked::Send { outputs, .. }) = wire {
            let theirs = outputs.iter().map(|(seq, i)| (seq | OTHERS, *i)).collect();
            let name = world.name(target);
            world.logs.entry(name).or_default().append(UNSIGNED, theirs);
            lost.extend(outputs);
        }
    }
    for t in world.machine_targets() {
        world.machine.handle(world.now, Input::Down { target: TargetIx(t) });
    }
    world.drive();
    assert!(!lost.is_empty());
    lost
}

fn others_write_something(world: &mut World) {
    world.logs.values_mut().for_each(|log| _ = log.append(UNSIGNED, vec![(u64::MAX, 0)]));
}

fn missing(world: &World, of: &[(u64, usize)]) -> usize {
    let copies = world.copies();
    of.iter().filter(|output| !copies.contains_key(output)).count()
}

/// All of it is certain, as the essay of `compare` says, and wrong: nobody has ever seen another writer there.
#[test]
fn what_is_equal_to_ours_passes_for_ours_where_nobody_else_was_ever_seen() {
    let mut world = caught_up(200);
    send_more(&mut world, 40);
    let lost = others_write_what_is_lost(&mut world);
    let world = world.run(0);
    assert_eq!((missing(&world, &lost), world.counts.maybe), (lost.len(), 0));
}

#[test]
fn nothing_passes_for_ours_unless_it_was_told_that_nobody_else_writes_there() {
    let mut world = caught_up(200);
    world.machine.options.only_writer = false;
    send_more(&mut world, 40);
    let lost = others_write_what_is_lost(&mut world);
    let world = world.run(0);
    assert_eq!(missing(&world, &lost), 0);
    assert!(world.counts.maybe > 0);
    world.expect_tally();
}

#[test]
fn an_empty_log_where_there_was_one_gets_all_of_it_again_once() {
    let mut world = caught_up(200);
    let all: Vec<_> = world.copies().into_keys().collect();
    world.logs.clear();
    // Whoever makes it anew ends the connections to it.
    for t in world.machine_targets() {
        world.machine.handle(world.now, Input::Down { target: TargetIx(t) });
    }
    world.drive();
    send_more(&mut world, 40);
    let world = world.run(0);
    assert!(world.counts.losses > 0);
    assert_eq!((missing(&world, &all), world.counts.maybe), (0, 0));
    assert!(world.copies().values().all(|n| *n == 1), "{:?}", world.copies());
    world.expect_tally();
}

#[test]
fn where_another_writer_was_seen_nothing_passes_for_ours() {
    for crashes in [false, true] {
        let mut world = caught_up(200);
        others_write_something(&mut world);
        send_more(&mut world, 40);
        let mut world = world.run(0);
        if crashes {
            // What was seen is stored.
            world.durable = world.volatile.clone();
            world.durable_tally = world.counts.tally;
            world.crash();
        }
        send_more(&mut world, 40);
        let lost = others_write_what_is_lost(&mut world);
        let world = world.run(0);
        assert_eq!(missing(&world, &lost), 0, "crashes: {crashes}");
        assert!(world.counts.maybe > 0, "crashes: {crashes}");
        world.expect_tally();
    }
}

#[test]
fn a_request_that_lands_while_nothing_is_under_way_is_counted_at_the_next_connect() {
    let mut world = caught_up(200);
    send_more(&mut world, 40);
    let (target, Wire::Request(Asked::Send { outputs, .. })) =
        world.wire.iter().find(|(_, w)| matches!(w, Wire::Request(Asked::Send { .. }))).cloned().unwrap()
    else {
        unreachable!()
    };
    world.wire.clear();
    let down = |world: &mut World| {
        for t in world.machine_targets() {
            world.machine.handle(world.now, Input::Down { target: TargetIx(t) });
        }
        world.drive();
    };
    down(&mut world);
    // It is missing after the grace period, and sent again.
    let mut world = world.run(0);
    assert_eq!(world.counts.maybe, 0);
    // Only then it lands, and the connection ends.
    let name = world.name(target);
    world.logs.get_mut(&name).unwrap().append(UNSIGNED, outputs.clone());
    down(&mut world);
    send_more(&mut world, 40);
    let world = world.run(0);
    let twice = outputs.iter().filter(|output| world.copies()[*output] == 2).count();
    assert_eq!(twice, outputs.len());
    assert!(world.counts.maybe >= twice as u64, "{} of {twice}", world.counts.maybe);
}

#[test]
fn a_topic_that_is_made_anew_and_keeps_no_markers_then_is_compared() {
    let mut world = World::new(1, Faults::default(), 200).run(200);
    assert!(world.machine.targets.iter().all(|t| t.proven && !t.opaque));
    world.logs.clear();
    world.faults.opaque = true;
    let down = |world: &mut World| {
        for t in world.machine_targets() {
            world.machine.handle(world.now, Input::Down { target: TargetIx(t) });
        }
        world.drive();
    };
    down(&mut world);
    send_more(&mut world, 40);
    let mut world = world.run(0);
    let (losses, maybe) = (world.counts.losses, world.counts.maybe);
    assert!(losses > 0);
    // From here on it is a log like any other of that kind.
    for _ in 0..3 {
        down(&mut world);
        send_more(&mut world, 40);
        world = world.run(0);
    }
    assert_eq!((world.counts.losses, world.counts.maybe), (losses, maybe));
    assert!(world.copies().values().all(|n| *n == 1), "{:?}", world.copies());
}
