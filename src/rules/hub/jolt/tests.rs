//! Jolt: examples of its pages, and what the original made of recorded specs and inputs.

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::limits::MAX_RECORD;

fn jolt(spec: &str) -> Jolt {
    Jolt::new(spec, Dialect::Module).unwrap()
}

fn run(jolt: &Jolt, input: &str) -> Result<String, Failure> {
    let mut out = Vec::new();
    jolt.apply(input.as_bytes(), &mut out).map(|()| String::from_utf8(out).unwrap())
}

fn shift(spec: &str) -> Jolt {
    jolt(&format!(r#"[{{"operation":"shift","spec":{spec}}}]"#))
}

/// `tests/data/hub/jolt.jsonl`: the test cases of fluvio-jolt 0.3.0 (`from`; most of them those of Java's Jolt, both
/// Apache-2.0), then specs and inputs made at random. `output` is what fluvio-jolt 0.3.0 made of them, null an error.
#[test]
fn what_the_original_made_is_made_byte_for_byte() {
    let cases = include_str!("../../../../tests/data/hub/jolt.jsonl");
    for line in cases.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let text = |name: &str| case[name].as_str().unwrap();
        let ours = run(&jolt(text("spec")), text("input"));
        assert_eq!(ours.ok().as_deref(), case["output"].as_str(), "{line}");
    }
    assert_eq!(cases.lines().count(), 251, "all of them are there");
}

/// <https://www.fluvio.io/docs/hub/smartmodules/jolt>; there the members are sorted, as in the first version.
#[test]
fn the_example_of_the_hub_page_works_in_the_dialect_it_is_written_in() {
    let spec = r#"[{"operation":"remove","spec":{"id":""}},{"operation":"shift","spec":{"*":"data.&0"}},
        {"operation":"default","spec":{"data":{"source":"http-connector"}}}]"#;
    let jolt = Jolt::new(spec, Dialect::Page).unwrap();
    assert_eq!(run(&jolt, "{}").unwrap(), r#"{"data":{"source":"http-connector"}}"#);
    assert_eq!(
        run(&jolt, r#"{"id":1, "name": "John Smith", "account": "1111" }"#).unwrap(),
        r#"{"data":{"account":"1111","name":"John Smith","source":"http-connector"}}"#
    );
    assert_eq!(
        run(&jolt, r#"{"id":1, "name": "John Smith", "source":"mqtt-connector" }"#).unwrap(),
        r#"{"data":{"source":"mqtt-connector","name":"John Smith"}}"#
    );
    let since = Jolt::new(spec, Dialect::Module).unwrap();
    assert_eq!(run(&since, r#"{"name":1}"#).unwrap(), r#"{"data":{"name0":1,"source":"http-connector"}}"#);
}

/// The test case `nested_variables.json` of fluvio-jolt 0.2.0.
#[test]
fn bare_levels_count_upwards() {
    let spec = r#"[{"operation":"shift","spec":{"t":{"m":{"*":"&2.&1.&0"},"*":"&1.&0"},"*":"&0"}}]"#;
    let jolt = Jolt::new(spec, Dialect::Page).unwrap();
    let input = r#"{"t":{"m":{"x":1},"q":{"v":3}},"bar":"bar"}"#;
    assert_eq!(run(&jolt, input).unwrap(), input);
}

#[test]
fn an_input_cannot_make_a_spec_fill_memory() {
    let mut big = String::from("{");
    for i in 0..5000 {
        big += &format!("\"key{i}\":\"{}\",", "x".repeat(20));
    }
    big.pop();
    big += "}";
    assert_eq!(run(&shift(r#"{"*":"&"}"#), &big).unwrap(), big);
    // The whole input once for each of its members.
    assert_eq!(run(&shift(r#"{"*":{"@(1,)":"all[]"}}"#), &big), Err(Failure::TooLong));
    assert_eq!(run(&shift(r#"{"*":"[@(0,)]"}"#), r#"{"a":18446744073709551615}"#), Err(Failure::TooLong));
    assert_eq!(run(&shift(r#"{"*":"[&]"}"#), r#"{"99999999":1}"#), Err(Failure::TooLong));
    assert!(run(&shift(r#"{"*":"[&]"}"#), r#"{"99999":1}"#).unwrap().len() < MAX_RECORD);
}

#[test]
fn a_result_that_could_not_be_read_again_fails() {
    let deep = vec![r#"{"operation":"shift","spec":{"@":"a.b.c.d.e.f.g.h"}}"#; 16].join(",");
    assert_eq!(run(&jolt(&format!("[{deep}]")), "1"), Err(Failure::TooDeep));
    let within = vec![r#"{"operation":"shift","spec":{"@":"a.b.c.d.e.f.g.h"}}"#; 15].join(",");
    let made = run(&jolt(&format!("[{within}]")), "1").unwrap();
    assert!(serde_json::from_str::<Value>(&made).is_ok());
    let most = format!("{}{}", "[".repeat(127), "]".repeat(127));
    assert_eq!(run(&jolt("[]"), &most).unwrap(), most);
    assert!(matches!(run(&jolt("[]"), &format!("[{most}]")), Err(Failure::NotJson(_))));
}

#[test]
fn a_spec_that_cannot_be_read_says_where() {
    let error = |spec: &str| Jolt::new(spec, Dialect::Module).unwrap_err().to_string();
    assert_eq!(error("{}"), "`spec`: a list of operations is expected");
    assert_eq!(error(r#"[{"operation":"sort","spec":{}}]"#).split('`').nth(1), Some("spec[0].operation"));
    assert_eq!(error(r#"[{"operation":"shift"}]"#), "`spec[0]`: `spec` is missing");
    assert_eq!(
        error(r#"[{"operation":"shift","spec":{"a":{"b":"c..d"}}}]"#),
        "`spec[0].spec.a.b`: `.` is not expected there"
    );
    assert_eq!(error(r#"[{"operation":"shift","spec":{"a.b":"c"}}]"#), "`spec[0].spec.a.b`: `.` is not expected there");
    assert_eq!(error(r#"[{"operation":"shift","spec":{"$":null}}]"#).split('`').nth(1), Some("spec[0].spec.$"));
    assert_eq!(error(r#"[{"operation":"shift","spec":{"a":1}}]"#).split('`').nth(1), Some("spec[0].spec.a"));
}

proptest! {
    /// Nothing that a record holds, and nothing that a spec says, ends the node.
    #[test]
    fn no_spec_and_no_value_panics(left in "[-a*|&$@#(),0-2\\\\]{0,6}", right in "[-a.&@\\[\\](),0-2]{0,8}", input in "[\\[\\]{}:,\"ab0-2]{0,20}") {
        let spec = serde_json::json!([{"operation": "shift", "spec": {left: {"*": right.clone(), "a": [right]}}}]).to_string();
        for dialect in [Dialect::Module, Dialect::Page] {
            if let Ok(jolt) = Jolt::new(&spec, dialect) {
                let _ = run(&jolt, &input);
                let _ = run(&jolt, r#"{"a":{"a":[1,{"a":"0"}],"0":2},"-":[["a"],true,null]}"#);
            }
        }
    }

    #[test]
    fn what_is_removed_or_added_once_stays_so(keys in prop::collection::vec("[abc]", 1..4)) {
        let spec: Value = keys.iter().map(|key| (key.clone(), Value::from(1))).collect::<serde_json::Map<_, _>>().into();
        for operation in ["default", "remove"] {
            let jolt = jolt(&serde_json::json!([{"operation": operation, "spec": spec}]).to_string());
            let once = run(&jolt, r#"{"a":{"b":2},"d":[]}"#).unwrap();
            prop_assert_eq!(&run(&jolt, &once).unwrap(), &once);
        }
    }
}
