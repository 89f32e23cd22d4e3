//! The fuzz targets without a fuzzer: every input of the committed corpus, and some thousands that are made here from a
//! seed, through the same functions. `scripts/fuzz.sh` lets cargo-fuzz look for more.

mod hostile;
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

#[test]
fn whatever_a_producer_sends_a_whole_batch_comes_back_and_none_unpacks_to_more_than_its_bound() {
    all("batch", hostile::batch::batch, 3000);
}

#[test]
fn a_bomb_of_any_codec_is_too_large_and_held_within_the_bound() {
    hostile::batch::bombs();
}

#[test]
fn whatever_a_client_asks_it_is_read_as_meant_or_refused_and_takes_a_few_times_its_bytes() {
    all("request", hostile::request::request, 3000);
}

#[test]
fn the_largest_frames_of_the_smallest_items_take_a_few_times_their_bytes() {
    hostile::request::crowds();
}

#[test]
fn whatever_an_upstream_answers_it_is_read_or_refused_within_the_bound() {
    all("answer", hostile::answer::answer, 3000);
}

#[test]
fn whatever_is_written_as_text_the_scanner_finds_what_serde_finds_and_nothing_panics() {
    all("text", hostile::text::text, 3000);
}

#[test]
fn whatever_is_written_as_a_query_compiles_or_is_refused_in_its_place_and_comes_to_the_same_twice() {
    all("sql", hostile::sql::sql, 3000);
}

#[test]
fn whatever_a_device_writes_is_parsed_to_sound_json_or_refused() {
    all("parse", hostile::parse::parse, 3000);
}

#[test]
fn whatever_specs_and_values_say_bundled_rules_make_json_or_refuse_within_their_memory() {
    all("bundled", hostile::bundled::bundled, 3000);
}

#[test]
fn whatever_a_module_is_or_says_it_is_refused_or_runs_within_its_fuel_and_memory() {
    all("wasm", hostile::wasm::wasm, 3000);
}
