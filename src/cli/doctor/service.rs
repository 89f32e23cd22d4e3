//! Whether the node runs, and how systemd has it.

use std::path::Path;

use super::{Finding, Verdict, fine, found};
use crate::ops::Status;
use crate::ops::check::{Level, check};

/// The node's own words, as `status --check` has them.
pub fn node(status: Option<&Status>) -> Finding {
    let Some(status) = status else {
        let advice = "`systemctl status headwater`, or `headwater run`; `headwater status` says where it was asked";
        return found(Verdict::Unknown, "node", "no node answers that this user may ask", advice);
    };
    let (level, line) = check(status);
    // Without its figures for machines.
    let line = line.split(" | ").next().unwrap_or_default().to_owned();
    match level {
        Level::Ok => fine("node", line),
        Level::Warning => found(Verdict::Warning, "node", line, "`headwater status`"),
        Level::Critical | Level::Unknown => found(Verdict::Problem, "node", line, "`headwater status`"),
    }
}

/// The unit, where this is the machine that systemd runs on.
pub fn unit(root: &Path) -> Finding {
    let unknown = |what: &str| found(Verdict::Unknown, "service", what, "");
    if !root.join("run/systemd/system").exists() {
        return unknown("systemd does not run here");
    }
    let shown = std::process::Command::new("systemctl")
        .args(["show", "headwater.service", "--property=LoadState,ActiveState,UnitFileState,WatchdogUSec,NRestarts"])
        .output();
    match shown {
        Ok(shown) if shown.status.success() => judged(&String::from_utf8_lossy(&shown.stdout)),
        _ => unknown("systemctl does not answer"),
    }
}

fn judged(shown: &str) -> Finding {
    let of = |key: &str| shown.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).unwrap_or_default();
    let (active, enabled, restarts) = (of("ActiveState"), of("UnitFileState"), of("NRestarts"));
    let what = format!("headwater.service is {active}, {enabled}, started again {restarts} times");
    match () {
        () if of("LoadState") != "loaded" => {
            let advice = "README, \"As a service\", says how it is installed";
            found(Verdict::Warning, "service", "there is no headwater.service", advice)
        }
        () if active == "failed" => {
            let advice = "`journalctl -u headwater -n 50` says why; an error in the config is mended by you only";
            found(Verdict::Problem, "service", what, advice)
        }
        () if enabled != "enabled" => {
            let advice = "`sudo systemctl enable --now headwater`: it would not start with the machine";
            found(Verdict::Warning, "service", what, advice)
        }
        () if matches!(of("WatchdogUSec"), "" | "0" | "infinity") => {
            found(Verdict::Warning, "service", format!("{what}, without a watchdog"), "use the unit of scripts/service")
        }
        () if !matches!(restarts, "" | "0") => {
            found(Verdict::Warning, "service", what, "`journalctl -u headwater` says why it ended")
        }
        () => fine("service", what),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_well_only_if_it_runs_starts_with_the_machine_and_is_watched() {
        let shown = |load: &str, active: &str, enabled: &str, watchdog: &str, restarts: u32| {
            let shown = format!(
                "LoadState={load}\nActiveState={active}\nUnitFileState={enabled}\nWatchdogUSec={watchdog}\nNRestarts={restarts}\n"
            );
            judged(&shown).verdict
        };
        assert_eq!(shown("loaded", "active", "enabled", "2min", 0), Verdict::Ok);
        assert_eq!(shown("not-found", "inactive", "", "infinity", 0), Verdict::Warning);
        assert_eq!(shown("loaded", "failed", "enabled", "2min", 0), Verdict::Problem);
        assert_eq!(shown("loaded", "active", "disabled", "2min", 0), Verdict::Warning);
        assert_eq!(shown("loaded", "active", "enabled", "infinity", 0), Verdict::Warning);
        assert_eq!(shown("loaded", "active", "enabled", "2min", 3), Verdict::Warning);
    }
}
