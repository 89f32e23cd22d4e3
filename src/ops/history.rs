//! The node's last state changes, kept as state entries of the ring.
//!
//! They are records of `headwater-events` as well, for sinks that name it; but those are evicted with everything else,
//! and what a node went through is asked for most when its ring is full.
//!
//! Blocks of up to [`BLOCK`] events, a JSON object a line, under zstd; the key is the block's number (u32 big-endian, so
//! that blocks stand in order). The newest block is stored again with each change.

use super::events::EventRecord;
use crate::limits::{MAX_EVENTS, MAX_STATE_OWNER_BYTES};
use crate::name::Name;
use crate::ring::{Owner, OwnerKind};

/// Events of one block: enough for a compressor to find what repeats, few enough to be written again each time.
const BLOCK: usize = 128;
/// Blocks that hold at least `MAX_EVENTS`, however few are in the newest.
const MAX_BLOCKS: usize = MAX_EVENTS.div_ceil(BLOCK) + 1;
/// Bytes of a block before compression: far above what `BLOCK` of the longest events take.
const MAX_RAW: usize = 1024 * 1024;
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
/// oldest blocks go when there are `MAX_EVENTS` without them, or when all would take more than `budget` bytes; the newest
/// stays in any case.
pub fn add(kept: &[Entry], events: &[Vec<u8>], budget: usize) -> Vec<Change> {
    let newest = kept.last().and_then(|(key, value)| Some((number(key)?, lines(value)?)));
    let after = kept.iter().rev().find_map(|(key, _)| number(key)).map_or(0, |n| n.wrapping_add(1));
    let (mut at, mut text) = newest.unwrap_or((after, String::new()));
    let mut blocks = Vec::new();
    for event in events.iter().filter_map(|event| std::str::from_utf8(event).ok()) {
        if text.lines().count() >= BLOCK {
            blocks.extend(pack(at, &text));
            (at, text) = (at.wrapping_add(1), String::new());
        }
        text.push_str(event);
        text.push('\n');
    }
    blocks.extend(pack(at, &text));
    let old = kept.iter().filter(|(key, _)| blocks.iter().all(|(new, _)| new != key));
    let (mut count, mut bytes) = (old.clone().count() + blocks.len(), 0);
    bytes += old.clone().chain(&blocks).map(|(key, value)| key.len() + value.len()).sum::<usize>();
    let mut changes = Vec::new();
    for (key, value) in old.chain(&blocks[..blocks.len().saturating_sub(1)]) {
        if count <= MAX_BLOCKS && bytes <= budget {
            break;
        }
        (count, bytes) = (count - 1, bytes - key.len() - value.len());
        changes.push((key.clone(), None));
    }
    let stay = |(key, _): &Entry| changes.iter().all(|(gone, _)| gone != key);
    let stored: Vec<Change> = blocks.into_iter().filter(stay).map(|(key, value)| (key, Some(value))).collect();
    changes.extend(stored);
    changes
}

/// The newest `n` events that are kept, oldest first.
pub fn newest(kept: &[Entry], n: usize) -> Vec<EventRecord> {
    let mut events = Vec::new();
    for text in kept.iter().rev().filter_map(|(_, value)| lines(value)) {
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

fn lines(value: &[u8]) -> Option<String> {
    String::from_utf8(zstd::bulk::decompress(value, MAX_RAW).ok()?).ok()
}

fn pack(number: u32, text: &str) -> Option<Entry> {
    let value = zstd::bulk::compress(text.as_bytes(), LEVEL).ok()?;
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
        fn what_is_kept_is_the_newest_without_holes(groups in prop::collection::vec(1u64..300, 1..20), budget in 0usize..40_000) {
            let (mut kept, mut made) = (BTreeMap::new(), 0);
            for group in groups {
                let events: Vec<_> = (made..made + group).map(|n| event(n, "connect 10.0.0.7:9003 timed out")).collect();
                made += group;
                apply(&mut kept, &events, budget);
                let entries: Vec<Entry> = kept.clone().into_iter().collect();
                let all: Vec<u64> = newest(&entries, usize::MAX).iter().map(|e| e.left_out).collect();
                let from = made - all.len() as u64;
                prop_assert_eq!(&all, &(from..made).collect::<Vec<_>>());
                let bytes: usize = entries.iter().map(|(k, v)| k.len() + v.len()).sum();
                prop_assert!(!all.is_empty() && entries.len() <= MAX_BLOCKS && (bytes <= budget || entries.len() == 1));
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
    fn a_block_of_the_longest_events_is_read_back() {
        let mut kept = BTreeMap::new();
        let what: String = (0..MAX_REPORT).map(|_| '\u{1}').collect();
        for n in 0..BLOCK as u64 {
            apply(&mut kept, &[event(n, &what)], budget(MIN_SLOT));
        }
        let entries: Vec<Entry> = kept.into_iter().collect();
        assert_eq!((entries.len(), newest(&entries, BLOCK).len()), (1, BLOCK));
    }
}
