//! The `mqtt` source: a subscriber that acknowledges a message only when it is durable.
//!
//! Promises: PUBACK (PUBREC) after the record is durable, in order; nothing acknowledged that is not in the ring,
//! dropped by a rule, or counted here; a message that the broker sends again is dropped where that can be proven
//! ([`repeats`]) and counted `redelivered` where not; a packet above `max_packet` is kept in part, flagged and
//! acknowledged, so that it cannot come for ever. The broker is told about durability as fast as its window needs
//! and no faster ([`acks`]).
//!
//! One connection is a [`session`]; this file is what outlives it: the memory of what was taken, the wait between
//! tries, and what the status shows. It reconnects by itself rather than through the supervisor, because what it
//! knows about unanswered messages is worth keeping.
//!
//! Deliberately not here: publishing, wills, shared-session tricks, MQTT over WebSockets.

use std::collections::HashMap;

use crate::backoff::Backoff;
use crate::config::model::{MqttSource, Retained};
use crate::hub::{PartState, counters};
use crate::record::{AttrBuf, Flags, RecordRef};
use crate::ring::Ticket;
use crate::time::{BootTime, Span};
use crate::topic::TopicId;

use super::{Inlet, SourceError};

mod acks;
mod connect;
mod faults;
mod filter;
mod frames;
mod packets;
mod repeats;
mod session;
mod subscriptions;

use acks::Window;
use faults::{Fault, Takeovers};
use packets::{Encoder, Message};
use repeats::{Repeats, Verdict};

/// The state entry with the messages taken.
const TAKEN: &[u8] = b"taken";
/// The state entry with the broker's own counters.
const DROPPED: &[u8] = b"dropped";
/// Topics of such counters that are followed.
const MAX_DROPPED: usize = 16;
/// The wait between tries.
const RETRY: (Span, Span) = (Span::from_secs(1), Span::from_secs(60));
/// A connection that lived this long was a good one: the next wait is short again.
const GOOD: Span = Span::from_secs(10);

const WILDCARDS: [&str; 14] = [
    "mqtt.1", "mqtt.2", "mqtt.3", "mqtt.4", "mqtt.5", "mqtt.6", "mqtt.7", "mqtt.8", "mqtt.9", "mqtt.10", "mqtt.11",
    "mqtt.12", "mqtt.13", "mqtt.14",
];

/// Messages that no filter of the config matches (a subscription that the broker still holds).
const UNMATCHED: &str = "unmatched";
/// Retained messages left out by `retained = "skip"`.
const RETAINED_SKIPPED: &str = "retained_skipped";
/// Copies that overlapping subscriptions brought.
const COPIES_DROPPED: &str = "copies_dropped";
/// How many messages the broker sends before it waits for an answer.
const WINDOW: &str = "window";

/// Runs until the node stops.
pub(super) async fn run(config: &MqttSource, intake: Inlet) -> Result<(), SourceError> {
    let mut source = Source::new(config, intake)?;
    let seed = source.intake.now().boot.0 as u64 ^ repeats::fingerprint(&config.client_id, b"");
    let mut backoff = Backoff::new(RETRY.0, RETRY.1, seed);
    loop {
        let began = source.intake.now().boot;
        let Err(fault) = source.connection().await else { return Ok(()) };
        let now = source.intake.now().boot;
        if now - began >= GOOD {
            backoff.reset();
        }
        let wait = backoff.next_wait();
        let what = match source.takeovers.warning(&config.client_id) {
            Some(warning) => format!("{warning} ({fault})"),
            None => fault.to_string(),
        };
        source.report(PartState::down(what, Some(wait)));
        tokio::select! {
            () = source.intake.stopping() => return Ok(()),
            () = tokio::time::sleep(wait.to_std()) => {}
        }
    }
}

/// What outlives a connection.
struct Source<'a> {
    config: &'a MqttSource,
    intake: Inlet,
    address: String,
    plan: filter::Plan,
    /// Of each subscription of the config.
    topics: Vec<TopicId>,
    repeats: Repeats,
    window: Window,
    takeovers: Takeovers,
    /// Since when the broker has let us in.
    connected: Option<BootTime>,
    reported: Option<PartState>,
    /// The broker's counters of dropped messages as last seen, by topic.
    dropped: HashMap<String, u64>,
    /// A broker hung up when asked for them.
    system_forbidden: bool,
    /// It was asked and has not answered.
    system_unsure: bool,
    attrs: AttrBuf,
}

/// What became of a message.
#[derive(Default)]
struct Taken {
    ticket: Ticket,
    /// Whether it is answered, and what for other than this group.
    answer: Option<Option<Ticket>>,
    remember: bool,
}

/// What was done with a message that is no repeat.
enum Fate {
    Kept(Ticket),
    /// Nothing of it is kept, for a counted reason.
    Left,
    /// It should be kept and does not fit: it is not acknowledged.
    Refused,
}

impl<'a> Source<'a> {
    fn new(config: &'a MqttSource, intake: Inlet) -> Result<Self, SourceError> {
        let topics = config.subscribe.iter().map(|s| intake.topic(&s.topic)).collect::<Result<_, _>>()?;
        let repeats = match intake.state(TAKEN) {
            Some(stored) => Repeats::restore(config.inflight, &stored),
            None => Repeats::new(config.inflight),
        };
        let dropped = intake.state(DROPPED).and_then(|bytes| postcard::from_bytes(&bytes).ok()).unwrap_or_default();
        Ok(Self {
            config,
            address: format!("{}:{}", config.host, config.port),
            plan: filter::Plan::of(&config.subscribe),
            topics,
            repeats,
            window: Window::new(config.inflight),
            takeovers: Takeovers::default(),
            connected: None,
            reported: None,
            dropped,
            system_forbidden: false,
            system_unsure: false,
            attrs: AttrBuf::default(),
            intake,
        })
    }

    /// One connection, from the first packet to the last.
    async fn connection(&mut self) -> Result<(), Fault> {
        let ended = self.try_connection().await;
        if let (Some(since), Err(fault)) = (self.connected.take(), &ended) {
            self.takeovers.ended(since, self.intake.now().boot, fault);
            self.system_forbidden |= std::mem::take(&mut self.system_unsure);
        }
        ended
    }

    async fn try_connection(&mut self) -> Result<(), Fault> {
        let stopping = self.intake.clone();
        let connected = tokio::select! {
            () = stopping.stopping() => return Ok(()),
            connected = connect::connect(self.config, self.config.inflight.max(1)) => connected?,
        };
        self.connected = Some(self.intake.now().boot);
        self.intake.count(counters::CONNECTS, 1);
        self.repeats.connected(connected.accepted.session_present);
        if !connected.accepted.session_present {
            tokio::select! {
                () = stopping.stopping() => return Ok(()),
                () = self.forget() => {}
            }
        }
        let encoder = Encoder { version: connect::version(self.config) };
        session::serve(self, connected, encoder).await
    }

    /// The broker knows no session: what we remember of the old one is void, durably so before the first
    /// subscription, lest a crash bring it back and a new message be taken for an old one.
    async fn forget(&mut self) {
        let mut newest = None;
        for key in [TAKEN, subscriptions::STATE] {
            if self.intake.state(key).is_some() {
                newest = self.put_state(key, None).max(newest);
            }
        }
        if let Some(ticket) = newest {
            self.intake.hurry(Span(0));
            self.intake.wait_settled(ticket).await;
        }
    }

    /// Takes one message.
    fn message(&mut self, message: &Message) -> Taken {
        // What the broker says about itself, which we asked for to know its losses, is no event.
        if !message.topic.starts_with("$SYS/") || self.config.subscribe.iter().any(|s| s.filter.starts_with("$SYS")) {
            self.intake.count(counters::RECEIVED, 1);
            self.intake.count(counters::RECEIVED_BYTES, message.size as u64);
        }
        let mut flags = Flags::default();
        let answer = (message.qos > 0).then_some(None);
        let hash = if message.qos > 0 { repeats::fingerprint(&message.topic, &message.payload) } else { 0 };
        if message.qos > 0 {
            match self.repeats.judge(message.id, message.dup, message.qos == 2, hash) {
                Verdict::New => {}
                Verdict::Redelivered => {
                    self.intake.count(counters::REDELIVERED, 1);
                    flags = flags.with(Flags::REDELIVERED);
                }
                Verdict::Repeat(ticket) => {
                    self.intake.count(counters::REPEATS_DROPPED, 1);
                    return Taken { answer: Some(Some(ticket)), ..Taken::default() };
                }
                Verdict::Silent => {
                    self.intake.count(counters::REPEATS_DROPPED, 1);
                    return Taken::default();
                }
            }
        }
        let ticket = match self.admit(message, flags) {
            Fate::Kept(ticket) => Some(ticket),
            Fate::Left => None,
            // The broker keeps what the ring does not.
            Fate::Refused => return Taken::default(),
        };
        let remember = message.qos > 0 && ticket.is_some() || message.qos == 2;
        if remember {
            self.repeats.took(message.id, message.qos == 2, hash);
        }
        Taken { ticket: ticket.unwrap_or_default(), answer, remember }
    }

    /// Offers what belongs to a subscription.
    fn admit(&mut self, message: &Message, mut flags: Flags) -> Fate {
        let mut captures = Vec::new();
        let subscriptions = &self.config.subscribe;
        let Some(at) = subscriptions.iter().position(|s| filter::matches(&s.filter, &message.topic, &mut captures))
        else {
            if !self.system(message) {
                self.intake.count(UNMATCHED, 1);
            }
            return Fate::Left;
        };
        if !self.plan.keeps(&message.topic, &message.subscriptions) {
            self.intake.count(COPIES_DROPPED, 1);
            return Fate::Left;
        }
        self.attrs.clear();
        // Where the limits of attributes are met, the record goes without the rest of them.
        let mut fits = self.attrs.push("mqtt.topic", message.topic.as_bytes());
        for (name, value) in WILDCARDS.iter().zip(&captures) {
            fits = fits && self.attrs.push(name, value.as_bytes());
        }
        if message.retain {
            match self.config.retained {
                Retained::Skip => {
                    self.intake.count(RETAINED_SKIPPED, 1);
                    return Fate::Left;
                }
                Retained::Keep => {}
                Retained::Mark => {
                    flags = flags.with(Flags::RETAINED);
                    let _ = fits && self.attrs.push("mqtt.retained", b"true");
                }
            }
        }
        if message.malformed {
            self.intake.count(counters::MALFORMED, 1);
            flags = flags.with(Flags::UNPARSED);
        }
        let value = self.within_limits(message);
        if value.len() < message.payload.len() || message.cut {
            self.intake.count(counters::TRUNCATED, 1);
            flags = flags.with(Flags::TRUNCATED);
        }
        let record = RecordRef { flags, attrs: self.attrs.as_attrs(), ..RecordRef::of(value) };
        // Inside a group an offer fails only for what rules make too large, whatever was cut from it.
        match self.intake.offer(self.topics[at], &record) {
            Ok(admitted) => Fate::Kept(admitted.ticket),
            Err(_) => Fate::Refused,
        }
    }

    /// The payload, cut so that the packet has at most `max_packet` bytes.
    fn within_limits<'m>(&self, message: &'m Message) -> &'m [u8] {
        let payload = &message.payload[..];
        let beside = if message.cut { 0 } else { message.size.saturating_sub(payload.len()) };
        let most = self.config.max_packet.saturating_sub(beside);
        &payload[..payload.len().min(most)]
    }

    /// One of the broker's own counters? Its growth is what never reached us or others.
    fn system(&mut self, message: &Message) -> bool {
        let mut captures = Vec::new();
        if !subscriptions::SYSTEM.iter().any(|f| filter::matches(f, &message.topic, &mut captures)) {
            return false;
        }
        let text = std::str::from_utf8(&message.payload).unwrap_or("").trim();
        let Ok(value) = text.parse::<u64>() else { return true };
        match self.dropped.get(&message.topic).copied() {
            // What it dropped before we knew it is not ours to tell.
            None if self.dropped.len() >= MAX_DROPPED => return true,
            None => {}
            Some(before) if before == value => return true,
            // It counts from nothing after a restart.
            Some(before) => {
                let lost = if value > before { value - before } else { value };
                self.intake.count(counters::LOST_BEFORE_SOURCE, lost);
            }
        }
        self.dropped.insert(message.topic.clone(), value);
        if let Ok(bytes) = postcard::to_allocvec(&self.dropped) {
            self.put_state(DROPPED, Some(&bytes));
        }
        true
    }

    /// Stores the memory of what was taken, the last record of it with ticket `newest`; the ticket of all of it.
    fn remember(&mut self, newest: Ticket) -> Ticket {
        let ticket = self.repeats.store().and_then(|bytes| self.put_state(TAKEN, Some(&bytes)));
        // Where the memory cannot be stored, the records still have to be durable before a repeat is answered.
        let ticket = ticket.unwrap_or_default().max(newest);
        self.repeats.stored(ticket);
        ticket
    }

    fn put_state(&mut self, key: &[u8], value: Option<&[u8]>) -> Option<Ticket> {
        match self.intake.put_state(key, value) {
            Ok(ticket) => Some(ticket),
            Err(e) => {
                // Repeats may stay in, nothing is lost.
                self.report(PartState::warn(format!("{e}: repeats of the broker cannot be recognised")));
                None
            }
        }
    }

    /// The connection is still there: what was suspected of it may be over.
    fn alive(&mut self) -> bool {
        self.intake.gauge(WINDOW, self.window.size() as u64);
        let before = self.takeovers.warning(&self.config.client_id).is_some();
        if let Some(since) = self.connected {
            self.takeovers.lived(since, self.intake.now().boot);
        }
        before && self.takeovers.warning(&self.config.client_id).is_none()
    }

    fn report(&mut self, state: PartState) {
        if self.reported.as_ref() != Some(&state) {
            self.intake.report(state.clone());
            self.reported = Some(state);
        }
    }
}
