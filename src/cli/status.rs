//! `headwater status`: how a running node is; for people, as JSON, or as a check line for monitoring.

use std::process::ExitCode;

use super::client::{self, Where};
use super::say;
use crate::ops::check::{Level, check, unasked};
use crate::ops::text;

#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  headwater status                     the node at the default path
  headwater status -c site.toml        the node of that config
  headwater status --json | jq .ring   for programs; fields are added, never
                                       renamed
  headwater status --check             one line for Nagios, Icinga, Zabbix; exit
                                       code 0 OK, 1 WARNING, 2 CRITICAL,
                                       3 UNKNOWN

The page:
  node      version, hash of the loaded config, time since the start, clock
  ring      how full, how long there is room at today's rate (once there is
            an hour to go by), what was written to the card in the last day
  sinks     state and why; below it what waits and what was lost:
            evicted (the ring was full), corrupt (unreadable on the card),
            maybe duplicated (sent, and no answer came)
  sources   state and why; what was received, and what was not kept
  others    only when they need somebody

`next try` is when it is tried again by itself.")]
pub struct Args {
    #[command(flatten)]
    pub place: Where,
    /// Everything there is to know, as JSON
    #[arg(long, conflicts_with = "check")]
    pub json: bool,
    /// One line and an exit code for monitoring
    #[arg(long)]
    pub check: bool,
}

pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let asked = client::block_on(args.place.status());
    if args.check {
        let (level, line) = match &asked {
            Ok(status) => check(status),
            Err(error) => (Level::Unknown, unasked(Level::Unknown, &format!("{error:#}"))),
        };
        // The exit code speaks although nobody reads.
        let _ = say(line);
        return Ok(ExitCode::from(level.exit_code()));
    }
    let status = asked?;
    if args.json {
        say(serde_json::to_string_pretty(&status)?)?;
    } else {
        say(text::page(&status).trim_end())?;
    }
    Ok(ExitCode::SUCCESS)
}
