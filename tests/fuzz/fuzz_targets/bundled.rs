//! See `hostile::bundled`.

#![no_main]

#[path = "../hostile/mod.rs"]
#[allow(dead_code, reason = "each target runs one of eight")]
mod hostile;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    hostile::bundled::bundled(data);
});
