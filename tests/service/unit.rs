//! The unit as systemd reads it, as far as that can be asked without systemd running.

use std::path::{Path, PathBuf};
use std::process::Command;

/// What a service may be exposed to at most, as `systemd-analyze security` counts it.
const MOST: f64 = 2.0;

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/service").join(name)
}

/// Output of both kinds; None, and said so, where the program is not there.
fn said(program: &str, args: &[&str], path: &Path) -> Option<(bool, String)> {
    match Command::new(program).args(args).arg(path).output() {
        Ok(done) => {
            let text = [done.stdout, done.stderr].concat();
            Some((done.status.success(), String::from_utf8_lossy(&text).into_owned()))
        }
        Err(error) => {
            println!("{program}: not available here ({error})");
            None
        }
    }
}

fn lines_of(text: &str, key: &str) -> Vec<String> {
    text.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).map(String::from).collect()
}

#[test]
fn the_unit_is_exposed_to_little() {
    let Some((_, text)) =
        said("systemd-analyze", &["security", "--offline=true", "--no-pager"], &file("headwater.service"))
    else {
        return;
    };
    let overall = text.lines().find(|line| line.contains("Overall exposure level")).unwrap_or_else(|| panic!("{text}"));
    println!("{overall}");
    let score: f64 =
        overall.split_whitespace().find_map(|word| word.parse().ok()).unwrap_or_else(|| panic!("{overall}"));
    assert!(score <= MOST, "{overall}");
}

#[test]
fn systemd_understands_every_line_of_the_unit() {
    // As it is but for the program, which is where a package puts it.
    let dir = tempfile::tempdir().unwrap();
    let unit = dir.path().join("headwater.service");
    let text = std::fs::read_to_string(file("headwater.service")).unwrap();
    std::fs::write(&unit, text.replace("/usr/bin/headwater", env!("CARGO_BIN_EXE_headwater"))).unwrap();
    let Some((good, said)) = said("systemd-analyze", &["verify", "--man=no"], &unit) else { return };
    assert!(good && !said.contains("headwater.service"), "{said}");
}

#[test]
fn the_unit_waits_for_no_network_and_no_clock_and_requires_no_mount() {
    let text = std::fs::read_to_string(file("headwater.service")).unwrap();
    for key in ["After", "Wants", "Requires", "BindsTo", "Requisite"] {
        let named = lines_of(&text, key).join(" ");
        assert!(!named.contains("network") && !named.contains("time") && !named.contains("online"), "{key}={named}");
    }
    // Each of these brings a requirement on the mounts below it: a dead card would keep the node from starting.
    for key in
        ["Requires", "RequiresMountsFor", "StateDirectory", "CacheDirectory", "LogsDirectory", "WorkingDirectory"]
    {
        assert_eq!(lines_of(&text, key), [""; 0], "{key}");
    }
    assert_eq!(lines_of(&text, "StartLimitIntervalSec"), ["0"]);
    assert_eq!(lines_of(&text, "ProtectClock"), [""; 0], "it would forbid to ask whether the clock is trusted");
}

#[test]
fn the_user_and_the_data_directory_are_made_as_the_unit_wants_them() {
    let unit = std::fs::read_to_string(file("headwater.service")).unwrap();
    let user = lines_of(&unit, "User").remove(0);
    let users = std::fs::read_to_string(file("sysusers.conf")).unwrap();
    assert!(users.lines().any(|line| line.starts_with(&format!("u {user} "))), "{users}");
    let dirs = std::fs::read_to_string(file("tmpfiles.conf")).unwrap();
    let dir = headwater::config::DEFAULT_DATA_DIR;
    assert!(dirs.lines().any(|line| line == format!("d {dir} 0750 {user} {user}")), "{dirs}");
    assert!(lines_of(&unit, "ReadWritePaths").contains(&format!("-{dir}")));
    // As their own tools read them, into a tree of their own.
    let root = tempfile::tempdir().unwrap();
    let at = format!("--root={}", root.path().display());
    if let Some((good, said)) = said("systemd-sysusers", &[&at, "--dry-run"], &file("sysusers.conf")) {
        assert!(good, "{said}");
    }
}

#[test]
fn the_hardware_watchdog_is_set_to_what_a_raspberry_pi_takes() {
    let text = std::fs::read_to_string(file("watchdog.conf")).unwrap();
    let [within] = lines_of(&text, "RuntimeWatchdogSec").try_into().unwrap();
    let seconds: u32 = within.strip_suffix('s').unwrap().parse().unwrap();
    assert!((5..=15).contains(&seconds), "{within}");
}
