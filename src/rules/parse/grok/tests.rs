//! Grok: names, types, and what a pattern may take.

use super::*;
use crate::rules::parse::members::Types;
use proptest::prelude::*;

fn grok(patterns: &[&str]) -> Grok {
    Grok::new(&patterns.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>(), &[]).unwrap()
}

fn parse(grok: &Grok, text: &str) -> Result<String, Failed> {
    let types = Types { missing: vec!["-".into()], ..Types::default() };
    let mut out = Vec::new();
    let mut members = Members::begin(&mut out, &types);
    grok.parse(text.as_bytes(), &mut members)?;
    members.end();
    Ok(String::from_utf8(out).unwrap())
}

fn error(pattern: &str, own: &[(&str, &str)]) -> String {
    let own: Vec<_> = own.iter().map(|(n, p)| ((*n).to_owned(), (*p).to_owned())).collect();
    Grok::new(&[pattern.to_owned()], &own).unwrap_err().to_string()
}

#[test]
fn fields_have_the_names_and_types_that_the_pattern_gives() {
    let grok = grok(&["^%{IP:client} %{WORD:method} %{URIPATHPARAM:path} %{NUMBER:bytes:int} %{NUMBER:took:float}$"]);
    assert_eq!(
        parse(&grok, "55.3.244.1 GET /index.html?a=1 15824 0.0430").unwrap(),
        r#"{"client":"55.3.244.1","method":"GET","path":"/index.html?a=1","bytes":15824,"took":0.0430}"#
    );
    assert_eq!(parse(&grok, "55.3.244.1 GET").unwrap_err().to_string(), "no pattern matches");
    assert_eq!(parse(&grok, "1.2.3.4 GET / 1.5 1").unwrap_err().to_string(), "field `bytes` is not an integer");
}

#[test]
fn the_first_pattern_that_matches_is_taken_and_absent_groups_are_left_out() {
    let grok = grok(&["^a(?: %{INT:n:int})?(?: (?<rest>.+))?$", "^%{NOTSPACE:b}"]);
    assert_eq!(parse(&grok, "a 7 x y").unwrap(), r#"{"n":7,"rest":"x y"}"#);
    assert_eq!(parse(&grok, "a").unwrap(), "{}");
    assert_eq!(parse(&grok, "b c").unwrap(), r#"{"b":"b"}"#);
    assert_eq!(parse(&grok, "- c").unwrap(), "{}");
}

#[test]
fn own_patterns_may_use_others_and_hide_bundled_ones() {
    let own = [("WORD".to_owned(), "[a-z]+".to_owned()), ("PAIR".to_owned(), "%{WORD:k}:%{INT:v:int}".to_owned())];
    let grok = Grok::new(&["%{PAIR}".to_owned()], &own).unwrap();
    assert_eq!(parse(&grok, "..ab:12").unwrap(), r#"{"k":"ab","v":12}"#);
}

#[test]
fn what_is_wrong_with_a_pattern_is_said() {
    assert_eq!(error("%{LOGLEVL:a}", &[]), "no pattern is named `LOGLEVL`; did you mean `LOGLEVEL`?");
    assert!(error("%{WORD:a:integer}", &[]).contains("`%{WORD:a:integer}`: write"));
    assert!(error("%{WORD", &[]).contains("write"));
    assert!(error("%{A}", &[("A", "%{B}"), ("B", "%{A}")]).contains("contains itself"));
    assert!(error("(", &[]).starts_with("not a regular expression"));
    assert!(error("(?:%{IP}){500}", &[]).starts_with("not a regular expression"));
    let nine = |name: &str| format!("x%{{{name}}}").repeat(9);
    let (p0, p1, p2, p3) = (nine("P1"), nine("P2"), nine("P3"), nine("P4"));
    let growing = [("P0", p0.as_str()), ("P1", &p1), ("P2", &p2), ("P3", &p3), ("P4", "abcdefgh")];
    assert!(error("%{P0}", &growing).contains("written out"));
}

#[test]
fn every_bundled_pattern_compiles_and_they_are_in_order() {
    let names: Vec<&str> = patterns::names().collect();
    assert!(names.is_sorted());
    for name in names {
        Grok::new(&[format!("^%{{{name}:x}}$")], &[]).unwrap();
    }
}

#[test]
fn bundled_patterns_match_what_they_are_named_for() {
    let whole = |name: &str, text: &str| parse(&grok(&[&format!("^%{{{name}:x}}$")]), text).is_ok();
    for (name, yes, no) in [
        ("IPV4", "192.168.0.1", "256.1.1.1"),
        ("IPV6", "2001:db8::1", "2001"),
        ("IPV6", "::ffff:1.2.3.4", "1.2.3.4"),
        ("IP", "10.0.0.1", "10.0.0"),
        ("MAC", "00:1b:44:11:3a:b7", "00:1b:44:11:3a"),
        ("UUID", "123e4567-e89b-12d3-a456-426614174000", "123e4567"),
        ("TIMESTAMP_ISO8601", "2024-02-29T23:59:60.123+02:00", "2024-13-01T00:00:00Z"),
        ("HTTPDATE", "10/Oct/2000:13:55:36 -0700", "10/Okt/2000:13:55:36 -0700"),
        ("SYSLOGTIMESTAMP", "Oct  1 22:14:15", "Oct 32 22:14:15"),
        ("NUMBER", "-1.5e-3", "1.5.2"),
        ("QS", r#""a \" b""#, r#""a"#),
        ("LOGLEVEL", "WARN", "loud"),
        ("EMAILADDRESS", "a.b+c@example.com", "a b@example.com"),
        ("HOSTNAME", "a-1.example.com", "-x"),
        ("URI", "https://user:pw@example.com:8080/a/b?c=d", "/a/b"),
        ("PATH", "/var/log/x.log", "var"),
    ] {
        assert!(whole(name, yes), "{name} {yes}");
        assert!(!whole(name, no), "{name} {no}");
    }
}

proptest! {
    #[test]
    fn any_pattern_compiles_or_says_why(text in "[%{}A-Z:a-z(|)*?.]{0,24}") {
        let _ = Grok::new(&[text], &[]);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let grok = grok(&["^%{SYSLOGTIMESTAMP:t} %{IPORHOST:h} %{SYSLOGPROG}: %{GREEDYDATA:m}", "%{DATA:x}%{NUMBER:n:float}"]);
        let types = Types::default();
        let mut out = Vec::new();
        let mut members = Members::begin(&mut out, &types);
        if grok.parse(&bytes, &mut members).is_ok() {
            members.end();
            prop_assert!(serde_json::from_slice::<serde_json::Value>(&out).is_ok());
        }
    }
}
