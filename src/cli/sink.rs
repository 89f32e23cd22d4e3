//! `headwater sink`: orders to one sink of a running node.

use std::process::ExitCode;

use super::client::{self, Where};
use crate::ops::control::protocol::{Ask, SinkVerb};

#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  headwater sink pause hq      records are kept and not sent until `resume` (or
                               a restart)
  headwater sink flush hq      send what waits now, without waiting for the
                               next try
  headwater sink forget old    drop the cursor of a sink that left the config")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Verb {
    /// Send nothing until `resume`; what comes in is kept
    Pause(Target),
    /// Go on sending
    Resume(Target),
    /// Send what waits now: no linger, no waiting for the next try
    Flush(Target),
    /// Drop the cursor and counters of a sink that left the config
    Forget(Target),
}

#[derive(Clone, Debug, clap::Args)]
struct Target {
    /// The sink's name
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    place: Where,
}

pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let (verb, target) = match &args.verb {
        Verb::Pause(target) => (SinkVerb::Pause, target),
        Verb::Resume(target) => (SinkVerb::Resume, target),
        Verb::Flush(target) => (SinkVerb::Flush, target),
        Verb::Forget(target) => (SinkVerb::Forget, target),
    };
    client::block_on(client::command(&target.place, &Ask::Sink { verb, name: target.name.clone() }))?;
    Ok(ExitCode::SUCCESS)
}
