//! The bundled modules: examples of their pages, what the originals made, and what no parameter may do.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn entry(uses: &str, with: Value) -> Result<Module, Error> {
    let with: Vec<(String, Value)> = with.as_object().unwrap().clone().into_iter().collect();
    from_transform(uses, &with)
}

fn module(uses: &str, with: Value) -> Module {
    entry(uses, with).unwrap()
}

/// What a module makes of a value, and what it emits.
fn run(module: &Module, value: &[u8]) -> Result<(Made, Vec<String>), Failure> {
    let mut out = b"left over".to_vec();
    let mut values = Vec::new();
    let mut emit = |value: &[u8]| values.push(String::from_utf8(value.to_vec()).unwrap());
    let made = module.apply(value, &mut out, &mut emit)?;
    if made == Made::Value {
        values.push(String::from_utf8(out).unwrap());
    }
    Ok((made, values))
}

fn made(module: &Module, value: &str) -> String {
    let (made, mut values) = run(module, value.as_bytes()).unwrap();
    assert_eq!((made, values.len()), (Made::Value, 1));
    values.remove(0)
}

fn place(error: Result<Module, Error>) -> String {
    match error.unwrap_err() {
        Error::Parameter { place, .. } => place,
        other => panic!("{other}"),
    }
}

/// `tests/data/hub/json.jsonl`: specs and inputs made at random; `output` is what the originals' own code makes of them
/// (regex-map-json 0.1.2; json-formatter 0.1.3 with dyn-fmt 0.4 and json_value_merge 2.0; casing-json 0.1.0 with
/// convert_case 0.8).
#[test]
fn what_the_originals_made_is_made_byte_for_byte() {
    let cases = include_str!("../../../tests/data/hub/json.jsonl");
    for line in cases.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let text = |name: &str| case[name].as_str().unwrap();
        let module = module(text("uses"), json!({"spec": text("spec")}));
        assert_eq!(made(&module, text("input")), text("output"), "{line}");
    }
    assert_eq!(cases.lines().count(), 180, "all of them are there");
}

#[test]
fn a_name_is_read_in_each_spelling() {
    let with = json!({"regex": "a"});
    let plain = module("regex-filter", with.clone());
    for uses in ["infinyon/regex-filter@0.1.0", "infinyon/regex-filter", "regex-filter@9.9.9-x", "fluvio/regex-filter@"]
    {
        assert_eq!(module(uses, with.clone()), plain, "{uses}");
        assert!(is_bundled(uses));
    }
    for (name, other) in [("regex-map", "regex-text"), ("regex-map-json", "regex-json")] {
        assert_eq!(module(name, json!({"spec": []})), module(other, json!({"spec": []})));
    }
}

#[test]
fn another_name_is_an_error_that_helps() {
    let error = |uses: &str| entry(uses, json!({})).unwrap_err().to_string();
    assert_eq!(
        error("infinyon/regex-fliter@0.1.0"),
        "no bundled rule is named `infinyon/regex-fliter@0.1.0`; did you mean `regex-filter`?"
    );
    assert_eq!(
        error("acme/jolt"),
        "no bundled rule is named `acme/jolt`; bundled is `jolt` of infinyon, infinyon-labs, fluvio"
    );
    assert!(error("something-else").ends_with("; there are regex-filter, regex-map, regex-text, regex-map-json, regex-json, jolt, json-sql, array-map-json, json-formatter, key-gen-json, casing-json"));
    assert_eq!(
        entry("infinyon-labs/dedup-filter@0.0.2", json!({})),
        Err(Error::Dedup("infinyon-labs/dedup-filter@0.0.2".into()))
    );
    assert_eq!(entry("infinyon-labs/rss-json", json!({})), Err(Error::Elsewhere("infinyon-labs/rss-json".into())));
    for uses in ["", "@", "/", "infinyon/", "a/b/jolt", "jolt/x", "infinyon/jolt/x"] {
        assert!(matches!(entry(uses, json!({})), Err(Error::Unknown { .. })), "{uses}");
        assert!(!is_bundled(uses));
    }
}

#[test]
fn every_name_makes_its_module() {
    let with = |name: &str| match name {
        "regex-filter" => json!({"regex": ""}),
        "json-sql" => json!({"mapping": {"table": "t", "columns": {}}}),
        "array-map-json" => json!({}),
        "json-formatter" => json!({"spec": {"default": {"format": {"with": "", "using": [], "output": "/a"}}}}),
        "key-gen-json" => json!({"spec": {"lookup": [], "key_name": "k"}}),
        "casing-json" => json!({"spec": {}}),
        _ => json!({"spec": []}),
    };
    for name in NAMES {
        assert!(entry(name, with(name)).is_ok(), "{name}");
        let mut misspelt = with(name);
        misspelt["sepc"] = json!(1);
        assert_eq!(place(entry(name, misspelt)), "sepc", "{name}");
    }
}

#[test]
fn a_parameter_is_text_or_json_as_the_original_gets_it() {
    let spec = json!([{"replace": {"regex": "a", "with": "b"}}]);
    assert_eq!(module("regex-text", json!({"spec": spec.to_string()})), module("regex-text", json!({"spec": spec})));
    assert_eq!(place(entry("regex-filter", json!({"regex": 42}))), "regex");
    assert_eq!(place(entry("regex-filter", json!({}))), "regex");
    // As JSON, since a list is no text.
    assert_eq!(run(&module("regex-filter", json!({"regex": ["a"]})), b"a").unwrap().0, Made::Pass);
}

#[test]
fn the_version_tells_jolt_how_a_digit_is_read() {
    let spec = json!({"spec": [{"operation": "shift", "spec": {"*": "&0"}}]});
    for (uses, output) in [
        ("jolt", r#"{"a":1}"#),
        ("infinyon/jolt@x.y.z", r#"{"a":1}"#),
        ("infinyon/jolt@0.2.0", r#"{"a":1}"#),
        ("infinyon/jolt@0.3.0", r#"{"a0":1}"#),
        ("infinyon/jolt@0.4.1", r#"{"a0":1}"#),
        ("infinyon/jolt@1.0.0", r#"{"a0":1}"#),
    ] {
        assert_eq!(made(&module(uses, spec.clone()), r#"{"a":1}"#), output, "{uses}");
    }
}

/// <https://www.fluvio.io/docs/hub/smartmodules/regex>
#[test]
fn regex_filter_passes_what_matches_somewhere() {
    let filter = module("infinyon/regex-filter@0.1.0", json!({"regex": "[Cc]at"}));
    assert_eq!(run(&filter, br#"{"fact": "Cats have supersonic hearing"}"#).unwrap().0, Made::Pass);
    let dogs = br#"{"fact": "Dogs have sweat glands at the bottom of their paws"}"#;
    assert_eq!(run(&filter, dogs).unwrap().0, Made::Drop);
    assert_eq!(run(&filter, b"\xffcat"), Err(Failure::NotText));
    assert_eq!(place(entry("regex-filter", json!({"regex": "("}))), "regex");
    assert_eq!(place(entry("regex-filter", json!({"regex": r"(\w{100}){100}"}))), "regex");
}

/// <https://github.com/infinyon/labs-regex-map-sm>, its tests.
#[test]
fn regex_text_replaces_every_match_and_nothing_else() {
    let text = module(
        "infinyon-labs/regex-map@0.1.1",
        json!({"spec": [
            {"replace": {"regex": r"\d{3}-\d{2}-\d{4}", "with": "***-**-****"}},
            {"replace": {"regex": r#"(?P<first>"address":\s+\")([\w\d\s]+),"#, "with": "${first}..."}},
        ]}),
    );
    for (value, output) in [
        ("Alice, ssn 123-45-6789, Jack, ssn 987-65-4321", "Alice, ssn ***-**-****, Jack, ssn ***-**-****"),
        (r#""address": "285 LA PALA DR APT 2343, SAN JOSE CA 95127""#, r#""address": "... SAN JOSE CA 95127""#),
        (" not a  match, no JSON ", " not a  match, no JSON "),
    ] {
        assert_eq!(made(&text, value), output);
    }
    let long = module("regex-text", json!({"spec": [{"replace": {"regex": "", "with": "0123456789"}}]}));
    assert_eq!(run(&long, &[b'a'; 100_000]), Err(Failure::TooLong));
    assert_eq!(place(entry("regex-text", json!({"spec": [{"replace": {"regex": "a"}}]}))), "spec[0].replace.with");
}

/// <https://github.com/infinyon/labs-regex-map-json-sm>, its page.
#[test]
fn regex_json_captures_and_replaces_in_fields() {
    let spec = json!([
        {"capture": {"regex": r"(?i)Highlights:\s+(\w+)\b", "target": "/description", "output": "/parsed/highlights"}},
        {"capture": {"regex": r"(?i)Entity:\s+([\w,\s\.\']*\S)\s*\[", "target": "/description", "output": "/parsed/entity"}},
        {"capture": {"regex": "href='([^']+)'", "target": "/description", "output": "/parsed/doc-link"}},
        {"capture": {"regex": "(no match)", "target": "/description", "output": "/parsed/none"}},
        {"replace": {"regex": r"\d{3}-\d{2}-\d{4}", "target": "/customer/ssn", "with": "***-**-****"}},
        {"replace": {"regex": ".", "target": "/not/there", "with": "x"}},
    ]);
    let module = module("infinyon-labs/regex-map-json@0.1.2", json!({"spec": spec}));
    let description =
        "Highlights: 43 Entity: Draft Documents [Encased string - (data)] (<a href='https://example.com/doc1'>9</a>)";
    let value = json!({"description": description, "customer": {"ssn": "123-45-6789", "first": "Abby"}});
    let expected = json!({
        "customer": {"first": "Abby", "ssn": "***-**-****"},
        "description": description,
        "parsed": {"doc-link": "https://example.com/doc1", "entity": "Draft Documents", "highlights": "43"},
    });
    assert_eq!(made(&module, &value.to_string()), expected.to_string());
    let both = json!([{"capture": {}, "replace": {}}]);
    assert_eq!(place(entry("regex-json", json!({"spec": both}))), "spec[0]");
}

/// <https://www.fluvio.io/docs/hub/smartmodules/json-sql>; its columns are in another order.
#[test]
fn json_sql_makes_an_insert_with_its_columns_by_name() {
    let mapping = json!({
        "table": "target_table",
        "map-columns": {
            "device_id": {"json-key": "device.device_id", "value": {"type": "int", "required": true}},
            "device_type": {"json-key": "$.device.type", "value": {"type": "text", "default": "mobile"}},
            "empty": {"json-key": ".device.none.0", "value": {"type": "float8"}},
            "record": {"json-key": "$", "value": {"type": "jsonb", "required": true}},
            "number": {"json-key": "no", "value": {"type": "double precision", "default": 1e20}},
        }
    });
    let insert = module("infinyon/json-sql@0.2.1", json!({"mapping": mapping}));
    assert_eq!(
        made(&insert, r#"{"device":{ "device_id":1 }}"#),
        concat!(
            r#"{"Insert":{"table":"target_table","values":[{"column":"device_id","raw_value":"1","type":"Int"},"#,
            r#"{"column":"device_type","raw_value":"mobile","type":"Text"},"#,
            r#"{"column":"empty","raw_value":"","type":"DoublePrecision"},"#,
            r#"{"column":"number","raw_value":"100000000000000000000","type":"DoublePrecision"},"#,
            r#"{"column":"record","raw_value":"{\"device\":{\"device_id\":1}}","type":"Json"}]}}"#
        )
    );
    assert_eq!(run(&insert, b"{}"), Err(Failure::Missing("device.device_id".into())));
    let upsert = json!({"table": "t", "operation": "upsert", "uniq-idx": "id", "columns": {}});
    let upsert = module("json-sql", json!({"mapping": upsert}));
    assert_eq!(made(&upsert, "[]"), r#"{"Upsert":{"table":"t","values":[],"uniq_idx":"id"}}"#);
}

#[test]
fn json_sql_reads_each_type_and_refuses_what_it_cannot() {
    let column = |kind: &str| {
        let columns = json!({"c": {"json_key": "a", "value": {"type": kind}}});
        entry("json-sql", json!({"mapping": {"table": "t", "columns": columns}}))
    };
    for (kind, model) in
        [("int8", "BigInt"), ("bool", "Bool"), ("bytea", "Bytes"), ("decimal", "Numeric"), ("uuid", "Uuid")]
    {
        let output = made(&column(kind).unwrap(), r#"{"a":true}"#);
        assert!(output.contains(&format!(r#""raw_value":"true","type":"{model}""#)), "{output}");
    }
    assert_eq!(place(column("int3")), "mapping.columns.c.value.type");
    let place = |mapping: Value| place(entry("json-sql", json!({"mapping": mapping})));
    assert_eq!(place(json!({"columns": {}})), "mapping.table");
    assert_eq!(place(json!({"table": "t"})), "mapping.map-columns");
    assert_eq!(place(json!({"table": "t", "columns": {}, "operation": "upsert"})), "mapping.operation");
    assert_eq!(place(json!({"table": "t", "colums": {}})), "mapping.colums");
}

/// <https://github.com/infinyon/labs-array-map-json>
#[test]
fn array_map_json_makes_a_value_of_each_item() {
    let array = module("infinyon-labs/array-map-json@0.1.0", json!({}));
    let values = |value: &[u8]| run(&array, value);
    assert_eq!(
        values(br#"[{"one": 1}, {"two": 2}]"#),
        Ok((Made::Many, vec![r#"{"one":1}"#.into(), r#"{"two":2}"#.into()]))
    );
    assert_eq!(values(b"[]"), Ok((Made::Many, vec![])));
    assert_eq!(
        values(br#"[{"b":1.50,"a":1E2,"b":-0}, "\u00e9\/"]"#),
        Ok((Made::Many, vec![r#"{"a":100.0,"b":-0.0}"#.into(), r#""é/""#.into()]))
    );
    assert_eq!(values(b"{}"), Err(Failure::NoArray));
    assert!(matches!(values(b"[1,2"), Err(Failure::NotJson(_))));
    assert!(matches!(values(b"[\"\xff\"]"), Err(Failure::NotJson(_))));
}

/// <https://github.com/infinyon/labs-json-formatter-sm>, its page.
#[test]
fn json_formatter_adds_the_text_of_the_first_case_that_holds() {
    let format = |with: &str, using: Value| json!({"with": with, "using": using, "output": "/formatted"});
    let case = |value: &str, format: Value| json!({"key": "/type", "value": value, "format": format});
    let subscribed = format(":loudspeaker: {} ({}) subscribed on {}", json!(["/name", "/email", "/source"]));
    let solve = format(":confetti_ball: {} ({}) wants to solve:\n>{}", json!(["/name", "/email", "/description"]));
    let submitted = format("{} ({}) submitted a request", json!(["/name", "/email"]));
    let spec =
        json!({"match": [case("subscribe", subscribed), case("use-case", solve)], "default": {"format": submitted}});
    let formatter = module("infinyon-labs/json-formatter@0.1.3", json!({"spec": spec}));
    for (value, output) in [
        (
            r#"{"email":"alice@acme.com","name":"Alice Liddell","type":"subscribe","source":"front-page"}"#,
            r#"{"email":"alice@acme.com","formatted":":loudspeaker: Alice Liddell (alice@acme.com) subscribed on front-page","name":"Alice Liddell","source":"front-page","type":"subscribe"}"#,
        ),
        (
            r#"{"email":"bob@acme.com","name":"Bob Newland","type":"use-case","description":"Trucks"}"#,
            r#"{"description":"Trucks","email":"bob@acme.com","formatted":":confetti_ball: Bob Newland (bob@acme.com) wants to solve:\n>Trucks","name":"Bob Newland","type":"use-case"}"#,
        ),
        (
            r#"{"email":"random@acme.com","name":"Random Dude","type":"undefined"}"#,
            r#"{"email":"random@acme.com","formatted":"Random Dude (random@acme.com) submitted a request","name":"Random Dude","type":"undefined"}"#,
        ),
    ] {
        assert_eq!(made(&formatter, value), output);
    }
    let with = json!({"spec": {"default": {"format": {"with": "{}", "using": ["/a"]}}}});
    assert_eq!(place(entry("json-formatter", with)), "spec.default.format.output");
}

#[test]
fn json_formatter_repeats_no_field_beyond_a_record() {
    let format = json!({"with": "{}".repeat(60), "using": vec!["/a"; 60], "output": "/b"});
    let formatter = module("json-formatter", json!({"spec": {"default": {"format": format}}}));
    let value = format!(r#"{{"a":"{}"}}"#, "x".repeat(10_000));
    assert_eq!(run(&formatter, value.as_bytes()), Err(Failure::TooLong));
}

/// <https://github.com/infinyon/labs-key-gen-json-sm>, its page and tests.
#[test]
fn key_gen_json_adds_a_digest_of_the_fields() {
    let spec = |lookup: Value| json!({"spec": {"lookup": lookup, "key_name": "dedup_key"}});
    let keys = module("infinyon-labs/key-gen-json@0.1.0", spec(json!(["/pub_date", "/last_build_date", "/none"])));
    let value = r#"{"last_build_date": "Tue, 18 Apr 2023 15:00:01 GMT", "pub_date": "Mon, 17 Apr 2023 16:08:23 GMT"}"#;
    assert_eq!(
        made(&keys, value),
        r#"{"dedup_key":"3193200642d322d171dd4c05875741ff7a4fc0f7a467b52d514d5ce273d4f762","last_build_date":"Tue, 18 Apr 2023 15:00:01 GMT","pub_date":"Mon, 17 Apr 2023 16:08:23 GMT"}"#
    );
    let list = module("key-gen-json", spec(json!(["/a"])));
    let output = made(&list, r#"{"a": ["Sara", "Alex", "Jack"], "dedup_key": 1}"#);
    assert_eq!(
        output,
        r#"{"a":["Sara","Alex","Jack"],"dedup_key":"0c5507584b9b6c163335cd626fca364a3a34835a71383111b492a2249a64535f"}"#
    );
    assert_eq!(made(&list, "[ 1 ]"), "[1]");
    assert_eq!(place(entry("key-gen-json", spec(json!(["name.last"])))), "spec.lookup[0]");
}

/// <https://github.com/fluvio-community/smartmodules>, its test.
#[test]
fn casing_json_goes_as_deep_as_it_is_told() {
    let camel = module("fluvio/casing-json@0.1.0", json!({"spec": {"casing": "camel", "depth": 2}}));
    assert_eq!(
        made(&camel, r#"{"foo_bar":"foo","ipsum":{"foo_bar":{"more_foo":"bar"}}}"#),
        r#"{"fooBar":"foo","ipsum":{"fooBar":{"more_foo":"bar"}}}"#
    );
    let snake = module("casing-json", json!({}));
    assert_eq!(made(&snake, r#"[{"HTTPServer2":{"fooBar":1}}]"#), r#"[{"http_server_2":{"foo_bar":1}}]"#);
    assert_eq!(place(entry("casing-json", json!({"spec": {"casing": "camle"}}))), "spec.casing");
    assert_eq!(place(entry("casing-json", json!({"spec": {"depth": 256}}))), "spec.depth");
}

/// One of each, with parameters that reach most of what it does.
fn some_of_each() -> Vec<Module> {
    let format = json!({"with": "{}-{", "using": ["/a", ""], "output": "/a/0/*/b"});
    let capture = json!({"regex": "(.)", "target": "/a", "output": "/a/b/0"});
    vec![
        module("regex-filter", json!({"regex": "a.c"})),
        module("regex-text", json!({"spec": [{"replace": {"regex": "(a)|b", "with": "$1$1"}}]})),
        module(
            "regex-json",
            json!({"spec": [{"capture": capture}, {"replace": {"regex": "", "target": "", "with": "ab"}}]}),
        ),
        module(
            "jolt",
            json!({"spec": [
                {"operation": "remove", "spec": {"a": {"b": ""}}},
                {"operation": "shift", "spec": {"a|*": {"@": "&(1)[]", "*": "x.&[&]", "$": "k[]"}}},
                {"operation": "default", "spec": {"x": {"y": [1, null]}}},
            ]}),
        ),
        module(
            "json-sql",
            json!({"mapping": {"table": "t", "columns": {"a": {"json-key": "a.0", "value": {"type": "text"}}}}}),
        ),
        module("array-map-json", json!({})),
        module("json-formatter", json!({"spec": {"default": {"format": format}}})),
        module("key-gen-json", json!({"spec": {"lookup": ["/a", ""], "key_name": "a"}})),
        module("casing-json", json!({"spec": {"casing": "pascal"}})),
    ]
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<i16>().prop_map(|n| Value::from(f64::from(n) / 8.0)),
        "\\PC{0,4}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 64, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map("a|b|[aB0]{0,3}|\\PC{0,2}", inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_value_panics_and_what_is_made_can_be_read(value in any::<Vec<u8>>(), json in any_json()) {
        for module in some_of_each() {
            let _ = run(&module, &value);
            let text = json.to_string();
            if let Ok((_, values)) = run(&module, text.as_bytes()) && !matches!(module, Module::RegexText(_)) {
                for value in values {
                    prop_assert!(serde_json::from_str::<Value>(&value).is_ok(), "{value}");
                }
            }
        }
    }

    #[test]
    fn a_digest_is_the_same_once_it_is_there(json in any_json()) {
        let keys = module("key-gen-json", json!({"spec": {"lookup": ["/a", "/b"], "key_name": "k"}}));
        let once = made(&keys, &json.to_string());
        prop_assert_eq!(made(&keys, &once), once);
    }

    #[test]
    fn a_casing_changes_nothing_twice(json in any_json(), casing in "snake|kebab|constant|cobol") {
        let ascii = json.to_string().is_ascii();
        let module = module("casing-json", json!({"spec": {"casing": casing}}));
        let once = made(&module, &json.to_string());
        prop_assert!(!ascii || made(&module, &once) == once);
    }

    #[test]
    fn no_parameter_panics(spec in any_json(), name in prop::sample::select(&NAMES[..]), text in "\\PC{0,12}") {
        for parameter in ["regex", "spec", "mapping"] {
            let _ = entry(name, json!({parameter: spec.clone()}));
            let _ = entry(name, json!({parameter: text.clone()}));
        }
        let _ = entry(&text, json!({}));
    }
}
