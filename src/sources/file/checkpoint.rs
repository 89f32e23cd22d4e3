//! What is remembered of a file, and what is concluded from it: the part of the `file` source that needs no disk.
//!
//! A file is its (device, inode), not its name: a rename changes nothing. Because inodes are reused and files are
//! emptied in place, a checkpoint also has a fingerprint of the file's first bytes, as many as were read when it was
//! taken. From the two follows the [`Verdict`]:
//!
//! | size against offset | first bytes | so it is |
//! |---|---|---|
//! | not smaller | the same | the same file: go on |
//! | smaller | any | emptied in place (copytruncate): begin again |
//! | not smaller | different | another file, or emptied and already longer: begin again |
//!
//! What cannot be told: a file emptied and written again beyond the offset, with the same first 256 bytes, between two
//! looks.

use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_64;

use crate::framing::Skip;

/// Bytes that a fingerprint covers at most.
pub const PRINT_BYTES: usize = 256;

/// A file's identity while it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId {
    pub device: u64,
    pub inode: u64,
}

impl FileId {
    /// The state entry's key.
    pub fn to_key(self) -> [u8; 16] {
        let mut key = [0; 16];
        key[..8].copy_from_slice(&self.device.to_le_bytes());
        key[8..].copy_from_slice(&self.inode.to_le_bytes());
        key
    }

    pub fn from_key(key: &[u8]) -> Option<Self> {
        let (device, inode) = key.split_first_chunk::<8>()?;
        let inode: &[u8; 8] = inode.try_into().ok()?;
        Some(Self { device: u64::from_le_bytes(*device), inode: u64::from_le_bytes(*inode) })
    }
}

/// A hash of a file's first `len` bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Print {
    len: u16,
    hash: u64,
}

impl Print {
    /// Of the first bytes of a file of which `offset` bytes were read.
    pub fn of(head: &[u8], offset: u64) -> Self {
        let len = head.len().min(PRINT_BYTES).min(usize::try_from(offset).unwrap_or(usize::MAX));
        Self { len: len as u16, hash: XxHash3_64::oneshot(&head[..len]) }
    }

    /// Whether a file that begins with `head` can be the one. Nothing remembered fits everything.
    pub fn fits(self, head: &[u8]) -> bool {
        let len = usize::from(self.len);
        len == 0 || (head.len() >= len && XxHash3_64::oneshot(&head[..len]) == self.hash)
    }

    /// Whether a longer one can be taken after `offset` bytes were read.
    pub fn can_grow(self, offset: u64) -> bool {
        usize::from(self.len) < PRINT_BYTES && offset > u64::from(self.len)
    }
}

/// How far a file was read; durable with the lines before the offset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    pub offset: u64,
    pub print: Print,
    /// The rest of the line at `offset` belongs to one that was cut.
    pub skip_line: bool,
}

/// What a file is to its checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Same,
    BeginAgain,
}

impl Checkpoint {
    /// Judges a file by its size and first bytes (up to [`PRINT_BYTES`]).
    pub fn judge(&self, size: u64, head: &[u8]) -> Verdict {
        if size >= self.offset && self.print.fits(head) { Verdict::Same } else { Verdict::BeginAgain }
    }

    pub fn skip(&self) -> Skip {
        if self.skip_line { Skip::Line } else { Skip::Nothing }
    }

    /// The state entry's value.
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_allocvec(self).unwrap_or_default()
    }

    pub fn decode(bytes: &[u8]) -> Option<Self> {
        postcard::from_bytes(bytes).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn checkpoint(content: &[u8], offset: u64) -> Checkpoint {
        Checkpoint { offset, print: Print::of(content, offset), skip_line: false }
    }

    proptest! {
        #[test]
        fn a_file_that_only_grew_is_the_same(
            content in prop::collection::vec(any::<u8>(), 0..600), more in prop::collection::vec(any::<u8>(), 0..600), cut in 0.0..1.0
        ) {
            let offset = (content.len() as f64 * cut) as u64;
            let known = checkpoint(&content, offset);
            let grown = [content, more].concat();
            prop_assert_eq!(known.judge(grown.len() as u64, &grown[..grown.len().min(PRINT_BYTES)]), Verdict::Same);
        }

        #[test]
        fn checkpoints_come_back_from_their_state_entry(offset in any::<u64>(), skip_line in any::<bool>(), head in prop::collection::vec(any::<u8>(), 0..300)) {
            let known = Checkpoint { offset, print: Print::of(&head, offset), skip_line };
            prop_assert_eq!(Checkpoint::decode(&known.encode()), Some(known));
            prop_assert!(known.encode().len() <= 24);
        }

        #[test]
        fn arbitrary_state_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = (Checkpoint::decode(&bytes), FileId::from_key(&bytes));
        }
    }

    #[test]
    fn a_file_that_shrank_begins_again() {
        let known = checkpoint(b"one\ntwo\n", 8);
        assert_eq!(known.judge(4, b"one\n"), Verdict::BeginAgain);
    }

    #[test]
    fn another_file_on_the_same_inode_begins_again_even_when_it_is_longer() {
        let known = checkpoint(b"one\ntwo\n", 8);
        assert_eq!(known.judge(12, b"uno\ndos\ntres"), Verdict::BeginAgain);
        assert_eq!(known.judge(12, b"one\ntwo\ntres"), Verdict::Same);
    }

    #[test]
    fn identities_come_back_from_their_key() {
        let id = FileId { device: 0x1234_5678_9abc, inode: 42 };
        assert_eq!(FileId::from_key(&id.to_key()), Some(id));
        assert_eq!(FileId::from_key(b"seen"), None);
    }
}
