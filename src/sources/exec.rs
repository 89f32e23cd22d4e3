//! `exec`: the lines that a program prints.
//!
//! The program is started as it is named, with its arguments, without a shell, in a process group of its own, and with
//! nothing on its standard input. Without `every` it is meant to run for good: when it ends, that is an error which the
//! supervisor shows and answers by starting it again after a growing wait. With `every` it is run that often; a run
//! that is still going when the next is due is left alone and the next left out. When the node stops, the whole group
//! is asked to end (SIGTERM) and ended (SIGKILL) if it does not.
//!
//! What it prints on standard error is counted, and its last line shown with the state: that is where programs say why.
//! Lines cannot be acknowledged to a program; one that is printed while the disk is behind waits in the pipe.

use std::io::ErrorKind;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::net::unix::pipe::Receiver;
use tokio::process::{Child, Command};
use tokio::time::MissedTickBehavior;

use super::net::TryRead;
use super::socket::count_received;
use super::{Inlet, SourceError, offer};
use crate::config::model::ExecSource;
use crate::framing::{Framer, Framing};
use crate::hub::PartState;
use crate::record::{Flags, RecordRef};
use crate::topic::TopicId;

const BLOCK: usize = 16 * 1024;
/// What is kept of a line on standard error.
const MAX_STDERR_LINE: usize = 256;
/// How long a program has to end by itself.
const PATIENCE: Duration = Duration::from_secs(2);
/// Lines taken before others have their turn.
const TURN: usize = 128;

pub async fn run(config: &ExecSource, intake: Inlet) -> Result<(), SourceError> {
    let topic = intake.topic(&config.topic)?;
    let job = Job { config, intake, topic };
    let Some(every) = config.every else {
        return match job.once().await? {
            Some(end) => Err(SourceError::Peer(format!("{end}; it is started again"))),
            None => Ok(()),
        };
    };
    let period = every.to_std().max(Duration::from_millis(1));
    let mut due = tokio::time::interval(period);
    due.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut last = None;
    loop {
        let this = tokio::select! {
            () = job.intake.stopping() => return Ok(()),
            this = due.tick() => this,
        };
        // The times at which it was due since the last run.
        let passed = last.map_or(1, |last| this.duration_since(last).as_nanos() / period.as_nanos());
        let left_out = passed.saturating_sub(1);
        last = Some(this);
        job.intake.count("left_out_runs", left_out as u64);
        let Some(end) = job.once().await? else { return Ok(()) };
        job.intake.count("runs", 1);
        if !end.status.success() {
            job.intake.count("failed_runs", 1);
            job.intake.report(PartState::warn(end.to_string()));
        } else if left_out > 0 {
            let what = format!("`{}` takes longer than `every` ({period:?}): runs are left out", job.name());
            job.intake.report(PartState::warn(what));
        } else {
            job.intake.report(PartState::up(format!("runs `{}`", job.name())));
        }
    }
}

/// How a run ended.
struct End {
    name: String,
    status: ExitStatus,
    said: String,
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}` ended ({})", self.name, self.status)?;
        if self.said.is_empty() { Ok(()) } else { write!(f, ": {}", self.said) }
    }
}

struct Job<'a> {
    config: &'a ExecSource,
    intake: Inlet,
    topic: TopicId,
}

impl Job<'_> {
    fn name(&self) -> &str {
        self.config.command.first().map_or("", String::as_str)
    }

    fn start(&self) -> Result<Child, SourceError> {
        let (program, arguments) = self.config.command.split_first().ok_or_else(|| SourceError::Io {
            op: "start",
            path: String::new(),
            reason: "`command` is empty".into(),
        })?;
        let started = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn();
        started.map_err(|e| {
            let reason = match e.kind() {
                ErrorKind::NotFound => "there is no such program: write its full path, or install it".into(),
                ErrorKind::PermissionDenied => "not executable for the node's user".into(),
                _ => e.to_string(),
            };
            SourceError::Io { op: "start", path: program.clone(), reason }
        })
    }

    /// Runs the program to its end; None: the node stops.
    async fn once(&self) -> Result<Option<End>, SourceError> {
        let mut child = self.start()?;
        // Asked now: once the child is reaped, its number may be another's.
        let group = Group(child.id().and_then(|id| Pid::from_raw(id as i32)));
        let stdout = child.stdout.take().and_then(|out| Receiver::from_owned_fd(out.into_owned_fd().ok()?).ok());
        let stderr = child.stderr.take().and_then(|err| Receiver::from_owned_fd(err.into_owned_fd().ok()?).ok());
        if self.config.every.is_none() {
            self.intake.report(PartState::up(format!("`{}` runs", self.name())));
        }
        let mut said = String::new();
        let ended = tokio::select! {
            () = self.intake.stopping() => None,
            status = async {
                // Its lines end when the last that holds the pipe is gone, which may be later than the program.
                tokio::join!(self.take_lines(stdout), self.hear(stderr, &mut said));
                child.wait().await
            } => Some(status),
        };
        let Some(status) = ended else {
            group.end(&mut child).await;
            return Ok(None);
        };
        let status =
            status.map_err(|e| SourceError::Io { op: "wait for", path: self.name().into(), reason: e.to_string() })?;
        Ok(Some(End { name: self.name().into(), status, said }))
    }

    async fn take_lines(&self, stdout: Option<Receiver>) {
        let Some(stdout) = stdout else { return };
        let mut framer = Framer::new(Framing::Lines, self.config.max_line, BLOCK);
        let mut turn = 0;
        loop {
            while let Some(line) = framer.next_frame() {
                if !self.take(line.bytes, line.truncated).await {
                    return;
                }
                turn += 1;
                if turn % TURN == 0 {
                    tokio::task::yield_now().await;
                }
            }
            if !read_some(&mut framer, &stdout).await {
                break;
            }
        }
        if let Some(line) = framer.flush() {
            self.take(line.bytes, line.truncated).await;
        }
    }

    async fn take(&self, line: &[u8], truncated: bool) -> bool {
        count_received(&self.intake, line, truncated);
        let flags = if truncated { Flags::TRUNCATED } else { Flags::default() };
        offer(&self.intake, self.topic, &RecordRef { value: line, flags, ..RecordRef::default() }).await
    }

    async fn hear(&self, stderr: Option<Receiver>, said: &mut String) {
        let Some(stderr) = stderr else { return };
        let mut framer = Framer::new(Framing::Lines, MAX_STDERR_LINE, MAX_STDERR_LINE);
        let mut note = |line: &[u8]| {
            self.intake.count("stderr_lines", 1);
            if !line.trim_ascii().is_empty() {
                *said = String::from_utf8_lossy(line.trim_ascii()).into_owned();
            }
        };
        while read_some(&mut framer, &stderr).await {
            while let Some(line) = framer.next_frame() {
                note(line.bytes);
            }
        }
        if let Some(line) = framer.flush() {
            note(line.bytes);
        }
    }
}

/// False at the end; a pipe that cannot be read any more has ended as well.
async fn read_some(framer: &mut Framer, pipe: &Receiver) -> bool {
    loop {
        if pipe.readable().await.is_err() {
            return false;
        }
        match framer.fill(&mut TryRead(|buf: &mut [u8]| pipe.try_read(buf))) {
            Err(e) if e.kind() == ErrorKind::WouldBlock => {}
            read => return read.is_ok_and(|n| n > 0),
        }
    }
}

/// The child's process group. Dropped without [`Group::end`], as when the source is replaced, it is killed.
struct Group(Option<Pid>);

impl Group {
    async fn end(mut self, child: &mut Child) {
        let Some(group) = self.0.take() else { return };
        let _gone_already = kill_process_group(group, Signal::TERM);
        if tokio::time::timeout(PATIENCE, child.wait()).await.is_err() {
            let _gone_meanwhile = kill_process_group(group, Signal::KILL);
            let _reaped = child.wait().await;
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0.take() {
            let _gone_already = kill_process_group(group, Signal::KILL);
        }
    }
}
