//! `headwater retire`: a node that goes for good. What it has is sent and proven to be there, then its keys are erased.
//!
//! The order is what matters: nothing more is collected, everything is drained, the accounts say so, the node ends, and only
//! then is erased what would be needed to go on. Whatever fails before that leaves the node as it was, but for its sources.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::client::{self, Where};
use super::{Exit, check, drain, say};
use crate::config::{self, Config, DEFAULT_PATH, Named, SinkKind, SourceKind, Surroundings, TlsConfig};
use crate::node::stopped::owner;
use crate::ops::Status;
use crate::ops::control::protocol::Ask;
use crate::ops::human::thousands;

/// Where `headwater unit` has systemd look for credentials.
const CREDENTIALS: &str = "/etc/headwater/credentials";
/// How long a node may take to end.
const END: Duration = Duration::from_secs(30);
/// Records about the node itself come in while it drains.
const ROUNDS: u32 = 5;

#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  headwater retire                  what it would do; nothing is done
  headwater retire --node pump-7    does it, if that is the node's id
  headwater retire --yes            the same, in scripts
  headwater retire --yes --undrained
                                    without asking whether its records are
                                    anywhere else: they may be lost

In this order: the sources end, every sink is drained, the accounts are looked
at, the node is stopped, its secrets are overwritten and removed. It waits for
as long as a sink is behind; ^C ends that, and `headwater reload` begins
collecting again. If a sink has not everything, nothing is erased.

A card keeps old copies of what is overwritten, where no program reaches. An
encrypted ring without its key is safe from that; a key file that lay on the
same card may not be: for what must not be read, destroy the card.

Exit codes: 0 done, 1 not everything is sent or could be erased, 2 wrong usage.")]
pub struct Args {
    /// The node's config file
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT_PATH)]
    config: PathBuf,
    /// Do it, if this is the node's id
    #[arg(long, value_name = "ID")]
    node: Option<String>,
    /// Do it
    #[arg(long)]
    yes: bool,
    /// Erase the keys although records may be nowhere else
    #[arg(long)]
    undrained: bool,
}

pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let examined = config::examine(&args.config, &Surroundings::real(true));
    let config = match &examined.config {
        Ok(config) => config,
        Err(errors) => return check::refused(errors, &format!("the config of {}", args.config.display())),
    };
    let files = to_erase(config, &examined.named);
    match &args.node {
        Some(id) if *id != config.node.id => {
            let text = format!("this is the config of node {}, not of {id}: nothing was done", config.node.id);
            return Err(Exit::usage(text));
        }
        None if !args.yes => {
            plan(config, &files)?;
            return Ok(ExitCode::SUCCESS);
        }
        _ => {}
    }
    let place = Where { config: Some(args.config.clone()), data_dir: None };
    let answers = client::answers(&config.node.control)?;
    if answers {
        client::block_on(client::command(&place, &Ask::Cease))?;
    }
    if !args.undrained {
        drained(config, &place, answers)?;
    }
    if answers {
        stop(config)?;
        say("the node is stopped")?;
    }
    erase(&files)?;
    say(ring_words(config))?;
    Ok(ExitCode::SUCCESS)
}

/// What holds a secret or says who the node is, as far as it is there; sorted.
fn to_erase(config: &Config, named: &BTreeSet<Named>) -> BTreeSet<PathBuf> {
    let secret = |named: &Named| match named {
        Named::Secret(path) => Some(path.clone()),
        Named::Credential(name) => Some(Path::new(CREDENTIALS).join(name)),
        Named::File(_) | Named::Environment(_) => None,
    };
    let mut files: BTreeSet<PathBuf> = named.iter().filter_map(secret).collect();
    let cert = |tls: &Option<TlsConfig>| tls.as_ref().and_then(|tls| tls.cert.clone());
    files.extend(config.sinks.iter().filter_map(|sink| match &sink.kind {
        SinkKind::Fluvio(fluvio) => cert(&fluvio.tls),
        SinkKind::Stdout | SinkKind::File(_) => None,
    }));
    files.extend(config.sources.iter().filter_map(|source| match &source.kind {
        SourceKind::Mqtt(mqtt) => cert(&mqtt.tls),
        _ => None,
    }));
    files.extend(config.endpoint.iter().filter_map(|endpoint| Some(endpoint.tls.as_ref()?.cert.clone())));
    files.retain(|path| path.exists());
    files
}

fn plan(config: &Config, files: &BTreeSet<PathBuf>) -> std::io::Result<()> {
    say(format!("node {} would be retired, which cannot be undone:", config.node.id))?;
    say("  1. its sources and its endpoint take nothing more")?;
    for sink in &config.sinks {
        say(format!("  2. sink {} is drained, and its account looked at", sink.name))?;
    }
    if config.sinks.is_empty() {
        say("  2. it has no sinks: its records are nowhere else, so this needs --undrained")?;
    }
    say("  3. the node is stopped")?;
    for file in files {
        say(format!("  4. {} is overwritten and removed", file.display()))?;
    }
    if files.is_empty() {
        say("  4. the config names no file with a secret")?;
    }
    say(ring_words(config))?;
    say(format!("nothing was done; `headwater retire --node {}` does it", config.node.id))
}

/// What is left to read on the card.
fn ring_words(config: &Config) -> String {
    let dir = config.node.data_dir.display();
    match &config.ring.encryption {
        Some(_) => format!(
            "the ring in {dir} is encrypted: without its key nobody reads it. A card may keep an old copy of a key file that \
             lay on it, where no program reaches: destroy the card if that matters"
        ),
        None => format!(
            "the ring in {dir} is not encrypted: its records can be read by who has the card, also after its files are \
             removed. Destroy the card, or have it erase itself (`blkdiscard`), if that matters"
        ),
    }
}

/// Waits until every sink has everything, and looks at the accounts. An error: not so.
fn drained(config: &Config, place: &Where, answers: bool) -> anyhow::Result<()> {
    let hint = "`--undrained` erases the keys all the same";
    if config.sinks.is_empty() {
        bail!("the node has no sinks: its records are nowhere else; {hint}");
    }
    if !answers {
        bail!("no node answers at {}: start it, so that it can send what waits; {hint}", config.node.control.display());
    }
    let mut left = String::new();
    for _ in 0..ROUNDS {
        drain::run(&drain::Args { place: place.clone() })?;
        let status = client::block_on(client::status(&config.node.control))?;
        left = waiting(&status);
        if left.is_empty() {
            return accounts(&status);
        }
    }
    bail!("not everything is sent: {left}; nothing was erased, `headwater reload` begins collecting again; {hint}")
}

fn waiting(status: &Status) -> String {
    let sinks = status.sinks.iter().filter(|sink| sink.pending > 0);
    let each = |sink: &crate::ops::status::SinkStatus| {
        format!("sink {} has {} waiting ({})", sink.part.name, thousands(sink.pending), sink.part.state)
    };
    sinks.map(each).collect::<Vec<_>>().join(", ")
}

fn accounts(status: &Status) -> anyhow::Result<()> {
    for sink in &status.sinks {
        let gone = sink.evicted + sink.expired + sink.corrupt + sink.lost_unsynced + sink.released;
        say(format!(
            "sink {}: {} admitted, {} delivered, {} filtered, {} refused, {} gone, none waits",
            sink.part.name,
            thousands(sink.admitted),
            thousands(sink.delivered),
            thousands(sink.filtered),
            thousands(sink.refused),
            thousands(gone),
        ))?;
    }
    Ok(())
}

/// Ends the node that owns the directory, and has systemd not start it again.
fn stop(config: &Config) -> anyhow::Result<()> {
    let dir = &config.node.data_dir;
    let Some(pid) = owner(dir) else {
        // Its ring is in memory, and what process it is stands nowhere.
        if client::answers(&config.node.control)? {
            bail!("stop the node, then `headwater retire --yes --undrained`; nothing was erased");
        }
        return Ok(());
    };
    let shown = Command::new("systemctl").args(["show", "headwater.service", "--property=MainPID", "--value"]).output();
    let is_service = shown.is_ok_and(|shown| String::from_utf8_lossy(&shown.stdout).trim() == pid);
    let done = if is_service {
        Command::new("systemctl")
            .args(["disable", "--now", "headwater.service"])
            .status()
            .is_ok_and(|done| done.success())
    } else {
        let pid = pid.parse().ok().and_then(rustix::process::Pid::from_raw);
        pid.is_some_and(|pid| rustix::process::kill_process(pid, rustix::process::Signal::TERM).is_ok())
    };
    let end = Instant::now() + END;
    while done && Instant::now() < end {
        if owner(dir).is_none() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    bail!(
        "the node (process {pid}) does not end: stop it, then `headwater retire --yes --undrained`; nothing was erased"
    )
}

/// All that can be; an error names what could not.
fn erase(files: &BTreeSet<PathBuf>) -> anyhow::Result<()> {
    let mut failed = Vec::new();
    for path in files {
        match overwrite(path) {
            Ok(()) => say(format!("{} is overwritten and removed", path.display()))?,
            Err(error) => failed.push(format!("{}: {error}", path.display())),
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(anyhow::anyhow!(failed.join("; "))).context("not erased") }
}

fn overwrite(path: &Path) -> std::io::Result<()> {
    // What a link leads to is what is secret.
    let target = path.canonicalize()?;
    let file = File::options().write(true).open(&target)?;
    let zeros = [0; 4096];
    let (mut at, end) = (0, file.metadata()?.len());
    while at < end {
        let n = (end - at).min(zeros.len() as u64);
        file.write_all_at(&zeros[..n as usize], at)?;
        at += n;
    }
    file.sync_all()?;
    for path in [target.as_path(), path] {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_erased_is_overwritten_before_its_name_goes_also_behind_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link, other) = (dir.path().join("key"), dir.path().join("link"), dir.path().join("other"));
        std::fs::write(&file, [7; 10_000]).unwrap();
        // Another name of the same bytes shows what became of them.
        std::fs::hard_link(&file, &other).unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        erase(&BTreeSet::from([link.clone()])).unwrap();
        assert!(!file.exists() && std::fs::symlink_metadata(&link).is_err());
        assert_eq!(std::fs::read(&other).unwrap(), [0; 10_000]);
    }

    #[test]
    fn what_cannot_be_erased_is_named_and_the_rest_is_erased() {
        let dir = tempfile::tempdir().unwrap();
        let (absent, file) = (dir.path().join("absent"), dir.path().join("key"));
        std::fs::write(&file, "secret").unwrap();
        let said = erase(&BTreeSet::from([absent.clone(), file.clone()])).unwrap_err();
        assert!(format!("{said:#}").contains(&absent.display().to_string()), "{said:#}");
        assert!(!file.exists());
    }
}
