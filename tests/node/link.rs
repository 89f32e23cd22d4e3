//! A link and its weather: a TCP proxy on loopback that can be cut, stall, lose, be far and be slow.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const UP: u8 = 0;
const CUT: u8 = 1;
const STALLED: u8 = 2;
/// What comes back does not arrive.
const DEAF: u8 = 3;
const ENDED: u8 = 4;
/// Nothing arrives.
const BLACK_HOLE: u8 = 5;

/// What is read at once of a link that is neither far nor slow.
const CHUNK: usize = 16 * 1024;
/// Pieces that are on their way; more wait where they came from.
const ON_THE_WAY: usize = 64;
/// What the kernel takes in of a slow line, each way.
const BUFFER: usize = 8 * 1024;

#[derive(Default)]
struct Shared {
    state: AtomicU8,
    /// Milliseconds, each way.
    latency: AtomicU64,
    /// Bytes a second, each way and for each connection; 0: as many as come.
    rate: AtomicU64,
    /// A connection ends when it has carried so many bytes there; 0: never.
    most: AtomicU64,
    /// Bytes that came back so far.
    brought: AtomicU64,
    open: Mutex<Vec<TcpStream>>,
}

#[derive(Default)]
pub struct Link {
    shared: Arc<Shared>,
}

impl Link {
    /// Carries what connects to a new port to `target`; gives the new port.
    pub fn carry(&self, target: u16) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = self.shared.clone();
        std::thread::spawn(move || {
            for client in listener.incoming() {
                match shared.state.load(Ordering::SeqCst) {
                    ENDED => return,
                    CUT => {}
                    // Out of files, or the peer was quicker: the client sees a closed connection.
                    _ => drop(client.and_then(|client| pass(client, target, &shared))),
                }
            }
        });
        port
    }

    /// Every connection ends, new ones end at once.
    pub fn cut(&self) {
        self.shared.state.store(CUT, Ordering::SeqCst);
        self.close_all();
    }

    /// Connections stay, and nothing comes through.
    pub fn stall(&self) {
        self.shared.state.store(STALLED, Ordering::SeqCst);
    }

    /// What is sent arrives, what is answered does not.
    pub fn swallow_answers(&self) {
        self.shared.state.store(DEAF, Ordering::SeqCst);
    }

    /// Connections are made and stay, and what is sent on them is gone, either way.
    pub fn swallow_all(&self) {
        self.shared.state.store(BLACK_HOLE, Ordering::SeqCst);
    }

    /// Every connection is torn down at once, what is under way in it is thrown away; new ones are made.
    pub fn reset(&self) {
        for stream in self.shared.open.lock().unwrap().drain(..) {
            let _ = rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO));
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    pub fn restore(&self) {
        self.shared.state.store(UP, Ordering::SeqCst);
    }

    /// New connections: what is sent takes so long, each way.
    pub fn is_far(&self, latency: Duration) {
        self.shared.latency.store(latency.as_millis() as u64, Ordering::SeqCst);
    }

    /// New connections carry so many bytes a second; 0: all.
    pub fn is_slow(&self, rate: u64) {
        self.shared.rate.store(rate, Ordering::SeqCst);
    }

    /// New connections end, in the middle of whatever it is, when they have carried so many bytes there; 0: never.
    pub fn ends_after(&self, bytes: u64) {
        self.shared.most.store(bytes, Ordering::SeqCst);
    }

    /// Bytes that were brought back so far, on all connections.
    pub fn brought(&self) -> u64 {
        self.shared.brought.load(Ordering::SeqCst)
    }

    fn close_all(&self) {
        for stream in self.shared.open.lock().unwrap().drain(..) {
            // It may be closed already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.shared.state.store(ENDED, Ordering::SeqCst);
        self.close_all();
    }
}

fn pass(client: TcpStream, target: u16, shared: &Arc<Shared>) -> std::io::Result<()> {
    let server = TcpStream::connect(("127.0.0.1", target))?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    if shared.rate.load(Ordering::SeqCst) > 0 {
        // Best effort: with more in the kernel the line is as slow, and what is under way on it more.
        let _ = rustix::net::sockopt::set_socket_recv_buffer_size(&client, BUFFER);
        let _ = rustix::net::sockopt::set_socket_recv_buffer_size(&server, BUFFER);
    }
    shared.open.lock().unwrap().extend([client.try_clone()?, server.try_clone()?]);
    for (from, to, back) in [(&client, &server, false), (&server, &client, true)] {
        let (from, to, shared) = (from.try_clone()?, to.try_clone()?, shared.clone());
        std::thread::spawn(move || copy(from, to, back, &shared));
    }
    // A cut between the look and here would have missed this one.
    if shared.state.load(Ordering::SeqCst) == CUT {
        client.shutdown(Shutdown::Both)?;
        server.shutdown(Shutdown::Both)?;
    }
    Ok(())
}

fn copy(mut from: TcpStream, to: TcpStream, back: bool, shared: &Arc<Shared>) {
    let rate = shared.rate.load(Ordering::SeqCst);
    let latency = Duration::from_millis(shared.latency.load(Ordering::SeqCst));
    let most = Some(shared.most.load(Ordering::SeqCst)).filter(|most| *most > 0 && !back);
    // A tenth of a second of a slow line at once.
    let chunk = if rate > 0 { (rate as usize / 10).clamp(1, CHUNK) } else { CHUNK };
    let (way, arrives) = sync_channel(if rate > 0 { 1 } else { ON_THE_WAY });
    let end = (from.try_clone(), to.try_clone());
    let (shared_there, mut left) = (shared.clone(), most.unwrap_or(u64::MAX));
    let carries = std::thread::spawn(move || deliver(&arrives, to, back, rate, &shared_there));
    let mut buffer = vec![0; chunk];
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        let n = left.min(n as u64) as usize;
        left -= n as u64;
        if way.send((Instant::now() + latency, buffer[..n].to_vec())).is_err() || left == 0 {
            break;
        }
    }
    drop(way);
    let _ = carries.join();
    // Either side ending it ends both.
    for stream in [end.0, end.1].into_iter().flatten() {
        let _ = stream.shutdown(Shutdown::Both);
    }
}

/// Hands over what has come as far as this.
fn deliver(arrives: &Receiver<(Instant, Vec<u8>)>, mut to: TcpStream, back: bool, rate: u64, shared: &Shared) {
    for (due, bytes) in arrives {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let takes = (bytes.len() as u64 * 1_000_000).checked_div(rate);
        std::thread::sleep(takes.map_or(Duration::ZERO, Duration::from_micros));
        while shared.state.load(Ordering::SeqCst) == STALLED {
            std::thread::sleep(Duration::from_millis(5));
        }
        match shared.state.load(Ordering::SeqCst) {
            DEAF if back => continue,
            BLACK_HOLE => continue,
            UP if back => {
                shared.brought.fetch_add(bytes.len() as u64, Ordering::SeqCst);
                if to.write_all(&bytes).is_err() {
                    break;
                }
            }
            UP | DEAF if to.write_all(&bytes).is_ok() => {}
            _ => break,
        }
    }
}
