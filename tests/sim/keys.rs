//! Encrypted worlds: one in four. The key of a process is the one of the process before, mostly; else another, or none. All
//! keys that there were can be read.

use std::sync::atomic::{AtomicU64, Ordering};

use headwater::backoff::Rng;
use headwater::ring::{Key, Keys};

/// Of a world of this seed, in its so manieth process.
pub fn keys(seed: u64, process: u64) -> Keys {
    if seed % 4 != 3 {
        return Keys::default();
    }
    let mut rng = Rng::new(seed ^ process << 40 ^ 0x6b65_7973);
    let [one, other] = [1, 2].map(|n| Key::new([n; 32]));
    let drawn = AtomicU64::new(rng.next_u64());
    let nonces = move || {
        let mut rng = Rng::new(drawn.fetch_add(1, Ordering::Relaxed));
        let mut nonce = [0; 24];
        nonce.chunks_exact_mut(8).for_each(|word| word.copy_from_slice(&rng.next_u64().to_le_bytes()));
        nonce
    };
    match rng.below(8) {
        0 => Keys::reading(vec![one, other]),
        1 => Keys::writing(other, vec![one], Box::new(nonces)),
        _ => Keys::writing(one, vec![other], Box::new(nonces)),
    }
}
