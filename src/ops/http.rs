//! HTTP: `/healthz`, `/readyz`, `/status` (JSON) and `/metrics` (Prometheus), for probes and scrapers on this machine.
//!
//! Read only, on loopback unless the config says otherwise, at most [`MAX_CONNECTIONS`] at a time, each of which is
//! closed after [`IDLE`] of silence. The handlers live in the library's world of `Send` and ask the node's one thread
//! through a short queue.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, Sleep};

use super::{Ops, metrics};
use crate::backoff::Backoff;
use crate::hub::{PartKind, PartState};
use crate::limits::MAX_CONNECTIONS;
use crate::time::Span;

/// A connection that says nothing for this long is closed.
const IDLE: Duration = Duration::from_secs(30);
/// Pages that wait to be made.
const MAX_ASKED: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Page {
    Health,
    Ready,
    Status,
    Metrics,
}

type Made = (StatusCode, &'static str, Vec<u8>);
type Asks = mpsc::Sender<(Page, oneshot::Sender<Made>)>;

/// Binds `listen`, for as long as it takes, and serves until the node stops.
pub async fn run(ops: Rc<Ops>, listen: SocketAddr) {
    let part = ops.part(PartKind::Http, "http");
    let mut backoff = Backoff::new(Span::from_secs(1), Span::from_secs(60), ops.seed());
    let listener = loop {
        match TcpListener::bind(listen).await {
            Ok(listener) => break listener,
            Err(error) => {
                let wait = backoff.next_wait();
                part.report(ops.now(), PartState::down(bind_trouble(listen, &error), Some(wait)));
                tokio::select! {
                    () = tokio::time::sleep(wait.to_std()) => {}
                    () = ops.stopping() => return,
                }
            }
        }
    };
    let at = listener.local_addr().unwrap_or(listen);
    part.report(ops.now(), PartState::up(format!("http://{at}")));
    serve(&ops, listener).await;
}

/// Why a port cannot be had, and what to do.
fn bind_trouble(listen: SocketAddr, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("{listen} is in use by another program; stop it, or set `http.listen` to another port")
        }
        io::ErrorKind::PermissionDenied => {
            format!("no permission to listen on {listen}; set `http.listen` to a port above 1023")
        }
        io::ErrorKind::AddrNotAvailable => format!("{listen} is no address of this machine (yet); see `http.listen`"),
        _ => format!("listen on {listen}: {error}"),
    }
}

/// Serves until the node stops.
pub async fn serve(ops: &Ops, listener: TcpListener) {
    let (asks, mut asked) = mpsc::channel::<(Page, oneshot::Sender<Made>)>(MAX_ASKED);
    let routes = Router::new()
        .route("/healthz", get(|asks: State<Asks>| page(asks, Page::Health)))
        .route("/readyz", get(|asks: State<Asks>| page(asks, Page::Ready)))
        .route("/status", get(|asks: State<Asks>| page(asks, Page::Status)))
        .route("/metrics", get(|asks: State<Asks>| page(asks, Page::Metrics)))
        .with_state(asks);
    let guard = Guard { listener, permits: Arc::new(Semaphore::new(MAX_CONNECTIONS)) };
    let server = axum::serve(guard, routes).into_future();
    tokio::pin!(server);
    loop {
        tokio::select! {
            Some((page, answer)) = asked.recv() => {
                // Who asked may be gone.
                let _ = answer.send(make(ops, page));
            }
            ended = &mut server => {
                tracing::warn!("http ended: {ended:?}");
                return;
            }
            () = ops.stopping() => return,
        }
    }
}

async fn page(State(asks): State<Asks>, page: Page) -> Response {
    let (answer, made) = oneshot::channel();
    if asks.send((page, answer)).await.is_err() {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    match made.await {
        Ok((status, content_type, body)) => (status, [(header::CONTENT_TYPE, content_type)], body).into_response(),
        Err(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

const TEXT: &str = "text/plain; charset=utf-8";

fn make(ops: &Ops, page: Page) -> Made {
    match page {
        // That it answers says that the loop runs.
        Page::Health => (StatusCode::OK, TEXT, b"ok\n".to_vec()),
        Page::Ready if ops.admin.is_stopping() => {
            (StatusCode::SERVICE_UNAVAILABLE, TEXT, b"the node is shutting down\n".to_vec())
        }
        Page::Ready if ops.admin.snapshot().memory_mode => {
            (StatusCode::OK, TEXT, b"ready, in memory only: see /status\n".to_vec())
        }
        Page::Ready => (StatusCode::OK, TEXT, b"ready\n".to_vec()),
        Page::Status => {
            let mut json = serde_json::to_vec_pretty(&ops.status()).unwrap_or_default();
            json.push(b'\n');
            (StatusCode::OK, "application/json", json)
        }
        Page::Metrics => (StatusCode::OK, metrics::CONTENT_TYPE, metrics::page(&ops.status()).into_bytes()),
    }
}

/// A listener that keeps connections few and closes silent ones.
struct Guard {
    listener: TcpListener,
    permits: Arc<Semaphore>,
}

impl axum::serve::Listener for Guard {
    type Io = Guarded;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Guarded, SocketAddr) {
        loop {
            // The semaphore is never closed; the queue of the kernel holds who comes meanwhile.
            if let Ok(permit) = self.permits.clone().acquire_owned().await
                && let Ok((stream, peer)) = self.listener.accept().await
            {
                let silence = Box::pin(tokio::time::sleep(IDLE));
                return (Guarded { stream, silence, _permit: permit }, peer);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

struct Guarded {
    stream: TcpStream,
    silence: Pin<Box<Sleep>>,
    _permit: OwnedSemaphorePermit,
}

impl AsyncRead for Guarded {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Poll::Ready(read) = Pin::new(&mut self.stream).poll_read(cx, buf) {
            self.silence.as_mut().reset(Instant::now() + IDLE);
            return Poll::Ready(read);
        }
        ready!(self.silence.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if let Poll::Ready(wrote) = Pin::new(&mut self.stream).poll_write(cx, buf) {
            self.silence.as_mut().reset(Instant::now() + IDLE);
            return Poll::Ready(wrote);
        }
        ready!(self.silence.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
