//! What records come to where no marker survives: a number for key and value, of those that are sent and of those that stand
//! upstream.

use super::answers::whole_batches;
use crate::codec::Reader;
use crate::codec::batch::Batch;
use crate::envelope;

/// The most that is fetched to compare, whatever `search_max` allows: an answer is held in memory.
pub const MOST: usize = 192 * 1024;
/// What that may unpack to.
const UNPACKED: usize = 4 * 1024 * 1024;

pub fn content(key: Option<&[u8]>, value: &[u8], envelope: bool) -> u64 {
    seeded(0, key, value, envelope)
}

/// The same by more than one seed, for who needs to be surer. `envelope`: of the value what does not depend on when it was sent.
pub fn seeded(seed: u64, key: Option<&[u8]>, value: &[u8], envelope: bool) -> u64 {
    let value = if envelope { envelope::lasting(value) } else { [value, &[]] };
    let mut hasher = twox_hash::XxHash3_64::with_seed(seed ^ key.map_or(0, |key| key.len() as u64 + 1));
    std::hash::Hasher::write(&mut hasher, key.unwrap_or_default());
    value.into_iter().for_each(|part| std::hash::Hasher::write(&mut hasher, part));
    std::hash::Hasher::finish(&hasher)
}

/// What the records from the one offset up to the other come to, out of a slice of the log; None: not all of them are in it.
pub fn read(slice: &[u8], from: i64, to: i64, envelope: bool) -> Option<Vec<u64>> {
    let (mut found, mut next, mut sound, mut room) = (Vec::new(), from, true, UNPACKED);
    whole_batches(slice, &mut |header, bytes| {
        // Of batches that overlap, as no log has them, each offset once.
        sound &=
            header.base <= next && batch(bytes, header.base, next..to, (&mut found, &mut room), envelope).is_some();
        next = next.max(header.end());
    });
    (sound && next >= to).then_some(found)
}

fn batch(
    bytes: &[u8],
    base: i64,
    wanted: std::ops::Range<i64>,
    (found, room): (&mut Vec<u64>, &mut usize),
    envelope: bool,
) -> Option<()> {
    let batch = Batch::take(&mut Reader::new(bytes)).ok()?;
    let unpacked = batch.unpack_within(*room).ok()?;
    *room -= unpacked.len();
    batch.check(&unpacked).ok()?;
    let records = (base..).zip(batch.records(&unpacked)).filter(|(offset, _)| wanted.contains(offset));
    found.extend(records.map(|(_, record)| content(record.key, record.value, envelope)));
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::batch::{self, Served};
    use crate::record::RecordRef;
    use crate::sinks::fluvio::captures::{Capture, frames};
    use crate::sinks::fluvio::wire;

    #[test]
    fn of_a_real_log_any_stretch_comes_to_its_records_or_to_nothing() {
        let (_, answers) = frames(Capture::FetchOneShot);
        let log = wire::read_fetched(&answers[1][4..], "t1", 0, 0).unwrap().unwrap();
        let mut ends = Vec::new();
        whole_batches(log, &mut |header, bytes| ends.push((header.base, header.end(), bytes.len())));
        let (first, last) = (ends[0].0, ends[ends.len() - 1].1);
        let all = read(log, first, last, false).unwrap();
        assert_eq!(all.len() as i64, last - first);
        for from in first..last {
            for to in from..=last {
                let some = &all[(from - first) as usize..(to - first) as usize];
                assert_eq!(read(log, from, to, false).as_deref(), Some(some));
            }
        }
        let whole: usize = ends.iter().map(|(.., len)| len).sum();
        assert_eq!(read(&log[..whole - 1], first, last, false), None, "the last batch is cut");
        assert_eq!(read(log, first, last + 1, false), None);
        assert_eq!(read(log, first - 1, last, false), None);
    }

    #[test]
    fn of_batches_that_overlap_each_offset_comes_once() {
        let values: Vec<_> = (0..10u8).map(|n| [n]).collect();
        let mut log = Vec::new();
        for offsets in [5..8, 6..9, 2..9] {
            let records = offsets.map(|n| Served { offset: n as u64, time_ms: 1, record: RecordRef::of(&values[n]) });
            batch::encode(records, &mut log, |_, _| true);
        }
        let expected: Vec<_> = (5..9).map(|n| content(None, &values[n], false)).collect();
        assert_eq!(read(&log, 5, 9, false), Some(expected));
    }

    #[test]
    fn no_key_and_an_empty_one_are_told_apart_as_are_key_and_value() {
        let all = [
            content(None, b"ab", false),
            content(Some(b""), b"ab", false),
            content(Some(b"a"), b"b", false),
            content(Some(b"ab"), b"", false),
        ];
        assert!((0..all.len()).all(|i| !all[..i].contains(&all[i])), "{all:?}");
    }
}
