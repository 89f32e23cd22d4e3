//! The host and the reference, side by side: the same records through the same module, the same results, byte by byte.
//!
//! Records are generated from a seed (`HEADWATER_SEEDS` of them for each module). What comes out must be equal: keys,
//! values, which input each stems from, and of an error the record and the words. Where a module breaks, both must fail;
//! the host has then given the records before the one that broke it, the reference none. Differences on purpose are in
//! [`lies_fail_in_both_or_only_here`], each named.

#[allow(dead_code)] // more guests than are compared
#[path = "../support/guest.rs"]
mod guest;

use std::panic::{AssertUnwindSafe, catch_unwind};

use fluvio_protocol::record::{Record, RecordData, RecordKey};
use fluvio_smartengine::{Lookback, SmartEngine, SmartModuleChainBuilder, SmartModuleChainInstance, SmartModuleConfig};
use fluvio_smartmodule::SMARTMODULE_TIMESTAMPS_VERSION;
use fluvio_smartmodule::dataplane::smartmodule::{Lookback as ParamLookback, SmartModuleInput};
use headwater::record::RecordRef;
use headwater::rules::wasm::{Base, Failure, Instance, Limits, LookBack, Module, abi};
use headwater::time::WallTime;

use guest::{DATA, Guest};

/// Key, value and which input it stems from.
type Out = (Option<Vec<u8>>, Vec<u8>, usize);
/// Which record failed, and why.
type Failed = (i64, String);

#[derive(Clone, Debug, Default)]
struct Given {
    key: Option<String>,
    value: String,
    time_delta: i64,
}

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }

    /// Mostly `usual`, made of what modules understand; else something odd.
    fn value(&mut self, usual: &str) -> String {
        let number = self.below(2000).to_string();
        if self.below(12) == 0 {
            let odd = ["", "bad", "x", "-", "\u{e4}\u{1f600}", "{", "[]", "99999999999999999999", "\n\n"];
            return odd[self.below(odd.len() as u64) as usize].to_owned();
        }
        match usual {
            "number" => number,
            "lines" => vec![number.as_str(); self.below(6) as usize].join("\n"),
            "json" => format!("{{\"n\":{number},\"s\":\"{}\"}}", "ab\\u00e4".repeat(self.below(40) as usize)),
            _ => format!("{} {number} pump", ["apple", "plum", "pear 21.5"][self.below(3) as usize]),
        }
    }

    fn records(&mut self, usual: &str) -> Vec<Given> {
        let count = [0, 1, 2, 7, 64, 65, 150][self.below(7) as usize];
        let mut given = Vec::new();
        for i in 0..count {
            let key = (self.below(3) == 0).then(|| "k".repeat(self.below(200) as usize));
            given.push(Given { key, value: self.value(usual), time_delta: i * 3 - self.below(5) as i64 });
        }
        given
    }
}

struct Reference {
    engine: SmartEngine,
    bytes: Vec<u8>,
    params: Vec<(String, String)>,
    look_back: Option<u64>,
    chain: Option<SmartModuleChainInstance>,
}

impl Reference {
    fn start(&mut self) -> Result<(), String> {
        let mut config = SmartModuleConfig::builder();
        config.smartmodule_names(vec!["m".to_owned()]);
        let mut params = fluvio_smartmodule::dataplane::smartmodule::SmartModuleExtraParams::default();
        self.params.iter().for_each(|(k, v)| params.insert(k.clone(), v.clone()));
        params.set_lookback(self.look_back.map(ParamLookback::last));
        config.params(params).lookback(self.look_back.map(Lookback::Last));
        let mut builder = SmartModuleChainBuilder::default();
        // Far more than the host's: the reference frees no output.
        builder.set_store_memory_limit(256 << 20);
        builder.add_smart_module(config.build().map_err(|e| e.to_string())?, self.bytes.clone());
        self.chain = Some(builder.initialize(&self.engine).map_err(|e| e.to_string())?);
        Ok(())
    }

    /// The outer error: the call as a whole failed (or panicked).
    fn run(&mut self, given: &[Given], base: Base) -> Result<(Vec<Out>, Option<Failed>), String> {
        if self.chain.is_none() {
            self.start()?;
        }
        let input = |records| SmartModuleInput::try_from_records(records, SMARTMODULE_TIMESTAMPS_VERSION).unwrap();
        let mut input = input(official(given));
        input.set_base_offset(base.offset);
        input.set_base_timestamp(base.time_ms);
        let chain = self.chain.as_mut().unwrap();
        let result = catch_unwind(AssertUnwindSafe(|| chain.process(input)));
        let output = match result {
            Ok(Ok(output)) => output,
            other => {
                self.chain = None;
                return Err(format!("{other:?}"));
            }
        };
        let out = output.successes.iter().map(|r| {
            let key = r.key.as_ref().map(|k| k.as_ref().to_vec());
            (key, r.value.as_ref().to_vec(), usize::try_from(r.offset_delta()).unwrap_or(usize::MAX))
        });
        Ok((out.collect(), output.error.map(|e| (e.offset, abi::words(e.hint.as_bytes())))))
    }

    fn look_back(&mut self, given: &[Given]) -> Result<(), String> {
        let chain = self.chain.as_mut().unwrap();
        let future = chain.look_back(|_| {
            let records = official(given);
            async move { Ok(records) }
        });
        let mut future = std::pin::pin!(future);
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match future.as_mut().poll(&mut context) {
            std::task::Poll::Ready(result) => result.map_err(|e| e.to_string()),
            std::task::Poll::Pending => Err("it waits".into()),
        }
    }
}

fn official(given: &[Given]) -> Vec<Record> {
    let record = |(i, g): (usize, &Given)| {
        let key = g.key.clone().map_or(RecordKey::NULL, RecordKey::from);
        let mut record = Record::new_key_value(key, RecordData::from(g.value.clone()));
        record.preamble.set_offset_delta(i as i64);
        record.preamble.set_timestamp_delta(g.time_delta);
        record
    };
    given.iter().enumerate().map(record).collect()
}

fn ours(given: &[Given], base: Base) -> Vec<RecordRef<'_>> {
    let mut records = Vec::new();
    for g in given {
        let event_time = Some(WallTime((base.time_ms + g.time_delta) * 1000));
        let key = g.key.as_deref().map(str::as_bytes);
        records.push(RecordRef { key, event_time, ..RecordRef::of(g.value.as_bytes()) });
    }
    records
}

fn run(instance: &mut Instance, given: &[Given], base: Base) -> (Vec<Out>, Result<(), (i64, Failure)>) {
    let mut out = Vec::new();
    let result = instance.run(&ours(given, base), base, &mut |o| {
        out.push((o.key.map(<[u8]>::to_vec), o.value.to_vec(), o.index));
    });
    (out, result.map_err(|e| (e.offset, e.failure)))
}

fn bytes_of(name: &str) -> Vec<u8> {
    let dir = std::env::var("HEADWATER_SMARTMODULES").expect("run by scripts/smartengine.sh");
    std::fs::read(format!("{dir}/{name}.wasm")).unwrap()
}

fn reference(bytes: &[u8], params: &[(&str, &str)], look_back: Option<u64>) -> Reference {
    let params = params.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Reference { engine: SmartEngine::new(), bytes: bytes.to_vec(), params, look_back, chain: None }
}

/// Batches after which both begin anew: the reference does not give a guest's output back, and ends at 256 MiB.
const LIFE: u64 = 40;

fn seeds() -> u64 {
    std::env::var("HEADWATER_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(40)
}

#[test]
fn every_kind_gives_what_the_reference_gives() {
    let modules: [(&str, &[(&str, &str)], &str); 9] = [
        ("filter", &[], "text"),
        ("filter_regex", &[("regex", "^(apple|pear) \\d+")], "text"),
        ("map_json", &[], "json"),
        ("map_legacy", &[], "text"),
        ("filter_map", &[], "number"),
        ("array_map", &[], "lines"),
        ("aggregate", &[("factor", "-3")], "number"),
        ("aggregate_all", &[], "lines"),
        ("misbehave", &[], "text"),
    ];
    for (name, params, usual) in modules {
        let bytes = bytes_of(name);
        let (mut batches, mut outputs, mut errors) = (0, 0, 0);
        let mut theirs = reference(&bytes, params, None);
        let mut hosts = Vec::new();
        for seed in 1..=seeds() {
            if seed % LIFE == 1 {
                theirs.start().unwrap();
                let begin = |batch| {
                    let limits = Limits { batch, accumulator: 1 << 20, output: 8 << 20, ..Limits::default() };
                    Module::compile(&bytes, limits).unwrap().start(&theirs.params, None).unwrap()
                };
                hosts = [64, 1].map(begin).into();
            }
            let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let given = random.records(usual);
            let base = Base { offset: random.below(1 << 40) as i64, time_ms: 1_700_000_000_000 };
            let (expected, error) = theirs.run(&given, base).unwrap();
            for host in &mut hosts {
                let (mut out, result) = run(host, &given, base);
                if name == "array_map" {
                    // The reference does not know.
                    out.iter_mut().for_each(|o| o.2 = 0);
                }
                assert_eq!(out, expected, "{name}, seed {seed}");
                let ours = result.err().map(|(offset, failure)| (offset, failure.to_string()));
                assert_eq!(ours, error, "{name}, seed {seed}");
            }
            batches += 1;
            outputs += expected.len();
            errors += usize::from(error.is_some());
        }
        println!("{name}: {batches} batches, {outputs} records out, {errors} errors, all equal");
        assert!(
            outputs > 0
                && (errors > 0
                    || ["aggregate_all", "misbehave", "filter", "filter_regex", "map_legacy"].contains(&name))
        );
    }
}

#[test]
fn a_look_back_leads_to_what_it_leads_to_in_the_reference() {
    let bytes = bytes_of("look_back");
    let module = Module::compile(&bytes, Limits::default()).unwrap();
    for seed in 1..=seeds().min(10) {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let past = random.records("number");
        let given = random.records("number");
        let base = Base::default();
        let mut theirs = reference(&bytes, &[], Some(20));
        theirs.start().unwrap();
        let mut host = module.start(&[], Some(LookBack { last: 20, age: None })).unwrap();
        let shown = theirs.look_back(&past);
        let seen = host.look_back(&ours(&past, base), base);
        assert_eq!(shown.is_ok(), seen.is_ok(), "{shown:?} {seen:?}");
        let (expected, error) = theirs.run(&given, base).unwrap();
        let (out, result) = run(&mut host, &given, base);
        assert_eq!(out, expected, "seed {seed}");
        assert_eq!(result.err().map(|(at, failure)| (at, failure.to_string())), error, "seed {seed}");
    }
    // Without being told how far, it refuses.
    let mut host = module.start(&[], None).unwrap();
    assert!(host.look_back(&[RecordRef::of(b"1")], Base::default()).is_err());
}

#[test]
fn what_init_says_is_told_by_both() {
    let bytes = bytes_of("filter_regex");
    let theirs = reference(&bytes, &[], None).start().unwrap_err();
    let ours = Module::compile(&bytes, Limits::default()).unwrap().start(&[], None).err().unwrap().to_string();
    assert!(theirs.contains("Missing param regex") && ours.contains("Missing param regex"), "{theirs} {ours}");
}

#[test]
fn where_a_module_breaks_both_fail_and_the_host_has_given_what_came_before() {
    let bytes = bytes_of("misbehave");
    let given = |value: &str| Given { value: value.to_owned(), ..Given::default() };
    // Endless loops only here: the reference gives fuel for centuries.
    for bad in ["panic", "hog", "deep"] {
        let mut theirs = reference(&bytes, &[], None);
        let batch = [given("a"), given("b"), given(bad), given("c")];
        assert!(theirs.run(&batch, Base::default()).is_err(), "{bad}");
        let mut host = Module::compile(&bytes, Limits::default()).unwrap().start(&[], None).unwrap();
        let (out, result) = run(&mut host, &batch, Base::default());
        assert_eq!((out.len(), result.unwrap_err().0), (2, 2), "{bad}");
        assert_eq!(theirs.run(&batch[3..], Base::default()).unwrap().0, run(&mut host, &batch[3..], Base::default()).0);
    }
}

#[test]
fn lies_fail_in_both_or_only_here() {
    let one = [0, 0, 0, 1, 14, 0, 0, 0, 0, 2, b'v', 0, 0];
    let none = [0, 0, 0, 0, 0];
    let broken_record = [0, 0, 0, 1, 100, 0, 0, 0, 0, 2, b'v', 0, 0];
    let giving = |bytes: &[u8], status| Guest::giving("filter", bytes, status);
    let says = |says: &[(i32, i32)]| Guest { says: says.to_vec(), ..Guest::default() };
    // What it is, the guest, and whether the reference fails as well.
    let cases = [
        ("no output", says(&[]), true),
        ("an output outside of its memory", says(&[(65_535, 5)]), true),
        ("a place before its memory", says(&[(-8, 16)]), true),
        ("an output that breaks off", giving(&one[..9], 1), true),
        ("a record that is longer than the output", giving(&broken_record, 1), true),
        ("an output without an error field", giving(&one[..12], 1), true),
        ("an empty output", says(&[(DATA, 0)]), true),
        ("status -22", giving(&none, -22), true),
        ("a trap", Guest { transform: Some(guest::traps()), ..Guest::default() }, true),
        // The reference does not look at the status unless it is negative,
        ("another count than it returned", giving(&one, 7), false),
        // nor at what is behind the output,
        ("bytes left over", giving(&[one.as_slice(), &[9]].concat(), 1), false),
        // nor at how many come out of a filter.
        ("two records for one", giving(&[&[0, 0, 0, 2], &one[4..12], &one[4..]].concat(), 2), false),
    ];
    let given = [Given { value: "in".into(), ..Given::default() }];
    for (what, guest, theirs_too) in cases {
        let bytes = guest.assemble();
        let theirs = reference(&bytes, &[], None).run(&given, Base::default());
        assert_eq!(theirs.is_err(), theirs_too, "{what}: {theirs:?}");
        let mut host = Module::compile(&bytes, Limits::default()).unwrap().start(&[], None).unwrap();
        let (out, result) = run(&mut host, &given, Base::default());
        assert!(out.is_empty() && result.is_err(), "{what}: {result:?}");
    }
    // And what is no lie is taken by both.
    let bytes = giving(&one, 1).assemble();
    let mut host = Module::compile(&bytes, Limits::default()).unwrap().start(&[], None).unwrap();
    let (out, result) = run(&mut host, &given, Base::default());
    assert_eq!((out, result), (reference(&bytes, &[], None).run(&given, Base::default()).unwrap().0, Ok(())));
}
