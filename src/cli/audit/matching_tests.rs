//! What is planted is found, and nothing else.

use proptest::prelude::*;

use super::*;
use crate::topic::TopicId;

const PART: TopicPart = TopicPart { topic: TopicId(3), partition: 0 };

/// What is due, by lane; a hole where none is.
struct Lanes(Vec<Vec<Option<Due>>>);

impl Edge for Lanes {
    fn between(&mut self, lane: usize, from: u64, to: u64, visit: &mut dyn FnMut(Met) -> ControlFlow<()>) {
        for (seq, due) in (0..).zip(&self.0[lane]) {
            let met = due.map_or(Met::Hole, Met::Due);
            let seq = due.map_or(seq, |due| due.seq);
            if (from..to).contains(&seq) && visit(met).is_break() {
                return;
            }
        }
    }
}

fn due(seq: u64, content: u64) -> Due {
    Due { seq, part: PART, offset: seq / 2, print: u128::from(content), at_ms: None, absent: Absent::Missing }
}

/// Every second seq is due here; no two are the same.
fn lane(count: u64) -> Vec<Option<Due>> {
    (0..2 * count).filter(|seq| seq % 2 == 0).map(|seq| Some(due(seq, 1000 + seq))).collect()
}

fn id(id: i64, lane: usize, from: u64, below: u64) -> Id {
    Id { id, lane, from, below, newest: true }
}

#[derive(Clone, Debug)]
struct Batch {
    id: i64,
    number: u64,
    stored: Vec<Stored>,
}

fn batch(id: i64, due: &[Option<Due>]) -> Batch {
    let due: Vec<Due> = due.iter().copied().flatten().collect();
    let stored = due.iter().map(|due| Stored { print: due.print, at_ms: 5 }).collect();
    Batch { id, number: due.last().map_or(0, |due| due.seq), stored }
}

/// Takes all batches; what was not found.
fn compare(lanes: &mut Lanes, ids: Vec<Id>, batches: &[Batch], floor: u64) -> Matcher {
    let end = |lane: &Vec<Option<Due>>| lane.iter().flatten().last().map_or(0, |due| due.seq + 1);
    let ranges = lanes.0.iter().map(|lane| Lane::new(floor, end(lane))).collect();
    let mut matcher = Matcher::new(ids, ranges);
    let mut base = 100;
    for batch in batches {
        match matcher.known(batch.id, batch.number) {
            Some(at) => matcher.take(lanes, at, batch.number, base, &batch.stored),
            None => matcher.tally.foreign += batch.stored.len() as u64,
        }
        base += batch.stored.len() as i64;
    }
    matcher.finish(lanes, false);
    matcher
}

#[derive(Clone, Copy, Debug)]
enum Plant {
    Nothing,
    Dropped,
    Repeated,
    RepeatedLater,
    Changed(usize),
    Lacks(usize),
    Twice(usize),
    Delayed,
    Swapped(usize),
    Strange,
}

fn plant() -> impl Strategy<Value = Plant> {
    prop_oneof![
        6 => Just(Plant::Nothing),
        1 => Just(Plant::Dropped),
        1 => Just(Plant::Repeated),
        1 => Just(Plant::RepeatedLater),
        1 => any::<usize>().prop_map(Plant::Changed),
        1 => any::<usize>().prop_map(Plant::Lacks),
        1 => any::<usize>().prop_map(Plant::Twice),
        1 => Just(Plant::Delayed),
        1 => any::<usize>().prop_map(Plant::Swapped),
        1 => Just(Plant::Strange),
    ]
}

/// The log with what was planted, and what must be found.
fn planted(lane: &[Option<Due>], plan: &[(usize, Plant)]) -> (Vec<Batch>, Tally) {
    let (mut log, mut later, mut tally) = (Vec::new(), Vec::new(), Tally::default());
    let mut rest = lane;
    for (size, plant) in plan {
        let (now, more) = rest.split_at((*size).min(rest.len()));
        rest = more;
        if now.is_empty() {
            break;
        }
        let (mut whole, n) = (batch(7, now), now.len());
        let count = n as u64;
        match *plant {
            Plant::Nothing => tally.identical += count,
            Plant::Dropped => {
                tally.missing += count;
                continue;
            }
            Plant::Repeated => {
                (tally.identical, tally.duplicated) = (tally.identical + count, tally.duplicated + count);
                log.push(whole.clone());
            }
            Plant::RepeatedLater => {
                (tally.identical, tally.duplicated) = (tally.identical + count, tally.duplicated + count);
                later.push((whole.clone(), false));
            }
            Plant::Changed(at) => {
                whole.stored[at % n].print += 1 << 64;
                (tally.identical, tally.different) = (tally.identical + count - 1, tally.different + 1);
            }
            Plant::Lacks(at) => {
                whole.stored.remove(at % n);
                (tally.identical, tally.missing) = (tally.identical + count - 1, tally.missing + 1);
            }
            Plant::Twice(at) => {
                whole.stored.insert(at % n, whole.stored[at % n]);
                (tally.identical, tally.duplicated) = (tally.identical + count, tally.duplicated + 1);
            }
            Plant::Delayed => {
                later.push((whole, true));
                continue;
            }
            Plant::Swapped(_) if n < 2 => tally.identical += count,
            Plant::Swapped(at) => {
                whole.stored.swap(at % (n - 1), at % (n - 1) + 1);
                (tally.identical, tally.out_of_order) = (tally.identical + count - 1, tally.out_of_order + 1);
            }
            Plant::Strange => {
                log.push(Batch { id: 8, number: whole.number, stored: whole.stored.clone() });
                (tally.identical, tally.foreign) = (tally.identical + count, tally.foreign + count);
            }
        }
        log.push(whole);
    }
    tally.missing += rest.len() as u64;
    let mut newest = log.iter().filter(|batch| batch.id == 7).map(|batch| batch.number).max();
    for (whole, first) in later {
        let count = whole.stored.len() as u64;
        match first {
            true if newest.is_some_and(|newest| whole.number < newest) => tally.out_of_order += count,
            true => tally.identical += count,
            false => {}
        }
        newest = newest.max(Some(whole.number));
        log.push(whole);
    }
    (log, tally)
}

proptest! {
    #[test]
    fn what_is_planted_is_found_and_nothing_else(
        count in 1..400u64,
        plan in prop::collection::vec((1..40usize, plant()), 1..40),
    ) {
        let lane = lane(count);
        let (log, expected) = planted(&lane, &plan);
        let matcher = compare(&mut Lanes(vec![lane]), vec![id(7, 0, 0, u64::MAX)], &log, 0);
        prop_assert_eq!(matcher.tally, expected, "{:?}", log);
        let found = |what| matcher.findings.iter().filter(|f| f.what == what).map(|f| f.count).sum::<u64>();
        prop_assert_eq!(found(What::Missing), expected.missing);
        prop_assert_eq!(found(What::Different), expected.different);
        prop_assert_eq!(found(What::Duplicated), expected.duplicated);
        prop_assert_eq!(found(What::OutOfOrder), expected.out_of_order);
        for finding in &matcher.findings {
            prop_assert_eq!(finding.offsets.1 - finding.offsets.0, finding.count);
            prop_assert_eq!(finding.seqs.1 - finding.seqs.0, 2 * (finding.count - 1));
        }
    }

    #[test]
    fn a_sound_log_is_identical_however_alike_its_records_are(
        contents in prop::collection::vec(0..3u64, 1..300),
        sizes in prop::collection::vec(1..30usize, 300),
    ) {
        let lane: Vec<_> = (0..).zip(&contents).map(|(at, content)| Some(due(2 * at, *content))).collect();
        let (mut log, mut rest) = (Vec::new(), &lane[..]);
        for size in sizes {
            let (now, more) = rest.split_at(size.min(rest.len()));
            rest = more;
            log.extend((!now.is_empty()).then(|| batch(7, now)));
        }
        let matcher = compare(&mut Lanes(vec![lane.clone()]), vec![id(7, 0, 0, u64::MAX)], &log, 0);
        prop_assert_eq!(matcher.tally, Tally { identical: contents.len() as u64, ..Tally::default() });
    }

    #[test]
    fn without_markers_what_is_left_out_or_strange_is_found_by_content(
        count in 1..300u64,
        left_out in prop::collection::btree_set(0..300u64, 0..20),
        strange in prop::collection::btree_set(0..300u64, 0..20),
        size in 1..50usize,
    ) {
        let lane = lane(count);
        let mut stored = Vec::new();
        for (at, due) in (0..).zip(lane.iter().flatten()) {
            stored.extend(strange.contains(&at).then_some(Stored { print: 1 << 70, at_ms: 0 }));
            stored.extend((!left_out.contains(&at)).then_some(Stored { print: due.print, at_ms: 0 }));
        }
        let mut lanes = Lanes(vec![lane]);
        let mut matcher = Matcher::new(vec![id(7, 0, 0, u64::MAX)], vec![Lane::new(0, 2 * count)]);
        stored.chunks(size).for_each(|stored| matcher.take_unmarked(&mut lanes, 0, stored));
        matcher.finish(&mut lanes, false);
        let missing = left_out.iter().filter(|at| **at < count).count() as u64;
        let foreign = strange.iter().filter(|at| **at < count).count() as u64;
        prop_assert_eq!(matcher.tally, Tally { identical: count - missing, missing, foreign, ..Tally::default() });
    }
}

#[test]
fn a_batch_of_which_the_ring_has_evicted_the_beginning_is_compared_from_there() {
    let lane = lane(20);
    let log = [batch(7, &lane[..5]), batch(7, &lane[5..15]), batch(7, &lane[15..])];
    let matcher = compare(&mut Lanes(vec![lane.clone()]), vec![id(7, 0, 0, u64::MAX)], &log, 20);
    assert_eq!(matcher.tally, Tally { identical: 10, no_longer_in_the_ring: 10, ..Tally::default() });
}

#[test]
fn what_stands_upstream_of_a_gap_of_the_ring_is_not_called_unknown() {
    let mut lane: Vec<_> = (0..20).map(|seq| Some(due(seq, 1000 + seq))).collect();
    let log = [batch(7, &lane[..10]), batch(7, &lane[10..])];
    lane[7..13].fill(None);
    let matcher = compare(&mut Lanes(vec![lane]), vec![id(7, 0, 0, u64::MAX)], &log, 0);
    assert_eq!(matcher.tally, Tally { identical: 14, no_longer_in_the_ring: 6, ..Tally::default() });
}

#[test]
fn lanes_and_streams_stand_among_each_other_in_any_order() {
    let (urgent, normal) = (lane(10), lane(10));
    // The newer stream of the lane goes first.
    let ids = vec![id(7, 0, 0, u64::MAX), id(8, 1, 0, 10), id(9, 1, 10, u64::MAX)];
    let log = [
        batch(9, &normal[5..8]),
        batch(7, &urgent[..4]),
        batch(8, &normal[..3]),
        batch(9, &normal[8..]),
        batch(7, &urgent[4..]),
        batch(8, &normal[3..5]),
    ];
    let matcher = compare(&mut Lanes(vec![urgent, normal]), ids, &log, 0);
    assert_eq!(matcher.tally, Tally { identical: 20, ..Tally::default() });
}

#[test]
fn an_id_that_nobody_remembers_is_known_by_what_its_batches_hold() {
    let lane = lane(20);
    let mut lanes = Lanes(vec![lane.clone()]);
    let mut matcher = Matcher::new(vec![id(7, 0, 20, u64::MAX)], vec![Lane::new(0, 40)]);
    let range = id(66, 0, 0, 20);
    let ours = batch(66, &lane[..6]);
    let strange = vec![Stored { print: 1, at_ms: 0 }; 6];
    assert_eq!(matcher.learn(&mut lanes, range, 10, &strange), None);
    let at = matcher.learn(&mut lanes, range, ours.number, &ours.stored).unwrap();
    matcher.take(&mut lanes, at, ours.number, 0, &ours.stored);
    assert_eq!((matcher.known(66, 12), matcher.known(66, 20)), (Some(at), None), "for the range it was learned in");
    assert_eq!(matcher.tally, Tally { identical: 6, ..Tally::default() });
}

#[test]
fn what_the_upstream_has_deleted_is_not_missing_and_what_it_lacks_behind_that_is() {
    let lane = lane(20);
    let mut lanes = Lanes(vec![lane.clone()]);
    let mut matcher = Matcher::new(vec![id(7, 0, 0, u64::MAX)], vec![Lane::new(0, 40)]);
    for part in [&lane[5..10], &lane[15..]] {
        let batch = batch(7, part);
        matcher.take(&mut lanes, 0, batch.number, 0, &batch.stored);
    }
    matcher.finish(&mut lanes, true);
    let expected = Tally { identical: 10, missing: 5, upstream_no_longer_has: 5, ..Tally::default() };
    assert_eq!(matcher.tally, expected);
}

#[test]
fn records_of_another_life_of_the_ring_are_strangers_and_not_different() {
    let lane = lane(10);
    let mut other = batch(6, &lane[4..8]);
    other.stored.iter_mut().for_each(|stored| stored.print += 1 << 64);
    let old = Id { newest: false, ..id(6, 0, 0, u64::MAX) };
    let log = [batch(6, &lane[..4]), other, batch(7, &lane[4..])];
    let matcher = compare(&mut Lanes(vec![lane]), vec![old, id(7, 0, 0, u64::MAX)], &log, 0);
    assert_eq!(matcher.tally, Tally { identical: 10, foreign: 4, ..Tally::default() });
}

#[test]
fn a_time_counts_where_it_cannot_have_changed() {
    let mut at = due(0, 1);
    at.at_ms = Some(6);
    let log = [Batch { id: 7, number: 0, stored: vec![Stored { print: 1, at_ms: 5 }] }];
    let compared = |due| compare(&mut Lanes(vec![vec![Some(due)]]), vec![id(7, 0, 0, u64::MAX)], &log, 0).tally;
    assert_eq!(compared(at).different, 1);
    assert_eq!(compared(due(0, 1)).identical, 1);
}
