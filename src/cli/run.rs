//! `headwater run`: the node. Config, log, signals, then [`node::run`] until it has shut down.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::Exit;
use crate::config::{self, Config, DEFAULT_PATH, Surroundings};
use crate::node::{self, Signal};

#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  headwater run                     with /etc/headwater/headwater.toml
  headwater run -c site.toml        with another config

SIGTERM or ^C ends it within 5 s: sources are paused, what was taken is made
durable, cursors are stored. A second one ends it at once. SIGHUP reads the
config again, like `headwater reload`.

Only config errors (exit code 2) and a data directory that another live node
owns (1) keep it from starting. Ports, permissions, peers and disks are shown
in `headwater status` and tried again.")]
pub struct Args {
    /// The config file; conf.d/*.toml beside it belongs to it
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT_PATH)]
    pub config: PathBuf,
}

pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let examined = config::examine(&args.config, &Surroundings::real(false));
    let config = examined.config.map_err(|errors| Exit::usage(words(&errors)))?;
    let set_log = log(&config)?;
    for warning in &config.warnings {
        tracing::warn!(target: "headwater::state", "config: {warning}");
    }
    let file = args.config.clone();
    let load = Box::new(move || config::load(&file).inspect(|config| set_log(config)));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // Name look-ups and file reads of sources; threads end when they are idle.
        .max_blocking_threads(2)
        .thread_keep_alive(std::time::Duration::from_secs(2))
        .build()
        .context("cannot start the event loop")?;
    let ended = tokio::task::LocalSet::new().block_on(&runtime, async {
        let signals = signals()?;
        node::run(config, load, signals).await.map_err(anyhow::Error::from)
    });
    // A thread may still hang in a stalled disk or a name look-up: nothing is gained by waiting for it.
    runtime.shutdown_background();
    ended.map(|()| ExitCode::SUCCESS)
}

/// Every error on a line of its own.
fn words(errors: &[config::ConfigError]) -> String {
    let lines: Vec<_> = errors.iter().map(ToString::to_string).collect();
    lines.join("\nerror: ")
}

/// Warnings and state changes to standard error, or what `node.log` says; without times under systemd, which has its own.
/// Gives what sets the filter to that of another config.
fn log(config: &Config) -> anyhow::Result<impl Fn(&Config) + use<>> {
    let (filter, handle) = tracing_subscriber::reload::Layer::new(filter_of(config));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false).with_ansi(false);
    let registry = tracing_subscriber::registry().with(filter);
    if std::env::var_os("JOURNAL_STREAM").is_some() {
        registry.with(lines.without_time()).try_init()?;
    } else {
        registry.with(lines).try_init()?;
    }
    Ok(move |config: &Config| {
        if let Err(error) = handle.modify(|current| *current = filter_of(config)) {
            tracing::warn!("node.log stays as it was: {error}");
        }
    })
}

/// State changes are shown whatever the level of the rest, unless they are named.
fn filter_of(config: &Config) -> Targets {
    // A checked config has a filter that parses.
    let wanted: Targets = config.node.log.parse().unwrap_or_default();
    if config.node.log.contains("headwater::state") {
        wanted
    } else {
        wanted.with_target("headwater::state", tracing::Level::INFO)
    }
}

/// Signals as the node takes them.
fn signals() -> anyhow::Result<mpsc::Receiver<Signal>> {
    let (sender, receiver) = mpsc::channel(4);
    for (kind, meaning) in [
        (SignalKind::hangup(), Signal::Reload),
        (SignalKind::terminate(), Signal::Stop),
        (SignalKind::interrupt(), Signal::Stop),
    ] {
        let mut stream = signal(kind).context("cannot listen for signals")?;
        let sender = sender.clone();
        tokio::task::spawn_local(async move {
            while stream.recv().await.is_some() {
                if sender.send(meaning).await.is_err() {
                    return;
                }
            }
        });
    }
    // A limit on the size of files is an error of the call that meets it, and not the end of the node: once listened for,
    // the signal does nothing more.
    let _ =
        signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw())).context("cannot listen for signals")?;
    Ok(receiver)
}
