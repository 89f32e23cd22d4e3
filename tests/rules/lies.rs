//! Guests that lie: about where their output is, how long, how many records, which they stem from. Each lie is an error;
//! nothing of a lying call is emitted, and the host is as it was.

use headwater::codec::batch::Packed;
use headwater::record::RecordRef;
use headwater::rules::wasm::{Base, Failure, Instance, Limits, LoadError, Module, StartError};
use proptest::prelude::*;

use super::guest::{DATA, Guest, constant, endless, grows, saying, traps};
use super::{bytes_of, run, run_records};

const KINDS: [&str; 5] = ["filter", "map", "filter_map", "array_map", "aggregate"];

fn limits() -> Limits {
    Limits { fuel: 100_000, fuel_per_byte: 0, start_fuel: 1_000_000, memory: 1 << 20, ..Limits::default() }
}

fn load(guest: &Guest) -> Result<Module, LoadError> {
    Module::compile(&guest.assemble(), limits())
}

fn begin(guest: &Guest) -> Instance {
    load(guest).unwrap().start(&[], None).unwrap()
}

/// An output as the ABI has it.
fn output(records: &[Packed<'_>], error_at: Option<i64>, accumulator: Option<&[u8]>) -> Vec<u8> {
    let mut out = (records.len() as i32).to_be_bytes().to_vec();
    records.iter().for_each(|record| record.put(&mut out));
    match error_at {
        None => out.push(0),
        Some(offset) => {
            out.extend([1, 0, 3]);
            out.extend(b"why");
            out.extend(offset.to_be_bytes());
            // Kind, no key, an empty value.
            out.extend([0, 0, 0]);
        }
    }
    if let Some(accumulator) = accumulator {
        out.extend((accumulator.len() as i32).to_be_bytes());
        out.extend(accumulator);
    }
    out
}

fn packed(offset_delta: i64) -> Packed<'static> {
    Packed { time_delta: 0, offset_delta, key: None, value: b"v" }
}

/// What one record fails with.
fn failure(guest: &Guest) -> Failure {
    let mut instance = begin(guest);
    let (out, result) = run(&mut instance, &["a"]);
    assert!(out.is_empty());
    let error = result.unwrap_err();
    assert_eq!((error.index, error.offset), (0, 100));
    // And again: it began anew.
    assert_eq!(run(&mut instance, &["a"]).1.unwrap_err(), error);
    error.failure
}

#[test]
fn an_output_that_is_not_there_is_an_error() {
    let of = |says: &[(i32, i32)]| failure(&Guest { says: says.to_vec(), ..Guest::default() });
    assert_eq!(of(&[]), Failure::Output("it did not call `copy_records`"));
    let outside = Failure::Output("it lies outside of its memory");
    for place in [(65_535, 5), (65_536, 1), (-1, 1), (i32::MIN, 5), (-4, 16)] {
        assert_eq!(of(&[place]), outside, "{place:?}");
    }
    for len in [-1, i32::MIN, i32::MAX, 100 << 20] {
        assert_eq!(of(&[(DATA, len)]), Failure::Output("it is larger than the limit"), "{len}");
    }
    // The last one counts.
    let (out, result) = run(&mut begin(&Guest { says: vec![(-1, -1), (DATA, 5)], ..Guest::default() }), &["a"]);
    assert_eq!((out.len(), result), (0, Ok(())));
}

#[test]
fn an_output_with_another_count_or_bytes_left_over_is_an_error() {
    let one = output(&[packed(0)], None, None);
    let count = Failure::Output("another count than it returned");
    for status in [0, 2, i32::MAX] {
        assert_eq!(failure(&Guest::giving("filter", &one, status)), count);
    }
    let longer = [one.as_slice(), &[0]].concat();
    assert_eq!(failure(&Guest::giving("filter", &longer, 1)), Failure::Output("output"));
    let two = output(&[packed(0), packed(0)], None, None);
    let as_many = Failure::Output("not as many records as there were");
    for kind in ["filter", "map", "filter_map"] {
        assert_eq!(failure(&Guest::giving(kind, &two, 2)), as_many, "{kind}");
    }
    assert_eq!(failure(&Guest::giving("map", &output(&[], None, None), 0)), as_many);
    let (out, result) = run(&mut begin(&Guest::giving("array_map", &two, 2)), &["a"]);
    assert_eq!((out.len(), result), (2, Ok(())));
}

#[test]
fn a_negative_status_is_told_in_words() {
    let text = |status| failure(&Guest { status, ..Guest::default() }).to_string();
    assert!(text(-22).contains("could not decode the records"), "{}", text(-22));
    assert!(text(-1).contains("without saying why"), "{}", text(-1));
    assert!(text(i32::MIN).contains("without saying why"));
}

#[test]
fn alloc_that_gives_a_place_outside_is_an_error() {
    for alloc in [65_536, 65_500, -1, i32::MIN] {
        let outside = Failure::Output("`alloc` gave a place outside of its memory");
        assert_eq!(failure(&Guest { alloc, ..Guest::default() }), outside, "{alloc}");
    }
}

#[test]
fn nothing_runs_for_ever_or_takes_without_end() {
    let failure = |guest: Guest| failure(&guest);
    let fuel = Failure::Fuel(100_000);
    assert_eq!(failure(Guest { transform: Some(endless()), ..Guest::default() }), fuel);
    let memory = Failure::Memory(1 << 20);
    assert_eq!(failure(Guest { transform: Some(grows()), ..Guest::default() }), memory);
    // Called when its output is given back: that came out, and the next record finds it begun anew.
    for dealloc in [endless(), traps(), grows()] {
        let mut instance = begin(&Guest { dealloc: Some(dealloc), ..Guest::default() });
        for _ in 0..5 {
            assert_eq!(run(&mut instance, &["a"]).1, Ok(()));
        }
        assert!(instance.starts() <= 2);
    }
    let start = |guest: Guest| load(&guest).unwrap().start(&[], None).err().unwrap();
    let at_start = StartError::Failed(Failure::Fuel(1_000_000));
    assert_eq!(start(Guest { start: Some(endless()[..5].to_vec()), ..Guest::default() }), at_start);
    assert_eq!(start(Guest { init: Some(endless()), ..Guest::default() }), at_start);
    assert_eq!(start(Guest { init: Some(grows()), ..Guest::default() }), StartError::Failed(memory));
    let endless_alloc = load(&Guest { alloc_body: Some(endless()), ..Guest::default() }).unwrap();
    let mut instance = endless_alloc.start(&[], None).unwrap();
    assert_eq!(run(&mut instance, &["a"]).1.unwrap_err().failure, fuel);
    for guest in
        [Guest { pages: (17, None), ..Guest::default() }, Guest { table: Some(10_000_000), ..Guest::default() }]
    {
        assert!(matches!(start(guest), StartError::Failed(_)));
    }
}

#[test]
fn init_and_look_back_that_lie_are_errors() {
    let start = |init: Vec<u8>| load(&Guest { init: Some(init), ..Guest::default() }).unwrap().start(&[], None).err();
    assert_eq!(start(constant(0)), None);
    assert!(matches!(start(constant(-2)), Some(StartError::Failed(Failure::Output(_)))));
    assert!(matches!(start(saying(&[(DATA, -1)], -2)), Some(StartError::Failed(Failure::Output(_)))));
    assert!(matches!(start(saying(&[(DATA, 1)], -2)), Some(StartError::Failed(Failure::Output("error text")))));
    assert!(matches!(start(constant(-10)), Some(StartError::Failed(Failure::Status { code: -10, .. }))));
    assert!(matches!(start(traps()), Some(StartError::Failed(Failure::Trap(_)))));
    for (body, offset) in [(constant(-99), 100), (saying(&[(DATA, 5)], -99), 100), (traps(), 100), (constant(-66), 100)]
    {
        let mut instance = begin(&Guest { look_back: Some(body), ..Guest::default() });
        let error = instance.look_back(&[RecordRef::of(b"a")], Base { offset: 100, time_ms: 0 }).unwrap_err();
        assert_eq!(error.offset, offset);
    }
}

#[test]
fn what_is_no_smartmodule_is_refused_with_a_reason() {
    let refused = |guest: Guest| load(&guest).err().unwrap();
    let import = |module, name| refused(Guest { import: (module, name), ..Guest::default() }).to_string();
    assert!(import("env", "open_door").contains("`open_door` from `env`"), "{}", import("env", "open_door"));
    // There, but of another type.
    assert!(import("wasi_snapshot_preview1", "fd_write").contains("fd_write"));
    assert_eq!(refused(Guest { kind: "join", ..Guest::default() }), LoadError::NoTransform);
    // From whatever module, as the reference takes it.
    assert!(load(&Guest { import: ("anything", "copy_records"), ..Guest::default() }).is_ok());
    for text in [&b""[..], b"#!/bin/sh"] {
        assert_eq!(Module::compile(text, limits()).err(), Some(LoadError::NotWasm));
    }
    let small = Limits { file: 100, ..limits() };
    assert!(matches!(Module::compile(&[0; 101], small), Err(LoadError::TooLarge { bytes: 101, limit: 100 })));
    let long = Box::leak("x".repeat(100_000).into_boxed_str());
    let message = import("env", long);
    assert!(message.len() < 1000, "{} bytes of message", message.len());
}

#[test]
fn a_module_that_does_not_say_where_records_come_from_runs_one_by_one() {
    // Says 0 for each: true of the first only.
    let mut instance = begin(&Guest::giving("map", &output(&[packed(0)], None, None), 1));
    for _ in 0..2 {
        let (out, result) = run(&mut instance, &["a", "b", "c"]);
        assert_eq!(result, Ok(()));
        assert_eq!(out.iter().map(|o| o.0).collect::<Vec<_>>(), [0, 1, 2]);
    }
}

fn any_output() -> impl Strategy<Value = Vec<u8>> {
    let record =
        (-2i64..6, any::<bool>()).prop_map(|(delta, key)| Packed { key: key.then_some(b"k"), ..packed(delta) });
    let records = prop::collection::vec(record, 0..6);
    let accumulator = prop::option::of(prop::collection::vec(any::<u8>(), 0..20));
    let whole = (records, prop::option::of(prop_oneof![95i64..106, any::<i64>()]), accumulator)
        .prop_map(|(records, error, accumulator)| output(&records, error, accumulator.as_deref()));
    let torn = (any_shape(), prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3), 0usize..80)
        .prop_map(|(mut bytes, changes, len)| {
            for (at, byte) in changes {
                if !bytes.is_empty() {
                    let at = at.index(bytes.len());
                    bytes[at] = byte;
                }
            }
            bytes.truncate(len);
            bytes
        });
    prop_oneof![3 => whole, 2 => torn, 1 => prop::collection::vec(any::<u8>(), 0..60)]
}

fn any_shape() -> impl Strategy<Value = Vec<u8>> {
    (0usize..6, prop::option::of(100i64..104), any::<bool>()).prop_map(|(n, error, accumulator)| {
        let records: Vec<_> = (0..n as i64).map(packed).collect();
        output(&records, error, accumulator.then_some(b"acc".as_slice()))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn whatever_a_guest_says_what_comes_out_stems_from_the_input_in_its_order(
        kind in prop::sample::select(KINDS.as_slice()),
        bytes in any_output(),
        place in prop_oneof![4 => Just((0i32, 0i32)), 1 => (any::<i32>(), any::<i32>()), 1 => (-70_000i32..70_000, -9i32..9)],
        status in prop_oneof![3 => 0i32..6, 1 => any::<i32>()],
        exact in any::<bool>(),
        count in 1usize..5,
    ) {
        let says = vec![(DATA.wrapping_add(place.0), (bytes.len() as i32).wrapping_add(place.1))];
        let claimed = bytes.first_chunk::<4>().map_or(0, |n| i32::from_be_bytes(*n));
        let status = if exact { claimed } else { status };
        let guest = Guest { kind, data: bytes.clone(), says, status, ..Guest::default() };
        let mut instance = begin(&guest);
        let input: Vec<_> = (0..count).map(|_| RecordRef::of(b"in")).collect();
        let (out, result) = run_records(&mut instance, &input, Base { offset: 100, time_ms: -1 });
        let mut last = None;
        for (index, ..) in &out {
            prop_assert!(*index < count && last <= Some(*index));
            prop_assert!(kind == "array_map" || last < Some(*index));
            last = Some(*index);
        }
        if let Err(error) = &result {
            prop_assert!(error.index < count && error.offset == 100 + error.index as i64);
            prop_assert!(last < Some(error.index) || kind == "array_map" && last == Some(error.index), "{error}");
        }
        if kind == "map" || kind == "aggregate" {
            let done = result.as_ref().err().map_or(count, |e| e.index);
            prop_assert_eq!(out.len(), done);
        }
        prop_assert!(instance.accumulator().len() <= 60);
        // The same again: nothing of it stayed.
        let again = run_records(&mut instance, &input, Base { offset: 100, time_ms: -1 });
        prop_assert_eq!((out, result), again);
    }
}

#[test]
fn a_module_with_bits_flipped_is_refused_or_fails_and_never_more() {
    // From a seed: the same each time.
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as usize
    };
    let whole = bytes_of("filter");
    let limits = Limits { fuel: 300_000, fuel_per_byte: 0, start_fuel: 300_000, memory: 4 << 20, ..Limits::default() };
    let (mut refused, mut failed, mut ran) = (0, 0, 0);
    for _ in 0..300 {
        let mut bytes = whole.clone();
        for _ in 0..1 + random() % 3 {
            let at = random() % bytes.len();
            bytes[at] ^= 1 << (random() % 8);
        }
        let Ok(module) = Module::compile(&bytes, limits) else {
            refused += 1;
            continue;
        };
        let started = module.start(&[], None).map(|mut instance| run(&mut instance, &["apple", "plum"]).1);
        if matches!(started, Ok(Ok(()))) { ran += 1 } else { failed += 1 }
    }
    println!("of 300 modules with flipped bits {refused} were refused, {failed} failed, {ran} ran");
    assert!(refused > 0 && ran > 0);
}
