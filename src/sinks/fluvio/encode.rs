//! Batches in Fluvio's wire form, written straight from borrowed records.
//!
//! ```text
//! record   varint length of what follows │ i8 attributes 0 │ varint timestamp delta, ms │ varint offset delta
//!          │ key: u8 0, or u8 1, varint length, bytes │ value: varint length, bytes │ varint headers 0
//!
//! batch     0  8  base offset: n - 1; the server writes its own
//!           8  4  length of what follows
//!          12  4  partition leader epoch -1        16  1  magic 2
//!          17  4  CRC32C of everything from 21 on  21  2  attributes: compression in the low 3 bits
//!          23  4  last offset delta n - 1          27  8  first timestamp   35  8  max timestamp
//!          43  8  producer id                      51  2  producer epoch    53  4  first sequence
//!          57     i32 record count and the records, compressed as one when the attributes say so
//! ```
//!
//! All big-endian; varints are zigzag, least significant 7 bits first. The official encoder makes the same bytes (a test
//! compares them) with a vector per record and a call per byte.

use crate::config::model::Compression;
use crate::forward::Batch;

pub const HEADER: usize = 57;
const CRC_AT: usize = 17;
const CRC_FROM: usize = 21;

/// The most a record takes beside its key and value.
pub const RECORD_OVERHEAD: usize = 24;

/// The records of one batch, encoded as they come: the i32 count, then the records.
#[derive(Debug, Default)]
pub struct Records(Vec<u8>);

impl Records {
    /// Begins anew, keeping the buffer.
    pub fn begin(&mut self) {
        self.0.clear();
        // The count stands here when it is known.
        self.0.extend_from_slice(&[0; 4]);
    }

    pub fn push(&mut self, index: u32, delta_ms: i64, key: Option<&[u8]>, value: &[u8]) {
        let key_len = key.map_or(1, |k| 1 + varint_len(k.len() as i64) + k.len());
        let len = 2
            + varint_len(delta_ms)
            + varint_len(i64::from(index))
            + key_len
            + varint_len(value.len() as i64)
            + value.len();
        let out = &mut self.0;
        out.reserve(len + 5);
        varint(out, len as i64);
        out.push(0);
        varint(out, delta_ms);
        varint(out, i64::from(index));
        match key {
            None => out.push(0),
            Some(key) => {
                out.push(1);
                varint(out, key.len() as i64);
                out.extend_from_slice(key);
            }
        }
        varint(out, value.len() as i64);
        out.extend_from_slice(value);
        out.push(0);
    }

    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.0.len() <= 4
    }

    /// Gives the buffer back when it is larger than `most`: memory does not stay with what was once busy.
    pub fn shrink(&mut self, most: usize) {
        if self.0.capacity() > most {
            self.0 = Vec::new();
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("compress a batch: {0}")]
pub struct CompressError(String);

/// Appends the batch to `out`.
pub fn batch(
    out: &mut Vec<u8>,
    batch: &Batch,
    records: &mut Records,
    compression: Compression,
) -> Result<(), CompressError> {
    records.0[..4].copy_from_slice(&(batch.count as i32).to_be_bytes());
    let at = out.len();
    out.reserve(HEADER + records.0.len());
    out.resize(at + HEADER, 0);
    let bits = compress(out, &records.0, compression)?;
    let len = out.len() - at - 12;
    let header = &mut out[at..at + HEADER];
    let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &i64::from(batch.count - 1).to_be_bytes());
    put(8, &(len as i32).to_be_bytes());
    put(12, &(-1_i32).to_be_bytes());
    put(16, &[2]);
    put(21, &bits.to_be_bytes());
    put(23, &(batch.count as i32 - 1).to_be_bytes());
    put(27, &batch.base_ms.to_be_bytes());
    put(35, &batch.max_ms.to_be_bytes());
    put(43, &batch.marker.producer_id.to_be_bytes());
    put(51, &batch.marker.producer_epoch.to_be_bytes());
    put(53, &batch.marker.first_sequence.to_be_bytes());
    let crc = crc32c::crc32c(&out[at + CRC_FROM..]);
    out[at + CRC_AT..at + CRC_FROM].copy_from_slice(&crc.to_be_bytes());
    Ok(())
}

/// Appends the compressed records; gives the attribute bits.
fn compress(out: &mut Vec<u8>, records: &[u8], compression: Compression) -> Result<i16, CompressError> {
    use fluvio::Compression as Official;
    let official = match compression {
        Compression::None => {
            out.extend_from_slice(records);
            return Ok(0);
        }
        Compression::Zstd => {
            // Straight into the request; level 1, as the official producer has it.
            let at = out.len();
            out.resize(at + zstd::zstd_safe::compress_bound(records.len()), 0);
            let len =
                zstd::bulk::compress_to_buffer(records, &mut out[at..], 1).map_err(|e| CompressError(e.to_string()))?;
            out.truncate(at + len);
            return Ok(4);
        }
        Compression::Gzip => Official::Gzip,
        Compression::Snappy => Official::Snappy,
        Compression::Lz4 => Official::Lz4,
    };
    let bytes = official.compress(records).map_err(|e| CompressError(e.to_string()))?;
    out.extend_from_slice(&bytes);
    Ok(official as i16)
}

fn zigzag(n: i64) -> u64 {
    ((n << 1) ^ (n >> 63)) as u64
}

fn varint(out: &mut Vec<u8>, n: i64) {
    let mut v = zigzag(n);
    while v >= 0x80 {
        out.push(v as u8 | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
}

fn varint_len(n: i64) -> usize {
    (64 - (zigzag(n) | 1).leading_zeros() as usize).div_ceil(7)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Origin;
    use fluvio_protocol::record::{Batch as OfficialBatch, MemoryRecords, RawRecords, Record, RecordData};
    use fluvio_protocol::{Decoder, Encoder};
    use proptest::prelude::*;

    fn meta(count: u32, base_ms: i64, max_ms: i64) -> Batch {
        let marker = Origin { producer_id: 0x1122_3344_5566_7788, producer_epoch: 258, first_sequence: 0x0304_0506 };
        Batch { id: 1, marker, count, records: count, bytes: 0, base_ms, max_ms, last_seq: 9, turn: None }
    }

    type Plain = (Option<Vec<u8>>, Vec<u8>, i64);

    fn ours(records: &[Plain], compression: Compression) -> Vec<u8> {
        let mut buffer = Records::default();
        buffer.begin();
        for (i, (key, value, at)) in records.iter().enumerate() {
            buffer.push(i as u32, at - records[0].2, key.as_deref(), value);
        }
        let max = records.iter().map(|r| r.2).max().unwrap();
        let mut out = Vec::new();
        batch(&mut out, &meta(records.len() as u32, records[0].2, max), &mut buffer, compression).unwrap();
        out
    }

    fn official(records: &[Plain]) -> Vec<u8> {
        let list: Vec<Record> = records
            .iter()
            .map(|(key, value, at)| {
                let mut record = Record::new(RecordData::from(value.clone()));
                record.key = key.clone().map(RecordData::from);
                record.preamble.set_timestamp_delta(at - records[0].2);
                record
            })
            .collect();
        let mut batch: OfficialBatch = OfficialBatch::from(list);
        batch.base_offset = records.len() as i64 - 1;
        let max = records.iter().map(|r| r.2).max().unwrap();
        let header = batch.get_mut_header();
        (header.first_timestamp, header.max_time_stamp) = (records[0].2, max);
        (header.producer_id, header.producer_epoch, header.first_sequence) = (0x1122_3344_5566_7788, 258, 0x0304_0506);
        let mut out = Vec::new();
        batch.encode(&mut out, 0).unwrap();
        out
    }

    fn some_records() -> impl Strategy<Value = Vec<Plain>> {
        let bytes = prop::collection::vec(any::<u8>(), 0..300);
        let record = (prop::option::of(bytes.clone()), bytes, 0..i64::from(i32::MAX));
        prop::collection::vec(record, 1..40).prop_map(|mut records| {
            records[0].2 = 1_000;
            records
        })
    }

    proptest! {
        #[test]
        fn a_batch_has_the_bytes_of_the_official_encoder(records in some_records()) {
            prop_assert_eq!(ours(&records, Compression::None), official(&records));
        }

        #[test]
        fn every_compression_is_read_back_by_the_official_decoder(records in some_records()) {
            for (compression, bits) in
                [(Compression::Gzip, 1), (Compression::Snappy, 2), (Compression::Lz4, 3), (Compression::Zstd, 4)]
            {
                let bytes = ours(&records, compression);
                let batch: OfficialBatch<RawRecords> = OfficialBatch::decode_from(&mut bytes.as_slice(), 0).unwrap();
                prop_assert_eq!(batch.get_header().attributes, bits);
                let back: MemoryRecords = batch.memory_records().unwrap();
                let plain: Vec<Plain> = back
                    .iter()
                    .map(|r| (
                        r.key().map(|k| k.as_ref().to_vec()),
                        r.value().as_ref().to_vec(),
                        r.timestamp_delta() + 1_000,
                    ))
                    .collect();
                prop_assert_eq!(&plain, &records);
            }
        }

        #[test]
        fn a_record_never_takes_more_than_its_bytes_and_the_overhead(
            index in 0..u32::MAX / 4, delta in i64::from(i32::MIN)..=i64::from(i32::MAX), key in 0..100_usize, value in 0..100_000_usize
        ) {
            let mut records = Records::default();
            records.begin();
            records.push(index, delta, Some(&vec![1; key]), &vec![2; value]);
            prop_assert!(records.0.len() - 4 <= key + value + RECORD_OVERHEAD);
        }
    }

    #[test]
    fn times_at_both_ends_of_31_bits_are_as_the_official_encoder_writes_them() {
        for delta in [i64::from(i32::MIN), -1, 0, i64::from(i32::MAX)] {
            let records = vec![(None, b"a".to_vec(), 5_000_000_000), (None, b"b".to_vec(), 5_000_000_000 + delta)];
            assert_eq!(ours(&records, Compression::None), official(&records), "{delta}");
        }
    }
}
