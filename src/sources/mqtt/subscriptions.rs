//! What we asked the broker for, what it granted, and what a person should know about it.
//!
//! With a session, the broker remembers subscriptions, so they are sent only where they changed: with 3.1.1 each
//! SUBSCRIBE brings every retained message again. What the config no longer wants is unsubscribed. The broker's own
//! counters (`$SYS`) are asked for last and on their own: some hosted brokers hang up on those who ask, and then they
//! are not asked again.

use bytes::BytesMut;
use serde::{Deserialize, Serialize};

use super::Source;
use super::filter::Wanted;
use super::packets::{Accepted, Encoder, Version, Wish};
use crate::config::model::Retained;
use crate::hub::PartState;

/// The state entry that says what the broker's session holds.
pub const STATE: &[u8] = b"subscriptions";

/// Where brokers count what they dropped: Mosquitto, EMQX, VerneMQ.
pub const SYSTEM: [&str; 3] =
    ["$SYS/broker/publish/messages/dropped", "$SYS/brokers/+/metrics/messages/dropped", "$SYS/+/queue_message_drop"];

/// A subscription as the broker has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    filter: String,
    qos: u8,
    /// The subscription identifier; 0 is none.
    identifier: u16,
}

pub struct Subscriptions {
    /// By packet id.
    asked: Vec<(u16, Held)>,
    held: Vec<Held>,
    refused: Vec<(String, String)>,
    lowered: Vec<String>,
    /// Packet ids of the `$SYS` ones, once they are asked for.
    system: Vec<u16>,
    identified: bool,
    next_id: u16,
}

impl Subscriptions {
    /// Appends to `out` what changes the broker's session into what the config wants.
    pub fn ask(source: &mut Source<'_>, encoder: &Encoder, accepted: Accepted, out: &mut BytesMut) -> Self {
        let identified = encoder.version == Version::V5 && !accepted.no_subscription_ids;
        let stored = if accepted.session_present { source.intake.state(STATE) } else { None };
        let known: Vec<Held> = stored.and_then(|bytes| postcard::from_bytes(&bytes).ok()).unwrap_or_default();
        let mut subscriptions = Self {
            asked: Vec::new(),
            held: Vec::new(),
            refused: Vec::new(),
            lowered: Vec::new(),
            system: Vec::new(),
            identified,
            next_id: 0,
        };
        let wanted = wanted(&source.plan.wanted, identified);
        for old in known.iter().filter(|old| !wanted.iter().any(|w| w.filter == old.filter)) {
            encoder.unsubscribe(subscriptions.id(), &old.filter, out);
        }
        for want in wanted {
            if known.contains(&want) {
                subscriptions.held.push(want);
                continue;
            }
            let id = subscriptions.id();
            let identifier = (want.identifier > 0).then_some(usize::from(want.identifier));
            let retained = source.config.retained != Retained::Skip;
            encoder.subscribe(&Wish { id, filter: &want.filter, qos: want.qos, identifier, retained }, out);
            subscriptions.asked.push((id, want));
        }
        subscriptions.settle(source, encoder, out);
        subscriptions
    }

    fn id(&mut self) -> u16 {
        self.next_id += 1;
        self.next_id
    }

    /// The broker answered a SUBSCRIBE.
    pub fn granted(
        &mut self,
        source: &mut Source<'_>,
        encoder: &Encoder,
        id: u16,
        granted: &[Result<u8, String>],
        out: &mut BytesMut,
    ) {
        if let Some(at) = self.system.iter().position(|s| *s == id) {
            self.system.remove(at);
            source.system_unsure = !self.system.is_empty();
            return;
        }
        let Some(at) = self.asked.iter().position(|(asked, _)| *asked == id) else { return };
        let (_, want) = self.asked.remove(at);
        match granted.first() {
            Some(Ok(qos)) => {
                if *qos == 0 && want.qos > 0 {
                    self.lowered.push(want.filter.clone());
                }
                self.held.push(want);
            }
            Some(Err(why)) => self.refused.push((want.filter, why.clone())),
            None => self.refused.push((want.filter, "the broker gave no answer".into())),
        }
        self.settle(source, encoder, out);
    }

    /// Once everything is answered: remembers it, says it, and asks for the broker's own counters.
    fn settle(&mut self, source: &mut Source<'_>, encoder: &Encoder, out: &mut BytesMut) {
        if !self.asked.is_empty() {
            return;
        }
        // What was lowered is asked for again next time, so that it stays in the status.
        let kept: Vec<_> = self.held.iter().filter(|h| !self.lowered.contains(&h.filter)).collect();
        if let Ok(bytes) = postcard::to_allocvec(&kept)
            && source.intake.state(STATE).as_deref() != Some(&bytes)
        {
            source.put_state(STATE, Some(&bytes));
        }
        self.report(source);
        if !source.system_forbidden {
            for filter in SYSTEM {
                let id = self.id();
                encoder.subscribe(&Wish { id, filter, qos: 0, identifier: None, retained: true }, out);
                self.system.push(id);
            }
            source.system_unsure = true;
        }
    }

    /// How the source is, as far as the broker let it be.
    pub fn report(&self, source: &mut Source<'_>) {
        let version = super::connect::version(source.config);
        let connected = format!("connected to {}, MQTT {version}", source.address);
        let mut warnings = Vec::new();
        warnings.extend(source.takeovers.warning(&source.config.client_id));
        for (filter, why) in &self.refused {
            warnings.push(format!("the broker refused to subscribe `{filter}`: {why}"));
        }
        for filter in &self.lowered {
            warnings.push(format!(
                "the broker grants `{filter}` QoS 0 only; QoS 0 cannot be acknowledged: what is on its way in a crash is lost"
            ));
        }
        if let (false, Some((a, b))) = (self.identified, source.plan.overlaps.first()) {
            warnings.push(format!(
                "`{a}` and `{b}` overlap: the broker may send a message for each; `version = \"5\"` tells them apart"
            ));
        }
        let total = self.held.len() + self.refused.len() + self.asked.len();
        source.report(if warnings.is_empty() {
            PartState::up(format!("{connected}, {total} subscription{}", if total == 1 { "" } else { "s" }))
        } else {
            PartState::warn(format!("{connected}; {}", warnings.join("; ")))
        });
    }
}

fn wanted(plan: &[Wanted], identified: bool) -> Vec<Held> {
    let held = |(i, w): (usize, &Wanted)| Held {
        filter: w.filter.clone(),
        qos: w.qos,
        identifier: if identified { u16::try_from(i + 1).unwrap_or(0) } else { 0 },
    };
    plan.iter().enumerate().map(held).collect()
}
