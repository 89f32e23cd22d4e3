//! What fits and what does not: cases in the manner of the official suite, and an evaluator over a tree beside ours.

use super::*;
use proptest::prelude::*;
use serde_json::{Value as Json, json};

fn schema(text: &str) -> Schema {
    Schema::new(text.as_bytes(), Misfit::Fail).unwrap_or_else(|e| panic!("{text}: {e}"))
}

fn why(schema: &Schema, value: &str) -> Option<String> {
    schema.rewrite(&RecordRef::of(value.as_bytes())).err().map(|e| e.to_string())
}

#[test]
fn keywords_mean_what_the_specification_says() {
    // Schema; values that fit; values that do not.
    let cases: &[(&str, &[&str], &[&str])] = &[
        (r#"{}"#, &["1", "null", "{}"], &[]),
        ("true", &["1"], &[]),
        ("false", &[], &["1", "null"]),
        (
            r#"{"type":"integer"}"#,
            &["1", "1.0", "-0", "1e3", "18446744073709551616"],
            &["1.5", "\"1\"", "null", "1e-1"],
        ),
        (r#"{"type":["number","null"]}"#, &["1", "1.5", "null"], &["true", "\"\"", "{}", "[]"]),
        (
            r#"{"minimum":-2,"exclusiveMaximum":3}"#,
            &["-2", "-2.0", "2.999", "\"x\""],
            &["-2.0001", "3", "3.0", "1e400"],
        ),
        (r#"{"maximum":18446744073709551615}"#, &["18446744073709551615"], &["18446744073709551616"]),
        (r#"{"multipleOf":0.01}"#, &["0.07", "4.02", "1e308", "0"], &["0.001"]),
        (
            r#"{"minLength":2,"maxLength":3}"#,
            &["\"ab\"", "\"\\ud83d\\ude00x\"", "\"éé\"", "5"],
            &["\"\\u0041\"", "\"abcd\""],
        ),
        (r#"{"pattern":"^a\\d+$"}"#, &["\"a1\"", "1"], &["\"a\"", "\"a\u{661}\""]),
        (r#"{"pattern":"b+"}"#, &["\"abbc\""], &["\"ac\""]),
        (r#"{"format":"date-time"}"#, &["\"2020-01-01T00:00:00Z\"", "7"], &["\"2020-01-01\""]),
        (
            r#"{"enum":[1,"a",{"x":[1.0]},null]}"#,
            &["1.0", "\"\\u0061\"", "{ \"x\" : [1] }", "null"],
            &["2", "{\"x\":1}", "true"],
        ),
        (r#"{"const":{"a":1,"b":2}}"#, &["{\"b\":2,\"a\":1}"], &["{\"a\":1}", "[]"]),
        (r#"{"const":false}"#, &["false"], &["0", "null", "\"false\""]),
        (
            r#"{"properties":{"a":{"type":"string"}},"required":["a"]}"#,
            &["{\"a\":\"\"}", "[]", "{\"\\u0061\":\"\"}"],
            &["{}", "{\"a\":1}"],
        ),
        (
            r#"{"properties":{"a":true},"patternProperties":{"^x":{"type":"null"}},"additionalProperties":false}"#,
            &["{\"a\":1,\"xy\":null}", "{}"],
            &["{\"b\":1}", "{\"x\":1}"],
        ),
        (
            r#"{"additionalProperties":{"type":"integer"},"minProperties":1,"maxProperties":2}"#,
            &["{\"q\":1}"],
            &["{}", "{\"q\":\"\"}", "{\"a\":1,\"b\":1,\"c\":1}"],
        ),
        (r#"{"propertyNames":{"maxLength":2}}"#, &["{\"ab\":1}"], &["{\"abc\":1}"]),
        (
            r#"{"items":{"type":"integer"},"minItems":1,"maxItems":2}"#,
            &["[1]", "[1, 2 ]", "{}"],
            &["[]", "[1,2,3]", "[\"\"]"],
        ),
        (
            r#"{"prefixItems":[{"type":"integer"}],"items":{"type":"string"}}"#,
            &["[1,\"a\"]", "[]"],
            &["[\"a\"]", "[1,2]"],
        ),
        (r#"{"prefixItems":[true],"items":false}"#, &["[1]"], &["[1,2]"]),
        (r#"{"contains":{"minimum":5}}"#, &["[1,5]", "1"], &["[1]", "[]"]),
        (
            r#"{"uniqueItems":true}"#,
            &["[1,2,\"1\"]", "[]", "[true,1]", "[{\"a\":1},{\"a\":2}]"],
            &["[1,1.0]", "[{\"a\":1,\"b\":2},{\"b\":2,\"a\":1}]", "[\"a\",\"\\u0061\"]"],
        ),
        (r#"{"allOf":[{"minimum":1},{"maximum":2}]}"#, &["1"], &["0", "3"]),
        (r#"{"anyOf":[{"type":"integer"},{"minimum":2}]}"#, &["1", "2.5", "\"x\""], &["1.5"]),
        (r#"{"oneOf":[{"type":"integer"},{"minimum":2}]}"#, &["1", "2.5"], &["3", "1.5"]),
        (r#"{"not":{"type":"integer"}}"#, &["1.5", "\"\""], &["1"]),
        (r#"{"if":{"minimum":10},"then":{"multipleOf":5},"else":{"type":"integer"}}"#, &["10", "3"], &["11", "3.5"]),
        (r#"{"then":false}"#, &["1"], &[]),
        (r##"{"$ref":"#/$defs/n","$defs":{"n":{"minimum":1}},"maximum":2}"##, &["1"], &["0", "3"]),
        (r##"{"definitions":{"a/b~c":{"type":"null"}},"$ref":"#/definitions/a~1b~0c"}"##, &["null"], &["1"]),
        (
            r##"{"properties":{"next":{"$ref":"#"}},"additionalProperties":false}"##,
            &["{\"next\":{\"next\":{}}}"],
            &["{\"next\":{\"bad\":{}}}"],
        ),
        (
            r#"{"title":"t","description":"d","default":1,"examples":[1],"$schema":"s","x-unit":"m","$id":"i"}"#,
            &["1"],
            &[],
        ),
    ];
    for (text, fit, misfit) in cases {
        let schema = schema(text);
        for value in *fit {
            assert_eq!(why(&schema, value), None, "{text} {value}");
        }
        for value in *misfit {
            assert!(why(&schema, value).is_some(), "{text} {value}");
        }
    }
}

#[test]
fn what_does_not_fit_is_said_with_its_place() {
    let text = r#"{"required":["id"],"properties":{"pumps":{"items":{"properties":{"speed":{"maximum":3}}}},"id":{}},
        "additionalProperties":false}"#;
    let schema = schema(text);
    let why = |value: &str| why(&schema, value).unwrap();
    assert_eq!(why(r#"{"id":1,"pumps":[{},{"speed":4}]}"#), "`pumps.1.speed` is above the maximum");
    assert_eq!(why("{}"), "`id` is required and missing");
    assert_eq!(why(r#"{"id":1,"x":2}"#), "`x` is not allowed");
    assert!(why("{\"id\":").starts_with("not JSON"));
}

#[test]
fn what_does_not_fit_fails_or_is_dropped() {
    let drop = Schema::new(b"{\"type\":\"object\"}", Misfit::Drop).unwrap();
    let made = |value: &[u8]| drop.rewrite(&RecordRef::of(value)).unwrap();
    assert_eq!(made(b" {} "), Answer::Pass);
    assert_eq!(made(b"1"), Answer::Drop);
    assert_eq!(made(b"no JSON"), Answer::Drop);
    assert_ne!(drop, Schema::new(b"{\"type\":\"object\"}", Misfit::Fail).unwrap());
}

#[test]
fn schemas_that_could_not_be_held_to_are_refused_by_name() {
    let error = |text: &str| Schema::new(text.as_bytes(), Misfit::Fail).unwrap_err().to_string();
    assert_eq!(
        error(r#"{"properties":{"a":{"dependentRequired":{}}}}"#),
        "`#/properties/a`: the keyword `dependentRequired` is not known here; what it asks for would not be checked"
    );
    assert_eq!(error(r#"{"properties":{"a":{"type":"int"}}}"#), "`#/properties/a`: `type` has no type `int`");
    assert!(error(r#"{"minimun":1}"#).contains("`minimun`"));
    assert!(error(r#"{"$defs":{"x":{"unevaluatedItems":false}}}"#).contains("`unevaluatedItems`"));
    assert!(error(r#"{"$ref":"http://example.com/x"}"#).contains("only `#` and `#/...`"));
    assert!(error(r##"{"$ref":"#/$defs/x"}"##).contains("leads nowhere"));
    assert!(error(r#"{"format":"uri"}"#).contains("`uri` is not checked"));
    assert!(error(r#"{"pattern":"(?=x)"}"#).contains("`pattern` is not an expression"));
    assert!(error(r#"{"items":[{}]}"#).contains("prefixItems"));
    assert!(error(r#"{"multipleOf":0}"#).contains("above zero"));
    assert!(error(r#"{"minLength":-1}"#).contains("whole number"));
    assert!(error(r#"{"type":"null","type":"null"}"#).contains("comes twice"));
    assert!(error(r#"{"exclusiveMinimum":true}"#).contains("is not a number"));
    assert!(error("[]").contains("neither an object"));
    assert!(error("{").contains("not JSON"));
    assert!(error(r#"{"properties":{"a":{"$id":"x"}}}"#).contains("`$id`"));
}

#[test]
fn a_schema_without_an_end_and_one_that_doubles_are_given_up() {
    for endless in [r##"{"$ref":"#"}"##, r##"{"not":{"$ref":"#"}}"##, r##"{"anyOf":[{"$ref":"#"},true]}"##] {
        assert_eq!(why(&schema(endless), "1").unwrap(), "the value takes too much work to check");
    }
    let doubling = r##"{"anyOf":[{"properties":{"a":{"$ref":"#"}},"type":"object"},{"properties":{"a":{"$ref":"#"}},"required":["a"],"type":"object"}]}"##;
    let deep = format!("{}1{}", "{\"a\":".repeat(60), "}".repeat(60));
    assert!(why(&schema(doubling), &deep).unwrap().ends_with("takes too much work to check"));
    assert!(why(&schema(doubling), &deep.replace('1', "{}")).is_none());
}

#[test]
fn the_deepest_value_is_checked_to_its_end() {
    let nested = schema(r##"{"anyOf":[{"type":"array","items":{"$ref":"#"}},{"const":1}]}"##);
    let deep = |leaf: &str| format!("{}{leaf}{}", "[".repeat(100), "]".repeat(100));
    assert_eq!(why(&nested, &deep("1")), None);
    assert!(why(&nested, &deep("2")).is_some());
}

/// The meaning of the keywords, on trees, as plainly as it can be said.
fn fits(root: &Json, schema: &Json, value: &Json) -> bool {
    let Json::Object(keywords) = schema else { return schema == &Json::Bool(true) };
    let each = |list: &Json| list.as_array().unwrap().iter().filter(|s| fits(root, s, value)).count();
    let number = value.as_f64();
    let has = |name: &Json| value.as_object().unwrap().contains_key(name.as_str().unwrap());
    keywords.iter().all(|(keyword, k)| match (keyword.as_str(), value) {
        ("type", _) => match k.as_str().unwrap() {
            "integer" => number.is_some_and(|n| n.fract() == 0.0),
            "number" => number.is_some(),
            "string" => value.is_string(),
            "object" => value.is_object(),
            "array" => value.is_array(),
            "boolean" => value.is_boolean(),
            _ => value.is_null(),
        },
        ("enum", _) => k.as_array().unwrap().iter().any(|v| equal(v, value)),
        ("const", _) => equal(k, value),
        ("allOf", _) => each(k) == k.as_array().unwrap().len(),
        ("anyOf", _) => each(k) > 0,
        ("oneOf", _) => each(k) == 1,
        ("not", _) => !fits(root, k, value),
        ("$ref", _) => fits(root, &root["$defs"]["d"], value),
        ("minimum", Json::Number(_)) => number.unwrap() >= k.as_f64().unwrap(),
        ("exclusiveMaximum", Json::Number(_)) => number.unwrap() < k.as_f64().unwrap(),
        ("multipleOf", Json::Number(_)) => (number.unwrap() / k.as_f64().unwrap()).fract() == 0.0,
        ("maxLength", Json::String(s)) => s.chars().count() as u64 <= k.as_u64().unwrap(),
        ("pattern", Json::String(s)) => s.contains(k.as_str().unwrap()),
        ("properties", Json::Object(m)) => m.iter().all(|(name, v)| k.get(name).is_none_or(|s| fits(root, s, v))),
        ("additionalProperties", Json::Object(m)) => m
            .iter()
            .all(|(name, v)| keywords.get("properties").is_some_and(|p| p.get(name).is_some()) || fits(root, k, v)),
        ("required", Json::Object(_)) => k.as_array().unwrap().iter().all(has),
        ("minProperties", Json::Object(m)) => m.len() as u64 >= k.as_u64().unwrap(),
        ("items", Json::Array(a)) => {
            let prefix = keywords.get("prefixItems").map_or(0, |p| p.as_array().unwrap().len());
            a.iter().skip(prefix).all(|v| fits(root, k, v))
        }
        ("prefixItems", Json::Array(a)) => a.iter().zip(k.as_array().unwrap()).all(|(v, s)| fits(root, s, v)),
        ("contains", Json::Array(a)) => a.iter().any(|v| fits(root, k, v)),
        ("maxItems", Json::Array(a)) => a.len() as u64 <= k.as_u64().unwrap(),
        ("uniqueItems", Json::Array(a)) => {
            !k.as_bool().unwrap() || (0..a.len()).all(|i| (0..i).all(|j| !equal(&a[i], &a[j])))
        }
        _ => true,
    })
}

fn equal(a: &Json, b: &Json) -> bool {
    match (a, b) {
        (Json::Number(a), Json::Number(b)) => a.as_f64() == b.as_f64(),
        (Json::Array(a), Json::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        (Json::Object(a), Json::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| equal(a, b)))
        }
        (a, b) => a == b,
    }
}

fn any_value() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        (-4i64..5).prop_map(Json::from),
        (-8i32..9).prop_map(|n| (f64::from(n) / 2.0).into()),
        "[ab\"]{0,3}".prop_map(Json::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Json::Array),
            prop::collection::vec(("[a-c]", inner), 0..4).prop_map(|m| Json::Object(m.into_iter().collect())),
        ]
    })
}

fn any_schema() -> impl Strategy<Value = Json> {
    let kinds = prop::sample::select(vec!["integer", "number", "string", "object", "array", "boolean", "null"]);
    let plain = prop_oneof![
        2 => kinds.prop_map(|k| json!({"type": k})),
        1 => any::<bool>().prop_map(Json::Bool),
        1 => any_value().prop_map(|v| json!({"const": v})),
        1 => prop::collection::vec(any_value(), 1..4).prop_map(|v| json!({"enum": v})),
        1 => (-3i64..4, -3i64..4).prop_map(|(a, b)| json!({"minimum": a, "exclusiveMaximum": b})),
        1 => prop::sample::select(vec![0.5, 1.0, 2.0]).prop_map(|n| json!({"multipleOf": n})),
        1 => (0u8..3).prop_map(|n| json!({"maxLength": n, "maxItems": n, "minProperties": n})),
        1 => Just(json!({"pattern": "a", "uniqueItems": true})),
        1 => prop::collection::btree_set("[a-c]", 0..3).prop_map(|names| json!({"required": names})),
        1 => Just(json!({"$ref": "#/$defs/d"})),
    ];
    plain.prop_recursive(3, 16, 3, |inner| {
        let list = || prop::collection::vec(inner.clone(), 1..4);
        prop_oneof![
            list().prop_map(|s| json!({"allOf": s})),
            list().prop_map(|s| json!({"anyOf": s})),
            list().prop_map(|s| json!({"oneOf": s})),
            inner.clone().prop_map(|s| json!({"not": s})),
            (list(), inner.clone()).prop_map(|(p, s)| json!({"prefixItems": p, "items": s})),
            inner.clone().prop_map(|s| json!({"contains": s})),
            (prop::collection::btree_map("[a-c]", inner.clone(), 0..3), inner.clone())
                .prop_map(|(p, s)| json!({"properties": p, "additionalProperties": s})),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn it_says_what_an_evaluator_over_a_tree_says(one in any_schema(), two in any_schema(), value in any_value(), pretty: bool) {
        // The definition has no reference of its own, so that the plain evaluator comes to an end.
        let definition: Json = serde_json::from_str(&two.to_string().replace("\"$ref\":\"#/$defs/d\"", "\"type\":\"string\"")).unwrap();
        let root = json!({"$defs": {"d": definition}, "allOf": [one]});
        let schema = Schema::new(root.to_string().as_bytes(), Misfit::Fail).unwrap();
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
        prop_assert_eq!(why(&schema, &text).is_none(), fits(&root, &root, &value), "{} {}", root, value);
    }

    #[test]
    fn broken_schemas_and_values_never_panic(one in any_schema(), value in any_value(), cut in 0usize..200, put: u8) {
        let break_at = |text: String| {
            let mut bytes = text.into_bytes();
            let at = cut % bytes.len();
            bytes[at] = put;
            bytes
        };
        let _ = Schema::new(&break_at(one.to_string()), Misfit::Fail);
        let root = json!({"$defs": {"d": true}, "allOf": [one]});
        let schema = Schema::new(root.to_string().as_bytes(), Misfit::Fail).unwrap();
        let _ = schema.rewrite(&RecordRef::of(&break_at(value.to_string())));
    }
}
