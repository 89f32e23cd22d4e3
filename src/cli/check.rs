//! `headwater check`: says whether a config is right, all that is wrong with it, and, with `--print`, what it comes to.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use super::needs::Needs;
use crate::config::{self, ConfigError, DEFAULT_PATH, Examined, Surroundings};

#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  headwater check                   the config at the default path
  headwater check -c site.toml      before it goes to a site
  headwater check --print           the merged result, and where each value
                                    comes from; it is a config itself

Every error comes at once, with file, line, key and what to write instead.
Warnings are what is allowed and probably not meant, and what this user lacks
on this machine: devices, log files, low ports. What lies outside of the config
(brokers, clusters, disks) is not tried: `run` shows it in `headwater status`
and tries it again by itself; `headwater doctor` looks at the device.

Exit codes: 0 `run` would take it (warnings do not count), 2 it would not.")]
pub struct Args {
    /// The config file; conf.d/*.toml beside it belongs to it
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT_PATH)]
    pub config: PathBuf,
    /// Show every setting with the file and line that set it, or that it is the default; secrets are not shown
    #[arg(long)]
    pub print: bool,
}

/// Exit code 0: `run` would take it (warnings do not count); 2: it would not.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let examined = config::examine(&args.config, &Surroundings::real(true));
    let mut err = std::io::stderr().lock();
    for warning in &examined.warnings {
        writeln!(err, "warning: {warning}")?;
    }
    let missing = examined.config.iter().flat_map(|config| Needs::of(config, &examined.named).missing());
    for missing in missing {
        writeln!(err, "warning: here, {missing}")?;
    }
    if let Err(errors) = &examined.config {
        drop(err);
        return refused(errors, &format!("the config of {}", args.config.display()));
    }
    let text = if args.print { config::print(&examined) } else { summary(&examined) };
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// All that is wrong, and where: `whole` where it is in several files.
pub fn refused(errors: &[ConfigError], whole: &str) -> anyhow::Result<ExitCode> {
    let mut err = std::io::stderr().lock();
    for error in errors {
        writeln!(err, "error: {error}")?;
    }
    writeln!(err, "{} in {}", counted(errors.len(), "error"), place(errors, whole))?;
    Ok(ExitCode::from(super::USAGE))
}

/// The one file that has all errors, else the whole.
fn place(errors: &[ConfigError], whole: &str) -> String {
    let mut files = errors.iter().map(|e| e.file.as_path());
    match files.next() {
        Some(file) if files.all(|other| other == file) => file.display().to_string(),
        _ => whole.to_owned(),
    }
}

/// What `run` would start, in a few lines.
fn summary(examined: &Examined) -> String {
    let Ok(config) = &examined.config else { return String::new() };
    let list = |names: Vec<&str>| if names.is_empty() { String::new() } else { format!(": {}", names.join(", ")) };
    let sources = config.sources.iter().map(|s| s.name.as_str()).collect::<Vec<_>>();
    let sinks = config.sinks.iter().map(|s| s.name.as_str()).collect::<Vec<_>>();
    let files = counted(config.files.len(), "file");
    let mut lines = vec![
        format!("ok: {files}, config {}", &config.hash[..4]),
        format!("node {}, data in {}", config.node.id, config.node.data_dir.display()),
        format!("{}{}", counted(sources.len(), "source"), list(sources)),
        counted(config.rules.len(), "rule"),
        format!("{}{}", counted(sinks.len(), "sink"), list(sinks)),
    ];
    lines.extend(config.endpoint.as_ref().map(|e| format!("endpoint on {}, {}", e.sc_listen, e.spu_listen)));
    lines.extend(config.http.as_ref().map(|h| format!("status and metrics on http://{}", h.listen)));
    lines.join("\n") + "\n"
}

pub fn counted(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}
