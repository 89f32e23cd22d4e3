//! What can go wrong between this sink and a cluster, in words that say what, where and what to do.

use std::time::Duration;

/// Where an SC listens unless someone chose otherwise.
const SC_PORT: u16 = 9003;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    #[error("connect {address}: {reason}{}", hint(reason))]
    Connect { address: String, reason: String },
    #[error("connect {address} timed out after {} (connect_timeout)", seconds(*.after))]
    ConnectTimeout { address: String, after: Duration },
    /// `known`: it was what it should be, earlier.
    #[error(
        "{address} took the connection and does not answer within {} (connect_timeout){}",
        seconds(*.after),
        stranger(*.known)
    )]
    Silent { address: String, after: Duration, known: bool },
    #[error("{address} speaks {what}, not Fluvio; an SC usually listens on {SC_PORT}")]
    OtherProtocol { address: String, what: &'static str },
    #[error(
        "{address} closed the connection at our greeting; is it a Fluvio SC (they usually listen on {SC_PORT}), does it \
         want a client certificate (`tls`)?"
    )]
    HungUp { address: String },
    #[error("{address} wants TLS: give the sink `tls = {{ ca = \"...\" }}`")]
    WantsTls { address: String },
    #[error("{address} does not speak TLS: take `tls` from the sink, or use the port that has it")]
    NoTls { address: String },
    #[error("TLS with {address}: {reason}")]
    Tls { address: String, reason: String },
    #[error("{address} is an SPU, not an SC; set `endpoint` to the SC, which usually listens on {SC_PORT}")]
    IsSpu { address: String },
    #[error("{address} is an SC, not an SPU: check spu_address and the SPU's public address")]
    IsSc { address: String },
    #[error("{address} speaks version {theirs} of the protocol at most; {ours} is needed (Fluvio 0.11 or newer)")]
    TooOld { address: String, ours: i16, theirs: i16 },
    #[error("{address} closed the connection")]
    Closed { address: String },
    #[error("{address} did not answer within {} (request_timeout)", seconds(*.after))]
    Unanswered { address: String, after: Duration },
    #[error("{address}: {reason}")]
    Broken { address: String, reason: String },
    /// The most frequent one.
    #[error(
        "the SC answers but its SPU advertises {advertised}{why}; {}; map it to its address from here: \
         spu_address = {{ \"{spu}\" = \"HOST:{port}\" }}",
        doubt(advertised)
    )]
    Advertised { spu: i32, advertised: String, port: u16, why: String },
    #[error("spu_address {mapped} for SPU {spu}: {reason}")]
    Mapped { spu: i32, mapped: String, reason: String },
}

pub(super) fn seconds(after: Duration) -> String {
    format!("{} s", after.as_secs_f32())
}

fn stranger(known: bool) -> String {
    let question = || format!("; is it a Fluvio SC (they usually listen on {SC_PORT}), or overloaded?");
    if known { String::new() } else { question() }
}

/// What to do about a connection that is not made.
fn hint(reason: &str) -> &'static str {
    match reason {
        REFUSED => "; nothing listens there: does the cluster run, is the port right (an SC usually listens on 9003)?",
        UNKNOWN_HOST => "; is it spelt right, does this machine's DNS know it?",
        NO_DNS => "; is the link up?",
        _ => "",
    }
}

/// Why an advertised address may not be the SPU's.
fn doubt(advertised: &str) -> &'static str {
    if is_local(host_of(advertised)) { "from here that is this machine" } else { "it may be of another network" }
}

pub const REFUSED: &str = "connection refused";
pub const UNKNOWN_HOST: &str = "nobody knows this host name";
pub const NO_DNS: &str = "no name server answers";

impl Trouble {
    /// The same of an address that answered earlier: the line is the trouble, or who is behind it, not the address.
    pub fn of_known(self) -> Self {
        match self {
            Trouble::Silent { address, after, .. } => Trouble::Silent { address, after, known: true },
            Trouble::HungUp { address } => Trouble::Closed { address },
            other => other,
        }
    }

    /// The same, seen from a connection to an SPU whose address the SC told.
    pub fn at_spu(self, spu: i32, address: &str, mapped: bool) -> Self {
        let reason = match &self {
            Trouble::Connect { reason, .. } => reason.clone(),
            Trouble::ConnectTimeout { after, .. } => format!("timed out after {}", seconds(*after)),
            Trouble::Silent { .. } | Trouble::HungUp { .. } | Trouble::OtherProtocol { .. } | Trouble::IsSc { .. } => {
                "no SPU answers there".to_owned()
            }
            _ => return self,
        };
        if mapped {
            return Trouble::Mapped { spu, mapped: address.to_owned(), reason };
        }
        let port = port_of(address).unwrap_or(9010);
        Trouble::Advertised { spu, advertised: address.to_owned(), port, why: format!(" ({reason})") }
    }
}

pub fn port_of(address: &str) -> Option<u16> {
    address.rsplit_once(':')?.1.parse().ok()
}

/// The host of `host:port`, brackets of an IPv6 address taken off.
pub fn host_of(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}

/// Whether a host can only mean the machine that uses the name.
pub fn is_local(host: &str) -> bool {
    match host.parse::<std::net::IpAddr>() {
        Ok(ip) => ip.is_loopback() || ip.is_unspecified(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

/// What the first bytes of an answer that is not Fluvio's tell.
pub fn guess(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0x20, 0x02..=0x7f, ..] => Some("MQTT"),
        [b'H', b'T', b'T', b'P', ..] => Some("HTTP"),
        [b'S', b'S', b'H', b'-', ..] => Some("SSH"),
        [0x15, 0x03, ..] => Some("TLS"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_advertised_localhost_is_named_with_the_way_out() {
        let address = "localhost:9010".to_owned();
        let refused = Trouble::Connect { address: address.clone(), reason: "connection refused".into() };
        assert_eq!(
            refused.at_spu(5001, &address, false).to_string(),
            "the SC answers but its SPU advertises localhost:9010 (connection refused); from here that is this machine; \
             map it to its address from here: spu_address = { \"5001\" = \"HOST:9010\" }"
        );
    }

    #[test]
    fn what_the_status_page_promises_is_what_is_said() {
        let (address, after) = (String::from("sc.example:9003"), Duration::from_secs(10));
        let timed_out = Trouble::ConnectTimeout { address: address.clone(), after };
        assert_eq!(timed_out.to_string(), "connect sc.example:9003 timed out after 10 s (connect_timeout)");
        let silent = Trouble::Silent { address: address.clone(), after, known: false };
        assert!(silent.to_string().ends_with(
            "within 10 s (connect_timeout); is it a Fluvio SC (they usually listen on 9003), or overloaded?"
        ));
        assert!(silent.of_known().to_string().ends_with("does not answer within 10 s (connect_timeout)"));
        let hung_up = Trouble::HungUp { address };
        assert_eq!(hung_up.of_known().to_string(), "sc.example:9003 closed the connection");
    }

    #[test]
    fn an_mqtt_broker_is_named_as_such() {
        assert_eq!(guess(&[0x20, 0x02, 0x00, 0x00]), Some("MQTT"));
        let trouble = Trouble::OtherProtocol { address: "10.0.0.5:1883".into(), what: "MQTT" };
        assert_eq!(trouble.to_string(), "10.0.0.5:1883 speaks MQTT, not Fluvio; an SC usually listens on 9003");
    }

    #[test]
    fn hosts_and_ports_are_taken_apart() {
        assert_eq!((host_of("[::1]:9003"), port_of("[::1]:9003")), ("::1", Some(9003)));
        assert_eq!((host_of("sc.example:9003"), port_of("sc.example")), ("sc.example", None));
        assert!(is_local("127.0.0.1") && is_local("localhost") && is_local("0.0.0.0") && !is_local("10.0.0.5"));
    }
}
