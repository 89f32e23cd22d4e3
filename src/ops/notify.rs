//! What the service manager is told: sd_notify(3), a datagram of words to the socket that it names.
//!
//! A few lines of our own rather than a crate: there is one call, and a datagram that finds no room must not hold the loop.

use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// A way to the service manager.
pub struct Notify {
    socket: UnixDatagram,
    to: SocketAddr,
}

impl Notify {
    /// To the socket that the environment names; None: nobody wants to know, or it is none that can be had.
    pub fn from_env() -> Option<Self> {
        Self::to(&std::env::var_os("NOTIFY_SOCKET")?).ok()
    }

    /// A path, or `@` and an abstract name.
    pub fn to(name: &OsStr) -> std::io::Result<Self> {
        let to = match name.as_bytes() {
            [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest)?,
            _ => SocketAddr::from_pathname(name)?,
        };
        let socket = UnixDatagram::unbound()?;
        // Where its queue is full it is told later: nothing waits here for a service manager.
        socket.set_nonblocking(true)?;
        Ok(Self { socket, to })
    }

    /// Lines like `READY=1`. False: it has not been taken.
    pub fn say(&self, words: &str) -> bool {
        self.socket.send_to_addr(words.as_bytes(), &self.to).is_ok()
    }
}

/// Within what time the service manager wants to hear of this process; None: it does not watch it.
pub fn watched() -> Option<Duration> {
    let var = |name| std::env::var(name).ok();
    within(var("WATCHDOG_USEC"), var("WATCHDOG_PID"), std::process::id())
}

fn within(micros: Option<String>, pid: Option<String>, own: u32) -> Option<Duration> {
    // What a parent handed on is meant for the parent.
    if pid.is_some_and(|pid| pid.parse() != Ok(own)) {
        return None;
    }
    let micros = micros?.parse().ok().filter(|micros| *micros > 0)?;
    Some(Duration::from_micros(micros))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 100];
        let n = socket.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..n]).into_owned()
    }

    #[test]
    fn words_arrive_at_a_path_and_at_an_abstract_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let at_path = UnixDatagram::bind(&path).unwrap();
        assert!(Notify::to(path.as_os_str()).unwrap().say("READY=1"));
        assert_eq!(heard(&at_path), "READY=1");

        let name = format!("headwater-notify-{}", std::process::id());
        let at_name = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        assert!(Notify::to(OsStr::new(&format!("@{name}"))).unwrap().say("STOPPING=1"));
        assert_eq!(heard(&at_name), "STOPPING=1");
    }

    #[test]
    fn a_manager_that_does_not_read_holds_nobody_and_is_known_not_to_have_heard() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let deaf = UnixDatagram::bind(&path).unwrap();
        let notify = Notify::to(path.as_os_str()).unwrap();
        // Far more than any queue takes.
        assert!((0..100_000).any(|_| !notify.say("WATCHDOG=1")));
        drop(deaf);
        assert!(!notify.say("WATCHDOG=1"));
    }

    #[test]
    fn a_watchdog_is_fed_only_by_the_process_that_it_is_set_for() {
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(within(text("120000000"), None, 7), Some(Duration::from_secs(120)));
        assert_eq!(within(text("120000000"), text("7"), 7), Some(Duration::from_secs(120)));
        assert_eq!(within(text("120000000"), text("8"), 7), None);
        assert_eq!(within(text("120000000"), text("x"), 7), None);
        assert_eq!(within(text("0"), None, 7), None);
        assert_eq!(within(text("soon"), None, 7), None);
        assert_eq!(within(None, text("7"), 7), None);
    }
}
