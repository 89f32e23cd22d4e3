//! A link that can be cut, and that can stall: a TCP proxy on loopback.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const UP: u8 = 0;
const CUT: u8 = 1;
const STALLED: u8 = 2;
/// What comes back does not arrive.
const DEAF: u8 = 3;
const ENDED: u8 = 4;

#[derive(Default)]
struct Shared {
    state: AtomicU8,
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

fn copy(mut from: TcpStream, mut to: TcpStream, back: bool, shared: &Shared) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        while shared.state.load(Ordering::SeqCst) == STALLED {
            std::thread::sleep(Duration::from_millis(5));
        }
        match shared.state.load(Ordering::SeqCst) {
            DEAF if back => continue,
            UP | DEAF if to.write_all(&buffer[..n]).is_ok() => {}
            _ => break,
        }
    }
    // Either side ending it ends both.
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
