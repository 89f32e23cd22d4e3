//! `headwater reload`: has a running node read its config again, and waits for what it says.

use std::process::ExitCode;

use super::client::{self, Where};
use crate::ops::control::protocol::Ask;

#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  headwater reload                 says what was loaded, and which keys wait for a restart
  headwater reload || echo bad     a config with errors leaves the old one running; exit code 1")]
pub struct Args {
    #[command(flatten)]
    pub place: Where,
}

pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    client::block_on(client::command(&args.place, &Ask::Reload))?;
    Ok(ExitCode::SUCCESS)
}
