//! `headwater events`: the newest state changes of a running node. The last 1,000 are kept in its ring.

use std::io::Write as _;
use std::process::ExitCode;

use super::client::{self, Where};
use crate::limits::MAX_EVENTS;
use crate::ops::control::protocol::{Answer, Ask};
use crate::ops::events;

#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  headwater events              the last 50 state changes, oldest first
  headwater events -n 1000      all that are kept
  headwater events --json       one JSON object a line

A time that was not trusted carries a `?`: the clock may have been wrong then.
A part that flaps is told in full at first, then once a minute with how many
changes were left out. The last 1,000 are kept in the ring, over restarts.")]
pub struct Args {
    #[command(flatten)]
    pub place: Where,
    /// How many
    #[arg(short, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=MAX_EVENTS as u64))]
    pub n: u64,
    /// One JSON object a line
    #[arg(long)]
    pub json: bool,
}

pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    client::block_on(async {
        let mut client = args.place.connect().await?;
        client.ask(&Ask::Events { n: args.n }).await?;
        let mut out = std::io::stdout().lock();
        loop {
            match client.answer().await? {
                Answer::Event(event) if args.json => writeln!(out, "{}", serde_json::to_string(&event)?)?,
                Answer::Event(event) => writeln!(out, "{}", events::line(&event))?,
                Answer::Done(_) => return Ok(ExitCode::SUCCESS),
                other => return Err(client::unexpected(&other)),
            }
        }
    })
}
