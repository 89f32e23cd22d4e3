//! What is on its way: bytes that the kernel was given and the other end has not acknowledged.
//!
//! They tell a slow line from a dead one. A batch that takes a minute over a modem is acknowledged piece by piece, long before
//! the upstream can answer it; behind a black hole nothing is.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// A second handle of a socket, to look at its queue. The socket is closed once both are.
pub struct Underway(OwnedFd);

impl Underway {
    /// Of a TCP socket.
    pub fn of(socket: &impl AsFd) -> io::Result<Self> {
        Ok(Self(socket.as_fd().try_clone_to_owned()?))
    }

    /// Bytes; None where the kernel does not say.
    #[allow(unsafe_code)]
    pub fn bytes(&self) -> Option<usize> {
        let mut bytes: libc::c_int = 0;
        // SAFETY: tcp(7): SIOCOUTQ, which is TIOCOUTQ, stores one int through the pointer, which is valid and exclusive; the
        // descriptor is open as long as `self` is.
        let done = unsafe { libc::ioctl(self.0.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
        usize::try_from(bytes).ok().filter(|_| done == 0)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn what_is_written_is_underway_until_the_other_end_has_taken_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut theirs, _) = listener.accept().unwrap();
        let underway = Underway::of(&ours).unwrap();
        assert_eq!(underway.bytes(), Some(0));
        // Until the other end's kernel has no room either.
        ours.set_nonblocking(true).unwrap();
        let mut written = 0;
        let full = loop {
            match ours.write(&[7; 64 * 1024]) {
                Ok(more) => written += more,
                Err(error) => break error,
            }
        };
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
        let stuck = underway.bytes().unwrap();
        assert!((1..=written).contains(&stuck), "{stuck} of {written}");
        theirs.read_exact(&mut vec![0; written]).unwrap();
        while underway.bytes() != Some(0) {
            std::thread::yield_now();
        }
    }
}
