//! The command line: one file per command, each with its arguments and a `run`.
//!
//! What a command prints for people goes to standard output, errors with what, where and what to do to standard error.
//! Exit codes: 0 done, 1 failed, 2 wrong usage or config; `status --check` follows the Nagios convention.

mod args;
mod audit;
pub mod check;
pub mod client;
mod completions;
mod demo;
mod doctor;
mod drain;
mod events;
pub mod init;
mod keys;
mod needs;
mod reload;
mod retire;
mod ring;
mod rule;
mod run;
mod send;
mod sink;
mod status;
mod tail;
mod unit;

use std::fmt::Display;
use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

use args::{Args, Command};

/// Wrong usage or config.
pub const USAGE: u8 = 2;

/// An error whose text already says all: it ends the command with its exit code.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct Exit {
    pub code: u8,
    pub text: String,
}

impl Exit {
    /// Wrong usage or config.
    pub fn usage(text: impl Into<String>) -> anyhow::Error {
        Self { code: USAGE, text: text.into() }.into()
    }
}

/// The whole program.
pub fn main() -> ExitCode {
    match dispatch(Args::parse().command) {
        Ok(code) => code,
        Err(error) => {
            // A reader that went away (`| head`) is no failure to talk about.
            if error.chain().any(is_broken_pipe) {
                return ExitCode::SUCCESS;
            }
            eprintln!("error: {error:#}");
            ExitCode::from(error.downcast_ref::<Exit>().map_or(1, |exit| exit.code))
        }
    }
}

/// Prints a line to standard output. A reader that went away is an error, by which the command ends, quietly.
fn say(text: impl Display) -> std::io::Result<()> {
    writeln!(std::io::stdout().lock(), "{text}")
}

fn is_broken_pipe(cause: &(dyn std::error::Error + 'static)) -> bool {
    cause.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
}

fn dispatch(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Run(args) => run::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Events(args) => events::run(&args),
        Command::Send(args) => send::run(&args),
        Command::Tail(args) => tail::run(&args),
        Command::Reload(args) => reload::run(&args),
        Command::Sink(args) => sink::run(&args),
        Command::Audit(args) => audit::run(&args),
        Command::Drain(args) => drain::run(&args),
        Command::Ring(args) => ring::run(&args),
        Command::Rule(args) => rule::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Retire(args) => retire::run(&args),
        Command::Unit(args) => unit::run(&args),
        Command::Init(args) => init::run(&args),
        Command::Completions(args) => completions::run(&args),
    }
}
