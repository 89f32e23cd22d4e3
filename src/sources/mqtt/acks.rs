//! What the broker waits to hear, and when the ring must hurry for it.
//!
//! An [`AckQueue`] lives and dies with one connection: a packet id means something only there, so an answer that
//! was not written before the connection broke is never written at all (the broker sends the message again). Answers
//! leave strictly in the order in which their packets came, each only when its ticket is settled.
//!
//! A [`Window`] knows how many messages the broker sends before it falls silent. Once that many wait, lingering for
//! company is pointless: none can come. MQTT 5 says the number (our receive maximum bounds it), 3.1.1 does not, and
//! brokers have limits of their own below it (Mosquitto 20, others 10 or 32), so the window is also learned: when
//! everything that waited was answered after a silence and the broker then spoke at once, three times at the same
//! count, that count is its window. A wrong guess costs an early commit, never a record.

use std::collections::VecDeque;

use crate::ring::Ticket;
use crate::time::{BootTime, Span};

/// Answers that may wait on one connection; beyond it nothing is read until some are written.
pub const MAX_WAITING: usize = 2048;

/// An answer to the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// PUBACK: a QoS 1 message is durable.
    Ack(u16),
    /// PUBREC: a QoS 2 message is durable.
    Received(u16),
    /// PUBCOMP: that a QoS 2 id is free is durable.
    Complete(u16),
}

#[derive(Debug, Default)]
pub struct AckQueue {
    waiting: VecDeque<(Ticket, Answer)>,
    /// The newest ticket pushed: an answer never waits for less than the one before it.
    newest: Ticket,
}

impl AckQueue {
    pub fn push(&mut self, ticket: Ticket, answer: Answer) {
        self.newest = self.newest.max(ticket);
        self.waiting.push_back((self.newest, answer));
    }

    /// The next answer whose ticket is settled.
    pub fn pop(&mut self, settled: Ticket) -> Option<Answer> {
        let (ticket, _) = self.waiting.front()?;
        if *ticket > settled {
            return None;
        }
        self.waiting.pop_front().map(|(_, answer)| answer)
    }

    /// What the first answer waits for.
    pub fn next_ticket(&self) -> Option<Ticket> {
        self.waiting.front().map(|(ticket, _)| *ticket)
    }

    /// How many wait.
    pub fn count(&self) -> usize {
        self.waiting.len()
    }
}

/// After this long without a message, the broker is taken to have fallen silent.
const SILENCE: Span = Span::from_millis(50);
/// A message this soon after the answers were written had been waiting for them.
const AT_ONCE: Span = Span::from_millis(250);
/// Equal observations before a window is believed.
const BELIEVED_AFTER: u8 = 3;

#[derive(Debug)]
pub struct Window {
    limit: usize,
    learned: Option<usize>,
    /// The count at which the broker seemed full, and how often in a row.
    suspect: (usize, u8),
    last_message: BootTime,
    /// When everything that waited was answered after a silence, and how many that were.
    released: Option<(BootTime, usize)>,
}

impl Window {
    /// `limit` is what the config or the receive maximum says.
    pub fn new(limit: u16) -> Self {
        Self {
            limit: usize::from(limit.max(1)),
            learned: None,
            suspect: (0, 0),
            last_message: BootTime(0),
            released: None,
        }
    }

    /// The size believed in.
    pub fn size(&self) -> usize {
        self.learned.map_or(self.limit, |learned| learned.min(self.limit))
    }

    /// A message came; `waiting` is how many wait with it. Some(span): commit within it.
    pub fn message(&mut self, now: BootTime, waiting: usize) -> Option<Span> {
        if let Some((at, count)) = self.released.take() {
            self.suspect = match self.suspect {
                _ if now - at > AT_ONCE => (0, 0),
                (suspect, times) if suspect == count => (count, times.saturating_add(1)),
                _ => (count, 1),
            };
            if self.suspect.1 >= BELIEVED_AFTER {
                self.learned = Some(count);
            }
        }
        if self.learned.is_some_and(|learned| waiting > learned) {
            (self.learned, self.suspect) = (None, (0, 0));
        }
        self.last_message = now;
        if waiting >= self.size() {
            Some(Span(0))
        } else if waiting * 2 >= self.size() && self.size() >= 4 {
            // Half full: the broker is fast; a commit under way when the window fills keeps it sending.
            Some(Span::from_millis(20))
        } else {
            None
        }
    }

    /// Answers were written; `answered` of them, `waiting` remain.
    pub fn answered(&mut self, now: BootTime, answered: usize, waiting: usize) {
        let silent = now - self.last_message >= SILENCE;
        self.released = (waiting == 0 && answered > 0 && silent).then_some((now, answered));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn answers_leave_in_order_and_never_before_they_are_settled(
            steps in prop::collection::vec((0u64..50, 0u64..60), 1..100)
        ) {
            let mut queue = AckQueue::default();
            let mut pushed = Vec::new();
            let mut popped = Vec::new();
            let mut settled = 0;
            for (i, (ticket, more)) in steps.into_iter().enumerate() {
                let answer = Answer::Ack(i as u16);
                queue.push(Ticket(ticket), answer);
                pushed.push((ticket, answer));
                settled = settled.max(more);
                while let Some(answer) = queue.pop(Ticket(settled)) {
                    let (needs, expected) = pushed[popped.len()];
                    prop_assert!(needs <= settled);
                    prop_assert_eq!(answer, expected);
                    popped.push(answer);
                }
                prop_assert!(queue.next_ticket().is_none_or(|t| t.0 > settled));
            }
            while let Some(answer) = queue.pop(Ticket(u64::MAX)) {
                popped.push(answer);
            }
            prop_assert_eq!(popped, pushed.into_iter().map(|(_, a)| a).collect::<Vec<_>>());
        }
    }

    fn ms(ms: i64) -> BootTime {
        BootTime(ms * 1000)
    }

    #[test]
    fn a_full_window_is_committed_at_once_and_a_quiet_one_lingers() {
        let mut window = Window::new(20);
        assert_eq!(window.message(ms(0), 1), None);
        assert_eq!(window.message(ms(1), 10), Some(Span::from_millis(20)));
        assert_eq!(window.message(ms(2), 20), Some(Span(0)));
        assert_eq!(Window::new(1).message(ms(0), 1), Some(Span(0)));
    }

    #[test]
    fn a_brokers_smaller_window_is_learned_from_its_silences() {
        let mut window = Window::new(20);
        let mut now = 0;
        let mut lingered = 0;
        for _ in 0..10 {
            let mut hurried = false;
            for waiting in 1..=8 {
                hurried = window.message(ms(now), waiting) == Some(Span(0));
                now += 1;
            }
            if !hurried {
                lingered += 1;
                now += 1000;
            }
            window.answered(ms(now), 8, 0);
            now += 2;
        }
        assert_eq!((lingered, window.size()), (3, 8));
        // It was a coincidence, or the broker's limit was raised.
        window.message(ms(now), 9);
        assert_eq!(window.size(), 20);
    }

    #[test]
    fn a_slow_trickle_teaches_nothing() {
        let mut window = Window::new(20);
        for i in 0..100 {
            window.message(ms(i * 5000), 1);
            window.answered(ms(i * 5000 + 1000), 1, 0);
        }
        assert_eq!(window.size(), 20);
    }
}
