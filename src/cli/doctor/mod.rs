//! `headwater doctor`: looks at the device that a node runs on, or is to run on, and says what is wrong in plain words.
//!
//! What a device does not report is called unknown and never guessed. Everything is looked at in bounded time, a few
//! megabytes are written to the data directory at most, in a file that has no name any more.

mod bundle;
mod device;
mod place;
mod service;
mod upstream;

use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;

use super::needs::Needs;
use super::{client, say};
use crate::config::{self, Config, DEFAULT_DATA_DIR, DEFAULT_PATH, Examined, Surroundings};
use device::Device;

#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  headwater doctor                  this device, with the config at the
                                    default path
  headwater doctor -c site.toml --json
  headwater doctor --bundle support.tar.gz
                                    and all that support needs, in one file

Best run as the node's user, beside the node or without it:
  sudo -u headwater headwater doctor

A bundle has the findings, the status, the config as `check --print` shows it,
the last lines of the journal, facts of the ring, the kernel and the system.
It has no record and no secret; still, look at it before you send it on.

Exit codes: 0 no problem (warnings do not count), 1 a problem, 2 wrong usage.")]
pub struct Args {
    /// The config file; conf.d/*.toml beside it belongs to it
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT_PATH)]
    config: PathBuf,
    /// The findings as JSON
    #[arg(long)]
    json: bool,
    /// Write what support needs into this file; it must not be there yet
    #[arg(long, value_name = "FILE.tar.gz")]
    bundle: Option<PathBuf>,
    /// Where /sys and /proc of the device are
    #[arg(long, value_name = "DIR", default_value = "/", hide = true)]
    root: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Ok,
    Warning,
    Problem,
    /// The device does not say.
    Unknown,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Problem => "PROBLEM",
            Self::Unknown => "unknown",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub verdict: Verdict,
    pub name: &'static str,
    pub what: String,
    /// What to do about it, in plain words; empty where there is nothing to do.
    pub advice: String,
}

/// A finding of this name.
fn found(verdict: Verdict, name: &'static str, what: impl Into<String>, advice: impl Into<String>) -> Finding {
    Finding { verdict, name, what: what.into(), advice: advice.into() }
}

fn fine(name: &'static str, what: impl Into<String>) -> Finding {
    found(Verdict::Ok, name, what, "")
}

pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let examined = config::examine(&args.config, &Surroundings::real(true));
    let findings = findings(args, &examined);
    let text = if args.json { serde_json::to_string_pretty(&findings)? } else { page(&findings) };
    // Before it: a page that nobody reads to its end must not cost the file.
    let written = args.bundle.as_ref().map(|path| bundle::write(path, args, &examined, &findings)).transpose()?;
    say(text.trim_end())?;
    if let Some(written) = written {
        eprintln!("{written}");
    }
    let ill = findings.iter().any(|finding| finding.verdict == Verdict::Problem);
    Ok(ExitCode::from(u8::from(ill)))
}

fn findings(args: &Args, examined: &Examined) -> Vec<Finding> {
    let config = examined.config.as_ref().ok();
    let data_dir = config.map_or_else(|| PathBuf::from(DEFAULT_DATA_DIR), |config| config.node.data_dir.clone());
    let device = Device::new(&args.root);
    let mut findings = vec![config_found(args, examined)];
    findings.extend(device.storage(place::device_of(&data_dir)));
    findings.extend(device.file_system(&data_dir.canonicalize().unwrap_or_else(|_| data_dir.clone())));
    findings.extend(place::room(&data_dir, config));
    findings.push(place::speed(&data_dir));
    findings.extend(place::permissions(&data_dir, examined));
    findings.extend([device.power(), device.temperature(), device.memory(), device.clock(place::clock_is_trusted())]);
    findings.extend(device.links(&config.map(interfaces).unwrap_or_default()));
    let status = client::block_on(async {
        Ok(client::status(&config.map_or_else(|| data_dir.join("control.sock"), |c| c.node.control.clone())).await.ok())
    });
    let status = status.ok().flatten();
    if let Some(config) = config {
        findings.extend(place::ports(&Needs::of(config, &examined.named), status.is_some()));
        findings.extend(upstream::findings(config));
    }
    findings.push(service::node(status.as_ref()));
    findings.push(service::unit(&args.root));
    findings.push(device.watchdog());
    findings
}

fn config_found(args: &Args, examined: &Examined) -> Finding {
    let at = args.config.display();
    match &examined.config {
        Ok(config) if examined.warnings.is_empty() => fine("config", format!("{at}: node {}", config.node.id)),
        Ok(_) => {
            let n = super::check::counted(examined.warnings.len(), "warning");
            found(Verdict::Warning, "config", format!("{at}: {n}"), format!("`headwater check -c {at}` shows them"))
        }
        Err(errors) => {
            let first = errors.first().map_or_else(|| "no config".into(), ToString::to_string);
            let advice = format!("what it would say is left out below; `headwater check -c {at}` shows every error");
            found(Verdict::Problem, "config", first, advice)
        }
    }
}

/// Interfaces that its links name.
fn interfaces(config: &Config) -> Vec<String> {
    config.links.iter().filter_map(|link| link.interface.clone()).collect()
}

/// One line each, and what to do below it.
fn page(findings: &[Finding]) -> String {
    let mut page = String::new();
    for Finding { verdict, name, what, advice } in findings {
        page += &format!("{:<8} {name:<12} {what}\n", verdict.word());
        if !advice.is_empty() {
            page += &format!("{:<8} {:<12} -> {advice}\n", "", "");
        }
    }
    let count = |verdict| findings.iter().filter(|finding| finding.verdict == verdict).count();
    let [ill, warned] = [count(Verdict::Problem), count(Verdict::Warning)];
    let counted = super::check::counted;
    page + &format!(
        "\n{}, {}, {} unknown\n",
        counted(ill, "problem"),
        counted(warned, "warning"),
        count(Verdict::Unknown)
    )
}
