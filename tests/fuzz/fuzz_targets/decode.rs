//! See `play::decode`.

#![no_main]

#[path = "../ring/mod.rs"]
#[allow(dead_code, reason = "each target runs one of two")]
mod ring;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    ring::play::decode(data);
});
