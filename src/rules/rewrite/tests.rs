//! Rewriting JSON: what is not touched stays byte for byte.

use super::*;
use crate::json::tests::{any_json, any_object};
use proptest::prelude::*;

fn path(text: &str) -> Path {
    Path::parse(text).unwrap()
}

fn plan(fields: &[(&str, Leaf)], others_stay: bool) -> Plan {
    Plan::new(fields.iter().map(|(p, l)| (path(p), l.clone())).collect(), others_stay).unwrap()
}

/// Applies a plan whose `Set(n)` sets the number n (7 = leaves as it is).
fn apply(plan: &Plan, value: &str) -> Result<Option<String>, RewriteError> {
    let mut out = b"left over".to_vec();
    let mut fill = |n: usize, out: &mut Vec<u8>| {
        out.extend_from_slice(n.to_string().as_bytes());
        if n == 7 {
            out.pop();
        }
        n != 7
    };
    let changed = plan.apply(value.as_bytes(), &mut fill, &mut out)?;
    let text = String::from_utf8(out).unwrap();
    assert!(changed || text == value, "unchanged but {text} from {value}");
    Ok(changed.then_some(text))
}

fn changed(plan: &Plan, value: &str) -> String {
    apply(plan, value).unwrap().unwrap()
}

fn rename(to: &str) -> Leaf {
    Leaf::Rename(to.into())
}

#[test]
fn dropping_leaves_every_other_byte() {
    let drop = plan(&[("b", Leaf::Drop), ("c.x", Leaf::Drop)], true);
    let value = r#" {"a" : 18446744073709551615, "b":[1,{"b":2}], "c": { "x":1,"y": 1.50 } ,"d":"\u00e9"} "#;
    assert_eq!(changed(&drop, value), r#" {"a" : 18446744073709551615, "c": {"y": 1.50 } ,"d":"\u00e9"} "#);
    assert_eq!(changed(&drop, r#"{"b":1}"#), "{}");
    assert_eq!(apply(&drop, r#"{"a":1, "c":[{"x":1}]}"#), Ok(None));
}

#[test]
fn keeping_keeps_the_order_and_the_bytes() {
    let keep = plan(&[("c.x", Leaf::Keep), ("a", Leaf::Keep)], false);
    assert_eq!(changed(&keep, r#"{"a":1.0,"b":2,"c":{"w":1,"x":-0}}"#), r#"{"a":1.0,"c":{"x":-0}}"#);
    assert_eq!(changed(&keep, r#"{"b":2,"c":{"w":1}}"#), "{}");
    assert_eq!(changed(&keep, r#"{"b":2,"c":"x"}"#), "{}");
    assert_eq!(apply(&keep, r#"{"a":1}"#), Ok(None));
}

#[test]
fn a_rename_happens_in_place() {
    let plan = plan(&[("a", rename("z")), ("b.c", rename("q\"q"))], true);
    assert_eq!(changed(&plan, r#"{"x":0, "a" : 1,"b":{"c":2}}"#), r#"{"x":0, "z" : 1,"b":{"q\"q":2}}"#);
    assert_eq!(apply(&plan, r#"{"x":0}"#), Ok(None));
}

#[test]
fn a_rename_onto_a_taken_name_is_refused_and_an_exchange_is_not() {
    let one = plan(&[("a", rename("b"))], true);
    assert_eq!(apply(&one, r#"{"b":1,"a":2}"#), Err(RewriteError::NameTaken));
    assert_eq!(apply(&one, r#"{"b":1}"#), Ok(None));
    let exchange = plan(&[("a", rename("b")), ("b", rename("a"))], true);
    assert_eq!(changed(&exchange, r#"{"b":1,"a":2}"#), r#"{"a":1,"b":2}"#);
}

#[test]
fn setting_replaces_in_place_and_adds_at_the_end() {
    let set =
        plan(&[("a", Leaf::Set(1)), ("n.m", Leaf::Set(2)), ("n.o.p", Leaf::Set(3)), ("skip", Leaf::Set(7))], true);
    assert_eq!(changed(&set, "{}"), r#"{"a":1,"n":{"m":2,"o":{"p":3}}}"#);
    assert_eq!(changed(&set, r#"{"a": 9, "b":0}"#), r#"{"a": 1, "b":0,"n":{"m":2,"o":{"p":3}}}"#);
    assert_eq!(changed(&set, r#"{"n":{"x":0}, "skip":5}"#), r#"{"n":{"x":0,"m":2,"o":{"p":3}}, "skip":5,"a":1}"#);
    assert_eq!(apply(&set, r#"{"a":1,"n":{"m":2,"o":{"p":3}}}"#), Ok(None));
    assert_eq!(apply(&set, r#"{"n":5}"#), Err(RewriteError::NotAnObject));
}

#[test]
fn values_that_are_no_objects_are_refused() {
    let drop = plan(&[("a", Leaf::Drop)], true);
    for value in ["[]", "1", "\"a\"", "null"] {
        assert_eq!(apply(&drop, value), Err(RewriteError::NotAnObject), "{value}");
    }
    for value in ["", "{", "{\"a\":1", "{\"a\":1} x", "{\"a\":1,}", "x"] {
        assert!(matches!(apply(&drop, value), Err(RewriteError::Malformed(_))), "{value}");
    }
}

#[test]
fn plans_that_contradict_themselves_are_refused() {
    let new = |fields: &[(&str, Leaf)]| Plan::new(fields.iter().map(|(p, l)| (path(p), l.clone())).collect(), true);
    assert_eq!(new(&[]), Err(PlanError::Empty));
    assert_eq!(new(&[("a", Leaf::Drop), ("a", Leaf::Drop)]), Err(PlanError::Twice(path("a"))));
    assert_eq!(new(&[("a", Leaf::Drop), ("a.b", Leaf::Drop)]), Err(PlanError::Twice(path("a.b"))));
    assert_eq!(new(&[("a.b", Leaf::Drop), ("a", Leaf::Drop)]), Err(PlanError::Twice(path("a"))));
    assert_eq!(new(&[("a", rename("c")), ("b", rename("c"))]), Err(PlanError::SameTarget("c".into())));
    let many = (0..=MAX_RULE_FIELDS).map(|i| (path(&format!("f{i}")), Leaf::Drop)).collect();
    assert_eq!(Plan::new(many, true), Err(PlanError::TooMany));
}

fn drop_from(tree: &mut serde_json::Value, names: &[String]) {
    let Some(object) = tree.as_object_mut() else { return };
    match names {
        [last] => drop(object.remove(last)),
        [first, rest @ ..] => {
            if let Some(inner) = object.get_mut(first) {
                drop_from(inner, rest);
            }
        }
        [] => {}
    }
}

proptest! {
    #[test]
    fn dropping_is_what_a_tree_would_do(json in any_json(), p in "[a-c](\\.[a-c]){0,2}", pretty: bool) {
        let text = if pretty { serde_json::to_string_pretty(&json) } else { serde_json::to_string(&json) }.unwrap();
        match apply(&plan(&[(&p, Leaf::Drop)], true), &text) {
            Err(e) => {
                prop_assert_eq!(e, RewriteError::NotAnObject);
                prop_assert!(!json.is_object());
            }
            Ok(changed) => {
                let mut tree = json.clone();
                drop_from(&mut tree, path(&p).names());
                prop_assert_eq!(changed.is_some(), tree != json);
                let after: serde_json::Value = serde_json::from_str(&changed.unwrap_or(text)).unwrap();
                prop_assert_eq!(after, tree);
            }
        }
    }

    #[test]
    fn what_is_kept_and_what_is_dropped_make_up_the_whole(json in any_object(), key in "[a-c]") {
        let text = json.to_string();
        let kept = apply(&plan(&[(&key, Leaf::Keep)], false), &text).unwrap().unwrap_or_else(|| text.clone());
        let left = apply(&plan(&[(&key, Leaf::Drop)], true), &text).unwrap().unwrap_or_else(|| text.clone());
        let mut both: serde_json::Map<_, _> = serde_json::from_str(&kept).unwrap();
        both.extend(serde_json::from_str::<serde_json::Map<_, _>>(&left).unwrap());
        prop_assert_eq!(serde_json::Value::Object(both), json);
    }

    #[test]
    fn a_rename_there_and_back_is_nothing(json in any_object()) {
        let text = json.to_string();
        let there = plan(&[("a", rename("zz"))], true);
        let back = plan(&[("zz", rename("a"))], true);
        match apply(&there, &text).unwrap() {
            Some(renamed) => prop_assert_eq!(apply(&back, &renamed).unwrap(), Some(text)),
            None => prop_assert!(json.get("a").is_none()),
        }
    }

    #[test]
    fn whatever_is_set_is_found_and_the_rest_is_untouched(json in any_object(), p in "[a-c](\\.[a-c]){0,2}") {
        let text = json.to_string();
        if let Ok(changed) = apply(&plan(&[(&p, Leaf::Set(42))], true), &text) {
            let text = changed.unwrap_or(text);
            prop_assert_eq!(json::find_raw(text.as_bytes(), &path(&p)).unwrap(), Some(&b"42"[..]));
            let (mut after, mut before) = (serde_json::from_str(&text).unwrap(), json.clone());
            drop_from(&mut after, &path(&p).names()[..1]);
            drop_from(&mut before, &path(&p).names()[..1]);
            prop_assert_eq!(after, before);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        let mut out = Vec::new();
        let _ = plan(&[("a", Leaf::Drop)], true).apply(&bytes, &mut |_, _| false, &mut out);
        let _ = plan(&[("a.b", Leaf::Set(0))], true).apply(&bytes, &mut |_, _| true, &mut out);
    }
}
