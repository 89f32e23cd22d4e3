//! The other bundled rules: modules of the Hub, schemas, what hides, what reshapes, tables and databases. Their specs are sound
//! ones, bent; their values anything that a device may send. What must hold: none panics, none runs out of stack however
//! deep the value is nested, none takes more memory than its bound, and what it makes is JSON.

use headwater::json::Path;
use headwater::limits::MAX_RECORD;
use headwater::record::RecordRef;
use headwater::rules::Answer;
use headwater::rules::drop_fields::DropFields;
use headwater::rules::hash::{Encoding, Hashing};
use headwater::rules::hub::{self, Made};
use headwater::rules::keep_fields::KeepFields;
use headwater::rules::mask::{Mask, Masking, Replace};
use headwater::rules::rename::Rename;
use headwater::rules::replace::Target;
use headwater::rules::schema::{Misfit, Schema};
use serde_json::Value;

use super::text::words;
use super::{Input, bend, geo, held, json};

/// What one value takes on its way through a rule: a result of the largest size as it grows, beside the tree of the value, of
/// which each level and each name is some hundred bytes, and expressions in use.
const WORKING: usize = 8 * MAX_RECORD;
const TREE: usize = 256;
/// What a spec takes: expressions, each at most 256 KiB and as much again while it is built; and of one that is nested
/// thousands deep each byte until it is refused.
const BUILDING: usize = 8 * 1024 * 1024;
const NESTED: usize = 2048;

const SPECS: [(&str, &str, &str); 16] = [
    ("regex-filter", "regex", "[Cc]at|^b(oil)*er$"),
    ("regex-map", "spec", r#"[{"replace":{"regex":"(\\d+)-(?P<x>a)?","with":"$x${1}$$"}}]"#),
    (
        "regex-map-json",
        "spec",
        r#"[{"capture":{"regex":"(?i)b(.)","target":"/a","output":"/b/0"}},{"replace":{"regex":"a*","target":"/c/b","with":"$0$0"}}]"#,
    ),
    (
        "jolt@0.4.1",
        "spec",
        r##"[{"operation":"shift","spec":{"a":{"*":{"@(1,b)":"x.&1[]","$":"k.&(1,1)","#lit":"l"}},"*":"&.y","b|c":"[&]"}},{"operation":"default","spec":{"x":{"y":1}}},{"operation":"remove","spec":{"k":""}}]"##,
    ),
    ("jolt", "spec", r#"[{"operation":"shift","spec":{"*":"data.&0"}}]"#),
    (
        "jolt@0.3.0",
        "spec",
        r#"[{"operation":"shift","spec":{"*":{"*":{"*":{"@(2,&1)":"&2.&1[&]"}},"$(1)":"@(0,n).&"}}}]"#,
    ),
    ("jolt@0.4.1", "spec", r##"[{"operation":"shift","spec":{"*-*":"&(0,1).&(0,2)","n":"a[@(1,n)].b","@":"all"}}]"##),
    (
        "json-sql",
        "mapping",
        r#"{"table":"t","map-columns":{"a":{"json-key":"$.a.0","value":{"type":"int","required":true}},"b":{"json-key":"c.b","value":{"type":"jsonb","default":null}}}}"#,
    ),
    (
        "json-sql",
        "mapping",
        r#"{"table":"t","operation":"upsert","uniq-idx":"id","columns":{"c":{"json_key":"$","value":{"type":"numeric","default":1e20}}}}"#,
    ),
    ("array-map-json", "input", "x"),
    (
        "json-formatter",
        "spec",
        r#"{"match":[{"key":"/a","value":1,"format":{"with":"{}-{{}}","using":["/b","/c/b"],"output":"/d/0"}}],"default":{"format":{"with":"{}","using":[""],"output":"/a"}}}"#,
    ),
    ("json-formatter", "spec", r#"{"default":{"format":{"with":"","using":[],"output":""}}}"#),
    ("key-gen-json", "spec", r#"{"lookup":["/a","/c/0/b",""],"key_name":"a b"}"#),
    ("casing-json", "spec", r#"{"casing":"camel","depth":200}"#),
    ("casing-json", "spec", r#"{"casing":"snake"}"#),
    ("regex-text", "spec", r#"[{"replace":{"regex":"","with":"0123456789"}}]"#),
];

const SCHEMAS: [&str; 8] = [
    r##"{"type":"object","properties":{"a":{"$ref":"#/$defs/x"},"c":{"items":{"$ref":"#"}}},"$defs":{"x":{"anyOf":[{"type":"integer","multipleOf":0.01},{"type":"array","uniqueItems":true}]}}}"##,
    r##"{"$ref":"#"}"##,
    r##"{"anyOf":[{"$ref":"#/anyOf/1"},{"items":{"$ref":"#"},"additionalProperties":{"$ref":"#"}}]}"##,
    r#"{"allOf":[{"required":["a"]},{"if":{"minProperties":2},"then":{"propertyNames":{"pattern":"^[a-z]$"}},"else":false}]}"#,
    r#"{"oneOf":[{"const":{"a":[1,2.0]}},{"enum":[null,"x",1e400]},{"not":{"type":["null","string"]}}]}"#,
    r#"{"patternProperties":{"^(a|b)+$":{"minimum":-1e-400,"exclusiveMaximum":99999999999999999999}},"additionalProperties":false}"#,
    r#"{"prefixItems":[true,{"format":"date-time"},{"format":"ipv6"}],"contains":{"maxLength":3},"minItems":1,"maxItems":4}"#,
    r#"{"properties":{"a":{"format":"time"},"b":{"format":"uuid"},"ip":{"format":"ipv4"},"n":{"multipleOf":1e-7,"maximum":1e19}}}"#,
];

pub fn bundled(data: &[u8]) {
    let mut input = Input(data);
    match input.byte() % 8 {
        0..=2 => modules(&mut input),
        3 => schemas(&mut input),
        4 => hides(&mut input),
        5 => shapes(&mut input),
        6 => geo::databases(&mut input),
        _ => geo::tables(&mut input),
    }
}

fn most(value: &[u8]) -> usize {
    WORKING + TREE * value.len()
}

// ------------------------------------------------------------------------------------------------ the Hub

fn modules(input: &mut Input<'_>) {
    let (uses, parameter, spec) = input.pick(&SPECS);
    let spec = match input.below(4) {
        0 => json::any(input),
        1 => {
            let mut spec = spec.as_bytes().to_vec();
            // A piece of another one in it, and bent.
            let other = input.pick(&SPECS).2.as_bytes();
            let (at, from) = (input.u16() % (spec.len() + 1), input.u16() % other.len());
            spec.splice(at..at, other[from..].iter().copied().take(usize::from(input.below(40))));
            bend(&mut spec, input);
            spec
        }
        _ => spec.as_bytes().to_vec(),
    };
    let len = spec.len();
    let spec = serde_json::from_slice(&spec).unwrap_or_else(|_| Value::String(words(&spec).into_owned()));
    let entries = [(parameter.to_owned(), spec)];
    let made = held::within(BUILDING + len * NESTED, "a module", || hub::from_transform(uses, &entries));
    let Ok(module) = made else { return };
    for value in [json::any(input), input.0.to_vec()] {
        let (mut out, mut items) = (b"before".to_vec(), 0);
        let came = held::within(most(&value), uses, || {
            module.apply(&value, &mut out, &mut |item| {
                json::assert_sound(item, b"", uses);
                items += 1;
            })
        });
        assert!(items == 0 || matches!(came, Ok(Made::Many)));
        if let Ok(Made::Value) = came {
            assert!(out.len() <= MAX_RECORD, "{} bytes", out.len());
            if !uses.starts_with("regex-map@") && !matches!(uses, "regex-map" | "regex-text") {
                json::assert_sound(&out, b"", uses);
            }
        }
    }
}

// ------------------------------------------------------------------------------------------------ schemas

fn schemas(input: &mut Input<'_>) {
    let mut text = input.pick(&SCHEMAS).as_bytes().to_vec();
    match input.below(4) {
        0 => text = json::any(input),
        1 => drop(bend(&mut text, input)),
        _ => {}
    }
    let made = held::within(BUILDING + NESTED * text.len(), "a schema", || Schema::new(&text, Misfit::Fail));
    let schema = match made {
        Ok(schema) => schema,
        Err(error) => return assert!(error.to_string().len() < 4096, "{error}"),
    };
    for value in [json::any(input), json::any(input), input.0.to_vec()] {
        let record = RecordRef::of(&value);
        let fits = held::within(most(&value), "a check", || schema.rewrite(&record));
        assert_eq!(fits, schema.rewrite(&record));
        assert!(!matches!(fits, Ok(Answer::Value | Answer::Made | Answer::Drop)));
    }
}

// ------------------------------------------------------------------------------------------------ hiding

fn paths(input: &mut Input<'_>) -> Vec<Path> {
    let texts = ["a", "b", "c.b", "a.0", "user", "ip", "n", "a.a.a.a.a.a", "0.0"];
    (0..1 + input.below(3)).filter_map(|_| Path::parse(input.pick(&texts)).ok()).collect()
}

fn hides(input: &mut Input<'_>) {
    let (paths, how) = (paths(input), input.byte());
    let whole = how & 1 == 1;
    let target = || Target::new(if whole { &[] } else { &paths }, how & 2 == 2, whole).expect("a target");
    let mask = match input.below(6) {
        0 => Mask::KeepLast(usize::from(input.below(65))),
        1 => Mask::Text(words(input.some(8)).into_owned()),
        2 => Mask::Email,
        3 => Mask::Ip { v4: input.below(33), v6: input.below(129) },
        4 => Mask::Replace(Replace::new(r"(\w+)@|[0-9]{3,}", "$1$1*").expect("an expression")),
        _ => match Replace::new(&words(input.some(12)), &words(input.some(6))) {
            Ok(replace) => Mask::Replace(replace),
            Err(_) => return,
        },
    };
    let encoding = if how & 4 == 4 { Encoding::Hex } else { Encoding::Base64 };
    let secret = (how & 8 == 8).then(|| vec![7; 16]);
    let hash = Hashing::new(target(), secret, 8 + usize::from(how >> 4), encoding).expect("a rule");
    let mask = Masking::new(target(), mask).expect("a rule");
    for value in [json::any(input), input.0.to_vec()] {
        let record = RecordRef { key: Some(&value), ..RecordRef::of(&value) };
        // Each character may become a text of its own.
        let most = 64 * most(&value);
        let mut out = Vec::new();
        let masked = held::within(most, "mask", || mask.rewrite(&record, &mut out));
        if !whole && masked == Ok(Answer::Value) {
            json::assert_sound(&out, &value, "mask");
        }
        let hashed = held::within(most, "hash", || hash.rewrite(&record, &mut out));
        if !whole && hashed == Ok(Answer::Value) {
            json::assert_sound(&out, &value, "hash");
            let texts = json::fields_at(&out, &paths);
            assert!(texts.iter().all(|text| text.iter().all(u8::is_ascii)), "what is hashed is digits");
        }
        let _ = (mask.rewrite_key(&record, &mut out), hash.rewrite_key(&record, &mut out));
    }
}

// ------------------------------------------------------------------------------------------------ reshaping

fn shapes(input: &mut Input<'_>) {
    let paths = paths(input);
    let renamed: Vec<_> = paths.iter().map(|path| (path.clone(), words(input.some(6)).into_owned())).collect();
    let (drops, keeps) = (DropFields::new(paths.clone()), KeepFields::new(paths));
    let renames = Rename::new(renamed);
    for value in [json::any(input), input.0.to_vec()] {
        let most = most(&value);
        let check = |what: &str, work: &dyn Fn(&mut Vec<u8>) -> bool| {
            let mut out = Vec::new();
            if held::within(most, what, || work(&mut out)) {
                // A new name may be one that is there.
                json::assert_sound(&out, if what == "rename" { b"" } else { &value }, what);
            }
        };
        if let Ok(rule) = &drops {
            check("drop-fields", &|out| rule.rewrite(&value, out) == Ok(true));
        }
        if let Ok(rule) = &keeps {
            check("keep-fields", &|out| rule.rewrite(&value, out) == Ok(true));
        }
        if let Ok(rule) = &renames {
            check("rename", &|out| rule.rewrite(&value, out) == Ok(true));
        }
    }
}
