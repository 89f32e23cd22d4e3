//! Chains of rules.

mod keeping;
mod window;

use std::collections::BTreeMap;

use super::*;
use crate::json::Path;
use crate::rules::filter::{Condition, Needle, Test};

static LABELS: BTreeMap<String, String> = BTreeMap::new();

fn path(text: &str) -> Path {
    Path::parse(text).unwrap()
}

fn rule(spec: RuleSpec) -> Rule {
    Rule::new(Name::new("r").unwrap(), spec)
}

fn chain_of<const N: usize>(specs: [RuleSpec; N]) -> Chain {
    Chain::new(&specs.map(rule))
}

const ENV: Env<'static> = Env { context: Context { node: "n1", topic: "t", source: "s", labels: &LABELS }, time: None };

fn run(chain: &mut Chain, value: &[u8]) -> (Option<Vec<u8>>, u32) {
    let mut out = None;
    let record = RecordRef { key: Some(b"k"), ..RecordRef::of(value) };
    let verdict = chain.apply(
        &ENV,
        &record,
        &mut WayOut(&mut |r| {
            assert_eq!(r.key, Some(&b"k"[..]));
            out = Some(r.value.to_vec());
        }),
    );
    assert_eq!(verdict.outputs, u32::from(out.is_some()));
    (out, verdict.errors)
}

fn add(name: &str, template: &str) -> RuleSpec {
    let value = add_fields::FieldValue::Template(Template::parse(template).unwrap());
    RuleSpec::AddFields(add_fields::AddFields::new(vec![(path(name), value)]).unwrap())
}

fn drop_field(name: &str) -> RuleSpec {
    RuleSpec::DropFields(drop_fields::DropFields::new(vec![path(name)]).unwrap())
}

#[test]
fn what_passes_a_filter_is_not_copied() {
    let mut chain = chain_of([RuleSpec::Filter(Condition::Contains(Needle::new(b"a")))]);
    let value = b"a".to_vec();
    let same = &mut |r: RecordRef<'_>| assert!(std::ptr::eq(r.value, value.as_slice()));
    chain.apply(&ENV, &RecordRef::of(&value), &mut WayOut(same));
    assert_eq!(run(&mut chain, b"b"), (None, 0));
}

#[test]
fn rules_see_what_the_ones_before_them_made() {
    let mut chain = chain_of([
        add("site", "{node}"),
        drop_field("noise"),
        RuleSpec::Filter(Condition::Field(path("noise"), Test::Exists)),
    ]);
    assert_eq!(run(&mut chain, br#"{"noise":1}"#), (None, 0));
    let mut chain = chain_of([add("site", "{node}"), add("copy", "{field.site}"), drop_field("n")]);
    assert_eq!(run(&mut chain, br#"{"n":1}"#).0.unwrap(), br#"{"site":"n1","copy":"n1"}"#);
}

#[test]
fn a_record_that_passes_although_a_rule_failed_on_it_is_not_counted_as_saved() {
    let tally = |on_error, derives: bool| {
        let chain = Chain::new(&[Rule { on_error, ..rule(drop_field("a")) }]);
        let mut chain = if derives { chain.deriving() } else { chain };
        run(&mut chain, b"{broken");
        let (_, Told { tally, .. }) = chain.tallies().next().unwrap();
        assert_eq!((tally.records_in, tally.bytes_in, tally.errors), (1, 8, 1));
        (tally.records_out, tally.bytes_out, tally.bytes_saved())
    };
    for on_error in [OnError::Pass, OnError::Stop] {
        assert_eq!(tally(on_error, false), (1, 8, 0));
        // In another topic there is nothing of it.
        assert_eq!(tally(on_error, true), (0, 0, 8));
    }
    for on_error in [OnError::Drop, OnError::DeadLetter] {
        assert_eq!(tally(on_error, false), (0, 0, 8));
    }
}

#[test]
fn before_a_sink_a_query_leaves_records_of_other_topics_than_its_own_as_they_are() {
    let query = |from| sql::Query::compile(&format!("SELECT a FROM {from} WHERE a > 1")).unwrap();
    let mut chain = chain_of([RuleSpec::Sql(query("t"))]);
    assert_eq!(run(&mut chain, br#"{"a":1}"#), (None, 0));
    assert_eq!(run(&mut chain, br#"{"a":2,"b":3}"#).0.unwrap(), br#"{"a":2}"#);
    let mut chain = chain_of([RuleSpec::Sql(query("other"))]);
    assert_eq!(run(&mut chain, br#"{"a":1}"#).0.unwrap(), br#"{"a":1}"#);
}

#[test]
fn a_copied_field_keeps_its_type_and_its_digits() {
    let mut chain = chain_of([add("b", "{field.a}")]);
    let (out, _) = run(&mut chain, br#"{"a":18446744073709551615}"#);
    assert_eq!(out.unwrap(), br#"{"a":18446744073709551615,"b":18446744073709551615}"#);
    assert_eq!(run(&mut chain, br#"{"c":1}"#), (Some(br#"{"c":1}"#.to_vec()), 0));
}

#[test]
fn malformed_json_passes_unchanged_and_is_counted() {
    let exists = RuleSpec::Filter(Condition::Field(path("x"), Test::Exists));
    let mut chain = chain_of([drop_field("a"), exists, add("b", "{node}")]);
    assert_eq!(run(&mut chain, b"{\"a\":1"), (Some(b"{\"a\":1".to_vec()), 3));
}

#[test]
fn a_counting_sample_passes_the_first_and_then_every_nth() {
    let mut chain = chain_of([RuleSpec::Sample(sample::Sample { every: 3, by: None })]);
    let passed: Vec<bool> = (0..7).map(|_| run(&mut chain, b"x").0.is_some()).collect();
    assert_eq!(passed, [true, false, false, true, false, false, true]);
}

#[test]
fn a_sample_by_key_takes_the_same_ones_always_and_about_one_in_n() {
    let by = Some(Template::parse("{field.d}").unwrap());
    let spec = RuleSpec::Sample(sample::Sample { every: 10, by });
    assert!(spec.is_pure());
    let pick = || {
        let mut chain = chain_of([spec.clone()]);
        let passes = |d: &u32| run(&mut chain, format!("{{\"d\":{d}}}").as_bytes()).0.is_some();
        (0..2000).filter(passes).collect::<Vec<u32>>()
    };
    let first = pick();
    assert_eq!(first, pick());
    assert!((150..250).contains(&first.len()), "{}", first.len());
    let mut chain = chain_of([spec.clone()]);
    assert_eq!(run(&mut chain, b"{}"), (Some(b"{}".to_vec()), 1));
}

#[test]
fn scratch_does_not_keep_the_size_of_a_huge_record() {
    let mut chain = chain_of([drop_field("a")]);
    let huge = format!("{{\"a\":1,\"b\":\"{}\"}}", "x".repeat(400_000));
    run(&mut chain, huge.as_bytes());
    run(&mut chain, b"{\"a\":1}");
    assert!(chain.stages[0].made.bytes.capacity() < 1000);
}
