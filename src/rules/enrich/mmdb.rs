//! Reading a MaxMind DB: what a file knows about an address.
//!
//! The format (MaxMind DB File Format Specification 2.0), the part that is read:
//!
//! ```text
//! file     = search tree, 16 zero bytes, data section, marker "\xab\xcd\xefMaxMind.com", metadata
//! tree     = node_count nodes of two records, each record_size bits (24, 28 or 32), big-endian; the address's bits lead
//!            from node 0, the highest first: 0 takes the left record, 1 the right one
//! record   < node_count: the next node; = node_count: nothing known; > node_count: data at record - node_count - 16
//! value    = control byte (3 bits type, 5 bits size), more type, more size, payload; type 1 points into the data section
//! ```
//!
//! An IPv4 address in a tree for IPv6 stands below 96 zero bits. The reader of crates.io is 95 KB of code and has parts that
//! the compiler cannot vouch for; looking one value up is this file. Nothing in the file is trusted: each read is checked,
//! what is stepped over is counted, nothing is allocated, and where the bytes make no sense the answer is [`Damaged`].

use std::fmt;
use std::sync::Arc;

use core::net::IpAddr;

const MARKER: &[u8] = b"\xab\xcd\xefMaxMind.com";
/// The metadata stands at most so far from the end.
const METADATA_BYTES: usize = 128 * 1024;
/// Zero bytes between the tree and the data.
const SEPARATOR: usize = 16;
/// Values that one look-up steps over.
const MAX_STEPS: usize = 65_536;
/// The largest file: a database of the world's cities has 60 MB, which is for gateways that have the memory.
pub const MAX_FILE: usize = 256 * 1024 * 1024;

const POINTER: u8 = 1;
const TEXT: u8 = 2;
const DOUBLE: u8 = 3;
const UINT16: u8 = 5;
const UINT32: u8 = 6;
const MAP: u8 = 7;
const INT32: u8 = 8;
const UINT64: u8 = 9;
const UINT128: u8 = 10;
const ARRAY: u8 = 11;
const BOOL: u8 = 14;
const FLOAT: u8 = 15;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DatabaseError {
    #[error("not a MaxMind DB: it has no metadata at its end")]
    NotOne,
    #[error("the database is of a version, record size or IP version that is not known here")]
    Unknown,
    #[error("the database is damaged: {0}")]
    Damaged(&'static str),
    #[error("the database is larger than {} MiB", MAX_FILE / 1024 / 1024)]
    TooLarge,
}

/// The bytes make no sense where a look-up led.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damaged;

#[derive(Clone)]
pub struct Database {
    bytes: Arc<[u8]>,
    nodes: u32,
    record_bits: u32,
    v6: bool,
    /// Where the data section begins and ends.
    data: (usize, usize),
    /// The node that IPv4 addresses begin at; beyond `nodes` as a record is.
    v4: u32,
}

impl PartialEq for Database {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Database {{ {} bytes, {} nodes }}", self.bytes.len(), self.nodes)
    }
}

/// A value that is not made of others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Datum<'d> {
    Text(&'d str),
    Unsigned(u128),
    Signed(i32),
    Float(f64),
    Bool(bool),
}

impl Database {
    pub fn open(bytes: Arc<[u8]>) -> Result<Self, DatabaseError> {
        if bytes.len() > MAX_FILE {
            return Err(DatabaseError::TooLarge);
        }
        let tail = bytes.len().saturating_sub(METADATA_BYTES);
        let marker = memchr::memmem::rfind(&bytes[tail..], MARKER).ok_or(DatabaseError::NotOne)? + tail;
        let metadata = Section(&bytes[marker + MARKER.len()..]);
        let number = |name: &str| match metadata.find(0, &[name]) {
            Ok(Some(Datum::Unsigned(n))) => u32::try_from(n).map_err(|_| DatabaseError::Unknown),
            _ => Err(DatabaseError::Damaged("its metadata lacks a number")),
        };
        let (nodes, record_bits) = (number("node_count")?, number("record_size")?);
        let (version, ip) = (number("binary_format_major_version")?, number("ip_version")?);
        if version != 2 || !matches!(record_bits, 24 | 28 | 32) || !matches!(ip, 4 | 6) {
            return Err(DatabaseError::Unknown);
        }
        let tree = u64::from(nodes) * u64::from(record_bits / 4) + SEPARATOR as u64;
        let begin = usize::try_from(tree).ok().filter(|begin| *begin <= marker);
        let begin = begin.ok_or(DatabaseError::Damaged("its tree reaches beyond its data"))?;
        let mut database = Self { nodes, record_bits, v6: ip == 6, data: (begin, marker), v4: 0, bytes };
        if database.v6 {
            let start = database.walk(0, 0, 96).map_err(|_| DatabaseError::Damaged("its tree"))?;
            database.v4 = start;
        }
        Ok(database)
    }

    /// Where the data about an address begins; None: nothing is known.
    pub fn find(&self, address: IpAddr) -> Result<Option<usize>, Damaged> {
        let record = match address.to_canonical() {
            IpAddr::V4(ip) => self.walk(self.v4, u128::from(ip.to_bits()) << 96, 32)?,
            IpAddr::V6(ip) if self.v6 => self.walk(0, ip.to_bits(), 128)?,
            IpAddr::V6(_) => return Ok(None),
        };
        match record.checked_sub(self.nodes) {
            // The bits are at an end and the tree is not.
            None => Err(Damaged),
            Some(0) => Ok(None),
            Some(data) => (data as usize).checked_sub(SEPARATOR).map(Some).ok_or(Damaged),
        }
    }

    /// The value at a path within the data that begins at `data`.
    pub fn datum(&self, data: usize, path: &[&str]) -> Result<Option<Datum<'_>>, Damaged> {
        Section(&self.bytes[self.data.0..self.data.1]).find(data, path)
    }

    /// Follows the first `count` bits of `bits` from a node, until they lead out of the tree.
    fn walk(&self, from: u32, bits: u128, count: u32) -> Result<u32, Damaged> {
        let mut record = from;
        for i in 0..count {
            if record >= self.nodes {
                break;
            }
            record = self.record(record, bits >> (127 - i) & 1 == 1).ok_or(Damaged)?;
        }
        Ok(record)
    }

    fn record(&self, node: u32, right: bool) -> Option<u32> {
        let size = self.record_bits as usize / 4;
        let begin = (node as usize).checked_mul(size)?;
        let node = self.bytes.get(begin..begin + size)?;
        let big = |bytes: &[u8]| bytes.iter().fold(0u32, |n, b| n << 8 | u32::from(*b));
        Some(match (self.record_bits, right) {
            (28, false) => u32::from(node[3] >> 4) << 24 | big(&node[..3]),
            (28, true) => u32::from(node[3] & 15) << 24 | big(&node[4..]),
            (_, false) => big(&node[..size / 2]),
            (_, true) => big(&node[size / 2..]),
        })
    }
}

/// A part of the file that values stand in and point into.
struct Section<'d>(&'d [u8]);

/// A value's head: its type, its size and where its payload begins.
#[derive(Clone, Copy)]
struct Head {
    kind: u8,
    size: usize,
    at: usize,
}

impl<'d> Section<'d> {
    fn find(&self, at: usize, path: &[&str]) -> Result<Option<Datum<'d>>, Damaged> {
        let mut head = self.follow(at)?;
        let mut steps = 0;
        for name in path {
            let next = match head.kind {
                MAP => self.member(head, name, &mut steps)?,
                ARRAY => self.element(head, name, &mut steps)?,
                _ => None,
            };
            let Some(next) = next else { return Ok(None) };
            head = self.follow(next)?;
        }
        self.datum(head)
    }

    fn bytes(&self, at: usize, count: usize) -> Result<&'d [u8], Damaged> {
        at.checked_add(count).and_then(|end| self.0.get(at..end)).ok_or(Damaged)
    }

    fn big(&self, at: usize, count: usize) -> Result<u128, Damaged> {
        Ok(self.bytes(at, count)?.iter().fold(0, |n, b| n << 8 | u128::from(*b)))
    }

    /// The head at `at`. A pointer's payload is where it points to, its size is zero.
    fn head(&self, at: usize) -> Result<Head, Damaged> {
        let control = self.bytes(at, 1)?[0];
        let (mut kind, mut at) = (control >> 5, at + 1);
        if kind == POINTER {
            let length = usize::from(control >> 3 & 3);
            let value = self.big(at, length + 1)? as usize;
            let high = usize::from(control & 7) << (8 * (length + 1)).min(24);
            let target = match length {
                0 => high | value,
                1 => (high | value) + 2048,
                2 => (high | value) + 526_336,
                _ => value,
            };
            return Ok(Head { kind, size: at + length + 1, at: target });
        }
        if kind == 0 {
            kind = self.bytes(at, 1)?[0].checked_add(7).ok_or(Damaged)?;
            at += 1;
        }
        let small = usize::from(control & 31);
        let more = small.saturating_sub(28);
        let size = match more {
            0 => small,
            1 => 29 + self.big(at, 1)? as usize,
            2 => 285 + self.big(at, 2)? as usize,
            _ => 65_821 + self.big(at, 3)? as usize,
        };
        Ok(Head { kind, size, at: at + more })
    }

    /// The head at `at`, or of what a pointer there points to; that must not be a pointer again.
    fn follow(&self, at: usize) -> Result<Head, Damaged> {
        let head = self.head(at)?;
        if head.kind != POINTER {
            return Ok(head);
        }
        Some(self.head(head.at)?).filter(|target| target.kind != POINTER).ok_or(Damaged)
    }

    fn member(&self, map: Head, name: &str, steps: &mut usize) -> Result<Option<usize>, Damaged> {
        let mut at = map.at;
        for _ in 0..map.size {
            let key = self.follow(at)?;
            if key.kind != TEXT {
                return Err(Damaged);
            }
            let matches = self.bytes(key.at, key.size)? == name.as_bytes();
            at = self.skip(at, steps)?;
            if matches {
                return Ok(Some(at));
            }
            at = self.skip(at, steps)?;
        }
        Ok(None)
    }

    fn element(&self, array: Head, name: &str, steps: &mut usize) -> Result<Option<usize>, Damaged> {
        let Some(index) = name.parse::<usize>().ok().filter(|i| *i < array.size) else { return Ok(None) };
        let mut at = array.at;
        for _ in 0..index {
            at = self.skip(at, steps)?;
        }
        Ok(Some(at))
    }

    /// Where the value after the one at `at` begins. Containers are not descended into but unrolled, so that nothing is
    /// as deep as the file says.
    fn skip(&self, mut at: usize, steps: &mut usize) -> Result<usize, Damaged> {
        let mut left = 1usize;
        while left > 0 {
            *steps += 1;
            if *steps > MAX_STEPS {
                return Err(Damaged);
            }
            let head = self.head(at)?;
            left -= 1;
            at = match head.kind {
                POINTER => head.size,
                MAP => {
                    left = left.saturating_add(2 * head.size);
                    head.at
                }
                ARRAY => {
                    left = left.saturating_add(head.size);
                    head.at
                }
                BOOL => head.at,
                _ => head.at.checked_add(head.size).ok_or(Damaged)?,
            };
        }
        Ok(at)
    }

    fn datum(&self, head: Head) -> Result<Option<Datum<'d>>, Damaged> {
        let Head { kind, size, at } = head;
        let most = match kind {
            UINT16 => 2,
            UINT32 | INT32 => 4,
            UINT64 => 8,
            UINT128 => 16,
            _ => usize::MAX,
        };
        if size > most {
            return Err(Damaged);
        }
        Ok(Some(match kind {
            TEXT => Datum::Text(std::str::from_utf8(self.bytes(at, size)?).map_err(|_| Damaged)?),
            UINT16 | UINT32 | UINT64 | UINT128 => Datum::Unsigned(self.big(at, size)?),
            INT32 => Datum::Signed(self.big(at, size)? as u32 as i32),
            DOUBLE if size == 8 => Datum::Float(f64::from_bits(self.big(at, 8)? as u64)),
            FLOAT if size == 4 => Datum::Float(f64::from(f32::from_bits(self.big(at, 4)? as u32))),
            BOOL => Datum::Bool(size != 0),
            DOUBLE | FLOAT => return Err(Damaged),
            _ => return Ok(None),
        }))
    }
}

#[cfg(test)]
pub(super) mod tests;
