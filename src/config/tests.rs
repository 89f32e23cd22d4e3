//! What a config file comes to, and what is said about wrong ones.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;
use crate::ring::Key;
use crate::rules::RuleSpec;
use crate::time::Span;

/// A directory with these files, of which the first is the config.
fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    dir
}

fn around(credentials: Option<PathBuf>, checking: bool) -> Surroundings {
    let env = BTreeMap::from([("SITE".to_owned(), "site-7".to_owned())]);
    Surroundings {
        env: Box::new(move |name| env.get(name).cloned()),
        credentials,
        host_name: "My Host".into(),
        checking,
    }
}

fn look(files: &[(&str, &str)]) -> Examined {
    let dir = directory(files);
    let mut examined = examine(&dir.path().join(files[0].0), &around(None, false));
    // Messages without the directory's random name.
    let prefix = format!("{}/", dir.path().display());
    if let Err(errors) = &mut examined.config {
        for e in errors {
            e.file = e.file.strip_prefix(dir.path()).unwrap().to_owned();
            e.message = e.message.replace(&prefix, "");
        }
    }
    for w in &mut examined.warnings {
        *w = w.replace(&prefix, "");
    }
    examined
}

fn errors(text: &str) -> Vec<String> {
    match look(&[("h.toml", text)]).config {
        Ok(_) => Vec::new(),
        Err(errors) => errors.iter().map(ToString::to_string).collect(),
    }
}

fn config(text: &str) -> Config {
    look(&[("h.toml", text)]).config.unwrap_or_else(|e| panic!("{e:#?}"))
}

const SAMPLES: [&str; 3] = ["pump", "mast", "factory"];

fn sample(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/samples/{name}.toml"));
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn an_empty_config_is_a_node_with_every_default() {
    let config = config("");
    assert_eq!(config.node.id, "My-Host");
    assert_eq!(config.node.control, PathBuf::from("/var/lib/headwater/control.sock"));
    assert_eq!(config.ring.linger, Span::from_secs(1));
    assert_eq!(config.ring.keep_free, 200 << 20);
    assert_eq!(config.http.unwrap().listen.to_string(), "127.0.0.1:9004");
    assert!(config.endpoint.is_none());
    assert_eq!(config.warnings.len(), 2, "{:?}", config.warnings);
}

#[test]
fn all_errors_come_at_once_in_the_order_of_their_lines() {
    let text = "[ring]\nmax_byte = \"1GiB\"\nlinger = 5\n[sources.x]\ntype = \"fyle\"\n[sinkz.y]\n";
    assert_eq!(
        errors(text),
        [
            "h.toml:2: ring.max_byte: unknown key; did you mean `max_bytes`?",
            "h.toml:3: ring.linger: `linger = 5`: write 5s",
            "h.toml:5: sources.x.type: unknown type `fyle`; did you mean `file`?",
            "h.toml:6: sinkz: unknown key; did you mean `sinks`?",
        ]
    );
}

#[test]
fn syntax_errors_say_where_and_stop_the_rest() {
    let errors = errors("[ring\nmax_bytes = 1\n[node]\nid = \"x\nlabels = {\n");
    assert!(errors.len() >= 2, "{errors:?}");
    assert!(errors[0].starts_with("h.toml:1: "), "{errors:?}");
    assert!(errors.iter().all(|e| !e.contains("write 1")), "{errors:?}");
}

#[test]
fn the_way_to_the_node_is_read_around_errors_of_syntax() {
    let ways = |files: &[(&str, &str)]| {
        let dir = directory(files);
        let ways = ways_in(&dir.path().join("h.toml"), &around(None, true)).unwrap();
        let control = ways.control.strip_prefix(dir.path()).unwrap_or(&ways.control).to_owned();
        (control.to_string_lossy().into_owned(), ways.broken.map(|b| (b.error.line, b.named)))
    };
    let node = "[node]\ndata_dir = \"data\"\n";
    let of = |text: &str| ways(&[("h.toml", text)]);
    let found = |line| ("data/control.sock".to_owned(), Some((line, true)));
    assert_eq!(of(node), ("data/control.sock".into(), None));
    assert_eq!(of(&format!("{node}junk = \n")), found(3));
    assert_eq!(of(&format!("junk =\n{node}")), found(1));
    assert_eq!(of(&format!("[ring\n{node}")), found(1));
    assert_eq!(of(&format!("{node}[ring]\nlinger = \"1s\n[http]\nlisten = \"off\"\n")), found(4));
    assert_eq!(ways(&[("h.toml", node), ("conf.d/x.toml", "x\n")]), found(1));
    let beside_it = ("conf.d/data/control.sock".to_owned(), Some((1, true)));
    assert_eq!(ways(&[("h.toml", "x\n"), ("conf.d/x.toml", node)]), beside_it);
    // The value in a line with an error is nobody's word.
    let default = ("/var/lib/headwater/control.sock".to_owned(), Some((2, false)));
    assert_eq!(of("[node]\ndata_dir = \"data\nid = \"x\"\n"), default);
    assert_eq!(of("[node]\nid = \n[ring]\n"), default);
    let absent = ways_in(Path::new("/nowhere/h.toml"), &around(None, true)).unwrap_err();
    assert_eq!(absent.line, 0);
}

#[test]
fn values_come_from_files_the_environment_and_credentials() {
    let text = "[node]\nid = { env = \"SITE\" }\nlabels = { a = { file = \"sub/label\" } }\n[sources.m]\ntype = \"mqtt\"\n\
                url = \"mqtt://h\"\nusername = \"u\"\npassword = { credential = \"mqtt\" }\n\
                subscribe = [{ filter = \"#\", topic = \"t\" }]\n";
    let dir = directory(&[("h.toml", text), ("sub/label", "pump\n"), ("creds/mqtt", "hunter2\n")]);
    let path = dir.path().join("h.toml");
    let config = examine(&path, &around(Some(dir.path().join("creds")), false)).config.unwrap();
    assert_eq!(config.node.id, "site-7");
    assert_eq!(config.node.labels["a"], "pump");
    let SourceKind::Mqtt(mqtt) = &config.sources[0].kind else { panic!() };
    assert_eq!(mqtt.password.as_ref().unwrap().0, "hunter2");
    assert_eq!(mqtt.client_id, "headwater-site-7-m");
    assert!(!format!("{config:?}").contains("hunter2"));

    // Only the service has credentials: `run` refuses, `check` says that it did not look.
    assert!(examine(&path, &around(None, false)).config.is_err());
    let checked = examine(&path, &around(None, true));
    assert!(checked.config.is_ok());
    assert!(checked.warnings.iter().any(|w| w.contains("only given to the service")), "{:?}", checked.warnings);
}

#[test]
fn what_is_printed_is_read_without_new_warnings() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let every = std::fs::read_to_string(data.join("every-part.toml")).unwrap();
    let sink = |more: &str| every.replace("[sinks.stdout]", &format!("{more}\n[sinks.stdout]"));
    for text in [
        every.replace("tls = {}\n", "version = \"5\"\n"),
        sink("create_topics = false"),
        sink("partition = 7\ntopic_compression = \"gzip\""),
        every.clone(),
    ] {
        let examined = look(&[("h.toml", &text)]);
        let again = look(&[("h.toml", &print(&examined))]);
        assert!(again.config.is_ok(), "{:?}", again.config);
        // Lines differ.
        let words = |examined: &Examined| -> Vec<String> {
            examined.warnings.iter().map(|w| w.split_once(": ").unwrap().1.to_owned()).collect()
        };
        assert_eq!(words(&again), words(&examined));
        assert_eq!(print(&examined).contains("session_expiry"), text.contains("version = \"5\""));
    }
}

#[test]
fn printing_shows_origins_and_no_secrets_and_reads_back() {
    let main = "[node]\nid = \"n1\"\n[sources.m]\ntype = \"mqtt\"\nurl = \"mqtt://h\"\nusername = \"u\"\n\
                password = { file = \"secret\" }\nsubscribe = [{ filter = \"a/+\", topic = \"t\" }]\n\
                [[rules]]\nname = \"r\"\ntopics = [\"t\"]\nuses = \"filter\"\nwith = { field = \"x\", above = 1 }\n";
    let extra =
        "[ring]\nlinger = \"2s\"\n[[rules]]\nname = \"s\"\ntopics = [\"t\"]\nuses = \"sample\"\nwith = { every = 2 }\n";
    let dir = directory(&[("h.toml", main), ("conf.d/x.toml", extra), ("secret", "hunter2")]);
    let path = dir.path().join("h.toml");
    let examined = examine(&path, &around(None, false));
    let printed = print(&examined);
    let line = |needle: &str| {
        printed.lines().find(|l| l.starts_with(needle)).unwrap_or_else(|| panic!("{printed}")).to_owned()
    };
    assert!(!printed.contains("hunter2"), "{printed}");
    assert!(line("password").contains("password = { file = \"secret\" }"));
    assert!(line("linger").ends_with("conf.d/x.toml:2"));
    assert!(line("id").ends_with("h.toml:2"));
    assert!(line("keep_free = \"200MiB\"").ends_with("# default"));

    let again = directory(&[("h.toml", &printed), ("secret", "hunter2")]);
    let read = examine(&again.path().join("h.toml"), &around(None, false)).config;
    let (old, new) = (examined.config.unwrap(), read.unwrap_or_else(|e| panic!("{e:#?}\n{printed}")));
    assert!(changes(&old, &new).is_empty(), "{}\n{printed}", changes(&old, &new));
}

#[test]
fn keys_of_the_ring_are_read_from_where_they_are_and_never_shown() {
    let hex = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
    let base64 = "//79/Pv6+fj39vX08/Lx8O/u7ezr6uno5+bl5OPi4eA=";
    let main = "[ring]\nencryption = { file = \"new\" }\nold_keys = [{ file = \"old\" }, { file = \"older\" }]\n";
    let older = "1".repeat(64);
    let files = [("h.toml", main), ("new", hex), ("old", base64), ("older", &older)];
    let examined = examine(&directory(&files).path().join("h.toml"), &around(None, false));
    let ring = &examined.config.as_ref().unwrap().ring;
    assert_eq!((ring.encryption.as_ref(), ring.old_keys.len()), (Some(&Key::parse(hex).unwrap()), 2));
    assert_eq!(ring.old_keys[0], Key::parse(base64).unwrap());
    let shown = format!("{}{:?}", print(&examined), examined.config);
    assert!([hex, base64, &older].iter().all(|key| !shown.contains(key)), "{shown}");
    assert!(shown.contains("encryption = { file = \"new\" }"), "{shown}");

    let plain = format!("[ring]\nencryption = \"{hex}\"\nold_keys = [{{ file = \"old\" }}, \"{base64}\"]\n");
    let examined = look(&[("h.toml", &plain), ("old", base64)]);
    let shown = format!("{}{:?}", print(&examined), examined.config);
    assert!(!shown.contains(hex) && !shown.contains(base64), "{shown}");
    assert_eq!(examined.config.unwrap_err().len(), 2);

    let twice = look(&[("h.toml", main), ("new", hex), ("old", hex), ("older", base64)]);
    assert!(twice.config.unwrap_err()[0].to_string().contains("is there twice"));
}

#[test]
fn a_key_in_two_files_is_an_error_and_rules_of_two_files_follow_one_another() {
    let rule = |name: &str| {
        format!("[[rules]]\nname = \"{name}\"\nuses = \"sample\"\ntopics = [\"a\"]\nwith = {{ every = 2 }}\n")
    };
    let one = look(&[("h.toml", &rule("one")), ("conf.d/b.toml", &rule("three")), ("conf.d/a.toml", &rule("two"))]);
    let names: Vec<String> = one.config.unwrap().rules.iter().map(|r| r.name.to_string()).collect();
    assert_eq!(names, ["one", "two", "three"]);

    let twice = look(&[("h.toml", "[ring]\nlinger = \"1s\"\n"), ("conf.d/a.toml", "[ring]\n\nlinger = \"2s\"\n")]);
    assert_eq!(
        twice.config.unwrap_err()[0].to_string(),
        "conf.d/a.toml:3: ring.linger: already set in h.toml:2; keep one of the two"
    );
}

/// Every case of tests/data/wrong against the text beside it; `UPDATE_GOLDEN=1` writes the texts.
#[test]
fn wrong_configs_are_told_what_to_do() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/wrong");
    let mut cases: Vec<PathBuf> = std::fs::read_dir(&root).unwrap().map(|e| e.unwrap().path()).collect();
    cases.retain(|p| p.is_dir() || p.extension().is_some_and(|e| e == "toml"));
    cases.sort();
    assert!(cases.len() >= 15, "{cases:?}");
    for case in cases {
        let path = if case.is_dir() { case.join("headwater.toml") } else { case.clone() };
        let examined = examine(&path, &around(None, false));
        let errors = examined.config.as_ref().err().into_iter().flatten().map(|e| format!("error: {e}\n"));
        let warnings = examined.warnings.iter().map(|w| format!("warning: {w}\n"));
        let directory = format!("{}/", path.parent().unwrap().display());
        let said: String = warnings.chain(errors).collect::<String>().replace(&directory, "");
        let golden = case.with_extension("txt");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&golden, &said).unwrap();
        }
        let expected = std::fs::read_to_string(&golden).unwrap_or_else(|e| panic!("{}: {e}", golden.display()));
        assert_eq!(said, expected, "{}", case.display());
    }
}

#[test]
fn a_directory_of_more_files_that_cannot_be_read_is_no_empty_one() {
    let dir = directory(&[("headwater.toml", "[node]\nid = \"n\"\n")]);
    std::os::unix::fs::symlink("conf.d", dir.path().join("conf.d")).unwrap();
    let said = examine(&dir.path().join("headwater.toml"), &around(None, false)).config.unwrap_err();
    assert!(said.iter().any(|e| e.to_string().contains("conf.d: cannot be read")), "{said:?}");
}

#[test]
fn the_starter_config_is_accepted() {
    for upstream in [None, Some("sc.example.org:9003")] {
        let text = starter::starter(upstream);
        let config = config(&text);
        assert_eq!(config.sources.len(), 1);
        assert_eq!(config.sinks.len(), usize::from(upstream.is_some()));
    }
    // Also with every comment that is a setting taken in.
    let all = starter::starter(None).lines().map(uncomment).collect::<Vec<_>>().join("\n");
    let all = all.replace("/etc/headwater/mqtt-password", "secret").replace("/etc/headwater/ring.key", "key");
    let dir = directory(&[("h.toml", &all), ("secret", "x"), ("key", &"1".repeat(64))]);
    let config =
        examine(&dir.path().join("h.toml"), &around(None, false)).config.unwrap_or_else(|e| panic!("{e:#?}\n{all}"));
    assert_eq!((config.sources.len(), config.rules.len(), config.sinks.len()), (4, 1, 1));
}

/// Comments that are prose have a full stop or a colon at their end, or begin with a capital letter.
fn uncomment(line: &str) -> &str {
    match line.strip_prefix("# ") {
        Some(rest) if !rest.starts_with(|c: char| c.is_ascii_uppercase() || c == '`') => rest,
        _ => line,
    }
}

#[test]
fn the_samples_of_the_design_read_as_far_as_their_parts_exist() {
    for name in SAMPLES {
        let text = sample(name);
        let said = errors(&text);
        // Besides, this machine has none of the site's files, and the factory's rule and risk are left to its owner.
        let expected =
            ["not in this version", "site-id", "CREDENTIALS", "there is no rule `mask-operators`", "insecure = true"];
        assert!(said.iter().all(|e| expected.iter().any(|x| e.contains(x))), "{name}: {said:#?}");
    }
    // Without the parts that come later, it is a config.
    let pump = sample("pump");
    let now = pump.replace("id = { file = \"/etc/headwater/site-id\" }", "id = \"p1\"");
    let now = now
        .replace("{ credential = \"mqtt\" }", "{ env = \"SITE\" }")
        .replace("{ credential = \"site-key\" }", "{ env = \"SITE\" }");
    let config = config(&now);
    let SinkKind::Fluvio(fluvio) = &config.sinks[0].kind else { panic!() };
    assert_eq!(fluvio.upstream_topic.text(), "pump-{topic}");
    assert!(matches!(config.rules[0].rule.spec, RuleSpec::Deadband(_)));
    assert_eq!(config.sources[0].key.as_ref().unwrap().text(), "{mqtt.1}");
}

#[test]
fn filters_are_written_as_they_read() {
    let rule = |with: &str| {
        let text = format!("[[rules]]\nname = \"f\"\nuses = \"filter\"\ntopics = [\"a\"]\nwith = {with}\n");
        match config(&text).rules.remove(0).rule.spec {
            RuleSpec::Filter(condition) => condition,
            other => panic!("{other:?}"),
        }
    };
    let holds = |with: &str, value: &str| rule(with).holds(value.as_bytes()).unwrap();
    assert!(holds("{ contains = [\"x\", \"y\"] }", "y"));
    assert!(!holds("{ contains = \"x\", regex = \"z\" }", "x"));
    let range = "{ field = \"t\", above = 10, at_most = 20.5 }";
    assert!(holds(range, "{\"t\":20.5}") && !holds(range, "{\"t\":10}") && !holds(range, "{}"));
    let nested = "{ any = [{ field = \"a\", equals = [1, \"one\"] }, { not = { field = \"b\", exists = true } }] }";
    assert!(holds(nested, "{\"a\":\"one\",\"b\":0}") && holds(nested, "{}") && !holds(nested, "{\"b\":0}"));
    assert!(holds("{ field = \"b\", exists = false }", "{}"));
    assert!(holds("{ field = \"m\", contains = \"err\" }", "{\"m\":\"an error\"}"));
    assert!(!holds("{ field = \"a\", not_equals = true }", "{\"a\":true}"));
}

#[test]
fn a_config_named_by_a_relative_path_is_judged_as_by_its_absolute_one() {
    let text = "[node]\ndata_dir = \"data\"\n[sources.a]\ntype = \"file\"\ntopic = \"t\"\npaths = [\"%/data/*\"]\n";
    // Below the directory that the tests run in, so that it has a relative name.
    let dir = tempfile::tempdir_in(".").unwrap();
    let whole = dir.path().canonicalize().unwrap();
    std::fs::write(dir.path().join("h.toml"), text.replace('%', &whole.to_string_lossy())).unwrap();
    let short = Path::new(dir.path().file_name().unwrap()).join("h.toml");
    for path in [whole.join("h.toml"), short] {
        let errors = examine(&path, &around(None, false)).config.unwrap_err();
        assert!(errors.len() == 1 && errors[0].message.contains("it would read the data directory"), "{errors:?}");
    }
}

#[test]
fn ack_in_memory_is_warned_of_where_nobody_is_acknowledged_to() {
    let source = |kind: &str| format!("[sources.a]\nack = \"memory\"\n{kind}\n");
    let warned = |kind| look(&[("h.toml", &source(kind))]).warnings.iter().any(|w| w.contains("sources.a.ack"));
    assert!(warned("type = \"host\"\ntopic = \"t\""));
    assert!(!warned("type = \"mqtt\"\nurl = \"mqtt://h\"\nsubscribe = [{ filter = \"#\", topic = \"t\" }]"));
}

#[test]
fn what_a_reload_changes_is_named() {
    let old = config(
        "[sources.a]\ntype = \"host\"\ntopic = \"t\"\n[sources.b]\ntype = \"host\"\ntopic = \"t\"\n[sinks.s]\ntype = \"stdout\"\ntopics = [\"*\"]\n",
    );
    let new = config(
        "[node]\ndata_dir = \"/d\"\n[ring]\nlinger = \"3s\"\n[sources.b]\ntype = \"host\"\ntopic = \"u\"\n\
         [sources.c]\ntype = \"host\"\ntopic = \"t\"\n[sinks.s]\ntype = \"stdout\"\ntopics = [\"*\"]\n",
    );
    let changes = changes(&old, &new);
    assert_eq!(
        changes.to_string(),
        "added source c; removed source a; changed source b, ring.linger; after a restart only: node.data_dir, node.control"
    );
    assert!(super::changes(&new, &new).is_empty());
    assert_eq!(super::changes(&new, &new).to_string(), "nothing changed");
}

#[test]
fn the_hash_follows_the_files() {
    let dir = directory(&[("h.toml", "[node]\nid = \"a\"\n")]);
    let path = dir.path().join("h.toml");
    let config = examine(&path, &around(None, false)).config.unwrap();
    assert_eq!(hash_on_disk(&path).unwrap(), config.hash);
    std::fs::create_dir(dir.path().join("conf.d")).unwrap();
    std::fs::write(dir.path().join("conf.d/a.toml"), "").unwrap();
    assert_ne!(hash_on_disk(&path).unwrap(), config.hash);
    assert_eq!(hash_on_disk(&dir.path().join("absent.toml")), None);
}

#[test]
fn an_endpoint_that_others_reach_has_tls_and_its_key_is_read_where_it_lies() {
    let text = "[endpoint]\nsc_listen = \"0.0.0.0:1\"\ntls = { cert = \"h.toml\", key = { file = \"key\" } }\n";
    let examined = look(&[("h.toml", text), ("key", "a key")]);
    assert!(examined.warnings.iter().any(|w| w.contains("clients prove nothing")), "{:?}", examined.warnings);
    let tls = examined.config.unwrap().endpoint.unwrap().tls.unwrap();
    assert!(matches!(&tls.key, SecretPlace::File(path) if path.ends_with("key")), "{tls:?}");
    let held = config(&text.replace("file = \"key\"", "env = \"SITE\"")).endpoint.unwrap().tls.unwrap();
    assert_eq!(held.key, SecretPlace::Held(Secret("site-7".into())));

    let named = text.replace("} }", "}, client_ca = \"h.toml\" }\n[[endpoint.allow]]\nwho = \"press-7\"");
    let examined = look(&[("h.toml", &named), ("key", "a key")]);
    assert!(!examined.warnings.iter().any(|w| w.contains("clients prove nothing")), "{:?}", examined.warnings);
    let endpoint = examined.config.unwrap().endpoint.unwrap();
    assert!(endpoint.tls.unwrap().require_client_cert);
    assert_eq!(endpoint.allow[0].who, ["press-7"]);
    let nameless = errors("[endpoint]\n[[endpoint.allow]]\nwho = \"press-7\"\n");
    assert!(nameless.len() == 1 && nameless[0].contains("clients have no names"), "{nameless:?}");
}

/// A row per key in the README's table of settings: kind and default are what the code says; the meaning is written by hand.
#[test]
fn the_table_of_defaults_is_what_the_code_does() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let text = std::fs::read_to_string(data.join("every-part.toml")).unwrap();
    let dir = directory(&[("h.toml", &text)]);
    let around = Surroundings { host_name: "HOST".into(), ..around(None, false) };
    let examined = examine(&dir.path().join("h.toml"), &around);
    assert!(examined.config.is_ok(), "{:?}", examined.config);
    let mut rows: Vec<String> = Vec::new();
    for s in &examined.settings {
        let default = match (&s.at, s.required) {
            (_, true) => "**required**".to_owned(),
            (None, _) if s.value.is_empty() => "-".to_owned(),
            (None, _) => format!("`{}`", s.value.trim_matches('"')),
            (Some(_), false) => panic!("every-part.toml gives {}.{}, which is not required", s.header, s.key),
        };
        // What every source or sink has stands once.
        let part = s.header.trim_matches(['[', ']']).split('.').next().unwrap_or_default();
        let header = match (part, s.key.as_str()) {
            ("sources", "type" | "key" | "value" | "ack") if !s.header.ends_with("tls") => "sources.*".to_owned(),
            ("sinks", "type" | "topics" | "exclude" | "rules" | "value") => "sinks.*".to_owned(),
            ("topics", _) => "topics.*".to_owned(),
            ("links", _) => "links.*".to_owned(),
            _ => s.header.trim_matches(['[', ']']).to_owned(),
        };
        let row = format!("| `{header}.{}` | {} | {default} |", s.key, s.kind.replace('|', "or"));
        if !rows.contains(&row) {
            rows.push(row);
        }
    }
    const HEAD: &str = "| key | kind | default | meaning |\n|---|---|---|---|\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = readme.split_once(HEAD).expect("README.md has the table of settings");
    let (table, after) = rest.split_once("\n\n").expect("a table ends");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let old = |row: &String| table.lines().find(|l| l.starts_with(row.as_str())).map(str::to_owned);
        let lines: Vec<String> = rows.iter().map(|row| old(row).unwrap_or_else(|| format!("{row} |"))).collect();
        std::fs::write(&path, format!("{before}{HEAD}{}\n\n{after}", lines.join("\n"))).unwrap();
        return;
    }
    let written: Vec<&str> = table.lines().filter(|l| !l.is_empty()).collect();
    for row in &rows {
        let line = written.iter().find(|l| l.starts_with(row.as_str()));
        let line = line.unwrap_or_else(|| panic!("README.md lacks {row}"));
        assert!(line[row.len()..].trim_matches([' ', '|']).len() > 3, "{row} has no meaning written beside it");
    }
    assert_eq!(written.len(), rows.len(), "README.md has rows that the code does not");
}

/// TOML made of the keys that exist, with values of every kind.
fn any_toml() -> impl Strategy<Value = String> {
    let key = prop::sample::select(vec![
        "type",
        "topic",
        "topics",
        "max_bytes",
        "linger",
        "listen",
        "url",
        "with",
        "uses",
        "name",
        "fields",
        "field",
        "tls",
        "key",
        "password",
        "subscribe",
        "rules",
        "paths",
        "id",
        "labels",
        "path",
        "endpoint",
        "every",
        "by",
        "into",
        "all",
        "not",
        "upstream_topic",
        "spu_address",
        "above",
        "regex",
        "sc_listen",
        "x",
    ]);
    let text = prop::sample::select(vec![
        "file",
        "mqtt",
        "fluvio",
        "filter",
        "sample",
        "rename",
        "*",
        "a",
        "A+",
        "1s",
        "1GiB",
        "{node}",
        "{",
        "mqtt://h",
        "127.0.0.1:1",
        "udp://127.0.0.1:1",
        "",
        "é",
        "off",
        "[",
    ]);
    let leaf = prop_oneof![
        text.prop_map(|t| format!("{t:?}")),
        any::<i64>().prop_map(|n| n.to_string()),
        any::<bool>().prop_map(|b| b.to_string()),
        Just("1.5".to_owned()),
        Just("1979-05-27".to_owned()),
    ];
    let value = leaf.prop_recursive(3, 12, 4, move |inner| {
        let pairs = prop::collection::btree_map(key.clone(), inner.clone(), 0..4);
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(|v| format!("[{}]", v.join(", "))),
            pairs.prop_map(|m| {
                let pairs: Vec<String> = m.iter().map(|(k, v)| format!("{k} = {v}")).collect();
                format!("{{ {} }}", pairs.join(", "))
            }),
        ]
    });
    let header = prop::sample::select(vec![
        "[node]",
        "[ring]",
        "[http]",
        "[endpoint]",
        "[topics.a]",
        "[sources.a]",
        "[sources.b]",
        "[sinks.a]",
        "[[rules]]",
        "[x]",
    ]);
    let keys = prop::sample::select(vec![
        "type",
        "topic",
        "topics",
        "uses",
        "with",
        "name",
        "key",
        "listen",
        "url",
        "subscribe",
        "max_bytes",
        "endpoint",
        "tls",
        "password",
        "labels",
        "id",
        "path",
        "paths",
        "rules",
        "lane",
        "partitions",
    ]);
    let table = (header, prop::collection::btree_map(keys, value, 0..5)).prop_map(|(header, pairs)| {
        let lines: Vec<String> = pairs.iter().map(|(k, v)| format!("{k} = {v}")).collect();
        format!("{header}\n{}\n", lines.join("\n"))
    });
    prop::collection::vec(table, 0..5).prop_map(|tables| tables.concat())
}

/// Examines text without a file.
fn examine_text(text: &str) -> (bool, usize) {
    let around = around(None, false);
    let report = Report::default();
    report.files.borrow_mut().push("h.toml".into());
    let scope = Scope::new(&report, &around);
    let config = raw::parse(0, text, &report).and_then(|root| checked(&root, String::new(), &scope));
    let errors = report.errors.borrow().len();
    (config.is_some(), errors)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn arbitrary_toml_gives_a_config_or_says_why(text in any_toml()) {
        let (config, errors) = examine_text(&text);
        prop_assert!(config || errors > 0, "{text}");
    }

    #[test]
    fn arbitrary_text_never_panics(text in "[a-z\\[\\]{}=\"\n.#, 0-9é]{0,80}") {
        let (config, errors) = examine_text(&text);
        prop_assert!(config || errors > 0, "{text}");
    }
}

#[test]
fn lanes_have_an_order_a_reserve_and_a_usual_one() {
    let lanes = |text: &str| -> Vec<(String, u8)> {
        config(text).ring.lanes.iter().map(|lane| (lane.name.to_string(), lane.reserve)).collect()
    };
    let usual = [("urgent".to_owned(), 10), ("normal".to_owned(), 0), ("bulk".to_owned(), 0)];
    assert_eq!(lanes(""), usual);
    let own = "[ring]\nlanes = [\"first\", \"second\"]\nreserve = { second = \"25%\" }\n[topics.a]\n";
    assert_eq!(lanes(own), [("first".to_owned(), 0), ("second".to_owned(), 25)]);
    let topics = config(own).topics;
    assert_eq!(topics.values().map(|t| t.lane.as_str()).collect::<Vec<_>>(), ["second"], "no lane `normal`: the last");
}

#[test]
fn a_lane_that_is_not_there_and_a_reserve_that_cannot_be_are_errors() {
    let text = "[ring]\nlanes = [\"a\", \"a\"]\nreserve = { b = \"10%\", a = \"95%\" }\n[topics.t]\nlane = \"c\"\n";
    let found = errors(text).join("\n");
    for part in ["`a` is there twice", "no lane `b`; lanes are a, a", "`95%`: write a share", "no lane `c`"] {
        assert!(found.contains(part), "{part} is not said:\n{found}");
    }
    let much = errors("[ring]\nreserve = { urgent = \"60%\", bulk = \"40%\" }\n").join("\n");
    assert!(much.contains("more than 90%"), "{much}");
}

#[test]
fn pausing_that_only_moves_a_loss_or_that_nothing_ends_is_warned_about() {
    let text = "[topics.t]\non_full = \"pause\"\nmax_age = \"7d\"\n[sources.s]\ntype = \"syslog\"\ntopic = \"t\"\nlisten = [\"udp://127.0.0.1:0\"]\n";
    let warnings = look(&[("h.toml", text)]).warnings.join("\n");
    for part in ["no sink takes this topic", "UDP senders do not wait"] {
        assert!(warnings.contains(part), "{part} is not said:\n{warnings}");
    }
    let topic = config(text).topics.into_values().next().unwrap();
    assert_eq!((topic.pause, topic.max_age), (true, Some(Span::from_secs(7 * 86_400))));
}
