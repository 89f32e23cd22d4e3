//! `send`: lines of a person or a script into a topic, answered one by one and in order.
//!
//! A line is answered with the offset of its first output, or `filtered`, once it is durable (with `ack = "memory"` once
//! it is taken in). At most [`WINDOW`] lines wait for their answer; beyond that, and while the disk is behind, the socket
//! is not read, which is what holds the client back.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

use super::Conn;
use super::lines::LineError;
use super::protocol::{Ack, Answer, Blob, Line, decode, encode_into};
use crate::hub::{OfferError, Store};
use crate::limits::MAX_RECORD;
use crate::ops::Ops;
use crate::record::RecordRef;
use crate::ring::Ticket;
use crate::time::Span;
use crate::topic::{TopicName, TopicPart};

/// Lines that wait for their answer.
const WINDOW: usize = 1024;
/// Lines taken before others get a turn.
const TURN: usize = 64;
/// A line that nobody follows up is durable within this.
const LINGER: Span = Span::from_millis(20);

/// For so long a line waits before its client is told why.
const PATIENCE: Duration = Duration::from_secs(2);

/// `notes`: the client understands why it waits.
pub(super) async fn send(conn: &mut Conn, ops: &Ops, topic: &str, ack: Ack, notes: bool) -> io::Result<()> {
    let name = match TopicName::new(topic) {
        Ok(name) if name.is_reserved() => {
            let why =
                format!("`{name}` is one of the node's own topics; send to one that does not begin with `headwater-`");
            return conn.answer(&Answer::Failed(why)).await;
        }
        Ok(name) => name,
        Err(error) => return conn.answer(&Answer::Failed(error.to_string())).await,
    };
    let topic = match ops.store.open_topic(&name) {
        Ok(topic) => topic,
        Err(error) => return conn.answer(&Answer::Failed(error.to_string())).await,
    };
    let part = TopicPart { topic, partition: 0 };
    let (waiting, patience) = (VecDeque::new(), notes.then_some(PATIENCE));
    let mut sender =
        Sender { store: &ops.store, name, part, ack, patience, waiting, held: None, tell_at: None, end: None };
    sender.run(conn).await
}

struct Sender<'a> {
    store: &'a Store,
    name: TopicName,
    part: TopicPart,
    ack: Ack,
    /// How long a line waits before the client is told why; None: it is not.
    patience: Option<Duration>,
    waiting: VecDeque<(Ticket, Answer)>,
    /// A line that the disk had no room for yet.
    held: Option<Vec<u8>>,
    /// When the client is to be told why it waits.
    tell_at: Option<Instant>,
    /// No more lines; the last answer.
    end: Option<Answer>,
}

impl Sender<'_> {
    async fn run(&mut self, conn: &mut Conn) -> io::Result<()> {
        let mut out = Vec::new();
        loop {
            self.settle(&mut out);
            if let (true, None, Some(end)) = (self.waiting.is_empty(), &self.held, &self.end) {
                encode_into(&mut out, end);
                return conn.out.write_all(&out).await;
            }
            if !out.is_empty() {
                conn.out.write_all(&out).await?;
                out.clear();
            }
            let full = self.waiting.len() >= WINDOW;
            let reads = self.end.is_none() && self.held.is_none() && !full;
            let oldest = self.waiting.front().map(|(ticket, _)| *ticket);
            if full || self.end.is_some() {
                self.store.hurry(Span::default());
            } else if oldest.is_some() && !conn.lines.has_line() {
                self.store.hurry(LINGER);
            }
            tokio::select! {
                biased;
                () = self.store.wait_settled(oldest.unwrap_or_default()), if oldest.is_some() => {}
                // Before whatever would be taken yet.
                () = self.store.stopping(), if self.end.is_none() => {
                    (self.held, self.tell_at) = (None, None);
                    self.end = Some(Answer::Failed("the node is shutting down; lines without an answer were not taken".into()));
                }
                () = self.store.room(self.part.topic), if self.held.is_some() => {
                    if let Some(line) = self.held.take() {
                        self.offer_again(line);
                    }
                }
                () = tokio::time::sleep_until(self.tell_at.unwrap_or_else(Instant::now)), if self.tell_at.is_some() => {
                    self.tell_at = None;
                    let why = self.store.why_held(self.part.topic);
                    let why = why.unwrap_or_else(|| "the disk is behind".into());
                    encode_into(&mut out, &Answer::Note(format!("waiting: topic `{}` takes nothing: {why}", self.name)));
                }
                line = conn.lines.next(), if reads => {
                    self.take(line)?;
                    let mut taken = 1;
                    while taken < TURN && self.held.is_none() && self.end.is_none() && conn.lines.has_line() {
                        self.take(conn.lines.next().await)?;
                        taken += 1;
                    }
                    tokio::task::yield_now().await;
                }
            }
        }
    }

    /// Answers what is durable.
    fn settle(&mut self, out: &mut Vec<u8>) {
        let settled = self.store.settled();
        while self.waiting.front().is_some_and(|(ticket, _)| *ticket <= settled) {
            if let Some((_, answer)) = self.waiting.pop_front() {
                encode_into(out, &answer);
            }
        }
    }

    fn take(&mut self, line: Result<Option<Vec<u8>>, LineError>) -> io::Result<()> {
        let line = match line {
            Err(LineError::Io(error)) => return Err(error),
            Err(error) => {
                self.end = Some(Answer::Failed(error.to_string()));
                return Ok(());
            }
            // The client is gone; what it sent is kept, and nobody waits for answers.
            Ok(None) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(Some(line)) => line,
        };
        match decode::<Line>(&line) {
            Ok(Line::End) => self.end = Some(Answer::Done(String::new())),
            Ok(Line::Record(blob)) => match Blob::into_bytes(blob) {
                Some(value) => self.offer(value),
                None => self.end = Some(Answer::Failed("a line's hex is none".into())),
            },
            Err(error) => self.end = Some(Answer::Failed(error)),
        }
        Ok(())
    }

    /// A line that waited, and may have to wait on: it is told of once.
    fn offer_again(&mut self, line: Vec<u8>) {
        let tell_at = self.tell_at.take();
        self.offer(line);
        if self.held.is_some() {
            self.tell_at = tell_at;
        }
    }

    fn offer(&mut self, value: Vec<u8>) {
        match self.store.offer(self.part, &RecordRef::of(&value)) {
            Ok(admitted) => {
                let answer = admitted.first.map_or(Answer::Filtered, |first| Answer::Offset(first.offset));
                let ticket = if self.ack == Ack::Memory { Ticket::default() } else { admitted.ticket };
                self.waiting.push_back((ticket, answer));
            }
            Err(OfferError::Busy) => {
                self.held = Some(value);
                self.tell_at = self.patience.map(|patience| Instant::now() + patience);
            }
            Err(error @ OfferError::TooLarge { .. }) => {
                // In order with the others: after the newest one before it.
                let ticket = self.waiting.back().map_or_else(Ticket::default, |(ticket, _)| *ticket);
                self.waiting.push_back((ticket, Answer::Refused(error.to_string())));
            }
        }
    }
}

const _: () = assert!(WINDOW * MAX_RECORD / MAX_RECORD == WINDOW && TURN < WINDOW);
