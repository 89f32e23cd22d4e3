//! The proof: what the edge kept and what the upstream stored, record by record.
//!
//! Both sides are read from their rings, never through a client. A record is known by the hash of its key and value; the
//! demo's events all carry a number, so two of them are never equal by design.

use std::collections::HashMap;
use std::hash::Hasher;

/// What one side holds of one topic, in offset order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored(Vec<u64>);

impl Stored {
    pub fn push(&mut self, key: Option<&[u8]>, value: &[u8]) {
        let mut hasher = twox_hash::XxHash3_64::with_seed(key.map_or(0, |key| key.len() as u64 + 1));
        hasher.write(key.unwrap_or_default());
        hasher.write(value);
        self.0.push(hasher.finish());
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }
}

/// One topic's result.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    pub kept: u64,
    pub stored: u64,
    /// Kept at the edge, not stored upstream.
    pub missing: u64,
    /// Stored upstream more often than kept at the edge.
    pub duplicated: u64,
    /// Stored upstream, never kept at the edge.
    pub unknown: u64,
    /// Stored upstream before one that the edge kept earlier.
    pub disordered: u64,
}

impl Row {
    pub fn adds_up(&self) -> bool {
        self.missing == 0 && self.duplicated == 0 && self.unknown == 0 && self.disordered == 0
    }
}

/// Compares one topic.
pub fn compare(edge: &Stored, upstream: &Stored) -> Row {
    let mut places: HashMap<u64, (usize, i64)> = HashMap::with_capacity(edge.len());
    for (place, hash) in edge.0.iter().enumerate() {
        places.entry(*hash).or_insert((place, 0)).1 += 1;
    }
    let mut row = Row { kept: edge.len() as u64, stored: upstream.len() as u64, ..Row::default() };
    let mut last = 0;
    for hash in &upstream.0 {
        match places.get_mut(hash) {
            None => row.unknown += 1,
            Some((_, left)) if *left <= 0 => row.duplicated += 1,
            Some((place, left)) => {
                *left -= 1;
                if *place < last {
                    row.disordered += 1;
                }
                last = last.max(*place);
            }
        }
    }
    row.missing = places.values().map(|(_, left)| (*left).max(0) as u64).sum();
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(values: &[&str]) -> Stored {
        let mut stored = Stored::default();
        for value in values {
            stored.push(Some(b"k"), value.as_bytes());
        }
        stored
    }

    #[test]
    fn the_same_records_in_the_same_order_add_up() {
        let row = compare(&stored(&["a", "b", "c"]), &stored(&["a", "b", "c"]));
        assert!(row.adds_up());
        assert_eq!((row.kept, row.stored), (3, 3));
    }

    #[test]
    fn loss_repeats_strangers_and_disorder_are_each_seen() {
        let edge = stored(&["a", "b", "c"]);
        assert_eq!(compare(&edge, &stored(&["a", "c"])).missing, 1);
        assert_eq!(compare(&edge, &stored(&["a", "b", "b", "c"])).duplicated, 1);
        assert_eq!(compare(&edge, &stored(&["a", "b", "x", "c"])).unknown, 1);
        assert_eq!(compare(&edge, &stored(&["b", "a", "c"])).disordered, 1);
    }

    #[test]
    fn a_key_is_part_of_a_record() {
        let (mut one, mut other) = (Stored::default(), Stored::default());
        one.push(Some(b""), b"v");
        other.push(None, b"v");
        assert!(!compare(&one, &other).adds_up());
    }
}
