//! The words of the command line, and its manual pages.

use std::sync::LazyLock;

use clap::{Parser, Subcommand};

use crate::ops::status::{VERSION, target};

/// Version, target and features, as `--version` shows them. There are no optional features yet.
fn version() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| format!("{VERSION} ({}; features: all)", target()));
    &TEXT
}

#[derive(Debug, Parser)]
#[command(
    name = "headwater",
    version = version(),
    about = "A stream node for small machines: collects local events, keeps them through power cuts, forwards them to Fluvio",
    after_help = "\
A first try:
  headwater demo                 real events, a cut link, and the proof that
                                 nothing was lost
A node of your own:
  headwater init /etc/headwater/headwater.toml
  headwater check                what `run` would say, every error at once
  headwater run
Looking at it:
  headwater status               the ring, every sink and source, in plain words
  headwater doctor               the device: card, power, clock, links
  headwater events               what changed lately: links, ports, disks
  headwater tail telemetry       a topic's records as they become durable
  headwater send notes < a.txt   lines into a topic; prints their offsets

Exit codes: 0 done, 1 failed, 2 wrong usage or config.
`headwater help COMMAND` says more about each.",
    subcommand_required = true,
    arg_required_else_help = true
)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the node until SIGTERM; SIGHUP reads the config again
    Run(super::run::Args),
    /// Say whether a config is right, and everything that is wrong with it
    Check(super::check::Args),
    /// Show the main job on real input, and prove at the end that nothing was lost
    Demo(super::demo::DemoArgs),
    /// Show how a running node is
    Status(super::status::Args),
    /// Show the newest state changes of a node
    Events(super::events::Args),
    /// Send lines from standard input into a topic of a running node
    Send(super::send::Args),
    /// Print a topic's records, a line each
    Tail(super::tail::Args),
    /// Have a running node read its config again
    Reload(super::reload::Args),
    /// Pause, resume, flush or forget a sink
    Sink(super::sink::Args),
    /// Wait until every sink is caught up
    Drain(super::drain::Args),
    /// Compare what the ring holds with what a sink's upstream stored, record by record
    Audit(super::audit::Args),
    /// Look into a ring, take records out of it or into it, try a card
    Ring(super::ring::Args),
    /// Try rules: by cases, over what a ring holds, or begin one of your own
    Rule(super::rule::Args),
    /// Print the systemd drop-in that a config needs
    Unit(super::unit::Args),
    /// Look at the device: storage, power, clock, links, what the node needs
    Doctor(super::doctor::Args),
    /// Drain a node that goes for good, and erase its keys
    Retire(super::retire::Args),
    /// Write a commented config to begin with
    Init(super::init::Args),
    /// Print a completion script for a shell
    Completions(super::completions::Args),
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent_and_every_command_has_an_example() {
        let command = Args::command();
        command.clone().debug_assert();
        for sub in command.get_subcommands() {
            let help = sub.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains(&format!("headwater {}", sub.get_name())), "{} has no example", sub.get_name());
        }
    }

    #[test]
    fn every_command_of_rule_has_an_example_that_fits_an_old_terminal() {
        let command = Args::command();
        let rule = command.find_subcommand("rule").unwrap();
        for sub in rule.get_subcommands() {
            let help = sub.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains(&format!("headwater rule {}", sub.get_name())), "{} has no example", sub.get_name());
            assert!(help.lines().all(|line| line.chars().count() <= 80), "{help}");
        }
    }

    #[test]
    fn what_was_aligned_by_hand_fits_an_old_terminal() {
        let command = Args::command();
        for sub in std::iter::once(&command).chain(command.get_subcommands()) {
            let help = sub.get_after_help().map(ToString::to_string).unwrap_or_default();
            let wide: Vec<&str> = help.lines().filter(|line| line.chars().count() > 80).collect();
            assert!(wide.is_empty(), "{}: {wide:?}", sub.get_name());
        }
    }
}
