//! The control socket: how the commands talk to a running node.
//!
//! A Unix stream socket of mode 0660, owned by the group `headwater` where there is one; who may open it may do
//! everything. It appears under its name only when its mode is set. A file left over from a crash is replaced; one that
//! another live node answers on is not, and that is shown and tried again like every other trouble with a port.
//!
//! The language is [`protocol`]'s. Here is the server: [`run`] opens the process's [`Door`] and serves.

pub mod lines;
pub mod protocol;
mod send;
pub mod tail;

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::task::Poll;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, oneshot};

use self::lines::{LineError, Lines};
use self::protocol::{Answer, Ask, MAX_LINE, SinkVerb, Waiting, decode, encode, encode_into};
use super::Ops;
use crate::backoff::Backoff;
use crate::hub::{self, PartKind, PartState};
use crate::limits::MAX_CONNECTIONS;
use crate::name::Name;
use crate::time::Span;

/// Who connects must ask within this.
const ASK_WITHIN: Duration = Duration::from_secs(30);
/// How long a disk may take to remove the socket's file.
const CLOSE_WITHIN: Duration = Duration::from_millis(500);
/// Progress of a drain is told this often.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);
/// The group whose members may use the socket.
pub const GROUP: &str = "headwater";

/// The socket of a process, whose lives on one ring after another share it: who connects between two of them waits a
/// moment and is answered by the next. Its file is removed when this is dropped or closed.
pub struct Door {
    path: PathBuf,
    bound: RefCell<Option<Rc<Bound>>>,
    /// Under way.
    binding: RefCell<Option<Binding>>,
}

/// None: what was bound is there.
type Binding = oneshot::Receiver<Result<Option<Listening>, BindError>>;

/// A bound socket and its file.
type Listening = (std::os::unix::net::UnixListener, (u64, u64));

/// A listener, and which file it is.
struct Bound {
    listener: UnixListener,
    file: (u64, u64),
}

impl Door {
    pub fn new(path: PathBuf) -> Self {
        Self { path, bound: RefCell::default(), binding: RefCell::default() }
    }

    /// The listener; bound anew where its file is not there any more, as after a card was changed. In a thread of its own:
    /// a card that hangs keeps nobody but the caller waiting. What a caller began who did not wait for it is waited for.
    async fn open(&self) -> Result<Rc<Bound>, BindError> {
        if self.binding.borrow().is_none() {
            let (path, known) = (self.path.clone(), self.bound.borrow().as_ref().map(|bound| bound.file));
            let (tell, done) = oneshot::channel();
            let bind = move || {
                let same = known.is_some() && file_at(&path) == known;
                // Who asked may have gone for good.
                let _ = tell.send(if same { Ok(None) } else { bind(&path).map(Some) });
            };
            // Where no thread can be had the sender goes with it, and is missed.
            let _ = std::thread::Builder::new().name("control".into()).spawn(bind);
            self.binding.replace(Some(done));
        }
        let done = poll_fn(|context| match self.binding.borrow_mut().as_mut() {
            Some(done) => Pin::new(done).poll(context).map(Result::ok),
            None => Poll::Ready(None),
        });
        let done = done.await;
        self.binding.take();
        let io = |error| BindError::Io { path: self.path.clone(), error, hint: "" };
        let known = self.bound.borrow().clone();
        match (done, known) {
            (Some(Ok(None)), Some(bound)) => Ok(bound),
            (Some(Ok(Some((listener, file)))), _) => {
                let bound = Rc::new(Bound { listener: UnixListener::from_std(listener).map_err(io)?, file });
                self.bound.replace(Some(bound.clone()));
                Ok(bound)
            }
            (Some(Err(error)), _) => Err(error),
            _ => Err(io(io::Error::other("no thread to bind it in"))),
        }
    }

    /// Nobody is let in any more.
    pub fn close(&self) {
        let Some(bound) = self.bound.take() else { return };
        let (path, file, (tell, done)) = (self.path.clone(), bound.file, mpsc::channel());
        let remove = move || {
            if file_at(&path) == Some(file) {
                // Nothing to be done when it is gone already.
                let _ = std::fs::remove_file(&path);
            }
            let _ = tell.send(());
        };
        // A card that hangs keeps its socket, which answers nobody; else it is gone when this returns.
        if std::thread::Builder::new().name("control".into()).spawn(remove).is_ok() {
            let _ = done.recv_timeout(CLOSE_WITHIN);
        }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.close();
    }
}

/// Device and inode.
fn file_at(path: &Path) -> Option<(u64, u64)> {
    std::fs::symlink_metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

/// Opens the door, for as long as it takes, and serves until this life of the node ends.
pub async fn run(ops: Rc<Ops>, door: Rc<Door>) {
    let part = ops.part(PartKind::Control, "control");
    let mut backoff = Backoff::new(Span::from_secs(1), Span::from_secs(60), ops.seed());
    let bound = loop {
        match door.open().await {
            Ok(bound) => break bound,
            Err(error) => {
                let wait = backoff.next_wait();
                part.report(ops.now(), PartState::down(error.to_string(), Some(wait)));
                tokio::select! {
                    () = tokio::time::sleep(wait.to_std()) => {}
                    () = ops.stopping() => return,
                }
            }
        }
    };
    part.report(ops.now(), PartState::up(door.path.display().to_string()));
    serve(&ops, &bound.listener).await;
}

/// Why the socket cannot be had; tried again.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("{0} is answered by another live node; stop it, or give this one a `node.control` of its own")]
    Owned(PathBuf),
    #[error("{0} is there and is no socket; remove it, or set `node.control`")]
    NoSocket(PathBuf),
    #[error("{path}: {error}{hint}")]
    Io { path: PathBuf, error: io::Error, hint: &'static str },
}

/// Binds under another name, sets mode and group, then renames: nobody meets a socket with the wrong mode. Gives back which
/// file it is, too.
fn bind(path: &Path) -> Result<Listening, BindError> {
    let failed = |error: io::Error| {
        let hint = match error.kind() {
            io::ErrorKind::InvalidInput => {
                "; a socket's path has at most 107 bytes: set `node.control` to a shorter one"
            }
            io::ErrorKind::PermissionDenied => "; the node's user must be able to write that directory",
            io::ErrorKind::NotFound => "; make that directory, or set `node.control`",
            _ => "",
        };
        BindError::Io { path: path.into(), error, hint }
    };
    if let Ok(found) = std::fs::symlink_metadata(path) {
        if !found.file_type().is_socket() {
            return Err(BindError::NoSocket(path.into()));
        }
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(BindError::Owned(path.into()));
        }
    }
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let listener = std::os::unix::net::UnixListener::bind(&new).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let Some(file) = file_at(&new) else { return Err(failed(io::ErrorKind::NotFound.into())) };
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o660)).map_err(failed)?;
    let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
    if let Some(group) = group_number(&groups, GROUP)
        && let Err(error) = std::os::unix::fs::chown(&new, None, Some(group))
    {
        // Who runs the node can still use it; a node of an ordinary user is not in the group.
        tracing::debug!("control socket keeps the node's own group: {error}");
    }
    std::fs::rename(&new, path).map_err(failed)?;
    Ok((listener, file))
}

fn group_number(groups: &str, name: &str) -> Option<u32> {
    let mut lines = groups.lines().map(|line| line.split(':'));
    lines.find_map(|mut fields| if fields.next()? == name { fields.nth(1)?.parse().ok() } else { None })
}

/// Serves until this life of the node ends.
pub async fn serve(ops: &Rc<Ops>, listener: &UnixListener) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            biased;
            // Who comes now is let in by the next life.
            () = ops.stopping() => return,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of files, most likely: nothing is lost by waiting.
                tracing::debug!("control socket: accept: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let ops = ops.clone();
        let permit = permits.clone().try_acquire_owned();
        tokio::task::spawn_local(async move {
            let mut conn = Conn::new(stream);
            let served = match permit {
                Ok(_permit) => conn.serve(&ops).await,
                Err(_) => {
                    conn.answer(&Answer::Failed(format!("{MAX_CONNECTIONS} connections are open; try again"))).await
                }
            };
            if let Err(error) = served {
                tracing::debug!("control socket: {error}");
            }
        });
    }
}

/// One connection.
struct Conn {
    lines: Lines,
    out: OwnedWriteHalf,
}

impl Conn {
    fn new(stream: UnixStream) -> Self {
        let (read, out) = stream.into_split();
        Self { lines: Lines::new(read, MAX_LINE), out }
    }

    async fn answer(&mut self, answer: &Answer) -> io::Result<()> {
        self.out.write_all(&encode(answer)).await
    }

    async fn serve(&mut self, ops: &Rc<Ops>) -> io::Result<()> {
        let line = match tokio::time::timeout(ASK_WITHIN, self.lines.next()).await {
            Err(_) | Ok(Ok(None)) => return Ok(()),
            Ok(Err(LineError::Io(error))) => return Err(error),
            Ok(Err(error @ LineError::TooLong(_))) => return self.answer(&Answer::Failed(error.to_string())).await,
            Ok(Ok(Some(line))) => line,
        };
        let ask = match decode::<Ask>(&line) {
            Ok(ask) => ask,
            Err(error) => return self.answer(&Answer::Failed(error)).await,
        };
        drop(line);
        match ask {
            Ask::Status => self.answer(&Answer::Status(Box::new(ops.status()))).await,
            Ask::Events { n } => self.events(ops, n).await,
            Ask::Send { topic, ack, notes } => send::send(self, ops, &topic, ack, notes).await,
            Ask::Tail(tail) => tail::tail(self, ops, &tail).await,
            Ask::Reload => self.request(ops, hub::Request::Reload).await,
            Ask::Sink { verb, name } => match Name::new(&name) {
                Ok(name) => self.request(ops, sink_request(verb, name)).await,
                Err(error) => self.answer(&Answer::Failed(error.to_string())).await,
            },
            Ask::Drain => self.drain(ops).await,
            Ask::Cease => self.request(ops, hub::Request::Cease).await,
        }
    }

    async fn events(&mut self, ops: &Ops, n: u64) -> io::Result<()> {
        let mut out = Vec::new();
        for event in ops.events(usize::try_from(n).unwrap_or(usize::MAX)) {
            encode_into(&mut out, &Answer::Event(event));
        }
        self.out.write_all(&out).await?;
        self.answer(&Answer::Done(String::new())).await
    }

    async fn request(&mut self, ops: &Ops, request: hub::Request) -> io::Result<()> {
        let answer = match ops.admin.request(request).await {
            Ok(done) => Answer::Done(done),
            Err(why) => Answer::Failed(why),
        };
        self.answer(&answer).await
    }

    async fn drain(&mut self, ops: &Ops) -> io::Result<()> {
        let drained = ops.admin.drained();
        tokio::pin!(drained);
        loop {
            tokio::select! {
                biased;
                () = &mut drained => break,
                () = ops.stopping() => {
                    return self.answer(&Answer::Failed("the node is shutting down; what waits is kept".into())).await;
                }
                _ = self.lines.next() => return Ok(()), // the client is gone, or talks out of turn
                () = tokio::time::sleep(PROGRESS_EVERY) => self.answer(&Answer::Progress(waiting(ops))).await?,
            }
        }
        let sinks = ops.status().sinks.into_iter().filter(|s| s.configured).collect::<Vec<_>>();
        let paused: Vec<_> = sinks.iter().filter(|s| s.part.state == "paused").map(|s| s.part.name.as_str()).collect();
        let done = match (sinks.is_empty(), paused.is_empty()) {
            (true, _) => "there is no sink to drain to".to_owned(),
            (_, true) => "every sink is caught up".to_owned(),
            (_, false) => format!("every sink is caught up, but for those that are paused: {}", paused.join(", ")),
        };
        self.answer(&Answer::Done(done)).await
    }
}

fn waiting(ops: &Ops) -> Vec<Waiting> {
    let configured = ops.status().sinks.into_iter().filter(|s| s.configured);
    configured
        .map(|s| Waiting { sink: s.part.name, pending: s.pending, state: s.part.state, what: s.part.what })
        .collect()
}

fn sink_request(verb: SinkVerb, name: Name) -> hub::Request {
    match verb {
        SinkVerb::Pause => hub::Request::SinkPause(name),
        SinkVerb::Resume => hub::Request::SinkResume(name),
        SinkVerb::Flush => hub::Request::SinkFlush(name),
        SinkVerb::Forget => hub::Request::SinkForget(name),
    }
}

#[cfg(test)]
mod tests;
