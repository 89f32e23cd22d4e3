//! Configs that are refused or warned about: `check` says what `run` would, in the same words.

use crate::golden::{Normal, data, golden};
use crate::stand::Site;

/// The mistakes that everybody makes, each a config of `tests/data/wrong/` with its golden text (which `config::tests`
/// holds as well), and the words that must be in it.
const MISTAKES: [(&str, &[&str]); 7] = [
    ("bare-number", &["`max_bytes = 256`: write 256MiB", "`linger = 5`: write 5s"]),
    ("mqtt-wildcard", &["`+` is MQTT; topics use `*`"]),
    ("upper-case-topic", &["topic name `Alarm` has upper-case letters; Fluvio's are lower-case: write `alarm`"]),
    ("unknown-key", &["unknown key; did you mean `max_bytes`?"]),
    ("two-files", &["already set in headwater.toml:2; keep one of the two"]),
    ("plain-secret", &["a secret does not belong into the config; write password = { file = \"...\" }"]),
    ("qos-0", &["QoS 0 cannot be acknowledged"]),
];

#[test]
fn check_and_run_say_the_same_of_a_wrong_config() {
    for (name, words) in MISTAKES {
        let golden = std::fs::read_to_string(data(&format!("{name}.txt"))).unwrap();
        assert!(words.iter().all(|w| golden.contains(w)), "{name}: {golden}");
        let config = match data(name) {
            dir if dir.is_dir() => dir.join("headwater.toml"),
            _ => data(&format!("{name}.toml")),
        };
        let directory = format!("{}/", config.parent().unwrap().display());
        let normal = Normal::default().with(directory, "");
        let site = Site::of("");
        let said = |command: &str| {
            let args = [command, "-c", config.to_str().unwrap()];
            let text = crate::stand::Said::of(std::process::Command::new(crate::stand::BINARY).args(args), &[command]);
            (text.code, text.shown(&normal))
        };
        let refused = golden.contains("error: ");
        let (code, text) = said("check");
        assert!(text.contains(&golden), "{name}: {text}");
        assert_eq!(code, if refused { 2 } else { 0 }, "{name}: {text}");
        if refused {
            let (code, text) = said("run");
            let errors: String =
                golden.lines().filter(|l| l.starts_with("error: ")).map(|l| format!("{l}\n")).collect();
            assert!(text.contains(&errors), "{name}: {text}");
            assert_eq!(code, 2, "{name}");
        }
        drop(site);
    }
}

#[test]
fn check_names_the_file_that_has_the_errors() {
    let site = Site::of("");
    let normal = site.normal();
    std::fs::create_dir(site.path("conf.d")).unwrap();
    let mut text = String::new();
    for (main, more) in [("linger = 5", "keep_free = 1"), ("", "keep_free = 1"), ("linger = 5", "")] {
        std::fs::write(site.config(), format!("[ring]\n{main}\n")).unwrap();
        std::fs::write(site.path("conf.d/site.toml"), format!("[ring]\n{more}\n")).unwrap();
        let errors = site.says(&["check"]);
        // Its last two lines: the count and the exit code; warnings and errors are told elsewhere.
        let shown = errors.shown(&normal);
        let lines: Vec<&str> = shown.lines().collect();
        text += &format!("{}\n{}\n", lines[0], lines[lines.len() - 2..].join("\n"));
    }
    golden("check-places", &text);
}
