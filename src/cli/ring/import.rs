//! `headwater ring import`: exported records into the ring of a stopped node, each of them once.

use std::fs::File;
use std::io::{BufRead, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};

use super::line::{self, Exported, Line};
use super::progress::Progress;
use crate::cli::keys::KeyFiles;
use crate::cli::{Exit, say};
use crate::config::units::parse_size;
use crate::limits::MAX_RECORD;
use crate::node::identity::LockError;
use crate::node::restore::{Foreign, Refused, Restore, RestoreError, Taken};
use crate::ops::human::thousands;

/// A record of the largest size, every byte of it escaped, and the names.
const MAX_LINE: usize = 6 * MAX_RECORD + 64 * 1024;
const BUFFER: usize = 256 * 1024;
/// Lines that are told one by one with --skip-bad.
const TOLD: u64 = 20;

#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  headwater ring import /var/lib/headwater all.jsonl
                                 into the ring of a stopped node
  zcat site-7.jsonl.gz | headwater ring import /var/lib/headwater -
  headwater ring import DIR *.jsonl --skip-bad
                                 counts lines that cannot be used and goes on

What was imported is remembered in the ring: the same file again, or one that
overlaps it, brings nothing twice, also after a crash in between. A record keeps
its key, value, attributes and event time; without an event time, the time of
its first admission becomes that. Topics that are missing are made. Sinks send
imported records like any others.

The node must be stopped. All that was said to be imported is on the device.")]
pub struct Args {
    /// The data directory of a stopped node
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// What `headwater ring export` wrote; `-` is standard input
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Count lines that cannot be used and go on
    #[arg(long)]
    skip_bad: bool,
    /// The ring's cap, like `ring.max_bytes` of the node's config; without it
    /// what the ring was made with, as far as its slots tell
    #[arg(long, value_name = "SIZE")]
    max_bytes: Option<String>,
    #[command(flatten)]
    keys: KeyFiles,
}

pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let keys = args.keys.to_write()?;
    super::disk(&args.dir)?;
    as_its_owner(&args.dir)?;
    // Before anything is taken from the first: the names are right.
    for file in args.files.iter().filter(|file| !is_standard(file)) {
        File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
    }
    let max_bytes = args.max_bytes.as_deref().map(parse_size).transpose();
    let max_bytes = max_bytes.map_err(|why| Exit::usage(format!("--max-bytes {why}")))?;
    let restore = match Restore::open(&args.dir, max_bytes, keys) {
        Ok(restore) => restore,
        Err(RestoreError::Lock(owned @ LockError::Owned { .. })) => {
            let dir = args.dir.display();
            let why = owned.to_string();
            let why = why.split(';').next().unwrap_or_default();
            bail!("{why}: stop the node first; {dir} is written by one process only")
        }
        Err(error) => bail!("nothing can be imported into {}: {error}", args.dir.display()),
    };
    let mut import = Import { restore, args, progress: Progress::new("records"), new: 0, there: 0, bad: 0, gaps: 0 };
    let taken = args.files.iter().try_for_each(|file| import.file(file));
    import.finish(taken)
}

/// Root may write anywhere, but the node could not write to the files that root makes.
fn as_its_owner(dir: &Path) -> anyhow::Result<()> {
    let owner = dir.metadata().map_or(0, |meta| std::os::unix::fs::MetadataExt::uid(&meta));
    if rustix::process::geteuid().is_root() && owner != 0 {
        bail!(
            "{} belongs to user {owner}, who could not write to what root makes there: run it as that user, with `sudo -u '#{owner}'`",
            dir.display()
        );
    }
    Ok(())
}

fn is_standard(file: &Path) -> bool {
    file == Path::new("-")
}

struct Import<'a> {
    restore: Restore,
    args: &'a Args,
    progress: Progress,
    new: u64,
    there: u64,
    bad: u64,
    gaps: u64,
}

impl Import<'_> {
    fn file(&mut self, path: &Path) -> anyhow::Result<()> {
        if is_standard(path) {
            return self.lines("standard input", &mut BufReader::with_capacity(BUFFER, std::io::stdin().lock()));
        }
        let name = path.display().to_string();
        let file = File::open(path).with_context(|| format!("cannot read {name}"))?;
        self.lines(&name, &mut BufReader::with_capacity(BUFFER, file))
    }

    fn lines(&mut self, name: &str, input: &mut dyn BufRead) -> anyhow::Result<()> {
        let mut text = Vec::new();
        for number in 1u64.. {
            text.clear();
            let read = (&mut *input).take(MAX_LINE as u64).read_until(b'\n', &mut text);
            if read.with_context(|| format!("cannot read {name}"))? == 0 {
                break;
            }
            let whole = text.last() == Some(&b'\n');
            if !whole && text.len() == MAX_LINE {
                bail!("{name}, line {number}: longer than any record can be");
            }
            let line = text.trim_ascii();
            if line.is_empty() {
                continue;
            }
            self.progress.add(text.len());
            match line::parse(line) {
                Ok(Line::Gap) => self.gaps += 1,
                Ok(Line::Record(record)) => match self.record(*record)? {
                    Ok(Taken::New) => self.new += 1,
                    Ok(Taken::AlreadyThere) => self.there += 1,
                    // Not a line is wrong but the file: none of it can be meant.
                    Err(own @ Refused::Own(_)) => bail!("{name}, line {number}: {own}"),
                    Err(refused) => self.refuse(name, number, &refused.to_string())?,
                },
                Err(why) => self.refuse(name, number, &why)?,
            }
        }
        Ok(())
    }

    fn record(&mut self, exported: Exported) -> Result<Result<Taken, Refused>, RestoreError> {
        let of = Foreign {
            ring: exported.ring,
            topic: &exported.topic,
            partition: exported.partition,
            partitions: exported.partitions,
            lane: &exported.lane,
            offset: exported.offset,
            time: exported.time.map(|time| (time, exported.clock_trusted)),
        };
        self.restore.take(&of, exported.record)
    }

    fn refuse(&mut self, name: &str, number: u64, why: &str) -> anyhow::Result<()> {
        if !self.args.skip_bad {
            bail!("{name}, line {number}: {why}; --skip-bad leaves such lines out");
        }
        self.bad += 1;
        if self.bad <= TOLD {
            self.progress.clear();
            eprintln!("left out: {name}, line {number}: {why}");
        }
        Ok(())
    }

    /// Makes durable what was taken, and says so; whatever ended it.
    fn finish(mut self, taken: anyhow::Result<()>) -> anyhow::Result<ExitCode> {
        let closed = match &taken {
            // What cannot be written is not tried once more.
            Err(error) if matches!(error.downcast_ref(), Some(RestoreError::Failed(_))) => Ok(()),
            _ => self.restore.close(),
        };
        self.progress.clear();
        let imported = self.restore.durable();
        debug_assert!(taken.is_err() || closed.is_err() || imported == self.new);
        let mut text = format!("{} imported, {} already there", thousands(imported), thousands(self.there));
        text += &format!(", {} refused", thousands(self.bad));
        if self.gaps > 0 {
            text += &format!(", {} gaps in what was read", thousands(self.gaps));
        }
        say(&text)?;
        if self.restore.evicted() > 0 {
            let evicted = thousands(self.restore.evicted());
            eprintln!(
                "warning: the ring is full: {evicted} of its oldest records, which no sink had passed, were evicted; \
                 raise `ring.max_bytes` of the node's config and give the same as --max-bytes"
            );
        }
        if let Err(error) = taken {
            // Whoever stops in the middle says where it stands.
            let some = self.new + self.there > 0 && error.downcast_ref::<RestoreError>().is_none();
            return Err(match some {
                true => anyhow::anyhow!("{error:#}; nothing after it was taken"),
                false => error,
            });
        }
        closed?;
        Ok(if self.bad == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) })
    }
}
