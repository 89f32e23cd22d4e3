//! `headwater init`: a commented config to begin with.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};

use super::{Exit, say};
use crate::config::{self, starter::starter};

#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  headwater init | less
  headwater init /etc/headwater/headwater.toml
  headwater init site.toml --upstream sc.example:9003

What it writes passes `headwater check` as it stands: this machine's own
figures as a source, everything else there is as comments. A file that is
there is left alone unless --force is given.")]
pub struct Args {
    /// Where to write it; without it, it goes to standard output
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Send everything to this Fluvio cluster
    #[arg(long, value_name = "HOST:PORT")]
    pub upstream: Option<String>,
    /// Replace a file that is there
    #[arg(long)]
    pub force: bool,
}

pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let upstream = args.upstream.as_deref().map(config::upstream_address).transpose();
    let upstream = upstream.map_err(|why| Exit::usage(format!("--upstream: {why}")))?;
    let text = starter(upstream.as_deref());
    let Some(path) = &args.file else {
        std::io::stdout().lock().write_all(text.as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    };
    let mut options = OpenOptions::new();
    options.write(true).create(true).create_new(!args.force).truncate(args.force);
    let mut file = match options.open(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            bail!("{} is there already; --force replaces it", path.display())
        }
        opened => opened.with_context(|| format!("cannot write {}", path.display()))?,
    };
    file.write_all(text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))?;
    say(format_args!("wrote {0}; look it over, then: headwater check -c {0}", path.display()))?;
    Ok(ExitCode::SUCCESS)
}
