//! Which partition a record goes to.
//!
//! Over all n of a topic ([`Spread::Records`]):
//!
//! With a key: SipHash-2-4 of the key modulo n, as the official client does, so that a key stays where other producers
//! put it. Without: (seq / 512) mod n, a pure function of the record, so that a record that is read again is looked for
//! where it was sent, in runs long enough to fill batches.
//!
//! Or all to one: the node's own by the hash of its id, modulo n ([`Spread::Node`]), or the one that is named. A topic of many
//! nodes then has partitions of few writers, where the newest batch of one's own is near the end.
//!
//! What is stored of a topic is a [`Placement`]: n, or the one partition that it came to. It changes only above everything
//! that was ever sent, whether the topic grew or the configuration says otherwise.

use serde::{Deserialize, Serialize};

/// How a sink's records are put into a topic's partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    /// By key, else by seq.
    Records,
    /// All to one, by the hash of the node's id (see [`Spread::of_node`]).
    Node(u64),
    /// All to this one.
    One(u32),
}

impl Spread {
    pub fn of_node(id: &str) -> Self {
        Self::Node(siphash24(id.as_bytes()))
    }

    /// Of a topic with `n` partitions; None where it has not the one that is named.
    pub(super) fn over(self, n: u32) -> Option<Placement> {
        match self {
            _ if n == 0 => None,
            Self::Records => Some(Placement(n)),
            Self::Node(hash) => Some(Placement(ONE | (hash % u64::from(n)) as u32)),
            Self::One(partition) => (partition < n).then_some(Placement(ONE | partition)),
        }
    }
}

/// A number of partitions; with [`ONE`], the one partition. 0: nothing is known yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Placement(pub u32);

const ONE: u32 = 1 << 31;

impl Placement {
    pub fn is_known(self) -> bool {
        self.0 > 0
    }

    pub fn of(self, key: Option<&[u8]>, seq: u64) -> u32 {
        if self.0 & ONE != 0 { self.0 & !ONE } else { partition(key, seq, self.0) }
    }
}

/// Records without a key that stay together.
const RUN: u64 = 512;

fn partition(key: Option<&[u8]>, seq: u64, n: u32) -> u32 {
    if n <= 1 {
        return 0;
    }
    let number = key.map_or(seq / RUN, siphash24);
    (number % u64::from(n)) as u32
}

/// SipHash-2-4 with a zero key. Source: Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012.
/// (`std`'s hasher of this kind is deprecated and its default one is SipHash-1-3.)
/// The client hashes a slice the way `Hash` does: its length as a u64, then its bytes.
fn siphash24(key: &[u8]) -> u64 {
    let mut v = [0x736f_6d65_7073_6575_u64, 0x646f_7261_6e64_6f6d, 0x6c79_6765_6e65_7261, 0x7465_6462_7974_6573];
    absorb(&mut v, key.len() as u64);
    let (words, tail) = key.as_chunks::<8>();
    for word in words {
        absorb(&mut v, u64::from_le_bytes(*word));
    }
    let mut last = [0; 8];
    last[..tail.len()].copy_from_slice(tail);
    last[7] = (8 + key.len()) as u8;
    absorb(&mut v, u64::from_le_bytes(last));
    v[2] ^= 0xff;
    for _ in 0..4 {
        round(&mut v);
    }
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

fn absorb(v: &mut [u64; 4], m: u64) {
    v[3] ^= m;
    round(v);
    round(v);
    v[0] ^= m;
}

fn round(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[2] = v[2].wrapping_add(v[3]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[0] = v[0].rotate_left(32);
    v[2] = v[2].wrapping_add(v[1]);
    v[0] = v[0].wrapping_add(v[3]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].rotate_left(32);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As it does where an address has 64 bits, on every machine: a slice begins with its length, as wide as an address.
    #[test]
    #[allow(deprecated)]
    fn keys_hash_as_the_official_client_hashes_them() {
        use std::hash::{Hash, Hasher};
        for len in 0..40_u8 {
            let key: Vec<u8> = (0..len).collect();
            let mut official = std::hash::SipHasher::new();
            if cfg!(target_pointer_width = "64") {
                key.as_slice().hash(&mut official);
            } else {
                official.write(&u64::from(len).to_le_bytes());
                official.write(&key);
            }
            assert_eq!(siphash24(&key), official.finish(), "{len} bytes");
        }
    }

    #[test]
    fn all_of_a_node_goes_to_one_partition_that_the_topic_has() {
        for n in 1..40 {
            let of = |id: &str| Spread::of_node(id).over(n).unwrap();
            let press = of("press-7");
            assert!(press.of(None, 5) < n);
            assert!((0..5000).all(|seq| press.of(Some(&[seq as u8]), seq) == press.of(None, 0)));
            let others = (0..500).map(|i| of(&format!("press-{i}")).of(None, 0));
            let used: std::collections::BTreeSet<_> = others.collect();
            assert_eq!(used.len() as u32, n, "500 nodes leave none of {n} empty");
        }
        assert_eq!(Spread::One(3).over(4).map(|p| p.of(Some(b"k"), 9)), Some(3));
        assert_eq!((Spread::One(4).over(4), Spread::Records.over(0), Spread::of_node("x").over(0)), (None, None, None));
    }

    #[test]
    fn a_placement_is_stored_as_the_number_of_partitions_was() {
        let stored = |placement: &Placement| postcard::to_allocvec(placement).unwrap();
        assert_eq!(stored(&Placement(6)), postcard::to_allocvec(&6u32).unwrap());
        let one = Spread::One(3).over(4).unwrap();
        assert_eq!(postcard::from_bytes::<Placement>(&stored(&one)).unwrap(), one);
    }

    #[test]
    fn records_without_a_key_stay_together_in_runs() {
        assert_eq!(partition(None, 511, 3), 0);
        assert_eq!(partition(None, 512, 3), 1);
        assert_eq!(partition(None, 3 * 512, 3), 0);
        assert_eq!(partition(Some(b"k"), 9, 1), 0);
    }
}
