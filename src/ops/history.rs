//! The node's last state changes, kept as state entries of the ring.
//!
//! They are records of `headwater-events` as well, for sinks that name it; but those are evicted with everything else,
//! and what a node went through is asked for most when its ring is full.
//!
//! Blocks of up to [`BLOCK`] events: their number in one byte, then a JSON object a line under zstd. The key is the block's
//! number (u32 big-endian, so that blocks stand in order). The newest block is stored again with each change.

use super::events::EventRecord;
use crate::limits::{MAX_EVENTS, MAX_STATE_OWNER_BYTES};
use crate::name::Name;
use crate::ring::{Owner, OwnerKind};

/// Events of one block: enough for a compressor to find what repeats, few enough to be written again each time.
const BLOCK: usize = 128;
/// Bytes of a block before compression: more than `BLOCK` of the longest events take.
const MAX_RAW: usize = 512 * 1024;
const LEVEL: i32 = 9;

/// A state entry: key and value.
pub type Entry = (Vec<u8>, Vec<u8>);
/// A change to one; without a value it is removed.
pub type Change = (Vec<u8>, Option<Vec<u8>>);

/// Whose entries they are.
pub fn owner() -> Option<Owner> {
    Name::new("events").ok().map(|name| Owner { kind: OwnerKind::Node, name })
}

/// Bytes that the history may take in a ring with slots of `slot_bytes`: a quarter of what all owners have together.
pub fn budget(slot_bytes: u64) -> usize {
    usize::try_from(slot_bytes / 16).unwrap_or(usize::MAX).min(MAX_STATE_OWNER_BYTES * 3 / 4)
}

/// What is to change in `kept` (in key order) so that it ends with `events`: their records' values, the newest last. The
/// oldest blocks go when there are `MAX_EVENTS` without them, or when all would take more than `budget` bytes.
pub fn add(kept: &[Entry], events: &[Vec<u8>], budget: usize) -> Vec<Change> {
    let newest = kept.last().and_then(|(key, value)| Some((number(key)?, unpack(value)?)));
    let after = kept.iter().rev().find_map(|(key, _)| number(key)).map_or(0, |n| n.wrapping_add(1));
    let (mut at, mut text) = newest.unwrap_or((after, String::new()));
    let mut blocks = Vec::new();
    for event in events.iter().filter_map(|event| std::str::from_utf8(event).ok()) {
        let before = text.len();
        text.push_str(event);
        text.push('\n');
        if before > 0 && !fits(&text, budget) {
            blocks.extend(pack(at, &text[..before]));
            (at, text) = (at.wrapping_add(1), text.split_off(before));
        }
    }
    blocks.extend(pack(at, &text));
    let stored = blocks.len();
    let old: Vec<_> = kept.iter().filter(|(key, _)| blocks.iter().all(|(new, _)| new != key)).cloned().collect();
    let newest_first = blocks.into_iter().rev().chain(old.into_iter().rev());
    let (mut count, mut bytes, mut changes) = (0, 0, Vec::new());
    for (i, (key, value)) in newest_first.enumerate() {
        bytes += key.len() + value.len();
        let stays = i == 0 || count < MAX_EVENTS && bytes <= budget;
        count += value.first().map_or(0, |n| usize::from(*n));
        if !stays || i < stored {
            changes.push((key, stays.then_some(value)));
        }
    }
    // What goes makes room for what comes.
    changes.sort_by_key(|(_, value)| value.is_some());
    changes
}

/// What is to change so that nothing is kept but `events`, as far as they fit.
pub fn begin_anew(kept: &[Entry], events: &[Vec<u8>], budget: usize) -> Vec<Change> {
    let gone = kept.iter().map(|(key, _)| (key.clone(), None));
    gone.chain(add(&[], events, budget)).collect()
}

/// The newest `n` events that are kept, oldest first.
pub fn newest(kept: &[Entry], n: usize) -> Vec<EventRecord> {
    let mut events = Vec::new();
    for text in kept.iter().rev().filter_map(|(_, value)| unpack(value)) {
        if events.len() >= n {
            break;
        }
        events.extend(text.lines().rev().filter_map(|line| serde_json::from_str(line).ok()));
    }
    events.truncate(n);
    events.reverse();
    events
}

fn number(key: &[u8]) -> Option<u32> {
    key.try_into().ok().map(u32::from_be_bytes)
}

/// Whether these lines may stand in one block: it must not take most of what there is, whatever their texts.
fn fits(text: &str, budget: usize) -> bool {
    let most = budget / 4;
    text.lines().count() <= BLOCK && (text.len() < most || pack(0, text).is_some_and(|(_, value)| value.len() < most))
}

fn unpack(value: &[u8]) -> Option<String> {
    let (_, packed) = value.split_first()?;
    String::from_utf8(zstd::bulk::decompress(packed, MAX_RAW).ok()?).ok()
}

fn pack(number: u32, text: &str) -> Option<Entry> {
    let mut value = vec![u8::try_from(text.lines().count()).ok()?];
    value.extend(zstd::bulk::compress(text.as_bytes(), LEVEL).ok()?);
    Some((number.to_be_bytes().to_vec(), value))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::hub::{Event, PartKind, PartState};
    use crate::limits::{MAX_REPORT, MIN_SLOT};
    use crate::ops::events::record;
    use crate::ops::testing::at;

    fn event(n: u64, what: &str) -> Vec<u8> {
        let state = PartState::Down { what: what.into(), retry_in_ms: Some(n * 7919 % 60_000) };
        let seconds = i64::try_from(n * 37).unwrap();
        record(&Event { at: at(seconds), kind: PartKind::Sink, name: "hq".into(), state, left_out: n })
    }

    fn apply(kept: &mut BTreeMap<Vec<u8>, Vec<u8>>, events: &[Vec<u8>], budget: usize) {
        let entries: Vec<Entry> = kept.clone().into_iter().collect();
        for (key, value) in add(&entries, events, budget) {
            match value {
                Some(value) => kept.insert(key, value),
                None => kept.remove(&key),
            };
        }
    }

    proptest! {
        // A case compresses some hundred blocks.
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn what_is_kept_is_the_newest_without_holes_and_within_its_bound(
            groups in prop::collection::vec((1u64..200, 0usize..MAX_REPORT), 1..20), budget in 16_384usize..50_000
        ) {
            let (mut kept, mut made) = (BTreeMap::new(), 0);
            let mut rng = crate::backoff::Rng::new(budget as u64);
            for (group, noise) in groups {
                let mut what = || (0..noise).map(|_| char::from(b' ' + (rng.next_u64() % 90) as u8)).collect::<String>();
                let events: Vec<_> = (made..made + group).map(|n| event(n, &what())).collect();
                made += group;
                apply(&mut kept, &events, budget);
                let entries: Vec<Entry> = kept.clone().into_iter().collect();
                let all: Vec<u64> = newest(&entries, usize::MAX).iter().map(|e| e.left_out).collect();
                let from = made - all.len() as u64;
                prop_assert_eq!(&all, &(from..made).collect::<Vec<_>>());
                let bytes: usize = entries.iter().map(|(k, v)| k.len() + v.len()).sum();
                prop_assert!(!all.is_empty() && all.len() < MAX_EVENTS + BLOCK && bytes <= budget);
                let last: Vec<u64> = newest(&entries, 3).iter().map(|e| e.left_out).collect();
                prop_assert_eq!(&last[..], &all[all.len().saturating_sub(3)..]);
            }
        }

        #[test]
        fn foreign_entries_are_no_history_and_do_not_stop_it(
            foreign in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..6), prop::collection::vec(any::<u8>(), 0..40)), 0..4)
        ) {
            let mut kept: BTreeMap<_, _> = foreign.into_iter().collect();
            apply(&mut kept, &[event(1, "refused")], budget(MIN_SLOT));
            let entries: Vec<Entry> = kept.into_iter().collect();
            prop_assert_eq!(newest(&entries, 9).len(), 1);
            let anew = begin_anew(&entries, &[event(2, "refused")], budget(MIN_SLOT));
            let left: BTreeMap<_, _> = anew.into_iter().collect();
            let left: Vec<Entry> = left.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
            prop_assert_eq!(newest(&left, 9).iter().map(|e| e.left_out).collect::<Vec<_>>(), [2]);
        }
    }

    #[test]
    fn the_smallest_ring_keeps_the_last_thousand_of_a_link_that_comes_and_goes() {
        let mut kept = BTreeMap::new();
        for n in 0..3_000 {
            let what = match n % 4 {
                0 => "connect hq.example:9003 timed out",
                1 => "hq.example:9003 closed the connection; is it being restarted?",
                2 => "no route to hq.example:9003",
                _ => "cannot resolve hq.example: no answer from the name server",
            };
            apply(&mut kept, &[event(n, what)], budget(MIN_SLOT));
        }
        let entries: Vec<Entry> = kept.into_iter().collect();
        let bytes: usize = entries.iter().map(|(k, v)| k.len() + v.len()).sum();
        println!("{} events in {bytes} of {} bytes", newest(&entries, usize::MAX).len(), budget(MIN_SLOT));
        assert_eq!(newest(&entries, MAX_EVENTS).len(), MAX_EVENTS);
    }

    #[test]
    fn the_longest_events_are_read_back() {
        let mut kept = BTreeMap::new();
        let what: String = (0..MAX_REPORT).map(|_| '\u{1}').collect();
        for n in 0..BLOCK as u64 {
            apply(&mut kept, &[event(n, &what)], budget(MIN_SLOT));
        }
        let entries: Vec<Entry> = kept.into_iter().collect();
        assert_eq!(newest(&entries, BLOCK).len(), BLOCK);
    }
}
