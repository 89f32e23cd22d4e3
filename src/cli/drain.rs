//! `headwater drain`: waits until every sink has what had come in.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use super::client::{self, Where};
use super::say;
use crate::ops::control::protocol::{Answer, Ask, Waiting};
use crate::ops::human::thousands;

#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  headwater drain                            before a gateway is taken away
  timeout 600 headwater drain || echo late   at most ten minutes

^C stops the waiting, not the sending. Paused sinks are not waited for, and
neither is what comes in after the call.")]
pub struct Args {
    #[command(flatten)]
    pub place: Where,
}

pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    client::block_on(async {
        let mut client = args.place.connect().await?;
        client.ask(&Ask::Drain).await?;
        let mut shown = Shown::default();
        loop {
            match client.answer().await? {
                Answer::Progress(waiting) => shown.show(&waiting),
                Answer::Done(text) => {
                    shown.end();
                    say(text)?;
                    return Ok(ExitCode::SUCCESS);
                }
                other => return Err(client::unexpected(&other)),
            }
        }
    })
}

/// Progress on standard error: one line that changes on a terminal, a line every ten seconds elsewhere.
#[derive(Default)]
struct Shown {
    lines: u32,
}

impl Shown {
    fn show(&mut self, waiting: &[Waiting]) {
        let text: Vec<_> = waiting.iter().filter(|w| w.pending > 0).map(words).collect();
        if text.is_empty() {
            return;
        }
        self.lines += 1;
        if std::io::stderr().is_terminal() {
            eprint!("\r\x1b[K{}", text.join("; "));
        } else if self.lines % 10 == 1 {
            eprintln!("{}", text.join("; "));
        }
    }

    fn end(&self) {
        if self.lines > 0 && std::io::stderr().is_terminal() {
            eprint!("\r\x1b[K");
        }
    }
}

fn words(waiting: &Waiting) -> String {
    let why = if waiting.what.is_empty() { String::new() } else { format!(" ({}: {})", waiting.state, waiting.what) };
    format!("{}: {} waiting{why}", waiting.sink, thousands(waiting.pending))
}
