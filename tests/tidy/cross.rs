//! `cross.toml` is what the `cross` tool builds by, with a container engine that no test has: so its parts are held against
//! what there is. Each target of a board has an image of that target, all of one tag; every key is one that `cross` knows; and
//! what `scripts/build.sh` sets for a build reaches the container.

use super::boards::{boards, read, values};
use super::*;
use toml::{Table, Value};

/// Cross passes these on by itself (its `docs/environment_variables.md`).
fn passes_by_itself(name: &str) -> bool {
    let kept_back = ["CARGO_HOME", "CARGO_TARGET_DIR"]; // cross mounts both, at places of its own
    kept_back.contains(&name) || name.starts_with("CARGO_") || name.starts_with("CROSS_") || name == "RUSTFLAGS"
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
}

/// The names of environment variables that a script gives to what it builds with: `"NAME=value"` and `NAME=value` among its
/// settings, and what it exports.
fn set_by(script: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut within = false;
    for line in script.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        within |= line.contains("settings=(") || line.contains("settings+=(");
        if within {
            let words = line.split(|c: char| c.is_whitespace() || "(\"".contains(c));
            names.extend(words.filter_map(|word| word.split_once('=')).map(|(name, _)| name.to_string()));
        }
        // An array ends on the line that begins with its bracket, or on its own.
        within &= !(line.starts_with(')') || line.contains("settings+=("));
        names.extend(line.strip_prefix("export ").map(str::to_string));
    }
    names.retain(|name| is_name(name));
    names
}

/// What is wrong with a `cross.toml`, for boards of these targets and a script that sets these variables.
fn wrong(text: &str, targets: &[&str], set: &[String]) -> Vec<String> {
    let cross: Table = match text.parse() {
        Ok(cross) => cross,
        Err(e) => return vec![format!("no TOML: {e}")],
    };
    let mut wrong = Vec::new();
    let table = |value: Option<&Value>| value.and_then(Value::as_table).cloned().unwrap_or_default();
    let mut known = |place: &str, table: &Table, keys: &[&str]| {
        let others = table.keys().filter(|key| !keys.contains(&key.as_str()));
        wrong.extend(others.map(|key| format!("{place}: `{key}` is no key that is used here")));
    };
    let build = table(cross.get("build"));
    let environment = table(build.get("env"));
    known("top", &cross, &["build", "target"]);
    known("build", &build, &["env"]);
    known("build.env", &environment, &["passthrough"]);
    let images = table(cross.get("target"));
    for (target, settings) in &images {
        known(target, &table(Some(settings)), &["image"]);
    }

    let passed: Vec<_> = environment.get("passthrough").and_then(Value::as_array).cloned().unwrap_or_default();
    let passed: Vec<_> = passed.iter().map(|name| name.as_str().unwrap_or_default()).collect();
    for (at, name) in passed.iter().enumerate() {
        if !is_name(name) || passed[..at].contains(name) || passes_by_itself(name) {
            wrong.push(format!("passthrough: `{name}` is no name, is twice there, or cross passes it by itself"));
        }
    }
    let lost = set.iter().filter(|name| !passes_by_itself(name) && !passed.contains(&name.as_str()));
    wrong.extend(
        lost.map(|name| format!("passthrough: {name}, which scripts/build.sh sets, does not reach the container")),
    );

    let mut tags = BTreeSet::new();
    for (target, settings) in &images {
        let image = settings.get("image").and_then(Value::as_str).unwrap_or_default();
        match image.strip_prefix(&format!("ghcr.io/cross-rs/{target}:")) {
            Some(tag) if !tag.is_empty() && target.contains("-linux-") => drop(tags.insert(tag.to_string())),
            _ => wrong.push(format!("{target}: `{image}` is not its image")),
        }
    }
    if tags.len() > 1 {
        wrong.push(format!("images of several tags, of which each has a C library of its own: {tags:?}"));
    }
    let missing = targets.iter().filter(|target| !images.contains_key(**target));
    wrong.extend(missing.map(|target| format!("{target}: a board is built for it, and it has no entry")));
    wrong
}

/// The targets of all boards, each once.
fn targets() -> Vec<String> {
    let of = |text: &String| values(&text.parse().expect("TOML"))["target"].clone();
    boards().values().map(of).collect::<BTreeSet<_>>().into_iter().collect()
}

#[test]
fn a_target_of_a_board_has_an_image_and_what_build_sh_sets_reaches_it() {
    let set = set_by(&read("scripts/build.sh"));
    for name in
        ["CFLAGS", "RUSTFLAGS", "CARGO_PROFILE_DIST_LTO", "CARGO_INCREMENTAL", "CROSS_CONFIG", "SOURCE_DATE_EPOCH"]
    {
        assert!(set.iter().any(|n| n == name), "{name} is not seen in scripts/build.sh: {set:?}");
    }
    let targets = targets();
    assert!(targets.len() >= 2, "{targets:?}");
    let targets: Vec<_> = targets.iter().map(String::as_str).collect();
    assert_eq!(wrong(&read("cross.toml"), &targets, &set), Vec::<String>::new());
}

#[test]
fn a_cross_toml_that_is_wrong_is_found_out() {
    let (good, set) = (read("cross.toml"), set_by(&read("scripts/build.sh")));
    let target = "aarch64-unknown-linux-musl";
    assert_eq!(wrong(&good, &[target], &set), Vec::<String>::new());
    for (from, to) in [
        ("[build.env]", "[build.env"),
        ("[build.env]", "[build.environment]"),
        ("passthrough", "pass-through"),
        ("\"CFLAGS\"", "\"cflags\""),
        ("\"CFLAGS\"", "\"CFLAGS\", \"CFLAGS\""),
        ("\"CFLAGS\", ", ""),
        ("[target.aarch64-unknown-linux-musl]", "[target.aarch64-unknown-linux-muslabi]"),
        ("cross-rs/aarch64-unknown-linux-musl", "cross-rs/aarch64-unknown-linux-gnu"),
        ("cross-rs/aarch64-unknown-linux-musl:main", "cross-rs/aarch64-unknown-linux-musl"),
        ("cross-rs/aarch64-unknown-linux-musl:main", "cross-rs/aarch64-unknown-linux-musl:0.2.5"),
        ("image = ", "imagine = "),
    ] {
        let bad = good.replacen(from, to, 1);
        assert_ne!(bad, good, "{from} is not there");
        assert_ne!(wrong(&bad, &[target], &set), Vec::<String>::new(), "{to} is not found out");
    }
    assert_eq!(wrong(&good, &["mips-unknown-linux-gnu"], &set).len(), 1, "a board's target without an entry");
}
