//! `headwater events`: the newest state changes of a node, running or stopped. The last 1,000 are kept in its ring.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::bail;

use super::client::{self, Where};
use super::keys::KeyFiles;
use crate::limits::MAX_EVENTS;
use crate::ops::control::protocol::{Answer, Ask};
use crate::ops::events::{self, EventRecord};
use crate::ops::history;

#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  headwater events              the last 50 state changes, oldest first
  headwater events -n 1000      all that are kept
  headwater events --json       one JSON object a line
  headwater events --data-dir /card
                                those of a stopped node, from its ring

A time that was not trusted carries a `?`: the clock may have been wrong then.
A part that flaps is told in full at first, then once a minute with how many
changes were left out. The last 1,000 are kept in the ring, over restarts and
whatever the ring has to evict; fewer where their texts are long and say
something else each time, since they take at most a quarter of the ring's state.")]
pub struct Args {
    #[command(flatten)]
    pub place: Where,
    #[command(flatten)]
    pub keys: KeyFiles,
    /// How many
    #[arg(short, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=MAX_EVENTS as u64))]
    pub n: u64,
    /// One JSON object a line
    #[arg(long)]
    pub json: bool,
}

pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match args.place.stopped(&args.keys)? {
        Some((dir, ring)) => {
            let kept = history::owner().map(|owner| ring.states(&owner)).unwrap_or_default();
            let events = history::newest(&kept, usize::try_from(args.n)?);
            if events.is_empty() {
                let notes: String = ring.report.notes.iter().map(|note| format!("\n  {note}")).collect();
                bail!("no state changes can be read from the ring in {}{notes}", dir.display());
            }
            events.iter().try_for_each(|event| print(args, event))?;
        }
        None => client::block_on(running(args))?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn running(args: &Args) -> anyhow::Result<()> {
    let mut client = args.place.connect().await?;
    client.ask(&Ask::Events { n: args.n }).await?;
    loop {
        match client.answer().await? {
            Answer::Event(event) => print(args, &event)?,
            Answer::Done(_) => return Ok(()),
            other => return Err(client::unexpected(&other)),
        }
    }
}

fn print(args: &Args, event: &EventRecord) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match args.json {
        true => writeln!(out, "{}", serde_json::to_string(event)?)?,
        false => writeln!(out, "{}", events::line(event))?,
    }
    Ok(())
}
