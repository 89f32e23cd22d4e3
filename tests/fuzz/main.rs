//! The fuzz targets without a fuzzer: every input of the committed corpus, and some thousands that are made here from a
//! seed, through the same functions. `scripts/fuzz.sh` lets cargo-fuzz look for more.

mod ring;

use std::path::Path;

use headwater::backoff::Rng;

fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target);
    let entries = std::fs::read_dir(&dir).expect("a corpus").map(|entry| entry.unwrap().path());
    let mut inputs: Vec<_> = entries.map(|path| (path.display().to_string(), std::fs::read(path).unwrap())).collect();
    inputs.sort();
    assert!(!inputs.is_empty(), "{} is empty", dir.display());
    inputs
}

/// Runs one input in words: which one it was, if it fails.
fn run(what: &str, input: &[u8], target: fn(&[u8])) {
    if let Err(panic) = std::panic::catch_unwind(|| target(input)) {
        eprintln!("the input that fails is {what}: {input:?}");
        std::panic::resume_unwind(panic);
    }
}

fn all(target: &str, function: fn(&[u8]), random: u64) {
    for (name, input) in corpus(target) {
        run(&name, &input, function);
    }
    for seed in 0..random {
        let mut rng = Rng::new(seed);
        let len = rng.next_u64() % 96;
        let input: Vec<u8> = (0..len).map(|_| rng.next_u64() as u8).collect();
        run(&format!("of seed {seed}"), &input, function);
    }
}

#[test]
fn whatever_a_page_says_it_is_read_without_a_panic_and_never_believed_without_its_checksum() {
    all("decode", ring::play::decode, 300);
}

#[test]
fn whatever_a_directory_holds_a_ring_comes_out_of_it_and_keeps_what_it_is_given_then() {
    all("recover", ring::play::recover, 300);
}

#[test]
fn the_harness_knows_the_format_sealing_an_image_again_changes_no_byte() {
    ring::image::assert_seals();
}
