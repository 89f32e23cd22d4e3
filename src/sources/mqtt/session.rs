//! One connection: packets in, records to the intake, answers out as they become durable.
//!
//! rumqttc's event loop is not used, only its packets. With it, a packet above its limit disconnects and comes again
//! for ever; a PUBREL for a message of the connection before is an error that ends each new connection in turn; an
//! answer is a message through a channel that the polling task itself must drain (awaiting there deadlocks), and one
//! still queued when the connection breaks can answer another message's id on the next; every answer is a flush of
//! its own. Here the queue of answers belongs to the connection and dies with it, the task that reads also writes,
//! and one write carries all answers of a commit.
//!
//! Nothing blocks: reading stops while the disk is behind or too many answers wait, writing goes on meanwhile.

use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep_until};

use super::Source;
use super::acks::{AckQueue, Answer, MAX_WAITING};
use super::connect::{Connected, Wire};
use super::faults::{Fault, plain};
use super::frames::Framer;
use super::packets::{Encoder, Message, Packet, decode};
use super::subscriptions::Subscriptions;
use crate::ring::Ticket;
use crate::time::Span;

/// Packets taken before others get their turn.
const BURST: usize = 64;
/// Bytes offered in one group, so that memory and records share a frame.
const GROUP_BYTES: usize = 24 * 1024;
/// A broker that reads nothing, or does not answer a ping, for this long is gone.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between pings that only teach how the broker gives out ids.
const LEARNING: Duration = Duration::from_secs(1);
/// At a stop, what is on its way to the disk is still acknowledged if it arrives within this.
const LAST_WORDS: Duration = Duration::from_millis(1500);

/// What waits to be taken in the order it came.
enum Event {
    Message(Message),
    Released(u16),
}

#[derive(Clone, Copy, PartialEq)]
enum Progress {
    /// All packets are taken: read on.
    Dry,
    /// Others first.
    Yield,
    /// The disk is behind, or too many answers wait.
    Held,
}

pub struct Session<'a, 'b> {
    source: &'a mut Source<'b>,
    subscriptions: Subscriptions,
    encoder: Encoder,
    framer: Framer,
    out: BytesMut,
    acks: AckQueue,
    events: Vec<Event>,
    /// Read, but too large for the group it came in.
    parked: Option<Message>,
    /// Messages of QoS 1 and 2 that have no final answer: what fills the broker's window.
    unanswered: usize,
    keep_alive: Duration,
    next_ping: Instant,
    pong_due: Option<Instant>,
    /// Since when the broker takes nothing.
    stuck_since: Option<Instant>,
}

/// Runs a connection until the node stops (Ok) or it ends.
pub async fn serve(source: &mut Source<'_>, connected: Connected, encoder: Encoder) -> Result<(), Fault> {
    let Connected { wire, framer, accepted } = connected;
    let keep_alive = accepted.keep_alive.map_or(source.config.keep_alive.to_std(), |s| Duration::from_secs(s.into()));
    // Zero means that the broker does not mind; we do.
    let keep_alive = if keep_alive.is_zero() { Duration::from_secs(60) } else { keep_alive };
    let mut out = BytesMut::new();
    let subscriptions = Subscriptions::ask(source, &encoder, accepted, &mut out);
    let mut session = Session {
        source,
        subscriptions,
        encoder,
        framer,
        out,
        acks: AckQueue::default(),
        events: Vec::with_capacity(BURST),
        parked: None,
        unanswered: 0,
        keep_alive,
        next_ping: Instant::now() + keep_alive,
        pong_due: None,
        stuck_since: None,
    };
    session.run(wire).await
}

/// What a message takes in its group: value, attributes, key, and its place in the memory of messages.
fn room_for(message: &Message) -> usize {
    message.payload.len() + 2 * message.topic.len() + 256
}

/// Writes a part of `out`, or flushes when nothing is left of it; true if a flush is still to come. Nothing is lost
/// when the future is dropped.
async fn send(writer: &mut (impl AsyncWriteExt + Unpin), out: &mut BytesMut) -> std::io::Result<bool> {
    if out.is_empty() {
        writer.flush().await?;
        return Ok(false);
    }
    writer.write_buf(out).await?;
    Ok(true)
}

impl Session<'_, '_> {
    async fn run(&mut self, wire: Box<dyn Wire>) -> Result<(), Fault> {
        let (mut reader, mut writer) = tokio::io::split(wire);
        let intake = self.source.intake.clone();
        let mut unflushed = false;
        loop {
            let progress = self.take_packets()?;
            self.answer();
            self.ping()?;
            if progress == Progress::Held
                && let Some(due) = &mut self.pong_due
            {
                // Nothing is read meanwhile: the answer may lie there.
                *due = (*due).max(Instant::now() + PATIENCE.min(self.keep_alive));
            }
            let deadline = self.deadline();
            let waits_for = self.acks.next_ticket();
            // Which borrow what: the branches use different fields.
            let (framer, out) = (&mut self.framer, &mut self.out);
            let writes = !out.is_empty();
            tokio::select! {
                () = intake.stopping() => return self.leave(&mut writer).await,
                sent = send(&mut writer, out), if writes || unflushed => {
                    unflushed = sent.map_err(|e| self.lost(&e))?;
                    self.stuck_since = None;
                }
                () = intake.wait_settled(waits_for.unwrap_or_default()), if waits_for.is_some() => {}
                read = reader.read_buf(framer.space()), if progress == Progress::Dry => {
                    let closed = || Fault::Closed(format!("{} closed the connection", self.source.address));
                    if read.map_err(|e| self.lost(&e))? == 0 {
                        return Err(closed());
                    }
                }
                () = intake.room(), if progress == Progress::Held && self.acks.count() < MAX_WAITING => {}
                () = tokio::task::yield_now(), if progress == Progress::Yield => {}
                () = sleep_until(deadline) => {}
            }
            if self.stuck_since.is_some_and(|since| since.elapsed() > PATIENCE) {
                return Err(Fault::Broken(format!("{} takes nothing any more", self.source.address)));
            }
            if self.stuck_since.is_none() && !self.out.is_empty() {
                self.stuck_since = Some(Instant::now());
            }
        }
    }

    fn lost(&self, error: &std::io::Error) -> Fault {
        Fault::Closed(format!("{}: connection lost: {}", self.source.address, plain(error)))
    }

    fn deadline(&self) -> Instant {
        let stuck = self.stuck_since.map(|since| since + PATIENCE);
        let learns = self.source.repeats.wants_ping() && self.pong_due.is_none();
        let learning = learns.then(|| self.next_ping - self.keep_alive + LEARNING);
        // While a ping is unanswered, the next one waits.
        let ping = self.pong_due.unwrap_or(self.next_ping);
        [stuck, learning].into_iter().flatten().fold(ping, Instant::min)
    }

    /// Takes what has arrived, a bounded burst, as one group.
    fn take_packets(&mut self) -> Result<Progress, Fault> {
        let mut bytes = 0;
        let mut dry = false;
        // Events left from before: the disk was behind.
        if self.events.is_empty() {
            while self.events.len() < BURST && bytes < GROUP_BYTES && !dry {
                if self.acks.count() + self.events.len() >= MAX_WAITING {
                    break;
                }
                let packet = match self.parked.take() {
                    Some(message) => Some(Packet::Message(message)),
                    None => self.next_packet()?,
                };
                match packet {
                    Some(Packet::Message(message)) => {
                        let more = room_for(&message);
                        if bytes + more > GROUP_BYTES && !self.events.is_empty() {
                            // A large one is alone in its group.
                            self.parked = Some(message);
                            break;
                        }
                        bytes += more;
                        self.events.push(Event::Message(message));
                    }
                    Some(Packet::Released(id)) => self.events.push(Event::Released(id)),
                    Some(other) => self.control(other)?,
                    None => dry = true,
                }
            }
        }
        if !self.events.is_empty() && !self.take_events() {
            return Ok(Progress::Held);
        }
        Ok(if dry {
            Progress::Dry
        } else if self.acks.count() >= MAX_WAITING {
            Progress::Held
        } else {
            Progress::Yield
        })
    }

    fn next_packet(&mut self) -> Result<Option<Packet>, Fault> {
        let broken = |why: &dyn std::fmt::Display, address: &str| {
            Fault::Broken(format!("{address} broke the protocol: {why}; is it an MQTT broker?"))
        };
        match self.framer.next() {
            Ok(None) => Ok(None),
            Ok(Some(chunk)) => match decode(self.encoder.version, chunk) {
                Ok(packet) => Ok(Some(packet)),
                Err(e) => Err(broken(&e, &self.source.address)),
            },
            Err(e) => Err(broken(&e, &self.source.address)),
        }
    }

    /// Offers what waits, with the memory of it in the same frame. False: not now.
    fn take_events(&mut self) -> bool {
        let intake = self.source.intake.clone();
        let bytes = self.events.iter().map(|e| if let Event::Message(m) = e { room_for(m) } else { 0 }).sum();
        let Ok(group) = intake.group(bytes) else { return false };
        let mut answers = Vec::with_capacity(self.events.len());
        let mut newest = Ticket::default();
        let mut remember = false;
        for event in std::mem::take(&mut self.events) {
            match event {
                Event::Message(message) => {
                    let taken = self.source.message(&message);
                    newest = newest.max(taken.ticket);
                    remember |= taken.remember;
                    if let Some(needs) = taken.answer {
                        let answer =
                            if message.qos == 2 { Answer::Received(message.id) } else { Answer::Ack(message.id) };
                        answers.push((needs, answer));
                        self.unanswered += 1;
                    }
                }
                Event::Released(id) => {
                    // The answer waits until the removal is durable: only then may the id be used again.
                    remember |= self.source.repeats.released(id);
                    answers.push((None, Answer::Complete(id)));
                }
            }
        }
        if remember {
            newest = self.source.remember(newest);
        }
        if let Some(needed) = answers.iter().map(|(needs, _)| needs.unwrap_or(newest)).max() {
            intake.want(needed);
        }
        drop(group);
        for (needs, answer) in answers {
            self.acks.push(needs.unwrap_or(newest), answer);
        }
        self.hurry();
        true
    }

    /// Tells the ring when the broker can send nothing more.
    fn hurry(&mut self) {
        let now = self.source.intake.now().boot;
        if let Some(within) = self.source.window.message(now, self.unanswered) {
            self.source.intake.hurry(within);
        }
    }

    /// Writes the answers whose messages are durable.
    fn answer(&mut self) {
        let settled = self.source.intake.settled();
        let mut written = 0;
        while let Some(answer) = self.acks.pop(settled) {
            match answer {
                Answer::Ack(id) => {
                    self.source.repeats.answered(id);
                    self.unanswered = self.unanswered.saturating_sub(1);
                }
                Answer::Received(_) => {}
                Answer::Complete(_) => self.unanswered = self.unanswered.saturating_sub(1),
            }
            self.encoder.answer(answer, &mut self.out);
            written += 1;
        }
        if written > 0 {
            let now = self.source.intake.now().boot;
            self.source.window.answered(now, written, self.acks.count());
        }
    }

    /// Pings when it is time, or when one would teach something; notices when the last one was not answered.
    fn ping(&mut self) -> Result<(), Fault> {
        let now = Instant::now();
        match self.pong_due {
            Some(due) if now >= due => {
                Err(Fault::Broken(format!("{} does not answer pings: the way to it is broken", self.source.address)))
            }
            Some(_) => Ok(()),
            None => {
                let last = self.next_ping - self.keep_alive;
                let learns = now >= last + LEARNING && self.source.repeats.wants_ping();
                if now >= self.next_ping || learns {
                    self.encoder.ping(&mut self.out);
                    self.source.repeats.pinged();
                    self.next_ping = now + self.keep_alive;
                    self.pong_due = Some(now + PATIENCE.min(self.keep_alive));
                    if self.source.alive() {
                        self.subscriptions.report(self.source);
                    }
                }
                Ok(())
            }
        }
    }

    fn control(&mut self, packet: Packet) -> Result<(), Fault> {
        let address = &self.source.address;
        match packet {
            Packet::Subscribed { id, granted } => {
                self.subscriptions.granted(self.source, &self.encoder, id, &granted, &mut self.out);
            }
            Packet::Unsubscribed => {}
            Packet::Pong => {
                self.pong_due = None;
                self.source.repeats.ponged();
            }
            Packet::Goodbye { taken_over: true, .. } => {
                return Err(Fault::TakenOver(format!("{address}: another client took over our session")));
            }
            Packet::Goodbye { why, .. } => return Err(Fault::Closed(format!("{address} said goodbye: {why}"))),
            Packet::Accepted(_) | Packet::Refused(_) | Packet::Odd(_) | Packet::Message(_) | Packet::Released(_) => {
                return Err(Fault::Broken(format!("{address} sent a packet that has no place there")));
            }
        }
        Ok(())
    }

    /// The node stops: what becomes durable in time is still acknowledged, then the broker is told.
    async fn leave(&mut self, writer: &mut (impl AsyncWriteExt + Unpin)) -> Result<(), Fault> {
        let end = Instant::now() + LAST_WORDS;
        self.source.intake.hurry(Span(0));
        while let Some(ticket) = self.acks.next_ticket() {
            if tokio::time::timeout_at(end, self.source.intake.wait_settled(ticket)).await.is_err() {
                break;
            }
            self.answer();
        }
        self.encoder.goodbye(&mut self.out);
        let last = async {
            writer.write_all(&self.out).await?;
            writer.shutdown().await
        };
        // Whatever the broker misses, it sends again to the next connection.
        let _ = tokio::time::timeout_at(end.max(Instant::now() + Duration::from_millis(200)), last).await;
        Ok(())
    }
}
