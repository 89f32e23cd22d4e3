//! A command's end of the control socket: which node is meant, one question, its answers.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{TcpStream, UnixStream};

use super::keys::KeyFiles;
use super::{Exit, say};
use crate::config::{self, Broken, CONTROL_NAME, DEFAULT_DATA_DIR, DEFAULT_PATH, Surroundings, WaysIn};
use crate::node::stopped::StoppedRing;
use crate::ops::Status;
use crate::ops::control::lines::{LineError, Lines};
use crate::ops::control::protocol::{Answer, Ask, MAX_LINE, decode, encode};

/// A node that is asked for its status answers within this, or it hangs.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// Which running node: by its config, by its data directory, or the one at the default path.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Where {
    /// The running node's config file
    #[arg(short, long, value_name = "FILE", conflicts_with = "data_dir")]
    pub config: Option<PathBuf>,
    /// The node's data directory
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

impl Where {
    /// The control socket's path.
    pub fn control(&self) -> anyhow::Result<PathBuf> {
        Ok(self.ways_in()?.control)
    }

    /// The ring in the data directory that was named, if no node answers for it.
    pub fn stopped(&self, keys: &KeyFiles) -> anyhow::Result<Option<(&Path, StoppedRing)>> {
        let Some(dir) = self.data_dir.as_deref() else { return Ok(None) };
        let control = self.control()?;
        if answers(&control)? {
            return Ok(None);
        }
        super::ring::disk(dir)?;
        let ring = StoppedRing::open(dir, &keys.to_read()?)
            .with_context(|| format!("no ring can be read in {}", dir.display()))?;
        Ok(Some((dir, ring)))
    }

    fn file(&self) -> &Path {
        self.config.as_deref().unwrap_or(Path::new(DEFAULT_PATH))
    }

    fn ways_in(&self) -> anyhow::Result<WaysIn> {
        let in_dir = |dir: &Path| WaysIn { control: dir.join(CONTROL_NAME), http: None, broken: None };
        if let Some(dir) = &self.data_dir {
            return Ok(in_dir(dir));
        }
        match config::ways_in(self.file(), &Surroundings::real(true)) {
            Ok(ways) if self.config.is_none() => Ok(WaysIn { broken: None, ..ways }),
            Ok(ways) => Ok(ways),
            // Nobody named it, so it may well not be there.
            Err(_) if self.config.is_none() => Ok(in_dir(Path::new(DEFAULT_DATA_DIR))),
            Err(error) => Err(Exit::usage(error.to_string())),
        }
    }

    /// The status of the node. Where its control socket is not, because its data directory cannot be used, it is read
    /// over HTTP, from the node of this very config only.
    pub async fn status(&self) -> anyhow::Result<Status> {
        let ways = self.ways_in()?;
        let any = ways.broken.as_ref().is_none_or(|broken| broken.named);
        let error = match status(&ways.control).await {
            Ok(status) if any || self.is_of(&status) => return Ok(status),
            Ok(_) => anyhow::anyhow!("another node answers at {}", ways.control.display()),
            Err(error) => error,
        };
        if let Some(at) = ways.http
            && let Ok(status) = status_over_http(at).await
            && self.is_of(&status)
        {
            return Ok(status);
        }
        Err(match ways.broken {
            Some(broken) => lost(&broken, &error),
            None => error,
        })
    }

    /// Whether a node has this very config.
    fn is_of(&self, status: &Status) -> bool {
        status.config.files.first().is_some_and(|file| is_same(file, self.file()))
    }

    /// The node of a config with an error of syntax is found as well, by what else is in there. Where that leads nowhere,
    /// or to another node, the error is what there is to say.
    pub async fn connect(&self) -> anyhow::Result<Client> {
        let ways = self.ways_in()?;
        let Some(broken) = ways.broken else { return Client::connect(&ways.control).await };
        if !broken.named && !status(&ways.control).await.is_ok_and(|status| self.is_of(&status)) {
            return Err(Exit::usage(broken.error.to_string()));
        }
        Client::connect(&ways.control).await.map_err(|error| lost(&broken, &error))
    }
}

/// Why the node of a broken config is not found: of the config first.
fn lost(broken: &Broken, error: &anyhow::Error) -> anyhow::Error {
    let found = if broken.named { format!("\nerror: {error:#}") } else { String::new() };
    Exit::usage(format!("{}{found}", broken.error))
}

/// Whether a node answers at a socket.
pub fn answers(control: &Path) -> anyhow::Result<bool> {
    match std::os::unix::net::UnixStream::connect(control).map_err(|error| (error.kind(), error)) {
        Err((io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused, _)) => Ok(false),
        // One may well answer there, and write to the ring.
        Err((_, error)) => bail!("{}", unreachable(control, &error)),
        Ok(_) => Ok(true),
    }
}

/// Why a socket is not answered, and what to do.
fn unreachable(path: &Path, error: &io::Error) -> String {
    let at = path.display();
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => format!(
            "no node answers at {at}: there is no such socket; start it with `headwater run`, or name the node with `-c FILE` or `--data-dir DIR`"
        ),
        io::ErrorKind::ConnectionRefused => {
            format!("no node answers at {at}: the one that made this socket has ended; start it with `headwater run`")
        }
        io::ErrorKind::PermissionDenied => {
            format!("no permission to use {at}: be root, the node's user, or a member of the group `headwater`")
        }
        _ => format!("cannot connect to {at}: {error}"),
    }
}

/// An answer to another question.
pub fn unexpected(answer: &Answer) -> anyhow::Error {
    anyhow::anyhow!("the node answered with something else: {answer:?}")
}

/// One connection: one question.
pub struct Client {
    /// The socket's path.
    at: PathBuf,
    lines: Lines,
    out: OwnedWriteHalf,
}

impl Client {
    pub async fn connect(path: &Path) -> anyhow::Result<Self> {
        let stream = match UnixStream::connect(path).await {
            Ok(stream) => stream,
            Err(error) => bail!(unreachable(path, &error)),
        };
        let (read, out) = stream.into_split();
        Ok(Self { at: path.into(), lines: Lines::new(read, MAX_LINE), out })
    }

    pub async fn ask(&mut self, ask: &Ask) -> anyhow::Result<()> {
        self.write(&encode(ask)).await
    }

    pub async fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        // Not as an error of the system: a pipe that broke here is no reader of ours that went away.
        self.out.write_all(bytes).await.map_err(|_| self.closed())
    }

    /// The next answer; a failed one is an error.
    pub async fn answer(&mut self) -> anyhow::Result<Answer> {
        // Ended with something unread, a node resets the connection.
        let line = match self.lines.next().await {
            Ok(Some(line)) => line,
            Ok(None) | Err(LineError::Io(_)) => return Err(self.closed()),
            Err(error @ LineError::TooLong(_)) => return Err(error.into()),
        };
        match decode(&line).map_err(anyhow::Error::msg)? {
            Answer::Failed(why) => bail!(why),
            answer => Ok(answer),
        }
    }

    fn closed(&self) -> anyhow::Error {
        anyhow::anyhow!(
            "the node at {} closed the connection before its last answer: it was stopped or killed; `headwater status` says whether it runs again",
            self.at.display()
        )
    }

    /// Whether an answer is here already.
    pub fn has_answer(&self) -> bool {
        self.lines.has_line()
    }

    /// Both directions at once, for those who write while they read.
    pub fn split(self) -> (Lines, OwnedWriteHalf) {
        (self.lines, self.out)
    }
}

/// The status of the node behind a control socket.
pub async fn status(control: &Path) -> anyhow::Result<Status> {
    let asked = async {
        let mut client = Client::connect(control).await?;
        client.ask(&Ask::Status).await?;
        match client.answer().await? {
            Answer::Status(status) => Ok(*status),
            other => Err(unexpected(&other)),
        }
    };
    match tokio::time::timeout(ANSWERS_WITHIN, asked).await {
        Ok(status) => status,
        Err(_) => bail!("the node at {} does not answer within {ANSWERS_WITHIN:?}", control.display()),
    }
}

async fn status_over_http(at: SocketAddr) -> anyhow::Result<Status> {
    let asked = async {
        let mut stream = TcpStream::connect(at).await?;
        stream.write_all(format!("GET /status HTTP/1.0\r\nHost: {at}\r\n\r\n").as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(MAX_LINE as u64).read_to_end(&mut answer).await?;
        let body = memchr::memmem::find(&answer, b"\r\n\r\n").context("no HTTP")? + 4;
        Ok(serde_json::from_slice(&answer[body..])?)
    };
    tokio::time::timeout(ANSWERS_WITHIN, asked).await?
}

fn is_same(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// Asks for something that is done or not, and prints what the node says.
pub async fn command(place: &Where, ask: &Ask) -> anyhow::Result<()> {
    let mut client = place.connect().await?;
    client.ask(ask).await?;
    match client.answer().await? {
        Answer::Done(text) => say(text)?,
        other => return Err(unexpected(&other)),
    }
    Ok(())
}

/// Runs a command's future on a runtime of its own.
pub fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let mut done = None;
    drive(std::pin::pin!(async { done = Some(future.await) }))?;
    done.context("it did not end")?
}

/// The runtime is compiled once, not for the future of each command.
fn drive(future: Pin<&mut dyn Future<Output = ()>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, future);
    Ok(())
}
