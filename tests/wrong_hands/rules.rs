//! `headwater rule` with wrong case files, wrong configs, wrong names and no node.

use std::process::Command;

use crate::golden::golden;
use crate::stand::{BINARY, Said, Site};

const RULES: &str = "[[rules]]\nname = \"minute\"\ntopics = [\"wx\"]\nuses = \"throttle\"\nwith = { every = \"1m\" }\n";

/// Runs `headwater rule WORDS...` in the site's directory.
fn rule(site: &Site, words: &[&str]) -> String {
    let words = [&["rule"], words].concat();
    Said::of(Command::new(BINARY).args(&words).current_dir(site.dir.path()), &words).shown(&site.normal())
}

#[test]
fn a_wrong_case_file_says_all_that_is_wrong_with_line_and_nearest_key() {
    let site = Site::new(RULES);
    let mut said = String::new();
    for (name, text) in [
        ("empty.toml", ""),
        ("syntax.toml", "[[case]\nname = \"x\"\n"),
        (
            "keys.toml",
            r#"cnofig = "headwater.toml"
[[case]]
nmae = "slips of the pen"
topic = "wx"
in = [5, { valeu = "x" }, { value = "x", json = "{" }, { json = { a = 1 } }, { key = "k" }]
out = [{ topic = "wx", jsn = "x" }, true]
errors = 1.5
[[case]]
name = "times"
topic = "wx"
start = "yesterday"
in = [{ value = "x", at = "5s" }, { value = "y", at = "2s", time = "noon" }, { value = "z", at = 9 }]
until = "1s"
out = []
[[case]]
name = "nothing"
topic = "WX"
"#,
        ),
        (
            "names.toml",
            r#"[[case]]
name = "one"
rules = ["minut"]
in = ["x"]
out = []
[[case]]
name = "two"
sink = "hq"
in = ["x"]
out = []
[[case]]
name = "two"
topic = "wx"
source = "mast"
in = ["x"]
dropped = 0
[[case]]
name = "three"
rules = ["minute"]
sink = "hq"
in = ["x"]
[[case]]
name = "four"
in = ["x"]
out = ["x"]
"#,
        ),
        (
            "elsewhere.toml",
            "config = \"site.toml\"\n[[case]]\nname = \"x\"\ntopic = \"wx\"\nin = [\"x\"]\nout = [\"x\"]\n",
        ),
    ] {
        std::fs::write(site.path(name), text).unwrap();
        said += &rule(&site, &["test", name]);
    }
    said += &rule(&site, &["test", "absent.toml"]);
    said += &rule(&site, &["test"]);
    golden("rule-test", &said);
}

#[test]
fn a_wrong_config_of_a_case_file_is_told_as_check_tells_it() {
    let site = Site::new(&RULES.replace("every", "evry"));
    std::fs::write(site.path("cases.toml"), "[[case]]\nname = \"x\"\ntopic = \"wx\"\nin = [\"x\"]\nout = [\"y\"]\n")
        .unwrap();
    golden("rule-test-config", &rule(&site, &["test", "cases.toml"]));
}

#[test]
fn a_case_that_fails_is_shown_with_its_difference() {
    let site = Site::new(RULES);
    let cases = r#"[[case]]
name = "the first of each minute"
topic = "wx"
in = ["1", { value = "2", at = "30s" }, { value = "3", at = "1m" }]
out = ["1", "3"]
[[case]]
name = "the last of each minute"
topic = "wx"
in = ['{"n":1}', { json = '{"n":2}', at = "30s" }, { json = '{"n":3}', at = "1m" }]
out = [{ json = '{"n":2}' }, { json = '{"n":3}' }]
errors = 1
"#;
    std::fs::write(site.path("cases.toml"), cases).unwrap();
    golden("rule-test-failed", &rule(&site, &["test", "cases.toml"]));
}

#[test]
fn rules_that_cannot_be_tried_say_why() {
    let site = Site::new(RULES);
    let mut said = rule(&site, &["try", "-c", "headwater.toml"]);
    let node = site.start();
    node.send("pump", "1");
    let site = node.stop();
    said += &rule(&site, &["try", "-c", "headwater.toml"]);
    said += &rule(&site, &["try", "-c", "headwater.toml", "--topic", "pumpe"]);
    said += &rule(&site, &["try", "-c", "headwater.toml", "--data-dir", "absent"]);
    said += &rule(&site, &["try", "-c", "absent.toml"]);
    std::fs::write(site.path("none.toml"), "[node]\ndata_dir = \"data\"\n").unwrap();
    said += &rule(&site, &["try", "-c", "none.toml"]);
    golden("rule-try", &said);
}

#[test]
fn a_new_rule_that_cannot_be_written_says_why() {
    let site = Site::of("");
    let mut said = rule(&site, &["new", "only-errors"]);
    said += &rule(&site, &["new", "only-errors"]);
    said += &rule(&site, &["new", "Only_Errors"]);
    said += &rule(&site, &["new", "fn"]);
    said += &rule(&site, &["new", "a", "--kind", "filtre"]);
    said += &rule(&site, &["new", "a", "--dir", "headwater.toml"]);
    said += &rule(&site, &["new", "a", "--dir", "headwater.toml/a"]);
    golden("rule-new", &said);
}
