//! The host of SmartModules: real ones, built from source (`tests/smartmodules`), and ones written by hand that lie
//! (`lies.rs`); and the crates that `headwater rule new` writes (`new.rs`). What the reference engine makes of the same is
//! compared in `tests/smartengine`.

mod chains;
#[path = "../support/guest.rs"]
mod guest;
mod kinds;
mod lies;
#[path = "../support/modules.rs"]
mod modules;
mod new;
mod past;
mod trouble;

use modules::{bytes_of, modules};

use headwater::record::RecordRef;
use headwater::rules::wasm::{Base, Instance, Limits, Module, RunError};

/// A record that came out: which input it stems from, key and value.
type Out = (usize, Option<String>, String);

fn module(name: &str) -> Module {
    Module::compile(&bytes_of(name), Limits::default()).unwrap()
}

fn start(name: &str, params: &[(&str, &str)]) -> Instance {
    module(name).start(&owned(params), None).unwrap()
}

fn owned(params: &[(&str, &str)]) -> Vec<(String, String)> {
    params.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn records<'a>(values: &[&'a str]) -> Vec<RecordRef<'a>> {
    values.iter().map(|v| RecordRef::of(v.as_bytes())).collect()
}

fn run_records(instance: &mut Instance, records: &[RecordRef<'_>], base: Base) -> (Vec<Out>, Result<(), RunError>) {
    let mut out = Vec::new();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let result = instance.run(records, base, &mut |o| out.push((o.index, o.key.map(text), text(o.value))));
    (out, result)
}

fn run(instance: &mut Instance, values: &[&str]) -> (Vec<Out>, Result<(), RunError>) {
    run_records(instance, &records(values), Base { offset: 100, time_ms: 1_700_000_000_000 })
}

/// The values that came out of a run without an error.
fn values(instance: &mut Instance, input: &[&str]) -> Vec<String> {
    let (out, result) = run(instance, input);
    assert_eq!(result, Ok(()));
    out.into_iter().map(|(_, _, value)| value).collect()
}
