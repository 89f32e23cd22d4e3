//! `headwater reload`: has a running node read its config again, and waits for what it says.

use std::process::ExitCode;

use super::client::{self, Where};
use crate::ops::control::protocol::Ask;

#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  headwater reload                 says what changed
  headwater check && headwater reload

Sources, sinks, rules, topics, labels, the endpoint, HTTP, the ring's limits,
heartbeat and log change while the node runs; parts that stay the same go on
undisturbed. node.data_dir, node.control and ring.memory_bytes wait for a
restart, and the answer names them.

A config with errors changes nothing: all of them are printed, the old config
runs on, exit code 1. `systemctl reload` and SIGHUP do the same; what they
would print is in `headwater status` and the log.")]
pub struct Args {
    #[command(flatten)]
    pub place: Where,
}

pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    client::block_on(client::command(&args.place, &Ask::Reload))?;
    Ok(ExitCode::SUCCESS)
}
