//! `socket`: lines over TCP, UDP and a Unix stream, taken as they are.
//!
//! A datagram holds one line or several; a connection's last line needs no end. Where a line came from is its attribute
//! `peer`.

use std::io::Write;

use super::net::{Peer, Service, Taker};
use super::{Inlet, SourceError, offer};
use crate::config::model::SocketSource;
use crate::framing::Framing;
use crate::hub::counters;
use crate::record::{AttrBuf, Flags, RecordRef};
use crate::topic::TopicId;

pub async fn run(config: &SocketSource, intake: Inlet) -> Result<(), SourceError> {
    let lines = Lines { topic: intake.topic(&config.topic)?, intake: intake.clone() };
    let mut service = Service::new(intake, lines, Framing::Lines, config.max_line);
    service.allow.clone_from(&config.allow);
    service.max_connections = config.max_connections;
    service.serve(&config.listen).await
}

struct Lines {
    intake: Inlet,
    topic: TopicId,
}

impl Taker for Lines {
    async fn take(&self, bytes: &[u8], truncated: bool, peer: &Peer, attrs: &mut AttrBuf) -> bool {
        count_received(&self.intake, bytes, truncated);
        attrs.clear();
        push_peer(attrs, peer);
        let flags = if truncated { Flags::TRUNCATED } else { Flags::default() };
        let record = RecordRef { value: bytes, flags, attrs: attrs.as_attrs(), ..RecordRef::default() };
        offer(&self.intake, self.topic, &record).await
    }
}

pub(super) fn count_received(intake: &Inlet, bytes: &[u8], truncated: bool) {
    intake.count(counters::RECEIVED, 1);
    intake.count(counters::RECEIVED_BYTES, bytes.len() as u64);
    if truncated {
        intake.count(counters::TRUNCATED, 1);
    }
}

/// The peer's address, written without an allocation.
pub(super) fn push_peer(attrs: &mut AttrBuf, peer: &Peer) {
    let Peer::Ip(ip) = peer else { return };
    let mut text = [0; 48];
    let mut rest = &mut text[..];
    if write!(rest, "{ip}").is_ok() {
        let len = 48 - rest.len();
        let _fits = attrs.push("peer", &text[..len]);
    }
}
