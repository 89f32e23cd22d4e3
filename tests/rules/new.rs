//! The crates that `headwater rule new` writes build as they are and pass their own cases.

use std::path::Path;
use std::process::{Command, Output};

use super::modules;

const BINARY: &str = env!("CARGO_BIN_EXE_headwater");

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn headwater(dir: &Path, words: &[&str]) -> String {
    let output = Command::new(BINARY).args(words).current_dir(dir).output().unwrap();
    assert!(output.status.success(), "{words:?}: {}", said(&output));
    said(&output)
}

/// Builds a crate with what the modules of the tests were built with: nothing is fetched.
fn build(dir: &Path, name: &str) {
    let lock = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/smartmodules/Cargo.lock");
    std::fs::copy(lock, dir.join("Cargo.lock")).unwrap();
    let target = modules().parent().unwrap();
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo.args(["build", "--offline", "--release", "--target", "wasm32-unknown-unknown"]).current_dir(dir);
    for name in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET"] {
        cargo.env_remove(name);
    }
    let output = cargo.env("CARGO_TARGET_DIR", target).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert!(!said(&output).contains("warning"), "{}", said(&output));
    let file = Path::new("wasm32-unknown-unknown/release").join(format!("{}.wasm", name.replace('-', "_")));
    let to = dir.join("target").join(&file);
    std::fs::create_dir_all(to.parent().unwrap()).unwrap();
    std::fs::copy(target.join(file), to).unwrap();
}

#[test]
fn a_new_crate_of_every_kind_builds_and_passes_its_own_cases() {
    let home = tempfile::tempdir().unwrap();
    // It may well be inside of another workspace.
    std::fs::write(home.path().join("Cargo.toml"), "[workspace]\nmembers = []\n").unwrap();
    for kind in ["filter", "map", "filter-map", "array-map", "aggregate"] {
        let name = format!("new-{kind}");
        headwater(home.path(), &["rule", "new", &name, "--kind", kind]);
        let dir = home.path().join(&name);
        build(&dir, &name);
        let said = headwater(&dir, &["rule", "test", "cases.toml"]);
        assert!(said.contains("passed, 0 failed") && !said.contains("\n0 cases"), "{said}");
        // A case that passes whatever the module does would prove nothing.
        let cases = std::fs::read_to_string(dir.join("cases.toml")).unwrap();
        std::fs::write(dir.join("cases.toml"), cases.replacen("out = [", "out = [\"another\", ", 1)).unwrap();
        let output = Command::new(BINARY).args(["rule", "test", "cases.toml"]).current_dir(&dir).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", self::said(&output));
    }
}
