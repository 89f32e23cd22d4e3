//! Every kind of SmartModule does what it was written to do, and its outputs are known by the record they stem from.

use std::time::Duration;

use headwater::record::RecordRef;
use headwater::rules::wasm::{Base, Failure, Kind, Limits, LookBack, Module, StartError};
use headwater::time::WallTime;

use super::{bytes_of, module, owned, records, run, run_records, start, values};

#[test]
fn the_kind_is_known_by_the_exports() {
    let kinds = [
        ("filter", Kind::Filter, false, false),
        ("filter_regex", Kind::Filter, true, false),
        ("map_json", Kind::Map, false, false),
        ("filter_map", Kind::FilterMap, false, false),
        ("array_map", Kind::ArrayMap, false, false),
        ("aggregate", Kind::Aggregate, true, false),
        ("look_back", Kind::Filter, true, true),
    ];
    for (name, kind, init, look_back) in kinds {
        let module = module(name);
        assert_eq!((module.kind(), module.has_init(), module.has_look_back()), (kind, init, look_back), "{name}");
    }
}

#[test]
fn a_filter_passes_records_as_they_are() {
    let mut filter = start("filter", &[]);
    let keyed = RecordRef { key: Some(b"k"), ..RecordRef::of(b"banana") };
    let input = [RecordRef::of(b"apple"), RecordRef::of(b"plum"), keyed];
    let (out, result) = run_records(&mut filter, &input, Base::default());
    assert_eq!(result, Ok(()));
    assert_eq!(out, [(0, None, "apple".into()), (2, Some("k".into()), "banana".into())]);
}

#[test]
fn parameters_reach_init_and_what_it_says_against_them_is_told() {
    let mut filter = start("filter_regex", &[("regex", "^a.*e$"), ("unused", "")]);
    assert_eq!(values(&mut filter, &["apple", "banana", "ae"]), ["apple", "ae"]);
    let module = module("filter_regex");
    let refused = |params: &[(&str, &str)]| module.start(&owned(params), None).err().unwrap().to_string();
    assert_eq!(refused(&[]), "its init says: Missing param regex");
    assert!(refused(&[("regex", "(")]).contains("unclosed group"), "{}", refused(&[("regex", "(")]));
    let long = "x".repeat(40_000);
    assert_eq!(module.start(&owned(&[("regex", &long)]), None).err(), Some(StartError::Params));
}

#[test]
fn a_map_sees_offset_and_time_of_each_record() {
    let mut map = start("map_json", &[]);
    let late = RecordRef { event_time: Some(WallTime(1_600_000_000_123_456)), ..RecordRef::of(b"{}") };
    let base = Base { offset: 7, time_ms: 1_700_000_000_000 };
    let (out, result) = run_records(&mut map, &[RecordRef::of(b"{\"a\":1}"), late], base);
    assert_eq!(result, Ok(()));
    assert_eq!(
        out,
        [
            (0, Some("json".into()), r#"{"a":1,"offset":7,"time":1700000000000}"#.into()),
            (1, Some("json".into()), r#"{"offset":8,"time":1600000000123}"#.into()),
        ]
    );
    assert_eq!(values(&mut start("map_legacy", &[]), &["a", "b"]), ["A", "B"]);
}

#[test]
fn a_filter_map_tells_which_record_became_which() {
    let (out, result) = run(&mut start("filter_map", &[]), &["1", "2", "3", "4"]);
    assert_eq!(result, Ok(()));
    assert_eq!(out, [(1, None, "1".into()), (3, None, "2".into())]);
}

#[test]
fn an_array_map_gives_any_number_and_each_knows_its_origin() {
    let (out, result) = run(&mut start("array_map", &[]), &["a\nb", "", "c"]);
    assert_eq!(result, Ok(()));
    assert_eq!(out, [(0, None, "a".into()), (0, Some("1".into()), "b".into()), (2, None, "c".into())]);
}

#[test]
fn successes_before_an_error_count_and_the_rest_goes_on_behind_it() {
    let mut instance = start("filter_map", &[]);
    let (out, result) = run(&mut instance, &["2", "4", "x", "6"]);
    assert_eq!(out, [(0, None, "1".into()), (1, None, "2".into())]);
    let error = result.unwrap_err();
    assert_eq!((error.index, error.offset), (2, 102));
    assert_eq!(error.failure, Failure::Reported("invalid digit found in string".into()));
    assert_eq!(values(&mut instance, &["6"]), ["3"]);
    let (out, result) = run(&mut start("array_map", &[]), &["a\nb", "bad", "c"]);
    assert_eq!((out.len(), result.unwrap_err().index), (2, 1));
    assert_eq!(instance.starts(), 1);
}

#[test]
fn an_accumulator_is_given_back_and_taken_and_outlives_the_instance() {
    let mut sum = start("aggregate", &[("factor", "10")]);
    assert_eq!(sum.accumulator(), b"");
    assert_eq!(values(&mut sum, &["1", "2"]), ["10", "30"]);
    let (out, result) = run(&mut sum, &["3", "x", "4"]);
    assert_eq!((out.len(), result.unwrap_err().index), (1, 1));
    assert_eq!(sum.accumulator(), b"60");
    sum.rebuild().unwrap();
    assert_eq!(values(&mut sum, &["1"]), ["70"]);
    let mut other = start("aggregate", &[]);
    assert!(other.set_accumulator(b"70"));
    assert_eq!(values(&mut other, &["1"]), ["71"]);
}

#[test]
fn an_accumulator_has_a_limit_and_the_one_before_stays() {
    let limits = Limits { accumulator: 1000, ..Limits::default() };
    let mut all = Module::compile(&bytes_of("aggregate_all"), limits).unwrap().start(&[], None).unwrap();
    let part = "x".repeat(400);
    let (out, result) = run(&mut all, &[&part, &part, &part, "y"]);
    assert_eq!(out.iter().map(|o| o.2.len()).collect::<Vec<_>>(), [400, 800]);
    let error = result.unwrap_err();
    assert_eq!((error.index, error.failure), (2, Failure::Accumulator(1000)));
    assert_eq!(values(&mut all, &["y"])[0].len(), 801);
    assert!(!all.set_accumulator(&[0; 1001]));
    assert_eq!(all.accumulator().len(), 801);
}

#[test]
fn a_module_looks_back_over_what_it_is_shown() {
    let look_back = Some(LookBack { last: 3, age: Some(Duration::from_millis(1500)) });
    let module = module("look_back");
    let mut instance = module.start(&[], look_back).unwrap();
    assert!(instance.needs_look_back());
    instance.look_back(&records(&["5", "9", "7"]), Base::default()).unwrap();
    assert!(!instance.needs_look_back());
    assert_eq!(values(&mut instance, &["8", "10", "9", "11"]), ["10", "11"]);
    // What it has learned is gone with its memory.
    instance.release();
    assert!(instance.needs_look_back() && instance.linear_memory() == 0);
    let error = instance.look_back(&records(&["5", "x"]), Base { offset: 40, time_ms: 0 }).unwrap_err();
    assert_eq!((error.index, error.offset), (1, 41));
    assert!(matches!(error.failure, Failure::Reported(_)));
    // Nothing to be shown is an answer as well.
    instance.look_back(&[], Base::default()).unwrap();
    assert!(!instance.needs_look_back());
    // Not asked to look back, it is not waited for; asked nevertheless, this one says so.
    let mut instance = module.start(&[], None).unwrap();
    assert!(!instance.needs_look_back());
    let error = instance.look_back(&records(&["5"]), Base::default()).unwrap_err();
    assert!(error.to_string().contains("nobody said"), "{error}");
}

#[test]
fn every_version_of_the_interface_is_spoken() {
    for version in 16..=22 {
        for (name, out) in [("aggregate_all", "xy"), ("map_legacy", "Y"), ("filter_map", "")] {
            let module = Module::compile_for(&bytes_of(name), Limits::default(), version).unwrap();
            let input: &[&str] = if out.is_empty() { &["1", "3"] } else { &["x", "y"] };
            let got = values(&mut module.start(&[], None).unwrap(), input);
            assert_eq!(got.last().map_or("", |v| v), out, "{name} {version}");
        }
    }
    for version in [15, 23] {
        assert!(Module::compile_for(&bytes_of("filter"), Limits::default(), version).is_err());
    }
}

#[test]
fn a_module_for_wasi_sees_nothing_of_the_machine() {
    let mut instance = start("wasi-wasip1", &[]);
    let (out, result) = run(&mut instance, &["abb", "c"]);
    assert_eq!(result, Ok(()));
    let seen = |most: &str| format!("Some('{most}') 1700000000000 0 false false");
    assert_eq!(out, [(0, None, seen("b")), (1, None, seen("c"))]);
    assert_eq!(instance.take_log(), b"out 100\nerr 100\nout 101\nerr 101\n");
    assert_eq!(instance.take_log(), b"");
    let mut instance = start("wasi-wasip1", &[]);
    let (out, result) = run(&mut instance, &["a", "exit", "b"]);
    assert_eq!(out.len(), 1);
    let text = result.unwrap_err().to_string();
    assert_eq!(text, "offset 101: the module broke off: it called exit(3): out 100 err 100 out 101 err 101");
    for _ in 0..200 {
        values(&mut instance, &["a"]);
    }
    let log = instance.take_log();
    assert!(log.len() <= 1024 && log.ends_with(b"out 100\nerr 100\n"));
}
