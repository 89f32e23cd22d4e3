//! `headwater send`: lines from standard input into a topic of a running node.
//!
//! A thread reads standard input, so that answers are printed while the next line is being typed; the socket and the two
//! short queues are all that lies between, so a node that falls behind holds the reader back.

use std::io::{BufRead, Read as _, Write as _};
use std::process::ExitCode;

use anyhow::bail;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::mpsc;

use super::client::{self, Where};
use crate::limits::MAX_RECORD;
use crate::ops::control::lines::{LineError, Lines};
use crate::ops::control::protocol::{Ack, Answer, Ask, Blob, Line, decode, encode_into};

/// Pieces read ahead, each of at most this many bytes and a line.
const AHEAD: usize = 4;
const PIECE: usize = 32 * 1024;

#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  headwater send notes < notes.txt            prints the offset of every line
  echo 'valve 3 closed' | headwater send log  once it is durable
  tail -F app.log | headwater send app --ack memory

A line ends with \\n or \\r\\n, which is not part of it. Lines pass the topic's
rules: one that they drop is answered with `filtered`; one that is larger than
a record may be with `refused`, and the command ends with exit code 1. While the
topic takes nothing it waits, and says for what. Sources of a config do the same
without a shell.")]
pub struct Args {
    /// The topic; it is made if it is not there
    pub topic: String,
    /// Answer when a line is durable, or as soon as the node has it in memory
    #[arg(long, value_enum, default_value_t = AckArg::Durable)]
    pub ack: AckArg,
    #[command(flatten)]
    pub place: Where,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum AckArg {
    Durable,
    Memory,
}

pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let ack = if args.ack == AckArg::Memory { Ack::Memory } else { Ack::Durable };
    let refused = client::block_on(async {
        let mut client = args.place.connect().await?;
        client.ask(&Ask::Send { topic: args.topic.clone(), ack, notes: true }).await?;
        let (mut answers, mut out) = client.split();
        let (pieces, mut read) = mpsc::channel(AHEAD);
        std::thread::spawn(move || read_input(&pieces));
        // Ends with the input, or when the node has said why it takes no more.
        let writer = tokio::task::spawn_local(async move {
            while let Some(piece) = read.recv().await {
                let piece: Vec<u8> = piece?;
                if out.write_all(&piece).await.is_err() {
                    break;
                }
            }
            // The half stays open until the answers are in: closing it says that nobody waits for them.
            Ok::<_, std::io::Error>(out)
        });
        let refused = print_answers(&mut answers).await?;
        if writer.is_finished() {
            writer.await??;
        }
        Ok(refused)
    })?;
    Ok(if refused == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// Turns lines into the socket's language. A line longer than any record is cut just above the limit, and so refused.
fn read_input(pieces: &mpsc::Sender<std::io::Result<Vec<u8>>>) {
    let mut input = std::io::BufReader::with_capacity(2 * PIECE, std::io::stdin().lock());
    let mut line = Vec::new();
    let mut piece = Vec::with_capacity(PIECE);
    loop {
        line.clear();
        // The largest record and its end, `\r\n`.
        match input.by_ref().take(MAX_RECORD as u64 + 2).read_until(b'\n', &mut line) {
            Ok(0) => {
                encode_into(&mut piece, &Line::End);
                let _ = pieces.blocking_send(Ok(piece));
                return;
            }
            Ok(_) => {}
            Err(error) => {
                let _ = pieces.blocking_send(Err(error));
                return;
            }
        }
        if line.last() == Some(&b'\n') {
            line.pop();
            line.pop_if(|last| *last == b'\r');
        } else if line.len() > MAX_RECORD && skip_line(&mut input).is_err() {
            return;
        }
        encode_into(&mut piece, &Line::Record(Blob::of(&line)));
        // What is there goes in one piece; what is typed goes at once.
        let more_is_here = memchr::memchr(b'\n', input.buffer()).is_some();
        if (piece.len() >= PIECE || !more_is_here) && pieces.blocking_send(Ok(std::mem::take(&mut piece))).is_err() {
            return;
        }
    }
}

/// Passes over the rest of a line.
fn skip_line(input: &mut impl BufRead) -> std::io::Result<()> {
    loop {
        let buffer = input.fill_buf()?;
        let end = memchr::memchr(b'\n', buffer);
        let used = end.map_or(buffer.len(), |at| at + 1);
        input.consume(used);
        if end.is_some() || used == 0 {
            return Ok(());
        }
    }
}

/// Prints answers as they come; gives how many lines were refused.
async fn print_answers(answers: &mut Lines) -> anyhow::Result<u64> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut refused = 0;
    loop {
        if !answers.has_line() {
            out.flush()?;
        }
        let line = match answers.next().await {
            Ok(Some(line)) => line,
            // Ended with something unread, a node resets the connection.
            Ok(None) | Err(LineError::Io(_)) => {
                out.flush()?;
                bail!(
                    "the node closed the connection; lines without an answer may or may not be kept; `headwater status` says whether it runs again"
                )
            }
            Err(error @ LineError::TooLong(_)) => return Err(error.into()),
        };
        match decode::<Answer>(&line).map_err(anyhow::Error::msg)? {
            Answer::Offset(offset) => writeln!(out, "{offset}")?,
            Answer::Filtered => writeln!(out, "filtered")?,
            Answer::Refused(why) => {
                writeln!(out, "refused")?;
                eprintln!("error: a line was refused: {why}");
                refused += 1;
            }
            Answer::Note(why) => eprintln!("{why}"),
            Answer::Done(_) => {
                out.flush()?;
                return Ok(refused);
            }
            Answer::Failed(why) => {
                out.flush()?;
                bail!(why)
            }
            other => return Err(client::unexpected(&other)),
        }
    }
}
