//! `headwater rule`: cases of a config's rules, and rules tried over what a node has stored.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::node::{Done, Node, config, headwater};

/// Rules of every kind of way: in place, into, route, state, timers, dead letters, before a sink.
const RULES: &str = r#"
[sources.box]
type = "socket"
listen = "tcp://127.0.0.1:4040"
topic = "telemetry"
key = "{field.device}"
[[rules]]
name = "json-only"
topics = ["telemetry"]
uses = "filter"
on_error = "dead-letter"
with = { field = "device", exists = true }
[[rules]]
name = "minute"
topics = ["telemetry"]
into = "telemetry-1m"
uses = "window"
with = { tumbling = "1m", mean = ["t"], by = "{field.device}" }
[[rules]]
name = "site"
topics = ["telemetry"]
uses = "add-fields"
with = { fields = { site = "{label.site}" } }
[[rules]]
name = "alarms"
topics = ["telemetry"]
uses = "route"
with = { to = [{ topic = "alarms", when = { field = "t", above = 90 } }] }
[[rules]]
name = "numbered"
topics = ["alarms", "telemetry-1m"]
uses = "add-fields"
with = { fields = { of = "{topic}" } }
[[rules]]
name = "copy"
topics = ["gate"]
into = "gate-2"
uses = "filter"
with = { regex = "." }
[[rules]]
name = "settled"
topics = ["door", "gate", "gate-2"]
uses = "debounce"
with = { quiet = "500ms" }
[[rules]]
name = "few"
topics = ["log"]
uses = "throttle"
with = { every = "10s" }
[[rules]]
name = "strict"
topics = ["strict"]
uses = "drop-fields"
on_error = "stop"
with = { fields = ["a"] }
[[rules]]
name = "hide"
uses = "mask"
with = { fields = ["device"], text = "-" }
[sinks.out]
type = "fluvio"
endpoint = ["127.0.0.1:9"]
topics = ["telemetry"]
rules = ["hide"]
upstream_topic = "{node}-{topic}"
upstream_key = "{key}!"
"#;

struct Cases {
    dir: TempDir,
}

impl Cases {
    fn new(text: &str) -> Self {
        let cases = Self { dir: tempfile::tempdir().unwrap() };
        cases.write("headwater.toml", &format!("[node]\nid = \"edge\"\nlabels = {{ site = \"s7\" }}\n{RULES}"));
        cases.write("cases.toml", text);
        cases
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.dir.path().join(name), text).unwrap();
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    fn run(&self) -> Done {
        headwater(&["rule", "test", &self.path("cases.toml")], "")
    }

    /// All of these cases pass.
    fn pass(text: &str) {
        let cases = text.matches("[[case]]").count();
        let out = Self::new(text).run().ok();
        let one = if cases == 1 { "case" } else { "cases" };
        assert!(out.ends_with(&format!("{cases} {one}, {cases} passed, 0 failed\n")), "{out}");
    }

    /// This one case fails, and says so.
    fn fail(text: &str) -> String {
        let done = Self::new(text).run();
        assert_eq!(done.code, Some(1), "{}{}", done.out, done.err);
        assert!(done.out.ends_with("1 case, 0 passed, 1 failed\n"), "{}", done.out);
        done.out
    }
}

#[test]
fn a_case_goes_through_rules_in_place_into_route_and_their_topics_rules() {
    Cases::pass(
        r#"
[[case]]
name = "hot ones go to alarms, where they meet that topic's rules"
topic = "telemetry"
source = "box"
in = ['{"device":"a","t":95}', '{"device":"b","t":20.50}']
out = [
    { topic = "alarms", key = "a", value = '{"device":"a","t":95,"site":"s7","of":"alarms"}' },
    { topic = "telemetry", key = "b", json = '{ "t": 20.50, "site": "s7", "device": "b" }' },
]
[[case]]
name = "what is no JSON is a dead letter, what has no device is dropped"
topic = "telemetry"
in = ["nonsense", '{"t":1}', '{"device":"a","t":1}']
out = [{ topic = "telemetry" }]
errors = ["`json-only`: not JSON"]
dead_letters = ["not JSON"]
dropped = 2
[[case]]
name = "a minute is one record of each device, in a topic of its own"
topic = "telemetry"
in = [
    { json = '{"device":"a","t":10}', at = "1s" },
    { json = '{"device":"b","t":5}', at = "2s" },
    { json = '{"device":"a","t":20}', at = "30s" },
]
until = "2m"
out = [
    { topic = "telemetry", at = "1s" },
    { topic = "telemetry", at = "2s" },
    { topic = "telemetry", at = "30s" },
    { topic = "telemetry-1m", key = "a", at = "1m", has = '{"count":2,"t_mean":15.0,"of":"telemetry-1m"}' },
    { topic = "telemetry-1m", key = "b", at = "1m", has = '{"count":1}' },
]
[[case]]
name = "a topic without rules takes all"
topic = "free"
in = ["", { value = "x", key = "k" }]
out = ["", { key = "k", topic = "free" }]
dropped = 0
"#,
    );
}

#[test]
fn time_goes_on_as_the_case_says() {
    Cases::pass(
        r#"
[[case]]
name = "a door that settles"
topic = "door"
in = ["open", { value = "shut", at = "300ms" }, { value = "open", at = "10s" }]
until = "11s"
out = [{ value = "shut", at = "800ms" }, { value = "open", at = "10500ms" }]
[[case]]
name = "two topics whose time comes at one moment, which is the end"
topic = "gate"
in = ["open"]
until = "500ms"
out = [{ topic = "gate", at = "500ms" }, { topic = "gate-2", at = "500ms" }]
[[case]]
name = "one that has not settled when the case ends"
topic = "door"
in = ["open"]
until = "400ms"
out = []
[[case]]
name = "one line in ten seconds, then the next"
topic = "log"
in = ["a", { value = "b", at = "9999ms" }, { value = "c", at = "10s" }]
out = ["a", "c"]
[[case]]
name = "nothing of another case is left"
topic = "log"
in = ["a"]
out = ["a"]
[[case]]
name = "windows are those of the clock that the case begins with"
topic = "telemetry"
start = 2026-05-01T12:00:50Z
in = ['{"device":"a","t":1}']
until = "20s"
out = [{ topic = "telemetry" }, { at = "10s", has = '{"start":"2026-05-01T12:00:00.000000Z"}' }]
"#,
    );
}

#[test]
fn rules_by_name_and_sinks_are_cases_as_well() {
    Cases::pass(
        r#"
[[case]]
name = "only one rule, whatever its topics and where it sends"
rules = ["minute"]
in = ['{"device":"a","t":1}']
until = "1m"
out = [{ topic = "records", key = "a", has = '{"t_mean":1.0}' }]
dropped = 1
[[case]]
name = "rules in the order of the case"
rules = ["alarms", "site"]
topic = "x"
in = ['{"t":99}', '{"t":1}']
out = [{ topic = "alarms", value = '{"t":99}' }, { topic = "x", value = '{"t":1,"site":"s7"}' }]
[[case]]
name = "a rule that stands before sinks only"
rules = ["hide"]
in = ['{"device":"secret"}']
out = ['{"device":"-"}']
[[case]]
name = "what a sink sends, under the names that it has upstream"
sink = "out"
topic = "telemetry"
in = [{ json = '{"device":"secret"}', key = "k" }, "no JSON"]
out = [{ topic = "edge-telemetry", key = "k!", value = '{"device":"-"}' }]
errors = ["rule `hide`"]
dropped = 1
[[case]]
name = "a topic that the sink does not take"
sink = "out"
topic = "door"
in = ["x"]
out = []
dropped = 1
"#,
    );
}

#[test]
fn a_case_that_fails_shows_what_differs_and_where() {
    let out = Cases::fail(
        r#"
[[case]]
name = "wrong in two members"
topic = "telemetry"
in = ['{"device":"a","t":1,"more":[1,2]}', '{"device":"b","t":2}']
out = [{ topic = "telemetry", json = '{"device":"a","t":1.0,"more":[1,3],"site":"s7"}' }, '{"device":"b","t":2,"site":"s7"}']
"#,
    );
    let shown = [
        "FAIL  wrong in two members  (",
        "cases.toml:2)",
        "\n        - telemetry: {\"device\":\"a\",\"t\":1.0,\"more\":[1,3],\"site\":\"s7\"}\n",
        "\n        + telemetry, at 0s: {\"device\":\"a\",\"t\":1,\"more\":[1,2],\"site\":\"s7\"}\n",
        "\n            more[1]: expected 3, got 2\n",
        "\n            t: expected 1.0, got 1\n",
        "\n          telemetry, at 0s: {\"device\":\"b\",\"t\":2,\"site\":\"s7\"}\n",
    ];
    for part in shown {
        assert!(out.contains(part), "{part} is not in\n{out}");
    }
    assert!(!out.contains("device: "), "{out}");
}

#[test]
fn each_expectation_that_is_not_met_fails_its_case() {
    let case = |topic: &str, lines: &str| format!("[[case]]\nname = \"c\"\ntopic = \"{topic}\"\n{lines}\n");
    for (topic, lines, shown) in [
        ("free", "in = [\"a\"]\nout = []", "+ free, at 0s: a"),
        ("free", "in = [\"a\"]\nout = [\"a\", \"b\"]", "- b"),
        ("free", "in = [\"a\", \"b\"]\nout = [\"b\", \"a\"]", "- b"),
        ("free", "in = [\"a\"]\nout = [{ topic = \"other\", value = \"a\" }]", "topic: expected other, got free"),
        ("free", "in = [\"a\"]\nout = [{ key = \"k\", value = \"a\" }]", "key: expected k, is not there"),
        ("free", "in = [\"a\"]\nout = [{ at = \"1s\", value = \"a\" }]", "at: expected 1s, got 0s"),
        ("free", "in = [\"a\"]\nout = [{ json = \"1\" }]", "value: expected JSON, got none"),
        ("free", "in = [\"{}\"]\nout = [{ has = '{\"a\":1}' }]", "a: expected 1, is not there"),
        ("free", "in = [\"a\"]\ndropped = 1", "dropped: expected 1, got 0"),
        ("free", "in = [\"a\"]\nerrors = 1", "errors: expected 1, got 0"),
        // An error that nobody expects is one too many.
        ("telemetry", "in = [\"a\"]\nout = []", "errors: expected 0, got 1"),
        ("telemetry", "in = [\"a\"]\nerrors = [\"elsewhere\"]", "- ...elsewhere..."),
        ("telemetry", "in = [\"a\"]\nerrors = 1\ndead_letters = 0", "dead letters: expected 0, got 1"),
        (
            "strict",
            "in = [\"a\", \"b\"]\nerrors = 1\nout = []",
            "takes nothing more, stopped by rule `strict`; 1 of `in`",
        ),
    ] {
        let out = Cases::fail(&case(topic, lines));
        assert!(out.contains(shown), "{shown} is not in\n{out}");
    }
}

#[test]
fn results_are_there_as_json_and_another_config_can_be_named() {
    let cases = Cases::new("[[case]]\nname = \"c\"\ntopic = \"t\"\nin = [\"a\"]\nout = [\"a\"]\n");
    let file = cases.path("cases.toml");
    let run = |words: &[&str]| {
        let done = headwater(&[&["rule", "test", &file, "--json"], words].concat(), "");
        (done.code, serde_json::from_str::<Value>(&done.out).unwrap())
    };
    let passed = json!({ "file": file, "line": 1, "name": "c", "passed": true });
    assert_eq!(run(&[]), (Some(0), json!({ "cases": 1, "passed": 1, "failed": 0, "results": [passed] })));
    cases.write(
        "other.toml",
        "[[rules]]\nname = \"r\"\ntopics = [\"t\"]\nuses = \"filter\"\nwith = { contains = \"b\" }\n",
    );
    let (code, results) = run(&["-c", &cases.path("other.toml")]);
    assert_eq!((code, &results["failed"]), (Some(1), &json!(1)));
    assert_eq!(results["results"][0]["failure"], json!(["out:", "  - a"]));
    // So can the file itself, beside which it is looked for.
    cases.write(
        "cases.toml",
        "config = \"other.toml\"\n[[case]]\nname = \"c\"\ntopic = \"t\"\nin = [\"a\"]\nout = []\n",
    );
    assert_eq!(run(&[]).0, Some(0));
}

#[test]
fn the_cases_that_the_readme_shows_pass() {
    let readme = include_str!("../../README.md");
    let from = readme.find("config = \"headwater.toml\" ").unwrap();
    let shown = &readme[from..from + readme[from..].find("```").unwrap()];
    let cases = Cases::new(shown);
    let rules = r#"
[[rules]]
name = "alarms"
topics = ["telemetry"]
uses = "route"
with = { to = [{ topic = "alarms", when = { field = "t", above = 90 } }] }
[[rules]]
name = "minute"
topics = ["wx"]
into = "wx-1m"
uses = "window"
with = { tumbling = "1m", mean = ["wind"] }
"#;
    cases.write("headwater.toml", rules);
    assert!(cases.run().ok().ends_with("\n2 cases, 2 passed, 0 failed\n"));
}

// ---- try ----

/// What the newer config has beside the node's own.
const NEWER: &str = r#"
[[rules]]
name = "no-debug"
topics = ["notes"]
uses = "filter"
with = { not = { contains = "DEBUG" } }
[[rules]]
name = "less"
topics = ["pump"]
uses = "drop-fields"
with = { fields = ["noise"] }
[[rules]]
name = "minute"
topics = ["pump"]
into = "pump-1m"
uses = "window"
with = { tumbling = "1m", max = ["t"] }
"#;

/// A node without rules that has records, and the path of a config that has some.
fn filled() -> (Node, String) {
    let node = Node::new(&config("edge", "[topics.pump]\npartitions = 2\n"));
    let newer = node.path("newer.toml").display().to_string();
    let text = config("edge", NEWER).replace("{dir}", &node.home.path().display().to_string());
    std::fs::write(&newer, text).unwrap();
    (node, newer)
}

fn fill(node: &Node) {
    node.send("notes", &["a", "DEBUG b", "c", "DEBUG d"]);
    node.send("pump", &[r#"{"t":1,"noise":"xxxxxxxx"}"#, r#"{"t":2}"#, "noise"]);
    node.send("else", &["x"]);
}

fn tried(config: &str, words: &[&str]) -> Value {
    let out = headwater(&[&["rule", "try", "-c", config, "--json"], words].concat(), "").ok();
    serde_json::from_str(&out).unwrap()
}

/// The files of a data directory that hold records.
fn slots(node: &Node) -> BTreeMap<PathBuf, (std::time::SystemTime, Vec<u8>)> {
    let files = std::fs::read_dir(node.data()).unwrap().map(|entry| entry.unwrap().path());
    let slots = files.filter(|path| path.is_file()).map(|path| {
        let modified = path.metadata().unwrap().modified().unwrap();
        (path.clone(), (modified, std::fs::read(path).unwrap()))
    });
    slots.collect()
}

fn check(tried: &Value) {
    let topic = |name: &str| tried["topics"].as_array().unwrap().iter().find(|t| t["topic"] == name).unwrap().clone();
    let (notes, pump) = (topic("notes"), topic("pump"));
    let counts =
        |topic: &Value| ["records", "passed", "rewritten", "dropped", "errors"].map(|key| topic[key].as_u64().unwrap());
    assert_eq!(counts(&notes), [4, 2, 0, 2, 0]);
    assert_eq!((&notes["bytes_before"], &notes["bytes_after"]), (&json!(16), &json!(2)));
    // Two rules fail on what is no JSON.
    assert_eq!(counts(&pump), [3, 2, 1, 0, 2]);
    assert_eq!(pump["made"], json!({ "pump-1m": 1 }));
    assert!(pump["reasons"][0]["reason"].as_str().unwrap().contains("not JSON"), "{pump}");
    let rules: Vec<_> = tried["rules"].as_array().unwrap().iter().map(|rule| rule["name"].as_str().unwrap()).collect();
    assert_eq!(rules, ["no-debug", "less", "minute"]);
    assert_eq!(tried["rules"][0]["records_in"], 4);
    assert_eq!(tried["rules"][0]["records_out"], 2);
}

#[test]
fn rules_tried_over_a_running_node_say_what_would_change_and_change_nothing() {
    let (mut node, newer) = filled();
    node.start();
    fill(&node);
    let before = (node.status().topics, slots(&node));
    let tried = tried(&newer, &["--show", "2"]);
    assert!(tried["read"].as_str().unwrap().starts_with("the running node"), "{tried}");
    check(&tried);
    let changed = tried["changed"].as_array().unwrap();
    assert_eq!(changed.len(), 2);
    assert_eq!(
        (&changed[0]["topic"], &changed[0]["offset"], &changed[0]["after"]),
        (&json!("notes"), &json!(1), &json!([]))
    );
    let after = (node.status().topics, slots(&node));
    assert_eq!(before.0, after.0);
    assert!(before.1 == after.1, "something was written");
    // The node goes on by its own rules.
    assert_eq!(node.send("notes", &["DEBUG e"]), ["4"]);
}

#[test]
fn rules_tried_over_a_stopped_node_say_the_same_and_change_nothing() {
    let (mut node, newer) = filled();
    node.start();
    fill(&node);
    node.stop();
    let before = slots(&node);
    let data = node.data().display().to_string();
    for words in [&[][..], &["--data-dir", &data]] {
        let tried = tried(&newer, words);
        assert!(tried["read"].as_str().unwrap().starts_with("the ring in"), "{tried}");
        check(&tried);
    }
    assert!(before == slots(&node), "something was written");
}

#[test]
fn what_is_tried_can_be_a_topic_and_its_newest_records() {
    let (mut node, newer) = filled();
    node.start();
    fill(&node);
    let newest = tried(&newer, &["--topic", "notes", "--last", "1"]);
    assert_eq!(newest["topics"].as_array().unwrap().len(), 1);
    assert_eq!((&newest["topics"][0]["records"], &newest["topics"][0]["dropped"]), (&json!(1), &json!(1)));
    // A topic without rules, when it is asked for.
    let other = tried(&newer, &["--topic", "else"]);
    assert_eq!((&other["topics"][0]["records"], &other["topics"][0]["passed"]), (&json!(1), &json!(1)));
    let page = headwater(&["rule", "try", "-c", &newer, "--show", "9"], "").ok();
    for part in [
        "over the running node at ",
        "\nnotes: 4 records\n  2 as they are, 2 dropped\n",
        "  16 B before, 2 B after: 14 B saved (87 %)\n",
        "\npump: 3 records\n",
        "  made: 1 in pump-1m\n",
        "\nnotes partition 0 offset 3\n  - DEBUG d\n    (dropped)\n",
        "      noise: \"xxxxxxxx\" becomes nothing\n",
    ] {
        assert!(page.contains(part), "{part} is not in\n{page}");
    }
}
