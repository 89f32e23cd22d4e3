//! What a module does wrong costs the record that it did it on, whether records run together or one by one.

use headwater::rules::wasm::{Failure, Limits, Module};
use proptest::prelude::*;

use super::{bytes_of, module, run, start, values};

/// Small, so that what never ends ends soon.
fn strict() -> Limits {
    Limits { fuel: 3_000_000, fuel_per_byte: 100, memory: 4 << 20, rebuild_above: 2 << 20, ..Limits::default() }
}

#[test]
fn a_record_that_breaks_a_module_costs_itself_and_no_other() {
    let expected = |failure: &Failure| match failure {
        Failure::Trap(text) if text.contains("unreachable") => "panic",
        Failure::Trap(text) if text.contains("stack") => "deep",
        Failure::Fuel(_) => "loop",
        Failure::Memory(_) => "hog",
        Failure::Reported(text) if text == "as asked" => "fail",
        _ => "?",
    };
    let limits = Limits { fuel: 100_000_000, ..strict() };
    for bad in ["panic", "loop", "hog", "deep", "fail"] {
        for batch in [1, 64] {
            let module = Module::compile(&bytes_of("misbehave"), Limits { batch, ..limits }).unwrap();
            let mut instance = module.start(&[], None).unwrap();
            let (out, result) = run(&mut instance, &["a", "b", bad, "c"]);
            assert_eq!(out.iter().map(|o| o.0).collect::<Vec<_>>(), [0, 1], "{bad}, batches of {batch}");
            let error = result.unwrap_err();
            assert_eq!((error.index, error.offset, expected(&error.failure)), (2, 102, bad), "{}", error);
            // Begun anew after it broke, and not after it said so: it counts what it has seen.
            let seen = if bad == "fail" { ["4", "5"] } else { ["1", "2"] };
            assert_eq!(values(&mut instance, &["c", "d"]), seen, "{bad}, batches of {batch}");
        }
    }
}

#[test]
fn a_stream_of_poison_is_an_error_each_and_nothing_else() {
    let module = Module::compile(&bytes_of("misbehave"), strict()).unwrap();
    let mut instance = module.start(&[], None).unwrap();
    let input: Vec<&str> = (0..40).map(|i| if i % 2 == 0 { "panic" } else { "loop" }).collect();
    let mut at = 0;
    while at < input.len() {
        let (out, result) = run(&mut instance, &input[at..]);
        assert_eq!((out.len(), result.unwrap_err().index), (0, 0));
        at += 1;
        assert!(instance.linear_memory() <= 4 << 20);
    }
}

#[test]
fn what_a_module_is_given_and_gives_does_not_pile_up_in_its_memory() {
    let mut instance = start("map_legacy", &[]);
    // Sizes around those of an allocator's bins, so that the buffer that doubles is never just full.
    let input: Vec<String> = (0..200).map(|i| "x".repeat(i * 37 % 3000)).collect();
    let input: Vec<&str> = input.iter().map(String::as_str).collect();
    for _ in 0..3 {
        values(&mut instance, &input);
    }
    let settled = instance.linear_memory();
    for _ in 0..30 {
        values(&mut instance, &input);
    }
    assert_eq!((instance.linear_memory(), instance.starts()), (settled, 1));
}

#[test]
fn a_module_that_leaks_begins_anew_before_it_has_too_much() {
    let module = Module::compile(&bytes_of("misbehave"), Limits { batch: 1, ..strict() }).unwrap();
    let mut instance = module.start(&[], None).unwrap();
    for _ in 0..100 {
        values(&mut instance, &["leak"]);
        assert!(instance.linear_memory() < 3 << 20);
    }
    assert!(instance.starts() > 5, "{}", instance.starts());
}

#[test]
fn a_huge_record_goes_through_and_gives_its_memory_back() {
    let mut instance = module("map_legacy").start(&[], None).unwrap();
    let huge = "x".repeat(500 * 1024);
    assert_eq!(values(&mut instance, &[&huge, "y"]), [huge.to_uppercase(), "Y".into()]);
    assert!(instance.linear_memory() < 6 << 20, "{}", instance.linear_memory());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Numbers mostly, so that errors are in the middle of batches.
    #[test]
    fn records_become_the_same_together_and_one_by_one(
        input in prop::collection::vec("[0-9]{1,3}|[0-9]{1,3}|[0-9]{1,3}|[0-9]{1,3}|[ab\n]{0,4}", 0..200)
    ) {
        for name in ["filter", "filter_map", "map_legacy", "aggregate", "array_map"] {
            let outcome = |batch: usize| {
                let module = Module::compile(&bytes_of(name), Limits { batch, ..Limits::default() }).unwrap();
                let mut instance = module.start(&[], None).unwrap();
                let input: Vec<&str> = input.iter().map(String::as_str).collect();
                let (mut at, mut all, mut errors) = (0, Vec::new(), Vec::new());
                while at < input.len() {
                    let (out, result) = run(&mut instance, &input[at..]);
                    all.extend(out.into_iter().map(|(i, key, value)| (at + i, key, value)));
                    let Err(error) = result else { break };
                    at += error.index + 1;
                    errors.push((at - 1, error.failure));
                }
                (all, errors, instance.accumulator().to_vec())
            };
            prop_assert_eq!(outcome(64), outcome(1), "{}", name);
        }
    }
}
