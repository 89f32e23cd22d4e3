//! What goes wrong with a broker, in words that say what to do; and telling what the peer is when it is no broker.

use std::io;

use crate::time::{BootTime, Span};

/// Why a connection ended or was not made. All of them are tried again; they differ in what a person should do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// No connection: the network, the address, or nobody listens.
    #[error("{0}")]
    Unreachable(String),
    /// Somebody answers who is no MQTT broker, or not in this way.
    #[error("{0}")]
    WrongPeer(String),
    /// The broker does not want us.
    #[error("{0}")]
    Refused(String),
    /// Another client with our id connected.
    #[error("{0}")]
    TakenOver(String),
    /// The broker, or what is between, closed a connection that worked.
    #[error("{0}")]
    Closed(String),
    /// The peer broke the protocol, or fell silent.
    #[error("{0}")]
    Broken(String),
    /// Our own state could not be kept.
    #[error("{0}")]
    Own(String),
}

/// What stands in `host:port` messages.
pub fn unreachable(address: &str, error: &io::Error) -> Fault {
    let text = error.to_string();
    // The resolver's words, which no kind of error tells apart.
    if text.contains("Temporary failure in name resolution") {
        return Fault::Unreachable(format!("connect {address}: no name server answers; is the link up?"));
    } else if text.starts_with("failed to lookup address") {
        let words = "nobody knows this host name; is it spelt right, does this machine's DNS know it?";
        return Fault::Unreachable(format!("connect {address}: {words}"));
    }
    let hint = match error.kind() {
        io::ErrorKind::ConnectionRefused => "; nothing listens there: is the broker running, is the port right (1883)?",
        io::ErrorKind::TimedOut => "; is it on, and reachable from here?",
        _ => "",
    };
    Fault::Unreachable(format!("connect {address}: {}{hint}", plain(error)))
}

/// An I/O error without its number.
pub fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error") {
        Some(at) => text[..at].to_lowercase(),
        None => text,
    }
}

/// A peer whose first bytes are no CONNACK.
pub fn wrong_peer(address: &str, first: &[u8]) -> Fault {
    let speaks = match first {
        [b'H', b'T', b'T', b'P', ..] => "speaks HTTP, not MQTT; a broker usually listens on 1883",
        [0x15, 0x03, ..] => "wants TLS: write mqtts:// in `url` (usual port 8883)",
        [b'S', b'S', b'H', b'-', ..] => "speaks SSH, not MQTT; a broker usually listens on 1883",
        [b'A', b'M', b'Q', b'P', ..] => "speaks AMQP, not MQTT; a broker usually listens on 1883",
        [b'2', b'2', b'0', ..] => "is a mail or file server, not a broker; a broker usually listens on 1883",
        // A Fluvio server's answers begin with their length, far below 16 MiB.
        [0, _, _, _, ..] => "speaks no MQTT (Fluvio perhaps); a broker usually listens on 1883",
        _ => "does not speak MQTT; a broker usually listens on 1883",
    };
    Fault::WrongPeer(format!("{address} {speaks}"))
}

/// A peer that took the connection and our greeting, and said nothing.
pub fn silent(address: &str, port: u16, tls: bool) -> Fault {
    let hint = match port {
        9003 | 9010 => "that port is usually Fluvio's; a broker listens on 1883",
        8883 if !tls => "that port usually wants TLS: write mqtts:// in `url`",
        _ => "it may be no MQTT broker (those listen on 1883), or overloaded",
    };
    Fault::WrongPeer(format!("{address} took the connection and did not answer; {hint}"))
}

/// A peer that hung up on our greeting without a word.
pub fn hung_up(address: &str, port: u16, tls: bool) -> Fault {
    let hint = match (tls, port) {
        (false, 8883) => "that port usually wants TLS: write mqtts:// in `url`",
        (true, _) => "it may want a client certificate (`tls.cert`, `tls.key`), or be no MQTT broker",
        (false, 9003 | 9010) => "that port is usually Fluvio's; a broker listens on 1883",
        (false, _) => "it may be no MQTT broker (those listen on 1883), or not speak this `version`",
    };
    Fault::WrongPeer(format!("{address} closed the connection at our greeting; {hint}"))
}

/// A TLS handshake that failed.
pub fn tls(address: &str, error: &io::Error) -> Fault {
    let text = plain(error);
    let hung_up = matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof);
    let hint = if text.contains("UnknownIssuer") {
        "nobody we trust signed its certificate; set `tls.ca`"
    } else if text.contains("NotValidForName") {
        "its certificate is for another name; set `tls.server_name`"
    } else if text.contains("Expired") || text.contains("NotValidYet") {
        "its certificate is not valid now; is this machine's clock right?"
    } else if hung_up || text.contains("corrupt") || text.contains("InvalidContentType") {
        "it does not speak TLS there; for a plain port write mqtt:// in `url`"
    } else if text.contains("CertificateRequired") || text.contains("HandshakeFailure") {
        "it wants a client certificate; set `tls.cert` and `tls.key`"
    } else {
        "look at the broker's log"
    };
    Fault::WrongPeer(format!("TLS with {address}: {text}; {hint}"))
}

/// A connection that lived this long was not fought over.
const SETTLED: Span = Span::from_secs(120);
/// Closed this often in a row, it is told.
const OFTEN: u32 = 3;

/// Two clients with one id take the session from each other, for ever. MQTT 5 says so; with 3.1.1 it shows as a
/// broker that lets us in and soon hangs up without a word, again and again.
#[derive(Debug, Default)]
pub struct Takeovers {
    in_a_row: u32,
}

impl Takeovers {
    /// A connection on which the broker had let us in, from `since` to `now`, ended with `fault`.
    pub fn ended(&mut self, since: BootTime, now: BootTime, fault: &Fault) {
        let lived = now - since;
        match fault {
            Fault::TakenOver(_) => self.in_a_row += 1,
            Fault::Closed(_) if lived < SETTLED => self.in_a_row += 1,
            _ => self.in_a_row = 0,
        }
    }

    /// A connection lives.
    pub fn lived(&mut self, since: BootTime, now: BootTime) {
        if now - since >= SETTLED {
            self.in_a_row = 0;
        }
    }

    /// What to tell about it.
    pub fn warning(&self, client_id: &str) -> Option<String> {
        (self.in_a_row >= OFTEN).then(|| {
            format!(
                "client id `{client_id}` in use elsewhere: a cloned card? Each takes the session from the other: give each \
                 node its own `node.id` or `client_id`"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_is_no_broker_is_named() {
        for (first, expected) in [
            (&b"HTTP/1.1 400 Bad Request"[..], "h:1 speaks HTTP, not MQTT; a broker usually listens on 1883"),
            (b"\x15\x03\x03\x00\x02", "h:1 wants TLS: write mqtts:// in `url` (usual port 8883)"),
            (b"SSH-2.0-OpenSSH", "h:1 speaks SSH, not MQTT; a broker usually listens on 1883"),
            (b"\x00\x00\x00\x10", "h:1 speaks no MQTT (Fluvio perhaps); a broker usually listens on 1883"),
        ] {
            assert_eq!(wrong_peer("h:1", first).to_string(), expected);
        }
        assert!(silent("h:9003", 9003, false).to_string().contains("usually Fluvio's"));
    }

    #[test]
    fn a_session_that_is_taken_over_and_over_suggests_a_clone() {
        let mut takeovers = Takeovers::default();
        let closed = Fault::Closed("closed".into());
        let minute = |m: i64| BootTime(m * 60_000_000);
        takeovers.ended(minute(0), minute(1), &closed);
        takeovers.ended(minute(1), minute(2), &closed);
        assert_eq!(takeovers.warning("n"), None, "a restarting broker");
        takeovers.ended(minute(2), minute(3), &Fault::TakenOver("taken".into()));
        assert!(takeovers.warning("n").unwrap().starts_with("client id `n` in use elsewhere: a cloned card?"));
        takeovers.lived(minute(3), minute(4));
        assert!(takeovers.warning("n").is_some());
        takeovers.lived(minute(3), minute(6));
        assert_eq!(takeovers.warning("n"), None);
    }

    #[test]
    fn a_connection_that_held_for_long_is_not_counted() {
        let mut takeovers = Takeovers::default();
        for i in 0..10 {
            let since = BootTime(i * 1_000_000_000);
            takeovers.ended(since, since + Span::from_secs(600), &Fault::Closed("closed".into()));
        }
        assert_eq!(takeovers.warning("n"), None);
    }
}
