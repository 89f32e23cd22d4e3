//! Which partition a record goes to.
//!
//! With a key: SipHash-2-4 of the key modulo n, as the official client does, so that a key stays where other producers
//! put it. Without: (seq / 512) mod n, a pure function of the record, so that a record that is read again is looked for
//! where it was sent, in runs long enough to fill batches.

/// Records without a key that stay together.
const RUN: u64 = 512;

pub(super) fn partition(key: Option<&[u8]>, seq: u64, n: u32) -> u32 {
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

    #[test]
    #[allow(deprecated)]
    fn keys_hash_as_the_official_client_hashes_them() {
        use std::hash::{Hash, Hasher};
        for len in 0..40_u8 {
            let key: Vec<u8> = (0..len).collect();
            let mut official = std::hash::SipHasher::new();
            key.as_slice().hash(&mut official);
            assert_eq!(siphash24(&key), official.finish(), "{len} bytes");
        }
    }

    #[test]
    fn records_without_a_key_stay_together_in_runs() {
        assert_eq!(partition(None, 511, 3), 0);
        assert_eq!(partition(None, 512, 3), 1);
        assert_eq!(partition(None, 3 * 512, 3), 0);
        assert_eq!(partition(Some(b"k"), 9, 1), 0);
    }
}
