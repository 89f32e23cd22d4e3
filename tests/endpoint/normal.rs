//! Answers made comparable: copied field by field by a description of the wire of its own, with exactly these replaced:
//!
//! - **ids and names**: the SPU's id, name and addresses, the platform's version
//! - **offsets in metadata**: high watermark, log end, size and base of a partition's status, which a real SC reports
//!   with a delay; the epoch of an update
//! - **times**: when a consumer offset was changed; the newest time in a batch header (real clients write when they
//!   sent it, not the records' own)
//! - the order of a list (a real SC's is a hash map's), and its key 1005, mirroring, which a node does not offer
//! - **batches**: a real SPU serves the bytes it was sent; a node serves records, uncompressed, and may serve records
//!   without a producer's number in other cuts. So batches are compared as records with offset, time, key and value,
//!   under their header's numbers wherever there is a producer id.

use fluvio_protocol::Decoder;
use fluvio_protocol::record::{Batch, RawRecords};

/// Copies bytes from an answer, some of them blanked.
pub struct Normal<'a> {
    rest: &'a [u8],
    pub out: Vec<u8>,
}

/// One change of a watch: update (0) or delete (1), the object's name, the object.
pub type Change = (u8, String, Vec<u8>);

impl<'a> Normal<'a> {
    pub fn new(rest: &'a [u8]) -> Self {
        Self { rest, out: Vec::new() }
    }

    fn take(&mut self, n: usize) -> &'a [u8] {
        assert!(self.rest.len() >= n, "an answer ends early: {} of {n} bytes left", self.rest.len());
        let (taken, rest) = self.rest.split_at(n);
        self.rest = rest;
        taken
    }

    fn keep(&mut self, n: usize) -> &'a [u8] {
        let taken = self.take(n);
        self.out.extend_from_slice(taken);
        taken
    }

    fn blank(&mut self, n: usize) {
        self.take(n);
        self.out.extend(std::iter::repeat_n(0, n));
    }

    fn str(&mut self) -> &'a str {
        let len = u16::from_be_bytes(self.take(2).try_into().unwrap());
        std::str::from_utf8(self.take(usize::from(len))).expect("UTF-8")
    }

    fn keep_str(&mut self) -> &'a str {
        let text = self.str();
        self.out.extend_from_slice(text.as_bytes());
        self.out.push(b'\n');
        text
    }

    fn blank_str(&mut self) {
        self.str();
        self.out.extend_from_slice(b"_\n");
    }

    fn count(&mut self) -> usize {
        u32::from_be_bytes(self.keep(4).try_into().unwrap()) as usize
    }

    fn flag(&mut self) -> bool {
        self.keep(1)[0] == 1
    }

    pub fn end(self) -> Vec<u8> {
        assert!(self.rest.is_empty(), "{} bytes left over", self.rest.len());
        self.out
    }

    // ---- either port ----

    pub fn versions(&mut self) {
        self.keep(2);
        for _ in 0..u32::from_be_bytes(self.take(4).try_into().unwrap()) {
            let key = self.take(6);
            if key[..2] != 1005u16.to_be_bytes() || key[4..] == [0, 0] {
                self.out.extend_from_slice(key);
            }
        }
        self.blank_str();
    }

    // ---- SC ----

    pub fn list(&mut self) {
        let label = self.keep_str();
        self.take(4);
        self.objects(label);
    }

    /// The whole list of a watch's first answer; or later changes.
    pub fn watch(&mut self) -> Result<(), Vec<Change>> {
        let label = self.keep_str();
        self.take(4);
        self.blank(8); // epoch
        let changes = u32::from_be_bytes(self.take(4).try_into().unwrap());
        let changes = (0..changes)
            .map(|_| {
                let header = self.take(1)[0];
                let (name, object) = self.object(label);
                (header, name, object)
            })
            .collect::<Vec<_>>();
        self.objects(label);
        if changes.is_empty() { Ok(()) } else { Err(changes) }
    }

    fn objects(&mut self, label: &str) {
        let count = self.count();
        let mut objects: Vec<_> = (0..count).map(|_| self.object(label)).collect();
        objects.sort();
        for (_, object) in objects {
            self.out.extend_from_slice(&object);
        }
    }

    fn object(&mut self, label: &str) -> (String, Vec<u8>) {
        let outer = std::mem::take(&mut self.out);
        let name = match label {
            "Topic" => self.topic(),
            "Partition" => self.partition(),
            "SPU" => self.spu(),
            other => panic!("object type {other}"),
        };
        (name, std::mem::replace(&mut self.out, outer))
    }

    fn topic(&mut self) -> String {
        let name = self.keep_str().to_owned();
        assert_eq!(self.keep(1), [1], "computed replicas");
        self.keep(9);
        self.storage();
        self.keep(3); // compression, deduplication (none), system
        self.keep(1); // resolution
        for _ in 0..u16::from_be_bytes(self.keep(2).try_into().unwrap()) {
            self.keep(4);
            self.spu_ids();
        }
        assert_eq!(self.keep(2), [0, 0], "mirrors");
        self.keep_str(); // reason
        name
    }

    fn partition(&mut self) -> String {
        let name = self.keep_str().to_owned();
        self.blank(4); // leader
        self.spu_ids();
        self.storage();
        self.keep(4); // compression, deduplication (none), system, mirror (none)
        self.keep(1); // resolution
        self.blank(4 + 8 + 8); // leader's id, high watermark, log end
        self.keep(4);
        assert_eq!(self.count(), 0, "followers");
        self.blank(8); // size
        self.keep(1);
        self.blank(8); // base offset
        name
    }

    fn spu(&mut self) -> String {
        self.blank_str();
        self.blank(4); // id
        self.keep(1); // custom
        self.blank(2); // port
        for _ in 0..self.count() {
            for _ in 0..2 {
                if self.flag() {
                    self.blank_str();
                }
            }
        }
        self.keep(1); // encryption
        self.blank(2); // private port
        self.blank_str();
        self.keep(1 + 1 + 1); // encryption, rack (none), local endpoint (none)
        self.keep(1); // online
        String::new()
    }

    fn spu_ids(&mut self) {
        for _ in 0..self.count() {
            self.blank(4);
        }
    }

    fn storage(&mut self) {
        if self.flag() {
            self.keep(5); // retention
        }
        if self.flag() {
            for len in [4, 8] {
                if self.flag() {
                    self.keep(len);
                }
            }
        }
    }

    // ---- SPU ----

    pub fn consumers(&mut self) {
        self.keep(2);
        for _ in 0..self.count() {
            self.keep_str();
            self.keep_str();
            self.keep(4 + 8);
            self.blank(8); // modified
        }
    }

    pub fn stream(&mut self) {
        self.keep_str();
        self.keep(4); // stream id
        self.partition_records(false);
    }

    /// `cut`: the records are a slice cut anywhere, and the log end is not compared.
    pub fn fetch(&mut self, cut: bool) {
        self.keep(4 + 2 + 4);
        for _ in 0..self.count() {
            self.keep_str();
            for _ in 0..self.count() {
                self.partition_records(cut);
            }
        }
    }

    fn partition_records(&mut self, cut: bool) {
        self.keep(4);
        if self.keep(2) == [0, 2] {
            self.keep_str(); // an error that is told in words
        }
        if cut {
            self.blank(8);
        } else {
            self.keep(8);
        }
        self.keep(8 + 8); // next filter offset, log start
        assert!(!self.flag(), "aborted transactions");
        let len = u32::from_be_bytes(self.take(4).try_into().unwrap()) as usize;
        let set = self.take(len);
        if cut { self.cut_batch(set) } else { self.batches(set) }
    }

    fn cut_batch(&mut self, set: &[u8]) {
        let mut set = set.to_vec();
        set[17..21].fill(0); // checksum, which has the times under it
        set[27..43].fill(0); // times
        self.out.extend_from_slice(&set);
    }

    fn batches(&mut self, mut set: &[u8]) {
        let mut marked = true;
        while !set.is_empty() {
            let batch = Batch::<RawRecords>::decode_from(&mut set, 25).expect("a whole batch");
            let records = batch.memory_records().expect("records that decompress");
            assert_eq!(records.len() as i32, batch.header.last_offset_delta + 1, "dense");
            let mut header = batch.header.clone();
            (header.crc, header.max_time_stamp, header.first_timestamp, header.last_offset_delta) = (0, 0, 0, 0);
            header.attributes &= !7; // compression
            if marked || header.producer_id != -1 {
                self.out.extend(format!("batch at {} of {header:?}\n", batch.base_offset).into_bytes());
            }
            marked = header.producer_id != -1;
            for (i, record) in records.iter().enumerate() {
                assert_eq!(record.preamble.offset_delta(), i as i64, "dense");
                let offset = batch.base_offset + i as i64;
                let time = batch.header.first_timestamp + record.timestamp_delta();
                self.out.extend(format!("{offset} {time} {:?} {:?}\n", record.key, record.value).into_bytes());
            }
        }
    }
}
