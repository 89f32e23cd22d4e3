//! `headwater completions`: a completion script for a shell.

use std::io::Write as _;
use std::process::ExitCode;

use clap::CommandFactory as _;

#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  headwater completions bash > /etc/bash_completion.d/headwater
  headwater completions zsh  > /usr/share/zsh/site-functions/_headwater
  headwater completions fish > ~/.config/fish/completions/headwater.fish")]
pub struct Args {
    /// The shell
    pub shell: clap_complete::Shell,
}

pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    // Written here, not by the generator: it panics where it cannot write.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::args::Args::command(), "headwater", &mut script);
    std::io::stdout().lock().write_all(&script)?;
    Ok(ExitCode::SUCCESS)
}
