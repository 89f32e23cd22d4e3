//! Modules as an operator may be given them, and what they may say: small ones assembled here, honest ones and liars, with
//! bytes flipped; committed ones, bent; and whatever bytes as what a module says. What must hold: what is no module is refused,
//! what is one runs within its fuel and memory, nothing is allocated by a number that a guest names, and what comes out
//! stems from what went in.

use headwater::record::RecordRef;
use headwater::rules::wasm::abi::{Outcome, init_error, look_back_error, words};
use headwater::rules::wasm::{Base, Instance, Limits, LookBack, Module};

use super::{Input, bend, held};

#[path = "../../support/guest.rs"]
#[allow(dead_code, reason = "tests/rules has more use for it")]
mod guest;

use guest::{DATA, Guest};

const LIMITS: Limits = Limits {
    file: 64 * 1024,
    memory: 1 << 20,
    rebuild_above: 1 << 19,
    fuel: 100_000,
    fuel_per_byte: 100,
    start_fuel: 100_000,
    output: 64 * 1024,
    accumulator: 1024,
    batch: 4,
};
/// Beside linear memory: what a module is turned into, the interpreter's stacks, the output, grown.
const RUNNING: usize = 4 * 1024 * 1024;
const KINDS: [&str; 6] = ["filter", "map", "filter_map", "array_map", "aggregate", "join"];

pub fn wasm(data: &[u8]) {
    let mut input = Input(data);
    match input.byte() % 4 {
        0 => says(input.0),
        1 => {
            let mut output = output(&mut input);
            bend(&mut output, &mut input);
            says(&output);
        }
        2 => {
            let mut module = assembled(&mut input).assemble();
            if input.flag() {
                flip(&mut module, &mut input);
            }
            run(&module, &mut input);
        }
        _ => {
            let mut module = input.0.to_vec();
            if !module.starts_with(b"\0asm") {
                module.splice(..0, *b"\0asm\x01\0\0\0");
            }
            run(&module, &mut input);
        }
    }
}

/// Each reader of what a guest says, on the same bytes: nothing of it is copied.
fn says(bytes: &[u8]) {
    held::within(0, "what a guest says", || {
        for aggregate in [false, true] {
            let Ok(outcome) = Outcome::read(bytes, aggregate) else { continue };
            assert_eq!(outcome.records().count(), outcome.count, "not all of them");
            let packed: usize = outcome.records().map(|r| r.value.len() + r.key.map_or(0, <[u8]>::len)).sum();
            let said = outcome.accumulator.map_or(0, <[u8]>::len) + outcome.error.map_or(0, |error| error.text.len());
            assert!(packed + said <= bytes.len(), "more comes out than went in");
            assert_eq!(outcome.accumulator.is_some(), aggregate);
        }
        let _ = (look_back_error(bytes), init_error(bytes));
    });
    let text = words(bytes);
    assert!(text.len() <= headwater::limits::MAX_REPORT && !text.contains(char::is_control));
}

/// The output of a call, as a guest would write it.
fn output(input: &mut Input<'_>) -> Vec<u8> {
    let count = input.below(5);
    let mut out = i32::from(count).to_be_bytes().to_vec();
    for n in 0..count {
        let (key, value) = (input.flag().then(|| input.some(8)), input.some(20));
        let mut record = vec![0, 0, n << 1];
        match key {
            Some(key) => {
                record.extend_from_slice(&[1, (key.len() as u8) << 1]);
                record.extend_from_slice(key);
            }
            None => record.push(0),
        }
        record.push((value.len() as u8) << 1);
        record.extend_from_slice(value);
        record.push(0);
        out.push((record.len() as u8) << 1);
        out.extend_from_slice(&record);
    }
    if input.flag() {
        let text = input.some(16);
        out.extend_from_slice(&[1, 0, text.len() as u8]);
        out.extend_from_slice(text);
        out.extend_from_slice(&input.number().to_be_bytes());
        out.extend_from_slice(&[0, 0, 2, b'v']);
    } else {
        out.push(0);
    }
    if input.flag() {
        out.extend_from_slice(&[0, 0, 0, 3, 1, 2, 3]);
    }
    out
}

/// A small module that says what it likes from where it likes, and whose functions do what they like.
fn assembled(input: &mut Input<'_>) -> Guest {
    let data = output(input);
    let says = (0..input.below(3)).map(|_| match input.flag() {
        true => (DATA, data.len() as i32),
        false => (input.number() as i32, input.number() as i32),
    });
    let says = says.collect();
    let status = if input.flag() { i32::from(data[3]) } else { input.number() as i32 };
    let mut guest = Guest { kind: input.pick(&KINDS), data, says, status, ..Guest::default() };
    guest.alloc = if input.flag() { 1024 } else { input.number() as i32 };
    guest.pages = (u32::from(input.below(20)), input.flag().then(|| u32::from(input.byte())));
    guest.table = input.flag().then(|| input.number() as u32);
    let bodies = [
        &mut guest.transform,
        &mut guest.alloc_body,
        &mut guest.dealloc,
        &mut guest.init,
        &mut guest.look_back,
        &mut guest.start,
    ];
    for place in bodies {
        *place = match input.below(12) {
            0 => Some(guest::endless()),
            1 => Some(guest::grows()),
            2 => Some(guest::traps()),
            3 => Some(guest::constant(input.number() as i32)),
            4 => Some(guest::saying(&[(input.number() as i32, input.number() as i32)], -2)),
            5 => Some(input.some(24).to_vec()),
            _ => None,
        };
    }
    guest
}

fn flip(bytes: &mut [u8], input: &mut Input<'_>) {
    for _ in 0..1 + input.below(4) {
        let at = input.u16() % bytes.len();
        bytes[at] ^= 1 << input.below(8);
    }
}

fn run(module: &[u8], input: &mut Input<'_>) {
    // What compiling takes is bounded by what the file has, though a table of its own may be as large as memory.
    let most = RUNNING + 64 * module.len() + 4 * LIMITS.memory;
    held::within(most, "a module", || {
        let module = match Module::compile(module, LIMITS) {
            Ok(module) => module,
            Err(error) => return assert!(error.to_string().len() < 2048, "{error}"),
        };
        let back = input.flag().then_some(LookBack { last: 2, age: None });
        let Ok(mut instance) = module.start(&[("a".into(), "1".into())], back) else { return };
        if instance.needs_look_back() {
            let _ = instance.look_back(&[RecordRef::of(b"past"), RecordRef::of(b"")], Base::default());
        }
        let (first, again) = (batch(&mut instance), batch(&mut instance));
        let _ = (first, again);
        assert!(instance.linear_memory() <= LIMITS.memory && instance.accumulator().len() <= LIMITS.accumulator);
    });
}

/// A few records through it; how many came out.
fn batch(instance: &mut Instance) -> usize {
    let records = [
        RecordRef::of(b"in"),
        RecordRef { key: Some(b"k"), ..RecordRef::of(b"{\"a\":1}") },
        RecordRef::of(b""),
        RecordRef::of(b"4"),
        RecordRef::of(b"5"),
    ];
    let base = Base { offset: 100, time_ms: 1_700_000_000_000 };
    let (mut out, mut last) = (0, None);
    let result = instance.run(&records, base, &mut |output| {
        assert!(output.index < records.len() && last <= Some(output.index), "it stems from nothing that went in");
        last = Some(output.index);
        out += 1;
    });
    if let Err(error) = result {
        assert!(error.index < records.len() && error.offset == 100 + error.index as i64);
        assert!(error.to_string().len() < 2048, "{error}");
    }
    out
}
