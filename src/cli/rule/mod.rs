//! `headwater rule`: tries rules before a node runs them: by cases, over what a ring holds, and new ones of one's own.

mod compare;
mod new;
mod store;
mod test;
mod trial;
mod try_out;

use std::process::ExitCode;

#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  headwater rule test cases.toml       does a config's rules do what they are
                                       to do? Cases with records in and out
  headwater rule try -c new.toml       what would other rules have made of what
                                       the node has stored?
  headwater rule new my-filter         a SmartModule of one's own to begin with

None of them writes to a ring or changes a node. `headwater help rule test`
says more, and so on.")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Verb {
    /// Run cases that are kept beside a config: what goes in, what is to come out
    Test(test::Args),
    /// Run a config's rules over what a ring holds, and show what would change
    Try(try_out::Args),
    /// Write a small SmartModule crate to begin with
    New(new::Args),
}

pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.verb {
        Verb::Test(args) => test::run(args),
        Verb::Try(args) => try_out::run(args),
        Verb::New(args) => new::run(args),
    }
}
